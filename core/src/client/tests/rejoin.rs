//! Two who share no group any more, and meet again.

use super::*;
use crate::policy::PathPolicy;
use crate::transport::{DIRECT, PROBE};
use crate::wire::buf::Writer;
use proptest::prelude::*;

/// What keeps a hole: a probe's frames in a packet with the shortest number.
const KEEPALIVE: usize = 1 + 8 + 1 + PROBE + 16;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// All of them in a group, every pair direct.
fn met(addresses: &[&str], retain_for: Duration) -> (Bench, GroupId) {
    let mut bench = Bench::configured(addresses, |config| config.timers.retain_for = retain_for);
    let group = bench.group();
    bench.run(100);
    assert_eq!(peers_with(&bench, is_direct).len(), addresses.len() - 1);
    (bench, group)
}

fn part(bench: &mut Bench, group: GroupId) {
    bench.server.destroy_group(bench.now, group).unwrap();
    bench.run(10);
    assert!(bench.clients.iter().all(|(_, client)| client.peers().next().is_none()));
}

fn held(bench: &Bench) -> [usize; 2] {
    [0, 1].map(|at| bench.clients[at].1.held_paths())
}

/// The last message that came to the second, and whether it came directly.
fn came_directly(bench: &Bench) -> Option<bool> {
    bench.events[1].iter().rev().find_map(|event| match event {
        ClientEvent::Message(message) => Some(message.direct),
        _ => None,
    })
}

#[test]
fn two_who_meet_again_are_direct_at_once_with_keys_and_numbers_of_a_new_pair() {
    for away in [0, 3_000, 28_000] {
        let (mut bench, group) = met(&FAR_APART[..2], seconds(30));
        part(&mut bench, group);
        bench.run(away);
        assert_eq!(held(&bench), [1, 1], "after {away} ms");
        let group = bench.group();
        // What the server says arrives; both are direct before anything went from one to the other.
        bench.transmit();
        let said: Vec<_> = core::mem::take(&mut bench.flying).into_iter().filter(|d| d.from == SERVER).collect();
        said.into_iter().for_each(|datagram| bench.deliver(datagram));
        assert_eq!((peers_with(&bench, is_direct).len(), held(&bench)), (1, [0, 0]));
        bench.poll();
        bench.send(0, group, RELIABLE, b"again").unwrap();
        bench.run_losing(1, |datagram| datagram.to == SERVER || datagram.from == SERVER);
        assert_eq!((bench.messages(1), came_directly(&bench)), (1, Some(true)));
        let tries = bench.clients[0].1.report(bench.id(1)).unwrap();
        assert_eq!((tries.time_to_direct, tries.holes), (Some(Duration::ZERO), 1));
    }
}

#[test]
fn a_hole_that_is_kept_costs_a_question_and_an_answer_each_way_every_five_seconds_and_ends_in_time() {
    let (mut bench, group) = met(&FAR_APART[..2], seconds(30));
    part(&mut bench, group);
    let mut between = 0;
    bench.run_losing(40_000, |datagram| {
        let direct = datagram.from != SERVER && datagram.to != SERVER;
        assert!(!direct || datagram.bytes.len() == KEEPALIVE);
        between += usize::from(direct);
        false
    });
    assert_eq!(held(&bench), [0, 0]);
    assert!((20..=28).contains(&between), "{between} datagrams in 30 s");
}

#[test]
fn with_no_time_for_it_nothing_is_kept_and_who_keeps_one_alone_gives_it_up_soon() {
    let (mut bench, group) = met(&FAR_APART[..2], Duration::ZERO);
    part(&mut bench, group);
    assert_eq!(held(&bench), [0, 0]);
    let (mut bench, group) = met(&FAR_APART[..2], seconds(60));
    part(&mut bench, group);
    bench.session(1).let_holes_go(|_| true);
    bench.run(9_900);
    assert_eq!(held(&bench), [0, 0]);
}

#[test]
fn what_is_sent_directly_before_the_receiver_heard_of_the_pair_waits_for_that() {
    let (mut bench, group) = met(&FAR_APART[..2], seconds(30));
    part(&mut bench, group);
    let group = bench.group();
    bench.transmit();
    let receiver = bench.clients[1].0;
    let (late, now): (Vec<_>, Vec<_>) = core::mem::take(&mut bench.flying).into_iter().partition(|d| d.to == receiver);
    now.into_iter().for_each(|datagram| bench.deliver(datagram));
    bench.poll();
    bench.send(0, group, RELIABLE, b"early").unwrap();
    bench.transmit();
    let early: Vec<_> = core::mem::take(&mut bench.flying).into_iter().filter(|d| d.to == receiver).collect();
    assert!(!early.is_empty());
    early.into_iter().for_each(|datagram| bench.deliver(datagram));
    assert_eq!(bench.messages(1), 0);
    late.into_iter().for_each(|datagram| bench.deliver(datagram));
    bench.poll();
    bench.poll();
    assert_eq!(bench.messages(1), 1, "what went by the relay never came");
}

