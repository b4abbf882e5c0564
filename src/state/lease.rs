//! Leases: which there are, how long each was granted for, and which keys hang on it.
//!
//! A lease is granted, checkpointed and revoked by entries of the log. When it is due is nobody's
//! business here: deadlines live with the leader ([`crate::raft`]), which proposes a revocation
//! when one has passed, and now and then a checkpoint of the time that is left.
//!
//! Invariants:
//! * A key hangs on the lease of its newest put, if that names one; a delete takes it off.
//! * Every lease that a living key names exists.
//! * A revocation deletes its keys in one revision, in key order, and the lease with them: all of it
//!   is in one batch.
//! * Keys are not written down a second time: at a restart the newest rows tell which hang where.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;

use super::mvcc::{Write, header};
use super::{State, meta};
use crate::error::{Refusal, Result};
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, LeaseCheckpointRequest, LeaseCheckpointResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseRecord, LeaseRevokeRequest, LeaseRevokeResponse,
};

/// The longest time to live, as etcd's: about 285 years.
const TTL_MAX_S: i64 = 9_000_000_000;

/// One lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// What was granted, and what each renewal gives again.
    pub granted_ttl_s: i64,
    /// What was left at the last checkpoint since it was renewed; 0 for none.
    pub remaining_ttl_s: i64,
    keys: BTreeSet<Bytes>,
}

impl Lease {
    /// A lease without keys.
    #[must_use]
    pub fn granted(granted_ttl_s: i64, remaining_ttl_s: i64) -> Self {
        Self { granted_ttl_s, remaining_ttl_s, keys: BTreeSet::new() }
    }

    /// The keys that hang on it, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter()
    }
}

/// What an entry did to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It exists from now on.
    Granted {
        /// The lease.
        id: i64,
        /// How long it was granted for.
        ttl_s: i64,
    },
    /// What is left of it was noted down; 0 says that it was renewed.
    Checkpointed {
        /// The lease.
        id: i64,
        /// What was left.
        remaining_ttl_s: i64,
    },
    /// It is gone.
    Revoked {
        /// The lease.
        id: i64,
    },
}

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: BTreeMap<i64, Lease>,
    /// What the newest slice did, in order, until somebody takes it.
    changes: Vec<LeaseChange>,
    /// Key → lease.
    attached: BTreeMap<Bytes, i64>,
}

impl Leases {
    pub(super) fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Before a slice: what nobody took is forgotten.
    pub(super) fn forget_changes(&mut self) {
        self.changes.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// A key was put with this lease, or with none (0).
    pub(super) fn put(&mut self, key: &[u8], lease: i64) {
        if self.attached.get(key).copied().unwrap_or(0) == lease {
            return;
        }
        self.delete(key);
        if lease != 0 {
            // A copy: a slice of the request would keep the whole request in memory.
            let key = Bytes::copy_from_slice(key);
            let found = self.leases.get_mut(&lease).expect("a put is checked for its lease");
            found.keys.insert(key.clone());
            self.attached.insert(key, lease);
        }
    }

    /// A key was deleted.
    pub(super) fn delete(&mut self, key: &[u8]) {
        if let Some(lease) = self.attached.remove(key)
            && let Some(lease) = self.leases.get_mut(&lease)
        {
            lease.keys.remove(key);
        }
    }

    /// A row of the past, while the state is opened: the lease may be gone by now.
    pub(super) fn restore(&mut self, key: &[u8], lease: i64) {
        match lease {
            0 => self.attached.remove(key),
            // A copy: a slice of the row would keep the row's value in memory.
            lease => self.attached.insert(Bytes::copy_from_slice(key), lease),
        };
    }

    /// After the last row: hangs the keys on their leases. Errors: a lease that a living key names
    /// and that is not there.
    fn link(&mut self) -> std::result::Result<(), i64> {
        for (key, id) in &self.attached {
            self.leases.get_mut(id).ok_or(*id)?.keys.insert(key.clone());
        }
        Ok(())
    }
}

impl State {
    /// All leases, by id.
    pub fn leases(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.leases.iter()
    }

