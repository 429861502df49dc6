//! Whether a pair may look for a direct path, and whether it has a reason to yet.

use super::{Phase, Punch, Verdict};
use crate::event::RelayReason;
use crate::time::Instant;

/// See the module's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Gate {
    /// It may.
    #[default]
    Open,
    /// It may once there is something to be sent, to the peer or from it.
    OnTraffic,
    /// It may not, for this reason: nothing is probed, and nothing is answered.
    Shut(RelayReason),
}

impl Punch {
    /// Changes it. Opening one begins a round, and asks for the peer's; shutting it ends everything that is under way.
    pub(crate) fn set_gate(&mut self, now: Instant, gate: Gate) {
        let before = core::mem::replace(&mut self.gate, gate);
        match (before, gate) {
            _ if before == gate => return,
            // It has a reason already.
            (Gate::Open, Gate::OnTraffic) if self.phase != Phase::New => self.gate = before,
            (_, Gate::Open) => self.open(now),
            (_, Gate::OnTraffic) => {}
            (_, Gate::Shut(_)) => self.shut(),
        }
        self.update(now);
    }

    pub(super) fn is_shut(&self) -> bool {
        matches!(self.gate, Gate::Shut(_))
    }

    /// Something is sent to the peer, or it has begun to look for us.
    pub(crate) fn on_traffic(&mut self, now: Instant) {
        if self.gate == Gate::OnTraffic {
            self.gate = Gate::Open;
            self.open(now);
            self.update(now);
        }
    }

    /// Not before the server has named candidates is there anything to send; it does so to both ends at once.
    fn open(&mut self, now: Instant) {
        (self.failures, self.young_deaths, self.judged, self.stopped) = (0, 0, false, None);
        self.adopt_inherited(now);
        self.begin_round(now);
        self.wants_restart = true;
    }

    fn shut(&mut self) {
        self.candidates.clear();
        self.responses.clear();
        (self.send, self.last_good, self.rival, self.source, self.validated) = (None, None, None, None, None);
        (self.last_response, self.last_inbound, self.retry, self.search_at) = (None, None, None, None);
        (self.was_direct, self.doubted, self.answered) = (false, false, false);
        (self.wants_restart, self.wants_search, self.searching, self.spray) = (false, false, false, None);
        (self.inherited, self.phase) = (None, Phase::New);
    }

    /// What a gate that is not open says.
    pub(super) fn gated(&self) -> Option<Verdict> {
        match self.gate {
            Gate::Open => None,
            Gate::OnTraffic => Some(Verdict::Relayed(RelayReason::NoTraffic)),
            Gate::Shut(because) => Some(Verdict::Relayed(because)),
        }
    }
}
