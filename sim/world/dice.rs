//! Named streams of random numbers, all from one seed.
//!
//! Each purpose has its own stream, so that a draw more or less in one place does not reshuffle the others.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::trace::{SEED, hash_bytes};

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream called `name` of `seed`: the same in every process.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&hash_bytes(SEED, name.as_bytes()).to_le_bytes());
        key[16..24].copy_from_slice(b"snowglob");
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `limit`; 0 where the limit is 0. (Bias below 2⁻⁶⁴ times the limit.)
    pub fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(limit);
        u64::try_from(product >> 64).expect("the high half of a product of two u64")
    }

    /// A number from `min` to `max`, both included.
    pub fn between(&mut self, min: u64, max: u64) -> u64 {
        debug_assert!(min <= max, "an empty range: {min}..={max}");
        match (max - min).checked_add(1) {
            Some(span) => min + self.below(span),
            None => self.bits(),
        }
    }

    /// True in `ppm` of a million cases.
    pub fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }

    /// Fills `buffer`.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill_bytes(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream is a constant of seed and name; other names and seeds are other streams.
    #[test]
    fn streams_are_constants() {
        let first = |seed, name| Dice::new(seed, name).bits();
        insta::assert_snapshot!(format!("{:016x}", first(1, "net")), @"f77c211f25dfc500");
        assert_ne!(first(1, "net"), first(1, "disk"));
        assert_ne!(first(1, "net"), first(2, "net"));
    }

    /// Ranges reach both ends and nothing outside.
    #[test]
    fn ranges_are_exact() {
        let mut dice = Dice::new(3, "test");
        let drawn: std::collections::BTreeSet<u64> = (0..200).map(|_| dice.between(5, 8)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [5, 6, 7, 8]);
        assert_eq!(dice.between(9, 9), 9);
        assert_eq!(dice.below(0), 0);
        assert!((0..100).all(|_| !dice.chance(0) && dice.chance(1_000_000)));
    }
}
