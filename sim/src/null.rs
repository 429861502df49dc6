//! A suite that encrypts nothing, for simulations: bytes can be read in a capture and cost little. It lives here so that
//! no feature of another crate can ship it.
//!
//! It still authenticates: tags are SipHash-1-3-128 under the suite's secret over nonce, header and body. So a corrupted
//! packet, a wrong key or a reused packet number fares as under a real suite.

use posse_core::secure::{Crypto, HeaderKey, PacketKey};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// Bytes of a tag, as of the real suites.
const TAG: usize = 16;

/// See the module's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NullCrypto;

impl Crypto for NullCrypto {
    /// The last number: whoever offers a real suite as well gets that.
    fn id(&self) -> u8 {
        u8::MAX
    }

    fn packet_key(&self, secret: &[u8; 32]) -> Box<dyn PacketKey> {
        Box::new(NullKey(*secret))
    }

    fn header_key(&self, _: &[u8; 32]) -> Box<dyn HeaderKey> {
        Box::new(NullMask)
    }
}

struct NullKey([u8; 32]);

impl NullKey {
    fn tag(&self, nonce: &[u8; 12], aad: &[u8], body: &[u8]) -> [u8; TAG] {
        let mut hasher = SipHasher13::new();
        hasher.write(&self.0);
        hasher.write(nonce);
        hasher.write(&(aad.len() as u64).to_le_bytes());
        hasher.write(aad);
        hasher.write(body);
        hasher.finish128().as_bytes()
    }
}

impl PacketKey for NullKey {
    fn seal(&mut self, nonce: [u8; 12], aad: &[u8], buf: &mut [u8], len: usize) -> usize {
        let Some((body, rest)) = buf.split_at_mut_checked(len) else { return 0 };
        let Some(place) = rest.first_chunk_mut::<TAG>() else { return 0 };
        *place = self.tag(&nonce, aad, body);
        len + TAG
    }

    fn open<'b>(&mut self, nonce: [u8; 12], aad: &[u8], buf: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let genuine = buf.split_last_chunk::<TAG>().is_some_and(|(body, tag)| self.tag(&nonce, aad, body) == *tag);
        if !genuine {
            buf.fill(0);
            return None;
        }
        let len = buf.len() - TAG;
        buf.get_mut(..len)
    }
}

struct NullMask;

impl HeaderKey for NullMask {
    fn mask(&self, _: &[u8; 16]) -> [u8; 5] {
        [0; 5]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_unless_anything_was_changed(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            (which, bit) in (0usize..5, 0usize..64),
        ) {
            let mut buf = body.clone();
            buf.resize(body.len() + TAG, 0);
            let mut key = NullCrypto.packet_key(&[1; 32]);
            prop_assert_eq!(key.seal([2; 12], b"header", &mut buf, body.len()), buf.len());
            prop_assert!(buf.starts_with(&body));
            let mut copy = buf.clone();
            prop_assert!(key.open([2; 12], b"header", &mut copy).is_some_and(|opened| *opened == *body));

            let (mut secret, mut nonce, mut aad) = ([1; 32], [2; 12], b"header".to_vec());
            match which {
                0 => secret[bit / 8] ^= 1 << (bit % 8),
                1 => nonce[bit / 8] ^= 1 << (bit % 8),
                2 => aad[bit % 6] ^= 1,
                3 => buf[bit % (body.len() + TAG)] ^= 1,
                _ => drop(buf.pop()),
            }
            prop_assert!(NullCrypto.packet_key(&secret).open(nonce, &aad, &mut buf).is_none());
            prop_assert!(buf.iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn what_does_not_fit_is_left_alone() {
        let mut buf = [7; 20];
        assert_eq!(NullCrypto.packet_key(&[1; 32]).seal([0; 12], b"", &mut buf, 5), 0);
        assert_eq!(buf, [7; 20]);
    }
}
