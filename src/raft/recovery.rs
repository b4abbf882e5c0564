//! From files to a member that can go on: the order of a restart.
//!
//! 1. The marks in the log say which snapshots count; the newest whose file is whole is chosen.
//! 2. The log is read from that mark. A torn tail was never acknowledged and is cut; any other damage refuses.
//! 3. What a power cut may leave of the backend and RocksDB would not open is mended (`storage/manifest.rs`). The
//!    backend is looked at, and opened at its consistent index. Where the chosen snapshot carries the state and the
//!    backend is behind it (or was in the middle of loading it), the state is loaded from the file again.
//! 4. raft starts at the backend's consistent index and hands out what is committed above it.
//!
//! Invariants (a member that breaks one does not start, and says which file and what to do):
//! * mark ≤ consistent index ≤ last entry of the log.
//! * An entry that the backend has applied had been committed, and its own log had been synced before. So where
//!   the backend is ahead of the commit index on disk (a change of the commit index alone is not synced), the
//!   commit index is raised to it; where the log lacks that entry, the log has lost what was promised.
//! * Nothing that could still be read right is thrown away on the word of a disk that reads wrong: a damaged
//!   snapshot is set aside, one that the log does not know is removed, and the backend is opened for writing, once it
//!   is known that the rest will do.
//! * The log and the data folder belong to this member of this cluster.

use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{self, ConfState};

use super::alone;
use super::join::{self, Joined};
use super::log::{LogStore, Place};
use super::membership::{encode, farewell, first_members};
use crate::config::{ClusterState, Config};
use crate::error::{Error, Result};
use crate::host::{Backend, Disk, Host};
use crate::state::{self, State, StateImport, StateOpen};
use crate::storage::{Storage, StorageOptions, manifest};
use crate::wal::{self, HardState, Mark, Newest, SnapshotFile, SnapshotStore, Wal};

/// What a restart found.
pub(super) struct Recovered {
    pub(super) wal: Wal,
    pub(super) snapshots: SnapshotStore,
    pub(super) state: State,
    pub(super) log: LogStore,
    pub(super) hard_state: HardState,
    /// The snapshot that the log was read from.
    pub(super) snapshot: Mark,
}

/// Whose log it is; kept in each segment.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Owner {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
    /// Of the format of entries and snapshots.
    #[prost(uint32, tag = "3")]
    pub(super) version: u32,
}

impl Owner {
    /// The member that `config` describes.
    pub(super) fn of(config: &Config) -> Self {
        let (cluster_id, member_id) = (config.cluster_id(), config.member_id());
        Self { cluster_id, member_id, version: VERSION }
    }
}

/// What to do about a member that cannot go on.
pub(super) const REMEDY: &str = "restore the folder, or remove this member from the cluster and add it again \
    with an empty data folder";

/// The format that this program writes.
pub(super) const VERSION: u32 = 1;

/// Reads everything that a member left behind, or makes it new.
pub(super) async fn recover(
    host: &Arc<dyn Host>,
    config: &Config,
    joined: Option<Joined>,
) -> Result<Recovered> {
    let disk = host.disk();
    let snapshots = SnapshotStore::new(Arc::clone(&disk), &config.snap_dir())?;
    make_folders(&*disk, config).await?;
    let cut = manifest::repair(&*disk, &config.backend_dir()).await?;
    match (read(host, config, joined, snapshots).await, cut) {
        (Err(error), Some(cut)) => {
            cut.undo(&*disk).await?;
            Err(error)
        }
        (recovered, _) => recovered,
    }
}

