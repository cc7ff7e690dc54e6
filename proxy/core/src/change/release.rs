//! Traffic of several services in one step, as deployments set it.
//!
//! Whole values and never differences: to make the same release again changes nothing, so that whoever does not know
//! whether it was made makes it again. If one service refuses, none of them changes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidegate_config::{MirrorId, MirrorSpec, ServiceId, Split, TargetId, TargetSpec};

use super::{Applied, ChangeError, Draft, Edited, mirrors, targets, traffic::must_exist};
use crate::{
    event::Event,
    state::{Hold, Moment, ServiceState, State},
};

/// What a service's traffic is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The stable target.
    pub stable: TargetId,
    /// The weights.
    pub split: Split,
    /// Salt of the sticky hash.
    pub salt: String,
    /// Whether requests wait.
    pub hold: Hold,
    /// Targets that are added, or whose endpoints are to be these. Others stay as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<TargetId, TargetSpec>,
    /// Targets that are to be gone.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub remove: BTreeSet<TargetId>,
    /// Mirrors that are to be as given, or gone. Others stay as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<MirrorId, Option<MirrorSpec>>,
}

impl Release {
    /// The traffic of a service as it is now; names no targets and no mirrors.
    pub fn of(service: &ServiceState) -> Self {
        Self {
            stable: service.wanted.stable.clone(),
            split: service.wanted.split.clone(),
            salt: service.wanted.salt.clone(),
            hold: service.wanted.hold,
            targets: BTreeMap::new(),
            remove: BTreeSet::new(),
            mirrors: BTreeMap::new(),
        }
    }
}

/// Why a release is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseCause {
    /// A deployment goes on.
    Forward,
    /// A deployment is taken back, which must not wait for a disk.
    Undo,
}

/// Makes all of the releases, or none.
pub(super) fn release(
    state: &State,
    services: &BTreeMap<ServiceId, Release>,
    now: Moment,
) -> Result<Applied, ChangeError> {
    let mut draft = Draft::default();
    for (id, release) in services {
        let old = state.services.get(id).ok_or_else(|| ChangeError::UnknownService(id.clone()))?;
        let mut service = ServiceState::clone(old);
        draft.events.append(&mut one(id, &mut service, release, now)?);
        draft.edited.insert(id.clone(), service);
    }
    Ok(draft.finish(state))
}

fn one(id: &ServiceId, service: &mut ServiceState, release: &Release, now: Moment) -> Edited {
    let mut events = Vec::new();
    for (target, spec) in &release.targets {
        events.append(&mut targets::put(id, service, target, spec)?);
    }
    events.append(&mut set_traffic(id, service, release)?);
    for (mirror, spec) in &release.mirrors {
        match spec {
            Some(spec) => events.append(&mut mirrors::put(id, service, mirror, spec)?),
            None if service.wanted.mirrors.contains_key(mirror) => {
                events.append(&mut mirrors::remove(id, service, mirror)?);
            }
            None => {}
        }
    }
    for target in &release.remove {
        if service.wanted.targets.contains_key(target) {
            events.append(&mut targets::remove(id, service, target, now)?);
        }
    }
    Ok(events)
}

fn set_traffic(id: &ServiceId, service: &mut ServiceState, release: &Release) -> Edited {
    must_exist(id, service, &release.stable, "stable")?;
    for (target, _) in release.split.iter() {
        must_exist(id, service, target, target.as_str())?;
    }
    let mut events = Vec::new();
    let wanted = &mut service.wanted;
    // A deployment that gives a target traffic has verified it: an earlier drain is over.
    for target in release.split.iter().map(|(target, _)| target).chain([&release.stable]) {
        wanted.drained.remove(target);
        service.draining.remove(target);
    }
    wanted.salt.clone_from(&release.salt);
    let stable = std::mem::replace(&mut wanted.stable, release.stable.clone());
    let split = std::mem::replace(&mut wanted.split, release.split.clone());
    if stable != wanted.stable {
        let (from, to) = (stable, wanted.stable.clone());
        events.push(Event::Switched { service: id.clone(), from, to });
    }
    if split != wanted.split {
        events.push(Event::SplitChanged { service: id.clone(), from: split, to: wanted.split.clone() });
    }
    if std::mem::replace(&mut wanted.hold, release.hold) != release.hold {
        events.push(Event::HoldChanged { service: id.clone(), hold: release.hold });
    }
    if let Some(overlay) = service.overlay.take_if(|overlay| !overlay.fits(wanted)) {
        let reason = format!("a deployment made {} stable, and so ended the failover to {}", wanted.stable, overlay.to);
        events.push(Event::Restored { service: id.clone(), to: wanted.stable.clone(), reason });
    }
    Ok(events)
}

#[cfg(test)]
mod tests;
