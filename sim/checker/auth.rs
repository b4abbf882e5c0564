//! Whether answers and denials agree with the permissions that were possible in their time.
//!
//! What a user may do is the result of all grants and revocations before. Which of them come before an operation
//! is known only up to overlaps and unknown outcomes; so an answer is accused if no order and no outcome could have
//! allowed it, and a denial if every one would have.
//!
//! Not judged: reads of a single member, which may not know the newest permissions; leases, watches and everything
//! but keys; denials of txns, and of those that ask for what was there before a put or delete.

use super::Violation;
use super::render;
use crate::history::{Operation, Outcome, PermissionKind, Request};

const DENIED: &str = "permission denied";

/// One access to keys that an operation needs.
struct Need<'a> {
    key: &'a [u8],
    range_end: &'a [u8],
    writes: bool,
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

/// What an operation needs, where every part of it is certain; empty where nothing is asked.
fn needs(request: &Request) -> Vec<Need<'_>> {
    match request {
        Request::Range(range) if !range.serializable => {
            vec![Need { key: &range.key.0, range_end: &range.range_end.0, writes: false }]
        }
        Request::Put(put) => vec![Need { key: &put.key.0, range_end: &[], writes: true }],
        Request::DeleteRange(delete) => {
            vec![Need { key: &delete.key.0, range_end: &delete.range_end.0, writes: true }]
        }
        _ => Vec::new(),
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
        let needs = needs(&operation.request);
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
        let is_root = |grant: &&Operation| matches!(&grant.request, Request::UserGrantRole { role, .. } if role == "root");
        if user == "root" || roles.iter().any(is_root) {
            return None;
        }
        let may = |need: &Need<'_>| {
            roles.iter().any(|grant| match &grant.request {
                Request::UserGrantRole { role, .. } => {
                    self.permission(role, need, operation, false).is_some()
                }
                _ => false,
            })
        };
        let need = needs.iter().find(|need| !may(need))?;
        let what = if need.writes { "write" } else { "read" };
        let text = format!(
            "was done, though {} had been done and no role that the user can have had allows to {what} {}",
            render::who(enabled),
            render::span(need.key, need.range_end)
        );
        Some((text, proof))
    }

    /// Why every possible state allowed what was denied.
    fn allowed(&self, operation: &Operation) -> Option<Proof> {
        let needs = needs(&operation.request);
        let asks_before = match &operation.request {
            Request::Put(put) => put.prev_kv,
            Request::DeleteRange(delete) => delete.prev_kv,
            _ => false,
        };
        if needs.is_empty() || asks_before {
            return None;
        }
        let until = operation.returned.unwrap_or(u64::MAX);
        if self.enabling().all(|enable| enable.call > until) {
            return Some((
                "was denied, though nobody had asked for authentication".to_owned(),
                Vec::new(),
            ));
        }
        let user = operation.user.as_ref()?;
        let roles = self.roles(user, operation, true);
        let [need] = needs.as_slice() else { return None };
        let (grant, permission) = roles.iter().find_map(|grant| match &grant.request {
            Request::UserGrantRole { role, .. } => {
                Some((*grant, self.permission(role, need, operation, true)?))
            }
            _ => None,
        })?;
        let text = format!(
            "was denied, though {} and {} had been done before, and nobody took them back",
            render::who(grant),
            render::who(permission)
        );
        Some((text, vec![grant.op, permission.op]))
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
