//! Beyond plain punching: which technique for which pair, by what is known of both ends' NATs, and who may try how much.
//! The server alone decides, names every address and port that is tried, and vouches for it: both ends were seen there.
//!
//! # The order of things
//!
//! A pair for which plain punching leads nowhere asks. If both NATs are known ([`Discovery`](super::discovery::Discovery)),
//! the ends whose ports are not the same for all destinations open a few sockets, and the ports that these come from tell
//! how the NAT gives them out. Then:
//!
//! 1. **Prediction**, where each end's next port is known: it keeps its port, or gives them out in sequence. Each end sends, by the
//!    socket measured last, to the ports that follow the one that the other's was seen at. Others may take ports in between,
//!    so several are tried. Where *both* NATs give each destination another port and let in nobody else, the two have to
//!    guess each other's guess: one end's j-th packet leaves by its port a + j + n and goes to b + 2j − 1, the other's i-th by
//!    b + i + m to a + i, and they meet at j = 1 + n + m, however many ports n and m others took before. That is why one of
//!    them takes steps of two. It is repeated with new sockets if it fails.
//! 2. **Birthday probing** ([`Spray`](crate::path::Spray)), where one end opens many sockets (*scatters*) and the other tries
//!    many ports (*sweeps*). See [`roles`] for which.
//! 3. Nothing, and both are told why.
//!
//! **Openers.** Where plain punching should have worked by what is known, or where nothing will be known, and where both ends look
//! hopeless in the way that such a router makes them look: a router may have spoilt the hole because the peer's first packet was there before its own
//! host had sent anything. Both ends then take a new socket, whose ports the server sees and nobody has sent to, and begin with packets
//! that die on the way. That is tried [`OPENINGS`] times and costs some fifty datagrams each.
//!
//! # Budgets
//!
//! A client is in one search at a time, which bounds its sockets and its datagrams a second. A public address is swept no more
//! than [`Techniques::probes_an_address`](crate::config::Techniques) times a minute by all clients together.

use super::Server;
use super::discovery::{Allocation, Behaviour, Mapping};
use crate::event::RelayReason;
use crate::ids::PeerId;
use crate::time::{Duration, Instant};
use crate::wire::control::ToClient;
use crate::wire::frames::Observe;
use crate::wire::search::{Outcome, Plan};
use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

/// Sockets that tell how a NAT gives out ports.
pub(super) const MEASURED: usize = 4;
/// How often ports are predicted before something else is done: each attempt finds another moment of the others' traffic.
const PREDICTIONS: u32 = 3;
/// How often new sockets are opened towards each other, where it is not hopeless. One that hears late, as a word was lost, may
/// spoil the first attempt.
const OPENINGS: u32 = 2;
/// The second of them is not in the same round of plain punching: what spoilt the first may be over by then.
const REST: Duration = Duration::from_secs(6);
/// Openers go on for the longer round trip to the server and this, which is when the other end has surely sent one.
const OPENS_FOR: Duration = Duration::from_millis(200);
/// Ports that are predicted. Where both ends guess, so many that 7 of others' in all are passed over.
const PREDICTED: u8 = 24;
/// A step that nobody says the end of is over after so long. Longer than what clients give it.
const STEP: Duration = Duration::from_secs(10);
/// The same of birthday probing, beyond the time that its datagrams take.
const SPARE: Duration = Duration::from_secs(8);
/// How long before the last socket is open and its opener through the peer's NAT.
const OPENING: Duration = Duration::from_millis(500);
/// Fewer ports are not worth trying: of 128, with 256 sockets, one is met 40 times of 100.
const LEAST_PROBES: u32 = 128;
/// What was swept of an address counts for so long.
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses whose budget is kept. Where all are in use, no others are swept.
const MAX_ADDRESSES: usize = 4096;

/// What is done about a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Search {
    number: u32,
    step: Step,
    until: Instant,
    predictions: u32,
    openings: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Step {
    /// Nothing yet.
    #[default]
    None,
    Measuring,
    /// The same of one socket an end, which is to be opened then.
    Preparing,
    Opening,
    /// For another opening.
    Resting,
    Predicting,
    Sweeping,
    /// Nothing more.
    Over,
}

/// A client's part in one.
#[derive(Clone, Copy)]
pub(super) struct Part {
    peer: PeerId,
    number: u32,
    until: Instant,
    /// Where its new sockets were seen, ports alone.
    ports: [Option<u16>; MEASURED],
}

