//! A fixed rate with a circuit breaker: RFC 8083.
//!
//! For an application that knows what it sends and cannot send less: a game's ticks. It neither probes for more nor gives
//! way to single losses. What it does to others is bounded: where it sent for three intervals in a row at more than ten
//! times what TCP would get at the losses it saw, it falls to a tenth, and doubles from there as intervals stay below
//! that. Four packets a round trip are always let through, so that whoever plays is never cut off.

use super::{Acked, Congested, Controller, INITIAL_DATAGRAMS, MAXIMUM, per_round_trip};
use crate::time::{Duration, Instant, nanos};

/// Packets a round trip that the breaker never takes away.
const FLOOR_DATAGRAMS: u64 = 4;
/// The breaker looks at this long at a time, or at so many round trips: losses of a single queue are over by then.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_ROUNDS: u32 = 4;
/// Intervals in a row until it opens: RFC 8083 §4.3.
const OVER: u32 = 3;
/// How much more than TCP's share is too much: RFC 8083 §4.3.
const TIMES_TCP: u128 = 10;
/// What it falls to: RFC 8083 §4.5.
const FALL: u64 = 10;
/// Intervals without too much until it doubles.
const QUIET: u32 = 4;

#[derive(Clone, Debug)]
pub(in crate::transport) struct Fixed {
    datagram: u64,
    /// As configured, bytes a second.
    rate: u64,
    /// As the breaker leaves it.
    allowed: u64,
    rtt: Duration,
    /// The interval under way: since when, bytes that arrived, and that were lost or marked.
    began: Option<Instant>,
    arrived: u64,
    lost: u64,
    /// Intervals in a row with too much, and without.
    over: u32,
    quiet: u32,
}

impl Fixed {
    /// `rate` bytes a second in datagrams of up to `datagram` bytes.
    pub(super) fn new(datagram: u64, rate: u64) -> Self {
        let rtt = Duration::from_millis(100);
        Self { datagram, rate, allowed: rate, rtt, began: None, arrived: 0, lost: 0, over: 0, quiet: 0 }
    }

    fn floor(&self) -> u64 {
        FLOOR_DATAGRAMS * self.datagram
    }

    /// Whether this interval's rate is more than [`TIMES_TCP`] that of `s / (R · √(2p/3))`, both squared: the simple model
    /// of RFC 8083 §4.3.
    fn too_much(&self, took: Duration) -> bool {
        let all = u128::from(self.arrived) + u128::from(self.lost);
        // Thousandths of packets a round trip. Bytes are below 2^64, a round trip in µs below 2^25.
        let micros = took.as_micros().max(1) * u128::from(self.datagram);
        let packets = (all * self.rtt.as_micros() * 1000 / micros).min(1 << 40);
        packets * packets * 2 / 3 * u128::from(self.lost >> 10) > TIMES_TCP * TIMES_TCP * 1_000_000 * (all >> 10)
    }

    fn end_interval(&mut self, now: Instant, took: Duration) {
        if self.too_much(took) {
            (self.over, self.quiet) = (self.over + 1, 0);
            if self.over >= OVER {
                (self.over, self.allowed) = (0, self.allowed / FALL);
            }
        } else {
            (self.over, self.quiet) = (0, self.quiet + 1);
            if self.quiet >= QUIET {
                (self.quiet, self.allowed) = (0, self.allowed.max(1).saturating_mul(2).min(self.rate));
            }
        }
        (self.began, self.arrived, self.lost) = (Some(now), 0, 0);
    }
}

impl Controller for Fixed {
    /// Twice what the rate puts under way, so that a queue of one round trip does not stop it.
    fn window(&self) -> u64 {
        let flight = u128::from(self.allowed) * u128::from(nanos(self.rtt)) * 2 / 1_000_000_000;
        let flight = u64::try_from(flight).unwrap_or(u64::MAX).saturating_add(INITIAL_DATAGRAMS * self.datagram);
        if self.allowed == 0 { self.floor() } else { flight.clamp(self.floor(), MAXIMUM.max(self.floor())) }
    }

    fn pacing_rate(&self, smoothed_rtt: Duration) -> u64 {
        self.allowed.max(per_round_trip(self.floor(), smoothed_rtt, (1, 1)))
    }

    fn on_ack(&mut self, acked: &Acked) {
        self.rtt = acked.smoothed_rtt;
        self.arrived = self.arrived.saturating_add(acked.bytes);
        let took = acked.now.since(*self.began.get_or_insert(acked.now));
        if took >= INTERVAL.max(self.rtt * INTERVAL_ROUNDS) {
            self.end_interval(acked.now, took);
        }
    }

    fn on_congestion(&mut self, congested: &Congested) {
        // A queue that it stands in is none of its business: `bytes` is 0 then.
        self.lost = self.lost.saturating_add(congested.bytes);
    }

    fn on_spurious(&mut self, _: Instant) {
        self.lost = self.lost.saturating_sub(self.datagram);
    }

    fn on_persistent_congestion(&mut self) {
        self.allowed = 0;
        (self.over, self.quiet) = (0, 0);
    }

    fn set_datagram(&mut self, datagram: u64) {
        self.datagram = datagram;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::congestion::Cause;

    const RTT: Duration = Duration::from_millis(50);

    /// `seconds` at the rate that is let through, `lost` of a thousand of it. What is let through then.
    fn run(fixed: &mut Fixed, from: u64, seconds: u64, lost: u64) -> u64 {
        for tenth in 0..seconds * 10 {
            let now = Instant::from_millis((from * 10 + tenth) * 100);
            let bytes = fixed.pacing_rate(RTT) / 10;
            fixed.on_congestion(&Congested {
                now,
                cause: Cause::Loss,
                sent: now - RTT,
                packets: 1,
                bytes: bytes * lost / 1000,
            });
            fixed.on_ack(&Acked {
                now,
                sent: now - RTT,
                bytes: bytes * (1000 - lost) / 1000,
                limited: false,
                hold: false,
                round: true,
                rtt: Some(RTT),
                smoothed_rtt: RTT,
                min_rtt: RTT,
                rate: None,
            });
        }
        fixed.pacing_rate(RTT)
    }

    #[test]
    fn losses_within_ten_times_the_share_of_tcp_change_nothing() {
        // 240 kB/s are ten packets a round trip; at 20 % TCP would have 2.7.
        let mut fixed = Fixed::new(1200, 240_000);
        assert_eq!(run(&mut fixed, 0, 60, 200), 240_000);
    }

    #[test]
    fn beyond_that_it_falls_to_a_tenth_after_three_intervals_and_comes_back() {
        let mut fixed = Fixed::new(1200, 24_000_000);
        assert_eq!(run(&mut fixed, 0, 2, 50), 24_000_000);
        assert_eq!(run(&mut fixed, 2, 3, 50), 2_400_000);
        assert_eq!(run(&mut fixed, 5, 60, 0), 24_000_000);
    }

    #[test]
    fn four_packets_a_round_trip_always_go() {
        let mut fixed = Fixed::new(1200, 24_000_000);
        fixed.on_persistent_congestion();
        assert_eq!((fixed.window(), fixed.pacing_rate(RTT)), (4 * 1200, 4 * 1200 * 20));
    }
}
