//! Elections, members and permissions: what really happened is kept, and known breaks of it are named.

use std::collections::BTreeSet;

use super::cluster::Dice;
use super::kept::at_least;
use super::locks::Locks;
use super::model::{Model, failure};
use crate::checker::{Verdict, check, render};
use crate::history::{
    Body, Bytes, Compare, CompareResult, CompareTarget, KeyValue, LeaderKey, Member, Operation,
    Outcome, PermissionKind, Put, Range, Request, Response, Txn,
};

/// A service in one step: what is asked, by whom, and what comes of it. Without `applies` nothing comes of it.
pub(super) trait Service {
    fn step(
        &mut self,
        dice: &mut Dice,
        applies: bool,
    ) -> (Request, Option<String>, Result<Response, String>);
}

/// So many steps; with `jitter` they overlap, and some outcomes are unknown.
pub(super) fn run(service: &mut dyn Service, seed: u64, steps: u64, jitter: u64) -> Vec<Operation> {
    let mut dice = Dice(seed);
    let mut operations = Vec::new();
    for number in 1..=steps {
        let at = (number + 3) * 100_000;
        let is_unknown = jitter > 0 && dice.chance(15);
        let applies = !is_unknown || dice.chance(50);
        let (request, user, answer) = service.step(&mut dice, applies);
        let (response, error, outcome) = match answer {
            _ if is_unknown => {
                (None, Some(failure("etcdserver: request timed out")), Outcome::Unknown)
            }
            Ok(response) => (Some(response), None, Outcome::Ok),
            Err(text) => (None, Some(failure(&text)), Outcome::Failed),
        };
        operations.push(Operation {
            op: 0,
            client: number as u32,
            user,
            member: format!("n{}", number % 3 + 1),
            call: at - dice.below(jitter + 1),
            returned: Some(at + dice.below(jitter + 1)),
            request,
            response,
            outcome,
            error,
        });
    }
    operations.sort_by_key(|operation| operation.call);
    for (number, operation) in operations.iter_mut().enumerate() {
        operation.op = number as u64;
    }
    operations
}

fn plain(body: Body) -> Response {
    Response { revision: 0, member_id: 0, raft_term: 0, body }
}

/// The configuration of a cluster, with its past for members that lag.
struct Members {
    past: Vec<Vec<Member>>,
    next: u64,
}

impl Members {
    fn new() -> Self {
        let member = |id| Member {
            id,
            name: format!("n{id}"),
            peer_urls: vec![format!("http://n{id}")],
            learner: false,
        };
        Self { past: vec![(1..=3).map(member).collect()], next: 4 }
    }
}

impl Service for Members {
    fn step(
        &mut self,
        dice: &mut Dice,
        applies: bool,
    ) -> (Request, Option<String>, Result<Response, String>) {
        let mut now = self.past.last().expect("never empty").clone();
        let some = now[dice.below(now.len() as u64) as usize].id;
        let url = vec![format!("http://u{}", dice.below(5))];
        let request = match dice.below(6) {
            0 => Request::MemberAdd { peer_urls: url, learner: dice.chance(70) },
            1 if now.len() > 2 => Request::MemberRemove { id: some },
            2 => Request::MemberPromote { id: some },
            3 => Request::MemberUpdate { id: some, peer_urls: url },
            4 => Request::MemberList { linearizable: false },
            _ => Request::MemberList { linearizable: true },
        };
        let mut added = None;
        match &request {
            Request::MemberAdd { learner: true, .. } if now.iter().any(|member| member.learner) => {
                return (
                    request,
                    None,
                    Err("etcdserver: too many learner members in cluster".to_owned()),
                );
            }
            Request::MemberAdd { peer_urls, learner } => {
                let (id, peer_urls, learner) = (self.next, peer_urls.clone(), *learner);
                let member = Member { id, name: String::new(), peer_urls, learner };
                self.next += 1;
                now.push(member.clone());
                added = Some(member);
            }
            Request::MemberRemove { id } => now.retain(|member| member.id != *id),
            Request::MemberPromote { id } => {
                let promoted = now.iter_mut().find(|member| member.id == *id && member.learner);
                let Some(promoted) = promoted else {
                    return (
                        request,
                        None,
                        Err("etcdserver: can only promote a learner member".to_owned()),
                    );
                };
                promoted.learner = false;
            }
            Request::MemberUpdate { id, peer_urls } => {
                let updated = now.iter_mut().filter(|member| member.id == *id);
                updated.for_each(|member| member.peer_urls.clone_from(peer_urls));
            }
            Request::MemberList { linearizable: false } => {
                now.clone_from(&self.past[dice.below(self.past.len() as u64) as usize]);
                let body = Body::Members { member: None, members: now };
                return (request, None, Ok(plain(body)));
            }
            _ => {}
        }
        if applies {
            self.past.push(now.clone());
        }
        (request, None, Ok(plain(Body::Members { member: added, members: now })))
    }
}

