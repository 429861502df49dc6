//! The server: sessions, groups, and the relay, put together.
//!
//! It is the only author of groups. A change of membership comes out of `Groups` as a list of effects in the order in
//! which they must be sent; this file carries them out: keys and relay routes for new pairs, control messages to members,
//! events to the application. Relayed packets never touch a session: the forwarding plane admits them by route.

mod admin;
mod admission;
mod counters;
mod discovery;
mod due;
mod hosts;
mod ipv6;
mod leg;
mod lifetime;
mod login;
mod member;
mod pairing;
mod pairs;
mod policy;
mod presence;
mod search;
mod session;
mod tickets;
mod view;

use crate::config::{self, ConfigError, ServerConfig};
use crate::entropy::{Entropy, SeededState};
use crate::event::{EndReason, Message, Path, ServerEvent};
use crate::goodbye::Goodbye;
use crate::group::server::{Effect, GroupLimits, Groups};
use crate::ids::{Channel, PeerId, SocketId, StreamId};
use crate::leg::streams::Streams;
use crate::link::Unusable;
use crate::machine::{self, Ecn, Entry, Input, Machine, Request, Tap, Wake};
use crate::outbox::{Outbox, Transmit};
use crate::path::{Way, is_local};
use crate::presence::Sleep;
use crate::relay::{self, Forwarder, Reach, RelayLimits};
use crate::schedule::Schedule;
use crate::secure::{OpenError, ServerLogin, public_key};
use crate::time::Instant;
use crate::transport::{MAIN, TransportConfig};
use crate::wire::buf::Writer;
use crate::wire::control::{MAX_LEN, ToClient, ToServer};
use crate::wire::header::{self, Kind};
use admission::Admission;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use hashbrown::HashMap;
use pairs::Pairs;
use policy::Policies;
use search::Ledger;
use session::{MAX_SESSIONS, Phase, Session, slot_of};
use tickets::Tickets;

pub use crate::group::server::{CreateGroupError, DestroyError, JoinError, LeaveError};
pub use admin::{AcceptError, GroupOptions, ServerCommandError, TimeoutError, UnknownClient};
pub use admission::LoginCounters;
pub use counters::{ServerCounters, ServerSize};
pub use discovery::{Behaviour as NatBehaviour, Mapping as NatMapping};
pub use hosts::{HostRank, HostWeights};
pub use policy::PolicyError;

/// A server. See the module's text and [`Machine`].
pub struct Server {
    config: ServerConfig,
    entropy: Entropy,
    login: ServerLogin,
    admission: Admission,
    tickets: Tickets,
    public_key: [u8; 32],
    transport: TransportConfig,
    sessions: Vec<Slot>,
    /// Slots without a session whose generations are not used up.
    free: Vec<u32>,
    /// Slots with a session.
    live: usize,
    /// Most messages that can be ready on one link.
    most_ready: usize,
    /// Sessions by the request that began them.
    requests: HashMap<[u8; 32], u32, SeededState>,
    handshakes: usize,
    online: usize,
    groups: Groups,
    relay: Forwarder,
    pairs: Pairs,
    policies: Policies,
    /// TCP legs.
    streams: Streams,
    /// How much of which address was tried.
    ledger: Ledger,
    /// The number of the next search.
    next_search: u32,
    schedule: Schedule<Wake>,
    queue: VecDeque<Queued>,
    counters: ServerCounters,
    sleep: Sleep,
    /// Reused for control messages that go out.
    control: Vec<u8>,
    /// Reused for control messages that came in.
    heard: Vec<u8>,
    tap: Option<Box<dyn Tap>>,
}

/// A place for a session. Its generation outlives its owners.
#[derive(Default)]
struct Slot {
    generation: u32,
    session: Option<Box<Session>>,
    /// The last word of a session that was here, and its id.
    goodbye: Option<(u64, Box<Goodbye>)>,
}

