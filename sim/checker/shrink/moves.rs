//! The moves that take away operations or what they were told.

use super::Shrinker;
use super::renumber::{self, Plan};
use crate::history::{Body, Operation, Outcome, Request};

impl Shrinker<'_> {
    /// Cuts the end off behind the last operation that proves the violation.
    pub(super) fn cut(&mut self) {
        let cited = self.best.iter().filter(|operation| self.cited.contains(&operation.op));
        let Some(end) = cited.filter_map(|operation| operation.returned).max() else { return };
        let candidate: Vec<Operation> = self
            .best
            .iter()
            .filter(|operation| operation.call <= end)
            .filter_map(|operation| match operation.returned {
                Some(returned) if returned <= end => Some(operation.clone()),
                _ if only_looks(operation) => None,
                _ => Some(unfinished(operation)),
            })
            .collect();
        if candidate != self.best {
            self.attempt(candidate);
        }
    }

    pub(super) fn drop_lookers(&mut self) {
        self.drop_some(only_looks);
    }

    /// Makes writes that were answered with what was there before forget it.
    pub(super) fn forget_answers(&mut self) {
        let mut candidate = self.best.clone();
        for operation in candidate.iter_mut().filter(|one| !self.cited.contains(&one.op)) {
            forget(operation);
        }
        if candidate != self.best {
            self.attempt(candidate);
        }
    }

    /// Drops keys, all that may go at once, else one after the other.
    pub(super) fn drop_keys(&mut self) {
        let keys = renumber::droppable_keys(&self.best, &self.cited);
        if keys.is_empty() {
            return;
        }
        let all = renumber::without_keys(&self.best, &keys);
        if all.is_some_and(|candidate| self.attempt(candidate)) {
            return;
        }
        for key in keys {
            if let Some(candidate) = renumber::without_keys(&self.best, std::slice::from_ref(&key))
            {
                self.attempt(candidate);
            }
        }
    }

    /// Drops puts that nobody saw before they were overwritten: half of them, then half of what is left.
    pub(super) fn drop_overwritten(&mut self) {
        let mut piece = usize::MAX;
        loop {
            let best = self.best.clone();
            let Some(plan) = Plan::new(&best) else { return };
            let unseen = plan.overwritten_unseen(&self.cited);
            piece = piece.min(unseen.len());
            if piece == 0 {
                return;
            }
            let mut candidates = unseen.chunks(piece).filter_map(|chunk| plan.without_puts(chunk));
            if !candidates.any(|candidate| self.attempt(candidate)) {
                piece /= 2;
            }
        }
    }
}

/// Whether an operation only looks: without it, everything else is as possible as with it.
fn only_looks(operation: &Operation) -> bool {
    match (&operation.request, operation.outcome) {
        (_, Outcome::Failed) => true,
        (Request::Range(_) | Request::Watch(_) | Request::LeaseKeepAlive { .. }, _)
        | (Request::LeaseTimeToLive { .. } | Request::LeaseLeases {} | Request::HashKv { .. }, _)
        | (Request::StateHash {} | Request::Leader { .. } | Request::MemberList { .. }, _) => true,
        (Request::DeleteRange(_), Outcome::Ok) => matches!(
            operation.response.as_ref().map(|response| &response.body),
            Some(Body::DeleteRange { deleted: 0, .. })
        ),
        (Request::Txn(_), Outcome::Ok) => !renumber::wrote(operation),
        _ => false,
    }
}

fn unfinished(operation: &Operation) -> Operation {
    Operation {
        returned: None,
        response: None,
        outcome: Outcome::Unknown,
        error: None,
        ..operation.clone()
    }
}

fn forget(operation: &mut Operation) {
    let body = operation.response.as_mut().map(|response| &mut response.body);
    match (&mut operation.request, body) {
        (Request::Put(put), Some(Body::Put { prev_kv })) => {
            put.prev_kv = false;
            *prev_kv = None;
        }
        (Request::DeleteRange(delete), Some(Body::DeleteRange { prev_kvs, .. })) => {
            delete.prev_kv = false;
            prev_kvs.clear();
        }
        _ => {}
    }
}
