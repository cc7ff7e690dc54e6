//! What operators do to a service's traffic: switch, split, fail over, restore.

use tidegate_config::{ServiceId, Split, TargetId, Weight};

use super::{ChangeError, Edited};
use crate::{
    event::Event,
    state::{Cause, Moment, Overlay, Phase, ServiceState},
};

/// Makes a target stable with everything. Ends a failover: the operator chose.
pub(super) fn switch(id: &ServiceId, service: &mut ServiceState, to: &TargetId) -> Edited {
    must_exist(id, service, to, "to")?;
    let mut events = Vec::new();
    if let Some(overlay) = service.overlay.take() {
        let reason = format!("an operator switched to {to} and so ended the failover to {}", overlay.to);
        events.push(Event::Restored { service: id.clone(), to: to.clone(), reason });
    }
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
/// operator's, and does not come back by itself.
pub(super) fn fail_over(id: &ServiceId, service: &mut ServiceState, to: &TargetId, now: Moment) -> Edited {
    must_exist(id, service, to, "to")?;
    let from = service.wanted.stable.clone();
    if from == *to {
        let message =
            format!("{to} is the stable target of {id}: there is nothing to fail over, choose another target");
        return Err(ChangeError::invalid("to", message));
    }
    must_not_be_drained(id, service, to)?;
    if service.overlay.as_ref().is_some_and(|on| on.to == *to && on.cause == Cause::Operator) {
        return Ok(Vec::new());
    }
    service.overlay = Some(Overlay {
        from: from.clone(),
        to: to.clone(),
        share: Weight::FULL,
        cause: Cause::Operator,
        since_unix_ms: now.unix_ms,
        phase: Phase::Holding,
    });
    let reason = "an operator asked for it".to_owned();
    Ok(vec![Event::FailedOver { service: id.clone(), from, to: to.clone(), cause: Cause::Operator, reason }])
}

/// Ends a failover.
pub(super) fn restore(id: &ServiceId, service: &mut ServiceState) -> Edited {
    let Some(overlay) = service.overlay.take() else {
        return Err(ChangeError::Conflict(format!("service {id} has no failover to restore from")));
    };
    let reason = "an operator asked for it".to_owned();
    Ok(vec![Event::Restored { service: id.clone(), to: overlay.from, reason }])
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
