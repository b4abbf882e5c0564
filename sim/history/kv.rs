//! The parts of reads and writes: ranges, puts, deletes, txns with their compares, and keys as answers show them.

use serde::{Deserialize, Serialize};

use super::{Bytes, Request, is_default};

/// Read keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// A key with its history's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
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
