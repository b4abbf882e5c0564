//! Leaves writes out of a history and lowers every revision accordingly.
//!
//! The map lowers a revision by the number of writes left out up to it. It keeps the order of all other revisions,
//! so every comparison of two of them comes out as before. A revision that a request names (reads of the past,
//! compactions, compares, filters) must not itself be left out: it would fall together with the one before.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{
    Body, Bytes, CompareTarget, KeyValue, Operation, Outcome, Range, Request, Response, SortTarget,
};

/// Whether an answer says that something was changed.
pub(super) fn wrote(operation: &Operation) -> bool {
    fn changed(request: &Request, body: &Body) -> bool {
        match (request, body) {
            (Request::Put(_), _) => true,
            (Request::DeleteRange(_), Body::DeleteRange { deleted, .. }) => *deleted != 0,
            (Request::Txn(txn), Body::Txn { succeeded, responses }) => {
                let done = if *succeeded { &txn.success } else { &txn.failure };
                done.iter().zip(responses).any(|(inner, response)| changed(inner, &response.body))
            }
            _ => false,
        }
    }
    let body = operation.response.as_ref().map(|response| &response.body);
    body.is_some_and(|body| changed(&operation.request, body))
}

/// The one key of a plain put or delete that is attached to nothing; its fate concerns no other key.
fn plain_key(operation: &Operation) -> Option<&Bytes> {
    match &operation.request {
        Request::Put(put) if put.lease == 0 && !put.ignore_lease && !put.ignore_value => {
            Some(&put.key)
        }
        Request::DeleteRange(delete) if delete.range_end.0.is_empty() => Some(&delete.key),
        _ => None,
    }
}

/// Whether revisions of this history are made by plain requests alone, so that they can be counted.
fn is_countable(operations: &[Operation]) -> bool {
    operations.iter().all(|operation| {
        matches!(
            operation.request,
            Request::Range(_)
                | Request::Put(_)
                | Request::DeleteRange(_)
                | Request::Txn(_)
                | Request::Compact { .. }
                | Request::LeaseGrant { .. }
                | Request::LeaseRevoke { .. }
                | Request::LeaseKeepAlive { .. }
                | Request::LeaseTimeToLive { keys: false, .. }
                | Request::LeaseLeases {}
        )
    })
}

/// Calls `each` for every key or range of keys that a request names.
fn each_span(request: &Request, each: &mut impl FnMut(&Bytes, &Bytes)) {
    let single = Bytes::default();
    match request {
        Request::Range(range) => each(&range.key, &range.range_end),
        Request::Put(put) => each(&put.key, &single),
        Request::DeleteRange(delete) => each(&delete.key, &delete.range_end),
        Request::Txn(txn) => {
            for compare in &txn.compare {
                each(&compare.key, &compare.range_end);
            }
            for inner in txn.success.iter().chain(&txn.failure) {
                each_span(inner, each);
            }
        }
        _ => {}
    }
}

fn contains(key: &Bytes, from: &Bytes, end: &Bytes) -> bool {
    match end.0.as_slice() {
        [] => key == from,
        [0] => key >= from,
        _ => key >= from && key < end,
    }
}

/// Keys that nothing depends upon but their own plain writes.
pub(super) fn droppable_keys(operations: &[Operation], cited: &[u64]) -> Vec<Bytes> {
    if !is_countable(operations) {
        return Vec::new();
    }
    let mut keys: BTreeSet<Bytes> = operations
        .iter()
        .filter(|operation| operation.outcome == Outcome::Ok && wrote(operation))
        .filter_map(|operation| plain_key(operation).cloned())
        .collect();
    for operation in operations {
        let is_plain = plain_key(operation).is_some() && !cited.contains(&operation.op);
        let is_unknown_put =
            operation.outcome == Outcome::Unknown && matches!(operation.request, Request::Put(_));
        if is_plain && (operation.outcome != Outcome::Unknown || is_unknown_put) {
            continue;
        }
        each_span(&operation.request, &mut |from, end| {
            keys.retain(|key| !contains(key, from, end));
        });
    }
    keys.into_iter().collect()
}

/// The history without these keys; `None` if some request names a revision that would be left out.
pub(super) fn without_keys(operations: &[Operation], keys: &[Bytes]) -> Option<Vec<Operation>> {
    let is_gone = |operation: &Operation| {
        operation.outcome != Outcome::Unknown
            && plain_key(operation).is_some_and(|key| keys.binary_search(key).is_ok())
    };
    let gone = operations.iter().filter(|operation| is_gone(operation) && wrote(operation));
    let map = Map::new(gone)?;
    if !map.spares_named(operations.iter().filter(|operation| !is_gone(operation))) {
        return None;
    }
    let mut left: Vec<Operation> =
        operations.iter().filter(|operation| !is_gone(operation)).cloned().collect();
    for operation in &mut left {
        map.operation(operation, &mut |_| {});
    }
    Some(left)
}

