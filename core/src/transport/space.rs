//! One path's packet numbers: what was sent and waits for word, and what arrived and must be acknowledged.
//!
//! Sent packets stand in a ring in the order of their numbers, only those that ask for an acknowledgement; what each one
//! carried stands in a second ring in the same order, so that a packet costs no allocation of its own. A packet leaves
//! its place as soon as it is acknowledged or lost, the ring as soon as all before it have.

use super::ranges::Ranges;
use super::rate::Stamp;
use super::thinning::Thinning;
use super::{PathId, Violation};
use crate::entropy::Rng;
use crate::machine::Ecn;
use crate::time::{Duration, Instant};
use crate::wire::frames::{Ack, EcnCounts};
use alloc::collections::VecDeque;

/// Packets that may wait for word at once; beyond it the window counts as full. 16 MiB in full packets and some more, which
/// at 50 ms is 300 MiB/s; the ring of them takes 1 MiB then, and grows only that far on paths that are so fast.
pub(super) const MAX_OUTSTANDING: usize = 16_384;

/// Skipped numbers that are remembered: those of several windows, so of all that a peer may still want to acknowledge.
const SKIPPED_KEPT: usize = 16;

/// Fewest packets between two skipped numbers: a skip costs the peer a range until its acknowledgement arrives.
const SKIP_AFTER: u64 = 24;

/// Ranges of received numbers that are kept, and told: the lowest go first, their packets are long declared lost.
const RANGES_KEPT: usize = 64;
pub(super) const RANGES_SENT: usize = 32;

/// One thing that a packet carried, and that must be told of its fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carried {
    /// Bytes of a reliable message.
    Bytes(Piece),
    /// The name of a scope.
    Scope(u64),
    /// The end of a scope.
    ScopeEnd(u64),
    /// A limit.
    Credit(u64),
    /// A scope's limit.
    ScopeCredit(u64, u64),
    /// The longest message that this end takes.
    MaxMessage,
    /// The leg that this end uses, and which change of it that was.
    Leg(u32),
    /// This end's key share.
    KeyShare,
    /// Acknowledgement of packets of a path up to a number.
    Ack(PathId, u64),
}

/// Bytes `start..end` of a reliable message. An empty message counts as one byte, so that it too can be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) scope: u64,
    pub(super) seq: u64,
    pub(super) start: u64,
    pub(super) end: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In flight.
    Flying,
    /// No longer counted as in flight, since probes went out in its stead; an acknowledgement still counts.
    Presumed,
    /// Acknowledged or lost.
    Settled,
}

#[derive(Clone, Debug)]
struct Sent {
    pn: u64,
    at: Instant,
    bytes: u64,
    /// Where what it carried begins, counted from the beginning of time.
    carried: u64,
    stamp: Stamp,
    marked: bool,
    alone: bool,
    state: State,
    /// How many from here on are settled too, as far as is known; of one that is settled itself.
    run: u32,
}

/// A packet as congestion control sees it when it is sent, and when it is settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) pn: u64,
    pub(super) at: Instant,
    pub(super) bytes: u64,
    pub(super) stamp: Stamp,
    /// It went out marked as ECN capable.
    pub(super) marked: bool,
    /// It was nearly alone under way: see [`super::base`].
    pub(super) alone: bool,
}

/// What was sent on a path.
pub(super) struct SentSpace {
    next: u64,
    largest_acked: Option<u64>,
    skipped: VecDeque<u64>,
    until_skip: u64,
    ring: VecDeque<Sent>,
    carried: VecDeque<Carried>,
    /// Where `carried` begins, counted from the beginning of time.
    carried_base: u64,
    in_flight: u64,
    unsettled: usize,
}

