//! Scenarios drawn at random, one a seed, in the manner of swarm testing: each seed first draws which features take part at
//! all and how heavily, so that runs differ in kind and not only in detail (Groce et al., "Swarm Testing", 2012).
//!
//! A scenario has two phases. In the first anything goes: lossy, slow, reordering links behind any NATs, groups that come
//! and go, traffic, links and direct paths that break, addresses that change, hosts that stand still, crash and lose their
//! sense of time. No reliable message may be lost, repeated, reordered, damaged or out of place, whatever happens. Then every fault is over,
//! and in the time that [`time_needed`] gives all must be well: what was sent has arrived, every join is completed,
//! everyone sees the same members, and pairs that the oracle calls reachable are direct. Some then go quiet for minutes and
//! speak again.
//!
//! One run in three is *calm*: its links delay and do nothing else. There, what takes no luck can be judged to the
//! millisecond (`model/latency.rs`, `model/exact.rs`), so these keep to one kind of fault, or none.

mod apart;

use super::expect::{expectations_for, time_needed};
use super::{
    Action, ClientIndex, ClientSpec, ClockJump, GroupIndex, Host, LinkOf, NatIndex, NatSpec, Network, Scenario,
    Sending, ServerDoors, Step, Target, Tried, Ways,
};
use crate::dice::{self, Label};
use crate::{Allocation, Bursts, Chance, Families, Filtering, Link, Mapping, Nat};
use posse_core::{Channel, Class, Duration, PathPolicy, Reliability, SendOptions};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;
use std::collections::BTreeSet;

/// Faults and changes of membership begin, and the last message is sent, before then.
const BUSY_MS: u64 = 10_000;
/// The longest fault. A session that hears nothing for so long goes on.
const FAULT_MS: u64 = 3_000;
/// The longest unreliable message, bytes.
const UNRELIABLE_MAX: u64 = 16_384;
/// By then all clients are surely logged in, unless a fault hit them.
const SETTLED_MS: u64 = 1_500;
/// The longest quiet: longer than NATs keep a mapping, and than a session lives without a word.
const QUIET_MS: u64 = 130_000;

impl Scenario {
    /// The scenario that follows from `seed`. The same one in every version that draws the same way.
    pub fn random(seed: u64) -> Self {
        let mut draw = Draw(dice::stream(seed, Label::Swarm, 0));
        let weights = Weights::draw(&mut draw);
        let mut scenario = Self {
            title: format!("swarm seed {seed}"),
            seed,
            duration: Duration::ZERO,
            nats: Vec::new(),
            server: draw.link(&weights),
            doors: ServerDoors::None,
            techniques: Tried::All,
            probes: Self::PROBES,
            cookies: false,
            policy: PathPolicy::default(),
            ipv6: false,
            clients: Vec::new(),
            groups: Vec::new(),
            steps: Vec::new(),
            packets: Vec::new(),
            expectations: Vec::new(),
        };
        draw.topology(&weights, &mut scenario);
        let gone = draw.gone(&weights, &mut scenario);
        draw.groups(&weights, gone, &mut scenario);
        draw.traffic(&weights, gone, &mut scenario);
        draw.faults(&weights, &mut scenario);
        draw.late(&weights, gone, &mut scenario);
        draw.new_server(&weights, gone, &mut scenario);
        apart::searches(seed, &mut scenario);
        scenario.cookies = Draw(dice::stream(seed, Label::Swarm, 2)).one_in(3);
        apart::policies(seed, &mut scenario);
        apart::outage(seed, &mut scenario);
        apart::firewalls(seed, &mut scenario);
        apart::retained(seed, &mut scenario);
        apart::ipv6(seed, &mut scenario);
        scenario.duration = time_needed(&scenario).unwrap_or_default();
        scenario.expectations = expectations_for(&scenario);
        scenario
    }
}

