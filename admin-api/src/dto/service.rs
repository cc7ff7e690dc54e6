//! What is shown of a service.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_config::{FailbackMode, MirrorSpec, RouteHost, RouteSpec, Sticky, TargetSpec};
use tidegate_core::{
    Generation, Hold, Overlay, Service, ServiceState, Snapshot, Target, Wanted,
    state::{Moment, Phase, Preparation, PreparationStage},
};
use utoipa::ToSchema;

use crate::dto::{
    event::{CauseView, HealthView},
    mirror::{MirrorView, by_class},
    percent::{Percent, Weights, weights},
    time::rfc3339,
};

/// A service: what is wanted of it, and how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// The generation that this is of; `If-Match` takes it in quotes.
    pub generation: u64,
    /// The target that carries the service when nothing else says otherwise.
    pub stable: String,
    /// The weights in percent; targets that are not named have none.
    #[schema(example = json!({ "green": 95, "blue": 5 }))]
    pub split: Weights,
    /// Whether requests wait, for a bounded time, instead of being sent.
    #[serde(default)]
    pub hold: bool,
    /// Its targets, by name.
    pub targets: Vec<TargetView>,
    /// Targets that are no longer configured, while what still runs on them may finish.
    #[serde(default)]
    pub removed: Vec<RemovedTarget>,
    /// The failover policy, and the failover that is on.
    pub failover: FailoverView,
    /// Its mirrors, by name.
    pub mirrors: Vec<MirrorView>,
    /// Who sticky decisions are about; absent: every request is decided for itself.
    pub sticky: Option<StickyView>,
    /// Listeners that carry it.
    pub listeners: Vec<String>,
    /// Its routes.
    pub routes: Vec<RouteView>,
    /// Where what is wanted differs from what the file declares.
    pub differences: Vec<DifferenceView>,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "green", "weight": 95, "status": "open", "available": true, "running": 3, "requests": 1200, "diverted": 0,
    "statuses": { "2xx": 1200 }, "closes_in_ms": null, "endpoints": [{
        "address": "127.0.0.1:3002", "weight": 1, "health": "healthy", "in_flight": 3, "requests": 1200, "failures": 0
    }]
}))]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// Its weight in the split, in percent.
    pub weight: Percent,
    /// Whether it takes new requests.
    pub status: TargetStatus,
    /// Whether any endpoint may be chosen.
    pub available: bool,
    /// Requests that run on it now.
    pub running: u64,
    /// While it drains: when what still runs is closed, in milliseconds from now.
    pub closes_in_ms: Option<u64>,
    /// Requests that it answered.
    pub requests: u64,
    /// Requests that chose it and were sent elsewhere because it had no available endpoint.
    pub diverted: u64,
    /// Its answers by class of their status.
    #[schema(example = json!({ "2xx": 1200 }))]
    pub statuses: BTreeMap<String, u64>,
    /// Its endpoints, in the order of the file.
    pub endpoints: Vec<EndpointView>,
}

/// A target that was removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "name": "v2", "closes_in_ms": 12000 }))]
pub struct RemovedTarget {
    /// Its name.
    pub name: String,
    /// When what still runs is closed, in milliseconds from now.
    pub closes_in_ms: u64,
}

/// Whether a target takes new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetStatus {
    /// It does.
    Open,
    /// It does not; what runs on it may finish.
    Draining,
    /// It does not, and nothing runs on it.
    Drained,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndpointView {
    /// Its address.
    pub address: String,
    /// Relative weight within the target.
    pub weight: u16,
    /// What is known of it.
    pub health: HealthView,
    /// Requests that run on it now.
    pub in_flight: u32,
    /// Requests that it was given.
    pub requests: u64,
    /// Connect errors, timeouts and resets.
    pub failures: u64,
}

/// Failover of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FailoverView {
    /// Where it goes when its target is down; absent: nowhere.
    pub policy: Option<FailoverPolicyView>,
    /// The failover that is on; absent: none.
    pub active: Option<ActiveFailover>,
    /// A failover that is decided and waits for the command before it; absent: none.
    #[serde(default)]
    pub preparing: Option<PreparingFailover>,
}

/// A failover policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "to": "blue", "failback": "manual" }))]
pub struct FailoverPolicyView {
    /// The target to go to.
    pub to: String,
    /// How it comes back: `manual`, `auto` or `restart`.
    pub failback: String,
}

