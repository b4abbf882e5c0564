//! The search for an order of one partition: depth first, with a memory of dead ends (Wing and Gong, Lowe).
//!
//! A *configuration* is what matters of the operations placed so far: how many due operations were passed over or
//! placed (`next`), which of those passed over are still open (`open`, by slot), the state, and which spare
//! operations are used up. The search is done when nothing due is left.
//!
//! What makes it short, each by an argument that no order is lost:
//!
//! 1. *Spare operations* need never be placed, and are tried last, and only where something notices a difference.
//! 2. *Pure operations* are placed as soon as they are possible: moved forward, they change nothing for the rest.
//! 3. *Symmetry*: of equal spare operations only the earliest unused one is tried.
//! 4. *Dominance*: a configuration is dead if one was seen that differs only in having used fewer spares.
//! 5. *Looking ahead*: the operation that must return first must be possible, or something must be able to make it
//!    so; and the next read to return must be reachable from the state, unless something can still overwrite it.
//! 6. *Soonest return first*: what must be placed soon is tried first.
//!
//! Each step of the search is counted, so that it can stop and go on: [`Search::advance`].

use std::hash::BuildHasherDefault;

use super::Call;
use super::bits::Bits;
use super::fast::FastMap;
use super::model::Model;
use super::space::Space;
use super::task::{NONE, Task};

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An order was found.
    Found,
    /// There is no order.
    Refuted,
    /// Neither yet.
    Going,
}

/// A search that can be advanced a bit at a time, whatever its model and the width of its sets.
pub trait Advance {
    /// Looks at so many more configurations, at most.
    fn advance(&mut self, configurations: u64) -> Step;
    /// How many configurations were looked at.
    fn explored(&self) -> u64;
    /// Bytes held, more or less.
    fn bytes(&self) -> usize;
    /// The order found, as indexes in the history.
    fn order(&self) -> Vec<u32>;
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Place<O> {
    next: u32,
    state: u32,
    open: O,
}

#[derive(Clone)]
struct Configuration<O, U> {
    place: Place<O>,
    used: U,
    /// The state before the spare operation that led here, where one did: what is possible there as well, with
    /// the same effect, need not be tried here.
    base: u32,
}

struct Frame<O, U> {
    configuration: Configuration<O, U>,
    /// Length of the order up to here.
    placed: usize,
    /// Where its candidates begin.
    candidates: usize,
}

/// The smallest sets of used spares seen at a place; none contains another.
struct Seen<U> {
    first: U,
    more: Vec<U>,
}

/// A search in one partition; `O` holds slots, `U` spare operations.
pub struct Search<'a, M: Model, O: Bits, U: Bits> {
    model: &'a M,
    calls: &'a [Call<M::Op>],
    task: Task,
    space: Space<'a, M>,
    seen: FastMap<Place<O>, Seen<U>>,
    frames: Vec<Frame<O, U>>,
    /// Due operations by number, then spare groups: the order so far.
    placed: Vec<u32>,
    /// Candidates of all frames, the best of each last.
    candidates: Vec<u32>,
    /// For each slot the last due operation below `at` that has it.
    occupant: Vec<u32>,
    at: usize,
    /// Due operations that could come next, with their returns; scratch.
    ready: Vec<(u64, u32)>,
    /// Spare groups that do not overwrite.
    noticing: Vec<usize>,
    explored: u64,
    /// Sets remembered beside the first of a place.
    extra: usize,
    begun: bool,
    is_found: bool,
}

impl<'a, M: Model, O: Bits, U: Bits> Search<'a, M, O, U> {
    /// A search that has not begun.
    pub fn new(model: &'a M, calls: &'a [Call<M::Op>], task: Task) -> Self {
        let space = Space::new(model, calls, &task);
        let occupant = vec![NONE; task.slots];
        let overwrites =
            |group: &usize| task.classes[task.groups[*group].class as usize].overwrites;
        let noticing = (0..task.groups.len()).filter(|group| !overwrites(group)).collect();
        // An order passes through at least so many configurations: tables that grow are built several times over.
        let least = task.due.len();
        Self {
            model,
            calls,
            space,
            seen: FastMap::with_capacity_and_hasher(least, BuildHasherDefault::default()),
            frames: Vec::with_capacity(least),
            placed: Vec::with_capacity(least),
            candidates: Vec::with_capacity(least),
            occupant,
            at: 0,
            ready: Vec::new(),
            noticing,
            explored: 0,
            extra: 0,
            begun: false,
            is_found: false,
            task,
        }
    }

