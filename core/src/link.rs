//! One end of a link: packet protection, Reliable UDP and, between peers, hole punching, put together.
//!
//! Client and server, and client and client, are the same thing here. They differ in where packets on the main path go:
//! straight to an address, or wrapped for the server's relay. A received packet is opened, its frames go to the
//! transport, and those that concern the link itself come back: path challenges and responses to the puncher, key shares to
//! the packet protection, a close to the owner. Nothing in here knows of groups.

mod asking;
mod hold;
mod preference;
mod route;

use crate::command::SendOptions;
use crate::entropy::KeyStream;
use crate::event::RelayReason;
use crate::goodbye::{self, Goodbye};
use crate::ids::SocketId;
use crate::leg::Leg;
use crate::machine::{Ecn, Wake};
use crate::outbox::{Outbox, Transmit, Via};
use crate::path::{Ask, Gate, Moved, Over, Punch, PunchEvent, Roaming, Verdict, Way};
use crate::policy::Prefer;
use crate::presence::Presence;
use crate::secure::{OpenError, PATHS, Protection};
use crate::time::{Duration, Instant};
use crate::transport::{DIRECT, LinkFrame, MAIN, PathEvent, PathId, Scope, Transport, TransportSendError, Violation};
use crate::wire::buf::Writer;
use crate::wire::frames::Observe;
use crate::wire::relay::WRAP_LEN;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use preference::Preference;

pub(crate) use route::{RelayLeg, Route};

/// Bytes of one datagram: the least that IPv6 carries everywhere after headers, as in RFC 9000 §14.
pub(crate) const DATAGRAM: usize = 1200;

/// The largest datagram that is tried on a direct path, by family: an Ethernet frame's 1,500 bytes without the headers of
/// IP and UDP. What is larger (jumbo frames) is found between few homes and would cost every path a probe more.
const ETHERNET: [usize; 2] = [1_472, 1_452];

/// Bytes of the tag behind a sealed body.
pub(crate) const TAG: usize = 16;

/// Longest header of a short packet: flags, connection id, packet number.
pub(crate) const HEADER: usize = 1 + 8 + 4;

/// Bytes of frames that fit one packet that goes straight to its destination.
pub(crate) const PAYLOAD: usize = DATAGRAM - HEADER - TAG;

/// Bytes of frames that fit one packet by the relay.
pub(crate) const RELAYED_PAYLOAD: usize = PAYLOAD - WRAP_LEN;

/// Packet keys are used for so long at most; then the next generation takes over. As WireGuard, which changes keys every
/// two minutes of traffic.
const KEY_AGE: Duration = Duration::from_secs(120);

/// Before a direct path has a keepalive.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(3_600);

/// Old packet keys are kept for so many probe timeouts after both ends have moved on, for packets that were overtaken (RFC 9001
/// §6.5 recommends three).
const OLD_KEY_PTOS: u32 = 3;

/// Path challenges of a server that wait to be answered; the newest stay. A server asks once an interval.
const MAX_ANSWERS: usize = 4;

/// Least and longest time that reliable messages have to be acknowledged when their link is to end.
const LEAST_FLUSH: Duration = Duration::from_secs(1);
const LONGEST_FLUSH: Duration = Duration::from_secs(3);

/// A CLOSE's reason on the wire: the application wanted it.
pub(crate) const CLOSE_LOCAL: u8 = 0;
/// A CLOSE's reason on the wire: the other end broke the protocol.
pub(crate) const CLOSE_VIOLATION: u8 = 1;
/// A CLOSE's reason on the wire: nothing was heard for too long.
pub(crate) const CLOSE_TIMED_OUT: u8 = 2;

/// Why a received packet was not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unusable {
    /// It did not open: forged, damaged, replayed, too old.
    Sealed(OpenError),
    /// The other end broke the protocol; the link is of no more use.
    Violation(Violation),
}

