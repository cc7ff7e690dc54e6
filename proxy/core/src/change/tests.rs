//! Every change: what it makes, what it refuses, and what it leaves alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tidegate_config::{FailbackMode, MirrorSpec, ServiceId, Split, TargetSpec};

use super::{
    fixtures::{World, endpoint, endpoints, file, mirror, mirror_to, spec, split, target, web},
    *,
};
use crate::{
    health::Health,
    state::{Cause, Generation, Overlay},
    testing::flag_values,
};

fn switch(to: &str) -> Change {
    Change::Switch { service: web(), to: target(to) }
}

fn set_split(split: Split) -> Change {
    Change::Split { service: web(), split }
}

fn fail_over(to: &str) -> Change {
    Change::Failover { service: web(), to: target(to) }
}

fn restore() -> Change {
    Change::Restore { service: web() }
}

fn put(name: &str, spec: TargetSpec) -> Change {
    Change::PutTarget { service: web(), target: target(name), spec }
}

fn remove(name: &str) -> Change {
    Change::RemoveTarget { service: web(), target: target(name) }
}

fn drain(name: &str) -> Change {
    Change::Drain { service: web(), target: target(name) }
}

fn put_mirror(name: &str, spec: MirrorSpec) -> Change {
    Change::PutMirror { service: web(), mirror: mirror(name), spec }
}

fn remove_mirror(name: &str) -> Change {
    Change::RemoveMirror { service: web(), mirror: mirror(name) }
}

fn world() -> World {
    World::web(FailbackMode::Manual)
}

/// Applies a change that must be refused; says how.
fn refused(world: &World, change: &Change) -> (u16, String) {
    let error = world.try_apply(change).expect_err("the change is refused");
    (error.status().as_u16(), error.to_string())
}

/// Applies a change that must change nothing.
fn changes_nothing(world: &mut World, change: &Change) {
    let before = world.state.clone();
    let applied = world.apply(change);
    assert_eq!(applied.events, []);
    assert_eq!(applied.state, before);
    assert!(Arc::ptr_eq(&before.services["web"], world.service()), "an unchanged service stays the same one");
}

fn kinds(applied: &Applied) -> Vec<&'static str> {
    let kind = |event: &Event| match event {
        Event::Switched { .. } => "switched",
        Event::SplitChanged { .. } => "split",
        Event::HoldChanged { .. } => "hold",
        Event::FailedOver { .. } => "failover",
        Event::FailingBack { .. } => "failback",
        Event::Restored { .. } => "restored",
        Event::HealthChanged { .. } => "health",
        Event::TargetHealthy { .. } => "target healthy",
        Event::TargetUnhealthy { .. } => "target unhealthy",
        Event::TargetChanged { .. } => "target",
        Event::TargetRemoved { .. } => "target removed",
        Event::TargetDrained { .. } => "drained",
        Event::MirrorChanged { .. } => "mirror",
        Event::MirrorRemoved { .. } => "mirror removed",
        Event::FlagChanged { .. } => "flag changed",
        Event::MoreFlagsChanged { .. } => "more flags",
        Event::FlagInvalid { .. } => "flag invalid",
        Event::FlagOverridden { .. } => "overridden",
        Event::FlagOverrideEnded { .. } => "override ended",
        Event::SourceUp { .. } => "source up",
        Event::SourceDown { .. } => "source down",
        Event::SourceEmptied { .. } => "source emptied",
        Event::FailoverPreparing { .. } => "failover preparing",
        Event::FailoverHeld { .. } => "failover held",
        Event::FailoverCalledOff { .. } => "failover called off",
        Event::FailoverHook { .. } => "failover hook",
        Event::SinkLost { .. } => "sink lost",
        Event::WatchProblem { .. } => "watch problem",
        Event::Deployment { .. } => "deployment",
        Event::Reloaded { .. } => "reloaded",
        Event::ReloadRejected { .. } => "rejected",
        Event::Unsaved { .. } => "unsaved",
    };
    applied.events.iter().map(kind).collect()
}

#[test]
fn switch_makes_the_target_stable_with_everything() {
    let mut world = world();
    let before = world.state.generation;
    let applied = world.apply(&switch("blue"));
    assert_eq!(applied.events, [Event::Switched { service: web(), from: target("green"), to: target("blue") }]);
    assert_eq!(world.state.generation, before.next());
    assert_eq!(world.service().wanted.stable, target("blue"));
    assert_eq!(world.service().wanted.split, Split::all(target("blue")));
    changes_nothing(&mut world, &switch("blue"));
}

