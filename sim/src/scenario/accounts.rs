//! Who got which messages, and how traffic of each pair went: computed from the journals alone, after the run.
//!
//! A reliable message that its receiver never got is *lost*, unless membership ended over it: a leave ends reliability, so
//! what was under way when receiver or sender processed the leave is *cut short*. That excuses a tail, never a gap: if
//! something arrived that was sent later and still before the leave, the missing one was lost; on an unordered channel it
//! may have been overtaken. One that a later one of its key was sent after is *superseded* if it did not arrive.
//!
//! The model in `model/channels.rs` judges the same messages by what the server did, apart from this.

use super::journal::{Entry, Journal, Received, What};
use super::{ClientIndex, GroupIndex, Host, Scenario, Target};
use posse_core::{Channel, Duration, Instant, Path, PeerReport, Reliability};
use std::collections::{BTreeMap, BTreeSet, btree_map};

/// Messages of one sender to one receiver in one scope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    /// The sender.
    pub from: Host,
    /// The receiver.
    pub to: Host,
    /// The group, or the receiver itself.
    pub scope: Target,
    /// The channel.
    pub channel: Channel,
    /// Messages that were meant for this receiver.
    pub sent: u64,
    /// Different ones of them that arrived.
    pub delivered: u64,
    /// Never arrived. Expected on unreliable channels.
    pub lost: u64,
    /// The first of them: its number and when it was sent.
    pub first_lost: Option<(u64, Instant)>,
    /// Never arrived because membership ended over them.
    pub cut_short: u64,
    /// Never arrived, and a later one of the same key was sent.
    pub superseded: u64,
    /// Arrivals of what had arrived before.
    pub repeated: u64,
    /// Arrivals after a later one; on a sequenced channel, after a later one of the same key.
    pub reordered: u64,
    /// Arrivals while the receiver did not see both in the group.
    pub outside: u64,
    /// Arrivals with other bytes than were sent, or that nobody sent to this receiver.
    pub foreign: u64,
    /// Arrivals that came directly.
    pub direct: u64,
    /// When the first was sent and how long it took, if it arrived.
    pub first: Option<(Instant, Duration)>,
    /// Median time on the way by relay.
    pub by_relay: Option<Duration>,
    /// Median time on the way directly.
    pub directly: Option<Duration>,
    /// Longest time on the way.
    pub slowest: Option<Duration>,
    /// The time that each took that was delivered, in the order of their numbers.
    pub took: Vec<Duration>,
}

impl Stream {
    /// Whether the channel promises delivery.
    pub fn reliable(&self) -> bool {
        self.channel.reliability().is_reliable()
    }

    /// Whether the channel promises order.
    pub fn ordered(&self) -> bool {
        self.channel.reliability().is_ordered()
    }
}

/// How traffic of two clients went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The one who comes first in the scenario.
    pub a: ClientIndex,
    /// The other.
    pub b: ClientIndex,
    /// When the server first put both into one group.
    pub together: Instant,
    /// What `a` said of it.
    pub from_a: PathStory,
    /// What `b` said of it.
    pub from_b: PathStory,
    /// Both medians of messages' times on the way by relay, added: there and back.
    pub relay_round_trip: Option<Duration>,
    /// The same of what came directly.
    pub direct_round_trip: Option<Duration>,
}

impl Pair {
    /// When both had said that it was direct.
    pub fn both_direct(&self) -> Option<Instant> {
        Some(self.from_a.first_direct?.max(self.from_b.first_direct?))
    }
}

/// One end's word on a pair's path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathStory {
    /// When it first said "direct".
    pub first_direct: Option<Instant>,
    /// Changes between direct and relayed.
    pub switches: u64,
    /// Its last word.
    pub last: Option<Path>,
    /// Smoothed round-trip time of the direct path at the end of the run, if there was one.
    pub rtt: Option<Duration>,
    /// What was done for a direct path until the end of the run, if the other was a peer then.
    pub report: Option<PeerReport>,
}

