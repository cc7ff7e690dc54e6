//! From a state and a change to the next state: all or nothing.
//!
//! A change that changes nothing keeps the generation and tells no event; every other one is one generation. Services
//! that it does not touch stay the very same [`Arc`].

#[cfg(test)]
pub(crate) mod fixtures;
mod flags;
mod mirrors;
mod observed;
mod previews;
#[cfg(test)]
mod properties;
mod release;
mod reload;
mod targets;
#[cfg(test)]
mod tests;
mod traffic;

pub(crate) use mirrors::MAX_MIRRORS;
pub use release::{Release, ReleaseCause};

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use http::StatusCode;
use tidegate_config::{
    Config, EndpointAddress, FlagName, MirrorId, MirrorSpec, ServiceId, SourceId, Split, TargetId, TargetSpec,
};

use crate::{
    deploy::DeploymentId,
    event::Event,
    flags::{FlagState, SavedFlags, SourceReport},
    health::Health,
    preview::Previews,
    state::{ListenerOffer, Moment, SavedService, ServiceState, State},
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
    /// Set the traffic of several services in one step: all of them or none.
    Release {
        /// The deployment that asks for it.
        deployment: DeploymentId,
        /// What each service's traffic is to be.
        services: BTreeMap<ServiceId, Release>,
        /// Whether it goes forward or back.
        cause: ReleaseCause,
    },
    /// Say which versions are under test, all of them.
    Previews {
        /// They.
        previews: Previews,
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
    /// The command before a failover has ended.
    Prepared {
        /// Where.
        service: ServiceId,
        /// Which run: the moment (monotonic) at which it began. One that is not waited for any more changes nothing.
        run: Duration,
        /// Why it failed; `None`: it succeeded.
        failure: Option<String>,
    },
    /// Addresses of a name.
    Resolved {
        /// The endpoint as configured, wherever it occurs.
        endpoint: EndpointAddress,
        /// Its addresses now; empty: it does not resolve.
        sockets: Vec<SocketAddr>,
    },
    /// What became of a flag source.
    Readings {
        /// The source. One that is not configured any more is ignored.
        source: SourceId,
        /// What became of it.
        report: SourceReport,
    },
    /// Set the value of a flag in the process.
    SetFlag {
        /// The flag, which must be one whose values are read there.
        flag: FlagName,
        /// The value.
        value: String,
    },
    /// Remove the value of a flag in the process.
    UnsetFlag {
        /// The flag.
        flag: FlagName,
    },
    /// Give a flag a value that wins over its source for a while.
    OverrideFlag {
        /// The flag.
        flag: FlagName,
        /// The value.
        value: String,
        /// For how long.
        ttl: Duration,
    },
    /// End an override.
    ClearOverride {
        /// The flag.
        flag: FlagName,
    },
    /// Time has passed: automatic failbacks, drains and overrides may go on or end.
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
    /// No such flag.
    #[error("there is no flag {0}")]
    UnknownFlag(FlagName),
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

impl ChangeError {
    /// The status that stands for it over HTTP.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownService(_) | Self::UnknownFlag(_) | Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
        }
    }

    fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { path: path.into(), message: message.into() }
    }
}

impl Change {
    /// Whether it is made even when it cannot be persisted: moves away from trouble, and what the process itself has
    /// seen, which no refusal would undo.
    pub fn is_emergency(&self) -> bool {
        match self {
            Self::Switch { .. }
            | Self::Failover { .. }
            | Self::Restore { .. }
            | Self::Health { .. }
            | Self::Prepared { .. }
            | Self::Resolved { .. }
            | Self::Release { cause: ReleaseCause::Undo, .. }
            | Self::Readings { .. }
            | Self::OverrideFlag { .. }
            | Self::ClearOverride { .. }
            | Self::Previews { .. }
            | Self::Tick => true,
            Self::Split { .. }
            | Self::PutTarget { .. }
            | Self::RemoveTarget { .. }
            | Self::Drain { .. }
            | Self::PutMirror { .. }
            | Self::RemoveMirror { .. }
            | Self::Release { cause: ReleaseCause::Forward, .. }
            | Self::SetFlag { .. }
            | Self::UnsetFlag { .. }
            | Self::Reload { .. } => false,
        }
    }

    /// Whether going from one state to the next changes what is [`Saved`](crate::Saved), or passes into generations
    /// that a restart would give out again.
    pub fn persists(before: &State, after: &State) -> bool {
        let same = |(id, service): (&ServiceId, &Arc<ServiceState>)| {
            before
                .services
                .get(id)
                .is_some_and(|old| Arc::ptr_eq(old, service) || SavedService::of(old) == SavedService::of(service))
        };
        before.generation.block() != after.generation.block()
            || before.services.len() != after.services.len()
            || before.previews != after.previews
            || !after.services.iter().all(same)
            || !(Arc::ptr_eq(&before.flags, &after.flags)
                || SavedFlags::of(&before.flags) == SavedFlags::of(&after.flags))
    }
}

