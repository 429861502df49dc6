//! Who is in which group, and who is to hear what of it, in which order.
//!
//! The server's own steps are the truth. From them follows, for each session of a client, one sequence of joins and leaves
//! that are *due* to it: a newcomer hears of its own join first, then of the older members in the order in which they came;
//! who is out of a group hears no more of it.
//!
//! What the client's application is *told* must follow from that: [`notices`](super::notices) says how.
//!
//! Beside that: while two share no group neither is told of a path to the other; and a join is complete, once, when
//! everyone that is to hear of it has.
//!
//! A client that restarts comes back as another, in a new session, and so do all with a server that restarts: each session
//! is followed by itself.

use super::notices::{Due, Notice, follows};
use super::{Session, Sessions, done};
use crate::scenario::journal::{Entry, Journal, What};
use crate::scenario::{ClientIndex, GroupIndex, Host, Scenario, Target};
use posse_core::{Instant, JoinOutcome, LeaveReason};
use std::collections::{BTreeMap, BTreeSet};

/// A join that is not complete yet.
struct Pending {
    at: Instant,
    /// Who was in the group when it began and has not left since, the newcomer included.
    then: Vec<Session>,
}

#[derive(Default)]
struct Model {
    sessions: Sessions,
    /// Members of each group in the order of their joins.
    groups: BTreeMap<GroupIndex, Vec<Session>>,
    /// What each session's client is to be told, in order.
    due: BTreeMap<Session, Vec<Due>>,
    pending: BTreeMap<(GroupIndex, Session), Pending>,
    last: u64,
    now: Instant,
    wrong: Vec<String>,
}

/// What differs from the model, in words. `journals[0]` is the server's, the clients' follow.
pub(crate) fn violations(scenario: &Scenario, journals: &[Journal]) -> Vec<String> {
    let Some((server, clients)) = journals.split_first() else { return Vec::new() };
    let mut model = Model::default();
    for entry in done(&server.entries) {
        model.server(scenario, entry, clients);
    }
    for (client, journal) in (0..).map(ClientIndex).zip(clients) {
        let lives: Vec<_> = journal.entries.split(|entry| entry.what == What::Restarted).collect();
        // A login that was never accepted, or that its client did not live to see, leaves open which session was whose.
        if lives.len() <= 1 || model.sessions.had.get(&client).is_some_and(|had| *had == lives.len()) {
            for (before, entries) in lives.into_iter().enumerate() {
                model.client(scenario, Session { client, before }, entries);
            }
        }
    }
    model.wrong
}

impl Model {
    fn server(&mut self, scenario: &Scenario, entry: &Entry, clients: &[Journal]) {
        self.now = entry.at;
        self.sessions.on(entry);
        match entry.what {
            What::Created(group, ref members) => {
                let members: Vec<_> = members.iter().map(|client| self.sessions.latest(*client)).collect();
                for &to in &members {
                    self.tell(to, Notice::Joined(group, to.client));
                    let others = members.iter().filter(|m| **m != to);
                    others.for_each(|m| self.tell(to, Notice::Joined(group, m.client)));
                }
                for &member in &members {
                    self.begin(scenario, group, member, members.clone());
                }
                self.groups.insert(group, members);
            }
            What::Joining(group, client) => {
                let newcomer = self.sessions.latest(client);
                let old = self.groups.entry(group).or_default().clone();
                self.tell(newcomer, Notice::Joined(group, client));
                for &other in &old {
                    self.tell(other, Notice::Joined(group, client));
                    self.tell(newcomer, Notice::Joined(group, other.client));
                }
                let all: Vec<_> = old.into_iter().chain([newcomer]).collect();
                self.begin(scenario, group, newcomer, all.clone());
                self.groups.insert(group, all);
            }
            What::Leaving(group, client) => {
                self.last += 1;
                self.leave(group, self.sessions.latest(client), LeaveReason::Left);
            }
            What::Destroying(group) => {
                for member in self.groups.remove(&group).unwrap_or_default() {
                    self.tell(member, Notice::Left(group, member.client, LeaveReason::GroupEnded));
                }
            }
            What::ClientLeft(..) => self.session_over(),
            What::JoinCompleted(group, client, outcome) => self.completed(scenario, (group, client), outcome, clients),
            What::Restarted => {
                self.groups.clear();
                self.pending.clear();
            }
            _ => {}
        }
    }

