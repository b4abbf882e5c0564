//! Which unknown operation a hole belongs to, as far as sightings alone say.
//!
//! A hole is a revision that no acknowledged operation claims. A key shown with its mod revision names what was
//! written there; a key shown with its create revision names that it was put there. If only one unknown operation
//! could have done that, the hole is settled before anything is searched.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::ops::Range as Span;

use super::History;
use super::keys::{Quick, pair_hash};
use super::lease::Expiry;
use super::order::Order;
use super::place::{Kind, Shows};
use super::store::NOBODY;
use crate::history::{Body, EventKind, KeyValue, Operation, Request, Response, WatchMessage};

/// A write whose outcome is unknown.
pub(super) struct Unknown<'a> {
    /// Index of the operation; of the grant, for an expiry.
    pub(super) op: u32,
    /// What is done if it takes effect.
    pub(super) request: &'a Request,
    /// It has no effect before this moment.
    pub(super) call: u64,
    /// The one revision that it may have made; 0 for any.
    pub(super) only: i64,
    /// The lease that ends with it.
    pub(super) ends: Option<i64>,
    /// Nobody asked for it.
    pub(super) is_expiry: bool,
    /// Every put of every branch.
    pub(super) puts: Vec<PutOf<'a>>,
    /// Every delete of every branch.
    pub(super) deletes: Vec<Span<u32>>,
    /// What it does depends on other keys than those it touches.
    pub(super) is_txn: bool,
    /// Equal for operations that are interchangeable.
    pub(super) group: u32,
}

/// One put of an unknown operation.
#[derive(Clone, Copy)]
pub(super) struct PutOf<'a> {
    pub(super) key: u32,
    pub(super) value: &'a [u8],
    pub(super) keeps_value: bool,
}

impl Unknown<'_> {
    /// Whether some branch could touch the key.
    pub(super) fn touches(&self, key: u32) -> bool {
        self.puts.iter().any(|put| put.key == key)
            || self.deletes.iter().any(|span| span.contains(&key))
    }

    /// Whether somebody asked for it and was not told what became of it.
    pub(super) fn is_open(&self) -> bool {
        !self.is_expiry && self.only == 0
    }

    /// Whether it may have made a revision.
    pub(super) fn fits(&self, revision: i64) -> bool {
        self.only == 0 || self.only == revision
    }

    fn could_show(&self, sighting: &Sighting<'_>) -> bool {
        if sighting.is_gone {
            return self.deletes.iter().any(|span| span.contains(&sighting.key));
        }
        self.puts.iter().any(|put| {
            put.key == sighting.key
                && sighting.value.is_none_or(|value| put.keeps_value || put.value == value)
        })
    }
}

/// A key that was seen to have been put, or deleted, at a hole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting<'a> {
    pub(super) key: u32,
    /// The value, where the answer showed it and the hole is where it was put.
    pub(super) value: Option<&'a [u8]>,
    /// The whole of what was shown, where the hole is its mod revision.
    pub(super) kv: Option<&'a KeyValue>,
    /// Index of the operation that saw it, and how many saw the same.
    pub(super) by: u32,
    pub(super) times: u32,
    /// A watch was told that the key was deleted there.
    pub(super) is_gone: bool,
}

/// Who may own a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Suspects {
    /// Exactly this unknown operation.
    Settled(u32),
    /// One of these.
    Some(Vec<u32>),
    /// Any unknown operation called in time; nobody saw what it did.
    Anyone,
    /// Nobody could have; a violation.
    Nobody,
}

/// A revision that no acknowledged operation claims.
pub(super) struct Hole<'a> {
    pub(super) revision: i64,
    pub(super) sightings: Vec<Sighting<'a>>,
    pub(super) suspects: Suspects,
}

/// All that is known about unknown writes and holes.
pub(super) struct Evidence<'a> {
    pub(super) unknowns: Vec<Unknown<'a>>,
    pub(super) holes: Vec<Hole<'a>>,
    /// For each unknown: the hole it is reserved for.
    pub(super) reserved: Vec<Option<u32>>,
    by_pair: HashMap<u64, Vec<u32>, BuildHasherDefault<Quick>>,
    keepers: BTreeMap<u32, Vec<u32>>,
    putters: BTreeMap<u32, Vec<u32>>,
    deleters: BTreeMap<u32, Vec<u32>>,
    /// Those that may delete several keys.
    sweepers: Vec<u32>,
    /// Sightings of keys that nobody ever asked to put, per revision.
    pub(super) foreign: Vec<(i64, u32)>,
    /// Answered revocations by the revision that they may have made.
    pub(super) revocations: BTreeMap<i64, Vec<u32>>,
}

