//! Users, roles and permissions: what is kept, and how entries of the log change it.
//!
//! Who asks stands in the header of an entry, with the auth revision at which the member that
//! proposed it knew who that is. Everything else is decided here, when the entry is applied
//! (`check`); what a member has checked before only spares the log what would be refused anyway.
//! Reads are checked against the state that they read, in the same step.
//!
//! Invariants:
//! * A verdict is a function of the log. A request from before the newest change of users, roles or
//!   permissions is refused, whatever it asks.
//! * The auth revision grows by one with every change, and with nothing else. It begins at 1.
//! * While authentication is on there is a user root with the role root.
//! * Merged permissions (`permissions`) fit users and roles: they are made anew with every change
//!   and at every opening.
//! * Passwords never come here: a member hashes them before it proposes, because hashing draws dice,
//!   and compares them before it asks for a token.
//!
//! Not here: tokens ([`crate::raft`] keeps them; a restart forgets them).

mod check;
mod keep;
mod permissions;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{State, Verdict, meta};
use crate::error::Refusal;
use crate::proto::authpb::Permission;
use crate::proto::authpb::permission::Type;
use crate::proto::etcdserverpb::{
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, InternalAuthenticateRequest, InternalRaftRequest,
};
use permissions::Merged;

pub use check::Caller;

/// The user, and the role, that may do everything.
const ROOT: &str = "root";

/// The auth revision of a state in which nothing was ever changed.
const FIRST_AUTH_REVISION: u64 = 1;

/// What an entry answers about users, roles and permissions.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthAnswer {
    /// It is done.
    Done,
    /// Whether authentication is on, and the auth revision.
    Status {
        /// Whether it is on.
        enabled: bool,
        /// The auth revision.
        auth_revision: u64,
    },
    /// The token that stands for the user from now on; empty where the member signs its own.
    Token(String),
    /// Names of users or roles.
    Names(Vec<String>),
    /// A role's permissions.
    Permissions(Vec<Permission>),
}

/// What an entry means for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthChange {
    /// A token stands for a user from now on.
    Token {
        /// The user.
        user: String,
        /// The token.
        token: String,
    },
    /// No token stands for this user any more.
    Forget {
        /// The user.
        user: String,
    },
    /// No token stands for anybody any more.
    ForgetAll,
}

/// One user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    /// The hash of the password.
    password: Bytes,
    no_password: bool,
    roles: BTreeSet<String>,
}

/// A role's permissions: first key and end of a range → what is allowed.
type Role = BTreeMap<(Bytes, Bytes), Type>;

/// All users, roles and permissions.
#[derive(Debug)]
pub(super) struct Auth {
    enabled: bool,
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    merged: BTreeMap<String, Merged>,
    /// What the newest slice means for tokens, in order, until somebody takes it.
    changes: Vec<AuthChange>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: FIRST_AUTH_REVISION,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            merged: BTreeMap::new(),
            changes: Vec::new(),
        }
    }
}

impl Auth {
    /// Before a slice: what nobody took is forgotten.
    pub(super) fn forget_changes(&mut self) {
        self.changes.clear();
    }

    fn user(&self, name: &str) -> Verdict<&User> {
        self.users.get(name).ok_or(Refusal::UserNotFound)
    }

    fn role(&self, name: &str) -> Verdict<&Role> {
        self.roles.get(name).ok_or(Refusal::RoleNotFound)
    }
}

impl State {
    /// Whether authentication is on, and the auth revision.
    #[must_use]
    pub fn auth_status(&self) -> (bool, u64) {
        (self.auth.enabled, self.auth.revision)
    }

    /// What the newest slice means for tokens, in order; nobody gets it twice.
    pub fn take_auth_changes(&mut self) -> Vec<AuthChange> {
        std::mem::take(&mut self.auth.changes)
    }

    /// The hash of a user's password, and the auth revision at which that holds.
    ///
    /// # Errors
    /// [`Refusal::AuthNotEnabled`], [`Refusal::AuthFailed`] for a user who is not there,
    /// [`Refusal::NoPasswordUser`].
    pub fn password(&self, name: &str) -> Verdict<(Bytes, u64)> {
        if !self.auth.enabled {
            return Err(Refusal::AuthNotEnabled);
        }
        let user = self.auth.users.get(name).ok_or(Refusal::AuthFailed)?;
        if user.no_password {
            return Err(Refusal::NoPasswordUser);
        }
        Ok((user.password.clone(), self.auth.revision))
    }

