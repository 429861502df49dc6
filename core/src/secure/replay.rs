//! Each number at most once: a window over the numbers received last.
//!
//! A ring of bits, one a number, for the numbers from the largest received down. Whoever uses it asks whether a number is
//! fresh, and marks it only when the packet has proved authentic: a forged number moves nothing.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

/// Numbers remembered. Reordering by more loses packets; 2048 is 2.4 MB of full datagrams in flight, and 256 B a window.
pub(crate) const WINDOW: u64 = 2048;
const WORD: u64 = u64::BITS as u64;
const WORDS: usize = (WINDOW / WORD) as usize;

/// Which of the numbers received last were received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ReplayWindow {
    largest: Option<u64>,
    /// The bit of number n is bit n mod 64 of word (n / 64) mod 32. Numbers above the largest have zero bits.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    pub(crate) const fn new() -> Self {
        Self { largest: None, seen: [0; WORDS] }
    }

    /// The largest number marked.
    pub(crate) const fn largest(&self) -> Option<u64> {
        self.largest
    }

    /// Whether `number` was never marked and is not so old that nobody remembers.
    pub(crate) fn check(&self, number: u64) -> bool {
        let Some(largest) = self.largest else { return true };
        // By subtraction, never `number + WINDOW`: that overflows near 2^64.
        match largest.checked_sub(number) {
            None => true,
            Some(age) => age < WINDOW && self.word(number) & bit(number) == 0,
        }
    }

    /// Remembers `number`. Numbers that [`Self::check`] would refuse change nothing.
    pub(crate) fn mark(&mut self, number: u64) {
        if !self.check(number) {
            return;
        }
        let ahead = match self.largest {
            Some(largest) => number.saturating_sub(largest),
            None => WINDOW,
        };
        if ahead > 0 {
            self.clear(number, ahead.min(WINDOW));
            self.largest = Some(number);
        }
        if let Some(word) = self.seen.get_mut(index(number)) {
            *word |= bit(number);
        }
    }

    /// Zeroes the bits of the `count` numbers up to `last`; they stood for numbers that fall out of the window now.
    fn clear(&mut self, last: u64, count: u64) {
        let mut left = count;
        let mut number = last;
        while left > 0 {
            // The rest of one word at a time: at most 33 rounds.
            let in_word = (number % WORD).saturating_add(1).min(left);
            let low = (number % WORD).saturating_add(1).saturating_sub(in_word);
            let mask = (u64::MAX >> WORD.saturating_sub(in_word)) << low;
            if let Some(word) = self.seen.get_mut(index(number)) {
                *word &= !mask;
            }
            left = left.saturating_sub(in_word);
            // Wraps only where the ring does: below number 0 there is nothing to remember.
            number = number.wrapping_sub(in_word);
        }
    }

    fn word(&self, number: u64) -> u64 {
        self.seen.get(index(number)).copied().unwrap_or_default()
    }
}

const fn index(number: u64) -> usize {
    ((number % WINDOW) / WORD) as usize
}

const fn bit(number: u64) -> u64 {
    1 << (number % WORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    #[test]
    fn each_number_passes_once_at_both_ends_of_the_range() {
        for number in [0, 1, u64::MAX - 1, u64::MAX] {
            let mut window = ReplayWindow::new();
            assert!(window.check(number));
            window.mark(number);
            assert!(!window.check(number));
        }
        let mut window = ReplayWindow::new();
        for number in (0..3000).chain(u64::MAX - 3000..=u64::MAX) {
            assert!(window.check(number), "{number}");
            window.mark(number);
            assert!(!window.check(number), "{number}");
        }
    }

    #[test]
    fn the_window_is_exactly_as_long_as_it_says() {
        let mut window = ReplayWindow::new();
        window.mark(5000);
        assert!(window.check(5000 - WINDOW + 1));
        assert!(!window.check(5000 - WINDOW));
    }

    #[test]
    fn a_refused_number_changes_nothing() {
        let mut window = ReplayWindow::new();
        window.mark(5000);
        let before = window.clone();
        window.mark(5000);
        window.mark(100);
        assert_eq!(window, before);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_agrees_with_a_set_of_all_numbers_seen(
            start in prop_oneof![Just(0u64), Just(u64::MAX - 20_000), any::<u64>()],
            steps in proptest::collection::vec(prop_oneof![0u64..5, 0u64..200, 0u64..6000], 1..300),
            back: bool,
        ) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            let mut at = start;
            for (i, step) in steps.into_iter().enumerate() {
                at = if back && i % 3 == 0 { at.saturating_sub(step) } else { at.saturating_add(step) };
                let largest = seen.last().copied();
                let fresh = !seen.contains(&at) && largest.is_none_or(|l: u64| l.saturating_sub(at) < WINDOW);
                prop_assert_eq!(window.check(at), fresh);
                if fresh {
                    window.mark(at);
                    seen.insert(at);
                }
                prop_assert_eq!(window.largest(), seen.last().copied());
            }
        }
    }
}
