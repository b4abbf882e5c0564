//! Says in one sentence why something is a violation, with the operations that prove it.

use std::collections::HashMap;

use super::History;
use super::evidence::{Evidence, Sighting};
use super::judge::{Clue, Diff};
use super::keys::pair_hash;
use super::order::Order;
use super::place::Kind;
use super::store::{NOBODY, Slot};
use crate::checker::render::{self, ms};
use crate::checker::{Detail, Doubt, Violation};
use crate::history::{KeyValue, Operation, Outcome, Request};

/// Most fields of one answer that are listed.
const DETAILS_MAX: usize = 8;

/// Explains with the help of the whole history.
pub(super) struct Explain<'h, 'a>(pub(super) &'h History<'a>);

impl<'a> Explain<'_, 'a> {
    pub(super) fn op(&self, index: u32) -> &'a Operation {
        &self.0.operations[index as usize]
    }

    /// `put(a, 1) (#12, client 3, n2)`
    pub(super) fn who(&self, index: u32) -> String {
        render::who(self.op(index))
    }

    fn violation(
        &self,
        rule: &'static str,
        sentence: String,
        operations: &[u32],
        revisions: (i64, i64),
    ) -> Violation {
        let mut numbers: Vec<u64> = Vec::new();
        for index in operations.iter().filter(|index| **index != NOBODY) {
            let op = self.op(*index).op;
            if !numbers.contains(&op) {
                numbers.push(op);
            }
        }
        Violation { rule, sentence, operations: numbers, revisions, details: Vec::new() }
    }

    pub(super) fn simple(
        &self,
        rule: &'static str,
        sentence: String,
        operations: &[u32],
        revision: i64,
    ) -> Violation {
        self.violation(rule, sentence, operations, (revision, revision))
    }

    pub(super) fn impossible_revision(&self, index: u32, limit: i64) -> Violation {
        let revision = self.0.places[index as usize].revision;
        let who = self.who(index);
        let (rule, why) = if revision > limit {
            ("unexplained-revision", "far more revisions than clients asked for writes".to_owned())
        } else if self.0.places[index as usize].kind == Kind::Write {
            ("wrong-content", "the empty store is revision 1, so a change is 2 or more".to_owned())
        } else {
            ("wrong-content", "the empty store is revision 1, and revisions only grow".to_owned())
        };
        let sentence = format!("{who} was answered at revision {revision}: {why}.");
        self.simple(rule, sentence, &[index], revision)
    }

    /// `later` was called after `earlier` had returned, but stands before it.
    pub(super) fn went_back(&self, earlier: u32, later: u32) -> Violation {
        let (before, after) = (&self.0.places[earlier as usize], &self.0.places[later as usize]);
        let gap = ms(after.call - before.ret);
        let known = match before.kind {
            Kind::Write => format!("had been acknowledged as revision {}", before.revision),
            _ => format!("had been answered at revision {}", before.revision),
        };
        let start =
            format!("{} began {gap} after {} {known}, but was", self.who(later), self.who(earlier));
        let (rule, end) = match after.kind {
            Kind::Write if before.kind != Kind::Write && before.revision == after.revision => (
                "future-read",
                format!(
                    "acknowledged as revision {}: that revision was seen before its writer asked for it",
                    after.revision
                ),
            ),
            Kind::Write => (
                "revision-went-back",
                format!(
                    "acknowledged as revision {}: a write that starts later must get revision {} or higher",
                    after.revision,
                    before.revision + 1
                ),
            ),
            Kind::Compaction => (
                "revision-went-back",
                format!(
                    "answered at revision {}: the store must have been at revision {} or higher",
                    after.revision, before.revision
                ),
            ),
            _ => (
                "stale-read",
                format!(
                    "answered at revision {}: a linearizable read that starts later must see revision {} or higher",
                    after.revision, before.revision
                ),
            ),
        };
        let revisions = (after.revision, before.revision);
        self.violation(rule, format!("{start} {end}."), &[earlier, later], revisions)
    }

    pub(super) fn duplicate(&self, first: u32, second: u32) -> Violation {
        let revision = self.0.places[first as usize].revision;
        let sentence = format!(
            "Revision {revision} was given to two writes: {} and {}.",
            self.who(first),
            self.who(second)
        );
        self.simple("duplicate-revision", sentence, &[first, second], revision)
    }

    /// Every operation that asked to put this value under this key.
    fn writers(&self, key: &[u8], value: &[u8]) -> Vec<u32> {
        let Some(id) = self.0.keys.id(key) else { return Vec::new() };
        let index = self.0.writers.get_or_init(|| {
            let mut index: HashMap<u64, Vec<u32>> = HashMap::new();
            for (number, operation) in self.0.operations.iter().enumerate() {
                each_put(&operation.request, &mut |key, value| {
                    let id = self.0.keys.id(key).expect("every key put has a number");
                    index.entry(pair_hash(id, value)).or_default().push(number as u32);
                });
            }
            index
        });
        let mut writers = index.get(&pair_hash(id, value)).cloned().unwrap_or_default();
        writers.retain(|writer| {
            let mut puts_it = false;
            each_put(&self.op(*writer).request, &mut |k, v| puts_it |= k == key && v == value);
            puts_it
        });
        writers.dedup();
        writers
    }

    /// Why nobody can have made the revision of a hole.
    pub(super) fn unexplained(
        &self,
        evidence: &Evidence<'a>,
        order: &Order,
        number: usize,
    ) -> Violation {
        let hole = &evidence.holes[number];
        let revision = hole.revision;
        if let Some(sighting) = hole.sightings.iter().find(|sighting| sighting.value.is_some()) {
            return self.impostor(sighting, revision, order);
        }
        let witness = order.deadline_by[revision as usize];
        if let Some((_, by)) = evidence.foreign.iter().find(|(at, _)| *at == revision) {
            let sentence = format!(
                "{} was shown a key with mod revision {revision} that no client ever asked to put.",
                self.who(*by)
            );
            return self.simple("phantom-value", sentence, &[*by], revision);
        }
        let deadline = order.deadline[revision as usize];
        let open = evidence.unknowns.iter().filter(|unknown| unknown.call <= deadline).count();
        let by = hole.sightings.first().map_or(NOBODY, |sighting| sighting.by);
        let why = match open {
            0 => "and no write with an unknown outcome had been called by then".to_owned(),
            n => format!(
                "and none of the {n} writes with an unknown outcome called by then can have made it \
                 (it changes nothing there, is needed for another revision, or contradicts what was read later)"
            ),
        };
        let seen = match self.0.places[witness as usize].revision {
            0 => format!("was told of revision {revision} or later"),
            answered => format!("was answered at revision {answered}"),
        };
        let sentence = format!(
            "Nobody made revision {revision}: {} {seen} by {}, no acknowledged write has revision {revision}, {why}.",
            self.who(witness),
            ms(deadline),
        );
        self.simple("unexplained-revision", sentence, &[by, witness], revision)
    }

    /// A value was seen at a revision at which nobody can have written it.
    fn impostor(&self, sighting: &Sighting<'a>, revision: i64, order: &Order) -> Violation {
        let key = self.0.keys.name(sighting.key);
        let value = sighting.value.unwrap_or_default();
        let reader = self.op(sighting.by);
        let shown = format!("{}={}", key.escape_ascii(), render::value(value));
        let who = self.who(sighting.by);
        let writers = self.writers(key, value);
        let deadline = order.deadline[revision as usize].min(reader.returned.unwrap_or(u64::MAX));
        let start = format!("{who} was shown {shown} as written at revision {revision}");
        let find = |outcome| writers.iter().copied().find(|w| self.op(*w).outcome == outcome);
        let late = writers.iter().copied().find(|w| self.op(*w).call > deadline);
        let seen = [sighting.by];
        let (rule, end, other) = if writers.is_empty() {
            ("phantom-value", self.nobody_wrote(value), NOBODY)
        } else if let Some(writer) = find(Outcome::Ok).filter(|w| self.op(*w).call <= deadline) {
            let made = self.0.places[writer as usize].revision;
            let who = self.who(writer);
            let end = format!("but the only such write is {who}, acknowledged as revision {made}");
            ("applied-twice", end, writer)
        } else if let Some(writer) = find(Outcome::Unknown).filter(|w| self.op(*w).call <= deadline)
        {
            let who = self.who(writer);
            let end =
                format!("but {who}, the only such write left, already explains another revision");
            ("applied-twice", end, writer)
        } else if let Some(writer) = late {
            let who = self.who(writer);
            let end = format!("but {who} was called only at {}", ms(self.op(writer).call));
            ("future-read", end, writer)
        } else {
            let writer = writers[0];
            let who = self.who(writer);
            ("failed-took-effect", format!("but {who} was refused with a definite error"), writer)
        };
        self.simple(rule, format!("{start}, {end}."), &[other, seen[0]], revision)
    }

    /// The end of a phantom's sentence; names where the value was really written, if anywhere.
    fn nobody_wrote(&self, value: &[u8]) -> String {
        let mut closest = None;
        for operation in self.0.operations {
            each_put(&operation.request, &mut |key, written| {
                if written == value && closest.is_none() {
                    closest = Some((operation.op, key.escape_ascii().to_string()));
                }
            });
        }
        match closest {
            Some((op, key)) => {
                format!("but no client wrote that (closest: #{op} wrote it to {key})")
            }
            None => "but no client ever wrote that value".to_owned(),
        }
    }

    /// An answer that is not what the store held.
    pub(super) fn content(
        &self,
        order: &Order,
        index: u32,
        at: i64,
        diffs: &[Diff<'a>],
    ) -> Violation {
        // What nobody ever wrote says most, then any key, then any field.
        let is_foreign = |diff: &&Diff<'a>| match &diff.clue {
            Clue::Key { key, seen: Some(kv), .. } => {
                !kv.value.0.is_empty() && self.writers(key, &kv.value.0).is_empty()
            }
            _ => false,
        };
        let is_key = |diff: &&Diff<'a>| matches!(diff.clue, Clue::Key { .. });
        let main = diffs.iter().find(is_foreign).or(diffs.iter().find(is_key)).unwrap_or(&diffs[0]);
        let kind = self.0.places[index as usize].kind;
        let (rule, sentence, other) = match &main.clue {
            Clue::NotRefused => {
                let sentence = format!(
                    "{} was done at revision {at}, but had to be refused: it keeps what is not there.",
                    self.who(index)
                );
                ("refusal", sentence, NOBODY)
            }
            Clue::Owner(oldest) => self.owned(index, at, main, oldest.as_ref()),
            Clue::Won(held) => self.won(index, at, main, held),
            Clue::Kept(held) => self.kept(index, at, main, held),
            Clue::Key { held, .. } if kind == Kind::Refused => {
                let sentence = format!(
                    "{} was refused as \"key not found\", but the key existed from revision {} until {at} at \
                     least, which covers all of its time.",
                    self.who(index),
                    held.create
                );
                ("refusal", sentence, held.writer)
            }
            Clue::Key { key, held, seen } => self.key(order, index, at, key, held, *seen),
            Clue::Field => {
                let sentence = format!(
                    "{} was answered from revision {at} with {} {}, but the store held what gives {}.",
                    self.who(index),
                    main.what,
                    main.actual,
                    main.expected
                );
                ("wrong-content", sentence, self.last_writer(order, main, at))
            }
        };
        let rule = match rule {
            "lost-write" | "wrong-content" if kind == Kind::Stale => "serializable-content",
            rule => rule,
        };
        let from = match &main.clue {
            Clue::Key { held, .. }
            | Clue::Owner(Some(held))
            | Clue::Kept(held)
            | Clue::Won(held) => held.modified.clamp(1, at),
            _ => at,
        };
        let mut violation = self.violation(rule, sentence, &[other, index], (from, at));
        violation.details = diffs
            .iter()
            .take(DETAILS_MAX)
            .map(|diff| Detail {
                what: diff.what.clone(),
                expected: diff.expected.clone(),
                actual: diff.actual.clone(),
            })
            .collect();
        violation
    }

    /// Somebody won with a key that was not there.
    fn won(
        &self,
        index: u32,
        at: i64,
        diff: &Diff<'a>,
        held: &Slot<'a>,
    ) -> (&'static str, String, u32) {
        let Diff { what, actual, expected, .. } = diff;
        let sentence = format!(
            "{}, answered at revision {at}, was told to lead with the {what}, {actual}, but {expected}.",
            self.who(index)
        );
        ("election-leader", sentence, held.writer)
    }

    /// What was given back is still there.
    fn kept(
        &self,
        index: u32,
        at: i64,
        diff: &Diff<'a>,
        held: &Slot<'a>,
    ) -> (&'static str, String, u32) {
        let Diff { what, expected, .. } = diff;
        let sentence = format!(
            "{} was acknowledged at revision {at}, but the {what} was still {expected}: later answers show it.",
            self.who(index)
        );
        ("lost-write", sentence, held.writer)
    }

    /// Somebody was told to own a lock, or shown to lead, without the oldest key.
    fn owned(
        &self,
        index: u32,
        at: i64,
        diff: &Diff<'a>,
        oldest: Option<&Slot<'a>>,
    ) -> (&'static str, String, u32) {
        let (rule, what) = match self.op(index).request {
            Request::Lock { .. } => ("lock-owner", "was given the lock with the key"),
            _ => ("election-leader", "was shown as leader the key"),
        };
        let writer = oldest.map_or(NOBODY, |slot| slot.writer);
        let end = match writer {
            NOBODY => "there was no key under its name".to_owned(),
            writer => {
                format!("the oldest key was {}, put by {}", diff.expected, self.who(writer))
            }
        };
        let sentence = format!(
            "{}, answered at revision {at}, {what} {}, but {end}.",
            self.who(index),
            diff.actual
        );
        (rule, sentence, writer)
    }

    fn key(
        &self,
        order: &Order,
        index: u32,
        at: i64,
        key: &'a [u8],
        held: &Slot<'a>,
        seen: Option<&KeyValue>,
    ) -> (&'static str, String, u32) {
        let reader = self.op(index);
        let who = self.who(index);
        if let Some(kv) = seen.filter(|kv| !kv.value.0.is_empty()) {
            let writers = self.writers(key, &kv.value.0);
            let shown = render::key_value(kv);
            let returned = reader.returned.unwrap_or(u64::MAX);
            if writers.is_empty() {
                let end = self.nobody_wrote(&kv.value.0);
                return ("phantom-value", format!("{who} was shown {shown}, {end}."), NOBODY);
            }
            if writers.iter().all(|writer| self.op(*writer).outcome == Outcome::Failed) {
                let end = format!("but {} was refused with a definite error", self.who(writers[0]));
                return (
                    "failed-took-effect",
                    format!("{who} was shown {shown}, {end}."),
                    writers[0],
                );
            }
            if writers.iter().all(|writer| self.op(*writer).call > returned) {
                let end = format!(
                    "but returned before {} was called at {}",
                    self.who(writers[0]),
                    ms(self.op(writers[0]).call)
                );
                return ("future-read", format!("{who} was shown {shown}, {end}."), writers[0]);
            }
        }
        let old = seen.map_or(0, |kv| kv.mod_revision);
        if let Some(kv) = seen
            && !held.is_alive()
            && held.writer != NOBODY
            && let Some(lease) = ended_lease(&self.op(held.writer).request, kv)
        {
            let sentence = format!(
                "Lease {lease} ended at revision {}, with all its keys ({}); answered from revision {at}, {who} was \
                 shown {}, which was attached to it.",
                held.modified,
                self.who(held.writer),
                render::key_value(kv),
            );
            return ("lease-kept-keys", sentence, held.writer);
        }
        let name = key.escape_ascii();
        let shown = seen.map_or_else(|| format!("no {name}"), render::key_value);
        if held.writer != NOBODY && old < held.modified && (held.is_alive() || seen.is_some()) {
            let since = match at - held.modified {
                0 => String::new(),
                1 => format!(", though revision {at} did not touch {name}"),
                _ => format!(
                    ", though none of the revisions {}..{at} touched {name}",
                    held.modified + 1
                ),
            };
            let sentence = format!(
                "{} {} as revision {}; answered from revision {at}, {who} was shown {shown}{since}.",
                self.who(held.writer),
                self.standing(held.writer),
                held.modified,
            );
            return ("lost-write", sentence, held.writer);
        }
        let expected = held.shown_as(key).map_or(format!("no {name}"), |kv| render::key_value(&kv));
        let sentence = format!(
            "{who}, answered from revision {at}, was shown {shown}, but the store held {expected}."
        );
        let other = if held.writer == NOBODY { self.owner(order, old) } else { held.writer };
        ("wrong-content", sentence, other)
    }

    fn owner(&self, order: &Order, revision: i64) -> u32 {
        order.owner.get(revision.max(0) as usize).copied().unwrap_or(NOBODY)
    }

    /// The acknowledged write that last touched what a field rests upon, as far as is cheap to say.
    fn last_writer(&self, order: &Order, diff: &Diff<'_>, at: i64) -> u32 {
        let touches = |index: u32| {
            let mut touched = false;
            each_put(&self.op(index).request, &mut |key, _| {
                let id = self.0.keys.id(key);
                touched |= id.is_some_and(|id| diff.spans.iter().any(|span| span.contains(&id)));
            });
            touched
        };
        (2..=at)
            .rev()
            .take(1_000)
            .map(|revision| self.owner(order, revision))
            .find(|index| *index != NOBODY && touches(*index))
            .unwrap_or(NOBODY)
    }

    fn standing(&self, index: u32) -> &'static str {
        match self.op(index).outcome {
            Outcome::Unknown => "timed out, but was seen",
            _ => "was acknowledged",
        }
    }

    /// Something the budget was not enough for.
    pub(super) fn doubt(
        &self,
        evidence: &Evidence<'a>,
        order: &Order,
        at: i64,
        op: Option<u32>,
    ) -> Doubt {
        let index = op.unwrap_or(order.deadline_by[at as usize]);
        let first = evidence.holes.first().map_or(at, |hole| hole.revision);
        let sentence = format!(
            "{} contradicts the owners chosen for the holes from revision {first} to {at}; not all other choices \
             among {} writes with unknown outcome could be tried.",
            self.who(index),
            evidence.unknowns.len()
        );
        Doubt { sentence, operations: vec![self.op(index).op], revisions: (first, at) }
    }
}

/// The lease that an operation ended, if a key was attached to it.
fn ended_lease(request: &Request, kv: &KeyValue) -> Option<i64> {
    match request {
        Request::LeaseRevoke { id } if kv.lease == *id => Some(*id),
        Request::LeaseGrant { .. } if kv.lease != 0 => Some(kv.lease),
        _ => None,
    }
}

/// Calls `each` for every put of every branch, with key and value.
fn each_put<'a>(request: &'a Request, each: &mut impl FnMut(&'a [u8], &'a [u8])) {
    match request {
        Request::Put(put) => each(&put.key.0, &put.value.0),
        Request::Txn(txn) => {
            for inner in txn.success.iter().chain(&txn.failure) {
                each_put(inner, each);
            }
        }
        _ => {}
    }
}
