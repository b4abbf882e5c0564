//! What was seen of single keys over the revisions, and how many hidden writes that demands.
//!
//! Versions count puts: if a key was seen at version 3 and later, in the same life, at version 7, and only two of
//! the puts in between are known, two more are hidden. A key that was there and later is not was deleted in
//! between. So most holes that nobody saw directly still have one owner.

use super::History;
use super::evidence::Evidence;
use super::keys::SEVERAL;
use super::order::Order;
use super::place::{Glimpse, Kind, Shows, is_whole};
use super::store::NOBODY;
use crate::history::{Body, KeyValue, Range, Request, Response};

/// What one answer said about one key: its numbers, or that it does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) at: i64,
    /// [`Seen::NOWHERE`] if the key was not there.
    create: i64,
    modified: i64,
    version: i64,
}

impl Seen {
    /// Stands for no revision of creation. There is one of these for every other operation: no room for an `Option`.
    const NOWHERE: i64 = i64::MIN;

    fn of(kv: &KeyValue, at: i64) -> Self {
        let (create, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
        Self { at, create, modified, version }
    }

    fn absent(at: i64) -> Self {
        Self { at, create: Self::NOWHERE, modified: 0, version: 0 }
    }

    /// (create, mod, version); `None` if the key was not there.
    pub(super) fn numbers(&self) -> Option<(i64, i64, i64)> {
        (self.create != Self::NOWHERE).then_some((self.create, self.modified, self.version))
    }
}

/// A known write: its revision, and whether it is a put. They sort by revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known(i64);

impl Known {
    fn new(revision: i64, is_put: bool) -> Self {
        Self(2 * revision + i64::from(is_put))
    }

    fn revision(self) -> i64 {
        self.0 >> 1
    }

    fn is_put(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Hidden writes that must lie within a range of revisions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) key: u32,
    pub(super) is_put: bool,
    /// The write is behind this revision …
    pub(super) after: i64,
    /// … and not behind this one.
    pub(super) until: i64,
    pub(super) left: i64,
}

/// Sightings and demands of the keys that unsettled operations could touch.
#[derive(Default)]
pub(super) struct Timeline {
    /// Whether a key can be touched by an operation whose place is not settled. Empty without open holes.
    pub(super) is_open: Vec<bool>,
    seen: Vec<Vec<Seen>>,
    known: Vec<Vec<Known>>,
    /// In order of `after`.
    pub(super) demands: Vec<Demand>,
}

impl Timeline {
    pub(super) fn new(history: &History<'_>, order: &Order, evidence: &Evidence<'_>) -> Self {
        let mut timeline = Self::default();
        if !evidence.has_open_holes() {
            return timeline;
        }
        timeline.is_open = vec![false; history.keys.len()];
        timeline.seen = vec![Vec::new(); history.keys.len()];
        timeline.known = vec![Vec::new(); history.keys.len()];
        for (number, unknown) in evidence.unknowns.iter().enumerate() {
            if evidence.reserved[number].is_some() && !unknown.is_txn {
                continue;
            }
            for put in &unknown.puts {
                timeline.is_open[put.key as usize] = true;
            }
            for span in &unknown.deletes {
                timeline.is_open[span.start as usize..span.end as usize].fill(true);
            }
        }
        timeline.make_room(history, order);
        timeline.observe(history);
        timeline.know(history, order, evidence);
        for key in 0..history.keys.len() {
            timeline.seen[key].sort_by_key(|seen| seen.at);
            timeline.demand(key as u32);
        }
        timeline.demands.sort_by_key(|demand| (demand.after, demand.until, demand.key));
        timeline
    }

    /// The first sighting of a key at or behind a revision.
    pub(super) fn next_seen(&self, key: u32, revision: i64) -> Option<&Seen> {
        let seen = &self.seen[key as usize];
        seen.get(seen.partition_point(|seen| seen.at < revision))
    }

    /// How many sightings of a key behind a revision say that its life of then goes on, before the next known write.
    pub(super) fn seen_alive(&self, key: u32, revision: i64) -> usize {
        let known = &self.known[key as usize];
        let next = known.get(known.partition_point(|known| known.revision() <= revision));
        let until = next.map_or(i64::MAX, |known| known.revision());
        let seen =
            self.seen[key as usize].iter().filter(|seen| (revision..until).contains(&seen.at));
        seen.filter(|seen| seen.numbers().is_some_and(|(create, ..)| create <= revision)).count()
    }