/// What was swept of which address.
#[derive(Default)]
pub(super) struct Ledger {
    swept: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Ledger {
    /// Grants up to `wanted` probes of `address`.
    fn grant(&mut self, now: Instant, address: IpAddr, wanted: u32, limit: u32) -> u32 {
        if self.swept.len() >= MAX_ADDRESSES && !self.swept.contains_key(&address) {
            self.swept.retain(|_, (since, _)| now.since(*since) < MINUTE);
            if self.swept.len() >= MAX_ADDRESSES {
                return 0;
            }
        }
        let entry = self.swept.entry(address).or_insert((now, 0));
        if now.since(entry.0) >= MINUTE {
            *entry = (now, 0);
        }
        let granted = wanted.min(limit.saturating_sub(entry.1));
        entry.1 = entry.1.saturating_add(granted);
        granted
    }
}

/// Which of two ends opens many sockets, the other trying many ports. `None` if there is no hope.
///
/// Who sweeps does so from one socket. Each of its ports must be let in by a socket that it meets, and the answer by its own
/// NAT. Where it has one port for all, both are given: the sockets' openers went there. Else nobody knows the port that it
/// sweeps from, so the one that scatters must let in others than it has sent to. The answer then comes from the port that was
/// met, or, if the scattering NAT gives each destination another, from one that a strict NAT at the sweeping end lets in
/// only if its port is always the same: it is learnt from the first meeting, and the second one opens the pair.
fn roles(ends: [Behaviour; 2]) -> Option<usize> {
    if let Some(sweeps) = ends.iter().position(|end| end.mapping == Mapping::Same) {
        return Some(1 - sweeps);
    }
    let works = |scatters: usize| {
        let [by, to] = if scatters == 0 { ends } else { [ends[1], ends[0]] };
        let lost = by.mapping == Mapping::ByAddressAndPort && to.mapping == Mapping::ByAddressAndPort && to.strict;
        !by.strict && !lost
    };
    let steady = |end: &usize| ends[*end].mapping == Mapping::ByAddress;
    [0, 1].into_iter().filter(|end| works(*end)).max_by_key(|end| (steady(end), core::cmp::Reverse(*end)))
}

/// Whether a NAT may look as it does because its router takes what comes unasked, the server's knocks too, for connections of its
/// own, and gives what is sent there afterwards another port.
fn looks_spoilt(end: &Behaviour) -> bool {
    end.strict && end.mapping == Mapping::ByAddressAndPort
}

impl Server {
    /// How the NAT in front of a client behaves, as far as [`Doors`](crate::config::Doors) could tell; `None` if they could not,
    /// or not yet: it takes about a second from when the client was accepted.
    pub fn nat(&self, now: Instant, client: PeerId) -> Option<Behaviour> {
        let session = self.client(client)?;
        session.discovery.behaviour(now, session.addr)
    }

    /// Plain punching has come to nothing so far, one end says.
    pub(super) fn request_search(&mut self, now: Instant, from: PeerId, peer: PeerId, epoch: u64) {
        let techniques = self.config.techniques;
        let Some(search) = self.pairs.search(from, peer).filter(|_| self.pairs.epoch(from, peer) == Some(epoch)) else {
            return;
        };
        let barred = !self.may_punch(from, peer, true);
        let busy = barred || search.step == Step::Over || (search.step != Step::None && now < search.until);
        // Who has no UDP is not found anywhere.
        let here = |s: &super::Session| s.stream.is_none() && s.search.is_none_or(|part| now >= part.until);
        let free = |id| self.client(id).is_some_and(here);
        if busy || !free(from) || !free(peer) {
            return;
        }
        let known = self.behaviours(now, from, peer);
        // Where both keep their ports, plain punching is all that is needed, unless a router spoils it.
        let plain = known.is_some_and(|known| known.iter().all(|end| end.mapping == Mapping::Same));
        if plain || (known.is_none() && self.stay_unknown(now, from, peer)) {
            if techniques.openers && search.openings < OPENINGS {
                self.prepare(now, from, peer, epoch);
            }
        } else if known.is_some() && (techniques.prediction || techniques.birthday) {
            self.measure(now, from, peer, epoch);
        }
    }

    /// Whether nothing more will be found out of the NATs of two that are behind different ones.
    fn stay_unknown(&self, now: Instant, a: PeerId, b: PeerId) -> bool {
        let (Some(a), Some(b)) = (self.client(a), self.client(b)) else { return false };
        a.addr.ip() != b.addr.ip() && a.discovery.is_over(now) && b.discovery.is_over(now)
    }

