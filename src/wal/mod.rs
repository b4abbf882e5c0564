//! The write-ahead log and snapshot files: what a member has promised, and what it starts from.
//!
//! # The log
//!
//! A folder of segments, `<sequence>-<first index>.wal` in hex. One append is one write:
//!
//! ```text
//! segment   head  metadata  hard state* │ append │ append │ … │ zeros up to the preallocated size
//! append    [sync point]  [mark]  [hard state]  entry  entry  entry*
//!
//! record     0         4      5      6       8          12                        8n
//!            ├─────────┼──────┼──────┼───────┼──────────┼──────────┬──────────────┤
//!            │ length  │ kind │ mask │ check │ rolling  │ payload  │ 1‥8 × A1‥A8  │
//!            └─────────┴──────┴──────┴───────┴──────────┴──────────┴──────────────┘
//!            little endian; kind 80 added: last of its append (* above)
//! ```
//!
//! * `length` counts the payload. `check` is over the six bytes before it, `rolling` is CRC32C
//!   over all records so far, this one included.
//! * `mask` is combined with each payload byte by exclusive or; it is zero unless the payload has
//!   sectors of zeros. So no sector of a record is zero on disk, and one that is was never written.
//! * The head restates sequence, rolling checksum and last entry of the segments before.
//! * A sync point begins the first append after each sync. It holds its own offset and the rolling
//!   checksum before it: whoever finds it knows that everything before it had been durable.
//!
//! * A mark stands alone, or with the hard state that lets its snapshot replace the log.
//!
//! # Torn or damaged
//!
//! Recovery reads up to the first record that is not there or not right. In any segment but the
//! last that is damage, unless the next segment's head proves that nothing follows. In the last
//! one, `tail.rs` tells a write cut by a crash, which nobody was told about, from damage to
//! something that may have been acknowledged. The first is cut off: behind the last complete
//! append the file is zeroed and synced before it is written to again, so that old records never come back.
//! The second is refused with [`Error::Corrupt`](crate::error::Error::Corrupt).
//!
//! # Snapshots
//!
//! [`SnapshotStore`] keeps `<term>-<index>.snap` files. A file is written aside, synced and
//! renamed; then its [`Mark`] is appended to the log. A snapshot counts when its mark is in the
//! log and committed. One that does not belong to the log (it came from the leader) replaces the
//! log from the moment that a hard state commits its index.
//!
//! Invariants:
//! * What a returned [`Wal::sync`] covers is recovered exactly, or the start is refused.
//! * Nothing is recovered that was not appended, and an append is recovered whole or not at all.
//! * A failed write or sync is never retried: the log refuses everything after it.
//! * The log never holds what raft forbids: gaps, terms going back, a vote changed, committed
//!   entries overwritten, a commit index beyond the end (`outline.rs`, checked at both ends).
//!
//! Not here: knowledge of raft-rs (entries are opaque), the decision when to sync or release,
//! repair from other members, and a second copy of term and vote. A disk that silently loses whole
//! sectors of the last synced write, with nothing written after it, looks like a crash; whoever
//! opens the log compares its end with the backend's consistent index.

#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod log;
mod outline;
mod record;
mod recover;
mod segment;
mod snapshot;
mod snapshot_file;
mod tail;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the fuzzer needs only some of it"))]
mod testdisk;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use bytes::Bytes;

#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::log as fuzz_log;
pub use log::Wal;
pub use snapshot::{Damaged, Newest, SnapshotStore, SnapshotWriter};
pub use snapshot_file::{SnapshotFile, SnapshotMeta};

/// What to do about damage; the end of each such message.
const REMEDY: &str = "nothing was changed; restore the file, \
    or remove this member from the cluster and add it again with an empty data folder";

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place in the log, from 1.
    pub index: u64,
    /// The term it was proposed in.
    pub term: u64,
    /// Opaque here.
    pub data: Bytes,
}

/// What a member must not forget besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: u64,
    /// Whom the member voted for in that term; 0 for nobody.
    pub vote: u64,
    /// The last entry known to be committed.
    pub commit: u64,
}

/// A snapshot's place in the log; ordered by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The last entry that the snapshot covers.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment of at least this many bytes is followed by another. Also preallocated.
    pub segment_bytes: u64,
}

/// What [`Wal::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// As given to [`Wal::create`].
    pub metadata: Vec<u8>,
    /// The latest hard state.
    pub hard_state: HardState,
    /// The entries after the mark, without gaps.
    pub entries: Vec<Entry>,
    /// The torn write that was cut off, if any.
    pub repaired: Option<Repair>,
}

/// A torn write that was cut off at the end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The last segment.
    pub path: PathBuf,
    /// Where the log ends now, in bytes.
    pub offset: u64,
    /// How many bytes of the torn write were there.
    pub bytes: u64,
}
