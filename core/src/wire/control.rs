//! What server and client tell each other on the control scope of their link: one reliable ordered message each.
//!
//! A type byte, then the fields in the order of the variants below. Peers and groups are 8 bytes, epochs variable-length
//! integers, byte strings prefixed with their length. A list of addresses is a count byte, then for each a family byte
//! (4 or 6), the address, and the port. Nothing may follow. A message over one of the bounds below is malformed, and is
//! not written either. The type bytes of the two directions differ, so that a message can not be taken for the other
//! direction's.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::buf::{Malformed, NoRoom, Reader, Writer};
use super::search::{Outcome, Plan};
use crate::event::{LeaveReason, Path, RelayReason};
use crate::ids::{GroupId, PeerId};
use crate::policy::{PathPolicy, Prefer, PunchPolicy};
use crate::time::Duration;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest token of a login, bytes: room for a signed web token, small enough to hold one for each unanswered login.
pub(crate) const MAX_TOKEN: usize = 1024;
/// Longest user data of a client, bytes: repeated to every peer it meets, so a name and a few numbers, not a profile.
pub(crate) const MAX_USER_DATA: usize = 1024;
/// Longest custom message of a login's answer or of a join, bytes: the server keeps one for each member of each group.
pub(crate) const MAX_MESSAGE: usize = 4096;
/// Most addresses in a list: what one host plausibly has on its interfaces, and a bound on what one message makes a
/// client probe.
pub(crate) const MAX_CANDIDATES: usize = 8;
/// No encoded control message is longer, bytes. The longest is a welcome: both byte strings and 13 bytes about them.
pub(crate) const MAX_LEN: usize = MAX_USER_DATA + MAX_MESSAGE + 13;

/// From the server to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack for the length of one call")]
pub(crate) enum ToClient<'a> {
    /// The application let the login in.
    Welcome {
        /// Who the client is from now on.
        me: PeerId,
        /// What its peers see of it; it sees the same in the join events about itself.
        user_data: &'a [u8],
        /// For the login event.
        message: &'a [u8],
    },
    /// The application turned the login away.
    Rejected {
        /// For the login event.
        message: &'a [u8],
    },
    /// There is a link with `peer` now. Comes before the first shared group's [`ToClient::MemberJoined`].
    PeerUp {
        /// Who.
        peer: PeerId,
        /// The peer's static key of this session.
        key: [u8; 32],
        /// Known to this pair and the server.
        psk: Psk,
        /// Of the pair: greater than that of any [`ToClient::PeerUp`] before it on this link.
        epoch: u64,
        /// Where the relay forwards to that peer.
        handle: u32,
        /// Cipher suite of the pair.
        suite: u8,
        /// Round-trip times of both ends to the server added up, microseconds: what a round trip over the relay takes.
        rtt_us: u32,
        /// What the application said of the peer when it let it in.
        user_data: &'a [u8],
        /// Which ways traffic may go.
        policy: PathPolicy,
        /// Where the peer may be probed.
        candidates: Candidates,
    },
    /// Which ways traffic with a peer may go from now on.
    Policy {
        /// With whom.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
        /// Which.
        policy: PathPolicy,
    },
    /// The last shared group is gone, and the link with it.
    PeerDown {
        /// Who.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
    },
    /// `member` is in `group`; possibly the receiver itself.
    MemberJoined {
        /// Where.
        group: GroupId,
        /// Who.
        member: PeerId,
        /// Of that member's join.
        epoch: u64,
        /// What the application sent along with that join.
        message: &'a [u8],
    },
    /// `member` is in `group` no longer. About the receiver itself: it is out of the group, and this is the last it hears
    /// of that group.
    MemberLeft {
        /// Where.
        group: GroupId,
        /// Who.
        member: PeerId,
        /// Of the join that is over.
        epoch: u64,
        /// Why.
        why: LeaveReason,
    },
    /// Punch now, at these addresses: the peer is told the same at the same time.
    Punch {
        /// With whom.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
        /// Where the peer may be probed.
        candidates: Candidates,
    },
    /// Where else the server can be reached, to have it look at this client's NAT from there.
    Doors {
        /// Other addresses of the server, numbered from 1 in this order.
        doors: Candidates,
    },
    /// What a client should know of its server; comes right after the welcome.
    About {
        /// Bytes and datagrams a second that the client may have relayed.
        relay: [u32; 2],
        /// Where the server can be reached.
        addrs: Candidates,
    },
    /// Mappings of this client's NAT die so long after they were made, whatever passes; the present one was made just now.
    Lifetime {
        /// The shortest that was seen; on the wire in milliseconds, up to 49 days.
        lifetime: Duration,
    },
    /// What to do beyond plain punching; replaces what was said before of this pair.
    Search {
        /// With whom.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
        /// Names this search; never 0. Greater than that of any before it with this client.
        number: u32,
        /// What.
        plan: Plan,
    },
    /// A peer does not answer the server any more, or does again. At first each does.
    PeerOffline {
        /// Who.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
        /// Whether it is offline now.
        offline: bool,
    },
}

