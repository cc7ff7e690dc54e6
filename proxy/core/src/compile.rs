//! From a state to the snapshot that requests read.
//!
//! A service whose part of the state is the same is shared with the previous snapshot, and counters are shared by
//! identity, whatever else changed of their owner.

use std::sync::Arc;

use tidegate_config::{EndpointAddress, EndpointSpec, HealthPolicy, Host, ServiceId, TargetId, TargetSpec};

use crate::{
    flags::{FlagCheck, FlagTable},
    health::Health,
    pool::Pools,
    route::{Routed, Router},
    rules::Rule,
    sequence::{Sequences, SplitTable},
    snapshot::{Endpoint, Mirror, Service, Snapshot, Sole, Target, TargetIdx},
    state::{Hold, ListenerOffer, ServiceState, State},
    stats::{EndpointStats, MirrorStats, ServiceStats, TargetStats},
};

/// Compiles a state. Services that are the same as in `previous` are shared, and so are all counters.
///
/// `workers` is the number of threads that requests run on; it must not change between snapshots.
pub fn compile(state: &Arc<State>, previous: Option<&Snapshot>, workers: usize) -> Snapshot {
    let flags = match previous {
        Some(previous) if Arc::ptr_eq(&previous.state.flags, &state.flags) => Arc::clone(&previous.flags),
        _ => Arc::new(FlagTable::new(&state.flags, previous.map(|previous| &*previous.flags))),
    };
    let same_flags = previous.is_some_and(|previous| Arc::ptr_eq(&previous.flags, &flags));
    let mut old =
        previous.into_iter().flat_map(|previous| previous.state.services.iter().zip(&previous.services)).peekable();
    let mut same_routes = previous.is_some_and(|previous| {
        previous.state.listeners == state.listeners && previous.services.len() == state.services.len()
    });
    let mut sequences = Sequences::new(workers);
    let mut services = Vec::with_capacity(state.services.len());
    for (id, now) in &state.services {
        while old.next_if(|((other, _), _)| *other < id).is_some() {}
        let before = old.next_if(|((other, _), _)| *other == id).map(|((_, before), service)| (before, service));
        same_routes &= before.is_some_and(|(before, _)| Arc::ptr_eq(&before.spec, &now.spec));
        services.push(match before {
            Some((before, service)) if Arc::ptr_eq(before, now) && (same_flags || !reads_flags(now)) => {
                Arc::clone(service)
            }
            _ => {
                let counters = Counters { before: before.map(|(_, service)| &**service), workers };
                Arc::new(service(id, now, &flags, counters, &mut sequences))
            }
        });
    }
    let router = match previous {
        Some(previous) if same_routes => Arc::clone(&previous.router),
        _ => Arc::new(router(state)),
    };
    let offers = state.offers.iter().any(|offer| *offer != ListenerOffer::default()).then(|| Arc::clone(&state.offers));
    Snapshot { generation: state.generation, state: Arc::clone(state), router, services, flags, offers }
}

fn router(state: &State) -> Router {
    let routed = state
        .services
        .values()
        .map(|service| Routed { listeners: service.spec.listeners.as_deref(), routes: &service.spec.routes });
    Router::new(&state.listeners, routed)
}

fn reads_flags(state: &ServiceState) -> bool {
    state.spec.rules.iter().any(|rule| rule.when.flag.is_some())
        || state.wanted.mirrors.values().any(|mirror| mirror.flag.is_some())
}

/// Where the counters of a service come from: what it was before, or new ones.
#[derive(Clone, Copy)]
struct Counters<'a> {
    before: Option<&'a Service>,
    workers: usize,
}

impl<'a> Counters<'a> {
    fn service(self, sequences: &mut Sequences) -> Arc<ServiceStats> {
        let new = || Arc::new(ServiceStats::new(self.workers, sequences.begin()));
        self.before.map_or_else(new, |service| Arc::clone(&service.stats))
    }

    fn target_before(self, id: &TargetId) -> Option<&'a Target> {
        self.before.and_then(|service| service.target(service.target_named(id.as_str())?))
    }

    fn target(self, id: &TargetId) -> Arc<TargetStats> {
        let before = self.target_before(id);
        before.map_or_else(|| Arc::new(TargetStats::new(self.workers)), |target| Arc::clone(&target.stats))
    }

    fn endpoint(self, target: &TargetId, address: &EndpointAddress, at: usize) -> Arc<EndpointStats> {
        let before = self.target_before(target).map_or(&[][..], |target| &target.endpoints);
        // Nearly always where it was.
        let same = before.get(at).filter(|endpoint| endpoint.address == *address);
        let same = same.or_else(|| before.iter().find(|endpoint| endpoint.address == *address));
        same.map_or_else(Arc::default, |endpoint| Arc::clone(&endpoint.stats))
    }

    fn mirror(self, id: &tidegate_config::MirrorId) -> Arc<MirrorStats> {
        let mut before = self.before.into_iter().flat_map(|service| &service.mirrors);
        before.find(|mirror| mirror.id == *id).map_or_else(Arc::default, |mirror| Arc::clone(&mirror.stats))
    }
}

