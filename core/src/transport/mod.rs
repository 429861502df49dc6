//! Reliable UDP: number spaces, acknowledgements, loss recovery, congestion control, pacing, channels.
//!
//! One [`Transport`] is one end of a link. It knows neither keys nor addresses: it is given the frames that arrived and
//! writes the frames to send. Messages live in scopes above the paths; packets, round trips and windows belong to a path.
//!
//! ```text
//! send → scope's queue → pieces → packet on the path that carries data (copies on the other) → …
//! … → frames → ACK: what packets carried is settled | MESSAGE: pieces → message → gate → ready
//! ```
//!
//! - [`MAIN`] is there for the link's whole life. [`DIRECT`] is opened when it has been validated, and preferred. For one
//!   round trip after that everything reliable goes on both.
//! - A probe timeout on the direct path also repeats the oldest pieces on the main path. The second in a row makes it
//!   [`PathEvent::Suspect`]: data moves to the main path at once, probes stay. A packet of it newly acknowledged makes it
//!   [`PathEvent::Recovered`], repeated failure [`PathEvent::Dead`]. Neither touches a path's round trip or window.
//! - Pieces may travel any number of times on any path: sender and receiver keep, a message, which bytes are settled.
//!
//! Any method may be called late, often, and in any order. After each call, [`Transport::take_ready`],
//! [`Transport::poll_path_event`] and [`Transport::writable`] tell what it brought about.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod base;
mod channels;
mod clock;
mod congestion;
mod ecn;
mod flow;
mod leg;
mod loss;
mod mtu;
mod pacer;
mod path;
mod probes;
mod ranges;
mod rate;
mod redundancy;
mod reordering;
mod rtt;
mod scheduler;
mod space;
mod stats;
mod thinning;

pub(crate) use crate::wire::frames::Scope;
pub(crate) use probes::PROBE;
pub use stats::{Memory, Overflow, PathStats, Usage};

use crate::command::SendOptions;
use crate::config::Congestion;
use crate::entropy::Rng;
use crate::ids::{Channel, GroupId};
use crate::leg::Leg;
use crate::machine::Ecn;
use crate::time::{Duration, Instant};
use crate::wire::buf::Malformed;
use crate::wire::frames::{self, Frame, FrameError, Frames};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use channels::{Incoming, Outgoing};
use clock::Clock;
use congestion::Controller;
use leg::LegNews;
use path::{Health, Path};
use space::{AckPace, Received};
use thiserror::Error;

/// Names a path of a link.
pub(crate) type PathId = u8;
/// The path of the link's whole life: to the server, or to a peer by way of the server's relay.
pub(crate) const MAIN: PathId = 0;
/// The direct path between peers.
pub(crate) const DIRECT: PathId = 1;

/// Paths in use of the four that the wire reserves.
const PATHS: usize = 2;

/// A link on which no message went for so long gives spare memory back; a game sends many in that time, and must not pay
/// for new memory each time.
const RELEASE_AFTER: Duration = Duration::from_secs(2);

/// Bytes of spare buffers from which on an idle link gives them back: what an idle link may take in all.
const WORTH_RELEASING: usize = 4 << 10;

/// Path events that wait to be polled; the oldest go first, as the later ones supersede them.
const MAX_EVENTS: usize = 16;

