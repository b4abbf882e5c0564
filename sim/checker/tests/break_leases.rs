//! Breaks good histories with leases in known ways; run beside the other breaks.

use super::model::KEPT_S;
use super::mutate::{Break, Patient, is_put, plain_range, refuse, revision};
use crate::history::{Body, Operation, Outcome, Put, Request};

/// As for the other breaks: name, rules of which one must be named, and the break.
pub(super) const BREAKS: &[(&str, &[&str], Break)] = &[
    ("a live lease called gone", &["lease-expired-early"], renewal_denied),
    ("keys gone before their lease's time", &["lease-expired-early"], expired_early),
    ("a key that outlives its lease", &["lease-kept-keys", "unexplained-revision"], kept_key),
    ("a lease renewed after its revocation", &["lease-revived"], revived),
    ("a lease with less time than asked for", &["lease-content"], short_ttl),
    ("a renewal of another lease", &["lease-content"], wrong_id),
    ("a key that a lease never had", &["lease-content"], wrong_keys),
    ("a list with a lease out of nowhere", &["lease-content"], phantom_lease),
    ("a put to a lease that has ended", &["lease-refusal"], put_to_dead),
    ("a put refused though its lease lives", &["lease-refusal"], put_refused),
    ("a lease granted twice", &["lease-refusal"], granted_twice),
    ("a grant refused though nothing is there", &["lease-refusal"], grant_refused),
];

fn body(operation: &Operation) -> Option<&Body> {
    operation.response.as_ref().map(|response| &response.body)
}

/// The lease that an operation shows to be alive when it is answered.
fn shows_alive(operation: &Operation) -> Option<i64> {
    match body(operation)? {
        Body::LeaseGrant { id, .. } | Body::LeaseKeepAlive { id, ttl_s: 1.. } => Some(*id),
        _ => None,
    }
}

fn overlaps(operation: &Operation, from: u64, to: u64) -> bool {
    operation.call <= to && operation.returned.unwrap_or(u64::MAX) >= from
}

impl Patient {
    /// A lease that is alive during all of an operation, whatever the order.
    fn alive_during(&self, at: usize) -> Option<i64> {
        let operation = &self.operations[at];
        let end = operation.returned?;
        let lasts = KEPT_S as u64 * 900_000_000;
        self.operations.iter().find_map(|earlier| {
            let id = shows_alive(earlier)?;
            let is_ended = self.operations.iter().any(|other| {
                matches!(other.request, Request::LeaseRevoke { id: ended } if ended == id)
                    && overlaps(other, earlier.call, end)
            });
            let is_sure = earlier.returned? < operation.call && end < earlier.call + lasts;
            (is_sure && !is_ended).then_some(id)
        })
    }

    /// A lease that is gone during all of an operation, whatever the order.
    fn dead_during(&self, at: usize) -> Option<i64> {
        let operation = &self.operations[at];
        let end = operation.returned?;
        self.operations.iter().find_map(|earlier| {
            let Request::LeaseRevoke { id } = earlier.request else { return None };
            let is_granted = self.operations.iter().any(|other| {
                matches!(other.request, Request::LeaseGrant { id: granted, .. } if granted == id)
                    && overlaps(other, earlier.call, end)
            });
            let is_sure = earlier.outcome == Outcome::Ok && earlier.returned? < operation.call;
            (is_sure && !is_granted).then_some(id)
        })
    }

    fn pick_at(&mut self, is: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.operations.len()).filter(|at| is(self, *at)).collect();
        (!fit.is_empty()).then(|| fit[self.dice.below(fit.len() as u64) as usize])
    }

    /// A plain read during which a lease is certainly alive, or certainly gone; and the lease.
    fn read_during(&mut self, lives: bool) -> Option<(usize, i64)> {
        let lease = |patient: &Self, at| {
            if lives { patient.alive_during(at) } else { patient.dead_during(at) }
        };
        let at = self.pick_at(|patient, at| {
            plain_range(&patient.operations[at]).is_some() && lease(patient, at).is_some()
        })?;
        Some((at, lease(self, at)?))
    }
}

fn renewal_denied(patient: &mut Patient) -> Option<()> {
    let (at, id) = patient.read_during(true)?;
    patient.operations[at].request = Request::LeaseKeepAlive { id };
    patient.operations[at].response.as_mut()?.body = Body::LeaseKeepAlive { id, ttl_s: 0 };
    Some(())
}

fn revived(patient: &mut Patient) -> Option<()> {
    let (at, id) = patient.read_during(false)?;
    patient.operations[at].request = Request::LeaseKeepAlive { id };
    patient.operations[at].response.as_mut()?.body = Body::LeaseKeepAlive { id, ttl_s: KEPT_S };
    Some(())
}

fn put_refused(patient: &mut Patient) -> Option<()> {
    let (at, lease) = patient.read_during(true)?;
    let put = Put { key: "k0".into(), value: "x".into(), lease, ..Put::default() };
    patient.operations[at].request = Request::Put(put);
    refuse(&mut patient.operations[at], "etcdserver: requested lease not found");
    Some(())
}

