//! Which peers a client may have direct paths with, and which ways traffic with them takes: what the server tells, what the
//! application wishes, and how many direct paths it may have at all ([`Limits::direct_peers`](crate::config::Limits)).
//!
//! Where there are more peers than places for direct paths, those that came first have them. One with whom punching led
//! nowhere gives its place up to the one that has waited longest. Who has no place is told to the server as a wish for no
//! direct path, so that the peer does not look for one either.

use super::session::{Peer, Session, path_peer};
use crate::event::RelayReason;
use crate::ids::PeerId;
use crate::path::{Gate, Verdict};
use crate::policy::{PathPolicy, PunchPolicy};
use crate::time::Instant;
use crate::wire::control::ToServer;
use thiserror::Error;

/// No group is shared with such a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no such peer")]
pub struct UnknownPeer;

/// What is allowed with one peer.
pub(super) struct Allowed {
    /// By the server.
    pub(super) told: PathPolicy,
    /// By the application, for this peer alone.
    own: PathPolicy,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It needs none.
    None,
    Taken,
    /// It is the how-manieth to wait for one.
    Waits(u64),
}

impl Allowed {
    pub(super) fn new(told: PathPolicy) -> Self {
        Self { told, own: PathPolicy::default(), place: Place::None }
    }

    /// What the server is told that is wanted: nothing direct while it waits.
    fn wish(&self) -> PathPolicy {
        let punch = if self.waits() { PunchPolicy::Never } else { self.own.punch };
        PathPolicy { punch, ..self.own }
    }

    fn waits(&self) -> bool {
        matches!(self.place, Place::Waits(_))
    }
}

/// What is allowed with all peers.
pub(super) struct Policies {
    own: PathPolicy,
    places: usize,
    taken: usize,
    /// Of the next who waits.
    next: u64,
    /// Peers that wait.
    waiting: usize,
}

impl Policies {
    pub(super) fn new(own: PathPolicy, places: usize) -> Self {
        Self { own, places, taken: 0, next: 0, waiting: 0 }
    }

    /// A peer is gone, or needs no place any more.
    pub(super) fn release(&mut self, allowed: &mut Allowed) {
        match core::mem::replace(&mut allowed.place, Place::None) {
            Place::None => {}
            Place::Taken => self.taken -= 1,
            Place::Waits(_) => self.waiting -= 1,
        }
    }

    /// What is allowed with a peer, by everybody who has a say.
    pub(super) fn with(&self, allowed: &Allowed) -> PathPolicy {
        allowed.told.and(allowed.own).and(self.own)
    }

    /// Whether somebody waits for a place that is free.
    pub(super) fn is_due(&self) -> bool {
        self.waiting > 0 && self.taken < self.places
    }

    /// Takes a place, or one among those who wait.
    fn take(&mut self, allowed: &mut Allowed) -> bool {
        match allowed.place {
            Place::Taken => return true,
            Place::Waits(_) if self.taken >= self.places => return false,
            Place::Waits(_) => self.waiting -= 1,
            Place::None => {}
        }
        let free = self.taken < self.places;
        if free {
            self.taken += 1;
            allowed.place = Place::Taken;
        } else {
            self.wait(allowed);
        }
        free
    }

    /// To the end of those who wait.
    fn wait(&mut self, allowed: &mut Allowed) {
        self.release(allowed);
        self.waiting += 1;
        allowed.place = Place::Waits(self.next);
        self.next += 1;
    }
}

