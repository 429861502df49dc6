//! The NATs, as two programs see them that know nothing of their tables: one punches, one classifies.

use super::Figure;
use crate::machines::{Classifier, Puncher, Reflector, Rendezvous, Role};
use crate::world::FIRST_EXTRA_PORT;
use crate::{Link, Nat, World, oracle};
use posse_core::Duration;
use std::net::SocketAddr;

/// Rounds of probes, 20 ms apart; the farthest cell needs four round trips of 60 ms.
const ROUNDS: u32 = 30;
/// Far more than an answer takes.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn figures(seed: u64) -> Vec<Figure> {
    let nats = Nat::all_nine();
    let pairs = || nats.iter().flat_map(|a| nats.iter().map(move |b| (a, b)));
    let expected = |(a, b): (&Nat, &Nat)| oracle::reachable((a.mapping, a.filtering), (b.mapping, b.filtering));
    let cells: Vec<_> = pairs().map(|(a, b)| (punch(seed, a, b), expected((a, b)))).collect();
    let agree = cells.iter().filter(|(went, expected)| went == expected).count();
    let direct = cells.iter().filter(|(went, _)| *went).count();
    let named = nats.iter().filter(|nat| classify(seed, nat) == Some((nat.mapping, nat.filtering))).count();
    vec![
        Figure::exactly("pairs of NATs that punch as the oracle says", agree, 81, " of 81"),
        Figure::exactly("pairs of NATs that go direct", direct, 45, " of 81"),
        Figure::exactly("kinds of NAT that a classifier names right", named, 9, " of 9"),
    ]
}

/// Whether two homes behind `a` and `b` reach each other both ways.
fn punch(seed: u64, a: &Nat, b: &Nat) -> bool {
    let mut world = World::new(seed);
    let server = world.host(world.internet(), Link::millis(5), |_, _, _| Rendezvous::new());
    let to = world.addr(server);
    let nodes = [(a, Role::First), (b, Role::Second)].map(|(nat, role)| {
        let home = world.home(nat.clone());
        world.host(home, Link::millis(1), move |now, _, _| Puncher::new(now, role, to, ROUNDS))
    });
    world.run_until(PATIENCE, |w| nodes.iter().all(|n| w.machine(*n).direct())).is_ok()
}

/// What the classifier takes `nat` for.
fn classify(seed: u64, nat: &Nat) -> Option<oracle::Behaviour> {
    let mut world = World::new(seed);
    let servers = [(); 2].map(|()| world.host(world.internet(), Link::millis(5), |_, _, _| Reflector::new()));
    let [a, b] = servers.map(|server| world.addr(server));
    world.act(servers[0], |reflector, _| reflector.set_other(b));
    world.act(servers[1], |reflector, _| reflector.set_other(a));
    let home = world.home(nat.clone());
    let asked = [a, b, SocketAddr::new(b.ip(), FIRST_EXTRA_PORT)];
    let client = world.host(home, Link::millis(1), move |_, _, _| Classifier::new(asked));
    _ = world.run_for(PATIENCE);
    world.machine(client).verdict()
}
