//! Tiny histories, good and bad, against every possible order: the checker must agree with all of them, both ways.

use super::cluster::{Dice, Shape, history};
use super::model::{KEPT_S, Model, failure};
use crate::checker::etcd::check;
use crate::checker::{Verdict, render};
use crate::history::{Body, Operation, Outcome, Request, SortTarget};

/// Whether some order of all answered and some of the unknown operations explains every answer.
fn has_order(operations: &[Operation], done: u32, model: &Model) -> bool {
    let left = |at: usize| done & (1 << at) == 0;
    let is_ok = |at: usize| operations[at].outcome != Outcome::Unknown;
    let all: Vec<usize> = (0..operations.len()).filter(|at| left(*at)).collect();
    if !all.iter().any(|at| is_ok(*at)) {
        return true;
    }
    let soonest = all.iter().filter(|at| is_ok(**at)).filter_map(|at| operations[*at].returned);
    let soonest = soonest.min().unwrap_or(u64::MAX);
    let expires = model.leases.iter().filter(|(_, until)| **until <= soonest).any(|(id, _)| {
        let mut next = model.clone();
        next.end(*id);
        has_order(operations, done, &next)
    });
    if expires {
        return true;
    }
    all.iter().any(|at| {
        let operation = &operations[*at];
        let is_late = all.iter().any(|other| {
            is_ok(*other) && operations[*other].returned.is_some_and(|end| end < operation.call)
        });
        if is_late {
            return false;
        }
        [false, true].into_iter().take(1 + usize::from(has_ties(&operation.request))).any(
            |flip_ties| {
                let mut next = model.clone();
                next.flip_ties = flip_ties;
                explains(operation, &mut next) && has_order(operations, done | 1 << at, &next)
            },
        )
    })
}

/// Whether the order of equals is open in the answer.
fn has_ties(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.sort_target != SortTarget::Key,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(has_ties),
        _ => false,
    }
}

/// Does the operation next; whether its answer is what it would get.
fn explains(operation: &Operation, model: &mut Model) -> bool {
    // A lease may expire from its call on, by the clock that the checker allows the server.
    model.now = operation.call;
    model.second_ns = 900_000_000;
    let Some(response) = &operation.response else {
        let answer = model.apply(&operation.request);
        return operation.outcome == Outcome::Unknown || answer.err() == operation.error;
    };
    if let Body::LeaseKeepAlive { .. } = response.body {
        let answer = model.apply(&operation.request);
        return answer.is_ok_and(|answer| answer.body == response.body);
    }
    if is_serializable(&operation.request) {
        let known = (1..=model.revision()).contains(&response.revision);
        return known
            && model.as_of(response.revision, true).apply(&operation.request).as_ref()
                == Ok(response);
    }
    model.apply(&operation.request).as_ref() == Ok(response)
}

fn is_serializable(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.serializable,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).all(is_serializable),
        _ => false,
    }
}

/// Names a lease that the server chose, and leaves out a header that is filled apart from the renewal.
fn tame(operation: &mut Operation) {
    let body = operation.response.as_mut().map(|response| (&mut response.revision, &response.body));
    match (&mut operation.request, body) {
        (Request::LeaseGrant { id: id @ 0, .. }, Some((_, Body::LeaseGrant { id: given, .. }))) => {
            *id = *given;
        }
        (Request::LeaseGrant { id: id @ 0, .. }, _) => *id = 1_001,
        (_, Some((revision, Body::LeaseKeepAlive { .. }))) => *revision = 0,
        _ => {}
    }
}

/// Answered by a member from what it knows: judged against the past as a whole.
fn is_local(request: &Request) -> bool {
    matches!(request, Request::LeaseTimeToLive { .. } | Request::LeaseLeases {})
}

/// Changes an answer a little, so that about half of the histories become impossible.
fn disturb(operations: &mut [Operation], dice: &mut Dice) {
    let at = dice.below(operations.len() as u64) as usize;
    let other = dice.below(operations.len() as u64) as usize;
    let borrowed = operations[other].response.clone();
    let same_kind = std::mem::discriminant(&operations[at].request)
        == std::mem::discriminant(&operations[other].request);
    let operation = &mut operations[at];
    let Some(response) = &mut operation.response else { return };
    if let Body::LeaseKeepAlive { ttl_s, .. } = &mut response.body {
        *ttl_s = KEPT_S - *ttl_s;
        return;
    }
    match dice.below(5) {
        0 => response.revision += 1,
        1 if response.revision > 1 => response.revision -= 1,
        2 => {
            operation.response = None;
            operation.outcome = Outcome::Unknown;
            operation.error = Some(failure("etcdserver: request timed out"));
        }
        3 if same_kind && !matches!(operation.request, Request::Txn(_)) => {
            if let Some(borrowed) = borrowed {
                *response = borrowed;
            }
        }
        _ => {
            if let Body::Range { kvs, .. } = &mut response.body
                && let Some(kv) = kvs.first_mut()
            {
                kv.version += 1;
            }
        }
    }
}

/// Histories for each kind; fewer without optimisation; more by `BRUTE_CASES=…`.
pub(super) fn cases() -> u64 {
    let usual = if cfg!(debug_assertions) { 2_000 } else { 100_000 };
    std::env::var("BRUTE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Revision model and brute force agree on small histories, soundness and completeness.
#[test]
fn agrees_with_every_order() {
    check_all(false);
}

/// The same with leases: granted, attached, renewed, revoked, expired with and without keys, refused.
#[test]
fn agrees_with_every_order_of_leases() {
    check_all(true);
}

fn check_all(leases: bool) {
    let cases = cases();
    let mut verdicts = [0_u32; 2];
    for seed in 0..cases {
        let mut dice = Dice(seed);
        let shape = Shape {
            clients: 2 + dice.below(3),
            operations: 3 + dice.below(5),
            keys: 1 + dice.below(2),
            unknown: dice.below(60),
            repeated: 60,
            plain: dice.chance(40),
            leases,
        };
        let mut operations = history(seed, shape);
        // The checker tolerates a missing lease in an answer with keys only, the model does not.
        for operation in &mut operations {
            tame(operation);
        }
        operations.retain(|operation| {
            let about_lease = !matches!(operation.request, Request::Txn(_))
                && operation.error.as_ref().is_some_and(|error| error.message.contains("lease"));
            (operation.outcome != Outcome::Failed || about_lease)
                && !is_local(&operation.request)
                && !format!("{:?}", operation.request).contains("keys_only: true")
                && !matches!(operation.request, Request::Compact { .. })
        });
        for _ in 0..dice.below(4) {
            if !operations.is_empty() {
                disturb(&mut operations, &mut dice);
            }
        }
        let expected = has_order(&operations, 0, &Model::new());
        let report = check(&operations);
        let listing: Vec<String> = operations.iter().map(render::line).collect();
        assert!(report.malformed.is_empty(), "seed {seed}: {:?}", report.malformed);
        assert_eq!(
            report.verdict,
            if expected { Verdict::Kept } else { Verdict::Broken },
            "seed {seed}\n{}\n{}",
            listing.join("\n"),
            render::report(&report, &operations)
        );
        verdicts[usize::from(expected)] += 1;
    }
    println!("{cases} histories: {} kept, {} broken", verdicts[1], verdicts[0]);
    assert!(
        verdicts.iter().all(|count| u64::from(*count) > cases / 10),
        "both kinds: {verdicts:?}"
    );
}
