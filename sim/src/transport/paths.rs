//! Paths that change under a flow without a word: that carry less at a time, or lead further.

use super::bench::Bench;
use super::workloads::{CUBIC, TOLERANT, alone, carries, ms, narrow, secs};
use super::{Bound, Figure, Picture, Plan, Report};
use crate::link::{Chance, Direction, HEADERS, Link};
use crate::scenario::run::Run;
use crate::scenario::{ClientIndex, Scenario};
use posse_core::Duration;

/// Two players on the internet; what the first sends to the second is more than the second's link of 20 Mb/s carries. After
/// five seconds that link takes smaller packets, and drops the others without a word.
const NARROWER: &str = r#"
title = "a path that gets narrower"
duration = "1h"
[server]
link = { delay = "10ms" }
[client.a]
link = { delay = "12ms" }
[client.b]
link = { delay = "13ms", rate = "20Mb/s", queue = "122KiB" }
[[step]]
do = "create-group"
group = "room"
members = ["a", "b"]
[[step]]
do = "send"
at = "1s"
every = "6ms"
times = 20000
from = "a"
to = "room"
size = 16384
[[step]]
do = "set-link"
at = "5s"
of = "b"
link = { delay = "13ms", rate = "20Mb/s", queue = "122KiB", mtu = 1280 }
"#;

pub(super) fn narrower(plan: Plan) -> Report {
    const RATE: u64 = 20_000_000;
    const MESSAGE: f64 = 16_384.0;
    // The search for the size that fits goes on while the flow does.
    let (before, after) = (secs(5), secs(if plan.quick { 10 } else { 60 }));
    let mut report = Report::default();
    let scenario = Scenario::parse("narrower", NARROWER).expect("a fixed text that every run of this parses");
    let mut run = Run::new(&scenario, plan.seed).expect("its clients' names make tokens");
    let [a, b] = [0, 1].map(|client| run.client(ClientIndex(client)).expect("there are two"));
    let datagram = |run: &Run| {
        let peer = run.world().machine(a).client().and_then(|client| client.peers().next());
        peer.map_or(0.0, |peer| peer.direct.datagram as f64)
    };
    let arrived = |run: &Run| run.world().machine(b).journal().received.len();
    run.advance(before, |_| false);
    report.figures.push(Figure::new("datagrams before", datagram(&run), "bytes", Bound::AtLeast(1_400.0)));
    let (mut still, mut stalled, start) = (Duration::ZERO, Duration::ZERO, arrived(&run));
    let (mut at, mut last) = (before, start);
    while at < before + after {
        at += ms(10);
        run.advance(at, |_| false);
        still = if arrived(&run) > last { Duration::ZERO } else { still + ms(10) };
        (stalled, last) = (stalled.max(still), arrived(&run));
    }
    // Two rounds of nothing but losses tell of it, the second after a timeout; then the base size brings what was lost.
    report.figures.push(Figure::new(
        "longest standstill",
        stalled.as_secs_f64() * 1000.0,
        "ms",
        Bound::AtMost(1_000.0),
    ));
    let fits = Bound::AtMost((1_280 - HEADERS) as f64);
    report.figures.push(Figure::new("datagrams after", datagram(&run), "bytes", fits));
    let goodput = (last - start) as f64 * MESSAGE / after.as_secs_f64();
    let bound = Bound::AtLeast(if plan.quick { 75.0 } else { 90.0 });
    report.figures.push(Figure::new(
        "goodput after, of what the link carries",
        100.0 * goodput / carries(RATE),
        "%",
        bound,
    ));
    report
}

/// 50 ms that become 150 ms. The queue is what lies beyond the least round trip: if that were the old one for ever, a queue
/// would seem to stand for ever, and every loss by chance would be taken for congestion.
pub(super) fn longer(plan: Plan) -> Report {
    const RATE: u64 = 20_000_000;
    let (change, warm, end) = if plan.quick { (3, 25, 32) } else { (10, 40, 100) };
    let mut report = Report::default();
    let mut lines = Vec::new();
    for (name, congestion, loss) in [("CUBIC", CUBIC, 0), ("loss tolerant, 1 % loss", TOLERANT, 1)] {
        let lossy = |delay: u64| {
            let way = Direction { delay: ms(delay), ..Direction::PERFECT };
            Link { up: Direction { loss: Chance::percent(loss), ..way }, down: way }
        };
        // The buffer is that of the old path, as routers' are.
        let setup = alone(plan, congestion, lossy(25), narrow(RATE, 20), (warm, end));
        let mut bench = Bench::new(&setup);
        bench.pass(secs(change));
        bench.world.set_link(bench.clients[0], lossy(75));
        let mut samples = vec![bench.sample(bench.clients[0])];
        while samples.last().is_some_and(|last| last.at < setup.end) {
            bench.pass(ms(500));
            samples.push(bench.sample(bench.clients[0]));
        }
        let counted: Vec<_> = samples.iter().filter(|sample| sample.at >= setup.warm).collect();
        let (first, last) = (counted[0], counted[counted.len() - 1]);
        let goodput = (last.arrived - first.arrived) as f64 / (last.at - first.at).as_secs_f64();
        report.figures.push(Figure::new(
            format!("{name}, goodput over the longer path, of what the link carries"),
            100.0 * goodput / carries(RATE),
            "%",
            Bound::AtLeast(85.0),
        ));
        let least = last.path.min_rtt.as_secs_f64() * 1000.0;
        report.figures.push(Figure::new(
            format!("{name}, least round trip then"),
            least,
            "ms",
            Bound::Near(155.0, 0.07),
        ));
        let points = samples.windows(2).map(|w| {
            let mbit = (w[1].arrived - w[0].arrived) as f64 * 8e-6;
            (w[1].at.as_secs_f64(), mbit / (w[1].at - w[0].at).as_secs_f64())
        });
        lines.push((name.to_owned(), points.collect()));
    }
    let title = format!("Goodput where 50 ms become 150 ms after {change} s, 20 Mb/s");
    report.pictures.push(("transport-longer", Picture { title, x: "seconds", y: "Mb/s", lines }));
    report
}
