//! The forwarder against a model, honest and forged datagrams mixed.

use super::*;
use crate::config::Rate;
use crate::entropy::Entropy;
use crate::secure::Secret;
use crate::wire::relay::WRAP_LEN;
use proptest::collection;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

/// As much as there can be.
const FREE: RelayBudget = RelayBudget { bytes: MOST, packets: MOST };
const MOST: Rate = Rate { per_second: 1_000_000_000, burst: 1_000_000_000 };
const LIMITS: RelayLimits = RelayLimits { sessions: 4, routes: 8, budget: FREE };

fn forwarder(limits: RelayLimits) -> Forwarder {
    Forwarder::new(limits, Entropy::new(&[1; 32]).hasher("relay"))
}

fn key(n: u64) -> RelayKey {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&n.to_be_bytes());
    RelayKey::from_secret(&Secret::new(secret))
}

fn addr(n: u64) -> Reach {
    SocketAddr::from(([203, 0, 113, n as u8], 4000)).into()
}

/// A peer's packet, as far as the relay can tell.
fn packet(fill: u8) -> [u8; 60] {
    let mut packet = [fill; 60];
    packet[0] = 0x43;
    packet
}

fn wrapped(key: &RelayKey, session: u64, number: u64, handle: u32, inner: &[u8]) -> Vec<u8> {
    let mut wrap = [0; WRAP_LEN];
    key.wrap(session, number, handle, inner, &mut wrap);
    [wrap.as_slice(), inner].concat()
}

/// Sessions 1 and 2, at their addresses, each with the key of its number, and a route from 1 to 2.
fn pair() -> (Forwarder, u32) {
    let mut f = forwarder(LIMITS);
    f.add_session(1, key(1), addr(1)).unwrap();
    f.add_session(2, key(2), addr(2)).unwrap();
    let handle = f.add_route(1, 2).unwrap();
    (f, handle)
}

#[test]
fn a_packet_is_forwarded_verbatim_to_the_address_of_its_receiver() {
    let (mut f, handle) = pair();
    let inner = packet(9);
    let datagram = wrapped(&key(1), 1, 0, handle, &inner);
    let expected = Forward { from_session: 1, to_session: 2, to: addr(2), inner: &inner, fresh: true, moved: false };
    assert_eq!(f.admit(Instant::ZERO, &datagram, addr(1)), Ok(expected));
    f.set_reach(2, addr(7));
    let datagram = wrapped(&key(1), 1, 1, handle, &inner);
    assert_eq!(f.admit(Instant::ZERO, &datagram, addr(5)), Ok(Forward { to: addr(7), moved: true, ..expected }));
    assert_eq!(f.forwarded(), 2);
    let [late, later] = [2, 3].map(|number| wrapped(&key(1), 1, number, handle, &inner));
    assert!(!f.admit(Instant::ZERO, &later, addr(1)).unwrap().moved);
    assert!(
        !f.admit(Instant::ZERO, &late, addr(5)).unwrap().moved,
        "one that is late says nothing of where the sender is now"
    );
}

#[test]
fn a_replayed_wrap_is_refused_whatever_came_between() {
    let (mut f, handle) = pair();
    let all: Vec<_> = (0..5000).map(|n| wrapped(&key(1), 1, n, handle, &packet(n as u8))).collect();
    for datagram in &all {
        assert!(f.admit(Instant::ZERO, datagram, addr(1)).is_ok());
    }
    for datagram in &all {
        assert_eq!(f.admit(Instant::ZERO, datagram, addr(1)), Err(Refusal::Replayed));
    }
    assert_eq!((f.forwarded(), f.refused(Refusal::Replayed)), (5000, 5000));
}

#[test]
fn numbers_go_on_past_their_24_bits() {
    let (mut f, handle) = pair();
    let mut number = 0;
    for _ in 0..10 {
        let datagram = wrapped(&key(1), 1, number, handle, &packet(0));
        assert!(f.admit(Instant::ZERO, &datagram, addr(1)).is_ok(), "{number}");
        assert!(f.admit(Instant::ZERO, &datagram, addr(1)).is_err(), "{number}");
        number += (1 << 23) - 1;
    }
}

