//! What acknowledgements, losses and timeouts do: RFC 9002 §6, with more than one path.
//!
//! Frames are repeated, not packets. What a lost packet carried goes back above the paths, and from there on whichever
//! path carries data then. A probe timeout declares nothing lost; on the direct path it also copies the oldest pieces to
//! the main path, so that a hole that closed costs one timeout and not a recovery. The second in a row moves everything.

use super::channels::{Incoming, Outgoing};
use super::congestion::Controller;
use super::leg::LegNews;
use super::path::{Health, PROBES, Path};
use super::space::{Carried, Packet, Piece, Received};
use super::{DIRECT, KeyShare, MAIN, PATHS, PathEvent, PathId, Transport, Violation};
use crate::time::{Duration, Instant};
use crate::wire::frames::Ack;

/// Probe timeouts in a row after which the direct path carries no data: one may well be a single loss.
const SUSPECT_AFTER: u32 = 2;
/// Probe timeouts in a row, and time without a word, after which the direct path counts as dead. Both: at 5 % loss four
/// timeouts in a row happen, at low round trips a short stall is four timeouts.
const DEAD_AFTER: u32 = 4;
const DEAD_TIME: Duration = Duration::from_secs(1);

/// Pieces that the probes of one timeout repeat: more than two packets hardly hold.
const PROBE_PIECES: usize = 64;
/// Acknowledgement delays within which word by another path counts as fresh; with 5 ms, a frame of a game loop.
const FRESH_DELAYS: u32 = 4;

/// Whom to tell what became of what packets carried.
pub(super) struct Fates<'a> {
    pub(super) out: &'a mut Outgoing,
    pub(super) incoming: &'a mut Incoming,
    pub(super) received: &'a mut [Received; PATHS],
    pub(super) key: &'a mut KeyShare,
    pub(super) leg: &'a mut LegNews,
}

impl Fates<'_> {
    fn acked(&mut self, what: Carried) {
        match what {
            Carried::Bytes(piece) => self.out.on_acked(piece),
            Carried::Scope(id) => self.out.on_scope_acked(id),
            Carried::ScopeEnd(id) => self.out.on_end_acked(id),
            Carried::Credit(_) | Carried::ScopeCredit(..) => {}
            Carried::MaxMessage => self.out.max_message_told = true,
            Carried::Leg(change) => self.leg.on_acked(change),
            Carried::KeyShare => {
                self.key.acked = true;
                self.key.pending = false;
            }
            Carried::Ack(path, largest) => {
                if let Some(received) = self.received.get_mut(usize::from(path)) {
                    received.on_ack_arrived(largest);
                }
            }
        }
    }

    pub(super) fn lost(&mut self, what: Carried) {
        match what {
            Carried::Bytes(piece) => self.out.on_lost(piece),
            Carried::ScopeEnd(id) => self.out.on_end_lost(id),
            Carried::Credit(limit) => self.incoming.credit.on_lost(limit),
            Carried::ScopeCredit(id, limit) => self.incoming.on_scope_limit_lost(id, limit),
            Carried::KeyShare => self.key.pending = !self.key.acked,
            // Names ride in every packet until they are known; acknowledgements are superseded.
            Carried::Scope(_) | Carried::MaxMessage | Carried::Leg(_) | Carried::Ack(..) => {}
        }
    }
}

impl Transport {
    /// A path, and whom to tell of what it carried.
    pub(super) fn path_and_fates(&mut self, path: PathId) -> Option<(&mut Path, Fates<'_>)> {
        let Self { paths, out, incoming, received, key, leg, .. } = self;
        Some((paths.get_mut(usize::from(path))?, Fates { out, incoming, received, key, leg }))
    }

    pub(super) fn on_ack(&mut self, now: Instant, by: PathId, ack: &Ack<'_>) -> Result<(), Violation> {
        let ack_delay = self.config.ack_delay;
        let (path, mut fates) = self.path_and_fates(ack.path).ok_or(Violation::UnknownPath)?;
        path.sent.check(ack)?;
        let (mut largest_at, mut newest, mut bytes, mut alive) = (None, None::<Packet>, 0, false);
        let (before, mut marked, mut alone) = (path.sent.largest_acked(), 0, false);
        let Path { health, suspect_from, sent, rate, redundancy, mtu, .. } = path;
        // A suspect path must answer for what was sent since: word of earlier packets that comes round by the main path
        // only tells that it once was well.
        let doubted = *health == Health::Suspect && by != ack.path;
        sent.on_ack(
            ack,
            |packet| {
                redundancy.loss.on_acked();
                mtu.on_acked(packet.bytes as usize);
                alive |= !doubted || packet.pn >= *suspect_from;
                rate.on_acked(now, packet.stamp, packet.at, packet.bytes);
                bytes += packet.bytes;
                marked += u64::from(packet.marked);
                if newest.is_none_or(|n| packet.pn > n.pn) {
                    newest = Some(packet);
                }
                if packet.pn == ack.largest {
                    (largest_at, alone) = (Some(packet.at), packet.alone);
                }
            },
            |what| fates.acked(what),
        );
        // RFC 9002 §5.1: a sample only if the largest is newly acknowledged and asked for it.
        // Word by another path that waited long is a repetition: the first one was lost, or the path is cut. It would
        // make this path's round trip that of a recovery.
        let delay = Duration::from_micros(ack.delay);
        let repetition = by != ack.path && delay > ack_delay * FRESH_DELAYS;
        let sample = largest_at.filter(|_| !repetition).and_then(|at| path.believe(ack.largest, at, now.since(at)));
        if let Some(sample) = sample {
            path.on_sample(now, sample, delay.min(ack_delay), alone);
        }
        if newest.is_some() {
            path.last_acked = Some(now);
        }
        let Path { reordering, redundancy, rtt, mtu, congestion, .. } = path;
        mtu.on_ack(now, ack, rtt.pto(ack_delay));
        reordering.on_ack(now, ack, rtt.smoothed(), |sent| {
            redundancy.loss.on_spurious();
            congestion.on_spurious(sent);
        });
        path.resize();
        if alive {
            (path.timeouts, path.probes) = (0, 0);
        }
        if let Some(at) = largest_at.filter(|_| before.is_none_or(|largest| ack.largest > largest)) {
            path.on_ecn(now, at, marked, ack.ecn);
        }
        path.detect_lost(now, ack_delay, |what| fates.lost(what));
        if let Some(newest) = newest {
            path.on_acked(now, &newest, bytes, sample);
        }
        let recovered = alive && path.health == Health::Suspect;
        if recovered {
            path.health = Health::Open;
        }
        if ack.path == DIRECT && newest.is_some() {
            self.mirror_until = Instant::ZERO;
        }
        if recovered {
            self.push_event(PathEvent::Recovered(ack.path));
        }
        Ok(())
    }

