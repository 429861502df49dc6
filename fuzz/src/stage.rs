//! A server and clients with real sessions on a network of nothing but a delay, and one of them to be attacked.
//!
//! All links use [`Flat`], so the stage reads along: it learns every link's connection ids, packet numbers and scopes from
//! what is delivered, and seals what the fuzzer says for any of them. Whatever the victim does is watched:
//!
//! - a call ends, writes into its outbox no more than it has room, and no datagram above 1,200 bytes;
//! - what is due at one time is sent in a bounded number of datagrams, and then the next wake-up lies ahead;
//! - polls end; nothing that is counted exceeds its limit; memory does not grow beyond what the limits allow;
//! - a server sends an address that has shown no keys at most three times what came from there (RFC 9000 §8.1); a client
//!   sends only to its server, to where an authentic packet came from, and to addresses that an authentic packet named.

use crate::body::Body;
use crate::flat::{Flat, TAG};
use crate::memory;
use posse_core::fuzzing::{self, Fact};
use posse_core::secure::public_key;
use posse_core::{
    Client, ClientConfig, ClientEvent, Ecn, GroupId, GroupOptions, Input, Instant, LoginId, Machine, Outbox, PeerId,
    Server, ServerConfig, ServerEvent, SocketId, SocketInput, StreamId, StreamInput, Via, datagrams,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const SERVER_KEY: [u8; 32] = [7; 32];
const APP: u64 = 42;
/// Place of the server among the hosts; clients follow.
pub(crate) const SERVER: usize = 0;
/// Place of the client that is attacked.
pub(crate) const CLIENT: usize = 1;
/// Clients that log in before the attack.
const CLIENTS: usize = 3;
/// Most hosts, later logins included.
const MAX_HOSTS: usize = 8;
/// One way between any two hosts.
const DELAY: Duration = Duration::from_millis(10);
/// Datagrams on their way at most; more are lost.
const MAX_IN_FLIGHT: usize = 512;
/// Delivered datagrams that are remembered for replays.
const MAX_CAPTURED: usize = 64;
/// Datagrams that one machine may send at one time: some links' windows.
const MAX_BURST: usize = 2_000;
/// Events that may wait: each costs an attacker some bytes, and an input is short.
const MAX_EVENTS: usize = 20_000;
/// Growth of a victim's memory, bytes: a dozen links with buffers of 16 KiB each way, and their queues.
const MAX_GROWTH: isize = 2 << 20;

const MAX_CLIENTS: usize = 6;
const MAX_HANDSHAKES: usize = 3;
const MAX_GROUPS: usize = 4;
const MAX_MEMBERS: usize = 4;

/// A machine of either kind.
pub(crate) enum Host {
    Server(Box<Server>),
    Client(Box<Client>),
}

impl Host {
    fn machine(&mut self) -> &mut dyn Machine {
        match self {
            Self::Server(server) => &mut **server,
            Self::Client(client) => &mut **client,
        }
    }

    pub(crate) fn wake(&self) -> Option<Instant> {
        let wake = match self {
            Self::Server(server) => server.wake(),
            Self::Client(client) => client.wake(),
        };
        wake.map(|(at, _)| at)
    }
}

struct Parcel {
    at: Instant,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// One direction of one path of a link, as seen from outside.
pub(crate) struct Talk {
    pub(crate) cid: u64,
    pub(crate) receiver: usize,
    pub(crate) from: SocketAddr,
    pub(crate) largest: u64,
    /// Scope ids: whether control, and the next message's number.
    pub(crate) scopes: BTreeMap<u64, (bool, u64)>,
}

/// See the module's text.
pub(crate) struct Stage {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) victim: usize,
    /// Between two clients only the relay works.
    relayed: bool,
    wire: VecDeque<Parcel>,
    /// Streams whose last frame nobody was told yet is written.
    written: Vec<(usize, StreamId)>,
    pub(crate) captured: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(crate) talks: Vec<Talk>,
    pub(crate) tokens: VecDeque<u64>,
    pub(crate) peers: Vec<PeerId>,
    pub(crate) groups: Vec<GroupId>,
    pub(crate) logins: Vec<LoginId>,
    /// The application of the victim polls after every call.
    pub(crate) polls: bool,
    out: Outbox,
    payload: Vec<u8>,
    /// Bytes from and to each address that has shown no keys.
    ledger: BTreeMap<SocketAddr, (usize, usize)>,
    proven: BTreeSet<SocketAddr>,
    growth: isize,
    attacked: bool,
}

/// Addresses for a fuzzer to send from. Their tails are none that it writes by chance.
pub(crate) fn stranger(n: u8) -> SocketAddr {
    let tail = 0x9d3c_5b17 ^ u32::from(n % 4).wrapping_mul(0x0101_4a51);
    let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x6e1f, 0xa2c4, (tail >> 16) as u16, tail as u16);
    SocketAddr::new(IpAddr::V6(ip), 40_000 + u16::from(n % 4))
}