fn service(
    id: &ServiceId,
    state: &ServiceState,
    flags: &FlagTable,
    counters: Counters<'_>,
    sequences: &mut Sequences,
) -> Service {
    let ServiceState { spec, wanted, .. } = state;
    let targets: Vec<_> = wanted.targets.iter().map(|(id, target)| self::target(id, target, state, counters)).collect();
    let at = |id: &TargetId| targets.binary_search_by(|target| target.id.cmp(id)).ok().map(|at| TargetIdx(at as u32));
    // A state always has its stable target; without it, nothing is available.
    let stable = at(&wanted.stable).unwrap_or(TargetIdx(u32::MAX));
    let weights = wanted.split.iter().map(|(id, weight)| (at(id).unwrap_or(stable), weight));
    let rules = spec.rules.iter().map(|rule| Rule::new(rule, at(&rule.to).unwrap_or(stable), flags));
    let mirrors = wanted.mirrors.iter().filter_map(|(id, mirror)| {
        Some(Mirror {
            id: id.clone(),
            to: at(&mirror.to)?,
            flag: mirror.flag.as_ref().map(|flag| FlagCheck::is_on(flag, flags)),
            spec: Arc::new(mirror.clone()),
            stats: counters.mirror(id),
        })
    });
    let stats = counters.service(sequences);
    let (rules, mirrors): (Box<[_]>, Box<[_]>) = (rules.collect(), mirrors.collect());
    let mut asked = rules.iter().filter_map(Rule::flag).chain(mirrors.iter().filter_map(|mirror| mirror.flag.as_ref()));
    Service {
        id: id.clone(),
        sole: Sole::new(&targets),
        asks_flags: asked.any(|check| matches!(check, FlagCheck::Open(_))),
        rules,
        split: SplitTable::new(weights, stable),
        stable,
        overlay: state.overlay.as_ref().and_then(|overlay| Some((at(&overlay.to)?, overlay.share))),
        // What must be prepared first is no last resort before that.
        fallback: spec.failover.as_ref().filter(|p| p.hooks.before.is_none()).and_then(|policy| at(&policy.to)),
        sticky: spec.sticky.clone().map(Box::new),
        salt: if wanted.salt.is_empty() { id.as_str().into() } else { wanted.salt.as_str().into() },
        mirrors,
        timeouts: spec.timeouts,
        retry: spec.retry,
        failover: spec.failover.clone(),
        sequence: stats.sequence.clone(),
        stats,
        spec: Arc::clone(spec),
        targets,
    }
}

fn target(id: &TargetId, spec: &TargetSpec, state: &ServiceState, counters: Counters<'_>) -> Target {
    let endpoints = spec.endpoints.iter().enumerate();
    let endpoints: Vec<_> = endpoints
        .map(|(at, endpoint)| self::endpoint(id, endpoint, state, counters.endpoint(id, &endpoint.address, at)))
        .collect();
    let pools = Pools::new(&endpoints);
    let open = !state.wanted.drained.contains(id);
    let carries_failover = state.overlay.as_ref().is_some_and(|overlay| overlay.to == *id);
    let held = open && state.wanted.hold == Hold::On && !carries_failover;
    let usable = open && !held && !pools.is_empty();
    let sealed = state.is_sealed(id);
    Target {
        id: id.clone(),
        open,
        available: usable && !sealed,
        sealed,
        held,
        by_name: usable && (!sealed || state.wanted.mirrors.values().any(|mirror| mirror.to == *id)),
        pending: held || open && endpoints.iter().any(|endpoint| is_pending(endpoint, state)),
        pools,
        endpoints,
        cut_at: state.draining.get(id).copied(),
        stats: counters.target(id),
    }
}

fn endpoint(target: &TargetId, spec: &EndpointSpec, state: &ServiceState, stats: Arc<EndpointStats>) -> Endpoint {
    let health = state.health.get(target).and_then(|of| of.get(&spec.address)).copied().unwrap_or_default();
    let sockets = match &spec.address.host {
        Host::Ip(address) => vec![*address],
        Host::Name(..) => state.resolved.get(&spec.address).cloned().unwrap_or_default(),
        Host::Unix(_) => Vec::new(),
    };
    let health = match (health, &state.spec.health) {
        // Nothing will ever probe it: in use until passive signs speak against it.
        (Health::Unknown, HealthPolicy::Passive) => Health::Healthy,
        (health, _) => health,
    };
    Endpoint { address: spec.address.clone(), sockets, weight: spec.weight, health, stats }
}

/// Whether it has not been probed yet, or its name not been looked up.
fn is_pending(endpoint: &Endpoint, state: &ServiceState) -> bool {
    match endpoint.health {
        Health::Unknown => true,
        Health::Healthy | Health::Suspect => !endpoint.is_resolved() && !state.resolved.contains_key(&endpoint.address),
        Health::Unhealthy => false,
    }
}

#[cfg(test)]
mod tests;
