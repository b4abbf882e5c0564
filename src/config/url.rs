//! A URL as members and clients are addressed by: `http://host:port`, or `https://` where it speaks TLS.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::error::{Error, Result};

/// `http://host:port` or `https://host:port`, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    host: String,
    port: u16,
    is_tls: bool,
}

impl Url {
    /// An `http` URL from its parts; an IPv6 address needs its brackets.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, is_tls: false }
    }

    /// Whether it is an `https` URL.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// `host:port`, as [`Net::connect`](crate::host::Net::connect) takes it.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address to listen on; names other than `localhost` are refused, as etcd does.
    ///
    /// # Errors
    /// [`Error::Config`] where the host is a name.
    pub fn socket_address(&self) -> Result<SocketAddr> {
        if self.host == "localhost" {
            return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port));
        }
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let ip: IpAddr = bare.parse().map_err(|_| {
            Error::Config(format!(
                "cannot listen on {self}: a listen URL needs an IP address; use 0.0.0.0 for all"
            ))
        })?;
        Ok(SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("`{text}` is not a URL; write http://HOST:PORT"));
        };
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => {
                return Err(format!(
                    "`{text}`: scheme `{scheme}` is not served; write http://HOST:PORT or https://HOST:PORT"
                ));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let uri: http::uri::Authority = rest.parse().map_err(|_| {
            format!("`{text}` is not a URL; write http://HOST:PORT, without a path")
        })?;
        let Some(port) = uri.port_u16() else {
            return Err(format!("`{text}` has no port; write http://HOST:PORT"));
        };
        if uri.as_str().contains('@') || uri.host().is_empty() {
            return Err(format!("`{text}` is not a URL; write http://HOST:PORT"));
        }
        Ok(Self { is_tls, ..Self::new(uri.host(), port) })
    }
}

/// URLs as one flag takes them: separated by commas.
pub(crate) fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is a URL and what is not, and what is said about it.
    #[test]
    fn parsing() {
        let check = |text: &str, expected: &str| {
            let got = match text.parse::<Url>() {
                Ok(url) => format!("{url} {}", url.authority()),
                Err(error) => error,
            };
            assert_eq!(got, expected, "{text}");
        };
        check("http://10.0.0.1:2380", "http://10.0.0.1:2380 10.0.0.1:2380");
        check("http://n1.example:2380/", "http://n1.example:2380 n1.example:2380");
        check("http://[::1]:2380", "http://[::1]:2380 [::1]:2380");
        check("10.0.0.1:2380", "`10.0.0.1:2380` is not a URL; write http://HOST:PORT");
        check("http://10.0.0.1", "`http://10.0.0.1` has no port; write http://HOST:PORT");
        check("https://10.0.0.1:2380", "https://10.0.0.1:2380 10.0.0.1:2380");
        check(
            "unix://10.0.0.1:1",
            "`unix://10.0.0.1:1`: scheme `unix` is not served; write http://HOST:PORT or https://HOST:PORT",
        );
        check(
            "http://a:1/path",
            "`http://a:1/path` is not a URL; write http://HOST:PORT, without a path",
        );
        check("http://u@a:1", "`http://u@a:1` is not a URL; write http://HOST:PORT");
    }

    /// Listening needs an address; `localhost` is the one name with a fixed one.
    #[test]
    fn listen_addresses() {
        assert_eq!(Url::new("localhost", 1).socket_address().unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(Url::new("[::1]", 1).socket_address().unwrap().to_string(), "[::1]:1");
        assert!(Url::new("n1", 1).socket_address().is_err());
    }
}
