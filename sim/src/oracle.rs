//! What plain hole punching can do between two NATs: the answer that simulated runs are held against.
//!
//! Computed from what RFC 4787 says a NAT does, in code that shares nothing with [`nat`](crate::nat) but the names of
//! the two axes. There is no time, no packet and no port number here, only facts of the form "this endpoint has sent to
//! that endpoint", which are collected until no new one follows:
//!
//! - Each side begins by sending to the address that the server saw of the other. It may always send again, so the
//!   facts only ever grow, and the order in which they are found does not matter.
//! - A send leaves by the mapping that the NAT's mapping behaviour picks for the destination. Ports are random: an
//!   external port is named by the mapping that owns it, and nobody can name one that was never observed.
//! - It is delivered if the receiver's mapping of that destination lets the source in. Filter state belongs to a
//!   mapping: what counts is what was sent out *by that mapping*. With filters per internal endpoint 49 of the 81 pairs
//!   would go direct instead of 45.
//! - Who observes a new source sends to that source as well (peer-reflexive candidates). Without it only 21 would work.
//!
//! A pair is direct when each direction delivers. The two directions may use different addresses; insisting on one pair
//! of addresses for both would leave 42.

mod search;

use crate::nat::{Filtering, Mapping};
pub use search::{Budget, How, meetings, once, outlook, twice};
use std::collections::BTreeSet;

/// How one side's NAT behaves, as (mapping, filtering).
pub type Behaviour = (Mapping, Filtering);

/// Which directions between two sides deliver packets without a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Directions {
    /// What the first side sends arrives at the second.
    pub a_to_b: bool,
    /// What the second side sends arrives at the first.
    pub b_to_a: bool,
}

/// Whether two hosts, each behind a NAT of its own, reach each other directly in both directions by plain punching.
pub fn reachable(a: Behaviour, b: Behaviour) -> bool {
    let directions = directions(a, b);
    directions.a_to_b && directions.b_to_a
}

/// Whether two hosts that both have IPv6 reach each other by it, with what lets in what before each; `None`: nothing stands there. A
/// firewall is a NAT that translates nothing: it maps alike for all, and everybody knows the address. So they always do.
pub fn reachable_by_ipv6(a: Option<Filtering>, b: Option<Filtering>) -> bool {
    let wall = |filtering: Option<Filtering>| {
        (Mapping::EndpointIndependent, filtering.unwrap_or(Filtering::EndpointIndependent))
    };
    reachable(wall(a), wall(b))
}

/// Which directions deliver. See the module's text for the rules.
pub fn directions(a: Behaviour, b: Behaviour) -> Directions {
    let mut facts = Facts { nats: [a, b], sent: BTreeSet::new() };
    let seen_by_server =
        |owner| External { owner, mapping: Box::new(facts.nats[owner as usize].0.key(&Remote::Server)) };
    let mut targets = [BTreeSet::from([seen_by_server(Side::B)]), BTreeSet::from([seen_by_server(Side::A)])];
    let mut delivered = [false; 2];
    // Ends: a new target appears only where a packet is delivered. While one direction is shut, that side learns nothing
    // and so opens no further mappings for the other to observe; and once both are open we are done.
    loop {
        let known = facts.sent.len();
        for side in [Side::A, Side::B] {
            for to in &targets[side as usize] {
                let from = facts.source(side, to);
                facts.sent.insert((from, to.clone()));
            }
        }
        for (from, to) in &facts.sent {
            if facts.lets_in(to, from) {
                delivered[from.owner as usize] = true;
                targets[to.owner as usize].insert(from.clone());
            }
        }
        // Nothing sent that was not known before: the deliveries, and with them the targets, are those of the last round.
        if facts.sent.len() == known || delivered == [true; 2] {
            return Directions { a_to_b: delivered[0], b_to_a: delivered[1] };
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Side {
    A,
    B,
}

/// Somebody whom a host behind a NAT sends to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Remote {
    Server,
    Peer(External),
}

/// An address and port on the outside of a NAT, named by the mapping that owns it because its number is random.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct External {
    owner: Side,
    mapping: Box<Key>,
}

/// What a NAT tells one host's mappings apart by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    /// One mapping for all destinations.
    Any,
    /// One for each destination address; `None` is the server's, the peer's NAT has a single one.
    Address(Option<Side>),
    /// One for each destination address and port.
    AddressAndPort(Remote),
}

