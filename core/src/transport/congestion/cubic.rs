//! CUBIC (RFC 9438) with HyStart++ (RFC 9406), in integers.
//!
//! After a loss the window follows a cubic function of time, not of round trips: fast towards where the loss was, slowly
//! past it, then fast again. `W(t) = C·(t − K)³ + W_max`, with K such that the curve begins at the reduced window. Where
//! that is less than what Reno would have, the window is Reno's. Windows are bytes, times microseconds; what a division
//! leaves is carried, so that small acknowledgements of a large window are not rounded away.

use super::hystart::{HyStart, Pace};
use super::{
    Acked, Cause, Congested, Controller, MAXIMUM, MINIMUM_DATAGRAMS, Recovery, initial_window, per_round_trip,
};
use crate::time::{Duration, Instant};

/// The curve's constant C = 0.4 segments/s³: RFC 9438 §5.
const C: (u128, u128) = (2, 5);
/// What is left of the window after a loss, in tenths: RFC 9438 §4.6.
pub(super) const BETA_TENTHS: u64 = 7;
/// After marks, in twentieths, as the queue that marked was short: RFC 8511 §3 (0.85). When the delay guard asks, too.
const BETA_MARKED_TWENTIETHS: u64 = 17;
/// Fast convergence, (1 + β) / 2 in twentieths: RFC 9438 §4.7.
const CONVERGE_TWENTIETHS: u64 = 17;
/// One packet, in the parts in which Reno's growth is counted.
const WHOLE: u64 = 1000;
/// The curve asks for at most half as much again within one round trip: RFC 9438 §4.2.
const MOST_GROWTH: (u64, u64) = (3, 2);
/// Pacing over window a round trip: in slow start what lets it double, else RFC 9002 §7.7.
const PACING_SLOW_START: (u64, u64) = (2, 1);
const PACING: (u64, u64) = (5, 4);
/// Longest time since a loss that is told apart. An hour on, the curve asks for the largest window at any datagram size.
const MAX_AGE: Duration = Duration::from_secs(3600);

const MICROS: u128 = 1_000_000;

/// Congestion avoidance since the last event.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    /// When it began. Moves on while nothing may grow.
    began: Instant,
    last_ack: Instant,
    /// µs from its beginning until the curve is back at `origin`.
    k: u64,
    origin: u64,
    /// Reno's window.
    reno: u64,
    /// What Reno must add a round trip to have the share of one that halves, if it leaves what was left here: 3·(1 − β)/(1 + β)
    /// packets (RFC 9438 §4.3), of [`WHOLE`]. Marks leave more than losses, so less is added after them.
    alpha: u64,
    /// What divisions left over, for the two windows.
    carry: u64,
    reno_carry: u64,
}

/// What a loss changes, for the case that it was none.
#[derive(Clone, Copy, Debug)]
struct Saved {
    window: u64,
    threshold: u64,
    w_max: u64,
    prior: u64,
    epoch: Option<Epoch>,
    /// Packets of the event that have not arrived.
    lost: u64,
}

#[derive(Clone, Debug)]
pub(in crate::transport) struct Cubic {
    datagram: u64,
    /// Datagrams of the smallest window.
    least: u64,
    window: u64,
    /// Slow start ends here.
    threshold: u64,
    /// The window at the last event, after fast convergence; 0 = there is no curve to come back to.
    w_max: u64,
    /// The same, before fast convergence.
    prior: u64,
    recovery: Recovery,
    epoch: Option<Epoch>,
    hystart: Option<HyStart>,
    saved: Option<Saved>,
}

impl Cubic {
    /// A controller for datagrams of up to `datagram` bytes.
    pub(super) fn new(datagram: u64, hystart: bool) -> Self {
        Self::with_minimum(datagram, hystart, MINIMUM_DATAGRAMS)
    }

    /// The same with another smallest window, in datagrams.
    pub(super) fn with_minimum(datagram: u64, hystart: bool, least: u64) -> Self {
        Self {
            datagram,
            least,
            window: initial_window(datagram),
            threshold: u64::MAX,
            w_max: 0,
            prior: 0,
            recovery: Recovery::default(),
            epoch: None,
            hystart: hystart.then(HyStart::default),
            saved: None,
        }
    }

