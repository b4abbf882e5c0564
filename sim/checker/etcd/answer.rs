//! The answer to a range, compared with what the store holds.
//!
//! Not asserted, because etcd leaves it open: the order of keys that are equal in what they are sorted by, and
//! which of those a limit cuts off; the lease in an answer with keys only (newer versions leave it out).

use std::cmp::Ordering;

use super::judge::{Clue, Diff};
use super::keys::Keys;
use super::store::{Slot, Store};
use crate::checker::render;
use crate::history::{Body, KeyValue, Range, SortOrder, SortTarget};

/// Compares the answer to a range with the store as it is; `single` as in [`Keys::single`].
pub(super) fn compare<'a>(
    keys: &Keys<'a>,
    store: &Store<'a>,
    (range, single): (&'a Range, u32),
    body: &'a Body,
    diffs: &mut Vec<Diff<'a>>,
) {
    let Body::Range { kvs, more, count } = body else { return };
    let span = keys.span_of(single, &range.key.0, &range.range_end.0);
    let before = diffs.len();
    let held = store.count_in(span.clone());
    let mut cut = false;
    if range.count_only {
        if !kvs.is_empty() {
            push(diffs, "kvs", "none, as only the count was asked for", &kvs.len().to_string());
        }
    } else if is_plain(range) {
        let is_same = kvs.len() == 1 && span.len() == 1 && held == 1;
        if is_same && kvs[0].key.0 == keys.name(span.start) {
            same(keys, span.start, store.get(span.start), &kvs[0], range.keys_only, diffs);
        } else {
            let mut wanted: Vec<u32> = store.alive_in(span.clone()).collect();
            cut = truncate(&mut wanted, range.limit);
            walk(keys, store, &wanted, kvs, range.keys_only, diffs);
        }
    } else {
        let wanted;
        (wanted, cut) = select(store, store.alive_in(span.clone()), range);
        sorted(keys, store, &wanted, kvs, range, diffs);
    }
    let spans = || std::iter::once(span.clone()).collect::<Vec<_>>();
    if *count != held && diffs.len() == before {
        push(diffs, "count", &held.to_string(), &count.to_string());
    }
    if *more != cut && diffs.len() == before {
        push(diffs, "more", &cut.to_string(), &more.to_string());
    }
    for diff in &mut diffs[before..] {
        // With a limit, whether a key is shown depends on all keys before it.
        if diff.spans.is_empty() || range.limit > 0 {
            diff.spans = spans();
        }
    }
}

fn push(diffs: &mut Vec<Diff<'_>>, what: &str, expected: &str, actual: &str) {
    diffs.push(Diff {
        what: what.to_owned(),
        expected: expected.to_owned(),
        actual: actual.to_owned(),
        spans: Vec::new(),
        clue: Clue::Field,
    });
}

/// Whether the answer is in key order, complete up to the limit.
fn is_plain(range: &Range) -> bool {
    let by_key = range.sort_target == SortTarget::Key && range.sort_order != SortOrder::Descend;
    by_key && !is_filtered(range)
}

/// Whether keys of the range may be left out for their revisions.
pub(super) fn is_filtered(range: &Range) -> bool {
    range.min_mod_revision != 0
        || range.max_mod_revision != 0
        || range.min_create_revision != 0
        || range.max_create_revision != 0
}

fn truncate(wanted: &mut Vec<u32>, limit: i64) -> bool {
    let cut = limit > 0 && wanted.len() as i64 > limit;
    if cut {
        wanted.truncate(limit as usize);
    }
    cut
}

/// What a filtered or sorted range selects, and whether the limit cut some off.
fn select<'a>(
    store: &Store<'a>,
    alive: impl Iterator<Item = u32>,
    range: &Range,
) -> (Vec<u32>, bool) {
    let mut wanted: Vec<u32> = alive.filter(|id| passes(store.get(*id), range)).collect();
    // A quirk of etcd: with a target but no order the limit is applied before sorting, in key order,
    // with one key to spare for `more`.
    if range.sort_order == SortOrder::None && !is_filtered(range) && range.limit > 0 {
        wanted.truncate((range.limit + 1) as usize);
    }
    wanted.sort_by(|a, b| order(range, (*a, store.get(*a)), (*b, store.get(*b))));
    let cut = truncate(&mut wanted, range.limit);
    (wanted, cut)
}

fn passes(slot: &Slot<'_>, range: &Range) -> bool {
    (range.min_mod_revision == 0 || slot.modified >= range.min_mod_revision)
        && (range.max_mod_revision == 0 || slot.modified <= range.max_mod_revision)
        && (range.min_create_revision == 0 || slot.create >= range.min_create_revision)
        && (range.max_create_revision == 0 || slot.create <= range.max_create_revision)
}

fn order(range: &Range, a: (u32, &Slot<'_>), b: (u32, &Slot<'_>)) -> Ordering {
    let ascending = match range.sort_target {
        SortTarget::Key => a.0.cmp(&b.0),
        SortTarget::Version => a.1.version.cmp(&b.1.version),
        SortTarget::Create => a.1.create.cmp(&b.1.create),
        SortTarget::Mod => a.1.modified.cmp(&b.1.modified),
        SortTarget::Value => a.1.value.cmp(b.1.value),
    };
    if range.sort_order == SortOrder::Descend { ascending.reverse() } else { ascending }
}

