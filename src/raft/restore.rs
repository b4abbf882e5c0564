//! A data folder made from a snapshot: the state of another cluster as the beginning of a new one.
//!
//! All members of the new cluster are made from the same snapshot with the same flags, and so come to the same
//! state. Their log begins after one entry that nobody has: what the snapshot holds.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::membership::{encode, first_members};
use super::recovery::{Owner, make_folders, open_state};
use crate::config::Config;
use crate::error::Result;
use crate::host::Host;
use crate::wal::{self, HardState, Mark, SnapshotMeta, SnapshotStore, Wal};

/// Where the log of a restored member begins.
const BEGINNING: Mark = Mark { index: 1, term: 1 };

/// Makes the data folder of `config` from the stream of a state at `position` (index and term).
///
/// # Errors
/// The disk failed, or the stream is not whole; the folder must be thrown away then.
pub async fn restore(
    host: &Arc<dyn Host>,
    config: &Config,
    position: (u64, u64),
    pieces: impl IntoIterator<Item = Result<Bytes>>,
) -> Result<()> {
    let disk = host.disk();
    make_folders(&*disk, config).await?;
    let mut state = open_state(&**host, config, None).await?;
    let mut import = state.import_begin(position.0, position.1)?;
    drop(state);
    for piece in pieces {
        import.chunk(&piece?)?;
    }
    let mut state = import.finish()?;
    let (members, conf_state) = first_members(config);
    let conf_state = encode(&conf_state)?;
    state.found(members, conf_state.clone(), (BEGINNING.index, BEGINNING.term))?;
    let snapshots = SnapshotStore::new(Arc::clone(&disk), &config.snap_dir())?;
    let meta = SnapshotMeta { mark: BEGINNING, conf_state, has_state: false, members: Vec::new() };
    snapshots.create(meta).await?.finish().await?;
    let owner = Owner::of(config);
    let options = wal::Options { segment_bytes: config.limits.wal_segment_bytes };
    let mut wal = Wal::create(disk, &config.wal_dir(), &owner.encode_to_vec(), options).await?;
    wal.append_mark(BEGINNING)?;
    let hard_state = HardState { term: BEGINNING.term, vote: 0, commit: BEGINNING.index };
    wal.append(&[], Some(hard_state))?;
    wal.sync().await
}
