//! One partition made ready for the search: operations in the order of calls, classes of equal ones, slots.
//!
//! * *Due* operations have returned, so they must be in the order. Those with an unknown outcome are *spare*: they
//!   may be in it, from their call on. Pure ones among the spare are left out: they explain nothing.
//! * Each due operation has a *slot* that no operation has that is under way at the same time. So a set of
//!   operations that are under way is a set of slots, as small as the concurrency, however long an operation takes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Call;
use super::fast::FastMap;
use super::model::{DeadEnd, Model};

/// No operation, no state.
pub const NONE: u32 = u32::MAX;

/// A due operation.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub call: u64,
    pub ret: u64,
    pub class: u32,
    pub slot: u32,
    /// The due operation that had the slot before.
    pub before: u32,
    /// Index in the history.
    pub index: u32,
}

/// What operations of one kind have in common.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// Index in the history of one of them.
    pub index: u32,
    pub is_pure: bool,
    pub overwrites: bool,
}

/// Equal spare operations, earliest call first: of those not used the first is as good as any.
#[derive(Clone, Debug)]
pub struct Group {
    pub class: u32,
    /// Number of the first among all spare operations.
    pub first: usize,
    /// The last moment at which something can notice that one was used.
    pub until: u64,
    /// Calls and indexes in the history.
    pub members: Vec<(u64, u32)>,
}

/// One partition.
pub struct Task {
    pub due: Vec<Due>,
    pub groups: Vec<Group>,
    pub classes: Vec<Class>,
    /// How many slots there are: the concurrency.
    pub slots: usize,
    /// How many spare operations there are.
    pub spares: usize,
    /// For each number of due operations: of those from there on, the pure one that returns first.
    pub goals: Vec<u32>,
    /// For each number of due operations: of those from there on, the overwriting one that is called first.
    pub overwriters: Vec<u32>,
}

impl Task {
    /// Prepares the operations with these indexes.
    pub fn new<M: Model>(model: &M, calls: &[Call<M::Op>], part: &[u32]) -> Self {
        let mut classes = Classes { numbers: FastMap::default(), list: Vec::new() };
        let mut due = Vec::with_capacity(part.len());
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of: FastMap<u32, usize> = FastMap::default();
        let mut order: Vec<u32> = part.to_vec();
        if !order.is_sorted_by_key(|index| calls[*index as usize].call) {
            order.sort_by_key(|index| calls[*index as usize].call);
        }
        for index in order {
            let Call { call, ret, op, .. } = &calls[index as usize];
            match ret {
                Some(ret) => {
                    let class = classes.number(model, op, index);
                    due.push(Due { call: *call, ret: *ret, class, slot: 0, before: NONE, index });
                }
                None if model.is_pure(op) => {}
                None => {
                    let class = classes.number(model, op, index);
                    let group = *group_of.entry(class).or_insert(groups.len());
                    if group == groups.len() {
                        groups.push(Group {
                            class,
                            first: 0,
                            until: u64::MAX,
                            members: Vec::new(),
                        });
                    }
                    groups[group].members.push((*call, index));
                }
            }
        }
        let classes = classes.list;
        drop_useless(model, calls, &due, &classes, &mut groups);
        let mut spares = 0;
        for group in &mut groups {
            group.first = spares;
            spares += group.members.len();
        }
        let slots = give_slots(&mut due);
        let (goals, overwriters) =
            if model.looks_ahead() { look_ahead(&due, &classes) } else { (Vec::new(), Vec::new()) };
        Self { due, groups, classes, slots, spares, goals, overwriters }
    }

    /// What the model says about dead ends, given all operations of the partition.
    pub fn study<M: Model>(&self, model: &M, calls: &[Call<M::Op>]) -> Option<DeadEnd<M::State>> {
        let due = self.due.iter().map(|due| due.index);
        let spare = self.groups.iter().flat_map(|group| &group.members).map(|member| member.1);
        let all: Vec<&Call<M::Op>> = due.chain(spare).map(|index| &calls[index as usize]).collect();
        model.study(&all)
    }

