//! What the applications of a run wrote down: a timeline for people, and every message for the accounts.

use super::{ClientIndex, GroupIndex, Host, Target};
use posse_core::{Channel, Duration, EndReason, Instant, JoinOutcome, LeaveReason, Leg, LegReason, LoginFailure, Path};

/// One line of a timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Who noticed or did it; `None` for the network.
    pub who: Option<Host>,
    /// What.
    pub what: What,
}

/// What a line of a timeline says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The server let a client in.
    Accepted(ClientIndex),
    /// A client is logged in.
    LoggedIn,
    /// A client's login came to nothing.
    LoginFailed(LoginFailure),
    /// A client's session is over.
    Ended(EndReason),
    /// The server noticed that a client's session is over.
    ClientLeft(ClientIndex, EndReason),
    /// The server made a group.
    Created(GroupIndex, Vec<ClientIndex>),
    /// The server put a client into a group.
    Joining(GroupIndex, ClientIndex),
    /// The server took a client out of a group.
    Leaving(GroupIndex, ClientIndex),
    /// The server ends a group.
    Destroying(GroupIndex),
    /// The server ends a client's session, or a client its own.
    LoggingOut(ClientIndex),
    /// The server's account of a join.
    JoinCompleted(GroupIndex, ClientIndex, JoinOutcome),
    /// The server's account of a group's end.
    GroupEnded(GroupIndex),
    /// A client sees a member in a group.
    MemberJoined(GroupIndex, ClientIndex),
    /// A client sees a member gone.
    MemberLeft(GroupIndex, ClientIndex, LeaveReason),
    /// Somebody does not answer any more, or does again.
    Presence {
        /// Who.
        of: Host,
        /// Whether it is offline now.
        offline: bool,
    },
    /// A client's word on how traffic with a peer goes.
    Path(ClientIndex, Path),
    /// What the server heard from the first of how its traffic with the second goes.
    PathReported(ClientIndex, ClientIndex, Path),
    /// The first message of a sender in a scope that arrived, or the first that came directly.
    FirstMessage {
        /// The sender.
        from: Host,
        /// The group, or the receiver itself.
        to: Target,
        /// Whether it came directly.
        direct: bool,
        /// Since it was sent.
        took: Duration,
    },
    /// What goes between a client and the server goes by another leg.
    Leg(Leg, LegReason),
    /// The server sees a client on another leg.
    LegSeen(ClientIndex, Leg),
    /// The machine refused a call.
    Refused(String),
    /// A host crashed and came back.
    Restarted,
    /// The network changed.
    Network(String),
}

/// A message as its sender knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// Its scope.
    pub to: Target,
    /// Its scope.
    pub channel: Channel,
    /// Its number among the sender's in that scope, from 0.
    pub number: u64,
    /// The key under which a later one takes its place.
    pub key: Option<u32>,
    /// Whom the sender saw there.
    pub receivers: Vec<Host>,
}

/// A message as its receiver knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// When.
    pub at: Instant,
    /// Who sent it.
    pub from: Host,
    /// Its scope; the receiver itself if it was for it alone.
    pub to: Target,
    /// Its scope.
    pub channel: Channel,
    /// Its number.
    pub number: u64,
    /// When it was sent, as it says itself.
    pub sent_at: Instant,
    /// Whether it came directly.
    pub direct: bool,
    /// Whether its bytes are what its number says they are.
    pub intact: bool,
    /// Whether the receiver saw the sender in the group, and itself.
    pub inside: bool,
}

/// What one application wrote down.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Journal {
    /// The timeline.
    pub entries: Vec<Entry>,
    /// What it sent, in order.
    pub sent: Vec<Sent>,
    /// What it received, in order.
    pub received: Vec<Received>,
}