impl<'a> Evidence<'a> {
    pub(super) fn gather(
        history: &History<'a>,
        order: &Order,
        expiries: &'a [(Expiry, Request)],
    ) -> Self {
        let mut evidence = Self {
            unknowns: Vec::new(),
            holes: Vec::new(),
            reserved: Vec::new(),
            by_pair: HashMap::default(),
            keepers: BTreeMap::new(),
            putters: BTreeMap::new(),
            deleters: BTreeMap::new(),
            sweepers: Vec::new(),
            foreign: Vec::new(),
            revocations: BTreeMap::new(),
        };
        evidence.list_unknowns(history);
        evidence.list_expiries(history, expiries);
        evidence.index_unknowns();
        for revision in 2..=order.last {
            if order.owner[revision as usize] == NOBODY {
                let suspects = Suspects::Anyone;
                evidence.holes.push(Hole { revision, sightings: Vec::new(), suspects });
            }
        }
        if !evidence.holes.is_empty() {
            evidence.look(history, order);
            evidence.suspect(order);
            evidence.settle();
            evidence.count(order);
        }
        evidence
    }

    /// If more holes must have been made by some moment than there are operations called by then, one has no
    /// owner, and no search is needed to say so.
    fn count(&mut self, order: &Order) {
        let mut owned = 0;
        for hole in &mut self.holes {
            let deadline = order.deadline[hole.revision as usize];
            let called = self.unknowns.partition_point(|unknown| unknown.call <= deadline);
            if hole.suspects == Suspects::Nobody {
                continue;
            }
            if owned < called {
                owned += 1;
            } else if hole.suspects == Suspects::Anyone {
                hole.suspects = Suspects::Nobody;
            }
        }
    }

    fn list_unknowns(&mut self, history: &History<'a>) {
        // A revocation ends its lease at some time of its own even where it finds no keys: none stands for another.
        let mut groups: HashMap<(&Request, Option<u32>), u32, BuildHasherDefault<Quick>> =
            HashMap::default();
        for index in history.by_call() {
            let place = &history.places[index as usize];
            if !matches!(place.kind, Kind::Unknown | Kind::Revocation) {
                continue;
            }
            let request = &history.operations[index as usize].request;
            let next = groups.len() as u32;
            let alone = matches!(request, Request::LeaseRevoke { .. }).then_some(index);
            let mut unknown = Unknown {
                op: index,
                request,
                call: place.call,
                only: place.revision,
                ends: None,
                is_expiry: false,
                puts: Vec::new(),
                deletes: Vec::new(),
                is_txn: matches!(request, Request::Txn(_)),
                group: *groups.entry((request, alone)).or_insert(next),
            };
            effects(history, request, &mut unknown);
            self.unknowns.push(unknown);
        }
    }

    /// Adds what nobody asked for; the list stays in order of calls.
    fn list_expiries(&mut self, history: &History<'a>, expiries: &'a [(Expiry, Request)]) {
        for (number, (expiry, request)) in expiries.iter().enumerate() {
            let mut unknown = Unknown {
                op: expiry.op,
                request,
                call: expiry.from,
                only: 0,
                ends: None,
                is_expiry: true,
                puts: Vec::new(),
                deletes: Vec::new(),
                is_txn: true,
                group: u32::MAX - number as u32,
            };
            effects(history, request, &mut unknown);
            self.unknowns.push(unknown);
        }
        if !expiries.is_empty() {
            self.unknowns.sort_by_key(|unknown| unknown.call);
        }
    }

    fn index_unknowns(&mut self) {
        for (number, unknown) in self.unknowns.iter().enumerate() {
            let number = number as u32;
            for put in &unknown.puts {
                self.putters.entry(put.key).or_default().push(number);
                if put.keeps_value {
                    self.keepers.entry(put.key).or_default().push(number);
                } else {
                    self.by_pair.entry(pair_hash(put.key, put.value)).or_default().push(number);
                }
            }
            for span in &unknown.deletes {
                match span.len() {
                    1 => self.deleters.entry(span.start).or_default().push(number),
                    _ => self.sweepers.push(number),
                }
            }
            if unknown.only != 0 {
                self.revocations.entry(unknown.only).or_default().push(number);
            }
        }
        self.reserved = vec![None; self.unknowns.len()];
    }

