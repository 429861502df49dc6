//! Where fuzzing starts from: inputs that are written by hand, one a kind of frame, message or step.

use crate::body::Body;
use crate::flat::TAG;
use crate::stage::{SERVER, Stage};
use crate::steps::Op;
use posse_core::fuzzing::LoginPair;
use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};

/// A seed: which target, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut put = |target: &'static str, all: Vec<(&str, Vec<u8>)>| {
        for (name, bytes) in all {
            let n = seeds.len();
            seeds.push((target, format!("seed-{n:03}-{name}"), bytes));
        }
    };
    put("header", headers());
    put("header", exchanged(|datagram| Some(datagram)));
    put("frames", every_frame());
    put("frames", exchanged(sealed_body));
    put("control", every_control());
    put("login", logins());
    put("relay", relays());
    put("relay", exchanged(|datagram| (datagram.first() == Some(&0x83)).then_some(datagram)));
    put("scenario", scenarios());
    put("server_survives", steps(server_steps()));
    put("client_survives", steps(client_steps()));
    seeds
}

/// What a server and three clients said to each other, one part of each datagram, a few of different lengths.
fn exchanged(part: impl Fn(&[u8]) -> Option<&[u8]>) -> Vec<(&'static str, Vec<u8>)> {
    // Soon after the group was made, with and without direct paths, and a while later.
    let stages = [4, 5, 8, 9, 1].map(|setup| Stage::new(SERVER, setup));
    let parts = stages.iter().flat_map(|stage| &stage.captured).filter_map(|(_, datagram)| part(datagram));
    let by_length: BTreeMap<usize, Vec<u8>> = parts.map(|part| (part.len(), part.to_vec())).collect();
    by_length.into_values().take(16).map(|part| ("exchanged", part)).collect()
}

/// The frames in a packet.
fn sealed_body(datagram: &[u8]) -> Option<&[u8]> {
    let first = datagram.first().filter(|first| (0x40..=0x4f).contains(*first))?;
    datagram.strip_suffix(&TAG)?.get(9 + usize::from(first & 3) + 1..)
}

fn headers() -> Vec<(&'static str, Vec<u8>)> {
    let packet = |first: u8, len: usize| [vec![first], (1..len).map(|i| i as u8).collect()].concat();
    vec![
        ("short", packet(0x41, 40)),
        ("shortest", packet(0x4f, 29)),
        ("too-short", packet(0x40, 28)),
        ("login-request", packet(0x81, 48)),
        ("login-reply", packet(0x82, 59)),
        ("login-retry", packet(0x84, 33)),
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
        ("about", b().about(125_000, 200)),
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
        ("hello-ticket", b().u8(0).bytes(&[0, 1]).u64(42).u8(1).bytes(&[2]).bytes(&[0, 3]).bytes(b"let").0),
        ("accepted", b().u8(1).u8(0).u64(99).u8(1).0),
        ("refused-ticket", b().u8(1).bytes(&[1, 5, 0, 3]).bytes(&[0; 6]).0),
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

/// The shipped ones that show most of the format, and a text that is no scenario.
fn scenarios() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("demo", include_bytes!("../../scenarios/demo.toml").to_vec()),
        ("churn", include_bytes!("../../scenarios/churn.toml").to_vec()),
        ("nested-nat", include_bytes!("../../scenarios/nested-nat.toml").to_vec()),
        ("one-way", include_bytes!("../../scenarios/one-way.toml").to_vec()),
        ("lossy-switches", include_bytes!("../../scenarios/lossy-switches.toml").to_vec()),
        ("least", b"title = \"t\"\nduration = \"1s\"\n[client.a]\n".to_vec()),
        ("no-table", b"step = 1".to_vec()),
    ]
}

/// Setups that the steps of a seed are tried under: direct paths or not, a group or none, before and after it settled.
const SETUPS: [u8; 4] = [0, 1, 4, 16];

