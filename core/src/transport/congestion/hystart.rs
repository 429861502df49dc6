//! HyStart++ (RFC 9406): when to end slow start before the queue overflows.
//!
//! When a round's least round trip has risen by an eighth over the round before, growth goes on at a quarter of its speed
//! for five rounds, to see whether it was a queue. If the round trip comes down again, it was not.

use crate::time::Duration;

/// A rise counts from here on, up to there: RFC 9406 §4.3.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
/// Between the two, this part of the last round's least.
const MIN_RTT_DIVISOR: u32 = 8;
/// Samples of a round until its least is believed.
const N_RTT_SAMPLE: u32 = 8;
/// Growth in conservative slow start is this much slower, and lasts so many rounds.
const CSS_GROWTH_DIVISOR: u64 = 4;
const CSS_ROUNDS: u32 = 5;

/// What slow start may do with an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// Grow by what was acknowledged over this.
    Grow(u64),
    /// Slow start is over.
    End,
}

#[derive(Clone, Debug, Default)]
pub(super) struct HyStart {
    last_least: Option<Duration>,
    least: Option<Duration>,
    samples: u32,
    /// In conservative slow start: the round trip that began it, and rounds so far.
    conservative: Option<(Duration, u32)>,
}

impl HyStart {
    pub(super) fn on_ack(&mut self, round: bool, sample: Option<Duration>) -> Pace {
        if let Some(sample) = sample {
            self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
            self.samples += 1;
        }
        let believed = self.least.filter(|_| self.samples >= N_RTT_SAMPLE);
        match (believed, self.last_least, &mut self.conservative) {
            (Some(least), _, Some((baseline, _))) if least < *baseline => self.conservative = None,
            (Some(least), Some(last), none @ None) => {
                let threshold = (last / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if least >= last + threshold {
                    *none = Some((least, 0));
                }
            }
            _ => {}
        }
        if round {
            (self.last_least, self.least, self.samples) = (self.least.or(self.last_least), None, 0);
            if let Some((_, rounds)) = &mut self.conservative {
                *rounds += 1;
                if *rounds >= CSS_ROUNDS {
                    *self = Self::default();
                    return Pace::End;
                }
            }
        }
        Pace::Grow(if self.conservative.is_some() { CSS_GROWTH_DIVISOR } else { 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(hystart: &mut HyStart, ms: u64) -> Pace {
        for _ in 0..9 {
            hystart.on_ack(false, Some(Duration::from_millis(ms)));
        }
        hystart.on_ack(true, Some(Duration::from_millis(ms)))
    }

    #[test]
    fn a_rising_round_trip_slows_growth_and_five_rounds_later_ends_it() {
        let mut hystart = HyStart::default();
        assert_eq!(round(&mut hystart, 50), Pace::Grow(1));
        assert_eq!(round(&mut hystart, 55), Pace::Grow(1), "below an eighth");
        assert_eq!(round(&mut hystart, 62), Pace::Grow(4));
        let rest: std::vec::Vec<_> = (0..4).map(|_| round(&mut hystart, 70)).collect();
        assert_eq!(rest, [Pace::Grow(4), Pace::Grow(4), Pace::Grow(4), Pace::End]);
    }

    #[test]
    fn a_round_trip_that_comes_down_again_was_jitter() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 50);
        assert_eq!(round(&mut hystart, 62), Pace::Grow(4));
        assert_eq!(round(&mut hystart, 60), Pace::Grow(1));
    }

    #[test]
    fn few_samples_decide_nothing() {
        let mut hystart = HyStart::default();
        for ms in [50, 90, 150] {
            assert_eq!(hystart.on_ack(true, Some(Duration::from_millis(ms))), Pace::Grow(1));
        }
    }
}
