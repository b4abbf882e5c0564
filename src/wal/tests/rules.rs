//! What the log accepts, what it refuses, and what it keeps.

use std::path::Path;

use super::super::testdisk::{TestDisk, block_on};
use super::super::{Entry, HardState, Mark, Wal};
use super::{corrupt_file, create, entry, files, hard_state, marks, open, recover};
use crate::error::Error;
use crate::host::Disk;

const SEGMENT_BYTES: u64 = 4096;

fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    indexes.map(|index| entry(index, term, format!("{index}@{term}"))).collect()
}

fn mark(index: u64, term: u64) -> Mark {
    Mark { index, term }
}

/// A synced log with entries 1 to 5 of term 2, of which 3 are committed; voted for 9.
fn log(disk: &TestDisk) -> Wal {
    let mut wal = create(disk, SEGMENT_BYTES).unwrap();
    wal.append(&entries(1..=5, 2), hard_state(2, 9, 3)).unwrap();
    block_on(wal.sync()).unwrap();
    wal
}

/// After `append`, a crash that loses nothing: terms of all entries, and the hard state.
fn check(append: impl FnOnce(&mut Wal), terms: &[u64], state: Option<HardState>) {
    let disk = TestDisk::default();
    append(&mut log(&disk));
    let recovered = recover(&disk, SEGMENT_BYTES).unwrap();
    assert_eq!(recovered.entries.iter().map(|entry| entry.term).collect::<Vec<_>>(), terms);
    let indexes: Vec<u64> = recovered.entries.iter().map(|entry| entry.index).collect();
    assert_eq!(indexes, (1..=terms.len() as u64).collect::<Vec<_>>());
    assert_eq!(Some(recovered.hard_state), state);
}

/// The log refuses `append` with a sentence that contains `why`, and everything after it.
fn check_refused(append: impl FnOnce(&mut Wal) -> crate::error::Result<()>, why: &str) {
    let disk = TestDisk::default();
    let mut wal = log(&disk);
    let before = disk.read(&files(&disk)[0]);
    let error = append(&mut wal).unwrap_err();
    assert!(matches!(&error, Error::Fatal(text) if text.contains(why)), "{error}");
    assert_eq!(disk.read(&files(&disk)[0]), before, "nothing was written");
    assert_eq!(wal.append(&entries(6..=6, 2), None).unwrap_err(), error);
    assert_eq!(block_on(wal.sync()).unwrap_err(), error);
}

/// Entries at the end are added; entries at a lower index replace all from there on.
#[test]
fn appends() {
    check(|_| {}, &[2; 5], hard_state(2, 9, 3));
    check(|wal| wal.append(&entries(6..=7, 2), None).unwrap(), &[2; 7], hard_state(2, 9, 3));
    check(|wal| wal.append(&[], hard_state(3, 0, 5)).unwrap(), &[2; 5], hard_state(3, 0, 5));
    check(|wal| wal.append(&[], None).unwrap(), &[2; 5], hard_state(2, 9, 3));
    let overwrite = |wal: &mut Wal| wal.append(&entries(4..=4, 3), hard_state(3, 0, 4)).unwrap();
    check(overwrite, &[2, 2, 2, 3], hard_state(3, 0, 4));
    let same = |wal: &mut Wal| wal.append(&entries(4..=6, 2), None).unwrap();
    check(same, &[2; 6], hard_state(2, 9, 3));
}

/// What raft forbids is refused before it is written.
#[test]
fn refusals() {
    check_refused(|wal| wal.append(&entries(7..=7, 2), None), "a gap");
    check_refused(|wal| wal.append(&entries(3..=6, 2), None), "3 is committed");
    check_refused(|wal| wal.append(&entries(6..=6, 1), None), "the one before 2");
    check_refused(|wal| wal.append(&entries(6..=6, 3), None), "the hard state only 2");
    check_refused(|wal| wal.append(&[], hard_state(1, 0, 3)), "term goes back");
    check_refused(|wal| wal.append(&[], hard_state(2, 8, 3)), "vote of term 2 changes");
    check_refused(|wal| wal.append(&[], hard_state(2, 9, 2)), "commit goes back");
    check_refused(|wal| wal.append(&[], hard_state(2, 9, 6)), "beyond the last entry");
    check_refused(|wal| wal.append_mark(mark(3, 1)), "snapshot of entry 3 has term 1");
    let holes = [entry(6, 2, ""), entry(8, 2, "")];
    check_refused(|wal| wal.append(&holes, None), "entry 8 follows entry 6");
    let large = [entry(6, 2, vec![1; 64 << 20])];
    check_refused(|wal| wal.append(&large, None), "67108864 bytes");
}

