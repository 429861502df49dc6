//! Expectations against what came of a run, in plain words.

use super::accounts::{Pair, PathStory, Stream};
use super::journal::What;
use super::run::Outcome;
use super::units::written;
use super::words::end;
use super::{ClientIndex, Expect, GroupIndex, Host, Pairs, Scenario};
use posse_core::{Duration, EndReason, Instant, JoinOutcome, Path, RelayReason};

/// An expectation and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Its line in the file; 0 if it was built in code.
    pub line: usize,
    /// Of which kind it is, as files name it; of `delivery`, which of the ways in which it does not hold comes first.
    pub that: &'static str,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// Whether that is it.
    pub held: bool,
}

/// Judges every expectation of a scenario.
pub(super) fn verdicts(scenario: &Scenario, outcome: &Outcome) -> Vec<Verdict> {
    let judge = Judge { scenario, outcome };
    let mut verdicts = Vec::new();
    for expectation in &scenario.expectations {
        let line = expectation.line;
        let that = super::parse::claim(&expectation.expect);
        let of_kind = |v: Verdict| Verdict { line, that: if v.that.is_empty() { that } else { v.that }, ..v };
        verdicts.extend(judge.verdicts(&expectation.expect).into_iter().map(of_kind));
    }
    verdicts
}

/// How a reason is written in files, timelines and JSON.
pub fn reason(because: RelayReason) -> &'static str {
    match because {
        RelayReason::Probing => "probing",
        RelayReason::NoAnswer => "no-answer",
        RelayReason::OnlyOutbound => "only-outbound",
        RelayReason::OnlyInbound => "only-inbound",
        RelayReason::Unpredictable => "unpredictable",
        RelayReason::BudgetSpent => "budget-spent",
        RelayReason::NoSockets => "no-sockets",
        RelayReason::HoleClosed => "hole-closed",
        RelayReason::Forbidden => "forbidden",
        RelayReason::NoTraffic => "no-traffic",
        RelayReason::RelayFaster => "relay-faster",
        RelayReason::Crowded => "crowded",
        _ => "other",
    }
}

/// What the other end of a pair says when this one says `because`.
pub fn mirror(because: RelayReason) -> RelayReason {
    match because {
        RelayReason::OnlyOutbound => RelayReason::OnlyInbound,
        RelayReason::OnlyInbound => RelayReason::OnlyOutbound,
        // It is told not to look for a direct path, and not why.
        RelayReason::Crowded => RelayReason::Forbidden,
        other => other,
    }
}

struct Judge<'a> {
    scenario: &'a Scenario,
    outcome: &'a Outcome,
}

