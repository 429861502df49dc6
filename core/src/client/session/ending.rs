//! The end of a client's session: what was sent before is delivered, then the server is told.

use super::{Session, link_mut};
use crate::client::Parting;
use crate::client::queue::Queue;
use crate::client::session::SERVER_SLOT;
use crate::event::EndReason;
use crate::link::{CLOSE_LOCAL, CLOSE_TIMED_OUT, CLOSE_VIOLATION, Route, Unusable};
use crate::machine::{Ecn, Wake};
use crate::outbox::Outbox;
use crate::path::Way;
use crate::time::{Duration, Instant};
use alloc::boxed::Box;

/// A last word that TCP has not taken after so long is not waited for any more.
const LONGEST_DRAIN: Duration = Duration::from_secs(3);

/// The server's end of the link is over.
pub(in crate::client) struct Closed;

impl Session {
    /// Until when what was sent may take to be acknowledged; see [`Link::flush_until`].
    pub(in crate::client) fn flush_until(&self, now: Instant) -> Instant {
        self.server.flush_until(now)
    }

    fn is_flushed(&self) -> bool {
        let peers = self.peers.iter().flatten().filter(|peer| !peer.dead).map(|peer| &peer.link);
        core::iter::once(&self.server).chain(peers).all(|link| link.transport_ref().is_flushed())
    }

    pub(in crate::client) fn flush_wake(&self, until: Instant) -> (Instant, Wake) {
        if self.is_flushed() {
            return (Instant::ZERO, Wake::Now);
        }
        let end = (until, Wake::Idle);
        let leg = self.leg.carrier.wake(until).map(|at| (at, Wake::Probe));
        [self.schedule.next(), leg].into_iter().flatten().fold(end, Ord::min)
    }

    /// Takes a packet in of which only the acknowledgements count any more.
    pub(in crate::client) fn absorb(
        &mut self,
        now: Instant,
        cid: u64,
        from: Way,
        ecn: Ecn,
        datagram: &mut [u8],
    ) -> Result<(), Closed> {
        let Some((slot, path)) = self.by_cid.get(&cid).copied() else { return Ok(()) };
        let Some(link) = link_mut(&mut self.server, &mut self.peers, slot) else { return Ok(()) };
        let taken = link.receive(now, path, from, ecn, datagram);
        let over = link.closed().is_some() || matches!(taken, Err(Unusable::Violation(_)));
        if over && slot == SERVER_SLOT {
            return Err(Closed);
        }
        self.refresh(slot);
        Ok(())
    }

    /// Takes leave, a step at a time, as long as there is room: delivers what was sent before, then says so.
    pub(in crate::client) fn part(&mut self, now: Instant, parting: &mut Parting, out: &mut Outbox) {
        if let Parting::Flush(until) = parting {
            let over = now >= *until || self.is_flushed();
            if !over {
                return self.transmit(now, &mut Queue::new(0, 0), out);
            }
            let reason = match self.over {
                Some(EndReason::Violation) => CLOSE_VIOLATION,
                Some(EndReason::TimedOut) => CLOSE_TIMED_OUT,
                _ => CLOSE_LOCAL,
            };
            if out.room() < crate::link::DATAGRAM {
                return;
            }
            self.sockets.close_all(None);
            let server = self.leg.server;
            *parting = match self.server.close(now, server, &mut Route::Server(&mut self.leg), reason, out) {
                Some(goodbye) => Parting::Goodbye(Box::new(goodbye)),
                None => Parting::Drain(now + LONGEST_DRAIN),
            };
        }
        if let Parting::Drain(until) = parting {
            self.leg.carrier.transmit(out);
            if now >= *until || self.leg.carrier.is_flushed() {
                *parting = Parting::Done;
            }
        }
        if let Parting::Goodbye(goodbye) = parting {
            goodbye.transmit(now, out);
            if goodbye.is_over(now) {
                *parting = Parting::Done;
            }
        }
        if matches!(parting, Parting::Done) {
            self.leg.carrier.close();
        }
    }
}