/// From a client to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack for the length of one call")]
pub(crate) enum ToServer<'a> {
    /// What the client's application presents for its login.
    Token {
        /// For the application of the server.
        token: &'a [u8],
    },
    /// Addresses of the client's own interfaces; replaces what it said before.
    HostCandidates {
        /// With the port of the one socket.
        candidates: Candidates,
    },
    /// The application has seen the join event.
    JoinProcessed {
        /// Of which group.
        group: GroupId,
        /// About whom.
        member: PeerId,
        /// The scope epoch with that member: the later of both joins, so that it names this stay of both.
        epoch: u64,
    },
    /// How traffic to a peer goes now.
    PathReport {
        /// Which peer.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
        /// The path. Its round-trip time travels in microseconds and saturates at 71 minutes.
        path: Path,
    },
    /// Asks for a synchronised restart of hole punching.
    RequestPunch {
        /// With whom.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
    },
    /// Plain punching has come to nothing so far.
    RequestSearch {
        /// With whom.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
    },
    /// A search is over, and there is still no direct path.
    Searched {
        /// With whom.
        peer: PeerId,
        /// As in its [`ToClient::PeerUp`].
        epoch: u64,
        /// As in its [`ToClient::Search`].
        number: u32,
        /// What it came to.
        outcome: Outcome,
    },
    /// Which ways traffic of this client may go, by its own wish; replaces what it said before.
    Policy {
        /// With this peer alone; with all peers if it is the server's own id.
        peer: PeerId,
        /// Which.
        policy: PathPolicy,
    },
    /// This client sends by another socket from now on, on purpose.
    Rotated,
    /// A packet came from a door of the server through which nothing had gone out.
    Heard {
        /// Which, as in [`ToClient::Doors`].
        door: u8,
    },
}

/// A pair's pre-shared key. Does not show in debug output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Psk(pub(crate) [u8; 32]);

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}

/// A list of at most [`MAX_CANDIDATES`] addresses, each once, held inline. IPv6 scope ids and flow labels mean nothing to
/// another host and are dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// [`NOWHERE`] beyond `len`, so that the derived comparison is right.
    all: [SocketAddr; MAX_CANDIDATES],
    len: usize,
}

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Candidates {
    pub(crate) const fn new() -> Self {
        Self { all: [NOWHERE; MAX_CANDIDATES], len: 0 }
    }

    /// Appends `addr` unless it is there already. False when there was no room for it.
    pub(crate) fn push(&mut self, addr: SocketAddr) -> bool {
        let addr = SocketAddr::new(addr.ip(), addr.port());
        if self.as_slice().contains(&addr) {
            return true;
        }
        let Some(place) = self.all.get_mut(self.len) else { return false };
        *place = addr;
        self.len = self.len.saturating_add(1);
        true
    }

    pub(crate) fn as_slice(&self) -> &[SocketAddr] {
        self.all.get(..self.len).unwrap_or_default()
    }
}

impl FromIterator<SocketAddr> for Candidates {
    /// The first [`MAX_CANDIDATES`] different ones.
    fn from_iter<I: IntoIterator<Item = SocketAddr>>(all: I) -> Self {
        let mut list = Self::new();
        for addr in all {
            if !list.push(addr) {
                break;
            }
        }
        list
    }
}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