impl Session {
    /// The application allows no more than this from now on: with one peer, or with all.
    pub(super) fn restrict(
        &mut self,
        now: Instant,
        peer: Option<PeerId>,
        policy: PathPolicy,
    ) -> Result<(), UnknownPeer> {
        let Some(id) = peer else {
            self.policies.own = policy;
            self.tell(now, &ToServer::Policy { peer: PeerId::SERVER, policy });
            if !policy.allows_direct() {
                self.let_holes_go(|_| true);
            }
            for slot in 1..=self.peers.len() as u32 {
                self.apply_policy(now, slot);
            }
            return Ok(());
        };
        let slot = *self.by_id.get(&id).ok_or(UnknownPeer)?;
        let peer = path_peer(&mut self.peers, slot).ok_or(UnknownPeer)?;
        peer.allowed.own = policy;
        let policy = peer.allowed.wish();
        self.tell(now, &ToServer::Policy { peer: id, policy });
        self.apply_policy(now, slot);
        Ok(())
    }

    /// What the application allowed before the session began, if it is not everything.
    pub(super) fn tell_policy(&mut self, now: Instant) {
        if self.policies.own != PathPolicy::default() {
            self.tell(now, &ToServer::Policy { peer: PeerId::SERVER, policy: self.policies.own });
        }
    }

    /// The server allows no more than this from now on.
    pub(super) fn on_policy(&mut self, now: Instant, peer: PeerId, epoch: u64, policy: PathPolicy) {
        let Some(slot) = self.by_id.get(&peer).copied() else { return };
        if let Some(peer) = path_peer(&mut self.peers, slot).filter(|p| p.epoch == epoch) {
            peer.allowed.told = policy;
            self.apply_policy(now, slot);
        }
    }

    /// Has a peer's link keep to what is allowed.
    pub(super) fn apply_policy(&mut self, now: Instant, slot: u32) {
        let Some(peer) = path_peer(&mut self.peers, slot) else { return };
        let policy = self.policies.with(&peer.allowed);
        let (id, waited) = (peer.id(), peer.allowed.waits());
        let gate = if !policy.allows_direct() {
            self.policies.release(&mut peer.allowed);
            Gate::Shut(RelayReason::Forbidden)
        } else if !self.policies.take(&mut peer.allowed) {
            Gate::Shut(RelayReason::Crowded)
        } else if policy.punch == PunchPolicy::OnTraffic {
            Gate::OnTraffic
        } else {
            Gate::Open
        };
        peer.link.set_policy(now, gate, policy.prefer);
        let (waits, policy) = (peer.allowed.waits(), peer.allowed.wish());
        if waited != waits {
            self.tell(now, &ToServer::Policy { peer: id, policy });
        }
        self.refresh(slot);
    }

    /// Punching came to this with a peer: if it led nowhere, somebody else may have its place.
    pub(super) fn yield_place(&mut self, now: Instant, slot: u32, verdict: Verdict) {
        let open = matches!(
            verdict,
            Verdict::Direct
                | Verdict::Relayed(
                    // Who has not been tried yet would only take turns with others of whom that is true.
                    RelayReason::Probing | RelayReason::HoleClosed | RelayReason::RelayFaster | RelayReason::NoTraffic
                )
        );
        if open || self.policies.waiting == 0 {
            return;
        }
        let Some(peer) = path_peer(&mut self.peers, slot).filter(|p| p.allowed.place == Place::Taken) else { return };
        self.policies.wait(&mut peer.allowed);
        let (id, policy) = (peer.id(), peer.allowed.wish());
        let prefer = self.policies.with(&peer.allowed).prefer;
        peer.link.set_policy(now, Gate::Shut(RelayReason::Crowded), prefer);
        self.tell(now, &ToServer::Policy { peer: id, policy });
        self.refresh(slot);
    }

    /// Gives free places to those who have waited longest.
    pub(super) fn fill_places(&mut self, now: Instant) {
        while self.policies.is_due() {
            let waits = |(slot, peer): (u32, &Option<Peer>)| match peer.as_ref()?.allowed.place {
                Place::Waits(order) => Some((order, slot)),
                _ => None,
            };
            let Some((_, slot)) = (1..).zip(&self.peers).filter_map(waits).min() else { return };
            self.apply_policy(now, slot);
        }
    }
}
