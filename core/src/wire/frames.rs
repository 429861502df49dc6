//! Frames: what the body of a short packet is made of. Read without copying, written into lent memory.
//!
//! A body is frames back to back, each led by one type byte; PADDING fills. Numbers are variable-length integers
//! ([`super::buf`]) unless a width is given:
//!
//! | Type | Frame | Fields |
//! |---|---|---|
//! | 0x00 | PADDING | |
//! | 0x01 | PING | |
//! | 0x02, 0x03 | ACK | path u8, largest, delay µs, range count, first range, (gap, length)*; 0x03 also ECT(0), ECT(1), CE counts (RFC 9000 §19.3) |
//! | 0x04 | SCOPE | id, kind u8, \[channel u8\], \[group u64, epoch u64\], start sequence |
//! | 0x05 | SCOPE_END | id, credit charged in that scope in all |
//! | 0x06 | SKIP | scope id, sequence, length or 0 |
//! | 0x08–0x0f, 0x1a–0x1f | MESSAGE | scope id, sequence, \[key\], \[offset, total\], \[length\], bytes |
//! | 0x10 | CREDIT | limit in bytes, cumulative |
//! | 0x11 | SCOPE_CREDIT | scope id, limit in bytes, cumulative |
//! | 0x12, 0x13 | PATH_CHALLENGE, PATH_RESPONSE | token u64 |
//! | 0x14 | KEY_SHARE | 32 bytes |
//! | 0x15 | MAX_MESSAGE | bytes |
//! | 0x16 | CLOSE | reason u8 |
//! | 0x17 | OBSERVE | search u32, socket u16 |
//! | 0x20 | KNOCK | door u8 |
//! | 0x21 | ASK_TIME | number u32 |
//! | 0x22 | TIME | number u32, clock u64 ns |
//! | 0x23 | LEG | leg u8: 0 UDP, 1 TCP |
//!
//! The bits of MESSAGE: 1 = a fragment (offset and total present), 2 = unreliable, 4 = to the packet's end (no length),
//! 16 = with a key, of 32 bits, which only an unreliable one has. Fragments lie on a grid of [`FRAGMENT_UNIT`]: offset and length are multiples of it, except that the last
//! one ends where the message ends. However often ranges are cut anew, holes then never get smaller than the grid, so
//! that what a receiver must remember a message is bounded by the message's size.
//!
//! SKIP says that a reliable message will not come: a newer one took its place. Its length counts against credit as if it
//! had begun, and is 0 if nothing of it was ever sent.
//!
//! SCOPE_END plays the part of a final size (RFC 9000 §4.5): whoever abandons a scope with messages under way says how
//! much credit they took, or both ends would disagree about it from then on.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::buf::{Malformed, NoRoom, Reader, Writer, varint_len};
use crate::ids::{Channel, GroupId, Reliability};
use crate::leg::Leg;
use thiserror::Error;

/// Bytes that fragments are aligned to. Small enough that a packet wastes little, large enough that the ranges a
/// receiver keeps (16 bytes each, at most one every other unit) stay a quarter of the message.
pub(crate) const FRAGMENT_UNIT: u64 = 32;

/// Ranges in an ACK frame beyond which it is malformed: a sender keeps no more, so it tells no more.
pub(crate) const MAX_ACK_RANGES: u64 = 64;

const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const ACK: u8 = 0x02;
const ACK_ECN: u8 = 0x03;
const SCOPE: u8 = 0x04;
const SCOPE_END: u8 = 0x05;
const SKIP: u8 = 0x06;
const MESSAGE: u8 = 0x08;
const MESSAGE_LAST: u8 = 0x0f;
const KEYED: u8 = MESSAGE | KEY_BIT;
const KEYED_LAST: u8 = MESSAGE_LAST | KEY_BIT;
const CREDIT: u8 = 0x10;
const SCOPE_CREDIT: u8 = 0x11;
const PATH_CHALLENGE: u8 = 0x12;
const PATH_RESPONSE: u8 = 0x13;
const KEY_SHARE: u8 = 0x14;
const MAX_MESSAGE: u8 = 0x15;
const CLOSE: u8 = 0x16;
const OBSERVE: u8 = 0x17;
const KNOCK: u8 = 0x20;
const ASK_TIME: u8 = 0x21;
const TIME: u8 = 0x22;
const LEG: u8 = 0x23;

