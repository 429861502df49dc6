//! What chances came to, as an explicit list.

use crate::scenario::run::Run;
use crate::scenario::{Action, Scenario};
use crate::{Bursts, Chance, Direction, Link};
use posse_core::Duration;

/// The same scenario with nothing left to chance on its links: what happened to single packets under `seed` is listed and
/// happens again. `None` if it does not run.
pub fn explicit(scenario: &Scenario, seed: u64) -> Option<Scenario> {
    let mut run = Run::watched(scenario, seed).ok()?;
    run.advance(scenario.duration, |_| false);
    let mut scenario = Scenario { packets: run.packets(), ..scenario.clone() };
    for link in links(&mut scenario) {
        *link = link.both(without_chances);
    }
    Some(scenario)
}

/// All links of a scenario, and those that come by its steps.
pub(super) fn links(scenario: &mut Scenario) -> impl Iterator<Item = &mut Link> {
    let by_steps = scenario.steps.iter_mut().filter_map(|step| match &mut step.action {
        Action::SetLink { link, .. } | Action::Move { link, .. } => Some(link),
        _ => None,
    });
    let of_hosts = scenario.clients.iter_mut().map(|client| &mut client.link);
    let of_nats = scenario.nats.iter_mut().map(|nat| &mut nat.link);
    std::iter::once(&mut scenario.server).chain(of_hosts).chain(of_nats).chain(by_steps)
}

fn without_chances(d: &mut Direction) {
    (d.loss, d.reorder, d.duplicate, d.corrupt) = (Chance::NEVER, Chance::NEVER, Chance::NEVER, Chance::NEVER);
    (d.bursts, d.jitter) = (Bursts::NEVER, Duration::ZERO);
}
