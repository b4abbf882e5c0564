//! What a client can be answered, in etcd's words.

use serde::{Deserialize, Serialize};

use super::{Bytes, KeyValue, is_default};

/// What a client can be answered. Every answer carries the header's facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The store's revision at the answer (`header.revision`); 0 inside a nested txn.
    pub revision: i64,
    /// The member that answered (`header.member_id`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub member_id: u64,
    /// Its raft term (`header.raft_term`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub raft_term: u64,
    /// The answer itself.
    #[serde(flatten)]
    pub body: Body,
}

/// The answer itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// To a range.
    Range {
        /// Keys found.
        kvs: Vec<KeyValue>,
        /// Whether the limit cut some off.
        #[serde(default, skip_serializing_if = "is_default")]
        more: bool,
        /// How many keys the range has, whatever the limit.
        count: i64,
    },
    /// To a put.
    Put {
        /// What was there, where asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prev_kv: Option<KeyValue>,
    },
    /// To a delete.
    DeleteRange {
        /// How many were deleted.
        deleted: i64,
        /// What was there, where asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prev_kvs: Vec<KeyValue>,
    },
    /// To a txn.
    Txn {
        /// Which list was done.
        succeeded: bool,
        /// One answer for each request of that list.
        responses: Vec<Response>,
    },
    /// To a compaction.
    Compact {},
    /// To a grant.
    LeaseGrant {
        /// The lease's id.
        id: i64,
        /// How long it lives, in seconds: at least what was asked for.
        ttl_s: i64,
    },
    /// To a revocation.
    LeaseRevoke {},
    /// To a renewal.
    LeaseKeepAlive {
        /// The lease.
        id: i64,
        /// How long it lives from now on, in seconds; 0 if there is no such lease.
        ttl_s: i64,
    },
    /// To the question how long a lease lives.
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// How long it still lives, in seconds; -1 if there is no such lease.
        ttl_s: i64,
        /// How long it was to live, in seconds.
        granted_ttl_s: i64,
        /// Its keys, where asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<Bytes>,
    },
    /// To a list of leases.
    LeaseLeases {
        /// All of them.
        ids: Vec<i64>,
    },
    /// Everything a watch was told. Whole even where its stream broke: what was received was received.
    Watch {
        /// In the order of arrival.
        messages: Vec<WatchMessage>,
    },
    /// To a lock.
    Lock {
        /// The key that stands for owning it.
        key: Bytes,
    },
    /// To giving a lock back.
    Unlock {},
    /// To a campaign.
    Campaign {
        /// The leadership won.
        leader: LeaderKey,
    },
    /// To a proclamation.
    Proclaim {},
    /// To a resignation.
    Resign {},
    /// To the question who leads.
    Leader {
        /// The leader's key.
        kv: KeyValue,
    },
    /// To the question for a hash.
    HashKv {
        /// Over all keys and their versions.
        hash: u64,
        /// Revision below which the member has forgotten.
        compact_revision: i64,
        /// The revision up to which the hash goes.
        hash_revision: i64,
    },
    /// What a member says of all its state.
    StateHash {
        /// How many entries of the log it has applied.
        applied_index: u64,
        /// Over everything that the entries have made.
        hash: u64,
    },
    /// To every question about members.
    Members {
        /// The member that was added.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<Member>,
        /// All members; after a change, with the change.
        members: Vec<Member>,
    },
    /// To everything about authentication.
    Auth {},
}

/// A leadership, as a campaign is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct LeaderKey {
    /// Name of the election.
    pub name: Bytes,
    /// The key that stands for leading.
    pub key: Bytes,
    /// The key's create revision: it orders leaderships.
    pub revision: i64,
    /// The lease.
    pub lease: i64,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// Its id, never used again.
    pub id: u64,
    /// Its name; empty until it has started.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Without a vote.
    #[serde(default, skip_serializing_if = "is_default")]
    pub learner: bool,
}

/// One message of a watch. Without events, and neither created nor canceled, it is a notification of progress.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchMessage {
    /// When it arrived, in nanoseconds.
    pub at: u64,
    /// The header's revision.
    pub revision: i64,
    /// The watch exists from now on.
    #[serde(skip_serializing_if = "is_default")]
    pub created: bool,
    /// The server has ended the watch.
    #[serde(skip_serializing_if = "is_default")]
    pub canceled: bool,
    /// With `canceled`: the start was below this compaction; 0 otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub compact_revision: i64,
    /// Why it was canceled.
    #[serde(skip_serializing_if = "is_default")]
    pub cancel_reason: String,
    /// More pieces of the same message follow.
    #[serde(skip_serializing_if = "is_default")]
    pub fragment: bool,
    /// What happened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened to it.
    pub kind: EventKind,
    /// The key after the change; of a deleted one only the key and the revision of the deletion.
    pub kv: KeyValue,
    /// The key before the change, where asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_kv: Option<KeyValue>,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It was put.
    Put,
    /// It was deleted, or its lease ended.
    Delete,
}