    /// The path's timer has gone off.
    pub(super) fn on_timer(&mut self, now: Instant, id: PathId) {
        let ack_delay = self.config.ack_delay;
        let spread = id == MAIN && self.path(id).is_some_and(Path::backs_off);
        let dice = if spread { self.rng.below(256) as u8 } else { 0 };
        let Some((path, mut fates)) = self.path_and_fates(id) else { return };
        if path.loss_at.is_some() {
            path.detect_lost(now, ack_delay, |what| fates.lost(what));
            return;
        }
        path.on_timeout(dice);
        path.probes = PROBES;
        if path.is_stream() {
            path.probes = 1;
            return;
        }
        let silent = now.since(path.last_acked.map_or(path.opened, |at| at.max(path.opened)));
        let timeouts = path.timeouts;
        let oldest = oldest_open(path, fates.out);
        if id == MAIN {
            oldest.into_iter().flatten().for_each(|piece| path.copy(piece));
            // What is not bytes (a limit, a key, the end of a scope) rides along if it still matters.
            let others = path.sent.waiting().filter(|what| !matches!(what, Carried::Bytes(_)));
            others.for_each(|what| fates.lost(what));
        } else {
            self.on_direct_timeout(now, timeouts, silent, &oldest);
        }
        self.settle();
    }

    /// The main path, whose timeouts have backed off, may carry again: a probe goes at once, and as after a timeout it carries what
    /// has waited longest. An empty one would be answered while the messages still wait, and the next timeout, which
    /// counts from the probe, may be two seconds away.
    pub(super) fn probe_with_oldest(&mut self) {
        let Some((path, fates)) = self.path_and_fates(MAIN) else { return };
        path.probes = path.probes.max(1);
        if !path.is_stream() {
            oldest_open(path, fates.out).into_iter().flatten().for_each(|piece| path.copy(piece));
        }
    }

    fn on_direct_timeout(&mut self, now: Instant, timeouts: u32, silent: Duration, oldest: &[Option<Piece>]) {
        let [main, direct] = &mut self.paths;
        // A word by way of the main path: the peer's acknowledgements may be what the direct path swallows.
        main.probes = main.probes.max(1);
        if timeouts < SUSPECT_AFTER {
            for piece in oldest.iter().flatten() {
                main.copy(*piece);
                direct.copy(*piece);
            }
        } else if direct.health == Health::Open {
            direct.health = Health::Suspect;
            direct.suspect_from = direct.sent.next_number();
            direct.copies.clear();
            let Some((path, mut fates)) = self.path_and_fates(DIRECT) else { return };
            path.sent.waiting().for_each(|what| fates.lost(what));
            self.push_event(PathEvent::Suspect(DIRECT));
        } else if timeouts >= DEAD_AFTER && silent >= DEAD_TIME {
            self.close_path(now, DIRECT);
            self.push_event(PathEvent::Dead(DIRECT));
        }
    }
}

/// What of the oldest packets that wait on a path has arrived nowhere, of as many as a timeout has probes. Packets that
/// carried nothing of the kind, or nothing that an older one did not, do not count: to repeat those would bring the peer
/// nothing, and earlier probes are many of them.
fn oldest_open(path: &Path, out: &mut Outgoing) -> [Option<Piece>; PROBE_PIECES] {
    let (mut oldest, mut found) = ([None; PROBE_PIECES], 0);
    path.sent.oldest(usize::from(PROBES), |what| {
        let Carried::Bytes(piece) = what else { return false };
        if out.open_part(piece).is_none() || oldest.contains(&Some(piece)) {
            return false;
        }
        let place = oldest.get_mut(found);
        found += usize::from(place.is_some());
        place.map(|at| *at = Some(piece)).is_some()
    });
    oldest
}