    /// What is known of the NATs of two clients that are behind different ones.
    fn behaviours(&self, now: Instant, a: PeerId, b: PeerId) -> Option<[Behaviour; 2]> {
        let (a, b) = (self.client(a)?, self.client(b)?);
        let known = |s: &super::Session| s.discovery.behaviour(now, s.addr);
        if a.addr.ip() == b.addr.ip() { None } else { Some([known(a)?, known(b)?]) }
    }

    /// Has both ends open sockets, those whose ports would tell something.
    fn measure(&mut self, now: Instant, a: PeerId, b: PeerId, epoch: u64) {
        let Some(known) = self.behaviours(now, a, b) else { return };
        let number = self.next_search;
        self.next_search = self.next_search.wrapping_add(1).max(1);
        let Some(search) = self.pairs.search_mut(a, b) else { return };
        (search.number, search.step, search.until) = (number, Step::Measuring, now + STEP);
        for (to, peer, end) in [(a, b, known[0]), (b, a, known[1])] {
            let sockets = if end.mapping == Mapping::Same { 0 } else { MEASURED as u8 };
            if let Some(session) = self.client_mut(to) {
                session.search = Some(Part { peer, number, until: now + STEP, ports: [None; MEASURED] });
            }
            self.order(now, to, peer, epoch, number, Plan::Measure { sockets });
        }
    }

    /// Has both ends open a socket that nobody has sent anything to.
    fn prepare(&mut self, now: Instant, a: PeerId, b: PeerId, epoch: u64) {
        let number = self.next_search;
        self.next_search = self.next_search.wrapping_add(1).max(1);
        let Some(search) = self.pairs.search_mut(a, b) else { return };
        (search.number, search.step, search.until) = (number, Step::Preparing, now + STEP);
        for (to, peer) in [(a, b), (b, a)] {
            if let Some(session) = self.client_mut(to) {
                session.search = Some(Part { peer, number, until: now + STEP, ports: [None; MEASURED] });
            }
            self.order(now, to, peer, epoch, number, Plan::Measure { sockets: 1 });
        }
    }

    /// Has both ends open their NATs towards the socket that the other took last, then challenge it.
    fn open(&mut self, now: Instant, a: PeerId, b: PeerId) {
        let (Some(search), Some(epoch)) = (self.pairs.search(a, b), self.pairs.epoch(a, b)) else { return };
        let number = search.number;
        let seen = [a, b].map(|id| {
            let session = self.client(id)?;
            let part = session.search.filter(|part| part.number == number)?;
            let port = part.ports.iter().rev().find_map(|port| *port)?;
            Some((SocketAddr::new(session.addr.ip(), port), session.rtt()))
        });
        let [Some((at_a, rtt_a)), Some((at_b, rtt_b))] = seen else { return };
        let Some(search) = self.pairs.search_mut(a, b) else { return };
        (search.step, search.until, search.openings) = (Step::Opening, now + STEP, search.openings + 1);
        let opens_for = rtt_a.max(rtt_b).saturating_add(OPENS_FOR);
        let after_ms = u16::try_from(opens_for.as_millis()).unwrap_or(u16::MAX);
        for (to, peer, at) in [(a, b, at_b), (b, a, at_a)] {
            self.order(now, to, peer, epoch, number, Plan::Open { at, after_ms });
        }
    }

    fn order(&mut self, now: Instant, to: PeerId, peer: PeerId, epoch: u64, number: u32, plan: Plan) {
        self.tell(now, to.slot(), &ToClient::Search { peer, epoch, number, plan });
    }

    /// A client's packet came from there, to be looked at. Only what comes from the address that its session proved to be at
    /// counts: a copied packet could come from anywhere.
    pub(super) fn on_observed(&mut self, now: Instant, slot: u32, from: SocketAddr, observe: Observe) {
        let Some(session) = self.session_mut(slot) else { return };
        let (me, here) = (session.peer, session.addr.ip() == from.ip());
        let part = session.search.as_mut().filter(|part| here && part.number == observe.search);
        let Some(part) = part else { return };
        let peer = part.peer;
        match part.ports.get_mut(usize::from(observe.socket)) {
            Some(port @ None) => *port = Some(from.port()),
            _ => return,
        }
        let search = self.pairs.search(me, peer).filter(|s| s.number == observe.search);
        if search.is_some_and(|s| s.step == Step::Preparing) {
            let number = observe.search;
            let seen = |id| {
                self.client(id)
                    .and_then(|s| s.search)
                    .is_some_and(|p| p.number == number && p.ports.iter().any(Option::is_some))
            };
            if seen(me) && seen(peer) {
                self.open(now, me, peer);
            }
            return;
        }
        let Some(known) = self.behaviours(now, me, peer) else { return };
        let done = |id, end: Behaviour| end.mapping == Mapping::Same || self.measured(id, observe.search).is_some();
        let measuring = search.is_some_and(|s| s.step == Step::Measuring);
        if measuring && done(me, known[0]) && done(peer, known[1]) {
            self.decide(now, me, peer, true);
        }
    }

