//! Loss recovery, round trips, acknowledgements, throughput.

use super::*;
use proptest::prelude::*;

#[test]
fn a_lost_packet_among_others_is_repeated_after_three_later_ones() {
    let mut pair = Pair::new(1);
    pair.open();
    pair.send(A, PEER, b"warm up");
    pair.run(ms(500));
    pair.wires[0].cut[A] = true;
    // Too large to ride again beside the next.
    pair.send(A, PEER, &numbered(99, 300));
    pair.run(ms(1));
    pair.wires[0].cut[A] = false;
    for n in 0..6 {
        pair.send(A, PEER, &numbered(n, 300));
        pair.run(ms(5));
    }
    let took = pair.until(ms(200), |p| p.got[B].len() == 8);
    // Out at 0, the third later one at 11, its acknowledgement back at 71, the repetition there at 101.
    assert!(took + ms(31) <= ms(105), "{took:?}");
    assert_eq!(pair.ends[A].path_stats(MAIN).packets_lost, 1);
}

#[test]
fn a_lost_tail_is_repeated_after_one_timeout() {
    let mut pair = Pair::new(2);
    pair.open();
    for n in 0..20 {
        pair.send(A, PEER, &numbered(n, 10));
        pair.run(ms(30));
    }
    pair.run(ms(500));
    pair.wires[0].cut[A] = true;
    pair.send(A, PEER, b"tail");
    pair.run(ms(1));
    pair.wires[0].cut[A] = false;
    let pto = pair.ends[A].pto(MAIN);
    let took = pair.until(ms(500), |p| p.got[B].len() == 21);
    assert!(took + ms(1) <= pto + ms(31), "{took:?}, timeout {pto:?}");
    let window = pair.ends[A].path_stats(MAIN).window;
    assert_eq!(window, 10 * (PAYLOAD as u64 + 29), "a timeout alone takes nothing from the window");
}

#[test]
fn a_word_after_timeouts_have_backed_off_is_answered_with_what_waits_and_not_with_a_question() {
    let mut pair = Pair::new(2);
    pair.open();
    pair.send(A, PEER, b"warm up");
    pair.run(ms(500));
    pair.wires[0].cut[A] = true;
    pair.send(A, PEER, b"waits");
    pair.run(ms(5_000));
    pair.wires[0].cut[A] = false;
    assert_eq!(pair.got[B].len(), 1);
    pair.send(B, PEER, b"word");
    // One way for the word, one for the message.
    let took = pair.until(ms(61), |p| p.got[B].len() == 2);
    assert!(took >= ms(60), "a timeout was not by chance there first: {took:?}");
}

#[test]
fn round_trips_are_measured_per_path_from_what_was_sent_on_it() {
    let mut pair = Pair::new(3);
    pair.open();
    pair.open_direct();
    for n in 0..100 {
        pair.send(A, PEER, &numbered(n, 10));
        pair.send(B, PEER, &numbered(n, 10));
        pair.run(ms(16));
    }
    for end in &pair.ends {
        let (main, direct) = (end.rtt(MAIN).unwrap(), end.rtt(DIRECT).unwrap());
        assert!(main >= ms(60) && main <= ms(66), "{main:?}");
        assert!(direct >= ms(20) && direct <= ms(26), "{direct:?}");
    }
}

#[test]
fn a_packet_already_acknowledged_gives_no_second_sample() {
    let mut pair = Pair::new(4);
    pair.send(A, PEER, b"x");
    pair.run(ms(200));
    let rtt = pair.ends[A].paths[0].rtt.clone();
    let ack = pair.log.iter().find(|l| l.from == B).unwrap().body.clone();
    for pn in 100..110 {
        pair.now = pair.now + ms(500);
        let now = pair.now;
        pair.ends[A].received(now, MAIN, pn, Ecn::NotCapable, &ack, &mut |_| ()).unwrap();
    }
    assert_eq!(std::format!("{:?}", pair.ends[A].paths[0].rtt), std::format!("{rtt:?}"));
}

#[test]
fn one_packet_is_acknowledged_after_the_delay_two_or_a_gap_at_once() {
    let mut pair = Pair::new(5);
    pair.send(A, PEER, b"one");
    pair.run(ms(200));
    let acks = |p: &Pair| p.log.iter().filter(|l| l.from == B).map(|l| l.at).collect::<Vec<_>>();
    assert_eq!(acks(&pair), [Instant::from_millis(1035)]);
    let sent = pair.now;
    pair.send(A, PEER, b"two");
    pair.pump();
    pair.send(A, PEER, b"three");
    pair.run(ms(200));
    assert_eq!(acks(&pair)[1..], [sent + ms(30)]);
    pair.wires[0].cut[A] = true;
    pair.send(A, PEER, b"lost");
    pair.pump();
    pair.wires[0].cut[A] = false;
    let sent = pair.now;
    pair.send(A, PEER, b"behind a gap");
    pair.run(ms(40));
    assert_eq!(acks(&pair)[2..], [sent + ms(30)]);
}

