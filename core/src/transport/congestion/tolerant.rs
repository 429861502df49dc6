//! A controller that tells losses by congestion from losses by chance, with a model of the path.
//!
//! On radio links packets are lost while no queue stands anywhere; to give way to that frees nothing for anybody. BBRv3
//! tolerates up to 2 % a round trip whatever their cause, so it gives way at 5 % by chance, and not at 1 % by congestion.
//! Here the cause is looked for. The model of the path is its least round trip, the queue (the least round trip of the last
//! round over that), and the delivery rate. A loss counts as congestion if one of these holds:
//!
//! - the queue stood beyond an eighth of the least round trip (Veno, Fu and Liew 2003, asks for three packets): a buffer that
//!   overflows was full;
//! - a quarter more was sent and the delivery rate did not follow by a quarter of that: a policer or a very short buffer drops
//!   what goes beyond its rate and delays nothing;
//! - half of two rounds was lost: no link that is in order does that.
//!
//! Windows grow along CUBIC's curve. Congestion leaves what the path holds without a queue, window · least / current round
//! trip (as Westwood+ and Vegas compute it), yet no less than CUBIC would leave; where nothing was queued, it leaves what
//! was delivered in a round trip. Beside CUBIC in one buffer both see the same losses behind the same queue and give way
//! alike, hence share alike; alone, the link never runs empty. Other losses change nothing. The delay guard bounds the
//! queue as for all controllers.

use super::cubic::{BETA_TENTHS, Cubic};
use super::{Acked, Cause, Congested, Controller, per_round_trip};
use crate::time::{Duration, Instant, nanos};

/// Datagrams of the smallest window: with fewer, a loss leaves too few behind it to be noticed by.
const MINIMUM_DATAGRAMS: u64 = 4;
/// Part of the least round trip from which on a queue stands, and its bounds: below 2 ms timers and receivers' batches
/// look the same; 12 ms no link jitters in every packet of a round.
const QUEUE_PART: u32 = 8;
const QUEUE_LEAST: Duration = Duration::from_millis(2);
const QUEUE_MOST: Duration = Duration::from_millis(12);
/// Samples until the least of a round under way is believed: RFC 9406 §4.3.
const SAMPLES: u32 = 8;
/// Growth of what is sent after which the delivery rate is looked at, and growth of that which is enough.
const GROWN: (u64, u64) = (5, 4);
const FOLLOWED: (u64, u64) = (17, 16);
/// What is left of the window then at most, in tenths.
const BETA_FLAT_TENTHS: u64 = 8;
/// Rounds without enough growth of the delivery rate until slow start is over: BBR's startup.
const FLAT_ROUNDS: u32 = 3;
/// Lost in two rounds, one in so many, of at least so many packets: at 20 % by chance that does not happen.
const COLLAPSE_PART: u64 = 2;
const COLLAPSE_DATAGRAMS: u64 = 50;

/// One round trip.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    least: Option<Duration>,
    samples: u32,
    /// Highest delivery rate that the application did not limit, bytes a second.
    rate: u64,
    acked: u64,
    lost: u64,
}

#[derive(Clone, Debug)]
pub(in crate::transport) struct Tolerant {
    datagram: u64,
    cubic: Cubic,
    min_rtt: Duration,
    rtt: Duration,
    this: Round,
    last: Round,
    /// What was sent and what was delivered when they were last compared, bytes a second.
    base: Option<(u64, u64)>,
    /// Rounds of slow start in which the delivery rate did not follow.
    flat: u32,
    /// When the window last shrank.
    shrunk: Instant,
}

impl Tolerant {
    /// A controller for datagrams of up to `datagram` bytes.
    pub(super) fn new(datagram: u64, hystart: bool) -> Self {
        Self {
            datagram,
            cubic: Cubic::with_minimum(datagram, hystart, MINIMUM_DATAGRAMS),
            min_rtt: Duration::MAX,
            rtt: Duration::ZERO,
            this: Round::default(),
            last: Round::default(),
            base: None,
            flat: 0,
            shrunk: Instant::ZERO,
        }
    }

    /// The least round trip of late, of packets that left since the window last shrank.
    fn current_rtt(&self) -> Option<Duration> {
        let this = self.this.least.filter(|_| self.this.samples >= SAMPLES);
        self.last.least.max(this)
    }

