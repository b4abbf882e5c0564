//! Random requests over few keys, so that they meet.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Bytes> {
    prop::sample::select(words).prop_map(|word| Bytes::from_static(word.as_bytes()))
}

fn key() -> impl Strategy<Value = Bytes> {
    word(&["a", "b", "c", "d", "bb", "\0", ""]).prop_flat_map(|key| {
        // Rarely no key at all.
        if key.is_empty() {
            prop_oneof![9 => Just("e".into()), 1 => Just(key)].boxed()
        } else {
            Just(key).boxed()
        }
    })
}

fn range_end() -> impl Strategy<Value = Bytes> {
    word(&["", "", "", "\0", "c", "z", "b"])
}

fn value() -> impl Strategy<Value = Bytes> {
    word(&["", "1", "2", "3", "22"])
}

/// Mostly no revision; otherwise one of those that there may be, and some that there are not.
fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 4 => 1..25_i64, 1 => -3..40_i64]
}

/// Mostly zero, which is no filter.
fn filter() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0), 1 => 1..25_i64]
}

pub(super) fn range() -> impl Strategy<Value = RangeRequest> {
    let order = prop_oneof![2 => Just(0), 2 => 1..3_i32, 1 => Just(7)];
    let order = (order, prop_oneof![8 => 0..5_i32, 1 => Just(9)]);
    let filters = (filter(), filter(), filter(), filter());
    let only = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (key(), range_end(), -1..4_i64, revision(), order, filters, only).prop_map(
        |(key, range_end, limit, revision, order, filters, only)| RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order: if order.0 == 7 && order.1 != 9 { 0 } else { order.0 },
            sort_target: order.1,
            serializable: false,
            keys_only: only.0,
            count_only: only.1,
            min_mod_revision: filters.0,
            max_mod_revision: filters.1,
            min_create_revision: filters.2,
            max_create_revision: filters.3,
        },
    )
}

fn put() -> impl Strategy<Value = PutRequest> {
    let flags = (any::<bool>(), prop::bool::weighted(0.15), prop::bool::weighted(0.1));
    let lease = prop_oneof![12 => Just(0), 1 => Just(7)];
    (key(), value(), lease, flags).prop_map(
        |(key, value, lease, (prev_kv, ignore_value, ignore_lease))| PutRequest {
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        (0..3_i64).prop_map(TargetUnion::Version),
        (0..20_i64).prop_map(TargetUnion::CreateRevision),
        (0..20_i64).prop_map(TargetUnion::ModRevision),
        value().prop_map(TargetUnion::Value),
        (0..2_i64).prop_map(TargetUnion::Lease),
    ];
    (0..5_i32, prop::option::weighted(0.1, 0..6_i32), key(), range_end(), union).prop_map(
        |(result, odd_target, key, range_end, union)| {
            let fitting = match union {
                TargetUnion::Version(_) => 0,
                TargetUnion::CreateRevision(_) => 1,
                TargetUnion::ModRevision(_) => 2,
                TargetUnion::Value(_) => 3,
                TargetUnion::Lease(_) => 4,
            };
            let target = odd_target.unwrap_or(fitting);
            Compare { result, target, key, range_end, target_union: Some(union) }
        },
    )
}

fn op(depth: u32) -> BoxedStrategy<RequestOp> {
    let flat = prop_oneof![
        4 => put().prop_map(Request::RequestPut),
        2 => delete().prop_map(Request::RequestDeleteRange),
        3 => range().prop_map(Request::RequestRange),
    ];
    let request = if depth == 0 {
        flat.boxed()
    } else {
        prop_oneof![4 => flat, 1 => txn(depth - 1).prop_map(Request::RequestTxn)].boxed()
    };
    prop_oneof![40 => request.prop_map(Some), 1 => Just(None)]
        .prop_map(|request| RequestOp { request })
        .boxed()
}

fn txn(depth: u32) -> BoxedStrategy<TxnRequest> {
    (vec(compare(), 0..3), vec(op(depth), 0..4), vec(op(depth), 0..3))
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
        .boxed()
}

fn logged_range(range: RangeRequest) -> InternalRaftRequest {
    InternalRaftRequest { range: Some(range), ..InternalRaftRequest::default() }
}

fn compaction(revision: i64) -> InternalRaftRequest {
    CompactionRequest { revision, physical: false }.into()
}

/// Any request that goes through the log.
pub(super) fn any_request() -> impl Strategy<Value = InternalRaftRequest> {
    prop_oneof![
        6 => put().prop_map(InternalRaftRequest::from),
        3 => delete().prop_map(InternalRaftRequest::from),
        6 => txn(2).prop_map(InternalRaftRequest::from),
        1 => range().prop_map(logged_range),
        2 => (-1..25_i64).prop_map(compaction),
    ]
}