/// Hole punching, on links between peers; apart from the link, as a server has thousands of links without.
struct Direct {
    punch: Punch,
    /// Where packets on the direct path go, and by which socket. Validated.
    to: Option<Way>,
    /// How long the probe that validated it took to be answered.
    probed_rtt: Duration,
    /// Since when the transport leaves the path alone, and until when its probes may take to be acknowledged.
    suspected: Option<(Instant, Instant)>,
    /// Nothing but keepalives went through it before that; and a hole that closed so was not told yet.
    idle: bool,
    idle_death: bool,
    keepalive: Duration,
    /// Which of two ways traffic takes.
    preference: Preference,
    /// A way that an earlier link with this peer had, and the datagrams that passed there.
    inherited: Option<(Way, usize)>,
}

/// See the module's text.
pub(crate) struct Link {
    protection: Protection,
    transport: Transport,
    direct: Option<Box<Direct>>,
    /// Whether the other end has moved, on a server's links.
    roaming: Option<Roaming>,
    /// By which socket everything leaves that has no other reason.
    home: SocketId,
    /// Tokens to be sent back to the server.
    answers: VecDeque<u64>,
    /// The greatest packet number on each path so far.
    newest: [Option<u64>; PATHS],
    /// When the keys of the generation before are erased.
    forget_at: Option<Instant>,
    /// The generation of packet keys, and since when it is sent.
    generation: (u64, Instant),
    /// What the client asked to have observed, on a server's links; and the door that the server knocked from, on a
    /// client's.
    observe: Option<Observe>,
    knocked: Option<u8>,
    /// When the server was asked for its time, and what it said.
    time: Option<(Instant, Instant)>,
    /// The leg that the newest packet so far said the client uses; and a challenge that a client sent, on a server's links.
    /// The answer to one, on a client's.
    leg: Option<Leg>,
    /// Whether this end's part of the main path is a byte stream, and the peer's part, on a link between peers.
    streams: [bool; 2],
    asked: Option<u64>,
    answered: Option<u64>,
    /// The other end closed, for this reason.
    closed: Option<u8>,
    presence: Presence,
    /// Reused between packets.
    frames: Vec<LinkFrame>,
}

impl Link {
    /// A client's link to its server: no direct path apart from the main one.
    pub(crate) fn with_server(
        now: Instant,
        protection: Protection,
        mut transport: Transport,
        keepalive: Option<Duration>,
    ) -> Self {
        transport.set_keepalive(MAIN, keepalive);
        Self::new(now, protection, transport, None, None)
    }

    /// A server's link to a client, which may move.
    pub(crate) fn with_client(now: Instant, protection: Protection, transport: Transport, roaming: Roaming) -> Self {
        Self::new(now, protection, transport, None, Some(roaming))
    }

    /// A link between peers: relayed at once, direct when `punch` finds a way. Its first flight offers an ephemeral key,
    /// which makes the link forward secret one round trip later.
    pub(crate) fn with_peer(
        now: Instant,
        mut protection: Protection,
        mut transport: Transport,
        punch: Punch,
        keys: &mut KeyStream,
    ) -> Self {
        transport.queue_key_share(protection.offer(keys));
        let direct = Box::new(Direct {
            punch,
            to: None,
            probed_rtt: Duration::ZERO,
            suspected: None,
            idle: false,
            idle_death: false,
            keepalive: LONGEST_KEEPALIVE,
            preference: Preference::default(),
            inherited: None,
        });
        Self::new(now, protection, transport, Some(direct), None)
    }

    fn new(
        now: Instant,
        protection: Protection,
        transport: Transport,
        direct: Option<Box<Direct>>,
        roaming: Option<Roaming>,
    ) -> Self {
        Self {
            protection,
            transport,
            direct,
            roaming,
            home: SocketId::MAIN,
            answers: VecDeque::new(),
            newest: [None; PATHS],
            forget_at: None,
            generation: (0, now),
            observe: None,
            knocked: None,
            time: None,
            leg: None,
            streams: [false; 2],
            asked: None,
            answered: None,
            closed: None,
            presence: Presence::new(now),
            frames: Vec::new(),
        }
    }

