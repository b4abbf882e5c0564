//! A cluster made of dice: clients that overlap, time out and read from members that lag, over one [`Model`].
//!
//! What it records has happened, so the checker must accept it.

use super::model::{KEPT_S, Model, failure};
use crate::history::{
    Bytes, Compare, CompareResult, CompareTarget, DeleteRange, Operation, Outcome, Put, Range,
    Request, Response, SortOrder, SortTarget, Txn,
};

/// SplitMix64: small, seeded, good enough for tests.
#[derive(Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a history is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) clients: u64,
    pub(super) operations: u64,
    pub(super) keys: u64,
    /// In a hundred: operations with an unknown outcome.
    pub(super) unknown: u64,
    /// In a hundred: values that repeat.
    pub(super) repeated: u64,
    /// Only puts, gets and deletes of single keys.
    pub(super) plain: bool,
    /// With leases, and as slow as they need.
    pub(super) leases: bool,
}

enum Client {
    Idle,
    Called(usize),
    Done(usize),
}

/// One run of the dice.
pub(super) struct Cluster {
    dice: Dice,
    shape: Shape,
    model: Model,
    now: u64,
    /// How long a step of the dice takes, in nanoseconds.
    pace_ns: u64,
    history: Vec<Operation>,
    /// Requests whose clients gave up, and which may still take effect.
    lingering: Vec<usize>,
    values: u64,
    /// When each revision was made.
    born: Vec<u64>,
    /// When each compaction was done, and the revision it kept.
    cuts: Vec<(u64, i64)>,
}

/// What really happened, for whoever tells of it later.
pub(super) struct Past {
    pub(super) store: Model,
    pub(super) born: Vec<u64>,
    pub(super) cuts: Vec<(u64, i64)>,
    pub(super) end: u64,
    /// How long a step of the dice took, in nanoseconds.
    pub(super) pace_ns: u64,
}

/// A history that really happened.
pub(super) fn history(seed: u64, shape: Shape) -> Vec<Operation> {
    history_and_store(seed, shape).0
}

/// The same, with the store that it left behind.
pub(super) fn history_and_store(seed: u64, shape: Shape) -> (Vec<Operation>, Model) {
    let (history, past) = history_and_past(seed, shape);
    (history, past.store)
}

/// The same, with everything that happened.
pub(super) fn history_and_past(seed: u64, shape: Shape) -> (Vec<Operation>, Past) {
    let mut cluster = Cluster {
        dice: Dice(seed),
        shape,
        model: Model::new(),
        now: 0,
        // With leases: so fast that some are renewed in time, or so slow that many are not.
        pace_ns: match shape.leases {
            true if seed.is_multiple_of(2) => 80_000_000,
            true => 300_000_000,
            false => 1_000,
        },
        history: Vec::new(),
        lingering: Vec::new(),
        values: 0,
        born: vec![0, 0],
        cuts: Vec::new(),
    };
    cluster.run();
    let Cluster { history, model: store, born, cuts, now: end, pace_ns, .. } = cluster;
    (history, Past { store, born, cuts, end, pace_ns })
}

impl Cluster {
    fn run(&mut self) {
        let mut clients: Vec<Client> = (0..self.shape.clients).map(|_| Client::Idle).collect();
        while (self.history.len() as u64) < self.shape.operations
            || clients.iter().any(|client| !matches!(client, Client::Idle))
        {
            self.now += self.dice.below(3) * self.pace_ns;
            self.model.now = self.now;
            self.linger();
            self.expire();
            let client = self.dice.below(self.shape.clients) as usize;
            clients[client] = match clients[client] {
                Client::Idle if (self.history.len() as u64) < self.shape.operations => {
                    self.call(client as u32)
                }
                Client::Idle => Client::Idle,
                Client::Called(op) if self.dice.chance(self.shape.unknown) => self.give_up(op),
                Client::Called(op) => {
                    self.take_effect(op, true);
                    Client::Done(op)
                }
                Client::Done(op) => self.give_back(op),
            };
        }
    }

    fn linger(&mut self) {
        if !self.lingering.is_empty() && self.dice.chance(20) {
            let at = self.dice.below(self.lingering.len() as u64) as usize;
            let op = self.lingering.swap_remove(at);
            self.take_effect(op, false);
        }
    }

