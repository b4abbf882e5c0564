//! Whether what members say about who is a member agrees with what clients asked for.
//!
//! Changes of the configuration go through the log, so a linearizable answer shows every change that was
//! acknowledged before it began, except where a later or simultaneous change may have undone it; and it shows
//! nothing that nobody asked for. Changes with an unknown outcome count where they could excuse something, and
//! never where they would have to accuse. Answers of a single member may be old: they only must not show what had
//! not been asked for.
//!
//! Not judged: refusals, and names, which members choose themselves.

use super::Violation;
use super::render::{self, ms};
use crate::history::{Body, Member, Operation, Outcome, Request};

/// etcd's default: more are refused.
const LEARNERS_MAX: usize = 1;

/// A change that happened, or may have.
struct Change<'a> {
    operation: &'a Operation,
    /// The member changed; of an addition with an unknown outcome nobody knows it.
    id: Option<u64>,
}

/// A list that somebody was given.
struct Answer<'a> {
    operation: &'a Operation,
    members: &'a [Member],
    is_linearizable: bool,
}

type Found = Vec<(u64, Violation)>;

/// Judges every answer about members: the violations, each with the moment at which it shows.
pub(super) fn check(operations: &[Operation]) -> Found {
    let changes: Vec<Change<'_>> = operations.iter().filter_map(change).collect();
    let answers: Vec<Answer<'_>> = operations.iter().filter_map(answer).collect();
    let mut found = Vec::new();
    check_ids(&changes, &answers, &mut found);
    for answer in &answers {
        let learners = answer.members.iter().filter(|member| member.learner).count();
        if learners > LEARNERS_MAX {
            let text = format!("lists {learners} learners, and at most {LEARNERS_MAX} is allowed");
            accuse("learner-limit", answer, None, text, &mut found);
        }
        for member in answer.members {
            known(&changes, &answers, answer, member, &mut found);
        }
        if answer.is_linearizable {
            for change in &changes {
                effect(&changes, answer, change, &mut found);
            }
        }
    }
    found
}

fn end(operation: &Operation) -> u64 {
    match operation.outcome {
        Outcome::Unknown => u64::MAX,
        _ => operation.returned.unwrap_or(u64::MAX),
    }
}

fn change(operation: &Operation) -> Option<Change<'_>> {
    let added = match operation.response.as_ref().map(|response| &response.body) {
        Some(Body::Members { member, .. }) => member.as_ref().map(|member| member.id),
        _ => None,
    };
    let id = match operation.request {
        Request::MemberAdd { .. } => added,
        Request::MemberRemove { id }
        | Request::MemberPromote { id }
        | Request::MemberUpdate { id, .. } => Some(id),
        _ => return None,
    };
    (operation.outcome != Outcome::Failed).then_some(Change { operation, id })
}

fn answer(operation: &Operation) -> Option<Answer<'_>> {
    match &operation.response.as_ref()?.body {
        Body::Members { members, .. } => {
            let is_linearizable =
                !matches!(operation.request, Request::MemberList { linearizable: false });
            Some(Answer { operation, members, is_linearizable })
        }
        _ => None,
    }
}

fn accuse(
    rule: &'static str,
    answer: &Answer<'_>,
    other: Option<&Operation>,
    text: String,
    found: &mut Found,
) {
    let operations = other.map(|other| other.op).into_iter().chain([answer.operation.op]).collect();
    let sentence = format!("{} {text}.", render::who(answer.operation));
    let (revisions, details) = ((0, 0), Vec::new());
    found.push((
        end(answer.operation),
        Violation { rule, sentence, operations, revisions, details },
    ));
}

/// An id is given once.
fn check_ids(changes: &[Change<'_>], answers: &[Answer<'_>], found: &mut Found) {
    let is_add =
        |change: &&Change<'_>| matches!(change.operation.request, Request::MemberAdd { .. });
    for change in changes.iter().filter(is_add) {
        let Some(id) = change.id else { continue };
        let added =
            changes.iter().filter(is_add).map(|other| (other.id == Some(id), other.operation));
        let listed = answers.iter().map(|answer| {
            let lists_it = answer.members.iter().any(|member| member.id == id);
            (lists_it && end(answer.operation) < change.operation.call, answer.operation)
        });
        let before = added
            .take_while(|(_, other)| other.op != change.operation.op)
            .chain(listed)
            .find(|(is_it, other)| *is_it && other.op != change.operation.op);
        let Some((_, before)) = before else { continue };
        let text = format!("gave the id {id:x}, which {} had named before", render::who(before));
        let answer = Answer { operation: change.operation, members: &[], is_linearizable: true };
        accuse("member-id", &answer, Some(before), text, found);
    }
}