/// Two elections; who campaigns while somebody leads waits until that one is gone, which it then is.
#[derive(Default)]
struct Elections {
    revision: i64,
    leaders: [Vec<LeaderKey>; 2],
}

impl Service for Elections {
    fn step(
        &mut self,
        dice: &mut Dice,
        applies: bool,
    ) -> (Request, Option<String>, Result<Response, String>) {
        let which = dice.below(2) as usize;
        let name = Bytes::from(["e", "f"][which]);
        let past = &mut self.leaders[which];
        let (request, answer) = match dice.below(3) {
            0 => {
                self.revision += 1 + dice.below(3) as i64;
                let lease = 100 + self.revision;
                let key = Bytes::from(format!("{name}/{lease:x}").as_str());
                let leader = LeaderKey { name: name.clone(), key, revision: self.revision, lease };
                if applies {
                    past.push(leader.clone());
                }
                (
                    Request::Campaign { name, lease, value: "v".into() },
                    Ok(Body::Campaign { leader }),
                )
            }
            1 if !past.is_empty() => {
                let at = dice.below(past.len() as u64) as usize;
                let answer = if at + 1 == past.len() {
                    Ok(Body::Proclaim {})
                } else {
                    Err("election: not leader")
                };
                (Request::Proclaim { leader: past[at].clone(), value: "w".into() }, answer)
            }
            _ => {
                let answer = past.last().map(|leader| {
                    let create_revision = leader.revision;
                    let kv = KeyValue {
                        key: leader.key.clone(),
                        create_revision,
                        ..KeyValue::default()
                    };
                    Body::Leader { kv }
                });
                (Request::Leader { name }, answer.ok_or("election: no leader"))
            }
        };
        (request, None, answer.map(plain).map_err(str::to_owned))
    }
}

/// Two users, two roles, four keys.
struct Auth {
    store: Model,
    is_enabled: bool,
    given: BTreeSet<(String, String)>,
    allowed: Vec<(String, PermissionKind, Bytes, Bytes)>,
}

impl Auth {
    fn new() -> Self {
        let (given, allowed) = (BTreeSet::new(), Vec::new());
        Self { store: Model::new(), is_enabled: false, given, allowed }
    }

    fn may(&self, user: Option<&String>, key: &Bytes, writes: bool) -> bool {
        let Some(user) = user else { return !self.is_enabled };
        !self.is_enabled
            || self.allowed.iter().any(|(role, kind, first, end)| {
                let is_kind = match kind {
                    PermissionKind::Read => !writes,
                    PermissionKind::Write => writes,
                    PermissionKind::ReadWrite => true,
                };
                let is_in = if end.0.is_empty() { key == first } else { key >= first && key < end };
                is_kind && is_in && self.given.contains(&(user.clone(), role.clone()))
            })
    }

    /// A put or a get, or a txn with either in it, perhaps in a txn in a txn.
    fn ask(dice: &mut Dice, depth: u64) -> Request {
        let key = |dice: &mut Dice| Bytes::from(format!("k{}", dice.below(4)).as_str());
        match dice.below(6) {
            0 | 1 if depth < 3 => {
                let (compare, success) = (dice.chance(30), Self::ask(dice, depth + 1));
                let (result, target) = (CompareResult::Greater, CompareTarget::Version(-1));
                let range_end = Bytes::default();
                let compare =
                    compare.then(|| Compare { key: key(dice), range_end, result, target });
                let failure = dice.chance(20).then(|| Self::ask(dice, 3)).into_iter().collect();
                Request::Txn(Txn {
                    compare: compare.into_iter().collect(),
                    success: vec![success],
                    failure,
                })
            }
            2..4 => {
                let value = Bytes::from(format!("v{}", dice.next()).as_str());
                Request::Put(Put { key: key(dice), value, ..Put::default() })
            }
            _ => Request::Range(Range { key: key(dice), ..Range::default() }),
        }
    }

