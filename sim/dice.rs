//! Seeded streams of random numbers, one per purpose.
//!
//! A stream is named by its seed and a label (`workload/2`, `net`), and knows nothing of the others: drawing more
//! from one never changes another. That is what keeps a plan stable while parts of it are taken away, and a run
//! stable while a fault is.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// One stream.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of `label` under `seed`.
    #[must_use]
    pub fn new(seed: u64, label: &str) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        // Three FNV-1a hashes of the label from different bases: stable between builds and machines.
        for (n, chunk) in key[8..].chunks_exact_mut(8).enumerate() {
            let base = 0xcbf2_9ce4_8422_2325_u64 ^ (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let hash = label
                .bytes()
                .fold(base, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
            chunk.copy_from_slice(&hash.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound` (0 where `bound` is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the multiplication is below 2^-32 for the small bounds used here.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "dice: {low} is above {high}");
        match (high - low).checked_add(1) {
            Some(span) => low + self.below(span),
            None => self.bits(),
        }
    }

    /// True `percent` times out of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True in `ppm` of a million cases.
    pub fn chance_ppm(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// The index of one of the weights, drawn by weight; at least one must be above 0.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let total: u64 = weights.iter().sum();
        assert!(total > 0, "dice: every weight is 0");
        let mut left = self.below(total);
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        unreachable!("dice: the draw is below the sum of the weights")
    }

    /// The items in random order.
    pub fn shuffled<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        let mut items = items.to_vec();
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    /// A stream depends on its seed and its label, and on nothing else: it is the same on every machine.
    #[test]
    fn streams_are_named() {
        insta::assert_snapshot!(format!("{:016x}", Dice::new(1, "net").bits()), @"3c5dd57e2a111069");
        let draw = |seed, label| {
            let mut dice = Dice::new(seed, label);
            (0..4).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "nemesis"), draw(1, "nemesis"));
        assert_ne!(draw(1, "nemesis"), draw(2, "nemesis"));
        assert_ne!(draw(1, "workload/1"), draw(1, "workload/2"));
    }

    /// Draws stay inside their bounds, and reach both ends.
    #[test]
    fn bounds() {
        let mut dice = Dice::new(7, "bounds");
        let drawn: Vec<u64> = (0..200).map(|_| dice.within(3, 5)).collect();
        assert_eq!(drawn.iter().min(), Some(&3));
        assert_eq!(drawn.iter().max(), Some(&5));
        assert!((0..200).all(|_| dice.weighted(&[0, 1, 0]) == 1));
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.within(9, 9), 9);
        assert!((0..100).all(|_| !dice.chance_ppm(0) && dice.chance_ppm(1_000_000)));
    }

    /// Shuffling keeps every item.
    #[test]
    fn shuffling() {
        let mut shuffled = Dice::new(7, "shuffle").shuffled(&[1, 2, 3, 4, 5]);
        assert_ne!(shuffled, [1, 2, 3, 4, 5]);
        shuffled.sort_unstable();
        assert_eq!(shuffled, [1, 2, 3, 4, 5]);
    }
}
