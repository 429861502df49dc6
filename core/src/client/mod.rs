//! A client: one link to the server, one to every peer, and what its application sees of the groups.
//!
//! It first logs in (`login`), then lives as a `session`. This file is the front door: every call is recorded by the
//! tap, then handed to whichever of the two is current.

mod held;
mod holding;
mod leg;
mod list;
mod login;
mod policy;
mod queue;
mod search;
mod server_time;
mod session;
mod stash;
#[cfg(test)]
mod tests;

use crate::command::{Command, SendOptions, To};
use crate::config::{self, ClientConfig, ConfigError};
use crate::entropy::Entropy;
use crate::event::{ClientEvent, EndReason, LoginFailure, Path};
use crate::goodbye::Goodbye;
use crate::ids::{Channel, GroupId, PeerId, SocketId, StreamId};
use crate::leg::client::Carrier;
use crate::leg::{Leg, LegReason};
use crate::machine::{self, Ecn, Entry, Input, Machine, Request, SendFailure, SocketInput, StreamInput, Tap, Wake};
use crate::outbox::Outbox;
use crate::path::Way;
use crate::policy::PathPolicy;
use crate::presence::Sleep;
use crate::report::{CandidateReport, PeerReport};
use crate::secure::OpenError;
use crate::ticket;
use crate::time::{Duration, Instant};
use crate::wire::control::{MAX_CANDIDATES, MAX_TOKEN};
use crate::wire::header::{self, Kind};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
pub(crate) use login::VERSION;
use login::{Login, LoginStep};
use queue::{Queue, Queued};
use session::{Around, Session};
pub(crate) use session::{check_message, most_ready, send_error, transport_config};
use thiserror::Error;

pub use server_time::ServerTime;

pub use crate::transport::{Memory, Overflow, PathStats, Usage};
pub use policy::UnknownPeer;

/// A client. See the module's text and [`Machine`].
pub struct Client {
    config: ClientConfig,
    entropy: Entropy,
    phase: Phase,
    queue: Queue,
    /// This host's addresses, with the main socket's port: what peers on the same network may try.
    local: Local,
    counters: ClientCounters,
    sleep: Sleep,
    /// What a login that came to nothing still asks for.
    leftover: VecDeque<Request>,
    tap: Option<Box<dyn Tap>>,
}

enum Phase {
    LoggingIn(Box<Login>),
    Online(Box<Session>),
    /// Over but for what the server has yet to hear, and for what came before the end and was not polled.
    Ended {
        session: Box<Session>,
        parting: Parting,
    },
    Over,
}

/// What the server has yet to hear of a session that is over.
enum Parting {
    /// What was sent reliably before, until it is acknowledged or this time has come; then the last word.
    Flush(Instant),
    /// The last word again, if it was lost.
    Goodbye(Box<Goodbye>),
    /// What was put into the TCP leg, until it is written or this time has come.
    Drain(Instant),
    /// Nothing.
    Done,
}

/// Where this host can be reached on its own network.
#[derive(Default)]
struct Local {
    port: u16,
    bound: Option<IpAddr>,
    interfaces: Vec<IpAddr>,
}

impl Local {
    fn candidates(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let port = self.port;
        let listed = self.bound.iter().chain(&self.interfaces);
        listed
            .filter(move |ip| port != 0 && !ip.is_loopback() && !ip.is_unspecified())
            .map(move |ip| SocketAddr::new(*ip, port))
    }
}

/// What a client did not use of what came in, by cause. Datagrams each, since construction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientCounters {
    /// Not of this protocol, or for nobody here.
    pub unknown: u64,
    /// Claimed by a link but not authentic: forged, damaged, replayed, or sealed with an erased key.
    pub unopened: u64,
    /// Of those, the ones that were authentic and seen before, or too old to tell.
    pub replayed: u64,
    /// From a peer that broke the protocol; its link is dead from then on.
    pub violations: u64,
    /// Held because they outran the join that names their sender.
    pub held: u64,
}

impl ClientCounters {
    fn sealed(&mut self, why: OpenError) {
        self.unopened += 1;
        self.replayed += u64::from(why == OpenError::Replayed);
    }
}

/// What became of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// How many receivers the message is on its way to.
    pub receivers: usize,
    /// Unreliable messages that were dropped for want of room when this one was queued, over all receivers: the oldest of
    /// the least urgent, which may be this one.
    pub displaced: u64,
}

