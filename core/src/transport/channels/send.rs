//! The sending half: messages that wait, are under way, or must be sent again, by scope.
//!
//! Control messages go before everything else, then class by class, as [`Turns`] say; in each class, what was lost goes
//! before what is new. In a reliable scope messages are begun in the order of their numbers, which is what the receiver
//! counts on when it charges for those it has not seen.

use super::super::flow::{self, SendCredit};
use super::super::space::{Carried, Piece, SentSpace};
use super::super::{PathId, TransportConfig, TransportSendError, Usage};
use super::MAX_SCOPES;
use super::message::{Cut, Loose, MAX_SCOPE_LEN, OutMessage};
use super::pool::Pool;
use super::receive::MAX_CONTROL_BYTES;
use super::turns::{CONTROL, FIRST, RANKS, Turns};
use crate::command::SendOptions;
use crate::ids::{Channel, GroupId};
use crate::time::Instant;
use crate::wire::buf::Writer;
use crate::wire::frames::{self, Scope, ScopeFrame};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Spare message records kept, with their lists' memory.
const SPARE: usize = 128;
/// Bytes around an unreliable message that goes whole into a packet of its own: its head with the longest numbers, its
/// length, and the scope's name.
pub(in crate::transport) const LOOSE_OVERHEAD: usize = 25 + 2 + MAX_SCOPE_LEN;
/// Scopes whose next message does not fit what is left of a packet, until the class gives up on filling it.
const MISFITS: usize = 3;

#[derive(Debug)]
struct OutScope {
    id: u64,
    scope: Scope,
    start: u64,
    /// Sequence number of the first message in `messages`.
    base: u64,
    /// Reliable messages that are not acknowledged.
    messages: VecDeque<OutMessage>,
    /// The first of them that was not sent completely.
    unsent: u64,
    /// Unreliable messages that were not sent completely.
    loose: VecDeque<Loose>,
    /// Next number of an unreliable scope.
    next_loose: u64,
    /// Keys of messages that were not sent completely, ascending, and their numbers.
    keys: Vec<(u32, u64)>,
    /// A packet with the name was acknowledged.
    known: bool,
    /// A packet with the name was sent.
    told: bool,
    /// The last packet that has the name in it.
    told_in: Option<(PathId, u64)>,
    credit: SendCredit,
    /// Bytes of reliable messages, their overhead included.
    queued: usize,
}

impl OutScope {
    /// The number that its next message has.
    fn next_seq(&self) -> u64 {
        self.next_loose.max(self.base + self.messages.len() as u64)
    }

    fn message(&self, seq: u64) -> Option<&OutMessage> {
        self.messages.get(usize::try_from(seq.checked_sub(self.base)?).ok()?)
    }

    fn message_mut(&mut self, seq: u64) -> Option<&mut OutMessage> {
        self.messages.get_mut(usize::try_from(seq.checked_sub(self.base)?).ok()?)
    }

    fn name(&self) -> ScopeFrame {
        ScopeFrame { id: self.id, scope: self.scope, start: self.start }
    }

    /// Bytes that the name takes in this packet: none once the peer knows it, or the packet has it.
    fn overhead(&self, packet: &Packet<'_, '_>) -> usize {
        let here = self.told_in == Some((packet.path, packet.pn));
        if self.known || here { 0 } else { frames::scope_len(&self.name()) }
    }

    /// Writes the name if this packet needs it. It rides in every packet until one of them is acknowledged.
    fn tell(&mut self, packet: &mut Packet<'_, '_>) -> Option<()> {
        if self.overhead(packet) > 0 {
            frames::write_scope(packet.w, &self.name()).ok()?;
            packet.sent.carry(Carried::Scope(self.id));
            self.told = true;
            self.told_in = Some((packet.path, packet.pn));
        }
        Some(())
    }

