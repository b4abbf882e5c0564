//! Tiny histories, good and bad, against every possible order: the checker must agree with all of them, both ways.

use super::cluster::{Dice, Shape, history};
use super::model::{Model, failure};
use crate::checker::etcd::check;
use crate::checker::{Verdict, render};
use crate::history::{Body, Operation, Outcome, Request};

/// Whether some order of all answered and some of the unknown operations explains every answer.
fn has_order(operations: &[Operation], done: u32, model: &Model) -> bool {
    let left = |at: usize| done & (1 << at) == 0;
    let is_ok = |at: usize| operations[at].outcome == Outcome::Ok;
    let all: Vec<usize> = (0..operations.len()).filter(|at| left(*at)).collect();
    if !all.iter().any(|at| is_ok(*at)) {
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
        [false, true].into_iter().any(|flip_ties| {
            let mut next = model.clone();
            next.flip_ties = flip_ties;
            explains(operation, &mut next) && has_order(operations, done | 1 << at, &next)
        })
    })
}

/// Does the operation next; whether its answer is what it would get.
fn explains(operation: &Operation, model: &mut Model) -> bool {
    let Some(response) = &operation.response else {
        let _ = model.apply(&operation.request);
        return true;
    };
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

/// Changes an answer a little, so that about half of the histories become impossible.
fn disturb(operations: &mut [Operation], dice: &mut Dice) {
    let at = dice.below(operations.len() as u64) as usize;
    let other = dice.below(operations.len() as u64) as usize;
    let borrowed = operations[other].response.clone();
    let same_kind = std::mem::discriminant(&operations[at].request)
        == std::mem::discriminant(&operations[other].request);
    let operation = &mut operations[at];
    let Some(response) = &mut operation.response else { return };
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

/// Revision model and brute force agree on small histories, soundness and completeness.
#[test]
fn agrees_with_every_order() {
    let cases: u64 =
        std::env::var("BRUTE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000);
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
        };
        let mut operations = history(seed, shape);
        // The checker tolerates a missing lease in an answer with keys only, the model does not.
        operations.retain(|operation| {
            operation.outcome != Outcome::Failed
                && !format!("{:?}", operation.request).contains("keys_only: true")
                && !matches!(operation.request, Request::Compact { .. })
        });
        for _ in 0..dice.below(3) {
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
