//! Snapshot files are whole or set aside, and the newest usable one is found.

use std::path::{Path, PathBuf};

use super::super::testdisk::{TestDisk, block_on};
use super::super::{Mark, Newest, SnapshotFile, SnapshotMeta, SnapshotStore};
use super::shared;
use crate::error::{Error, Result};
use crate::host::Disk;

const DIR: &str = "member/snap";

fn store(disk: &TestDisk) -> SnapshotStore {
    SnapshotStore::new(shared(disk), Path::new(DIR)).unwrap()
}

fn mark(index: u64) -> Mark {
    Mark { index, term: 1 + index / 10 }
}

fn meta(index: u64) -> SnapshotMeta {
    let members = format!("members at {index}").into_bytes();
    SnapshotMeta { mark: mark(index), conf_state: b"voters".to_vec(), has_state: true, members }
}

fn save(store: &SnapshotStore, index: u64, body: &[u8]) -> Result<()> {
    let mut writer = block_on(store.create(meta(index)))?;
    // In uneven parts, as they arrive.
    body.chunks(100_003).try_for_each(|part| writer.write(part))?;
    block_on(writer.finish())
}

fn body(file: &mut SnapshotFile) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(chunk) = file.next_chunk().unwrap() {
        body.extend_from_slice(&chunk);
    }
    body
}

fn newest(store: &SnapshotStore, indexes: &[u64]) -> Option<SnapshotFile> {
    let marks: Vec<Mark> = indexes.iter().map(|index| mark(*index)).collect();
    store.newest_usable(&marks).unwrap().file
}

fn names(disk: &TestDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap()
}

fn path(index: u64) -> PathBuf {
    Path::new(DIR).join(format!("{:016x}-{index:016x}.snap", mark(index).term))
}

/// What was written is read back, whatever its length, and again after a rewind.
#[test]
fn written_and_read() {
    let disk = TestDisk::default();
    let store = store(&disk);
    for (index, length) in [(1, 0), (2, 1), (3, 256 << 10), (4, (256 << 10) + 1), (5, 700_000)] {
        let written: Vec<u8> = (0..length).map(|place| (place / 7) as u8).collect();
        save(&store, index, &written).unwrap();
        disk.power_cut(|| false);
        let mut file = store.open(mark(index)).unwrap();
        assert_eq!(file.meta, meta(index));
        assert_eq!(file.body_bytes(), length);
        assert_eq!(body(&mut file), written);
        assert_eq!(file.next_chunk(), Ok(None));
        file.rewind();
        assert_eq!(body(&mut file), written);
    }
    assert!(matches!(store.open(mark(6)), Err(Error::Io { .. })), "there is none");
}

/// The newest one with a mark in the log is used; one newer than all marks is told of, and stays: its mark may stand
/// where the log reads wrong at the moment.
#[test]
fn newest_with_a_mark() {
    let disk = TestDisk::default();
    let store = store(&disk);
    assert!(newest(&store, &[]).is_none());
    for index in [5, 10, 20, 30] {
        save(&store, index, b"body").unwrap();
    }
    let found = store.newest_usable(&[mark(0), mark(5), mark(20)]).unwrap();
    assert_eq!(found.file.unwrap().meta, meta(20));
    assert_eq!(found.unknown, [mark(30)]);
    assert_eq!(newest(&store, &[0, 5, 30]).unwrap().meta, meta(30), "the log reads right again");
    block_on(store.discard(mark(30))).unwrap();
    let found = store.newest_usable(&[mark(0), mark(5), mark(15)]).unwrap();
    assert_eq!(found.file.unwrap().meta, meta(5));
    assert_eq!(found.unknown, [mark(20)]);
    assert_eq!(block_on(store.release(1)).unwrap(), [mark(20)]);
    assert_eq!(store.marks().unwrap(), [mark(20)]);
    assert_eq!(block_on(store.release(3)).unwrap(), [mark(20)]);
}

