//! How many packets one acknowledgement waits for.
//!
//! One for every second packet (RFC 9000 §13.2.2) costs bulk a third of all packets and of the work, and fills a narrow way
//! back; a sender needs no more than several a round trip. So the receiver counts what came in the round trip before and
//! acknowledges a thirty-second of that at a time, between every second packet and every tenth (Custura, Jones and Fairhurst,
//! "Rethinking ACKs at the Transport Layer", 2020, find 1:10 harmless). What a sender must learn soon is told at once as
//! ever: a gap, a mark, and anything that waited for the longest acknowledgement delay. In slow start and for whatever a
//! game sends that leaves one for every second packet.

use crate::time::{Duration, Instant};

/// Packets that ask for an acknowledgement until one is sent at once, at least: RFC 9000 §13.2.2.
const LEAST: u32 = 2;
/// And at most: what a sender lets go in one burst behind an acknowledgement.
const MOST: u32 = 10;
/// Acknowledgements a round trip that are aimed at. HyStart++ wants eight samples a round (RFC 9406 §4.3), and a round trip
/// with a queue in it is longer than the one known here; with sixteen, slow start was seen to overshoot.
const A_ROUND: u32 = 32;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Thinning {
    round_from: Instant,
    /// Packets of the round under way.
    packets: u32,
    every: u32,
}

impl Default for Thinning {
    fn default() -> Self {
        Self { round_from: Instant::ZERO, packets: 0, every: LEAST }
    }
}

impl Thinning {
    /// A packet came that asks for an acknowledgement; `round_trip`: as this end knows it, a guess will do. Says how many
    /// have to wait for one to be sent at once.
    pub(super) fn on_packet(&mut self, now: Instant, round_trip: Duration) -> u32 {
        let since = now.since(self.round_from);
        if since >= round_trip {
            // What came before a pause says nothing about now.
            let packets = if since < round_trip * 2 { self.packets } else { 0 };
            self.every = (packets / A_ROUND).clamp(LEAST, MOST);
            (self.round_from, self.packets) = (now, 0);
        }
        self.packets = self.packets.saturating_add(1);
        self.every
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many packets wait for an acknowledgement in the end, where so many come evenly in each of three round trips.
    fn every(packets: u64) -> u32 {
        let mut thinning = Thinning::default();
        let round_trip = Duration::from_millis(50);
        let times = (0..3 * packets).map(|n| Instant::from_millis(1_000) + round_trip * n as u32 / packets as u32);
        times.map(|at| thinning.on_packet(at, round_trip)).last().unwrap()
    }

    #[test]
    fn a_thirty_second_of_a_round_trip_is_acknowledged_at_a_time_within_bounds() {
        assert_eq!([3, 10, 64, 100, 200, 320, 5_000].map(every), [2, 2, 2, 3, 6, 10, 10]);
    }

    #[test]
    fn after_a_pause_every_second_packet_is_acknowledged_again() {
        let mut thinning = Thinning::default();
        let round_trip = Duration::from_millis(50);
        let start = Instant::from_millis(1_000);
        for n in 0..400 {
            thinning.on_packet(start + Duration::from_millis(1) * n / 4, round_trip);
        }
        assert_eq!(thinning.on_packet(start + Duration::from_millis(101), round_trip), 6);
        assert_eq!(thinning.on_packet(start + Duration::from_millis(300), round_trip), 2);
    }
}
