//! What answers tell of leases: ids, times to live, keys.

use std::collections::BTreeSet;

use super::{Lease, Leases};
use crate::checker::etcd::explain::Explain;
use crate::checker::etcd::{Found, History};
use crate::checker::render::ms;
use crate::history::{Body, Operation, Request};

/// Judges every answer that names a lease, by itself and against the grants.
pub(in crate::checker::etcd) fn check(history: &History<'_>, leases: &Leases, found: &mut Found) {
    for op in history.keys.about_leases() {
        let operation = &history.operations[*op as usize];
        let Some(response) = &operation.response else { continue };
        let Some(why) = wrong(leases, operation, &response.body) else { continue };
        let explain = Explain(history);
        let sentence = format!("{} was told {why}.", explain.who(*op));
        let revision = response.revision.max(1);
        let violation = explain.simple("lease-content", sentence, &[*op], revision);
        found.add(history.places[*op as usize].ret, *op, violation);
    }
}

/// What is wrong with an answer, if anything.
fn wrong(leases: &Leases, operation: &Operation, body: &Body) -> Option<String> {
    match (&operation.request, body) {
        (Request::LeaseGrant { id: asked, ttl_s: least }, Body::LeaseGrant { id, ttl_s }) => {
            if *asked != 0 && id != asked {
                return Some(format!("of lease {id}, but asked for lease {asked}"));
            }
            if *id == 0 {
                return Some("of lease 0, which stands for none".to_owned());
            }
            (ttl_s < least).then(|| format!("a TTL of {ttl_s} s, but asked for {least} s"))
        }
        (Request::LeaseKeepAlive { id: asked }, Body::LeaseKeepAlive { id, ttl_s }) => {
            if id != asked {
                return Some(format!("of lease {id}, but asked about lease {asked}"));
            }
            if *ttl_s == 0 {
                return None;
            }
            ttl(leases, operation, *id, *ttl_s)
        }
        (
            Request::LeaseTimeToLive { id: asked, .. },
            Body::LeaseTimeToLive { id, ttl_s, granted_ttl_s, keys },
        ) => {
            if id != asked {
                return Some(format!("of lease {id}, but asked about lease {asked}"));
            }
            if *ttl_s == -1 && *granted_ttl_s == 0 {
                return (!keys.is_empty())
                    .then(|| format!("that lease {id} does not exist, and of its keys"));
            }
            ttl(leases, operation, *id, *granted_ttl_s)
        }
        (Request::LeaseLeases {}, Body::LeaseLeases { ids }) => {
            let distinct: BTreeSet<i64> = ids.iter().copied().collect();
            if distinct.len() < ids.len() {
                return Some("of one lease twice".to_owned());
            }
            let phantom = ids.iter().find(|id| !could_exist(leases, operation, **id))?;
            Some(format!("of lease {phantom}, which nobody had been granted by then"))
        }
        _ => None,
    }
}

fn known(leases: &Leases, id: i64) -> Option<&Lease> {
    leases.by_id.get(&id)
}

/// Whether some grant that was called in time may have made the lease.
fn could_exist(leases: &Leases, operation: &Operation, id: i64) -> bool {
    let by = operation.returned.unwrap_or(u64::MAX);
    let named = known(leases, id).map_or(&[][..], |lease| &lease.grants);
    named.iter().chain(&leases.nameless).any(|grant| grant.call <= by)
}

/// Whether a lease was granted with this TTL.
fn ttl(leases: &Leases, operation: &Operation, id: i64, told_s: i64) -> Option<String> {
    if !could_exist(leases, operation, id) {
        let by = ms(operation.returned.unwrap_or(u64::MAX));
        return Some(format!("of lease {id}, which nobody had been granted by {by}"));
    }
    let lease = known(leases, id)?;
    let known: Vec<i64> = lease.grants.iter().map(|grant| grant.ttl_s).collect();
    let is_certain = !known.is_empty() && lease.grants.iter().all(|grant| grant.is_known);
    let least = known.iter().min()?;
    if is_certain && !known.contains(&told_s) {
        let granted: Vec<String> = known.iter().map(|ttl_s| format!("{ttl_s} s")).collect();
        return Some(format!(
            "that lease {id} lasts {told_s} s, but it was granted {}",
            granted.join(" or ")
        ));
    }
    (told_s < *least)
        .then(|| format!("that lease {id} lasts {told_s} s, but {least} s were asked for"))
}
