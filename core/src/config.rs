//! What a client and a server are told at construction, and the bounds of both. Every bound has its reason beside it.

mod admission;

pub use admission::{Admission, Rate, RelayBudget, Tickets};

use crate::ids::SocketId;
use crate::policy::PathPolicy;
use crate::secure::Crypto;
use crate::time::Duration;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{SocketAddr, SocketAddrV6};
use thiserror::Error;

/// What a client is told at construction.
#[derive(Clone)]
pub struct ClientConfig {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The server's public key, known beforehand; see [`crate::secure::public_key`].
    pub server_key: [u8; 32],
    /// Which application this is; a server of another one refuses the login.
    pub app: u64,
    /// Presented to the server's application under the session's keys; at most 1,024 bytes.
    pub token: Vec<u8>,
    /// What a login server gave for this server, if it wants such: see [`crate::ticket`]. Empty for none.
    pub ticket: Vec<u8>,
    /// Source of all randomness and keys of this client: 32 bytes from the operating system, used once.
    pub seed: [u8; 32],
    /// Cipher suites that it can use; see [`crate::secure::suites`].
    pub suites: Vec<Arc<dyn Crypto>>,
    /// Its bounds.
    pub limits: Limits,
    /// Its times.
    pub timers: Timers,
    /// How it shares the network, on the link to the server and on those to peers.
    pub congestion: Congestion,
    /// Which ways traffic with peers may go, as far as this client has a say.
    pub policy: PathPolicy,
}

impl ClientConfig {
    /// A client with default bounds and portable suites and no token.
    pub fn new(server: SocketAddr, server_key: [u8; 32], app: u64, seed: [u8; 32]) -> Self {
        Self {
            server,
            server_key,
            app,
            token: Vec::new(),
            ticket: Vec::new(),
            seed,
            suites: crate::secure::suites(false),
            limits: Limits::default(),
            timers: Timers::default(),
            congestion: Congestion::default(),
            policy: PathPolicy::default(),
        }
    }
}

/// What a server is told at construction.
#[derive(Clone)]
pub struct ServerConfig {
    /// The server's secret key, kept over restarts; its public half is given to clients.
    pub key: [u8; 32],
    /// Another one that clients may use as well: the one before, while not all have heard of the new one, or the next.
    pub second_key: Option<[u8; 32]>,
    /// Which application this is.
    pub app: u64,
    /// Source of all randomness and keys of this server: 32 bytes from the operating system, used once.
    pub seed: [u8; 32],
    /// Cipher suites that it can use.
    pub suites: Vec<Arc<dyn Crypto>>,
    /// Its bounds.
    pub limits: Limits,
    /// Its times.
    pub timers: Timers,
    /// How it shares the network, on every link to a client.
    pub congestion: Congestion,
    /// Its other addresses.
    pub doors: Doors,
    /// What it has clients try where plain punching leads nowhere.
    pub techniques: Techniques,
    /// Where clients can reach it, told to each of them: for a server behind a NAT or a load balancer, which cannot know. At
    /// most 8; they need not be different from what a client has.
    pub advertised_addrs: Vec<SocketAddr>,
    /// Where its main socket hears by IPv6, if it hears by IPv4 as well. Clients that came by IPv4 are asked to show an IPv6 address of
    /// theirs there, at which peers that have one, too, can reach them. `None`: IPv6 is for those who log in by it.
    pub ipv6: Option<SocketAddrV6>,
    /// How many logins it reads.
    pub admission: Admission,
    /// Whether clients need a ticket, and which are good. `None`: they need none.
    pub tickets: Option<Tickets>,
    /// Which ways traffic among a group's members may go, unless its own options say otherwise.
    pub policy: PathPolicy,
}

/// Other addresses of a server, as clients reach them, by which it learns how their NATs behave. They serve nothing else. The
/// driver opens a socket for each that there is, named by [`Doors::SOCKETS`], beside the main one.
///
/// With none, nothing is known of NATs, and only plain punching is done. With a second port alone, a NAT that gives each
/// destination *address* a port of its own looks like one that gives all the same: that is then not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Doors {
    /// The main address, with another port. `0.0.0.0` or `[::]` is the address that the client has for the server.
    pub second_port: Option<SocketAddr>,
    /// Another address.
    pub second_address: Option<SocketAddr>,
    /// That other address, with another port than there.
    pub second_address_port: Option<SocketAddr>,
}

