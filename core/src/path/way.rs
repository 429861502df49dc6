//! One way to a peer: a socket of ours and an address of theirs.

use crate::ids::SocketId;
use core::net::SocketAddr;

/// A NAT may give each socket another outside port, so what is proven of one says nothing of the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Way {
    /// By which socket packets leave and arrive.
    pub(crate) socket: SocketId,
    /// Where they go, or come from.
    pub(crate) at: SocketAddr,
}

impl Way {
    pub(crate) const fn new(socket: SocketId, at: SocketAddr) -> Self {
        Self { socket, at }
    }
}

/// By the main socket.
impl From<SocketAddr> for Way {
    fn from(at: SocketAddr) -> Self {
        Self { socket: SocketId::MAIN, at }
    }
}

#[cfg(test)]
impl PartialEq<SocketAddr> for Way {
    fn eq(&self, at: &SocketAddr) -> bool {
        *self == Self::from(*at)
    }
}
