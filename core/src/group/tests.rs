//! Groups and the clients' views of them against a naive model, over random sequences of operations; and the cases that
//! deserve a sentence of their own.

use super::client::{MAX_MEMBERSHIPS, View};
use super::server::{CreateGroupError, DestroyError, Effect, GroupLimits, Groups, JoinError, LeaveError};
use crate::command::GroupRules;
use crate::entropy::Entropy;
use crate::event::{JoinOutcome, LeaveReason};
use crate::ids::{GroupId, PeerId};
use crate::time::{Duration, Instant};
use proptest::collection;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::vec;
use std::vec::Vec;

fn groups(limits: GroupLimits) -> Groups {
    Groups::new(limits, &Entropy::new(&[1; 32]).hasher("groups"))
}

/// Small enough that random sequences run into them.
fn tight() -> GroupLimits {
    let mut limits = GroupLimits::default();
    (limits.groups, limits.members, limits.groups_of_member, limits.peers_of_member) = (4, 5, 3, 5);
    limits.join_timeout = Duration::from_millis(100);
    limits
}

/// One telling of one client of one join; the number tells it from every other.
type Telling = usize;

/// A client: what is on the way to it, what it has made of it, what is on the way back.
struct Client {
    id: PeerId,
    inbox: VecDeque<(Telling, Effect)>,
    view: View,
    links: BTreeMap<PeerId, u64>,
    acks: VecDeque<Ack>,
}

#[derive(Clone, Copy)]
struct Ack {
    telling: Telling,
    by: PeerId,
    group: GroupId,
    member: PeerId,
    epoch: u64,
}

impl Client {
    fn new(id: PeerId) -> Self {
        let (inbox, acks) = (VecDeque::new(), VecDeque::new());
        Self { id, inbox, view: View::new(id, MAX_MEMBERSHIPS), links: BTreeMap::new(), acks }
    }

    /// Processes the next notice, as a client's composer would.
    fn step(&mut self) {
        let Some((telling, effect)) = self.inbox.pop_front() else { return };
        match effect {
            Effect::PairUp { a, b, epoch } => {
                self.view.peer_up(epoch).unwrap();
                assert!(self.links.insert(if a == self.id { b } else { a }, epoch).is_none(), "up twice");
            }
            Effect::PairDown { a, b, epoch } => {
                let peer = if a == self.id { b } else { a };
                assert_eq!(self.links.remove(&peer), Some(epoch), "down without up");
                assert_eq!(self.view.shared(peer), 0, "down while sharing a group");
            }
            Effect::Joined { group, member, epoch, .. } => {
                assert!(member == self.id || self.links.contains_key(&member), "a join before the link");
                let scope = self.view.joined(group, member, epoch).unwrap();
                assert_eq!(self.view.scope_epoch(group, member), Some(scope));
                self.acks.push_back(Ack { telling, by: self.id, group, member, epoch: scope });
            }
            Effect::Left { group, member, epoch, .. } => assert!(self.view.left(group, member, epoch)),
            Effect::Completed { .. } | Effect::Ended(_) => unreachable!("not for clients"),
        }
    }
}

/// What is expected of [`Groups`], as plainly as it can be said.
#[derive(Default)]
struct Model {
    online: BTreeSet<PeerId>,
    /// Members in the order of their joins.
    groups: BTreeMap<GroupId, Vec<PeerId>>,
    /// Pending joins: when they time out, and the tellings that nobody has acknowledged yet.
    pending: BTreeMap<(GroupId, PeerId), (Instant, Owed)>,
}

/// Tellings of whom, of whose join.
type Owed = BTreeMap<Telling, (PeerId, PeerId)>;

