//! What becomes of messages.

use crate::adapter::{Adapter, AnyClient, AnyServer};
use crate::scene::{CHAT, PATIENCE, Scene};
use posse::{ClientEvent, PeerId, SendError, ServerEvent};
use std::net::{Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

pub(crate) fn a_group_messages_one_another<A: Adapter>() {
    let (mut scene, group) = Scene::<A>::grouped(3);
    let ids = scene.ids();
    assert!(scene.clients.iter().flatten().all(|c| c.members(group).len() == 3 && c.peers().len() == 2));
    assert_eq!(scene.client(0).try_send(group.into(), CHAT, b"to all").unwrap().receivers, 2);
    scene.client(1).try_send(ids[2].into(), CHAT, b"to one").unwrap();
    scene.server().try_send(ids[0], CHAT, b"from the server").unwrap();
    scene.client(2).try_send(PeerId::SERVER.into(), CHAT, b"to the server").unwrap();
    scene.run(|s| {
        let at_server = s.at_server.iter().any(|(e, b)| matches!(e, ServerEvent::Message(_)) && b == b"to the server");
        at_server && [1, 1, 2].iter().enumerate().all(|(i, n)| s.texts(i).len() == *n)
    });
    assert_eq!((scene.texts(0), scene.texts(1)), (vec![&b"from the server"[..]], vec![&b"to all"[..]]));
    assert_eq!(scene.client(0).try_send(PeerId::new(99, 9).into(), CHAT, b"nobody"), Err(SendError::Gone));
}

pub(crate) fn a_pair_goes_direct_and_loses_repeats_and_reorders_nothing<A: Adapter>() {
    let mut scene = Scene::<A>::new(2);
    let ids = scene.ids();
    let group = scene.server().group(&ids);
    // From the first instant on, by the relay and across the switch.
    scene.run(|s| s.clients.iter().flatten().all(|c| c.members(group).len() == 2));
    let (mut sent, end) = (0_u32, Instant::now() + PATIENCE);
    let mut direct_since = None;
    while direct_since.is_none_or(|since| sent < since + 100) {
        assert!(Instant::now() < end, "not direct in time");
        for i in 0..2 {
            scene.client(i).try_send(group.into(), CHAT, &sent.to_be_bytes()).unwrap();
        }
        sent += 1;
        scene.run_for(Duration::from_millis(2));
        if direct_since.is_none() && scene.is_direct() {
            direct_since = Some(sent);
        }
    }
    scene.run(|s| (0..2).all(|i| s.texts(i).len() >= sent as usize));
    let expected: Vec<_> = (0..sent).map(|n| n.to_be_bytes().to_vec()).collect();
    assert!((0..2).all(|i| scene.texts(i) == expected));
    let direct = |e: &ClientEvent| matches!(e, ClientEvent::Message(m) if m.direct);
    assert!(scene.at_clients.iter().all(|seen| seen.iter().any(|(e, _)| direct(e))));
}

pub(crate) fn a_long_message_comes_whole<A: Adapter>() {
    let (mut scene, group) = Scene::<A>::grouped(2);
    let long: Vec<u8> = (0..65_536_u32).map(|i| (i % 251) as u8).collect();
    scene.client(0).try_send(group.into(), CHAT, &long).unwrap();
    let too_long = vec![0; long.len() + 1];
    let refused = scene.client(0).try_send(group.into(), CHAT, &too_long);
    assert_eq!(refused, Err(SendError::TooLarge { max: long.len() }));
    scene.run(|s| !s.texts(1).is_empty());
    assert!(scene.texts(1) == [&long[..]]);
}

pub(crate) fn what_finds_no_room_is_refused_until_there_is_some<A: Adapter>() {
    let (mut scene, _) = Scene::<A>::grouped(2);
    let to = scene.ids()[1];
    scene.deaf = vec![1];
    let (mut sent, end) = (0_u32, Instant::now() + PATIENCE);
    let full = loop {
        assert!(Instant::now() < end && sent < 10_000, "never full");
        let mut message = vec![0; 4096];
        message[..4].copy_from_slice(&sent.to_be_bytes());
        match scene.client(0).try_send(to.into(), CHAT, &message) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, SendError::Full { to });
    scene.deaf.clear();
    let writable = ClientEvent::Writable { to, channel: CHAT };
    scene.run(|s| s.at_clients[0].iter().any(|(e, _)| *e == writable));
    scene.client(0).try_send(to.into(), CHAT, &sent.to_be_bytes()).unwrap();
    scene.run(|s| s.texts(1).len() > sent as usize);
    let numbers = scene.texts(1).iter().map(|b| u32::from_be_bytes(*b.first_chunk().unwrap())).collect::<Vec<_>>();
    assert_eq!(numbers, (0..=sent).collect::<Vec<_>>());
}

pub(crate) fn what_waits_for_room_is_sent_once_there_is_some<A: Adapter>() {
    let (mut scene, _) = Scene::<A>::grouped(2);
    let to = scene.ids()[1];
    scene.deaf = vec![1];
    let message = |n: u32| [n.to_be_bytes().to_vec(), vec![0; 4092]].concat();
    let mut sent = 0_u32;
    while scene.client(0).send_within(Duration::from_millis(100), to.into(), CHAT, &message(sent)) {
        sent += 1;
        assert!(sent < 10_000, "never full");
    }
    // What was given up was not sent.
    scene.deaf.clear();
    scene.run(|s| s.texts(1).len() as u32 >= sent / 2);
    assert!(scene.client(0).send_within(PATIENCE, to.into(), CHAT, &message(sent)));
    scene.run(|s| s.texts(1).len() > sent as usize);
    let numbers = scene.texts(1).iter().map(|b| u32::from_be_bytes(*b.first_chunk().unwrap())).collect::<Vec<_>>();
    assert_eq!(numbers, (0..=sent).collect::<Vec<_>>());
}

pub(crate) fn ipv6_is_as_good_as_ipv4<A: Adapter>() {
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("this host has no IPv6: skipped");
        return;
    }
    let mut scene = Scene::<A>::at(Ipv6Addr::LOCALHOST.into(), 2);
    let group = scene.group();
    scene.client(0).try_send(group.into(), CHAT, b"hello").unwrap();
    scene.run(|s| s.texts(1) == [b"hello"]);
}

pub(crate) fn a_message_leaves_without_waiting_for_anything<A: Adapter>() {
    let (mut scene, group) = Scene::<A>::grouped(2);
    scene.run(Scene::is_direct);
    scene.run_for(Duration::from_millis(100));
    let before = scene.client(0).datagrams_sent();
    scene.client(0).try_send(group.into(), CHAT, b"now").unwrap();
    // Nobody drives the sender by hand.
    std::thread::sleep(Duration::from_millis(20));
    assert!(scene.client(0).datagrams_sent() > before);
    scene.deaf = vec![0];
    scene.run(|s| s.texts(1) == [b"now"]);
}
