//! Many scenarios drawn at random, each with its digest, so that two processes can be compared line by line.

use super::progress::Progress;
use super::{Failure, json, text};
use posse_sim::scenario::Scenario;
use posse_sim::scenario::run::{Outcome, run as simulate};
use serde::Serialize;
use std::io::Write;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line {
    Scenario { seed: u64, held: bool, digest: String },
    Swarm { scenarios: u64, held: u64 },
}

/// Runs `count` scenarios. Whether what must hold does so in all.
pub(super) fn run(first: u64, count: u64, show: bool, json: bool, out: &mut impl Write) -> Result<bool, Failure> {
    let mut progress = Progress::new("ran");
    let mut right = 0;
    for n in 0..count {
        let seed = first.wrapping_add(n);
        let scenario = Scenario::random(seed);
        let outcome = simulate(&scenario, seed).map_err(|e| Failure::Setup(e.to_string()))?;
        let held = held(&outcome);
        right += u64::from(held);
        match (show, json) {
            (true, true) => json::write(&scenario, &outcome, out)?,
            (true, false) => text::write(&scenario, &outcome, out)?,
            (false, true) => {
                json::line(out, &Line::Scenario { seed, held, digest: format!("{:032x}", outcome.digest) })?;
            }
            (false, false) => describe(seed, &outcome, held, out)?,
        }
        progress.tell(|| format!("{} of {count} scenarios", n + 1));
    }
    if json {
        json::line(out, &Line::Swarm { scenarios: count, held: right })?;
    } else {
        writeln!(out, "{right} of {count} scenarios hold.")?;
    }
    Ok(right == count)
}

/// A step that never became possible is no failure here: a client may be cut off when its turn comes.
fn held(outcome: &Outcome) -> bool {
    outcome.stuck.is_none() && outcome.verdicts.iter().all(|verdict| verdict.held)
}

fn describe(seed: u64, outcome: &Outcome, held: bool, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "{seed} {:032x} {}", outcome.digest, if held { "ok" } else { "FAILED" })?;
    for verdict in outcome.verdicts.iter().filter(|verdict| !verdict.held) {
        writeln!(out, "    {}: {}", verdict.expected, verdict.found)?;
    }
    if let Some(stuck) = &outcome.stuck {
        writeln!(out, "    stuck: {stuck}")?;
    }
    if !held {
        writeln!(out, "    again: posse-sim swarm --scenarios 1 --seed {seed} --show")?;
    }
    Ok(())
}