impl Model {
    fn is_in(&self, member: PeerId, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|members| members.contains(&member))
    }

    fn groups_of(&self, member: PeerId) -> BTreeSet<GroupId> {
        self.groups.keys().copied().filter(|group| self.is_in(member, *group)).collect()
    }

    fn peers_of(&self, member: PeerId) -> BTreeSet<PeerId> {
        let all = self.groups_of(member).into_iter().flat_map(|group| self.groups[&group].clone());
        all.filter(|peer| *peer != member).collect()
    }

    fn pairs(&self) -> BTreeSet<(PeerId, PeerId)> {
        let online = self.online.iter();
        online.flat_map(|a| self.peers_of(*a).into_iter().filter(move |b| a < b).map(|b| (*a, b))).collect()
    }

    fn may_join(&self, limits: &GroupLimits, member: PeerId, group: GroupId) -> Result<(), JoinError> {
        let members = self.groups.get(&group).ok_or(JoinError::UnknownGroup)?;
        if !self.online.contains(&member) {
            return Err(JoinError::UnknownMember);
        }
        if members.contains(&member) {
            return Err(JoinError::AlreadyMember);
        }
        if members.len() == limits.members {
            return Err(JoinError::TooManyMembers { max: limits.members });
        }
        if self.groups_of(member).len() == limits.groups_of_member {
            return Err(JoinError::TooManyGroups);
        }
        let mut after = Model { online: self.online.clone(), groups: self.groups.clone(), ..Model::default() };
        after.groups.get_mut(&group).unwrap().push(member);
        match after.over_the_limit_of_peers(limits) {
            // Which of several is named is not what matters here.
            Some(who) => Err(JoinError::TooManyPeers(who)),
            None => Ok(()),
        }
    }

    fn may_create(&self, limits: &GroupLimits, members: &[PeerId]) -> bool {
        let mut after = Model { online: self.online.clone(), groups: self.groups.clone(), ..Model::default() };
        after.groups.insert(GroupId::new(u32::MAX, 1), members.to_vec());
        after.groups.len() <= limits.groups
            && members.len() <= limits.members
            && members.iter().collect::<BTreeSet<_>>().len() == members.len()
            && members.iter().all(|member| self.online.contains(member))
            && members.iter().all(|member| after.groups_of(*member).len() <= limits.groups_of_member)
            && after.over_the_limit_of_peers(limits).is_none()
    }

    fn over_the_limit_of_peers(&self, limits: &GroupLimits) -> Option<PeerId> {
        self.online.iter().copied().find(|client| self.peers_of(*client).len() > limits.peers_of_member)
    }

    /// Takes a member out; returns what completes by it.
    fn remove(&mut self, member: PeerId, group: GroupId, outcome: JoinOutcome) -> Vec<(GroupId, PeerId, JoinOutcome)> {
        let members = self.groups.get_mut(&group).unwrap();
        members.retain(|other| *other != member);
        if members.is_empty() {
            self.groups.remove(&group);
        }
        let mut done = Vec::new();
        if self.pending.remove(&(group, member)).is_some() {
            done.push((group, member, outcome));
        }
        for (_, (_, owed)) in self.pending.iter_mut().filter(|(key, _)| key.0 == group) {
            owed.retain(|_, (to, of)| *to != member && *of != member);
        }
        done.extend(self.finished());
        done
    }

    fn finished(&mut self) -> Vec<(GroupId, PeerId, JoinOutcome)> {
        let done: Vec<_> = self.pending.iter().filter(|(_, (_, owed))| owed.is_empty()).map(|(key, _)| *key).collect();
        for key in &done {
            self.pending.remove(key);
        }
        done.into_iter().map(|(group, member)| (group, member, JoinOutcome::Ok)).collect()
    }
}

/// Server, clients and model, driven together.
struct World {
    now: Instant,
    limits: GroupLimits,
    groups: Groups,
    model: Model,
    clients: Vec<Client>,
    /// Acknowledgements of sessions that are over.
    ghosts: VecDeque<Ack>,
    /// Every group there ever was.
    ever: Vec<GroupId>,
    tellings: usize,
    last_epoch: u64,
    /// Joins of the call whose effects are being looked at.
    fresh: BTreeSet<(GroupId, PeerId)>,
    joins: usize,
    completions: usize,
}

/// What one call made, sorted for comparison.
#[derive(Default, PartialEq, Eq, Debug)]
struct Made {
    joined: BTreeSet<(PeerId, PeerId)>,
    left: BTreeSet<(PeerId, GroupId, PeerId, LeaveReason)>,
    up: BTreeSet<(PeerId, PeerId)>,
    down: BTreeSet<(PeerId, PeerId)>,
    completed: BTreeSet<(GroupId, PeerId, JoinOutcome)>,
    ended: BTreeSet<GroupId>,
}

