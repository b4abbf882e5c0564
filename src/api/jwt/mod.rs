//! JSON web tokens: signed by the member that was shown the password, checked by each with its key, remembered by none.
//!
//! The claims are etcd's: `username`, `revision` (the auth revision at which the password was right) and `exp`. A
//! request is judged by the user and the revision that its token names, as any other is by those that a member
//! knows: once users, roles or permissions have changed, keys need a new token.
//!
//! Invariants:
//! * Time is the host's: the library is told not to look at the clock.
//! * What can be wrong with keys is found at the start.
//!
//! Not here: ES512, certificates in the place of public keys. What signatures draw (PSS, blinding) the library
//! draws itself.

mod keys;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::status;
use crate::config::{AuthToken, Config, JwtOptions};
use crate::error::{Error, Refusal};
use crate::host::{Clock, Disk, OpenMode};
use crate::state::Caller;
use keys::{KeyFile, Keys};

/// See the module.
pub struct Jwt {
    keys: Keys,
    header: Header,
    validation: Validation,
    ttl: Duration,
    clock: Arc<dyn Clock>,
}

/// What a token says.
#[derive(Serialize)]
struct Claims<'a> {
    username: &'a str,
    revision: u64,
    /// Seconds since the Unix epoch.
    exp: u64,
}

/// What a token says that others may have signed: numbers as JSON has them.
#[derive(Deserialize)]
struct Shown {
    username: String,
    revision: f64,
    exp: Option<f64>,
    nbf: Option<f64>,
}

impl Jwt {
    /// Reads the keys, where tokens are to be signed.
    ///
    /// # Errors
    /// [`Error::Config`] for keys that are not there, cannot be read, or do not fit each other or the method.
    pub fn read(
        disk: &dyn Disk,
        clock: Arc<dyn Clock>,
        config: &Config,
    ) -> Result<Option<Arc<Self>>, Error> {
        let AuthToken::Jwt(options) = &config.auth_token else { return Ok(None) };
        let JwtOptions { sign_method, pub_key, priv_key, ttl_ms, unknown } = options;
        if !unknown.is_empty() {
            tracing::warn!("--auth-token: unknown JWT options: {}", unknown.join(", "));
        }
        let refused = |why| Error::Config(format!("--auth-token: {why}"));
        let read = |path: &Option<PathBuf>| {
            path.as_deref().map(|path| file(disk, path)).transpose().map_err(refused)
        };
        let (private, public) = (read(priv_key)?, read(pub_key)?);
        let keys = Keys::new(*sign_method, private.as_ref(), public.as_ref()).map_err(refused)?;
        let mut validation = Validation::new(*sign_method);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        let header = Header::new(*sign_method);
        let ttl = Duration::from_millis(*ttl_ms);
        Ok(Some(Arc::new(Self { keys, header, validation, ttl, clock })))
    }

    /// A token for a user whose password was right at an auth revision.
    pub(super) fn sign(&self, username: &str, revision: u64) -> Result<String, Status> {
        let key = self.keys.sign.as_ref().ok_or(Refusal::VerifyOnly).map_err(status)?;
        let exp = (self.clock.wall() + self.ttl).as_secs();
        jsonwebtoken::encode(&self.header, &Claims { username, revision, exp }, key)
            .map_err(|error| Status::unknown(error.to_string()))
    }

    /// Whom a token stands for, and since which auth revision.
    pub(super) fn caller(&self, token: &str) -> Result<Caller, Refusal> {
        let refused = |why: &dyn std::fmt::Display| {
            tracing::warn!("a JSON web token was refused: {why}");
            Refusal::InvalidAuthToken
        };
        let shown = jsonwebtoken::decode::<Shown>(token, &self.keys.check, &self.validation);
        let Shown { username, revision, exp, nbf } = shown.map_err(|why| refused(&why))?.claims;
        // As in etcd, a token without an end has none, and 0 is none.
        let is_time = |time: &f64| *time != 0.0;
        let now_s = self.clock.wall().as_secs_f64();
        if exp.filter(is_time).is_some_and(|exp| now_s >= exp) {
            return Err(refused(&"it has expired"));
        }
        if nbf.filter(is_time).is_some_and(|nbf| now_s < nbf) {
            return Err(refused(&"its time has not come"));
        }
        Ok(Caller { user: username, auth_revision: revision as u64 })
    }
}

/// A file of a key; an empty one is none, as in etcd.
fn file(disk: &dyn Disk, path: &Path) -> Result<KeyFile, String> {
    let read = || {
        let file = disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().map_err(|cause| {
        format!(
            "auth: invalid auth options: cannot read {}: {cause}; check the path",
            path.display()
        )
    })?;
    Ok(KeyFile { path: path.to_owned(), bytes })
}
