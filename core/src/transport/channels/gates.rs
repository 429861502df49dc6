//! Gates: what becomes of a scope's complete messages. Handed on, held until the gate opens, or dropped.

use crate::ids::GroupId;
use crate::wire::frames::Scope;
use alloc::collections::{BTreeMap, VecDeque};

/// Closed groups that are remembered, so that what still comes of them is dropped and not held.
const MAX_SHUT: usize = 1024;

pub(super) enum Gate {
    Open,
    Hold,
    Drop,
}

/// The gates of one end.
#[derive(Debug, Default)]
pub(super) struct Gates {
    peer: bool,
    open: BTreeMap<GroupId, u64>,
    shut: VecDeque<(GroupId, u64)>,
}

impl Gates {
    pub(super) fn open_peer(&mut self) {
        self.peer = true;
    }

    /// Opens a group's gate for messages of that epoch. False if it was open for it, or for a later one.
    pub(super) fn open_group(&mut self, group: GroupId, epoch: u64) -> bool {
        let opens = self.open.get(&group).is_none_or(|&known| known < epoch);
        if opens {
            self.open.insert(group, epoch);
        }
        opens
    }

    /// Shuts a group's gate for messages up to that epoch.
    pub(super) fn close_group(&mut self, group: GroupId, over: u64) {
        if self.open.get(&group).is_some_and(|&open| open <= over) {
            self.open.remove(&group);
        }
        self.shut.retain(|&(g, _)| g != group);
        if self.shut.len() >= MAX_SHUT {
            self.shut.pop_front();
        }
        self.shut.push_back((group, over));
    }

    pub(super) fn of(&self, scope: &Scope) -> Gate {
        let Scope::Group(group, epoch, _) = scope else {
            return if self.peer || *scope == Scope::Control { Gate::Open } else { Gate::Hold };
        };
        match self.open.get(group) {
            Some(open) if open == epoch => Gate::Open,
            Some(open) if open > epoch => Gate::Drop,
            Some(_) => Gate::Hold,
            None if self.shut.iter().any(|(g, e)| g == group && e >= epoch) => Gate::Drop,
            None => Gate::Hold,
        }
    }
}
