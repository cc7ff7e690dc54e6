//! Main and shadows of a service: who is listed, who becomes main, who may be removed.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_config::{MirrorId, MirrorSpec, Split, TargetId, Weight};

use super::{
    machine::Refusal,
    memory::{Running, ServiceMemory},
};
use crate::{
    change::Release,
    failover::{Standing, standing},
    state::{Hold, ServiceState},
};

/// One version of a service, for a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Whether its answers are the service's.
    pub main: bool,
    /// Its target.
    pub target: TargetId,
    /// Its version, if a deployment brought it.
    pub version: Option<String>,
    /// Whether it can answer.
    pub up: bool,
    /// Since when it runs.
    pub since_unix_ms: Option<u64>,
}

/// The versions of a service, by name.
pub fn list(service: &ServiceState, memory: &ServiceMemory) -> Vec<Listed> {
    let running = |target: &TargetId| memory.running.get(target);
    let listed = |target: &TargetId| Listed {
        main: *target == service.wanted.stable,
        target: target.clone(),
        version: running(target).map(|running: &Running| running.version.name.clone()),
        up: standing(service, target).is_usable() && standing(service, target) != Standing::Down,
        since_unix_ms: running(target).map(|running| running.since_unix_ms),
    };
    service.wanted.targets.keys().map(listed).collect()
}

/// What makes a shadow main, and main a shadow, in one step. The old main is copied to as the new one was.
///
/// # Errors
/// When the target does not exist, or is main already.
pub fn assign(service: &ServiceState, to: &TargetId) -> Result<Release, Refusal> {
    let wanted = &service.wanted;
    if !wanted.targets.contains_key(to) {
        let known: Vec<_> = wanted.targets.keys().map(TargetId::as_str).collect();
        return Err(Refusal::Invalid(format!("there is no target {to}: use one of {}", known.join(", "))));
    }
    if wanted.stable == *to {
        return Err(Refusal::Conflict(format!("{to} is main already")));
    }
    let mut mirrors: BTreeMap<MirrorId, Option<MirrorSpec>> = BTreeMap::new();
    let copies: Vec<_> = wanted.mirrors.iter().filter(|(_, mirror)| mirror.to == *to).collect();
    mirrors.extend(copies.iter().map(|(id, _)| ((*id).clone(), None)));
    if let (Some((_, mirror)), Ok(id)) = (copies.first(), MirrorId::parse(wanted.stable.as_str())) {
        mirrors.insert(id, Some(MirrorSpec { to: wanted.stable.clone(), ..(*mirror).clone() }));
    }
    Ok(Release { stable: to.clone(), split: Split::all(to.clone()), hold: Hold::Off, mirrors, ..Release::of(service) })
}

/// Why a version may not be removed: main stays while it has shadows.
///
/// # Errors
/// The reason.
pub fn may_remove(service: &ServiceState, target: &TargetId) -> Result<(), Refusal> {
    let wanted = &service.wanted;
    if !wanted.targets.contains_key(target) {
        return Err(Refusal::Unknown(format!("target {target}")));
    }
    let shadows: Vec<_> = wanted.mirrors.values().map(|mirror| mirror.to.as_str()).collect();
    if wanted.stable == *target && wanted.targets.len() > 1 {
        let others = if shadows.is_empty() { "other versions".to_owned() } else { shadows.join(", ") };
        return Err(Refusal::Conflict(format!("{target} is main and has shadows ({others}): assign another first")));
    }
    let weight = wanted.split.weight(target);
    if weight > Weight::ZERO && wanted.targets.len() > 1 {
        return Err(Refusal::Conflict(format!("{target} has {weight} of the traffic: give it to another first")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::{Change, ReleaseCause, fixtures::target},
        deploy::testing::{Rig, Script, id, service},
    };

    #[test]
    fn a_shadow_becomes_main_and_main_a_shadow_and_back() {
        let mut rig = Rig::new(Script::default());
        rig.deploy(1, r#"{"strategy":"shadow","service":"web","to":"v3","version":"2.0.0"}"#);
        assert_eq!(rig.traffic_of("web"), "green 100 % copy to v3");
        for (to, then) in [("v3", "v3 100 % copy to green"), ("green", "green 100 % copy to v3")] {
            let release = assign(&rig.world.state.services["web"], &target(to)).unwrap();
            let services = [(service("web"), release)].into();
            rig.world.apply(&Change::Release { deployment: id(2), services, cause: ReleaseCause::Forward });
            assert_eq!(rig.traffic_of("web"), then);
        }
        let refused = assign(&rig.world.state.services["web"], &target("green"));
        assert_eq!(refused, Err(Refusal::Conflict("green is main already".into())));
        assert!(matches!(assign(&rig.world.state.services["web"], &target("x")), Err(Refusal::Invalid(_))));
    }

    #[test]
    fn main_is_not_removed_while_it_has_shadows() {
        let rig = Rig::new(Script::default());
        let web = &rig.world.state.services["web"];
        assert!(may_remove(web, &target("v3")).is_ok());
        let refused = may_remove(web, &target("green")).unwrap_err();
        assert_eq!(refused.status(), http::StatusCode::CONFLICT);
        let mut alone = ServiceState::clone(web);
        alone.wanted.targets.retain(|target, _| target.as_str() == "green");
        assert!(may_remove(&alone, &target("green")).is_ok());
    }

    #[test]
    fn the_list_says_what_runs_where() {
        let mut rig = Rig::new(Script::default());
        rig.deploy(1, r#"{"strategy":"shadow","service":"web","to":"v3","version":"2.0.0"}"#);
        let listed = list(&rig.world.state.services["web"], &rig.memory[&service("web")]);
        let names: Vec<_> = listed.iter().map(|l| (l.target.as_str(), l.main, l.version.as_deref())).collect();
        assert_eq!(names, [("blue", false, None), ("green", true, None), ("v3", false, Some("2.0.0"))]);
        assert!(listed[2].since_unix_ms.is_some());
    }
}