/// Whether a listed member can be one.
fn known(
    changes: &[Change<'_>],
    answers: &[Answer<'_>],
    answer: &Answer<'_>,
    member: &Member,
    found: &mut Found,
) {
    let until = end(answer.operation);
    let mut adds = changes
        .iter()
        .filter(|change| matches!(change.operation.request, Request::MemberAdd { .. }));
    if adds.clone().any(|add| add.id == Some(member.id)) {
        return;
    }
    let may_be_new = adds.any(|add| add.id.is_none() && add.operation.call <= until);
    if may_be_new || !answer.is_linearizable {
        return;
    }
    // Then it was there from the start, and nobody can have missed it before it was removed.
    let without = answers.iter().find(|other| {
        other.is_linearizable
            && end(other.operation) < answer.operation.call
            && other.members.iter().all(|known| known.id != member.id)
    });
    if let Some(without) = without {
        let who = render::who(without.operation);
        let name = render::member(member);
        let text =
            format!("lists {name}, which {who} had not listed, and which nobody added since");
        accuse("member-list", answer, Some(without.operation), text, found);
    }
}

/// Whether a linearizable answer shows what a change has done.
fn effect(changes: &[Change<'_>], answer: &Answer<'_>, change: &Change<'_>, found: &mut Found) {
    let Some(id) = change.id else { return };
    let is_own = change.operation.op == answer.operation.op;
    let is_before =
        change.operation.outcome == Outcome::Ok && end(change.operation) < answer.operation.call;
    if !is_own && !is_before {
        return;
    }
    let until = end(answer.operation);
    // Others that may have come behind this change and before the answer.
    let may_follow = |is: fn(&Request) -> bool| {
        changes.iter().any(|other| {
            other.operation.op != change.operation.op
                && other.id == Some(id)
                && is(&other.operation.request)
                && other.operation.call <= until
                && end(other.operation) >= change.operation.call
        })
    };
    let removed = may_follow(|it| matches!(it, Request::MemberRemove { .. }));
    let updated = may_follow(|it| matches!(it, Request::MemberUpdate { .. }));
    let promoted = may_follow(|it| matches!(it, Request::MemberPromote { .. }));
    let listed = answer.members.iter().find(|member| member.id == id);
    let wrong = match (&change.operation.request, listed) {
        (Request::MemberRemove { .. }, Some(_)) => Some(format!("still lists {id:x}")),
        (Request::MemberAdd { .. } | Request::MemberPromote { .. }, None) if !removed => {
            Some(format!("does not list {id:x}"))
        }
        (Request::MemberAdd { peer_urls, .. }, Some(member))
            if member.peer_urls != *peer_urls && !updated =>
        {
            Some(format!("lists {}", render::member(member)))
        }
        (Request::MemberAdd { learner, .. }, Some(member))
            if member.learner != *learner && !(*learner && promoted) =>
        {
            Some(format!("lists {}", render::member(member)))
        }
        (Request::MemberPromote { .. }, Some(member)) if member.learner => {
            Some(format!("still lists {}", render::member(member)))
        }
        (Request::MemberUpdate { peer_urls, .. }, Some(member))
            if member.peer_urls != *peer_urls && !updated =>
        {
            Some(format!("lists {}", render::member(member)))
        }
        _ => None,
    };
    let Some(wrong) = wrong else { return };
    if is_own {
        accuse("member-list", answer, None, format!("{wrong} in its own answer"), found);
    } else {
        let gap = ms(answer.operation.call - end(change.operation));
        let who = render::who(change.operation);
        let text = format!("{wrong}, though it began {gap} after {who} had been acknowledged");
        accuse("member-list", answer, Some(change.operation), text, found);
    }
}
