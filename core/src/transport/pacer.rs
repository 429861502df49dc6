//! Spreads packets over a round trip: RFC 9002 §7.7.
//!
//! The pacer is a virtual clock that runs ahead by the time each packet should take at the controller's rate. A packet may
//! go once real time has caught up; after a pause the clock lags by at most one burst, so that many may go at once.

use crate::time::{Duration, Instant};

/// Datagrams that may go at once after a pause: the initial window, as RFC 9002 §7.7 allows.
const BURST_DATAGRAMS: u64 = 10;
/// At high rates a burst lasts this long instead, or a driver would be woken for every packet.
const BURST_TIME: Duration = Duration::from_millis(2);

#[derive(Clone, Debug)]
pub(super) struct Pacer {
    /// When the next packet may go.
    next: Instant,
}

impl Pacer {
    pub(super) const fn new() -> Self {
        Self { next: Instant::ZERO }
    }

    pub(super) fn ready_at(&self) -> Instant {
        self.next
    }

    /// Accounts for a packet of `bytes`, on a path of packets of up to `datagram`, at `rate` bytes a second.
    pub(super) fn on_sent(&mut self, now: Instant, bytes: u64, datagram: u64, rate: u64) {
        self.next = self.next_after(now, bytes, datagram, rate);
    }

    /// When another packet may go once this one has gone now.
    pub(super) fn next_after(&self, now: Instant, bytes: u64, datagram: u64, rate: u64) -> Instant {
        let cost = |bytes: u64| {
            let time = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
            Duration::from_nanos(u64::try_from(time).unwrap_or(u64::MAX))
        };
        let burst = cost((BURST_DATAGRAMS - 1) * datagram).max(BURST_TIME);
        self.next.max(now - burst) + cost(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_within(pacer: &mut Pacer, from: Instant, time: Duration, rate: u64) -> u64 {
        let (mut now, mut count) = (from, 0);
        while now < from + time {
            if pacer.ready_at() <= now {
                pacer.on_sent(now, 1200, 1200, rate);
                count += 1;
            } else {
                now = pacer.ready_at();
            }
        }
        count
    }

    #[test]
    fn a_pause_allows_one_burst_and_then_the_rate_holds() {
        let (rtt, rate) = (Duration::from_millis(100), 500 * 1200);
        let mut pacer = Pacer::new();
        let start = Instant::from_millis(5000);
        assert_eq!(sent_within(&mut pacer, start, Duration::from_nanos(1), rate), 10);
        // 50 datagrams a round trip, on top of what is left of the burst.
        let more = sent_within(&mut pacer, start, rtt, rate);
        assert!((38..=50).contains(&more), "{more}");
        let later = sent_within(&mut pacer, start + rtt, rtt, rate);
        assert!((48..=51).contains(&later), "{later}");
    }

    #[test]
    fn high_rates_go_in_bursts_of_two_milliseconds() {
        let mut pacer = Pacer::new();
        let start = Instant::from_millis(5000);
        let burst = sent_within(&mut pacer, start, Duration::from_nanos(1), 1200 * 100_000);
        assert!((200..=202).contains(&burst), "{burst}");
    }
}