#[test]
fn a_bulk_transfer_fills_the_window_and_the_credit() {
    let mut pair = Pair::new(6);
    pair.open();
    let (mut sent, start) = (0, pair.now);
    let total = 100;
    while pair.got[B].len() < total as usize {
        while sent < total && pair.ends[A].send_next(pair.now, PEER, &numbered(sent, 20_000)).is_ok() {
            sent += 1;
        }
        pair.run(ms(5));
    }
    let took = pair.now.since(start);
    // 2 MB: slow start from 12 kB takes five round trips; then the 256 KiB a round trip of credit are the bound: eight.
    assert!(took < ms(16 * 60), "{took:?}");
    let overhead = pair.log.iter().filter(|l| l.from == A).map(|l| l.len).sum::<usize>() as f64 / 2e6;
    assert!(overhead < 1.03, "{overhead}");
    assert!(
        pair.ends[B].received[0].numbers().len() < 16,
        "ranges are let go: {}",
        pair.ends[B].received[0].numbers().len()
    );
}

#[test]
fn a_bulk_transfer_survives_loss_without_waste() {
    let mut pair = Pair::new(7);
    pair.open();
    pair.wires[0].loss = 20;
    let mut sent = 0;
    while pair.got[B].len() < 100 {
        while sent < 100 && pair.ends[A].send_next(pair.now, PEER, &numbered(sent, 20_000)).is_ok() {
            sent += 1;
        }
        pair.run(ms(5));
    }
    assert_eq!(pair.bytes_of(B, PEER), (0..100).map(|n| numbered(n, 20_000)).collect::<Vec<_>>());
    let overhead = pair.log.iter().filter(|l| l.from == A).map(|l| l.len).sum::<usize>() as f64 / 2e6;
    assert!(overhead < 1.08, "2 % loss repeats little more than 2 %: {overhead}");
}

/// Sends `count` messages of 64 bytes at 60 Hz over 25 ms one way at `loss` of a thousand each way; says how long each took,
/// in order of time, and the bytes on the wire a message, IPv4 and UDP headers and both directions included.
fn sixty_a_second(seed: u64, loss: u64, count: u32) -> (Vec<Duration>, u64) {
    let mut pair = Pair::new(seed);
    pair.open();
    pair.wires[0] = Wire::of(ms(25));
    pair.wires[0].loss = loss;
    let (mut born, mut waited) = (Vec::new(), Vec::new());
    for n in 0..count {
        pair.send(A, PEER, &numbered(n, 64));
        born.push(pair.now);
        let next = pair.now + Duration::from_micros(16_667);
        while pair.step(next) {
            while waited.len() < pair.got[B].len() {
                waited.push(pair.now.since(born[waited.len()]));
            }
        }
    }
    waited.sort();
    let bytes: u64 = pair.log.iter().map(|l| l.len as u64 + path::PACKET_OVERHEAD + 28).sum();
    (waited, bytes / u64::from(count))
}

