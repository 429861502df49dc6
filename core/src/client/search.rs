//! What a server orders beyond plain punching, carried out: the sockets that it takes, and what leaves by them.
//!
//! One search at a time. Sockets are asked of the driver and may not come: a search goes on with those that do. First the
//! server observes where packets from new sockets come from (*measure*), then it names ports (*predict*), or has one end open
//! its NAT from many sockets (*scatter*) while the other tries many ports (*sweep*), or has both open their NATs before anything
//! gets through (*open*); [`Spray`] has the schedule. When the
//! pair is direct, or there is nothing left to try, sockets that carry nothing are closed; one that does is the pair's
//! until the pair ends.

use super::held::HELD;
use super::session::{SERVER_SLOT, Session, path_peer};
use crate::config::SearchLimits;
use crate::event::RelayReason;
use crate::ids::{PeerId, SocketId};
use crate::machine::Request;
use crate::outbox::Outbox;
use crate::path::{Spray, Way, is_local, probeable};
use crate::report::Searches;
use crate::time::{Duration, Instant};
use crate::wire::control::ToServer;
use crate::wire::frames::Observe;
use crate::wire::search::{Outcome, Plan};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// Sockets that a measurement takes at the most: three differences of ports tell a sequence from chance.
const MAX_MEASURED: u8 = 8;
/// Ports that a prediction names at the most.
const MAX_PREDICTED: u8 = 64;
/// What is to be observed is sent again after so long, …
const OBSERVE_AGAIN: Duration = Duration::from_millis(100);
/// … so often: as with the rest of a lossy path, one in a million is lost ten times at 25 %.
const OBSERVE_TIMES: u32 = 10;
/// How often predicted ports are challenged: the first packet to a port may only open our own NAT, and one may be lost.
const PREDICTED_PASSES: u32 = 3;
/// Between two passes over predicted ports: a round trip, nearly everywhere.
const PREDICTED_PAUSE: Duration = Duration::from_millis(150);
/// How often the openers of a scattering are sent: one may be lost, and what they opened closes again.
const OPENER_PASSES: u32 = 3;
/// Between two passes of openers, each of which takes 2.6 s. The shortest lifetime that was measured of a NAT's entry
/// without a reply is 15 s.
const OPENER_PAUSE: Duration = Duration::from_secs(6);
/// A NAT is opened for so long at the most before what gets through is sent: longer than two ends' ways from the server differ.
const LONGEST_OPENING: Duration = Duration::from_secs(2);
/// What was sent last has so long to be answered.
const GRACE: Duration = Duration::from_secs(1);
/// No search takes longer.
const LONGEST: Duration = Duration::from_secs(30);
/// The server has so long to say what is next.
const NEXT_ORDER: Duration = Duration::from_secs(5);
/// A scattering with fewer than one in this many of its sockets is given up: it would find a way once in ten times.
const LEAST_SHARE: usize = 8;
/// After a server has named its doors, its knocks may come for so long; only then are packets sent to the doors, since that
/// opens the NAT for their answers.
const LISTEN: Duration = Duration::from_millis(800);
/// How often the doors are asked to observe.
const DOOR_TIMES: u32 = 4;
/// Later, a server that is reached by IPv4 is asked at its IPv6 address alone: after so long, twice that, and so on …
const IPV6_AGAIN: Duration = Duration::from_secs(10);
/// … up to this: IPv6 may come up, get another address, or have been out of reach for the first times.
const IPV6_SLOWEST: Duration = Duration::from_secs(300);

/// What a client has of sockets beside its first.
#[derive(Default)]
pub(super) struct Sockets {
    requests: VecDeque<Request>,
    last: u16,
    /// Those that were asked for and not closed, and whose they are.
    owners: BTreeMap<SocketId, u32>,
}

impl Sockets {
    /// What the driver is to do next.
    pub(super) fn request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    pub(super) fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Asks for a socket. `None` if all names are taken.
    pub(super) fn open(&mut self, slot: u32) -> Option<SocketId> {
        let id = (0..u16::MAX).find_map(|_| {
            self.last = if self.last == u16::MAX { 1 } else { self.last + 1 };
            Some(SocketId(self.last)).filter(|id| !self.owners.contains_key(id))
        })?;
        self.owners.insert(id, slot);
        self.requests.push_back(Request::OpenSocket { id, like: SocketId::MAIN });
        Some(id)
    }

    pub(super) fn close(&mut self, id: SocketId) {
        if self.owners.remove(&id).is_some() {
            self.requests.push_back(Request::CloseSocket(id));
        }
    }

