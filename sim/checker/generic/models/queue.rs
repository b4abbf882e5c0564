//! A queue: first in, first out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Names;
use crate::checker::generic::Call;
use crate::checker::generic::model::{DeadEnd, Model};

/// What is done to a queue; values are numbers in [`Queue::names`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Puts a value at the end.
    Enqueue(u32),
    /// Takes the first value; absent if the answer is not known.
    Dequeue(Option<Taken>),
}

/// What a dequeue got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taken {
    /// Nothing: the queue was empty.
    Nothing,
    /// A value.
    Value(u32),
}

/// A queue that is empty at first.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// What the values stand for.
    pub names: Names,
}

/// Most values that are shown.
const SHOWN: usize = 12;

impl Model for Queue {
    type Op = Op;
    /// Values, first to go first.
    type State = VecDeque<u32>;

    fn init(&self) -> VecDeque<u32> {
        VecDeque::new()
    }

    fn apply(&self, state: &mut VecDeque<u32>, op: &Op) -> bool {
        match op {
            Op::Enqueue(value) => state.push_back(*value),
            Op::Dequeue(taken) => {
                let first = state.front().map_or(Taken::Nothing, |value| Taken::Value(*value));
                if taken.is_some_and(|taken| taken != first) {
                    return false;
                }
                state.pop_front();
            }
        }
        true
    }

    fn forget(&self, op: &Op) -> Op {
        match op {
            Op::Enqueue(value) => Op::Enqueue(*value),
            Op::Dequeue(_) => Op::Dequeue(None),
        }
    }

    fn is_pure(&self, op: &Op) -> bool {
        *op == Op::Dequeue(Some(Taken::Nothing))
    }

    fn enables(&self, op: &Op, goal: &Op) -> bool {
        match (op, goal) {
            (Op::Dequeue(Some(Taken::Nothing)), _) => false,
            (Op::Enqueue(value), Op::Dequeue(Some(taken))) => *taken == Taken::Value(*value),
            _ => true,
        }
    }

    /// Where every value is enqueued once: of two in the queue the first must not be taken after the second.
    fn study(&self, calls: &[&Call<Op>]) -> Option<DeadEnd<VecDeque<u32>>> {
        let mut enqueued: BTreeSet<u32> = BTreeSet::new();
        let mut taken: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for call in calls {
            match &call.op {
                Op::Enqueue(value) if !enqueued.insert(*value) => return None,
                Op::Enqueue(_) | Op::Dequeue(Some(Taken::Nothing)) => {}
                Op::Dequeue(Some(Taken::Value(value))) => {
                    let interval = (call.call, call.ret.unwrap_or(u64::MAX));
                    if taken.insert(*value, interval).is_some() {
                        return None;
                    }
                }
                // It takes nobody knows what.
                Op::Dequeue(None) => return None,
            }
        }
        let interval = move |value: &u32| taken.get(value).copied().unwrap_or((u64::MAX, u64::MAX));
        Some(Box::new(move |queue| {
            // All pairs but those with the last were looked at when there were fewer.
            let Some(last) = queue.back() else { return false };
            let (_, ret) = interval(last);
            queue.iter().any(|value| interval(value).0 > ret)
        }))
    }

    fn heap(&self, state: &VecDeque<u32>) -> usize {
        4 * state.capacity()
    }

    fn noun(&self) -> &'static str {
        "the queue"
    }

    fn show_op(&self, op: &Op) -> String {
        match op {
            Op::Enqueue(value) => format!("enqueue {}", self.names.show(*value)),
            Op::Dequeue(Some(Taken::Value(value))) => {
                format!("dequeue → {}", self.names.show(*value))
            }
            Op::Dequeue(Some(Taken::Nothing)) => "dequeue → nothing".to_owned(),
            Op::Dequeue(None) => "dequeue".to_owned(),
        }
    }

    fn show_state(&self, state: &VecDeque<u32>) -> String {
        if state.is_empty() {
            return "empty".to_owned();
        }
        let mut names: Vec<&str> =
            state.iter().take(SHOWN).map(|value| self.names.show(*value)).collect();
        let more = format!("… {} in all", state.len());
        if state.len() > SHOWN {
            names.push(&more);
        }
        format!("[{}]", names.join(" "))
    }

    fn why_not(&self, _state: &VecDeque<u32>, op: &Op) -> String {
        let got = match op {
            Op::Dequeue(Some(Taken::Value(value))) => self.names.show(*value),
            _ => "nothing",
        };
        format!("it got {got}")
    }
}
