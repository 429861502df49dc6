//! Attacks on relay, membership and timers by those who are let in, and on the server by those who are not. Each is a row of the
//! table in docs/security.md.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse_core::config::{ClientConfig, Rate, RelayBudget, ServerConfig};
use posse_core::{
    Channel, Client, ClientEvent, Ecn, Input, Instant, Machine, Outbox, PeerId, SendOptions, Server, SocketId,
};
use posse_sim::Link;
use posse_sim::nat::Nat;
use posse_tests::{APP, Lab, Logged, SERVER_KEY, drain, hand, request};
use std::net::SocketAddr;
use std::time::Duration;

fn server(seed: u8) -> Server {
    Server::new(Instant::ZERO, ServerConfig::new(SERVER_KEY, APP, [seed; 32])).unwrap()
}

fn client(n: u8) -> Client {
    let key = posse_core::secure::public_key(&SERVER_KEY);
    Client::new(Instant::ZERO, ClientConfig::new(at(1), key, APP, [n; 32])).unwrap()
}

fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([9, 9, 9, n], 4000))
}

/// Amplification.
#[test]
fn nothing_of_any_kind_and_size_draws_more_than_it_has() {
    let (mut server, mut out, login) = (server(1), Outbox::with_capacity(64 * 1024, 64), request(client(1)));
    let (mut answers, mut worst) = (0, 0.0_f64);
    for first in 0..=u8::MAX {
        for len in (0..=1500).step_by(if (0x81..=0x84).contains(&first) { 1 } else { 13 }) {
            let mut datagram: Vec<u8> = login.iter().copied().cycle().take(len).collect();
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            hand(&mut server, Instant::ZERO, at(2), &datagram, &mut out);
            server.transmit(Instant::ZERO, &mut out);
            let sent: usize = drain(&mut out).iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(sent <= len, "{sent} bytes for {len} of {first:#x}");
            answers += usize::from(sent > 0);
            worst = worst.max(sent as f64 / len.max(1) as f64);
        }
    }
    println!("{answers} answered, at most {worst:.3} bytes a byte");
    assert_eq!(answers, 1, "the one genuine request");
}

/// Reply loops (CVE-2024-2169).
#[test]
fn two_servers_that_are_set_on_one_another_fall_silent_at_once() {
    let mut servers = [server(1), server(2)];
    let mut out = Outbox::with_capacity(64 * 1024, 64);
    // Requests that each seems to have sent to the other: read ones, and ones that have to come again with a cookie.
    let mut exchanged = 0;
    for n in 0..250 {
        let mut wire = vec![(0, request(client(n)))];
        while let Some((to, bytes)) = wire.pop() {
            hand(&mut servers[to], Instant::ZERO, at(2 - to as u8), &bytes, &mut out);
            let (now, server) = (Instant::ZERO, &mut servers[to]);
            server.transmit(now, &mut out);
            for (_, answer) in drain(&mut out) {
                exchanged += 1;
                wire.push((1 - to, answer));
            }
        }
    }
    assert_eq!(exchanged, 250, "one answer each, and none to it");
}

/// Empty datagrams.
#[test]
fn a_million_empty_datagrams_change_no_timer() {
    let (mut server, mut out) = (server(1), Outbox::with_capacity(64 * 1024, 64));
    hand(&mut server, Instant::ZERO, at(2), &request(client(1)), &mut out);
    drain(&mut out);
    let wake = server.wake();
    for _ in 0..1_000_000 {
        let input = Input::Datagrams {
            socket: SocketId::MAIN,
            from: at(2),
            local: None,
            ecn: Ecn::NotCapable,
            stride: 0,
            bytes: &mut [],
        };
        server.handle(Instant::ZERO, input, &mut out);
    }
    server.transmit(Instant::ZERO, &mut out);
    assert!(out.is_empty() && server.wake() == wake && wake.is_some());
}