fn granted_twice(patient: &mut Patient) -> Option<()> {
    let (at, id) = patient.read_during(true)?;
    patient.operations[at].request = Request::LeaseGrant { id, ttl_s: KEPT_S };
    patient.operations[at].response.as_mut()?.body = Body::LeaseGrant { id, ttl_s: KEPT_S };
    Some(())
}

fn grant_refused(patient: &mut Patient) -> Option<()> {
    let (at, id) = patient.read_during(false)?;
    patient.operations[at].request = Request::LeaseGrant { id, ttl_s: KEPT_S };
    refuse(&mut patient.operations[at], "etcdserver: lease already exists");
    Some(())
}

fn put_to_dead(patient: &mut Patient) -> Option<()> {
    let at = patient.pick_at(|patient, at| {
        let operation = &patient.operations[at];
        let is_free =
            matches!(&operation.request, Request::Put(put) if put.lease == 0 && !put.ignore_lease);
        is_free && is_put(operation) && patient.dead_during(at).is_some()
    })?;
    let dead = patient.dead_during(at)?;
    let Request::Put(put) = &mut patient.operations[at].request else { return None };
    put.lease = dead;
    Some(())
}

/// The leases were granted for much longer than one of them lived.
fn expired_early(patient: &mut Patient) -> Option<()> {
    let ended = patient.store.ended.clone();
    let is_expiry = |lease: i64, at: i64| {
        let keys = patient.store.keys_of(lease, at - 1);
        let revokes = |op: &Operation| {
            matches!(op.request, Request::LeaseRevoke { id } if id == lease) && revision(op) == at
        };
        // Somebody must have looked after it.
        let misses = |op: &Operation| {
            let range = plain_range(op).filter(|_| revision(op) == at);
            range.is_some_and(|range| {
                range.range_end.0.is_empty() && keys.iter().any(|kv| kv.key == range.key)
            })
        };
        !patient.operations.iter().any(revokes) && patient.operations.iter().any(misses)
    };
    ended.into_iter().find(|(lease, at)| is_expiry(*lease, *at))?;
    for operation in &mut patient.operations {
        if let Request::LeaseGrant { ttl_s, .. } = &mut operation.request {
            *ttl_s *= 1_000;
        }
        let body = operation.response.as_mut().map(|response| &mut response.body);
        if let Some(Body::LeaseGrant { ttl_s, .. }) = body {
            *ttl_s *= 1_000;
        }
    }
    patient.operations.retain(|op| {
        !matches!(op.request, Request::LeaseKeepAlive { .. } | Request::LeaseTimeToLive { .. })
    });
    Some(())
}

/// A read after the end of a lease still shows one of its keys.
fn kept_key(patient: &mut Patient) -> Option<()> {
    let ended = patient.store.ended.clone();
    let (at, kv) = ended.iter().find_map(|(lease, end)| {
        let keys = patient.store.keys_of(*lease, end - 1);
        patient.operations.iter().enumerate().find_map(|(at, op)| {
            let range = plain_range(op).filter(|_| revision(op) == *end)?;
            let kv = keys.iter().find(|kv| kv.key == range.key && range.range_end.0.is_empty())?;
            Some((at, kv.clone()))
        })
    })?;
    let Body::Range { kvs, count, .. } = &mut patient.operations[at].response.as_mut()?.body else {
        return None;
    };
    *kvs = vec![kv];
    *count = 1;
    Some(())
}

fn short_ttl(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(|op| matches!(body(op), Some(Body::LeaseGrant { .. })))?;
    let Body::LeaseGrant { ttl_s, .. } = &mut patient.operations[at].response.as_mut()?.body else {
        return None;
    };
    *ttl_s -= 1;
    Some(())
}

fn wrong_id(patient: &mut Patient) -> Option<()> {
    let at =
        patient.pick(|op| matches!(body(op), Some(Body::LeaseKeepAlive { ttl_s: 1.., .. })))?;
    let Body::LeaseKeepAlive { id, .. } = &mut patient.operations[at].response.as_mut()?.body
    else {
        return None;
    };
    *id += 1;
    Some(())
}

fn wrong_keys(patient: &mut Patient) -> Option<()> {
    let is =
        |op: &Operation| matches!(body(op), Some(Body::LeaseTimeToLive { granted_ttl_s: 1.., .. }));
    let at = patient.pick(is)?;
    let Body::LeaseTimeToLive { keys, .. } = &mut patient.operations[at].response.as_mut()?.body
    else {
        return None;
    };
    keys.push("zzz-nowhere".into());
    Some(())
}

fn phantom_lease(patient: &mut Patient) -> Option<()> {
    let at = patient.pick(|op| matches!(body(op), Some(Body::LeaseLeases { .. })))?;
    let Body::LeaseLeases { ids } = &mut patient.operations[at].response.as_mut()?.body else {
        return None;
    };
    ids.push(77_777);
    Some(())
}
