//! What will happen: events by time, and those of one instant in the order in which they were scheduled.

use posse_core::Instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that will happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Due {
    /// A packet (by its slot) comes out of a wire.
    Arrival { wire: u32, packet: u32 },
    /// A host's machine may want to be woken.
    Wake { host: u32 },
    /// A host's TCP has something to do.
    Stack { host: u32 },
}

/// The event queue.
#[derive(Default)]
pub(crate) struct Queue {
    /// The ordinal differs for each entry, so nothing after it is ever compared.
    heap: BinaryHeap<Reverse<(Instant, u64, Due)>>,
    ordinal: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Instant, due: Due) {
        self.heap.push(Reverse((at, self.ordinal, due)));
        self.ordinal += 1;
    }

    /// Moves the arrivals from one wire. They are asked for in the order in which they would have happened.
    pub(crate) fn move_arrivals(&mut self, on: u32, mut moved: impl FnMut(Instant, u32) -> Instant) {
        // The latest first, as the heap is one of reversed times.
        let mut all = std::mem::take(&mut self.heap).into_sorted_vec();
        for Reverse((at, _, due)) in all.iter_mut().rev() {
            match *due {
                Due::Arrival { wire, packet } if wire == on => *at = moved(*at, packet),
                _ => {}
            }
        }
        self.heap = all.into();
    }

    /// When the next event is due.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, Due)> {
        self.heap.pop().map(|Reverse((at, _, due))| (at, due))
    }
}
