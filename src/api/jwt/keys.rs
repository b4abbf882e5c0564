//! Keys of JSON web tokens, from the files that etcd takes.

use std::fmt::Display;
use std::path::PathBuf;

use ed25519_dalek::{SigningKey, VerifyingKey};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rsa::pkcs1::{
    DecodeRsaPrivateKey, DecodeRsaPublicKey, EncodeRsaPrivateKey, EncodeRsaPublicKey,
};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey};
use rsa::{RsaPrivateKey, RsaPublicKey};

/// What a file holds.
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// Keys of one method.
pub(super) struct Keys {
    /// Where it is missing, tokens are only checked.
    pub(super) sign: Option<EncodingKey>,
    pub(super) check: DecodingKey,
}

/// etcd's words, and the way out.
const MISSING: &str =
    "auth: missing key data; add priv-key=FILE, or pub-key=FILE to check tokens that others sign";
const MISMATCH: &str =
    "auth: public and private keys don't match; give the public key of priv-key, or none";
const MISSING_SECRET: &str =
    "auth: missing key data; add priv-key=FILE, a file that holds the secret";

impl Keys {
    /// The keys of a method from their files; one of them may be missing.
    pub(super) fn new(
        method: Algorithm,
        private: Option<&KeyFile>,
        public: Option<&KeyFile>,
    ) -> Result<Self, String> {
        // An empty file is none, as in etcd.
        let private = private.filter(|file| !file.bytes.is_empty());
        let public = public.filter(|file| !file.bytes.is_empty());
        match method {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                let secret = &private.ok_or(MISSING_SECRET)?.bytes;
                let sign = Some(EncodingKey::from_secret(secret));
                Ok(Self { sign, check: DecodingKey::from_secret(secret) })
            }
            Algorithm::ES256 => ec_p256(private, public),
            Algorithm::ES384 => ec_p384(private, public),
            Algorithm::EdDSA => ed(private, public),
            _ => rsa(private, public),
        }
    }
}

fn rsa(private: Option<&KeyFile>, public: Option<&KeyFile>) -> Result<Keys, String> {
    let private = key(private, "a private RSA key in PEM (PKCS#1 or PKCS#8)", |pem| {
        RsaPrivateKey::from_pkcs1_pem(pem).or_else(|_| RsaPrivateKey::from_pkcs8_pem(pem))
    })?;
    let public = key(public, "a public RSA key in PEM", |pem| {
        RsaPublicKey::from_pkcs1_pem(pem).or_else(|_| RsaPublicKey::from_public_key_pem(pem))
    })?;
    let (private, public) = pair(private, public, RsaPrivateKey::to_public_key)?;
    let sign = private.map(|key| key.to_pkcs1_der()).transpose().map_err(words)?;
    let sign = sign.map(|der| EncodingKey::from_rsa_der(der.as_bytes()));
    let check = public.to_pkcs1_der().map_err(words)?;
    Ok(Keys { sign, check: DecodingKey::from_rsa_der(check.as_bytes()) })
}

/// Keys on one curve: the libraries have the same names, and no type in common.
macro_rules! ec {
    ($name:ident, $curve:ident, $method:literal) => {
        fn $name(private: Option<&KeyFile>, public: Option<&KeyFile>) -> Result<Keys, String> {
            use $curve::{PublicKey, SecretKey};
            let private = key(
                private,
                concat!("a private key in PEM (SEC1 or PKCS#8) of the curve of ", $method),
                |pem| SecretKey::from_sec1_pem(pem).or_else(|_| SecretKey::from_pkcs8_pem(pem)),
            )?;
            let public = key(
                public,
                concat!("a public key in PEM of the curve of ", $method),
                PublicKey::from_public_key_pem,
            )?;
            let (private, public) = pair(private, public, SecretKey::public_key)?;
            let sign = private.map(|key| key.to_pkcs8_der()).transpose().map_err(words)?;
            let sign = sign.map(|der| EncodingKey::from_ec_der(der.as_bytes()));
            Ok(Keys { sign, check: DecodingKey::from_ec_der(&public.to_sec1_bytes()) })
        }
    };
}

ec!(ec_p256, p256, "ES256");
ec!(ec_p384, p384, "ES384");

fn ed(private: Option<&KeyFile>, public: Option<&KeyFile>) -> Result<Keys, String> {
    let private =
        key(private, "a private Ed25519 key in PEM (PKCS#8)", SigningKey::from_pkcs8_pem)?;
    let public = key(public, "a public Ed25519 key in PEM", VerifyingKey::from_public_key_pem)?;
    let (private, public) = pair(private, public, SigningKey::verifying_key)?;
    let sign = private.map(|key| key.to_pkcs8_der()).transpose().map_err(words)?;
    let sign = sign.map(|der| EncodingKey::from_ed_der(der.as_bytes()));
    Ok(Keys { sign, check: DecodingKey::from_ed_der(public.as_bytes()) })
}

/// The key in a file. What libraries say of one that they cannot read speaks of bytes and numbers of algorithms, and
/// helps nobody.
fn key<K, E>(
    file: Option<&KeyFile>,
    kind: &str,
    parse: impl Fn(&str) -> Result<K, E>,
) -> Result<Option<K>, String> {
    let Some(KeyFile { path, bytes }) = file else { return Ok(None) };
    let found = std::str::from_utf8(bytes).ok().and_then(|pem| parse(pem).ok());
    let found = found.ok_or_else(|| format!("{} is not {kind}; give one", path.display()))?;
    Ok(Some(found))
}

/// Two keys of one pair; the public one follows from the other.
fn pair<S, P: PartialEq>(
    private: Option<S>,
    public: Option<P>,
    public_of: impl Fn(&S) -> P,
) -> Result<(Option<S>, P), String> {
    match (private, public) {
        (None, None) => Err(MISSING.to_owned()),
        (None, Some(public)) => Ok((None, public)),
        (Some(private), public) => {
            let own = public_of(&private);
            if public.is_some_and(|public| public != own) {
                return Err(MISMATCH.to_owned());
            }
            Ok((Some(private), own))
        }
    }
}

fn words(error: impl Display) -> String {
    error.to_string()
}