    fn allows(&self, user: Option<&String>, request: &Request) -> bool {
        match request {
            Request::Put(put) => self.may(user, &put.key, true),
            Request::Range(range) => self.may(user, &range.key, false),
            Request::Txn(txn) => {
                txn.compare.iter().all(|compare| self.may(user, &compare.key, false))
                    && txn.success.iter().chain(&txn.failure).all(|one| self.allows(user, one))
            }
            _ => true,
        }
    }

    fn admin(&mut self, request: &Request) {
        match request {
            Request::AuthEnable {} => self.is_enabled = true,
            Request::AuthDisable {} => self.is_enabled = false,
            Request::UserGrantRole { name, role } => {
                self.given.insert((name.clone(), role.clone()));
            }
            Request::UserRevokeRole { name, role } => {
                self.given.remove(&(name.clone(), role.clone()));
            }
            Request::RoleDelete { name } => {
                self.given.retain(|(_, role)| role != name);
                self.allowed.retain(|(role, ..)| role != name);
            }
            Request::RoleGrantPermission { role, kind, key, range_end } => {
                self.allowed
                    .retain(|(of, _, first, end)| (of, first, end) != (role, key, range_end));
                self.allowed.push((role.clone(), *kind, key.clone(), range_end.clone()));
            }
            Request::RoleRevokePermission { role, key, range_end } => {
                self.allowed
                    .retain(|(of, _, first, end)| (of, first, end) != (role, key, range_end));
            }
            _ => {}
        }
    }

    fn ask_admin(dice: &mut Dice) -> Request {
        let name = ["ann", "bob"][dice.below(2) as usize].to_owned();
        let role = ["r", "s"][dice.below(2) as usize].to_owned();
        let key = Bytes::from(format!("k{}", dice.below(4)).as_str());
        let range_end = Bytes::from(["", "", "k2", "k9"][dice.below(4) as usize]);
        let kind = [PermissionKind::Read, PermissionKind::Write, PermissionKind::ReadWrite];
        match dice.below(16) {
            0..3 => Request::AuthEnable {},
            3 => Request::AuthDisable {},
            4..8 => Request::UserGrantRole { name, role },
            8 => Request::UserRevokeRole { name, role },
            9 => Request::RoleDelete { name: role },
            10..15 => {
                let kind = kind[dice.below(3) as usize];
                Request::RoleGrantPermission { role, kind, key, range_end }
            }
            _ => Request::RoleRevokePermission { role, key, range_end },
        }
    }
}

impl Service for Auth {
    fn step(
        &mut self,
        dice: &mut Dice,
        applies: bool,
    ) -> (Request, Option<String>, Result<Response, String>) {
        if dice.chance(50) {
            let request = Self::ask_admin(dice);
            if applies {
                self.admin(&request);
            }
            return (request, Some("root".to_owned()), Ok(plain(Body::Auth {})));
        }
        let user = [None, Some("ann"), Some("bob")][dice.below(3) as usize].map(str::to_owned);
        let request = Self::ask(dice, 0);
        let is_allowed = self.allows(user.as_ref(), &request);
        let answer = match is_allowed {
            false => Err("etcdserver: permission denied".to_owned()),
            true if applies => self.store.apply(&request).map_err(|error| error.message),
            true => Ok(plain(Body::Put { prev_kv: None })),
        };
        (request, user, answer)
    }
}

fn service(kind: u64) -> Box<dyn Service> {
    match kind {
        0 => Box::new(Members::new()),
        1 => Box::<Elections>::default(),
        2 => Box::new(Auth::new()),
        3 => Box::new(Locks::new()),
        _ => Box::new(Locks::foreign()),
    }
}

