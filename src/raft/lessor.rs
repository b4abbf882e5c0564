//! When leases are due: what the leader alone keeps, beside the replicated state.
//!
//! The state says which leases there are; this says until when. A member that becomes the leader
//! gives every lease its full time again, or what was left of it at its last checkpoint: how long it
//! had been running, the old leader took with it. So a lease may live longer than promised, and never
//! shorter.
//!
//! ```text
//!  granted, renewed ──▶ deadline ──passed──▶ due ──revocation proposed──▶ revoked (by an entry)
//!                          │                  └─ a renewal waits until it is clear how that ends
//!                          └── now and then, of long leases: a checkpoint of what is left
//! ```
//!
//! Invariants:
//! * A deadline is at least the granted time after the renewal that was acknowledged last. The renewal
//!   itself was confirmed by a quorum after it was asked for (it is served as a linearizable read), so
//!   no later leader can have started to count before it.
//! * Revocations and checkpoints are proposed for the term of this leadership only; in any other term
//!   they are void. A leader that was deposed without noticing cannot take a lease away.
//! * A renewal is not acknowledged while a checkpoint is in force or on its way: it is taken back by an
//!   entry first. Otherwise the next leader would count from the checkpoint.
//! * Revocations come at a bounded rate, so that a million leases that are due at once stop nothing else.
//!
//! Not here: time (the caller says what it is), proposing, answering.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Limits;
use crate::state::{Lease, LeaseChange};

/// What is known of one lease.
#[derive(Debug)]
struct Due {
    granted_ttl_s: i64,
    deadline: Duration,
    /// Whether a checkpoint is in force, or may come to be.
    checkpointed: bool,
    /// Whether an entry that takes it back was asked for. No other is made until that is applied: it
    /// would come behind it in the log.
    taking_back: bool,
    /// When the next one is to be made, if at all.
    checkpoint_at: Option<Duration>,
    /// When its revocation was proposed last.
    revoked_at: Option<Duration>,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Renewed, for so many seconds.
    Renewed(i64),
    /// There is no such lease.
    Unknown,
    /// It is due: the renewal must wait for what becomes of its revocation.
    Due,
    /// Its checkpoint must be taken back first, by an entry that says 0.
    Checkpointed,
}

/// What the lessor wants proposed, in its term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Leases to revoke, each by an entry of its own.
    pub(super) revoke: Vec<i64>,
    /// Leases and what is left of them, in seconds, all by one entry.
    pub(super) checkpoint: Vec<(i64, i64)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lessor {
    /// The term in which this member keeps the deadlines; `None` while it does not lead.
    term: Option<u64>,
    leases: BTreeMap<i64, Due>,
    /// The same leases by deadline; those that are due stay until they are revoked.
    deadlines: BTreeSet<(Duration, i64)>,
    checkpoints: BTreeSet<(Duration, i64)>,
    /// Revocations that may be proposed, in thousandths: grows with time, up to a second's worth.
    allowance: u64,
    last_tick: Duration,
    revokes_per_s: u64,
    retry: Duration,
    checkpoint_interval: Duration,
    checkpoints_max: usize,
}

