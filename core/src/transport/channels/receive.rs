//! The receiving half: scopes the peer opened, messages being put together, the gates before them, what is ready.
//!
//! In a reliable scope each message has a place in a queue of slots from the first one that is missing; a slot that has
//! seen nothing yet is paid for as a message of no bytes, since an honest sender has begun everything before what it
//! sends. So credit bounds the slots, the messages and their bytes together. An ordered scope hands on its first message
//! when it is complete, an unordered one any. A message's bytes are paid back when the application takes it, its overhead
//! when its slot has gone, too: messages behind a gap may be taken any number of times, their slots stay.
//!
//! What an unreliable scope hands on stands in a queue of its own, whose oldest give way; in a sequenced one, only what
//! is later than all of its key that went before.
#![deny(clippy::arithmetic_side_effects)]

use super::super::flow::{self, ReceiveCredit};
use super::super::ranges::Ranges;
use super::super::{Delivery, PathId, TransportConfig, Usage, Violation};
use super::MAX_SCOPES;
use super::gates::{Gate, Gates};
use super::pool::Pool;
use super::reassembly::Assembly;
use super::sequence::Latest;
use crate::ids::{GroupId, Reliability};
use crate::time::{Duration, Instant};
use crate::transport::DIRECT;
use crate::wire::frames::{Message, Scope, ScopeFrame};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Stretches of spent scope ids. Ids are given out in order, so that only open scopes lie between two stretches.
const MAX_SPENT: usize = MAX_SCOPES.saturating_add(1);
/// Unreliable messages held before their gate.
const MAX_HELD: usize = 16;
/// Unreliable messages that may be incomplete at once.
const MAX_PARTIAL: usize = 4;
/// Control messages, and their bytes, that may wait. They need no credit, since membership must not starve; the link
/// takes them as they come, so a peer that fills this is no honest one. A sender minds only the bytes, overhead included,
/// of which so many messages take all.
const MAX_CONTROL: u64 = MAX_CONTROL_BYTES / flow::MESSAGE_OVERHEAD;
pub(in crate::transport) const MAX_CONTROL_BYTES: u64 = 1 << 20;

/// A slot of a message of which nothing arrived.
const NOTHING: u32 = u32::MAX;
/// A slot of a message that was handed on, or will not come.
const GONE: u32 = u32::MAX - 1;

#[derive(Debug)]
struct InScope {
    id: u64,
    scope: Scope,
    start: u64,
    /// The first message that is missing; the first slot's.
    next: u64,
    slots: VecDeque<u32>,
    credit: ReceiveCredit,
    /// A limit waits to be told.
    is_due: bool,
    /// The part of what was charged that belongs to bytes of messages that were handed on, and to overheads that were paid back.
    settled: u64,
    /// Messages that were handed on.
    handed: u64,
    /// Those of them that the application took.
    taken: u64,
    /// Messages whose overhead was paid back.
    released: u64,
}

impl InScope {
    fn new(id: u64, scope: Scope, start: u64, credit: ReceiveCredit) -> Self {
        let (slots, next) = (VecDeque::new(), start);
        Self { id, scope, start, next, slots, credit, is_due: false, settled: 0, handed: 0, taken: 0, released: 0 }
    }

    fn is_ordered(&self) -> bool {
        self.scope.reliability().is_ordered()
    }
}

#[derive(Debug)]
struct Ready {
    order: u64,
    id: u64,
    scope: Scope,
    /// Of an unreliable one.
    seq: u64,
    key: Option<u32>,
    bytes: Vec<u8>,
    direct: bool,
}

#[derive(Debug)]
struct Partial {
    id: u64,
    seq: u64,
    assembly: Assembly,
}

