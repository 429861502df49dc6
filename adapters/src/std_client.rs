//! A client in a game's own loop.

use crate::driver::{Driver, DriverStats, UpdateError};
use crate::recording::{RecordError, Recording};
use crate::seed::{SeedError, aes_hardware, os_seed};
use crate::socket::{BindError, any_for};
use posse_core::client::{Client as Machine, Memory, PeerView, SendError, Sent, ServerTime, UnknownPeer};
use posse_core::config::{ClientConfig, ConfigError, Congestion, Limits, Timers};
use posse_core::secure::suites;
use posse_core::{
    CandidateReport, Channel, ClientEvent, GroupId, Instant, Leg, LegReason, Machine as _, PathPolicy, PeerId,
    PeerReport, SendOptions, To,
};
use std::net::SocketAddr;
use std::time::Duration;

/// What a client is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The server's public key, known beforehand: [`Server::public_key`](crate::Server::public_key).
    pub server_key: [u8; 32],
    /// Which application this is; a server of another one refuses the login.
    pub app: u64,
    /// Presented to the server's application, encrypted; at most 1,024 bytes.
    pub token: Vec<u8>,
    /// What a login server gave for this server, if it wants such: see [`posse_core::ticket`]. Empty for none.
    pub ticket: Vec<u8>,
    /// Where the socket is bound. By default any port on every address, of both families where the system has that.
    pub bind: SocketAddr,
    /// Its bounds.
    pub limits: Limits,
    /// Its times.
    pub timers: Timers,
    /// How it shares the network.
    pub congestion: Congestion,
    /// Which ways traffic with peers may go, as far as this client has a say.
    pub policy: PathPolicy,
    /// A file, not there yet, that the session is recorded in: every key and message of it, hence a secret.
    /// `cargo sim replay FILE` has it happen again.
    #[cfg(feature = "recorder")]
    pub record: Option<std::path::PathBuf>,
}

impl ClientOptions {
    /// A client of `server` with no token and everything else by default.
    pub fn new(server: SocketAddr, server_key: [u8; 32], app: u64) -> Self {
        Self {
            server,
            server_key,
            app,
            token: Vec::new(),
            ticket: Vec::new(),
            bind: any_for(server),
            limits: Limits::default(),
            timers: Timers::default(),
            congestion: Congestion::default(),
            policy: PathPolicy::default(),
            #[cfg(feature = "recorder")]
            record: None,
        }
    }

    /// With this ticket for the server.
    pub fn ticket(mut self, ticket: impl Into<Vec<u8>>) -> Self {
        self.ticket = ticket.into();
        self
    }

    /// With this token for the server's application.
    pub fn token(mut self, token: impl Into<Vec<u8>>) -> Self {
        self.token = token.into();
        self
    }

    /// With the socket bound here.
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.bind = addr;
        self
    }
}

impl ClientOptions {
    /// The machine on its socket.
    pub(crate) fn driver(self) -> Result<Driver<Machine>, ConnectError> {
        let mut config = ClientConfig::new(self.server, self.server_key, self.app, os_seed()?);
        config.token = self.token;
        config.ticket = self.ticket;
        config.suites = suites(aes_hardware());
        config.limits = self.limits;
        config.timers = self.timers;
        config.congestion = self.congestion;
        config.policy = self.policy;
        #[cfg(feature = "recorder")]
        let wish = self.record.map(|file| (file, posse_record::Construction::Client(Box::new(config.clone()))));
        #[cfg_attr(not(feature = "recorder"), expect(unused_mut, reason = "nothing taps it"))]
        let mut machine = Machine::new(Instant::ZERO, config)?;
        #[cfg(feature = "recorder")]
        let recording = Recording::begin(&mut machine, wish)?;
        #[cfg(not(feature = "recorder"))]
        let recording = Recording::default();
        Ok(Driver::begin(self.bind, machine, recording)?)
    }
}

/// Why a client could not begin. That the server does not answer or says no comes later, as
/// [`ClientEvent::LoginFailed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The socket could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No random bytes, no keys.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The session was to be recorded, and cannot be.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A client over a real socket. It logs out when dropped.
///
/// Once a frame: [`Self::update`], then [`Self::next_event`] until there is none, sends, and [`Self::flush`].
pub struct Client {
    driver: Driver<Machine>,
}

impl Client {
    /// Binds a socket and begins to log in. Does not wait: [`ClientEvent::LoggedIn`] tells when it is done.
    pub fn connect(options: ClientOptions) -> Result<Self, ConnectError> {
        Ok(Self { driver: options.driver()? })
    }

    /// Catches up with the network and the clock, within bounds and without waiting.
    pub fn update(&mut self) -> Result<(), UpdateError> {
        self.driver.update()
    }

    /// The next thing to know. A message's bytes are put into `payload`, which is cleared first.
    pub fn next_event(&mut self, payload: &mut Vec<u8>) -> Option<ClientEvent> {
        let now = self.driver.latest();
        self.driver.machine_mut().poll_event(now, payload)
    }

