//! A run for programs: one JSON object a line. `docs/json.md` describes version 1; whoever changes a field's meaning
//! raises [`VERSION`], a new field does not.

use super::words;
use posse_core::{Duration, Instant, Path, PeerReport, Searches};
use posse_sim::scenario::accounts::{Pair, PathStory, Stream};
use posse_sim::scenario::journal::{Entry, What};
use posse_sim::scenario::run::Outcome;
use posse_sim::scenario::{ClientIndex, GroupIndex, Host, Scenario, Target, judge};
use serde::Serialize;
use std::io::{self, Write};

const VERSION: u32 = 1;

/// Writes the whole report.
pub(crate) fn write(scenario: &Scenario, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let run = Line::Run { title: &scenario.title, seed: outcome.seed, duration_ns: nanos(scenario.duration) };
    line(out, &run)?;
    let names = Names(scenario);
    for entry in &outcome.timeline {
        line(out, &Line::Event(names.event(entry)))?;
    }
    for stream in &outcome.streams {
        line(out, &Line::Messages(names.messages(stream)))?;
    }
    for pair in &outcome.pairs {
        line(out, &Line::Pair(names.pair(pair, outcome)))?;
    }
    for v in &outcome.verdicts {
        let (expected, found) = (&v.expected, &v.found);
        line(out, &Line::Expectation { held: v.held, expected, found, line: (v.line > 0).then_some(v.line) })?;
    }
    let end = Line::End {
        held: outcome.held(),
        at_ns: outcome.ended.0,
        digest: format!("{:032x}", outcome.digest),
        packets_sent: outcome.packets.sent,
        packets_delivered: outcome.packets.delivered,
        packets_dropped: outcome.packets.dropped_total(),
        undone: outcome.undone.iter().chain(&outcome.unbegun).map(String::as_str).collect(),
        violations: &outcome.violations,
        stuck: outcome.stuck.as_ref().map(ToString::to_string),
    };
    line(out, &end)
}

/// One line.
pub(super) fn line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    #[derive(Serialize)]
    struct Versioned<'a, L> {
        v: u32,
        #[serde(flatten)]
        line: &'a L,
    }
    serde_json::to_writer(&mut *out, &Versioned { v: VERSION, line })?;
    writeln!(out)
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Run {
        title: &'a str,
        seed: u64,
        duration_ns: u64,
    },
    Event(Event<'a>),
    Messages(Messages<'a>),
    Pair(PairLine<'a>),
    Expectation {
        held: bool,
        expected: &'a str,
        found: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<usize>,
    },
    End {
        held: bool,
        at_ns: u64,
        digest: String,
        packets_sent: u64,
        packets_delivered: u64,
        packets_dropped: u64,
        undone: Vec<&'a str>,
        violations: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        stuck: Option<String>,
    },
}

/// A line of the timeline. Which of the optional fields are there follows from `event`.
#[derive(Serialize, Default)]
struct Event<'a> {
    at_ns: u64,
    who: &'a str,
    event: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direct: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Serialize)]
struct Messages<'a> {
    from: &'a str,
    to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    channel: u8,
    reliable: bool,
    ordered: bool,
    sent: u64,
    delivered: u64,
    lost: u64,
    repeated: u64,
    reordered: u64,
    cut_short: u64,
    superseded: u64,
    outside: u64,
    foreign: u64,
    direct: u64,
    median_by_relay_ns: Option<u64>,
    median_direct_ns: Option<u64>,
    slowest_ns: Option<u64>,
}

#[derive(Serialize)]
struct PairLine<'a> {
    a: &'a str,
    b: &'a str,
    together_at_ns: u64,
    direct_after_ns: Option<u64>,
    direct_bound_ns: u64,
    first_message_a_to_b: Option<First>,
    first_message_b_to_a: Option<First>,
    relay_round_trip_ns: Option<u64>,
    direct_round_trip_ns: Option<u64>,
    a_says: Says,
    b_says: Says,
}

