//! Requests about users, roles and permissions: sent, and their answers in a history's words.
//!
//! A user's password is the user's name.

use snowglobe::proto::authpb::{Permission, permission};
use snowglobe::proto::etcdserverpb as pb;
use snowglobe::proto::etcdserverpb::auth_client::AuthClient;
use tonic::Status;

use super::{Way, answer, no_way};
use crate::history::{Body, PermissionKind, Request, Response};

/// Sends a request about users, roles and permissions. Errors: what the server says; a request of another kind.
pub async fn send(way: Way, request: &Request) -> Result<Response, Status> {
    let mut client = AuthClient::new(way);
    let header = match request.clone() {
        Request::AuthEnable {} => {
            client.auth_enable(pb::AuthEnableRequest {}).await?.into_inner().header
        }
        Request::AuthDisable {} => {
            client.auth_disable(pb::AuthDisableRequest {}).await?.into_inner().header
        }
        Request::UserAdd { name } => {
            let password = name.clone();
            let request = pb::AuthUserAddRequest { name, password, ..Default::default() };
            client.user_add(request).await?.into_inner().header
        }
        Request::UserDelete { name } => {
            client.user_delete(pb::AuthUserDeleteRequest { name }).await?.into_inner().header
        }
        Request::UserGrantRole { name, role } => {
            let request = pb::AuthUserGrantRoleRequest { user: name, role };
            client.user_grant_role(request).await?.into_inner().header
        }
        Request::UserRevokeRole { name, role } => {
            let request = pb::AuthUserRevokeRoleRequest { name, role };
            client.user_revoke_role(request).await?.into_inner().header
        }
        Request::RoleAdd { name } => {
            client.role_add(pb::AuthRoleAddRequest { name }).await?.into_inner().header
        }
        Request::RoleDelete { name } => {
            let request = pb::AuthRoleDeleteRequest { role: name };
            client.role_delete(request).await?.into_inner().header
        }
        Request::RoleGrantPermission { role, kind, key, range_end } => {
            let kind = match kind {
                PermissionKind::Read => permission::Type::Read,
                PermissionKind::Write => permission::Type::Write,
                PermissionKind::ReadWrite => permission::Type::Readwrite,
            };
            let (key, range_end) = (key.0.into(), range_end.0.into());
            let perm = Some(Permission { perm_type: kind.into(), key, range_end });
            let request = pb::AuthRoleGrantPermissionRequest { name: role, perm };
            client.role_grant_permission(request).await?.into_inner().header
        }
        Request::RoleRevokePermission { role, key, range_end } => {
            let (key, range_end) = (key.0.into(), range_end.0.into());
            let request = pb::AuthRoleRevokePermissionRequest { role, key, range_end };
            client.role_revoke_permission(request).await?.into_inner().header
        }
        other => return Err(no_way(&other)),
    };
    Ok(answer(header, Body::Auth {}))
}
