//! What one apply writes: puts and deletes in both families, written whole or not at all.

use std::sync::Arc;

use rocksdb::WriteBatch;

use super::database::Database;
use super::{Family, Storage};

/// Puts and deletes that take effect together; see [`Storage::write`].
pub struct Batch {
    database: Arc<Database>,
    inner: WriteBatch,
}

impl Batch {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database, inner: WriteBatch::default() }
    }

    pub(super) fn into_inner(self) -> WriteBatch {
        self.inner
    }

    /// Sets a value.
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.inner.put_cf(self.database.family(family), key, value);
    }

    /// Removes a key, there or not.
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.inner.delete_cf(self.database.family(family), key);
    }

    /// Removes the keys from `start` up to, not including, `end`.
    pub fn delete_range(&mut self, family: Family, start: &[u8], end: &[u8]) {
        self.inner.delete_range_cf(self.database.family(family), start, end);
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether it holds no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Encoded size.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.inner.size_in_bytes()
    }

    /// Writes what is there so far and starts anew; as [`Storage::write`].
    ///
    /// # Errors
    /// Those of [`Storage::write`].
    pub fn write_and_clear(&mut self, storage: &Storage) -> crate::error::Result<()> {
        storage.write(std::mem::replace(self, storage.batch()))
    }
}
