//! Whether a hole stays open for a day, behind NATs of every kind of timer: two homes, a message now and then, and nothing else.

use super::Failure;
use super::json::{self, nanos};
use super::progress::Progress;
use super::words::{ms, table};
use clap::Args;
use posse_core::{Channel, Duration, Instant, Path, PathPolicy, SendOptions};
use posse_sim::scenario::journal::{Entry, What};
use posse_sim::scenario::run::Run;
use posse_sim::scenario::{
    Action, ClientIndex, ClientSpec, GroupIndex, Host, NatIndex, NatSpec, Network, Scenario, Sending, ServerDoors,
    Step, Target, Tried,
};
use posse_sim::{Event, Families, Link, Nat, Observer};
use serde::Serialize;
use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;

/// From a home to the internet, and from the server.
const HOME: Link = Link::millis(10);
const SERVER: Link = Link::millis(40);
/// When the group is formed.
const FORMED: Duration = Duration::from_secs(1);
/// Each of the two sends the other something so often: prime seconds, so that it falls into every part of a NAT's and a keepalive's time.
const EVERY: [Duration; 2] = [Duration::from_secs(37), Duration::from_secs(41)];
/// The share of time in which a pair is to be direct, in percent, and what a hole that closes may cost, in probe timeouts.
const DIRECT: f64 = 99.9;
const TIMEOUTS: u32 = 3;
/// Probe timeouts in a row are as long as the first each: none of the three is known to be the path's end.
const PTO: Duration = Duration::from_millis(66);

/// What `hold` is asked for.
#[derive(Args)]
pub(super) struct Plan {
    /// How long, in simulated hours
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=240))]
    hours: u64,
    /// Only NATs with this timer, such as absolute
    #[arg(long)]
    only: Option<String>,
    /// What is random follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

