//! A client's view of its groups: what the server has told it so far, guarded by epochs.
//!
//! The server's notices arrive in order, and within one stay of this client in a group the epochs of the joins it is told
//! of rise: first its own join, then the members that were there before in the order in which they came, then newcomers.
//! So one number a group is enough to know a replayed or stale join, one for own joins, and one for peers.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

use crate::ids::{Channel, GroupId, PeerId};
use alloc::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Most memberships, this client's own included, that a view holds: the server's default limits multiplied (1,024 groups
/// a client, 256 members a group). About 16 MiB, in case a server misbehaves.
pub(crate) const MAX_MEMBERSHIPS: usize = 1024 * 256;

/// The groups that this client is in, with their members.
pub(crate) struct View {
    me: PeerId,
    max: usize,
    groups: BTreeMap<GroupId, Group>,
    /// The same memberships by member, without this client's own.
    shared: BTreeSet<(PeerId, GroupId)>,
    /// The latest own join.
    newest_own: u64,
    /// The latest peer.
    newest_peer: u64,
}

struct Group {
    /// Epoch of this client's join.
    own: u64,
    /// The latest epoch told of another member's join since then.
    newest: u64,
    /// All members, this client too, with the epochs of their joins.
    members: BTreeMap<PeerId, u64>,
    /// The next sequence number of this client's messages on each channel that it has used: at most 256.
    next: BTreeMap<Channel, u64>,
}

/// Why a notice of the server is not believed. An honest server on an ordered link gives no reason to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum NoticeError {
    /// It has been told before, or something later has, or it is of a group that this client is not in.
    #[error("a stale or replayed notice")]
    Stale,
    /// More memberships than this client keeps.
    #[error("too many memberships")]
    TooMany,
}

impl View {
    /// `max`: most memberships to keep, [`MAX_MEMBERSHIPS`] by default.
    pub(crate) fn new(me: PeerId, max: usize) -> Self {
        Self { me, max, groups: BTreeMap::new(), shared: BTreeSet::new(), newest_own: 0, newest_peer: 0 }
    }

    /// The server says that a peer is up. An epoch that is not later than all before would mean keys used twice.
    pub(crate) fn peer_up(&mut self, epoch: u64) -> Result<(), NoticeError> {
        if epoch <= self.newest_peer {
            return Err(NoticeError::Stale);
        }
        self.newest_peer = epoch;
        Ok(())
    }

    /// The server says that `member` is in `group`. Returns the scope epoch with that member (of this client itself: its
    /// join's): the epoch to open the group's receive gate with, and to acknowledge this notice by.
    pub(crate) fn joined(&mut self, group: GroupId, member: PeerId, epoch: u64) -> Result<u64, NoticeError> {
        if self.groups.len().saturating_add(self.shared.len()) >= self.max {
            return Err(NoticeError::TooMany);
        }
        if member == self.me {
            if epoch <= self.newest_own || self.groups.contains_key(&group) {
                return Err(NoticeError::Stale);
            }
            self.newest_own = epoch;
            let members = BTreeMap::from([(member, epoch)]);
            self.groups.insert(group, Group { own: epoch, newest: 0, members, next: BTreeMap::new() });
            return Ok(epoch);
        }
        let state = self.groups.get_mut(&group).ok_or(NoticeError::Stale)?;
        if epoch <= state.newest || state.members.contains_key(&member) {
            return Err(NoticeError::Stale);
        }
        state.newest = epoch;
        state.members.insert(member, epoch);
        self.shared.insert((member, group));
        Ok(epoch.max(state.own))
    }

    /// The server says that the stay of `member` that began at `epoch` is over. About this client itself, the group is
    /// over with all its members; look at [`Self::peers`] before. False, and nothing changes, if there is no such stay.
    pub(crate) fn left(&mut self, group: GroupId, member: PeerId, epoch: u64) -> bool {
        let Some(state) = self.groups.get_mut(&group) else { return false };
        if state.members.get(&member) != Some(&epoch) {
            return false;
        }
        if member == self.me {
            for other in state.members.keys() {
                self.shared.remove(&(*other, group));
            }
            self.groups.remove(&group);
        } else {
            state.members.remove(&member);
            self.shared.remove(&(member, group));
        }
        true
    }

