//! What prediction and birthday probing add to plain punching, by the same facts: who has sent to whom.
//!
//! **Prediction** works where both ends' next outside port is known: it is the same for all destinations, or follows the one
//! before. Then each end can name the other's mapping before it is there, both send, and every filter has seen what it asks for.
//!
//! **Birthday probing.** One end has many sockets, all alike, so one stands for all; the other sends from its main one, and may
//! *meet* a mapping of the many: name a port that it was never told, at the price of a search. Between two meetings the
//! facts are closed as in plain punching. [`meetings`] is the least number that opens the pair, with either end in either part:
//! 0 for the 45 of plain punching, 1 for 26 more, 2 for 2, and `None` for the 8 that stay closed.
//!
//! **How likely** a meeting is follows from the numbers alone: the first probe meets one of K open ports of N with probability
//! K / N, the next with K / (N − 1), and so on. Before a second meeting, the many sockets open their NAT anew, one with every
//! probe that the other end sends, as both send at one rate.

use super::{Behaviour, Side, reachable};
use crate::nat::{Allocation, Filtering, Mapping, Nat};
use crate::scenario::Tried;
use std::collections::BTreeSet;

/// What a search may spend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Extra sockets at one end.
    pub sockets: u32,
    /// Ports that the other end tries.
    pub probes: u32,
}

impl Budget {
    /// 256 sockets, 2,048 probes.
    pub const USUAL: Self = Self { sockets: 256, probes: 2_048 };
}

/// How a pair comes to a direct path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum How {
    /// By plain punching.
    Plain,
    /// By prediction.
    Predicted,
    /// By so many meetings: one or two.
    Birthday(u32),
    /// Not at all.
    Never,
}

/// How two hosts come to a direct path, and with which probability, if `tried` is tried beside plain punching. `ports` is how
/// both NATs give out ports; nobody else is behind them.
pub fn outlook(a: Behaviour, b: Behaviour, ports: &Nat, tried: Tried, budget: Budget) -> (How, f64) {
    // Behind a NAT that keeps the inside port of a lone host, that host has one outside port.
    let kept = matches!(ports.allocation, Allocation::Preserving | Allocation::Overloading);
    let as_seen = |(mapping, filtering)| (if kept { Mapping::EndpointIndependent } else { mapping }, filtering);
    let (a, b) = (as_seen(a), as_seen(b));
    if reachable(a, b) {
        return (How::Plain, 1.0);
    }
    let known = |end: Behaviour| end.0 == Mapping::EndpointIndependent || ports.allocation == Allocation::Sequential;
    if matches!(tried, Tried::Predict | Tried::All) && known(a) && known(b) {
        return (How::Predicted, 1.0);
    }
    let found = matches!(tried, Tried::Birthday | Tried::All).then(|| meetings(a, b)).flatten();
    let range = u32::from(ports.ports.end() - ports.ports.start()) + 1;
    // Around ports of one block, two of the widest blocks are tried.
    let range = if ports.allocation == Allocation::Block { range.min(4096) } else { range };
    match found {
        Some(1) => (How::Birthday(1), once(range, budget)),
        Some(n) => (How::Birthday(n), twice(range, budget)),
        None => (How::Never, 0.0),
    }
}

/// Probability that at least one of the open ports is met.
pub fn once(range: u32, budget: Budget) -> f64 {
    1.0 - (0..budget.probes.min(range)).map(|i| 1.0 - share(budget.sockets, range - i)).product::<f64>()
}

/// The same of one more after that, among ports that are opened one by one from then on.
pub fn twice(range: u32, budget: Budget) -> f64 {
    let probes = budget.probes.min(range);
    let (mut none, mut both) = (1.0, 0.0);
    for first in 0..probes {
        let now = none * share(budget.sockets, range - first);
        none -= now;
        let missed: f64 =
            (first + 1..probes).map(|i| 1.0 - share((i - first).min(budget.sockets), range - i)).product();
        both += now * (1.0 - missed);
    }
    both
}

fn share(open: u32, of: u32) -> f64 {
    (f64::from(open) / f64::from(of.max(1))).min(1.0)
}

/// The least number of meetings that opens a pair, of at most two. See the module's text.
pub fn meetings(a: Behaviour, b: Behaviour) -> Option<u32> {
    let parts = [Side::A, Side::B].map(|many| Facts::new([a, b], many));
    (0..=2).find(|n| parts.iter().any(|facts| facts.opens_with(*n)))
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Socket {
    Main,
    /// Any of many.
    Many,
}

/// An outside address, by the mapping that owns it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct External {
    owner: Side,
    socket: Socket,
    mapping: Key,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    Any,
    Address(Option<Side>),
    Exactly(Option<Box<External>>),
}

#[derive(Clone)]
struct Facts {
    nats: [Behaviour; 2],
    many: Side,
    sent: BTreeSet<(External, External)>,
    /// What each end's main socket, and the many, know of the other end.
    targets: BTreeSet<(Side, Socket, External)>,
}

impl Facts {
    fn new(nats: [Behaviour; 2], many: Side) -> Self {
        let mut facts = Self { nats, many, sent: BTreeSet::new(), targets: BTreeSet::new() };
        for (knows, owner) in [(Side::A, Side::B), (Side::B, Side::A)] {
            let seen = External { owner, socket: Socket::Main, mapping: facts.key(owner, None) };
            facts.targets.insert((knows, Socket::Main, seen));
        }
        facts
    }

    fn key(&self, side: Side, to: Option<&External>) -> Key {
        match self.nats[side as usize].0 {
            Mapping::EndpointIndependent => Key::Any,
            Mapping::AddressDependent => Key::Address(to.map(|to| to.owner)),
            Mapping::AddressAndPortDependent => Key::Exactly(to.cloned().map(Box::new)),
        }
    }

