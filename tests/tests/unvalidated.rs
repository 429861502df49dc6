//! Whoever has not shown keys gets nothing for free and changes nothing: no amplification, no data to an address that is
//! not proven, no answer to a forgery.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse_core::config::{ClientConfig, ServerConfig};
use posse_core::{Channel, Client, ClientEvent, Instant, Machine, Outbox, Server};
use posse_sim::nat::Nat;
use posse_sim::{Event, Node, Observer, PacketView};
use posse_tests::{APP, App, Desk, Lab, SERVER_KEY, drain, hand, request};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(5, 0, 0, 1)), 4000);

/// Largest datagram that is not data: a path challenge and a response in one packet, sealed.
const PROBE: usize = 100;

fn server() -> Server {
    Server::new(Instant::ZERO, ServerConfig::new(SERVER_KEY, APP, [1; 32])).unwrap()
}

fn client(seed: u8) -> Client {
    let key = posse_core::secure::public_key(&SERVER_KEY);
    Client::new(Instant::ZERO, ClientConfig::new(SERVER, key, APP, [seed; 32])).unwrap()
}

fn outbox() -> Outbox {
    Outbox::with_capacity(64 * 1024, 64)
}

#[derive(Clone, Debug)]
enum Attack {
    /// A genuine request, of one of three clients.
    Request(u8),
    /// One with bits flipped.
    Forged(u8, Vec<usize>),
    /// The beginning of one.
    Cut(u8, usize),
    /// Anything, with a first byte that means something.
    Noise(u8, Vec<u8>),
    Wait(u64),
}

