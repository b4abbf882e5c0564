//! The one place that calls RocksDB: how it is opened, and what follows each call.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, ErrorKind, FlushOptions, LogLevel, Options, ReadOptions, WriteBatch,
    WriteOptions, properties,
};

use super::{Family, Size, StorageOptions, block};
use crate::error::{Error, Result};
use crate::host::Backend;

/// Open table files. RocksDB closes the longest unused ones beyond that; far below the usual limit
/// of descriptors, which connections need too.
const OPEN_FILES_MAX: i32 = 256;

/// Bytes that the manifest is lengthened by at once. RocksDB's default of 4 MB is for far larger
/// databases.
const MANIFEST_STEP_BYTES: usize = 64 << 10;

/// Memtables per column family: one being filled, and two being written out, before writers are
/// held up.
const WRITE_BUFFERS_MAX: i32 = 3;

/// RocksDB's own limits on memtables and log are this many times ours: it must never act on them
/// (see the invariants of the module). A memtable holds up to a few times the bytes of its batches.
const OWN_LIMITS_FACTOR: usize = 16;

/// RocksDB, closed in the order that a host without threads needs.
pub(super) struct Database {
    db: DB,
    path: PathBuf,
    write_options: WriteOptions,
    write_buffer_bytes: usize,
    /// Bytes of batches since the last flush.
    unflushed_bytes: AtomicUsize,
    /// Where the log is, in its current file.
    log_place: AtomicUsize,
    // After `db`: fields are dropped in this order, and the environment must outlive the database.
    backend: Backend,
}

