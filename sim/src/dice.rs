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
    /// The scenario that a seed draws.
    Swarm,
    /// A TCP connection's end; number = host (high half) and its connections so far (low half).
    Stack,
}

/// The generator for `label` and `number` under `seed`.
pub(crate) fn stream(seed: u64, label: Label, number: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let text: &[u8; 16] = match label {
        Label::Wire => b"posse-sim wire 1",
        Label::Nat => b"posse-sim nat  1",
        Label::Machine => b"posse-sim mach 1",
        Label::Swarm => b"posse-sim swrm 1",
        Label::Stack => b"posse-sim tcp  1",
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_nth_draw_is_block_n_of_the_stream() {
        let mut dice = stream(1, Label::Wire, 2);
        for n in 0..100 {
            let drawn = Block::draw(&mut dice);
            let mut sought = stream(1, Label::Wire, 2);
            sought.set_word_pos(16 * n);
            assert_eq!(drawn.0, Block::draw(&mut sought).0);
        }
    }

    #[test]
    fn streams_differ_by_seed_label_and_number() {
        let word = |seed, label, number| Block::draw(&mut stream(seed, label, number)).wide(0);
        let words = [(1, Label::Wire, 1), (2, Label::Wire, 1), (1, Label::Nat, 1), (1, Label::Wire, 2)];
        let mut words: Vec<u64> = words.map(|(s, l, n)| word(s, l, n)).to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 4);
    }

    proptest! {
        #[test]
        fn uniform_words_map_into_their_range(word: u64, max: u64, n in 1u64..1 << 32) {
            prop_assert!(up_to(word, max) <= max);
            prop_assert!(below(word as u32, n) < n);
            prop_assert_eq!((up_to(0, max), up_to(u64::MAX, max), below(u32::MAX, n)), (0, max, n - 1));
        }
    }
}