/// A mark counts once its index is committed; the empty log's always does.
#[test]
fn marks_count_when_committed() {
    let disk = TestDisk::default();
    let mut wal = log(&disk);
    wal.append_mark(mark(2, 2)).unwrap();
    wal.append_mark(mark(5, 2)).unwrap();
    block_on(wal.sync()).unwrap();
    assert_eq!(marks(&disk).unwrap(), [mark(0, 0), mark(2, 2)]);
    wal.append(&[], hard_state(2, 9, 5)).unwrap();
    assert_eq!(marks(&disk).unwrap(), [mark(0, 0), mark(2, 2), mark(5, 2)]);
    for (from, count) in [(mark(0, 0), 5), (mark(2, 2), 3), (mark(5, 2), 0)] {
        assert_eq!(open(&disk, from, SEGMENT_BYTES).unwrap().1.entries.len(), count);
    }
    let Err(error) = open(&disk, mark(3, 2), SEGMENT_BYTES) else { panic!("no such mark") };
    assert_eq!(corrupt_file(&error), Some(Path::new("member/wal")), "{error}");
}

/// A snapshot from the leader replaces the log when its index is committed, not before.
#[test]
fn foreign_snapshot() {
    for (at, committed) in [(20, 20), (20, 21), (4, 4), (5, 6)] {
        let disk = TestDisk::default();
        let mut wal = log(&disk);
        let foreign = mark(at, 4);
        wal.append_mark(foreign).unwrap();
        block_on(wal.sync()).unwrap();
        drop(wal);
        // A crash between mark and hard state: the old log is still there, and goes on.
        let (_, recovered) = open(&disk.copy(), mark(0, 0), SEGMENT_BYTES).unwrap();
        assert_eq!(recovered.entries, entries(1..=5, 2));
        assert_eq!(marks(&disk).unwrap(), [mark(0, 0)]);

        let (mut wal, _) = open(&disk, mark(0, 0), SEGMENT_BYTES).unwrap();
        let after = if committed > at { entries(at + 1..=at + 1, 4) } else { Vec::new() };
        wal.append(&after, hard_state(4, 0, committed)).unwrap();
        let (_, recovered) = open(&disk, foreign, SEGMENT_BYTES).unwrap();
        assert_eq!(recovered.entries, after, "{at} {committed}");
        let Err(error) = open(&disk, mark(0, 0), SEGMENT_BYTES) else { panic!("a gap") };
        assert!(corrupt_file(&error).is_some(), "{error}");
    }
}

/// A snapshot that was never taken over does not disturb a log that reaches its index by itself.
#[test]
fn abandoned_snapshot() {
    let disk = TestDisk::default();
    let mut wal = log(&disk);
    wal.append_mark(mark(7, 4)).unwrap();
    wal.append(&entries(4..=6, 3), hard_state(4, 0, 3)).unwrap();
    wal.append(&entries(7..=9, 4), hard_state(4, 0, 8)).unwrap();
    let (_, recovered) = open(&disk, mark(0, 0), SEGMENT_BYTES).unwrap();
    assert_eq!(recovered.entries.len(), 9);
    let (_, recovered) = open(&disk, mark(7, 4), SEGMENT_BYTES).unwrap();
    assert_eq!(recovered.entries, entries(8..=9, 4));
}

/// A log of 60 entries over several segments, the first 50 committed.
fn long_log(disk: &TestDisk) -> Wal {
    let mut wal = create(disk, 600).unwrap();
    for index in 1..=60 {
        wal.append(&entries(index..=index, 1), hard_state(1, 1, (index - 1).min(50))).unwrap();
        block_on(wal.sync()).unwrap();
    }
    wal
}

/// Segments below the newest mark go; the one with the entry after it stays, and the log opens.
#[test]
fn release() {
    let disk = TestDisk::default();
    let mut wal = long_log(&disk);
    let all = files(&disk);
    block_on(wal.release_below(50)).unwrap();
    assert_eq!(files(&disk), all, "without a mark nothing can be released");
    wal.append_mark(mark(30, 1)).unwrap();
    wal.append_mark(mark(55, 1)).unwrap();
    block_on(wal.sync()).unwrap();
    for (index, newest) in [(29, 0), (30, 30), (60, 30)] {
        block_on(wal.release_below(index)).unwrap();
        let left = files(&disk);
        assert_eq!(left.len() < all.len(), newest > 0, "{index}");
        let kept = &all[all.len() - left.len()..];
        assert_eq!(left, kept);
        let (_, recovered) = open(&disk.copy(), mark(newest, newest.min(1)), 600).unwrap();
        assert_eq!(recovered.entries.len() as u64, 60 - newest);
    }
    wal.append(&entries(61..=61, 1), hard_state(1, 1, 61)).unwrap();
    block_on(wal.release_below(61)).unwrap();
    let (_, recovered) = open(&disk, mark(55, 1), 600).unwrap();
    assert_eq!(recovered.entries, entries(56..=61, 1));
}