#[test]
fn a_hole_that_closed_meanwhile_is_found_out_and_nothing_reliable_is_lost_over_one_that_did_just_now() {
    let (mut bench, group) = met(&FAR_APART[..2], seconds(30));
    part(&mut bench, group);
    let direct = |datagram: &Datagram| datagram.from != SERVER && datagram.to != SERVER;
    // The last proof is younger than a keepalive interval, so both believe in it.
    bench.run(2_000);
    let group = bench.group();
    bench.run_losing(10, direct);
    bench.send(0, group, RELIABLE, b"by the relay, too").unwrap();
    bench.run_losing(100, direct);
    assert_eq!((bench.messages(1), came_directly(&bench)), (1, Some(false)));
    bench.run_losing(10_000, direct);
    assert_eq!(peers_with(&bench, is_direct).len(), 0);
    bench.run(15_000);
    assert_eq!(peers_with(&bench, is_direct).len(), 1);
    part(&mut bench, group);
    bench.run_losing(15_000, direct);
    assert_eq!(held(&bench), [0, 0], "who does not answer is not kept");
}

#[test]
fn another_session_of_a_peer_and_one_that_may_not_be_direct_inherit_nothing() {
    let (mut bench, group) = met(&FAR_APART[..2], seconds(30));
    part(&mut bench, group);
    let policy = PathPolicy::RELAY_ONLY;
    bench
        .server
        .create_group(
            bench.now,
            &[bench.id(0), bench.id(1)],
            GroupOptions { policy: Some(policy), ..GroupOptions::default() },
        )
        .unwrap();
    bench.run(1_000);
    assert_eq!((peers_with(&bench, is_direct).len(), held(&bench)), (0, [0, 0]));
    let (mut bench, group) = met(&FAR_APART[..2], seconds(30));
    part(&mut bench, group);
    let (me, now) = (bench.id(1), bench.now);
    assert_eq!(bench.session(0).take_hole(me, &[7; 32], 1), None, "not the key that it had");
    assert_eq!(held(&bench), [0, 1]);
    bench.clients[1].1.restrict(now, policy);
    assert_eq!(held(&bench), [0, 0], "who wants nothing direct keeps nothing");
}

#[test]
fn a_client_keeps_64_holes_and_the_oldest_makes_room() {
    let addresses: Vec<_> = (0..67).map(|n| std::format!("203.0.113.{}:4000", n + 1)).collect();
    let addresses: Vec<_> = addresses.iter().map(|at| &**at).collect();
    let mut bench = Bench::new(&addresses);
    let ids: Vec<_> = (0..addresses.len()).map(|at| bench.id(at)).collect();
    for other in 1..addresses.len() {
        let group = bench.server.create_group(bench.now, &[ids[0], ids[other]], GroupOptions::default()).unwrap();
        bench.run(6);
        assert_eq!(peers_with(&bench, is_direct), [ids[other]]);
        part(&mut bench, group);
    }
    assert_eq!(bench.clients[0].1.held_paths(), 64);
    for (other, kept) in [(1, 0), (2, 0), (3, 1), (66, 1)] {
        let before = bench.clients[0].1.held_paths();
        bench.server.create_group(bench.now, &[ids[0], ids[other]], GroupOptions::default()).unwrap();
        bench.run(1);
        assert_eq!(before - bench.clients[0].1.held_paths(), kept, "of client {other}");
    }
}

/// Frames of every kind, and bytes that are none.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let message = prop::collection::vec(any::<u8>(), 0..40).prop_map(|text| {
        // SCOPE (to the peer, channel 0, from sequence number 0), then MESSAGE in it to the packet's end.
        let mut bytes = vec![0x04, 0, 1, 0, 0, 0x0c, 0, 0];
        bytes.extend(text);
        bytes
    });
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..80),
        message,
        (0u8..0x24, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(kind, rest)| [vec![kind], rest].concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sealed_under_the_key_of_a_kept_hole_no_application_gets_any_of_it(
        bodies in prop::collection::vec(body(), 1..8),
    ) {
        let (mut bench, group) = met(&FAR_APART[..2], seconds(30));
        // A peer that keeps all that it ever had of the pair, and its way to this client.
        let me = bench.id(1);
        let slot = bench.session(0).by_id[&me];
        let (hole, _, mut keys) = bench.session(0).peer_mut(slot).link.path_hold().unwrap();
        part(&mut bench, group);
        let (events, sent) = (bench.events[1].len(), bench.sent_to.len());
        let [from, to] = [0, 1].map(|at| bench.clients[at].0);
        prop_assert_eq!(hole.to.at, to);
        for (number, body) in (0..).zip(&bodies) {
            let header = crate::secure::Protection::header_len(number, None);
            let mut bytes = vec![0; header + body.len() + 20];
            Writer::new(&mut bytes[header..]).bytes(body).unwrap();
            let len = keys.seal(DIRECT, number, None, &mut bytes, body.len()).unwrap();
            bytes.truncate(len);
            bench.deliver(Datagram { from, to, bytes });
            bench.transmit();
        }
        bench.poll();
        prop_assert_eq!(bench.events[1].len(), events, "nothing is told");
        // Each packet draws one datagram at the most, to where packets went all the time, and none that is larger.
        let sent = &bench.sent_to[sent..];
        prop_assert!(sent.iter().filter(|at| **at == from).count() <= bodies.len());
        prop_assert!(sent.iter().all(|at| [from, to, SERVER].contains(at)));
        let counters = bench.clients[1].1.counters();
        prop_assert!(counters.violations <= 1, "whoever says more than it may loses the hole");
        prop_assert_eq!(held(&bench)[1], 1 - counters.violations as usize);
    }
}