impl Judge<'_> {
    fn verdicts(&self, expect: &Expect) -> Vec<Verdict> {
        match expect {
            Expect::Direct { pairs, by, within, rtt_at_most } => {
                self.each(*pairs, |p| self.direct(p, *by, *within, *rtt_at_most), "direct")
            }
            Expect::Relayed { pairs, because } => self.each(*pairs, |p| self.relayed(p, *because), "relayed"),
            Expect::Delivery { lost, repeated, reordered, at_least } => {
                vec![self.delivery([*lost, *repeated, *reordered], *at_least)]
            }
            Expect::FirstMessage { from, to, by, within } => vec![self.first_message(*from, *to, *by, *within)],
            Expect::Switches { pair: (a, b), at_least } => {
                let found = self.pair(*a, *b).map(|p| self.story(p, *a).switches);
                let expected = format!("{}: at least {at_least} switches of path", self.both(*a, *b));
                let held = found.is_some_and(|n| n >= *at_least);
                vec![verdict(expected, found.map_or("never together".to_owned(), |n| n.to_string()), held)]
            }
            Expect::Members { group, members } => vec![self.members(*group, members)],
            Expect::Joins { ok } => vec![self.joins(*ok)],
            Expect::Delay { from, at_most } => vec![self.delay(*from, *at_most)],
            Expect::SessionEnds { client, because, by } => vec![self.session_ends(*client, *because, *by)],
        }
    }

    /// The verdict over each of the pairs; if there is none where one is meant, that is the verdict.
    fn each(&self, pairs: Pairs, judge: impl Fn(&Pair) -> Verdict, what: &str) -> Vec<Verdict> {
        let named = match pairs {
            Pairs::All => return self.outcome.pairs.iter().map(judge).collect(),
            Pairs::One(a, b) => self.pair(a, b).map(|p| judge(&Pair { a, b, ..turned(p, a) })),
        };
        let Pairs::One(a, b) = pairs else { return Vec::new() };
        vec![
            named.unwrap_or_else(|| verdict(format!("{} {what}", self.both(a, b)), "never together".to_owned(), false)),
        ]
    }

    fn direct(&self, p: &Pair, by: Option<Duration>, within: Option<f64>, rtt_at_most: Option<Duration>) -> Verdict {
        let bound = self.scenario.direct_bound(p.a, p.b);
        let mut expected = format!("{} direct", self.both(p.a, p.b));
        let mut held = true;
        let both = p.both_direct();
        let mut found = match both {
            None => "never".to_owned(),
            Some(at) => format!("after {} ({})", written(at.since(p.together)), times(at.since(p.together), bound)),
        };
        if let Some(by) = by {
            expected += &format!(" by {}", written(by));
            held &= both.is_some_and(|at| at <= Instant::ZERO + by);
        }
        if let Some(within) = within {
            expected += &format!(" within {within} × {}", written(bound));
            held &= both.is_some_and(|at| is_within(at.since(p.together), within, bound));
        }
        if let Some(most) = rtt_at_most {
            expected += &format!(", round trip at most {}", written(most));
        }
        for (name, story) in [(self.name(p.a), &p.from_a), (self.name(p.b), &p.from_b)] {
            match story.last {
                Some(Path::Direct { .. }) => {
                    found += &format!("; {name} measures {}", story.rtt.map_or("nothing".to_owned(), written));
                    held &= rtt_at_most.is_none_or(|most| story.rtt.is_some_and(|rtt| rtt <= most));
                }
                last => {
                    found += &format!("; {name} says {}", path(last));
                    held = false;
                }
            }
        }
        verdict(expected, found, held)
    }

    fn relayed(&self, p: &Pair, because: Option<RelayReason>) -> Verdict {
        let expected = match because {
            Some(because) => {
                format!("{} relayed, as {} sees it {}", self.both(p.a, p.b), self.name(p.a), reason(because))
            }
            None => format!("{} relayed", self.both(p.a, p.b)),
        };
        let matches = |story: &PathStory, wanted: Option<RelayReason>| match story.last {
            Some(Path::Relayed { because }) => {
                story.first_direct.is_none() && wanted.is_none_or(|wanted| wanted == because)
            }
            _ => false,
        };
        let held = matches(&p.from_a, because) && matches(&p.from_b, because.map(mirror));
        let (a, b) = (path(p.from_a.last), path(p.from_b.last));
        verdict(expected, format!("{} says {a}; {} says {b}", self.name(p.a), self.name(p.b)), held)
    }

    fn delivery(&self, at_most: [u64; 3], at_least: u64) -> Verdict {
        let reliable = || self.outcome.streams.iter().filter(|s| s.reliable());
        let sum = |count: fn(&Stream) -> u64| reliable().map(count).sum::<u64>();
        let overtaken = |s: &Stream| if s.ordered() { s.reordered } else { 0 };
        let (sent, wrong) = (sum(|s| s.sent), [sum(|s| s.lost), sum(|s| s.repeated), sum(overtaken)]);
        let strange = self.outcome.streams.iter().map(|s| s.outside + s.foreign).sum::<u64>();
        let [lost, repeated, reordered] =
            at_most.map(|most| if most == u64::MAX { "any number".to_owned() } else { most.to_string() });
        let expected = format!("at least {at_least} messages: {lost} lost, {repeated} repeated, {reordered} reordered");
        let held = sent >= at_least && strange == 0 && wrong.iter().zip(at_most).all(|(n, most)| *n <= most);
        let over = wrong.iter().zip(at_most).position(|(n, most)| *n > most);
        let that = match over.and_then(|i| ["lost", "repeated", "reordered"].get(i)) {
            _ if strange > 0 => "unharmed and in place",
            Some(harm) => harm,
            None => "",
        };
        let [lost, repeated, reordered] = wrong;
        let mut found = format!("{sent} messages: {lost} lost, {repeated} repeated, {reordered} reordered");
        if strange > 0 {
            found += &format!(", {strange} damaged or out of place");
        }
        Verdict { that, ..verdict(expected, found, held) }
    }

    fn first_message(&self, from: Host, to: Host, by: Option<Duration>, within: Option<f64>) -> Verdict {
        let bound = self.first_bound(from, to);
        let way = format!("{} → {}: first message", self.scenario.host_name(from), self.scenario.host_name(to));
        let first = self.outcome.first_message(from, to);
        let mut expected = way;
        let mut held = first.is_some();
        let mut found = match (first, bound) {
            (None, _) => "never arrived".to_owned(),
            (Some(at), Some((since, bound))) => {
                format!("after {} ({})", written(at.since(since)), times(at.since(since), bound))
            }
            (Some(at), None) => format!("at {}", written(at.since(Instant::ZERO))),
        };
        if let Some(by) = by {
            expected += &format!(" by {}", written(by));
            held &= first.is_some_and(|at| at <= Instant::ZERO + by);
        }
        if let Some(within) = within {
            match (first, bound) {
                (Some(at), Some((since, bound))) => {
                    expected += &format!(" within {within} × {}", written(bound));
                    held &= is_within(at.since(since), within, bound);
                }
                _ => {
                    found += ", and no bound, as they were never put into one group";
                    held = false;
                }
            }
        }
        verdict(expected, found, held)
    }

    fn members(&self, group: GroupIndex, members: &[ClientIndex]) -> Verdict {
        let name = self.scenario.target_name(super::Target::Group(group));
        let list = |all: &[ClientIndex]| all.iter().map(|c| self.name(*c)).collect::<Vec<_>>().join(", ");
        let expected = format!("members of {name} at the end: {}", list(members));
        for (i, seen) in self.outcome.members.iter().enumerate() {
            let me = ClientIndex(i);
            let view = seen.get(group.0).and_then(Option::as_ref);
            let wanted =
                members.contains(&me).then(|| members.iter().copied().filter(|c| *c != me).collect::<Vec<_>>());
            let sorted = |mut all: Vec<ClientIndex>| {
                all.sort_unstable();
                all
            };
            if view.cloned().map(sorted) != wanted.map(sorted) {
                let sees = view.map_or("is no member".to_owned(), |all| format!("sees [{}]", list(all)));
                return verdict(expected, format!("{} {sees}", self.name(me)), false);
            }
        }
        verdict(expected, "all see just these".to_owned(), true)
    }

    fn joins(&self, ok: u64) -> Verdict {
        let entries = || self.outcome.timeline.iter();
        let asked: usize = entries()
            .map(|e| match &e.what {
                What::Created(_, members) => members.len(),
                What::Joining(..) => 1,
                _ => 0,
            })
            .sum();
        let completed = entries().filter(|e| matches!(e.what, What::JoinCompleted(..))).count();
        let right = entries().filter(|e| matches!(e.what, What::JoinCompleted(_, _, JoinOutcome::Ok))).count() as u64;
        let expected = format!("every join completes once, at least {ok} of them well");
        verdict(
            expected,
            format!("{asked} joins, {completed} completed, {right} of them well"),
            asked == completed && right >= ok,
        )
    }

    fn delay(&self, from: Host, at_most: Duration) -> Verdict {
        let theirs = self.outcome.streams.iter().filter(|s| s.from == from && s.reliable());
        let slowest = theirs.filter_map(|s| s.slowest).max();
        let expected = format!("messages of {} arrive within {}", self.scenario.host_name(from), written(at_most));
        let found = slowest.map_or("none arrived".to_owned(), |d| format!("the slowest took {}", written(d)));
        verdict(expected, found, slowest.is_some_and(|d| d <= at_most))
    }

    fn session_ends(&self, client: ClientIndex, because: EndReason, by: Option<Duration>) -> Verdict {
        let ends = |what: &What| if let What::Ended(why) = what { Some(*why) } else { None };
        let theirs = self.outcome.timeline.iter().filter(|entry| entry.who == Some(Host::Client(client)));
        let first = theirs.filter_map(|entry| ends(&entry.what).map(|why| (entry.at, why))).next();
        let mut expected = format!("session of {} ends: {}", self.name(client), end(because));
        if let Some(by) = by {
            expected += &format!(", by {}", written(by));
        }
        let found = first
            .map_or("never".to_owned(), |(at, why)| format!("at {}: {}", written(at.since(Instant::ZERO)), end(why)));
        let in_time = |at: Instant| by.is_none_or(|by| at <= Instant::ZERO + by);
        verdict(expected, found, first.is_some_and(|(at, why)| why == because && in_time(at)))
    }

    fn first_bound(&self, from: Host, to: Host) -> Option<(Instant, Duration)> {
        self.outcome.first_message_bound(self.scenario, from, to)
    }

    fn pair(&self, a: ClientIndex, b: ClientIndex) -> Option<&Pair> {
        self.outcome.pairs.iter().find(|p| (p.a, p.b) == (a.min(b), a.max(b)))
    }

    fn story<'p>(&self, p: &'p Pair, of: ClientIndex) -> &'p PathStory {
        if p.a == of { &p.from_a } else { &p.from_b }
    }

    fn name(&self, client: ClientIndex) -> &str {
        self.scenario.host_name(Host::Client(client))
    }

    fn both(&self, a: ClientIndex, b: ClientIndex) -> String {
        format!("{} ↔ {}", self.name(a), self.name(b))
    }
}

