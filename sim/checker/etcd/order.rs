//! Real time against the order of revisions, and one owner for each revision.
//!
//! If one operation returned before another was called, it must not stand behind it. One sweep over the calls,
//! carrying the furthest position that has been answered so far, finds every operation that does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::explain::Explain;
use super::place::{Kind, Place};
use super::store::NOBODY;
use super::{Found, History};

/// What the places of all known operations imply for those without a place.
pub(super) struct Order {
    /// Index of the operation that made each revision; `NOBODY` for holes. Indexed by revision.
    pub(super) owner: Vec<u32>,
    /// The last revision that anybody was told.
    pub(super) last: i64,
    /// By when each revision existed for certain: the earliest return of an answer at it or later.
    pub(super) deadline: Vec<u64>,
    /// The operation with that return.
    pub(super) deadline_by: Vec<u32>,
    /// Before which moment each revision cannot have existed.
    pub(super) birth: Vec<u64>,
    /// For each refused operation, in order of index: the revisions at which it may have been refused.
    pub(super) refused: Vec<Window>,
}

/// The revisions at which an operation without an exact place may stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) op: u32,
    /// Lowest revision, and the operation that says so.
    pub(super) low: i64,
    pub(super) low_by: u32,
    /// Highest revision; `i64::MAX` where nothing is known.
    pub(super) high: i64,
}

/// Sorts, sweeps and assigns owners. Operations with impossible revisions are reported and set aside.
pub(super) fn order(history: &mut History<'_>, found: &mut Found) -> Order {
    discard_impossible(history, found);
    let answered = history.places.iter().map(|place| place.revision).max().unwrap_or(1);
    let told = history.told.iter().map(|told| told.revision).max().unwrap_or(1);
    let last = answered.max(told).max(1);
    let owner = owners(history, last, found);
    settle_revocations(history, &owner);
    let mut refused = sweep(history, found);
    bound_above(history, &mut refused);
    let (deadline, deadline_by) = deadlines(history, last);
    let birth = births(history, last);
    Order { owner, last, deadline, deadline_by, birth, refused }
}

/// A revision far beyond the number of writes cannot be real, and must not cost memory.
fn discard_impossible(history: &mut History<'_>, found: &mut Found) {
    let limit = highest_plausible(&history.places);
    for index in 0..history.places.len() {
        let place = history.places[index];
        let lowest = if place.kind == Kind::Write { 2 } else { 1 };
        let placed = matches!(
            place.kind,
            Kind::Write
                | Kind::Read
                | Kind::Revocation
                | Kind::Stale
                | Kind::Compaction
                | Kind::Bounded
        );
        if placed && (place.revision < lowest || place.revision > limit) {
            let violation = Explain(history).impossible_revision(index as u32, limit);
            found.add(place.ret, index as u32, violation);
            history.places[index] = Place { kind: Kind::Idle, revision: 0, ..place };
        }
    }
}

/// No history of so many writes can come further.
pub(super) fn highest_plausible(places: &[Place]) -> i64 {
    let is_write =
        |place: &&Place| matches!(place.kind, Kind::Write | Kind::Revocation | Kind::Unknown);
    let writes = places.iter().filter(is_write);
    2 * writes.count() as i64 + 1_000
}

fn sweep(history: &History<'_>, found: &mut Found) -> Vec<Window> {
    let mut windows = Vec::new();
    // Operations under way, the first to return on top.
    let mut under_way: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
    let mut furthest = (2, NOBODY);
    for index in history.by_call() {
        let place = &history.places[index as usize];
        while let Some(Reverse((ret, earlier))) = under_way.peek().copied()
            && ret < place.call
        {
            under_way.pop();
            let position = history.places[earlier as usize].lowest_position();
            if position > furthest.0 {
                furthest = (position, earlier);
            }
        }
        if place.revision > 0 {
            under_way.push(Reverse((place.ret, index)));
        }
        match place.kind {
            Kind::Write | Kind::Read | Kind::Revocation | Kind::Compaction
                if place.position() < furthest.0 =>
            {
                let violation = Explain(history).went_back(furthest.1, index);
                found.add(place.ret, index, violation);
            }
            Kind::Refused => windows.push(Window {
                op: index,
                low: furthest.0 / 2,
                low_by: furthest.1,
                high: i64::MAX,
            }),
            _ => {}
        }
    }
    windows.sort_unstable_by_key(|window| window.op);
    windows
}

/// From behind: what was called after a refusal bounds the revision of the refusal from above.
fn bound_above(history: &History<'_>, windows: &mut [Window]) {
    let mut order: Vec<usize> = (0..windows.len()).collect();
    order
        .sort_unstable_by_key(|&at| std::cmp::Reverse(history.places[windows[at].op as usize].ret));
    let mut calls = history.by_call().rev().peekable();
    let mut lowest = i64::MAX;
    for at in order {
        let ret = history.places[windows[at].op as usize].ret;
        while let Some(later) = calls.next_if(|later| history.places[*later as usize].call > ret) {
            let place = &history.places[later as usize];
            match place.kind {
                Kind::Write => lowest = lowest.min(place.revision - 1),
                Kind::Read | Kind::Revocation | Kind::Compaction => {
                    lowest = lowest.min(place.revision)
                }
                _ => {}
            }
        }
        windows[at].high = lowest;
    }
}

fn owners(history: &History<'_>, last: i64, found: &mut Found) -> Vec<u32> {
    let mut owner = vec![NOBODY; last as usize + 1];
    for index in history.by_call() {
        let place = &history.places[index as usize];
        if place.kind != Kind::Write {
            continue;
        }
        let slot = &mut owner[place.revision as usize];
        if *slot == NOBODY {
            *slot = index;
        } else {
            let violation = Explain(history).duplicate(*slot, index);
            found.add(place.ret, index, violation);
        }
    }
    owner
}

/// A revocation that was answered at somebody else's revision found no keys.
fn settle_revocations(history: &mut History<'_>, owner: &[u32]) {
    for op in history.keys.about_leases() {
        let place = &mut history.places[*op as usize];
        if place.kind == Kind::Revocation && owner[place.revision as usize] != NOBODY {
            place.kind = Kind::Read;
        }
    }
}

fn deadlines(history: &History<'_>, last: i64) -> (Vec<u64>, Vec<u32>) {
    let mut deadline = vec![u64::MAX; last as usize + 2];
    let mut by = vec![NOBODY; last as usize + 2];
    for (index, place) in history.places.iter().enumerate() {
        let at = place.revision as usize;
        if place.revision > 0 && place.ret < deadline[at] {
            deadline[at] = place.ret;
            by[at] = index as u32;
        }
    }
    for told in &history.told {
        let revision = told.revision as usize;
        if told.at < deadline[revision] {
            deadline[revision] = told.at;
            by[revision] = told.by;
        }
    }
    for at in (0..=last as usize).rev() {
        if deadline[at + 1] < deadline[at] {
            deadline[at] = deadline[at + 1];
            by[at] = by[at + 1];
        }
    }
    (deadline, by)
}

fn births(history: &History<'_>, last: i64) -> Vec<u64> {
    let mut birth = vec![0; last as usize + 2];
    for place in &history.places {
        let at = match place.kind {
            Kind::Write => place.revision as usize,
            Kind::Read | Kind::Revocation => place.revision as usize + 1,
            _ => continue,
        };
        birth[at] = birth[at].max(place.call);
    }
    for at in 1..birth.len() {
        birth[at] = birth[at].max(birth[at - 1]);
    }
    birth
}
