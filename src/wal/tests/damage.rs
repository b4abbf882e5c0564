//! Torn writes are cut off, damage is refused, and neither is taken for the other.

use std::path::{Path, PathBuf};

use super::super::record::{Batch, Head, Record};
use super::super::recover::replay;
use super::super::testdisk::{Dice, TestDisk, block_on};
use super::super::{Entry, HardState, Mark, Wal, segment};
use super::{DIR, METADATA, corrupt_file, create, entry, files, hard_state, marks, open, recover};

const SEGMENT_BYTES: u64 = 8192;

/// A log with one synced append, followed by one of three entries that is not synced.
fn half_synced(data: &[u8]) -> (TestDisk, PathBuf, usize, usize) {
    let disk = TestDisk::default();
    let mut wal = create(&disk, SEGMENT_BYTES).unwrap();
    wal.append(&[entry(1, 1, "synced")], hard_state(1, 1, 0)).unwrap();
    block_on(wal.sync()).unwrap();
    let path = files(&disk).remove(0);
    let from = data_end(&disk, &path);
    let entries: Vec<Entry> = (2..5).map(|index| entry(index, 2, data)).collect();
    wal.append(&entries, hard_state(2, 2, 1)).unwrap();
    let to = data_end(&disk, &path);
    (disk, path, from, to)
}

