//! RocksDB as the state machine sees it: two column families, one atomic batch per apply, a pinned
//! view.
//!
//! [`Storage`] owns the database; [`Batch`] is what one apply writes; [`Cursor`] reads one
//! consistent view that outlives later writes. What the bytes mean is the business of
//! [`crate::state`].
//!
//! Invariants:
//! * A [`Batch`] reaches the database whole or not at all, over both column families.
//! * What a restart finds is a prefix of the batches in the order they were written, the same in
//!   both column families. All batches go through RocksDB's own log, and recovery stops at the
//!   first record that is torn or missing (point in time). Three things could still break the prefix,
//!   and are kept from it. A table of one family could reach the disk ahead of the other family's:
//!   `atomic_flush` commits the tables of all in one manifest record. And the log is a chain of
//!   files: a power cut may take the unsynced end of one and leave the beginning of the next, and
//!   RocksDB would not notice the hole between them. So RocksDB never begins a new log file on its
//!   own account: `database` counts what was written, and syncs the log before it asks for the
//!   flush that begins the next file. Within a file it would not notice one either that ends with a block
//!   (`block`): a block is durable before anything is written into the next.
//! * [`Storage::sync`] makes all batches so far durable. Without it a power cut may take a tail of
//!   them; the log of [`crate::raft`] still has the entries they came from.
//! * After every call into RocksDB the host may run background jobs, because a host without
//!   threads only queues them. Nothing here waits for a background job, but for the last flush before the next.
//! * An error of RocksDB is never retried: after a failed write or sync the database refuses
//!   writes.
//!
//! Not here: retries, statistics, threads, timers; options that would start any of them are
//! switched off.

mod batch;
mod block;
mod cursor;
mod database;
pub mod manifest;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::host::Backend;

pub use batch::Batch;
pub use cursor::Cursor;
use database::Database;

/// The column families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Single values about the whole: the consistent index, compaction, members.
    Meta,
    /// Revision → encoded key-value.
    Key,
}

impl Family {
    /// All of them, in the order in which a snapshot carries them.
    pub const ALL: [Self; 2] = [Self::Meta, Self::Key];

    /// The name of the column family in RocksDB (that of etcd's bucket).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Key => "key",
        }
    }
}

/// Sizes of the database's memory.
#[derive(Clone, Copy, Debug)]
pub struct StorageOptions {
    /// Bytes of batches after which the memtables are written out: what RocksDB's own log holds and
    /// a restart replays.
    pub write_buffer_bytes: usize,
    /// Bytes of table blocks kept in memory.
    pub block_cache_bytes: usize,
}

impl Default for StorageOptions {
    fn default() -> Self {
        // 16 MB: a restart replays it within a tenth of a second. 32 MB: RocksDB's own default.
        Self { write_buffer_bytes: 16 << 20, block_cache_bytes: 32 << 20 }
    }
}

/// Bytes that the database takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Tables of all versions still on disk, and memtables.
    pub total: u64,
    /// The part of it that belongs to the newest version.
    pub in_use: u64,
}

/// An open database. Clones share it; it is closed with the last of them and of its cursors.
#[derive(Clone)]
pub struct Storage {
    database: Arc<Database>,
}

impl Storage {
    /// Opens the database in the folder `path`, making it (but not the folders above) where it is
    /// missing.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io) or [`Error::Corrupt`](crate::error::Error::Corrupt),
    /// with the path.
    pub fn open(backend: Backend, path: &Path, options: StorageOptions) -> Result<Self> {
        Ok(Self { database: Arc::new(Database::open(backend, path, options, false)?) })
    }

    /// Opens the database that is in the folder `path` for reading, and changes nothing there. It shows what
    /// [`Self::open`] would find, and drop: where RocksDB's own log does not read as it was written, what follows is
    /// taken for a torn end and is gone for good once the database was open for writing.
    ///
    /// # Errors
    /// As [`Self::open`]; there is no database. Every write is refused.
    pub fn open_read_only(backend: Backend, path: &Path, options: StorageOptions) -> Result<Self> {
        Ok(Self { database: Arc::new(Database::open(backend, path, options, true)?) })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.database.path().to_path_buf()
    }

    /// An empty batch.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.database))
    }

    /// Writes a batch: whole or not at all, visible at once, durable after the next
    /// [`sync`](Self::sync).
    ///
    /// # Errors
    /// The system's. Fatal: whether the batch survives a restart is unknown.
    pub fn write(&self, batch: Batch) -> Result<()> {
        self.database.write(batch.into_inner())
    }

    /// The value of one key.
    ///
    /// # Errors
    /// The system's, or a block with a wrong checksum.
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>> {
        self.database.get(family, key)
    }

    /// A view of all that is written so far; it stays as it is while writing goes on.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor::open(Arc::clone(&self.database))
    }

    /// Makes all that is written so far durable.
    ///
    /// # Errors
    /// The system's. Fatal: what was not synced may be lost, and a second try would not tell.
    pub fn sync(&self) -> Result<()> {
        self.database.sync()
    }

    /// Syncs, and starts to write memtables out to tables; the host's background jobs do the work.
    /// Happens by itself, see [`StorageOptions::write_buffer_bytes`].
    ///
    /// # Errors
    /// The system's.
    pub fn flush(&self) -> Result<()> {
        self.database.flush()
    }

    /// Gives the space of what was overwritten or deleted back, where the host has threads for it.
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn defragment(&self) -> Result<()> {
        self.database.defragment()
    }

    /// Bytes taken.
    ///
    /// # Errors
    /// The system's.
    pub fn size(&self) -> Result<Size> {
        self.database.size()
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
