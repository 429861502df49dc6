//! Who is in which group, and who is to hear what of it, in which order.
//!
//! The server's own steps are the truth: from them follows, for each client, one sequence of joins and leaves that it must
//! be told of, each once. A newcomer hears of its own join first, then of the older members in the order in which they
//! came; who is out of a group hears no more of it. What a client's application saw must be a beginning of that
//! sequence, and while two share no group neither is told of a path to the other. A join is complete, once, when everyone
//! that is to hear of it has.

use crate::scenario::journal::{Entry, Journal, What};
use crate::scenario::{ClientIndex, GroupIndex, Host, Scenario, Target};
use posse_core::{Instant, JoinOutcome, LeaveReason};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a client is told of a group's member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Notice {
    Joined(GroupIndex, ClientIndex),
    Left(GroupIndex, ClientIndex, LeaveReason),
}

/// A notice and when the server did what it tells of. Those of one number may come in any order.
#[derive(Clone, Copy)]
struct Due {
    number: u64,
    at: Instant,
    notice: Notice,
}

/// A join that is not complete yet.
struct Pending {
    at: Instant,
    /// Who was in the group when it began and has not left since, the newcomer included.
    then: Vec<ClientIndex>,
}

#[derive(Default)]
struct Model {
    /// Members of each group in the order of their joins.
    groups: BTreeMap<GroupIndex, Vec<ClientIndex>>,
    /// What each client is to be told, in order.
    due: BTreeMap<ClientIndex, VecDeque<Due>>,
    pending: BTreeMap<(GroupIndex, ClientIndex), Pending>,
    last: u64,
    now: Instant,
    wrong: Vec<String>,
}

/// What differs from the model, in words. `journals[0]` is the server's, the clients' follow.
pub(crate) fn violations(scenario: &Scenario, journals: &[Journal]) -> Vec<String> {
    let Some((server, clients)) = journals.split_first() else { return Vec::new() };
    // Who restarts comes back as another, under the same name.
    if journals.iter().flat_map(|journal| &journal.entries).any(|entry| entry.what == What::Restarted) {
        return Vec::new();
    }
    let mut model = Model::default();
    for (entry, after) in server.entries.iter().zip(server.entries.iter().skip(1).map(Some).chain([None])) {
        // A step that the server refused changed nothing. It says so at once; of messages it speaks, too.
        let refused = |what: &What| matches!(what, What::Refused(why) if !why.starts_with("send"));
        if !after.is_some_and(|next| next.at == entry.at && refused(&next.what)) {
            model.server(scenario, entry, clients);
        }
    }
    for (client, journal) in (0..).map(ClientIndex).zip(clients) {
        model.client(scenario, client, journal);
    }
    model.wrong
}

impl Model {
    fn server(&mut self, scenario: &Scenario, entry: &Entry, clients: &[Journal]) {
        self.now = entry.at;
        match entry.what {
            What::Created(group, ref members) => {
                for &to in members {
                    self.tell(to, Notice::Joined(group, to));
                    members.iter().filter(|m| **m != to).for_each(|m| self.tell(to, Notice::Joined(group, *m)));
                }
                for &member in members {
                    self.begin(scenario, entry.at, group, member, members.clone());
                }
                self.groups.insert(group, members.clone());
            }
            What::Joining(group, client) => {
                let old = self.groups.entry(group).or_default().clone();
                self.tell(client, Notice::Joined(group, client));
                for &other in &old {
                    self.tell(other, Notice::Joined(group, client));
                    self.tell(client, Notice::Joined(group, other));
                }
                let all: Vec<_> = old.into_iter().chain([client]).collect();
                self.begin(scenario, entry.at, group, client, all.clone());
                self.groups.insert(group, all);
            }
            What::Leaving(group, client) => {
                self.last += 1;
                self.leave(group, client, LeaveReason::Left);
            }
            What::Destroying(group) => {
                for member in self.groups.remove(&group).unwrap_or_default() {
                    self.tell(member, Notice::Left(group, member, LeaveReason::GroupEnded));
                }
            }
            What::ClientLeft(client, _) => {
                // Its groups end in an order of the server's own.
                self.last += 1;
                let groups: Vec<_> = self.groups.iter().filter(|(_, m)| m.contains(&client)).map(|(g, _)| *g).collect();
                groups.into_iter().for_each(|group| self.leave(group, client, LeaveReason::Disconnected));
            }
            What::JoinCompleted(group, client, outcome) => {
                self.completed(scenario, entry.at, (group, client), outcome, clients);
            }
            _ => {}
        }
    }

