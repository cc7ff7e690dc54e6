//! When a service leaves its stable target, and when it comes back.
//!
//! Pure: looks at one service and says what its overlay should be now; whoever applies a change does it.
//! Looks at levels and not at edges, so that a move that was impossible is made as soon as it is possible.
//! A service that has a command to be run before it moves is prepared first ([`prepare`]).

pub(crate) mod prepare;

use std::time::Duration;

use tidegate_config::{EndpointSpec, FailbackMode, Host, ServiceId, TargetId, Weight};

use crate::{
    event::Event,
    health::Health,
    state::{Cause, Hold, Moment, Overlay, Phase, Preparation, ServiceState},
};

/// How long the target that was left must be healthy before an automatic failback begins: three to six probes at the
/// usual interval, so that a service that restarts in a loop is not taken for a healthy one.
pub const PROVING: Duration = Duration::from_secs(30);

/// Steps in which an automatic failback gives traffic back: caches and connections of a cold target warm up meanwhile.
pub const RAMP_STEPS: u16 = 10;

/// Time of one such step.
pub const RAMP_STEP: Duration = Duration::from_secs(1);

/// What a target can do; the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has a healthy endpoint.
    Healthy,
    /// It can be used, but no endpoint is above suspicion.
    Doubtful,
    /// Some endpoint has no verdict yet, and no other can be used.
    Undecided,
    /// Every endpoint is known not to be usable, or it takes no requests.
    Down,
}

impl Standing {
    /// Whether requests can be sent there.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Healthy | Self::Doubtful)
    }
}

/// What a target of a service can do now.
pub fn standing(service: &ServiceState, target: &TargetId) -> Standing {
    let Some(spec) = service.wanted.targets.get(target) else { return Standing::Down };
    if service.wanted.drained.contains(target) {
        return Standing::Down;
    }
    spec.endpoints.iter().map(|endpoint| endpoint_standing(service, target, endpoint)).min().unwrap_or(Standing::Down)
}

fn endpoint_standing(service: &ServiceState, target: &TargetId, endpoint: &EndpointSpec) -> Standing {
    if let Host::Name(..) = endpoint.address.host {
        match service.resolved.get(&endpoint.address).map(Vec::is_empty) {
            None => return Standing::Undecided,
            Some(true) => return Standing::Down,
            Some(false) => {}
        }
    }
    match service.health_of(target, &endpoint.address) {
        Health::Healthy => Standing::Healthy,
        Health::Suspect => Standing::Doubtful,
        Health::Unknown => Standing::Undecided,
        Health::Unhealthy => Standing::Down,
    }
}

/// What is to become of a service's overlay.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// The overlay from now on.
    pub overlay: Option<Overlay>,
    /// What is prepared from now on.
    pub preparation: Option<Preparation>,
    /// What that means; empty when only a timer begins or ends.
    pub events: Vec<Event>,
}

impl Move {
    fn to(overlay: Option<Overlay>, events: Vec<Event>) -> Self {
        Self { overlay, preparation: None, events }
    }

    /// Makes it.
    pub(crate) fn make(self, service: &mut ServiceState) -> Vec<Event> {
        service.overlay = self.overlay;
        service.preparation = self.preparation;
        self.events
    }
}

/// Says what is to become of a service's overlay and of what is prepared; `None`: all stays as it is.
pub fn next_move(id: &ServiceId, service: &ServiceState, now: Moment) -> Option<Move> {
    let Some(preparation) = &service.preparation else { return next_overlay(id, service, now) };
    prepare::go_on(id, service, preparation, now).or_else(|| {
        // The failover that is on goes on while an operator's next one is prepared.
        service.overlay.as_ref()?;
        let next = next_overlay(id, service, now)?;
        Some(Move { preparation: Some(preparation.clone()), ..next })
    })
}

fn next_overlay(id: &ServiceId, service: &ServiceState, now: Moment) -> Option<Move> {
    match &service.overlay {
        None => begin(id, service, now),
        // An operator's failover ends by an operator's word only.
        Some(overlay) if overlay.cause == Cause::Operator => None,
        Some(overlay) => go_on(id, service, overlay, now),
    }
}

fn begin(id: &ServiceId, service: &ServiceState, now: Moment) -> Option<Move> {
    let from = &service.wanted.stable;
    let policy = service.spec.failover.as_ref()?;
    let to = &policy.to;
    if service.wanted.hold == Hold::On {
        // A deployment has stopped it on purpose, and lets its requests wait.
        return None;
    }
    if standing(service, from) != Standing::Down || !standing(service, to).is_usable() || service.is_sealed(to) {
        return None;
    }
    let reason = why_down(service, from);
    if policy.hooks.before.is_some() {
        return Some(prepare::begin(id, service, to, Cause::Health, reason, now));
    }
    let overlay = full(from, to, Cause::Health, now);
    let event = failed_over(id, &overlay, reason);
    Some(Move::to(Some(overlay), vec![event]))
}

