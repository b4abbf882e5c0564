//! The whole state as a stream of bytes, out of one member and into another.
//!
//! The stream is a list of records, one per row of the database: family (1 byte), length of the key
//! (4 bytes), length of the value (4 bytes, both little endian), key, value. A last record with
//! family 0xff tells how many came before. The caller adds a checksum and may cut the stream
//! anywhere.
//!
//! An import first puts a mark into the database, removes everything else, and syncs that. Whatever
//! happens then, the mark says that the state is not whole until the import is finished and synced.
//! The caller keeps the stream in a file of its own until then, so that an interrupted import can
//! be repeated.

use bytes::{BufMut, Bytes, BytesMut};

use super::meta::{self, Meta, Position};
use super::{Limits, State};
use crate::error::{Error, Result};
use crate::storage::{Batch, Cursor, Family, Storage};

/// Family, length of the key, length of the value.
const HEADER_BYTES: usize = 9;

/// The family of the last record.
const END: u8 = 0xff;

/// Bytes of rows that an import writes at once.
const IMPORT_BATCH_BYTES: usize = 256 << 10;

fn family_number(family: Family) -> u8 {
    match family {
        Family::Meta => 1,
        Family::Key => 2,
    }
}

fn family_of(number: u8) -> Option<Family> {
    Family::ALL.into_iter().find(|family| family_number(*family) == number)
}

fn put_record(chunk: &mut BytesMut, family: u8, key: &[u8], value: &[u8]) {
    chunk.put_u8(family);
    chunk.put_u32_le(key.len() as u32);
    chunk.put_u32_le(value.len() as u32);
    chunk.put_slice(key);
    chunk.put_slice(value);
}

/// The state as it was when [`State::export`] was called, whatever is applied meanwhile.
pub struct StateExport {
    cursor: Cursor,
    /// Families that are not done, the current one last.
    families: Vec<Family>,
    records: u64,
    position: Position,
}

impl StateExport {
    /// Index and term of the newest entry in it.
    #[must_use]
    pub fn applied(&self) -> (u64, u64) {
        (self.position.index, self.position.term)
    }

    /// The next piece of the stream: whole records, as many as fit into `max_bytes`, at least one.
    /// `None` at the end.
    ///
    /// # Errors
    /// The system's, or a block with a wrong checksum.
    pub fn next_chunk(&mut self, max_bytes: usize) -> Result<Option<Bytes>> {
        let mut chunk = BytesMut::new();
        while chunk.len() < max_bytes.max(1) {
            let Some(&family) = self.families.last() else { break };
            let number = family_number(family);
            let skip = |key: &[u8]| family == Family::Meta && meta::is_loading(key);
            let more = self.cursor.next(family, |key, value| {
                if !skip(key) {
                    put_record(&mut chunk, number, key, value);
                    self.records += 1;
                }
                Ok(())
            })?;
            if more.is_none() {
                self.families.pop();
                if self.families.is_empty() {
                    put_record(&mut chunk, END, &self.records.to_le_bytes(), &[]);
                }
            }
        }
        Ok((!chunk.is_empty()).then(|| chunk.freeze()))
    }
}

impl State {
    /// A stream of the whole state as it is now. It holds a view of the database until it is
    /// dropped.
    ///
    /// # Errors
    /// The system's.
    pub fn export(&self) -> Result<StateExport> {
        let mut cursor = self.storage.cursor();
        let mut families = Vec::from(Family::ALL);
        families.reverse();
        for family in Family::ALL {
            cursor.seek(family, &[])?;
        }
        Ok(StateExport { cursor, families, records: 0, position: self.applied })
    }

    /// Begins to replace everything by the stream of a state at `index` and `term`. This state is
    /// over; [`StateImport::finish`] gives the new one.
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn import_begin(&mut self, index: u64, term: u64) -> Result<StateImport> {
        let blank = Self::blank(self.storage.clone(), self.limits);
        let State { storage, limits, .. } = std::mem::replace(self, blank);
        StateImport::begin(storage, limits, Position { index, term })
    }
}