    /// Moves the slots' occupants to what they are when `next` due operations are passed.
    fn move_to(&mut self, next: usize) {
        while self.at < next {
            self.occupant[self.task.due[self.at].slot as usize] = self.at as u32;
            self.at += 1;
        }
        while self.at > next {
            self.at -= 1;
            let due = self.task.due[self.at];
            self.occupant[due.slot as usize] = due.before;
        }
    }

    /// Places due operation `number`.
    fn place(&mut self, configuration: &mut Configuration<O, U>, number: u32) {
        let place = &mut configuration.place;
        if number < place.next {
            place.open.remove(self.task.due[number as usize].slot as usize);
        } else {
            for passed in place.next..number {
                place.open.insert(self.task.due[passed as usize].slot as usize);
            }
            place.next = number + 1;
        }
        self.placed.push(number);
    }

    /// Places what is pure and possible; leaves the rest of what could come next in `ready`, and answers the
    /// soonest return among it.
    fn settle(&mut self, configuration: &mut Configuration<O, U>) -> u64 {
        self.move_to(configuration.place.next as usize);
        self.ready.clear();
        let state = configuration.place.state;
        let mut soonest = u64::MAX;
        let mut slot = configuration.place.open.next(0);
        while let Some(open) = slot {
            let number = self.occupant[open];
            if !self.place_if_pure(configuration, number, state) {
                let ret = self.task.due[number as usize].ret;
                soonest = soonest.min(ret);
                self.ready.push((ret, number));
            }
            slot = configuration.place.open.next(open + 1);
        }
        let mut number = configuration.place.next;
        while let Some(due) = self.task.due.get(number as usize).copied()
            && due.call <= soonest
        {
            if !self.place_if_pure(configuration, number, state) {
                soonest = soonest.min(due.ret);
                self.ready.push((due.ret, number));
            }
            number += 1;
        }
        self.move_to(configuration.place.next as usize);
        soonest
    }

    fn place_if_pure(
        &mut self,
        configuration: &mut Configuration<O, U>,
        number: u32,
        state: u32,
    ) -> bool {
        let class = self.task.due[number as usize].class;
        let is_pure = self.task.classes[class as usize].is_pure;
        if !is_pure || self.space.step(&self.task, state, class) == NONE {
            return false;
        }
        self.place(configuration, number);
        configuration.base = NONE;
        true
    }

    /// Looks at a configuration: done, dead, or a new frame with its candidates.
    fn enter(&mut self, mut configuration: Configuration<O, U>) {
        self.explored += 1;
        let soonest = self.settle(&mut configuration);
        if self.ready.is_empty() && configuration.place.next as usize == self.task.due.len() {
            self.is_found = true;
            return;
        }
        if !self.remember(&configuration) || self.is_hopeless(&configuration, soonest) {
            return;
        }
        let candidates = self.candidates.len();
        self.add_spares(&configuration, soonest);
        // The best comes last: latest return first.
        self.ready.sort_unstable_by(|one, other| other.cmp(one));
        let Configuration { place: Place { state, .. }, base, .. } = configuration;
        for at in 0..self.ready.len() {
            let number = self.ready[at].1;
            let class = self.task.due[number as usize].class;
            let to = self.space.step(&self.task, state, class);
            let is_idle = base != NONE && self.space.step(&self.task, base, class) == to;
            if to != NONE && !is_idle {
                self.candidates.push(number);
            }
        }
        if self.candidates.len() > candidates {
            self.frames.push(Frame { configuration, placed: self.placed.len(), candidates });
        }
    }