impl Lessor {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            term: None,
            leases: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            allowance: 0,
            last_tick: Duration::ZERO,
            revokes_per_s: limits.lease_revokes_per_s,
            retry: Duration::from_millis(limits.lease_revoke_retry_ms),
            checkpoint_interval: Duration::from_millis(limits.lease_checkpoint_interval_ms),
            checkpoints_max: limits.lease_checkpoints_max,
        }
    }

    /// The term in which this member keeps the deadlines, if it does.
    pub(super) fn term(&self) -> Option<u64> {
        self.term
    }

    /// This member leads in `term` and has applied all that was there before: every lease begins
    /// anew, with `extra` for clients to find the new leader.
    pub(super) fn promote<'a>(
        &mut self,
        term: u64,
        leases: impl Iterator<Item = (i64, &'a Lease)>,
        now: Duration,
        extra: Duration,
    ) {
        self.demote();
        self.term = Some(term);
        self.last_tick = now;
        for (id, lease) in leases {
            let checkpointed = lease.remaining_ttl_s > 0;
            let left_s = if checkpointed { lease.remaining_ttl_s } else { lease.granted_ttl_s };
            let deadline = now + seconds(left_s) + extra;
            self.set(id, lease.granted_ttl_s, deadline, checkpointed, now);
        }
    }

    /// This member leads no more.
    pub(super) fn demote(&mut self) {
        self.term = None;
        self.leases.clear();
        self.deadlines.clear();
        self.checkpoints.clear();
        self.allowance = 0;
    }

    /// An entry did something to a lease.
    pub(super) fn applied(&mut self, change: LeaseChange, now: Duration) {
        if self.term.is_none() {
            return;
        }
        match change {
            LeaseChange::Granted { id, ttl_s } => {
                self.set(id, ttl_s, now + seconds(ttl_s), false, now);
            }
            LeaseChange::Revoked { id } => drop(self.remove(id)),
            LeaseChange::Checkpointed { id, remaining_ttl_s } => {
                if let Some(due) = self.leases.get_mut(&id) {
                    due.checkpointed = remaining_ttl_s > 0;
                    due.taking_back &= remaining_ttl_s > 0;
                }
            }
        }
    }

    /// Renews a lease from now on, if nothing stands in the way.
    pub(super) fn renew(&mut self, id: i64, now: Duration) -> Renewal {
        let Some(due) = self.leases.get_mut(&id) else { return Renewal::Unknown };
        if due.deadline <= now {
            return Renewal::Due;
        }
        if due.checkpointed {
            due.taking_back = true;
            return Renewal::Checkpointed;
        }
        let ttl_s = due.granted_ttl_s;
        self.set(id, ttl_s, now + seconds(ttl_s), false, now);
        Renewal::Renewed(ttl_s)
    }

    /// How long a lease has left: whole seconds, none where it is due. `None`: no such lease.
    pub(super) fn remaining_s(&self, id: i64, now: Duration) -> Option<i64> {
        let due = self.leases.get(&id)?;
        let left = due.deadline.saturating_sub(now).as_secs();
        // The time given for finding a new leader is nobody's to count on.
        Some(i64::try_from(left).unwrap_or(i64::MAX).min(due.granted_ttl_s))
    }

    /// Time has passed: what is to be proposed now. What is not applied in time is asked for again.
    pub(super) fn tick(&mut self, now: Duration) -> Wanted {
        let mut wanted = Wanted::default();
        if self.term.is_none() {
            return wanted;
        }
        let passed_ms = u64::try_from((now - self.last_tick).as_millis()).unwrap_or(u64::MAX);
        let second = self.revokes_per_s * 1000;
        self.allowance =
            self.allowance.saturating_add(passed_ms.saturating_mul(self.revokes_per_s)).min(second);
        self.last_tick = now;
        for (_, id) in self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now) {
            if self.allowance < 1000 {
                break;
            }
            let due = self.leases.get_mut(id).expect("deadlines are those of leases");
            if due.revoked_at.is_none_or(|at| at + self.retry <= now) {
                due.revoked_at = Some(now);
                self.allowance -= 1000;
                wanted.revoke.push(*id);
            }
        }
        while let Some(&(at, id)) = self.checkpoints.first()
            && at <= now
            && wanted.checkpoint.len() < self.checkpoints_max
        {
            self.checkpoints.pop_first();
            let due = self.leases.get_mut(&id).expect("checkpoints are those of leases");
            let left = due.deadline.saturating_sub(now);
            let again = left > self.checkpoint_interval;
            due.checkpoint_at = again.then(|| now + self.checkpoint_interval);
            self.checkpoints.extend(due.checkpoint_at.map(|at| (at, id)));
            if due.taking_back {
                continue;
            }
            due.checkpointed = true;
            // Rounded up: never less than is left.
            let left_s = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            wanted.checkpoint.push((id, i64::try_from(left_s).unwrap_or(i64::MAX)));
        }
        wanted
    }

    fn set(
        &mut self,
        id: i64,
        granted_ttl_s: i64,
        deadline: Duration,
        checkpointed: bool,
        now: Duration,
    ) {
        self.remove(id);
        let left = deadline.saturating_sub(now);
        let checkpoint_at =
            (left > self.checkpoint_interval).then(|| now + self.checkpoint_interval);
        self.deadlines.insert((deadline, id));
        self.checkpoints.extend(checkpoint_at.map(|at| (at, id)));
        let due = Due {
            granted_ttl_s,
            deadline,
            checkpointed,
            taking_back: false,
            checkpoint_at,
            revoked_at: None,
        };
        self.leases.insert(id, due);
    }

    fn remove(&mut self, id: i64) -> Option<Due> {
        let due = self.leases.remove(&id)?;
        self.deadlines.remove(&(due.deadline, id));
        if let Some(at) = due.checkpoint_at {
            self.checkpoints.remove(&(at, id));
        }
        Some(due)
    }
}

