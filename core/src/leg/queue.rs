//! What waits to be written to one stream. The driver has one frame at most, partly written; the others are here.
//!
//! - **This end's own packets** are sealed late: a link is asked for the next one only while [`FrameQueue::has_room`], so what is
//!   urgent overtakes what is not up to the last moment, and nothing that was sealed ever has to be thrown away. Unreliable
//!   messages grow old above, in the transport, which drops them after 100 ms on such a leg.
//! - **Relayed packets** come at somebody else's pace. They hold at most [`RELAYED`] bytes; what is too much goes from the head,
//!   as the oldest of a game's packets is worth the least, and whoever sent it sees the gap.
//! - Own packets go before relayed ones, so that membership is not stuck behind traffic; one in [`TURN`] is a relayed one.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::frame::{MAX_FRAME, PREFIX, prefix};
use crate::ids::StreamId;
use crate::machine::Ecn;
use crate::outbox::{Outbox, Transmit, Via};
use crate::transport::Usage;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes of own frames that wait, from which on no more are made: the next two full ones, so that a stream which takes one does not
/// wait for the next to be sealed.
const OWN: usize = 2 * MAX_FRAME;
/// Bytes of relayed frames that wait at most, with [`OVERHEAD`] for each: 100 ms of 5 Mb/s.
const RELAYED: usize = 64 << 10;
/// What a frame costs beside its bytes.
const OVERHEAD: usize = 32;
/// So many own frames in a row may go before relayed ones.
const TURN: u8 = 4;
/// Spare buffers that are kept for further frames.
const SPARE: usize = 8;

/// See the module's text.
#[derive(Default)]
pub(crate) struct FrameQueue {
    own: VecDeque<Vec<u8>>,
    own_bytes: usize,
    relayed: VecDeque<Vec<u8>>,
    relayed_cost: usize,
    spare: Vec<Vec<u8>>,
    /// Own frames in a row while relayed ones waited.
    in_a_row: u8,
    /// The driver has a frame that it has not written completely.
    handed: bool,
}

impl FrameQueue {
    /// Whether another packet of this end may be sealed.
    pub(crate) fn has_room(&self) -> bool {
        self.own_bytes < OWN
    }

    /// Queues a packet of this end. One is always taken.
    pub(crate) fn push(&mut self, packet: &[u8]) {
        let frame = self.frame(packet);
        self.own_bytes = self.own_bytes.saturating_add(packet.len());
        self.own.push_back(frame);
    }

    /// Queues a packet that is only passed on. Says how many made way for it.
    pub(crate) fn relay(&mut self, packet: &[u8]) -> u64 {
        let frame = self.frame(packet);
        self.relayed_cost = self.relayed_cost.saturating_add(cost(&frame));
        self.relayed.push_back(frame);
        let mut dropped = 0u64;
        while self.relayed_cost > RELAYED
            && let Some(oldest) = self.relayed.pop_front()
        {
            self.relayed_cost = self.relayed_cost.saturating_sub(cost(&oldest));
            self.recycle(oldest);
            dropped = dropped.saturating_add(1);
        }
        dropped
    }

    /// What it takes, of what it may.
    pub(crate) fn usage(&self) -> Usage {
        let used = self.own_bytes.saturating_add(self.relayed_cost);
        // One packet is always taken, and a last word.
        Usage { used, budget: OWN.saturating_add(RELAYED).saturating_add(2 * MAX_FRAME) }
    }

    /// The driver has written what it was handed.
    pub(crate) fn on_written(&mut self) {
        self.handed = false;
    }

    /// Whether [`Self::transmit`] would hand something over.
    pub(crate) fn is_due(&self) -> bool {
        !self.handed && !self.is_empty()
    }