impl Database {
    /// `read_only`: changes nothing on disk, and refuses writes.
    pub(super) fn open(
        backend: Backend,
        path: &Path,
        options: StorageOptions,
        read_only: bool,
    ) -> Result<Self> {
        let wrap = |cause: rocksdb::Error| wrap("open the database", path, &cause);
        let cache = Cache::new_lru_cache(options.block_cache_bytes);
        // Copies: RocksDB makes, and throws away, a block cache for each set of options that begins from nothing.
        let family_options = family_options(options, &cache);
        let families = std::iter::once(rocksdb::DEFAULT_COLUMN_FAMILY_NAME)
            .chain(Family::ALL.map(Family::name))
            .map(|name| ColumnFamilyDescriptor::new(name, family_options.clone()));
        let database_options = database_options(&backend, options).map_err(wrap)?;
        let db = if read_only {
            DB::open_cf_descriptors_read_only(&database_options, path, families, false)
        } else {
            DB::open_cf_descriptors(&database_options, path, families)
        };
        (backend.finish_background_jobs)();
        let db = db.map_err(wrap)?;
        Ok(Self {
            db,
            path: path.to_path_buf(),
            write_options: WriteOptions::default(),
            write_buffer_bytes: options.write_buffer_bytes,
            // Opening writes out what it recovers.
            unflushed_bytes: AtomicUsize::new(0),
            // And begins a new log.
            log_place: AtomicUsize::new(0),
            backend,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("open creates every family")
    }

    pub(super) fn write(&self, batch: WriteBatch) -> Result<()> {
        let bytes = batch.size_in_bytes();
        let place = self.log_place.load(Ordering::Relaxed);
        if block::crosses(place, bytes) {
            self.sync()?;
        }
        self.log_place.store(block::after(place, bytes), Ordering::Relaxed);
        self.after("write to the database", self.db.write_opt(batch, &self.write_options))?;
        let unflushed = self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unflushed >= self.write_buffer_bytes { self.flush() } else { Ok(()) }
    }

    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>> {
        let value = self
            .db
            .get_pinned_cf(self.family(family), key)
            .map(|value| value.map(|value| Bytes::copy_from_slice(&value)));
        self.after("read the database", value)
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.after("sync the database", self.db.flush_wal(true))
    }

    pub(super) fn flush(&self) -> Result<()> {
        // The last one must be done: RocksDB waits for it where there is too much to write out.
        (self.backend.finish_background_jobs)();
        // The flush begins a new log file; nothing of the old one may be lost once there is a newer
        // one.
        self.sync()?;
        self.unflushed_bytes.store(0, Ordering::Relaxed);
        self.log_place.store(0, Ordering::Relaxed);
        let mut options = FlushOptions::new();
        // The job that would be waited for may only run on this thread, after this call.
        options.set_wait(false);
        let families = Family::ALL.map(|family| self.family(family));
        self.after("flush the database", self.db.flush_cfs_opt(&families, &options))
    }

    /// Gives the space of what was overwritten or deleted back to the host; takes as long as copying what is left.
    pub(super) fn defragment(&self) -> Result<()> {
        self.flush()?;
        // A host with an environment of its own runs background jobs on this thread, after the call: nobody could
        // be waited for.
        if self.backend.env.is_none() {
            for family in Family::ALL {
                self.db.compact_range_cf(self.family(family), None::<&[u8]>, None::<&[u8]>);
            }
        }
        self.after("compact the database", Ok(()))
    }

    /// Where the log is, in its current file.
    #[cfg(test)]
    pub(super) fn log_place(&self) -> usize {
        self.log_place.load(Ordering::Relaxed)
    }

    pub(super) fn size(&self) -> Result<Size> {
        let sum = |name| {
            Family::ALL.iter().try_fold(0_u64, |sum, &family| {
                let bytes = self.db.property_int_value_cf(self.family(family), name);
                Ok::<_, rocksdb::Error>(sum + bytes?.unwrap_or(0))
            })
        };
        let size = (|| {
            let memory = sum(properties::CUR_SIZE_ALL_MEM_TABLES)?;
            let total = memory + sum(properties::TOTAL_SST_FILES_SIZE)?;
            let in_use = memory + sum(properties::LIVE_SST_FILES_SIZE)?;
            Ok(Size { total, in_use })
        })();
        self.after("measure the database", size)
    }

    /// An iterator over a family as it is now.
    pub(super) fn iterator(&self, family: Family) -> rocksdb::DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        // A scan would push out what gets need.
        options.fill_cache(false);
        self.db.raw_iterator_cf_opt(self.family(family), options)
    }

    /// What follows each call: the host's jobs, and the error with its path.
    pub(super) fn after<T>(
        &self,
        action: &str,
        result: std::result::Result<T, rocksdb::Error>,
    ) -> Result<T> {
        (self.backend.run_background_jobs)();
        result.map_err(|cause| wrap(action, &self.path, &cause))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Closing waits for queued jobs, and on a host without threads nobody else would run them.
        (self.backend.finish_background_jobs)();
    }
}

/// Options of the whole database.
fn database_options(
    backend: &Backend,
    sizes: StorageOptions,
) -> std::result::Result<Options, rocksdb::Error> {
    // No setters for these: after an I/O error RocksDB would start a thread that tries to resume;
    // and it would reserve disk space by its own limits, which are far above what its files grow
    // to.
    let names = "max_bgerror_resume_count=0;allow_fallocate=false";
    let mut options = Options::default().get_options_from_string(names)?;
    if let Some(env) = &backend.env {
        options.set_env(env);
    }
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Durability: see the invariants at the top of the module.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_atomic_flush(true);
    options.set_max_total_wal_size((sizes.write_buffer_bytes * OWN_LIMITS_FACTOR) as u64);
    options.set_paranoid_checks(true);
    // One writer, no threads of its own beyond the background jobs.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_max_background_jobs(2);
    options.set_max_subcompactions(1);
    options.set_max_file_opening_threads(1);
    options.set_max_open_files(OPEN_FILES_MAX);
    // No timers, no statistics, next to no log.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(1);
    options.set_manifest_preallocation_size(MANIFEST_STEP_BYTES);
    Ok(options)
}

/// Options of one column family.
fn family_options(options: StorageOptions, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    let mut family = Options::default();
    family.set_write_buffer_size(options.write_buffer_bytes * OWN_LIMITS_FACTOR);
    family.set_arena_block_size((options.write_buffer_bytes / 8).clamp(4 << 10, 1 << 20));
    family.set_max_write_buffer_number(WRITE_BUFFERS_MAX);
    family.set_compression_type(DBCompressionType::None);
    family.set_block_based_table_factory(&table);
    family
}

/// RocksDB's error with what was attempted and where.
fn wrap(action: &str, path: &Path, cause: &rocksdb::Error) -> Error {
    match cause.kind() {
        ErrorKind::Corruption => Error::corrupt(
            path,
            0,
            format!(
                "{cause} (cannot {action}; remove this member's data folder and let it rejoin)"
            ),
        ),
        _ => Error::io(action, path, cause),
    }
}
