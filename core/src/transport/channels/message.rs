//! Messages on their way out, and how they are cut to the packet at hand.
//!
//! A reliable message knows three things about its bytes: up to where they were sent at all, which of those are to be
//! sent again, which are acknowledged. Marking the same bytes lost twice, or acknowledged by two paths, changes nothing,
//! so that copies on several paths need no book-keeping.

use super::super::ranges::Ranges;
use super::super::space::Piece;
use crate::time::Instant;
use crate::wire::buf::varint_len;
use crate::wire::frames::{FRAGMENT_UNIT, MessageHead};
use alloc::vec::Vec;

/// Room below which a message that would fit the next packet whole is not cut to fill this one: two units of the grid are then
/// the most that a piece may be, and its head is a third of them.
const WORTH_CUTTING: usize = 64;
/// Longest name of a scope, bytes.
pub(super) const MAX_SCOPE_LEN: usize = 35;

/// What stands for a message that was given up in a [`Piece`]: beyond all bytes of any message, so that late word of its
/// bytes is not taken for word of that.
const SKIP: (u64, u64) = (u64::MAX - 1, u64::MAX);

/// A reliable message.
#[derive(Debug, Default)]
pub(super) struct OutMessage {
    pub(super) bytes: Vec<u8>,
    pub(super) rank: usize,
    pub(super) key: Option<u32>,
    /// It was given up before it was sent completely: instead, the peer is told that it will not come. Its length if any
    /// of it was sent, else 0.
    pub(super) skipped: Option<u64>,
    /// Bytes below this were sent at least once.
    pub(super) sent: u64,
    /// To be sent again.
    pub(super) again: Ranges,
    pub(super) acked: Ranges,
    /// Stands in the queue of what is to be sent again.
    pub(super) queued_again: bool,
    pub(super) done: bool,
    /// Its credit was taken.
    pub(super) charged: bool,
}

impl OutMessage {
    /// What ranges run over: an empty message counts as one byte.
    fn extent(&self) -> (u64, u64) {
        if self.skipped.is_some() { SKIP } else { (0, (self.bytes.len() as u64).max(1)) }
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent >= self.extent().1
    }

    /// The next bytes that were never sent.
    pub(super) fn unsent(&self) -> (u64, u64) {
        let (start, end) = self.extent();
        (start.max(self.sent), end)
    }

    /// Whether `start..end` are bytes of what it is now.
    fn covers(&self, start: u64, end: u64) -> bool {
        let (from, to) = self.extent();
        from <= start && end <= to
    }

    /// Word of some of it arrived. True when it is complete.
    pub(super) fn on_acked(&mut self, start: u64, end: u64) -> bool {
        if !self.covers(start, end) {
            return false;
        }
        if (start, end) != self.extent() {
            self.acked.insert(start, end);
            self.again.remove(start, end);
            if self.acked.first() != Some(self.extent()) {
                return false;
            }
        }
        self.done = true;
        self.again.clear();
        true
    }

    /// Some of it was lost. True if it must stand in the queue of what is sent again from now on.
    pub(super) fn on_lost(&mut self, start: u64, end: u64) -> bool {
        if !self.covers(start, end) {
            return false;
        }
        let (mut from, mut queue) = (start, false);
        while let Some((start, end)) = self.acked.first_gap(from, end) {
            self.again.insert(start, end);
            (from, queue) = (end, true);
        }
        queue && !core::mem::replace(&mut self.queued_again, true)
    }

    /// The first of these bytes that still wait for word.
    pub(super) fn open_part(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        if self.covers(start, end) { self.acked.first_gap(start, end) } else { None }
    }

    /// Gives it up; its bytes are no longer needed.
    pub(super) fn skip(&mut self) -> Vec<u8> {
        self.skipped = Some(if self.charged { self.bytes.len() as u64 } else { 0 });
        self.sent = 0;
        self.again.clear();
        self.acked.clear();
        self.key = None;
        core::mem::take(&mut self.bytes)
    }

    /// As new, but for the memory of its lists.
    pub(super) fn reset(&mut self) {
        self.again.clear();
        self.acked.clear();
        let Self { again, acked, .. } = core::mem::take(self);
        (self.again, self.acked) = (again, acked);
    }
}

/// An unreliable message.
#[derive(Debug)]
pub(super) struct Loose {
    pub(super) seq: u64,
    /// In which order messages of all scopes were queued.
    pub(super) order: u64,
    pub(super) rank: usize,
    pub(super) key: Option<u32>,
    /// Not to be sent after this.
    pub(super) until: Option<Instant>,
    pub(super) sent: u64,
    pub(super) bytes: Vec<u8>,
}

impl Loose {
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until < now)
    }
}

/// A message, or what is left of it, to be cut to the packet at hand.
pub(super) struct Cut {
    pub(super) scope: u64,
    pub(super) seq: u64,
    pub(super) reliable: bool,
    pub(super) key: Option<u32>,
    pub(super) start: u64,
    pub(super) total: u64,
}

impl Cut {
    /// What is left of a reliable message from the piece's start on.
    pub(super) fn of(piece: Piece, total: u64) -> Self {
        Self { scope: piece.scope, seq: piece.seq, reliable: true, key: None, start: piece.start, total }
    }

    pub(super) fn head(&self, bytes: &[u8]) -> MessageHead {
        self.head_of(self.start == 0 && bytes.len() as u64 == self.total)
    }

    fn head_of(&self, whole: bool) -> MessageHead {
        let Self { scope, seq, reliable, key, start, total } = *self;
        MessageHead { scope, seq, reliable, key, fragment: (!whole).then_some((start, total)) }
    }

    /// How many of `bytes` go into `room`: all, or as many as the grid of fragments allows, or none.
    pub(super) fn fit(&self, bytes: &[u8], room: usize, payload: usize) -> Option<usize> {
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
        let data = room.checked_sub(self.head_of(false).len() + 2)?.min(bytes.len());
        let data = data - data % FRAGMENT_UNIT as usize;
        (data > 0).then_some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_word_of_the_bytes_of_a_message_that_was_given_up_is_no_word_of_that() {
        let mut message = OutMessage { bytes: std::vec![7; 500], sent: 320, charged: true, ..OutMessage::default() };
        assert_eq!(message.skip().len(), 500);
        assert_eq!(message.skipped, Some(500));
        assert!(!message.is_sent() && !message.on_lost(0, 320) && !message.on_acked(0, 320) && !message.done);
        assert_eq!(message.open_part(0, 320), None);
        let (start, end) = message.unsent();
        message.sent = end;
        assert!(message.is_sent() && message.on_lost(start, end) && message.on_acked(start, end) && message.done);
    }
}
