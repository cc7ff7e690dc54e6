//! Main and shadows of a service: where a version goes, who is listed, who becomes main, who may be removed.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_config::{MirrorId, MirrorSpec, Split, TargetId, Weight};

use super::{
    machine::Refusal,
    memory::{Running, ServiceMemory},
    spec::{DeploymentSpec, MemberSpec},
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

/// The target that somebody means: by the version that runs there, or by its name.
///
/// # Errors
/// When there is none, or several run this version.
pub fn find(service: &ServiceState, memory: &ServiceMemory, name: &str) -> Result<TargetId, Refusal> {
    let targets = &service.wanted.targets;
    let runs = |target: &&TargetId| memory.running.get(*target).is_some_and(|running| running.version.name == name);
    let mut running = targets.keys().filter(runs);
    match (running.next(), running.next(), targets.get_key_value(name)) {
        (Some(only), None, _) | (None, _, Some((only, _))) => Ok(only.clone()),
        (Some(_), Some(_), Some((target, _))) => Ok(target.clone()),
        (Some(one), Some(other), None) => {
            Err(Refusal::Conflict(format!("version {name} runs in {one} and {other}: name the target instead")))
        }
        (None, _, None) => Err(Refusal::Unknown(format!("version or target {name}"))),
    }
}

/// Says where the version of a shadow deployment goes: the first version of a service becomes main, and each later one a
/// shadow.
///
/// # Errors
/// When nobody can tell yet whether it is the first.
pub fn enter(spec: &mut DeploymentSpec, service: &ServiceState, memory: &ServiceMemory) -> Result<(), Refusal> {
    let Some(member) = spec.members.first_mut() else { return Ok(()) };
    let stable = &service.wanted.stable;
    let main = match (memory.running.contains_key(stable), standing(service, stable)) {
        (true, _) | (_, Standing::Healthy | Standing::Doubtful) => Main::Runs,
        (false, Standing::Down) => Main::Free,
        (false, Standing::Undecided) => Main::Unknown,
    };
    let named = member.to.clone().or_else(|| named(service, member));
    match (main, named) {
        (Main::Unknown, None) => {
            let message = format!("nobody knows yet whether main ({stable}) runs: try again, or say the target");
            return Err(Refusal::Conflict(message));
        }
        (Main::Free, None) => member.to = Some(stable.clone()),
        (Main::Runs | Main::Unknown | Main::Free, Some(to)) => member.to = Some(to),
        (Main::Runs, None) if member.endpoints.is_empty() => {}
        (Main::Runs, None) => {
            member.to = member.version.as_deref().and_then(|version| TargetId::parse(version).ok());
        }
    }
    Ok(())
}

/// Whether a service has a main that runs.
enum Main {
    Runs,
    /// There is none: whoever comes first takes its place.
    Free,
    /// It was not probed yet.
    Unknown,
}

/// The target that is called as the version, or as the tag of its image.
fn named(service: &ServiceState, member: &MemberSpec) -> Option<TargetId> {
    let tag = member.image.as_deref().and_then(|image| image.rsplit_once(':')).map(|(_, tag)| tag);
    let mut names = member.version.as_deref().into_iter().chain(tag);
    names.find_map(|name| Some(service.wanted.targets.get_key_value(name)?.0.clone()))
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
pub fn may_remove(service: &ServiceState, memory: &ServiceMemory, target: &TargetId) -> Result<(), Refusal> {
    let wanted = &service.wanted;
    if !wanted.targets.contains_key(target) {
        return Err(Refusal::Unknown(format!("target {target}")));
    }
    let weight = wanted.split.weight(target);
    if wanted.stable == *target {
        let is_used = |other: &&TargetId| {
            let copied = wanted.mirrors.values().any(|mirror| mirror.to == **other);
            copied || memory.running.contains_key(*other) || wanted.split.weight(other) > Weight::ZERO
        };
        let others: Vec<_> = wanted.targets.keys().filter(|other| *other != target).filter(is_used).collect();
        if !others.is_empty() {
            let others = others.into_iter().map(TargetId::as_str).collect::<Vec<_>>().join(", ");
            let message =
                format!("{target} is main and has shadows ({others}): assign another first, or kill them all");
            return Err(Refusal::Conflict(message));
        }
    } else if weight > Weight::ZERO {
        return Err(Refusal::Conflict(format!("{target} has {weight} of the traffic: give it to another first")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::{
            Change, ReleaseCause,
            fixtures::{mirror_to, target},
        },
        deploy::{
            memory::Note,
            step::Version,
            testing::{Rig, Script, id, service, spec_of},
        },
        health::Health,
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
        let nothing = ServiceMemory::default();
        assert!(may_remove(web, &nothing, &target("v3")).is_ok());
        assert!(may_remove(web, &nothing, &target("green")).is_ok(), "nothing else runs");
        let mut memory = ServiceMemory::default();
        memory.note(Note::Started(target("blue"), version("2")), 1);
        let refused = may_remove(web, &memory, &target("green")).unwrap_err();
        assert_eq!(refused.status(), http::StatusCode::CONFLICT);
        let mut copied = ServiceState::clone(web);
        copied.wanted.mirrors.insert(MirrorId::parse("v3").unwrap(), mirror_to("v3"));
        assert!(may_remove(&copied, &nothing, &target("green")).is_err());
        let mut split = ServiceState::clone(web);
        split.wanted.split = Split::all(target("blue"));
        assert!(may_remove(&split, &nothing, &target("green")).is_err());
        assert!(may_remove(&split, &nothing, &target("blue")).is_err());
        assert_eq!(may_remove(web, &nothing, &target("x")), Err(Refusal::Unknown("target x".into())));
    }

    fn version(name: &str) -> Version {
        Version { name: name.into(), image: None, fingerprint: None }
    }

    #[test]
    fn a_version_is_found_by_its_name_or_its_target() {
        let rig = Rig::new(Script::default());
        let web = &rig.world.state.services["web"];
        let mut memory = ServiceMemory::default();
        for (at, name) in [("blue", "1.0"), ("green", "blue"), ("v3", "1.0")] {
            memory.note(Note::Started(target(at), version(name)), 1);
        }
        assert_eq!(find(web, &memory, "blue"), Ok(target("green")), "versions come first");
        assert_eq!(find(web, &memory, "v3"), Ok(target("v3")));
        assert!(matches!(find(web, &memory, "1.0"), Err(Refusal::Conflict(_))), "it runs twice");
        assert_eq!(find(web, &memory, "2.0"), Err(Refusal::Unknown("version or target 2.0".into())));
    }

    /// Where a version goes when main is so.
    fn entered(main: Health, runs: &[&str], json: &str) -> Result<Option<String>, Refusal> {
        let rig = Rig::new(Script::default());
        let mut web = ServiceState::clone(&rig.world.state.services["web"]);
        for health in web.health.get_mut("green").unwrap().values_mut() {
            *health = main;
        }
        let mut memory = ServiceMemory::default();
        for at in runs {
            memory.note(Note::Started(target(at), version("1")), 1);
        }
        let mut spec = spec_of(json);
        enter(&mut spec, &web, &memory)?;
        Ok(spec.members[0].to.as_ref().map(ToString::to_string))
    }

    #[test]
    fn the_first_version_becomes_main_and_each_later_one_a_shadow() {
        let (up, down) = (Health::Healthy, Health::Unhealthy);
        let plain = r#"{"strategy":"shadow","service":"web","version":"1.0"}"#;
        let v3 = r#"{"strategy":"shadow","service":"web","version":"v3"}"#;
        let new = r#"{"strategy":"shadow","service":"web","version":"2.0","endpoints":["10.0.0.9:1"]}"#;
        let to = |name: &str| Some(name.to_owned());
        assert_eq!(entered(down, &[], plain), Ok(to("green")), "the plan of the first goes to main");
        assert_eq!(entered(down, &[], v3), Ok(to("v3")), "it becomes main where it is");
        assert_eq!(entered(up, &[], v3), Ok(to("v3")));
        assert_eq!(entered(down, &["green"], v3), Ok(to("v3")), "main is ill, but there");
        assert_eq!(entered(up, &["green"], plain), Ok(None));
        assert_eq!(entered(up, &["green"], new), Ok(to("2.0")), "a target of its own");
        assert_eq!(entered(down, &[], new), Ok(to("green")));
        assert!(entered(Health::Unknown, &[], plain).is_err(), "nobody can tell");
        assert_eq!(entered(Health::Unknown, &[], v3), Ok(to("v3")));
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
