//! The NAT itself: a pure state machine over the table of mappings. It takes the time as an argument, and tells for each
//! packet how it is rewritten or why it is not.

use super::{Allocation, Filtering, Mapping, Nat};
use crate::dice::{Block, Label, below, stream};
use crate::event::DropReason;
use posse_core::{Duration, Instant};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Random ports tried for one mapping (one to a word of its block) before the range is searched from the last one on.
const TRIES: usize = WORDS;
/// Words of a drawn block.
const WORDS: usize = 16;

/// A NAT at work. See the module's text.
pub struct NatBox {
    config: Nat,
    outside: Ipv4Addr,
    dice: ChaCha8Rng,
    /// Mappings by what they are looked up by from inside.
    mappings: BTreeMap<Key, Entry>,
    /// Mappings by outside port. A preserving NAT may have several of one inside endpoint on a port, an overloading one of
    /// several.
    ports: BTreeMap<u16, Vec<Key>>,
    /// The sequential port given last, and when; none before the first.
    last: Option<(u16, Instant)>,
    /// First ports of the blocks that belong to inside addresses.
    blocks: BTreeMap<Ipv4Addr, u16>,
    /// Flows that its own host took in, by own port and sender, and until when each is remembered.
    taken_in: BTreeMap<(u16, SocketAddrV4), Instant>,
}

/// Inside endpoint, and as much of the destination as tells mappings apart; the rest is zero.
type Key = (SocketAddrV4, SocketAddrV4);

struct Entry {
    port: u16,
    /// Alive before this.
    until: Instant,
    /// And, whatever passes, before this.
    dies: Instant,
    /// Something came back in.
    replied: bool,
    /// Those who may send to it, as much of them as the filter looks at, and until when. Kept for each mapping on its own.
    admitted: BTreeMap<SocketAddrV4, Instant>,
}

impl Entry {
    fn is_alive(&self, now: Instant) -> bool {
        now < self.until && now < self.dies
    }