/// What really happened is kept, one after the other or at the same time.
#[test]
fn what_happened_is_kept() {
    for kind in 0..5 {
        for seed in 0..at_least(3_000) {
            let operations = run(&mut *service(kind), seed, 30, seed % 4 * 70_000);
            let report = check(&operations, None);
            assert_eq!(
                report.verdict,
                Verdict::Kept,
                "seed {seed}: {}",
                render::report(&report, &operations)
            );
        }
    }
}

/// Changes one operation; `false` where it is none that this break is about.
type Break = fn(&mut Operation, &[Operation]) -> bool;

/// Name of the break, the service, the rule that must be named, and the break.
const BREAKS: &[(&str, u64, &str, Break)] = &[
    ("a member that was added is not listed", 0, "member-list", |operation, before| {
        let added: Vec<u64> = before.iter().filter_map(added).collect();
        let Some(members) = members(operation) else { return false };
        let count = members.len();
        members.retain(|member| !added.contains(&member.id));
        count > members.len()
    }),
    ("a member that was removed is listed", 0, "member-list", |operation, before| {
        let removed = before.iter().rev().find_map(|one| match (&one.request, one.outcome) {
            (Request::MemberRemove { id }, Outcome::Ok) => Some(*id),
            _ => None,
        });
        let (Some(id), Some(members)) = (removed, members(operation)) else { return false };
        members.push(Member { id, ..Member::default() });
        true
    }),
    ("an address that was changed is the old one", 0, "member-list", |operation, before| {
        let updated = before.iter().rev().find_map(|one| match (&one.request, one.outcome) {
            (Request::MemberUpdate { id, .. }, Outcome::Ok) => Some(*id),
            _ => None,
        });
        let Some(members) = members(operation) else { return false };
        let Some(member) = members.iter_mut().find(|member| Some(member.id) == updated) else {
            return false;
        };
        member.peer_urls = vec!["http://elsewhere".to_owned()];
        true
    }),
    ("an id given again", 0, "member-id", |operation, before| {
        let Some(id) = before.iter().find_map(added) else { return false };
        let Some(Body::Members { member: Some(member), .. }) = body(operation) else {
            return false;
        };
        member.id = id;
        true
    }),
    ("two learners", 0, "learner-limit", |operation, _| {
        let Some(members) = members(operation) else { return false };
        members.iter_mut().take(2).for_each(|member| member.learner = true);
        true
    }),
    ("an old leader is shown", 1, "election-fenced", |operation, before| {
        let Request::Leader { name } = operation.request.clone() else { return false };
        let mut won: Vec<&LeaderKey> =
            before.iter().filter_map(won).filter(|it| it.name == name).collect();
        let (Some(_), Some(old)) = (won.pop(), won.pop()) else { return false };
        let Some(Body::Leader { kv }) = body(operation) else { return false };
        (kv.key, kv.create_revision) = (old.key.clone(), old.revision);
        true
    }),
    ("an old leader proclaims", 1, "election-fenced", |operation, before| {
        let is_refused = operation.outcome == Outcome::Failed;
        if !is_refused
            || !matches!(operation.request, Request::Proclaim { .. })
            || before.is_empty()
        {
            return false;
        }
        operation.outcome = Outcome::Ok;
        operation.error = None;
        operation.response = Some(plain(Body::Proclaim {}));
        true
    }),
    ("two leaderships with one revision", 1, "election-revision", |operation, before| {
        let Some(first) = before.iter().find_map(won) else { return false };
        let Some(Body::Campaign { leader }) = body(operation) else { return false };
        leader.revision = first.revision;
        true
    }),
    ("a lock is given to two", 3, "lock-owner", |operation, _| {
        let Request::Leader { name } = operation.request.clone() else { return false };
        let key = format!("{name}/63");
        operation.request = Request::Lock { name, lease: 0x63 };
        let Some(body) = body(operation) else { return false };
        *body = Body::Lock { key: key.as_str().into() };
        true
    }),
    ("somebody who never stood is shown as leader", 3, "election-leader", |operation, _| {
        let Request::Leader { name } = operation.request.clone() else { return false };
        let Some(Body::Leader { kv }) = body(operation) else { return false };
        kv.key = format!("{name}/63").as_str().into();
        true
    }),
    ("a denied read is answered", 2, "auth-forbidden", |operation, _| {
        matches!(operation.request, Request::Range(_)) && answer_denied(operation)
    }),
    ("a denied txn is answered", 2, "auth-forbidden", |operation, _| {
        matches!(operation.request, Request::Txn(_)) && answer_denied(operation)
    }),
    ("a denied txn in a txn is answered", 2, "auth-forbidden", |operation, _| {
        is_nested(&operation.request) && answer_denied(operation)
    }),
    ("an allowed read is denied", 2, "auth-denied", |operation, before| {
        matches!(operation.request, Request::Range(_)) && deny_allowed(operation, before)
    }),
    ("an allowed txn is denied", 2, "auth-denied", |operation, before| {
        matches!(operation.request, Request::Txn(_)) && deny_allowed(operation, before)
    }),
];

