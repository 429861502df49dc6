//! The same seed and the same calls give the same world: in one process, and in another.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use posse_core::Duration;
use posse_sim::machines::{EchoClient, EchoServer, Puncher, Rendezvous, Role};
use posse_sim::{Allocation, Chance, Link, Nat, World};
use std::process::Command;

/// Set for a child process, which only prints its digest.
const CHILD: &str = "POSSE_SIM_DIGEST_OF_SEED";

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A bit of everything; the digest over it and how many events that were.
fn history(seed: u64) -> (u128, u64) {
    let mut world = World::new(seed);
    let internet = world.internet();
    let faulty = Link::millis(8)
        .loss(Chance::percent(3))
        .duplicate(Chance::percent(3))
        .corrupt(Chance::percent(3))
        .reorder(Chance::percent(3), millis(5))
        .jitter(millis(3))
        .rate(2_000_000, 20_000);
    let echo = world.host(internet, Link::millis(4), |_, _, _| EchoServer::new());
    let to = world.addr(echo);
    let mut clients = Vec::new();
    for nat in Nat::all_nine() {
        let carrier = world.nat(internet, nat.clone().lifetime(millis(300)), faulty);
        let home = world.nat(carrier, nat.allocation(Allocation::Preserving), Link::millis(1));
        clients.push(world.host(home, faulty, move |now, _, s| EchoClient::new(now, to, s, (200, 600), millis(7))));
    }
    let server = world.host(internet, faulty, |_, _, _| Rendezvous::new());
    let to = world.addr(server);
    for role in [Role::First, Role::Second] {
        let home = world.home(Nat::home());
        world.host(home, faulty, move |now, _, _| Puncher::new(now, role, to, 40));
    }
    world.run_for(millis(500)).unwrap();
    world.restart(clients[3]);
    world.act(clients[4], |m, now| m.say(now, b"hello"));
    world.cut_down(clients[5]);
    world.reboot_nat(world.net_of(clients[6]));
    world.block_between(clients[7], echo);
    world.set_link(echo, faulty);
    world.run_for(millis(500)).unwrap();
    world.heal(clients[5]);
    world.unblock_between(clients[7], echo);
    world.run_for(Duration::from_secs(2)).unwrap();
    (world.digest(), world.events())
}

#[test]
fn a_world_runs_the_same_twice_in_one_process() {
    for seed in 0..5 {
        assert_eq!(history(seed), history(seed));
    }
}

#[test]
fn another_seed_gives_another_world() {
    assert_ne!(history(1).0, history(2).0);
}

#[test]
fn a_world_runs_the_same_in_another_process() {
    if let Ok(seed) = std::env::var(CHILD) {
        let seed = seed.parse().expect("the parent passes a number");
        println!("digest {:032x}", history(seed).0);
        return;
    }
    for seed in [0, u64::MAX] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_world_runs_the_same_in_another_process", "--nocapture"])
            .env(CHILD, seed.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(said.contains(&format!("digest {:032x}", history(seed).0)), "{said}");
    }
}

#[test]
fn one_bit_of_difference_anywhere_changes_the_digest() {
    let run = |bytes: &'static [u8]| {
        let mut world = World::new(1);
        let to = "5.0.0.1:4000".parse().unwrap();
        let client = world
            .host(world.internet(), Link::millis(1), move |now, _, s| EchoClient::new(now, to, s, (0, 0), millis(1)));
        world.act(client, |m, now| m.say(now, bytes));
        world.run_for(millis(10)).unwrap();
        world.digest()
    };
    assert_ne!(run(b"a message"), run(b"a messagf"));
}
