//! A session's legs: what [`Carrier`] decides, carried out on the links.

use super::queue::Queue;
use super::session::{Around, Peer, Session};
use crate::event::ClientEvent;
use crate::ids::StreamId;
use crate::leg::{DOUBT_TIMEOUTS, Leg};
use crate::machine::{StreamInput, Wake};
use crate::outbox::Outbox;
use crate::path::Way;
use crate::time::Instant;
use crate::transport::MAIN;

impl Session {
    /// Something happened to a stream, other than that bytes came.
    pub(super) fn on_stream(&mut self, now: Instant, id: StreamId, what: &StreamInput<'_>, queue: &mut Queue) {
        let carrier = &mut self.leg.carrier;
        match what {
            StreamInput::Connected => _ = carrier.on_connected(now, id),
            StreamInput::Closed(_) => carrier.on_closed(now, id),
            StreamInput::Writable => carrier.on_writable(id),
            // Nobody connects to a client, and bytes are another's business.
            StreamInput::Accepted { .. } | StreamInput::Bytes(_) => {}
        }
        self.follow_leg(now, queue);
    }

    /// An authentic packet of the server link came this way.
    pub(super) fn on_server_heard(&mut self, from: Way, around: &mut Around<'_>) {
        let answered = self.server.take_answered();
        if from.socket == crate::ids::SocketId::STREAM {
            return;
        }
        // Only what was acknowledged proves both directions.
        if self.server.transport_ref().timeouts() == 0 {
            self.leg.carrier.on_udp_heard(around.now);
        }
        if let Some(token) = answered {
            self.leg.carrier.on_answer(around.now, token);
            self.follow_leg(around.now, around.queue);
        }
    }

    /// Lets time pass for the legs, and asks over UDP if it is time to.
    pub(super) fn drive_legs(&mut self, now: Instant, queue: &mut Queue, out: &mut Outbox) {
        let server = self.server.transport_ref();
        if server.timeouts() >= DOUBT_TIMEOUTS {
            self.leg.carrier.on_doubt(now);
        }
        let waits = server.is_waiting();
        self.leg.carrier.on_time(now, self.server.presence_ref().heard(), waits);
        self.follow_leg(now, queue);
        if out.room() >= crate::link::DATAGRAM
            && let Some(token) = self.leg.carrier.poll_question(now, || self.rng.u64())
        {
            let server = self.leg.way();
            self.server.ask_over_udp(now, server, token, out);
            self.refresh(super::session::SERVER_SLOT);
        }
    }

    /// Traffic with a peer by the relay is not acknowledged: whether that is the way to the server is soon known if it is asked.
    pub(super) fn doubt_relay(&mut self, slot: u32) {
        let doubts = |peer: &Peer| peer.link.transport_ref().timeouts() >= DOUBT_TIMEOUTS;
        let index = (slot as usize).wrapping_sub(1);
        if self.leg.carrier.leg().0 == Leg::Udp
            && self.peers.get(index).and_then(Option::as_ref).is_some_and(doubts)
            && !self.server.transport_ref().is_waiting()
        {
            self.server.transport().probe(MAIN);
            self.refresh(super::session::SERVER_SLOT);
        }
    }

    /// Takes all links over to the leg in use, if it is another one or another stream, and tells of another leg.
    pub(super) fn follow_leg(&mut self, now: Instant, queue: &mut Queue) {
        if !self.leg.carrier.take_moved() {
            return;
        }
        let (leg, _) = self.leg.carrier.leg();
        self.server.use_leg(now, leg);
        self.peers.iter_mut().flatten().for_each(|peer| peer.link.use_leg(now, leg));
        self.held_up.clear();
        (0..=self.peers.len() as u32).for_each(|slot| self.refresh(slot));
        if self.leg.carrier.take_news() {
            queue.mark_leg();
        }
    }

    /// The leg in use, for the application.
    pub(super) fn leg_event(&self) -> Option<ClientEvent> {
        let (leg, why) = self.leg.carrier.leg();
        Some(ClientEvent::LegChanged { leg, why: why? })
    }

    /// Whether something is asked of the driver.
    pub(super) fn has_requests(&self) -> bool {
        self.sockets.has_requests() || self.leg.carrier.has_requests()
    }

    /// When to be called again while a last word waits to be written.
    pub(super) fn drain_wake(&self, until: Instant) -> (Instant, Wake) {
        (if self.leg.carrier.is_due() { Instant::ZERO } else { until }, Wake::Idle)
    }

    /// Serves the links that the stream held up, in turn, as far as it takes packets again.
    pub(super) fn serve_held_up(&mut self, now: Instant, queue: &mut Queue, out: &mut Outbox) {
        for _ in 0..self.held_up.len() {
            if self.leg.carrier.is_blocked() || out.room() < crate::link::DATAGRAM {
                return;
            }
            let Some(slot) = self.held_up.pop_front() else { return };
            self.serve(now, slot, queue, out);
        }
    }
}
