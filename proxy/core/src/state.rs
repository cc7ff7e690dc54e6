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
    Config, EndpointAddress, FailbackMode, HealthPolicy, Listener, ListenerId, MirrorId, MirrorSpec, ServiceId,
    ServiceSpec, Split, TargetId, TargetSpec, Weight,
};

use crate::{
    flags::{FlagState, SavedFlags},
    health::Health,
    merge::{Difference, merge},
    preview::{self, Previews},
};

/// Generations that a start skips ahead to, at most: health moves the generation without saving it, so a start goes to
/// the next multiple of this, and [`Change::persists`](crate::Change::persists) saves when a multiple is passed.
/// No generation ever names two different states.
const GENERATION_BLOCK: u64 = 100;

/// The number of a snapshot: each published change is one more. Kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The block that it belongs to.
    pub(crate) fn block(self) -> u64 {
        self.0 / GENERATION_BLOCK
    }

    /// The first one that cannot have been published if this was the last that was saved.
    fn after_restart(self) -> Self {
        Self((self.block().saturating_add(1)).saturating_mul(GENERATION_BLOCK))
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
    /// What each of them offers beside routes.
    pub offers: Arc<[ListenerOffer]>,
    /// Versions under test.
    pub previews: Arc<Previews>,
    /// The services. Unchanged ones are shared between states, which is how `compile` knows what to reuse.
    pub services: BTreeMap<ServiceId, Arc<ServiceState>>,
    /// What is known of flags. Shared while it is the same.
    pub flags: Arc<FlagState>,
}

impl State {
    /// The state to begin with: what the file declares, and what was saved of it, by the rule of
    /// [`merge`](crate::merge).
    ///
    /// No endpoint is known to be healthy yet, but those of services without health checks.
    pub fn load(config: &Config, saved: Option<&Saved>) -> (Self, Vec<Difference>) {
        let mut differences = Vec::new();
        let mut services = BTreeMap::new();
        for (id, spec) in &config.services {
            let kept = saved.and_then(|saved| saved.services.get(id));
            let (service, mut found) = ServiceState::load(id, spec, kept);
            differences.append(&mut found);
            services.insert(id.clone(), Arc::new(service));
        }
        // From the first request on: whoever tests them may come later than the traffic.
        let previews = saved.map(|saved| saved.previews.clone()).unwrap_or_default();
        for id in previews.values().flat_map(|preview| preview.members.keys()) {
            if let Some(service) = services.get_mut(id) {
                Arc::make_mut(service).under_test = preview::under_test(&previews, id);
            }
        }
        if let Some(saved) = saved {
            let gone = saved.services.keys().filter(|id| !config.services.contains_key(*id));
            differences
                .extend(gone.map(|id| Difference::of_service(id, "is forgotten: the file no longer declares it")));
        }
        let generation = saved.map_or(Generation(1), |saved| saved.generation.after_restart());
        let listeners = config.listeners.keys().cloned().collect();
        let offers = ListenerOffer::all(config);
        let (flags, mut found) = FlagState::load(&config.flags, saved.map(|saved| &saved.flags));
        differences.append(&mut found);
        let previews = Arc::new(previews);
        (Self { generation, listeners, offers, previews, services, flags: Arc::new(flags) }, differences)
    }
}

/// What a listener offers beside the routes of its services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerOffer {
    /// Whether `/services/<service>/` and `/services/<service>_<target>/` lead to every service that it carries.
    pub service_paths: bool,
    /// The domain below which versions under test are reached.
    pub preview: Option<Arc<str>>,
}

impl ListenerOffer {
    /// What the listeners of a file offer, in their order.
    pub(crate) fn all(config: &Config) -> Arc<[Self]> {
        let offer = |listener: &Listener| Self {
            service_paths: listener.service_paths,
            preview: listener.preview.as_deref().map(Arc::from),
        };
        config.listeners.values().map(offer).collect()
    }
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
    /// A failover that is decided and waits for its first command. Not persisted: a restart decides anew.
    pub preparation: Option<Preparation>,
    /// Health per endpoint; an endpoint that is absent here is [`Health::Unknown`].
    pub health: BTreeMap<TargetId, BTreeMap<EndpointAddress, Health>>,
    /// Addresses of endpoints that are given by name, as last resolved.
    pub resolved: BTreeMap<EndpointAddress, Vec<SocketAddr>>,
    /// Moments (monotonic) until which targets that left may finish what they run.
    pub draining: BTreeMap<TargetId, Duration>,
    /// Targets whose new versions are under test.
    pub under_test: BTreeSet<TargetId>,
}

impl ServiceState {
    /// What is known of an endpoint's health.
    pub fn health_of(&self, target: &TargetId, endpoint: &EndpointAddress) -> Health {
        self.health.get(target).and_then(|known| known.get(endpoint)).copied().unwrap_or_default()
    }

    /// Whether a target is under test and was not released: requests that do not ask for it never go there.
    pub fn is_sealed(&self, target: &TargetId) -> bool {
        let wanted = &self.wanted;
        let carries = || wanted.stable == *target || wanted.split.iter().any(|(carrying, _)| carrying == target);
        self.under_test.contains(target) && !carries()
    }

    /// What the file declares, with nothing known of it yet.
    pub(crate) fn declared(spec: &ServiceSpec) -> Self {
        let mut service = Self {
            spec: Arc::new(spec.clone()),
            wanted: Wanted::declared(spec),
            overlay: None,
            preparation: None,
            health: BTreeMap::new(),
            resolved: BTreeMap::new(),
            draining: BTreeMap::new(),
            under_test: BTreeSet::new(),
        };
        service.forget_what_is_gone();
        service
    }

