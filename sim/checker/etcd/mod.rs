//! Linearizability by revision (being built).

use super::{Report, Stats, Verdict, wellformed};
use crate::history::Operation;

/// Judges a history of one etcd cluster that started empty.
pub fn check(operations: &[Operation]) -> Report {
    let malformed = wellformed::faults(operations);
    Report {
        verdict: Verdict::Undecided,
        violations: Vec::new(),
        doubts: Vec::new(),
        malformed,
        ledger: Vec::new(),
        stats: Stats { operations: operations.len(), ..Stats::default() },
    }
}