/// The same, where files are as RocksDB can read them.
async fn read(
    host: &Arc<dyn Host>,
    config: &Config,
    joined: Option<Joined>,
    snapshots: SnapshotStore,
) -> Result<Recovered> {
    let disk = host.disk();
    let dir = config.wal_dir();
    let owner = Owner::of(config);
    let options = wal::Options { segment_bytes: config.limits.wal_segment_bytes };
    if !Wal::exists(&*disk, &dir)? {
        let mut state = open_state(&**host, config, None).await?;
        if state.applied() != (0, 0) {
            let text = format!("the log is missing but the backend has data; {REMEDY}");
            return Err(Error::corrupt(dir, 0, text));
        }
        bootstrap(&mut state, host, config, joined).await?;
        let wal = Wal::create(disk, &dir, &owner.encode_to_vec(), options).await?;
        let log = LogStore::new(Place::default(), conf_state(&state, config)?);
        let (hard_state, snapshot) = (HardState::default(), Mark::default());
        return Ok(Recovered { wal, snapshots, state, log, hard_state, snapshot });
    }
    let marks = Wal::marks(&disk, &dir).await?;
    let Newest { mut file, damaged, unknown } = snapshots.newest_usable(&marks)?;
    let snapshot = file.as_ref().map_or_else(Mark::default, |file| file.meta.mark);
    let opened = Wal::open(disk, &dir, snapshot, options).await;
    let (mut wal, found) = opened.map_err(|error| match (error, damaged.first()) {
        // The log begins after the damaged one: no older one could replace it.
        (Error::Corrupt { .. }, Some(damaged)) => damaged.reason.clone(),
        (error, _) => error,
    })?;
    check_owner(&found.metadata, &owner, &config.data_dir)?;
    let promised = marks.iter().max().copied().unwrap_or_default();
    check_promise(&**host, config, promised, file.as_ref())?;
    let mut state = open_state(&**host, config, file.as_mut()).await?;
    if state.applied() == (0, 0) && config.initial_cluster_state == ClusterState::Existing {
        // The members may be others by now.
        bootstrap(&mut state, host, config, joined).await?;
    }
    if state.removed_members().contains(&owner.member_id) {
        return Err(Error::Config(farewell(owner.member_id, owner.cluster_id)));
    }
    let conf_state = conf_state(&state, config)?;
    let found = Found { snapshot, hard_state: found.hard_state, entries: found.entries };
    let (index, term) = state.applied();
    let (mut log, mut hard_state) = assemble(found, Place { index, term }, conf_state, &dir)?;
    if config.force_new_cluster {
        let entries = alone::entries(&state, &log, hard_state, owner.member_id)?;
        hard_state = alone::force(&mut wal, &mut log, hard_state, entries).await?;
    }
    for damaged in &damaged {
        snapshots.set_aside(damaged).await?;
    }
    for mark in unknown {
        snapshots.discard(mark).await?;
        tracing::info!(mark.index, "removed a snapshot that the log does not know");
    }
    // A new member must begin with a snapshot: the first members are in no entry.
    log.compact(1);
    tracing::info!(
        "recovered: snapshot at {}, log {} to {}, term {}, committed {}, applied {}",
        snapshot.index,
        log.first(),
        log.last(),
        hard_state.term,
        hard_state.commit,
        log.applied().index
    );
    Ok(Recovered { wal, snapshots, state, log, hard_state, snapshot })
}

/// Makes the backend's folder, and makes sure that neither it nor the snapshots' can be forgotten.
pub(super) async fn make_folders(disk: &dyn Disk, config: &Config) -> Result<()> {
    let backend = config.backend_dir();
    let made = disk.create_dir_all(&backend);
    made.map_err(|e| Error::io("make the folder of the backend", &backend, e))?;
    for dir in [config.member_dir(), config.data_dir.clone()] {
        let synced = disk.sync_dir(&dir).await;
        synced.map_err(|e| Error::io("sync the folder", &dir, e))?;
    }
    Ok(())
}

fn check_owner(metadata: &[u8], expected: &Owner, data_dir: &Path) -> Result<()> {
    let refuse = |why: String| {
        let path = data_dir.display();
        Err(Error::Config(format!("foreign data folder {path}: {why}; use another --data-dir")))
    };
    let Ok(owner) = Owner::decode(metadata) else {
        return refuse("its log was not written by this program".into());
    };
    if owner.version != expected.version {
        return refuse(format!("its format is {}, not {}", owner.version, expected.version));
    }
    let (there, here) = (owner.cluster_id, expected.cluster_id);
    if there != here {
        return refuse(format!("it belongs to cluster {there:x}, the flags say cluster {here:x}"));
    }
    let (there, here) = (owner.member_id, expected.member_id);
    if there != here {
        return refuse(format!("it belongs to member {there:x}, the flags say member {here:x}"));
    }
    Ok(())
}

/// Gives a new member its first members: those that the flags name, or those it was told. One that joins has no
/// vote and knows of none, until the leader's snapshot says otherwise.
async fn bootstrap(
    state: &mut State,
    host: &Arc<dyn Host>,
    config: &Config,
    joined: Option<Joined>,
) -> Result<()> {
    let (members, conf_state) = match (config.initial_cluster_state, joined) {
        (ClusterState::New, _) => first_members(config),
        (ClusterState::Existing, Some(joined)) => (joined.members, ConfState::default()),
        (ClusterState::Existing, None) => {
            (join::join(host, config).await?.members, ConfState::default())
        }
    };
    state.bootstrap(members, encode(&conf_state)?)
}