    /// The ports of a client's new sockets, if all were seen.
    fn measured(&self, client: PeerId, number: u32) -> Option<[u16; MEASURED]> {
        let part = self.client(client)?.search.filter(|part| part.number == number)?;
        let mut ports = [0; MEASURED];
        for (port, seen) in ports.iter_mut().zip(part.ports) {
            *port = seen?;
        }
        Some(ports)
    }

    /// Picks the technique.
    fn decide(&mut self, now: Instant, a: PeerId, b: PeerId, predict: bool) {
        let (Some(search), Some(epoch)) = (self.pairs.search(a, b), self.pairs.epoch(a, b)) else { return };
        let Some(known) = self.behaviours(now, a, b) else { return };
        let number = search.number;
        let ports = [a, b].map(|id| self.measured(id, number));
        let given = ports.map(|ports| ports.map(|ports| Allocation::of(&ports)));
        let random = given.iter().any(|given| matches!(given, Some(Allocation::Within(..))));
        if predict && self.config.techniques.prediction && !random {
            self.predict(now, [a, b], epoch, number, ports, given);
        } else if self.config.techniques.birthday
            && let Some(scatters) = roles(known)
        {
            let [by, to] = if scatters == 0 { [a, b] } else { [b, a] };
            self.sweep(now, by, to, epoch, number, given[scatters]);
        } else if self.config.techniques.openers && search.openings == 0 && known.iter().all(looks_spoilt) {
            self.open(now, a, b);
        } else {
            let hopeless = random || roles(known).is_none();
            self.stop(now, a, b, if hopeless { RelayReason::Unpredictable } else { RelayReason::BudgetSpent });
        }
    }

    fn predict(
        &mut self,
        now: Instant,
        ends: [PeerId; 2],
        epoch: u64,
        number: u32,
        ports: [Option<[u16; MEASURED]>; 2],
        given: [Option<Allocation>; 2],
    ) {
        let Some(search) = self.pairs.search_mut(ends[0], ends[1]) else { return };
        (search.step, search.until, search.predictions) = (Step::Predicting, now + STEP, search.predictions + 1);
        if let Some(tally) = self.pairs.tally_mut(ends[0], ends[1]) {
            tally.predictions = tally.predictions.saturating_add(1);
        }
        let both = given.iter().all(Option::is_some);
        for (end, other) in [(0, 1), (1, 0)] {
            let Some(at) = self.client(ends[other]).map(|s| s.addr) else { continue };
            let (at, stride, count) = match (ports[other], given[other]) {
                (Some(ports), Some(Allocation::Sequential(stride))) => {
                    let last = ports.last().copied().unwrap_or(0);
                    let first = SocketAddr::new(at.ip(), last.wrapping_add_signed(stride));
                    // One of two that guess takes steps of two: see the module's text.
                    let step = if both && ends[end] < ends[other] && self.guesses(now, ends) {
                        stride.saturating_mul(2)
                    } else {
                        stride
                    };
                    (first, step, PREDICTED)
                }
                _ => (at, 0, 1),
            };
            self.order(now, ends[end], ends[other], epoch, number, Plan::Predict { at, stride, count });
        }
    }

    /// Whether both ends' ports are others for each that they send to.
    fn guesses(&self, now: Instant, ends: [PeerId; 2]) -> bool {
        let known = self.behaviours(now, ends[0], ends[1]);
        known.is_some_and(|known| known.iter().all(|end| end.mapping == Mapping::ByAddressAndPort))
    }