const WELCOME: u8 = 0x01;
const REJECTED: u8 = 0x02;
const PEER_UP: u8 = 0x03;
const PEER_DOWN: u8 = 0x04;
const MEMBER_JOINED: u8 = 0x05;
const MEMBER_LEFT: u8 = 0x06;
const PUNCH: u8 = 0x07;
const DOORS: u8 = 0x08;
const SEARCH: u8 = 0x09;
const ABOUT: u8 = 0x0d;
const POLICY: u8 = 0x0a;
const LIFETIME: u8 = 0x0b;
const PEER_OFFLINE: u8 = 0x0e;

impl<'a> ToClient<'a> {
    /// Appends the message to `w`. On failure `w` is as before.
    pub(crate) fn encode(&self, w: &mut Writer<'_>) -> Result<(), NoRoom> {
        whole(w, |w| self.write(w))
    }

    /// Reads one message, which `bytes` must hold and nothing else.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let message = Self::read(&mut r)?;
        r.end()?;
        Ok(message)
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Welcome { me, user_data, message } => {
                w.u8(WELCOME)?;
                w.u64(me.raw())?;
                write_bytes(w, user_data, MAX_USER_DATA)?;
                write_bytes(w, message, MAX_MESSAGE)
            }
            Self::Rejected { message } => {
                w.u8(REJECTED)?;
                write_bytes(w, message, MAX_MESSAGE)
            }
            Self::PeerUp { peer, key, psk, epoch, handle, suite, rtt_us, user_data, policy, candidates } => {
                w.u8(PEER_UP)?;
                w.u64(peer.raw())?;
                w.bytes(key)?;
                w.bytes(&psk.0)?;
                w.varint(*epoch)?;
                w.u32(*handle)?;
                w.u8(*suite)?;
                w.u32(*rtt_us)?;
                write_bytes(w, user_data, MAX_USER_DATA)?;
                write_policy(w, *policy)?;
                write_candidates(w, candidates)
            }
            Self::Policy { peer, epoch, policy } => {
                write_pair(w, POLICY, *peer, *epoch)?;
                write_policy(w, *policy)
            }
            Self::Lifetime { lifetime } => {
                w.u8(LIFETIME)?;
                w.u32(u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX))
            }
            Self::PeerDown { peer, epoch } => write_pair(w, PEER_DOWN, *peer, *epoch),
            Self::MemberJoined { group, member, epoch, message } => {
                w.u8(MEMBER_JOINED)?;
                w.u64(group.raw())?;
                w.u64(member.raw())?;
                w.varint(*epoch)?;
                write_bytes(w, message, MAX_MESSAGE)
            }
            Self::MemberLeft { group, member, epoch, why } => {
                w.u8(MEMBER_LEFT)?;
                w.u64(group.raw())?;
                w.u64(member.raw())?;
                w.varint(*epoch)?;
                w.u8(leave_reason_code(*why))
            }
            Self::Punch { peer, epoch, candidates } => {
                write_pair(w, PUNCH, *peer, *epoch)?;
                write_candidates(w, candidates)
            }
            Self::Doors { doors } => {
                w.u8(DOORS)?;
                write_candidates(w, doors)
            }
            Self::About { relay: [bytes, packets], addrs } => {
                w.u8(ABOUT)?;
                w.u32(*bytes)?;
                w.u32(*packets)?;
                write_candidates(w, addrs)
            }
            Self::Search { peer, epoch, number, plan } => {
                write_pair(w, SEARCH, *peer, *epoch)?;
                w.u32(*number)?;
                plan.write(w)
            }
            Self::PeerOffline { peer, epoch, offline } => {
                write_pair(w, PEER_OFFLINE, *peer, *epoch)?;
                w.u8(u8::from(*offline))
            }
        }
    }

    fn read(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            WELCOME => Self::Welcome {
                me: read_peer(r)?,
                user_data: read_bytes(r, MAX_USER_DATA)?,
                message: read_bytes(r, MAX_MESSAGE)?,
            },
            REJECTED => Self::Rejected { message: read_bytes(r, MAX_MESSAGE)? },
            PEER_UP => Self::PeerUp {
                peer: read_peer(r)?,
                key: r.array()?,
                psk: Psk(r.array()?),
                epoch: r.varint()?,
                handle: r.u32()?,
                suite: r.u8()?,
                rtt_us: r.u32()?,
                user_data: read_bytes(r, MAX_USER_DATA)?,
                policy: read_policy(r)?,
                candidates: read_candidates(r)?,
            },
            LIFETIME => Self::Lifetime { lifetime: Duration::from_millis(u64::from(r.u32()?)) },
            POLICY => Self::Policy { peer: read_peer(r)?, epoch: r.varint()?, policy: read_policy(r)? },
            PEER_DOWN => Self::PeerDown { peer: read_peer(r)?, epoch: r.varint()? },
            MEMBER_JOINED => Self::MemberJoined {
                group: read_group(r)?,
                member: read_peer(r)?,
                epoch: r.varint()?,
                message: read_bytes(r, MAX_MESSAGE)?,
            },
            MEMBER_LEFT => Self::MemberLeft {
                group: read_group(r)?,
                member: read_peer(r)?,
                epoch: r.varint()?,
                why: leave_reason(r.u8()?)?,
            },
            PUNCH => Self::Punch { peer: read_peer(r)?, epoch: r.varint()?, candidates: read_candidates(r)? },
            DOORS => Self::Doors { doors: read_candidates(r)? },
            ABOUT => Self::About { relay: [r.u32()?, r.u32()?], addrs: read_candidates(r)? },
            SEARCH => Self::Search { peer: read_peer(r)?, epoch: r.varint()?, number: r.u32()?, plan: Plan::read(r)? },
            PEER_OFFLINE => Self::PeerOffline { peer: read_peer(r)?, epoch: r.varint()?, offline: read_flag(r)? },
            _ => return Err(Malformed::Value),
        })
    }
}

