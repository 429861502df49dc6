//! Who is there: the server as its link shows it, and peers as far as anything gets to them.
//!
//! A peer is offline while the server does not hear of it, or this client not of the server, unless there is a direct path.
//! That is one rule for every cause, so the application hears of a change once, whichever part of it came first.
//!
//! A server that is back does not know yet who else is. So a peer that was offline along with it stays so until it or the server
//! says something, for [`UNSURE`] at the most.

use super::{Peer, SERVER_SLOT, Session};
use crate::client::queue::Queue;
use crate::config::Timers;
use crate::event::{ClientEvent, EndReason};
use crate::ids::PeerId;
use crate::link::CLOSE_TIMED_OUT;
use crate::path::Verdict;
use crate::time::{Duration, Instant};
use crate::transport::{DIRECT, MAIN};

/// By then the server knows of all who are there that they are, and has told who is not: the longest probe timeout of 2 s, and
/// round trips.
const UNSURE: Duration = Duration::from_secs(3);

/// Whether somebody is offline, and what the application was told of that.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) offline: bool,
    told: bool,
}

impl Shown {
    /// Whether it is offline, if that is news to the application.
    fn news(&mut self) -> Option<bool> {
        let news = self.offline != self.told;
        self.told = self.offline;
        news.then_some(self.offline)
    }
}

impl Session {
    /// The session ended, for this reason.
    pub(in crate::client) fn over(&self, now: Instant) -> Option<EndReason> {
        let closed = self.server.closed().map(|reason| match reason {
            CLOSE_TIMED_OUT => EndReason::TimedOut,
            _ => EndReason::Remote,
        });
        self.over.or(closed).or((now >= self.lease_ends()).then_some(EndReason::TimedOut))
    }

    /// The other end said that the session is over.
    pub(in crate::client) fn is_closed(&self) -> bool {
        self.server.closed().is_some()
    }

    /// When silence of the server ends the session, and with it what goes directly to peers. Before it is welcome there is
    /// nothing to keep, and a server that says nothing has most likely forgotten a login that was not completed in time.
    pub(super) fn lease_ends(&self) -> Instant {
        let Timers { lease, handshake, decision, .. } = self.timers;
        let limit = if self.me.is_some() { lease } else { lease.min(handshake.saturating_add(decision)) };
        self.server.presence_ref().ends_at(limit)
    }

    /// Judges whether the server is there. What waited for it, or its relay, goes on at its first word.
    pub(super) fn check_server(&mut self, now: Instant, queue: &mut Queue) {
        let presence = self.server.presence();
        let (offline, revived) = (presence.check(now, &self.timers), presence.take_revived());
        if presence.ask_at(&self.timers).is_some_and(|at| at <= now) {
            self.server.transport().probe(MAIN);
        }
        if self.me.is_some() && offline != self.shown.offline {
            self.shown.offline = offline;
            self.server.transport().drop_unreliable();
            queue.mark_presence(PeerId::SERVER);
            self.unsure = (!offline).then_some(now + UNSURE);
            for slot in 1..=self.peers.len() as u32 {
                if let Some(Some(peer)) = self.peers.get_mut(slot as usize - 1)
                    && peer.shown.offline
                {
                    peer.unsure = true;
                    peer.link.transport().probe(MAIN);
                    self.refresh(slot);
                }
                self.check_peer(slot, queue);
            }
        }
        if revived && !offline {
            for slot in 1..=self.peers.len() as u32 {
                if let Some(Some(peer)) = self.peers.get_mut(slot as usize - 1) {
                    peer.link.on_revived(now);
                    self.refresh(slot);
                }
            }
        }
    }

    /// Judges whether anything gets to a peer.
    pub(super) fn check_peer(&mut self, slot: u32, queue: &mut Queue) {
        let unserved = self.shown.offline;
        let Some(Some(peer)) = self.peers.get_mut((slot as usize).wrapping_sub(1)) else { return };
        let offline = (unserved || peer.away || peer.unsure) && peer.verdict != Verdict::Direct;
        if offline != peer.shown.offline {
            peer.shown.offline = offline;
            peer.link.transport().drop_unreliable();
            queue.mark_presence(peer.id);
        }
    }

    /// A peer that may not be back was heard of.
    pub(super) fn make_sure(&mut self, slot: u32, queue: &mut Queue) {
        if let Some(Some(peer)) = self.peers.get_mut((slot as usize).wrapping_sub(1))
            && core::mem::take(&mut peer.unsure)
        {
            self.check_peer(slot, queue);
        }
    }

    /// Nobody said that those who may not be back are not.
    pub(super) fn check_unsure(&mut self, now: Instant, queue: &mut Queue) {
        if self.unsure.take_if(|until| *until <= now).is_some() {
            (1..=self.peers.len() as u32).for_each(|slot| self.make_sure(slot, queue));
        }
    }

    /// The server says that it hears nothing of a peer any more, or does again.
    pub(super) fn peer_away(&mut self, now: Instant, peer: PeerId, epoch: u64, away: bool, queue: &mut Queue) {
        let Some(slot) = self.by_id.get(&peer).copied() else { return };
        let Some(Some(peer)) = self.peers.get_mut(slot as usize - 1) else { return };
        if peer.epoch != epoch {
            return;
        }
        (peer.away, peer.unsure) = (away, false);
        if !away {
            peer.link.on_revived(now);
        }
        self.check_peer(slot, queue);
        self.after(now, slot, queue);
    }

    /// The news that a mark in the queue stands for.
    pub(super) fn presence_news(&mut self, of: PeerId) -> Option<ClientEvent> {
        if of.is_server() {
            let offline = self.shown.news()?;
            return Some(if offline { ClientEvent::ServerOffline } else { ClientEvent::ServerOnline });
        }
        let slot = *self.by_id.get(&of)?;
        // Of one whose join was not polled yet it is told after that.
        let peer: &mut Peer = self.peers.get_mut(slot as usize - 1)?.as_mut().filter(|peer| peer.met)?;
        let member = peer.id;
        let offline = peer.shown.news()?;
        Some(if offline { ClientEvent::MemberOffline { member } } else { ClientEvent::MemberOnline { member } })
    }

    /// This client stood still until now: everybody is asked at once.
    pub(in crate::client) fn on_resume(&mut self, now: Instant) {
        self.server.on_resume(now);
        self.leg.carrier.on_resume(now);
        self.server.transport().probe(MAIN);
        if self.me.is_some() {
            self.begin_time(now);
        }
        self.refresh(SERVER_SLOT);
        for slot in 1..=self.peers.len() as u32 {
            if let Some(Some(peer)) = self.peers.get_mut(slot as usize - 1) {
                peer.link.on_resume(now);
                peer.link.transport().nudge();
                peer.link.transport().probe(DIRECT);
                self.refresh(slot);
            }
        }
    }
}
