//! What a machine tells its application: owned and small. A message's bytes go into the caller's reusable buffer.

use crate::ids::{Channel, GroupId, LoginId, PeerId};
use crate::leg::{Leg, LegReason};
use crate::ticket::Ticket;
use crate::time::Duration;
use alloc::boxed::Box;
use core::net::SocketAddr;

/// What a client tells its application, in one ordered queue: a join stands before its member's first message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server's application accepted the login.
    LoggedIn {
        /// This client's id from now on.
        me: PeerId,
        /// What the server's application had to say.
        message: Box<[u8]>,
    },
    /// The login came to nothing; the client is over.
    LoginFailed(LoginFailure),
    /// The session is over, and with it every group.
    Ended(EndReason),
    /// A message; its bytes are in the buffer that was passed to the poll.
    Message(Message),
    /// A member is in a group: this client itself, one that was there before, or a newcomer. Counts as processed when
    /// polled.
    MemberJoined {
        /// Which group.
        group: GroupId,
        /// Who; possibly this client.
        member: PeerId,
        /// What the server's application said of that client when it accepted it.
        user_data: Box<[u8]>,
        /// What the server's application sent along with this join.
        message: Box<[u8]>,
    },
    /// A member is no longer in a group. Nothing of that member's in that group follows.
    MemberLeft {
        /// Which group.
        group: GroupId,
        /// Who; possibly this client.
        member: PeerId,
        /// Why.
        why: LeaveReason,
    },
    /// The server does not answer (see [`crate::Timers::offline`]). The session goes on, and so does what goes directly to
    /// peers: reliable messages wait, unreliable ones by way of the server are dropped. [`Self::ServerOnline`] or
    /// [`Self::Ended`] follows.
    ServerOffline,
    /// The server answers again. Nothing reliable was lost; ids and groups are what they were.
    ServerOnline,
    /// Nothing gets to a member at present: the server does not hear of it, or this client not of the server, and there is no
    /// direct path. It stays in its groups; reliable messages wait, unreliable ones are dropped. [`Self::MemberOnline`] follows,
    /// or that it left.
    MemberOffline {
        /// Who.
        member: PeerId,
    },
    /// A member that was offline can be reached again.
    MemberOnline {
        /// Who.
        member: PeerId,
    },
    /// Traffic with a peer goes another way now, or for another reason.
    PathChanged {
        /// Which peer.
        peer: PeerId,
        /// How it goes now.
        path: Path,
    },
    /// Everything between this client and its server, relayed traffic included, goes by another leg now. Nothing is lost,
    /// repeated or reordered by that. Several changes between two polls are told as one. UDP from the beginning is not told.
    LegChanged {
        /// Which.
        leg: Leg,
        /// Why.
        why: LegReason,
    },
    /// A send that failed as full may be tried again; told once for each channel on which it was.
    Writable {
        /// To whom.
        to: PeerId,
        /// On which channel.
        channel: Channel,
    },
}

/// What a server tells its application.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A client that holds the right key and application id asks to be let in.
    LoginRequested {
        /// To accept or reject it by.
        login: LoginId,
        /// Its address as the server sees it.
        from: SocketAddr,
        /// What its application presented.
        token: Box<[u8]>,
        /// The ticket that it came with, if the server asks for such; nobody else comes with the same one.
        ticket: Option<Box<Ticket>>,
    },
    /// Logins were refused before they came to ask; the client hears the same. Those between two polls, for reasons of one
    /// kind, are told as one.
    LoginsRefused {
        /// Why the last one was.
        why: LoginRefusal,
        /// Where it came from.
        from: SocketAddr,
        /// How many there were.
        count: u64,
    },
    /// A client's session is over.
    ClientLeft {
        /// Whose.
        client: PeerId,
        /// Why.
        why: EndReason,
    },
    /// A client does not answer (see [`crate::Timers::offline`]). It keeps its id and stays in its groups, and what is sent to
    /// it reliably waits for it. [`Self::ClientOnline`] or [`Self::ClientLeft`] follows.
    ClientOffline {
        /// Who.
        client: PeerId,
    },
    /// A client that was offline answers again.
    ClientOnline {
        /// Who.
        client: PeerId,
    },
    /// What became of a join. Exactly one for each member that was put into a group.
    JoinCompleted {
        /// Which group.
        group: GroupId,
        /// Who joined.
        member: PeerId,
        /// What became of it.
        outcome: JoinOutcome,
    },
    /// A group is over.
    GroupEnded(GroupId),
    /// A message; its bytes are in the buffer that was passed to the poll.
    Message(Message),
    /// Traffic between two clients goes another way now, or for another reason: direct when both say so. Several changes
    /// between two polls are told as one.
    PathChanged {
        /// The lower id.
        a: PeerId,
        /// The higher id.
        b: PeerId,
        /// How traffic between them goes.
        path: Path,
    },
    /// Everything between a client and this server goes by another leg now. Several changes between two polls are told as
    /// one. UDP from the beginning is not told.
    LegChanged {
        /// Whose.
        client: PeerId,
        /// Which.
        leg: Leg,
    },
    /// A send that failed as full may be tried again; told once for each channel on which it was.
    Writable {
        /// To whom.
        to: PeerId,
        /// On which channel.
        channel: Channel,
    },
}

