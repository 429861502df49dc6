//! A scenario at work: its hosts in a [`World`], its faults at their times, and what came of it all.

use super::accounts::{self, Pair, Stream};
use super::app::{ClientPart, Names, Ongoing, Order, SimClient, SimServer};
use super::journal::{Entry, What};
use super::judge::{self, Verdict};
use super::{Action, ClientIndex, Host, LinkOf, NatIndex, Network, Scenario};
use crate::{Counters, Net, Node, Observer, Place, Stuck, World};
use posse_core::config::{ClientConfig, ConfigError, ServerConfig};
use posse_core::server::Server;
use posse_core::{Duration, Instant, secure};

/// Any key and any application will do where nobody else listens.
const SERVER_KEY: [u8; 32] = *b"the key of every simulated desk.";
const APP: u64 = 0x706f_7373_6500_0001;

/// A scenario at work.
pub struct Run {
    scenario: Scenario,
    seed: u64,
    world: World,
    server: Node<SimServer>,
    clients: Vec<Node<SimClient>>,
    nets: Vec<Net>,
    /// What is to go wrong, the next last.
    faults: Vec<(Instant, Fault)>,
    network: Vec<Entry>,
    stuck: Option<Stuck>,
}

/// Something that happens to the network.
#[derive(Clone, Copy)]
enum Fault {
    Cut(LinkOf, bool),
    CutDirect(ClientIndex, ClientIndex, bool),
    Reboot(NatIndex),
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The seed that it ran with.
    pub seed: u64,
    /// Everything that anyone wrote down, in order of time.
    pub timeline: Vec<Entry>,
    /// Messages by sender, receiver, scope and channel.
    pub streams: Vec<Stream>,
    /// Pairs that were ever in one group.
    pub pairs: Vec<Pair>,
    /// What each client sees at the end of each group that it is in: other members, by group.
    pub members: Vec<Vec<Option<Vec<ClientIndex>>>>,
    /// What the script says and what never became possible, in words.
    pub undone: Vec<String>,
    /// Each expectation and what became of it.
    pub verdicts: Vec<Verdict>,
    /// What became of all packets.
    pub packets: Counters,
    /// Over every event: two runs are the same exactly if this is.
    pub digest: u128,
    /// When the run ended.
    pub ended: Instant,
    /// Why it ended early.
    pub stuck: Option<Stuck>,
}

impl Outcome {
    /// Whether everything that was expected holds, every step was done, and the run came to its end.
    pub fn held(&self) -> bool {
        self.stuck.is_none() && self.undone.is_empty() && self.verdicts.iter().all(|verdict| verdict.held)
    }
}

/// Runs a scenario from beginning to end.
///
/// # Errors
/// If a client's name makes no token, which [`Scenario::parse`] rules out.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Outcome, ConfigError> {
    let mut run = Run::new(scenario, seed)?;
    run.advance(scenario.duration, |_| false);
    Ok(run.finish())
}

impl Run {
    /// Puts the hosts into a world.
    ///
    /// # Errors
    /// As [`run`].
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self, ConfigError> {
        Self::observed(scenario, seed, Vec::new())
    }

    /// The same, told to `observers` from the very first event.
    ///
    /// # Errors
    /// As [`run`].
    pub fn observed(scenario: &Scenario, seed: u64, observers: Vec<Box<dyn Observer>>) -> Result<Self, ConfigError> {
        let mut world = World::new(seed);
        observers.into_iter().for_each(|observer| world.observe(observer));
        let names: Names = scenario.clients.iter().map(|client| client.name.clone()).collect();
        let mut nets = Vec::new();
        for spec in &scenario.nats {
            let outside = network(&nets, spec.behind, &world);
            let net = world.nat(outside, spec.nat.clone(), spec.link);
            world.set_name(net, &spec.name);
            nets.push(net);
        }
        let (orders, ongoing) = (server_orders(scenario), ongoing(scenario, Host::Server));
        let mut part = Some((orders, ongoing));
        let server_names = names.clone();
        Server::new(Instant::ZERO, ServerConfig::new(SERVER_KEY, APP, [0; 32]))?;
        let server = world.host(world.internet(), scenario.server, move |now, _, seed| {
            let config = ServerConfig { suites: secure::suites(true), ..ServerConfig::new(SERVER_KEY, APP, seed) };
            let server = Server::new(now, config).expect("the same configuration was just accepted");
            let (orders, ongoing) = part.take().unwrap_or_default();
            SimServer::new(server_names.clone(), server, orders, ongoing)
        });
        world.set_name(server, scenario.host_name(Host::Server));
        let address = world.addr(server);
        let mut clients = Vec::new();
        for (i, spec) in scenario.clients.iter().enumerate() {
            let me = ClientIndex(i);
            let mut part = Some((ongoing_of_client(scenario, me), logouts(scenario, me)));
            let (names, token, start) = (names.clone(), spec.name.clone().into_bytes(), Instant::ZERO + spec.start);
            let node = world.host(network(&nets, spec.on, &world), spec.link, move |_, _, seed| {
                let config = ClientConfig::new(address, secure::public_key(&SERVER_KEY), APP, seed);
                let config = ClientConfig { suites: secure::suites(true), token: token.clone(), ..config };
                let (ongoing, logouts) = part.take().unwrap_or_default();
                SimClient::new(names.clone(), config, ClientPart { me, start, ongoing, logouts })
            });
            world.set_name(node, &spec.name);
            clients.push(node);
        }
        let faults = faults(scenario);
        let scenario = scenario.clone();
        Ok(Self { scenario, seed, world, server, clients, nets, faults, network: Vec::new(), stuck: None })
    }

