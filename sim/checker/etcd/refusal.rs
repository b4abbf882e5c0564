//! Definite errors and compactions: what was refused had to be, and what had to be refused was.
//!
//! Neither has an exact place in the order of revisions, but each has a window of time. A compaction at `q` comes
//! after revision `q` was born, before its answer, and before the revision after the one in its header. A read of
//! revision `q` that succeeded comes before every compaction above `q`. Placing each compaction as early as those
//! allow is best for every refusal that needs it, so one pass decides.

use super::explain::Explain;
use super::order::{Order, Window};
use super::place::Kind;
use super::replay::{Replay, kept_keys};
use super::{Found, History};
use crate::checker::render::ms;
use crate::history::{Request, Txn};

/// etcd's texts, as far as this module can tell right from wrong.
const COMPACTED: &str = "required revision has been compacted";
const FUTURE: &str = "required revision is a future revision";
const KEY_NOT_FOUND: &str = "etcdserver: key not found";
const LEASE_NOT_FOUND: &str = "requested lease not found";
const EMPTY_KEY: &str = "key is not provided";
const VALUE_PROVIDED: &str = "value is provided";
const LEASE_PROVIDED: &str = "lease is provided";

/// A compaction that happened or may have happened.
struct Cut {
    revision: i64,
    low: u64,
    high: u64,
    op: u32,
    is_known: bool,
}

/// A read of an old revision that succeeded.
struct Proof {
    revision: i64,
    low: u64,
    op: u32,
}

/// Hands every "key not found" to the replay, which knows when keys were there.
pub(super) fn expect_absences(history: &History<'_>, order: &Order, replay: &mut Replay<'_, '_>) {
    for window in &order.refused {
        if !message(history, window.op).contains(KEY_NOT_FOUND) {
            continue;
        }
        let request = &history.operations[window.op as usize].request;
        let ret = history.places[window.op as usize].ret;
        let mut keys = Vec::new();
        kept_keys(request, &mut |key| keys.extend(history.keys.id(key)));
        // Behind the last known revision an unknown delete may have come that nobody saw.
        let may_be_gone = window.high >= order.last
            && replay.evidence.unknowns.iter().any(|unknown| {
                let deletes = |key: &u32| unknown.deletes.iter().any(|span| span.contains(key));
                unknown.call <= ret && keys.iter().any(deletes)
            });
        if !may_be_gone {
            let last = window.high.min(order.last).max(window.low);
            replay.expect_absence(window.op, window.low, last);
        }
    }
}

/// Judges all refusals and compactions, except "key not found".
pub(super) fn check(history: &History<'_>, order: &Order, found: &mut Found) {
    check_texts(history, order, found);
    check_answers(history, found);
    let cuts = cuts(history, order, found);
    let proofs = proofs(history, order);
    check_proofs(history, &cuts, &proofs, found);
    check_cuts(history, &cuts, found);
    check_refusals(history, order, &cuts, &proofs, found);
}

fn message<'a>(history: &History<'a>, op: u32) -> &'a str {
    history.operations[op as usize].error.as_ref().map_or("", |error| &error.message)
}

/// Refusals that the request alone shows to be wrong.
fn check_texts(history: &History<'_>, order: &Order, found: &mut Found) {
    for window in &order.refused {
        let request = &history.operations[window.op as usize].request;
        let text = message(history, window.op);
        let mut kept = false;
        kept_keys(request, &mut |_| kept = true);
        let wrong = [
            (EMPTY_KEY, !any_key(request, &|key| key.is_empty()), "all its keys are there"),
            (KEY_NOT_FOUND, !kept, "it needs no key to exist"),
            (LEASE_NOT_FOUND, !any_put(request, &|put| put.lease != 0), "it names no lease"),
            (
                VALUE_PROVIDED,
                !any_put(request, &|put| put.ignore_value && !put.value.0.is_empty()),
                "it keeps no value while giving one",
            ),
            (
                LEASE_PROVIDED,
                !any_put(request, &|put| put.ignore_lease && put.lease != 0),
                "it keeps no lease while giving one",
            ),
            (COMPACTED, revisions(request).is_empty(), "it names no revision"),
            (FUTURE, revisions(request).is_empty(), "it names no revision"),
        ];
        if let Some((_, _, why)) =
            wrong.iter().find(|(known, is_wrong, _)| *is_wrong && text.contains(known))
        {
            let explain = Explain(history);
            let who = explain.who(window.op);
            let sentence = format!("{who} was refused with \"{text}\", but {why}.");
            let violation = explain.simple("refusal", sentence, &[window.op], window.low);
            found.add(history.places[window.op as usize].ret, window.op, violation);
        }
    }
}

