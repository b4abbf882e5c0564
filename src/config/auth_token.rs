//! `--auth-token`: what clients show instead of their password, in etcd's words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use jsonwebtoken::Algorithm;

use super::args::milliseconds;

/// What clients show instead of their password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthToken {
    /// A word that all members remember for a while.
    #[default]
    Simple,
    /// A JSON web token: its signature says all, and nothing is remembered.
    Jwt(JwtOptions),
}

/// How JSON web tokens are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// By what arithmetic.
    pub sign_method: Algorithm,
    /// The file of the key that tokens are checked with, where it does not follow from the other.
    pub pub_key: Option<PathBuf>,
    /// The file of the key that tokens are signed with; a member without it only checks them.
    pub priv_key: Option<PathBuf>,
    /// How long a token stands for its user.
    pub ttl_ms: u64,
    /// Options that nobody knows; etcd goes on without them, and so do others' scripts.
    pub unknown: Vec<String>,
}

/// etcd's words for everything that is wrong with the options themselves.
const INVALID: &str = "auth: invalid auth options";

/// etcd's time to live of a token.
const TTL_DEFAULT_MS: u64 = 5 * 60 * 1000;

impl FromStr for AuthToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, options) = text.split_once(',').map_or((text, None), |(k, o)| (k, Some(o)));
        let mut known = BTreeMap::new();
        for option in options.into_iter().flat_map(|options| options.split(',')) {
            let Some((name, value)) =
                option.split_once('=').filter(|(_, value)| !value.contains('='))
            else {
                return Err(format!("{INVALID}: `{option}` is not NAME=VALUE"));
            };
            if known.insert(name, value).is_some() {
                return Err(format!("{INVALID}: `{name}` is given twice"));
            }
        }
        match kind {
            "simple" => Ok(Self::Simple),
            "jwt" => jwt(known).map(Self::Jwt),
            _ => Err(format!("{INVALID}: `{kind}` is neither simple nor jwt")),
        }
    }
}

fn jwt(mut options: BTreeMap<&str, &str>) -> Result<JwtOptions, String> {
    let mut take = |name: &str| options.remove(name).filter(|value| !value.is_empty());
    let method = take("sign-method").unwrap_or_default();
    let sign_method = method.parse().map_err(|_| {
        let known =
            "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512";
        format!("{INVALID}: sign-method `{method}` is not one of {known}")
    })?;
    let ttl_ms = match take("ttl") {
        Some(ttl) => time(ttl).map_err(|why| format!("{INVALID}: ttl `{ttl}`: {why}"))?,
        None => TTL_DEFAULT_MS,
    };
    let (pub_key, priv_key) = (take("pub-key"), take("priv-key"));
    let (pub_key, priv_key) = (pub_key.map(PathBuf::from), priv_key.map(PathBuf::from));
    let unknown = options.into_keys().map(str::to_owned).collect();
    Ok(JwtOptions { sign_method, pub_key, priv_key, ttl_ms, unknown })
}

/// A time as Go reads it, such as `1h30m`: each number with its unit.
fn time(text: &str) -> Result<u64, String> {
    let is_end = |(digit, unit): (char, char)| digit.is_ascii_alphabetic() && unit.is_ascii_digit();
    let mut sum_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let next = rest.chars().zip(rest.chars().skip(1)).position(is_end);
        let (part, others) = rest.split_at(next.map_or(rest.len(), |place| place + 1));
        if !part.ends_with(|c: char| c.is_ascii_alphabetic()) {
            return Err("missing unit in duration".to_owned());
        }
        sum_ms = sum_ms.checked_add(milliseconds(part)?).ok_or("too long")?;
        rest = others;
    }
    Ok(sum_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match text.parse() {
            Ok(AuthToken::Simple) => "simple".to_owned(),
            Ok(AuthToken::Jwt(options)) => {
                let JwtOptions { sign_method, pub_key, priv_key, ttl_ms, unknown } = options;
                let file = |path: Option<PathBuf>| {
                    path.map_or("-".to_owned(), |path| path.display().to_string())
                };
                let (public, private) = (file(pub_key), file(priv_key));
                format!("{sign_method:?} {public} {private} {ttl_ms}ms {}", unknown.join(","))
            }
            Err(error) => error,
        }
    }

    /// Options are read as etcd reads them; what it refuses is refused in its words, with a reason.
    #[test]
    fn options() {
        let check = |text: &str, expected: &str| assert_eq!(read(text), expected, "{text}");
        check("simple", "simple");
        check("simple,a=b", "simple");
        check("jwt,sign-method=RS256,pub-key=a,priv-key=b,ttl=10m", "RS256 a b 600000ms ");
        check("jwt,sign-method=HS512,priv-key=b", "HS512 - b 300000ms ");
        check("jwt,sign-method=EdDSA,pub-key=,x=y", "EdDSA - - 300000ms x");
        check("jwt,sign-method=ES384,ttl=1h30m10s5ms", "ES384 - - 5410005ms ");
        check("jwt,sign-method=ES384,ttl=0s", "ES384 - - 0ms ");
        check("", "auth: invalid auth options: `` is neither simple nor jwt");
        check("word", "auth: invalid auth options: `word` is neither simple nor jwt");
        check("jwt,sign-method", "auth: invalid auth options: `sign-method` is not NAME=VALUE");
        check("jwt,a=b=c", "auth: invalid auth options: `a=b=c` is not NAME=VALUE");
        check("jwt,", "auth: invalid auth options: `` is not NAME=VALUE");
        check("jwt,a=b,a=b", "auth: invalid auth options: `a` is given twice");
        let methods =
            "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512";
        for method in ["", "none", "ES512", "rs256"] {
            check(
                &format!("jwt,sign-method={method}"),
                &format!(
                    "auth: invalid auth options: sign-method `{method}` is not one of {methods}"
                ),
            );
        }
        let ttl = |ttl: &str, why: &str| {
            check(
                &format!("jwt,sign-method=RS256,ttl={ttl}"),
                &format!("auth: invalid auth options: ttl `{ttl}`: {why}"),
            );
        };
        ttl("5", "missing unit in duration");
        ttl("5m5", "missing unit in duration");
        ttl("m", "write a time such as 10ms or 1s");
        ttl("-5m", "write a time such as 10ms or 1s");
        ttl("5x", "unit `x` is not one of ms, s, m, h");
        ttl("99999999999999999h", "too long");
    }
}
