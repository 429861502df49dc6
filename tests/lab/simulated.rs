//! A case in the simulator.

use crate::outcome::Outcome;
use posse_core::Path;
use posse_sim::scenario::accounts::PathStory;
use posse_sim::scenario::journal::{Entry, What};
use posse_sim::scenario::run::run;
use posse_sim::scenario::words::leg_word;
use posse_sim::scenario::{ClientIndex, Host, Scenario, judge};

pub(crate) fn simulate(scenario: &Scenario) -> Result<Outcome, String> {
    let ran = run(scenario, scenario.seed).map_err(|e| e.to_string())?;
    if let Some(stuck) = &ran.stuck {
        return Err(stuck.to_string());
    }
    let pair = ran.pairs.first().ok_or("nobody met anybody")?;
    let reliable = || ran.streams.iter().filter(|stream| stream.reliable());
    Ok(Outcome {
        ways: vec![way(&pair.from_a), way(&pair.from_b)],
        legs: [0, 1].map(|client| legs(&ran.timeline, client)).to_vec(),
        to_direct: pair.both_direct().map(|at| at.since(pair.together)),
        sent: reliable().map(|s| s.sent).sum(),
        lost: reliable().map(|s| s.lost).sum(),
        repeated: reliable().map(|s| s.repeated).sum(),
        reordered: reliable().map(|s| s.reordered).sum(),
    })
}

/// The legs that a client says it changed to, in order.
fn legs(timeline: &[Entry], client: usize) -> Vec<String> {
    let own = timeline.iter().filter(|entry| entry.who == Some(Host::Client(ClientIndex(client))));
    own.filter_map(|entry| if let What::Leg(leg, _) = entry.what { Some(leg_word(leg).to_lowercase()) } else { None })
        .collect()
}

fn way(story: &PathStory) -> String {
    match story.last {
        Some(Path::Direct { .. }) => "direct".into(),
        Some(Path::Relayed { because }) => format!("relayed, {}", judge::reason(because)),
        _ => "unknown".into(),
    }
}