/// See the module's text.
#[derive(Debug)]
pub(in crate::transport) struct Incoming {
    /// Ascending by id.
    scopes: Vec<InScope>,
    /// Scopes dropped here whose end has not been told yet: id and what was charged.
    dropped: Vec<(u64, u64)>,
    /// Scopes that are over on both sides.
    spent: Ranges,
    slab: Vec<Assembly>,
    free: Vec<u32>,
    ready: VecDeque<Ready>,
    /// Control messages that are complete; the link's owner takes them apart from the application's.
    control: VecDeque<Ready>,
    loose: VecDeque<Ready>,
    loose_bytes: usize,
    held: VecDeque<Ready>,
    partial: Vec<Partial>,
    order: u64,
    newly_ready: usize,
    gates: Gates,
    latest: Latest,
    pub(in crate::transport) credit: ReceiveCredit,
    /// The link's window is never larger.
    most_credit: u64,
    /// Scopes whose limit waits to be told.
    due: VecDeque<u64>,
    control_waiting: u64,
    control_bytes: u64,
    /// Unreliable messages dropped for want of room.
    pub(in crate::transport) overflowed: u64,
    /// Messages of sequenced scopes that came after a later one, or that a later one took the place of.
    pub(in crate::transport) late: u64,
    pool: Pool,
    max_message: u64,
    max_unreliable: u64,
    loose_limit: (usize, usize),
}

impl Incoming {
    pub(in crate::transport) fn new(config: &TransportConfig) -> Self {
        let max_message = (config.max_message as u64).max(flow::LEAST_MAX_MESSAGE);
        let least = flow::of_link(flow::cost(max_message).saturating_mul(2)).max(flow::INITIAL_CREDIT);
        Self {
            scopes: Vec::new(),
            dropped: Vec::new(),
            spent: Ranges::default(),
            slab: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            control: VecDeque::new(),
            loose: VecDeque::new(),
            loose_bytes: 0,
            held: VecDeque::new(),
            partial: Vec::new(),
            order: 0,
            newly_ready: 0,
            gates: Gates::default(),
            latest: Latest::default(),
            credit: ReceiveCredit::new(flow::INITIAL_CREDIT, least),
            most_credit: flow::of_link(config.receive_credit).max(least),
            due: VecDeque::new(),
            control_waiting: 0,
            control_bytes: 0,
            overflowed: 0,
            late: 0,
            pool: Pool::default(),
            max_message,
            max_unreliable: config.max_unreliable as u64,
            loose_limit: (config.unreliable_messages, config.unreliable_bytes),
        }
    }

    /// The application's next message, in the order in which they became complete.
    pub(in crate::transport) fn next_message(&mut self, payload: &mut Vec<u8>) -> Option<Delivery> {
        let first_loose = match (self.ready.front(), self.loose.front()) {
            (Some(reliable), Some(loose)) => loose.order < reliable.order,
            (None, loose) => loose.is_some(),
            (Some(_), None) => false,
        };
        let message = if first_loose { self.loose.pop_front() } else { self.ready.pop_front() }?;
        payload.clear();
        payload.extend_from_slice(&message.bytes);
        let delivery = Delivery { scope: message.scope, direct: message.direct };
        self.taken(message, first_loose);
        Some(delivery)
    }

    /// The next control message.
    pub(in crate::transport) fn next_control(&mut self, payload: &mut Vec<u8>) -> bool {
        let Some(message) = self.control.pop_front() else { return false };
        payload.clear();
        payload.extend_from_slice(&message.bytes);
        self.taken(message, false);
        true
    }

    pub(in crate::transport) fn take_ready(&mut self) -> usize {
        core::mem::take(&mut self.newly_ready)
    }

