//! Several paths: upgrade, doubt, recovery, death; nothing lost, repeated or reordered over any of it.

use super::*;
use proptest::prelude::*;

fn sent_on(pair: &Pair, from: usize, path: PathId, since: Instant) -> usize {
    pair.log.iter().filter(|l| l.from == from && l.path == path && l.eliciting && l.at >= since).count()
}

#[test]
fn an_upgrade_sends_on_both_until_the_direct_path_is_acknowledged_and_then_prefers_it() {
    let mut pair = Pair::new(1);
    pair.open();
    pair.send(A, PEER, b"before");
    pair.run(ms(200));
    pair.open_direct();
    let opened = pair.now;
    for n in 0..40 {
        pair.send(A, PEER, &numbered(n, 50));
        pair.run(ms(5));
    }
    pair.run(ms(50));
    assert_eq!(pair.got[B].len(), 41);
    let on_main: Vec<_> = pair.log.iter().filter(|l| l.from == A && l.path == MAIN && l.at >= opened).collect();
    assert!((4..=7).contains(&on_main.len()), "copies for the direct round trip and a delay: {}", on_main.len());
    assert!(on_main.iter().all(|l| l.at <= opened + ms(30)));
    assert!(sent_on(&pair, A, DIRECT, opened) >= 40);
    assert_eq!(pair.ends[A].rtt(DIRECT).unwrap().as_millis(), 20);
}

#[test]
fn a_hole_that_closes_costs_one_timeout_and_loses_nothing() {
    let mut pair = Pair::new(2);
    pair.open();
    pair.open_direct();
    for n in 0..100 {
        pair.send(A, PEER, &numbered(n, 50));
        pair.run(ms(10));
    }
    assert_eq!(pair.got[B].len(), 100);
    let (rtt, window) = (pair.ends[A].rtt(MAIN), pair.ends[A].path_stats(MAIN).window);
    let (direct_rtt, direct_window) = (pair.ends[A].rtt(DIRECT), pair.ends[A].path_stats(DIRECT).window);
    pair.wires[1].cut = [true; 2];
    let cut = pair.now;
    pair.send(A, PEER, &numbered(100, 50));
    let pto = pair.ends[A].pto(DIRECT);
    let took = pair.until(ms(1000), |p| p.got[B].len() == 101);
    assert!(took <= pto + ms(31), "{took:?} with a timeout of {pto:?}");
    for n in 101..200 {
        pair.send(A, PEER, &numbered(n, 50));
        pair.run(ms(10));
    }
    assert!(pair.got[B].len() >= 196, "data moved to the main path for good: {}", pair.got[B].len());
    pair.run(ms(5000));
    assert_eq!(pair.bytes_of(B, PEER), (0..200).map(|n| numbered(n, 50)).collect::<Vec<_>>());
    assert_eq!(pair.events[A], [PathEvent::Suspect(DIRECT), PathEvent::Dead(DIRECT)]);
    // One more acknowledgement was under way at the cut; nothing after it may count.
    assert!(direct_rtt.unwrap().abs_diff(pair.ends[A].rtt(DIRECT).unwrap()) < ms(1));
    assert_eq!(pair.ends[A].path_stats(DIRECT).window, direct_window);
    // The main path was idle or application-limited throughout: a sample or two may refresh the round trip.
    assert_eq!(pair.ends[A].path_stats(MAIN).window, window);
    assert!(rtt.is_none_or(|before| before.abs_diff(pair.ends[A].rtt(MAIN).unwrap()) <= ms(5)));
    let on_direct = sent_on(&pair, A, DIRECT, cut);
    assert!(on_direct <= 25, "what a dead path is still probed with: {on_direct}");
    assert_eq!(sent_on(&pair, A, DIRECT, cut + ms(3000)), 0, "a dead path is left alone");
}

