//! Who may do what: the verdict on a request, by the state as it is.
//!
//! As etcd: a put needs to write its key, to read it where it asks what was there before, and to write
//! every key that hangs on the lease it names (whoever may not end a lease may not join it). A delete
//! needs to write its range, and to read it where it asks what was there. A txn needs everything that
//! any of its branches needs, and to read what it compares, however deep. Ending a lease needs to write
//! its keys. What is about users and roles needs root; of oneself one may ask.

use crate::error::Refusal;
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse,
};

use super::permissions::Access;
use super::{Auth, ROOT};
use crate::error::Result;
use crate::state::{Lease, State, Verdict};

/// Who asks, as a member knew it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The user; empty for nobody.
    pub user: String,
    /// The auth revision at which the member knew; 0 for nobody.
    pub auth_revision: u64,
}

impl Caller {
    /// The member itself.
    #[must_use]
    pub fn root() -> Self {
        Self { user: ROOT.to_owned(), auth_revision: u64::MAX }
    }

    /// Whether nobody has said who asks.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.auth_revision == 0
    }

    fn of(request: &InternalRaftRequest) -> Self {
        request.header.as_ref().map_or_else(Self::default, |header| Self {
            user: header.username.clone(),
            auth_revision: header.auth_revision,
        })
    }
}

impl Auth {
    fn may(&self, caller: &Caller, access: Access, key: &[u8], range_end: &[u8]) -> Verdict<()> {
        if !self.enabled {
            return Ok(());
        }
        if caller.is_nobody() {
            return Err(Refusal::UserEmpty);
        }
        if caller.auth_revision < self.revision {
            return Err(Refusal::AuthOldRevision);
        }
        let user = self.users.get(&caller.user).ok_or(Refusal::PermissionDenied)?;
        let merged = self.merged.get(&caller.user);
        let allowed = user.roles.contains(ROOT)
            || merged.is_some_and(|merged| merged.allows(access, key, range_end));
        if allowed { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }

    fn admin(&self, caller: &Caller) -> Verdict<()> {
        if !self.enabled {
            return Ok(());
        }
        if caller.user.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        let is_root = self.user(&caller.user)?.roles.contains(ROOT);
        if is_root { Ok(()) } else { Err(Refusal::PermissionDenied) }
    }
}

/// Whether only root may ask this.
fn needs_admin(request: &InternalRaftRequest) -> bool {
    request.auth_enable.is_some()
        || request.auth_disable.is_some()
        || request.auth_user_add.is_some()
        || request.auth_user_delete.is_some()
        || request.auth_user_change_password.is_some()
        || request.auth_user_grant_role.is_some()
        || request.auth_user_revoke_role.is_some()
        || request.auth_user_list.is_some()
        || request.auth_role_add.is_some()
        || request.auth_role_delete.is_some()
        || request.auth_role_list.is_some()
        || request.auth_role_grant_permission.is_some()
        || request.auth_role_revoke_permission.is_some()
}

impl State {
    /// Whether whoever asks may have this done; for requests of the log, before anything else.
    pub(in crate::state) fn authorize(&self, request: &InternalRaftRequest) -> Verdict<()> {
        if !self.auth.enabled {
            return Ok(());
        }
        let caller = Caller::of(request);
        if needs_admin(request) {
            return self.auth.admin(&caller);
        }
        if let Some(put) = &request.put {
            self.may_put(&caller, put)
        } else if let Some(txn) = &request.txn {
            self.may_txn(&caller, txn)
        } else if let Some(delete) = &request.delete_range {
            self.may_delete(&caller, delete)
        } else if let Some(range) = &request.range {
            self.may_read(&caller, &range.key, &range.range_end)
        } else if let Some(revoke) = &request.lease_revoke {
            self.may_write_lease(&caller, revoke.id)
        } else if let Some(get) = &request.auth_user_get {
            self.auth
                .admin(&caller)
                .or_else(|no| if get.name == caller.user { Ok(()) } else { Err(no) })
        } else if let Some(get) = &request.auth_role_get {
            let has =
                |role| self.auth.users.get(&caller.user).is_some_and(|it| it.roles.contains(role));
            self.auth.admin(&caller).or_else(|no| if has(&get.role) { Ok(()) } else { Err(no) })
        } else {
            Ok(())
        }
    }

