//! Whether a client is to be reached at another address: connection migration (RFC 9000 §9), from the server's side.
//! One [`Roaming`] a session; it moves tokens and knows no packets, keys or sockets.
//!
//! # The algorithm
//!
//! **Evidence** is an authentic packet with a greater number than any before, from another source than the address in
//! use (§9.3); an older one may merely be late. It begins a *trial* of that source. Whatever it said is used at once,
//! but nothing goes to where it came from except challenges.
//!
//! **A trial challenges both addresses**, each with a token of its own (§9.3.3). Who copies packets on their way and is
//! quicker than they are makes all evidence point at its own address, and could hand a challenge on to the client to be
//! answered; what it cannot do is to keep the old address from answering. So an answer for the old address ends the
//! trial, and the next one waits for [`REST`]. An answer for the new one moves the session when the old one has had a
//! probe timeout to answer as well. Until then data goes to the old address.
//!
//! **After a move** the answers for the old address still count for [`DOUBT`], and move the session back: a loss at the
//! wrong moment helps the copier for that long only.
//!
//! **Bounds.** One trial at a time, [`TOKENS`] tokens, and no more challenges to an address than datagrams came from it;
//! a challenge is less than twice as large as the smallest authentic datagram, so it cannot amplify by more than that
//! (§8.1 allows three).

use crate::entropy::Rng;
use crate::time::{Duration, Instant};
use core::net::SocketAddr;

/// The shortest time between two challenges of a trial, whatever the round-trip time: a burst of evidence is one fact.
const SHORTEST: Duration = Duration::from_millis(20);
/// A trial without an answer is over after so long; the next packet from there begins another. Six round trips of a
/// path of half a second.
const TRIAL: Duration = Duration::from_secs(3);
/// After the old address answered, nothing else is tried for so long: who keeps copying packets costs a pair of
/// challenges a second.
const REST: Duration = Duration::from_secs(1);
/// After a move, an answer for the old address counts for so long.
const DOUBT: Duration = Duration::from_secs(3);
/// Pairs of tokens that may be outstanding: all of a trial, as their intervals double from [`SHORTEST`] to [`TRIAL`].
const TOKENS: usize = 8;
/// Datagrams of a source that may be saved up to be answered: those of one flight.
const MAX_CREDIT: u32 = 4;

/// One challenge to be sealed and sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ask {
    pub(crate) to: SocketAddr,
    pub(crate) token: u64,
}

/// The session goes on at another address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moved {
    pub(crate) to: SocketAddr,
    /// How long the challenge took to be answered.
    pub(crate) rtt: Duration,
}

#[derive(Clone, Copy)]
struct Sent {
    at: Instant,
    old: u64,
    new: u64,
}

struct Trial {
    to: SocketAddr,
    began: Instant,
    /// Datagrams that came from there and were not answered by a challenge.
    credit: u32,
    next: Instant,
    interval: Duration,
    sent: [Option<Sent>; TOKENS],
    count: usize,
    /// When it counts as settled that the old address does not answer, and the round-trip time of the new one.
    answered: Option<(Instant, Duration)>,
    /// The challenge to the old address that belongs to the last one to the new.
    beside: Option<u64>,
}

/// See the module's text.
pub(crate) struct Roaming {
    rng: Rng,
    /// Where data goes.
    at: SocketAddr,
    trial: Option<Trial>,
    /// The address before the last move, and what it can still answer until when.
    former: Option<(SocketAddr, [Option<Sent>; TOKENS], Instant)>,
    rest_until: Instant,
    moved: Option<Moved>,
}

impl Roaming {
    /// `at`: where the login came from, which a reply has proven.
    pub(crate) fn new(at: SocketAddr, rng: Rng) -> Self {
        Self { rng, at, trial: None, former: None, rest_until: Instant::ZERO, moved: None }
    }

    /// An authentic packet came, with a greater number than any before. `pto`: the probe timeout of the path.
    pub(crate) fn on_newest(&mut self, now: Instant, from: SocketAddr, pto: Duration) {
        if from == self.at {
            self.trial = None;
            return;
        }
        match &mut self.trial {
            Some(trial) if trial.to == from => trial.credit = trial.credit.saturating_add(1).min(MAX_CREDIT),
            // Sources that change with every packet get one challenge an interval between them.
            Some(trial) if now < trial.next => {}
            _ if now < self.rest_until || super::probeable(from).is_err() => {}
            _ => {
                self.trial = Some(Trial {
                    to: from,
                    began: now,
                    credit: 1,
                    next: now,
                    interval: pto.max(SHORTEST),
                    sent: [None; TOKENS],
                    count: 0,
                    answered: None,
                    beside: None,
                });
            }
        }
    }

