//! The lock workload: clients that take locks and leaderships from each other, hold them for a while and give them
//! back, or forget to.
//!
//! Locks are `l0` …, elections `e0` …. Claims hang on leases of a few seconds, so that what is forgotten comes free
//! again, and who waits too long loses his place. Values name their client, as everywhere.

use super::{Drawn, Workload, plain, watch};
use crate::dice::Dice;
use crate::history::{Bytes, LeaderKey, Request};
use crate::scenario::plan::{Fill, Seen};
use crate::workload::kv::everything;

/// The kinds of step: each with its name in files and its usual weight.
pub const KINDS: &[(&str, u64)] = &[
    ("lock", 10),
    ("campaign", 8),
    ("leader", 4),
    ("keep-alive", 6),
    ("lease-grant", 3),
    ("lease-revoke", 1),
    ("list", 3),
    ("watch", 2),
];

/// One client while its list is drawn.
pub struct Client<'a> {
    workload: &'a Workload,
    name: u32,
    values: u64,
    /// Leases asked for so far.
    leases: u32,
}

/// The lease of a request: one of the client's, mostly the newest.
fn some_lease(dice: &mut Dice) -> Fill {
    let before = if dice.percent(85) { 0 } else { dice.below(3) as u32 };
    Fill { lease: Some(before), ..Fill::default() }
}

/// What the client was given last under the name that stands in the request.
fn held() -> Fill {
    Fill { held: true, ..Fill::default() }
}

/// A watch of everything since the beginning. What locks and elections write, their answers do not say; who sees
/// every change can tell which of them made it.
fn watch_all() -> Drawn {
    (
        Request::Watch(watch::everything(0)),
        Fill { revision: Some(Seen(-1_000_000)), ..Fill::default() },
    )
}

impl<'a> Client<'a> {
    /// The client numbered `name`.
    #[must_use]
    pub fn new(workload: &'a Workload, name: u32) -> Self {
        Self { workload, name, values: 0, leases: 0 }
    }

    /// The next step: for a lock or a leadership everything from taking it to giving it back.
    pub fn draw(&mut self, dice: &mut Dice) -> Vec<Drawn> {
        let kind = KINDS[dice.weighted(&self.workload.mix)].0;
        if self.leases < 2 {
            // The second one for the case that the first came to nothing.
            return vec![self.grant(dice)];
        }
        match kind {
            "lock" => self.lock(dice),
            "campaign" => self.campaign(dice),
            "leader" => vec![plain(Request::Leader { name: self.thing(dice, 'e') })],
            "keep-alive" => vec![(Request::LeaseKeepAlive { id: 0 }, some_lease(dice))],
            "lease-grant" => vec![self.grant(dice)],
            "lease-revoke" => vec![(Request::LeaseRevoke { id: 0 }, some_lease(dice))],
            "watch" => vec![watch_all()],
            _ => vec![plain(Request::Range(everything(false)))],
        }
    }

    fn grant(&mut self, dice: &mut Dice) -> Drawn {
        self.leases += 1;
        let (low, high) = (self.workload.ttl_s.min, self.workload.ttl_s.max);
        plain(Request::LeaseGrant { id: 0, ttl_s: dice.within(low, high) as i64 })
    }

    /// The name of some lock or election.
    fn thing(&self, dice: &mut Dice, kind: char) -> Bytes {
        Bytes::from(format!("{kind}{}", dice.below(self.workload.keys)).as_str())
    }

    /// Whether it does not give back what it holds: only where that comes free again within the run.
    fn forgets(&self, dice: &mut Dice) -> bool {
        dice.percent(15) && self.workload.ttl_s.max <= 60
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        Bytes::from(format!("v{}.{}", self.name, self.values).as_str())
    }

    fn lock(&self, dice: &mut Dice) -> Vec<Drawn> {
        let name = self.thing(dice, 'l');
        let lease = some_lease(dice);
        let lock = Request::Lock { name: name.clone(), lease: 0 };
        let mut steps = vec![(lock.clone(), lease.clone())];
        if dice.percent(15) {
            // Once more with the same lease is no second lock.
            steps.push((lock, lease));
        }
        if dice.percent(40) {
            steps.push((Request::LeaseKeepAlive { id: 0 }, some_lease(dice)));
        }
        if !self.forgets(dice) {
            steps.push((Request::Unlock { key: name }, held()));
        }
        steps
    }

    fn campaign(&mut self, dice: &mut Dice) -> Vec<Drawn> {
        let name = self.thing(dice, 'e');
        let leader = LeaderKey { name: name.clone(), ..LeaderKey::default() };
        let campaign = Request::Campaign { name: name.clone(), lease: 0, value: self.value() };
        let mut steps = vec![(campaign, some_lease(dice))];
        for _ in 0..dice.below(3) {
            let (leader, value) = (leader.clone(), self.value());
            steps.push((Request::Proclaim { leader, value }, held()));
            if dice.percent(30) {
                steps.push(plain(Request::Leader { name: name.clone() }));
            }
        }
        if !self.forgets(dice) {
            steps.push((Request::Resign { leader: leader.clone() }, held()));
            if dice.percent(20) {
                // A leadership that was given back is worth nothing.
                steps.push((Request::Proclaim { leader, value: self.value() }, held()));
            }
        }
        steps
    }
}
