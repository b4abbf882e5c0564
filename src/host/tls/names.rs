//! Whom a certificate names.

use std::io;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::Tls;

/// The common name in the certificate that a client has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonName(pub Arc<str>);

impl CommonName {
    /// The last one, as Go reads it. One without letters names nobody.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let name = parsed.subject().iter_common_name().last()?.as_str().ok()?;
        (!name.is_empty()).then(|| Self(name.into()))
    }
}

/// Whether a certificate has one of the names that the flags ask for.
///
/// Asked after the handshake: rustls has judged by then who signed it, and nothing was read yet.
pub(super) fn check(tls: &Tls, shown: Option<&CertificateDer<'_>>) -> io::Result<()> {
    if tls.allowed_cns.is_empty() && tls.allowed_hostnames.is_empty() {
        return Ok(());
    }
    let is_allowed = |certificate: &CertificateDer<'_>| {
        let name = CommonName::of(certificate);
        let has_name = name.is_some_and(|name| tls.allowed_cns.iter().any(|it| **it == *name.0));
        let parsed = ParsedCertificate::try_from(certificate);
        let is_for = |host: &String| {
            let (Ok(parsed), Ok(name)) = (&parsed, ServerName::try_from(host.as_str())) else {
                return false;
            };
            verify_server_name(parsed, &name).is_ok()
        };
        has_name || tls.allowed_hostnames.iter().any(is_for)
    };
    if shown.is_some_and(is_allowed) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the certificate has none of the names asked for",
    ))
}
