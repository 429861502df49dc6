//! Scenarios drawn at random, one a seed, in the manner of swarm testing: each seed first draws which features take part at
//! all and how heavily, so that runs differ in kind and not only in detail (Groce et al., "Swarm Testing", 2012).
//!
//! A scenario has two phases. In the first anything goes: lossy, slow, reordering links behind any NATs, groups that come
//! and go, traffic, links and direct paths that break. No reliable message may be lost, repeated, reordered, damaged or
//! out of place, whatever happens. Then every fault is over, and within [`HEALING`] all must be well: what was sent has
//! arrived, every join is completed, everyone sees the same members, and pairs that the oracle calls reachable are direct.
//!
//! A NAT never restarts here: it would give the way to the server another port, and a session does not move to another
//! address yet.

use super::expect::{HEALING, SESSION_END, expectations_for};
use super::{
    Action, ClientIndex, ClientSpec, GroupIndex, Host, LinkOf, NatIndex, NatSpec, Network, Scenario, Sending, Step,
    Target,
};
use crate::dice::{self, Label};
use crate::{Allocation, Chance, Filtering, Link, Mapping, Nat};
use posse_core::{Channel, Duration};
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

impl Scenario {
    /// The scenario that follows from `seed`. The same one in every version that draws the same way.
    pub fn random(seed: u64) -> Self {
        let mut draw = Draw(dice::stream(seed, Label::Swarm, 0));
        let weights = Weights::draw(&mut draw);
        let mut scenario = Self {
            title: format!("swarm seed {seed}"),
            seed,
            duration: Duration::from_millis(BUSY_MS + FAULT_MS) + HEALING,
            nats: Vec::new(),
            server: draw.link(&weights),
            clients: Vec::new(),
            groups: Vec::new(),
            steps: Vec::new(),
            packets: Vec::new(),
            expectations: Vec::new(),
        };
        draw.topology(&weights, &mut scenario);
        let gone = draw.logout(&weights, &mut scenario);
        if gone.is_some() {
            scenario.duration = Duration::from_millis(BUSY_MS + FAULT_MS) + SESSION_END;
        }
        draw.groups(&weights, gone, &mut scenario);
        draw.traffic(&weights, &mut scenario);
        draw.faults(&weights, &mut scenario);
        scenario.expectations = expectations_for(&scenario);
        scenario
    }
}

/// Which features take part: each is out of half of all runs, and otherwise weighs from 1 to 3.
struct Weights {
    loss: u64,
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
    endings: u64,
    logout: u64,
    cuts: u64,
    direct_cuts: u64,
    large: u64,
    rapid: u64,
    unreliable: u64,
    to_server: u64,
    to_one: u64,
}

