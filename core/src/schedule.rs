//! Which of many links is due next: an indexed binary heap, one entry a slot, no allocation once it has grown.
//!
//! Composers keep their links in slots. After every touch they set the slot's time anew; what is due is popped in order
//! of time, so that a link that waits for room in an outbox is served before one that became due later.
//!
//! A link is touched for every packet and every message, mostly many times in a row, and computing when it is due costs more than
//! either. So the link touched last has its time set only when another is touched, or something is taken out: until then the
//! composer works it out where it is asked for the next time ([`Schedule::touch`], [`Schedule::touched`]).

use crate::time::{Duration, Instant};
use alloc::vec::Vec;

/// What is due and cannot go on (a link whose packet numbers are used up) is left alone for so long, so that nobody spins.
const REST: Duration = Duration::from_millis(10);

/// A time a slot, and the earliest of them.
#[derive(Default)]
pub(crate) struct Schedule<T> {
    heap: Vec<Entry<T>>,
    /// Where a slot's entry stands in `heap`, plus one; 0 if it has none.
    place: Vec<u32>,
    /// The slot whose entry is out of date.
    touched: Option<u32>,
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
        Self { heap: Vec::new(), place: Vec::new(), touched: None }
    }

    /// The time of `slot` may be another now. Says whose time is to be set for that, if any.
    #[must_use]
    pub(crate) fn touch(&mut self, slot: u32) -> Option<u32> {
        self.touched.replace(slot).filter(|other| *other != slot)
    }

    /// Whose time is out of date.
    pub(crate) fn touched(&self) -> Option<u32> {
        self.touched
    }

    /// Sets, moves or removes the time of `slot`.
    pub(crate) fn set(&mut self, slot: u32, due: Option<(Instant, T)>) {
        self.touched = self.touched.filter(|touched| *touched != slot);
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

    /// A slot was just served and had nothing to say. If it is due all the same, it is asked again after [`REST`]. Its time must be
    /// set before.
    pub(crate) fn postpone(&mut self, slot: u32, now: Instant) {
        debug_assert_ne!(self.touched, Some(slot), "times are set before they are gone by");
        let place = self.place.get(slot as usize).copied().unwrap_or_default() as usize;
        if let Some(Entry { at, tag, .. }) = place.checked_sub(1).and_then(|p| self.heap.get(p)).copied()
            && at <= now
        {
            self.set(slot, Some((now + REST, tag)));
        }
    }

    /// The earliest time of all slots but the touched one, and what for.
    pub(crate) fn next(&self) -> Option<(Instant, T)> {
        let first = self.heap.first()?;
        if self.touched != Some(first.slot) {
            return Some((first.at, first.tag));
        }
        // The next after the first are below it.
        let second = match (self.heap.get(1), self.heap.get(2)) {
            (Some(_), Some(_)) if self.before(2, 1) => self.heap.get(2),
            (second, _) => second,
        };
        second.map(|e| (e.at, e.tag))
    }

    /// Takes out the slot with the earliest time, if that time has come. The touched slot's must be set before.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        debug_assert_eq!(self.touched, None, "times are set before they are gone by");
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

    #[test]
    fn what_was_served_in_vain_rests_and_what_is_not_due_is_left_alone() {
        let mut schedule = Schedule::new();
        schedule.set(0, Some((Instant(5), ())));
        schedule.set(1, Some((Instant(8), ())));
        for slot in 0..3 {
            schedule.postpone(slot, Instant(5));
        }
        assert_eq!(schedule.next(), Some((Instant(8), ())));
        assert_eq!(schedule.pop_due(Instant(8)), Some(1));
        assert_eq!(schedule.next(), Some((Instant(5) + REST, ())));
    }

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
            for slot in 0..12 {
                let before = schedule.touched();
                prop_assert_eq!(schedule.touch(slot), before);
                prop_assert_eq!((schedule.touch(slot), schedule.touched()), (None, Some(slot)));
                let others = model.iter().filter(|(s, _)| **s != slot).map(|(_, t)| *t).min();
                prop_assert_eq!(schedule.next(), others.map(|t| (Instant(t), ())));
            }
        }
    }
}
