//! Mends what a power cut may leave of RocksDB's manifest, where RocksDB itself would refuse to open.
//!
//! RocksDB keeps the list of its tables in `MANIFEST-<number>`, a log, and the name of the one that counts in
//! `CURRENT`. Each open, and now and then a flush, begins a new one (`VersionSet::ProcessManifestWrites` and
//! `SetCurrentFile` in RocksDB's source): the file is made, written and synced; its name is written aside, synced and
//! renamed to `CURRENT`; the folder is synced; the old one is removed. That is right where a file system keeps the
//! order of names, and of lengths and data. Where it keeps none, two states are left that RocksDB does not take:
//!
//! **The rename survived, the new manifest's name did not.** The manifest before it is the right one:
//! * It is there: its own name was durable since the folder's sync that made it count, and it is removed after the
//!   folder's next sync, which did not happen.
//! * It is whole: each change in it was synced before the next was begun, and nothing was written to it since the new
//!   one was begun.
//! * Nothing that depends on the new one has happened: logs and tables that only the old one needs are removed after
//!   that sync too. Opening it is the same as opening after a power cut a little earlier.
//! * It is the newest that is there. Older ones may be (their removal was not durable), and their numbers are lower.
//!   A higher number would be that of a manifest that was begun and never counted, left by a power cut; its tables
//!   may be gone. What it holds does not give it away: it may be whole. So none is left to choose:
//!   [`remove_unfinished`] removes those, durably, before RocksDB is opened for writing, and an open begins a second
//!   one only once the first counts.
//!
//! The first manifest of all has none before it. Where `CURRENT` names it, it is not there, and there is neither a
//! table nor a log, the database was being made and held nothing: `CURRENT` is removed, and it is made again.
//!
//! **A record is torn, and the new length survived.** RocksDB takes a file that ends within a record; it refuses one
//! whose end is zeros, for the checksum is wrong. The rule is that of `wal/tail.rs`: what is missing of an unsynced
//! write is whole sectors, and they are zeros. The file is cut behind its last whole record if
//! * the first record that is wrong reads as zeros from its beginning, or from the beginning of a sector within it,
//! * and so does all that follows, up to the end of the file.
//!
//! A flush appends a record for each column family, and syncs. Where the first of them is cut, none of the flush is
//! left; where the second is, RocksDB passes over the first, as they are one group.
//!
//! Invariants:
//! * Nothing is changed unless it is exactly one of these states: a wrong bit, a zero sector with something behind it,
//!   a `CURRENT` that cannot be read, a manifest that is gone together with the one before: RocksDB is left to refuse.
//! * Each change is durable before the next; one that a power cut interrupts leaves the same state, or a mended one.
//!
//! Not here: what the records say (RocksDB reads them right after), its own log (its recovery stops at what is torn,
//! see the module above), and its other files. `IDENTITY` is made again where it is missing, empty or another's
//! (`DBImpl::SetupDBId`); `OPTIONS-<number>` is written and never read; a table's name is durable before a manifest
//! names it, both after a flush and while a log is recovered. Nor can a synced last record be told from a torn one,
//! if it is damaged and its last bytes are zeros from the beginning of a sector on.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::{Disk, File, OpenMode};

const CURRENT: &str = "CURRENT";
const PREFIX: &str = "MANIFEST-";

/// The number of the manifest that a new database begins with (`DBImpl::NewDB`).
const FIRST: u64 = 1;

/// Longer than any name of a manifest.
const CURRENT_BYTES_MAX: usize = 64;

/// Bytes that a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// RocksDB's log is written in blocks, over whose ends no fragment of a record goes (`db/log_format.h`).
const BLOCK_BYTES: usize = 32 << 10;

/// Before each fragment: masked CRC32C of kind and data (4 bytes), length of the data (2), kind (1); little endian.
const HEAD_BYTES: usize = 7;

/// Kinds of fragments.
const FULL: u8 = 1;
const BEGIN: u8 = 2;
const MIDDLE: u8 = 3;
const END: u8 = 4;

/// What was cut off a manifest.
#[derive(Debug)]
pub struct Cut {
    path: PathBuf,
    offset: u64,
    bytes: Vec<u8>,
}

