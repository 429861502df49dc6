//! One direction of a link, alone.

use super::Figure;
use crate::event::DropReason;
use crate::link::{Bursts, Chance, Fate, HEADERS, Link, Wire};
use posse_core::{Duration, Instant};

const MS: u64 = 1_000_000;
/// Bytes a packet.
const PAYLOAD: usize = 1_000;
/// Mean loss in parts in a million and mean length of a burst in packets, as commonly measured and worse.
const BURSTS: [(u32, u32); 4] = [(10_000, 2), (10_000, 5), (50_000, 3), (200_000, 3)];
/// Standard deviations that chance may have.
const SIGMAS: f64 = 4.0;

pub(super) fn figures(packets: u32, seed: u64) -> Vec<Figure> {
    let mut all = vec![bernoulli(packets, seed)];
    for (ppm, length) in BURSTS {
        all.extend(gilbert_elliott(packets, seed, ppm, length));
    }
    all.extend([jitter(packets, seed), reordering(packets, seed), duplication(packets, seed)]);
    all.extend(queue(seed));
    all.push(rate(seed));
    all
}

/// What becomes of `n` packets, one each `gap` ns.
fn run(seed: u64, link: Link, n: u32, gap: u64) -> Vec<Fate> {
    let mut wire = Wire::new(seed, 0, link.up);
    (0..u64::from(n)).map(|i| wire.pass(Instant(i * gap), PAYLOAD)).collect()
}

/// Standard deviation of a share measured over `n` independent tries.
fn sigma(p: f64, n: f64) -> f64 {
    (p * (1.0 - p) / n).sqrt()
}

fn share(hits: usize, of: usize) -> f64 {
    hits as f64 / of as f64
}

fn bernoulli(n: u32, seed: u64) -> Figure {
    let fates = run(seed, Link::PERFECT.loss(Chance::percent(1)), n, MS);
    let lost = fates.iter().filter(|fate| matches!(fate, Fate::Dropped(DropReason::Loss))).count();
    let bound = 100.0 * SIGMAS * sigma(0.01, f64::from(n));
    Figure::near(format!("loss of 1 % over {n} packets"), 100.0 * share(lost, fates.len()), 1.0, bound, " %")
}

/// Stationary rate; mean length of a burst, and how many have length 1, which together make it geometric; and the
/// correlation of neighbours.
fn gilbert_elliott(n: u32, seed: u64, ppm: u32, length: u32) -> Vec<Figure> {
    let Some(bursts) = Bursts::mean(ppm, length) else { return Vec::new() };
    let fates = run(seed, Link::PERFECT.bursts(bursts), n, MS);
    let bad: Vec<bool> = fates.iter().map(|fate| matches!(fate, Fate::Dropped(DropReason::Burst))).collect();
    let (p, l, all) = (f64::from(ppm) / 1e6, f64::from(length), f64::from(n));
    let (leave, enter) = (1.0 / l, p / ((1.0 - p) * l));
    let rho = 1.0 - leave - enter;
    let lost = bad.iter().filter(|bad| **bad).count() as f64;
    let lengths: Vec<usize> = bad.chunk_by(|a, b| a == b).filter(|run| run[0]).map(<[bool]>::len).collect();
    let begun = lengths.len() as f64;
    let mean = lengths.iter().sum::<usize>() as f64 / begun;
    let single = lengths.iter().filter(|length| **length == 1).count() as f64 / begun;
    let both = bad.windows(2).filter(|pair| pair[0] && pair[1]).count() as f64 / (all - 1.0);
    let rate = lost / all;
    let correlation = (both - rate * rate) / (rate * (1.0 - rate));
    // Of a mean over a chain with that correlation; of a geometric length; of the two chances as they are estimated.
    let of_rate = (p * (1.0 - p) / all * (1.0 + rho) / (1.0 - rho)).sqrt();
    let of_mean = (l * (l - 1.0) / begun).sqrt();
    let of_rho = (leave * (1.0 - leave) / lost + enter * (1.0 - enter) / (all - lost)).sqrt();
    let name = |what: &str| format!("bursts ({} %, {length}): {what}", 100.0 * p);
    vec![
        Figure::near(name("share lost"), 100.0 * rate, 100.0 * p, 100.0 * SIGMAS * of_rate, " %"),
        Figure::near(name("mean length"), mean, l, SIGMAS * of_mean, ""),
        Figure::near(name("share of length 1"), single, leave, SIGMAS * sigma(leave, begun), ""),
        Figure::near(name("correlation of neighbours"), correlation, rho, SIGMAS * of_rho, ""),
    ]
}

