//! How many challenges of plain punching all pairs of a client together send: no more than [`CHALLENGES`] in any second. A group of
//! a hundred would else begin with 5,000 of them a second. A search has a pace of its own and is only counted here.
//!
//! A pair whose turn has not come is given a moment of its own (so they take turns in the order in which they asked) and sends
//! then. Small groups never wait: one of eight sends less than the bound until its pairs are direct.

use crate::time::{Duration, Instant};
use alloc::collections::VecDeque;

/// Challenges of all pairs in any [`WINDOW`]: as a search has it, less than a voice call sends.
pub(crate) const CHALLENGES: usize = 100;
/// The time in which they are counted.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

/// When the latest challenges were granted, the oldest first.
#[derive(Default)]
pub(crate) struct Pace {
    granted: VecDeque<Instant>,
}

impl Pace {
    /// The moment at which another challenge may leave: `now`, or one that is kept for whoever asks here.
    pub(super) fn grant(&mut self, now: Instant) -> Instant {
        // All that it ever takes, with the first, so that none of the later ones allocates.
        self.granted.reserve_exact(CHALLENGES.saturating_sub(self.granted.len()));
        let mut at = self.granted.back().map_or(now, |last| now.max(*last));
        if self.granted.len() >= CHALLENGES
            && let Some(oldest) = self.granted.pop_front()
        {
            at = at.max(oldest + WINDOW);
        }
        self.granted.push_back(at);
        at
    }

    /// One leaves that has a pace of its own: others make room for it.
    pub(crate) fn note(&mut self, now: Instant) {
        self.grant(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_second_has_more_challenges_than_the_bound_and_turns_come_in_order(
            waits in prop::collection::vec(0u64..30, 1..600),
        ) {
            let (mut pace, mut now, mut sent) = (Pace::default(), Instant::ZERO, Vec::new());
            for wait in waits {
                now = now + Duration::from_millis(wait);
                let at = pace.grant(now);
                prop_assert!(at >= now);
                prop_assert!(sent.last().is_none_or(|last| *last <= at));
                sent.push(at);
            }
            for all in sent.windows(CHALLENGES + 1) {
                prop_assert!(all[CHALLENGES].since(all[0]) >= WINDOW);
            }
        }
    }

    #[test]
    fn the_first_hundred_wait_for_nothing() {
        let mut pace = Pace::default();
        let now = Instant::from_millis(5);
        assert!((0..CHALLENGES).all(|_| pace.grant(now) == now));
        assert_eq!(pace.grant(now), now + WINDOW);
    }
}