    pub(crate) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    pub(crate) fn transport_ref(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn protection(&self) -> &Protection {
        &self.protection
    }

    /// The other end closed the link, for this reason.
    pub(crate) fn closed(&self) -> Option<u8> {
        self.closed
    }

    /// Whether the other end is there, judged by the main path.
    pub(crate) fn presence(&mut self) -> &mut Presence {
        &mut self.presence
    }

    pub(crate) fn presence_ref(&self) -> &Presence {
        &self.presence
    }

    /// This end stood still until now: what waits is asked about at once, and what was sent before says nothing of round trips.
    pub(crate) fn on_resume(&mut self, now: Instant) {
        self.presence.on_resume(now);
        self.transport.on_resume(now);
        if let Some(direct) = &mut self.direct {
            direct.punch.on_revived(now);
        }
    }

    /// The server can be reached again: whatever waits for a word by the relay, or for its help, need not wait longer.
    pub(crate) fn on_revived(&mut self, now: Instant) {
        self.transport.nudge();
        if let Some(direct) = &mut self.direct {
            direct.punch.on_revived(now);
        }
    }

    /// Round-trip time of the direct path: smoothed once measured, before that as its probe saw it.
    pub(crate) fn direct_rtt(&self) -> Duration {
        let probed = self.direct.as_ref().map_or(Duration::ZERO, |direct| direct.probed_rtt);
        self.transport.rtt(DIRECT).unwrap_or(probed)
    }

    /// Probe these addresses from now on.
    pub(crate) fn punch(&mut self, now: Instant, candidates: &[SocketAddr]) {
        if let Some(direct) = &mut self.direct {
            direct.punch.start(now, candidates);
        }
    }

    /// Whether a direct path is looked for, and which of two ways traffic takes.
    pub(crate) fn set_policy(&mut self, now: Instant, gate: Gate, prefer: Prefer) {
        let Some(direct) = &mut self.direct else { return };
        direct.punch.set_gate(now, gate);
        direct.preference.set(prefer, &mut self.transport);
        if matches!(gate, Gate::Shut(_)) && direct.to.take().is_some() {
            direct.suspected = None;
            self.transport.close_path(now, DIRECT);
            while self.transport.poll_path_event().is_some() {}
        }
    }

    /// The application sends something, which is a reason to look for a direct path. As [`Transport::send`].
    pub(crate) fn send(
        &mut self,
        now: Instant,
        scope: Scope,
        seq: Option<u64>,
        bytes: &[u8],
        options: &SendOptions,
    ) -> Result<u64, TransportSendError> {
        if let Some(direct) = &mut self.direct {
            direct.punch.on_traffic(now);
        }
        self.transport.send(now, scope, seq, bytes, options)
    }

    /// Everything leaves by this socket from now on. Who asks at another is not answered: it should follow.
    pub(crate) fn set_home(&mut self, home: SocketId) {
        self.home = home;
        if let Some(direct) = &mut self.direct {
            direct.punch.set_home(home);
        }
    }

    /// How often an idle direct path is pinged.
    pub(crate) fn set_direct_keepalive(&mut self, keepalive: Duration) {
        if let Some(direct) = &mut self.direct {
            direct.keepalive = keepalive;
            self.transport.set_keepalive(DIRECT, Some(keepalive));
        }
    }

    /// Whether a hole closed, since this was last asked, though keepalives went through it and nothing else.
    pub(crate) fn take_idle_death(&mut self) -> bool {
        self.direct.as_mut().is_some_and(|direct| core::mem::take(&mut direct.idle_death))
    }

    /// Hole punching, on links between peers.
    pub(crate) fn puncher(&mut self) -> Option<&mut Punch> {
        self.direct.as_mut().map(|direct| &mut direct.punch)
    }

    pub(crate) fn puncher_ref(&self) -> Option<&Punch> {
        self.direct.as_ref().map(|direct| &direct.punch)
    }

    /// What the packet received last asked to have observed.
    pub(crate) fn take_observe(&mut self) -> Option<Observe> {
        self.observe.take()
    }

    /// The door that a packet came from, if one came for that purpose.
    pub(crate) fn take_knocked(&mut self) -> Option<u8> {
        self.knocked.take()
    }

    /// When the server was asked for its time, and what it said to that; once.
    pub(crate) fn take_time(&mut self) -> Option<(Instant, Instant)> {
        self.time.take()
    }

    /// The leg that the client says it uses, if the packet received last was the newest and said so.
    pub(crate) fn take_leg(&mut self) -> Option<Leg> {
        self.leg.take()
    }

    /// The challenge in the packet received last: whether its source can be reached.
    pub(crate) fn take_asked(&mut self) -> Option<u64> {
        self.asked.take()
    }

    /// The answer in the packet received last.
    pub(crate) fn take_answered(&mut self) -> Option<u64> {
        self.answered.take()
    }

    /// Takes a datagram in that carries a connection id of this link.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        path: PathId,
        from: impl Into<Way>,
        ecn: Ecn,
        datagram: &mut [u8],
    ) -> Result<(), Unusable> {
        let from = from.into();
        let opened = self.protection.open(path, datagram).map_err(Unusable::Sealed)?;
        let acked = self.transport.last_acked(MAIN);
        self.presence.on_heard(now);
        let newest = self.newest.get_mut(usize::from(path));
        let newest =
            newest.is_some_and(|newest| newest.replace(opened.number.max(newest.unwrap_or(0))) < Some(opened.number));
        if newest && self.roaming.is_none() {
            self.heard_from(now, path, from);
        } else if let (DIRECT, Some(direct)) = (path, &mut self.direct) {
            direct.punch.on_packet(now, from);
        }
        let mut frames = core::mem::take(&mut self.frames);
        let taken =
            self.transport.received(now, path, opened.number, ecn, opened.body, &mut |frame| frames.push(frame));
        let mut outcome = taken.map_err(Unusable::Violation);
        for frame in frames.drain(..) {
            if let Err(violation) = self.on_frame(now, path, from, frame) {
                outcome = outcome.and(Err(Unusable::Violation(violation)));
            }
        }
        self.frames = frames;
        if self.transport.last_acked(MAIN) != acked {
            self.presence.on_answered(now);
        }
        self.leg = self.leg.filter(|_| newest);
        if self.direct.is_some()
            && let Some(leg) = self.leg.take()
        {
            self.follow_peer(leg);
        }
        // A packet that only asks to be observed is a probing packet (RFC 9000 §9.1): it comes from elsewhere on purpose.
        let probing = self.observe.is_some() || self.asked.is_some();
        if newest && self.roaming.is_some() && !probing && from.socket == SocketId::MAIN {
            self.heard_from(now, path, from);
        }
        self.settle(now);
        // Only a server has control messages, and nobody would ever take a peer's.
        if self.direct.is_some() && self.transport.next_control(&mut Vec::new()) {
            outcome = outcome.and(Err(Unusable::Violation(Violation::Control)));
        }
        outcome
    }