/// What must never happen to any message, whatever a scenario expects, in words.
pub(crate) fn violations(scenario: &Scenario, streams: &[Stream]) -> Vec<String> {
    let mut wrong = Vec::new();
    for s in streams.iter().filter(|s| !s.reliable()) {
        let way = format!("{} → {}", scenario.host_name(s.from), scenario.host_name(s.to));
        if s.repeated > 0 {
            wrong.push(format!("{way}: {} unreliable messages arrived again", s.repeated));
        }
        if s.ordered() && s.reordered > 0 {
            wrong.push(format!("{way}: {} sequenced messages arrived after a later one", s.reordered));
        }
    }
    wrong
}

/// The messages of a run, by sender, receiver, scope and channel. `journals[0]` is the server's, the clients' follow.
pub fn streams(journals: &[Journal]) -> Vec<Stream> {
    let mut books: BTreeMap<(Host, Host, Target, Channel), Book> = BTreeMap::new();
    for (host, journal) in hosts().zip(journals) {
        for sent in &journal.sent {
            for &to in &sent.receivers {
                let book = books.entry((host, to, sent.to, sent.channel)).or_default();
                book.sent.insert(sent.number, Posted { at: sent.at, key: sent.key });
            }
        }
    }
    for (host, journal) in hosts().zip(journals) {
        for received in &journal.received {
            books.entry((received.from, host, received.to, received.channel)).or_default().received.push(*received);
        }
    }
    books.into_iter().map(|((from, to, scope, channel), book)| book.close(from, to, scope, channel, journals)).collect()
}

/// The pairs of clients that the server ever put into one group.
pub fn pairs(journals: &[Journal], streams: &[Stream]) -> Vec<Pair> {
    let Some((server, clients)) = journals.split_first() else { return Vec::new() };
    let pair = |((a, b), together): ((ClientIndex, ClientIndex), Instant)| {
        let story = |of: ClientIndex, with| clients.get(of.0).map(|j| path_story(&j.entries, with)).unwrap_or_default();
        Pair {
            a,
            b,
            together,
            from_a: story(a, b),
            from_b: story(b, a),
            relay_round_trip: round_trip(streams, a, b, |s| s.by_relay),
            direct_round_trip: round_trip(streams, a, b, |s| s.directly),
        }
    };
    put_together(&server.entries).into_iter().map(pair).collect()
}

/// Each pair's first moment in one group, as the server ordered it.
fn put_together(entries: &[Entry]) -> BTreeMap<(ClientIndex, ClientIndex), Instant> {
    let mut groups: BTreeMap<GroupIndex, BTreeSet<ClientIndex>> = BTreeMap::new();
    let mut first = BTreeMap::new();
    for entry in entries {
        let (group, newcomers): (_, &[ClientIndex]) = match &entry.what {
            What::Created(group, members) => (group, members),
            What::Joining(group, client) => (group, std::slice::from_ref(client)),
            What::Leaving(group, client) => {
                groups.entry(*group).or_default().remove(client);
                continue;
            }
            What::Destroying(group) => {
                groups.remove(group);
                continue;
            }
            _ => continue,
        };
        let members = groups.entry(*group).or_default();
        for &newcomer in newcomers {
            for &old in members.iter().filter(|old| **old != newcomer) {
                first.entry((old.min(newcomer), old.max(newcomer))).or_insert(entry.at);
            }
            members.insert(newcomer);
        }
    }
    first
}

fn path_story(entries: &[Entry], with: ClientIndex) -> PathStory {
    let mut story = PathStory::default();
    for entry in entries {
        let What::Path(peer, path) = entry.what else { continue };
        if peer != with {
            continue;
        }
        let direct = matches!(path, Path::Direct { .. });
        if direct {
            story.first_direct.get_or_insert(entry.at);
        }
        let before = matches!(story.last, Some(Path::Direct { .. }));
        story.switches += u64::from(direct != before);
        story.last = Some(path);
    }
    story
}

fn round_trip(
    streams: &[Stream],
    a: ClientIndex,
    b: ClientIndex,
    time: impl Fn(&Stream) -> Option<Duration>,
) -> Option<Duration> {
    let (a, b) = (Host::Client(a), Host::Client(b));
    let way = |from, to| streams.iter().filter(|s| s.from == from && s.to == to).find_map(&time);
    Some(way(a, b)? + way(b, a)?)
}

