//! NewReno as RFC 9002 §7 and its appendix B describe it.

use super::Controller;
use crate::time::Instant;

/// Datagrams of the initial window: RFC 9002 §7.2.
const INITIAL_DATAGRAMS: u64 = 10;
/// The initial window in bytes is at most this, or two datagrams: RFC 9002 §7.2.
const INITIAL_LIMIT: u64 = 14_720;
/// Datagrams of the smallest window: RFC 9002 §7.2.
const MINIMUM_DATAGRAMS: u64 = 2;
/// Largest window, bytes: 10 Gbit/s over 100 ms, far beyond what a peer's credit lets through.
const MAXIMUM: u64 = 128 << 20;

#[derive(Clone, Debug)]
pub(in crate::transport) struct NewReno {
    datagram: u64,
    window: u64,
    threshold: u64,
    /// Bytes acknowledged in congestion avoidance since the window last grew.
    acked: u64,
    /// Start of the recovery period; what was sent until then was part of the same event.
    recovery: Option<Instant>,
}

impl NewReno {
    /// A controller for datagrams of up to `datagram` bytes.
    pub(in crate::transport) fn new(datagram: u64) -> Self {
        let window = (INITIAL_DATAGRAMS * datagram).min(INITIAL_LIMIT.max(2 * datagram));
        Self { datagram, window, threshold: u64::MAX, acked: 0, recovery: None }
    }

    fn minimum(&self) -> u64 {
        MINIMUM_DATAGRAMS * self.datagram
    }
}

impl Controller for NewReno {
    fn window(&self) -> u64 {
        self.window
    }

    fn on_ack(&mut self, sent: Instant, bytes: u64, full: bool) {
        let recovering = self.recovery.is_some_and(|start| sent <= start);
        if recovering || !full {
            return;
        }
        if self.window < self.threshold {
            self.window += bytes;
        } else {
            // One datagram a window: appendix B.5, in whole steps, so that small acknowledgements are not rounded away.
            self.acked += bytes;
            if self.acked >= self.window {
                self.acked -= self.window;
                self.window += self.datagram;
            }
        }
        self.window = self.window.min(MAXIMUM);
    }

    fn on_congestion(&mut self, now: Instant, sent: Instant) {
        if self.recovery.is_some_and(|start| sent <= start) {
            return;
        }
        self.recovery = Some(now);
        self.window = (self.window / 2).max(self.minimum());
        self.threshold = self.window;
        self.acked = 0;
    }

    fn on_persistent_congestion(&mut self) {
        self.window = self.minimum();
        self.recovery = None;
        self.acked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: u64 = 1200;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn the_initial_window_is_ten_datagrams_within_limits() {
        assert_eq!(NewReno::new(1200).window(), 12_000);
        assert_eq!(NewReno::new(1472).window(), 14_720);
        assert_eq!(NewReno::new(9000).window(), 18_000);
    }

    #[test]
    fn slow_start_doubles_avoidance_adds_one_datagram_a_window() {
        let mut cc = NewReno::new(D);
        for _ in 0..10 {
            cc.on_ack(at(1), D, true);
        }
        assert_eq!(cc.window(), 20 * D);
        cc.on_congestion(at(10), at(5));
        assert_eq!(cc.window(), 10 * D);
        for _ in 0..10 {
            cc.on_ack(at(11), D, true);
        }
        assert_eq!(cc.window(), 11 * D);
        for _ in 0..11 {
            cc.on_ack(at(12), D, true);
        }
        assert_eq!(cc.window(), 12 * D);
    }

    #[test]
    fn one_window_of_losses_halves_once() {
        let mut cc = NewReno::new(D);
        cc.on_congestion(at(10), at(5));
        cc.on_congestion(at(12), at(9));
        cc.on_ack(at(10), D, true);
        assert_eq!(cc.window(), 5 * D, "what was sent before the recovery neither halves nor grows");
        cc.on_congestion(at(20), at(15));
        assert_eq!(cc.window(), 5 * D / 2);
    }

    #[test]
    fn nothing_grows_while_the_application_is_the_limit() {
        let mut cc = NewReno::new(D);
        for _ in 0..100 {
            cc.on_ack(at(1), D, false);
        }
        assert_eq!(cc.window(), 10 * D);
    }

    #[test]
    fn persistent_congestion_leaves_two_datagrams_and_slow_start() {
        let mut cc = NewReno::new(D);
        cc.on_congestion(at(10), at(5));
        cc.on_persistent_congestion();
        assert_eq!(cc.window(), 2 * D);
        cc.on_ack(at(6), D, true);
        assert_eq!(cc.window(), 3 * D);
        for ms in 1..10 {
            cc.on_congestion(at(100 * ms), at(100 * ms - 1));
        }
        assert_eq!(cc.window(), 2 * D, "the minimum holds");
    }
}