impl Doors {
    /// By which sockets datagrams to the doors come, in the order of the fields.
    pub const SOCKETS: [SocketId; 3] = [SocketId(1), SocketId(2), SocketId(3)];

    /// Each door that there is, with its socket.
    pub fn iter(&self) -> impl Iterator<Item = (SocketId, SocketAddr)> {
        let all = [self.second_port, self.second_address, self.second_address_port];
        Self::SOCKETS.into_iter().zip(all).filter_map(|(socket, addr)| Some((socket, addr?)))
    }
}

/// What a server has clients try, within [`SearchLimits`], where plain punching leads nowhere and what it knows of both NATs
/// says that it can help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Techniques {
    /// Ports that follow those which the NAT gave out just before.
    pub prediction: bool,
    /// Many sockets at one end, many ports at the other: the birthday paradox.
    pub birthday: bool,
    /// New sockets whose first packets open their own NATs and die before they are at the other's, for routers that answer what
    /// comes unasked by spoiling the hole.
    pub openers: bool,
    /// Ports of one public address that all clients together try in a minute. Others may be behind it too: four whole searches
    /// are 140 small datagrams a second, less than one download.
    pub probes_an_address: u32,
}

impl Default for Techniques {
    fn default() -> Self {
        Self { prediction: true, birthday: true, openers: true, probes_an_address: 4 * 2_048 }
    }
}

impl ServerConfig {
    /// A server with default bounds and portable suites.
    pub fn new(key: [u8; 32], app: u64, seed: [u8; 32]) -> Self {
        Self {
            key,
            second_key: None,
            app,
            seed,
            suites: crate::secure::suites(false),
            limits: Limits::default(),
            timers: Timers::default(),
            congestion: Congestion::default(),
            admission: Admission::default(),
            advertised_addrs: Vec::new(),
            ipv6: None,
            tickets: None,
            doors: Doors::default(),
            techniques: Techniques::default(),
            policy: PathPolicy::default(),
        }
    }
}

/// Congestion control. It is each sender's own choice: two ends need not agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Congestion {
    /// What decides over windows and rates.
    pub algorithm: Algorithm,
    /// Windows shrink a little and stop growing where packets have stood for longer than this in a queue for two round
    /// trips, unless somebody else fills it whatever this end does. `None`: they grow until packets are lost, which on a
    /// link with deep buffers is seconds of delay. 50 ms is what a player does not notice beside a usual round trip.
    pub delay_guard: Option<Duration>,
    /// Whether slow start ends when round trips rise (HyStart++, RFC 9406), or only with a loss.
    pub hystart: bool,
    /// Whether packets are marked as ECN capable (RFC 3168), where path and peer keep the marks.
    pub ecn: bool,
}

impl Default for Congestion {
    fn default() -> Self {
        Self { algorithm: Algorithm::Cubic, delay_guard: Some(Duration::from_millis(50)), hystart: true, ecn: true }
    }
}

/// What decides over a path's window and rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// CUBIC (RFC 9438): every loss means congestion. What the internet runs on, hence fair to all, and the default.
    #[default]
    Cubic,
    /// Tells losses by congestion from losses by chance (radio) by whether a queue stands or the delivery rate stalls. As
    /// CUBIC where losses mean congestion; keeps its rate where they do not. Better where all clients are on mobile
    /// networks; not the default as it is this project's own and has seen no years of the internet.
    LossTolerant,
    /// So many bytes a second whatever happens, within a circuit breaker (RFC 8083): for a game that cannot send less. It
    /// does not look for more. Never below four packets a round trip.
    FixedRate(u64),
}