/// A failover that is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "from": "green", "to": "blue", "share": 100, "cause": "health", "phase": "holding",
    "since": "2026-11-03T09:15:00.250Z", "since_unix_ms": 1793697300250_u64
}))]
pub struct ActiveFailover {
    /// The target that was left.
    pub from: String,
    /// The target that carries the service.
    pub to: String,
    /// The share that is moved, in percent.
    pub share: Percent,
    /// Who moved it.
    pub cause: CauseView,
    /// How far an automatic failback has come.
    pub phase: PhaseView,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

/// A failover that waits for the command before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "from": "green", "to": "blue", "cause": "health", "held": false,
    "reason": "no endpoint of green is available: 127.0.0.1:3002 is unhealthy",
    "since": "2026-11-03T09:15:00.250Z", "since_unix_ms": 1793697300250_u64
}))]
pub struct PreparingFailover {
    /// The target that is to be left.
    pub from: String,
    /// The target that is to carry the service.
    pub to: String,
    /// Who wants it.
    pub cause: CauseView,
    /// Whether the command has failed, and the service stays where it is until it succeeds.
    pub held: bool,
    /// Why, for people.
    pub reason: String,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

/// How far an automatic failback has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PhaseView {
    /// The target that was left is not healthy, or the failback is not automatic.
    Holding,
    /// It is healthy, and has to stay so for a while.
    Proving,
    /// Traffic is being given back.
    Ramping,
}

/// Stickiness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "cookie": "tidegate", "header": null, "max_age_s": 2592000 }))]
pub struct StickyView {
    /// Name of the cookie.
    pub cookie: String,
    /// A header whose value is the visitor.
    pub header: Option<String>,
    /// How long the cookie lives, in seconds.
    pub max_age_s: u64,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "host": "*", "path": "/", "strip": false }))]
pub struct RouteView {
    /// The host, as the file writes it.
    pub host: String,
    /// The path prefix.
    pub path: String,
    /// Whether the prefix is taken off before a request is forwarded.
    pub strip: bool,
}

/// A part of what is wanted that differs from the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "path": "split", "file": { "green": 100 }, "now": { "green": 95, "blue": 5 } }))]
pub struct DifferenceView {
    /// Which part, such as `split` or `targets.green`.
    pub path: String,
    /// What the file declares; null: nothing.
    pub file: Value,
    /// What is wanted now; null: nothing.
    pub now: Value,
}

impl ServiceView {
    /// What is shown of a service of this snapshot. `now` is on the clock that the snapshot's moments follow.
    pub(crate) fn new(snapshot: &Snapshot, service: &Service, state: &ServiceState, now: Moment) -> Self {
        let Generation(generation) = snapshot.generation;
        let wanted = &state.wanted;
        let listeners = match &service.spec.listeners {
            Some(named) => named.iter().map(ToString::to_string).collect(),
            None => snapshot.state.listeners.iter().map(ToString::to_string).collect(),
        };
        Self {
            name: service.id.to_string(),
            generation,
            stable: wanted.stable.to_string(),
            split: weights(&wanted.split),
            hold: wanted.hold == Hold::On,
            targets: service.targets.iter().map(|target| TargetView::new(target, wanted, now)).collect(),
            removed: state
                .draining
                .iter()
                .filter(|(target, _)| !wanted.targets.contains_key(*target))
                .map(|(target, at)| RemovedTarget {
                    name: target.to_string(),
                    closes_in_ms: millis(at.saturating_sub(now.mono)),
                })
                .collect(),
            failover: FailoverView {
                policy: service.failover.as_ref().map(|policy| FailoverPolicyView {
                    to: policy.to.to_string(),
                    failback: failback(policy.failback).into(),
                }),
                active: state.overlay.as_ref().map(ActiveFailover::from),
                preparing: state.preparation.as_ref().map(PreparingFailover::from),
            },
            mirrors: service.mirrors.iter().map(MirrorView::from).collect(),
            sticky: service.sticky.as_deref().map(StickyView::from),
            listeners,
            routes: service.spec.routes.iter().map(RouteView::from).collect(),
            differences: differences(&Wanted::declared(&service.spec), wanted),
        }
    }
}

impl TargetView {
    fn new(target: &Target, wanted: &Wanted, now: Moment) -> Self {
        let endpoints: Vec<EndpointView> = target.endpoints.iter().map(EndpointView::from).collect();
        let running = endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight)).sum();
        let shards = || target.stats.shards.iter();
        let class =
            |at: usize| shards().filter_map(|shard| shard.classes.get(at)).map(|c| c.load(Relaxed)).sum::<u64>();
        let classes: Vec<u64> = (0..6).map(class).collect();
        Self {
            name: target.id.to_string(),
            weight: wanted.split.weight(&target.id).into(),
            status: match (target.open, running) {
                (true, _) => TargetStatus::Open,
                (false, 0) => TargetStatus::Drained,
                (false, _) => TargetStatus::Draining,
            },
            available: target.available,
            running,
            closes_in_ms: target.cut_at.map(|at| millis(at.saturating_sub(now.mono))),
            requests: classes.iter().sum(),
            diverted: shards().map(|shard| shard.diverted.load(Relaxed)).sum(),
            statuses: by_class(classes),
            endpoints,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn failback(mode: FailbackMode) -> &'static str {
    match mode {
        FailbackMode::Manual => "manual",
        FailbackMode::Auto => "auto",
        FailbackMode::Restart => "restart",
    }
}