/// Answers to requests that had to be refused whatever the store held.
fn check_answers(history: &History<'_>, found: &mut Found) {
    for (index, operation) in history.operations.iter().enumerate() {
        let place = &history.places[index];
        if place.is_simple {
            continue;
        }
        let Some(response) = &operation.response else { continue };
        let request = &operation.request;
        let newest = match request {
            Request::Compact { revision, .. } => *revision,
            _ => revisions_done(request, &response.body).into_iter().max().unwrap_or(0),
        };
        // A txn that writes reads the past as of just before.
        let known = response.revision - i64::from(place.kind == Kind::Write);
        let is_plain = matches!(request, Request::Range(_) | Request::DeleteRange(_));
        let why = if any_key(request, &|key| key.is_empty()) {
            "a key is empty".to_owned()
        } else if !is_plain && any_put(request, &|put| put.ignore_value && !put.value.0.is_empty())
        {
            "it keeps the value and gives one".to_owned()
        } else if !is_plain && any_put(request, &|put| put.ignore_lease && put.lease != 0) {
            "it keeps the lease and gives one".to_owned()
        } else if matches!(request, Request::Txn(txn) if has_duplicate(txn)) {
            "it puts one key twice".to_owned()
        } else if newest > known {
            format!("revision {newest} is in the future of revision {known}")
        } else {
            continue;
        };
        let explain = Explain(history);
        let sentence =
            format!("{} was done, but had to be refused: {why}.", explain.who(index as u32));
        let rule =
            if matches!(request, Request::Compact { .. }) { "compaction" } else { "refusal" };
        let violation = explain.simple(rule, sentence, &[index as u32], response.revision);
        found.add(place.ret, index as u32, violation);
    }
}

fn cuts(history: &History<'_>, order: &Order, found: &mut Found) -> Vec<Cut> {
    let mut cuts: Vec<Cut> = Vec::new();
    for index in history.by_call() {
        let place = &history.places[index as usize];
        if !matches!(place.kind, Kind::Compaction | Kind::UnknownCompaction) {
            continue;
        }
        let Request::Compact { revision, .. } = history.operations[index as usize].request else {
            continue;
        };
        let born = order.birth.get(revision.max(0) as usize).copied().unwrap_or(0);
        let low = place.call.max(born);
        let high = match place.kind {
            Kind::Compaction => {
                place.ret.min(order.deadline[(place.revision + 1).min(order.last + 1) as usize])
            }
            Kind::UnknownCompaction => u64::MAX,
            _ => continue,
        };
        let is_known = place.kind == Kind::Compaction;
        cuts.push(Cut { revision, low, high, op: index, is_known });
    }
    cuts.sort_by_key(|cut| cut.revision);
    let known: Vec<&Cut> = cuts.iter().filter(|cut| cut.is_known).collect();
    for pair in known.windows(2).filter(|pair| pair[0].revision == pair[1].revision) {
        let explain = Explain(history);
        let revision = pair[0].revision;
        let sentence = format!(
            "Revision {revision} was compacted twice, by {} and by {}: the later one had to be refused.",
            explain.who(pair[0].op),
            explain.who(pair[1].op)
        );
        let violation = explain.simple("compaction", sentence, &[pair[0].op, pair[1].op], revision);
        found.add(history.places[pair[1].op as usize].ret, pair[1].op, violation);
    }
    cuts
}

