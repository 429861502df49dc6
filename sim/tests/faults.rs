//! Hosts that stand still, clocks that jump, addresses and links that change.

use posse_core::{Duration, Instant};
use posse_sim::machines::{EchoClient, EchoServer};
use posse_sim::{DropReason, Link, Nat, Net, Node, World};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A server 5 ms from the internet and a client in a home 15 ms from it that pings it every 10 ms.
fn echo(pings: (u64, usize)) -> (World, Net, Node<EchoServer>, Node<EchoClient>) {
    let mut world = World::new(1);
    let server = world.host(world.internet(), Link::millis(5), |_, _, _| EchoServer::new());
    let (to, home) = (world.addr(server), world.home(Nat::symmetric()));
    let make = move |now, _, seed| EchoClient::new(now, to, seed, pings, 10 * MS);
    let client = world.host(home, Link::millis(5), make);
    (world, home, server, client)
}

fn numbers(world: &World, client: Node<EchoClient>) -> Vec<u64> {
    world.machine(client).received().iter().map(|(_, number)| *number).collect()
}

fn nothing_is_unaccounted_for(world: &World) {
    let c = world.counters();
    assert_eq!(c.sent + c.duplicated, c.delivered + c.dropped_total() + world.in_flight());
}

#[test]
fn a_paused_host_gets_everything_at_once_when_it_goes_on() {
    let (mut world, _, server, client) = echo((100, 100));
    world.run_for(101 * MS).unwrap();
    world.pause(server);
    let before = world.machine(client).received().len();
    world.run_for(500 * MS).unwrap();
    // What was on its way back when the server stopped still came.
    assert!(world.machine(client).received().len() <= before + 3);
    assert!(world.in_flight() >= 45);
    nothing_is_unaccounted_for(&world);
    world.resume(server);
    world.run_for(SECOND).unwrap();
    assert_eq!(numbers(&world, client), (0..100).collect::<Vec<_>>());
    let burst = world.machine(client).received().iter().filter(|(at, _)| *at == Instant::from_millis(621)).count();
    assert!(burst >= 45, "{burst}");
}

#[test]
fn a_paused_client_sends_nothing_and_catches_up() {
    let (mut world, _, _, client) = echo((100, 100));
    world.run_for(101 * MS).unwrap();
    world.pause(client);
    let sent = world.counters().sent;
    world.run_for(500 * MS).unwrap();
    // The server still answers what was under way.
    assert!(world.counters().sent <= sent + 2);
    world.resume(client);
    world.run_for(2 * SECOND).unwrap();
    assert_eq!(world.machine(client).received().len(), 100);
}

#[test]
fn what_a_paused_hosts_buffer_has_no_room_for_is_dropped() {
    let (mut world, _, server, client) = echo((1_000, 1_200));
    world.pause(server);
    world.run_for(11 * SECOND).unwrap();
    let kept = (208 << 10) / 1_228;
    assert_eq!((world.in_flight(), world.counters().dropped(DropReason::Buffer)), (kept, 1_000 - kept));
    world.restart(server);
    assert_eq!((world.in_flight(), world.counters().dropped(DropReason::NoSocket)), (0, kept));
    nothing_is_unaccounted_for(&world);
    assert!(world.machine(client).received().is_empty());
}

#[test]
fn a_clock_that_jumps_ahead_makes_timers_come_early_and_one_that_jumps_back_late() {
    for (jump, all_by) in [(SECOND.as_nanos() as i64, 1_100), (-(SECOND.as_nanos() as i64), 3_100)] {
        let (mut world, _, _, client) = echo((200, 100));
        world.run_for(1_001 * MS).unwrap();
        world.jump_clock(client, jump);
        let wanted = world.run_until(10 * SECOND, |w| w.machine(client).received().len() == 200).unwrap();
        assert!(wanted <= Instant::from_millis(all_by), "{jump}: {wanted:?}");
        assert!(jump > 0 || wanted >= Instant::from_millis(2_900));
    }
    // Below its beginning a clock stands still; a jump over centuries is no problem either.
    let (mut world, _, server, client) = echo((200, 100));
    world.run_for(500 * MS).unwrap();
    world.jump_clock(client, i64::MIN);
    world.jump_clock(server, i64::MAX);
    world.run_for(SECOND).unwrap();
    nothing_is_unaccounted_for(&world);
}