const FRAGMENT_BIT: u8 = 1;
const UNRELIABLE_BIT: u8 = 2;
const TO_END_BIT: u8 = 4;
const KEY_BIT: u8 = 16;

const KIND_CONTROL: u8 = 0;
const KIND_PEER: u8 = 1;
const KIND_GROUP: u8 = 2;

/// What messages are in order within: the sender is implied by the link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Scope {
    /// The link's own control messages: reliable and ordered.
    Control,
    /// Sends to the peer at the other end.
    Peer(Channel),
    /// Sends to a group both ends are members of, since the given epoch.
    Group(GroupId, u64, Channel),
}

impl Scope {
    pub(crate) const fn reliability(&self) -> Reliability {
        match self {
            Self::Control => Reliability::ReliableOrdered,
            Self::Peer(channel) | Self::Group(_, _, channel) => channel.reliability(),
        }
    }

    pub(crate) const fn is_reliable(&self) -> bool {
        self.reliability().is_reliable()
    }

    pub(crate) const fn channel(&self) -> Option<Channel> {
        match self {
            Self::Control => None,
            Self::Peer(channel) | Self::Group(_, _, channel) => Some(*channel),
        }
    }

    /// The group and epoch of a group's scope.
    pub(crate) const fn group(&self) -> Option<(GroupId, u64)> {
        match self {
            Self::Group(group, epoch, _) => Some((*group, *epoch)),
            _ => None,
        }
    }
}

/// Why a body could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(crate) enum FrameError {
    /// A frame is not what it claims to be.
    #[error("frame malformed: {0}")]
    Malformed(#[from] Malformed),
    /// A type that nobody defined.
    #[error("frame of unknown type {0:#04x}")]
    Unknown(u8),
}

/// One frame; PADDING is skipped.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Frame<'a> {
    Ping,
    Ack(Ack<'a>),
    Scope(ScopeFrame),
    ScopeEnd { id: u64, charged: u64 },
    Skip { scope: u64, seq: u64, total: u64 },
    Message(Message<'a>),
    Credit(u64),
    ScopeCredit { scope: u64, limit: u64 },
    MaxMessage(u64),
    Challenge(u64),
    Response(u64),
    KeyShare([u8; 32]),
    Close(u8),
    Observe(Observe),
    Knock(u8),
    AskTime(u32),
    Time { number: u32, clock: u64 },
    Leg(Leg),
}

/// A client asks the server to look at where this packet comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Observe {
    /// The search that it is for; 0 for what the server's doors see.
    pub(crate) search: u32,
    /// Which of the sockets of that search it leaves by.
    pub(crate) socket: u16,
}

impl Frame<'_> {
    /// Whether a packet with this frame asks for an acknowledgement. Path probes do not: their answer is their own.
    pub(crate) const fn is_ack_eliciting(&self) -> bool {
        let probe = matches!(self, Self::Challenge(_) | Self::Response(_) | Self::Observe(_) | Self::Knock(_));
        !(probe || matches!(self, Self::Ack(_) | Self::Close(_) | Self::Time { .. }))
    }
}

/// The name of a scope for the rest of its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScopeFrame {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    /// Sequence number of the first message.
    pub(crate) start: u64,
}

/// A message or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) head: MessageHead,
    pub(crate) data: &'a [u8],
}

/// What stands before a message's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MessageHead {
    pub(crate) scope: u64,
    pub(crate) seq: u64,
    pub(crate) reliable: bool,
    /// Of an unreliable one: the thing whose state it tells.
    pub(crate) key: Option<u32>,
    /// Offset of these bytes and length of the whole message; `None` when they are the whole message.
    pub(crate) fragment: Option<(u64, u64)>,
}