/// Both lists are in key order: walks them side by side.
fn walk<'a>(
    keys: &Keys<'a>,
    store: &Store<'a>,
    wanted: &[u32],
    kvs: &'a [KeyValue],
    keys_only: bool,
    diffs: &mut Vec<Diff<'a>>,
) {
    let in_order = kvs.is_sorted_by(|a, b| a.key < b.key);
    if !in_order {
        push(diffs, "order", "by key", "keys out of order or twice");
        return;
    }
    let (mut next, mut seen) = (0, 0);
    while next < wanted.len() || seen < kvs.len() {
        let name = wanted.get(next).map(|id| keys.name(*id));
        let order = match (name, kvs.get(seen)) {
            (Some(name), Some(kv)) => name.cmp(kv.key.0.as_slice()),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        match order {
            Ordering::Equal => {
                same(keys, wanted[next], store.get(wanted[next]), &kvs[seen], keys_only, diffs);
            }
            Ordering::Less => missing(keys, wanted[next], store, diffs),
            Ordering::Greater => extra(keys, store, &kvs[seen], diffs),
        }
        next += usize::from(order.is_le());
        seen += usize::from(order.is_ge());
    }
}

/// The same for a list in another order: each key by itself, then the order of what it is sorted by.
fn sorted<'a>(
    keys: &Keys<'a>,
    store: &Store<'a>,
    wanted: &[u32],
    kvs: &'a [KeyValue],
    range: &Range,
    diffs: &mut Vec<Diff<'a>>,
) {
    let before = diffs.len();
    let span = keys.span(&range.key.0, &range.range_end.0);
    let mut ids = Vec::with_capacity(kvs.len());
    for kv in kvs {
        match keys.id(&kv.key.0).filter(|id| span.contains(id) && store.get(*id).is_alive()) {
            Some(id) => {
                same(keys, id, store.get(id), kv, range.keys_only, diffs);
                ids.push(id);
            }
            None => extra(keys, store, kv, diffs),
        }
    }
    if diffs.len() > before {
        return;
    }
    let order_of = |a: u32, b: u32| order(range, (a, store.get(a)), (b, store.get(b)));
    let agree = ids.len() == wanted.len()
        && ids.iter().zip(wanted).all(|(a, b)| order_of(*a, *b).is_eq())
        && ids.iter().all(|id| passes(store.get(*id), range));
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    if !agree || unique.len() != ids.len() {
        let list = |ids: &[u32]| {
            let names = ids.iter().map(|id| keys.name(*id).escape_ascii().to_string());
            format!("[{}]", names.collect::<Vec<_>>().join(" "))
        };
        push(diffs, "keys in order", &list(wanted), &list(&ids));
    }
}

/// Compares a list of whole keys in key order, such as `prev_kvs`.
pub(super) fn compare_list<'a>(
    keys: &Keys<'a>,
    store: &Store<'a>,
    wanted: &[u32],
    kvs: &'a [KeyValue],
    diffs: &mut Vec<Diff<'a>>,
) {
    walk(keys, store, wanted, kvs, false, diffs);
}

/// Compares what was shown of one key, present or not.
pub(super) fn compare_key<'a>(
    keys: &Keys<'a>,
    id: u32,
    held: &Slot<'a>,
    seen: Option<&'a KeyValue>,
    what: &str,
    diffs: &mut Vec<Diff<'a>>,
) {
    let agree = match seen {
        Some(kv) => kv.key.0 == keys.name(id) && held.is_alive() && held.is_shown_by(kv),
        None => !held.is_alive(),
    };
    if !agree {
        diffs.push(key_diff(keys, id, held, seen, what));
    }
}

fn same<'a>(
    keys: &Keys<'a>,
    id: u32,
    held: &Slot<'a>,
    kv: &'a KeyValue,
    keys_only: bool,
    diffs: &mut Vec<Diff<'a>>,
) {
    let agree = if keys_only {
        held.modified == kv.mod_revision
            && held.create == kv.create_revision
            && held.version == kv.version
            && kv.value.0.is_empty()
            && (kv.lease == 0 || kv.lease == held.lease)
    } else {
        held.is_shown_by(kv)
    };
    if !agree || kv.key.0 != keys.name(id) {
        diffs.push(key_diff(keys, id, held, Some(kv), "key"));
    }
}

fn missing<'a>(keys: &Keys<'a>, id: u32, store: &Store<'a>, diffs: &mut Vec<Diff<'a>>) {
    diffs.push(key_diff(keys, id, store.get(id), None, "key"));
}

fn extra<'a>(keys: &Keys<'a>, store: &Store<'a>, kv: &'a KeyValue, diffs: &mut Vec<Diff<'a>>) {
    match keys.id(&kv.key.0) {
        Some(id) => diffs.push(key_diff(keys, id, store.get(id), Some(kv), "key")),
        None => diffs.push(Diff {
            what: format!("key {}", kv.key),
            expected: "nothing".to_owned(),
            actual: render::key_value(kv),
            spans: std::iter::once(0..0).collect(),
            clue: Clue::Key { key: &kv.key.0, held: Slot::EMPTY, seen: Some(kv) },
        }),
    }
}

fn key_diff<'a>(
    keys: &Keys<'a>,
    id: u32,
    held: &Slot<'a>,
    seen: Option<&'a KeyValue>,
    what: &str,
) -> Diff<'a> {
    let key = keys.name(id);
    let expected = held.shown_as(key);
    let text = |kv: Option<&KeyValue>| kv.map_or("nothing".to_owned(), render::key_value);
    Diff {
        what: format!("{what} {}", key.escape_ascii()),
        expected: text(expected.as_ref()),
        actual: text(seen),
        spans: std::iter::once(id..id + 1).collect(),
        clue: Clue::Key { key, held: *held, seen },
    }
}
