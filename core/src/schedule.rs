//! Which of many links is due next: an indexed binary heap, one entry a slot, no allocation once it has grown.
//!
//! Composers keep their links in slots. After every touch they set the slot's time anew; what is due is popped in order
//! of time, so that a link that waits for room in an outbox is served before one that became due later.

use crate::time::Instant;
use alloc::vec::Vec;

/// A time a slot, and the earliest of them.
#[derive(Default)]
pub(crate) struct Schedule<T> {
    heap: Vec<Entry<T>>,
    /// Where a slot's entry stands in `heap`, plus one; 0 if it has none.
    place: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Entry<T> {
    at: Instant,
    slot: u32,
    /// What for.
    tag: T,
}

impl<T: Copy> Schedule<T> {
    pub(crate) const fn new() -> Self {
        Self { heap: Vec::new(), place: Vec::new() }
    }

    /// Sets, moves or removes the time of `slot`.
    pub(crate) fn set(&mut self, slot: u32, due: Option<(Instant, T)>) {
        let index = slot as usize;
        if index >= self.place.len() {
            if due.is_none() {
                return;
            }
            self.place.resize(index + 1, 0);
        }
        let place = self.place[index] as usize;
        match (place, due) {
            (0, None) => {}
            (0, Some((at, tag))) => {
                self.heap.push(Entry { at, slot, tag });
                self.place[index] = self.heap.len() as u32;
                self.rise(self.heap.len() - 1);
            }
            (p, None) => self.remove(p - 1),
            (p, Some((at, tag))) => {
                self.heap[p - 1].at = at;
                self.heap[p - 1].tag = tag;
                let p = self.rise(p - 1);
                self.sink(p);
            }
        }
    }

    /// The earliest time, and what for.
    pub(crate) fn next(&self) -> Option<(Instant, T)> {
        self.heap.first().map(|e| (e.at, e.tag))
    }

    /// Takes out the slot with the earliest time, if that time has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let slot = self.heap.first().filter(|e| e.at <= now)?.slot;
        self.remove(0);
        Some(slot)
    }

    fn remove(&mut self, at: usize) {
        let last = self.heap.len() - 1;
        self.swap(at, last);
        if let Some(gone) = self.heap.pop() {
            self.place[gone.slot as usize] = 0;
        }
        if at < self.heap.len() {
            let at = self.rise(at);
            self.sink(at);
        }
    }

    fn rise(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.before(at, parent) {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
        at
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut first = at;
            if left < self.heap.len() && self.before(left, first) {
                first = left;
            }
            if right < self.heap.len() && self.before(right, first) {
                first = right;
            }
            if first == at {
                return;
            }
            self.swap(at, first);
            at = first;
        }
    }

    /// Slots break ties, so that the order never depends on history.
    fn before(&self, a: usize, b: usize) -> bool {
        (self.heap[a].at, self.heap[a].slot) < (self.heap[b].at, self.heap[b].slot)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[self.heap[a].slot as usize] = a as u32 + 1;
        self.place[self.heap[b].slot as usize] = b as u32 + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_pops_what_a_sorted_map_would(steps in proptest::collection::vec((0u32..12, proptest::option::of(0u64..50), any::<bool>()), 0..200)) {
            let mut schedule = Schedule::new();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (slot, at, pop) in steps {
                if pop {
                    let now = at.unwrap_or(0);
                    let first = model.iter().map(|(s, t)| (*t, *s)).min().filter(|(t, _)| *t <= now);
                    prop_assert_eq!(schedule.pop_due(Instant(now)), first.map(|(_, s)| s));
                    if let Some((_, s)) = first {
                        model.remove(&s);
                    }
                } else {
                    schedule.set(slot, at.map(|t| (Instant(t), ())));
                    match at {
                        Some(t) => drop(model.insert(slot, t)),
                        None => drop(model.remove(&slot)),
                    }
                }
                let first = model.values().min().map(|t| (Instant(*t), ()));
                prop_assert_eq!(schedule.next(), first);
            }
        }
    }
}
