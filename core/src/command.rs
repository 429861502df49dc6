//! What an application asks of a machine, as owned data: for fuzzers, scenarios and replay.
//!
//! People call the typed methods of [`Client`](crate::Client) and [`Server`](crate::Server); `execute` dispatches a
//! [`Command`] to the same methods. Both ways pass the same [`Tap`](crate::Tap).

use crate::ids::{Channel, GroupId, LoginId, PeerId};
use crate::policy::PathPolicy;
use crate::time::Duration;
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

/// How urgent a message is. A more urgent class goes first, strictly, but for a sixteenth of the bytes that each less
/// urgent one gets all the same; within a class, channels and groups take turns. A message that stands behind others in
/// its channel pulls them along.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Class {
    /// Before all others: input, votes, what a player waits for.
    Urgent,
    /// Unless said otherwise.
    #[default]
    Normal,
    /// After all others: downloads, logs.
    Bulk,
}

impl Class {
    /// From the most to the least urgent.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];
}

/// How a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub struct SendOptions {
    /// Also deliver a message to a group to the sender itself. Off by default.
    pub loopback: bool,
    /// How urgent it is.
    pub class: Class,
    /// Not worth sending after so long: what has not left by then is dropped, and counted. Unreliable channels only, as a
    /// reliable message was promised to arrive.
    pub deadline: Option<Duration>,
    /// Supersedes the message with the same key on the same channel that has not been sent completely yet: of a thing
    /// whose latest state counts, only that. On a sequenced channel, each key is a sequence of its own, and a newer
    /// message also takes the place of one that the receiver's application has not polled yet.
    pub replaces: Option<u32>,
}

impl SendOptions {
    /// Also deliver a message to a group to the sender itself.
    pub const fn loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// How urgent it is.
    pub const fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Not worth sending after so long; unreliable channels only.
    pub const fn deadline(mut self, within: Duration) -> Self {
        self.deadline = Some(within);
        self
    }

    /// Supersedes the message with the same key that has not been sent yet.
    pub const fn replaces(mut self, key: u32) -> Self {
        self.replaces = Some(key);
        self
    }
}

/// What holds for a group as long as it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub struct GroupRules {
    /// It stays when its last member has left, until it is destroyed.
    pub keep_empty: bool,
    /// The server is in it, from its beginning to its end: it can send to it, and gets what members send to it. Members see
    /// it join as [`PeerId::SERVER`].
    pub server_is_member: bool,
    /// It goes by this number, below 2^31, as long as it is there; no other has it in that time. Its id is another one each
    /// time.
    pub number: Option<u32>,
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
    /// Send a message to several. Client and server.
    SendList {
        /// Whom to.
        to: Vec<Target>,
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
        /// What holds for it.
        rules: GroupRules,
        /// Which ways traffic among its members may go; `None`: as the server's configuration says.
        policy: Option<PathPolicy>,
    },
    /// Client: which ways traffic may go, as far as it has a say.
    Restrict {
        /// With whom; with all peers if it is [`PeerId::SERVER`].
        peer: PeerId,
        /// Which.
        policy: PathPolicy,
    },
    /// Server: which ways traffic among a group's members may go.
    SetGroupPolicy {
        /// Which group.
        group: GroupId,
        /// Which ways.
        policy: PathPolicy,
    },
    /// Server: which ways traffic between two clients may go, beside what their groups say.
    SetPairPolicy {
        /// The one.
        a: PeerId,
        /// The other.
        b: PeerId,
        /// Which ways.
        policy: PathPolicy,
    },
    /// Server: end all groups that have no members.
    DestroyEmptyGroups,
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
    /// Server: let nobody in any more, or again.
    Drain {
        /// Whether nobody is let in.
        on: bool,
    },
    /// Server: how long a client may be silent.
    SetTimeout {
        /// Whose session.
        client: PeerId,
        /// Then it is over.
        timeout: core::time::Duration,
    },
    /// Server: end a group.
    DestroyGroup {
        /// Which.
        group: GroupId,
    },
}
