//! Where the parts meet: logins and sessions that end at awkward moments, joins that are lost, bursts of membership.

use posse_core::client::Client;
use posse_core::config::ServerConfig;
use posse_core::server::{GroupOptions, Server, ServerSize};
use posse_core::{Channel, ClientEvent, EndReason, JoinOutcome, LoginFailure};
use posse_sim::nat::{Filtering, Mapping, Nat};
use posse_sim::{Chance, Link, World};
use posse_tests::{APP, Desk, Lab, SERVER_KEY};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

fn plain() -> Nat {
    Nat::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent)
}

fn lab_with(seed: u64, change: impl Fn(&mut ServerConfig) + 'static) -> Lab {
    let mut world = World::new(seed);
    let internet = world.internet();
    let desk = world.host(internet, Link::millis(40), move |now, _, seed| {
        let mut config = ServerConfig::new(SERVER_KEY, APP, seed);
        change(&mut config);
        Desk::new(Server::new(now, config).expect("a valid configuration"))
    });
    Lab { world, desk, apps: Vec::new() }
}

fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => panic!("{v6}"),
    }
}

#[test]
fn who_disconnects_twice_says_goodbye_once() {
    let mut lab = Lab::new(11);
    let a = lab.home(plain());
    lab.log_in();
    lab.world.act(a, |app, now| {
        app.client.disconnect(now);
        app.client.disconnect(now);
    });
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(lab.world.machine(lab.desk).server.size(), ServerSize::default());
    let ends = lab.world.machine(a).events.iter().filter(|(_, e)| matches!(e, ClientEvent::Ended(_))).count();
    assert_eq!(ends, 1);
}

#[test]
fn who_disconnects_before_the_welcome_arrives_leaves_no_ghost() {
    let mut lab = Lab::new(12);
    let a = lab.home(plain());
    let desk = lab.desk;
    lab.world.run_until(Duration::from_secs(2), |w| w.machine(desk).server.size().clients == 1).unwrap();
    assert_eq!(lab.id(a), None);
    lab.world.act(a, |app, now| app.client.disconnect(now));
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(lab.world.machine(desk).server.size(), ServerSize::default());
    lab.world.act(a, |app, now| app.poll(now));
    let events: Vec<_> = lab.world.machine(a).events.iter().map(|(_, e)| e.clone()).collect();
    assert_eq!(events, [ClientEvent::Ended(EndReason::Local)]);
}

#[test]
fn a_server_holds_no_more_sessions_than_its_limit_though_all_ask_at_once() {
    let mut lab = lab_with(13, |config| config.limits.max_clients = 2);
    for _ in 0..4 {
        lab.home(plain());
    }
    lab.world.run_for(Duration::from_secs(3)).unwrap();
    assert_eq!(lab.world.machine(lab.desk).server.size().sessions, 2);
    let full = ClientEvent::LoginFailed(LoginFailure::ServerFull);
    let refused = lab.apps.iter().filter(|a| lab.world.machine(**a).events.iter().any(|(_, e)| *e == full)).count();
    assert_eq!(refused, 2);
    // A place that was left can be taken.
    let online = lab.apps.iter().copied().find(|a| lab.id(*a).is_some()).unwrap();
    lab.world.act(online, |app, now| app.client.disconnect(now));
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    let late = lab.home(plain());
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    assert!(lab.id(late).is_some());
}

#[test]
fn a_join_that_was_lost_comes_again_beside_the_first_message_and_does_not_delay_it() {
    let mut lab = Lab::new(14);
    let (a, b) = (lab.home(plain()), lab.home(plain()));
    let ids = lab.log_in();
    let (server, receiver) = (v4(lab.world.addr(lab.desk).ip()), lab.world.public_ip(b));
    let formed = lab.world.now();
    lab.world.block(server, receiver);
    let group = lab.group(&ids);
    lab.world.run_until(Duration::from_secs(1), |w| w.machine(a).client.members(group).count() == 2).unwrap();
    lab.world.unblock(server, receiver);
    assert_eq!(lab.world.machine(b).client.members(group).count(), 0);
    assert!(lab.send(a, group, Channel::reliable(0), b"hello"));
    lab.world.run_until(Duration::from_secs(1), |w| !w.machine(b).messages.is_empty()).unwrap();
    let took = lab.world.machine(b).messages[0].0.since(formed);
    assert!(took <= Duration::from_micros(157_500), "as fast as without the loss, but {took:?}");
}

