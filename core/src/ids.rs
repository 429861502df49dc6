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

/// What a channel promises, within (sender, group or peer, channel).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reliability {
    /// Every message once, in the order sent.
    ReliableOrdered,
    /// Every message once, each as soon as it is there.
    ReliableUnordered,
    /// Each message at most once, in any order, possibly never.
    Unreliable,
    /// Each message at most once, possibly never, and none after one that was sent later: of each key
    /// ([`SendOptions::replaces`](crate::SendOptions::replaces)) apart.
    UnreliableSequenced,
}

impl Reliability {
    /// Whether every message arrives.
    pub const fn is_reliable(self) -> bool {
        matches!(self, Self::ReliableOrdered | Self::ReliableUnordered)
    }

    /// Whether no message is handed on after one that was sent later.
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::ReliableOrdered | Self::UnreliableSequenced)
    }
}

impl Channel {
    /// Channels of each [`Reliability`].
    pub const EACH: u8 = 64;

    /// The `n`-th reliable ordered channel, `n` < 64 (taken modulo 64): numbers 0 to 63.
    pub const fn reliable(n: u8) -> Self {
        Self(n % Self::EACH)
    }

    /// The `n`-th reliable unordered channel, `n` < 64 (taken modulo 64): numbers 64 to 127.
    pub const fn unordered(n: u8) -> Self {
        Self(n % Self::EACH + Self::EACH)
    }

    /// The `n`-th unreliable channel, `n` < 64 (taken modulo 64): numbers 128 to 191.
    pub const fn unreliable(n: u8) -> Self {
        Self(n % Self::EACH + 2 * Self::EACH)
    }

    /// The `n`-th unreliable sequenced channel, `n` < 64 (taken modulo 64): numbers 192 to 255.
    pub const fn sequenced(n: u8) -> Self {
        Self(n % Self::EACH + 3 * Self::EACH)
    }

    /// The `n`-th channel of that kind, `n` < 64 (taken modulo 64).
    pub const fn of(kind: Reliability, n: u8) -> Self {
        match kind {
            Reliability::ReliableOrdered => Self::reliable(n),
            Reliability::ReliableUnordered => Self::unordered(n),
            Reliability::Unreliable => Self::unreliable(n),
            Reliability::UnreliableSequenced => Self::sequenced(n),
        }
    }

    /// What this channel promises. Both ends derive it from the number, so they cannot disagree.
    pub const fn reliability(self) -> Reliability {
        match self.0 / Self::EACH {
            0 => Reliability::ReliableOrdered,
            1 => Reliability::ReliableUnordered,
            2 => Reliability::Unreliable,
            _ => Reliability::UnreliableSequenced,
        }
    }

    /// Which of its kind it is, from 0 to 63.
    pub const fn index(self) -> u8 {
        self.0 % Self::EACH
    }
}

/// A set of channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Channels([u64; 4]);

impl Channels {
    /// True if it was not in there.
    pub(crate) fn insert(&mut self, Channel(n): Channel) -> bool {
        let Some(word) = self.0.get_mut(usize::from(n / 64)) else { return false };
        let (bit, before) = (1 << (n % 64), *word);
        *word |= bit;
        before & bit == 0
    }

    pub(crate) fn remove(&mut self, Channel(n): Channel) {
        if let Some(word) = self.0.get_mut(usize::from(n / 64)) {
            *word &= !(1 << (n % 64));
        }
    }

    /// All of them, in order; then it is empty.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Channel> + use<> {
        let all = core::mem::take(&mut self.0);
        (0..=u8::MAX).filter(move |n| all.get(usize::from(n / 64)).is_some_and(|w| w >> (n % 64) & 1 == 1)).map(Channel)
    }
}

/// A datagram socket of the driver. The first one is [`SocketId::MAIN`]; others exist because the machine asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketId(pub u16);

impl SocketId {
    /// The socket that carries the server link and every peer.
    pub const MAIN: Self = Self(0);
    /// No socket: what came out of a stream. Drivers never use it.
    pub(crate) const STREAM: Self = Self(u16::MAX);
}

/// A byte stream of the driver (the TCP leg).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);
