//! Linearizability of any object, by search: for histories that do not give their order away.
//!
//! # What is judged
//!
//! A history is linearizable if its operations can be put into one order in which each stands between its call and
//! its return and has the answer that the object gives at that place (Herlihy and Wing 1990). Operations of unknown
//! outcome may stand anywhere after their call, or nowhere. Intervals are closed: what returns at the moment when
//! something else is called is under way at the same time.
//!
//! # How
//!
//! * What an object does is said by a [`Model`]; [`models`] has registers, sets, queues, locks and keys with text.
//! * Operations that share no key are judged apart ([`partition`]), all of them at once ([`race`]).
//! * Each partition is searched depth first with a memory of dead ends ([`search`]); any number of operations may be
//!   under way, and any number may have an unknown outcome.
//! * Every order found is replayed by code that knows nothing of the search ([`replay`]).
//! * What has no order is made small ([`shrink`]), confirmed by the plain algorithm ([`frontier`]) and put into
//!   words ([`explain`]).
//!
//! # Cost
//!
//! Deciding is NP-complete, so there are [`Limits`]; when they are reached the verdict is undecided, never kept.
//! Where operations do not compete much, it is linear in their number, at some 200 bytes for each.

mod bits;
mod explain;
mod fast;
mod frontier;
pub mod model;
pub mod models;
mod partition;
mod race;
mod replay;
mod search;
mod shrink;
mod space;
mod task;
#[cfg(test)]
pub(super) mod tests;

use self::model::Model;
use self::race::End;
use super::{Doubt, Report, Stats, Verdict};

/// One operation of one process, from call to return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<O> {
    /// Its number in the history, from 0, in the order of calls.
    pub number: u64,
    /// Who called; a number in [`History::processes`].
    pub process: u32,
    /// When it was called, in any unit.
    pub call: u64,
    /// When it returned; absent if its outcome is unknown.
    pub ret: Option<u64>,
    /// Lines of its call and of its end in the file, from 1; 0 where there is none.
    pub lines: (u32, u32),
    /// What was asked and answered.
    pub op: O,
}

/// Operations in the order of their calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<O> {
    /// The operations.
    pub calls: Vec<Call<O>>,
    /// Names of the processes.
    pub processes: Vec<String>,
}

/// How much may be spent on one history.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Configurations looked at; about a million a second.
    pub configurations: u64,
    /// Bytes of memory, more or less.
    pub bytes: usize,
    /// Whether to say why a history is broken, which takes longer than to find it.
    pub explain: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { configurations: 10_000_000, bytes: 1 << 30, explain: true }
    }
}

/// What the checker has to say about a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Verdict, violation, doubts.
    pub report: Report,
    /// An order that explains everything, as numbers of operations; empty unless kept.
    pub witness: Vec<u64>,
    /// The operations that break the history whatever became of all others; empty unless broken.
    pub core: Vec<u64>,
    /// The operations cited in the report, with their lines.
    pub cited: Vec<(u64, String)>,
}

/// Judges a history against a model.
pub fn judge<M: Model>(model: &M, history: &History<M::Op>, limits: Limits) -> Judgement {
    let calls = &history.calls;
    let parts = partition::partitions(model, calls);
    let (end, explored) = race::race(model, calls, &parts, limits);
    let unknown = calls.iter().filter(|call| call.ret.is_none() && !model.is_pure(&call.op));
    let stats = Stats {
        operations: calls.len(),
        unknown_writes: unknown.count(),
        search_steps: explored,
        ..Stats::default()
    };
    let report = Report {
        verdict: Verdict::Kept,
        violations: Vec::new(),
        doubts: Vec::new(),
        malformed: Vec::new(),
        ledger: Vec::new(),
        stats,
    };
    let mut judgement =
        Judgement { report, witness: Vec::new(), core: Vec::new(), cited: Vec::new() };
    match end {
        End::Found(orders) => {
            let order = race::merge(calls, &orders);
            match replay::objection(model, calls, &parts, &order) {
                None => {
                    let number = |index: &u32| calls[*index as usize].number;
                    judgement.witness = order.iter().map(number).collect();
                }
                Some(objection) => judgement.doubt(format!(
                    "An order was found, but does not stand up to a replay: {objection}. \
                     This is a fault of the checker."
                )),
            }
        }
        End::Refuted(_) if !limits.explain => judgement.report.verdict = Verdict::Broken,
        End::Refuted(part) => explain::explain(model, history, &parts[part], &mut judgement),
        End::Spent => {
            judgement.doubt(format!(
                "{explored} configurations were looked at, and neither an order nor the lack of one was found; {} \
                 operations of unknown outcome stay open.",
                judgement.report.stats.unknown_writes
            ));
            let open = calls.iter().filter(|call| call.ret.is_none() && !model.is_pure(&call.op));
            judgement.report.doubts[0].operations = open.map(|call| call.number).collect();
        }
    }
    judgement
}

impl Judgement {
    fn doubt(&mut self, sentence: String) {
        self.report.verdict = Verdict::Undecided;
        self.report.doubts.push(Doubt { sentence, operations: Vec::new(), revisions: (0, 0) });
    }
}
