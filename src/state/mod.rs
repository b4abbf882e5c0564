//! The replicated state machine: a function of the log.
//!
//! Every member applies the same committed entries in the same order and must end up with the same
//! bytes. So nothing here reads a clock, rolls dice, awaits, or depends on a member's
//! configuration.
//!
//! LIFE OF AN ENTRY. [`State::apply`] takes a slice of committed entries. Each request is validated
//! again ([`validate`]), checked against the state, and only then executed, so that a refused
//! request has no effect. A change becomes a row `revision → KeyValue` in a pending
//! [`Batch`](crate::storage::Batch) and a revision in the key index (`index`); a value written
//! earlier in the slice is read back from the pending values (`mvcc`). At the end the batch gets
//! the consistent index and reaches RocksDB in one atomic write.
//!
//! REVISIONS. A request that changes at least one key moves the store one revision on; its changes
//! share that revision and are told apart by a second number that clients never see (`revision`).
//! Everything else leaves the revision as it is. A fresh store is at revision 1, and at compact
//! revision -1.
//!
//! LEASES are granted, checkpointed and revoked by entries (`lease`). A revocation is a delete of
//! the keys that hang on the lease.
//!
//! USERS, roles and permissions are changed by entries too, and every request is checked against them
//! when it is applied (`auth`).
//!
//! READS go through the index to revisions, and from revisions to rows (`range`, `txn`).
//!
//! COMPACTION at R is in force as soon as its entry is applied: reads below R are refused. What it
//! removes is removed later, in bounded steps, key by key from the index and the database together
//! (`compaction`). How far those steps are differs between members, so nothing that members share
//! may depend on it: answers at or above R do not, and the two hashes (`hash`) leave out rows that
//! are only waiting to be removed.
//!
//! RESTART. The index is rebuilt from the rows (`restore`); an unfinished compaction starts over,
//! which is harmless. The database may have lost unsynced batches: a whole tail of them, never one
//! in the middle. The log still has their entries, and [`State::applied`] says where to go on.
//!
//! SNAPSHOTS. [`State::export`] walks one pinned view of the database; [`StateImport`] replaces
//! everything by such a stream, and a crash in the middle is noticed at the next open (`transfer`).
//!
//! Invariants:
//! * State at index i is a function of the entries up to i: any slicing, any restart in between,
//!   any progress of compaction gives the same responses, the same [`State::hash_all`] and the same
//!   [`State::hash_kv`].
//! * Data and consistent index are written together. Entries at or below it are skipped.
//! * The current revision never decreases, and every revision between the compact and the current
//!   one has rows.
//! * An error that is not a refusal (the disk's, a missing row) is fatal: the state must not be
//!   used after it.
//! * No content of a log entry makes this code panic.
//!
//! Not here: when a lease is due (the leader knows); who watches ([`crate::watch`]);
//! who votes, which raft keeps ([`State::conf_state`] only stores it).

mod alarm;
mod apply;
mod auth;
mod compaction;
mod hash;
mod history;
mod index;
mod lease;
mod members;
mod meta;
mod mvcc;
mod range;
mod restore;
mod revision;
mod transfer;
mod txn;
pub mod validate;

#[cfg(test)]
mod model;
#[cfg(test)]
mod script;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::error::{Error, Refusal, Result};
use crate::proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, InternalRaftRequest, LeaseCheckpointResponse,
    LeaseGrantResponse, LeaseRevokeResponse, PutResponse, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse,
};
use crate::storage::{Size, Storage};

use alarm::Alarms;
use auth::Auth;
use compaction::Compaction;
use index::Index;
use lease::Leases;
use meta::Position;
use mvcc::Pending;

pub use alarm::cost;
pub use auth::{AuthAnswer, AuthChange, Caller};
pub use hash::KeysHash;
pub use history::{History, Piece};
#[cfg(any(test, feature = "fuzzing"))]
pub use index::fuzzing::index as fuzz_index;
pub use lease::{Lease, LeaseChange};
pub use members::{Member, Members};
pub use mvcc::Change;
pub use restore::applied_index;
pub use revision::Revision;
pub use transfer::{StateExport, StateImport};
pub use txn::{is_read_only, is_serializable};

/// A result that is part of the replicated state: the same on every member.
pub type Verdict<T> = std::result::Result<T, Refusal>;

/// The revision of a store in which nothing was ever written.
pub const FIRST_REVISION: i64 = 1;

/// The compact revision of a store that was never compacted.
pub const NEVER_COMPACTED: i64 = -1;

/// Bounds that do not change what requests mean, and so may differ between members.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most revisions that one [`State::compact_step`] removes, and most keys that it looks at.
    pub compaction_batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // etcd's --compaction-batch-limit.
        Self { compaction_batch: 1000 }
    }
}

