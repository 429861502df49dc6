//! A hole that outlives the last group that a pair shared: it is kept open and proven for a while, and carries nothing. One
//! [`Hold`] at each of the two ends; like [`Punch`] it moves tokens and knows no packets, keys or sockets.
//!
//! # The algorithm
//!
//! **What is kept** ([`Hole`]) is one send way, proven while the pair was direct, with the round trip and the datagram size found
//! there, and the ways by which the peer's packets came until then (several, if its NAT gives it a port for each of our
//! addresses). Nothing else is ever learnt: what comes from elsewhere is not read, an answer goes to the send way and never to
//! where the question came from, and a peer whose NAT gives it yet another port is lost.
//!
//! **A keepalive is a challenge**, one a keepalive interval after the last proof, so that it keeps both NATs' state and shows
//! that the way still leads to the peer. One without an answer is repeated after [`AGAIN`]; after [`UNANSWERED`] in a row the
//! hole counts as closed, which is also how an end finds out that the other keeps nothing.
//!
//! **A rejoin** brings a new [`Punch`], which inherits the hole ([`Punch::inherit`]). Was it proven, in both directions, within a
//! keepalive interval (and [`AGAIN`], for one that was lost), then the pair is direct at once: an established pair that is
//! idle knows no more about its path either. An older one is only the first candidate of the first round, so that one
//! challenge and its answer make the pair direct.

use super::candidate::{Candidate, Origin};
use super::{Over, Probe, Punch, Way};
use crate::entropy::Rng;
use crate::time::{Duration, Instant, nanos};

/// A challenge that was not answered is repeated after this: longer than nearly every round trip, short beside what NATs keep.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);
/// So many challenges without an answer close a hole: at a loss of one in twenty each way that is one in 10,000.
const UNANSWERED: usize = 4;
/// One part in this many of an interval is jitter, so that holes that were left together spread out.
const JITTER_PART: u64 = 10;

/// A way there and one back, and what was found of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hole {
    /// Where packets go, and by which socket.
    pub(crate) to: Way,
    /// Where the peer's latest packet came from.
    pub(crate) from: Way,
    pub(crate) rtt: Duration,
    /// Bytes of the largest datagram that is known to pass.
    pub(crate) datagram: usize,
    /// When it was last known that what goes there arrives.
    pub(crate) answered: Instant,
    /// When something authentic last came from the peer.
    pub(crate) heard: Instant,
}

impl Hole {
    /// Until when both directions count as proven, if it is pinged so often.
    pub(crate) fn fresh_until(&self, keepalive: Duration) -> Instant {
        self.answered.min(self.heard) + keepalive + AGAIN
    }

    pub(crate) fn uses(&self, socket: crate::ids::SocketId) -> bool {
        self.to.socket == socket || self.from.socket == socket
    }
}

/// See the module's text.
pub(crate) struct Hold {
    hole: Hole,
    rng: Rng,
    keepalive: Duration,
    /// When it is given up whatever happens.
    until: Instant,
    /// The next challenge, or the end.
    due: Instant,
    /// Challenges since the last answer.
    sent: [(u64, Instant); UNANSWERED],
    unanswered: usize,
    /// A token to be sent back; a newer one takes its place.
    response: Option<u64>,
}

impl Hold {
    pub(crate) fn new(now: Instant, hole: Hole, keepalive: Duration, lasts: Duration, rng: Rng) -> Self {
        // Not at once: the other end may not know yet that the pair is over.
        let due = (hole.answered.min(hole.heard) + keepalive).max(now + AGAIN);
        let sent = [(0, now); UNANSWERED];
        Self { hole, rng, keepalive, until: now + lasts, due, sent, unanswered: 0, response: None }
    }

    pub(crate) fn hole(&self) -> &Hole {
        &self.hole
    }

    /// An authentic challenge came by one of the ways by which the peer's packets came before.
    pub(crate) fn on_challenge(&mut self, now: Instant, from: Way, token: u64) {
        (self.hole.heard, self.hole.from) = (now, from);
        self.response = Some(token);
    }

    /// An authentic response came by one of them.
    pub(crate) fn on_response(&mut self, now: Instant, from: Way, token: u64) {
        (self.hole.heard, self.hole.from) = (now, from);
        let Some((_, at)) = self.sent.iter().take(self.unanswered).find(|(sent, _)| *sent == token) else { return };
        (self.hole.answered, self.hole.rtt) = (now, now.since(*at));
        self.unanswered = 0;
        let keepalive = nanos(self.keepalive);
        self.due = now + Duration::from_nanos(keepalive - self.rng.below(keepalive / JITTER_PART));
    }

    /// What is to be sent now, once.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Probe> {
        if self.is_over(now) {
            return None;
        }
        let mut challenge = None;
        if now >= self.due
            && let Some(place) = self.sent.get_mut(self.unanswered)
        {
            let token = self.rng.u64();
            *place = (token, now);
            self.unanswered += 1;
            self.due = now + AGAIN;
            challenge = Some(token);
        }
        let response = self.response.take();
        let said = challenge.is_some() || response.is_some();
        said.then(|| Probe::whole(Over::Direct(self.hole.to), challenge, response))
    }

    /// Whether it is of no more use.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until || self.unanswered == UNANSWERED && now >= self.due
    }

    /// When to poll, or to ask whether it is over.
    pub(crate) fn wake(&self) -> Instant {
        if self.response.is_some() { Instant::ZERO } else { self.due.min(self.until) }
    }
}

