//! The past, change by change: what a watcher that is behind reads instead of being told.
//!
//! [`State::history`] pins a view of the rows; reading it takes nothing from whoever owns the
//! state. Rows come in the order of revisions, so a piece of history is a walk over neighbours.

use bytes::Bytes;
use prost::Message;

use super::revision::{Revision, Row};
use super::{Change, State};
use crate::error::{Error, Result};
use crate::proto::mvccpb::KeyValue;
use crate::storage::{Cursor, Family};

/// All rows as they were at one moment.
pub struct History {
    cursor: Cursor,
    current: i64,
    compact: i64,
}

/// Some revisions of history, whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// The changes, in the order of revisions.
    pub changes: Vec<Change>,
    /// The last revision that it covers.
    pub end: i64,
}

impl History {
    /// The newest revision in it.
    #[must_use]
    pub fn current(&self) -> i64 {
        self.current
    }

    /// Revisions below it are not whole: the compact revision at that moment.
    #[must_use]
    pub fn compact(&self) -> i64 {
        self.compact
    }

    /// The changes from the revision `from` on, which must not be compacted: whole revisions, at
    /// least one, until there are `changes_max` changes or `bytes_max` bytes of keys and values.
    ///
    /// # Errors
    /// The system's, or a row that cannot be what was written.
    pub fn read(&mut self, from: i64, changes_max: usize, bytes_max: usize) -> Result<Piece> {
        let start = Row::put(Revision { main: from, sub: 0 });
        self.cursor.seek(Family::Key, start.encode().as_ref())?;
        let mut piece = Piece { changes: Vec::new(), end: self.current };
        let mut bytes = 0;
        loop {
            let full = piece.changes.len() >= changes_max || bytes >= bytes_max;
            let last = piece.changes.last().map_or(0, |change| change.revision.main);
            let read = |key: &[u8], value: &[u8]| {
                let row = Row::decode(key).ok_or_else(|| broken(key))?;
                // A revision that was begun is read to its end.
                if full && row.revision.main > last {
                    return Ok(None);
                }
                change(row, value).map(Some)
            };
            match self.cursor.next(Family::Key, read)? {
                None => return Ok(piece),
                Some(None) => {
                    piece.end = last;
                    return Ok(piece);
                }
                Some(Some(change)) => {
                    bytes += change.kv.key.len() + change.kv.value.len();
                    piece.changes.push(change);
                }
            }
        }
    }
}

fn change(row: Row, value: &[u8]) -> Result<Change> {
    let mut kv = KeyValue::decode(Bytes::copy_from_slice(value))
        .map_err(|_| broken(row.encode().as_ref()))?;
    kv.mod_revision = row.revision.main;
    Ok(Change { revision: row.revision, is_delete: row.tombstone, kv })
}

fn broken(key: &[u8]) -> Error {
    Error::Fatal(format!("the row {key:02x?} of the backend cannot be read"))
}

impl State {
    /// A view of all rows as they are now.
    #[must_use]
    pub fn history(&self) -> History {
        let (current, compact) = (self.current_revision, self.compact_revision);
        History { cursor: self.storage.cursor(), current, compact }
    }

    /// The key as it was before the revision `main`; `None` where it was not there, or where that
    /// is compacted.
    ///
    /// # Errors
    /// The system's, or a row that is missing.
    pub fn previous(&self, key: &[u8], main: i64) -> Result<Option<KeyValue>> {
        if main - 1 < self.compact_revision.max(super::FIRST_REVISION) {
            return Ok(None);
        }
        self.read_key(key, main - 1)
    }
}
