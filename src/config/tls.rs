//! Flags about TLS: where certificates are, and what is asked of those that others show.

use std::path::PathBuf;

use clap::Args;

use super::Url;
use crate::error::{Error, Result};

/// A version of TLS, by etcd's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[value(name = "TLS1.2")]
    Tls12,
    /// TLS 1.3.
    #[value(name = "TLS1.3")]
    Tls13,
}

/// TLS towards one kind of others: clients or members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// What the names of its flags begin with: `--` or `--peer-`.
    pub prefix: &'static str,
    /// The member's own certificate, and those between it and its root.
    pub cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub key_file: Option<PathBuf>,
    /// The roots of the certificates that others show. Where it is given, they must show one, as with etcd.
    pub trusted_ca_file: Option<PathBuf>,
    /// Whether others must show a certificate; of a client, its name then stands for its user.
    pub client_cert_auth: bool,
    /// The common names of which a certificate must have one; empty for any.
    pub allowed_cns: Vec<String>,
    /// The hosts of which a certificate must be good for one; empty for any.
    pub allowed_hostnames: Vec<String>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// The newest version that is spoken.
    pub max_version: TlsVersion,
}

impl Tls {
    /// No certificates at all.
    #[must_use]
    pub fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            cert_file: None,
            key_file: None,
            trusted_ca_file: None,
            client_cert_auth: false,
            allowed_cns: Vec::new(),
            allowed_hostnames: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
        }
    }

    /// The name of one of its flags.
    #[must_use]
    pub fn flag(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Checks what can be checked without the files. `listen`: what is listened on, by the flag of that name.
    pub(super) fn validate(&self, flag: &str, listen: &[Url]) -> Result<()> {
        let [cert, key, ca, auth] =
            ["cert-file", "key-file", "trusted-ca-file", "client-cert-auth"]
                .map(|it| self.flag(it));
        let refuse = |text: String| Err(Error::Config(text));
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => return refuse(format!("{cert} is given without {key}; give both")),
            (None, Some(_)) => return refuse(format!("{key} is given without {cert}; give both")),
            (Some(_), Some(_)) => {}
            (None, None) => {
                if let Some(url) = listen.iter().find(|url| url.is_tls()) {
                    return refuse(format!(
                        "{flag} has {url}, which needs {cert} and {key}; give both, or write http://"
                    ));
                }
            }
        }
        if self.client_cert_auth && self.trusted_ca_file.is_none() {
            return refuse(format!(
                "{auth} needs {ca}; give it the certificates that sign those of others"
            ));
        }
        let asks = !self.allowed_cns.is_empty() || !self.allowed_hostnames.is_empty();
        if asks && self.trusted_ca_file.is_none() {
            return refuse(format!(
                "names in certificates are of no use without {ca}; give it the certificates that sign them"
            ));
        }
        if !self.allowed_cns.is_empty() && !self.allowed_hostnames.is_empty() {
            let [cn, hostname] =
                ["cert-allowed-cn", "cert-allowed-hostname"].map(|it| self.flag(it));
            return refuse(format!("{cn} and {hostname} exclude each other; give one of them"));
        }
        if self.min_version > self.max_version {
            return refuse(
                "--tls-min-version is above --tls-max-version; turn them round or leave one out"
                    .into(),
            );
        }
        Ok(())
    }
}

