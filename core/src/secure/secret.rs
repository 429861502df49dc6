//! 32 secret bytes, what is derived from them (HKDF with SHA-256, RFC 5869), and the Diffie-Hellman function.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use core::fmt;
use hkdf::Hkdf;
use sha2::Sha256;
use thiserror::Error;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// A uniformly random secret. Erased when dropped, never printed.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// HKDF-Extract of `material`, which need not be uniform.
    pub(crate) fn extract(salt: &[u8], material: &[u8]) -> Self {
        let (prk, _) = Hkdf::<Sha256>::extract(Some(salt), material);
        Self::new(prk.0)
    }

    /// HKDF-Expand with the concatenation of `info`; the first `N` bytes, `N` at most 32. The callers' labels begin with a
    /// text that no other label begins with, and all that follows has a fixed length, so that no two labels are one.
    pub(crate) fn expand<const N: usize>(&self, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
        const { assert!(N <= 32, "one block of SHA-256") };
        let mut out = Zeroizing::new([0; N]);
        // The key has the length of a hash and the output is below 255 blocks: neither step can fail.
        let done =
            Hkdf::<Sha256>::from_prk(self.bytes()).is_ok_and(|k| k.expand_multi_info(info, out.as_mut()).is_ok());
        debug_assert!(done, "within the limits of HKDF");
        out
    }

    /// [`Self::expand`] to another secret.
    pub(crate) fn derive(&self, info: &[&[u8]]) -> Self {
        Self(self.expand(info))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A public key of low order: the shared secret would be zero, whatever the private key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the public key has low order")]
pub(crate) struct LowOrder;

/// X25519 (RFC 7748 §6.1, with the check for a zero result).
pub(crate) fn agree(own: &[u8; 32], peer: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, LowOrder> {
    let shared = StaticSecret::from(*own).diffie_hellman(&PublicKey::from(*peer));
    if shared.was_contributory() { Ok(Zeroizing::new(shared.to_bytes())) } else { Err(LowOrder) }
}

/// The X25519 public key of `secret`: what a client has to know of its server.
pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> [u8; 32] {
        core::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    #[test]
    fn the_example_of_rfc_7748_section_5_2() {
        let scalar = bytes("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
        let point = bytes("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
        let expected = bytes("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
        assert_eq!(agree(&scalar, &point).as_deref(), Ok(&expected));
    }

    /// All points of order 1, 2, 4 and 8 on the curve and its twist, with their encodings beyond the prime.
    const LOW_ORDER: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    #[test]
    fn every_point_of_low_order_is_refused() {
        for point in LOW_ORDER {
            let mut point = bytes(point);
            assert_eq!(agree(&[9; 32], &point), Err(LowOrder));
            // The top bit is ignored by X25519.
            point[31] |= 0x80;
            assert_eq!(agree(&[9; 32], &point), Err(LowOrder));
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(std::format!("{:?}", Secret::new([7; 32])), "Secret(..)");
    }

    #[test]
    fn other_labels_give_other_secrets() {
        let secret = Secret::extract(b"test", b"material");
        assert_ne!(secret.derive(&[b"a"]).bytes(), secret.derive(&[b"b"]).bytes());
        assert_ne!(secret.bytes(), Secret::extract(b"other", b"material").bytes());
    }
}