/// Which features take part: each is out of half of all runs, and otherwise weighs from 1 to 3.
#[derive(Default)]
struct Weights {
    loss: u64,
    bursts: u64,
    jitter: u64,
    reordering: u64,
    duplication: u64,
    corruption: u64,
    slow_links: u64,
    nesting: u64,
    sharing: u64,
    hairpin: u64,
    preserving: u64,
    churn: u64,
    rapid_stays: u64,
    endings: u64,
    goodbyes: u64,
    client_restarts: u64,
    server_restarts: u64,
    cuts: u64,
    direct_cuts: u64,
    pauses: u64,
    clock_jumps: u64,
    changes: u64,
    reboots: u64,
    moves: u64,
    large: u64,
    bulk: u64,
    rapid: u64,
    /// Instead of all other traffic: small messages at a slow and steady rate.
    steady: bool,
    unreliable: u64,
    kinds: u64,
    classes: u64,
    keys: u64,
    deadlines: u64,
    to_server: u64,
    to_one: u64,
    quiet: u64,
}

impl Weights {
    fn draw(draw: &mut Draw) -> Self {
        let calm = draw.one_in(3).then(|| draw.below(4));
        let mut weight = || if draw.one_in(2) { 0 } else { 1 + draw.below(3) };
        let mut all = Self {
            loss: weight(),
            bursts: weight(),
            jitter: weight(),
            reordering: weight(),
            duplication: weight(),
            corruption: weight(),
            slow_links: weight(),
            nesting: weight(),
            sharing: weight(),
            hairpin: weight(),
            preserving: weight(),
            churn: weight(),
            rapid_stays: weight(),
            endings: weight(),
            goodbyes: weight(),
            client_restarts: weight(),
            server_restarts: weight(),
            cuts: weight(),
            direct_cuts: weight(),
            pauses: weight(),
            clock_jumps: weight(),
            changes: weight(),
            reboots: weight(),
            moves: weight(),
            large: weight(),
            bulk: weight(),
            rapid: weight(),
            steady: false,
            unreliable: weight(),
            kinds: weight(),
            classes: weight(),
            keys: weight(),
            deadlines: weight(),
            to_server: weight(),
            to_one: weight(),
            quiet: weight(),
        };
        if let Some(kind) = calm {
            all = Self { loss: 0, bursts: 0, jitter: 0, reordering: 0, duplication: 0, corruption: 0, ..all };
            all = Self { slow_links: 0, ..all };
            // One kind of fault: any as drawn, none, direct cuts, or a single cut.
            if kind > 0 {
                all = Self { client_restarts: 0, server_restarts: 0, pauses: 0, clock_jumps: 0, changes: 0, ..all };
                all = Self { reboots: 0, moves: 0, classes: 0, ..all };
                all = Self { steady: !all.bulk.is_multiple_of(2), cuts: 0, direct_cuts: 0, ..all };
            }
            match kind {
                2 => all = Self { direct_cuts: 2, steady: true, ..all },
                3 => all = Self { cuts: 1, steady: true, ..all },
                _ => {}
            }
        }
        if all.steady {
            all = Self { bulk: 0, ..all };
        }
        if all.bursts > 0 {
            all = Self { client_restarts: 0, server_restarts: 0, ..all };
        }
        // One such fault leaves a login its time; several in a row may not, and then an application would log in again.
        if all.client_restarts > 0 {
            let cuts = all.cuts.min(1);
            all = Self { cuts, pauses: all.pauses.min(1 - cuts), ..all };
        }
        all
    }

    fn is_lossless(&self) -> bool {
        self.loss == 0 && self.bursts == 0
    }

    /// Whether links lose so little that bulk gets through in time.
    fn is_good(&self) -> bool {
        self.loss < 2 && [self.bursts, self.reordering, self.corruption].iter().all(|weight| *weight == 0)
    }
}

/// Who goes away, when in ms, and whether it comes back.
#[derive(Clone, Copy)]
struct Gone {
    client: ClientIndex,
    at: u64,
    back: bool,
}

struct Draw(ChaCha8Rng);

impl Draw {
    fn topology(&mut self, weights: &Weights, scenario: &mut Scenario) {
        for index in 0..self.from(2, 5) as usize {
            let shared = !scenario.nats.is_empty() && self.happens(weights.sharing, 6);
            let on = if shared {
                Network::Behind(self.any_nat(scenario))
            } else if self.one_in(6) {
                Network::Internet
            } else {
                let nat = self.nat(weights, scenario);
                scenario.nats.push(nat);
                Network::Behind(NatIndex(scenario.nats.len() - 1))
            };
            let link = if on == Network::Internet || self.one_in(4) { self.link(weights) } else { Link::millis(1) };
            let start = Duration::from_millis(self.below(500));
            scenario.clients.push(ClientSpec {
                name: format!("client{index}"),
                on,
                link,
                addresses: Families::Both,
                start,
                policy: PathPolicy::default(),
                direct_peers: None,
                retain: None,
            });
        }
    }