const CLIENTS: u32 = 8;

impl World {
    fn new() -> Self {
        let limits = tight();
        let clients = (0..CLIENTS).map(|slot| Client::new(PeerId::new(slot, 0))).collect();
        let mut world = Self {
            now: Instant::from_millis(1000),
            limits,
            groups: groups(limits),
            model: Model::default(),
            clients,
            ghosts: VecDeque::new(),
            ever: Vec::new(),
            tellings: 0,
            last_epoch: 0,
            fresh: BTreeSet::new(),
            joins: 0,
            completions: 0,
        };
        (0..CLIENTS as usize).for_each(|n| world.online(n));
        world
    }

    fn online(&mut self, n: usize) {
        let old = self.clients[n].id;
        if self.model.online.contains(&old) {
            return;
        }
        let id = PeerId::new(old.slot(), old.generation() + 1);
        let before = core::mem::replace(&mut self.clients[n], Client::new(id));
        self.ghosts.extend(before.acks);
        self.model.online.insert(id);
        self.groups.client_online(id);
        assert_eq!(self.collect(), Made::default());
    }

    fn gone(&mut self, n: usize) {
        let id = self.clients[n].id;
        let mut expected = Made::default();
        let pairs = self.model.pairs();
        for group in self.model.groups_of(id) {
            expected.completed.extend(self.model.remove(id, group, JoinOutcome::Disconnected));
            let others = self.model.groups.get(&group).cloned();
            expected.ended.extend(others.is_none().then_some(group));
            let why = LeaveReason::Disconnected;
            expected.left.extend(others.into_iter().flatten().map(|to| (to, group, id, why)));
        }
        expected.down = &pairs - &self.model.pairs();
        self.model.online.remove(&id);
        self.groups.client_gone(id);
        assert_eq!(self.collect(), expected);
    }

    fn create(&mut self, members: &[PeerId]) {
        let pairs = self.model.pairs();
        let made = self.groups.create(self.now, members, b"hello", GroupRules::default());
        assert_eq!(made.is_ok(), self.model.may_create(&self.limits, members), "{made:?}");
        let mut expected = Made::default();
        if let Ok(group) = made {
            assert!(!self.ever.contains(&group), "an id used again");
            self.ever.push(group);
            self.model.groups.insert(group, members.to_vec());
            expected.joined = members.iter().flat_map(|a| members.iter().map(|b| (*a, *b))).collect();
            expected.up = &self.model.pairs() - &pairs;
            for member in members {
                self.expect_completion(group, *member);
            }
        }
        assert_eq!(self.collect(), expected);
    }

    fn join(&mut self, member: PeerId, group: GroupId) {
        let pairs = self.model.pairs();
        let may = self.model.may_join(&self.limits, member, group);
        let done = self.groups.join(self.now, member, group, b"hello");
        assert_eq!(done.map_err(unnamed), may.map_err(unnamed));
        let mut expected = Made::default();
        if done.is_ok() {
            let members = self.model.groups.get_mut(&group).unwrap();
            members.push(member);
            expected.joined = members.iter().flat_map(|other| [(member, *other), (*other, member)]).collect();
            expected.up = &self.model.pairs() - &pairs;
            self.expect_completion(group, member);
        }
        assert_eq!(self.collect(), expected);
    }

    fn leave(&mut self, member: PeerId, group: GroupId) {
        let pairs = self.model.pairs();
        let may = if !self.model.groups.contains_key(&group) {
            Err(LeaveError::UnknownGroup)
        } else if !self.model.online.contains(&member) {
            Err(LeaveError::UnknownMember)
        } else if !self.model.is_in(member, group) {
            Err(LeaveError::NotMember)
        } else {
            Ok(())
        };
        assert_eq!(self.groups.leave(member, group), may);
        let mut expected = Made::default();
        if may.is_ok() {
            let told = self.model.groups[&group].clone();
            expected.left = told.into_iter().map(|to| (to, group, member, LeaveReason::Left)).collect();
            expected.completed.extend(self.model.remove(member, group, JoinOutcome::Left));
            expected.ended.extend((!self.model.groups.contains_key(&group)).then_some(group));
            expected.down = &pairs - &self.model.pairs();
        }
        assert_eq!(self.collect(), expected);
    }

