//! Locks and elections by the book: over one store, each held by one at a time.

use super::cluster::Dice;
use super::model::Model;
use super::services::Service;
use crate::history::{
    Body, Bytes, DeleteRange, KeyValue, LeaderKey, Put, Range, Request, Response,
};

/// Of locks and elections.
const NAMES: [&str; 3] = ["e", "l", "m"];

/// Three locks or elections over one store, with reads of their keys.
pub(super) struct Locks {
    store: Model,
    owners: Vec<(Bytes, Request)>,
    /// Leases that were granted, and those of them that are in use: each of them up to a number.
    granted: i64,
    leases: i64,
    /// How many of the names are in use.
    names: u64,
    /// The leases are those of sessions that nobody here was granted, and some of them end.
    is_foreign: bool,
}

impl Locks {
    pub(super) fn new() -> Self {
        let (store, owners) = (Model::new(), Vec::new());
        Self { store, owners, granted: 0, leases: 0, names: 3, is_foreign: false }
    }

    /// Over leases that exist, but were granted before the history.
    pub(super) fn foreign() -> Self {
        let mut locks = Self { granted: 100, is_foreign: true, ..Self::new() };
        locks.store.leases = (1..=locks.granted).map(|id| (id, u64::MAX)).collect();
        locks
    }

    /// With one name, for all to fight over.
    pub(super) fn of_one_name(self) -> Self {
        Self { names: 1, ..self }
    }

    /// The oldest key under a name.
    fn oldest(&self, name: &str) -> Option<KeyValue> {
        let (key, range_end) = (format!("{name}/"), format!("{name}0"));
        let (key, range_end) = (key.as_str().into(), range_end.as_str().into());
        let range = Range { key, range_end, ..Range::default() };
        match self.store.read_at(&range, self.store.revision()) {
            Body::Range { kvs, .. } => kvs.into_iter().min_by_key(|kv| kv.create_revision),
            _ => None,
        }
    }

    fn write(&mut self, request: &Request) {
        self.store.apply(request).expect("nothing that is refused");
    }
}

impl Service for Locks {
    fn step(
        &mut self,
        dice: &mut Dice,
        applies: bool,
    ) -> (Request, Option<String>, Result<Response, String>) {
        if self.is_foreign && self.leases > 0 && dice.chance(10) {
            self.store.end(1 + dice.below(self.leases as u64) as i64);
        }
        let (kind, name) = (dice.below(4), dice.below(self.names) as usize);
        let last = dice.below(self.owners.len().max(1) as u64) as usize;
        let (request, body) = match kind {
            0 | 1 if self.granted == self.leases => {
                let id = self.granted + 1;
                let request = Request::LeaseGrant { id, ttl_s: 60 };
                if applies {
                    self.granted = id;
                    self.write(&request);
                }
                (request, Body::LeaseGrant { id, ttl_s: 60 })
            }
            0 | 1 if self.oldest(NAMES[name]).is_some() => {
                let kv = self.oldest(NAMES[name]).expect("looked at just now");
                (Request::Leader { name: NAMES[name].into() }, Body::Leader { kv })
            }
            0 | 1 => {
                self.leases += 1;
                let (name, lease) = (Bytes::from(NAMES[name]), self.leases);
                let key = Bytes::from(format!("{name}/{lease:x}").as_str());
                let value = if kind == 0 { Bytes::default() } else { Bytes::from("v") };
                if applies {
                    let put =
                        Put { key: key.clone(), value: value.clone(), lease, ..Put::default() };
                    self.write(&Request::Put(put));
                }
                let revision = self.store.revision();
                let leader = LeaderKey { name: name.clone(), key: key.clone(), revision, lease };
                if kind == 0 {
                    let unlock = Request::Unlock { key: key.clone() };
                    self.owners.extend(applies.then_some((key.clone(), unlock)));
                    (Request::Lock { name, lease }, Body::Lock { key })
                } else {
                    let resign = Request::Resign { leader: leader.clone() };
                    self.owners.extend(applies.then_some((key, resign)));
                    (Request::Campaign { name, lease, value }, Body::Campaign { leader })
                }
            }
            2 if !self.owners.is_empty() => {
                let (key, request) = self.owners[last].clone();
                if applies {
                    self.owners.remove(last);
                    self.write(&Request::DeleteRange(DeleteRange {
                        key,
                        ..DeleteRange::default()
                    }));
                }
                let is_lock = matches!(request, Request::Unlock { .. });
                (request, if is_lock { Body::Unlock {} } else { Body::Resign {} })
            }
            _ => {
                let range =
                    Range { key: "a".into(), range_end: Bytes(vec![0]), ..Range::default() };
                let request = Request::Range(range);
                let answer = self.store.apply(&request).map_err(|error| error.message);
                return (request, None, answer);
            }
        };
        let revision = self.store.revision();
        (request, None, Ok(Response { revision, member_id: 0, raft_term: 0, body }))
    }
}