    fn minimum(&self) -> u64 {
        self.least * self.datagram
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn slow_start(&mut self, acked: &Acked) {
        let pace = self.hystart.as_mut().map_or(Pace::Grow(1), |hystart| hystart.on_ack(acked.round, acked.rtt));
        match pace {
            Pace::End => self.threshold = self.window,
            Pace::Grow(divisor) if acked.limited && !acked.hold => {
                self.window = (self.window + acked.bytes / divisor).min(self.threshold.max(self.minimum()));
            }
            Pace::Grow(_) => {}
        }
    }

    fn avoid_congestion(&mut self, acked: &Acked) {
        let mut epoch = self.epoch.unwrap_or_else(|| self.begin_epoch(acked.now));
        if acked.limited && !acked.hold {
            self.grow(&mut epoch, acked);
        } else {
            // Time in which nothing could grow is no part of the curve, or it would catch up in one leap (RFC 9438 §5.8).
            epoch.began = epoch.began + acked.now.since(epoch.last_ack);
        }
        epoch.last_ack = acked.now;
        self.epoch = Some(epoch);
    }

    fn begin_epoch(&self, now: Instant) -> Epoch {
        // After slow start that no loss ended, and after persistent congestion: from here on upward (RFC 9438 §4.8, §4.10).
        let origin = self.w_max.max(self.window);
        let deficit = u128::from(origin - self.window);
        let cube = deficit * MICROS * MICROS * MICROS * C.1 / (C.0 * u128::from(self.datagram));
        let k = cube_root(cube);
        let given_up = self.prior.saturating_sub(self.window);
        let alpha = 3 * WHOLE * given_up / (self.prior + self.window).max(1);
        Epoch { began: now, last_ack: now, k, origin, reno: self.window, alpha, carry: 0, reno_carry: 0 }
    }

    fn grow(&mut self, epoch: &mut Epoch, acked: &Acked) {
        let alpha = if epoch.reno >= self.prior { WHOLE } else { epoch.alpha };
        let sum = epoch.reno_carry + acked.bytes * self.datagram * alpha;
        epoch.reno += sum / (self.window * WHOLE);
        epoch.reno_carry = sum % (self.window * WHOLE);

        let age = acked.now.since(epoch.began).saturating_add(acked.smoothed_rtt);
        let most = self.window * MOST_GROWTH.0 / MOST_GROWTH.1;
        let target = curve(epoch, age, self.datagram).clamp(self.window, most);
        let sum = epoch.carry + (target - self.window) * acked.bytes;
        epoch.carry = sum % self.window;
        self.window = (self.window + sum / self.window).max(epoch.reno.min(most)).min(MAXIMUM);
    }

    /// Congestion leaves a window of `left`, once for all that was under way when it was noticed.
    pub(super) fn reduce(&mut self, congested: &Congested, left: u64) {
        if self.recovery.covers(congested.sent) {
            if let Some(saved) = &mut self.saved {
                saved.lost = saved.lost.saturating_add(congested.packets);
            }
            return;
        }
        self.recovery.begin(congested.now);
        let Self { datagram, window, threshold, w_max, prior, epoch, .. } = *self;
        self.saved = (congested.cause == Cause::Loss).then_some(Saved {
            window,
            threshold,
            w_max,
            prior,
            epoch,
            lost: congested.packets,
        });
        self.prior = window;
        // In whole packets: counted in bytes, hardly any loss would meet exactly the last one's window.
        self.w_max = if window / datagram < w_max / datagram { window * CONVERGE_TWENTIETHS / 20 } else { window };
        self.window = left.max(self.minimum());
        self.threshold = self.window;
        self.epoch = None;
    }
}

impl Controller for Cubic {
    fn window(&self) -> u64 {
        self.window
    }

    fn pacing_rate(&self, smoothed_rtt: Duration) -> u64 {
        let gain = if self.in_slow_start() { PACING_SLOW_START } else { PACING };
        per_round_trip(self.window, smoothed_rtt, gain)
    }

