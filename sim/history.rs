//! What clients saw, one operation after another: the only thing a checker gets to read.
//!
//! The types mirror the etcd v3 API in the words of a client and share nothing with the server's own messages,
//! so that a mistake there cannot hide here. One JSON object a line; times in nanoseconds of virtual time;
//! keys and values as text where they are UTF-8, else as `{"base64":"…"}`. Fields that say nothing are left out.
//!
//! Not here: verdicts (`checker`), what the world did (`trace`).

mod bytes;
mod kv;
mod request;
mod response;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use bytes::Bytes;
pub use kv::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyValue, Put, Range, SortOrder,
    SortTarget, Txn,
};
pub use request::{PermissionKind, Request, Watch};
#[allow(unused_imports, reason = "some are named by tests alone")]
pub use response::{Body, Event, EventKind, LeaderKey, Member, Response, WatchMessage};

/// One operation of one client, from call to return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Number of the operation within the run, from 0, in the order of calls.
    pub op: u64,
    /// The client that called; a client has at most one operation under way, watches apart.
    pub client: u32,
    /// Who the client says it is; absent where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