impl Cut {
    /// Makes the manifest as it was, where it is still there: what looked torn may have been a write that the disk has
    /// lost, and may be found again.
    ///
    /// # Errors
    /// The disk's.
    pub async fn undo(self, disk: &dyn Disk) -> Result<()> {
        if !disk.exists(&self.path) {
            return Ok(());
        }
        let failed = |e| Error::io("put back the end of the manifest", &self.path, e);
        let file = disk.open(&self.path, OpenMode::Write).map_err(failed)?;
        file.write_all_at(&self.bytes, self.offset).map_err(failed)?;
        file.sync().await.map_err(failed)
    }
}

/// Makes the database in `dir` one that RocksDB can open, if nothing but a power cut is in the way. What was cut off is
/// to be put back where the start fails all the same.
///
/// # Errors
/// The disk's.
pub async fn repair(disk: &dyn Disk, dir: &Path) -> Result<Option<Cut>> {
    let Some(named) = current(disk, dir)? else { return Ok(None) };
    let there = numbers(disk, dir)?;
    if there.contains(&named) {
        return cut(disk, &dir.join(name(named))).await;
    }
    match there.last() {
        None if named == FIRST => unmake(disk, dir).await.map(|()| None),
        Some(&before) if before < named => go_back(disk, dir, named, before).await,
        _ => Ok(None),
    }
}

/// Removes manifests that were begun after the one that counts, and that no database ever began with.
///
/// To be called before each open for writing, once nothing that is known speaks against what `CURRENT` says.
///
/// # Errors
/// The disk's.
pub async fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let Some(named) = current(disk, dir)? else { return Ok(()) };
    let there = numbers(disk, dir)?;
    if !there.contains(&named) || there.last() == Some(&named) {
        return Ok(());
    }
    for number in there.into_iter().filter(|number| *number > named) {
        let path = dir.join(name(number));
        disk.remove(&path).map_err(|e| Error::io("remove the unfinished manifest", &path, e))?;
    }
    sync_dir(disk, dir).await
}

/// The name of the manifest with a number (`file/filename.cc`).
fn name(number: u64) -> String {
    format!("{PREFIX}{number:06}")
}

/// The number in the name of a manifest.
fn number(file: &str) -> Option<u64> {
    let number = file.strip_prefix(PREFIX)?.parse().ok()?;
    (name(number) == file).then_some(number)
}

/// The numbers of all manifests, in order.
fn numbers(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>> {
    let mut numbers: Vec<u64> = list(disk, dir)?.iter().filter_map(|file| number(file)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>> {
    disk.list(dir).map_err(|e| Error::io("list the backend", dir, e))
}

async fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    disk.sync_dir(dir).await.map_err(|e| Error::io("sync the folder", dir, e))
}

/// The number of the manifest that counts; `None` where there is no `CURRENT`, or none that RocksDB would write.
fn current(disk: &dyn Disk, dir: &Path) -> Result<Option<u64>> {
    let path = dir.join(CURRENT);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let failed = |e| Error::io("read the name of the manifest", &path, e);
    let file = disk.open(&path, OpenMode::Read).map_err(failed)?;
    let mut bytes = [0; CURRENT_BYTES_MAX];
    let count = fill(&*file, &mut bytes, 0).map_err(failed)?;
    let text = std::str::from_utf8(&bytes[..count]).ok();
    Ok(text.and_then(|text| text.strip_suffix('\n')).and_then(number))
}

/// Lets RocksDB make a database again that was never made.
async fn unmake(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let holds = |file: &String| file.ends_with(".sst") || file.ends_with(".log");
    if list(disk, dir)?.iter().any(holds) {
        return Ok(());
    }
    tracing::warn!("{}: a database was being made when the power went", dir.display());
    let path = dir.join(CURRENT);
    disk.remove(&path).map_err(|e| Error::io("remove the name of no manifest", &path, e))?;
    sync_dir(disk, dir).await
}

/// Makes the manifest `before` count again, as `named` has no name.
async fn go_back(disk: &dyn Disk, dir: &Path, named: u64, before: u64) -> Result<Option<Cut>> {
    let manifest = dir.join(name(before));
    if !matches!(examine(disk, &manifest)?, Found { whole: 1.., end: Ending::Whole | Ending::Torn })
    {
        return Ok(None);
    }
    tracing::warn!(
        "{}: {} was not yet there when the power went, {} is",
        dir.display(),
        name(named),
        name(before)
    );
    // As RocksDB names it: it removes what is left of such a file.
    let aside = dir.join(format!("{before:06}.dbtmp"));
    let failed = |e| Error::io("write the name of the manifest", &aside, e);
    let file = disk.open(&aside, OpenMode::Create).map_err(failed)?;
    file.write_all_at(format!("{}\n", name(before)).as_bytes(), 0).map_err(failed)?;
    file.sync().await.map_err(failed)?;
    disk.rename(&aside, &dir.join(CURRENT)).map_err(failed)?;
    sync_dir(disk, dir).await?;
    cut(disk, &manifest).await
}

/// Cuts a torn record off. There is none at the beginning: a manifest is synced before it counts.
async fn cut(disk: &dyn Disk, path: &Path) -> Result<Option<Cut>> {
    let Found { whole: whole @ 1.., end: Ending::Torn } = examine(disk, path)? else {
        return Ok(None);
    };
    tracing::warn!("{}: a torn record at offset {whole} is cut off", path.display());
    let failed = |e| Error::io("cut a torn record off the manifest", path, e);
    let file = disk.open(path, OpenMode::Write).map_err(failed)?;
    let torn_bytes = file.length().map_err(failed)? - whole;
    let mut bytes = vec![0; usize::try_from(torn_bytes).expect("it fits into memory")];
    let read = fill(&*file, &mut bytes, whole).map_err(failed)?;
    bytes.truncate(read);
    file.set_length(whole).map_err(failed)?;
    file.sync().await.map_err(failed)?;
    Ok(Some(Cut { path: path.to_path_buf(), offset: whole, bytes }))
}

/// What a manifest looks like.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// Where the last whole record ends.
    whole: u64,
    end: Ending,
}

/// What follows the last whole record.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// Nothing, or a record that the file ends within: RocksDB takes it.
    Whole,
    /// A record of which a power cut has taken sectors.
    Torn,
    /// Anything else.
    Damaged,
}

