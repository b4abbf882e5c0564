//! Whether watches were told everything, once, in order, and as it was.
//!
//! # Promises
//!
//! The seven of etcd's page on guarantees (ordered, unique, reliable, atomic, resumable, bookmarkable) and what
//! each event says of itself; every one is a rule of its own. All are judged against the [`Log`]: what the replay
//! of all writes says happened at each revision.
//!
//! # One watch
//!
//! * [`stream`] goes through the messages once, in the order of arrival, and finds what they alone show.
//! * [`compare`] holds the events against the log: what is missing, made up, or not as it was.
//!
//! The first revision to be told is the one asked for; without one, the one after the revision in the header of
//! the message that says that the watch was created. The last one is that of the last event or, if later, of the
//! last notification of progress: up to there nothing may be missing.
//!
//! # Uncertainty
//!
//! Where the log does not know who made a revision, nothing is said about it. Watches are judged even if other
//! rules are broken: what they were told is evidence of its own.
//!
//! Not judged: how late events come, except at the end of a run where the runner says by when all must have come
//! ([`Rest`]).

mod compare;
mod stream;

use super::etcd::log::Log;
use super::render::{self, ms};
use super::{Detail, Violation};
use crate::history::{Body, Event, EventKind, Operation, Request, Watch, WatchMessage};

/// When nothing happened any more, and who must have been told everything by then. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// From here on nothing was broken: watches created later had no fault in their life.
    pub healed_ns: u64,
    /// What was acknowledged until here …
    pub quiet_ns: u64,
    /// … those watches must have been told by here, if they are still open.
    pub told_by_ns: u64,
}

/// Something wrong with one watch.
struct Fault {
    rule: &'static str,
    /// When it showed.
    at: u64,
    /// What follows the name of the watch in the explanation.
    sentence: String,
    /// Revisions whose writers are part of the proof.
    cited: Vec<i64>,
    /// First and last revision that matter.
    revisions: (i64, i64),
    details: Vec<Detail>,
}

impl Fault {
    fn new(rule: &'static str, at: u64, cited: &[i64], sentence: String) -> Self {
        let first = cited.iter().min().copied().unwrap_or(0);
        let last = cited.iter().max().copied().unwrap_or(0);
        let (cited, details) = (cited.to_vec(), Vec::new());
        Self { rule, at, sentence, cited, revisions: (first, last), details }
    }
}

/// A watch and what it was told.
#[derive(Clone, Copy)]
struct Told<'a> {
    operation: &'a Operation,
    asked: &'a Watch,
    messages: &'a [WatchMessage],
}

/// Judges every watch: the violations, each with the moment at which it shows.
pub(super) fn check(log: &Log<'_, '_>, rest: Option<&Rest>) -> Vec<(u64, Violation)> {
    let mut found = Vec::new();
    for operation in log.operations() {
        let Some(told) = told(operation) else { continue };
        let mut faults = Vec::new();
        let stream = stream::read(&told, &mut faults);
        compare::events(&told, &stream, log, &mut faults);
        compare::gaps(&told, &stream, log, &mut faults);
        if let Some(rest) = rest {
            compare::tail(&told, &stream, log, rest, &mut faults);
        }
        let mut named: Vec<&str> = Vec::new();
        for fault in faults {
            // One of each kind is enough to know of a watch.
            if !named.contains(&fault.rule) {
                named.push(fault.rule);
                found.push((fault.at, explain(&told, fault, log)));
            }
        }
    }
    found
}

fn told(operation: &Operation) -> Option<Told<'_>> {
    match (&operation.request, operation.response.as_ref().map(|response| &response.body)) {
        (Request::Watch(asked), Some(Body::Watch { messages })) => {
            Some(Told { operation, asked, messages })
        }
        _ => None,
    }
}

fn explain(told: &Told<'_>, fault: Fault, log: &Log<'_, '_>) -> Violation {
    let mut operations: Vec<u64> = Vec::new();
    let writers = fault.cited.iter().filter_map(|revision| log.writer(*revision));
    for op in writers.map(|writer| writer.op).chain([told.operation.op]) {
        if !operations.contains(&op) {
            operations.push(op);
        }
    }
    Violation {
        rule: fault.rule,
        sentence: format!("{} {}.", render::who(told.operation), fault.sentence),
        operations,
        revisions: fault.revisions,
        details: fault.details,
    }
}

/// An event in words, such as `put a=1 at revision 7`.
fn event_text(event: &Event) -> String {
    let at = event.kv.mod_revision;
    match event.kind {
        EventKind::Put => {
            format!("put {}={} at revision {at}", event.kv.key, render::value(&event.kv.value.0))
        }
        EventKind::Delete => format!("delete {} at revision {at}", event.kv.key),
    }
}

/// Which message, and when, such as `message 3 at 0.012 ms`; counted from 0.
fn message_text(told: &Told<'_>, number: usize) -> String {
    format!("message {number} at {}", ms(told.messages[number].at))
}
