//! The table of workloads.

use super::bench::{CARRIED, Flow, Harm, ON_WIRE, Pace, Setup, Story, run};
use super::theory::{jain, padhye};
use super::{Bound, Figure, Picture, Plan, Report, Workload};
use super::{game, paths};
use crate::link::{Bursts, Chance, Direction, Link};
use posse_core::Duration;
use posse_core::config::{Algorithm, Congestion};

/// All of them. To add one, add a row.
pub const WORKLOADS: &[Workload] = &[
    Workload { name: "window", what: "CUBIC's mean window where every n-th packet is lost, 100 ms", run: window },
    Workload { name: "marks", what: "CUBIC's mean window where every n-th packet is marked (ECN), 100 ms", run: marks },
    Workload { name: "padhye", what: "CUBIC's throughput over that of Padhye's model, random loss, 50 ms", run: model },
    Workload { name: "bulk", what: "one flow on 100 Mb/s, 50 ms, one BDP of buffer, drop-tail", run: bulk },
    Workload { name: "guard", what: "queueing delay on 20 Mb/s, 50 ms, four BDP of buffer", run: guard },
    Workload { name: "signals", what: "one flow on 20 Mb/s, 50 ms, whose router marks, or clears, ECN", run: signals },
    Workload { name: "equal", what: "two equal flows on 20 Mb/s, 50 ms, one BDP, the second 2 s later", run: equal },
    Workload { name: "beside", what: "each controller beside CUBIC on 20 Mb/s, 50 ms, drop-tail", run: beside },
    Workload { name: "harms", what: "one flow on 20 Mb/s, 50 ms, one BDP, with what networks do", run: harms },
    Workload { name: "open", what: "50 ms, no limit of bandwidth, independent loss each way", run: open },
    Workload {
        name: "game",
        what: "64-byte reliable messages at 60 Hz, 50 ms, independent loss each way",
        run: game::game,
    },
    Workload {
        name: "narrower",
        what: "one flow on 20 Mb/s, 50 ms, whose path gets narrower without a word",
        run: paths::narrower,
    },
    Workload { name: "longer", what: "one flow on 20 Mb/s whose path gets 100 ms longer", run: paths::longer },
    Workload {
        name: "words",
        what: "packets that carry no data: acknowledgements of bulk, and those of an idle link",
        run: game::words,
    },
];

pub(super) const CUBIC: Congestion =
    Congestion { algorithm: Algorithm::Cubic, delay_guard: Some(Duration::from_millis(50)), hystart: true, ecn: true };
pub(super) const TOLERANT: Congestion = Congestion { algorithm: Algorithm::LossTolerant, ..CUBIC };
/// CUBIC as its figures are published: with nothing beside it.
const BARE: Congestion = Congestion { delay_guard: None, hystart: false, ..CUBIC };
const BOTH: [(&str, Congestion); 2] = [("CUBIC", CUBIC), ("loss tolerant", TOLERANT)];

const MIB: f64 = 1024.0 * 1024.0;
/// Round trip of most workloads.
const RTT_MS: u64 = 50;

const fn fixed(rate: u64) -> Congestion {
    Congestion { algorithm: Algorithm::FixedRate(rate), ..CUBIC }
}

pub(super) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `rate` bits a second towards the server, with a buffer of so many tenths of what is under way in a round trip.
pub(super) fn narrow(rate: u64, tenths: u64) -> Link {
    let queue = (rate / 8 * RTT_MS / 1000 * tenths / 10) as usize;
    Link { down: Direction { rate: Some(rate), queue, ..Direction::PERFECT }, ..Link::PERFECT }
}

/// What a link of `rate` bits a second carries of messages, bytes a second.
pub(super) fn carries(rate: u64) -> f64 {
    rate as f64 / 8.0 * CARRIED / ON_WIRE
}

pub(super) fn alone(plan: Plan, congestion: Congestion, link: Link, shared: Link, time: (u64, u64)) -> Setup {
    Setup {
        seed: plan.seed,
        flows: vec![Flow { congestion, link, start: Duration::ZERO, pace: Pace::Full }],
        shared,
        harm: Harm::None,
        buffer: 4 << 20,
        warm: secs(time.0),
        end: secs(time.1),
        sample: ms(50),
    }
}