#[derive(Serialize)]
struct First {
    after_ns: u64,
    bound_ns: u64,
}

/// One end's last word on a path.
#[derive(Serialize)]
pub(super) struct Says {
    direct: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'static str>,
    switches: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tried: Option<Tried>,
}

/// What one end did for a direct path.
#[derive(Serialize)]
struct Tried {
    #[serde(skip_serializing_if = "Option::is_none")]
    time_to_direct_ns: Option<u64>,
    rounds: u32,
    holes: u32,
    challenges: u64,
    responses: u64,
    candidates: u32,
    measured: u32,
    predicted: u32,
    scattered: u32,
    swept: u32,
    opened: u32,
}

impl From<PeerReport> for Tried {
    fn from(report: PeerReport) -> Self {
        let PeerReport { time_to_direct, rounds, holes, searches, challenges, responses, candidates, .. } = report;
        let Searches { measured, predicted, scattered, swept, opened } = searches;
        let time_to_direct_ns = time_to_direct.map(nanos);
        Self {
            time_to_direct_ns,
            rounds,
            holes,
            challenges,
            responses,
            candidates,
            measured,
            predicted,
            scattered,
            swept,
            opened,
        }
    }
}

impl From<&PathStory> for Says {
    fn from(story: &PathStory) -> Self {
        let (direct, _, because) = parts(story.last);
        let tried = story.report.map(Tried::from);
        Self { direct, rtt_ns: story.rtt.map(nanos), because, switches: story.switches, tried }
    }
}

fn parts(path: Option<Path>) -> (bool, Option<u64>, Option<&'static str>) {
    match path {
        Some(Path::Direct { rtt }) => (true, Some(nanos(rtt)), None),
        Some(Path::Relayed { because }) => (false, None, Some(judge::reason(because))),
        _ => (false, None, None),
    }
}

struct Names<'a>(&'a Scenario);

