//! Reads reports of etcd's own robustness tests: a folder with `client-N/operations.json` for each client.
//!
//! The files hold JSON objects one after another, Porcupine's operations ([`wire`]). What they do not tell is made
//! up for, so that they can be judged like any history of etcd:
//!
//! * Values of twenty bytes and more are hashes, in requests and answers alike ([`wire::ValueOrHash`]).
//! * Keys come without `create_revision` and lease; both follow from other operations on the key ([`fill`]).
//! * A compaction's answer has no revision: it counts as one of unknown outcome. Reads that failed say nothing.
//!
//! Not judged: `watch.json`, whose events lack versions, and the members' logs. They are not needed either.

mod fill;
mod wire;

use std::path::{Path, PathBuf};

use self::wire::{Input, Output, RecordedOperation};
use super::{Refusal, json_reason};
use crate::history::{
    Body, Compare, CompareResult, CompareTarget, DeleteRange, Failure, Operation, Outcome, Put,
    Range, Request, Response, Txn,
};

/// Time to live of every lease that the tests grant, in seconds.
const LEASE_TTL_S: i64 = 7_200;

/// Reads a folder, or one `operations.json`.
///
/// # Errors
/// Names the file and the line that is not an operation.
pub fn read(path: &Path) -> Result<Vec<Operation>, Refusal> {
    let files = if path.is_dir() { files(path)? } else { vec![path.to_path_buf()] };
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Refusal::whole(format!("{}: {error}", file.display())))?;
        all.extend(
            operations(&text)
                .map_err(|refusal| Refusal::whole(format!("{}: {refusal}", file.display())))?,
        );
    }
    Ok(finish(all))
}

/// Reads the text of one `operations.json`.
///
/// # Errors
/// Names the line that is not an operation, or at which one with a request begins that etcd's tests do not know.
pub fn operations(text: &str) -> Result<Vec<Operation>, Refusal> {
    let mut recorded = serde_json::Deserializer::from_str(text).into_iter::<RecordedOperation>();
    let mut operations = Vec::new();
    let (mut line, mut counted) = (1, 0);
    loop {
        let rest = &text[recorded.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        line += text[counted..start].matches('\n').count();
        counted = start;
        let Some(one) = recorded.next() else { return Ok(operations) };
        let one =
            one.map_err(|error| Refusal { line: error.line(), reason: json_reason(&error) })?;
        operations.extend(operation(one).map_err(|reason| Refusal { line, reason })?);
    }
}

/// All `client-N/operations.json` of a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Refusal> {
    let refuse = |error: std::io::Error| Refusal::whole(error.to_string());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refuse)? {
        let path = entry.map_err(refuse)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = path.join("operations.json");
        if name.starts_with("client-") && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        let reason = "the folder has no client-N/operations.json, so it is no robustness report";
        return Err(Refusal::whole(reason));
    }
    Ok(files)
}

/// Makes a history of the operations of all clients.
pub fn finish(mut operations: Vec<Operation>) -> Vec<Operation> {
    operations.sort_by_key(|operation| operation.call);
    for (number, operation) in operations.iter_mut().enumerate() {
        operation.op = number as u64;
    }
    fill::fill(&mut operations);
    operations
}

/// One operation; nothing where it says nothing.
fn operation(recorded: RecordedOperation) -> Result<Option<Operation>, String> {
    let RecordedOperation { client_id, input, call, output, ret } = recorded;
    let Some(request) = request(&input)? else { return Ok(None) };
    let is_read = matches!(request, Request::Range(_));
    let is_unheard = !output.error.is_empty() || output.persisted;
    if is_unheard && is_read {
        return Ok(None);
    }
    let failure = |code: &str, message: &str| {
        Some(Failure { code: code.to_owned(), message: message.to_owned() })
    };
    let (outcome, response, error) = if is_unheard {
        (Outcome::Unknown, None, failure("Unknown", &output.error))
    } else if !output.client_error.is_empty() {
        let message = format!("etcdserver: {}", output.client_error);
        (Outcome::Failed, None, failure("OutOfRange", &message))
    } else if output.revision < 0 {
        (Outcome::Unknown, None, failure("Unknown", "the revision of the answer was not recorded"))
    } else {
        let body = body(&input, &request, &output)?;
        let member_id = u64::from_str_radix(&output.member_id, 16).unwrap_or_default();
        let response = Response { revision: output.revision, member_id, raft_term: 0, body };
        (Outcome::Ok, Some(response), None)
    };
    Ok(Some(Operation {
        op: 0,
        client: client_id,
        member: if output.member_id.is_empty() { "?".to_owned() } else { output.member_id },
        user: None,
        call,
        returned: Some(ret),
        request,
        response,
        outcome,
        error,
    }))
}

