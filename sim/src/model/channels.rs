//! Which messages of a group may be handed to whom, and when, by what the server did.
//!
//! The server's steps cut the time that two clients are in a group together into *stays*, numbered from 0. No client knows
//! those numbers, but what its application was told bounds them: once it has seen `n` stays end, it is in stay `n` at least;
//! and it is in none that the server had not begun when it was told of the one that it is in. (Stays that ended before the
//! application asked were never told of, so bounds it is, not numbers.) From this follows, for each message as its sender
//! sent it and each arrival as its receiver took it:
//!
//! - both happened in the same stay: the bounds meet. What was sent in one stay never arrives in another, however late
//!   either end hears of leave and join;
//! - a message arrives once, on a reliable ordered channel after all that were sent before it, and on a sequenced one not
//!   after a later one of its key;
//! - a reliable message is passed over in an ordered channel only if it may be of an earlier stay than the one that did
//!   arrive, or a later one of its key was sent;
//! - where all heals, a reliable one that never arrived may be of a stay that is over, or a later one of its key was sent.

use super::{Session, Sessions, done};
use crate::scenario::expect::heals;
use crate::scenario::journal::{Entry, Journal, Received, Sent, What};
use crate::scenario::{ClientIndex, GroupIndex, Host, Scenario, Target};
use posse_core::{Channel, Instant, Reliability};
use std::collections::{BTreeMap, BTreeSet};

/// Two clients, the first first, in a group.
type Pair = (GroupIndex, ClientIndex, ClientIndex);

/// When stays of a pair began and ended, as the server said.
#[derive(Default)]
struct Stays {
    begins: Vec<Instant>,
    ends: Vec<Instant>,
}

/// What differs from the model, in words. `journals[0]` is the server's, the clients' follow.
pub(crate) fn violations(scenario: &Scenario, journals: &[Journal]) -> Vec<String> {
    let Some((server, clients)) = journals.split_first() else { return Vec::new() };
    let (stays, healed) = (stays(&server.entries), heals(scenario));
    let mut wrong = Vec::new();
    for ((from, to, group, channel), (sent, received)) in streams(clients) {
        let none = Stays::default();
        let stays = stays.get(&(group, from.min(to), from.max(to))).unwrap_or(&none);
        let entries = |of: ClientIndex| clients.get(of.0).map_or(&[][..], |journal| &journal.entries);
        let sender = View::of(entries(from), from, to, group, stays);
        let receiver = View::of(entries(to), to, from, group, stays);
        let stream = Stream { stays, sender, receiver, healed, sent, received };
        if let Some(what) = stream.wrong(channel.reliability()) {
            let [from, to] = [from, to].map(|client| scenario.host_name(Host::Client(client)));
            let Channel(channel) = channel;
            wrong.push(format!("{from} → {to}, {}/{channel}: {what}", scenario.target_name(Target::Group(group))));
        }
    }
    wrong
}

/// One sender's messages to one receiver on one channel of a group.
struct Stream<'a> {
    stays: &'a Stays,
    sender: View,
    receiver: View,
    healed: bool,
    /// In order.
    sent: Vec<&'a Sent>,
    received: Vec<&'a Received>,
}

impl Stream<'_> {
    /// What is wrong with it first of all.
    fn wrong(&self, kind: Reliability) -> Option<String> {
        let old = self.replaceable();
        let mut waiting = self.sent.iter().copied().peekable();
        let (mut seen, mut latest) = (BTreeSet::new(), BTreeMap::new());
        for arrival in &self.received {
            let number = arrival.number;
            let place = self.sent.binary_search_by_key(&number, |sent| sent.number);
            let Some(sent) = place.ok().and_then(|place| self.sent.get(place)) else {
                return Some(format!("message {number} was never sent to it"));
            };
            let (of, here) = (self.sender.stays_at(sent.at), self.receiver.stays_at(arrival.at));
            if of.0 > here.1 || here.0 > of.1 {
                return Some(format!("message {number} of stay {of:?} arrived in stay {here:?}"));
            }
            if !seen.insert(number) {
                return Some(format!("message {number} arrived again"));
            }
            let latest = latest.entry(sent.key).or_insert(number);
            if kind == Reliability::UnreliableSequenced && *latest > number {
                return Some(format!("message {number} arrived after message {latest} of its key"));
            }
            *latest = number.max(*latest);
            if kind != Reliability::ReliableOrdered {
                continue;
            }
            while let Some(passed) = waiting.next_if(|next| next.number < number) {
                if !old.contains(&passed.number) && self.sender.stays_at(passed.at).0 >= of.1 {
                    return Some(format!("message {number} arrived before message {} of its stay", passed.number));
                }
            }
            if waiting.next_if(|next| next.number == number).is_none() {
                return Some(format!("message {number} arrived after a later one"));
            }
        }
        if !kind.is_reliable() || !self.healed {
            return None;
        }
        // What never arrived. The earliest stay that it may be of is the first to be over.
        let missing = self.sent.iter().filter(|sent| !seen.contains(&sent.number) && !old.contains(&sent.number));
        let mut due = missing.filter(|sent| self.stays.ends.len() <= self.sender.stays_at(sent.at).0);
        due.next().map(|left| format!("message {} never arrived, and its stay is not over", left.number))
    }

    /// Messages that a later one of their key could take the place of.
    fn replaceable(&self) -> BTreeSet<u64> {
        let mut later = BTreeSet::new();
        let keyed = self.sent.iter().rev().filter(|sent| sent.key.is_some_and(|key| !later.insert(key)));
        keyed.map(|sent| sent.number).collect()
    }
}

