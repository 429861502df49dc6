//! Where the packets of a link's main path go, and by what.

use crate::ids::SocketId;
use crate::leg::client::Carrier;
use crate::leg::queue::FrameQueue;
use crate::path::{Pace, Way};
use crate::secure::RelayKey;
use core::net::SocketAddr;

/// A client's way into the relay: one for all its peers.
pub(crate) struct RelayLeg {
    pub(crate) session: u64,
    pub(crate) key: RelayKey,
    /// Of the next wrap; never reused.
    pub(crate) number: u64,
    pub(crate) server: SocketAddr,
    /// Of all pairs' challenges.
    pub(crate) pace: Pace,
    /// By which socket everything leaves that has no other reason.
    pub(crate) home: SocketId,
    /// Which of UDP and TCP takes them there.
    pub(crate) carrier: Carrier,
}

impl RelayLeg {
    /// The way to the server.
    pub(crate) fn way(&self) -> Way {
        Way::new(self.home, self.server)
    }
}

/// Where packets on the main path go.
pub(crate) enum Route<'a> {
    /// Straight there: a server's to a client.
    Straight(Way),
    /// Into a client's stream.
    Stream(&'a mut FrameQueue),
    /// A client that has neither a stream nor an address that is proven.
    Nowhere,
    /// To the server, by the leg in use.
    Server(&'a mut RelayLeg),
    /// Wrapped, to a destination that the server knows by this handle.
    Relay(&'a mut RelayLeg, u32),
}

impl Route<'_> {
    /// What takes packets in place of a socket.
    pub(super) fn queue(&mut self) -> Option<&mut FrameQueue> {
        match self {
            Self::Straight(_) | Self::Nowhere => None,
            Self::Stream(queue) => Some(queue),
            Self::Server(leg) | Self::Relay(leg, _) => leg.carrier.queue(),
        }
    }

    /// Whether no packet is taken now.
    pub(super) fn is_blocked(&self) -> bool {
        match self {
            Self::Straight(_) => false,
            Self::Nowhere => true,
            Self::Stream(queue) => !queue.has_room(),
            Self::Server(leg) | Self::Relay(leg, _) => leg.carrier.is_blocked(),
        }
    }
}