    /// The message of that key is sent completely.
    fn forget_key(&mut self, key: Option<u32>, seq: u64) {
        let place = key.and_then(|key| self.keys.binary_search(&(key, seq)).ok());
        place.map(|at| self.keys.remove(at));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    scope: u64,
    seq: u64,
}

/// What a scope's end must still do: be sent, then be acknowledged.
#[derive(Debug)]
struct Ending {
    id: u64,
    charged: u64,
    pending: bool,
}

/// The packet that is being written.
pub(in crate::transport) struct Packet<'a, 'b> {
    pub(in crate::transport) path: PathId,
    pub(in crate::transport) pn: u64,
    /// Frame bytes that an empty packet of this path takes.
    pub(in crate::transport) payload: usize,
    pub(in crate::transport) w: &'a mut Writer<'b>,
    pub(in crate::transport) sent: &'a mut SentSpace,
}

/// Messages that were dropped before they were sent, by cause.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::transport) struct Dropped {
    /// For want of room.
    pub(in crate::transport) overflowed: u64,
    /// Their deadline was over, or nobody was there to get them in time.
    pub(in crate::transport) expired: u64,
    /// They may only go directly, and there was no direct path.
    pub(in crate::transport) unrelayed: u64,
    /// A newer one of the same key took their place.
    pub(in crate::transport) superseded: u64,
}

/// See the module's text.
#[derive(Debug)]
pub(in crate::transport) struct Outgoing {
    /// Ascending by id.
    scopes: Vec<OutScope>,
    names: BTreeMap<Scope, u64>,
    next_id: u64,
    turns: Turns,
    /// A reliable message may be sent whatever the time, as [`Self::settle`] found last: most often what [`Self::has_data`] is
    /// asked for, several times a packet.
    goes_on: bool,
    /// What is to be sent again, by rank.
    again: [VecDeque<Name>; RANKS],
    loose: usize,
    loose_bytes: usize,
    /// Of unreliable messages so far.
    order: u64,
    ending: Vec<Ending>,
    credit: SendCredit,
    queued: usize,
    control_queued: usize,
    /// Where sends were refused for want of room, and how long the messages were.
    wanted: Vec<(Scope, usize)>,
    pub(in crate::transport) dropped: Dropped,
    pool: Pool,
    spare: Vec<OutMessage>,
    max_message: usize,
    /// The longest reliable message that the peer takes, as far as it said.
    peer_max: u64,
    /// It said so, or would have by now.
    peer_max_known: bool,
    /// The peer knows the longest that this end takes.
    pub(in crate::transport) max_message_told: bool,
    max_unreliable: usize,
    send_buffer: usize,
    loose_limit: (usize, usize),
}

impl Outgoing {
    pub(in crate::transport) fn new(config: &TransportConfig) -> Self {
        Self {
            scopes: Vec::new(),
            names: BTreeMap::new(),
            next_id: 0,
            turns: Turns::default(),
            goes_on: false,
            again: Default::default(),
            loose: 0,
            loose_bytes: 0,
            order: 0,
            ending: Vec::new(),
            credit: SendCredit::new(flow::INITIAL_CREDIT),
            queued: 0,
            control_queued: 0,
            wanted: Vec::new(),
            dropped: Dropped::default(),
            pool: Pool::default(),
            spare: Vec::new(),
            max_message: config.max_message,
            peer_max: flow::LEAST_MAX_MESSAGE,
            peer_max_known: false,
            max_message_told: config.max_message as u64 <= flow::LEAST_MAX_MESSAGE,
            max_unreliable: config.max_unreliable,
            send_buffer: config.send_buffer,
            loose_limit: (config.unreliable_messages, config.unreliable_bytes),
        }
    }

    // The application's side

    pub(in crate::transport) fn room(&self) -> usize {
        self.link_buffer().saturating_sub(self.queued).saturating_sub(flow::MESSAGE_OVERHEAD as usize)
    }

    /// What all scopes may queue together.
    fn link_buffer(&self) -> usize {
        self.send_buffer.saturating_add(self.send_buffer / 4)
    }

    /// Whether [`Self::send`] would take a message of that length in this scope. An unreliable one is taken whenever it may
    /// be that long.
    pub(in crate::transport) fn check_room(&mut self, scope: Scope, len: usize) -> Result<(), TransportSendError> {
        self.check_room_at(self.place(scope), scope, len)
    }

