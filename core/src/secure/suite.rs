//! The suites of this crate: AES-256-GCM and ChaCha20-Poly1305 as in RFC 9001 §5.3, §5.4, on RustCrypto's portable
//! implementations. With feature `ring` its assembly does the same, to the same bytes (see `native`).

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::crypto::{Crypto, HeaderKey, PacketKey};
#[cfg(feature = "ring")]
use super::native;
use crate::wire::header::TAG_LEN;
use aes::cipher::BlockCipherEncrypt as _;
use aes_gcm::aead::{AeadInOut, KeyInit};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use chacha20::cipher::{KeyIvInit as _, StreamCipherCore as _};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use zeroize::Zeroizing;

/// The suites to offer, best first. AES-256-GCM only on hardware that has AES instructions: without them it is slow, and
/// its tables may betray the key by timing.
///
/// Two ends use the suite with the lowest [`Crypto::id`] that both offer, hence AES where both have the hardware.
pub fn suites(aes_hardware: bool) -> Vec<Arc<dyn Crypto>> {
    if aes_hardware { vec![Arc::new(Aes256Gcm), Arc::new(ChaCha20Poly1305)] } else { vec![Arc::new(ChaCha20Poly1305)] }
}

/// Suite 1: AES-256-GCM, headers masked by AES-256.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Aes256Gcm;

/// Suite 2: ChaCha20-Poly1305 (RFC 8439), headers masked by ChaCha20.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChaCha20Poly1305;

impl Crypto for Aes256Gcm {
    fn id(&self) -> u8 {
        1
    }
    fn packet_key(&self, secret: &[u8; 32]) -> Box<dyn PacketKey> {
        #[cfg(feature = "ring")]
        if let Some(key) = native::packet_key(&native::AES_256_GCM, secret) {
            return key;
        }
        portable_aes(secret)
    }
    fn header_key(&self, secret: &[u8; 32]) -> Box<dyn HeaderKey> {
        #[cfg(feature = "ring")]
        if let Some(key) = native::header_key(&native::AES_256, secret) {
            return key;
        }
        Box::new(AesMask(aes::Aes256::new(secret.into())))
    }
}

impl Crypto for ChaCha20Poly1305 {
    fn id(&self) -> u8 {
        2
    }
    fn packet_key(&self, secret: &[u8; 32]) -> Box<dyn PacketKey> {
        #[cfg(feature = "ring")]
        if let Some(key) = native::packet_key(&native::CHACHA20_POLY1305, secret) {
            return key;
        }
        portable_chacha(secret)
    }
    fn header_key(&self, secret: &[u8; 32]) -> Box<dyn HeaderKey> {
        #[cfg(feature = "ring")]
        if let Some(key) = native::header_key(&native::CHACHA20, secret) {
            return key;
        }
        Box::new(ChaChaMask(Zeroizing::new(*secret)))
    }
}

fn portable_aes(secret: &[u8; 32]) -> Box<dyn PacketKey> {
    Box::new(Aead(aes_gcm::Aes256Gcm::new(secret.into())))
}

fn portable_chacha(secret: &[u8; 32]) -> Box<dyn PacketKey> {
    Box::new(Aead(chacha20poly1305::ChaCha20Poly1305::new(secret.into())))
}

struct Aead<A>(A);

impl<A> PacketKey for Aead<A>
where
    A: AeadInOut + Send,
    for<'n> &'n aes_gcm::aead::Nonce<A>: From<&'n [u8; 12]>,
    for<'t> &'t aes_gcm::aead::Tag<A>: From<&'t [u8; TAG_LEN]>,
{
    fn seal(&mut self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8], len: usize) -> usize {
        let Some((body, rest)) = buf.split_at_mut_checked(len) else { return 0 };
        let Some(place) = rest.first_chunk_mut::<TAG_LEN>() else { return 0 };
        match self.0.encrypt_inout_detached((&nonce).into(), aad, body.into()) {
            Ok(tag) => {
                place.copy_from_slice(&tag);
                len.saturating_add(TAG_LEN)
            }
            // Only a body of gigabytes is refused.
            Err(_) => 0,
        }
    }

    fn open<'b>(&mut self, nonce: [u8; 12], aad: &[u8], buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let opened = buf.split_last_chunk_mut::<TAG_LEN>().is_some_and(|(body, tag)| {
            let tag = &*tag;
            self.0.decrypt_inout_detached((&nonce).into(), aad, body.into(), tag.into()).is_ok()
        });
        if !opened {
            buf.fill(0);
            return None;
        }
        buf.split_last_chunk_mut::<TAG_LEN>().map(|(body, _)| body)
    }
}

/// RFC 9001 §5.4.3: the sample, encrypted.
struct AesMask(aes::Aes256);

impl HeaderKey for AesMask {
    fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        let mut block = (*sample).into();
        self.0.encrypt_block(&mut block);
        let [a, b, c, d, e, ..] = block.0;
        [a, b, c, d, e]
    }
}

/// RFC 9001 §5.4.4: the sample is block counter and nonce, the mask is key stream.
struct ChaChaMask(Zeroizing<[u8; 32]>);

