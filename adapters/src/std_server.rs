//! A server in a program's own loop.

use crate::driver::{Driver, DriverStats, UpdateError};
use crate::recording::{RecordError, Recording};
use crate::seed::{SeedError, aes_hardware, os_seed};
use crate::socket::BindError;
use posse_core::client::{Memory, SendError, Sent};
use posse_core::config::{
    Admission, ConfigError, Congestion, Doors, Limits, ServerConfig, Techniques, Tickets, Timers,
};
use posse_core::secure::suites;
use posse_core::server::{
    AcceptError, CreateGroupError, DestroyError, GroupOptions, HostRank, HostWeights, JoinError, LeaveError,
    NatBehaviour, PolicyError, Server as Machine, ServerCounters, ServerSize, TimeoutError, UnknownClient,
};
use posse_core::{
    Channel, GroupId, Instant, Leg, LoginId, Machine as _, PairReport, Path, PathPolicy, PeerId, SendOptions,
    ServerEvent, Target, To,
};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// What a server is told.
#[derive(Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The server's secret key. Clients know its public half beforehand, so keep it over restarts; [`os_seed`] makes one.
    pub key: [u8; 32],
    /// Another one that clients may use as well: the one before, while not all have heard of the new one, or the next.
    pub second_key: Option<[u8; 32]>,
    /// Which application this is; clients of another one are refused.
    pub app: u64,
    /// Its bounds.
    pub limits: Limits,
    /// Its times.
    pub timers: Timers,
    /// How it shares the network.
    pub congestion: Congestion,
    /// Which ways traffic among a group's members may go, unless its own options say otherwise.
    pub policy: PathPolicy,
    /// A file, not there yet, that the session is recorded in: every key and message of it, hence a secret.
    /// `cargo sim replay FILE` has it happen again.
    #[cfg(feature = "recorder")]
    pub record: Option<std::path::PathBuf>,
    /// Other addresses of this server, by which it learns how clients' NATs behave; they are bound, too. The second port is
    /// bound at the address that the server is bound to. A second address needs the server to be bound to one address, not
    /// to all. With none, only plain hole punching is done.
    pub doors: Doors,
    /// What clients try where plain hole punching leads nowhere.
    pub techniques: Techniques,
    /// Where clients can reach it, told to each of them: for a server behind a NAT or a load balancer. At most 8.
    pub advertised_addrs: Vec<SocketAddr>,
    /// The IPv6 address at which clients that come by IPv4 are asked to show that they have IPv6, too, so that they can reach each other
    /// by it. `None`: this host's own, if the server is bound to `[::]`, which carries both, and the host has one that is global.
    pub ipv6: Option<Ipv6Addr>,
    /// How many logins are read.
    pub admission: Admission,
    /// Whether clients need a ticket, and which are good. `None`: they need none.
    pub tickets: Option<Tickets>,
    /// Whether clients whose UDP does not get through may come by TCP, to the same port number.
    pub tcp: bool,
}

impl ServerOptions {
    /// A server with this secret key and everything else by default.
    pub fn new(key: [u8; 32], app: u64) -> Self {
        Self {
            key,
            second_key: None,
            app,
            limits: Limits::default(),
            timers: Timers::default(),
            congestion: Congestion::default(),
            policy: PathPolicy::default(),
            #[cfg(feature = "recorder")]
            record: None,
            doors: Doors::default(),
            techniques: Techniques::default(),
            advertised_addrs: Vec::new(),
            ipv6: None,
            admission: Admission::default(),
            tickets: None,
            tcp: true,
        }
    }
}

