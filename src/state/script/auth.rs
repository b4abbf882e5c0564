//! The notation of requests about users, roles and permissions in scripts, and what they print.
//!
//! ```text
//! auth on | off | status | users | roles
//! auth user NAME [none]         add; `none` for one without a password
//! auth role NAME                add
//! auth drop user|role NAME
//! auth passwd NAME
//! auth give|take USER ROLE
//! auth allow ROLE read|write|readwrite KEY [END] | auth forbid ROLE KEY [END]
//! auth show user|role NAME
//! auth token NAME [WORD]        for a password that was right at the auth revision in the header
//! as USER REVISION REQUEST      any request, by a user whom a member knew at that auth revision
//! ```

use bytes::Bytes;

use super::super::{AuthAnswer, AuthChange, Caller};
use crate::proto::authpb::permission::Type;
use crate::proto::authpb::{Permission, UserAddOptions};
use crate::proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGetRequest, AuthRoleGrantPermissionRequest, AuthRoleListRequest,
    AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
    InternalAuthenticateRequest, InternalRaftRequest, RequestHeader,
};

/// Puts whoever asks into a request's header.
pub(super) fn by(
    mut request: InternalRaftRequest,
    user: &str,
    revision: u64,
) -> InternalRaftRequest {
    let Caller { user: username, auth_revision } =
        Caller { user: user.trim_matches('"').to_owned(), auth_revision: revision };
    request.header = Some(RequestHeader { username, auth_revision, ..RequestHeader::default() });
    request
}

pub(super) fn request(words: &[&str]) -> InternalRaftRequest {
    let mut request = InternalRaftRequest::default();
    let name = words.get(1).copied().unwrap_or_default().trim_matches('"').to_owned();
    let second = words.get(2).copied().unwrap_or_default().to_owned();
    match words[0] {
        "on" => request.auth_enable = Some(AuthEnableRequest {}),
        "off" => request.auth_disable = Some(AuthDisableRequest {}),
        "status" => request.auth_status = Some(AuthStatusRequest {}),
        "users" => request.auth_user_list = Some(AuthUserListRequest {}),
        "roles" => request.auth_role_list = Some(AuthRoleListRequest {}),
        "user" => {
            let no_password = second == "none";
            let options = Some(UserAddOptions { no_password });
            // Base64 of "hash".
            let hashed_password = "aGFzaA==".to_owned();
            let password = String::new();
            request.auth_user_add =
                Some(AuthUserAddRequest { name, password, options, hashed_password });
        }
        "role" => request.auth_role_add = Some(AuthRoleAddRequest { name }),
        "drop" if name == "user" => {
            request.auth_user_delete = Some(AuthUserDeleteRequest { name: second });
        }
        "drop" => request.auth_role_delete = Some(AuthRoleDeleteRequest { role: second }),
        "passwd" => {
            // Base64 of "other".
            let hashed_password = "b3RoZXI=".to_owned();
            let password = String::new();
            request.auth_user_change_password =
                Some(AuthUserChangePasswordRequest { name, password, hashed_password });
        }
        "give" => {
            request.auth_user_grant_role =
                Some(AuthUserGrantRoleRequest { user: name, role: second })
        }
        "take" => {
            request.auth_user_revoke_role = Some(AuthUserRevokeRoleRequest { name, role: second });
        }
        "allow" => {
            let kind = Type::from_str_name(&second.to_uppercase()).expect("a kind of permission");
            let (key, range_end) = keys(&words[3..]);
            let perm = Some(Permission { perm_type: kind.into(), key, range_end });
            request.auth_role_grant_permission =
                Some(AuthRoleGrantPermissionRequest { name, perm });
        }
        "forbid" => {
            let (key, range_end) = keys(&words[2..]);
            request.auth_role_revoke_permission =
                Some(AuthRoleRevokePermissionRequest { role: name, key, range_end });
        }
        "show" if name == "user" => {
            request.auth_user_get = Some(AuthUserGetRequest { name: second });
        }
        "show" => request.auth_role_get = Some(AuthRoleGetRequest { role: second }),
        "token" => {
            let authenticate = InternalAuthenticateRequest { name, simple_token: second };
            request.authenticate = Some(authenticate);
        }
        word => panic!("no such request about users: {word}"),
    }
    request
}

fn keys(words: &[&str]) -> (Bytes, Bytes) {
    let keys =
        |place: usize| words.get(place).map_or_else(Bytes::new, |word| super::parse::bytes(word));
    (keys(0), keys(1))
}

pub(super) fn answer(answer: AuthAnswer) -> String {
    match answer {
        AuthAnswer::Done => "done".to_owned(),
        AuthAnswer::Status { enabled, auth_revision } => {
            format!("{} auth_revision={auth_revision}", if enabled { "on" } else { "off" })
        }
        AuthAnswer::Token(token) => format!("token {token}").trim_end().to_owned(),
        AuthAnswer::Names(names) => names.join(" "),
        AuthAnswer::Permissions(all) => {
            let line = |permission: &Permission| {
                let kind = permission.perm_type().as_str_name().to_lowercase();
                let Permission { key, range_end, .. } = permission;
                let line = format!("{kind} {} {}", key.escape_ascii(), range_end.escape_ascii());
                line.trim_end().to_owned()
            };
            all.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

/// What the last request means for tokens.
pub(super) fn changes(changes: Vec<AuthChange>) -> String {
    let line = |change: AuthChange| match change {
        AuthChange::Token { user, token } => format!("{token} stands for {user}"),
        AuthChange::Forget { user } => format!("nothing stands for {user}"),
        AuthChange::ForgetAll => "nothing stands for anybody".to_owned(),
    };
    changes.into_iter().map(line).collect::<Vec<_>>().join("\n")
}