/// How mappings die.
struct Timer {
    name: &'static str,
    what: &'static str,
    nat: fn() -> Nat,
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What was measured of real NATs (docs/nat-traversal.md), and one that is shorter than the usual keepalive.
const TIMERS: [Timer; 8] = [
    Timer { name: "rfc", what: "120 s idle (RFC 4787)", nat: || Nat::home() },
    Timer { name: "minute", what: "65 s idle (cellular median)", nat: || Nat::home().lifetime(s(65)) },
    Timer { name: "half", what: "30 s idle", nat: || Nat::home().lifetime(s(30)) },
    Timer { name: "linux", what: "30 s unreplied, 120 s replied", nat: || Nat::home().unreplied(s(30)) },
    Timer {
        name: "carrier",
        what: "15 s unreplied, 300 s replied",
        nat: || Nat::home().unreplied(s(15)).lifetime(s(300)),
    },
    Timer { name: "filter", what: "20 s a remote endpoint", nat: || Nat::home().filter_lifetime(s(20)) },
    Timer { name: "short", what: "4 s idle", nat: || Nat::home().lifetime(s(4)) },
    Timer { name: "absolute", what: "48 to 75 s whatever passes", nat: || Nat::home().absolute(s(48)..=s(75)) },
];

/// What one timer came to.
struct Held {
    sent: u64,
    lost: u64,
    wrong: u64,
    /// How much longer than the way straight to the peer messages took, at most.
    slowest: Duration,
    late: u64,
    /// Of the time since the pair was first direct, percent in which both said so.
    direct: f64,
    holes: u64,
    /// Datagrams that the busier client sent, a minute.
    datagrams: f64,
}

impl Held {
    fn keeps(&self) -> bool {
        self.lost == 0 && self.wrong == 0 && self.direct >= DIRECT
    }
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    timer: &'static str,
    hours: u64,
    held: bool,
    sent: u64,
    lost: u64,
    repeated_or_reordered: u64,
    direct_percent: f64,
    holes: u64,
    slowest_extra_ns: u64,
    later_than_bound: u64,
    bound_ns: u64,
    datagrams_a_minute: f64,
}

/// Measures each timer. Whether nothing was lost and pairs stayed direct.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let timers: Vec<_> = TIMERS.iter().filter(|t| plan.only.as_ref().is_none_or(|only| only == t.name)).collect();
    if timers.is_empty() {
        let names: Vec<_> = TIMERS.iter().map(|timer| timer.name).collect();
        return Err(Failure::Setup(format!("there is no such timer; there are {}", names.join(", "))));
    }
    let heads =
        ["mappings live", "messages", "lost", "direct", "holes", "latest by ms", "beyond bound", "datagrams/min"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    let (mut held, mut progress) = (true, Progress::new("held"));
    for timer in timers {
        let found = hold(plan, timer)?;
        held &= found.keeps();
        progress.tell(|| timer.what.to_owned());
        if plan.json {
            json::line(out, &line(plan, timer, &found))?;
        } else {
            let mark = if found.keeps() { "" } else { " !" };
            rows.push(vec![
                format!("{}{mark}", timer.what),
                found.sent.to_string(),
                (found.lost + found.wrong).to_string(),
                format!("{:.3} %", found.direct),
                found.holes.to_string(),
                ms(found.slowest),
                found.late.to_string(),
                format!("{:.1}", found.datagrams),
            ]);
        }
    }
    if !plan.json {
        writeln!(
            out,
            "{} simulated hours, both ends behind a NAT of that timer, a message every 40 s. Latest: beyond",
            plan.hours
        )?;
        writeln!(
            out,
            "the way straight to the peer; bound: {} ms, the way by the relay and {TIMEOUTS} probe timeouts.\n",
            ms(bound())
        )?;
        writeln!(out, "{}", table(1, &rows))?;
    }
    Ok(held)
}

/// What a message may be later by than straight to the peer: by the relay, after some timeouts.
fn bound() -> Duration {
    SERVER.up.delay * 2 + PTO * TIMEOUTS
}

fn scenario(plan: &Plan, timer: &Timer) -> Scenario {
    let nat = |name: &str| NatSpec { name: name.to_owned(), behind: Network::Internet, nat: (timer.nat)(), link: HOME };
    let client = |name: &str, home| ClientSpec {
        name: name.to_owned(),
        on: Network::Behind(NatIndex(home)),
        link: Link::PERFECT,
        addresses: Families::Both,
        start: Duration::ZERO,
        policy: PathPolicy::default(),
        direct_peers: None,
        retain: None,
    };
    let duration = Duration::from_secs(plan.hours * 3_600);
    let members = vec![ClientIndex(0), ClientIndex(1)];
    let create = Action::CreateGroup { group: GroupIndex(0), members, message: String::new() };
    let send = |n: usize, every: Duration| Step {
        at: FORMED,
        every,
        times: u32::try_from((duration.as_secs().saturating_sub(10)) / every.as_secs()).unwrap_or(u32::MAX),
        action: Action::Send(Sending {
            from: Host::Client(ClientIndex(n)),
            to: Target::Group(GroupIndex(0)),
            channel: Channel::reliable(0),
            size: 64,
            options: SendOptions::default(),
        }),
    };
    let create = Step { at: FORMED, every: Duration::ZERO, times: 1, action: create };
    Scenario {
        title: timer.what.to_owned(),
        seed: plan.seed,
        duration,
        nats: vec![nat("home-a"), nat("home-b")],
        server: SERVER,
        doors: ServerDoors::None,
        techniques: Tried::Plain,
        probes: Scenario::PROBES,
        cookies: false,
        policy: PathPolicy::default(),
        ipv6: false,
        clients: vec![client("a", 0), client("b", 1)],
        groups: vec!["pair".to_owned()],
        steps: vec![create, send(0, EVERY[0]), send(1, EVERY[1])],
        packets: Vec::new(),
        expectations: Vec::new(),
    }
}

/// Datagrams by host.
#[derive(Default)]
struct Sent(std::collections::BTreeMap<usize, u64>);

impl Observer for Sent {
    fn event(&mut self, _: Instant, event: &Event<'_>) {
        if let Event::Sent { host, .. } = event {
            *self.0.entry(*host).or_insert(0) += 1;
        }
    }
}

fn hold(plan: &Plan, timer: &Timer) -> Result<Held, Failure> {
    let scenario = scenario(plan, timer);
    let sent = Rc::new(RefCell::new(Sent::default()));
    let observers: Vec<Box<dyn Observer>> = vec![Box::new(Rc::clone(&sent))];
    let mut run = Run::observed(&scenario, plan.seed, observers).map_err(|e| Failure::Setup(e.to_string()))?;
    run.advance(scenario.duration, |_| false);
    let nodes: Vec<_> = (0..2).filter_map(|n| run.client(ClientIndex(n))).map(|node| node.index()).collect();
    let busier = nodes.iter().filter_map(|node| sent.borrow().0.get(node).copied()).max().unwrap_or(0);
    let outcome = run.finish();
    let straight = HOME.up.delay * 2;
    let reliable = || outcome.streams.iter().filter(|stream| stream.reliable());
    let extra: Vec<_> = reliable().flat_map(|s| s.slowest).map(|took| took.saturating_sub(straight)).collect();
    let (direct, holes) = share(&outcome.timeline, outcome.ended);
    Ok(Held {
        sent: reliable().map(|s| s.sent).sum(),
        lost: reliable().map(|s| s.lost).sum(),
        wrong: reliable().map(|s| s.repeated + s.reordered).sum(),
        slowest: extra.iter().copied().max().unwrap_or_default(),
        late: reliable().map(|s| s.took.iter().filter(|took| **took > straight + bound()).count() as u64).sum(),
        direct,
        holes,
        datagrams: busier as f64 / (scenario.duration.as_secs_f64() / 60.0),
    })
}

/// Percent of the time since both first said "direct" in which both did, and how often that ended.
fn share(timeline: &[Entry], ended: Instant) -> (f64, u64) {
    let (mut says, mut since, mut direct, mut first, mut holes) = ([false; 2], None, Duration::ZERO, None, 0);
    for entry in timeline {
        let (Some(Host::Client(ClientIndex(who))), What::Path(_, path)) = (entry.who, &entry.what) else { continue };
        let before = says == [true; 2];
        if let Some(says) = says.get_mut(who) {
            *says = matches!(path, Path::Direct { .. });
        }
        match (before, says == [true; 2]) {
            (false, true) => {
                since = Some(entry.at);
                first = first.or(since);
            }
            (true, false) => {
                direct += since.take().map_or(Duration::ZERO, |since: Instant| entry.at.since(since));
                holes += 1;
            }
            _ => {}
        }
    }
    direct += since.map_or(Duration::ZERO, |since| ended.since(since));
    let all = first.map_or(Duration::ZERO, |first: Instant| ended.since(first));
    (100.0 * direct.as_secs_f64() / all.as_secs_f64().max(1e-9), holes)
}

fn line(plan: &Plan, timer: &Timer, found: &Held) -> Line {
    Line {
        r#type: "hold",
        timer: timer.name,
        hours: plan.hours,
        held: found.keeps(),
        sent: found.sent,
        lost: found.lost,
        repeated_or_reordered: found.wrong,
        direct_percent: found.direct,
        holes: found.holes,
        slowest_extra_ns: nanos(found.slowest),
        later_than_bound: found.late,
        bound_ns: nanos(bound()),
        datagrams_a_minute: found.datagrams,
    }
}