/// Kolmogorov and Smirnov: the largest distance of the measured distribution from the uniform one.
fn jitter(n: u32, seed: u64) -> Figure {
    const JITTER: u64 = 10 * MS;
    // 1.95 / √n is exceeded by chance once in a thousand times; Smirnov's limit law.
    const CRITICAL: f64 = 1.95;
    let link = Link::millis(20).jitter(Duration::from_nanos(JITTER));
    // So far apart that none holds up another.
    let fates = run(seed, link, n, 2 * JITTER);
    let extra = |(i, fate): (u64, &Fate)| match fate {
        Fate::Arrives { at, .. } => at.0 - i * 2 * JITTER - 20 * MS,
        Fate::Dropped(_) => u64::MAX,
    };
    let mut extra: Vec<u64> = (0..).zip(&fates).map(extra).collect();
    extra.sort_unstable();
    let n = f64::from(n);
    let distance = |(i, x): (u32, &u64)| {
        let theory = (*x as f64 / JITTER as f64).min(2.0);
        (theory - f64::from(i) / n).abs().max((f64::from(i) + 1.0) / n - theory)
    };
    let largest = (0..).zip(&extra).map(distance).fold(0.0, f64::max);
    Figure::near("jitter: distance from a uniform distribution", largest, 0.0, CRITICAL / n.sqrt(), "")
}

/// A packet that is held back for 2.5 packets' time is overtaken unless the next two are, too.
fn reordering(n: u32, seed: u64) -> Figure {
    let held = Duration::from_micros(2_500);
    let fates = run(seed, Link::millis(5).reorder(Chance::percent(10), held), n, MS);
    let at = |fate: &Fate| if let Fate::Arrives { at, .. } = fate { at.0 } else { u64::MAX };
    let overtaken = fates.windows(3).filter(|w| at(&w[0]) > at(&w[1]) || at(&w[0]) > at(&w[2])).count();
    let (p, all) = (0.1 * (1.0 - 0.01), fates.len() - 2);
    // Neighbours are a little correlated, and negatively: the bound of independent ones is safe.
    let bound = 100.0 * SIGMAS * sigma(p, all as f64);
    Figure::near("packets overtaken, of 10 % held back", 100.0 * share(overtaken, all), 100.0 * p, bound, " %")
}

fn duplication(n: u32, seed: u64) -> Figure {
    let fates = run(seed, Link::PERFECT.duplicate(Chance::percent(3)), n, MS);
    let twice = fates.iter().filter(|fate| matches!(fate, Fate::Arrives { copy: Some(_), .. })).count();
    let bound = 100.0 * SIGMAS * sigma(0.03, f64::from(n));
    Figure::near("packets duplicated", 100.0 * share(twice, fates.len()), 3.0, bound, " %")
}

/// Little: the mean number in a system is the rate of arrival times the mean time in it. Batches of four come each eight
/// packets' times, so the mean time is 2.5 packets' and the mean number 1.25, exactly. The number is counted by departures
/// and arrivals, apart from the times.
fn queue(seed: u64) -> Vec<Figure> {
    const BATCHES: u64 = 1_000;
    const RATE: u64 = 8_000_000;
    let one = (PAYLOAD + HEADERS) as u64 * 8_000_000_000 / RATE;
    let mut wire = Wire::new(seed, 0, Link::PERFECT.rate(RATE, usize::MAX).up);
    let (mut changes, mut total) = (Vec::new(), 0);
    for batch in 0..BATCHES {
        let now = batch * 8 * one;
        for _ in 0..4 {
            if let Fate::Arrives { at, .. } = wire.pass(Instant(now), PAYLOAD) {
                changes.extend([(now, 1), (at.0, -1)]);
                total += at.0 - now;
            }
        }
    }
    changes.sort_unstable();
    let (mut inside, mut since, mut area) = (0i64, 0, 0);
    for (at, change) in changes {
        area += inside.unsigned_abs() * (at - since);
        (inside, since) = (inside + change, at);
    }
    vec![
        Figure::exactly("queue: time in it, over all packets", total, BATCHES * 10 * one, " ns"),
        Figure::exactly("queue: number in it, summed over time", area, total, " ns"),
    ]
}

/// 1028 bytes at 7 Mb/s take 1,174,857 1/7 ns: the sevenths must add up.
fn rate(seed: u64) -> Figure {
    const PACKETS: u32 = 100_000;
    let fates = run(seed, Link::PERFECT.rate(7_000_000, usize::MAX), PACKETS, 0);
    let last = fates.iter().filter_map(|f| if let Fate::Arrives { at, .. } = f { Some(at.0) } else { None }).max();
    let exact = u64::from(PACKETS) * (PAYLOAD + HEADERS) as u64 * 8_000_000_000 / 7_000_000;
    Figure::exactly(format!("{PACKETS} packets at 7 Mb/s take"), last.unwrap_or(0), exact, " ns")
}