    /// A message left its queue: it no longer counts, and its buffer is spare.
    fn taken(&mut self, message: Ready, loose: bool) {
        let len = message.bytes.len();
        if loose {
            self.loose_bytes = self.loose_bytes.saturating_sub(len);
        } else if message.scope == Scope::Control {
            self.control_waiting = self.control_waiting.saturating_sub(1);
            self.control_bytes = self.control_bytes.saturating_sub(flow::cost(len as u64));
        } else if let Ok(at) = self.scopes.binary_search_by_key(&message.id, |s| s.id) {
            if let Some(scope) = self.scopes.get_mut(at) {
                scope.taken = scope.taken.saturating_add(1);
            }
            self.pay_back(at, len as u64);
            self.release_overheads(at);
        } else {
            self.credit.consume(flow::cost(len as u64));
        }
        self.pool.give(message.bytes);
    }

    /// Pays back the overhead of messages that the application took and whose slots have gone.
    fn release_overheads(&mut self, at: usize) {
        let Some(scope) = self.scopes.get_mut(at).filter(|s| s.scope != Scope::Control) else { return };
        let over = scope.taken.min(scope.next.saturating_sub(scope.start));
        let bytes = over.saturating_sub(scope.released).saturating_mul(flow::MESSAGE_OVERHEAD);
        scope.released = over;
        scope.settled = scope.settled.saturating_add(bytes);
        self.pay_back(at, bytes);
    }

    /// Credit of the scope and of the link is free again.
    fn pay_back(&mut self, at: usize, bytes: u64) {
        self.credit.consume(bytes);
        let Some(scope) = self.scopes.get_mut(at) else { return };
        scope.credit.consume(bytes);
        scope.credit.widen(flow::of_scope(self.credit.window()));
        if scope.credit.is_due() && !core::mem::replace(&mut scope.is_due, true) {
            self.due.push_back(scope.id);
        }
    }

    /// Widens the link's window for an application that keeps up.
    pub(in crate::transport) fn tune(&mut self, now: Instant, round_trip: Duration) {
        self.credit.tune(now, round_trip, self.most_credit);
    }

    /// Whether limits are worth a packet.
    pub(in crate::transport) fn has_limits(&self) -> bool {
        self.credit.is_due() || !self.due.is_empty()
    }

    /// A scope's limit that is to be told.
    pub(in crate::transport) fn next_scope_limit(&mut self) -> Option<(u64, u64)> {
        while let Some(id) = self.due.pop_front() {
            if let Ok(at) = self.scopes.binary_search_by_key(&id, |s| s.id)
                && let Some(scope) = self.scopes.get_mut(at)
            {
                scope.is_due = false;
                return Some((id, scope.credit.announce()));
            }
        }
        None
    }

    /// The packet with a scope's limit was lost.
    pub(in crate::transport) fn on_scope_limit_lost(&mut self, id: u64, limit: u64) {
        if let Ok(at) = self.scopes.binary_search_by_key(&id, |s| s.id)
            && let Some(scope) = self.scopes.get_mut(at)
        {
            scope.credit.on_lost(limit);
            if scope.credit.is_due() && !core::mem::replace(&mut scope.is_due, true) {
                self.due.push_back(id);
            }
        }
    }

    /// Messages and what they cost beside their bytes, and the most they may.
    pub(in crate::transport) fn usage(&self) -> Usage {
        let overhead = flow::MESSAGE_OVERHEAD as usize;
        let (count, bytes) =
            (self.loose_limit.0.saturating_add(MAX_HELD).saturating_add(MAX_PARTIAL), self.loose_limit.1);
        let held: usize = self.held.iter().map(|m| m.bytes.len()).sum();
        let partial: usize = self.partial.iter().map(|p| p.assembly.len()).sum();
        let waiting = self.loose.len().saturating_add(self.held.len()).saturating_add(self.partial.len());
        let loose = self.loose_bytes.saturating_add(held).saturating_add(partial);
        let reliable = usize::try_from(self.credit.in_use().saturating_add(self.control_bytes)).unwrap_or(usize::MAX);
        let most = usize::try_from(self.most_credit.saturating_add(MAX_CONTROL_BYTES)).unwrap_or(usize::MAX);
        let unwhole = MAX_HELD.saturating_add(MAX_PARTIAL).saturating_mul(self.max_unreliable as usize);
        Usage {
            used: reliable.saturating_add(loose).saturating_add(waiting.saturating_mul(overhead)),
            budget: most.saturating_add(bytes).saturating_add(unwhole).saturating_add(count.saturating_mul(overhead)),
        }
    }

