//! Where fuzzing starts from: inputs that are written by hand, one a kind of frame, message or step.

use crate::body::Body;
use posse_core::fuzzing::LoginPair;
use std::net::{Ipv6Addr, SocketAddr};

/// A seed: which target, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut put = |target: &'static str, all: Vec<(&str, Vec<u8>)>| {
        seeds.extend(all.into_iter().map(|(name, bytes)| (target, format!("seed-{name}"), bytes)));
    };
    put("header", headers());
    put("frames", every_frame());
    put("control", every_control());
    put("login", logins());
    put("relay", relays());
    seeds
}

fn headers() -> Vec<(&'static str, Vec<u8>)> {
    let packet = |first: u8, len: usize| [vec![first], (1..len).map(|i| i as u8).collect()].concat();
    vec![
        ("short", packet(0x41, 40)),
        ("shortest", packet(0x4f, 29)),
        ("too-short", packet(0x40, 28)),
        ("login-request", packet(0x81, 48)),
        ("login-reply", packet(0x82, 59)),
        ("relay", packet(0x83, 64)),
        ("number", Body::new().u64(0xac5c02).u64(0x7349).u64(1).u32(0x9b32).u32(16).0),
    ]
}

/// Some addresses of both families.
pub(crate) fn addresses() -> [SocketAddr; 2] {
    [SocketAddr::from(([192, 0, 2, 7], 4242)), SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7), 4243))]
}

/// One body a kind of frame, and one of several.
pub(crate) fn every_frame() -> Vec<(&'static str, Vec<u8>)> {
    let b = Body::new;
    let many: Vec<(u64, u64)> = (0..63).map(|n| (n % 3, n % 5)).collect();
    let all = vec![
        ("ping", b().ping()),
        ("ack", b().ack(0, 1000, 25, 4, &[(0, 0), (300, 70)], None)),
        ("ack-ecn", b().ack(1, 70_000, 0, 0, &[], Some([1, 70, 20_000]))),
        ("ack-ranges", b().ack(0, 500, 1, 1, &many, None)),
        ("scope-control", b().scope_control(0, 0)),
        ("scope-peer", b().scope_peer(77, 200, 5)),
        ("scope-group", b().scope_group(3, 7, 1 << 32, 99, 12)),
        ("scope-end", b().scope_end(77, 100_000)),
        ("message", b().message(0, 1, true, None, b"hello")),
        ("message-unreliable", b().message(1, 300, false, None, b"")),
        ("fragment", b().message(0, 1, true, Some((64, 500)), &[5; 32])),
        ("fragment-unreliable", b().message(0, 1, false, Some((32, 37)), &[5; 5])),
        ("message-to-end", b().u8(0x0c).varint(9).varint(300).bytes(b"to the end")),
        ("fragment-to-end", b().u8(0x0f).varint(9).varint(300).varint(0).varint(40).bytes(&[1; 32])),
        ("credit", b().credit(1 << 20)),
        ("challenge", b().challenge(u64::MAX)),
        ("response", b().response(1)),
        ("key-share", b().key_share(&[3; 32])),
        ("close", b().close(1)),
        ("several", b().u8(0).scope_peer(1, 3, 0).message(1, 0, true, None, b"first").ping().u8(0).u8(0)),
        ("unknown", b().ping().u8(0x40)),
    ];
    all.into_iter().map(|(name, body)| (name, body.0)).collect()
}

/// One message of each kind.
pub(crate) fn every_control() -> Vec<(&'static str, Vec<u8>)> {
    let b = Body::new;
    let (peer, group, at) = (1 << 32 | 5, 3 << 32 | 2, addresses());
    let all = vec![
        ("welcome", b().welcome(peer, b"ada", b"welcome")),
        ("rejected", b().rejected(b"no")),
        ("peer-up", b().peer_up(peer, &[4; 32], 9, 255, &at)),
        ("peer-down", b().peer_down(peer, 9)),
        ("member-joined", b().member_joined(group, peer, 70_000, b"team")),
        ("member-left", b().member_left(group, peer, 70_000, 1)),
        ("punch", b().punch(peer, 9, &[at[0], at[1], at[0]])),
        ("token", b().token(b"who I am")),
        ("host-candidates", b().host_candidates(&at)),
        ("join-processed", b().join_processed(group, peer, 70_000)),
        ("path-direct", b().path_report(peer, 9, Ok(12_345))),
        ("path-relayed", b().path_report(peer, 9, Err(3))),
        ("request-punch", b().request_punch(peer, 9)),
    ];
    all.into_iter().map(|(name, body)| (name, body.0)).collect()
}

fn logins() -> Vec<(&'static str, Vec<u8>)> {
    let b = Body::new;
    let exchange = |suites: &[u8], suite: u8, damage: &[u8]| {
        b().u8(2).bytes(&[0, 1]).u64(42).u64(99).u8(suite).u8(suites.len() as u8).bytes(suites).bytes(damage).0
    };
    let pair = LoginPair::new(1, 42, &[1, 2]);
    let request = pair.map(|pair| pair.request()).unwrap_or_default();
    vec![
        ("hello", b().u8(0).bytes(&[0, 1]).u64(42).u8(2).bytes(&[1, 2]).0),
        ("accepted", b().u8(1).u8(0).u64(99).u8(1).0),
        ("refused-version", b().u8(1).bytes(&[1, 0, 0, 7]).bytes(&[0; 6]).0),
        ("refused-full", b().u8(1).bytes(&[1, 3, 0, 0]).bytes(&[0; 6]).0),
        ("exchange", exchange(&[1, 2], 1, &[])),
        ("exchange-foreign-suite", exchange(&[1], 2, &[])),
        ("exchange-nine-suites", exchange(&[1; 9], 2, &[])),
        ("exchange-damaged-request", exchange(&[1], 1, &[0, 32, 0x80])),
        ("exchange-damaged-reply", exchange(&[1], 1, &[0, 0, 0, 0, 32, 0x80])),
        ("request", b().u8(3).bytes(&request).0),
    ]
}

fn relays() -> Vec<(&'static str, Vec<u8>)> {
    let b = Body::new;
    let inner = [0x40; 40];
    vec![
        ("wrap", b().u8(0x83).u64(0x0102_0304_0506_0708).bytes(&[0, 0, 1]).u32(1).u64(5).bytes(&inner).0),
        ("genuine", b().u8(0).bytes(&[0, 0]).u8(0x10).bytes(&[0, 3]).u8(0x01).bytes(&[0, 2]).u8(0x01).bytes(&[0, 1]).0),
        ("jumps", b().u8(0).bytes(&[0xff, 0xff]).u8(0).bytes(&[8, 0]).u8(1).bytes(&[8, 0]).u8(1).bytes(&[7, 0xff]).0),
        ("damaged", b().u8(8).bytes(&[0, 0, 0, 9, 1]).u8(8).bytes(&[0, 0, 0, 30, 1]).0),
        ("other-handle", b().u8(4).bytes(&[0, 0]).u32(1).u8(2).bytes(&[0, 0]).u8(0x82).0),
        ("raw", b().u8(0xff).bytes(&[0, 7, 0, 4, 0x83, 1, 2, 3]).0),
    ]
}
