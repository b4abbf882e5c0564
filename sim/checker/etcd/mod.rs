//! Linearizability of an etcd history, by revision.
//!
//! # Positions
//!
//! A write that made revision `r` stands at `2r`; an operation that changed nothing and was answered at revision
//! `r` stands at `2r + 1` ([`place`]). If every outcome is known, a history is linearizable as a multi-version
//! store exactly if
//!
//! * **(T)** no operation stands before one that had returned when it was called ([`order`]);
//! * **(U)** each revision from 2 on was made by exactly one operation ([`order`]);
//! * **(R)** each answer is what the store held at its position ([`replay`], [`judge`], [`answer`]).
//!
//! Sorting by position and then by call gives the order: T makes it respect real time, U and R make it legal.
//! Conversely the revision is part of the promise, so no other order would do.
//!
//! # Holes
//!
//! A revision without an acknowledged owner is a hole, and must belong to a write with an unknown outcome that was
//! called before anybody saw the hole; each such write owns one hole at most, or none. What was seen of the hole
//! settles most ([`evidence`]); versions and disappearances demand hidden writes ([`timeline`]); what is left is
//! chosen, and chosen again on a conflict, within a budget ([`search`]).
//!
//! # Leases
//!
//! A lease ends with its keys in a revision that nobody may have asked for, or without keys in none ([`lease`]).
//!
//! # Operations without a place
//!
//! Serializable reads must show a revision that existed when they returned, exactly as it was. Refusals and
//! compactions have windows of time ([`refusal`]). Failed operations changed nothing.
//!
//! # Cost
//!
//! Sorting aside, linear in operations and bytes of answers; memory is some 100 bytes for each operation.
//!
//! Not checked: that a refusal for lack of space or of permission was right; which of the branches not taken would
//! have been refused. How stale a serializable read is is measured, not judged ([`stale`]).

mod answer;
mod composed;
mod evidence;
mod exclude;
mod explain;
mod judge;
mod keys;
mod lease;
pub(super) mod log;
mod order;
mod place;
mod refusal;
mod replay;
mod search;
mod stale;
mod store;
mod timeline;

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};

use self::evidence::{Evidence, Suspects};
use self::explain::Explain;
use self::keys::{Keys, Numbering};
use self::lease::Leases;
use self::log::Log;
use self::place::{Glimpse, Place, Shows};
use self::replay::Replay;
use super::render::ms;
use super::wellformed::Faults;
use super::{Doubt, Report, Resolution, Stats, Verdict, Violation};
use crate::history::Operation;

/// Operations looked at together: as many as fit into the processor's nearest caches.
const BLOCK: usize = 64;
/// From so many operations on, a second thread is worth its start.
const LARGE: usize = 100_000;

/// The operations with what is derived from each by itself.
struct History<'a> {
    operations: &'a [Operation],
    places: Vec<Place>,
    /// What answers that show one key say of it, in the order of those operations.
    glimpses: Vec<Glimpse>,
    /// Indexes in order of calls, where that is not the order they stand in.
    sorted: Option<Vec<u32>>,
    keys: Keys<'a>,
    /// Who asked to put a key and value, by their hash; made when first needed.
    writers: OnceCell<HashMap<u64, Vec<u32>>>,
    /// Indexes of the watches that were told anything.
    watches: Vec<u32>,
    /// The revisions they were told of.
    told: Vec<Told>,
    /// Whether an operation is done by other operations.
    has_composed: bool,
}

/// A watch was told of a revision, which therefore existed.
struct Told {
    by: u32,
    revision: i64,
    at: u64,
}

/// The places of operations, as far as they were looked at.
struct Placing {
    places: Vec<Place>,
    glimpses: Vec<Glimpse>,
    has_composed: bool,
}

impl Placing {
    /// For so many operations.
    fn new(operations: usize) -> Self {
        // Room that nobody uses costs nothing.
        let (places, glimpses) = (Vec::with_capacity(operations), Vec::with_capacity(operations));
        Self { places, glimpses, has_composed: false }
    }

