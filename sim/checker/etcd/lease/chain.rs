//! The events of each lease, in the order of revisions, once every revision has an owner.

use std::collections::{BTreeMap, BTreeSet};

use super::life::{Claim, Event, Hidden};
use super::{Lease, Leases};
use crate::checker::etcd::evidence::Suspects;
use crate::checker::etcd::judge::Judge;
use crate::checker::etcd::place::Kind;
use crate::checker::etcd::replay::Replay;
use crate::checker::etcd::store::{NOBODY, Store};
use crate::history::{Body, Request, Response};

/// Everything known of one lease.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) events: Vec<Event>,
    pub(super) hidden: Vec<Hidden>,
    /// Answers that name keys which it never had all at a time.
    pub(super) untrue: Vec<u32>,
}

/// One revision and who made it.
struct Step<'a> {
    op: u32,
    call: u64,
    ret: u64,
    /// Nobody else can have made it.
    is_certain: bool,
    request: &'a Request,
    response: Option<&'a Response>,
    /// The lease that ended here; and whether nobody asked for that.
    ends: Option<(i64, bool)>,
}

/// The events of all leases.
pub(super) struct Chains {
    pub(super) by_id: BTreeMap<i64, Chain>,
    /// Before which moment no further revision can have been made.
    pub(super) behind: u64,
    /// The same, whoever made them.
    pub(super) behind_all: u64,
    /// Revisions whose chosen owner was called later than another one, so that all that follows is later too.
    pub(super) raised: Vec<i64>,
}

/// The moments before which revisions cannot have existed.
struct Births {
    by_revision: Vec<u64>,
    /// The same, whoever made them.
    lowest: Vec<u64>,
    raised: Vec<i64>,
}

/// The events of each lease; `None` if a revision has no owner.
pub(super) fn chains(leases: &Leases, replay: &Replay<'_, '_>) -> Option<Chains> {
    let mut chains: BTreeMap<i64, Chain> = BTreeMap::new();
    for (id, lease) in &leases.by_id {
        let chain = Chain { events: lease.said.clone(), ..Chain::default() };
        chains.insert(*id, chain);
    }
    let mut told = Told::new(leases, replay);
    let births = writes(replay, &mut chains, &mut told)?;
    for (op, lease, _) in told.open {
        chains.entry(lease).or_default().untrue.push(op);
    }
    let ended: BTreeSet<u32> = replay
        .evidence
        .unknowns
        .iter()
        .zip(&replay.search.used)
        .filter(|(unknown, used)| **used != 0 && unknown.ends.is_some() && !unknown.is_expiry)
        .map(|(unknown, _)| unknown.op)
        .collect();
    let places = &replay.history.places;
    let bare = |op: u32, claim: Claim| {
        let place = &places[op as usize];
        let revision = place.revision;
        (revision > 0).then(|| Event {
            op,
            claim,
            low: births.by_revision[revision as usize].max(place.call),
            lowest: births.lowest[revision as usize].max(place.call),
            high: replay.order.deadline[revision as usize + 1].min(place.ret),
            position: 2 * revision + 1,
            has_keys: None,
        })
    };
    for (id, lease) in &leases.by_id {
        let chain = chains.get_mut(id).expect("each lease has a chain");
        for grant in leases.grants(lease) {
            if grant.is_known {
                chain.events.extend(bare(grant.op, Claim::Granted { until: grant.until }));
            } else {
                chain.hidden.push(Hidden { call: grant.call, until: Some(grant.until) });
            }
        }
        for (op, is_answered) in lease.revocations.iter().filter(|(op, _)| !ended.contains(op)) {
            let place = &places[*op as usize];
            if *is_answered && place.kind != Kind::Idle {
                chain.events.extend(bare(*op, Claim::RevokedBare));
            } else {
                chain.hidden.push(Hidden { call: place.call, until: None });
            }
        }
    }
    let last = |births: &[u64]| births.last().copied().unwrap_or(0);
    let (behind, behind_all) = (last(&births.by_revision), last(&births.lowest));
    Some(Chains { by_id: chains, behind, behind_all, raised: births.raised })
}

/// The events of each lease as far as they do not depend on its keys.
pub(super) fn chains_without_keys(leases: &Leases, replay: &Replay<'_, '_>) -> Chains {
    let order = replay.order;
    let event = |op: u32, claim: Claim, is_write: bool| {
        let place = &replay.history.places[op as usize];
        let revision = place.revision;
        let low = order.birth[revision.max(0) as usize].max(place.call);
        (revision > 0).then(|| Event {
            op,
            claim,
            low,
            lowest: low,
            high: order.deadline[(revision + i64::from(!is_write)) as usize].min(place.ret),
            position: 2 * revision + i64::from(!is_write),
            has_keys: None,
        })
    };
    let chain = |lease: &Lease| {
        let mut chain = Chain { events: lease.said.clone(), ..Chain::default() };
        for grant in leases.grants(lease) {
            match event(grant.op, Claim::Granted { until: grant.until }, false) {
                Some(granted) if grant.is_known => chain.events.push(granted),
                _ => chain.hidden.push(Hidden { call: grant.call, until: Some(grant.until) }),
            }
        }
        for (op, is_answered) in &lease.revocations {
            // Whether it made its revision is not known: only its time counts.
            let revoked = event(*op, Claim::RevokedBare, false).filter(|_| *is_answered);
            match revoked {
                Some(revoked) => chain.events.push(Event { position: 0, ..revoked }),
                None => {
                    let call = replay.history.places[*op as usize].call;
                    chain.hidden.push(Hidden { call, until: None });
                }
            }
        }
        let attached = lease.attached_at.iter();
        chain.events.extend(attached.filter_map(|(_, op)| event(*op, Claim::Attached, true)));
        chain
    };
    let by_id = leases.by_id.iter().map(|(id, lease)| (*id, chain(lease))).collect();
    Chains { by_id, behind: 0, behind_all: 0, raised: Vec::new() }
}

