//! Does all writes in the order of revisions and compares every answer at its revision.
//!
//! Invariants:
//! * Before step `r` the store holds what it must have held at revision `r - 1`, given the choices made so far.
//! * A difference that no choice could mend is a violation; any other makes [`super::search`] choose anew.
//! * Each operation is accused at most once.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Evidence, Suspects};
use super::explain::Explain;
use super::judge::{Diff, Judge};
use super::keys::SEVERAL;
use super::lease::Leases;
use super::order::Order;
use super::place::Kind;
use super::search::{Blame, Conflict, Search};
use super::store::{NOBODY, Slot, Store};
use super::timeline::Timeline;
use super::{Found, History, answer};
use crate::history::{Body, Range, Request, Response};

/// Widest range of keys whose absence is noted as confirmed.
const CONFIRM_KEYS: usize = 64;

/// The replay of one history.
pub(super) struct Replay<'h, 'a> {
    pub(super) history: &'h History<'a>,
    pub(super) order: &'h Order,
    pub(super) evidence: &'h Evidence<'a>,
    pub(super) timeline: Timeline,
    pub(super) leases: Leases,
    pub(super) store: Store<'a>,
    pub(super) found: &'h mut Found,
    pub(super) search: Search,
    /// Operations whose differences are not looked at any more, by index.
    pub(super) forgiven: BTreeSet<u32>,
    /// Holes without owner that are known as such, by revision.
    pub(super) vacant: BTreeSet<i64>,
    reads: Buckets,
    /// Reads of the past inside txns, by revision.
    inner: BTreeMap<i64, Vec<(u32, &'a Range, &'a Body)>>,
    /// "Key not found", by the last revision at which it may have been said: (operation, first revision).
    absences: BTreeMap<i64, Vec<(u32, i64)>>,
}

/// Operations by the revision whose content they show.
struct Buckets {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Buckets {
    fn new(history: &History<'_>, last: i64) -> Self {
        let mut starts = vec![0_u32; last as usize + 2];
        let shown = || {
            let places = history.places.iter().enumerate();
            places.filter_map(|(index, _)| Some((index as u32, content_revision(history, index)?)))
        };
        for (_, at) in shown() {
            starts[at as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut items = vec![0; starts[last as usize + 1] as usize];
        for (index, at) in shown() {
            items[next[at as usize] as usize] = index;
            next[at as usize] += 1;
        }
        Self { starts, items }
    }

    fn at(&self, revision: i64) -> std::ops::Range<usize> {
        self.starts[revision as usize] as usize..self.starts[revision as usize + 1] as usize
    }
}

/// The revision whose content a read shows; `None` where there is nothing to compare.
fn content_revision(history: &History<'_>, index: usize) -> Option<i64> {
    let place = &history.places[index];
    if !matches!(place.kind, Kind::Read | Kind::Stale) {
        return None;
    }
    if place.is_simple {
        return Some(place.revision);
    }
    match &history.operations[index].request {
        Request::LeaseGrant { .. } | Request::LeaseRevoke { .. } => None,
        Request::Range(range) if range.revision > 0 => {
            (range.revision <= place.revision).then_some(range.revision)
        }
        _ => Some(place.revision),
    }
}

impl<'h, 'a> Replay<'h, 'a> {
    pub(super) fn new(
        history: &'h History<'a>,
        order: &'h Order,
        evidence: &'h Evidence<'a>,
        leases: Leases,
        found: &'h mut Found,
    ) -> Self {
        let timeline = Timeline::new(history, order, evidence);
        let search = Search::new(history, evidence, &timeline);
        let mut replay = Self {
            history,
            order,
            evidence,
            store: Store::new(&history.keys),
            found,
            search,
            timeline,
            leases,
            forgiven: BTreeSet::new(),
            vacant: BTreeSet::new(),
            reads: Buckets::new(history, order.last),
            inner: BTreeMap::new(),
            absences: BTreeMap::new(),
        };
        replay.collect_inner();
        replay
    }

    /// A refusal that says the key was not there somewhere within `first..=last`.
    pub(super) fn expect_absence(&mut self, op: u32, first: i64, last: i64) {
        self.absences.entry(last).or_default().push((op, first));
    }

    fn collect_inner(&mut self) {
        for (index, operation) in self.history.operations.iter().enumerate() {
            if self.history.places[index].is_simple {
                continue;
            }
            let (Request::Txn(_), Some(response)) = (&operation.request, &operation.response)
            else {
                continue;
            };
            let place = &self.history.places[index];
            if place.revision > 0 {
                let newest = place.revision - i64::from(place.kind == Kind::Write);
                self.collect_past(index as u32, newest, &operation.request, response);
            }
        }
    }

    fn collect_past(&mut self, op: u32, newest: i64, request: &'a Request, response: &'a Response) {
        match (request, &response.body) {
            (Request::Range(range), body) if (1..=newest).contains(&range.revision) => {
                self.inner.entry(range.revision).or_default().push((op, range, body));
            }
            (Request::Txn(txn), Body::Txn { succeeded, responses }) => {
                let done = if *succeeded { &txn.success } else { &txn.failure };
                for (request, response) in done.iter().zip(responses) {
                    self.collect_past(op, newest, request, response);
                }
            }
            _ => {}
        }
    }

    /// Replays everything.
    pub(super) fn run(&mut self) {
        let mut at = 1;
        let mut is_entered = true;
        loop {
            let outcome = match at {
                at if at > self.order.last => match self.look_at_leases() {
                    Ok(()) => return,
                    Err(conflict) => Err(conflict),
                },
                _ if is_entered => self.look(at),
                at => self.enter(at).and_then(|()| self.look(at)),
            };
            match outcome {
                Ok(()) => {
                    if !self.search.has_choices() {
                        self.store.commit();
                    }
                    at += 1;
                    is_entered = false;
                }
                Err(conflict) => (at, is_entered) = self.resolve(at, conflict),
            }
        }
    }

    /// Makes the revision: by its owner, or by whoever may own the hole.
    fn enter(&mut self, at: i64) -> Result<(), Conflict<'a>> {
        self.search.count_step(at);
        let owner = self.order.owner[at as usize];
        if owner == NOBODY {
            return self.fill(at);
        }
        let mark = self.store.mark();
        let operation = &self.history.operations[owner as usize];
        let mut judge = Judge::new(&self.history.keys, &mut self.store, at, owner);
        judge.run(&operation.request, operation.response.as_ref());
        let diffs = judge.diffs;
        if self.search.has_choices() {
            let is_known = match &operation.request {
                Request::Put(put) => put.prev_kv && diffs.is_empty(),
                Request::DeleteRange(_) => true,
                _ => false,
            };
            if is_known {
                for key in self.store.touched(mark) {
                    self.search.confirm(key, at);
                }
            }
        }
        self.compare(owner, at, diffs)
    }

    fn fill(&mut self, at: i64) -> Result<(), Conflict<'a>> {
        let number = self.evidence.hole(at).expect("a revision without owner is a hole");
        if self.vacant.contains(&at) {
            self.patch(number);
            return Ok(());
        }
        match &self.evidence.holes[number].suspects {
            Suspects::Settled(unknown) => self.fill_settled(number, *unknown),
            Suspects::Nobody if self.fill_by_lone_end(number) => Ok(()),
            Suspects::Nobody => {
                self.report_vacant(number);
                self.patch(number);
                Ok(())
            }
            Suspects::Anyone if self.fill_by_revocation(number) => Ok(()),
            Suspects::Some(_) | Suspects::Anyone => self.choose(number),
        }
    }