    /// Whether nothing waits; the driver may still hold a frame.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.relayed.is_empty()
    }

    /// Whether everything was written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.is_empty() && !self.handed
    }

    /// Hands the next frame over, if the driver has none and there is room.
    pub(crate) fn transmit(&mut self, id: StreamId, out: &mut Outbox) {
        if !self.is_due() {
            return;
        }
        let own = !self.own.is_empty() && (self.in_a_row < TURN || self.relayed.is_empty());
        let Some(frame) = (if own { self.own.front() } else { self.relayed.front() }) else { return };
        let (Some(length), len) = (prefix(frame.len()), PREFIX.saturating_add(frame.len())) else { return };
        let Some((to, rest)) = out.reserve(len).and_then(|space| space.split_first_chunk_mut::<PREFIX>()) else {
            return;
        };
        *to = length;
        rest.copy_from_slice(frame);
        out.commit(len, Transmit { via: Via::Stream(id), ecn: Ecn::NotCapable, segment: None });
        self.handed = true;
        let frame = if own {
            self.in_a_row = if self.relayed.is_empty() { 0 } else { self.in_a_row.saturating_add(1) };
            self.own.pop_front()
        } else {
            self.in_a_row = 0;
            self.relayed.pop_front()
        };
        let frame = frame.unwrap_or_default();
        if own {
            self.own_bytes = self.own_bytes.saturating_sub(frame.len());
        } else {
            self.relayed_cost = self.relayed_cost.saturating_sub(cost(&frame));
        }
        self.recycle(frame);
    }

    fn frame(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        frame.extend_from_slice(packet);
        frame
    }

    fn recycle(&mut self, frame: Vec<u8>) {
        if self.spare.len() < SPARE {
            self.spare.push(frame);
        }
    }
}

fn cost(frame: &[u8]) -> usize {
    frame.len().saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    const STREAM: StreamId = StreamId(7);

    fn handed(queue: &mut FrameQueue) -> Option<Vec<u8>> {
        let mut out = Outbox::with_capacity(4 << 10, 4);
        queue.transmit(STREAM, &mut out);
        let frame = out.sends().next().map(|(transmit, bytes)| {
            assert_eq!(transmit.via, Via::Stream(STREAM));
            assert_eq!(prefix(bytes.len() - PREFIX).unwrap(), bytes[..PREFIX]);
            bytes[PREFIX..].to_vec()
        });
        assert!(out.sends().count() <= 1);
        frame
    }

    #[test]
    fn the_driver_gets_the_next_frame_only_when_the_one_before_is_written() {
        let mut queue = FrameQueue::default();
        queue.push(&[1; 10]);
        queue.push(&[2; 10]);
        assert_eq!(handed(&mut queue), Some(vec![1; 10]));
        assert_eq!((handed(&mut queue), queue.is_due()), (None, false));
        queue.on_written();
        assert_eq!(handed(&mut queue), Some(vec![2; 10]));
        assert!(queue.is_empty() && !queue.is_flushed());
        queue.on_written();
        assert!(queue.is_flushed());
    }

    #[test]
    fn membership_does_not_wait_behind_traffic_and_traffic_is_not_starved() {
        let mut queue = FrameQueue::default();
        assert!((0..10).all(|_| queue.relay(&[9; 100]) == 0));
        let mut order = vec![];
        for n in 0..10 {
            queue.push(&[n; 50]);
            order.push(handed(&mut queue).unwrap()[0]);
            queue.on_written();
        }
        assert_eq!(order, [0, 1, 2, 3, 9, 4, 5, 6, 7, 9]);
    }

    #[test]
    fn own_packets_are_made_late_and_none_is_thrown_away() {
        let mut queue = FrameQueue::default();
        let mut made = 0;
        while queue.has_room() {
            queue.push(&[0; MAX_FRAME]);
            made += 1;
        }
        assert_eq!((made, queue.relay(&[1; 100])), (2, 0));
    }

    #[test]
    fn an_outbox_without_room_is_asked_again() {
        let mut queue = FrameQueue::default();
        queue.push(&[1; 100]);
        queue.transmit(STREAM, &mut Outbox::with_capacity(101, 4));
        assert!(queue.is_due());
    }

    proptest! {
        #[test]
        fn relayed_packets_stay_below_their_bound_and_go_from_the_head(
            sizes in proptest::collection::vec((1usize..=MAX_FRAME, any::<bool>()), 1..300),
        ) {
            let mut queue = FrameQueue::default();
            let mut model: VecDeque<(u16, usize)> = VecDeque::new();
            for (n, (size, write)) in sizes.into_iter().enumerate() {
                let mut packet = vec![0; size.max(2)];
                packet[..2].copy_from_slice(&(n as u16).to_be_bytes());
                model.push_back((n as u16, packet.len()));
                let dropped = queue.relay(&packet);
                model.drain(..dropped as usize);
                let held: usize = model.iter().map(|(_, len)| len + OVERHEAD).sum();
                prop_assert!(held <= RELAYED);
                prop_assert!(dropped == 0 || held + 2 * (MAX_FRAME + OVERHEAD) > RELAYED, "none is dropped for nothing");
                if write {
                    queue.on_written();
                    let next = model.pop_front().map(|(n, _)| n);
                    prop_assert_eq!(handed(&mut queue).map(|f| u16::from_be_bytes([f[0], f[1]])), next);
                }
            }
        }
    }
}