impl From<&tidegate_core::Endpoint> for EndpointView {
    fn from(endpoint: &tidegate_core::Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            weight: endpoint.weight,
            health: endpoint.health.into(),
            in_flight: endpoint.stats.in_flight.load(Relaxed),
            requests: endpoint.stats.requests.load(Relaxed),
            failures: endpoint.stats.failures.load(Relaxed),
        }
    }
}

impl From<&Overlay> for ActiveFailover {
    fn from(overlay: &Overlay) -> Self {
        Self {
            from: overlay.from.to_string(),
            to: overlay.to.to_string(),
            share: overlay.share.into(),
            cause: overlay.cause.into(),
            phase: match overlay.phase {
                Phase::Holding => PhaseView::Holding,
                Phase::Proving { .. } => PhaseView::Proving,
                Phase::Ramping { .. } => PhaseView::Ramping,
            },
            since: rfc3339(overlay.since_unix_ms),
            since_unix_ms: overlay.since_unix_ms,
        }
    }
}

impl From<&Preparation> for PreparingFailover {
    fn from(preparation: &Preparation) -> Self {
        Self {
            from: preparation.from.to_string(),
            to: preparation.to.to_string(),
            cause: preparation.cause.into(),
            held: matches!(preparation.stage, PreparationStage::Held { .. }),
            reason: preparation.reason.clone(),
            since: rfc3339(preparation.since_unix_ms),
            since_unix_ms: preparation.since_unix_ms,
        }
    }
}

impl From<&Sticky> for StickyView {
    fn from(sticky: &Sticky) -> Self {
        Self { cookie: sticky.cookie.clone(), header: sticky.header.clone(), max_age_s: sticky.max_age.as_secs() }
    }
}

impl From<&RouteSpec> for RouteView {
    fn from(route: &RouteSpec) -> Self {
        let host = match &route.host {
            RouteHost::Any => "*".to_owned(),
            RouteHost::Suffix(suffix) => format!("*{suffix}"),
            RouteHost::Exact(host) => host.clone(),
        };
        Self { host, path: route.path.clone(), strip: route.strip }
    }
}

/// Where what is wanted differs from what the file declares, by path.
fn differences(file: &Wanted, now: &Wanted) -> Vec<DifferenceView> {
    let mut found = Vec::new();
    let mut note = |path: String, file: Value, now: Value| {
        if file != now {
            found.push(DifferenceView { path, file, now });
        }
    };
    note("stable".into(), json!(file.stable), json!(now.stable));
    note("split".into(), json!(weights(&file.split)), json!(weights(&now.split)));
    note("drained".into(), json!(file.drained), json!(now.drained));
    for (path, file, now) in pairs("targets", &file.targets, &now.targets) {
        note(path, json!(file.map(endpoints)), json!(now.map(endpoints)));
    }
    for (path, file, now) in pairs("mirrors", &file.mirrors, &now.mirrors) {
        // Compared as they are, shown without the values of their headers: those may be secret.
        if file != now {
            found.push(DifferenceView { path, file: json!(file.map(mirror)), now: json!(now.map(mirror)) });
        }
    }
    found
}

/// What both maps say of each of their names.
fn pairs<'a, K: Ord + std::fmt::Display, V>(
    of: &'a str,
    file: &'a BTreeMap<K, V>,
    now: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (String, Option<&'a V>, Option<&'a V>)> {
    let added = now.keys().filter(|name| !file.contains_key(name));
    file.keys().chain(added).map(move |name| (format!("{of}.{name}"), file.get(name), now.get(name)))
}

fn endpoints(spec: &TargetSpec) -> Value {
    spec.endpoints.iter().map(|endpoint| json!({ "address": endpoint.address, "weight": endpoint.weight })).collect()
}

fn mirror(spec: &MirrorSpec) -> Value {
    json!({
        "to": spec.to,
        "percent": Percent::from(spec.percent),
        "methods": spec.methods,
        "max_body": spec.max_body,
        "compare": spec.compare,
        "ignore": spec.ignore,
        "remove_headers": spec.remove_headers,
        "set_headers": spec.set_headers.keys().collect::<Vec<_>>(),
    })
}