#[test]
fn a_lost_message_of_a_game_costs_one_interval_and_not_a_round_trip() {
    let figure = |loss| {
        let (waited, bytes) = sixty_a_second(8, loss, 3_000);
        let at = |share: usize| waited[waited.len() * share / 1000];
        std::format!("{loss} ‰: p50 {:?} p99 {:?} p99.9 {:?}, {bytes} bytes a message", at(500), at(990), at(999))
    };
    insta::assert_snapshot!([0, 10, 50].map(figure).join("\n"), @r"
    0 ‰: p50 25ms p99 25ms p99.9 25ms, 217 bytes a message
    10 ‰: p50 25ms p99 41.667ms p99.9 41.667ms, 276 bytes a message
    50 ‰: p50 25ms p99 41.667ms p99.9 58.334ms, 363 bytes a message
    ");
}

/// Packets that A took for lost in `time` of steady traffic, on a path that loses nothing and delays each packet by up to
/// `jitter` more than the one before it may have.
fn taken_for_lost(jitter: u64, time: Duration) -> u64 {
    let mut pair = Pair::new(12);
    pair.open();
    pair.wires[0] = Wire { jitter: ms(jitter), ..Wire::of(ms(25)) };
    let end = pair.now + time;
    while pair.now < end {
        pair.send(A, PEER, &numbered(1, 400));
        pair.run(ms(4));
    }
    pair.ends[A].path_stats(MAIN).packets_lost
}

#[test]
fn a_path_that_reorders_is_learnt_and_its_late_packets_are_taken_for_lost_no_more() {
    let (first, all) = (taken_for_lost(50, ms(2_000)), taken_for_lost(50, ms(20_000)));
    assert!(first > 0, "the ordinary thresholds do mistake them");
    assert!(all < first + 20, "{first} in 2 s, {all} in 20 s");
}

#[test]
fn a_silent_peer_costs_probes_with_backoff_and_never_more_in_flight() {
    let mut pair = Pair::new(9);
    pair.open();
    pair.wires[0].cut = [true; 2];
    for n in 0..40 {
        pair.send(A, PEER, &numbered(n, 4000));
    }
    pair.run(ms(60_000));
    // Ten at once, then two at 95, 190, … ms and from then on every 2 s.
    assert!((60..=90).contains(&pair.log.len()), "{}", pair.log.len());
    pair.wires[0].cut = [false; 2];
    pair.until(ms(5_000), |p| p.got[B].len() == 40);
}

#[test]
fn everything_lost_over_three_timeouts_is_persistent_congestion() {
    let mut pair = Pair::new(10);
    pair.open();
    for n in 0..40 {
        pair.send(A, PEER, &numbered(n, 4000));
        pair.run(ms(20));
    }
    pair.run(ms(500));
    let before = pair.ends[A].path_stats(MAIN).window;
    pair.wires[0].cut[A] = true;
    for n in 0..60 {
        pair.send(A, PEER, &numbered(n, 100));
        pair.run(ms(20));
    }
    pair.wires[0].cut[A] = false;
    let datagram = PAYLOAD as u64 + 29;
    let low = std::cell::Cell::new(before);
    pair.until(ms(5000), |p| {
        low.set(low.get().min(p.ends[A].path_stats(MAIN).window));
        p.got[B].len() == 100
    });
    assert_eq!(low.get(), 2 * datagram);
}

#[test]
fn a_probe_repeats_the_oldest_message_though_packets_that_carried_none_wait_longer() {
    let mut pair = Pair::new(13);
    pair.open();
    pair.run(ms(500));
    pair.wires[0].cut[A] = true;
    for _ in 0..3 {
        pair.ends[A].probe(MAIN);
        pair.run(ms(1));
    }
    pair.send(A, PEER, &numbered(0, 200));
    pair.run(ms(100));
    pair.send(A, PEER, &numbered(1, 200));
    pair.run(ms(3_000));
    pair.wires[0].cut[A] = false;
    let before = pair.log.len();
    pair.until(ms(5_000), |p| p.got[B].len() == 2);
    assert_eq!(pair.log[before..].iter().filter(|l| l.from == A).count(), 2, "the probes of one timeout bring it");
}

#[test]
fn control_messages_are_repeated_at_once_when_asked() {
    let mut pair = Pair::new(11);
    pair.wires[0].cut[A] = true;
    pair.send(A, Scope::Control, b"join");
    pair.run(ms(1));
    pair.wires[0].cut[A] = false;
    pair.ends[A].resend_control(pair.now);
    assert_eq!(pair.ends[A].wake().map(|w| w.1), Some(Wake::Now));
    pair.until(ms(31), |p| p.got[B].len() == 1);
    pair.run(ms(300));
    pair.ends[A].resend_control(pair.now);
    assert_eq!(pair.ends[A].wake(), None, "nothing is left to repeat");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Calls in any order at any time: no panic, no endless building, in flight bounded (see `Pair::build`).
    #[test]
    fn any_order_of_calls_is_legal(calls in proptest::collection::vec((0u8..16, 0u64..100), 1..120)) {
        let mut pair = Pair::new(12);
        for (call, n) in calls {
            let (now, group) = (pair.now, GroupId::new(1, 1));
            let end = &mut pair.ends[A];
            let scope = Scope::Group(group, 1, Channel(n as u8 & 0xc1));
            match call {
                0 => { let _ = end.send_next(now, PEER, &numbered(1, n as usize * 40)); }
                1 => { let _ = end.send_next(now, scope, &numbered(1, n as usize)); }
                2 => end.open_path(now, (n % 3) as u8, ms(n), n as usize * 20),
                3 => end.close_path(now, (n % 3) as u8),
                4 => end.on_wake(now),
                5 => { end.build(now, (n % 3) as u8, &mut Writer::new(&mut vec![0; n as usize * 30])); }
                6 => end.set_keepalive((n % 3) as u8, (n > 50).then(|| ms(n))),
                7 => end.close_group(group, n),
                8 => end.open_group(group, n),
                9 => end.resend_control(now),
                10 => end.queue_key_share([1; 32]),
                11 => end.on_wake(Instant(now.0 / 2)),
                12 => end.open_peer(),
                13 => { end.wants(Instant(n)); end.writable(); end.take_ready(); }
                _ => pair.wires[0].loss = n * 5,
            }
            pair.run(ms(n % 7));
        }
        pair.wires[0].loss = 0;
        pair.ends.iter_mut().for_each(|end| [MAIN, DIRECT].map(|p| end.set_keepalive(p, None)).into_iter().collect());
        pair.run(ms(25_000));
        prop_assert_eq!(pair.ends[A].wake(), None);
    }
}
