//! The sending half: messages that wait, are under way, or must be sent again, by scope.
//!
//! A reliable message knows three things about its bytes: up to where they were sent at all, which of those are to be
//! sent again, which are acknowledged. Marking the same bytes lost twice, or acknowledged by two paths, changes nothing,
//! so that copies on several paths need no book-keeping. Two classes, control before everything else; in each, what was
//! lost goes before what is new. Unreliable messages take turns with new reliable ones, packet by packet.

use super::super::flow::{self, SendCredit};
use super::super::ranges::Ranges;
use super::super::space::{Carried, Piece, SentSpace};
use super::super::{PathId, TransportConfig, TransportSendError};
use super::pool::Pool;
use super::receive::MAX_CONTROL_BYTES;
use crate::ids::{Channel, GroupId, Reliability};
use crate::wire::buf::{Writer, varint_len};
use crate::wire::frames::{self, FRAGMENT_UNIT, MessageHead, Scope, ScopeFrame};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Room below which a message that would fit the next packet whole is not cut to fill this one.
const WORTH_CUTTING: usize = 160;
/// Longest name of a scope, bytes.
const MAX_SCOPE_LEN: usize = 35;
/// Spare message records kept, with their lists' memory.
const SPARE: usize = 128;

#[derive(Debug, Default)]
struct OutMessage {
    bytes: Vec<u8>,
    /// Bytes below this were sent at least once.
    sent: u64,
    /// To be sent again.
    again: Ranges,
    acked: Ranges,
    /// Stands in the queue of what is to be sent again.
    queued_again: bool,
    done: bool,
}

impl OutMessage {
    /// What ranges run to: an empty message counts as one byte.
    fn extent(&self) -> u64 {
        (self.bytes.len() as u64).max(1)
    }
}

#[derive(Debug)]
struct OutScope {
    id: u64,
    scope: Scope,
    start: u64,
    /// Sequence number of the first message in `messages`.
    base: u64,
    messages: VecDeque<OutMessage>,
    /// Next number of an unreliable scope, which keeps no messages here.
    next_loose: u64,
    /// A packet with the name was acknowledged.
    known: bool,
    /// A packet with the name was sent.
    told: bool,
    /// The last packet that has the name in it.
    told_in: Option<(PathId, u64)>,
    charged: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    scope: u64,
    seq: u64,
}

/// Messages of one class.
#[derive(Debug, Default)]
struct Class {
    again: VecDeque<Name>,
    fresh: VecDeque<Name>,
}