/// Where a host is.
pub(crate) fn address(host: usize) -> SocketAddr {
    match host {
        SERVER => SocketAddr::from(([198, 51, 100, 1], 7_000)),
        // The first two are behind one address, so that local candidates are told.
        host => SocketAddr::from(([192, 0, 2, if host < 3 { 1 } else { host as u8 }], 4_000 + host as u16)),
    }
}

impl Stage {
    /// Everyone is logged in and, by `setup`, in a group; direct paths are up or impossible.
    pub(crate) fn new(victim: usize, setup: u8) -> Self {
        let mut config = ServerConfig::new(SERVER_KEY, APP, [1; 32]);
        config.suites = vec![Arc::new(Flat)];
        config.limits.max_clients = MAX_CLIENTS;
        config.limits.max_handshakes = MAX_HANDSHAKES;
        config.limits.max_groups = MAX_GROUPS;
        config.limits.max_members = MAX_MEMBERS;
        config.limits.max_message = 4 << 10;
        config.limits.send_buffer = 16 << 10;
        config.limits.receive_buffer = 16 << 10;
        let server = Server::new(Instant::ZERO, config).expect("a valid configuration");
        let mut stage = Self {
            now: Instant::ZERO,
            hosts: vec![Host::Server(Box::new(server))],
            victim,
            relayed: setup & 1 != 0,
            wire: VecDeque::new(),
            written: Vec::new(),
            captured: VecDeque::new(),
            talks: Vec::new(),
            tokens: VecDeque::new(),
            peers: Vec::new(),
            groups: Vec::new(),
            logins: Vec::new(),
            polls: true,
            out: Outbox::with_capacity(64 << 10, 64),
            payload: Vec::new(),
            ledger: BTreeMap::new(),
            proven: BTreeSet::from([address(SERVER)]),
            growth: 0,
            attacked: false,
        };
        for _ in 0..CLIENTS {
            stage.log_in();
        }
        stage.run(Duration::from_millis(60));
        assert_eq!(stage.peers.len(), CLIENTS, "everyone is logged in");
        if setup & 2 == 0 {
            let peers = stage.peers.clone();
            if let Host::Server(server) = &mut stage.hosts[SERVER] {
                let made = server.create_group(stage.now, &peers, GroupOptions::default());
                stage.groups.push(made.expect("a group of clients"));
            }
            stage.run(Duration::from_millis(match setup >> 2 & 3 {
                0 => 200,
                1 => 15,
                2 => 45,
                _ => 2_000,
            }));
        }
        stage.attacked = true;
        stage.polls = setup & 0x10 == 0;
        stage
    }

    /// One more client begins to log in.
    pub(crate) fn log_in(&mut self) {
        let host = self.hosts.len();
        if host >= MAX_HOSTS {
            return;
        }
        let mut config = ClientConfig::new(address(SERVER), public_key(&SERVER_KEY), APP, [host as u8 + 1; 32]);
        config.suites = vec![Arc::new(Flat)];
        config.token = vec![host as u8];
        config.limits.max_message = 4 << 10;
        config.limits.send_buffer = 16 << 10;
        config.limits.receive_buffer = 16 << 10;
        let client = Client::new(self.now, config).expect("a valid configuration");
        self.hosts.push(Host::Client(Box::new(client)));
        let local = SocketAddr::new(IpAddr::from([10, 0, 0, host as u8]), address(host).port());
        // The server names both to the others.
        self.proven.extend([address(host), local]);
        self.input(host, Input::Socket(SocketId::MAIN, SocketInput::Opened { local, max_segments: 1 }));
        self.settle(host);
    }

    // ---- the network