    fn on_frame(&mut self, now: Instant, path: PathId, from: Way, frame: LinkFrame) -> Result<(), Violation> {
        match frame {
            LinkFrame::Challenge(token) => match (&mut self.direct, &self.roaming) {
                (Some(direct), _) if path == DIRECT => direct.punch.on_challenge(now, from, token),
                // The server asks whether this client is still where it was.
                (None, None) if from.socket == self.home => {
                    if self.answers.len() >= MAX_ANSWERS {
                        self.answers.pop_front();
                    }
                    self.answers.push_back(token);
                }
                // The client asks whether UDP works.
                (None, Some(_)) => self.asked = Some(token),
                // By the relay it proves nothing.
                _ => {}
            },
            LinkFrame::Response(token) => match (&mut self.direct, &mut self.roaming) {
                (Some(direct), _) => direct.punch.on_response(now, token),
                (None, roaming) => {
                    if let Some(roaming) = roaming {
                        roaming.on_response(now, token);
                    }
                    self.answered = Some(token);
                }
            },
            LinkFrame::KeyShare(public) if self.direct.is_some() => {
                self.protection.on_share(&public).map_err(|_| Violation::KeyShare)?;
            }
            LinkFrame::KeyShare(_) => return Err(Violation::KeyShare),
            LinkFrame::Close(reason) => self.closed = Some(reason),
            LinkFrame::Observe(observe) if self.roaming.is_some() => self.observe = Some(observe),
            LinkFrame::Knock(door) if self.direct.is_none() && self.roaming.is_none() => self.knocked = Some(door),
            LinkFrame::AskTime(number) if self.roaming.is_some() => self.transport.tell_time(number),
            LinkFrame::Time { asked, clock } => self.time = Some((asked, Instant(clock))),
            LinkFrame::Leg(leg) if self.roaming.is_some() || self.direct.is_some() => self.leg = Some(leg),
            // Said to an end that has no use for it.
            LinkFrame::Observe(_) | LinkFrame::Knock(_) | LinkFrame::AskTime(_) | LinkFrame::Leg(_) => {}
        }
        Ok(())
    }

