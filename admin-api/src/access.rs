//! Who may call the admin API, and under which name: tokens, roles, and the hosts that are its own.
//!
//! Invariants: a secret is kept only as its SHA-256, and compared in constant time against every token, so neither
//! memory nor timing tells which tokens exist. A wrong token costs one hash of at most [`MAX_SECRET`] bytes.
//!
//! Browsers are why the `Host` and `Origin` headers are checked. A page of another site can make a visitor's browser
//! send requests here (CSRF), and can make its own name resolve to a loopback address (DNS rebinding). It can forge
//! neither header: `Host` then holds the page's name, and `Origin` its site.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{AUTHORIZATION, HOST, ORIGIN},
    uri::Authority,
};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tidegate_config::{Role, Secret, server::AdminAddress};

/// Longest secret that is compared: longer ones are refused unread, so that a bad guess stays cheap.
pub const MAX_SECRET: usize = 1024;

/// The header that carries a token where `Authorization` is taken.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A token: its name, what it may do, and the hash of its secret.
#[derive(Debug, Clone)]
pub struct AccessToken {
    name: String,
    role: Role,
    digest: [u8; 32],
}

impl AccessToken {
    /// A token with this secret, of which only the hash is kept.
    pub fn new(name: impl Into<String>, role: Role, secret: &Secret) -> Self {
        Self { name: name.into(), role, digest: Sha256::digest(secret.expose().as_bytes()).into() }
    }
}

/// Who may call, and by which names.
#[derive(Debug, Clone)]
pub struct Access {
    tokens: Vec<AccessToken>,
    listen: Option<SocketAddr>,
    hosts: Vec<String>,
    metrics: MetricsAccess,
}

/// Whether `/metrics` is open while tokens are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Anyone may read them.
    Open,
    /// They need a token like every other path.
    Token,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's name, or `anonymous` where no tokens are configured.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Which commands its deployments may bring along.
    pub commands: Commands,
}

/// Which commands a caller's deployments may bring along: each runs as the user of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commands {
    /// Any.
    Any,
    /// Those that the configuration names.
    Configured,
}

/// Why a caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthenticated {
    /// The request brought no token.
    Missing,
    /// The request brought something that is no token of ours.
    Wrong,
}

/// Why a request is not one that is meant for this API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignRequest {
    /// HTTP/1.1 asks for exactly one well-formed `Host`.
    MalformedHost,
    /// HTTP/1.0 without a `Host`: nothing says that it is meant for us.
    NoHost,
    /// The `Host` is not one of the admin names.
    Host,
    /// A page of another site asks.
    Origin,
}

impl Access {
    /// Access by these tokens, under the names that the address stands for and these further `hosts`.
    ///
    /// Always admin names are `localhost` and every loopback address. A TCP address adds itself; one that stands for
    /// every interface (`0.0.0.0`, `[::]`) adds every literal address, since only names can be rebound. A Unix socket
    /// adds nothing: clients send `Host: localhost` over it. Ports are free, so that the API can be reached through a
    /// forwarded port.
    pub fn new(tokens: Vec<AccessToken>, listen: &AdminAddress, hosts: Vec<String>, metrics: MetricsAccess) -> Self {
        let listen = match listen {
            AdminAddress::Tcp(address) => Some(*address),
            AdminAddress::Unix(_) => None,
        };
        Self { tokens, listen, hosts, metrics }
    }

    /// Whether calls need a token at all.
    pub(crate) fn needs_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether `/metrics` is open to everyone.
    pub(crate) fn metrics_are_open(&self) -> bool {
        !self.needs_tokens() || self.metrics == MetricsAccess::Open
    }