/// An import under way: [`chunk`](Self::chunk) takes the stream, [`finish`](Self::finish) gives the
/// new state. Dropped before that, the state stays unusable, and the next open says so.
pub struct StateImport {
    storage: Storage,
    limits: Limits,
    position: Position,
    batch: Batch,
    /// The part of a record that has come so far.
    rest: BytesMut,
    records: u64,
    ended: bool,
}

impl StateImport {
    fn begin(storage: Storage, limits: Limits, position: Position) -> Result<Self> {
        let mut batch = storage.batch();
        meta::delete_all(&mut batch);
        meta::put_loading(&mut batch, position);
        storage.write(batch)?;
        storage.sync()?;
        let batch = storage.batch();
        let rest = BytesMut::new();
        Ok(Self { storage, limits, position, batch, rest, records: 0, ended: false })
    }

    /// Begins anew after a crash.
    pub(super) fn again(storage: Storage, limits: Limits, position: Position) -> Result<Self> {
        Self::begin(storage, limits, position)
    }

    /// Index and term of the state that is being imported.
    #[must_use]
    pub fn position(&self) -> (u64, u64) {
        (self.position.index, self.position.term)
    }

    /// Takes the next piece of the stream, cut anywhere.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that are no records; the system's. Fatal: open the state again.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<()> {
        self.rest.extend_from_slice(chunk);
        while let Some(record) = self.next_record()? {
            self.take(record)?;
            if self.batch.size_bytes() >= IMPORT_BATCH_BYTES {
                self.batch.write_and_clear(&self.storage)?;
            }
        }
        Ok(())
    }

    fn next_record(&mut self) -> Result<Option<(u8, Bytes, Bytes)>> {
        let Some((header, _)) = self.rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = |at: usize| {
            u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes")) as usize
        };
        let (family, key, value) = (header[0], length(1), length(5));
        if self.rest.len() < HEADER_BYTES + key + value {
            return Ok(None);
        }
        let mut record = self.rest.split_to(HEADER_BYTES + key + value).freeze();
        let mut body = record.split_off(HEADER_BYTES);
        let value = body.split_off(key);
        Ok(Some((family, body, value)))
    }

    fn take(&mut self, (family, key, value): (u8, Bytes, Bytes)) -> Result<()> {
        if self.ended {
            return Err(self.broken("records behind the last one"));
        }
        if family == END {
            self.ended = true;
            let expected = self.records.to_le_bytes();
            return if key[..] == expected {
                Ok(())
            } else {
                Err(self.broken("a wrong number of records"))
            };
        }
        let family = family_of(family).ok_or_else(|| self.broken("a record of no family"))?;
        self.batch.put(family, &key, &value);
        self.records += 1;
        Ok(())
    }

    fn broken(&self, what: &str) -> Error {
        Error::corrupt(self.storage.path(), 0, format!("the imported snapshot has {what}"))
    }

    /// Makes the imported state durable and opens it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the stream was not whole or not of the state it should be; the
    /// system's. Fatal.
    pub fn finish(mut self) -> Result<State> {
        if !self.ended || !self.rest.is_empty() {
            return Err(self.broken("no end"));
        }
        self.batch.write_and_clear(&self.storage)?;
        // What came must be whole before the mark is taken away.
        let meta = Meta { loading: None, ..Meta::read(&self.storage)? };
        if meta.applied.map(|(position, _)| position) != Some(self.position) {
            return Err(self.broken("another index or term than was announced"));
        }
        let state = State::restore(self.storage.clone(), self.limits, meta)?;
        meta::delete_loading(&mut self.batch);
        self.batch.write_and_clear(&self.storage)?;
        self.storage.sync()?;
        Ok(state)
    }
}
