//! Segment files: names, creation under a temporary name, reading.

use std::path::{Path, PathBuf};

use super::record::{Batch, Head, Record};
use super::{HardState, Options};
use crate::error::{Error, Result};
use crate::host::{Disk, File, OpenMode};

/// Ending of a segment.
const SUFFIX: &str = ".wal";
/// Ending of a segment that is not complete yet.
const TEMPORARY_SUFFIX: &str = ".wal.tmp";
/// Bytes read at once, and the buffer that a [`Reader`] keeps.
const WINDOW_BYTES: usize = 256 << 10;

/// One segment file, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The place in the log, without gaps.
    pub(super) sequence: u64,
    /// The entry that was to come next when the segment was made.
    pub(super) first_index: u64,
    pub(super) path: PathBuf,
}

impl Segment {
    fn new(dir: &Path, sequence: u64, first_index: u64) -> Self {
        let path = dir.join(format!("{sequence:016x}-{first_index:016x}{SUFFIX}"));
        Self { sequence, first_index, path }
    }

    fn parse(dir: &Path, name: &str) -> Option<Self> {
        let (sequence, first_index) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        // No log comes to the last number: behind every segment there is room for another one.
        let sequence = number(sequence).filter(|sequence| *sequence < u64::MAX)?;
        let segment = Self::new(dir, sequence, number(first_index)?);
        // Only the spelling that we write: upper case or a sign is not ours.
        (segment.path == dir.join(name)).then_some(segment)
    }
}

/// The segments in `dir`, oldest first. Errors: a segment between others is missing.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Segment>> {
    let names = disk.list(dir).map_err(|error| Error::io("list the log", dir, error))?;
    let mut segments: Vec<Segment> =
        names.iter().filter_map(|name| Segment::parse(dir, name)).collect();
    segments.sort_by_key(|segment| segment.sequence);
    for pair in segments.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if after.sequence != before.sequence + 1 {
            let reason = format!(
                "segment {} is followed by segment {}: put the missing file back, {}",
                before.sequence,
                after.sequence,
                super::REMEDY
            );
            return Err(Error::corrupt(&after.path, 0, reason));
        }
    }
    Ok(segments)
}

/// Removes what a crash in [`create`] has left.
pub(super) fn remove_temporary(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = disk.list(dir).map_err(|error| Error::io("list the log", dir, error))?;
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
        let path = dir.join(name);
        disk.remove(&path)
            .map_err(|error| Error::io("remove an unfinished segment", &path, error))?;
    }
    Ok(())
}

/// A segment that was just made, ready for appends.
pub(super) struct Created {
    pub(super) segment: Segment,
    pub(super) file: Box<dyn File>,
    /// Where the next record goes, in bytes.
    pub(super) offset: u64,
    pub(super) rolling: u32,
}

/// Makes a segment: preallocated and synced under a temporary name, renamed, folder synced.
///
/// Where the process dies on the way, the log still ends with the segment before.
pub(super) async fn create(
    disk: &dyn Disk,
    dir: &Path,
    head: Head,
    metadata: &[u8],
    hard_state: HardState,
    options: Options,
) -> Result<Created> {
    let segment = Segment::new(dir, head.sequence, head.last.index + 1);
    let temporary = segment.path.with_extension("wal.tmp");
    let failed = |error| Error::io("make a segment of the log", &temporary, error);

    let mut batch = Batch::new(Vec::new(), 0, head.previous);
    batch.push(&Record::Head(head), false);
    batch.push(&Record::Metadata(metadata.to_vec()), false);
    batch.push(&Record::HardState(hard_state), true);

    let file = disk.open(&temporary, OpenMode::Create).map_err(failed)?;
    file.allocate(options.segment_bytes.max(batch.bytes.len() as u64)).map_err(failed)?;
    file.write_all_at(&batch.bytes, 0).map_err(failed)?;
    file.sync().await.map_err(failed)?;
    disk.rename(&temporary, &segment.path).map_err(failed)?;
    disk.sync_dir(dir).await.map_err(|error| Error::io("sync the log's folder", dir, error))?;
    Ok(Created { segment, file, offset: batch.bytes.len() as u64, rolling: batch.rolling })
}

/// Reads a segment; beyond the end of the file there are zeros.
pub(super) struct Reader {
    path: PathBuf,
    file: Box<dyn File>,
    length: u64,
    /// The part of the file in memory, and where it starts.
    window: Vec<u8>,
    start: u64,
}

impl Reader {
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let failed = |error| Error::io("read the log", path, error);
        let file = disk.open(path, OpenMode::Read).map_err(failed)?;
        let length = file.length().map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), file, length, window: Vec::new(), start: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// `count` bytes at `offset`.
    pub(super) fn bytes(&mut self, offset: u64, count: usize) -> Result<&[u8]> {
        let end = self.start + self.window.len() as u64;
        if offset < self.start || offset + count as u64 > end {
            let rest = self.length.saturating_sub(offset).min(WINDOW_BYTES as u64);
            self.fill(offset, count.max(rest as usize))?;
        }
        let place = usize::try_from(offset - self.start).expect("within the window");
        Ok(&self.window[place..place + count])
    }

    /// One past the last byte at or after `offset` that is not zero; `offset` where all are zero.
    pub(super) fn data_end(&mut self, offset: u64) -> Result<u64> {
        let (mut end, mut place) = (offset, offset);
        loop {
            place = self.file.zeros_until(place);
            if place >= self.length {
                return Ok(end);
            }
            let count = (self.length - place).min(WINDOW_BYTES as u64);
            let bytes = self.bytes(place, count as usize)?;
            if let Some(last) = last_byte_set(bytes) {
                end = place + last as u64 + 1;
            }
            place += count;
        }
    }

    fn fill(&mut self, offset: u64, count: usize) -> Result<()> {
        // All of it is overwritten: no need to clear it first.
        self.window.resize(count, 0);
        self.start = offset;
        let mut read = 0;
        if offset < self.length {
            let failed =
                |error| Error::io(format!("read the log at offset {offset}"), &self.path, error);
            read = self.file.read_at(&mut self.window, offset).map_err(failed)?;
        }
        self.window[read..].fill(0);
        Ok(())
    }
}

/// The last byte that is not zero. Whole pages of zeros are passed over without a branch per byte: most of a segment
/// is preallocated and empty, and every start looks at all of it.
fn last_byte_set(bytes: &[u8]) -> Option<usize> {
    let mut end = bytes.len();
    for page in bytes.rchunks(4096) {
        if page.iter().fold(0, |any, byte| any | byte) != 0 {
            let within = page.iter().rposition(|byte| *byte != 0)?;
            return Some(end - page.len() + within);
        }
        end -= page.len();
    }
    None
}