/// Bounds. What exceeds one is refused with a typed error, never silently lost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one reliable message. 64 KiB as games expect, up to [`LARGEST_MESSAGE`]; larger is an error to the sender. The other end
    /// is told and need not agree: what both take may be sent. Up to 64 KiB is taken from others in any case.
    pub max_message: usize,
    /// Bytes of reliable messages that wait or are under way, 64 more each included: of a channel to a peer or a group, and a
    /// quarter more in all on the link to a peer. Twice a bandwidth-delay product of 80 Mb/s × 50 ms, as half of it may wait for what was lost.
    pub send_buffer: usize,
    /// Bytes of reliable messages that a peer may have under way to an application that does not poll, counted in the same
    /// way. It begins with 256 KiB (or two of the largest messages) and grows to this for a peer that uses it while the application
    /// takes what comes. As the send buffer.
    pub receive_buffer: usize,
    /// Sessions of a server, those that are still logging in included. ProudNet's header constant is 60,000.
    pub max_clients: usize,
    /// Groups of a server: two a client on average at the full number of clients.
    pub max_groups: usize,
    /// Members of one group. Pairs grow with its square, so this is what bounds the work of one join.
    pub max_members: usize,
    /// Sessions that have not presented a token yet. Bounds what a flood of logins can hold for
    /// [`Timers::handshake`].
    pub max_handshakes: usize,
    /// What a client does to find a direct path where plain punching does not.
    pub search: SearchLimits,
    /// What a server relays for each client.
    pub relay: RelayBudget,
    /// Peers with which a client has direct paths, or looks for one. Each costs a keepalive every few seconds; traffic with others is
    /// relayed. Four of the largest groups.
    pub direct_peers: usize,
}

/// Bounds of one search for a direct path. A server asks for no more than its own; a client does no more than its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SearchLimits {
    /// Extra sockets. 256 against 2,048 probes find a way with 99.97 %; each costs the system a descriptor for half a
    /// minute, and systems give a process 1,024 or 256 of them.
    pub sockets: usize,
    /// Ports that are tried. More would take longer than people wait and bring next to nothing.
    pub probes: u16,
    /// Datagrams of a search a second, of 46 bytes each. 100 are less than a voice call sends, and what NATs with a limit on
    /// new mappings allow one host.
    pub probes_per_second: u16,
}

impl Default for SearchLimits {
    fn default() -> Self {
        Self { sockets: 256, probes: 2_048, probes_per_second: 100 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 64 * 1024,
            send_buffer: 1024 * 1024,
            receive_buffer: 1024 * 1024,
            max_clients: 60_000,
            max_groups: 120_000,
            max_members: 256,
            max_handshakes: 4_096,
            search: SearchLimits::default(),
            relay: RelayBudget::default(),
            direct_peers: 1_024,
        }
    }
}

/// Times. One table for both ends.
#[derive(Clone, Debug)]
pub struct Timers {
    /// A login that is not answered for so long has failed, counted anew when TCP is open in place of UDP; a server forgets one
    /// that is not completed in it.
    pub handshake: Duration,
    /// How long a server's application may take to accept or reject.
    pub decision: Duration,
    /// An idle link to the server sends a ping so often, which keeps the NAT's mapping: RFC 4787 asks NATs for 120 s,
    /// but 30 s and less is seen, and a carrier's 15 s for a mapping that saw one packet only.
    pub server_keepalive: Duration,
    /// An idle direct path sends a ping so often. Shorter than the server's, as peers' NATs come in pairs.
    pub direct_keepalive: Duration,
    /// Who does not answer for so long is shown as offline: [`crate::ServerEvent::ClientOffline`], [`crate::ClientEvent::ServerOffline`].
    /// Longer than a mobile network's change of cell, short enough to tell players of. At both ends.
    pub offline: Duration,
    /// A server ends a session from which nothing was heard for so long. A minute after it is shown as offline, in which ids,
    /// groups and reliable messages are kept.
    pub session_idle: Duration,
    /// A client goes on with its peers for so long without a word from the server; then its session is over. At least as long as
    /// [`Self::session_idle`], by default longer, so that it asks a server that is there again at least once after that one gave it up.
    pub lease: Duration,
    /// A join that some member has not processed by then completes as timed out.
    pub join: Duration,
    /// When a client shares no group with a peer any more, the hole to it is kept for so long, so that the two are direct at
    /// once when they meet again in the same sessions. It carries nothing meanwhile: the pair's keys are erased at once, and there is
    /// one for keepalives alone. Both ends have to want it. Longer than from one match to the next, and what it costs an idle pair
    /// of is all that it costs. `ZERO`: holes end with their pairs.
    pub retain_for: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            decision: Duration::from_secs(30),
            server_keepalive: Duration::from_secs(10),
            direct_keepalive: Duration::from_secs(5),
            offline: Duration::from_secs(10),
            session_idle: Duration::from_secs(75),
            lease: Duration::from_secs(90),
            join: Duration::from_secs(30),
            retain_for: Duration::from_secs(30),
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No suite, or more than 8, or two of one id.
    #[error("between 1 and 8 cipher suites of different ids are needed")]
    Suites,
    /// The token is too long.
    #[error("the token has {len} bytes, at most {max} fit")]
    TokenTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that fit.
        max: usize,
    },
    /// The ticket is too long to be one.
    #[error("the ticket has {len} bytes, at most {max} are possible")]
    TicketTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that one has.
        max: usize,
    },
    /// A bound is below what the protocol needs.
    #[error("limit `{name}` is {value}, at least {min} is needed")]
    Limit {
        /// Which field of [`Limits`].
        name: &'static str,
        /// What it was set to.
        value: usize,
        /// The least that works.
        min: usize,
    },
    /// A bound is above what the protocol can hold to.
    #[error("limit `{name}` is {value}, at most {max} is possible")]
    LimitTooLarge {
        /// Which field of [`Limits`].
        name: &'static str,
        /// What it was set to.
        value: usize,
        /// The most that works.
        max: usize,
    },
    /// A time is shorter than what it has to leave room for.
    #[error("timer `{name}` is {value:?}, at least {min:?} is needed")]
    Timer {
        /// Which field of [`Timers`].
        name: &'static str,
        /// What it was set to.
        value: Duration,
        /// The least that works.
        min: Duration,
    },
    /// A rate that lets nothing through, or more than the clock can tell apart.
    #[error("rate `{name}` is {rate:?}, both numbers are from 1 to {max}, and a burst of bytes holds a datagram")]
    Rate {
        /// Which field of [`Admission`].
        name: &'static str,
        /// What it was set to.
        rate: Rate,
        /// The most that works.
        max: u32,
    },
    /// The server's public key is not one: a low-order point, with which no secret can be agreed.
    #[error("the server key is not a public key")]
    ServerKey,
}