enum Queued {
    Event(ServerEvent),
    Message(PeerId),
    Writable(PeerId, Channel),
    /// Whether a client is there has changed. One entry a client.
    Presence(PeerId),
    /// A client's session is over. What it sent before stands before this.
    Left(PeerId, EndReason),
    /// Logins were refused: of which kind the reason was. One entry a kind.
    Refused(usize),
    /// Traffic of a pair goes otherwise: the lower and the higher client. One entry a pair.
    Path(PeerId, PeerId),
    /// A client has another leg. One entry a client.
    Leg(PeerId),
}

impl Server {
    /// A server that waits for logins.
    pub fn new(now: Instant, config: ServerConfig) -> Result<Self, ConfigError> {
        config::check_suites(&config.suites)?;
        config::check_limits(&config.limits)?;
        config::check_timers(&config.timers)?;
        config::check_admission(&config.admission)?;
        config::check_relay(&config.limits.relay)?;
        let entropy = Entropy::new(&config.seed);
        let mut config = config;
        // The streams hold it from here on; what they drew cannot be drawn again from anything left in memory.
        zeroize::Zeroize::zeroize(&mut config.seed);
        Ok(Self {
            login: ServerLogin::new([Some(&config.key), config.second_key.as_ref()].into_iter().flatten()),
            admission: Admission::new(config.admission, entropy.hasher("admission")),
            tickets: Tickets::new(config.tickets),
            public_key: public_key(&config.key),
            transport: crate::client::transport_config(&config.limits, config.congestion),
            sessions: Vec::new(),
            free: Vec::new(),
            live: 0,
            most_ready: crate::client::most_ready(&config.limits),
            requests: HashMap::with_hasher(entropy.hasher("login requests")),
            handshakes: 0,
            online: 0,
            groups: Groups::new(group_limits(&config), &entropy.hasher("groups")),
            relay: Forwarder::new(relay_limits(&config), entropy.hasher("relay")),
            pairs: Pairs::new(entropy.hasher("pairs")),
            policies: Policies::default(),
            streams: Streams::new(
                config.limits.max_clients.saturating_add(config.limits.max_handshakes),
                config.limits.max_handshakes,
                config.timers.handshake,
            ),
            ledger: Ledger::default(),
            next_search: 1,
            schedule: Schedule::new(),
            queue: VecDeque::new(),
            counters: ServerCounters::default(),
            sleep: Sleep::new(now),
            control: vec![0; MAX_LEN],
            heard: Vec::new(),
            tap: None,
            entropy,
            config,
        })
    }

    /// What clients need to know of this server besides its address.
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// The next thing that the application should know. A message's bytes are put into `payload`, which is cleared first.
    pub fn poll_event(&mut self, now: Instant, payload: &mut Vec<u8>) -> Option<ServerEvent> {
        self.record(now, Entry::PollEvent);
        payload.clear();
        loop {
            match self.queue.pop_front()? {
                Queued::Event(event) => return Some(event),
                Queued::Writable(to, channel) => {
                    let Some(session) = self.client_mut(to) else { continue };
                    session.writable.remove(channel);
                    return Some(ServerEvent::Writable { to, channel });
                }
                Queued::Path(a, b) => {
                    let Some(path) = self.pairs.take_news(a, b) else { continue };
                    return Some(ServerEvent::PathChanged { a, b, path });
                }
                Queued::Leg(client) => {
                    let Some(event) = self.take_leg_news(client) else { continue };
                    return Some(event);
                }
                Queued::Refused(kind) => {
                    let Some((why, from, count)) = self.admission.take_news(kind) else { continue };
                    return Some(ServerEvent::LoginsRefused { why, from, count });
                }
                Queued::Presence(client) => {
                    let Some(event) = self.presence_news(client) else { continue };
                    return Some(event);
                }
                Queued::Left(client, why) => {
                    self.told_left(client);
                    return Some(ServerEvent::ClientLeft { client, why });
                }
                Queued::Message(from) => {
                    let Some(session) = self.session_mut(from.slot()).filter(|s| s.peer == from) else { continue };
                    session.marks = session.marks.saturating_sub(1);
                    let delivery = session.link.transport().next_message(now, payload);
                    self.refresh(from.slot());
                    if let Some((group, channel)) = delivery.and_then(|delivery| member::of(delivery.scope)) {
                        return Some(ServerEvent::Message(Message { from, group, channel, direct: true }));
                    }
                }
            }
        }
    }

