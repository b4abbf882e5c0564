//! A plain key-value store with etcd's numbers, at one revision, that can take back what it did.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::keys::Keys;
use crate::history::KeyValue;

/// What the store holds for one key. Version 0: nothing; then `modified` and `writer` tell who removed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::checker) struct Slot<'a> {
    pub(in crate::checker) create: i64,
    pub(in crate::checker) modified: i64,
    pub(in crate::checker) version: i64,
    pub(in crate::checker) lease: i64,
    pub(in crate::checker) value: &'a [u8],
    /// Index of the operation that did it.
    pub(super) writer: u32,
}

/// No operation.
pub(super) const NOBODY: u32 = u32::MAX;

impl<'a> Slot<'a> {
    /// A key that never was.
    pub(super) const EMPTY: Self =
        Self { create: 0, modified: 0, version: 0, lease: 0, value: &[], writer: NOBODY };

    pub(in crate::checker) fn is_alive(&self) -> bool {
        self.version != 0
    }

    /// What a client must be shown; `None` for nothing.
    pub(in crate::checker) fn shown_as(&self, key: &[u8]) -> Option<KeyValue> {
        self.is_alive().then(|| KeyValue {
            key: key.into(),
            create_revision: self.create,
            mod_revision: self.modified,
            version: self.version,
            value: self.value.into(),
            lease: self.lease,
        })
    }

    /// Whether a client that was shown `kv` saw this.
    pub(super) fn is_shown_by(&self, kv: &KeyValue) -> bool {
        self.modified == kv.mod_revision
            && self.create == kv.create_revision
            && self.version == kv.version
            && self.lease == kv.lease
            && self.value == kv.value.0.as_slice()
    }
}

/// All keys at one revision.
pub(super) struct Store<'a> {
    slots: Vec<Slot<'a>>,
    /// One bit for each key: whether it exists.
    alive: Vec<u64>,
    undo: Vec<(u32, Slot<'a>)>,
    /// Every change that stands, where it was asked for: key, before, after.
    journal: Option<Vec<(u32, Slot<'a>, Slot<'a>)>>,
}

impl<'a> Store<'a> {
    pub(super) fn new(keys: &Keys<'a>) -> Self {
        Self {
            slots: vec![Slot::EMPTY; keys.len()],
            alive: vec![0; keys.len().div_ceil(64)],
            undo: Vec::new(),
            journal: None,
        }
    }

    /// From now on every change that is not taken back is written down.
    pub(super) fn keep_journal(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// What was written down, in the order of changes.
    pub(super) fn journal(&self) -> &[(u32, Slot<'a>, Slot<'a>)] {
        self.journal.as_deref().unwrap_or_default()
    }

    pub(super) fn get(&self, id: u32) -> &Slot<'a> {
        &self.slots[id as usize]
    }

    pub(super) fn set(&mut self, id: u32, slot: Slot<'a>) {
        let before = self.slots[id as usize];
        self.undo.push((id, before));
        if let Some(journal) = &mut self.journal {
            journal.push((id, before, slot));
        }
        self.place(id, slot);
    }

    fn place(&mut self, id: u32, slot: Slot<'a>) {
        let bit = 1 << (id % 64);
        if slot.is_alive() {
            self.alive[id as usize / 64] |= bit;
        } else {
            self.alive[id as usize / 64] &= !bit;
        }
        self.slots[id as usize] = slot;
    }

    /// A point to which [`Store::back_to`] can return.
    pub(super) fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Takes back everything done since the mark.
    pub(super) fn back_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            let (id, slot) = self.undo.pop().expect("longer than the mark");
            self.place(id, slot);
            if let Some(journal) = &mut self.journal {
                journal.pop();
            }
        }
    }

    /// Gives up the way back.
    pub(super) fn commit(&mut self) {
        self.undo.clear();
    }

    /// The keys written since a mark.
    pub(super) fn touched(&self, mark: usize) -> impl Iterator<Item = u32> + '_ {
        self.undo[mark..].iter().map(|(id, _)| *id)
    }

    /// How many keys each lease has won or lost since the last commit.
    pub(super) fn lease_changes(&self) -> BTreeMap<i64, i64> {
        let mut changes = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (id, old) in self.undo.iter().filter(|(id, _)| seen.insert(*id)) {
            *changes.entry(old.lease).or_default() -= 1;
            *changes.entry(self.get(*id).lease).or_default() += 1;
        }
        changes.remove(&0);
        changes
    }

    /// The existing keys among `span`, in order.
    pub(super) fn alive_in(&self, span: Range<u32>) -> impl Iterator<Item = u32> + '_ {
        let (start, end) = (span.start as usize, span.end as usize);
        let words = if start < end { start / 64..(end - 1) / 64 + 1 } else { 0..0 };
        words.flat_map(move |word| {
            let mut bits = self.word(word, start, end);
            std::iter::from_fn(move || {
                (bits != 0).then(|| {
                    let bit = bits.trailing_zeros();
                    bits &= bits - 1;
                    word as u32 * 64 + bit
                })
            })
        })
    }

    /// How many keys among `span` exist.
    pub(super) fn count_in(&self, span: Range<u32>) -> i64 {
        let (start, end) = (span.start as usize, span.end as usize);
        if start >= end {
            return 0;
        }
        let words = start / 64..(end - 1) / 64 + 1;
        words.map(|word| i64::from(self.word(word, start, end).count_ones())).sum()
    }

    /// The bits of one word that lie within `start..end`.
    fn word(&self, word: usize, start: usize, end: usize) -> u64 {
        let mut bits = self.alive[word];
        if word == start / 64 {
            bits &= u64::MAX << (start % 64);
        }
        if word == (end - 1) / 64 && !end.is_multiple_of(64) {
            bits &= u64::MAX >> (64 - end % 64);
        }
        bits
    }
}
