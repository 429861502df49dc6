//! Packets that outran the join that names their sender.
//!
//! The server tells a client of a peer before it forwards that peer's packets, but the network may reorder the two or lose
//! the first. Packets from the server's address that no known link claims wait here for a moment. Losing one costs latency
//! only: its sender repeats what is reliable.

use crate::path::Way;
use crate::time::{Duration, Instant};
use crate::wire::header::{self, Kind};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Packets held, by count: a first flight to a group of 16, or one peer's initial window and a little.
const PACKETS: usize = 16;

/// Packets are held so long: a join that was lost comes again within the longest probe timeout, 2 s.
const KEEP: Duration = Duration::from_secs(2);

/// Largest packet held, bytes: what an Ethernet frame carries.
const LARGEST: usize = 1500;

#[derive(Default)]
pub(super) struct Stash {
    packets: VecDeque<(Instant, Way, Vec<u8>)>,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

impl Stash {
    /// Holds a copy; the oldest packet makes way.
    pub(super) fn hold(&mut self, now: Instant, from: Way, packet: &[u8]) {
        if packet.len() > LARGEST {
            return;
        }
        self.expire(now);
        if self.packets.len() >= PACKETS {
            self.drop_oldest();
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.packets.push_back((now, from, buffer));
    }

    /// The oldest held packet that carries this connection id, and where it came from.
    pub(super) fn take(&mut self, now: Instant, id: u64) -> Option<(Way, Vec<u8>)> {
        self.expire(now);
        let claimed = |packet: &[u8]| matches!(header::classify(packet), Some(Kind::Short { cid }) if cid == id);
        let at = self.packets.iter().position(|(.., packet)| claimed(packet))?;
        self.packets.remove(at).map(|(_, from, packet)| (from, packet))
    }

    /// Takes a buffer back.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < PACKETS {
            self.spare.push(buffer);
        }
    }

    fn expire(&mut self, now: Instant) {
        while self.packets.front().is_some_and(|(at, ..)| *at + KEEP < now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((.., buffer)) = self.packets.pop_front() {
            self.recycle(buffer);
        }
    }
}