    fn tell(&mut self, to: ClientIndex, notice: Notice) {
        self.last += 1;
        self.due.entry(to).or_default().push_back(Due { number: self.last, at: self.now, notice });
    }

    fn leave(&mut self, group: GroupIndex, client: ClientIndex, why: LeaveReason) {
        let Some(members) = self.groups.get_mut(&group) else { return };
        members.retain(|member| *member != client);
        // Who leaves owes nothing any more, and comes back as another.
        for (_, join) in self.pending.range_mut((group, ClientIndex(0))..=(group, ClientIndex(usize::MAX))) {
            join.then.retain(|member| *member != client);
        }
        let (number, at, notice) = (self.last, self.now, Notice::Left(group, client, why));
        for to in members.iter().copied().chain([client]) {
            self.due.entry(to).or_default().push_back(Due { number, at, notice });
        }
    }

    fn begin(&mut self, s: &Scenario, at: Instant, group: GroupIndex, member: ClientIndex, then: Vec<ClientIndex>) {
        if self.pending.insert((group, member), Pending { at, then }).is_some() {
            self.wrong.push(format!("the join of {} was not completed before the next", named(s, group, member)));
        }
    }

    fn completed(
        &mut self,
        scenario: &Scenario,
        at: Instant,
        (group, client): (GroupIndex, ClientIndex),
        outcome: JoinOutcome,
        clients: &[Journal],
    ) {
        let Some(join) = self.pending.remove(&(group, client)) else {
            return self.wrong.push(format!("a join of {} was completed twice", named(scenario, group, client)));
        };
        if outcome != JoinOutcome::Ok {
            return;
        }
        let heard = |by: ClientIndex, of: ClientIndex| {
            let entries = clients.get(by.0).map_or(&[][..], |journal| &journal.entries);
            // What it was told of older members may be of before this join, if it heard of them at all.
            entries.iter().any(|e| e.at <= at && e.at >= join.at && e.what == What::MemberJoined(group, of))
        };
        for &member in &join.then {
            if !heard(member, client) || !heard(client, member) {
                let (join, member) = (named(scenario, group, client), scenario.host_name(Host::Client(member)));
                self.wrong.push(format!("the join of {join} was completed before {member} and it had heard"));
            }
        }
    }

    /// Holds what a client's application saw against what is due to it.
    fn client(&mut self, scenario: &Scenario, me: ClientIndex, journal: &Journal) {
        let mut due = self.due.remove(&me).unwrap_or_default();
        let mut view: BTreeMap<GroupIndex, BTreeSet<ClientIndex>> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for entry in &journal.entries {
            let before = view.clone();
            let notice = match entry.what {
                What::MemberJoined(group, member) => {
                    view.entry(group).or_default().insert(member);
                    seen.insert((group, member), entry.at);
                    Notice::Joined(group, member)
                }
                What::MemberLeft(group, member, why) => {
                    view.entry(group).or_default().remove(&member);
                    if member == me {
                        view.remove(&group);
                    }
                    Notice::Left(group, member, why)
                }
                What::Path(peer, _) if !view.values().any(|group| group.contains(&me) && group.contains(&peer)) => {
                    let (me, peer) = (scenario.host_name(Host::Client(me)), scenario.host_name(Host::Client(peer)));
                    self.wrong.push(format!("{me} was told of a path to {peer}, with whom it shares no group"));
                    continue;
                }
                _ => continue,
            };
            while !take(&mut due, notice) {
                // A join may have been taken for that of an earlier, untold stay, since both look alike.
                let there = |g, m| before.get(&g).is_some_and(|group: &BTreeSet<_>| group.contains(&m));
                let late = |due: &Due, g, m| seen.get(&(g, m)).is_some_and(|at| due.at <= *at);
                if due.front().is_some_and(|d| matches!(d.notice, Notice::Joined(g, m) if there(g, m) && late(d, g, m)))
                {
                    due.pop_front();
                    continue;
                }
                if cancel(&mut due, me) || renew(&mut due, me, &seen) {
                    continue;
                }
                let (me, found) = (scenario.host_name(Host::Client(me)), told(scenario, notice));
                let expected = due.front().map_or("nothing".to_owned(), |due| told(scenario, due.notice));
                self.wrong.push(format!("{me} was told that {found}; due was: {expected}"));
                return;
            }
        }
    }
}

