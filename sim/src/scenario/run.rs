//! A scenario at work: its hosts in a [`World`], its faults at their times, and what came of it all.

use super::accounts::{self, Pair, Stream};
use super::app::{Ahead, ClientPart, Desk, Names, Ongoing, Order, ServerPart, SimClient, SimServer};
use super::journal::{Entry, Journal, What};
use super::judge::{self, Verdict};
use super::{
    Action, ClientIndex, ClockJump, Host, LinkOf, NatIndex, Network, PacketFate, PolicyOf, Scenario, ServerDoors,
    Tried, Ways, written,
};
use crate::model::{channels, exact, latency, membership, presence};
use crate::{Addresses, Counters, Families, Link, MAIN_PORT, Mishap, Net, Node, Observer, Place, Stuck, Way, World};
use posse_core::config::{ClientConfig, ConfigError, Doors, Rate, ServerConfig};
use posse_core::server::Server;
use posse_core::{Duration, Instant, secure};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Any key and any application will do where nobody else listens.
const SERVER_KEY: [u8; 32] = *b"the key of every simulated desk.";
const APP: u64 = 0x706f_7373_6500_0001;
/// The other port of a server that has two.
const DOOR_PORT: u16 = MAIN_PORT + 1;

/// A scenario at work.
pub struct Run {
    scenario: Scenario,
    seed: u64,
    world: World,
    server: Node<SimServer>,
    clients: Vec<Node<SimClient>>,
    /// What the next machine of the server, and of each client, has to do.
    server_part: Part<ServerPart>,
    client_parts: Vec<Part<ClientPart>>,
    nets: Vec<Net>,
    /// The server's and the clients'.
    clocks: Vec<Ahead>,
    /// What is to go wrong, the next last.
    faults: Vec<(Instant, Fault)>,
    network: Vec<Entry>,
    stuck: Option<Stuck>,
}

/// Handed to a host's next machine when it starts.
type Part<P> = Rc<RefCell<Option<P>>>;