    /// Whether [`Self::poll_event`] has something. Not part of [`Machine::wake`]: a driver cannot poll events.
    pub fn has_events(&self) -> bool {
        !self.queue.is_empty()
    }

    // ---- sessions

    fn session_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.sessions.get_mut(slot as usize)?.session.as_deref_mut()
    }

    fn client(&self, peer: PeerId) -> Option<&Session> {
        let session = self.sessions.get(peer.slot() as usize)?.session.as_deref()?;
        (session.peer == peer && session.phase == Phase::Online).then_some(session)
    }

    fn client_mut(&mut self, peer: PeerId) -> Option<&mut Session> {
        self.client(peer)?;
        self.session_mut(peer.slot())
    }

    /// Ends a session: nothing of it remains but what its application has yet to hear, and its last word if it has one.
    fn end(&mut self, now: Instant, slot: u32, why: EndReason, goodbye: Option<Goodbye>) {
        self.part(now, slot, why);
        self.leave_phase(slot, why);
        let Some(place) = self.sessions.get_mut(slot as usize) else { return };
        let Some(session) = place.session.as_deref_mut() else { return };
        session.phase = Phase::Gone;
        self.requests.remove(&session.request);
        if let Some(stream) = session.stream.take() {
            self.streams.finish(now, stream);
        }
        self.relay.remove_session(session.id);
        place.goodbye = goodbye.map(|goodbye| (session.id, Box::new(goodbye)));
        self.vacate(slot);
    }

    /// The application heard that a client left, and before it whatever the client had sent.
    fn told_left(&mut self, client: PeerId) {
        if let Some(session) = self.session_mut(client.slot()).filter(|s| s.peer == client) {
            session.left_waits = false;
            self.vacate(client.slot());
        }
    }

    /// Gives back what nobody needs any more of a slot whose session may be over.
    fn vacate(&mut self, slot: u32) {
        let Some(place) = self.sessions.get_mut(slot as usize) else { return };
        if place.session.take_if(|s| s.phase == Phase::Gone && !s.left_waits).is_some() {
            self.live -= 1;
            // An id is never used again: a slot whose generations are used up is nobody's any more.
            if place.goodbye.is_none() && place.generation < u32::MAX {
                self.free.push(slot);
            }
        }
        self.refresh(slot);
    }

    // ---- packets

    fn datagram(&mut self, now: Instant, from: Reach, ecn: Ecn, datagram: &mut [u8], out: &mut Outbox) {
        match header::classify(datagram) {
            Some(Kind::Relay) => self.forward(now, from, datagram, out),
            Some(Kind::Short { cid }) => {
                let slot = slot_of(cid);
                let place = self.sessions.get_mut(slot as usize);
                match place.map(|place| (&place.session, &mut place.goodbye)) {
                    Some((_, Some((id, goodbye)))) if *id == cid => {
                        if let Reach::Datagram(from) = from {
                            goodbye.hear(from);
                        }
                        self.refresh(slot);
                    }
                    Some((Some(session), _)) if session.id == cid && session.phase != Phase::Gone => {
                        let (way, by) = Self::way_of(from);
                        self.on_client_packet(now, slot, way, by, ecn, datagram, out);
                    }
                    _ => self.counters.unknown += 1,
                }
            }
            Some(Kind::LoginRequest) => self.on_login(now, from, datagram, out),
            _ => self.counters.unknown += 1,
        }
    }

    /// A datagram at another door than the main one: only what a client wants observed is welcome there.
    fn door(&mut self, now: Instant, from: Way, ecn: Ecn, datagram: &mut [u8], out: &mut Outbox) {
        if let Some(Kind::Short { cid }) = header::classify(datagram)
            && let slot = slot_of(cid)
            && self.session_mut(slot).is_some_and(|s| s.id == cid && s.phase == Phase::Online)
        {
            return self.on_client_packet(now, slot, from, None, ecn, datagram, out);
        }
        self.counters.unknown += 1;
    }

    fn forward(&mut self, now: Instant, from: Reach, datagram: &[u8], out: &mut Outbox) {
        let forward = match self.relay.admit(now, datagram, from) {
            Ok(forward) => forward,
            Err(why) => {
                self.counters.relay_refused += 1;
                self.counters.relay_replayed += u64::from(why == relay::Refusal::Replayed);
                self.counters.relay_over_budget += u64::from(why == relay::Refusal::OverBudget);
                return;
            }
        };
        let (to, inner) = (forward.to, forward.inner);
        if let (true, Reach::Datagram(from)) = (forward.moved, from)
            && let slot = slot_of(forward.from_session)
            && let Some(session) = self.session_mut(slot)
        {
            session.link.heard_from(now, MAIN, from.into());
            self.refresh(slot);
        }
        // The first packets on a route take along what the receiver has not acknowledged yet, its join above all, so
        // that they do not arrive before it even if that was lost.
        if forward.fresh
            && let slot = slot_of(forward.to_session)
            && let Self { sessions, streams, .. } = self
            && let Some(session) = sessions.get_mut(slot as usize).and_then(|s| s.session.as_deref_mut())
        {
            // A stream loses nothing.
            if session.stream.is_none() {
                session.link.transport().resend_control(now);
            }
            let mut route = leg::route(streams, session);
            session.link.transmit(now, &mut route, out);
            self.refresh(slot);
        }
        match (to, out.reserve(inner.len())) {
            (Reach::Stream(id, _), _) if self.streams.relay(id, inner) => self.counters.forwarded += 1,
            (Reach::Datagram(to), Some(space)) => {
                space.copy_from_slice(inner);
                out.commit(inner.len(), Transmit::datagram(SocketId::MAIN, to));
                self.counters.forwarded += 1;
            }
            _ => self.counters.relay_dropped += 1,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "where it came from has two parts")]
    fn on_client_packet(
        &mut self,
        now: Instant,
        slot: u32,
        from: Way,
        by: Option<StreamId>,
        ecn: Ecn,
        datagram: &mut [u8],
        out: &mut Outbox,
    ) {
        let Some(session) = self.session_mut(slot) else { return };
        let bytes = datagram.len();
        let taken = session.link.receive(now, MAIN, from, ecn, datagram);
        if let Some(observe) = session.link.take_observe() {
            match observe.search {
                0 if session.addr.ip() == from.at.ip() => session.discovery.on_seen(from.socket, from.at),
                0 if by.is_none() => session.ask_by_ipv6(now, from, out),
                0 => {}
                _ => self.on_observed(now, slot, from.at, observe),
            }
        }
        let Some(session) = self.session_mut(slot) else { return };
        let mut over = session.link.closed().map(|_| EndReason::Remote);
        match taken {
            Ok(()) => {
                session.uplink.on_bytes(now, bytes);
                session.reply = Vec::new();
            }
            Err(Unusable::Sealed(why)) => {
                self.counters.unopened += 1;
                self.counters.replayed += u64::from(why == OpenError::Replayed);
                return;
            }
            Err(Unusable::Violation(_)) => over = Some(EndReason::Violation),
        }
        if let Some(token) = session.link.take_answered() {
            self.on_answered(now, slot, token);
        }
        self.follow_leg(now, slot, from, by, out);
        let Some(session) = self.session_mut(slot) else { return };
        if let Phase::Closing(why) = session.phase {
            // Acknowledgements count. What was under way when the session ended is nobody's any more.
            if over == Some(EndReason::Remote) {
                return self.end(now, slot, why, None);
            }
            if over.is_some() || session.link.transport_ref().is_flushed() {
                session.deadline = now;
            }
            return self.refresh(slot);
        }
        if over.is_none() && self.drain_control(now, slot).is_err() {
            over = Some(EndReason::Violation);
        }
        if let Some(why) = over {
            self.counters.violations += u64::from(why == EndReason::Violation);
            self.announce(slot);
            return if why == EndReason::Remote {
                self.end(now, slot, why, None)
            } else {
                self.break_off(now, slot, why)
            };
        }
        if let Some(session) = self.session_mut(slot) {
            session.tell_backlog(now);
        }
        self.follow(now, slot);
        self.check_presence(now, slot);
        self.announce(slot);
        self.refresh(slot);
    }

    /// If the client proved to be at another address: sends there from now on, and has it and its peers look for direct
    /// paths again, as whatever gave it another address towards the server did so towards them.
    fn follow(&mut self, now: Instant, slot: u32) {
        let Some(session) = self.session_mut(slot) else { return };
        let Some(addr) = session.link.poll_moved(now) else { return };
        let lifetime = session.lifetime.on_moved(now, session.udp_known && session.addr.ip() == addr.ip());
        (session.addr, session.udp_known) = (addr, true);
        let (id, online, on_stream) = (session.id, session.phase == Phase::Online, session.stream.is_some());
        if !on_stream {
            self.relay.set_reach(id, addr.into());
        }
        self.counters.moved += 1;
        if let Some(lifetime) = lifetime.filter(|_| online) {
            self.tell(now, slot, &ToClient::Lifetime { lifetime });
        }
        if !self.check_udp(now, slot, addr) {
            self.look_again(now, slot);
        }
    }

    /// Ends a session whose client has to be told.
    fn break_off(&mut self, now: Instant, slot: u32, why: EndReason) {
        self.part(now, slot, why);
        self.leave_phase(slot, why);
        if let Some(session) = self.session_mut(slot) {
            session.deadline = now;
        }
        self.refresh(slot);
    }

    /// Takes a session out of the phase that it is in, and what that phase had made with it.
    fn leave_phase(&mut self, slot: u32, why: EndReason) {
        let Some(session) = self.session_mut(slot) else { return };
        let login = session.login();
        match core::mem::replace(&mut session.phase, Phase::Closing(why)) {
            Phase::Handshake => {
                session.ticket.take().iter().for_each(|ticket| self.tickets.give_back(ticket));
                self.handshakes -= 1;
            }
            Phase::Asking => {
                let asks = |q: &Queued| matches!(q, Queued::Event(ServerEvent::LoginRequested { login: l, .. }) if *l == login);
                self.queue.retain(|q| !asks(q));
            }
            Phase::Rejected | Phase::Online | Phase::Closing(_) | Phase::Gone => {}
        }
    }

    fn announce(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize).and_then(|s| s.session.as_deref_mut()) else { return };
        let peer = session.peer;
        // Where older messages made way for these, marks enough stand in the queue already.
        let ready = session.link.transport().take_ready().min(self.most_ready.saturating_sub(session.marks));
        session.marks += ready;
        self.queue.extend((0..ready).map(|_| Queued::Message(peer)));
        while let Some(channel) = session.link.transport().writable() {
            if session.writable.insert(channel) {
                self.queue.push_back(Queued::Writable(peer, channel));
            }
        }
    }

    // ---- control

    fn drain_control(&mut self, now: Instant, slot: u32) -> Result<(), Nonsense> {
        let mut message = core::mem::take(&mut self.heard);
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let Some(session) = self.session_mut(slot)
            && session.link.transport().next_control(&mut message)
        {
            outcome =
                ToServer::decode(&message).map_err(|_| Nonsense).and_then(|control| self.apply(now, slot, control));
        }
        self.heard = message;
        outcome
    }

    fn apply(&mut self, now: Instant, slot: u32, control: ToServer<'_>) -> Result<(), Nonsense> {
        let decision = now + self.config.timers.decision;
        let Some(session) = self.session_mut(slot) else { return Ok(()) };
        let (phase, from) = (session.phase, session.peer);
        match control {
            ToServer::HostCandidates { candidates } => {
                session.local = candidates.as_slice().iter().copied().filter(|addr| is_local(addr.ip())).collect();
            }
            ToServer::Token { token } if phase == Phase::Handshake => {
                session.phase = Phase::Asking;
                let (login, from, ticket) = (session.login(), session.addr, session.ticket.take());
                let event = ServerEvent::LoginRequested { login, from, token: token.into(), ticket };
                session.deadline = decision;
                self.handshakes -= 1;
                self.queue.push_back(Queued::Event(event));
            }
            ToServer::JoinProcessed { group, member, epoch } if phase == Phase::Online => {
                self.groups.processed(from, group, member, epoch);
                self.carry_out(now);
            }
            ToServer::PathReport { peer, epoch, path } if phase == Phase::Online => {
                if self.pairs.report(now, from, peer, epoch, path) {
                    self.queue.push_back(Queued::Path(from.min(peer), from.max(peer)));
                }
                if matches!(self.pairs.path(from, peer), Some(Path::Direct { .. })) {
                    self.forget_search(from, peer);
                }
            }
            ToServer::RequestPunch { peer, epoch } if phase == Phase::Online => {
                if self.may_punch(from, peer, true) && self.pairs.restart(now, from, peer, epoch) {
                    self.punch(now, from, peer, epoch);
                    self.punch(now, peer, from, epoch);
                }
            }
            ToServer::Policy { peer, policy } if peer.is_server() || phase == Phase::Online => {
                self.on_wish(now, from, peer, policy);
            }
            ToServer::RequestSearch { peer, epoch } if phase == Phase::Online => {
                self.request_search(now, from, peer, epoch);
            }
            ToServer::Searched { peer, epoch, number, outcome } if phase == Phase::Online => {
                self.on_searched(now, from, peer, epoch, number, outcome);
            }
            ToServer::Rotated => session.lifetime.on_announced(),
            ToServer::Heard { door } => session.discovery.on_heard(door),
            // Legal only in one phase, and this is another; a repeated token is one.
            ToServer::Token { .. }
            | ToServer::Policy { .. }
            | ToServer::JoinProcessed { .. }
            | ToServer::PathReport { .. }
            | ToServer::RequestPunch { .. }
            | ToServer::RequestSearch { .. }
            | ToServer::Searched { .. } => return Err(Nonsense),
        }
        Ok(())
    }

    /// Tells `to` to begin probing `peer` now.
    fn punch(&mut self, now: Instant, to: PeerId, peer: PeerId, epoch: u64) {
        let (Some(receiver), Some(other)) = (self.client(to), self.client(peer)) else { return };
        let candidates = other.candidates_for(receiver);
        self.tell(now, to.slot(), &ToClient::Punch { peer, epoch, candidates });
    }

    /// Sends a control message. A client that lets too many of them pile up is ended: see [`session::MAX_BACKLOG`].
    fn tell(&mut self, now: Instant, slot: u32, message: &ToClient<'_>) {
        let Some(session) = self.sessions.get_mut(slot as usize).and_then(|s| s.session.as_deref_mut()) else { return };
        let mut w = Writer::new(&mut self.control);
        if message.encode(&mut w).is_err() || session.tell(now, w.written()).is_err() {
            session.deadline = now;
        }
        self.refresh(slot);
    }

    /// Carries the effects of a change of membership out, in their order.
    fn carry_out(&mut self, now: Instant) {
        let mut absent = Vec::new();
        while let Some(effect) = self.groups.poll_effect() {
            match effect {
                Effect::PairUp { a, b, epoch } => {
                    self.pair_up(now, a, b, epoch);
                    let away = |peer| self.client(peer).is_some_and(|session| session.shown.offline);
                    if away(a) || away(b) {
                        absent.push((a, b));
                    }
                }
                Effect::PairDown { a, b, .. } => self.pair_down(now, a, b),
                Effect::Joined { to, group, member, epoch, message } => {
                    self.policies.touch(to, member);
                    self.tell(now, to.slot(), &ToClient::MemberJoined { group, member, epoch, message: &message });
                    self.open_group(to, group, member, epoch);
                }
                Effect::Left { to, group, member, epoch, why } => {
                    self.policies.touch(to, member);
                    if self.client(to).is_some() {
                        self.close_group(to, group, member, epoch);
                        self.tell(now, to.slot(), &ToClient::MemberLeft { group, member, epoch, why });
                    }
                }
                Effect::Completed { group, member, outcome } => {
                    self.queue.push_back(Queued::Event(ServerEvent::JoinCompleted { group, member, outcome }));
                }
                Effect::Ended(group) => {
                    self.policies.forget(group);
                    self.queue.push_back(Queued::Event(ServerEvent::GroupEnded(group)));
                }
            }
        }
        self.apply_policies(now);
        self.tell_absent(now, &absent);
    }

    fn record(&mut self, now: Instant, entry: Entry<'_>) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, entry);
        }
    }
}

