//! Groups at the server: the one place where membership is decided.
//!
//! Each operation either changes nothing and returns an error, or changes everything at once and queues its effects. They
//! are to be drained after each call, which bounds the queue by what one call makes: at most (members of a group)² for a
//! creation. Their order is right to send: two clients hear that they are peers before either hears of the other's join,
//! and of a leave before they are peers no longer; a newcomer hears of its own join first, then of the older ones in the
//! order in which they came.
//!
//! **Completion.** A join is complete when all that hear of it have processed it: each older member the newcomer's join,
//! and the newcomer its own and each older member's. At a group's creation everyone is a newcomer to everyone. Each pending
//! join keeps two lists of what is owed to it, by epoch, which names one stay of one member: *others* that have still to
//! process it, and the joins that its *own* member has still to process. An acknowledgement carries the scope epoch of the
//! two (the later of both joins), so one from an earlier stay of either never counts. Who leaves owes nothing any more.
//! A join that is pending for too long is completed as timed out. So each join completes exactly once.

use super::pairs::{Pairs, ordered};
use super::table::Table;
use crate::command::GroupRules;
use crate::entropy::SeededState;
use crate::event::{JoinOutcome, LeaveReason};
use crate::ids::{Channel, GroupId, PeerId};
use crate::time::{Duration, Instant};
use crate::wire::control::MAX_MESSAGE;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;
use thiserror::Error;

/// Bounds on groups, all of them on what the server's own application may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GroupLimits {
    /// Groups at one time. Default 65,536: one for each client of a large server that has its own view group.
    pub(crate) groups: usize,
    /// Members of one group. Default 256: a creation tells everyone of everyone, so work and memory grow with the square.
    pub(crate) members: usize,
    /// Groups that one client is in. Default 1,024: it may be in the view group of everyone in a crowd.
    pub(crate) groups_of_member: usize,
    /// Peers of one client over all its groups. Default 1,024: each is a link at that client, and a route at the relay.
    pub(crate) peers_of_member: usize,
    /// How long a join may be pending before it is completed as timed out. Default 30 s: over any hiccup of a link that
    /// does not end the session itself.
    pub(crate) join_timeout: Duration,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            groups: 65_536,
            members: 256,
            groups_of_member: 1024,
            peers_of_member: 1024,
            join_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a group was not created.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum CreateGroupError {
    /// There are as many groups as `GroupLimits::groups` allows.
    #[error("too many groups")]
    TooManyGroups,
    /// More members than `GroupLimits::members` allows.
    #[error("too many members, {max} are allowed")]
    TooManyMembers {
        /// The limit.
        max: usize,
    },
    /// The message for the join events is too long.
    #[error("the message is too long, {max} bytes are allowed")]
    MessageTooLong {
        /// The limit, bytes.
        max: usize,
    },
    /// No such client, or no longer.
    #[error("{0:?} is not a client")]
    UnknownMember(PeerId),
    /// Listed twice.
    #[error("{0:?} is listed twice")]
    AlreadyMember(PeerId),
    /// There is a group with that number, or the number is not below 2^31.
    #[error("the number {0} cannot be had")]
    NumberTaken(u32),
    /// That client is in as many groups as `GroupLimits::groups_of_member` allows.
    #[error("{0:?} is in too many groups")]
    MemberInTooManyGroups(PeerId),
    /// That client would have more peers than `GroupLimits::peers_of_member` allows.
    #[error("{0:?} would have too many peers")]
    MemberHasTooManyPeers(PeerId),
}

/// Why a client did not join a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No such group, or no longer.
    #[error("no such group")]
    UnknownGroup,
    /// No such client, or no longer.
    #[error("no such client")]
    UnknownMember,
    /// It is in that group already.
    #[error("a member already")]
    AlreadyMember,
    /// The group is as large as `GroupLimits::members` allows.
    #[error("the group is full, {max} members are allowed")]
    TooManyMembers {
        /// The limit.
        max: usize,
    },
    /// The message for the join events is too long.
    #[error("the message is too long, {max} bytes are allowed")]
    MessageTooLong {
        /// The limit, bytes.
        max: usize,
    },
    /// The client is in as many groups as `GroupLimits::groups_of_member` allows.
    #[error("in too many groups")]
    TooManyGroups,
    /// The newcomer or a member would have more peers than `GroupLimits::peers_of_member` allows.
    #[error("{0:?} would have too many peers")]
    TooManyPeers(PeerId),
}

