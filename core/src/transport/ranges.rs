//! Sets of numbers as ranges: which packets arrived, which bytes are acknowledged, which scope ids are spent.
//!
//! The ranges are disjoint, not adjacent and ascending, so that membership is a binary search, and growth at the upper
//! end (by far the most frequent) touches one element.
#![deny(clippy::arithmetic_side_effects)]

use alloc::collections::VecDeque;

/// A set of numbers as half-open ranges.
#[derive(Default, Debug)]
pub(super) struct Ranges {
    list: VecDeque<(u64, u64)>,
}

impl Ranges {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    /// The largest number in the set.
    pub(super) fn largest(&self) -> Option<u64> {
        self.list.back().map(|r| r.1.saturating_sub(1))
    }

    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.list.front().copied()
    }

    /// First and last number of each range, from the largest down.
    pub(super) fn descending(&self) -> impl Iterator<Item = (u64, u64)> + Clone {
        self.list.iter().rev().map(|r| (r.0, r.1.saturating_sub(1)))
    }

    pub(super) fn contains(&self, n: u64) -> bool {
        let at = self.list.partition_point(|r| r.1 <= n);
        self.list.get(at).is_some_and(|r| r.0 <= n)
    }

    /// Adds `start..end`; says how many numbers are new.
    pub(super) fn insert(&mut self, start: u64, end: u64) -> u64 {
        if start >= end {
            return 0;
        }
        let first = self.list.partition_point(|r| r.1 < start);
        let past = self.list.partition_point(|r| r.0 <= end);
        if first >= past {
            self.list.insert(first, (start, end));
            return end.saturating_sub(start);
        }
        let mut known = 0u64;
        let mut merged = (start, end);
        for r in self.list.range(first..past) {
            known = known.saturating_add(r.1.min(end).saturating_sub(r.0.max(start)));
            merged = (merged.0.min(r.0), merged.1.max(r.1));
        }
        if let Some(place) = self.list.get_mut(first) {
            *place = merged;
        }
        self.list.drain(first.saturating_add(1)..past);
        end.saturating_sub(start).saturating_sub(known)
    }

    /// Takes `start..end` out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let at = self.list.partition_point(|r| r.1 <= start);
        let Some(r) = self.list.get_mut(at).filter(|r| r.0 < start) else {
            return self.remove_whole(at, end);
        };
        let high = r.1;
        r.1 = start;
        if high > end {
            self.list.insert(at.saturating_add(1), (end, high));
        } else {
            self.remove_whole(at.saturating_add(1), end);
        }
    }

    /// Takes out everything below `end` from the range at `at` on.
    fn remove_whole(&mut self, at: usize, end: u64) {
        let past = self.list.partition_point(|r| r.1 <= end).max(at);
        self.list.drain(at..past);
        if let Some(r) = self.list.get_mut(at) {
            r.0 = r.0.max(end);
        }
    }

    /// Forgets the lowest range.
    pub(super) fn pop_first(&mut self) {
        self.list.pop_front();
    }

    /// The first stretch of `start..end` that is not in the set.
    pub(super) fn first_gap(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let at = self.list.partition_point(|r| r.1 <= start);
        let (from, next) = match self.list.get(at) {
            Some(r) if r.0 <= start => (r.1, self.list.get(at.saturating_add(1)).map_or(end, |n| n.0)),
            Some(r) => (start, r.0),
            None => (start, end),
        };
        (from < end).then(|| (from, next.min(end)))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_the_set_that_was_put_in_and_taken_out(ops in vec((any::<bool>(), 0u64..80, 0u64..12), 0..60)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (add, start, len) in ops {
                let before = model.len();
                for n in start..start + len {
                    if add { model.insert(n); } else { model.remove(&n); }
                }
                if add {
                    prop_assert_eq!(ranges.insert(start, start + len), (model.len() - before) as u64);
                } else {
                    ranges.remove(start, start + len);
                }
                let back: BTreeSet<u64> = ranges.descending().flat_map(|(a, b)| a..=b).collect();
                prop_assert_eq!(&back, &model);
                prop_assert!(ranges.list.iter().zip(ranges.list.iter().skip(1)).all(|(a, b)| a.1 < b.0));
                prop_assert!(ranges.list.iter().all(|r| r.0 < r.1));
                prop_assert!((0..95).all(|n| ranges.contains(n) == model.contains(&n)));
                let gap = (start..start + len).find(|n| !model.contains(n));
                prop_assert_eq!(ranges.first_gap(start, start + len).map(|g| g.0), gap);
                if let Some((a, b)) = ranges.first_gap(start, start + len) {
                    prop_assert!((a..b).all(|n| !model.contains(&n)));
                    prop_assert!(b == start + len || model.contains(&b));
                }
            }
        }
    }
}