#[test]
fn a_busy_sender_notices_a_closed_hole_as_soon_as_an_idle_one() {
    let mut pair = Pair::new(12);
    pair.open();
    pair.open_direct();
    let (mut born, mut waited) = (Vec::new(), Vec::new());
    for n in 0..300 {
        pair.wires[1].cut = [n >= 150; 2];
        pair.send(A, PEER, &numbered(n, 50));
        born.push(pair.now);
        let next = pair.now + ms(5);
        while pair.step(next) {
            while waited.len() < pair.got[B].len() {
                waited.push(pair.now.since(born[waited.len()]));
            }
        }
    }
    let pto = pair.ends[A].pto(DIRECT);
    let worst = waited.iter().max().unwrap();
    assert!(*worst <= pto * 3 + ms(31), "at most three timeouts of added latency: {worst:?}, timeout {pto:?}");
}

#[test]
fn a_path_that_answers_again_carries_data_again() {
    let mut pair = Pair::new(3);
    pair.open();
    pair.open_direct();
    let mut n = 0;
    for phase in 0..6 {
        pair.wires[1].cut = [phase % 2 == 1; 2];
        for _ in 0..30 {
            pair.send(A, PEER, &numbered(n, 50));
            pair.run(ms(10));
            n += 1;
        }
    }
    pair.wires[1].cut = [false; 2];
    pair.run(ms(1000));
    assert_eq!(pair.bytes_of(B, PEER), (0..n).map(|n| numbered(n, 50)).collect::<Vec<_>>());
    assert!(pair.events[A].contains(&PathEvent::Recovered(DIRECT)), "{:?}", pair.events[A]);
    assert!(!pair.events[A].contains(&PathEvent::Dead(DIRECT)));
}

#[test]
fn a_path_whose_answers_alone_are_lost_does_not_die() {
    let mut pair = Pair::new(4);
    pair.open();
    pair.open_direct();
    pair.run(ms(100));
    pair.wires[1].cut = [false, true];
    for n in 0..300 {
        pair.send(A, PEER, &numbered(n, 50));
        pair.run(ms(10));
    }
    pair.run(ms(2000));
    assert_eq!(pair.bytes_of(B, PEER), (0..300).map(|n| numbered(n, 50)).collect::<Vec<_>>());
    assert!(!pair.events[A].contains(&PathEvent::Dead(DIRECT)), "{:?}", pair.events[A]);
}

#[test]
fn closing_a_path_moves_what_it_had_under_way_at_once() {
    let mut pair = Pair::new(5);
    pair.open();
    pair.open_direct();
    pair.run(ms(200));
    pair.wires[1].cut = [true; 2];
    for n in 0..20 {
        pair.send(A, PEER, &numbered(n, 500));
    }
    pair.run(ms(5));
    pair.ends[A].close_path(pair.now, DIRECT);
    let took = pair.until(ms(500), |p| p.got[B].len() == 20);
    assert!(took <= ms(60), "{took:?}");
    let next = pair.ends[A].next_number(DIRECT);
    pair.ends[A].open_path(pair.now, DIRECT, ms(20), PAYLOAD);
    assert_eq!(pair.ends[A].next_number(DIRECT), next, "numbers are never used twice");
    assert_eq!(pair.ends[A].rtt(DIRECT), None);
}

#[test]
fn probes_take_numbers_and_are_never_acknowledged_on_their_own_account() {
    let mut pair = Pair::new(6);
    let mut buf = [0; 100];
    for token in 0..50 {
        let mut w = Writer::new(&mut buf);
        let expected = pair.ends[A].next_number(DIRECT);
        let pn = pair.ends[A].build_probe(pair.now, DIRECT, &mut w, Some(token), Some(token + 1));
        assert_eq!(pn, expected);
        let body = w.written().to_vec();
        pair.put(A, DIRECT, pn, body);
        pair.run(ms(20));
    }
    assert_eq!(pair.frames[B].len(), 100);
    assert_eq!(pair.frames[B][..2], [LinkFrame::Challenge(0), LinkFrame::Response(1)]);
    assert!(pair.log.is_empty(), "no packet answers a probe");
    assert_eq!(pair.ends[A].path_stats(DIRECT).in_flight, 0);
    assert!(pair.ends[B].last_received(DIRECT).is_some());
}