    /// Lets time pass: everyone's packets arrive, everyone wakes.
    pub(crate) fn run(&mut self, lasts: Duration) {
        let end = self.now + lasts;
        let mut turns = 0;
        loop {
            let wake = (0..self.hosts.len()).filter_map(|h| self.hosts[h].wake().map(|at| (at, h))).min();
            let arrival = self.wire.front().map(|parcel| parcel.at);
            let next = match (wake, arrival) {
                (Some((at, _)), Some(arrives)) => at.min(arrives),
                (Some((at, _)), None) => at,
                (None, Some(arrives)) => arrives,
                (None, None) => break,
            };
            if next > end {
                break;
            }
            turns += 1;
            assert!(turns < 5_000, "awake all the time: {wake:?} at {:?}", self.now);
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= next) {
                let Some(parcel) = self.wire.pop_front() else { break };
                if let Some(host) = (0..self.hosts.len()).find(|h| address(*h) == parcel.to) {
                    self.deliver(host, parcel.from, Ecn::Ect0, 0, parcel.bytes);
                }
            } else if let Some((_, host)) = wake {
                self.input(host, Input::Wake);
                self.settle(host);
            }
        }
        self.now = self.now.max(end);
    }

    /// Loses, repeats or holds up what is on its way.
    pub(crate) fn disturb(&mut self, how: u8, which: u8) {
        if self.wire.is_empty() {
            return;
        }
        let at = usize::from(which) % self.wire.len();
        match how % 4 {
            0 => self.wire.clear(),
            1 => drop(self.wire.remove(at)),
            2 => {
                let parcel = &self.wire[at];
                let (from, to, bytes) = (parcel.from, parcel.to, parcel.bytes.clone());
                self.wire.push_back(Parcel { at: self.now + DELAY, from, to, bytes });
            }
            _ => {
                if let Some(mut parcel) = self.wire.remove(at) {
                    parcel.at = self.now + DELAY;
                    self.wire.push_back(parcel);
                }
            }
        }
    }

    /// Hands datagrams to a host, having read along.
    pub(crate) fn deliver(&mut self, host: usize, from: SocketAddr, ecn: Ecn, stride: usize, mut bytes: Vec<u8>) {
        for datagram in datagrams(stride, &mut bytes) {
            self.learn(host, from, datagram);
            let (arrived, _) = self.ledger.entry(from).or_default();
            *arrived += datagram.len();
        }
        if self.captured.len() >= MAX_CAPTURED {
            self.captured.pop_front();
        }
        self.captured.push_back((from, bytes.clone()));
        self.input(
            host,
            Input::Datagrams { socket: SocketId::MAIN, from, local: None, ecn, stride, bytes: &mut bytes },
        );
        self.settle(host);
    }

    fn learn(&mut self, receiver: usize, from: SocketAddr, datagram: &[u8]) {
        let Some(Some(packet)) = fuzzing::classify(datagram) else { return };
        let Some(rest) = datagram.strip_suffix(&TAG) else { return };
        let number_len = usize::from(datagram[0] & 3) + 1;
        let Some((number, body)) = rest.get(9..).and_then(|r| r.split_at_checked(number_len)) else { return };
        if receiver == CLIENT {
            self.proven.insert(from);
            let named = (0..8).map(address).chain((0..4).map(stranger)).filter(|addr| {
                let candidate = Body::new().addresses(&[*addr]).0;
                body.windows(candidate.len() - 1).any(|w| w == &candidate[1..])
            });
            self.proven.extend(named);
        }
        let low = number.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let at = match self.talks.iter().position(|t| t.cid == packet.cid && t.receiver == receiver) {
            Some(at) => at,
            None if self.talks.len() >= 64 => return,
            None => {
                let (cid, scopes) = (packet.cid, BTreeMap::new());
                self.talks.push(Talk { cid, receiver, from, largest: 0, scopes });
                self.talks.len() - 1
            }
        };
        let talk = &mut self.talks[at];
        talk.largest = talk.largest.max(fuzzing::expand(low, 8 * number_len as u32, Some(talk.largest)));
        for fact in fuzzing::facts(body) {
            match fact {
                Fact::Scope { id, control, start } if talk.scopes.len() < 64 => {
                    talk.scopes.entry(id).or_insert((control, start));
                }
                Fact::Message { scope, seq } => {
                    if let Some((_, next)) = talk.scopes.get_mut(&scope) {
                        *next = (*next).max(seq.saturating_add(1));
                    }
                }
                Fact::Token(token) => {
                    self.tokens.push_back(token);
                    self.tokens.truncate(32);
                }
                Fact::Scope { .. } | Fact::Other => {}
            }
        }
    }

    // ---- calls

    /// Hands one input in.
    pub(crate) fn input(&mut self, host: usize, input: Input<'_>) {
        let (now, before) = (self.now, memory::held());
        self.hosts[host].machine().handle(now, input, &mut self.out);
        self.account(host, before);
        self.sent(host);
    }

    /// Something else is done to the victim.
    pub(crate) fn touch(&mut self, act: impl FnOnce(&mut Host, Instant)) {
        let before = memory::held();
        act(&mut self.hosts[self.victim], self.now);
        self.account(self.victim, before);
    }

    fn account(&mut self, host: usize, before: isize) {
        if host == self.victim && self.attacked {
            self.growth += memory::held() - before;
            assert!(self.growth < MAX_GROWTH, "{} bytes more than before the attack", self.growth);
        }
    }

    /// Transmits into an outbox of this size at this time, whatever the clock says.
    pub(crate) fn transmit(&mut self, host: usize, now: Instant, out: &mut Outbox) -> usize {
        let before = memory::held();
        self.hosts[host].machine().transmit(now, out);
        self.account(host, before);
        self.post_all(host, out)
    }

    fn sent(&mut self, host: usize) {
        let mut out = std::mem::replace(&mut self.out, Outbox::with_capacity(0, 0));
        self.post_all(host, &mut out);
        self.out = out;
    }

    /// Puts what is in the outbox on its way; how many datagrams that are.
    fn post_all(&mut self, host: usize, out: &mut Outbox) -> usize {
        let mut count = 0;
        for (transmit, bytes) in out.sends() {
            let to = match transmit.via {
                Via::Datagram { to, .. } => to,
                // Nobody is at the other end.
                Via::Stream(id) => {
                    count += 1;
                    self.written.push((host, id));
                    continue;
                }
            };
            let segment = transmit.segment.map_or(bytes.len(), usize::from).max(1);
            for datagram in bytes.chunks(segment) {
                count += 1;
                self.post(host, to, datagram.to_vec());
            }
        }
        out.clear();
        count
    }

    pub(crate) fn post(&mut self, host: usize, to: SocketAddr, bytes: Vec<u8>) {
        // What path MTU discovery tries at most.
        assert!(bytes.len() <= 1_472, "a datagram of {} bytes", bytes.len());
        if host == self.victim && !self.proven.contains(&to) {
            assert_eq!(host, SERVER, "a client sent to {to}, which never authenticated and which nobody named");
            let (arrived, left) = self.ledger.entry(to).or_default();
            *left += bytes.len();
            assert!(*left <= 3 * *arrived, "{left} bytes sent to {to}, which sent {arrived} and showed no keys");
        }
        let direct = host != SERVER && to != address(SERVER);
        if self.wire.len() < MAX_IN_FLIGHT && !(direct && self.relayed) {
            self.wire.push_back(Parcel { at: self.now + DELAY, from: address(host), to, bytes });
        }
    }

    /// Transmits until nothing is due, and polls.
    pub(crate) fn settle(&mut self, host: usize) {
        let mut out = std::mem::replace(&mut self.out, Outbox::with_capacity(0, 0));
        let mut burst = 0;
        loop {
            let count = self.transmit(host, self.now, &mut out);
            burst += count;
            assert!(burst < MAX_BURST, "{burst} datagrams at one time");
            for (host, id) in std::mem::take(&mut self.written) {
                self.input(host, Input::Stream(id, StreamInput::Writable));
            }
            // What it asks for it does not get, unless a step says so.
            let mut requests = 0;
            while self.hosts[host].machine().request().is_some() {
                requests += 1;
                assert!(requests < MAX_EVENTS, "requests do not end");
            }
            if count == 0 {
                break;
            }
        }
        self.out = out;
        let ahead = self.hosts[host].wake().is_none_or(|at| at > self.now);
        assert!(
            ahead || self.now == Instant::FAR,
            "a driver would spin: {:?} at {:?}",
            self.hosts[host].wake(),
            self.now
        );
        if host != self.victim || self.polls || !self.attacked {
            self.poll(host, MAX_EVENTS);
        }
        self.sizes();
    }

    /// Polls at most so many events.
    pub(crate) fn poll(&mut self, host: usize, most: usize) {
        for n in 0.. {
            assert!(n < MAX_EVENTS, "polls do not end");
            if n >= most {
                return;
            }
            let before = memory::held();
            let (now, payload) = (self.now, &mut self.payload);
            let more = match &mut self.hosts[host] {
                Host::Client(client) => client.poll_event(now, payload).map(|event| {
                    if let ClientEvent::LoggedIn { me, .. } = event {
                        self.peers.push(me);
                    }
                }),
                Host::Server(server) => server.poll_event(now, payload).map(|event| {
                    if let ServerEvent::LoginRequested { login, .. } = event {
                        self.logins.push(login);
                        if !self.attacked {
                            let _ = server.accept(now, login, b"user", b"welcome");
                        }
                    }
                }),
            };
            self.account(host, before);
            if more.is_none() {
                return;
            }
        }
    }

    fn sizes(&self) {
        let Host::Server(server) = &self.hosts[SERVER] else { return };
        let size = server.size();
        assert!(size.sessions <= MAX_CLIENTS && size.clients <= size.sessions, "{size:?}");
        assert!(size.groups <= MAX_GROUPS, "{size:?}");
        assert!(size.pairs <= MAX_CLIENTS * (MAX_CLIENTS - 1) / 2, "{size:?}");
        assert_eq!(size.routes, 2 * size.pairs, "{size:?}");
    }

    /// Everything that can be released is: called last.
    pub(crate) fn finish(mut self) {
        self.polls = true;
        self.poll(self.victim, MAX_EVENTS);
        self.run(Duration::from_millis(100));
        let victim = self.victim;
        self.settle(victim);
    }
}
