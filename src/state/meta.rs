//! What the meta column family holds, and its encoding.

use crate::error::{Error, Result};
use crate::storage::{Batch, Family, Storage};

/// Index, term and revision after the newest applied entry; see [`Position`].
const APPLIED: &[u8] = b"applied";
/// The configuration that raft wants kept.
const CONF_STATE: &[u8] = b"conf_state";
/// The newest compact revision (etcd's name).
const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
/// The newest compact revision whose rows are all removed (etcd's name).
const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
/// The snapshot that is being imported: index and term.
const LOADING: &[u8] = b"loading";
/// Followed by a member's id, big endian: who it is.
const MEMBER: &[u8] = b"member/";
/// Followed by the id of a member that was removed, big endian.
const REMOVED_MEMBER: &[u8] = b"member_removed/";
/// Followed by a member's id, big endian: one byte for each kind of alarm that it has raised.
const ALARM: &[u8] = b"alarm/";
/// Followed by a lease's id, big endian: what was granted.
const LEASE: &[u8] = b"lease/";
/// Whether authentication is on, and the auth revision.
const AUTH: &[u8] = b"auth";
/// Followed by a user's name.
const USER: &[u8] = b"authUsers/";
/// Followed by a role's name.
const ROLE: &[u8] = b"authRoles/";
/// Behind every key of the family.
const END: &[u8] = &[0xff];

/// The newest applied entry, and the revision that it left. The revision could be counted from the
/// rows; written down, it shows whether rows are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) index: u64,
    pub(super) term: u64,
}

/// All values of the family but the members and leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) applied: Option<(Position, i64)>,
    pub(super) conf_state: Option<Vec<u8>>,
    pub(super) scheduled_compact: Option<i64>,
    pub(super) finished_compact: Option<i64>,
    pub(super) loading: Option<Position>,
}

impl Meta {
    pub(super) fn read(storage: &Storage) -> Result<Self> {
        let numbers = |key: &[u8]| numbers(storage, key);
        let revision = |key: &[u8]| match numbers(key)?.as_deref() {
            None => Ok(None),
            Some(&[revision]) => Ok(Some(revision as i64)),
            Some(_) => Err(broken(storage, key)),
        };
        let applied = match numbers(APPLIED)?.as_deref() {
            None => None,
            Some(&[index, term, revision]) => Some((Position { index, term }, revision as i64)),
            Some(_) => return Err(broken(storage, APPLIED)),
        };
        let loading = match numbers(LOADING)?.as_deref() {
            None => None,
            Some(&[index, term]) => Some(Position { index, term }),
            Some(_) => return Err(broken(storage, LOADING)),
        };
        Ok(Self {
            applied,
            conf_state: storage.get(Family::Meta, CONF_STATE)?.map(Vec::from),
            scheduled_compact: revision(SCHEDULED_COMPACT)?,
            finished_compact: revision(FINISHED_COMPACT)?,
            loading,
        })
    }
}

/// The numbers that a value is made of.
fn numbers(storage: &Storage, key: &[u8]) -> Result<Option<Vec<u64>>> {
    let Some(value) = storage.get(Family::Meta, key)? else { return Ok(None) };
    let (words, rest) = value.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(broken(storage, key));
    }
    Ok(Some(words.iter().map(|word| u64::from_be_bytes(*word)).collect()))
}

fn broken(storage: &Storage, key: &[u8]) -> Error {
    let key = String::from_utf8_lossy(key);
    Error::corrupt(storage.path(), 0, format!("the record of {key} is not what was written"))
}

/// Writes the consistent index together with what it stands for.
pub(super) fn put_applied(batch: &mut Batch, position: Position, revision: i64) {
    let mut value = [0; 24];
    value[..8].copy_from_slice(&position.index.to_be_bytes());
    value[8..16].copy_from_slice(&position.term.to_be_bytes());
    value[16..].copy_from_slice(&revision.to_be_bytes());
    batch.put(Family::Meta, APPLIED, &value);
}

pub(super) fn put_conf_state(batch: &mut Batch, conf_state: &[u8]) {
    batch.put(Family::Meta, CONF_STATE, conf_state);
}

pub(super) fn put_scheduled_compact(batch: &mut Batch, revision: i64) {
    batch.put(Family::Meta, SCHEDULED_COMPACT, &revision.to_be_bytes());
}

pub(super) fn put_finished_compact(batch: &mut Batch, revision: i64) {
    batch.put(Family::Meta, FINISHED_COMPACT, &revision.to_be_bytes());
}

pub(super) fn put_loading(batch: &mut Batch, position: Position) {
    let value = [position.index.to_be_bytes(), position.term.to_be_bytes()].concat();
    batch.put(Family::Meta, LOADING, &value);
}

pub(super) fn delete_loading(batch: &mut Batch) {
    batch.delete(Family::Meta, LOADING);
}

/// Whether this is the one key that belongs to a member's own disk and not to the state.
pub(super) fn is_loading(key: &[u8]) -> bool {
    key == LOADING
}

pub(super) fn put_member(batch: &mut Batch, id: u64, encoded: &[u8]) {
    batch.put(Family::Meta, &[MEMBER, &id.to_be_bytes()].concat(), encoded);
}

/// Keeps the alarms that a member has raised.
pub(super) fn put_alarms(batch: &mut Batch, id: u64, kinds: &[u8]) {
    let key = [ALARM, &id.to_be_bytes()].concat();
    if kinds.is_empty() {
        batch.delete(Family::Meta, &key);
    } else {
        batch.put(Family::Meta, &key, kinds);
    }
}