    fn on_ack(&mut self, acked: &Acked) {
        if self.recovery.covers(acked.sent) {
            return;
        }
        if self.in_slow_start() {
            self.slow_start(acked);
        } else {
            self.avoid_congestion(acked);
        }
        self.window = self.window.min(MAXIMUM);
    }

    fn on_congestion(&mut self, congested: &Congested) {
        let left = match congested.cause {
            Cause::Loss => self.window * BETA_TENTHS / 10,
            // Slow start was at twice the link a round trip later than it could know.
            Cause::Delayed if self.in_slow_start() => self.window / 2,
            Cause::Marked | Cause::Delayed => self.window * BETA_MARKED_TWENTIETHS / 20,
        };
        self.reduce(congested, left);
    }

    fn on_spurious(&mut self, sent: Instant) {
        let Some(saved) = self.saved.as_mut().filter(|_| self.recovery.covers(sent)) else { return };
        saved.lost = saved.lost.saturating_sub(1);
        if saved.lost > 0 {
            return;
        }
        let Saved { window, threshold, w_max, prior, epoch, .. } = *saved;
        self.saved = None;
        if window > self.window {
            (self.window, self.threshold) = (window, threshold);
            (self.w_max, self.prior, self.epoch) = (w_max, prior, epoch);
            self.recovery = Recovery::default();
        }
    }

    fn on_persistent_congestion(&mut self) {
        self.window = self.minimum();
        self.w_max = 0;
        (self.epoch, self.saved, self.recovery) = (None, None, Recovery::default());
    }

    fn set_datagram(&mut self, datagram: u64) {
        self.datagram = datagram;
        self.window = self.window.max(self.minimum());
    }
}

/// The curve at `age`, bytes.
fn curve(epoch: &Epoch, age: Duration, datagram: u64) -> u64 {
    let age = u64::try_from(age.min(MAX_AGE).as_micros()).unwrap_or(u64::MAX);
    let distance = u128::from(age.abs_diff(epoch.k));
    // At most (3.6e9)³ · 2 · 2^16: some 2^112.
    let cube = distance * distance * distance * C.0 * u128::from(datagram) / (C.1 * MICROS * MICROS * MICROS);
    let away = u64::try_from(cube).unwrap_or(u64::MAX);
    if age < epoch.k { epoch.origin.saturating_sub(away) } else { epoch.origin.saturating_add(away) }
}

/// The largest number whose cube is not above `n`; at most 2^42.
fn cube_root(n: u128) -> u64 {
    let mut root = 0u128;
    for bit in (0..42).rev() {
        let next = root | 1 << bit;
        if next * next * next <= n {
            root = next;
        }
    }
    u64::try_from(root).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cube_root_is_the_largest_number_whose_cube_is_not_above(n in 0u128..1 << 120) {
            let root = u128::from(cube_root(n));
            prop_assert!(root * root * root <= n && (root + 1) * (root + 1) * (root + 1) > n);
        }
    }

    const D: u64 = 1200;
    const RTT: Duration = Duration::from_millis(100);

    fn acked(now: Instant, bytes: u64) -> Acked {
        Acked {
            now,
            sent: now - RTT,
            bytes,
            limited: true,
            hold: false,
            round: false,
            rtt: Some(RTT),
            smoothed_rtt: RTT,
            min_rtt: RTT,
            rate: None,
        }
    }

    fn lost(now: Instant) -> Congested {
        Congested { now, cause: Cause::Loss, sent: now - RTT, packets: 1, bytes: D }
    }

