use std::collections::{BTreeMap, BTreeSet};

use tidegate_config::{FailbackMode, ServiceId, Split};

use super::{Release, ReleaseCause};
use crate::{
    change::{
        Change, ChangeError, apply,
        fixtures::{World, endpoints, mirror, mirror_to, spec, split, target, web},
    },
    compile,
    deploy::DeploymentId,
    health::Health,
    state::Hold,
};

fn change(services: impl IntoIterator<Item = (ServiceId, Release)>, cause: ReleaseCause) -> Change {
    let deployment = DeploymentId::parse("dep-1").unwrap();
    Change::Release { deployment, services: services.into_iter().collect(), cause }
}

fn canary(world: &World) -> Release {
    Release { split: split(&[("green", 95.0), ("v3", 5.0)]), salt: "dep-1".into(), ..Release::of(world.service()) }
}

/// Services `web` and `shop`, which have the same targets.
fn two() -> (World, ServiceId) {
    let shop = ServiceId::parse("shop").unwrap();
    let mut file = spec(FailbackMode::Manual);
    file.routes[0].path = "/shop".into();
    (World::fresh([(web(), spec(FailbackMode::Manual)), (shop.clone(), file)]), shop)
}

#[test]
fn a_release_sets_all_services_in_one_generation() {
    let (mut world, shop) = two();
    let release = Release {
        mirrors: BTreeMap::from([(mirror("m"), Some(mirror_to("blue")))]),
        targets: BTreeMap::from([(target("v4"), endpoints(&["10.0.3.1:80"]))]),
        ..canary(&world)
    };
    let before = world.state.generation;
    world.apply(&change([(web(), release.clone()), (shop.clone(), release.clone())], ReleaseCause::Forward));
    assert_eq!(world.state.generation, before.next());
    for id in [web(), shop] {
        let wanted = &world.state.services[&id].wanted;
        assert_eq!(wanted.split, release.split);
        assert_eq!(wanted.salt, "dep-1");
        assert!(wanted.mirrors.contains_key("m") && wanted.targets.contains_key("v4"));
    }
}

#[test]
fn the_same_release_again_changes_nothing() {
    let (mut world, _) = two();
    let release = Release { hold: Hold::On, ..canary(&world) };
    let change = change([(web(), release)], ReleaseCause::Forward);
    world.apply(&change);
    let before = world.state.clone();
    let again = world.apply(&change);
    assert_eq!((again.state, again.events), (before, Vec::new()));
}

#[test]
fn when_one_service_refuses_none_changes() {
    let (world, shop) = two();
    let wrong = Release { split: Split::all(target("nope")), ..canary(&world) };
    let refused = world.try_apply(&change([(web(), canary(&world)), (shop, wrong)], ReleaseCause::Forward));
    assert!(matches!(refused, Err(ChangeError::Invalid { .. })), "{refused:?}");
    let unknown = ServiceId::parse("other").unwrap();
    let refused = world.try_apply(&change([(web(), canary(&world)), (unknown, canary(&world))], ReleaseCause::Undo));
    assert!(matches!(refused, Err(ChangeError::UnknownService(_))), "{refused:?}");
}

#[test]
fn only_what_is_taken_back_goes_on_without_a_disk() {
    let (world, _) = two();
    assert!(!change([(web(), canary(&world))], ReleaseCause::Forward).is_emergency());
    assert!(change([(web(), canary(&world))], ReleaseCause::Undo).is_emergency());
}

#[test]
fn targets_that_carry_traffic_are_not_removed() {
    let mut world = World::web(FailbackMode::Manual);
    let remove = BTreeSet::from([target("v3")]);
    let kept = Release { remove: remove.clone(), ..canary(&world) };
    assert!(matches!(world.try_apply(&change([(web(), kept)], ReleaseCause::Forward)), Err(ChangeError::Conflict(_))));
    let gone = Release { remove, ..Release::of(world.service()) };
    world.apply(&change([(web(), gone.clone())], ReleaseCause::Forward));
    assert!(!world.service().wanted.targets.contains_key("v3"));
    world.apply(&change([(web(), gone)], ReleaseCause::Forward));
}

#[test]
fn a_failover_ends_when_another_target_becomes_stable_and_not_before() {
    let mut world = World::web(FailbackMode::Manual);
    world.see_green(Health::Unhealthy);
    assert!(world.service().overlay.is_some());
    world.apply(&change([(web(), canary(&world))], ReleaseCause::Forward));
    assert!(world.service().overlay.is_some(), "the weights say nothing about it");
    let done = Release { stable: target("v3"), split: Split::all(target("v3")), ..canary(&world) };
    world.apply(&change([(web(), done)], ReleaseCause::Forward));
    assert_eq!(world.service().overlay, None);
}

#[test]
fn while_requests_wait_every_target_is_pending_and_no_failover_begins() {
    let mut world = World::web(FailbackMode::Manual);
    world.apply(&change([(web(), Release { hold: Hold::On, ..Release::of(world.service()) })], ReleaseCause::Forward));
    world.see_green(Health::Unhealthy);
    assert_eq!(world.service().overlay, None);
    let snapshot = compile(&world.state.clone().into(), None, 1);
    assert!(snapshot.services[0].targets.iter().all(|target| target.pending && !target.available));
    world.apply(&change([(web(), Release { hold: Hold::Off, ..Release::of(world.service()) })], ReleaseCause::Forward));
    let tick = apply(&world.state, &Change::Tick, world.now).unwrap();
    assert!(tick.state.services["web"].overlay.is_some(), "as soon as the hold ends, the failover is made");
}

#[test]
fn what_a_failover_carries_does_not_wait() {
    let mut world = World::web(FailbackMode::Manual);
    world.see_green(Health::Unhealthy);
    world.apply(&change([(web(), Release { hold: Hold::On, ..Release::of(world.service()) })], ReleaseCause::Forward));
    let snapshot = compile(&world.state.clone().into(), None, 1);
    let available = |name: &str| snapshot.services[0].targets.iter().any(|t| t.id == target(name) && t.available);
    assert!(available("blue") && !available("v3"));
}