/// Reads a manifest as RocksDB does (`db/log_reader.cc`).
fn examine(disk: &dyn Disk, path: &Path) -> Result<Found> {
    let failed = |e| Error::io("read the manifest", path, e);
    let file = disk.open(path, OpenMode::Read).map_err(failed)?;
    let mut block = vec![0; BLOCK_BYTES];
    let (mut start, mut whole, mut is_within) = (0, 0, false);
    loop {
        let count = fill(&*file, &mut block, start).map_err(failed)?;
        let mut at = 0;
        while let Some(head) = Head::read(&block[at..count]) {
            let end = at + head.frame_bytes();
            if end > count && count < BLOCK_BYTES {
                return Ok(Found { whole, end: Ending::Whole });
            }
            if end > count || !head.fits(&block[at..end]) {
                let is_torn = is_torn(&*file, start + at as u64, &head).map_err(failed)?;
                return Ok(Found {
                    whole,
                    end: if is_torn { Ending::Torn } else { Ending::Damaged },
                });
            }
            at = end;
            match (head.kind, is_within) {
                (FULL, false) | (END, true) => (whole, is_within) = (start + at as u64, false),
                (BEGIN, false) | (MIDDLE, true) => is_within = true,
                _ => return Ok(Found { whole, end: Ending::Damaged }),
            }
        }
        if count < BLOCK_BYTES {
            return Ok(Found { whole, end: Ending::Whole });
        }
        start += count as u64;
    }
}

/// Whether a power cut has taken the sectors that a wrong fragment lacks, and all behind them.
fn is_torn(file: &dyn File, at: u64, head: &Head) -> io::Result<bool> {
    let data_end = data_end(file, at)?;
    let zeros = data_end.next_multiple_of(SECTOR_BYTES);
    let is_missing = zeros < file.length()?;
    // A head that is torn itself says nothing about the end.
    let is_in_head = zeros < at + HEAD_BYTES as u64;
    Ok(data_end == at || is_missing && (is_in_head || zeros < at + head.frame_bytes() as u64))
}

/// Where the zeros begin that a file ends with; `from` where there is nothing else behind it.
fn data_end(file: &dyn File, from: u64) -> io::Result<u64> {
    let mut block = vec![0; BLOCK_BYTES];
    let (mut start, mut end) = (from, from);
    loop {
        let count = fill(file, &mut block, start)?;
        if let Some(last) = block[..count].iter().rposition(|byte| *byte != 0) {
            end = start + last as u64 + 1;
        }
        if count < BLOCK_BYTES {
            return Ok(end);
        }
        start += count as u64;
    }
}