    /// Of these, what the library's own messages take.
    pub(in crate::transport) fn control_usage(&self) -> Usage {
        let bytes = |of: u64| usize::try_from(of).unwrap_or(usize::MAX);
        Usage { used: bytes(self.control_bytes), budget: bytes(MAX_CONTROL_BYTES) }
    }

    /// Bytes of spare buffers.
    pub(in crate::transport) fn spare(&self) -> Usage {
        self.pool.usage()
    }

    /// Gives spare memory back; that of the queues, too, if no message waits or is incomplete.
    pub(in crate::transport) fn release_spare(&mut self) {
        self.pool = Pool::default();
        let empty = self.free.len() == self.slab.len() && self.ready.is_empty() && self.control.is_empty();
        if !empty || !self.loose.is_empty() || !self.held.is_empty() || !self.partial.is_empty() {
            return;
        }
        (self.slab, self.free, self.partial) = (Vec::new(), Vec::new(), Vec::new());
        (self.ready, self.control, self.loose) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        for scope in self.scopes.iter_mut().filter(|scope| scope.slots.is_empty()) {
            scope.slots = VecDeque::new();
        }
    }

    // Gates

    pub(in crate::transport) fn open_peer(&mut self) {
        self.gates.open_peer();
        self.pass_gates(|scope| matches!(scope, Scope::Peer(_)));
    }

    pub(in crate::transport) fn open_group(&mut self, group: GroupId, epoch: u64) {
        if self.gates.open_group(group, epoch) {
            self.pass_gates(|scope| scope.group().is_some_and(|(g, _)| g == group));
        }
    }

    /// Nothing of the group is handed on any more up to that epoch: not what is ready, not what is held, not what still
    /// comes. What is held for a later epoch stays: it outran the word that opens its gate.
    pub(in crate::transport) fn close_group(&mut self, group: GroupId, over: u64) {
        self.gates.close_group(group, over);
        let is_over = move |scope: &Scope| scope.group().is_some_and(|(g, e)| g == group && e <= over);
        for loose in [false, true] {
            let queue = if loose { &mut self.loose } else { &mut self.ready };
            for _ in 0..queue.len() {
                let queue = if loose { &mut self.loose } else { &mut self.ready };
                match queue.pop_front() {
                    Some(message) if is_over(&message.scope) => self.taken(message, loose),
                    Some(message) => queue.push_back(message),
                    None => {}
                }
            }
        }
        self.held.retain(|message| !is_over(&message.scope));
        let mut at = 0usize;
        while let Some(scope) = self.scopes.get(at) {
            if is_over(&scope.scope) {
                self.drop_scope(at);
            } else {
                at = at.saturating_add(1);
            }
        }
    }

    /// Gates of the scopes that `of` picks may have moved.
    fn pass_gates(&mut self, of: impl Fn(&Scope) -> bool) {
        let mut at = 0usize;
        while let Some(scope) = self.scopes.get(at) {
            let gate = if of(&scope.scope) { self.gates.of(&scope.scope) } else { Gate::Hold };
            match gate {
                Gate::Drop => {
                    self.drop_scope(at);
                    continue;
                }
                Gate::Open => self.hand_on(at),
                Gate::Hold => {}
            }
            at = at.saturating_add(1);
        }
        for _ in 0..self.held.len() {
            let Some(message) = self.held.pop_front() else { break };
            match self.gates.of(&message.scope) {
                Gate::Open => self.push_loose(message),
                Gate::Hold => self.held.push_back(message),
                Gate::Drop => self.pool.give(message.bytes),
            }
        }
    }

    // Scopes