impl SentSpace {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let until_skip = rng.below(SKIP_AFTER);
        Self {
            next: 0,
            largest_acked: None,
            skipped: VecDeque::new(),
            until_skip,
            ring: VecDeque::new(),
            carried: VecDeque::new(),
            carried_base: 0,
            in_flight: 0,
            unsettled: 0,
        }
    }

    /// Takes the memory for numbers that are left out, which else a slow path would need long after it was opened.
    pub(super) fn reserve(&mut self) {
        self.skipped.reserve_exact(SKIPPED_KEPT - self.skipped.len());
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    pub(super) fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    /// Bytes in flight.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether some packet waits for word.
    pub(super) fn is_waiting(&self) -> bool {
        self.unsettled > 0
    }

    /// When the oldest packet that waits for word was sent.
    pub(super) fn oldest_at(&self) -> Option<Instant> {
        self.ring.front().map(|sent| sent.at)
    }

    pub(super) fn is_full(&self) -> bool {
        self.ring.len() >= MAX_OUTSTANDING
    }

    /// Takes the next number. Now and then one is left out behind it: who acknowledges that one acknowledges what it
    /// did not receive (RFC 9000 §21.4). On average once a window of `window_packets`, so that such an end is found
    /// out before its lies have doubled the window.
    pub(super) fn take_number(&mut self, rng: &mut Rng, window_packets: u64) -> u64 {
        let pn = self.next;
        self.next += 1;
        if let Some(left) = self.until_skip.checked_sub(1) {
            self.until_skip = left;
        } else {
            if self.skipped.len() >= SKIPPED_KEPT {
                self.skipped.pop_front();
            }
            self.skipped.push_back(self.next);
            self.next += 1;
            self.until_skip = SKIP_AFTER + rng.below(window_packets);
        }
        pn
    }

    /// What packets carry from now on is added behind the others; [`Self::sent`] says which packet it belongs to.
    pub(super) fn carry(&mut self, what: Carried) {
        self.carried.push_back(what);
    }

    pub(super) fn mark(&self) -> u64 {
        self.carried_base + self.carried.len() as u64
    }

    /// Enters a packet that asks for an acknowledgement and carried everything since `mark`.
    pub(super) fn sent(&mut self, packet: Packet, mark: u64) {
        let Packet { pn, at, bytes, stamp, marked, alone } = packet;
        self.ring.push_back(Sent { pn, at, bytes, carried: mark, stamp, marked, alone, state: State::Flying, run: 0 });
        self.in_flight += bytes;
        self.unsettled += 1;
    }

    /// Forgets what was carried since `mark`: it was a packet that nobody will acknowledge.
    pub(super) fn forget_since(&mut self, mark: u64) {
        let keep = mark.saturating_sub(self.carried_base) as usize;
        self.carried.truncate(keep);
    }

    /// Checks an acknowledgement against what was sent: an optimistic one names a number that never was.
    pub(super) fn check(&self, ack: &Ack<'_>) -> Result<(), Violation> {
        if ack.largest >= self.next {
            return Err(Violation::AckOfUnsent);
        }
        // Both sides descend, so that this is one pass over ranges and skipped numbers together.
        let mut skipped = self.skipped.iter().rev().peekable();
        for (start, end) in ack.ranges() {
            while skipped.next_if(|&&s| s > end).is_some() {}
            if skipped.peek().is_some_and(|&&s| s >= start) {
                return Err(Violation::AckOfUnsent);
            }
        }
        Ok(())
    }

    /// Settles what `ack` newly acknowledges; `ack` has been checked. Tells of each packet and of what it carried.
    pub(super) fn on_ack(&mut self, ack: &Ack<'_>, mut packet: impl FnMut(Packet), mut carried: impl FnMut(Carried)) {
        self.largest_acked = self.largest_acked.max(Some(ack.largest));
        for (start, end) in ack.ranges() {
            let mut at = self.ring.partition_point(|s| s.pn < start);
            if at == 0 && self.ring.front().is_none_or(|s| s.pn > end) {
                // This range and all below it are older than anything that waits.
                break;
            }
            // An acknowledgement tells again what the ones before it told: runs of that are passed in one step, and grow
            // into one, so that the work is that of what is new.
            let first = at;
            while let Some(sent) = self.ring.get(at).filter(|s| s.pn <= end) {
                let step = sent.run.max(1) as usize;
                if let Some(settled) = self.settle(at, &mut carried) {
                    packet(settled);
                }
                at += step;
            }
            if let Some(start) = self.ring.get_mut(first).filter(|_| at > first) {
                start.run = u32::try_from(at - first).unwrap_or(u32::MAX);
            }
        }
        self.trim();
    }

    /// Settles the packets that count as lost: `reordering` numbers or `delay` older than what was acknowledged
    /// (RFC 9002 §6.1). Says when the next one will count as lost by time.
    pub(super) fn detect_lost(
        &mut self,
        now: Instant,
        reordering: u64,
        delay: Duration,
        mut packet: impl FnMut(Lost),
        mut carried: impl FnMut(Carried),
    ) -> Option<Instant> {
        let largest = self.largest_acked?;
        let mut next = None;
        let mut gap = true;
        for at in 0..self.ring.len() {
            let Some(sent) = self.ring.get(at) else { break };
            if sent.pn >= largest {
                break;
            }
            if sent.state == State::Settled {
                gap = true;
                continue;
            }
            let due = sent.at + delay;
            if sent.pn + reordering > largest && due > now {
                next = Some(due);
                break;
            }
            if let Some(settled) = self.settle(at, &mut carried) {
                packet(Lost { packet: settled, follows_acked: gap });
                gap = false;
            }
        }
        self.trim();
        next
    }

    /// Gives up on everything that waits, without calling it lost by the network: the frames go another way.
    pub(super) fn abandon(&mut self, mut carried: impl FnMut(Carried)) {
        for at in 0..self.ring.len() {
            self.settle(at, &mut carried);
        }
        self.trim();
    }

    /// What packets that wait carried, the oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Carried> {
        let waiting = self.ring.iter().enumerate().filter(|(_, s)| s.state != State::Settled);
        waiting.flat_map(|(at, _)| self.carried_by(at))
    }

    /// The same, until `packets` of them carried something that is `wanted`.
    pub(super) fn oldest(&self, packets: usize, mut wanted: impl FnMut(Carried) -> bool) {
        let waiting = self.ring.iter().enumerate().filter(|(_, s)| s.state != State::Settled);
        let with = waiting.filter(|(at, _)| self.carried_by(*at).filter(|what| wanted(*what)).count() > 0);
        with.take(packets).for_each(drop);
    }

    /// Takes the oldest packets out of the count until at most `limit` bytes are in flight: what is probed for after
    /// a timeout has most likely left the network, and probes must not add up.
    pub(super) fn presume_until(&mut self, limit: u64) {
        for sent in &mut self.ring {
            if self.in_flight <= limit {
                return;
            }
            if sent.state == State::Flying {
                sent.state = State::Presumed;
                self.in_flight = self.in_flight.saturating_sub(sent.bytes);
            }
        }
    }

    /// Makes room by giving up on the packet that waited longest.
    pub(super) fn drop_oldest(&mut self, mut carried: impl FnMut(Carried)) {
        self.settle(0, &mut carried);
        self.trim();
    }

    fn carried_by(&self, at: usize) -> impl Iterator<Item = Carried> {
        let start = self.ring.get(at).map_or(self.carried_base, |s| s.carried);
        let end = self.ring.get(at + 1).map_or(self.mark(), |s| s.carried);
        let from = start.saturating_sub(self.carried_base) as usize;
        let to = (end.saturating_sub(self.carried_base) as usize).min(self.carried.len());
        self.carried.range(from.min(to)..to).copied()
    }

    fn settle(&mut self, at: usize, carried: &mut impl FnMut(Carried)) -> Option<Packet> {
        let sent = self.ring.get_mut(at).filter(|s| s.state != State::Settled)?;
        if sent.state == State::Flying {
            self.in_flight = self.in_flight.saturating_sub(sent.bytes);
        }
        sent.state = State::Settled;
        self.unsettled = self.unsettled.saturating_sub(1);
        let Sent { pn, at: left, bytes, stamp, marked, alone, .. } = *sent;
        let settled = Packet { pn, at: left, bytes, stamp, marked, alone };
        self.carried_by(at).for_each(carried);
        Some(settled)
    }

    fn trim(&mut self) {
        while self.ring.front().is_some_and(|s| s.state == State::Settled) {
            self.ring.pop_front();
        }
        let base = self.ring.front().map_or(self.mark(), |s| s.carried);
        self.carried.drain(..(base.saturating_sub(self.carried_base) as usize).min(self.carried.len()));
        self.carried_base = base;
    }
}

