//! What clients saw, one operation after another: the only thing a checker gets to read.
//!
//! The types mirror the etcd v3 API in the words of a client and share nothing with the server's own messages,
//! so that a mistake there cannot hide here. One JSON object a line; times in nanoseconds of virtual time;
//! keys and values as text where they are UTF-8, else as `{"base64":"…"}`.
//!
//! Not here: verdicts (`checker`), what the world did (`trace`).

use std::fmt;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

/// Bytes of a key or value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &base64::engine::general_purpose::STANDARD.encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Encoded { base64: String },
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(Self(text.into_bytes())),
            Form::Encoded { base64 } => base64::engine::general_purpose::STANDARD
                .decode(base64)
                .map(Self)
                .map_err(serde::de::Error::custom),
        }
    }
}

/// One operation of one client, from call to return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Number of the operation within the run, from 0, in the order of calls.
    pub op: u64,
    /// The client that called; a client has at most one operation under way.
    pub client: u32,
    /// The member that the request was sent to.
    pub member: String,
    /// When the request was sent, in nanoseconds.
    pub call: u64,
    /// When the client had its answer or gave up, in nanoseconds; absent if the run ended first.
    #[serde(rename = "return")]
    pub returned: Option<u64>,
    /// What was asked.
    pub request: Request,
    /// What was answered; only for `ok`.
    pub response: Option<Response>,
    /// Whether it is known to have happened.
    pub outcome: Outcome,
    /// What the client was told instead of a response.
    pub error: Option<Failure>,
}

/// Whether an operation is known to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It happened, and `response` is its answer.
    Ok,
    /// It was refused, and had no effect.
    Failed,
    /// It may have happened, may happen later, or never.
    Unknown,
}

/// An error as a gRPC client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The gRPC code's name, such as `OutOfRange`.
    pub code: String,
    /// The text, such as `etcdserver: mvcc: required revision has been compacted`.
    pub message: String,
}

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Read keys.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Range {
    /// First key.
    pub key: Bytes,
    /// First key behind the range; empty for a single key, `\0` for no end.
    #[serde(skip_serializing_if = "is_default")]
    pub range_end: Bytes,
    /// At most so many keys; 0 for all.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: i64,
    /// Read as of this revision; 0 for now.
    #[serde(skip_serializing_if = "is_default")]
    pub revision: i64,
    /// Order of the answer.
    #[serde(skip_serializing_if = "is_default")]
    pub sort_order: SortOrder,
    /// What the order goes by.
    #[serde(skip_serializing_if = "is_default")]
    pub sort_target: SortTarget,
    /// May be stale.
    #[serde(skip_serializing_if = "is_default")]
    pub serializable: bool,
    /// Leave values out.
    #[serde(skip_serializing_if = "is_default")]
    pub keys_only: bool,
    /// Only count.
    #[serde(skip_serializing_if = "is_default")]
    pub count_only: bool,
    /// Filter; 0 for none.
    #[serde(skip_serializing_if = "is_default")]
    pub min_mod_revision: i64,
    /// Filter; 0 for none.
    #[serde(skip_serializing_if = "is_default")]
    pub max_mod_revision: i64,
    /// Filter; 0 for none.
    #[serde(skip_serializing_if = "is_default")]
    pub min_create_revision: i64,
    /// Filter; 0 for none.
    #[serde(skip_serializing_if = "is_default")]
    pub max_create_revision: i64,
}

/// Order of a range's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortOrder {
    /// As the store finds them.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What a range's order goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value.
    Value,
}

/// Write one key.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach; 0 for none.
    #[serde(skip_serializing_if = "is_default")]
    pub lease: i64,
    /// Answer with what was there before.
    #[serde(skip_serializing_if = "is_default")]
    pub prev_kv: bool,
    /// Keep the value.
    #[serde(skip_serializing_if = "is_default")]
    pub ignore_value: bool,
    /// Keep the lease.
    #[serde(skip_serializing_if = "is_default")]
    pub ignore_lease: bool,
}

/// Delete keys.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteRange {
    /// First key.
    pub key: Bytes,
    /// As in [`Range::range_end`].
    #[serde(skip_serializing_if = "is_default")]
    pub range_end: Bytes,
    /// Answer with what was deleted.
    #[serde(skip_serializing_if = "is_default")]
    pub prev_kv: bool,
}

/// Compare, then do one of two lists.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Txn {
    /// All must hold for `success` to be done.
    pub compare: Vec<Compare>,
    /// Done if they hold.
    pub success: Vec<Request>,
    /// Done otherwise.
    pub failure: Vec<Request>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// First key.
    pub key: Bytes,
    /// As in [`Range::range_end`]; every key must satisfy the condition.
    #[serde(default, skip_serializing_if = "is_default")]
    pub range_end: Bytes,
    /// How to compare.
    pub result: CompareResult,
    /// What to compare, and with what.
    pub target: CompareTarget,
}

/// How to compare (the key's property on the left).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareResult {
    /// `==`
    Equal,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `!=`
    NotEqual,
}

/// What to compare, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareTarget {
    /// The version; 0 for a missing key.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value; false for a missing key.
    Value(Bytes),
    /// The lease.
    Lease(i64),
}

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
}

/// A key with its history's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Revision of the put that made it.
    pub create_revision: i64,
    /// Revision of the put that last changed it.
    pub mod_revision: i64,
    /// How many puts since it was made.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease attached; 0 for none.
    #[serde(skip_serializing_if = "is_default")]
    pub lease: i64,
}