    /// The world, to look at it.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The server's host.
    pub fn server(&self) -> Node<SimServer> {
        self.server
    }

    /// A client's host.
    pub fn client(&self, client: ClientIndex) -> Option<Node<SimClient>> {
        self.clients.get(client.0).copied()
    }

    /// Runs until `done`, at most until `end` counted from the start. Faults happen at their times.
    pub fn advance(&mut self, end: Duration, mut done: impl FnMut(&World) -> bool) {
        let end = Instant::ZERO + end;
        while self.stuck.is_none() && !done(&self.world) {
            let fault = self.faults.last().map(|(at, _)| *at).filter(|at| *at <= end);
            let stop = fault.unwrap_or(end);
            match self.world.run_until(stop.since(self.world.now()), |world| done(world)) {
                Ok(_) => return,
                Err(Stuck::Limit { .. }) => {}
                Err(Stuck::Idle { .. }) => {
                    // Nothing happens by itself any more, but the clock goes on to the next fault.
                    if let Err(stuck) = self.world.run_for(stop.since(self.world.now())) {
                        self.stuck = Some(stuck);
                    }
                }
                Err(stuck) => self.stuck = Some(stuck),
            }
            match fault.and_then(|_| self.faults.pop()) {
                Some((_, fault)) => self.fault(fault),
                None => return,
            }
        }
    }

    /// Closes the books.
    pub fn finish(self) -> Outcome {
        let Self { scenario, seed, world, server, clients, network, stuck, .. } = self;
        let mut journals = vec![world.machine(server).journal().clone()];
        journals.extend(clients.iter().map(|node| world.machine(*node).journal().clone()));
        let mut timeline: Vec<_> = journals.iter().flat_map(|journal| journal.entries.clone()).chain(network).collect();
        timeline.sort_by_key(|entry| entry.at);
        let streams = accounts::streams(&journals);
        let mut pairs = accounts::pairs(&journals, &streams);
        for pair in &mut pairs {
            let rtt = |of: ClientIndex, to| clients.get(of.0).and_then(|node| world.machine(*node).direct_rtt(to));
            (pair.from_a.rtt, pair.from_b.rtt) = (rtt(pair.a, pair.b), rtt(pair.b, pair.a));
        }
        let groups = || (0..scenario.groups.len()).map(super::GroupIndex);
        let seen = |node: &Node<SimClient>| groups().map(|group| world.machine(*node).others(group)).collect();
        let mut outcome = Outcome {
            seed,
            timeline,
            members: clients.iter().map(seen).collect(),
            undone: undone(&scenario, &world, server, &clients),
            verdicts: Vec::new(),
            packets: world.counters(),
            digest: world.digest(),
            ended: world.now(),
            streams,
            pairs,
            stuck,
        };
        outcome.verdicts = judge::verdicts(&scenario, &outcome);
        outcome
    }

    fn fault(&mut self, fault: Fault) {
        let name = |client: ClientIndex| self.scenario.host_name(Host::Client(client));
        let text = match fault {
            Fault::Cut(link, cut) => {
                let (place, whose) = self.place(link);
                if cut {
                    self.world.cut(place)
                } else {
                    self.world.heal(place)
                }
                format!("{whose}'s link {}", if cut { "is cut" } else { "works again" })
            }
            Fault::CutDirect(a, b, cut) => {
                let text = format!("{} and {} {}", name(a), name(b), if cut { "cannot" } else { "can again" });
                if let (Some(a), Some(b)) = (self.client(a), self.client(b)) {
                    if cut { self.world.block_between(a, b) } else { self.world.unblock_between(a, b) }
                }
                format!("{text} reach each other directly")
            }
            Fault::Reboot(NatIndex(i)) => {
                if let Some(net) = self.nets.get(i) {
                    self.world.reboot_nat(*net);
                }
                let name = self.scenario.nats.get(i).map_or("?", |nat| &nat.name);
                format!("{name} reboots and forgets its mappings")
            }
        };
        self.network.push(Entry { at: self.world.now(), who: None, what: What::Network(text) });
    }