    fn nat(&mut self, weights: &Weights, scenario: &Scenario) -> NatSpec {
        let mut nat = Nat::new(self.pick(&Mapping::ALL), self.pick(&Filtering::ALL));
        if self.happens(weights.preserving, 4) {
            nat.allocation = Allocation::Preserving;
        }
        nat.hairpin = self.happens(weights.hairpin, 4);
        nat.inbound_refresh = self.one_in(2);
        let nested = !scenario.nats.is_empty() && self.happens(weights.nesting, 6);
        let behind = if nested { Network::Behind(self.any_nat(scenario)) } else { Network::Internet };
        NatSpec { name: format!("nat{}", scenario.nats.len()), behind, nat, link: self.link(weights) }
    }

    fn link(&mut self, weights: &Weights) -> Link {
        let mut link = Link::millis(self.from(1, 50));
        if self.happens(weights.loss, 4) {
            link = link.loss(Chance::ppm(self.below(20_000 * weights.loss) as u32));
        }
        if self.happens(weights.jitter, 4) {
            link = link.jitter(Duration::from_micros(self.below(10_000 * weights.jitter)));
        }
        if self.happens(weights.reordering, 4) {
            let late = Duration::from_millis(self.from(1, 30));
            link = link.reorder(Chance::percent(self.below(5 * weights.reordering) as u32), late);
        }
        if self.happens(weights.duplication, 4) {
            link = link.duplicate(Chance::percent(self.below(5 * weights.duplication) as u32));
        }
        if self.happens(weights.corruption, 4) {
            link = link.corrupt(Chance::ppm(self.below(5_000 * weights.corruption) as u32));
        }
        if self.happens(weights.slow_links, 8) {
            link = link.rate(self.from(3, 50) * 1_000_000, 128 * 1024);
            if self.one_in(2) {
                link = link.mark_from(self.below(64 * 1024) as usize);
            }
        }
        if self.one_in(8) {
            link = link.clears_ecn();
        }
        if self.one_in(8) { link.mtu(self.from(1_280, 1_500) as usize) } else { link }
    }

    /// At most one client goes away by itself: it logs out, is logged out, or crashes and comes back.
    fn gone(&mut self, weights: &Weights, scenario: &mut Scenario) -> Option<Gone> {
        let client = self.any_client(scenario);
        if self.happens(weights.client_restarts, 6) {
            let at = self.from(SETTLED_MS + 500, BUSY_MS);
            scenario.steps.push(once(at, Action::Restart { host: Host::Client(client) }));
            return Some(Gone { client, at, back: true });
        }
        if self.happens(weights.goodbyes, 4) {
            let at = self.from(BUSY_MS - 2_000, BUSY_MS);
            let logout = self.one_in(2);
            let action = if logout { Action::Logout { client } } else { Action::Disconnect { client } };
            scenario.steps.push(once(at, action));
            return Some(Gone { client, at, back: false });
        }
        None
    }

    fn groups(&mut self, weights: &Weights, gone: Option<Gone>, scenario: &mut Scenario) {
        for index in 0..self.from(1, 3) as usize {
            scenario.groups.push(format!("group{index}"));
            let mut inside: BTreeSet<_> = (0..scenario.clients.len()).map(ClientIndex).collect();
            while inside.len() > 2 && self.one_in(3) {
                inside.remove(&self.any_client(scenario));
            }
            let (group, message) = (GroupIndex(index), String::new());
            let at = self.below(1_000);
            let first = inside.iter().copied().collect();
            scenario.steps.push(once(at, Action::CreateGroup { group, members: first, message }));
            self.churn(weights, gone, group, &mut inside, scenario);
            let ends = self.happens(weights.endings, 8);
            if ends {
                scenario.steps.push(once(BUSY_MS, Action::DestroyGroup { group }));
            } else if let Some(Gone { client, at, back: true }) = gone
                && inside.iter().any(|other| *other != client)
                && self.one_in(2)
            {
                // As soon as it is back, or when its former session is over, too.
                let at = at + if self.one_in(2) { self.from(100, 4_000) } else { self.from(86_000, 90_000) };
                scenario.steps.push(once(at, Action::Join { group, client, message: String::new() }));
            }
        }
    }