#[test]
fn switch_to_the_stable_target_ends_its_split() {
    let mut world = world();
    world.apply(&set_split(split(&[("green", 90.0), ("blue", 10.0)])));
    assert_eq!(kinds(&world.apply(&switch("green"))), ["split"]);
    assert_eq!(world.service().wanted.split, Split::all(target("green")));
}

#[test]
fn switch_ends_a_failover_and_a_drain() {
    let mut world = world();
    world.apply(&fail_over("v3"));
    world.apply(&drain("blue"));
    assert_eq!(kinds(&world.apply(&switch("blue"))), ["restored", "switched"]);
    assert_eq!(world.service().overlay, None);
    assert!(world.service().wanted.drained.is_empty());
    assert!(world.service().draining.is_empty());

    world.apply(&fail_over("v3"));
    assert_eq!(
        kinds(&world.apply(&switch("blue"))),
        ["restored"],
        "a failover makes a switch to stable more than nothing"
    );
}

#[test]
fn split_sets_weights_and_keeps_the_stable_target() {
    let mut world = world();
    let wanted = split(&[("green", 99.99), ("blue", 0.01)]);
    assert_eq!(kinds(&world.apply(&set_split(wanted.clone()))), ["split"]);
    assert_eq!(world.service().wanted.split, wanted);
    assert_eq!(world.service().wanted.stable, target("green"));
    changes_nothing(&mut world, &set_split(wanted));
}

#[test]
fn names_that_do_not_exist_are_refused_with_their_path() {
    let world = world();
    let it_has = "service web has no target nope; it has blue, green, v3";
    assert_eq!(refused(&world, &switch("nope")), (422, format!("to: {it_has}")));
    assert_eq!(refused(&world, &fail_over("nope")), (422, format!("to: {it_has}")));
    assert_eq!(refused(&world, &put_mirror("audit", mirror_to("nope"))), (422, format!("to: {it_has}")));
    let unknown = split(&[("green", 50.0), ("nope", 50.0)]);
    assert_eq!(refused(&world, &set_split(unknown)), (422, format!("nope: {it_has}")));
    assert_eq!(refused(&world, &remove("nope")), (404, "service web has no target nope".into()));
    assert_eq!(refused(&world, &drain("nope")), (404, "service web has no target nope".into()));
    assert_eq!(refused(&world, &remove_mirror("nope")), (404, "service web has no mirror nope".into()));
    let elsewhere = Change::Restore { service: ServiceId::parse("other").unwrap() };
    assert_eq!(refused(&world, &elsewhere), (404, "there is no service other".into()));
}

#[test]
fn an_operators_failover_holds_until_restored() {
    let mut world = World::web(FailbackMode::Auto);
    let applied = world.apply(&fail_over("v3"));
    assert_eq!(kinds(&applied), ["failover"]);
    changes_nothing(&mut world, &fail_over("v3"));
    let overlay = world.service().overlay.clone().unwrap();
    assert_eq!((overlay.from, overlay.to, overlay.cause), (target("green"), target("v3"), Cause::Operator));
    assert_eq!(world.service().wanted.split, Split::all(target("green")), "a failover never rewrites the split");
    world.wait(3_600);
    changes_nothing(&mut world, &Change::Tick);

    assert_eq!(kinds(&world.apply(&restore())), ["restored"]);
    assert_eq!(world.service().overlay, None);
    assert_eq!(refused(&world, &restore()).0, 409);
}

#[test]
fn failover_to_the_stable_target_is_refused() {
    let (status, message) = refused(&world(), &fail_over("green"));
    assert_eq!((status, message.starts_with("to: green is the stable target")), (422, true), "{message}");
}

#[test]
fn an_operator_takes_over_a_failover_by_health() {
    let mut world = World::web(FailbackMode::Auto);
    world.see_green(Health::Unhealthy);
    assert_eq!(kinds(&world.apply(&fail_over("blue"))), ["failover"]);
    world.see_green(Health::Healthy);
    world.wait(3_600);
    changes_nothing(&mut world, &Change::Tick);
    assert_eq!(world.service().overlay.as_ref().map(|on| on.cause), Some(Cause::Operator));
}

