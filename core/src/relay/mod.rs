//! The forwarding plane: what carries packets between peers that have no direct path, or none yet.
//!
//! It knows sessions and routes, and it is told of both as data: nothing here knows of groups or links. A sender wraps a
//! sealed packet with its session id, a number, a handle and a MAC; the forwarder admits the wrap or refuses it, and what
//! it admits goes verbatim to the receiver's address. In order, cheapest first, and nothing changes before the MAC is
//! verified:
//!
//! 1. the wrap parses, and what is inside is a short packet (else a sender could have the server say to its peers what
//!    only the server says, or send wraps round in circles);
//! 2. the session is live; its number, expanded to 64 bits (RFC 9000 A.3), is fresh;
//! 3. the MAC verifies under that session's key;
//! 4. the sender is within its budget of bytes and packets;
//! 5. the handle is one of that session's live routes, and the receiver's session is live.
//!
//! Any source address will do: the MAC proves the sender, and one that its NAT gave another address stays reachable for
//! its peers. The receiver's address (or stream) is only ever the one that was set, so nothing goes to where nobody was verified.
//!
//! A **handle** is a slot (high 16 bits) in the sender's own table and that slot's generation (low 16 bits). Each route
//! takes the next generation, so a handle that outlived its route leads nowhere; a slot whose generations are used up is
//! not used again. Routes name the receiver's session by a serial number that no other session ever had.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::config::RelayBudget;
use crate::entropy::SeededState;
use crate::ids::StreamId;
use crate::meter::Meter;
use crate::secure::{RelayKey, ReplayWindow};
use crate::time::Instant;
use crate::wire::{header, relay};
use alloc::vec::Vec;
use core::net::SocketAddr;
use hashbrown::HashMap;
use thiserror::Error;

#[cfg(test)]
mod tests;
mod uplink;

pub(crate) use uplink::Uplink;

/// Slots of a session's table of routes at most: what 16 bits of a handle can say.
const MAX_SLOTS: usize = 1 << 16;

/// Bounds on the forwarding plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RelayLimits {
    /// Sessions at one time, some 0.5 KiB each.
    pub(crate) sessions: usize,
    /// Routes of one session at one time, at most 65,536: one for each of its peers, 24 bytes each.
    pub(crate) routes: usize,
    /// What each session may have forwarded.
    pub(crate) budget: RelayBudget,
}

/// The first packets on a route that are marked as such: the receiver may not have heard of the sender yet, and what
/// tells it so can be sent beside them. Four outlast three losses in a row.
const FRESH: u8 = 4;

/// Where a session's client is reached, or where a datagram came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// By datagrams, at this address.
    Datagram(SocketAddr),
    /// By a stream, whose other end is at this address (of the stream, not of any datagram).
    Stream(StreamId, SocketAddr),
}

impl From<SocketAddr> for Reach {
    fn from(at: SocketAddr) -> Self {
        Self::Datagram(at)
    }
}

impl Reach {
    /// The other end's address, of whichever it is.
    pub(crate) fn addr(self) -> SocketAddr {
        match self {
            Self::Datagram(at) | Self::Stream(_, at) => at,
        }
    }

    /// Whether packets from here come the way that packets go there.
    fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Stream(a, _), Self::Stream(b, _)) => a == b,
            _ => self == other,
        }
    }
}

/// Why a session was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum SessionError {
    /// There is one with that id.
    #[error("a session already")]
    Known,
    /// As many as [`RelayLimits::sessions`] allows.
    #[error("too many sessions")]
    Full,
}

/// Why a route was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum RouteError {
    /// No session with the sender's id.
    #[error("no such sender")]
    UnknownSender,
    /// No session with the receiver's id.
    #[error("no such receiver")]
    UnknownReceiver,
    /// Sender and receiver are the same session.
    #[error("a route to oneself")]
    ToItself,
    /// As many of the sender's as [`RelayLimits::routes`] allows.
    #[error("too many routes")]
    Full,
    /// The sender has had all 2^32 handles that there are.
    #[error("handles used up")]
    UsedUp,
}

/// What to do with an admitted datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Forward<'d> {
    /// The session that sent it.
    pub(crate) from_session: u64,
    /// The session that it is for.
    pub(crate) to_session: u64,
    /// Where to send it.
    pub(crate) to: Reach,
    /// What to send, verbatim.
    pub(crate) inner: &'d [u8],
    /// Among the first on its route: see [`FRESH`].
    pub(crate) fresh: bool,
    /// The sender's datagram came from another address than the one set for it, and no later one came before.
    pub(crate) moved: bool,
}

