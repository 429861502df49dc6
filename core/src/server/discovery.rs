//! What a server finds out about the NAT in front of a client, after RFC 5780 §4: by its own eyes, at several addresses of
//! its own. One [`Discovery`] a session; it moves no packets.
//!
//! **Filtering** first, as packets sent out would change it: the server *knocks* from each of its other doors at the
//! address that the client's session is at, to which nothing went out from there. Who hears a knock from another port lets in
//! whom it has sent anything; who hears none lets in only the very endpoint it has sent to.
//!
//! **Mapping** then: the client sends something to each door, and the server sees which port it comes from. One port for all
//! is endpoint-independent mapping; one an address is address-dependent; one a port is address-and-port-dependent. A NAT
//! that keeps inside ports shows one port to all, whatever it does inside, and counts as what it looks like.
//!
//! **Allocation** last and only when it is needed, as it takes sockets: ports that several new sockets were given one after
//! another are a sequence, lie close together, or neither ([`Allocation::of`]).

use crate::config::Doors;
use crate::ids::SocketId;
use crate::time::{Duration, Instant};
use core::net::SocketAddr;

/// Knocks at each door, …
const KNOCKS: u32 = 3;
/// … so long after the doors were told, and so long apart: three in a row are lost together once in 8,000 at 5 %.
const KNOCK_INTERVAL: Duration = Duration::from_millis(150);
/// What has not been seen by then counts as not to be seen: a client begins to ask after 0.8 s and asks four times.
const PATIENCE: Duration = Duration::from_secs(4);

/// Sequential ports are at most so far apart for each that was given to somebody else in between, and in sum no more than this:
/// by chance, four ports are that close one after the other once in a million.
const WIDEST_STEP: u32 = 512;
/// Ports of one host that lie no farther apart than this come from a block of its own: by chance, four do once in 8,000.
const WIDEST_BLOCK: u16 = 2048;

/// When a NAT uses the same port for another destination (RFC 4787 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Mapping {
    /// For every destination; also where there is no NAT.
    Same,
    /// For every port of one address.
    ByAddress,
    /// For the very same address and port only ("symmetric").
    ByAddressAndPort,
}

/// How the NAT in front of a client behaves, seen from the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Behaviour {
    /// When it uses the same port for another destination.
    pub mapping: Mapping,
    /// Whether it lets in only the very endpoints that were sent to (RFC 4787 §5).
    pub strict: bool,
}

impl Behaviour {
    /// As it was told by whoever found it out.
    pub const fn new(mapping: Mapping, strict: bool) -> Self {
        Self { mapping, strict }
    }
}

/// See the module's text.
pub(super) struct Discovery {
    began: Instant,
    doors: [bool; 3],
    /// Which door heard the client from where, and which was heard.
    seen: [Option<SocketAddr>; 3],
    heard: [bool; 3],
    knocks: u32,
    next: Instant,
}

impl Discovery {
    /// Begins anew, or at all: the client is at an address of which nothing is known.
    pub(super) fn new(now: Instant, doors: &Doors) -> Self {
        let mut there = [false; 3];
        for (socket, _) in doors.iter() {
            if let Some(door) = index(socket).and_then(|i| there.get_mut(i)) {
                *door = true;
            }
        }
        let knocks = if there.contains(&true) { KNOCKS * 3 } else { 0 };
        Self { began: now, doors: there, seen: [None; 3], heard: [false; 3], knocks, next: now + KNOCK_INTERVAL }
    }

    /// The door to knock from next, if it is time.
    pub(super) fn knock(&mut self, now: Instant) -> Option<SocketId> {
        while self.knocks > 0 && now >= self.next {
            self.knocks -= 1;
            let door = self.knocks as usize % 3;
            if door == 0 {
                self.next = now + KNOCK_INTERVAL;
            }
            if self.doors.get(door) == Some(&true) {
                return Doors::SOCKETS.get(door).copied();
            }
        }
        None
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        (self.knocks > 0).then_some(self.next)
    }

