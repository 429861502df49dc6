//! How soon all goes on after an outage, a suspension and a NAT that restarts, over many seeds: delays of the links and the moment are
//! drawn, two clients talk with each other and the server, and what is measured is what they notice.

use super::Failure;
use super::json;
use super::progress::Progress;
use super::words::table;
use clap::Args;
use posse_core::{Duration, Instant, Path};
use posse_sim::scenario::journal::{Journal, What};
use posse_sim::scenario::run::Run;
use posse_sim::scenario::{ClientIndex, Host, Scenario};
use serde::Serialize;
use std::io::Write;

/// What `recovery` is asked for.
#[derive(Args)]
pub(super) struct Plan {
    /// Seeds, each of which draws delays and the moment
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

/// After an outage the next probe is at most so far away.
const PROBE: Duration = Duration::from_secs(2);
/// What goes wrong begins in the second after this.
const BEGIN_MS: u64 = 20_000;
const ANN: ClientIndex = ClientIndex(0);
const BOB: ClientIndex = ClientIndex(1);

/// What goes wrong.
struct Case {
    name: &'static str,
    step: &'static str,
    lasts_ms: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "server out of reach for 50 s",
        step: "do = \"cut\"\nlink = \"server\"\nlasts = \"50s\"",
        lasts_ms: 50_000,
    },
    Case {
        name: "client out of reach for 50 s",
        step: "do = \"cut\"\nlink = \"home\"\nlasts = \"50s\"",
        lasts_ms: 50_000,
    },
    Case {
        name: "client suspended for 50 s",
        step: "do = \"pause\"\nhost = \"ann\"\nlasts = \"50s\"",
        lasts_ms: 50_000,
    },
    Case { name: "NAT restarts, new ports", step: "do = \"reboot\"\nnat = \"home\"", lasts_ms: 0 },
];

/// What one run came to.
struct Found {
    lost: u64,
    ended: usize,
    /// From the end of what went wrong to the first message of the server at ann, and of either client at the other.
    server_back: Duration,
    peer_back: Duration,
    /// Until both clients say that they are direct.
    direct_again: Duration,
    /// Round trips by the server between the clients, and between them directly.
    relay_rtt: Duration,
    direct_rtt: Duration,
}

/// Numbers that follow from a seed (SplitMix64, Steele, Lea and Flood 2014).
struct Draw(u64);

impl Draw {
    fn from(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (z ^ (z >> 31)) % (high - low + 1)
    }
}

/// Runs all cases. Whether nothing was lost, no session ended, and everybody was back within the bound.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let mut rows = vec![
        [
            "",
            "lost",
            "sessions ended",
            "server back p50",
            "p95",
            "max",
            "peer back p50",
            "p95",
            "max",
            "direct again p50",
            "p95",
            "max",
            "round trips p95",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let (mut progress, mut held) = (Progress::new("simulated"), true);
    for (n, case) in (1..).zip(&CASES) {
        let mut all = Vec::new();
        for seed in 1..=plan.seeds {
            all.push(measure(case, seed)?);
            progress.tell(|| format!("{seed} of {} seeds of case {n} of {}", plan.seeds, CASES.len()));
        }
        let line = Line::of(case, &all);
        held &= line.lost == 0 && line.sessions_ended == 0;
        held &= all.iter().all(|found| {
            let slowest = found.server_back.max(found.peer_back).max(found.direct_again);
            slowest <= PROBE + found.relay_rtt * 2
        });
        if plan.json {
            json::line(out, &line)?;
        } else {
            rows.push(line.row());
        }
    }
    if !plan.json {
        writeln!(out, "{} seeds each. Times in ms, from when it is over, or from the restart.\n", plan.seeds)?;
        writeln!(out, "{}", table(1, &rows))?;
        writeln!(
            out,
            "Bound after an outage: {} ms, the longest probe timeout, and two round trips by the server.",
            PROBE.as_millis()
        )?;
    }
    Ok(held)
}