impl MessageHead {
    /// Bytes before the length field, or before the data where there is none.
    pub(crate) fn len(&self) -> usize {
        let key = self.key.map_or(0, |key| varint_len(key.into()));
        let fragment = self.fragment.map_or(0, |(offset, total)| varint_len(offset).saturating_add(varint_len(total)));
        let name = varint_len(self.scope).saturating_add(varint_len(self.seq)).saturating_add(key);
        1usize.saturating_add(name).saturating_add(fragment)
    }
}

/// Counts of marks, as RFC 9000 §19.3.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct EcnCounts {
    pub(crate) ect0: u64,
    pub(crate) ect1: u64,
    pub(crate) ce: u64,
}

/// Which packets of a path arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack<'a> {
    pub(crate) path: u8,
    pub(crate) largest: u64,
    /// Time from the arrival of the largest to this frame, µs.
    pub(crate) delay: u64,
    pub(crate) ecn: Option<EcnCounts>,
    first: u64,
    count: u64,
    rest: Reader<'a>,
}

impl PartialEq for Ack<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.path, self.largest, self.delay, self.ecn) == (other.path, other.largest, other.delay, other.ecn)
            && self.ranges().eq(other.ranges())
    }
}

impl<'a> Ack<'a> {
    /// First and last number of each range, from the largest down. Checked when the frame was read.
    pub(crate) fn ranges(&self) -> AckRanges<'a> {
        AckRanges {
            next: self.largest.checked_sub(self.first).map(|start| (start, self.largest)),
            left: self.count,
            rest: self.rest,
        }
    }

    fn read(r: &mut Reader<'a>, with_ecn: bool) -> Result<Self, Malformed> {
        let path = r.u8()?;
        let largest = r.varint()?;
        let delay = r.varint()?;
        let count = r.varint()?;
        if count >= MAX_ACK_RANGES {
            return Err(Malformed::Value);
        }
        let first = r.varint()?;
        let rest = *r;
        let mut start = largest.checked_sub(first).ok_or(Malformed::Value)?;
        for _ in 0..count {
            (start, _) = next_range(start, r)?;
        }
        let ecn = match with_ecn {
            true => Some(EcnCounts { ect0: r.varint()?, ect1: r.varint()?, ce: r.varint()? }),
            false => None,
        };
        Ok(Self { path, largest, delay, ecn, first, count, rest })
    }
}

/// See [`Ack::ranges`].
#[derive(Clone, Debug)]
pub(crate) struct AckRanges<'a> {
    next: Option<(u64, u64)>,
    left: u64,
    rest: Reader<'a>,
}

impl Iterator for AckRanges<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let current = self.next.take()?;
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            self.next = next_range(current.0, &mut self.rest).ok();
        }
        Some(current)
    }
}

/// The range below the one that starts at `start`: RFC 9000 §19.3.1.
fn next_range(start: u64, r: &mut Reader<'_>) -> Result<(u64, u64), Malformed> {
    let gap = r.varint()?;
    let length = r.varint()?;
    let end = start.checked_sub(gap).and_then(|n| n.checked_sub(2)).ok_or(Malformed::Value)?;
    Ok((end.checked_sub(length).ok_or(Malformed::Value)?, end))
}

/// Reads the frames of a body, front to back. After an error it ends.
pub(crate) struct Frames<'a> {
    rest: Reader<'a>,
}

impl<'a> Frames<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self { rest: Reader::new(body) }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let kind = self.rest.u8().ok()?;
            if kind == PADDING {
                continue;
            }
            let frame = read(kind, &mut self.rest);
            if frame.is_err() {
                self.rest = Reader::new(&[]);
            }
            return Some(frame);
        }
    }
}

