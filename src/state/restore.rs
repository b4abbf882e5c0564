//! Opening a state: the key index is rebuilt from the rows, and the counters are checked against
//! them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use super::auth::Auth;
use super::compaction::Compaction;
use super::index::Index;
use super::lease::Leases;
use super::meta::{Meta, Position};
use super::mvcc::Pending;
use super::revision::Row;
use super::{FIRST_REVISION, Limits, NEVER_COMPACTED, State, StateImport, StateOpen};
use crate::error::Result;
use crate::proto::mvccpb::KeyValue;
use crate::storage::{Family, Storage};

/// The index of the newest entry in the state in `storage`, read from one value; `None` while a snapshot is being
/// loaded. Whether the rest is sound is not looked at.
///
/// # Errors
/// The system's, or [`Error::Corrupt`](crate::error::Error::Corrupt).
pub fn applied_index(storage: &Storage) -> Result<Option<u64>> {
    let meta = Meta::read(storage)?;
    let (applied, _) = meta.applied.unwrap_or_default();
    Ok(meta.loading.is_none().then_some(applied.index))
}

impl State {
    /// Opens the state in `storage`; a fresh one if nothing was ever applied. An unfinished
    /// compaction is taken up again by [`compact_step`](Self::compact_step).
    ///
    /// # Errors
    /// The system's, or [`Error::Corrupt`](crate::error::Error::Corrupt) for rows that contradict
    /// each other.
    pub fn open(storage: Storage, limits: Limits) -> Result<StateOpen> {
        let meta = Meta::read(&storage)?;
        if let Some(position) = meta.loading {
            return Ok(StateOpen::NeedsImport(StateImport::again(storage, limits, position)?));
        }
        Self::restore(storage, limits, meta).map(StateOpen::Ready)
    }

    /// A state without content.
    pub(super) fn blank(storage: Storage, limits: Limits) -> Self {
        Self {
            pending: Pending::new(storage.batch()),
            storage,
            limits,
            index: Index::default(),
            current_revision: FIRST_REVISION,
            compact_revision: NEVER_COMPACTED,
            compaction: Compaction::finished_at(NEVER_COMPACTED),
            applied: Position::default(),
            conf_state: None,
            members: BTreeMap::new(),
            removed_members: BTreeSet::new(),
            alarms: BTreeSet::new(),
            leases: Leases::default(),
            auth: Auth::default(),
            changes: Vec::new(),
        }
    }

    pub(super) fn restore(storage: Storage, limits: Limits, meta: Meta) -> Result<Self> {
        let mut state = Self::blank(storage, limits);
        state.restore_auth()?;
        state.restore_rows()?;
        state.restore_members()?;
        state.restore_alarms()?;
        state.restore_leases()?;
        let finished = meta.finished_compact.unwrap_or(NEVER_COMPACTED);
        state.compact_revision = finished.max(meta.scheduled_compact.unwrap_or(NEVER_COMPACTED));
        state.compaction = Compaction::finished_at(finished);
        state.conf_state = meta.conf_state;
        let (applied, revision) = meta.applied.unwrap_or((Position::default(), FIRST_REVISION));
        // A compaction leaves a row of the compact revision itself, so the newest row is always
        // there.
        if revision != state.current_revision {
            return Err(state.corrupt(format!(
                "the newest row is of revision {}, but entry {} left revision {revision}; \
                 remove this member's data folder and let it rejoin",
                state.current_revision, applied.index
            )));
        }
        state.applied = applied;
        Ok(state)
    }

    fn restore_rows(&mut self) -> Result<()> {
        let mut cursor = self.storage.cursor();
        cursor.seek(Family::Key, &[])?;
        while cursor.next(Family::Key, |key, value| self.restore_row(key, value))?.is_some() {}
        Ok(())
    }

    fn restore_row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let row = Row::decode(key)
            .ok_or_else(|| self.corrupt(format!("a row key that is none: {key:02x?}")))?;
        let kv = self.decode_value(row, Bytes::copy_from_slice(value))?;
        let created_version = (kv.create_revision, kv.version);
        self.index
            .restore(&kv.key, row.revision, row.tombstone, created_version)
            .map_err(|reason| self.corrupt(format!("the row of {:?}: {reason}", row.revision)))?;
        self.leases.restore(&kv.key, if row.tombstone { 0 } else { kv.lease });
        self.current_revision = self.current_revision.max(row.revision.main);
        Ok(())
    }

    pub(super) fn decode_value(&self, row: Row, value: Bytes) -> Result<KeyValue> {
        KeyValue::decode(value)
            .map_err(|cause| self.corrupt(format!("the row of {:?}: {cause}", row.revision)))
    }
}
