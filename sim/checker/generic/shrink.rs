//! Makes a broken history small, by moves that can never break a good one.
//!
//! If a history has an order, so has the history after each of these moves; so whatever is broken after them was
//! broken before:
//!
//! * leave out the operations of other partitions;
//! * end the history earlier: what is under way then has an unknown outcome;
//! * leave out a pure operation;
//! * turn an operation into one of unknown outcome;
//! * let an operation begin earlier or return later.
//!
//! Leaving out a write is not among them: the reads of its value would break.

use super::model::Model;
use super::race::{End, race};
use super::{Call, Limits};

/// Configurations for one question whether a history is still broken.
const QUESTION: Limits = Limits { configurations: 2_000, bytes: 64 << 20, explain: false };
/// Configurations for all questions together, however large the history.
const ALL_QUESTIONS: u64 = 60_000;
/// Operations looked at by all questions together: each costs something even before the first configuration.
const ALL_OPERATIONS: usize = 200_000;

/// Asks whether histories are broken, as long as the budget lasts.
struct Asker<'a, M> {
    model: &'a M,
    configurations: u64,
    operations: usize,
}

impl<M: Model> Asker<'_, M> {
    fn is_broken(&mut self, calls: &[Call<M::Op>]) -> bool {
        if self.configurations == 0 || self.operations < calls.len() {
            return false;
        }
        let part = (0..calls.len() as u32).collect();
        let (end, explored) = race(self.model, calls, &[part], QUESTION);
        self.configurations = self.configurations.saturating_sub(explored);
        self.operations -= calls.len();
        matches!(end, End::Refuted(_))
    }
}

/// A smaller history of one partition that is broken as well; the same where nothing smaller was found.
pub fn shrink<M: Model>(model: &M, calls: Vec<Call<M::Op>>) -> Vec<Call<M::Op>> {
    let mut asker = Asker { model, configurations: ALL_QUESTIONS, operations: ALL_OPERATIONS };
    let mut calls = shortest_prefix(&mut asker, calls);
    loop {
        let before = weight(&calls);
        calls = weaken_chunks(&mut asker, calls);
        if weight(&calls) == before {
            break;
        }
    }
    widen(&mut asker, calls)
}

/// How much a history says: its operations, those with a known outcome twice.
fn weight<O>(calls: &[Call<O>]) -> usize {
    calls.len() + calls.iter().filter(|call| call.ret.is_some()).count()
}

/// The history as it was known at a time.
pub fn until<M: Model>(model: &M, calls: &[Call<M::Op>], time: u64) -> Vec<Call<M::Op>> {
    let begun = calls.iter().filter(|call| call.call <= time);
    let seen = begun.filter_map(|call| match call.ret {
        Some(ret) if ret > time => forget(model, call),
        _ => Some(call.clone()),
    });
    seen.collect()
}

/// The call with an unknown outcome; `None` if it then says nothing.
fn forget<M: Model>(model: &M, call: &Call<M::Op>) -> Option<Call<M::Op>> {
    let is_pure = model.is_pure(&call.op);
    (!is_pure).then(|| Call { ret: None, op: model.forget(&call.op), ..call.clone() })
}

/// Cuts at the first return that nothing explains.
fn shortest_prefix<M: Model>(
    asker: &mut Asker<'_, M>,
    calls: Vec<Call<M::Op>>,
) -> Vec<Call<M::Op>> {
    let mut returns: Vec<u64> = calls.iter().filter_map(|call| call.ret).collect();
    returns.sort_unstable();
    // Broken with all returns up to `broken`; not known to be with those up to `low` (exclusive).
    let (mut low, mut broken) = (0, returns.len().saturating_sub(1));
    let mut best = calls;
    while low < broken {
        let middle = low.midpoint(broken);
        let shorter = until(asker.model, &best, returns[middle]);
        if asker.is_broken(&shorter) {
            broken = middle;
            best = shorter;
        } else {
            low = middle + 1;
        }
    }
    best
}

/// Weakens as many operations as possible, in ever smaller chunks, the earliest first.
fn weaken_chunks<M: Model>(
    asker: &mut Asker<'_, M>,
    mut calls: Vec<Call<M::Op>>,
) -> Vec<Call<M::Op>> {
    let mut size = calls.len().div_ceil(2).max(1);
    loop {
        let mut start = 0;
        while start < calls.len() {
            let chunk = start..(start + size).min(calls.len());
            start = chunk.end;
            if calls[chunk.clone()].iter().all(|call| call.ret.is_none()) {
                continue;
            }
            let mut weaker = calls[..chunk.start].to_vec();
            weaker.extend(calls[chunk.clone()].iter().filter_map(|call| match call.ret {
                Some(_) => forget(asker.model, call),
                None => Some(call.clone()),
            }));
            let weakened = weaker.len();
            weaker.extend_from_slice(&calls[chunk.end..]);
            if asker.is_broken(&weaker) {
                calls = weaker;
                start = weakened;
            }
        }
        if size == 1 {
            return calls;
        }
        size = size.div_ceil(2);
    }
}

/// Lets operations begin at once or return at last where that makes no difference.
fn widen<M: Model>(asker: &mut Asker<'_, M>, mut calls: Vec<Call<M::Op>>) -> Vec<Call<M::Op>> {
    let end = calls.iter().filter_map(|call| call.ret).max().unwrap_or_default();
    for at in 0..calls.len() {
        let Call { call, ret, .. } = calls[at];
        if ret.is_none() {
            continue;
        }
        calls[at].call = 0;
        if call != 0 && !asker.is_broken(&calls) {
            calls[at].call = call;
        }
        calls[at].ret = Some(end);
        if ret != Some(end) && !asker.is_broken(&calls) {
            calls[at].ret = ret;
        }
    }
    calls
}
