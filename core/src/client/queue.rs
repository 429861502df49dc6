//! What waits for a client's application: one ordered queue, so that a join stands before its member's first message.
//!
//! It stays bounded though an application may never poll. Messages are not in here but with their links, which bound them
//! by credit and by dropping old unreliable ones; an entry only marks a message's place, and there are never more marks of
//! a link than messages that can be ready on it. A join that was never polled and its leave cancel out. News of paths and
//! of room are one mark a peer, read when polled. What a client sends to itself is bounded like what it sends to others. A
//! membership that ends leaves its messages here, before the news of its end: as many as one peer may have under way.

use crate::event::{ClientEvent, Message};
use crate::ids::{Channel, Channels, GroupId, PeerId};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// One entry.
pub(super) enum Queued {
    /// As it is.
    Event(ClientEvent),
    /// A member's join; it counts as processed when polled.
    Joined { group: GroupId, member: PeerId, epoch: u64, user_data: Box<[u8]>, message: Box<[u8]> },
    /// The next message of this link stands here.
    Message(PeerId),
    /// A message whose link or group was over before it was polled.
    Kept { message: Message, bytes: Box<[u8]> },
    /// A message of this client to a group or a list, for itself.
    Loopback { group: Option<GroupId>, channel: Channel, bytes: Box<[u8]> },
    /// How traffic with this peer goes has changed.
    Path(PeerId),
    /// Whether this peer, or the server, is there has changed.
    Presence(PeerId),
    /// There is another leg.
    Leg,
    /// There is room again on a channel.
    Writable(PeerId, Channel),
}

/// What stands in the queue of one link.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Marks {
    messages: usize,
    path: bool,
    presence: bool,
    writable: Channels,
}

/// Bytes that a message in the queue costs beside its own.
const OVERHEAD: usize = 64;

pub(super) struct Queue {
    entries: VecDeque<Queued>,
    marks: BTreeMap<PeerId, Marks>,
    /// That there is another leg stands here.
    leg: bool,
    /// Joins among the entries.
    joins: usize,
    /// Bytes of loopback messages among the entries.
    loopback: usize,
    /// This client, and on which channels a loopback message found no room.
    loopback_refused: Option<(PeerId, Channels)>,
    /// Bytes of kept messages among the entries, and the most that may be.
    kept: usize,
    most_kept: usize,
    /// Most messages that can be ready on one link.
    most_ready: usize,
}

