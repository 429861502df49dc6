//! Packets that ask where the other end is, or answer that, and go straight to where it may be.

use super::{Body, Link, Route};
use crate::outbox::Outbox;
use crate::path::Way;
use crate::time::Instant;
use crate::transport::MAIN;
use crate::wire::frames::Observe;

impl Link {
    /// Answers a client's challenge to where it came from. False if there is no room.
    pub(crate) fn answer_asked(&mut self, now: Instant, by: Way, token: u64, out: &mut Outbox) -> bool {
        let body = Body::Probe { challenge: None, response: Some(token) };
        self.packet(now, MAIN, &mut Route::Straight(by), out, body)
    }

    /// Asks the server over UDP whether that works. False if there is no room.
    pub(crate) fn ask_over_udp(&mut self, now: Instant, server: Way, token: u64, out: &mut Outbox) -> bool {
        let body = Body::Probe { challenge: Some(token), response: None };
        self.packet(now, MAIN, &mut Route::Straight(server), out, body)
    }

    /// Asks a client whether it is at an address that is not where its session is. What it would answer; `None` if there is no room.
    pub(crate) fn ask_elsewhere(&mut self, now: Instant, at: Way, out: &mut Outbox) -> Option<u64> {
        let token = self.roaming.as_mut()?.token();
        let body = Body::Probe { challenge: Some(token), response: None };
        self.packet(now, MAIN, &mut Route::Straight(at), out, body).then_some(token)
    }

    /// Has the server look at where this packet comes from. False if there is no room.
    pub(crate) fn observe(&mut self, now: Instant, by: Way, observe: Observe, out: &mut Outbox) -> bool {
        self.packet(now, MAIN, &mut Route::Straight(by), out, Body::Observe(observe))
    }

    /// Knocks at the client's NAT from a door of the server. False if there is no room.
    pub(crate) fn knock(&mut self, now: Instant, by: Way, door: u8, out: &mut Outbox) -> bool {
        self.packet(now, MAIN, &mut Route::Straight(by), out, Body::Knock(door))
    }
}
