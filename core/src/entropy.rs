//! Randomness as an argument: one seed at construction, more by input.
//!
//! Two kinds come of it. Key material is drawn from a [`KeyStream`] with key erasure: each draw replaces the generator's
//! state by output that nobody else sees, so that a later memory dump cannot regenerate what was drawn before
//! (Bernstein, "Fast-key-erasure random-number generators", 2017). Everything else (jitter, skipped packet numbers,
//! hash keys) comes from sub-streams, one a label, so that one consumer's draws never shift another's.

use core::hash::BuildHasher;
use hkdf::Hkdf;
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use rand_core::{Rng as _, SeedableRng};
use sha2::Sha256;
use siphasher::sip::SipHasher13;
use zeroize::{Zeroize, Zeroizing};

/// All randomness of one machine.
pub(crate) struct Entropy {
    keys: KeyStream,
    labels: [u8; 32],
}

impl Entropy {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let root = Hkdf::<Sha256>::new(Some(b"posse entropy 1"), seed);
        let mut keys = Zeroizing::new([0; 32]);
        let mut labels = [0; 32];
        expand(&root, &[b"keys"], &mut keys);
        expand(&root, &[b"labels"], &mut labels);
        Self { keys: KeyStream { state: *keys }, labels }
    }

    /// The generator of key material.
    pub(crate) fn keys(&mut self) -> &mut KeyStream {
        &mut self.keys
    }

    /// The sub-stream of `label` and `instance`. The same pair gives the same stream again.
    pub(crate) fn stream(&self, label: &str, instance: u64) -> Rng {
        let root = Hkdf::<Sha256>::new(Some(b"posse stream 1"), &self.labels);
        let mut seed = [0; 32];
        expand(&root, &[label.as_bytes(), &instance.to_be_bytes()], &mut seed);
        Rng(ChaCha8Rng::from_seed(seed))
    }

    /// A hasher for maps whose keys a stranger may choose.
    pub(crate) fn hasher(&self, label: &str) -> SeededState {
        let mut stream = self.stream(label, 0);
        SeededState { k0: stream.u64(), k1: stream.u64() }
    }
}

/// `info` is at most a few dozen bytes and the output 32, far below HKDF's limit of 255 blocks.
fn expand(root: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8; 32]) {
    let done = root.expand_multi_info(info, out);
    debug_assert!(done.is_ok(), "32 bytes are within HKDF's limit");
}

/// A generator with key erasure. See the module's text.
pub(crate) struct KeyStream {
    state: [u8; 32],
}

impl KeyStream {
    /// The next 32 bytes of key material.
    pub(crate) fn draw(&mut self) -> Zeroizing<[u8; 32]> {
        let mut generator = ChaCha20Rng::from_seed(self.state);
        let mut out = Zeroizing::new([0; 32]);
        generator.fill_bytes(&mut self.state);
        generator.fill_bytes(out.as_mut_slice());
        out
    }

    /// Mixes fresh entropy in. Can only add: whoever knows one of old state and `fresh` does not know the new state.
    pub(crate) fn mix(&mut self, fresh: &[u8; 32]) {
        let root = Hkdf::<Sha256>::new(Some(&self.state), fresh);
        expand(&root, &[b"posse mix 1"], &mut self.state);
    }
}

impl Drop for KeyStream {
    fn drop(&mut self) {
        self.state.zeroize();
    }
}

/// Randomness that is not secret.
#[derive(Clone)]
pub(crate) struct Rng(ChaCha8Rng);

impl Rng {
    pub(crate) fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform below `n` to within 2^-64; 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

/// Keys of a hasher, from the seed.
#[derive(Clone)]
pub(crate) struct SeededState {
    k0: u64,
    k1: u64,
}

impl BuildHasher for SeededState {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.k0, self.k1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_independent_and_repeatable() {
        let entropy = Entropy::new(&[7; 32]);
        assert_eq!(entropy.stream("a", 1).u64(), entropy.stream("a", 1).u64());
        assert_ne!(entropy.stream("a", 1).u64(), entropy.stream("a", 2).u64());
        assert_ne!(entropy.stream("a", 1).u64(), entropy.stream("b", 1).u64());
    }

    #[test]
    fn the_state_after_a_draw_does_not_hold_what_was_drawn() {
        let mut entropy = Entropy::new(&[7; 32]);
        let first = entropy.keys().draw();
        let state = entropy.keys().state;
        assert_ne!(*first, state);
        assert_ne!(*first, *entropy.keys().draw());
    }

    #[test]
    fn fresh_entropy_changes_every_later_key() {
        let (mut a, mut b) = (Entropy::new(&[7; 32]), Entropy::new(&[7; 32]));
        assert_eq!(*a.keys().draw(), *b.keys().draw());
        a.keys().mix(&[1; 32]);
        assert_ne!(*a.keys().draw(), *b.keys().draw());
    }

    #[test]
    fn below_stays_below() {
        let mut stream = Entropy::new(&[1; 32]).stream("x", 0);
        assert!((0..1000).all(|_| stream.below(7) < 7));
        assert_eq!(stream.below(0), 0);
    }
}