/// Why a send was refused. Nothing was sent to anyone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The link to this peer has no room now for this channel; a `Writable` event follows.
    #[error("no room on the link to {to:?}")]
    Full {
        /// Which.
        to: PeerId,
    },
    /// No such peer or group here: it left, or never was.
    #[error("no such peer or group")]
    Gone,
    /// Too long for this channel.
    #[error("at most {max} bytes fit one message on this channel")]
    TooLarge {
        /// The most that fits, bytes.
        max: usize,
    },
    /// A deadline on a reliable channel, which promises that the message arrives.
    #[error("a reliable message has no deadline")]
    ReliableDeadline,
    /// With one peer, channels of peer and shared groups may be in use only so many times: 4,096, those of groups that
    /// have just ended included.
    #[error("too many channels in use with {to:?}")]
    TooManyChannels {
        /// With whom.
        to: PeerId,
    },
}

/// Why a [`Command`] was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ClientCommandError {
    /// It is for a server.
    #[error("a client cannot do that, only a server")]
    ServerOnly,
    /// It was a send.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It was a policy for one peer.
    #[error(transparent)]
    Restrict(#[from] UnknownPeer),
}

/// One peer as a client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// Which.
    pub id: PeerId,
    /// How traffic with it goes.
    pub path: Path,
    /// Which ways it may go, by everybody who has a say.
    pub policy: PathPolicy,
    /// Smoothed round-trip time by the relay.
    pub relay_rtt: Option<Duration>,
    /// Smoothed round-trip time of the direct path, if there is one.
    pub direct_rtt: Option<Duration>,
    /// The way by the relay.
    pub relay: PathStats,
    /// The direct way.
    pub direct: PathStats,
    /// Unreliable messages that found no room.
    pub dropped: Overflow,
    /// Whether the link's keys are forward secret already (one round trip after the pair was formed).
    pub forward_secret: bool,
}

/// What a server says of itself to its clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerAbout {
    /// Bytes a second that the server relays for this client; more is dropped.
    pub relay_bytes: u32,
    /// Datagrams a second that it relays; more are dropped.
    pub relay_packets: u32,
    /// Where it can be reached, if it was told so itself.
    pub addrs: Vec<SocketAddr>,
}

impl Client {
    /// A client that begins to log in at once.
    pub fn new(now: Instant, config: ClientConfig) -> Result<Self, ConfigError> {
        config::check_suites(&config.suites)?;
        config::check_limits(&config.limits)?;
        config::check_timers(&config.timers)?;
        if config.token.len() > MAX_TOKEN {
            return Err(ConfigError::TokenTooLong { len: config.token.len(), max: MAX_TOKEN });
        }
        if config.ticket.len() > ticket::MAX_LEN {
            return Err(ConfigError::TicketTooLong { len: config.ticket.len(), max: ticket::MAX_LEN });
        }
        let mut entropy = Entropy::new(&config.seed);
        let login = Login::new(now, &config, &mut entropy).map_err(|_| ConfigError::ServerKey)?;
        let mut config = config;
        // The streams hold it from here on; what they drew cannot be drawn again from anything left in memory.
        zeroize::Zeroize::zeroize(&mut config.seed);
        Ok(Self {
            entropy,
            phase: Phase::LoggingIn(Box::new(login)),
            queue: Queue::new(most_ready(&config.limits), config.limits.receive_buffer),
            local: Local::default(),
            counters: ClientCounters::default(),
            sleep: Sleep::new(now),
            leftover: VecDeque::new(),
            tap: None,
            config,
        })
    }

    /// Sends a message to a peer, a group or the server. To a group, reliable sends are all-or-nothing.
    pub fn send(
        &mut self,
        now: Instant,
        to: impl Into<To>,
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        let to = to.into();
        self.record(now, Entry::Send { to, channel, bytes, options });
        let Phase::Online(session) = &mut self.phase else { return Err(SendError::Gone) };
        match to {
            To::Peer(peer) => session.send_peer(now, peer, channel, bytes, &options),
            To::Group(group) => {
                // What waits for this client itself is bounded as what waits for others.
                let room = self.queue.loopback_cost(bytes) <= self.config.limits.send_buffer;
                let reliable = channel.reliability().is_reliable();
                if let (Some(me), true, false, true) = (session.me(), options.loopback, room, reliable) {
                    self.queue.refuse_loopback(me, channel);
                    return Err(SendError::Full { to: me });
                }
                let sent = session.send_group(now, group, channel, bytes, &options)?;
                if options.loopback && room {
                    self.queue.push_loopback(Some(group), channel, bytes);
                }
                Ok(sent)
            }
        }
    }

