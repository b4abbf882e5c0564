//! Breaks good histories in known ways: each break must be caught, and by the right rule.

use std::collections::BTreeMap;

use super::cluster::{Dice, Shape, history_and_store};
use super::kept::at_least;
use super::model::{Model, failure};
use super::{between, break_leases, services, watch_breaks};
use crate::checker::etcd::check;
use crate::checker::generic::tests::breaks;
use crate::checker::{RULES, Verdict, render};
use crate::history::{Body, KeyValue, Operation, Outcome, Put, Range, Request, Response};

/// A good history about to be broken.
pub(super) struct Patient {
    pub(super) operations: Vec<Operation>,
    pub(super) store: Model,
    pub(super) dice: Dice,
}

/// Breaks a history; `None` where it has no place to break.
pub(super) type Break = fn(&mut Patient) -> Option<()>;

/// Name of the break, the rules of which one must be named, and the break.
const BREAKS: &[(&str, &[&str], Break)] = &[
    ("a read from before an acknowledged write", &["stale-read"], stale_read),
    ("two writes with swapped revisions", &["revision-went-back"], swap_writes),
    ("a read of what is written later", &["future-read"], future_read),
    ("two writes with one revision", &["duplicate-revision"], duplicate),
    ("a write that nobody asked for", &["unexplained-revision", "phantom-value"], unasked),
    ("a read that misses the last write", &["lost-write"], lost_write),
    ("a value out of nowhere", &["phantom-value"], phantom),
    ("a key out of nowhere", &["phantom-value"], phantom_key),
    (
        "a refused write that took effect",
        &["failed-took-effect", "unexplained-revision"],
        failed_took_effect,
    ),
    ("a put that took effect twice", &["applied-twice"], applied_twice),
    ("an unknown put that took effect twice", &["applied-twice"], unknown_twice),
    ("an unknown put seen before its call", &["future-read"], unknown_early),
    ("a put that shows another state before", &["wrong-content"], |patient| {
        prev_kv(patient, |kv| kv.as_mut().expect("chosen so").version += 1)
    }),
    ("a put that hides the state before", &["lost-write"], |patient| {
        prev_kv(patient, |kv| *kv = None)
    }),
    ("a wrong version", &["wrong-content"], |patient| kv(patient, |kv| kv.version += 1)),
    ("a wrong create revision", &["wrong-content"], |patient| {
        kv(patient, |kv| kv.create_revision -= 1)
    }),
    ("a wrong lease", &["wrong-content"], |patient| kv(patient, |kv| kv.lease += 7)),
    ("a wrong count", &["wrong-content"], wrong_count),
    ("a wrong more", &["wrong-content"], wrong_more),
    ("keys out of order", &["wrong-content"], wrong_order),
    ("a wrong number of deleted keys", &["wrong-content"], wrong_deleted),
    ("the wrong branch of a txn", &["wrong-content"], wrong_branch),
    ("a torn serializable read", &["serializable-content"], torn_serializable),
    ("a read below a compaction", &["compaction"], read_compacted),
    ("refused as compacted without compaction", &["compaction"], not_compacted),
    ("compacted twice", &["compaction"], compacted_twice),
    ("refused as future, but seen before", &["refusal"], not_future),
    ("refused as missing, but there", &["refusal"], not_missing),
];

fn response(operation: &mut Operation) -> Option<&mut Response> {
    operation.response.as_mut()
}

impl Patient {
    /// A random operation that satisfies the condition.
    pub(super) fn pick(&mut self, is: impl Fn(&Operation) -> bool) -> Option<usize> {
        let fit: Vec<usize> =
            (0..self.operations.len()).filter(|at| is(&self.operations[*at])).collect();
        (!fit.is_empty()).then(|| fit[self.dice.below(fit.len() as u64) as usize])
    }

    /// The highest acknowledged revision of those writes that returned before a moment.
    fn acknowledged_before(&self, call: u64) -> i64 {
        let earlier = self.operations.iter().filter(|op| op.returned.is_some_and(|at| at < call));
        earlier.filter(|op| is_put(op)).map(revision).max().unwrap_or(1)
    }

    /// The highest revision that anybody saw, apart from one operation.
    fn seen_without(&self, at: usize) -> i64 {
        let others = self.operations.iter().enumerate().filter(|(index, _)| *index != at);
        others.map(|(_, op)| revision(op)).max().unwrap_or(0)
    }