    /// Index in the history of a member of this class.
    pub fn sample(&self, class: u32) -> usize {
        self.classes[class as usize].index as usize
    }
}

struct Classes<'a, O> {
    numbers: FastMap<&'a O, u32>,
    list: Vec<Class>,
}

impl<'a, O: Eq + std::hash::Hash> Classes<'a, O> {
    fn number<M: Model<Op = O>>(&mut self, model: &M, op: &'a O, index: u32) -> u32 {
        let next = self.list.len() as u32;
        let number = *self.numbers.entry(op).or_insert(next);
        if number == next {
            let (is_pure, overwrites) = (model.is_pure(op), model.overwrites(op));
            self.list.push(Class { index, is_pure, overwrites });
        }
        number
    }
}

/// Most pairs that are looked at to find spare operations that nobody can have noticed.
const PAIRS_MAX: usize = 200_000_000;

/// Leaves out overwriting spare operations that make nothing possible: neither anything due that returned after
/// their call, nor anything spare. Whatever order has one of them is as good without it.
fn drop_useless<M: Model>(
    model: &M,
    calls: &[Call<M::Op>],
    due: &[Due],
    classes: &[Class],
    groups: &mut Vec<Group>,
) {
    let mut last_return = vec![None; classes.len()];
    for one in due {
        let last: &mut Option<u64> = &mut last_return[one.class as usize];
        *last = (*last).max(Some(one.ret));
    }
    // What can notice a difference: classes that do not overwrite, with the time until which they can.
    let mut noticing: Vec<(u32, u64)> = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        let is_spare = groups.iter().any(|group| group.class == number as u32);
        let until = if is_spare { Some(u64::MAX) } else { last_return[number] };
        if let (false, Some(until)) = (class.overwrites, until) {
            noticing.push((number as u32, until));
        }
    }
    if noticing.len() * groups.len() > PAIRS_MAX {
        return;
    }
    let op = |class: u32| &calls[classes[class as usize].index as usize].op;
    groups.retain_mut(|group| {
        if !classes[group.class as usize].overwrites {
            return true;
        }
        let maker = op(group.class);
        let enabled = noticing.iter().filter(|(class, until)| {
            *until >= group.members[0].0 && model.enables(maker, op(*class))
        });
        let until = enabled.map(|(_, until)| *until).max();
        group.until = until.unwrap_or_default();
        until.is_some()
    });
}

/// Gives each operation the lowest slot that is free at its call; answers how many there are.
fn give_slots(due: &mut [Due]) -> usize {
    let mut busy: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
    let mut free: BinaryHeap<Reverse<u32>> = BinaryHeap::new();
    let mut last: Vec<u32> = Vec::new();
    for (number, one) in due.iter_mut().enumerate() {
        while let Some(Reverse((ret, slot))) = busy.peek().copied() {
            if ret >= one.call {
                break;
            }
            busy.pop();
            free.push(Reverse(slot));
        }
        one.slot = match free.pop() {
            Some(Reverse(slot)) => slot,
            None => {
                last.push(NONE);
                last.len() as u32 - 1
            }
        };
        one.before = std::mem::replace(&mut last[one.slot as usize], number as u32);
        busy.push(Reverse((one.ret, one.slot)));
    }
    last.len()
}

fn look_ahead(due: &[Due], classes: &[Class]) -> (Vec<u32>, Vec<u32>) {
    let mut goals = vec![NONE; due.len() + 1];
    let mut overwriters = vec![NONE; due.len() + 1];
    for (number, one) in due.iter().enumerate().rev() {
        let class = classes[one.class as usize];
        let later = goals[number + 1];
        let is_sooner = later == NONE || one.ret < due[later as usize].ret;
        goals[number] = if class.is_pure && is_sooner { number as u32 } else { later };
        overwriters[number] =
            if class.overwrites { number as u32 } else { overwriters[number + 1] };
    }
    (goals, overwriters)
}