    /// An authentic packet with a greater number than any before came on this path, or, on a server, by the relay.
    pub(crate) fn heard_from(&mut self, now: Instant, path: PathId, from: Way) {
        match (&mut self.direct, &mut self.roaming) {
            (Some(direct), _) if path == DIRECT => direct.punch.on_newest(now, from),
            (None, Some(roaming)) => roaming.on_newest(now, from.at, self.transport.pto(MAIN)),
            _ => {}
        }
    }

    /// The client's new address, once, if it has moved. What was sent to the old one and not acknowledged goes again, and
    /// round-trip time and window start over (RFC 9000 §9.4).
    pub(crate) fn poll_moved(&mut self, now: Instant) -> Option<SocketAddr> {
        let Moved { to, rtt } = self.roaming.as_mut()?.poll_moved()?;
        self.transport.open_path(now, MAIN, rtt, PAYLOAD);
        self.ask_anew();
        Some(to)
    }

    /// What waited for word was given up, and with it the question whether the other end is there: it is asked the new way.
    fn ask_anew(&mut self) {
        if self.presence.forget_question() {
            self.transport.probe(MAIN);
        }
    }

    /// Carries news between the parts: acknowledged key shares, dead paths, validated addresses.
    fn settle(&mut self, now: Instant) {
        if self.transport.key_share_acked() {
            self.protection.on_share_acked();
        }
        if self.forget_at.is_none() && self.protection.outlived() {
            let wait = self.transport.pto(MAIN).max(self.transport.pto(DIRECT));
            self.forget_at = Some(now + wait * OLD_KEY_PTOS);
        }
        if self.forget_at.is_some_and(|at| at <= now) {
            self.forget_at = None;
            self.protection.forget_old();
        }
        let Some(direct) = &mut self.direct else { return };
        while let Some(event) = self.transport.poll_path_event() {
            match event {
                PathEvent::Suspect(DIRECT) => {
                    let pto = self.transport.pto(DIRECT);
                    direct.suspected = Some((now, now + pto));
                    // One that lived through some keepalives does not die of what lies between two of them.
                    let young = |at: Instant| at.since(self.transport.opened(DIRECT)) < direct.keepalive * 2;
                    let quiet = |at: &Instant| now.since(*at) >= direct.keepalive && young(*at);
                    direct.idle = self.transport.last_acked(DIRECT).as_ref().is_some_and(quiet);
                }
                PathEvent::Recovered(DIRECT) => {
                    direct.suspected = None;
                    direct.punch.on_recovered(now);
                }
                PathEvent::Dead(DIRECT) => {
                    self.transport.close_path(now, DIRECT);
                    (direct.to, direct.suspected) = (None, None);
                    direct.punch.on_dead(now);
                }
                _ => {}
            }
        }
        if direct.to.is_some() {
            direct.preference.weigh(&mut self.transport);
        }
        // The peer answers by the relay, and has had time to on the direct path.
        if let Some((since, until)) = direct.suspected
            && now >= until
            && self.transport.last_acked(MAIN) > Some(since)
        {
            direct.suspected = None;
            direct.idle_death |= core::mem::take(&mut direct.idle);
            direct.punch.on_doubt(now);
        }
    }

