//! What a transport does otherwise where some of a path's way is a byte stream.
//!
//! A stream neither loses nor reorders, so a gap is a real drop (a full queue before the stream, or the other end's UDP) and is
//! repaired as ever, once something later is acknowledged. But it may stand still for seconds while TCP repeats a segment, and
//! whatever is sent again meanwhile only makes its queue longer. So a timeout asks and repeats nothing: it sends one PING, after
//! 300 ms at least, and twice as long each time ([`super::path`]). Word of that PING shows what before it is lost. Nothing rides
//! again before its loss is known ([`super::scheduler`]), a stall counts as no queue ([`super::congestion`]'s delay guard), and
//! unreliable messages that waited for [`STALE`] are dropped instead of being sent late.

use super::space::Carried;
use super::{MAIN, PathId, Scope, Transport};
use crate::command::SendOptions;
use crate::leg::Leg;
use crate::time::{Duration, Instant};
use crate::wire::buf::Writer;
use crate::wire::frames;

/// An unreliable message that waited so long for a stream is not sent any more: six frames of a game, after which a newer one is
/// there.
const STALE: Duration = Duration::from_millis(100);

/// The leg that this end uses, said until it is acknowledged.
#[derive(Debug, Default)]
pub(super) struct LegNews {
    leg: Option<Leg>,
    /// Which change it was: word of an earlier one says nothing of this.
    change: u32,
    told: bool,
}

impl LegNews {
    pub(super) fn on_acked(&mut self, change: u32) {
        self.told |= change == self.change;
    }
}

impl Transport {
    /// The main path goes by another leg from now on, a byte stream or not; until there is a sample its round trip counts as
    /// the one before. What was not acknowledged goes again, by the new one.
    pub(crate) fn change_leg(&mut self, now: Instant, stream: bool) {
        let Some(path) = self.paths.get_mut(usize::from(MAIN)) else { return };
        path.set_stream(stream);
        // Whatever had no room was another leg.
        path.blocked = false;
        let (rtt, payload) = (path.rtt.smoothed(), path.payload);
        self.open_path(now, MAIN, rtt, payload);
    }

    /// Tells the other end of the leg, again in each packet until one is acknowledged; the first at once.
    pub(crate) fn tell_leg(&mut self, leg: Leg) {
        self.leg = LegNews { leg: Some(leg), change: self.leg.change.wrapping_add(1), told: false };
        self.probe(MAIN);
    }

    /// Whether some of the main path's way is a byte stream, this end's or the other's.
    pub(crate) fn set_stream(&mut self, stream: bool) {
        if let Some(path) = self.paths.get_mut(usize::from(MAIN)).filter(|path| path.is_stream() != stream) {
            path.set_stream(stream);
        }
    }

    /// Whether packets of the main path find no room for now.
    pub(crate) fn set_blocked(&mut self, blocked: bool) {
        if let Some(path) = self.paths.get_mut(usize::from(MAIN)) {
            path.blocked = blocked;
        }
    }

    /// Whether packets of the main path found no room when they last were asked for.
    pub(crate) fn is_held_up(&self) -> bool {
        self.is_blocked(MAIN)
    }

    pub(super) fn is_blocked(&self, id: PathId) -> bool {
        self.path(id).is_some_and(|path| path.blocked)
    }

    /// Probe timeouts of the main path in a row.
    pub(crate) fn timeouts(&self) -> u32 {
        self.path(MAIN).map_or(0, |path| path.timeouts)
    }

    /// Whether something that was sent on the main path waits for word.
    pub(crate) fn is_waiting(&self) -> bool {
        self.path(MAIN).is_some_and(|path| path.sent.is_waiting())
    }

    /// An unreliable message is not sent late.
    pub(super) fn for_stream(&self, scope: Scope, options: &SendOptions) -> SendOptions {
        let slow = self.data_path() == MAIN && self.path(MAIN).is_some_and(|path| path.is_stream());
        if !slow || scope.is_reliable() {
            return *options;
        }
        SendOptions { deadline: Some(options.deadline.map_or(STALE, |within| within.min(STALE))), ..*options }
    }

    pub(super) fn write_leg(&mut self, id: PathId, w: &mut Writer<'_>) {
        if let (MAIN, Some(leg), false) = (id, self.leg.leg, self.leg.told)
            && let Some(path) = self.paths.get_mut(usize::from(id))
            && frames::write_leg(w, leg).is_ok()
        {
            path.sent.carry(Carried::Leg(self.leg.change));
        }
    }
}
