//! A lock that one at a time can hold; it does not know who.

use crate::checker::generic::model::{Footprint, Model};

/// What is done to a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Op {
    /// Which lock; a number.
    pub lock: u32,
    /// What is asked.
    pub ask: Ask,
    /// Whether it was granted; absent if that is not known.
    pub granted: Option<bool>,
}

/// What is asked of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// To hold it from now on.
    Acquire,
    /// To hold it no longer.
    Release,
}

/// Any number of locks, all free at first.
#[derive(Clone, Debug, Default)]
pub struct Lock;

impl Model for Lock {
    type Op = Op;
    /// Whether it is held.
    type State = bool;

    fn init(&self) -> bool {
        false
    }

    fn apply(&self, held: &mut bool, op: &Op) -> bool {
        let wanted = op.ask == Ask::Acquire;
        let is_possible = *held != wanted;
        if op.granted.is_some_and(|granted| granted != is_possible) {
            return false;
        }
        *held = wanted;
        true
    }

    fn forget(&self, op: &Op) -> Op {
        Op { granted: None, ..op.clone() }
    }

    fn is_pure(&self, op: &Op) -> bool {
        op.granted == Some(false)
    }

    fn footprint(&self, op: &Op, keys: &mut Vec<u64>) -> Footprint {
        keys.push(u64::from(op.lock));
        Footprint::Keys
    }

    fn enables(&self, op: &Op, goal: &Op) -> bool {
        // A grant wants the opposite before it; a refusal wants the same.
        let is_same = op.ask == goal.ask;
        op.granted != Some(false) && is_same == (goal.granted == Some(false))
    }

    fn noun(&self) -> &'static str {
        "the lock"
    }

    fn show_op(&self, op: &Op) -> String {
        let ask = match op.ask {
            Ask::Acquire => "acquire",
            Ask::Release => "release",
        };
        match op.granted {
            Some(true) => format!("{ask} → granted"),
            Some(false) => format!("{ask} → refused"),
            None => ask.to_owned(),
        }
    }

    fn show_state(&self, held: &bool) -> String {
        if *held { "held" } else { "free" }.to_owned()
    }

    fn why_not(&self, _held: &bool, op: &Op) -> String {
        format!("it was {}", if op.granted == Some(true) { "granted" } else { "refused" })
    }
}
