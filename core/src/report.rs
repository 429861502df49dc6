//! What was done for a direct path between two clients, and what came of it: for the question "why am I relayed?".

use crate::event::Path;
use crate::ids::{PeerId, SocketId};
use crate::policy::PathPolicy;
use crate::time::Duration;
use core::net::SocketAddr;

/// One client's account of one peer: [`Client::report`](crate::Client::report).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerReport {
    /// Which peer.
    pub peer: PeerId,
    /// How traffic goes, and why.
    pub path: Path,
    /// Which ways it may go, by everybody who has a say.
    pub policy: PathPolicy,
    /// From the first round of hole punching until the pair was direct for the first time, at this end.
    pub time_to_direct: Option<Duration>,
    /// Rounds of plain hole punching.
    pub rounds: u32,
    /// How often it became direct.
    pub holes: u32,
    /// What was done beyond plain punching.
    pub searches: Searches,
    /// Probes sent to the peer, those of searches included.
    pub challenges: u64,
    /// Datagrams sent in answer to the peer's.
    pub responses: u64,
    /// Addresses that were tried, now or before: [`Client::candidates`](crate::Client::candidates) has those of now.
    pub candidates: u32,
}

/// What was done beyond plain punching: how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Searches {
    /// New sockets were looked at from the server.
    pub measured: u32,
    /// Ports that the peer's NAT should give out next were tried.
    pub predicted: u32,
    /// Many sockets were opened towards the peer.
    pub scattered: u32,
    /// Many ports of the peer's NAT were tried.
    pub swept: u32,
    /// A new socket opened its NAT before anything was sent that gets to the peer's.
    pub opened: u32,
}

/// An address at which a peer was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CandidateReport {
    /// The peer's.
    pub address: SocketAddr,
    /// By which socket of ours.
    pub socket: SocketId,
    /// Who named it.
    pub from: CandidateSource,
    /// Probes sent to it.
    pub challenges: u32,
    /// The least time that one took to be answered, if one was in this round.
    pub answered: Option<Duration>,
    /// Whether an authentic packet came from there.
    pub heard: bool,
    /// Whether traffic goes there.
    pub in_use: bool,
}

/// Who named a candidate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CandidateSource {
    /// The server.
    Server,
    /// A search that the server ordered.
    Search,
    /// An authentic packet came from there.
    Peer,
}

/// The server's account of two clients: [`Server::report`](crate::Server::report).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PairReport {
    /// How traffic goes, and why.
    pub path: Path,
    /// Which ways it may go.
    pub policy: PathPolicy,
    /// From when the two were first told of each other's addresses until both had said "direct".
    pub time_to_direct: Option<Duration>,
    /// How often both were told to punch.
    pub starts: u32,
    /// How often it became direct.
    pub holes: u32,
    /// How often ports were predicted.
    pub predictions: u32,
    /// How often ports were tried at random.
    pub sweeps: u32,
    /// Probes that were granted for that.
    pub granted: u32,
}