/// Something that happens to the network or its hosts.
#[derive(Clone, Copy)]
enum Fault {
    Cut(LinkOf, Ways, bool),
    BlockUdp(LinkOf, bool),
    CutDirect(ClientIndex, ClientIndex, bool, bool),
    Reboot(NatIndex, bool),
    Pause(Host, bool),
    ClockJump(Host, ClockJump),
    Restart(Host),
    SetLink(LinkOf, Link),
    Move(ClientIndex, Network, Link),
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
    /// Messages that nobody could send, since their receiver never was there, in words.
    pub unbegun: Vec<String>,
    /// What is against the reference models, in words.
    pub violations: Vec<String>,
    /// Each expectation and what became of it.
    pub verdicts: Vec<Verdict>,
    /// What became of all packets.
    pub packets: Counters,
    /// Bytes of packets that asked for an acknowledgement, and of those sent again, on all main paths of sessions that
    /// were there at the end.
    pub repeated: (u64, u64),
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
        self.broken().is_empty()
    }

    /// What does not hold that must, in words.
    pub fn broken(&self) -> Vec<String> {
        let stuck = self.stuck.iter().map(|stuck| format!("stuck: {stuck}"));
        let verdicts = self.verdicts.iter().filter(|verdict| !verdict.held);
        let verdicts = verdicts.map(|verdict| format!("expected: {}; found: {}", verdict.expected, verdict.found));
        let steps = self.violations.iter().chain(&self.undone).cloned();
        stuck.chain(steps).chain(verdicts).chain(self.unbegun.iter().cloned()).collect()
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
        Self::within(world, scenario, seed)
    }

    /// The same, and what happens to single packets is written down: [`Self::packets`].
    ///
    /// # Errors
    /// As [`run`].
    pub fn watched(scenario: &Scenario, seed: u64) -> Result<Self, ConfigError> {
        let mut world = World::new(seed);
        world.watch_mishaps();
        Self::within(world, scenario, seed)
    }

    fn within(mut world: World, scenario: &Scenario, seed: u64) -> Result<Self, ConfigError> {
        list_packets(scenario, &mut world);
        let names: Names = scenario.clients.iter().map(|client| client.name.clone()).collect();
        let mut nets = Vec::new();
        for spec in &scenario.nats {
            let outside = network(&nets, spec.behind, &world);
            let net = world.nat(outside, spec.nat.clone(), spec.link);
            world.set_name(net, &spec.name);
            nets.push(net);
        }
        let clocks: Vec<Ahead> = (0..=scenario.clients.len()).map(|_| Ahead::default()).collect();
        let clock = |of: usize| clocks.get(of).cloned().unwrap_or_default();
        let desk = Desk::new(Host::Server, ongoing(scenario, Host::Server), clock(0));
        let server_part = part(ServerPart { orders: server_orders(scenario), waiting: Vec::new(), desk });
        let server = server_host(&mut world, scenario, names.clone(), Rc::clone(&server_part))?;
        let address = world.addr(server);
        let by_ipv6 = world.ipv6(server).map(|ip| SocketAddr::new(ip.into(), MAIN_PORT));
        let (mut clients, mut client_parts) = (Vec::new(), Vec::new());
        for (i, spec) in scenario.clients.iter().enumerate() {
            let me = ClientIndex(i);
            let desk = Desk::new(Host::Client(me), ongoing(scenario, Host::Client(me)), clock(i + 1));
            let start = Instant::ZERO + spec.start;
            let its = part(ClientPart { me, start, desk, logouts: logouts(scenario, me) });
            client_parts.push(Rc::clone(&its));
            let (names, token) = (names.clone(), spec.name.clone().into_bytes());
            let (policy, places, retain) = (spec.policy, spec.direct_peers, spec.retain);
            let families = if scenario.ipv6 { spec.addresses } else { Families::V4 };
            let address = if families.has_v4() { address } else { by_ipv6.unwrap_or(address) };
            let net = network(&nets, spec.on, &world);
            let node = world.host_with(net, spec.link, families, false, move |_, _, seed| {
                let config = ClientConfig::new(address, secure::public_key(&SERVER_KEY), APP, seed);
                let mut config = ClientConfig { suites: secure::suites(true), token: token.clone(), policy, ..config };
                config.limits.direct_peers = places.map_or(config.limits.direct_peers, usize::from);
                config.timers.retain_for = retain.unwrap_or(config.timers.retain_for);
                SimClient::new(names.clone(), config, its.take().expect("whoever starts it has put one there"))
            });
            world.set_name(node, &spec.name);
            clients.push(node);
        }
        let faults = faults(scenario);
        let scenario = scenario.clone();
        let network = Vec::new();
        Ok(Self {
            scenario,
            seed,
            world,
            server,
            clients,
            server_part,
            client_parts,
            nets,
            clocks,
            faults,
            network,
            stuck: None,
        })
    }

    /// What happened to single packets on the way, whether by chance or because the scenario says so; nothing unless it is a
    /// run that [is watched](Self::watched).
    pub fn packets(&self) -> Vec<PacketFate> {
        let clients = (0..self.clients.len()).map(|i| LinkOf::Host(Host::Client(ClientIndex(i))));
        let nats = (0..self.nets.len()).map(|i| LinkOf::Nat(NatIndex(i)));
        let links = std::iter::once(LinkOf::Host(Host::Server)).chain(clients).chain(nats);
        let ways = links.flat_map(|link| [(link, Way::Up), (link, Way::Down)]);
        let of = |(link, way): (LinkOf, Way)| {
            let seen = self.world.mishaps(place_of(link), way).iter();
            seen.map(move |&(number, mishap)| PacketFate { link, way, number, mishap }).collect::<Vec<_>>()
        };
        ways.flat_map(of).collect()
    }

    /// What runs.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
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
        self.finish_with(|_| {})
    }

    /// Closes the books after `tamper` had its way with them: to see that what is wrong is found.
    pub fn finish_with(self, tamper: impl FnOnce(&mut [Journal])) -> Outcome {
        let Self { scenario, seed, world, server, clients, network, stuck, .. } = self;
        let mut journals = vec![world.machine(server).journal().clone()];
        journals.extend(clients.iter().map(|node| world.machine(*node).journal().clone()));
        tamper(&mut journals);
        let mut timeline: Vec<_> = journals.iter().flat_map(|journal| journal.entries.clone()).chain(network).collect();
        timeline.sort_by_key(|entry| entry.at);
        let streams = accounts::streams(&journals);
        let mut pairs = accounts::pairs(&journals, &streams);
        for pair in &mut pairs {
            let rtt = |of: ClientIndex, to| clients.get(of.0).and_then(|node| world.machine(*node).direct_rtt(to));
            (pair.from_a.rtt, pair.from_b.rtt) = (rtt(pair.a, pair.b), rtt(pair.b, pair.a));
            let report = |of: ClientIndex, to| clients.get(of.0).and_then(|node| world.machine(*node).report(to));
            (pair.from_a.report, pair.from_b.report) = (report(pair.a, pair.b), report(pair.b, pair.a));
        }
        let groups = || (0..scenario.groups.len()).map(super::GroupIndex);
        let seen = |node: &Node<SimClient>| groups().map(|group| world.machine(*node).others(group)).collect();
        let (undone, unbegun) = undone(&scenario, &world, server, &clients);
        let mut violations = membership::violations(&scenario, &journals);
        violations.extend(channels::violations(&scenario, &journals));
        violations.extend(presence::violations(&scenario, &journals));
        violations.extend(accounts::violations(&scenario, &streams));
        violations.extend(latency::violations(&scenario, &journals, &pairs));
        let counts: Vec<_> = clients.iter().map(|node| world.machine(*node).counts()).collect();
        let served = world.machine(server).server();
        let held = exact::ClientCounts::held(served.memory());
        violations.extend(exact::violations(&scenario, &journals, served.counters(), held, &counts));
        let mut outcome = Outcome {
            seed,
            timeline,
            members: clients.iter().map(seen).collect(),
            undone,
            unbegun,
            violations,
            verdicts: Vec::new(),
            packets: world.counters(),
            repeated: clients.iter().fold(repeated_by_server(served), |(sent, again), node| {
                let (more, more_again) = world.machine(*node).repeated();
                (sent + more, again + more_again)
            }),
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
            Fault::Cut(link, way, cut) => {
                let (place, whose) = self.place(link);
                match (cut, way) {
                    (false, _) => self.world.heal(place),
                    (true, Ways::Both) => self.world.cut(place),
                    (true, Ways::Up) => self.world.cut_up(place),
                    (true, Ways::Down) => self.world.cut_down(place),
                }
                let what = match (cut, way) {
                    (false, _) => "works again",
                    (true, Ways::Both) => "is cut",
                    (true, Ways::Up) => "carries nothing up",
                    (true, Ways::Down) => "carries nothing down",
                };
                format!("{whose}'s link {what}")
            }
            Fault::BlockUdp(link, blocked) => {
                let (place, whose) = self.place(link);
                self.world.block_udp(place, blocked);
                format!("a firewall at {whose} {}", if blocked { "blocks UDP" } else { "lets UDP pass again" })
            }
            Fault::CutDirect(a, b, one_way, cut) => {
                let text = if one_way {
                    format!("{} {} reach {}", name(a), if cut { "cannot" } else { "can again" }, name(b))
                } else {
                    format!("{} and {} {} reach each other", name(a), name(b), if cut { "cannot" } else { "can again" })
                };
                if let (Some(a), Some(b)) = (self.client(a), self.client(b)) {
                    match (cut, one_way) {
                        (true, true) => self.world.block_way(a, b),
                        (true, false) => self.world.block_between(a, b),
                        (false, _) => self.world.unblock_between(a, b),
                    }
                }
                format!("{text} directly")
            }
            Fault::Reboot(NatIndex(i), new_address) => {
                match self.nets.get(i) {
                    Some(&net) if new_address => self.world.reboot_nat_with_new_address(net),
                    Some(&net) => self.world.reboot_nat(net),
                    None => {}
                }
                let name = self.scenario.nats.get(i).map_or("?", |nat| &nat.name);
                let and = if new_address { " and has a new address" } else { "" };
                format!("{name} reboots and forgets its mappings{and}")
            }
            Fault::SetLink(of, link) => {
                let (place, whose) = self.place(of);
                self.world.set_link(place, link);
                format!("{whose}'s link is another")
            }
            Fault::Pause(host, _) | Fault::ClockJump(host, _) | Fault::Restart(host) => {
                let name = self.scenario.host_name(host).to_owned();
                match host {
                    Host::Server => {
                        let part = self.world.machine(self.server).remainder(self.world.now());
                        let fill = |run: &Self| _ = run.server_part.replace(Some(part));
                        self.at_host(self.server, fault, &name, fill)
                    }
                    Host::Client(client) => {
                        let Some(node) = self.client(client) else { return };
                        let part = self.world.machine(node).remainder(self.world.now());
                        let fill = |run: &Self| _ = run.client_parts.get(client.0).map(|its| its.replace(Some(part)));
                        self.at_host(node, fault, &name, fill)
                    }
                }
            }
            Fault::Move(client, to, link) => {
                let Some(node) = self.client(client) else { return };
                let (name, net) = (name(client).to_owned(), network(&self.nets, to, &self.world));
                self.world.move_host(node, net, link);
                format!("{name} is on {} with a new address", self.world.name(net))
            }
        };
        self.network.push(Entry { at: self.world.now(), who: None, what: What::Network(text) });
    }

    /// A fault of the host itself. `fill` provides for its next machine.
    fn at_host<M>(&mut self, node: Node<M>, fault: Fault, name: &str, fill: impl FnOnce(&Self)) -> String {
        match fault {
            Fault::Pause(_, true) => self.world.pause(node),
            Fault::Pause(_, false) => {
                self.world.resume(node);
                return format!("{name} goes on");
            }
            Fault::ClockJump(host, by) => {
                let of = if let Host::Client(ClientIndex(i)) = host { i + 1 } else { 0 };
                if let Some(clock) = self.clocks.get(of) {
                    clock.fetch_add(by.nanos(), Ordering::Relaxed);
                }
                self.world.jump_clock(node, by.nanos());
                return match by {
                    ClockJump::Forward(by) => format!("{name}'s clock jumps ahead by {}", written(by)),
                    ClockJump::Backward(by) => format!("{name}'s clock jumps back by {}", written(by)),
                };
            }
            _ => {
                fill(self);
                self.world.restart(node);
                return format!("{name} crashes and comes back");
            }
        }
        format!("{name} stands still")
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

/// Says to a world, before anybody is there, what is to happen to single packets.
fn list_packets(scenario: &Scenario, world: &mut World) {
    let mut links: BTreeMap<(LinkOf, Way), Vec<(u64, Mishap)>> = BTreeMap::new();
    for PacketFate { link, way, number, mishap } in &scenario.packets {
        links.entry((*link, *way)).or_default().push((*number, *mishap));
    }
    for ((link, way), all) in links {
        world.set_mishaps(place_of(link), way, all);
    }
}

/// A world numbers its places in the order in which they are made: the server is its first host, the internet its first
/// network.
fn place_of(link: LinkOf) -> Place {
    match link {
        LinkOf::Host(Host::Server) => Place::Host(0),
        LinkOf::Host(Host::Client(ClientIndex(i))) => Place::Host(i + 1),
        LinkOf::Nat(NatIndex(i)) => Place::Net(i + 1),
    }
}

fn part<P>(part: P) -> Part<P> {
    Rc::new(RefCell::new(Some(part)))
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
        | Action::SetPolicy { .. }
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
                Action::Cut { link, way, lasts } => {
                    faults.push((at, Fault::Cut(link, way, true)));
                    faults.extend(lasts.map(|lasts| (at + lasts, Fault::Cut(link, way, false))));
                }
                Action::BlockUdp { link, lasts } => {
                    faults.push((at, Fault::BlockUdp(link, true)));
                    faults.extend(lasts.map(|lasts| (at + lasts, Fault::BlockUdp(link, false))));
                }
                Action::CutDirect { pair: (a, b), one_way, lasts } => {
                    faults.push((at, Fault::CutDirect(a, b, one_way, true)));
                    faults.extend(lasts.map(|lasts| (at + lasts, Fault::CutDirect(a, b, one_way, false))));
                }
                Action::Reboot { nat, new_address } => faults.push((at, Fault::Reboot(nat, new_address))),
                Action::Pause { host, lasts } => {
                    faults.push((at, Fault::Pause(host, true)));
                    faults.push((at + lasts, Fault::Pause(host, false)));
                }
                Action::ClockJump { host, by } => faults.push((at, Fault::ClockJump(host, by))),
                Action::Restart { host } => faults.push((at, Fault::Restart(host))),
                Action::SetLink { of, link } => faults.push((at, Fault::SetLink(of, link))),
                Action::Move { client, to, link } => faults.push((at, Fault::Move(client, to, link))),
                _ => {}
            }
        }
    }
    faults.sort_by_key(|(at, _)| *at);
    faults.reverse();
    faults
}