/// One committed entry of the log.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Its place in the log.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// What to do; `None` for an entry that is raft's own business.
    pub request: Option<InternalRaftRequest>,
    /// The new configuration to keep, opaque here, if the entry changed it.
    pub conf_state: Option<Vec<u8>>,
}

/// What became of an entry with a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The request's own id, from its header.
    pub id: u64,
    /// The answer, the same on every member.
    pub result: Verdict<Response>,
}

/// The answer to a request. Headers carry the revision only; who answers fills in the rest.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    DeleteRange(DeleteRangeResponse),
    /// To a txn.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactionResponse),
    /// To the grant of a lease.
    LeaseGrant(LeaseGrantResponse),
    /// To the revocation of a lease.
    LeaseRevoke(LeaseRevokeResponse),
    /// To a checkpoint of leases.
    LeaseCheckpoint(LeaseCheckpointResponse),
    /// To a request about users, roles and permissions.
    Auth {
        /// The revision.
        revision: i64,
        /// The answer itself.
        answer: AuthAnswer,
    },
    /// To a member that published its name and URLs.
    Attributes,
    /// To a question about alarms, or a change of them.
    Alarm(crate::proto::etcdserverpb::AlarmResponse),
    /// To a change of members: all of them, with the change.
    Members(Vec<crate::proto::etcdserverpb::Member>),
}

/// What [`State::open`] finds.
#[allow(clippy::large_enum_variant, reason = "there is one, for a moment")]
pub enum StateOpen {
    /// A whole state.
    Ready(State),
    /// A crash interrupted an import: the state is gone, and the same snapshot must be imported
    /// again.
    NeedsImport(StateImport),
}

/// The state machine. One owner applies; see the module for what it promises.
pub struct State {
    storage: Storage,
    limits: Limits,
    index: Index,
    /// The revision of the newest change.
    current_revision: i64,
    /// Reads below it are refused.
    compact_revision: i64,
    compaction: Compaction,
    /// The newest applied entry.
    applied: Position,
    conf_state: Option<Vec<u8>>,
    members: Members,
    removed_members: BTreeSet<u64>,
    alarms: Alarms,
    leases: Leases,
    auth: Auth,
    /// What the newest slice has changed, in order, until somebody takes it.
    changes: Vec<Change>,
    /// What the slice under way has written; empty between slices.
    pending: Pending,
}

impl State {
    /// Index and term of the newest applied entry; zeros for none. It may be lost in a power cut
    /// unless [`sync`](Self::sync) came after it.
    #[must_use]
    pub fn applied(&self) -> (u64, u64) {
        (self.applied.index, self.applied.term)
    }

    /// The configuration of the newest entry that changed it.
    #[must_use]
    pub fn conf_state(&self) -> Option<&[u8]> {
        self.conf_state.as_deref()
    }

    /// The revision of the newest change.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        self.current_revision
    }

    /// The revision below which history is gone, or [`NEVER_COMPACTED`].
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Answers a range from the state as it is; whether that is fresh enough is the caller's
    /// business.
    ///
    /// # Errors
    /// [`Error::Refused`] with a verdict on the request; anything else is fatal.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        validate::range(request)?;
        self.check_readable()?;
        self.range_at(self.current_revision, request)
    }

    /// Answers a txn for which [`is_read_only`] holds from the state as it is.
    ///
    /// # Errors
    /// [`Error::Refused`] with a verdict on the request; anything else is fatal.
    pub fn txn_read_only(&self, request: &TxnRequest) -> Result<TxnResponse> {
        validate::txn(request, usize::MAX)?;
        if !is_read_only(request) {
            return Err(Error::Fatal("a txn that may write must go through the log".to_owned()));
        }
        self.check_readable()?;
        self.read_txn(request)
    }

    /// The changes of the newest slice, in the order of revisions; nobody gets them twice.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Makes all that is applied durable, and returns up to which index that is. The log may be cut
    /// there.
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn sync(&mut self) -> Result<u64> {
        self.storage.sync()?;
        Ok(self.applied.index)
    }

    /// Gives space that nothing uses any more back, where that can be done at once.
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn defragment(&self) -> Result<()> {
        self.storage.defragment()
    }

    /// Bytes that the database takes: in total, and of it in use.
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn db_size(&self) -> Result<(u64, u64)> {
        let Size { total, in_use } = self.storage.size()?;
        Ok((total, in_use))
    }

    /// Keys in the index, dead ones with a tombstone included.
    #[must_use]
    pub fn indexed_keys(&self) -> usize {
        self.index.len()
    }

    /// A row, or a piece of one, that is not there or cannot be what was written.
    fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(self.storage.path(), 0, reason)
    }
}