#[derive(Debug)]
struct Loose {
    scope: u64,
    seq: u64,
    sent: u64,
    bytes: Vec<u8>,
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

/// See the module's text.
#[derive(Debug)]
pub(in crate::transport) struct Outgoing {
    /// Ascending by id.
    scopes: Vec<OutScope>,
    names: BTreeMap<Scope, u64>,
    next_id: u64,
    control: Class,
    data: Class,
    loose: VecDeque<Loose>,
    loose_bytes: usize,
    ending: Vec<Ending>,
    loose_turn: bool,
    pub(in crate::transport) credit: SendCredit,
    queued: usize,
    control_queued: usize,
    /// Room that the last refused send wanted.
    wanted: Option<usize>,
    /// Unreliable messages dropped for want of room.
    pub(in crate::transport) overflowed: u64,
    pool: Pool,
    spare: Vec<OutMessage>,
    max_message: usize,
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
            control: Class::default(),
            data: Class::default(),
            loose: VecDeque::new(),
            loose_bytes: 0,
            ending: Vec::new(),
            loose_turn: false,
            credit: SendCredit::new(),
            queued: 0,
            control_queued: 0,
            wanted: None,
            overflowed: 0,
            pool: Pool::default(),
            spare: Vec::new(),
            max_message: config.max_message,
            max_unreliable: config.max_unreliable,
            send_buffer: config.send_buffer,
            loose_limit: (config.unreliable_messages, config.unreliable_bytes),
        }
    }

    // The application's side

    pub(in crate::transport) fn room(&self) -> usize {
        self.send_buffer.saturating_sub(self.queued).saturating_sub(flow::MESSAGE_OVERHEAD as usize)
    }

    /// Whether [`Self::send`] would take a message of that length on this channel of a peer or a group.
    pub(in crate::transport) fn check_room(&mut self, channel: Channel, len: usize) -> Result<(), TransportSendError> {
        let reliable = channel.reliability() == Reliability::ReliableOrdered;
        let max = if reliable { self.max_message } else { self.max_unreliable };
        if len > max {
            return Err(TransportSendError::TooLarge { max });
        }
        if reliable && len > self.room() {
            self.wanted = Some(len);
            return Err(TransportSendError::Full);
        }
        Ok(())
    }

    /// Whether every reliable message was acknowledged.
    pub(in crate::transport) fn is_empty(&self) -> bool {
        self.queued == 0 && self.control_queued == 0
    }

    pub(in crate::transport) fn writable(&mut self) -> bool {
        let room = self.room();
        self.wanted.take_if(|wanted| *wanted <= room).is_some()
    }

    /// The number that [`Self::send`] must be given next; `None` if any.
    pub(in crate::transport) fn next_seq(&self, scope: Scope) -> Option<u64> {
        let at = self.find(*self.names.get(&scope)?)?;
        self.scopes.get(at).map(|s| s.next_loose.max(s.base + s.messages.len() as u64))
    }

    pub(in crate::transport) fn send(
        &mut self,
        scope: Scope,
        seq: u64,
        bytes: &[u8],
    ) -> Result<(), TransportSendError> {
        let reliable = scope.is_reliable();
        let max = if reliable { self.max_message } else { self.max_unreliable };
        if bytes.len() > max {
            return Err(TransportSendError::TooLarge { max });
        }
        if !reliable {
            self.push_loose(scope, seq, bytes);
            return Ok(());
        }
        if self.next_seq(scope).is_some_and(|next| next != seq) {
            return Err(TransportSendError::Sequence);
        }
        if scope == Scope::Control {
            if self.control_queued + bytes.len() + flow::MESSAGE_OVERHEAD as usize > MAX_CONTROL_BYTES as usize {
                return Err(TransportSendError::Full);
            }
        } else if bytes.len() > self.room() {
            self.wanted = Some(bytes.len());
            return Err(TransportSendError::Full);
        }
        let at = self.enter(scope, seq);
        let mut message = self.spare.pop().unwrap_or_default();
        message.bytes = self.pool.copy(bytes);
        let Some(out) = self.scopes.get_mut(at) else { return Ok(()) };
        out.messages.push_back(message);
        let name = Name { scope: out.id, seq };
        *self.queued_of(scope) += bytes.len() + flow::MESSAGE_OVERHEAD as usize;
        self.class(scope).fresh.push_back(name);
        Ok(())
    }

    fn push_loose(&mut self, scope: Scope, seq: u64, bytes: &[u8]) {
        let at = self.enter(scope, seq);
        let Some(out) = self.scopes.get_mut(at) else { return };
        out.next_loose = seq.saturating_add(1);
        let message = Loose { scope: out.id, seq, sent: 0, bytes: self.pool.copy(bytes) };
        self.loose_bytes += bytes.len();
        self.loose.push_back(message);
        while self.loose.len() > self.loose_limit.0 || self.loose_bytes > self.loose_limit.1 {
            self.overflowed += 1;
            self.drop_loose();
        }
    }

    fn drop_loose(&mut self) {
        if let Some(oldest) = self.loose.pop_front() {
            self.loose_bytes = self.loose_bytes.saturating_sub(oldest.bytes.len());
            self.pool.give(oldest.bytes);
        }
    }

    /// Drops everything that is queued or under way for the group, and tells the peer that it comes to an end.
    pub(in crate::transport) fn close_group(&mut self, group: GroupId) {
        let is_over = |scope: &Scope| scope.group().is_some_and(|(g, _)| g == group);
        let mut at = 0;
        while let Some(out) = self.scopes.get(at) {
            if !is_over(&out.scope) {
                at += 1;
                continue;
            }
            let out = self.scopes.remove(at);
            self.names.remove(&out.scope);
            for message in out.messages {
                self.recycle(out.scope, message);
            }
            if out.told {
                self.ending.push(Ending { id: out.id, charged: out.charged, pending: true });
            }
            for queue in [&mut self.data.again, &mut self.data.fresh] {
                queue.retain(|name| name.scope != out.id);
            }
            let (loose_bytes, pool) = (&mut self.loose_bytes, &mut self.pool);
            self.loose.retain_mut(|message| {
                let stays = message.scope != out.id;
                if !stays {
                    *loose_bytes = loose_bytes.saturating_sub(message.bytes.len());
                    pool.give(core::mem::take(&mut message.bytes));
                }
                stays
            });
        }
    }

    /// Where the scope stands, entered if it is new.
    fn enter(&mut self, scope: Scope, seq: u64) -> usize {
        if let Some(at) = self.names.get(&scope).and_then(|&id| self.find(id)) {
            return at;
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
            next_loose: 0,
            known: false,
            told: false,
            told_in: None,
            charged: 0,
        });
        self.scopes.len() - 1
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.scopes.binary_search_by_key(&id, |s| s.id).ok()
    }

    fn message(&mut self, scope: u64, seq: u64) -> Option<&mut OutMessage> {
        let at = self.find(scope)?;
        let out = self.scopes.get_mut(at)?;
        let place = usize::try_from(seq.checked_sub(out.base)?).ok()?;
        out.messages.get_mut(place).filter(|m| !m.done)
    }

    fn class(&mut self, scope: Scope) -> &mut Class {
        if scope == Scope::Control { &mut self.control } else { &mut self.data }
    }

    fn queued_of(&mut self, scope: Scope) -> &mut usize {
        if scope == Scope::Control { &mut self.control_queued } else { &mut self.queued }
    }

    // What became of packets

    pub(in crate::transport) fn on_acked(&mut self, piece: Piece) {
        let Some(message) = self.message(piece.scope, piece.seq) else { return };
        let extent = message.extent();
        if (piece.start, piece.end) != (0, extent) {
            message.acked.insert(piece.start, piece.end);
            message.again.remove(piece.start, piece.end);
            if message.acked.first() != Some((0, extent)) {
                return;
            }
        }
        message.done = true;
        message.again.clear();
        let Some(at) = self.find(piece.scope) else { return };
        while let Some(out) = self.scopes.get_mut(at) {
            let scope = out.scope;
            if out.messages.front().is_none_or(|m| !m.done) {
                break;
            }
            let Some(message) = out.messages.pop_front() else { break };
            out.base += 1;
            self.recycle(scope, message);
        }
    }

    fn recycle(&mut self, scope: Scope, mut message: OutMessage) {
        let queued = self.queued_of(scope);
        *queued = queued.saturating_sub(message.bytes.len() + flow::MESSAGE_OVERHEAD as usize);
        self.pool.give(core::mem::take(&mut message.bytes));
        if self.spare.len() < SPARE {
            message.again.clear();
            message.acked.clear();
            message.sent = 0;
            (message.queued_again, message.done) = (false, false);
            self.spare.push(message);
        }
    }

    /// The bytes are to be sent again, as far as they are not acknowledged.
    pub(in crate::transport) fn on_lost(&mut self, piece: Piece) {
        let Some(message) = self.message(piece.scope, piece.seq) else { return };
        let (mut from, mut queue) = (piece.start, false);
        while let Some((start, end)) = message.acked.first_gap(from, piece.end) {
            message.again.insert(start, end);
            (from, queue) = (end, true);
        }
        if queue && !core::mem::replace(&mut message.queued_again, true) {
            let name = Name { scope: piece.scope, seq: piece.seq };
            let scope = self.find(piece.scope).and_then(|at| self.scopes.get(at)).map(|s| s.scope);
            if let Some(scope) = scope {
                self.class(scope).again.push_back(name);
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

    /// The first of these bytes that still wait for an acknowledgement.
    pub(in crate::transport) fn open_part(&mut self, piece: Piece) -> Option<Piece> {
        let (start, end) = self.message(piece.scope, piece.seq)?.acked.first_gap(piece.start, piece.end)?;
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

    /// Whether there is anything to send now, credit allowing. [`Self::settle`] keeps the heads of the queues live.
    pub(in crate::transport) fn has_data(&self) -> bool {
        let queues = [&self.control.again, &self.control.fresh, &self.data.again];
        queues.iter().any(|q| !q.is_empty())
            || !self.loose.is_empty()
            || self.ending.iter().any(|e| e.pending)
            || self.data.fresh.front().is_some_and(|name| self.affords(*name))
    }

    fn affords(&self, name: Name) -> bool {
        let out = self.find(name.scope).and_then(|at| self.scopes.get(at));
        let message = out.and_then(|o| o.messages.get(usize::try_from(name.seq.checked_sub(o.base)?).ok()?));
        message.is_some_and(|m| m.sent > 0 || self.credit.affords(flow::cost(m.bytes.len() as u64)))
    }

    /// Takes from the queues' heads what became settled in the meantime.
    pub(in crate::transport) fn settle(&mut self) {
        for control in [true, false] {
            loop {
                let class = if control { &self.control } else { &self.data };
                let Some(&name) = class.again.front() else { break };
                match self.message(name.scope, name.seq) {
                    Some(message) if !message.again.is_empty() => break,
                    Some(message) => message.queued_again = false,
                    None => {}
                }
                let class = if control { &mut self.control } else { &mut self.data };
                class.again.pop_front();
            }
        }
    }

    /// Writes what is to be written, as far as it fits.
    pub(in crate::transport) fn write(&mut self, packet: &mut Packet<'_, '_>, mut wrote: impl FnMut(Piece)) {
        self.write_ends(packet);
        self.write_class(packet, true, true, &mut wrote);
        self.write_class(packet, true, false, &mut wrote);
        self.write_class(packet, false, true, &mut wrote);
        self.loose_turn = !self.loose_turn;
        if self.loose_turn {
            self.write_loose(packet);
        }
        self.write_class(packet, false, false, &mut wrote);
        self.write_loose(packet);
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

    fn write_class(&mut self, packet: &mut Packet<'_, '_>, control: bool, again: bool, wrote: &mut impl FnMut(Piece)) {
        loop {
            self.settle();
            let class = if control { &self.control } else { &self.data };
            let queue = if again { &class.again } else { &class.fresh };
            let Some(&name) = queue.front() else { return };
            if !control && !again && !self.affords(name) {
                return;
            }
            let Some(message) = self.message(name.scope, name.seq) else { return };
            let (start, end) = match message.again.first() {
                Some(range) if again => range,
                _ => (message.sent, message.extent()),
            };
            let Some(piece) = self.write_piece(packet, Piece { scope: name.scope, seq: name.seq, start, end }) else {
                return;
            };
            let Some(message) = self.message(name.scope, name.seq) else { return };
            if again {
                message.again.remove(piece.start, piece.end);
            } else {
                let first = core::mem::replace(&mut message.sent, piece.end) == 0;
                let (cost, all_sent) = (flow::cost(message.bytes.len() as u64), piece.end == message.extent());
                if all_sent {
                    let class = if control { &mut self.control } else { &mut self.data };
                    class.fresh.pop_front();
                }
                if first && !control {
                    self.credit.charge(cost);
                    if let Some(out) = self.find(name.scope).and_then(|at| self.scopes.get_mut(at)) {
                        out.charged += cost;
                    }
                }
            }
            wrote(piece);
        }
    }

    /// Writes as much of the piece as fits, from its start; says what was written.
    pub(in crate::transport) fn write_piece(&mut self, packet: &mut Packet<'_, '_>, piece: Piece) -> Option<Piece> {
        let at = self.find(piece.scope)?;
        let out = self.scopes.get_mut(at)?;
        let message = out.messages.get(usize::try_from(piece.seq.checked_sub(out.base)?).ok()?)?;
        let (start, end) = (piece.start, piece.end.min(message.bytes.len() as u64));
        let bytes = message.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
        let whole = bytes.len() == message.bytes.len();
        let cut = Cut { scope: out.id, seq: piece.seq, reliable: true, start, total: message.bytes.len() as u64 };
        let told_len = scope_overhead(out, packet);
        let len = cut.fit(bytes, packet.w.room().checked_sub(told_len)?, packet.payload)?;
        tell_scope(out, packet)?;
        let message = out.messages.get(usize::try_from(piece.seq.checked_sub(out.base)?).ok()?)?;
        let bytes = message.bytes.get(usize::try_from(start).ok()?..)?.get(..len)?;
        frames::write_message(packet.w, &cut.head(bytes), bytes).ok()?;
        let end = if whole && len == message.bytes.len() { piece.end } else { start + len as u64 };
        let written = Piece { end, ..piece };
        packet.sent.carry(Carried::Bytes(written));
        Some(written)
    }

    fn write_loose(&mut self, packet: &mut Packet<'_, '_>) {
        while let Some(message) = self.loose.front_mut() {
            let Ok(at) = self.scopes.binary_search_by_key(&message.scope, |s| s.id) else { return };
            let Some(out) = self.scopes.get_mut(at) else { return };
            let total = message.bytes.len() as u64;
            let bytes = message.bytes.get(message.sent as usize..).unwrap_or_default();
            let cut = Cut { scope: out.id, seq: message.seq, reliable: false, start: message.sent, total };
            let Some(room) = packet.w.room().checked_sub(scope_overhead(out, packet)) else { return };
            let Some(len) = cut.fit(bytes, room, packet.payload) else { return };
            let bytes = bytes.get(..len).unwrap_or_default();
            if tell_scope(out, packet).is_none() || frames::write_message(packet.w, &cut.head(bytes), bytes).is_err() {
                return;
            }
            message.sent += len as u64;
            if message.sent >= total {
                self.drop_loose();
            }
        }
    }
}

/// Bytes that the scope's name takes in this packet: none once the peer knows it, or the packet has it.
fn scope_overhead(out: &OutScope, packet: &Packet<'_, '_>) -> usize {
    let here = out.told_in == Some((packet.path, packet.pn));
    if out.known || here { 0 } else { frames::scope_len(&name_of(out)) }
}

/// Writes the scope's name if this packet needs it. It rides in every packet until one of them is acknowledged.
fn tell_scope(out: &mut OutScope, packet: &mut Packet<'_, '_>) -> Option<()> {
    if scope_overhead(out, packet) > 0 {
        frames::write_scope(packet.w, &name_of(out)).ok()?;
        packet.sent.carry(Carried::Scope(out.id));
        out.told = true;
        out.told_in = Some((packet.path, packet.pn));
    }
    Some(())
}

fn name_of(out: &OutScope) -> ScopeFrame {
    ScopeFrame { id: out.id, scope: out.scope, start: out.start }
}

/// A message, or what is left of it, to be cut to the packet at hand.
struct Cut {
    scope: u64,
    seq: u64,
    reliable: bool,
    start: u64,
    total: u64,
}

impl Cut {
    fn head(&self, bytes: &[u8]) -> MessageHead {
        let whole = self.start == 0 && bytes.len() as u64 == self.total;
        let fragment = (!whole).then_some((self.start, self.total));
        MessageHead { scope: self.scope, seq: self.seq, reliable: self.reliable, fragment }
    }

    /// How many of `bytes` go into `room`: all, or as many as the grid of fragments allows, or none.
    fn fit(&self, bytes: &[u8], room: usize, payload: usize) -> Option<usize> {
        let head = self.head(bytes).len();
        let all = head + bytes.len();
        if all == room || all + varint_len(bytes.len() as u64) <= room {
            return Some(bytes.len());
        }
        // An unreliable message in two packets is lost twice as easily: it rather waits for one that takes it whole.
        let fits_next = !self.reliable && self.start == 0 && all + MAX_SCOPE_LEN + 2 <= payload;
        if room < WORTH_CUTTING.min(bytes.len()) || fits_next {
            return None;
        }
        let head = MessageHead {
            scope: self.scope,
            seq: self.seq,
            reliable: self.reliable,
            fragment: Some((self.start, self.total)),
        };
        let data = room.checked_sub(head.len() + 2)?.min(bytes.len());
        let data = data - data % FRAGMENT_UNIT as usize;
        (data > 0).then_some(data)
    }
}