impl Queue {
    /// `most_ready`: most messages that can be ready on one link at a time. `most_kept`: most bytes of messages that outlive
    /// their link.
    pub(super) fn new(most_ready: usize, most_kept: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            marks: BTreeMap::new(),
            leg: false,
            joins: 0,
            loopback: 0,
            loopback_refused: None,
            kept: 0,
            most_kept,
            most_ready,
        }
    }

    pub(super) fn push(&mut self, event: ClientEvent) {
        self.entries.push_back(Queued::Event(event));
    }

    pub(super) fn push_join(
        &mut self,
        group: GroupId,
        member: PeerId,
        epoch: u64,
        user_data: Box<[u8]>,
        message: Box<[u8]>,
    ) {
        self.joins += 1;
        self.entries.push_back(Queued::Joined { group, member, epoch, user_data, message });
    }

    /// Bytes of loopback messages that wait, their overhead included.
    pub(super) fn loopback_cost(&self, bytes: &[u8]) -> usize {
        self.loopback.saturating_add(bytes.len()).saturating_add(OVERHEAD)
    }

    /// One was refused for want of room: `me` is to hear when one was polled.
    pub(super) fn refuse_loopback(&mut self, me: PeerId, channel: Channel) {
        self.loopback_refused.get_or_insert((me, Channels::default())).1.insert(channel);
    }

    pub(super) fn push_loopback(&mut self, group: Option<GroupId>, channel: Channel, bytes: &[u8]) {
        self.loopback = self.loopback_cost(bytes);
        self.entries.push_back(Queued::Loopback { group, channel, bytes: bytes.into() });
    }

    /// So many messages more are ready on this link. There may be fewer in the end; and where older ones made way, marks
    /// enough stand here already.
    pub(super) fn mark_messages(&mut self, peer: PeerId, ready: usize) {
        if ready == 0 {
            return;
        }
        let marks = self.marks.entry(peer).or_default();
        let more = ready.min(self.most_ready.saturating_sub(marks.messages));
        marks.messages += more;
        self.entries.extend((0..more).map(|_| Queued::Message(peer)));
    }

    /// Something of this peer's ends: what is ready of it is kept where it stands, as far as there is room. What `next` gives
    /// is its link's next message.
    pub(super) fn keep_messages(&mut self, peer: PeerId, mut next: impl FnMut(&mut Vec<u8>) -> Option<Message>) {
        if self.marks.get(&peer).is_none_or(|marks| marks.messages == 0) {
            return;
        }
        let (mut payload, mut taken) = (Vec::new(), 0);
        for entry in &mut self.entries {
            if self.kept >= self.most_kept {
                break;
            }
            if matches!(entry, Queued::Message(of) if *of == peer) {
                let Some(message) = next(&mut payload) else { break };
                self.kept = self.kept.saturating_add(payload.len()).saturating_add(OVERHEAD);
                *entry = Queued::Kept { message, bytes: payload.as_slice().into() };
                taken += 1;
            }
        }
        self.unmark(peer, |marks| marks.messages = marks.messages.saturating_sub(taken));
    }

    /// There is news of a peer's path.
    pub(super) fn mark_path(&mut self, peer: PeerId) {
        if !core::mem::replace(&mut self.marks.entry(peer).or_default().path, true) {
            self.entries.push_back(Queued::Path(peer));
        }
    }

    /// A peer, or the server, came or went.
    pub(super) fn mark_presence(&mut self, peer: PeerId) {
        if !core::mem::replace(&mut self.marks.entry(peer).or_default().presence, true) {
            self.entries.push_back(Queued::Presence(peer));
        }
    }

    /// There is another leg.
    pub(super) fn mark_leg(&mut self) {
        if !core::mem::replace(&mut self.leg, true) {
            self.entries.push_back(Queued::Leg);
        }
    }

    /// There is room again on this channel of this link.
    pub(super) fn mark_writable(&mut self, peer: PeerId, channel: Channel) {
        if self.marks.entry(peer).or_default().writable.insert(channel) {
            self.entries.push_back(Queued::Writable(peer, channel));
        }
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let entry = self.entries.pop_front()?;
        match &entry {
            Queued::Event(_) => {}
            Queued::Joined { .. } => self.joins = self.joins.saturating_sub(1),
            Queued::Loopback { bytes, .. } => {
                self.loopback = self.loopback.saturating_sub(bytes.len().saturating_add(OVERHEAD));
                if let Some((me, mut channels)) = self.loopback_refused.take() {
                    channels.take().for_each(|channel| self.mark_writable(me, channel));
                }
            }
            Queued::Kept { bytes, .. } => {
                self.kept = self.kept.saturating_sub(bytes.len().saturating_add(OVERHEAD));
            }
            Queued::Message(peer) => self.unmark(*peer, |marks| marks.messages = marks.messages.saturating_sub(1)),
            Queued::Path(peer) => self.unmark(*peer, |marks| marks.path = false),
            Queued::Presence(peer) => self.unmark(*peer, |marks| marks.presence = false),
            Queued::Leg => self.leg = false,
            Queued::Writable(peer, channel) => self.unmark(*peer, |marks| marks.writable.remove(*channel)),
        }
        Some(entry)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a join out that was not polled yet. True if there was one: then its leave needs no telling.
    pub(super) fn cancel_join(&mut self, group: GroupId, member: PeerId) -> bool {
        if self.joins == 0 {
            return false;
        }
        let found = self
            .entries
            .iter()
            .position(|e| matches!(e, Queued::Joined { group: g, member: m, .. } if (*g, *m) == (group, member)));
        let cancelled = found.is_some_and(|at| self.entries.remove(at).is_some());
        self.joins -= usize::from(cancelled);
        cancelled
    }

    /// Takes out what concerns a peer that is none any more.
    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        if self.marks.remove(&peer).is_some() {
            let theirs = |entry: &Queued| matches!(entry, Queued::Message(p) | Queued::Path(p) | Queued::Presence(p) | Queued::Writable(p, _) if *p == peer);
            self.entries.retain(|entry| !theirs(entry));
        }
    }

    /// Nothing follows.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.most_ready, self.most_kept);
    }

    fn unmark(&mut self, peer: PeerId, change: impl FnOnce(&mut Marks)) {
        if let Some(marks) = self.marks.get_mut(&peer) {
            change(marks);
            if *marks == Marks::default() {
                self.marks.remove(&peer);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
