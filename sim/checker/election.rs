//! Whether leaderships are fenced by revision.
//!
//! A campaign puts a key, and wins when no older key of the election is left. So the create revision of the
//! leader's key orders leaderships: once somebody is known to have won with revision `r`, nobody may win, proclaim
//! or be shown as leader with an older one. That holds whatever clocks and leases do, which is why it is what a
//! careful client relies on.
//!
//! Not judged: who holds a lock at which moment. etcd does not promise that without such a fence.

use std::collections::BTreeMap;

use super::Violation;
use super::render::{self, ms};
use crate::history::{Body, Bytes, LeaderKey, Operation, Outcome, Request};

/// Judges all elections: the violations, each with the moment at which it shows.
pub(super) fn check(operations: &[Operation]) -> Vec<(u64, Violation)> {
    let heard: Vec<Heard<'_>> = operations.iter().filter_map(heard).collect();
    let mut found = shared_revisions(&heard);
    let mut by_return: Vec<&Heard<'_>> = heard.iter().filter(|one| one.is_win).collect();
    by_return.sort_by_key(|win| win.returned());
    let mut by_call: Vec<&Heard<'_>> = heard.iter().collect();
    by_call.sort_by_key(|one| one.operation.call);
    // The newest win of each election that was known when an operation was called.
    let mut fences: BTreeMap<&Bytes, &Heard<'_>> = BTreeMap::new();
    let mut wins = by_return.into_iter().peekable();
    for one in by_call {
        while let Some(win) = wins.next_if(|win| win.returned() < one.operation.call) {
            let fence = fences.entry(win.name).or_insert(win);
            if fence.revision < win.revision {
                *fence = win;
            }
        }
        if let Some(fence) = fences.get(one.name).filter(|fence| fence.revision > one.revision) {
            found.push((one.returned(), unfenced(fence, one)));
        }
    }
    found
}

/// An answer that shows a leadership alive.
struct Heard<'a> {
    operation: &'a Operation,
    name: &'a Bytes,
    key: &'a Bytes,
    /// The create revision of the leader's key.
    revision: i64,
    is_win: bool,
}

impl Heard<'_> {
    fn returned(&self) -> u64 {
        self.operation.returned.unwrap_or(u64::MAX)
    }
}

fn heard(operation: &Operation) -> Option<Heard<'_>> {
    if operation.outcome != Outcome::Ok {
        return None;
    }
    let (name, key, revision, is_win) =
        match (&operation.request, &operation.response.as_ref()?.body) {
            (Request::Campaign { name, .. }, Body::Campaign { leader }) => {
                (name, &leader.key, leader.revision, true)
            }
            (Request::Proclaim { leader: LeaderKey { name, key, revision, .. }, .. }, _) => {
                (name, key, *revision, false)
            }
            (Request::Leader { name }, Body::Leader { kv }) => {
                (name, &kv.key, kv.create_revision, false)
            }
            _ => return None,
        };
    Some(Heard { operation, name, key, revision, is_win })
}

/// Two keys cannot have been created by one revision.
fn shared_revisions(heard: &[Heard<'_>]) -> Vec<(u64, Violation)> {
    let mut owners: BTreeMap<i64, &Heard<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for one in heard.iter().filter(|one| one.is_win) {
        let first = *owners.entry(one.revision).or_insert(one);
        if first.key == one.key {
            continue;
        }
        let sentence = format!(
            "Revision {} is that of two leaderships: {} won with the key {}, and {} with {}.",
            one.revision,
            render::who(first.operation),
            first.key,
            render::who(one.operation),
            one.key
        );
        let operations = vec![first.operation.op, one.operation.op];
        let revisions = (one.revision, one.revision);
        let rule = "election-revision";
        let details = Vec::new();
        found.push((one.returned(), Violation { rule, sentence, operations, revisions, details }));
    }
    found
}

fn unfenced(fence: &Heard<'_>, one: &Heard<'_>) -> Violation {
    let what = match one.operation.request {
        Request::Campaign { .. } => "won with",
        Request::Proclaim { .. } => "was done for",
        _ => "was answered with",
    };
    let sentence = format!(
        "{} {what} the leadership {} of revision {}, though it began {} after {} had won with revision {}: every \
         older key of the election was gone by then.",
        render::who(one.operation),
        one.key,
        one.revision,
        ms(one.operation.call - fence.returned()),
        render::who(fence.operation),
        fence.revision,
    );
    let operations = vec![fence.operation.op, one.operation.op];
    let revisions = (one.revision, fence.revision);
    Violation { rule: "election-fenced", sentence, operations, revisions, details: Vec::new() }
}
