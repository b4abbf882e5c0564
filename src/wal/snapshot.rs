//! The folder of snapshot files: written aside, kept by number, broken ones set aside.
//!
//! Invariants:
//! * A file named `.snap` is complete and durable, unless the disk has damaged it since.
//! * Nothing of a file is used before all of it has been verified.
//! * A snapshot newer than every mark in the log was never part of the log: a crash came before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Mark;
use super::snapshot_file::{Encoder, SnapshotFile, SnapshotMeta};
use crate::error::{Error, Result};
use crate::host::{Disk, File, OpenMode};

/// Ending of a complete snapshot.
const SUFFIX: &str = ".snap";
/// Part of the name of a snapshot that is being written.
const TEMPORARY: &str = ".snap.tmp";
/// Ending that is added to a damaged one.
const BROKEN_SUFFIX: &str = ".broken";
/// Body bytes per chunk: few enough to verify in memory, enough to make frames cheap.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

/// What [`SnapshotStore::newest_usable`] finds.
pub struct Newest {
    /// The newest sound one.
    pub file: Option<SnapshotFile>,
    /// Newer ones, newest first.
    pub damaged: Vec<Damaged>,
    /// Those that are newer than all marks, newest first.
    pub unknown: Vec<Mark>,
}

/// A snapshot that does not read as it was written.
#[derive(Debug)]
pub struct Damaged {
    /// What it is of.
    pub mark: Mark,
    /// File and offset.
    pub reason: Error,
}

/// The snapshot files of one member.
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Makes the names of files under way differ.
    created: AtomicU64,
}

