//! One client's session, as the server holds it.
//!
//! It begins with an answered login request, becomes *asking* when the client's token arrives over the established keys,
//! and *online* when the application accepts it. Each phase but the last has a deadline.

use super::discovery::Discovery;
use super::ipv6::Ipv6;
use super::lifetime::Lifetime;
use super::policy::Wishes;
use super::presence::Shown;
use super::search::Part;
use crate::config::{Doors, ServerConfig, Timers};
use crate::event::EndReason;
use crate::ids::{Channels, GroupId, LoginId, PeerId, StreamId};
use crate::leg::Leg;
use crate::link::{Link, PAYLOAD};
use crate::machine::Wake;
use crate::path::Roaming;
use crate::relay::Uplink;
use crate::secure::{Protection, Role};
use crate::ticket::Ticket;
use crate::time::{Duration, Instant};
use crate::transport::{MAIN, Scope, Transport, TransportConfig};
use crate::wire::control::Candidates;
use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;

/// Before a client's first acknowledged packet its round-trip time is this (RFC 9002 §6.2.2).
const ASSUMED_RTT: Duration = Duration::from_millis(333);

/// Bits of a session id that hold the slot. Above them are 32 random bits and the shard.
const SLOT_BITS: u32 = 24;

/// Most sessions that a session id can tell apart within a shard.
pub(super) const MAX_SESSIONS: usize = 1 << SLOT_BITS;

/// Bytes of control messages that may wait for a client beside the 1 MiB in its transport. One call of the application can
/// make so many, such as a group of 256 with 4 KiB in each join; a client that has not taken them by then is ended.
pub(super) const MAX_BACKLOG: usize = 8 << 20;

/// What each of them costs beside its bytes.
const BACKLOG_OVERHEAD: usize = 32;

/// Which slot a session id names.
pub(super) const fn slot_of(id: u64) -> u32 {
    (id & ((1 << SLOT_BITS) - 1)) as u32
}

/// A session id: shard (8 bits, always 0 with one shard) · random (32) · slot (24). The random part keeps a late packet
/// of a former session from being taken for one of the slot's present owner.
pub(super) const fn session_id(slot: u32, random: u64) -> u64 {
    (random & 0xffff_ffff) << SLOT_BITS | slot as u64
}

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The login was answered; nothing has come under the new keys.
    Handshake,
    /// The application is to decide.
    Asking,
    /// A client.
    Online,
    /// Turned away; stays until the deadline, so that it can be told again.
    Rejected,
    /// Over but for what was sent reliably before and, when that is acknowledged or the deadline is there, a last packet.
    Closing(EndReason),
    /// Over; stays until the application heard what the client had sent.
    Gone,
}

pub(super) struct Session {
    /// On the wire: the client's packets to the server carry it.
    pub(super) id: u64,
    /// As peers call it, once online; its login before that has the same parts.
    pub(super) peer: PeerId,
    pub(super) phase: Phase,
    pub(super) deadline: Instant,
    pub(super) link: Link,
    /// Where the client is: where its login came from, later where it proved to be.
    pub(super) addr: SocketAddr,
    /// Whether that is where UDP works, or where a stream came from.
    pub(super) udp_known: bool,
    /// The stream that packets for the client go into, if not out by UDP.
    pub(super) stream: Option<StreamId>,
    /// The client said that it uses UDP, from an address that is yet to be proven.
    pub(super) wants_udp: bool,
    /// That it has another leg stands in the server's queue.
    pub(super) leg_told: bool,
    /// The client's X25519 key of this session.
    pub(super) key: [u8; 32],
    /// Suites that it can use.
    pub(super) suites: Vec<u8>,
    /// What is known of the NAT before it.
    pub(super) discovery: Discovery,
    /// Its part in a search for a direct path.
    pub(super) search: Option<Part>,
    /// Where its host says it can be reached on its own network.
    pub(super) local: Candidates,
    /// How long mappings of its NAT live.
    pub(super) lifetime: Lifetime,
    /// Where it can be reached by IPv6, if its session is at another address.
    pub(super) ipv6: Ipv6,
    /// Which ways the client wishes its traffic with peers to go.
    pub(super) wishes: Wishes,
    pub(super) user_data: Box<[u8]>,
    /// The request's ephemeral key, under which repetitions are recognised.
    pub(super) request: [u8; 32],
    /// The ticket that it came with, until its application's token came.
    pub(super) ticket: Option<Box<Ticket>>,
    /// The answer, for such repetitions; empty once the client has shown the keys.
    pub(super) reply: Vec<u8>,
    /// The groups with the server in them that it is in.
    pub(super) hosted: BTreeSet<GroupId>,
    /// How fast it sends to the server.
    pub(super) uplink: Uplink,
    /// Whether it is offline.
    pub(super) shown: Shown,
    /// How long it may be silent, if otherwise than all.
    pub(super) timeout: Option<Duration>,
    /// Marks of messages that stand in the server's queue.
    pub(super) marks: usize,
    /// Channels of which it stands in the server's queue that there is room again.
    pub(super) writable: Channels,
    /// That the client left stands in the server's queue.
    pub(super) left_waits: bool,
    /// Control messages that wait for room in the transport, and their bytes.
    backlog: VecDeque<Box<[u8]>>,
    backlog_bytes: usize,
}