    /// Joins and leaves, in order of time, so that each is possible.
    fn churn(
        &mut self,
        weights: &Weights,
        gone: Option<Gone>,
        group: GroupIndex,
        inside: &mut BTreeSet<ClientIndex>,
        scenario: &mut Scenario,
    ) {
        let mut at = SETTLED_MS;
        // Who comes back is another, and whether it is asked before or after cannot be told within half a second.
        let last = gone.map_or(BUSY_MS - 500, |gone| if gone.back { gone.at - 500 } else { gone.at });
        for _ in 0..self.below(4 * weights.churn + 1) {
            // Most follow each other soon: what is under way then is what is hard.
            at += if self.one_in(3) { self.from(1, 50) } else { self.from(50, 2_000) };
            let client = self.any_client(scenario);
            let again = if self.happens(weights.rapid_stays, 4) { self.from(1, 6) } else { 0 };
            for n in 0..=again {
                at += if n == 0 { 0 } else { self.below(120) };
                if at >= last {
                    return;
                }
                let stay = inside.iter().filter(|c| gone.is_none_or(|gone| **c != gone.client)).count();
                let message = String::new();
                let action = match inside.contains(&client) {
                    // The last member's leave would end the group.
                    true if stay < 2 => break,
                    true => {
                        inside.remove(&client);
                        Action::Leave { group, client }
                    }
                    false => {
                        inside.insert(client);
                        Action::Join { group, client, message }
                    }
                };
                scenario.steps.push(once(at, action));
            }
        }
    }

    fn traffic(&mut self, weights: &Weights, gone: Option<Gone>, scenario: &mut Scenario) {
        for to in self.targets(weights, gone, scenario) {
            for from in (0..scenario.clients.len()).map(|i| Host::Client(ClientIndex(i))) {
                if to != Target::Host(from) && !self.one_in(3) {
                    let step = self.sends(weights, from, to);
                    scenario.steps.push(step);
                }
            }
        }
        let one = self.any_client(scenario);
        if weights.to_server > 0 && gone.is_none_or(|gone| !gone.back || gone.client != one) {
            let to = Target::Host(Host::Client(one));
            let step = self.sends(weights, Host::Server, to);
            scenario.steps.push(step);
        }
        if weights.is_good() && self.happens(weights.bulk, 3) {
            let from = Host::Client(self.any_client(scenario));
            let to = Target::Group(GroupIndex(self.below(scenario.groups.len() as u64) as usize));
            let (at, size) = (self.from(500, 4_000), self.from(1_000, 12_000));
            // Several times the credit of 256 KiB; less where losses hold it up.
            let all = if weights.is_lossless() { self.from(400_000, 1_200_000) } else { self.from(100_000, 200_000) };
            let times = (all / size) as u32;
            let channel = Channel::reliable(self.below(3) as u8);
            let options = SendOptions::default();
            let action = Action::Send(Sending { from, to, channel, size: size as usize, options });
            // From what a link can hardly carry to what it can: credit, too, is then used up.
            let every = Duration::from_micros(size * self.below(5));
            scenario.steps.push(Step { at: Duration::from_millis(at), every, times, action });
        }
    }

    /// All groups, one client, and the server.
    fn targets(&mut self, weights: &Weights, gone: Option<Gone>, scenario: &Scenario) -> Vec<Target> {
        let mut targets: Vec<_> = (0..scenario.groups.len()).map(|group| Target::Group(GroupIndex(group))).collect();
        let one = self.any_client(scenario);
        // A client that comes back is another, though its name is the same: books by name would take both for one.
        if weights.to_one > 0 && gone.is_none_or(|gone| !gone.back || gone.client != one) {
            targets.push(Target::Host(Host::Client(one)));
        }
        if weights.to_server > 0 {
            targets.push(Target::Host(Host::Server));
        }
        targets
    }