/// The flags, with etcd's names.
#[derive(Args, Debug)]
pub(super) struct TlsArgs {
    /// The certificate that clients of https:// URLs are shown; read anew when it changes
    #[arg(long, value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// The key of --cert-file
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The certificates that sign those of clients; with it each client must show one
    #[arg(long, value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Take a client without a token for the user that its certificate names
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    client_cert_auth: bool,
    /// Hosts of which a client's certificate must be good for one
    #[arg(long, value_name = "HOSTS")]
    client_cert_allowed_hostname: Option<String>,
    /// The certificate that this member shows to other members, as server and as client
    #[arg(long, value_name = "FILE")]
    peer_cert_file: Option<PathBuf>,
    /// The key of --peer-cert-file
    #[arg(long, value_name = "FILE")]
    peer_key_file: Option<PathBuf>,
    /// The certificates that sign those of members; with it each member must show one
    #[arg(long, value_name = "FILE")]
    peer_trusted_ca_file: Option<PathBuf>,
    /// Refuse members that show no certificate
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    peer_client_cert_auth: bool,
    /// Common names of which a member's certificate must have one
    #[arg(long, value_name = "NAMES")]
    peer_cert_allowed_cn: Option<String>,
    /// Hosts of which a member's certificate must be good for one
    #[arg(long, value_name = "HOSTS")]
    peer_cert_allowed_hostname: Option<String>,
    /// The oldest version of TLS that is spoken
    #[arg(long, default_value = "TLS1.2", value_name = "VERSION")]
    tls_min_version: TlsVersion,
    /// The newest version of TLS that is spoken
    #[arg(long, default_value = "TLS1.3", value_name = "VERSION")]
    tls_max_version: TlsVersion,
}

impl TlsArgs {
    /// What is said about clients, and about members.
    pub(super) fn into_config(self) -> (Tls, Tls) {
        let (min_version, max_version) = (self.tls_min_version, self.tls_max_version);
        let clients = Tls {
            prefix: "--",
            cert_file: self.cert_file,
            key_file: self.key_file,
            trusted_ca_file: self.trusted_ca_file,
            client_cert_auth: self.client_cert_auth,
            allowed_cns: Vec::new(),
            allowed_hostnames: names(self.client_cert_allowed_hostname),
            min_version,
            max_version,
        };
        let peers = Tls {
            prefix: "--peer-",
            cert_file: self.peer_cert_file,
            key_file: self.peer_key_file,
            trusted_ca_file: self.peer_trusted_ca_file,
            client_cert_auth: self.peer_client_cert_auth,
            allowed_cns: names(self.peer_cert_allowed_cn),
            allowed_hostnames: names(self.peer_cert_allowed_hostname),
            min_version,
            max_version,
        };
        (clients, peers)
    }
}

/// Names separated by commas.
fn names(text: Option<String>) -> Vec<String> {
    let text = text.unwrap_or_default();
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// Each combination that cannot be served is refused with the flag's name and the way out.
    #[test]
    fn impossible_combinations() {
        let check = |flags: &[&str], expected: &str| {
            let args = std::iter::once("serve").chain(flags.iter().copied());
            let got = match Config::from_args(args) {
                Ok(config) => format!("{:?}", config.client_tls.cert_file),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, expected, "{flags:?}");
        };
        let https = "--listen-client-urls=https://127.0.0.1:2379";
        check(&[https, "--cert-file=c", "--key-file=k"], "Some(\"c\")");
        check(&["--cert-file=c"], "--cert-file is given without --key-file; give both");
        check(
            &["--peer-key-file=k"],
            "--peer-key-file is given without --peer-cert-file; give both",
        );
        check(
            &["--listen-peer-urls=https://127.0.0.1:2380"],
            "--listen-peer-urls has https://127.0.0.1:2380, which needs --peer-cert-file and \
             --peer-key-file; give both, or write http://",
        );
        check(
            &[https, "--cert-file=c", "--key-file=k", "--client-cert-auth"],
            "--client-cert-auth needs --trusted-ca-file; give it the certificates that sign those of others",
        );
        check(
            &["--client-cert-allowed-hostname=a,b"],
            "names in certificates are of no use without --trusted-ca-file; give it the certificates \
             that sign them",
        );
        check(
            &[
                "--peer-trusted-ca-file=a",
                "--peer-cert-allowed-cn=a",
                "--peer-cert-allowed-hostname=b",
            ],
            "--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other; give one of them",
        );
        check(
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "--tls-min-version is above --tls-max-version; turn them round or leave one out",
        );
    }
}