/// An overlay that moves everything, from now on.
pub(crate) fn full(from: &TargetId, to: &TargetId, cause: Cause, now: Moment) -> Overlay {
    Overlay {
        from: from.clone(),
        to: to.clone(),
        share: Weight::FULL,
        cause,
        since_unix_ms: now.unix_ms,
        phase: Phase::Holding,
    }
}

fn go_on(id: &ServiceId, service: &ServiceState, overlay: &Overlay, now: Moment) -> Option<Move> {
    let from = standing(service, &overlay.from);
    if from.is_usable() && standing(service, &overlay.to) == Standing::Down {
        let reason = format!("{}, and {} is available", why_down(service, &overlay.to), overlay.from);
        return Some(restored(id, overlay, reason));
    }
    match service.spec.failover.as_ref().map(|policy| policy.failback) {
        Some(FailbackMode::Auto) => fail_back(id, overlay, from, now),
        // The file no longer asks for an automatic failback that has begun: hold.
        None | Some(FailbackMode::Manual | FailbackMode::Restart) => hold(overlay, Vec::new()),
    }
}

fn fail_back(id: &ServiceId, overlay: &Overlay, from: Standing, now: Moment) -> Option<Move> {
    let phase = |phase, events| Some(Move::to(Some(Overlay { phase, ..overlay.clone() }), events));
    match (overlay.phase, from) {
        (Phase::Holding, Standing::Healthy) => phase(Phase::Proving { since: now.mono }, Vec::new()),
        (Phase::Proving { since }, Standing::Healthy) => {
            if now.mono.saturating_sub(since) < PROVING {
                return None;
            }
            let begins = Event::FailingBack { service: id.clone(), share: overlay.share };
            phase(Phase::Ramping { since: now.mono }, vec![begins])
        }
        (Phase::Ramping { since }, Standing::Healthy) => ramp(id, overlay, now.mono.saturating_sub(since)),
        (Phase::Holding | Phase::Proving { .. }, Standing::Doubtful | Standing::Undecided | Standing::Down) => {
            hold(overlay, Vec::new())
        }
        (Phase::Ramping { .. }, Standing::Doubtful | Standing::Undecided | Standing::Down) => {
            let reason = format!("{} fell ill again while traffic was given back to it", overlay.from);
            hold(overlay, vec![failed_over(id, overlay, reason)])
        }
    }
}

fn ramp(id: &ServiceId, overlay: &Overlay, ramped: Duration) -> Option<Move> {
    let share = share_after(ramped);
    if share == Weight::ZERO {
        return Some(restored(id, overlay, format!("{} proved healthy and took its traffic back", overlay.from)));
    }
    if share == overlay.share {
        return None;
    }
    let events = vec![Event::FailingBack { service: id.clone(), share }];
    Some(Move::to(Some(Overlay { share, ..overlay.clone() }), events))
}

fn hold(overlay: &Overlay, events: Vec<Event>) -> Option<Move> {
    let held = Overlay { share: Weight::FULL, phase: Phase::Holding, ..overlay.clone() };
    (held != *overlay).then(|| Move::to(Some(held), events))
}

/// The share that is still moved after this time of ramping.
fn share_after(ramped: Duration) -> Weight {
    let steps = u16::try_from(ramped.as_millis() / RAMP_STEP.as_millis()).unwrap_or(u16::MAX);
    let left = RAMP_STEPS.saturating_sub(steps);
    // Invariant: `left` is at most RAMP_STEPS, so this is at most FULL.
    Weight::from_points(Weight::FULL.points() / RAMP_STEPS * left).unwrap_or_default()
}

fn restored(id: &ServiceId, overlay: &Overlay, reason: String) -> Move {
    let event = Event::Restored { service: id.clone(), to: overlay.from.clone(), reason };
    Move::to(None, vec![event])
}

fn failed_over(id: &ServiceId, overlay: &Overlay, reason: String) -> Event {
    Event::FailedOver {
        service: id.clone(),
        from: overlay.from.clone(),
        to: overlay.to.clone(),
        cause: overlay.cause,
        reason,
    }
}

/// Says what was seen of a target that is down: `no endpoint of green is available: 10.0.0.1:80 is unhealthy`.
pub(crate) fn why_down(service: &ServiceState, target: &TargetId) -> String {
    /// Endpoints that a reason names; more would make the event unreadable and unbounded.
    const NAMED: usize = 3;
    if service.wanted.drained.contains(target) {
        return format!("{target} is drained");
    }
    let endpoints = service.wanted.targets.get(target).map_or(&[][..], |spec| &spec.endpoints);
    let mut seen: Vec<String> = endpoints
        .iter()
        .take(NAMED)
        .map(|endpoint| {
            let unresolved = service.resolved.get(&endpoint.address).is_some_and(Vec::is_empty);
            let what = if unresolved { "does not resolve" } else { "is unhealthy" };
            format!("{} {what}", endpoint.address)
        })
        .collect();
    if endpoints.len() > NAMED {
        seen.push(format!("{} more", endpoints.len() - NAMED));
    }
    format!("no endpoint of {target} is available: {}", seen.join(", "))
}

#[cfg(test)]
mod tests;