impl Outcome {
    /// When the first message of `from` to `to`, in whatever scope, arrived.
    pub fn first_message(&self, from: Host, to: Host) -> Option<Instant> {
        let streams = self.streams.iter().filter(|s| s.from == from && s.to == to);
        streams.filter_map(|s| s.first.map(|(sent, took)| sent + took)).min()
    }

    /// From when the first message of `from` to `to` counts, and its bound: from the forming of their first group, or
    /// from its sending if that was after the sender could know of the group. `None` if it has no such bound.
    pub fn first_message_bound(&self, scenario: &Scenario, from: Host, to: Host) -> Option<(Instant, Duration)> {
        let (Host::Client(a), Host::Client(b)) = (from, to) else { return None };
        let pair = self.pairs.iter().find(|p| (p.a, p.b) == (a.min(b), a.max(b)))?;
        let streams = self.streams.iter().filter(|s| s.from == from && s.to == to);
        let sent = streams.filter_map(|s| s.first.map(|(sent, _)| sent)).min()?;
        let formed = scenario.first_message_bound(from, to);
        // The application's own schedule is not the protocol's delay: a step that sends later counts from there.
        let scheduled = scenario.steps.iter().filter_map(|step| match &step.action {
            super::Action::Send(sending) if sending.from == from => Some(Instant::ZERO + step.at),
            _ => None,
        });
        let scheduled = scheduled.min()?;
        if scheduled > pair.together + scenario.one_way(Host::Server, from) {
            return Some((scheduled.min(sent), scenario.by_server(from, to)));
        }
        Some((pair.together, formed))
    }
}

fn verdict(expected: String, found: String, held: bool) -> Verdict {
    Verdict { line: 0, that: "", expected, found, held }
}

/// The same pair told from `first`'s side.
fn turned(p: &Pair, first: ClientIndex) -> Pair {
    if p.a == first { p.clone() } else { Pair { a: p.b, b: p.a, from_a: p.from_b, from_b: p.from_a, ..p.clone() } }
}

/// How a path is written.
pub fn path(path: Option<Path>) -> String {
    match path {
        Some(Path::Direct { rtt }) => format!("direct, {}", written(rtt)),
        Some(Path::Relayed { because }) => format!("relayed, {}", reason(because)),
        _ => "nothing".to_owned(),
    }
}

/// How often `bound` goes into `took`, with two digits.
pub fn times(took: Duration, bound: Duration) -> String {
    let Some(hundredths) = (took.as_nanos() * 100).checked_div(bound.as_nanos()) else { return "no bound".to_owned() };
    format!("{}.{:02} × bound", hundredths / 100, hundredths % 100)
}

fn is_within(took: Duration, times: f64, bound: Duration) -> bool {
    took.as_secs_f64() <= times * bound.as_secs_f64()
}