/// Why a datagram was not forwarded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Error)]
pub(crate) enum Refusal {
    /// Not a wrap, or what is inside is not a peer's packet.
    #[error("not a wrapped packet")]
    Malformed,
    /// No session with that id.
    #[error("no such session")]
    UnknownSession,
    /// The number has been seen, or is too old to tell.
    #[error("a replay")]
    Replayed,
    /// The MAC is wrong.
    #[error("forged")]
    Forged,
    /// The handle leads nowhere, or not any more.
    #[error("no such route")]
    NoRoute,
    /// The receiver's session is over.
    #[error("the receiver is gone")]
    ReceiverGone,
    /// More than its sender may have forwarded.
    #[error("over budget")]
    OverBudget,
}

const REFUSALS: usize = Refusal::OverBudget as usize + 1;

/// The forwarding plane. See the module's text. Nothing in [`Self::admit`] allocates, and its work is constant.
pub(crate) struct Forwarder {
    limits: RelayLimits,
    /// Places of the live sessions, by session id.
    places: HashMap<u64, usize, SeededState>,
    sessions: Vec<Option<Session>>,
    free: Vec<usize>,
    last_serial: u64,
    refused: [u64; REFUSALS],
    forwarded: u64,
}

struct Session {
    id: u64,
    /// Tells it from every other session that was ever in its place.
    serial: u64,
    key: RelayKey,
    reach: Reach,
    numbers: ReplayWindow,
    routes: Routes,
    /// Bytes and packets.
    spent: [Meter; 2],
    uplink: Uplink,
}

/// A session's routes, by slot.
#[derive(Default)]
struct Routes {
    slots: Vec<Route>,
    /// Slots without a route whose generations are not used up.
    free: Vec<u16>,
    live: usize,
}

struct Route {
    /// Of its receiver, or of the one that it had last.
    generation: u16,
    /// How many packets still count as the first ones.
    fresh: u8,
    to: Option<Receiver>,
}

#[derive(Clone, Copy)]
struct Receiver {
    place: usize,
    serial: u64,
}

impl Forwarder {
    pub(crate) fn new(limits: RelayLimits, hasher: SeededState) -> Self {
        Self {
            limits,
            places: HashMap::with_hasher(hasher),
            sessions: Vec::new(),
            free: Vec::new(),
            last_serial: 0,
            refused: [0; REFUSALS],
            forwarded: 0,
        }
    }

    /// From now on `session` may have routes. `reach`: where it is reachable, verified.
    pub(crate) fn add_session(&mut self, session: u64, key: RelayKey, reach: Reach) -> Result<(), SessionError> {
        if self.places.contains_key(&session) {
            return Err(SessionError::Known);
        }
        if self.places.len() >= self.limits.sessions {
            return Err(SessionError::Full);
        }
        self.last_serial = self.last_serial.saturating_add(1);
        let (numbers, routes) = (ReplayWindow::new(), Routes::default());
        let (spent, uplink) = Default::default();
        let state = Session { id: session, serial: self.last_serial, key, reach, numbers, routes, spent, uplink };
        let place = self.free.pop().unwrap_or(self.sessions.len());
        match self.sessions.get_mut(place) {
            Some(vacant) => *vacant = Some(state),
            None => self.sessions.push(Some(state)),
        }
        self.places.insert(session, place);
        Ok(())
    }

    /// The session is over. Its routes are gone, and what others' routes lead to is not there any more. False if there is
    /// none.
    pub(crate) fn remove_session(&mut self, session: u64) -> bool {
        let Some(place) = self.places.remove(&session) else { return false };
        if let Some(occupied) = self.sessions.get_mut(place) {
            *occupied = None;
            self.free.push(place);
        }
        true
    }

    /// The session is reachable at another address now, verified. False if there is none.
    pub(crate) fn set_reach(&mut self, session: u64, reach: Reach) -> bool {
        self.session_mut(session).map(|state| state.reach = reach).is_some()
    }

    /// Lets `from` send to `to`, by the handle that is returned and `from` is to be told. A pair takes one route each way.
    pub(crate) fn add_route(&mut self, from: u64, to: u64) -> Result<u32, RouteError> {
        if from == to {
            return Err(RouteError::ToItself);
        }
        let max = self.limits.routes;
        let place = self.places.get(&to).copied().ok_or(RouteError::UnknownReceiver);
        let sender = self.places.get(&from).copied().ok_or(RouteError::UnknownSender)?;
        let place = place?;
        let serial = self.at(place).ok_or(RouteError::UnknownReceiver)?.serial;
        let sender = self.at_mut(sender).ok_or(RouteError::UnknownSender)?;
        sender.routes.add(Receiver { place, serial }, max)
    }

    /// The handle leads nowhere from now on, for ever. False if it did not before.
    pub(crate) fn remove_route(&mut self, from: u64, handle: u32) -> bool {
        self.session_mut(from).is_some_and(|sender| sender.routes.remove(handle))
    }

