//! What holds whichever controller a path has.

use super::*;
use crate::config::{Algorithm, Congestion};

pub(super) const ALL: [Algorithm; 3] = [Algorithm::Cubic, Algorithm::LossTolerant, Algorithm::FixedRate(20_000)];

pub(super) fn with(algorithm: Algorithm) -> TransportConfig {
    let congestion = Congestion { algorithm, ..Congestion::default() };
    TransportConfig { congestion, ..TransportConfig::default() }
}

/// `Pair::build` checks at every packet that no more is in flight than the window and two probes.
#[test]
fn no_controller_lets_more_than_its_window_and_two_probes_into_flight_or_loses_anything() {
    for (seed, algorithm) in (30..).zip(ALL) {
        let mut pair = Pair::with(seed, &with(algorithm), PAYLOAD);
        pair.open();
        pair.wires[0].loss = 50;
        pair.wires[1].loss = 100;
        pair.wires[1].jitter = ms(5);
        let mut sent = 0;
        for step in 0..400 {
            while sent < 60 && pair.ends[A].send_next(pair.now, PEER, &numbered(sent, 3000)).is_ok() {
                sent += 1;
            }
            if step % 100 == 20 {
                pair.open_direct();
            }
            pair.wires[1].cut[A] = step % 100 >= 60;
            pair.run(ms(50));
        }
        assert_eq!(pair.bytes_of(B, PEER), (0..60).map(|n| numbered(n, 3000)).collect::<Vec<_>>(), "{algorithm:?}");
    }
}

#[test]
fn a_switch_changes_neither_paths_round_trip_nor_window() {
    for (seed, algorithm) in (40..).zip(ALL) {
        let mut pair = Pair::with(seed, &with(algorithm), PAYLOAD);
        pair.open();
        pair.open_direct();
        for n in 0..50 {
            pair.send(A, PEER, &numbered(n, 1000));
            pair.run(ms(10));
        }
        pair.run(ms(200));
        let state = |p: &Pair, path| {
            let stats = p.ends[A].path_stats(path);
            (stats.window, stats.rtt)
        };
        let before = [state(&pair, MAIN), state(&pair, DIRECT)];
        pair.wires[1].cut = [true; 2];
        pair.send(A, PEER, &numbered(50, 1000));
        pair.until(ms(2000), |p| p.events[A].contains(&PathEvent::Suspect(DIRECT)));
        assert_eq!([state(&pair, MAIN), state(&pair, DIRECT)], before, "{algorithm:?}");
    }
}

#[test]
fn marks_that_come_back_shrink_the_window_once_a_round_trip_and_cost_no_packet() {
    let mut pair = Pair::new(50);
    pair.open();
    for n in 0..40 {
        pair.send(A, PEER, &numbered(n, 1000));
        pair.run(ms(20));
    }
    let before = pair.ends[A].path_stats(MAIN);
    pair.marked = true;
    for n in 40..44 {
        pair.send(A, PEER, &numbered(n, 1000));
    }
    pair.run(ms(500));
    let after = pair.ends[A].path_stats(MAIN);
    assert_eq!((after.window, after.packets_lost), (before.window * 17 / 20, before.packets_lost));
}