fn read<'a>(kind: u8, r: &mut Reader<'a>) -> Result<Frame<'a>, FrameError> {
    Ok(match kind {
        PING => Frame::Ping,
        ACK => Frame::Ack(Ack::read(r, false)?),
        ACK_ECN => Frame::Ack(Ack::read(r, true)?),
        SCOPE => Frame::Scope(read_scope(r)?),
        SCOPE_END => Frame::ScopeEnd { id: r.varint()?, charged: r.varint()? },
        SKIP => Frame::Skip { scope: r.varint()?, seq: r.varint()?, total: r.varint()? },
        MESSAGE..=MESSAGE_LAST | KEYED..=KEYED_LAST => Frame::Message(read_message(kind, r)?),
        CREDIT => Frame::Credit(r.varint()?),
        SCOPE_CREDIT => Frame::ScopeCredit { scope: r.varint()?, limit: r.varint()? },
        MAX_MESSAGE => Frame::MaxMessage(r.varint()?),
        PATH_CHALLENGE => Frame::Challenge(r.u64()?),
        PATH_RESPONSE => Frame::Response(r.u64()?),
        KEY_SHARE => Frame::KeyShare(r.array()?),
        CLOSE => Frame::Close(r.u8()?),
        OBSERVE => Frame::Observe(Observe { search: r.u32()?, socket: r.u16()? }),
        KNOCK => Frame::Knock(r.u8()?),
        ASK_TIME => Frame::AskTime(r.u32()?),
        TIME => Frame::Time { number: r.u32()?, clock: r.u64()? },
        LEG => Frame::Leg(match r.u8()? {
            0 => Leg::Udp,
            1 => Leg::Tcp,
            _ => return Err(Malformed::Value.into()),
        }),
        unknown => return Err(FrameError::Unknown(unknown)),
    })
}

fn read_scope(r: &mut Reader<'_>) -> Result<ScopeFrame, Malformed> {
    let id = r.varint()?;
    let scope = match r.u8()? {
        KIND_CONTROL => Scope::Control,
        KIND_PEER => Scope::Peer(Channel(r.u8()?)),
        KIND_GROUP => {
            let channel = Channel(r.u8()?);
            Scope::Group(GroupId::from_raw(r.u64()?), r.u64()?, channel)
        }
        _ => return Err(Malformed::Value),
    };
    Ok(ScopeFrame { id, scope, start: r.varint()? })
}

fn read_message<'a>(kind: u8, r: &mut Reader<'a>) -> Result<Message<'a>, Malformed> {
    let (scope, seq) = (r.varint()?, r.varint()?);
    let reliable = kind & UNRELIABLE_BIT == 0;
    let key = match kind & KEY_BIT != 0 {
        true if reliable => return Err(Malformed::Value),
        true => Some(u32::try_from(r.varint()?).map_err(|_| Malformed::Value)?),
        false => None,
    };
    let fragment = match kind & FRAGMENT_BIT != 0 {
        true => Some((r.varint()?, r.varint()?)),
        false => None,
    };
    let data = if kind & TO_END_BIT != 0 { r.rest() } else { r.prefixed()? };
    if let Some((offset, total)) = fragment {
        let end = offset.checked_add(data.len() as u64).ok_or(Malformed::Value)?;
        let on_grid = offset.is_multiple_of(FRAGMENT_UNIT) && (end.is_multiple_of(FRAGMENT_UNIT) || end == total);
        if end > total || data.is_empty() || !on_grid {
            return Err(Malformed::Value);
        }
    }
    let head = MessageHead { scope, seq, reliable, key, fragment };
    Ok(Message { head, data })
}

pub(crate) fn write_ping(w: &mut Writer<'_>) -> Result<(), NoRoom> {
    w.u8(PING)
}