/// Limits of a transport.
#[derive(Clone, Debug)]
pub(crate) struct TransportConfig {
    /// Largest reliable message that this end sends and takes, bytes; it takes 64 KiB in any case. The other end is told.
    pub(crate) max_message: usize,
    /// Largest unreliable message, bytes: some 15 packets, since one lost packet loses it. Both ends must agree.
    pub(crate) max_unreliable: usize,
    /// Reliable messages queued or unacknowledged in a scope: their bytes and 64 more each; on a link a quarter more.
    /// Control messages have 1 MiB apart.
    pub(crate) send_buffer: usize,
    /// Reliable messages of a scope that the application has not taken: their bytes and 64 more each; on a link a quarter
    /// more. At least 256 KiB, and twice the largest message; the window begins with that and grows to this.
    pub(crate) receive_credit: u64,
    /// Unreliable messages queued, in each direction; the oldest are dropped and counted.
    pub(crate) unreliable_messages: usize,
    /// Their bytes.
    pub(crate) unreliable_bytes: usize,
    /// Longest wait before an acknowledgement. Both ends must agree: it is part of the probe timeout.
    pub(crate) ack_delay: Duration,
    /// Congestion control of every path.
    pub(crate) congestion: Congestion,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            max_message: 64 << 10,
            max_unreliable: 16 << 10,
            send_buffer: 256 << 10,
            receive_credit: 256 << 10,
            unreliable_messages: 256,
            unreliable_bytes: 128 << 10,
            ack_delay: Duration::from_millis(5),
            congestion: Congestion::default(),
        }
    }
}

impl TransportConfig {
    /// Most messages that can be ready for the application at a time.
    pub(crate) fn most_ready(&self) -> usize {
        let largest = flow::cost((self.max_message as u64).max(flow::LEAST_MAX_MESSAGE));
        let most = flow::of_link(self.receive_credit.max(largest.saturating_mul(2))).max(flow::INITIAL_CREDIT);
        let reliable = most / flow::MESSAGE_OVERHEAD;
        usize::try_from(reliable).unwrap_or(usize::MAX).saturating_add(self.unreliable_messages)
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum TransportSendError {
    /// No room; [`Transport::writable`] tells when there is.
    #[error("no room for another reliable message")]
    Full,
    /// Larger than may be sent on that channel.
    #[error("larger than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// A deadline for what was promised to arrive.
    #[error("a reliable message has no deadline")]
    ReliableDeadline,
    /// More scopes than a link may have.
    #[error("too many scopes")]
    TooManyScopes,
    /// Not the next sequence number of a reliable scope.
    #[error("not the next sequence number of its scope")]
    Sequence,
}

/// The peer broke the protocol. The link is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum Violation {
    /// A frame is not what it claims to be.
    #[error("frame malformed: {0}")]
    Malformed(Malformed),
    /// A frame of a type that nobody defined.
    #[error("frame of unknown type {0:#04x}")]
    UnknownFrame(u8),
    /// Acknowledges a packet that was never sent.
    #[error("acknowledgement of a packet that was not sent")]
    AckOfUnsent,
    /// Names a path that does not exist.
    #[error("unknown path")]
    UnknownPath,
    /// A message in a scope that was never named.
    #[error("message in an unknown scope")]
    UnknownScope,
    /// A scope is not what it was.
    #[error("scope changed")]
    ScopeChanged,
    /// More scopes than a link may have.
    #[error("too many scopes")]
    TooManyScopes,
    /// More than the credit granted.
    #[error("more than the credit granted")]
    Credit,
    /// More control messages than may wait.
    #[error("too many control messages")]
    Control,
    /// A message from before its scope's start.
    #[error("message before its scope's start")]
    Sequence,
    /// Fragments disagree about their message's length.
    #[error("fragments disagree")]
    Fragment,
    /// A message larger than agreed.
    #[error("message too large")]
    TooLarge,
    /// A key share of low order, a changed one, or one where there is nothing to share.
    #[error("unusable key share")]
    KeyShare,
}

impl From<FrameError> for Violation {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Malformed(why) => Self::Malformed(why),
            FrameError::Unknown(kind) => Self::UnknownFrame(kind),
        }
    }
}

/// A frame that the link acts on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkFrame {
    Challenge(u64),
    Response(u64),
    KeyShare([u8; 32]),
    Close(u8),
    Observe(frames::Observe),
    Knock(u8),
    AskTime(u32),
    /// What the other end's clock showed after the first and before the packet arrived, nanoseconds.
    Time {
        asked: Instant,
        clock: u64,
    },
    Leg(Leg),
}

/// What [`Transport::build`] made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Built {
    pub(crate) pn: u64,
    pub(crate) ack_eliciting: bool,
    /// How it is to be marked.
    pub(crate) ecn: Ecn,
}

