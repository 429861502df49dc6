//! How soon pairs that plain punching opens are direct, beside the bound that no protocol beats: at several rates of loss, in groups
//! of several sizes, at once, when there is something to be sent, and when the same clients meet again.

mod again;

use super::Failure;
use super::json::{self, nanos};
use super::progress::Progress;
use super::words::{ms, table};
use clap::Args;
use posse_core::{Channel, Duration, Instant, PathPolicy, PunchPolicy, SendOptions};
use posse_sim::oracle::{self, Behaviour};
use posse_sim::scenario::run::Run;
use posse_sim::scenario::{
    Action, ClientIndex, ClientSpec, GroupIndex, Host, NatIndex, NatSpec, Network, Scenario, Sending, ServerDoors,
    Step, Target, Tried,
};
use posse_sim::{Chance, Families, Filtering, Link, Mapping, Nat};
use serde::Serialize;
use std::collections::VecDeque;
use std::io::Write;

/// When the group is formed.
const FORMED: Duration = Duration::from_secs(2);
/// When the first message is sent where punching waits for it.
const SENT: Duration = Duration::from_secs(3);
/// A pair that is not direct so long after the group was formed, or the message sent, is counted as not direct.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether all are.
const SLICE: Duration = Duration::from_millis(10);
/// Of one way between a host and the internet, milliseconds: drawn from these.
const DELAYS: std::ops::RangeInclusive<u64> = 5..=60;
/// What is measured: from when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    /// From the forming of the group.
    Always,
    /// From the first message, as nothing is done before.
    OnTraffic,
    /// From the forming of a second group, some time after the first one ended; whether holes were kept meanwhile.
    Again { kept: bool },
}

impl Case {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Always, "always"),
        (Self::OnTraffic, "on-traffic"),
        (Self::Again { kept: false }, "again"),
        (Self::Again { kept: true }, "again-kept"),
    ];

    /// What half of all pairs, and nineteen of twenty, are to keep where nothing is lost: so many times the bound. A hole that was
    /// kept takes no round trip, so the bound itself is no goal.
    const fn goals(self) -> Option<[f64; 2]> {
        match self {
            Self::Always => Some([1.1, 1.5]),
            Self::Again { kept: true } => Some([1.0, 1.0]),
            Self::OnTraffic | Self::Again { kept: false } => None,
        }
    }
}

/// Both NATs give an inside socket one port for all destinations; or one of them does not, so that its port is to be learnt from its
/// packets first, which takes half a round trip more.
const PLAIN: &str = "plain";
const OTHER: &str = "one symmetric";

/// What `times` is asked for.
#[derive(Args)]
pub(super) struct Plan {
    /// How often each pair of kinds, or each group, is run, each time with other delays
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// Members of each group; of more than two all are behind the common home router
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(2..=256))]
    members: u16,
    /// Packets lost from end to end, in percent
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 5], value_parser = clap::value_parser!(u32).range(0..=90))]
    loss: Vec<u32>,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

/// What one setting came to.
#[derive(Default)]
struct Found {
    pairs: u64,
    /// From the forming of the group, or the first message, until both said "direct"; and that by the bound.
    times: Vec<Duration>,
    ratios: Vec<f64>,
    /// Challenges that any client sent in any second.
    busiest: u64,
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    policy: &'static str,
    nats: &'static str,
    loss_percent: u32,
    members: u16,
    pairs: u64,
    direct: usize,
    p50_ns: u64,
    p95_ns: u64,
    p99_ns: u64,
    p50_ratio: f64,
    p95_ratio: f64,
    p99_ratio: f64,
    challenges_a_second: u64,
}

