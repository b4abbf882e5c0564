//! What reports leave out of keys, from what else is known of them: `create_revision` and lease.
//!
//! The lease is that of the put which made the revision. The key was created by the put with version 1, which is as
//! many puts back as the version says, none of them before the last delete. Where a put in between left no other
//! trace, a revision that nobody is known to have made stands in for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Body, Bytes, KeyValue, Operation, Outcome, Request, Response};

/// What is known of one key.
#[derive(Default)]
struct Known {
    /// Revisions of puts, with their versions where somebody saw them.
    puts: BTreeMap<i64, Option<i64>>,
    deletes: BTreeSet<i64>,
    /// Leases by revision, and by value where the revision is not known.
    leases: BTreeMap<i64, i64>,
    leases_by_value: BTreeMap<Bytes, i64>,
}

/// Fills in what is left out of every key that an answer shows.
pub fn fill(operations: &mut [Operation]) {
    let mut keys: BTreeMap<Bytes, Known> = BTreeMap::new();
    let mut owned: BTreeSet<i64> = BTreeSet::new();
    for operation in operations.iter() {
        gather(&mut keys, &mut owned, operation);
    }
    for operation in operations.iter_mut() {
        let Some(response) = &mut operation.response else { continue };
        each_kv(&mut response.body, &mut |kv| {
            let Some(known) = keys.get(&kv.key) else { return };
            kv.create_revision = known.created(kv.mod_revision, kv.version, &owned);
            let by_value = known.leases_by_value.get(&kv.value).copied();
            kv.lease = known.leases.get(&kv.mod_revision).copied().or(by_value).unwrap_or(0);
        });
    }
}

fn gather(keys: &mut BTreeMap<Bytes, Known>, owned: &mut BTreeSet<i64>, operation: &Operation) {
    let revision = operation.response.as_ref().map(|response| response.revision);
    changes(&operation.request, operation.response.as_ref(), &mut |key, change| {
        let known = keys.entry(key.clone()).or_default();
        match (change, revision.filter(|_| operation.outcome == Outcome::Ok)) {
            (Change::Put { lease, .. }, Some(revision)) => {
                known.puts.entry(revision).or_default();
                known.leases.insert(revision, lease);
                owned.insert(revision);
            }
            (Change::Put { lease, value }, None) if lease != 0 => {
                known.leases_by_value.insert(value.clone(), lease);
            }
            (Change::Delete, Some(revision)) => {
                known.deletes.insert(revision);
                owned.insert(revision);
            }
            _ => {}
        }
    });
    let Some(response) = &operation.response else { return };
    each_kv(&mut response.body.clone(), &mut |kv| {
        let known = keys.entry(kv.key.clone()).or_default();
        known.puts.insert(kv.mod_revision, Some(kv.version));
        owned.insert(kv.mod_revision);
    });
}

enum Change<'a> {
    Put { value: &'a Bytes, lease: i64 },
    Delete,
}

/// What a request changes: for certain if it is answered, else perhaps.
fn changes<'a>(
    request: &'a Request,
    response: Option<&Response>,
    each: &mut impl FnMut(&'a Bytes, Change<'a>),
) {
    match (request, response.map(|response| &response.body)) {
        (Request::Put(put), _) => {
            each(&put.key, Change::Put { value: &put.value, lease: put.lease });
        }
        (Request::DeleteRange(_), Some(Body::DeleteRange { deleted: 0, .. })) => {}
        (Request::DeleteRange(delete), _) => each(&delete.key, Change::Delete),
        (Request::Txn(txn), Some(Body::Txn { succeeded, responses })) => {
            let branch = if *succeeded { &txn.success } else { &txn.failure };
            for (request, response) in branch.iter().zip(responses) {
                changes(request, Some(response), each);
            }
        }
        (Request::Txn(txn), _) => {
            txn.success.iter().chain(&txn.failure).for_each(|request| changes(request, None, each));
        }
        _ => {}
    }
}

fn each_kv(body: &mut Body, each: &mut impl FnMut(&mut KeyValue)) {
    match body {
        Body::Range { kvs, .. } => kvs.iter_mut().for_each(each),
        Body::Txn { responses, .. } => {
            for response in responses {
                each_kv(&mut response.body, each);
            }
        }
        _ => {}
    }
}

impl Known {
    /// The revision that created the key which was last put at `modified`.
    fn created(&self, modified: i64, version: i64, owned: &BTreeSet<i64>) -> i64 {
        let deleted = self.deletes.range(..modified).next_back().copied().unwrap_or(1);
        let mut left = version;
        let mut earliest = modified;
        for (revision, seen) in self.puts.range(deleted + 1..=modified).rev() {
            earliest = *revision;
            left = seen.unwrap_or(left);
            if left <= 1 {
                return earliest;
            }
            left -= 1;
        }
        // Puts without a trace come before: the nearest revisions that nobody is known to have made.
        let mut free = (deleted + 1..earliest).rev().filter(|revision| !owned.contains(revision));
        free.nth((left - 1).max(0) as usize).unwrap_or(earliest)
    }
}