    /// Notes every key shown with a revision that is a hole.
    fn look(&mut self, history: &History<'a>, order: &Order) {
        let is_hole = |revision: i64| {
            (2..=order.last).contains(&revision) && order.owner[revision as usize] == NOBODY
        };
        for (index, place, glimpse) in history.places() {
            match place.shows {
                Shows::Nothing | Shows::Absent => continue,
                Shows::One if !is_hole(glimpse.modified) && !is_hole(glimpse.create) => continue,
                _ => {}
            }
            let operation = &history.operations[index];
            let Some(response) = &operation.response else { continue };
            if let Body::Campaign { leader } = &response.body
                && is_hole(leader.revision)
                && let Some(key) = history.keys.id(&leader.key.0)
            {
                let (value, kv, by) = (None, None, index as u32);
                let put = Sighting { key, value, kv, by, times: 1, is_gone: false };
                self.note(leader.revision, put);
            }
            each_shown(&operation.request, response, &mut |kv, has_value| {
                let by_mod = is_hole(kv.mod_revision);
                let by_create =
                    kv.create_revision != kv.mod_revision && is_hole(kv.create_revision);
                if !by_mod && !by_create {
                    return;
                }
                let Some(key) = history.keys.id(&kv.key.0) else {
                    self.foreign.push((kv.mod_revision, index as u32));
                    return;
                };
                let value = has_value.then_some(kv.value.0.as_slice());
                let by = index as u32;
                if by_mod {
                    let sighting =
                        Sighting { key, value, kv: Some(kv), by, times: 1, is_gone: false };
                    self.note(kv.mod_revision, sighting);
                }
                if by_create {
                    let sighting =
                        Sighting { key, value: None, kv: None, by, times: 1, is_gone: false };
                    self.note(kv.create_revision, sighting);
                }
            });
        }
        for index in history.watches.iter().copied() {
            let told = messages(&history.operations[index as usize]).iter();
            for event in told.flat_map(|message| &message.events) {
                let revision = event.kv.mod_revision;
                if event.kind == EventKind::Delete
                    && is_hole(revision)
                    && let Some(key) = history.keys.id(&event.kv.key.0)
                {
                    let (value, kv, by) = (None, None, index);
                    self.note(revision, Sighting { key, value, kv, by, times: 1, is_gone: true });
                }
            }
        }
    }

