//! What goes into a [`Punch`](super::Punch) at its making, and what comes out of it.

use super::{Gate, Way};
use crate::event::RelayReason;
use crate::time::Duration;

/// What the application decides about direct paths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PunchConfig {
    /// Whether direct paths are looked for at first.
    pub(crate) gate: Gate,
    /// After this long without a packet on the direct path its receive direction no longer counts as working. More than
    /// two of the peer's keepalive intervals (15 s ± 20 % when idle), so that one lost keepalive changes nothing.
    pub(crate) inbound_silence: Duration,
    /// Whether the server is asked for a search where plain punching leads nowhere.
    pub(crate) searches: bool,
}

impl Default for PunchConfig {
    fn default() -> Self {
        Self { gate: Gate::Open, inbound_silence: Duration::from_secs(40), searches: false }
    }
}

/// One small datagram to be sealed and sent: `challenge` and `response` are tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Probe {
    pub(crate) over: Over,
    pub(crate) challenge: Option<u64>,
    pub(crate) response: Option<u64>,
    /// Over how many routers it may go, if not over all that there are.
    pub(crate) hop_limit: Option<u8>,
}

impl Probe {
    /// One that gets to where it goes.
    pub(super) fn whole(over: Over, challenge: Option<u64>, response: Option<u64>) -> Self {
        Self { over, challenge, response, hop_limit: None }
    }
}

/// The way a probe goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    Direct(Way),
    Relay,
}

/// What [`Punch`] has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PunchEvent {
    /// From now on direct packets go to `to`, which is proven to arrive; `rtt` is the best of its challenges' times.
    Validated { to: Way, rtt: Duration },
    /// The address in use answered, though the transport doubts it: it should be tried with a packet now.
    Answered,
    /// The server should start both ends' next round at one moment. Once a round.
    WantsRestart,
    /// Plain punching leads nowhere so far: the server may know something better.
    WantsSearch,
    /// The verdict changed.
    Verdict(Verdict),
}

/// Whether the pair is direct, and if not, why. At the beginning `Relayed(Probing)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Both directions are.
    Direct,
    Relayed(RelayReason),
}

/// Counters; they wrap at 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct PunchStats {
    /// Challenges sent.
    pub(crate) challenges: u64,
    /// Responses sent, in datagrams.
    pub(crate) responses: u64,
    /// Responses that arrived for no outstanding token.
    pub(crate) unknown_responses: u64,
    /// Responses that fell out of the full queue.
    pub(crate) dropped_responses: u64,
    /// Addresses that were not taken as candidates because nothing can be probed there.
    pub(crate) unprobeable: u64,
    /// Addresses that were not taken as candidates because the list was full.
    pub(crate) crowded_out: u64,
}
