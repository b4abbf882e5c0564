//! `snowglobe restore`: a data folder made from the file that `etcdctl snapshot save` wrote.
//!
//! The file is read twice: once to see that it is whole, once to take it in. Nothing is made before it is seen to
//! be whole.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::folder;
use crate::api::image::MAGIC;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::{File, Host, OpenMode};
use crate::raft;

/// Length of the hash at the end.
const HASH_BYTES: u64 = 32;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Makes the data folder of `config` from the snapshot in `file`.
///
/// # Errors
/// [`Error::Config`] where the file is no whole snapshot, or the data folder is not empty; the disk's.
pub async fn restore(
    host: &Arc<dyn Host>,
    config: &Config,
    file: &Path,
    skip_hash_check: bool,
) -> Result<()> {
    config.validate()?;
    let disk = host.disk();
    let opened =
        disk.open(file, OpenMode::Read).map_err(|e| Error::io("open the snapshot", file, e))?;
    let source = Source { file: opened, path: file };
    let length = source.length()?;
    if !skip_hash_check {
        source.check(length)?;
    }
    let mut place = MAGIC.len() as u64;
    if source.read(0, MAGIC.len())? != MAGIC {
        return Err(source.refuse("it is no snapshot of this program"));
    }
    let mut number = || -> Result<u64> {
        let bytes = source.read(place, 8)?;
        place += 8;
        Ok(u64::from_le_bytes(bytes[..].try_into().expect("eight bytes were read")))
    };
    let position = (number()?, number()?);
    if disk.exists(&config.data_dir.join("member")) {
        let folder = config.data_dir.display();
        return Err(Error::Config(format!(
            "data folder {folder} is not empty; choose another --data-dir"
        )));
    }
    let _lock = folder::claim(&*disk, config).await?;
    let pieces = Pieces { source: &source, place, ended: false };
    raft::restore(host, config, position, pieces).await?;
    tracing::info!("restored {} from {}", config.data_dir.display(), file.display());
    Ok(())
}

/// The file that is read.
struct Source<'a> {
    file: Box<dyn File>,
    path: &'a Path,
}

impl Source<'_> {
    fn refuse(&self, why: &str) -> Error {
        Error::Config(format!("snapshot {} cannot be restored: {why}", self.path.display()))
    }

    fn length(&self) -> Result<u64> {
        self.file.length().map_err(|e| Error::io("measure the snapshot", self.path, e))
    }

    fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let read = self.file.read_at(&mut bytes[filled..], offset + filled as u64);
            match read.map_err(|e| Error::io("read the snapshot", self.path, e))? {
                0 => return Err(self.refuse("it ends too early")),
                count => filled += count,
            }
        }
        Ok(bytes.into())
    }

    /// Whether the hash at the end is that of what comes before it.
    fn check(&self, length: u64) -> Result<()> {
        let Some(end) = length.checked_sub(HASH_BYTES).filter(|end| end.is_multiple_of(512)) else {
            return Err(self.refuse("its hash is missing; --skip-hash-check takes it as it is"));
        };
        let mut hash = Sha256::new();
        let mut place = 0;
        while place < end {
            let count = usize::try_from(end - place).unwrap_or(READ_BYTES).min(READ_BYTES);
            hash.update(&self.read(place, count)?);
            place += count as u64;
        }
        if self.read(end, HASH_BYTES as usize)?[..] == hash.finalize()[..] {
            Ok(())
        } else {
            Err(self.refuse("its hash is wrong: it was damaged on the way"))
        }
    }
}

/// The pieces of a snapshot, one after the other.
struct Pieces<'a> {
    source: &'a Source<'a>,
    place: u64,
    ended: bool,
}

impl Iterator for Pieces<'_> {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        let piece = self.piece();
        self.ended = piece.as_ref().map_or(true, Bytes::is_empty);
        (piece.is_err() || !self.ended).then_some(piece)
    }
}

impl Pieces<'_> {
    fn piece(&mut self) -> Result<Bytes> {
        let length = self.source.read(self.place, 4)?;
        let length = u32::from_le_bytes(length[..].try_into().expect("four bytes were read"));
        let piece = self.source.read(self.place + 4, length as usize)?;
        self.place += 4 + u64::from(length);
        Ok(piece)
    }
}
