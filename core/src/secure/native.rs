//! The suites' ciphers by `ring`: the same bytes as the portable ones, several times as fast.
//!
//! ring leaves an expanded key in memory when it is dropped. Here a key is overwritten first, by the expansion of zeros, which
//! has the same form on the same processor and so takes the same bytes.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::crypto::{HeaderKey, PacketKey};
use crate::wire::header::TAG_LEN;
use alloc::boxed::Box;
use core::hint::black_box;
use ring::aead::quic::{self, HeaderProtectionKey};
use ring::aead::{Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};

pub(super) use ring::aead::quic::{AES_256, CHACHA20};
pub(super) use ring::aead::{AES_256_GCM, CHACHA20_POLY1305};

/// A key for packets; `None` for an algorithm whose keys are not 32 bytes.
pub(super) fn packet_key(algorithm: &'static Algorithm, secret: &[u8; 32]) -> Option<Box<dyn PacketKey>> {
    Some(Box::new(Packets(LessSafeKey::new(UnboundKey::new(algorithm, secret).ok()?))))
}

/// A key for headers' masks; `None` for an algorithm whose keys are not 32 bytes.
pub(super) fn header_key(algorithm: &'static quic::Algorithm, secret: &[u8; 32]) -> Option<Box<dyn HeaderKey>> {
    Some(Box::new(Headers(HeaderProtectionKey::new(algorithm, secret).ok()?)))
}

struct Packets(LessSafeKey);

impl PacketKey for Packets {
    fn seal(&mut self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8], len: usize) -> usize {
        let Some((body, rest)) = buf.split_at_mut_checked(len) else { return 0 };
        let Some(place) = rest.first_chunk_mut::<TAG_LEN>() else { return 0 };
        match self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body) {
            Ok(tag) => {
                place.copy_from_slice(tag.as_ref());
                len.saturating_add(TAG_LEN)
            }
            // Only a body of gigabytes is refused.
            Err(_) => 0,
        }
    }

    fn open<'b>(&mut self, nonce: [u8; 12], aad: &[u8], buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        if self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), buf).is_err() {
            buf.fill(0);
            return None;
        }
        buf.split_last_chunk_mut::<TAG_LEN>().map(|(body, _)| body)
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        if let Ok(zeros) = UnboundKey::new(self.0.algorithm(), &[0; 32]) {
            self.0 = LessSafeKey::new(zeros);
            // Or the compiler leaves out a store that nobody reads.
            black_box(&mut self.0);
        }
    }
}

struct Headers(HeaderProtectionKey);

impl HeaderKey for Headers {
    fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        // Only a sample of another length is refused.
        self.0.new_mask(sample).unwrap_or_default()
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        if let Ok(zeros) = HeaderProtectionKey::new(self.0.algorithm(), &[0; 32]) {
            self.0 = zeros;
            black_box(&mut self.0);
        }
    }
}