/// The configuration at the backend's consistent index.
fn conf_state(state: &State, config: &Config) -> Result<ConfState> {
    let refuse = |why: String| Error::corrupt(config.backend_dir(), 0, why);
    let bytes =
        state.conf_state().ok_or_else(|| refuse(format!("it names no members; {REMEDY}")))?;
    let conf_state = ConfState::parse_from_bytes(bytes);
    conf_state.map_err(|e| refuse(format!("the members cannot be read: {e}")))
}

/// What the log and the snapshots say.
struct Found {
    snapshot: Mark,
    hard_state: HardState,
    entries: Vec<wal::Entry>,
}

/// Puts together what raft starts with, and refuses what cannot be. `applied`: how far the backend is.
fn assemble(
    found: Found,
    applied: Place,
    conf_state: ConfState,
    dir: &Path,
) -> Result<(LogStore, HardState)> {
    let Found { snapshot, mut hard_state, entries } = found;
    let refuse = |why: String| Err(Error::corrupt(dir, 0, format!("{why}; {REMEDY}")));
    let mut log = LogStore::new(Place { index: snapshot.index, term: snapshot.term }, conf_state);
    let mut decoded = Vec::with_capacity(entries.len());
    for entry in entries {
        let parsed = eraftpb::Entry::parse_from_carllerche_bytes(&entry.data);
        match parsed {
            Ok(parsed) if (parsed.index, parsed.term) == (entry.index, entry.term) => {
                decoded.push(parsed);
            }
            _ => return refuse(format!("entry {} is not what its record says", entry.index)),
        }
    }
    log.append(decoded);
    if applied.index < snapshot.index {
        return refuse(format!(
            "the backend holds entries up to {}, the log begins after {}",
            applied.index, snapshot.index
        ));
    }
    if hard_state.commit > log.last() {
        return refuse(format!(
            "entry {} was committed, the log ends at {}",
            hard_state.commit,
            log.last()
        ));
    }
    match log.term_at(applied.index) {
        None => {
            return refuse(format!(
                "the backend has applied entry {}, the log ends at {}",
                applied.index,
                log.last()
            ));
        }
        Some(term) if term != applied.term => {
            return refuse(format!(
                "the backend has applied entry {} of term {}, the log's is of term {term}",
                applied.index, applied.term
            ));
        }
        Some(_) => {}
    }
    hard_state.commit = hard_state.commit.max(applied.index);
    log.applied_to(applied);
    log.set_hard_state(hard_state);
    Ok((log, hard_state))
}

/// Refuses a backend that has lost what was durable, before anything is written to it. Opening it drops for good what
/// cannot be read of its own log, and what a disk reads wrong today it may read right tomorrow.
///
/// `promised`: the newest mark. It was written when the backend held everything up to it on disk, or with a `file`
/// from which the backend can be loaded again.
fn check_promise(
    host: &dyn Host,
    config: &Config,
    promised: Mark,
    file: Option<&SnapshotFile>,
) -> Result<()> {
    let is_loadable = file.is_some_and(|file| file.meta.has_state && file.meta.mark == promised);
    if promised == Mark::default() || is_loadable {
        return Ok(());
    }
    let dir = config.backend_dir();
    let storage = Storage::open_read_only(backend(host, &dir)?, &dir, storage_options(config))?;
    let Some(index) = state::applied_index(&storage)?.filter(|index| *index < promised.index)
    else {
        return Ok(());
    };
    let text = format!(
        "it holds entries up to {index} and had more, up to {} at least; nothing was changed; {REMEDY}",
        promised.index
    );
    Err(Error::corrupt(dir, 0, text))
}

fn backend(host: &dyn Host, dir: &Path) -> Result<Backend> {
    host.backend().map_err(|e| Error::io("reach the backend", dir, e))
}

fn storage_options(config: &Config) -> StorageOptions {
    let write_buffer_bytes = config.limits.backend_write_buffer_bytes;
    StorageOptions { write_buffer_bytes, ..StorageOptions::default() }
}

/// Opens the backend, and loads the snapshot into it where it is behind, or was caught loading it.
pub(super) async fn open_state(
    host: &dyn Host,
    config: &Config,
    file: Option<&mut SnapshotFile>,
) -> Result<State> {
    let dir = config.backend_dir();
    manifest::remove_unfinished(&*host.disk(), &dir).await?;
    let storage = Storage::open(backend(host, &dir)?, &dir, storage_options(config))?;
    let limits = state::Limits { compaction_batch: config.compaction_batch_limit };
    let file = file.filter(|file| file.meta.has_state);
    match (State::open(storage, limits)?, file) {
        (StateOpen::Ready(mut state), Some(file)) if state.applied().0 < file.meta.mark.index => {
            let Mark { index, term } = file.meta.mark;
            load(state.import_begin(index, term)?, file)
        }
        (StateOpen::Ready(state), _) => Ok(state),
        (StateOpen::NeedsImport(import), Some(file)) if is_of(&import, file) => load(import, file),
        (StateOpen::NeedsImport(import), _) => {
            let (index, term) = import.position();
            let text = format!(
                "it was being loaded from the snapshot at index {index}, term {term}, which is \
                 gone or damaged; {REMEDY}"
            );
            Err(Error::corrupt(dir, 0, text))
        }
    }
}

