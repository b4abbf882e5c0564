//! A second, naive etcd in a hundred lines, which keeps a copy of every revision.
//!
//! It shares no code with the checker's store, so that a mistake has to be made twice to hide.

use std::collections::BTreeMap;

use crate::history::{
    Body, Bytes, Compare, CompareResult, CompareTarget, Failure, KeyValue, Range, Request,
    Response, SortOrder, SortTarget, Txn,
};

type State = BTreeMap<Bytes, KeyValue>;

/// One store with all its past.
#[derive(Clone)]
pub(super) struct Model {
    /// `past[r]` is the state at revision `r`.
    past: Vec<State>,
    /// Compactions: (revision of the store when it was done, revision compacted to).
    compactions: Vec<(i64, i64)>,
    /// Live leases, with the moment from which they may expire.
    pub(super) leases: BTreeMap<i64, u64>,
    /// The time, for leases.
    pub(super) now: u64,
    /// Nanoseconds that a second of TTL lasts.
    pub(super) second_ns: u64,
    granted: i64,
    /// Leases that ended with keys: the lease and the revision.
    pub(super) ended: Vec<(i64, i64)>,
    /// Order of equals in a sorted answer.
    pub(super) flip_ties: bool,
}

pub(super) fn failure(message: &str) -> Failure {
    Failure { code: "Test".to_owned(), message: message.to_owned() }
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// The TTL of all leases, in seconds.
pub(super) const KEPT_S: i64 = 1;
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

impl Model {
    pub(super) fn new() -> Self {
        Self {
            past: vec![State::new(), State::new()],
            compactions: Vec::new(),
            leases: BTreeMap::new(),
            now: 0,
            second_ns: 1_000_000_000,
            granted: 0,
            ended: Vec::new(),
            flip_ties: false,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.past.len() as i64 - 1
    }

    /// The store as a member that lags behind has it.
    pub(super) fn as_of(&self, revision: i64, with_last_compaction: bool) -> Self {
        let mut old = self.clone();
        old.past.truncate(revision as usize + 1);
        old.compactions
            .retain(|(at, _)| *at < revision || (*at == revision && with_last_compaction));
        old
    }

    /// The content of a revision, compacted or not.
    pub(super) fn read_at(&self, range: &Range, revision: i64) -> Body {
        read(&self.past[revision as usize], range, false)
    }

    /// What a revision changed: each key with what it became, if it was put, and what it was.
    pub(super) fn changes(
        &self,
        revision: i64,
    ) -> Vec<(Bytes, Option<KeyValue>, Option<KeyValue>)> {
        let (before, after) = (&self.past[revision as usize - 1], &self.past[revision as usize]);
        let mut keys: Vec<&Bytes> = before.keys().chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
        changed
            .map(|key| (key.clone(), after.get(key).cloned(), before.get(key).cloned()))
            .collect()
    }

    /// The keys of a lease at a revision.
    pub(super) fn keys_of(&self, lease: i64, revision: i64) -> Vec<KeyValue> {
        let state = self.past[revision as usize].values();
        state.filter(|kv| kv.lease == lease).cloned().collect()
    }

    /// Whether a key exists at every revision from this one on.
    pub(super) fn exists_from(&self, key: &Bytes, revision: i64) -> bool {
        self.past[revision as usize..].iter().all(|state| state.contains_key(key))
    }

    /// Does a request.
    pub(super) fn apply(&mut self, request: &Request) -> Result<Response, Failure> {
        let before = self.revision();
        match request {
            Request::Compact { revision, .. } => return self.compact(*revision),
            Request::LeaseGrant { id, ttl_s } => return self.grant(*id, *ttl_s),
            Request::LeaseRevoke { id } => return self.revoke(*id),
            Request::LeaseKeepAlive { id } => return Ok(self.keep_alive(*id)),
            Request::LeaseTimeToLive { id, .. } => return Ok(self.time_to_live(*id)),
            Request::LeaseLeases {} => {
                let ids = self.leases.keys().copied().collect();
                return Ok(respond(self.revision(), Body::LeaseLeases { ids }));
            }
            _ => {}
        }
        let state = self.past.last().expect("never empty").clone();
        let mut run =
            Run { model: self, before: &state, state: state.clone(), changes: 0, at: before + 1 };
        run.refuse(request)?;
        let body = run.request(request);
        let (state, changed) = (run.state, run.changes > 0);
        if changed {
            self.past.push(state);
        }
        Ok(respond(before + i64::from(changed), body))
    }

    fn compact(&mut self, revision: i64) -> Result<Response, Failure> {
        if revision <= self.compacted() {
            return Err(failure(COMPACTED));
        }
        if revision > self.revision() {
            return Err(failure(FUTURE));
        }
        self.compactions.push((self.revision(), revision));
        Ok(respond(self.revision(), Body::Compact {}))
    }

    fn grant(&mut self, id: i64, ttl_s: i64) -> Result<Response, Failure> {
        if self.leases.contains_key(&id) {
            return Err(failure("etcdserver: lease already exists"));
        }
        self.granted += 1;
        let id = if id == 0 { 1_000 + self.granted } else { id };
        self.leases.insert(id, self.now + ttl_s as u64 * self.second_ns);
        Ok(respond(self.revision(), Body::LeaseGrant { id, ttl_s }))
    }

    fn revoke(&mut self, id: i64) -> Result<Response, Failure> {
        if !self.leases.contains_key(&id) {
            return Err(failure("etcdserver: requested lease not found"));
        }
        self.end(id);
        Ok(respond(self.revision(), Body::LeaseRevoke {}))
    }

    /// Ends a lease, with its keys if it has any.
    pub(super) fn end(&mut self, id: i64) {
        self.leases.remove(&id);
        let mut state = self.past.last().expect("never empty").clone();
        let before = state.len();
        state.retain(|_, kv| kv.lease != id);
        if state.len() < before {
            self.past.push(state);
            self.ended.push((id, self.revision()));
        }
    }

    fn keep_alive(&mut self, id: i64) -> Response {
        let ttl_s = if self.leases.contains_key(&id) { KEPT_S } else { 0 };
        if let Some(until) = self.leases.get_mut(&id) {
            *until = (*until).max(self.now + KEPT_S as u64 * self.second_ns);
        }
        respond(self.revision(), Body::LeaseKeepAlive { id, ttl_s })
    }

    fn time_to_live(&self, id: i64) -> Response {
        let state = self.past.last().expect("never empty");
        let keys = state.values().filter(|kv| kv.lease == id && id != 0).map(|kv| kv.key.clone());
        let is_alive = self.leases.contains_key(&id);
        let body = Body::LeaseTimeToLive {
            id,
            ttl_s: if is_alive { 1 } else { -1 },
            granted_ttl_s: if is_alive { KEPT_S } else { 0 },
            keys: keys.collect(),
        };
        respond(self.revision(), body)
    }

    fn compacted(&self) -> i64 {
        self.compactions.iter().map(|(_, to)| *to).max().unwrap_or(-1)
    }
}

fn respond(revision: i64, body: Body) -> Response {
    Response { revision, member_id: 0, raft_term: 0, body }
}

struct Run<'m> {
    model: &'m Model,
    before: &'m State,
    state: State,
    changes: usize,
    at: i64,
}

fn is_in(key: &Bytes, from: &Bytes, end: &Bytes) -> bool {
    match end.0.as_slice() {
        [] => key == from,
        [0] => key >= from,
        _ => key >= from && key < end,
    }
}

impl Run<'_> {
    fn branch<'t>(&self, txn: &'t Txn) -> (bool, &'t [Request]) {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        (holds, if holds { &txn.success } else { &txn.failure })
    }

    fn refuse(&self, request: &Request) -> Result<(), Failure> {
        match request {
            Request::Range(range) if range.revision > self.at - 1 => Err(failure(FUTURE)),
            Request::Range(range)
                if range.revision > 0 && range.revision < self.model.compacted() =>
            {
                Err(failure(COMPACTED))
            }
            Request::Put(put) if put.lease != 0 && !self.model.leases.contains_key(&put.lease) => {
                Err(failure("etcdserver: requested lease not found"))
            }
            Request::Put(put)
                if (put.ignore_value || put.ignore_lease)
                    && !self.before.contains_key(&put.key) =>
            {
                Err(failure("etcdserver: key not found"))
            }
            Request::Txn(txn) => self.branch(txn).1.iter().try_for_each(|inner| self.refuse(inner)),
            _ => Ok(()),
        }
    }

    fn request(&mut self, request: &Request) -> Body {
        match request {
            Request::Range(range) => {
                let state = if range.revision > 0 {
                    &self.model.past[range.revision as usize]
                } else {
                    &self.state
                };
                read(state, range, self.model.flip_ties)
            }
            Request::Put(put) => {
                let old = self.state.get(&put.key).cloned();
                let base = old.clone().unwrap_or_default();
                let new = KeyValue {
                    key: put.key.clone(),
                    create_revision: if old.is_some() { base.create_revision } else { self.at },
                    mod_revision: self.at,
                    version: base.version + 1,
                    value: if put.ignore_value { base.value } else { put.value.clone() },
                    lease: if put.ignore_lease { base.lease } else { put.lease },
                };
                self.state.insert(put.key.clone(), new);
                self.changes += 1;
                Body::Put { prev_kv: old.filter(|_| put.prev_kv) }
            }
            Request::DeleteRange(delete) => {
                let keys: Vec<Bytes> = self.state.keys().cloned().collect();
                let doomed = keys.iter().filter(|key| is_in(key, &delete.key, &delete.range_end));
                let gone: Vec<KeyValue> = doomed.filter_map(|key| self.state.remove(key)).collect();
                self.changes += gone.len();
                let deleted = gone.len() as i64;
                Body::DeleteRange {
                    deleted,
                    prev_kvs: if delete.prev_kv { gone } else { Vec::new() },
                }
            }
            Request::Txn(txn) => {
                let (succeeded, list) = self.branch(txn);
                let responses = list
                    .iter()
                    .map(|inner| {
                        let body = self.request(inner);
                        let is_txn = matches!(inner, Request::Txn(_));
                        let at = if is_txn { 0 } else { self.at - i64::from(self.changes == 0) };
                        respond(at, body)
                    })
                    .collect();
                Body::Txn { succeeded, responses }
            }
            _ => unreachable!("not inside a txn"),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let chosen: Vec<&KeyValue> = self
            .before
            .values()
            .filter(|kv| is_in(&kv.key, &compare.key, &compare.range_end))
            .collect();
        if chosen.is_empty() {
            return !matches!(compare.target, CompareTarget::Value(_))
                && kv_holds(compare, &KeyValue::default());
        }
        chosen.iter().all(|kv| kv_holds(compare, kv))
    }
}