    /// The same, of the scope that stands there if it is known.
    fn check_room_at(&mut self, at: Option<usize>, scope: Scope, len: usize) -> Result<(), TransportSendError> {
        let reliable = scope.is_reliable();
        let max = self.max_len(reliable);
        if len > max {
            return Err(TransportSendError::TooLarge { max });
        }
        if reliable && at.is_none() && !self.has_free_scope() {
            return Err(TransportSendError::TooManyScopes);
        }
        if scope == Scope::Control {
            if self.control_queued + len + flow::MESSAGE_OVERHEAD as usize > MAX_CONTROL_BYTES as usize {
                return Err(TransportSendError::Full);
            }
        } else if reliable && !self.fits(at, len) {
            match self.wanted.iter_mut().find(|(wanting, _)| *wanting == scope) {
                Some((_, wanted)) => *wanted = len,
                None => self.wanted.push((scope, len)),
            }
            return Err(TransportSendError::Full);
        }
        Ok(())
    }

    /// The longest message. What the peer takes is not known before its first word.
    fn max_len(&self, reliable: bool) -> usize {
        match (reliable, self.peer_max_known) {
            (true, true) => self.max_message.min(usize::try_from(self.peer_max).unwrap_or(usize::MAX)),
            (true, false) => self.max_message,
            (false, _) => self.max_unreliable,
        }
    }

    /// Whether there is room in the scope and on the link, and the peer is known to take it.
    fn fits(&self, at: Option<usize>, len: usize) -> bool {
        let queued = at.and_then(|at| self.scopes.get(at));
        let cost = len.saturating_add(flow::MESSAGE_OVERHEAD as usize);
        let known = self.peer_max_known || len as u64 <= self.peer_max;
        known && len <= self.room() && queued.map_or(0, |s| s.queued).saturating_add(cost) <= self.send_buffer
    }

    /// A channel on which a send was refused and would be taken, or refused for another reason, now.
    pub(in crate::transport) fn writable(&mut self) -> Option<Channel> {
        let fits = |(scope, len): &(Scope, usize)| *len > self.max_len(true) || self.fits(self.place(*scope), *len);
        let at = self.wanted.iter().position(fits)?;
        self.wanted.swap_remove(at).0.channel()
    }

    /// A channel on which a send was refused, whether or not there is room.
    pub(in crate::transport) fn waited_for(&mut self) -> Option<Channel> {
        self.wanted.pop().and_then(|(scope, _)| scope.channel())
    }

    /// The peer takes messages of that length.
    pub(in crate::transport) fn on_max_message(&mut self, bytes: u64) {
        self.peer_max = self.peer_max.max(bytes);
        for out in &mut self.scopes {
            if out.credit.raise(flow::initial_scope_credit(self.peer_max)) {
                self.turns.unblock(out.id);
            }
        }
    }

    /// The peer has spoken: if it took longer messages than every end does, it would have said so.
    pub(in crate::transport) fn on_word(&mut self) {
        self.peer_max_known = true;
    }

    /// Whether every reliable message was acknowledged.
    pub(in crate::transport) fn is_empty(&self) -> bool {
        self.queued == 0 && self.control_queued == 0
    }