    pub(in crate::transport) fn on_scope(&mut self, frame: &ScopeFrame) -> Result<(), Violation> {
        match self.scopes.binary_search_by_key(&frame.id, |s| s.id) {
            Ok(at) => {
                let known = self.scopes.get(at).map(|s| (s.scope, s.start));
                if known == Some((frame.scope, frame.start)) { Ok(()) } else { Err(Violation::ScopeChanged) }
            }
            Err(_) if self.is_over(frame.id) => Ok(()),
            Err(_) if self.scopes.len().saturating_add(self.dropped.len()) >= MAX_SCOPES => {
                Err(Violation::TooManyScopes)
            }
            Err(at) => {
                if matches!(self.gates.of(&frame.scope), Gate::Drop) {
                    self.dropped.push((frame.id, 0));
                    return Ok(());
                }
                let ScopeFrame { id, scope, start } = *frame;
                let initial = flow::initial_scope_credit(self.max_message);
                let credit = ReceiveCredit::new(initial, flow::of_scope(self.credit.window()));
                self.scopes.insert(at, InScope::new(id, scope, start, credit));
                Ok(())
            }
        }
    }

    /// The sender gave a scope up, having charged `charged` in it in all. What was handed on stays handed on. Control
    /// lasts as long as the link.
    pub(in crate::transport) fn on_scope_end(&mut self, id: u64, charged: u64) -> Result<(), Violation> {
        if self.spent.contains(id) {
            return Ok(());
        }
        if let Ok(at) = self.scopes.binary_search_by_key(&id, |s| s.id) {
            if self.scopes.get(at).is_some_and(|s| s.scope == Scope::Control) {
                return Err(Violation::ScopeChanged);
            }
            self.drop_scope(at);
        }
        let known = self.dropped.iter().position(|d| d.0 == id).map_or(0, |at| self.dropped.swap_remove(at).1);
        let unseen = charged.checked_sub(known).ok_or(Violation::ScopeChanged)?;
        self.credit.charge(unseen).map_err(|_| Violation::Credit)?;
        self.credit.consume(unseen);
        self.spent.insert(id, id.saturating_add(1));
        if self.spent.len() > MAX_SPENT { Err(Violation::TooManyScopes) } else { Ok(()) }
    }

    fn is_over(&self, id: u64) -> bool {
        self.spent.contains(id) || self.dropped.iter().any(|d| d.0 == id)
    }

    /// Forgets a scope (never the control scope) but for its id; whatever was not handed on is given back.
    fn drop_scope(&mut self, at: usize) {
        if at >= self.scopes.len() {
            return;
        }
        let scope = self.scopes.remove(at);
        for slot in scope.slots {
            self.release(slot);
        }
        self.partial.retain(|p| p.id != scope.id);
        self.held.retain(|message| message.id != scope.id);
        self.latest.forget(scope.id);
        self.due.retain(|&id| id != scope.id);
        let charged = scope.credit.charged();
        // Those that wait for the application pay their overhead back when it takes them.
        let waiting = scope.handed.saturating_sub(scope.taken).saturating_mul(flow::MESSAGE_OVERHEAD);
        self.credit.consume(charged.saturating_sub(scope.settled).saturating_sub(waiting));
        self.dropped.push((scope.id, charged));
    }

    // Messages

    pub(in crate::transport) fn on_message(&mut self, path: PathId, frame: &Message<'_>) -> Result<(), Violation> {
        let Some(at) = self.place_of(frame.head.scope)? else { return Ok(()) };
        let Some(scope) = self.scopes.get(at).map(|s| s.scope) else { return Err(Violation::UnknownScope) };
        if scope.is_reliable() != frame.head.reliable {
            return Err(Violation::ScopeChanged);
        }
        if frame.head.reliable { self.on_reliable(at, path, frame) } else { self.on_unreliable(scope, path, frame) }
    }

