//! A large history for measuring the checker: puts, gets, and unknown outcomes in known shares.
//!
//! Operation `i` takes effect at time `20 i`, with call and return up to `10 clients` to either side; half are puts
//! of unique values, half are linearizable gets; of the unknown ones half are puts that took effect.

use std::collections::BTreeMap;

use crate::history::{Body, Failure, KeyValue, Operation, Outcome, Put, Range, Request, Response};

/// The shape of a history.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many operations.
    pub operations: u64,
    /// How many are under way at a time.
    pub clients: u64,
    /// How many keys there are.
    pub keys: u64,
    /// One in so many has an unknown outcome; 0 for none.
    pub unknown_one_in: u64,
}

/// The shape of the gate: a million operations, one in a hundred unknown.
pub const MILLION: Shape =
    Shape { operations: 1_000_000, clients: 16, keys: 1_000, unknown_one_in: 100 };

/// The shape of a failing history before it fails: see [`with_stale_read`].
pub const FAILING: Shape = Shape { operations: 3_000, clients: 8, keys: 10, unknown_one_in: 0 };
/// Unknown writes of the failing history, half of which took effect.
const FAILING_UNKNOWN: usize = 10;
/// How many operations its stale read lags behind, at least.
const FAILING_LAG: usize = 64;

/// A history of [`FAILING`]'s shape with ten unknown writes in its first nine tenths, and one stale read at 95 %.
pub fn with_stale_read() -> Vec<Operation> {
    let mut operations = history(FAILING);
    let is_put = |operation: &Operation| matches!(operation.request, Request::Put(_));
    let reach = operations.len() * 9 / 10;
    for number in 0..FAILING_UNKNOWN {
        // Every second one is a put that took effect, the others are puts that never did.
        let from = reach * number / FAILING_UNKNOWN;
        let wants_put = number % 2 == 0;
        let at = (from..).find(|at| is_put(&operations[*at]) == wants_put).expect("half are puts");
        let operation = &mut operations[at];
        if let Request::Range(range) = &operation.request {
            let value = format!("lost-{number}").as_str().into();
            operation.request =
                Request::Put(Put { key: range.key.clone(), value, ..Put::default() });
        }
        operation.response = None;
        operation.outcome = Outcome::Unknown;
        operation.error = Some(timed_out());
    }
    let is_get = |operation: &Operation| matches!(operation.request, Request::Range(_));
    let late = operations.len() * 95 / 100;
    let at = (late..).find(|at| is_get(&operations[*at])).expect("half are gets");
    let old = (0..at - FAILING_LAG).rev().find(|at| is_get(&operations[*at])).expect("half are");
    operations[at].request = operations[old].request.clone();
    operations[at].response = operations[old].response.clone();
    operations
}

fn timed_out() -> Failure {
    Failure { code: "Unavailable".to_owned(), message: "etcdserver: request timed out".to_owned() }
}

/// A history of that shape, which keeps every promise.
pub fn history(shape: Shape) -> Vec<Operation> {
    let mut state: BTreeMap<String, KeyValue> = BTreeMap::new();
    let mut revision = 1;
    let mut dice = 1_u64;
    let mut roll = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below.max(1)
    };
    let mut operations = Vec::with_capacity(shape.operations as usize);
    // A client is free again after a full round, so its operations never overlap.
    let reach = 10 * shape.clients;
    for number in 0..shape.operations {
        let at = 20 * number + reach;
        let (call, returned) = (at - roll(reach), at + roll(reach));
        let name = format!("key-{}", roll(shape.keys));
        let key: crate::history::Bytes = name.as_str().into();
        let unknown = shape.unknown_one_in > 0 && roll(shape.unknown_one_in) == 0;
        let is_lost = unknown && roll(2) == 0;
        let (request, body) = if roll(2) == 0 || unknown {
            let value: crate::history::Bytes = format!("value-{number}").as_str().into();
            let request =
                Request::Put(Put { key: key.clone(), value: value.clone(), ..Put::default() });
            if !is_lost {
                revision += 1;
                let old = state.get(&name);
                let create_revision = old.map_or(revision, |old| old.create_revision);
                let version = old.map_or(0, |old| old.version) + 1;
                let kv = KeyValue {
                    key,
                    create_revision,
                    mod_revision: revision,
                    version,
                    value,
                    lease: 0,
                };
                state.insert(name, kv);
            }
            (request, Body::Put { prev_kv: None })
        } else {
            let kvs: Vec<KeyValue> = state.get(&name).cloned().into_iter().collect();
            let count = kvs.len() as i64;
            (
                Request::Range(Range { key, ..Range::default() }),
                Body::Range { kvs, more: false, count },
            )
        };
        let response = Response { revision, member_id: 1, raft_term: 2, body };
        operations.push(Operation {
            op: number,
            client: (number % (2 * shape.clients)) as u32,
            user: None,
            member: format!("n{}", number % 3 + 1),
            call,
            returned: Some(returned),
            request,
            response: (!unknown).then_some(response),
            outcome: if unknown { Outcome::Unknown } else { Outcome::Ok },
            error: unknown.then(timed_out),
        });
    }
    operations.sort_by_key(|operation| operation.call);
    for (number, operation) in operations.iter_mut().enumerate() {
        operation.op = number as u64;
    }
    operations
}