    fn note(&mut self, revision: i64, sighting: Sighting<'a>) {
        let at = self
            .holes
            .binary_search_by_key(&revision, |hole| hole.revision)
            .expect("every revision without an owner is listed");
        let sightings = &mut self.holes[at].sightings;
        let is_same = |known: &&mut Sighting<'_>| {
            known.key == sighting.key && known.is_gone == sighting.is_gone
        };
        for known in sightings.iter_mut().filter(is_same) {
            if sighting.value.is_none() || known.value == sighting.value {
                known.times += 1;
                return;
            }
            if known.value.is_none() {
                *known = Sighting { times: known.times + 1, ..sighting };
                return;
            }
        }
        sightings.push(sighting);
    }

    fn suspect(&mut self, order: &Order) {
        for at in 0..self.holes.len() {
            let revision = self.holes[at].revision;
            let deadline = (revision, order.deadline[revision as usize]);
            let mut sightings = std::mem::take(&mut self.holes[at].sightings);
            let mut suspects = self.suspects_for(&sightings, deadline);
            if suspects == Suspects::Nobody && sightings.len() > 1 {
                // One wrong answer must not hide the true owner: believe the first sighting that has one.
                let believed = sightings.iter().position(|sighting| {
                    self.suspects_for(std::slice::from_ref(sighting), deadline) != Suspects::Nobody
                });
                if let Some(believed) = believed {
                    suspects = self.suspects_for(&sightings[believed..=believed], deadline);
                    sightings = vec![sightings[believed]];
                }
            }
            self.holes[at].sightings = sightings;
            self.holes[at].suspects = suspects;
        }
    }

    fn suspects_for(&self, sightings: &[Sighting<'a>], (at, deadline): (i64, u64)) -> Suspects {
        let Some(first) = sightings.first() else { return Suspects::Anyone };
        let mut candidates: Vec<u32> = match first.value {
            _ if first.is_gone => {
                let deleters = self.deleters.get(&first.key).into_iter().flatten();
                deleters.chain(&self.sweepers).copied().collect()
            }
            Some(value) => {
                let pairs = self.by_pair.get(&pair_hash(first.key, value));
                let keepers = self.keepers.get(&first.key);
                pairs.into_iter().chain(keepers).flatten().copied().collect()
            }
            None => self.putters.get(&first.key).into_iter().flatten().copied().collect(),
        };
        candidates.sort_unstable();
        candidates.dedup();
        candidates.retain(|candidate| {
            let unknown = &self.unknowns[*candidate as usize];
            unknown.call <= deadline
                && unknown.fits(at)
                && sightings.iter().all(|seen| unknown.could_show(seen))
        });
        match candidates.as_slice() {
            [] => Suspects::Nobody,
            [only] => Suspects::Settled(*only),
            _ => Suspects::Some(candidates),
        }
    }

    /// Reserves operations for the holes that nobody else could own; a second claim is left without owner.
    fn settle(&mut self) {
        for at in 0..self.holes.len() {
            if let Suspects::Settled(unknown) = self.holes[at].suspects {
                let reserved = &mut self.reserved[unknown as usize];
                match reserved {
                    Some(_) => self.holes[at].suspects = Suspects::Nobody,
                    None => *reserved = Some(at as u32),
                }
            }
        }
    }

    /// Number of the hole at a revision.
    pub(super) fn hole(&self, revision: i64) -> Option<usize> {
        self.holes.binary_search_by_key(&revision, |hole| hole.revision).ok()
    }

    /// Whether any hole needs a choice.
    pub(super) fn has_open_holes(&self) -> bool {
        let is_open =
            |hole: &Hole<'_>| matches!(hole.suspects, Suspects::Anyone | Suspects::Some(_));
        self.holes.iter().any(is_open)
            || (!self.holes.is_empty() && self.unknowns.iter().any(|one| one.ends.is_some()))
    }
}

fn effects<'a>(history: &History<'a>, request: &'a Request, unknown: &mut Unknown<'a>) {
    match request {
        Request::Put(put) => unknown.puts.push(PutOf {
            key: history.keys.id(&put.key.0).expect("every key put has a number"),
            value: &put.value.0,
            keeps_value: put.ignore_value,
        }),
        Request::DeleteRange(delete) => {
            unknown.deletes.push(history.keys.span(&delete.key.0, &delete.range_end.0));
        }
        Request::Txn(txn) => {
            for inner in txn.success.iter().chain(&txn.failure) {
                effects(history, inner, unknown);
            }
        }
        Request::LeaseRevoke { id } => {
            unknown.is_txn = true;
            unknown.ends = Some(*id);
            let keys = history.keys.attached(*id).iter();
            unknown.deletes.extend(keys.map(|key| *key..*key + 1));
        }
        _ => {}
    }
}

/// Calls `each` for every key that an answer shows, with whether its value is shown too.
pub(super) fn each_shown<'a>(
    request: &'a Request,
    response: &'a Response,
    each: &mut impl FnMut(&'a KeyValue, bool),
) {
    match (request, &response.body) {
        (Request::Range(range), Body::Range { kvs, .. }) => {
            for kv in kvs {
                each(kv, !range.keys_only);
            }
        }
        (_, Body::Put { prev_kv: Some(kv) }) => each(kv, true),
        (_, Body::DeleteRange { prev_kvs, .. }) => {
            for kv in prev_kvs {
                each(kv, true);
            }
        }
        (Request::Txn(txn), Body::Txn { succeeded, responses }) => {
            let done = if *succeeded { &txn.success } else { &txn.failure };
            for (request, response) in done.iter().zip(responses) {
                each_shown(request, response, each);
            }
        }
        (_, Body::Leader { kv }) => each(kv, true),
        (_, Body::Watch { messages }) => {
            for event in messages.iter().flat_map(|message| &message.events) {
                if event.kind == EventKind::Put {
                    each(&event.kv, true);
                }
                if let Some(kv) = &event.prev_kv {
                    each(kv, true);
                }
            }
        }
        _ => {}
    }
}

/// What a watch was told; nothing for any other operation.
pub(super) fn messages(operation: &Operation) -> &[WatchMessage] {
    match operation.response.as_ref().map(|response| &response.body) {
        Some(Body::Watch { messages }) => messages,
        _ => &[],
    }
}
