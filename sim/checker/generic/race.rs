//! All partitions at once, each with the same growing budget: one that is easily refuted must not wait for a hard one.

use super::bits::Wide;
use super::model::Model;
use super::search::{Advance, Search, Step};
use super::task::Task;
use super::{Call, Limits};

/// Configurations that each partition gets in the first round.
const FIRST_ROUND: u64 = 1_000;
/// How much more it gets in each further one.
const GROWTH: u64 = 8;

/// How a race ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// An order for each partition, as indexes in the history.
    Found(Vec<Vec<u32>>),
    /// This partition has none.
    Refuted(usize),
    /// The limits were reached.
    Spent,
}

/// Searches all partitions; answers how it ended and how many configurations were looked at.
pub fn race<M: Model>(
    model: &M,
    calls: &[Call<M::Op>],
    parts: &[Vec<u32>],
    limits: Limits,
) -> (End, u64) {
    let mut orders: Vec<Vec<u32>> = vec![Vec::new(); parts.len()];
    let mut running: Vec<(usize, Box<dyn Advance + '_>)> = Vec::new();
    let (mut finished, mut explored, mut bytes) = (0, 0, 0);
    let mut round = FIRST_ROUND;
    for (part, indexes) in parts.iter().enumerate() {
        let mut search = start(model, calls, indexes);
        match search.advance(round) {
            Step::Found => orders[part] = search.order(),
            Step::Refuted => return (End::Refuted(part), finished + search.explored()),
            Step::Going => {
                bytes += search.bytes();
                explored += search.explored();
                running.push((part, search));
                if explored + finished >= limits.configurations || bytes >= limits.bytes {
                    return (End::Spent, explored + finished);
                }
                continue;
            }
        }
        finished += search.explored();
    }
    while !running.is_empty() {
        round = round.saturating_mul(GROWTH);
        let mut left = Vec::with_capacity(running.len());
        let all: u64 = running.iter().map(|(_, search)| search.explored()).sum();
        let mut left_over = limits.configurations.saturating_sub(finished + all);
        let mut room = limits.bytes.saturating_sub(running.iter().map(|(_, s)| s.bytes()).sum());
        for (part, mut search) in running {
            let before = (search.explored(), search.bytes());
            let step = advance_within(&mut *search, round, left_over, room);
            left_over = left_over.saturating_sub(search.explored() - before.0);
            room = room.saturating_sub(search.bytes().saturating_sub(before.1));
            match step {
                Step::Found => {
                    orders[part] = search.order();
                    finished += search.explored();
                }
                Step::Refuted => {
                    return (End::Refuted(part), limits.configurations - left_over);
                }
                Step::Going => left.push((part, search)),
            }
        }
        if !left.is_empty() && (left_over == 0 || room == 0) {
            return (End::Spent, limits.configurations - left_over);
        }
        running = left;
    }
    (End::Found(orders), finished)
}

/// Steps between two looks at the memory.
const STRIDE: u64 = 1 << 16;

/// Advances until `round` configurations in all, `left_over` more, or about `room` more bytes.
fn advance_within(search: &mut dyn Advance, round: u64, left_over: u64, room: usize) -> Step {
    let bytes = search.bytes().saturating_add(room);
    let mut more = round.saturating_sub(search.explored()).min(left_over);
    let mut step = Step::Going;
    while step == Step::Going && more > 0 && search.bytes() < bytes {
        step = search.advance(more.min(STRIDE));
        more = more.saturating_sub(STRIDE);
    }
    step
}

/// A search with sets as narrow as the partition allows.
fn start<'a, M: Model>(
    model: &'a M,
    calls: &'a [Call<M::Op>],
    part: &[u32],
) -> Box<dyn Advance + 'a> {
    let task = Task::new(model, calls, part);
    match (task.slots <= 64, task.spares <= 64) {
        (true, true) => Box::new(Search::<M, u64, u64>::new(model, calls, task)),
        (true, false) => Box::new(Search::<M, u64, Wide>::new(model, calls, task)),
        (false, true) => Box::new(Search::<M, Wide, u64>::new(model, calls, task)),
        (false, false) => Box::new(Search::<M, Wide, Wide>::new(model, calls, task)),
    }
}

/// One order for the whole history from one for each partition.
///
/// Each operation takes effect at the latest call up to it in its own order, which is before its return; sorting
/// by these moments keeps each order and respects real time (locality of linearizability).
pub fn merge<O>(calls: &[Call<O>], orders: &[Vec<u32>]) -> Vec<u32> {
    if let [order] = orders {
        return order.clone();
    }
    let mut moments: Vec<(u64, u32)> = Vec::with_capacity(calls.len());
    for order in orders {
        let mut moment = 0;
        for index in order {
            moment = calls[*index as usize].call.max(moment);
            moments.push((moment, *index));
        }
    }
    moments.sort_by_key(|(moment, _)| *moment);
    moments.into_iter().map(|(_, index)| index).collect()
}
