//! The log as its one writer sees it.
//!
//! Invariants:
//! * What an append wrote is in one place of one segment, after everything appended before.
//! * `synced <= offset`; the record at `synced` is a sync point as soon as anything follows it.
//! * After a failure nothing is written any more.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::outline::Outline;
use super::record::{ALIGN_BYTES, Batch, Head, PAYLOAD_BYTES_MAX, Record, SyncPoint};
use super::recover::{Replay, marks, replay};
use super::segment::{self, Created, Segment};
use super::{Entry, HardState, Mark, Options, Recovered};
use crate::error::{Error, Result};
use crate::host::{Disk, File, OpenMode};

/// A buffer larger than this is given back after the write.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// The write-ahead log of one member.
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    metadata: Vec<u8>,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    file: Box<dyn File>,
    /// Where the next record goes, and up to where the file is durable, in bytes.
    offset: u64,
    synced: u64,
    rolling: u32,
    outline: Outline,
    /// Each mark with the segment that holds it.
    marks: BTreeMap<Mark, u64>,
    /// Reused by each append.
    buffer: Vec<u8>,
    /// The first failure.
    failed: Option<Error>,
}

impl Wal {
    /// Makes an empty log in `dir`, which is made if need be. `metadata` is kept in each segment.
    ///
    /// Errors: there is a log already, or the disk failed.
    pub async fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        metadata: &[u8],
        options: Options,
    ) -> Result<Self> {
        disk.create_dir_all(dir).map_err(|error| Error::io("make the log's folder", dir, error))?;
        if Self::exists(&*disk, dir)? {
            return Err(Error::io("make a log", dir, "there is one already"));
        }
        segment::remove_temporary(&*disk, dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let synced = disk.sync_dir(parent).await;
            synced.map_err(|error| Error::io("sync the folder of the log", parent, error))?;
        }
        let head = Head { previous: 0, sequence: 0, last: Mark::default() };
        let hard_state = HardState::default();
        let created = segment::create(&*disk, dir, head, metadata, hard_state, options).await?;
        let Created { segment, file, offset, rolling } = created;
        Ok(Self {
            disk,
            dir: dir.to_path_buf(),
            options,
            metadata: metadata.to_vec(),
            segments: VecDeque::from([segment]),
            file,
            offset,
            synced: offset,
            rolling,
            outline: Outline::new(Mark::default(), hard_state),
            marks: BTreeMap::new(),
            buffer: Vec::new(),
            failed: None,
        })
    }

    /// Whether there is a log in `dir`. What a crash left of [`Wal::create`] is none.
    ///
    /// Errors: the folder cannot be read, or segments are missing between others. That is no empty folder: who began
    /// another log there would forget what this one has promised.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool> {
        Ok(disk.exists(dir) && !segment::list(disk, dir)?.is_empty())
    }

    /// The marks whose snapshots may be used, ascending: those at or below the last commit index,
    /// and `{0, 0}`, the empty log. Changes nothing on disk; a torn or damaged end is left for [`Wal::open`].
    ///
    /// Errors: there is no log, it is damaged, or the disk failed.
    pub async fn marks(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Vec<Mark>> {
        let segments = segments_of(&**disk, dir)?;
        marks(&**disk, &segments)
    }

    /// Opens the log in `dir` at the mark of a snapshot, and repairs a torn tail.
    ///
    /// Everything recovered is durable when this returns.
    /// Errors: there is no log or no such mark, the log is damaged, or the disk failed.
    pub async fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: Mark,
        options: Options,
    ) -> Result<(Self, Recovered)> {
        let segments = segments_of(&*disk, dir)?;
        let replay = replay(&*disk, &segments, from.index)?;
        replay.check_from(from, dir)?;
        segment::remove_temporary(&*disk, dir)?;
        let last = segments.last().expect("there is a segment");
        let file = open_tail(&*disk, &last.path, &replay, options).await?;
        // The last segment's name, or the removal of others, may not have been durable.
        disk.sync_dir(dir).await.map_err(|error| Error::io("sync the log's folder", dir, error))?;
        let Replay { metadata, outline, entries, marks, rolling, tail, repair, .. } = replay;
        let recovered = Recovered {
            metadata: metadata.clone(),
            hard_state: outline.hard_state(),
            entries,
            repaired: repair,
        };
        let wal = Self {
            disk,
            dir: dir.to_path_buf(),
            options,
            metadata,
            segments: segments.into(),
            file,
            offset: tail,
            synced: tail,
            rolling,
            outline,
            marks,
            buffer: Vec::new(),
            failed: None,
        };
        Ok((wal, recovered))
    }

    /// Appends entries and a hard state as one unit: after a crash both are there or neither.
    ///
    /// An entry whose index is taken replaces that entry and all behind it. Durable after
    /// [`Wal::sync`].
    /// Errors: the write failed, or the log would contradict itself; the log is then unusable.
    pub fn append(&mut self, entries: &[Entry], hard_state: Option<HardState>) -> Result<()> {
        self.usable()?;
        if entries.is_empty() && hard_state.is_none() {
            return Ok(());
        }
        let outlined = self.outline.append(entries, hard_state);
        let replaced = outlined.map_err(|why| self.misused(&why))?;
        let large = |entry: &&Entry| entry.data.len() + 16 > PAYLOAD_BYTES_MAX;
        if let Some(entry) = entries.iter().find(large) {
            let (index, length) = (entry.index, entry.data.len());
            return Err(self.misused(&format!("entry {index} has {length} bytes")));
        }
        let mut batch = self.batch();
        if let Some(mark) = replaced {
            // Once more, here: the segment with the first one may be released before this one.
            batch.push(&Record::Mark(mark), false);
            let sequence = self.segments.back().expect("there is a segment").sequence;
            self.marks.insert(mark, sequence);
        }
        if let Some(state) = hard_state {
            batch.push(&Record::HardState(state), entries.is_empty());
        }
        for (place, entry) in entries.iter().enumerate() {
            batch.push_entry(entry, place + 1 == entries.len());
        }
        self.write(batch)
    }

    /// Appends the mark of a snapshot, whose file must be durable already.
    ///
    /// A mark at an entry of the log leaves the log as it is. Any other replaces the whole log as
    /// soon as a hard state with its commit index is appended; until then it counts for nothing.
    /// Errors: as [`Wal::append`].
    pub fn append_mark(&mut self, mark: Mark) -> Result<()> {
        self.usable()?;
        let outlined = self.outline.mark(mark);
        outlined.map_err(|why| self.misused(&why))?;
        let mut batch = self.batch();
        batch.push(&Record::Mark(mark), true);
        self.write(batch)?;
        let sequence = self.segments.back().expect("there is a segment").sequence;
        self.marks.insert(mark, sequence);
        Ok(())
    }

    /// Makes everything appended so far durable, then begins a new segment where this one is full.
    ///
    /// Errors: the disk failed. What was appended is lost or not, nobody knows: the log is
    /// unusable from then on, and so is one whose `sync` was abandoned half way.
    pub async fn sync(&mut self) -> Result<()> {
        self.usable()?;
        let path = &self.segments.back().expect("there is a segment").path;
        if self.synced < self.offset {
            self.failed = Some(Error::Fatal("a sync of the log was abandoned".into()));
            let synced = self.file.sync().await;
            if let Err(error) = synced {
                return Err(fail(&mut self.failed, Error::io("sync the log", path, error)));
            }
            self.failed = None;
            self.synced = self.offset;
        }
        if self.offset >= self.options.segment_bytes {
            self.cut().await?;
        }
        Ok(())
    }

    /// Removes segments that only hold entries below `index`; the one that holds it stays.
    ///
    /// Syncs first. Keeps what is needed to open the log at its newest mark at or below `index`,
    /// and all marks above; without such a mark that is committed, nothing is removed.
    /// Errors: as [`Wal::sync`]; or a removal failed, then the log itself remains usable.
    pub async fn release_below(&mut self, index: u64) -> Result<()> {
        // A mark that a crash could take back must not cost the segments before it.
        self.sync().await?;
        let index = index.min(self.outline.hard_state().commit);
        let Some(mark) = self.marks.keys().rev().find(|mark| mark.index <= index).copied() else {
            return Ok(());
        };
        let marked_in =
            *self.marks.range(mark..).map(|(_, sequence)| sequence).min().expect("the mark itself");
        // Terms may have been truncated since a segment was made, so look from the newest.
        let holder = self.segments.iter().rev().find(|segment| segment.first_index <= mark.index);
        let keep = holder.map_or(0, |segment| segment.sequence).min(marked_in);
        let mut released = false;
        while self.segments.len() > 1 && self.segments[0].sequence < keep {
            let segment = self.segments[0].clone();
            let removed = self.disk.remove(&segment.path);
            removed.map_err(|error| Error::io("remove a segment", &segment.path, error))?;
            self.segments.pop_front();
            // One by one: a crash must not leave a gap between segments.
            let synced = self.disk.sync_dir(&self.dir).await;
            synced.map_err(|error| Error::io("sync the log's folder", &self.dir, error))?;
            released = true;
        }
        if released {
            self.outline.forget_below(mark.index);
            self.marks.retain(|_, sequence| *sequence >= keep);
        }
        Ok(())
    }

    /// Begins an append; the first one after a sync says what that sync made durable.
    fn batch(&mut self) -> Batch {
        let buffer = std::mem::take(&mut self.buffer);
        let mut batch = Batch::new(buffer, self.offset, self.rolling);
        if self.synced == self.offset {
            let sequence = self.segments.back().expect("there is a segment").sequence;
            let (previous, offset) = (self.rolling, self.offset);
            batch.push(&Record::Sync(SyncPoint { previous, sequence, offset }), false);
        }
        batch
    }

    fn write(&mut self, batch: Batch) -> Result<()> {
        let path = &self.segments.back().expect("there is a segment").path;
        if let Err(error) = self.file.write_all_at(&batch.bytes, self.offset) {
            return Err(fail(&mut self.failed, Error::io("write the log", path, error)));
        }
        self.offset += batch.bytes.len() as u64;
        self.rolling = batch.rolling;
        if batch.bytes.capacity() <= BUFFER_BYTES_MAX {
            self.buffer = batch.bytes;
        }
        Ok(())
    }

    /// Begins a new segment. Everything in the old one is durable.
    async fn cut(&mut self) -> Result<()> {
        assert_eq!(self.synced, self.offset, "only a synced segment is followed by another");
        let last = self.segments.back().expect("there is a segment");
        let head =
            Head { previous: self.rolling, sequence: last.sequence + 1, last: self.outline.last() };
        let hard_state = self.outline.hard_state();
        self.failed = Some(Error::Fatal("a sync of the log was abandoned".into()));
        let created =
            segment::create(&*self.disk, &self.dir, head, &self.metadata, hard_state, self.options);
        let Created { segment, file, offset, rolling } = match created.await {
            Ok(created) => created,
            Err(error) => return Err(fail(&mut self.failed, error)),
        };
        self.failed = None;
        self.segments.push_back(segment);
        self.file = file;
        self.offset = offset;
        self.synced = offset;
        self.rolling = rolling;
        Ok(())
    }

    fn usable(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn misused(&mut self, why: &str) -> Error {
        fail(&mut self.failed, Error::Fatal(format!("the log refuses an append: {why}")))
    }
}