fn data_end(disk: &TestDisk, path: &Path) -> usize {
    disk.read(path).iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Payloads that are hard to tell from what is on an empty disk, and plain ones.
fn payloads() -> Vec<Vec<u8>> {
    let mut dice = Dice(1);
    let random = (0..900).map(|_| dice.next() as u8).collect();
    vec![Vec::new(), vec![0; 900], vec![0xFF; 900], vec![0xA5; 530], random]
}

/// However few bytes of the last write arrived, the log opens without that write, and with
/// nothing behind its end.
#[test]
fn torn_at_each_byte() {
    for data in payloads() {
        let (disk, path, from, to) = half_synced(&data);
        for cut in from..=to {
            let torn = disk.copy();
            torn.damage(&path, |bytes| bytes[cut..].fill(0));
            let recovered = recover(&torn, SEGMENT_BYTES).unwrap();
            let whole = cut == to;
            assert_eq!(recovered.entries.len(), if whole { 4 } else { 1 }, "cut at {cut}");
            assert_eq!(recovered.hard_state.term, if whole { 2 } else { 1 }, "cut at {cut}");
            let repair = recovered.repaired.map(|repair| repair.offset as usize);
            assert_eq!(repair, (!whole && cut > from).then_some(from), "cut at {cut}");
            torn.power_cut(|| false);
            assert_eq!(data_end(&torn, &path), if whole { to } else { from }, "cut at {cut}");
            assert_eq!(torn.read(&path).len() as u64, SEGMENT_BYTES, "cut at {cut}");
        }
    }
}

/// Whichever sectors of the last write arrived, the log opens without that write.
#[test]
fn torn_in_each_set_of_sectors() {
    for data in payloads() {
        let (disk, _, from, to) = half_synced(&data);
        let sectors = to.div_ceil(512) - from / 512;
        for set in 0..1u32 << sectors {
            let torn = disk.copy_unsynced();
            let mut next = 0;
            torn.power_cut(|| {
                // Nothing but sectors is unsynced here; the length is asked for first.
                next += 1;
                next > 1 && set >> (next - 2) & 1 == 1
            });
            let recovered = recover(&torn, SEGMENT_BYTES).unwrap();
            let whole = set + 1 == 1 << sectors;
            assert_eq!(recovered.entries.len(), if whole { 4 } else { 1 }, "set {set:b}");
        }
    }
}

/// A log over several segments, all of it synced.
fn synced(appends: u64) -> TestDisk {
    let disk = TestDisk::default();
    let mut wal = create(&disk, 600).unwrap();
    for index in 1..=appends {
        let data = vec![if index % 2 == 0 { 0 } else { index as u8 }; 37 * index as usize];
        wal.append(&[entry(index, index / 3, data)], hard_state(index, 1, index - 1)).unwrap();
        block_on(wal.sync()).unwrap();
    }
    disk
}

/// A flipped bit anywhere in what was synced is refused, in the right file, or changes nothing.
#[test]
fn each_flipped_bit() {
    for appends in [1, 4, 9] {
        let disk = synced(appends);
        let expected = recover(&disk.copy(), 600).unwrap();
        assert_eq!(expected.entries.len() as u64, appends);
        let mut refused = 0;
        for path in files(&disk) {
            let data = data_end(&disk, &path);
            for bit in 0..disk.read(&path).len() * 8 {
                let flipped = disk.copy();
                flipped.damage(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
                match recover(&flipped, 600) {
                    Ok(recovered) => {
                        assert!(bit / 8 >= data, "{} byte {}", path.display(), bit / 8);
                        assert_eq!(recovered.entries, expected.entries);
                        assert_eq!(recovered.hard_state, expected.hard_state);
                    }
                    Err(error) => {
                        refused += 1;
                        assert_eq!(corrupt_file(&error), Some(&*path), "{error}");
                    }
                }
            }
        }
        assert!(refused > 0, "no flip was refused");
    }
}

/// A sector lost from a synced write is refused as soon as anything was written after it.
#[test]
fn each_lost_sector() {
    for data in payloads() {
        let disk = TestDisk::default();
        let mut wal = create(&disk, SEGMENT_BYTES).unwrap();
        let entries: Vec<Entry> = (1..4).map(|index| entry(index, 1, &data)).collect();
        wal.append(&entries, hard_state(1, 1, 0)).unwrap();
        block_on(wal.sync()).unwrap();
        let path = files(&disk).remove(0);
        let synced = data_end(&disk, &path);
        wal.append(&[], hard_state(1, 1, 1)).unwrap();
        for sector in 0..=(synced - 1) / 512 {
            let lost = disk.copy();
            let part = sector * 512..((sector + 1) * 512).min(synced);
            lost.damage(&path, |bytes| bytes[part].fill(0));
            let error = recover(&lost, SEGMENT_BYTES).unwrap_err();
            assert_eq!(corrupt_file(&error), Some(&*path), "sector {sector}");
        }
    }
}

/// A file that is missing, empty, or another's copy is refused.
#[test]
fn exchanged_files() {
    let disk = synced(9);
    let all = files(&disk);
    assert!(all.len() > 3, "{all:?}");
    for place in 0..all.len() {
        for other in 0..all.len() {
            let exchanged = disk.copy();
            let content = disk.read(&all[other]);
            exchanged.damage(&all[place], |bytes| *bytes = content);
            let result = recover(&exchanged, 600);
            assert_eq!(result.is_ok(), place == other, "{place} {other}");
        }
        let emptied = disk.copy();
        emptied.damage(&all[place], Vec::clear);
        assert!(corrupt_file(&recover(&emptied, 600).unwrap_err()).is_some(), "{place}");
        if place + 1 < all.len() {
            let removed = disk.copy();
            crate::host::Disk::remove(&removed, &all[place]).unwrap();
            assert!(corrupt_file(&recover(&removed, 600).unwrap_err()).is_some(), "{place}");
        }
    }
}

/// An index behind which there is no other is refused, whatever its checksum says. A record that goes on where the file
/// ends is torn, and not waited for.
#[test]
fn impossible_records() {
    let with = |record: Record, missing_bytes: usize| {
        let disk = TestDisk::default();
        drop(create(&disk, SEGMENT_BYTES).unwrap());
        let segments = segment::list(&disk, Path::new(DIR)).unwrap();
        let replay = replay(&disk, &segments, 0).unwrap();
        let mut batch = Batch::new(Vec::new(), replay.tail, replay.rolling);
        batch.push(&record, true);
        disk.damage(&segments[0].path, |bytes| {
            bytes.truncate(replay.tail as usize);
            bytes.extend_from_slice(&batch.bytes[..batch.bytes.len() - missing_bytes]);
        });
        recover(&disk, SEGMENT_BYTES)
    };
    let last = u64::MAX;
    for record in [Record::Entry(entry(last, 1, "x")), Record::Mark(Mark { index: last, term: 1 })]
    {
        let error = with(record, 0).unwrap_err().to_string();
        assert!(error.contains("an index that no log comes to"), "{error}");
    }
    let large = || Record::Entry(entry(1, 0, vec![7; 900]));
    let torn = with(large(), 8).unwrap();
    assert!(torn.entries.is_empty() && torn.repaired.is_some(), "{torn:?}");
    assert_eq!(with(large(), 0).unwrap().entries.len(), 1);
}

/// An opening that no writer makes is refused: a commit index or a term that the entries before it contradict.
#[test]
fn impossible_openings() {
    let with = |last: Mark, state: HardState| {
        let disk = TestDisk::default();
        drop(create(&disk, SEGMENT_BYTES).unwrap());
        let path = files(&disk).remove(0);
        let first = format!("{:016x}-{:016x}.wal", 0, last.index + 1);
        crate::host::Disk::rename(&disk, &path, &Path::new(DIR).join(first)).unwrap();
        let mut batch = Batch::new(Vec::new(), 0, 0);
        batch.push(&Record::Head(Head { previous: 0, sequence: 0, last }), false);
        batch.push(&Record::Metadata(METADATA.to_vec()), false);
        batch.push(&Record::HardState(state), true);
        disk.damage(&files(&disk)[0], |bytes| *bytes = batch.bytes);
        marks(&disk).map_err(|error| error.to_string())
    };
    let state = |term, commit| HardState { term, vote: 0, commit };
    assert!(with(Mark { index: 5, term: 2 }, state(2, 5)).is_ok());
    for (last, state) in [
        (Mark { index: 5, term: 3 }, state(2, 5)),
        (Mark { index: 5, term: 2 }, state(2, 6)),
        (Mark { index: 0, term: 1 }, state(1, 0)),
    ] {
        let error = with(last, state).unwrap_err();
        assert!(error.contains("contradicts itself"), "{last:?} {state:?} {error}");
    }
}

/// Records that were cut off do not come back, even where the next write ends where they began.
#[test]
fn old_records_stay_away() {
    let (disk, path, from, to) = half_synced(&[9; 40]);
    // The first of the three entries lost its end; the two behind it are whole.
    disk.damage(&path, |bytes| bytes[from..from.next_multiple_of(512).min(to)].fill(0));
    let (mut wal, recovered): (Wal, _) =
        open(&disk, super::Mark::default(), SEGMENT_BYTES).unwrap();
    assert_eq!(recovered.entries.len(), 1);
    wal.append(&[entry(2, 1, [9; 40])], None).unwrap();
    block_on(wal.sync()).unwrap();
    drop(wal);
    disk.power_cut(|| false);
    let recovered = recover(&disk, SEGMENT_BYTES).unwrap();
    let terms: Vec<u64> = recovered.entries.iter().map(|entry| entry.term).collect();
    assert_eq!(terms, [1, 1]);
}
