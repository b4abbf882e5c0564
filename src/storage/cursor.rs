//! One consistent view of the database that owns what it reads and outlives later writes.

use std::sync::Arc;

use rocksdb::DBRawIterator;
use self_cell::self_cell;

use super::Family;
use super::database::Database;
use crate::error::Result;

/// One iterator per family, all made at one moment. An iterator of RocksDB sees the database as it
/// was when it was made, so together they are a snapshot; the one owner of the state machine writes
/// nothing between.
type Iterators<'a> = Vec<(Family, DBRawIterator<'a>)>;

self_cell!(
    struct View {
        owner: Arc<Database>,
        #[not_covariant]
        dependent: Iterators,
    }
);

/// Walks families from front to back, as they were when the cursor was made.
pub struct Cursor {
    view: View,
}

impl Cursor {
    pub(super) fn open(database: Arc<Database>) -> Self {
        let view = View::new(database, |database| {
            let iterators = Family::ALL.map(|family| (family, database.iterator(family)));
            Vec::from(iterators)
        });
        let cursor = Self { view };
        cursor.after(Ok(())).expect("no call was made that could fail");
        cursor
    }

    /// Goes to the first key of `family` at or after `key`.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub fn seek(&mut self, family: Family, key: &[u8]) -> Result<()> {
        let status = self.with(family, |iterator| {
            iterator.seek(key);
            iterator.status()
        });
        self.after(status)
    }

    /// The key and the value at the place of the cursor in `family`, handed to `read`; then steps
    /// on. `None` at the end. [`seek`](Self::seek) comes first.
    ///
    /// # Errors
    /// The system's, or a block with a wrong checksum; and those of `read`.
    pub fn next<T>(
        &mut self,
        family: Family,
        read: impl FnOnce(&[u8], &[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        let (item, status) = self.with(family, |iterator| {
            let item = iterator.item().map(|(key, value)| read(key, value));
            if item.is_some() {
                iterator.next();
            }
            (item, iterator.status())
        });
        self.after(status)?;
        item.transpose()
    }

    fn with<T>(&mut self, family: Family, call: impl FnOnce(&mut DBRawIterator<'_>) -> T) -> T {
        self.view.with_dependent_mut(|_, iterators| {
            let (_, iterator) = iterators
                .iter_mut()
                .find(|(each, _)| *each == family)
                .expect("an iterator per family is made at open");
            call(iterator)
        })
    }

    fn after<T>(&self, result: std::result::Result<T, rocksdb::Error>) -> Result<T> {
        self.view.borrow_owner().after("read the database", result)
    }
}
