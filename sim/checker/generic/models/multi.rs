//! Registers that are read and written several at once.

use std::collections::BTreeMap;

use super::Names;
use crate::checker::generic::model::{Footprint, Model};

/// What is done to some registers, at once and in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Op(pub Vec<Part>);

/// What is done to one register; keys and values are numbers in [`MultiRegister`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Reads a key; the value where it is known.
    Read(u32, Option<u32>),
    /// Writes a value to a key.
    Write(u32, u32),
}

/// Any number of registers. What is in one at first is what the first read of it finds.
#[derive(Clone, Debug, Default)]
pub struct MultiRegister {
    /// Names of the keys.
    pub keys: Names,
    /// What the values stand for.
    pub values: Names,
}

impl MultiRegister {
    fn list<'a>(&self, parts: impl Iterator<Item = &'a Part>) -> String {
        let show = |part: &Part| match part {
            Part::Read(key, Some(value)) => {
                format!("read {} → {}", self.keys.show(*key), self.values.show(*value))
            }
            Part::Read(key, None) => format!("read {}", self.keys.show(*key)),
            Part::Write(key, value) => {
                format!("write {} {}", self.keys.show(*key), self.values.show(*value))
            }
        };
        parts.map(show).collect::<Vec<_>>().join(", ")
    }
}

impl Model for MultiRegister {
    type Op = Op;
    /// Values of the keys that were written or read.
    type State = BTreeMap<u32, u32>;

    fn init(&self) -> BTreeMap<u32, u32> {
        BTreeMap::new()
    }

    fn apply(&self, state: &mut BTreeMap<u32, u32>, op: &Op) -> bool {
        let mut after = state.clone();
        for part in &op.0 {
            match part {
                Part::Read(_, None) => {}
                Part::Read(key, Some(value)) => {
                    if *after.entry(*key).or_insert(*value) != *value {
                        return false;
                    }
                }
                Part::Write(key, value) => {
                    after.insert(*key, *value);
                }
            }
        }
        *state = after;
        true
    }

    fn forget(&self, op: &Op) -> Op {
        let forget = |part: &Part| match part {
            Part::Read(key, _) => Part::Read(*key, None),
            Part::Write(key, value) => Part::Write(*key, *value),
        };
        Op(op.0.iter().map(forget).collect())
    }

    fn footprint(&self, op: &Op, keys: &mut Vec<u64>) -> Footprint {
        keys.extend(op.0.iter().map(|part| match part {
            Part::Read(key, _) | Part::Write(key, _) => u64::from(*key),
        }));
        Footprint::Keys
    }

    fn heap(&self, state: &BTreeMap<u32, u32>) -> usize {
        16 * state.len()
    }

    fn noun(&self) -> &'static str {
        "the content of the registers"
    }

    fn show_op(&self, op: &Op) -> String {
        self.list(op.0.iter())
    }

    fn show_state(&self, state: &BTreeMap<u32, u32>) -> String {
        if state.is_empty() {
            return "not known".to_owned();
        }
        let show = |(key, value): (&u32, &u32)| {
            format!("{} = {}", self.keys.show(*key), self.values.show(*value))
        };
        state.iter().map(show).collect::<Vec<_>>().join(", ")
    }

    fn why_not(&self, _state: &BTreeMap<u32, u32>, op: &Op) -> String {
        let reads = op.0.iter().filter(|part| matches!(part, Part::Read(..)));
        format!("it had {}", self.list(reads))
    }
}