    /// Every key shown in any answer.
    fn shown(&mut self) -> Vec<&mut KeyValue> {
        let mut shown = Vec::new();
        for response in self.operations.iter_mut().filter_map(|op| op.response.as_mut()) {
            collect_shown(&mut response.body, &mut shown);
        }
        shown
    }
}

fn collect_shown<'b>(body: &'b mut Body, shown: &mut Vec<&'b mut KeyValue>) {
    match body {
        Body::Range { kvs, .. } => shown.extend(kvs),
        Body::Put { prev_kv } => shown.extend(prev_kv),
        Body::DeleteRange { prev_kvs, .. } => shown.extend(prev_kvs),
        Body::Txn { responses, .. } => {
            for response in responses {
                collect_shown(&mut response.body, shown);
            }
        }
        _ => {}
    }
}

pub(super) fn revision(operation: &Operation) -> i64 {
    operation.response.as_ref().map_or(0, |response| response.revision)
}

pub(super) fn is_put(operation: &Operation) -> bool {
    matches!(&operation.request, Request::Put(put) if !put.ignore_value)
        && operation.response.is_some()
}

/// A linearizable read of the present, in full.
pub(super) fn plain_range(operation: &Operation) -> Option<&Range> {
    match (&operation.request, &operation.response) {
        (Request::Range(range), Some(_)) => {
            let plain = Range {
                key: range.key.clone(),
                range_end: range.range_end.clone(),
                ..Range::default()
            };
            (*range == plain).then_some(range)
        }
        _ => None,
    }
}

fn shows_keys(operation: &Operation) -> bool {
    plain_range(operation).is_some()
        && matches!(&operation.response.as_ref().expect("a read").body, Body::Range { kvs, .. } if !kvs.is_empty())
}

fn stale_read(patient: &mut Patient) -> Option<()> {
    let all = patient.operations.clone();
    let latest = |op: &Operation| {
        let earlier = all.iter().filter(|other| other.returned.is_some_and(|at| at < op.call));
        earlier.filter(|other| is_put(other)).map(revision).max().unwrap_or(1)
    };
    let at = patient.pick(|op| plain_range(op).is_some() && latest(op) > 1)?;
    let old = latest(&patient.operations[at]) - 1;
    let body = patient.store.read_at(plain_range(&patient.operations[at])?, old);
    *response(&mut patient.operations[at])? =
        Response { revision: old, member_id: 0, raft_term: 0, body };
    Some(())
}

fn swap_writes(patient: &mut Patient) -> Option<()> {
    let first = patient.pick(is_put)?;
    let returned = patient.operations[first].returned?;
    let second = patient.pick(|op| is_put(op) && op.call > returned)?;
    let (low, high) = (revision(&patient.operations[first]), revision(&patient.operations[second]));
    response(&mut patient.operations[first])?.revision = high;
    response(&mut patient.operations[second])?.revision = low;
    Some(())
}

fn future_read(patient: &mut Patient) -> Option<()> {
    let read = patient.pick(|op| plain_range(op).is_some())?;
    let returned = patient.operations[read].returned?;
    let write = patient.pick(|op| is_put(op) && op.call > returned)?;
    let revision = revision(&patient.operations[write]);
    let body = patient.store.read_at(plain_range(&patient.operations[read])?, revision);
    *response(&mut patient.operations[read])? =
        Response { revision, member_id: 0, raft_term: 0, body };
    Some(())
}

fn duplicate(patient: &mut Patient) -> Option<()> {
    let first = patient.pick(is_put)?;
    let second = patient.pick(is_put)?;
    let same = revision(&patient.operations[first]);
    response(&mut patient.operations[second])?.revision = same;
    (first != second).then_some(())
}

fn unasked(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(is_put)?;
    if patient.seen_without(at) < revision(&patient.operations[at]) {
        return None;
    }
    patient.operations.remove(at);
    Some(())
}

fn lost_write(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(shows_keys)?;
    let operation = &mut patient.operations[at];
    let range = plain_range(operation)?.clone();
    let Body::Range { kvs, .. } = &response(operation)?.body else { return None };
    let newest = kvs.iter().map(|kv| kv.mod_revision).max()?;
    response(operation)?.body = patient.store.read_at(&range, newest - 1);
    Some(())
}

