//! Locks and elections as the writes that a member does for them.
//!
//! etcd's lock and election services are clients of its own store: taking a lock puts a key with the name and the
//! lease, giving it back deletes the key. Most answers do not say which revisions that made. So each stands in the
//! history a second time, as the writes that it may have done, with unknown outcomes: evidence and search then find
//! their revisions, if they made any. Who proclaims is told the revision of his one write.
//!
//! Not known: the key of who asked for a lock without a lease and was not answered.
//!
//! Not used: that an answer says that the key was put. A write that may have happened explains no less.

use crate::history::{
    Body, Bytes, Compare, CompareResult, CompareTarget, DeleteRange, LeaderKey, Operation, Outcome,
    Put, Request, Response, Txn,
};

/// The history with those writes added behind each such operation.
pub(super) fn with_writes(operations: &[Operation]) -> Vec<Operation> {
    let mut all = Vec::with_capacity(operations.len() * 2);
    for operation in operations {
        all.push(operation.clone());
        for request in writes(operation) {
            let response = answer(operation);
            let outcome = if response.is_some() { Outcome::Ok } else { Outcome::Unknown };
            all.push(Operation { request, response, error: None, outcome, ..operation.clone() });
        }
    }
    all
}

/// Whether an operation is done by other operations.
pub(super) fn is_composed(operation: &Operation) -> bool {
    matches!(
        operation.request,
        Request::Lock { .. }
            | Request::Unlock { .. }
            | Request::Campaign { .. }
            | Request::Proclaim { .. }
            | Request::Resign { .. }
    )
}

/// What the one write of an operation must have been answered, where that follows.
fn answer(operation: &Operation) -> Option<Response> {
    let Request::Proclaim { leader, .. } = &operation.request else { return None };
    let whole = operation.response.as_ref()?;
    // Who names no lease gets one that he is not told of.
    let is_known = operation.outcome == Outcome::Ok && whole.revision != 0 && leader.lease != 0;
    let put = Response { revision: 0, body: Body::Put { prev_kv: None }, ..whole.clone() };
    let body = Body::Txn { succeeded: true, responses: vec![put] };
    is_known.then(|| Response { body, ..whole.clone() })
}

/// Everything that an operation may have written, each write on its own.
fn writes(operation: &Operation) -> Vec<Request> {
    let lease = lease(operation);
    // Who gives up waiting takes his own key back.
    let is_won = operation.outcome == Outcome::Ok;
    let mut writes = match &operation.request {
        Request::Lock { name, .. } => {
            vec![put_if(CompareResult::Equal, 0, &owned(name, lease), &Bytes::default(), lease)]
        }
        Request::Campaign { name, value, .. } => {
            let key = owned(name, lease);
            vec![
                put_if(CompareResult::Equal, 0, &key, value, lease),
                put_if(CompareResult::NotEqual, 0, &key, value, lease),
            ]
        }
        Request::Proclaim { leader: LeaderKey { key, revision, lease, .. }, value } => {
            return vec![put_if(CompareResult::Equal, *revision, key, value, *lease)];
        }
        Request::Unlock { key } | Request::Resign { leader: LeaderKey { key, .. } } => {
            return vec![delete(key)];
        }
        _ => return Vec::new(),
    };
    if let (false, Request::Lock { name, .. } | Request::Campaign { name, .. }) =
        (is_won, &operation.request)
    {
        writes.push(delete(&owned(name, lease)));
    }
    writes
}

/// The lease that a lock or a leadership rests upon. Who names none gets one of the server's choice, and learns of it
/// by the answer: the key ends with it.
pub(super) fn lease(operation: &Operation) -> i64 {
    let (Request::Lock { lease, .. } | Request::Campaign { lease, .. }) = operation.request else {
        return 0;
    };
    let key = match operation.response.as_ref().map(|response| &response.body) {
        Some(Body::Lock { key }) => key,
        Some(Body::Campaign { leader }) => &leader.key,
        _ => return lease,
    };
    let name = str::from_utf8(&key.0).unwrap_or_default();
    let number = name.rsplit_once('/').and_then(|(_, hex)| i64::from_str_radix(hex, 16).ok());
    if lease == 0 { number.unwrap_or(0) } else { lease }
}

/// The key of one who wants a lock or leads an election.
fn owned(name: &Bytes, lease: i64) -> Bytes {
    Bytes([name.0.as_slice(), format!("/{lease:x}").as_bytes()].concat())
}

fn put_if(result: CompareResult, created: i64, key: &Bytes, value: &Bytes, lease: i64) -> Request {
    let (key, value) = (key.clone(), value.clone());
    let target = CompareTarget::Create(created);
    let compare = Compare { key: key.clone(), range_end: Bytes::default(), result, target };
    let put = Request::Put(Put { key, value, lease, ..Put::default() });
    Request::Txn(Txn { compare: vec![compare], success: vec![put], failure: Vec::new() })
}

fn delete(key: &Bytes) -> Request {
    Request::DeleteRange(DeleteRange { key: key.clone(), ..DeleteRange::default() })
}