impl Mapping {
    fn key(self, to: &Remote) -> Key {
        match self {
            Self::EndpointIndependent => Key::Any,
            Self::AddressDependent => Key::Address(to.address()),
            Self::AddressAndPortDependent => Key::AddressAndPort(to.clone()),
        }
    }
}

impl Remote {
    fn address(&self) -> Option<Side> {
        match self {
            Self::Server => None,
            Self::Peer(external) => Some(external.owner),
        }
    }
}

struct Facts {
    nats: [Behaviour; 2],
    /// Who has sent to whom, by outside addresses. Either side's sends to the server are implied: they made the
    /// mappings that the server saw.
    sent: BTreeSet<(External, External)>,
}

impl Facts {
    /// The outside address that a packet of `side` to `to` carries.
    fn source(&self, side: Side, to: &External) -> External {
        External { owner: side, mapping: Box::new(self.nats[side as usize].0.key(&Remote::Peer(to.clone()))) }
    }

    /// Whether the NAT that owns `at` passes a packet from `from` to the host inside.
    fn lets_in(&self, at: &External, from: &External) -> bool {
        let mut sent_by_it = self.sent.iter().filter(|(source, _)| source == at).map(|(_, to)| to);
        match self.nats[at.owner as usize].1 {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => sent_by_it.any(|to| to.owner == from.owner),
            Filtering::AddressAndPortDependent => sent_by_it.any(|to| to == from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL_CONE: Behaviour = (Mapping::EndpointIndependent, Filtering::EndpointIndependent);
    const RESTRICTED: Behaviour = (Mapping::EndpointIndependent, Filtering::AddressDependent);
    const PORT_RESTRICTED: Behaviour = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    const SYMMETRIC: Behaviour = (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent);

    fn all() -> Vec<Behaviour> {
        Mapping::ALL.into_iter().flat_map(|m| Filtering::ALL.map(|f| (m, f))).collect()
    }

    #[test]
    fn forty_five_of_the_eighty_one_pairs_go_direct() {
        let open = all().iter().flat_map(|&a| all().into_iter().map(move |b| reachable(a, b))).filter(|&r| r).count();
        assert_eq!(open, 45);
    }

    #[test]
    fn no_two_ipv6_firewalls_keep_those_apart_who_both_send() {
        let walls = [None, Some(Filtering::ALL[0]), Some(Filtering::ALL[1]), Some(Filtering::ALL[2])];
        assert!(walls.iter().all(|a| walls.iter().all(|b| reachable_by_ipv6(*a, *b))));
    }

    #[test]
    fn it_makes_no_difference_which_side_is_named_first() {
        for a in all() {
            for b in all() {
                let (ab, ba) = (directions(a, b), directions(b, a));
                assert_eq!((ab.a_to_b, ab.b_to_a), (ba.b_to_a, ba.a_to_b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn of_the_four_classic_types_only_two_pairings_stay_closed() {
        let classic = [FULL_CONE, RESTRICTED, PORT_RESTRICTED, SYMMETRIC];
        for a in classic {
            for b in classic {
                let closed = [a, b].contains(&SYMMETRIC)
                    && [SYMMETRIC, PORT_RESTRICTED].contains(&a)
                    && [SYMMETRIC, PORT_RESTRICTED].contains(&b);
                assert_eq!(reachable(a, b), !closed, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn whoever_filters_by_address_at_most_and_maps_alike_for_all_reaches_everyone() {
        for easy in [FULL_CONE, RESTRICTED] {
            assert!(all().into_iter().all(|other| reachable(easy, other)));
        }
    }

    #[test]
    fn a_looser_filter_never_closes_a_pair() {
        for (m, _) in all() {
            for b in all() {
                let [loose, middle, strict] = Filtering::ALL.map(|f| reachable((m, f), b));
                assert!(loose >= middle && middle >= strict, "{m:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_pair_can_be_open_in_one_direction_only() {
        let open_symmetric = (Mapping::AddressAndPortDependent, Filtering::EndpointIndependent);
        let one_way = directions(PORT_RESTRICTED, open_symmetric);
        assert_eq!(one_way, Directions { a_to_b: true, b_to_a: false });
        assert_eq!(directions(SYMMETRIC, SYMMETRIC), Directions { a_to_b: false, b_to_a: false });
    }
}