fn measure(case: &Case, seed: u64) -> Result<Found, Failure> {
    let mut draw = Draw(seed);
    let [server, home, bob] = [draw.from(5, 40), draw.from(5, 40), draw.from(5, 40)];
    let at = draw.from(BEGIN_MS, BEGIN_MS + 1_000);
    let end = at + case.lasts_ms;
    let duration = end + 30_000;
    let sends: String = [("ann", "pair"), ("bob", "pair"), ("server", "ann"), ("ann", "server")]
        .map(|(from, to)| {
            format!(
                "[[step]]\ndo = \"send\"\nfrom = \"{from}\"\nto = \"{to}\"\nevery = \"50ms\"\ntimes = {}\n",
                (duration - 5_000) / 50
            )
        })
        .concat();
    let text = format!(
        "title = \"recovery\"\nduration = \"{duration}ms\"\n[server]\nlink = {{ delay = \"{server}ms\" }}\n[nat.home]\n\
         mapping = \"endpoint-independent\"\nfiltering = \"address-and-port-dependent\"\nlink = {{ delay = \"{home}ms\" }}\n\
         [client.ann]\nbehind = \"home\"\n[client.bob]\nlink = {{ delay = \"{bob}ms\" }}\n[[step]]\ndo = \"create-group\"\n\
         group = \"pair\"\nmembers = [\"ann\", \"bob\"]\n{sends}[[step]]\nat = \"{at}ms\"\n{}\n",
        case.step
    );
    let scenario = Scenario::parse("recovery", &text)?;
    let mut run = Run::new(&scenario, seed).map_err(|e| Failure::Setup(e.to_string()))?;
    run.advance(scenario.duration, |_| false);
    let journal =
        |client| run.client(client).map(|node| run.world().machine(node).journal().clone()).unwrap_or_default();
    let journals = [journal(ANN), journal(BOB)];
    let over = Instant::from_millis(end);
    let first = |at: ClientIndex, from: Host| {
        let received = &journals[at.0].received;
        let first = received.iter().find(|message| message.from == from && message.at >= over);
        first.map_or(Duration::MAX, |message| message.at.since(over))
    };
    let peer_back = first(ANN, Host::Client(BOB)).max(first(BOB, Host::Client(ANN)));
    let peer_back = if case.lasts_ms > 0 { peer_back } else { slowest(&journals, at) };
    let (server_back, direct_again) =
        (first(ANN, Host::Server), direct_again(&journals, Instant::from_millis(at), over));
    let ended = journals.iter().flat_map(|j| &j.entries).filter(|e| matches!(e.what, What::Ended(_))).count();
    let outcome = run.finish();
    let lost = outcome.streams.iter().map(|stream| stream.lost).sum();
    let relay_rtt = Duration::from_millis(2 * (home + bob + 2 * server));
    let direct_rtt = Duration::from_millis(2 * (home + bob));
    Ok(Found { lost, ended, server_back, peer_back, direct_again, relay_rtt, direct_rtt })
}

/// The slowest message between the clients that was sent in the five seconds after `at`, without the way itself.
fn slowest(journals: &[Journal; 2], at: u64) -> Duration {
    let (from, to) = (Instant::from_millis(at), Instant::from_millis(at + 5_000));
    let of_peers = journals.iter().flat_map(|j| &j.received).filter(|m| m.from != Host::Server);
    let sent = of_peers.filter(|m| m.sent_at >= from && m.sent_at < to);
    sent.map(|m| m.at.since(m.sent_at)).max().unwrap_or(Duration::MAX)
}

/// From `over` until both ends say that they are direct and stay so; zero if they never said otherwise since `began`.
fn direct_again(journals: &[Journal; 2], began: Instant, over: Instant) -> Duration {
    let of = |journal: &Journal| {
        let mut paths = journal.entries.iter().filter(|e| e.at >= began).filter_map(|e| match e.what {
            What::Path(_, path) => Some((e.at, matches!(path, Path::Direct { .. }))),
            _ => None,
        });
        match paths.next_back() {
            None => Duration::ZERO,
            Some((at, true)) => at.since(over),
            Some((_, false)) => Duration::MAX,
        }
    };
    journals.iter().map(of).max().unwrap_or(Duration::MAX)
}

#[derive(Serialize)]
struct Line {
    r#type: &'static str,
    case: &'static str,
    seeds: usize,
    lost: u64,
    sessions_ended: usize,
    /// 50 %, 95 % and all of them, each.
    server_back_ms: [f64; 3],
    peer_back_ms: [f64; 3],
    direct_again_ms: [f64; 3],
    /// Until direct again in direct round trips, of 95 %.
    direct_again_round_trips: f64,
}

impl Line {
    fn of(case: &Case, all: &[Found]) -> Self {
        let millis =
            |of: fn(&Found) -> Duration| quantiles(all.iter().map(|found| of(found).as_secs_f64() * 1e3).collect());
        let trips = all.iter().map(|f| f.direct_again.as_secs_f64() / f.direct_rtt.as_secs_f64()).collect();
        Self {
            r#type: "recovery",
            case: case.name,
            seeds: all.len(),
            lost: all.iter().map(|found| found.lost).sum(),
            sessions_ended: all.iter().map(|found| found.ended).sum(),
            server_back_ms: millis(|found| found.server_back),
            peer_back_ms: millis(|found| found.peer_back),
            direct_again_ms: millis(|found| found.direct_again),
            direct_again_round_trips: quantiles(trips)[1],
        }
    }

    fn row(&self) -> Vec<String> {
        let times = [self.server_back_ms, self.peer_back_ms, self.direct_again_ms];
        let cells = times.iter().flatten().map(|ms| format!("{ms:.1}"));
        let head = [self.case.to_owned(), self.lost.to_string(), self.sessions_ended.to_string()];
        head.into_iter().chain(cells).chain([format!("{:.2}", self.direct_again_round_trips)]).collect()
    }
}

/// The nearest ranks of 50 %, 95 % and 100 %.
fn quantiles(mut all: Vec<f64>) -> [f64; 3] {
    all.sort_by(f64::total_cmp);
    [50, 95, 100].map(|percent| {
        let rank = (all.len() * percent).div_ceil(100).max(1);
        all.get(rank - 1).copied().unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        assert_eq!(quantiles((1..=100).map(f64::from).collect()), [50.0, 95.0, 100.0]);
        assert_eq!(quantiles(vec![3.0]), [3.0; 3]);
    }
}
