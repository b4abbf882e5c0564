//! What one client has seen so far, and how it fills the questions of a planned request.

use std::collections::BTreeMap;

use crate::history::{
    Body, Bytes, Compare, CompareTarget, KeyValue, LeaderKey, Request, Response, Txn,
};
use crate::scenario::plan::Fill;

/// What one client has seen so far.
#[derive(Default)]
pub struct Seen {
    /// The highest revision in any answer.
    revision: i64,
    /// The newest state of each key that an answer showed; `None` for a key that was not there.
    keys: BTreeMap<Bytes, Option<KeyValue>>,
    /// Leases that were granted to it and not seen to end, oldest first.
    leases: Vec<i64>,
    /// The key that it was last given for each lock.
    locks: BTreeMap<Bytes, Bytes>,
    /// The leadership that it last won in each election.
    leaders: BTreeMap<Bytes, LeaderKey>,
}

/// A lease that nobody was ever granted.
const NO_LEASE: i64 = 7;

impl Seen {
    /// Takes an answer in.
    pub fn learn(&mut self, request: &Request, response: &Response) {
        self.revision = self.revision.max(response.revision);
        self.learn_body(request, &response.body, response.revision);
    }

    fn learn_body(&mut self, request: &Request, body: &Body, revision: i64) {
        match (request, body) {
            (Request::Range(range), Body::Range { kvs, .. }) => {
                // Reads of the past or without values would be poor evidence of the present.
                if range.revision != 0 || range.keys_only || range.count_only {
                    return;
                }
                if range.range_end == Bytes::default() && kvs.is_empty() {
                    self.keys.insert(range.key.clone(), None);
                }
                for kv in kvs {
                    self.keys.insert(kv.key.clone(), Some(kv.clone()));
                }
            }
            // Which value or lease it kept, only the answer could tell.
            (Request::Put(put), Body::Put { .. }) if put.ignore_value || put.ignore_lease => {}
            (Request::Put(put), Body::Put { prev_kv }) => {
                let kv = KeyValue {
                    key: put.key.clone(),
                    create_revision: prev_kv.as_ref().map_or(revision, |prev| prev.create_revision),
                    mod_revision: revision,
                    version: prev_kv.as_ref().map_or(1, |prev| prev.version + 1),
                    value: put.value.clone(),
                    lease: put.lease,
                };
                self.keys.insert(put.key.clone(), Some(kv));
            }
            (Request::Lock { name, .. }, Body::Lock { key }) => {
                self.locks.insert(name.clone(), key.clone());
            }
            (_, Body::Campaign { leader }) => {
                self.leaders.insert(leader.name.clone(), leader.clone());
            }
            (_, Body::LeaseGrant { id, .. }) => self.leases.push(*id),
            (Request::LeaseRevoke { id }, Body::LeaseRevoke {})
            | (
                _,
                Body::LeaseKeepAlive { id, ttl_s: 0 } | Body::LeaseTimeToLive { id, ttl_s: -1, .. },
            ) => {
                self.leases.retain(|lease| lease != id);
            }
            (Request::Txn(txn), Body::Txn { succeeded, responses }) => {
                let branch = if *succeeded { &txn.success } else { &txn.failure };
                for (request, response) in branch.iter().zip(responses) {
                    self.learn_body(request, &response.body, revision);
                }
            }
            _ => {}
        }
    }

    /// The request with its questions answered.
    #[must_use]
    pub fn fill(&self, request: &Request, fill: &Fill) -> Request {
        let mut request = request.clone();
        let resolve = |seen: &Option<crate::scenario::plan::Seen>, field: &mut i64| {
            if let Some(seen) = seen {
                *field = seen.resolve(self.revision);
            }
        };
        match &mut request {
            Request::Range(range) => {
                resolve(&fill.revision, &mut range.revision);
                resolve(&fill.min_mod_revision, &mut range.min_mod_revision);
                resolve(&fill.max_mod_revision, &mut range.max_mod_revision);
                resolve(&fill.min_create_revision, &mut range.min_create_revision);
                resolve(&fill.max_create_revision, &mut range.max_create_revision);
            }
            Request::Compact { revision, .. } => resolve(&fill.revision, revision),
            Request::Watch(watch) => resolve(&fill.revision, &mut watch.start_revision),
            Request::Put(put) => put.lease = fill.lease.map_or(put.lease, |it| self.lease(it)),
            Request::Lock { lease, .. } | Request::Campaign { lease, .. } => {
                *lease = fill.lease.map_or(*lease, |before| self.lease(before));
            }
            Request::Unlock { key } if fill.held => {
                // Without one, a key that nobody has.
                *key = self.locks.get(key).cloned().unwrap_or_else(|| Bytes::from("l/none"));
            }
            Request::Proclaim { leader, .. } | Request::Resign { leader } if fill.held => {
                if let Some(held) = self.leaders.get(&leader.name) {
                    *leader = held.clone();
                }
            }
            Request::LeaseRevoke { id }
            | Request::LeaseKeepAlive { id }
            | Request::LeaseTimeToLive { id, .. } => {
                *id = fill.lease.map_or(*id, |before| self.lease(before));
            }
            Request::Txn(txn) => {
                if fill.compare {
                    txn.compare.iter_mut().for_each(|compare| self.compare(compare));
                }
                if let Some(seen) = &fill.revision {
                    read_at(txn, seen.resolve(self.revision));
                }
            }
            _ => {}
        }
        request
    }

