//! Targets come, go, and drain.

use tidegate_config::{ServiceId, TargetId, TargetSpec};

use super::{ChangeError, Edited};
use crate::{
    event::Event,
    state::{Moment, ServiceState},
};

/// Adds or replaces a target, and lets it take requests again if it was drained.
pub(super) fn put(id: &ServiceId, service: &mut ServiceState, target: &TargetId, spec: &TargetSpec) -> Edited {
    if spec.endpoints.is_empty() {
        return Err(ChangeError::invalid("endpoints", format!("target {target} needs at least one endpoint")));
    }
    let was_drained = service.wanted.drained.remove(target);
    let before = service.wanted.targets.insert(target.clone(), spec.clone());
    service.draining.remove(target);
    service.forget_what_is_gone();
    if before.as_ref() == Some(spec) && !was_drained {
        return Ok(Vec::new());
    }
    Ok(vec![Event::TargetChanged { service: id.clone(), target: target.clone() }])
}

/// Removes a target that carries nothing; what runs on it may finish.
pub(super) fn remove(id: &ServiceId, service: &mut ServiceState, target: &TargetId, now: Moment) -> Edited {
    must_have(id, service, target)?;
    if let Some(holder) = what_holds(service, target) {
        return Err(ChangeError::Conflict(format!(
            "target {target} of service {id} cannot be removed: {holder}; change that first"
        )));
    }
    service.wanted.targets.remove(target);
    service.wanted.drained.remove(target);
    // A drain that began earlier ends when it was promised to.
    service.draining.entry(target.clone()).or_insert(now.mono.saturating_add(service.spec.drain));
    service.forget_what_is_gone();
    Ok(vec![Event::TargetRemoved { service: id.clone(), target: target.clone() }])
}

/// Stops new requests to a target. Its share of the split goes to the stable target.
pub(super) fn drain(id: &ServiceId, service: &mut ServiceState, target: &TargetId, now: Moment) -> Edited {
    must_have(id, service, target)?;
    if service.wanted.stable == *target {
        return Err(ChangeError::Conflict(format!(
            "target {target} is the stable target of service {id}: switch to another target first"
        )));
    }
    if service.overlay.as_ref().is_some_and(|overlay| overlay.to == *target) {
        return Err(ChangeError::Conflict(format!(
            "target {target} carries service {id} in a failover: restore the service first"
        )));
    }
    if !service.wanted.drained.insert(target.clone()) {
        return Ok(Vec::new());
    }
    service.draining.insert(target.clone(), now.mono.saturating_add(service.spec.drain));
    Ok(vec![Event::TargetDrained { service: id.clone(), target: target.clone() }])
}

fn must_have(id: &ServiceId, service: &ServiceState, target: &TargetId) -> Result<(), ChangeError> {
    if service.wanted.targets.contains_key(target) {
        return Ok(());
    }
    Err(ChangeError::Unknown { service: id.clone(), kind: "target", name: target.to_string() })
}

/// What keeps a target from being removed.
fn what_holds(service: &ServiceState, target: &TargetId) -> Option<String> {
    let wanted = &service.wanted;
    if wanted.stable == *target {
        return Some("it is the stable target".into());
    }
    if let Some((_, weight)) = wanted.split.iter().find(|(named, _)| *named == target) {
        return Some(format!("it has {weight} of the split"));
    }
    if service.overlay.as_ref().is_some_and(|overlay| overlay.to == *target) {
        return Some("it carries the service in a failover".into());
    }
    if service.spec.failover.as_ref().is_some_and(|policy| policy.to == *target) {
        return Some("the file's failover goes to it".into());
    }
    if let Some((mirror, _)) = wanted.mirrors.iter().find(|(_, spec)| spec.to == *target) {
        return Some(format!("mirror {mirror} copies to it"));
    }
    let rule = service.spec.rules.iter().position(|rule| rule.to == *target)?;
    Some(format!("rule {rule} of the file points at it"))
}