pub(crate) fn check_admission(admission: &Admission) -> Result<(), ConfigError> {
    let Admission { unproven, proven, source, prefix } = admission;
    let all = [("unproven", unproven), ("proven", proven), ("source", source), ("prefix", prefix)];
    let Some((name, rate)) = all.into_iter().find(|(_, rate)| !rate.is_valid()) else { return Ok(()) };
    Err(ConfigError::Rate { name, rate: *rate, max: Rate::MAX })
}

/// A bucket of bytes that does not hold a datagram would never give any.
const LEAST_BURST: u32 = 65_536;

pub(crate) fn check_relay(budget: &RelayBudget) -> Result<(), ConfigError> {
    let all = [("relay.bytes", budget.bytes, LEAST_BURST), ("relay.packets", budget.packets, 1)];
    let wrong = all.into_iter().find(|(_, rate, least)| !rate.is_valid() || rate.burst < *least);
    wrong.map_or(Ok(()), |(name, rate, _)| Err(ConfigError::Rate { name, rate, max: Rate::MAX }))
}

/// Most suites that a login can name.
pub(crate) const MAX_SUITES: usize = 8;

pub(crate) fn check_suites(suites: &[Arc<dyn Crypto>]) -> Result<(), ConfigError> {
    let distinct = suites.iter().enumerate().all(|(i, s)| suites.iter().take(i).all(|t| t.id() != s.id()));
    if suites.is_empty() || suites.len() > MAX_SUITES || !distinct { Err(ConfigError::Suites) } else { Ok(()) }
}

pub(crate) fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    let least = [
        ("max_message", limits.max_message, 1),
        ("send_buffer", limits.send_buffer, limits.max_message.saturating_mul(2)),
        ("receive_buffer", limits.receive_buffer, limits.max_message.saturating_mul(2)),
        ("max_clients", limits.max_clients, 1),
        ("max_groups", limits.max_groups, 1),
        ("max_members", limits.max_members, 2),
        ("max_handshakes", limits.max_handshakes, 1),
    ];
    if let Some((name, value, min)) = least.into_iter().find(|(_, value, min)| value < min) {
        return Err(ConfigError::Limit { name, value, min });
    }
    if limits.max_message > LARGEST_MESSAGE {
        let (name, value) = ("max_message", limits.max_message);
        return Err(ConfigError::LimitTooLarge { name, value, max: LARGEST_MESSAGE });
    }
    Ok(())
}

/// Bytes of the longest reliable message that can be allowed: it is put together in memory before anybody sees it, and a
/// link has no more packets under way than hold one. Longer things are streams of messages.
pub const LARGEST_MESSAGE: usize = 16 << 20;