    /// Passes a hole without owner; what several clients saw there is believed, so that they are not accused
    /// in turn.
    pub(super) fn patch(&mut self, number: usize) {
        let hole = &self.evidence.holes[number];
        for sighting in &hole.sightings {
            if sighting.is_gone {
                self.store.set(sighting.key, Slot { modified: hole.revision, ..Slot::EMPTY });
                continue;
            }
            let Some(kv) = sighting.kv.filter(|_| sighting.times > 1) else {
                // Its one witness has been cited for the hole.
                self.forgiven.insert(sighting.by);
                continue;
            };
            let slot = Slot {
                create: kv.create_revision,
                modified: kv.mod_revision,
                version: kv.version,
                lease: kv.lease,
                value: &kv.value.0,
                writer: NOBODY,
            };
            self.store.set(sighting.key, slot);
        }
    }

    /// Compares all answers that show this revision.
    fn look(&mut self, at: i64) -> Result<(), Conflict<'a>> {
        for item in self.reads.at(at) {
            let op = self.reads.items[item];
            let operation = &self.history.operations[op as usize];
            let response = operation.response.as_ref().expect("a read with a place has an answer");
            let diffs = match &operation.request {
                Request::Range(range) => {
                    let mut diffs = Vec::new();
                    answer::compare(
                        &self.history.keys,
                        &self.store,
                        (range, self.history.keys.single(op)),
                        &response.body,
                        &mut diffs,
                    );
                    diffs
                }
                request => self.try_out(op, at, request, response),
            };
            if diffs.is_empty() && self.search.has_choices() {
                self.confirm(op, &operation.request, response, at);
            }
            self.compare(op, at, diffs)?;
        }
        self.look_inside(at)?;
        self.look_for_absence(at)
    }

