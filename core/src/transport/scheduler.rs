//! Which path sends a packet now, and what goes into it.
//!
//! Order in a packet: acknowledgements, time, key share, limit, copies meant for this path, what any path may carry, and in what
//! room is left small pieces of earlier packets ([`super::redundancy`]).
//! Acknowledgements of a path go by that path while it is healthy, so that its round trip is its own, and are never held
//! back by a window. What is asked here ([`Transport::wants`], [`Transport::wake`]) is decided by the same conditions
//! that [`Transport::build`] goes by, so that no wake-up finds nothing to do.

use super::channels::Packet;
use super::path::{Health, PACKET_OVERHEAD, Path};
use super::redundancy::Ride;
use super::space::{Carried, Piece, RANGES_SENT};
use super::{Built, DIRECT, MAIN, PathId, Transport};
use crate::machine::{Ecn, Wake};
use crate::time::Instant;
use crate::wire::buf::Writer;
use crate::wire::frames;

/// Ranges from which on a packet that only acknowledges also asks for an acknowledgement, once a round trip, so that
/// the peer's word lets the ranges go: RFC 9000 §13.2.4.
const RANGES_BEFORE_PING: usize = 8;

/// Longest frame with a scope's limit, bytes.
const LIMIT_LEN: usize = 17;
/// Room that a small piece's frame takes beside its bytes, the scope's name included: a copy is written whole or not.
const RIDER_HEAD: usize = 64;

/// A packet whose frames leave less room than this is full: the next piece may just not have been worth cutting.
const NEARLY_FULL: usize = 192;

/// Bytes with which a packet is filled up at most, so that the ones of a batch are of one length: a little more than what pieces
/// that are worth cutting leave, and less than a twentieth of a packet. In the mean it is about one in a hundred.
const MOST_PADDING: usize = 68;

/// What a packet is to be made of.
#[derive(Clone, Copy)]
struct Plan {
    probe: bool,
    keepalive: bool,
    data: bool,
    /// A datagram of this size is to be tried: packets of nothing else.
    mtu: Option<usize>,
}

impl Transport {
    /// A path on which a packet should be built now: an acknowledgement or a probe is due, or there is data that window
    /// and pacing let go. As long as it names a path, [`Self::build`] on that path makes progress.
    pub(crate) fn wants(&self, now: Instant) -> Option<PathId> {
        [DIRECT, MAIN].into_iter().filter(|&id| !self.is_blocked(id)).find(|&id| {
            let plan = self.plan(now, id);
            plan.probe || plan.keepalive || plan.data || plan.mtu.is_some() || self.ack_due(now, id)
        })
    }

    /// When to call [`Self::on_wake`] and then ask [`Self::wants`]; and why. What is due already has a time that has
    /// come.
    pub(crate) fn wake(&self) -> Option<(Instant, Wake)> {
        if self.wants(self.clock).is_some() {
            return Some((self.clock, Wake::Now));
        }
        // What would be sent on a path that takes nothing is due when it takes something again.
        let acks = (MAIN..).zip(&self.received).filter(|(of, _)| !self.is_blocked(self.ack_path(*of)));
        let acks = acks.filter_map(|(_, r)| Some((r.due()?, Wake::AckDelay)));
        let timers = self.paths.iter().filter_map(|p| Some((p.timer(self.config.ack_delay)?, Wake::LossDetection)));
        let keepalives =
            self.paths.iter().filter(|p| !p.blocked).filter_map(|p| Some((p.keepalive_at()?, Wake::Keepalive)));
        let pacing = [MAIN, DIRECT].into_iter().filter_map(|id| {
            let path = self.path(id).filter(|path| path.has_window() && !path.blocked)?;
            // What will be stale by then is no reason to wake.
            let at = path.pacer.ready_at();
            self.has_data(at, id).then_some((at, Wake::Pacing))
        });
        let release = self.release_at().map(|at| (at, Wake::Idle));
        acks.chain(timers).chain(keepalives).chain(pacing).chain(release).min()
    }