    /// Closes all of one owner's, or all there are.
    pub(super) fn close_all(&mut self, slot: Option<u32>) {
        match slot {
            Some(slot) => self.close_of(slot, |_| true),
            None => core::mem::take(&mut self.owners)
                .into_keys()
                .for_each(|id| self.requests.push_back(Request::CloseSocket(id))),
        }
    }

    /// Those of one owner that `which` holds for are another's from now on.
    pub(super) fn hand_over(&mut self, from: u32, to: u32, which: impl Fn(SocketId) -> bool) {
        for (_, owner) in self.owners.iter_mut().filter(|(id, owner)| **owner == from && which(**id)) {
            *owner = to;
        }
    }

    /// Closes those of one owner that `which` holds for.
    pub(super) fn close_of(&mut self, owner: u32, which: impl Fn(SocketId) -> bool) {
        let ids: Vec<_> = self.owners.iter().filter(|(id, of)| **of == owner && which(**id)).collect();
        let ids: Vec<_> = ids.into_iter().map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.close(id));
    }

    fn owner(&self, id: SocketId) -> Option<u32> {
        self.owners.get(&id).copied()
    }
}

/// A search under way. See the module's text.
pub(super) struct Search {
    slot: u32,
    peer: PeerId,
    epoch: u64,
    number: u32,
    step: Step,
    /// When it is over whatever happens.
    until: Instant,
    /// Sockets that are open, in the order in which they were asked for.
    open: Vec<SocketId>,
    /// Sockets that were asked for and did not come yet; and how many never came.
    asked: usize,
    failed: usize,
}

impl Search {
    pub(super) fn is_with(&self, peer: PeerId) -> bool {
        self.peer == peer
    }
}

#[derive(Clone, Copy)]
enum Step {
    /// The next packet to be observed, when all of them go again, and how often.
    Measure {
        next: usize,
        at: Instant,
        left: u32,
    },
    Scatter {
        at: SocketAddr,
    },
    /// The spray alone knows.
    Probe,
    /// The server was told that it is over.
    Over,
}

/// The server's other addresses are asked how this host looks from there.
#[derive(Default)]
pub(super) struct Asking {
    doors: Vec<SocketAddr>,
    next: usize,
    at: Option<Instant>,
    left: u32,
    /// The one that is asked on and on, and how long to wait for that next.
    ipv6: Option<SocketAddr>,
    pause: Duration,
}

impl Asking {
    /// The server, which is at `server`, named its doors: anew, if it did before. One that names no address, as it listens at
    /// all it has, means that one.
    pub(super) fn begin(&mut self, now: Instant, server: IpAddr, doors: &[SocketAddr]) {
        let there = |ip: IpAddr| if ip.is_unspecified() { server } else { ip };
        let doors = doors.iter().map(|door| SocketAddr::new(there(door.ip()), door.port()));
        let doors: Vec<_> = doors.filter(|door| probeable(*door).is_ok()).collect();
        let ipv6 = doors.iter().copied().find(|door| door.is_ipv6() && server.is_ipv4());
        *self = Self { doors, next: 0, at: Some(now + LISTEN), left: DOOR_TIMES, ipv6, pause: IPV6_AGAIN };
    }

    /// Nothing has been sent to any door yet, so a knock at this NAT was not asked for.
    pub(super) fn listens(&self) -> bool {
        self.left == DOOR_TIMES && self.next == 0 || self.doors.is_empty()
    }

    fn wake(&self) -> Option<Instant> {
        self.at.filter(|_| self.left > 0 && !self.doors.is_empty() || self.ipv6.is_some())
    }

    /// Whom to ask next.
    fn door(&self) -> Option<SocketAddr> {
        if self.left > 0 { self.doors.get(self.next).copied() } else { self.ipv6 }
    }

    /// Somebody was asked.
    fn asked(&mut self, now: Instant) {
        self.next += 1;
        if self.left == 0 {
            self.later(now);
        } else if self.next >= self.doors.len() {
            (self.next, self.at, self.left) = (0, Some(now + OBSERVE_AGAIN), self.left - 1);
            if self.left == 0 {
                self.later(now);
            }
        }
    }

    fn later(&mut self, now: Instant) {
        (self.next, self.at) = (0, Some(now + self.pause));
        self.pause = self.pause.saturating_mul(2).min(IPV6_SLOWEST);
    }
}