/// Why a client did not leave a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// No such group, or no longer.
    #[error("no such group")]
    UnknownGroup,
    /// No such client, or no longer.
    #[error("no such client")]
    UnknownMember,
    /// It is not in that group.
    #[error("not a member")]
    NotMember,
}

/// Why a group was not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum DestroyError {
    /// No such group, or no longer.
    #[error("no such group")]
    UnknownGroup,
}

/// What an operation brings about, to be carried out in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Two clients are peers now; tell both.
    PairUp {
        /// The lower id.
        a: PeerId,
        /// The higher id.
        b: PeerId,
        /// Later than any epoch before.
        epoch: u64,
    },
    /// Two clients are peers no longer; tell both, as far as they are still there.
    PairDown {
        /// The lower id.
        a: PeerId,
        /// The higher id.
        b: PeerId,
        /// As in their [`Effect::PairUp`].
        epoch: u64,
    },
    /// Tell `to` of a join.
    Joined {
        /// Whom to tell.
        to: PeerId,
        /// Where.
        group: GroupId,
        /// Who; possibly `to` itself.
        member: PeerId,
        /// Of that member's join.
        epoch: u64,
        /// What the application sent along with that member's join.
        message: Arc<[u8]>,
    },
    /// Tell `to` of a leave. If it is its own, the group is over for it and it hears of no other leave there.
    Left {
        /// Whom to tell.
        to: PeerId,
        /// Where.
        group: GroupId,
        /// Who; possibly `to` itself.
        member: PeerId,
        /// Of the join that is over.
        epoch: u64,
        /// Why.
        why: LeaveReason,
    },
    /// Tell the application what became of a join.
    Completed {
        /// Where.
        group: GroupId,
        /// Who had joined.
        member: PeerId,
        /// What became of it.
        outcome: JoinOutcome,
    },
    /// Tell the application that a group is over.
    Ended(GroupId),
}

/// Effects for which memory is kept when the queue is empty; what a large creation needed beyond is given back.
const KEPT_EFFECTS: usize = 1024;

/// All groups of a server. See the module's text.
pub(crate) struct Groups {
    limits: GroupLimits,
    table: Table,
    /// For each client its groups and the epochs of its joins. Never iterated.
    clients: HashMap<PeerId, BTreeMap<GroupId, u64>, SeededState>,
    pairs: Pairs,
    /// When pending joins time out. The epoch makes the key unique.
    deadlines: BTreeMap<(Instant, u64), (GroupId, PeerId)>,
    last_epoch: u64,
    effects: VecDeque<Effect>,
}

#[derive(Default)]
pub(super) struct Group {
    /// In the order of their joins, so that epochs ascend. The server is not among them.
    members: Vec<Member>,
    rules: GroupRules,
    /// The server, if it is a member.
    server: Option<ServerMember>,
}

/// The server's membership: from the group's beginning to its end, so its epoch is before all others.
pub(super) struct ServerMember {
    epoch: u64,
    message: Arc<[u8]>,
    /// The next sequence number of the server's messages on each channel that it has used: at most 256.
    next: BTreeMap<Channel, u64>,
}

pub(super) struct Member {
    peer: PeerId,
    epoch: u64,
    message: Arc<[u8]>,
    pending: Option<Box<Pending>>,
}

/// What a join waits for. Both lists hold epochs of members, ascending.
pub(super) struct Pending {
    deadline: Instant,
    /// Members that have still to process this join.
    others: Vec<u64>,
    /// Members whose joins this join's member has still to process, its own included.
    own: Vec<u64>,
}

impl Groups {
    pub(crate) fn new(limits: GroupLimits, hasher: &SeededState) -> Self {
        Self {
            limits,
            table: Table::default(),
            clients: HashMap::with_hasher(hasher.clone()),
            pairs: Pairs::new(hasher),
            deadlines: BTreeMap::new(),
            last_epoch: 0,
            effects: VecDeque::new(),
        }
    }

    /// From now on that client may be put into groups.
    pub(crate) fn client_online(&mut self, client: PeerId) {
        self.clients.entry(client).or_default();
    }