#[test]
fn a_nat_that_comes_back_with_another_address_is_left_by_it_and_the_old_one_is_nobodys() {
    let (mut world, home, _, client) = echo((100, 100));
    world.run_for(501 * MS).unwrap();
    let old = world.public_ip(client);
    world.reboot_nat_with_new_address(home);
    assert_ne!(world.public_ip(client), old);
    world.run_for(SECOND).unwrap();
    // Two answers were under way to the old address, and the NAT knew nothing of one more on its own link.
    let lost = 100 - world.machine(client).received().len() as u64;
    let c = world.counters();
    assert!((1..=5).contains(&lost), "{lost}");
    assert_eq!(c.dropped(DropReason::NoRoute) + c.dropped(DropReason::NoMapping), lost);
}

#[test]
fn a_host_that_moves_keeps_its_sockets_and_is_reached_at_its_new_address() {
    let (mut world, _, _, client) = echo((100, 100));
    world.run_for(501 * MS).unwrap();
    let (old, public) = (world.addr(client), world.internet());
    world.move_host(client, public, Link::millis(5));
    assert_ne!(world.addr(client), old);
    assert_eq!((world.addr(client).port(), world.net_of(client)), (old.port(), public));
    world.run_for(SECOND).unwrap();
    let lost = 100 - world.machine(client).received().len() as u64;
    assert!((1..=5).contains(&lost), "{lost}");
    assert_eq!(world.counters().dropped(DropReason::NoRoute), lost);
    // The new link is its link now.
    world.cut(client);
    assert!(world.link(client).is_some());
    nothing_is_unaccounted_for(&world);
}

#[test]
fn a_queue_leaves_at_the_new_rate_and_in_order() {
    // 100 packets of 1028 bytes at 1 Mb/s: 8.224 ms each.
    let slow = Link::millis(5).jitter(MS).rate(1_000_000, 1 << 20);
    for (rate, least, most) in [(Some(10_000_000), 177, 180), (Some(500_000), 1_549, 1_553), (None, 105, 108)] {
        let mut world = World::new(3);
        let server = world.host(world.internet(), Link::PERFECT, |_, _, _| EchoServer::new());
        let to = world.addr(server);
        let make = move |now, _, seed| EchoClient::new(now, to, seed, (100, 1_000), Duration::from_nanos(1));
        let client = world.host(world.internet(), Link { up: slow.up, down: Link::PERFECT.down }, make);
        world.run_for(100 * MS).unwrap();
        let link = world.link(client).unwrap();
        world.set_link(client, Link { up: posse_sim::Direction { rate, ..link.up }, ..link });
        world.run_for(10 * SECOND).unwrap();
        assert_eq!(numbers(&world, client), (0..100).collect::<Vec<_>>(), "{rate:?}");
        let (last, _) = *world.machine(client).received().last().unwrap();
        assert!((Instant::from_millis(least)..Instant::from_millis(most)).contains(&last), "{rate:?}: {last:?}");
        nothing_is_unaccounted_for(&world);
    }
}

#[test]
fn a_rate_that_breaks_down_and_recovers_does_not_block_what_comes_later() {
    let (mut world, _, _, client) = echo((200, 1_000));
    let usual = world.link(client).unwrap();
    world.run_for(501 * MS).unwrap();
    world.set_link(client, usual.rate(100, 1 << 20));
    world.run_for(500 * MS).unwrap();
    world.set_link(client, usual);
    world.run_for(2 * SECOND).unwrap();
    assert_eq!(numbers(&world, client), (0..200).collect::<Vec<_>>());
}

#[test]
fn faults_give_the_same_digest_twice_and_each_counts_in_it() {
    let run = |which: u32| {
        let (mut world, home, server, client) = echo((100, 100));
        world.run_for(300 * MS).unwrap();
        match which {
            1 => world.pause(server),
            2 => world.jump_clock(client, 1),
            3 => world.reboot_nat(home),
            4 => world.reboot_nat_with_new_address(home),
            5 => world.move_host(client, home, Link::millis(5)),
            6 => world.set_link(client, Link::millis(6)),
            _ => {}
        }
        world.run_for(SECOND).unwrap();
        world.digest()
    };
    let mut all: Vec<_> = (0..7).map(run).collect();
    assert_eq!(all, (0..7).map(run).collect::<Vec<_>>());
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 7);
}