    /// Does a request that must change nothing.
    fn try_out(
        &mut self,
        op: u32,
        at: i64,
        request: &'a Request,
        response: &'a Response,
    ) -> Vec<Diff<'a>> {
        let mark = self.store.mark();
        let mut judge = Judge::new(&self.history.keys, &mut self.store, at + 1, op);
        judge.run(request, Some(response));
        let diffs = judge.diffs;
        self.store.back_to(mark);
        diffs
    }

    fn look_inside(&mut self, at: i64) -> Result<(), Conflict<'a>> {
        let Some(reads) = self.inner.get(&at) else { return Ok(()) };
        for (op, range, body) in reads.clone() {
            let mut diffs = Vec::new();
            let range = (range, SEVERAL);
            answer::compare(&self.history.keys, &self.store, range, body, &mut diffs);
            self.compare(op, at, diffs)?;
        }
        Ok(())
    }

    fn look_for_absence(&mut self, at: i64) -> Result<(), Conflict<'a>> {
        let Some(absences) = self.absences.get(&at) else { return Ok(()) };
        for (op, first) in absences.clone() {
            let request = &self.history.operations[op as usize].request;
            let mut keys = Vec::new();
            kept_keys(request, &mut |key| keys.extend(self.history.keys.id(key)));
            // A key that exists has existed since its create revision, and not just before.
            let held = |key: &u32| {
                let slot = self.store.get(*key);
                slot.is_alive() && slot.create <= first
            };
            if keys.is_empty() || !keys.iter().all(held) {
                continue;
            }
            let slot = self.store.get(keys[0]);
            let diff = Diff {
                what: format!("key {}", self.history.keys.name(keys[0]).escape_ascii()),
                expected: format!("present since revision {}", slot.create),
                actual: "refused as not found".to_owned(),
                spans: keys.iter().map(|key| *key..*key + 1).collect(),
                clue: super::judge::Clue::Key {
                    key: self.history.keys.name(keys[0]),
                    held: *slot,
                    seen: None,
                },
            };
            self.compare(op, at, vec![diff])?;
        }
        Ok(())
    }

    /// Notes which keys an answer without differences has confirmed.
    fn confirm(&mut self, op: u32, request: &Request, response: &Response, at: i64) {
        let (Request::Range(range), Body::Range { kvs, .. }) = (request, &response.body) else {
            return;
        };
        if range.keys_only || range.count_only {
            return;
        }
        let single = self.history.keys.single(op);
        if single != SEVERAL && !answer::is_filtered(range) {
            self.search.confirm(single, at);
            return;
        }
        let span = self.history.keys.span(&range.key.0, &range.range_end.0);
        if range.limit == 0 && !answer::is_filtered(range) && span.len() <= CONFIRM_KEYS {
            for key in span {
                self.search.confirm(key, at);
            }
        } else {
            for key in kvs.iter().filter_map(|kv| self.history.keys.id(&kv.key.0)) {
                self.search.confirm(key, at);
            }
        }
    }

    /// Files differences: as a violation if no choice could mend them, else as a conflict.
    fn compare(&mut self, op: u32, at: i64, diffs: Vec<Diff<'a>>) -> Result<(), Conflict<'a>> {
        if diffs.is_empty() || self.forgiven.contains(&op) {
            return Ok(());
        }
        let mendable = |diff: &Diff<'a>| {
            let keys = diff.spans.iter().cloned().flatten();
            let blame = self.search.blame(&self.timeline, keys, at);
            // After the budget is spent a wrong choice may stand, and nothing that rests upon it is certain.
            let is_uncertain = self.search.is_spent && !blame.is_empty();
            (is_uncertain || self.search.latest_choice(self.evidence, self.order, &blame).is_some())
                .then_some(blame)
        };
        let mut blame = Blame::default();
        // A difference that rests on no key (an inner header) follows from the others, if there are any.
        let rests_on_keys = diffs.iter().any(|diff| !diff.spans.is_empty());
        for diff in diffs.iter().filter(|diff| !rests_on_keys || !diff.spans.is_empty()) {
            match mendable(diff) {
                None => {
                    self.accuse(op, at, &diffs);
                    return Ok(());
                }
                Some(keys) if blame.is_empty() => blame = keys,
                Some(_) => {}
            }
        }
        Err(Conflict { op: Some(op), lease: None, blame, diffs })
    }

    pub(super) fn accuse(&mut self, op: u32, at: i64, diffs: &[Diff<'a>]) {
        self.forgiven.insert(op);
        let violation = Explain(self.history).content(self.order, op, at, diffs);
        self.found.add(self.history.places[op as usize].ret, op, violation);
    }
}

/// The keys of puts that keep a value or lease, and so need the key to be there.
pub(super) fn kept_keys(request: &Request, each: &mut impl FnMut(&[u8])) {
    match request {
        Request::Put(put) if put.ignore_value || put.ignore_lease => each(&put.key.0),
        Request::Txn(txn) => {
            for inner in txn.success.iter().chain(&txn.failure) {
                kept_keys(inner, each);
            }
        }
        _ => {}
    }
}