/// Where a message came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The sender.
    pub from: PeerId,
    /// The group it was sent to, `None` if to this peer alone.
    pub group: Option<GroupId>,
    /// On which channel.
    pub channel: Channel,
    /// Whether its last part came directly, not by the server's relay. True between client and server.
    pub direct: bool,
}

/// How traffic with a peer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Path {
    /// Directly, both ways.
    Direct {
        /// Smoothed round-trip time of the direct path; before the first packet on it was acknowledged, what the probe
        /// that opened it took.
        rtt: Duration,
    },
    /// By the server's relay, in one direction at least.
    Relayed {
        /// Why not directly.
        because: RelayReason,
    },
}

/// Why traffic with a peer is relayed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum RelayReason {
    /// Nothing was sent yet, and a direct path is looked for only when something is.
    NoTraffic,
    /// Hole punching is under way.
    Probing,
    /// No probe of ours was answered and none of the peer's arrived: neither direction passes the NATs.
    NoAnswer,
    /// What we send arrives directly, but nothing of the peer's does.
    OnlyOutbound,
    /// What the peer sends arrives directly, but nothing of ours does.
    OnlyInbound,
    /// Both ends' NATs give out ports that cannot be found within any budget: neither is the same for all destinations, and
    /// both let in only whom a port was opened for.
    Unpredictable,
    /// Everything that the budgets allow was tried.
    BudgetSpent,
    /// One end's system gave it no sockets to try with.
    NoSockets,
    /// It was direct until the hole closed; punching goes on.
    HoleClosed,
    /// There is a direct path, but the relay is faster, and the policy prefers what is faster.
    RelayFaster,
    /// A policy does not allow a direct path: the group's, the pair's, or one of the two clients' own.
    Forbidden,
    /// One end has as many direct paths as it may have.
    Crowded,
}

/// Why a member is no longer in a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum LeaveReason {
    /// The server's application took it out.
    Left,
    /// The group was destroyed, or ended with its last member.
    GroupEnded,
    /// The member's session is over.
    Disconnected,
}

/// Why a login came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LoginFailure {
    /// No valid answer in time: no server there, no UDP, or another server key than the configured one.
    NoAnswer,
    /// The server speaks another version of the protocol.
    Version {
        /// The version that it speaks.
        server: u16,
    },
    /// The server is for another application.
    Application,
    /// Client and server have no cipher suite in common.
    Suite,
    /// The server's application said no.
    Rejected {
        /// What it had to say.
        message: Box<[u8]>,
    },
    /// The server takes no more sessions.
    ServerFull,
    /// The server takes nobody in any more, as it is about to stop; its present clients may stay until then.
    Draining,
    /// There is something wrong with the ticket.
    Ticket(TicketRefusal),
}

/// What is wrong with a ticket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum TicketRefusal {
    /// The server takes none in without one.
    Missing,
    /// Forged, damaged, or made for another server, another application, or with another key.
    Invalid,
    /// Its time is over.
    Expired,
    /// Somebody has come with it already.
    Used,
    /// The server cannot tell: it does not know what time it is, or remembers as many tickets as it may.
    Unavailable,
}

impl TicketRefusal {
    const ALL: [Self; 5] = [Self::Missing, Self::Invalid, Self::Expired, Self::Used, Self::Unavailable];

    /// On the wire.
    pub(crate) const fn code(self) -> u16 {
        self as u16
    }

    pub(crate) fn from_code(code: u16) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// Why a server refused a login before its application heard of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum LoginRefusal {
    /// The client speaks another version of the protocol.
    Version {
        /// The version that it speaks.
        client: u16,
    },
    /// The client is of another application.
    Application {
        /// Which.
        client: u64,
    },
    /// No cipher suite in common.
    Suite,
    /// As many sessions, or logins at a time, as may be.
    Full,
    /// The server takes nobody in any more.
    Draining,
    /// There is something wrong with the ticket.
    Ticket(TicketRefusal),
}

/// Why a session is over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum EndReason {
    /// This end's application closed it.
    Local,
    /// The other end's application closed it.
    Remote,
    /// Nothing was heard of the other end for too long.
    TimedOut,
    /// The other end broke the protocol.
    Violation,
}

/// What became of a join.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum JoinOutcome {
    /// All old members and the newcomer have processed it.
    Ok,
    /// It left before that.
    Left,
    /// The group ended before that.
    GroupEnded,
    /// Its session ended before that.
    Disconnected,
    /// Some member did not process it in time.
    TimedOut,
}
