//! What really happened is always accepted, and stays accepted when less is known about it.

use proptest::prelude::*;

use super::cluster::{Dice, Shape, history};
use super::model::failure;
use crate::checker::etcd::check;
use crate::checker::{Verdict, render};
use crate::history::{Operation, Outcome};

pub(super) fn shapes() -> impl Strategy<Value = Shape> {
    (1_u64..9, 1_u64..120, 1_u64..6, 0_u64..40, 0_u64..60, any::<bool>()).prop_map(
        |(clients, operations, keys, unknown, repeated, plain)| Shape {
            clients,
            operations,
            keys,
            unknown,
            repeated,
            plain,
        },
    )
}

/// In a hundred: up to this share of unknown outcomes every history is decided; beyond, about one in 100,000 is
/// not, and says so. None is ever called broken.
const DECIDED_UNKNOWN: u64 = 20;

fn assert_kept(operations: &[Operation], shape: Shape, what: &str) {
    let report = check(operations);
    if report.verdict == Verdict::Undecided && shape.unknown > DECIDED_UNKNOWN {
        return;
    }
    assert_eq!(report.verdict, Verdict::Kept, "{what}\n{}", render::report(&report, operations));
}

/// Takes knowledge away from a history without making it less possible.
fn forget(operations: &mut [Operation], dice: &mut Dice) -> &'static str {
    let at = dice.below(operations.len() as u64) as usize;
    match dice.below(3) {
        0 => {
            // Unknown from now on: the client does nothing more, so that no overlap arises.
            let operation = &mut operations[at];
            operation.outcome = Outcome::Unknown;
            operation.response = None;
            operation.error = Some(failure("etcdserver: request timed out"));
            "forgot an answer"
        }
        1 => {
            let client = operations[at].client;
            let earliest = operations[..at]
                .iter()
                .filter(|earlier| earlier.client == client)
                .filter_map(|earlier| earlier.returned)
                .max()
                .unwrap_or(0);
            // Keep the order of calls in the list.
            let floor = operations[..at].last().map_or(0, |earlier| earlier.call).max(earliest);
            operations[at].call = operations[at].call.min(floor.max(earliest));
            "called earlier"
        }
        _ => {
            let client = operations[at].client;
            let next = operations[at + 1..].iter().find(|later| later.client == client);
            let latest = next.map_or(u64::MAX / 2, |later| later.call);
            if let Some(returned) = &mut operations[at].returned {
                *returned = latest.max(*returned);
            }
            "returned later"
        }
    }
}

/// Histories per property; more by `CASES=…`.
pub(super) fn cases() -> u32 {
    std::env::var("CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// A history that happened is kept, whatever the mix of requests, overlaps and unknown outcomes.
    #[test]
    fn what_happened_is_kept(seed in any::<u64>(), shape in shapes()) {
        assert_kept(&history(seed, shape), shape, "as it happened");
    }

    /// Sound moves: with less knowledge and wider intervals more orders are possible, never fewer.
    #[test]
    fn less_knowledge_stays_kept(seed in any::<u64>(), shape in shapes()) {
        let mut operations = history(seed, shape);
        let mut dice = Dice(seed);
        for _ in 0..5 {
            let what = forget(&mut operations, &mut dice);
            assert_kept(&operations, shape, what);
        }
    }
}

/// A longer history with many holes is decided without spending the budget.
#[test]
fn many_holes_are_decided() {
    for seed in 0..20 {
        let shape = Shape {
            clients: 16,
            operations: 4_000,
            keys: 8,
            unknown: 8,
            repeated: 0,
            plain: seed % 2 == 0,
        };
        let operations = history(seed, shape);
        let report = check(&operations);
        assert_eq!(report.verdict, Verdict::Kept, "{}", render::report(&report, &operations));
        assert!(report.stats.holes > 50, "the history has holes: {:?}", report.stats);
        assert!(report.stats.search_steps < 100_000, "decided cheaply: {:?}", report.stats);
    }
}
