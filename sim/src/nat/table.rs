//! The NAT itself: a pure state machine over the table of mappings. It takes the time as an argument, and tells for each
//! packet how it is rewritten or why it is not.

use super::{Allocation, Filtering, Mapping, Nat};
use crate::dice::{Block, Label, below, stream};
use crate::event::DropReason;
use posse_core::{Duration, Instant};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Random ports tried for one mapping (one to a word of its block) before the range is searched from the last one on.
const TRIES: usize = 16;

/// A NAT at work. See the module's text.
pub struct NatBox {
    config: Nat,
    outside: Ipv4Addr,
    dice: ChaCha8Rng,
    /// Mappings by what they are looked up by from inside.
    mappings: BTreeMap<Key, Entry>,
    /// Mappings by outside port. A preserving NAT may have several of one inside endpoint on a port.
    ports: BTreeMap<u16, Vec<Key>>,
}

/// Inside endpoint, and as much of the destination as tells mappings apart; the rest is zero.
type Key = (SocketAddrV4, SocketAddrV4);

struct Entry {
    port: u16,
    /// Alive before this.
    until: Instant,
    /// Those who may send to it, as much of them as the filter looks at. Kept for each mapping on its own.
    admitted: BTreeSet<SocketAddrV4>,
}

/// The way out of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outbound {
    /// Its new source.
    pub from: SocketAddrV4,
    /// Whether a mapping was made for it.
    pub created: bool,
}

impl NatBox {
    /// A NAT with the outside address `outside`. Its ports are drawn from (`seed`, `number`).
    pub fn new(seed: u64, number: u64, outside: Ipv4Addr, config: Nat) -> Self {
        let dice = stream(seed, Label::Nat, number);
        Self { config, outside, dice, mappings: BTreeMap::new(), ports: BTreeMap::new() }
    }

    /// Its outside address.
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// How it behaves.
    pub fn config(&self) -> &Nat {
        &self.config
    }

    /// Mappings in the table, expired ones that nobody has looked up since included.
    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }

    /// A packet from inside. Makes or refreshes the mapping and admits the destination through it.
    pub fn outbound(&mut self, now: Instant, from: SocketAddrV4, to: SocketAddrV4) -> Result<Outbound, DropReason> {
        let key = (from, mapping_part(self.config.mapping, to));
        self.expire(now, key);
        let until = now + self.config.lifetime;
        let created = !self.mappings.contains_key(&key);
        if created {
            let port = self.allocate(now, from)?;
            self.ports.entry(port).or_default().push(key);
            self.mappings.insert(key, Entry { port, until, admitted: BTreeSet::new() });
        }
        let entry = self.mappings.get_mut(&key).ok_or(DropReason::NoPort)?;
        entry.until = until;
        if self.config.filtering != Filtering::EndpointIndependent {
            entry.admitted.insert(filter_part(self.config.filtering, to));
        }
        Ok(Outbound { from: SocketAddrV4::new(self.outside, entry.port), created })
    }

    /// A packet from outside to one of this NAT's ports. `Ok` is its new destination.
    pub fn inbound(&mut self, now: Instant, from: SocketAddrV4, port: u16) -> Result<SocketAddrV4, DropReason> {
        let seen_as = filter_part(self.config.filtering, from);
        let open = self.config.filtering == Filtering::EndpointIndependent;
        let mut refusal = DropReason::NoMapping;
        for key in self.ports.get(&port).into_iter().flatten() {
            let Some(entry) = self.mappings.get_mut(key).filter(|e| now < e.until) else { continue };
            if open || entry.admitted.contains(&seen_as) {
                if self.config.inbound_refresh {
                    entry.until = now + self.config.lifetime;
                }
                return Ok(key.0);
            }
            refusal = DropReason::Filtered;
        }
        Err(refusal)
    }

    /// A packet from inside to this NAT's own outside address comes back in, if the NAT does that (RFC 4787 §6,
    /// "external source address and port"). `Ok` is its new source and destination, and whether a mapping was made.
    pub fn hairpin(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Result<(Outbound, SocketAddrV4), DropReason> {
        if !self.config.hairpin {
            return Err(DropReason::Hairpin);
        }
        let out = self.outbound(now, from, to)?;
        Ok((out, self.inbound(now, out.from, to.port())?))
    }

    /// The table is lost; the address stays.
    pub fn reboot(&mut self) {
        self.mappings.clear();
        self.ports.clear();
    }

    /// The table is lost, and the address is another.
    pub(crate) fn reboot_as(&mut self, outside: Ipv4Addr) {
        self.reboot();
        self.outside = outside;
    }

    /// Takes the mapping of `key` away if its time is over.
    fn expire(&mut self, now: Instant, key: Key) {
        if let Some(entry) = self.mappings.get(&key).filter(|e| e.until <= now) {
            let port = entry.port;
            self.mappings.remove(&key);
            if let Some(keys) = self.ports.get_mut(&port) {
                keys.retain(|k| *k != key);
                if keys.is_empty() {
                    self.ports.remove(&port);
                }
            }
        }
    }

    /// An outside port for a new mapping of `inside`. Draws one block, whatever comes of it.
    fn allocate(&mut self, now: Instant, inside: SocketAddrV4) -> Result<u16, DropReason> {
        let block = Block::draw(&mut self.dice);
        if self.config.allocation == Allocation::Preserving && self.is_free(now, inside.port(), Some(inside)) {
            return Ok(inside.port());
        }
        let (first, last) = (*self.config.ports.start(), *self.config.ports.end());
        let count = u64::from(last.saturating_sub(first)) + 1;
        let mut port = first;
        for word in 0..TRIES {
            port = first.saturating_add(below(block.word(word), count) as u16);
            if self.is_free(now, port, None) {
                return Ok(port);
            }
        }
        let mut all = (port..=last).chain(first..port);
        all.find(|p| self.is_free(now, *p, None)).ok_or(DropReason::NoPort)
    }

    /// Whether `port` has no live mapping but those of `owner`. Takes dead ones away.
    fn is_free(&mut self, now: Instant, port: u16, owner: Option<SocketAddrV4>) -> bool {
        for key in self.ports.get(&port).cloned().unwrap_or_default() {
            self.expire(now, key);
        }
        self.ports.get(&port).is_none_or(|keys| keys.iter().all(|k| Some(k.0) == owner))
    }
}