/// Calls `read` with each member that has raised alarms, and their kinds.
pub(super) fn read_alarms(storage: &Storage, mut read: impl FnMut(u64, &[u8])) -> Result<()> {
    read_all(storage, ALARM, |id, kinds| {
        read(id, kinds);
        Ok(())
    })
}

/// Forgets a member, but for its id.
pub(super) fn remove_member(batch: &mut Batch, id: u64) {
    batch.delete(Family::Meta, &[MEMBER, &id.to_be_bytes()].concat());
    batch.put(Family::Meta, &[REMOVED_MEMBER, &id.to_be_bytes()].concat(), &[]);
}

/// Forgets a member, and that it ever was one.
pub(super) fn forget_member(batch: &mut Batch, id: u64) {
    batch.delete(Family::Meta, &[MEMBER, &id.to_be_bytes()].concat());
    batch.delete(Family::Meta, &[REMOVED_MEMBER, &id.to_be_bytes()].concat());
}

pub(super) fn put_lease(batch: &mut Batch, id: i64, encoded: &[u8]) {
    batch.put(Family::Meta, &[LEASE, &id.to_be_bytes()].concat(), encoded);
}

pub(super) fn delete_lease(batch: &mut Batch, id: i64) {
    batch.delete(Family::Meta, &[LEASE, &id.to_be_bytes()].concat());
}

/// Calls `read` with each encoded member, by id.
pub(super) fn read_members(
    storage: &Storage,
    read: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    read_all(storage, MEMBER, read)
}

/// Calls `read` with the id of each member that was removed.
pub(super) fn read_removed_members(storage: &Storage, mut read: impl FnMut(u64)) -> Result<()> {
    read_all(storage, REMOVED_MEMBER, |id, _| {
        read(id);
        Ok(())
    })
}

/// Calls `read` with each encoded lease, negative ids last.
pub(super) fn read_leases(
    storage: &Storage,
    mut read: impl FnMut(i64, &[u8]) -> Result<()>,
) -> Result<()> {
    read_all(storage, LEASE, |id, encoded| read(id.cast_signed(), encoded))
}

pub(super) fn put_auth(batch: &mut Batch, enabled: bool, revision: u64) {
    let value = [u64::from(enabled).to_be_bytes(), revision.to_be_bytes()].concat();
    batch.put(Family::Meta, AUTH, &value);
}

pub(super) fn read_auth(storage: &Storage) -> Result<Option<(bool, u64)>> {
    match numbers(storage, AUTH)?.as_deref() {
        None => Ok(None),
        Some(&[enabled @ (0 | 1), revision]) => Ok(Some((enabled == 1, revision))),
        Some(_) => Err(broken(storage, AUTH)),
    }
}

pub(super) fn put_user(batch: &mut Batch, name: &str, encoded: &[u8]) {
    batch.put(Family::Meta, &[USER, name.as_bytes()].concat(), encoded);
}

pub(super) fn delete_user(batch: &mut Batch, name: &str) {
    batch.delete(Family::Meta, &[USER, name.as_bytes()].concat());
}

pub(super) fn put_role(batch: &mut Batch, name: &str, encoded: &[u8]) {
    batch.put(Family::Meta, &[ROLE, name.as_bytes()].concat(), encoded);
}

pub(super) fn delete_role(batch: &mut Batch, name: &str) {
    batch.delete(Family::Meta, &[ROLE, name.as_bytes()].concat());
}

/// Calls `read` with each user's name and record.
pub(super) fn read_users(
    storage: &Storage,
    read: impl FnMut(&str, &[u8]) -> Result<()>,
) -> Result<()> {
    read_names(storage, USER, read)
}

/// Calls `read` with each role's name and record.
pub(super) fn read_roles(
    storage: &Storage,
    read: impl FnMut(&str, &[u8]) -> Result<()>,
) -> Result<()> {
    read_names(storage, ROLE, read)
}

/// Calls `read` with the number behind each key that begins with `prefix`, and the value.
fn read_all(
    storage: &Storage,
    prefix: &[u8],
    mut read: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    read_suffixes(storage, prefix, |id, value| {
        let id = id.try_into().map_err(|_| broken(storage, prefix))?;
        read(u64::from_be_bytes(id), value)
    })
}

/// Calls `read` with the name behind each key that begins with `prefix`, and the value.
fn read_names(
    storage: &Storage,
    prefix: &[u8],
    mut read: impl FnMut(&str, &[u8]) -> Result<()>,
) -> Result<()> {
    read_suffixes(storage, prefix, |name, value| {
        let name = std::str::from_utf8(name).map_err(|_| broken(storage, prefix))?;
        read(name, value)
    })
}

/// Calls `read` with what stands behind `prefix` in each key that begins with it, and the value.
fn read_suffixes(
    storage: &Storage,
    prefix: &[u8],
    mut read: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let mut cursor = storage.cursor();
    cursor.seek(Family::Meta, prefix)?;
    loop {
        let more = cursor.next(Family::Meta, |key, value| {
            let Some(rest) = key.strip_prefix(prefix) else { return Ok(false) };
            read(rest, value)?;
            Ok(true)
        })?;
        if more != Some(true) {
            return Ok(());
        }
    }
}

/// Removes everything from both families.
pub(super) fn delete_all(batch: &mut Batch) {
    // Row keys begin with a positive number, so 0xff is behind them too.
    for family in Family::ALL {
        batch.delete_range(family, &[], END);
    }
}