    /// Sends a message to several peers and groups, one copy each: see [`posse_core::Client::send_list`].
    pub fn send_list(
        &mut self,
        to: &[posse_core::Target],
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        let now = self.driver.now();
        self.driver.machine_mut().send_list(now, to, channel, bytes, options)
    }

    /// The groups that it is in.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.driver.machine().groups()
    }

    /// What the server said of itself, once logged in.
    pub fn about(&self) -> Option<posse_core::client::ServerAbout> {
        self.driver.machine().about()
    }

    /// Sends a message to a peer, a group or [`PeerId::SERVER`]; it leaves with the next flush or update.
    pub fn send(&mut self, to: impl Into<To>, channel: Channel, bytes: &[u8]) -> Result<Sent, SendError> {
        self.send_with(to, channel, bytes, SendOptions::default())
    }

    /// The same with options.
    pub fn send_with(
        &mut self,
        to: impl Into<To>,
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        let now = self.driver.now();
        self.driver.machine_mut().send(now, to, channel, bytes, options)
    }

    /// Puts on the wire at once what was sent since the last update.
    pub fn flush(&mut self) {
        self.driver.flush();
    }

    /// For a program without frames: sleeps until there is something to update or poll, or `max` is over.
    pub fn wait(&mut self, max: Duration) {
        if !self.driver.machine().has_events() {
            self.driver.wait(max);
        }
    }

    /// Logs out. What was sent reliably before is still delivered, for a second at most, while [`Self::update`] is called; then
    /// the server and the peers learn of it. Called again, or dropped, the client does not wait for that.
    pub fn disconnect(&mut self) {
        let now = self.driver.now();
        self.driver.machine_mut().disconnect(now);
        self.driver.flush();
    }

    /// Whether it has nothing to do or say by itself, now or later: it is over, and so is its goodbye.
    pub fn is_quiet(&self) -> bool {
        self.driver.machine().wake().is_none()
    }

    /// This client's id, once it is logged in.
    pub fn id(&self) -> Option<PeerId> {
        self.driver.machine().id()
    }

    /// Everyone with whom it shares a group, and how traffic with each goes.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.driver.machine().peers()
    }

    /// What was done for a direct path to a peer, and what came of it; `None` if there is no such peer.
    pub fn report(&self, peer: PeerId) -> Option<PeerReport> {
        self.driver.machine().report(peer)
    }

    /// Where a peer is looked for; none if there is no such peer.
    pub fn candidates(&self, peer: PeerId) -> impl Iterator<Item = CandidateReport> + '_ {
        self.driver.machine().candidates(peer)
    }

    /// Which ways traffic with peers may go from now on, as far as this client has a say.
    pub fn restrict(&mut self, policy: PathPolicy) {
        let now = self.driver.now();
        self.driver.machine_mut().restrict(now, policy);
    }

    /// The same for one peer, as long as a group is shared with it: [`PathPolicy::RELAY_ONLY`] forces the relay.
    pub fn restrict_peer(&mut self, peer: PeerId, policy: PathPolicy) -> Result<(), UnknownPeer> {
        let now = self.driver.now();
        self.driver.machine_mut().restrict_peer(now, peer, policy)
    }

    /// The members of a group, this client included; nobody if it is in no such group.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = PeerId> + '_ {
        self.driver.machine().members(group)
    }

    /// What the server's clock shows now, and how far off that may be; see [`posse_core::Client::server_time`].
    pub fn server_time(&self) -> Option<ServerTime> {
        self.driver.machine().server_time(self.driver.now())
    }

    /// By which leg everything between this client and its server goes, and why if it was not always that one.
    pub fn leg(&self) -> (Leg, Option<LegReason>) {
        self.driver.machine().leg()
    }

    /// Smoothed round-trip time to the server.
    pub fn server_rtt(&self) -> Option<Duration> {
        self.driver.machine().server_rtt()
    }

    /// The longest message that goes to a peer, or to the server, in one packet the way traffic with it goes now; an unreliable
    /// one that is longer is lost if any of its packets is. `None` if there is no such peer.
    pub fn max_unreliable_len(&self, peer: PeerId) -> Option<usize> {
        self.driver.machine().max_unreliable_len(peer)
    }

    /// What messages take in memory, and the most they may.
    pub fn memory(&self) -> Memory {
        self.driver.machine().memory()
    }

    /// Why the recording ended early, if it did; told once.
    #[cfg(feature = "recorder")]
    pub fn recording_error(&self) -> Option<std::io::Error> {
        self.driver.recording_error()
    }

    /// Where the socket is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.driver.local_addr()
    }

    /// What went through the socket so far.
    pub fn stats(&self) -> DriverStats {
        self.driver.stats()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.disconnect();
        // Nobody drives it any more: the word of it goes out now, whatever was acknowledged.
        self.disconnect();
    }
}
