//! One path: its packet numbers, round-trip time, window, pacing, timers and health.
//!
//! Health is that of the send direction alone: a newly acknowledged packet that was sent on this path proves it, a probe
//! timeout casts doubt. What arrives here says nothing about it.

use super::base::{ALONE, Base};
use super::congestion::{Acked, Cause, Chosen, Congested, Controller, DelayGuard, Guarded};
use super::ecn::EcnPath;
use super::mtu::Mtu;
use super::pacer::Pacer;
use super::rate::DeliveryRate;
use super::redundancy::Redundancy;
use super::reordering::Reordering;
use super::rtt::{MAX_PTO_BACKOFF, Recent, Rtt};
use super::space::{Carried, Packet, Piece, SentSpace};
use crate::config::{Algorithm, Congestion};
use crate::entropy::Rng;
use crate::machine::Ecn;
use crate::time::{Duration, Instant};
use crate::wire::frames::EcnCounts;
use alloc::collections::VecDeque;

/// Bytes around the frames of a packet: flags, connection id, packet number, tag. Counted into what is in flight.
pub(super) const PACKET_OVERHEAD: u64 = 29;

/// Smallest packet, bytes of frames: a scope's name and a piece worth sending always fit.
pub(super) const MIN_PAYLOAD: usize = 256;

/// Probes after a timeout: RFC 9002 §6.2.4 allows two.
pub(super) const PROBES: u8 = 2;

/// From so many timeouts in a row on a path counts as gone rather than lossy: up to a quarter of the wait for the next is left
/// out at random, so that thousands who lost their server at one moment do not all ask it at one moment; and a word from the
/// other end is followed up at once.
const SPREAD_AFTER: u32 = 3;
/// On a path with a byte stream in it no probe timeout is shorter: what a fast retransmission of TCP takes on most paths, so that it
/// asks after what is really lost, and not more than a few times in a stall. It doubles so often at most.
const STREAM_PTO: Duration = Duration::from_millis(300);
const STREAM_BACKOFF: u32 = 5;

/// Pieces that may wait to be sent on one path beside what any path may send. More are left to ordinary recovery.
const MAX_COPIES: usize = 256;

/// Whether data may be sent on a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Health {
    /// Not in use.
    Closed,
    /// In use.
    Open,
    /// In use for probes only: two probe timeouts in a row.
    Suspect,
}

/// See the module's text.
pub(super) struct Path {
    pub(super) health: Health,
    /// Number of the first packet since it became suspect.
    pub(super) suspect_from: u64,
    pub(super) sent: SentSpace,
    pub(super) rtt: Rtt,
    pub(super) recent: Recent,
    base: Base,
    pub(super) congestion: Chosen,
    guard: DelayGuard,
    ecn: EcnPath,
    pub(super) rate: DeliveryRate,
    settings: Congestion,
    pub(super) pacer: Pacer,
    pub(super) redundancy: Redundancy,
    pub(super) reordering: Reordering,
    /// Bytes of frames of a full packet.
    pub(super) payload: usize,
    pub(super) mtu: Mtu,
    /// Pieces to be sent on this path whatever other paths do: copies, and what probes carry.
    pub(super) copies: VecDeque<Piece>,
    /// When a packet will count as lost by time.
    pub(super) loss_at: Option<Instant>,
    /// Probe timeouts in a row.
    pub(super) timeouts: u32,
    /// A word that came while timeouts back off had it ask at once; not again before the next timeout.
    nudged: bool,
    /// How much of a backed-off timeout is left out, in 256ths.
    pub(super) haste: u8,
    /// Packets that were sent before say nothing of round trips.
    pub(super) samples_from: Instant,
    /// Nor do packets below this number: somebody on the way stood still, and may have kept them.
    stalled_before: u64,
    /// Packets that are to be sent whatever the window says.
    pub(super) probes: u8,
    /// When a packet that asks for an acknowledgement was last sent, or the path opened.
    pub(super) last_eliciting: Instant,
    pub(super) opened: Instant,
    /// When a probe after a timeout was last sent.
    probed_at: Instant,
    /// When the first round-trip sample was taken; losses before say nothing about persistent congestion.
    pub(super) sampled_at: Option<Instant>,
    /// The last packet with which the window was full.
    pub(super) full_with: Option<u64>,
    pub(super) last_acked: Option<Instant>,
    pub(super) last_received: Option<Instant>,
    pub(super) keepalive: Option<Duration>,
    /// Some of its way is a byte stream: late packets are not lost, and what is sent again is sent again twice.
    stream: bool,
    /// No packet can be taken on it at the moment.
    pub(super) blocked: bool,
    pub(super) packets_sent: u64,
    pub(super) packets_lost: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_repeated: u64,
}

