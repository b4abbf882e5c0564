//! Users and roles as records on disk, their way back, and their part of the state's fingerprint.

use bytes::Bytes;
use prost::Message;

use super::{Auth, Role, User};
use crate::error::Result;
use crate::proto::authpb;
use crate::proto::authpb::permission::Type;
use crate::state::{State, meta};

/// A role's permissions as they are answered and kept, by key.
pub(super) fn permissions(role: &Role) -> Vec<authpb::Permission> {
    let permission = |((key, range_end), kind): (&(Bytes, Bytes), &Type)| authpb::Permission {
        perm_type: (*kind).into(),
        key: key.clone(),
        range_end: range_end.clone(),
    };
    role.iter().map(permission).collect()
}

pub(super) fn encode_user(name: &str, user: &User) -> Vec<u8> {
    let record = authpb::User {
        name: name.to_owned().into(),
        password: user.password.clone(),
        roles: user.roles.iter().cloned().collect(),
        options: Some(authpb::UserAddOptions { no_password: user.no_password }),
    };
    record.encode_to_vec()
}

pub(super) fn encode_role(name: &str, role: &Role) -> Vec<u8> {
    authpb::Role { name: name.to_owned().into(), key_permission: permissions(role) }.encode_to_vec()
}

fn decode_user(encoded: &[u8]) -> std::result::Result<User, prost::DecodeError> {
    let record = authpb::User::decode(encoded)?;
    Ok(User {
        password: record.password,
        no_password: record.options.is_some_and(|options| options.no_password),
        roles: record.roles.into_iter().collect(),
    })
}

fn decode_role(encoded: &[u8]) -> std::result::Result<Role, prost::DecodeError> {
    let record = authpb::Role::decode(encoded)?;
    let permission = |permission: authpb::Permission| {
        let kind = permission.perm_type();
        ((permission.key, permission.range_end), kind)
    };
    Ok(record.key_permission.into_iter().map(permission).collect())
}

impl State {
    /// Reads users, roles and permissions back.
    pub(in crate::state) fn restore_auth(&mut self) -> Result<()> {
        let storage = self.storage.clone();
        if let Some((enabled, revision)) = meta::read_auth(&storage)? {
            (self.auth.enabled, self.auth.revision) = (enabled, revision);
        }
        meta::read_users(&storage, |name, encoded| {
            let broken = |cause| self.corrupt(format!("the record of user {name:?}: {cause}"));
            let user = decode_user(encoded).map_err(broken)?;
            self.auth.users.insert(name.to_owned(), user);
            Ok(())
        })?;
        meta::read_roles(&storage, |name, encoded| {
            let broken = |cause| self.corrupt(format!("the record of role {name:?}: {cause}"));
            let role = decode_role(encoded).map_err(broken)?;
            self.auth.roles.insert(name.to_owned(), role);
            Ok(())
        })?;
        self.auth.merge();
        Ok(())
    }
}

impl Auth {
    /// Everything that members share, in a fixed order.
    pub(in crate::state) fn fingerprint(&self, mut take: impl FnMut(&[u8])) {
        take(&[u8::from(self.enabled)]);
        take(&self.revision.to_le_bytes());
        for (name, user) in &self.users {
            take(&encode_user(name, user));
        }
        for (name, role) in &self.roles {
            take(&encode_role(name, role));
        }
    }
}
