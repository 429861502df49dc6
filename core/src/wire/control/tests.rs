//! Control messages there and back, and what is refused.

use super::*;
use crate::wire::buf::VARINT_MAX;
use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

/// Enough to fill any message from.
#[derive(Clone, Debug)]
struct Parts {
    kind: u8,
    ids: [u64; 2],
    epoch: u64,
    key: [u8; 32],
    numbers: (u32, u8, u32),
    short: Vec<u8>,
    long: Vec<u8>,
    candidates: Candidates,
    reason: u8,
    plan: Plan,
}

fn parts() -> impl Strategy<Value = Parts> {
    let addr = any::<SocketAddr>();
    let lists = (vec(any::<u8>(), 0..=MAX_TOKEN), vec(any::<u8>(), 0..=MAX_MESSAGE), vec(addr, 0..10));
    let plan = crate::wire::search::plans();
    (any::<(u8, [u64; 2], [u8; 32], (u32, u8, u32), u8)>(), 0..=VARINT_MAX, lists, plan).prop_map(
        |((kind, ids, key, numbers, reason), epoch, (short, long, addrs), plan)| {
            let candidates = addrs.into_iter().collect();
            Parts { kind, ids, epoch, key, numbers, short, long, candidates, reason, plan }
        },
    )
}

fn to_client(p: &Parts) -> ToClient<'_> {
    let (peer, group, epoch) = (PeerId::from_raw(p.ids[0]), GroupId::from_raw(p.ids[1]), p.epoch);
    match p.kind % 13 {
        0 => ToClient::Welcome { me: peer, user_data: &p.short, message: &p.long },
        1 => ToClient::Rejected { message: &p.long },
        2 => ToClient::PeerUp {
            peer,
            key: p.key,
            psk: Psk(p.key),
            epoch,
            handle: p.numbers.0,
            suite: p.numbers.1,
            rtt_us: p.numbers.2,
            user_data: &p.short,
            policy: policy(p.reason),
            candidates: p.candidates,
        },
        3 => ToClient::PeerDown { peer, epoch },
        4 => ToClient::MemberJoined { group, member: peer, epoch, message: &p.long },
        5 => ToClient::MemberLeft { group, member: peer, epoch, why: leave_reason(p.reason % 3).unwrap() },
        6 => ToClient::Punch { peer, epoch, candidates: p.candidates },
        7 => ToClient::Doors { doors: p.candidates },
        8 => ToClient::About { relay: [p.numbers.0, p.numbers.0 >> 1], addrs: p.candidates },
        9 => ToClient::Policy { peer, epoch, policy: policy(p.reason) },
        10 => ToClient::Lifetime { lifetime: Duration::from_millis(p.numbers.0.into()) },
        11 => ToClient::PeerOffline { peer, epoch, offline: p.reason < 128 },
        _ => ToClient::Search { peer, epoch, number: p.numbers.0, plan: p.plan },
    }
}

fn policy(n: u8) -> PathPolicy {
    read_policy(&mut Reader::new(&[(n % 3) | ((n / 3 % 4) << 4)])).unwrap()
}

fn to_server(p: &Parts) -> ToServer<'_> {
    let (peer, group, epoch) = (PeerId::from_raw(p.ids[0]), GroupId::from_raw(p.ids[1]), p.epoch);
    match p.kind % 10 {
        0 => ToServer::Token { token: &p.short },
        1 => ToServer::HostCandidates { candidates: p.candidates },
        2 => ToServer::JoinProcessed { group, member: peer, epoch },
        3 => {
            let bytes = [p.reason % 13, 1, 2, 3, 4];
            ToServer::PathReport { peer, epoch, path: read_path(&mut Reader::new(&bytes)).unwrap() }
        }
        4 => ToServer::RequestPunch { peer, epoch },
        5 => ToServer::RequestSearch { peer, epoch },
        6 => {
            let outcome = if p.reason < 128 { Outcome::Spent } else { Outcome::NoSockets };
            ToServer::Searched { peer, epoch, number: p.numbers.0, outcome }
        }
        7 => ToServer::Policy { peer, policy: policy(p.reason) },
        8 => ToServer::Rotated,
        _ => ToServer::Heard { door: p.reason },
    }
}