/// A packet that counts as lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) packet: Packet,
    /// Something between it and the one lost before it was acknowledged, or it is the first.
    pub(super) follows_acked: bool,
}

/// What decides when an acknowledgement is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckPace {
    /// The longest wait.
    pub(super) delay: Duration,
    /// The path's round trip, as far as this end knows it.
    pub(super) round_trip: Duration,
}

/// What arrived on a path.
#[derive(Debug, Default)]
pub(super) struct Received {
    numbers: Ranges,
    largest_at: Instant,
    /// Packets that asked for an acknowledgement and have none yet.
    unacked: u32,
    due: Option<Instant>,
    at_once: bool,
    thinning: Thinning,
    /// Something arrived since an acknowledgement of this path last went by way of the main path.
    pub(super) news_for_main: bool,
    ecn: EcnCounts,
}

impl Received {
    /// Enters a packet. Says nothing about numbers that were seen before: the link rejects replays.
    pub(super) fn on_packet(&mut self, now: Instant, pn: u64, eliciting: bool, ecn: Ecn, pace: AckPace) {
        let in_order = self.numbers.largest().map_or(0, |n| n.saturating_add(1)) == pn;
        if self.numbers.largest().is_none_or(|largest| pn > largest) {
            self.largest_at = now;
        }
        self.numbers.insert(pn, pn.saturating_add(1));
        if self.numbers.len() > RANGES_KEPT {
            self.numbers.pop_first();
        }
        match ecn {
            Ecn::NotCapable => {}
            Ecn::Ect0 => self.ecn.ect0 = self.ecn.ect0.saturating_add(1),
            Ecn::Ect1 => self.ecn.ect1 = self.ecn.ect1.saturating_add(1),
            Ecn::Ce => self.ecn.ce = self.ecn.ce.saturating_add(1),
        }
        if eliciting {
            self.unacked = self.unacked.saturating_add(1);
            self.news_for_main = true;
            // RFC 9000 §13.2.1: out of order, or behind a gap, or marked: at once.
            let enough = self.thinning.on_packet(now, pace.round_trip);
            self.at_once |= !in_order || ecn == Ecn::Ce || self.unacked >= enough;
            self.due = self.due.or(Some(now + pace.delay));
        }
    }

    /// When an acknowledgement is due; in the past if at once.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.at_once { Some(Instant::ZERO) } else { self.due }
    }

    /// Whether an acknowledgement has something new to say to a peer that asked.
    pub(super) fn has_news(&self) -> bool {
        self.unacked > 0
    }

    pub(super) fn on_ack_written(&mut self) {
        self.unacked = 0;
        self.due = None;
        self.at_once = false;
    }

    /// An acknowledgement up to `largest` arrived at the peer: what is below need not be told again (RFC 9000 §13.2.4).
    /// The number itself stays, so that the next packet is known to be in order.
    pub(super) fn on_ack_arrived(&mut self, largest: u64) {
        self.numbers.remove(0, largest);
    }

    pub(super) fn numbers(&self) -> &Ranges {
        &self.numbers
    }

    /// Time since the largest arrived, µs.
    pub(super) fn delay(&self, now: Instant) -> u64 {
        u64::try_from(now.since(self.largest_at).as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn ecn(&self) -> Option<EcnCounts> {
        (self.ecn != EcnCounts::default()).then_some(self.ecn)
    }
}
