//! The MAC between a client and the server's relay: SipHash-2-4 under a key that only these two have.
//!
//! It covers the whole wrap with the relay number in full, the packet's length, and the packet's first and last 16 bytes,
//! so that what it costs the relay does not grow with the packet. What lies between is protected by the packet's own tag,
//! which is the last 16 bytes. 64 bits are enough here: a forger gets no more than one guess a datagram, and a lucky one
//! makes the relay pass on a single packet that its receiver then finds forged.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::secret::Secret;
use crate::wire::relay::{self, WRAP_LEN, Wrap};
use core::fmt;
use siphasher::sip::SipHasher24;
use zeroize::Zeroizing;

/// Bytes of either end of the packet that the MAC covers: as long as a tag.
const END_LEN: usize = 16;

/// One client's key with the relay.
#[derive(Clone)]
pub(crate) struct RelayKey(Zeroizing<[u8; 16]>);

impl RelayKey {
    /// From [`LoginSecrets::relay`](super::LoginSecrets).
    pub(crate) fn from_secret(secret: &Secret) -> Self {
        Self(secret.expand(&[b"relay mac"]))
    }

    /// Writes the wrap of `inner`. `number` grows by one at least with each call of one session.
    pub(crate) fn wrap(&self, session: u64, number: u64, handle: u32, inner: &[u8], out: &mut [u8; WRAP_LEN]) {
        let written = relay::write(out, session, number, handle, self.mac(session, number, handle, inner));
        debug_assert!(written.is_ok(), "a wrap has a fixed length");
    }

    /// Whether `wrap` is this client's and has this full number, of which it shows the low 24 bits.
    pub(crate) fn verify(&self, wrap: &Wrap<'_>, number: u64) -> bool {
        // One machine word: the comparison takes the same time whatever the difference.
        self.mac(wrap.session, number, wrap.handle, wrap.inner) ^ wrap.mac == 0
    }

    fn mac(&self, session: u64, number: u64, handle: u32, inner: &[u8]) -> u64 {
        let len = inner.len() as u64;
        let head = inner.get(..END_LEN).unwrap_or(inner);
        let tail = inner.get(inner.len().saturating_sub(END_LEN)..).unwrap_or(inner);
        let mut input = [0; 8 + 8 + 4 + 8 + 2 * END_LEN];
        let fields = session.to_be_bytes().into_iter().chain(number.to_be_bytes()).chain(handle.to_be_bytes());
        let fields = fields.chain(len.to_be_bytes()).chain(head.iter().copied()).chain(tail.iter().copied());
        for (to, from) in input.iter_mut().zip(fields) {
            *to = from;
        }
        SipHasher24::new_with_key(&self.0).hash(&input)
    }
}

impl fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn key(n: u8) -> RelayKey {
        RelayKey::from_secret(&Secret::new([n; 32]))
    }

    /// Appendix A of the paper on SipHash: key 00…0f, message 00…0e.
    #[test]
    fn the_hash_is_siphash_2_4() {
        let key = core::array::from_fn(|i| i as u8);
        let message: [u8; 15] = core::array::from_fn(|i| i as u8);
        assert_eq!(SipHasher24::new_with_key(&key).hash(&message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn another_sessions_key_does_not_verify() {
        let mut wrap = [0; WRAP_LEN];
        let inner = [0x40; 40];
        key(1).wrap(1, 2, 3, &inner, &mut wrap);
        let datagram = [&wrap[..], &inner].concat();
        let parsed = relay::parse(&datagram).unwrap();
        assert!(key(1).verify(&parsed, 2));
        assert!(!key(2).verify(&parsed, 2));
        assert!(!key(1).verify(&parsed, 2 + (1 << 24)), "another number with the same low bits");
    }

    #[test]
    fn the_key_is_not_printed() {
        assert_eq!(std::format!("{:?}", key(1)), "RelayKey(..)");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_in_the_wrap_or_at_the_packets_ends_does_not_verify(
            rest in proptest::collection::vec(any::<u8>(), 28..80), session: u64, number: u64, handle: u32, bit in 0usize..,
        ) {
            let inner = [&[0x40], &rest[..]].concat();
            let mut wrap = [0; WRAP_LEN];
            key(1).wrap(session, number, handle, &inner, &mut wrap);
            let mut datagram: Vec<u8> = [&wrap[..], &inner].concat();
            prop_assert!(key(1).verify(&relay::parse(&datagram).unwrap(), number));
            let last = datagram.len() - 16;
            let covered: Vec<usize> = (0..WRAP_LEN + 16).chain(last.max(WRAP_LEN + 16)..datagram.len()).collect();
            let at = covered[bit / 8 % covered.len()];
            datagram[at] ^= 1 << (bit % 8);
            if let Ok(parsed) = relay::parse(&datagram) {
                // What the forwarding plane does: it takes the number that the low bits say.
                let said = number & !0xff_ffff | u64::from(parsed.number_low);
                prop_assert!(!key(1).verify(&parsed, said));
            }
            datagram[at] ^= 1 << (bit % 8);
            datagram.truncate(datagram.len() - 1);
            if let Ok(parsed) = relay::parse(&datagram) {
                prop_assert!(!key(1).verify(&parsed, number));
            }
        }
    }
}
