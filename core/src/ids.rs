//! Names of things: peers, groups, logins, channels, sockets, streams.
//!
//! Peer, group and login ids carry a generation beside a slot, so that an id that outlived its owner never addresses a
//! newcomer in the same slot.

use core::fmt;

macro_rules! generational {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
        pub struct $name(u64);

        impl $name {
            /// From its parts. Generations begin at 1.
            pub const fn new(slot: u32, generation: u32) -> Self {
                Self((generation as u64) << 32 | slot as u64)
            }
            /// From the number that [`Self::raw`] gave, or that came over the wire.
            pub const fn from_raw(raw: u64) -> Self {
                Self(raw)
            }
            /// As one number.
            pub const fn raw(self) -> u64 {
                self.0
            }
            /// The place in its owner's table; reused.
            pub const fn slot(self) -> u32 {
                self.0 as u32
            }
            /// How often that place had been taken, this time included.
            pub const fn generation(self) -> u32 {
                (self.0 >> 32) as u32
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}.{})", stringify!($name), self.slot(), self.generation())
            }
        }
    };
}

generational! {
    /// A client of the server, as all see it; or [`PeerId::SERVER`].
    PeerId
}
generational! {
    /// A group of peers.
    GroupId
}
generational! {
    /// A login that waits for the application's word.
    LoginId
}

impl PeerId {
    /// The server itself. No client ever has this id, since generations begin at 1.
    pub const SERVER: Self = Self(0);

    /// Whether this is the server.
    pub const fn is_server(self) -> bool {
        self.0 == 0
    }
}

/// A channel of messages between two ends or within a group. What a channel guarantees is its [`Reliability`], fixed by
/// the number's range: see [`Channel::reliability`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Channel(pub u8);

/// What a channel promises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reliability {
    /// Every message once, in the order sent within (sender, group or peer, channel).
    ReliableOrdered,
    /// Each message at most once, in any order, possibly never.
    Unreliable,
}

impl Channel {
    /// Channels from this number on are unreliable; those below are reliable and ordered.
    pub const FIRST_UNRELIABLE: u8 = 128;

    /// The `n`-th reliable ordered channel, `n` < 128 (taken modulo 128).
    pub const fn reliable(n: u8) -> Self {
        Self(n & 0x7f)
    }

    /// The `n`-th unreliable channel, `n` < 128 (taken modulo 128).
    pub const fn unreliable(n: u8) -> Self {
        Self(n | 0x80)
    }

    /// What this channel promises. Both ends derive it from the number, so they cannot disagree.
    pub const fn reliability(self) -> Reliability {
        if self.0 < Self::FIRST_UNRELIABLE { Reliability::ReliableOrdered } else { Reliability::Unreliable }
    }
}

/// A datagram socket of the driver. The first one is [`SocketId::MAIN`]; others exist because the machine asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(pub u16);

impl SocketId {
    /// The socket that carries the server link and every peer.
    pub const MAIN: Self = Self(0);
}

/// A byte stream of the driver (the TCP leg).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);