/// In which stays with another a client may take itself to be, from what moment on.
struct View(Vec<(Instant, usize, usize)>);

impl View {
    fn of(entries: &[Entry], me: ClientIndex, other: ClientIndex, group: GroupIndex, stays: &Stays) -> Self {
        let (mut mine, mut theirs, mut ended) = (false, false, 0);
        let mut changes = vec![(Instant::ZERO, 0, 0)];
        for entry in entries {
            let before = mine && theirs;
            match entry.what {
                What::MemberJoined(g, who) if g == group => {
                    (mine, theirs) = (mine || who == me, theirs || who == other);
                }
                What::MemberLeft(g, who, _) if g == group => {
                    (mine, theirs) = (mine && who != me, theirs && who != other && who != me);
                }
                What::Ended(_) | What::Restarted => (mine, theirs) = (false, false),
                _ => continue,
            }
            let begun = stays.begins.partition_point(|begin| *begin <= entry.at).saturating_sub(1);
            match (before, mine && theirs) {
                (false, true) => changes.push((entry.at, ended, begun)),
                (true, false) => {
                    ended += 1;
                    // Out of it, it takes nothing for sent to it until it is told of the next.
                    changes.push((entry.at, ended, usize::MAX));
                }
                _ => {}
            }
        }
        Self(changes)
    }

    /// The first and last stay that it may be. What else happened at that moment may have come before or after.
    fn stays_at(&self, now: Instant) -> (usize, usize) {
        let Self(changes) = self;
        let (first, after) = (changes.partition_point(|c| c.0 < now), changes.partition_point(|c| c.0 <= now));
        let at_once = changes.get(first.saturating_sub(1)..after).unwrap_or_default();
        let low = at_once.iter().map(|c| c.1).min().unwrap_or_default();
        (low, at_once.iter().map(|c| c.2).max().unwrap_or(usize::MAX))
    }
}

/// The messages of groups, by sender, receiver, group and channel.
type Streams<'a> = BTreeMap<(ClientIndex, ClientIndex, GroupIndex, Channel), (Vec<&'a Sent>, Vec<&'a Received>)>;

fn streams(clients: &[Journal]) -> Streams<'_> {
    let mut streams = Streams::new();
    for (me, journal) in (0..).map(ClientIndex).zip(clients) {
        for sent in &journal.sent {
            let Target::Group(group) = sent.to else { continue };
            for receiver in &sent.receivers {
                let Host::Client(to) = *receiver else { continue };
                streams.entry((me, to, group, sent.channel)).or_default().0.push(sent);
            }
        }
        for received in &journal.received {
            let (Target::Group(group), Host::Client(from)) = (received.to, received.from) else { continue };
            streams.entry((from, me, group, received.channel)).or_default().1.push(received);
        }
    }
    streams
}