    /// That client's session is over: it is out of all its groups.
    pub(crate) fn client_gone(&mut self, client: PeerId) {
        let Some(groups) = self.clients.remove(&client) else { return };
        for (group, epoch) in groups {
            self.remove(client, group, epoch, LeaveReason::Disconnected);
        }
    }

    /// Makes a group. With no members it stays until its first ones have come and gone (unless its rules say otherwise), or
    /// until it is destroyed. `message` goes into each of these joins' events.
    pub(crate) fn create(
        &mut self,
        now: Instant,
        members: &[PeerId],
        message: &[u8],
        rules: GroupRules,
    ) -> Result<GroupId, CreateGroupError> {
        self.may_create(members, message, rules)?;
        let message: Arc<[u8]> = message.into();
        let server = rules.server_is_member.then(|| {
            self.last_epoch += 1;
            ServerMember { epoch: self.last_epoch, message: message.clone(), next: BTreeMap::new() }
        });
        let of_server = server.as_ref().map(|server| server.epoch);
        let id = self.table.insert(rules.number, Group { members: Vec::new(), rules, server });
        let first = self.last_epoch + 1;
        self.last_epoch += members.len() as u64;
        let deadline = now + self.limits.join_timeout;
        let epochs: Vec<u64> = (first..=self.last_epoch).collect();
        for (&to, &own) in members.iter().zip(&epochs) {
            if let Some(groups) = self.clients.get_mut(&to) {
                groups.insert(id, own);
            }
            self.deadlines.insert((deadline, own), (id, to));
            self.effects.push_back(Effect::Joined { to, group: id, member: to, epoch: own, message: message.clone() });
            self.effects.extend(of_server.map(|epoch| {
                let message = message.clone();
                Effect::Joined { to, group: id, member: PeerId::SERVER, epoch, message }
            }));
            for (&member, &epoch) in members.iter().zip(&epochs).filter(|(member, _)| **member != to) {
                if epoch > own {
                    self.meet(to, member);
                }
                self.effects.push_back(Effect::Joined { to, group: id, member, epoch, message: message.clone() });
            }
        }
        if let Some(group) = self.table.get_mut(id) {
            group.members = members
                .iter()
                .zip(&epochs)
                .map(|(&peer, &epoch)| {
                    let others = epochs.iter().copied().filter(|other| *other != epoch).collect();
                    let own = of_server.iter().chain(&epochs).copied().collect();
                    let pending = Some(Box::new(Pending { deadline, others, own }));
                    Member { peer, epoch, message: message.clone(), pending }
                })
                .collect();
        }
        Ok(id)
    }

    /// Puts a client into a group. `message` goes into the events of this join.
    pub(crate) fn join(&mut self, now: Instant, member: PeerId, id: GroupId, message: &[u8]) -> Result<(), JoinError> {
        self.may_join(member, id, message)?;
        let Some(group) = self.table.get_mut(id) else { return Err(JoinError::UnknownGroup) };
        self.last_epoch += 1;
        let epoch = self.last_epoch;
        let message: Arc<[u8]> = message.into();
        let others: Vec<u64> = group.members.iter().map(|old| old.epoch).collect();
        let of_server = group.server.as_ref().map(|server| (server.epoch, server.message.clone()));
        let own = of_server.iter().map(|(epoch, _)| *epoch).chain(others.iter().copied()).chain([epoch]).collect();
        let deadline = now + self.limits.join_timeout;
        let pending = Some(Box::new(Pending { deadline, others, own }));

        let joined = |to| Effect::Joined { to, group: id, member, epoch, message: message.clone() };
        self.effects.push_back(joined(member));
        self.effects.extend(of_server.map(|(epoch, message)| {
            let (to, group, member) = (member, id, PeerId::SERVER);
            Effect::Joined { to, group, member, epoch, message }
        }));
        for old in &group.members {
            if let Some(pair) = self.pairs.meet(member, old.peer, &mut self.last_epoch) {
                let (a, b) = ordered(member, old.peer);
                self.effects.push_back(Effect::PairUp { a, b, epoch: pair });
            }
            self.effects.push_back(joined(old.peer));
            self.effects.push_back(Effect::Joined {
                to: member,
                group: id,
                member: old.peer,
                epoch: old.epoch,
                message: old.message.clone(),
            });
        }
        group.members.push(Member { peer: member, epoch, message, pending });
        self.deadlines.insert((deadline, epoch), (id, member));
        if let Some(groups) = self.clients.get_mut(&member) {
            groups.insert(id, epoch);
        }
        Ok(())
    }