fn attack() -> impl Strategy<Value = Attack> {
    prop_oneof![
        4 => (1..4u8).prop_map(Attack::Request),
        1 => (1..4u8, proptest::collection::vec(0..9_600usize, 1..4)).prop_map(|(n, bits)| Attack::Forged(n, bits)),
        1 => (1..4u8, 0..1_200usize).prop_map(|(n, len)| Attack::Cut(n, len)),
        1 => (prop_oneof![0x40..0x80u8, 0x81..0x84u8], proptest::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(first, rest)| Attack::Noise(first, rest)),
        2 => (0..8_000u64).prop_map(Attack::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_server_sends_an_address_that_has_not_shown_keys_no_more_than_came_from_there(
        attacks in proptest::collection::vec((attack(), 0..4u8), 1..60),
    ) {
        let (mut server, mut out, mut now) = (server(), outbox(), Instant::ZERO);
        let requests = [1, 2, 3].map(|n| request(client(n)));
        let mut balance: BTreeMap<SocketAddr, (usize, usize)> = BTreeMap::new();
        for (attack, place) in attacks.iter().chain([&(Attack::Wait(100_000), 0)]) {
            let from = SocketAddr::from(([9, 9, 9, *place], 999));
            let genuine = |n: u8| requests[usize::from(n) - 1].clone();
            let bytes = match attack {
                Attack::Request(n) => genuine(*n),
                Attack::Forged(n, bits) => {
                    let mut bytes = genuine(*n);
                    bits.iter().for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
                    bytes
                }
                Attack::Cut(n, len) => genuine(*n)[..*len].to_vec(),
                Attack::Noise(first, rest) => [&[*first], &rest[..]].concat(),
                Attack::Wait(ms) => {
                    let end = now + Duration::from_millis(*ms);
                    while let Some((wake, _)) = server.wake().filter(|(wake, _)| *wake <= end) {
                        now = now.max(wake);
                        let before = server.wake();
                        server.transmit(now, &mut out);
                        prop_assert_ne!(server.wake(), before, "it never comes to rest");
                    }
                    now = end;
                    Vec::new()
                }
            };
            if !bytes.is_empty() {
                balance.entry(from).or_default().0 += bytes.len();
                hand(&mut server, now, from, &bytes, &mut out);
                server.transmit(now, &mut out);
            }
            for (to, bytes) in drain(&mut out) {
                let entry = balance.entry(to).or_default();
                entry.1 += bytes.len();
                prop_assert!(entry.1 <= entry.0, "{} bytes to {to} for {} from there", entry.1, entry.0);
            }
        }
        prop_assert_eq!(server.size(), Default::default(), "and in the end it keeps nothing");
    }
}

#[test]
fn a_request_from_another_address_draws_the_same_small_reply_and_no_second_session() {
    let (mut server, mut out, request) = (server(), outbox(), request(client(1)));
    let [honest, other] = [1, 2].map(|n| SocketAddr::from(([9, 9, 9, n], 999)));
    hand(&mut server, Instant::ZERO, honest, &request, &mut out);
    assert_eq!(drain(&mut out).iter().map(|(to, _)| *to).collect::<Vec<_>>(), [honest]);
    let size = server.size();
    hand(&mut server, Instant::ZERO, other, &request, &mut out);
    // A NAT may have restarted in between, so that it is the same client; a stranger gains no more than by its own request.
    let replies = drain(&mut out);
    assert!(matches!(&replies[..], [(to, bytes)] if *to == other && bytes.len() * 20 < request.len()), "{replies:?}");
    assert_eq!(server.size(), size);
    hand(&mut server, Instant::ZERO, honest, &request, &mut out);
    assert_eq!(drain(&mut out).iter().map(|(to, _)| *to).collect::<Vec<_>>(), [honest]);
}

#[test]
fn a_login_survives_every_cut_and_every_flipped_bit_of_its_reply() {
    let (mut server, mut client, mut out) = (server(), client(1), outbox());
    client.transmit(Instant::ZERO, &mut out);
    let (_, request) = drain(&mut out).remove(0);
    hand(&mut server, Instant::ZERO, SERVER, &request, &mut out);
    let (_, reply) = drain(&mut out).remove(0);
    for forged in damaged(&reply, 1) {
        hand(&mut client, Instant::ZERO, SERVER, &forged, &mut out);
    }
    client.transmit(Instant::ZERO, &mut out);
    assert!(drain(&mut out).is_empty());
    hand(&mut client, Instant::ZERO, SERVER, &reply, &mut out);
    client.transmit(Instant::ZERO, &mut out);
    assert_eq!(drain(&mut out).len(), 1, "the first packet under the new keys");
}

/// Every beginning of a packet, and the packet with each `every`-th bit flipped.
fn damaged(packet: &[u8], every: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    let cut = (0..packet.len()).step_by(every).map(|len| packet[..len].to_vec());
    let flipped = (0..8 * packet.len()).step_by(every).map(|bit| {
        let mut packet = packet.to_vec();
        packet[bit / 8] ^= 1 << (bit % 8);
        packet
    });
    cut.chain(flipped)
}

/// What each host received, and what clients sent to others than the server.
#[derive(Default)]
struct Eavesdropper {
    received: BTreeMap<usize, Vec<(SocketAddr, Vec<u8>)>>,
    server: usize,
    server_at: Option<SocketAddr>,
    /// Sizes of the datagrams.
    astray: Vec<usize>,
}

impl Observer for Eavesdropper {
    fn event(&mut self, _: Instant, event: &Event<'_>) {
        match *event {
            Event::Delivered { host, packet: PacketView { from, bytes, .. }, .. } => {
                self.received.entry(host).or_default().push((from, bytes.to_vec()));
            }
            Event::Sent { host, packet, .. } if host != self.server && Some(packet.to) != self.server_at => {
                self.astray.push(packet.bytes.len());
            }
            _ => {}
        }
    }
}

fn eavesdrop(lab: &mut Lab) -> Rc<RefCell<Eavesdropper>> {
    let ear =
        Eavesdropper { server: lab.desk.index(), server_at: Some(lab.world.addr(lab.desk)), ..Default::default() };
    let ear = Rc::new(RefCell::new(ear));
    lab.world.observe(Box::new(Rc::clone(&ear)));
    ear
}

#[test]
fn before_a_hole_is_proven_open_only_small_probes_go_anywhere_but_to_the_server() {
    let mut lab = Lab::new(1);
    let ear = eavesdrop(&mut lab);
    let (a, b) = (lab.home(Nat::symmetric()), lab.home(Nat::symmetric()));
    let ids = lab.log_in();
    let group = lab.group(&ids);
    let big = vec![7; 64 * 1024];
    lab.world.run_for(Duration::from_millis(200)).unwrap();
    for _ in 0..80 {
        for from in [a, b] {
            let _ = lab.send(from, group, Channel::reliable(0), &big);
            let _ = lab.send(from, group, Channel::unreliable(0), &big[..1_000]);
        }
        lab.world.run_for(Duration::from_millis(100)).unwrap();
    }
    for node in [a, b] {
        assert!(lab.world.machine(node).messages.iter().filter(|(.., bytes)| bytes.len() == big.len()).count() > 10);
    }
    let astray = &ear.borrow().astray;
    assert!(astray.len() > 50, "it was tried");
    assert!(astray.iter().all(|len| *len < PROBE), "{:?} bytes", astray.iter().max());
}

/// Two clients with a direct path between them, a third that is relayed; everything has been quiet for a while.
fn quiet() -> (Lab, Rc<RefCell<Eavesdropper>>) {
    let mut lab = Lab::new(2);
    let ear = eavesdrop(&mut lab);
    let apps = [Nat::home(), Nat::home(), Nat::symmetric()].map(|nat| lab.home(nat));
    let ids = lab.log_in();
    let group = lab.group(&ids);
    for n in 0..40u8 {
        for app in apps {
            lab.send(app, group, Channel::reliable(0), &[n; 200]);
        }
        lab.world.run_for(Duration::from_millis(20)).unwrap();
    }
    lab.world.run_for(Duration::from_secs(7)).unwrap();
    assert!(lab.direct(apps[0], apps[1]));
    (lab, ear)
}

/// Hands datagrams to a client, none of which may matter: nothing is sent in answer and nothing changes.
fn nothing_to_a_client(lab: &mut Lab, node: Node<App>, datagrams: impl Iterator<Item = (SocketAddr, Vec<u8>)>) {
    let group = lab.world.machine(node).events.iter().find_map(|(_, event)| match event {
        ClientEvent::MemberJoined { group, .. } => Some(*group),
        _ => None,
    });
    lab.world.act(node, |app, now| {
        let state = |c: &Client| {
            let members: Vec<_> = c.members(group.unwrap()).collect();
            (c.id(), c.peers().collect::<Vec<_>>(), members, c.has_events(), c.wake(), c.counters().violations)
        };
        let (before, mut out) = (state(&app.client), outbox());
        for (from, bytes) in datagrams {
            hand(&mut app.client, now, from, &bytes, &mut out);
            assert!(out.is_empty(), "{bytes:?} from {from}");
        }
        app.client.transmit(now, &mut out);
        assert!(out.is_empty());
        assert_eq!(state(&app.client), before);
    });
}

/// The same with the server.
fn nothing_to_the_server(lab: &mut Lab, datagrams: impl Iterator<Item = (SocketAddr, Vec<u8>)>) {
    lab.world.act(lab.desk, |desk: &mut Desk, now| {
        let state = |s: &Server| {
            let paths: Vec<_> = s.clients().flat_map(|a| s.clients().map(move |b| s.path(a, b))).collect();
            (s.size(), paths, s.has_events(), s.wake(), (s.counters().forwarded, s.counters().violations))
        };
        let (before, mut out) = (state(&desk.server), outbox());
        for (from, bytes) in datagrams {
            hand(&mut desk.server, now, from, &bytes, &mut out);
            assert!(out.is_empty(), "{bytes:?} from {from}");
        }
        desk.server.transmit(now, &mut out);
        assert!(out.is_empty());
        assert_eq!(state(&desk.server), before);
    });
}

/// SplitMix64: the tests need no better.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) % n as u64) as usize
    }
}