    /// The system refused a datagram of `size` bytes to `to` as too large.
    pub(crate) fn on_too_big(&mut self, now: Instant, to: SocketAddr, size: usize) {
        if self.direct.as_ref().is_some_and(|direct| direct.to.is_some_and(|way| way.at == to)) {
            self.transport.on_too_big(now, DIRECT, size);
        }
    }

    /// What hole punching has come to since last asked.
    pub(crate) fn poll_punch(&mut self, now: Instant, keepalive: Duration) -> Option<Punched> {
        let direct = self.direct.as_mut()?;
        loop {
            let Some(event) = direct.punch.poll_event() else {
                let changed = direct.preference.news(direct.punch.is_direct());
                return changed.then(|| Punched::Verdict(direct.verdict(Verdict::Direct)));
            };
            match event {
                PunchEvent::Validated { to, rtt } => {
                    (direct.to, direct.probed_rtt, direct.suspected) = (Some(to), rtt, None);
                    self.transport.open_path(now, DIRECT, rtt, PAYLOAD);
                    self.transport.allow_datagrams(DIRECT, ETHERNET[usize::from(to.at.is_ipv6())]);
                    if let Some((_, size)) = direct.inherited.filter(|(way, _)| *way == to) {
                        self.transport.inherit_datagrams(DIRECT, size);
                    }
                    direct.keepalive = keepalive;
                    self.transport.set_keepalive(DIRECT, Some(keepalive));
                    direct.preference.on_direct(&mut self.transport);
                }
                PunchEvent::Answered => self.transport.probe(DIRECT),
                PunchEvent::WantsRestart => return Some(Punched::WantsRestart),
                PunchEvent::WantsSearch => return Some(Punched::WantsSearch),
                PunchEvent::Verdict(verdict) => return Some(Punched::Verdict(direct.verdict(verdict))),
            }
        }
    }

    /// Moves on to the next packet keys if the present ones are worn or old. Only asked where something is about to be
    /// sent: an idle link changes nothing.
    fn renew_keys(&mut self, now: Instant) {
        let generation = self.protection.sending_generation();
        if self.generation.0 != generation {
            self.generation = (generation, now);
        }
        if self.protection.is_worn() || now.since(self.generation.1) >= KEY_AGE {
            self.protection.update();
        }
    }

    /// Writes what is due, as long as there is room.
    pub(crate) fn transmit(&mut self, now: Instant, route: &mut Route<'_>, out: &mut Outbox) {
        self.transport.on_wake(now);
        self.transport.set_batches(out.max_segments() > 1);
        self.settle(now);
        self.renew_keys(now);
        while out.room() >= DATAGRAM && (self.answer(now, route, out) || self.probe(now, route, out)) {}
        self.transport.set_blocked(route.is_blocked());
        while let Some(path) = self.transport.wants(now) {
            if out.room() < self.transport.datagram(now, path).max(DATAGRAM)
                || !self.packet(now, path, route, out, Body::Due)
            {
                break;
            }
            self.transport.set_blocked(route.is_blocked());
        }
    }

    /// Until when what is queued may take to be acknowledged before the last word: a second, which is three probe timeouts
    /// nearly everywhere, and where it is not, those.
    pub(crate) fn flush_until(&self, now: Instant) -> Instant {
        now + self.transport.pto(MAIN).saturating_mul(3).clamp(LEAST_FLUSH, LONGEST_FLUSH)
    }

    /// Says goodbye to `to` on the main path, which a stream does but once. `None` if it was said so, or there is no room or no
    /// number left.
    pub(crate) fn close(
        &mut self,
        now: Instant,
        to: SocketAddr,
        route: &mut Route<'_>,
        reason: u8,
        out: &mut Outbox,
    ) -> Option<Goodbye> {
        if matches!(route, Route::Nowhere) {
            return None;
        }
        let mut sealed = [0; goodbye::MAX_LEN];
        let space = out.reserve(goodbye::MAX_LEN)?;
        let (len, _) = self.seal(now, MAIN, &mut sealed, Body::Close(reason))?;
        let sealed = sealed.get(..len)?;
        if let Some(queue) = route.queue() {
            queue.push(sealed);
            return None;
        }
        space.get_mut(..len)?.copy_from_slice(sealed);
        out.commit(len, Transmit::datagram(SocketId::MAIN, to));
        Some(Goodbye::new(now, sealed, to, self.transport.pto(MAIN)))
    }