impl Punch {
    /// The hole in use, if the pair is direct. `acked`: when the transport last knew that something had arrived there.
    pub(crate) fn hole(&self, acked: Option<Instant>, rtt: Duration, datagram: usize) -> Option<Hole> {
        let (to, from, heard) = (self.send?, self.source?, self.last_inbound?);
        let answered = acked.max(self.last_response)?;
        self.is_direct().then_some(Hole { to, from, rtt, datagram, answered, heard })
    }

    /// By which ways packets of the peer's came.
    pub(crate) fn heard_by(&self) -> impl Iterator<Item = Way> + '_ {
        self.candidates.iter().filter(|known| known.heard.is_some()).map(|known| known.way)
    }

    /// The same two had this hole when they last shared a group, and kept it since. Both directions are proven until
    /// `fresh_until`; what waits for a reason to look for a direct path takes it once there is one.
    pub(crate) fn inherit(&mut self, now: Instant, hole: Hole, fresh_until: Instant) {
        match self.gate {
            super::Gate::Open => self.adopt(now, hole, fresh_until),
            super::Gate::OnTraffic => self.inherited = Some((hole, fresh_until)),
            super::Gate::Shut(_) => {}
        }
    }

    /// What was inherited while there was no reason to look for a direct path.
    pub(super) fn adopt_inherited(&mut self, now: Instant) {
        if let Some((hole, fresh_until)) = self.inherited.take() {
            self.adopt(now, hole, fresh_until);
        }
    }

    fn adopt(&mut self, now: Instant, hole: Hole, fresh_until: Instant) {
        for way in [hole.to, hole.from] {
            if self.candidates.iter().all(|known| known.way != way) {
                self.add(Candidate::new(way, Origin::Reflexive, now));
            }
        }
        let fresh = now <= fresh_until;
        for known in self.candidates.iter_mut().filter(|known| known.way == hole.to) {
            known.inherit(fresh.then_some(hole.rtt));
        }
        self.last_good = Some(hole.to);
        if fresh {
            (self.open_since, self.source) = (now, Some(hole.from));
            (self.last_response, self.last_inbound) = (Some(hole.answered), Some(hole.heard));
            self.use_way(hole.to, hole.rtt);
        } else {
            self.begin_round(now);
        }
        self.update(now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gate, Pace, PunchConfig, PunchEvent, Verdict};
    use super::*;
    use crate::entropy::Entropy;
    use crate::event::RelayReason;
    use core::net::SocketAddr;
    use proptest::prelude::*;

    const KEEPALIVE: Duration = Duration::from_secs(5);
    const LASTS: Duration = Duration::from_secs(30);

    fn ms(n: u64) -> Instant {
        Instant::from_millis(n)
    }

    fn hole(proven: Instant) -> Hole {
        let at = |port| Way::from(SocketAddr::from(([203, 0, 113, 9], port)));
        let rtt = Duration::from_millis(40);
        Hole { to: at(5000), from: at(5001), rtt, datagram: 1472, answered: proven, heard: proven }
    }

    fn hold() -> Hold {
        Hold::new(ms(1000), hole(ms(1000)), KEEPALIVE, LASTS, Entropy::new(&[3; 32]).stream("hold", 0))
    }

    fn punch(gate: Gate) -> Punch {
        let config = PunchConfig { gate, ..PunchConfig::default() };
        Punch::new(&config, Entropy::new(&[4; 32]).stream("punch", 0))
    }

    #[test]
    fn a_hole_is_pinged_once_a_keepalive_and_stays_fresh_as_long_as_the_peer_answers() {
        let mut hold = hold();
        let mut pings = 0;
        while !hold.is_over(hold.wake()) {
            let now = hold.wake();
            let probe = hold.poll(now).unwrap();
            assert_eq!(probe.over, Over::Direct(hole(now).to));
            hold.on_response(now + Duration::from_millis(40), hole(now).from, probe.challenge.unwrap());
            assert!(hold.hole().fresh_until(KEEPALIVE) >= hold.wake());
            pings += 1;
        }
        assert_eq!((pings, hold.wake()), (6, ms(31_000)), "it is given up after the time that it was to last");
    }

    #[test]
    fn a_hole_whose_peer_keeps_nothing_is_given_up_after_four_questions() {
        let mut hold = hold();
        let asked: std::vec::Vec<_> = core::iter::from_fn(|| {
            let now = hold.wake();
            hold.poll(now).map(|_| now)
        })
        .collect();
        assert_eq!(asked, [6000, 7000, 8000, 9000].map(ms));
        assert!(hold.is_over(hold.wake()) && !hold.is_over(ms(9999)));
    }

    #[test]
    fn a_question_is_answered_once_where_packets_go_and_not_where_it_came_from() {
        let mut hold = hold();
        hold.on_challenge(ms(2000), hole(ms(0)).from, 7);
        hold.on_challenge(ms(2000), hole(ms(0)).from, 8);
        assert_eq!(hold.wake(), Instant::ZERO);
        let answer = Probe::whole(Over::Direct(hole(ms(0)).to), None, Some(8));
        assert_eq!((hold.poll(ms(2000)), hold.poll(ms(2000))), (Some(answer), None));
        assert_eq!(hold.hole().answered, ms(1000), "that shows only that the peer can be heard");
    }

    #[test]
    fn a_pair_that_inherits_a_fresh_hole_is_direct_before_anything_is_sent() {
        let mut punch = punch(Gate::Open);
        punch.inherit(ms(4000), hole(ms(1000)), hole(ms(1000)).fresh_until(KEEPALIVE));
        assert_eq!(punch.verdict(), Verdict::Direct);
        let validated = PunchEvent::Validated { to: hole(ms(0)).to, rtt: Duration::from_millis(40) };
        assert_eq!(punch.poll_event(), Some(validated));
        assert_eq!(punch.poll_event(), Some(PunchEvent::Verdict(Verdict::Direct)));
    }

    #[test]
    fn a_hole_that_was_not_proven_lately_is_the_first_to_be_asked_and_one_answer_makes_it_good() {
        let mut punch = punch(Gate::Open);
        punch.inherit(ms(9000), hole(ms(1000)), hole(ms(1000)).fresh_until(KEEPALIVE));
        punch.start(ms(9000), &[SocketAddr::from(([203, 0, 113, 9], 6000))]);
        assert_eq!(punch.verdict(), Verdict::Relayed(RelayReason::Probing));
        let first = punch.poll(ms(9000), &mut Pace::default()).unwrap();
        assert_eq!(first.over, Over::Direct(hole(ms(0)).to));
        punch.on_response(ms(9040), first.challenge.unwrap());
        punch.on_newest(ms(9040), hole(ms(0)).from);
        assert_eq!(punch.verdict(), Verdict::Direct);
    }

    #[test]
    fn a_pair_that_waits_for_traffic_takes_the_hole_with_the_first_message_and_a_forbidden_one_never() {
        let fresh_until = hole(ms(1000)).fresh_until(KEEPALIVE);
        let mut waits = punch(Gate::OnTraffic);
        waits.inherit(ms(2000), hole(ms(1000)), fresh_until);
        assert_eq!(waits.verdict(), Verdict::Relayed(RelayReason::NoTraffic));
        waits.on_traffic(ms(3000));
        assert_eq!(waits.verdict(), Verdict::Direct);
        let mut shut = punch(Gate::Shut(RelayReason::Forbidden));
        shut.inherit(ms(2000), hole(ms(1000)), fresh_until);
        shut.set_gate(ms(2000), Gate::Open);
        assert_eq!((shut.verdict(), shut.candidates.len()), (Verdict::Relayed(RelayReason::Probing), 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Challenge(u64),
        /// Answers one of the latest challenges.
        Answer(usize),
        Guess(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..4000).prop_map(Step::Wait),
            2 => any::<u64>().prop_map(Step::Challenge),
            3 => (0usize..5).prop_map(Step::Answer),
            1 => any::<u64>().prop_map(Step::Guess),
        ]
    }

    proptest! {
        #[test]
        fn it_sends_an_answer_a_question_and_a_question_a_second_to_one_place_and_ends_in_time(
            steps in prop::collection::vec(step(), 0..100),
        ) {
            let (mut hold, mut now) = (hold(), ms(1000));
            let (mut came, mut asked, mut answers) = (0, std::vec::Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Wait(n) => now = now + Duration::from_millis(n),
                    Step::Challenge(token) => {
                        came += 1;
                        hold.on_challenge(now, hole(now).from, token);
                    }
                    Step::Guess(token) => {
                        let before = hold.hole().answered;
                        hold.on_response(now, hole(now).from, token);
                        prop_assert_eq!(hold.hole().answered, before);
                    }
                    Step::Answer(back) => if let Some(&(at, token)) = asked.iter().rev().nth(back) {
                        let outstanding = back < hold.unanswered;
                        hold.on_response(now, hole(now).from, token);
                        if outstanding {
                            prop_assert_eq!((hold.hole().rtt, hold.hole().answered), (now.since(at), now));
                        }
                    }
                }
                while let Some(probe) = hold.poll(now) {
                    prop_assert_eq!(probe.over, Over::Direct(hole(now).to));
                    prop_assert!(!hold.is_over(now) && now < ms(1000) + LASTS);
                    answers += probe.response.map_or(0, |_| 1);
                    if let Some(token) = probe.challenge {
                        prop_assert!(asked.last().is_none_or(|(last, _)| now.since(*last) >= AGAIN));
                        asked.push((now, token));
                    }
                }
                prop_assert!(answers <= came);
                prop_assert!(hold.is_over(now) || hold.wake() > now);
            }
        }
    }
}
