//! Keys as small numbers in key order, so that a range of keys is a range of numbers.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::history::{Operation, Request};

/// Not a request for one key.
pub(super) const SEVERAL: u32 = u32::MAX;

/// Every key that any request names; a key that none could have put stays empty.
pub(super) struct Keys<'a> {
    numbers: HashMap<&'a [u8], u32, BuildHasherDefault<Quick>>,
    sorted: Vec<&'a [u8]>,
    /// For each operation that names exactly one key, its number.
    single: Vec<u32>,
    /// For each lease, the keys that some request would attach to it, in order.
    attached: BTreeMap<i64, Vec<u32>>,
    /// Indexes of the operations that would attach a key to a lease.
    attaching: Vec<u32>,
    /// Indexes of the operations of the lease service, and of those that hold something by a lease.
    about_leases: Vec<u32>,
}

/// Gives numbers to keys as they come.
pub(super) struct Numbering<'a>(Keys<'a>);

impl<'a> Numbering<'a> {
    /// For about so many operations.
    pub(super) fn new(operations: usize) -> Self {
        Self(Keys::new(operations))
    }

    /// Numbers the keys of the next operation.
    pub(super) fn add(&mut self, operation: &'a Operation) {
        let single = self.0.add(&operation.request);
        if is_about_leases(&operation.request) {
            self.0.about_leases.push(self.0.single.len() as u32);
        }
        self.0.single.push(single);
    }

    /// Numbers them anew, in the order of keys.
    pub(super) fn finish(self) -> Keys<'a> {
        self.0.sort()
    }
}

impl<'a> Keys<'a> {
    fn new(operations: usize) -> Self {
        Self {
            numbers: HashMap::default(),
            sorted: Vec::new(),
            single: Vec::with_capacity(operations),
            attached: BTreeMap::new(),
            attaching: Vec::new(),
            about_leases: Vec::new(),
        }
    }

    fn sort(mut self) -> Self {
        let keys = &mut self;
        // So far numbered as they came; from here on in order.
        let mut order: Vec<u32> = (0..keys.sorted.len() as u32).collect();
        order.sort_unstable_by_key(|first| keys.sorted[*first as usize]);
        let mut renumbered = vec![0; order.len()];
        for (number, first) in order.iter().enumerate() {
            renumbered[*first as usize] = number as u32;
        }
        for single in keys.single.iter_mut().filter(|single| **single != SEVERAL) {
            *single = renumbered[*single as usize];
        }
        for attached in keys.attached.values_mut() {
            for key in attached.iter_mut() {
                *key = renumbered[*key as usize];
            }
            attached.sort_unstable();
            attached.dedup();
        }
        keys.sorted = order.iter().map(|first| keys.sorted[*first as usize]).collect();
        for (number, key) in keys.sorted.iter().enumerate() {
            keys.numbers.insert(key, number as u32);
        }
        self
    }

    fn add(&mut self, request: &'a Request) -> u32 {
        let key = match request {
            Request::Put(put) => &put.key,
            Request::Range(range) if range.range_end.0.is_empty() => &range.key,
            Request::DeleteRange(delete) if delete.range_end.0.is_empty() => &delete.key,
            Request::Txn(txn) => {
                for inner in txn.success.iter().chain(&txn.failure) {
                    self.add(inner);
                }
                return SEVERAL;
            }
            _ => return SEVERAL,
        };
        let next = self.sorted.len() as u32;
        let number = *self.numbers.entry(&key.0).or_insert(next);
        if number == next {
            self.sorted.push(&key.0);
        }
        if let Request::Put(put) = request
            && put.lease != 0
        {
            self.attached.entry(put.lease).or_default().push(number);
            self.attaching.push(self.single.len() as u32);
        }
        number
    }

    /// The number of the one key that an operation names; [`SEVERAL`] if there is not one.
    pub(super) fn single(&self, operation: u32) -> u32 {
        self.single[operation as usize]
    }

    /// As [`Keys::span`], quicker where the one key is known.
    pub(super) fn span_of(&self, single: u32, key: &[u8], range_end: &[u8]) -> Range<u32> {
        if single == SEVERAL { self.span(key, range_end) } else { single..single + 1 }
    }

    /// The keys that some request would attach to a lease.
    pub(super) fn attached(&self, lease: i64) -> &[u32] {
        self.attached.get(&lease).map_or(&[], Vec::as_slice)
    }

    /// The leases that some request would attach keys to.
    pub(super) fn leases(&self) -> impl Iterator<Item = i64> + '_ {
        self.attached.keys().copied()
    }

    /// Indexes of the operations that would attach a key to a lease.
    pub(super) fn attaching(&self) -> &[u32] {
        &self.attaching
    }

    /// Indexes of the operations of the lease service, and of those that hold something by a lease.
    pub(super) fn about_leases(&self) -> &[u32] {
        &self.about_leases
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The number of a key, if any request names it.
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

fn is_about_leases(request: &Request) -> bool {
    matches!(
        request,
        Request::LeaseGrant { .. }
            | Request::LeaseRevoke { .. }
            | Request::LeaseKeepAlive { .. }
            | Request::LeaseTimeToLive { .. }
            | Request::LeaseLeases {}
            | Request::Lock { .. }
            | Request::Campaign { .. }
    )
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
        // Fewer than eight: not worth the call that copies them.
        let last = chunks.remainder().iter().rev();
        self.write_u64(last.fold(0, |last, byte| last << 8 | u64::from(*byte)));
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
