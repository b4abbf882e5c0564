//! Whether answers and denials agree with the permissions that were possible in their time.
//!
//! What a user may do is the result of all grants and revocations before. Which of them come before an operation
//! is known only up to overlaps and unknown outcomes; so an answer is accused if no order and no outcome could have
//! allowed it, and a denial if every one would have.
//!
//! A txn needs all that its comparisons and both its branches do, down to the innermost txn: what is not done is
//! asked for too.
//!
//! Not judged: reads of a single member, which may not know the newest permissions; leases, watches and everything
//! but keys. Reading what was there before a put inside a txn needs a permission on some servers alone: it is never
//! called forbidden, and a denial of it is never called wrong without one.

use super::Violation;
use super::render;
use crate::history::{Bytes, Operation, Outcome, PermissionKind, Request};

const DENIED: &str = "permission denied";

/// One access to keys that an operation needs.
struct Need<'a> {
    key: &'a [u8],
    range_end: &'a [u8],
    writes: bool,
    /// Which part of the operation does.
    part: &'static str,
}

/// Everything that an operation needs.
#[derive(Default)]
struct Needs<'a> {
    /// What every server asks for.
    certain: Vec<Need<'a>>,
    /// What some servers ask for beside it.
    possible: Vec<Need<'a>>,
    /// It names a lease, whose other keys count too.
    names_lease: bool,
}

/// Everything about users, roles and permissions that may have happened.
struct Past<'a> {
    admin: Vec<&'a Operation>,
}

/// Judges all answers and denials: the violations, each with the moment at which it shows.
pub(super) fn check(operations: &[Operation]) -> Vec<(u64, Violation)> {
    let admin: Vec<&Operation> = operations.iter().filter(|one| is_admin(one)).collect();
    let mut found = Vec::new();
    if admin.is_empty() {
        return found;
    }
    let past = Past { admin };
    for operation in operations {
        let when = operation.returned.unwrap_or(u64::MAX);
        let denied = operation.error.as_ref().is_some_and(|error| error.message.contains(DENIED));
        let accused = match operation.outcome {
            Outcome::Ok => past.forbidden(operation).map(|text| ("auth-forbidden", text)),
            Outcome::Failed if denied => past.allowed(operation).map(|text| ("auth-denied", text)),
            _ => None,
        };
        let Some((rule, (why, proof))) = accused else { continue };
        let sentence = format!("{}{} {why}.", render::who(operation), user(operation));
        let operations = proof.into_iter().chain([operation.op]).collect();
        let (revisions, details) = ((0, 0), Vec::new());
        found.push((when, Violation { rule, sentence, operations, revisions, details }));
    }
    found
}

fn is_admin(operation: &Operation) -> bool {
    operation.request.is_about_users() && operation.outcome != Outcome::Failed
}

fn user(operation: &Operation) -> String {
    operation.user.as_ref().map_or(" without a user".to_owned(), |user| format!(" as user {user}"))
}

/// When an operation was over for certain.
fn end(operation: &Operation) -> u64 {
    match operation.outcome {
        Outcome::Ok => operation.returned.unwrap_or(u64::MAX),
        _ => u64::MAX,
    }
}

impl<'a> Needs<'a> {
    /// Of one operation; none where nothing is asked, or where one member answers for itself.
    fn of(request: &'a Request) -> Self {
        let mut needs = Self::default();
        if !is_local(request) {
            needs.add(request, "");
        }
        needs
    }

