//! Reference hole punching through every pair of NATs.

use posse_core::Duration;
use posse_sim::machines::{Puncher, Rendezvous, Role};
use posse_sim::{Allocation, Link, Nat, World};

/// Rounds of probes, 20 ms apart; the farthest cell needs four round trips of 60 ms.
const ROUNDS: u32 = 30;

/// Whether two homes behind `a` and `b` reach each other both ways.
fn punch(seed: u64, a: &Nat, b: &Nat, answers: bool) -> bool {
    let mut world = World::new(seed);
    let server = world.host(world.internet(), Link::millis(5), |_, _, _| Rendezvous::new());
    let to = world.addr(server);
    let nodes = [(a, Role::First), (b, Role::Second)].map(|(nat, role)| {
        let home = world.home(nat.clone());
        world.host(home, Link::millis(1), move |now, _, _| {
            let puncher = Puncher::new(now, role, to, ROUNDS);
            if answers { puncher } else { puncher.without_answers() }
        })
    });
    let direct = world.run_until(Duration::from_secs(1), |w| nodes.iter().all(|n| w.machine(*n).direct()));
    direct.is_ok()
}

#[test]
fn the_cells_that_go_direct_are_those_of_the_oracle() {
    let nats = Nat::all_nine();
    let mut direct = 0;
    for a in &nats {
        for b in &nats {
            let went = punch(1, a, b, true);
            let expected = posse_sim::oracle::reachable((a.mapping, a.filtering), (b.mapping, b.filtering));
            assert_eq!(went, expected, "{:?}/{:?} with {:?}/{:?}", a.mapping, a.filtering, b.mapping, b.filtering);
            direct += usize::from(went);
        }
    }
    assert_eq!(direct, 45);
}

#[test]
fn without_answering_observed_sources_only_21_cells_go_direct() {
    let nats = Nat::all_nine();
    let direct = nats.iter().flat_map(|a| nats.iter().filter(move |b| punch(1, a, b, false)));
    assert_eq!(direct.count(), 21);
}

#[test]
fn a_nat_that_preserves_ports_is_as_easy_as_one_that_maps_endpoint_independently() {
    for a in &Nat::all_nine() {
        for b in &Nat::all_nine() {
            let [a, b] = [a, b].map(|n| n.clone().allocation(Allocation::Preserving));
            assert!(punch(1, &a, &b, true), "{a:?} with {b:?}");
        }
    }
}