    /// Queues a message; without a number it gets the scope's next. Says how many older unreliable ones made way for it.
    pub(in crate::transport) fn send(
        &mut self,
        now: Instant,
        scope: Scope,
        seq: Option<u64>,
        bytes: &[u8],
        options: &SendOptions,
    ) -> Result<u64, TransportSendError> {
        let reliable = scope.is_reliable();
        if reliable && options.deadline.is_some() {
            return Err(TransportSendError::ReliableDeadline);
        }
        let at = self.place(scope);
        self.check_room_at(at, scope, bytes.len())?;
        let next = at.and_then(|at| self.scopes.get(at)).map(OutScope::next_seq);
        let seq = seq.or(next).unwrap_or(0);
        if reliable && next.is_some_and(|next| next != seq) {
            return Err(TransportSendError::Sequence);
        }
        let at = match at {
            Some(at) => at,
            None => self.enter(scope, seq)?,
        };
        if let Some(key) = options.replaces {
            self.supersede(at, key);
        }
        let rank = if scope == Scope::Control { CONTROL } else { FIRST + options.class as usize };
        let Some(out) = self.scopes.get_mut(at) else { return Ok(0) };
        let (id, key) = (out.id, options.replaces);
        if let Some(key) = key
            && let Err(place) = out.keys.binary_search(&(key, seq))
        {
            out.keys.insert(place, (key, seq));
        }
        if reliable {
            let mut message = self.spare.pop().unwrap_or_default();
            (message.rank, message.key) = (rank, key);
            message.bytes = self.pool.copy(bytes);
            out.messages.push_back(message);
            let cost = bytes.len() + flow::MESSAGE_OVERHEAD as usize;
            out.queued += cost;
            *self.queued_of(scope) += cost;
        } else {
            out.next_loose = seq.saturating_add(1);
            let (order, until) = (self.order, options.deadline.map(|within| now + within));
            self.order += 1;
            let bytes = self.pool.copy(bytes);
            self.loose += 1;
            self.loose_bytes += bytes.len();
            out.loose.push_back(Loose { seq, order, rank, key, until, sent: 0, bytes });
        }
        self.turns.wait(id, rank);
        self.turns.unblock(id);
        let before = self.dropped.overflowed;
        while self.loose > self.loose_limit.0 || self.loose_bytes > self.loose_limit.1 {
            self.drop_least();
        }
        self.settle(now);
        Ok(self.dropped.overflowed - before)
    }

    /// Drops the oldest unreliable message of the least urgent scope.
    fn drop_least(&mut self) {
        let fronts = self.scopes.iter().enumerate().filter_map(|(at, s)| Some((at, s.id, s.loose.front()?.order)));
        let least = fronts.max_by_key(|&(_, id, order)| (self.turns.rank(id), core::cmp::Reverse(order)));
        match least {
            Some((at, ..)) => self.drop_loose(at, 0),
            None => (self.loose, self.loose_bytes) = (0, 0),
        }
        self.dropped.overflowed += 1;
    }

    /// Drops every unreliable message; says how many.
    pub(in crate::transport) fn drop_unreliable(&mut self) -> u64 {
        let mut dropped = 0;
        if self.loose == 0 {
            return 0;
        }
        for at in 0..self.scopes.len() {
            while self.scopes.get(at).is_some_and(|out| !out.loose.is_empty()) {
                self.drop_loose(at, 0);
                dropped += 1;
            }
        }
        dropped
    }

    /// An unreliable message has been sent completely, or must not be.
    fn drop_loose(&mut self, at: usize, place: usize) {
        let Some(out) = self.scopes.get_mut(at) else { return };
        let Some(message) = out.loose.remove(place) else { return };
        out.forget_key(message.key, message.seq);
        self.turns.done(out.id, message.rank);
        self.loose = self.loose.saturating_sub(1);
        self.loose_bytes = self.loose_bytes.saturating_sub(message.bytes.len());
        self.pool.give(message.bytes);
    }

    /// What has that key and was not sent completely will not be.
    fn supersede(&mut self, at: usize, key: u32) {
        let Some(out) = self.scopes.get_mut(at) else { return };
        let place = out.keys.partition_point(|k| k.0 < key);
        let Some(&(_, seq)) = out.keys.get(place).filter(|k| k.0 == key) else { return };
        self.dropped.superseded += 1;
        if !out.scope.is_reliable() {
            if let Ok(place) = out.loose.binary_search_by_key(&seq, |m| m.seq) {
                self.drop_loose(at, place);
            }
            return;
        }
        out.keys.remove(place);
        if let Some(message) = out.message_mut(seq) {
            let bytes = message.skip();
            out.queued = out.queued.saturating_sub(bytes.len());
            self.queued = self.queued.saturating_sub(bytes.len());
            self.pool.give(bytes);
        }
    }