    fn load(id: &ServiceId, spec: &ServiceSpec, saved: Option<&SavedService>) -> (Self, Vec<Difference>) {
        let mut service = Self::declared(spec);
        let Some(saved) = saved else { return (service, Vec::new()) };
        let (wanted, mut differences) = merge(id, spec, &saved.file, &saved.wanted);
        service.wanted = wanted;
        let overlay = saved.overlay.clone().filter(|_| !service.fails_back_at_restart());
        service.overlay = overlay.clone().filter(|overlay| overlay.fits(&service.wanted));
        if let (Some(overlay), None) = (overlay, &service.overlay) {
            let text = format!("to {} ended: the file was edited, and it does not fit any more", overlay.to);
            differences.push(Difference { service: Some(id.clone()), field: "failover".into(), message: text });
        }
        service.forget_what_is_gone();
        (service, differences)
    }

    /// Forgets what was known of targets and endpoints that are not configured any more. Where nothing probes,
    /// endpoints are in use from the start.
    pub(crate) fn forget_what_is_gone(&mut self) {
        let targets = &self.wanted.targets;
        let has = |target: &TargetId, endpoint: &EndpointAddress| {
            targets.get(target).is_some_and(|spec| spec.endpoints.iter().any(|e| e.address == *endpoint))
        };
        self.health.retain(|target, known| {
            known.retain(|endpoint, _| has(target, endpoint));
            !known.is_empty()
        });
        self.resolved.retain(|endpoint, _| targets.keys().any(|target| has(target, endpoint)));
        if matches!(self.spec.health, HealthPolicy::Passive) {
            for (target, spec) in targets {
                let known = self.health.entry(target.clone()).or_default();
                for endpoint in &spec.endpoints {
                    known.entry(endpoint.address.clone()).or_insert(Health::Healthy);
                }
            }
        }
        self.draining.retain(|target, _| !targets.contains_key(target) || self.wanted.drained.contains(target));
    }

    /// Whether nothing is wanted but what the file declares: then there is nothing to save, since the file wins every
    /// field anyway, and a change of one service among thousands does not write them all.
    fn is_as_declared(&self) -> bool {
        let Wanted { stable, split, targets, mirrors, drained, salt, hold } = &self.wanted;
        let spec = &self.spec;
        (stable, split, targets, mirrors) == (&spec.stable, &spec.split, &spec.targets, &spec.mirrors)
            && drained.is_empty()
            && salt.is_empty()
            && *hold == Hold::Off
            && (self.overlay.is_none() || self.fails_back_at_restart())
    }

    fn fails_back_at_restart(&self) -> bool {
        self.spec.failover.as_ref().is_some_and(|policy| policy.failback == FailbackMode::Restart)
    }
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
    /// Whether requests are kept waiting instead of being sent.
    #[serde(default)]
    pub hold: Hold,
}

/// Whether a service keeps its requests waiting, while a deployment has nothing that could answer them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// Requests are sent.
    #[default]
    Off,
    /// Requests wait as long as they may wait for a first endpoint, and are then refused. What a failover carries and
    /// what is pinned goes on.
    On,
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
            hold: Hold::Off,
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

impl Overlay {
    /// Whether it moves the stable target's traffic to a target that exists.
    pub(crate) fn fits(&self, wanted: &Wanted) -> bool {
        self.from == wanted.stable && self.to != self.from && wanted.targets.contains_key(&self.to)
    }
}

/// A failover that is decided, and that waits until its first command is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// The target that is to be left.
    pub from: TargetId,
    /// The target that is to carry the service.
    pub to: TargetId,
    /// Who wants it.
    pub cause: Cause,
    /// Why, for people.
    pub reason: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// Runs of the command that failed.
    pub failures: u32,
    /// How far it has come.
    pub stage: PreparationStage,
}

/// How far the preparation of a failover has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreparationStage {
    /// The command runs.
    Running {
        /// Since this moment (monotonic), which also says which run is meant.
        begun: Duration,
    },
    /// It failed, and the service stays where it is until it succeeds.
    Held {
        /// When it is tried again (monotonic).
        again: Duration,
    },
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

/// When a command around a failover runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailoverStage {
    /// Before the service moves.
    Before,
    /// After it has moved.
    After,
}

impl FailoverStage {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
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
    /// The services of which something else is wanted than the file declares.
    pub services: BTreeMap<ServiceId, SavedService>,
    /// Flags in the process, and overrides.
    #[serde(default, skip_serializing_if = "SavedFlags::is_empty")]
    pub flags: SavedFlags,
    /// Versions under test.
    #[serde(default, skip_serializing_if = "Previews::is_empty")]
    pub previews: Previews,
}

impl Saved {
    /// What is to be persisted of a state.
    pub fn of(state: &State) -> Self {
        let changed = state.services.iter().filter(|(_, service)| !service.is_as_declared());
        let services = changed.map(|(id, service)| (id.clone(), SavedService::of(service))).collect();
        let previews = Previews::clone(&state.previews);
        Self { generation: state.generation, services, flags: SavedFlags::of(&state.flags), previews }
    }
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

impl SavedService {
    /// What is to be persisted of a service. The steps of an automatic failback are not: after a restart it proves
    /// itself anew, and no step has to wait for the disk.
    pub fn of(service: &ServiceState) -> Self {
        let overlay = service.overlay.clone().filter(|_| !service.fails_back_at_restart());
        Self {
            file: Wanted::declared(&service.spec),
            wanted: service.wanted.clone(),
            overlay: overlay.map(|overlay| Overlay { share: Weight::FULL, phase: Phase::Holding, ..overlay }),
        }
    }
}

#[cfg(test)]
mod tests;