#[test]
fn a_target_can_be_added_changed_and_removed() {
    let mut world = world();
    assert_eq!(kinds(&world.apply(&put("v4", endpoints(&["10.0.3.1:80"])))), ["target"]);
    changes_nothing(&mut world, &put("v4", endpoints(&["10.0.3.1:80"])));
    world.see(&[("v4", "10.0.3.1:80", Health::Healthy)]);
    world.apply(&put("v4", endpoints(&["10.0.3.2:80", "10.0.3.1:80"])));
    let service = world.service();
    assert_eq!(service.health_of(&target("v4"), &endpoint("10.0.3.1:80")), Health::Healthy, "what is known stays");
    assert_eq!(service.health_of(&target("v4"), &endpoint("10.0.3.2:80")), Health::Unknown);

    assert_eq!(kinds(&world.apply(&remove("v4"))), ["target removed"]);
    assert!(!world.service().wanted.targets.contains_key("v4"));
    assert_eq!(world.service().health.get("v4"), None);
    let until = world.now.mono + Duration::from_secs(30);
    assert_eq!(world.service().draining, BTreeMap::from([(target("v4"), until)]));
    world.apply(&put("v4", endpoints(&["10.0.3.1:80"])));
    assert!(world.service().draining.is_empty(), "a target that is back is not cut");
}

#[test]
fn a_target_without_endpoints_is_refused() {
    let (status, message) = refused(&world(), &put("v4", endpoints(&[])));
    assert_eq!((status, message.as_str()), (422, "endpoints: target v4 needs at least one endpoint"));
}

#[test]
fn a_target_that_something_holds_is_not_removed_and_the_holder_is_named() {
    let mut world = world();
    world.apply(&put_mirror("audit", mirror_to("v3")));
    for (name, holder) in [
        ("green", "it is the stable target"),
        ("blue", "the file's failover goes to it"),
        ("v3", "mirror audit copies to it"),
    ] {
        let (status, message) = refused(&world, &remove(name));
        assert_eq!(status, 409);
        assert!(message.contains(holder), "{message}");
    }
    world.apply(&remove_mirror("audit"));
    world.apply(&set_split(split(&[("green", 75.0), ("v3", 25.0)])));
    assert!(refused(&world, &remove("v3")).1.contains("it has 25 % of the split"));
    world.apply(&switch("green"));
    world.apply(&fail_over("v3"));
    assert!(refused(&world, &remove("v3")).1.contains("it carries the service in a failover"));
    world.apply(&restore());
    world.apply(&remove("v3"));

    let mut ruled = spec(FailbackMode::Manual);
    ruled.rules.push(tidegate_config::RuleSpec { when: tidegate_config::Match::default(), to: target("v3") });
    let ruled = World::fresh([(web(), ruled)]);
    assert!(refused(&ruled, &remove("v3")).1.contains("rule 0 of the file points at it"));
}

#[test]
fn drain_stops_new_requests_and_sets_the_end_of_the_old_ones() {
    let mut world = world();
    let weights = split(&[("green", 90.0), ("v3", 10.0)]);
    world.apply(&set_split(weights.clone()));
    assert_eq!(kinds(&world.apply(&drain("v3"))), ["drained"]);
    changes_nothing(&mut world, &drain("v3"));
    let until = world.now.mono + Duration::from_secs(30);
    assert!(world.service().wanted.drained.contains("v3"));
    assert_eq!(world.service().draining, BTreeMap::from([(target("v3"), until)]));
    assert_eq!(world.service().wanted.split, weights, "its share goes to stable, the split stays");

    world.apply(&switch("green"));
    let (status, message) = refused(&world, &set_split(weights.clone()));
    assert_eq!((status, message.contains("put the target again")), (409, true), "{message}");
    assert_eq!(refused(&world, &fail_over("v3")).0, 409);

    let again = put("v3", endpoints(&["10.0.2.1:80"]));
    assert_eq!(kinds(&world.apply(&again)), ["target"]);
    assert!(world.service().draining.is_empty());
    world.apply(&set_split(weights));
}

#[test]
fn what_carries_the_service_is_not_drained() {
    let mut world = world();
    assert_eq!(refused(&world, &drain("green")).0, 409);
    world.apply(&fail_over("v3"));
    assert_eq!(refused(&world, &drain("v3")).0, 409);
}

#[test]
fn a_drain_is_shown_a_little_longer_than_it_lasts_and_then_forgotten() {
    let mut world = world();
    world.apply(&drain("v3"));
    world.wait(34);
    changes_nothing(&mut world, &Change::Tick);
    world.wait(1);
    let before = world.state.generation;
    assert_eq!(world.apply(&Change::Tick).events, []);
    assert_eq!(world.state.generation, before.next());
    assert!(world.service().draining.is_empty());
    assert!(world.service().wanted.drained.contains("v3"), "it still takes no requests");
}

