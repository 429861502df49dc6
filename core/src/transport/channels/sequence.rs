//! The latest numbers that were handed on in sequenced scopes, so that nothing earlier follows.
//!
//! A key is named by the peer, so only so many are remembered. When they are too many, each scope keeps the latest number
//! of all its keys instead: some messages are then taken for late that are not, but none goes back.
#![deny(clippy::arithmetic_side_effects)]

use super::MAX_SCOPES;
use alloc::collections::BTreeMap;

/// Keys remembered over all scopes: things in a game whose states are sent one by one. More than scopes, so that there is
/// always room for one more after forgetting.
const MAX_KEYS: usize = 2 * MAX_SCOPES;

/// Stands for the keys that were forgotten.
const FORGOTTEN: u64 = u64::MAX;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Latest {
    /// By scope, and by key plus one; messages without a key have 0.
    numbers: BTreeMap<(u64, u64), u64>,
}

impl Latest {
    /// Whether a message may be handed on; then nothing of its key up to it may any more.
    pub(super) fn pass(&mut self, scope: u64, key: Option<u32>, seq: u64) -> bool {
        let place = (scope, key.map_or(0, |key| u64::from(key).saturating_add(1)));
        if let Some(latest) = self.numbers.get_mut(&place) {
            let passes = seq > *latest;
            *latest = seq.max(*latest);
            return passes;
        }
        if self.numbers.get(&(scope, FORGOTTEN)).is_some_and(|&latest| seq <= latest) {
            return false;
        }
        if self.numbers.len() >= MAX_KEYS {
            self.forget_keys();
        }
        self.numbers.insert(place, seq);
        true
    }

    /// A scope is over.
    pub(super) fn forget(&mut self, scope: u64) {
        while let Some((&place, _)) = self.numbers.range((scope, 0)..=(scope, FORGOTTEN)).next() {
            self.numbers.remove(&place);
        }
    }

    fn forget_keys(&mut self) {
        for ((scope, _), latest) in core::mem::take(&mut self.numbers) {
            let all = self.numbers.entry((scope, FORGOTTEN)).or_default();
            *all = latest.max(*all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_key_ever_goes_back_however_many_there_are(
            messages in proptest::collection::vec((0u64..3, proptest::option::of(0u32..4), 0u64..50), 0..100),
            flood in 0u32..20_000,
        ) {
            let (mut latest, mut model) = (Latest::default(), BTreeMap::new());
            for (n, (scope, key, seq)) in messages.into_iter().enumerate() {
                if n == 50 {
                    (10..flood).for_each(|key| _ = latest.pass(9, Some(key), u64::from(key)));
                    prop_assert!(latest.numbers.len() <= MAX_KEYS);
                }
                let known = model.get(&(scope, key)).copied();
                let passes = latest.pass(scope, key, seq);
                if passes {
                    prop_assert!(known.is_none_or(|known| known < seq));
                    model.insert((scope, key), seq);
                } else if flood < 8000 {
                    prop_assert!(known.is_some_and(|known| known >= seq), "while all are remembered, none is refused for nothing");
                }
            }
            for scope in 0..10 {
                latest.forget(scope);
            }
            prop_assert!(latest.numbers.is_empty());
        }
    }
}