    fn add(&mut self, request: &'a Request, part: &'static str) {
        let need = |(key, end): (&'a Bytes, &'a [u8]), writes| Need {
            key: &key.0,
            range_end: end,
            writes,
            part,
        };
        match request {
            Request::Range(range) => {
                self.certain.push(need((&range.key, &range.range_end.0), false));
            }
            Request::Put(put) => {
                self.certain.push(need((&put.key, &[]), true));
                self.names_lease |= put.lease != 0 || put.ignore_lease;
                if put.prev_kv {
                    let list = if part.is_empty() { &mut self.certain } else { &mut self.possible };
                    list.push(need((&put.key, &[]), false));
                }
            }
            Request::DeleteRange(delete) => {
                let keys = (&delete.key, &delete.range_end.0[..]);
                self.certain.push(need(keys, true));
                if delete.prev_kv {
                    self.certain.push(need(keys, false));
                }
            }
            Request::Txn(txn) => {
                for compare in &txn.compare {
                    let compared = need((&compare.key, &compare.range_end.0), false);
                    self.certain.push(Need { part: ", which it compares", ..compared });
                }
                for (branch, part) in [
                    (&txn.success, ", as its success branch does"),
                    (&txn.failure, ", as its failure branch does"),
                ] {
                    branch.iter().for_each(|inner| self.add(inner, part));
                }
            }
            _ => {}
        }
    }
}

/// Whether a member answers from what it knows itself; a txn of comparisons alone counts as such.
fn is_local(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.serializable,
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).all(is_local),
        _ => false,
    }
}

type Proof = (String, Vec<u64>);

impl<'a> Past<'a> {
    /// Whether `done` is undone for certain before `operation` began.
    fn is_undone(
        &self,
        done: &Operation,
        operation: &Operation,
        undoes: &dyn Fn(&Request) -> bool,
    ) -> bool {
        self.admin.iter().any(|undo| {
            undoes(&undo.request) && end(done) < undo.call && end(undo) < operation.call
        })
    }

    /// Whether `done` was done for certain before `operation`, and cannot have been undone until its end.
    fn stands(
        &self,
        done: &Operation,
        operation: &Operation,
        undoes: &dyn Fn(&Request) -> bool,
    ) -> bool {
        let until = operation.returned.unwrap_or(u64::MAX);
        end(done) < operation.call
            && !self
                .admin
                .iter()
                .any(|undo| undoes(&undo.request) && end(undo) >= done.call && undo.call <= until)
    }

