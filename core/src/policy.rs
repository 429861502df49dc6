//! Which ways traffic between two clients may go, and when a direct one is looked for.
//!
//! Several parties have a say: the server for a group and for a pair, each client for itself and for a peer. [`PathPolicy::and`]
//! puts them together: the stricter wins, in each of the two questions by itself. So a client can restrict what its server
//! allows, and a group that keeps addresses secret is not undone by another group that two of its members share.

/// When a direct path is looked for. Later ones are stricter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum PunchPolicy {
    /// As soon as two clients share a group.
    #[default]
    Always,
    /// When either sends something to the other for the first time: a lobby of many who talk to few punches few holes.
    OnTraffic,
    /// At no time.
    Never,
}

/// Which way traffic goes where there are two. Later ones are stricter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Prefer {
    /// Directly wherever it can: it costs the server nothing.
    #[default]
    Direct,
    /// Whichever way has the shorter round trip, by a tenth and 5 ms at least, so that equal ways do not alternate.
    Fastest,
    /// Unreliable messages only directly: while traffic is relayed they are dropped, and counted. Reliable ones are relayed.
    DirectOnly,
    /// By the relay alone: the clients do not learn each other's addresses.
    RelayOnly,
}

/// Both together. The default allows everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct PathPolicy {
    /// When a direct path is looked for.
    pub punch: PunchPolicy,
    /// Which way traffic goes.
    pub prefer: Prefer,
}

impl PathPolicy {
    /// The relay alone.
    pub const RELAY_ONLY: Self = Self { punch: PunchPolicy::Always, prefer: Prefer::RelayOnly };

    /// Of both.
    pub const fn new(punch: PunchPolicy, prefer: Prefer) -> Self {
        Self { punch, prefer }
    }

    /// Whether there may be a direct path at all.
    pub fn allows_direct(self) -> bool {
        self.punch != PunchPolicy::Never && self.prefer != Prefer::RelayOnly
    }

    /// What two who have a say agree on: the stricter of each.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { punch: self.punch.max(other.punch), prefer: self.prefer.max(other.prefer) }
    }

    /// What of one client's wish its peer has to heed: whether and when they punch. Which of two ways its own traffic takes
    /// is nobody else's business.
    pub(crate) fn shared(self) -> Self {
        let prefer = if self.prefer == Prefer::RelayOnly { Prefer::RelayOnly } else { Prefer::Direct };
        Self { prefer, ..self }
    }
}