    /// Notes that a configuration is looked at; `false` if one as good was seen before.
    fn remember(&mut self, configuration: &Configuration<O, U>) -> bool {
        let used = &configuration.used;
        let Some(seen) = self.seen.get_mut(&configuration.place) else {
            let seen = Seen { first: used.clone(), more: Vec::new() };
            self.seen.insert(configuration.place.clone(), seen);
            return true;
        };
        if seen.first.is_subset(used) || seen.more.iter().any(|other| other.is_subset(used)) {
            return false;
        }
        seen.more.retain(|other| !used.is_subset(other));
        if used.is_subset(&seen.first) {
            seen.first = used.clone();
        } else {
            seen.more.push(used.clone());
            self.extra += 1;
        }
        true
    }

    /// The next unused operation of a group: its rank in the group, if it was called by `time`.
    fn unused(&self, group: usize, used: &U, time: u64) -> Option<usize> {
        let group = &self.task.groups[group];
        // Used ones come first: halve.
        let (mut rank, mut end) = (0, group.members.len());
        while rank < end {
            let middle = rank.midpoint(end);
            if used.has(group.first + middle) { rank = middle + 1 } else { end = middle }
        }
        (group.members.get(rank)?.0 <= time).then_some(rank)
    }

    /// Whether nothing can make the operation that must return first possible, or the next read reachable.
    fn is_hopeless(&mut self, configuration: &Configuration<O, U>, soonest: u64) -> bool {
        let state = configuration.place.state;
        let goal = self.ready.iter().min().expect("something due is left").1;
        let goal_class = self.task.due[goal as usize].class;
        if self.space.step(&self.task, state, goal_class) == NONE {
            let goal_op = &self.calls[self.task.sample(goal_class)].op;
            let can =
                |class: u32| self.model.enables(&self.calls[self.task.sample(class)].op, goal_op);
            let is_enabled =
                self.ready.iter().any(|(_, number)| can(self.task.due[*number as usize].class))
                    || (0..self.task.groups.len()).any(|group| {
                        self.task.groups[group].until >= soonest
                            && can(self.task.groups[group].class)
                            && self.unused(group, &configuration.used, soonest).is_some()
                    });
            if !is_enabled {
                return true;
            }
        }
        self.model.looks_ahead() && self.is_out_of_reach(configuration)
    }

    fn is_out_of_reach(&self, configuration: &Configuration<O, U>) -> bool {
        let place = &configuration.place;
        let due = |number: u32| &self.task.due[number as usize];
        let is_pure = |number: u32| self.task.classes[due(number).class as usize].is_pure;
        let open = self.ready.iter().filter(|(_, number)| is_pure(*number)).min();
        let mut goal = open.map_or(NONE, |(_, number)| *number);
        let later = self.task.goals[place.next as usize];
        if later != NONE && (goal == NONE || due(later).ret < due(goal).ret) {
            goal = later;
        }
        if goal == NONE {
            return false;
        }
        let goal = due(goal);
        let op = &self.calls[self.task.sample(goal.class)].op;
        if self.model.reaches(self.space.state(place.state), op) {
            return false;
        }
        let overwrites = |class: u32| self.task.classes[class as usize].overwrites;
        let later = self.task.overwriters[place.next as usize];
        let is_overwritten = self.ready.iter().any(|(_, number)| overwrites(due(*number).class))
            || later != NONE && due(later).call <= goal.ret
            || (0..self.task.groups.len()).any(|group| {
                overwrites(self.task.groups[group].class)
                    && self.unused(group, &configuration.used, goal.ret).is_some()
            });
        !is_overwritten
    }

    /// Adds the spare groups that are worth a try.
    fn add_spares(&mut self, configuration: &Configuration<O, U>, soonest: u64) {
        let state = configuration.place.state;
        for group in 0..self.task.groups.len() {
            if self.task.groups[group].members[0].0 > soonest {
                // Groups are in the order of their first calls.
                break;
            }
            if self.task.groups[group].until < soonest {
                continue;
            }
            if self.unused(group, &configuration.used, soonest).is_none() {
                continue;
            }
            let class = self.task.groups[group].class;
            let to = self.space.step(&self.task, state, class);
            let base = configuration.base;
            let is_idle = base != NONE && self.space.step(&self.task, base, class) == to;
            if to != state
                && to != NONE
                && !is_idle
                && self.is_noticed(configuration, soonest, state, to)
            {
                self.candidates.push((self.task.due.len() + group) as u32);
            }
        }
    }