/// Applies a change.
///
/// # Errors
/// A [`ChangeError`] when the change does not fit; nothing has changed then.
pub fn apply(state: &State, change: &Change, now: Moment) -> Result<Applied, ChangeError> {
    let on = |id: &ServiceId, edit: &dyn Fn(&mut ServiceState) -> Edited| on_service(state, id, edit);
    match change {
        Change::Switch { service, to } => on(service, &|s| traffic::switch(service, s, to)),
        Change::Split { service, split } => on(service, &|s| traffic::split(service, s, split)),
        Change::Failover { service, to } => on(service, &|s| traffic::fail_over(service, s, to, now)),
        Change::Restore { service } => on(service, &|s| traffic::restore(service, s)),
        Change::PutTarget { service, target, spec } => on(service, &|s| targets::put(service, s, target, spec)),
        Change::RemoveTarget { service, target } => on(service, &|s| targets::remove(service, s, target, now)),
        Change::Drain { service, target } => on(service, &|s| targets::drain(service, s, target, now)),
        Change::PutMirror { service, mirror, spec } => {
            flags::must_be_known(state, spec.flag.as_ref(), "flag")?;
            on(service, &|s| mirrors::put(service, s, mirror, spec))
        }
        Change::RemoveMirror { service, mirror } => on(service, &|s| mirrors::remove(service, s, mirror)),
        Change::Previews { previews } => Ok(previews::set(state, previews)),
        Change::Release { services, .. } => release::release(state, services, now),
        Change::Reload { config } => reload::reload(state, config, now),
        Change::Health { reports } => Ok(observed::health(state, reports, now)),
        Change::Prepared { service, run, failure } => {
            Ok(observed::prepared(state, service, *run, failure.as_deref(), now))
        }
        Change::Resolved { endpoint, sockets } => Ok(observed::resolved(state, endpoint, sockets, now)),
        Change::Readings { source, report } => Ok(flags::readings(state, source, report, now)),
        Change::SetFlag { flag, value } => flags::set(state, flag, value, now),
        Change::UnsetFlag { flag } => flags::unset(state, flag),
        Change::OverrideFlag { flag, value, ttl } => flags::put_override(state, flag, value, *ttl, now),
        Change::ClearOverride { flag } => flags::clear_override(state, flag),
        Change::Tick => Ok(observed::tick(state, now)),
    }
}

/// What an edit of one service did to it; no events and no change where nothing had to be done.
type Edited = Result<Vec<Event>, ChangeError>;

fn on_service(
    state: &State,
    id: &ServiceId,
    edit: &dyn Fn(&mut ServiceState) -> Edited,
) -> Result<Applied, ChangeError> {
    let old = state.services.get(id).ok_or_else(|| ChangeError::UnknownService(id.clone()))?;
    let mut service = ServiceState::clone(old);
    let events = edit(&mut service)?;
    let edited = BTreeMap::from([(id.clone(), service)]);
    Ok(Draft { edited, events, ..Draft::default() }.finish(state))
}

/// What a change makes of a state, before it is known whether anything is different.
#[derive(Default)]
struct Draft {
    /// Services that are new or were edited.
    edited: BTreeMap<ServiceId, ServiceState>,
    /// Services that are gone.
    gone: Vec<ServiceId>,
    /// Flags, if they were read anew.
    flags: Option<FlagState>,
    /// What listeners offer, if that was read anew.
    offers: Option<Arc<[ListenerOffer]>>,
    /// Versions under test, if they are others now.
    previews: Option<Arc<Previews>>,
    /// What happened.
    events: Vec<Event>,
}

impl Draft {
    /// The next state. Services that are the same as before stay the very same [`Arc`]; if everything is the same, so
    /// is the generation.
    fn finish(self, state: &State) -> Applied {
        let mut next = state.clone();
        let mut changed = false;
        for (id, service) in self.edited {
            if state.services.get(&id).is_none_or(|old| **old != service) {
                next.services.insert(id, Arc::new(service));
                changed = true;
            }
        }
        for id in &self.gone {
            changed |= next.services.remove(id).is_some();
        }
        if let Some(flags) = self.flags.filter(|flags| *flags != *state.flags) {
            next.flags = Arc::new(flags);
            changed = true;
        }
        if let Some(offers) = self.offers.filter(|offers| *offers != state.offers) {
            next.offers = offers;
            changed = true;
        }
        if let Some(previews) = self.previews.filter(|previews| *previews != state.previews) {
            next.previews = previews;
            changed = true;
        }
        if !changed {
            return Applied { state: next, events: Vec::new() };
        }
        next.generation = state.generation.next();
        Applied { state: next, events: self.events }
    }
}