fn one(setup: &Setup) -> Story {
    run(setup).swap_remove(0)
}

/// `f` of every sample over seconds.
fn line(name: &str, story: &Story, f: impl Fn(&super::bench::Sample) -> f64) -> (String, Vec<(f64, f64)>) {
    (name.to_owned(), story.samples.iter().map(|s| (s.at.as_secs_f64(), f(s))).collect())
}

/// Goodput over seconds, in Mb/s.
fn goodput_line(name: &str, story: &Story) -> (String, Vec<(f64, f64)>) {
    let every = story.samples.iter().step_by(10);
    let points = every
        .clone()
        .zip(every.skip(1))
        .map(|(a, b)| (b.at.as_secs_f64(), (b.arrived - a.arrived) as f64 * 8e-6 / (b.at - a.at).as_secs_f64()));
    (name.to_owned(), points.collect())
}

fn window(plan: Plan) -> Report {
    // The send buffer keeps slow start, which here nothing ends, from beginning at many times the window.
    let all: &[(u64, f64, usize, (u64, u64))] = &[
        (10_000, 187.0, 512 << 10, (60, 140)),
        (100_000, 1054.0, 3 << 20, (100, 300)),
        (1_000_000, 5926.0, 12 << 20, (100, 250)),
    ];
    let mut report = Report::default();
    for &(every, expected, buffer, time) in if plan.quick { &all[..1] } else { all } {
        let setup = alone(plan, BARE, Link::millis(50), Link::PERFECT, time);
        let story = one(&Setup { harm: Harm::Lose(every), buffer, ..setup });
        let what = format!("packets, one lost of {every}");
        report.figures.push(Figure::new(what, story.mean_window(), "packets", Bound::Near(expected, 0.1)));
        if every == 10_000 {
            let title = "CUBIC's window where every 10,000th packet is lost, 100 ms".to_owned();
            let (name, mut points) = line("window", &story, |s| s.path.window as f64 / 1200.0);
            points.retain(|p| p.0 >= time.0 as f64);
            let lines = vec![(name, points)];
            report.pictures.push(("transport-window", Picture { title, x: "seconds", y: "packets", lines }));
        }
    }
    report
}

fn marks(plan: Plan) -> Report {
    // The same function of p with beta 0.85 (RFC 8511): (0.4·3.85 / (4·0.15))^¼ · 0.1^¾ · 10^3. It knows nothing of fast
    // convergence, which weighs more where less is taken.
    let setup = alone(plan, BARE, Link::millis(50), Link::PERFECT, (60, 140));
    let story = one(&Setup { harm: Harm::Mark(10_000), buffer: 512 << 10, ..setup });
    let lost = story.samples.last().map_or(0, |s| s.path.packets_lost);
    let figures = vec![
        Figure::new("packets, one marked of 10000", story.mean_window(), "packets", Bound::Near(225.1, 0.15)),
        Figure::new("packets lost", lost as f64, "", Bound::AtMost(0.0)),
    ];
    Report { figures, ..Report::default() }
}

fn model(plan: Plan) -> Report {
    let all: &[(u32, f64, (u64, u64))] =
        &[(10_000, 1e-2, (5, 65)), (50_000, 5e-2, (5, 65)), (1_000, 1e-3, (10, 110)), (100, 1e-4, (20, 320))];
    let mut figures = Vec::new();
    for &(ppm, p, time) in if plan.quick { &all[..2] } else { all } {
        let up = Direction { loss: Chance::ppm(ppm), delay: ms(25), ..Direction::PERFECT };
        let story = one(&alone(plan, CUBIC, Link { up, ..Link::millis(25) }, Link::PERFECT, time));
        let expected = padhye(p, 0.05, 0.2) * CARRIED;
        let found = story.goodput() / expected;
        figures.push(Figure::new(format!("ratio at {} %", p * 100.0), found, "×", Bound::AtLeast(0.85)));
    }
    Report { figures, ..Report::default() }
}