fn proofs(history: &History<'_>, order: &Order) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let place = &history.places[index];
        if place.is_simple {
            continue;
        }
        let Some(response) = &operation.response else { continue };
        if !matches!(place.kind, Kind::Read | Kind::Write | Kind::Stale) {
            continue;
        }
        let born = order.birth[place.revision as usize];
        let low = if place.is_exact() { place.call.max(born) } else { born };
        for revision in revisions_done(&operation.request, &response.body) {
            proofs.push(Proof { revision, low, op: index as u32 });
        }
    }
    proofs.sort_by_key(|proof| proof.revision);
    proofs
}

/// Reads below a compaction that was certainly over.
fn check_proofs(history: &History<'_>, cuts: &[Cut], proofs: &[Proof], found: &mut Found) {
    let mut cuts = cuts.iter().rev().filter(|cut| cut.is_known).peekable();
    let mut earliest: Option<&Cut> = None;
    for proof in proofs.iter().rev() {
        while let Some(cut) = cuts.next_if(|cut| cut.revision > proof.revision) {
            if earliest.is_none_or(|known| cut.high < known.high) {
                earliest = Some(cut);
            }
        }
        let Some(cut) = earliest.filter(|cut| cut.high < proof.low) else { continue };
        let explain = Explain(history);
        let sentence = format!(
            "{} read revision {}, but {} had been done before: it had to be refused as compacted.",
            explain.who(proof.op),
            proof.revision,
            explain.who(cut.op)
        );
        let mut violation =
            explain.simple("compaction", sentence, &[cut.op, proof.op], proof.revision);
        violation.revisions = (proof.revision, cut.revision);
        found.add(history.places[proof.op as usize].ret, proof.op, violation);
    }
}

/// Compactions that came certainly after a higher one.
fn check_cuts(history: &History<'_>, cuts: &[Cut], found: &mut Found) {
    let mut earliest: Option<&Cut> = None;
    for cut in cuts.iter().rev().filter(|cut| cut.is_known) {
        if let Some(higher) =
            earliest.filter(|higher| higher.high < cut.low && higher.revision > cut.revision)
        {
            let explain = Explain(history);
            let sentence = format!(
                "{} was done, but {} had been done before: it had to be refused as compacted.",
                explain.who(cut.op),
                explain.who(higher.op)
            );
            let mut violation =
                explain.simple("compaction", sentence, &[higher.op, cut.op], cut.revision);
            violation.revisions = (cut.revision, higher.revision);
            found.add(history.places[cut.op as usize].ret, cut.op, violation);
        }
        if earliest.is_none_or(|known| cut.high < known.high) {
            earliest = Some(cut);
        }
    }
}

/// For each compaction the earliest moment at which it can have happened, as the earliest of all at or above.
fn earliest_cuts(cuts: &[Cut], proofs: &[Proof]) -> Vec<(i64, u64)> {
    let mut proofs = proofs.iter().peekable();
    let mut base = 0;
    let mut times: Vec<(i64, u64)> = Vec::new();
    for cut in cuts {
        while let Some(proof) = proofs.next_if(|proof| proof.revision < cut.revision) {
            base = base.max(proof.low);
        }
        times.push((cut.revision, cut.low.max(base)));
        if cut.is_known {
            base = base.max(cut.low);
        }
    }
    for at in (1..times.len()).rev() {
        times[at - 1].1 = times[at - 1].1.min(times[at].1);
    }
    times
}

