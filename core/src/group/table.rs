//! Where groups are kept: by slot, with generations, so that an id never names two groups; and those with a number that the
//! application chose, by that number.
//!
//! Chosen numbers have the upper half of the slots to themselves. Their generations come from one counter for all of
//! them, so that nothing has to be remembered of a number that is free again.

use super::server::Group;
use crate::ids::GroupId;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The lowest slot of a chosen number.
const CHOSEN: u32 = 1 << 31;

/// See the module's text.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    /// Slots without a group whose generations are not used up.
    free: Vec<u32>,
    /// Groups with a chosen number, by slot.
    chosen: BTreeMap<u32, Slot>,
    /// The last generation of a chosen number.
    last_chosen: u32,
    live: usize,
}

struct Slot {
    /// Of its group, or of the one that it had last.
    generation: u32,
    group: Option<Group>,
}

impl Table {
    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// All groups, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let slots = self.slots.iter().enumerate().map(|(at, slot)| (at as u32, slot));
        let all = slots.chain(self.chosen.iter().map(|(at, slot)| (*at, slot)));
        all.filter_map(|(at, slot)| Some((GroupId::new(at, slot.generation), slot.group.as_ref()?)))
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        let slot = if id.slot() < CHOSEN { self.slots.get(id.slot() as usize) } else { self.chosen.get(&id.slot()) };
        slot.filter(|slot| slot.generation == id.generation())?.group.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        let slot =
            if id.slot() < CHOSEN { self.slots.get_mut(id.slot() as usize) } else { self.chosen.get_mut(&id.slot()) };
        slot.filter(|slot| slot.generation == id.generation())?.group.as_mut()
    }

    /// The group that has this number now.
    pub(super) fn numbered(&self, number: u32) -> Option<GroupId> {
        let at = number | CHOSEN;
        self.chosen.get(&at).map(|slot| GroupId::new(at, slot.generation))
    }

    /// Whether a number can be had: below 2^31, not in use, and ids are left.
    pub(super) fn is_free(&self, number: u32) -> bool {
        number < CHOSEN && self.numbered(number).is_none() && self.last_chosen < u32::MAX
    }

    /// Keeps a group, under an id that no group ever had. With a number, it [is free](Self::is_free).
    pub(super) fn insert(&mut self, number: Option<u32>, group: Group) -> GroupId {
        self.live += 1;
        if let Some(number) = number {
            let at = number | CHOSEN;
            self.last_chosen = self.last_chosen.saturating_add(1);
            self.chosen.insert(at, Slot { generation: self.last_chosen, group: Some(group) });
            return GroupId::new(at, self.last_chosen);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, group: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.generation += 1;
        slot.group = Some(group);
        GroupId::new(index, slot.generation)
    }

    /// Forgets a group. Its slot is given back, unless its generations are used up: then nobody gets it again.
    pub(super) fn remove(&mut self, id: GroupId) {
        if self.get(id).is_none() {
            return;
        }
        self.live -= 1;
        if id.slot() >= CHOSEN {
            self.chosen.remove(&id.slot());
        } else if let Some(slot) = self.slots.get_mut(id.slot() as usize) {
            slot.group = None;
            if slot.generation < u32::MAX {
                self.free.push(id.slot());
            }
        }
    }
}
