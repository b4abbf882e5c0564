//! Small random histories of each kind of object, about half of them impossible.

use crate::checker::generic::models::{kv, lock, multi, queue, register, set};
use crate::checker::generic::{Call, History};

/// Repeatable dice.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `below`.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn told(&mut self) -> Option<bool> {
        [None, Some(true), Some(false)][self.below(3) as usize]
    }
}

/// The shape of a random history.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// How many operations.
    pub operations: u64,
    /// How many different values.
    pub values: u64,
    /// How long operations take, against the time between calls.
    pub length: u64,
    /// How many of a hundred have an unknown outcome.
    pub unknown: u64,
    /// Whether moments coincide.
    pub ties: bool,
}

impl Shape {
    /// One of many shapes.
    pub fn random(dice: &mut Dice) -> Self {
        Self {
            operations: 2 + dice.below(6),
            values: 1 + dice.below(4),
            length: 1 + dice.below(6),
            unknown: [0, 20, 60][dice.below(3) as usize],
            ties: dice.chance(20),
        }
    }
}

/// A history of operations that `op` makes.
pub fn history<O: Clone>(
    dice: &mut Dice,
    shape: Shape,
    mut op: impl FnMut(&mut Dice, bool) -> O,
) -> History<O> {
    let scale = if shape.ties { 1 } else { 1_000 };
    let mut calls: Vec<Call<O>> = Vec::new();
    for number in 0..shape.operations {
        let call = number * scale + if shape.ties { 0 } else { dice.below(scale) };
        let unknown = dice.chance(shape.unknown);
        let length = dice.below(shape.length * scale) + u64::from(!shape.ties);
        let ret = (!unknown).then_some(call + length);
        let op = op(dice, unknown);
        calls.push(Call { number, process: 0, call, ret, lines: (0, 0), op });
    }
    History { calls, processes: vec!["p".to_owned()] }
}

/// An operation on a register; `cas` in so many of a hundred.
pub fn register(dice: &mut Dice, unknown: bool, values: u64, cas: u64) -> register::Op {
    let value = dice.below(values) as u32;
    if dice.chance(cas) {
        let done = if unknown { None } else { Some(dice.chance(50)) };
        return register::Op::Cas { from: value, to: dice.below(values) as u32, done };
    }
    match dice.below(2) {
        0 => register::Op::Write(value),
        _ => register::Op::Read((!unknown).then_some(value)),
    }
}

/// An operation on one of two keys.
pub fn kv(dice: &mut Dice, unknown: bool, values: u64) -> kv::Op {
    let piece = |dice: &mut Dice| ["a", "b", "ab", "c"][dice.below(values.min(4)) as usize];
    let key = dice.below(2) as u32;
    let ask = match dice.below(4) {
        0 => kv::Ask::Put(piece(dice).into()),
        1 | 2 => kv::Ask::Append(piece(dice).into()),
        _ if unknown => kv::Ask::Get(None),
        _ => {
            let pieces: Vec<&str> = (0..dice.below(4)).map(|_| piece(dice)).collect();
            kv::Ask::Get(Some(pieces.concat().as_str().into()))
        }
    };
    kv::Op { key, ask }
}

/// An operation on a set.
pub fn set(dice: &mut Dice, unknown: bool, values: u64) -> set::Op {
    let element = dice.below(values) as u32;
    let told = if unknown { None } else { dice.told() };
    match dice.below(8) {
        0..3 => set::Op::Add(element, told),
        3 | 4 => set::Op::Remove(element, told),
        5 | 6 => set::Op::Contains(element, if unknown { None } else { Some(dice.chance(50)) }),
        _ => {
            let all = (0..values as u32).filter(|_| dice.chance(50)).collect();
            set::Op::Read((!unknown).then_some(all))
        }
    }
}

/// An operation on a queue.
pub fn queue(dice: &mut Dice, unknown: bool, values: u64) -> queue::Op {
    let value = dice.below(values) as u32;
    match dice.below(5) {
        0 | 1 => queue::Op::Enqueue(value),
        _ if unknown => queue::Op::Dequeue(None),
        2 => queue::Op::Dequeue(Some(queue::Taken::Nothing)),
        _ => queue::Op::Dequeue(Some(queue::Taken::Value(value))),
    }
}

/// An operation on one of two locks.
pub fn lock(dice: &mut Dice, unknown: bool) -> lock::Op {
    let ask = if dice.chance(50) { lock::Ask::Acquire } else { lock::Ask::Release };
    let granted = if unknown { None } else { Some(dice.chance(60)) };
    lock::Op { lock: dice.below(2) as u32, ask, granted }
}

/// One or two reads and writes of three registers.
pub fn multi(dice: &mut Dice, unknown: bool, values: u64) -> multi::Op {
    let parts = (0..1 + dice.below(2)).map(|_| {
        let (key, value) = (dice.below(3) as u32, dice.below(values) as u32);
        match dice.chance(50) {
            true => multi::Part::Write(key, value),
            false => multi::Part::Read(key, (!unknown).then_some(value)),
        }
    });
    multi::Op(parts.collect())
}
