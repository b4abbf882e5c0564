//! Whether members agree with each other: the same entries make the same state, the same keys the same hash.
//!
//! Asked of members one by one (`HashKv` by clients, `StateHash` by the runner from inside). Two answers are
//! compared where nothing may differ: state at one applied index; keys at one revision that both have compacted up
//! to the same one. All other pairs say nothing about each other.

use std::collections::BTreeMap;

use super::render::{self, ms};
use super::{Detail, Violation};
use crate::history::{Body, Operation};

/// What a hash is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    /// All state after so many entries.
    State(u64),
    /// All keys at a revision, with the compacted one.
    Keys(i64, i64),
}

/// Compares all hashes: the violations, each with the moment at which it shows.
pub(super) fn check(operations: &[Operation]) -> Vec<(u64, Violation)> {
    let mut known: BTreeMap<Of, (u64, &Operation)> = BTreeMap::new();
    let mut found = Vec::new();
    for operation in operations {
        let Some((of, hash)) = hash(operation) else { continue };
        let (first, other) = *known.entry(of).or_insert((hash, operation));
        if first != hash {
            let when = operation.returned.unwrap_or(operation.call);
            found.push((when, differ(of, (first, other), (hash, operation))));
        }
    }
    found
}

fn hash(operation: &Operation) -> Option<(Of, u64)> {
    match operation.response.as_ref()?.body {
        Body::StateHash { applied_index, hash } => Some((Of::State(applied_index), hash)),
        Body::HashKv { hash, compact_revision, hash_revision } => {
            Some((Of::Keys(hash_revision, compact_revision), hash))
        }
        _ => None,
    }
}

fn differ(of: Of, first: (u64, &Operation), second: (u64, &Operation)) -> Violation {
    let (rule, what, revisions) = match of {
        Of::State(index) => {
            ("state-hash", format!("having applied the same {index} entries"), (0, 0))
        }
        Of::Keys(revision, compacted) => (
            "hash-kv",
            format!("of the same keys up to revision {revision}, compacted to {compacted}"),
            (compacted.max(0), revision),
        ),
    };
    let told = |(hash, operation): (u64, &Operation)| {
        let at = ms(operation.returned.unwrap_or(operation.call));
        format!("{} told hash {hash:08x} at {at} ({})", operation.member, render::who(operation))
    };
    let details = vec![Detail {
        what: format!("hash of {}", second.1.member),
        expected: format!("{:08x}, as {} has it", first.0, first.1.member),
        actual: format!("{:08x}", second.0),
    }];
    let sentence = format!("{what}, {}, but {}.", told(first), told(second));
    let sentence = sentence[..1].to_uppercase() + &sentence[1..];
    Violation { rule, sentence, operations: vec![first.1.op, second.1.op], revisions, details }
}
