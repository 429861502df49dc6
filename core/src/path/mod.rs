//! Hole punching: from "the server says the peer may be at these addresses" to a send address that is known to arrive,
//! and a verdict. One [`Punch`] a pair, at both ends the same; it moves tokens and knows no packets, keys or sockets.
//!
//! # The algorithm
//!
//! **A direction at a time.** A path is a send tuple and a receive tuple, which may differ: behind some NATs the peer's
//! packets come from another address than the one that leads to it. So both directions are judged apart. A challenge is
//! a random token sent to a candidate address. Who receives one returns the token twice, directly to the observed source
//! and over the relay, and whichever authenticated packet brings it back proves that our *send* address arrives (RFC
//! 9000 §8.2.3 allows any path). The *receive* direction is proven by any authenticated packet that arrives directly.
//! Demanding one four-tuple for both loses three of the 45 NAT pairs that plain punching can open.
//!
//! **Candidates** are what [`Punch::start`] names (the server vouches for those: addresses that it observed, and local
//! ones between ends behind one address) and peer-reflexive ones: observed sources of authenticated packets (RFC 8445
//! §7.3.1.3), without which only 21 of 81 NAT pairs open instead of 45. Nothing else is ever probed, so that a peer
//! cannot aim us at a stranger; a source that has proven nothing yet gets no more datagrams than came from it, since the
//! peer may have forged it; and addresses at which no single host can be ([`probeable`]) are refused.
//!
//! **A round** challenges every candidate at once and then every [`FAST_INTERVAL`] for [`FAST_FOR`], then ever more
//! slowly until [`ROUND`] is over; it stops as soon as both directions were proven since it began. A challenge that
//! arrives from a candidate triggers one back at once (RFC 8445 §7.3.1.4). A new source outside a round is probed on
//! the same schedule by itself: that is how a peer whose NAT gave it a new port is found again. A round that did not
//! lead to [`Verdict::Direct`] is followed by another after [`FIRST_BACKOFF`], doubling up to [`LAST_BACKOFF`]; each
//! begins with [`PunchEvent::WantsRestart`], a wish that the server restart both ends together by [`Punch::start`].
//!
//! **Doubt.** The transport leaves a direct path after two probe timeouts in a row. When the relay answers and the direct
//! path still does not, the owner says so by [`Punch::on_doubt`]: the pair counts as relayed, and a round looks for the
//! peer, while the transport goes on testing the path; whichever is first makes it direct again. If neither was within the
//! round, the address that was good last is tried once after [`FIRST_RETRY`], then at pauses that grow by half up to
//! [`LAST_RETRY`]; whatever authentic comes from the peer is a reason to challenge it at once.
//!
//! **Why that fast at first.** The server tells both ends at one moment. The end with the shorter way to the server
//! sends first, and its NAT is open from then on; but its packets fail at the other end's NAT until that end too has
//! sent. What arrives is the first packet sent after that, so repeating every `t` costs up to `t` over the bound "later
//! one-way delay from the server + one round trip between the peers". The later end meets the bound anyhow.
//!
//! **The send address.** The first candidate to answer is used at once. Another takes over when its round-trip time is
//! clearly lower ([`SWITCH_MARGIN`] and a tenth), so that equal ways never alternate, or when the one in use, challenged
//! at the same time, has not answered by half as long again as it took before ([`GRACE`]): so is a peer followed whose
//! NAT gave it another port, while a copy of its packets from elsewhere moves nothing. Without another that answers
//! silence demotes nothing: the transport alone knows when a path in use is dead and says so by
//! [`Punch::on_dead`]. That forgets every proof at once, and a round begins with the last good address in front. A hole
//! that keeps dying young passes challenges but not the traffic: from the second such death in a row on, the next
//! round waits like after a failed one.
//!
//! **A search** is what the server orders when a round has not led anywhere for [`SEARCH_AFTER`] ([`PunchEvent::WantsSearch`]):
//! predicted ports, or many sockets at one end and many ports at the other ([`Spray`]). What it finds is one more
//! candidate, on another socket perhaps: a way is a socket of ours and an address of theirs. The pair counts as probing
//! until the search is over.
//!
//! **Bounds.** Candidates, tokens, queued responses and challenges a round are all limited by the constants below. A
//! forged or old token, a flood and an overfull list change a counter in [`PunchStats`] and nothing else.

