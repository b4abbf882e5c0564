//! The end of a lease as a revision: who made it, and what is wrong with one that cannot have been.

use super::words;
use crate::checker::Violation;
use crate::checker::etcd::evidence::Unknown;
use crate::checker::etcd::explain::Explain;
use crate::checker::etcd::replay::Replay;

impl Replay<'_, '_> {
    /// Lets an answered revocation make its revision, where nothing else can have taken the lease's keys.
    pub(in crate::checker::etcd) fn fill_by_revocation(&mut self, number: usize) -> bool {
        let revision = self.evidence.holes[number].revision;
        let Some(list) = self.evidence.revocations.get(&revision) else { return false };
        for unknown in list {
            self.search.used[*unknown as usize] = 0;
        }
        let deadline = self.order.deadline[revision as usize];
        for unknown in list {
            let ending = &self.evidence.unknowns[*unknown as usize];
            let Some(key) = self.keys_of(ending).next() else { continue };
            if ending.call > deadline {
                continue;
            }
            let may_return = self.leases.may_return(self.history, ending, revision);
            let touching = self.search.touching.get(&key).into_iter().flatten();
            let is_contested = touching.chain(&self.search.wide).any(|other| {
                let one = &self.evidence.unknowns[*other as usize];
                // An end before its own would have left nothing to revoke.
                let is_same = one.ends == ending.ends;
                (!is_same || may_return)
                    && other != unknown
                    && one.call <= deadline
                    && one.fits(revision)
                    && one.touches(key)
            });
            if !is_contested && self.try_owner(number, *unknown, true) {
                self.search.used[*unknown as usize] = revision;
                return true;
            }
        }
        false
    }

    /// The keys that would go with the lease that ends, if it ended now.
    fn keys_of(&self, unknown: &Unknown<'_>) -> impl Iterator<Item = u32> + '_ {
        let lease = unknown.ends.unwrap_or(0);
        let keys = self.history.keys.attached(lease).iter().copied();
        keys.filter(move |key| self.store.get(*key).lease == lease)
    }

    /// Lets a hole without owner be the end of a lease, although one answer says otherwise: one wrong answer must not
    /// hide the true owner.
    pub(in crate::checker::etcd) fn fill_by_lone_end(&mut self, number: usize) -> bool {
        let revision = self.evidence.holes[number].revision;
        let deadline = self.order.deadline[revision as usize];
        let evidence = self.evidence;
        for (index, unknown) in evidence.unknowns.iter().enumerate() {
            if unknown.ends.is_none()
                || unknown.call > deadline
                || !unknown.fits(revision)
                || self.search.used[index] != 0
                || !self.lease_allows(unknown, revision)
            {
                continue;
            }
            let against = self.keys_of(unknown).map(|key| self.timeline.seen_alive(key, revision));
            if against.sum::<usize>() == 1 && self.try_owner(number, index as u32, false) {
                self.search.used[index] = revision;
                return true;
            }
        }
        false
    }

    /// For a hole without owner: the lease whose keys went there, but too early, or not all of them.
    pub(in crate::checker::etcd) fn wrong_end(&mut self, number: usize) -> Option<Violation> {
        let evidence = self.evidence;
        let revision = evidence.holes[number].revision;
        let deadline = self.order.deadline[revision as usize];
        for (index, unknown) in evidence.unknowns.iter().enumerate() {
            let used = self.search.used[index];
            if unknown.ends.is_none() || !unknown.fits(revision) || (used != 0 && used != revision)
            {
                continue;
            }
            let keys: Vec<u32> = self.keys_of(unknown).collect();
            let is_gone = |key: &u32| {
                let seen = self.timeline.next_seen(*key, revision);
                seen.is_some_and(|seen| match seen.numbers() {
                    None => true,
                    Some((create, ..)) => create > revision,
                })
            };
            let (gone, kept): (Vec<u32>, Vec<u32>) = keys
                .into_iter()
                .filter(|key| self.timeline.next_seen(*key, revision).is_some())
                .partition(is_gone);
            let is_proven = !gone.is_empty()
                || unknown.only == revision
                || kept.iter().any(|key| self.timeline.is_gone_later(*key, revision));
            let is_early = unknown.call > deadline;
            let explain = Explain(self.history);
            if let Some(key) = kept.first().filter(|_| is_proven && !is_early) {
                return Some(words::kept_key(&explain, unknown, revision, *key, self.order));
            }
            if let Some(key) = gone.first().filter(|_| kept.is_empty() && is_early) {
                return Some(words::early_end(&explain, unknown, revision, *key, self.order));
            }
        }
        None
    }
}
