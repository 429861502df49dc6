//! The server's clock, as a client can know it, with a bound of the error.
//!
//! The client asks, the server answers with its time. It was taken between question and answer, so when the answer is there the
//! server's clock shows what it said and between nothing and the whole round trip more: the middle is off by half the round trip
//! at the most, however unequal the two ways are (Cristian, "Probabilistic clock synchronization", 1989). The best answer
//! counts, and grows worse with time, as clocks drift. Question and answer ride on packets that go anyway, as NTP's could not: an idle
//! link's keepalive and its acknowledgement. What is lost is asked again.

use crate::time::{Duration, Instant};

/// The first answers are asked for soon one after another: of a few, one usually finds empty queues.
const FIRST: u32 = 4;
const FIRST_EVERY: Duration = Duration::from_secs(1);
/// Later ones: by then drift has added 6 ms.
const EVERY: Duration = Duration::from_secs(60);
/// A question that is not answered for so long is lost: neither it nor its answer is repeated.
const PATIENCE: Duration = Duration::from_secs(5);
/// Two clocks drift apart by so many parts in a million at the most: quartz is within 50 of the truth, at either end.
const DRIFT_PPM: u32 = 100;

/// What the server's clock shows. See [`crate::Client::server_time`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerTime {
    /// The server's time: since its driver's start, as in its own calls.
    pub at: Instant,
    /// The true one is not further from it than this.
    pub error: Duration,
}

#[derive(Default)]
pub(super) struct ServerClock {
    /// The best answer: what it says of the server's clock, and when it was there.
    best: Option<(ServerTime, Instant)>,
    /// When to ask next; never before the login.
    next: Option<Instant>,
    /// Answers until they become rare.
    frequent: u32,
}

impl ServerClock {
    /// Begins anew: after the login, or when this end's clock may have stood still.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Self { next: Some(now), frequent: FIRST, best: None };
    }

    /// Whether to ask with the next packet that goes. Nobody wakes for it: on an idle link that is the next keepalive.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = Some(now + PATIENCE);
        }
        due
    }

    /// The server's answer to what was asked at that time.
    pub(super) fn on_answer(&mut self, now: Instant, asked: Instant, server: Instant) {
        let trip = now.since(asked);
        let fresh = ServerTime { at: server + trip / 2, error: trip / 2 + drift(trip) };
        if self.at(now).is_none_or(|known| fresh.error <= known.error) {
            self.best = Some((fresh, now));
        }
        self.frequent = self.frequent.saturating_sub(1);
        self.next = Some(now + if self.frequent > 0 { FIRST_EVERY } else { EVERY });
    }

    pub(super) fn at(&self, now: Instant) -> Option<ServerTime> {
        let (known, when) = self.best?;
        let age = now.since(when);
        Some(ServerTime { at: known.at + age, error: known.error.saturating_add(drift(age)) })
    }
}

/// By how much two clocks drift apart in that time.
fn drift(d: Duration) -> Duration {
    d / 1_000_000 * DRIFT_PPM
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Ways of any length, a server whose clock is ahead by anything and drifts by up to 100 ppm.
        #[test]
        fn the_true_time_is_within_the_bound(
            ahead in 0u64..1 << 50,
            ppm in 0u64..=100,
            rounds in proptest::collection::vec((0u64..300_000_000, 0u64..300_000_000, 0u64..90_000_000_000), 1..20),
        ) {
            let server = |local: u64| ahead + local + (u128::from(local) * u128::from(ppm) / 1_000_000) as u64;
            let (mut clock, mut now) = (ServerClock::default(), 1_000_000_000u64);
            clock.begin(Instant(now));
            for (there, back, pause) in rounds {
                if clock.poll(Instant(now)) {
                    let (asked, answer) = (Instant(now), Instant(server(now + there)));
                    now += there + back;
                    clock.on_answer(Instant(now), asked, answer);
                }
                now += pause;
                let ServerTime { at, error } = clock.at(Instant(now)).unwrap();
                let off = at.0.abs_diff(server(now));
                prop_assert!(u128::from(off) <= error.as_nanos() + 1_000, "off by {} ns, bound {:?}", off, error);
            }
        }
    }

    #[test]
    fn a_better_answer_counts_and_a_worse_one_does_not() {
        let (mut clock, ms) = (ServerClock::default(), Instant::from_millis);
        assert_eq!((clock.at(ms(5)), clock.poll(ms(5))), (None, false));
        clock.begin(ms(10));
        assert!(clock.poll(ms(10)));
        clock.on_answer(ms(30), ms(10), ms(5_000));
        assert_eq!(clock.at(ms(30)), Some(ServerTime { at: ms(5_010), error: Duration::from_micros(10_002) }));
        clock.on_answer(ms(1_110), ms(1_010), ms(6_000));
        assert!(clock.at(ms(1_110)).unwrap().error < Duration::from_millis(11));
        assert_eq!(clock.at(ms(1_110)).unwrap().at, ms(6_090), "the first one still counts");
        clock.on_answer(ms(2_012), ms(2_010), ms(7_000));
        assert_eq!(clock.at(ms(2_012)).unwrap().at, ms(7_001));
    }

    #[test]
    fn questions_become_rare_and_are_asked_again_when_lost() {
        let (mut clock, mut asked) = (ServerClock::default(), 0);
        clock.begin(Instant::ZERO);
        for ms in (0..=600_000).step_by(100) {
            let now = Instant::from_millis(ms);
            if clock.poll(now) {
                asked += 1;
                clock.on_answer(now, now, now);
            }
        }
        assert_eq!(asked, 4 + 9);
        let lost = (600_000..=700_000).step_by(100).filter(|ms| clock.poll(Instant::from_millis(*ms))).count();
        assert!((10..=20).contains(&lost), "{lost}");
    }
}