mod candidate;
mod gate;
mod health;
mod hold;
#[cfg(test)]
mod model;
mod pace;
mod roaming;
mod said;
mod spray;
mod tally;
#[cfg(test)]
mod tests;
mod way;

use crate::entropy::Rng;
use crate::event::RelayReason;
use crate::ids::SocketId;
use crate::time::{Duration, Instant, nanos};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use candidate::{Candidate, Origin};
pub(crate) use candidate::{is_local, probeable};
use core::net::SocketAddr;
pub(crate) use gate::Gate;
pub(crate) use hold::{Hold, Hole};
pub(crate) use pace::Pace;
pub(crate) use roaming::{Ask, Moved, Roaming};
pub(crate) use said::{Over, Probe, PunchConfig, PunchEvent, PunchStats, Verdict};
pub(crate) use spray::Spray;
pub(crate) use tally::Tally;
pub(crate) use way::Way;

/// Time between two challenges to one candidate at first; jitter only shortens it. The end that began first reaches its
/// bound (see the module's text) to within this, and less would cost packets without being felt at any frame rate.
const FAST_INTERVAL: Duration = Duration::from_millis(20);
/// How long a candidate is challenged at that rate: longer than the difference of two ways from the server plus a round
/// trip, nearly everywhere.
const FAST_FOR: Duration = Duration::from_secs(1);
/// The longest time between two challenges to one candidate. NATs keep an entry that saw no reply for 15 s at least
/// (the shortest measured), so even several lost in a row leave ours open.
const SLOWEST_INTERVAL: Duration = Duration::from_secs(1);
/// Length of a round. Nearly all that succeeds does so within one round trip (97.6 % of successes are at the first
/// try: arXiv 2510.27500); the rest of the time is for lost and delayed packets.
const ROUND: Duration = Duration::from_secs(5);
/// How long a token may be outstanding: no path that a game could use takes longer to answer.
const TOKEN_LIFE: Duration = Duration::from_secs(5);
/// A round that has not led to a direct path by then asks for a search: a second of plain punching at the full rate, and half a
/// second for the last of it to be answered. What works at all has nearly always worked by then.
const SEARCH_AFTER: Duration = Duration::from_millis(1500);
/// It asks again so often while the round lasts, as the server may not know enough yet.
const SEARCH_AGAIN: Duration = Duration::from_secs(1);
/// Wait after the first failed round; doubles with each. Something must have changed for the same punch to succeed, and
/// roaming is the change that people wait for.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// The longest wait between rounds: about the lifetime of the NAT state and leases that a later round may find changed.
const LAST_BACKOFF: Duration = Duration::from_secs(300);
/// Between rounds, the hole that was there before is tried again after this, …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … then after pauses that grow by half, to this: what a keepalive costs.
const LAST_RETRY: Duration = Duration::from_secs(5);
/// A hole that lived at least this long did carry traffic: its death is no reason to wait with the next round.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// What a candidate must be better by, beside a tenth, to take over (as GameNetworkingSockets and iroh do): below the
/// jitter of a home network a change is noise.
const SWITCH_MARGIN: Duration = Duration::from_millis(5);
/// What the address in use has beside half as long again as it took before to answer, while another one has answered
/// already: a jittery moment. Less than this and a path that is only slow would be left.
const GRACE: Duration = Duration::from_millis(20);
/// Sources are compared no more often than this: a peer whose packets come by turns from two addresses costs two
/// challenges in that time.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);
/// Candidates that [`Punch::start`] takes: an observed IPv4 and IPv6 address, and the interfaces of a usual host.
const MAX_GIVEN: usize = 8;
/// Candidates that searches found. One is enough; more come when several of the peer's sockets are met.
const MAX_FOUND: usize = 4;
/// Peer-reflexive candidates. A peer shows one source for each address of ours that it probes at the most, and few of
/// those arrive.
const MAX_REFLEXIVE: usize = 4;
/// Queued responses, in datagrams; the oldest is dropped. A challenge takes two, and an honest peer sends no more than
/// a few between two polls (CVE-2023-49295 is what happens without such a bound).
const MAX_RESPONSES: usize = 16;
/// Challenges a round, those that others trigger before the next one included: every given candidate through a whole
/// round (at most 56 fast and 9 slow ones each).
const ROUND_BUDGET: u32 = 8 * 65;
/// One part in this many of an interval is jitter, so that pairs that began together spread out.
const JITTER_PART: u64 = 10;

