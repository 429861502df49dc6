//! Round-trip time of one path: RFC 9002 §5 and §6.2.1.

use crate::time::{Duration, Instant, nanos};

/// Granularity of timers: RFC 9002 §6.1.2.
pub(super) const GRANULARITY: Duration = Duration::from_millis(1);

/// Longest wait between two probes, however often they failed: a hole that reopens is noticed soon.
pub(super) const MAX_PTO_BACKOFF: Duration = Duration::from_secs(2);

/// Longest round trip that is believed; beyond it only a clock that jumped is plausible.
const MAX_RTT: Duration = Duration::from_secs(30);

/// An estimate from samples, or from what somebody else measured until there is one.
#[derive(Clone, Debug)]
pub(super) struct Rtt {
    latest: Duration,
    min: Duration,
    smoothed: Duration,
    variation: Duration,
    sampled: bool,
    #[cfg(test)]
    samples: u64,
}

impl Rtt {
    pub(super) fn new(initial: Duration) -> Self {
        let initial = initial.clamp(GRANULARITY, MAX_RTT);
        Self {
            latest: initial,
            min: initial,
            smoothed: initial,
            variation: initial / 2,
            sampled: false,
            #[cfg(test)]
            samples: 0,
        }
    }

    /// How many samples were taken, and the last one.
    #[cfg(test)]
    pub(super) fn samples(&self) -> (u64, Duration) {
        (self.samples, self.latest)
    }

    /// Takes a sample; `ack_delay` is what the peer says it waited, already limited to what it may wait.
    pub(super) fn sample(&mut self, latest: Duration, ack_delay: Duration) {
        let latest = latest.min(MAX_RTT);
        self.latest = latest;
        #[cfg(test)]
        {
            self.samples += 1;
        }
        if !self.sampled {
            (self.min, self.smoothed, self.variation) = (latest, latest, latest / 2);
            self.sampled = true;
            return;
        }
        self.min = self.min.min(latest);
        // A delay that would take the sample below the minimum cannot have been all waiting.
        let adjusted = if latest >= self.min + ack_delay { latest - ack_delay } else { latest };
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = (self.smoothed * 7 + adjusted) / 8;
    }

    pub(super) fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The least sample since the estimate began, as far as it is still believed.
    pub(super) fn min(&self) -> Duration {
        self.min
    }

    /// The least sample is this one: see [`super::base`].
    pub(super) fn believe(&mut self, least: Duration) {
        self.min = least;
    }

    /// The next sample is the least (RFC 9002 §5.2).
    pub(super) fn forget_min(&mut self) {
        self.min = MAX_RTT;
    }

    /// Whether there was a sample since the estimate began.
    pub(super) fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The probe timeout without backoff.
    pub(super) fn pto(&self, max_ack_delay: Duration) -> Duration {
        self.smoothed + (self.variation * 4).max(GRANULARITY) + max_ack_delay
    }

    /// The probe timeout after `count` in a row that failed.
    pub(super) fn backed_off(&self, max_ack_delay: Duration, count: u32) -> Duration {
        let pto = self.pto(max_ack_delay);
        let doubled = nanos(pto).saturating_mul(1u64 << count.min(16));
        Duration::from_nanos(doubled).min(MAX_PTO_BACKOFF).max(pto)
    }

    /// How long after a packet a later one must have been acknowledged for it to count as lost: RFC 9002 §6.1.2.
    pub(super) fn loss_delay(&self) -> Duration {
        (self.latest.max(self.smoothed) * 9 / 8).max(GRANULARITY)
    }
}

/// Samples so far apart are those of a way that carries nothing: each counts for half, or it would take an idle way a minute
/// to follow what the busy one shows within a few round trips, and comparing the two would go by what is long gone.
const SPARSE: Duration = Duration::from_secs(1);

/// The round trip of a path as it was of late, without what the other end waited. Where samples are dense it is smoothed as
/// RFC 9002 §5.3 does. Timers go by [`Rtt`].
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Recent(Option<(Instant, Duration)>);

impl Recent {
    pub(super) fn sample(&mut self, now: Instant, sample: Duration) {
        let sample = sample.min(MAX_RTT);
        let value = match self.0 {
            None => sample,
            Some((at, value)) if now.since(at) >= SPARSE => (value + sample) / 2,
            Some((_, value)) => (value * 7 + sample) / 8,
        };
        self.0 = Some((now, value));
    }

    pub(super) fn get(self) -> Option<Duration> {
        self.0.map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_first_sample_replaces_the_guess() {
        let mut rtt = Rtt::new(ms(333));
        assert_eq!((rtt.smoothed, rtt.variation), (ms(333), ms(333) / 2));
        rtt.sample(ms(40), ms(5));
        assert_eq!((rtt.smoothed, rtt.variation, rtt.min), (ms(40), ms(20), ms(40)));
    }

    #[test]
    fn later_samples_move_it_as_rfc_9002_section_5_3_says() {
        let mut rtt = Rtt::new(ms(100));
        rtt.sample(ms(80), ms(0));
        rtt.sample(ms(100), ms(4));
        // adjusted 96: variation 3/4·40 + 1/4·|80 − 96| = 34, smoothed 7/8·80 + 1/8·96 = 82.
        assert_eq!((rtt.smoothed, rtt.variation, rtt.min, rtt.latest), (ms(82), ms(34), ms(80), ms(100)));
        rtt.sample(ms(81), ms(4));
        // The delay would go below the minimum, so it is not subtracted: 7/8·82 + 1/8·81.
        assert_eq!(rtt.smoothed, Duration::from_micros(81_875));
    }

    #[test]
    fn an_idle_way_follows_a_change_in_a_few_samples_and_a_busy_one_is_smoothed() {
        let (mut idle, mut busy) = (Recent::default(), Recent::default());
        for second in 0..4 {
            idle.sample(Instant::from_millis(5_000 * second), ms(if second == 0 { 68 } else { 136 }));
        }
        assert_eq!(idle.get(), Some(Duration::from_micros(127_500)));
        busy.sample(Instant::from_millis(0), ms(80));
        busy.sample(Instant::from_millis(16), ms(160));
        assert_eq!(busy.get(), Some(ms(90)));
    }

    #[test]
    fn the_probe_timeout_is_rfc_9002_section_6_2_1_with_a_cap_on_the_backoff() {
        let mut rtt = Rtt::new(ms(100));
        rtt.sample(ms(80), ms(0));
        assert_eq!(rtt.pto(ms(5)), ms(80 + 160 + 5));
        assert_eq!(rtt.backed_off(ms(5), 1), ms(490));
        assert_eq!(rtt.backed_off(ms(5), 60), ms(2000));
        for _ in 0..100 {
            rtt.sample(ms(80), ms(0));
        }
        assert_eq!(rtt.pto(ms(5)), ms(80 + 1 + 5), "the variation counts as at least the granularity");
        assert_eq!(rtt.loss_delay(), ms(90));
        let slow = Rtt::new(ms(3000));
        assert_eq!(slow.backed_off(ms(5), 3), slow.pto(ms(5)), "the cap never takes it below the timeout itself");
    }
}