    fn sends(&mut self, weights: &Weights, from: Host, to: Target) -> Step {
        let number = self.below(3) as u8;
        let unreliable = self.happens(weights.unreliable, 4);
        let other = self.happens(weights.kinds, 4);
        let kind = match (unreliable, other) {
            (false, false) => Reliability::ReliableOrdered,
            (false, true) => Reliability::ReliableUnordered,
            (true, false) => Reliability::Unreliable,
            (true, true) => Reliability::UnreliableSequenced,
        };
        let options = self.options(weights, unreliable);
        let at = self.below(BUSY_MS / 2);
        let every = match weights.steady {
            true => self.from(200, 800),
            false if self.happens(weights.rapid, 4) => self.from(5, 40),
            false => self.from(40, 500),
        };
        // Large messages are few: a narrow link has to be able to carry them in time, and so has CUBIC, whose share at a
        // loss of one in twenty and a round trip of half a second is some 5 kB/s.
        let (size, times) = match !weights.steady && self.happens(weights.large, 6) {
            true if self.one_in(2) && weights.is_lossless() => (self.from(2_000, 60_000), self.from(1, 4)),
            true if self.one_in(2) => (self.from(2_000, 30_000), self.from(1, 2)),
            true => (self.from(200, 2_000), self.from(1, 30)),
            false => (self.from(Sending::MIN_SIZE as u64, 120), self.from(1, 80)),
        };
        let size = if unreliable { size.min(UNRELIABLE_MAX) } else { size };
        let times = times.min((BUSY_MS - at) / every).max(1) as u32;
        let action =
            Action::Send(Sending { from, to, channel: Channel::of(kind, number), size: size as usize, options });
        Step { at: Duration::from_millis(at), every: Duration::from_millis(every), times, action }
    }

    fn options(&mut self, weights: &Weights, unreliable: bool) -> SendOptions {
        let mut options = SendOptions::default();
        if self.happens(weights.classes, 4) {
            options.class = if self.one_in(2) { Class::Urgent } else { Class::Bulk };
        }
        if self.happens(weights.keys, 6) {
            options.replaces = Some(self.below(2) as u32);
        }
        if unreliable && self.happens(weights.deadlines, 4) {
            options.deadline = Some(Duration::from_millis(self.below(300)));
        }
        options
    }

    fn faults(&mut self, weights: &Weights, scenario: &mut Scenario) {
        for _ in 0..weights.cuts {
            let link = self.any_link(scenario);
            let way = self.pick(&[Ways::Both, Ways::Up, Ways::Down]);
            let way = if self.one_in(2) { Ways::Both } else { way };
            let step = self.fault(|lasts| Action::Cut { link, way, lasts: Some(lasts) });
            scenario.steps.push(step);
        }
        for _ in 0..2 * weights.direct_cuts {
            let (pair, one_way) = ((self.any_client(scenario), self.any_client(scenario)), self.one_in(4));
            if pair.0 != pair.1 {
                let step = self.fault(|lasts| Action::CutDirect { pair, one_way, lasts: Some(lasts) });
                scenario.steps.push(step);
            }
        }
        for _ in 0..weights.pauses {
            let host = self.any_host(scenario);
            let step = self.fault(|lasts| Action::Pause { host, lasts });
            scenario.steps.push(step);
        }
        for _ in 0..weights.clock_jumps {
            let (host, by) = (self.any_host(scenario), Duration::from_millis(self.from(5, 300)));
            let by = if self.one_in(2) { ClockJump::Forward(by) } else { ClockJump::Backward(by) };
            let at = self.from(SETTLED_MS, BUSY_MS);
            scenario.steps.push(once(at, Action::ClockJump { host, by }));
        }
        for _ in 0..weights.reboots {
            let (nat, new_address, at) = (self.any_nat(scenario), self.one_in(2), self.from(SETTLED_MS, BUSY_MS));
            if !scenario.nats.is_empty() {
                scenario.steps.push(once(at, Action::Reboot { nat, new_address }));
            }
        }
        if self.happens(weights.moves, 3) {
            let (client, link) = (self.any_client(scenario), self.link(weights));
            let home = scenario.nats.is_empty() || self.one_in(3);
            let to = if home { Network::Internet } else { Network::Behind(self.any_nat(scenario)) };
            let at = self.from(SETTLED_MS, BUSY_MS);
            scenario.steps.push(once(at, Action::Move { client, to, link }));
        }
        // Not from the beginning: a burst is of packets, and may swallow each of the few of a login.
        for _ in 0..weights.bursts {
            let bursts = Bursts::mean(self.below(15_000 * weights.bursts) as u32, self.from(2, 8) as u32);
            let link = self.link(weights).bursts(bursts.unwrap_or(Bursts::NEVER));
            let (of, at) = (self.any_link(scenario), self.from(SETTLED_MS, BUSY_MS / 2));
            scenario.steps.push(once(at, Action::SetLink { of, link }));
        }
        for _ in 0..weights.changes {
            let (of, link, at) = (self.any_link(scenario), self.link(weights), self.from(SETTLED_MS, BUSY_MS));
            scenario.steps.push(once(at, Action::SetLink { of, link }));
        }
    }

