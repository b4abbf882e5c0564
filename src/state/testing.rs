//! What tests of the state share: a state in a temporary folder, applied to entry by entry,
//! reopened at will.
#![allow(clippy::disallowed_methods, reason = "test folders are the operating system's")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Applied, Entry, Limits, Response, State, StateOpen, Verdict};
use crate::host::Backend;
use crate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, PutRequest, TxnRequest,
};
use crate::storage::{Storage, StorageOptions};

/// A folder of its own, removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("snowglobe-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // In memory where there is such a folder: the tests open hundreds of databases, each open
        // syncs a dozen times, and what survives a power cut is not their subject.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let path = parent.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A copy of it. No database may be open in it.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        for file in std::fs::read_dir(self.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: what is left behind is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// RocksDB in a folder, on the real file system.
pub(crate) fn storage(folder: &Folder) -> Storage {
    let backend = Backend { env: None, run_background_jobs: Arc::new(|| ()) };
    let options = StorageOptions { write_buffer_bytes: 64 << 10, block_cache_bytes: 1 << 20 };
    Storage::open(backend, folder.path(), options).unwrap()
}

/// The state in a folder, which must be whole.
pub(crate) fn open(folder: &Folder, compaction_batch: usize) -> State {
    match State::open(storage(folder), Limits { compaction_batch }).unwrap() {
        StateOpen::Ready(state) => state,
        StateOpen::NeedsImport(_) => panic!("the state is only half imported"),
    }
}

/// The next entry of the log of `state`, with a request.
pub(crate) fn entry(index: u64, request: InternalRaftRequest) -> Entry {
    Entry { index, term: 1, request: Some(request), conf_state: None }
}

/// Applies one request as an entry of its own.
pub(crate) fn apply(state: &mut State, request: InternalRaftRequest) -> Verdict<Response> {
    let (index, _) = state.applied();
    let applied = state.apply(&[entry(index + 1, request)]).unwrap();
    let [Applied { result, .. }] = applied.try_into().expect("one request, one answer");
    result
}

impl From<PutRequest> for InternalRaftRequest {
    fn from(put: PutRequest) -> Self {
        Self { put: Some(put), ..Self::default() }
    }
}

impl From<DeleteRangeRequest> for InternalRaftRequest {
    fn from(delete_range: DeleteRangeRequest) -> Self {
        Self { delete_range: Some(delete_range), ..Self::default() }
    }
}

impl From<TxnRequest> for InternalRaftRequest {
    fn from(txn: TxnRequest) -> Self {
        Self { txn: Some(txn), ..Self::default() }
    }
}

impl From<CompactionRequest> for InternalRaftRequest {
    fn from(compaction: CompactionRequest) -> Self {
        Self { compaction: Some(compaction), ..Self::default() }
    }
}

/// A put of a key and a value.
pub(crate) fn put(key: &str, value: &str) -> InternalRaftRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    PutRequest { key, value, ..PutRequest::default() }.into()
}