impl Path {
    pub(super) fn new(
        now: Instant,
        health: Health,
        rng: &mut Rng,
        initial_rtt: Duration,
        payload: usize,
        settings: Congestion,
    ) -> Self {
        let payload = payload.max(MIN_PAYLOAD);
        let mut sent = SentSpace::new(rng);
        if health != Health::Closed {
            sent.reserve();
        }
        Self {
            health,
            suspect_from: 0,
            sent,
            rtt: Rtt::new(initial_rtt),
            recent: Recent::default(),
            base: Base::new(now),
            congestion: Chosen::new(&settings, payload as u64 + PACKET_OVERHEAD),
            guard: DelayGuard::new(settings.delay_guard),
            ecn: EcnPath::new(settings.ecn),
            rate: DeliveryRate::new(now),
            settings,
            pacer: Pacer::new(),
            redundancy: Redundancy::new(),
            reordering: Reordering::new(),
            payload,
            mtu: Mtu::new(payload + PACKET_OVERHEAD as usize),
            copies: VecDeque::new(),
            loss_at: None,
            timeouts: 0,
            nudged: false,
            haste: 0,
            samples_from: Instant::ZERO,
            stalled_before: 0,
            probes: 0,
            last_eliciting: now,
            opened: now,
            probed_at: now,
            sampled_at: None,
            full_with: None,
            last_acked: None,
            last_received: None,
            keepalive: None,
            stream: false,
            blocked: false,
            packets_sent: 0,
            packets_lost: 0,
            bytes_sent: 0,
            bytes_repeated: 0,
        }
    }

    /// Begins anew, as towards a new address: estimates and window start over, numbers and keepalive go on. What waited
    /// for word is given up, and told.
    pub(super) fn open(&mut self, now: Instant, initial_rtt: Duration, payload: usize, lost: impl FnMut(Carried)) {
        self.close(lost);
        self.sent.reserve();
        self.health = Health::Open;
        self.payload = payload.max(MIN_PAYLOAD);
        self.mtu = Mtu::new(self.payload + PACKET_OVERHEAD as usize);
        self.rtt = Rtt::new(initial_rtt);
        self.recent = Recent::default();
        self.base = Base::new(now);
        self.congestion = Chosen::new(&self.settings, self.datagram());
        self.guard = DelayGuard::new(self.settings.delay_guard.filter(|_| !self.stream));
        self.ecn = EcnPath::new(self.settings.ecn && !self.stream);
        self.rate = DeliveryRate::new(now);
        self.pacer = Pacer::new();
        self.redundancy = Redundancy::new();
        (self.last_eliciting, self.opened) = (now, now);
        (self.last_acked, self.sampled_at, self.full_with) = (None, None, None);
    }

    /// Stops sending on it. What waited for word is given up, and told.
    pub(super) fn close(&mut self, lost: impl FnMut(Carried)) {
        self.health = Health::Closed;
        self.sent.abandon(lost);
        self.copies.clear();
        self.redundancy.clear();
        self.reordering.clear();
        self.loss_at = None;
        (self.timeouts, self.probes) = (0, 0);
    }