    fn place(&self, link: LinkOf) -> (Place, String) {
        match link {
            LinkOf::Host(Host::Server) => (self.server.into(), self.scenario.host_name(Host::Server).to_owned()),
            LinkOf::Host(Host::Client(client)) => {
                let place = self.client(client).map_or(self.server.into(), Place::from);
                (place, self.scenario.host_name(Host::Client(client)).to_owned())
            }
            LinkOf::Nat(NatIndex(i)) => {
                let place = self.nets.get(i).map_or(self.server.into(), |net| Place::from(*net));
                (place, self.scenario.nats.get(i).map_or("?", |nat| &nat.name).to_owned())
            }
        }
    }
}

fn network(nets: &[Net], network: Network, world: &World) -> Net {
    match network {
        Network::Internet => world.internet(),
        Network::Behind(NatIndex(i)) => nets.get(i).copied().unwrap_or(world.internet()),
    }
}

/// The moments of a step.
fn times(step: &super::Step) -> impl Iterator<Item = Instant> {
    let (at, every) = (Instant::ZERO + step.at, step.every);
    (0..step.times).map(move |n| at + every.saturating_mul(n))
}

fn server_orders(scenario: &Scenario) -> Vec<Order> {
    let mut orders = Vec::new();
    for step in &scenario.steps {
        let (Action::CreateGroup { .. }
        | Action::Join { .. }
        | Action::Leave { .. }
        | Action::DestroyGroup { .. }
        | Action::Disconnect { .. }) = step.action
        else {
            continue;
        };
        orders.extend(times(step).map(|at| Order { at, action: step.action.clone() }));
    }
    orders
}

fn ongoing(scenario: &Scenario, from: Host) -> Vec<Ongoing> {
    let mine = |step: &super::Step| match &step.action {
        Action::Send(sending) if sending.from == from => {
            Some(Ongoing::new(sending.clone(), Instant::ZERO + step.at, step.every, step.times))
        }
        _ => None,
    };
    scenario.steps.iter().filter_map(mine).collect()
}

fn ongoing_of_client(scenario: &Scenario, client: ClientIndex) -> Vec<Ongoing> {
    ongoing(scenario, Host::Client(client))
}

fn logouts(scenario: &Scenario, me: ClientIndex) -> Vec<Instant> {
    let mine = scenario.steps.iter().filter(|step| step.action == Action::Logout { client: me });
    mine.flat_map(times).collect()
}

/// The next last; of two at one time the one that stands first in the file.
fn faults(scenario: &Scenario) -> Vec<(Instant, Fault)> {
    let mut faults = Vec::new();
    for step in &scenario.steps {
        for at in times(step) {
            match step.action {
                Action::Cut { link, lasts } => {
                    faults.push((at, Fault::Cut(link, true)));
                    faults.extend(lasts.map(|lasts| (at + lasts, Fault::Cut(link, false))));
                }
                Action::CutDirect { pair: (a, b), lasts } => {
                    faults.push((at, Fault::CutDirect(a, b, true)));
                    faults.extend(lasts.map(|lasts| (at + lasts, Fault::CutDirect(a, b, false))));
                }
                Action::Reboot { nat } => faults.push((at, Fault::Reboot(nat))),
                _ => {}
            }
        }
    }
    faults.sort_by_key(|(at, _)| *at);
    faults.reverse();
    faults
}

/// What the script says and what never became possible, in words.
fn undone(scenario: &Scenario, world: &World, server: Node<SimServer>, clients: &[Node<SimClient>]) -> Vec<String> {
    let client = |client: &ClientIndex| scenario.host_name(Host::Client(*client));
    let group = |group: &super::GroupIndex| scenario.target_name(super::Target::Group(*group));
    let server = world.machine(server);
    let words = |action: &Action| match action {
        Action::CreateGroup { group: g, .. } => {
            format!("{} was never created: not all its members came online", group(g))
        }
        Action::Join { group: g, client: c, .. } => format!("{} never joined {}", client(c), group(g)),
        Action::Leave { group: g, client: c } => format!("{} never left {}: it was no member", client(c), group(g)),
        Action::DestroyGroup { group: g } => format!("{} was never destroyed: it did not exist", group(g)),
        Action::Disconnect { client: c } => format!("{} was never disconnected: it was not online", client(c)),
        other => format!("{other:?}"),
    };
    let unsent = clients.iter().flat_map(|node| world.machine(*node).unsent()).chain(server.unsent());
    let unsent = unsent.map(|(sending, left)| {
        let (from, to) = (scenario.host_name(sending.from), scenario.target_name(sending.to));
        format!("{from} did not send {left} messages to {to} by the end")
    });
    server.undone().map(words).chain(unsent).collect()
}
