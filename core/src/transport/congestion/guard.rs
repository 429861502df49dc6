//! The delay guard: no window grows while packets stand in a queue for long.
//!
//! Deep buffers let a loss-based window grow until every packet waits for hundreds of milliseconds, which ends a game long
//! before anything is lost. When the least round trip of each of two rounds was more than the limit above the least ever
//! seen, windows give way a little and hold. The least of a round, so that jitter of single packets is no queue.
//!
//! To hold alone would freeze whatever shares flows happen to have at that moment; that all give way lets them come to
//! equal ones. It has to be worth it, though: where the queue stands on whatever this end does, somebody without a guard
//! fills the buffer, and to go on giving way would be to starve. Then the guard lets go for a long while (as Copa does,
//! Arun and Balakrishnan 2018), and the window is that of any other flow there.

use crate::time::Duration;

/// Round trips that the queue must stand: one may be a burst of somebody else's.
const ROUNDS: u32 = 2;
/// Round trips until giving way again: one until it shows, and those that it takes to see it.
const AGAIN: u32 = 3;
/// How often to give way until it counts as useless: with 0.85 each time a half of the window, the queue of any flow that
/// has the link to itself or to others with a guard.
const TRIES: u32 = 4;
/// Round trips for which the guard lets go then. Long, as trying costs what it gives way by.
const LETS_GO: u32 = 1000;

/// What the guard asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::transport) enum Guarded {
    Free,
    /// Nothing grows.
    Hold,
    /// Windows shrink a little, once.
    GiveWay,
}

#[derive(Clone, Debug)]
pub(in crate::transport) struct DelayGuard {
    limit: Option<Duration>,
    /// The least round trip of this round so far.
    least: Option<Duration>,
    /// Rounds in a row over the limit.
    over: u32,
    /// Rounds for which it lets go.
    free: u32,
}

impl DelayGuard {
    pub(in crate::transport) const fn new(limit: Option<Duration>) -> Self {
        Self { limit, least: None, over: 0, free: 0 }
    }

    /// Takes a sample in; `round`: a round trip is over with it.
    pub(in crate::transport) fn on_ack(&mut self, round: bool, sample: Option<Duration>, min_rtt: Duration) -> Guarded {
        let Some(limit) = self.limit else { return Guarded::Free };
        self.least = self.least.into_iter().chain(sample).min();
        if round && let Some(least) = self.least.take() {
            self.free = self.free.saturating_sub(1);
            self.over = if least > min_rtt.saturating_add(limit) && self.free == 0 { self.over + 1 } else { 0 };
            if self.over >= ROUNDS + AGAIN * TRIES {
                (self.over, self.free) = (0, LETS_GO);
            }
            if self.over >= ROUNDS && (self.over - ROUNDS).is_multiple_of(AGAIN) {
                return Guarded::GiveWay;
            }
        }
        if self.over >= ROUNDS { Guarded::Hold } else { Guarded::Free }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn round(guard: &mut DelayGuard, rtts: [u64; 2]) -> Guarded {
        guard.on_ack(false, Some(ms(rtts[0])), ms(40));
        guard.on_ack(true, Some(ms(rtts[1])), ms(40))
    }

    #[test]
    fn windows_give_way_after_two_rounds_of_queue_and_hold_until_a_round_without() {
        let mut guard = DelayGuard::new(Some(ms(50)));
        let found = [[100, 120], [100, 120], [95, 91], [120, 91], [120, 95], [120, 90], [120, 91]];
        let found = found.map(|rtts| round(&mut guard, rtts));
        use Guarded::{Free, GiveWay, Hold};
        assert_eq!(found, [Free, GiveWay, Hold, Hold, GiveWay, Free, Free], "the least of a round counts");
    }

    #[test]
    fn where_giving_way_is_useless_it_lets_go_for_long() {
        let mut guard = DelayGuard::new(Some(ms(50)));
        let found: std::vec::Vec<_> = (0..1100).map(|_| round(&mut guard, [200, 200])).collect();
        let gave_way = |from: usize, to: usize| found[from..to].iter().filter(|f| **f == Guarded::GiveWay).count();
        assert_eq!((gave_way(0, 14), gave_way(14, 1010), gave_way(1010, 1100)), (4, 0, 4));
        assert!(found[20..1000].iter().all(|f| *f == Guarded::Free));
    }

    #[test]
    fn without_a_limit_it_does_nothing() {
        let mut guard = DelayGuard::new(None);
        assert!((0..9).all(|_| guard.on_ack(true, Some(ms(999)), ms(1)) == Guarded::Free));
    }
}