impl SnapshotStore {
    /// Opens the folder `dir`, made if need be, and removes what a crash has left half written.
    ///
    /// Errors: the disk failed.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self> {
        let made = disk.create_dir_all(dir);
        made.map_err(|error| Error::io("make the folder of snapshots", dir, error))?;
        let store = Self { disk, dir: dir.to_path_buf(), created: AtomicU64::new(0) };
        for name in store.names()?.iter().filter(|name| name.contains(TEMPORARY)) {
            store.remove(&dir.join(name))?;
        }
        Ok(store)
    }

    /// Begins a snapshot file. It does not exist for others until [`SnapshotWriter::finish`].
    ///
    /// Errors: the disk failed.
    pub async fn create(&self, meta: SnapshotMeta) -> Result<SnapshotWriter> {
        if let Some(parent) = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let synced = self.disk.sync_dir(parent).await;
            synced.map_err(|error| Error::io("sync the folder of snapshots", parent, error))?;
        }
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        let name = file_name(meta.mark).replace(SUFFIX, &format!("{TEMPORARY}{number}"));
        let temporary = self.dir.join(name);
        let file = self.disk.open(&temporary, OpenMode::Create);
        let file = file.map_err(|error| Error::io("write a snapshot", &temporary, error))?;
        let encoder = Encoder::new(&meta);
        let mark = meta.mark;
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        Ok(SnapshotWriter { disk, dir, temporary, mark, file, encoder, offset: 0, renamed: false })
    }

    /// The newest snapshot whose mark is among `marks` and whose file is sound, and what was passed over on the way.
    ///
    /// All stay where they are. One that is newer than all `marks` was left by a crash that came before anything
    /// referred to it; but its mark may also stand where the log reads wrong. What a disk reads wrong today it may read
    /// right tomorrow, and whether the rest will do is not known yet.
    /// Errors: the disk failed.
    pub fn newest_usable(&self, marks: &[Mark]) -> Result<Newest> {
        let newest_mark = marks.iter().max().copied().unwrap_or_default();
        let (mut damaged, mut unknown) = (Vec::new(), Vec::new());
        for mark in self.marks()?.into_iter().rev() {
            if mark.index > newest_mark.index {
                unknown.push(mark);
            } else if marks.contains(&mark) {
                match self.open(mark) {
                    Ok(file) => return Ok(Newest { file: Some(file), damaged, unknown }),
                    Err(reason @ Error::Corrupt { .. }) => damaged.push(Damaged { mark, reason }),
                    // It may be whole: nothing is decided about a file that cannot be read at the moment.
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Newest { file: None, damaged, unknown })
    }

    /// The snapshot at `mark`, verified.
    ///
    /// Errors: it is missing or damaged, or the disk failed.
    pub fn open(&self, mark: Mark) -> Result<SnapshotFile> {
        let path = self.dir.join(file_name(mark));
        let file = self.disk.open(&path, OpenMode::Read);
        let file = file.map_err(|error| Error::io("open a snapshot", &path, error))?;
        SnapshotFile::verify(path, file, mark)
    }

    /// Renames a damaged snapshot to `.broken`, for whoever wants to look at it, and logs it. Only for one that is
    /// not needed any more.
    ///
    /// Errors: the disk failed.
    pub async fn set_aside(&self, damaged: &Damaged) -> Result<()> {
        let path = self.dir.join(file_name(damaged.mark));
        let mut broken = path.clone().into_os_string();
        broken.push(BROKEN_SUFFIX);
        let reason = damaged.reason.to_string();
        tracing::warn!(reason, "set a damaged snapshot aside, as {}", broken.display());
        let renamed = self.disk.rename(&path, Path::new(&broken));
        renamed.map_err(|error| Error::io("set a damaged snapshot aside", &path, error))?;
        self.sync_dir().await
    }

    /// The snapshots by their names, oldest first; damage is not looked for.
    ///
    /// Errors: the disk failed.
    pub fn marks(&self) -> Result<Vec<Mark>> {
        let mut marks: Vec<Mark> =
            self.names()?.iter().filter_map(|name| parse_file_name(name)).collect();
        marks.sort_unstable();
        Ok(marks)
    }

    /// Removes all snapshots but the newest `keep`; returns the marks of those kept, oldest first.
    ///
    /// Errors: the disk failed.
    pub async fn release(&self, keep: usize) -> Result<Vec<Mark>> {
        let mut marks = self.marks()?;
        let kept = marks.split_off(marks.len().saturating_sub(keep));
        for mark in &marks {
            self.remove(&self.dir.join(file_name(*mark)))?;
        }
        if !marks.is_empty() {
            self.sync_dir().await?;
        }
        Ok(kept)
    }

    /// Removes one snapshot that no mark refers to, if it is there.
    ///
    /// Errors: the disk failed.
    pub async fn discard(&self, mark: Mark) -> Result<()> {
        let path = self.dir.join(file_name(mark));
        if self.disk.exists(&path) {
            self.remove(&path)?;
            self.sync_dir().await?;
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = self.disk.list(&self.dir);
        names.map_err(|error| Error::io("list the snapshots", &self.dir, error))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.disk.remove(path).map_err(|error| Error::io("remove a snapshot", path, error))
    }

    async fn sync_dir(&self) -> Result<()> {
        sync_dir(&*self.disk, &self.dir).await
    }
}

/// Writes one snapshot file; dropped unfinished, it leaves nothing.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    temporary: PathBuf,
    mark: Mark,
    file: Box<dyn File>,
    encoder: Encoder,
    offset: u64,
    renamed: bool,
}

impl SnapshotWriter {
    /// Adds to the body. Errors: the disk failed.
    pub fn write(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            data = self.encoder.push(data);
            self.flush()?;
        }
        Ok(())
    }

    /// Makes the snapshot durable under its final name.
    ///
    /// Errors: the disk failed; there is no such snapshot then.
    pub async fn finish(mut self) -> Result<()> {
        self.encoder.end();
        self.flush()?;
        let synced = self.file.sync().await;
        synced.map_err(|error| Error::io("sync a snapshot", &self.temporary, error))?;
        let path = self.dir.join(file_name(self.mark));
        let renamed = self.disk.rename(&self.temporary, &path);
        renamed.map_err(|error| Error::io("complete a snapshot", &path, error))?;
        self.renamed = true;
        sync_dir(&*self.disk, &self.dir).await
    }

    fn flush(&mut self) -> Result<()> {
        let bytes = self.encoder.take();
        let written = self.file.write_all_at(&bytes, self.offset);
        written.map_err(|error| Error::io("write a snapshot", &self.temporary, error))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.renamed {
            // Where this fails, the next start removes the file.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}

async fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let synced = disk.sync_dir(dir).await;
    synced.map_err(|error| Error::io("sync the folder of snapshots", dir, error))
}

/// Term first, as etcd's.
fn file_name(mark: Mark) -> String {
    format!("{:016x}-{:016x}{SUFFIX}", mark.term, mark.index)
}

fn parse_file_name(name: &str) -> Option<Mark> {
    let (term, index) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let mark = Mark { index: number(index)?, term: number(term)? };
    (file_name(mark) == name).then_some(mark)
}