#[test]
fn mirrors_come_and_go_up_to_their_bound() {
    let mut world = world();
    assert_eq!(kinds(&world.apply(&put_mirror("audit", mirror_to("v3")))), ["mirror"]);
    changes_nothing(&mut world, &put_mirror("audit", mirror_to("v3")));
    for n in 1..MAX_MIRRORS {
        world.apply(&put_mirror(&format!("m{n}"), mirror_to("v3")));
    }
    assert_eq!(refused(&world, &put_mirror("one-more", mirror_to("v3"))).0, 409);
    assert_eq!(kinds(&world.apply(&put_mirror("audit", mirror_to("blue")))), ["mirror"], "replacing takes no room");
    assert_eq!(kinds(&world.apply(&remove_mirror("audit"))), ["mirror removed"]);
}

#[test]
fn health_of_what_is_not_configured_is_ignored() {
    let mut world = world();
    let report = |service: &str, name: &str, address: &str| HealthReport {
        service: ServiceId::parse(service).unwrap(),
        target: target(name),
        endpoint: endpoint(address),
        health: Health::Unhealthy,
        reason: String::new(),
    };
    let reports = vec![
        report("other", "green", "10.0.0.1:80"),
        report("web", "nope", "10.0.0.1:80"),
        report("web", "green", "10.9.9.9:80"),
        HealthReport { health: Health::Healthy, ..report("web", "green", "10.0.0.1:80") },
    ];
    changes_nothing(&mut world, &Change::Health { reports });
}

#[test]
fn health_changes_tell_from_what_to_what_and_cost_one_generation() {
    let mut world = world();
    let before = world.state.generation;
    let applied = world.see(&[("green", "10.0.0.1:80", Health::Suspect), ("green", "10.0.0.1:80", Health::Unhealthy)]);
    assert_eq!(kinds(&applied), ["health", "health"]);
    assert_eq!(world.state.generation, before.next());
}

#[test]
fn a_name_is_resolved_in_every_service_that_uses_it() {
    let other = ServiceId::parse("other").unwrap();
    let third = ServiceId::parse("third").unwrap();
    let mut named = spec(FailbackMode::Manual);
    named.targets.insert(target("v3"), endpoints(&["app.test:80"]));
    let mut world =
        World::fresh([(web(), named.clone()), (other.clone(), named), (third.clone(), spec(FailbackMode::Manual))]);
    let before = world.state.clone();
    let sockets = vec!["10.0.0.9:80".parse().unwrap()];
    let change = Change::Resolved { endpoint: endpoint("app.test:80"), sockets: sockets.clone() };
    world.apply(&change);
    for service in [&web(), &other] {
        assert_eq!(world.state.services[service].resolved[&endpoint("app.test:80")], sockets);
    }
    assert!(Arc::ptr_eq(&before.services[&third], &world.state.services[&third]));
    changes_nothing(&mut world, &change);
}

#[test]
fn only_the_touched_service_is_a_new_one() {
    let other = ServiceId::parse("other").unwrap();
    let mut world = World::fresh([(web(), spec(FailbackMode::Manual)), (other.clone(), spec(FailbackMode::Manual))]);
    let before = world.state.clone();
    world.apply(&switch("blue"));
    assert!(Arc::ptr_eq(&before.services[&other], &world.state.services[&other]));
    assert!(!Arc::ptr_eq(&before.services["web"], world.service()));
}

#[test]
fn what_is_wanted_persists_and_what_is_seen_does_not() {
    let mut world = world();
    let mut check = |change: &Change, persists: bool| {
        let before = world.state.clone();
        world.apply(change);
        assert_eq!(Change::persists(&before, &world.state), persists, "{change:?}");
    };
    check(&switch("blue"), true);
    check(&fail_over("v3"), true);
    check(&restore(), true);
    check(&drain("v3"), true);
    check(&put_mirror("audit", mirror_to("v3")), true);
    check(&switch("blue"), false);
    let report = HealthReport {
        service: web(),
        target: target("v3"),
        endpoint: endpoint("10.0.2.1:80"),
        health: Health::Suspect,
        reason: String::new(),
    };
    check(&Change::Health { reports: vec![report] }, false);
}

#[test]
fn a_failover_by_health_persists_unless_a_restart_ends_it() {
    for (failback, persists) in
        [(FailbackMode::Manual, true), (FailbackMode::Auto, true), (FailbackMode::Restart, false)]
    {
        let mut world = World::web(failback);
        let before = world.state.clone();
        world.see_green(Health::Unhealthy);
        assert!(world.service().overlay.is_some());
        assert_eq!(Change::persists(&before, &world.state), persists, "{failback:?}");
    }
}

#[test]
fn passing_a_block_of_generations_persists() {
    let mut world = world();
    world.state.generation = Generation(99);
    let before = world.state.clone();
    world.see_green(Health::Suspect);
    assert_eq!(world.state.generation, Generation(100));
    assert!(Change::persists(&before, &world.state));
}

