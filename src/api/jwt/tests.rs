//! Tokens by every method, theirs and ours; what is refused, and when.

use std::fmt::Write;
use std::sync::Mutex;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;
use crate::host::os::OsHost;
use crate::host::{BoxFuture, Host};

/// Some time before the tokens of `tests/keys/etcd-tokens` end.
const THEN: Duration = Duration::from_secs(1_796_016_500);

/// A clock that is set by hand.
struct SetClock(Mutex<Duration>);

impl Clock for SetClock {
    fn monotonic(&self) -> Duration {
        self.wall()
    }

    fn wall(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// With these options after `jwt,`, where `KEYS/` is the folder of the keys.
fn read(options: &str) -> Result<(Arc<Jwt>, Arc<SetClock>), Error> {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/");
    let auth_token =
        format!("jwt,{options}").replace("KEYS/", keys).parse().map_err(Error::Config)?;
    let config = Config { auth_token, ..Config::default() };
    let clock = Arc::new(SetClock(Mutex::new(THEN)));
    let jwt = Jwt::read(&*OsHost::new().disk(), clock.clone(), &config)?;
    Ok((jwt.expect("asked for"), clock))
}

/// The key files of each method.
const PAIRS: &[(&str, &str, &str)] = &[
    ("RS256", "rsa.pem", "rsa.pub"),
    ("RS384", "rsa-pkcs1.pem", "rsa.pub"),
    ("RS512", "rsa.pem", "rsa.pub"),
    ("PS256", "rsa.pem", "rsa.pub"),
    ("PS384", "rsa.pem", "rsa.pub"),
    ("PS512", "rsa-pkcs1.pem", "rsa.pub"),
    ("ES256", "ec256.pem", "ec256.pub"),
    ("ES384", "ec384.pem", "ec384.pub"),
    ("EdDSA", "ed25519.pem", "ed25519.pub"),
    ("HS256", "secret", ""),
    ("HS384", "secret", ""),
    ("HS512", "secret", ""),
];

fn ann(auth_revision: u64) -> Result<Caller, Refusal> {
    Ok(Caller { user: "ann".to_owned(), auth_revision })
}

/// By every method: who signs also checks, and so does who has the public key alone; that one cannot sign.
#[test]
fn methods() {
    for (method, private, public) in PAIRS {
        let (signer, _) = read(&format!("sign-method={method},priv-key=KEYS/{private}")).unwrap();
        let token = signer.sign("ann", 7).unwrap();
        assert_eq!(signer.caller(&token), ann(7), "{method}");
        if public.is_empty() {
            continue;
        }
        let (checker, _) = read(&format!("sign-method={method},pub-key=KEYS/{public}")).unwrap();
        assert_eq!(checker.caller(&token), ann(7), "{method}");
        let status = checker.sign("ann", 7).unwrap_err();
        assert_eq!(status.message(), "auth: token signing attempted with verify-only key");
        let both = format!("sign-method={method},priv-key=KEYS/{private},pub-key=KEYS/{public}");
        assert_eq!(read(&both).unwrap().0.caller(&token), ann(7), "{method}");
    }
}

/// Tokens that etcd 3.6.5 signed are taken.
#[test]
fn tokens_of_etcd() {
    let tokens = include_str!("../../../tests/keys/etcd-tokens");
    for line in tokens.lines() {
        let (method, token) = line.split_once(' ').unwrap();
        let (_, private, _) = PAIRS.iter().find(|(known, ..)| *known == method).unwrap();
        let (jwt, clock) = read(&format!("sign-method={method},priv-key=KEYS/{private}")).unwrap();
        let root = Caller { user: "root".to_owned(), auth_revision: 5 };
        assert_eq!(jwt.caller(token), Ok(root), "{method}");
        *clock.0.lock().unwrap() += Duration::from_secs(600);
        assert_eq!(jwt.caller(token), Err(Refusal::InvalidAuthToken), "{method}");
    }
    assert_eq!(tokens.lines().count(), 8);
}

/// A token stands for its user until its time is over by the host's clock, and not a moment longer.
#[test]
fn time_to_live() {
    let (jwt, clock) = read("sign-method=HS256,priv-key=KEYS/secret,ttl=1m30s").unwrap();
    let token = jwt.sign("ann", 1).unwrap();
    let at = |after_ms| {
        *clock.0.lock().unwrap() = THEN + Duration::from_millis(after_ms);
        jwt.caller(&token)
    };
    assert_eq!(at(89_999), ann(1));
    assert_eq!(at(90_000), Err(Refusal::InvalidAuthToken));
}

/// What others have signed with the same key is taken as etcd takes it: who and since when must be there, an end
/// need not be.
#[test]
fn claims() {
    let (jwt, _) = read("sign-method=HS256,priv-key=KEYS/secret").unwrap();
    let secret = EncodingKey::from_secret(include_bytes!("../../../tests/keys/secret"));
    let shown = |claims: Value| {
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
        jwt.caller(&token)
    };
    let refused = Err(Refusal::InvalidAuthToken);
    let then = THEN.as_secs();
    assert_eq!(shown(json!({"username": "ann", "revision": 7})), ann(7));
    assert_eq!(shown(json!({"username": "ann", "revision": 7.0, "exp": 0, "aud": "x"})), ann(7));
    assert_eq!(shown(json!({"username": "ann", "revision": 7, "exp": then + 1})), ann(7));
    assert_eq!(shown(json!({"username": "ann", "revision": 7, "exp": then})), refused);
    assert_eq!(shown(json!({"username": "ann", "revision": 7, "nbf": then + 1})), refused);
    assert_eq!(shown(json!({"username": "ann", "revision": "7"})), refused);
    assert_eq!(shown(json!({"username": 7, "revision": 7})), refused);
    assert_eq!(shown(json!({"revision": 7})), refused);
    assert_eq!(shown(json!({"username": "ann"})), refused);
}

/// A signature by another key, another method or none, and a text that was changed, are refused.
#[test]
fn forgeries() {
    let (jwt, _) = read("sign-method=RS256,pub-key=KEYS/rsa.pub").unwrap();
    let (signer, _) = read("sign-method=RS256,priv-key=KEYS/rsa.pem").unwrap();
    let good = signer.sign("ann", 7).unwrap();
    assert_eq!(jwt.caller(&good), ann(7));
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let others = read("sign-method=RS512,priv-key=KEYS/rsa.pem").unwrap().0.sign("ann", 7).unwrap();
    // The public key is no secret: whoever takes it for one signs with what all know.
    let public = EncodingKey::from_secret(include_bytes!("../../../tests/keys/rsa.pub"));
    let claim = json!({"username": "root", "revision": 7});
    let known = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claim, &public).unwrap();
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let (stranger, _) = read("sign-method=RS256,pub-key=KEYS/rsa-other.pub").unwrap();
    assert_eq!(stranger.caller(&good), Err(Refusal::InvalidAuthToken));
    for token in [
        others,
        known,
        format!("{unsigned}.{claims}."),
        format!("{unsigned}.{claims}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}.x{claims}.{signature}"),
        format!("{header}.{claims}.{signature}.{signature}"),
        String::new(),
        "abc.17".to_owned(),
    ] {
        assert_eq!(jwt.caller(&token), Err(Refusal::InvalidAuthToken), "{token}");
    }
}

/// Each mistake with keys is answered by one line that begins with etcd's words, where it has any.
#[test]
fn mistakes() {
    let mut said = String::new();
    for options in [
        "sign-method=RS256",
        "sign-method=HS256",
        "sign-method=HS256,pub-key=KEYS/secret",
        "sign-method=RS256,priv-key=KEYS/nothing",
        "sign-method=RS256,priv-key=KEYS/secret",
        "sign-method=RS256,priv-key=KEYS/ec256.pem",
        "sign-method=RS256,priv-key=KEYS/rsa.pub",
        "sign-method=RS256,priv-key=KEYS/rsa.pem,pub-key=KEYS/ec256.pub",
        "sign-method=RS256,priv-key=KEYS/rsa.pem,pub-key=KEYS/rsa-other.pub",
        "sign-method=ES256,priv-key=KEYS/ec384.pem",
        "sign-method=ES384,pub-key=KEYS/ec256.pub",
        "sign-method=ES256,priv-key=KEYS/ec256.pem,pub-key=KEYS/rsa.pub",
        "sign-method=EdDSA,priv-key=KEYS/ec256.pem",
        "sign-method=EdDSA,pub-key=KEYS/ec256.pub",
    ] {
        let error = read(options).err().expect(options).to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        let error = error.replace(env!("CARGO_MANIFEST_DIR"), "");
        writeln!(said, "{options}\n  {error}").unwrap();
    }
    insta::assert_snapshot!(said);
}