/// Bytes that the server has sent to those who are its clients, and those of them that went again.
fn repeated_by_server(server: &Server) -> (u64, u64) {
    let paths = server.clients().filter_map(|client| server.client_path(client));
    paths.fold((0, 0), |(sent, again), path| (sent + path.bytes_sent, again + path.bytes_repeated))
}

/// Puts the server into the world, at one address or two, with the doors that the scenario gives it.
fn server_host(
    world: &mut World,
    scenario: &Scenario,
    names: Names,
    its: Part<ServerPart>,
) -> Result<Node<SimServer>, ConfigError> {
    Server::new(Instant::ZERO, ServerConfig::new(SERVER_KEY, APP, [0; 32]))?;
    let (doors, techniques, probes) = (scenario.doors, scenario.techniques, scenario.probes);
    let cookies = scenario.cookies;
    let policy = scenario.policy;
    let make = move |now: Instant, at: &Addresses, seed: [u8; 32]| {
        let mut config = ServerConfig { suites: secure::suites(true), ..ServerConfig::new(SERVER_KEY, APP, seed) };
        config.techniques.prediction = matches!(techniques, Tried::Predict | Tried::All);
        config.techniques.birthday = matches!(techniques, Tried::Birthday | Tried::All);
        config.techniques.openers = matches!(techniques, Tried::All);
        config.limits.search.probes = probes;
        if cookies {
            // Two clients that begin within five seconds are too many.
            config.admission.unproven = Rate { per_second: 1, burst: 1 };
        }
        config.policy = policy;
        config.ipv6 = at.ipv6.map(|ip| SocketAddrV6::new(ip, MAIN_PORT, 0, 0));
        let other = |port| at.second.map(|ip| SocketAddr::new(ip.into(), port));
        config.doors = Doors {
            second_port: (doors != ServerDoors::None).then(|| SocketAddr::new(at.main.ip(), DOOR_PORT)),
            second_address: other(MAIN_PORT),
            second_address_port: other(DOOR_PORT),
        };
        let server = Server::new(now, config).expect("the same configuration was just accepted");
        let part = its.take().expect("whoever starts it has put one there");
        SimServer::new(names.clone(), server, part)
    };
    let internet = world.internet();
    let families = if scenario.ipv6 { Families::Both } else { Families::V4 };
    let server = world.host_with(internet, scenario.server, families, doors == ServerDoors::Address, make);
    let [port, address, both] = Doors::SOCKETS;
    if doors != ServerDoors::None {
        world.bind(server, port, DOOR_PORT, false);
    }
    if doors == ServerDoors::Address {
        world.bind(server, address, MAIN_PORT, true);
        world.bind(server, both, DOOR_PORT, true);
    }
    world.listen(server);
    world.set_name(server, scenario.host_name(Host::Server));
    Ok(server)
}

/// What the script says and what never became possible, in words; and, apart from it, what could not be sent since its
/// receiver never was there.
fn undone(
    scenario: &Scenario,
    world: &World,
    server: Node<SimServer>,
    clients: &[Node<SimClient>],
) -> (Vec<String>, Vec<String>) {
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
        Action::SetPolicy { of: PolicyOf::Group(g), .. } => {
            format!("{} never had its policy: it did not exist", group(g))
        }
        Action::SetPolicy { of: PolicyOf::Pair(a, b), .. } => {
            format!("{} and {} never had their policy: they shared no group", client(a), client(b))
        }
        other => format!("{other:?}"),
    };
    let mut undone: Vec<_> = server.undone().map(words).collect();
    let mut unbegun = Vec::new();
    for unsent in clients.iter().flat_map(|node| world.machine(*node).unsent()).chain(server.unsent()) {
        let (from, to) = (scenario.host_name(unsent.sending.from), scenario.target_name(unsent.sending.to));
        let text = format!("{from} did not send {} messages to {to} by the end", unsent.left);
        if unsent.begun { &mut undone } else { &mut unbegun }.push(text);
    }
    (undone, unbegun)
}
