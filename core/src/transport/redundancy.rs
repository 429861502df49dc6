//! Interactive redundancy: small reliable messages ride again in the next packets before anybody knows of a loss.
//!
//! A game that sends 64 bytes every 17 ms has three or four messages under way at a round trip of 50 ms. If one is lost,
//! the acknowledgement that would tell comes a round trip later, while three packets with room to spare have left in the
//! meantime. So each of them also carries what went before: a loss then costs one interval between sends.
//!
//! - Only pieces of up to [`SMALL`] bytes ride, only in packets that leave anyway, and only in the room that new data
//!   leaves. Bulk fills its packets and therefore pays nothing.
//! - How often a piece rides follows the measured share of lost packets ([`LossRate::copies`]): that is the budget. On a
//!   path that loses nothing it comes to nothing.
//! - A piece that was acknowledged, or is as old as a probe timeout, rides no more: then loss recovery has the word.
//!
//! RFC 9002 knows nothing of this and need not: copies are frames like any other, counted in flight, and acknowledged by
//! any packet that carried them.

use super::space::Piece;
use crate::time::{Duration, Instant};
use alloc::collections::VecDeque;

/// Largest piece that rides, bytes: an input or a state change of a game. Larger ones fill packets by themselves.
const SMALL: u64 = 256;

/// Pieces that wait to ride: three copies of ten small messages a packet. The oldest go first.
const MAX_RIDERS: usize = 32;

/// Least time between two copies, whatever the round trip: packets of one instant share one burst of losses.
const MIN_SPACING: Duration = Duration::from_millis(1);
/// Most time between two copies: a game loop of 60 Hz must not miss its next packet.
const MAX_SPACING: Duration = Duration::from_millis(8);

/// Packets over which the loss rate is averaged: short enough to notice a bad Wi-Fi minute at 60 Hz, long enough for 1 %
/// to show.
const MEMORY: u32 = 512;
/// What is assumed before anything was measured, in millionths.
const ASSUMED: u32 = 10_000;
/// Share of lost packets from which on a piece rides once, twice, three times, in millionths. At each of them, what is
/// lost with all its copies is below one message in ten thousand.
const RIDES_FROM: [u32; 3] = [2_500, 20_000, 80_000];

/// The share of packets that were lost: a moving average.
#[derive(Clone, Debug)]
pub(super) struct LossRate {
    millionths: u32,
}

impl LossRate {
    pub(super) const fn new() -> Self {
        Self { millionths: ASSUMED }
    }

    pub(super) fn on_acked(&mut self) {
        self.millionths -= self.millionths / MEMORY;
    }

    pub(super) fn on_lost(&mut self) {
        self.millionths += (1_000_000 - self.millionths) / MEMORY;
    }

    /// What was taken for lost had only been late.
    pub(super) fn on_spurious(&mut self) {
        self.millionths = self.millionths.saturating_sub((1_000_000 - self.millionths) / MEMORY);
    }

    /// In millionths.
    #[cfg(test)]
    pub(super) fn millionths(&self) -> u32 {
        self.millionths
    }

    /// How often a small piece rides beside the packet that it was sent in.
    fn copies(&self) -> u8 {
        RIDES_FROM.iter().map(|&from| u8::from(self.millionths >= from)).sum()
    }
}

#[derive(Clone, Debug)]
struct Rider {
    piece: Piece,
    /// When it was first sent.
    first: Instant,
    /// When it last was.
    last: Instant,
    rides: u8,
}

/// What was sent lately on one path and may ride again.
#[derive(Clone, Debug)]
pub(super) struct Redundancy {
    riders: VecDeque<Rider>,
    pub(super) loss: LossRate,
}

impl Redundancy {
    pub(super) const fn new() -> Self {
        Self { riders: VecDeque::new(), loss: LossRate::new() }
    }

    /// A piece went into a packet in the ordinary way.
    pub(super) fn on_sent(&mut self, now: Instant, piece: Piece) {
        if piece.end.saturating_sub(piece.start) > SMALL || self.loss.copies() == 0 {
            return;
        }
        if self.riders.len() >= MAX_RIDERS {
            self.riders.pop_front();
        }
        self.riders.push_back(Rider { piece, first: now, last: now, rides: 0 });
    }