fn bulk(plan: Plan) -> Report {
    const RATE: u64 = 100_000_000;
    let time = if plan.quick { (2, 4) } else { (5, 35) };
    let figures = [BOTH[0], BOTH[1], ("fixed at 12 MB/s", fixed(12_000_000))].map(|(name, congestion)| {
        let story = one(&alone(plan, congestion, Link::millis(25), narrow(RATE, 10), time));
        let found = 100.0 * story.goodput() / carries(RATE);
        Figure::new(format!("{name}, of what the link carries"), found, "%", Bound::AtLeast(95.0))
    });
    Report { figures: figures.into(), ..Report::default() }
}

fn guard(plan: Plan) -> Report {
    const RATE: u64 = 20_000_000;
    let time = if plan.quick { (6, 12) } else { (10, 70) };
    let mut report = Report::default();
    let mut lines = Vec::new();
    for (name, congestion) in BOTH {
        for (with, limit) in [("with the guard", CUBIC.delay_guard), ("without", None)] {
            let congestion = Congestion { delay_guard: limit, ..congestion };
            let story = one(&alone(plan, congestion, Link::millis(25), narrow(RATE, 40), time));
            // The guard stops growth at 50 ms, noticed two round trips later.
            let bound = if limit.is_some() { Bound::AtMost(85.0) } else { Bound::None };
            let what = format!("{name} {with}, 95 % of the time below");
            report.figures.push(Figure::new(what, 1000.0 * story.queueing(0.95), "ms", bound));
            let used = 100.0 * story.goodput() / carries(RATE);
            report.figures.push(Figure::new(format!("{name} {with}, goodput"), used, "%", Bound::AtLeast(95.0)));
            let queue = |s: &super::bench::Sample| (s.path.rtt.saturating_sub(s.path.min_rtt)).as_secs_f64() * 1000.0;
            lines.push(line(&format!("{name} {with}"), &story, queue));
        }
    }
    let title = "Queueing delay on 20 Mb/s, 50 ms, four BDP of buffer".to_owned();
    report.pictures.push(("transport-guard", Picture { title, x: "seconds", y: "ms", lines }));
    report
}

/// Two flows on a shared link; the second begins later.
fn pair(plan: Plan, flows: [Congestion; 2], rate: u64, tenths: u64, time: (u64, u64)) -> Vec<Story> {
    let [a, b] = flows;
    let base = alone(plan, a, Link::millis(25), narrow(rate, tenths), time);
    let second = Flow { congestion: b, link: Link::millis(25), start: secs(2), pace: Pace::Full };
    run(&Setup { flows: vec![base.flows[0], second], ..base })
}

fn equal(plan: Plan) -> Report {
    // To come to equal shares takes CUBIC's curves, and by them all, the better part of a minute.
    let time = if plan.quick { (40, 100) } else { (40, 200) };
    let figures = BOTH.map(|(name, congestion)| {
        let stories = pair(plan, [congestion; 2], 20_000_000, 10, time);
        let shares: Vec<_> = stories.iter().map(Story::goodput).collect();
        Figure::new(format!("{name}, Jain's index"), jain(&shares), "", Bound::AtLeast(0.95))
    });
    Report { figures: figures.into(), ..Report::default() }
}