/// Takes `notice` out if it is the next that is due, or one of several that may come next.
fn take(due: &mut VecDeque<Due>, notice: Notice) -> bool {
    let number = due.front().map(|due| due.number);
    let place = due.iter().take_while(|due| Some(due.number) == number).position(|due| due.notice == notice);
    place.and_then(|place| due.remove(place)).is_some()
}

/// If what is due next is a join whose leave is due, too, takes both out: they cancel out if the application did not ask in
/// between. With its own stay a client is told nothing of what it would have seen in it.
fn cancel(due: &mut VecDeque<Due>, me: ClientIndex) -> bool {
    let Some(&Due { notice: Notice::Joined(group, member), .. }) = due.front() else { return false };
    let over = |due: &Due| matches!(due.notice, Notice::Left(g, m, _) if g == group && (m == member || m == me));
    let Some(end) = due.iter().position(over) else { return false };
    if member == me || due.get(end).is_some_and(|due| matches!(due.notice, Notice::Left(_, m, _) if m == member)) {
        strike(due, end, |at, m| member == me || (m == member && (at == 0 || at == end)), group);
    } else {
        // The own stay ended before anyone asked who had come.
        due.pop_front();
    }
    true
}

/// If what is due next is a leave, or was in an own stay that is over, and the join that was told last came late enough to
/// be that of the stay which followed, then it was that one: takes out what lies between.
fn renew(due: &mut VecDeque<Due>, me: ClientIndex, seen: &BTreeMap<(GroupIndex, ClientIndex), Instant>) -> bool {
    let Some(&Due { notice: Notice::Joined(group, member) | Notice::Left(group, member, _), .. }) = due.front() else {
        return false;
    };
    for who in [me, member] {
        let (joined, told) = (Notice::Joined(group, who), seen.get(&(group, who)));
        let again = due.iter().position(|due| due.notice == joined && told.is_some_and(|at| due.at <= *at));
        if let Some(end) = again {
            strike(due, end, |_, m| who == me || m == who, group);
            return true;
        }
    }
    false
}

/// Takes out what `which` picks of a group's notices up to place `end`.
fn strike(due: &mut VecDeque<Due>, end: usize, which: impl Fn(usize, ClientIndex) -> bool, group: GroupIndex) {
    let mut places = 0..;
    due.retain(|due| {
        let at = places.next().unwrap_or(usize::MAX);
        let (Notice::Joined(g, m) | Notice::Left(g, m, _)) = due.notice;
        at > end || g != group || !which(at, m)
    });
}

fn named(scenario: &Scenario, group: GroupIndex, client: ClientIndex) -> String {
    format!("{} to {}", scenario.host_name(Host::Client(client)), scenario.target_name(Target::Group(group)))
}

fn told(scenario: &Scenario, notice: Notice) -> String {
    let (group, member, what) = match notice {
        Notice::Joined(group, member) => (group, member, "joined".to_owned()),
        Notice::Left(group, member, why) => (group, member, format!("left ({why:?})")),
    };
    let (group, member) = (scenario.target_name(Target::Group(group)), scenario.host_name(Host::Client(member)));
    format!("{member} {what} {group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: GroupIndex = GroupIndex(0);
    const A: ClientIndex = ClientIndex(0);
    const B: ClientIndex = ClientIndex(1);

    fn entry(at: u64, what: What) -> Entry {
        Entry { at: Instant::from_millis(at), who: None, what }
    }

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
    fn a_path_to_somebody_without_a_common_group_is_wrong() {
        let mut late = right();
        let path = posse_core::Path::Direct { rtt: posse_core::Duration::ZERO };
        late[1].entries.push(entry(10, What::Path(B, path)));
        assert_eq!(wrong(&late), ["client0 was told of a path to client1, with whom it shares no group"]);
    }
}
