//! Addresses of endpoints, parsed once: nothing later guesses at a string.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

/// How an endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP/1.1 in clear text.
    Http,
    /// TLS, with HTTP/2 or HTTP/1.1 by ALPN.
    Https,
    /// HTTP/2 in clear text with prior knowledge.
    H2c,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A literal address.
    Ip(SocketAddr),
    /// A name that is resolved in the background, and its port.
    Name(Arc<str>, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// One address of a target: `ip:port`, `host:port`, `unix:/path`, with `http://`, `https://` or `h2c://`.
///
/// Its text form ([`fmt::Display`], serde) is canonical, and is the endpoint's identity within its target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointAddress {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub host: Host,
}

/// An endpoint and its share of the target's requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The address.
    pub address: EndpointAddress,
    /// Relative weight within the target, 1 to 1000.
    pub weight: u16,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError(String);

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EndpointError {}

impl std::str::FromStr for EndpointAddress {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.contains('@') {
            // Before the '@' is a password, which no message may show.
            return Err(EndpointError("an endpoint has no user and password: leave everything up to '@' out".into()));
        }
        let bad = |why: &str| {
            EndpointError(format!(
                "{text:?} is not an endpoint: {why}; write ip:port, host:port or unix:/path, with http://, https:// or h2c:// before it if needed"
            ))
        };
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Http, text),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("h2c", rest)) => (Scheme::H2c, rest),
            Some(_) => return Err(bad("the scheme is unknown")),
        };
        if let Some(path) = rest.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(bad("a Unix socket needs an absolute path"));
            }
            return Ok(Self { scheme, host: Host::Unix(path.into()) });
        }
        if let Ok(address) = rest.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(bad("port 0")) } else { Ok(Self { scheme, host: Host::Ip(address) }) };
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| bad("the port is missing"))?;
        let port = port.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(|| bad("the port is not 1 to 65535"))?;
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A name whose last label is all digits is a mistyped address, not a name (WHATWG URL, 4.4).
        let numeric_end = host.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if host.len() > 253 || numeric_end || !host.split('.').all(label) {
            return Err(bad("the host is neither an address nor a name"));
        }
        Ok(Self { scheme, host: Host::Name(host.to_ascii_lowercase().into(), port) })
    }
}

impl TryFrom<String> for EndpointAddress {
    type Error = EndpointError;
    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<EndpointAddress> for String {
    fn from(address: EndpointAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.scheme {
            Scheme::Http => "",
            Scheme::Https => "https://",
            Scheme::H2c => "h2c://",
        })?;
        match &self.host {
            Host::Ip(address) => write!(f, "{address}"),
            Host::Name(host, port) => write!(f, "{host}:{port}"),
            Host::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