#[test]
fn a_keepalive_pings_an_idle_path_and_only_that() {
    let mut pair = Pair::new(7);
    pair.open();
    pair.open_direct();
    pair.ends[A].set_keepalive(DIRECT, Some(ms(1000)));
    pair.run(ms(10_500));
    let pings = sent_on(&pair, A, DIRECT, Instant::ZERO);
    assert!((9..=10).contains(&pings), "{pings}");
    assert_eq!(sent_on(&pair, A, MAIN, Instant::ZERO), 0);
    assert!(pair.log.len() <= 20, "a ping and its answer each: {}", pair.log.len());
    pair.wires[1].cut = [true; 2];
    pair.run(ms(10_000));
    assert_eq!(
        pair.events[A],
        [PathEvent::Suspect(DIRECT), PathEvent::Dead(DIRECT)],
        "an idle path's death is noticed"
    );
}

#[test]
fn two_ends_that_both_remember_many_ranges_of_another_path_do_not_ping_each_other_for_ever() {
    let mut pair = Pair::new(13);
    pair.open();
    for token in 0..40 {
        // Path tests ask for no acknowledgement, so that nobody will ever let go of these ranges.
        pair.wires[1].cut = [token % 2 == 0; 2];
        for from in [A, B] {
            let mut buf = [0; 20];
            let mut w = Writer::new(&mut buf);
            let pn = pair.ends[from].build_probe(pair.now, DIRECT, &mut w, Some(token), None);
            let body = w.written().to_vec();
            pair.put(from, DIRECT, pn, body);
        }
    }
    pair.run(ms(100));
    assert!(pair.ends.iter().all(|end| end.received[1].numbers().len() >= 16));
    pair.send(A, PEER, b"one message on the main path");
    pair.run(ms(2000));
    let before = pair.log.len();
    pair.run(ms(10_000));
    assert_eq!(pair.log.len(), before);
}

/// What befalls the pair for a while.
#[derive(Clone, Debug)]
struct Spell {
    ms: u64,
    loss: [u64; 2],
    jitter: u64,
    duplicates: u64,
    cut: [[bool; 2]; 2],
    reopen: bool,
    close: [bool; 2],
    sends: Vec<(usize, usize)>,
}