    /// Writes the frames of one packet; the number is the one that [`Self::next_number`] named. `None`: there is
    /// nothing to send, and the number is not used.
    pub(crate) fn build(&mut self, now: Instant, id: PathId, w: &mut Writer<'_>) -> Option<Built> {
        self.advance(now);
        let plan = self.plan(now, id);
        let path = self.path(id)?;
        let (pn, mark, payload) = (path.sent.next_number(), path.sent.mark(), path.payload);
        if let Some(size) = plan.mtu.filter(|_| !plan.probe && w.room() > payload) {
            return self.build_mtu_probe(now, id, size, w);
        }
        // What a timeout asks for must arrive, whatever it was that swallowed the others.
        let payload = if plan.probe { path.base_payload() } else { payload };
        let start = w.len();
        let mut inner = Writer::new(w.space(w.room().min(payload)).ok()?);
        let ranges = self.write_acks(now, id, &mut inner, plan);
        self.write_time(now, id, &mut inner);
        let acks = inner.len();
        if plan.probe || plan.data || plan.keepalive {
            self.write_max_message(id, &mut inner);
            self.write_question(now, id, &mut inner);
            self.write_leg(id, &mut inner);
        }
        if plan.probe || plan.data {
            self.write_frames(now, id, &mut inner, pn);
        }
        // Asked once, and not at all for what only acknowledges.
        let more = (inner.len() > acks).then(|| self.has_data(now, id));
        if more == Some(true) && plan.data && !plan.probe {
            self.level(now, id, &mut inner);
        }
        let ping = inner.len() == acks
            && (plan.probe || plan.keepalive || (ranges >= RANGES_BEFORE_PING && self.may_ask_for_word(now, id)));
        if ping && frames::write_ping(&mut inner).is_err() {
            // Only where the caller lent a few bytes.
            inner.truncate(acks);
        }
        let len = inner.len();
        w.truncate(start + len);
        if len == 0 {
            return None;
        }
        self.take_number(id);
        let (path, mut fates) = self.path_and_fates(id)?;
        let ack_eliciting = len > acks;
        let mut ecn = Ecn::NotCapable;
        if ack_eliciting {
            if ping && plan.probe {
                path.bytes_repeated += len as u64 + PACKET_OVERHEAD;
            }
            if path.sent.is_full() {
                path.sent.drop_oldest(|what| fates.lost(what));
            }
            ecn = path.on_eliciting_sent(now, pn, len, mark);
            if len + NEARLY_FULL >= path.payload {
                path.mtu.on_full();
            }
            if !more.unwrap_or_else(|| self.has_data(now, id)) {
                self.paths.get_mut(usize::from(id))?.on_dry();
            }
        } else {
            path.sent.forget_since(mark);
        }
        Some(Built { pn, ack_eliciting, ecn })
    }

    /// Another packet follows if the window has room for it: fills a nearly full one up then. A system call takes many datagrams, but of one length.
    fn level(&self, now: Instant, id: PathId, w: &mut Writer<'_>) {
        let goes_on = |path: &Path| !path.is_stream() && path.has_window_for_two(now);
        if self.batches && (1..=MOST_PADDING).contains(&w.room()) && self.path(id).is_some_and(goes_on) {
            let _ = w.space(w.room()).map(|padding| padding.fill(0));
        }
    }

    /// A packet that tries a larger datagram: not in flight, as its loss says nothing about congestion (RFC 8899 §3).
    fn build_mtu_probe(&mut self, now: Instant, id: PathId, size: usize, w: &mut Writer<'_>) -> Option<Built> {
        frames::write_ping(w).ok()?;
        w.space(w.room()).ok()?.fill(0);
        let pn = self.take_number(id);
        self.paths.get_mut(usize::from(id))?.mtu.on_probe_sent(now, pn, size);
        Some(Built { pn, ack_eliciting: true, ecn: Ecn::NotCapable })
    }

    /// The size of datagram that a path is to be tried with now.
    pub(super) fn probe_size(&self, now: Instant, path: &Path) -> Option<usize> {
        path.mtu.due(now).filter(|_| path.health == Health::Open)
    }

    fn plan(&self, now: Instant, id: PathId) -> Plan {
        let Some(path) = self.path(id).filter(|path| path.is_in_use()) else {
            return Plan { probe: false, keepalive: false, data: false, mtu: None };
        };
        Plan {
            probe: path.probes > 0,
            keepalive: path.keepalive_at().is_some_and(|at| at <= now),
            data: path.has_window() && path.pacer.ready_at() <= now && self.has_data(now, id),
            mtu: self.probe_size(now, path),
        }
    }

    /// The path that carries data: the direct one while it is healthy.
    pub(super) fn data_path(&self) -> PathId {
        if self.direct_is_open() && !self.avoid_direct { DIRECT } else { MAIN }
    }

    fn direct_is_open(&self) -> bool {
        self.path(DIRECT).is_some_and(|path| path.health == Health::Open)
    }

    fn has_data(&self, now: Instant, id: PathId) -> bool {
        let now = now.max(self.clock);
        let copies = self.path(id).is_some_and(|path| path.is_in_use() && !path.copies.is_empty());
        let anything = || self.out.has_data(now) || self.incoming.has_limits() || self.key.pending;
        copies || (id == self.data_path() && anything())
    }

    /// The path that acknowledgements of packets of `of` go by.
    fn ack_path(&self, of: PathId) -> PathId {
        if of == DIRECT && self.direct_is_open() { DIRECT } else { MAIN }
    }

    fn ack_due(&self, now: Instant, id: PathId) -> bool {
        let mut received = (MAIN..).zip(&self.received);
        self.owes_time(id) || received.any(|(of, r)| self.ack_path(of) == id && r.due().is_some_and(|at| at <= now))
    }