/// Relay flooding.
#[test]
fn who_floods_the_relay_gets_its_budget_and_others_feel_nothing() {
    let rate = |per_second, burst| Rate { per_second, burst };
    let budget = RelayBudget { bytes: rate(50_000, 100_000), packets: rate(100, 200) };
    let latencies = |flood: bool| {
        let mut lab =
            Lab::with_server(7, Link::millis(40), move |config: &mut ServerConfig| config.limits.relay = budget);
        let apps: Vec<_> = (0..4).map(|_| lab.home(Nat::symmetric())).collect();
        let ids = lab.log_in();
        let (loud, quiet) = (lab.group(&ids[..2]), lab.group(&ids[2..]));
        lab.world.run_for(Duration::from_secs(3)).unwrap();
        let before = lab.world.machine(lab.desk).server.counters();
        for n in 0..250_u32 {
            for _ in 0..if flood { 20 } else { 0 } {
                lab.send(apps[0], loud, Channel::unreliable(0), &[1; 1_000]);
            }
            if n % 5 == 0 {
                lab.send(apps[2], quiet, Channel::reliable(0), &n.to_be_bytes());
            }
            lab.world.run_for(Duration::from_millis(20)).unwrap();
        }
        let after = lab.world.machine(lab.desk).server.counters();
        let over = after.relay_over_budget - before.relay_over_budget;
        if flood {
            assert!(over > 100, "{over} were too many");
            let about = lab.world.machine(apps[0]).client.about().unwrap();
            assert_eq!((about.relay_bytes, about.relay_packets), (50_000, 100), "it was told");
            let got = lab.world.machine(apps[1]).messages.len();
            assert!((50..=800).contains(&got), "{got} of 5,000 within 100 packets a second");
        } else {
            assert_eq!(over, 0);
        }
        let quiet = &lab.world.machine(apps[3]).messages;
        quiet.iter().map(|(at, ..)| *at).collect::<Vec<_>>()
    };
    assert_eq!(latencies(false), latencies(true), "to the nanosecond");
}

/// Ex-member with all keys.
#[test]
fn who_never_hears_of_its_leave_and_goes_on_with_all_its_keys_reaches_nobody() {
    for nat in [Nat::home(), Nat::symmetric()] {
        let mut lab = Lab::new(3);
        let [a, b] = [lab.home(nat.clone()), lab.home(nat)];
        let ids = lab.log_in();
        let group = lab.group(&ids);
        lab.world.run_for(Duration::from_secs(4)).unwrap();
        lab.world.block_way(lab.desk, b);
        lab.world.act(lab.desk, |desk, now| desk.server.leave_group(now, ids[1], group)).unwrap();
        for n in 0..100_u32 {
            for channel in [Channel::reliable(0), Channel::unreliable(0)] {
                lab.send(b, group, channel, &n.to_be_bytes());
                lab.send(b, ids[0], channel, &n.to_be_bytes());
            }
            lab.world.run_for(Duration::from_millis(50)).unwrap();
        }
        assert_eq!(lab.world.machine(b).client.members(group).count(), 2, "it does not know");
        let log = &lab.world.machine(a).log;
        let left = |l: &Logged| matches!(l, Logged::Event(ClientEvent::MemberLeft { member, .. }) if *member == ids[1]);
        let leave = log.iter().position(left).unwrap();
        let after = log[leave..].iter().filter(|l| matches!(l, Logged::Message(..))).count();
        assert_eq!(after, 0);
        let client = lab.world.machine(a).client.counters();
        let relay = lab.world.machine(lab.desk).server.counters();
        assert!(client.unknown + relay.relay_refused > 100, "it tried: {client:?} {relay:?}");
    }
}

/// Membership churn.
#[test]
fn thousands_of_joins_and_leaves_end_in_what_was_said_last() {
    let mut lab = Lab::new(6);
    let apps: Vec<_> = (0..3).map(|_| lab.home(Nat::home())).collect();
    let ids = lab.log_in();
    let group = lab.group(&ids[..2]);
    let start = std::time::Instant::now();
    let mut spent = Duration::ZERO;
    for _ in 0..10 {
        let before = start.elapsed();
        lab.world.act(lab.desk, |desk, now| {
            for _ in 0..250 {
                desk.server.join_group(now, ids[2], group, b"").unwrap();
                desk.server.leave_group(now, ids[2], group).unwrap();
            }
        });
        spent += start.elapsed() - before;
        lab.world.run_for(Duration::from_millis(500)).unwrap();
    }
    println!("{:?} a join or leave at the server", spent / 5_000);
    lab.world.act(lab.desk, |desk, now| desk.server.join_group(now, ids[2], group, b"")).unwrap();
    lab.world.run_for(Duration::from_secs(5)).unwrap();
    for app in &apps {
        let members: Vec<PeerId> = lab.world.machine(*app).client.members(group).collect();
        assert_eq!(members, ids);
    }
    for (from, to) in [(0, 2), (2, 1)] {
        let options = SendOptions::default();
        lab.world
            .act(apps[from], |app, now| app.client.send(now, ids[to], Channel::reliable(0), b"there", options))
            .unwrap();
    }
    lab.world.run_for(Duration::from_secs(2)).unwrap();
    assert!(lab.world.machine(apps[2]).messages.len() == 1 && lab.world.machine(apps[1]).messages.len() == 1);
}