/// Plain punching's part of a plan's bounds: what a client does for a server at the most.
fn interval(limits: &SearchLimits) -> Duration {
    Duration::from_secs(1) / u32::from(limits.probes_per_second.max(1))
}

/// Enters what a pair's search did into the account of it.
fn count(done: &mut Searches, plan: &Plan) {
    let count = match plan {
        Plan::Measure { .. } => &mut done.measured,
        Plan::Predict { .. } => &mut done.predicted,
        Plan::Scatter { .. } => &mut done.scattered,
        Plan::Open { .. } => &mut done.opened,
        Plan::Sweep { .. } | Plan::Stop { .. } => &mut done.swept,
    };
    *count = count.saturating_add(1);
}

impl Session {
    /// An order of the server's. One for a pair that is no more is nobody's.
    pub(super) fn on_order(&mut self, now: Instant, peer: PeerId, epoch: u64, number: u32, plan: Plan) {
        let Some(slot) = self.by_id.get(&peer).copied() else { return };
        if path_peer(&mut self.peers, slot).is_none_or(|p| p.epoch != epoch) {
            return;
        }
        let open = match self.search.take() {
            Some(same) if same.slot == slot => same.open,
            Some(other) => {
                self.finish_search(now, &other, None);
                Vec::new()
            }
            None => Vec::new(),
        };
        let mut search =
            Search { slot, peer, epoch, number, step: Step::Probe, until: now + LONGEST, open, asked: 0, failed: 0 };
        let limits = self.search_limits;
        let pace = interval(&limits);
        let vouched = |at: SocketAddr| probeable(at).is_ok() && !is_local(at.ip());
        let spray = match plan {
            Plan::Stop { because } => {
                let because = Some(because).filter(|because| *because != RelayReason::NoAnswer);
                return self.finish_search(now, &search, because);
            }
            Plan::Measure { sockets } => {
                // Each measurement is of sockets that the NAT has not seen.
                self.close_idle(now, &mut search, |_| false);
                self.ask_sockets(&mut search, usize::from(sockets.min(MAX_MEASURED)).min(limits.sockets));
                search.until = now + NEXT_ORDER;
                search.step = Step::Measure { next: 0, at: now, left: OBSERVE_TIMES };
                None
            }
            Plan::Predict { at, stride, count } if vouched(at) => {
                let by = search.open.last().copied().unwrap_or(self.leg.home);
                self.close_idle(now, &mut search, |id| id == by);
                let count = count.min(MAX_PREDICTED);
                let ways = predicted(at, stride, count).map(|at| Way::new(by, at)).collect();
                let all = (pace * u32::from(count) + PREDICTED_PAUSE) * PREDICTED_PASSES;
                search.until = now + all + GRACE;
                Some(Spray::list(now, pace, ways, PREDICTED_PASSES, PREDICTED_PAUSE))
            }
            Plan::Scatter { at, sockets } if vouched(at) => {
                let whole = usize::from(sockets).min(limits.sockets);
                let at = path_peer(&mut self.peers, slot)
                    .and_then(|p| p.link.puncher())
                    .map_or(at, |punch| punch.best_known(at));
                search.step = Step::Scatter { at };
                let mut spray = Spray::openers(now, pace, whole, OPENER_PASSES, OPENER_PAUSE);
                search.open.iter().take(whole).for_each(|id| spray.add(Way::new(*id, at)));
                let more = whole.saturating_sub(search.open.len());
                self.ask_sockets(&mut search, more);
                Some(spray)
            }
            Plan::Sweep { at, first, last, probes, after_ms } if vouched(at) && first > 0 && first <= last => {
                let start = now + Duration::from_millis(after_ms.into());
                let probes = probes.min(limits.probes);
                Some(Spray::sweep(start, pace, Way::new(self.leg.home, at), [first, last], probes, &mut self.rng))
            }
            Plan::Open { at, after_ms } if vouched(at) && !search.open.is_empty() => {
                let by = search.open.last().copied().unwrap_or(self.leg.home);
                self.close_idle(now, &mut search, |id| id == by);
                let opens_for = Duration::from_millis(after_ms.into()).min(LONGEST_OPENING);
                Some(Spray::opening(now, pace, Way::new(by, at), opens_for, &mut self.rng))
            }
            // What cannot be done is over at once.
            Plan::Predict { .. } | Plan::Scatter { .. } | Plan::Sweep { .. } | Plan::Open { .. } => {
                search.until = now;
                None
            }
        };
        if let Some(punch) = path_peer(&mut self.peers, slot).and_then(|p| p.link.puncher()) {
            count(punch.searches(), &plan);
            punch.search(now, spray);
        }
        self.search = Some(search);
        self.refresh(slot);
    }