    fn fault(&mut self, action: impl FnOnce(Duration) -> Action) -> Step {
        let at = self.from(SETTLED_MS, BUSY_MS);
        let lasts = Duration::from_millis(if self.one_in(2) { self.from(20, 400) } else { self.from(400, FAULT_MS) });
        once(at, action(lasts))
    }

    /// All go quiet for long, then some speak again.
    fn late(&mut self, weights: &Weights, gone: Option<Gone>, scenario: &mut Scenario) {
        if !self.happens(weights.quiet, 6) {
            return;
        }
        let quiet = Duration::from_millis(BUSY_MS + FAULT_MS + self.from(15_000, QUIET_MS));
        for to in self.targets(weights, gone, scenario) {
            let from = Host::Client(self.any_client(scenario));
            if to != Target::Host(from) {
                let mut step = self.sends(weights, from, to);
                step.at += quiet;
                step.times = step.times.min(5);
                scenario.steps.push(step);
            }
        }
    }

    /// The server crashes when all is said; the clients may, too, and then all begins anew.
    fn new_server(&mut self, weights: &Weights, gone: Option<Gone>, scenario: &mut Scenario) {
        if gone.is_some() || !self.happens(weights.server_restarts, 12) {
            return;
        }
        let needed = time_needed(scenario).unwrap_or_default();
        let at = (needed.as_millis() as u64).saturating_sub(30_000);
        scenario.steps.push(once(at, Action::Restart { host: Host::Server }));
        if self.one_in(2) {
            return;
        }
        let all: Vec<_> = (0..scenario.clients.len()).map(ClientIndex).collect();
        for &client in &all {
            let at = at + self.from(1, 2_000);
            scenario.steps.push(once(at, Action::Restart { host: Host::Client(client) }));
        }
        let group = GroupIndex(scenario.groups.len());
        scenario.groups.push("again".to_owned());
        scenario.steps.push(once(at + 2_500, Action::CreateGroup { group, members: all, message: String::new() }));
        let mut step = self.sends(weights, Host::Client(ClientIndex(0)), Target::Group(group));
        step.at += Duration::from_millis(at + 3_000);
        scenario.steps.push(step);
    }

    fn any_link(&mut self, scenario: &Scenario) -> LinkOf {
        match self.below(6) {
            0 if !scenario.nats.is_empty() => LinkOf::Nat(self.any_nat(scenario)),
            1 => LinkOf::Host(Host::Server),
            _ => LinkOf::Host(Host::Client(self.any_client(scenario))),
        }
    }

    fn any_host(&mut self, scenario: &Scenario) -> Host {
        if self.one_in(4) { Host::Server } else { Host::Client(self.any_client(scenario)) }
    }

    fn any_client(&mut self, scenario: &Scenario) -> ClientIndex {
        ClientIndex(self.below(scenario.clients.len() as u64) as usize)
    }

    fn any_nat(&mut self, scenario: &Scenario) -> NatIndex {
        NatIndex(self.below(scenario.nats.len().max(1) as u64) as usize)
    }

    /// Whether a feature of that weight takes part here: `weight` in `of` times.
    fn happens(&mut self, weight: u64, of: u64) -> bool {
        weight > 0 && self.below(of) < weight
    }

    fn below(&mut self, n: u64) -> u64 {
        dice::below(self.0.next_u32(), n)
    }