    fn destroy(&mut self, group: GroupId) {
        let pairs = self.model.pairs();
        let done = self.groups.destroy(group);
        let mut expected = Made::default();
        match self.model.groups.remove(&group) {
            None => assert_eq!(done, Err(DestroyError::UnknownGroup)),
            Some(members) => {
                assert_eq!(done, Ok(()));
                expected.left = members.iter().map(|m| (*m, group, *m, LeaveReason::GroupEnded)).collect();
                expected.down = &pairs - &self.model.pairs();
                expected.ended.insert(group);
                let over: Vec<_> = self.model.pending.keys().copied().filter(|key| key.0 == group).collect();
                for key in over {
                    self.model.pending.remove(&key);
                    expected.completed.insert((group, key.1, JoinOutcome::GroupEnded));
                }
            }
        }
        assert_eq!(self.collect(), expected);
    }

    fn acknowledge(&mut self, ack: Ack) {
        let mut expected = Made::default();
        for ((group, _), (_, owed)) in &mut self.model.pending {
            if *group == ack.group {
                owed.remove(&ack.telling);
            }
        }
        expected.completed.extend(self.model.finished());
        self.groups.processed(ack.by, ack.group, ack.member, ack.epoch);
        assert_eq!(self.collect(), expected);
    }

    fn tick(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        assert_eq!(self.groups.wake(), self.model.pending.values().map(|(deadline, _)| *deadline).min());
        let now = self.now;
        let due: Vec<_> = self.model.pending.iter().filter(|(_, p)| p.0 <= now).map(|(key, _)| *key).collect();
        let mut expected = Made::default();
        for key in due {
            self.model.pending.remove(&key);
            expected.completed.insert((key.0, key.1, JoinOutcome::TimedOut));
        }
        self.groups.on_wake(now);
        assert_eq!(self.collect(), expected);
    }

    fn expect_completion(&mut self, group: GroupId, member: PeerId) {
        self.joins += 1;
        self.fresh.insert((group, member));
        let deadline = self.now + self.limits.join_timeout;
        self.model.pending.insert((group, member), (deadline, BTreeMap::new()));
    }

    /// Drains the effects of one call: checks their order, sends them to the clients, notes what is owed.
    fn collect(&mut self) -> Made {
        let mut made = Made::default();
        let (mut up, mut down) = (BTreeSet::new(), BTreeSet::new());
        let mut newest = self.last_epoch;
        while let Some(effect) = self.groups.poll_effect() {
            let told = match &effect {
                Effect::PairUp { a, b, epoch } => {
                    assert!(a < b && *epoch > self.last_epoch, "an epoch used again");
                    newest = newest.max(*epoch);
                    assert!(up.insert((*a, *b)));
                    vec![*a, *b]
                }
                Effect::PairDown { a, b, .. } => {
                    assert!(a < b && down.insert((*a, *b)));
                    vec![*a, *b]
                }
                Effect::Joined { to, group, member, epoch, message } => {
                    assert_eq!(&**message, b"hello");
                    assert_eq!(self.groups.epoch_of(*member, *group), Some(*epoch));
                    newest = newest.max(*epoch);
                    assert!(made.joined.insert((*to, *member)), "told twice");
                    self.tellings += 1;
                    for (key, (_, owed)) in self.model.pending.iter_mut().filter(|(key, _)| self.fresh.contains(key)) {
                        if key.0 == *group && (key.1 == *to || key.1 == *member) {
                            owed.insert(self.tellings, (*to, *member));
                        }
                    }
                    vec![*to]
                }
                Effect::Left { to, group, member, why, .. } => {
                    assert!(!down.contains(&super::pairs::ordered(*to, *member)), "left after the link went down");
                    assert!(made.left.insert((*to, *group, *member, *why)), "told twice");
                    vec![*to]
                }
                Effect::Completed { group, member, outcome } => {
                    self.completions += 1;
                    assert!(made.completed.insert((*group, *member, *outcome)), "completed twice");
                    Vec::new()
                }
                Effect::Ended(group) => {
                    assert!(made.ended.insert(*group));
                    Vec::new()
                }
            };
            for to in told {
                let client = &mut self.clients[to.slot() as usize];
                if client.id == to && self.model.online.contains(&to) {
                    client.inbox.push_back((self.tellings, effect.clone()));
                }
            }
        }
        self.last_epoch = newest;
        self.fresh.clear();
        (made.up, made.down) = (up, down);
        made
    }