/// Remembers the failure that makes a log unusable.
fn fail(failed: &mut Option<Error>, error: Error) -> Error {
    *failed = Some(error.clone());
    error
}

fn segments_of(disk: &dyn Disk, dir: &Path) -> Result<Vec<Segment>> {
    let segments = segment::list(disk, dir)?;
    if segments.is_empty() {
        return Err(Error::io("open the log", dir, "there is no segment"));
    }
    Ok(segments)
}

/// Opens the last segment for appends: nothing but zeros behind the tail, all of it durable.
async fn open_tail(
    disk: &dyn Disk,
    path: &Path,
    replay: &Replay,
    options: Options,
) -> Result<Box<dyn File>> {
    let failed = |error| Error::io("repair the end of the log", path, error);
    let file = disk.open(path, OpenMode::Write).map_err(failed)?;
    if let Some(repair) = &replay.repair {
        assert_eq!(repair.offset, replay.tail, "only what follows the tail is removed");
        let super::Repair { offset, bytes, .. } = repair;
        tracing::warn!(?path, offset, bytes, "removed a torn write at the end of the log");
        file.set_length(replay.tail).map_err(failed)?;
    }
    let length = options.segment_bytes.max(replay.tail);
    if replay.repair.is_some() || replay.length < length {
        file.allocate(length).map_err(failed)?;
    } else if replay.length > options.segment_bytes {
        // It has grown since it was preallocated, and a failed sync may have dropped its length as well: only a length
        // that is new reaches the disk.
        file.allocate(replay.length + ALIGN_BYTES as u64).map_err(failed)?;
    }
    // Where a sync failed in the life before, the kernel has taken pages for clean that never reached the disk. They
    // can be read, but no sync brings them there any more, unless they are written again.
    let mut unproven = vec![0; usize::try_from(replay.tail - replay.proven).expect("in memory")];
    let read = file.read_at(&mut unproven, replay.proven).map_err(failed)?;
    if read != unproven.len() {
        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
    }
    if !unproven.is_empty() {
        file.write_all_at(&unproven, replay.proven).map_err(failed)?;
    }
    file.sync().await.map_err(failed)?;
    Ok(file)
}
