//! What waits for a client's application: one ordered queue, so that a join stands before its member's first message.
//!
//! It stays bounded though an application may never poll. Messages are not in here but with their links, which bound them
//! by credit; an entry only marks a message's place. A join that was never polled and its leave cancel out. News of paths
//! and of room are one mark a peer, read when polled.

use crate::event::ClientEvent;
use crate::ids::{Channel, GroupId, PeerId};
use alloc::boxed::Box;
use alloc::collections::VecDeque;

/// One entry.
pub(super) enum Queued {
    /// As it is.
    Event(ClientEvent),
    /// A member's join; it counts as processed when polled.
    Joined { group: GroupId, member: PeerId, epoch: u64, user_data: Box<[u8]>, message: Box<[u8]> },
    /// The next message of this link stands here.
    Message(PeerId),
    /// A message of this client to a group, for itself.
    Loopback { group: GroupId, channel: Channel, bytes: Box<[u8]> },
    /// How traffic with this peer goes has changed.
    Path(PeerId),
    /// There is room again.
    Writable(PeerId),
}

#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Queued>,
}

impl Queue {
    pub(super) fn push(&mut self, entry: Queued) {
        self.entries.push_back(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        self.entries.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Marks that there is news of a peer's path, unless that is marked already.
    pub(super) fn mark_path(&mut self, peer: PeerId) {
        if !self.entries.iter().any(|e| matches!(e, Queued::Path(p) if *p == peer)) {
            self.push(Queued::Path(peer));
        }
    }

    /// Takes a join out that was not polled yet. True if there was one: then its leave needs no telling.
    pub(super) fn cancel_join(&mut self, group: GroupId, member: PeerId) -> bool {
        let found = self
            .entries
            .iter()
            .position(|e| matches!(e, Queued::Joined { group: g, member: m, .. } if (*g, *m) == (group, member)));
        found.is_some_and(|at| self.entries.remove(at).is_some())
    }

    /// Takes out what concerns a peer that is none any more.
    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.entries.retain(|e| !matches!(e, Queued::Message(p) | Queued::Path(p) | Queued::Writable(p) if *p == peer));
    }
}