    /// The server's queries agree with the model.
    fn check(&self) {
        assert_eq!(self.groups.len(), self.model.groups.len());
        for group in &self.ever {
            assert_eq!(self.groups.exists(*group), self.model.groups.contains_key(group));
            let members: Vec<_> = self.groups.members(*group).collect();
            assert_eq!(members, self.model.groups.get(group).cloned().unwrap_or_default());
        }
        for a in &self.clients {
            let all: BTreeSet<_> = self.groups.groups_of(a.id).collect();
            assert_eq!(all, self.model.groups_of(a.id));
            for b in self.clients.iter().filter(|b| b.id != a.id) {
                let both = &all & &self.model.groups_of(b.id);
                assert_eq!(self.groups.shared(a.id, b.id), both.len());
                assert_eq!(self.groups.pair_epoch(a.id, b.id).is_some(), !both.is_empty());
            }
        }
    }

    /// Once everything has arrived, each client sees its groups and peers exactly as the server does.
    fn check_views(&mut self) {
        for client in self.clients.iter_mut().filter(|client| self.model.online.contains(&client.id)) {
            while !client.inbox.is_empty() {
                client.step();
            }
            let id = client.id;
            assert_eq!(client.view.groups().collect::<BTreeSet<_>>(), self.model.groups_of(id));
            for group in client.view.groups() {
                let members: BTreeSet<_> = client.view.members(group).collect();
                assert_eq!(members, self.model.groups[&group].iter().copied().collect());
                for peer in client.view.peers(group) {
                    let both = self.groups.epoch_of(id, group).max(self.groups.epoch_of(peer, group));
                    assert_eq!(client.view.scope_epoch(group, peer), both);
                }
            }
            assert_eq!(client.links.keys().copied().collect::<BTreeSet<_>>(), self.model.peers_of(id));
            for (peer, epoch) in &client.links {
                assert_eq!(self.groups.pair_epoch(id, *peer), Some(*epoch));
                assert_eq!(client.view.shared(*peer), self.groups.shared(id, *peer));
            }
        }
    }

    /// A group that there is, or was.
    fn pick(&self, n: usize) -> GroupId {
        let live = self.model.groups.len();
        if live > 0 && !n.is_multiple_of(8) {
            return *self.model.groups.keys().nth(n % live).unwrap();
        }
        if self.ever.is_empty() { GroupId::new(9, 1) } else { self.ever[n % self.ever.len()] }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Online(n) => self.online(n),
            Op::Gone(n) => self.gone(n),
            Op::Create(ref all) => {
                let members: Vec<_> = all.iter().map(|n| self.clients[*n].id).collect();
                self.create(&members);
            }
            Op::Join(n, group) => self.join(self.clients[n].id, self.pick(group)),
            Op::Leave(n, group) => self.leave(self.clients[n].id, self.pick(group)),
            Op::Destroy(group) => self.destroy(self.pick(group)),
            Op::Process(n, steps) => (0..steps).for_each(|_| self.clients[n].step()),
            Op::Acknowledge(n, count) => {
                for _ in 0..count {
                    let Some(ack) = self.clients[n].acks.pop_front() else { break };
                    self.acknowledge(ack);
                }
            }
            Op::Ghost => {
                if let Some(ack) = self.ghosts.pop_front() {
                    self.acknowledge(ack);
                }
            }
            Op::Tick(ms) => self.tick(ms),
            Op::Settle => {
                for n in 0..self.clients.len() {
                    while !self.clients[n].inbox.is_empty() {
                        self.clients[n].step();
                    }
                    while let Some(ack) = self.clients[n].acks.pop_front() {
                        self.acknowledge(ack);
                    }
                }
                assert!(self.model.pending.is_empty(), "all have processed everything");
            }
        }
    }
}

