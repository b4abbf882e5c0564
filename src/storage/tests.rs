//! What the storage promises, on a real RocksDB.
#![allow(clippy::disallowed_methods, reason = "files are damaged behind the storage's back")]

use super::testing::{Folder, storage};
use super::{Family, Storage, StorageOptions};
use crate::host::Backend;

fn keys(storage: &Storage, family: Family) -> Vec<Vec<u8>> {
    let mut cursor = storage.cursor();
    cursor.seek(family, &[]).unwrap();
    let mut keys = Vec::new();
    while let Some(key) = cursor.next(family, |key, _| Ok(key.to_vec())).unwrap() {
        keys.push(key);
    }
    keys
}

/// The place in RocksDB's log is known to the byte, whatever the lengths of batches, and over flushes and reopens.
#[test]
fn place_in_the_log() {
    let folder = Folder::new();
    let mut store = storage(&folder);
    let mut number: usize = 1;
    for step in 0..400_u32 {
        // Lengths of all sorts, some over a block.
        number =
            number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = (number >> 33) % if step % 20 == 0 { 40_000 } else { 700 };
        let mut batch = store.batch();
        batch.put(Family::Key, &step.to_be_bytes(), &vec![b'x'; length]);
        store.write(batch).unwrap();
        let logs = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        let newest = logs.filter(|path| path.extension().is_some_and(|it| it == "log")).max();
        let length = std::fs::metadata(newest.expect("a log")).unwrap().len();
        assert_eq!(store.database.log_place() as u64, length, "after {step} batches");
        if step == 300 {
            drop(store);
            store = storage(&folder);
        }
    }
}

/// A batch over both families is there after a reopen, and so is what a cursor saw before a later
/// batch.
#[test]
fn batches_and_cursors() {
    let folder = Folder::new();
    let store = storage(&folder);
    let mut batch = store.batch();
    batch.put(Family::Meta, b"m", b"1");
    batch.put(Family::Key, b"a", b"2");
    batch.put(Family::Key, b"b", b"3");
    store.write(batch).unwrap();
    let mut before = store.cursor();
    let mut batch = store.batch();
    batch.delete_range(Family::Key, b"a", b"b");
    batch.put(Family::Key, b"c", b"4");
    store.write(batch).unwrap();
    assert_eq!(keys(&store, Family::Key), [b"b", b"c"]);
    before.seek(Family::Key, b"").unwrap();
    let first = before.next(Family::Key, |key, value| Ok((key.to_vec(), value.to_vec()))).unwrap();
    assert_eq!(first, Some((b"a".to_vec(), b"2".to_vec())));
    drop((before, store));
    let store = storage(&folder);
    assert_eq!(keys(&store, Family::Key), [b"b", b"c"]);
    assert_eq!(store.get(Family::Meta, b"m").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(store.get(Family::Meta, b"a").unwrap(), None);
}

/// Whatever is cut off RocksDB's own log, and whichever byte of it is broken, what is left is a
/// prefix of the batches, the same in both families.
#[test]
fn torn_log_leaves_a_prefix() {
    let folder = Folder::new();
    let store = storage(&folder);
    for number in 0..20_u8 {
        let mut batch = store.batch();
        batch.put(Family::Key, &[number], &[number; 2500]);
        batch.put(Family::Meta, b"newest", &[number]);
        store.write(batch).unwrap();
        if number == 5 {
            store.flush().unwrap();
        }
    }
    // No background job may change the folder while it is copied.
    drop(store);
    let log = newest_log(&folder);
    let bytes = std::fs::read(folder.path().join(&log)).unwrap();
    assert!(bytes.len() > 32 << 10, "more than one block of RocksDB's log");
    let mut lengths = std::collections::BTreeSet::new();
    let mut check = |damaged: &[u8], what: &str| {
        let copy = folder.copy();
        std::fs::write(copy.path().join(&log), damaged).unwrap();
        let store = storage(&copy);
        let keys = keys(&store, Family::Key);
        let expected: Vec<_> = (0..keys.len() as u8).map(|number| vec![number]).collect();
        assert_eq!(keys, expected, "{what}");
        let newest = store.get(Family::Meta, b"newest").unwrap();
        assert_eq!(newest.as_deref(), keys.last().map(|key| &key[..]), "{what}");
        lengths.insert(keys.len());
    };
    for at in (0..bytes.len()).step_by(577) {
        check(&bytes[..at], &format!("cut at {at}"));
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        check(&broken, &format!("broken at {at}"));
    }
    assert!(lengths.len() > 5, "the damage took different batches: {lengths:?}");
}

/// Looking at a database shows what opening it would drop, and changes nothing: once the disk reads right again, all of
/// it is there.
#[test]
fn looking_changes_nothing() {
    let folder = Folder::new();
    let store = storage(&folder);
    for number in 0..20_u8 {
        let mut batch = store.batch();
        batch.put(Family::Key, &[number], &[number; 100]);
        store.write(batch).unwrap();
    }
    store.sync().unwrap();
    drop(store);
    let log = folder.path().join(newest_log(&folder));
    let bytes = std::fs::read(&log).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    std::fs::write(&log, &damaged).unwrap();
    let options = StorageOptions::default();
    let looked_at = Storage::open_read_only(Backend::default(), folder.path(), options).unwrap();
    let seen = keys(&looked_at, Family::Key).len();
    assert!((1..20).contains(&seen), "{seen} of 20");
    let mut batch = looked_at.batch();
    batch.put(Family::Key, b"more", b"");
    assert!(looked_at.write(batch).is_err(), "it is for reading");
    drop(looked_at);
    assert_eq!(std::fs::read(&log).unwrap(), damaged);
    std::fs::write(&log, &bytes).unwrap();
    assert_eq!(keys(&storage(&folder), Family::Key).len(), 20);
}

/// Memtables are written out as batches add up, and never before the log that they came from is
/// synced: a power cut that takes whatever was not synced never leaves a hole between two files of
/// the log.
#[test]
fn a_new_log_file_begins_after_a_sync() {
    let folder = Folder::new();
    let jobs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&jobs);
    let run_background_jobs = std::sync::Arc::new(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let backend = Backend { run_background_jobs, ..Backend::default() };
    let options = StorageOptions { write_buffer_bytes: 64 << 10, block_cache_bytes: 1 << 20 };
    let store = Storage::open(backend, folder.path(), options).unwrap();
    let mut calls = Vec::new();
    let mut logs = vec![newest_log(&folder)];
    for number in 0..200_u8 {
        let mut batch = store.batch();
        batch.put(Family::Key, &[number], &[number; 1000]);
        // And one sync before the log goes on in another block.
        let crosses = super::block::crosses(store.database.log_place(), batch.size_bytes());
        let before = jobs.load(std::sync::atomic::Ordering::Relaxed);
        store.write(batch).unwrap();
        calls.push(jobs.load(std::sync::atomic::Ordering::Relaxed) - before);
        let log = newest_log(&folder);
        if logs.last() != Some(&log) {
            logs.push(log);
            // The write, the sync, the flush.
            assert_eq!(calls.last(), Some(&(3 + usize::from(crosses))), "write {number}");
        } else {
            assert_eq!(calls.last(), Some(&(1 + usize::from(crosses))), "write {number}");
        }
    }
    assert_eq!(logs.len(), 1 + 200 * 1000 / (64 << 10), "files of the log: {logs:?}");
    assert_eq!(keys(&store, Family::Key).len(), 200);
    assert!(store.size().unwrap().total > 0);
}

fn newest_log(folder: &Folder) -> std::ffi::OsString {
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().unwrap().file_name().unwrap().to_owned()
}