fn beside(plan: Plan) -> Report {
    const RATE: u64 = 20_000_000;
    const TRIES: &str = "the guard gives way four times until it knows that the other has none";
    let time = if plan.quick { (10, 40) } else { (20, 180) };
    let mut report = Report::default();
    let buffers = [(10, "1 BDP"), (5, "½ BDP"), (20, "2 BDP")];
    for &(tenths, buffer) in if plan.quick { &buffers[..1] } else { &buffers } {
        let limit = Bound::AtLeast(0.9);
        let stories = pair(plan, [CUBIC, TOLERANT], RATE, tenths, time);
        let shares: Vec<_> = stories.iter().map(Story::goodput).collect();
        let what = format!("loss tolerant beside CUBIC, {buffer}, Jain's index");
        report.figures.push(Figure::new(what, jain(&shares), "", limit));
        let used = 100.0 * shares.iter().sum::<f64>() / carries(RATE);
        report.figures.push(Figure::new(format!("both together, {buffer}"), used, "%", Bound::AtLeast(95.0)));
        if tenths == 10 {
            let title = "Loss tolerant beside CUBIC, 20 Mb/s, 50 ms, one BDP of buffer".to_owned();
            let lines = vec![goodput_line("CUBIC", &stories[0]), goodput_line("loss tolerant", &stories[1])];
            report.pictures.push(("transport-beside", Picture { title, x: "seconds", y: "Mb/s", lines }));
        }
    }
    let stories = pair(plan, [Congestion { delay_guard: None, ..CUBIC }, TOLERANT], RATE, 40, time);
    let shares: Vec<_> = stories.iter().map(Story::goodput).collect();
    let what = "loss tolerant beside CUBIC without a guard, 4 BDP, Jain's index";
    report.figures.push(Figure::new(what, jain(&shares), "", Bound::AtLeast(0.9)).because(TRIES));
    let stories = pair(plan, [CUBIC, fixed(RATE / 8 / 4)], RATE, 10, time);
    let left = 100.0 * stories[0].goodput() / (carries(RATE) * 0.75);
    let what = "CUBIC beside a fixed quarter of the link, of the rest";
    report.figures.push(Figure::new(what, left, "%", Bound::AtLeast(90.0)));
    report
}

/// A router that marks in place of dropping: the queue stays short and nothing has to be sent twice.
fn signals(plan: Plan) -> Report {
    const RATE: u64 = 20_000_000;
    let time = if plan.quick { (3, 13) } else { (5, 65) };
    let mut report = Report::default();
    // A quarter of what is under way in a round trip.
    let threshold = (RATE / 8 * RTT_MS / 1000 / 4) as usize;
    for (name, congestion) in BOTH {
        let link = narrow(RATE, 40);
        let marking = Link { down: Direction { mark_from: Some(threshold), ..link.down }, ..link };
        let cleared = Link { down: Direction { clears_ecn: true, ..marking.down }, ..link };
        for (what, shared, lost) in [("marks", marking, Bound::AtMost(0.0)), ("clears the field", cleared, Bound::None)]
        {
            let story = one(&alone(plan, congestion, Link::millis(25), shared, time));
            let goodput = 100.0 * story.goodput() / carries(RATE);
            let delay = story.queueing(0.95) * 1000.0;
            let packets = story.samples.last().map_or(0, |last| last.path.packets_lost);
            let title = |of: &str| format!("{name}, the router {what}: {of}");
            report.figures.push(Figure::new(title("of what the link carries"), goodput, "%", Bound::AtLeast(90.0)));
            report.figures.push(Figure::new(title("queueing delay, p95"), delay, "ms", Bound::AtMost(60.0)));
            report.figures.push(Figure::new(title("packets lost"), packets as f64, "", lost));
        }
    }
    report
}

/// Harms that the small size does.
const QUICK: [&str; 4] = ["5 % loss", "20 % loss", "1 % held back 50 ms", "5 % in bursts of 3"];