/// Releasing makes durable what it relies on: a power cut right after it costs nothing.
#[test]
fn release_syncs_first() {
    let disk = TestDisk::default();
    let mut wal = long_log(&disk);
    wal.append_mark(mark(50, 1)).unwrap();
    let all = files(&disk);
    block_on(wal.release_below(50)).unwrap();
    drop(wal);
    disk.power_cut(|| false);
    assert!(files(&disk).len() < all.len());
    assert_eq!(open(&disk, mark(50, 1), 600).unwrap().1.entries, entries(51..=60, 1));
}

/// A crash at any step of releasing leaves a log that opens.
#[test]
fn crash_while_releasing() {
    let disk = TestDisk::default();
    let mut wal = long_log(&disk);
    wal.append_mark(mark(50, 1)).unwrap();
    block_on(wal.sync()).unwrap();
    drop(wal);
    for steps in 0.. {
        let crashed = disk.copy();
        let (mut wal, _) = open(&crashed, mark(50, 1), 600).unwrap();
        crashed.fail_after(steps, 0);
        let released = block_on(wal.release_below(50));
        for keep in [true, false] {
            let after = crashed.copy_unsynced();
            after.power_cut(|| keep);
            assert_eq!(open(&after, mark(50, 1), 600).unwrap().1.entries, entries(51..=60, 1));
        }
        if released.is_ok() {
            assert!(steps > 4, "several segments were released");
            break;
        }
    }
}

/// A crash at any step of making a log, or of beginning a segment, leaves a log that opens or none.
#[test]
fn crash_while_creating() {
    for steps in 0.. {
        let disk = TestDisk::default();
        disk.fail_after(steps, 7);
        let created = create(&disk, 600);
        disk.power_cut(|| steps % 2 == 0);
        if Wal::exists(&disk, Path::new(super::DIR)).unwrap() {
            assert_eq!(recover(&disk, 600).unwrap().metadata, super::METADATA);
        } else {
            assert!(created.is_err());
            create(&disk, 600).unwrap();
        }
        assert!(files(&disk).iter().all(|path| !path.ends_with(".tmp")), "{:?}", files(&disk));
        if created.is_ok() {
            assert!(steps > 4, "making a log has several steps");
            break;
        }
    }
}

/// A failed write or sync makes the log refuse everything, even when the disk works again.
#[test]
fn failure_is_final() {
    for short_bytes in [0, 30] {
        let disk = TestDisk::default();
        let mut wal = log(&disk);
        disk.fail_after(0, short_bytes);
        let error = wal.append(&entries(6..=6, 2), None).unwrap_err();
        disk.restart();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert_eq!(wal.append(&entries(6..=6, 2), None).unwrap_err(), error);
        assert_eq!(wal.append_mark(mark(1, 2)).unwrap_err(), error);
        assert_eq!(block_on(wal.sync()).unwrap_err(), error);
        assert_eq!(block_on(wal.release_below(1)).unwrap_err(), error);
        assert_eq!(recover(&disk, SEGMENT_BYTES).unwrap().entries.len(), 5);
    }
    let disk = TestDisk::default();
    let mut wal = log(&disk);
    wal.append(&entries(6..=6, 2), None).unwrap();
    disk.fail_after(0, 0);
    let error = block_on(wal.sync()).unwrap_err();
    disk.restart();
    assert_eq!(block_on(wal.sync()).unwrap_err(), error);
    assert_eq!(wal.append(&entries(7..=7, 2), None).unwrap_err(), error);
}

/// A log is not made twice, and none is found where there is none.
#[test]
fn exists() {
    let disk = TestDisk::default();
    let dir = Path::new(super::DIR);
    assert_eq!(Wal::exists(&disk, dir), Ok(false));
    assert!(recover(&disk, 600).is_err());
    drop(create(&disk, 600).unwrap());
    assert_eq!(Wal::exists(&disk, dir), Ok(true));
    assert!(matches!(create(&disk, 600), Err(Error::Io { .. })));
    assert_eq!(disk.list(dir).unwrap().len(), 1);
}

/// A log that cannot be listed, or lacks a segment in the middle, is not taken for none: nothing is made in its place.
#[test]
fn a_broken_log_is_a_log() {
    let disk = TestDisk::default();
    let dir = Path::new(super::DIR);
    let mut wal = log(&disk);
    for index in 6..=300 {
        wal.append(&entries(index..=index, 2), None).unwrap();
        block_on(wal.sync()).unwrap();
    }
    drop(wal);
    let names = files(&disk);
    assert!(names.len() >= 3, "{names:?}");
    disk.remove(&names[1]).unwrap();
    assert!(matches!(Wal::exists(&disk, dir), Err(Error::Corrupt { .. })));
    assert!(matches!(create(&disk, SEGMENT_BYTES), Err(Error::Corrupt { .. })));
    assert_eq!(files(&disk).len(), names.len() - 1);
}