/// What the time does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Before the first [`Punch::start`].
    New,
    /// A round is under way.
    Round { began: Instant },
    /// Relayed, until the next round.
    Waiting { until: Instant },
    /// Direct. Candidates may still be on a schedule that began before that, or of their own.
    Settled,
}

struct Response {
    over: Over,
    token: u64,
}

/// One pair's hole punching. See the module's text.
pub(crate) struct Punch {
    config: PunchConfig,
    gate: Gate,
    /// By which socket candidates are challenged that the server names, and by which they were before.
    home: SocketId,
    left: Option<SocketId>,
    rng: Rng,
    /// In the order in which they are probed.
    candidates: Vec<Candidate>,
    /// Where direct packets go: always a candidate with a proof.
    send: Option<Way>,
    /// The latest of those.
    last_good: Option<Way>,
    /// One that answered while that one has yet to: it takes over at this moment unless that one answers.
    rival: Option<(Way, Duration, Instant)>,
    /// Where the packet with the greatest number came from.
    source: Option<Way>,
    /// When a change of the source last had two addresses compared.
    compared: Option<Instant>,
    /// When there last began to be one.
    open_since: Instant,
    last_response: Option<Instant>,
    last_inbound: Option<Instant>,
    phase: Phase,
    /// Rounds that failed one after another.
    failures: u32,
    /// Holes that died young one after another.
    young_deaths: u32,
    /// Challenges that may still be sent before the next round.
    budget: u32,
    /// A whole round is over: what did not happen counts as impossible for now.
    judged: bool,
    was_direct: bool,
    /// The transport doubts the path in use, with reason.
    doubted: bool,
    verdict: Verdict,
    /// The verdict that the last event told, or the first one.
    told: Verdict,
    validated: Option<(Way, Duration)>,
    wants_restart: bool,
    /// A doubted address answered.
    answered: bool,
    /// When the last hole is tried again between two rounds, and the pause before that.
    retry: Option<(Instant, Duration)>,
    /// When to ask for a search next, and whether that is to be told.
    search_at: Option<Instant>,
    wants_search: bool,
    /// A search is under way.
    searching: bool,
    spray: Option<Box<Spray>>,
    /// Why there is nothing more to be tried, as the server says.
    stopped: Option<RelayReason>,
    responses: VecDeque<Response>,
    /// What an earlier pair of the same two left, to be used when there is a reason; and until when it counts as proven.
    inherited: Option<(Hole, Instant)>,
    stats: PunchStats,
    tally: Tally,
}

impl Punch {
    /// Nothing happens before [`Self::start`], apart from answers to challenges.
    pub(crate) fn new(config: &PunchConfig, rng: Rng) -> Self {
        let verdict = match config.gate {
            Gate::Open => Verdict::Relayed(RelayReason::Probing),
            Gate::OnTraffic => Verdict::Relayed(RelayReason::NoTraffic),
            Gate::Shut(because) => Verdict::Relayed(because),
        };
        Self {
            config: *config,
            gate: config.gate,
            home: SocketId::MAIN,
            left: None,
            rng,
            candidates: Vec::new(),
            send: None,
            rival: None,
            source: None,
            compared: None,
            last_good: None,
            open_since: Instant::ZERO,
            last_response: None,
            last_inbound: None,
            phase: Phase::New,
            failures: 0,
            young_deaths: 0,
            budget: ROUND_BUDGET,
            judged: false,
            was_direct: false,
            doubted: false,
            verdict,
            told: Verdict::Relayed(RelayReason::Probing),
            validated: None,
            wants_restart: false,
            answered: false,
            retry: None,
            search_at: None,
            wants_search: false,
            searching: false,
            spray: None,
            stopped: None,
            responses: VecDeque::new(),
            inherited: None,
            stats: PunchStats::default(),
            tally: Tally::default(),
        }
    }