    /// Says how many ranges a path that is told of has at most.
    fn write_acks(&mut self, now: Instant, id: PathId, w: &mut Writer<'_>, plan: Plan) -> usize {
        let due = self.ack_due(now, id);
        if !(due || plan.probe || plan.keepalive || plan.data) {
            return 0;
        }
        let mut ranges = 0;
        for of in [MAIN, DIRECT] {
            let own = self.ack_path(of) == id;
            let Some(received) = self.received.get_mut(usize::from(of)) else { continue };
            // The main path also tells of the direct one: the peer may see the direct path's answers not at all.
            let beside = id == MAIN && of == DIRECT && received.news_for_main;
            if !(own && received.has_news() || beside) {
                continue;
            }
            let (numbers, largest) = (received.numbers(), received.numbers().largest());
            let (delay, ecn) = (received.delay(now), received.ecn());
            if frames::write_ack(w, of, delay, numbers.descending(), RANGES_SENT, ecn).is_err() {
                continue;
            }
            ranges = ranges.max(numbers.len());
            if own {
                received.on_ack_written();
            }
            received.news_for_main &= id != MAIN;
            if let (Some(largest), Some(path)) = (largest, self.paths.get_mut(usize::from(id))) {
                path.sent.carry(Carried::Ack(of, largest));
            }
        }
        ranges
    }

    /// Whether a packet that only acknowledges may ask for word itself. Only worth it for ranges told in that very packet:
    /// word of it lets them go, so two ends that both ask come to rest (RFC 9000 §13.2.4 warns of the loop).
    fn may_ask_for_word(&self, now: Instant, id: PathId) -> bool {
        self.path(id).is_some_and(|path| {
            let quiet = !path.sent.is_waiting() && now >= path.last_eliciting + path.rtt.smoothed();
            path.is_in_use() && path.has_window() && quiet
        })
    }

    /// Says how long messages may be, in every packet until one was acknowledged: who hears anything else first takes it
    /// that they are no longer than every end takes them.
    fn write_max_message(&mut self, id: PathId, w: &mut Writer<'_>) {
        if !self.out.max_message_told
            && let Some(path) = self.paths.get_mut(usize::from(id))
            && frames::write_max_message(w, self.config.max_message as u64).is_ok()
        {
            path.sent.carry(Carried::MaxMessage);
        }
    }

    fn write_frames(&mut self, now: Instant, id: PathId, w: &mut Writer<'_>, pn: u64) {
        let carries_data = self.data_path() == id;
        let mirror = carries_data && id == DIRECT && now < self.mirror_until;
        let Self { paths: [main, direct], out, incoming, key, config, clock, .. } = self;
        let (path, other) = if id == MAIN { (main, direct) } else { (direct, main) };
        let (rtt, pto, stream) = (path.rtt.smoothed(), path.rtt.pto(config.ack_delay), path.is_stream());
        let Path { sent, copies, payload, redundancy, bytes_repeated, .. } = path;
        if carries_data {
            if key.pending && frames::write_key_share(w, &key.share).is_ok() {
                sent.carry(Carried::KeyShare);
                key.pending = false;
            }
            while w.room() > LIMIT_LEN
                && let Some((id, limit)) = incoming.next_scope_limit()
            {
                // There is room for it.
                let _ = frames::write_scope_credit(w, id, limit);
                sent.carry(Carried::ScopeCredit(id, limit));
            }
            if incoming.credit.is_due() && w.room() > 9 {
                let limit = incoming.credit.announce();
                if frames::write_credit(w, limit).is_ok() {
                    sent.carry(Carried::Credit(limit));
                } else {
                    incoming.credit.on_lost(limit);
                }
            }
        }
        let mut packet = Packet { path: id, pn, payload: *payload, w, sent };
        while let Some(piece) = copies.front_mut() {
            let Some(open) = out.open_part(*piece) else {
                copies.pop_front();
                continue;
            };
            let Some(wrote) = out.write_piece(&mut packet, open) else { break };
            *bytes_repeated += wrote.end - wrote.start;
            *piece = Piece { start: wrote.end, ..*piece };
        }
        if carries_data {
            out.write(*clock, &mut packet, |piece| {
                redundancy.on_sent(now, piece);
                if mirror {
                    other.copy(piece);
                }
            });
            // In a stream a copy arrives no sooner than what it is a copy of.
            if stream {
                return;
            }
            redundancy.ride(now, rtt, pto, |piece| match out.open_part(piece) {
                None => Ride::Settled,
                Some(open) if packet.w.room() < (open.end - open.start) as usize + RIDER_HEAD => Ride::NoRoom,
                Some(open) => out.write_piece(&mut packet, open).map_or(Ride::NoRoom, |_| Ride::Written),
            });
        }
    }
}