    /// Looks at the next operations, of which the first has this index.
    fn look(&mut self, first: usize, block: &[Operation], faults: &mut Faults) {
        for (at, operation) in block.iter().enumerate() {
            faults.look(first + at, operation);
        }
        for operation in block {
            let (place, glimpse) = place::place(operation);
            if place.shows == Shows::One {
                self.glimpses.push(glimpse);
            }
            self.places.push(place);
            self.has_composed |= composed::is_composed(operation);
        }
    }
}

impl<'a> History<'a> {
    /// Looks at every operation once, for all that can be told of it by itself: a large history does not fit into
    /// the processor's cache, and each walk over it costs as much as all arithmetic. What waits for memory is done
    /// sooner by two.
    fn new(operations: &'a [Operation], faults: &mut Faults) -> Self {
        let mut placing = Placing::new(operations.len());
        let mut numbering = Numbering::new(operations.len());
        if operations.len() < LARGE {
            for (number, block) in operations.chunks(BLOCK).enumerate() {
                placing.look(number * BLOCK, block, faults);
                block.iter().for_each(|operation| numbering.add(operation));
            }
        } else {
            std::thread::scope(|scope| {
                scope.spawn(|| operations.iter().for_each(|operation| numbering.add(operation)));
                for (number, block) in operations.chunks(BLOCK).enumerate() {
                    placing.look(number * BLOCK, block, faults);
                }
            });
        }
        let Placing { places, glimpses, has_composed } = placing;
        let is_sorted = places.is_sorted_by_key(|place: &Place| place.call);
        let sorted = (!is_sorted).then(|| {
            let mut sorted: Vec<u32> = (0..operations.len() as u32).collect();
            sorted.sort_by_key(|index| places[*index as usize].call);
            sorted
        });
        let keys = numbering.finish();
        let mut history = Self {
            operations,
            places,
            glimpses,
            sorted,
            keys,
            writers: OnceCell::new(),
            watches: Vec::new(),
            told: Vec::new(),
            has_composed,
        };
        history.hear_watches();
        history
    }

    /// Indexes of the operations in order of calls.
    fn by_call(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        let indexes = 0..self.operations.len() as u32;
        indexes.map(|at| self.sorted.as_ref().map_or(at, |sorted| sorted[at as usize]))
    }

    /// Index and place of each operation, and what it shows of one key (nothing, where it shows more or less).
    fn places(&self) -> impl Iterator<Item = (usize, &Place, Glimpse)> {
        let mut glimpses = self.glimpses.iter();
        self.places.iter().enumerate().map(move |(index, place)| {
            let shows_one = place.shows == Shows::One;
            let glimpse = shows_one.then(|| glimpses.next().expect("one for each that shows one"));
            (index, place, glimpse.copied().unwrap_or_default())
        })
    }

    fn hear_watches(&mut self) {
        for (index, operation) in self.operations.iter().enumerate() {
            if self.places[index].shows != Shows::Several {
                continue;
            }
            let messages = evidence::messages(operation);
            if messages.is_empty() {
                continue;
            }
            let by = index as u32;
            self.watches.push(by);
            for message in messages {
                let newest = message.events.iter().map(|event| event.kv.mod_revision).max();
                let revision = message.revision.max(newest.unwrap_or(0));
                self.told.push(Told { by, revision, at: message.at });
            }
        }
        if !self.told.is_empty() {
            let limit = order::highest_plausible(&self.places);
            self.told.retain(|told| (1..=limit).contains(&told.revision));
        }
    }
}