    fn refresh(&mut self, now: Instant, config: &Nat) {
        let unreplied = config.unreplied.filter(|_| !self.replied);
        self.until = now + unreplied.unwrap_or(config.lifetime);
    }
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
        Self {
            config,
            outside,
            dice,
            mappings: BTreeMap::new(),
            ports: BTreeMap::new(),
            last: None,
            blocks: BTreeMap::new(),
            taken_in: BTreeMap::new(),
        }
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
        let created = !self.mappings.contains_key(&key);
        if created {
            let port = self.allocate(now, key, to)?;
            let dies = self.dies(now);
            self.ports.entry(port).or_default().push(key);
            self.mappings.insert(key, Entry { port, until: now, dies, replied: false, admitted: BTreeMap::new() });
        }
        let entry = self.mappings.get_mut(&key).ok_or(DropReason::NoPort)?;
        entry.refresh(now, &self.config);
        if self.config.filtering != Filtering::EndpointIndependent {
            let until = self.config.filter_lifetime.map_or(Instant::FAR, |lifetime| now + lifetime);
            entry.admitted.insert(filter_part(self.config.filtering, to), until);
        }
        Ok(Outbound { from: SocketAddrV4::new(self.outside, entry.port), created })
    }

    /// A packet from outside to one of this NAT's ports. `Ok` is its new destination.
    pub fn inbound(&mut self, now: Instant, from: SocketAddrV4, port: u16) -> Result<SocketAddrV4, DropReason> {
        let seen_as = filter_part(self.config.filtering, from);
        let open = self.config.filtering == Filtering::EndpointIndependent;
        let mut refusal = DropReason::NoMapping;
        for key in self.ports.get(&port).into_iter().flatten() {
            let Some(entry) = self.mappings.get_mut(key).filter(|e| e.is_alive(now)) else { continue };
            if open || entry.admitted.get(&seen_as).is_some_and(|until| now < *until) {
                let first = !core::mem::replace(&mut entry.replied, true) && self.config.unreplied.is_some();
                if self.config.inbound_refresh || first {
                    entry.refresh(now, &self.config);
                }
                return Ok(key.0);
            }
            refusal = DropReason::Filtered;
        }
        if self.config.open_input {
            self.take_in(now, from, port);
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

    /// When a mapping that is made now dies at the latest.
    fn dies(&mut self, now: Instant) -> Instant {
        let Some(range) = &self.config.absolute else { return Instant::FAR };
        let nanos = |d: &Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let (least, most) = (nanos(range.start()), nanos(range.end()));
        let micros = below(Block::draw(&mut self.dice).word(0), most.saturating_sub(least) / 1_000 + 1);
        now + Duration::from_nanos(least.saturating_add(micros.saturating_mul(1_000)))
    }

    /// The table is lost; the address stays.
    pub fn reboot(&mut self) {
        self.mappings.clear();
        self.ports.clear();
        self.last = None;
        self.blocks.clear();
        self.taken_in.clear();
    }

    /// The table is lost, and the address is another.
    pub(crate) fn reboot_as(&mut self, outside: Ipv4Addr) {
        self.reboot();
        self.outside = outside;
    }

    /// Takes the mapping of `key` away if its time is over.
    fn expire(&mut self, now: Instant, key: Key) {
        if let Some(entry) = self.mappings.get(&key).filter(|e| !e.is_alive(now)) {
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

    /// An outside port for the new mapping `key`. Draws one block, whatever comes of it, and one more where a sequence
    /// begins.
    fn allocate(&mut self, now: Instant, key: Key, to: SocketAddrV4) -> Result<u16, DropReason> {
        let block = Block::draw(&mut self.dice);
        let inside = key.0;
        let kept = match self.config.allocation {
            Allocation::Preserving => self.is_free(now, inside.port(), |k| k.0 == inside),
            Allocation::Overloading => self.is_free(now, inside.port(), |k| k.0 == inside || k.1 != key.1),
            Allocation::Sequential => return self.next_in_sequence(now, &block),
            Allocation::Random | Allocation::Block => false,
        };
        if kept && self.taken_in.get(&(inside.port(), to)).is_none_or(|until| *until <= now) {
            return Ok(inside.port());
        }
        let (first, last) = match self.config.allocation {
            Allocation::Block => self.block_of(*inside.ip(), &block)?,
            _ => (*self.config.ports.start(), *self.config.ports.end()),
        };
        let count = u64::from(last.saturating_sub(first)) + 1;
        let mut port = first;
        for word in 0..TRIES {
            port = first.saturating_add(below(block.word(word), count) as u16);
            if self.is_free(now, port, |_| false) {
                return Ok(port);
            }
        }
        let mut all = (port..=last).chain(first..port);
        all.find(|p| self.is_free(now, *p, |_| false)).ok_or(DropReason::NoPort)
    }

    /// The next port of the sequence that is free, past what others took since the last one.
    fn next_in_sequence(&mut self, now: Instant, block: &Block) -> Result<u16, DropReason> {
        let (first, last) = (*self.config.ports.start(), *self.config.ports.end());
        let count = i64::from(last.saturating_sub(first)) + 1;
        let stride = if self.config.stride == 0 { 1 } else { i64::from(self.config.stride) };
        let step = |port: u16, steps: i64| {
            first.saturating_add((i64::from(port.saturating_sub(first)) + stride * steps).rem_euclid(count) as u16)
        };
        let mut port = match self.last {
            Some((port, then)) => step(port, 1 + self.taken_by_others(now.since(then), block)),
            None => first.saturating_add(below(Block::draw(&mut self.dice).word(0), count as u64) as u16),
        };
        for _ in 0..count {
            if self.is_free(now, port, |_| false) {
                self.last = Some((port, now));
                return Ok(port);
            }
            port = step(port, 1);
        }
        Err(DropReason::NoPort)
    }

    /// How many mappings others made within `time`: each word of the block is one that falls into it or not, which comes close
    /// to Poisson's law while few are expected. Beyond that, just as many as are expected.
    fn taken_by_others(&self, time: Duration, block: &Block) -> i64 {
        let Some(every) = self.config.cross_traffic.filter(|every| !every.is_zero()) else { return 0 };
        let (time, span) = (time.as_nanos(), every.as_nanos().saturating_mul(WORDS as u128));
        if time >= span {
            return i64::try_from(time / every.as_nanos()).unwrap_or(i64::MAX >> 32).min(i64::from(u16::MAX));
        }
        (0..WORDS).filter(|&word| (u128::from(block.word(word)) * span) >> 32 < time).count() as i64
    }

    /// Remembers a flow that came in to its own host.
    fn take_in(&mut self, now: Instant, from: SocketAddrV4, port: u16) {
        if self.taken_in.len() >= MAX_TAKEN_IN {
            self.taken_in.retain(|_, until| now < *until);
        }
        if self.taken_in.len() < MAX_TAKEN_IN {
            self.taken_in.insert((port, from), now + UNREPLIED);
        }
    }

    /// First and last port of the block of an inside address, which it is given with its first mapping.
    fn block_of(&mut self, inside: Ipv4Addr, dice: &Block) -> Result<(u16, u16), DropReason> {
        let (first, last) = (*self.config.ports.start(), *self.config.ports.end());
        let size = self.config.block.clamp(1, last.saturating_sub(first).max(1));
        if let Some(&block) = self.blocks.get(&inside) {
            return Ok((block, block.saturating_add(size - 1).min(last)));
        }
        let count = (u64::from(last.saturating_sub(first)) + 1) / u64::from(size);
        // The word that is needed last for a port itself.
        let drawn = below(dice.word(WORDS - 1), count);
        let at = |n: u64| first.saturating_add((n as u16).saturating_mul(size));
        let mut all = (drawn..count).chain(0..drawn).map(at);
        let block = all.find(|b| !self.blocks.values().any(|taken| taken == b)).ok_or(DropReason::NoPort)?;
        self.blocks.insert(inside, block);
        Ok((block, block.saturating_add(size - 1)))
    }

    /// Whether `port` has no live mapping but such as may `share` it. Takes dead ones away.
    fn is_free(&mut self, now: Instant, port: u16, share: impl Fn(&Key) -> bool) -> bool {
        for key in self.ports.get(&port).cloned().unwrap_or_default() {
            self.expire(now, key);
        }
        self.ports.get(&port).is_none_or(|keys| keys.iter().all(share))
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

/// How long Linux remembers a UDP flow that was never answered (`nf_conntrack_udp_timeout`).
pub(super) const UNREPLIED: Duration = Duration::from_secs(30);
/// Flows to its own host that a NAT remembers; those that come when it is full leave no trace.
const MAX_TAKEN_IN: usize = 65_536;

/// Ports of a block unless said otherwise: what carriers give a subscriber is between some hundreds and some thousands (RFC
/// 7422 §2.2 counts with 1,000).
pub(super) const BLOCK: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

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
    fn a_mapping_that_nothing_came_back_through_lives_shorter() {
        let open = Nat::new(Mapping::EndpointIndependent, Filtering::EndpointIndependent);
        let mut nat = NatBox::new(1, 0, OUTSIDE, open.unreplied(Duration::from_secs(30)));
        let port = nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap().from.port();
        assert_eq!(nat.inbound(at(30), remote(1, 7), port), Err(DropReason::NoMapping));
        let port = nat.outbound(at(40), INSIDE, remote(1, 7)).unwrap().from.port();
        assert_eq!(nat.inbound(at(60), remote(1, 7), port), Ok(INSIDE));
        assert_eq!(nat.inbound(at(179), remote(1, 7), port), Ok(INSIDE));
        assert_eq!(nat.inbound(at(180), remote(1, 7), port), Err(DropReason::NoMapping));
    }

    #[test]
    fn a_mapping_with_an_absolute_lifetime_dies_within_its_range_whatever_passes_and_gets_another_port() {
        let lifetimes = Duration::from_secs(48)..=Duration::from_secs(75);
        let mut nat = NatBox::new(1, 0, OUTSIDE, Nat::home().absolute(lifetimes));
        let (mut began, mut lives) = (0, Vec::new());
        nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap();
        for second in 1..5_000 {
            if nat.outbound(at(second), INSIDE, remote(1, 7)).unwrap().created {
                lives.push(second - began);
                began = second;
            }
        }
        assert!(lives.len() > 60 && lives.iter().all(|life| (48..=76).contains(life)), "{lives:?}");
        assert!(lives.iter().any(|life| *life < 55) && lives.iter().any(|life| *life > 68));
    }

    #[test]
    fn a_filter_that_has_a_time_of_its_own_forgets_whom_nothing_was_sent_to() {
        let mut nat = NatBox::new(1, 0, OUTSIDE, Nat::home().filter_lifetime(Duration::from_secs(20)));
        let port = nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap().from.port();
        nat.outbound(at(15), INSIDE, remote(2, 7)).unwrap();
        assert_eq!(nat.inbound(at(19), remote(1, 7), port), Ok(INSIDE));
        assert_eq!(nat.inbound(at(20), remote(1, 7), port), Err(DropReason::Filtered));
        assert_eq!(nat.inbound(at(34), remote(2, 7), port), Ok(INSIDE));
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
    fn sequential_ports_follow_each_other_by_the_stride_and_wrap_in_their_range() {
        for stride in [1, 2, -1, -7] {
            let config = Nat::symmetric().allocation(Allocation::Sequential).stride(stride).ports(2000..=2999);
            let mut nat = NatBox::new(1, 0, OUTSIDE, config);
            let ports: Vec<i64> =
                (0..200).map(|p| nat.outbound(at(0), INSIDE, remote(1, p)).unwrap().from.port().into()).collect();
            for two in ports.windows(2) {
                assert_eq!((two[1] - two[0] - i64::from(stride)).rem_euclid(1000), 0, "{stride}");
            }
            assert!(ports.iter().all(|p| (2000..=2999).contains(p)));
        }
    }

    #[test]
    fn a_sequential_port_that_is_taken_is_passed_over() {
        let config = Nat::symmetric().allocation(Allocation::Sequential).ports(2000..=2003);
        let mut nat = NatBox::new(1, 0, OUTSIDE, config);
        let mut ports: Vec<_> =
            (0..4).map(|p| nat.outbound(at(p), INSIDE, remote(1, p as u16)).unwrap().from).collect();
        assert_eq!(nat.outbound(at(5), INSIDE, remote(1, 9)), Err(DropReason::NoPort));
        // Only the second one has expired.
        for p in [0, 2, 3] {
            nat.outbound(at(60), INSIDE, remote(1, p)).unwrap();
        }
        assert_eq!(nat.outbound(at(125), INSIDE, remote(1, 9)).unwrap().from, ports[1]);
        ports.dedup();
        assert_eq!(ports.len(), 4);
    }

    #[test]
    fn others_behind_a_sequential_nat_take_ports_as_often_as_said() {
        for (every, within) in [(1000, 100), (100, 100), (10, 100), (1, 100)] {
            let config =
                Nat::symmetric().allocation(Allocation::Sequential).cross_traffic(Duration::from_millis(every));
            let mut nat = NatBox::new(7, 0, OUTSIDE, config.lifetime(Duration::from_millis(1)));
            let mut port = |n: u64| {
                let now = Instant::from_millis(n * within);
                i64::from(nat.outbound(now, INSIDE, remote(1, 1 + n as u16)).unwrap().from.port())
            };
            let (mut before, mut taken) = (port(0), Vec::new());
            for n in 1..400 {
                let next = port(n);
                taken.push((next - before - 1).rem_euclid(64_512));
                before = next;
            }
            let (sum, expected) = (taken.iter().sum::<i64>() as f64, 399.0 * within as f64 / every as f64);
            assert!((sum - expected).abs() <= 4.0 * expected.sqrt(), "{every}: {sum} of {expected}");
            assert_eq!(every == 1, taken.iter().all(|n| *n == 100), "beyond 16, just what is expected");
        }
    }

    #[test]
    fn each_inside_address_has_a_block_of_its_own() {
        let config = Nat::symmetric().allocation(Allocation::Block).block(100).ports(2000..=2399);
        let mut nat = NatBox::new(1, 0, OUTSIDE, config);
        let mut blocks = BTreeSet::new();
        for host in 2..6 {
            let inside = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), 4000);
            let ports: BTreeSet<_> =
                (0..100).map(|p| nat.outbound(at(0), inside, remote(1, p)).unwrap().from.port()).collect();
            assert_eq!(ports.len(), 100);
            assert_eq!(ports.last().unwrap() - ports.first().unwrap(), 99);
            assert!(blocks.insert(*ports.first().unwrap()));
            assert_eq!(nat.outbound(at(0), inside, remote(1, 100)), Err(DropReason::NoPort), "its block is full");
        }
        let fifth = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 4000);
        assert_eq!(nat.outbound(at(0), fifth, remote(1, 1)), Err(DropReason::NoPort), "all blocks are given");
        nat.reboot();
        assert!(nat.outbound(at(0), fifth, remote(1, 1)).is_ok());
    }

    #[test]
    fn an_overloading_nat_gives_one_port_to_two_hosts_that_talk_to_different_ends() {
        let neighbour = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 3), INSIDE.port());
        let mut nat = NatBox::new(1, 0, OUTSIDE, Nat::symmetric().allocation(Allocation::Overloading));
        let port = |out: Outbound| out.from.port();
        assert_eq!(port(nat.outbound(at(0), INSIDE, remote(1, 7)).unwrap()), INSIDE.port());
        assert_eq!(port(nat.outbound(at(0), neighbour, remote(2, 7)).unwrap()), INSIDE.port(), "another destination");
        assert_ne!(port(nat.outbound(at(0), neighbour, remote(1, 7)).unwrap()), INSIDE.port(), "the same one");
        assert_eq!(nat.inbound(at(0), remote(1, 7), INSIDE.port()), Ok(INSIDE));
        assert_eq!(nat.inbound(at(0), remote(2, 7), INSIDE.port()), Ok(neighbour));
        assert_eq!(nat.inbound(at(0), remote(3, 7), INSIDE.port()), Err(DropReason::Filtered));
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
    fn who_knocks_first_at_an_open_input_chain_shuts_the_hole_for_thirty_seconds() {
        let masquerade = Nat::symmetric().allocation(Allocation::Overloading);
        let (peer, other) = (remote(1, 7), remote(1, 8));
        for (open, after, kept) in [(true, 0, false), (true, 29, false), (true, 30, true), (false, 0, true)] {
            let mut nat = NatBox::new(1, 0, OUTSIDE, masquerade.clone().open_input(open));
            assert_eq!(nat.inbound(at(0), peer, INSIDE.port()), Err(DropReason::NoMapping));
            let mut port = |to| nat.outbound(at(after), INSIDE, to).unwrap().from.port();
            assert_eq!(port(other), INSIDE.port(), "another flow is not concerned");
            assert_eq!(port(peer) == INSIDE.port(), kept, "open: {open}, after {after} s");
        }
        let mut first = NatBox::new(1, 0, OUTSIDE, masquerade.open_input(true));
        assert_eq!(first.outbound(at(0), INSIDE, peer).unwrap().from.port(), INSIDE.port());
        assert_eq!(first.inbound(at(0), peer, INSIDE.port()), Ok(INSIDE), "who sends first is not harmed");
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
