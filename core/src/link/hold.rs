//! What of a link outlives it: its direct path's hole, and keys that can do nothing but keep it open.

use super::Link;
use crate::path::{Hole, Way};
use crate::secure::Protection;
use crate::time::Instant;
use crate::transport::DIRECT;
use alloc::vec::Vec;

impl Link {
    /// The hole of the direct path in use, the ways by which the peer's packets came, and the keys for keeping it, if there is one.
    /// The link's own keys are no part of them.
    pub(crate) fn path_hold(&self) -> Option<(Hole, Vec<Way>, Protection)> {
        let punch = self.puncher_ref()?;
        let datagram = self.transport.path_stats(DIRECT).datagram as usize;
        let hole = punch.hole(self.transport.last_acked(DIRECT), self.direct_rtt(), datagram)?;
        Some((hole, punch.heard_by().collect(), self.protection.path_hold()?))
    }

    /// Its peer and this end had this hole, and kept it: see [`crate::path::Punch::inherit`].
    pub(crate) fn inherit(&mut self, now: Instant, hole: &Hole, fresh_until: Instant) {
        if let Some(direct) = &mut self.direct {
            direct.inherited = Some((hole.to, hole.datagram));
            direct.punch.inherit(now, *hole, fresh_until);
        }
    }
}