/// Writes as many of `ranges` (first and last number, from the largest down) as fit and `max` allows.
pub(crate) fn write_ack(
    w: &mut Writer<'_>,
    path: u8,
    delay: u64,
    ranges: impl Iterator<Item = (u64, u64)> + Clone,
    max: usize,
    ecn: Option<EcnCounts>,
) -> Result<(), NoRoom> {
    let (start, largest) = ranges.clone().next().ok_or(NoRoom)?;
    let first = largest.saturating_sub(start);
    let ecn_len = ecn.map_or(0, |e| [e.ect0, e.ect1, e.ce].map(varint_len).into_iter().sum());
    // The count takes one byte: at most MAX_ACK_RANGES, 64, less the first.
    let fixed = [largest, delay, first].map(varint_len).into_iter().fold(3usize, usize::saturating_add);
    let mut room = w.room().checked_sub(fixed.saturating_add(ecn_len)).ok_or(NoRoom)?;
    let max = max.min(MAX_ACK_RANGES as usize);
    let steps = || {
        ranges
            .clone()
            .zip(ranges.clone().skip(1))
            .map(|(above, below)| (above.0.saturating_sub(below.1).saturating_sub(2), below.1.saturating_sub(below.0)))
    };
    let mut count = 0usize;
    for (gap, length) in steps().take(max.saturating_sub(1)) {
        match room.checked_sub(varint_len(gap).saturating_add(varint_len(length))) {
            Some(left) => room = left,
            None => break,
        }
        count = count.saturating_add(1);
    }
    w.u8(if ecn.is_some() { ACK_ECN } else { ACK })?;
    w.u8(path)?;
    for field in [largest, delay, count as u64, first] {
        w.varint(field)?;
    }
    for (gap, length) in steps().take(count) {
        w.varint(gap)?;
        w.varint(length)?;
    }
    for field in ecn.into_iter().flat_map(|e| [e.ect0, e.ect1, e.ce]) {
        w.varint(field)?;
    }
    Ok(())
}

/// Bytes that [`write_scope`] takes.
pub(crate) fn scope_len(frame: &ScopeFrame) -> usize {
    let named = match frame.scope {
        Scope::Control => 0,
        Scope::Peer(_) => 1,
        Scope::Group(..) => 17,
    };
    2usize.saturating_add(named).saturating_add(varint_len(frame.id)).saturating_add(varint_len(frame.start))
}

pub(crate) fn write_scope(w: &mut Writer<'_>, frame: &ScopeFrame) -> Result<(), NoRoom> {
    if scope_len(frame) > w.room() {
        return Err(NoRoom);
    }
    w.u8(SCOPE)?;
    w.varint(frame.id)?;
    match frame.scope {
        Scope::Control => w.u8(KIND_CONTROL)?,
        Scope::Peer(channel) => w.bytes(&[KIND_PEER, channel.0])?,
        Scope::Group(group, epoch, channel) => {
            w.bytes(&[KIND_GROUP, channel.0])?;
            w.u64(group.raw())?;
            w.u64(epoch)?;
        }
    }
    w.varint(frame.start)
}

pub(crate) fn write_scope_end(w: &mut Writer<'_>, id: u64, charged: u64) -> Result<(), NoRoom> {
    if 1usize.saturating_add(varint_len(id)).saturating_add(varint_len(charged)) > w.room() {
        return Err(NoRoom);
    }
    w.u8(SCOPE_END)?;
    w.varint(id)?;
    w.varint(charged)
}

/// Bytes that [`write_skip`] takes.
pub(crate) fn skip_len(scope: u64, seq: u64, total: u64) -> usize {
    [scope, seq, total].map(varint_len).into_iter().fold(1, usize::saturating_add)
}

pub(crate) fn write_skip(w: &mut Writer<'_>, scope: u64, seq: u64, total: u64) -> Result<(), NoRoom> {
    if skip_len(scope, seq, total) > w.room() {
        return Err(NoRoom);
    }
    w.u8(SKIP)?;
    w.varint(scope)?;
    w.varint(seq)?;
    w.varint(total)
}

