//! Keeping holes open: how often a direct path is pinged, and which socket everything leaves by.
//!
//! **Keepalives.** A NAT forgets a mapping that nothing used for so long. Where a hole closes young although the relay works and nothing
//! but keepalives went through it, the keepalives of all direct paths come twice as often from then on, down to [`SHORTEST`].
//!
//! **Rotation.** Some carriers' NATs forget a mapping so long after it was made, whatever passes. The server sees that: the same
//! client comes from another port of the same address again and again, at times that resemble each other. It says how long
//! mappings live, and the client then moves in time to a new socket, which has a new mapping, make before break: the new one
//! is used for all that is sent, the old one stays open for [`GRACE`], in which the server follows (it challenges both; only the new one
//! answers) and has all pairs punched again, which finds each peer on the new socket while the old hole still carries.

use super::session::{SERVER_SLOT, Session, path_peer};
use crate::ids::SocketId;
use crate::time::{Duration, Instant};
use crate::wire::control::ToServer;

/// Between two keepalives of a direct path at the least: shorter lifetimes of NATs have not been seen, and it would cost more than
/// the relay.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long a socket that was left stays open: what is under way, and the peers' next rounds of hole punching.
const GRACE: Duration = Duration::from_secs(10);
/// A socket is left after this part of what its mapping lives, in percent: lifetimes differ by a third and more from one mapping to
/// the next (48 to 75 s was seen), and the server tells the shortest.
const PART: u32 = 70;

/// See the module's text.
pub(super) struct Holding {
    /// Between two keepalives of a direct path.
    pub(super) keepalive: Duration,
    /// How long a mapping lives whatever passes, if that is known.
    lifetime: Option<Duration>,
    /// When to leave the present socket.
    at: Option<Instant>,
    /// The socket that was asked for to take its place.
    opening: Option<SocketId>,
    /// The socket before, until it is closed.
    left: Option<(SocketId, Instant)>,
}

impl Holding {
    pub(super) fn new(keepalive: Duration) -> Self {
        Self { keepalive, lifetime: None, at: None, opening: None, left: None }
    }

    /// A hole closed while nothing but keepalives went through it. True if they are to come more often now.
    fn on_idle_death(&mut self) -> bool {
        if self.keepalive <= SHORTEST {
            return false;
        }
        self.keepalive = (self.keepalive / 2).max(SHORTEST);
        true
    }

    fn plan(&mut self, now: Instant) {
        self.at = self.lifetime.map(|lifetime| now + lifetime * PART / 100);
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        let rotate = self.at.filter(|_| self.opening.is_none() && self.left.is_none());
        [rotate, self.left.map(|(_, until)| until)].into_iter().flatten().min()
    }
}

impl Session {
    /// A hole closed though keepalives went through it in time.
    pub(super) fn on_idle_death(&mut self) {
        if !self.holding.on_idle_death() {
            return;
        }
        let keepalive = self.holding.keepalive;
        for slot in 1..=self.peers.len() as u32 {
            if let Some(peer) = path_peer(&mut self.peers, slot) {
                peer.link.set_direct_keepalive(keepalive);
            }
            self.refresh(slot);
        }
    }

    /// The server has found out how long the mappings of this client's NAT live; the present one was made just now.
    pub(super) fn on_lifetime(&mut self, now: Instant, lifetime: Duration) {
        let known = self.holding.lifetime.unwrap_or(lifetime);
        self.holding.lifetime = Some(lifetime.min(known).max(GRACE * 2));
        self.holding.plan(now);
    }

    /// Moves to another socket when it is time, and closes the one before.
    pub(super) fn check_rotation(&mut self, now: Instant) {
        if let Some((socket, _)) = self.holding.left.take_if(|(_, until)| *until <= now) {
            self.forsake(now, socket);
        }
        let idle = self.holding.left.is_none() && self.holding.opening.is_none();
        if idle && self.holding.at.is_some_and(|at| at <= now) {
            self.holding.at = None;
            self.holding.opening = self.sockets.open(SERVER_SLOT);
            if self.holding.opening.is_none() {
                self.holding.plan(now);
            }
        }
    }

    /// A socket that was left is of no more use.
    fn forsake(&mut self, now: Instant, socket: SocketId) {
        for slot in 1..=self.peers.len() as u32 {
            if let Some(punch) = path_peer(&mut self.peers, slot).and_then(|p| p.link.puncher()) {
                punch.forget_socket(now, socket);
            }
            self.refresh(slot);
        }
        self.forget_held_socket(socket);
        self.sockets.close(socket);
    }

    /// The socket for that came, or did not; or one that is, or was, in use went.
    pub(super) fn on_home(&mut self, now: Instant, id: SocketId, opened: bool) {
        let asked = self.holding.opening.take_if(|opening| *opening == id).is_some();
        if !asked && id != self.leg.home {
            return;
        }
        self.holding.plan(now);
        if asked && !opened {
            return;
        }
        // Should the system take the present one away, there is always the first.
        let id = if opened { id } else { SocketId::MAIN };
        let left = core::mem::replace(&mut self.leg.home, id);
        if let Some((before, _)) = self.holding.left.replace((left, now + GRACE)).filter(|(before, _)| *before != id) {
            self.forsake(now, before);
        }
        self.server.set_home(id);
        for slot in 1..=self.peers.len() as u32 {
            if let Some(peer) = path_peer(&mut self.peers, slot) {
                peer.link.set_home(id);
            }
            self.refresh(slot);
        }
        self.tell(now, &ToServer::Rotated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalives_come_twice_as_often_after_each_hole_that_closed_while_idle_but_not_all_the_time() {
        let mut holding = Holding::new(Duration::from_secs(5));
        let seen = [(); 4].map(|()| (holding.on_idle_death(), holding.keepalive.as_millis()));
        assert_eq!(seen, [(true, 2500), (true, 1250), (true, 1000), (false, 1000)]);
    }
}