/// Each list of steps under one of the setups, then all of them one after another.
fn steps(all: Vec<(&'static str, Body)>) -> Vec<(&'static str, Vec<u8>)> {
    let together = all.iter().fold(Body::new().u8(0), |sum, (_, steps)| sum.bytes(&steps.0));
    let each =
        all.iter().enumerate().map(|(n, (name, steps))| (*name, [&[SETUPS[n % SETUPS.len()]], &steps.0[..]].concat()));
    each.chain([("all", together.0)]).collect()
}

/// Steps that make sense against either.
fn common_steps() -> Vec<(&'static str, Body)> {
    let b = |op: Op| Body::new().u8(op as u8);
    let run = |ms: u8| b(Op::Run).bytes(&[0, ms]).0;
    let mut all = vec![
        ("raw", b(Op::Raw).bytes(&[0x20, 0, 0, 16]).bytes(&[0, 40]).bytes(&[0x45; 40])),
        (
            "mutated",
            b(Op::Mutated).bytes(&[3, 0, 1, 0, 12, 1]).u8(Op::Mutated as u8).bytes(&[5, 9, 2, 0, 20, 3, 0, 9, 1]),
        ),
        ("replayed", b(Op::Mutated).bytes(&[63, 0, 0]).u8(Op::Mutated as u8).bytes(&[63, 0x21, 0])),
        ("run", Body(run(200)).bytes(&run(20))),
        ("wake-back", b(Op::WakeAt).u8(1).u32(500_000).u8(Op::Run as u8).bytes(&[1, 0])),
        ("wake-ahead", b(Op::WakeAt).u8(0).u32(80_000_000).u8(Op::Run as u8).bytes(&[1, 0])),
        ("wake-far", b(Op::WakeAt).u8(3).u32(0).u8(Op::Run as u8).bytes(&[1, 0])),
        ("transmit-no-room", b(Op::Transmit).bytes(&[4, 0, 1, 1]).u8(Op::Transmit as u8).bytes(&[0, 0, 0, 0])),
        (
            "silent-application",
            b(Op::Polls).u8(1).u8(Op::Send as u8).bytes(&[1, 15, 0, 0xf0, 200, 4, 0, 0]).bytes(&run(250)),
        ),
        (
            "messages",
            b(Op::Send).bytes(&[1, 3, 0, 0, 3, 8, 0, 0]).u8(Op::Send as u8).bytes(&[2, 3, 1, 0, 200, 0, 9, 1]),
        ),
        ("lossy", b(Op::Send).bytes(&[0, 9, 1, 0, 3, 8, 0, 0]).u8(Op::Disturb as u8).bytes(&[0, 0]).bytes(&run(255))),
        (
            "repeated",
            b(Op::Send).bytes(&[0, 9, 1, 0, 3, 8, 0, 0]).u8(Op::Disturb as u8).bytes(&[2, 0, 11, 3, 1]).bytes(&run(90)),
        ),
        ("poll", b(Op::Polls).u8(1).bytes(&run(90)).u8(Op::Poll as u8).u8(3).u8(Op::Polls as u8).u8(0)),
    ];
    for kind in 0..14 {
        all.push(("other", b(Op::Other).bytes(&[kind, 0, 0x20, 2, 0, 1, 2, 3, 4, 5])));
    }
    for (n, (name, frame)) in every_frame().into_iter().enumerate() {
        // As raw bytes, on one link or another.
        let link = (n % 3) as u8;
        let frame = Body::new().u8(0).bytes(&[0, frame.len() as u8]).bytes(&frame);
        all.push((name, b(Op::Sealed).bytes(&[link, 0, 0, 0, 1]).bytes(&frame.0)));
    }
    for kind in 1..16 {
        // By the harness, which knows scopes and numbers.
        let operands = [0, 0, 2, 1, 0, 4, 1, 2, 3, 4, 5, 6];
        all.push(("frame", b(Op::Sealed).bytes(&[kind % 4, 0, 0, 0, 2, kind]).bytes(&operands).u8(1)));
    }
    all
}

fn server_steps() -> Vec<(&'static str, Body)> {
    let b = |op: Op| Body::new().u8(op as u8);
    let mut all = common_steps();
    for kind in 0..7 {
        // One message: group 0, client 1, epoch 2.
        all.push(("control", b(Op::Control).bytes(&[kind % 3, 0, kind, 0, 1, 2, 3, 4, 5, 6])));
    }
    let run = [Op::Run as u8, 0, 100];
    let fill = [0, 9];
    all.extend([
        ("log-in", b(Op::LogIn).bytes(&run).u8(Op::Command as u8).bytes(&[2, 3]).bytes(&fill).bytes(&fill).bytes(&run)),
        ("reject", b(Op::LogIn).bytes(&run).u8(Op::Command as u8).bytes(&[3, 3]).bytes(&fill).bytes(&run)),
        (
            "group",
            b(Op::Command)
                .bytes(&[4, 2, 0, 1])
                .bytes(&fill)
                .bytes(&run)
                .u8(Op::Command as u8)
                .bytes(&[5, 2, 1])
                .bytes(&fill)
                .bytes(&run),
        ),
        (
            "leave",
            b(Op::Command)
                .bytes(&[6, 0, 0])
                .bytes(&run)
                .u8(Op::Command as u8)
                .bytes(&[5, 0, 0])
                .bytes(&fill)
                .bytes(&run),
        ),
        ("destroy", b(Op::Command).bytes(&[7, 0]).bytes(&run)),
        ("disconnect", b(Op::Command).bytes(&[1, 1]).bytes(&run)),
        ("send", b(Op::Command).bytes(&[0, 0, 1, 3, 4, 0, 0]).bytes(&run)),
        ("any-command", b(Op::Command).bytes(&[8, 0, 12, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])),
        ("flood", [0u8; 6].iter().fold(Body::new(), |all, _| all.u8(Op::LogIn as u8)).bytes(&run)),
    ]);
    all
}

fn client_steps() -> Vec<(&'static str, Body)> {
    let b = |op: Op| Body::new().u8(op as u8);
    let mut all = common_steps();
    let run = [Op::Run as u8, 0, 100];
    for kind in 0..9 {
        all.push(("control", b(Op::Control).bytes(&[0, 0, kind, 0, 1, 20, 3, 4, 5, 6]).bytes(&run)));
    }
    // A new peer, its join, its leave; then an old one anew.
    let up = |peer: u8, epoch: u8| Body::new().bytes(&[2, peer, 0, 9, epoch, 0, 2, 0x20, 2]).0;
    all.extend([
        ("peer-up", b(Op::Control).bytes(&[0, 1]).bytes(&up(6, 30)).bytes(&[5, 0, 6, 31]).bytes(&run)),
        ("peer-again", b(Op::Control).bytes(&[0, 0]).bytes(&up(1, 30)).bytes(&run)),
        ("leave-join", b(Op::Control).bytes(&[0, 1, 6, 0, 1, 3, 1, 5, 0, 1, 40]).bytes(&run)),
        ("send-full", b(Op::Send).bytes(&[0, 15, 1, 0, 3, 15, 0, 0]).bytes(&run)),
        ("loopback", b(Op::Command).bytes(&[0, 1, 0, 3, 0, 20, 1]).bytes(&run)),
        ("log-out", b(Op::Command).bytes(&[1, 0]).bytes(&run)),
    ]);
    all
}
