//! Removing what a compaction has put out of reach, in bounded steps.
//!
//! A step walks the key index from where the last one ended and drops old revisions from it; the
//! rows of exactly those go from the database in one batch. So the index always tells which rows
//! belong to the state, and no list of rows to keep is needed.
//!
//! A crash forgets how far the walk was: the rebuilt index has the rows that are left, and the walk
//! starts over. Within a key, old rows go first, so that a row is never left without the tombstone
//! that ended it. A newer compaction also starts the walk over, and finishes both.

use super::State;
use super::meta;
use super::revision::{Revision, Row};
use crate::error::Result;
use crate::storage::Family;

/// How far the removal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compaction {
    /// The newest compact revision whose rows are all removed.
    finished: i64,
    /// The key to go on at.
    next: Vec<u8>,
}

impl Compaction {
    /// No walk under way; all rows are removed up to a compact revision.
    pub(super) fn finished_at(finished: i64) -> Self {
        Self { finished, next: Vec::new() }
    }

    pub(super) fn finished(&self) -> i64 {
        self.finished
    }
}

impl State {
    /// Whether rows are waiting to be removed.
    #[must_use]
    pub fn compaction_pending(&self) -> bool {
        self.compaction.finished < self.compact_revision
    }

    /// Removes some of what the newest compaction has put out of reach; true while there is more.
    /// How much a step does at most is
    /// [`Limits::compaction_batch`](super::Limits::compaction_batch).
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn compact_step(&mut self) -> Result<bool> {
        if !self.compaction_pending() {
            return Ok(false);
        }
        let mut batch = self.storage.batch();
        let mut drop = |revision: Revision, tombstone: bool| {
            let row = Row { revision, tombstone };
            batch.delete(Family::Key, row.encode().as_ref());
        };
        let mut revisions_left = self.limits.compaction_batch.max(1);
        let mut keys_left = revisions_left;
        let mut done = false;
        while revisions_left > 0 && keys_left > 0 && !done {
            let Some((key, history)) = self.index.next_mut(&self.compaction.next) else {
                done = true;
                continue;
            };
            keys_left -= 1;
            let key = key.to_vec();
            revisions_left -= history.compact(self.compact_revision, revisions_left, &mut drop);
            self.index.forget_empty(&key);
            self.compaction.next = key;
            // With revisions left in the step the key is done with; otherwise it may not be.
            if revisions_left > 0 {
                self.compaction.next.push(0);
            }
        }
        if done {
            self.compaction = Compaction::finished_at(self.compact_revision);
            meta::put_finished_compact(&mut batch, self.compact_revision);
        }
        self.storage.write(batch)?;
        Ok(!done)
    }
}