    /// Takes a client out of a group. The group ends with its last member, unless its rules say otherwise; that the
    /// server is a member does not keep it.
    pub(crate) fn leave(&mut self, member: PeerId, id: GroupId) -> Result<(), LeaveError> {
        self.table.get(id).ok_or(LeaveError::UnknownGroup)?;
        let groups = self.clients.get_mut(&member).ok_or(LeaveError::UnknownMember)?;
        let epoch = groups.remove(&id).ok_or(LeaveError::NotMember)?;
        self.remove(member, id, epoch, LeaveReason::Left);
        Ok(())
    }

    /// Ends a group.
    pub(crate) fn destroy(&mut self, id: GroupId) -> Result<(), DestroyError> {
        let group = self.table.get_mut(id).ok_or(DestroyError::UnknownGroup)?;
        let members = core::mem::take(&mut group.members);
        for &Member { peer, epoch, .. } in &members {
            if let Some(groups) = self.clients.get_mut(&peer) {
                groups.remove(&id);
            }
            let why = LeaveReason::GroupEnded;
            self.effects.push_back(Effect::Left { to: peer, group: id, member: peer, epoch, why });
        }
        for (n, one) in members.iter().enumerate() {
            for other in members.iter().skip(n + 1) {
                self.part(one.peer, other.peer);
            }
        }
        for Member { peer, epoch, pending, .. } in members {
            if let Some(pending) = pending {
                self.complete(id, peer, epoch, pending.deadline, JoinOutcome::GroupEnded);
            }
        }
        self.end(id);
        Ok(())
    }

    /// `by` has processed the join of `member`; `epoch` is their scope epoch. Anything that fits no pending join is late,
    /// or a lie that helps nobody, and is ignored.
    pub(crate) fn processed(&mut self, by: PeerId, id: GroupId, member: PeerId, epoch: u64) {
        let of_member = if member.is_server() { self.server_epoch(id) } else { self.epoch_of(member, id) };
        let (Some(of_by), Some(of_member)) = (self.epoch_of(by, id), of_member) else { return };
        if epoch != of_by.max(of_member) {
            return;
        }
        if by != member {
            self.settle(id, of_member, |pending| strike(&mut pending.others, of_by));
        }
        self.settle(id, of_by, |pending| strike(&mut pending.own, of_member));
    }