#[test]
fn no_handle_but_a_live_one_leads_anywhere() {
    let (mut f, handle) = pair();
    f.add_session(3, key(3), addr(3)).unwrap();
    f.remove_route(1, handle);
    let live = f.add_route(1, 3).unwrap();
    let mut number = 0;
    let mut forwarded = BTreeSet::new();
    for slot in 0..1 << 16 {
        for handle in [slot << 16 | 1, slot << 16 | 2, slot, slot << 16] {
            let datagram = wrapped(&key(1), 1, number, handle, &packet(0));
            number += 1;
            if let Ok(forward) = f.admit(Instant::ZERO, &datagram, addr(1)) {
                assert_eq!(forward.to_session, 3);
                forwarded.insert(handle);
            }
        }
    }
    assert_eq!(forwarded, BTreeSet::from([live]));
    f.remove_route(1, live);
    let before = f.forwarded();
    for handle in (0..1 << 16).map(|slot| slot << 16 | live & 0xffff) {
        let datagram = wrapped(&key(1), 1, number, handle, &packet(0));
        number += 1;
        assert_eq!(f.admit(Instant::ZERO, &datagram, addr(1)), Err(Refusal::NoRoute));
    }
    assert_eq!(f.forwarded(), before);
}

#[test]
fn no_handle_is_given_twice_and_a_worn_slot_is_retired() {
    let (mut f, first) = pair();
    f.remove_route(1, first);
    let mut handles = BTreeSet::from([first]);
    for _ in 0..70_000 {
        let handle = f.add_route(1, 2).unwrap();
        assert!(handles.insert(handle), "given twice");
        assert!(f.remove_route(1, handle));
    }
    assert_eq!(handles.iter().map(|handle| handle >> 16).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1]));
}

#[test]
fn a_route_to_a_session_that_is_over_does_not_reach_the_one_after_it() {
    let (mut f, handle) = pair();
    assert!(f.remove_session(2));
    let datagram = wrapped(&key(1), 1, 0, handle, &packet(0));
    assert_eq!(f.admit(Instant::ZERO, &datagram, addr(1)), Err(Refusal::ReceiverGone));
    f.add_session(2, key(22), addr(22)).unwrap();
    let datagram = wrapped(&key(1), 1, 1, handle, &packet(0));
    assert_eq!(f.admit(Instant::ZERO, &datagram, addr(1)), Err(Refusal::ReceiverGone));
}

#[test]
fn only_a_peers_packet_may_be_inside() {
    let (mut f, handle) = pair();
    for first in (0x00..=0xff).filter(|first: &u8| !(0x40..0x50).contains(first)) {
        let mut inner = packet(0);
        inner[0] = first;
        let datagram = wrapped(&key(1), 1, u64::from(first), handle, &inner);
        assert_eq!(f.admit(Instant::ZERO, &datagram, addr(1)), Err(Refusal::Malformed), "{first:#x}");
    }
}

#[test]
fn sessions_and_routes_are_bounded() {
    let (mut f, _) = pair();
    assert_eq!(f.add_session(1, key(9), addr(9)), Err(SessionError::Known));
    f.add_session(3, key(3), addr(3)).unwrap();
    f.add_session(4, key(4), addr(4)).unwrap();
    assert_eq!(f.add_session(5, key(5), addr(5)), Err(SessionError::Full));
    for _ in 1..LIMITS.routes {
        f.add_route(1, 3).unwrap();
    }
    assert_eq!(f.add_route(1, 3), Err(RouteError::Full));
    assert_eq!(f.add_route(1, 1), Err(RouteError::ToItself));
    assert_eq!(f.add_route(9, 1), Err(RouteError::UnknownSender));
    assert_eq!(f.add_route(2, 9), Err(RouteError::UnknownReceiver));
    f.remove_session(4);
    f.add_session(5, key(5), addr(5)).unwrap();
}