fn is_of(import: &StateImport, file: &SnapshotFile) -> bool {
    import.position() == (file.meta.mark.index, file.meta.mark.term)
}

/// Replaces the state by a snapshot's; it is durable when this returns.
pub(super) fn load(mut import: StateImport, file: &mut SnapshotFile) -> Result<State> {
    while let Some(chunk) = file.next_chunk()? {
        import.chunk(&chunk)?;
    }
    import.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(snapshot: (u64, u64), commit: u64, entries: &[(u64, u64)]) -> Found {
        let entry = |&(index, term): &(u64, u64)| {
            let entry = eraftpb::Entry { index, term, ..eraftpb::Entry::default() };
            wal::Entry { index, term, data: entry.write_to_bytes().unwrap().into() }
        };
        Found {
            snapshot: Mark { index: snapshot.0, term: snapshot.1 },
            hard_state: HardState { term: 9, vote: 1, commit },
            entries: entries.iter().map(entry).collect(),
        }
    }

    fn start(found: Found, (index, term): (u64, u64)) -> Result<(LogStore, HardState)> {
        let conf_state = ConfState::from((vec![1], vec![]));
        assemble(found, Place { index, term }, conf_state, Path::new("wal"))
    }

    /// The commit index that raft starts with covers what the backend has applied, and nothing else is changed.
    #[test]
    fn commit_index() {
        let check = |commit, applied, expected| {
            let (log, hard_state) =
                start(found((2, 1), commit, &[(3, 1), (4, 2)]), applied).unwrap();
            assert_eq!(hard_state, HardState { term: 9, vote: 1, commit: expected });
            assert_eq!((log.first(), log.last(), log.applied().index), (3, 4, applied.0));
        };
        check(2, (2, 1), 2);
        check(4, (2, 1), 4);
        check(3, (3, 1), 3);
        // The backend is ahead of the commit index on disk: that change was not synced.
        check(2, (4, 2), 4);
        check(0, (2, 1), 2);
    }

    /// A log and a backend that contradict each other are refused, with what is wrong and what to do.
    #[test]
    fn contradictions() {
        let check = |commit, applied, expected: &str| {
            let error = start(found((2, 1), commit, &[(3, 1), (4, 2)]), applied).unwrap_err();
            let expected = format!("corrupt file wal at offset 0: {expected}; {REMEDY}");
            assert_eq!(error.to_string(), expected);
        };
        check(5, (2, 1), "entry 5 was committed, the log ends at 4");
        check(4, (5, 2), "the backend has applied entry 5, the log ends at 4");
        check(4, (1, 1), "the backend holds entries up to 1, the log begins after 2");
        check(4, (4, 3), "the backend has applied entry 4 of term 3, the log's is of term 2");
    }

    /// An entry whose bytes say another place than its record is refused.
    #[test]
    fn entries_that_lie() {
        let mut found = found((2, 1), 3, &[(3, 1), (4, 2)]);
        found.entries[1].term = 3;
        let error = start(found, (2, 1)).unwrap_err();
        assert!(error.to_string().contains("entry 4 is not what its record says"), "{error}");
    }

    /// A folder of another cluster, member or format is refused in one line.
    #[test]
    fn owners() {
        let owner = |cluster_id, member_id, version| Owner { cluster_id, member_id, version };
        let check = |there: Owner, expected: &str| {
            let here = owner(1, 2, VERSION);
            let refused = check_owner(&there.encode_to_vec(), &here, Path::new("d")).unwrap_err();
            let expected = format!("foreign data folder d: {expected}; use another --data-dir");
            assert_eq!(refused, Error::Config(expected));
        };
        check(owner(3, 2, VERSION), "it belongs to cluster 3, the flags say cluster 1");
        check(owner(1, 3, VERSION), "it belongs to member 3, the flags say member 2");
        check(owner(1, 2, 7), "its format is 7, not 1");
        let same = owner(1, 2, VERSION);
        assert_eq!(check_owner(&same.encode_to_vec(), &same, Path::new("d")), Ok(()));
    }
}