    /// Logs out. The session is over at once: nothing more can be sent or received. What was sent reliably before is still
    /// delivered, for a second at most (three probe timeouts if those are longer); then the server is told. All that
    /// happens as long as the machine is driven, until [`Machine::wake`] is `None`. A second call does not wait for the
    /// first part: whoever drops the machine next makes it, then transmits.
    pub fn disconnect(&mut self, now: Instant) {
        self.record(now, Entry::Command(&Command::Disconnect { client: PeerId::SERVER }));
        if let Phase::Ended { parting: Parting::Flush(until), .. } = &mut self.phase {
            *until = now.min(*until);
        }
        self.end(now, EndReason::Local);
    }

    /// Which ways traffic with peers may go from now on, as far as this client has a say: the stricter of this and what the
    /// server allows. The other end heeds whether and when to punch.
    pub fn restrict(&mut self, now: Instant, policy: PathPolicy) {
        self.record(now, Entry::Command(&Command::Restrict { peer: PeerId::SERVER, policy }));
        self.config.policy = policy;
        if let Phase::Online(session) = &mut self.phase {
            let _ = session.restrict(now, None, policy);
        }
    }

    /// The same for one peer, beside what holds for all; as long as a group is shared with it. [`PathPolicy::RELAY_ONLY`]
    /// forces its traffic over the relay.
    pub fn restrict_peer(&mut self, now: Instant, peer: PeerId, policy: PathPolicy) -> Result<(), UnknownPeer> {
        self.record(now, Entry::Command(&Command::Restrict { peer, policy }));
        let Phase::Online(session) = &mut self.phase else { return Err(UnknownPeer) };
        session.restrict(now, Some(peer), policy)
    }

    /// Does what `command` says, by the typed method for it.
    pub fn execute(&mut self, now: Instant, command: &Command) -> Result<(), ClientCommandError> {
        match command {
            Command::Send { to, channel, bytes, options } => {
                self.send(now, *to, *channel, bytes, *options)?;
                Ok(())
            }
            Command::SendList { to, channel, bytes, options } => {
                self.send_list(now, to, *channel, bytes, *options)?;
                Ok(())
            }
            Command::Disconnect { .. } => {
                self.disconnect(now);
                Ok(())
            }
            Command::Restrict { peer, policy } if peer.is_server() => {
                self.restrict(now, *policy);
                Ok(())
            }
            Command::Restrict { peer, policy } => Ok(self.restrict_peer(now, *peer, *policy)?),
            _ => Err(ClientCommandError::ServerOnly),
        }
    }

    /// The next thing that the application should know. A message's bytes are put into `payload`, which is cleared first.
    pub fn poll_event(&mut self, now: Instant, payload: &mut Vec<u8>) -> Option<ClientEvent> {
        self.record(now, Entry::PollEvent);
        payload.clear();
        loop {
            let entry = self.queue.pop()?;
            if let Queued::Event(event) = entry {
                self.on_polled(&event);
                return Some(event);
            }
            let (Phase::Online(session) | Phase::Ended { session, .. }) = &mut self.phase else { continue };
            if let Some(event) = session.poll(now, entry, payload, &mut self.queue) {
                return Some(event);
            }
        }
    }

    /// Whether [`Self::poll_event`] has something. Not part of [`Machine::wake`]: a driver cannot poll events, and one whose
    /// application does not would spin.
    pub fn has_events(&self) -> bool {
        !self.queue.is_empty()
    }

    /// This client's id, once it is logged in.
    pub fn id(&self) -> Option<PeerId> {
        self.session().and_then(Session::me)
    }

    /// The link to the server, once logged in.
    pub fn server_path(&self) -> Option<PathStats> {
        self.session().map(Session::server_path)
    }

    /// By which leg everything between this client and its server goes, and why if it was not always that one.
    pub fn leg(&self) -> (Leg, Option<LegReason>) {
        self.session().map_or((Leg::Udp, None), |session| session.leg.carrier.leg())
    }

