//! Why a history has no order, in words: the operation that nothing explains, and every state that was left.

use super::frontier::{self, Failure, Run, Survivor};
use super::model::Model;
use super::shrink;
use super::{Call, History, Judgement};
use crate::checker::{Detail, Verdict, Violation};

/// Steps of the plain algorithm on a shrunk history.
const STEPS: usize = 20_000;
/// Most operations that the plain algorithm is asked about: it is quadratic in those of unknown outcome.
const PLAIN: usize = 300;
/// Most operations cited.
const CITED: usize = 6;
/// Most states told of one by one.
const STATES: usize = 8;
/// Most operations told of for one state.
const OPEN: usize = 4;

/// Adds the violation of a partition that has no order.
pub fn explain<M: Model>(
    model: &M,
    history: &History<M::Op>,
    part: &[u32],
    judgement: &mut Judgement,
) {
    let calls = part.iter().map(|index| history.calls[*index as usize].clone()).collect();
    let calls = shrink::shrink(model, calls);
    let words = Words { model, history, calls: &calls };
    let due: Vec<usize> = (0..calls.len()).filter(|at| calls[*at].ret.is_some()).collect();
    let is_small = calls.len() <= PLAIN;
    let plain = if is_small { frontier::run(model, &calls, STEPS) } else { Run::TooLong };
    let (accused, sentence, details, told) = match plain {
        Run::Fails(failure) => words.failure(&failure, &due),
        Run::TooLong => words.too_long(&due),
        Run::Explained => {
            judgement.doubt(
                "The search found no order, but the plain algorithm did. \
                 This is a fault of the checker."
                    .to_owned(),
            );
            return;
        }
    };
    // The accused comes last.
    let mut cited: Vec<usize> = if due.len() <= CITED { due.clone() } else { told };
    cited.retain(|at| *at != accused);
    cited.sort_by_key(|at| calls[*at].number);
    cited.truncate(CITED - 1);
    cited.push(accused);
    judgement.report.verdict = Verdict::Broken;
    judgement.report.violations.push(Violation {
        rule: "linearizability",
        sentence,
        operations: cited.iter().map(|at| calls[*at].number).collect(),
        revisions: (0, 0),
        details,
    });
    judgement.core = due.iter().map(|at| calls[*at].number).collect();
    let line = |at: &usize| (calls[*at].number, words.line(calls[*at].number));
    judgement.cited = cited.iter().map(line).collect();
}

/// What explanations are made of.
struct Words<'a, M: Model> {
    model: &'a M,
    history: &'a History<M::Op>,
    /// The shrunk history.
    calls: &'a [Call<M::Op>],
}

/// Accused operation, sentence, details, other operations worth telling of.
type Told = (usize, String, Vec<Detail>, Vec<usize>);

impl<M: Model> Words<'_, M> {
    fn original(&self, number: u64) -> &Call<M::Op> {
        let mut calls = self.history.calls.iter();
        calls.find(|call| call.number == number).expect("what is cited is in the history")
    }

    /// An operation in a sentence, such as `read → 3 (#12)`.
    fn short(&self, at: usize) -> String {
        let call = &self.calls[at];
        format!("{} (#{})", self.model.show_op(&call.op), call.number)
    }

    /// An operation on a line of its own.
    fn line(&self, number: u64) -> String {
        let call = self.original(number);
        let when = match (call.lines, call.ret) {
            ((0, _), Some(ret)) => format!("{} to {ret}", call.call),
            ((0, _), None) => format!("from {}", call.call),
            ((from, 0), _) => format!("line {from}, never returned"),
            ((from, to), None) => format!("lines {from} to {to}, outcome unknown"),
            ((from, to), Some(_)) => format!("lines {from} to {to}"),
        };
        let process = &self.history.processes[call.process as usize];
        format!("#{number} process {process}, {when}: {}", self.model.show_op(&call.op))
    }

    fn failure(&self, failure: &Failure<M::State>, due: &[usize]) -> Told {
        let accused = failure.at;
        let noun = self.model.noun();
        let states: Vec<String> =
            failure.survivors.iter().map(|one| self.model.show_state(&one.state)).collect();
        let among = match states.as_slice() {
            [state] => state.clone(),
            [most @ .., last] if states.len() <= STATES => {
                format!("{} or {last}", most.join(", "))
            }
            _ => format!("one of {} states", states.len()),
        };
        let mut sentence = format!("{} fits nowhere: ", self.short(accused));
        sentence += &match due.len() - 1 {
            0 => format!("{noun} can only be {among}"),
            1 => format!("with the operation below in its place, {noun} can only be {among}"),
            n if n < CITED => {
                format!("with the {n} operations below in their places, {noun} can only be {among}")
            }
            n => format!("with {n} other operations in their places, {noun} can only be {among}"),
        };
        sentence += if self.history.calls.len() > due.len() {
            ", whatever became of all others."
        } else {
            "."
        };
        let details: Vec<Detail> =
            failure.survivors.iter().take(STATES).map(|one| self.detail(accused, one)).collect();
        let told = failure.survivors.iter().filter_map(|one| one.last).collect();
        (accused, sentence, details, told)
    }

    /// Why the accused is impossible in one state, and why nothing that could come next helps.
    fn detail(&self, accused: usize, survivor: &Survivor<M::State>) -> Detail {
        let state = &survivor.state;
        let mut actual = self.model.why_not(state, &self.calls[accused].op);
        let others = survivor.open.iter().filter(|at| **at != accused);
        for at in others.clone().take(OPEN) {
            let mut after = state.clone();
            let op = &self.calls[*at].op;
            let effect = if !self.model.apply(&mut after, op) {
                "is impossible too".to_owned()
            } else if after == *state {
                "changes nothing".to_owned()
            } else {
                format!("makes it {}", self.model.show_state(&after))
            };
            actual += &format!("; {} {effect}", self.short(*at));
        }
        if others.clone().count() > OPEN {
            actual += &format!("; {} more do not help either", others.count() - OPEN);
        }
        Detail {
            what: format!("if {} is {}", self.model.noun(), self.model.show_state(state)),
            expected: format!("{} to be possible", self.model.show_op(&self.calls[accused].op)),
            actual,
        }
    }

    fn too_long(&self, due: &[usize]) -> Told {
        let last = |at: &usize| self.calls[*at].ret;
        let accused = due.iter().copied().max_by_key(last).expect("what is broken has returned");
        let sentence = format!(
            "{} fits nowhere: no order of it and {} other operations explains their answers; \
             the states that are left are too many to tell.",
            self.short(accused),
            due.len() - 1
        );
        (accused, sentence, Vec::new(), due.iter().rev().take(CITED).copied().collect())
    }
}