    /// Whether some sighting of a key behind a revision says that its life of then is over.
    pub(super) fn is_gone_later(&self, key: u32, revision: i64) -> bool {
        let behind = self.seen[key as usize].iter().filter(|seen| seen.at >= revision);
        behind.into_iter().any(|seen| seen.numbers().is_none_or(|(create, ..)| create > revision))
    }

    fn is_open(&self, key: u32) -> bool {
        self.is_open[key as usize]
    }

    /// Makes room for what single answers and single writes will add: lists that grow by doubling would copy all of
    /// it twice, and keep a third of the memory for nothing.
    fn make_room(&mut self, history: &History<'_>, order: &Order) {
        let mut rooms = vec![(0, 0); history.keys.len()];
        for (index, place) in history.places.iter().enumerate() {
            let single = history.keys.single(index as u32);
            let is_seen = matches!(place.shows, Shows::Absent | Shows::One);
            if is_seen && single != SEVERAL && place.revision > 0 {
                rooms[single as usize].0 += 1;
            }
        }
        for owner in order.owner.iter().skip(2).filter(|owner| **owner != NOBODY) {
            let single = history.keys.single(*owner);
            if single != SEVERAL {
                rooms[single as usize].1 += 1;
            }
        }
        for (key, (seen, known)) in rooms.into_iter().enumerate() {
            if self.is_open[key] {
                self.seen[key].reserve_exact(seen);
                self.known[key].reserve_exact(known);
            }
        }
    }

    fn observe(&mut self, history: &History<'_>) {
        for (index, place, glimpse) in history.places() {
            let single = history.keys.single(index as u32);
            if single != SEVERAL && !self.is_open(single) {
                continue;
            }
            if place.revision == 0 {
                continue;
            }
            let at = place.revision;
            match place.shows {
                Shows::Nothing => continue,
                Shows::Absent => {
                    self.seen[single as usize].push(Seen::absent(at));
                    continue;
                }
                Shows::One => {
                    let Glimpse { create, modified, version } = glimpse;
                    let seen = Seen { at, create, modified, version };
                    self.seen[single as usize].push(seen);
                    continue;
                }
                Shows::Several => {}
            }
            let operation = &history.operations[index];
            let Some(response) = &operation.response else { continue };
            if let (Request::Range(range), Body::Range { kvs, .. }) =
                (&operation.request, &response.body)
                && let [kv] = kvs.as_slice()
                && single != SEVERAL
                && kv.key == range.key
            {
                let at = if range.revision > 0 { range.revision } else { place.revision };
                self.seen[single as usize].push(Seen::of(kv, at));
                continue;
            }
            match place.kind {
                Kind::Read | Kind::Stale => {
                    self.observe_reads(history, &operation.request, response, place.revision);
                }
                Kind::Write => {
                    self.observe_before(history, &operation.request, response, place.revision)
                }
                _ => {}
            }
        }
    }

    fn observe_reads(
        &mut self,
        history: &History<'_>,
        request: &Request,
        response: &Response,
        at: i64,
    ) {
        match (request, &response.body) {
            (Request::Range(range), Body::Range { kvs, more, .. }) => {
                let at = if range.revision > 0 { range.revision } else { at };
                if !range.count_only {
                    self.observe_range(history, range, kvs, *more, at);
                }
            }
            (Request::Txn(txn), Body::Txn { succeeded, responses }) => {
                let done = if *succeeded { &txn.success } else { &txn.failure };
                for (request, response) in done.iter().zip(responses) {
                    self.observe_reads(history, request, response, at);
                }
            }
            _ => {}
        }
    }

    fn observe_range(
        &mut self,
        history: &History<'_>,
        range: &Range,
        kvs: &[KeyValue],
        more: bool,
        at: i64,
    ) {
        for kv in kvs {
            self.observe_key(history, kv, at);
        }
        if more || !is_whole(range) {
            return;
        }
        let mut shown = kvs.iter().map(|kv| kv.key.0.as_slice()).peekable();
        for key in history.keys.span(&range.key.0, &range.range_end.0) {
            let name = history.keys.name(key);
            while shown.next_if(|shown| *shown < name).is_some() {}
            if shown.peek() != Some(&name) && self.is_open(key) {
                self.seen[key as usize].push(Seen::absent(at));
            }
        }
    }

    fn observe_key(&mut self, history: &History<'_>, kv: &KeyValue, at: i64) {
        if let Some(key) = history.keys.id(&kv.key.0).filter(|key| self.is_open(*key)) {
            self.seen[key as usize].push(Seen::of(kv, at));
        }
    }

