//! From a history to a verdict: pure functions that judge what clients saw.
//!
//! # What is judged
//!
//! etcd promises strict serializability, and gives away the order: `header.revision` of every answer says where
//! in the one total order of writes the operation took place. So the order need not be searched for. What is left
//! is to test that it respects real time, that each revision has exactly one writer, and that each answer is what
//! a plain key-value store would have said at its place (`reference` and proof sketch: [`etcd`]).
//!
//! # Rules
//!
//! Each rule has an id, a sentence, the promise it keeps watch over and where that promise is made: [`RULES`].
//! Every violation of every rule is found in one pass, each with the two to five operations that prove it.
//!
//! # Unknown outcomes
//!
//! An operation that timed out may have happened, may happen later, or never. A revision that no acknowledged
//! operation claims must belong to one of those. Which one follows from evidence: who has seen the revision, with
//! which value, which version. The resolutions are listed in [`Report::ledger`]. Where evidence leaves a choice,
//! the choices are searched within a budget; when it is spent the verdict is [`Verdict::Undecided`], never a
//! silent pass.
//!
//! # Absences
//!
//! * This module knows neither the server nor the simulated world: it sees [`crate::history`] alone.
//! * It has no clock, no randomness and no files; the same history gives the same report.

mod auth;
pub mod bench;
mod between;
mod election;
pub mod etcd;
pub mod generic;
mod members;
pub mod render;
mod rules;
pub mod shrink;
#[cfg(test)]
mod tests;
pub mod watch;
mod wellformed;

use serde::Serialize;

use crate::history::{Operation, Request};

#[allow(unused_imports, reason = "for `sim list`")]
pub use rules::{RULES, Rule};

/// What a history amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every promise was kept.
    Kept,
    /// At least one rule was broken.
    Broken,
    /// No rule is known to be broken, but not everything could be decided (budget spent, or malformed input).
    Undecided,
}

/// One broken rule with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Id of the rule, one of [`RULES`].
    pub rule: &'static str,
    /// Why, in one sentence, with times, members, revisions and operation numbers.
    pub sentence: String,
    /// Numbers of the operations that prove it, the accused one last.
    pub operations: Vec<u64>,
    /// First and last revision that matter.
    pub revisions: (i64, i64),
    /// Expected against actual, where a comparison failed.
    pub details: Vec<Detail>,
}

/// One property of an answer that differs from what the store must have said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// Which property, such as `count` or `key "a": version`.
    pub what: String,
    /// What the store must have said.
    pub expected: String,
    /// What the client was told.
    pub actual: String,
}

/// Something that could be a violation, but could not be decided within the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doubt {
    /// What could not be decided, and why.
    pub sentence: String,
    /// Numbers of the operations concerned.
    pub operations: Vec<u64>,
    /// First and last revision concerned.
    pub revisions: (i64, i64),
}

/// A line that cannot be part of a history: the recorder is at fault, not the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Malformed {
    /// Position in the history, from 1: the line of a file without blank lines.
    pub line: usize,
    /// What is wrong with it.
    pub sentence: String,
}

/// What an operation with an unknown outcome turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resolution {
    /// Number of the operation.
    pub op: u64,
    /// The revision it created; absent if it left no trace up to the last known revision.
    pub revision: Option<i64>,
    /// Whether no other operation could have created the revision.
    pub certain: bool,
    /// The operation that saw it, if one did.
    pub seen_by: Option<u64>,
    /// The same in words.
    pub sentence: String,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Operations in the history.
    pub operations: usize,
    /// The last revision anybody saw.
    pub last_revision: i64,
    /// Writes whose outcome is unknown.
    pub unknown_writes: usize,
    /// Revisions that no acknowledged operation claims.
    pub holes: usize,
    /// Holes that evidence alone did not settle.
    pub ambiguous_holes: usize,
    /// Steps spent on trying choices again.
    pub search_steps: u64,
    /// How old serializable reads were.
    pub staleness: Staleness,
}

/// Upper ends of the classes of a [`Staleness`] in revisions; what is beyond falls into one more class.
pub const BEHIND_REVISIONS: [i64; 5] = [0, 1, 10, 100, 1_000];
/// The same in milliseconds.
pub const BEHIND_MS: [u64; 5] = [0, 10, 100, 1_000, 10_000];

/// How old serializable reads were: a measure, not a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Staleness {
    /// Serializable reads that were answered.
    pub reads: u64,
    /// Reads by revisions behind the newest that was acknowledged before the call: as [`BEHIND_REVISIONS`].
    pub revisions: [u64; 6],
    /// The most revisions behind.
    pub revisions_max: i64,
    /// Reads by milliseconds, begun, since the revision after theirs was acknowledged: as [`BEHIND_MS`].
    pub ms: [u64; 6],
    /// The most milliseconds, begun.
    pub ms_max: u64,
    /// Reads at a lower revision than the same member had answered before; so after a restart it may.
    pub went_back: u64,
}

impl Staleness {
    fn add(&mut self, revisions: i64, ns: u64) {
        let ms = if revisions > 0 { ns.div_ceil(1_000_000) } else { 0 };
        let revisions = revisions.max(0);
        self.reads += 1;
        self.revisions[BEHIND_REVISIONS.partition_point(|end| *end < revisions)] += 1;
        self.revisions_max = self.revisions_max.max(revisions);
        self.ms[BEHIND_MS.partition_point(|end| *end < ms)] += 1;
        self.ms_max = self.ms_max.max(ms);
    }
}

/// Everything the checker has to say about one history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The verdict.
    pub verdict: Verdict,
    /// All violations, in the order of the accused operation's return.
    pub violations: Vec<Violation>,
    /// What could not be decided.
    pub doubts: Vec<Doubt>,
    /// Lines that are not a history; if there are any, nothing else was judged.
    pub malformed: Vec<Malformed>,
    /// What the unknown outcomes turned out to be.
    pub ledger: Vec<Resolution>,
    /// How much was looked at.
    pub stats: Stats,
}

/// Judges everything that a history of one etcd cluster shows; `rest` says when it had come to rest, if it had.
pub fn check(operations: &[Operation], rest: Option<&watch::Rest>) -> Report {
    let is_watched = operations.iter().any(|one| matches!(one.request, Request::Watch(_)));
    let mut report = if is_watched {
        etcd::check_and(operations, Some(&|log| watch::check(log, rest)))
    } else {
        etcd::check(operations)
    };
    if report.malformed.is_empty() {
        let mut found = between::check(operations);
        found.extend(members::check(operations));
        found.extend(election::check(operations));
        found.extend(auth::check(operations));
        add(&mut report, found);
    }
    report
}

/// Adds what other rules have found. Times say when each shows; those of a key's rules are not known here any more,
/// so the new ones follow.
fn add(report: &mut Report, mut found: Vec<(u64, Violation)>) {
    found.sort_by_key(|(when, _)| *when);
    report.violations.extend(found.into_iter().map(|(_, violation)| violation));
    if !report.violations.is_empty() {
        report.verdict = Verdict::Broken;
    }
}
