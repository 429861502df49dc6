//! A client as handles and an event stream.

use super::engine::{Engine, Held, Role};
use crate::driver::{DriverStats, UpdateError};
use crate::socket::BindError;
use crate::{ClientOptions, ConnectError};
use posse_core::client::{Client as Machine, Memory, PeerView, SendError, Sent, ServerAbout, ServerTime, UnknownPeer};
use posse_core::{
    CandidateReport, Channel, ClientEvent, GroupId, Instant, Leg, LegReason, PathPolicy, PeerId, PeerReport,
    SendOptions, Target, To,
};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

impl Role for Machine {
    type Event = ClientEvent;
    const QUIET_IS_OVER: bool = true;

    fn poll(&mut self, now: Instant, payload: &mut Vec<u8>) -> Option<ClientEvent> {
        self.poll_event(now, payload)
    }

    fn has_events(&self) -> bool {
        Self::has_events(self)
    }

    fn end(&mut self, now: Instant) {
        self.disconnect(now);
    }
}

/// A client. Clones are handles to the same one; it logs out when the last of them and the events are dropped.
#[derive(Clone)]
pub struct Client(Arc<Held<Machine>>);

impl Client {
    /// Binds a socket and begins to log in: [`ClientEvent::LoggedIn`] tells when it is done. Waits for nothing; it is
    /// `async` because it needs the runtime that it is called in, with its I/O and time enabled.
    pub async fn connect(options: ClientOptions) -> Result<(Self, ClientEvents), ConnectError> {
        let addr = options.bind;
        let driver = options.driver()?;
        let held = Engine::start(driver).map_err(|source| BindError::Other { addr, source })?;
        Ok((Self(Arc::clone(&held)), ClientEvents { held, payload: Vec::new(), over: false }))
    }

    fn engine(&self) -> &Engine<Machine> {
        &self.0.0
    }