const TOKEN: u8 = 0x81;
const HOST_CANDIDATES: u8 = 0x82;
const JOIN_PROCESSED: u8 = 0x83;
const PATH_REPORT: u8 = 0x84;
const REQUEST_PUNCH: u8 = 0x85;
const REQUEST_SEARCH: u8 = 0x86;
const SEARCHED: u8 = 0x87;
const HEARD: u8 = 0x88;
const WISH: u8 = 0x89;
const ROTATED: u8 = 0x8a;

impl<'a> ToServer<'a> {
    /// Appends the message to `w`. On failure `w` is as before.
    pub(crate) fn encode(&self, w: &mut Writer<'_>) -> Result<(), NoRoom> {
        whole(w, |w| self.write(w))
    }

    /// Reads one message, which `bytes` must hold and nothing else.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let message = Self::read(&mut r)?;
        r.end()?;
        Ok(message)
    }

    fn write(&self, w: &mut Writer<'_>) -> Result<(), NoRoom> {
        match self {
            Self::Token { token } => {
                w.u8(TOKEN)?;
                write_bytes(w, token, MAX_TOKEN)
            }
            Self::HostCandidates { candidates } => {
                w.u8(HOST_CANDIDATES)?;
                write_candidates(w, candidates)
            }
            Self::JoinProcessed { group, member, epoch } => {
                w.u8(JOIN_PROCESSED)?;
                w.u64(group.raw())?;
                w.u64(member.raw())?;
                w.varint(*epoch)
            }
            Self::PathReport { peer, epoch, path } => {
                w.u8(PATH_REPORT)?;
                w.u64(peer.raw())?;
                w.varint(*epoch)?;
                write_path(w, *path)
            }
            Self::RequestPunch { peer, epoch } => {
                w.u8(REQUEST_PUNCH)?;
                w.u64(peer.raw())?;
                w.varint(*epoch)
            }
            Self::RequestSearch { peer, epoch } => {
                w.u8(REQUEST_SEARCH)?;
                w.u64(peer.raw())?;
                w.varint(*epoch)
            }
            Self::Searched { peer, epoch, number, outcome } => {
                w.u8(SEARCHED)?;
                w.u64(peer.raw())?;
                w.varint(*epoch)?;
                w.u32(*number)?;
                outcome.write(w)
            }
            Self::Policy { peer, policy } => {
                w.u8(WISH)?;
                w.u64(peer.raw())?;
                write_policy(w, *policy)
            }
            Self::Rotated => w.u8(ROTATED),
            Self::Heard { door } => {
                w.u8(HEARD)?;
                w.u8(*door)
            }
        }
    }

    fn read(r: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            TOKEN => Self::Token { token: read_bytes(r, MAX_TOKEN)? },
            HOST_CANDIDATES => Self::HostCandidates { candidates: read_candidates(r)? },
            JOIN_PROCESSED => Self::JoinProcessed { group: read_group(r)?, member: read_peer(r)?, epoch: r.varint()? },
            PATH_REPORT => Self::PathReport { peer: read_peer(r)?, epoch: r.varint()?, path: read_path(r)? },
            REQUEST_PUNCH => Self::RequestPunch { peer: read_peer(r)?, epoch: r.varint()? },
            REQUEST_SEARCH => Self::RequestSearch { peer: read_peer(r)?, epoch: r.varint()? },
            SEARCHED => {
                Self::Searched { peer: read_peer(r)?, epoch: r.varint()?, number: r.u32()?, outcome: Outcome::read(r)? }
            }
            WISH => Self::Policy { peer: read_peer(r)?, policy: read_policy(r)? },
            ROTATED => Self::Rotated,
            HEARD => Self::Heard { door: r.u8()? },
            _ => return Err(Malformed::Value),
        })
    }
}