/// Violations and doubts as they are found.
#[derive(Default)]
struct Found {
    violations: Vec<(u64, Violation)>,
    doubts: Vec<Doubt>,
    accused: BTreeSet<(u32, &'static str, (i64, i64))>,
}

impl Found {
    /// Adds a violation that shows at time `when`; the same operation is accused of the same thing once.
    fn add(&mut self, when: u64, accused: u32, violation: Violation) {
        if self.accused.insert((accused, violation.rule, violation.revisions)) {
            self.violations.push((when, violation));
        }
    }
}

/// Judges what was asked of the keys of one etcd cluster that started empty.
pub fn check(operations: &[Operation]) -> Report {
    check_and(operations, None)
}

/// What else there is to judge, against the log of all changes: violations, and when each shows.
pub(super) type Also<'f> = &'f dyn Fn(&Log<'_, '_>) -> Vec<(u64, Violation)>;

/// The same, and what rests upon it.
pub(super) fn check_and(operations: &[Operation], also: Option<Also<'_>>) -> Report {
    let mut faults = Faults::default();
    let history = History::new(operations, &mut faults);
    let malformed = faults.finish(operations);
    let mut report = Report {
        verdict: Verdict::Undecided,
        violations: Vec::new(),
        doubts: Vec::new(),
        malformed,
        ledger: Vec::new(),
        stats: Stats { operations: operations.len(), ..Stats::default() },
    };
    if !report.malformed.is_empty() {
        return report;
    }
    let composed = history.has_composed.then(|| composed::with_writes(operations));
    let mut history = match &composed {
        // What is added overlaps its origin, which is no fault.
        Some(composed) => History::new(composed, &mut Faults::default()),
        None => history,
    };
    let mut found = Found::default();
    let order = order::order(&mut history, &mut found);
    refusal::check(&history, &order, &mut found);
    let leases = Leases::new(&history);
    let expiries = leases.expiries();
    lease::content::check(&history, &leases, &mut found);
    let evidence = Evidence::gather(&history, &order, &expiries);
    let mut replay = Replay::new(&history, &order, &evidence, leases, &mut found);
    if also.is_some() {
        replay.store.keep_journal();
    }
    refusal::expect_absences(&history, &order, &mut replay);
    replay.run();
    let others = also.map(|also| also(&Log::new(&replay))).unwrap_or_default();
    report.stats.staleness = stale::measure(&history, &order);
    report.stats.last_revision = order.last;
    report.stats.unknown_writes = evidence.unknowns.iter().filter(|one| one.is_open()).count();
    report.stats.holes = evidence.holes.len();
    report.stats.ambiguous_holes = replay.choices();
    report.stats.search_steps = replay.search.steps;
    report.ledger = ledger(&history, &evidence, &replay.search.used);
    if composed.is_some() {
        let composed = operations.iter().filter(|operation| composed::is_composed(operation));
        let composed: BTreeSet<u64> = composed.map(|operation| operation.op).collect();
        report.ledger.retain(|resolution| !composed.contains(&resolution.op));
        report.stats.unknown_writes = report.ledger.len();
    }
    found.violations.extend(others);
    found.violations.sort_by_key(|(when, _)| *when);
    report.violations = found.violations.into_iter().map(|(_, violation)| violation).collect();
    report.doubts = found.doubts;
    report.verdict = match (report.violations.is_empty(), report.doubts.is_empty()) {
        (false, _) => Verdict::Broken,
        (true, false) => Verdict::Undecided,
        (true, true) => Verdict::Kept,
    };
    report
}

/// What each unknown write turned out to be.
fn ledger(history: &History<'_>, evidence: &Evidence<'_>, used: &[i64]) -> Vec<Resolution> {
    let explain = Explain(history);
    let mut ledger = Vec::with_capacity(evidence.unknowns.len());
    let unknowns = evidence.unknowns.iter().zip(used);
    for (unknown, revision) in unknowns.filter(|(unknown, _)| unknown.is_open()) {
        let operation = explain.op(unknown.op);
        let who = explain.who(unknown.op);
        let hole = evidence.hole(*revision).map(|number| &evidence.holes[number]);
        let sighting = hole.and_then(|hole| hole.sightings.first());
        let seen_by = sighting.map(|sighting| explain.op(sighting.by).op);
        let certain = hole.is_some_and(|hole| matches!(hole.suspects, Suspects::Settled(_)));
        let given_up = operation.returned.map_or("never returned".to_owned(), |returned| {
            format!("was given up at {}", ms(returned))
        });
        let end = match (hole, seen_by) {
            (None, _) => "and left no trace".to_owned(),
            (Some(_), Some(by)) if certain => format!("but is revision {revision} (seen by #{by})"),
            (Some(_), _) => format!("and may be revision {revision} (nobody saw otherwise)"),
        };
        ledger.push(Resolution {
            op: operation.op,
            revision: hole.map(|hole| hole.revision),
            certain,
            seen_by,
            sentence: format!("{who} {given_up} {end}."),
        });
    }
    ledger.sort_by_key(|resolution| resolution.op);
    ledger
}