    /// Sends a message to a peer, a group or [`PeerId::SERVER`], and waits while there is no room for it.
    ///
    /// Cancel safe: when dropped before it is ready, nothing was sent.
    pub async fn send(&self, to: impl Into<To>, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError> {
        self.send_with(to, channel, bytes, SendOptions::default()).await
    }

    /// The same with options. Cancel safe in the same way.
    pub async fn send_with(
        &self,
        to: impl Into<To>,
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        let to = to.into();
        self.engine().send(|machine, now| machine.send(now, to, channel, bytes, options)).await
    }

    /// Sends a message if there is room for it now; [`ClientEvent::Writable`] tells when there is again.
    pub fn try_send(&self, to: impl Into<To>, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError> {
        self.try_send_with(to, channel, bytes, SendOptions::default())
    }

    /// The same with options.
    pub fn try_send_with(
        &self,
        to: impl Into<To>,
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        self.engine().try_send(|machine, now| machine.send(now, to, channel, bytes, options))
    }

    /// Sends a message to several peers and groups, one copy each, and waits while there is no room for all of them: see
    /// [`posse_core::Client::send_list`]. Cancel safe in the same way.
    pub async fn send_list(
        &self,
        to: &[Target],
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        self.engine().send(|machine, now| machine.send_list(now, to, channel, bytes, options)).await
    }

    /// The same if there is room now.
    pub fn try_send_list(
        &self,
        to: &[Target],
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        self.engine().try_send(|machine, now| machine.send_list(now, to, channel, bytes, options))
    }

    /// Logs out and waits until that is done. What was sent reliably before is still delivered, for a second at most; the
    /// word of it is repeated in case it is lost, which takes about a second more.
    ///
    /// Cancel safe: from the first poll on it logs out, in the background if this is dropped.
    pub async fn close(&self) {
        self.engine().close().await;
    }

    /// This client's id, once it is logged in.
    pub fn id(&self) -> Option<PeerId> {
        self.engine().look(Machine::id)
    }

    /// The groups that it is in.
    pub fn groups(&self) -> Vec<GroupId> {
        self.engine().look(|machine| machine.groups().collect())
    }

    /// What the server said of itself, once logged in.
    pub fn about(&self) -> Option<ServerAbout> {
        self.engine().look(Machine::about)
    }

    /// Everyone with whom it shares a group, and how traffic with each goes.
    pub fn peers(&self) -> Vec<PeerView> {
        self.engine().look(|machine| machine.peers().collect())
    }

    /// What was done for a direct path to a peer, and what came of it; `None` if there is no such peer.
    pub fn report(&self, peer: PeerId) -> Option<PeerReport> {
        self.engine().look(|machine| machine.report(peer))
    }

    /// Where a peer is looked for; none if there is no such peer.
    pub fn candidates(&self, peer: PeerId) -> Vec<CandidateReport> {
        self.engine().look(|machine| machine.candidates(peer).collect())
    }

    /// Which ways traffic with peers may go from now on, as far as this client has a say.
    pub fn restrict(&self, policy: PathPolicy) {
        self.engine().act(|machine, now| machine.restrict(now, policy));
    }

    /// The same for one peer, as long as a group is shared with it: [`PathPolicy::RELAY_ONLY`] forces the relay.
    pub fn restrict_peer(&self, peer: PeerId, policy: PathPolicy) -> Result<(), UnknownPeer> {
        self.engine().act(|machine, now| machine.restrict_peer(now, peer, policy))
    }

    /// The members of a group, this client included; nobody if it is in no such group.
    pub fn members(&self, group: GroupId) -> Vec<PeerId> {
        self.engine().look(|machine| machine.members(group).collect())
    }

    /// What the server's clock shows now, and how far off that may be; see [`posse_core::Client::server_time`].
    pub fn server_time(&self) -> Option<ServerTime> {
        self.engine().look_now(Machine::server_time)
    }

    /// By which leg everything between this client and its server goes, and why if it was not always that one.
    pub fn leg(&self) -> (Leg, Option<LegReason>) {
        self.engine().look(Machine::leg)
    }

    /// Smoothed round-trip time to the server.
    pub fn server_rtt(&self) -> Option<Duration> {
        self.engine().look(Machine::server_rtt)
    }

    /// The longest message that goes to a peer, or to the server, in one packet; `None` if there is no such peer.
    pub fn max_unreliable_len(&self, peer: PeerId) -> Option<usize> {
        self.engine().look(|machine| machine.max_unreliable_len(peer))
    }

    /// What messages take in memory, and the most they may.
    pub fn memory(&self) -> Memory {
        self.engine().look(Machine::memory)
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.engine().lock().driver.local_addr()
    }

    /// What went through the socket so far.
    pub fn stats(&self) -> DriverStats {
        self.engine().lock().driver.stats()
    }

    /// Why the recording ended early, if it did; told once.
    #[cfg(feature = "recorder")]
    pub fn recording_error(&self) -> Option<std::io::Error> {
        self.engine().lock().driver.recording_error()
    }

    /// Why the events ended, if that was the socket's fault.
    pub fn error(&self) -> Option<Arc<UpdateError>> {
        self.engine().error()
    }
}

/// What a client is told, in order.
pub struct ClientEvents {
    held: Arc<Held<Machine>>,
    payload: Vec<u8>,
    over: bool,
}

impl ClientEvents {
    /// The next thing to know; `None` after the end of the session was told, or when the socket broke.
    ///
    /// Cancel safe: an event is either returned or still there.
    pub async fn next(&mut self) -> Option<ClientEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for those who write futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        if self.over {
            return Poll::Ready(None);
        }
        let polled = self.held.0.poll_event(cx, &mut self.payload);
        if let Poll::Ready(None | Some(ClientEvent::Ended(_) | ClientEvent::LoginFailed(_))) = polled {
            self.over = true;
        }
        polled
    }

    /// The bytes of the message that was told last; empty if the last event was none.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}