#[test]
fn messages_of_a_second_stay_that_outran_the_end_of_an_unpolled_first_one_are_kept() {
    let mut lab = Lab::new(15);
    let (a, b) = (lab.home(plain()), lab.home(plain()));
    let ids = lab.log_in();
    // A direct path, so that the second's control messages can be late without the first's messages being so.
    lab.group(&ids);
    assert!(lab.run_until_direct(a, b, Duration::from_secs(3)));
    lab.world.run_for(Duration::from_secs(2)).unwrap();
    let group = lab.group(&ids[1..]);
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    lab.world.act(b, |app, _| app.away = true);
    let join = |lab: &mut Lab| {
        lab.world.act(lab.desk, |desk, now| desk.server.join_group(now, ids[0], group, b"")).unwrap();
    };
    join(&mut lab);
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    let (desk, server, receiver) = (lab.desk, v4(lab.world.addr(lab.desk).ip()), lab.world.public_ip(b));
    lab.world.block(server, receiver);
    lab.world.act(desk, |desk, now| desk.server.leave_group(now, ids[0], group)).unwrap();
    join(&mut lab);
    lab.world.run_until(Duration::from_secs(1), |w| w.machine(a).client.members(group).count() == 2).unwrap();
    lab.world.run_for(Duration::from_millis(100)).unwrap();
    for n in 0..5u8 {
        assert!(lab.send(a, group, Channel::reliable(7), &[n]));
    }
    lab.world.run_for(Duration::from_millis(200)).unwrap();
    lab.world.unblock(server, receiver);
    lab.world.run_for(Duration::from_secs(5)).unwrap();
    lab.world.act(b, |app, now| {
        app.away = false;
        app.poll(now);
    });
    lab.world.run_for(Duration::from_secs(5)).unwrap();
    let got: Vec<_> = lab.world.machine(b).messages.iter().map(|(_, _, bytes)| bytes[0]).collect();
    assert_eq!(got, [0, 1, 2, 3, 4]);
}

#[test]
fn hundreds_of_joins_with_long_messages_at_once_end_no_session() {
    let mut lab = Lab::new(16);
    lab.home(plain());
    lab.home(plain());
    let ids = lab.log_in();
    let message = vec![7; 4096];
    lab.world.act(lab.desk, |desk, now| {
        for _ in 0..300 {
            desk.server.create_group(now, &ids, GroupOptions::default().message(&message)).unwrap();
        }
    });
    lab.world.run_for(Duration::from_secs(25)).unwrap();
    let desk = lab.world.machine(lab.desk);
    assert_eq!(desk.server.size().clients, 2);
    let ok = desk.completed().iter().filter(|(_, _, outcome)| *outcome == JoinOutcome::Ok).count();
    assert_eq!(ok, 600);
}

#[test]
fn a_login_over_a_link_that_loses_repeats_and_reorders_is_one_session_at_both_ends() {
    for seed in 0..20 {
        let mut lab = Lab::new(100 + seed);
        let internet = lab.world.internet();
        let link = Link::millis(20)
            .loss(Chance::percent(30))
            .duplicate(Chance::percent(40))
            .reorder(Chance::percent(40), Duration::from_millis(900));
        let net = lab.world.nat(internet, plain(), link);
        let a = lab.client_on(net, Link::PERFECT);
        let online = lab.world.run_until(Duration::from_secs(8), |w| w.machine(a).client.id().is_some());
        lab.world.set_link(net, Link::millis(20));
        lab.world.run_for(Duration::from_secs(40)).unwrap();
        let size = lab.world.machine(lab.desk).server.size();
        let client: &Client = &lab.world.machine(a).client;
        if online.is_ok() {
            assert_eq!((size.sessions, size.clients), (1, 1), "seed {seed}");
            assert!(client.id().is_some(), "seed {seed}");
        } else {
            assert!(size.clients <= 1, "seed {seed}");
        }
        assert_eq!(lab.world.machine(lab.desk).server.counters().violations, 0, "seed {seed}");
        assert_eq!(client.counters().violations, 0, "seed {seed}");
    }
}