fn encoded(encode: impl Fn(&mut Writer<'_>) -> Result<(), NoRoom>) -> Vec<u8> {
    let mut buf = [0; MAX_LEN];
    let mut w = Writer::new(&mut buf);
    encode(&mut w).unwrap();
    w.written().to_vec()
}

/// Where to cut: everywhere in the first bytes, where the fields are, and at some places in the long strings.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    (0..len.min(300)).chain((300..len).step_by(37)).chain(len.checked_sub(1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_message_to_a_client_comes_back_and_no_truncation_of_it_is_read(p in parts()) {
        let bytes = encoded(|w| to_client(&p).encode(w));
        prop_assert_eq!(ToClient::decode(&bytes), Ok(to_client(&p)));
        for cut in cuts(bytes.len()) {
            prop_assert_eq!(ToClient::decode(&bytes[..cut]), Err(Malformed::Truncated));
        }
        prop_assert!(ToServer::decode(&bytes).is_err());
    }

    #[test]
    fn a_message_to_the_server_comes_back_and_no_truncation_of_it_is_read(p in parts()) {
        let bytes = encoded(|w| to_server(&p).encode(w));
        prop_assert_eq!(ToServer::decode(&bytes), Ok(to_server(&p)));
        for cut in cuts(bytes.len()) {
            prop_assert_eq!(ToServer::decode(&bytes[..cut]), Err(Malformed::Truncated));
        }
        prop_assert!(ToClient::decode(&bytes).is_err());
    }

    #[test]
    fn a_message_followed_by_anything_is_refused(p in parts(), more in vec(any::<u8>(), 1..4)) {
        let mut bytes = encoded(|w| to_client(&p).encode(w));
        bytes.extend(&more);
        prop_assert_eq!(ToClient::decode(&bytes), Err(Malformed::Trailing));
        let mut bytes = encoded(|w| to_server(&p).encode(w));
        bytes.extend(&more);
        prop_assert_eq!(ToServer::decode(&bytes), Err(Malformed::Trailing));
    }

    #[test]
    fn a_message_that_does_not_fit_writes_nothing(p in parts(), room in 0usize..200) {
        let mut buf = [0; 200];
        let mut w = Writer::new(&mut buf[..room]);
        if to_client(&p).encode(&mut w).is_err() {
            prop_assert_eq!(w.len(), 0);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(kind in 0u8..12, server: bool, bytes in vec(any::<u8>(), 0..200)) {
        let mut all = std::vec![if server { kind | 0x80 } else { kind }];
        all.extend(bytes);
        if let Ok(message) = ToClient::decode(&all) {
            let again = encoded(|w| message.encode(w));
            prop_assert_eq!(ToClient::decode(&again), Ok(message));
        }
        if let Ok(message) = ToServer::decode(&all) {
            let again = encoded(|w| message.encode(w));
            prop_assert_eq!(ToServer::decode(&again), Ok(message));
        }
    }
}

#[test]
fn a_string_over_its_bound_is_neither_written_nor_read() {
    let token = [7; MAX_TOKEN + 1];
    let mut buf = [0; MAX_LEN];
    let mut w = Writer::new(&mut buf);
    assert_eq!(ToServer::Token { token: &token }.encode(&mut w), Err(NoRoom));
    assert_eq!(w.len(), 0);
    w.u8(TOKEN).unwrap();
    w.prefixed(&token).unwrap();
    assert_eq!(ToServer::decode(w.written()), Err(Malformed::Value));
}

#[test]
fn nine_candidates_are_refused_and_an_unknown_family_too() {
    assert_eq!(ToServer::decode(&[HOST_CANDIDATES, 9]), Err(Malformed::Value));
    assert_eq!(ToServer::decode(&[HOST_CANDIDATES, 1, 5, 0, 0, 0, 0, 0, 0]), Err(Malformed::Value));
    assert_eq!(ToServer::decode(&[HOST_CANDIDATES, 0]), Ok(ToServer::HostCandidates { candidates: Candidates::new() }));
}

#[test]
fn the_longest_messages_fit_the_stated_length() {
    let (short, long) = ([1; MAX_USER_DATA], [1; MAX_MESSAGE]);
    let me = PeerId::new(1, 1);
    assert_eq!(encoded(|w| ToClient::Welcome { me, user_data: &short, message: &long }.encode(w)).len(), MAX_LEN);
    let candidates = (0..20).map(|n| SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), n)).collect();
    let up = ToClient::PeerUp {
        peer: me,
        key: [1; 32],
        psk: Psk([1; 32]),
        epoch: VARINT_MAX,
        handle: 1,
        suite: 1,
        rtt_us: 1,
        user_data: &short,
        policy: PathPolicy::RELAY_ONLY,
        candidates,
    };
    assert!(encoded(|w| up.encode(w)).len() <= MAX_LEN);
}

#[test]
fn the_same_candidate_is_listed_once() {
    let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7);
    assert_eq!([addr, addr].into_iter().collect::<Candidates>().as_slice(), [addr]);
}

#[test]
fn a_round_trip_time_beyond_32_bits_saturates() {
    let path = Path::Direct { rtt: Duration::from_secs(1 << 20) };
    let report = ToServer::PathReport { peer: PeerId::new(0, 1), epoch: 1, path };
    let bytes = encoded(|w| report.encode(w));
    let Ok(ToServer::PathReport { path, .. }) = ToServer::decode(&bytes) else { panic!("a path report") };
    assert_eq!(path, Path::Direct { rtt: Duration::from_micros(u32::MAX.into()) });
}

#[test]
fn a_pre_shared_key_does_not_show() {
    assert_eq!(std::format!("{:?}", Psk([7; 32])), "Psk(..)");
}
