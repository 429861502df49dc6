//! Keys between two clients: each has one X25519 key a session, which the server makes known to its peers, and every
//! meeting of two has a random key of its own from the server and a number that never comes back.
//!
//! pair = HKDF(salt "posse pair 1", X25519(a, b) ‖ psk), expanded with the meeting's context and both public keys. Both
//! ends can compute it without a round trip. The psk keeps a client out that knows only keys; the epoch and the psk keep
//! two meetings of the same clients apart; the suite in the context keeps an attacker from choosing it.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use super::secret::{LowOrder, Secret, agree, public_key};
use crate::entropy::KeyStream;
use crate::ids::PeerId;
use core::fmt;
use zeroize::Zeroizing;

/// A client's static key of one session. Never stored beyond it.
pub(crate) struct SessionKey {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl SessionKey {
    pub(crate) fn new(keys: &mut KeyStream) -> Self {
        let secret = keys.draw();
        Self { public: public_key(&secret), secret }
    }

    /// The public key.
    #[cfg(test)]
    pub(crate) const fn public(&self) -> [u8; 32] {
        self.public
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// What a meeting of two clients is known by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PairContext {
    /// The application.
    pub(crate) app: u64,
    /// The suite of their link.
    pub(crate) suite: u8,
    /// The client with the lower id.
    pub(crate) low: PeerId,
    /// The other.
    pub(crate) high: PeerId,
    /// The server's number of the meeting.
    pub(crate) epoch: u64,
}

impl PairContext {
    /// The same for both ends, whichever of the two clients is named first.
    pub(crate) fn new(app: u64, suite: u8, one: PeerId, other: PeerId, epoch: u64) -> Self {
        Self { app, suite, low: one.min(other), high: one.max(other), epoch }
    }
}

/// The secret of the link between two clients.
pub(crate) fn pair_secret(
    own: &SessionKey,
    peer_public: &[u8; 32],
    psk: &[u8; 32],
    context: &PairContext,
) -> Result<Secret, LowOrder> {
    let shared = agree(own.secret(), peer_public)?;
    let mut material = Zeroizing::new([0; 64]);
    for (to, from) in material.iter_mut().zip(shared.iter().chain(psk)) {
        *to = *from;
    }
    // In an order that both ends agree on. Several encodings name one point, so the keys themselves are in the context.
    let (first, second) =
        if own.public < *peer_public { (&own.public, peer_public) } else { (peer_public, &own.public) };
    Ok(Secret::extract(b"posse pair 1", &*material).derive(&[
        b"pair",
        &context.app.to_be_bytes(),
        &[context.suite],
        &context.low.raw().to_be_bytes(),
        &context.high.raw().to_be_bytes(),
        &context.epoch.to_be_bytes(),
        first,
        second,
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;

    fn keys() -> [SessionKey; 2] {
        let mut entropy = Entropy::new(&[3; 32]);
        core::array::from_fn(|_| SessionKey::new(entropy.keys()))
    }

    #[test]
    fn both_ends_compute_one_secret() {
        let [a, b] = keys();
        let (one, other) = (PeerId::new(1, 1), PeerId::new(2, 1));
        let from_a = pair_secret(&a, &b.public(), &[8; 32], &PairContext::new(7, 1, one, other, 5)).unwrap();
        let from_b = pair_secret(&b, &a.public(), &[8; 32], &PairContext::new(7, 1, other, one, 5)).unwrap();
        assert_eq!(from_a.bytes(), from_b.bytes());
    }

    #[test]
    fn everything_in_the_context_changes_the_secret() {
        let [a, b] = keys();
        let base = PairContext::new(7, 1, PeerId::new(1, 1), PeerId::new(2, 1), 5);
        let secret =
            |psk: u8, context: PairContext| *pair_secret(&a, &b.public(), &[psk; 32], &context).unwrap().bytes();
        let mut all = std::vec![
            secret(8, base),
            secret(9, base),
            secret(8, PairContext { app: 8, ..base }),
            secret(8, PairContext { suite: 2, ..base }),
            secret(8, PairContext { low: PeerId::new(0, 1), ..base }),
            secret(8, PairContext { high: PeerId::new(3, 1), ..base }),
            secret(8, PairContext { epoch: 6, ..base }),
        ];
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn another_encoding_of_the_same_point_gives_another_secret() {
        let [a, b] = keys();
        let context = PairContext::new(7, 1, PeerId::new(1, 1), PeerId::new(2, 1), 5);
        let mut same_point = b.public();
        same_point[31] ^= 0x80;
        assert_ne!(
            pair_secret(&a, &b.public(), &[8; 32], &context).unwrap().bytes(),
            pair_secret(&a, &same_point, &[8; 32], &context).unwrap().bytes()
        );
    }

    #[test]
    fn a_peer_key_of_low_order_is_refused() {
        let [a, _] = keys();
        let context = PairContext::new(7, 1, PeerId::new(1, 1), PeerId::new(2, 1), 5);
        assert!(matches!(pair_secret(&a, &[0; 32], &[8; 32], &context), Err(LowOrder)));
    }

    #[test]
    fn the_private_key_is_not_printed() {
        let [a, _] = keys();
        let printed = std::format!("{a:?}");
        assert!(printed.starts_with("SessionKey { public: ") && printed.ends_with(", .. }"));
    }
}
