//! The key index: for each key, in which revisions it lived and died.
//!
//! A key's life is a list of generations. A put on a missing key begins one, each further put adds
//! a revision, a tombstone closes it:
//!
//! ```text
//! put(2.0) put(5.0) tombstone(6.0) put(8.0)   →   [2.0 5.0 6.0†] [8.0]
//! ```
//!
//! The index holds no values; a value is read from the database by its revision.
//!
//! Invariants:
//! * No generation is empty, all but the last are closed, and revisions only grow.
//! * A revision is in the index exactly if its row belongs to the state. During a compaction the
//!   database may still hold rows that the index has dropped, never the other way round.
//! * Answers for any revision at or above the compact revision do not depend on how far the
//!   compaction is.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::revision::Revision;

/// What a request's `key` and `range_end` select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyRange<'a> {
    /// One key.
    Single(&'a [u8]),
    /// All keys from the first up to, not including, the second.
    Span(&'a [u8], &'a [u8]),
    /// All keys from this one on.
    From(&'a [u8]),
}

/// Where a range begins and ends in a map.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl<'a> KeyRange<'a> {
    /// etcd's rule: no end is a single key, the end `\0` is "and all that follow".
    pub(super) fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::Single(key),
            [0] => Self::From(key),
            _ => Self::Span(key, range_end),
        }
    }

    /// The bounds of it in a map; `None` where it is empty.
    fn bounds(self) -> Option<Bounds<'a>> {
        match self {
            Self::Single(key) => Some((Bound::Included(key), Bound::Included(key))),
            Self::Span(start, end) if start >= end => None,
            Self::Span(start, end) => Some((Bound::Included(start), Bound::Excluded(end))),
            Self::From(start) => Some((Bound::Included(start), Bound::Unbounded)),
        }
    }
}

/// A key as it was at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its last change.
    pub(super) modified: Revision,
    /// The put that began its generation.
    pub(super) created: Revision,
    /// Puts since then, that one included.
    pub(super) version: i64,
}

/// One life of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Generation {
    created: Revision,
    /// Changes so far, compacted ones included.
    version: i64,
    /// Changes that are not compacted; the last is the tombstone if `closed`.
    revisions: Vec<Revision>,
    closed: bool,
}

impl Generation {
    fn first(&self) -> Revision {
        *self.revisions.first().expect("no generation is empty")
    }

    fn last(&self) -> Revision {
        *self.revisions.last().expect("no generation is empty")
    }

    /// Position behind the last change at or before `main`.
    fn upto(&self, main: i64) -> usize {
        self.revisions.partition_point(|revision| revision.main <= main)
    }
}

/// All lives of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    generations: Vec<Generation>,
}

impl History {
    /// The key as it was at `main`.
    pub(super) fn at(&self, main: i64) -> Option<Found> {
        let generation = self.generations.iter().rev().find(|each| each.first().main <= main)?;
        if generation.closed && generation.last().main <= main {
            return None;
        }
        let end = generation.upto(main);
        let later = (generation.revisions.len() - end) as i64;
        Some(Found {
            modified: generation.revisions[end - 1],
            created: generation.created,
            version: generation.version - later,
        })
    }

    fn is_live(&self) -> bool {
        self.generations.last().is_some_and(|generation| !generation.closed)
    }

    fn newest(&self) -> Option<Revision> {
        self.generations.last().map(Generation::last)
    }

    fn put(&mut self, revision: Revision) -> Found {
        assert!(self.newest() < Some(revision), "revisions of a key only grow");
        match self.generations.last_mut() {
            Some(generation) if !generation.closed => {
                generation.revisions.push(revision);
                generation.version += 1;
                let Generation { created, version, .. } = *generation;
                Found { modified: revision, created, version }
            }
            _ => {
                let revisions = vec![revision];
                let generation =
                    Generation { created: revision, version: 1, revisions, closed: false };
                self.generations.push(generation);
                Found { modified: revision, created: revision, version: 1 }
            }
        }
    }

    fn tombstone(&mut self, revision: Revision) {
        assert!(self.newest() < Some(revision), "revisions of a key only grow");
        let generation = self.generations.last_mut().filter(|generation| !generation.closed);
        let generation = generation.expect("only a live key is deleted");
        generation.revisions.push(revision);
        generation.version += 1;
        generation.closed = true;
    }

    /// What a compaction at `main` leaves: the first generation that stays, and in it the first
    /// revision.
    ///
    /// That revision is the newest one at or before `main`, even where it is a tombstone (as etcd
    /// since 3.5.16).
    fn cut(&self, main: i64) -> (usize, usize) {
        let dead = |generation: &&Generation| generation.closed && generation.last().main < main;
        let first = self.generations.iter().take_while(dead).count();
        let kept = self.generations.get(first).map_or(0, |each| each.upto(main).saturating_sub(1));
        (first, kept)
    }

    /// Drops what a compaction at `main` drops, at most `limit` revisions, oldest first, and tells
    /// each as (revision, whether it is a tombstone). Returns how many were dropped.
    pub(super) fn compact(
        &mut self,
        main: i64,
        limit: usize,
        mut drop: impl FnMut(Revision, bool),
    ) -> usize {
        let (dead, kept) = self.cut(main);
        let mut left = limit;
        let mut emptied = 0;
        for (position, generation) in self.generations.iter_mut().take(dead + 1).enumerate() {
            let all = if position < dead { generation.revisions.len() } else { kept };
            let count = all.min(left);
            let last = generation.revisions.len() - 1;
            for (place, revision) in generation.revisions.drain(..count).enumerate() {
                drop(revision, generation.closed && place == last);
            }
            left -= count;
            emptied += usize::from(generation.revisions.is_empty());
        }
        self.generations.drain(..emptied);
        limit - left
    }

