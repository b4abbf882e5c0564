//! Does a request to the store and compares what the client was told, field by field.
//!
//! With an answer, the branch of a txn is the one that the answer names, so that one wrong answer does not make
//! all later ones look wrong; without one (an unknown outcome), it is the one that the compares choose.

use std::ops::Range as Span;

use super::answer;
use super::keys::Keys;
use super::store::{Slot, Store};
use crate::checker::render;
use crate::history::{
    Body, Bytes, Compare, CompareResult, CompareTarget, DeleteRange, KeyValue, LeaderKey, Put,
    Request, Response, Txn,
};

/// One property of an answer that is not what the store must have said.
#[derive(Clone, Debug)]
pub(super) struct Diff<'a> {
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) actual: String,
    /// The keys on whose state the expectation rests.
    pub(super) spans: Vec<Span<u32>>,
    pub(super) clue: Clue<'a>,
}

/// What kind of difference it is.
#[derive(Clone, Debug)]
pub(super) enum Clue<'a> {
    /// A key was not seen as the store held it.
    Key { key: &'a [u8], held: Slot<'a>, seen: Option<&'a KeyValue> },
    /// Somebody else had the oldest key of a lock or an election, or nobody had any.
    Owner(Option<Slot<'a>>),
    /// The key of a leadership is not as it was made.
    Won(Slot<'a>),
    /// What was given back is still there.
    Kept(Slot<'a>),
    /// The request should have been refused.
    NotRefused,
    /// Any other field.
    Field,
}

/// Does one request.
pub(super) struct Judge<'s, 'a> {
    pub(super) keys: &'s Keys<'a>,
    pub(super) store: &'s mut Store<'a>,
    /// The revision that changes get.
    pub(super) revision: i64,
    /// Index of the operation.
    pub(super) writer: u32,
    /// The one key that the request names, as in [`Keys::single`].
    single: u32,
    /// Changes made so far.
    pub(super) changes: usize,
    pub(super) diffs: Vec<Diff<'a>>,
}

impl<'s, 'a> Judge<'s, 'a> {
    pub(super) fn new(
        keys: &'s Keys<'a>,
        store: &'s mut Store<'a>,
        revision: i64,
        writer: u32,
    ) -> Self {
        let single = keys.single(writer);
        Self { keys, store, revision, writer, single, changes: 0, diffs: Vec::new() }
    }

    /// Does the request and compares the answer, if there is one.
    pub(super) fn run(&mut self, request: &'a Request, response: Option<&'a Response>) {
        match request {
            Request::Txn(txn) => {
                let body = response.map(|response| &response.body);
                let mut path = Vec::new();
                self.decide(txn, body, &mut path);
                if body.is_none() && self.is_refused(txn, &mut path.iter()) {
                    return;
                }
                self.run_txn(txn, body, &mut path.iter());
            }
            request => {
                if response.is_none() && self.must_be_refused(request) {
                    return;
                }
                self.run_simple(request, response.map(|response| &response.body));
            }
        }
    }

    fn field(&mut self, what: &str, expected: String, actual: String, spans: Vec<Span<u32>>) {
        self.diffs.push(Diff { what: what.to_owned(), expected, actual, spans, clue: Clue::Field });
    }

    /// Decides every txn on the way, nested ones too, before anything is done: etcd evaluates all compares
    /// against the state before the outermost txn.
    fn decide(&mut self, txn: &'a Txn, body: Option<&'a Body>, path: &mut Vec<bool>) {
        let expected = txn.compare.iter().all(|compare| self.holds(compare));
        let (branch, responses) = match body {
            Some(Body::Txn { succeeded, responses }) => {
                if *succeeded != expected {
                    let spans = txn
                        .compare
                        .iter()
                        .map(|compare| self.keys.span(&compare.key.0, &compare.range_end.0))
                        .collect();
                    self.field("succeeded", expected.to_string(), succeeded.to_string(), spans);
                }
                (*succeeded, Some(responses))
            }
            _ => (expected, None),
        };
        path.push(branch);
        for (index, inner) in if branch { &txn.success } else { &txn.failure }.iter().enumerate() {
            if let Request::Txn(inner) = inner {
                let body = responses.and_then(|all| all.get(index)).map(|response| &response.body);
                self.decide(inner, body, path);
            }
        }
    }

    fn run_txn<'p>(
        &mut self,
        txn: &'a Txn,
        body: Option<&'a Body>,
        path: &mut impl Iterator<Item = &'p bool>,
    ) {
        let branch = *path.next().expect("decided before");
        let responses = match body {
            Some(Body::Txn { responses, .. }) => Some(responses),
            _ => None,
        };
        for (index, inner) in if branch { &txn.success } else { &txn.failure }.iter().enumerate() {
            let response = responses.and_then(|all| all.get(index));
            let body = response.map(|response| &response.body);
            match inner {
                Request::Txn(inner) => self.run_txn(inner, body, path),
                inner => {
                    self.run_simple(inner, body);
                    if let Some(response) = response {
                        self.inner_header(response);
                    }
                }
            }
        }
    }

    /// Inside a txn the header counts the txn's own revision from its first change on; 0 is "not recorded".
    fn inner_header(&mut self, response: &Response) {
        let expected = self.revision - i64::from(self.changes == 0);
        if response.revision != 0 && response.revision != expected {
            let actual = response.revision.to_string();
            self.field("inner header revision", expected.to_string(), actual, Vec::new());
        }
    }

    fn run_simple(&mut self, request: &'a Request, body: Option<&'a Body>) {
        match request {
            Request::Range(range) => {
                // Reads of the past are compared when the replay is there.
                if let Some(body) = body.filter(|_| range.revision <= 0) {
                    let range = (range, self.single);
                    answer::compare(self.keys, self.store, range, body, &mut self.diffs);
                }
            }
            Request::Put(put) => self.put(put, body),
            Request::DeleteRange(delete) => self.delete(delete, body),
            Request::LeaseRevoke { id } => self.end_lease(*id),
            Request::Lock { name, .. } => {
                if let Some(Body::Lock { key }) = body {
                    self.own(name, key, None);
                }
            }
            Request::Leader { name } => {
                if let Some(Body::Leader { kv }) = body {
                    self.own(name, &kv.key, Some(kv));
                }
            }
            Request::Campaign { .. } => {
                if let Some(Body::Campaign { leader }) = body {
                    self.win(leader);
                }
            }
            Request::Unlock { key } if body.is_some() => self.give_back(key, None),
            Request::Resign { leader } if body.is_some() => {
                self.give_back(&leader.key, Some(leader.revision));
            }
            _ => {}
        }
    }

    /// Whoever stands for election has put his key by the revision of the answer.
    fn win(&mut self, leader: &LeaderKey) {
        let id = self.keys.id(&leader.key.0);
        let held = id.map_or(Slot::EMPTY, |id| *self.store.get(id));
        if held.is_alive() && held.create == leader.revision {
            return;
        }
        self.diffs.push(Diff {
            what: format!("key {}", leader.key),
            expected: match held.is_alive() {
                true => format!("it was created by revision {} then", held.create),
                false => "there was no such key then".to_owned(),
            },
            actual: format!("created by revision {}", leader.revision),
            spans: id.map(|id| id..id + 1).into_iter().collect(),
            clue: Clue::Won(held),
        });
    }

    /// What was given back is gone; of a leadership only the key that was made for it.
    fn give_back(&mut self, key: &Bytes, created: Option<i64>) {
        let Some(id) = self.keys.id(&key.0) else { return };
        let held = *self.store.get(id);
        if !held.is_alive() || created.is_some_and(|created| held.create != created) {
            return;
        }
        self.diffs.push(Diff {
            what: format!("key {key}"),
            expected: format!("there, created by revision {}", held.create),
            actual: "given back".to_owned(),
            spans: std::iter::once(id..id + 1).collect(),
            clue: Clue::Kept(held),
        });
    }

    /// Whoever owns a lock or an election has its oldest key.
    fn own(&mut self, name: &Bytes, key: &'a Bytes, shown: Option<&'a KeyValue>) {
        let span = self.keys.span(&[&name.0[..], b"/"].concat(), &[&name.0[..], b"0"].concat());
        let alive = self.store.alive_in(span.clone());
        let oldest = alive.min_by_key(|id| self.store.get(*id).create);
        let text = |id: u32| {
            let (name, created) = (self.keys.name(id).escape_ascii(), self.store.get(id).create);
            format!("{name}, created by revision {created}")
        };
        match oldest {
            Some(id) if self.keys.name(id) == key.0 => {
                let held = *self.store.get(id);
                if shown.is_some() {
                    answer::compare_key(self.keys, id, &held, shown, "leader", &mut self.diffs);
                }
            }
            oldest => self.diffs.push(Diff {
                what: "oldest key".to_owned(),
                expected: oldest.map_or("none".to_owned(), text),
                actual: key.to_string(),
                spans: vec![span],
                clue: Clue::Owner(oldest.map(|id| *self.store.get(id))),
            }),
        }
    }

    fn put(&mut self, put: &'a Put, body: Option<&'a Body>) {
        let id = self.keys.span_of(self.single, &put.key.0, &[]).start;
        let old = *self.store.get(id);
        if let Some(Body::Put { prev_kv }) = body {
            if !old.is_alive() && (put.ignore_value || put.ignore_lease) {
                self.diffs.push(Diff {
                    what: "answer".to_owned(),
                    expected: "refused, as the key does not exist".to_owned(),
                    actual: "done".to_owned(),
                    spans: std::iter::once(id..id + 1).collect(),
                    clue: Clue::NotRefused,
                });
            }
            let seen = prev_kv.as_ref();
            if put.prev_kv {
                answer::compare_key(self.keys, id, &old, seen, "prev_kv", &mut self.diffs);
            } else if let Some(seen) = seen {
                self.field("prev_kv", "none".to_owned(), render::key_value(seen), Vec::new());
            }
        }
        let slot = Slot {
            create: if old.is_alive() { old.create } else { self.revision },
            modified: self.revision,
            version: old.version + 1,
            lease: if put.ignore_lease { old.lease } else { put.lease },
            value: if put.ignore_value { old.value } else { &put.value.0 },
            writer: self.writer,
        };
        self.store.set(id, slot);
        self.changes += 1;
    }

    fn delete(&mut self, delete: &'a DeleteRange, body: Option<&'a Body>) {
        let span = self.keys.span_of(self.single, &delete.key.0, &delete.range_end.0);
        let doomed: Vec<u32> = self.store.alive_in(span.clone()).collect();
        if let Some(Body::DeleteRange { deleted, prev_kvs }) = body {
            if delete.prev_kv {
                answer::compare_list(self.keys, self.store, &doomed, prev_kvs, &mut self.diffs);
            } else if !prev_kvs.is_empty() {
                self.field("prev_kvs", "none".to_owned(), prev_kvs.len().to_string(), Vec::new());
            }
            if *deleted != doomed.len() as i64 {
                let spans = std::iter::once(span).collect();
                self.field("deleted", doomed.len().to_string(), deleted.to_string(), spans);
            }
        }
        for id in &doomed {
            let slot = Slot { modified: self.revision, writer: self.writer, ..Slot::EMPTY };
            self.store.set(*id, slot);
        }
        self.changes += doomed.len();
    }

    /// Deletes all keys of a lease.
    fn end_lease(&mut self, lease: i64) {
        for id in self.keys.attached(lease) {
            if self.store.get(*id).lease == lease {
                let slot = Slot { modified: self.revision, writer: self.writer, ..Slot::EMPTY };
                self.store.set(*id, slot);
                self.changes += 1;
            }
        }
    }

    /// Whether etcd would refuse the whole txn: it keeps what is not there, or reads the future.
    fn is_refused<'p>(&self, txn: &'a Txn, path: &mut impl Iterator<Item = &'p bool>) -> bool {
        let branch = *path.next().expect("decided before");
        let mut refused = false;
        for inner in if branch { &txn.success } else { &txn.failure } {
            refused |= match inner {
                Request::Txn(inner) => self.is_refused(inner, path),
                inner => self.must_be_refused(inner),
            };
        }
        refused
    }

    fn must_be_refused(&self, request: &Request) -> bool {
        let put = match request {
            Request::Range(range) => return range.revision >= self.revision,
            Request::Put(put) => put,
            _ => return false,
        };
        (put.ignore_value || put.ignore_lease)
            && self.keys.id(&put.key.0).is_none_or(|id| !self.store.get(id).is_alive())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let span = self.keys.span(&compare.key.0, &compare.range_end.0);
        let mut alive = self.store.alive_in(span).peekable();
        if alive.peek().is_none() {
            // No way to say "missing" in a value: a compare of one always fails.
            return !matches!(compare.target, CompareTarget::Value(_))
                && slot_holds(compare, &Slot::EMPTY);
        }
        alive.all(|id| slot_holds(compare, self.store.get(id)))
    }
}

fn slot_holds(compare: &Compare, slot: &Slot<'_>) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(number) => slot.version.cmp(number),
        CompareTarget::Create(number) => slot.create.cmp(number),
        CompareTarget::Mod(number) => slot.modified.cmp(number),
        CompareTarget::Lease(number) => slot.lease.cmp(number),
        CompareTarget::Value(value) => slot.value.cmp(value.0.as_slice()),
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::NotEqual => order.is_ne(),
    }
}