impl ServerOptions {
    /// The machine on its socket.
    pub(crate) fn driver(self, addr: SocketAddr) -> Result<Driver<Machine>, ServeError> {
        let mut config = ServerConfig::new(self.key, self.app, os_seed()?);
        config.suites = suites(aes_hardware());
        config.limits = self.limits;
        config.timers = self.timers;
        config.congestion = self.congestion;
        config.policy = self.policy;
        config.doors = self.doors;
        config.techniques = self.techniques;
        config.second_key = self.second_key;
        config.admission = self.admission;
        config.advertised_addrs = self.advertised_addrs;
        config.tickets = self.tickets;
        let chosen = if self.tcp && addr.port() == 0 { crate::streams::free_for_both(addr) } else { None };
        let port = chosen.unwrap_or(addr).port();
        let ipv6 = self.ipv6.or_else(|| crate::socket::global_ipv6(addr)).filter(|_| port != 0);
        config.ipv6 = ipv6.map(|ip| SocketAddrV6::new(ip, port, 0, 0));
        #[cfg(feature = "recorder")]
        let wish = self.record.map(|file| (file, posse_record::Construction::Server(Box::new(config.clone()))));
        #[cfg_attr(not(feature = "recorder"), expect(unused_mut, reason = "nothing taps it"))]
        let mut machine = Machine::new(Instant::ZERO, config)?;
        #[cfg(feature = "recorder")]
        let recording = Recording::begin(&mut machine, wish)?;
        #[cfg(not(feature = "recorder"))]
        let recording = Recording::default();
        let mut driver = Driver::begin(chosen.unwrap_or(addr), machine, recording)?;
        if self.tcp {
            driver.listen()?;
        }
        for (id, door) in self.doors.iter() {
            let second_port = self.doors.second_port == Some(door);
            driver.bind_more(id, if second_port { SocketAddr::new(addr.ip(), door.port()) } else { door })?;
        }
        Ok(driver)
    }
}

/// Why a server could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
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

/// A server over a real socket.
///
/// In a loop: [`Self::update`], then [`Self::next_event`] until there is none, whatever is to be done, [`Self::flush`],
/// and [`Self::wait`].
pub struct Server {
    driver: Driver<Machine>,
}

impl Server {
    /// Binds `addr` and serves.
    pub fn bind(addr: SocketAddr, options: ServerOptions) -> Result<Self, ServeError> {
        Ok(Self { driver: options.driver(addr)? })
    }

    /// How the NAT in front of a client behaves, as far as [`ServerOptions::doors`] could tell.
    pub fn nat(&self, client: PeerId) -> Option<NatBehaviour> {
        self.driver.machine().nat(self.driver.now(), client)
    }

    /// The key that clients are to be given.
    pub fn public_key(&self) -> [u8; 32] {
        self.driver.machine().public_key()
    }

    /// Catches up with the network and the clock, within bounds and without waiting.
    pub fn update(&mut self) -> Result<(), UpdateError> {
        self.driver.update()
    }

    /// The next thing to know. A message's bytes are put into `payload`, which is cleared first.
    pub fn next_event(&mut self, payload: &mut Vec<u8>) -> Option<ServerEvent> {
        let now = self.driver.latest();
        self.driver.machine_mut().poll_event(now, payload)
    }

    /// Lets a login in. Its peers will see `user_data` in their join events, itself `message` in its login event.
    pub fn accept(&mut self, login: LoginId, user_data: &[u8], message: &[u8]) -> Result<PeerId, AcceptError> {
        let now = self.driver.now();
        self.driver.machine_mut().accept(now, login, user_data, message)
    }

    /// Turns a login away with a word to its application.
    pub fn reject(&mut self, login: LoginId, message: &[u8]) -> Result<(), AcceptError> {
        let now = self.driver.now();
        self.driver.machine_mut().reject(now, login, message)
    }

    /// Lets nobody in any more, or again: see [`posse_core::Server::drain`].
    pub fn drain(&mut self, on: bool) {
        let now = self.driver.now();
        self.driver.machine_mut().drain(now, on);
    }

    /// Ends a client's session.
    pub fn disconnect(&mut self, client: PeerId) -> Result<(), UnknownClient> {
        let now = self.driver.now();
        self.driver.machine_mut().disconnect(now, client)
    }

    /// How long this client may be silent from now on; see [`posse_core::Server::set_timeout`].
    pub fn set_timeout(&mut self, client: PeerId, timeout: Duration) -> Result<(), TimeoutError> {
        let now = self.driver.now();
        self.driver.machine_mut().set_timeout(now, client, timeout)
    }

    /// Makes a group. Its members can message one another as soon as they learn of it.
    pub fn create_group(&mut self, members: &[PeerId], options: GroupOptions<'_>) -> Result<GroupId, CreateGroupError> {
        let now = self.driver.now();
        self.driver.machine_mut().create_group(now, members, options)
    }

    /// Adds a member; `message` goes into the join events.
    pub fn join_group(&mut self, member: PeerId, group: GroupId, message: &[u8]) -> Result<(), JoinError> {
        let now = self.driver.now();
        self.driver.machine_mut().join_group(now, member, group, message)
    }

    /// Takes a member out.
    pub fn leave_group(&mut self, member: PeerId, group: GroupId) -> Result<(), LeaveError> {
        let now = self.driver.now();
        self.driver.machine_mut().leave_group(now, member, group)
    }