fn spell() -> impl Strategy<Value = Spell> {
    let cut = || (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let sends = proptest::collection::vec((0usize..4, 0usize..3000), 0..25);
    let faults = (0u64..300, 0u64..300, 0u64..40, 0u64..300);
    let acts = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (1u64..700, faults, cut(), cut(), acts, sends).prop_map(|(ms, faults, main, direct, acts, sends)| Spell {
        ms,
        loss: [faults.0, faults.1],
        jitter: faults.2,
        duplicates: faults.3,
        cut: [[main.0, main.1], [direct.0, direct.1]],
        reopen: acts.0,
        close: [acts.1, acts.2],
        sends,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn nothing_is_lost_repeated_or_reordered_over_any_number_of_switches(
        seed in 0u64..1 << 40, spells in proptest::collection::vec(spell(), 1..12),
    ) {
        let scopes = [PEER, Scope::Peer(Channel::reliable(2)), Scope::Control, LOOSE];
        let mut pair = Pair::new(seed);
        pair.open();
        let mut sent: [Vec<(Scope, Vec<u8>)>; 2] = Default::default();
        let mut n = 0;
        for spell in &spells {
            for path in [MAIN, DIRECT] {
                let wire = &mut pair.wires[path as usize];
                wire.loss = spell.loss[path as usize];
                wire.cut = spell.cut[path as usize];
                (wire.jitter, wire.duplicates) = (ms(spell.jitter), spell.duplicates);
            }
            if spell.reopen {
                pair.open_direct();
            }
            for &(pick, len) in &spell.sends {
                let (from, scope) = (pick % 2, scopes[(pick + len) % 4]);
                let bytes = numbered(n, len);
                n += 1;
                if pair.ends[from].send_next(pair.now, scope, &bytes).is_ok() {
                    sent[from].push((scope, bytes));
                }
                pair.run(ms(spell.ms / spell.sends.len() as u64));
            }
            pair.run(ms(spell.ms % 50));
            for from in [A, B] {
                if spell.close[from] {
                    pair.ends[from].close_path(pair.now, DIRECT);
                }
            }
        }
        // Faults stop; honest ends converge (and every packet is acknowledged or lost) in bounded time.
        for wire in &mut pair.wires {
            (wire.loss, wire.jitter, wire.duplicates, wire.cut) = (0, Duration::ZERO, 0, [false; 2]);
        }
        pair.run(ms(30_000));
        for from in [A, B] {
            for scope in scopes {
                let expected: Vec<_> = sent[from].iter().filter(|(s, _)| *s == scope).map(|(_, b)| b.clone()).collect();
                let got = pair.bytes_of(1 - from, scope);
                if scope.is_reliable() {
                    prop_assert_eq!(got, expected);
                } else {
                    prop_assert!(got.iter().all(|bytes| expected.contains(bytes)));
                    prop_assert!(got.len() <= expected.len());
                }
            }
            prop_assert!(pair.ends[from].paths.iter().all(|path| !path.sent.is_waiting()));
            prop_assert!(pair.ends[from].paths.iter().all(|path| path.sent.in_flight() == 0));
            let wake = pair.ends[from].wake();
            prop_assert!(wake.is_none_or(|(_, why)| why == Wake::Idle), "{wake:?}");
        }
    }
}

/// A pair whose direct path may look for datagrams of 1,472 bytes, after `count` large messages on it.
fn bulk_on_a_direct_path_that_carries(carries: usize, loss: u64, count: u32) -> Pair {
    let mut pair = Pair::new(21);
    pair.open();
    pair.open_direct();
    pair.ends.iter_mut().for_each(|end| end.allow_datagrams(DIRECT, 1_472));
    (pair.wires[1].carries, pair.wires[1].loss) = (carries, loss);
    send_bulk(&mut pair, count);
    pair
}

fn send_bulk(pair: &mut Pair, count: u32) {
    let want = pair.got[B].len() + count as usize;
    for n in 0..count {
        while pair.ends[A].send_next(pair.now, PEER, &numbered(n, 20_000)).is_err() {
            pair.run(ms(20));
        }
        pair.run(ms(20));
    }
    pair.until(ms(20_000), |p| p.got[B].len() == want);
}

#[test]
fn a_direct_path_learns_how_large_a_datagram_it_carries_even_where_packets_are_lost() {
    for (carries, loss) in [(1_500, 0), (1_500, 50), (1_400, 0), (1_400, 20), (1_200, 0)] {
        let pair = bulk_on_a_direct_path_that_carries(carries, loss, 100);
        let found = pair.ends[A].paths[DIRECT as usize].datagram() as usize;
        let best = carries.min(1_472);
        assert!(found <= best && (loss > 0 || found + 16 >= best), "{found} of {carries} at {loss} ‰");
        assert!(found > 1_200 || carries == 1_200, "{found} of {carries} at {loss} ‰");
        let largest = pair.log.iter().filter(|l| l.path == MAIN).map(|l| l.len).max();
        assert!(largest.is_some_and(|len| len <= PAYLOAD), "the relay is not asked for more");
    }
}

#[test]
fn a_path_that_comes_to_carry_less_is_noticed_and_nothing_is_lost() {
    let mut pair = bulk_on_a_direct_path_that_carries(1_500, 0, 20);
    assert_eq!(pair.ends[A].paths[DIRECT as usize].datagram(), 1_472);
    pair.wires[1].carries = 1_300;
    let start = pair.now;
    send_bulk(&mut pair, 20);
    assert!(pair.now.since(start) < ms(2_000), "{:?}", pair.now.since(start));
    assert_eq!(pair.ends[A].paths[DIRECT as usize].datagram(), 1_200);
    assert_eq!(pair.bytes_of(B, PEER), (0..40).map(|n| numbered(n % 20, 20_000)).collect::<Vec<_>>());
    assert!(!pair.events[A].contains(&PathEvent::Dead(DIRECT)));
}

#[test]
fn a_game_of_small_packets_probes_for_no_larger_ones() {
    let mut pair = Pair::new(22);
    pair.open();
    pair.open_direct();
    pair.ends.iter_mut().for_each(|end| end.allow_datagrams(DIRECT, 1_472));
    for n in 0..200 {
        pair.send(A, PEER, &numbered(n, 100));
        pair.run(ms(16));
    }
    assert!(pair.log.iter().all(|l| l.len < 1_000));
}