    /// Mean window over time in packets, where every `spacing`-th packet is lost, once the beginning is forgotten.
    fn mean_window(spacing: u64, losses: u64) -> u64 {
        let mut cubic = Cubic { threshold: 0, ..Cubic::new(D, false) };
        let (mut now, mut packets, mut lost_so_far) = (Instant::from_millis(1000), 0, 0);
        let (mut sum, mut time) = (0u128, 0u128);
        while lost_so_far < losses {
            let gap = Duration::from_nanos(100_000_000 * 2 * D / cubic.window());
            now = now + gap;
            packets += 2;
            if packets >= spacing {
                packets -= spacing;
                lost_so_far += 1;
                cubic.on_congestion(&lost(now));
            } else {
                cubic.on_ack(&acked(now, 2 * D));
            }
            if lost_so_far >= 60 {
                sum += u128::from(cubic.window()) * gap.as_nanos();
                time += gap.as_nanos();
            }
        }
        u64::try_from(sum / time).unwrap() / D
    }

    #[test]
    fn the_mean_window_is_what_the_function_of_the_loss_rate_says() {
        // (C·(3 + β)/(4·(1 − β)))^¼ · RTT^¾ / p^¾.
        for (spacing, expected) in [(10_000, 187), (100_000, 1054)] {
            let found = mean_window(spacing, 100);
            assert!(found.abs_diff(expected) * 10 <= expected, "{found} against {expected}");
        }
    }

    #[test]
    fn slow_start_doubles_and_a_loss_leaves_seven_tenths() {
        let mut cubic = Cubic::new(D, true);
        cubic.on_ack(&acked(Instant::from_millis(100), 10 * D));
        assert_eq!(cubic.window(), 20 * D);
        cubic.on_congestion(&lost(Instant::from_millis(200)));
        assert_eq!(cubic.window(), 14 * D);
        cubic.on_congestion(&lost(Instant::from_millis(210)));
        cubic.on_ack(&acked(Instant::from_millis(250), 10 * D));
        assert_eq!(cubic.window(), 14 * D, "what was sent before the recovery neither shrinks nor grows");
        cubic.on_congestion(&lost(Instant::from_millis(400)));
        assert_eq!(cubic.window(), 14 * D * 7 / 10);
    }

    #[test]
    fn marks_take_less_than_losses() {
        let mut cubic = Cubic::new(D, true);
        let now = Instant::from_millis(500);
        cubic.on_congestion(&Congested { now, cause: Cause::Marked, sent: now - RTT, packets: 1, bytes: 0 });
        assert_eq!(cubic.window(), 10 * D * 17 / 20);
    }

    #[test]
    fn nothing_grows_while_the_application_is_the_limit_and_nothing_is_made_up_for_after() {
        let mut cubic = Cubic::new(D, true);
        cubic.on_congestion(&lost(Instant::from_millis(500)));
        let window = cubic.window();
        for ms in (1000..100_000).step_by(10) {
            cubic.on_ack(&Acked { limited: false, ..acked(Instant::from_millis(ms), 2 * D) });
        }
        assert_eq!(cubic.window(), window);
        cubic.on_ack(&acked(Instant::from_millis(100_010), 2 * D));
        assert!(cubic.window() < window + D, "{} from {window}", cubic.window());
    }

    #[test]
    fn a_loss_is_undone_when_all_of_it_has_arrived_after_all() {
        let mut cubic = Cubic::new(D, true);
        let now = Instant::from_millis(500);
        cubic.on_congestion(&lost(now));
        cubic.on_congestion(&lost(now));
        cubic.on_spurious(now - RTT);
        assert_eq!(cubic.window(), 7 * D, "one of two");
        cubic.on_spurious(now - RTT);
        assert_eq!(cubic.window(), 10 * D);
        cubic.on_congestion(&lost(Instant::from_millis(700)));
        cubic.on_persistent_congestion();
        cubic.on_spurious(Instant::from_millis(600));
        assert_eq!(cubic.window(), 2 * D);
    }

    #[test]
    fn persistent_congestion_leaves_two_datagrams_and_slow_start_to_the_threshold() {
        let mut cubic = Cubic::new(D, true);
        cubic.on_congestion(&lost(Instant::from_millis(500)));
        cubic.on_persistent_congestion();
        assert_eq!(cubic.window(), 2 * D);
        cubic.on_ack(&acked(Instant::from_millis(700), 100 * D));
        assert_eq!(cubic.window(), 7 * D);
    }
}