    /// From `low` to `high`, both possible.
    fn from(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy, const N: usize>(&mut self, all: &[T; N]) -> T {
        all[self.below(N as u64) as usize]
    }
}

fn once(at_ms: u64, action: Action) -> Step {
    Step { at: Duration::from_millis(at_ms), every: Duration::ZERO, times: 1, action }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Expect;

    #[test]
    fn a_seed_draws_one_scenario_and_another_seed_another() {
        assert_eq!(Scenario::random(1), Scenario::random(1));
        assert_ne!(Scenario::random(1).steps, Scenario::random(2).steps);
    }

    #[test]
    fn whatever_is_drawn_refers_to_what_exists() {
        for seed in 0..300 {
            let s = Scenario::random(seed);
            assert!(
                s.nats.iter().enumerate().all(|(i, n)| !matches!(n.behind, Network::Behind(NatIndex(j)) if j >= i))
            );
            assert!(s.clients.iter().all(|c| !matches!(c.on, Network::Behind(NatIndex(j)) if j >= s.nats.len())));
            for step in &s.steps {
                match &step.action {
                    Action::CreateGroup { group, members, .. } => {
                        assert!(group.0 < s.groups.len() && members.iter().all(|c| c.0 < s.clients.len()));
                    }
                    Action::Send(sending) => {
                        assert!((Sending::MIN_SIZE..=Sending::MAX_SIZE).contains(&sending.size));
                        assert!(sending.to != Target::Host(sending.from));
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn every_feature_is_in_some_runs_and_out_of_others() {
        type Feature = (&'static str, fn(&Scenario) -> bool);
        let features: [Feature; 22] = [
            ("nested NATs", |s| s.nats.iter().any(|nat| nat.behind != Network::Internet)),
            ("hairpin", |s| s.nats.iter().any(|nat| nat.nat.hairpin)),
            ("preserved ports", |s| s.nats.iter().any(|nat| nat.nat.allocation == Allocation::Preserving)),
            ("logout", |s| s.steps.iter().any(|step| matches!(step.action, Action::Logout { .. }))),
            ("leave", |s| s.steps.iter().any(|step| matches!(step.action, Action::Leave { .. }))),
            ("cut", |s| s.steps.iter().any(|step| matches!(step.action, Action::Cut { .. }))),
            ("direct cut", |s| s.steps.iter().any(|step| matches!(step.action, Action::CutDirect { .. }))),
            ("one way", |s| s.steps.iter().any(|step| matches!(step.action, Action::Cut { way: Ways::Up, .. }))),
            ("firewall", |s| s.steps.iter().any(|step| matches!(step.action, Action::BlockUdp { .. }))),
            ("login by TCP", |s| {
                s.steps.iter().any(|step| step.at.is_zero() && matches!(step.action, Action::BlockUdp { .. }))
            }),
            ("pause", |s| s.steps.iter().any(|step| matches!(step.action, Action::Pause { .. }))),
            ("outage", |s| {
                s.steps
                    .iter()
                    .any(|step| matches!(step.action, Action::Cut { lasts: Some(lasts), .. } if lasts.as_secs() > 10))
            }),
            ("suspended", |s| {
                s.steps.iter().any(|step| matches!(step.action, Action::Pause { lasts, .. } if lasts.as_secs() > 10))
            }),
            ("clock jump", |s| s.steps.iter().any(|step| matches!(step.action, Action::ClockJump { .. }))),
            ("another link", |s| s.steps.iter().any(|step| matches!(step.action, Action::SetLink { .. }))),
            ("restart", |s| s.steps.iter().any(|step| matches!(step.action, Action::Restart { .. }))),
            ("reboot", |s| s.steps.iter().any(|step| matches!(step.action, Action::Reboot { .. }))),
            ("move", |s| s.steps.iter().any(|step| matches!(step.action, Action::Move { .. }))),
            ("bulk", |s| {
                s.steps.iter().any(
                    |step| matches!(&step.action, Action::Send(x) if x.size as u64 * u64::from(step.times) > 300_000),
                )
            }),
            ("quiet", |s| s.steps.iter().any(|step| step.at > Duration::from_millis(QUIET_MS / 2))),
            ("nothing but delay", |s| {
                s.clients.iter().all(|c| c.link.up.loss == Chance::NEVER && c.link.up.jitter.is_zero())
            }),
            ("direct", |s| s.expectations.iter().any(|e| matches!(e.expect, Expect::Direct { .. }))),
        ];
        let drawn: Vec<_> = (0..100).map(Scenario::random).collect();
        for (name, has) in features {
            let with = drawn.iter().filter(|scenario| has(scenario)).count();
            assert!((3..=95).contains(&with), "{name}: {with} of 100");
        }
    }
}
