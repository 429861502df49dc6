//! What may become of a message, by sender, receiver, scope and channel.
//!
//! A reliable message arrives once, unharmed, after all that were sent before it in its scope and before all that were sent
//! after it. One that its receiver never got is *lost*, unless membership ended over it: a leave ends reliability, so what
//! was under way when receiver or sender processed the leave is *cut short*. That excuses a tail, never a gap: if something
//! arrived that was sent later and still before the leave, the missing one was lost. An unreliable message may be lost or
//! overtaken, and still arrives at most once, unharmed.

use crate::scenario::accounts::Stream;
use crate::scenario::journal::{Entry, Journal, Received, What};
use crate::scenario::{ClientIndex, GroupIndex, Host, Scenario, Target};
use posse_core::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// What became of the messages of one sender to one receiver in one scope. Counts are as in [`Stream`].
pub(crate) struct Fate<'a> {
    /// First arrivals, by number.
    pub(crate) delivered: BTreeMap<u64, &'a Received>,
    pub(crate) lost: u64,
    pub(crate) first_lost: Option<(u64, Instant)>,
    pub(crate) cut_short: u64,
    pub(crate) repeated: u64,
    pub(crate) reordered: u64,
    pub(crate) outside: u64,
    pub(crate) foreign: u64,
}

/// Holds what arrived against what was sent, by number and with the time of sending.
pub(crate) fn fate<'a>(sent: &BTreeMap<u64, Instant>, received: &'a [Received], ends: &Ends) -> Fate<'a> {
    let mut delivered: BTreeMap<u64, &Received> = BTreeMap::new();
    let (mut repeated, mut reordered, mut outside, mut foreign) = (0, 0, 0, 0);
    for r in received {
        outside += u64::from(!r.inside);
        if !r.intact || sent.get(&r.number) != Some(&r.sent_at) {
            foreign += 1;
        } else if delivered.contains_key(&r.number) {
            repeated += 1;
        } else {
            reordered += u64::from(delivered.last_key_value().is_some_and(|(&last, _)| last > r.number));
            delivered.insert(r.number, r);
        }
    }
    let missing: Vec<_> = sent.iter().filter(|(number, _)| !delivered.contains_key(number)).collect();
    // A gap: something later of the same membership did arrive.
    let gap = |number, end| delivered.range(number..).any(|(n, _)| sent.get(n).is_some_and(|&at| at <= end));
    let excused = |number, at| ends.after(at).is_some_and(|end| !gap(number, end));
    let mut losses = missing.iter().map(|&(&number, &at)| (number, at)).filter(|&(n, at)| !excused(n, at));
    let first_lost = losses.next();
    let lost = u64::from(first_lost.is_some()) + losses.count() as u64;
    let cut_short = missing.len() as u64 - lost;
    Fate { delivered, lost, first_lost, cut_short, repeated, reordered, outside, foreign }
}

/// What must never happen to any message, whatever a scenario expects, in words.
pub(crate) fn violations(scenario: &Scenario, streams: &[Stream]) -> Vec<String> {
    let mut wrong = Vec::new();
    for s in streams {
        let way = format!("{} → {}", scenario.host_name(s.from), scenario.host_name(s.to));
        if !s.reliable() && s.repeated > 0 {
            wrong.push(format!("{way}: {} unreliable messages arrived again", s.repeated));
        }
    }
    wrong
}

/// When sender and receiver ceased to share what the scope needs, as each of them processed it.
pub(crate) struct Ends {
    receiver: Vec<Instant>,
    sender: Vec<Instant>,
}

impl Ends {
    pub(crate) fn of(from: Host, to: Host, scope: Target, journals: &[Journal]) -> Self {
        let seen_by =
            |observer, other| journal_of(observer, journals).map(|j| endings(&j.entries, observer, other, scope));
        Self { receiver: seen_by(to, from).unwrap_or_default(), sender: seen_by(from, to).unwrap_or_default() }
    }

    /// When the membership that a message was sent in ended, as the first of the two processed it.
    fn after(&self, sent: Instant) -> Option<Instant> {
        let first = |ends: &[Instant]| ends.iter().copied().find(|&end| end >= sent);
        first(&self.receiver).into_iter().chain(first(&self.sender)).min()
    }
}

/// The moments when `observer` ceased to share the scope's group, or the last of all groups, with `other`.
pub(crate) fn endings(entries: &[Entry], observer: Host, other: Host, scope: Target) -> Vec<Instant> {
    let (mut mine, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    let mut ends = Vec::new();
    // The server is in every group and shares no group: with it only sessions end.
    let shared = |mine: &BTreeSet<GroupIndex>, theirs: &BTreeSet<GroupIndex>| match (scope, other) {
        (Target::Group(group), Host::Server) => mine.contains(&group),
        (Target::Host(_), Host::Server) => true,
        (Target::Group(group), _) => mine.contains(&group) && theirs.contains(&group),
        (Target::Host(_), _) => mine.intersection(theirs).next().is_some(),
    };
    for entry in entries {
        let before = shared(&mine, &theirs);
        match entry.what {
            What::MemberJoined(group, member) if Host::Client(member) == observer => _ = mine.insert(group),
            What::MemberJoined(group, member) if Host::Client(member) == other => _ = theirs.insert(group),
            // Who is out of a group hears no more of it: neither who else leaves it.
            What::MemberLeft(group, member, _) if Host::Client(member) == observer => {
                mine.remove(&group);
                theirs.remove(&group);
            }
            What::MemberLeft(group, member, _) if Host::Client(member) == other => _ = theirs.remove(&group),
            // The server shares sessions, and what a client has said goodbye over is over.
            What::ClientLeft(client, _) if observer == Host::Server && Host::Client(client) == other => {
                ends.push(entry.at);
            }
            What::Ended(_) | What::Restarted => {
                ends.push(entry.at);
                mine.clear();
                theirs.clear();
            }
            _ => {}
        }
        if before && !shared(&mine, &theirs) {
            ends.push(entry.at);
        }
    }
    ends
}

fn journal_of(host: Host, journals: &[Journal]) -> Option<&Journal> {
    match host {
        Host::Server => journals.first(),
        Host::Client(ClientIndex(i)) => journals.get(i + 1),
    }
}
