//! What each kind of channel promises, and in what order messages of several channels and classes leave.

use super::*;
use crate::command::Class;
use proptest::prelude::*;
use std::collections::BTreeMap;

const KINDS: [Scope; 4] = [PEER, UNORDERED, LOOSE, SEQUENCED];

fn peer(channel: Channel) -> Scope {
    Scope::Peer(channel)
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}

impl Pair {
    fn numbers_of(&self, n: usize, scope: Scope) -> Vec<u32> {
        self.bytes_of(n, scope).iter().map(|bytes| number(bytes)).collect()
    }

    /// The first path, which loses, reorders and duplicates.
    fn roughen(&mut self, loss: u64) {
        self.wires[0] = Wire { jitter: ms(40), loss, duplicates: 150, ..Wire::of(ms(15)) };
    }

    /// Lets go of a packet's worth at a time, as if the network were narrow; what went in each, and from whom.
    fn squeeze(&mut self, packets: usize) -> Vec<Vec<(Scope, u32, usize)>> {
        let mut all = Vec::new();
        let mut names = BTreeMap::new();
        for _ in 0..packets {
            let mut buf = [0; PAYLOAD];
            let mut w = Writer::new(&mut buf);
            self.now = self.now + ms(1);
            let path = &mut self.ends[A].paths[0];
            path.probes = 1;
            let Some(built) = self.ends[A].build(self.now, MAIN, &mut w) else { break };
            let mut there = Vec::new();
            for frame in Frames::new(w.written()).map(Result::unwrap) {
                match frame {
                    Frame::Scope(frame) => _ = names.insert(frame.id, frame.scope),
                    Frame::Message(m) => there.push((names[&m.head.scope], m.head.seq as u32, m.data.len())),
                    _ => {}
                }
            }
            let body = w.written().to_vec();
            self.put(A, MAIN, built.pn, body);
            all.push(there);
        }
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_kind_keeps_its_promise_whatever_the_network_does(
        seed in 0u64..1000, loss in 0u64..300, lens in proptest::collection::vec((0usize..4, 4usize..3000), 1..120),
    ) {
        let mut pair = Pair::new(seed);
        pair.open();
        pair.roughen(loss);
        let mut sent: BTreeMap<Scope, Vec<Vec<u8>>> = BTreeMap::new();
        for (n, (kind, len)) in (0..).zip(lens) {
            pair.send(A, KINDS[kind], &numbered(n, len));
            sent.entry(KINDS[kind]).or_default().push(numbered(n, len));
            pair.run(ms(3));
        }
        let all = |scope| sent.get(&scope).cloned().unwrap_or_default();
        let whole = |p: &Pair, scope| p.bytes_of(B, scope).len() == all(scope).len();
        pair.until(ms(60_000), |p| whole(p, PEER) && whole(p, UNORDERED));
        pair.run(ms(1000));
        prop_assert_eq!(pair.bytes_of(B, PEER), all(PEER));
        let mut unordered = pair.bytes_of(B, UNORDERED);
        unordered.sort_unstable();
        let mut expected = all(UNORDERED);
        expected.sort_unstable();
        prop_assert_eq!(unordered, expected, "each exactly once");
        let loose = pair.numbers_of(B, LOOSE);
        prop_assert_eq!(loose.iter().collect::<BTreeSet<_>>().len(), loose.len(), "at most once");
        prop_assert!(pair.bytes_of(B, LOOSE).iter().all(|bytes| all(LOOSE).contains(bytes)));
        prop_assert!(pair.numbers_of(B, SEQUENCED).is_sorted_by(|a, b| a < b), "never goes back");
        // And all of it is settled.
        pair.until(ms(60_000), |p| p.ends[A].room() == (256 << 10) - 64);
    }

    #[test]
    fn of_each_key_a_sequence_never_goes_back_and_ends_with_the_latest_that_came(
        seed in 0u64..1000, keys in proptest::collection::vec(proptest::option::of(0u32..3), 1..150), polls: bool,
    ) {
        let mut pair = Pair::new(seed);
        pair.open();
        pair.roughen(200);
        pair.polls[B] = polls;
        for (n, key) in (0u32..).zip(&keys) {
            let options = key.map_or(SendOptions::default(), |key| SendOptions::default().replaces(key));
            pair.send_as(A, SEQUENCED, &[&n.to_be_bytes()[..], &[key.map_or(9, |key| key as u8)]].concat(), options);
            pair.run(ms(2));
        }
        pair.run(ms(500));
        pair.polls[B] = true;
        pair.run(ms(1));
        for key in [9, 0, 1, 2] {
            let of_key = pair.bytes_of(B, SEQUENCED).into_iter().filter(|bytes| bytes[4] == key);
            let numbers: Vec<_> = of_key.map(|bytes| number(&bytes)).collect();
            prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{key}: {numbers:?}");
            prop_assert!(polls || key == 9 || numbers.len() <= 1, "a newer one takes the place of what waits");
        }
    }
}

#[test]
fn an_unordered_message_passes_one_that_was_lost_and_an_ordered_one_waits_for_it() {
    let mut pair = Pair::new(1);
    pair.open();
    pair.wires[0].cut[A] = true;
    for scope in [PEER, UNORDERED] {
        pair.send(A, scope, &numbered(0, 10));
    }
    pair.run(ms(1));
    pair.wires[0].cut[A] = false;
    for scope in [PEER, UNORDERED] {
        pair.send(A, scope, &numbered(1, 10));
    }
    pair.run(ms(35));
    assert_eq!((pair.numbers_of(B, PEER), pair.numbers_of(B, UNORDERED)), (vec![], vec![1]));
    pair.run(ms(500));
    assert_eq!((pair.numbers_of(B, PEER), pair.numbers_of(B, UNORDERED)), (vec![0, 1], vec![1, 0]));
}

#[test]
fn messages_behind_a_gap_keep_their_slots_paid_for() {
    let mut pair = Pair::new(2);
    pair.open();
    // The first message never arrives: each of its packets is lost.
    pair.wires[0].cut[A] = true;
    pair.send(A, UNORDERED, b"");
    pair.run(ms(1));
    let mut sent = 1u64;
    for _ in 0..3000 {
        pair.wires[0].cut[A] = true;
        pair.pump();
        pair.wires[0].cut[A] = false;
        for _ in 0..10 {
            sent += u64::from(pair.ends[A].send_next(pair.now, UNORDERED, b"").is_ok());
        }
        pair.run(ms(5));
    }
    pair.until(ms(10_000), |p| p.got[B].len() as u64 == sent);
}

#[test]
fn a_small_message_does_not_wait_behind_a_large_one_of_another_channel() {
    let mut pair = Pair::new(3);
    pair.open();
    pair.send(A, PEER, &numbered(0, 60_000));
    pair.send(A, peer(Channel::reliable(2)), &numbered(1, 20));
    pair.send(A, LOOSE, &numbered(2, 20));
    let packets = pair.squeeze(3);
    let others = packets.iter().flatten().filter(|(scope, ..)| *scope != PEER).count();
    assert_eq!(others, 2, "{packets:?}");
}

#[test]
fn channels_and_groups_share_a_class_within_two_packets() {
    let mut pair = Pair::new(4);
    let group = |n| Scope::Group(GroupId::new(n, 1), 1, Channel::reliable(0));
    let scopes = [PEER, UNORDERED, group(1), group(2)];
    for (scope, len) in scopes.into_iter().zip([100, 700, 1100, 20_000]) {
        (0..40_000 / len as u32).for_each(|n| pair.send(A, scope, &numbered(n, len)));
    }
    let mut sent = BTreeMap::<Scope, usize>::new();
    for packet in pair.squeeze(100) {
        packet.iter().for_each(|(scope, _, len)| *sent.entry(*scope).or_default() += len);
        if sent.len() == 4 {
            let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
            assert!(most - least <= 2 * 1200 + 200, "{sent:?}");
        }
    }
    assert!(sent.values().sum::<usize>() > 100_000, "{sent:?}");
}

#[test]
fn classes_are_strict_but_for_a_floor() {
    let config = TransportConfig { send_buffer: 1 << 20, ..TransportConfig::default() };
    let mut pair = Pair::with(5, &config, PAYLOAD);
    let scopes = Class::ALL.map(|class| (class, peer(Channel::reliable(class as u8))));
    for n in 0..200 {
        for (class, scope) in scopes {
            pair.send_as(A, scope, &numbered(n, 1000), SendOptions::default().class(class));
        }
    }
    let packets = pair.squeeze(150);
    let share = |scope| {
        let sum = |all: &mut dyn Iterator<Item = &(Scope, u32, usize)>| all.map(|(.., len)| len).sum::<usize>() as f64;
        sum(&mut packets.iter().flatten().filter(|(s, ..)| *s == scope)) / sum(&mut packets.iter().flatten())
    };
    let [urgent, normal, bulk] = scopes.map(|(_, scope)| share(scope));
    assert!((0.05..0.1).contains(&bulk) && (0.05..0.1).contains(&normal) && urgent > 0.8, "{urgent} {normal} {bulk}");
    pair.send(A, Scope::Control, b"before all");
    assert_eq!(pair.squeeze(1)[0][0].0, Scope::Control);
}

#[test]
fn an_urgent_message_finds_credit_left_by_the_others() {
    let config = TransportConfig { send_buffer: 1 << 20, ..TransportConfig::default() };
    let mut pair = Pair::with(6, &config, PAYLOAD);
    pair.open();
    pair.polls[B] = false;
    for channel in [1, 7] {
        (0..45).for_each(|_| pair.send(A, peer(Channel::reliable(channel)), &[1; 4000]));
    }
    pair.run(ms(2000));
    assert_eq!(pair.ends[B].take_ready(), (304 << 10) / 4064);
    pair.send(A, peer(Channel::reliable(8)), &[1; 4000]);
    pair.run(ms(200));
    assert_eq!(pair.ends[B].take_ready(), 0);
    pair.send_as(A, peer(Channel::reliable(9)), &[1; 4000], SendOptions::default().class(Class::Urgent));
    pair.run(ms(200));
    assert_eq!(pair.ends[B].take_ready(), 1);
}

#[test]
fn nothing_is_sent_after_its_deadline_and_what_was_not_is_counted() {
    let mut pair = Pair::new(7);
    pair.open();
    let options = |n: u32| SendOptions::default().deadline(ms(u64::from(n % 50)));
    let refused = pair.ends[A].send(pair.now, PEER, None, b"x", &options(1));
    assert_eq!(refused, Err(TransportSendError::ReliableDeadline), "what was promised to arrive cannot be late");
    let start = pair.now;
    for n in 0..50u32 {
        pair.send_as(A, LOOSE, &numbered(n, 1100), options(n));
        pair.send_as(A, SEQUENCED, &numbered(n, 1000), options(n));
    }
    for _ in 0..80 {
        for (scope, seq, _) in pair.squeeze(1).into_iter().flatten() {
            let after = pair.now.since(start);
            assert!(after <= ms(u64::from(seq) % 50), "{seq} of {scope:?} after {after:?}");
        }
    }
    assert!(pair.ends[A].wants(pair.now).is_none(), "nothing waits any more");
    let overflow = pair.ends[A].overflow();
    pair.run(ms(200));
    assert!(overflow.expired > 30, "{overflow:?}");
    assert!(pair.got[B].len() as u64 + overflow.expired + overflow.sending <= 100);
    assert_eq!(pair.bytes_of(B, LOOSE).len() + pair.bytes_of(B, SEQUENCED).len(), pair.got[B].len());
}

#[test]
fn a_newer_message_of_a_key_supersedes_an_older_one_that_was_not_sent() {
    let mut pair = Pair::new(8);
    pair.open();
    let key = |key| SendOptions::default().replaces(key);
    for scope in KINDS {
        for n in 0..10 {
            pair.send_as(A, scope, &numbered(n, 50), key(n % 2));
            pair.send_as(A, scope, &numbered(100 + n, 50), SendOptions::default());
        }
    }
    pair.run(ms(200));
    let expected: Vec<_> = (100..108).chain([8, 108, 9, 109]).collect();
    for scope in KINDS {
        assert_eq!(pair.numbers_of(B, scope), expected, "{scope:?}");
    }
    assert_eq!(pair.ends[A].overflow().superseded, 4 * 8);
    pair.run(ms(500));
    assert_eq!(pair.ends[A].room(), (256 << 10) - 64);
    // Once it was sent, a newer one does not call it back.
    pair.send_as(A, PEER, &numbered(1, 50), key(1));
    pair.run(ms(1));
    pair.send_as(A, PEER, &numbered(2, 50), key(1));
    pair.run(ms(200));
    assert!(pair.numbers_of(B, PEER).ends_with(&[1, 2]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_superseded_half_sent_leaves_no_gap_and_no_credit_behind(
        seed in 0u64..1000, loss in 0u64..300, unordered: bool,
        lens in proptest::collection::vec((4usize..30_000, 0u32..3), 1..40),
    ) {
        let mut pair = Pair::new(seed);
        pair.open();
        pair.roughen(loss);
        let scope = if unordered { UNORDERED } else { PEER };
        let mut last = BTreeMap::new();
        for (n, (len, key)) in (0..).zip(lens) {
            let options = SendOptions::default().replaces(key);
            if pair.ends[A].send(pair.now, scope, None, &numbered(n, len), &options).is_ok() {
                last.insert(key, n);
            }
            pair.run(ms(2));
        }
        pair.until(ms(60_000), |p| p.ends[A].room() == (256 << 10) - 64);
        let numbers = pair.numbers_of(B, scope);
        prop_assert!(unordered || numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        prop_assert!(last.values().all(|n| numbers.contains(n)), "the latest of each key arrives: {last:?} {numbers:?}");
        // All credit came back: as much as ever can be under way.
        pair.got[B].clear();
        (0..3).for_each(|n| pair.send(A, peer(Channel::reliable(7)), &numbered(n, 64 << 10)));
        pair.until(ms(60_000), |p| p.got[B].len() == 3);
    }
}
