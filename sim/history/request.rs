//! What a client can ask, in etcd's words. The parts of reads and writes are in [`super::kv`].

use serde::{Deserialize, Serialize};

use super::{Bytes, DeleteRange, LeaderKey, Put, Range, Txn, is_default};

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Read keys.
    Range(Range),
    /// Write one key.
    Put(Put),
    /// Delete keys.
    DeleteRange(DeleteRange),
    /// Compare, then do one of two lists.
    Txn(Txn),
    /// Forget the past below a revision.
    Compact {
        /// The revision that stays readable.
        revision: i64,
        /// Wait until the space is free.
        #[serde(default, skip_serializing_if = "is_default")]
        physical: bool,
    },
    /// Ask for a lease.
    LeaseGrant {
        /// The lease's id; 0 lets the server choose.
        #[serde(default, skip_serializing_if = "is_default")]
        id: i64,
        /// How long the lease is to live without renewal, in seconds.
        ttl_s: i64,
    },
    /// End a lease; its keys go with it.
    LeaseRevoke {
        /// The lease.
        id: i64,
    },
    /// Renew a lease, once.
    LeaseKeepAlive {
        /// The lease.
        id: i64,
    },
    /// Ask how long a lease will live.
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// Answer with its keys too.
        #[serde(default, skip_serializing_if = "is_default")]
        keys: bool,
    },
    /// List all leases.
    LeaseLeases {},
    /// One watch on one stream, from its creation to its end. It may overlap other operations of its client.
    Watch(Watch),
    /// Wait for a lock, and take it.
    Lock {
        /// Name of the lock: a prefix of keys.
        name: Bytes,
        /// The lease that the lock lives and dies with.
        lease: i64,
    },
    /// Give a lock back.
    Unlock {
        /// The key that taking it was answered with.
        key: Bytes,
    },
    /// Wait for leadership in an election, and take it.
    Campaign {
        /// Name of the election: a prefix of keys.
        name: Bytes,
        /// The lease that the leadership lives and dies with.
        lease: i64,
        /// What the leader proclaims.
        value: Bytes,
    },
    /// Proclaim something else, as leader.
    Proclaim {
        /// The leadership.
        leader: LeaderKey,
        /// What is proclaimed from now on.
        value: Bytes,
    },
    /// Give a leadership back.
    Resign {
        /// The leadership.
        leader: LeaderKey,
    },
    /// Ask who leads.
    Leader {
        /// Name of the election.
        name: Bytes,
    },
    /// Ask a member for the hash of its keys up to a revision.
    HashKv {
        /// The revision; 0 for the newest.
        #[serde(default, skip_serializing_if = "is_default")]
        revision: i64,
    },
    /// Ask a member, from inside, for the hash of all its state. Asked by the runner, never by a client.
    StateHash {},
    /// List the members.
    MemberList {
        /// Ask the leader; otherwise the member answers from what it knows.
        #[serde(default, skip_serializing_if = "is_default")]
        linearizable: bool,
    },
    /// Add a member.
    MemberAdd {
        /// Where its peers reach it.
        peer_urls: Vec<String>,
        /// Without a vote.
        #[serde(default, skip_serializing_if = "is_default")]
        learner: bool,
    },
    /// Remove a member.
    MemberRemove {
        /// The member.
        id: u64,
    },
    /// Give a learner a vote.
    MemberPromote {
        /// The member.
        id: u64,
    },
    /// Change where a member's peers reach it.
    MemberUpdate {
        /// The member.
        id: u64,
        /// Where its peers reach it from now on.
        peer_urls: Vec<String>,
    },
    /// Turn authentication on.
    AuthEnable {},
    /// Turn authentication off.
    AuthDisable {},
    /// Add a user.
    UserAdd {
        /// The user.
        name: String,
    },
    /// Delete a user.
    UserDelete {
        /// The user.
        name: String,
    },
    /// Give a user a role.
    UserGrantRole {
        /// The user.
        name: String,
        /// The role.
        role: String,
    },
    /// Take a role from a user.
    UserRevokeRole {
        /// The user.
        name: String,
        /// The role.
        role: String,
    },
    /// Add a role.
    RoleAdd {
        /// The role.
        name: String,
    },
    /// Delete a role, and take it from all users.
    RoleDelete {
        /// The role.
        name: String,
    },
    /// Allow a role something.
    RoleGrantPermission {
        /// The role.
        role: String,
        /// What it may do.
        kind: PermissionKind,
        /// First key.
        key: Bytes,
        /// As in [`Range::range_end`].
        #[serde(default, skip_serializing_if = "is_default")]
        range_end: Bytes,
    },
    /// Take a permission from a role.
    RoleRevokePermission {
        /// The role.
        role: String,
        /// First key, as it was granted.
        key: Bytes,
        /// End of the range, as it was granted.
        #[serde(default, skip_serializing_if = "is_default")]
        range_end: Bytes,
    },
}

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PermissionKind {
    /// To read, and to watch.
    Read,
    /// To put and to delete.
    Write,
    /// Both.
    ReadWrite,
}

impl Request {
    /// Whether it is about who the members are.
    #[must_use]
    pub const fn is_about_members(&self) -> bool {
        matches!(
            self,
            Self::MemberList { .. }
                | Self::MemberAdd { .. }
                | Self::MemberRemove { .. }
                | Self::MemberPromote { .. }
                | Self::MemberUpdate { .. }
        )
    }

    /// Whether it changes users, roles or permissions.
    #[must_use]
    pub const fn is_about_users(&self) -> bool {
        matches!(
            self,
            Self::AuthEnable {}
                | Self::AuthDisable {}
                | Self::UserAdd { .. }
                | Self::UserDelete { .. }
                | Self::UserGrantRole { .. }
                | Self::UserRevokeRole { .. }
                | Self::RoleAdd { .. }
                | Self::RoleDelete { .. }
                | Self::RoleGrantPermission { .. }
                | Self::RoleRevokePermission { .. }
        )
    }
}

/// What a watch asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// First key.
    pub key: Bytes,
    /// As in [`Range::range_end`].
    #[serde(skip_serializing_if = "is_default")]
    pub range_end: Bytes,
    /// First revision to be told of; 0 for what comes from now on.
    #[serde(skip_serializing_if = "is_default")]
    pub start_revision: i64,
    /// Events come with what was there before.
    #[serde(skip_serializing_if = "is_default")]
    pub prev_kv: bool,
    /// Say now and then how far the watch has come, if nothing happens.
    #[serde(skip_serializing_if = "is_default")]
    pub progress_notify: bool,
    /// Large messages may come in pieces.
    #[serde(skip_serializing_if = "is_default")]
    pub fragment: bool,
    /// Leave puts out.
    #[serde(skip_serializing_if = "is_default")]
    pub no_put: bool,
    /// Leave deletes out.
    #[serde(skip_serializing_if = "is_default")]
    pub no_delete: bool,
}