const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// As much of a destination as tells mappings apart.
fn mapping_part(mapping: Mapping, to: SocketAddrV4) -> SocketAddrV4 {
    match mapping {
        Mapping::EndpointIndependent => NOWHERE,
        Mapping::AddressDependent => SocketAddrV4::new(*to.ip(), 0),
        Mapping::AddressAndPortDependent => to,
    }
}

/// As much of a remote endpoint as the filter looks at.
fn filter_part(filtering: Filtering, remote: SocketAddrV4) -> SocketAddrV4 {
    match filtering {
        Filtering::EndpointIndependent => NOWHERE,
        Filtering::AddressDependent => SocketAddrV4::new(*remote.ip(), 0),
        Filtering::AddressAndPortDependent => remote,
    }
}

/// RFC 4787 §4.3 asks for at least this.
pub(super) const LIFETIME: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4000);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(5, 0, 0, 9);

    fn remote(host: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(5, 0, 1, host), port)
    }

    fn nat(mapping: Mapping, filtering: Filtering) -> NatBox {
        NatBox::new(1, 0, OUTSIDE, Nat::new(mapping, filtering))
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn each_mapping_reuses_its_port_exactly_as_far_as_it_says() {
        for (mapping, same_host, other_host) in [
            (Mapping::EndpointIndependent, true, true),
            (Mapping::AddressDependent, true, false),
            (Mapping::AddressAndPortDependent, false, false),
        ] {
            for filtering in Filtering::ALL {
                let mut nat = nat(mapping, filtering);
                let mut out = |to| nat.outbound(at(0), INSIDE, to).unwrap().from;
                let first = out(remote(1, 7));
                assert_eq!(out(remote(1, 7)), first, "{mapping:?}: the same endpoint");
                assert_eq!(out(remote(1, 8)) == first, same_host, "{mapping:?}: another port");
                assert_eq!(out(remote(2, 7)) == first, other_host, "{mapping:?}: another address");
            }
        }
    }

    #[test]
    fn each_filter_admits_exactly_whom_it_says() {
        for (filtering, same_host, other_host) in [
            (Filtering::EndpointIndependent, Ok(INSIDE), Ok(INSIDE)),
            (Filtering::AddressDependent, Ok(INSIDE), Err(DropReason::Filtered)),
            (Filtering::AddressAndPortDependent, Err(DropReason::Filtered), Err(DropReason::Filtered)),
        ] {
            for mapping in Mapping::ALL {
                let mut nat = nat(mapping, filtering);
                let port = nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap().from.port();
                assert_eq!(nat.inbound(at(0), remote(1, 7), port), Ok(INSIDE), "{filtering:?}: the same endpoint");
                assert_eq!(nat.inbound(at(0), remote(1, 8), port), same_host, "{filtering:?}: another port");
                assert_eq!(nat.inbound(at(0), remote(2, 7), port), other_host, "{filtering:?}: another address");
                assert_eq!(nat.inbound(at(0), remote(1, 7), port ^ 1), Err(DropReason::NoMapping));
            }
        }
    }

    #[test]
    fn what_one_mapping_admits_another_does_not() {
        let mut nat = nat(Mapping::AddressDependent, Filtering::AddressDependent);
        let first = nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap().from.port();
        let second = nat.outbound(at(0), INSIDE, remote(2, 7)).unwrap().from.port();
        assert_eq!(nat.inbound(at(0), remote(2, 7), second), Ok(INSIDE));
        assert_eq!(nat.inbound(at(0), remote(2, 7), first), Err(DropReason::Filtered));
    }

    #[test]
    fn a_mapping_lives_its_lifetime_after_the_last_packet_out() {
        let mut nat = nat(Mapping::EndpointIndependent, Filtering::EndpointIndependent);
        let port = nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap().from.port();
        nat.outbound(at(100), INSIDE, remote(1, 7)).unwrap();
        assert_eq!(nat.inbound(at(219), remote(1, 7), port), Ok(INSIDE));
        assert_eq!(nat.inbound(at(220), remote(1, 7), port), Err(DropReason::NoMapping));
        assert!(nat.outbound(at(220), INSIDE, remote(1, 7)).unwrap().created);
    }

    #[test]
    fn packets_in_refresh_a_mapping_only_where_that_was_asked_for() {
        for (refresh, after) in [(false, Err(DropReason::NoMapping)), (true, Ok(INSIDE))] {
            let config = Nat::all_nine()[0].clone().inbound_refresh(refresh);
            let mut nat = NatBox::new(1, 0, OUTSIDE, config);
            let port = nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap().from.port();
            assert_eq!(nat.inbound(at(100), remote(1, 7), port), Ok(INSIDE));
            assert_eq!(nat.inbound(at(150), remote(1, 7), port), after);
        }
    }

    #[test]
    fn a_preserved_port_that_is_taken_gives_a_random_one() {
        let config =
            Nat::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent).allocation(Allocation::Preserving);
        let mut nat = NatBox::new(1, 0, OUTSIDE, config);
        let neighbour = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 3), INSIDE.port());
        assert_eq!(nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap().from.port(), INSIDE.port());
        assert_ne!(nat.outbound(at(0), neighbour, remote(1, 7)).unwrap().from.port(), INSIDE.port());
        // Once both have expired, whoever comes first has the port.
        assert_eq!(nat.outbound(at(500), neighbour, remote(1, 7)).unwrap().from.port(), INSIDE.port());
    }

    #[test]
    fn a_preserving_symmetric_nat_shows_one_port_to_all() {
        let config = Nat::new(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent)
            .allocation(Allocation::Preserving);
        let mut nat = NatBox::new(1, 0, OUTSIDE, config);
        for host in 1..4 {
            assert_eq!(nat.outbound(at(0), INSIDE, remote(host, 7)).unwrap().from.port(), INSIDE.port());
        }
        for host in 1..4 {
            assert_eq!(nat.inbound(at(0), remote(host, 7), INSIDE.port()), Ok(INSIDE));
        }
        assert_eq!(nat.inbound(at(0), remote(4, 7), INSIDE.port()), Err(DropReason::Filtered));
    }

    #[test]
    fn hairpinning_is_off_unless_asked_for_and_shows_the_outside_source() {
        let neighbour = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 3), 4000);
        let config = Nat::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent);
        let mut off = NatBox::new(1, 0, OUTSIDE, config.clone());
        let to = off.outbound(at(0), neighbour, remote(1, 7)).unwrap().from;
        assert_eq!(off.hairpin(at(0), INSIDE, to), Err(DropReason::Hairpin));

        let mut on = NatBox::new(1, 0, OUTSIDE, config.hairpin(true));
        let to = on.outbound(at(0), neighbour, remote(1, 7)).unwrap().from;
        let (out, inside) = on.hairpin(at(0), INSIDE, to).unwrap();
        assert_eq!((*out.from.ip(), inside), (OUTSIDE, neighbour));
        assert_eq!(on.inbound(at(0), remote(1, 7), out.from.port()), Ok(INSIDE));
    }

    #[test]
    fn random_ports_stay_in_their_range_differ_and_run_out() {
        let config = Nat::new(Mapping::AddressAndPortDependent, Filtering::EndpointIndependent).ports(2000..=2099);
        let mut nat = NatBox::new(1, 0, OUTSIDE, config);
        let mut seen = BTreeSet::new();
        for port in 0..100 {
            let given = nat.outbound(at(0), INSIDE, remote(1, port)).unwrap().from.port();
            assert!((2000..=2099).contains(&given));
            assert!(seen.insert(given), "no port is given twice");
        }
        assert_eq!(nat.outbound(at(0), INSIDE, remote(1, 100)), Err(DropReason::NoPort));
        assert!(nat.outbound(at(120), INSIDE, remote(1, 100)).is_ok(), "expired mappings give their ports back");
    }

    #[test]
    fn after_a_reboot_nothing_is_known() {
        let mut nat = nat(Mapping::EndpointIndependent, Filtering::EndpointIndependent);
        let port = nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap().from.port();
        nat.reboot();
        assert_eq!(nat.inbound(at(0), remote(1, 7), port), Err(DropReason::NoMapping));
        assert!(nat.is_empty());
    }
}
