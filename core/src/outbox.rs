//! The caller's memory for what a machine sends: one arena, filled front to back and never grown.
//!
//! A machine reserves room, writes a datagram into it, and commits. Committed is sent: there is no way back, and loss
//! recovery covers a driver that failed. Datagrams of equal size to one destination that are committed one after another
//! become one send of several segments (GSO); such a batch grows only at its end, so nothing is reordered, and a shorter
//! datagram closes it.

use crate::ids::{SocketId, StreamId};
use crate::machine::{Ecn, Room};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// How one datagram, or a run of equal ones, leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Socket and destination, or stream.
    pub via: Via,
    /// Explicit congestion notification to set.
    pub ecn: Ecn,
    /// Length in bytes of each segment but the last, when there is more than one.
    pub segment: Option<u16>,
}

/// Where a transmit leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// By a datagram socket.
    Datagram {
        /// Which.
        socket: SocketId,
        /// Destination.
        to: SocketAddr,
        /// Source address, on a host that has several.
        from: Option<IpAddr>,
        /// Hop limit of these datagrams alone, else the socket's.
        hop_limit: Option<u8>,
    },
    /// By a byte stream.
    Stream(StreamId),
}

impl Transmit {
    /// A datagram from `socket` to `to` with nothing special.
    pub const fn datagram(socket: SocketId, to: SocketAddr) -> Self {
        Self { via: Via::Datagram { socket, to, from: None, hop_limit: None }, ecn: Ecn::NotCapable, segment: None }
    }
}

struct Send {
    transmit: Transmit,
    start: usize,
    end: usize,
    segments: u16,
    /// No segment may follow: the last one was shorter than the others.
    closed: bool,
}

/// See the module's text.
pub struct Outbox {
    arena: Vec<u8>,
    used: usize,
    reserved: usize,
    sends: Vec<Send>,
    max_sends: usize,
    max_segments: u16,
}

impl Outbox {
    /// An outbox that holds up to `bytes` bytes in up to `sends` sends, one segment each until
    /// [`Self::set_max_segments`] says otherwise. Allocates here and nowhere else.
    pub fn with_capacity(bytes: usize, sends: usize) -> Self {
        Self {
            arena: vec![0; bytes],
            used: 0,
            reserved: 0,
            sends: Vec::with_capacity(sends),
            max_sends: sends,
            max_segments: 1,
        }
    }

    /// How many segments one send may carry; what the socket said it can. At least 1.
    pub fn set_max_segments(&mut self, segments: u16) {
        self.max_segments = segments.max(1);
    }

    /// How many segments one send may carry.
    pub(crate) fn max_segments(&self) -> u16 {
        self.max_segments
    }

    /// Bytes that can still be reserved; 0 when no further send can be taken.
    pub fn room(&self) -> usize {
        // A full list of sends may still take a segment at its end, which a machine cannot count on.
        if self.sends.len() >= self.max_sends { 0 } else { self.arena.len() - self.used }
    }

    /// The same, in full, for a recorder.
    pub fn state(&self) -> Room {
        Room { bytes: self.room(), sends: self.max_sends - self.sends.len(), segments: self.max_segments }
    }

    /// The next `max` bytes to write into, or `None` if there is not that much room. A second call replaces the first.
    pub fn reserve(&mut self, max: usize) -> Option<&mut [u8]> {
        if max > self.room() {
            return None;
        }
        self.reserved = max;
        self.arena.get_mut(self.used..self.used + max)
    }

    /// Sends the first `len` bytes of what was last reserved. `len` beyond that, or 0, sends nothing; `to.segment` is
    /// the outbox's to set and is ignored.
    pub fn commit(&mut self, len: usize, to: Transmit) {
        if len == 0 || len > self.reserved {
            self.reserved = 0;
            return;
        }
        self.reserved = 0;
        let start = self.used;
        self.used += len;
        let max_segments = self.max_segments;
        if let Some(last) = self.sends.last_mut() {
            let segment = last.transmit.segment.map_or(last.end - last.start, usize::from);
            let alike = last.transmit.via == to.via && last.transmit.ecn == to.ecn;
            let fits = last.segments < max_segments && !last.closed && len <= segment;
            if let (true, true, Ok(size)) = (alike, fits, u16::try_from(segment)) {
                last.transmit.segment = Some(size);
                last.end = self.used;
                last.segments += 1;
                last.closed = len < segment;
                return;
            }
        }
        let transmit = Transmit { segment: None, ..to };
        self.sends.push(Send { transmit, start, end: self.used, segments: 1, closed: false });
    }

    /// What was committed, in order.
    pub fn sends(&self) -> impl Iterator<Item = (&Transmit, &[u8])> {
        self.sends.iter().map(|s| (&s.transmit, self.arena.get(s.start..s.end).unwrap_or_default()))
    }

    /// Whether nothing was committed.
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.used = 0;
        self.reserved = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> Transmit {
        Transmit::datagram(SocketId::MAIN, SocketAddr::from(([10, 0, 0, 1], port)))
    }

    fn put(out: &mut Outbox, len: usize, to: Transmit) {
        out.reserve(len).unwrap().fill(len as u8);
        out.commit(len, to);
    }

    #[test]
    fn equal_datagrams_to_one_destination_become_one_send_that_a_shorter_one_closes() {
        let mut out = Outbox::with_capacity(10_000, 8);
        out.set_max_segments(8);
        for len in [100, 100, 40, 100] {
            put(&mut out, len, to(1));
        }
        let sends: Vec<_> = out.sends().map(|(t, b)| (t.segment, b.len())).collect();
        assert_eq!(sends, [(Some(100), 240), (None, 100)]);
    }

    #[test]
    fn a_batch_grows_only_at_its_end_so_flows_are_never_reordered() {
        let mut out = Outbox::with_capacity(10_000, 8);
        out.set_max_segments(8);
        for port in [1, 2, 1, 1] {
            put(&mut out, 100, to(port));
        }
        assert_eq!(out.sends().map(|(_, b)| b.len()).collect::<Vec<_>>(), [100, 100, 200]);
    }

    #[test]
    fn a_larger_datagram_and_a_full_batch_begin_a_new_send() {
        let mut out = Outbox::with_capacity(10_000, 8);
        out.set_max_segments(2);
        for len in [100, 101, 101, 101] {
            put(&mut out, len, to(1));
        }
        assert_eq!(out.sends().map(|(_, b)| b.len()).collect::<Vec<_>>(), [100, 202, 101]);
    }

    #[test]
    fn it_never_grows_and_refuses_what_does_not_fit() {
        let mut out = Outbox::with_capacity(250, 2);
        put(&mut out, 100, to(1));
        assert!(out.reserve(151).is_none());
        put(&mut out, 100, to(2));
        assert_eq!((out.room(), out.reserve(1).is_none()), (0, true));
        out.clear();
        assert_eq!(out.room(), 250);
    }

    #[test]
    fn a_commit_beyond_the_reservation_sends_nothing() {
        let mut out = Outbox::with_capacity(250, 2);
        out.reserve(10);
        out.commit(11, to(1));
        out.commit(10, to(1));
        assert!(out.is_empty());
    }
}