    /// Who calls, by `Authorization: Bearer` or `X-API-Key`.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Unauthenticated> {
        if !self.needs_tokens() {
            // Without tokens nobody knows who asks: it may be another user of this machine.
            return Ok(Caller { name: "anonymous".into(), role: Role::Admin, commands: Commands::Configured });
        }
        let secret = presented(headers)?;
        let digest: [u8; 32] = Sha256::digest(secret).into();
        // Every token is compared, so that the time does not tell which one came close.
        let mut found = None;
        for token in &self.tokens {
            let same: Choice = token.digest.ct_eq(&digest);
            if bool::from(same) {
                found = Some(token);
            }
        }
        let token = found.ok_or(Unauthenticated::Wrong)?;
        let is_local = self.listen.is_none_or(|address| address.ip().is_loopback());
        let commands = if is_local || token.role == Role::Admin { Commands::Any } else { Commands::Configured };
        Ok(Caller { name: token.name.clone(), role: token.role, commands })
    }

    /// Whether the request is meant for this API, and not sent by a page of another site.
    pub(crate) fn check_names(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), ForeignRequest> {
        let host = match single(headers, &HOST) {
            Ok(Some(value)) => authority(value).ok_or(ForeignRequest::MalformedHost)?,
            Ok(None) if version == Version::HTTP_10 => return Err(ForeignRequest::NoHost),
            Ok(None) | Err(Several) => return Err(ForeignRequest::MalformedHost),
        };
        if !self.is_admin_name(&host) {
            return Err(ForeignRequest::Host);
        }
        // An absolute request target must not say something else than the Host.
        if let Some(target) = uri.authority()
            && !AuthorityParts::of(target).is_some_and(|parts| self.is_admin_name(&parts))
        {
            return Err(ForeignRequest::Host);
        }
        match single(headers, &ORIGIN) {
            Ok(None) => Ok(()),
            Ok(Some(origin)) if same_origin(origin, &host) => Ok(()),
            Ok(Some(_)) | Err(Several) => Err(ForeignRequest::Origin),
        }
    }

    fn is_admin_name(&self, name: &AuthorityParts) -> bool {
        match &name.host {
            NamedHost::Ip(ip) if ip.is_loopback() => true,
            NamedHost::Ip(ip) => {
                let listens_there = self.listen.is_some_and(|listen| {
                    let own = listen.ip().to_canonical();
                    own.is_unspecified() || own == *ip
                });
                listens_there || self.is_configured(&ip.to_string(), name.port)
            }
            NamedHost::Name(text) => text == "localhost" || self.is_configured(text, name.port),
        }
    }

    /// Configured hosts are `name` (any port) or `name:port`.
    fn is_configured(&self, host: &str, port: Option<u16>) -> bool {
        self.hosts.iter().filter_map(|configured| AuthorityParts::parse(configured)).any(|configured| {
            configured.host.to_string().eq_ignore_ascii_case(host)
                && (configured.port.is_none() || configured.port == port)
        })
    }
}

/// A header occurs more than once.
struct Several;

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Several> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Several),
    }
}

/// The secret that a request presents. One that brings two could be read two ways, so it brings none that counts.
fn presented(headers: &HeaderMap) -> Result<&[u8], Unauthenticated> {
    let wrong = |_: Several| Unauthenticated::Wrong;
    let secret = match (single(headers, &AUTHORIZATION).map_err(wrong)?, single(headers, &API_KEY).map_err(wrong)?) {
        (None, None) => return Err(Unauthenticated::Missing),
        (Some(_), Some(_)) => return Err(Unauthenticated::Wrong),
        (Some(value), None) => bearer(value.as_bytes()).ok_or(Unauthenticated::Wrong)?,
        (None, Some(value)) => value.as_bytes(),
    };
    if secret.is_empty() || secret.len() > MAX_SECRET { Err(Unauthenticated::Wrong) } else { Ok(secret) }
}

/// The token of `Bearer TOKEN`; the scheme is case-insensitive (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"bearer".len())?;
    let token = rest.strip_prefix(b" ")?.trim_ascii();
    scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
}

/// The host of a name: lower case, without a trailing dot, literal addresses parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NamedHost {
    Ip(IpAddr),
    Name(String),
}

impl std::fmt::Display for NamedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct AuthorityParts {
    host: NamedHost,
    port: Option<u16>,
}

impl AuthorityParts {
    fn parse(text: &str) -> Option<Self> {
        Self::of(&text.parse().ok()?)
    }