    fn session_over(&mut self) {
        let Some(over) = self.sessions.over else { return };
        // Its groups end in an order of the server's own.
        self.last += 1;
        let groups: Vec<_> = self.groups.iter().filter(|(_, m)| m.contains(&over)).map(|(g, _)| *g).collect();
        groups.into_iter().for_each(|group| self.leave(group, over, LeaveReason::Disconnected));
    }

    fn tell(&mut self, to: Session, notice: Notice) {
        self.last += 1;
        self.due.entry(to).or_default().push(Due { number: self.last, at: self.now, notice });
    }

    fn leave(&mut self, group: GroupIndex, who: Session, why: LeaveReason) {
        let Some(members) = self.groups.get_mut(&group) else { return };
        members.retain(|member| *member != who);
        // Who leaves owes nothing any more, and comes back as another.
        for ((of, _), join) in &mut self.pending {
            if *of == group {
                join.then.retain(|member| *member != who);
            }
        }
        let (number, at, notice) = (self.last, self.now, Notice::Left(group, who.client, why));
        for to in members.iter().copied().chain([who]) {
            self.due.entry(to).or_default().push(Due { number, at, notice });
        }
    }

    fn begin(&mut self, scenario: &Scenario, group: GroupIndex, member: Session, then: Vec<Session>) {
        if self.pending.insert((group, member), Pending { at: self.now, then }).is_some() {
            let join = named(scenario, group, member.client);
            self.wrong.push(format!("the join of {join} was not completed before the next"));
        }
    }

    fn completed(
        &mut self,
        scenario: &Scenario,
        (group, client): (GroupIndex, ClientIndex),
        outcome: JoinOutcome,
        clients: &[Journal],
    ) {
        let mut theirs = self.pending.keys().copied().filter(|(of, who)| (*of, who.client) == (group, client));
        let Some(join) = theirs.next().and_then(|key| self.pending.remove(&key)) else {
            return self.wrong.push(format!("a join of {} was completed twice", named(scenario, group, client)));
        };
        if outcome != JoinOutcome::Ok {
            return;
        }
        let heard = |by: ClientIndex, of: ClientIndex| {
            let entries = clients.get(by.0).map_or(&[][..], |journal| &journal.entries);
            // What it was told of older members may be of before this join, if it heard of them at all.
            entries.iter().any(|e| e.at <= self.now && e.at >= join.at && e.what == What::MemberJoined(group, of))
        };
        for member in join.then.iter().map(|member| member.client) {
            if !heard(member, client) || !heard(client, member) {
                let (join, member) = (named(scenario, group, client), scenario.host_name(Host::Client(member)));
                self.wrong.push(format!("the join of {join} was completed before {member} and it had heard"));
            }
        }
    }

    /// Holds what a client's application was told in a session against what was due to it.
    fn client(&mut self, scenario: &Scenario, session: Session, entries: &[Entry]) {
        let me = session.client;
        let mut view: BTreeMap<GroupIndex, BTreeSet<ClientIndex>> = BTreeMap::new();
        let mut told = Vec::new();
        for entry in entries {
            match entry.what {
                What::MemberJoined(group, member) => {
                    view.entry(group).or_default().insert(member);
                    told.push((entry.at, Notice::Joined(group, member)));
                }
                What::MemberLeft(group, member, why) => {
                    view.entry(group).or_default().remove(&member);
                    if member == me {
                        view.remove(&group);
                    }
                    told.push((entry.at, Notice::Left(group, member, why)));
                }
                What::Path(peer, _) if !view.values().any(|group| group.contains(&me) && group.contains(&peer)) => {
                    let (me, peer) = (scenario.host_name(Host::Client(me)), scenario.host_name(Host::Client(peer)));
                    self.wrong.push(format!("{me} was told of a path to {peer}, with whom it shares no group"));
                }
                _ => {}
            }
        }
        let due = self.due.get(&session).map_or(&[][..], Vec::as_slice);
        if let Err((used, matched)) = follows(me, due, &told) {
            let found = told.get(matched).map_or("nothing more".to_owned(), |(_, notice)| said(scenario, *notice));
            let expected = due.get(used).map_or("nothing".to_owned(), |due| said(scenario, due.notice));
            let me = scenario.host_name(Host::Client(me));
            self.wrong.push(format!("{me} was told that {found}; due was: {expected}"));
        }
    }
}

fn named(scenario: &Scenario, group: GroupIndex, client: ClientIndex) -> String {
    format!("{} to {}", scenario.host_name(Host::Client(client)), scenario.target_name(Target::Group(group)))
}