/// A message for the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Delivery {
    pub(crate) scope: Scope,
    /// The packet that completed it came on the direct path.
    pub(crate) direct: bool,
}

/// Something happened to a path's send direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PathEvent {
    /// Data goes another way for now.
    Suspect(PathId),
    /// It carries data again.
    Recovered(PathId),
    /// It is closed.
    Dead(PathId),
}

#[derive(Debug, Default)]
struct KeyShare {
    share: [u8; 32],
    pending: bool,
    acked: bool,
}

/// One end of a link above packets' keys and addresses. See the module's text.
pub(crate) struct Transport {
    config: TransportConfig,
    /// The latest time that any call brought.
    clock: Instant,
    paths: [Path; PATHS],
    received: [Received; PATHS],
    out: Outgoing,
    incoming: Incoming,
    key: KeyShare,
    clocks: Clock,
    leg: LegNews,
    events: VecDeque<PathEvent>,
    /// When a message last went in or out, unless spare memory was given back since.
    busy_at: Option<Instant>,
    /// Until when what goes on the direct path is copied to the main path.
    mirror_until: Instant,
    avoid_direct: bool,
    /// Whether datagrams of one length leave in batches.
    batches: bool,
    direct_only: bool,
    rng: Rng,
}

impl Transport {
    /// `initial_rtt`: a guess for the main path until there is a sample; `payload_main`: most bytes of frames in one of
    /// its packets.
    pub(crate) fn new(
        now: Instant,
        config: &TransportConfig,
        mut rng: Rng,
        initial_rtt: Duration,
        payload_main: usize,
    ) -> Self {
        let main = Path::new(now, Health::Open, &mut rng, initial_rtt, payload_main, config.congestion);
        let direct = Path::new(now, Health::Closed, &mut rng, initial_rtt, payload_main, config.congestion);
        Self {
            config: config.clone(),
            clock: now,
            paths: [main, direct],
            received: Default::default(),
            out: Outgoing::new(config),
            incoming: Incoming::new(config),
            key: KeyShare::default(),
            clocks: Clock::default(),
            leg: LegNews::default(),
            events: VecDeque::new(),
            busy_at: None,
            mirror_until: Instant::ZERO,
            avoid_direct: false,
            batches: false,
            direct_only: false,
            rng,
        }
    }

    // The application's side

