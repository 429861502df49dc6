//! Holes that are kept when a pair shares no group any more, for [`Timers::retain_for`](crate::config::Timers), so that two who
//! meet again are direct at once.
//!
//! What is left of a pair then is a [`Hold`] and the keys for it ([`Protection::path_hold`]), which are others than the pair's:
//! those are erased as ever. Under these keys a challenge and a response can be said, and nothing else is listened to: whoever
//! sends any other frame under them loses the hole. They are good between the addresses that the pair used, and no others.
//!
//! When the server introduces the two to each other again, in the same sessions, the new link inherits the way, its round trip
//! and its datagram size ([`Punch::inherit`](crate::path::Punch)). It has a new pre-shared key and epoch, hence new keys. Whichever
//! end hears of it first may speak before the other one knows: what comes from where a kept hole leads and nobody claims
//! waits for that in a stash of its own.

use super::session::{Around, Session};
use super::stash::Stash;
use crate::entropy::Rng;
use crate::ids::{PeerId, SocketId};
use crate::link::{HEADER, Link, TAG};
use crate::outbox::{Outbox, Transmit};
use crate::path::{Hold, Hole, Over, Probe, Way};
use crate::secure::{OpenError, Protection};
use crate::time::{Duration, Instant};
use crate::transport::{DIRECT, PROBE};
use crate::wire::buf::Writer;
use crate::wire::frames::{Frame, Frames, write_challenge, write_response};
use alloc::vec::Vec;

/// Stands for a slot where a connection id, or a socket, belongs to a hole that is kept.
pub(super) const HELD: u32 = u32::MAX;

/// Holes that a client keeps. Each costs a datagram of 46 bytes and an answer every few seconds, and some 3 KiB for its keys; four
/// of the usual groups of 16. The one that was left first makes room.
const MAX_HELD: usize = 64;

/// Bytes of a datagram that keeps a hole: a path probe.
const DATAGRAM: usize = HEADER + PROBE + TAG;

/// See the module's text.
pub(super) struct Held {
    lasts: Duration,
    /// The one that was left first is the first.
    all: Vec<Kept>,
    /// What came through one of them and is for nobody yet.
    pub(super) early: Stash,
}

struct Kept {
    peer: PeerId,
    /// The peer's key, as it is of one session only.
    key: [u8; 32],
    protection: Protection,
    /// By which ways its packets may come: as many as a pair has candidates.
    sources: Vec<Way>,
    /// Of the next packet.
    number: u64,
    hold: Hold,
}

/// Why a packet was not used.
#[derive(Debug, PartialEq, Eq)]
enum Unusable {
    Sealed(OpenError),
    /// It says what is not said under these keys.
    Other,
}

impl Held {
    pub(super) fn new(lasts: Duration) -> Self {
        Self { lasts, all: Vec::new(), early: Stash::default() }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether packets of somebody whose hole is kept come from there.
    pub(super) fn leads_to(&self, from: Way) -> bool {
        self.all.iter().any(|kept| kept.sources.contains(&from))
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        self.all.iter().map(|kept| kept.hold.wake()).min()
    }
}

impl Kept {
    fn cid_in(&self) -> u64 {
        self.protection.cid_in(DIRECT)
    }

    /// Takes in a datagram that is claimed to be the peer's.
    fn receive(&mut self, now: Instant, from: Way, datagram: &mut [u8]) -> Result<(), Unusable> {
        let opened = self.protection.open(DIRECT, datagram).map_err(Unusable::Sealed)?;
        for frame in Frames::new(opened.body) {
            match frame {
                Ok(Frame::Challenge(token)) => self.hold.on_challenge(now, from, token),
                Ok(Frame::Response(token)) => self.hold.on_response(now, from, token),
                _ => return Err(Unusable::Other),
            }
        }
        Ok(())
    }