    /// What a plain write says of the state just before it.
    fn observe_before(
        &mut self,
        history: &History<'_>,
        request: &Request,
        response: &Response,
        at: i64,
    ) {
        match (request, &response.body) {
            (Request::Put(put), Body::Put { prev_kv }) if put.prev_kv => match prev_kv {
                Some(kv) => self.observe_key(history, kv, at - 1),
                None => {
                    if let Some(key) = history.keys.id(&put.key.0).filter(|key| self.is_open(*key))
                    {
                        self.seen[key as usize].push(Seen::absent(at - 1));
                    }
                }
            },
            (Request::DeleteRange(_), Body::DeleteRange { prev_kvs, .. }) => {
                for kv in prev_kvs {
                    self.observe_key(history, kv, at - 1);
                }
            }
            _ => {}
        }
    }

    fn know(&mut self, history: &History<'_>, order: &Order, evidence: &Evidence<'_>) {
        for (revision, owner) in order.owner.iter().enumerate().skip(2) {
            let revision = revision as i64;
            if *owner == NOBODY {
                let hole = &evidence.holes[evidence.hole(revision).expect("a hole is listed")];
                for sighting in &hole.sightings {
                    if self.is_open(sighting.key) {
                        self.known[sighting.key as usize]
                            .push(Known::new(revision, !sighting.is_gone));
                    }
                }
                continue;
            }
            let single = history.keys.single(*owner);
            if single != SEVERAL && !self.is_open(single) {
                continue;
            }
            if single != SEVERAL && history.places[*owner as usize].is_put {
                self.known[single as usize].push(Known::new(revision, true));
                continue;
            }
            let operation = &history.operations[*owner as usize];
            if let Some(response) = &operation.response {
                self.know_write(history, &operation.request, response, revision);
            }
        }
    }

    fn know_write(
        &mut self,
        history: &History<'_>,
        request: &Request,
        response: &Response,
        at: i64,
    ) {
        match (request, &response.body) {
            (Request::Put(put), _) => {
                if let Some(key) = history.keys.id(&put.key.0).filter(|key| self.is_open(*key)) {
                    self.known[key as usize].push(Known::new(at, true));
                }
            }
            (Request::DeleteRange(delete), Body::DeleteRange { .. }) => {
                for key in history.keys.span(&delete.key.0, &delete.range_end.0) {
                    if self.is_open(key) {
                        self.known[key as usize].push(Known::new(at, false));
                    }
                }
            }
            (Request::Txn(txn), Body::Txn { succeeded, responses }) => {
                let done = if *succeeded { &txn.success } else { &txn.failure };
                for (request, response) in done.iter().zip(responses) {
                    self.know_write(history, request, response, at);
                }
            }
            _ => {}
        }
    }

    /// What each two neighbouring sightings of a key demand in between.
    fn demand(&mut self, key: u32) {
        let mut previous = Seen::absent(1);
        for index in 0..self.seen[key as usize].len() {
            let seen = self.seen[key as usize][index];
            if seen.at > previous.at {
                self.demand_between(key, &previous, &seen);
            }
            previous = seen;
        }
    }

    fn demand_between(&mut self, key: u32, from: &Seen, to: &Seen) {
        let known = &self.known[key as usize];
        let between = |after: i64, until: i64| {
            let start = known.partition_point(|known| known.revision() <= after);
            let end = known.partition_point(|known| known.revision() <= until);
            &known[start..end.max(start)]
        };
        let puts = |after, until| {
            between(after, until).iter().filter(|known| known.is_put()).count() as i64
        };
        // The last sign of life before `until`, if the key was alive there as far as is known.
        let alive_since = |until: i64| match between(from.at, until).last() {
            Some(known) => known.is_put().then_some(known.revision()),
            None => from.numbers().map(|_| from.at),
        };
        let mut add = |is_put, after, until, left| {
            if left > 0 && until > after {
                self.demands.push(Demand { key, is_put, after, until, left });
            }
        };
        match (from.numbers(), to.numbers()) {
            (_, None) => {
                if let Some(since) = alive_since(to.at) {
                    add(false, since, to.at, 1);
                }
            }
            // As many puts as before: none is hidden, whichever are known.
            (Some((create, _, version)), Some((same, _, later)))
                if create == same && later <= version => {}
            (Some((create, _, version)), Some((same, modified, later))) if create == same => {
                add(true, from.at, modified.min(to.at), later - version - puts(from.at, to.at));
            }
            (_, Some((create, modified, version))) => {
                let until = modified.min(to.at);
                add(true, create, until, version - 1 - puts(create, to.at));
                if let Some(since) = alive_since(create - 1) {
                    add(false, since, create - 1, 1);
                }
            }
        }
    }
}
