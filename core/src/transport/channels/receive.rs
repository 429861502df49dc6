//! The receiving half: scopes the peer opened, messages being put together, the gates before them, what is ready.
//!
//! In a reliable scope each message has a place in a queue of slots from the next one to be handed on; a slot that has
//! seen nothing yet is paid for as a message of no bytes, since an honest sender has begun everything before what it
//! sends. So credit bounds the slots, the messages and their bytes together.
//!
//! Gates decide what becomes of complete messages: handed on, held until the gate opens, or dropped.
#![deny(clippy::arithmetic_side_effects)]

use super::super::flow::{self, ReceiveCredit};
use super::super::ranges::Ranges;
use super::super::{Delivery, PathId, TransportConfig, Violation};
use super::pool::Pool;
use super::reassembly::Assembly;
use crate::ids::GroupId;
use crate::transport::DIRECT;
use crate::wire::frames::{Message, Scope, ScopeFrame};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Scopes of the peer that may be open or wait for their end. A pair has a handful a group.
const MAX_SCOPES: usize = 4096;
/// Stretches of spent scope ids. Ids are given out in order, so that only open scopes lie between two stretches.
const MAX_SPENT: usize = MAX_SCOPES.saturating_add(1);
/// Closed groups that are remembered, so that what still comes of them is dropped and not held.
const MAX_SHUT: usize = 1024;
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

#[derive(Debug)]
struct InScope {
    id: u64,
    scope: Scope,
    start: u64,
    /// The next message to hand on; the first slot's.
    next: u64,
    slots: VecDeque<u32>,
    /// Credit taken in this scope in all.
    charged: u64,
    /// The part of it that belongs to messages that were handed on.
    handed: u64,
}

#[derive(Debug)]
struct Ready {
    order: u64,
    scope: Scope,
    bytes: Vec<u8>,
    direct: bool,
}

#[derive(Debug)]
struct Partial {
    id: u64,
    seq: u64,
    assembly: Assembly,
}

enum Gate {
    Open,
    Hold,
    Drop,
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
    peer_open: bool,
    open: BTreeMap<GroupId, u64>,
    shut: VecDeque<(GroupId, u64)>,
    pub(in crate::transport) credit: ReceiveCredit,
    control_waiting: u64,
    control_bytes: u64,
    /// Unreliable messages dropped for want of room.
    pub(in crate::transport) overflowed: u64,
    pool: Pool,
    max_message: u64,
    max_unreliable: u64,
    loose_limit: (usize, usize),
}

