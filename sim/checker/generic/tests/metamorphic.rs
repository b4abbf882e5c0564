//! Moves that can never break a good history, on histories too large for brute force.

use super::dice::{self, Dice, Shape};
use crate::checker::Verdict;
use crate::checker::generic::model::Model;
use crate::checker::generic::models::register::{Op, Register};
use crate::checker::generic::{Call, History, Limits, judge};

/// A history that has an order: operations take effect in turn, each somewhere between its call and its return.
fn good(dice: &mut Dice, model: &Register, operations: u64, unknown: u64) -> History<Op> {
    let shape = Shape { operations, values: 3, length: 8, unknown, ties: false };
    let mut history =
        dice::history(dice, shape, |dice, unknown| dice::register(dice, unknown, 3, 30));
    let end = operations * 1_000 + 100_000;
    let moment = |dice: &mut Dice, call: &Call<Op>| {
        let latest = call.ret.unwrap_or(end);
        call.call + dice.below(latest - call.call + 1)
    };
    let mut order: Vec<(u64, usize)> =
        history.calls.iter().enumerate().map(|(at, call)| (moment(dice, call), at)).collect();
    order.sort_unstable();
    let mut state = model.init();
    for (_, at) in order {
        let call = &mut history.calls[at];
        let is_lost = call.ret.is_none() && dice.below(2) == 0;
        if !is_lost {
            call.op = truthful(model, &mut state, &call.op, call.ret.is_some());
        }
    }
    history
}

/// Does the operation; the same with the answer that it gets.
fn truthful(model: &Register, state: &mut u32, op: &Op, is_known: bool) -> Op {
    let before = *state;
    model.apply(state, &model.forget(op));
    match op {
        Op::Read(_) if is_known => Op::Read(Some(before)),
        Op::Cas { from, to, .. } if is_known => {
            Op::Cas { from: *from, to: *to, done: Some(*from == before) }
        }
        other => model.forget(other),
    }
}

/// One of the moves, at random.
fn moved(dice: &mut Dice, model: &Register, history: &History<Op>) -> History<Op> {
    let mut calls = history.calls.clone();
    let at = dice.below(calls.len() as u64) as usize;
    match dice.below(5) {
        0 if model.is_pure(&calls[at].op) => {
            calls.remove(at);
        }
        1 => {
            calls[at].ret = None;
            calls[at].op = model.forget(&calls[at].op);
        }
        2 => calls[at].call = calls[at].call.saturating_sub(dice.below(5_000)),
        3 => calls[at].ret = calls[at].ret.map(|ret| ret + dice.below(5_000)),
        _ => {
            let time = calls[at].call + dice.below(3_000);
            calls = crate::checker::generic::shrink::until(model, &calls, time);
        }
    }
    calls.sort_by_key(|call| call.call);
    History { calls, processes: history.processes.clone() }
}

/// Good histories of a hundred operations are kept, and stay kept after any number of moves.
#[test]
fn moves_never_break_a_good_history() {
    let model = Register { initial: 0, names: Default::default() };
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut history = good(&mut dice, &model, 100, [0, 10, 40][seed as usize % 3]);
        for step in 0..12 {
            let judgement = judge(&model, &history, Limits::default());
            assert_eq!(judgement.report.verdict, Verdict::Kept, "seed {seed}, step {step}");
            if history.calls.is_empty() {
                break;
            }
            history = moved(&mut dice, &model, &history);
        }
    }
}

/// What shrinking leaves of a broken history is broken, and no larger.
#[test]
fn shrinking_keeps_it_broken() {
    let model = Register { initial: 0, names: Default::default() };
    let mut broken = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut history = good(&mut dice, &model, 60, 10);
        let at = 30 + dice.below(30) as usize;
        if history.calls[at].ret.is_some() {
            history.calls[at].op = Op::Read(Some(dice.below(3) as u32));
        }
        let judgement = judge(&model, &history, Limits::default());
        if judgement.report.verdict == Verdict::Kept {
            continue;
        }
        broken += 1;
        assert!(!judgement.core.is_empty() && judgement.core.len() <= 60, "seed {seed}");
        assert!(judgement.report.violations[0].operations.len() <= 6, "seed {seed}");
    }
    assert!(broken > 30, "only {broken} were broken");
}
