//! Every change of every key, revision by revision, as the replay found it: what other rules are judged against.
//!
//! Invariants:
//! * A change that is called certain took place however the open choices are made; so did everything about one that
//!   is called exact.
//! * Before the first revision whose writer had to be chosen or is missing, everything is certain and exact.
//!
//! The changes are read off the store's journal, so that nothing is done twice and nothing is done differently.

use super::History;
use super::evidence::Suspects;
use super::order::Order;
use super::place::Kind;
use super::replay::Replay;
use super::store::{NOBODY, Slot};
use crate::history::{Operation, Request};

/// One key at one revision, before and after.
#[derive(Clone, Copy, Debug)]
pub(in crate::checker) struct Change<'a> {
    pub(in crate::checker) revision: i64,
    pub(in crate::checker) key: &'a [u8],
    pub(in crate::checker) before: Slot<'a>,
    pub(in crate::checker) now: Slot<'a>,
    /// Whether the key was put or deleted there for certain.
    pub(in crate::checker) is_certain: bool,
    /// Whether its numbers, its value and what was there before are certain too.
    pub(in crate::checker) is_exact: bool,
}

/// All changes, and who made each revision.
pub(in crate::checker) struct Log<'h, 'a> {
    history: &'h History<'a>,
    changes: Vec<Change<'a>>,
    /// Where the changes of each revision begin.
    starts: Vec<usize>,
    /// Who made each revision for certain; `NOBODY` where that is open.
    writers: Vec<u32>,
    /// Keys whose state is open from `open_from` on; empty for none.
    open_keys: Vec<bool>,
    /// The first revision that is not certain.
    open_from: i64,
    /// The first revision that nobody made: from there on any key may be anything.
    vacant_from: i64,
    /// Compactions that were or may have been done: the revision kept, and the moment of the call.
    compactions: Vec<(i64, u64)>,
}

impl<'h, 'a> Log<'h, 'a> {
    /// What the replay has found.
    pub(super) fn new(replay: &Replay<'h, 'a>) -> Self {
        let (history, order) = (replay.history, replay.order);
        let mut log = Self {
            history,
            changes: Vec::new(),
            starts: vec![0; order.last as usize + 2],
            writers: order.owner.clone(),
            open_keys: replay.timeline.is_open.clone(),
            open_from: i64::MAX,
            vacant_from: i64::MAX,
            compactions: compactions(history),
        };
        for hole in &replay.evidence.holes {
            let settled = match hole.suspects {
                Suspects::Settled(unknown) if !replay.vacant.contains(&hole.revision) => {
                    Some(replay.evidence.unknowns[unknown as usize].op)
                }
                _ => None,
            };
            log.writers[hole.revision as usize] = settled.unwrap_or(NOBODY);
            if settled.is_none() {
                log.open_from = log.open_from.min(hole.revision);
            }
        }
        log.set_aside_duplicates(order);
        let vacant = replay.vacant.first().copied().unwrap_or(i64::MAX);
        log.vacant_from = log.vacant_from.min(vacant);
        log.open_from = log.open_from.min(log.vacant_from);
        log.read(replay);
        log
    }

    /// A revision with two writers says nothing for certain.
    fn set_aside_duplicates(&mut self, order: &Order) {
        for (index, place) in self.history.places.iter().enumerate() {
            let at = place.revision as usize;
            if place.kind == Kind::Write && order.owner[at] != index as u32 {
                self.writers[at] = NOBODY;
                self.vacant_from = self.vacant_from.min(place.revision);
            }
        }
    }

    fn read(&mut self, replay: &Replay<'h, 'a>) {
        for (id, before, now) in replay.store.journal() {
            let (is_certain, is_exact) = self.certainty(*id, now);
            self.changes.push(Change {
                revision: now.modified,
                key: self.history.keys.name(*id),
                before: *before,
                now: *now,
                is_certain,
                is_exact,
            });
        }
        self.changes.sort_by_key(|change| change.revision);
        let mut next = 0;
        for (revision, start) in self.starts.iter_mut().enumerate() {
            while self.changes.get(next).is_some_and(|it| it.revision < revision as i64) {
                next += 1;
            }
            *start = next;
        }
    }

