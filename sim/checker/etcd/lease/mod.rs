//! Leases: what was granted, what ended, and whether every answer about a lease can be true.
//!
//! # Leases and revisions
//!
//! A lease ends with all its keys, in one revision; without keys it ends without a revision. So a revocation that
//! was answered at revision `r` made `r`, or found no keys; and an expiry with keys is a revision that nobody asked
//! for. Both stand among the suspects for holes ([`super::evidence`]): a revocation for its own revision alone, an
//! expiry for any hole that was seen late enough. What is deleted follows from the store.
//!
//! # Promises
//!
//! * A lease that nobody revoked lives for its TTL after the call of its grant and of every renewal that succeeded
//!   (`lease-expired-early`). The server's clock may be faster than the clients' by [`RATE_PERCENT`]. It may live
//!   on without bound: a new leader starts again.
//! * Its end deletes exactly its keys, at once (`lease-kept-keys`).
//! * Nothing is attached to a lease that is not there, nothing else is refused as such (`lease-refusal`).
//! * What has ended is not renewed (`lease-revived`).
//! * Ids, TTLs and keys are told as they are or were (`lease-content`).
//!
//! Given an owner for every revision, each lease is judged by itself ([`life`]).
//!
//! # Left out
//!
//! * Time-to-live answers and lists may come from a leader that has been deposed and does not know it, as in etcd:
//!   they are compared with the past as a whole, not with the moment.
//! * A refusal of a txn that names several leases.
//! * Leases of sessions that nobody in the history was granted: they may have any life.
//! * With a revision that nobody can have made, what keys a lease had is not known, and not asked.

mod chain;
pub(super) mod content;
mod end;
mod life;
mod may;
mod words;

use std::collections::BTreeMap;

use self::life::{Claim, Ending, Event};
use super::evidence::Unknown;
use super::explain::Explain;
use super::place::Kind;
use super::replay::Replay;
use super::search::Conflict;
use super::{History, composed};
use crate::checker::Violation;
use crate::history::{Body, Operation, Outcome, Request};

/// How much faster than the clients' a leader's clock may run, in a hundred.
const RATE_PERCENT: u64 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// etcd's texts.
const NOT_FOUND: &str = "requested lease not found";
const EXISTS: &str = "lease already exists";

/// A grant that happened or may have happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// Index of the operation.
    pub(super) op: u32,
    call: u64,
    /// Until when it lasts at least without renewal.
    until: u64,
    ttl_s: i64,
    is_known: bool,
}

/// What was said of one lease, whatever the order of revisions.
#[derive(Default)]
struct Lease {
    grants: Vec<Grant>,
    /// Revocations: operation, and whether it was answered.
    revocations: Vec<(u32, bool)>,
    /// Answered puts that attached a key, in order of revisions.
    attached_at: Vec<(i64, u32)>,
    /// Claims without a place.
    said: Vec<Event>,
}

/// All leases of a history.
#[derive(Default)]
pub(super) struct Leases {
    by_id: BTreeMap<i64, Lease>,
    /// Grants that timed out and left the id to the server.
    nameless: Vec<Grant>,
    /// Answers to time-to-live and to lists.
    answers: Vec<u32>,
    /// Leases that have been accused.
    hopeless: Vec<i64>,
}

/// An expiry that may have taken place.
pub(super) struct Expiry {
    /// Index of the grant.
    pub(super) op: u32,
    /// Not before.
    pub(super) from: u64,
}

/// How long a TTL lasts at least by the clients' clock.
fn lasting(ttl_s: i64) -> u64 {
    (ttl_s.max(0) as u64).saturating_mul(SECOND_NS / 100 * (100 - RATE_PERCENT))
}

impl Leases {
    pub(super) fn new(history: &History<'_>) -> Self {
        let mut leases = Self::default();
        for op in history.keys.about_leases() {
            leases.add(history, *op);
        }
        leases.add_sessions(history);
        if history.keys.leases().next().is_some() {
            for (index, place) in history.places.iter().enumerate() {
                if place.kind == Kind::Refused {
                    leases.add_refusal(history, index as u32);
                }
            }
            for lease in history.keys.leases() {
                leases.by_id.entry(lease).or_default();
            }
            for op in history.keys.attaching() {
                let place = &history.places[*op as usize];
                if let Request::Put(put) = &history.operations[*op as usize].request
                    && place.kind == Kind::Write
                {
                    let lease = leases.by_id.entry(put.lease).or_default();
                    lease.attached_at.push((place.revision, *op));
                }
            }
            for lease in leases.by_id.values_mut() {
                lease.attached_at.sort_unstable();
            }
        }
        leases
    }