    /// Bytes of one more reliable message that may be queued; control messages apart.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.out.room().saturating_sub(self.config.send_buffer / 4)
    }

    /// Whether a message of that length would be taken in this scope now. If not for want of room, [`Self::writable`]
    /// tells when.
    pub(crate) fn check_room(&mut self, scope: Scope, len: usize) -> Result<(), TransportSendError> {
        self.out.check_room(scope, len)
    }

    /// Queues a message whose number the caller gives: of a group's scope, where all receivers share the numbers. In a
    /// reliable scope the first number is its start and the others follow without a gap. Without one, it gets the next.
    /// Says how many older unreliable messages made way for it.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        scope: Scope,
        seq: Option<u64>,
        bytes: &[u8],
        options: &SendOptions,
    ) -> Result<u64, TransportSendError> {
        self.advance(now);
        self.busy_at = Some(self.clock);
        let options = self.for_stream(scope, options);
        let displaced = self.out.send(self.clock, scope, seq, bytes, &options)?;
        Ok(displaced + self.drop_unrelayed())
    }

    /// Drops what may only go directly while it cannot.
    fn drop_unrelayed(&mut self) -> u64 {
        let dropped = if self.direct_only && self.data_path() == MAIN { self.out.drop_unreliable() } else { 0 };
        self.out.dropped.unrelayed += dropped;
        dropped
    }

    /// Queues the next message of a scope in the ordinary way.
    pub(crate) fn send_next(&mut self, now: Instant, scope: Scope, bytes: &[u8]) -> Result<(), TransportSendError> {
        self.send(now, scope, None, bytes, &SendOptions::default()).map(|_| ())
    }

    /// Whether every reliable message that was queued has been acknowledged.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// A channel on which a message was refused as full and would be taken now; once each.
    pub(crate) fn writable(&mut self) -> Option<Channel> {
        self.out.writable()
    }

    /// A channel on which a message was refused as full, for a link that is over; once each.
    pub(crate) fn waited_for(&mut self) -> Option<Channel> {
        self.out.waited_for()
    }

    /// The longest unreliable message that goes in one packet on the path that carries data now.
    pub(crate) fn max_unreliable_len(&self) -> usize {
        let payload = self.path(self.data_path()).map_or(0, |path| path.payload);
        payload.saturating_sub(channels::LOOSE_OVERHEAD).min(self.config.max_unreliable)
    }

    /// Whether the direct path carries no data though it is healthy: the other way is faster.
    pub(crate) fn avoid_direct(&mut self, avoid: bool) {
        self.avoid_direct = avoid;
    }

    /// Whether unreliable messages are dropped while the main path carries data.
    pub(crate) fn set_direct_only(&mut self, only: bool) {
        self.direct_only = only;
    }

    /// Adds what messages take on this link.
    pub(crate) fn add_memory(&self, memory: &mut Memory) {
        memory.sending.add(self.out.usage());
        memory.receiving.add(self.incoming.usage());
        memory.control.add(self.out.control_usage());
        memory.control.add(self.incoming.control_usage());
        memory.spare.add(self.out.spare());
        memory.spare.add(self.incoming.spare());
        memory.links += 1;
    }

    /// Opens the gate before messages sent to this end as a peer.
    pub(crate) fn open_peer(&mut self) {
        self.incoming.open_peer();
    }

    /// Opens the gate before a group's messages of that epoch. Those of earlier epochs are dropped from now on, those of
    /// later ones held.
    pub(crate) fn open_group(&mut self, group: GroupId, epoch: u64) {
        self.incoming.open_group(group, epoch);
    }

    /// Ends a group on this link, its stay of that epoch and all before: no message of them is handed on any more, not
    /// even what [`Self::take_ready`] counted, and what was to be sent is dropped.
    pub(crate) fn close_group(&mut self, group: GroupId, epoch: u64) {
        self.incoming.close_group(group, epoch);
        self.out.close_group(group);
        self.settle();
    }

    /// The next message, in the order in which they became ready. Its bytes replace `payload`'s.
    pub(crate) fn next_message(&mut self, now: Instant, payload: &mut Vec<u8>) -> Option<Delivery> {
        self.advance(now);
        let delivery = self.incoming.next_message(payload)?;
        self.busy_at = Some(self.clock);
        // What is credited goes by the path that carries data, the messages perhaps by the other: the slower counts.
        let round_trip = self.paths.iter().filter(|path| path.is_in_use()).map(|path| path.rtt.smoothed()).max();
        self.incoming.tune(self.clock, round_trip.unwrap_or_default());
        Some(delivery)
    }

    /// The next control message, in order; these never stand behind what the application has not taken. Its bytes replace
    /// `payload`'s.
    pub(crate) fn next_control(&mut self, payload: &mut Vec<u8>) -> bool {
        self.incoming.next_control(payload)
    }

    /// How many messages became ready since this was last asked. An upper bound of what [`Self::next_message`] gives:
    /// unreliable ones may be superseded, and a group's end takes its messages away.
    pub(crate) fn take_ready(&mut self) -> usize {
        self.incoming.take_ready()
    }

    // Packets

    /// The number of the next packet on a path.
    pub(crate) fn next_number(&self, path: PathId) -> u64 {
        self.path(path).map_or(0, |p| p.sent.next_number())
    }

    pub(crate) fn largest_acked(&self, path: PathId) -> Option<u64> {
        self.path(path)?.sent.largest_acked()
    }

    /// Takes in the frames of a packet that was opened; the caller has rejected replays. Frames that are the link's
    /// business go to `take`, in order.
    pub(crate) fn received(
        &mut self,
        now: Instant,
        path: PathId,
        pn: u64,
        ecn: Ecn,
        body: &[u8],
        take: &mut dyn FnMut(LinkFrame),
    ) -> Result<(), Violation> {
        self.advance(now);
        let done = self.take_frames(now, path, pn, ecn, body, take);
        // Also after a violation: what the frames before it settled must not stand in any queue.
        self.settle();
        done
    }

    fn take_frames(
        &mut self,
        now: Instant,
        path: PathId,
        pn: u64,
        ecn: Ecn,
        body: &[u8],
        take: &mut dyn FnMut(LinkFrame),
    ) -> Result<(), Violation> {
        let place = usize::from(path);
        self.paths.get_mut(place).ok_or(Violation::UnknownPath)?.last_received = Some(now);
        let mut eliciting = false;
        for frame in Frames::new(body) {
            let frame = frame?;
            eliciting |= frame.is_ack_eliciting();
            match frame {
                Frame::Ping => {}
                Frame::Ack(ack) => {
                    // Buffers may come back long after their messages went out.
                    self.busy_at = self.busy_at.or(Some(self.clock));
                    self.on_ack(now, path, &ack)?;
                }
                Frame::Scope(scope) => self.incoming.on_scope(&scope)?,
                Frame::ScopeEnd { id, charged } => self.incoming.on_scope_end(id, charged)?,
                Frame::Skip { scope, seq, total } => self.incoming.on_skip(scope, seq, total)?,
                Frame::Message(message) => {
                    self.busy_at = Some(self.clock);
                    self.incoming.on_message(path, &message)?;
                }
                Frame::Credit(limit) => self.out.on_credit(limit),
                Frame::ScopeCredit { scope, limit } => self.out.on_scope_credit(scope, limit),
                Frame::MaxMessage(bytes) => self.out.on_max_message(bytes),
                Frame::Challenge(token) => take(LinkFrame::Challenge(token)),
                Frame::Response(token) => take(LinkFrame::Response(token)),
                Frame::KeyShare(share) => take(LinkFrame::KeyShare(share)),
                Frame::Close(reason) => take(LinkFrame::Close(reason)),
                Frame::Observe(observe) => take(LinkFrame::Observe(observe)),
                Frame::Knock(door) => take(LinkFrame::Knock(door)),
                Frame::AskTime(number) => take(LinkFrame::AskTime(number)),
                Frame::Time { number, clock } => {
                    if let Some(asked) = self.on_time(number) {
                        take(LinkFrame::Time { asked, clock });
                    }
                }
                Frame::Leg(leg) => take(LinkFrame::Leg(leg)),
            }
        }
        if eliciting {
            self.out.on_word();
        }
        let round_trip = self.paths.get(place).map_or(Duration::ZERO, |path| path.rtt.smoothed());
        if path == MAIN && self.paths[0].on_word() {
            self.probe_with_oldest();
        }
        if let Some(received) = self.received.get_mut(place) {
            received.on_packet(now, pn, eliciting, ecn, AckPace { delay: self.config.ack_delay, round_trip });
        }
        Ok(())
    }

    /// Sends this end's key share, again until it is acknowledged.
    pub(crate) fn queue_key_share(&mut self, share: [u8; 32]) {
        self.key = KeyShare { share, pending: true, acked: false };
    }

    pub(crate) fn key_share_acked(&self) -> bool {
        self.key.acked
    }

    /// Puts the control messages that are not acknowledged into a packet on the main path at once, whatever the window
    /// says, beside ordinary loss recovery.
    pub(crate) fn resend_control(&mut self, now: Instant) {
        self.advance(now);
        let [main, _] = &mut self.paths;
        for piece in self.out.open_control() {
            main.copy(piece);
            main.probes = main.probes.max(1);
        }
    }

    /// What waits for word on the main path is asked about now, not when a timeout that has backed off ends.
    pub(crate) fn nudge(&mut self) {
        if self.timeouts() > 0 {
            self.probe_with_oldest();
        }
    }

    /// This end stood still until now. Answers to what was sent before may have waited here and say nothing of round trips;
    /// each path that is waited on is asked about at once.
    pub(crate) fn on_resume(&mut self, now: Instant) {
        self.advance(now);
        self.forget_question();
        for path in self.paths.iter_mut().filter(|path| path.is_in_use()) {
            path.samples_from = now;
            path.probes = path.probes.max(1);
        }
    }

    /// Drops the unreliable messages that are queued: nobody is there to get them in time.
    pub(crate) fn drop_unreliable(&mut self) {
        self.out.dropped.expired += self.out.drop_unreliable();
    }

    /// Lets timers that have gone off do their work.
    pub(crate) fn on_wake(&mut self, now: Instant) {
        self.advance(now);
        for id in [DIRECT, MAIN] {
            let timer = self.path(id).and_then(|path| path.timer(self.config.ack_delay));
            if timer.is_some_and(|at| at <= now) {
                self.on_timer(now, id);
            }
        }
        if self.release_at().is_some_and(|at| at <= self.clock) {
            self.out.release_spare();
            self.incoming.release_spare();
            self.busy_at = None;
        }
        self.settle();
    }

    // Paths

    /// The direct path has been validated, or a path leads to a new address: round trip and window start over, numbers go
    /// on. Until its first acknowledgement, and for one round trip at most, new reliable messages go on both paths.
    pub(crate) fn open_path(&mut self, now: Instant, path: PathId, initial_rtt: Duration, payload: usize) {
        self.advance(now);
        let Some((opened, mut fates)) = self.path_and_fates(path) else { return };
        opened.open(now, initial_rtt, payload, |what| fates.lost(what));
        if path == DIRECT {
            let longest = self.paths.iter().map(|p| p.rtt.smoothed()).max();
            self.mirror_until = now + longest.unwrap_or_default();
        }
        self.settle();
    }

    /// Lets an open path look for datagrams of up to `ceiling` bytes: see [`mtu`].
    pub(crate) fn allow_datagrams(&mut self, path: PathId, ceiling: usize) {
        if let Some(path) = self.paths.get_mut(usize::from(path)) {
            path.mtu.allow(ceiling);
        }
    }

    /// Datagrams of this size were found to pass where the path leads, when it led there before.
    pub(crate) fn inherit_datagrams(&mut self, path: PathId, size: usize) {
        if let Some(path) = self.paths.get_mut(usize::from(path)) {
            path.mtu.inherit(size);
            path.resize();
        }
    }

    /// The system refused a datagram of `size` bytes on this path as too large.
    pub(crate) fn on_too_big(&mut self, now: Instant, path: PathId, size: usize) {
        self.advance(now);
        if let Some(path) = self.paths.get_mut(usize::from(path)) {
            path.mtu.on_too_big(now, size);
            path.resize();
        }
    }

    /// Bytes of the datagram that the next packet of a path may fill: what [`Self::build`] needs to be lent.
    pub(crate) fn datagram(&self, now: Instant, path: PathId) -> usize {
        self.path(path).map_or(0, |path| self.probe_size(now, path).unwrap_or(0).max(path.datagram() as usize))
    }

    /// Stops sending on the direct path. What is not acknowledged goes on the main path at once. The main path stays.
    pub(crate) fn close_path(&mut self, now: Instant, path: PathId) {
        self.advance(now);
        if path == MAIN {
            return;
        }
        if let Some((closed, mut fates)) = self.path_and_fates(path) {
            closed.close(|what| fates.lost(what));
        }
        self.settle();
    }

    pub(crate) fn poll_path_event(&mut self) -> Option<PathEvent> {
        self.events.pop_front()
    }

    /// Sends a PING when nothing that asks for an acknowledgement was sent on a path for so long. `None`: never.
    pub(crate) fn set_keepalive(&mut self, path: PathId, interval: Option<Duration>) {
        if let Some(path) = self.paths.get_mut(usize::from(path)) {
            path.keepalive = interval;
        }
    }

    /// Whether the system takes several datagrams of one length at once, which makes it worth filling up packets.
    pub(crate) fn set_batches(&mut self, batches: bool) {
        self.batches = batches;
    }

    /// Smoothed round trip, once there is a sample.
    pub(crate) fn rtt(&self, path: PathId) -> Option<Duration> {
        let path = self.path(path)?;
        path.rtt.is_sampled().then(|| path.rtt.smoothed())
    }

    /// Round trip as it was of late, once there is a sample: what ways are compared by.
    pub(crate) fn recent_rtt(&self, path: PathId) -> Option<Duration> {
        self.path(path)?.recent.get()
    }

    /// The probe timeout without backoff.
    pub(crate) fn pto(&self, path: PathId) -> Duration {
        self.path(path).map_or(rtt::MAX_PTO_BACKOFF, |path| path.rtt.pto(self.config.ack_delay))
    }

    /// When the path was last opened.
    pub(crate) fn opened(&self, path: PathId) -> Instant {
        self.path(path).map_or(Instant::ZERO, |path| path.opened)
    }

    /// When a packet sent on the path was last acknowledged.
    pub(crate) fn last_acked(&self, path: PathId) -> Option<Instant> {
        self.path(path)?.last_acked
    }

    /// Tests the path with a packet now, if it is in use.
    pub(crate) fn probe(&mut self, path: PathId) {
        if let Some(path) = self.paths.get_mut(usize::from(path)).filter(|path| path.is_in_use()) {
            path.probes = path.probes.max(1);
        }
    }

    /// When a packet last arrived on the path.
    #[cfg(test)]
    pub(crate) fn last_received(&self, path: PathId) -> Option<Instant> {
        self.path(path)?.last_received
    }

    pub(crate) fn path_stats(&self, path: PathId) -> PathStats {
        self.path(path).map_or(PathStats::default(), |path| PathStats {
            packets_sent: path.packets_sent,
            packets_lost: path.packets_lost,
            bytes_sent: path.bytes_sent,
            bytes_repeated: path.bytes_repeated,
            in_flight: path.sent.in_flight(),
            window: path.congestion.window(),
            delivery_rate: path.rate.estimate(),
            pacing_rate: path.congestion.pacing_rate(path.rtt.smoothed()),
            rtt: path.rtt.smoothed(),
            min_rtt: path.rtt.min(),
            datagram: path.mtu.current() as u64,
        })
    }

    pub(crate) fn overflow(&self) -> Overflow {
        let (out, incoming) = (&self.out.dropped, &self.incoming);
        Overflow {
            sending: out.overflowed,
            receiving: incoming.overflowed,
            expired: out.expired,
            superseded: out.superseded,
            unrelayed: out.unrelayed,
            late: incoming.late,
        }
    }

    /// When spare memory is to be given back, if it is worth it.
    fn release_at(&self) -> Option<Instant> {
        let spare = self.out.spare().used.saturating_add(self.incoming.spare().used);
        self.busy_at.filter(|_| spare > WORTH_RELEASING).map(|at| at + RELEASE_AFTER)
    }

    fn path(&self, id: PathId) -> Option<&Path> {
        self.paths.get(usize::from(id))
    }

    fn advance(&mut self, now: Instant) {
        self.clock = self.clock.max(now);
    }

    fn take_number(&mut self, path: PathId) -> u64 {
        let Self { paths, rng, .. } = self;
        paths.get_mut(usize::from(path)).map_or(0, |path| {
            path.packets_sent += 1;
            let packets = path.congestion.window() / path.datagram();
            path.sent.take_number(rng, packets)
        })
    }

    /// Takes from every queue's head what became settled, so that what stands there is really to be sent.
    fn settle(&mut self) {
        self.drop_unrelayed();
        self.out.settle(self.clock);
        let Self { paths, out, .. } = self;
        for path in paths {
            while path.copies.front().is_some_and(|piece| out.open_part(*piece).is_none()) {
                path.copies.pop_front();
            }
        }
    }

    fn push_event(&mut self, event: PathEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

#[cfg(test)]
mod tests;