/// What is left out, and how that lowers the others.
struct Map {
    gone: Vec<i64>,
}

impl Map {
    fn new<'a>(gone: impl Iterator<Item = &'a Operation>) -> Option<Self> {
        let revision = |operation: &Operation| Some(operation.response.as_ref()?.revision);
        let mut gone: Vec<i64> = gone.filter_map(revision).collect();
        gone.sort_unstable();
        // With a revision given twice nothing can be counted.
        (!gone.is_empty() && gone.windows(2).all(|pair| pair[0] < pair[1])).then_some(Self { gone })
    }

    fn lower(&self, revision: &mut i64) {
        *revision -= self.gone.partition_point(|gone| gone <= revision) as i64;
    }

    fn spares(&self, revision: i64) -> bool {
        self.gone.binary_search(&revision).is_err()
    }

    /// Whether no request names a revision that is left out.
    fn spares_named<'a>(&self, mut operations: impl Iterator<Item = &'a Operation>) -> bool {
        fn named(request: &Request, each: &mut impl FnMut(i64)) {
            match request {
                Request::Range(range) => bounds(range).into_iter().for_each(each),
                Request::Compact { revision, .. } => each(*revision),
                Request::Txn(txn) => {
                    for compare in &txn.compare {
                        if let CompareTarget::Create(n) | CompareTarget::Mod(n) = compare.target {
                            each(n);
                        }
                    }
                    for inner in txn.success.iter().chain(&txn.failure) {
                        named(inner, each);
                    }
                }
                _ => {}
            }
        }
        operations.all(|operation| {
            let mut is_spared = true;
            named(&operation.request, &mut |revision| is_spared &= self.spares(revision));
            is_spared
        })
    }

    fn operation(&self, operation: &mut Operation, each: &mut impl FnMut(&mut KeyValue)) {
        self.request(&mut operation.request);
        if let Some(response) = &mut operation.response {
            self.response(response, each);
        }
    }

    fn request(&self, request: &mut Request) {
        match request {
            Request::Range(range) => {
                self.lower(&mut range.revision);
                self.lower(&mut range.min_mod_revision);
                self.lower(&mut range.max_mod_revision);
                self.lower(&mut range.min_create_revision);
                self.lower(&mut range.max_create_revision);
            }
            Request::Compact { revision, .. } => self.lower(revision),
            Request::Txn(txn) => {
                for compare in &mut txn.compare {
                    if let CompareTarget::Create(n) | CompareTarget::Mod(n) = &mut compare.target {
                        self.lower(n);
                    }
                }
                txn.success.iter_mut().chain(&mut txn.failure).for_each(|one| self.request(one));
            }
            _ => {}
        }
    }

    fn response(&self, response: &mut Response, each: &mut impl FnMut(&mut KeyValue)) {
        self.lower(&mut response.revision);
        let mut key = |kv: &mut KeyValue| {
            each(kv);
            self.lower(&mut kv.create_revision);
            self.lower(&mut kv.mod_revision);
        };
        match &mut response.body {
            Body::Range { kvs, .. } => kvs.iter_mut().for_each(key),
            Body::Put { prev_kv: Some(kv) } => key(kv),
            Body::DeleteRange { prev_kvs, .. } => prev_kvs.iter_mut().for_each(key),
            Body::Txn { responses, .. } => {
                responses.iter_mut().for_each(|inner| self.response(inner, each));
            }
            _ => {}
        }
    }
}

fn bounds(range: &Range) -> [i64; 5] {
    [
        range.revision,
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ]
}