    /// What queue and rate were before the window shrank says nothing about what they are after.
    fn shrink(&mut self, congested: &Congested, left: u64) {
        let before = self.cubic.window();
        self.cubic.reduce(congested, left);
        if self.cubic.window() < before {
            self.shrunk = congested.now;
            (self.this.least, self.this.samples, self.last.least) = (None, 0, None);
            (self.this.rate, self.last.rate, self.base) = (0, 0, None);
        }
    }

    fn queue_stands(&self) -> bool {
        let bound = (self.min_rtt / QUEUE_PART).clamp(QUEUE_LEAST, QUEUE_MOST);
        self.current_rtt().is_some_and(|rtt| rtt > self.min_rtt.saturating_add(bound))
    }

    fn collapsed(&self) -> bool {
        let lost = self.this.lost.saturating_add(self.last.lost);
        let all = lost.saturating_add(self.this.acked).saturating_add(self.last.acked);
        all >= COLLAPSE_DATAGRAMS * self.datagram && lost >= all / COLLAPSE_PART
    }

    /// A round is over. Whether the delivery rate did not follow the window in spite of losses.
    fn turn(&mut self) -> bool {
        let before = core::mem::replace(&mut self.last, core::mem::take(&mut self.this));
        let rate = self.last.rate.max(before.rate);
        // Not the window: while a queue takes what is more, the round trip grows with it.
        let Some(rtt) = self.current_rtt().filter(|_| self.last.rate > 0) else { return false };
        let offered = per_round_trip(self.cubic.window(), rtt, (1, 1));
        let lost = self.last.lost.saturating_add(before.lost) > 0;
        let Some((base_offered, base_rate)) = self.base else {
            self.base = Some((offered, rate));
            return false;
        };
        let followed = rate / FOLLOWED.0 >= base_rate / FOLLOWED.1;
        if self.cubic.in_slow_start() {
            self.flat = if followed { 0 } else { self.flat + 1 };
            self.base = Some((offered, rate.max(base_rate)));
            return self.flat >= FLAT_ROUNDS && lost;
        }
        if offered / GROWN.0 < base_offered / GROWN.1 {
            return false;
        }
        self.base = Some((offered, rate));
        !followed && lost
    }

    /// To what the path holds without a queue, but no further than CUBIC would.
    fn leave_queue(&mut self, congested: &Congested) {
        let window = self.cubic.window();
        let rtt = self.current_rtt().unwrap_or(self.rtt);
        let full = u128::from(window) * u128::from(nanos(self.min_rtt)) / u128::from(nanos(rtt).max(1));
        let full = u64::try_from(full).unwrap_or(window).min(window);
        self.shrink(congested, full.max(window * BETA_TENTHS / 10));
    }

    /// To what was delivered in a round trip: what went beyond it was dropped and not queued.
    fn leave_delivered(&mut self, congested: &Congested) {
        let window = self.cubic.window();
        let rate = self.this.rate.max(self.last.rate);
        let delivered = u128::from(rate) * u128::from(nanos(self.current_rtt().unwrap_or(self.rtt))) / 1_000_000_000;
        let delivered = u64::try_from(delivered).ok().filter(|_| rate > 0).unwrap_or(window);
        self.shrink(congested, delivered.min(window * BETA_FLAT_TENTHS / 10));
        self.flat = 0;
    }
}

impl Controller for Tolerant {
    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn pacing_rate(&self, smoothed_rtt: Duration) -> u64 {
        self.cubic.pacing_rate(smoothed_rtt)
    }

    fn on_ack(&mut self, acked: &Acked) {
        (self.min_rtt, self.rtt) = (acked.min_rtt, acked.smoothed_rtt);
        self.this.acked = self.this.acked.saturating_add(acked.bytes);
        let fresh = acked.sent > self.shrunk;
        if let Some(sample) = acked.rtt.filter(|_| fresh) {
            self.this.least = Some(self.this.least.map_or(sample, |least| least.min(sample)));
            self.this.samples = self.this.samples.saturating_add(1);
        }
        if let Some(rate) = acked.rate.filter(|rate| !rate.app_limited && acked.limited && fresh) {
            self.this.rate = self.this.rate.max(rate.rate);
        }
        if acked.round && self.turn() {
            let Acked { now, sent, .. } = *acked;
            self.leave_delivered(&Congested { now, cause: Cause::Loss, sent, packets: 1, bytes: 0 });
        }
        self.cubic.on_ack(acked);
    }