fn request(input: &Input) -> Result<Option<Request>, String> {
    let missing = || format!("a request of type {:?} without its fields", input.kind);
    Ok(Some(match input.kind.as_str() {
        "range" => {
            let range = input.range.as_ref().ok_or_else(missing)?;
            Request::Range(Range { revision: range.revision, ..range.options.request() })
        }
        "txn" => {
            let txn = input.txn.as_ref().ok_or_else(missing)?;
            match (txn.is_plain(), txn.success().first().map(wire::Op::request).transpose()?) {
                (true, Some(single)) => single,
                _ => Request::Txn(Txn {
                    compare: txn.conditions().iter().map(compare).collect(),
                    success: requests(txn.success())?,
                    failure: requests(txn.failure())?,
                }),
            }
        }
        "leaseGrant" => {
            let id = input.lease_grant.as_ref().ok_or_else(missing)?.lease_id;
            // Without an answer nobody knows its id, and so nobody can have used it.
            match id {
                0 => return Ok(None),
                id => Request::LeaseGrant { id, ttl_s: LEASE_TTL_S },
            }
        }
        "leaseRevoke" => {
            Request::LeaseRevoke { id: input.lease_revoke.as_ref().ok_or_else(missing)?.lease_id }
        }
        "compact" => {
            let revision = input.compact.as_ref().ok_or_else(missing)?.revision;
            Request::Compact { revision, physical: false }
        }
        "defragment" => return Ok(None),
        other => return Err(format!("unknown type of request {other:?}")),
    }))
}

fn requests(ops: &[wire::Op]) -> Result<Vec<Request>, String> {
    ops.iter().map(wire::Op::request).collect()
}

fn compare(condition: &wire::Condition) -> Compare {
    let target = match condition.expected_version {
        0 => CompareTarget::Mod(condition.expected_revision),
        version => CompareTarget::Version(version),
    };
    let key = condition.key.as_str().into();
    Compare { key, range_end: Default::default(), result: CompareResult::Equal, target }
}

fn body(input: &Input, request: &Request, output: &Output) -> Result<Body, String> {
    let missing = || format!("a request of type {:?} with an answer of another", input.kind);
    let results = || output.txn.as_ref().ok_or_else(missing);
    Ok(match request {
        Request::Range(range) if input.kind == "range" => {
            output.range.as_ref().ok_or_else(missing)?.body(range)
        }
        Request::LeaseGrant { id, ttl_s } => Body::LeaseGrant { id: *id, ttl_s: *ttl_s },
        Request::LeaseRevoke { .. } => Body::LeaseRevoke {},
        Request::Compact { .. } => Body::Compact {},
        Request::Txn(txn) => {
            let results = results()?;
            let branch = if results.failure { &txn.failure } else { &txn.success };
            if branch.len() != results.results().len() {
                return Err("a txn with more or fewer results than operations".to_owned());
            }
            let inner = branch.iter().zip(results.results());
            Body::Txn {
                succeeded: !results.failure,
                responses: inner.map(|(request, result)| inner_response(request, result)).collect(),
            }
        }
        single => match results()?.results() {
            [result] => inner_response(single, result).body,
            _ => return Err("a txn with more or fewer results than operations".to_owned()),
        },
    })
}

fn inner_response(request: &Request, result: &wire::OpResult) -> Response {
    let body = match request {
        Request::Range(range) => result.range.body(range),
        Request::DeleteRange(_) => {
            Body::DeleteRange { deleted: result.deleted, prev_kvs: Vec::new() }
        }
        _ => Body::Put { prev_kv: None },
    };
    Response { revision: 0, member_id: 0, raft_term: 0, body }
}

impl wire::Op {
    fn request(&self) -> Result<Request, String> {
        Ok(match self.kind.as_str() {
            "range-operation" => Request::Range(self.range.request()),
            "put-operation" => Request::Put(Put {
                key: self.put.key.as_str().into(),
                value: self.put.value.bytes(),
                lease: self.put.lease_id,
                ..Put::default()
            }),
            "delete-operation" => Request::DeleteRange(DeleteRange {
                key: self.delete.key.as_str().into(),
                ..DeleteRange::default()
            }),
            other => return Err(format!("unknown type of operation {other:?}")),
        })
    }
}
