//! Tests of the log and of snapshot files, on a disk in memory.

mod damage;
mod format;
mod model;
mod rules;
mod snapshots;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::testdisk::{TestDisk, block_on};
use super::{Entry, HardState, Mark, Options, Recovered, Wal};
use crate::error::{Error, Result};
use crate::host::Disk;

const DIR: &str = "member/wal";
const METADATA: &[u8] = b"cluster 7, member 1";

fn entry(index: u64, term: u64, data: impl AsRef<[u8]>) -> Entry {
    Entry { index, term, data: Bytes::copy_from_slice(data.as_ref()) }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> Option<HardState> {
    Some(HardState { term, vote, commit })
}

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes }
}

fn shared(disk: &TestDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn create(disk: &TestDisk, segment_bytes: u64) -> Result<Wal> {
    block_on(Wal::create(shared(disk), Path::new(DIR), METADATA, options(segment_bytes)))
}

fn open(disk: &TestDisk, from: Mark, segment_bytes: u64) -> Result<(Wal, Recovered)> {
    block_on(Wal::open(shared(disk), Path::new(DIR), from, options(segment_bytes)))
}

/// Opens at the empty log's mark; what was recovered.
fn recover(disk: &TestDisk, segment_bytes: u64) -> Result<Recovered> {
    open(disk, Mark::default(), segment_bytes).map(|(_, recovered)| recovered)
}

fn marks(disk: &TestDisk) -> Result<Vec<Mark>> {
    block_on(Wal::marks(&shared(disk), Path::new(DIR)))
}

fn files(disk: &TestDisk) -> Vec<PathBuf> {
    let names = disk.list(Path::new(DIR)).expect("a test disk lists");
    names.iter().map(|name| Path::new(DIR).join(name)).collect()
}

fn corrupt_file(error: &Error) -> Option<&Path> {
    match error {
        Error::Corrupt { path, .. } => Some(path),
        _ => None,
    }
}
