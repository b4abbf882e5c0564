//! Small sets of numbers: one machine word where that is enough, as many as it takes where it is not.

use std::hash::Hash;

/// A set of small numbers.
pub trait Bits: Clone + Eq + Hash {
    /// No number, with room for those below `size`.
    fn empty(size: usize) -> Self;
    /// Whether it holds `bit`.
    fn has(&self, bit: usize) -> bool;
    /// Puts `bit` in.
    fn insert(&mut self, bit: usize);
    /// Takes `bit` out.
    fn remove(&mut self, bit: usize);
    /// Whether `other` holds all that it holds.
    fn is_subset(&self, other: &Self) -> bool;
    /// The smallest number held, `from` or above.
    fn next(&self, from: usize) -> Option<usize>;
    /// Bytes beyond its own size.
    fn heap(&self) -> usize;
}

impl Bits for u64 {
    fn empty(_size: usize) -> Self {
        0
    }

    fn has(&self, bit: usize) -> bool {
        self >> bit & 1 == 1
    }

    fn insert(&mut self, bit: usize) {
        *self |= 1 << bit;
    }

    fn remove(&mut self, bit: usize) {
        *self &= !(1 << bit);
    }

    fn is_subset(&self, other: &Self) -> bool {
        self & !other == 0
    }

    fn next(&self, from: usize) -> Option<usize> {
        if from >= 64 {
            return None;
        }
        let rest = self >> from;
        (rest != 0).then(|| from + rest.trailing_zeros() as usize)
    }

    fn heap(&self) -> usize {
        0
    }
}

/// Numbers without an upper bound.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Wide(Box<[u64]>);

impl Bits for Wide {
    fn empty(size: usize) -> Self {
        Self(vec![0; size.div_ceil(64)].into_boxed_slice())
    }

    fn has(&self, bit: usize) -> bool {
        self.0[bit / 64] >> (bit % 64) & 1 == 1
    }

    fn insert(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    fn remove(&mut self, bit: usize) {
        self.0[bit / 64] &= !(1 << (bit % 64));
    }

    fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine & !theirs == 0)
    }

    fn next(&self, from: usize) -> Option<usize> {
        let mut at = from / 64;
        let mut word = self.0.get(at)? & (!0 << (from % 64));
        while word == 0 {
            at += 1;
            word = *self.0.get(at)?;
        }
        Some(at * 64 + word.trailing_zeros() as usize)
    }

    fn heap(&self) -> usize {
        self.0.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::{Bits, Wide};

    /// A set of many words behaves as a sorted set does.
    #[test]
    fn wide_is_a_set() {
        let (mut wide, mut plain) = (Wide::empty(300), std::collections::BTreeSet::new());
        let mut dice = 7_u64;
        for _ in 0..5_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let bit = (dice >> 33) as usize % 300;
            if dice >> 63 == 0 {
                wide.insert(bit);
                plain.insert(bit);
            } else {
                wide.remove(bit);
                plain.remove(&bit);
            }
            assert_eq!(wide.has(bit), plain.contains(&bit));
            assert_eq!(wide.next(bit / 2), plain.range(bit / 2..).next().copied());
        }
        let mut more = wide.clone();
        more.insert(299);
        assert!(wide.is_subset(&more));
    }
}