    fn ask_sockets(&mut self, search: &mut Search, count: usize) {
        for _ in 0..count {
            match self.sockets.open(search.slot) {
                Some(_) => search.asked += 1,
                None => search.failed += 1,
            }
        }
    }

    /// A socket came, did not come, or went.
    pub(super) fn on_socket(&mut self, now: Instant, id: SocketId, opened: bool) {
        let Some(slot) = self.sockets.owner(id) else { return };
        if slot == SERVER_SLOT || slot == HELD {
            if !opened {
                self.sockets.owners.remove(&id);
                self.forget_held_socket(id);
            }
            return if slot == SERVER_SLOT {
                self.on_home(now, id, opened)
            };
        }
        let current = self.search.as_mut().filter(|search| search.slot == slot && search.asked > 0);
        if !opened {
            self.sockets.owners.remove(&id);
        }
        let punch = path_peer(&mut self.peers, slot).and_then(|p| p.link.puncher());
        match (current, punch) {
            (Some(search), Some(punch)) => {
                search.asked -= 1;
                if opened {
                    search.open.push(id);
                } else {
                    search.failed += 1;
                }
                if let (Step::Scatter { at }, Some(spray)) = (search.step, punch.spray()) {
                    if opened { spray.add(Way::new(id, at)) } else { spray.fewer(now) }
                }
            }
            (_, Some(punch)) if !opened => punch.forget_socket(now, id),
            // Too late for what it was for.
            _ => self.sockets.close(id),
        }
        self.refresh(slot);
    }

    /// What of a search the time decides: whether it came to nothing.
    pub(super) fn check_search(&mut self, now: Instant) {
        let Some(search) = &self.search else { return };
        let Some(peer) = path_peer(&mut self.peers, search.slot).filter(|p| p.epoch == search.epoch) else {
            self.search = None;
            return;
        };
        let Some(punch) = peer.link.puncher() else { return };
        if punch.is_direct() {
            if let Some(search) = self.search.take() {
                self.finish_search(now, &search, None);
            }
            return;
        }
        // Who scatters waits for the other end's probes: that one says when the last was sent.
        let scatters = matches!(search.step, Step::Scatter { .. });
        let spent = !scatters && punch.spray_over().is_some_and(|last| now >= last + GRACE);
        let wanted = search.open.len() + search.asked + search.failed;
        let starved = search.asked == 0
            && match search.step {
                Step::Measure { .. } => search.failed > 0,
                Step::Scatter { .. } => search.open.len() * LEAST_SHARE < wanted,
                Step::Probe | Step::Over => false,
            };
        let over = now >= search.until;
        let (number, id, epoch) = (search.number, search.peer, search.epoch);
        if matches!(search.step, Step::Over) {
            if over && let Some(search) = self.search.take() {
                self.finish_search(now, &search, None);
            }
        } else if starved || over || (spent && !matches!(search.step, Step::Measure { .. })) {
            let outcome = if starved { Outcome::NoSockets } else { Outcome::Spent };
            if let Some(search) = &mut self.search {
                (search.step, search.until) = (Step::Over, now + NEXT_ORDER);
            }
            self.tell(now, &ToServer::Searched { peer: id, epoch, number, outcome });
        }
    }

    /// Ends a search: sockets that carry nothing are closed.
    fn finish_search(&mut self, now: Instant, search: &Search, stopped: Option<RelayReason>) {
        let mut kept = Vec::new();
        if let Some(punch) = path_peer(&mut self.peers, search.slot).and_then(|p| p.link.puncher()) {
            kept.extend(search.open.iter().copied().filter(|id| punch.uses(*id)));
            punch.end_search(now, stopped);
        }
        let all: Vec<_> = self.sockets.owners.iter().filter(|(_, slot)| **slot == search.slot).collect();
        let all: Vec<_> = all.into_iter().map(|(id, _)| *id).collect();
        for id in all.into_iter().filter(|id| !kept.contains(id)) {
            self.close_socket(now, search.slot, id);
        }
        self.refresh(search.slot);
    }

    /// Closes the sockets of a search that are not to be kept for its next step and carry nothing.
    fn close_idle(&mut self, now: Instant, search: &mut Search, keep: impl Fn(SocketId) -> bool) {
        for id in core::mem::take(&mut search.open) {
            if keep(id) {
                search.open.push(id);
            } else {
                self.close_socket(now, search.slot, id);
            }
        }
    }

