//! The log as raft-rs reads it: entries in memory since the last compaction, on top of a truncated prefix.
//!
//! Invariants:
//! * Every entry here is in the write-ahead log; what raft-rs counts as persisted has also been synced.
//! * Indexes are contiguous: `truncated.index + 1` up to `last_index`.
//! * `truncated.index <= applied.index <= last_index`.
//! * `conf_state` is the one at `applied.index`.
//!
//! Not here: the bodies of snapshots. [`LogStore::snapshot`] gives metadata at the applied index;
//! `snapshot.rs` attaches the state when the message leaves.

use std::collections::VecDeque;

use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::wal;

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The entry's index.
    pub(super) index: u64,
    /// The entry's term.
    pub(super) term: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LogStore {
    hard_state: HardState,
    conf_state: ConfState,
    /// The entry just before the first one kept.
    truncated: Place,
    entries: VecDeque<Entry>,
    applied: Place,
}

impl LogStore {
    /// A log whose prefix up to `truncated` is gone and applied.
    pub(super) fn new(truncated: Place, conf_state: ConfState) -> Self {
        Self { truncated, applied: truncated, conf_state, ..Self::default() }
    }

    /// What raft-rs starts with.
    pub(super) fn set_hard_state(&mut self, hard_state: wal::HardState) {
        let wal::HardState { term, vote, commit } = hard_state;
        self.hard_state = HardState { term, vote, commit, ..HardState::default() };
    }

    /// The index of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.entries.back().map_or(self.truncated.index, |entry| entry.index)
    }

    /// The index of the first entry kept (one above the last where none is).
    pub(super) fn first(&self) -> u64 {
        self.truncated.index + 1
    }

    /// What has been applied to the state machine.
    pub(super) fn applied(&self) -> Place {
        self.applied
    }

    /// The configuration at the applied index.
    pub(super) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// The term of an entry, where it is known.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        let offset = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(offset).ok()?).map(|entry| entry.term)
    }

    /// Appends entries, replacing what is at and above the first one's index.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        assert!(
            first > self.applied.index,
            "entry {first} would replace one that is applied ({})",
            self.applied.index
        );
        assert!(first <= self.last() + 1, "gap in the log: {} then {first}", self.last());
        let keep = usize::try_from(first - self.first()).expect("the log fits into memory");
        self.entries.truncate(keep);
        for entry in entries {
            assert_eq!(entry.index, self.last() + 1, "gap within appended entries");
            self.entries.push_back(entry);
        }
    }

    /// The entries above what is applied, up to `last`.
    pub(super) fn unapplied(&self, last: u64) -> impl Iterator<Item = &Entry> {
        let applied = self.applied.index;
        self.entries.iter().filter(move |entry| entry.index > applied && entry.index <= last)
    }

    /// Notes that the state machine has applied up to `place`.
    pub(super) fn applied_to(&mut self, place: Place) {
        assert!(
            place.index >= self.applied.index && place.term >= self.applied.term,
            "applied goes back: {:?} then {place:?}",
            self.applied
        );
        assert!(place.index <= self.last(), "applied {place:?} is past the log ({})", self.last());
        self.applied = place;
    }

    /// Notes a new configuration, as of the entry being applied.
    pub(super) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Replaces the whole log by an installed snapshot.
    pub(super) fn install(&mut self, metadata: &SnapshotMetadata) {
        let place = Place { index: metadata.index, term: metadata.term };
        assert!(
            place.index >= self.applied.index,
            "snapshot {place:?} is behind what is applied ({:?})",
            self.applied
        );
        self.entries.clear();
        self.truncated = place;
        self.applied = place;
        self.conf_state = metadata.get_conf_state().clone();
    }

    /// Forgets the entries up to and including `index`; never what is not applied.
    pub(super) fn compact(&mut self, index: u64) {
        let index = index.min(self.applied.index);
        let Some(term) = self.term_at(index) else { return };
        let drop = usize::try_from(index + 1 - self.first()).expect("the log fits into memory");
        self.entries.drain(..drop);
        self.entries.shrink_to(2 * self.entries.len());
        self.truncated = Place { index, term };
    }
}

