//! Shrinking keeps good histories good and bad ones bad, for the same reason.

use std::cell::Cell;

use super::cluster::{Dice, Shape, history};
use crate::checker::etcd::check;
use crate::checker::shrink::shrink;
use crate::checker::{Report, Verdict, Violation, bench, render};
use crate::history::Operation;

/// Makes a shrinker believe that a good history is broken by one operation, and watches what its moves make of it.
fn assert_moves_are_sound(seed: u64, operations: &[Operation]) -> usize {
    let cited = operations[Dice(seed).below(operations.len() as u64) as usize].op;
    let steps = Cell::new(0);
    let lie = |candidate: &[Operation]| -> Report {
        steps.set(steps.get() + 1);
        let mut report = check(candidate);
        assert_eq!(
            report.verdict,
            Verdict::Kept,
            "seed {seed}, step {}\n{}\n{}",
            steps.get(),
            candidate.iter().map(render::line).collect::<Vec<_>>().join("\n"),
            render::report(&report, candidate)
        );
        if candidate.iter().any(|operation| operation.op == cited) {
            report.verdict = Verdict::Broken;
            report.violations.push(Violation {
                rule: "stale-read",
                sentence: String::new(),
                operations: vec![cited],
                revisions: (1, 1),
                details: Vec::new(),
            });
        }
        report
    };
    shrink(operations, &lie).map_or(operations.len(), |shrunk| shrunk.operations.len())
}

/// Sound moves never turn kept into broken, whatever they are tried on.
#[test]
fn moves_keep_good_histories_good() {
    let mut left = 0;
    for seed in 0..600 {
        let shape = Shape {
            clients: 1 + seed % 5,
            operations: 10 + seed % 50,
            keys: 1 + seed % 4,
            unknown: seed % 3 * 6,
            repeated: seed % 2 * 30,
            plain: seed % 3 == 0,
            leases: seed % 4 == 0,
        };
        left += assert_moves_are_sound(seed, &history(seed, shape));
    }
    println!("600 histories of 20,700 operations shrunk to {left} operations");
    assert!(left < 14_000, "the moves do something: {left} operations left");
}

/// Three thousand operations with a stale read shrink to a handful that still show it.
#[test]
fn a_stale_read_shrinks_to_a_handful() {
    let operations = bench::with_stale_read();
    let shrunk = shrink(&operations, &check).expect("the sample is broken");
    let report = check(&shrunk.operations);
    assert_eq!(report.violations.first().map(|one| one.rule), Some("stale-read"));
    println!("{} operations in {} checks", shrunk.operations.len(), shrunk.checks);
    assert!(shrunk.operations.len() <= 60, "{} operations left", shrunk.operations.len());
}