    /// What the server said of itself, once logged in.
    pub fn about(&self) -> Option<ServerAbout> {
        let about = self.session()?.about.as_ref()?;
        let (relay_bytes, relay_packets) = (about.relay_bytes, about.relay_packets);
        Some(ServerAbout { relay_bytes, relay_packets, addrs: about.addrs.as_slice().to_vec() })
    }

    /// The groups that it is in.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.session().into_iter().flat_map(Session::groups)
    }

    /// Its peers: everyone with whom it shares a group.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.session().into_iter().flat_map(Session::peers)
    }

    /// Holes that are kept to clients with whom it shares no group any more:
    /// [`Timers::retain_for`](crate::config::Timers::retain_for).
    pub fn held_paths(&self) -> usize {
        self.session().map_or(0, Session::held)
    }

    /// What was done for a direct path to a peer, and what came of it; `None` if there is no such peer.
    pub fn report(&self, peer: PeerId) -> Option<PeerReport> {
        self.session()?.report(peer)
    }

    /// Where a peer is looked for, at most a dozen addresses; none if there is no such peer.
    pub fn candidates(&self, peer: PeerId) -> impl Iterator<Item = CandidateReport> + '_ {
        self.session().into_iter().flat_map(move |session| session.candidates(peer))
    }

    /// The members of a group, this client included; nobody if it is in no such group.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = PeerId> + '_ {
        self.session().into_iter().flat_map(move |s| s.members(group))
    }

    /// What the server's clock shows at `now`, and how far off that may be: half of a round trip at first, then what the best of
    /// several said. `None` until the server was asked, a round trip after the login, and for a moment after this machine
    /// stood still.
    pub fn server_time(&self, now: Instant) -> Option<ServerTime> {
        self.session().and_then(|session| session.server_time(now))
    }

    /// Smoothed round-trip time to the server.
    pub fn server_rtt(&self) -> Option<Duration> {
        self.session().and_then(Session::server_rtt)
    }

    /// The longest message that goes to a peer, or to the server, in one packet the way traffic with it goes now; an unreliable
    /// one that is longer is lost if any of its packets is. `None` if there is no such peer.
    pub fn max_unreliable_len(&self, peer: PeerId) -> Option<usize> {
        self.session().and_then(|session| session.max_unreliable_len(peer))
    }

    /// What messages take in memory, and the most they may. Looks at every link.
    pub fn memory(&self) -> Memory {
        self.session().map_or(Memory::default(), Session::memory)
    }

    /// What came in and was not used.
    pub fn counters(&self) -> ClientCounters {
        self.counters
    }

    fn session(&self) -> Option<&Session> {
        if let Phase::Online(session) = &self.phase { Some(session) } else { None }
    }

    fn on_polled(&mut self, event: &ClientEvent) {
        match (event, &mut self.phase) {
            (ClientEvent::LoggedIn { .. }, Phase::Online(session) | Phase::Ended { session, .. }) => {
                session.open_server(&mut self.queue);
            }
            (ClientEvent::Ended(_) | ClientEvent::LoginFailed(_), phase) => {
                self.queue.clear();
                if matches!(phase, Phase::Ended { parting: Parting::Done, session } if !session.has_requests()) {
                    *phase = Phase::Over;
                }
            }
            _ => {}
        }
    }

    fn record(&mut self, now: Instant, entry: Entry<'_>) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, entry);
        }
    }

    /// The end of whatever there is, told once. A server that does not know of it is told, too.
    fn end(&mut self, now: Instant, why: EndReason) {
        let event = match &self.phase {
            Phase::Over | Phase::Ended { .. } => return,
            Phase::Online(session) if session.me().is_some() => ClientEvent::Ended(why),
            Phase::LoggingIn(_) | Phase::Online(_) if why == EndReason::Local => ClientEvent::Ended(why),
            Phase::LoggingIn(_) | Phase::Online(_) => ClientEvent::LoginFailed(LoginFailure::NoAnswer),
        };
        let parting = match (why, &self.phase) {
            (EndReason::Remote, _) => Parting::Done,
            (EndReason::TimedOut, Phase::Online(session)) if session.is_closed() => Parting::Done,
            (EndReason::Local, Phase::Online(session)) => Parting::Flush(session.flush_until(now)),
            _ => Parting::Flush(now),
        };
        self.finish(event, parting);
    }

    fn finish(&mut self, event: ClientEvent, parting: Parting) {
        self.queue.push(event);
        self.phase = match core::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Online(mut session) => {
                session.let_holes_go(|_| true);
                if matches!(parting, Parting::Done) {
                    session.leg.carrier.close();
                }
                Phase::Ended { session, parting }
            }
            Phase::LoggingIn(mut login) => {
                login.carrier.close();
                self.leftover.extend(core::iter::from_fn(|| login.carrier.request()));
                Phase::Over
            }
            Phase::Ended { .. } | Phase::Over => {
                debug_assert!(false, "it ends once");
                Phase::Over
            }
        };
    }

    fn datagram(&mut self, now: Instant, from: Way, ecn: crate::machine::Ecn, datagram: &mut [u8]) {
        match (header::classify(datagram), &mut self.phase) {
            (Some(Kind::LoginReply), Phase::LoggingIn(login))
                if matches!(from.socket, SocketId::MAIN | SocketId::STREAM) =>
            {
                let by = if from.socket == SocketId::STREAM { Leg::Tcp } else { Leg::Udp };
                match login.read(now, by, datagram, &self.config) {
                    LoginStep::Ignore => self.counters.unknown += 1,
                    LoginStep::Failed(why) => self.finish(ClientEvent::LoginFailed(why), Parting::Done),
                    LoginStep::Done(start) => {
                        let mut session =
                            Session::new(now, &self.config, &mut self.entropy, *start, self.local.candidates());
                        session.follow_leg(now, &mut self.queue);
                        self.phase = Phase::Online(Box::new(session));
                    }
                }
            }
            (Some(Kind::LoginRetry), Phase::LoggingIn(login)) if from == Way::from(self.config.server) => {
                self.counters.unknown += u64::from(!login.retry(now, datagram));
            }
            (Some(Kind::Short { cid }), Phase::Online(session)) => {
                let Self { queue, counters, entropy, .. } = self;
                session.datagram(cid, from, ecn, datagram, &mut Around { now, queue, counters, entropy });
                self.settle(now);
            }
            (Some(Kind::Short { cid }), Phase::Ended { session, parting }) => match parting {
                Parting::Flush(_) => {
                    if session.absorb(now, cid, from, ecn, datagram).is_err() {
                        *parting = Parting::Done;
                    }
                }
                Parting::Goodbye(goodbye) => goodbye.hear(from.at),
                Parting::Drain(_) | Parting::Done => self.counters.unknown += 1,
            },
            _ => self.counters.unknown += 1,
        }
    }

    /// Ends the session if it ended itself.
    fn settle(&mut self, now: Instant) {
        let Phase::Online(session) = &mut self.phase else { return };
        if let Some(failure) = session.refused() {
            self.finish(ClientEvent::LoginFailed(failure), Parting::Flush(now));
        } else if let Some(why) = session.over(now) {
            self.end(now, why);
        }
    }
}