impl Storage for LogStore {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last() + 1,
            "entries up to {high} asked of a log up to {}",
            self.last()
        );
        let limit = max_size.into().unwrap_or(u64::MAX);
        let skip = usize::try_from(low - self.first()).expect("the log fits into memory");
        let take = usize::try_from(high - low).expect("the log fits into memory");
        let mut size: u64 = 0;
        let within = |entry: &&Entry| {
            // The first entry always fits: raft-rs must be able to go on.
            let first = size == 0;
            size += u64::from(entry.compute_size()).max(1);
            first || size <= limit
        };
        Ok(self.entries.range(skip..skip + take).take_while(within).cloned().collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        match self.term_at(index) {
            Some(term) => Ok(term),
            None if index < self.first() => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        if self.applied.index < request_index || self.applied.index == 0 {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied.index;
        metadata.term = self.applied.term;
        metadata.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![b'x'; 10].into(), ..Entry::default() }
    }

    /// A log truncated at (2, term 1) that holds 3 to 6.
    fn log() -> LogStore {
        let mut log =
            LogStore::new(Place { index: 2, term: 1 }, ConfState::from((vec![1], vec![])));
        log.append(vec![entry(3, 1), entry(4, 2), entry(5, 2), entry(6, 3)]);
        log
    }

    fn indexes(log: &LogStore) -> Vec<(u64, u64)> {
        log.entries.iter().map(|entry| (entry.index, entry.term)).collect()
    }

    /// Terms are known from the truncated entry to the last one.
    #[test]
    fn terms() {
        let check = |index, expected| assert_eq!(log().term(index), expected, "index {index}");
        check(1, Err(Error::Store(StorageError::Compacted)));
        check(2, Ok(1));
        check(3, Ok(1));
        check(6, Ok(3));
        check(7, Err(Error::Store(StorageError::Unavailable)));
    }

    /// A size limit cuts the answer, but never below one entry.
    #[test]
    fn entries_within_a_size() {
        let one = u64::from(entry(3, 1).compute_size());
        let check = |low, high, limit: Option<u64>, expected: &[u64]| {
            let got = log().entries(low, high, limit, GetEntriesContext::empty(false)).unwrap();
            let got: Vec<u64> = got.iter().map(|entry| entry.index).collect();
            assert_eq!(got, expected, "[{low}, {high}) within {limit:?}");
        };
        check(3, 7, None, &[3, 4, 5, 6]);
        check(4, 6, None, &[4, 5]);
        check(4, 4, None, &[]);
        check(3, 7, Some(0), &[3]);
        check(3, 7, Some(one), &[3]);
        check(3, 7, Some(2 * one), &[3, 4]);
        check(3, 7, Some(3 * one - 1), &[3, 4]);
        let gone = log().entries(2, 4, None, GetEntriesContext::empty(false));
        assert_eq!(gone, Err(Error::Store(StorageError::Compacted)));
    }

    /// Appending replaces a conflicting tail and keeps what precedes it.
    #[test]
    fn append_replaces_the_tail() {
        let check = |appended: &[(u64, u64)], expected: &[(u64, u64)]| {
            let mut log = log();
            log.append(appended.iter().map(|&(index, term)| entry(index, term)).collect());
            assert_eq!(indexes(&log), expected, "after appending {appended:?}");
        };
        check(&[], &[(3, 1), (4, 2), (5, 2), (6, 3)]);
        check(&[(7, 3)], &[(3, 1), (4, 2), (5, 2), (6, 3), (7, 3)]);
        check(&[(5, 4), (6, 4)], &[(3, 1), (4, 2), (5, 4), (6, 4)]);
        check(&[(3, 4)], &[(3, 4)]);
    }

    /// A gap, or an entry in place of an applied one, is a bug and stops the member.
    #[test]
    fn impossible_appends() {
        let check = |index: u64, words: &str| {
            let mut log = log();
            log.applied_to(Place { index: 4, term: 2 });
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                log.append(vec![entry(index, 9)]);
            }))
            .unwrap_err();
            let text = panic.downcast_ref::<String>().expect("a formatted message");
            assert!(text.contains(words), "{text}");
        };
        check(8, "gap in the log: 6 then 8");
        check(4, "entry 4 would replace one that is applied (4)");
    }

    /// Compaction keeps the term of the last entry it takes, and stops at what is applied.
    #[test]
    fn compaction() {
        let check = |to: u64, first: u64, kept: &[(u64, u64)]| {
            let mut log = log();
            log.applied_to(Place { index: 5, term: 2 });
            log.compact(to);
            assert_eq!((log.first(), indexes(&log)), (first, kept.to_vec()), "compacted to {to}");
            assert!(log.term(first - 1).is_ok(), "the term before the first entry is kept");
        };
        check(1, 3, &[(3, 1), (4, 2), (5, 2), (6, 3)]);
        check(2, 3, &[(3, 1), (4, 2), (5, 2), (6, 3)]);
        check(4, 5, &[(5, 2), (6, 3)]);
        check(9, 6, &[(6, 3)]);
    }

    /// A snapshot describes the applied index, and waits where more was asked for.
    #[test]
    fn snapshots() {
        let mut log = log();
        log.applied_to(Place { index: 5, term: 2 });
        let snapshot = log.snapshot(5, 9).unwrap();
        assert_eq!((snapshot.get_metadata().index, snapshot.get_metadata().term), (5, 2));
        assert_eq!(snapshot.get_metadata().get_conf_state().voters, [1]);
        let later = log.snapshot(6, 9);
        assert_eq!(later, Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable)));
        let mut metadata = snapshot.get_metadata().clone();
        (metadata.index, metadata.term) = (9, 4);
        log.install(&metadata);
        assert_eq!((log.first(), log.last(), log.term_at(9)), (10, 9, Some(4)));
    }
}