    fn enabling(&self) -> impl Iterator<Item = &&'a Operation> {
        self.admin.iter().filter(|one| matches!(one.request, Request::AuthEnable {}))
    }

    /// Roles given to a user: all that may be in force, or with `for_certain` all that must be.
    fn roles(&self, user: &str, operation: &Operation, for_certain: bool) -> Vec<&'a Operation> {
        let given = self.admin.iter().copied().filter(
            |one| matches!(&one.request, Request::UserGrantRole { name, .. } if name == user),
        );
        given
            .filter(|grant| {
                let undoes = |undo: &Request| match (undo, &grant.request) {
                    (
                        Request::UserRevokeRole { name, role },
                        Request::UserGrantRole { role: given, .. },
                    ) => name == user && role == given,
                    (Request::RoleDelete { name }, Request::UserGrantRole { role, .. }) => {
                        name == role
                    }
                    (Request::UserDelete { name }, _) => name == user,
                    _ => false,
                };
                self.is_in_force(grant, operation, for_certain, &undoes)
            })
            .collect()
    }

    fn is_in_force(
        &self,
        grant: &Operation,
        operation: &Operation,
        for_certain: bool,
        undoes: &dyn Fn(&Request) -> bool,
    ) -> bool {
        if for_certain {
            return self.stands(grant, operation, undoes);
        }
        let until = operation.returned.unwrap_or(u64::MAX);
        grant.call <= until && !self.is_undone(grant, operation, undoes)
    }

    /// A permission of a role that meets a need: maybe and in part, or for certain and in full.
    fn permission(
        &self,
        role: &str,
        need: &Need<'_>,
        operation: &Operation,
        for_certain: bool,
    ) -> Option<&'a Operation> {
        self.admin.iter().copied().find(|grant| {
            let Request::RoleGrantPermission { role: of, kind, key, range_end } = &grant.request
            else {
                return false;
            };
            let is_kind = match kind {
                PermissionKind::Read => !need.writes,
                PermissionKind::Write => need.writes,
                PermissionKind::ReadWrite => true,
            };
            let undoes = |undo: &Request| match undo {
                Request::RoleRevokePermission { role: from, key: first, range_end: last } => {
                    from == of && first == key && last == range_end
                }
                // Granting the same range again replaces the kind.
                Request::RoleGrantPermission {
                    role: to,
                    kind: new,
                    key: first,
                    range_end: last,
                } => to == of && first == key && last == range_end && new != kind,
                Request::RoleDelete { name } => name == of,
                _ => false,
            };
            of == role
                && is_kind
                && meets(need, &key.0, &range_end.0, for_certain)
                && self.is_in_force(grant, operation, for_certain, &undoes)
        })
    }

    /// Why no possible state allowed an answer.
    fn forbidden(&self, operation: &Operation) -> Option<Proof> {
        let needs = Needs::of(&operation.request).certain;
        let off = |undo: &Request| matches!(undo, Request::AuthDisable {});
        let enabled = self.enabling().find(|enable| self.stands(enable, operation, &off))?;
        if needs.is_empty() {
            return None;
        }
        let proof = vec![enabled.op];
        let Some(user) = &operation.user else {
            let text = format!("was done, though {} had been done", render::who(enabled));
            return Some((text, proof));
        };
        let roles = self.roles(user, operation, false);
        if user == "root" || roles.iter().any(|grant| role(grant) == Some("root")) {
            return None;
        }
        let may = |need: &Need<'_>| {
            let mut roles = roles.iter().filter_map(|grant| role(grant));
            roles.any(|role| self.permission(role, need, operation, false).is_some())
        };
        let need = needs.iter().find(|need| !may(need))?;
        let what = if need.writes { "write" } else { "read" };
        let text = format!(
            "was done, though {} had been done and no role that the user can have had allows to {what} {}{}",
            render::who(enabled),
            render::span(need.key, need.range_end),
            need.part
        );
        Some((text, proof))
    }

    /// Why every possible state allowed what was denied.
    fn allowed(&self, operation: &Operation) -> Option<Proof> {
        let Needs { certain, possible, names_lease } = Needs::of(&operation.request);
        if certain.is_empty() {
            return None;
        }
        let until = operation.returned.unwrap_or(u64::MAX);
        if self.enabling().all(|enable| enable.call > until) {
            return Some((
                "was denied, though nobody had asked for authentication".to_owned(),
                Vec::new(),
            ));
        }
        if names_lease {
            return None;
        }
        let user = operation.user.as_ref()?;
        let roles = self.roles(user, operation, true);
        let mut grounds: Vec<&Operation> = Vec::new();
        for need in certain.iter().chain(&possible) {
            let (grant, permission) = roles.iter().find_map(|grant| {
                Some((*grant, self.permission(role(grant)?, need, operation, true)?))
            })?;
            for one in [grant, permission] {
                if !grounds.iter().any(|known| known.op == one.op) {
                    grounds.push(one);
                }
            }
        }
        let (last, first) = grounds.split_last()?;
        let first: Vec<String> = first.iter().map(|one| render::who(one)).collect();
        let text = format!(
            "was denied, though {} and {} had been done before, and nobody took them back",
            first.join(", "),
            render::who(last)
        );
        Some((text, grounds.iter().map(|one| one.op).collect()))
    }
}

/// The role that a user is given.
fn role(grant: &Operation) -> Option<&str> {
    match &grant.request {
        Request::UserGrantRole { role, .. } => Some(role),
        _ => None,
    }
}

/// Whether a permission covers a need, in full where that must be certain, else in part.
fn meets(need: &Need<'_>, key: &[u8], range_end: &[u8], in_full: bool) -> bool {
    let contains = |at: &[u8]| match range_end {
        [] => at == key,
        [0] => at >= key,
        end => at >= key && at < end,
    };
    if need.range_end.is_empty() {
        return contains(need.key);
    }
    if !in_full {
        // Several permissions together may cover what none does alone.
        let reaches = match need.range_end {
            [0] => true,
            end => key < end,
        };
        return contains(need.key) || (reaches && key >= need.key);
    }
    let ends_inside = match (need.range_end, range_end) {
        (_, [0]) => true,
        ([0], _) | (_, []) => false,
        (end, last) => end <= last,
    };
    need.key >= key && ends_inside
}