    /// Offers what may ride now to `write`, the oldest first, as long as it says that there was room. `write` says `None`
    /// of what is acknowledged.
    pub(super) fn ride(&mut self, now: Instant, rtt: Duration, pto: Duration, mut write: impl FnMut(Piece) -> Ride) {
        let copies = self.loss.copies();
        let spacing = (rtt / 8).clamp(MIN_SPACING, MAX_SPACING);
        let mut room = true;
        self.riders.retain_mut(|rider| {
            if rider.rides >= copies || now.since(rider.first) >= pto {
                return false;
            }
            if !room || now.since(rider.last) < spacing {
                return true;
            }
            match write(rider.piece) {
                Ride::Written => {
                    rider.rides += 1;
                    rider.last = now;
                    rider.rides < copies
                }
                Ride::NoRoom => {
                    room = false;
                    true
                }
                Ride::Settled => false,
            }
        });
    }

    /// What was sent goes another way now.
    pub(super) fn clear(&mut self) {
        self.riders.clear();
    }
}

/// What became of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ride {
    /// It is in the packet.
    Written,
    /// The packet is full.
    NoRoom,
    /// Nobody waits for it any more.
    Settled,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn piece(seq: u64, len: u64) -> Piece {
        Piece { scope: 0, seq, start: 0, end: len }
    }

    fn losing(loss: u32) -> Redundancy {
        let mut redundancy = Redundancy::new();
        redundancy.loss.millionths = loss;
        redundancy
    }

    /// The numbers of the pieces that ride in a packet with room for `room` of them.
    fn ridden(redundancy: &mut Redundancy, at: u64, room: usize) -> alloc::vec::Vec<u64> {
        let mut all = alloc::vec::Vec::new();
        redundancy.ride(Instant::from_millis(at), ms(50), ms(70), |p| {
            if all.len() == room {
                return Ride::NoRoom;
            }
            all.push(p.seq);
            Ride::Written
        });
        all
    }

    #[test]
    fn a_small_piece_rides_in_as_many_later_packets_as_the_loss_asks_for() {
        for (loss, copies) in [(0, 0), (2_499, 0), (2_500, 1), (20_000, 2), (80_000, 3), (900_000, 3)] {
            let mut redundancy = losing(loss);
            redundancy.on_sent(Instant::from_millis(0), piece(7, 64));
            let rides: usize = (1..=4).map(|n| ridden(&mut redundancy, 16 * n, 9).len()).sum();
            assert_eq!(rides, copies, "{loss}");
        }
    }

    #[test]
    fn large_pieces_old_ones_and_the_packets_of_one_instant_are_left_out() {
        let mut redundancy = losing(30_000);
        redundancy.on_sent(Instant::from_millis(0), piece(1, SMALL + 1));
        redundancy.on_sent(Instant::from_millis(0), piece(2, SMALL));
        assert!(ridden(&mut redundancy, 1, 9).is_empty(), "too soon");
        assert_eq!(ridden(&mut redundancy, 10, 9), [2]);
        assert!(ridden(&mut redundancy, 70, 9).is_empty(), "a probe timeout old");
    }

    #[test]
    fn the_oldest_ride_first_and_what_finds_no_room_rides_later() {
        let mut redundancy = losing(10_000);
        (0..5).for_each(|n| redundancy.on_sent(Instant::from_millis(n), piece(n, 10)));
        assert_eq!(ridden(&mut redundancy, 20, 2), [0, 1]);
        assert_eq!(ridden(&mut redundancy, 21, 9), [2, 3, 4]);
        assert!(redundancy.riders.is_empty());
    }

    #[test]
    fn what_was_acknowledged_leaves_and_no_more_wait_than_the_bound() {
        let mut redundancy = losing(10_000);
        (0..100).for_each(|n| redundancy.on_sent(Instant::ZERO, piece(n, 10)));
        assert_eq!(redundancy.riders.len(), MAX_RIDERS);
        redundancy.ride(Instant::from_millis(10), ms(50), ms(70), |_| Ride::Settled);
        assert!(redundancy.riders.is_empty());
    }

    #[test]
    fn the_loss_rate_settles_on_what_is_lost() {
        for (every, expected) in [(20, 50_000), (100, 10_000)] {
            let mut rate = LossRate::new();
            for n in 1..20_000u32 {
                if n % every == 0 { rate.on_lost() } else { rate.on_acked() }
            }
            let off = rate.millionths().abs_diff(expected);
            assert!(off < expected / 4, "one in {every}: {}", rate.millionths());
        }
        let mut clean = LossRate::new();
        (0..2_000).for_each(|_| clean.on_acked());
        assert_eq!(clean.copies(), 0);
        (0..20_000).for_each(|_| clean.on_lost());
        assert!(clean.millionths() <= 1_000_000);
    }
}