fn phantom(patient: &mut Patient) -> Option<()> {
    kv_any(patient, |kv| kv.value = "from-nowhere".into())
}

fn phantom_key(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(shows_keys)?;
    let Body::Range { kvs, .. } = &mut response(&mut patient.operations[at])?.body else {
        return None;
    };
    let last = kvs.last_mut()?;
    last.key = "zzz-nowhere".into();
    Some(())
}

fn failed_took_effect(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(is_put)?;
    if patient.seen_without(at) < revision(&patient.operations[at]) {
        return None;
    }
    let operation = &mut patient.operations[at];
    operation.response = None;
    operation.outcome = Outcome::Failed;
    operation.error = Some(failure("etcdserver: too many requests"));
    Some(())
}

/// A hole shows the value of an earlier put once more.
fn applied_twice(patient: &mut Patient) -> Option<()> {
    let first = patient.pick(is_put)?;
    let Request::Put(put) = patient.operations[first].request.clone() else { return None };
    let returned = patient.operations[first].returned?;
    let same = |op: &Operation| {
        let Request::Put(other) = &op.request else { return false };
        other.key == put.key && other.value != put.value
    };
    let second = patient.pick(|op| is_put(op) && op.call > returned && same(op))?;
    let hole = revision(&patient.operations[second]);
    patient.operations.remove(second);
    let mut is_shown = false;
    for kv in patient.shown() {
        if kv.mod_revision != hole || kv.value.0.is_empty() {
            continue;
        }
        kv.value = put.value.clone();
        is_shown = true;
    }
    let writers = patient.operations.iter().filter(|op| {
        matches!(&op.request, Request::Put(other) if other.key == put.key && other.value == put.value)
    });
    (is_shown && writers.count() == 1).then_some(())
}

/// The same with a first put that nobody knows the outcome of, but for those who saw its value.
fn unknown_twice(patient: &mut Patient) -> Option<()> {
    let before = patient.operations.clone();
    applied_twice(patient)?;
    let twice = before.iter().find(|op| {
        let Request::Put(put) = &op.request else { return false };
        let is_of = |kv: &&mut KeyValue| {
            kv.key == put.key && kv.value == put.value && kv.mod_revision == revision(op)
        };
        let is_later = |kv: &&mut KeyValue| kv.value == put.value && kv.mod_revision > revision(op);
        patient.shown().iter().any(is_of) && patient.shown().iter().any(is_later)
    })?;
    let first = patient.operations.iter_mut().find(|op| op.op == twice.op)?;
    first.response = None;
    first.outcome = Outcome::Unknown;
    first.error = Some(failure("etcdserver: request timed out"));
    Some(())
}

/// A put becomes one that timed out, and was called after somebody saw it.
fn unknown_early(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(|op| is_put(op) && revision(op) > 0)?;
    let made = revision(&patient.operations[at]);
    let shows = |op: &Operation| {
        let Some(Body::Range { kvs, .. }) = op.response.as_ref().map(|one| &one.body) else {
            return false;
        };
        plain_range(op).is_some() && kvs.iter().any(|kv| kv.mod_revision == made)
    };
    let seen =
        patient.operations.iter().filter(|op| shows(op)).filter_map(|op| op.returned).min()?;
    let mut put = patient.operations.remove(at);
    // A client of its own, and the numbers in the order of calls.
    put.client = 99;
    put.call = seen + 1;
    put.returned = Some(u64::MAX / 2);
    put.response = None;
    put.outcome = Outcome::Unknown;
    put.error = Some(failure("etcdserver: request timed out"));
    let behind = patient.operations.partition_point(|op| op.call <= put.call);
    patient.operations.insert(behind, put);
    for (number, operation) in patient.operations.iter_mut().enumerate() {
        operation.op = number as u64;
    }
    Some(())
}

fn prev_kv(patient: &mut Patient, change: fn(&mut Option<KeyValue>)) -> Option<()> {
    let shows = |op: &Operation| {
        matches!(op.response.as_ref().map(|one| &one.body), Some(Body::Put { prev_kv: Some(_) }))
    };
    let at = patient.pick(shows)?;
    let Body::Put { prev_kv } = &mut response(&mut patient.operations[at])?.body else {
        return None;
    };
    change(prev_kv);
    Some(())
}