fn harms(plan: Plan) -> Report {
    const RATE: u64 = 20_000_000;
    let time = if plan.quick { (3, 9) } else { (5, 65) };
    let mut report = Report::default();
    let way = |change: &dyn Fn(&mut Direction)| {
        let mut up = Direction { delay: ms(25), ..Direction::PERFECT };
        change(&mut up);
        Link { up, ..Link::millis(25) }
    };
    let bursts = |ppm, length| Bursts::mean(ppm, length).unwrap_or_default();
    let mut cases: Vec<(String, Link, f64)> = Vec::new();
    for (name, ppm) in [("0.5", 5_000), ("1", 10_000), ("2", 20_000), ("5", 50_000), ("10", 100_000), ("20", 200_000)] {
        cases.push((format!("{name} % loss"), way(&|d| d.loss = Chance::ppm(ppm)), 1.0));
    }
    cases.push(("1 % in bursts of 5".into(), way(&|d| d.bursts = bursts(10_000, 5)), 1.0));
    cases.push(("5 % in bursts of 3".into(), way(&|d| d.bursts = bursts(50_000, 3)), 1.0));
    let held = way(&|d| (d.reorder, d.reorder_delay) = (Chance::percent(1), ms(50)));
    cases.push(("1 % held back 50 ms".into(), held, 1.0));
    let held = way(&|d| (d.reorder, d.reorder_delay) = (Chance::percent(10), ms(5)));
    cases.push(("10 % held back 5 ms".into(), held, 1.0));
    // The copies take their part of the link.
    cases.push(("5 % twice".into(), way(&|d| d.duplicate = Chance::percent(5)), 0.95));
    cases.push(("1 % damaged".into(), way(&|d| d.corrupt = Chance::percent(1)), 1.0));
    let slow = Direction { rate: Some(RATE / 10), queue: 64 << 10, ..Direction::PERFECT };
    cases.push(("acknowledged over a tenth of the rate".into(), Link::millis(25), 1.0));
    let mut lines = Vec::new();
    for (name, congestion) in BOTH {
        let mut points = Vec::new();
        for (what, link, left) in &cases {
            if plan.quick && !QUICK.contains(&what.as_str()) {
                continue;
            }
            let asymmetric = what.starts_with("acknowledged");
            let shared = Link { up: if asymmetric { slow } else { Direction::PERFECT }, ..narrow(RATE, 10) };
            let story = one(&alone(plan, congestion, *link, shared, time));
            let found = 100.0 * story.goodput() / (carries(RATE) * left);
            let by_chance = what.contains("loss") || what.contains("bursts") || what.contains("damaged");
            let bound = match (congestion == TOLERANT, by_chance) {
                // Of the few seconds of the small size, the search for the link is a good part.
                (true, _) => Bound::AtLeast(if plan.quick { 85.0 } else { 95.0 }),
                (false, true) => Bound::None,
                (false, false) => Bound::AtLeast(85.0),
            };
            if let Some(p) = what.strip_suffix(" % loss").and_then(|p| p.parse().ok()) {
                points.push((p, found));
            }
            report.figures.push(Figure::new(format!("{name}, {what}, of what the link carries"), found, "%", bound));
        }
        lines.push((name.to_owned(), points));
    }
    let title = "Goodput at random loss, of what a link of 20 Mb/s, 50 ms carries".to_owned();
    report.pictures.push(("transport-loss", Picture { title, x: "% lost", y: "%", lines }));
    report
}

fn open(plan: Plan) -> Report {
    const CUBIC_GIVES_WAY: &str = "to CUBIC every loss is congestion: at this loss its share is what Padhye says";
    const BREAKER: &str = "RFC 8083's breaker: at this loss the rate is over ten times the share of TCP";
    let time = if plan.quick { (1, 2) } else { (3, 9) };
    let all = [(5, 8.2), (0, 100.0), (1, 11.1)];
    let mut figures = Vec::new();
    let fixed_rate = fixed(110 << 20);
    for &(loss, target) in if plan.quick { &all[..1] } else { &all } {
        for (name, congestion, excuse) in [
            ("CUBIC", CUBIC, CUBIC_GIVES_WAY),
            ("loss tolerant", TOLERANT, ""),
            ("fixed 110 MiB/s", fixed_rate, BREAKER),
        ] {
            let link = Link::millis(25).loss(Chance::percent(loss));
            let setup = alone(plan, congestion, link, Link::PERFECT, time);
            let story = one(&Setup { buffer: 8 << 20, ..setup });
            let what = format!("{name}, {loss} % loss");
            let figure = Figure::new(what, story.goodput() / MIB, "MiB/s", Bound::AtLeast(target));
            figures.push(if loss > 0 && !excuse.is_empty() { figure.because(excuse) } else { figure });
        }
    }
    Report { figures, ..Report::default() }
}