fn kv_holds(compare: &Compare, kv: &KeyValue) -> bool {
    let sign = match &compare.target {
        CompareTarget::Version(n) => kv.version - n,
        CompareTarget::Create(n) => kv.create_revision - n,
        CompareTarget::Mod(n) => kv.mod_revision - n,
        CompareTarget::Lease(n) => kv.lease - n,
        CompareTarget::Value(value) => kv.value.cmp(value) as i64,
    };
    match compare.result {
        CompareResult::Equal => sign == 0,
        CompareResult::NotEqual => sign != 0,
        CompareResult::Greater => sign > 0,
        CompareResult::Less => sign < 0,
    }
}

fn read(state: &State, range: &Range, flip_ties: bool) -> Body {
    let mut kvs: Vec<KeyValue> =
        state.values().filter(|kv| is_in(&kv.key, &range.key, &range.range_end)).cloned().collect();
    let count = kvs.len() as i64;
    if range.count_only {
        return Body::Range { kvs: Vec::new(), more: false, count };
    }
    let limit = range.limit.max(0) as usize;
    let filters = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if limit > 0 && range.sort_order == SortOrder::None && filters == [0; 4] {
        kvs.truncate(limit + 1);
    }
    let [min_mod, max_mod, min_create, max_create] = filters;
    kvs.retain(|kv| {
        (min_mod == 0 || kv.mod_revision >= min_mod)
            && (max_mod == 0 || kv.mod_revision <= max_mod)
            && (min_create == 0 || kv.create_revision >= min_create)
            && (max_create == 0 || kv.create_revision <= max_create)
    });
    if flip_ties && range.sort_target != SortTarget::Key {
        kvs.reverse();
    }
    match range.sort_target {
        SortTarget::Key => kvs.sort_by(|a, b| a.key.cmp(&b.key)),
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if range.sort_order == SortOrder::Descend {
        kvs.reverse();
    }
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if range.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::default();
        }
    }
    Body::Range { kvs, more, count }
}
