//! What operators do to a service's traffic: switch, split, fail over, restore.

use tidegate_config::{ServiceId, Split, TargetId};

use super::{ChangeError, Edited};
use crate::{
    event::Event,
    failover::{full, prepare},
    state::{Cause, Moment, Overlay, ServiceState},
};

/// Makes a target stable with everything. Ends a failover: the operator chose.
pub(super) fn switch(id: &ServiceId, service: &mut ServiceState, to: &TargetId) -> Edited {
    must_exist(id, service, to, "to")?;
    let mut events = Vec::new();
    if let Some(overlay) = service.overlay.take() {
        let reason = format!("an operator switched to {to} and so ended the failover to {}", overlay.to);
        events.push(Event::Restored { service: id.clone(), to: to.clone(), reason });
    }
    events.extend(prepare::call_off(id, service, format!("an operator switched to {to}")));
    let split = std::mem::replace(&mut service.wanted.split, Split::all(to.clone()));
    let from = std::mem::replace(&mut service.wanted.stable, to.clone());
    service.wanted.drained.remove(to);
    service.draining.remove(to);
    if from != *to {
        events.push(Event::Switched { service: id.clone(), from, to: to.clone() });
    } else if split != service.wanted.split {
        events.push(Event::SplitChanged { service: id.clone(), from: split, to: service.wanted.split.clone() });
    }
    Ok(events)
}

/// Sets the weights.
pub(super) fn split(id: &ServiceId, service: &mut ServiceState, split: &Split) -> Edited {
    for (target, _) in split.iter() {
        must_exist(id, service, target, target.as_str())?;
    }
    if service.wanted.split == *split {
        return Ok(Vec::new());
    }
    for (target, _) in split.iter() {
        must_not_be_drained(id, service, target)?;
    }
    let from = std::mem::replace(&mut service.wanted.split, split.clone());
    Ok(vec![Event::SplitChanged { service: id.clone(), from, to: split.clone() }])
}

/// Moves the service to another target until it is restored. Takes over a failover that is on: from then on it is the
/// operator's, and does not come back by itself. Where a command has to run first, the service moves after that.
pub(super) fn fail_over(id: &ServiceId, service: &mut ServiceState, to: &TargetId, now: Moment) -> Edited {
    must_exist(id, service, to, "to")?;
    let from = service.wanted.stable.clone();
    if from == *to {
        let message =
            format!("{to} is the stable target of {id}: there is nothing to fail over, choose another target");
        return Err(ChangeError::invalid("to", message));
    }
    must_not_be_drained(id, service, to)?;
    if service.is_sealed(to) {
        return Err(ChangeError::Conflict(format!(
            "target {to} of service {id} is under test by a deployment: wait until it is over, or roll it back"
        )));
    }
    let carried = service.overlay.as_ref().filter(|on| on.to == *to);
    if carried.is_none() && service.spec.failover.as_ref().is_some_and(|policy| policy.hooks.before.is_some()) {
        return Ok(prepare::ask(id, service, to, now).map_or_else(Vec::new, |next| next.make(service)));
    }
    // It carries the service since then, whoever wanted it first.
    let since = carried.map_or(now.unix_ms, |on| on.since_unix_ms);
    let is_theirs = carried.is_some_and(|on| on.cause == Cause::Operator);
    let mut events: Vec<Event> =
        prepare::call_off(id, service, format!("an operator wants {to} to carry the service")).into_iter().collect();
    if !is_theirs {
        let moved = full(&from, to, Cause::Operator, now);
        service.overlay = Some(Overlay { since_unix_ms: since, ..moved });
        let reason = "an operator asked for it".to_owned();
        let (service, to) = (id.clone(), to.clone());
        events.push(Event::FailedOver { service, from, to, cause: Cause::Operator, reason });
    }
    Ok(events)
}

/// Ends a failover, or the preparation of one.
pub(super) fn restore(id: &ServiceId, service: &mut ServiceState) -> Edited {
    let called_off = prepare::call_off(id, service, "an operator asked for it".into());
    let Some(overlay) = service.overlay.take() else {
        return called_off.map(|event| vec![event]).ok_or_else(|| no_failover(id));
    };
    let reason = "an operator asked for it".to_owned();
    let restored = Event::Restored { service: id.clone(), to: overlay.from, reason };
    Ok(called_off.into_iter().chain([restored]).collect())
}

fn no_failover(id: &ServiceId) -> ChangeError {
    ChangeError::Conflict(format!("service {id} has no failover to restore from"))
}

/// Refuses a name that is not a target of the service, and says which ones there are.
pub(super) fn must_exist(
    id: &ServiceId,
    service: &ServiceState,
    target: &TargetId,
    path: &str,
) -> Result<(), ChangeError> {
    if service.wanted.targets.contains_key(target) {
        return Ok(());
    }
    let known: Vec<&str> = service.wanted.targets.keys().map(TargetId::as_str).collect();
    Err(ChangeError::invalid(path, format!("service {id} has no target {target}; it has {}", known.join(", "))))
}

fn must_not_be_drained(id: &ServiceId, service: &ServiceState, target: &TargetId) -> Result<(), ChangeError> {
    if !service.wanted.drained.contains(target) {
        return Ok(());
    }
    Err(ChangeError::Conflict(format!(
        "target {target} of service {id} is drained and takes no requests: put the target again, or switch to it"
    )))
}
