//! Makes a failing history small, by moves that cannot make a good history bad.
//!
//! To leave out a write can create a violation: whoever saw its revision would have seen something that nobody
//! made. So only these moves are made, each of which turns a possible history into a possible history:
//!
//! * **Cut the end.** Whatever is possible is possible up to any moment; what is under way then is unknown.
//! * **Drop what only looks**: reads, refusals, watches, renewals. Nobody depends on having been looked at; without
//!   a renewal a lease may only end earlier.
//! * **Forget what was there before** (`prev_kv`).
//! * **Drop whole keys, and renumber** ([`renumber`]). Revisions are counted over all keys, so a key is never
//!   independent as it stands: without its writes there would be holes. But if in a possible order all writes of a
//!   key are left out, and every revision named anywhere is lowered by the number of writes left out up to it, the
//!   order is still possible, for everybody who saw none of the key. Keys for which that does not hold are kept:
//!   those that a txn, a wide delete, a lease or a kept answer touches, or an unknown delete.
//! * **Drop overwritten puts, and renumber** alike, with the versions of the key lowered too: puts of the keys that
//!   remain, if no kept answer saw them, and no write of unknown outcome but a put touches the key. Where one does,
//!   the first put of a life that was shown stays: without it the next one would have made the key, and which one
//!   that is, is not known.
//!
//! Since no move breaks a good history, what still breaks afterwards was broken before, and for a reason that is
//! still there. Each candidate is judged anew; it is taken if the same rule is still broken.
//!
//! Not done: replacing a beginning by the state it leaves, and dropping grants or compactions.

mod moves;
mod renumber;

use super::{Report, Verdict};
use crate::history::Operation;

/// Most histories judged for one shrinking.
const CHECKS_MAX: usize = 5_000;

/// What shrinking came to.
pub struct Shrunk {
    /// The smallest history found.
    pub operations: Vec<Operation>,
    /// How many histories were judged on the way.
    pub checks: usize,
}

/// One shrinking under way.
struct Shrinker<'c> {
    check: &'c dyn Fn(&[Operation]) -> Report,
    rule: &'static str,
    best: Vec<Operation>,
    /// Numbers of the operations that prove the violation.
    cited: Vec<u64>,
    checks: usize,
}

/// Makes a history smaller while it breaks the rule of its first violation; `None` if it breaks none.
pub fn shrink(operations: &[Operation], check: &dyn Fn(&[Operation]) -> Report) -> Option<Shrunk> {
    let report = check(operations);
    if report.verdict != Verdict::Broken {
        return None;
    }
    let first = report.violations.first()?;
    let mut shrinker = Shrinker {
        check,
        rule: first.rule,
        best: operations.to_vec(),
        cited: first.operations.clone(),
        checks: 1,
    };
    shrinker.cut();
    loop {
        let before = shrinker.size();
        shrinker.drop_lookers();
        shrinker.forget_answers();
        shrinker.drop_keys();
        shrinker.drop_overwritten();
        shrinker.cut();
        if shrinker.size() >= before {
            break;
        }
    }
    Some(Shrunk { operations: shrinker.best, checks: shrinker.checks })
}

impl Shrinker<'_> {
    fn size(&self) -> usize {
        self.best.len()
    }

    /// Takes a candidate if it still breaks the rule.
    fn attempt(&mut self, candidate: Vec<Operation>) -> bool {
        if self.checks == CHECKS_MAX {
            return false;
        }
        self.checks += 1;
        let report = (self.check)(&candidate);
        if !report.malformed.is_empty() {
            return false;
        }
        let Some(violation) = report.violations.iter().find(|one| one.rule == self.rule) else {
            return false;
        };
        self.cited.clone_from(&violation.operations);
        self.best = candidate;
        true
    }

    fn is_cited(&self, operation: &Operation) -> bool {
        self.cited.contains(&operation.op)
    }

    /// Drops as many of these operations as it can: all at once, then in ever smaller pieces.
    fn drop_some(&mut self, may_go: impl Fn(&Operation) -> bool) {
        let numbers = |shrinker: &Self| -> Vec<u64> {
            let all = shrinker.best.iter().filter(|one| may_go(one) && !shrinker.is_cited(one));
            let mut numbers: Vec<u64> = all.map(|operation| operation.op).collect();
            numbers.sort_unstable();
            numbers
        };
        let mut left = numbers(self);
        let mut piece = left.len();
        while piece > 0 {
            for chunk in left.chunks(piece) {
                let gone = |operation: &Operation| chunk.binary_search(&operation.op).is_ok();
                let kept = self.best.iter().filter(|operation| !gone(operation)).cloned();
                let candidate: Vec<Operation> = kept.collect();
                if candidate.len() < self.best.len() {
                    self.attempt(candidate);
                }
            }
            left = numbers(self);
            piece = (piece / 2).min(left.len());
        }
    }
}