    /// Where a scope stands that a frame names; none if it is over.
    fn place_of(&self, id: u64) -> Result<Option<usize>, Violation> {
        match self.scopes.binary_search_by_key(&id, |s| s.id) {
            Ok(at) => Ok(Some(at)),
            Err(_) if self.is_over(id) => Ok(None),
            Err(_) => Err(Violation::UnknownScope),
        }
    }

    fn on_reliable(&mut self, at: usize, path: PathId, frame: &Message<'_>) -> Result<(), Violation> {
        let (offset, total) = frame.head.fragment.unwrap_or((0, frame.data.len() as u64));
        let Some((place, slot)) = self.slot(at, frame.head.seq, total)? else { return Ok(()) };
        let Some(name) = self.scopes.get(at).map(|s| s.scope) else { return Ok(()) };
        let slot = match slot {
            GONE => return Ok(()),
            NOTHING => {
                self.charge(at, name, 0, total)?;
                let slot = self.begin(total);
                self.set_slot(at, place, slot);
                slot
            }
            slot => slot,
        };
        let Some(assembly) = self.slab.get_mut(slot as usize) else { return Ok(()) };
        if assembly.total != total {
            return Err(Violation::Fragment);
        }
        assembly.insert(offset, frame.data);
        if assembly.complete && matches!(self.gates.of(&name), Gate::Open) {
            if !name.reliability().is_ordered() {
                self.hand_on_one(at, place, path == DIRECT);
            }
            if place == 0 {
                self.hand_on_first(at, path == DIRECT);
            }
        }
        Ok(())
    }

    /// A reliable message will not come.
    pub(in crate::transport) fn on_skip(&mut self, id: u64, seq: u64, total: u64) -> Result<(), Violation> {
        let Some(at) = self.place_of(id)? else { return Ok(()) };
        let Some(name) = self.scopes.get(at).map(|s| s.scope) else { return Ok(()) };
        if !name.is_reliable() || name == Scope::Control {
            return Err(Violation::ScopeChanged);
        }
        let Some((place, slot)) = self.slot(at, seq, total)? else { return Ok(()) };
        match slot {
            GONE => return Ok(()),
            NOTHING => self.charge(at, name, 0, total)?,
            slot if self.slab.get(slot as usize).is_some_and(|a| a.total != total) => return Err(Violation::Fragment),
            slot => self.release(slot),
        }
        self.set_slot(at, place, GONE);
        if let Some(scope) = self.scopes.get_mut(at) {
            scope.settled = scope.settled.saturating_add(total);
            scope.handed = scope.handed.saturating_add(1);
            scope.taken = scope.taken.saturating_add(1);
        }
        self.pay_back(at, total);
        if place == 0 {
            self.hand_on_first(at, false);
        }
        Ok(())
    }

    /// The place of a reliable message of that length among its scope's slots, and what stands there; none if it was
    /// handed on. What it and those before it that are not known yet take at least is charged.
    fn slot(&mut self, at: usize, seq: u64, total: u64) -> Result<Option<(usize, u32)>, Violation> {
        if total > self.max_message {
            return Err(Violation::TooLarge);
        }
        let Some(scope) = self.scopes.get(at) else { return Ok(None) };
        let (name, next, known) = (scope.scope, scope.next, scope.slots.len() as u64);
        if seq < scope.start {
            return Err(Violation::Sequence);
        }
        let Some(ahead) = seq.checked_sub(next) else { return Ok(None) };
        // Everything up to this message has been begun by an honest sender, so each costs at least its overhead.
        let unseen = ahead.saturating_add(1).saturating_sub(known);
        self.charge(at, name, unseen, unseen.checked_mul(flow::MESSAGE_OVERHEAD).ok_or(Violation::Credit)?)?;
        let Ok(place) = usize::try_from(ahead) else { return Err(Violation::Credit) };
        let Some(scope) = self.scopes.get_mut(at) else { return Ok(None) };
        while scope.slots.len() <= place {
            scope.slots.push_back(NOTHING);
        }
        Ok(scope.slots.get(place).map(|&slot| (place, slot)))
    }