/// Writes a message. The length is left out when the frame ends exactly where the memory ends.
pub(crate) fn write_message(w: &mut Writer<'_>, head: &MessageHead, data: &[u8]) -> Result<(), NoRoom> {
    let bare = head.len().saturating_add(data.len());
    let to_end = bare == w.room();
    if !to_end && bare.saturating_add(varint_len(data.len() as u64)) > w.room() {
        return Err(NoRoom);
    }
    let bits = [
        (head.fragment.is_some(), FRAGMENT_BIT),
        (!head.reliable, UNRELIABLE_BIT),
        (to_end, TO_END_BIT),
        (head.key.is_some(), KEY_BIT),
    ];
    let kind = bits.iter().fold(MESSAGE, |kind, &(set, bit)| if set { kind | bit } else { kind });
    w.u8(kind)?;
    w.varint(head.scope)?;
    w.varint(head.seq)?;
    if let Some(key) = head.key {
        w.varint(key.into())?;
    }
    if let Some((offset, total)) = head.fragment {
        w.varint(offset)?;
        w.varint(total)?;
    }
    if to_end { w.bytes(data) } else { w.prefixed(data) }
}

pub(crate) fn write_credit(w: &mut Writer<'_>, limit: u64) -> Result<(), NoRoom> {
    if varint_len(limit) >= w.room() {
        return Err(NoRoom);
    }
    w.u8(CREDIT)?;
    w.varint(limit)
}

pub(crate) fn write_scope_credit(w: &mut Writer<'_>, scope: u64, limit: u64) -> Result<(), NoRoom> {
    if 1usize.saturating_add(varint_len(scope)).saturating_add(varint_len(limit)) > w.room() {
        return Err(NoRoom);
    }
    w.u8(SCOPE_CREDIT)?;
    w.varint(scope)?;
    w.varint(limit)
}

pub(crate) fn write_max_message(w: &mut Writer<'_>, bytes: u64) -> Result<(), NoRoom> {
    if varint_len(bytes) >= w.room() {
        return Err(NoRoom);
    }
    w.u8(MAX_MESSAGE)?;
    w.varint(bytes)
}

pub(crate) fn write_challenge(w: &mut Writer<'_>, token: u64) -> Result<(), NoRoom> {
    write_token(w, PATH_CHALLENGE, token)
}

pub(crate) fn write_response(w: &mut Writer<'_>, token: u64) -> Result<(), NoRoom> {
    write_token(w, PATH_RESPONSE, token)
}

fn write_token(w: &mut Writer<'_>, kind: u8, token: u64) -> Result<(), NoRoom> {
    let mut frame = [kind; 9];
    if let Some(place) = frame.last_chunk_mut::<8>() {
        *place = token.to_be_bytes();
    }
    w.bytes(&frame)
}

pub(crate) fn write_key_share(w: &mut Writer<'_>, share: &[u8; 32]) -> Result<(), NoRoom> {
    if w.room() < 33 {
        return Err(NoRoom);
    }
    w.u8(KEY_SHARE)?;
    w.bytes(share)
}

pub(crate) fn write_close(w: &mut Writer<'_>, reason: u8) -> Result<(), NoRoom> {
    w.bytes(&[CLOSE, reason])
}

pub(crate) fn write_observe(w: &mut Writer<'_>, observe: Observe) -> Result<(), NoRoom> {
    if w.room() < 7 {
        return Err(NoRoom);
    }
    w.u8(OBSERVE)?;
    w.u32(observe.search)?;
    w.u16(observe.socket)
}

pub(crate) fn write_leg(w: &mut Writer<'_>, leg: Leg) -> Result<(), NoRoom> {
    w.bytes(&[LEG, u8::from(leg == Leg::Tcp)])
}

pub(crate) fn write_knock(w: &mut Writer<'_>, door: u8) -> Result<(), NoRoom> {
    w.bytes(&[KNOCK, door])
}

/// Whole or not at all, as all that may stand behind other frames.
pub(crate) fn write_ask_time(w: &mut Writer<'_>, number: u32) -> Result<(), NoRoom> {
    if w.room() < 5 {
        return Err(NoRoom);
    }
    w.u8(ASK_TIME)?;
    w.u32(number)
}