/// Measures all settings. Whether pairs that lose nothing keep the goals.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let mut progress = Progress::new("punched");
    let mut held = true;
    let heads =
        ["", "NATs", "loss", "pairs", "direct", "p50 ms", "p95", "p99", "p50 × bound", "p95", "p99", "challenges/s"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (case, name) in Case::ALL {
        for loss in &plan.loss {
            for (nats, groups) in groups(plan) {
                let mut found = Found::default();
                for (number, group) in groups.iter().enumerate() {
                    for seed in 1..=plan.seeds {
                        let drawn = seed << 16 | number as u64;
                        match case {
                            Case::Again { kept } => again::run_group(group, kept, *loss, drawn, &mut found)?,
                            Case::Always => run_group(group, PunchPolicy::Always, *loss, drawn, &mut found)?,
                            Case::OnTraffic => run_group(group, PunchPolicy::OnTraffic, *loss, drawn, &mut found)?,
                        }
                        progress.tell(|| format!("{name}, {loss} % loss: {} pairs", found.pairs));
                    }
                }
                found.times.sort_unstable();
                found.ratios.sort_unstable_by(f64::total_cmp);
                let all_direct = found.times.len() as u64 == found.pairs;
                let keeps = |percent, goal| at(&found.ratios, percent).is_some_and(|ratio| *ratio <= goal);
                if let Some([half, most]) = case.goals()
                    && *loss == 0
                    && plan.members <= 8
                    && nats == PLAIN
                {
                    held &= all_direct && keeps(50, half) && keeps(95, most);
                }
                if plan.json {
                    json::line(out, &line(plan, name, nats, *loss, &found))?;
                } else {
                    rows.push(row(name, nats, *loss, &found));
                }
            }
        }
    }
    if !plan.json {
        writeln!(
            out,
            "Both ends direct, from the forming of the group; on traffic, from the first message; again, from the forming"
        )?;
        writeln!(
            out,
            "of a second group 10 s after the first. Bound: the later end hears of it, one round trip between the two;"
        )?;
        writeln!(out, "on traffic, the message's way to the server before.\n")?;
        writeln!(out, "{}", table(2, &rows))?;
    }
    Ok(held)
}

/// What both ends' NATs are, and the NATs of each group of the kind.
fn groups(plan: &Plan) -> Vec<(&'static str, Vec<Vec<Nat>>)> {
    if plan.members > 2 {
        return vec![(PLAIN, vec![vec![Nat::home(); plan.members.into()]])];
    }
    let all = || Mapping::ALL.into_iter().flat_map(|mapping| Filtering::ALL.map(|filtering| (mapping, filtering)));
    let pairs = all().flat_map(|a| all().map(move |b| (a, b)));
    let nat = |(mapping, filtering): Behaviour| Nat::new(mapping, filtering);
    let open: Vec<_> = pairs.filter(|(a, b)| oracle::reachable(*a, *b)).collect();
    let same = |kind: Behaviour| kind.0 == Mapping::EndpointIndependent;
    let (plain, other): (Vec<_>, Vec<_>) = open.into_iter().partition(|(a, b)| same(*a) && same(*b));
    let nats = |kinds: Vec<(Behaviour, Behaviour)>| kinds.into_iter().map(|(a, b)| vec![nat(a), nat(b)]).collect();
    vec![(PLAIN, nats(plain)), (OTHER, nats(other))]
}

/// Numbers that follow from a seed: SplitMix64.
struct Draw(u64);

impl Draw {
    fn delay(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let span = DELAYS.end() - DELAYS.start() + 1;
        Duration::from_millis(DELAYS.start() + (z ^ (z >> 31)) % span)
    }
}

fn scenario(nats: &[Nat], policy: PunchPolicy, loss: u32, seed: u64) -> Scenario {
    let mut draw = Draw(seed);
    // A way from end to end passes two of these.
    let lossy = Chance::ppm(loss * 5_000);
    let server = Link::new(draw.delay());
    let home = |n: usize, nat: &Nat, link| NatSpec {
        name: format!("home-{n}"),
        behind: Network::Internet,
        nat: nat.clone(),
        link,
    };
    let client = |n: usize| ClientSpec {
        name: format!("c{n}"),
        on: Network::Behind(NatIndex(n)),
        link: Link::PERFECT,
        addresses: Families::Both,
        start: Duration::ZERO,
        policy: PathPolicy::default(),
        direct_peers: None,
        retain: None,
    };
    let members = (0..nats.len()).map(ClientIndex).collect();
    let create = Action::CreateGroup { group: GroupIndex(0), members, message: String::new() };
    let send = |n| {
        Action::Send(Sending {
            from: Host::Client(ClientIndex(n)),
            to: Target::Group(GroupIndex(0)),
            channel: Channel::reliable(0),
            size: 64,
            options: SendOptions::default(),
        })
    };
    let once = |at, action| Step { at, every: Duration::ZERO, times: 1, action };
    let mut steps = vec![once(FORMED, create)];
    if policy == PunchPolicy::OnTraffic {
        steps.extend((0..nats.len() - 1).map(|n| once(SENT, send(n))));
    }
    Scenario {
        title: "a group of homes".to_owned(),
        seed,
        duration: SENT + PATIENCE,
        nats: nats.iter().enumerate().map(|(n, nat)| home(n, nat, Link::new(draw.delay()).loss(lossy))).collect(),
        server,
        doors: ServerDoors::None,
        techniques: Tried::Plain,
        probes: Scenario::PROBES,
        cookies: false,
        policy: PathPolicy { punch: policy, ..PathPolicy::default() },
        ipv6: false,
        clients: (0..nats.len()).map(client).collect(),
        groups: vec!["group".to_owned()],
        steps,
        packets: Vec::new(),
        expectations: Vec::new(),
    }
}