/// The plain puts of a history that are followed by another plain write of their key.
pub(super) struct Plan<'o> {
    operations: &'o [Operation],
    /// For each key, its answered writes by revision, where all are plain and none but puts are not answered.
    writes: BTreeMap<&'o Bytes, Vec<(i64, &'o Operation)>>,
    /// Keys and mod revisions that some answer shows.
    shown: BTreeSet<(&'o Bytes, i64)>,
    /// Keys and create revisions that some answer shows.
    created: BTreeSet<(&'o Bytes, i64)>,
    /// Keys with puts that may have happened.
    unsure: BTreeSet<&'o Bytes>,
}

impl<'o> Plan<'o> {
    pub(super) fn new(operations: &'o [Operation]) -> Option<Self> {
        if !is_countable(operations) {
            return None;
        }
        let mut writes: BTreeMap<&Bytes, Vec<(i64, &Operation)>> = BTreeMap::new();
        let (mut shown, mut created) = (BTreeSet::new(), BTreeSet::new());
        for operation in operations {
            if let Some(response) = &operation.response {
                each_shown(&response.body, &mut |kv| {
                    shown.insert((&kv.key, kv.mod_revision));
                    created.insert((&kv.key, kv.create_revision));
                });
            }
            if let (Some(key), true) = (plain_key(operation), wrote(operation)) {
                let revision = operation.response.as_ref().map_or(0, |response| response.revision);
                writes.entry(key).or_default().push((revision, operation));
            }
        }
        // A write that is not plain, a delete that is not answered, a compare: leave the key be.
        let mut unsure = BTreeSet::new();
        for operation in operations {
            let is_read =
                matches!(&operation.request, Request::Range(range) if !depends_on_versions(range));
            let is_put = matches!(operation.request, Request::Put(_));
            match plain_key(operation) {
                Some(key) if is_put && operation.outcome == Outcome::Unknown => {
                    unsure.insert(key);
                }
                Some(_) if operation.outcome == Outcome::Ok => {}
                _ if is_read => {}
                _ => each_span(&operation.request, &mut |from, end| {
                    writes.retain(|key, _| !contains(key, from, end));
                }),
            }
        }
        for list in writes.values_mut() {
            list.sort_by_key(|(revision, _)| *revision);
        }
        Some(Self { operations, writes, shown, created, unsure })
    }

    /// Puts that nobody saw, each overwritten by the next put of its key.
    pub(super) fn overwritten_unseen(&self, cited: &[u64]) -> Vec<u64> {
        let mut unseen = Vec::new();
        for (key, list) in &self.writes {
            for pair in list.windows(2) {
                let [(revision, operation), (_, next)] = pair else { continue };
                let are_puts =
                    [operation, next].iter().all(|one| matches!(one.request, Request::Put(_)));
                let is_first = self.created.contains(&(*key, *revision));
                let is_needed = is_first && self.unsure.contains(key);
                if are_puts
                    && !is_needed
                    && !cited.contains(&operation.op)
                    && !self.shown.contains(&(*key, *revision))
                    && !self.is_read_at(key, *revision, pair[1].0)
                {
                    unseen.push(operation.op);
                }
            }
        }
        unseen
    }

    /// Whether a read without the whole key could have been of a put: a count, a filter, or an order.
    fn is_read_at(&self, key: &Bytes, from: i64, until: i64) -> bool {
        self.operations.iter().any(|operation| {
            let (Request::Range(range), Some(response)) = (&operation.request, &operation.response)
            else {
                return false;
            };
            let at = if range.revision > 0 { range.revision } else { response.revision };
            (from..until).contains(&at) && contains(key, &range.key, &range.range_end)
        })
    }

    /// The history without these puts.
    pub(super) fn without_puts(&self, puts: &[u64]) -> Option<Vec<Operation>> {
        let gone: BTreeSet<u64> = puts.iter().copied().collect();
        let is_gone = |operation: &Operation| gone.contains(&operation.op);
        let map = Map::new(self.operations.iter().filter(|operation| is_gone(operation)))?;
        if !map.spares_named(self.operations.iter().filter(|operation| !is_gone(operation))) {
            return None;
        }
        let mut left: Vec<Operation> =
            self.operations.iter().filter(|operation| !is_gone(operation)).cloned().collect();
        for operation in &mut left {
            map.operation(operation, &mut |kv| self.lower_version(kv, &gone));
        }
        Some(left)
    }

    /// Lowers the version of a key as it was shown by the puts left out below it, and names its new creator.
    fn lower_version(&self, kv: &mut KeyValue, gone: &BTreeSet<u64>) {
        let Some(list) = self.writes.get(&kv.key) else { return };
        let lives = |at: &i64| (kv.create_revision..=kv.mod_revision).contains(at);
        let life = list.iter().filter(|(at, _)| lives(at));
        kv.version -= life.clone().filter(|(_, one)| gone.contains(&one.op)).count() as i64;
        let is_creator_gone =
            life.clone().any(|(at, one)| *at == kv.create_revision && gone.contains(&one.op));
        if is_creator_gone {
            let heir = life.clone().find(|(_, one)| !gone.contains(&one.op));
            kv.create_revision = heir.map_or(kv.create_revision, |(at, _)| *at);
        }
    }
}

/// Whether what a read shows, or in which order, depends on versions or create revisions.
fn depends_on_versions(range: &Range) -> bool {
    matches!(range.sort_target, SortTarget::Version | SortTarget::Create)
        || range.min_create_revision != 0
        || range.max_create_revision != 0
}

fn each_shown<'o>(body: &'o Body, each: &mut impl FnMut(&'o KeyValue)) {
    match body {
        Body::Range { kvs, .. } => kvs.iter().for_each(each),
        Body::Put { prev_kv: Some(kv) } => each(kv),
        Body::DeleteRange { prev_kvs, .. } => prev_kvs.iter().for_each(each),
        Body::Txn { responses, .. } => {
            responses.iter().for_each(|inner| each_shown(&inner.body, each));
        }
        _ => {}
    }
}
