//! What becomes of a way that was found: doubted, good again, or dead.

use super::{Phase, Punch, STABLE_AFTER};
use crate::time::Instant;

impl Punch {
    /// Data goes by the relay for now, which is answered while the direct path is not: the pair is relayed until
    /// [`Self::on_recovered`], a death, or another address that answers. A round begins at once, as the hole may have moved.
    /// Of an address that has just answered, and that nobody was told of yet, it says nothing: that begins unsuspected.
    pub(crate) fn on_doubt(&mut self, now: Instant) {
        self.doubted = self.send.is_some() && self.validated.is_none();
        self.update(now);
    }

    /// The server, or this host, was away and is back: both ends look for each other at once and together, rather than when
    /// the wait is over.
    pub(crate) fn on_revived(&mut self, now: Instant) {
        if self.young_deaths <= 1 && matches!(self.phase, Phase::Waiting { .. }) {
            self.begin_round(now);
            self.wants_restart = true;
            self.update(now);
        }
    }

    /// The path in use carries data again.
    pub(crate) fn on_recovered(&mut self, now: Instant) {
        self.doubted = false;
        self.update(now);
    }

    /// The transport gave the direct path up. Nothing proven before counts any longer.
    pub(crate) fn on_dead(&mut self, now: Instant) {
        if self.send.take().is_none() {
            return;
        }
        self.validated = None;
        self.rival = None;
        let already_punching = core::mem::take(&mut self.doubted) && matches!(self.phase, Phase::Round { .. });
        self.last_response = None;
        self.last_inbound = None;
        for candidate in &mut self.candidates {
            candidate.forget(already_punching);
        }
        self.young_deaths = match now.since(self.open_since) {
            lived if lived >= STABLE_AFTER => 0,
            _ => self.young_deaths.saturating_add(1),
        };
        self.failures = self.young_deaths.saturating_sub(2);
        if already_punching {
            // The round of the doubt goes on.
        } else if self.young_deaths <= 1 {
            self.begin_round(now);
            self.wants_restart = true;
        } else {
            self.wait(now);
        }
        self.update(now);
    }
}
