//! Clients that do not answer for a while: their peers and the application are told, and everything is kept for them.
//!
//! Peers are told of a change while they answer themselves; one that was away hears of all that differs when it is back. So
//! an outage of the server itself, in which all clients go away at once, makes no storm of news.

use super::session::Phase;
use super::{Queued, Server};
use crate::event::ServerEvent;
use crate::ids::PeerId;
use crate::machine::Machine;
use crate::presence::Sleep;
use crate::time::Instant;
use crate::transport::MAIN;
use crate::wire::control::ToClient;

/// Whether a client is offline, and what the application was told of that.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) offline: bool,
    told: bool,
    /// That there is news stands in the queue.
    waits: bool,
}

impl Server {
    /// Judges whether a client is there, and asks if it is late with a keepalive.
    pub(super) fn check_presence(&mut self, now: Instant, slot: u32) {
        let timers = &self.config.timers;
        let Some(session) = self.sessions.get_mut(slot as usize).and_then(|place| place.session.as_deref_mut()) else {
            return;
        };
        if session.phase != Phase::Online {
            return;
        }
        let presence = session.link.presence();
        let offline = presence.check(now, timers);
        if presence.ask_at(timers).is_some_and(|at| at <= now) {
            session.link.transport().probe(MAIN);
        }
        if offline == session.shown.offline {
            return;
        }
        session.shown.offline = offline;
        session.link.transport().drop_unreliable();
        let peer = session.peer;
        if !core::mem::replace(&mut session.shown.waits, true) {
            self.queue.push_back(Queued::Presence(peer));
        }
        for other in self.peers_of(peer) {
            self.tell_presence(now, other, peer);
            self.tell_presence(now, peer, other);
        }
    }

    /// Tells a client how it is with another, if that is news to it and it is there to hear.
    fn tell_presence(&mut self, now: Instant, to: PeerId, of: PeerId) {
        let Some(offline) = self.client(of).map(|session| session.shown.offline) else { return };
        if self.client(to).is_none_or(|session| session.shown.offline) {
            return;
        }
        if let Some(epoch) = self.pairs.tell_presence(to, of, offline) {
            self.tell(now, to.slot(), &ToClient::PeerOffline { peer: of, epoch, offline });
        }
    }

    /// New pairs, whose joins are told by now: who of them is not there is told, too.
    pub(super) fn tell_absent(&mut self, now: Instant, pairs: &[(PeerId, PeerId)]) {
        for (a, b) in pairs {
            self.tell_presence(now, *a, *b);
            self.tell_presence(now, *b, *a);
        }
    }

    /// The news that a mark in the queue stands for, unless it was taken back.
    pub(super) fn presence_news(&mut self, client: PeerId) -> Option<ServerEvent> {
        let session = self.client_mut(client)?;
        session.shown.waits = false;
        let offline = session.shown.offline;
        let news = core::mem::replace(&mut session.shown.told, offline) != offline;
        news.then_some(if offline {
            ServerEvent::ClientOffline { client }
        } else {
            ServerEvent::ClientOnline { client }
        })
    }

    /// This server stood still until now: nobody's silence in that time counts.
    pub(super) fn notice_sleep(&mut self, now: Instant) {
        let Some(last) = self.sleep.on_call(now) else { return };
        if !Sleep::was_late(last, now, Machine::wake(self).map(|(at, _)| at)) {
            return;
        }
        for slot in 0..self.sessions.len() as u32 {
            if let Some(session) = self.session_mut(slot) {
                session.link.on_resume(now);
                self.refresh(slot);
            }
        }
    }
}
