//! Groups, destinations and figures that a game's server and clients have: one test for each row of
//! docs/migrating-from-proudnet.md that no other test covers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse_core::server::{CreateGroupError, HostWeights};
use posse_core::{Channel, ClientEvent, GroupOptions, JoinOutcome, Path, PeerId, SendOptions, ServerEvent, Target};
use posse_sim::nat::Nat;
use posse_sim::{Link, Node};
use posse_tests::{App, Lab, tally};
use std::time::Duration;

fn three(seed: u64) -> (Lab, [Node<App>; 3], Vec<PeerId>) {
    let mut lab = Lab::new(seed);
    let apps = [Nat::home(), Nat::home(), Nat::symmetric()].map(|nat| lab.home(nat));
    let ids = lab.log_in();
    (lab, apps, ids)
}

fn got(lab: &Lab, app: Node<App>) -> Vec<(PeerId, Vec<u8>)> {
    lab.world.machine(app).messages.iter().map(|(_, message, bytes)| (message.from, bytes.clone())).collect()
}

#[test]
fn a_server_that_is_a_member_sends_to_its_group_and_gets_what_members_send() {
    let (mut lab, apps, ids) = three(1);
    let make = |desk: &mut posse_tests::Desk, now| {
        desk.server.create_group(now, &ids[..2], GroupOptions::default().server_is_member())
    };
    let group = lab.world.act(lab.desk, make).unwrap();
    lab.world.run_for(Duration::from_millis(500)).unwrap();
    let numbers = Channel::reliable(3);
    for n in 0..200_u64 {
        if n == 100 {
            lab.world.act(lab.desk, |desk, now| desk.server.join_group(now, ids[2], group, b"late")).unwrap();
            lab.world.run_for(Duration::from_millis(500)).unwrap();
        }
        lab.world
            .act(lab.desk, |desk, now| desk.server.send(now, group, numbers, &n.to_be_bytes(), SendOptions::default()))
            .unwrap();
        assert!(lab.send(apps[0], group, numbers, &n.to_be_bytes()));
        lab.world.run_for(Duration::from_millis(10)).unwrap();
    }
    lab.world.run_for(Duration::from_secs(2)).unwrap();
    for (app, first) in [(0, 0), (1, 0), (2, 100)] {
        let all = &lab.world.machine(apps[app]).messages;
        let of_server = all.iter().filter(|(_, m, _)| m.from.is_server() && m.group == Some(group));
        let of_server = of_server.map(|(.., bytes)| u64::from_be_bytes(bytes[..].try_into().unwrap()) - first);
        assert_eq!(tally(200 - first, of_server), Default::default(), "client {app}");
        let joined = lab.world.machine(apps[app]).events.iter().filter(
            |(_, event)| matches!(event, ClientEvent::MemberJoined { member: PeerId::SERVER, group: g, .. } if *g == group),
        );
        assert_eq!(joined.count(), 1);
        assert!(lab.world.machine(apps[app]).client.members(group).any(PeerId::is_server));
    }
    let desk = lab.world.machine(lab.desk);
    let from_first = desk.messages.iter().filter(|(_, m, _)| m.from == ids[0] && m.group == Some(group));
    let from_first = from_first.map(|(.., bytes)| u64::from_be_bytes(bytes[..].try_into().unwrap()));
    assert_eq!(tally(200, from_first), Default::default());
    let ok = desk.completed().iter().filter(|(g, _, outcome)| (*g, *outcome) == (group, JoinOutcome::Ok)).count();
    assert_eq!(ok, 3, "all three joins are complete");

    // Nothing that a member sends after it left is taken; the group ends with its last client, server or not.
    lab.world.act(lab.desk, |desk, now| desk.server.leave_group(now, ids[0], group)).unwrap();
    let before = lab.world.machine(lab.desk).messages.len();
    lab.send(apps[0], group, numbers, b"too late");
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(lab.world.machine(lab.desk).messages.len(), before);
    for id in &ids[1..] {
        lab.world.act(lab.desk, |desk, now| desk.server.leave_group(now, *id, group)).unwrap();
    }
    lab.world.run_for(Duration::from_millis(1)).unwrap();
    let ended = |(_, event): &(_, ServerEvent)| *event == ServerEvent::GroupEnded(group);
    assert!(lab.world.machine(lab.desk).events.iter().any(ended));
    let refused =
        lab.world.act(lab.desk, |desk, now| desk.server.send(now, group, numbers, b"", SendOptions::default()));
    assert!(refused.is_err());
}