/// The client let more control messages pile up than one may.
pub(super) struct Overrun;

/// What a session is made of.
pub(super) struct Answered {
    pub(super) id: u64,
    pub(super) peer: PeerId,
    pub(super) addr: SocketAddr,
    /// The request came by UDP.
    pub(super) udp: bool,
    pub(super) key: [u8; 32],
    pub(super) suites: Vec<u8>,
    pub(super) request: [u8; 32],
    pub(super) ticket: Option<Box<Ticket>>,
    pub(super) reply: Vec<u8>,
    pub(super) protection: Protection,
}

impl Session {
    pub(super) fn new(
        now: Instant,
        config: &ServerConfig,
        transport: &TransportConfig,
        [rng, roaming]: [crate::entropy::Rng; 2],
        answered: Answered,
    ) -> Self {
        let Answered { id, peer, addr, udp, key, suites, request, ticket, reply, mut protection } = answered;
        protection.set_cid_in(MAIN, id);
        let engine = Transport::new(now, transport, rng, ASSUMED_RTT, PAYLOAD);
        Self {
            id,
            peer,
            phase: Phase::Handshake,
            deadline: now + config.timers.handshake,
            link: Link::with_client(now, protection, engine, Roaming::new(addr, roaming)),
            addr,
            udp_known: udp,
            stream: None,
            wants_udp: false,
            leg_told: false,
            key,
            suites,
            discovery: Discovery::new(now, &Doors::default()),
            search: None,
            local: Candidates::new(),
            lifetime: Lifetime::default(),
            ipv6: Ipv6::default(),
            wishes: Wishes::default(),
            user_data: Box::default(),
            request,
            ticket,
            reply,
            hosted: BTreeSet::new(),
            uplink: Uplink::default(),
            shown: Shown::default(),
            timeout: None,
            marks: 0,
            writable: Channels::default(),
            left_waits: false,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
        }
    }

    /// Queues a control message, behind those that wait already.
    pub(super) fn tell(&mut self, now: Instant, message: &[u8]) -> Result<(), Overrun> {
        if self.backlog.is_empty() && self.link.transport().send_next(now, Scope::Control, message).is_ok() {
            return Ok(());
        }
        self.backlog_bytes = self.backlog_bytes.saturating_add(message.len()).saturating_add(BACKLOG_OVERHEAD);
        if self.backlog_bytes > MAX_BACKLOG {
            return Err(Overrun);
        }
        self.backlog.push_back(message.into());
        Ok(())
    }

    /// Moves what waits to the transport, as far as it takes it.
    pub(super) fn tell_backlog(&mut self, now: Instant) {
        while let Some(message) = self.backlog.front() {
            if self.link.transport().send_next(now, Scope::Control, message).is_err() {
                return;
            }
            self.backlog_bytes = self.backlog_bytes.saturating_sub(message.len()).saturating_sub(BACKLOG_OVERHEAD);
            self.backlog.pop_front();
        }
    }

    /// Which end of the server link a server is.
    pub(super) const ROLE: Role = Role::Responder;

    pub(super) fn login(&self) -> LoginId {
        LoginId::new(self.peer.slot(), self.peer.generation())
    }

    /// Where the peers of this client may probe it: its IPv6 address, for a peer that has one, too, its address as seen here
    /// and, for a peer behind the same address, those on its own network. The first are never crowded out.
    pub(super) fn candidates_for(&self, other: &Self) -> Candidates {
        let local = if self.addr.ip() == other.addr.ip() { self.local.as_slice() } else { &[] };
        // Where a stream came from is no place for datagrams.
        let observed = Some(self.addr).filter(|_| self.udp_known && self.stream.is_none());
        let ipv6 = self.ipv6.proven().filter(|_| self.stream.is_none() && other.has_ipv6());
        ipv6.into_iter().chain(observed).chain(local.iter().copied()).collect()
    }

    pub(super) fn leg(&self) -> Leg {
        if self.stream.is_some() { Leg::Tcp } else { Leg::Udp }
    }

    pub(super) fn rtt(&self) -> Duration {
        self.link.transport_ref().rtt(MAIN).unwrap_or(ASSUMED_RTT)
    }

    /// When this session is over if nothing happens.
    pub(super) fn ends_at(&self, timers: &Timers) -> Instant {
        let idle = self.link.presence_ref().ends_at(self.timeout.unwrap_or(timers.session_idle));
        if self.phase == Phase::Online { idle.min(self.deadline) } else { self.deadline }
    }

    pub(super) fn wake(&self, timers: &Timers) -> (Instant, Wake) {
        let end = (self.ends_at(timers), Wake::Idle);
        let online = self.phase == Phase::Online;
        let blocked = self.link.transport_ref().is_held_up();
        let presence = self.link.presence_ref().wake(timers, blocked).filter(|_| online).map(|at| (at, Wake::Idle));
        let knock = self.discovery.wake().map(|at| (at, Wake::Probe));
        let wishes = self.wishes.due.map(|at| (at, Wake::Idle));
        [self.link.wake(), knock, wishes, presence].into_iter().flatten().fold(end, Ord::min)
    }
}
