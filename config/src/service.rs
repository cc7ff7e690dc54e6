//! A service and everything that the file can say about it.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{
    EndpointSpec, EnvironmentSpec, FailoverHooks, FlagName, ListenerId, MirrorId, RouteSpec, RuleSpec, SecretSource,
    Split, TargetId, Weight,
};

/// A service as the file declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSpec {
    /// Listeners that carry it; `None`: all of them.
    pub listeners: Option<Vec<ListenerId>>,
    /// Its routes, at least one.
    pub routes: Vec<RouteSpec>,
    /// The target that carries the service when nothing else says otherwise.
    pub stable: TargetId,
    /// Weights; names only declared targets.
    pub split: Split,
    /// Who sticky decisions are about; `None`: every request is decided for itself.
    pub sticky: Option<Sticky>,
    /// How health is known.
    pub health: HealthPolicy,
    /// Where to go when the stable target is down.
    pub failover: Option<FailoverPolicy>,
    /// How long requests on a removed or drained target may go on (default 30 s).
    pub drain: Duration,
    /// Upper bounds of waits.
    pub timeouts: Timeouts,
    /// Attempts after a failed one.
    pub retry: Retry,
    /// Rules, first match wins.
    pub rules: Vec<RuleSpec>,
    /// Targets, at least the stable one.
    pub targets: BTreeMap<TargetId, TargetSpec>,
    /// Mirrors.
    pub mirrors: BTreeMap<MirrorId, MirrorSpec>,
    /// A secret that authorises a pin (`X-Tidegate-Target`) on this service, beside the admin tokens.
    pub pin: Option<SecretSource>,
    /// Whether answers name their target (`X-Tidegate-Target`) and generation (`X-Tidegate-Generation`); default no.
    pub expose: bool,
    /// Largest request body in bytes; `None`: no limit.
    pub max_body: Option<u64>,
    /// How its environments are started, stopped and kept.
    pub environment: EnvironmentSpec,
}

/// One version or environment of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSpec {
    /// Its endpoints, at least one, no address twice.
    pub endpoints: Vec<EndpointSpec>,
}

/// What a sticky decision is keyed by. A client without the key gets our cookie, so nobody is excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// Name of the cookie that holds the visitor id (default `tidegate`).
    pub cookie: String,
    /// A header whose value is the visitor, if the client sends it (lower case).
    pub header: Option<String>,
    /// How long the cookie lives (default 30 days).
    pub max_age: Duration,
}

/// How the health of a service's endpoints is known.
#[derive(Debug, Clone, PartialEq)]
pub enum HealthPolicy {
    /// `health = false`: in use until passive signs speak against it.
    Passive,
    /// Probes, beside the passive signs.
    Active(ActiveCheck),
}

/// An active health check.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveCheck {
    /// What is sent, and what must come back.
    pub probe: Probe,
    /// Time between probes (default 5 s), spread by ±10 %.
    pub interval: Duration,
    /// Total time a probe may take (default 2 s).
    pub timeout: Duration,
    /// Failures in a row that take an endpoint out (default 2, at least 1).
    pub fall: u32,
    /// Successes in a row that bring it back (default 2, at least 1).
    pub rise: u32,
}

/// One kind of probe.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// A TCP (or Unix socket) connection that opens.
    Tcp,
    /// An HTTP request.
    Http {
        /// Method, upper case (default GET).
        method: String,
        /// Path and query (default `/`).
        path: String,
        /// Host header; `None`: the endpoint's address.
        host: Option<String>,
        /// Further headers.
        headers: BTreeMap<String, String>,
        /// What the answer must be.
        expect: Expect,
    },
}

/// What a healthy answer looks like.
#[derive(Debug, Clone)]
pub struct Expect {
    /// Status codes, any of these ranges (default 200 to 399).
    pub status: Vec<RangeInclusive<u16>>,
    /// A pattern that the first 64 KiB of the body must contain.
    pub body: Option<Regex>,
}

impl PartialEq for Expect {
    /// Patterns are equal when their text is: two compilations of it match the same.
    fn eq(&self, other: &Self) -> bool {
        self.status == other.status && self.body.as_ref().map(Regex::as_str) == other.body.as_ref().map(Regex::as_str)
    }
}

/// Where a service goes when its stable target is down, and how it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverPolicy {
    /// The target to go to.
    pub to: TargetId,
    /// How it comes back.
    pub failback: FailbackMode,
    /// Commands around it.
    pub hooks: FailoverHooks,
}

/// How a failover ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailbackMode {
    /// Only by `restore`; kept over restarts.
    Manual,
    /// After 30 s of health, in a 10 s ramp.
    Auto,
    /// By `restore`, or by a restart of the proxy.
    Restart,
}

/// Upper bounds of a request's waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection to an endpoint, TLS included (default 2 s).
    pub connect: Duration,
    /// From the request sent to the head of the answer, and between two parts of its body (default 60 s).
    pub response: Duration,
    /// How long an unused connection, to a client or an endpoint, is kept (default 60 s).
    pub idle: Duration,
}

/// Attempts after a failed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts after the first (default 2: another endpoint, then stable; 0 to 5).
    pub attempts: u32,
    /// Retries of requests that were sent, in percent of the active requests (default 20, 0 to 100).
    pub budget: u32,
}

/// A policy that copies requests to a shadow target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MirrorSpec {
    /// The shadow target.
    pub to: TargetId,
    /// Share of requests that are copied.
    pub percent: Weight,
    /// Methods that are copied, upper case; `["*"]`: all (default GET and HEAD).
    pub methods: Vec<String>,
    /// Longest body that is copied, in bytes (default 64 KiB).
    pub max_body: u64,
    /// Whether answers are compared with the primary's.
    pub compare: bool,
    /// JSON paths that a comparison leaves out.
    pub ignore: Vec<String>,
    /// Headers that are taken off the copy, lower case.
    pub remove_headers: Vec<String>,
    /// Headers that are set on the copy.
    pub set_headers: BTreeMap<String, String>,
    /// It copies only while this flag is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<FlagName>,
}
