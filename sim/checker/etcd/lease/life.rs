//! Whether one lease can have lived and died as everybody was told.
//!
//! A lease is dead or alive, and has keys or not. By the time this is asked every revision has its owner, so every
//! change of its keys has a place; grants and revocations have one too. What has none are answers that only say
//! that it was there or not, and what nobody saw: an expiry without keys, a grant or revocation that timed out.
//!
//! One sweep over the times of return carries every state the lease may be in. An event must have happened by the
//! time it returns; nothing is decided before it must be. That is Lowe's just-in-time linearization; with one bit
//! of state and few events under way at a time it is exact and cheap.
//!
//! What nobody saw may have happened in any combination. Of two states that differ in nothing else, the one that may
//! end sooner and has used less of it can go on as the other can, whatever comes: the other is not carried.

use std::collections::{BTreeMap, BTreeSet};

/// Most events of one lease that may be under way at a time; beyond, nothing is said.
const PENDING_MAX: usize = 64;
/// Most events without a place and without an answer that are told apart.
const HIDDEN_MAX: usize = 64;
/// Most states that are carried; beyond, nothing is said.
const STATES_MAX: usize = 4_096;

/// What an event says of a lease, or does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It was not there, and from now on is, until this time at least.
    Granted { until: u64 },
    /// A key was attached: it was there.
    Attached,
    /// It was there, and went with its keys.
    Revoked,
    /// It went with its keys, after its time.
    Expired,
    /// It was there, without keys, and went.
    RevokedBare,
    /// It was there, and stays until this time at least.
    Alive { until: u64 },
    /// It was not there.
    Dead,
    /// Its last key was detached.
    Bared,
}

/// Something that must have happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// Index of the operation.
    pub(super) op: u32,
    pub(super) claim: Claim,
    /// Between which moments.
    pub(super) low: u64,
    /// Not before this moment, whoever made the revisions up to its own.
    pub(super) lowest: u64,
    pub(super) high: u64,
    /// Its place in the order of revisions; 0 for none.
    pub(super) position: i64,
    /// Whether keys are attached afterwards, where that changes.
    pub(super) has_keys: Option<bool>,
}

/// Something that may have happened, once, after its call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hidden {
    pub(super) call: u64,
    /// Until when a grant lasts at least; `None` for a revocation.
    pub(super) until: Option<u64>,
}

/// How the sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Everything fits.
    Fits,
    /// This event cannot have happened by its time; the lease was for certain dead, or alive until then at least.
    Breaks { event: usize, alive_until: Option<u64> },
    /// Too much at a time.
    Unsure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    is_alive: bool,
    has_keys: bool,
    until: u64,
    done: u64,
    hidden: u64,
}

impl State {
    /// Whether it can go on in every way in which `other` can.
    fn covers(&self, other: &Self) -> bool {
        (self.is_alive, self.has_keys, self.done) == (other.is_alive, other.has_keys, other.done)
            && self.until <= other.until
            && self.hidden & other.hidden == self.hidden
    }
}

/// States of which none covers another.
#[derive(Default)]
struct States {
    /// Those that are alike but for what is compared, together.
    alike: BTreeMap<(u64, bool, bool), Vec<State>>,
    count: usize,
}

impl States {
    /// Adds a state, unless one covers it; whether it was added.
    fn insert(&mut self, state: State) -> bool {
        let alike = self.alike.entry((state.done, state.is_alive, state.has_keys)).or_default();
        if alike.iter().any(|known| known.covers(&state)) {
            return false;
        }
        self.count -= alike.len();
        alike.retain(|known| !state.covers(known));
        alike.push(state);
        self.count += alike.len();
        true
    }
}

struct Sweep<'e> {
    events: &'e [Event],
    hidden: &'e [Hidden],
    behind: u64,
    pending: Vec<Option<usize>>,
    states: BTreeSet<State>,
    /// How many states could be reached by the last moment.
    reached: u64,
}

/// Sweeps over all events of one lease.
///
/// `behind` is a moment before which a revision behind the last known one cannot have been made: from then on the
/// lease may have gone with its keys, seen by nobody. Adds to `work` how many states were looked at.
pub(super) fn live(events: &[Event], hidden: &[Hidden], behind: u64, work: &mut u64) -> Ending {
    if hidden.len() > HIDDEN_MAX {
        return Ending::Unsure;
    }
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * events.len());
    for (number, event) in events.iter().enumerate() {
        moments.push((event.low.min(event.high), false, number));
        moments.push((event.high, true, number));
    }
    moments.sort_unstable();
    let start = State { is_alive: false, has_keys: false, until: 0, done: 0, hidden: 0 };
    let mut sweep = Sweep {
        events,
        hidden,
        behind,
        pending: Vec::new(),
        states: BTreeSet::from([start]),
        reached: 0,
    };
    for (now, is_end, number) in moments {
        if !is_end {
            if !sweep.begin(number) {
                return Ending::Unsure;
            }
        } else {
            let ending = sweep.end(now, number);
            *work += sweep.reached;
            if let Some(ending) = ending {
                return ending;
            }
        }
    }
    Ending::Fits
}

