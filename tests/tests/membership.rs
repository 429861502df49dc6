//! Groups under churn: who hears of whom, what is delivered when, and what remains.

use posse_core::{Channel, ClientEvent, GroupId, JoinOutcome, LeaveReason, PeerId, SendOptions};
use posse_sim::nat::{Filtering, Mapping, Nat};
use posse_sim::{Chance, Link, Node};
use posse_tests::{App, Lab, Logged};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Create(Vec<usize>),
    Join(usize, usize),
    Leave(usize, usize),
    Destroy(usize),
    Send { from: usize, group: usize, reliable: bool },
    SendPeer { from: usize, to: usize },
    Away(usize, bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        2 => proptest::collection::btree_set(client.clone(), 1..=CLIENTS).prop_map(|set| Step::Create(set.into_iter().collect())),
        3 => (client.clone(), 0..3usize).prop_map(|(c, g)| Step::Join(c, g)),
        3 => (client.clone(), 0..3usize).prop_map(|(c, g)| Step::Leave(c, g)),
        1 => (0..3usize).prop_map(Step::Destroy),
        8 => (client.clone(), 0..3usize, any::<bool>()).prop_map(|(from, group, reliable)| Step::Send { from, group, reliable }),
        2 => (client.clone(), client.clone()).prop_map(|(from, to)| Step::SendPeer { from, to }),
        1 => (client, any::<bool>()).prop_map(|(c, away)| Step::Away(c, away)),
        5 => (0..120u64).prop_map(Step::Wait),
    ]
}

struct Churn {
    lab: Lab,
    ids: Vec<PeerId>,
    groups: Vec<GroupId>,
    /// By sender, group and channel: how many were sent.
    next: BTreeMap<(usize, GroupId, u8), u64>,
}