    /// Seals a probe. `None` if there is no room, or no number left.
    fn seal(&mut self, probe: &Probe, space: &mut [u8]) -> Option<usize> {
        let header = Protection::header_len(self.number, None);
        let room = space.len().checked_sub(TAG)?;
        let mut w = Writer::new(space.get_mut(header..room)?);
        probe.challenge.map_or(Ok(()), |token| write_challenge(&mut w, token)).ok()?;
        probe.response.map_or(Ok(()), |token| write_response(&mut w, token)).ok()?;
        let padding = PROBE.saturating_sub(w.len());
        w.space(padding).ok()?.fill(0);
        let len = w.len();
        let sealed = self.protection.seal(DIRECT, self.number, None, space, len).ok()?;
        self.number = self.number.checked_add(1)?;
        Some(sealed)
    }
}

impl Session {
    /// How many holes are kept to those who were peers.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The pair in this slot is over: keeps its hole, if it has one and that is wanted.
    pub(super) fn keep_hole(&mut self, now: Instant, peer: PeerId, key: [u8; 32], slot: u32, link: &Link, rng: Rng) {
        if self.held.lasts.is_zero() {
            return;
        }
        let Some((hole, sources, protection)) = link.path_hold() else { return };
        while self.held.all.len() >= MAX_HELD {
            self.let_go(0);
        }
        let hold = Hold::new(now, hole, self.holding.keepalive, self.held.lasts, rng);
        let kept = Kept { peer, key, protection, sources, number: 0, hold };
        self.claim(kept.cid_in(), HELD, DIRECT);
        self.sockets.hand_over(slot, HELD, |id| hole.uses(id));
        self.held.all.push(kept);
    }

    /// The two meet again: its hole for the new pair in `slot`, if one was kept. Not for another session of the same peer.
    pub(super) fn take_hole(&mut self, peer: PeerId, key: &[u8; 32], slot: u32) -> Option<Hole> {
        let index = self.held.all.iter().position(|kept| kept.peer == peer)?;
        if self.held.all.get(index)?.key != *key {
            self.let_go(index);
            return None;
        }
        let kept = self.held.all.remove(index);
        self.disclaim(kept.cid_in());
        let hole = *kept.hold.hole();
        // Two holes may share a socket that everything left by; one of a search is of one pair.
        self.sockets.hand_over(HELD, slot, |id| hole.uses(id));
        Some(hole)
    }

    /// Closes a hole that was kept.
    fn let_go(&mut self, index: usize) {
        let kept = self.held.all.remove(index);
        self.disclaim(kept.cid_in());
        let hole = *kept.hold.hole();
        self.sockets.close_of(HELD, |id| hole.uses(id));
    }

    /// Closes all of them for which `which` holds.
    pub(super) fn let_holes_go(&mut self, which: impl Fn(&Hole) -> bool) {
        while let Some(index) = self.held.all.iter().position(|kept| which(kept.hold.hole())) {
            self.let_go(index);
        }
    }

    /// A socket is gone, and every hole with it.
    pub(super) fn forget_held_socket(&mut self, socket: SocketId) {
        self.let_holes_go(|hole| hole.uses(socket));
    }

    /// A packet with the connection id of a hole that is kept.
    pub(super) fn on_held_packet(&mut self, cid: u64, from: Way, datagram: &mut [u8], around: &mut Around<'_>) {
        let Some(index) = self.held.all.iter().position(|kept| kept.cid_in() == cid) else { return };
        let Some(kept) = self.held.all.get_mut(index).filter(|kept| kept.sources.contains(&from)) else {
            around.counters.unknown += 1;
            return;
        };
        match kept.receive(around.now, from, datagram) {
            Ok(()) => {}
            Err(Unusable::Sealed(why)) => around.counters.sealed(why),
            Err(Unusable::Other) => {
                around.counters.violations += 1;
                self.let_go(index);
            }
        }
    }

    /// Sends what keeps holes open, and lets those go whose time is over.
    pub(super) fn transmit_held(&mut self, now: Instant, out: &mut Outbox) {
        if self.held.wake().is_none_or(|at| at > now) {
            return;
        }
        while let Some(index) = self.held.all.iter().position(|kept| kept.hold.is_over(now)) {
            self.let_go(index);
        }
        let mut worn = None;
        for (index, kept) in self.held.all.iter_mut().enumerate() {
            if kept.hold.wake() > now {
                continue;
            }
            let Some(space) = out.reserve(DATAGRAM) else { break };
            let Some(probe @ Probe { over: Over::Direct(to), .. }) = kept.hold.poll(now) else { continue };
            match kept.seal(&probe, space) {
                Some(len) => out.commit(len, Transmit::datagram(to.socket, to.at)),
                None => worn = Some(index),
            }
            if probe.challenge.is_some() {
                self.leg.pace.note(now);
            }
        }
        if let Some(index) = worn {
            self.let_go(index);
        }
    }
}