impl Machine for Client {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Outbox) {
        if let Some(tap) = &mut self.tap {
            tap.record(now, Entry::Input { input: &input, room: out.state() });
        }
        self.notice_sleep(now);
        match input {
            Input::Datagrams { socket, from, ecn, stride, bytes, .. } => {
                for datagram in machine::datagrams(stride, bytes) {
                    self.datagram(now, Way::new(socket, from), ecn, datagram);
                }
            }
            Input::Socket(SocketId::MAIN, SocketInput::Opened { local, .. }) => {
                self.local.port = local.port();
                self.local.bound = Some(local.ip());
                self.tell_local(now);
            }
            Input::Socket(id, what) if id != SocketId::MAIN => {
                if let Phase::Online(session) | Phase::Ended { session, .. } = &mut self.phase {
                    session.on_socket(now, id, matches!(what, SocketInput::Opened { .. }));
                }
            }
            Input::Interfaces(list) => {
                self.local.interfaces.clear();
                self.local.interfaces.extend(list.iter().take(MAX_CANDIDATES));
                self.tell_local(now);
            }
            Input::Entropy(fresh) => self.entropy.keys().mix(fresh),
            Input::Stream(id, StreamInput::Bytes(bytes)) => self.on_bytes(now, id, bytes),
            Input::Stream(id, what) => match &mut self.phase {
                Phase::LoggingIn(login) => login.on_stream(now, id, &what),
                Phase::Online(session) | Phase::Ended { session, .. } => {
                    session.on_stream(now, id, &what, &mut self.queue);
                }
                // Asked for by a login that is over.
                Phase::Over if matches!(what, StreamInput::Connected) => self.leftover.push_back(Request::Close(id)),
                Phase::Over => {}
            },
            Input::SendFailed { socket: _, to, size, why: SendFailure::TooBig } => {
                if let Phase::Online(session) = &mut self.phase {
                    session.too_big(now, to, size);
                }
            }
            // Nothing else concerns a client; loss recovery covers a send that failed.
            Input::Wake
            | Input::Socket(..)
            | Input::SendFailed { .. }
            | Input::PortMapped { .. }
            | Input::UnixTime(_) => {}
        }
        self.settle(now);
    }

    fn transmit(&mut self, now: Instant, out: &mut Outbox) {
        self.record(now, Entry::Transmit(out.state()));
        self.notice_sleep(now);
        match &mut self.phase {
            Phase::LoggingIn(login) => {
                if login.transmit(now, &self.config, out).is_err() {
                    self.finish(ClientEvent::LoginFailed(LoginFailure::NoAnswer), Parting::Done);
                }
            }
            Phase::Online(session) => {
                session.ask_time(now);
                session.transmit(now, &mut self.queue, out);
                self.settle(now);
            }
            Phase::Ended { session, parting } => {
                session.part(now, parting, out);
                if matches!(parting, Parting::Done) && self.queue.is_empty() && !session.has_requests() {
                    self.phase = Phase::Over;
                }
            }
            Phase::Over => {}
        }
    }

    fn request(&mut self) -> Option<Request> {
        self.record(Instant::ZERO, Entry::PollRequest);
        match &mut self.phase {
            Phase::Online(session) | Phase::Ended { session, .. } => {
                session.sockets.request().or_else(|| session.leg.carrier.request())
            }
            Phase::LoggingIn(login) => login.carrier.request(),
            Phase::Over => self.leftover.pop_front(),
        }
    }

    fn wake(&self) -> Option<(Instant, Wake)> {
        match &self.phase {
            Phase::LoggingIn(login) => Some(login.wake()),
            Phase::Online(session) => session.wake(),
            Phase::Ended { session, .. } if session.has_requests() => Some((Instant::ZERO, Wake::Now)),
            Phase::Ended { session, parting } => match parting {
                Parting::Flush(until) => Some(session.flush_wake(*until)),
                Parting::Goodbye(goodbye) => Some((goodbye.wake(), Wake::Probe)),
                Parting::Drain(until) => Some(session.drain_wake(*until)),
                Parting::Done => None,
            },
            Phase::Over => (!self.leftover.is_empty()).then_some((Instant::ZERO, Wake::Now)),
        }
    }

    fn tap(&mut self, tap: Option<Box<dyn Tap>>) {
        self.tap = tap;
    }
}

