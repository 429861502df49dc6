//! The whole way once, on the simulated network.

use posse_core::{Channel, ClientEvent, JoinOutcome, Path, PeerId};
use posse_sim::nat::{Filtering, Mapping, Nat};
use posse_sim::{Chance, Link};
use posse_tests::{App, Lab, tally};
use std::time::Duration;

fn port_restricted() -> Nat {
    Nat::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent)
}

#[test]
fn a_group_forms_messages_flow_by_relay_the_hole_opens_and_traffic_goes_direct() {
    let mut lab = Lab::new(1);
    let (a, b) = (lab.home(port_restricted()), lab.home(port_restricted()));
    let ids = lab.log_in();
    let formed = lab.world.now();
    let group = lab.group(&ids);

    // One way from the server to a client is 50 ms, so the first message can be there after 150 ms.
    lab.world.run_until(Duration::from_secs(1), |w| w.machine(a).client.members(group).count() == 2).unwrap();
    assert!(lab.send(a, group, Channel::reliable(0), b"hello"));
    lab.world.run_until(Duration::from_secs(1), |w| !w.machine(b).messages.is_empty()).unwrap();
    let (at, message, bytes) = lab.world.machine(b).messages[0].clone();
    assert_eq!((&bytes[..], message.from, message.group), (&b"hello"[..], ids[0], Some(group)));
    assert!(!message.direct);
    assert!(at.since(formed) <= Duration::from_micros(157_500), "first message after {:?}", at.since(formed));
}

#[test]
fn both_sides_are_direct_a_round_trip_after_the_later_of_them_knows_of_the_other() {
    let mut lab = Lab::new(1);
    let (a, b) = (lab.home(port_restricted()), lab.home(port_restricted()));
    let ids = lab.log_in();
    let formed = lab.world.now();
    let group = lab.group(&ids);
    assert!(lab.run_until_direct(a, b, Duration::from_secs(2)));
    // The later join arrives after 50 ms; one round trip between the homes is 40 ms.
    let took = lab.world.now().since(formed);
    assert!(took <= Duration::from_millis(99), "direct after {took:?}");
    let Some(Path::Direct { rtt }) = lab.world.machine(a).path(ids[1]) else { panic!("direct") };
    assert!(rtt < Duration::from_millis(60), "{rtt:?}");

    lab.world.run_for(Duration::from_secs(1)).unwrap();
    assert!(lab.send(a, group, Channel::reliable(0), b"direct now"));
    lab.world.run_until(Duration::from_secs(1), |w| !w.machine(b).messages.is_empty()).unwrap();
    assert!(lab.world.machine(b).messages[0].1.direct);

    let completed = lab.world.machine(lab.desk).completed();
    assert_eq!(completed.len(), 2);
    assert!(completed.iter().all(|(_, _, outcome)| *outcome == JoinOutcome::Ok));
    assert!(matches!(lab.world.machine(lab.desk).server.path(ids[0], ids[1]), Some(Path::Direct { .. })));
    assert!(lab.world.machine(a).peer(ids[1]).unwrap().forward_secret);
}

#[test]
fn client_and_server_exchange_messages_of_64_kib() {
    let mut lab = Lab::new(2);
    let a = lab.home(port_restricted());
    let ids = lab.log_in();
    let big: Vec<u8> = (0..64 * 1024u32).map(|i| (i % 251) as u8).collect();
    assert!(lab.send(a, PeerId::SERVER, Channel::reliable(3), &big));
    let desk = lab.desk;
    lab.world.act(desk, |desk, now| {
        desk.server.send(now, ids[0], Channel::reliable(4), &big, Default::default()).unwrap();
    });
    let both = |w: &mut posse_sim::World| !w.machine(desk).messages.is_empty() && !w.machine(a).messages.is_empty();
    lab.world.run_until(Duration::from_secs(10), both).unwrap();
    assert!(lab.world.machine(desk).messages[0].2 == big);
    assert!(lab.world.machine(a).messages[0].2 == big);
    assert_eq!(lab.world.machine(a).messages[0].1.from, PeerId::SERVER);
}

#[test]
fn ten_forced_switches_at_five_percent_loss_lose_repeat_and_reorder_nothing() {
    let mut lab = Lab::new(3);
    let lossy = Link::millis(10).loss(Chance::percent(5));
    let internet = lab.world.internet();
    let nets = [(); 2].map(|()| lab.world.nat(internet, port_restricted(), lossy));
    let (a, b) = (lab.client_on(nets[0], Link::PERFECT), lab.client_on(nets[1], Link::PERFECT));
    let ids = lab.log_in();
    let group = lab.group(&ids);
    let (mut sent, mut switches) = (0u64, 0);
    for round in 0..24 {
        if round % 2 == 1 {
            lab.world.block_between(a, b);
        } else {
            lab.world.unblock_between(a, b);
        }
        let was = lab.direct(a, b);
        for _ in 0..500 {
            sent += u64::from(lab.send(a, group, Channel::reliable(0), &sent.to_be_bytes()));
            lab.world.run_for(Duration::from_millis(20)).unwrap();
        }
        switches += u32::from(lab.direct(a, b) != was);
    }
    lab.world.run_for(Duration::from_secs(10)).unwrap();
    let messages = &lab.world.machine(b).messages;
    let got = messages.iter().map(|(_, _, bytes)| u64::from_be_bytes(bytes[..].try_into().unwrap()));
    assert_eq!(tally(sent, got), Default::default());
    assert!(switches >= 10, "{switches} switches");
    let direct = messages.iter().filter(|m| m.1.direct).count();
    assert!(direct > 0 && direct < messages.len());
}

#[test]
fn who_leaves_hears_of_it_and_nothing_of_the_group_follows() {
    let mut lab = Lab::new(4);
    let (a, b) = (lab.home(port_restricted()), lab.home(port_restricted()));
    let ids = lab.log_in();
    let group = lab.group(&ids);
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    lab.world.act(lab.desk, |desk, now| desk.server.leave_group(now, ids[1], group)).unwrap();
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    let left = |app: &App| app.events.iter().filter(|(_, e)| matches!(e, ClientEvent::MemberLeft { .. })).count();
    assert_eq!((left(lab.world.machine(a)), left(lab.world.machine(b))), (1, 1));
    assert!(!lab.send(b, group, Channel::reliable(0), b"x"));
    assert!(!lab.send(a, ids[1], Channel::reliable(0), b"x"));
    assert_eq!(lab.world.machine(a).client.peers().count(), 0);
    let size = lab.world.machine(lab.desk).server.size();
    assert_eq!((size.pairs, size.routes, size.groups), (0, 0, 1));
}