    /// A lease of the client's, so many before the newest; one that does not exist where it has none.
    fn lease(&self, before: u32) -> i64 {
        let place =
            self.leases.len().checked_sub(1).map(|last| last.saturating_sub(before as usize));
        place.map_or(NO_LEASE, |place| self.leases[place])
    }

    /// Compares with what was last seen of the key.
    fn compare(&self, compare: &mut Compare) {
        let known = self.keys.get(&compare.key).and_then(Option::as_ref);
        let number = |get: fn(&KeyValue) -> i64| known.map_or(0, get);
        match &mut compare.target {
            CompareTarget::Version(version) => *version = number(|kv| kv.version),
            CompareTarget::Create(revision) => *revision = number(|kv| kv.create_revision),
            CompareTarget::Mod(revision) => *revision = number(|kv| kv.mod_revision),
            CompareTarget::Value(value) => {
                *value = known.map(|kv| kv.value.clone()).unwrap_or_default()
            }
            CompareTarget::Lease(_) => {}
        }
    }
}

/// Makes every range that names a revision name this one.
fn read_at(txn: &mut Txn, revision: i64) {
    for request in txn.success.iter_mut().chain(&mut txn.failure) {
        match request {
            Request::Range(range) if range.revision != 0 => range.revision = revision,
            Request::Txn(inner) => read_at(inner, revision),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;
    use crate::history::{
        Body, Bytes, Compare, CompareResult, CompareTarget, KeyValue, LeaderKey, Range, Request,
        Response, Txn,
    };
    use crate::scenario::plan::{Fill, Seen as Relative};

    fn seen_k1_at(mod_revision: i64, revision: i64) -> Seen {
        let mut seen = Seen::default();
        let kv =
            KeyValue { key: Bytes::from("k1"), mod_revision, version: 2, ..KeyValue::default() };
        let body = Body::Range { kvs: vec![kv], more: false, count: 1 };
        let request = Request::Range(Range { key: Bytes::from("k1"), ..Range::default() });
        seen.learn(&request, &Response { revision, member_id: 0, raft_term: 0, body });
        seen
    }

    /// `seen-3` is three below the highest revision in any answer, and never below 1.
    #[test]
    fn revisions_are_relative_to_what_was_seen() {
        let request = Request::Compact { revision: 0, physical: false };
        let check = |revision, offset, expected| {
            let fill = Fill { revision: Some(Relative(offset)), ..Fill::default() };
            let expected = Request::Compact { revision: expected, physical: false };
            assert_eq!(seen_k1_at(4, revision).fill(&request, &fill), expected);
        };
        check(9, -3, 6);
        check(9, -30, 1);
        check(9, 100, 109);
    }

    /// Ranges inside a txn that name a revision get the one that is filled in; the others stay in the present.
    #[test]
    fn the_past_inside_a_txn() {
        let range = |revision| Request::Range(Range { revision, ..Range::default() });
        let txn = |revision| {
            let inner = Txn { failure: vec![range(revision)], ..Txn::default() };
            let success = vec![range(0), range(revision), Request::Txn(inner)];
            Request::Txn(Txn { success, ..Txn::default() })
        };
        let fill = Fill { revision: Some(Relative(-2)), ..Fill::default() };
        assert_eq!(seen_k1_at(4, 9).fill(&txn(1), &fill), txn(7));
    }

    /// What is given back is what was given last under that name; without one, something that is nobody's.
    #[test]
    fn what_is_held() {
        let mut seen = Seen::default();
        let name = || Bytes::from("e0");
        let leader = LeaderKey { name: name(), key: Bytes::from("e0/a"), revision: 5, lease: 10 };
        let campaign = Request::Campaign { name: name(), lease: 10, value: Bytes::default() };
        let body = Body::Campaign { leader: leader.clone() };
        seen.learn(&campaign, &Response { revision: 5, member_id: 0, raft_term: 0, body });
        let lock = Request::Lock { name: Bytes::from("l0"), lease: 10 };
        let body = Body::Lock { key: Bytes::from("l0/a") };
        seen.learn(&lock, &Response { revision: 6, member_id: 0, raft_term: 0, body });
        let fill = Fill { held: true, ..Fill::default() };
        let named = |name: &str| LeaderKey { name: Bytes::from(name), ..LeaderKey::default() };
        let resign = |leader: LeaderKey| Request::Resign { leader };
        let unlock = |key: &str| Request::Unlock { key: Bytes::from(key) };
        assert_eq!(seen.fill(&resign(named("e0")), &fill), resign(leader));
        assert_eq!(seen.fill(&resign(named("e1")), &fill), resign(named("e1")));
        assert_eq!(seen.fill(&unlock("l0"), &fill), unlock("l0/a"));
        assert_eq!(seen.fill(&unlock("l1"), &fill), unlock("l/none"));
    }

    /// A condition is compared with what the client last saw of its key; an unseen key counts as missing.
    #[test]
    fn conditions_are_filled_with_what_was_seen() {
        let check = |key: &str, expected| {
            let compare = |number| Compare {
                key: Bytes::from(key),
                range_end: Bytes::default(),
                result: CompareResult::Equal,
                target: CompareTarget::Mod(number),
            };
            let txn =
                |number| Request::Txn(Txn { compare: vec![compare(number)], ..Txn::default() });
            let fill = Fill { compare: true, ..Fill::default() };
            assert_eq!(seen_k1_at(4, 9).fill(&txn(0), &fill), txn(expected));
        };
        check("k1", 4);
        check("k2", 0);
    }
}