    /// The groups that this client is in.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.groups.keys().copied()
    }

    /// Whether this client is in `group`.
    pub(crate) fn is_in(&self, group: GroupId) -> bool {
        self.groups.contains_key(&group)
    }

    /// The members of `group`, this client included; none if it is not in it.
    pub(crate) fn members(&self, group: GroupId) -> impl Iterator<Item = PeerId> {
        self.groups.get(&group).into_iter().flat_map(|state| state.members.keys().copied())
    }

    /// The members of `group` but this client: those that its messages go to.
    pub(crate) fn peers(&self, group: GroupId) -> impl Iterator<Item = PeerId> {
        self.members(group).filter(|member| *member != self.me)
    }

    /// The groups shared with `peer`.
    #[cfg(test)]
    pub(crate) fn groups_of(&self, peer: PeerId) -> impl Iterator<Item = GroupId> {
        let all = (peer, GroupId::from_raw(0))..=(peer, GroupId::from_raw(u64::MAX));
        self.shared.range(all).map(|(_, group)| *group)
    }

    /// How many groups are shared with `peer`.
    #[cfg(test)]
    pub(crate) fn shared(&self, peer: PeerId) -> usize {
        self.groups_of(peer).count()
    }

    /// The later of this client's and `peer`'s joins, the same number at both ends; `None` unless both are in `group`.
    pub(crate) fn scope_epoch(&self, group: GroupId, peer: PeerId) -> Option<u64> {
        let state = self.groups.get(&group)?;
        state.members.get(&peer).map(|epoch| state.own.max(*epoch))
    }

    /// The number that this client's next message to `group` on `channel` will have; 0 for the first one after each own
    /// join. `None` if it is not in the group.
    #[cfg(test)]
    pub(crate) fn next_seq(&self, group: GroupId, channel: Channel) -> Option<u64> {
        self.groups.get(&group).map(|state| state.next.get(&channel).copied().unwrap_or(0))
    }

    /// Takes that number.
    pub(crate) fn take_seq(&mut self, group: GroupId, channel: Channel) -> Option<u64> {
        let next = self.groups.get_mut(&group)?.next.entry(channel).or_insert(0);
        let seq = *next;
        *next = seq.saturating_add(1);
        Some(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const ME: PeerId = PeerId::new(1, 1);
    const A: PeerId = PeerId::new(2, 1);
    const B: PeerId = PeerId::new(3, 1);
    const G: GroupId = GroupId::new(0, 1);
    const H: GroupId = GroupId::new(1, 1);

    fn view() -> View {
        View::new(ME, MAX_MEMBERSHIPS)
    }

    #[test]
    fn both_ends_compute_the_same_scope_epoch() {
        let (mut mine, mut theirs) = (view(), View::new(A, MAX_MEMBERSHIPS));
        assert_eq!(theirs.joined(G, A, 1), Ok(1));
        assert_eq!(mine.joined(G, ME, 5), Ok(5));
        assert_eq!(mine.joined(G, A, 1), Ok(5));
        assert_eq!(theirs.joined(G, ME, 5), Ok(5));
        assert_eq!(mine.scope_epoch(G, A), theirs.scope_epoch(G, ME));
    }

    #[test]
    fn a_replayed_join_is_refused_while_the_member_is_there_and_after_it_left() {
        let mut view = view();
        view.joined(G, ME, 5).unwrap();
        view.joined(G, A, 3).unwrap();
        view.joined(G, B, 6).unwrap();
        assert_eq!(view.joined(G, A, 3), Err(NoticeError::Stale));
        assert!(view.left(G, A, 3));
        assert!(!view.left(G, A, 3));
        assert_eq!(view.joined(G, A, 3), Err(NoticeError::Stale));
        assert_eq!(view.joined(G, A, 7), Ok(7));
    }

    #[test]
    fn an_own_join_from_before_the_last_one_is_refused() {
        let mut view = view();
        view.joined(G, ME, 5).unwrap();
        view.joined(H, ME, 6).unwrap();
        assert!(view.left(G, ME, 5));
        assert_eq!(view.joined(G, ME, 5), Err(NoticeError::Stale));
        assert_eq!(view.joined(G, A, 7), Err(NoticeError::Stale), "not in that group");
        assert_eq!(view.joined(G, ME, 9), Ok(9));
    }

    #[test]
    fn a_leave_of_an_earlier_stay_does_nothing() {
        let mut view = view();
        view.joined(G, ME, 5).unwrap();
        view.joined(G, A, 6).unwrap();
        view.left(G, A, 6);
        view.joined(G, A, 8).unwrap();
        assert!(!view.left(G, A, 6));
        assert_eq!(view.members(G).collect::<Vec<_>>(), [ME, A]);
    }

    #[test]
    fn an_old_peer_up_is_refused() {
        let mut view = view();
        assert_eq!(view.peer_up(4), Ok(()));
        assert_eq!(view.peer_up(4), Err(NoticeError::Stale));
        assert_eq!(view.peer_up(3), Err(NoticeError::Stale));
        assert_eq!(view.peer_up(5), Ok(()));
    }

    #[test]
    fn sequence_numbers_begin_at_0_with_each_own_join() {
        let mut view = view();
        let (x, y) = (Channel::reliable(0), Channel::unreliable(0));
        assert_eq!(view.take_seq(G, x), None);
        view.joined(G, ME, 5).unwrap();
        assert_eq!([view.take_seq(G, x), view.take_seq(G, x), view.take_seq(G, y)], [Some(0), Some(1), Some(0)]);
        assert_eq!(view.next_seq(G, x), Some(2));
        view.joined(G, A, 6).unwrap();
        assert_eq!(view.next_seq(G, x), Some(2), "a newcomer does not reset them");
        view.left(G, ME, 5);
        view.joined(G, ME, 9).unwrap();
        assert_eq!(view.next_seq(G, x), Some(0));
    }

    #[test]
    fn own_leave_ends_the_group_and_leaves_the_others() {
        let mut view = view();
        view.joined(G, ME, 5).unwrap();
        view.joined(G, A, 3).unwrap();
        view.joined(H, ME, 6).unwrap();
        view.joined(H, A, 4).unwrap();
        assert_eq!((view.shared(A), view.groups_of(A).collect::<Vec<_>>()), (2, [G, H].to_vec()));
        assert!(view.left(G, ME, 5));
        assert_eq!((view.shared(A), view.peers(G).count(), view.peers(H).count()), (1, 0, 1));
        assert_eq!(view.scope_epoch(G, A), None);
    }

    #[test]
    fn a_view_is_bounded() {
        let mut view = View::new(ME, 2);
        view.joined(G, ME, 5).unwrap();
        view.joined(G, A, 6).unwrap();
        assert_eq!(view.joined(G, B, 7), Err(NoticeError::TooMany));
        assert!(view.left(G, A, 6));
        assert_eq!(view.joined(G, B, 8), Ok(8));
    }
}
