//! Who asks, by the token in a request's metadata or the certificate of its connection, and what only some may ask.
//!
//! What goes through the log is judged when it is applied, and reads are judged where they are read;
//! here is only who it is, and what neither of them sees.

use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::{Api, status};
use crate::error::Refusal;
use crate::host::tls::CommonName;
use crate::raft::May;
use crate::state::Caller;

/// Where clients put their token, in the order in which they are looked at.
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];

/// What etcd's gateway marks with it comes by the gateway's own certificate, which says nothing of who asks.
const GATEWAY_KEY: &str = "grpcgateway-accept";

/// What a request shows of who asks. Whom it stands for may change: it is looked up each time.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    token: Option<String>,
    name: Option<CommonName>,
}

impl Credentials {
    /// A request's token, and the name in the certificate of its connection.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let metadata = request.metadata();
        let name = request.extensions().get::<CommonName>();
        let name = name.filter(|_| !metadata.contains_key(GATEWAY_KEY)).cloned();
        Self { token: token(metadata), name }
    }
}

fn token(metadata: &MetadataMap) -> Option<String> {
    let found = TOKEN_KEYS.into_iter().find_map(|key| metadata.get(key))?;
    let text = found.to_str().unwrap_or_default();
    Some(text.strip_prefix("Bearer ").unwrap_or(text).to_owned())
}

impl Api {
    /// Whom credentials stand for: the token decides where there is one. Nobody without any, or while authentication
    /// is off.
    pub(super) async fn bearer(&self, credentials: &Credentials) -> Result<Caller, Refusal> {
        match (&credentials.token, &credentials.name, &self.jwt) {
            (None, Some(name), _) => Ok(self.handle.caller_by_name(&name.0)),
            (Some(token), _, Some(jwt)) if self.handle.auth_enabled() => jwt.caller(token),
            (_, _, Some(_)) => Ok(Caller::default()),
            (token, _, None) => self.handle.caller(token.as_deref()).await,
        }
    }

    /// Who asks; may be nobody.
    pub(super) async fn caller(&self, credentials: &Credentials) -> Result<Caller, Status> {
        self.bearer(credentials).await.map_err(status)
    }

    /// Who asks, where nobody may not.
    pub(super) async fn known_caller(&self, credentials: &Credentials) -> Result<Caller, Status> {
        let caller = self.caller(credentials).await?;
        if self.handle.auth_enabled() && caller.is_nobody() {
            return Err(status(Refusal::UserEmpty));
        }
        Ok(caller)
    }

    /// Lets root alone pass.
    pub(super) async fn admin(&self, credentials: &Credentials) -> Result<(), Status> {
        let caller = self.caller(credentials).await?;
        self.handle.may(&caller, May::Administer).await.map_err(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token is found under either name, with or without the word that browsers put before it.
    #[test]
    fn tokens() {
        let check = |key: &'static str, value: &str, expected: Option<&str>| {
            let mut metadata = MetadataMap::new();
            metadata.insert(key, value.parse().unwrap());
            assert_eq!(token(&metadata).as_deref(), expected, "{key}: {value}");
        };
        check("token", "abc.1", Some("abc.1"));
        check("authorization", "abc.1", Some("abc.1"));
        check("authorization", "Bearer abc.1", Some("abc.1"));
        check("other", "abc.1", None);
    }
}