    /// What the server says the peer may be probed at, the most promising first; at most [`MAX_GIVEN`] are taken. Begins
    /// a round, whatever is known already: the server asks because one of the two ends has no path.
    pub(crate) fn start(&mut self, now: Instant, candidates: &[SocketAddr]) {
        if self.is_shut() {
            return;
        }
        self.gate = Gate::Open;
        for known in &mut self.candidates {
            known.origin = Origin::Reflexive;
        }
        let mut taken = 0;
        for &address in candidates {
            if probeable(address).is_err() {
                self.stats.unprobeable = self.stats.unprobeable.wrapping_add(1);
            } else if taken == MAX_GIVEN {
                self.stats.crowded_out = self.stats.crowded_out.wrapping_add(1);
            } else if let Some(known) = self.candidates.iter_mut().find(|c| c.way == Way::new(self.home, address)) {
                taken += usize::from(known.origin != Origin::Given);
                known.origin = Origin::Given;
            } else {
                self.add(Candidate::new(Way::new(self.home, address), Origin::Given, now));
                self.failures = 0;
                self.stopped = None;
                taken += 1;
            }
        }
        self.forget_former();
        self.begin_round(now);
        self.wants_restart = false;
        self.update(now);
    }

    /// The next datagram to send, responses before challenges. `None` until [`Self::wake`] or another input; a finite
    /// number at any one `now`.
    pub(crate) fn poll(&mut self, now: Instant, pace: &mut Pace) -> Option<Probe> {
        self.on_time(now);
        if let Some(Response { over, token }) = self.responses.pop_front() {
            self.stats.responses = self.stats.responses.wrapping_add(1);
            let challenge = match over {
                Over::Direct(to) if !self.spend(to) => return self.poll(now, pace),
                Over::Direct(to) => self.challenge_due_at(now, pace, |c| c.way == to).map(|(_, token)| token),
                Over::Relay => None,
            };
            return Some(Probe::whole(over, challenge, Some(token)));
        }
        if let Some((to, token)) = self.challenge_due_at(now, pace, Candidate::affords) {
            self.spend(to);
            return Some(Probe::whole(Over::Direct(to), Some(token), None));
        }
        let spray = self.spray.as_mut()?;
        let hop_limit = spray.hop_limit(now);
        let (to, token) = spray.poll(now, &mut self.rng)?;
        pace.note(now);
        self.stats.challenges = self.stats.challenges.wrapping_add(1);
        Some(Probe { hop_limit, ..Probe::whole(Over::Direct(to), Some(token), None) })
    }

    /// A search is under way from now on, by `spray` if that is known already. The one before is over.
    pub(crate) fn search(&mut self, now: Instant, spray: Option<Spray>) {
        if self.gate == Gate::Open {
            (self.searching, self.spray) = (true, spray.map(Box::new));
            self.update(now);
        }
    }

    /// Changes the search that is under way.
    pub(crate) fn spray(&mut self) -> Option<&mut Spray> {
        self.spray.as_deref_mut()
    }

    /// The search is over. `stopped` says why the pair stays relayed, if nothing else will be tried.
    pub(crate) fn end_search(&mut self, now: Instant, stopped: Option<RelayReason>) {
        (self.searching, self.spray) = (false, None);
        self.stopped = stopped.or(self.stopped);
        self.judged |= stopped.is_some();
        self.update(now);
    }

    /// Ports that lead from here to the peer: that one which its packets came from last, towards the main socket, if they came
    /// from the address of `at`; else `at`.
    pub(crate) fn best_known(&self, at: SocketAddr) -> SocketAddr {
        let here = |c: &&Candidate| c.way.socket == self.home && c.way.at.ip() == at.ip() && c.heard.is_some();
        self.candidates.iter().filter(here).max_by_key(|c| c.heard).map_or(at, |c| c.way.at)
    }

    /// Whether packets of the peer's came by this socket, or ours leave by it.
    pub(crate) fn uses(&self, socket: SocketId) -> bool {
        let heard = self.candidates.iter().any(|c| c.way.socket == socket && c.heard.is_some());
        heard || self.send.is_some_and(|way| way.socket == socket)
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.verdict == Verdict::Direct
    }

