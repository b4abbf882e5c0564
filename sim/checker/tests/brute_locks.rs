//! Tiny histories of locks and elections, good and bad, against every possible order of what members do for them.
//!
//! A lock is a put, if the key is not there, and a read of the oldest key; whoever wins an election has his key there at
//! the revision of the answer, and has the oldest later; what is given back is gone at the revision of the answer. The puts and deletes of
//! one operation may come at any time after its call, each once or never; its answer is a read in between.
//!
//! Not demanded of the checker: that who wins an election had the oldest key at some moment, as long as nobody is shown
//! the contrary later. The test counts how often that makes a difference.

use super::brute::cases;
use super::cluster::Dice;
use super::locks::Locks;
use super::model::{Model, failure};
use super::services::run;
use crate::checker::{Verdict, check, render};
use crate::history::{Body, Bytes, DeleteRange, KeyValue, Operation, Outcome, Put, Range, Request};

/// One thing that a member may do for an operation.
enum Step<'a> {
    /// A put of a key that is there, or is not.
    Put {
        put: Put,
        is_there: bool,
    },
    Delete(Bytes),
    /// A grant that timed out.
    Grant(&'a Request),
    /// The key of who stands for election is there, at the revision of the answer.
    Claimed(&'a Operation),
    /// What answers it.
    Answer(&'a Operation),
}

/// A step of an operation, which must be done by its return if it is due.
struct Part<'a> {
    call: u64,
    due: Option<u64>,
    /// It comes after the part before it in the list.
    follows: bool,
    step: Step<'a>,
}

fn parts(operation: &Operation) -> Vec<Part<'_>> {
    let call = operation.call;
    let is_ok = operation.outcome == Outcome::Ok;
    let may = |step| Part { call, due: None, follows: false, step };
    let due = operation.returned.filter(|_| is_ok);
    let mut parts = Vec::new();
    let owned = |name: &Bytes, lease: i64| Bytes::from(format!("{name}/{lease:x}").as_str());
    let put = |key: Bytes, value: &Bytes, lease| Put {
        key,
        value: value.clone(),
        lease,
        ..Put::default()
    };
    match &operation.request {
        Request::Lock { name, lease } => {
            let put = put(owned(name, *lease), &Bytes::default(), *lease);
            parts.push(may(Step::Put { put, is_there: false }));
        }
        Request::Campaign { name, lease, value } => {
            let put = put(owned(name, *lease), value, *lease);
            parts.push(may(Step::Put { put: put.clone(), is_there: false }));
            parts.push(may(Step::Put { put, is_there: true }));
        }
        Request::Unlock { key } => parts.push(may(Step::Delete(key.clone()))),
        Request::Resign { leader } => parts.push(may(Step::Delete(leader.key.clone()))),
        grant @ Request::LeaseGrant { .. } if !is_ok => parts.push(may(Step::Grant(grant))),
        _ => {}
    }
    if let (false, Request::Lock { name, lease } | Request::Campaign { name, lease, .. }) =
        (is_ok, &operation.request)
    {
        // Who gives up takes his own key back.
        parts.push(may(Step::Delete(owned(name, *lease))));
    }
    if is_ok {
        let follows = matches!(operation.request, Request::Campaign { .. });
        if follows {
            parts.push(Part { call, due, follows: false, step: Step::Claimed(operation) });
        }
        parts.push(Part { call, due, follows, step: Step::Answer(operation) });
    }
    parts
}

/// The oldest key under a name.
fn oldest(store: &Model, name: &Bytes) -> Option<KeyValue> {
    let (key, range_end) = (format!("{name}/"), format!("{name}0"));
    let (key, range_end) = (key.as_str().into(), range_end.as_str().into());
    match store.read_at(&Range { key, range_end, ..Range::default() }, store.revision()) {
        Body::Range { kvs, .. } => kvs.into_iter().min_by_key(|kv| kv.create_revision),
        _ => None,
    }
}

fn held(store: &Model, key: &Bytes) -> Option<KeyValue> {
    match store.read_at(&Range { key: key.clone(), ..Range::default() }, store.revision()) {
        Body::Range { kvs, .. } => kvs.into_iter().next(),
        _ => None,
    }
}

/// Does a step; whether it can be next.
fn take(step: &Step<'_>, store: &mut Model, judges_wins: bool) -> bool {
    match step {
        Step::Put { put, is_there } => {
            held(store, &put.key).is_some() == *is_there
                && store.apply(&Request::Put(put.clone())).is_ok()
        }
        Step::Delete(key) => {
            let delete = DeleteRange { key: key.clone(), ..DeleteRange::default() };
            held(store, key).is_some() && store.apply(&Request::DeleteRange(delete)).is_ok()
        }
        Step::Grant(grant) => store.apply(grant).is_ok(),
        Step::Claimed(operation) => {
            let Some(response) = &operation.response else { return true };
            let Body::Campaign { leader } = &response.body else { return true };
            let kept = held(store, &leader.key);
            response.revision == store.revision()
                && kept.is_some_and(|kv| kv.create_revision == leader.revision)
        }
        Step::Answer(Operation { request: Request::Campaign { .. }, .. }) if !judges_wins => true,
        Step::Answer(operation) => answers(operation, store),
    }
}