    /// Some of the leases whose time is over end.
    fn expire(&mut self) {
        let due = self.model.leases.iter().filter(|(_, until)| **until <= self.now);
        let due: Vec<i64> = due.map(|(id, _)| *id).collect();
        for id in due {
            if self.dice.chance(30) {
                self.model.end(id);
            }
        }
    }

    fn lease(&mut self) -> i64 {
        if !self.shape.leases {
            return 0;
        }
        match self.dice.below(8) {
            0..4 => 1 + self.dice.below(3) as i64,
            4 => self.model.leases.keys().last().copied().unwrap_or(0),
            _ => 0,
        }
    }

    fn lease_request(&mut self) -> Request {
        let id = 1 + self.dice.below(3) as i64;
        match self.dice.below(16) {
            0..5 => {
                let id = if self.dice.chance(25) { 0 } else { id };
                Request::LeaseGrant { id, ttl_s: KEPT_S }
            }
            5..8 => Request::LeaseRevoke { id },
            8..14 => Request::LeaseKeepAlive { id },
            14 => Request::LeaseTimeToLive { id, keys: true },
            _ => Request::LeaseLeases {},
        }
    }

    fn call(&mut self, client: u32) -> Client {
        let request = self.request();
        let op = self.history.len();
        self.history.push(Operation {
            op: op as u64,
            client,
            user: None,
            member: format!("n{}", client % 3 + 1),
            call: self.now,
            returned: None,
            request,
            response: None,
            outcome: Outcome::Unknown,
            error: None,
        });
        Client::Called(op)
    }

    fn give_up(&mut self, op: usize) -> Client {
        if self.dice.chance(60) {
            self.lingering.push(op);
        }
        let operation = &mut self.history[op];
        operation.returned = Some(self.now);
        operation.error = Some(failure("etcdserver: request timed out"));
        Client::Idle
    }

    fn take_effect(&mut self, op: usize, is_told: bool) {
        let request = self.history[op].request.clone();
        self.model.flip_ties = self.dice.chance(50);
        let answer = if is_stale(&request) {
            let oldest = (self.model.revision() - 5).max(1) as u64;
            let revision = oldest + self.dice.below(self.model.revision() as u64 - oldest + 1);
            let with_last_compaction = self.dice.chance(50);
            self.model.as_of(revision as i64, with_last_compaction).apply(&request)
        } else {
            self.model.apply(&request)
        };
        self.born.resize(self.model.revision() as usize + 1, self.now);
        if let (Request::Compact { revision, .. }, Ok(_)) = (&request, &answer) {
            self.cuts.push((self.now, *revision));
        }
        if !is_told {
            return;
        }
        let operation = &mut self.history[op];
        match answer {
            Ok(response) => {
                operation.response = Some(response);
                operation.outcome = Outcome::Ok;
            }
            Err(error) => {
                operation.outcome = Outcome::Failed;
                operation.error = Some(error);
            }
        }
    }

    fn give_back(&mut self, op: usize) -> Client {
        let may_lose = self.dice.chance(self.shape.unknown / 2);
        let operation = &mut self.history[op];
        operation.returned = Some(self.now);
        if may_lose && operation.outcome == Outcome::Ok {
            operation.outcome = Outcome::Unknown;
            operation.response = None;
            operation.error = Some(failure("etcdserver: request timed out"));
        } else if let (Request::Compact { .. }, Some(Response { revision, .. })) =
            (&operation.request, &mut operation.response)
        {
            // The header of a compaction is filled when it is sent.
            *revision = self.model.revision();
        }
        Client::Idle
    }

    fn key(&mut self) -> Bytes {
        format!("k{}", self.dice.below(self.shape.keys)).as_str().into()
    }

    fn value(&mut self) -> Bytes {
        if self.dice.chance(self.shape.repeated) {
            return format!("r{}", self.dice.below(3)).as_str().into();
        }
        self.values += 1;
        format!("v{}", self.values).as_str().into()
    }

    fn range_end(&mut self) -> Bytes {
        match self.dice.below(4) {
            0 | 1 => Bytes::default(),
            2 => Bytes(vec![0]),
            _ => self.key(),
        }
    }

    fn number(&mut self, percent: u64) -> i64 {
        let revision = self.model.revision() as u64;
        if self.dice.chance(percent) { 1 + self.dice.below(revision + 1) as i64 } else { 0 }
    }

