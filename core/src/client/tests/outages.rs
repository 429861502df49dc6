//! How long silence may last, and what the server's time costs.

use super::*;
use crate::server::TimeoutError;

#[test]
fn questions_for_the_servers_time_ride_on_keepalives_and_the_answers_are_within_their_bound() {
    let mut bench = Bench::new(&FAR_APART[..1]);
    // Both have one clock here.
    let known = |bench: &Bench| {
        let now = bench.now;
        let known = bench.clients[0].1.server_time(now).unwrap();
        (known.at.since(now).max(now.since(known.at)), known.error)
    };
    assert!(known(&bench).0 <= known(&bench).1);
    bench.run(60_000);
    let before = bench.sent_to.len();
    bench.run(120_000);
    let (sent, (off, error)) = (bench.sent_to.len() - before, known(&bench));
    assert!(off <= error && error < Duration::from_millis(20), "{off:?} {error:?}");
    assert!(sent <= 2 * 13, "{sent} datagrams: a keepalive every 10 s, and its acknowledgement");
}

#[test]
fn one_clients_timeout_may_differ_from_that_of_all_within_bounds() {
    let mut bench = Bench::new(&FAR_APART);
    let ids = [0, 1, 2].map(|at| bench.id(at));
    let (now, secs) = (bench.now, Duration::from_secs);
    assert_eq!(bench.server.set_timeout(now, PeerId::SERVER, secs(30)), Err(TimeoutError::UnknownClient));
    let least = secs(20);
    assert_eq!(bench.server.set_timeout(now, ids[0], secs(19)), Err(TimeoutError::TooShort { least }));
    bench.server.set_timeout(now, ids[0], least).unwrap();
    bench.server.set_timeout(now, ids[1], secs(3_600)).unwrap();
    let left = |bench: &Bench| -> Vec<PeerId> {
        let over = |event: &ServerEvent| match event {
            ServerEvent::ClientLeft { client, why: EndReason::TimedOut } => Some(*client),
            _ => None,
        };
        bench.told.iter().filter_map(over).collect()
    };
    bench.run_losing(19_000, |_| true);
    assert_eq!(left(&bench), []);
    bench.run_losing(2_000, |_| true);
    assert_eq!(left(&bench), ids[..1]);
    bench.run_losing(60_000, |_| true);
    assert_eq!(left(&bench), [ids[0], ids[2]]);
}