    fn of(authority: &Authority) -> Option<Self> {
        if authority.as_str().contains('@') {
            return None;
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => None,
            Some(_) => Some(authority.port_u16()?),
            None => return None,
        };
        let host = authority.host().strip_suffix('.').unwrap_or(authority.host()).to_ascii_lowercase();
        if host.is_empty() {
            return None;
        }
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        let host = match literal.parse::<IpAddr>() {
            Ok(ip) => NamedHost::Ip(ip.to_canonical()),
            Err(_) => NamedHost::Name(host),
        };
        Some(Self { host, port })
    }
}

fn authority(value: &HeaderValue) -> Option<AuthorityParts> {
    AuthorityParts::parse(value.to_str().ok()?)
}

/// Whether an `Origin` is the very host and port that the request was sent to. A proxy in front may add TLS, so both
/// schemes are taken, each with its default port.
fn same_origin(origin: &HeaderValue, host: &AuthorityParts) -> bool {
    let Ok(text) = origin.to_str() else { return false };
    let (rest, default_port) = match text.split_once("://") {
        Some(("http", rest)) => (rest, 80),
        Some(("https", rest)) => (rest, 443),
        _ => return false,
    };
    AuthorityParts::parse(rest).is_some_and(|parts| {
        parts.host == host.host && parts.port.unwrap_or(default_port) == host.port.unwrap_or(default_port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(listen: &str, hosts: &[&str]) -> Access {
        let listen = AdminAddress::Tcp(listen.parse().unwrap());
        Access::new(Vec::new(), &listen, hosts.iter().map(|h| (*h).to_owned()).collect(), MetricsAccess::Open)
    }

    fn check(access: &Access, host: &str, origin: Option<&str>) -> Result<(), ForeignRequest> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        access.check_names(Version::HTTP_11, &Uri::from_static("/api/services"), &headers)
    }

    #[test]
    fn loopback_names_are_admin_names_on_any_port() {
        let access = access("127.0.0.1:3091", &[]);
        for host in [
            "localhost",
            "LOCALHOST:3091",
            "localhost.:1",
            "127.0.0.1",
            "127.0.0.1:3091",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:3091",
            "[::ffff:127.0.0.1]:3091",
        ] {
            assert_eq!(check(&access, host, None), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_foreign() {
        let access = access("127.0.0.1:3091", &["admin.example"]);
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "127.0.0.1.evil.example",
            "192.0.2.1:3091",
            "127.1",
            "2130706433",
            "0.0.0.0:3091",
            "[2001:db8::1]",
            "sub.admin.example",
            "admin.example.evil",
        ] {
            assert_eq!(check(&access, host, None), Err(ForeignRequest::Host), "{host}");
        }
    }

    #[test]
    fn a_host_that_is_no_authority_is_malformed() {
        let access = access("127.0.0.1:3091", &[]);
        for host in ["", "a b", "user@localhost", "localhost:", "localhost:x", "localhost:99999", "localhost/x", "."] {
            assert_eq!(check(&access, host, None), Err(ForeignRequest::MalformedHost), "{host:?}");
        }
    }

    #[test]
    fn the_listening_address_is_an_admin_name() {
        assert_eq!(check(&access("192.0.2.7:3091", &[]), "192.0.2.7:3091", None), Ok(()));
        assert_eq!(check(&access("192.0.2.7:3091", &[]), "192.0.2.8:3091", None), Err(ForeignRequest::Host));
        assert_eq!(check(&access("0.0.0.0:3091", &[]), "192.0.2.8:3091", None), Ok(()));
        assert_eq!(check(&access("[::]:3091", &[]), "192.0.2.8:3091", None), Ok(()));
        assert_eq!(check(&access("0.0.0.0:3091", &[]), "evil.example:3091", None), Err(ForeignRequest::Host));
    }

    #[test]
    fn configured_hosts_are_admin_names_on_their_port() {
        let access = access("127.0.0.1:3091", &["Admin.example", "ops.example:8443", "192.0.2.9"]);
        assert_eq!(check(&access, "admin.EXAMPLE:99", None), Ok(()));
        assert_eq!(check(&access, "ops.example:8443", None), Ok(()));
        assert_eq!(check(&access, "ops.example", None), Err(ForeignRequest::Host));
        assert_eq!(check(&access, "192.0.2.9:3091", None), Ok(()));
    }

    #[test]
    fn only_the_origin_that_the_request_was_sent_to_is_our_own() {
        let access = access("127.0.0.1:3091", &["admin.example"]);
        assert_eq!(check(&access, "localhost:3091", Some("http://localhost:3091")), Ok(()));
        assert_eq!(check(&access, "admin.example", Some("https://admin.example")), Ok(()));
        assert_eq!(check(&access, "[::1]:80", Some("http://[::1]")), Ok(()));
        for origin in [
            "null",
            "",
            "http://localhost",
            "http://localhost:8080",
            "http://127.0.0.1:3091",
            "http://evil.example",
            "ftp://localhost:3091",
            "http://localhost:3091/x",
            "http://x@localhost:3091",
            "localhost:3091",
        ] {
            assert_eq!(check(&access, "localhost:3091", Some(origin)), Err(ForeignRequest::Origin), "{origin:?}");
        }
    }

    #[test]
    fn http_1_0_without_a_host_and_requests_with_two_hosts_are_refused() {
        let access = access("127.0.0.1:3091", &[]);
        let uri = Uri::from_static("/");
        let mut headers = HeaderMap::new();
        assert_eq!(access.check_names(Version::HTTP_10, &uri, &headers), Err(ForeignRequest::NoHost));
        assert_eq!(access.check_names(Version::HTTP_11, &uri, &headers), Err(ForeignRequest::MalformedHost));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(access.check_names(Version::HTTP_10, &uri, &headers), Ok(()));
        let absolute = Uri::from_static("http://evil.example/api/services");
        assert_eq!(access.check_names(Version::HTTP_11, &absolute, &headers), Err(ForeignRequest::Host));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(access.check_names(Version::HTTP_11, &uri, &headers), Err(ForeignRequest::MalformedHost));
    }

    #[test]
    fn tokens_are_found_by_either_header_and_by_nothing_else() {
        let tokens = vec![
            AccessToken::new("ci", Role::Operate, &Secret::new("s3cret".into())),
            AccessToken::new("eye", Role::Read, &Secret::new("Watch".into())),
        ];
        let listen = AdminAddress::Tcp("127.0.0.1:1".parse().unwrap());
        let access = Access::new(tokens, &listen, Vec::new(), MetricsAccess::Token);
        let caller = |headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_str(value).unwrap());
            }
            access.caller(&map).map(|caller| caller.name)
        };
        for headers in [
            [("authorization", "Bearer s3cret")],
            [("authorization", "bEARER s3cret")],
            [("authorization", "Bearer   s3cret ")],
            [("x-api-key", "s3cret")],
        ] {
            assert_eq!(caller(&headers), Ok("ci".into()), "{headers:?}");
        }
        assert_eq!(caller(&[("x-api-key", "Watch")]), Ok("eye".into()));
        assert_eq!(caller(&[]), Err(Unauthenticated::Missing));
        let long = "s".repeat(MAX_SECRET + 1);
        for headers in [
            vec![("authorization", "Bearer S3CRET")],
            vec![("authorization", "Basic s3cret")],
            vec![("authorization", "Bearers3cret")],
            vec![("authorization", "Bearer ")],
            vec![("authorization", "s3cret")],
            vec![("x-api-key", "")],
            vec![("x-api-key", long.as_str())],
            vec![("authorization", "Bearer s3cret"), ("x-api-key", "s3cret")],
            vec![("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")],
        ] {
            assert_eq!(caller(&headers), Err(Unauthenticated::Wrong), "{headers:?}");
        }
    }

    #[test]
    fn the_secret_is_not_kept() {
        let token = AccessToken::new("ci", Role::Admin, &Secret::new("hunter2".into()));
        assert!(!format!("{token:?}").contains("hunter2"));
    }
}