    fn request(&mut self) -> Request {
        if self.shape.leases && self.dice.chance(40) {
            return self.lease_request();
        }
        let kind = self.dice.below(100);
        if self.shape.plain {
            let key = self.key();
            return match kind {
                0..45 => {
                    let prev_kv = self.dice.chance(20);
                    let lease = self.lease();
                    Request::Put(Put { key, value: self.value(), lease, prev_kv, ..Put::default() })
                }
                45..60 => Request::DeleteRange(DeleteRange { key, ..DeleteRange::default() }),
                _ => Request::Range(Range { key, ..Range::default() }),
            };
        }
        match kind {
            0..25 => self.put(),
            25..33 => self.delete(),
            33..55 => self.txn(1),
            55..60 => {
                let revision = self.number(100);
                Request::Compact { revision, physical: self.dice.chance(50) }
            }
            _ => {
                let serializable = self.dice.chance(30);
                self.range(serializable)
            }
        }
    }

    fn put(&mut self) -> Request {
        let ignore_value = self.dice.chance(8);
        let ignore_lease = self.dice.chance(8);
        let lease = self.lease();
        let value = self.value();
        Request::Put(Put {
            key: self.key(),
            value: if ignore_value { Bytes::default() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv: self.dice.chance(30),
            ignore_value,
            ignore_lease,
        })
    }

    fn delete(&mut self) -> Request {
        let prev_kv = self.dice.chance(50);
        Request::DeleteRange(DeleteRange { key: self.key(), range_end: self.range_end(), prev_kv })
    }

    fn range(&mut self, serializable: bool) -> Request {
        let sorted = self.dice.chance(20);
        Request::Range(Range {
            key: self.key(),
            range_end: self.range_end(),
            limit: if self.dice.chance(20) { 1 + self.dice.below(3) as i64 } else { 0 },
            revision: self.number(25),
            sort_order: match self.dice.below(3) {
                0 if sorted => SortOrder::Ascend,
                1 if sorted => SortOrder::Descend,
                _ => SortOrder::None,
            },
            sort_target: match self.dice.below(5) {
                0 if sorted => SortTarget::Version,
                1 if sorted => SortTarget::Create,
                2 if sorted => SortTarget::Mod,
                3 if sorted => SortTarget::Value,
                _ => SortTarget::Key,
            },
            serializable,
            keys_only: self.dice.chance(10),
            count_only: self.dice.chance(10),
            min_mod_revision: self.number(8),
            max_mod_revision: self.number(8),
            min_create_revision: self.number(8),
            max_create_revision: self.number(8),
        })
    }

    fn compare(&mut self) -> Compare {
        let number = self.number(80);
        let target = match self.dice.below(5) {
            0 => CompareTarget::Version(self.dice.below(4) as i64),
            1 => CompareTarget::Create(number),
            2 => CompareTarget::Mod(number),
            3 => CompareTarget::Lease(self.dice.below(2) as i64),
            _ => CompareTarget::Value(self.value()),
        };
        let result = match self.dice.below(4) {
            0 => CompareResult::Equal,
            1 => CompareResult::NotEqual,
            2 => CompareResult::Less,
            _ => CompareResult::Greater,
        };
        Compare { key: self.key(), range_end: self.range_end(), result, target }
    }

    fn txn(&mut self, depth: u64) -> Request {
        let compares = self.dice.below(3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        let is_reading = self.dice.chance(25);
        let serializable = self.dice.chance(40);
        let mut list = |is_reading: bool| {
            let mut list: Vec<Request> = Vec::new();
            let mut has_write = false;
            for _ in 0..self.dice.below(3) {
                let inner = match self.dice.below(5) {
                    0 | 1 if !is_reading && !has_write => {
                        has_write = true;
                        self.put()
                    }
                    2 if !is_reading && !has_write => {
                        has_write = true;
                        self.delete()
                    }
                    3 if !is_reading && !has_write && depth > 0 => {
                        has_write = true;
                        self.txn(depth - 1)
                    }
                    _ => self.range(serializable && is_reading),
                };
                list.push(inner);
            }
            list
        };
        let (success, failure) = (list(is_reading), list(is_reading));
        Request::Txn(Txn { compare, success, failure })
    }
}

/// Whether etcd answers a request without asking the leader.
fn is_stale(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.serializable,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).all(is_stale),
        _ => false,
    }
}
