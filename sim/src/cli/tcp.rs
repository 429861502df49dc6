//! The TCP leg beside bare TCP: the same messages over the same links, losses and stack, in one run.

use super::words::{ms, table};
use super::{Failure, json};
use posse_core::{Duration, Instant};
use posse_sim::machines::BareTcp;
use posse_sim::scenario::{Host, Scenario, run};
use posse_sim::{Chance, Link, World};
use serde::Serialize;
use std::io::Write;

/// Losses of each direction of each client's link, percent.
const LOSSES: [u32; 3] = [0, 1, 5];
/// Delay of a client's link, and of the server's, one way.
const DELAYS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(15)];
/// Bytes of a message, and what the leg puts around it: length 2, header 11, tag 16, frame 6.
const SIZE: usize = 200;
const AROUND: usize = 35;
/// Messages, and their pace.
const COUNT: u64 = 3_000;
const PACE: Duration = Duration::from_millis(33);
/// Most that may be sent again on the leg without a real drop, in thousandths of all bytes.
const MOST_REPEATED: u64 = 20;

#[derive(clap::Args)]
pub(super) struct Plan {
    /// What is random follows from it; the first of several
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many; their messages are counted together
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line {
    TcpLeg {
        what: String,
        loss_percent: u32,
        sent: u64,
        delivered: u64,
        median_ms: String,
        p99_ms: String,
        slowest_ms: String,
    },
    TcpLegRepeated {
        loss_percent: u32,
        bytes: u64,
        repeated: u64,
        bound_per_mille: u64,
        held: bool,
    },
}

/// Measures. Whether no more was sent again than may be, and everything arrived.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let mut rows =
        vec![["messages", "loss", "arrived", "median ms", "p99 ms", "slowest ms"].map(str::to_owned).to_vec()];
    let (mut lines, mut held) = (Vec::new(), true);
    for loss in LOSSES {
        let mut ends = Ends::default();
        for seed in (plan.seed..).take(usize::try_from(plan.seeds).unwrap_or(usize::MAX)) {
            ends.bare.extend(bare(seed, loss));
            posse(seed, loss, &mut ends)?;
        }
        let sent = COUNT * plan.seeds;
        let mut row = |what: &str, ours: bool, mut took: Vec<Duration>| {
            took.sort_unstable();
            let at =
                |thousandths: usize| took.get((took.len() * thousandths / 1_000).min(took.len().saturating_sub(1)));
            let [median, p99, slowest] = [500, 990, 1_000].map(|at_| at(at_).map_or("-".to_owned(), |d| ms(*d)));
            held &= !ours || took.len() as u64 == sent;
            rows.push(vec![
                what.to_owned(),
                format!("{loss} %"),
                took.len().to_string(),
                median.clone(),
                p99.clone(),
                slowest.clone(),
            ]);
            let (what, delivered) = (what.to_owned(), took.len() as u64);
            let (median_ms, p99_ms, slowest_ms) = (median, p99, slowest);
            lines.push(Line::TcpLeg { what, loss_percent: loss, sent, delivered, median_ms, p99_ms, slowest_ms });
        };
        row("bare TCP to the server", false, ends.bare);
        row("Posse to the server by TCP", true, ends.server);
        row("Posse to a peer, both by TCP", true, ends.peer);
        let (bytes, repeated) = (ends.bytes, ends.repeated);
        let within = repeated * 1_000 <= bytes * MOST_REPEATED;
        held &= within;
        lines.push(Line::TcpLegRepeated {
            loss_percent: loss,
            bytes,
            repeated,
            bound_per_mille: MOST_REPEATED,
            held: within,
        });
    }
    if plan.json {
        for line in &lines {
            json::line(out, line)?;
        }
        return Ok(held);
    }
    write!(out, "{}", table(1, &rows))?;
    writeln!(out)?;
    for line in &lines {
        if let Line::TcpLegRepeated { loss_percent, bytes, repeated, held, .. } = line {
            let share = repeated * 100_000 / (*bytes).max(1);
            let mark = if *held { "ok" } else { "FAILED" };
            let share = format!("{}.{:03}", share / 1_000, share % 1_000);
            writeln!(
                out,
                "{mark}  at {loss_percent} % loss {repeated} of {bytes} bytes ({share} %) went again from end to end, with nothing dropped; at most 2 %"
            )?;
        }
    }
    writeln!(
        out,
        "\nsmoltcp's TCP: no SACK, no retransmission timer below 1 s. {COUNT} messages for each of {} seeds from {}.",
        plan.seeds, plan.seed
    )?;
    Ok(held)
}

fn link(delay: Duration, loss: u32) -> Link {
    Link::new(delay).loss(Chance::percent(loss))
}

fn bare(seed: u64, loss: u32) -> Vec<Duration> {
    let mut world = World::new(seed);
    let internet = world.internet();
    let size = SIZE + AROUND;
    let server = world.host(internet, link(DELAYS[1], 0), move |_, _, _| BareTcp::reader(size));
    world.listen(server);
    let to = world.addr(server);
    let first = Instant::from_millis(2_000);
    world.host(internet, link(DELAYS[0], loss), move |_, _, _| BareTcp::writer(to, size, first, PACE, COUNT));
    let _ = world.run_for(Duration::from_millis(2_000) + PACE * (COUNT as u32) + Duration::from_secs(60));
    world.machine(server).took().to_vec()
}

/// What came of all seeds: times, and bytes sent and sent again by all ends.
#[derive(Default)]
struct Ends {
    bare: Vec<Duration>,
    server: Vec<Duration>,
    peer: Vec<Duration>,
    bytes: u64,
    repeated: u64,
}

/// Messages to the server and to a peer.
fn posse(seed: u64, loss: u32, ends: &mut Ends) -> Result<(), Failure> {
    let client = |name: &str| {
        format!(
            "[client.{name}]\nlink = {{ delay = \"10ms\", loss = \"{loss}%\" }}\n\
             [[step]]\ndo = \"block-udp\"\nlink = \"{name}\"\n"
        )
    };
    let send = |to: &str| {
        format!(
            "[[step]]\ndo = \"send\"\nfrom = \"alice\"\nto = \"{to}\"\nat = \"2s\"\nsize = {SIZE}\nevery = \"33ms\"\ntimes = {COUNT}\n"
        )
    };
    let text = format!(
        "title = \"The TCP leg\"\nduration = \"170s\"\n[server]\nlink = {{ delay = \"15ms\" }}\n{}{}\
         [[step]]\ndo = \"create-group\"\nat = \"1s\"\ngroup = \"room\"\nmembers = [\"alice\", \"bob\"]\n{}{}",
        client("alice"),
        client("bob"),
        send("server"),
        send("room"),
    );
    let scenario = Scenario::parse("the TCP leg", &text)?;
    let outcome = run::run(&scenario, seed).map_err(|e| Failure::Setup(e.to_string()))?;
    let took = |server: bool| {
        let found = outcome.streams.iter().find(|s| (s.to == Host::Server) == server && s.sent > 0);
        found.map(|s| s.took.clone()).unwrap_or_default()
    };
    ends.server.extend(took(true));
    ends.peer.extend(took(false));
    ends.bytes += outcome.repeated.0;
    ends.repeated += outcome.repeated.1;
    Ok(())
}
