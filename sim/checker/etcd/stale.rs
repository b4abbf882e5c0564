//! How stale serializable reads were: a measure, not a rule.
//!
//! etcd promises nothing about the age of a serializable read. It does not even promise that one member never goes
//! back: applied entries are durable in the log, but how far the log was known to be committed is not, so a member
//! that restarts, or that installs a snapshot, may answer from before what it answered before, until it hears from
//! the leader. A history does not say who restarted when. So going back is counted, and accused of nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::History;
use super::order::Order;
use super::place::Kind;
use crate::checker::Staleness;

/// Measures all serializable reads of a history.
pub(super) fn measure(history: &History<'_>, order: &Order) -> Staleness {
    let mut staleness = Staleness::default();
    if !history.places.iter().any(|place| place.kind == Kind::Stale) {
        return staleness;
    }
    let mut returns = BinaryHeap::new();
    let mut newest = 1;
    let mut of_member: BTreeMap<Member<'_>, i64> = BTreeMap::new();
    for index in history.by_call() {
        let place = &history.places[index as usize];
        while let Some(Reverse((ret, earlier))) = returns.peek().copied()
            && ret < place.call
        {
            returns.pop();
            let revision = history.places[earlier as usize].revision;
            newest = newest.max(revision);
            let told = of_member.entry(member(history, earlier)).or_default();
            *told = revision.max(*told);
        }
        if place.revision == 0 {
            continue;
        }
        returns.push(Reverse((place.ret, index)));
        if place.kind == Kind::Stale {
            let since = order.deadline[(place.revision + 1).min(order.last + 1) as usize];
            staleness.add(newest - place.revision, place.call.saturating_sub(since));
            let told = of_member.get(&member(history, index)).copied().unwrap_or(0);
            staleness.went_back += u64::from(place.revision < told);
        }
    }
    staleness
}

/// Who answered: by the id in the header, where there is one, else by the name it was sent to.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Member<'a> {
    Id(u64),
    Name(&'a str),
}

fn member<'a>(history: &History<'a>, index: u32) -> Member<'a> {
    let operation = &history.operations[index as usize];
    match operation.response.as_ref().map(|response| response.member_id) {
        Some(id @ 1..) => Member::Id(id),
        _ => Member::Name(&operation.member),
    }
}
