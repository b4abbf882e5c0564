//! Two fingerprints of the state, to compare members by.
//!
//! Neither depends on how far a compaction is: rows that only wait to be removed are left out.

use super::State;
use super::meta::Position;
use super::revision::{Revision, Row};
use crate::error::{Refusal, Result};
use crate::storage::Family;

/// FNV-1a, 64 bits: small, fixed for all time, and good enough against accidents.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes up bytes, with their length so that neighbours cannot trade bytes.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        bytes.iter().for_each(|byte| self.byte(*byte));
    }

    fn number(&mut self, number: u64) {
        number.to_le_bytes().into_iter().for_each(|byte| self.byte(byte));
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

/// A hash of the keys; two of them compare only if both revisions that it is of are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysHash {
    /// CRC32C, as etcd's.
    pub hash: u32,
    /// The compact revision.
    pub compact_revision: i64,
    /// The revision up to which it covers the keys.
    pub hash_revision: i64,
    /// The current revision when it was taken.
    pub revision: i64,
}

/// Rows at or below the compact revision that belong to the state, sorted.
struct Kept(Vec<Revision>);

impl Kept {
    fn contains(&self, revision: Revision) -> bool {
        self.0.binary_search(&revision).is_ok()
    }
}

impl State {
    /// etcd's hash of all revisions up to `revision` (0: the current one): CRC32C over the name of
    /// the column family and the rows, without a tombstone at the compact revision.
    ///
    /// # Errors
    /// [`Refusal::Compacted`], [`Refusal::FutureRevision`]; anything else is fatal.
    pub fn hash_kv(&self, revision: i64) -> Result<KeysHash> {
        if revision > 0 && revision < self.compact_revision {
            return Err(Refusal::Compacted.into());
        }
        if revision > self.current_revision {
            return Err(Refusal::FutureRevision.into());
        }
        let revision = if revision == 0 { self.current_revision } else { revision };
        let live = self.kept_by_hash(revision);
        let mut hash = crc32c::crc32c(Family::Key.name().as_bytes());
        self.for_each_row(|row, key, value| {
            let Revision { main, .. } = row.revision;
            let compacted = main <= self.compact_revision;
            let superseded =
                compacted && live.as_ref().is_some_and(|live| !live.contains(row.revision));
            let last_tombstone = row.tombstone && main == self.compact_revision;
            if main <= revision && !superseded && !last_tombstone {
                hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
            }
        })?;
        Ok(KeysHash {
            hash,
            compact_revision: self.compact_revision,
            hash_revision: revision,
            revision: self.current_revision,
        })
    }

    /// A hash of everything that members share: rows, both revisions, the applied entry, the
    /// configuration, leases, users and roles, and members. Equal on any two members that have applied the
    /// same entries.
    ///
    /// # Errors
    /// The system's; fatal.
    pub fn hash_all(&self) -> Result<u64> {
        let mut hash = Fnv::new();
        let Position { index, term } = self.applied;
        for number in [index, term, self.current_revision as u64, self.compact_revision as u64] {
            hash.number(number);
        }
        hash.bytes(self.conf_state.as_deref().unwrap_or_default());
        for (id, member) in &self.members {
            hash.number(*id);
            hash.bytes(member.name.as_bytes());
            hash.number(member.client_urls.len() as u64);
            member.client_urls.iter().for_each(|url| hash.bytes(url.as_bytes()));
            hash.number(member.peer_urls.len() as u64);
            member.peer_urls.iter().for_each(|url| hash.bytes(url.as_bytes()));
            hash.number(u64::from(member.is_learner));
        }
        hash.number(self.removed_members.len() as u64);
        self.removed_members.iter().for_each(|id| hash.number(*id));
        for (id, alarm) in &self.alarms {
            hash.number(*id);
            hash.number(u64::from(alarm.cast_unsigned()));
        }
        for (id, lease) in self.leases() {
            let numbers = [id, lease.granted_ttl_s, lease.remaining_ttl_s];
            numbers.into_iter().for_each(|number| hash.number(number.cast_unsigned()));
        }
        self.auth.fingerprint(|bytes| hash.bytes(bytes));
        self.for_each_row(|_, key, value| {
            hash.bytes(key);
            hash.bytes(value);
        })?;
        Ok(hash.0)
    }

    /// The revisions at or below the compact revision that etcd's hash at `revision` takes up: the
    /// newest of each key that lives there. `None` if no key lives: then etcd leaves nothing out.
    fn kept_by_hash(&self, revision: i64) -> Option<Kept> {
        let newest = self.index.histories().filter_map(|(_, history)| history.kept(revision));
        let mut any = false;
        let mut kept = Vec::new();
        for (newest, tombstone) in newest {
            if !tombstone {
                any = true;
                kept.extend((newest.main <= self.compact_revision).then_some(newest));
            }
        }
        kept.sort_unstable();
        any.then_some(Kept(kept))
    }

    /// Visits the rows that belong to the state, in the order of revisions.
    fn for_each_row(&self, mut visit: impl FnMut(Row, &[u8], &[u8])) -> Result<()> {
        let kept = self.compaction_pending().then(|| {
            let kept = |(_, history): (_, &super::index::History)| {
                history.kept_all(self.compact_revision).collect::<Vec<_>>()
            };
            let mut kept: Vec<_> = self.index.histories().flat_map(kept).collect();
            kept.sort_unstable();
            Kept(kept)
        });
        let mut cursor = self.storage.cursor();
        cursor.seek(Family::Key, &[])?;
        let mut read = |key: &[u8], value: &[u8]| {
            let row = Row::decode(key)
                .ok_or_else(|| self.corrupt(format!("a row key that is none: {key:02x?}")))?;
            let removed = kept.as_ref().is_some_and(|kept| {
                row.revision.main <= self.compact_revision && !kept.contains(row.revision)
            });
            if !removed {
                visit(row, key, value);
            }
            Ok(())
        };
        while cursor.next(Family::Key, &mut read)?.is_some() {}
        Ok(())
    }
}
