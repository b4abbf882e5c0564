//! What a watcher is told, and the changes that many watchers are told of together.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::error::Refusal;
use crate::proto::mvccpb::KeyValue;
use crate::raft;
use crate::state::Change;

/// Whole revisions of changes, shared by everybody who is told of some of them.
#[derive(Debug)]
pub struct Batch {
    changes: Vec<Change>,
    /// The keys as they were before, in the same order; asked for once, by whoever wants them first.
    previous: OnceCell<Vec<Option<KeyValue>>>,
}

impl Batch {
    /// These changes, in the order of revisions.
    #[must_use]
    pub fn new(changes: Vec<Change>) -> Self {
        Self { changes, previous: OnceCell::new() }
    }

    /// The changes.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.kv.key.len() + change.kv.value.len()).sum()
    }

    /// What each key was before its change; `None` where it was not there, or where that is compacted.
    ///
    /// # Errors
    /// The loop is busy or gone.
    pub async fn previous(
        &self,
        handle: &raft::Handle,
        keys_max: usize,
    ) -> Result<&[Option<KeyValue>], Refusal> {
        let ask = || async {
            let mut previous = Vec::with_capacity(self.changes.len());
            for changes in self.changes.chunks(keys_max.max(1)) {
                // A key that was made by its change was not there before.
                let is_made = |change: &&Change| {
                    !change.is_delete && change.kv.create_revision == change.kv.mod_revision
                };
                let place = |change: &Change| (change.kv.key.clone(), change.revision.main);
                let keys = changes.iter().filter(|change| !is_made(change)).map(place).collect();
                let mut values = handle.previous(keys).await?.into_iter();
                previous.extend(
                    changes.iter().map(|change| {
                        if is_made(&change) { None } else { values.next().flatten() }
                    }),
                );
            }
            Ok(previous)
        };
        self.previous.get_or_try_init(ask).await.map(Vec::as_slice)
    }
}

/// What a stream is told about one of its watchers.
#[derive(Clone, Debug)]
pub enum News {
    /// Some of its keys have changed.
    Events {
        /// The watcher.
        watcher: u64,
        /// The changes, among others.
        batch: Arc<Batch>,
        /// Which of them, in order.
        picks: Vec<u32>,
        /// It has now been told everything up to this revision.
        revision: i64,
    },
    /// It has been told everything up to this revision.
    Progress {
        /// The watcher.
        watcher: u64,
        /// The revision.
        revision: i64,
    },
    /// All watchers of the stream have been told everything up to this revision.
    AllProgress {
        /// Watchers with this number and above were not there yet: it does not hold for them.
        before: u64,
        /// The revision.
        revision: i64,
    },
    /// What it was to be told next is compacted: this is the last it hears.
    Compacted {
        /// The watcher.
        watcher: u64,
        /// The revision that history begins at now.
        compact_revision: i64,
        /// The current revision.
        revision: i64,
    },
}