#[test]
fn a_group_may_stay_when_it_is_empty_and_all_empty_ones_may_be_ended_at_once() {
    let (mut lab, _, ids) = three(2);
    let keep = GroupOptions::default().keep_empty();
    let (kept, other) = lab.world.act(lab.desk, |desk, now| {
        let kept = desk.server.create_group(now, &ids[..1], keep).unwrap();
        let other = desk.server.create_group(now, &ids[..1], GroupOptions::default()).unwrap();
        desk.server.leave_group(now, ids[0], kept).unwrap();
        desk.server.leave_group(now, ids[0], other).unwrap();
        (kept, other)
    });
    lab.world.run_for(Duration::from_millis(500)).unwrap();
    let left = lab.world.act(lab.desk, |desk, _| desk.server.groups().collect::<Vec<_>>());
    assert_eq!(left, [kept], "not {other:?}");
    lab.world.act(lab.desk, |desk, now| desk.server.join_group(now, ids[1], kept, b"")).unwrap();
    assert_eq!(lab.world.act(lab.desk, |desk, now| desk.server.destroy_empty_groups(now)), 0);
    lab.world.act(lab.desk, |desk, now| desk.server.leave_group(now, ids[1], kept)).unwrap();
    assert_eq!(lab.world.act(lab.desk, |desk, now| desk.server.destroy_empty_groups(now)), 1);
    lab.world.run_for(Duration::from_millis(1)).unwrap();
    assert_eq!(lab.world.machine(lab.desk).server.groups().count(), 0);
}

#[test]
fn a_group_may_have_a_number_of_the_applications_choice_and_an_id_that_none_had_before() {
    let (mut lab, _, ids) = three(3);
    lab.world.act(lab.desk, |desk, now| {
        let numbered = GroupOptions::default().number(77);
        let first = desk.server.create_group(now, &ids[..2], numbered).unwrap();
        assert_eq!(desk.server.group_numbered(77), Some(first));
        assert_eq!(desk.server.create_group(now, &[], numbered), Err(CreateGroupError::NumberTaken(77)));
        assert_eq!(
            desk.server.create_group(now, &[], GroupOptions::default().number(1 << 31)),
            Err(CreateGroupError::NumberTaken(1 << 31))
        );
        desk.server.destroy_group(now, first).unwrap();
        assert_eq!(desk.server.group_numbered(77), None);
        let second = desk.server.create_group(now, &ids[..2], numbered).unwrap();
        assert!(second != first && second.slot() == first.slot());
        assert!(desk.server.destroy_group(now, first).is_err(), "an id of before is nobody's");
        assert_eq!(desk.server.group_rules(second).unwrap().number, Some(77));
    });
}

#[test]
fn a_list_of_destinations_reaches_everybody_on_it_once() {
    let (mut lab, apps, ids) = three(4);
    let (all, two) = (lab.group(&ids), lab.group(&ids[..2]));
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    let peers = [ids[1], PeerId::SERVER, ids[1], ids[0]].map(Target::Peer);
    let list = [&[Target::Group(all), Target::Group(two)][..], &peers].concat();
    let channel = Channel::reliable(0);
    let send = |app: &mut App, now| app.client.send_list(now, &list, channel, b"to you", SendOptions::default());
    let sent = lab.world.act(apps[0], send).unwrap();
    assert_eq!(sent.receivers, 3, "two peers and the server");
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    for app in apps {
        assert_eq!(got(&lab, app), [(ids[0], b"to you".to_vec())], "itself included, as it is on the list");
    }
    assert_eq!(lab.world.machine(lab.desk).messages.len(), 1);

    let list = [Target::Group(two), Target::Peer(ids[0]), Target::Peer(ids[2])];
    let send = |desk: &mut posse_tests::Desk, now| {
        desk.server.send_list(now, &list, channel, b"to all", SendOptions::default())
    };
    assert_eq!(lab.world.act(lab.desk, send).unwrap().receivers, 3);
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    for app in apps {
        assert_eq!(got(&lab, app).last(), Some(&(PeerId::SERVER, b"to all".to_vec())));
        assert_eq!(got(&lab, app).len(), 2);
    }
    let gone = [Target::Peer(PeerId::new(9, 9)), Target::Peer(ids[1])];
    let refused = lab
        .world
        .act(apps[0], |app, now| app.client.send_list(now, &gone, channel, b"nobody", SendOptions::default()).is_err());
    assert!(refused, "nothing is sent to anyone");
}