    fn set_slot(&mut self, at: usize, place: usize, slot: u32) {
        if let Some(place) = self.scopes.get_mut(at).and_then(|s| s.slots.get_mut(place)) {
            *place = slot;
        }
    }

    fn on_unreliable(&mut self, scope: Scope, path: PathId, frame: &Message<'_>) -> Result<(), Violation> {
        let total = frame.head.fragment.map_or(frame.data.len() as u64, |(_, total)| total);
        if total > self.max_unreliable {
            return Err(Violation::TooLarge);
        }
        let bytes = match frame.head.fragment {
            None => self.pool.copy(frame.data),
            Some((offset, total)) => match self.on_unreliable_part(frame, offset, total)? {
                Some(bytes) => bytes,
                None => return Ok(()),
            },
        };
        let (id, seq, key) = (frame.head.scope, frame.head.seq, frame.head.key);
        let message = Ready { order: 0, id, scope, seq, key, bytes, direct: path == DIRECT };
        match self.gates.of(&scope) {
            Gate::Open => self.push_loose(message),
            Gate::Drop => self.pool.give(message.bytes),
            Gate::Hold => {
                self.held.push_back(message);
                if self.held.len() > MAX_HELD {
                    self.overflowed = self.overflowed.saturating_add(1);
                    if let Some(oldest) = self.held.pop_front() {
                        self.pool.give(oldest.bytes);
                    }
                }
            }
        }
        Ok(())
    }

    fn on_unreliable_part(
        &mut self,
        frame: &Message<'_>,
        offset: u64,
        total: u64,
    ) -> Result<Option<Vec<u8>>, Violation> {
        let (id, seq) = (frame.head.scope, frame.head.seq);
        let at = match self.partial.iter().position(|p| p.id == id && p.seq == seq) {
            Some(at) => at,
            None => {
                if self.partial.len() >= MAX_PARTIAL {
                    let mut oldest = self.partial.remove(0);
                    self.overflowed = self.overflowed.saturating_add(1);
                    self.pool.give(oldest.assembly.take());
                }
                let mut assembly = Assembly::default();
                assembly.begin(total, self.pool.take());
                self.partial.push(Partial { id, seq, assembly });
                self.partial.len().saturating_sub(1)
            }
        };
        let Some(partial) = self.partial.get_mut(at) else { return Ok(None) };
        if partial.assembly.total != total {
            return Err(Violation::Fragment);
        }
        partial.assembly.insert(offset, frame.data);
        if !partial.assembly.complete {
            return Ok(None);
        }
        Ok(Some(self.partial.remove(at).assembly.take()))
    }

    fn push_loose(&mut self, mut message: Ready) {
        let sequenced = message.scope.reliability() == Reliability::UnreliableSequenced;
        if sequenced && !self.latest.pass(message.id, message.key, message.seq) {
            self.late = self.late.saturating_add(1);
            return self.pool.give(message.bytes);
        }
        self.loose_bytes = self.loose_bytes.saturating_add(message.bytes.len());
        let (id, key) = (message.id, message.key);
        let older = |m: &&mut Ready| sequenced && key.is_some() && (m.id, m.key) == (id, key);
        if let Some(older) = self.loose.iter_mut().find(older) {
            // In its place, so that what is replaced over and over is not put off for ever.
            message.order = older.order;
            let bytes = core::mem::replace(older, message).bytes;
            self.loose_bytes = self.loose_bytes.saturating_sub(bytes.len());
            self.late = self.late.saturating_add(1);
            self.pool.give(bytes);
        } else {
            message.order = self.next_order();
            self.loose.push_back(message);
            self.newly_ready = self.newly_ready.saturating_add(1);
        }
        let (messages, bytes) = self.loose_limit;
        while self.loose.len() > messages || self.loose_bytes > bytes {
            let Some(oldest) = self.loose.pop_front() else { break };
            self.overflowed = self.overflowed.saturating_add(1);
            self.taken(oldest, true);
        }
    }