    fn sweep(
        &mut self,
        now: Instant,
        scatters: PeerId,
        sweeps: PeerId,
        epoch: u64,
        number: u32,
        given: Option<Allocation>,
    ) {
        let limits = self.config.limits.search;
        let (Some(by), Some(to)) = (self.client(scatters).map(|s| s.addr), self.client(sweeps).map(|s| s.addr)) else {
            return;
        };
        let limit = self.config.techniques.probes_an_address;
        let granted = self.ledger.grant(now, by.ip(), limits.probes.into(), limit);
        if granted < LEAST_PROBES.min(limits.probes.into()) {
            return self.stop(now, scatters, sweeps, RelayReason::BudgetSpent);
        }
        let probes = u16::try_from(granted).unwrap_or(u16::MAX);
        let sockets = u16::try_from(limits.sockets).unwrap_or(u16::MAX);
        let pace = Duration::from_secs(1) / u32::from(limits.probes_per_second.max(1));
        let opening = pace * u32::from(sockets) + OPENING;
        let until = now + opening + pace * u32::from(probes) + SPARE;
        let Some(search) = self.pairs.search_mut(scatters, sweeps) else { return };
        (search.step, search.until) = (Step::Sweeping, until);
        if let Some(tally) = self.pairs.tally_mut(scatters, sweeps) {
            tally.sweeps = tally.sweeps.saturating_add(1);
            tally.granted = tally.granted.saturating_add(granted);
        }
        for id in [scatters, sweeps] {
            if let Some(part) = self.client_mut(id).and_then(|s| s.search.as_mut()) {
                part.until = until;
            }
        }
        let (first, last) = match given {
            Some(Allocation::Within(first, last)) => (first, last),
            _ => (1024, u16::MAX),
        };
        let after_ms = u16::try_from(opening.as_millis()).unwrap_or(u16::MAX);
        self.order(now, scatters, sweeps, epoch, number, Plan::Scatter { at: to, sockets });
        self.order(now, sweeps, scatters, epoch, number, Plan::Sweep { at: by, first, last, probes, after_ms });
    }

    /// There is nothing more to be done for a pair.
    fn stop(&mut self, now: Instant, a: PeerId, b: PeerId, because: RelayReason) {
        let Some(epoch) = self.pairs.epoch(a, b) else { return };
        let Some(search) = self.pairs.search_mut(a, b) else { return };
        search.step = Step::Over;
        let number = search.number;
        self.release(a, b);
        for (to, peer) in [(a, b), (b, a)] {
            self.order(now, to, peer, epoch, number, Plan::Stop { because });
        }
    }

    /// The search goes on under another number: what the other end still says of the step before is not of the next one.
    fn renumber(&mut self, a: PeerId, b: PeerId) {
        let number = self.next_search;
        self.next_search = self.next_search.wrapping_add(1).max(1);
        if let Some(search) = self.pairs.search_mut(a, b) {
            search.number = number;
        }
        for (id, peer) in [(a, b), (b, a)] {
            if let Some(part) = self.client_mut(id).and_then(|s| s.search.as_mut()).filter(|part| part.peer == peer) {
                part.number = number;
            }
        }
    }

    /// Neither has a part in the other's search any more.
    fn release(&mut self, a: PeerId, b: PeerId) {
        for (id, peer) in [(a, b), (b, a)] {
            if let Some(session) = self.client_mut(id) {
                session.search = session.search.filter(|part| part.peer != peer);
            }
        }
    }

    /// One end has done what it was told to, and there is no direct path.
    pub(super) fn on_searched(
        &mut self,
        now: Instant,
        from: PeerId,
        peer: PeerId,
        epoch: u64,
        number: u32,
        outcome: Outcome,
    ) {
        let known = self.pairs.search(from, peer).filter(|s| s.number == number);
        let Some(search) = known.filter(|_| self.pairs.epoch(from, peer) == Some(epoch)) else { return };
        match (outcome, search.step) {
            (_, Step::None | Step::Resting | Step::Over) => {}
            (Outcome::NoSockets, Step::Preparing) => self.stop(now, from, peer, RelayReason::NoAnswer),
            (Outcome::NoSockets, _) => self.stop(now, from, peer, RelayReason::NoSockets),
            (Outcome::Spent, Step::Measuring) => self.forget_search(from, peer),
            (Outcome::Spent, Step::Preparing) => self.stop(now, from, peer, RelayReason::NoAnswer),
            (Outcome::Spent, Step::Opening) => {
                let known = self.behaviours(now, from, peer);
                let hopeless = known.is_some_and(|known| roles(known).is_none());
                self.stop(now, from, peer, if hopeless { RelayReason::Unpredictable } else { RelayReason::NoAnswer });
                if let Some(search) = self.pairs.search_mut(from, peer).filter(|s| !hopeless && s.openings < OPENINGS) {
                    (search.step, search.until) = (Step::Resting, now + REST);
                }
            }
            (Outcome::Spent, Step::Predicting) if search.predictions < PREDICTIONS => {
                self.measure(now, from, peer, epoch)
            }
            (Outcome::Spent, Step::Predicting) => {
                self.renumber(from, peer);
                self.decide(now, from, peer, false);
            }
            (Outcome::Spent, Step::Sweeping) => self.stop(now, from, peer, RelayReason::BudgetSpent),
        }
    }

