//! The model: one full copy of all keys per revision, and etcd's rules in the plainest form.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::Refusal;
use crate::proto::etcdserverpb::compare::TargetUnion;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse, InternalRaftRequest,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse, response_op,
};
use crate::proto::mvccpb::KeyValue;
use crate::state::{Response, Verdict};

type Keys = BTreeMap<Bytes, KeyValue>;

/// All keys at every revision; the first copy is of revision 1.
pub(super) struct Model {
    history: Vec<Keys>,
    compact: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self { history: vec![Keys::new()], compact: -1 }
    }
}

/// A request at work on a copy of the newest keys.
struct Work {
    keys: Keys,
    begin: i64,
    changed: bool,
}

impl Work {
    fn revision(&self) -> i64 {
        if self.changed { self.begin + 1 } else { self.begin }
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

fn select<'a>(
    keys: &'a Keys,
    start: &'a [u8],
    end: &'a [u8],
) -> impl Iterator<Item = &'a KeyValue> {
    keys.values().filter(move |kv| within(&kv.key, start, end))
}

impl Model {
    pub(super) fn current(&self) -> i64 {
        self.history.len() as i64
    }

    fn newest(&self) -> &Keys {
        self.history.last().unwrap()
    }

    pub(super) fn apply(&mut self, request: &InternalRaftRequest) -> Verdict<Response> {
        let mut work = Work { keys: self.newest().clone(), begin: self.current(), changed: false };
        let response = if let Some(put) = &request.put {
            valid_put(put)?;
            self.possible_put(put)?;
            Response::Put(do_put(&mut work, put))
        } else if let Some(delete) = &request.delete_range {
            valid_key(&delete.key)?;
            Response::DeleteRange(do_delete(&mut work, delete))
        } else if let Some(txn) = &request.txn {
            valid_txn(txn)?;
            valid_writes(&txn.success)?;
            valid_writes(&txn.failure)?;
            self.possible_txn(txn)?;
            let mut response = self.do_txn(&mut work, txn);
            response.header = header(work.revision());
            Response::Txn(response)
        } else if let Some(range) = &request.range {
            Response::Range(self.range(range)?)
        } else {
            let revision = request.compaction.as_ref().unwrap().revision;
            if revision <= self.compact {
                return Err(Refusal::Compacted);
            } else if revision > self.current() {
                return Err(Refusal::FutureRevision);
            }
            self.compact = revision;
            Response::Compact(CompactionResponse { header: header(self.current()) })
        };
        if work.changed {
            self.history.push(work.keys);
        }
        Ok(response)
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Verdict<RangeResponse> {
        valid_range(request)?;
        let current = self.current();
        if request.revision > current {
            return Err(Refusal::FutureRevision);
        }
        if request.revision > 0 && request.revision < self.compact {
            return Err(Refusal::Compacted);
        }
        Ok(self.do_range(self.newest(), current, request))
    }

    /// A range that is possible, seen from `current`, whose keys are `newest`.
    fn do_range(&self, newest: &Keys, current: i64, request: &RangeRequest) -> RangeResponse {
        let past = usize::try_from(request.revision - 1).ok().and_then(|at| self.history.get(at));
        let mut kvs: Vec<_> =
            select(past.unwrap_or(newest), &request.key, &request.range_end).cloned().collect();
        let count = kvs.len() as i64;
        if request.count_only {
            return RangeResponse { header: header(current), kvs: vec![], more: false, count };
        }
        let RangeRequest { min_mod_revision, max_mod_revision, .. } = *request;
        let RangeRequest { min_create_revision, max_create_revision, .. } = *request;
        let filters =
            [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision];
        let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        let key_order =
            request.sort_order == 0 || (request.sort_order == 1 && request.sort_target == 0);
        if key_order && filters == [0; 4] {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|kv| {
            (min_mod_revision == 0 || kv.mod_revision >= min_mod_revision)
                && (max_mod_revision == 0 || kv.mod_revision <= max_mod_revision)
                && (min_create_revision == 0 || kv.create_revision >= min_create_revision)
                && (max_create_revision == 0 || kv.create_revision <= max_create_revision)
        });
        let number = |kv: &KeyValue| match request.sort_target {
            1 => kv.version,
            2 => kv.create_revision,
            3 => kv.mod_revision,
            _ => 0,
        };
        let bytes = |kv: &KeyValue| match request.sort_target {
            0 => kv.key.clone(),
            4 => kv.value.clone(),
            _ => Bytes::new(),
        };
        let descending = request.sort_order == 2;
        kvs.sort_by(|a, b| {
            let order = (number(a), bytes(a)).cmp(&(number(b), bytes(b)));
            if descending { order.reverse() } else { order }
        });
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse { header: header(current), kvs, more, count }
    }

    fn possible_put(&self, put: &PutRequest) -> Verdict<()> {
        if put.lease != 0 {
            Err(Refusal::LeaseNotFound)
        } else if (put.ignore_value || put.ignore_lease) && !self.newest().contains_key(&put.key) {
            Err(Refusal::KeyNotFound)
        } else {
            Ok(())
        }
    }

    fn branch<'a>(&self, txn: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        (holds, if holds { &txn.success } else { &txn.failure })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found: Vec<_> =
            select(self.newest(), &compare.key, &compare.range_end).cloned().collect();
        if found.is_empty() {
            return compare.target != 3 && accepts(compare, &KeyValue::default());
        }
        found.iter().all(|kv| accepts(compare, kv))
    }

