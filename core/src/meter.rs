//! How often something happens: the generic cell rate algorithm (ITU-T I.371, annex A), which keeps one number.
//!
//! That number is when the bucket would be full again, from which follows how much is in it. A [`Meters`] has one for each
//! of very many sources in a fixed amount of memory: each source has two meters, by a keyed hash, shared with others. It has
//! room if either has, and takes from those that have; so a source that uses up its own rate does not shut out another unless
//! others happen to have used up both of that one's meters (a count-min sketch with conservative update: Cormode and
//! Muthukrishnan, 2005; Estan and Varghese, 2002).

use crate::config::Rate;
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::vec;

/// One bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Meter {
    /// When it is full again, in nanoseconds.
    full_at: u64,
}

impl Meter {
    /// Takes one out, if there is one.
    pub(crate) fn take(&mut self, now: Instant, rate: Rate) -> bool {
        self.take_some(now, rate, 1)
    }

    /// Takes so many out, if there are as many.
    pub(crate) fn take_some(&mut self, now: Instant, rate: Rate, count: usize) -> bool {
        // Nothing is farther off than an empty bucket is, unless the clock went back.
        let empty = now.0.saturating_add(time_of(rate, u64::from(rate.burst)));
        self.full_at = self.full_at.clamp(now.0, empty);
        let after = self.full_at.saturating_add(time_of(rate, count as u64));
        let room = after <= empty;
        if room {
            self.full_at = after;
        }
        room
    }
}

/// Nanoseconds in which so many come.
fn time_of(rate: Rate, count: u64) -> u64 {
    count.saturating_mul(1_000_000_000) / u64::from(rate.per_second.max(1))
}

/// Meters of either row: with 62 sources at their limit of 16 a second, as many as 1,000 logins a second are, another one
/// finds both of its own used up once in a thousand times.
const COLUMNS: usize = 2048;

/// A bucket a source, near enough. See the module's text. 32 KiB.
pub(crate) struct Meters(Box<[[Meter; COLUMNS]]>);

impl Meters {
    pub(crate) fn new() -> Self {
        Self(vec![[Meter::default(); COLUMNS]; 2].into())
    }

    /// Takes one out of the bucket of the source with this hash, if there is one.
    pub(crate) fn take(&mut self, now: Instant, hash: u64, rate: Rate) -> bool {
        let columns = [hash as u32, (hash >> 32) as u32].map(|half| half as usize % COLUMNS);
        let mut room = false;
        for (row, column) in self.0.iter_mut().zip(columns) {
            if let Some(meter) = row.get_mut(column) {
                room |= meter.take(now, rate);
            }
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use proptest::prelude::*;
    use std::vec::Vec;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    #[test]
    fn a_bucket_gives_a_burst_and_then_its_rate() {
        let mut meter = Meter::default();
        let taken = |meter: &mut Meter, ms| (0..10).filter(|_| meter.take(Instant::from_millis(ms), RATE)).count();
        assert_eq!(taken(&mut meter, 5_000), 3);
        assert_eq!(taken(&mut meter, 5_099), 0);
        assert_eq!(taken(&mut meter, 5_100), 1);
        assert_eq!(taken(&mut meter, 5_300), 2);
        assert_eq!(taken(&mut meter, 50_000), 3, "no more than a burst is saved");
    }

    #[test]
    fn a_clock_that_goes_back_does_not_keep_it_empty() {
        let mut meter = Meter::default();
        while meter.take(Instant::from_millis(1_000_000), RATE) {}
        assert!(!meter.take(Instant::from_millis(5), RATE));
        assert!(meter.take(Instant::from_millis(405), RATE));
        let _ = meter.take(Instant::FAR, RATE);
    }

    #[test]
    fn who_is_over_its_rate_shuts_out_few_others() {
        let mut meters = Meters::new();
        let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for source in 0..62 {
            while meters.take(Instant::ZERO, spread(source), RATE) {}
        }
        let mut lost = 0;
        for n in 1_000..6_000 {
            let mut copy = Meters(meters.0.clone());
            lost += u32::from(!copy.take(Instant::ZERO, spread(n), RATE));
        }
        assert!(lost < 25, "{lost} of 5000");
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_over_any_time(
            steps in prop::collection::vec(0u64..400, 1..200), per_second in 1u32..50, burst in 1u32..20,
        ) {
            let (rate, mut meter, mut now) = (Rate { per_second, burst }, Meter::default(), Instant::from_millis(1));
            let mut taken: Vec<Instant> = Vec::new();
            for step in steps {
                now = now + Duration::from_millis(step);
                if meter.take(now, rate) {
                    taken.push(now);
                }
            }
            for (i, first) in taken.iter().enumerate() {
                for (n, last) in taken.iter().enumerate().skip(i) {
                    let allowed = u64::from(burst) + (last.since(*first).as_millis() as u64 * u64::from(per_second)) / 1_000 + 1;
                    prop_assert!((n - i + 1) as u64 <= allowed);
                }
            }
        }
    }
}
