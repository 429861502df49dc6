//! Which clients share how many groups. Two clients are peers exactly while they share at least one.

use crate::entropy::SeededState;
use crate::ids::PeerId;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// Counts shared groups, pair by pair. Never iterated, so its order does not matter.
pub(super) struct Pairs {
    /// Key: lower id first.
    shared: HashMap<(PeerId, PeerId), Pair, SeededState>,
    /// How many peers each client has; no entry for none.
    peers: HashMap<PeerId, usize, SeededState>,
}

#[derive(Clone, Copy)]
struct Pair {
    /// Groups they share, at least one.
    groups: usize,
    /// When they became peers.
    epoch: u64,
}

impl Pairs {
    pub(super) fn new(hasher: &SeededState) -> Self {
        Self { shared: HashMap::with_hasher(hasher.clone()), peers: HashMap::with_hasher(hasher.clone()) }
    }

    /// They share one more group. On the first one, takes the next epoch after `last` and returns it.
    pub(super) fn meet(&mut self, a: PeerId, b: PeerId, last: &mut u64) -> Option<u64> {
        match self.shared.entry(ordered(a, b)) {
            Entry::Occupied(mut pair) => {
                pair.get_mut().groups += 1;
                return None;
            }
            Entry::Vacant(place) => {
                *last += 1;
                place.insert(Pair { groups: 1, epoch: *last });
            }
        }
        for client in [a, b] {
            *self.peers.entry(client).or_insert(0) += 1;
        }
        Some(*last)
    }

    /// They share one group less. After the last one, returns the epoch that [`Self::meet`] had given.
    pub(super) fn part(&mut self, a: PeerId, b: PeerId) -> Option<u64> {
        let Entry::Occupied(mut pair) = self.shared.entry(ordered(a, b)) else { return None };
        if pair.get().groups > 1 {
            pair.get_mut().groups -= 1;
            return None;
        }
        let epoch = pair.remove().epoch;
        for client in [a, b] {
            if let Entry::Occupied(mut count) = self.peers.entry(client) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        Some(epoch)
    }

    /// How many groups they share.
    pub(super) fn shared(&self, a: PeerId, b: PeerId) -> usize {
        self.shared.get(&ordered(a, b)).map_or(0, |pair| pair.groups)
    }

    /// Since when they are peers, if they are.
    #[cfg(test)]
    pub(super) fn epoch(&self, a: PeerId, b: PeerId) -> Option<u64> {
        self.shared.get(&ordered(a, b)).map(|pair| pair.epoch)
    }

    /// How many peers a client has.
    pub(super) fn peers(&self, client: PeerId) -> usize {
        self.peers.get(&client).copied().unwrap_or(0)
    }
}

pub(super) fn ordered(a: PeerId, b: PeerId) -> (PeerId, PeerId) {
    if a < b { (a, b) } else { (b, a) }
}