impl Client {
    /// If this machine was not called when it had asked for it: see [`Sleep`].
    fn notice_sleep(&mut self, now: Instant) {
        if let Some(last) = self.sleep.on_call(now)
            && Sleep::was_late(last, now, self.wake().map(|(at, _)| at))
            && let Phase::Online(session) = &mut self.phase
        {
            session.on_resume(now);
        }
    }

    /// Bytes came out of a stream: datagrams, each behind its length.
    fn on_bytes(&mut self, now: Instant, id: StreamId, bytes: &mut [u8]) {
        let Some(mut reader) = self.carrier().and_then(|carrier| carrier.take_reader(id)) else { return };
        let from = Way::new(SocketId::STREAM, self.config.server);
        let read = reader.read(bytes, |frame| self.datagram(now, from, Ecn::NotCapable, frame));
        if let Some(carrier) = self.carrier() {
            carrier.put_reader(now, id, reader, read);
        }
        if let Phase::Online(session) = &mut self.phase {
            session.follow_leg(now, &mut self.queue);
        }
    }

    fn carrier(&mut self) -> Option<&mut Carrier> {
        match &mut self.phase {
            Phase::LoggingIn(login) => Some(&mut login.carrier),
            Phase::Online(session) | Phase::Ended { session, .. } => Some(&mut session.leg.carrier),
            Phase::Over => None,
        }
    }

    fn tell_local(&mut self, now: Instant) {
        if let Phase::Online(session) = &mut self.phase {
            session.tell_local(now, self.local.candidates());
        }
    }
}