    /// The server is told of `home` from now on, and punches to it. What a peer asks at the one before is not answered, so that it
    /// follows; what it sends there is taken all the same.
    pub(crate) fn set_home(&mut self, home: SocketId) {
        let left = core::mem::replace(&mut self.home, home);
        self.left = Some(left).filter(|left| *left != home).or(self.left);
    }

    /// Whether direct packets leave by this socket.
    pub(crate) fn sends_by(&self, socket: SocketId) -> bool {
        self.send.is_some_and(|way| way.socket == socket)
    }

    /// When the last of a search was due, if all of it is sent.
    pub(crate) fn spray_over(&self) -> Option<Instant> {
        self.spray.as_deref().and_then(Spray::over)
    }

    /// A socket is gone, and every way by it.
    pub(crate) fn forget_socket(&mut self, now: Instant, socket: SocketId) {
        if self.send.is_some_and(|way| way.socket == socket) {
            self.on_dead(now);
        }
        self.candidates.retain(|c| c.way.socket != socket);
        self.last_good = self.last_good.filter(|way| way.socket != socket);
        self.rival = self.rival.filter(|(way, ..)| way.socket != socket);
        self.responses.retain(|r| !matches!(r.over, Over::Direct(way) if way.socket == socket));
        self.update(now);
    }

    /// An authenticated challenge arrived on the direct path, from `from`.
    pub(crate) fn on_challenge(&mut self, now: Instant, from: impl Into<Way>, token: u64) {
        let from = from.into();
        if self.is_shut() {
            return;
        }
        self.on_traffic(now);
        self.hear(now, from);
        if self.left == Some(from.socket) {
            return self.update(now);
        }
        if probeable(from.at).is_ok() {
            self.queue(Over::Direct(from), token);
        }
        self.queue(Over::Relay, token);
        self.update(now);
    }

    /// An authenticated response arrived, on any path.
    pub(crate) fn on_response(&mut self, now: Instant, token: u64) {
        if self.is_shut() {
            return;
        }
        let answered = self.candidates.iter_mut().find_map(|c| Some((c.way, c.on_response(now, token)?)));
        let Some((way, rtt)) = answered else {
            if let Some(way) = self.spray.as_ref().and_then(|spray| spray.on_response(token)) {
                return self.on_found(now, way);
            }
            self.stats.unknown_responses = self.stats.unknown_responses.wrapping_add(1);
            return;
        };
        self.last_response = Some(now);
        self.choose(now, way, rtt);
        self.update(now);
    }

    /// A challenge of the search arrived. When is not known well, so the way is challenged again like any candidate.
    fn on_found(&mut self, now: Instant, way: Way) {
        let found = self.candidates.iter().filter(|c| c.origin == Origin::Found).count();
        if let Some(known) = self.candidates.iter_mut().find(|c| c.way == way) {
            known.trigger(now);
        } else if found < MAX_FOUND {
            self.add(Candidate::new(way, Origin::Found, now));
        }
    }

    /// Any authenticated packet arrived on the direct path, from `from`.
    pub(crate) fn on_packet(&mut self, now: Instant, from: impl Into<Way>) {
        let from = from.into();
        if self.is_shut() {
            return;
        }
        self.hear(now, from);
        self.update(now);
    }

    /// The same, and no later one came before. If it came from elsewhere than the one before it, the peer may have moved
    /// (RFC 9000 §9.3): that source and the address in use are both challenged, and the one in use stays if it answers.
    pub(crate) fn on_newest(&mut self, now: Instant, from: impl Into<Way>) {
        let from = from.into();
        self.on_packet(now, from);
        let changed = self.source.replace(from).is_some_and(|before| before != from);
        let rested = self.compared.is_none_or(|last| now.since(last) >= COMPARE_INTERVAL);
        if !changed || !rested || self.phase != Phase::Settled || self.send == Some(from) {
            return;
        }
        self.compared = Some(now);
        let send = self.send;
        for candidate in self.candidates.iter_mut().filter(|c| c.way == from || send == Some(c.way)) {
            candidate.begin(now, send == Some(candidate.way));
        }
    }