    /// Judges one datagram that arrived from `from`, and counts the verdict.
    pub(crate) fn admit<'d>(&mut self, now: Instant, datagram: &'d [u8], from: Reach) -> Result<Forward<'d>, Refusal> {
        let verdict = self.judge(now, datagram, from);
        match verdict {
            Ok(_) => self.forwarded = self.forwarded.saturating_add(1),
            Err(why) => {
                if let Some(count) = self.refused.get_mut(why as usize) {
                    *count = count.saturating_add(1);
                }
            }
        }
        verdict
    }

    /// Routes at present, both directions of a pair counted.
    pub(crate) fn routes(&self) -> usize {
        self.sessions.iter().flatten().map(|session| session.routes.live).sum()
    }

    /// Datagrams refused so far, for that reason.
    #[cfg(test)]
    pub(crate) fn refused(&self, why: Refusal) -> u64 {
        self.refused.get(why as usize).copied().unwrap_or_default()
    }

    /// Datagrams admitted so far.
    #[cfg(test)]
    pub(crate) const fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// Bytes a second that a session has had forwarded at most, lately.
    pub(crate) fn uplink(&self, session: u64) -> u64 {
        let place = self.places.get(&session).copied();
        place.and_then(|place| self.at(place)).map_or(0, |session| session.uplink.best())
    }

    fn judge<'d>(&mut self, now: Instant, datagram: &'d [u8], from: Reach) -> Result<Forward<'d>, Refusal> {
        let budget = self.limits.budget;
        let wrap = relay::parse(datagram).map_err(|_| Refusal::Malformed)?;
        let sender = self.session_mut(wrap.session).ok_or(Refusal::UnknownSession)?;
        let number = header::expand(wrap.number_low, relay::NUMBER_BITS, sender.numbers.largest());
        if !sender.numbers.check(number) {
            return Err(Refusal::Replayed);
        }
        if !sender.key.verify(&wrap, number) {
            return Err(Refusal::Forged);
        }
        let newest = sender.numbers.largest().is_none_or(|largest| number > largest);
        sender.numbers.mark(number);
        sender.uplink.on_bytes(now, datagram.len());
        let [bytes, packets] = &mut sender.spent;
        let within = packets.take(now, budget.packets) && bytes.take_some(now, budget.bytes, datagram.len());
        within.then_some(()).ok_or(Refusal::OverBudget)?;
        let (receiver, fresh) = sender.routes.use_route(wrap.handle).ok_or(Refusal::NoRoute)?;
        let moved = newest && !from.is(sender.reach);
        let to = self.at(receiver.place).filter(|to| to.serial == receiver.serial).ok_or(Refusal::ReceiverGone)?;
        Ok(Forward { from_session: wrap.session, to_session: to.id, to: to.reach, inner: wrap.inner, fresh, moved })
    }

    fn session_mut(&mut self, session: u64) -> Option<&mut Session> {
        let place = self.places.get(&session).copied()?;
        self.at_mut(place)
    }

    fn at(&self, place: usize) -> Option<&Session> {
        self.sessions.get(place)?.as_ref()
    }

    fn at_mut(&mut self, place: usize) -> Option<&mut Session> {
        self.sessions.get_mut(place)?.as_mut()
    }
}

impl Routes {
    fn add(&mut self, to: Receiver, max: usize) -> Result<u32, RouteError> {
        if self.live >= max {
            return Err(RouteError::Full);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < MAX_SLOTS => {
                self.slots.push(Route { generation: 0, fresh: 0, to: None });
                self.slots.len().saturating_sub(1) as u16
            }
            None => return Err(RouteError::UsedUp),
        };
        let route = self.slots.get_mut(usize::from(slot)).ok_or(RouteError::UsedUp)?;
        route.generation = route.generation.saturating_add(1);
        route.to = Some(to);
        route.fresh = FRESH;
        self.live = self.live.saturating_add(1);
        Ok(u32::from(slot) << 16 | u32::from(route.generation))
    }

    fn remove(&mut self, handle: u32) -> bool {
        let (slot, generation) = parts(handle);
        let Some(route) = self.slots.get_mut(usize::from(slot)) else { return false };
        if route.generation != generation || route.to.take().is_none() {
            return false;
        }
        self.live = self.live.saturating_sub(1);
        if generation < u16::MAX {
            self.free.push(slot);
        }
        true
    }

    /// Where a handle leads, and whether this is among the first packets that go there.
    fn use_route(&mut self, handle: u32) -> Option<(Receiver, bool)> {
        let (slot, generation) = parts(handle);
        let route = self.slots.get_mut(usize::from(slot)).filter(|route| route.generation == generation)?;
        let to = route.to?;
        let fresh = route.fresh > 0;
        route.fresh = route.fresh.saturating_sub(1);
        Some((to, fresh))
    }
}

const fn parts(handle: u32) -> (u16, u16) {
    ((handle >> 16) as u16, handle as u16)
}