impl Sweep<'_> {
    fn begin(&mut self, number: usize) -> bool {
        match self.pending.iter().position(Option::is_none) {
            Some(slot) => self.pending[slot] = Some(number),
            None => self.pending.push(Some(number)),
        }
        self.pending.len() <= PENDING_MAX
    }

    fn end(&mut self, now: u64, number: usize) -> Option<Ending> {
        let slot = self.pending.iter().position(|pending| *pending == Some(number))?;
        let bit = 1 << slot;
        self.reached = STATES_MAX as u64;
        let Some(reached) = self.reach(now) else { return Some(Ending::Unsure) };
        self.reached = reached.len() as u64;
        let done: BTreeSet<State> = reached
            .iter()
            .filter(|state| state.done & bit != 0)
            .map(|state| State { done: state.done & !bit, ..*state })
            .collect();
        self.pending[slot] = None;
        if done.is_empty() {
            let alive = reached.iter().filter(|state| state.is_alive).map(|state| state.until);
            let all_alive = reached.iter().all(|state| state.is_alive);
            let alive_until = alive.min().filter(|_| all_alive);
            return Some(Ending::Breaks { event: number, alive_until });
        }
        self.states = done;
        None
    }

    /// Every state that can be reached by now and that no other one covers.
    fn reach(&self, now: u64) -> Option<BTreeSet<State>> {
        let mut reached = States::default();
        let mut open: Vec<State> = self.states.iter().copied().collect();
        open.retain(|state| reached.insert(*state));
        while let Some(state) = open.pop() {
            let mut next = Vec::new();
            self.steps(state, now, &mut next);
            open.extend(next.into_iter().filter(|state| reached.insert(*state)));
            if reached.count > STATES_MAX {
                return None;
            }
        }
        Some(reached.alike.into_values().flatten().collect())
    }

    fn steps(&self, state: State, now: u64, next: &mut Vec<State>) {
        let left = |slot: usize| state.done & (1 << slot) == 0;
        let open = self.pending.iter().enumerate().filter_map(|(slot, number)| {
            number.filter(|_| left(slot)).map(|number| (slot, &self.events[number]))
        });
        let first = open.clone().map(|(_, event)| event.position).filter(|at| *at > 0).min();
        for (slot, event) in open {
            if event.position > 0 && Some(event.position) != first {
                continue;
            }
            if let Some(after) = step(state, event, now) {
                next.push(State { done: state.done | 1 << slot, ..after });
            }
        }
        // Keys go unseen only behind everything that has a place.
        let may_go = !state.has_keys || (first.is_none() && self.behind <= now);
        for (number, hidden) in self.hidden.iter().enumerate() {
            let bit = 1 << number;
            if state.hidden & bit != 0 || hidden.call > now {
                continue;
            }
            match hidden.until {
                Some(until) if !state.is_alive => {
                    next.push(State { is_alive: true, until, hidden: state.hidden | bit, ..state })
                }
                None if state.is_alive && may_go => {
                    let hidden = state.hidden | bit;
                    next.push(State {
                        is_alive: false,
                        has_keys: false,
                        until: 0,
                        hidden,
                        ..state
                    });
                }
                _ => {}
            }
        }
        if state.is_alive && may_go && state.until <= now {
            next.push(State { is_alive: false, has_keys: false, until: 0, ..state });
        }
    }
}

/// The state after an event; `None` if the event cannot be next.
fn step(state: State, event: &Event, now: u64) -> Option<State> {
    let State { is_alive, has_keys, until, .. } = state;
    let (is_alive, has_keys, until) = match event.claim {
        Claim::Granted { until } if !is_alive => (true, false, until),
        Claim::Attached if is_alive => (true, has_keys, until),
        Claim::Revoked if is_alive => (false, false, 0),
        Claim::Expired if is_alive && until <= now => (false, false, 0),
        Claim::RevokedBare if is_alive && !has_keys => (false, false, 0),
        Claim::Alive { until: renewed } if is_alive => (true, has_keys, until.max(renewed)),
        Claim::Dead if !is_alive => (false, has_keys, until),
        Claim::Bared => (is_alive, has_keys, until),
        _ => return None,
    };
    let has_keys = event.has_keys.unwrap_or(has_keys);
    Some(State { is_alive, has_keys, until, ..state })
}
