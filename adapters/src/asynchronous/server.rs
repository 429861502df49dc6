//! A server as handles and an event stream.

use super::engine::{Engine, Held, Role};
use crate::driver::{DriverStats, UpdateError};
use crate::rooms::Host;
use crate::socket::BindError;
use crate::{ServeError, ServerOptions};
use posse_core::client::{Memory, SendError, Sent};
use posse_core::server::{
    AcceptError, CreateGroupError, DestroyError, GroupOptions, HostRank, HostWeights, JoinError, LeaveError,
    NatBehaviour, PolicyError, Server as Machine, ServerCounters, ServerSize, TimeoutError, UnknownClient,
};
use posse_core::{
    Channel, GroupId, Instant, Leg, LoginId, PairReport, Path, PathPolicy, PeerId, SendOptions, ServerEvent, Target, To,
};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

impl Role for Machine {
    type Event = ServerEvent;
    const QUIET_IS_OVER: bool = false;

    fn poll(&mut self, now: Instant, payload: &mut Vec<u8>) -> Option<ServerEvent> {
        self.poll_event(now, payload)
    }

    fn has_events(&self) -> bool {
        Self::has_events(self)
    }

    fn end(&mut self, now: Instant) {
        for client in self.clients().collect::<Vec<_>>() {
            // They are its own clients.
            let _ = self.disconnect(now, client);
        }
    }
}

/// A server. Clones are handles to the same one; it ends its clients' sessions when the last of them and the events are
/// dropped.
#[derive(Clone)]
pub struct Server(Arc<Held<Machine>>);

impl Server {
    /// Binds `addr` and serves. Waits for nothing; it is `async` because it needs the runtime that it is called in, with its
    /// I/O and time enabled.
    pub async fn bind(addr: SocketAddr, options: ServerOptions) -> Result<(Self, ServerEvents), ServeError> {
        let driver = options.driver(addr)?;
        let held = Engine::start(driver).map_err(|source| BindError::Other { addr, source })?;
        Ok((Self(Arc::clone(&held)), ServerEvents { held, payload: Vec::new() }))
    }

    fn engine(&self) -> &Engine<Machine> {
        &self.0.0
    }

    /// The key that clients are to be given.
    pub fn public_key(&self) -> [u8; 32] {
        self.engine().look(Machine::public_key)
    }

    /// Lets a login in. Its peers will see `user_data` in their join events, itself `message` in its login event.
    pub fn accept(&self, login: LoginId, user_data: &[u8], message: &[u8]) -> Result<PeerId, AcceptError> {
        self.engine().act(|machine, now| machine.accept(now, login, user_data, message))
    }

    /// Turns a login away with a word to its application.
    pub fn reject(&self, login: LoginId, message: &[u8]) -> Result<(), AcceptError> {
        self.engine().act(|machine, now| machine.reject(now, login, message))
    }

    /// Lets nobody in any more, or again: see [`posse_core::Server::drain`].
    pub fn drain(&self, on: bool) {
        self.engine().act(|machine, now| machine.drain(now, on));
    }

    /// Ends a client's session.
    pub fn disconnect(&self, client: PeerId) -> Result<(), UnknownClient> {
        self.engine().act(|machine, now| machine.disconnect(now, client))
    }

    /// How long this client may be silent from now on; see [`posse_core::Server::set_timeout`].
    pub fn set_timeout(&self, client: PeerId, timeout: Duration) -> Result<(), TimeoutError> {
        self.engine().act(|machine, now| machine.set_timeout(now, client, timeout))
    }

    /// Makes a group. Its members can message one another as soon as they learn of it.
    pub fn create_group(&self, members: &[PeerId], options: GroupOptions<'_>) -> Result<GroupId, CreateGroupError> {
        self.engine().act(|machine, now| machine.create_group(now, members, options))
    }

    /// Adds a member; `message` goes into the join events.
    pub fn join_group(&self, member: PeerId, group: GroupId, message: &[u8]) -> Result<(), JoinError> {
        self.engine().act(|machine, now| machine.join_group(now, member, group, message))
    }

    /// Takes a member out.
    pub fn leave_group(&self, member: PeerId, group: GroupId) -> Result<(), LeaveError> {
        self.engine().act(|machine, now| machine.leave_group(now, member, group))
    }

    /// Ends a group.
    pub fn destroy_group(&self, group: GroupId) -> Result<(), DestroyError> {
        self.engine().act(|machine, now| machine.destroy_group(now, group))
    }

    /// Ends all groups that have no members, and says how many there were.
    pub fn destroy_empty_groups(&self) -> usize {
        self.engine().act(|machine, now| machine.destroy_empty_groups(now))
    }

    /// Sends a message to a client, or to a group that the server is a member of, and waits while there is no room for it.
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

    /// Sends a message if there is room for it now; [`ServerEvent::Writable`] tells when there is again.
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

    /// Sends a message to several clients and groups, one copy each, and waits while there is no room for all of them: see
    /// [`posse_core::Server::send_list`]. Cancel safe in the same way.
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