fn kv_any(patient: &mut Patient, change: fn(&mut KeyValue)) -> Option<()> {
    let at = patient.pick(shows_keys)?;
    let Body::Range { kvs, .. } = &mut response(&mut patient.operations[at])?.body else {
        return None;
    };
    change(kvs.first_mut()?);
    Some(())
}

fn kv(patient: &mut Patient, change: fn(&mut KeyValue)) -> Option<()> {
    kv_any(patient, change)
}

fn wrong_count(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(|op| plain_range(op).is_some())?;
    let Body::Range { count, .. } = &mut response(&mut patient.operations[at])?.body else {
        return None;
    };
    *count += 1;
    Some(())
}

fn wrong_more(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(|op| plain_range(op).is_some())?;
    let Body::Range { more, .. } = &mut response(&mut patient.operations[at])?.body else {
        return None;
    };
    *more = !*more;
    Some(())
}

fn wrong_order(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(shows_keys)?;
    let Body::Range { kvs, .. } = &mut response(&mut patient.operations[at])?.body else {
        return None;
    };
    if kvs.len() < 2 {
        return None;
    }
    kvs.swap(0, 1);
    Some(())
}

fn wrong_deleted(patient: &mut Patient) -> Option<()> {
    let is = |op: &Operation| {
        matches!(
            op.response.as_ref().map(|r| &r.body),
            Some(Body::DeleteRange { deleted: 1.., .. })
        )
    };
    let at = patient.pick(is)?;
    let Body::DeleteRange { deleted, .. } = &mut response(&mut patient.operations[at])?.body else {
        return None;
    };
    *deleted += 1;
    Some(())
}

/// Only a txn with two empty lists can claim either without more lies.
fn wrong_branch(patient: &mut Patient) -> Option<()> {
    let is = |op: &Operation| {
        let (Request::Txn(txn), Some(_)) = (&op.request, &op.response) else { return false };
        txn.success.is_empty() && txn.failure.is_empty()
    };
    let at = patient.pick(is)?;
    let Body::Txn { succeeded, .. } = &mut response(&mut patient.operations[at])?.body else {
        return None;
    };
    *succeeded = !*succeeded;
    let is_success = *succeeded;
    // A txn of compares alone may be stale; a linearizable read in the branch not taken forbids that.
    let Request::Txn(txn) = &mut patient.operations[at].request else { return None };
    let range = Request::Range(Range { key: "k0".into(), ..Range::default() });
    if is_success { &mut txn.failure } else { &mut txn.success }.push(range);
    Some(())
}

fn torn_serializable(patient: &mut Patient) -> Option<()> {
    let is = |op: &Operation| {
        let Request::Range(range) = &op.request else { return false };
        let plain = Range {
            key: range.key.clone(),
            range_end: range.range_end.clone(),
            serializable: true,
            ..Range::default()
        };
        *range == plain && op.response.is_some()
    };
    let at = patient.pick(is)?;
    let Request::Range(range) = patient.operations[at].request.clone() else { return None };
    let given = response(&mut patient.operations[at])?;
    let Body::Range { kvs, .. } = &given.body else { return None };
    let newest = kvs.iter().map(|kv| kv.mod_revision).max()?;
    given.body = patient.store.read_at(&range, newest - 1);
    Some(())
}

fn is_compaction(operation: &Operation) -> bool {
    matches!(operation.request, Request::Compact { .. }) && operation.response.is_some()
}

fn read_compacted(patient: &mut Patient) -> Option<()> {
    let cut = patient.pick(|op| {
        is_compaction(op) && matches!(op.request, Request::Compact { revision: 2.., .. })
    })?;
    let Request::Compact { revision: limit, .. } = patient.operations[cut].request else {
        return None;
    };
    let returned = patient.operations[cut].returned?;
    let at = patient.pick(|op| plain_range(op).is_some() && op.call > returned)?;
    let old = 1 + patient.dice.below(limit as u64 - 1) as i64;
    let body = patient.store.read_at(plain_range(&patient.operations[at])?, old);
    response(&mut patient.operations[at])?.body = body;
    let Request::Range(range) = &mut patient.operations[at].request else { return None };
    range.revision = old;
    Some(())
}

pub(super) fn refuse(operation: &mut Operation, message: &str) {
    operation.response = None;
    operation.outcome = Outcome::Failed;
    operation.error = Some(failure(message));
}