impl Churn {
    fn new(seed: u64) -> Self {
        let mut lab = Lab::new(seed);
        let internet = lab.world.internet();
        for i in 0..CLIENTS {
            let link = Link::millis(5 + 7 * i as u64)
                .jitter(Duration::from_millis(4))
                .reorder(Chance::percent(5), Duration::from_millis(30))
                .loss(Chance::percent(4))
                .duplicate(Chance::percent(2));
            let nat = Nat::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
            let net = lab.world.nat(internet, nat, link);
            lab.client_on(net, Link::PERFECT);
        }
        let ids = lab.log_in();
        Self { lab, ids, groups: Vec::new(), next: BTreeMap::new() }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Create(members) => {
                if self.groups.len() < 3 {
                    let members: Vec<PeerId> = members.iter().map(|i| self.ids[*i]).collect();
                    let group = self.lab.group(&members);
                    self.groups.push(group);
                }
            }
            Step::Join(client, group) => {
                if let Some(group) = self.groups.get(*group).copied() {
                    let id = self.ids[*client];
                    let _ = self.lab.world.act(self.lab.desk, |d, now| d.server.join_group(now, id, group, b"hi"));
                }
            }
            Step::Leave(client, group) => {
                if let Some(group) = self.groups.get(*group).copied() {
                    let id = self.ids[*client];
                    let _ = self.lab.world.act(self.lab.desk, |d, now| d.server.leave_group(now, id, group));
                }
            }
            Step::Destroy(group) => {
                if let Some(group) = self.groups.get(*group).copied() {
                    let _ = self.lab.world.act(self.lab.desk, |d, now| d.server.destroy_group(now, group));
                    self.groups.retain(|g| *g != group);
                }
            }
            Step::Send { from, group, reliable } => {
                let channel = if *reliable { Channel::reliable(1) } else { Channel::unreliable(1) };
                if let Some(group) = self.groups.get(*group).copied() {
                    let next = self.next.entry((*from, group, channel.0)).or_default();
                    if self.lab.send(self.lab.apps[*from], group, channel, &next.to_be_bytes()) {
                        *next += 1;
                    }
                }
            }
            Step::SendPeer { from, to } => {
                let to = self.ids[*to];
                let options = SendOptions::default();
                let node = self.lab.apps[*from];
                let _ = self.lab.world.act(node, |a, now| a.client.send(now, to, Channel::reliable(0), b"x", options));
            }
            Step::Away(client, away) => self.lab.world.act(self.lab.apps[*client], |app, now| {
                app.away = *away;
                if !away {
                    app.poll(now);
                }
            }),
            Step::Wait(ms) => drop(self.lab.world.run_for(Duration::from_millis(*ms)).expect("no livelock")),
        }
    }

    fn finish(&mut self) {
        for app in self.lab.apps.clone() {
            self.lab.world.act(app, |app, now| {
                app.away = false;
                app.poll(now);
            });
        }
        self.lab.world.run_for(Duration::from_secs(40)).expect("no livelock");
    }

    /// Invariants 1, 2 and 3 as far as one receiver's log shows them.
    fn check_log(&self, node: Node<App>) -> Result<(), TestCaseError> {
        let me = self.lab.id(node);
        let mut members: BTreeSet<(GroupId, PeerId)> = BTreeSet::new();
        let mut last: BTreeMap<(GroupId, PeerId, u8), u64> = BTreeMap::new();
        let mut seen: BTreeSet<(GroupId, PeerId, u8, u64)> = BTreeSet::new();
        for entry in &self.lab.world.machine(node).log {
            match entry {
                Logged::Event(ClientEvent::MemberJoined { group, member, .. }) => {
                    prop_assert!(members.insert((*group, *member)), "joined twice");
                }
                Logged::Event(ClientEvent::MemberLeft { group, member, .. }) => {
                    prop_assert!(members.remove(&(*group, *member)), "left without having joined");
                    last.retain(|(g, m, _), _| (*g, *m) != (*group, *member));
                    if Some(*member) == me {
                        members.retain(|(g, _)| g != group);
                        last.retain(|(g, ..), _| g != group);
                    }
                }
                Logged::Event(_) => {}
                Logged::Message(message, bytes) => {
                    let peer = members.iter().any(|(_, m)| *m == message.from);
                    prop_assert!(peer, "a message of someone who is no peer");
                    let Some(group) = message.group else { continue };
                    prop_assert!(members.contains(&(group, message.from)), "a message outside its sender's stay");
                    let number = u64::from_be_bytes(bytes[..].try_into().expect("eight bytes"));
                    let key = (group, message.from, message.channel.0);
                    prop_assert!(seen.insert((key.0, key.1, key.2, number)), "repeated");
                    if message.channel == Channel::reliable(1)
                        && let Some(before) = last.insert(key, number)
                    {
                        prop_assert_eq!(number, before + 1, "a gap or a step back within one stay");
                    }
                }
            }
        }
        Ok(())
    }

    /// Invariant 27, and that every client's view is the server's in the end.
    fn check_server(&self) -> Result<(), TestCaseError> {
        let desk = self.lab.world.machine(self.lab.desk);
        for (i, node) in self.lab.apps.iter().enumerate() {
            let client = &self.lab.world.machine(*node).client;
            for group in &self.groups {
                let theirs: BTreeSet<PeerId> = desk.server.members(*group).collect();
                let ours: BTreeSet<PeerId> = client.members(*group).collect();
                if theirs.contains(&self.ids[i]) {
                    prop_assert_eq!(ours, theirs);
                } else {
                    prop_assert!(ours.is_empty());
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn under_churn_and_loss_nothing_is_delivered_outside_a_stay_and_nothing_reliable_is_lost_repeated_or_reordered_within_one(
        seed: u64,
        steps in proptest::collection::vec(step(), 10..80),
    ) {
        let mut churn = Churn::new(seed);
        for step in &steps {
            churn.take(step);
        }
        churn.finish();
        for node in churn.lab.apps.clone() {
            churn.check_log(node)?;
        }
        churn.check_server()?;
    }
}

#[test]
fn every_join_completes_exactly_once() {
    let mut churn = Churn::new(9);
    let steps = [
        Step::Create(vec![0, 1]),
        Step::Wait(1000),
        Step::Join(2, 0),
        Step::Wait(5),
        Step::Leave(2, 0),
        Step::Join(2, 0),
        Step::Wait(1000),
        Step::Away(1, true),
        Step::Join(3, 0),
        Step::Wait(100),
        Step::Create(vec![2, 3]),
        Step::Destroy(1),
    ];
    for step in &steps {
        churn.take(step);
    }
    churn.lab.world.run_for(Duration::from_secs(40)).unwrap();
    let completed = churn.lab.world.machine(churn.lab.desk).completed();
    // 2 of the first group, client 2 twice, client 3 once, 2 of the second group.
    assert_eq!(completed.len(), 7, "{completed:?}");
    let count = |outcome| completed.iter().filter(|(_, _, o)| *o == outcome).count();
    assert_eq!(count(JoinOutcome::Ok), 3, "the first two, and client 2 the second time: {completed:?}");
    assert_eq!(count(JoinOutcome::Left), 1, "client 2 the first time: {completed:?}");
    assert_eq!(count(JoinOutcome::GroupEnded), 2, "the second group: {completed:?}");
    assert_eq!(count(JoinOutcome::TimedOut), 1, "client 1 is away and never processes the last join: {completed:?}");
}

#[test]
fn an_application_that_is_away_loses_no_membership_and_gets_messages_after_their_join() {
    let mut lab = Lab::new(5);
    let nat = Nat::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let (a, b) = (lab.home(nat.clone()), lab.home(nat));
    let ids = lab.log_in();
    lab.world.act(b, |app, _| app.away = true);
    let group = lab.group(&ids);
    lab.world.run_for(Duration::from_millis(200)).unwrap();
    for n in 0..50u64 {
        assert!(lab.send(a, group, Channel::reliable(1), &n.to_be_bytes()));
    }
    lab.world.run_for(Duration::from_secs(3)).unwrap();
    assert!(lab.world.machine(b).messages.is_empty());
    lab.world.act(b, |app, now| {
        app.away = false;
        app.poll(now);
    });
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(lab.world.machine(b).messages.len(), 50);
    let first = lab.world.machine(b).log.iter().position(|l| matches!(l, Logged::Message(..))).unwrap();
    let joined =
        lab.world.machine(b).log.iter().filter(|l| matches!(l, Logged::Event(ClientEvent::MemberJoined { .. })));
    assert_eq!(joined.count(), 2);
    assert!(first >= 2, "both joins stand before the first message");
}

#[test]
fn after_all_sessions_ended_nothing_of_them_remains_at_the_server() {
    let mut lab = Lab::new(6);
    let nat = Nat::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let apps: Vec<_> = (0..4).map(|_| lab.home(nat.clone())).collect();
    let ids = lab.log_in();
    let group = lab.group(&ids);
    lab.world.run_for(Duration::from_secs(2)).unwrap();
    lab.world.act(apps[0], |app, now| app.client.disconnect(now));
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    let seen = lab.world.machine(apps[1]).log.iter().any(|l| {
        matches!(l, Logged::Event(ClientEvent::MemberLeft { group: g, member, why: LeaveReason::Disconnected })
            if *g == group && *member == ids[0])
    });
    assert!(seen);
    lab.world.act(lab.desk, |desk, now| desk.server.disconnect(now, ids[1])).unwrap();
    // The third vanishes without a word, the fourth is behind a cut link.
    lab.world.cut(apps[2]);
    lab.world.cut(apps[3]);
    lab.world.run_for(Duration::from_secs(100)).unwrap();
    assert_eq!(lab.world.machine(lab.desk).server.size(), Default::default());
    assert!(lab.world.machine(apps[3]).log.iter().any(|l| matches!(l, Logged::Event(ClientEvent::Ended(_)))));
}