    /// Drops everything that is queued or under way for the group, and tells the peer that it comes to an end.
    pub(in crate::transport) fn close_group(&mut self, group: GroupId) {
        let mut at = 0;
        while let Some(out) = self.scopes.get(at) {
            if out.scope.group().is_none_or(|(g, _)| g != group) {
                at += 1;
                continue;
            }
            let out = self.scopes.remove(at);
            self.names.remove(&out.scope);
            self.turns.forget(out.id);
            self.wanted.retain(|(scope, _)| *scope != out.scope);
            self.again.iter_mut().for_each(|queue| queue.retain(|name| name.scope != out.id));
            for message in out.messages {
                self.recycle(out.scope, message);
            }
            self.loose = self.loose.saturating_sub(out.loose.len());
            for message in out.loose {
                self.loose_bytes = self.loose_bytes.saturating_sub(message.bytes.len());
                self.pool.give(message.bytes);
            }
            if out.told {
                self.ending.push(Ending { id: out.id, charged: out.credit.charged(), pending: true });
            }
        }
    }

    fn has_free_scope(&self) -> bool {
        self.scopes.len() + self.ending.len() < MAX_SCOPES
    }

    /// Where the scope stands, if it was entered.
    fn place(&self, scope: Scope) -> Option<usize> {
        self.names.get(&scope).and_then(|&id| self.find(id))
    }

