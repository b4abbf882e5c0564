//! What is wrong with a request whatever the state: checked before it is proposed, and again when
//! it is applied.
//!
//! Pure functions. [`crate::api`] calls them with the limit on txn operations that the member was
//! started with; applying calls them without that limit, because members may be started with
//! different ones and must still agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Refusal;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

type Result = super::Verdict<()>;

fn key(key: &[u8]) -> Result {
    if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

/// A range: it has a key and known sort options.
///
/// # Errors
/// [`Refusal::EmptyKey`], [`Refusal::InvalidSortOption`].
pub fn range(request: &RangeRequest) -> Result {
    key(&request.key)?;
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() { Err(Refusal::InvalidSortOption) } else { Ok(()) }
}

/// A put: it has a key, and nothing that it also asks to be ignored.
///
/// # Errors
/// [`Refusal::EmptyKey`], [`Refusal::ValueProvided`], [`Refusal::LeaseProvided`].
pub fn put(request: &PutRequest) -> Result {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// A delete: it has a key.
///
/// # Errors
/// [`Refusal::EmptyKey`].
pub fn delete_range(request: &DeleteRangeRequest) -> Result {
    key(&request.key)
}

/// A txn: at most `max_txn_ops` compares or operations a branch (what a txn uses up of it, those
/// nested in it cannot use), every one of them valid, and no key written twice on one path.
///
/// # Errors
/// [`Refusal::TooManyOps`], [`Refusal::KeyNotFound`] for an operation that says nothing,
/// [`Refusal::DuplicateKey`], and those of the operations.
pub fn txn(request: &TxnRequest, max_txn_ops: usize) -> Result {
    ops_of(request, max_txn_ops)?;
    // After the number of operations is known to be bounded.
    writes_of(&request.success)?;
    writes_of(&request.failure)?;
    Ok(())
}

fn ops_of(request: &TxnRequest, max_txn_ops: usize) -> Result {
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(left) = max_txn_ops.checked_sub(used) else { return Err(Refusal::TooManyOps) };
    request.compare.iter().try_for_each(|compare| key(&compare.key))?;
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => ops_of(request, left),
        None => Err(Refusal::KeyNotFound),
    })
}

/// What a list of operations writes, on any of its paths.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Deletes<'a>,
}

/// Deleted keys: single ones, and disjoint spans by their start.
#[derive(Default)]
struct Deletes<'a> {
    keys: BTreeSet<&'a [u8]>,
    spans: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Deletes<'a> {
    fn insert(&mut self, request: &'a DeleteRangeRequest) {
        if request.range_end.is_empty() {
            self.keys.insert(&request.key);
        } else {
            self.insert_span(&request.key, &request.range_end);
        }
    }

    /// Adds a span. One whose end is not behind its start holds no key; etcd takes the end `\0`
    /// literally here, so "all keys from a on" holds none either, and a put beside it is let
    /// through.
    fn insert_span(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        if start >= end {
            return;
        }
        while let Some((&other_start, &other_end)) = self.spans.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.spans.remove(other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.spans.insert(start, end);
    }

    fn merge(&mut self, other: Self) {
        self.keys.extend(other.keys);
        other.spans.into_iter().for_each(|(start, end)| self.insert_span(start, end));
    }

    fn contains(&self, key: &'a [u8]) -> bool {
        let span = self.spans.range(..=key).next_back();
        self.keys.contains(key) || span.is_some_and(|(_, end)| key < *end)
    }
}

/// Collects what operations write; refuses what etcd refuses (`checkIntervals`), in its order:
/// deletes of this level first, then nested txns one after the other, then puts of this level. Two
/// branches of one txn may put the same key, and deletes may overlap each other. A nested put is
/// not compared with the deletes of nested txns that come after it.
fn writes_of(ops: &[RequestOp]) -> super::Verdict<Writes<'_>> {
    let mut writes = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(request)) = &op.request {
            writes.deletes.insert(request);
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(request)) = &op.request {
            let then = writes_of(&request.success)?;
            let other = writes_of(&request.failure)?;
            let mut puts = then.puts.union(&other.puts);
            if puts.any(|key| writes.puts.contains(key) || writes.deletes.contains(key)) {
                return Err(Refusal::DuplicateKey);
            }
            writes.puts.extend(then.puts);
            writes.puts.extend(other.puts);
            writes.deletes.merge(then.deletes);
            writes.deletes.merge(other.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request
            && (writes.deletes.contains(&request.key) || !writes.puts.insert(&request.key))
        {
            return Err(Refusal::DuplicateKey);
        }
    }
    Ok(writes)
}
