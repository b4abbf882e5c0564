//! TLS at the edge of the network: bytes go in plain above it and encrypted below.
//!
//! [`Acceptor`] is for connections that come in, [`TlsNet`] for those that go out. Whether a connection speaks
//! TLS is decided by its URL, above.
//!
//! Invariants:
//! * Certificates are read anew for each handshake. What was put in place of them is used from then on; what
//!   cannot be used is logged, and the last that could goes on.
//! * Where roots are given, whoever connects shows a certificate that one of them has signed.
//! * A handshake of somebody who has connected ends within [`Limits::tls_handshake_ms`], one way or the other, in
//!   the task of its own connection. How long connecting may take is up to whoever connects.
//! * Validity is judged by the host's clock, in each handshake: no session is resumed.
//!
//! Keys and nonces are the one thing that does not come from the host's dice: those are for identifiers, and
//! ring asks the operating system itself.
//!
//! Not here: revocation lists; the address that a certificate was shown from; the system's own roots; a
//! certificate that is its own authority, which rustls takes for a root but for nobody's certificate.

mod files;
mod names;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{BoxFuture, Clock, Host, Listener, Net, Stream};
use crate::config::{Limits, Tls, TlsVersion};
use crate::error::Result;
use files::{Fresh, Material, refuse};
pub use names::CommonName;

/// HTTP/2, for gRPC.
const H2: &[u8] = b"h2";
/// HTTP/1.1, for the plain pages.
const HTTP1: &[u8] = b"http/1.1";

/// The server's side of connections that come in.
pub struct Acceptor {
    config: Fresh<ServerConfig>,
    tls: Tls,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl Acceptor {
    /// Reads the files that `tls` names.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) with the file that cannot be used, and how to mend it.
    pub fn new(host: &dyn Host, tls: &Tls, limits: &Limits) -> Result<Self> {
        let time = Time(host.clock());
        let make = move |tls: &Tls, material: Material| server_config(tls, material, &time);
        let config = Fresh::new(host.disk(), tls, limits.tls_file_bytes_max, make)?;
        let timeout = Duration::from_millis(limits.tls_handshake_ms);
        Ok(Self { config, tls: tls.clone(), clock: host.clock(), timeout })
    }

    /// Shakes hands with whoever has connected. With `--client-cert-auth`, also the name in the certificate that
    /// was shown.
    ///
    /// # Errors
    /// The other side speaks no TLS, shows no certificate that is good here, or is too slow.
    pub async fn accept(
        &self,
        stream: Box<dyn Stream>,
    ) -> io::Result<(Box<dyn Stream>, Option<CommonName>)> {
        let shaking = TlsAcceptor::from(self.config.current()).accept(stream);
        let stream = tokio::select! {
            biased;
            stream = shaking => stream?,
            () = self.clock.sleep(self.timeout) => return Err(io::ErrorKind::TimedOut.into()),
        };
        let shown = first(stream.get_ref().1.peer_certificates());
        names::check(&self.tls, shown)?;
        let name = shown.filter(|_| self.tls.client_cert_auth).and_then(CommonName::of);
        Ok((Box::new(stream), name))
    }
}

/// Sockets whose outgoing connections speak TLS. Listening is the plain one's: see [`Acceptor`].
pub struct TlsNet {
    net: Arc<dyn Net>,
    config: Fresh<ClientConfig>,
    tls: Tls,
}

impl TlsNet {
    /// Reads the files that `tls` names; it must name roots. Its certificate, if there is one, is shown to
    /// whoever asks for it.
    ///
    /// # Errors
    /// As [`Acceptor::new`].
    pub fn new(host: &dyn Host, tls: &Tls, limits: &Limits) -> Result<Self> {
        let time = Time(host.clock());
        let make = move |tls: &Tls, material: Material| client_config(tls, material, &time);
        let config = Fresh::new(host.disk(), tls, limits.tls_file_bytes_max, make)?;
        Ok(Self { net: host.net(), config, tls: tls.clone() })
    }
}

impl Net for TlsNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.net.listen(address)
    }

    fn connect<'a>(&'a self, authority: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let (host, _) = authority.rsplit_once(':').unwrap_or((authority, ""));
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = self.net.connect(authority).await?;
            let connector = TlsConnector::from(self.config.current());
            let stream = connector.connect(name, stream).await?;
            names::check(&self.tls, first(stream.get_ref().1.peer_certificates()))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// The certificate of the other side itself; behind it come those that lead to its root.
fn first<'a>(shown: Option<&'a [CertificateDer<'a>]>) -> Option<&'a CertificateDer<'a>> {
    shown.and_then(<[_]>::first)
}

fn server_config(tls: &Tls, material: Material, time: &Time) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(time.clone()))
        .with_protocol_versions(&versions(tls))
        .map_err(|error| refuse(tls, &error))?;
    let builder = match material.roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            let verifier = verifier.expect("roots are there, and no revocation lists");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (chain, key) = material.identity.expect("a listener's URL needs them");
    let mut config = builder.with_single_cert(chain, key).map_err(|error| refuse(tls, &error))?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
    // What is resumed is not judged again; connections are few, and live long.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(tls: &Tls, material: Material, time: &Time) -> Result<ClientConfig> {
    let roots = material.roots.expect("the caller has seen that they are named");
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(time.clone()))
        .with_protocol_versions(&versions(tls))
        .map_err(|error| refuse(tls, &error))?
        .with_root_certificates(roots);
    let mut config = match material.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| refuse(tls, &error))?
        }
    };
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn versions(tls: &Tls) -> Vec<&'static SupportedProtocolVersion> {
    let all = [
        (TlsVersion::Tls13, &rustls::version::TLS13),
        (TlsVersion::Tls12, &rustls::version::TLS12),
    ];
    let spoken = tls.min_version..=tls.max_version;
    all.into_iter().filter(|(version, _)| spoken.contains(version)).map(|(_, it)| it).collect()
}

/// The host's wall clock, as rustls asks for it.
#[derive(Clone)]
struct Time(Arc<dyn Clock>);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.wall()))
    }
}

#[cfg(test)]
mod tests;