    /// The pair is direct, or one of the two is somewhere else: a search would begin anew.
    pub(super) fn forget_search(&mut self, a: PeerId, b: PeerId) {
        if let Some(search) = self.pairs.search_mut(a, b) {
            *search = Search::default();
        }
        self.release(a, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const KINDS: [Mapping; 3] = [Mapping::Same, Mapping::ByAddress, Mapping::ByAddressAndPort];

    fn behaviour() -> impl Strategy<Value = Behaviour> {
        (0usize..3, any::<bool>()).prop_map(|(kind, strict)| Behaviour { mapping: KINDS[kind], strict })
    }

    proptest! {
        #[test]
        fn no_address_is_swept_beyond_its_budget_in_any_minute(
            steps in prop::collection::vec((0u64..30_000, 0u8..3, 0u32..3000), 1..60),
        ) {
            let (mut ledger, mut now, mut granted) = (Ledger::default(), Instant::ZERO, Vec::new());
            for (wait, host, wanted) in steps {
                now = now + Duration::from_millis(wait);
                let address = IpAddr::from([203, 0, 113, host]);
                let got = ledger.grant(now, address, wanted, 5000);
                prop_assert!(got <= wanted);
                granted.push((now, address, got));
                let since = |at: &Instant| now.since(*at) < MINUTE;
                let sum: u32 = granted.iter().filter(|(at, to, _)| since(at) && *to == address).map(|g| g.2).sum();
                prop_assert!(sum <= 2 * 5000, "a window may begin within another");
            }
        }

        #[test]
        fn roles_do_not_depend_on_the_order_in_which_two_are_named(a in behaviour(), b in behaviour()) {
            let (one, other) = (roles([a, b]), roles([b, a]));
            prop_assert_eq!(one.is_some(), other.is_some());
            // Of two that keep their ports plain punching takes care.
            if a != b && (a.mapping, b.mapping) != (Mapping::Same, Mapping::Same) {
                let named = |end: usize, ends: [Behaviour; 2]| ends[end];
                prop_assert_eq!(one.map(|end| named(end, [a, b])), other.map(|end| named(end, [b, a])));
            }
        }
    }

    #[test]
    fn two_strict_ends_whose_ports_depend_on_the_destination_are_hopeless_and_few_others() {
        let end = |mapping, strict| Behaviour { mapping, strict };
        let (address, port) = (Mapping::ByAddress, Mapping::ByAddressAndPort);
        let hopeless = |a, b| roles([a, b]).is_none();
        assert!(hopeless(end(address, true), end(address, true)));
        assert!(hopeless(end(address, true), end(port, true)));
        assert!(hopeless(end(port, true), end(port, true)));
        assert!(hopeless(end(port, false), end(port, true)));
        assert!(!hopeless(end(address, true), end(port, false)));
        assert!(!hopeless(end(address, false), end(port, true)));
        assert!(!hopeless(end(port, false), end(port, false)));
        assert_eq!(roles([end(Mapping::Same, true), end(port, true)]), Some(1), "the steady port sweeps");
    }

    #[test]
    fn a_full_ledger_grants_nothing_to_new_addresses_until_a_minute_is_over() {
        let mut ledger = Ledger::default();
        for n in 0..MAX_ADDRESSES as u32 {
            assert_eq!(ledger.grant(Instant::ZERO, IpAddr::from((n + 1).to_be_bytes()), 10, 100), 10);
        }
        let other = IpAddr::from([203, 0, 113, 9]);
        assert_eq!(ledger.grant(Instant::from_millis(59_000), other, 10, 100), 0);
        assert_eq!(ledger.grant(Instant::from_millis(60_000), other, 10, 100), 10);
        assert_eq!(ledger.swept.len(), 1);
    }
}
