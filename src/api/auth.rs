//! The Auth service: users, roles, permissions, and tokens for passwords.
//!
//! Invariants:
//! * A password leaves this file only as its hash. It is neither logged nor proposed.
//! * A token is given only for a password that was right at the auth revision at which the token's
//!   entry is applied.
//! * Few passwords are hashed or compared at once: each keeps a processor busy for long.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tonic::{Request, Response, Status};

use super::gate::Credentials;
use super::{Api, status};
use crate::error::Refusal;
use crate::proto::etcdserverpb::auth_server::Auth;
use crate::proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
    AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
    AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse, AuthStatusRequest,
    AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
    AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse,
    InternalAuthenticateRequest, InternalRaftRequest, ResponseHeader,
};
use crate::state::{self, AuthAnswer, Caller};

/// Letters of a token's random part, as etcd's.
const TOKEN_LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Length of a token's random part, as etcd's.
const TOKEN_LENGTH: usize = 16;

/// The longest password that bcrypt looks at to its end.
const PASSWORD_BYTES_MAX: usize = 72;

/// One call that goes through the log and is answered with a header alone.
macro_rules! done {
    ($api:expr, $request:expr, $field:ident, $response:ident) => {{
        let (credentials, message) = (Credentials::of(&$request), $request.into_inner());
        let request = InternalRaftRequest { $field: Some(message), ..Default::default() };
        let (header, _) = $api.administer(&credentials, request).await?;
        Ok(Response::new($response { header }))
    }};
}

#[tonic::async_trait]
impl Auth for Api {
    async fn auth_enable(
        &self,
        request: Request<AuthEnableRequest>,
    ) -> Result<Response<AuthEnableResponse>, Status> {
        done!(self, request, auth_enable, AuthEnableResponse)
    }

    async fn auth_disable(
        &self,
        request: Request<AuthDisableRequest>,
    ) -> Result<Response<AuthDisableResponse>, Status> {
        done!(self, request, auth_disable, AuthDisableResponse)
    }

    async fn auth_status(
        &self,
        request: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        let (credentials, message) = (Credentials::of(&request), request.into_inner());
        let request = InternalRaftRequest { auth_status: Some(message), ..Default::default() };
        match self.administer(&credentials, request).await? {
            (header, AuthAnswer::Status { enabled, auth_revision }) => {
                Ok(Response::new(AuthStatusResponse { header, enabled, auth_revision }))
            }
            _ => Err(super::wrong_kind()),
        }
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        let AuthenticateRequest { name, password } = request.into_inner();
        // Not by users and passwords of long ago.
        self.handle.linearizable_barrier().await.map_err(status)?;
        for _ in 0..self.config.limits.auth_retries_max {
            let (hash, auth_revision) = self.handle.password(&name).await.map_err(status)?;
            if !self.is_password(&password, &hash).await {
                tracing::warn!("a wrong password was given for user {name:?}");
                return Err(status(Refusal::AuthFailed));
            }
            // A token that says all itself is no word to be remembered.
            let simple_token = if self.jwt.is_some() { String::new() } else { self.token() };
            let authenticate = InternalAuthenticateRequest { name: name.clone(), simple_token };
            let request =
                InternalRaftRequest { authenticate: Some(authenticate), ..Default::default() };
            let caller = Caller { user: String::new(), auth_revision };
            match self.handle.propose_as(&caller, request).await {
                Ok(state::Response::Auth { revision, answer: AuthAnswer::Token(token) }) => {
                    let header = self.header(revision);
                    let token = match &self.jwt {
                        Some(jwt) => jwt.sign(&name, auth_revision)?,
                        None => token,
                    };
                    return Ok(Response::new(AuthenticateResponse { header, token }));
                }
                Ok(_) => return Err(super::wrong_kind()),
                // Something has changed since the password was looked at: it may be the password.
                Err(Refusal::AuthOldRevision) => {}
                Err(refusal) => return Err(status(refusal)),
            }
        }
        Err(status(Refusal::AuthOldRevision))
    }

