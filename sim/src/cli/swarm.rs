//! Many random scenarios, one a seed, on as many cores as it is given. What goes to standard output depends on neither the
//! cores nor the clock, so that two processes can be compared.

use super::failing::{Case, ROOT};
use super::progress::Progress;
use super::{Failure, json, text};
use posse_sim::scenario::Scenario;
use posse_sim::scenario::run::Run;
use posse_sim::swarm::{self, Canary, Verdict};
use serde::Serialize;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which seeds, and how.
#[derive(clap::Args)]
pub(super) struct Plan {
    /// How many
    #[arg(long, alias = "scenarios", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first one; the others follow
    #[arg(long, alias = "seed", default_value_t = 1)]
    from: u64,
    /// How many run at once
    #[arg(long, default_value = "2")]
    jobs: NonZeroU32,
    /// Go on after the first seed that does not hold, and list all that do not
    #[arg(long)]
    keep_going: bool,
    /// The whole report of each run, one after another
    #[arg(long)]
    show: bool,
    /// One JSON object a line (docs/json.md)
    #[arg(long)]
    json: bool,
    /// Strike a message that arrived from the books, to see that this is found
    #[arg(long)]
    canary: bool,
    /// Leave the first seed that does not hold as it was drawn
    #[arg(long)]
    no_shrink: bool,
    /// Write everything about the first seed that does not hold into a folder below DIR (docs/traces.md)
    #[arg(long, value_name = "DIR", default_value = ROOT)]
    trace: PathBuf,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Seed { seed: u64, held: bool, digest: String, packets: u64, broken: Vec<&'a str> },
    Swarm { from: u64, seeds: u64, held: u64, packets: u64, digest: String },
}

/// Runs them all, or up to the first that does not hold. Whether all do.
pub(super) fn run(plan: &Plan, out: &mut impl Write) -> Result<bool, Failure> {
    let verdicts = if plan.show { show(plan, out)? } else { judge_all(plan) };
    let (seeds, first) = (verdicts.len() as u64, verdicts.iter().find(|verdict| !verdict.failures.is_empty()));
    let held = verdicts.iter().filter(|verdict| verdict.failures.is_empty()).count() as u64;
    let packets = verdicts.iter().map(|verdict| verdict.packets).sum();
    let digest = format!("{:032x}", swarm::digest(&verdicts));
    if plan.json {
        for v in verdicts.iter().filter(|_| !plan.show) {
            let (held, digest) = (v.failures.is_empty(), format!("{:032x}", v.digest));
            json::line(
                out,
                &Line::Seed {
                    seed: v.seed,
                    held,
                    digest,
                    packets: v.packets,
                    broken: v.failures.iter().map(|f| f.text.as_str()).collect(),
                },
            )?;
        }
        json::line(out, &Line::Swarm { from: plan.from, seeds, held, packets, digest: digest.clone() })?;
    } else if let Some(verdict) = first {
        fail(plan, verdict, out)?;
        for other in verdicts.iter().filter(|other| other.seed != verdict.seed) {
            if let Some(failure) = other.failures.first() {
                writeln!(out, "seed {}: {}", other.seed, failure.text)?;
            }
        }
    }
    if !plan.json && (first.is_none() || plan.keep_going) {
        writeln!(out, "{held} of {seeds} seeds from {} hold. {packets} packets. Digest {digest}.", plan.from)?;
    }
    Ok(first.is_none())
}

/// Three lines: what broke, how to see it again, where everything about it is; of the smallest case that breaks so.
fn fail(plan: &Plan, verdict: &Verdict, out: &mut impl Write) -> Result<(), Failure> {
    let case = Case::drawn(verdict.seed, plan.canary());
    let shrunk = if plan.no_shrink { None } else { case.shrink() };
    match shrunk {
        Some(shrunk) => {
            let small = case.with(shrunk.scenario);
            small.tell(("swarm", Some(&Scenario::random(verdict.seed))), &plan.trace, out)
        }
        None => case.tell(("swarm", None), &plan.trace, out),
    }
}

fn show(plan: &Plan, out: &mut impl Write) -> Result<Vec<Verdict>, Failure> {
    let mut verdicts = Vec::new();
    for seed in (0..plan.seeds).map(|n| plan.from.wrapping_add(n)) {
        let scenario = Scenario::random(seed);
        let run = Run::new(&scenario, seed).map_err(|e| Failure::Setup(e.to_string()))?;
        let (verdict, outcome) = swarm::judge_run(run, plan.canary());
        if plan.json {
            json::write(&scenario, &outcome, out)?;
        } else {
            text::write(&scenario, &outcome, out)?;
        }
        let stop = !verdict.failures.is_empty() && !plan.keep_going;
        verdicts.push(verdict);
        if stop {
            break;
        }
    }
    Ok(verdicts)
}

/// Each job takes the next seed that nobody has, unless one before it is known not to hold.
fn judge_all(plan: &Plan) -> Vec<Verdict> {
    let (next, end) = (AtomicU64::new(0), AtomicU64::new(plan.seeds));
    let done = Mutex::new((Progress::new("ran"), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.get() {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let verdict = swarm::judge(plan.from.wrapping_add(n), plan.canary());
                    if !verdict.failures.is_empty() && !plan.keep_going {
                        end.fetch_min(n + 1, Ordering::Relaxed);
                    }
                    let Ok(mut done) = done.lock() else { return };
                    let (progress, verdicts) = &mut *done;
                    verdicts.push((n, verdict));
                    progress.tell_rate(verdicts.len() as u64, plan.seeds, "seeds");
                }
            });
        }
    });
    let mut verdicts = done.into_inner().map(|(_, verdicts)| verdicts).unwrap_or_default();
    verdicts.sort_by_key(|(n, _)| *n);
    // The other jobs may have been ahead of the first that does not hold.
    let end = end.into_inner();
    verdicts.into_iter().filter(|(n, _)| *n < end).map(|(_, verdict)| verdict).collect()
}

impl Plan {
    fn canary(&self) -> Canary {
        Canary::from(self.canary)
    }
}
