//! Whether a lease may be there at a revision, as far as is cheap to say: keeps the search from choices that the
//! lives of leases would refute only at the end.
//!
//! Never says no where the answer could be yes.

use super::life::Claim;
use super::{Grant, Lease, named_leases};
use crate::checker::etcd::evidence::Unknown;
use crate::checker::etcd::replay::Replay;
use crate::checker::etcd::search::Blame;

impl Replay<'_, '_> {
    /// Whether the leases that an operation names allow it to make a revision.
    pub(in crate::checker::etcd) fn lease_allows(
        &self,
        unknown: &Unknown<'_>,
        revision: i64,
    ) -> bool {
        if self.leases.by_id.is_empty() {
            return true;
        }
        if let Some(id) = unknown.ends {
            return self.may_live(id, revision) && self.may_end(id, revision);
        }
        // What a txn names may be in the branch not taken.
        let mut named = Vec::new();
        if !unknown.is_txn {
            named_leases(unknown.request, &mut named);
        }
        named.into_iter().all(|id| self.may_live(id, revision))
    }

    /// Blames the choices that ended a lease which an operation needs.
    pub(in crate::checker::etcd) fn exclude_by_lease(
        &self,
        unknown: &Unknown<'_>,
        revision: i64,
        blame: &mut Blame,
    ) {
        let mut named: Vec<i64> = unknown.ends.into_iter().collect();
        named_leases(unknown.request, &mut named);
        if named.is_empty() {
            return;
        }
        for (other, used) in self.evidence.unknowns.iter().zip(&self.search.used) {
            if other.ends.is_some_and(|id| named.contains(&id)) && (1..revision).contains(used) {
                blame.choose(*used);
            }
        }
    }

    /// The revision of a grant that is known to have happened.
    fn granted_at(&self, grant: &Grant) -> Option<i64> {
        let revision = self.history.places[grant.op as usize].revision;
        (grant.is_known && revision > 0).then_some(revision)
    }

    fn may_live(&self, id: i64, revision: i64) -> bool {
        let Some(lease) = self.leases.by_id.get(&id) else { return false };
        let deadline = self.order.deadline[revision as usize];
        self.leases.grants(lease).iter().any(|grant| match self.granted_at(grant) {
            None => grant.call <= deadline,
            Some(at) => at < revision && !self.is_over(id, lease, grant, at, revision),
        })
    }

    /// Whether the life that began with a grant ended before a revision.
    fn is_over(&self, id: i64, lease: &Lease, grant: &Grant, at: i64, revision: i64) -> bool {
        let ret = self.history.places[grant.op as usize].ret;
        let is_revoked = lease.revocations.iter().any(|(op, is_answered)| {
            let place = &self.history.places[*op as usize];
            *is_answered && place.call > ret && (at.max(1)..revision).contains(&place.revision)
        });
        // Somebody was told in between that it is gone.
        let birth = self.order.birth[revision as usize];
        let is_gone = lease
            .said
            .iter()
            .any(|event| event.claim == Claim::Dead && event.low > ret && event.high < birth);
        is_revoked
            || is_gone
            || self
                .evidence
                .unknowns
                .iter()
                .zip(&self.search.used)
                .any(|(unknown, used)| unknown.ends == Some(id) && *used > at && *used < revision)
    }

    /// Whether nothing was attached after a revision, and nobody told that the lease is there, that no new grant
    /// explains.
    fn may_end(&self, id: i64, revision: i64) -> bool {
        let Some(lease) = self.leases.by_id.get(&id) else { return false };
        let ended = self.order.deadline[revision as usize];
        let is_seen_alive = lease.said.iter().any(|event| {
            let explains = |grant: &Grant| {
                grant.call <= event.high
                    && self.granted_at(grant).is_none_or(|granted| granted >= revision)
            };
            matches!(event.claim, Claim::Alive { .. })
                && event.low > ended
                && !self.leases.grants(lease).iter().any(explains)
        });
        if is_seen_alive {
            return false;
        }
        let next = lease.attached_at.partition_point(|(at, _)| *at <= revision);
        let Some((next, _)) = lease.attached_at.get(next) else { return true };
        let deadline = self.order.deadline[*next as usize];
        self.leases.grants(lease).iter().any(|grant| match self.granted_at(grant) {
            None => grant.call <= deadline,
            Some(at) => at >= revision && at < *next,
        })
    }
}