impl<'a> Names<'a> {
    fn client(&self, client: ClientIndex) -> Option<&'a str> {
        Some(self.0.host_name(Host::Client(client)))
    }

    fn group(&self, group: GroupIndex) -> Option<&'a str> {
        Some(self.0.target_name(Target::Group(group)))
    }

    fn event(&self, entry: &Entry) -> Event<'a> {
        let base = Event {
            at_ns: entry.at.0,
            who: entry.who.map_or("network", |who| self.0.host_name(who)),
            text: words::sentence(self.0, entry.who, &entry.what),
            ..Event::default()
        };
        let of =
            |event, group, client| Event { event, group: self.group(group), client: self.client(client), ..base_of() };
        fn base_of<'a>() -> Event<'a> {
            Event::default()
        }
        let special = match &entry.what {
            What::Accepted(client) => Event { event: "accepted", client: self.client(*client), ..base_of() },
            What::LoggedIn => Event { event: "logged-in", ..base_of() },
            What::LoginFailed(why) => {
                Event { event: "login-failed", why: Some(words::login_failure(why)), ..base_of() }
            }
            What::Ended(why) => Event { event: "ended", why: Some(words::end(*why).into()), ..base_of() },
            What::ClientLeft(client, why) => {
                let why = Some(words::end(*why).into());
                Event { event: "client-left", client: self.client(*client), why, ..base_of() }
            }
            What::Created(group, members) => {
                let members = Some(members.iter().filter_map(|c| self.client(*c)).collect());
                Event { event: "create-group", group: self.group(*group), members, ..base_of() }
            }
            What::Joining(group, client) => of("join", *group, *client),
            What::Leaving(group, client) => of("leave", *group, *client),
            What::Destroying(group) => Event { event: "destroy-group", group: self.group(*group), ..base_of() },
            What::LoggingOut(client) => Event { event: "log-out", client: self.client(*client), ..base_of() },
            What::JoinCompleted(group, client, outcome) => {
                Event { why: Some(words::join(*outcome).into()), ..of("join-completed", *group, *client) }
            }
            What::GroupEnded(group) => Event { event: "group-ended", group: self.group(*group), ..base_of() },
            What::MemberJoined(group, client) => of("member-joined", *group, *client),
            What::MemberLeft(group, client, why) => {
                Event { why: Some(words::leave(*why).into()), ..of("member-left", *group, *client) }
            }
            What::Presence { of, offline } => {
                let event = if *offline { "offline" } else { "online" };
                Event { event, peer: Some(self.0.host_name(*of)), ..base_of() }
            }
            What::Path(peer, path) => Event { event: "path", peer: self.client(*peer), ..with_path(*path) },
            What::PathReported(a, b, path) => {
                Event { event: "path-reported", client: self.client(*a), peer: self.client(*b), ..with_path(*path) }
            }
            What::FirstMessage { from, to, direct, took } => Event {
                event: "first-message",
                from: Some(self.0.host_name(*from)),
                group: group_of(*to).and_then(|group| self.group(group)),
                direct: Some(*direct),
                took_ns: Some(nanos(*took)),
                ..base_of()
            },
            What::Leg(_, why) => Event { event: "leg", why: Some(words::leg_reason(*why).into()), ..base_of() },
            What::LegSeen(client, _) => Event { event: "leg-seen", client: self.client(*client), ..base_of() },
            What::Refused(why) => Event { event: "refused", why: Some(why.clone()), ..base_of() },
            What::Restarted => Event { event: "restarted", ..base_of() },
            What::Network(_) => Event { event: "network", ..base_of() },
        };
        Event { at_ns: base.at_ns, who: base.who, text: base.text, ..special }
    }

    fn messages(&self, s: &Stream) -> Messages<'a> {
        Messages {
            from: self.0.host_name(s.from),
            to: self.0.host_name(s.to),
            group: group_of(s.scope).and_then(|group| self.group(group)),
            channel: s.channel.0,
            reliable: s.reliable(),
            ordered: s.ordered(),
            sent: s.sent,
            delivered: s.delivered,
            lost: s.lost,
            repeated: s.repeated,
            reordered: s.reordered,
            cut_short: s.cut_short,
            superseded: s.superseded,
            outside: s.outside,
            foreign: s.foreign,
            direct: s.direct,
            median_by_relay_ns: s.by_relay.map(nanos),
            median_direct_ns: s.directly.map(nanos),
            slowest_ns: s.slowest.map(nanos),
        }
    }

    fn pair(&self, pair: &Pair, outcome: &Outcome) -> PairLine<'a> {
        let (a, b) = (Host::Client(pair.a), Host::Client(pair.b));
        let first = |from, to| {
            let (since, bound) = outcome.first_message_bound(self.0, from, to)?;
            let after = outcome.first_message(from, to)?.since(since);
            Some(First { after_ns: nanos(after), bound_ns: nanos(bound) })
        };
        PairLine {
            a: self.0.host_name(a),
            b: self.0.host_name(b),
            together_at_ns: pair.together.0,
            direct_after_ns: pair.both_direct().map(|at: Instant| nanos(at.since(pair.together))),
            direct_bound_ns: nanos(self.0.direct_bound(pair.a, pair.b)),
            first_message_a_to_b: first(a, b),
            first_message_b_to_a: first(b, a),
            relay_round_trip_ns: pair.relay_round_trip.map(nanos),
            direct_round_trip_ns: pair.direct_round_trip.map(nanos),
            a_says: (&pair.from_a).into(),
            b_says: (&pair.from_b).into(),
        }
    }
}

fn with_path<'a>(path: Path) -> Event<'a> {
    let (direct, rtt_ns, because) = parts(Some(path));
    Event { direct: Some(direct), rtt_ns, why: because.map(str::to_owned), ..Event::default() }
}

fn group_of(target: Target) -> Option<GroupIndex> {
    if let Target::Group(group) = target { Some(group) } else { None }
}

pub(super) fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