/// All of what `write` writes, or nothing.
fn whole<'w>(w: &mut Writer<'w>, write: impl FnOnce(&mut Writer<'w>) -> Result<(), NoRoom>) -> Result<(), NoRoom> {
    let before = w.len();
    let done = write(w);
    if done.is_err() {
        w.truncate(before);
    }
    done
}

fn write_bytes(w: &mut Writer<'_>, bytes: &[u8], max: usize) -> Result<(), NoRoom> {
    if bytes.len() > max { Err(NoRoom) } else { w.prefixed(bytes) }
}

fn read_bytes<'a>(r: &mut Reader<'a>, max: usize) -> Result<&'a [u8], Malformed> {
    let bytes = r.prefixed()?;
    if bytes.len() > max { Err(Malformed::Value) } else { Ok(bytes) }
}

fn read_flag(r: &mut Reader<'_>) -> Result<bool, Malformed> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::Value),
    }
}

fn read_peer(r: &mut Reader<'_>) -> Result<PeerId, Malformed> {
    r.u64().map(PeerId::from_raw)
}

fn read_group(r: &mut Reader<'_>) -> Result<GroupId, Malformed> {
    r.u64().map(GroupId::from_raw)
}

const FAMILY_V4: u8 = 4;
const FAMILY_V6: u8 = 6;

fn write_candidates(w: &mut Writer<'_>, candidates: &Candidates) -> Result<(), NoRoom> {
    let all = candidates.as_slice();
    w.u8(all.len() as u8)?;
    all.iter().try_for_each(|addr| write_address(w, *addr))
}

pub(super) fn write_address(w: &mut Writer<'_>, addr: SocketAddr) -> Result<(), NoRoom> {
    match addr.ip() {
        IpAddr::V4(ip) => {
            w.u8(FAMILY_V4)?;
            w.bytes(&ip.octets())?;
        }
        IpAddr::V6(ip) => {
            w.u8(FAMILY_V6)?;
            w.bytes(&ip.octets())?;
        }
    }
    w.u16(addr.port())
}

pub(super) fn read_address(r: &mut Reader<'_>) -> Result<SocketAddr, Malformed> {
    let ip = match r.u8()? {
        FAMILY_V4 => IpAddr::V4(Ipv4Addr::from(r.array::<4>()?)),
        FAMILY_V6 => IpAddr::V6(Ipv6Addr::from(r.array::<16>()?)),
        _ => return Err(Malformed::Value),
    };
    Ok(SocketAddr::new(ip, r.u16()?))
}

/// A count above the bound is refused before anything is read by it; an address that comes twice is kept once.
fn read_candidates(r: &mut Reader<'_>) -> Result<Candidates, Malformed> {
    let count = r.u8()?;
    if usize::from(count) > MAX_CANDIDATES {
        return Err(Malformed::Value);
    }
    let mut candidates = Candidates::new();
    for _ in 0..count {
        candidates.push(read_address(r)?);
    }
    Ok(candidates)
}