pub(crate) fn write_time(w: &mut Writer<'_>, number: u32, clock: u64) -> Result<(), NoRoom> {
    if w.room() < 13 {
        return Err(NoRoom);
    }
    w.u8(TIME)?;
    w.u32(number)?;
    w.u64(clock)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn every_frame() -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut put = |write: &dyn Fn(&mut Writer<'_>) -> Result<(), NoRoom>| {
            let mut buf = [0; 200];
            let mut w = Writer::new(&mut buf);
            write(&mut w).unwrap();
            all.push(w.written().to_vec());
        };
        let ranges = [(900, 1000), (500, 510), (7, 7)];
        let ecn = EcnCounts { ect0: 1, ect1: 70, ce: 20_000 };
        let group = Scope::Group(GroupId::new(3, 1), 99, Channel(7));
        put(&|w| write_ping(w));
        put(&|w| write_ack(w, 1, 1234, ranges.into_iter(), 32, None));
        put(&|w| write_ack(w, 1, 1234, ranges.into_iter(), 32, Some(ecn)));
        for scope in [Scope::Control, Scope::Peer(Channel(200)), group] {
            put(&|w| write_scope(w, &ScopeFrame { id: 77, scope, start: 5 }));
        }
        put(&|w| write_scope_end(w, 77, 100_000));
        for (reliable, fragment) in [(true, None), (false, None), (true, Some((64, 500))), (false, Some((0, 33)))] {
            put(&|w| write_message(w, &MessageHead { scope: 9, seq: 300, reliable, key: None, fragment }, &[5; 32]));
        }
        for (key, fragment) in [(Some(0), None), (Some(u32::MAX), Some((0, 33)))] {
            put(&|w| write_message(w, &MessageHead { scope: 9, seq: 300, reliable: false, key, fragment }, &[5; 32]));
        }
        put(&|w| write_skip(w, 9, 300, 65_000));
        put(&|w| write_credit(w, 1 << 20));
        put(&|w| write_scope_credit(w, 77, 1 << 20));
        put(&|w| write_max_message(w, 16 << 20));
        put(&|w| write_challenge(w, u64::MAX));
        put(&|w| write_response(w, 1));
        put(&|w| write_key_share(w, &[3; 32]));
        put(&|w| write_close(w, 4));
        put(&|w| write_observe(w, Observe { search: u32::MAX, socket: 300 }));
        put(&|w| write_knock(w, 3));
        put(&|w| write_ask_time(w, 9));
        put(&|w| write_time(w, 9, u64::MAX));
        put(&|w| write_leg(w, Leg::Udp));
        put(&|w| write_leg(w, Leg::Tcp));
        all
    }

    fn parse(body: &[u8]) -> Vec<Result<Frame<'_>, FrameError>> {
        Frames::new(body).collect()
    }

    #[test]
    fn every_frame_comes_back_alone_and_among_padding() {
        for bytes in every_frame() {
            let frames = parse(&bytes);
            assert!(matches!(frames[..], [Ok(_)]), "{bytes:?} gave {frames:?}");
            let padded = [&[0, 0][..], &bytes, &[0]].concat();
            assert_eq!(parse(&padded), frames);
        }
    }

    #[test]
    fn every_truncation_of_every_frame_is_a_typed_error() {
        for bytes in every_frame() {
            for len in 1..bytes.len() {
                let frames = parse(&bytes[..len]);
                assert!(matches!(frames[..], [Err(FrameError::Malformed(_))]), "{:?} gave {frames:?}", &bytes[..len]);
            }
        }
    }

    #[test]
    fn an_unknown_type_is_an_error_of_its_own_and_ends_the_body() {
        assert_eq!(parse(&[1, 0x07, 1]), [Ok(Frame::Ping), Err(FrameError::Unknown(7))]);
        assert_eq!(parse(&[0xff]), [Err(FrameError::Unknown(0xff))]);
    }

    #[test]
    fn a_message_that_ends_with_the_packet_has_no_length() {
        let head = MessageHead { scope: 1, seq: 2, reliable: true, key: None, fragment: None };
        let mut buf = [0; 8];
        let mut w = Writer::new(&mut buf);
        write_message(&mut w, &head, &[9; 5]).unwrap();
        assert_eq!(w.written(), [0x0c, 1, 2, 9, 9, 9, 9, 9]);
        assert_eq!(parse(&buf), [Ok(Frame::Message(Message { head, data: &[9; 5] }))]);
    }

    #[test]
    fn keys_of_reliable_messages_and_of_more_than_32_bits_are_malformed() {
        let keyed = |bit, key: &[u8]| [&[KEYED | TO_END_BIT | bit, 1, 2][..], key, b"x"].concat();
        for body in [keyed(0, &[3]), keyed(UNRELIABLE_BIT, &[0xc0, 0, 0, 1, 0, 0, 0, 0])] {
            assert_eq!(parse(&body), [Err(FrameError::Malformed(Malformed::Value))]);
        }
        assert!(matches!(parse(&keyed(UNRELIABLE_BIT, &[3]))[..], [Ok(Frame::Message(m))] if m.head.key == Some(3)));
    }

    #[test]
    fn fragments_off_the_grid_or_past_the_total_are_malformed() {
        for (offset, total, len) in [(1, 100, 32), (0, 100, 31), (64, 80, 32), (0, 100, 0), ((1 << 62) - 32, 5, 40)] {
            let mut buf = [0; 80];
            let mut w = Writer::new(&mut buf);
            let head = MessageHead { scope: 1, seq: 2, reliable: true, key: None, fragment: Some((offset, total)) };
            write_message(&mut w, &head, &[0; 64][..len]).unwrap();
            assert_eq!(parse(w.written()), [Err(FrameError::Malformed(Malformed::Value))], "{offset} {total} {len}");
        }
    }

    #[test]
    fn acknowledgements_below_zero_or_of_too_many_ranges_are_malformed() {
        for body in [&[ACK, 0, 5, 0, 0, 6][..], &[ACK, 0, 5, 0, 1, 1, 3, 0], &[ACK, 0, 5, 0, 0x40, 64, 0]] {
            assert_eq!(parse(body), [Err(FrameError::Malformed(Malformed::Value))]);
        }
    }

    proptest! {
        #[test]
        fn ack_ranges_come_back_as_far_as_they_fit(steps in vec((2u64..300, 0u64..300), 1..70), room in 10usize..400) {
            let mut end = 100_000u64;
            let mut ranges = Vec::new();
            for (gap, len) in steps {
                ranges.push((end - len, end));
                end -= len + gap;
            }
            let mut buf = [0; 400];
            let mut w = Writer::new(&mut buf[..room]);
            if write_ack(&mut w, 0, 7, ranges.iter().copied(), 32, None).is_ok() {
                let frames = parse(w.written());
                let [Ok(Frame::Ack(ack))] = frames[..] else { panic!("{frames:?}") };
                let back: Vec<_> = ack.ranges().collect();
                prop_assert!(!back.is_empty() && back.len() <= 32);
                prop_assert_eq!(&ranges[..back.len()], &back[..]);
            } else {
                prop_assert_eq!(w.len(), 0);
            }
        }

        #[test]
        fn a_parser_survives_anything_and_ends(body in vec(any::<u8>(), 0..200)) {
            prop_assert!(Frames::new(&body).count() <= body.len());
        }

        #[test]
        fn a_parser_survives_damaged_frames(pick: prop::sample::Index, at: prop::sample::Index, byte: u8) {
            let all = every_frame();
            let mut bytes = pick.get(&all).clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            for frame in Frames::new(&bytes) {
                if let Ok(Frame::Ack(ack)) = frame {
                    prop_assert!(ack.ranges().count() <= 64);
                }
            }
        }
    }
}
