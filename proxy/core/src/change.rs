//! From a state and a change to the next state: all or nothing.

use std::{net::SocketAddr, sync::Arc};

use tidegate_config::{Config, EndpointAddress, MirrorId, MirrorSpec, ServiceId, Split, TargetId, TargetSpec};

use crate::{
    event::Event,
    health::Health,
    state::{Moment, State},
};

/// A change of the state.
#[derive(Debug, Clone)]
pub enum Change {
    /// Make a target stable, with 100 %.
    Switch {
        /// Where.
        service: ServiceId,
        /// The target.
        to: TargetId,
    },
    /// Set the weights; the stable target stays.
    Split {
        /// Where.
        service: ServiceId,
        /// The weights.
        split: Split,
    },
    /// Move a service to another target by an overlay.
    Failover {
        /// Where.
        service: ServiceId,
        /// The target.
        to: TargetId,
    },
    /// End a failover.
    Restore {
        /// Where.
        service: ServiceId,
    },
    /// Add or replace a target.
    PutTarget {
        /// Where.
        service: ServiceId,
        /// The target.
        target: TargetId,
        /// Its endpoints.
        spec: TargetSpec,
    },
    /// Remove a target that carries nothing.
    RemoveTarget {
        /// Where.
        service: ServiceId,
        /// The target.
        target: TargetId,
    },
    /// Stop new requests to a target that is not stable.
    Drain {
        /// Where.
        service: ServiceId,
        /// The target.
        target: TargetId,
    },
    /// Add or replace a mirror.
    PutMirror {
        /// Where.
        service: ServiceId,
        /// The mirror.
        mirror: MirrorId,
        /// What it copies.
        spec: MirrorSpec,
    },
    /// Remove a mirror.
    RemoveMirror {
        /// Where.
        service: ServiceId,
        /// The mirror.
        mirror: MirrorId,
    },
    /// A new file.
    Reload {
        /// What it says.
        config: Arc<Config>,
    },
    /// What the health checks found. Endpoints that are no longer configured are ignored.
    Health {
        /// The findings.
        reports: Vec<HealthReport>,
    },
    /// Addresses of a name.
    Resolved {
        /// The endpoint as configured, wherever it occurs.
        endpoint: EndpointAddress,
        /// Its addresses now; empty: it does not resolve.
        sockets: Vec<SocketAddr>,
    },
    /// Time has passed: automatic failbacks and drains may go on.
    Tick,
}

/// A change of one endpoint's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// Where.
    pub service: ServiceId,
    /// Its target.
    pub target: TargetId,
    /// The endpoint.
    pub endpoint: EndpointAddress,
    /// What it is now.
    pub health: Health,
    /// Why, for people.
    pub reason: String,
}

/// What a change made.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The next state; its generation is one more if anything changed, else the same.
    pub state: State,
    /// What happened; empty when nothing changed.
    pub events: Vec<Event>,
}

/// Why a change is refused. The state stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such service.
    #[error("there is no service {0}")]
    UnknownService(ServiceId),
    /// The thing that is to be removed, drained or shown does not exist.
    #[error("service {service} has no {kind} {name}")]
    Unknown {
        /// Where.
        service: ServiceId,
        /// What kind of thing: target or mirror.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The input names something that does not exist, or breaks a rule.
    #[error("{path}: {message}")]
    Invalid {
        /// Where in the input.
        path: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The change does not fit the state as it is now.
    #[error("{0}")]
    Conflict(String),
}

/// Applies a change.
///
/// # Errors
/// A [`ChangeError`] when the change does not fit; nothing has changed then.
pub fn apply(state: &State, change: &Change, now: Moment) -> Result<Applied, ChangeError> {
    let _ = (state, change, now);
    Err(ChangeError::Conflict("not built".into()))
}
