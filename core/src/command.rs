//! What an application asks of a machine, as owned data: for fuzzers, scenarios and replay.
//!
//! People call the typed methods of [`Client`](crate::Client) and [`Server`](crate::Server); `execute` dispatches a
//! [`Command`] to the same methods. Both ways pass the same [`Tap`](crate::Tap).

use crate::ids::{Channel, GroupId, LoginId, PeerId};
use alloc::vec::Vec;

/// Whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum To {
    /// One peer, or the server ([`PeerId::SERVER`]). Ordering scope: (sender, peer, channel).
    Peer(PeerId),
    /// Every other member of a group. Ordering scope: (sender, group, channel).
    Group(GroupId),
}

impl From<PeerId> for To {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl From<GroupId> for To {
    fn from(group: GroupId) -> Self {
        Self::Group(group)
    }
}

impl From<Target> for To {
    fn from(target: Target) -> Self {
        match target {
            Target::Peer(peer) => Self::Peer(peer),
            Target::Group(group) => Self::Group(group),
        }
    }
}

/// Whom a message is for, owned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Target {
    /// One peer, or the server.
    Peer(PeerId),
    /// Every other member of a group.
    Group(GroupId),
}

/// How a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub struct SendOptions {
    /// Also deliver a message to a group to the sender itself. Off by default.
    pub loopback: bool,
}

impl SendOptions {
    /// Also deliver a message to a group to the sender itself.
    pub const fn loopback(mut self) -> Self {
        self.loopback = true;
        self
    }
}

/// What the application asks of a client or a server. A machine refuses what is not for its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub enum Command {
    /// Send a message. Client and server.
    Send {
        /// Whom to.
        to: Target,
        /// On which channel.
        channel: Channel,
        /// The message.
        bytes: Vec<u8>,
        /// How.
        options: SendOptions,
    },
    /// Client: log out. Server: end a client's session.
    Disconnect {
        /// Whose session, on a server; ignored on a client.
        client: PeerId,
    },
    /// Server: let a login in.
    Accept {
        /// Which.
        login: LoginId,
        /// What its peers will see of it in their join events.
        user_data: Vec<u8>,
        /// What it gets to read in its own login event.
        message: Vec<u8>,
    },
    /// Server: turn a login away.
    Reject {
        /// Which.
        login: LoginId,
        /// What it gets to read.
        message: Vec<u8>,
    },
    /// Server: make a group.
    CreateGroup {
        /// Its first members.
        members: Vec<PeerId>,
        /// Carried unchanged in the join events.
        message: Vec<u8>,
    },
    /// Server: add a member to a group.
    Join {
        /// Who.
        member: PeerId,
        /// Where.
        group: GroupId,
        /// Carried unchanged in the join events.
        message: Vec<u8>,
    },
    /// Server: take a member out of a group.
    Leave {
        /// Who.
        member: PeerId,
        /// Where.
        group: GroupId,
    },
    /// Server: end a group.
    DestroyGroup {
        /// Which.
        group: GroupId,
    },
}