/// Does all writes once more and notes where leases got their first key, lost their last, and ended. Gives back
/// before which moment each revision cannot have existed.
fn writes(
    replay: &Replay<'_, '_>,
    chains: &mut BTreeMap<i64, Chain>,
    told: &mut Told,
) -> Option<Births> {
    let filled: BTreeMap<i64, usize> = replay
        .search
        .used
        .iter()
        .enumerate()
        .filter(|(_, used)| **used != 0)
        .map(|(number, used)| (*used, number))
        .collect();
    let mut births = replay.order.birth.clone();
    let (mut lowest, mut raised) = (births.clone(), Vec::new());
    let mut store = Store::new(&replay.history.keys);
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    for at in 2..=replay.order.last {
        let step = step(replay, &filled, at)?;
        let index = at as usize;
        let floor = births[index].max(births[index - 1]);
        births[index] = floor.max(step.call);
        lowest[index] = lowest[index].max(lowest[index - 1]);
        if step.is_certain {
            lowest[index] = lowest[index].max(step.call);
        } else if step.call > floor && may_be_earlier(replay, at, step.call) {
            raised.push(at);
        }
        let mut judge = Judge::new(&replay.history.keys, &mut store, at, step.op);
        judge.run(step.request, step.response);
        for (lease, change) in store.lease_changes() {
            told.compare(replay, &store, lease, births[index]);
            let count = counts.entry(lease).or_default();
            let before = *count;
            *count += change;
            let claim = match step.ends {
                Some((ended, is_expiry)) if ended == lease => {
                    if is_expiry {
                        Claim::Expired
                    } else {
                        Claim::Revoked
                    }
                }
                _ if before == 0 && *count > 0 => Claim::Attached,
                _ if before > 0 && *count == 0 => Claim::Bared,
                _ => continue,
            };
            let event = Event {
                op: step.op,
                claim,
                low: births[index],
                lowest: lowest[index].max(step.call),
                high: replay.order.deadline[index].min(step.ret),
                position: 2 * at,
                has_keys: Some(*count > 0),
            };
            chains.entry(lease).or_default().events.push(event);
        }
        store.commit();
    }
    let last = births.len() - 1;
    births[last] = births[last].max(births[last - 1]);
    lowest[last] = lowest[last].max(lowest[last - 1]);
    Some(Births { by_revision: births, lowest, raised })
}

/// Whether a hole could belong to somebody who was called before a moment.
fn may_be_earlier(replay: &Replay<'_, '_>, at: i64, call: u64) -> bool {
    let evidence = replay.evidence;
    let Some(number) = evidence.hole(at) else { return false };
    let fits = |number: u32| {
        let unknown = &evidence.unknowns[number as usize];
        unknown.call < call && unknown.fits(at) && evidence.reserved[number as usize].is_none()
    };
    match &evidence.holes[number].suspects {
        Suspects::Some(list) => list.iter().any(|number| fits(*number)),
        _ => (0..evidence.unknowns.len() as u32).any(fits),
    }
}

fn step<'a>(replay: &Replay<'_, 'a>, filled: &BTreeMap<i64, usize>, at: i64) -> Option<Step<'a>> {
    let history = replay.history;
    let owner = replay.order.owner[at as usize];
    if owner != NOBODY {
        let (place, operation) =
            (&history.places[owner as usize], &history.operations[owner as usize]);
        return Some(Step {
            op: owner,
            call: place.call,
            ret: place.ret,
            is_certain: true,
            request: &operation.request,
            response: operation.response.as_ref(),
            ends: None,
        });
    }
    let unknown = &replay.evidence.unknowns[*filled.get(&at)?];
    let ret = if unknown.only == at { history.places[unknown.op as usize].ret } else { u64::MAX };
    let hole = replay.evidence.hole(at).map(|number| &replay.evidence.holes[number]);
    Some(Step {
        op: unknown.op,
        call: unknown.call,
        ret,
        is_certain: hole.is_some_and(|hole| matches!(hole.suspects, Suspects::Settled(_))),
        request: unknown.request,
        response: None,
        ends: unknown.ends.map(|lease| (lease, unknown.is_expiry)),
    })
}

/// Answers that name a lease's keys and have not been met by any revision yet.
struct Told {
    /// Operation, lease, and its keys by number; `None` among them for one that nobody put.
    open: Vec<(u32, i64, BTreeSet<Option<u32>>)>,
}

impl Told {
    fn new(leases: &Leases, replay: &Replay<'_, '_>) -> Self {
        let mut open = Vec::new();
        for op in &leases.answers {
            let operation = &replay.history.operations[*op as usize];
            let body = operation.response.as_ref().map(|response| &response.body);
            if let Some(Body::LeaseTimeToLive { id, keys, .. }) = body
                && !keys.is_empty()
            {
                let keys = keys.iter().map(|key| replay.history.keys.id(&key.0)).collect();
                open.push((*op, *id, keys));
            }
        }
        Self { open }
    }

    /// Strikes the answers that the store meets as it is; it has been so from `birth` on.
    fn compare(&mut self, replay: &Replay<'_, '_>, store: &Store<'_>, lease: i64, birth: u64) {
        if self.open.is_empty() {
            return;
        }
        let keys = replay.history.keys.attached(lease).iter();
        let held: BTreeSet<Option<u32>> =
            keys.filter(|key| store.get(**key).lease == lease).map(|key| Some(*key)).collect();
        self.open.retain(|(op, id, keys)| {
            let ret = replay.history.places[*op as usize].ret;
            *id != lease || birth > ret || *keys != held
        });
    }
}