    /// The revision that a compaction at `main` would leave as the oldest, and whether it is a
    /// tombstone; `None` if there is none at or before `main`.
    pub(super) fn kept(&self, main: i64) -> Option<(Revision, bool)> {
        let (first, kept) = self.cut(main);
        let generation = self.generations.get(first)?;
        let revision = generation.revisions[kept];
        let tombstone = generation.closed && kept == generation.revisions.len() - 1;
        (revision.main <= main).then_some((revision, tombstone))
    }

    /// For tests: the revisions of each generation, and whether the last one is a tombstone.
    #[cfg(test)]
    pub(super) fn generations(&self) -> impl Iterator<Item = (&[Revision], bool)> {
        self.generations.iter().map(|each| (&each.revisions[..], each.closed))
    }

    /// The revisions at or before `main` that a compaction at `main` leaves.
    pub(super) fn kept_all(&self, main: i64) -> impl Iterator<Item = Revision> + '_ {
        let (first, kept) = self.cut(main);
        let tail = self.generations.iter().skip(first).enumerate();
        tail.flat_map(move |(place, each)| &each.revisions[if place == 0 { kept } else { 0 }..])
            .copied()
            .take_while(move |revision| revision.main <= main)
    }
}

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Box<[u8]>, History>,
}

impl Index {
    /// A key as it was at `main`.
    pub(super) fn get(&self, key: &[u8], main: i64) -> Option<Found> {
        self.keys.get(key)?.at(main)
    }

    /// Visits the keys of a range that lived at `main`, in key order.
    pub(super) fn visit(
        &self,
        range: KeyRange<'_>,
        main: i64,
        mut visit: impl FnMut(&[u8], Found),
    ) {
        if let KeyRange::Single(key) = range {
            if let Some(found) = self.get(key, main) {
                visit(key, found);
            }
            return;
        }
        let Some(bounds) = range.bounds() else { return };
        for (key, history) in self.keys.range::<[u8], _>(bounds) {
            if let Some(found) = history.at(main) {
                visit(key, found);
            }
        }
    }

    /// Records a put; returns the key as it now is.
    pub(super) fn put(&mut self, key: &[u8], revision: Revision) -> Found {
        let history = match self.keys.get_mut(key) {
            Some(history) => history,
            // The key is copied: a slice of the request would keep the whole request in memory.
            None => self.keys.entry(key.into()).or_default(),
        };
        history.put(revision)
    }

    /// Deletes the living keys of a range: `delete` is told each key and says the revision it dies
    /// at.
    pub(super) fn delete(
        &mut self,
        range: KeyRange<'_>,
        mut delete: impl FnMut(&[u8]) -> Revision,
    ) {
        let Some(bounds) = range.bounds() else { return };
        for (key, history) in self.keys.range_mut::<[u8], _>(bounds) {
            if history.is_live() {
                let revision = delete(key);
                history.tombstone(revision);
            }
        }
    }

    /// Takes up a row of the database, while the index is rebuilt. Rows come in the order of
    /// revisions. What was compacted before the first row of a key is known from the row: when it
    /// was created, and its version. Of a tombstone it is not known, and nobody can ask.
    pub(super) fn restore(
        &mut self,
        key: &[u8],
        revision: Revision,
        tombstone: bool,
        created_version: (i64, i64),
    ) -> Result<(), &'static str> {
        let history = match self.keys.get_mut(key) {
            Some(history) => history,
            None => self.keys.entry(key.into()).or_default(),
        };
        if history.newest() >= Some(revision) {
            return Err("its revision is not above the ones before it");
        }
        match (history.is_live(), tombstone) {
            (true, true) => history.tombstone(revision),
            (true, false) => {
                history.put(revision);
            }
            (false, _) => {
                let (main, version) = if tombstone { (0, 1) } else { created_version };
                let created = Revision { main, sub: 0 };
                let revisions = vec![revision];
                let generation = Generation { created, version, revisions, closed: tombstone };
                history.generations.push(generation);
            }
        }
        Ok(())
    }

    /// All keys with their histories.
    pub(super) fn histories(&self) -> impl Iterator<Item = (&[u8], &History)> {
        self.keys.iter().map(|(key, history)| (&**key, history))
    }

    /// The first key at or after `key`, and its history to change.
    pub(super) fn next_mut(&mut self, key: &[u8]) -> Option<(&[u8], &mut History)> {
        let bounds = (Bound::Included(key), Bound::Unbounded);
        self.keys.range_mut::<[u8], _>(bounds).next().map(|(key, history)| (&**key, history))
    }

    /// Forgets a key if a compaction has left nothing of it.
    pub(super) fn forget_empty(&mut self, key: &[u8]) {
        if self.keys.get(key).is_some_and(|history| history.generations.is_empty()) {
            self.keys.remove(key);
        }
    }

    /// Number of keys, dead ones with a tombstone included.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing;
#[cfg(test)]
mod tests;