    fn possible_txn(&self, txn: &TxnRequest) -> Verdict<()> {
        for op in self.branch(txn).1 {
            match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => self.possible_put(put)?,
                Request::RequestTxn(txn) => self.possible_txn(txn)?,
                Request::RequestRange(range) if range.revision > self.current() => {
                    return Err(Refusal::FutureRevision);
                }
                Request::RequestRange(range)
                    if range.revision != 0 && range.revision < self.compact =>
                {
                    return Err(Refusal::Compacted);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn do_txn(&self, work: &mut Work, txn: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = self.branch(txn);
        let responses = ops.iter().map(|op| {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => response_op::Response::ResponsePut(do_put(work, put)),
                Request::RequestDeleteRange(delete) => {
                    response_op::Response::ResponseDeleteRange(do_delete(work, delete))
                }
                Request::RequestRange(range) => {
                    let response = self.do_range(&work.keys, work.revision(), range);
                    response_op::Response::ResponseRange(response)
                }
                Request::RequestTxn(txn) => {
                    response_op::Response::ResponseTxn(self.do_txn(work, txn))
                }
            };
            ResponseOp { response: Some(response) }
        });
        TxnResponse { responses: responses.collect(), header: header(0), succeeded }
    }
}

fn do_put(work: &mut Work, put: &PutRequest) -> PutResponse {
    let previous = work.keys.get(&put.key).cloned();
    let revision = work.begin + 1;
    let mut kv = KeyValue {
        key: put.key.clone(),
        value: put.value.clone(),
        create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
        mod_revision: revision,
        version: previous.as_ref().map_or(1, |kv| kv.version + 1),
        lease: 0,
    };
    if put.ignore_value {
        kv.value = previous.as_ref().map(|kv| kv.value.clone()).unwrap_or_default();
    }
    work.keys.insert(put.key.clone(), kv);
    work.changed = true;
    PutResponse { header: header(revision), prev_kv: previous.filter(|_| put.prev_kv) }
}

fn do_delete(work: &mut Work, delete: &DeleteRangeRequest) -> DeleteRangeResponse {
    let doomed: Vec<_> = select(&work.keys, &delete.key, &delete.range_end).cloned().collect();
    work.keys.retain(|key, _| !within(key, &delete.key, &delete.range_end));
    work.changed |= !doomed.is_empty();
    let deleted = doomed.len() as i64;
    let prev_kvs = if delete.prev_kv { doomed } else { vec![] };
    DeleteRangeResponse { header: header(work.revision()), deleted, prev_kvs }
}

fn accepts(compare: &Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.as_ref().unwrap();
    let order = match (compare.target, union) {
        (0, TargetUnion::Version(version)) => kv.version.cmp(version),
        (0, _) => kv.version.cmp(&0),
        (1, TargetUnion::CreateRevision(revision)) => kv.create_revision.cmp(revision),
        (1, _) => kv.create_revision.cmp(&0),
        (2, TargetUnion::ModRevision(revision)) => kv.mod_revision.cmp(revision),
        (2, _) => kv.mod_revision.cmp(&0),
        (3, TargetUnion::Value(value)) => kv.value.cmp(value),
        (3, _) => kv.value.cmp(&Bytes::new()),
        (4, TargetUnion::Lease(lease)) => kv.lease.cmp(lease),
        (4, _) => kv.lease.cmp(&0),
        _ => std::cmp::Ordering::Equal,
    };
    match compare.result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        3 => order.is_ne(),
        _ => true,
    }
}

fn valid_key(key: &[u8]) -> Verdict<()> {
    if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

fn valid_range(range: &RangeRequest) -> Verdict<()> {
    valid_key(&range.key)?;
    let known = (0..=2).contains(&range.sort_order) && (0..=4).contains(&range.sort_target);
    if known { Ok(()) } else { Err(Refusal::InvalidSortOption) }
}

fn valid_put(put: &PutRequest) -> Verdict<()> {
    valid_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        Err(Refusal::ValueProvided)
    } else if put.ignore_lease && put.lease != 0 {
        Err(Refusal::LeaseProvided)
    } else {
        Ok(())
    }
}

fn valid_txn(txn: &TxnRequest) -> Verdict<()> {
    for compare in &txn.compare {
        valid_key(&compare.key)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            None => return Err(Refusal::KeyNotFound),
            Some(Request::RequestPut(put)) => valid_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => valid_key(&delete.key)?,
            Some(Request::RequestRange(range)) => valid_range(range)?,
            Some(Request::RequestTxn(txn)) => valid_txn(txn)?,
        }
    }
    Ok(())
}

/// The keys put and the ranges deleted on any path; deletes keep the end as it was sent.
fn valid_writes(ops: &[RequestOp]) -> Verdict<(BTreeSet<Bytes>, Vec<DeleteRangeRequest>)> {
    let mut puts = BTreeSet::new();
    let mut deletes = Vec::new();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            deletes.push(delete.clone());
        }
    }
    let deleted = |deletes: &[DeleteRangeRequest], key: &Bytes| {
        let hits = |delete: &DeleteRangeRequest| {
            let (start, end) = (&delete.key, &delete.range_end);
            if end.is_empty() { key == start } else { key >= start && key < end }
        };
        deletes.iter().any(hits)
    };
    for op in ops {
        if let Some(Request::RequestTxn(txn)) = &op.request {
            let (then_puts, then_deletes) = valid_writes(&txn.success)?;
            let (else_puts, else_deletes) = valid_writes(&txn.failure)?;
            for key in then_puts.iter().chain(&else_puts) {
                if puts.contains(key) || deleted(&deletes, key) {
                    return Err(Refusal::DuplicateKey);
                }
            }
            puts.extend(then_puts.into_iter().chain(else_puts));
            deletes.extend(then_deletes.into_iter().chain(else_deletes));
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            if puts.contains(&put.key) || deleted(&deletes, &put.key) {
                return Err(Refusal::DuplicateKey);
            }
            puts.insert(put.key.clone());
        }
    }
    Ok((puts, deletes))
}
