//! When the least round trip of a path is no longer believed.
//!
//! What a queue adds is told by the least round trip ever seen, which must not be that of a path that is gone: a call that moved
//! to another mast, a route that changed, would look like a queue for ever. So it is believed for as long as samples come
//! near it, and ten seconds more, as BBR does (Cardwell and others 2016). Then the least sample of the packets that were nearly alone
//! under way takes its place, since none of those can have waited behind its own flow. A flow that always has more under
//! way is held to that much until there is such a sample: one or two round trips of ten seconds, and only while round
//! trips are longer than they were.

use crate::time::{Duration, Instant};

/// For how long a least round trip is believed that no sample comes near.
const BELIEVED: Duration = Duration::from_secs(10);
/// Datagrams under way with which one is nearly alone: BBR's probe of the round trip.
pub(super) const ALONE: u64 = 4;
/// Part of the least round trip that is near it, and its bounds: what jitters in every packet of ten seconds is no other
/// path; timers and batches of receivers are below 2 ms.
const NEAR_PART: u32 = 8;
const NEAR_LEAST: Duration = Duration::from_millis(2);
const NEAR_MOST: Duration = Duration::from_millis(12);

/// See the module's text.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// When a sample last came near.
    near_at: Instant,
    /// The least sample since of a packet that was nearly alone.
    alone: Option<Duration>,
    draining: bool,
}

impl Base {
    pub(super) fn new(now: Instant) -> Self {
        Self { near_at: now, alone: None, draining: false }
    }

    /// Whether no more than [`ALONE`] datagrams may be under way.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Takes a sample, of a packet that was nearly alone or was not. Says what takes the place of `least`, if it is no longer
    /// believed.
    pub(super) fn on_sample(
        &mut self,
        now: Instant,
        sample: Duration,
        alone: bool,
        least: Duration,
    ) -> Option<Duration> {
        if sample <= least.saturating_add((least / NEAR_PART).clamp(NEAR_LEAST, NEAR_MOST)) {
            *self = Self::new(now);
            return None;
        }
        if alone {
            self.alone = Some(self.alone.map_or(sample, |before| before.min(sample)));
        }
        if now.since(self.near_at) < BELIEVED {
            return None;
        }
        let found = self.alone;
        *self = if found.is_some() { Self::new(now) } else { Self { draining: true, ..self.clone() } };
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A sample every 100 ms for so many seconds: what took the least one's place, and after how many samples.
    fn samples(base: &mut Base, from: u64, seconds: u64, rtt: u64, alone: bool) -> Option<(u64, Duration)> {
        (0..seconds * 10).find_map(|n| {
            let at = Instant::from_millis(1_000 * from + 100 * n);
            base.on_sample(at, ms(rtt), alone, ms(50)).map(|found| (n, found))
        })
    }

    #[test]
    fn a_game_believes_a_longer_path_after_ten_seconds_and_is_never_held_up() {
        let mut base = Base::new(Instant::ZERO);
        assert_eq!(samples(&mut base, 0, 60, 56, true), None, "near enough");
        assert_eq!(samples(&mut base, 60, 60, 57, true), Some((99, ms(57))));
        assert!(!base.is_draining());
    }

    #[test]
    fn bulk_is_held_to_a_few_packets_until_one_of_them_tells() {
        let mut base = Base::new(Instant::ZERO);
        assert_eq!(samples(&mut base, 0, 60, 90, false), None);
        assert!(base.is_draining());
        assert_eq!(samples(&mut base, 60, 1, 70, true), Some((0, ms(70))));
        assert!(!base.is_draining());
    }

    #[test]
    fn a_queue_that_empties_in_time_changes_nothing() {
        let mut base = Base::new(Instant::ZERO);
        for second in 0..60 {
            let rtt = if second % 9 == 0 { 52 } else { 140 };
            assert_eq!(samples(&mut base, second, 1, rtt, false), None);
            assert!(!base.is_draining());
        }
    }
}