    /// One lease.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<&Lease> {
        self.leases.leases.get(&id)
    }

    /// What the newest slice did to leases, in order; nobody gets it twice.
    pub fn take_lease_changes(&mut self) -> Vec<LeaseChange> {
        std::mem::take(&mut self.leases.changes)
    }

    /// Grants a lease. The least time to live is the business of who proposes, so that the log
    /// alone says what was granted.
    pub(super) fn lease_grant(
        &mut self,
        request: &LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse> {
        let LeaseGrantRequest { id, ttl } = *request;
        if id == 0 {
            return Err(Refusal::LeaseNotFound.into());
        }
        if ttl > TTL_MAX_S {
            return Err(Refusal::LeaseTtlTooLarge.into());
        }
        if self.leases.contains(id) {
            return Err(Refusal::LeaseExists.into());
        }
        let lease = Lease::granted(ttl, 0);
        self.put_lease(LeaseRecord { id, ttl, remaining_ttl: 0 });
        self.leases.leases.insert(id, lease);
        self.leases.changes.push(LeaseChange::Granted { id, ttl_s: ttl });
        let header = header(self.current_revision);
        Ok(LeaseGrantResponse { header, id, ttl, error: String::new() })
    }

    /// Revokes a lease and deletes its keys.
    pub(super) fn lease_revoke(
        &mut self,
        write: &mut Write,
        request: &LeaseRevokeRequest,
    ) -> Result<LeaseRevokeResponse> {
        let Some(lease) = self.leases.leases.get(&request.id) else {
            return Err(Refusal::LeaseNotFound.into());
        };
        let keys: Vec<Bytes> = lease.keys().cloned().collect();
        for key in keys {
            self.delete_range(write, &DeleteRangeRequest { key, ..Default::default() })?;
        }
        self.leases.leases.remove(&request.id);
        self.leases.changes.push(LeaseChange::Revoked { id: request.id });
        meta::delete_lease(&mut self.pending.batch, request.id);
        Ok(LeaseRevokeResponse { header: header(write.revision()) })
    }

    /// Notes what is left of some leases; 0 says that one was renewed. Leases that are gone by now
    /// are passed over.
    pub(super) fn lease_checkpoint(
        &mut self,
        request: &LeaseCheckpointRequest,
    ) -> LeaseCheckpointResponse {
        for checkpoint in &request.checkpoints {
            let Some(lease) = self.leases.leases.get_mut(&checkpoint.id) else { continue };
            lease.remaining_ttl_s = checkpoint.remaining_ttl.clamp(0, lease.granted_ttl_s);
            let (id, remaining_ttl_s) = (checkpoint.id, lease.remaining_ttl_s);
            let ttl = lease.granted_ttl_s;
            self.leases.changes.push(LeaseChange::Checkpointed { id, remaining_ttl_s });
            self.put_lease(LeaseRecord { id, ttl, remaining_ttl: remaining_ttl_s });
        }
        LeaseCheckpointResponse { header: header(self.current_revision) }
    }

    fn put_lease(&mut self, record: LeaseRecord) {
        meta::put_lease(&mut self.pending.batch, record.id, &record.encode_to_vec());
    }

    /// Reads all leases back, and hangs the keys on them; after the rows.
    pub(super) fn restore_leases(&mut self) -> Result<()> {
        let storage = self.storage.clone();
        meta::read_leases(&storage, |id, encoded| {
            let record = LeaseRecord::decode(encoded)
                .map_err(|cause| self.corrupt(format!("the record of lease {id:x}: {cause}")))?;
            let lease = Lease::granted(record.ttl, record.remaining_ttl);
            self.leases.leases.insert(id, lease);
            Ok(())
        })?;
        self.leases
            .link()
            .map_err(|id| self.corrupt(format!("a key hangs on lease {id:x}, which is not there")))
    }
}
