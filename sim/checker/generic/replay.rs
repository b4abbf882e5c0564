//! A second opinion on every order that the search finds: replays it, and knows nothing of the search.

use super::Call;
use super::model::Model;

/// Why an order does not explain a history; `None` if it does.
///
/// It must hold each operation that returned once, each other one at most once, none before one that had returned
/// when it was called, and each answer must be what the model says. `parts` says which operations share a state.
pub fn objection<M: Model>(
    model: &M,
    calls: &[Call<M::Op>],
    parts: &[Vec<u32>],
    order: &[u32],
) -> Option<String> {
    let mut part_of = vec![0; calls.len()];
    for (part, indexes) in parts.iter().enumerate() {
        for index in indexes {
            part_of[*index as usize] = part;
        }
    }
    let mut states: Vec<M::State> = parts.iter().map(|_| model.init()).collect();
    let mut is_placed = vec![false; calls.len()];
    let mut latest_call = 0;
    for index in order {
        let call = &calls[*index as usize];
        let shown = || format!("#{} ({})", call.number, model.show_op(&call.op));
        if std::mem::replace(&mut is_placed[*index as usize], true) {
            return Some(format!("{} is in the order twice", shown()));
        }
        if call.ret.is_some_and(|ret| ret < latest_call) {
            return Some(format!("{} had returned before one placed ahead of it began", shown()));
        }
        latest_call = latest_call.max(call.call);
        if !model.apply(&mut states[part_of[*index as usize]], &call.op) {
            return Some(format!("{} is impossible at its place", shown()));
        }
    }
    let missing = calls.iter().zip(is_placed).find(|(call, placed)| call.ret.is_some() && !placed);
    missing.map(|(call, _)| format!("#{} returned, but is not in the order", call.number))
}