    fn add(&mut self, history: &History<'_>, op: u32) {
        let operation = &history.operations[op as usize];
        let body = operation.response.as_ref().map(|response| &response.body);
        match (&operation.request, body) {
            (Request::LeaseGrant { .. }, Some(Body::LeaseGrant { id, ttl_s })) => {
                let grant = grant(op, operation, *ttl_s, true);
                self.by_id.entry(*id).or_default().grants.push(grant);
            }
            (Request::LeaseGrant { id, ttl_s }, _) if operation.outcome == Outcome::Unknown => {
                let grant = grant(op, operation, *ttl_s, false);
                match id {
                    0 => self.nameless.push(grant),
                    id => self.by_id.entry(*id).or_default().grants.push(grant),
                }
            }
            (Request::LeaseGrant { id, .. }, _) if is_refused(operation, EXISTS) => {
                self.say(*id, op, operation, Claim::Alive { until: 0 });
            }
            (Request::LeaseRevoke { id }, _) if operation.outcome != Outcome::Failed => {
                let revocation = (op, operation.outcome == Outcome::Ok);
                self.by_id.entry(*id).or_default().revocations.push(revocation);
            }
            (Request::LeaseKeepAlive { id }, Some(Body::LeaseKeepAlive { ttl_s, .. })) => {
                let until = operation.call.saturating_add(lasting(*ttl_s));
                let claim = if *ttl_s > 0 { Claim::Alive { until } } else { Claim::Dead };
                self.say(*id, op, operation, claim);
            }
            (Request::LeaseRevoke { id } | Request::LeaseKeepAlive { id }, _)
                if is_refused(operation, NOT_FOUND) =>
            {
                self.say(*id, op, operation, Claim::Dead);
            }
            (Request::LeaseTimeToLive { .. } | Request::LeaseLeases {}, Some(_)) => {
                self.answers.push(op);
            }
            _ => {}
        }
    }

    /// A lock or a leadership may rest upon a lease of a session that the server, or somebody before the history,
    /// has made: if nobody here was granted it, it may have been there from the start, and may end at any time.
    fn add_sessions(&mut self, history: &History<'_>) {
        for op in history.keys.about_leases() {
            let operation = &history.operations[*op as usize];
            let id = composed::lease(operation);
            let lease = self.by_id.entry(id).or_default();
            if id != 0 && lease.grants.is_empty() {
                lease.grants.push(Grant { op: *op, call: 0, until: 0, ttl_s: 0, is_known: false });
            }
        }
        self.by_id.remove(&0);
    }

    fn add_refusal(&mut self, history: &History<'_>, op: u32) {
        let operation = &history.operations[op as usize];
        if !is_refused(operation, NOT_FOUND) {
            return;
        }
        let mut named = Vec::new();
        named_leases(&operation.request, &mut named);
        named.dedup();
        if let [lease] = named.as_slice() {
            self.say(*lease, op, operation, Claim::Dead);
        }
    }

    fn say(&mut self, lease: i64, op: u32, operation: &Operation, claim: Claim) {
        let event = Event {
            op,
            claim,
            low: operation.call,
            lowest: operation.call,
            high: operation.returned.unwrap_or(u64::MAX),
            position: 0,
            has_keys: None,
        };
        self.by_id.entry(lease).or_default().said.push(event);
    }

    /// The grants that may have made a lease.
    fn grants<'l>(&'l self, lease: &'l Lease) -> &'l [Grant] {
        // A server never chooses an id that is taken.
        if lease.grants.is_empty() { &self.nameless } else { &lease.grants }
    }

    /// Whether a lease that ended with a revision may have been granted again before the next.
    fn may_return(&self, history: &History<'_>, unknown: &Unknown<'_>, revision: i64) -> bool {
        let lease = unknown.ends.and_then(|id| self.by_id.get(&id));
        let is_then = |grant: &Grant| history.places[grant.op as usize].revision == revision;
        lease.is_some_and(|lease| {
            self.grants(lease).iter().any(|grant| !grant.is_known || is_then(grant))
        })
    }

    /// Every expiry that there may have been, with the earliest moment that it could show, and what it does.
    pub(super) fn expiries(&self) -> Vec<(Expiry, Request)> {
        let mut expiries = Vec::new();
        for (id, lease) in &self.by_id {
            let grants = self.grants(lease);
            let renewed = lease.said.iter().filter_map(|event| match event.claim {
                Claim::Alive { until } => Some(until),
                _ => None,
            });
            // With several lives it is left to [`life`] which of them a renewal belongs to.
            let renewed = renewed.max().filter(|_| lease.grants.len() == 1).unwrap_or(0);
            let lives = if lease.grants.is_empty() { grants.len().min(1) } else { grants.len() };
            let mut firsts: Vec<&Grant> = grants.iter().collect();
            firsts.sort_by_key(|grant| grant.until);
            for grant in &firsts[..lives] {
                let from = grant.until.max(renewed);
                expiries.push((Expiry { op: grant.op, from }, Request::LeaseRevoke { id: *id }));
            }
        }
        expiries
    }
}

fn grant(op: u32, operation: &Operation, ttl_s: i64, is_known: bool) -> Grant {
    let until = operation.call.saturating_add(lasting(ttl_s));
    Grant { op, call: operation.call, until, ttl_s, is_known }
}

fn is_refused(operation: &Operation, text: &str) -> bool {
    operation.outcome == Outcome::Failed
        && operation.error.as_ref().is_some_and(|error| error.message.contains(text))
}