/// Reads until the buffer is full or the file ends: how much was read.
fn fill(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// What stands before a fragment of a record.
struct Head {
    checksum: u32,
    length: usize,
    kind: u8,
}

impl Head {
    /// `None` where there is no room for one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, d, low, high, kind] = bytes.first_chunk::<HEAD_BYTES>()?;
        let length = usize::from(u16::from_le_bytes([low, high]));
        Some(Self { checksum: u32::from_le_bytes([a, b, c, d]), length, kind })
    }

    /// Bytes of the fragment with its head.
    fn frame_bytes(&self) -> usize {
        HEAD_BYTES + self.length
    }

    /// Whether the frame is what was written. The checksum is masked (`util/crc32c.h`).
    fn fits(&self, frame: &[u8]) -> bool {
        let masked = crc32c::crc32c(&frame[6..]).rotate_right(15).wrapping_add(0xa282_ead8);
        self.checksum == masked
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "files are changed behind the storage's back")]

    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::host::os::OsHost;
    use crate::host::{Backend, Host};
    use crate::storage::testing::{Folder, storage};
    use crate::storage::{Family, Storage, StorageOptions};

    /// Long keys: a manifest holds the first and the last key of each table, and so each flush goes over sectors.
    const KEY_BYTES: usize = 700;

    fn put(store: &Storage, first: u8) {
        let mut batch = store.batch();
        for family in Family::ALL {
            batch.put(family, &[first; KEY_BYTES], b"");
        }
        store.write(batch).unwrap();
        store.sync().unwrap();
    }

    /// The first bytes of all keys, which are the same in both families.
    fn keys(folder: &Folder) -> Vec<u8> {
        let store = storage(folder);
        let [meta, key] = Family::ALL.map(|family| {
            let mut cursor = store.cursor();
            cursor.seek(family, &[]).unwrap();
            std::iter::from_fn(|| cursor.next(family, |key, _| Ok(key[0])).unwrap()).collect()
        });
        let (meta, key): (Vec<u8>, Vec<u8>) = (meta, key);
        assert_eq!(meta, key);
        key
    }

    fn opens(folder: &Folder) -> bool {
        let options = StorageOptions::default();
        Storage::open_read_only(Backend::default(), folder.path(), options).is_ok()
    }

    fn read(folder: &Folder, file: &str) -> Vec<u8> {
        fs::read(folder.path().join(file)).unwrap()
    }

    fn write(folder: &Folder, file: &str, bytes: &[u8]) {
        fs::write(folder.path().join(file), bytes).unwrap();
    }

    fn current_name(folder: &Folder) -> String {
        String::from_utf8(read(folder, CURRENT)).unwrap().trim_end().to_owned()
    }

    fn all(folder: &Folder) -> BTreeMap<std::ffi::OsString, Vec<u8>> {
        let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name(), fs::read(file.path()).unwrap())).collect()
    }

    async fn repaired(folder: &Folder) -> Option<Cut> {
        repair(&*OsHost::new().disk(), folder.path()).await.unwrap()
    }

    /// A folder that must be left as it is, and that RocksDB does not open.
    async fn refused(folder: &Folder, what: &str) {
        let before = all(folder);
        repaired(folder).await;
        assert!(before == all(folder), "{what}: something was changed");
        assert!(!opens(folder), "{what}: it opens");
    }

    /// A database just before a new manifest counted, `CURRENT` as it was afterwards, the new manifest without a name;
    /// and the number of the old one.
    fn renamed_too_early() -> (Folder, u64) {
        let folder = Folder::new();
        let store = storage(&folder);
        put(&store, b'a');
        store.defragment().unwrap();
        put(&store, b'b');
        drop(store);
        let before = folder.copy();
        drop(storage(&folder));
        let old = number(&current_name(&before)).unwrap();
        write(&before, CURRENT, &read(&folder, CURRENT));
        assert_ne!(current_name(&before), name(old));
        (before, old)
    }

    /// Where the name of the newest manifest was lost, the one before counts again, and nothing is missing.
    #[tokio::test]
    async fn a_manifest_without_a_name() {
        let (folder, old) = renamed_too_early();
        let older = folder.copy();
        // One whose removal was not durable.
        write(&older, &name(old - 1), b"of old");
        for folder in [folder, older] {
            assert!(!opens(&folder), "RocksDB needs no help");
            repaired(&folder).await;
            assert_eq!(current_name(&folder), name(old));
            assert_eq!(keys(&folder), b"ab");
        }
    }

    /// What a power cut does not leave is not mended: no older manifest, a newer or damaged one, half a name.
    #[tokio::test]
    async fn other_manifests_without_a_name() {
        let (folder, old) = renamed_too_early();
        let copy = folder.copy();
        fs::remove_file(copy.path().join(name(old))).unwrap();
        refused(&copy, "no other manifest").await;
        let copy = folder.copy();
        write(&copy, &name(999_999), &read(&folder, &name(old)));
        refused(&copy, "a newer manifest").await;
        let copy = folder.copy();
        let mut bytes = read(&folder, &name(old));
        bytes[20] ^= 1;
        write(&copy, &name(old), &bytes);
        refused(&copy, "a damaged manifest").await;
        write(&copy, &name(old), b"");
        refused(&copy, "an empty manifest").await;
        let copy = folder.copy();
        write(&copy, CURRENT, b"MANIFEST-0001");
        refused(&copy, "half a name").await;
    }

    /// A database whose making was cut off is made again, unless there is anything in it.
    #[tokio::test]
    async fn a_database_that_was_being_made() {
        let folder = Folder::new();
        write(&folder, CURRENT, b"MANIFEST-000001\n");
        let other = folder.copy();
        write(&other, "000004.log", b"");
        refused(&other, "a log").await;
        assert!(!opens(&folder), "RocksDB needs no help");
        repaired(&folder).await;
        assert_eq!(keys(&folder), b"");
    }

    /// Only manifests that were begun after the one that counts are removed.
    #[tokio::test]
    async fn unfinished_manifests() {
        let folder = Folder::new();
        put(&storage(&folder), b'a');
        let counts = number(&current_name(&folder)).unwrap();
        for number in [counts - 1, counts + 1, counts + 7] {
            write(&folder, &name(number), b"");
        }
        remove_unfinished(&*OsHost::new().disk(), folder.path()).await.unwrap();
        let left = numbers(&*OsHost::new().disk(), folder.path()).unwrap();
        assert_eq!(left, [counts - 1, counts]);
        assert_eq!(keys(&folder), b"a");
    }

    /// A database just before a flush; its manifest; and the same file with what the flush appended.
    fn flushed() -> (Folder, String, Vec<u8>) {
        let folder = Folder::new();
        let store = storage(&folder);
        put(&store, b'a');
        put(&store, b'b');
        let (before, manifest) = (folder.copy(), current_name(&folder));
        store.defragment().unwrap();
        drop(store);
        let bytes = read(&folder, &manifest);
        assert!(bytes.starts_with(&read(&before, &manifest)));
        (before, manifest, bytes)
    }

    /// From whichever sector on a flush's records are zeros, they are cut off, and nothing is missing; or put back.
    #[tokio::test]
    async fn torn_records() {
        let (folder, manifest, bytes) = flushed();
        let begin = read(&folder, &manifest).len();
        let end = Family::ALL
            .iter()
            .fold(begin, |at, _| at + Head::read(&bytes[at..]).unwrap().frame_bytes());
        let sectors: Vec<usize> = (begin + 1..end).filter(|at| at.is_multiple_of(512)).collect();
        assert!(sectors.len() > 3, "the records go over sectors: {sectors:?}");
        let mut refused = 0;
        for sector in sectors {
            let copy = folder.copy();
            let torn = [&bytes[..sector], &vec![0; end - sector]].concat();
            write(&copy, &manifest, &torn);
            refused += usize::from(!opens(&copy));
            for is_put_back in [true, false] {
                let cut = repaired(&copy).await.unwrap();
                let left = read(&copy, &manifest);
                assert!(left.len() < torn.len() && torn.starts_with(&left), "from {sector} on");
                if is_put_back {
                    cut.undo(&*OsHost::new().disk()).await.unwrap();
                    assert!(read(&copy, &manifest) == torn, "from {sector} on");
                }
            }
            assert_eq!(keys(&copy), b"ab", "from {sector} on");
        }
        assert!(refused > 3, "RocksDB needs no help");
    }

    /// A wrong bit is never taken for a torn record, nor is a lost sector with something behind it, nor a file of zeros.
    #[tokio::test]
    async fn rot() {
        let (folder, manifest, bytes) = flushed();
        let check = async |damaged: Vec<u8>, what: &str| {
            write(&folder, &manifest, &damaged);
            repaired(&folder).await;
            assert!(read(&folder, &manifest) == damaged, "{what}: something was changed");
        };
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            check(damaged, &format!("a bit of byte {at}")).await;
        }
        for at in (0..bytes.len() - 512).step_by(512) {
            let mut damaged = bytes.clone();
            damaged[at..at + 512].fill(0);
            check(damaged, &format!("the sector at {at}")).await;
        }
        check(vec![0; bytes.len()], "zeros").await;
    }
}