impl Incoming {
    pub(in crate::transport) fn new(config: &TransportConfig) -> Self {
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
            peer_open: false,
            open: BTreeMap::new(),
            shut: VecDeque::new(),
            credit: ReceiveCredit::new(config.receive_credit),
            control_waiting: 0,
            control_bytes: 0,
            overflowed: 0,
            pool: Pool::default(),
            max_message: config.max_message as u64,
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
        } else {
            self.uncharge(message.scope, flow::cost(len as u64));
        }
        self.pool.give(message.bytes);
    }

    // Gates

    pub(in crate::transport) fn open_peer(&mut self) {
        self.peer_open = true;
        self.pass_gates(|scope| matches!(scope, Scope::Peer(_)));
    }

    pub(in crate::transport) fn open_group(&mut self, group: GroupId, epoch: u64) {
        let known = self.open.get(&group).copied();
        if known.is_none_or(|known| known < epoch) {
            self.open.insert(group, epoch);
            self.pass_gates(|scope| scope.group().is_some_and(|(g, _)| g == group));
        }
    }

    /// Nothing of the group is handed on any more up to that epoch: not what is ready, not what is held, not what still
    /// comes. What is held for a later epoch stays: it outran the word that opens its gate.
    pub(in crate::transport) fn close_group(&mut self, group: GroupId, over: u64) {
        if self.open.get(&group).is_some_and(|&open| open <= over) {
            self.open.remove(&group);
        }
        self.shut.retain(|&(g, _)| g != group);
        if self.shut.len() >= MAX_SHUT {
            self.shut.pop_front();
        }
        self.shut.push_back((group, over));
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

    fn gate(&self, scope: &Scope) -> Gate {
        let Scope::Group(group, epoch, _) = scope else {
            let open = self.peer_open || *scope == Scope::Control;
            return if open { Gate::Open } else { Gate::Hold };
        };
        match self.open.get(group) {
            Some(open) if open == epoch => Gate::Open,
            Some(open) if open > epoch => Gate::Drop,
            Some(_) => Gate::Hold,
            None if self.shut.iter().any(|(g, e)| g == group && e >= epoch) => Gate::Drop,
            None => Gate::Hold,
        }
    }

    /// Gates of the scopes that `of` picks may have moved.
    fn pass_gates(&mut self, of: impl Fn(&Scope) -> bool) {
        let mut at = 0usize;
        while let Some(scope) = self.scopes.get(at) {
            let gate = if of(&scope.scope) { self.gate(&scope.scope) } else { Gate::Hold };
            match gate {
                Gate::Drop => {
                    self.drop_scope(at);
                    continue;
                }
                Gate::Open => self.hand_on(at, false),
                Gate::Hold => {}
            }
            at = at.saturating_add(1);
        }
        for _ in 0..self.held.len() {
            let Some(message) = self.held.pop_front() else { break };
            match self.gate(&message.scope) {
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
                if matches!(self.gate(&frame.scope), Gate::Drop) {
                    self.dropped.push((frame.id, 0));
                    return Ok(());
                }
                let ScopeFrame { id, scope, start } = *frame;
                let slots = VecDeque::new();
                self.scopes.insert(at, InScope { id, scope, start, next: start, slots, charged: 0, handed: 0 });
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
        self.credit.consume(scope.charged.saturating_sub(scope.handed));
        self.dropped.push((scope.id, scope.charged));
    }

    // Messages

    pub(in crate::transport) fn on_message(&mut self, path: PathId, frame: &Message<'_>) -> Result<(), Violation> {
        let at = match self.scopes.binary_search_by_key(&frame.head.scope, |s| s.id) {
            Ok(at) => at,
            Err(_) if self.is_over(frame.head.scope) => return Ok(()),
            Err(_) => return Err(Violation::UnknownScope),
        };
        let Some(scope) = self.scopes.get(at).map(|s| s.scope) else { return Err(Violation::UnknownScope) };
        if scope.is_reliable() != frame.head.reliable {
            return Err(Violation::ScopeChanged);
        }
        if frame.head.reliable { self.on_reliable(at, path, frame) } else { self.on_unreliable(scope, path, frame) }
    }

    fn on_reliable(&mut self, at: usize, path: PathId, frame: &Message<'_>) -> Result<(), Violation> {
        let (offset, total) = frame.head.fragment.unwrap_or((0, frame.data.len() as u64));
        if total > self.max_message {
            return Err(Violation::TooLarge);
        }
        let Some(scope) = self.scopes.get(at) else { return Ok(()) };
        let (name, next, known) = (scope.scope, scope.next, scope.slots.len() as u64);
        if frame.head.seq < scope.start {
            return Err(Violation::Sequence);
        }
        let Some(ahead) = frame.head.seq.checked_sub(next) else { return Ok(()) };
        // Everything up to this message has been begun by an honest sender, so each costs at least its overhead.
        let unseen = ahead.saturating_add(1).saturating_sub(known);
        self.charge(at, name, unseen, unseen.checked_mul(flow::MESSAGE_OVERHEAD).ok_or(Violation::Credit)?)?;
        let Ok(place) = usize::try_from(ahead) else { return Err(Violation::Credit) };
        if let Some(scope) = self.scopes.get_mut(at) {
            while scope.slots.len() <= place {
                scope.slots.push_back(NOTHING);
            }
        }
        let mut slot = self.scopes.get(at).and_then(|s| s.slots.get(place)).copied().unwrap_or(NOTHING);
        if slot == NOTHING {
            self.charge(at, name, 0, total)?;
            slot = self.begin(total);
            if let Some(place) = self.scopes.get_mut(at).and_then(|s| s.slots.get_mut(place)) {
                *place = slot;
            }
        }
        let Some(assembly) = self.slab.get_mut(slot as usize) else { return Ok(()) };
        if assembly.total != total {
            return Err(Violation::Fragment);
        }
        assembly.insert(offset, frame.data);
        if assembly.complete && ahead == 0 && matches!(self.gate(&name), Gate::Open) {
            self.hand_on(at, path == DIRECT);
        }
        Ok(())
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
        let message = Ready { order: 0, scope, bytes, direct: path == DIRECT };
        match self.gate(&scope) {
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
        message.order = self.next_order();
        self.loose_bytes = self.loose_bytes.saturating_add(message.bytes.len());
        self.loose.push_back(message);
        self.newly_ready = self.newly_ready.saturating_add(1);
        let (messages, bytes) = self.loose_limit;
        while self.loose.len() > messages || self.loose_bytes > bytes {
            let Some(oldest) = self.loose.pop_front() else { break };
            self.overflowed = self.overflowed.saturating_add(1);
            self.taken(oldest, true);
        }
    }

    /// Hands on what is complete from the scope's next message on; its gate is open.
    fn hand_on(&mut self, at: usize, direct: bool) {
        while let Some(scope) = self.scopes.get_mut(at) {
            let Some(&slot) = scope.slots.front() else { break };
            let Some(assembly) = self.slab.get_mut(slot as usize).filter(|a| a.complete) else { break };
            scope.slots.pop_front();
            scope.next = scope.next.saturating_add(1);
            scope.handed = scope.handed.saturating_add(flow::cost(assembly.total));
            let (name, bytes) = (scope.scope, assembly.take());
            self.release(slot);
            let order = self.next_order();
            let message = Ready { order, scope: name, bytes, direct };
            if name == Scope::Control {
                self.control.push_back(message);
            } else {
                self.ready.push_back(message);
                self.newly_ready = self.newly_ready.saturating_add(1);
            }
        }
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
        }
        if let Some(scope) = self.scopes.get_mut(at) {
            scope.charged = scope.charged.saturating_add(bytes);
        }
        Ok(())
    }

    fn uncharge(&mut self, scope: Scope, bytes: u64) {
        if scope == Scope::Control {
            self.control_waiting = self.control_waiting.saturating_sub(1);
            self.control_bytes = self.control_bytes.saturating_sub(bytes);
        } else {
            self.credit.consume(bytes);
        }
    }
}
