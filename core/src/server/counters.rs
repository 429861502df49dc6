//! What a server counts, and how much it holds: for operators.

use super::LoginCounters;

/// What a server did not use of what came in, by cause, and what it forwarded: datagrams each unless said otherwise, since
/// construction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerCounters {
    /// Not of this protocol, or of no session.
    pub unknown: u64,
    /// Of a session but not authentic.
    pub unopened: u64,
    /// Of those, the ones that were authentic and seen before, or too old to tell.
    pub replayed: u64,
    /// Login requests that were not answered: not authentic, for another key, or too many at once.
    pub logins_dropped: u64,
    /// Logins that came to nothing before the application heard of them.
    pub logins: LoginCounters,
    /// Relayed on.
    pub forwarded: u64,
    /// Handed in for relaying and refused: no such session or route, wrong authentication, replayed.
    pub relay_refused: u64,
    /// Of those, the ones whose number was seen before, or is too old to tell.
    pub relay_replayed: u64,
    /// Of those refused, the ones that were more than their sender may relay ([`crate::config::RelayBudget`]).
    pub relay_over_budget: u64,
    /// Admitted by the relay but dropped, because the driver's outbox had no room.
    pub relay_dropped: u64,
    /// Admitted by the relay, and made way for later ones as their receiver's TCP connection took too little.
    pub relay_displaced: u64,
    /// TCP connections that were closed at once, as too many of the kind were open that nobody had logged in by.
    pub streams_refused: u64,
    /// Clients that broke the protocol and were ended.
    pub violations: u64,
    /// Clients that went on at another address.
    pub moved: u64,
}

/// How much a server holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServerSize {
    /// Sessions, those that are still logging in included.
    pub sessions: usize,
    /// Clients that were accepted.
    pub clients: usize,
    /// Groups.
    pub groups: usize,
    /// Pairs of clients that share a group.
    pub pairs: usize,
    /// Routes of the relay, one a direction of a pair.
    pub routes: usize,
    /// TCP connections, those that nobody has logged in by included.
    pub streams: usize,
}