    /// Carries out a request about users, roles or permissions; `None` for any other request.
    pub(super) fn apply_auth(
        &mut self,
        request: &InternalRaftRequest,
    ) -> Option<Verdict<AuthAnswer>> {
        Some(if request.auth_enable.is_some() {
            self.auth_enable()
        } else if request.auth_disable.is_some() {
            self.auth_disable()
        } else if request.auth_status.is_some() {
            let (enabled, auth_revision) = self.auth_status();
            Ok(AuthAnswer::Status { enabled, auth_revision })
        } else if let Some(authenticate) = &request.authenticate {
            let checked_at = request.header.as_ref().map_or(0, |header| header.auth_revision);
            self.authenticate(authenticate, checked_at)
        } else if let Some(add) = &request.auth_user_add {
            self.user_add(add)
        } else if let Some(delete) = &request.auth_user_delete {
            self.user_delete(&delete.name)
        } else if let Some(get) = &request.auth_user_get {
            let roles = self.auth.user(&get.name).map(|user| user.roles.iter().cloned().collect());
            roles.map(AuthAnswer::Names)
        } else if let Some(change) = &request.auth_user_change_password {
            self.user_change_password(change)
        } else if let Some(grant) = &request.auth_user_grant_role {
            self.user_grant_role(&grant.user, &grant.role)
        } else if let Some(revoke) = &request.auth_user_revoke_role {
            self.user_revoke_role(&revoke.name, &revoke.role)
        } else if request.auth_user_list.is_some() {
            Ok(AuthAnswer::Names(self.auth.users.keys().cloned().collect()))
        } else if request.auth_role_list.is_some() {
            Ok(AuthAnswer::Names(self.auth.roles.keys().cloned().collect()))
        } else if let Some(add) = &request.auth_role_add {
            self.role_add(&add.name)
        } else if let Some(delete) = &request.auth_role_delete {
            self.role_delete(&delete.role)
        } else if let Some(get) = &request.auth_role_get {
            self.role_get(&get.role)
        } else if let Some(grant) = &request.auth_role_grant_permission {
            self.role_grant_permission(grant)
        } else if let Some(revoke) = &request.auth_role_revoke_permission {
            self.role_revoke_permission(revoke)
        } else {
            return None;
        })
    }

    /// Turning it on is no change of its own, as in etcd: nothing that was allowed by name is not.
    fn auth_enable(&mut self) -> Verdict<AuthAnswer> {
        if !self.auth.enabled {
            let root = self.auth.users.get(ROOT).ok_or(Refusal::RootUserNotExist)?;
            if !root.roles.contains(ROOT) {
                return Err(Refusal::RootRoleNotExist);
            }
            self.auth.enabled = true;
            self.put_auth_status();
        }
        Ok(AuthAnswer::Done)
    }

    fn auth_disable(&mut self) -> Verdict<AuthAnswer> {
        if self.auth.enabled {
            self.auth.enabled = false;
            self.auth.changes.push(AuthChange::ForgetAll);
            self.auth_changed();
        }
        Ok(AuthAnswer::Done)
    }

    /// A token for a user whose password was right at the auth revision `checked_at`.
    fn authenticate(
        &mut self,
        request: &InternalAuthenticateRequest,
        checked_at: u64,
    ) -> Verdict<AuthAnswer> {
        self.password(&request.name)?;
        if checked_at != self.auth.revision {
            return Err(Refusal::AuthOldRevision);
        }
        // A member that signs its tokens has no word for the others to remember.
        if request.simple_token.is_empty() {
            return Ok(AuthAnswer::Token(String::new()));
        }
        // The entry's index makes it unlike any other token; whoever shows it tells with it how far
        // a member must be to know it.
        let token = format!("{}.{}", request.simple_token, self.applied.index + 1);
        let change = AuthChange::Token { user: request.name.clone(), token: token.clone() };
        self.auth.changes.push(change);
        Ok(AuthAnswer::Token(token))
    }

    fn user_add(&mut self, request: &AuthUserAddRequest) -> Verdict<AuthAnswer> {
        if request.name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.auth.users.contains_key(&request.name) {
            return Err(Refusal::UserExists);
        }
        let no_password = request.options.as_ref().is_some_and(|options| options.no_password);
        let password =
            if no_password { Bytes::new() } else { decode_hash(&request.hashed_password)? };
        let user = User { password, no_password, roles: BTreeSet::new() };
        self.set_user(&request.name, user);
        self.auth_changed();
        Ok(AuthAnswer::Done)
    }

    fn user_delete(&mut self, name: &str) -> Verdict<AuthAnswer> {
        if self.auth.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.auth.users.remove(name).ok_or(Refusal::UserNotFound)?;
        meta::delete_user(&mut self.pending.batch, name);
        self.auth.changes.push(AuthChange::Forget { user: name.to_owned() });
        self.auth_changed();
        Ok(AuthAnswer::Done)
    }

    fn user_change_password(
        &mut self,
        request: &AuthUserChangePasswordRequest,
    ) -> Verdict<AuthAnswer> {
        let user = self.auth.user(&request.name)?.clone();
        let password =
            if user.no_password { Bytes::new() } else { decode_hash(&request.hashed_password)? };
        self.set_user(&request.name, User { password, ..user });
        self.auth.changes.push(AuthChange::Forget { user: request.name.clone() });
        self.auth_changed();
        Ok(AuthAnswer::Done)
    }

