//! Tiny histories of every object, against every order that there is: no difference, either way.

use super::dice::{self, Dice, Shape};
use crate::checker::Verdict;
use crate::checker::generic::model::{Footprint, Model};
use crate::checker::generic::models::{kv, lock, multi, queue, register, set};
use crate::checker::generic::{Call, History, Limits, judge};

/// Whether some order of all operations that returned, and of some others, explains every answer; `keys` says
/// which state each operation is done to.
fn has_order<M: Model>(
    model: &M,
    calls: &[Call<M::Op>],
    keys: &[usize],
    placed: u32,
    states: &mut Vec<M::State>,
) -> bool {
    let is_left = |at: usize| placed & (1 << at) == 0;
    let due = |at: &usize| is_left(*at) && calls[*at].ret.is_some();
    let Some(soonest) = (0..calls.len()).filter(due).filter_map(|at| calls[at].ret).min() else {
        return true;
    };
    (0..calls.len()).any(|at| {
        if !is_left(at) || calls[at].call > soonest {
            return false;
        }
        let before = states[keys[at]].clone();
        let found = model.apply(&mut states[keys[at]], &calls[at].op)
            && has_order(model, calls, keys, placed | 1 << at, states);
        states[keys[at]] = before;
        found
    })
}

/// A state for each key where operations touch one key each, else one for all.
fn keys<M: Model>(model: &M, calls: &[Call<M::Op>]) -> Vec<usize> {
    let key = |call: &Call<M::Op>| {
        let mut keys = Vec::new();
        let footprint = model.footprint(&call.op, &mut keys);
        (footprint == Footprint::Keys && keys.len() == 1).then(|| keys[0] as usize)
    };
    let single: Option<Vec<usize>> = calls.iter().map(key).collect();
    single.unwrap_or_else(|| vec![0; calls.len()])
}

/// Judges `cases` random histories both ways; answers how many had an order.
fn check<M: Model>(
    model: &M,
    cases: u64,
    mut make: impl FnMut(&mut Dice, Shape) -> History<M::Op>,
) {
    let mut verdicts = [0_u64; 2];
    for seed in 0..cases {
        let mut dice = Dice(seed);
        let shape = Shape::random(&mut dice);
        let history = make(&mut dice, shape);
        let keys = keys(model, &history.calls);
        let mut states = vec![model.init(); keys.iter().max().map_or(0, |key| key + 1)];
        let expected = has_order(model, &history.calls, &keys, 0, &mut states);
        let judgement = judge(model, &history, Limits::default());
        let shown: Vec<String> = history
            .calls
            .iter()
            .map(|call| format!("{} {:?}: {}", call.call, call.ret, model.show_op(&call.op)))
            .collect();
        let wanted = if expected { Verdict::Kept } else { Verdict::Broken };
        assert_eq!(judgement.report.verdict, wanted, "seed {seed}\n{}", shown.join("\n"));
        verdicts[usize::from(expected)] += 1;
    }
    println!("{cases} histories: {} with an order, {} without", verdicts[1], verdicts[0]);
    assert!(verdicts.iter().all(|count| *count > cases / 20), "both kinds: {verdicts:?}");
}

/// Histories for each kind; other numbers by `BRUTE_CASES=…`.
pub(super) fn cases(usual: u64) -> u64 {
    std::env::var("BRUTE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// A register, without and with compare-and-set: 200,000 histories.
#[test]
fn registers() {
    let model = register::Register { initial: 0, names: Default::default() };
    for cas in [0, 30, 60] {
        check(&model, cases(70_000), |dice, shape| {
            dice::history(dice, shape, |dice, unknown| {
                dice::register(dice, unknown, shape.values, cas)
            })
        });
    }
}

/// Keys with text.
#[test]
fn texts() {
    check(&kv::Kv::default(), cases(30_000), |dice, shape| {
        dice::history(dice, shape, |dice, unknown| dice::kv(dice, unknown, shape.values))
    });
}

/// Sets, with and without reads of all.
#[test]
fn sets() {
    check(&set::Set::default(), cases(30_000), |dice, shape| {
        dice::history(dice, shape, |dice, unknown| dice::set(dice, unknown, shape.values))
    });
}

/// Queues.
#[test]
fn queues() {
    check(&queue::Queue::default(), cases(30_000), |dice, shape| {
        dice::history(dice, shape, |dice, unknown| dice::queue(dice, unknown, shape.values))
    });
}

/// Locks.
#[test]
fn locks() {
    check(&lock::Lock, cases(20_000), |dice, shape| dice::history(dice, shape, dice::lock));
}

/// Several registers at once: partitions that operations link.
#[test]
fn linked_registers() {
    check(&multi::MultiRegister::default(), cases(30_000), |dice, shape| {
        dice::history(dice, shape, |dice, unknown| dice::multi(dice, unknown, shape.values))
    });
}