/// `count` datagrams, random or made of these by changing some bytes and perhaps the length. Only one in fifty begins as a
/// login request, since each of those costs the server two Diffie-Hellmans.
fn noise(genuine: Vec<(SocketAddr, Vec<u8>)>, count: usize) -> impl Iterator<Item = (SocketAddr, Vec<u8>)> {
    let mut dice = Dice(count as u64);
    let (logins, others): (Vec<_>, Vec<_>) = genuine.into_iter().partition(|(_, bytes)| bytes[0] == 0x81);
    (0..count).map(move |_| {
        let (from, mut bytes) = if !logins.is_empty() && dice.below(50) == 0 {
            logins[dice.below(logins.len())].clone()
        } else {
            others[dice.below(others.len())].clone()
        };
        match dice.below(4) {
            0 => {
                bytes = (0..dice.below(120)).map(|_| dice.below(256) as u8).collect();
                if let Some(first) = bytes.first_mut() {
                    *first = [0x40, 0x41, 0x47, 0x4c, 0x7f, 0x81, 0x82, 0x83][dice.below(8)];
                }
            }
            1 => bytes.truncate(dice.below(bytes.len())),
            2 => bytes.push(dice.below(256) as u8),
            _ => {
                for _ in 0..=dice.below(3) {
                    let at = dice.below(bytes.len());
                    bytes[at] ^= 1 + dice.below(255) as u8;
                }
            }
        }
        let spoofed = SocketAddr::from(([9, 9, 9, dice.below(256) as u8], 999));
        (if dice.below(3) == 0 { spoofed } else { from }, bytes)
    })
}

#[test]
fn a_hundred_thousand_forgeries_move_neither_a_client_nor_a_server() {
    let (mut lab, ear) = quiet();
    let received = |host: usize| ear.borrow().received[&host].clone();
    let client = lab.apps[0];
    let flood = noise(received(client.index()), 100_000);
    nothing_to_a_client(&mut lab, client, flood);
    let flood = noise(received(lab.desk.index()), 100_000);
    nothing_to_the_server(&mut lab, flood);
    let apps = lab.apps.clone();
    assert!(lab.direct(apps[0], apps[1]));
}

#[test]
fn every_cut_and_every_flipped_bit_of_what_was_received_before_changes_nothing() {
    let (mut lab, ear) = quiet();
    let received = |host: usize| ear.borrow().received[&host].clone();
    // Of each kind and source the first, the last and one between; long ones not at every bit.
    let picked = |all: Vec<(SocketAddr, Vec<u8>)>| {
        let mut kinds: BTreeMap<(u8, SocketAddr), Vec<Vec<u8>>> = BTreeMap::new();
        for (from, bytes) in all {
            kinds.entry((bytes[0] & 0xf3, from)).or_default().push(bytes);
        }
        let picks = kinds.into_iter().flat_map(|((_, from), packets)| {
            [0, packets.len() / 2, packets.len() - 1].map(|n| (from, packets[n].clone()))
        });
        picks.flat_map(|(from, packet)| {
            let every = if packet[0] == 0x81 { 61 } else { 1 + packet.len() / 400 };
            damaged(&packet, every).chain([packet.clone()]).map(|bytes| (from, bytes)).collect::<Vec<_>>()
        })
    };
    for client in lab.apps.clone() {
        nothing_to_a_client(&mut lab, client, picked(received(client.index())));
    }
    let genuine = received(lab.desk.index());
    nothing_to_the_server(&mut lab, picked(genuine));
}