fn seconds(s: i64) -> Duration {
    Duration::from_secs(u64::try_from(s).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lessor(revokes_per_s: u64) -> Lessor {
        let limits = Limits {
            lease_revokes_per_s: revokes_per_s,
            lease_revoke_retry_ms: 3000,
            lease_checkpoint_interval_ms: 10_000,
            ..Limits::default()
        };
        let mut lessor = Lessor::new(&limits);
        lessor.promote(1, std::iter::empty(), at(0), at(0));
        lessor
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn granted(lessor: &mut Lessor, id: i64, ttl_s: i64, now_ms: u64) {
        lessor.applied(LeaseChange::Granted { id, ttl_s }, at(now_ms));
    }

    /// A lease is due when its time has passed since the last renewal, not a moment before.
    #[test]
    fn never_early() {
        let mut lessor = lessor(1000);
        granted(&mut lessor, 7, 2, 100);
        assert_eq!(lessor.renew(7, at(2099)), Renewal::Renewed(2));
        assert_eq!(lessor.tick(at(4098)).revoke, [0; 0]);
        assert_eq!(lessor.remaining_s(7, at(3000)), Some(1));
        assert_eq!(lessor.tick(at(4099)).revoke, [7]);
        assert_eq!(lessor.renew(7, at(4099)), Renewal::Due);
        assert_eq!(lessor.remaining_s(7, at(4100)), Some(0));
        lessor.applied(LeaseChange::Revoked { id: 7 }, at(4200));
        assert_eq!(lessor.renew(7, at(4300)), Renewal::Unknown);
        assert_eq!(lessor.tick(at(9000)), Wanted::default());
    }

    /// A revocation that is not applied is proposed again, after a while.
    #[test]
    fn asked_again() {
        let mut lessor = lessor(1000);
        granted(&mut lessor, 1, 2, 0);
        let asked = |lessor: &mut Lessor, now_ms| lessor.tick(at(now_ms)).revoke.len();
        let times = [2000, 2100, 4900, 5000, 5100].map(|now_ms| asked(&mut lessor, now_ms));
        assert_eq!(times, [1, 0, 0, 1, 0]);
    }

    /// Leases that are due all at once are revoked at the rate of the limit, the longest overdue first.
    #[test]
    fn bounded_rate() {
        let mut lessor = lessor(20);
        (0..50).for_each(|id| granted(&mut lessor, id, 2, id as u64));
        lessor.tick(at(1000));
        lessor.tick(at(1900));
        let counts: Vec<usize> = (0..4)
            .map(|n| {
                let revoke = lessor.tick(at(2100 + n * 500)).revoke;
                revoke.iter().for_each(|id| {
                    lessor.applied(LeaseChange::Revoked { id: *id }, at(2100 + n * 500));
                });
                revoke.len()
            })
            .collect();
        assert_eq!(counts, [20, 10, 10, 10]);
    }

    /// A new leader gives every lease its whole time again, and some; a checkpointed one what was left.
    #[test]
    fn promotion() {
        let mut lessor = lessor(1000);
        let leases = [(1, Lease::granted(5, 0)), (2, Lease::granted(60, 3))];
        lessor.promote(2, leases.iter().map(|(id, lease)| (*id, lease)), at(9000), at(1000));
        assert_eq!(lessor.remaining_s(1, at(9000)), Some(5));
        assert_eq!(lessor.tick(at(12_999)).revoke, [0; 0]);
        assert_eq!(lessor.tick(at(13_000)).revoke, [2]);
        assert_eq!(lessor.tick(at(15_000)).revoke, [1]);
        lessor.demote();
        assert_eq!((lessor.term(), lessor.tick(at(99_000))), (None, Wanted::default()));
    }

    /// Long leases are checkpointed; a renewal takes the checkpoint back before it counts.
    #[test]
    fn checkpoints() {
        let mut lessor = lessor(1000);
        granted(&mut lessor, 1, 25, 0);
        granted(&mut lessor, 2, 10, 0);
        assert_eq!(lessor.tick(at(9999)).checkpoint, []);
        assert_eq!(lessor.tick(at(10_100)).checkpoint, [(1, 15)]);
        assert_eq!(lessor.renew(1, at(10_200)), Renewal::Checkpointed, "it may be on its way");
        let change = |remaining_ttl_s| LeaseChange::Checkpointed { id: 1, remaining_ttl_s };
        lessor.applied(change(15), at(10_300));
        assert_eq!(lessor.renew(1, at(10_400)), Renewal::Checkpointed);
        lessor.applied(change(0), at(10_500));
        assert_eq!(lessor.renew(1, at(10_600)), Renewal::Renewed(25));
        assert_eq!(lessor.tick(at(20_500)).checkpoint, []);
        assert_eq!(lessor.tick(at(20_600)).checkpoint, [(1, 15)]);
    }
}