#[derive(Clone, Debug)]
enum Op {
    AddSession(u64),
    RemoveSession(u64),
    AddRoute(u64, u64),
    RemoveRoute(u64, usize),
    /// By a session, over one of the handles that it was ever given, skipping some numbers.
    Send(u64, usize, u64),
    /// Something sent before, again.
    Replay(usize),
    /// Something sent before with one bit changed.
    Flip(usize, usize),
    /// One session's packet under another's key.
    Steal(u64, u64, usize),
    Noise(Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    let (s, n) = (1u64..6, 0usize..1000);
    prop_oneof![
        2 => s.clone().prop_map(Op::AddSession),
        1 => s.clone().prop_map(Op::RemoveSession),
        4 => (s.clone(), s.clone()).prop_map(|(a, b)| Op::AddRoute(a, b)),
        2 => (s.clone(), n.clone()).prop_map(|(a, n)| Op::RemoveRoute(a, n)),
        8 => (s.clone(), n.clone(), prop_oneof![Just(1u64), 1u64..5000]).prop_map(|(a, n, k)| Op::Send(a, n, k)),
        3 => n.clone().prop_map(Op::Replay),
        3 => (n.clone(), 0usize..1 << 16).prop_map(|(n, bit)| Op::Flip(n, bit)),
        2 => (s.clone(), s, n).prop_map(|(a, b, n)| Op::Steal(a, b, n)),
        1 => collection::vec(any::<u8>(), 0..80).prop_map(Op::Noise),
    ]
}

/// What the forwarder ought to know.
#[derive(Default)]
struct Model {
    /// Live sessions, and which life of that id it is: each has a key of its own.
    live: BTreeMap<u64, u64>,
    lives: u64,
    numbers: BTreeMap<u64, u64>,
    /// Handles ever given to a session of that id.
    handles: BTreeMap<u64, Vec<u32>>,
    /// Live routes: (sender, its life, handle) to (receiver, its life).
    routes: BTreeMap<(u64, u64, u32), (u64, u64)>,
    sent: Vec<Vec<u8>>,
}

impl Model {
    fn handle(&self, session: u64, n: usize) -> u32 {
        let given = self.handles.get(&session).map(Vec::as_slice).unwrap_or_default();
        given.get(n % given.len().max(1)).copied().unwrap_or(n as u32)
    }