fn said(scenario: &Scenario, notice: Notice) -> String {
    let (group, member, what) = match notice {
        Notice::Joined(group, member) => (group, member, "joined".to_owned()),
        Notice::Left(group, member, why) => (group, member, format!("left ({why:?})")),
    };
    let (group, member) = (scenario.target_name(Target::Group(group)), scenario.host_name(Host::Client(member)));
    format!("{member} {what} {group}")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, ROOM, entry};
    use super::*;

    fn journal(entries: Vec<Entry>) -> Journal {
        Journal { entries, ..Journal::default() }
    }

    /// `a` and `b` are made a room of, both hear of it, then `b` leaves.
    fn right() -> Vec<Journal> {
        let joined = |at, who| entry(at, What::MemberJoined(ROOM, who));
        let left = |at| entry(at, What::MemberLeft(ROOM, B, LeaveReason::Left));
        let completed = |who| entry(5, What::JoinCompleted(ROOM, who, JoinOutcome::Ok));
        let server = vec![
            entry(1, What::Created(ROOM, vec![A, B])),
            completed(A),
            completed(B),
            entry(6, What::Leaving(ROOM, B)),
        ];
        let a = vec![joined(2, A), joined(2, B), left(8)];
        let b = vec![joined(3, B), joined(3, A), left(9)];
        [server, a, b].map(journal).into()
    }

    fn wrong(journals: &[Journal]) -> Vec<String> {
        violations(&Scenario::random(1), journals)
    }

    #[test]
    fn what_the_server_did_and_all_heard_in_order_is_right() {
        assert_eq!(wrong(&right()), Vec::<String>::new());
    }

    #[test]
    fn a_notice_twice_or_early_or_of_another_reason_is_wrong() {
        let mut twice = right();
        let again = twice[1].entries[1].clone();
        twice[1].entries.insert(2, again);
        assert_eq!(wrong(&twice), ["client0 was told that client1 joined group0; due was: client1 left (Left) group0"]);
        let mut early = right();
        early[2].entries.swap(0, 1);
        assert_eq!(wrong(&early).len(), 1);
        let mut other = right();
        other[1].entries[2].what = What::MemberLeft(ROOM, B, LeaveReason::Disconnected);
        assert_eq!(wrong(&other).len(), 1);
    }

    #[test]
    fn a_join_that_completes_before_all_heard_or_twice_is_wrong() {
        let mut hasty = right();
        hasty[2].entries[1].at = Instant::from_millis(7);
        assert_eq!(wrong(&hasty).len(), 2);
        let mut twice = right();
        let again = twice[0].entries[2].clone();
        twice[0].entries.insert(3, again);
        assert_eq!(wrong(&twice), ["a join of client1 to group0 was completed twice"]);
    }

    #[test]
    fn a_stay_that_was_over_before_anyone_asked_need_not_be_told() {
        let mut short = right();
        short[1].entries.drain(1..);
        short[2].entries.clear();
        short[0].entries.retain(|e| !matches!(e.what, What::JoinCompleted(..)));
        assert_eq!(wrong(&short), Vec::<String>::new());
    }

    #[test]
    fn who_restarts_is_told_of_its_new_session_alone() {
        let mut again = right();
        again[0].entries.insert(0, entry(0, What::Accepted(B)));
        again[0].entries.push(entry(10, What::Accepted(B)));
        again[0].entries.push(entry(11, What::Joining(ROOM, B)));
        again[2].entries.pop();
        again[2].entries.push(entry(9, What::Restarted));
        assert_eq!(wrong(&again), Vec::<String>::new());
        let joined = |at, who| entry(at, What::MemberJoined(ROOM, who));
        again[2].entries.extend([joined(12, B), joined(12, A)]);
        assert_eq!(wrong(&again), Vec::<String>::new());
        again[2].entries.push(entry(13, What::MemberLeft(ROOM, B, LeaveReason::Left)));
        assert_eq!(wrong(&again).len(), 1);
    }

    #[test]
    fn a_path_to_somebody_without_a_common_group_is_wrong() {
        let mut late = right();
        let path = posse_core::Path::Direct { rtt: posse_core::Duration::ZERO };
        late[1].entries.push(entry(10, What::Path(B, path)));
        assert_eq!(wrong(&late), ["client0 was told of a path to client1, with whom it shares no group"]);
    }
}