    /// Whether something that could come next is possible at `to`, and leads elsewhere than at `from`.
    fn is_noticed(
        &mut self,
        configuration: &Configuration<O, U>,
        soonest: u64,
        from: u32,
        to: u32,
    ) -> bool {
        for at in 0..self.ready.len() {
            let class = self.task.due[self.ready[at].1 as usize].class;
            if self.task.classes[class as usize].overwrites {
                continue;
            }
            let after = self.space.step(&self.task, to, class);
            if after != NONE && after != self.space.step(&self.task, from, class) {
                return true;
            }
        }
        for at in 0..self.noticing.len() {
            let group = self.noticing[at];
            let class = self.task.groups[group].class;
            if self.unused(group, &configuration.used, soonest).is_none() {
                continue;
            }
            let after = self.space.step(&self.task, to, class);
            if after != NONE && after != to && after != self.space.step(&self.task, from, class) {
                return true;
            }
        }
        false
    }

    /// The configuration after a candidate of the top frame.
    fn follow(&mut self, candidate: u32) -> Configuration<O, U> {
        let frame = self.frames.last().expect("the candidate is a frame's");
        let mut configuration = frame.configuration.clone();
        self.placed.truncate(frame.placed);
        let state = configuration.place.state;
        let due = self.task.due.len();
        if (candidate as usize) < due {
            let class = self.task.due[candidate as usize].class;
            configuration.place.state = self.space.step(&self.task, state, class);
            configuration.base = NONE;
            self.place(&mut configuration, candidate);
        } else {
            let group = candidate as usize - due;
            let rank = self.unused(group, &configuration.used, u64::MAX);
            let Task { groups, .. } = &self.task;
            configuration.used.insert(groups[group].first + rank.expect("a candidate is unused"));
            configuration.place.state = self.space.step(&self.task, state, groups[group].class);
            configuration.base = state;
            self.placed.push(candidate);
        }
        configuration
    }
}

impl<M: Model, O: Bits, U: Bits> Advance for Search<'_, M, O, U> {
    fn advance(&mut self, configurations: u64) -> Step {
        let until = self.explored.saturating_add(configurations);
        if !self.begun {
            self.begun = true;
            let place = Place { next: 0, state: 0, open: O::empty(self.task.slots) };
            self.enter(Configuration { place, used: U::empty(self.task.spares), base: NONE });
        }
        while !self.is_found {
            let Some(frame) = self.frames.last() else { return Step::Refuted };
            if self.candidates.len() == frame.candidates {
                self.frames.pop();
                continue;
            }
            if self.explored >= until {
                return Step::Going;
            }
            let candidate = self.candidates.pop().expect("the frame has candidates left");
            let next = self.follow(candidate);
            self.enter(next);
        }
        Step::Found
    }

    fn explored(&self) -> u64 {
        self.explored
    }

    fn bytes(&self) -> usize {
        let wide = O::empty(self.task.slots).heap() + U::empty(self.task.spares).heap();
        let entry = size_of::<(Place<O>, Seen<U>)>() + 8 + wide;
        let frame = size_of::<Frame<O, U>>() + wide;
        self.seen.len() * entry
            + self.extra * (size_of::<U>() + wide)
            + self.frames.len() * frame
            + (self.placed.len() + self.candidates.len()) * 4
            + self.space.bytes()
    }

    fn order(&self) -> Vec<u32> {
        let mut used = vec![0; self.task.groups.len()];
        let due = self.task.due.len();
        let index = |number: &u32| match self.task.due.get(*number as usize) {
            Some(due) => due.index,
            None => {
                let group = *number as usize - due;
                used[group] += 1;
                self.task.groups[group].members[used[group] - 1].1
            }
        };
        self.placed.iter().map(index).collect()
    }
}
