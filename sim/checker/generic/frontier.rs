//! The plain algorithm: all states that can be, return by return (Lowe's just-in-time linearization, breadth first).
//!
//! It is slow where the [search](super::search) is quick, and shares nothing with it but the model. So it is asked
//! twice: whether a shrunk history is really broken, and which states survive until nothing fits any more.

use std::collections::HashMap;

use super::Call;
use super::model::Model;

/// What came of a history.
pub enum Run<S> {
    /// There is an order.
    Explained,
    /// Everything up to a return can be explained, but not that.
    Fails(Failure<S>),
    /// It would take too long to say.
    TooLong,
}

/// Where a history stops making sense.
pub struct Failure<S> {
    /// Index of the operation whose return nothing explains.
    pub at: usize,
    /// Every state in which all that returned before has its place, each once.
    pub survivors: Vec<Survivor<S>>,
}

/// A state that explains everything up to a return.
pub struct Survivor<S> {
    pub state: S,
    /// The operation that led to it; absent at the start.
    pub last: Option<usize>,
    /// Operations that could come next: under way or with unknown outcome.
    pub open: Vec<usize>,
}

#[derive(Clone)]
struct Configuration<S> {
    state: S,
    /// Operations that have their place but have not returned, ascending.
    done: Vec<usize>,
    /// Spare operations used, ascending.
    used: Vec<usize>,
    last: Option<usize>,
}

/// Configurations of one moment, without those that another makes needless.
struct Layer<S> {
    /// By state and done operations.
    places: HashMap<(S, Vec<usize>), Vec<usize>>,
    list: Vec<Configuration<S>>,
}

impl<S: Clone + Eq + std::hash::Hash> Layer<S> {
    fn new() -> Self {
        Self { places: HashMap::new(), list: Vec::new() }
    }

    /// Adds a configuration unless one is there that used no more.
    fn add(&mut self, configuration: Configuration<S>) {
        let key = (configuration.state.clone(), configuration.done.clone());
        let here = self.places.entry(key).or_default();
        let is_within =
            |small: &[usize], large: &[usize]| small.iter().all(|one| large.contains(one));
        if !here.iter().any(|at| is_within(&self.list[*at].used, &configuration.used)) {
            here.push(self.list.len());
            self.list.push(configuration);
        }
    }
}

/// Runs through the history; `steps` bounds the work.
pub fn run<M: Model>(model: &M, calls: &[Call<M::Op>], mut steps: usize) -> Run<M::State> {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        events.push((call.call, false, index));
        events.extend(call.ret.map(|ret| (ret, true, index)));
    }
    // Calls before returns at the same time: intervals are closed.
    events.sort_unstable();
    let mut open: Vec<usize> = Vec::new();
    let start =
        Configuration { state: model.init(), done: Vec::new(), used: Vec::new(), last: None };
    let mut frontier = vec![start];
    for (_, is_return, index) in events {
        if !is_return {
            open.push(index);
            continue;
        }
        let mut layer = Layer::new();
        for mut configuration in frontier {
            place_pure(model, calls, &open, &mut configuration);
            layer.add(configuration);
        }
        frontier = Vec::new();
        let mut at = 0;
        while at < layer.list.len() {
            let configuration = layer.list[at].clone();
            at += 1;
            if configuration.done.contains(&index) {
                frontier.push(configuration);
                continue;
            }
            for next in successors(model, calls, &open, &configuration) {
                if steps == 0 {
                    return Run::TooLong;
                }
                steps -= 1;
                layer.add(next);
            }
        }
        if frontier.is_empty() {
            return Run::Fails(Failure { at: index, survivors: survivors(&open, layer.list) });
        }
        let mut kept = Layer::new();
        for mut configuration in frontier {
            configuration.done.retain(|done| *done != index);
            kept.add(configuration);
        }
        frontier = kept.list;
        open.retain(|other| *other != index);
    }
    Run::Explained
}

/// Gives a place to everything pure that is possible: it changes nothing for the rest.
fn place_pure<M: Model>(
    model: &M,
    calls: &[Call<M::Op>],
    open: &[usize],
    configuration: &mut Configuration<M::State>,
) {
    for index in open {
        let op = &calls[*index].op;
        let is_done = configuration.done.contains(index);
        if !is_done && model.is_pure(op) && model.apply(&mut configuration.state.clone(), op) {
            configuration.done.push(*index);
        }
    }
    configuration.done.sort_unstable();
}

/// Everything that one more operation can lead to.
fn successors<M: Model>(
    model: &M,
    calls: &[Call<M::Op>],
    open: &[usize],
    configuration: &Configuration<M::State>,
) -> Vec<Configuration<M::State>> {
    let mut next: Vec<Configuration<M::State>> = Vec::new();
    let mut tried: Vec<usize> = Vec::new();
    for index in open {
        let call = &calls[*index];
        if configuration.done.contains(index) || configuration.used.contains(index) {
            continue;
        }
        let is_spare = call.ret.is_none();
        // Of equal spare operations the first is as good as any.
        if is_spare && tried.iter().any(|other| calls[*other].op == call.op) {
            continue;
        }
        let mut after = configuration.clone();
        if !model.apply(&mut after.state, &call.op) {
            continue;
        }
        let changed = after.state != configuration.state;
        if is_spare {
            tried.push(*index);
            if !changed {
                continue;
            }
            after.used.push(*index);
        } else {
            after.done.push(*index);
        }
        if changed {
            after.last = Some(*index);
        }
        place_pure(model, calls, open, &mut after);
        next.push(after);
    }
    next
}

fn survivors<S: Clone + Eq + std::hash::Hash>(
    open: &[usize],
    list: Vec<Configuration<S>>,
) -> Vec<Survivor<S>> {
    let mut places: HashMap<S, usize> = HashMap::new();
    let mut survivors: Vec<Survivor<S>> = Vec::new();
    for Configuration { state, done, used, last } in list {
        let left = open.iter().filter(|index| !done.contains(index) && !used.contains(index));
        let place = *places.entry(state.clone()).or_insert(survivors.len());
        if place == survivors.len() {
            survivors.push(Survivor { state, last, open: left.copied().collect() });
        } else {
            let known = &mut survivors[place].open;
            let more: Vec<usize> = left.copied().filter(|index| !known.contains(index)).collect();
            known.extend(more);
            known.sort_unstable();
        }
    }
    survivors
}