    /// Enters a new scope.
    fn enter(&mut self, scope: Scope, seq: u64) -> Result<usize, TransportSendError> {
        if !self.has_free_scope() {
            return Err(TransportSendError::TooManyScopes);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.names.insert(scope, id);
        self.scopes.push(OutScope {
            id,
            scope,
            start: seq,
            base: seq,
            messages: VecDeque::new(),
            unsent: seq,
            loose: VecDeque::new(),
            next_loose: 0,
            keys: Vec::new(),
            known: false,
            told: false,
            told_in: None,
            credit: SendCredit::new(flow::initial_scope_credit(self.peer_max)),
            queued: 0,
        });
        Ok(self.scopes.len() - 1)
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.scopes.binary_search_by_key(&id, |s| s.id).ok()
    }

    fn message(&mut self, scope: u64, seq: u64) -> Option<&mut OutMessage> {
        let at = self.find(scope)?;
        self.scopes.get_mut(at)?.message_mut(seq).filter(|m| !m.done)
    }

    fn queued_of(&mut self, scope: Scope) -> &mut usize {
        if scope == Scope::Control { &mut self.control_queued } else { &mut self.queued }
    }

    /// Messages and what they cost beside their bytes, and the most they may.
    pub(in crate::transport) fn usage(&self) -> Usage {
        let overhead = flow::MESSAGE_OVERHEAD as usize;
        let loose = self.loose_bytes + self.loose * overhead;
        let most = self.loose_limit.1.saturating_add(self.loose_limit.0.saturating_mul(overhead));
        let reliable = self.link_buffer().saturating_add(MAX_CONTROL_BYTES as usize);
        Usage { used: self.queued + self.control_queued + loose, budget: reliable.saturating_add(most) }
    }

    /// Of these, what the library's own messages take.
    pub(in crate::transport) fn control_usage(&self) -> Usage {
        Usage { used: self.control_queued, budget: MAX_CONTROL_BYTES as usize }
    }

    /// Bytes of spare buffers.
    pub(in crate::transport) fn spare(&self) -> Usage {
        self.pool.usage()
    }

    /// Gives spare memory back; that of the queues, too, if nothing waits or is under way.
    pub(in crate::transport) fn release_spare(&mut self) {
        self.pool = Pool::default();
        self.spare = Vec::new();
        if self.queued + self.control_queued + self.loose > 0 {
            return;
        }
        self.again = Default::default();
        self.wanted.shrink_to_fit();
        for out in &mut self.scopes {
            (out.messages, out.loose, out.keys) = (VecDeque::new(), VecDeque::new(), Vec::new());
        }
    }

    // What became of packets

    pub(in crate::transport) fn on_acked(&mut self, piece: Piece) {
        let Some(message) = self.message(piece.scope, piece.seq) else { return };
        if !message.on_acked(piece.start, piece.end) {
            return;
        }
        let Some(at) = self.find(piece.scope) else { return };
        while let Some(out) = self.scopes.get_mut(at) {
            let scope = out.scope;
            if out.messages.front().is_none_or(|m| !m.done) {
                break;
            }
            let Some(message) = out.messages.pop_front() else { break };
            out.base += 1;
            out.queued = out.queued.saturating_sub(message.bytes.len() + flow::MESSAGE_OVERHEAD as usize);
            self.recycle(scope, message);
        }
    }

    fn recycle(&mut self, scope: Scope, mut message: OutMessage) {
        let queued = self.queued_of(scope);
        *queued = queued.saturating_sub(message.bytes.len() + flow::MESSAGE_OVERHEAD as usize);
        self.pool.give(core::mem::take(&mut message.bytes));
        if self.spare.len() < SPARE {
            message.reset();
            self.spare.push(message);
        }
    }

    /// The bytes are to be sent again, as far as they are not acknowledged.
    pub(in crate::transport) fn on_lost(&mut self, piece: Piece) {
        let Some(message) = self.message(piece.scope, piece.seq) else { return };
        if message.on_lost(piece.start, piece.end) {
            let (rank, name) = (message.rank, Name { scope: piece.scope, seq: piece.seq });
            if let Some(queue) = self.again.get_mut(rank) {
                queue.push_back(name);
            }
        }
    }

    pub(in crate::transport) fn on_scope_acked(&mut self, id: u64) {
        if let Some(out) = self.find(id).and_then(|at| self.scopes.get_mut(at)) {
            out.known = true;
        }
    }

    pub(in crate::transport) fn on_end_acked(&mut self, id: u64) {
        self.ending.retain(|ending| ending.id != id);
    }

    pub(in crate::transport) fn on_end_lost(&mut self, id: u64) {
        self.ending.iter_mut().filter(|ending| ending.id == id).for_each(|ending| ending.pending = true);
    }

    /// The peer grants credit, in all.
    pub(in crate::transport) fn on_credit(&mut self, limit: u64) {
        if self.credit.raise(limit) {
            self.turns.unblock_all();
        }
    }

    /// The peer grants credit in a scope, in all.
    pub(in crate::transport) fn on_scope_credit(&mut self, id: u64, limit: u64) {
        let out = self.find(id).and_then(|at| self.scopes.get_mut(at));
        if out.is_some_and(|out| out.credit.raise(limit)) {
            self.turns.unblock(id);
        }
    }

    /// The first of these bytes that still wait for an acknowledgement.
    pub(in crate::transport) fn open_part(&mut self, piece: Piece) -> Option<Piece> {
        let (start, end) = self.message(piece.scope, piece.seq)?.open_part(piece.start, piece.end)?;
        Some(Piece { start, end, ..piece })
    }

    /// Control messages that were sent and are not acknowledged.
    pub(in crate::transport) fn open_control(&self) -> impl Iterator<Item = Piece> {
        let control = self.scopes.iter().find(|s| s.scope == Scope::Control);
        control.into_iter().flat_map(|s| {
            let numbered = (s.base..).zip(&s.messages).filter(|(_, m)| !m.done && m.sent > 0);
            numbered.map(|(seq, m)| Piece { scope: s.id, seq, start: 0, end: m.sent })
        })
    }

    // Writing packets

    /// Whether there is anything to send at `now`, credit allowing. [`Self::settle`] keeps the queues' heads live.
    pub(in crate::transport) fn has_data(&self, now: Instant) -> bool {
        self.goes_on
            || self.again.iter().any(|queue| !queue.is_empty())
            || self.ending.iter().any(|e| e.pending)
            || self.turns.waiting().any(|(rank, id)| {
                self.find(id).and_then(|at| self.scopes.get(at)).is_some_and(|out| self.is_sendable(out, rank, now))
            })
    }

    fn is_sendable(&self, out: &OutScope, rank: usize, now: Instant) -> bool {
        match out.message(out.unsent) {
            Some(message) if out.scope.is_reliable() => self.affords(out, message, rank),
            _ => out.loose.iter().any(|m| !m.is_stale(now)),
        }
    }

    /// Whether the message was begun, or credit lets it.
    fn affords(&self, out: &OutScope, message: &OutMessage, rank: usize) -> bool {
        let cost = flow::cost(message.bytes.len() as u64);
        // The first class finds some credit left whatever the others have begun.
        let reserve = if rank == FIRST { 0 } else { flow::RESERVE };
        let affords = || self.credit.affords(cost + reserve) && out.credit.affords(cost);
        message.charged || out.scope == Scope::Control || affords()
    }

    /// Takes from the queues' heads what became settled or stale, and what waits for credit.
    pub(in crate::transport) fn settle(&mut self, now: Instant) {
        self.goes_on = false;
        if self.turns.is_idle() && self.again.iter().all(VecDeque::is_empty) {
            return;
        }
        for rank in 0..RANKS {
            self.settle_again(rank);
            while let Some(id) = self.turns.turn(rank, 0) {
                if let Some(at) = self.prepare(id, rank, now) {
                    self.goes_on |= self.scopes.get(at).is_some_and(|out| out.scope.is_reliable());
                    break;
                }
            }
        }
    }

    fn settle_again(&mut self, rank: usize) {
        while let Some(&name) = self.again.get(rank).and_then(VecDeque::front) {
            match self.message(name.scope, name.seq) {
                Some(message) if !message.again.is_empty() => return,
                Some(message) => message.queued_again = false,
                None => {}
            }
            self.again.get_mut(rank).map(VecDeque::pop_front);
        }
    }

    /// Drops what is stale at the head of the scope whose turn it is in a class. Says where it stands if it may send, else takes it
    /// out of its turn.
    fn prepare(&mut self, id: u64, rank: usize, now: Instant) -> Option<usize> {
        let Some(at) = self.find(id) else {
            self.turns.forget(id);
            return None;
        };
        while self.scopes.get(at).and_then(|out| out.loose.front()).is_some_and(|m| m.is_stale(now)) {
            self.drop_loose(at, 0);
            self.dropped.expired += 1;
        }
        if self.scopes.get(at).is_some_and(|out| self.is_sendable(out, rank, now)) {
            return Some(at);
        }
        self.turns.block(id);
        None
    }

    /// Writes what is to be written, as far as it fits.
    pub(in crate::transport) fn write(
        &mut self,
        now: Instant,
        packet: &mut Packet<'_, '_>,
        mut wrote: impl FnMut(Piece),
    ) {
        self.write_ends(packet);
        self.write_again(packet, CONTROL, &mut wrote);
        self.write_fresh(now, packet, CONTROL, &mut wrote);
        let again = &self.again;
        for rank in self.turns.order(|rank| again.get(rank).is_some_and(|queue| !queue.is_empty())) {
            if self.turns.is_empty(rank) && self.again.get(rank).is_none_or(VecDeque::is_empty) {
                continue;
            }
            let before = packet.w.len();
            self.write_again(packet, rank, &mut wrote);
            self.write_fresh(now, packet, rank, &mut wrote);
            self.turns.pay(rank, packet.w.len() - before);
        }
        self.settle(now);
    }

    fn write_ends(&mut self, packet: &mut Packet<'_, '_>) {
        for ending in self.ending.iter_mut().filter(|e| e.pending) {
            if frames::write_scope_end(packet.w, ending.id, ending.charged).is_err() {
                return;
            }
            packet.sent.carry(Carried::ScopeEnd(ending.id));
            ending.pending = false;
        }
    }

    fn write_again(&mut self, packet: &mut Packet<'_, '_>, rank: usize, wrote: &mut impl FnMut(Piece)) {
        loop {
            self.settle_again(rank);
            let Some(&Name { scope, seq }) = self.again.get(rank).and_then(VecDeque::front) else { return };
            let Some((start, end)) = self.message(scope, seq).and_then(|m| m.again.first()) else { return };
            let Some(piece) = self.write_piece(packet, Piece { scope, seq, start, end }) else { return };
            if let Some(message) = self.message(scope, seq) {
                message.again.remove(piece.start, piece.end);
            }
            wrote(piece);
        }
    }

    /// Writes new messages of a class. A scope whose next message does not fit what is left lets another fill it.
    fn write_fresh(&mut self, now: Instant, packet: &mut Packet<'_, '_>, rank: usize, wrote: &mut impl FnMut(Piece)) {
        let mut misfits = 0;
        while misfits <= MISFITS
            && let Some(id) = self.turns.turn(rank, misfits)
        {
            let Some(at) = self.prepare(id, rank, now) else { continue };
            let before = packet.w.len();
            let reliable = self.scopes.get(at).is_some_and(|out| out.scope.is_reliable());
            let written = if reliable { self.write_new(packet, at, wrote) } else { self.write_loose(packet, at) };
            match written {
                Some(()) => self.turns.spend(id, packet.w.len() - before),
                None => misfits += 1,
            }
        }
    }

    fn write_new(&mut self, packet: &mut Packet<'_, '_>, at: usize, wrote: &mut impl FnMut(Piece)) -> Option<()> {
        let out = self.scopes.get(at)?;
        let (scope, seq) = (out.id, out.unsent);
        let (start, end) = out.message(seq)?.unsent();
        let piece = self.write_at(packet, at, Piece { scope, seq, start, end })?;
        let out = self.scopes.get_mut(at)?;
        let message = out.message_mut(seq)?;
        message.sent = piece.end;
        let (cost, rank, key) = (flow::cost(message.bytes.len() as u64), message.rank, message.key);
        let (begins, ends) = (!core::mem::replace(&mut message.charged, true), message.is_sent());
        if begins && out.scope != Scope::Control {
            self.credit.charge(cost);
            out.credit.charge(cost);
        }
        if ends {
            out.unsent += 1;
            out.forget_key(key, seq);
            self.turns.done(scope, rank);
        }
        wrote(piece);
        Some(())
    }

    /// Writes as much of the piece as fits, from its start; says what was written.
    pub(in crate::transport) fn write_piece(&mut self, packet: &mut Packet<'_, '_>, piece: Piece) -> Option<Piece> {
        let at = self.find(piece.scope)?;
        self.write_at(packet, at, piece)
    }

    /// The same, of the scope that stands there.
    fn write_at(&mut self, packet: &mut Packet<'_, '_>, at: usize, piece: Piece) -> Option<Piece> {
        let out = self.scopes.get_mut(at)?;
        let message = out.message(piece.seq)?;
        let room = packet.w.room().checked_sub(out.overhead(packet))?;
        if let Some(total) = message.skipped {
            if frames::skip_len(piece.scope, piece.seq, total) > room {
                return None;
            }
            out.tell(packet)?;
            frames::write_skip(packet.w, piece.scope, piece.seq, total).ok()?;
            packet.sent.carry(Carried::Bytes(piece));
            return Some(piece);
        }
        let total = message.bytes.len() as u64;
        let from = usize::try_from(piece.start).ok()?;
        let bytes = message.bytes.get(from..usize::try_from(piece.end.min(total)).ok()?)?;
        let whole = bytes.len() as u64 == total;
        let cut = Cut::of(piece, total);
        let len = cut.fit(bytes, room, packet.payload)?;
        out.tell(packet)?;
        let bytes = out.message(piece.seq)?.bytes.get(from..)?.get(..len)?;
        frames::write_message(packet.w, &cut.head(bytes), bytes).ok()?;
        let end = if whole && len as u64 == total { piece.end } else { piece.start + len as u64 };
        let written = Piece { end, ..piece };
        packet.sent.carry(Carried::Bytes(written));
        Some(written)
    }

    fn write_loose(&mut self, packet: &mut Packet<'_, '_>, at: usize) -> Option<()> {
        let out = self.scopes.get_mut(at)?;
        let room = packet.w.room().checked_sub(out.overhead(packet))?;
        let message = out.loose.front()?;
        let (start, total) = (message.sent, message.bytes.len() as u64);
        let cut = Cut { scope: out.id, seq: message.seq, reliable: false, key: message.key, start, total };
        let from = usize::try_from(start).ok()?;
        let len = cut.fit(message.bytes.get(from..)?, room, packet.payload)?;
        out.tell(packet)?;
        let message = out.loose.front_mut()?;
        let bytes = message.bytes.get(from..)?.get(..len)?;
        frames::write_message(packet.w, &cut.head(bytes), bytes).ok()?;
        message.sent += len as u64;
        if message.sent >= total {
            self.drop_loose(at, 0);
        }
        Some(())
    }
}
