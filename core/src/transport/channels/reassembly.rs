//! One message being put together from pieces that come in any order, repeated and overlapping.
//!
//! Memory grows with the bytes that arrived, never by what a frame claims. Pieces lie on the grid of [`FRAGMENT_UNIT`], so
//! one bit a unit says what is there: an eighth of a hundredth of the message, and no slower for any number of gaps.
#![deny(clippy::arithmetic_side_effects)]

use crate::wire::frames::FRAGMENT_UNIT;
use alloc::vec::Vec;

/// Bytes of a message, as far as they have arrived.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) total: u64,
    pub(super) complete: bool,
    bytes: Vec<u8>,
    /// A bit a unit of the grid.
    have: Vec<u64>,
    /// Units that have not arrived.
    missing: u64,
}

impl Assembly {
    /// Begins a message of `total` bytes in `buffer`, which is empty.
    pub(super) fn begin(&mut self, total: u64, buffer: Vec<u8>) {
        self.total = total;
        self.complete = false;
        self.bytes = buffer;
        self.have.clear();
        self.missing = total.div_ceil(FRAGMENT_UNIT);
    }

    /// Bytes that it takes at the moment.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts `data` at `offset`; the frame's reader has checked that both lie within the total.
    pub(super) fn insert(&mut self, offset: u64, data: &[u8]) {
        if self.complete {
            return;
        }
        let end = offset.saturating_add(data.len() as u64).min(self.total);
        let (Ok(from), Ok(to)) = (usize::try_from(offset), usize::try_from(end)) else { return };
        if data.len() as u64 == self.total {
            self.bytes.clear();
            self.bytes.extend_from_slice(data);
            self.complete = true;
            return;
        }
        if !self.mark(offset / FRAGMENT_UNIT, end.div_ceil(FRAGMENT_UNIT)) {
            return;
        }
        // In order, as nearly always, nothing need be filled with zeros first.
        if self.bytes.len() == from {
            self.bytes.extend_from_slice(data);
        } else {
            if self.bytes.len() < to {
                self.bytes.resize(to, 0);
            }
            if let Some(place) = self.bytes.get_mut(from..to).filter(|p| p.len() == data.len()) {
                place.copy_from_slice(data);
            }
        }
        self.complete = self.missing == 0;
    }

    /// Enters units as arrived. True if any of them is new.
    fn mark(&mut self, from: u64, to: u64) -> bool {
        let before = self.missing;
        let (Ok(first), Ok(words)) = (usize::try_from(from / 64), usize::try_from(to.div_ceil(64))) else {
            return false;
        };
        if self.have.len() < words {
            self.have.resize(words, 0);
        }
        for (at, word) in self.have.iter_mut().enumerate().take(words).skip(first) {
            // The word's bits from a unit on.
            let base = (at as u64).saturating_mul(64);
            let on = |unit: u64| u64::MAX.checked_shl(unit.saturating_sub(base).min(64) as u32).unwrap_or(0);
            let new = on(from) & !on(to) & !*word;
            *word |= new;
            self.missing = self.missing.saturating_sub(u64::from(new.count_ones()));
        }
        self.missing < before
    }

    /// The buffer, and with it the message if it is complete.
    pub(super) fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_in_any_order_repeated_and_overlapping_make_the_message(
            total in 1usize..2000,
            pieces in proptest::collection::vec((0usize..64, 1usize..20), 0..40),
        ) {
            let message: Vec<u8> = (0..total).map(|n| (n * 7 % 251) as u8).collect();
            let mut assembly = Assembly::default();
            assembly.begin(total as u64, Vec::new());
            let all = (0..total.div_ceil(32)).rev().map(|unit| (unit, 1));
            for (unit, units) in pieces.into_iter().chain(all) {
                let (from, to) = (unit * 32, ((unit + units) * 32).min(total));
                if from < to {
                    assembly.insert(from as u64, message.get(from..to).unwrap());
                }
                prop_assert!(assembly.have.len() <= total / 2048 + 1);
            }
            prop_assert!(assembly.complete);
            prop_assert_eq!(assembly.take(), message);
        }
    }
}
