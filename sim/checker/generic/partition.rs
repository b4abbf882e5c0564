//! Which operations can be judged apart from which: those that share no key, directly or through others.

use super::Call;
use super::fast::FastMap;
use super::model::{Footprint, Model};

/// Indexes of the operations of each partition, in the order of the history.
///
/// Two operations are in one partition if they touch a common key, or are linked by operations that do. One
/// operation that touches everything links all.
pub fn partitions<M: Model>(model: &M, calls: &[Call<M::Op>]) -> Vec<Vec<u32>> {
    let whole = || vec![(0..calls.len() as u32).collect()];
    let mut links = Links::default();
    let mut keys = Vec::new();
    let mut first_links = Vec::with_capacity(calls.len());
    for call in calls {
        keys.clear();
        if model.footprint(&call.op, &mut keys) == Footprint::Everything {
            return whole();
        }
        let mut first = None;
        for key in &keys {
            let link = links.number(*key);
            match first {
                None => first = Some(link),
                Some(first) => links.join(first, link),
            }
        }
        first_links.push(first);
    }
    let mut places: FastMap<u32, usize> = FastMap::default();
    let mut parts: Vec<Vec<u32>> = Vec::new();
    for (index, first) in first_links.into_iter().enumerate() {
        // An operation without any key stands alone.
        let place = match first {
            Some(link) => *places.entry(links.root(link)).or_insert(parts.len()),
            None => parts.len(),
        };
        if place == parts.len() {
            parts.push(Vec::new());
        }
        parts[place].push(index as u32);
    }
    parts
}

/// Union-find over keys.
#[derive(Default)]
struct Links {
    numbers: FastMap<u64, u32>,
    parents: Vec<u32>,
}

impl Links {
    fn number(&mut self, key: u64) -> u32 {
        let next = self.parents.len() as u32;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.parents.push(next);
        }
        number
    }

    fn root(&mut self, mut of: u32) -> u32 {
        while self.parents[of as usize] != of {
            let above = self.parents[self.parents[of as usize] as usize];
            self.parents[of as usize] = above;
            of = above;
        }
        of
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.parents[other.max(one) as usize] = one.min(other);
    }
}