/// Runs one group until all its pairs are direct.
fn run_group(nats: &[Nat], policy: PunchPolicy, loss: u32, seed: u64, found: &mut Found) -> Result<(), Failure> {
    let scenario = scenario(nats, policy, loss, seed);
    let waits = policy == PunchPolicy::OnTraffic;
    let since = if waits { SENT } else { FORMED };
    let mut run = Run::new(&scenario, seed).map_err(|e| Failure::Setup(e.to_string()))?;
    run.advance(since, |_| false);
    let clients: Vec<_> = (0..nats.len()).filter_map(|n| run.client(ClientIndex(n))).collect();
    let mut challenges: VecDeque<Vec<u64>> = VecDeque::new();
    let slices = PATIENCE.as_nanos() / SLICE.as_nanos();
    for slice in 1..=u32::try_from(slices).unwrap_or(u32::MAX) {
        run.advance(since + SLICE * slice, |_| false);
        let machines = || clients.iter().map(|node| run.world().machine(*node));
        let now: Vec<u64> = machines().map(|client| client.challenges()).collect();
        if challenges.len() as u128 >= Duration::from_secs(1).as_nanos() / SLICE.as_nanos() {
            challenges.pop_front();
        }
        let before = challenges.front().cloned().unwrap_or_else(|| vec![0; now.len()]);
        let most = now.iter().zip(before).map(|(now, before)| now - before).max();
        found.busiest = found.busiest.max(most.unwrap_or(0));
        challenges.push_back(now);
        if machines().all(|client| client.direct_peers() == nats.len() - 1) {
            break;
        }
    }
    let outcome = run.finish();
    for pair in &outcome.pairs {
        found.pairs += 1;
        let Some(direct) = pair.both_direct() else { continue };
        let told = |client: ClientIndex| {
            let home = scenario.nats.get(client.0).map_or(Duration::ZERO, |nat| nat.link.up.delay);
            home + scenario.server.up.delay
        };
        // On traffic the first of the two to send is the one whose message is first at the server.
        let sender = if waits { told(pair.a).min(told(pair.b)) } else { Duration::ZERO };
        let bound = scenario.direct_bound(pair.a, pair.b) + sender;
        let began = if waits { Instant::ZERO + SENT } else { pair.together };
        let took = direct.since(began);
        found.times.push(took);
        found.ratios.push(took.as_secs_f64() / bound.as_secs_f64());
    }
    Ok(())
}

/// So many percent of what is sorted are no more than this.
fn at<T>(sorted: &[T], percent: usize) -> Option<&T> {
    sorted.get(sorted.len() * percent / 100).or(sorted.last())
}

fn row(policy: &str, nats: &str, loss: u32, found: &Found) -> Vec<String> {
    let time = |percent| at(&found.times, percent).map_or("-".to_owned(), |d| ms(*d));
    let ratio = |percent| at(&found.ratios, percent).map_or("-".to_owned(), |r| format!("{r:.2}"));
    let share = 100.0 * found.times.len() as f64 / found.pairs.max(1) as f64;
    let mut row =
        vec![policy.to_owned(), nats.to_owned(), format!("{loss} %"), found.pairs.to_string(), format!("{share:.1} %")];
    row.extend([time(50), time(95), time(99), ratio(50), ratio(95), ratio(99), found.busiest.to_string()]);
    row
}

fn line(plan: &Plan, policy: &'static str, nats: &'static str, loss_percent: u32, found: &Found) -> Line {
    let time = |percent| at(&found.times, percent).map_or(0, |d| nanos(*d));
    let ratio = |percent| at(&found.ratios, percent).copied().unwrap_or(0.0);
    Line {
        r#type: "times",
        policy,
        nats,
        loss_percent,
        members: plan.members,
        pairs: found.pairs,
        direct: found.times.len(),
        p50_ns: time(50),
        p95_ns: time(95),
        p99_ns: time(99),
        p50_ratio: ratio(50),
        p95_ratio: ratio(95),
        p99_ratio: ratio(99),
        challenges_a_second: found.busiest,
    }
}