    /// The client heard a knock from this door.
    pub(super) fn on_heard(&mut self, door: u8) {
        if let Some(heard) = index(SocketId(door.into())).and_then(|i| self.heard.get_mut(i)) {
            *heard = true;
        }
    }

    /// The client was heard at this door, from there.
    pub(super) fn on_seen(&mut self, door: SocketId, from: SocketAddr) {
        if let Some(seen) = index(door).and_then(|i| self.seen.get_mut(i)) {
            *seen = Some(from);
        }
    }

    /// Whether nothing more will be seen.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        !self.doors.contains(&true) || now >= self.began + PATIENCE
    }

    /// What is known of the NAT of a client that the main door sees at `main`. `None` if that is not enough.
    pub(super) fn behaviour(&self, now: Instant, main: SocketAddr) -> Option<Behaviour> {
        let missing = self.doors.iter().zip(&self.seen).any(|(there, seen)| *there && seen.is_none());
        if missing && now < self.began + PATIENCE {
            return None;
        }
        let [port, address, both] = self.seen;
        let by_port = [port.map(|p| p != main), both.zip(address).map(|(b, a)| b != a)];
        let by_address = address.or(both).map(|a| a != main);
        let mapping = match (by_port.contains(&Some(true)), by_port.contains(&Some(false)), by_address) {
            (true, _, _) => Mapping::ByAddressAndPort,
            (false, true, Some(true)) => Mapping::ByAddress,
            (false, _, Some(false)) => Mapping::Same,
            // One address only, or one port of each only: two kinds look alike.
            (false, _, _) => return None,
        };
        Some(Behaviour { mapping, strict: !self.heard.contains(&true) })
    }
}

fn index(door: SocketId) -> Option<usize> {
    Doors::SOCKETS.iter().position(|socket| *socket == door)
}

/// How a NAT gives out ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allocation {
    /// Each after the one before, by this much.
    Sequential(i16),
    /// Somewhere from the first to the second.
    Within(u16, u16),
}

/// Ports below this are given out by no NAT that is known.
const FIRST_PORT: u16 = 1024;