fn check_refusals(
    history: &History<'_>,
    order: &Order,
    cuts: &[Cut],
    proofs: &[Proof],
    found: &mut Found,
) {
    let times = earliest_cuts(cuts, proofs);
    for window in &order.refused {
        let operation = &history.operations[window.op as usize];
        let named = revisions(&operation.request);
        let text = message(history, window.op);
        if named.is_empty() {
            continue;
        }
        let explain = Explain(history);
        let violation = if text.contains(COMPACTED) {
            let ret = history.places[window.op as usize].ret;
            let is_compaction = matches!(operation.request, Request::Compact { .. });
            let is_right = |revision: &i64| {
                let above = revision - i64::from(is_compaction);
                let at = times.partition_point(|(cut, _)| *cut <= above);
                *revision < 0 || times.get(at).is_some_and(|(_, time)| *time <= ret)
            };
            if named.iter().any(is_right) {
                continue;
            }
            let lowest = named.iter().min().expect("named some");
            let sentence = format!(
                "{} was refused as compacted, but no compaction that could have covered revision {lowest} can \
                 have happened by {}.",
                explain.who(window.op),
                ms(ret)
            );
            explain.simple("compaction", sentence, &[window.op], *lowest)
        } else if text.contains(FUTURE) {
            let Some(violation) = wrong_future(history, window, &named) else { continue };
            violation
        } else {
            continue;
        };
        found.add(history.places[window.op as usize].ret, window.op, violation);
    }
}

fn wrong_future(
    history: &History<'_>,
    window: &Window,
    named: &[i64],
) -> Option<crate::checker::Violation> {
    let operation = &history.operations[window.op as usize];
    // A member that may answer from the past knows revision 1 at least.
    let (low, low_by) = match &operation.request {
        request if is_serializable(request) => (1, super::store::NOBODY),
        _ => (window.low, window.low_by),
    };
    let newest = *named.iter().max()?;
    if newest > low {
        return None;
    }
    let explain = Explain(history);
    let why = if low_by == super::store::NOBODY {
        "every store has revision 1".to_owned()
    } else {
        let place = &history.places[low_by as usize];
        format!(
            "{} had been answered at revision {} {} before",
            explain.who(low_by),
            place.revision,
            ms(operation.call - place.ret)
        )
    };
    let sentence =
        format!("{} was refused as a future revision, but {why}.", explain.who(window.op),);
    Some(explain.simple("refusal", sentence, &[low_by, window.op], newest))
}

fn is_serializable(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.serializable,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).all(is_serializable),
        _ => false,
    }
}

fn any_key(request: &Request, is: &impl Fn(&[u8]) -> bool) -> bool {
    match request {
        Request::Range(range) => is(&range.key.0),
        Request::Put(put) => is(&put.key.0),
        Request::DeleteRange(delete) => is(&delete.key.0),
        Request::Txn(txn) => {
            txn.compare.iter().any(|compare| is(&compare.key.0))
                || txn.success.iter().chain(&txn.failure).any(|inner| any_key(inner, is))
        }
        _ => false,
    }
}

fn any_put(request: &Request, is: &impl Fn(&crate::history::Put) -> bool) -> bool {
    match request {
        Request::Put(put) => is(put),
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).any(|inner| any_put(inner, is)),
        _ => false,
    }
}

/// Whether one list of a txn puts a key twice.
fn has_duplicate(txn: &Txn) -> bool {
    [&txn.success, &txn.failure].into_iter().any(|list| {
        let mut keys: Vec<&[u8]> = list
            .iter()
            .filter_map(|inner| match inner {
                Request::Put(put) => Some(put.key.0.as_slice()),
                _ => None,
            })
            .collect();
        keys.sort_unstable();
        keys.windows(2).any(|pair| pair[0] == pair[1])
            || list.iter().any(|inner| matches!(inner, Request::Txn(txn) if has_duplicate(txn)))
    })
}

/// The revisions a request names.
fn revisions(request: &Request) -> Vec<i64> {
    match request {
        Request::Range(range) if range.revision > 0 => vec![range.revision],
        Request::Compact { revision, .. } => vec![*revision],
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).flat_map(revisions).collect(),
        _ => Vec::new(),
    }
}

/// The old revisions that an answer really shows.
fn revisions_done(request: &Request, body: &crate::history::Body) -> Vec<i64> {
    match (request, body) {
        (Request::Range(range), _) if range.revision > 0 => vec![range.revision],
        (Request::Txn(txn), crate::history::Body::Txn { succeeded, responses }) => {
            let done = if *succeeded { &txn.success } else { &txn.failure };
            let inner = done.iter().zip(responses);
            inner.flat_map(|(request, response)| revisions_done(request, &response.body)).collect()
        }
        _ => Vec::new(),
    }
}
