//! Between a history's words and the messages on the wire.
//!
//! The client's side of the API, written by hand and apart from the server, so that a mistake in one shows in the other.

pub mod auth;
pub mod lease;
pub mod lock;
pub mod member;
pub mod watch;

pub use snowglobe::client::Way;
use snowglobe::proto::{etcdserverpb as pb, mvccpb};
use tonic::Status;

use crate::history::{
    Body, Bytes, Compare, CompareResult, CompareTarget, DeleteRange, KeyValue, Put, Range, Request,
    Response, SortOrder, SortTarget, Txn,
};

/// A range request as it is sent.
#[must_use]
pub fn range(range: &Range) -> pb::RangeRequest {
    pb::RangeRequest {
        key: range.key.0.clone().into(),
        range_end: range.range_end.0.clone().into(),
        limit: range.limit,
        revision: range.revision,
        sort_order: match range.sort_order {
            SortOrder::None => 0,
            SortOrder::Ascend => 1,
            SortOrder::Descend => 2,
        },
        sort_target: match range.sort_target {
            SortTarget::Key => 0,
            SortTarget::Version => 1,
            SortTarget::Create => 2,
            SortTarget::Mod => 3,
            SortTarget::Value => 4,
        },
        serializable: range.serializable,
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    }
}

/// A put as it is sent.
#[must_use]
pub fn put(put: &Put) -> pb::PutRequest {
    pb::PutRequest {
        key: put.key.0.clone().into(),
        value: put.value.0.clone().into(),
        lease: put.lease,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

/// A delete as it is sent.
#[must_use]
pub fn delete_range(delete: &DeleteRange) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: delete.key.0.clone().into(),
        range_end: delete.range_end.0.clone().into(),
        prev_kv: delete.prev_kv,
    }
}

/// A txn as it is sent. Errors: something that etcd knows no way to do inside a txn.
pub fn txn(txn: &Txn) -> Result<pb::TxnRequest, Status> {
    let list = |requests: &[Request]| requests.iter().map(operation).collect::<Result<_, _>>();
    Ok(pb::TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: list(&txn.success)?,
        failure: list(&txn.failure)?,
    })
}

/// What the client says of a request that it knows no way to send.
#[must_use]
pub fn no_way(what: &Request) -> Status {
    Status::unimplemented(format!("the simulated client cannot send {what:?}"))
}

fn operation(request: &Request) -> Result<pb::RequestOp, Status> {
    use pb::request_op::Request as Op;
    let request = match request {
        Request::Range(it) => Op::RequestRange(range(it)),
        Request::Put(it) => Op::RequestPut(put(it)),
        Request::DeleteRange(it) => Op::RequestDeleteRange(delete_range(it)),
        Request::Txn(it) => Op::RequestTxn(txn(it)?),
        other => return Err(no_way(other)),
    };
    Ok(pb::RequestOp { request: Some(request) })
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::TargetUnion;
    let (target, union) = match &compare.target {
        CompareTarget::Version(it) => (0, TargetUnion::Version(*it)),
        CompareTarget::Create(it) => (1, TargetUnion::CreateRevision(*it)),
        CompareTarget::Mod(it) => (2, TargetUnion::ModRevision(*it)),
        CompareTarget::Value(it) => (3, TargetUnion::Value(it.0.clone().into())),
        CompareTarget::Lease(it) => (4, TargetUnion::Lease(*it)),
    };
    pb::Compare {
        result: match compare.result {
            CompareResult::Equal => 0,
            CompareResult::Greater => 1,
            CompareResult::Less => 2,
            CompareResult::NotEqual => 3,
        },
        target,
        key: compare.key.0.clone().into(),
        range_end: compare.range_end.0.clone().into(),
        target_union: Some(union),
    }
}

fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: Bytes(kv.key.to_vec()),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: Bytes(kv.value.to_vec()),
        lease: kv.lease,
    }
}

fn answer(header: Option<pb::ResponseHeader>, body: Body) -> Response {
    let header = header.unwrap_or_default();
    Response {
        revision: header.revision,
        member_id: header.member_id,
        raft_term: header.raft_term,
        body,
    }
}

/// The answer to a range.
#[must_use]
pub fn range_answer(response: pb::RangeResponse) -> Response {
    let kvs = response.kvs.into_iter().map(key_value).collect();
    answer(response.header, Body::Range { kvs, more: response.more, count: response.count })
}

/// The answer to a put.
#[must_use]
pub fn put_answer(response: pb::PutResponse) -> Response {
    answer(response.header, Body::Put { prev_kv: response.prev_kv.map(key_value) })
}

/// The answer to a delete.
#[must_use]
pub fn delete_range_answer(response: pb::DeleteRangeResponse) -> Response {
    let prev_kvs = response.prev_kvs.into_iter().map(key_value).collect();
    answer(response.header, Body::DeleteRange { deleted: response.deleted, prev_kvs })
}

/// The answer to a txn.
#[must_use]
pub fn txn_answer(response: pb::TxnResponse) -> Response {
    use pb::response_op::Response as Op;
    let responses = response
        .responses
        .into_iter()
        .filter_map(|op| op.response)
        .map(|op| match op {
            Op::ResponseRange(it) => range_answer(it),
            Op::ResponsePut(it) => put_answer(it),
            Op::ResponseDeleteRange(it) => delete_range_answer(it),
            Op::ResponseTxn(it) => txn_answer(it),
        })
        .collect();
    answer(response.header, Body::Txn { succeeded: response.succeeded, responses })
}

/// The answer to a compaction.
#[must_use]
pub fn compact_answer(response: pb::CompactionResponse) -> Response {
    answer(response.header, Body::Compact {})
}

#[cfg(test)]
mod tests {
    use snowglobe::proto::etcdserverpb as pb;

    use super::{Range, SortOrder, SortTarget, range, txn_answer};
    use crate::history::{Body, Bytes, Response};

    /// Every option of a range reaches the wire under etcd's number.
    #[test]
    fn range_options() {
        let sent = range(&Range {
            key: Bytes::from("a"),
            range_end: Bytes::from("z"),
            limit: 3,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Value,
            count_only: true,
            ..Range::default()
        });
        assert_eq!(sent.sort_order(), pb::range_request::SortOrder::Descend);
        assert_eq!(sent.sort_target(), pb::range_request::SortTarget::Value);
        assert_eq!(
            (sent.limit, sent.count_only, sent.range_end.as_ref()),
            (3, true, b"z".as_slice())
        );
    }

    /// A txn's answer keeps the answers inside it, in order.
    #[test]
    fn nested_answers() {
        let inner = pb::response_op::Response::ResponsePut(pb::PutResponse::default());
        let header = pb::ResponseHeader { revision: 9, ..Default::default() };
        let response = pb::TxnResponse {
            header: Some(header),
            succeeded: true,
            responses: vec![pb::ResponseOp { response: Some(inner) }],
        };
        let answer = txn_answer(response);
        assert_eq!(answer.revision, 9);
        let Body::Txn { succeeded: true, responses } = answer.body else { panic!("not a txn") };
        assert!(matches!(responses[..], [Response { body: Body::Put { prev_kv: None }, .. }]));
    }
}
