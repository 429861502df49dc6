//! Randomness of the simulated network: every source of it is named by the world's seed, a label and a number, so that
//! adding or removing one never shifts the draws of another.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng};

/// What a stream of randomness is for. The text goes into the generator's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Label {
    /// One direction of a link; number = wire.
    Wire,
    /// A NAT's ports; number = NAT.
    Nat,
    /// A machine's own seed; number = host (high half) and incarnation (low half).
    Machine,
}

/// The generator for `label` and `number` under `seed`.
pub(crate) fn stream(seed: u64, label: Label, number: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let text: &[u8; 16] = match label {
        Label::Wire => b"posse-sim wire 1",
        Label::Nat => b"posse-sim nat  1",
        Label::Machine => b"posse-sim mach 1",
    };
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    key[16..].copy_from_slice(text);
    ChaCha8Rng::from_seed(key)
}

/// One ChaCha block: sixteen 32-bit words, each with a fixed purpose.
pub(crate) struct Block([u8; 64]);

impl Block {
    /// The next block of `dice`. As nothing else is drawn from a block generator, the `n`-th call is block `n`.
    pub(crate) fn draw(dice: &mut ChaCha8Rng) -> Self {
        let mut words = [0; 64];
        dice.fill_bytes(&mut words);
        Self(words)
    }

    /// Word `n` < 16.
    pub(crate) fn word(&self, n: usize) -> u32 {
        self.0.chunks_exact(4).nth(n).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    /// Words `n` and `n + 1` as one number.
    pub(crate) fn wide(&self, n: usize) -> u64 {
        u64::from(self.word(n)) | u64::from(self.word(n + 1)) << 32
    }
}

/// Maps a uniform `word` to `0..=max`, monotone in both; uneven by less than `max` / 2^64.
pub(crate) fn up_to(word: u64, max: u64) -> u64 {
    ((u128::from(word) * (u128::from(max) + 1)) >> 64) as u64
}

/// Maps a uniform `word` to `0..n`; 0 if `n` is 0.
pub(crate) fn below(word: u32, n: u64) -> u64 {
    ((u128::from(word) * u128::from(n)) >> 32) as u64
}
