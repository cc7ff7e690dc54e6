//! What the process sees by itself: health, addresses of names, and that time passes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use tidegate_config::{EndpointAddress, ServiceId, TargetId};

use super::{Applied, Draft, HealthReport, flags};
use crate::{
    event::Event,
    failover::{self, Standing},
    state::{Moment, ServiceState, State},
};

/// How long a drain is still shown after its end: whoever cuts what runs has seen by then that it is over.
const DRAIN_SHOWN: Duration = Duration::from_secs(5);

/// Notes what the health checks found, and moves services off targets that are down.
pub(super) fn health(state: &State, reports: &[HealthReport], now: Moment) -> Applied {
    let mut edited: BTreeMap<ServiceId, ServiceState> = BTreeMap::new();
    let mut events = Vec::new();
    let mut targets = BTreeSet::new();
    for report in reports {
        let Some(old) = state.services.get(&report.service) else { continue };
        targets.insert((&report.service, &report.target));
        let service = edited.entry(report.service.clone()).or_insert_with(|| ServiceState::clone(old));
        events.extend(note(service, report));
    }
    for (id, target) in targets {
        let (before, after) = (state.services.get(id), edited.get(id));
        events.extend(before.zip(after).and_then(|(before, after)| turned(id, target, before, after)));
    }
    for (id, service) in &mut edited {
        events.extend(follow_health(id, service, now));
    }
    Draft { edited, events, ..Draft::default() }.finish(state)
}

/// Says whether a target as a whole became usable, or unusable.
fn turned(id: &ServiceId, target: &TargetId, before: &ServiceState, after: &ServiceState) -> Option<Event> {
    let (was, is) = (failover::standing(before, target), failover::standing(after, target));
    let (service, target) = (id.clone(), target.clone());
    if is.is_usable() && !was.is_usable() {
        return Some(Event::TargetHealthy { service, target });
    }
    if is == Standing::Down && was != Standing::Down {
        let reason = failover::why_down(after, &target);
        return Some(Event::TargetUnhealthy { service, target, reason });
    }
    None
}

fn follow_health(id: &ServiceId, service: &mut ServiceState, now: Moment) -> Vec<Event> {
    failover::next_move(id, service, now).map_or_else(Vec::new, |next| next.make(service))
}

/// Notes that the command before a failover has ended.
pub(super) fn prepared(state: &State, id: &ServiceId, run: Duration, failure: Option<&str>, now: Moment) -> Applied {
    let mut draft = Draft::default();
    if let Some(old) = state.services.get(id)
        && let Some(next) = failover::prepare::ended(id, old, run, failure, now)
    {
        let mut service = ServiceState::clone(old);
        draft.events = next.make(&mut service);
        draft.edited.insert(id.clone(), service);
    }
    draft.finish(state)
}

fn note(service: &mut ServiceState, report: &HealthReport) -> Option<Event> {
    let spec = service.wanted.targets.get(&report.target)?;
    spec.endpoints.iter().find(|endpoint| endpoint.address == report.endpoint)?;
    let from = service.health_of(&report.target, &report.endpoint);
    if from == report.health {
        return None;
    }
    service.health.entry(report.target.clone()).or_default().insert(report.endpoint.clone(), report.health);
    Some(Event::HealthChanged {
        service: report.service.clone(),
        target: report.target.clone(),
        endpoint: report.endpoint.clone(),
        from,
        to: report.health,
        reason: report.reason.clone(),
    })
}

/// Notes the addresses of a name, in every service that uses it.
pub(super) fn resolved(state: &State, endpoint: &EndpointAddress, sockets: &[SocketAddr], now: Moment) -> Applied {
    let mut edited = BTreeMap::new();
    let mut events = Vec::new();
    for (id, old) in &state.services {
        let used = old.wanted.targets.values().flat_map(|spec| &spec.endpoints).any(|e| e.address == *endpoint);
        if !used || old.resolved.get(endpoint).is_some_and(|known| known == sockets) {
            continue;
        }
        let mut service = ServiceState::clone(old);
        service.resolved.insert(endpoint.clone(), sockets.to_vec());
        for (target, spec) in &old.wanted.targets {
            if spec.endpoints.iter().any(|e| e.address == *endpoint) {
                events.extend(turned(id, target, old, &service));
            }
        }
        events.extend(follow_health(id, &mut service, now));
        edited.insert(id.clone(), service);
    }
    Draft { edited, events, ..Draft::default() }.finish(state)
}

/// Lets failovers and drains go on, and overrides end.
pub(super) fn tick(state: &State, now: Moment) -> Applied {
    let mut edited = BTreeMap::new();
    let mut events = Vec::new();
    for (id, old) in &state.services {
        let next = failover::next_move(id, old, now);
        let over = |until: &Duration| until.saturating_add(DRAIN_SHOWN) <= now.mono;
        if next.is_none() && !old.draining.values().any(over) {
            continue;
        }
        let mut service = ServiceState::clone(old);
        service.draining.retain(|_, until| !over(until));
        if let Some(next) = next {
            events.extend(next.make(&mut service));
        }
        edited.insert(id.clone(), service);
    }
    let flags = flags::end_overrides(&state.flags, now).map(|(flags, ended)| {
        events.extend(ended);
        flags
    });
    Draft { edited, flags, events, ..Draft::default() }.finish(state)
}
