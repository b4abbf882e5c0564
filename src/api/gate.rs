//! Who asks, by the token in a request's metadata, and what only some may ask.
//!
//! What goes through the log is judged when it is applied, and reads are judged where they are read;
//! here is only who it is, and what neither of them sees.

use tonic::Status;
use tonic::metadata::MetadataMap;

use super::{Api, status};
use crate::error::Refusal;
use crate::raft::May;
use crate::state::Caller;

/// Where clients put their token, in the order in which they are looked at.
const TOKEN_KEYS: [&str; 2] = ["token", "authorization"];

/// The token that a request comes with.
pub(super) fn token(metadata: &MetadataMap) -> Option<String> {
    let found = TOKEN_KEYS.into_iter().find_map(|key| metadata.get(key))?;
    let text = found.to_str().unwrap_or_default();
    Some(text.strip_prefix("Bearer ").unwrap_or(text).to_owned())
}

impl Api {
    /// Whom a token stands for; nobody without one, or while authentication is off.
    pub(super) async fn bearer(&self, token: Option<&str>) -> Result<Caller, Refusal> {
        match (&self.jwt, token) {
            (None, _) => self.handle.caller(token).await,
            (Some(jwt), Some(token)) if self.handle.auth_enabled() => jwt.caller(token),
            (Some(_), _) => Ok(Caller::default()),
        }
    }

    /// Who asks; may be nobody.
    pub(super) async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        self.bearer(token(metadata).as_deref()).await.map_err(status)
    }

    /// Who asks, where nobody may not.
    pub(super) async fn known_caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let caller = self.caller(metadata).await?;
        if self.handle.auth_enabled() && caller.is_nobody() {
            return Err(status(Refusal::UserEmpty));
        }
        Ok(caller)
    }

    /// Lets root alone pass.
    pub(super) async fn admin(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let caller = self.caller(metadata).await?;
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