#[derive(Default)]
struct Book {
    sent: BTreeMap<u64, Posted>,
    received: Vec<Received>,
}

impl Book {
    fn close(self, from: Host, to: Host, scope: Target, channel: Channel, journals: &[Journal]) -> Stream {
        let fate = fate(channel.reliability(), &self.sent, &self.received, &Ends::of(from, to, scope, journals));
        let took = |r: &&Received| r.at.since(r.sent_at);
        let by_relay: Vec<_> = fate.delivered.values().filter(|r| !r.direct).map(took).collect();
        let directly: Vec<_> = fate.delivered.values().filter(|r| r.direct).map(took).collect();
        let first = self.sent.first_key_value();
        let first = first.and_then(|(number, posted)| Some((posted.at, took(fate.delivered.get(number)?))));
        let all = fate.delivered.values().map(|r| r.at.since(r.sent_at)).collect();
        let slowest = by_relay.iter().chain(&directly).max().copied();
        Stream {
            from,
            to,
            scope,
            channel,
            sent: self.sent.len() as u64,
            delivered: fate.delivered.len() as u64,
            lost: fate.lost,
            first_lost: fate.first_lost,
            cut_short: fate.cut_short,
            superseded: fate.superseded,
            repeated: fate.repeated,
            reordered: fate.reordered,
            outside: fate.outside,
            foreign: fate.foreign,
            direct: self.received.iter().filter(|r| r.direct).count() as u64,
            first,
            by_relay: median(by_relay),
            directly: median(directly),
            slowest,
            took: all,
        }
    }
}

/// What became of the messages of one sender to one receiver in one scope. Counts are as in [`Stream`].
struct Fate<'a> {
    /// First arrivals, by number.
    delivered: BTreeMap<u64, &'a Received>,
    lost: u64,
    first_lost: Option<(u64, Instant)>,
    cut_short: u64,
    superseded: u64,
    repeated: u64,
    reordered: u64,
    outside: u64,
    foreign: u64,
}

/// A message that was sent.
#[derive(Clone, Copy)]
struct Posted {
    at: Instant,
    key: Option<u32>,
}

/// Holds what arrived against what was sent, by number and with the time of sending.
fn fate<'a>(kind: Reliability, sent: &BTreeMap<u64, Posted>, received: &'a [Received], ends: &Ends) -> Fate<'a> {
    let mut delivered: BTreeMap<u64, &Received> = BTreeMap::new();
    // The last that arrived: of all, or on a sequenced channel of each key.
    let mut last: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    let (mut repeated, mut reordered, mut outside, mut foreign) = (0, 0, 0, 0);
    for r in received {
        outside += u64::from(!r.inside);
        if !r.intact || sent.get(&r.number).map(|posted| posted.at) != Some(r.sent_at) {
            foreign += 1;
        } else if let btree_map::Entry::Vacant(place) = delivered.entry(r.number) {
            let key = sent.get(&r.number).and_then(|posted| posted.key);
            let last = last.entry(key.filter(|_| kind == Reliability::UnreliableSequenced)).or_default();
            reordered += u64::from(*last > r.number);
            *last = r.number.max(*last);
            place.insert(r);
        } else {
            repeated += 1;
        }
    }
    // Those that a later one of their key could take the place of, looking back from the last.
    let (mut later, mut old) = (BTreeSet::new(), BTreeSet::new());
    for (&number, posted) in sent.iter().rev() {
        if posted.key.is_some_and(|key| !later.insert(key)) {
            old.insert(number);
        }
    }
    let missing = sent.iter().filter(|(number, _)| !delivered.contains_key(number));
    let (superseded, missing): (Vec<_>, Vec<_>) = missing.partition(|(number, _)| old.contains(number));
    // A gap: something later of the same membership did arrive. What was sent at the very moment of its end was sent after
    // it: it waited for the room that the end made.
    let ordered = kind != Reliability::ReliableUnordered;
    let gap = |number, end| {
        ordered && delivered.range(number..).any(|(n, _)| sent.get(n).is_some_and(|posted| posted.at < end))
    };
    let excused = |number, at| ends.after(at).is_some_and(|end| !gap(number, end));
    let mut losses = missing.iter().map(|&(&number, posted)| (number, posted.at)).filter(|&(n, at)| !excused(n, at));
    let first_lost = losses.next();
    let lost = u64::from(first_lost.is_some()) + losses.count() as u64;
    let cut_short = missing.len() as u64 - lost;
    let superseded = superseded.len() as u64;
    Fate { delivered, lost, first_lost, cut_short, superseded, repeated, reordered, outside, foreign }
}

