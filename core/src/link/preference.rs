//! Which of two ways traffic between peers takes, where there are two.
//!
//! *Fastest* compares round trips, smoothed so that the way that is only sampled now and then follows a change as well
//! ([`Transport::recent_rtt`]). It changes over where the other way is better by a tenth and [`MARGIN`], in either
//! direction, so that equal ways never alternate (as GameNetworkingSockets scores its routes). Both ways are sampled by the
//! traffic that they carry, the idle one by a keepalive.

use crate::policy::Prefer;
use crate::time::Duration;
use crate::transport::{DIRECT, MAIN, Transport};

/// By how much, beside a tenth, the other way has to be better: less is a home network's jitter.
const MARGIN: Duration = Duration::from_millis(5);
/// How often the way by the relay is sampled while traffic goes directly.
const SAMPLE: Duration = Duration::from_secs(5);

/// See the module's text.
#[derive(Default)]
pub(super) struct Preference {
    prefer: Prefer,
    /// Traffic takes the relay though there is a direct path, and what was told of that.
    relay: bool,
    told: bool,
}

impl Preference {
    pub(super) fn set(&mut self, prefer: Prefer, transport: &mut Transport) {
        if core::mem::replace(&mut self.prefer, prefer) == prefer {
            return;
        }
        transport.set_direct_only(prefer == Prefer::DirectOnly);
        self.on_direct(transport);
        if prefer != Prefer::Fastest {
            self.relay = false;
            transport.avoid_direct(false);
        }
    }

    /// There is a direct path.
    pub(super) fn on_direct(&mut self, transport: &mut Transport) {
        transport.set_keepalive(MAIN, (self.prefer == Prefer::Fastest).then_some(SAMPLE));
    }

    /// Compares the two ways.
    pub(super) fn weigh(&mut self, transport: &mut Transport) {
        if self.prefer != Prefer::Fastest {
            return;
        }
        let (Some(relay), Some(direct)) = (transport.recent_rtt(MAIN), transport.recent_rtt(DIRECT)) else { return };
        let (present, other) = if self.relay { (relay, direct) } else { (direct, relay) };
        if clearly_above(present, other) {
            self.relay = !self.relay;
            transport.avoid_direct(self.relay);
        }
    }

    pub(super) fn is_relay(&self) -> bool {
        self.relay
    }

    /// Whether it changed since this was last asked, with a direct path there.
    pub(super) fn news(&mut self, direct: bool) -> bool {
        direct && core::mem::replace(&mut self.told, self.relay) != self.relay
    }
}

fn clearly_above(present: Duration, other: Duration) -> bool {
    present > other.saturating_add(other / 10).saturating_add(MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_two_round_trips_have_traffic_alternate(a in 0u64..2_000_000, b in 0u64..2_000_000) {
            let (a, b) = (Duration::from_micros(a), Duration::from_micros(b));
            prop_assert!(!(clearly_above(a, b) && clearly_above(b, a)));
        }
    }
}
