//! Scenarios drawn at random: two to five clients behind NATs of all kinds, links with every fault, groups that overlap,
//! members who come and go, direct paths and links that break. What must hold in all of them: no reliable message lost,
//! repeated, reordered, damaged or out of place, and every join completed exactly once.
//!
//! All that happens is over well before the end, so that what is under way arrives or its loss is one. A NAT never
//! restarts here: it would give the way to the server another port, and a session does not move to another address yet.

use super::{
    Action, ClientIndex, ClientSpec, Expect, Expectation, GroupIndex, Host, NatIndex, NatSpec, Network, Scenario,
    Sending, Step, Target,
};
use crate::{Allocation, Chance, Filtering, Link, Mapping, Nat};
use posse_core::{Channel, Duration};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng};
use std::collections::BTreeSet;

/// Faults and changes of membership end, and the last message is sent, about then.
const BUSY_MS: u64 = 12_000;
/// Time to repair what the last fault broke: backed-off probe timeouts of 2 s, several in a row.
const REPAIR_MS: u64 = 28_000;

impl Scenario {
    /// The scenario that follows from `seed`. The same one in every version that draws the same way.
    pub fn random(seed: u64) -> Self {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        let nats: Vec<_> = (0..dice.from(1, 4)).map(|i| nat(&mut dice, i as usize)).collect();
        let clients: Vec<_> = (0..dice.from(2, 5)).map(|i| client(&mut dice, i as usize, nats.len())).collect();
        let server = Link::millis(dice.from(1, 60));
        let groups: Vec<_> = (0..dice.from(1, 3)).map(|i| format!("group{i}")).collect();
        let mut steps = Vec::new();
        for group in 0..groups.len() {
            membership(&mut dice, GroupIndex(group), clients.len(), &mut steps);
            sends(&mut dice, Target::Group(GroupIndex(group)), clients.len(), &mut steps);
        }
        let to = Target::Host(Host::Client(ClientIndex(dice.below(clients.len() as u64) as usize)));
        sends(&mut dice, to, clients.len(), &mut steps);
        faults(&mut dice, clients.len(), &mut steps);
        let delivery = Expect::Delivery { lost: 0, repeated: 0, reordered: 0, at_least: 0 };
        let expectations = [delivery, Expect::Joins { ok: 0 }].map(|expect| Expectation { line: 0, expect });
        Self {
            title: format!("random scenario {seed}"),
            seed,
            duration: Duration::from_millis(BUSY_MS + REPAIR_MS),
            nats,
            server,
            clients,
            groups,
            steps,
            expectations: expectations.into(),
        }
    }
}

fn nat(dice: &mut Dice, index: usize) -> NatSpec {
    let mut nat = Nat::new(dice.pick(&Mapping::ALL), dice.pick(&Filtering::ALL));
    nat.allocation = dice.pick(&[Allocation::Random, Allocation::Preserving]);
    nat.hairpin = dice.one_in(3);
    nat.inbound_refresh = dice.one_in(2);
    let inner = index > 0 && dice.one_in(4);
    let behind = if inner { Network::Behind(NatIndex(dice.below(index as u64) as usize)) } else { Network::Internet };
    NatSpec { name: format!("nat{index}"), behind, nat, link: link(dice) }
}

fn client(dice: &mut Dice, index: usize, nats: usize) -> ClientSpec {
    let nat = dice.below(nats as u64 + 1) as usize;
    let on = if nat < nats { Network::Behind(NatIndex(nat)) } else { Network::Internet };
    let link = if dice.one_in(3) { link(dice) } else { Link::millis(1) };
    ClientSpec { name: format!("client{index}"), on, link, start: Duration::from_millis(dice.below(500)) }
}

/// Each fault on about one link in three, so that most runs see some of them together.
fn link(dice: &mut Dice) -> Link {
    let mut link = Link::millis(dice.from(1, 40));
    if dice.one_in(3) {
        link = link.loss(Chance::ppm(dice.below(50_000) as u32));
    }
    if dice.one_in(3) {
        link = link.jitter(Duration::from_micros(dice.below(10_000)));
    }
    if dice.one_in(3) {
        link = link.reorder(Chance::percent(dice.below(10) as u32), Duration::from_millis(dice.from(1, 20)));
    }
    if dice.one_in(3) {
        link = link.duplicate(Chance::percent(dice.below(10) as u32));
    }
    if dice.one_in(3) {
        link = link.corrupt(Chance::ppm(dice.below(10_000) as u32));
    }
    if dice.one_in(4) {
        link = link.rate(dice.from(3, 50) * 1_000_000, 128 * 1024);
    }
    link
}

/// A group, then members who join and leave it. Steps are drawn in order of time, so that each is possible.
fn membership(dice: &mut Dice, group: GroupIndex, clients: usize, steps: &mut Vec<Step>) {
    let first = dice.from(2, clients as u64) as usize;
    let mut inside: BTreeSet<_> = (0..first).map(ClientIndex).collect();
    let message = String::new();
    steps.push(once(0, Action::CreateGroup { group, members: inside.iter().copied().collect(), message }));
    let mut at = 1_500;
    for _ in 0..dice.below(7) {
        at += dice.from(1, 1_500);
        let client = ClientIndex(dice.below(clients as u64) as usize);
        let action = if inside.contains(&client) {
            // The last member's leave would end the group.
            if inside.len() < 2 {
                continue;
            }
            inside.remove(&client);
            Action::Leave { group, client }
        } else {
            inside.insert(client);
            Action::Join { group, client, message: String::new() }
        };
        steps.push(once(at, action));
    }
}

fn sends(dice: &mut Dice, to: Target, clients: usize, steps: &mut Vec<Step>) {
    for from in (0..clients).map(|i| Host::Client(ClientIndex(i))) {
        if to == Target::Host(from) || dice.one_in(3) {
            continue;
        }
        let number = dice.below(3) as u8;
        let channel = if dice.one_in(4) { Channel::unreliable(number) } else { Channel::reliable(number) };
        let every = dice.from(15, 200);
        // Large messages are rare and few: a narrow link has to be able to carry them in time.
        let (size, times) = match dice.below(10) {
            0 => (dice.from(2_000, 60_000), 5),
            1..4 => (dice.from(200, 2_000), (BUSY_MS / every / 3).max(1)),
            _ => (dice.from(Sending::MIN_SIZE as u64, 200), BUSY_MS / every),
        };
        let action = Action::Send(Sending { from, to, channel, size: size as usize });
        let every = Duration::from_millis(every);
        steps.push(Step { at: Duration::from_millis(dice.below(1_000)), every, times: times as u32, action });
    }
}

fn faults(dice: &mut Dice, clients: usize, steps: &mut Vec<Step>) {
    for _ in 0..dice.below(4) {
        let at = dice.from(1_000, BUSY_MS);
        let lasts = Some(Duration::from_millis(dice.from(50, 3_000)));
        let (a, b) = (dice.below(clients as u64) as usize, dice.below(clients as u64) as usize);
        let action = if a == b {
            Action::Cut { link: super::LinkOf::Host(Host::Client(ClientIndex(a))), lasts }
        } else {
            Action::CutDirect { pair: (ClientIndex(a), ClientIndex(b)), lasts }
        };
        steps.push(once(at, action));
    }
}

fn once(at_ms: u64, action: Action) -> Step {
    Step { at: Duration::from_millis(at_ms), every: Duration::ZERO, times: 1, action }
}

struct Dice(ChaCha8Rng);

impl Dice {
    /// Below `n`, 0 if `n` is 0. Uniform to within 2^-64.
    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// From `low` to `high`, both possible.
    fn from(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