fn answers(operation: &Operation, store: &mut Model) -> bool {
    let Some(response) = &operation.response else { return true };
    let is_now = response.revision == store.revision();
    match (&operation.request, &response.body) {
        (Request::Lock { name, .. }, Body::Lock { key }) => {
            is_now && oldest(store, name).is_some_and(|kv| kv.key == *key)
        }
        (Request::Leader { name }, Body::Leader { kv }) => {
            is_now && oldest(store, name).as_ref() == Some(kv)
        }
        (Request::Campaign { name, .. }, Body::Campaign { leader }) => {
            let first = oldest(store, name);
            first.is_some_and(|kv| kv.key == leader.key && kv.create_revision == leader.revision)
        }
        (Request::Unlock { key }, _) => is_now && held(store, key).is_none(),
        (Request::Resign { leader }, _) => {
            let kept = held(store, &leader.key);
            is_now && kept.is_none_or(|kv| kv.create_revision != leader.revision)
        }
        _ => store.apply(&operation.request).as_ref() == Ok(response),
    }
}

/// Whether some order of everything due, and of some of the rest, explains every answer.
fn has_order(parts: &[Part<'_>], done: u64, store: &Model, judges_wins: bool) -> bool {
    let left = |at: &usize| done & (1_u64 << at) == 0;
    let due = (0..parts.len()).filter(left).filter_map(|at| parts[at].due);
    let Some(soonest) = due.min() else { return true };
    let ready =
        |at: &usize| parts[*at].call <= soonest && !(parts[*at].follows && left(&(*at - 1)));
    (0..parts.len()).filter(left).filter(ready).any(|at| {
        let mut next = store.clone();
        take(&parts[at].step, &mut next, judges_wins)
            && has_order(parts, done | 1 << at, &next, judges_wins)
    })
}

/// Changes an answer a little.
fn disturb(operations: &mut [Operation], dice: &mut Dice) {
    let at = dice.below(operations.len() as u64) as usize;
    let other = dice.below(operations.len() as u64) as usize;
    let borrowed = operations[other].response.clone();
    let operation = &mut operations[at];
    let Some(response) = &mut operation.response else { return };
    match (dice.below(4), &mut response.body) {
        (0, _) => response.revision += 1,
        (1, _) if response.revision > 1 => response.revision -= 1,
        (2, Body::Campaign { leader }) => leader.revision += 1,
        (2, Body::Leader { kv }) => kv.create_revision += 1,
        (3, Body::Leader { kv }) => {
            if let Some(Body::Campaign { leader }) = borrowed.map(|other| other.body) {
                (kv.key, kv.create_revision) = (leader.key, leader.revision);
            }
        }
        (3, Body::Lock { .. } | Body::Unlock {} | Body::Resign {} | Body::Campaign { .. }) => {
            operation.response = None;
            operation.outcome = Outcome::Unknown;
            operation.error = Some(failure("etcdserver: request timed out"));
        }
        _ => {}
    }
}

/// The checker and brute force agree on small histories, both ways.
#[test]
fn agrees_with_every_order_of_locks() {
    let cases = cases();
    let (mut verdicts, mut missed) = ([0_u32; 2], 0);
    for seed in 0..cases {
        let mut dice = Dice(seed);
        let mut locks = Locks::new().of_one_name();
        let (steps, jitter) = (4 + dice.below(8), dice.below(4) * 90_000);
        let mut operations = run(&mut locks, seed, steps, jitter);
        for _ in 0..dice.below(3) {
            if !operations.is_empty() {
                disturb(&mut operations, &mut dice);
            }
        }
        let parts: Vec<Part<'_>> = operations.iter().flat_map(parts).collect();
        let [by_keys, in_full] =
            [false, true].map(|judges_wins| has_order(&parts, 0, &Model::new(), judges_wins));
        let report = check(&operations, None);
        let listing: Vec<String> = operations.iter().map(render::line).collect();
        assert!(report.malformed.is_empty(), "seed {seed}: {:?}", report.malformed);
        let agrees = match report.verdict {
            Verdict::Kept => by_keys,
            Verdict::Broken => !in_full,
            Verdict::Undecided => false,
        };
        assert!(
            agrees,
            "seed {seed}: by keys {by_keys}, in full {in_full}\n{}\n{}",
            listing.join("\n"),
            render::report(&report, &operations)
        );
        verdicts[usize::from(report.verdict == Verdict::Kept)] += 1;
        missed += u32::from(report.verdict == Verdict::Kept && !in_full);
    }
    println!(
        "{cases} histories: {} kept, {} broken; {missed} wins beside an older key were not seen",
        verdicts[1], verdicts[0]
    );
    assert!(
        verdicts.iter().all(|count| u64::from(*count) > cases / 10),
        "both kinds: {verdicts:?}"
    );
}
