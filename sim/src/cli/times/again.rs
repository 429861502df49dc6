//! How soon pairs are direct that were so before, had no group in common for a while, and meet again: with holes that are kept
//! meanwhile, and without.

use super::{Found, PATIENCE, scenario};
use crate::cli::Failure;
use posse_core::{Duration, Instant, Path, PunchPolicy};
use posse_sim::Nat;
use posse_sim::scenario::journal::{Entry, What};
use posse_sim::scenario::run::Run;
use posse_sim::scenario::{Action, ClientIndex, GroupIndex, Host, Scenario, Step};

/// When the group ends; all that plain punching can do is done by then.
const ENDED: Duration = Duration::from_secs(8);
/// When the same clients are in a group again: two keepalive intervals later.
const AGAIN: Duration = Duration::from_secs(18);
/// How long holes are kept where they are.
const KEPT: Duration = Duration::from_secs(60);

/// Runs one group until it met again, for [`PATIENCE`] at the most.
pub(super) fn run_group(nats: &[Nat], kept: bool, loss: u32, seed: u64, found: &mut Found) -> Result<(), Failure> {
    let mut scenario = scenario(nats, PunchPolicy::Always, loss, seed);
    "again".clone_into(&mut scenario.title);
    scenario.groups.push("again".to_owned());
    for client in &mut scenario.clients {
        client.retain = Some(if kept { KEPT } else { Duration::ZERO });
    }
    let members = (0..nats.len()).map(ClientIndex).collect();
    let once = |at, action| Step { at, every: Duration::ZERO, times: 1, action };
    let group = GroupIndex(1);
    scenario.steps.push(once(ENDED, Action::DestroyGroup { group: GroupIndex(0) }));
    scenario.steps.push(once(AGAIN, Action::CreateGroup { group, members, message: String::new() }));
    scenario.duration = AGAIN + PATIENCE;
    let mut run = Run::new(&scenario, seed).map_err(|e| Failure::Setup(e.to_string()))?;
    let clients: Vec<_> = (0..nats.len()).filter_map(|n| run.client(ClientIndex(n))).collect();
    run.advance(AGAIN + Duration::from_millis(500), |_| false);
    while run.world().now() < Instant::ZERO + AGAIN + PATIENCE
        && clients.iter().any(|node| run.world().machine(*node).direct_peers() < nats.len() - 1)
    {
        let until = run.world().now().since(Instant::ZERO) + Duration::from_millis(100);
        run.advance(until, |_| false);
    }
    tell(&scenario, &run.finish().timeline, found);
    Ok(())
}

fn tell(scenario: &Scenario, timeline: &[Entry], found: &mut Found) {
    let began = Instant::ZERO + AGAIN;
    let direct = |of: ClientIndex, with: ClientIndex| {
        let said = |entry: &&Entry| matches!(entry.what, What::Path(peer, Path::Direct { .. }) if peer == with);
        let by = |entry: &&Entry| entry.who == Some(Host::Client(of)) && entry.at >= began;
        timeline.iter().filter(by).find(said).map(|entry| entry.at)
    };
    let all = (0..scenario.clients.len()).map(ClientIndex);
    let pairs = all.clone().flat_map(|a| all.clone().filter(move |b| a.0 < b.0).map(move |b| (a, b)));
    for (a, b) in pairs {
        found.pairs += 1;
        let (Some(one), Some(other)) = (direct(a, b), direct(b, a)) else { continue };
        let took = one.max(other).since(began);
        found.times.push(took);
        found.ratios.push(took.as_secs_f64() / scenario.direct_bound(a, b).as_secs_f64());
    }
}
