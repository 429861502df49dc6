//! Datagrams in a byte stream: each behind its length, two bytes, big-endian.
//!
//! A length of 0, or beyond [`MAX_FRAME`], is no frame, and where the next one begins is unknown from then on: the stream is
//! of no more use. Whole frames are handed on where they lie; only one that is cut by the end of what arrived is kept, and no
//! more of it than arrived.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use crate::link::DATAGRAM;
use alloc::vec::Vec;
use thiserror::Error;

/// Longest datagram that goes into a stream, bytes: that of the main path.
pub(crate) const MAX_FRAME: usize = DATAGRAM;
/// Bytes of the length before it.
pub(crate) const PREFIX: usize = 2;

/// Not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a frame of {0} bytes")]
pub(crate) struct BadFrame(pub(crate) usize);

/// Finds the frames in a stream.
#[derive(Default)]
pub(crate) struct FrameReader {
    /// What arrived of a frame that is not whole yet, its length included.
    partial: Vec<u8>,
}

impl FrameReader {
    /// Hands each frame that is whole to `take`.
    pub(crate) fn read(&mut self, mut bytes: &mut [u8], mut take: impl FnMut(&mut [u8])) -> Result<(), BadFrame> {
        while !bytes.is_empty() {
            if self.partial.is_empty()
                && let Some(len) = length(bytes)?
            {
                let whole = PREFIX.saturating_add(len);
                if bytes.len() >= whole {
                    let (frame, rest) = bytes.split_at_mut(whole);
                    bytes = rest;
                    frame.get_mut(PREFIX..).map(&mut take);
                    continue;
                }
            }
            // Byte by byte for the length, then as much as belongs to the frame.
            let wanted = length(&self.partial)?.map_or(PREFIX, |len| PREFIX.saturating_add(len));
            let (part, rest) = bytes.split_at_mut(wanted.saturating_sub(self.partial.len()).min(bytes.len()));
            self.partial.extend_from_slice(part);
            bytes = rest;
            if let Some(len) = length(&self.partial)?
                && self.partial.len() == PREFIX.saturating_add(len)
            {
                self.partial.get_mut(PREFIX..).map(&mut take);
                self.partial.clear();
            }
        }
        Ok(())
    }
}

/// The length that stands before a frame, once both its bytes are there.
fn length(bytes: &[u8]) -> Result<Option<usize>, BadFrame> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    match usize::from(u16::from_be_bytes(*prefix)) {
        len @ 1..=MAX_FRAME => Ok(Some(len)),
        len => Err(BadFrame(len)),
    }
}

/// The length to put before a frame; `None` of one that is none.
pub(crate) fn prefix(len: usize) -> Option<[u8; PREFIX]> {
    if len == 0 || len > MAX_FRAME {
        return None;
    }
    u16::try_from(len).ok().map(u16::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().flat_map(|f| prefix(f.len()).unwrap().into_iter().chain(f.iter().copied())).collect()
    }

    #[test]
    fn a_length_of_nothing_or_of_too_much_ends_the_stream() {
        for bad in [0u16, MAX_FRAME as u16 + 1, u16::MAX] {
            let mut bytes = bad.to_be_bytes();
            assert_eq!(FrameReader::default().read(&mut bytes, |_| ()), Err(BadFrame(bad.into())));
            // Also when its two bytes come apart.
            let mut reader = FrameReader::default();
            let [mut first, mut second] = bad.to_be_bytes().map(|byte| [byte]);
            assert_eq!(reader.read(&mut first, |_| ()), Ok(()));
            assert_eq!(reader.read(&mut second, |_| ()), Err(BadFrame(bad.into())));
        }
        assert_eq!((prefix(0), prefix(MAX_FRAME + 1)), (None, None));
    }

    #[test]
    fn a_frame_that_is_announced_takes_no_more_memory_than_what_came_of_it() {
        let mut reader = FrameReader::default();
        reader.read(&mut [4, 176, 1], |_| ()).unwrap();
        assert!(reader.partial.capacity() < 64);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
            cuts in proptest::collection::vec(1usize..400, 1..40),
        ) {
            let mut bytes = stream(&frames);
            let (mut reader, mut found, mut rest) = (FrameReader::default(), vec![], &mut bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (part, after) = rest.split_at_mut((*cut).min(rest.len()));
                reader.read(part, |frame| found.push(frame.to_vec())).unwrap();
                rest = after;
            }
            prop_assert_eq!(found, frames);
            prop_assert!(reader.partial.is_empty());
        }

        #[test]
        fn any_bytes_are_frames_within_bounds_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..4000), cut in 1usize..500) {
            let mut reader = FrameReader::default();
            for part in bytes.chunks_mut(cut) {
                let read = reader.read(part, |frame| assert!((1..=MAX_FRAME).contains(&frame.len())));
                if read.is_err() { break; }
                prop_assert!(reader.partial.len() < PREFIX + MAX_FRAME);
            }
        }
    }
}
