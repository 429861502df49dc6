//! Workloads of single messages and single packets: how long an input of a player is under way, and what is
//! sent that carries no data.

use super::bench::{Bench, Flow, Pace, SMALL, Setup, quantile};
use super::workloads::{CUBIC, alone, narrow, secs};
use super::{Bound, Figure, Picture, Plan, Report};
use crate::event::{Event, Observer};
use crate::link::{Chance, HEADERS, Link};
use posse_core::{Duration, Instant};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// 60 Hz.
const TICK: Duration = Duration::from_micros(16_667);
/// Bytes on the wire a message that quinn 0.11 takes at 1 % loss, acknowledgements included, and how much more is allowed.
const QUINN: (f64, f64) = (129.0, 2.5);

/// What went over the wires of a world.
#[derive(Default)]
struct Wire {
    /// When the packets of each host were sent, by number.
    sent: BTreeMap<u64, (usize, Instant)>,
    /// Those that arrived: by whom, when sent and when there.
    arrived: Vec<(usize, Instant, Instant)>,
    /// Bytes with headers.
    bytes: u64,
    /// By host.
    packets: BTreeMap<usize, u64>,
}

impl Observer for Wire {
    fn event(&mut self, at: Instant, event: &Event<'_>) {
        match event {
            Event::Sent { host, packet, .. } => {
                self.sent.insert(packet.id, (*host, at));
                self.bytes += (packet.bytes.len() + HEADERS) as u64;
                *self.packets.entry(*host).or_default() += 1;
            }
            Event::Delivered { packet, .. } => {
                if let Some((host, sent)) = self.sent.remove(&packet.id) {
                    self.arrived.push((host, sent, at));
                }
            }
            Event::Dropped { packet, .. } => _ = self.sent.remove(&packet.id),
            _ => {}
        }
    }
}

fn watched(setup: &Setup) -> (Bench, Rc<RefCell<Wire>>) {
    let mut bench = Bench::new(setup);
    let wire = Rc::new(RefCell::new(Wire::default()));
    bench.world.observe(Box::new(Rc::clone(&wire)));
    (bench, wire)
}

/// Which of the times `part` of all are below, ms.
fn part(times: &mut [Duration], part: f64) -> f64 {
    quantile(times, part).map_or(f64::NAN, |t| t.as_secs_f64() * 1000.0)
}

/// When each message would have been there, had every packet carried all that was sent before it: no protocol does better
/// with the same packets and the same losses.
fn best(sent: &[Instant], wire: &Wire, from: usize) -> Vec<Duration> {
    let mut arrived: Vec<_> = wire.arrived.iter().filter(|p| p.0 == from).map(|p| (p.1, p.2)).collect();
    arrived.sort_unstable();
    let mut soonest: Vec<_> = arrived.iter().map(|p| p.1).collect();
    for at in (1..soonest.len()).rev() {
        soonest[at - 1] = soonest[at - 1].min(soonest[at]);
    }
    let first = |at: &Instant| arrived.partition_point(|p| p.0 < *at);
    sent.iter().filter_map(|at| Some(soonest.get(first(at))?.since(*at))).collect()
}

pub(super) fn game(plan: Plan) -> Report {
    let messages = if plan.quick { 3_000 } else { 60_000 };
    let mut report = Report::default();
    let mut lines = Vec::new();
    for (loss, limit) in [(0, 30.0), (1, 45.0), (5, 60.0)] {
        let link = Link::millis(25).loss(Chance::percent(loss));
        let base = alone(plan, CUBIC, link, Link::PERFECT, (0, 0));
        let flow = Flow { pace: Pace::Every(TICK, messages), start: secs(1), ..base.flows[0] };
        let (mut bench, wire) = watched(&Setup { flows: vec![flow], ..base });
        let client = bench.clients[0];
        let time = secs(1) + TICK * messages as u32 + secs(3);
        bench.pass(time);
        let (sent, there) = (bench.world.machine(client).sent(), bench.world.machine(bench.server).small());
        let mut took: Vec<_> = sent.iter().zip(there).map(|(sent, there)| there.since(*sent)).collect();
        let mut best = best(sent, &wire.borrow(), client.index());
        for (name, share, bound) in
            [("p50", 0.5, Bound::None), ("p99", 0.99, Bound::AtMost(limit)), ("p99.9", 0.999, Bound::None)]
        {
            let found = part(&mut took, share);
            report.figures.push(Figure::new(format!("{loss} % loss, {name}"), found, "ms", bound));
            let what = format!("{loss} % loss, {name} over the best that these packets and losses allow");
            report.figures.push(Figure::new(what, found / part(&mut best, share), "×", Bound::None));
        }
        let lost = messages as f64 - there.len() as f64;
        report.figures.push(Figure::new(format!("{loss} % loss, messages lost"), lost, "", Bound::AtMost(0.0)));
        let bytes = wire.borrow().bytes as f64 / messages as f64;
        let bound = if loss == 1 { Bound::AtMost(QUINN.0 * QUINN.1) } else { Bound::None };
        let what = format!("{loss} % loss, bytes a message of {SMALL}, all packets and headers both ways");
        report.figures.push(Figure::new(what, bytes, "bytes", bound));
        took.sort_unstable();
        let at = |i: usize| took.get(i * took.len() / 1000).map(|t| (i as f64 / 10.0, t.as_secs_f64() * 1000.0));
        lines.push((format!("{loss} % loss"), (900..1000).filter_map(at).collect()));
    }
    let title = "64-byte messages at 60 Hz, 50 ms round trip: the slowest tenth".to_owned();
    report.pictures.push(("transport-game", Picture { title, x: "% of messages", y: "ms", lines }));
    report
}

pub(super) fn words(plan: Plan) -> Report {
    let mut report = Report::default();
    let base = alone(plan, CUBIC, Link::millis(25), narrow(100_000_000, 10), (0, 0));
    let (mut bench, wire) = watched(&base);
    let counts = |bench: &Bench, wire: &RefCell<Wire>| {
        let of = |host: usize| wire.borrow().packets.get(&host).copied().unwrap_or(0) as f64;
        (of(bench.clients[0].index()), of(bench.server.index()))
    };
    bench.pass(secs(2));
    let before = counts(&bench, &wire);
    bench.pass(secs(if plan.quick { 3 } else { 20 }));
    let after = counts(&bench, &wire);
    let each = (after.1 - before.1) / (after.0 - before.0);
    // One for ten where so many come; and now and then one that waited its time, or a limit that was due.
    report.figures.push(Figure::new("acknowledgements a packet of bulk", each, "", Bound::AtMost(0.15)));
    // Idle: logged in, and not a message.
    let flow = Flow { pace: Pace::Every(secs(1), 0), ..base.flows[0] };
    let (mut bench, wire) = watched(&Setup { flows: vec![flow], ..base });
    bench.pass(secs(60));
    let before = counts(&bench, &wire);
    let time = if plan.quick { 600 } else { 3_600 };
    bench.pass(secs(time));
    let after = counts(&bench, &wire);
    let keepalive = posse_core::config::Timers::default().server_keepalive;
    // Both ends of the time count.
    let intervals = time as f64 / keepalive.as_secs_f64() + 1.0;
    let found = (after.0 - before.0) / intervals;
    report.figures.push(Figure::new("idle, packets of the client a keepalive", found, "", Bound::AtMost(1.0)));
    let found = (after.1 - before.1) / intervals;
    report.figures.push(Figure::new("idle, packets of the server a keepalive", found, "", Bound::AtMost(1.0)));
    report
}