    /// Hands on whatever a scope's kind allows; its gate is open.
    fn hand_on(&mut self, at: usize) {
        let unordered = self.scopes.get(at).filter(|s| s.scope.is_reliable() && !s.is_ordered());
        for place in 0..unordered.map_or(0, |s| s.slots.len()) {
            self.hand_on_one(at, place, false);
        }
        self.hand_on_first(at, false);
    }

    /// Lets go of the slots up to the first message that is missing; in an ordered scope whose gate is open, that hands
    /// on what is complete.
    fn hand_on_first(&mut self, at: usize, direct: bool) {
        let Some(scope) = self.scopes.get(at) else { return };
        let hands = scope.is_ordered() && matches!(self.gates.of(&scope.scope), Gate::Open);
        while let Some(scope) = self.scopes.get_mut(at) {
            if scope.slots.front() == Some(&GONE) {
                scope.slots.pop_front();
                scope.next = scope.next.saturating_add(1);
            } else if !hands || !self.hand_on_one(at, 0, direct) {
                break;
            }
        }
        self.release_overheads(at);
    }

    /// Hands on one message if it is complete.
    fn hand_on_one(&mut self, at: usize, place: usize, direct: bool) -> bool {
        let Some(scope) = self.scopes.get_mut(at) else { return false };
        let Some(&slot) = scope.slots.get(place) else { return false };
        let Some(assembly) = self.slab.get_mut(slot as usize).filter(|a| a.complete) else { return false };
        scope.settled = scope.settled.saturating_add(assembly.total);
        scope.handed = scope.handed.saturating_add(1);
        let (id, name, bytes) = (scope.id, scope.scope, assembly.take());
        self.release(slot);
        self.set_slot(at, place, GONE);
        let order = self.next_order();
        let message = Ready { order, id, scope: name, seq: 0, key: None, bytes, direct };
        if name == Scope::Control {
            self.control.push_back(message);
        } else {
            self.ready.push_back(message);
            self.newly_ready = self.newly_ready.saturating_add(1);
        }
        true
    }

    fn next_order(&mut self) -> u64 {
        self.order = self.order.wrapping_add(1);
        self.order
    }

    fn begin(&mut self, total: u64) -> u32 {
        let buffer = self.pool.take();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slab.push(Assembly::default());
            // Credit and the bound on control messages keep the slab far below 2^32.
            (self.slab.len() as u32).wrapping_sub(1)
        });
        if let Some(assembly) = self.slab.get_mut(slot as usize) {
            assembly.begin(total, buffer);
        }
        slot
    }

    fn release(&mut self, slot: u32) {
        if let Some(assembly) = self.slab.get_mut(slot as usize) {
            self.pool.give(assembly.take());
            assembly.complete = false;
            self.free.push(slot);
        }
    }

    /// Takes `bytes` of credit for `messages` that begin, or counts them if they are control messages.
    fn charge(&mut self, at: usize, scope: Scope, messages: u64, bytes: u64) -> Result<(), Violation> {
        if scope == Scope::Control {
            let count = self.control_waiting.checked_add(messages).filter(|&n| n <= MAX_CONTROL);
            self.control_waiting = count.ok_or(Violation::Control)?;
            let sum = self.control_bytes.checked_add(bytes).filter(|&n| n <= MAX_CONTROL_BYTES);
            self.control_bytes = sum.ok_or(Violation::Control)?;
        } else {
            self.credit.charge(bytes).map_err(|_| Violation::Credit)?;
            let own = self.scopes.get_mut(at).map_or(Ok(()), |scope| scope.credit.charge(bytes));
            own.map_err(|_| Violation::Credit)?;
        }
        Ok(())
    }
}