/// Whoever is named in it.
fn unnamed(error: JoinError) -> JoinError {
    match error {
        JoinError::TooManyPeers(_) => JoinError::TooManyPeers(PeerId::SERVER),
        other => other,
    }
}

#[derive(Clone, Debug)]
enum Op {
    Online(usize),
    Gone(usize),
    Create(Vec<usize>),
    Join(usize, usize),
    Leave(usize, usize),
    Destroy(usize),
    Process(usize, usize),
    Acknowledge(usize, usize),
    Ghost,
    Tick(u64),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    let (n, g) = (0..CLIENTS as usize, 0usize..64);
    prop_oneof![
        3 => n.clone().prop_map(Op::Online),
        1 => n.clone().prop_map(Op::Gone),
        2 => collection::vec(n.clone(), 0..5).prop_map(Op::Create),
        8 => (n.clone(), g.clone()).prop_map(|(n, g)| Op::Join(n, g)),
        5 => (n.clone(), g.clone()).prop_map(|(n, g)| Op::Leave(n, g)),
        1 => g.prop_map(Op::Destroy),
        8 => (n.clone(), 1usize..6).prop_map(|(n, k)| Op::Process(n, k)),
        8 => (n, 1usize..6).prop_map(|(n, k)| Op::Acknowledge(n, k)),
        1 => Just(Op::Ghost),
        1 => (0u64..150).prop_map(Op::Tick),
        1 => Just(Op::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Invariant: each join completes exactly once, and as `Ok` only when all that hear of it have processed it.
    #[test]
    fn groups_do_what_a_naive_model_does_and_views_follow(ops in collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            world.check();
        }
        world.check_views();
        for group in world.ever.clone() {
            world.destroy(group);
        }
        world.check_views();
        prop_assert_eq!(world.completions, world.joins);
        prop_assert_eq!(world.groups.wake(), None);
    }
}

const NOW: Instant = Instant::from_millis(1);
const A: PeerId = PeerId::new(1, 1);
const B: PeerId = PeerId::new(2, 1);
const C: PeerId = PeerId::new(3, 1);

fn with_clients(clients: &[PeerId]) -> Groups {
    let mut groups = groups(GroupLimits::default());
    clients.iter().for_each(|client| groups.client_online(*client));
    groups
}

fn drain(groups: &mut Groups) -> Vec<Effect> {
    core::iter::from_fn(|| groups.poll_effect()).collect()
}

/// All members acknowledge everything.
fn settle(groups: &mut Groups, group: GroupId) {
    let members: Vec<_> = groups.members(group).collect();
    for &by in &members {
        for &member in &members {
            let epoch = groups.epoch_of(by, group).max(groups.epoch_of(member, group)).unwrap();
            groups.processed(by, group, member, epoch);
        }
    }
    drain(groups);
}

#[test]
fn a_join_is_told_in_an_order_that_is_right_to_send() {
    let mut groups = with_clients(&[A, B]);
    let g = groups.create(NOW, &[A], b"first", GroupRules::default()).unwrap();
    drain(&mut groups);
    groups.join(NOW, B, g, b"second").unwrap();
    let (first, second) = (b"first".as_slice().into(), b"second".as_slice().into());
    assert_eq!(
        drain(&mut groups),
        [
            Effect::Joined { to: B, group: g, member: B, epoch: 2, message: alloc::sync::Arc::clone(&second) },
            Effect::PairUp { a: A, b: B, epoch: 3 },
            Effect::Joined { to: A, group: g, member: B, epoch: 2, message: second },
            Effect::Joined { to: B, group: g, member: A, epoch: 1, message: first },
        ]
    );
}

#[test]
fn clients_that_share_a_second_group_stay_peers_until_the_last_one() {
    let mut groups = with_clients(&[A, B]);
    let ups = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::PairUp { .. })).count();
    let downs = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::PairDown { .. })).count();
    let g = groups.create(NOW, &[A, B], b"", GroupRules::default()).unwrap();
    assert_eq!(ups(&drain(&mut groups)), 1);
    let h = groups.create(NOW, &[A, B], b"", GroupRules::default()).unwrap();
    assert_eq!(ups(&drain(&mut groups)), 0);
    groups.leave(A, g).unwrap();
    assert_eq!(downs(&drain(&mut groups)), 0);
    groups.destroy(h).unwrap();
    assert_eq!(downs(&drain(&mut groups)), 1);
}