    fn user_grant_role(&mut self, name: &str, role: &str) -> Verdict<AuthAnswer> {
        let mut user = self.auth.user(name)?.clone();
        // The role root needs no record.
        if role != ROOT {
            self.auth.role(role)?;
        }
        if user.roles.insert(role.to_owned()) {
            self.set_user(name, user);
            self.auth_changed();
        }
        Ok(AuthAnswer::Done)
    }

    fn user_revoke_role(&mut self, name: &str, role: &str) -> Verdict<AuthAnswer> {
        if self.auth.enabled && name == ROOT && role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        let mut user = self.auth.user(name)?.clone();
        if !user.roles.remove(role) {
            return Err(Refusal::RoleNotGranted);
        }
        self.set_user(name, user);
        self.auth_changed();
        Ok(AuthAnswer::Done)
    }

    fn role_add(&mut self, name: &str) -> Verdict<AuthAnswer> {
        if name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.auth.roles.contains_key(name) {
            return Err(Refusal::RoleExists);
        }
        self.set_role(name, Role::new());
        self.auth_changed();
        Ok(AuthAnswer::Done)
    }

    fn role_delete(&mut self, name: &str) -> Verdict<AuthAnswer> {
        if self.auth.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.auth.roles.remove(name).ok_or(Refusal::RoleNotFound)?;
        meta::delete_role(&mut self.pending.batch, name);
        let of_role = |(_, user): &(&String, &User)| user.roles.contains(name);
        let users = self.auth.users.iter().filter(of_role);
        let users: Vec<_> = users.map(|(name, user)| (name.clone(), user.clone())).collect();
        for (user_name, mut user) in users {
            user.roles.remove(name);
            self.set_user(&user_name, user);
        }
        self.auth_changed();
        Ok(AuthAnswer::Done)
    }

    fn role_get(&self, name: &str) -> Verdict<AuthAnswer> {
        let role = self.auth.role(name)?;
        if name == ROOT {
            let (key, range_end) = (Bytes::new(), Bytes::from_static(&[0]));
            let all = Permission { perm_type: Type::Readwrite.into(), key, range_end };
            return Ok(AuthAnswer::Permissions(vec![all]));
        }
        Ok(AuthAnswer::Permissions(keep::permissions(role)))
    }

    fn role_grant_permission(
        &mut self,
        request: &AuthRoleGrantPermissionRequest,
    ) -> Verdict<AuthAnswer> {
        let permission = request.perm.as_ref().ok_or(Refusal::PermissionNotGiven)?;
        let kind = Type::try_from(permission.perm_type);
        let kind = kind.map_err(|_| Refusal::InvalidAuthManagement)?;
        let (key, range_end) = (&permission.key, &permission.range_end);
        let holds_keys = range_end.is_empty() || range_end[..] == [0] || key < range_end;
        if key.is_empty() || !holds_keys {
            return Err(Refusal::InvalidAuthManagement);
        }
        let mut role = self.auth.role(&request.name)?.clone();
        // Copies: slices of the request would keep all of it in memory.
        let keys = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(range_end));
        role.insert(keys, kind);
        self.set_role(&request.name, role);
        self.auth_changed();
        Ok(AuthAnswer::Done)
    }

    fn role_revoke_permission(
        &mut self,
        request: &AuthRoleRevokePermissionRequest,
    ) -> Verdict<AuthAnswer> {
        let mut role = self.auth.role(&request.role)?.clone();
        let keys = (request.key.clone(), request.range_end.clone());
        role.remove(&keys).ok_or(Refusal::PermissionNotGranted)?;
        self.set_role(&request.role, role);
        self.auth_changed();
        Ok(AuthAnswer::Done)
    }

    fn set_user(&mut self, name: &str, user: User) {
        meta::put_user(&mut self.pending.batch, name, &keep::encode_user(name, &user));
        self.auth.users.insert(name.to_owned(), user);
    }

    fn set_role(&mut self, name: &str, role: Role) {
        meta::put_role(&mut self.pending.batch, name, &keep::encode_role(name, &role));
        self.auth.roles.insert(name.to_owned(), role);
    }

    /// After every change: a new auth revision, and permissions merged anew.
    fn auth_changed(&mut self) {
        self.auth.revision += 1;
        self.put_auth_status();
        self.auth.merge();
    }

    fn put_auth_status(&mut self) {
        meta::put_auth(&mut self.pending.batch, self.auth.enabled, self.auth.revision);
    }
}

fn decode_hash(text: &str) -> Verdict<Bytes> {
    STANDARD.decode(text).map(Bytes::from).map_err(|_| Refusal::NoPasswordUser)
}