    /// Whether some of its way is a byte stream, from now on.
    pub(super) fn set_stream(&mut self, stream: bool) {
        self.stream = stream;
        // A stall of the stream is no queue that would be shorter if this end gave way.
        self.guard = DelayGuard::new(self.settings.delay_guard.filter(|_| !stream));
        if stream {
            self.ecn = EcnPath::new(false);
            self.redundancy.clear();
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.stream
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.health != Health::Closed
    }

    /// Bytes of a full packet.
    pub(super) fn datagram(&self) -> u64 {
        self.payload as u64 + PACKET_OVERHEAD
    }

    /// Whether the window lets another full packet go.
    pub(super) fn has_window(&self) -> bool {
        let window = self.congestion.window();
        let window = if self.is_draining() { window.min(ALONE * self.datagram()) } else { window };
        self.sent.in_flight() + self.datagram() <= window && !self.sent.is_full()
    }

    /// Whether window and pacing let another full packet go at once after a full one.
    pub(super) fn has_window_for_two(&self, now: Instant) -> bool {
        let (datagram, rate) = (self.datagram(), self.congestion.pacing_rate(self.rtt.smoothed()));
        self.sent.in_flight() + 2 * datagram <= self.congestion.window()
            && !self.is_draining()
            && self.pacer.next_after(now, datagram, datagram, rate) <= now
    }

    /// Whether little may be under way so that the path's least round trip shows. A fixed rate goes by no round trip.
    fn is_draining(&self) -> bool {
        self.base.is_draining() && !matches!(self.settings.algorithm, Algorithm::FixedRate(_))
    }

    /// A round trip was measured, by a packet that was nearly alone under way or was not.
    pub(super) fn on_sample(&mut self, now: Instant, sample: Duration, delay: Duration, alone: bool) {
        self.rtt.sample(sample, delay);
        self.recent.sample(now, sample.saturating_sub(delay));
        if let Some(least) = self.base.on_sample(now, sample, alone, self.rtt.min()) {
            self.rtt.believe(least);
        }
        self.sampled_at = self.sampled_at.or(Some(now));
    }

    /// Takes over what the search for the path's MTU has come to.
    pub(super) fn resize(&mut self) {
        let payload = self.mtu.current() - PACKET_OVERHEAD as usize;
        if payload != self.payload {
            self.payload = payload;
            self.congestion.set_datagram(self.datagram());
        }
    }

    /// Bytes of frames that any packet of this path may have, whatever becomes of larger ones.
    pub(super) fn base_payload(&self) -> usize {
        self.mtu.base() - PACKET_OVERHEAD as usize
    }

    /// Adds a piece to be sent here too.
    pub(super) fn copy(&mut self, piece: Piece) {
        if self.copies.len() < MAX_COPIES && !self.copies.contains(&piece) {
            self.copies.push_back(piece);
        }
    }

    /// When loss detection or a probe timeout is due: RFC 9002 §6.2.1 and appendix A.8. Not while probes wait to be
    /// sent: the timeout has been acted on, and counts again from the probe.
    ///
    /// Apart from the RFC, the timeout runs from the oldest packet that waits, not from the latest: a game that sends
    /// every few milliseconds would put it off until the window is full, and a hole that closed would go unnoticed for
    /// seconds. An acknowledgement of the oldest is due within the same time however much was sent after it.
    pub(super) fn timer(&self, ack_delay: Duration) -> Option<Instant> {
        if self.probes > 0 || !self.is_in_use() || !self.sent.is_waiting() {
            return None;
        }
        let since = self.sent.oldest_at().unwrap_or(self.last_eliciting).max(self.probed_at);
        let wait = self.rtt.backed_off(ack_delay, self.timeouts);
        let least = if self.stream {
            STREAM_PTO.saturating_mul(1 << self.timeouts.min(STREAM_BACKOFF))
        } else {
            Duration::ZERO
        };
        let haste = if self.timeouts >= SPREAD_AFTER { wait / 1024 * u32::from(self.haste) } else { Duration::ZERO };
        self.loss_at.or_else(|| Some(since + (wait - haste).max(least)))
    }

    /// A packet arrived. If timeouts have backed off, what is sent may well arrive again, too: a probe is to find out. One a
    /// timeout, since a way that works in one direction only may bring any number of packets.
    #[must_use]
    pub(super) fn on_word(&mut self) -> bool {
        self.timeouts >= SPREAD_AFTER && !core::mem::replace(&mut self.nudged, true)
    }

    /// A round trip as far as it is believed. What a relay or a peer that stood still had kept all the while is answered in a
    /// burst when it goes on, with round trips as long as that; a timeout made of these would come minutes late. So after
    /// timeouts in a row one is believed, up to the longest timeout, and then only those of packets that were sent since. A
    /// path that has really become so slow is learnt in steps.
    pub(super) fn believe(&mut self, pn: u64, at: Instant, sample: Duration) -> Option<Duration> {
        if pn < self.stalled_before || at < self.samples_from {
            return None;
        }
        if self.timeouts < SPREAD_AFTER {
            return Some(sample);
        }
        self.stalled_before = self.sent.next_number();
        Some(sample.min(MAX_PTO_BACKOFF))
    }

    /// Whether the timeout after this one is spread.
    pub(super) fn backs_off(&self) -> bool {
        self.timeouts.saturating_add(1) >= SPREAD_AFTER
    }

    /// One more timeout in a row; `dice` spreads the next.
    pub(super) fn on_timeout(&mut self, dice: u8) {
        self.timeouts = self.timeouts.saturating_add(1);
        (self.haste, self.nudged) = (dice, false);
    }

    /// When a PING is due. While packets wait for word, the probe timeout keeps the path open and tests it.
    pub(super) fn keepalive_at(&self) -> Option<Instant> {
        if !self.is_in_use() || self.sent.is_waiting() {
            return None;
        }
        self.keepalive.map(|interval| self.last_eliciting + interval)
    }

    /// Settles what counts as lost, and tells congestion control.
    pub(super) fn detect_lost(&mut self, now: Instant, ack_delay: Duration, lost: impl FnMut(Carried)) {
        let Self { sent, rtt, sampled_at, packets_lost, bytes_repeated, redundancy, reordering, .. } = self;
        let mut largest = 0;
        // RFC 9002 §7.6.1: three probe timeouts, acknowledgement delay included.
        let persistent = rtt.pto(ack_delay) * 3;
        let (mut newest, mut packets, mut bytes, mut run, mut collapsed) = (None, 0, 0, None, false);
        let threshold = reordering.packets();
        self.loss_at = sent.detect_lost(
            now,
            threshold,
            rtt.loss_delay() + reordering.extra(rtt.smoothed()),
            |packet| {
                *packets_lost += 1;
                *bytes_repeated += packet.packet.bytes;
                largest = largest.max(packet.packet.bytes);
                redundancy.loss.on_lost();
                reordering.on_lost(packet.packet.pn, packet.packet.at);
                newest = Some(packet.packet.at);
                bytes += packet.packet.bytes;
                packets += 1;
                if sampled_at.is_none_or(|first| packet.packet.at <= first) {
                    return;
                }
                if packet.follows_acked || run.is_none() {
                    run = Some(packet.packet.at);
                }
                collapsed |= run.is_some_and(|start| packet.packet.at.since(start) >= persistent);
            },
            lost,
        );
        if largest > 0 {
            self.mtu.on_lost(now, largest as usize);
            self.resize();
        }
        if let Some(sent) = newest {
            self.congestion.on_congestion(&Congested { now, cause: Cause::Loss, sent, packets, bytes });
        }
        if collapsed {
            // RFC 9002 §5.2: the path may lead elsewhere now.
            self.rtt.forget_min();
            self.congestion.on_persistent_congestion();
        }
    }

    /// An acknowledgement that raised the largest number, to one of a packet sent at `sent`, settled `marked` packets that
    /// went out marked.
    pub(super) fn on_ecn(&mut self, now: Instant, sent: Instant, marked: u64, counts: Option<EcnCounts>) {
        let met = self.ecn.on_ack(marked, counts);
        if met > 0 {
            let bytes = met.saturating_mul(self.datagram());
            self.congestion.on_congestion(&Congested { now, cause: Cause::Marked, sent, packets: met, bytes });
        }
    }

    /// Tells congestion control of what an acknowledgement settled: `bytes`, the latest of them in `newest`; `sample` is
    /// the round trip, if it gave one.
    pub(super) fn on_acked(&mut self, now: Instant, newest: &Packet, bytes: u64, sample: Option<Duration>) {
        let (smoothed_rtt, min_rtt) = (self.rtt.smoothed(), self.rtt.min());
        let (round, rate) = self.rate.finish(min_rtt);
        let guarded = self.guard.on_ack(round, sample, min_rtt);
        let hold = guarded != Guarded::Free;
        let limited = self.full_with.is_some_and(|pn| newest.pn <= pn);
        let (sent, rtt) = (newest.at, sample);
        if guarded == Guarded::GiveWay {
            self.congestion.on_congestion(&Congested { now, cause: Cause::Delayed, sent, packets: 0, bytes: 0 });
        }
        let acked = Acked { now, sent, bytes, limited, hold, round, rtt, smoothed_rtt, min_rtt, rate };
        self.congestion.on_ack(&acked);
    }

    /// The application has nothing more to send on it.
    pub(super) fn on_dry(&mut self) {
        self.rate.on_dry(self.sent.in_flight());
    }

    /// Accounts for a packet that asks for an acknowledgement, of `frames` bytes. Says how it is to be marked.
    pub(super) fn on_eliciting_sent(&mut self, now: Instant, pn: u64, frames: usize, mark: u64) -> Ecn {
        let bytes = frames as u64 + PACKET_OVERHEAD;
        self.bytes_sent += bytes;
        let (window, datagram) = (self.congestion.window(), self.datagram());
        // Only probes get here with a full window. They must not add up beyond what two of them take.
        let beyond = window + u64::from(PROBES) * datagram;
        self.sent.presume_until(beyond.saturating_sub(bytes));
        let stamp = self.rate.on_sent(now, self.sent.in_flight());
        let ecn = self.ecn.mark();
        let alone = self.sent.in_flight() + bytes <= ALONE * datagram;
        let packet = Packet { pn, at: now, bytes, stamp, marked: ecn != Ecn::NotCapable, alone };
        self.sent.sent(packet, mark);
        if self.is_draining() {
            self.on_dry();
        }
        self.pacer.on_sent(now, bytes, datagram, self.congestion.pacing_rate(self.rtt.smoothed()));
        if self.probes > 0 {
            self.probes -= 1;
            self.probed_at = now;
        }
        self.last_eliciting = now;
        if self.sent.in_flight() + datagram > window {
            self.full_with = Some(pn);
        }
        ecn
    }
}