/// The shortest time that any of [`Timers`] may be: below it, a keepalive is a flood and a deadline is over before a packet
/// is there.
const LEAST_TIMER: Duration = Duration::from_millis(100);

/// Keepalives that a session outlives when they are lost one after another: with one only, every loss would end it.
const KEEPALIVES_A_SESSION: u32 = 2;

/// How long a session must be allowed to be silent at the least.
pub(crate) fn least_session_idle(timers: &Timers) -> Duration {
    let keepalives = timers.server_keepalive.saturating_mul(KEEPALIVES_A_SESSION);
    keepalives.max(timers.offline).max(LEAST_TIMER)
}

pub(crate) fn check_timers(timers: &Timers) -> Result<(), ConfigError> {
    let least = [
        ("handshake", timers.handshake, LEAST_TIMER),
        ("decision", timers.decision, LEAST_TIMER),
        ("server_keepalive", timers.server_keepalive, LEAST_TIMER),
        ("direct_keepalive", timers.direct_keepalive, LEAST_TIMER),
        ("offline", timers.offline, LEAST_TIMER),
        ("session_idle", timers.session_idle, least_session_idle(timers)),
        ("lease", timers.lease, timers.session_idle),
        ("join", timers.join, LEAST_TIMER),
    ];
    match least.into_iter().find(|(_, value, min)| value < min) {
        Some((name, value, min)) => Err(ConfigError::Timer { name, value, min }),
        None => Ok(()),
    }
}

/// The suite that two ends with these lists use: the lowest id that both have. Each computes it alone.
pub(crate) fn common_suite(ours: &[Arc<dyn Crypto>], theirs: &[u8]) -> Option<Arc<dyn Crypto>> {
    ours.iter().filter(|s| theirs.contains(&s.id())).min_by_key(|s| s.id()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_leaves_no_room_is_named_with_its_value_and_the_least_that_works() {
        assert_eq!(check_timers(&Timers::default()), Ok(()));
        let timers = Timers { server_keepalive: Duration::from_secs(40), ..Timers::default() };
        let (value, min) = (Duration::from_secs(75), Duration::from_secs(80));
        let error = check_timers(&timers).unwrap_err();
        assert_eq!(error, ConfigError::Timer { name: "session_idle", value, min });
        let text = std::string::ToString::to_string(&error);
        assert_eq!(text, "timer `session_idle` is 75s, at least 80s is needed");
        let timers = Timers { join: Duration::ZERO, ..Timers::default() };
        assert!(matches!(check_timers(&timers), Err(ConfigError::Timer { name: "join", .. })));
        let max = Duration::MAX;
        let timers = Timers { server_keepalive: max, session_idle: max, lease: max, ..Timers::default() };
        assert_eq!(check_timers(&timers), Ok(()), "nothing overflows");
    }

    #[test]
    fn a_message_of_16_mib_can_be_allowed_and_a_longer_one_cannot() {
        let limits =
            |max_message| Limits { max_message, send_buffer: 64 << 20, receive_buffer: 64 << 20, ..Limits::default() };
        assert_eq!(check_limits(&limits(LARGEST_MESSAGE)), Ok(()));
        let refused = check_limits(&limits(LARGEST_MESSAGE + 1)).unwrap_err();
        let text = std::string::ToString::to_string(&refused);
        assert_eq!(text, "limit `max_message` is 16777217, at most 16777216 is possible");
    }

    #[test]
    fn neither_a_client_nor_a_server_begins_with_such_a_timer() {
        let timers = Timers { direct_keepalive: Duration::ZERO, ..Timers::default() };
        let server = ServerConfig { timers: timers.clone(), ..ServerConfig::new([9; 32], 1, [1; 32]) };
        let refused = crate::server::Server::new(crate::time::Instant::ZERO, server).err();
        assert!(matches!(refused, Some(ConfigError::Timer { name: "direct_keepalive", .. })));
        let at = SocketAddr::from(([192, 0, 2, 1], 7000));
        let client = ClientConfig { timers, ..ClientConfig::new(at, crate::secure::public_key(&[9; 32]), 1, [2; 32]) };
        let refused = crate::client::Client::new(crate::time::Instant::ZERO, client).err();
        assert!(matches!(refused, Some(ConfigError::Timer { name: "direct_keepalive", .. })));
    }
}