    fn on_congestion(&mut self, congested: &Congested) {
        match congested.cause {
            Cause::Marked | Cause::Delayed => self.cubic.on_congestion(congested),
            Cause::Loss => {
                self.this.lost = self.this.lost.saturating_add(congested.bytes);
                if self.collapsed() {
                    self.leave_delivered(congested);
                } else if self.queue_stands() {
                    self.leave_queue(congested);
                }
            }
        }
    }

    fn on_spurious(&mut self, sent: Instant) {
        self.this.lost = self.this.lost.saturating_sub(self.datagram);
        self.cubic.on_spurious(sent);
    }

    fn on_persistent_congestion(&mut self) {
        self.cubic.on_persistent_congestion();
        (self.this, self.last, self.base, self.flat) = (Round::default(), Round::default(), None, 0);
    }

    fn set_datagram(&mut self, datagram: u64) {
        self.datagram = datagram;
        self.cubic.set_datagram(datagram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::rate::Sample;

    const D: u64 = 1200;
    const BASE: u64 = 50;

    /// A path of one round trip after the other: `pipe` bytes a round trip go through, `buffer` beyond it stand in a queue,
    /// `random` of a thousand are lost by chance, what is beyond the buffer too. The window in packets after each.
    fn windows(pipe: u64, buffer: u64, random: u64, rounds: u64) -> std::vec::Vec<u64> {
        let mut tolerant = Tolerant::new(D, true);
        let mut now = Instant::from_millis(1000);
        let mut out = std::vec::Vec::new();
        for _ in 0..rounds {
            let window = tolerant.window();
            let through = window.min(pipe + buffer);
            let queue = through.saturating_sub(pipe) * BASE * 1_000_000 / pipe;
            let rtt = Duration::from_millis(BASE) + Duration::from_nanos(queue);
            now = now + rtt;
            let lost = window - through + through * random / 1000;
            let arrived = window - lost;
            let rate = u64::try_from(u128::from(arrived) * 1_000_000_000 / rtt.as_nanos()).unwrap();
            let sent = now - rtt;
            for part in 0..10 {
                if part == 5 && lost > 0 {
                    tolerant.on_congestion(&Congested { now, cause: Cause::Loss, sent, packets: 1, bytes: lost });
                }
                tolerant.on_ack(&Acked {
                    now,
                    sent,
                    bytes: arrived / 10,
                    limited: true,
                    hold: false,
                    round: part == 9,
                    rtt: Some(rtt),
                    smoothed_rtt: rtt,
                    min_rtt: Duration::from_millis(BASE),
                    rate: Some(Sample { rate, app_limited: false }),
                });
            }
            out.push(tolerant.window() / D);
        }
        out
    }

    #[test]
    fn losses_by_chance_do_not_keep_it_from_growing() {
        for random in [10, 50, 200] {
            let end = *windows(1 << 40, 0, random, 20).last().unwrap();
            assert!(end > 10_000, "{end} packets at {random} in a thousand");
        }
    }

    #[test]
    fn with_losses_by_chance_it_fills_the_link_and_hardly_any_queue() {
        let windows = windows(400 * D, 400 * D, 50, 400);
        let late = &windows[100..];
        assert!(late.iter().all(|w| (380..=520).contains(w)), "{late:?}");
    }

    #[test]
    fn a_policer_that_delays_nothing_is_noticed_by_the_rate_that_does_not_follow() {
        let windows = windows(400 * D, 0, 0, 400);
        let late = &windows[100..];
        assert!(late.iter().all(|w| (250..=640).contains(w)), "{late:?}");
    }

    #[test]
    fn a_full_buffer_takes_as_much_as_it_takes_from_cubic() {
        let windows = windows(100 * D, 100 * D, 0, 400);
        let cuts = windows.windows(2).skip(100).filter(|w| w[1] < w[0]);
        let cuts: std::vec::Vec<_> = cuts.map(|w| w[1] * 100 / w[0]).collect();
        assert!(!cuts.is_empty() && cuts.iter().all(|left| (68..=75).contains(left)), "{cuts:?}");
    }
}