    /// An authentic response came, by whatever way.
    pub(crate) fn on_response(&mut self, now: Instant, token: u64) {
        let by_former = self.former.as_ref().and_then(|(to, sent, until)| {
            let found = sent.iter().flatten().find(|s| s.old == token && now < *until)?;
            Some(Moved { to: *to, rtt: now.since(found.at) })
        });
        if let Some(back) = by_former {
            (self.trial, self.former, self.rest_until) = (None, None, now + REST);
            self.at = back.to;
            self.moved = Some(back);
            return;
        }
        let Some(trial) = &mut self.trial else { return };
        if trial.sent.iter().flatten().any(|s| s.old == token) {
            (self.trial, self.rest_until) = (None, now + REST);
        } else if let Some(sent) = trial.sent.iter().flatten().find(|s| s.new == token)
            && trial.answered.is_none()
        {
            trial.answered = Some((sent.at + trial.interval, now.since(sent.at)));
        }
        self.on_time(now);
    }

    /// The next challenge to send. `None` until [`Self::wake`] or another input.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Ask> {
        self.on_time(now);
        let trial = self.trial.as_mut()?;
        if let Some(token) = trial.beside.take() {
            return Some(Ask { to: self.at, token });
        }
        if now < trial.next || trial.credit == 0 || trial.answered.is_some() || trial.count >= TOKENS {
            return None;
        }
        let sent = Sent { at: now, old: self.rng.u64(), new: self.rng.u64() };
        let place = trial.sent.get_mut(trial.count)?;
        *place = Some(sent);
        trial.next = now + trial.interval.saturating_mul(1 << trial.count);
        trial.count += 1;
        trial.credit -= 1;
        trial.beside = Some(sent.old);
        Some(Ask { to: trial.to, token: sent.new })
    }

    /// A token for a challenge that is no part of a trial.
    pub(crate) fn token(&mut self) -> u64 {
        self.rng.u64()
    }

    /// Says once where the session went.
    pub(crate) fn poll_moved(&mut self) -> Option<Moved> {
        self.moved.take()
    }

    pub(crate) fn wake(&self) -> Option<Instant> {
        if self.moved.is_some() {
            return Some(Instant::ZERO);
        }
        let trial = self.trial.as_ref()?;
        if trial.beside.is_some() {
            return Some(Instant::ZERO);
        }
        let over = trial.began + TRIAL;
        let next = match trial.answered {
            Some((settled, _)) => settled,
            None if trial.credit > 0 && trial.count < TOKENS => trial.next,
            None => over,
        };
        Some(next.min(over))
    }

    fn on_time(&mut self, now: Instant) {
        let Some(trial) = &self.trial else { return };
        if let Some((settled, rtt)) = trial.answered {
            if now >= settled {
                let moved = Moved { to: trial.to, rtt };
                self.former = Some((self.at, trial.sent, now + DOUBT));
                (self.at, self.moved, self.trial) = (moved.to, Some(moved), None);
            }
        } else if now >= trial.began + TRIAL {
            self.trial = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const PTO: Duration = Duration::from_millis(60);

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 1], port))
    }

    fn ms(n: u64) -> Instant {
        Instant::from_millis(n)
    }

    fn roaming() -> Roaming {
        Roaming::new(addr(1), Entropy::new(&[3; 32]).stream("roaming", 0))
    }

    /// The challenges to the new and the old address that are due.
    fn pair(roaming: &mut Roaming, now: Instant) -> (u64, u64) {
        let asks: Vec<_> = core::iter::from_fn(|| roaming.poll(now)).collect();
        assert_eq!(asks.iter().map(|ask| ask.to).collect::<Vec<_>>(), [addr(2), addr(1)]);
        (asks[0].token, asks[1].token)
    }

    #[test]
    fn an_answer_from_the_new_address_moves_the_session_when_the_old_one_stayed_silent() {
        let mut r = roaming();
        r.on_newest(ms(0), addr(2), PTO);
        let (new, _) = pair(&mut r, ms(0));
        r.on_response(ms(40), new);
        assert_eq!((r.poll_moved(), r.wake()), (None, Some(ms(60))), "the old one has until then");
        assert_eq!(r.poll(ms(60)), None);
        assert_eq!(r.poll_moved(), Some(Moved { to: addr(2), rtt: Duration::from_millis(40) }));
        assert_eq!((r.poll_moved(), r.wake()), (None, None));
    }

    #[test]
    fn an_answer_from_the_old_address_keeps_the_session_where_it_is_however_fast_the_new_one_is() {
        let mut r = roaming();
        r.on_newest(ms(0), addr(2), PTO);
        let (new, old) = pair(&mut r, ms(0));
        r.on_response(ms(30), new);
        r.on_response(ms(50), old);
        assert_eq!((r.poll(ms(500)), r.poll_moved()), (None, None));
        r.on_newest(ms(500), addr(2), PTO);
        assert_eq!(r.poll(ms(500)), None, "it rests for a second");
        r.on_newest(ms(1050), addr(2), PTO);
        assert!(r.poll(ms(1050)).is_some());
    }

    #[test]
    fn an_answer_from_the_old_address_that_is_late_moves_the_session_back() {
        let mut r = roaming();
        r.on_newest(ms(0), addr(2), PTO);
        let (new, old) = pair(&mut r, ms(0));
        r.on_response(ms(70), new);
        assert_eq!(r.poll_moved().map(|moved| moved.to), Some(addr(2)));
        r.on_response(ms(90), old);
        assert_eq!(r.poll_moved().map(|moved| moved.to), Some(addr(1)));
    }

    #[test]
    fn a_newer_packet_from_the_old_address_ends_the_trial() {
        let mut r = roaming();
        r.on_newest(ms(0), addr(2), PTO);
        let (new, _) = pair(&mut r, ms(0));
        r.on_newest(ms(10), addr(1), PTO);
        r.on_response(ms(40), new);
        assert_eq!((r.poll(ms(200)), r.poll_moved()), (None, None));
    }

    #[test]
    fn a_lost_challenge_is_repeated_for_another_packet_and_a_silent_trial_ends() {
        let mut r = roaming();
        r.on_newest(ms(0), addr(2), PTO);
        pair(&mut r, ms(0));
        assert_eq!(r.poll(ms(100)), None, "nothing more came from there");
        r.on_newest(ms(120), addr(2), PTO);
        let (new, _) = pair(&mut r, ms(120));
        r.on_response(ms(150), new);
        assert_eq!(r.wake(), Some(ms(180)));
        r.on_newest(ms(160), addr(1), PTO);
        r.on_newest(ms(5000), addr(3), PTO);
        assert!(r.poll(ms(5000)).is_some());
        assert_eq!((r.poll(ms(8001)), r.wake()), (None, None), "nobody answered");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Newest(u16),
        Wait(u64),
        /// Answers a challenge that was sent, newest first.
        Answer(usize),
        Guess(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u16..5).prop_map(Step::Newest),
            4 => (0u64..400).prop_map(Step::Wait),
            3 => (0usize..6).prop_map(Step::Answer),
            1 => any::<u64>().prop_map(Step::Guess),
        ]
    }

    proptest! {
        #[test]
        fn it_moves_only_to_who_answered_and_sends_no_more_than_came(steps in proptest::collection::vec(step(), 0..200)) {
            let mut r = roaming();
            let (mut now, mut came, mut went) = (ms(0), BTreeMap::new(), BTreeMap::new());
            let (mut asked, mut answered, mut at) = (Vec::new(), Vec::new(), addr(1));
            for step in steps {
                match step {
                    Step::Newest(port) => {
                        *came.entry(addr(port)).or_insert(0) += 1;
                        r.on_newest(now, addr(port), PTO);
                    }
                    Step::Wait(n) => now = now + Duration::from_millis(n),
                    Step::Guess(token) => r.on_response(now, token),
                    Step::Answer(back) => if let Some(Ask { to, token }) = asked.iter().rev().nth(back).copied() {
                        answered.push(to);
                        r.on_response(now, token);
                    }
                }
                let mut polled = 0;
                while let Some(ask) = r.poll(now) {
                    polled += 1;
                    prop_assert!(polled <= 4, "it comes to an end");
                    asked.push(ask);
                    *went.entry(ask.to).or_insert(0) += 1;
                    let proven = ask.to == addr(1) || answered.contains(&ask.to);
                    prop_assert!(proven || went[&ask.to] <= came.get(&ask.to).copied().unwrap_or(0));
                }
                if let Some(moved) = r.poll_moved() {
                    prop_assert!(answered.contains(&moved.to) && moved.to != at);
                    at = moved.to;
                }
                prop_assert!(r.wake().is_none_or(|due| due > now), "due without progress");
            }
        }
    }
}