/// What begins a message about one peer, as long as its link has this epoch.
fn write_pair(w: &mut Writer<'_>, kind: u8, peer: PeerId, epoch: u64) -> Result<(), NoRoom> {
    w.u8(kind)?;
    w.u64(peer.raw())?;
    w.varint(epoch)
}

/// One byte: when to punch in the lower half, which way is preferred in the upper.
fn write_policy(w: &mut Writer<'_>, policy: PathPolicy) -> Result<(), NoRoom> {
    w.u8(policy.punch as u8 | ((policy.prefer as u8) << 4))
}

fn read_policy(r: &mut Reader<'_>) -> Result<PathPolicy, Malformed> {
    let byte = r.u8()?;
    let punch = [PunchPolicy::Always, PunchPolicy::OnTraffic, PunchPolicy::Never];
    let prefer = [Prefer::Direct, Prefer::Fastest, Prefer::DirectOnly, Prefer::RelayOnly];
    let punch = punch.into_iter().find(|p| *p as u8 == byte & 0x0f).ok_or(Malformed::Value)?;
    let prefer = prefer.into_iter().find(|p| *p as u8 == byte >> 4).ok_or(Malformed::Value)?;
    Ok(PathPolicy { punch, prefer })
}

const PATH_DIRECT: u8 = 0;

/// One byte, 0 for direct and else why not; a direct path's round-trip time follows, microseconds in 4 bytes.
fn write_path(w: &mut Writer<'_>, path: Path) -> Result<(), NoRoom> {
    match path {
        Path::Direct { rtt } => {
            w.u8(PATH_DIRECT)?;
            w.u32(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX))
        }
        Path::Relayed { because } => w.u8(relay_reason_code(because)),
    }
}

pub(super) const fn relay_reason_code(because: RelayReason) -> u8 {
    match because {
        RelayReason::Probing => 1,
        RelayReason::NoAnswer => 2,
        RelayReason::OnlyOutbound => 3,
        RelayReason::OnlyInbound => 4,
        RelayReason::HoleClosed => 5,
        RelayReason::Forbidden => 6,
        RelayReason::Unpredictable => 7,
        RelayReason::BudgetSpent => 8,
        RelayReason::NoSockets => 9,
        RelayReason::NoTraffic => 10,
        RelayReason::RelayFaster => 11,
        RelayReason::Crowded => 12,
    }
}

fn read_path(r: &mut Reader<'_>) -> Result<Path, Malformed> {
    match r.u8()? {
        PATH_DIRECT => Ok(Path::Direct { rtt: Duration::from_micros(u64::from(r.u32()?)) }),
        code => Ok(Path::Relayed { because: relay_reason(code)? }),
    }
}

pub(super) const fn relay_reason(code: u8) -> Result<RelayReason, Malformed> {
    Ok(match code {
        1 => RelayReason::Probing,
        2 => RelayReason::NoAnswer,
        3 => RelayReason::OnlyOutbound,
        4 => RelayReason::OnlyInbound,
        5 => RelayReason::HoleClosed,
        6 => RelayReason::Forbidden,
        7 => RelayReason::Unpredictable,
        8 => RelayReason::BudgetSpent,
        9 => RelayReason::NoSockets,
        10 => RelayReason::NoTraffic,
        11 => RelayReason::RelayFaster,
        12 => RelayReason::Crowded,
        _ => return Err(Malformed::Value),
    })
}

const fn leave_reason_code(why: LeaveReason) -> u8 {
    match why {
        LeaveReason::Left => 0,
        LeaveReason::GroupEnded => 1,
        LeaveReason::Disconnected => 2,
    }
}

const fn leave_reason(code: u8) -> Result<LeaveReason, Malformed> {
    Ok(match code {
        0 => LeaveReason::Left,
        1 => LeaveReason::GroupEnded,
        2 => LeaveReason::Disconnected,
        _ => return Err(Malformed::Value),
    })
}

#[cfg(test)]
mod tests;