impl Allocation {
    /// From the ports that new sockets were given one after another; at least three.
    pub(super) fn of(ports: &[u16]) -> Self {
        let steps = || ports.windows(2).map(|two| i32::from(two[1]) - i32::from(two[0]));
        let least = steps().min_by_key(|step| step.unsigned_abs()).unwrap_or(0);
        let follows =
            |step: i32| step.signum() == least.signum() && step % least == 0 && step.unsigned_abs() <= WIDEST_STEP;
        if ports.len() > 2 && least != 0 && steps().all(follows) {
            return Self::Sequential(least as i16);
        }
        let (lowest, highest) =
            (ports.iter().min().copied().unwrap_or(0), ports.iter().max().copied().unwrap_or(u16::MAX));
        if ports.len() > 2 && highest - lowest < WIDEST_BLOCK {
            let first = highest.saturating_sub(WIDEST_BLOCK - 1).max(FIRST_PORT.min(lowest));
            return Self::Within(first, lowest.saturating_add(WIDEST_BLOCK - 1));
        }
        Self::Within(FIRST_PORT, u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 7], port))
    }

    fn doors(all: [bool; 3]) -> Doors {
        let [second_port, second_address, second_address_port] = all.map(|there| there.then(|| at(9)));
        Doors { second_port, second_address, second_address_port }
    }

    fn seen(ports: [Option<u16>; 3]) -> Option<Mapping> {
        let mut discovery = Discovery::new(Instant::ZERO, &doors(ports.map(|p| p.is_some())));
        for (door, port) in Doors::SOCKETS.into_iter().zip(ports) {
            port.into_iter().for_each(|port| discovery.on_seen(door, at(port)));
        }
        discovery.behaviour(Instant::ZERO, at(1)).map(|known| known.mapping)
    }

    #[test]
    fn with_two_addresses_every_mapping_is_named_and_with_one_two_look_alike() {
        assert_eq!(seen([Some(1), Some(1), Some(1)]), Some(Mapping::Same));
        assert_eq!(seen([Some(1), Some(2), Some(2)]), Some(Mapping::ByAddress));
        assert_eq!(seen([Some(2), Some(3), Some(4)]), Some(Mapping::ByAddressAndPort));
        assert_eq!(seen([Some(1), None, None]), None);
        assert_eq!(seen([Some(2), None, None]), Some(Mapping::ByAddressAndPort));
        assert_eq!(seen([None, Some(1), None]), Some(Mapping::Same));
        assert_eq!(seen([None, Some(2), None]), None);
        assert_eq!(seen([None, None, None]), None);
    }

    #[test]
    fn it_waits_for_every_door_but_not_for_ever() {
        let mut discovery = Discovery::new(Instant::ZERO, &doors([true; 3]));
        discovery.on_seen(SocketId(1), at(2));
        assert_eq!(discovery.behaviour(Instant::ZERO, at(1)), None);
        let late = discovery.behaviour(Instant::ZERO + PATIENCE, at(1));
        assert_eq!(late, Some(Behaviour { mapping: Mapping::ByAddressAndPort, strict: true }));
        discovery.on_heard(2);
        assert_eq!(discovery.behaviour(Instant::ZERO + PATIENCE, at(1)).map(|known| known.strict), Some(false));
        discovery.on_heard(0);
        discovery.on_seen(SocketId(4), at(1));
    }

    #[test]
    fn every_door_that_there_is_knocks_thrice() {
        let mut discovery = Discovery::new(Instant::ZERO, &doors([true, false, true]));
        let mut knocks = Vec::new();
        while let Some(at) = discovery.wake() {
            while let Some(door) = discovery.knock(at) {
                knocks.push((at, door));
            }
        }
        let times: Vec<_> = knocks.iter().map(|(at, _)| *at).collect();
        assert_eq!(knocks.iter().filter(|(_, door)| *door == SocketId(1)).count(), 3);
        assert_eq!(knocks.iter().filter(|(_, door)| *door == SocketId(3)).count(), 3);
        assert_eq!(knocks.len(), 6);
        assert!(times.is_sorted() && times[5].since(times[0]) == KNOCK_INTERVAL * 2);
    }

    #[test]
    fn a_sequence_is_known_among_others_mappings_and_so_is_a_block() {
        assert_eq!(Allocation::of(&[5000, 5001, 5002, 5003]), Allocation::Sequential(1));
        assert_eq!(Allocation::of(&[5000, 5004, 5006, 5010]), Allocation::Sequential(2));
        assert_eq!(Allocation::of(&[5000, 4993, 4986, 4972]), Allocation::Sequential(-7));
        assert_eq!(Allocation::of(&[5000, 5007, 5010, 5300]), Allocation::Within(3253, 7047));
        assert_eq!(Allocation::of(&[5000, 40_000, 6000, 5003]), Allocation::Within(1024, 65_535));
        assert_eq!(Allocation::of(&[5000, 5001]), Allocation::Within(1024, 65_535), "that may be chance");
        assert_eq!(Allocation::of(&[65_000, 65_001, 65_300, 65_100]), Allocation::Within(63_253, 65_535));
        assert_eq!(Allocation::of(&[7, 7, 7]), Allocation::Within(7, 2054));
    }

    proptest! {
        #[test]
        fn ports_of_a_block_lie_in_what_is_taken_for_it(first in 1024u16..=64_511, at in prop::collection::vec(0u16..1024, 3..8)) {
            let ports: Vec<_> = at.iter().map(|n| first + n).collect();
            if let Allocation::Within(low, high) = Allocation::of(&ports) {
                prop_assert!(low <= first && high >= first + 1023);
            }
        }

        #[test]
        fn any_ports_are_taken_for_something(ports in prop::collection::vec(any::<u16>(), 0..10)) {
            match Allocation::of(&ports) {
                Allocation::Sequential(stride) => prop_assert!(stride != 0),
                Allocation::Within(low, high) => prop_assert!(low <= high),
            }
        }
    }
}