/// The leases that a request attaches keys to, in any branch.
pub(super) fn named_leases(request: &Request, into: &mut Vec<i64>) {
    match request {
        Request::Put(put) if put.lease != 0 => into.push(put.lease),
        Request::Txn(txn) => {
            for inner in txn.success.iter().chain(&txn.failure) {
                named_leases(inner, into);
            }
        }
        _ => {}
    }
}

impl<'a> Replay<'_, 'a> {
    /// Judges every lease by itself, now that every revision has an owner.
    pub(super) fn look_at_leases(&mut self) -> Result<(), Conflict<'a>> {
        if self.leases.by_id.is_empty() {
            return Ok(());
        }
        let chains = chain::chains(&self.leases, self)
            .unwrap_or_else(|| chain::chains_without_keys(&self.leases, self));
        // Every revision is made once more.
        self.count_work(self.order.last as u64);
        for (id, chain) in &chains.by_id {
            if self.leases.hopeless.contains(id) {
                continue;
            }
            let mut work = 0;
            let mut events = chain.events.clone();
            let mut ending = life::live(&events, &chain.hidden, chains.behind, &mut work);
            let mut raised = chains.raised.as_slice();
            if matches!(ending, Ending::Breaks { .. }) && !raised.is_empty() {
                // If it breaks whenever the holes were made, it does not matter who was called late.
                events.iter_mut().for_each(|event| event.low = event.lowest);
                let anyway = life::live(&events, &chain.hidden, chains.behind_all, &mut work);
                if matches!(anyway, Ending::Breaks { .. }) {
                    (ending, raised) = (anyway, &[]);
                } else {
                    events.clone_from(&chain.events);
                }
            }
            self.count_work(work);
            let (event, alive_until) = match ending {
                Ending::Fits => continue,
                Ending::Unsure => {
                    self.leases.hopeless.push(*id);
                    self.found.doubts.push(words::unsure(*id, &chain.events, self.history));
                    continue;
                }
                Ending::Breaks { event, alive_until } => (event, alive_until),
            };
            let lease = &self.leases.by_id[id];
            let broken = words::Broken { id: *id, lease, events: &events, event, alive_until };
            let violation = broken.violation(&self.leases, &Explain(self.history));
            let Event { op, high, .. } = events[event];
            self.blame_lease(*id, raised, (op, high), violation)?;
        }
        for (id, op) in
            chains.by_id.iter().flat_map(|(id, chain)| chain.untrue.iter().map(|op| (*id, *op)))
        {
            if self.leases.hopeless.contains(&id) {
                continue;
            }
            let violation = words::wrong_keys(id, op, &Explain(self.history));
            let ret = self.history.places[op as usize].ret;
            self.blame_lease(id, &chains.raised, (op, ret), violation)?;
        }
        Ok(())
    }

    /// What is looked at again after each choice is part of what the search costs.
    fn count_work(&mut self, work: u64) {
        if self.search.has_choices() {
            self.search.steps += work;
        }
    }

    /// Files a violation about a lease, or blames the choices that it rests upon.
    fn blame_lease(
        &mut self,
        lease: i64,
        raised: &[i64],
        (accused, when): (u32, u64),
        violation: Violation,
    ) -> Result<(), Conflict<'a>> {
        let keys = self.history.keys.attached(lease).iter().copied();
        let mut blame = self.search.blame(&self.timeline, keys, 0);
        // What was made later is not to blame, whoever made it.
        let last = self.order.birth.partition_point(|birth| *birth <= when) as i64 - 1;
        for (_, until) in blame.keys.values_mut() {
            *until = last;
        }
        for (unknown, used) in self.evidence.unknowns.iter().zip(&self.search.used) {
            let mut named = Vec::new();
            named_leases(unknown.request, &mut named);
            // An end that is used later was not there to explain an earlier one, without keys.
            let is_end = *used != 0 && unknown.ends == Some(lease);
            if is_end || ((1..=last).contains(used) && named.contains(&lease)) {
                blame.choose(*used);
            }
        }
        for revision in raised.iter().filter(|revision| **revision <= last) {
            blame.choose(*revision);
        }
        let accusation = Accusation { lease, accused, when, violation };
        // After the budget is spent a wrong choice may stand, and nothing that rests upon it is certain.
        let is_uncertain = self.search.is_spent && self.search.has_choices();
        if !is_uncertain && self.search.latest_choice(self.evidence, self.order, &blame).is_none() {
            self.accuse_lease(accusation);
            return Ok(());
        }
        Err(Conflict { op: None, lease: Some(Box::new(accusation)), blame, diffs: Vec::new() })
    }

    /// Files a violation about a lease for good.
    pub(super) fn accuse_lease(&mut self, accusation: Accusation) {
        self.leases.hopeless.push(accusation.lease);
        self.found.add(accusation.when, accusation.accused, accusation.violation);
    }

    /// Looks at a lease no more.
    pub(super) fn forget_lease(&mut self, lease: i64) {
        self.leases.hopeless.push(lease);
    }
}

/// What a lease is accused of, unless another choice of owners mends it.
pub(super) struct Accusation {
    pub(super) lease: i64,
    accused: u32,
    when: u64,
    violation: Violation,
}
