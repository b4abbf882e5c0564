//! Keys as small numbers in key order, so that a range of keys is a range of numbers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::history::{Operation, Request};

/// Every key that any request could have put; no other key can ever exist.
pub(super) struct Keys<'a> {
    numbers: HashMap<&'a [u8], u32, BuildHasherDefault<Quick>>,
    sorted: Vec<&'a [u8]>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(operations: &'a [Operation]) -> Self {
        let mut keys = Self { numbers: HashMap::default(), sorted: Vec::new() };
        for operation in operations {
            keys.add(&operation.request);
        }
        keys.sorted.sort_unstable();
        for (number, key) in keys.sorted.iter().enumerate() {
            keys.numbers.insert(key, number as u32);
        }
        keys
    }

    fn add(&mut self, request: &'a Request) {
        match request {
            Request::Put(put) => {
                let key = put.key.0.as_slice();
                if self.numbers.insert(key, 0).is_none() {
                    self.sorted.push(key);
                }
            }
            Request::Txn(txn) => {
                for inner in txn.success.iter().chain(&txn.failure) {
                    self.add(inner);
                }
            }
            Request::Range(_) | Request::DeleteRange(_) | Request::Compact { .. } => {}
        }
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The number of a key, if it was ever put.
    pub(super) fn id(&self, key: &[u8]) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    pub(super) fn name(&self, id: u32) -> &'a [u8] {
        self.sorted[id as usize]
    }

    /// The numbers of all keys in a range, by etcd's rules for `range_end`.
    pub(super) fn span(&self, key: &[u8], range_end: &[u8]) -> Range<u32> {
        if range_end.is_empty() {
            return self.id(key).map_or(0..0, |id| id..id + 1);
        }
        let from = self.sorted.partition_point(|known| *known < key) as u32;
        if range_end == [0] {
            return from..self.sorted.len() as u32;
        }
        let to = self.sorted.partition_point(|known| *known < range_end) as u32;
        from..to.max(from)
    }
}

/// A quick hash for trusted input: multiply and rotate, eight bytes at a time.
#[derive(Default)]
pub(super) struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.write_u64(u64::from_le_bytes(chunk.try_into().expect("chunks of eight bytes")));
        }
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.write_u64(u64::from_le_bytes(last));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}

/// The hash of a key and a value.
pub(super) fn pair_hash(id: u32, value: &[u8]) -> u64 {
    let mut hasher = Quick::default();
    hasher.write_u64(u64::from(id));
    hasher.write(value);
    hasher.finish()
}
