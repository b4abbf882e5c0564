//! A register that is read, written, and compared and set.

use super::Names;
use crate::checker::generic::model::Model;

/// What is done to a register; values are numbers in [`Register::names`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Reads; the value where it is known.
    Read(Option<u32>),
    /// Writes.
    Write(u32),
    /// Writes `to` if the value is `from`; whether it did, where that is known.
    Cas {
        /// The value expected.
        from: u32,
        /// The value written.
        to: u32,
        /// Whether it was.
        done: Option<bool>,
    },
}

impl Op {
    /// The value that it leaves behind, if it changes anything.
    fn makes(&self) -> Option<u32> {
        match self {
            Op::Read(_) | Op::Cas { done: Some(false), .. } => None,
            Op::Write(value) | Op::Cas { to: value, .. } => Some(*value),
        }
    }
}

/// A register with a value from the start.
#[derive(Clone, Debug)]
pub struct Register {
    /// Its first value.
    pub initial: u32,
    /// What the values stand for.
    pub names: Names,
}

impl Model for Register {
    type Op = Op;
    type State = u32;

    fn init(&self) -> u32 {
        self.initial
    }

    fn apply(&self, state: &mut u32, op: &Op) -> bool {
        match op {
            Op::Read(value) => value.is_none_or(|value| value == *state),
            Op::Write(value) => {
                *state = *value;
                true
            }
            Op::Cas { from, to, done } => {
                let is_equal = from == state;
                if done.is_some_and(|done| done != is_equal) {
                    return false;
                }
                if is_equal {
                    *state = *to;
                }
                true
            }
        }
    }

    fn forget(&self, op: &Op) -> Op {
        match op {
            Op::Read(_) => Op::Read(None),
            Op::Write(value) => Op::Write(*value),
            Op::Cas { from, to, .. } => Op::Cas { from: *from, to: *to, done: None },
        }
    }

    fn is_pure(&self, op: &Op) -> bool {
        match op {
            Op::Read(_) => true,
            Op::Write(_) => false,
            Op::Cas { from, to, done } => *done == Some(false) || from == to,
        }
    }

    fn overwrites(&self, op: &Op) -> bool {
        matches!(op, Op::Write(_))
    }

    fn enables(&self, op: &Op, goal: &Op) -> bool {
        let Some(made) = op.makes() else { return false };
        match goal {
            Op::Read(value) => value.is_none_or(|value| value == made),
            Op::Write(_) => true,
            Op::Cas { from, done: Some(false), .. } => *from != made,
            Op::Cas { from, .. } => *from == made,
        }
    }

    fn noun(&self) -> &'static str {
        "the register"
    }

    fn show_op(&self, op: &Op) -> String {
        let name = |value: &u32| self.names.show(*value);
        match op {
            Op::Read(Some(value)) => format!("read → {}", name(value)),
            Op::Read(None) => "read".to_owned(),
            Op::Write(value) => format!("write {}", name(value)),
            Op::Cas { from, to, done } => {
                let end = match done {
                    Some(true) => " → done",
                    Some(false) => " → refused",
                    None => "",
                };
                format!("cas {} to {}{end}", name(from), name(to))
            }
        }
    }

    fn show_state(&self, state: &u32) -> String {
        self.names.show(*state).to_owned()
    }

    fn why_not(&self, _state: &u32, op: &Op) -> String {
        match op {
            Op::Read(Some(value)) => {
                format!("it returned {}", self.names.show(*value))
            }
            Op::Cas { from, done: Some(true), .. } => {
                format!("it found {}", self.names.show(*from))
            }
            Op::Cas { from, .. } => format!("it did not find {}", self.names.show(*from)),
            Op::Read(None) | Op::Write(_) => "it is possible".to_owned(),
        }
    }
}