impl HeaderKey for ChaChaMask {
    fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        let [c0, c1, c2, c3, nonce @ ..] = *sample;
        // The bare block function: the cipher proper refuses the last block of its counter, which a sample may well name.
        let mut cipher = ChaChaCore::<R20, Ietf>::new((&*self.0).into(), (&nonce).into());
        cipher.set_block_pos(u32::from_le_bytes([c0, c1, c2, c3]));
        let mut block = Default::default();
        cipher.write_keystream_block(&mut block);
        let [a, b, c, d, e, ..] = block.0;
        [a, b, c, d, e]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        core::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    #[test]
    fn the_chacha_packet_of_rfc_9001_appendix_a_5() {
        let mut key =
            ChaCha20Poly1305.packet_key(&bytes("c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8"));
        let header: [u8; 4] = bytes("4200bff4");
        let mut buf = [0; 17];
        buf[0] = 1;
        assert_eq!(key.seal(bytes("e0459b3474bdd0e46d417eb0"), &header, &mut buf, 1), 17);
        assert_eq!(buf, bytes("655e5cd55c41f69080575d7999c25a5bfb"));
        let mask =
            ChaCha20Poly1305.header_key(&bytes("25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4"));
        assert_eq!(mask.mask(&bytes("5e5cd55c41f69080575d7999c25a5bfb")), bytes("aefefe7d03"));
    }

    #[test]
    fn the_last_block_of_the_counter_has_a_mask_too() {
        let mask = ChaCha20Poly1305.header_key(&[1; 32]);
        assert_ne!(mask.mask(&[0xff; 16]), [0; 5]);
    }

    #[test]
    fn the_gcm_test_case_15_of_its_specification() {
        let mut key = Aes256Gcm.packet_key(&bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"));
        let plain: [u8; 16] = bytes("d9313225f88406e5a55909c5aff5269a");
        let mut buf = [0; 32];
        buf[..16].copy_from_slice(&plain);
        key.seal(bytes("cafebabefacedbaddecaf888"), &[], &mut buf, 16);
        assert_eq!(buf[..16], bytes::<16>("522dc1f099567d07f47f37a32a84427d"));
    }

    #[test]
    fn the_aes_256_example_of_fips_197() {
        let mask = Aes256Gcm.header_key(&bytes("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"));
        assert_eq!(mask.mask(&bytes("00112233445566778899aabbccddeeff")), bytes("8ea2b7ca51"));
    }

    #[test]
    fn what_does_not_fit_is_not_sealed() {
        for suite in suites(true) {
            let mut key = suite.packet_key(&[7; 32]);
            assert_eq!(key.seal([0; 12], &[], &mut [0; 20], 5), 0);
            assert_eq!(key.seal([0; 12], &[], &mut [0; 20], 21), 0);
            assert!(key.open([0; 12], &[], &mut [1; 15]).is_none());
        }
    }

    #[cfg(feature = "ring")]
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn both_implementations_seal_to_the_same_bytes_and_mask_alike(
            secret: [u8; 32], nonce: [u8; 12], sample: [u8; 16], aes: bool,
            body in proptest::collection::vec(any::<u8>(), 0..1500), aad in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let suite = &suites(true)[usize::from(!aes)];
            let mut portable = if aes { portable_aes(&secret) } else { portable_chacha(&secret) };
            let sealed = [suite.packet_key(&secret), portable_aes(&secret), portable_chacha(&secret)]
                .map(|mut key| {
                    let mut buf = body.clone();
                    buf.resize(body.len() + TAG_LEN, 0);
                    key.seal(nonce, &aad, &mut buf, body.len());
                    buf
                });
            prop_assert_eq!(&sealed[0], &sealed[if aes { 1 } else { 2 }]);
            let mut buf = sealed[0].clone();
            prop_assert_eq!(portable.open(nonce, &aad, &mut buf).map(|b| &*b), Some(body.as_slice()));
            let mask = suite.header_key(&secret).mask(&sample);
            let other = if aes {
                AesMask(aes::Aes256::new((&secret).into())).mask(&sample)
            } else {
                ChaChaMask(Zeroizing::new(secret)).mask(&sample)
            };
            prop_assert_eq!(mask, other);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn one_flipped_bit_anywhere_and_nothing_of_the_plaintext_remains(
            body in proptest::collection::vec(1u8.., 0..80), aad in proptest::collection::vec(any::<u8>(), 1..20),
            bit in 0usize.., aes: bool, in_aad: bool,
        ) {
            let suite = &suites(true)[usize::from(aes)];
            let mut key = suite.packet_key(&[7; 32]);
            let mut buf = body.clone();
            buf.resize(body.len() + TAG_LEN, 0);
            prop_assert_eq!(key.seal([3; 12], &aad, &mut buf, body.len()), buf.len());
            let mut good = buf.clone();
            prop_assert_eq!(key.open([3; 12], &aad, &mut good).map(|b| &*b), Some(body.as_slice()));
            let mut aad = aad;
            let target = if in_aad { &mut aad } else { &mut buf };
            let bit = bit % (8 * target.len());
            target[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(key.open([3; 12], &aad, &mut buf).is_none());
            prop_assert!(buf.iter().all(|&b| b == 0));
        }
    }
}
