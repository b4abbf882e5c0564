//! States by number, and where each class of operations leads from each: every step of the model is done once.

use std::hash::{BuildHasher as _, BuildHasherDefault};

use super::Call;
use super::fast::FastMap;
use super::model::{DeadEnd, Model};
use super::task::{NONE, Task};

/// The step has not been tried.
const UNTRIED: u32 = u32::MAX - 1;
/// Up to so many classes, the steps from a state are a row of a table; beyond, most would stay empty.
const ROW_MAX: usize = 64;

/// The states found so far.
pub struct Space<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call<M::Op>],
    states: Vec<M::State>,
    is_dead: Option<DeadEnd<M::State>>,
    heap: usize,
    /// The first state with a hash, and for each state the next with the same.
    by_hash: FastMap<u64, u32>,
    same_hash: Vec<u32>,
    rows: Vec<u32>,
    row: usize,
    steps: FastMap<(u32, u32), u32>,
}

impl<'a, M: Model> Space<'a, M> {
    /// Only the first state, which is number 0.
    pub fn new(model: &'a M, calls: &'a [Call<M::Op>], task: &Task) -> Self {
        let row = if task.classes.len() <= ROW_MAX { task.classes.len() } else { 0 };
        // As many states as there are different operations, more or less.
        let about = task.classes.len();
        let steps = if row > 0 { 0 } else { 2 * about };
        let mut space = Self {
            model,
            calls,
            states: Vec::with_capacity(about),
            is_dead: task.study(model, calls),
            heap: 0,
            by_hash: FastMap::with_capacity_and_hasher(about, BuildHasherDefault::default()),
            same_hash: Vec::with_capacity(about),
            rows: Vec::new(),
            row,
            steps: FastMap::with_capacity_and_hasher(steps, BuildHasherDefault::default()),
        };
        space.number(model.init());
        space
    }

    /// The state with this number.
    pub fn state(&self, number: u32) -> &M::State {
        &self.states[number as usize]
    }

    /// Where an operation of this class leads from a state; [`NONE`] if it is impossible there, or a dead end.
    pub fn step(&mut self, task: &Task, from: u32, class: u32) -> u32 {
        if self.row > 0 {
            let at = from as usize * self.row + class as usize;
            if self.rows[at] == UNTRIED {
                self.rows[at] = self.work_out(task, from, class);
            }
            return self.rows[at];
        }
        if let Some(to) = self.steps.get(&(from, class)) {
            return *to;
        }
        let to = self.work_out(task, from, class);
        self.steps.insert((from, class), to);
        to
    }

    fn work_out(&mut self, task: &Task, from: u32, class: u32) -> u32 {
        let op = &self.calls[task.sample(class)].op;
        let mut state = self.states[from as usize].clone();
        if !self.model.apply(&mut state, op) {
            return NONE;
        }
        if self.is_dead.as_ref().is_some_and(|is_dead| is_dead(&state)) {
            return NONE;
        }
        if task.classes[class as usize].is_pure { from } else { self.number(state) }
    }

    fn number(&mut self, state: M::State) -> u32 {
        let hash = self.by_hash.hasher().hash_one(&state);
        let next = self.states.len() as u32;
        let first = *self.by_hash.entry(hash).or_insert(next);
        let mut at = first;
        while at != next && at != NONE {
            if self.states[at as usize] == state {
                return at;
            }
            at = self.same_hash[at as usize];
        }
        let behind = if first == next { NONE } else { self.same_hash[first as usize] };
        self.heap += self.model.heap(&state);
        self.states.push(state);
        self.same_hash.push(behind);
        if first != next {
            self.same_hash[first as usize] = next;
        }
        self.rows.resize(self.states.len() * self.row, UNTRIED);
        next
    }

    /// Bytes held, more or less.
    pub fn bytes(&self) -> usize {
        self.heap
            + self.states.len() * (size_of::<M::State>() + 24)
            + self.rows.len() * 4
            + self.steps.len() * 16
    }
}