fn group_limits(config: &ServerConfig) -> GroupLimits {
    GroupLimits {
        groups: config.limits.max_groups,
        members: config.limits.max_members,
        join_timeout: config.timers.join,
        ..GroupLimits::default()
    }
}

fn relay_limits(config: &ServerConfig) -> RelayLimits {
    let sessions = config.limits.max_clients.saturating_add(config.limits.max_handshakes).saturating_add(1);
    RelayLimits { sessions: sessions.max(MAX_SESSIONS), routes: 1 << 16, budget: config.limits.relay }
}

/// A client said something that none says.
struct Nonsense;

impl Machine for Server {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, Entry::Input { input: &input, room: out.state() });
        }
        self.notice_sleep(now);
        match input {
            Input::Datagrams { socket: SocketId::MAIN, from, ecn, stride, bytes, .. } => {
                for datagram in machine::datagrams(stride, bytes) {
                    self.datagram(now, from.into(), ecn, datagram, out);
                }
            }
            Input::Datagrams { socket, from, ecn, stride, bytes, .. } => {
                for datagram in machine::datagrams(stride, bytes) {
                    self.door(now, Way::new(socket, from), ecn, datagram, out);
                }
            }
            Input::Entropy(fresh) => self.entropy.keys().mix(fresh),
            Input::UnixTime(time) => self.tickets.set_clock(now, time),
            Input::Stream(id, what) => self.on_stream(now, id, what, out),
            // Nothing else concerns a server; loss recovery covers a send that failed.
            Input::Wake
            | Input::Interfaces(_)
            | Input::Socket(..)
            | Input::SendFailed { .. }
            | Input::PortMapped { .. } => {}
        }
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.record(now, Entry::Transmit(out.state()));
        self.notice_sleep(now);
        self.groups.on_wake(now);
        self.carry_out(now);
        self.streams.on_time(now);
        self.serve_due(now, out);
        self.streams.transmit(out);
    }

    fn request(&mut self) -> Option<Request> {
        self.record(Instant::ZERO, Entry::PollRequest);
        self.streams.request()
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        let join = self.groups.wake().map(|at| (at, Wake::Idle));
        let streams = self.streams.wake().map(|at| (at, Wake::Idle));
        let touched = self.schedule.touched().and_then(|slot| self.due(slot));
        [self.schedule.next(), touched, join, streams].into_iter().flatten().min()
    }

    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.tap = tap;
    }
}