    /// Ends all sessions and waits until that is done. What was sent reliably before is still delivered, for a second at
    /// most; the word of it is repeated in case it is lost, which takes about a second more. The events end with it.
    ///
    /// Cancel safe: from the first poll on the server closes, in the background if this is dropped.
    pub async fn close(&self) {
        self.engine().close().await;
    }

    /// The clients that are logged in.
    pub fn clients(&self) -> Vec<PeerId> {
        self.engine().look(|machine| machine.clients().collect())
    }

    /// The members of a group.
    pub fn members(&self, group: GroupId) -> Vec<PeerId> {
        self.engine().look(|machine| machine.members(group).collect())
    }

    /// All groups.
    pub fn groups(&self) -> Vec<GroupId> {
        self.engine().look(|machine| machine.groups().collect())
    }

    /// The group that goes by this number now, if any does: see [`GroupOptions::number`].
    pub fn group_numbered(&self, number: u32) -> Option<GroupId> {
        self.engine().look(|machine| machine.group_numbered(number))
    }

    /// The clients with which a client shares a group, each once.
    pub fn peers_of(&self, client: PeerId) -> Vec<PeerId> {
        self.engine().look(|machine| machine.peers_of(client).collect())
    }

    /// The round-trip time between two clients the way that traffic goes now, and whether that is directly.
    pub fn pair_rtt(&self, a: PeerId, b: PeerId) -> Option<(Duration, bool)> {
        self.engine().look(|machine| machine.pair_rtt(a, b))
    }

    /// The members of a group as hosts, the best first: see [`posse_core::Server::rank_hosts`].
    pub fn rank_hosts(&self, group: GroupId, weights: HostWeights) -> Vec<HostRank> {
        self.engine().look(|machine| machine.rank_hosts(group, weights))
    }

    /// How the NAT in front of a client behaves, as far as [`ServerOptions::doors`] could tell.
    pub fn nat(&self, client: PeerId) -> Option<NatBehaviour> {
        self.engine().act(|machine, now| machine.nat(now, client))
    }

    /// How traffic between two clients goes, as last reported.
    pub fn path(&self, a: PeerId, b: PeerId) -> Option<Path> {
        self.engine().look(|machine| machine.path(a, b))
    }

    /// By which leg a client's packets travel; `None` if there is no such client.
    pub fn leg(&self, client: PeerId) -> Option<Leg> {
        self.engine().look(|machine| machine.leg(client))
    }

    /// What was done for a direct path between two clients, and what came of it; `None` if they share no group.
    pub fn report(&self, a: PeerId, b: PeerId) -> Option<PairReport> {
        self.engine().look(|machine| machine.report(a, b))
    }

    /// Which ways traffic among a group's members may go from now on.
    pub fn set_group_policy(&self, group: GroupId, policy: PathPolicy) -> Result<(), PolicyError> {
        self.engine().act(|machine, now| machine.set_group_policy(now, group, policy))
    }

    /// Which ways traffic between two clients may go from now on, beside what their groups say: [`PathPolicy::RELAY_ONLY`]
    /// forces the relay.
    pub fn set_pair_policy(&self, a: PeerId, b: PeerId, policy: PathPolicy) -> Result<(), PolicyError> {
        self.engine().act(|machine, now| machine.set_pair_policy(now, a, b, policy))
    }

    /// The longest message that goes to a client in one packet; `None` if there is no such client.
    pub fn max_unreliable_len(&self, client: PeerId) -> Option<usize> {
        self.engine().look(|machine| machine.max_unreliable_len(client))
    }

    /// What messages take in memory, and the most they may.
    pub fn memory(&self) -> Memory {
        self.engine().look(Machine::memory)
    }

    /// What came in and was not used, and what was forwarded.
    pub fn counters(&self) -> ServerCounters {
        self.engine().look(Machine::counters)
    }

    /// How much it holds.
    pub fn size(&self) -> ServerSize {
        self.engine().look(Machine::size)
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

impl Host for Server {
    fn accept(&mut self, login: LoginId, user_data: &[u8], message: &[u8]) -> Result<PeerId, AcceptError> {
        Self::accept(self, login, user_data, message)
    }

    fn reject(&mut self, login: LoginId, message: &[u8]) -> Result<(), AcceptError> {
        Self::reject(self, login, message)
    }

    fn disconnect(&mut self, client: PeerId) {
        // Whoever has no session any more is gone already.
        let _ = Self::disconnect(self, client);
    }

    fn create_group(&mut self, members: &[PeerId], options: GroupOptions<'_>) -> Result<GroupId, CreateGroupError> {
        Self::create_group(self, members, options)
    }

    fn join_group(&mut self, member: PeerId, group: GroupId, message: &[u8]) -> Result<(), JoinError> {
        Self::join_group(self, member, group, message)
    }
}

/// What a server is told, in order.
pub struct ServerEvents {
    held: Arc<Held<Machine>>,
    payload: Vec<u8>,
}

impl ServerEvents {
    /// The next thing to know; `None` once the server is closed and everything was told, or when the socket broke.
    ///
    /// Cancel safe: an event is either returned or still there.
    pub async fn next(&mut self) -> Option<ServerEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for those who write futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        self.held.0.poll_event(cx, &mut self.payload)
    }

    /// The bytes of the message that was told last; empty if the last event was none.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}
