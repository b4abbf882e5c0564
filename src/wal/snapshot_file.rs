//! One snapshot file: a header, chunks of the body, an end, under one rolling checksum.
//!
//! ```text
//! magic "snowsnap" │ version u32 │ header length u32 │ header │ checksum u32
//! chunk length u32 │ checksum u32 │ data        repeated
//! 0 u32            │ checksum u32 │ body length u64
//! ```
//!
//! Little endian. Each checksum is CRC32C over everything before it but other checksums, and a
//! chunk's also over the chunk: chunks cannot be lost, swapped or taken from another file.

use std::path::PathBuf;

use super::snapshot::CHUNK_BYTES;
use super::{Mark, REMEDY};
use crate::error::{Error, Result};
use crate::host::File;

const MAGIC: [u8; 8] = *b"snowsnap";
const VERSION: u32 = 1;
/// Membership of a large cluster is a few kilobytes.
const HEADER_BYTES_MAX: usize = 1 << 20;
/// Length and checksum before each chunk.
const FRAME_BYTES: usize = 8;

/// What a snapshot is a snapshot of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that it covers.
    pub mark: Mark,
    /// The members that vote, opaque here.
    pub conf_state: Vec<u8>,
    /// Whether the body carries the whole state machine.
    pub has_state: bool,
    /// The members' names and addresses, opaque here.
    pub members: Vec<u8>,
}

impl SnapshotMeta {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.mark.index.to_le_bytes());
        bytes.extend_from_slice(&self.mark.term.to_le_bytes());
        bytes.push(u8::from(self.has_state));
        for field in [&self.conf_state, &self.members] {
            let length = u32::try_from(field.len()).expect("membership is small");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let index = u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
        let term = u64::from_le_bytes(*bytes.split_off(..8)?.as_array()?);
        let has_state = bytes.split_off(..1)?[0] != 0;
        let mut field = || {
            let length = u32::from_le_bytes(*bytes.split_off(..4)?.as_array()?) as usize;
            bytes.split_off(..length).map(<[u8]>::to_vec)
        };
        let (conf_state, members) = (field()?, field()?);
        let mark = Mark { index, term };
        bytes.is_empty().then_some(Self { mark, conf_state, has_state, members })
    }
}

/// Turns a body into the bytes of a file.
pub(super) struct Encoder {
    rolling: u32,
    body_bytes: u64,
    chunk: Vec<u8>,
    ready: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(meta: &SnapshotMeta) -> Self {
        let header = meta.encode();
        assert!(header.len() <= HEADER_BYTES_MAX, "header of {} bytes", header.len());
        let mut ready = MAGIC.to_vec();
        ready.extend_from_slice(&VERSION.to_le_bytes());
        let length = u32::try_from(header.len()).expect("at most HEADER_BYTES_MAX");
        ready.extend_from_slice(&length.to_le_bytes());
        ready.extend_from_slice(&header);
        let rolling = crc32c::crc32c(&ready);
        ready.extend_from_slice(&rolling.to_le_bytes());
        Self { rolling, body_bytes: 0, chunk: Vec::with_capacity(CHUNK_BYTES), ready }
    }

    /// Takes the start of `data`; returns the rest, for which there is room after [`Self::take`].
    pub(super) fn push<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let (now, later) = data.split_at(data.len().min(CHUNK_BYTES - self.chunk.len()));
        self.chunk.extend_from_slice(now);
        if self.chunk.len() == CHUNK_BYTES {
            self.end_chunk();
        }
        later
    }

    /// Completes the file.
    pub(super) fn end(&mut self) {
        if !self.chunk.is_empty() {
            self.end_chunk();
        }
        let total = self.body_bytes.to_le_bytes();
        self.frame(0, &total);
    }

    /// What is to be written next.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    fn end_chunk(&mut self) {
        let mut chunk = std::mem::take(&mut self.chunk);
        self.frame(u32::try_from(chunk.len()).expect("at most CHUNK_BYTES"), &chunk);
        self.body_bytes += chunk.len() as u64;
        chunk.clear();
        self.chunk = chunk;
    }

    fn frame(&mut self, length: u32, data: &[u8]) {
        self.rolling = roll(self.rolling, length, data);
        self.ready.extend_from_slice(&length.to_le_bytes());
        self.ready.extend_from_slice(&self.rolling.to_le_bytes());
        self.ready.extend_from_slice(data);
    }
}