impl Weights {
    fn draw(draw: &mut Draw) -> Self {
        let mut weight = || if draw.one_in(2) { 0 } else { 1 + draw.below(3) };
        Self {
            loss: weight(),
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
            endings: weight(),
            logout: weight(),
            cuts: weight(),
            direct_cuts: weight(),
            large: weight(),
            rapid: weight(),
            unreliable: weight(),
            to_server: weight(),
            to_one: weight(),
        }
    }
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
            scenario.clients.push(ClientSpec { name: format!("client{index}"), on, link, start });
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
        }
        link
    }

    /// At most one client logs out by itself: who and when, in ms.
    fn logout(&mut self, weights: &Weights, scenario: &mut Scenario) -> Option<(ClientIndex, u64)> {
        if !self.happens(weights.logout, 4) {
            return None;
        }
        let (client, at) = (self.any_client(scenario), self.from(BUSY_MS - 2_000, BUSY_MS));
        scenario.steps.push(once(at, Action::Logout { client }));
        Some((client, at))
    }

    fn groups(&mut self, weights: &Weights, gone: Option<(ClientIndex, u64)>, scenario: &mut Scenario) {
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
            if self.happens(weights.endings, 8) {
                scenario.steps.push(once(BUSY_MS, Action::DestroyGroup { group }));
            }
        }
    }

    /// Joins and leaves, in order of time, so that each is possible.
    fn churn(
        &mut self,
        weights: &Weights,
        gone: Option<(ClientIndex, u64)>,
        group: GroupIndex,
        inside: &mut BTreeSet<ClientIndex>,
        scenario: &mut Scenario,
    ) {
        let mut at = SETTLED_MS;
        let last = gone.map_or(BUSY_MS, |(_, at)| at) - 500;
        for _ in 0..self.below(4 * weights.churn + 1) {
            // Most follow each other soon: what is under way then is what is hard.
            at += if self.one_in(3) { self.from(1, 50) } else { self.from(50, 2_000) };
            if at >= last {
                return;
            }
            let client = self.any_client(scenario);
            let stay = inside.iter().filter(|c| gone.is_none_or(|(gone, _)| **c != gone)).count();
            let action = match inside.contains(&client) {
                // The last member's leave would end the group.
                true if stay < 2 => continue,
                true => {
                    inside.remove(&client);
                    Action::Leave { group, client }
                }
                false => {
                    inside.insert(client);
                    Action::Join { group, client, message: String::new() }
                }
            };
            scenario.steps.push(once(at, action));
        }
    }

    fn traffic(&mut self, weights: &Weights, scenario: &mut Scenario) {
        let groups = (0..scenario.groups.len()).map(|group| Target::Group(GroupIndex(group)));
        let mut targets: Vec<_> = groups.collect();
        if weights.to_one > 0 {
            targets.push(Target::Host(Host::Client(self.any_client(scenario))));
        }
        if weights.to_server > 0 {
            targets.push(Target::Host(Host::Server));
        }
        for to in targets {
            for from in (0..scenario.clients.len()).map(|i| Host::Client(ClientIndex(i))) {
                if to != Target::Host(from) && !self.one_in(3) {
                    let step = self.sends(weights, from, to);
                    scenario.steps.push(step);
                }
            }
        }
        if weights.to_server > 0 {
            let to = Target::Host(Host::Client(self.any_client(scenario)));
            let step = self.sends(weights, Host::Server, to);
            scenario.steps.push(step);
        }
    }

    fn sends(&mut self, weights: &Weights, from: Host, to: Target) -> Step {
        let number = self.below(3) as u8;
        let unreliable = self.happens(weights.unreliable, 4);
        let channel = if unreliable { Channel::unreliable(number) } else { Channel::reliable(number) };
        let at = self.below(BUSY_MS / 2);
        let every = if self.happens(weights.rapid, 4) { self.from(5, 40) } else { self.from(40, 500) };
        // Large messages are few: a narrow link has to be able to carry them in time.
        let (size, times) = match self.happens(weights.large, 6) {
            true if self.one_in(2) => (self.from(2_000, 60_000), self.from(1, 4)),
            true => (self.from(200, 2_000), self.from(1, 30)),
            false => (self.from(Sending::MIN_SIZE as u64, 200), self.from(1, 80)),
        };
        let size = if unreliable { size.min(UNRELIABLE_MAX) } else { size };
        let times = times.min((BUSY_MS - at) / every).max(1) as u32;
        let action = Action::Send(Sending { from, to, channel, size: size as usize });
        Step { at: Duration::from_millis(at), every: Duration::from_millis(every), times, action }
    }

    fn faults(&mut self, weights: &Weights, scenario: &mut Scenario) {
        for _ in 0..weights.cuts {
            let link = match self.below(6) {
                0 if !scenario.nats.is_empty() => LinkOf::Nat(self.any_nat(scenario)),
                1 => LinkOf::Host(Host::Server),
                _ => LinkOf::Host(Host::Client(self.any_client(scenario))),
            };
            let step = self.fault(|lasts| Action::Cut { link, lasts });
            scenario.steps.push(step);
        }
        for _ in 0..2 * weights.direct_cuts {
            let pair = (self.any_client(scenario), self.any_client(scenario));
            if pair.0 != pair.1 {
                let step = self.fault(|lasts| Action::CutDirect { pair, lasts });
                scenario.steps.push(step);
            }
        }
    }

    fn fault(&mut self, action: impl FnOnce(Option<Duration>) -> Action) -> Step {
        let at = self.from(SETTLED_MS, BUSY_MS);
        let lasts = Duration::from_millis(if self.one_in(2) { self.from(20, 400) } else { self.from(400, FAULT_MS) });
        once(at, action(Some(lasts)))
    }

    fn any_client(&mut self, scenario: &Scenario) -> ClientIndex {
        ClientIndex(self.below(scenario.clients.len() as u64) as usize)
    }

    fn any_nat(&mut self, scenario: &Scenario) -> NatIndex {
        NatIndex(self.below(scenario.nats.len() as u64) as usize)
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

    fn pick<T: Copy>(&mut self, all: &[T; 3]) -> T {
        all[self.below(3) as usize]
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
        let features: [Feature; 8] = [
            ("nested NATs", |s| s.nats.iter().any(|nat| nat.behind != Network::Internet)),
            ("hairpin", |s| s.nats.iter().any(|nat| nat.nat.hairpin)),
            ("preserved ports", |s| s.nats.iter().any(|nat| nat.nat.allocation == Allocation::Preserving)),
            ("logout", |s| s.steps.iter().any(|step| matches!(step.action, Action::Logout { .. }))),
            ("leave", |s| s.steps.iter().any(|step| matches!(step.action, Action::Leave { .. }))),
            ("cut", |s| s.steps.iter().any(|step| matches!(step.action, Action::Cut { .. }))),
            ("direct cut", |s| s.steps.iter().any(|step| matches!(step.action, Action::CutDirect { .. }))),
            ("direct", |s| s.expectations.iter().any(|e| matches!(e.expect, Expect::Direct { .. }))),
        ];
        let drawn: Vec<_> = (0..100).map(Scenario::random).collect();
        for (name, has) in features {
            let with = drawn.iter().filter(|scenario| has(scenario)).count();
            assert!((5..=95).contains(&with), "{name}: {with} of 100");
        }
    }
}