fn not_compacted(patient: &mut Patient) -> Option<()> {
    if patient.operations.iter().any(|op| matches!(op.request, Request::Compact { .. })) {
        return None;
    }
    let at = patient.pick(|op| plain_range(op).is_some())?;
    let operation = &mut patient.operations[at];
    let Request::Range(range) = &mut operation.request else { return None };
    range.revision = 1;
    refuse(operation, "etcdserver: mvcc: required revision has been compacted");
    Some(())
}

fn compacted_twice(patient: &mut Patient) -> Option<()> {
    let cut = patient.pick(is_compaction)?;
    let returned = patient.operations[cut].returned?;
    let at = patient.pick(|op| plain_range(op).is_some() && op.call > returned)?;
    patient.operations[at].request = patient.operations[cut].request.clone();
    response(&mut patient.operations[at])?.body = Body::Compact {};
    Some(())
}

fn not_future(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(|op| plain_range(op).is_some())?;
    let known = patient.acknowledged_before(patient.operations[at].call);
    let operation = &mut patient.operations[at];
    let Request::Range(range) = &mut operation.request else { return None };
    range.revision = known;
    refuse(operation, "etcdserver: mvcc: required revision is a future revision");
    Some(())
}

fn not_missing(patient: &mut Patient) -> Option<()> {
    let at =
        patient.pick(|op| plain_range(op).is_some_and(|range| range.range_end.0.is_empty()))?;
    let known = patient.acknowledged_before(patient.operations[at].call);
    let operation = &mut patient.operations[at];
    let Request::Range(range) = &operation.request else { return None };
    if !patient.store.exists_from(&range.key, known) {
        return None;
    }
    let put = Put { key: range.key.clone(), ignore_value: true, ..Put::default() };
    operation.request = Request::Put(put);
    refuse(operation, "etcdserver: key not found");
    Some(())
}

/// Every break of every good history is caught and named right. Prints the score of each.
#[test]
fn breaks_are_caught_and_named() {
    let mut scores: BTreeMap<&str, (u32, u32, u32)> = BTreeMap::new();
    let mut missed: BTreeMap<&str, String> = BTreeMap::new();
    let all = BREAKS.iter().chain(break_leases::BREAKS);
    for (number, (name, rules, break_it)) in all.clone().enumerate() {
        let leases = number >= BREAKS.len();
        // Fewer of the histories with leases have a place to break.
        for seed in 0..at_least(if leases { 1_000 } else { 400 }) {
            let shape = Shape {
                clients: 4,
                operations: 50,
                keys: 4,
                unknown: 0,
                repeated: 0,
                plain: false,
                leases,
            };
            let (operations, store) = history_and_store(seed, shape);
            let dice = Dice(seed * 1_000 + number as u64);
            let mut patient = Patient { operations, store, dice };
            if break_it(&mut patient).is_none() {
                continue;
            }
            let report = check(&patient.operations);
            let score = scores.entry(name).or_default();
            score.0 += 1;
            score.1 += u32::from(report.verdict == Verdict::Broken);
            let is_named = report.violations.iter().any(|v| rules.contains(&v.rule));
            score.2 += u32::from(is_named);
            if !is_named {
                let text = render::report(&report, &patient.operations);
                missed.entry(name).or_insert(format!("seed {seed}: {text}"));
            }
        }
    }
    for (name, rules, _) in all.clone() {
        let (made, caught, named) = scores.get(name).copied().unwrap_or_default();
        println!("{caught:4} of {made:4} caught, {named:4} named {}: {name}", rules[0]);
    }
    assert!(missed.is_empty(), "{missed:#?}");
    for (name, ..) in all {
        assert!(scores.get(name).is_some_and(|score| score.0 >= 10), "{name}: too few places");
    }
}

/// There is a break for every rule, each with a score that some test prints.
#[test]
fn every_rule_is_broken() {
    let keys = BREAKS.iter().chain(break_leases::BREAKS).flat_map(|(_, rules, _)| rules.iter());
    let all: Vec<&str> = keys
        .copied()
        .chain(watch_breaks::broken())
        .chain(services::broken())
        .chain(between::BROKEN)
        .chain([breaks::RULE])
        .collect();
    let missing: Vec<&str> =
        RULES.iter().map(|rule| rule.id).filter(|id| !all.contains(id)).collect();
    assert_eq!(missing, [""; 0], "rules that no test breaks");
}
