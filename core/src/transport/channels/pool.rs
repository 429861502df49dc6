//! Buffers of messages, used again and again.

use super::super::Usage;
use alloc::vec::Vec;

/// Spare buffers kept: what one acknowledgement of bulk sets free, and the small messages of a batch of datagrams.
/// The list of them takes 96 KiB at most beside their bytes.
const SPARE: usize = 4096;
/// Bytes of capacity kept in spare buffers: half of what a link has under way by default. They are buffers that were in use all at
/// once, and a link that falls quiet gives them back.
const SPARE_BYTES: usize = 512 << 10;

/// Spare buffers.
#[derive(Debug, Default)]
pub(super) struct Pool {
    spare: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pool {
    /// Capacity of the spare buffers.
    pub(super) fn usage(&self) -> Usage {
        Usage { used: self.bytes, budget: SPARE_BYTES }
    }

    /// An empty buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(buffer.capacity());
        buffer
    }

    /// A buffer with a copy of `bytes`.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.take();
        buffer.extend_from_slice(bytes);
        buffer
    }

    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = self.bytes.saturating_add(buffer.capacity());
        if buffer.capacity() == 0 || self.spare.len() >= SPARE || bytes > SPARE_BYTES {
            return;
        }
        buffer.clear();
        self.bytes = bytes;
        self.spare.push(buffer);
    }
}