/// A snapshot that has been verified from the first to the last byte.
pub struct SnapshotFile {
    /// What it is a snapshot of.
    pub meta: SnapshotMeta,
    path: PathBuf,
    file: Box<dyn File>,
    body_bytes: u64,
    /// Where the first chunk starts, and the checksum before it.
    body: (u64, u32),
    /// The same for the chunk to be read next.
    next: (u64, u32),
}

impl SnapshotFile {
    /// Reads all of `file` once. Errors: it cannot be read, or is not what was written.
    pub(super) fn verify(path: PathBuf, file: Box<dyn File>, mark: Mark) -> Result<Self> {
        let meta = SnapshotMeta::default();
        let mut snapshot = Self { meta, path, file, body_bytes: 0, body: (0, 0), next: (0, 0) };
        snapshot.read_header()?;
        if snapshot.meta.mark != mark {
            return Err(snapshot.corrupt(0, "the file has the name of another snapshot"));
        }
        let mut body_bytes = 0;
        while let Some(chunk) = snapshot.next_chunk()? {
            body_bytes += chunk.len() as u64;
        }
        if snapshot.body_bytes != body_bytes {
            return Err(snapshot.corrupt(snapshot.next.0, "the body has another length"));
        }
        snapshot.rewind();
        Ok(snapshot)
    }

    /// Length of the body, in bytes.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// The next part of the body, verified once more; `None` at its end.
    ///
    /// Errors: the file cannot be read, or has changed since it was opened.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let (offset, rolling) = self.next;
        let head = self.read(offset, FRAME_BYTES)?;
        let length = u32_at(&head, 0);
        let data_bytes = if length == 0 { 8 } else { length as usize };
        if data_bytes > CHUNK_BYTES {
            return Err(self.corrupt(offset, "a chunk is too long"));
        }
        let data = self.read(offset + FRAME_BYTES as u64, data_bytes)?;
        let checksum = roll(rolling, length, &data);
        if checksum != u32_at(&head, 4) {
            return Err(self.corrupt(offset, "the checksum of a chunk does not match"));
        }
        let end = offset + (FRAME_BYTES + data_bytes) as u64;
        if length > 0 {
            self.next = (end, checksum);
            return Ok(Some(data));
        }
        let file_bytes = self.file.length();
        if file_bytes.map_err(|error| Error::io("read a snapshot", &self.path, error))? != end {
            return Err(self.corrupt(end, "something follows the end"));
        }
        self.body_bytes = u64::from_le_bytes(data.try_into().expect("eight bytes were read"));
        Ok(None)
    }

    /// Makes [`Self::next_chunk`] begin with the first chunk again.
    pub fn rewind(&mut self) {
        self.next = self.body;
    }

    fn read_header(&mut self) -> Result<()> {
        let fixed = self.read(0, 16)?;
        if fixed[..8] != MAGIC || u32_at(&fixed, 8) != VERSION {
            return Err(self.corrupt(0, "not a snapshot that this program knows"));
        }
        let length = u32_at(&fixed, 12) as usize;
        if length > HEADER_BYTES_MAX {
            return Err(self.corrupt(12, "the header is too long"));
        }
        let header = self.read(16, length)?;
        let end = 16 + length as u64;
        let rolling = crc32c::crc32c_append(crc32c::crc32c(&fixed), &header);
        if rolling != u32_at(&self.read(end, 4)?, 0) {
            return Err(self.corrupt(end, "the checksum of the header does not match"));
        }
        let meta = SnapshotMeta::decode(&header);
        self.meta = meta.ok_or_else(|| self.corrupt(16, "the header cannot be decoded"))?;
        self.body = (end + 4, rolling);
        self.next = self.body;
        Ok(())
    }

    fn read(&self, offset: u64, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let action = format!("read a snapshot at offset {offset}");
        let read = self.file.read_at(&mut bytes, offset);
        let read = read.map_err(|error| Error::io(action, &self.path, error))?;
        if read < count {
            return Err(self.corrupt(offset, "the file ends too early"));
        }
        Ok(bytes)
    }

    fn corrupt(&self, offset: u64, reason: &str) -> Error {
        Error::corrupt(&self.path, offset, format!("{reason}; {REMEDY}"))
    }
}

fn roll(rolling: u32, length: u32, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(rolling, &length.to_le_bytes()), data)
}

fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(bytes[place..place + 4].try_into().expect("four bytes"))
}