    fn lets_in(&self, at: &External, from: &External) -> bool {
        let mut sent_by_it = self.sent.iter().filter(|(source, _)| source == at).map(|(_, to)| to);
        // A mapping is there once something was sent by it; the server's are of the main sockets.
        let there = sent_by_it.clone().next().is_some() || at.socket == Socket::Main;
        there
            && match self.nats[at.owner as usize].1 {
                Filtering::EndpointIndependent => true,
                Filtering::AddressDependent => sent_by_it.any(|to| to.owner == from.owner),
                Filtering::AddressAndPortDependent => sent_by_it.any(|to| to == from),
            }
    }

    /// Collects what follows. Whether both directions deliver.
    fn close(&mut self) -> bool {
        let mut delivered = [false; 2];
        loop {
            let known = (self.sent.len(), self.targets.len());
            // The many aim at whatever their end knows.
            let aimed = self.targets.iter().filter(|(side, ..)| *side == self.many);
            let aimed: Vec<_> = aimed.map(|(side, _, to)| (*side, Socket::Many, to.clone())).collect();
            self.targets.extend(aimed);
            for (side, socket, to) in self.targets.clone() {
                let from = External { owner: side, socket, mapping: self.key(side, Some(&to)) };
                self.sent.insert((from, to));
            }
            for (from, to) in self.sent.clone() {
                if self.lets_in(&to, &from) {
                    delivered[from.owner as usize] = true;
                    self.targets.insert((to.owner, to.socket, from));
                }
            }
            if delivered == [true; 2] || (self.sent.len(), self.targets.len()) == known {
                return delivered == [true; 2];
            }
        }
    }

    /// Whether that many meetings, or fewer, open the pair.
    fn opens_with(&self, meetings: u32) -> bool {
        let mut facts = self.clone();
        if facts.close() {
            return true;
        }
        let Some(left) = meetings.checked_sub(1) else { return false };
        let sweeps = if self.many == Side::A { Side::B } else { Side::A };
        let open: BTreeSet<_> =
            facts.sent.iter().map(|(from, _)| from).filter(|from| from.socket == Socket::Many).collect();
        open.into_iter().any(|met| {
            let mut next = facts.clone();
            next.targets.insert((sweeps, Socket::Main, met.clone())) && next.opens_with(left)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Behaviour> {
        Mapping::ALL.into_iter().flat_map(|m| Filtering::ALL.map(|f| (m, f))).collect()
    }

    fn counted(ports: &Nat, tried: Tried) -> [usize; 5] {
        let mut counts = [0; 5];
        for a in all() {
            for b in all() {
                let (how, chance) = outlook(a, b, ports, tried, Budget::USUAL);
                assert_eq!(outlook(b, a, ports, tried, Budget::USUAL), (how, chance), "{a:?} {b:?}");
                assert_eq!((how == How::Never, how < How::Birthday(0)), (chance == 0.0, chance == 1.0));
                let place = match how {
                    How::Plain => 0,
                    How::Predicted => 1,
                    How::Birthday(1) => 2,
                    How::Birthday(_) => 3,
                    How::Never => 4,
                };
                counts[place] += 1;
            }
        }
        counts
    }

    #[test]
    fn of_the_36_pairs_that_stay_closed_28_open_by_the_birthday_paradox_two_of_them_in_two_stages() {
        let random = Nat::home();
        assert_eq!(counted(&random, Tried::All), [45, 0, 26, 2, 8]);
        assert_eq!(counted(&random, Tried::Birthday), [45, 0, 26, 2, 8]);
        assert_eq!(counted(&random, Tried::Predict), [45, 0, 0, 0, 36]);
        assert_eq!(counted(&random, Tried::Plain), [45, 0, 0, 0, 36]);
    }

    #[test]
    fn with_sequential_ports_prediction_opens_all_and_with_kept_ones_nothing_is_needed() {
        let sequential = Nat::home().allocation(Allocation::Sequential);
        assert_eq!(counted(&sequential, Tried::All), [45, 36, 0, 0, 0]);
        assert_eq!(counted(&sequential, Tried::Birthday), [45, 0, 26, 2, 8]);
        assert_eq!(counted(&Nat::home().allocation(Allocation::Preserving), Tried::Plain), [81, 0, 0, 0, 0]);
    }

    #[test]
    fn the_two_that_take_two_stages_and_the_eight_that_stay_closed_are_these() {
        use Filtering as F;
        use Mapping as M;
        let (address, both) = (M::AddressDependent, M::AddressAndPortDependent);
        let strict = F::AddressAndPortDependent;
        assert_eq!(meetings((address, strict), (both, F::AddressDependent)), Some(2));
        let closed = |a, b| meetings(a, b).is_none() && meetings(b, a).is_none();
        assert!(closed((address, strict), (address, strict)) && closed((both, strict), (both, strict)));
        assert!(
            [(address, strict), (both, F::EndpointIndependent), (both, F::AddressDependent)]
                .into_iter()
                .all(|other| closed((both, strict), other))
        );
    }

    #[test]
    fn the_birthday_table_is_that_of_the_formula() {
        // 1 − C(N−256, m) / C(N, m) with N = 64,511, in percent.
        for (probes, percent) in [(128, 39.92), (174, 49.98), (256, 63.94), (512, 87.05), (1024, 98.35), (2048, 99.97)]
        {
            let found = 100.0 * once(64_511, Budget { sockets: 256, probes });
            assert!((found - percent).abs() < 0.01, "{probes}: {found}");
        }
        let twice = twice(64_512, Budget::USUAL);
        assert!((0.99..0.998).contains(&twice), "{twice}");
    }
}