    /// Whether a change took place for certain, and whether all about it is certain.
    fn certainty(&self, id: u32, now: &Slot<'a>) -> (bool, bool) {
        let revision = now.modified;
        if revision < self.open_from {
            return (true, true);
        }
        let writer = self.writers[revision as usize];
        if writer == NOBODY {
            return (false, false);
        }
        if !self.is_open(id, revision) {
            return (true, true);
        }
        // A put is a put whatever was there before; only what a txn does may depend on that.
        let operation = &self.history.operations[writer as usize];
        let is_told = operation.response.is_some() || !matches!(operation.request, Request::Txn(_));
        (now.is_alive() && is_told, false)
    }

    fn is_open(&self, id: u32, revision: i64) -> bool {
        revision >= self.vacant_from
            || (revision >= self.open_from
                && self.open_keys.get(id as usize).copied().unwrap_or(false))
    }

    /// The last revision that anybody was told of.
    pub(in crate::checker) fn last(&self) -> i64 {
        self.starts.len() as i64 - 2
    }

    /// All changes of the revisions `from..=to`, in the order in which they were made.
    pub(in crate::checker) fn between(&self, from: i64, to: i64) -> &[Change<'a>] {
        let last = self.last();
        if from > to || from > last {
            return &[];
        }
        let start = self.starts[from.max(0) as usize];
        let end = self.starts[(to.min(last) + 1).max(0) as usize];
        &self.changes[start..end.max(start)]
    }

    /// The change of a key at a revision.
    pub(in crate::checker) fn change(&self, revision: i64, key: &[u8]) -> Option<&Change<'a>> {
        self.between(revision, revision).iter().rev().find(|change| change.key == key)
    }

    /// The operation that made a revision, where that is certain.
    pub(in crate::checker) fn writer(&self, revision: i64) -> Option<&'a Operation> {
        let index = *self.writers.get(usize::try_from(revision).ok()?)?;
        (index != NOBODY).then(|| &self.history.operations[index as usize])
    }

    /// Whether a revision left a key alone, for certain.
    pub(in crate::checker) fn leaves_alone(&self, revision: i64, key: &[u8]) -> bool {
        if self.change(revision, key).is_some() {
            return false;
        }
        if revision > self.last() || revision < 2 || revision < self.open_from {
            return true;
        }
        let Some(writer) = self.writer(revision) else { return false };
        let Some(id) = self.history.keys.id(key) else { return true };
        !self.is_open(id, revision) || !could_touch(self.history, &writer.request, id)
    }

    /// Whether a revision may have been compacted away by some moment.
    pub(in crate::checker) fn may_have_forgotten(&self, revision: i64, at: u64) -> bool {
        self.compactions.iter().any(|(kept, call)| *kept > revision && *call <= at)
    }

    /// All operations of the history.
    pub(in crate::checker) fn operations(&self) -> &'a [Operation] {
        self.history.operations
    }
}

fn compactions(history: &History<'_>) -> Vec<(i64, u64)> {
    let all = history.operations.iter().zip(&history.places);
    all.filter_map(|(operation, place)| match operation.request {
        Request::Compact { revision, .. } if place.kind != Kind::Refused => {
            Some((revision, place.call))
        }
        _ => None,
    })
    .collect()
}

/// Whether a request changes the key in some branch and some state.
fn could_touch(history: &History<'_>, request: &Request, id: u32) -> bool {
    match request {
        Request::Put(put) => history.keys.id(&put.key.0) == Some(id),
        Request::DeleteRange(delete) => {
            history.keys.span(&delete.key.0, &delete.range_end.0).contains(&id)
        }
        Request::Txn(txn) => {
            txn.success.iter().chain(&txn.failure).any(|inner| could_touch(history, inner, id))
        }
        Request::Range(_) | Request::Compact { .. } => false,
        // What ends a lease or a lock may touch anything.
        _ => true,
    }
}