#[test]
fn a_group_ends_with_its_last_member_and_its_id_is_never_valid_again() {
    let mut groups = with_clients(&[A]);
    let g = groups.create(NOW, &[A], b"", GroupRules::default()).unwrap();
    groups.leave(A, g).unwrap();
    assert_eq!(drain(&mut groups).last(), Some(&Effect::Ended(g)));
    let h = groups.create(NOW, &[], b"", GroupRules::default()).unwrap();
    assert_eq!((h.slot(), h.generation()), (g.slot(), g.generation() + 1));
    assert_eq!(groups.join(NOW, A, g, b""), Err(JoinError::UnknownGroup));
    assert_eq!(groups.leave(A, g), Err(LeaveError::UnknownGroup));
    assert_eq!(groups.destroy(g), Err(DestroyError::UnknownGroup));
    assert_eq!(groups.join(NOW, A, h, b""), Ok(()));
}

#[test]
fn an_acknowledgement_of_an_earlier_stay_does_not_count() {
    let mut groups = with_clients(&[A, B]);
    let g = groups.create(NOW, &[A], b"", GroupRules::default()).unwrap();
    settle(&mut groups, g);
    groups.join(NOW, B, g, b"").unwrap();
    let first = groups.epoch_of(B, g).unwrap();
    groups.leave(B, g).unwrap();
    groups.join(NOW, B, g, b"").unwrap();
    drain(&mut groups);
    for (by, member) in [(A, B), (B, A), (B, B)] {
        groups.processed(by, g, member, first);
    }
    assert_eq!(drain(&mut groups), [], "those were of the first stay");
    let second = groups.epoch_of(B, g).unwrap();
    groups.processed(A, g, B, second);
    groups.processed(B, g, B, second);
    assert_eq!(drain(&mut groups), [], "B has not processed A yet");
    groups.processed(B, g, A, second);
    assert_eq!(drain(&mut groups), [Effect::Completed { group: g, member: B, outcome: JoinOutcome::Ok }]);
}

#[test]
fn who_leaves_owes_nothing_any_more() {
    let mut groups = with_clients(&[A, B, C]);
    let g = groups.create(NOW, &[A, B], b"", GroupRules::default()).unwrap();
    settle(&mut groups, g);
    groups.join(NOW, C, g, b"").unwrap();
    let epoch = groups.epoch_of(C, g).unwrap();
    for (by, member) in [(A, C), (C, A), (C, C)] {
        groups.processed(by, g, member, epoch);
    }
    drain(&mut groups);
    groups.client_gone(B);
    let completed = Effect::Completed { group: g, member: C, outcome: JoinOutcome::Ok };
    assert_eq!(drain(&mut groups).iter().filter(|e| **e == completed).count(), 1);
}

#[test]
fn a_creation_that_one_member_may_not_take_part_in_changes_nothing() {
    let mut groups = with_clients(&[A, B]);
    assert_eq!(groups.create(NOW, &[A, C], b"", GroupRules::default()), Err(CreateGroupError::UnknownMember(C)));
    assert_eq!(groups.create(NOW, &[A, B, A], b"", GroupRules::default()), Err(CreateGroupError::AlreadyMember(A)));
    assert_eq!(
        groups.create(NOW, &[A], &[0; 4097], GroupRules::default()),
        Err(CreateGroupError::MessageTooLong { max: 4096 })
    );
    assert_eq!((drain(&mut groups), groups.len(), groups.wake()), (Vec::new(), 0, None));
}

#[test]
fn the_queue_gives_back_what_a_large_creation_needed() {
    let clients: Vec<_> = (0..100).map(|slot| PeerId::new(slot, 1)).collect();
    let mut groups = with_clients(&clients);
    let g = groups.create(NOW, &clients, b"", GroupRules::default()).unwrap();
    assert_eq!(drain(&mut groups).len(), 100 * 100 + 100 * 99 / 2);
    settle(&mut groups, g);
    assert_eq!(groups.wake(), None, "all have completed");
}
