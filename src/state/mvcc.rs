//! Writing and reading single values: rows by revision, those of the slice under way first.

use prost::Message;

use super::index::{Found, KeyRange};
use super::revision::{Revision, Row};
use super::{State, Verdict};
use crate::error::{Refusal, Result};
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader,
};
use crate::proto::mvccpb::KeyValue;
use crate::storage::{Batch, Family};

/// One change of one key, as it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its place in history.
    pub revision: Revision,
    /// Whether the key was deleted.
    pub is_delete: bool,
    /// The key as it was put; of a delete only key and mod revision, as in etcd's events.
    pub kv: KeyValue,
}

/// What a slice of entries has written so far. It reaches the database at the end of the slice, in
/// one batch.
pub(super) struct Pending {
    pub(super) batch: Batch,
    /// In the order of revisions: the database does not have them yet.
    changes: Vec<Change>,
    /// For encoding, kept to save allocations.
    buffer: Vec<u8>,
}

impl Pending {
    pub(super) fn new(batch: Batch) -> Self {
        Self { batch, changes: Vec::new(), buffer: Vec::new() }
    }

    /// Takes what was written, and is empty again.
    pub(super) fn take(&mut self, fresh: Batch) -> (Batch, Vec<Change>) {
        let changes = std::mem::take(&mut self.changes);
        (std::mem::replace(&mut self.batch, fresh), changes)
    }

    fn get(&self, revision: Revision) -> Option<&KeyValue> {
        let place = self.changes.binary_search_by_key(&revision, |each| each.revision).ok()?;
        Some(&self.changes[place].kv)
    }

    fn put_row(&mut self, row: Row, mut kv: KeyValue) {
        self.buffer.clear();
        kv.encode(&mut self.buffer).expect("a vector takes any length");
        self.batch.put(Family::Key, row.encode().as_ref(), &self.buffer);
        kv.mod_revision = row.revision.main;
        self.changes.push(Change { revision: row.revision, is_delete: row.tombstone, kv });
    }
}

/// One request that may write: the revision it began at, and its changes so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    begin: i64,
    changes: i64,
}

impl Write {
    pub(super) fn at(begin: i64) -> Self {
        Self { begin, changes: 0 }
    }

    /// The revision that reads of the request see, and that the store is at after it.
    pub(super) fn revision(self) -> i64 {
        self.begin + i64::from(self.changes > 0)
    }

    /// The place of the next change.
    fn next(&mut self) -> Revision {
        let revision = Revision { main: self.begin + 1, sub: self.changes };
        self.changes += 1;
        revision
    }
}

/// A header that says a revision; the rest is filled in by who answers.
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

impl State {
    /// The value written at a revision that the index knows.
    pub(super) fn read(&self, revision: Revision) -> Result<KeyValue> {
        if let Some(kv) = self.pending.get(revision) {
            return Ok(kv.clone());
        }
        let row = Row::put(revision);
        match self.storage.get(Family::Key, row.encode().as_ref())? {
            Some(value) => self.decode_value(row, value),
            None => Err(self.corrupt(format!("the row of {revision:?} is missing"))),
        }
    }

    /// A key's value at the revision `main`.
    pub(super) fn read_key(&self, key: &[u8], main: i64) -> Result<Option<KeyValue>> {
        self.index.get(key, main).map(|found| self.read(found.modified)).transpose()
    }

    /// The values of a range at the revision `main`, in key order.
    fn read_range(&self, range: KeyRange<'_>, main: i64) -> Result<Vec<KeyValue>> {
        let mut revisions = Vec::new();
        self.index.visit(range, main, |_, found| revisions.push(found.modified));
        revisions.into_iter().map(|revision| self.read(revision)).collect()
    }

    /// What must hold before a put, at the revision `main`; otherwise it is refused.
    pub(super) fn check_put(&self, main: i64, request: &PutRequest) -> Verdict<()> {
        if request.lease != 0 && !self.leases.contains(request.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        let needs_previous = request.ignore_value || request.ignore_lease;
        if needs_previous && self.index.get(&request.key, main).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    /// Executes a put that was checked.
    pub(super) fn put(&mut self, write: &mut Write, request: &PutRequest) -> Result<PutResponse> {
        let needs_previous = request.prev_kv || request.ignore_value || request.ignore_lease;
        let previous =
            if needs_previous { self.read_key(&request.key, write.revision())? } else { None };
        let mut kv = KeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            lease: request.lease,
            ..KeyValue::default()
        };
        if let Some(previous) = &previous {
            if request.ignore_value {
                kv.value = previous.value.clone();
            }
            if request.ignore_lease {
                kv.lease = previous.lease;
            }
        }
        let revision = write.next();
        let Found { created, version, .. } = self.index.put(&request.key, revision);
        kv.create_revision = created.main;
        kv.mod_revision = revision.main;
        kv.version = version;
        self.leases.put(&request.key, kv.lease);
        self.pending.put_row(Row::put(revision), kv);
        let prev_kv = previous.filter(|_| request.prev_kv);
        Ok(PutResponse { header: header(write.revision()), prev_kv })
    }

    /// Executes a delete.
    pub(super) fn delete_range(
        &mut self,
        write: &mut Write,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse> {
        let range = KeyRange::new(&request.key, &request.range_end);
        let prev_kvs =
            if request.prev_kv { self.read_range(range, write.revision())? } else { Vec::new() };
        let before = write.changes;
        let (pending, leases) = (&mut self.pending, &mut self.leases);
        self.index.delete(range, |key| {
            let revision = write.next();
            leases.delete(key);
            let key = bytes::Bytes::copy_from_slice(key);
            pending.put_row(Row::tombstone(revision), KeyValue { key, ..KeyValue::default() });
            revision
        });
        let deleted = write.changes - before;
        Ok(DeleteRangeResponse { header: header(write.revision()), deleted, prev_kvs })
    }
}
