//! A new file: what it edits wins, what operators changed since stays.

use std::{collections::BTreeMap, sync::Arc};

use tidegate_config::{Config, ServiceId, ServiceSpec};

use super::{Applied, ChangeError, Draft, flags};
use crate::{
    event::Event,
    merge::{Difference, merge},
    preview,
    state::{ListenerOffer, Moment, ServiceState, State, Wanted},
};

/// Differences that an event lists; the state shows them all.
const LISTED: usize = 100;

/// Applies a new file.
pub(super) fn reload(state: &State, config: &Config, now: Moment) -> Result<Applied, ChangeError> {
    listeners_must_stay(state, config)?;
    let mut edited = BTreeMap::new();
    let mut events = Vec::new();
    let mut differences = Vec::new();
    for (id, spec) in &config.services {
        let service = match state.services.get(id) {
            None => {
                ServiceState { under_test: preview::under_test(&state.previews, id), ..ServiceState::declared(spec) }
            }
            Some(old) => {
                let (service, mut found) = renewed(id, old, spec, now);
                differences.append(&mut found);
                events.extend(what_happened(id, old, &service));
                service
            }
        };
        edited.insert(id.clone(), service);
    }
    let (flags, mut found) = state.flags.reloaded(&config.flags, now.unix_ms);
    differences.append(&mut found);
    events.extend(flags::what_happened(&state.flags, &flags, "the file was loaded again"));
    let gone: Vec<ServiceId> = state.services.keys().filter(|id| !config.services.contains_key(*id)).cloned().collect();
    let mut lines: Vec<String> = differences.iter().take(LISTED).map(Difference::to_string).collect();
    if differences.len() > LISTED {
        lines.push(format!("{} more", differences.len() - LISTED));
    }
    events.push(Event::Reloaded { services: config.services.len(), differences: lines });
    Ok(Draft { edited, gone, flags: Some(flags), offers: Some(ListenerOffer::all(config)), previews: None, events }
        .finish(state))
}

/// Sockets are opened when the process starts.
fn listeners_must_stay(state: &State, config: &Config) -> Result<(), ChangeError> {
    let added = config.listeners.keys().find(|id| !state.listeners.contains(id)).map(|id| (id, "added"));
    let removed = state.listeners.iter().find(|id| !config.listeners.contains_key(*id)).map(|id| (id, "removed"));
    let Some((id, what)) = added.or(removed) else { return Ok(()) };
    let message = format!("a listener cannot be {what} while the proxy runs: restart it, or run `tidegate upgrade`");
    Err(ChangeError::invalid(format!("listener.{id}"), message))
}

/// A service as a new file and what was wanted of it make it. What is known of endpoints that stay is kept.
fn renewed(id: &ServiceId, old: &ServiceState, spec: &ServiceSpec, now: Moment) -> (ServiceState, Vec<Difference>) {
    let (wanted, differences) = merge(id, spec, &Wanted::declared(&old.spec), &old.wanted);
    let mut service = old.clone();
    service.spec = Arc::new(spec.clone());
    for target in old.wanted.targets.keys().filter(|target| !wanted.targets.contains_key(*target)) {
        service.draining.entry(target.clone()).or_insert(now.mono.saturating_add(spec.drain));
    }
    service.wanted = wanted;
    service.overlay = service.overlay.filter(|overlay| overlay.fits(&service.wanted));
    service.forget_what_is_gone();
    (service, differences)
}

/// What a reload did to a service's traffic, targets and mirrors.
fn what_happened(id: &ServiceId, old: &ServiceState, new: &ServiceState) -> Vec<Event> {
    let service = id.clone();
    let (before, after) = (&old.wanted, &new.wanted);
    let mut events = Vec::new();
    for target in before.targets.keys().filter(|target| !after.targets.contains_key(*target)) {
        events.push(Event::TargetRemoved { service: service.clone(), target: target.clone() });
    }
    for (target, _) in after.targets.iter().filter(|(target, spec)| before.targets.get(*target) != Some(spec)) {
        events.push(Event::TargetChanged { service: service.clone(), target: target.clone() });
    }
    for mirror in before.mirrors.keys().filter(|mirror| !after.mirrors.contains_key(*mirror)) {
        events.push(Event::MirrorRemoved { service: service.clone(), mirror: mirror.clone() });
    }
    for (mirror, _) in after.mirrors.iter().filter(|(mirror, spec)| before.mirrors.get(*mirror) != Some(spec)) {
        events.push(Event::MirrorChanged { service: service.clone(), mirror: mirror.clone() });
    }
    if let (Some(overlay), None) = (&old.overlay, &new.overlay) {
        let reason = format!("the file was edited, and the failover to {} does not fit any more", overlay.to);
        events.push(Event::Restored { service: service.clone(), to: after.stable.clone(), reason });
    }
    if before.stable != after.stable {
        let (from, to) = (before.stable.clone(), after.stable.clone());
        events.push(Event::Switched { service: service.clone(), from, to });
    }
    if before.split != after.split {
        events.push(Event::SplitChanged { service, from: before.split.clone(), to: after.split.clone() });
    }
    events
}
