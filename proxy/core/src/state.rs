//! What is wanted of every service now: the file's declaration, what operators changed, and the failover overlay.
//!
//! Immutable: [`apply`](crate::apply) makes the next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidegate_config::{
    EndpointAddress, FlagName, ListenerId, MirrorId, MirrorSpec, ServiceId, ServiceSpec, Split, TargetId, TargetSpec,
    Weight,
};

use crate::health::Health;

/// The number of a snapshot: each published change is one more. Kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment, given from outside: this crate reads no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Monotonic time since the process began: every rule about durations follows this one.
    pub mono: Duration,
    /// Milliseconds since the Unix epoch: only shown to people.
    pub unix_ms: u64,
}

/// Everything that is wanted, and what is known of the endpoints' health.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Its number.
    pub generation: Generation,
    /// The listeners that exist, in the order of their [`ListenerIdx`](crate::ListenerIdx).
    pub listeners: Arc<[ListenerId]>,
    /// The services. Unchanged ones are shared between states, which is how `compile` knows what to reuse.
    pub services: BTreeMap<ServiceId, Arc<ServiceState>>,
    /// Values of flags, as text. Shared while they are the same.
    pub flags: Arc<BTreeMap<FlagName, String>>,
}

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceState {
    /// What the file declares.
    pub spec: Arc<ServiceSpec>,
    /// What is wanted now: the file's values, and what operators and deployments changed of them.
    pub wanted: Wanted,
    /// A failover, while one is on.
    pub overlay: Option<Overlay>,
    /// Health per endpoint; an endpoint that is absent here is [`Health::Unknown`].
    pub health: BTreeMap<TargetId, BTreeMap<EndpointAddress, Health>>,
    /// Addresses of endpoints that are given by name, as last resolved.
    pub resolved: BTreeMap<EndpointAddress, Vec<SocketAddr>>,
    /// Moments (monotonic) until which targets that left may finish what they run.
    pub draining: BTreeMap<TargetId, Duration>,
}

/// The part of a service that operators and deployments change, and that is persisted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The stable target.
    pub stable: TargetId,
    /// The weights.
    pub split: Split,
    /// The targets.
    pub targets: BTreeMap<TargetId, TargetSpec>,
    /// The mirrors.
    #[serde(default)]
    pub mirrors: BTreeMap<MirrorId, MirrorSpec>,
    /// Targets that take no new requests though they are configured.
    #[serde(default)]
    pub drained: BTreeSet<TargetId>,
    /// Salt of the sticky hash; a deployment sets a new one. Empty: the service's name.
    #[serde(default)]
    pub salt: String,
}

impl Wanted {
    /// What the file declares.
    pub fn declared(spec: &ServiceSpec) -> Self {
        Self {
            stable: spec.stable.clone(),
            split: spec.split.clone(),
            targets: spec.targets.clone(),
            mirrors: spec.mirrors.clone(),
            drained: BTreeSet::new(),
            salt: String::new(),
        }
    }
}

/// A failover: it moves the service's split traffic to another target and never rewrites the split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The target that the service was moved off.
    pub from: TargetId,
    /// The target that carries it now.
    pub to: TargetId,
    /// Share of the split's traffic that is moved: 100 %, but less in the ramp of an automatic failback.
    pub share: Weight,
    /// Who moved it.
    pub cause: Cause,
    /// When, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// How far an automatic failback has come. Timers start anew after a restart.
    #[serde(skip)]
    pub phase: Phase,
}

/// Who began a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The health checks.
    Health,
    /// An operator.
    Operator,
}

/// How far an automatic failback has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// The target that was left is not healthy, or the failback is not automatic.
    #[default]
    Holding,
    /// It is healthy since this moment.
    Proving {
        /// Monotonic.
        since: Duration,
    },
    /// Traffic is being given back since this moment.
    Ramping {
        /// Monotonic.
        since: Duration,
    },
}

/// What is persisted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// The generation that was last published.
    pub generation: Generation,
    /// The services.
    pub services: BTreeMap<ServiceId, SavedService>,
}

/// What is persisted of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedService {
    /// What the file declared when it was last loaded: a field that differs in today's file was edited, and wins.
    pub file: Wanted,
    /// What was wanted.
    pub wanted: Wanted,
    /// A failover that outlives a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
}