    /// This end's part of the main path goes by another leg.
    pub(crate) fn change_leg(&mut self, now: Instant, leg: Leg) {
        self.streams[0] = leg == Leg::Tcp;
        self.transport.change_leg(now, self.streams.contains(&true));
        self.ask_anew();
    }

    /// The same, and the other end is told.
    pub(crate) fn use_leg(&mut self, now: Instant, leg: Leg) {
        self.change_leg(now, leg);
        self.transport.tell_leg(leg);
    }

    /// The peer's part of the main path goes by this leg. What it lost when it changed shows as soon as something later arrives.
    fn follow_peer(&mut self, leg: Leg) {
        let stream = leg == Leg::Tcp;
        if core::mem::replace(&mut self.streams[1], stream) != stream {
            self.transport.set_stream(self.streams.contains(&true));
            self.transport.probe(MAIN);
        }
    }

    fn answer(&mut self, now: Instant, route: &mut Route<'_>, out: &mut Outbox) -> bool {
        if route.is_blocked() {
            return false;
        }
        let Some(token) = self.answers.pop_front() else { return false };
        self.packet(now, MAIN, route, out, Body::Probe { challenge: None, response: Some(token) })
    }

    fn probe(&mut self, now: Instant, route: &mut Route<'_>, out: &mut Outbox) -> bool {
        if let Some(Ask { to, token }) = self.roaming.as_mut().and_then(|roaming| roaming.poll(now)) {
            let body = Body::Probe { challenge: Some(token), response: None };
            return self.packet(now, MAIN, &mut Route::Straight(to.into()), out, body);
        }
        let (Some(direct), Route::Relay(leg, _)) = (&mut self.direct, &mut *route) else { return false };
        let Some(probe) = direct.punch.poll(now, &mut leg.pace) else { return false };
        let body = Body::Probe { challenge: probe.challenge, response: probe.response };
        match probe.over {
            Over::Direct(to) => self.packet_within(now, DIRECT, &mut Route::Straight(to), out, body, probe.hop_limit),
            // What finds no room is probed for again.
            Over::Relay => self.packet(now, MAIN, route, out, body) || route.is_blocked(),
        }
    }

    /// Builds, seals and commits one packet. False if there was nothing to say, or no room, or no number left.
    fn packet(&mut self, now: Instant, path: PathId, route: &mut Route<'_>, out: &mut Outbox, body: Body) -> bool {
        self.packet_within(now, path, route, out, body, None)
    }