    /// Whether somebody is root, where that matters.
    ///
    /// # Errors
    /// [`Refusal::UserEmpty`], [`Refusal::UserNotFound`], [`Refusal::PermissionDenied`].
    pub fn may_administer(&self, caller: &Caller) -> Verdict<()> {
        self.auth.admin(caller)
    }

    /// Whether somebody may read keys.
    ///
    /// # Errors
    /// [`Refusal::UserEmpty`], [`Refusal::AuthOldRevision`], [`Refusal::PermissionDenied`].
    pub fn may_read(&self, caller: &Caller, key: &[u8], range_end: &[u8]) -> Verdict<()> {
        self.auth.may(caller, Access::Read, key, range_end)
    }

    /// Whether somebody may renew a lease, or end it: whoever may write all its keys.
    ///
    /// # Errors
    /// As [`State::may_read`].
    pub fn may_write_lease(&self, caller: &Caller, id: i64) -> Verdict<()> {
        self.may_lease(caller, Access::Write, id)
    }

    /// Whether somebody may see which keys hang on a lease: whoever may read all of them.
    ///
    /// # Errors
    /// As [`State::may_read`].
    pub fn may_read_lease(&self, caller: &Caller, id: i64) -> Verdict<()> {
        self.may_lease(caller, Access::Read, id)
    }

    /// Root, or whoever has this access to all keys of a lease.
    fn may_lease(&self, caller: &Caller, access: Access, id: i64) -> Verdict<()> {
        if self.auth.admin(caller).is_ok() {
            return Ok(());
        }
        let keys = self.lease(id).into_iter().flat_map(Lease::keys);
        keys.into_iter().try_for_each(|key| self.auth.may(caller, access, key, &[]))
    }

    /// The ids of all leases, for whoever may read all that hangs on any of them.
    ///
    /// # Errors
    /// As [`State::may_read`].
    pub fn leases_as(&self, caller: &Caller) -> Verdict<Vec<i64>> {
        self.leases().try_for_each(|(id, _)| self.may_read_lease(caller, id))?;
        Ok(self.leases().map(|(id, _)| id).collect())
    }

    /// [`State::range`], for whoever may.
    ///
    /// # Errors
    /// As [`State::range`] and [`State::may_read`].
    pub fn range_as(&self, caller: &Caller, request: &RangeRequest) -> Result<RangeResponse> {
        self.may_read(caller, &request.key, &request.range_end)?;
        self.range(request)
    }

    /// [`State::txn_read_only`], for whoever may.
    ///
    /// # Errors
    /// As [`State::txn_read_only`] and [`State::may_read`].
    pub fn txn_read_only_as(&self, caller: &Caller, request: &TxnRequest) -> Result<TxnResponse> {
        self.may_txn(caller, request)?;
        self.txn_read_only(request)
    }

    fn may_put(&self, caller: &Caller, put: &PutRequest) -> Verdict<()> {
        self.auth.may(caller, Access::Write, &put.key, &[])?;
        if put.lease != 0 {
            self.may_write_lease(caller, put.lease)?;
        }
        if put.prev_kv { self.may_read(caller, &put.key, &[]) } else { Ok(()) }
    }

    fn may_delete(&self, caller: &Caller, delete: &DeleteRangeRequest) -> Verdict<()> {
        self.auth.may(caller, Access::Write, &delete.key, &delete.range_end)?;
        if delete.prev_kv { self.may_read(caller, &delete.key, &delete.range_end) } else { Ok(()) }
    }

    fn may_txn(&self, caller: &Caller, txn: &TxnRequest) -> Verdict<()> {
        if !self.auth.enabled {
            return Ok(());
        }
        for compare in &txn.compare {
            self.may_read(caller, &compare.key, &compare.range_end)?;
        }
        let may = |op: &RequestOp| match &op.request {
            Some(Op::RequestRange(range)) => self.may_read(caller, &range.key, &range.range_end),
            Some(Op::RequestPut(put)) => self.may_put(caller, put),
            Some(Op::RequestDeleteRange(delete)) => self.may_delete(caller, delete),
            Some(Op::RequestTxn(nested)) => self.may_txn(caller, nested),
            None => Ok(()),
        };
        txn.success.iter().chain(&txn.failure).try_for_each(may)
    }
}