/// When sender and receiver ceased to share what the scope needs, as each of them processed it.
struct Ends {
    receiver: Vec<Instant>,
    sender: Vec<Instant>,
}

impl Ends {
    fn of(from: Host, to: Host, scope: Target, journals: &[Journal]) -> Self {
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
fn endings(entries: &[Entry], observer: Host, other: Host, scope: Target) -> Vec<Instant> {
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

/// The hosts in the order of their journals.
pub(super) fn hosts() -> impl Iterator<Item = Host> {
    std::iter::once(Host::Server).chain((0..).map(|i| Host::Client(ClientIndex(i))))
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::super::journal::Sent;
    use super::*;
    use posse_core::{EndReason, LeaveReason};

    const A: Host = Host::Client(ClientIndex(0));
    const B: Host = Host::Client(ClientIndex(1));
    const ROOM: GroupIndex = GroupIndex(0);
    const CHANNEL: Channel = Channel::reliable(0);

    /// `a` sends message `n` at `n` ms; both are in the room from the start.
    fn journals(count: u64, arrivals: &[(u64, u64)]) -> Vec<Journal> {
        let together = |who| {
            [0, 1].map(|i| Entry { at: Instant::ZERO, who: Some(who), what: What::MemberJoined(ROOM, ClientIndex(i)) })
        };
        let sent = |number| Sent {
            at: Instant::from_millis(number),
            to: Target::Group(ROOM),
            channel: CHANNEL,
            number,
            key: None,
            receivers: vec![B],
        };
        let a = Journal { entries: together(A).into(), sent: (0..count).map(sent).collect(), received: Vec::new() };
        let b = Journal {
            entries: together(B).into(),
            sent: Vec::new(),
            received: arrivals.iter().map(|&x| arrival(x)).collect(),
        };
        vec![Journal::default(), a, b]
    }

    fn arrival((number, at): (u64, u64)) -> Received {
        Received {
            at: Instant::from_millis(at),
            from: A,
            to: Target::Group(ROOM),
            channel: CHANNEL,
            number,
            sent_at: Instant::from_millis(number),
            direct: false,
            intact: true,
            inside: true,
        }
    }

    fn left(journal: &mut Journal, who: Host, member: usize, at: u64) {
        let what = What::MemberLeft(ROOM, ClientIndex(member), LeaveReason::Left);
        journal.entries.push(Entry { at: Instant::from_millis(at), who: Some(who), what });
    }

    fn only(journals: &[Journal]) -> Stream {
        let all = streams(journals);
        assert_eq!(all.len(), 1);
        all.into_iter().next().unwrap()
    }

    #[test]
    fn what_arrives_once_and_in_order_is_right() {
        let s = only(&journals(3, &[(0, 10), (1, 11), (2, 12)]));
        assert_eq!((s.sent, s.delivered, s.lost, s.repeated, s.reordered, s.foreign), (3, 3, 0, 0, 0, 0));
        assert_eq!(s.first, Some((Instant::ZERO, Duration::from_millis(10))));
    }

    #[test]
    fn a_missing_message_is_lost_and_a_late_one_reordered_and_a_second_copy_repeated() {
        let s = only(&journals(4, &[(0, 10), (2, 11), (1, 12), (2, 13)]));
        assert_eq!((s.lost, s.reordered, s.repeated), (1, 1, 1));
    }

    #[test]
    fn a_leave_excuses_the_tail_but_not_a_gap_before_it() {
        let mut j = journals(5, &[(0, 10), (2, 11)]);
        left(&mut j[2], B, 0, 20);
        let s = only(&j);
        assert_eq!((s.lost, s.cut_short), (1, 2));
    }

    #[test]
    fn a_leave_before_it_was_sent_excuses_nothing() {
        let mut j = journals(3, &[(0, 1)]);
        left(&mut j[2], B, 0, 0);
        let s = only(&j);
        assert_eq!((s.lost, s.cut_short), (2, 0));
    }

    #[test]
    fn what_comes_after_a_rejoin_makes_no_gap_of_what_the_leave_cut_short() {
        let mut j = journals(26, &[(0, 1), (25, 30)]);
        j[1].sent.retain(|sent| sent.number < 4 || sent.number == 25);
        left(&mut j[2], B, 1, 20);
        let s = only(&j);
        assert_eq!((s.lost, s.cut_short), (0, 3));
    }

    #[test]
    fn what_was_sent_after_the_receiver_left_and_before_the_sender_knew_is_cut_short() {
        let mut j = journals(6, &[(0, 1), (5, 31)]);
        left(&mut j[2], B, 1, 2);
        left(&mut j[1], A, 1, 4);
        left(&mut j[2], B, 1, 40);
        let s = only(&j);
        assert_eq!((s.lost, s.cut_short), (0, 4));
    }

    #[test]
    fn who_is_out_of_a_group_shares_it_with_nobody_when_back_in_until_told() {
        let entry = |at, what| Entry { at: Instant::from_millis(at), who: Some(A), what };
        let joined = |at, group, who| entry(at, What::MemberJoined(GroupIndex(group), ClientIndex(who)));
        let left = |at, group, who| entry(at, What::MemberLeft(GroupIndex(group), ClientIndex(who), LeaveReason::Left));
        let entries = [
            joined(1, 0, 0),
            joined(1, 0, 1),
            left(2, 0, 0),
            joined(3, 0, 0),
            joined(3, 1, 0),
            joined(3, 1, 1),
            left(4, 1, 1),
        ];
        let ends = endings(&entries, A, B, Target::Host(B));
        assert_eq!(ends, [2, 4].map(Instant::from_millis));
    }

    #[test]
    fn the_end_of_a_session_excuses_like_a_leave() {
        let mut j = journals(3, &[(0, 1)]);
        j[2].entries.push(Entry { at: Instant::from_millis(9), who: Some(B), what: What::Ended(EndReason::TimedOut) });
        assert_eq!(only(&j).cut_short, 2);
    }

    #[test]
    fn a_message_that_nobody_sent_is_foreign() {
        let mut j = journals(1, &[(0, 1), (7, 2)]);
        j[2].received.push(Received { intact: false, ..arrival((0, 3)) });
        let s = only(&j);
        assert_eq!((s.foreign, s.delivered, s.repeated), (2, 1, 0));
    }

    #[test]
    fn changes_between_direct_and_relayed_are_switches_and_new_reasons_are_not() {
        use posse_core::RelayReason::{HoleClosed, Probing};
        let direct = Path::Direct { rtt: Duration::from_millis(1) };
        let relayed = |because| Path::Relayed { because };
        let paths = [relayed(Probing), direct, relayed(HoleClosed), relayed(Probing), direct];
        let entry = |(i, path): (usize, &Path)| Entry {
            at: Instant::from_millis(i as u64),
            who: Some(A),
            what: What::Path(ClientIndex(1), *path),
        };
        let entries: Vec<_> = paths.iter().enumerate().map(entry).collect();
        let story = path_story(&entries, ClientIndex(1));
        assert_eq!((story.switches, story.first_direct), (3, Some(Instant::from_millis(1))));
    }

    #[test]
    fn two_are_together_from_the_step_that_puts_the_second_into_the_group() {
        let [a, b, c] = [0, 1, 2].map(ClientIndex);
        let entry = |at, what| Entry { at: Instant::from_millis(at), who: Some(Host::Server), what };
        let entries = [
            entry(1, What::Created(ROOM, vec![a, b])),
            entry(2, What::Leaving(ROOM, a)),
            entry(3, What::Joining(ROOM, c)),
            entry(4, What::Joining(ROOM, a)),
        ];
        let at = |x, y| put_together(&entries)[&(x, y)];
        assert_eq!([at(a, b), at(b, c), at(a, c)], [1, 3, 4].map(Instant::from_millis));
    }
}