/// The stays of all pairs, by the server's steps.
fn stays(entries: &[Entry]) -> BTreeMap<Pair, Stays> {
    let mut stays: BTreeMap<Pair, Stays> = BTreeMap::new();
    let mut groups: BTreeMap<GroupIndex, BTreeSet<Session>> = BTreeMap::new();
    let mut sessions = Sessions::default();
    for entry in done(entries) {
        sessions.on(entry);
        let before = groups.clone();
        match entry.what {
            What::Created(group, ref members) => {
                _ = groups.insert(group, members.iter().map(|client| sessions.latest(*client)).collect());
            }
            What::Joining(group, client) => {
                groups.entry(group).or_default().insert(sessions.latest(client));
            }
            What::Leaving(group, client) => {
                groups.entry(group).or_default().remove(&sessions.latest(client));
            }
            What::Destroying(group) => _ = groups.remove(&group),
            What::ClientLeft(..) => {
                groups.values_mut().for_each(|members| members.retain(|session| Some(*session) != sessions.over));
            }
            What::Restarted => groups.clear(),
            _ => continue,
        }
        let (before, after) = (pairs(&before), pairs(&groups));
        for pair in after.difference(&before) {
            stays.entry(*pair).or_default().begins.push(entry.at);
        }
        for pair in before.difference(&after) {
            stays.entry(*pair).or_default().ends.push(entry.at);
        }
    }
    stays
}

fn pairs(groups: &BTreeMap<GroupIndex, BTreeSet<Session>>) -> BTreeSet<Pair> {
    let of = |(group, members): (&GroupIndex, &BTreeSet<Session>)| {
        let (group, all) = (*group, members.iter().map(|session| session.client).collect::<Vec<_>>());
        let two = |(i, a): (usize, &ClientIndex)| all.iter().skip(i + 1).map(|b| (group, *a, *b)).collect::<Vec<_>>();
        all.iter().enumerate().flat_map(two).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, ROOM, entry};
    use super::*;
    use posse_core::LeaveReason;

    /// `b` leaves at 10 ms and is back at 20 ms; `a` hears of both 5 ms later. `b` sends before and after.
    fn journals(arrivals: &[(u64, u64)]) -> Vec<Journal> {
        let of = |entries| Journal { entries, ..Journal::default() };
        let joined = |at, who| entry(at, What::MemberJoined(ROOM, who));
        let left = |at| entry(at, What::MemberLeft(ROOM, B, LeaveReason::Left));
        let join = |at| entry(at, What::Joining(ROOM, B));
        let server = of(vec![entry(0, What::Created(ROOM, vec![A, B])), entry(10, What::Leaving(ROOM, B)), join(20)]);
        let mut a = of(vec![joined(1, A), joined(1, B), left(15), joined(25, B)]);
        let mut b = of(vec![joined(1, B), joined(1, A), left(11), joined(21, B), joined(21, A)]);
        for (number, at) in (0..).zip([3, 4, 5, 22, 23]) {
            let (at, to, channel) = (Instant::from_millis(at), Target::Group(ROOM), Channel::reliable(0));
            b.sent.push(Sent { at, to, channel, number, key: None, receivers: vec![Host::Client(A)] });
        }
        for &(number, at) in arrivals {
            let sent_at = b.sent[number as usize].at;
            let (at, from, to) = (Instant::from_millis(at), Host::Client(B), Target::Group(ROOM));
            let channel = Channel::reliable(0);
            let (direct, intact, inside) = (false, true, true);
            a.received.push(Received { at, from, to, channel, number, sent_at, direct, intact, inside });
        }
        vec![server, a, b]
    }

    fn wrong(arrivals: &[(u64, u64)]) -> Vec<String> {
        let mut scenario = Scenario::random(1);
        (scenario.steps, scenario.duration) = (Vec::new(), crate::scenario::expect::HEALING * 2);
        violations(&scenario, &journals(arrivals))
    }

    #[test]
    fn a_leave_cuts_the_tail_of_its_stay_and_nothing_of_the_next() {
        assert_eq!(wrong(&[(0, 8), (1, 9), (2, 9), (3, 30), (4, 31)]), Vec::<String>::new());
        assert_eq!(wrong(&[(0, 8), (3, 30), (4, 31)]), Vec::<String>::new());
        assert!(wrong(&[(0, 8), (2, 9), (3, 30), (4, 31)])[0].contains("arrived before message 1 of its stay"));
        assert!(wrong(&[(0, 8), (3, 30)])[0].contains("message 4 never arrived"));
    }

    #[test]
    fn what_was_sent_in_one_stay_never_arrives_in_another() {
        assert!(wrong(&[(0, 8), (3, 14)])[0].contains("of stay (1, 1) arrived in stay (0, 0)"));
        assert!(wrong(&[(0, 8), (1, 30)])[0].contains("of stay (0, 0) arrived in stay (1, 1)"));
    }

    #[test]
    fn a_message_arrives_once_and_in_order() {
        assert!(wrong(&[(0, 8), (0, 9)])[0].contains("arrived again"));
        assert!(wrong(&[(3, 30), (4, 31), (1, 32)])[0].contains("stay"));
    }
}