/// Whichever bit is flipped and wherever the file is cut, the one before is used; the damaged one stays until it is
/// set aside, and is used again if it reads right by then.
#[test]
fn damaged_ones_are_set_aside() {
    let disk = TestDisk::default();
    let store = store(&disk);
    save(&store, 1, b"old").unwrap();
    save(&store, 2, &[7; 50]).unwrap();
    let length = disk.read(&path(2)).len();
    let flips = (0..length * 8).map(|bit| (bit / 8, Some(1u8 << (bit % 8))));
    for (place, flip) in flips.chain((0..length).map(|place| (place, None))) {
        let damaged = disk.copy();
        damaged.damage(&path(2), |bytes| match flip {
            Some(bit) => bytes[place] ^= bit,
            None => bytes.truncate(place),
        });
        let store = SnapshotStore::new(shared(&damaged), Path::new(DIR)).unwrap();
        let Newest { file, damaged: found, unknown } =
            store.newest_usable(&[mark(1), mark(2)]).unwrap();
        assert_eq!(unknown, []);
        let mut file = file.unwrap();
        assert_eq!((file.meta.mark, body(&mut file)), (mark(1), b"old".to_vec()), "byte {place}");
        let [found] = &found[..] else { panic!("byte {place}: {found:?}") };
        assert_eq!(found.mark, mark(2));
        let bytes = damaged.read(&path(2));
        damaged.damage(&path(2), |bytes| bytes.clone_from(&disk.read(&path(2))));
        assert_eq!(newest(&store, &[1, 2]).unwrap().meta.mark, mark(2), "it reads right again");
        damaged.damage(&path(2), |there| *there = bytes);
        block_on(store.set_aside(found)).unwrap();
        damaged.power_cut(|| false);
        let broken = format!("{}.broken", path(2).display());
        assert!(damaged.exists(Path::new(&broken)), "{:?}", names(&damaged));
        assert!(!damaged.exists(&path(2)));
    }
    let copied = disk.copy();
    let other = disk.read(&path(1));
    copied.damage(&path(2), |bytes| *bytes = other);
    let store = SnapshotStore::new(shared(&copied), Path::new(DIR)).unwrap();
    assert_eq!(newest(&store, &[1, 2]).unwrap().meta.mark, mark(1), "another's copy");
}

/// A snapshot that cannot be read at the moment is an error, and is used once it can be read again.
#[test]
fn unreadable_ones_stay() {
    let disk = TestDisk::default();
    let store = store(&disk);
    save(&store, 1, b"old").unwrap();
    save(&store, 2, b"new").unwrap();
    disk.set_unreadable(true);
    let refused = store.newest_usable(&[mark(1), mark(2)]);
    assert!(matches!(refused, Err(Error::Io { .. })), "{:?}", refused.err());
    disk.set_unreadable(false);
    assert_eq!(newest(&store, &[1, 2]).unwrap().meta.mark, mark(2));
}

/// A file that changes after it was verified is not trusted when it is read.
#[test]
fn damaged_after_opening() {
    let disk = TestDisk::default();
    let store = store(&disk);
    save(&store, 1, &[7; 50]).unwrap();
    let mut file = newest(&store, &[1]).unwrap();
    disk.damage(&path(1), |bytes| {
        let place = bytes.len() - 20;
        bytes[place] ^= 1;
    });
    assert!(file.next_chunk().is_err() || file.next_chunk().is_err());
}

/// A crash at any step leaves the snapshot whole or not there, and the one before it untouched.
#[test]
fn crash_while_writing() {
    for steps in 0.. {
        let disk = TestDisk::default();
        let before = store(&disk);
        save(&before, 1, b"old").unwrap();
        disk.fail_after(steps, 9);
        let saved = save(&before, 2, &[7; 600_000]);
        disk.power_cut(|| steps % 2 == 0);
        let after = store(&disk);
        assert!(names(&disk).iter().all(|name| name.ends_with(".snap")), "{:?}", names(&disk));
        let mut file = newest(&after, &[1, 2]).unwrap();
        if saved.is_ok() {
            assert_eq!(file.meta.mark, mark(2));
            assert!(steps > 5, "writing a snapshot has several steps");
            break;
        }
        let expected = if file.meta.mark == mark(1) { b"old".to_vec() } else { vec![7; 600_000] };
        assert_eq!(body(&mut file), expected);
        assert!(names(&disk).iter().all(|name| !name.contains("broken")), "{:?}", names(&disk));
    }
}

/// A writer that is dropped leaves nothing; two writers of one mark do not meet.
#[test]
fn dropped_unfinished() {
    let disk = TestDisk::default();
    let store = store(&disk);
    let mut first = block_on(store.create(meta(1))).unwrap();
    let mut second = block_on(store.create(meta(1))).unwrap();
    first.write(b"first").unwrap();
    second.write(b"second").unwrap();
    block_on(second.finish()).unwrap();
    drop(first);
    assert_eq!(names(&disk).len(), 1);
    assert_eq!(body(&mut newest(&store, &[1]).unwrap()), b"second");
}
