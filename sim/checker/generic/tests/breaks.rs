//! Good histories of every object, one operation after the other, broken in known ways: each is caught and named.
//!
//! Without overlaps there is one order, so a plain replay says whether a break breaks anything.

use super::brute::cases;
use super::dice::{self, Dice};
use crate::checker::Verdict;
use crate::checker::generic::model::Model;
use crate::checker::generic::models::{kv, lock, multi, queue, register, set};
use crate::checker::generic::{Call, History, Limits, judge};

/// The rule that all of them must name.
pub(in crate::checker) const RULE: &str = "linearizability";

/// Operations in a good history.
const LENGTH: usize = 30;

/// Breaks a history; `None` where it has no place to break.
type Break<O> = fn(&mut Dice, &mut Vec<O>, &mut dyn FnMut(&mut Dice) -> O) -> Option<()>;

/// Whether each operation in turn is possible; `slot` says which state it is done to.
fn replays<M: Model>(model: &M, slot: fn(&M::Op) -> u32, ops: &[M::Op]) -> bool {
    let mut states = vec![model.init(); 4];
    ops.iter().all(|op| model.apply(&mut states[slot(op) as usize], op))
}

/// Random operations, those left out that would be impossible.
fn good<M: Model>(
    model: &M,
    slot: fn(&M::Op) -> u32,
    dice: &mut Dice,
    make: &mut dyn FnMut(&mut Dice) -> M::Op,
) -> Vec<M::Op> {
    let mut states = vec![model.init(); 4];
    let mut ops = Vec::new();
    while ops.len() < LENGTH {
        let op = make(dice);
        let mut next = states[slot(&op) as usize].clone();
        if model.apply(&mut next, &op) {
            states[slot(&op) as usize] = next;
            ops.push(op);
        }
    }
    ops
}

fn in_turn<O>(ops: Vec<O>) -> History<O> {
    let call = |(number, op)| {
        let number = number as u64;
        let (call, ret) = (10 * number, Some(10 * number + 5));
        Call { number, process: 0, call, ret, lines: (0, 0), op }
    };
    let calls = ops.into_iter().enumerate().map(call).collect();
    History { calls, processes: vec!["p".to_owned()] }
}

/// Breaks good histories of one object and prints the score of each kind of break.
fn check<M: Model>(
    (name, seeds): (&str, u64),
    model: &M,
    slot: fn(&M::Op) -> u32,
    mut make: impl FnMut(&mut Dice) -> M::Op,
) {
    let breaks: [(&str, Break<M::Op>); 3] = [
        ("another operation, or another answer", |dice, ops, make| {
            let at = dice.below(ops.len() as u64) as usize;
            ops[at] = make(dice);
            Some(())
        }),
        ("an acknowledged operation that did nothing", |dice, ops, _| {
            let at = dice.below(ops.len() as u64) as usize;
            ops.remove(at);
            Some(())
        }),
        ("an answer from before the last operation", |dice, ops, _| {
            let at = 1 + dice.below(ops.len() as u64 - 1) as usize;
            ops.swap(at - 1, at);
            Some(())
        }),
    ];
    for (what, break_it) in breaks {
        let (mut made, mut named) = (0, 0);
        for seed in 0..cases(seeds) {
            let mut dice = Dice(seed);
            let mut ops = good(model, slot, &mut dice, &mut make);
            let whole = ops.clone();
            if break_it(&mut dice, &mut ops, &mut make).is_none() || replays(model, slot, &ops) {
                continue;
            }
            let kept = judge(model, &in_turn(whole), Limits::default());
            assert_eq!(kept.report.verdict, Verdict::Kept, "{name}, seed {seed}");
            made += 1;
            let broken = judge(model, &in_turn(ops), Limits::default()).report;
            named += u32::from(broken.violations.iter().any(|one| one.rule == RULE));
        }
        println!("{named:5} of {made:5} caught and named {RULE}: {name}, {what}");
        assert!(made >= 20 && named == made, "{name}, {what}: {named} of {made}");
    }
}

/// Every object there is.
#[test]
fn breaks_are_caught_and_named() {
    let register = register::Register { initial: 0, names: Default::default() };
    check(("register", 300), &register, |_| 0, |dice| dice::register(dice, false, 3, 0));
    check(
        ("register with compare-and-set", 300),
        &register,
        |_| 0,
        |dice| dice::register(dice, false, 3, 50),
    );
    check(("text", 4_000), &kv::Kv::default(), |op| op.key, |dice| dice::kv(dice, false, 4));
    check(("set", 300), &set::Set::default(), |_| 0, |dice| dice::set(dice, false, 3));
    check(("queue", 300), &queue::Queue::default(), |_| 0, |dice| dice::queue(dice, false, 3));
    check(("lock", 300), &lock::Lock, |op| op.lock, |dice| dice::lock(dice, false));
    check(
        ("linked registers", 300),
        &multi::MultiRegister::default(),
        |_| 0,
        |dice| dice::multi(dice, false, 3),
    );
}