    fn close_socket(&mut self, now: Instant, slot: u32, id: SocketId) {
        if let Some(punch) = path_peer(&mut self.peers, slot).and_then(|p| p.link.puncher()) {
            if punch.sends_by(id) {
                return;
            }
            punch.forget_socket(now, id);
        }
        self.sockets.close(id);
    }

    /// Sends what the server is to observe. False if there was nothing, or no room.
    pub(super) fn transmit_observed(&mut self, now: Instant, out: &mut Outbox) -> bool {
        let server = self.leg.server;
        if let Some(Search { step: Step::Measure { next, at, left }, asked: 0, open, number, .. }) = &mut self.search
            && *left > 0
            && now >= *at
            && let Some(id) = open.get(*next).copied()
        {
            let observe = Observe { search: *number, socket: *next as u16 };
            if !self.server.observe(now, Way::new(id, server), observe, out) {
                return false;
            }
            *next += 1;
            if *next >= open.len() {
                (*next, *at, *left) = (0, now + OBSERVE_AGAIN, *left - 1);
            }
            return true;
        }
        let asking = &mut self.asking;
        if asking.wake().is_some_and(|at| now >= at)
            && let Some(door) = asking.door()
        {
            let observe = Observe { search: 0, socket: asking.next as u16 };
            if !self.server.observe(now, Way::new(self.leg.home, door), observe, out) {
                return false;
            }
            asking.asked(now);
            return true;
        }
        false
    }

    /// When [`Self::check_search`] or [`Self::transmit_observed`] has something to do.
    pub(super) fn search_wake(&self) -> Option<Instant> {
        if self.sockets.has_requests() {
            return Some(Instant::ZERO);
        }
        let search = self.search.as_ref().map(|search| {
            let observed = match search.step {
                Step::Measure { at, left, .. } if left > 0 && search.asked == 0 && !search.open.is_empty() => Some(at),
                _ => None,
            };
            let slot = (search.slot as usize).wrapping_sub(1);
            let punch = self.peers.get(slot).and_then(Option::as_ref).and_then(|p| p.link.puncher_ref());
            let sprayed = match search.step {
                Step::Probe => punch.and_then(|p| p.spray_over()).map(|last| last + GRACE),
                Step::Measure { .. } | Step::Scatter { .. } | Step::Over => None,
            };
            [observed, sprayed].into_iter().flatten().fold(search.until, Instant::min)
        });
        [search, self.asking.wake()].into_iter().flatten().min()
    }
}

/// Ports from that of `at` on. They wrap from the last to the first unprivileged one and back, as NATs do.
fn predicted(at: SocketAddr, stride: i16, count: u8) -> impl Iterator<Item = SocketAddr> {
    const FIRST: i32 = 1024;
    const PORTS: i32 = 65_536 - FIRST;
    (0..i32::from(count)).map(move |n| {
        let port = i32::from(at.port()) + i32::from(stride) * n;
        let wrapped = if n == 0 || (FIRST..FIRST + PORTS).contains(&port) {
            port
        } else {
            FIRST + (port - FIRST).rem_euclid(PORTS)
        };
        SocketAddr::new(at.ip(), wrapped as u16)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicted_ports_follow_the_stride_and_wrap_among_the_unprivileged_ones() {
        let at = |port| SocketAddr::from(([203, 0, 113, 7], port));
        let ports = |from, stride, count| predicted(at(from), stride, count).map(|at| at.port()).collect::<Vec<_>>();
        assert_eq!(ports(5000, 2, 4), [5000, 5002, 5004, 5006]);
        assert_eq!(ports(65_534, 1, 4), [65_534, 65_535, 1024, 1025]);
        assert_eq!(ports(1025, -1, 3), [1025, 1024, 65_535]);
        assert_eq!(ports(80, 0, 1), [80]);
    }

    #[test]
    fn names_of_sockets_are_not_used_twice_at_a_time_and_never_the_main_ones() {
        let mut sockets = Sockets { last: u16::MAX - 1, ..Sockets::default() };
        assert_eq!(sockets.open(1), Some(SocketId(u16::MAX)));
        assert_eq!(sockets.open(1), Some(SocketId(1)));
        sockets.last = u16::MAX - 1;
        assert_eq!(sockets.open(2), Some(SocketId(2)), "those in between are taken");
        sockets.close_all(Some(1));
        assert_eq!(sockets.owner(SocketId(2)), Some(2));
        assert_eq!(core::iter::from_fn(|| sockets.request()).count(), 5);
    }
}
