//! What a user-defined model has to say: a state, and what each operation does to it.

use std::hash::Hash;

use super::Call;

/// Which part of the state an operation reads or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footprint {
    /// All of it: nothing can be judged apart from this operation.
    Everything,
    /// Only the keys that were added to the list.
    Keys,
}

/// Whether a history cannot be finished from a state.
pub type DeadEnd<S> = Box<dyn Fn(&S) -> bool>;

/// A sequential object that a history is held against.
///
/// Needed are a start, a step, and words. The rest are hints: each default is right for every model, and each
/// hint that is true makes the search shorter. A hint that is false makes it wrong; the tests against brute force
/// are there for that.
pub trait Model {
    /// What was asked and, where it is known, what was answered. Equal operations are interchangeable.
    type Op: Clone + Eq + Hash;
    /// What the object remembers; of one partition only, where [`Model::footprint`] names keys.
    type State: Clone + Eq + Hash;

    /// The object before the first operation.
    fn init(&self) -> Self::State;

    /// Does the operation; `false` if its answer is impossible here, and then `state` is left as it was.
    /// With an unknown answer it is always possible (it may do nothing).
    fn apply(&self, state: &mut Self::State, op: &Self::Op) -> bool;

    /// The same request with an unknown answer.
    fn forget(&self, op: &Self::Op) -> Self::Op;

    /// Whether it changes no state in which it is possible, such as a read.
    fn is_pure(&self, _op: &Self::Op) -> bool {
        false
    }

    /// The keys that it touches, added to the list. Operations on different keys must not influence each other.
    fn footprint(&self, _op: &Self::Op, _keys: &mut Vec<u64>) -> Footprint {
        Footprint::Everything
    }

    /// Whether it is possible in every state and leads from each to the same one.
    fn overwrites(&self, _op: &Self::Op) -> bool {
        false
    }

    /// Whether `op` can be the last change before `goal` is possible.
    fn enables(&self, _op: &Self::Op, _goal: &Self::Op) -> bool {
        true
    }

    /// Whether [`Model::reaches`] ever says no.
    fn looks_ahead(&self) -> bool {
        false
    }

    /// Whether operations that do not overwrite can lead from `state` to one in which `goal`, a pure
    /// operation, is possible.
    fn reaches(&self, _state: &Self::State, _goal: &Self::Op) -> bool {
        true
    }

    /// What the whole history says about states: a test for those from which it cannot be finished.
    fn study(&self, _calls: &[&Call<Self::Op>]) -> Option<DeadEnd<Self::State>> {
        None
    }

    /// Bytes that a state holds beyond its own size, more or less.
    fn heap(&self, _state: &Self::State) -> usize {
        0
    }

    /// What the object is called in a sentence, such as `the register`.
    fn noun(&self) -> &'static str;

    /// An operation with its answer, such as `read → 3`.
    fn show_op(&self, op: &Self::Op) -> String;

    /// A state as the end of "the register is …".
    fn show_state(&self, state: &Self::State) -> String;

    /// What of `op` does not fit `state`, as a clause behind "if the register is 2:", such as `it returned 3`.
    fn why_not(&self, state: &Self::State, op: &Self::Op) -> String;
}