    /// The same for one that may go over so many routers only.
    fn packet_within(
        &mut self,
        now: Instant,
        path: PathId,
        route: &mut Route<'_>,
        out: &mut Outbox,
        body: Body,
        hop_limit: Option<u8>,
    ) -> bool {
        let direct = self.direct.as_ref().and_then(|direct| direct.to);
        let to = match (&*route, direct, path, body) {
            (_, Some(to), DIRECT, Body::Due) => to,
            (_, _, DIRECT, Body::Due) => return false,
            (Route::Straight(to), ..) => *to,
            (Route::Server(leg) | Route::Relay(leg, _), ..) => leg.way(),
            // Only the queue knows where that leads.
            (Route::Stream(_) | Route::Nowhere, ..) => {
                SocketAddr::new(core::net::Ipv4Addr::UNSPECIFIED.into(), 0).into()
            }
        };
        if path == MAIN && route.is_blocked() {
            return false;
        }
        let wrap = if path == MAIN && matches!(route, Route::Relay(..)) { WRAP_LEN } else { 0 };
        let size = if path == DIRECT { self.transport.datagram(now, path).max(DATAGRAM) } else { DATAGRAM };
        let Some(datagram) = out.reserve(size) else { return false };
        let (space, inner) = datagram.split_at_mut(wrap);
        let Some((len, ecn)) = self.seal(now, path, inner, body) else { return false };
        if let (Route::Relay(leg, handle), Ok(space)) = (&mut *route, <&mut [u8; WRAP_LEN]>::try_from(space)) {
            leg.key.wrap(leg.session, leg.number, *handle, &inner[..len], space);
            leg.number += 1;
        }
        if let (MAIN, Some(queue)) = (path, route.queue()) {
            queue.push(&datagram[..wrap + len]);
            return true;
        }
        // What a relay forwards is another datagram: marks on the way to it would tell nobody anything.
        let ecn = if wrap > 0 { Ecn::NotCapable } else { ecn };
        let via = Via::Datagram { socket: to.socket, to: to.at, from: None, hop_limit };
        out.commit(wrap + len, Transmit { ecn, via, ..Transmit::datagram(to.socket, to.at) });
        true
    }

    fn seal(&mut self, now: Instant, path: PathId, inner: &mut [u8], body: Body) -> Option<(usize, Ecn)> {
        let number = self.transport.next_number(path);
        let acked = self.transport.largest_acked(path);
        let header = Protection::header_len(number, acked);
        let room = inner.len().checked_sub(TAG)?;
        let mut w = Writer::new(inner.get_mut(header..room)?);
        let mut ecn = Ecn::NotCapable;
        let used = match body {
            Body::Due => {
                let built = self.transport.build(now, path, &mut w)?;
                ecn = built.ecn;
                if path == MAIN && built.ack_eliciting {
                    self.presence.on_asked(now);
                }
                built.pn
            }
            Body::Probe { challenge, response } => self.transport.build_probe(now, path, &mut w, challenge, response),
            Body::Observe(observe) => self.transport.build_observe(now, path, &mut w, observe),
            Body::Knock(door) => self.transport.build_knock(now, path, &mut w, door),
            Body::Close(reason) => self.transport.build_close(now, path, &mut w, reason),
        };
        debug_assert_eq!(used, number, "the number that the header has room for");
        let len = w.len();
        self.protection.seal(path, number, acked, inner, len).ok().map(|len| (len, ecn))
    }

    /// When it must be called again, and why.
    pub(crate) fn wake(&self) -> Option<(Instant, Wake)> {
        let punch = self.direct.as_ref().and_then(|d| d.punch.wake()).map(|at| (at, Wake::Probe));
        let roaming = self.roaming.as_ref().and_then(|r| r.wake()).map(|at| (at, Wake::Probe));
        let answer = (!self.answers.is_empty() && !self.transport.is_held_up()).then_some((Instant::ZERO, Wake::Now));
        let forget = self.forget_at.map(|at| (at, Wake::Idle));
        [self.transport.wake(), punch, roaming, answer, forget].into_iter().flatten().min()
    }
}

impl Direct {
    /// How traffic goes, which is by the relay where that is faster and the application wants the faster.
    fn verdict(&self, punched: Verdict) -> Verdict {
        match punched {
            Verdict::Direct if self.preference.is_relay() => Verdict::Relayed(RelayReason::RelayFaster),
            punched => punched,
        }
    }
}

/// What a packet is to carry.
#[derive(Clone, Copy)]
enum Body {
    /// Whatever the transport finds due.
    Due,
    /// A path challenge, a response, or both.
    Probe { challenge: Option<u64>, response: Option<u64> },
    /// That the server look where it comes from.
    Observe(Observe),
    /// That it comes from a door of the server.
    Knock(u8),
    /// The end of the link.
    Close(u8),
}

/// News of hole punching.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Punched {
    /// Both ends should begin anew at one time: ask the server.
    WantsRestart,
    /// Plain punching leads nowhere: the server may know something better.
    WantsSearch,
    /// Traffic goes otherwise now, or for another reason.
    Verdict(Verdict),
}
