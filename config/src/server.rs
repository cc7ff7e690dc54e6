//! What belongs to the process and not to a service: listeners, admin API, limits.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::{Events, Flags, HookId, HookSpec, ListenerId, ServiceId, ServiceSpec, StageId, StageSpec, Watch};

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The process.
    pub server: Server,
    /// The admin API.
    pub admin: Admin,
    /// Addresses that accept client traffic, at least one.
    pub listeners: BTreeMap<ListenerId, Listener>,
    /// Services, in the order of their names.
    pub services: BTreeMap<ServiceId, ServiceSpec>,
    /// Feature flags.
    pub flags: Flags,
    /// Commands that have a name.
    pub hooks: BTreeMap<HookId, HookSpec>,
    /// Stages that versions pass.
    pub stages: BTreeMap<StageId, StageSpec>,
    /// The watch on stack folders.
    pub watch: Option<Watch>,
    /// Who is told of what deployments do.
    pub events: Events,
}

/// Settings of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Worker threads; `None`: as many as there are cores.
    pub threads: Option<usize>,
    /// Where `state.json` and `audit.jsonl` are (default `./state`).
    pub state_dir: PathBuf,
    /// How long running requests may go on after SIGTERM (default 30 s).
    pub grace: Duration,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Bounds on what a client may use.
    pub limits: Limits,
    /// The access log.
    pub access_log: AccessLog,
    /// Whether the RFC 7239 `Forwarded` header is sent upstream (default no).
    pub forwarded: bool,
}

/// An address range in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// First address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

/// Bounds on what a client may use. Each is counted when it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request head in bytes (default 64 KiB).
    pub header_bytes: usize,
    /// Most header fields (default 100).
    pub header_fields: usize,
    /// Total time for a request head (default 10 s).
    pub header_timeout: Duration,
    /// Slowest request body in bytes per second, judged over ten seconds (default 500; 0: no bound).
    pub body_min_rate: u64,
    /// Connections per listener (default 10,000).
    pub connections: usize,
    /// Connections per client address (default 1,000).
    pub connections_per_client: usize,
}

/// Which requests are logged. Off by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccessLog {
    /// Share of requests that are logged, 0.0 to 1.0 (default 0: off).
    pub sample: f64,
}

/// The admin API.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Where it listens (default `127.0.0.1:3091`).
    pub listen: AdminAddress,
    /// Tokens; given any, every call needs one. Mandatory when the address is not loopback or a Unix socket.
    pub tokens: Vec<Token>,
    /// Further host names by which the API may be called.
    pub hosts: Vec<String>,
    /// Whether `/metrics` needs a token too (default no).
    pub metrics_auth: bool,
}

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket, mode 0600.
    Unix(PathBuf),
}

/// A token of the admin API.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its name, as the audit log shows it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where its secret is.
    pub secret: SecretSource,
}

/// What a token may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read.
    Read,
    /// Move traffic.
    Operate,
    /// Everything: configuration, reload, audit log.
    Admin,
}

/// Where a secret comes from. The configuration never holds the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file; white space around its content is cut off.
    File(PathBuf),
}

/// A secret. Its text appears in no log, error or dump.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself: hand it to a comparison or a server, never to a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An address that accepts client traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS with this certificate; HTTP/2 and HTTP/1.1 by ALPN.
    pub tls: Option<Tls>,
    /// Whether HTTP/2 in clear text with prior knowledge is accepted.
    pub h2c: bool,
    /// Whether `/services/<service>/` and `/services/<service>_<target>/` lead to every service that it carries.
    pub service_paths: bool,
    /// The domain below which versions under test are reached: `<service>.<deployment or bracket>.<domain>`.
    pub preview: Option<String>,
}

/// A certificate and its key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}