fn is_nested(request: &Request) -> bool {
    let Request::Txn(txn) = request else { return false };
    txn.success.iter().any(|inner| matches!(inner, Request::Txn(_)))
}

/// What nobody was allowed is done after all.
fn answer_denied(operation: &mut Operation) -> bool {
    fn empty(request: &Request) -> Body {
        match request {
            Request::Txn(txn) => {
                let inner = |one| Response { revision: 0, ..plain(empty(one)) };
                Body::Txn { succeeded: true, responses: txn.success.iter().map(inner).collect() }
            }
            Request::Put(_) => Body::Put { prev_kv: None },
            _ => Body::Range { kvs: Vec::new(), more: false, count: 0 },
        }
    }
    if operation.outcome != Outcome::Failed {
        return false;
    }
    operation.outcome = Outcome::Ok;
    operation.error = None;
    operation.response = Some(Response { revision: 1, ..plain(empty(&operation.request)) });
    true
}

/// What everybody agrees was allowed is denied.
fn deny_allowed(operation: &mut Operation, before: &[Operation]) -> bool {
    // Once authentication was off, what was answered may have needed no permission.
    let was_off = before.iter().any(|one| matches!(one.request, Request::AuthDisable {}));
    if operation.outcome != Outcome::Ok || was_off {
        return false;
    }
    operation.outcome = Outcome::Failed;
    operation.response = None;
    operation.error = Some(failure("etcdserver: permission denied"));
    true
}

fn body(operation: &mut Operation) -> Option<&mut Body> {
    operation.response.as_mut().map(|response| &mut response.body)
}

/// The members of a linearizable list.
fn members(operation: &mut Operation) -> Option<&mut Vec<Member>> {
    if operation.request != (Request::MemberList { linearizable: true }) {
        return None;
    }
    match body(operation)? {
        Body::Members { members, .. } => Some(members),
        _ => None,
    }
}

fn added(operation: &Operation) -> Option<u64> {
    match &operation.response.as_ref()?.body {
        Body::Members { member, .. } => member.as_ref().map(|member| member.id),
        _ => None,
    }
}

fn won(operation: &Operation) -> Option<&LeaderKey> {
    match &operation.response.as_ref()?.body {
        Body::Campaign { leader } => Some(leader),
        _ => None,
    }
}

/// The rules that are broken here.
pub(super) fn broken() -> impl Iterator<Item = &'static str> {
    BREAKS.iter().map(|(_, _, rule, _)| *rule)
}

/// Every break is caught and named. Prints the score of each.
#[test]
fn breaks_are_caught_and_named() {
    for (name, kind, rule, break_it) in BREAKS {
        let (mut made, mut named) = (0, 0);
        for seed in 0..at_least(1_200) {
            let mut operations = run(&mut *service(*kind), seed, 30, 0);
            let mut dice = Dice(seed);
            let at = dice.below(operations.len() as u64) as usize;
            let (before, rest) = operations.split_at_mut(at);
            if !break_it(&mut rest[0], before) {
                continue;
            }
            let report = check(&operations, None);
            made += 1;
            named += u32::from(report.violations.iter().any(|violation| violation.rule == *rule));
        }
        println!("{named:4} of {made:4} caught and named {rule}: {name}");
        assert!(made >= 20 && named == made, "{name}: {named} of {made}");
    }
}
