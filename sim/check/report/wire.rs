//! The JSON of etcd's robustness reports, field by field; names are those of its Go structs.

use serde::Deserialize;

use crate::history::{Body, Bytes, KeyValue, Range};

/// One operation of one client.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordedOperation {
    pub client_id: u32,
    pub input: Input,
    pub call: u64,
    pub output: Output,
    #[serde(rename = "Return")]
    pub ret: u64,
}

/// What was asked; one of the fields is there, as the type says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Input {
    #[serde(rename = "Type")]
    pub kind: String,
    pub lease_grant: Option<Lease>,
    pub lease_revoke: Option<Lease>,
    pub range: Option<RangeRequest>,
    pub txn: Option<TxnRequest>,
    pub compact: Option<CompactRequest>,
}

#[derive(Debug, Deserialize)]
pub struct Lease {
    #[serde(rename = "LeaseID")]
    pub lease_id: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CompactRequest {
    pub revision: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RangeRequest {
    #[serde(flatten)]
    pub options: RangeOptions,
    #[serde(default)]
    pub revision: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RangeOptions {
    pub start: String,
    pub end: String,
    pub limit: i64,
    pub keys_only: bool,
}

impl RangeOptions {
    pub fn request(&self) -> Range {
        Range {
            key: self.start.as_str().into(),
            range_end: self.end.as_str().into(),
            limit: self.limit,
            keys_only: self.keys_only,
            ..Range::default()
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TxnRequest {
    conditions: Option<Vec<Condition>>,
    operations_on_success: Option<Vec<Op>>,
    operations_on_failure: Option<Vec<Op>>,
}

impl TxnRequest {
    pub fn conditions(&self) -> &[Condition] {
        self.conditions.as_deref().unwrap_or_default()
    }

    pub fn success(&self) -> &[Op] {
        self.operations_on_success.as_deref().unwrap_or_default()
    }

    pub fn failure(&self) -> &[Op] {
        self.operations_on_failure.as_deref().unwrap_or_default()
    }

    /// Whether it stands for a single put, delete or get: that is how the tests record those.
    pub fn is_plain(&self) -> bool {
        self.conditions().is_empty() && self.failure().is_empty() && self.success().len() == 1
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Condition {
    pub key: String,
    pub expected_revision: i64,
    pub expected_version: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Op {
    #[serde(rename = "Type")]
    pub kind: String,
    pub range: RangeOptions,
    pub put: PutOptions,
    pub delete: DeleteOptions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PutOptions {
    pub key: String,
    pub value: ValueOrHash,
    #[serde(rename = "LeaseID")]
    pub lease_id: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteOptions {
    pub key: String,
}

/// A short value as it is, or the hash of a long one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ValueOrHash {
    value: String,
    hash: u32,
}

/// Values as long as this are recorded as hashes, in most places.
const HASHED_FROM: usize = 20;

impl ValueOrHash {
    /// The same bytes for the same value, hashed or not.
    pub fn bytes(&self) -> Bytes {
        let hash = match (self.hash, self.value.len()) {
            (0, ..HASHED_FROM) => return self.value.as_str().into(),
            (0, _) => fnv(self.value.as_bytes()),
            (hash, _) => hash,
        };
        format!("fnv32a:{hash:08x}").as_str().into()
    }
}

/// FNV-1a of 32 bits.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What was answered, or why not.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Output {
    pub txn: Option<TxnResponse>,
    pub range: Option<RangeResponse>,
    pub client_error: String,
    pub revision: i64,
    #[serde(rename = "member-id")]
    pub member_id: String,
    /// There was no answer, but the members' logs have the request.
    pub persisted: bool,
    pub error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TxnResponse {
    pub failure: bool,
    results: Option<Vec<OpResult>>,
}

impl TxnResponse {
    pub fn results(&self) -> &[OpResult] {
        self.results.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OpResult {
    #[serde(flatten)]
    pub range: RangeResponse,
    pub deleted: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RangeResponse {
    #[serde(rename = "KVs")]
    kvs: Option<Vec<Kv>>,
    count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Kv {
    key: String,
    value: ValueOrHash,
    mod_revision: i64,
    version: i64,
}

impl RangeResponse {
    pub fn body(&self, range: &Range) -> Body {
        let kvs = self.kvs.as_deref().unwrap_or_default().iter();
        let kvs: Vec<KeyValue> = kvs
            .map(|kv| KeyValue {
                key: kv.key.as_str().into(),
                create_revision: 0,
                mod_revision: kv.mod_revision,
                version: kv.version,
                value: if range.keys_only { Bytes::default() } else { kv.value.bytes() },
                lease: 0,
            })
            .collect();
        // The tests do not record `more`; it follows from the count.
        let more = range.limit > 0 && self.count > kvs.len() as i64;
        Body::Range { kvs, more, count: self.count }
    }
}