    /// What happened, most important first. Changes that were not polled in between are told as one.
    pub(crate) fn poll_event(&mut self) -> Option<PunchEvent> {
        if let Some((to, rtt)) = self.validated.take() {
            return Some(PunchEvent::Validated { to, rtt });
        }
        if self.told != self.verdict {
            self.told = self.verdict;
            return Some(PunchEvent::Verdict(self.verdict));
        }
        if core::mem::take(&mut self.answered) {
            return Some(PunchEvent::Answered);
        }
        if core::mem::take(&mut self.wants_search) {
            return Some(PunchEvent::WantsSearch);
        }
        core::mem::take(&mut self.wants_restart).then_some(PunchEvent::WantsRestart)
    }

    /// When to poll at the latest. [`Instant::ZERO`] while an event or a response waits.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let event = self.validated.is_some()
            || self.told != self.verdict
            || self.wants_restart
            || self.answered
            || self.wants_search;
        if event || !self.responses.is_empty() {
            return Some(Instant::ZERO);
        }
        let phase = match self.phase {
            Phase::Round { began } => Some(began + ROUND),
            Phase::Waiting { until } => Some(until),
            Phase::New | Phase::Settled => None,
        };
        let silence = match self.verdict {
            Verdict::Direct | Verdict::Relayed(RelayReason::OnlyInbound) => {
                self.last_inbound.map(|last| last + self.config.inbound_silence)
            }
            Verdict::Relayed(_) => None,
        };
        let rival = self.rival.map(|(.., settled)| settled);
        let due = self.candidates.iter().filter(|c| c.affords()).filter_map(|c| c.due);
        let retry = self.retry.map(|(at, _)| at).filter(|_| matches!(self.phase, Phase::Waiting { .. }));
        let spray = self.spray.as_deref().and_then(Spray::wake);
        let search = self.search_at.filter(|_| matches!(self.phase, Phase::Round { .. }));
        due.chain(phase).chain(silence).chain(rival).chain(retry).chain(spray).chain(search).min()
    }

    /// The verdict as of the last call.
    #[cfg(test)]
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The proven address that direct packets go to.
    #[cfg(test)]
    pub(crate) fn send_address(&self) -> Option<Way> {
        self.send
    }

    #[cfg(test)]
    pub(crate) fn stats(&self) -> PunchStats {
        self.stats
    }

    /// What the time alone changes.
    fn on_time(&mut self, now: Instant) {
        for candidate in &mut self.candidates {
            candidate.expire(now);
        }
        if let Some((way, rtt, _)) = self.rival.take_if(|(.., settled)| *settled <= now) {
            self.use_way(way, rtt);
        }
        match self.phase {
            Phase::Round { began } if now >= began + ROUND => {
                self.judged = true;
                self.wait(now);
            }
            // At the end of time every wait has always just ended.
            Phase::Waiting { until } if now >= until && now < Instant::FAR => {
                self.begin_round(now);
                self.wants_restart = true;
            }
            Phase::Waiting { .. } if now < Instant::FAR => self.try_last_hole(now),
            Phase::Round { .. } if self.search_at.is_some_and(|at| now >= at) => {
                self.search_at = Some(now + SEARCH_AGAIN);
                self.wants_search = !self.searching && self.stopped.is_none();
            }
            _ => {}
        }
        self.update(now);
    }

    /// Between two rounds: one challenge to where it was direct before, with growing pauses, so that a cut that healed is
    /// noticed after a third of the time that it lasted.
    fn try_last_hole(&mut self, now: Instant) {
        let Some((_, pause)) = self.retry.filter(|(at, _)| *at <= now) else { return };
        let pause = pause.saturating_mul(3).min(LAST_RETRY * 2) / 2;
        self.retry = Some((now + self.jittered(pause), pause));
        let last_good = self.last_good;
        for candidate in self.candidates.iter_mut().filter(|c| last_good == Some(c.way)) {
            candidate.due = Some(now);
        }
    }

    fn begin_round(&mut self, now: Instant) {
        let front = self.last_good;
        self.candidates.sort_by_key(|c| (Some(c.way) != front, c.origin));
        for candidate in &mut self.candidates {
            candidate.begin(now, self.send == Some(candidate.way));
        }
        self.budget = ROUND_BUDGET;
        if self.phase != (Phase::Round { began: now }) {
            self.tally.on_round(now);
        }
        self.phase = Phase::Round { began: now };
        self.search_at = self.config.searches.then(|| now + SEARCH_AFTER);
    }

    fn wait(&mut self, now: Instant) {
        let doubled = FIRST_BACKOFF.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting { until: now + self.jittered(doubled.min(LAST_BACKOFF)) };
        // One that keeps dying young would only die again.
        let promising = self.was_direct && self.young_deaths <= 1;
        self.retry = promising.then(|| (now + self.jittered(FIRST_RETRY), FIRST_RETRY));
    }

    /// Draws the consequences of whatever changed: who need not be challenged any more, the verdict, the phase.
    fn update(&mut self, now: Instant) {
        for candidate in &mut self.candidates {
            if candidate.began_before(self.last_response) && candidate.began_before(self.last_inbound) {
                candidate.rest();
            }
        }
        let assessed = self.assess(now);
        let before = core::mem::replace(&mut self.verdict, assessed);
        let direct = self.verdict == Verdict::Direct;
        self.was_direct |= direct;
        match self.phase {
            // The peer may be gone from where it was: look everywhere at once. Not if this hole has died young before.
            Phase::Settled if !direct && self.doubted && self.young_deaths > 0 => self.wait(now),
            Phase::Settled if !direct => {
                self.failures = 0;
                self.begin_round(now);
                self.wants_restart = true;
            }
            Phase::New | Phase::Round { .. } | Phase::Waiting { .. } if direct => {
                self.phase = Phase::Settled;
                if before != Verdict::Direct {
                    self.tally.on_direct(now);
                }
            }
            _ => {}
        }
        if direct {
            (self.searching, self.spray, self.wants_search, self.stopped) = (false, None, false, None);
        }
    }

    fn assess(&self, now: Instant) -> Verdict {
        if let Some(verdict) = self.gated() {
            return verdict;
        }
        let outbound = self.send.is_some();
        let inbound = self.last_inbound.is_some_and(|last| now.since(last) < self.config.inbound_silence);
        Verdict::Relayed(match (outbound, inbound) {
            (true, true) if !self.doubted => return Verdict::Direct,
            _ if self.was_direct => RelayReason::HoleClosed,
            _ if !self.judged || self.searching => RelayReason::Probing,
            _ if self.stopped.is_some() => self.stopped.unwrap_or(RelayReason::NoAnswer),
            (true, _) => RelayReason::OnlyOutbound,
            (false, true) => RelayReason::OnlyInbound,
            (false, false) => RelayReason::NoAnswer,
        })
    }

    /// Takes `way`, which just proved to arrive, for sending if there is none, or it is clearly better, or the one in
    /// use does not answer any more.
    fn choose(&mut self, now: Instant, way: Way, rtt: Duration) {
        let Some(current) = self.send else {
            self.open_since = now;
            return self.use_way(way, rtt);
        };
        if current == way {
            self.rival = None;
            self.answered = self.doubted;
            return;
        }
        if way.socket == self.home && self.left == Some(current.socket) {
            return self.use_way(way, rtt);
        }
        let known = self.candidates.iter().find(|c| c.way == current);
        let better = rtt.saturating_add(rtt / 10).saturating_add(SWITCH_MARGIN);
        if known.and_then(|c| c.rtt).is_none_or(|current| better < current) {
            self.use_way(way, rtt);
        } else if let Some(until) = known.and_then(Candidate::has_until) {
            if now >= until {
                self.use_way(way, rtt);
            } else if self.rival.is_none_or(|(_, other, _)| rtt < other) {
                self.rival = Some((way, rtt, until));
            }
        }
    }

    fn use_way(&mut self, way: Way, rtt: Duration) {
        self.rival = None;
        self.doubted = false;
        self.send = Some(way);
        self.last_good = self.send;
        self.validated = Some((way, rtt));
    }

    /// Notes the source of an authenticated direct packet, as a new candidate if it is one.
    fn hear(&mut self, now: Instant, from: Way) {
        self.last_inbound = Some(now);
        if let Some(spray) = &mut self.spray {
            spray.heard(now, from.at);
        }
        if let Some(known) = self.candidates.iter_mut().find(|c| c.way == from) {
            known.hear(now);
            if self.phase != Phase::Settled {
                known.trigger(now);
            }
            return;
        }
        if probeable(from.at).is_err() {
            self.stats.unprobeable = self.stats.unprobeable.wrapping_add(1);
            return;
        }
        if self.reflexive() >= MAX_REFLEXIVE && !self.evict_idle(now) {
            self.stats.crowded_out = self.stats.crowded_out.wrapping_add(1);
            return;
        }
        let mut candidate = Candidate::new(from, Origin::Reflexive, now);
        candidate.hear(now);
        self.add(candidate);
    }

    fn add(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
        self.tally.candidates = self.tally.candidates.saturating_add(1);
    }

    fn reflexive(&self) -> usize {
        self.candidates.iter().filter(|c| c.origin == Origin::Reflexive).count()
    }

    /// Makes room for a peer-reflexive candidate at the cost of one that was not heard of for a round: so sources that
    /// change with every packet get at most [`MAX_REFLEXIVE`] of them probed in that time.
    fn evict_idle(&mut self, now: Instant) -> bool {
        match self.least_heard() {
            Some((index, heard)) if heard.is_none_or(|heard| now.since(heard) >= ROUND) => {
                self.candidates.remove(index);
                true
            }
            _ => false,
        }
    }

    /// After new candidates were named: keeps of the others those that were heard of and the one in use.
    fn forget_former(&mut self) {
        let (send, last_good) = (self.send, self.last_good);
        self.candidates.retain(|c| {
            let good = send == Some(c.way) || last_good == Some(c.way);
            good || c.origin != Origin::Reflexive || c.heard.is_some()
        });
        while self.reflexive() > MAX_REFLEXIVE {
            let Some((index, _)) = self.least_heard() else { break };
            self.candidates.remove(index);
        }
    }

    /// The peer-reflexive candidate that was heard of least recently and is not in use.
    fn least_heard(&self) -> Option<(usize, Option<Instant>)> {
        let others = self.candidates.iter().enumerate();
        let others = others.filter(|(_, c)| c.origin == Origin::Reflexive && Some(c.way) != self.send);
        others.map(|(index, c)| (index, c.heard)).min_by_key(|&(_, heard)| heard)
    }

    /// Whether a datagram may go to `to`; if so, it counts as gone.
    fn spend(&mut self, to: Way) -> bool {
        let known = self.candidates.iter_mut().find(|c| c.way == to).filter(|c| c.affords());
        known.map(Candidate::spend).is_some()
    }

    fn queue(&mut self, over: Over, token: u64) {
        if self.responses.len() >= MAX_RESPONSES {
            self.responses.pop_front();
            self.stats.dropped_responses = self.stats.dropped_responses.wrapping_add(1);
        }
        self.responses.push_back(Response { over, token });
    }

    /// A challenge to the first candidate among `which` that is due for one and has its turn.
    fn challenge_due_at(
        &mut self,
        now: Instant,
        pace: &mut Pace,
        which: impl Fn(&Candidate) -> bool,
    ) -> Option<(Way, u64)> {
        if self.budget == 0 {
            for candidate in &mut self.candidates {
                candidate.due = None;
            }
            return None;
        }
        let index = (0..self.candidates.len()).find(|index| {
            let candidate = self.candidates.get_mut(*index);
            candidate.is_some_and(|c| which(c) && c.due.is_some_and(|due| due <= now) && c.has_turn(now, pace))
        })?;
        let token = self.rng.u64();
        let interval = self.candidates.get_mut(index)?.next_interval(now);
        let pause = self.jittered(interval);
        let candidate = self.candidates.get_mut(index)?;
        candidate.sent(now, token, pause);
        self.budget -= 1;
        self.stats.challenges = self.stats.challenges.wrapping_add(1);
        Some((candidate.way, token))
    }

    /// `d`, shortened by up to one part in [`JITTER_PART`].
    fn jittered(&mut self, d: Duration) -> Duration {
        let d = nanos(d);
        Duration::from_nanos(d - self.rng.below(d / JITTER_PART))
    }
}