    async fn user_add(
        &self,
        request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        let (credentials, mut message) = (Credentials::of(&request), request.into_inner());
        let password = std::mem::take(&mut message.password);
        message.hashed_password.clear();
        if !message.options.as_ref().is_some_and(|options| options.no_password) {
            message.hashed_password = self.hash(&password).await?;
        }
        let request = InternalRaftRequest { auth_user_add: Some(message), ..Default::default() };
        let (header, _) = self.administer(&credentials, request).await?;
        Ok(Response::new(AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        let (credentials, message) = (Credentials::of(&request), request.into_inner());
        let request = InternalRaftRequest { auth_user_get: Some(message), ..Default::default() };
        let (header, roles) = self.names(&credentials, request).await?;
        Ok(Response::new(AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        let (credentials, message) = (Credentials::of(&request), request.into_inner());
        let request = InternalRaftRequest { auth_user_list: Some(message), ..Default::default() };
        let (header, users) = self.names(&credentials, request).await?;
        Ok(Response::new(AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<AuthUserDeleteRequest>,
    ) -> Result<Response<AuthUserDeleteResponse>, Status> {
        done!(self, request, auth_user_delete, AuthUserDeleteResponse)
    }

    async fn user_change_password(
        &self,
        request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        let (credentials, mut message) = (Credentials::of(&request), request.into_inner());
        let password = std::mem::take(&mut message.password);
        message.hashed_password.clear();
        // As etcd: no password changes nothing to "no password".
        if !password.is_empty() {
            message.hashed_password = self.hash(&password).await?;
        }
        let auth_user_change_password = Some(message);
        let request = InternalRaftRequest { auth_user_change_password, ..Default::default() };
        let (header, _) = self.administer(&credentials, request).await?;
        Ok(Response::new(AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        done!(self, request, auth_user_grant_role, AuthUserGrantRoleResponse)
    }

    async fn user_revoke_role(
        &self,
        request: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        done!(self, request, auth_user_revoke_role, AuthUserRevokeRoleResponse)
    }

    async fn role_add(
        &self,
        request: Request<AuthRoleAddRequest>,
    ) -> Result<Response<AuthRoleAddResponse>, Status> {
        done!(self, request, auth_role_add, AuthRoleAddResponse)
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        let (credentials, message) = (Credentials::of(&request), request.into_inner());
        let request = InternalRaftRequest { auth_role_get: Some(message), ..Default::default() };
        match self.administer(&credentials, request).await? {
            (header, AuthAnswer::Permissions(perm)) => {
                Ok(Response::new(AuthRoleGetResponse { header, perm }))
            }
            _ => Err(super::wrong_kind()),
        }
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        let (credentials, message) = (Credentials::of(&request), request.into_inner());
        let request = InternalRaftRequest { auth_role_list: Some(message), ..Default::default() };
        let (header, roles) = self.names(&credentials, request).await?;
        Ok(Response::new(AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<AuthRoleDeleteRequest>,
    ) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        done!(self, request, auth_role_delete, AuthRoleDeleteResponse)
    }

    async fn role_grant_permission(
        &self,
        request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        done!(self, request, auth_role_grant_permission, AuthRoleGrantPermissionResponse)
    }

    async fn role_revoke_permission(
        &self,
        request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        done!(self, request, auth_role_revoke_permission, AuthRoleRevokePermissionResponse)
    }
}

impl Api {
    /// A request about users, roles and permissions, through the log: the header, and the answer.
    async fn administer(
        &self,
        credentials: &Credentials,
        request: InternalRaftRequest,
    ) -> Result<(Option<ResponseHeader>, AuthAnswer), Status> {
        let caller = self.caller(credentials).await?;
        match self.propose(&caller, request).await? {
            state::Response::Auth { revision, answer } => Ok((self.header(revision), answer)),
            _ => Err(super::wrong_kind()),
        }
    }

    async fn names(
        &self,
        credentials: &Credentials,
        request: InternalRaftRequest,
    ) -> Result<(Option<ResponseHeader>, Vec<String>), Status> {
        match self.administer(credentials, request).await? {
            (header, AuthAnswer::Names(names)) => Ok((header, names)),
            _ => Err(super::wrong_kind()),
        }
    }

    /// The hash of a password, as it is proposed. The salt is drawn here, so that all members keep the
    /// same hash.
    async fn hash(&self, password: &str) -> Result<String, Status> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Status::unknown("bcrypt: password length exceeds 72 bytes"));
        }
        let _place = self.hashes.acquire().await.expect("never closed");
        let mut salt = [0; 16];
        for half in salt.chunks_exact_mut(8) {
            half.copy_from_slice(&self.host.random_u64().to_le_bytes());
        }
        let hashed = bcrypt::hash_with_salt(password, self.config.bcrypt_cost, salt);
        let hashed = hashed.map_err(|error| Status::unknown(format!("bcrypt: {error}")))?;
        // The version that etcd's library writes.
        Ok(STANDARD.encode(hashed.format_for_version(bcrypt::Version::TwoA)))
    }

    async fn is_password(&self, password: &str, hash: &[u8]) -> bool {
        let _place = self.hashes.acquire().await.expect("never closed");
        let hash = std::str::from_utf8(hash).unwrap_or_default();
        password.len() <= PASSWORD_BYTES_MAX && bcrypt::verify(password, hash).unwrap_or(false)
    }

    /// The random part of a token.
    fn token(&self) -> String {
        let letter = |_| {
            let place = self.host.random_u64() % TOKEN_LETTERS.len() as u64;
            char::from(TOKEN_LETTERS[usize::try_from(place).expect("a small number")])
        };
        (0..TOKEN_LENGTH).map(letter).collect()
    }
}