    fn receiver(&self, session: u64, handle: u32) -> Option<u64> {
        let life = *self.live.get(&session)?;
        let (to, of) = *self.routes.get(&(session, life, handle))?;
        (self.live.get(&to) == Some(&of)).then_some(to)
    }
}

/// All that admission may change, apart from counters.
fn state(f: &Forwarder) -> Vec<Option<(u64, Reach, ReplayWindow, usize)>> {
    let all = f.sessions.iter();
    all.map(|s| s.as_ref().map(|s| (s.id, s.reach, s.numbers.clone(), s.routes.live))).collect()
}

fn step(f: &mut Forwarder, m: &mut Model, op: Op) -> Result<(), TestCaseError> {
    match op {
        Op::AddSession(s) => {
            let may = !m.live.contains_key(&s) && m.live.len() < LIMITS.sessions;
            let life = m.lives + 1;
            prop_assert_eq!(f.add_session(s, key(life), addr(s)).is_ok(), may);
            if may {
                m.lives = life;
                m.live.insert(s, life);
                m.numbers.insert(s, 0);
            }
        }
        Op::RemoveSession(s) => {
            prop_assert_eq!(f.remove_session(s), m.live.remove(&s).is_some());
            m.routes.retain(|(from, ..), _| *from != s);
        }
        Op::AddRoute(a, b) => {
            let count = m.routes.keys().filter(|(from, ..)| *from == a).count();
            let ends = (m.live.get(&a).copied(), m.live.get(&b).copied());
            let may = a != b && count < LIMITS.routes;
            let made = f.add_route(a, b);
            prop_assert_eq!(made.is_ok(), may && ends.0.is_some() && ends.1.is_some());
            if let (Ok(handle), (Some(life), Some(of))) = (made, ends) {
                prop_assert!(m.routes.insert((a, life, handle), (b, of)).is_none());
                m.handles.entry(a).or_default().push(handle);
            }
        }
        Op::RemoveRoute(a, n) => {
            let handle = m.handle(a, n);
            let life = m.live.get(&a).copied().unwrap_or(0);
            prop_assert_eq!(f.remove_route(a, handle), m.routes.remove(&(a, life, handle)).is_some());
        }
        Op::Send(s, n, skip) => {
            let (handle, inner) = (m.handle(s, n), packet(n as u8));
            let number = m.numbers.entry(s).or_default();
            *number += skip;
            let datagram = wrapped(&key(m.live.get(&s).copied().unwrap_or(0)), s, *number, handle, &inner);
            let made = f.admit(Instant::ZERO, &datagram, addr(s));
            match m.receiver(s, handle) {
                Some(to) => {
                    let fresh = made.is_ok_and(|forward| forward.fresh);
                    let all =
                        Forward { from_session: s, to_session: to, to: addr(to), inner: &inner, fresh, moved: false };
                    prop_assert_eq!(made, Ok(all));
                }
                None => prop_assert!(made.is_err()),
            }
            m.sent.push(datagram);
        }
        Op::Replay(n) if !m.sent.is_empty() => {
            refuse(f, &m.sent[n % m.sent.len()])?;
        }
        Op::Flip(n, bit) if !m.sent.is_empty() => {
            let mut datagram = m.sent[n % m.sent.len()].clone();
            // The wrap, and the 16 bytes that the MAC covers at either end of the packet.
            let covered: Vec<_> = (0..WRAP_LEN + 16).chain(datagram.len() - 16..datagram.len()).collect();
            datagram[covered[bit / 8 % covered.len()]] ^= 1 << (bit % 8);
            refuse(f, &datagram)?;
        }
        Op::Steal(a, b, n) if a != b => {
            let number = m.numbers.get(&a).copied().unwrap_or(0) + 1;
            let thief = key(m.live.get(&b).copied().unwrap_or(0));
            refuse(f, &wrapped(&thief, a, number, m.handle(a, n), &packet(0)))?;
        }
        Op::Noise(bytes) => refuse(f, &bytes)?,
        _ => {}
    }
    Ok(())
}

/// It is not forwarded, and changes nothing.
fn refuse(f: &mut Forwarder, datagram: &[u8]) -> Result<(), TestCaseError> {
    let before = state(f);
    prop_assert!(f.admit(Instant::ZERO, datagram, addr(1)).is_err());
    prop_assert_eq!(state(f), before);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Invariant: the relay forwards only inside a live route, once, and only what the session itself sent.
    #[test]
    fn only_authentic_fresh_datagrams_over_live_routes_are_forwarded(ops in collection::vec(op(), 1..150)) {
        let (mut f, mut m) = (forwarder(LIMITS), Model::default());
        for session in 1..4 {
            step(&mut f, &mut m, Op::AddSession(session))?;
        }
        for op in ops {
            step(&mut f, &mut m, op)?;
        }
        let live: BTreeSet<_> = f.sessions.iter().flatten().map(|session| session.id).collect();
        prop_assert_eq!(live, m.live.keys().copied().collect::<BTreeSet<_>>());
    }
}

#[test]
fn a_sender_has_its_budget_and_no_other_pays_for_it() {
    let rate = |per_second, burst| Rate { per_second, burst };
    let budget = RelayBudget { bytes: rate(8_400, 1 << 16), packets: rate(100, 10) };
    let mut f = forwarder(RelayLimits { budget, ..LIMITS });
    f.add_session(1, key(1), addr(1)).unwrap();
    f.add_session(2, key(2), addr(2)).unwrap();
    let (there, back) = (f.add_route(1, 2).unwrap(), f.add_route(2, 1).unwrap());
    let mut number = 0;
    let mut admitted = |f: &mut Forwarder, from: u64, handle, ms: u64, count: usize| {
        let all = (0..count).filter(|_| {
            number += 1;
            let datagram = wrapped(&key(from), from, number, handle, &packet(0));
            f.admit(Instant::from_millis(ms), &datagram, addr(from)).is_ok()
        });
        all.count()
    };
    assert_eq!(admitted(&mut f, 1, there, 1_000, 50), 10, "a burst of packets");
    assert_eq!(admitted(&mut f, 2, back, 1_000, 10), 10, "of each sender");
    assert_eq!(admitted(&mut f, 1, there, 1_050, 50), 5);
    assert_eq!(f.refused(Refusal::OverBudget), 40 + 45);
    let bytes: usize = (0..2_000).map(|n| admitted(&mut f, 1, there, 2_000 + n * 20, 1)).sum();
    assert!((84 * bytes) as u64 <= (1 << 16) + 8_400 * 40, "{bytes} packets in 40 s");
}