    /// The next effect. Drain them after each other call.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() && self.effects.capacity() > KEPT_EFFECTS {
            self.effects.shrink_to(KEPT_EFFECTS);
        }
        effect
    }

    /// When the next pending join times out.
    pub(crate) fn wake(&self) -> Option<Instant> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Completes the joins that have been pending for too long.
    pub(crate) fn on_wake(&mut self, now: Instant) {
        while let Some((&(deadline, epoch), &(id, member))) = self.deadlines.first_key_value() {
            if deadline > now {
                break;
            }
            if let Some(found) = self.table.get_mut(id).and_then(|group| group.member(epoch)) {
                found.pending = None;
            }
            self.complete(id, member, epoch, deadline, JoinOutcome::TimedOut);
        }
    }

    /// Whether there is such a group.
    pub(crate) fn exists(&self, id: GroupId) -> bool {
        self.table.get(id).is_some()
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// All groups.
    pub(crate) fn iter(&self) -> impl Iterator<Item = GroupId> {
        self.table.iter().map(|(id, _)| id)
    }

    /// Groups without a member.
    pub(crate) fn empty(&self) -> impl Iterator<Item = GroupId> {
        self.table.iter().filter(|(_, group)| group.members.is_empty()).map(|(id, _)| id)
    }

    /// The group that has this number now.
    pub(crate) fn numbered(&self, number: u32) -> Option<GroupId> {
        self.table.numbered(number)
    }

    /// The rules of a group.
    pub(crate) fn rules(&self, id: GroupId) -> Option<GroupRules> {
        self.table.get(id).map(|group| group.rules)
    }

    /// Since when the server is a member, if it is.
    pub(crate) fn server_epoch(&self, id: GroupId) -> Option<u64> {
        Some(self.table.get(id)?.server.as_ref()?.epoch)
    }

    /// The members of a group with their epochs, each of which is the one of its scope with the server.
    pub(crate) fn stays(&self, id: GroupId) -> impl Iterator<Item = (PeerId, u64)> {
        self.table.get(id).into_iter().flat_map(|group| group.members.iter().map(|member| (member.peer, member.epoch)))
    }

    /// Takes the number of the server's next message to a group on a channel. `None` if it is no member.
    pub(crate) fn take_server_seq(&mut self, id: GroupId, channel: Channel) -> Option<u64> {
        let next = self.table.get_mut(id)?.server.as_mut()?.next.entry(channel).or_insert(0);
        let seq = *next;
        *next = seq.saturating_add(1);
        Some(seq)
    }

    /// Members of a group in the order of their joins; none if there is no such group.
    pub(crate) fn members(&self, id: GroupId) -> impl Iterator<Item = PeerId> {
        self.table.get(id).into_iter().flat_map(|group| group.members.iter().map(|member| member.peer))
    }

    /// The groups that a client is in.
    pub(crate) fn groups_of(&self, client: PeerId) -> impl Iterator<Item = GroupId> {
        self.clients.get(&client).into_iter().flat_map(|groups| groups.keys().copied())
    }

    /// The epoch of a client's join to a group that it is in.
    pub(crate) fn epoch_of(&self, client: PeerId, id: GroupId) -> Option<u64> {
        self.clients.get(&client)?.get(&id).copied()
    }

    /// How many groups two clients share.
    #[cfg(test)]
    pub(crate) fn shared(&self, a: PeerId, b: PeerId) -> usize {
        self.pairs.shared(a, b)
    }

    /// The epoch of two clients' [`Effect::PairUp`], while they are peers.
    #[cfg(test)]
    pub(crate) fn pair_epoch(&self, a: PeerId, b: PeerId) -> Option<u64> {
        self.pairs.epoch(a, b)
    }

    fn may_create(&self, members: &[PeerId], message: &[u8], rules: GroupRules) -> Result<(), CreateGroupError> {
        if self.table.len() >= self.limits.groups {
            return Err(CreateGroupError::TooManyGroups);
        }
        if let Some(number) = rules.number.filter(|number| !self.table.is_free(*number)) {
            return Err(CreateGroupError::NumberTaken(number));
        }
        if members.len() > self.limits.members {
            return Err(CreateGroupError::TooManyMembers { max: self.limits.members });
        }
        if message.len() > MAX_MESSAGE {
            return Err(CreateGroupError::MessageTooLong { max: MAX_MESSAGE });
        }
        let mut sorted = members.to_vec();
        sorted.sort_unstable();
        if let Some((twice, _)) = sorted.iter().zip(sorted.iter().skip(1)).find(|(one, next)| one == next) {
            return Err(CreateGroupError::AlreadyMember(*twice));
        }
        for &member in members {
            let groups = self.clients.get(&member).ok_or(CreateGroupError::UnknownMember(member))?;
            if groups.len() >= self.limits.groups_of_member {
                return Err(CreateGroupError::MemberInTooManyGroups(member));
            }
            if !self.has_room_for_peers(member, members) {
                return Err(CreateGroupError::MemberHasTooManyPeers(member));
            }
        }
        Ok(())
    }

    fn may_join(&self, member: PeerId, id: GroupId, message: &[u8]) -> Result<(), JoinError> {
        let group = self.table.get(id).ok_or(JoinError::UnknownGroup)?;
        let groups = self.clients.get(&member).ok_or(JoinError::UnknownMember)?;
        if groups.contains_key(&id) {
            return Err(JoinError::AlreadyMember);
        }
        if group.members.len() >= self.limits.members {
            return Err(JoinError::TooManyMembers { max: self.limits.members });
        }
        if message.len() > MAX_MESSAGE {
            return Err(JoinError::MessageTooLong { max: MAX_MESSAGE });
        }
        if groups.len() >= self.limits.groups_of_member {
            return Err(JoinError::TooManyGroups);
        }
        let mut room = self.limits.peers_of_member.saturating_sub(self.pairs.peers(member));
        for old in group.members.iter().filter(|old| self.pairs.shared(member, old.peer) == 0) {
            room = room.checked_sub(1).ok_or(JoinError::TooManyPeers(member))?;
            if self.pairs.peers(old.peer) >= self.limits.peers_of_member {
                return Err(JoinError::TooManyPeers(old.peer));
            }
        }
        Ok(())
    }

    /// Whether `member` stays within its limit when it has all of `with`, too, for peers.
    fn has_room_for_peers(&self, member: PeerId, with: &[PeerId]) -> bool {
        let room = self.limits.peers_of_member.saturating_sub(self.pairs.peers(member));
        // Mostly there is room even if all of them were new, which saves looking at each pair.
        with.len() <= room
            || with.iter().filter(|other| **other != member && self.pairs.shared(member, **other) == 0).count() <= room
    }

    /// A group is over.
    fn end(&mut self, id: GroupId) {
        self.table.remove(id);
        self.effects.push_back(Effect::Ended(id));
    }

    /// Takes a member out that the client's own list of groups knows no longer.
    fn remove(&mut self, member: PeerId, id: GroupId, epoch: u64, why: LeaveReason) {
        let Some(group) = self.table.get_mut(id) else { return };
        let Some(at) = group.position(epoch) else { return };
        let keeps = group.rules.keep_empty;
        let gone = group.members.remove(at);
        let left = |to| Effect::Left { to, group: id, member, epoch, why };
        if why != LeaveReason::Disconnected {
            self.effects.push_back(left(member));
        }
        self.effects.extend(group.members.iter().map(|other| left(other.peer)));
        for other in &group.members {
            if let Some(pair) = self.pairs.part(member, other.peer) {
                let (a, b) = ordered(member, other.peer);
                self.effects.push_back(Effect::PairDown { a, b, epoch: pair });
            }
        }

        let remaining: Vec<u64> = group.members.iter().map(|other| other.epoch).collect();
        if let Some(pending) = gone.pending {
            self.complete(id, member, epoch, pending.deadline, outcome_of(why));
        }
        for &other in &remaining {
            self.settle(id, other, |pending| {
                strike(&mut pending.others, epoch);
                strike(&mut pending.own, epoch);
            });
        }
        if remaining.is_empty() && !keeps {
            self.end(id);
        }
    }

    /// Strikes something off what the join of `epoch` waits for. Completes it if that was the last.
    fn settle(&mut self, id: GroupId, epoch: u64, strike: impl FnOnce(&mut Pending)) {
        let Some(member) = self.table.get_mut(id).and_then(|group| group.member(epoch)) else { return };
        let Some(pending) = &mut member.pending else { return };
        strike(pending);
        if pending.others.is_empty() && pending.own.is_empty() {
            let (peer, deadline) = (member.peer, pending.deadline);
            member.pending = None;
            self.complete(id, peer, epoch, deadline, JoinOutcome::Ok);
        }
    }

    /// The caller has taken the join's pending state away.
    fn complete(&mut self, id: GroupId, member: PeerId, epoch: u64, deadline: Instant, outcome: JoinOutcome) {
        self.deadlines.remove(&(deadline, epoch));
        self.effects.push_back(Effect::Completed { group: id, member, outcome });
    }

    fn meet(&mut self, one: PeerId, other: PeerId) {
        if let Some(epoch) = self.pairs.meet(one, other, &mut self.last_epoch) {
            let (a, b) = ordered(one, other);
            self.effects.push_back(Effect::PairUp { a, b, epoch });
        }
    }

    fn part(&mut self, one: PeerId, other: PeerId) {
        if let Some(epoch) = self.pairs.part(one, other) {
            let (a, b) = ordered(one, other);
            self.effects.push_back(Effect::PairDown { a, b, epoch });
        }
    }
}

impl Group {
    fn position(&self, epoch: u64) -> Option<usize> {
        self.members.binary_search_by_key(&epoch, |member| member.epoch).ok()
    }

    fn member(&mut self, epoch: u64) -> Option<&mut Member> {
        let at = self.position(epoch)?;
        self.members.get_mut(at)
    }
}

fn strike(ascending: &mut Vec<u64>, epoch: u64) {
    if let Ok(at) = ascending.binary_search(&epoch) {
        ascending.remove(at);
    }
}

const fn outcome_of(why: LeaveReason) -> JoinOutcome {
    match why {
        LeaveReason::Left => JoinOutcome::Left,
        LeaveReason::GroupEnded => JoinOutcome::GroupEnded,
        LeaveReason::Disconnected => JoinOutcome::Disconnected,
    }
}