    /// Ends a group.
    pub fn destroy_group(&mut self, group: GroupId) -> Result<(), DestroyError> {
        let now = self.driver.now();
        self.driver.machine_mut().destroy_group(now, group)
    }

    /// Sends a message to several clients and groups, one copy each: see [`posse_core::Server::send_list`].
    pub fn send_list(
        &mut self,
        to: &[Target],
        channel: Channel,
        bytes: &[u8],
        options: SendOptions,
    ) -> Result<Sent, SendError> {
        let now = self.driver.now();
        self.driver.machine_mut().send_list(now, to, channel, bytes, options)
    }

    /// Ends all groups that have no members, and says how many there were.
    pub fn destroy_empty_groups(&mut self) -> usize {
        let now = self.driver.now();
        self.driver.machine_mut().destroy_empty_groups(now)
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.driver.machine().groups()
    }

    /// The group that goes by this number now, if any does: see [`GroupOptions::number`].
    pub fn group_numbered(&self, number: u32) -> Option<GroupId> {
        self.driver.machine().group_numbered(number)
    }

    /// The clients with which a client shares a group, each once.
    pub fn peers_of(&self, client: PeerId) -> impl Iterator<Item = PeerId> + use<> {
        self.driver.machine().peers_of(client)
    }

    /// The round-trip time between two clients the way that traffic goes now, and whether that is directly.
    pub fn pair_rtt(&self, a: PeerId, b: PeerId) -> Option<(Duration, bool)> {
        self.driver.machine().pair_rtt(a, b)
    }

    /// The members of a group as hosts, the best first: see [`posse_core::Server::rank_hosts`].
    pub fn rank_hosts(&self, group: GroupId, weights: HostWeights) -> Vec<HostRank> {
        self.driver.machine().rank_hosts(group, weights)
    }

    /// Sends a message to a client, or to a group that the server is a member of; it leaves with the next flush or update.
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

    /// The longest message that goes to a client in one packet; an unreliable one that is longer is lost if any of its
    /// packets is. `None` if there is no such client.
    pub fn max_unreliable_len(&self, client: PeerId) -> Option<usize> {
        self.driver.machine().max_unreliable_len(client)
    }

    /// What messages take in memory, and the most they may.
    pub fn memory(&self) -> Memory {
        self.driver.machine().memory()
    }

    /// Puts on the wire at once what was done since the last update.
    pub fn flush(&mut self) {
        self.driver.flush();
    }

    /// Sleeps until there is something to update or poll, or `max` is over.
    pub fn wait(&mut self, max: Duration) {
        if !self.driver.machine().has_events() {
            self.driver.wait(max);
        }
    }

    /// The clients that are logged in.
    pub fn clients(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.driver.machine().clients()
    }

    /// The members of a group.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = PeerId> + '_ {
        self.driver.machine().members(group)
    }

    /// How traffic between two clients goes, as last reported.
    pub fn path(&self, a: PeerId, b: PeerId) -> Option<Path> {
        self.driver.machine().path(a, b)
    }

    /// By which leg a client's packets travel; `None` if there is no such client.
    pub fn leg(&self, client: PeerId) -> Option<Leg> {
        self.driver.machine().leg(client)
    }

    /// What was done for a direct path between two clients, and what came of it; `None` if they share no group.
    pub fn report(&self, a: PeerId, b: PeerId) -> Option<PairReport> {
        self.driver.machine().report(a, b)
    }

    /// Which ways traffic among a group's members may go from now on.
    pub fn set_group_policy(&mut self, group: GroupId, policy: PathPolicy) -> Result<(), PolicyError> {
        let now = self.driver.now();
        self.driver.machine_mut().set_group_policy(now, group, policy)
    }

    /// Which ways traffic between two clients may go from now on, beside what their groups say: [`PathPolicy::RELAY_ONLY`]
    /// forces the relay.
    pub fn set_pair_policy(&mut self, a: PeerId, b: PeerId, policy: PathPolicy) -> Result<(), PolicyError> {
        let now = self.driver.now();
        self.driver.machine_mut().set_pair_policy(now, a, b, policy)
    }

    /// Whether it has nothing to do or say by itself, now or later: no client, and nobody left to say goodbye to.
    pub fn is_quiet(&self) -> bool {
        self.driver.machine().wake().is_none()
    }

    /// What came in and was not used, and what was forwarded.
    pub fn counters(&self) -> ServerCounters {
        self.driver.machine().counters()
    }

    /// How much it holds.
    pub fn size(&self) -> ServerSize {
        self.driver.machine().size()
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

impl crate::rooms::Host for Server {
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
