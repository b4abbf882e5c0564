//! What tests of the storage and of the state share: a database in a temporary folder.
#![allow(clippy::disallowed_methods, reason = "test folders are the operating system's")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Storage, StorageOptions};
use crate::host::Backend;

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
    let options = StorageOptions { write_buffer_bytes: 64 << 10, block_cache_bytes: 1 << 20 };
    Storage::open(Backend::default(), folder.path(), options).unwrap()
}