#[test]
fn a_reload_of_the_same_file_changes_nothing() {
    let mut world = world();
    world.apply(&switch("blue"));
    changes_nothing(&mut world, &Change::Reload { config: Arc::new(file([(web(), spec(FailbackMode::Manual))])) });
}

#[test]
fn overlays_of_operators_move_everything() {
    let mut world = world();
    world.apply(&fail_over("v3"));
    let Some(Overlay { share, .. }) = world.service().overlay else { panic!("there is a failover") };
    assert_eq!(share, tidegate_config::Weight::FULL);
}

/// Seals a target of web, as a deployment does before it starts a version there.
fn sealing(name: &str) -> Change {
    use crate::preview::{Label, Place, Preview, UnderTest};
    let part = UnderTest { targets: vec![target(name)], place: Place::Beside };
    let preview = Preview { members: [(web(), part)].into() };
    Change::Previews { previews: [(Label::new("dep-1").unwrap(), preview)].into() }
}

#[test]
fn no_failover_goes_to_what_is_under_test() {
    let mut world = world();
    let policy = world.service().spec.failover.clone().unwrap();
    world.apply(&sealing(policy.to.as_str()));
    world.see_green(Health::Unhealthy);
    assert_eq!(world.service().overlay, None, "by itself");
    let refused = world.try_apply(&fail_over(policy.to.as_str())).unwrap_err();
    assert_eq!(refused.status(), http::StatusCode::CONFLICT);
    world.apply(&Change::Previews { previews: crate::Previews::new() });
    world.apply(&Change::Tick);
    assert!(world.service().overlay.is_some(), "it is moved as soon as it can be");
}

#[test]
fn a_reload_keeps_seals_and_seals_what_it_brings_back() {
    let mut world = world();
    world.apply(&sealing("v3"));
    let with = |services: Vec<_>| Change::Reload { config: Arc::new(file(services)) };
    world.apply(&with(vec![(web(), spec(FailbackMode::Auto))]));
    assert!(world.service().is_sealed(&target("v3")));
    let other = tidegate_config::ServiceId::parse("other").unwrap();
    world.apply(&with(vec![(other, spec(FailbackMode::Auto))]));
    world.apply(&with(vec![(web(), spec(FailbackMode::Auto))]));
    assert!(world.service().is_sealed(&target("v3")));
}

#[test]
fn a_reload_takes_what_listeners_offer() {
    let mut world = world();
    let mut config = file([(web(), spec(FailbackMode::Manual))]);
    config.listeners.values_mut().for_each(|listener| listener.service_paths = true);
    let applied = world.apply(&Change::Reload { config: Arc::new(config) });
    assert_eq!(kinds(&applied), ["reloaded"]);
    assert!(applied.state.offers.iter().all(|offer| offer.service_paths));
}

#[test]
fn a_reload_takes_new_values_of_flags() {
    let mut world = world();
    let mut config = file([(web(), spec(FailbackMode::Manual))]);
    config.flags = flag_values(&[("beta", "true")]);
    let before = world.state.clone();
    let applied = world.apply(&Change::Reload { config: Arc::new(config.clone()) });
    assert_eq!(kinds(&applied), ["flag changed", "reloaded"]);
    assert_eq!(*world.state.flags.spec, config.flags);
    assert_eq!(world.state.generation, before.generation.next());
    assert!(Arc::ptr_eq(&before.services["web"], world.service()));
}

#[test]
fn a_target_as_a_whole_is_told_when_its_last_endpoint_goes_and_when_one_is_back() {
    let mut world = World::fresh([(web(), spec(FailbackMode::Manual))]);
    let (one, two) = ("10.0.0.1:80", "10.0.0.2:80");
    for (found, expected) in [
        (&[("green", one, Health::Healthy)][..], &["health", "target healthy"][..]),
        (&[("green", two, Health::Unhealthy)], &["health"]),
        (&[("green", one, Health::Suspect)], &["health"]),
        (&[("green", one, Health::Unhealthy)], &["health", "target unhealthy"]),
        (&[("green", one, Health::Unhealthy)], &[]),
        (&[("green", two, Health::Suspect)], &["health", "target healthy"]),
        // Within one look, only what came of it counts.
        (&[("green", two, Health::Unhealthy), ("green", two, Health::Healthy)], &["health", "health"]),
        (&[("v3", "10.0.2.1:80", Health::Unhealthy)], &["health", "target unhealthy"]),
    ] {
        assert_eq!(kinds(&world.see(found)), expected, "{found:?}");
    }
}