#[test]
fn the_server_knows_who_is_where_and_how_traffic_goes() {
    let (mut lab, apps, ids) = three(5);
    let group = lab.group(&ids);
    lab.group(&ids[..2]);
    lab.world.run_for(Duration::from_secs(5)).unwrap();
    let server = &lab.world.machine(lab.desk).server;
    assert_eq!(server.clients().collect::<Vec<_>>(), ids);
    assert_eq!(server.members(group).collect::<Vec<_>>(), ids);
    assert_eq!(
        (server.groups().count(), server.groups_of(ids[0]).count(), server.groups_of(ids[2]).count()),
        (2, 2, 1)
    );
    assert_eq!(server.peers_of(ids[0]).collect::<Vec<_>>(), ids[1..]);
    assert!(matches!(server.path(ids[0], ids[1]), Some(Path::Direct { .. })));
    let (direct, is_direct) = server.pair_rtt(ids[0], ids[1]).unwrap();
    assert!(is_direct && direct < Duration::from_millis(60), "{direct:?}");
    assert_eq!(lab.world.machine(apps[0]).client.groups().count(), 2);
}

#[test]
fn the_best_host_is_who_is_near_and_reached_directly() {
    let mut lab = Lab::new(6);
    let near = lab.world.home(Nat::home());
    let far = lab.world.home(Nat::home());
    let apps = [
        lab.client_on(far, Link::millis(150)),
        lab.client_on(near, Link::millis(5)),
        lab.home(Nat::home()),
        lab.home(Nat::symmetric()),
    ];
    let ids = lab.log_in();
    let group = lab.group(&ids);
    for _ in 0..250 {
        for app in apps {
            lab.send(app, group, Channel::unreliable(0), &[0; 200]);
        }
        lab.world.run_for(Duration::from_millis(20)).unwrap();
    }
    let server = &lab.world.machine(lab.desk).server;
    let ranks = server.rank_hosts(group, HostWeights::default());
    assert_eq!(ranks.len(), 4);
    assert!(ranks.is_sorted_by_key(|rank| std::cmp::Reverse(rank.score)) && ranks.iter().all(|r| r.score <= 1_000));
    assert!(ranks[0].client == ids[1] || ranks[0].client == ids[2], "{ranks:?}");
    let by_rtt = server.rank_hosts(group, HostWeights { rtt: 1, direct: 0, uplink: 0 });
    assert_eq!(by_rtt[3].client, ids[0], "the farthest: {by_rtt:?}");
    let symmetric = ranks.iter().find(|rank| rank.client == ids[3]).unwrap();
    assert!(symmetric.uplink > 10_000, "what it sends by the relay is seen: {symmetric:?}");
    assert!(server.rank_hosts(posse_core::GroupId::new(9, 9), HostWeights::default()).is_empty());
}

#[test]
fn clients_are_told_where_their_server_says_that_it_is() {
    let addrs = vec![([203, 0, 113, 9], 7777).into()];
    let told = addrs.clone();
    let mut lab = Lab::with_server(7, Link::millis(40), move |config| config.advertised_addrs.clone_from(&addrs));
    let app = lab.home(Nat::home());
    lab.log_in();
    assert_eq!(lab.world.machine(app).client.about().unwrap().addrs, told);
}

#[test]
fn who_throttles_its_own_link_gains_no_more_than_what_is_younger_than_the_deadline() {
    // A "lag switch": its user goes on playing while others see nothing of it for two seconds, then all at once.
    let (mut lab, apps, ids) = three(8);
    let group = lab.group(&ids[..2]);
    assert!(lab.run_until_direct(apps[0], apps[1], Duration::from_secs(5)));
    let options = SendOptions::default().deadline(Duration::from_millis(200));
    let play = |lab: &mut Lab, n: u32| {
        lab.world
            .act(apps[0], |app, now| app.client.send(now, group, Channel::sequenced(0), &n.to_be_bytes(), options))
            .unwrap();
        lab.world.run_for(Duration::from_millis(16)).unwrap();
    };
    (0..60).for_each(|n| play(&mut lab, n));
    let before = lab.world.machine(apps[1]).messages.len();
    lab.world.cut_up(apps[0]);
    (60..185).for_each(|n| play(&mut lab, n));
    let during = lab.world.machine(apps[1]).messages.len() - before;
    lab.world.heal(apps[0]);
    (185..200).for_each(|n| play(&mut lab, n));
    lab.world.run_for(Duration::from_secs(1)).unwrap();
    let late = lab.world.machine(apps[1]).messages.iter().skip(before + during);
    let late: Vec<u32> = late.map(|(.., bytes)| u32::from_be_bytes(bytes[..].try_into().unwrap())).collect();
    let stale = late.iter().filter(|n| **n < 185).count();
    println!("{during} arrived while it was held back, {stale} of 125 late");
    assert!(stale <= 20, "{stale} moves of the past: no more than the deadline lets through");
    assert!(late.is_sorted());
}
