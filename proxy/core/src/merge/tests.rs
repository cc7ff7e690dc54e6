//! The file against what is saved: at a start and at a reload, field by field.

use std::{sync::Arc, time::Duration};

use tidegate_config::{FailbackMode, HealthPolicy, ListenerId, Match, RuleSpec, ServiceSpec};

use crate::{
    change::{
        Change, MAX_MIRRORS,
        fixtures::{World, endpoint, endpoints, file, mirror, mirror_to, spec, split, target, web},
    },
    event::Event,
    health::Health,
    state::{Cause, Generation, Saved, State},
};

fn declared() -> ServiceSpec {
    spec(FailbackMode::Manual)
}

fn put(name: &str, addresses: &[&str]) -> Change {
    Change::PutTarget { service: web(), target: target(name), spec: endpoints(addresses) }
}

fn put_mirror(name: &str, to: &str) -> Change {
    Change::PutMirror { service: web(), mirror: mirror(name), spec: mirror_to(to) }
}

/// Operators change a service that began as `declared`, then the file is edited to `edited`. Checks that a start and a
/// reload come to the same, and returns the state and the differences.
fn check(edited: &ServiceSpec, changes: &[Change]) -> (World, Vec<String>) {
    let mut world = World::web(FailbackMode::Manual);
    for change in changes {
        world.apply(change);
    }
    let config = file([(web(), edited.clone())]);
    let (started, differences) = State::load(&config, Some(&Saved::of(&world.state)));
    let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();

    world.apply(&Change::Reload { config: Arc::new(config) });
    assert_eq!(started.services["web"].wanted, world.service().wanted);
    assert_eq!(started.services["web"].overlay, world.service().overlay);
    (world, differences)
}

#[test]
fn a_first_start_takes_the_file() {
    let (state, differences) = State::load(&file([(web(), declared())]), None);
    assert_eq!(differences, []);
    assert_eq!(state.generation, Generation(1));
    assert_eq!(state.services["web"].wanted.stable, target("green"));
    assert_eq!(state.services["web"].wanted.targets, declared().targets);
    assert_eq!(*state.listeners, [ListenerId::parse("public").unwrap()]);
}

#[test]
fn what_operators_changed_outlives_a_restart_and_is_told() {
    let weights = split(&[("green", 10.0), ("blue", 90.0)]);
    let (world, differences) = check(
        &declared(),
        &[
            Change::Switch { service: web(), to: target("blue") },
            Change::Split { service: web(), split: weights.clone() },
            put("v3", &["10.0.2.1:80", "10.0.2.2:80"]),
            put("v4", &["10.0.3.1:80"]),
            put_mirror("audit", "v4"),
            Change::Drain { service: web(), target: target("v3") },
        ],
    );
    let wanted = &world.service().wanted;
    assert_eq!((&wanted.stable, &wanted.split), (&target("blue"), &weights));
    assert_eq!(wanted.targets["v4"], endpoints(&["10.0.3.1:80"]));
    assert!(wanted.drained.contains("v3"));
    assert_eq!(
        differences,
        [
            "service web: stable is blue (saved), the file says green",
            "service web: split is blue 90 %, green 10 % (saved), the file says green 100 %",
            "service web: target v3 is 10.0.2.1:80, 10.0.2.2:80 (saved), the file says 10.0.2.1:80",
            "service web: target v4 is 10.0.3.1:80 (saved), the file says nothing",
            "service web: mirror audit is 100 % of GET to v4 (saved), the file says nothing",
        ]
    );
}

#[test]
fn a_field_that_was_edited_in_the_file_wins_and_the_others_stay() {
    let mut edited = declared();
    edited.split = split(&[("green", 75.0), ("blue", 25.0)]);
    let operators = [
        Change::Split { service: web(), split: split(&[("green", 50.0), ("v3", 50.0)]) },
        put("blue", &["10.0.1.9:80"]),
    ];
    let (world, differences) = check(&edited, &operators);
    assert_eq!(world.service().wanted.split, edited.split);
    assert_eq!(world.service().wanted.targets["blue"], endpoints(&["10.0.1.9:80"]));
    assert_eq!(
        differences,
        [
            "service web: split is blue 25 %, green 75 % (edited in the file), saved was green 50 %, v3 50 %",
            "service web: target blue is 10.0.1.9:80 (saved), the file says 10.0.1.1:80",
        ]
    );
}

#[test]
fn an_edit_of_what_nobody_changed_is_no_difference() {
    let mut edited = declared();
    edited.targets.insert(target("v4"), endpoints(&["10.0.3.1:80"]));
    edited.targets.remove("v3");
    edited.split = split(&[("green", 99.0), ("v4", 1.0)]);
    edited.mirrors.insert(mirror("audit"), mirror_to("blue"));
    let (world, differences) = check(&edited, &[]);
    assert_eq!(differences, Vec::<String>::new());
    assert_eq!(world.service().wanted.targets, edited.targets);
    assert_eq!(world.service().wanted.mirrors, edited.mirrors);
}

#[test]
fn what_operators_removed_stays_removed_until_the_file_edits_it() {
    let remove = [Change::RemoveTarget { service: web(), target: target("v3") }];
    let (world, differences) = check(&declared(), &remove);
    assert!(!world.service().wanted.targets.contains_key("v3"));
    assert_eq!(differences, ["service web: target v3 is removed (saved), the file says 10.0.2.1:80"]);

    let mut edited = declared();
    edited.targets.insert(target("v3"), endpoints(&["10.0.2.7:80"]));
    let (world, differences) = check(&edited, &remove);
    assert_eq!(world.service().wanted.targets["v3"], endpoints(&["10.0.2.7:80"]));
    assert_eq!(differences, ["service web: target v3 is 10.0.2.7:80 (edited in the file), saved was nothing"]);
}

#[test]
fn a_target_that_a_new_rule_or_failover_needs_comes_back() {
    let remove = [Change::RemoveTarget { service: web(), target: target("v3") }];
    let mut ruled = declared();
    ruled.rules.push(RuleSpec { when: Match::default(), to: target("v3") });
    let mut failing_over = declared();
    failing_over.failover.as_mut().unwrap().to = target("v3");
    for (edited, why) in [(ruled, "a rule points at it"), (failing_over, "the failover goes to it")] {
        let (world, differences) = check(&edited, &remove);
        assert!(world.service().wanted.targets.contains_key("v3"));
        let expect = format!("service web: target v3 is 10.0.2.1:80 (as the file says), because {why}");
        assert_eq!(differences[1], expect);
    }
}

#[test]
fn a_target_that_is_removed_in_the_file_takes_what_named_it_along() {
    let mut edited = declared();
    edited.targets.remove("v3");
    let operators = [
        Change::Switch { service: web(), to: target("v3") },
        put("v3", &["10.0.2.8:80"]),
        put_mirror("audit", "v3"),
        Change::Drain { service: web(), target: target("blue") },
    ];
    let (world, differences) = check(&edited, &operators);
    let wanted = &world.service().wanted;
    assert_eq!((&wanted.stable, &wanted.split), (&target("green"), &declared().split));
    assert!(wanted.mirrors.is_empty());
    assert!(wanted.drained.contains("blue"));
    assert_eq!(
        differences,
        [
            "service web: stable is v3 (saved), the file says green",
            "service web: split is v3 100 % (saved), the file says green 100 %",
            "service web: target v3 is removed (edited in the file), saved was 10.0.2.8:80",
            "service web: mirror audit is 100 % of GET to v3 (saved), the file says nothing",
            "service web: stable is green (as the file says), because v3 is gone",
            "service web: split is green 100 % (as the file says), because v3 is gone",
            "service web: mirror audit is removed, because v3 is gone",
        ]
    );
    let until = world.now.mono + Duration::from_secs(30);
    assert_eq!(world.service().draining.get("v3"), Some(&until), "what runs on it may finish");
}

#[test]
fn a_mirror_of_the_file_falls_back_to_the_file() {
    let mut before = declared();
    before.mirrors.insert(mirror("audit"), mirror_to("blue"));
    let mut world = World::fresh([(web(), before.clone())]);
    world.apply(&put_mirror("audit", "v3"));
    before.targets.remove("v3");
    let (state, _) = State::load(&file([(web(), before.clone())]), Some(&Saved::of(&world.state)));
    assert_eq!(state.services["web"].wanted.mirrors, before.mirrors);
}

#[test]
fn mirrors_of_the_file_and_of_operators_stay_within_the_bound() {
    let mut edited = declared();
    edited.mirrors.insert(mirror("of-the-file"), mirror_to("v3"));
    let operators: Vec<Change> = (0..MAX_MIRRORS).map(|n| put_mirror(&format!("m{n:02}"), "v3")).collect();
    let (world, differences) = check(&edited, &operators);
    assert_eq!(world.service().wanted.mirrors.len(), MAX_MIRRORS);
    assert!(world.service().wanted.mirrors.contains_key("of-the-file"));
    let expect = "service web: mirror m31 is removed, because there are more than 32";
    assert_eq!(differences.last().map(String::as_str), Some(expect));
}

#[test]
fn a_drained_target_that_the_edited_split_names_takes_requests_again() {
    let mut edited = declared();
    edited.split = split(&[("green", 90.0), ("v3", 10.0)]);
    let (world, _) = check(&edited, &[Change::Drain { service: web(), target: target("v3") }]);
    assert!(world.service().wanted.drained.is_empty());
    assert!(world.service().draining.is_empty());
}

#[test]
fn a_failover_outlives_a_restart_but_in_restart_mode() {
    for (failback, outlives) in
        [(FailbackMode::Manual, true), (FailbackMode::Auto, true), (FailbackMode::Restart, false)]
    {
        for by_operator in [false, true] {
            let mut world = World::web(failback);
            if by_operator {
                world.apply(&Change::Failover { service: web(), to: target("blue") });
            } else {
                world.see_green(Health::Unhealthy);
            }
            let (state, differences) = State::load(&file([(web(), spec(failback))]), Some(&Saved::of(&world.state)));
            let expect = world.service().overlay.clone().filter(|_| outlives);
            assert_eq!(state.services["web"].overlay, expect, "{failback:?}, by an operator: {by_operator}");
            assert_eq!(differences, []);
        }
    }
}

#[test]
fn an_automatic_failback_proves_itself_anew_after_a_restart() {
    let mut world = World::web(FailbackMode::Auto);
    world.see_green(Health::Unhealthy);
    let held = world.service().overlay.clone();
    world.see_green(Health::Healthy);
    world.wait(30);
    world.apply(&Change::Tick);
    world.wait(5);
    world.apply(&Change::Tick);
    assert_ne!(world.service().overlay, held);
    let (state, _) = State::load(&file([(web(), spec(FailbackMode::Auto))]), Some(&Saved::of(&world.state)));
    assert_eq!(state.services["web"].overlay, held);
}

#[test]
fn a_failover_that_the_edited_file_contradicts_ends() {
    let fail_over = [Change::Failover { service: web(), to: target("v3") }];
    let mut edited = declared();
    edited.stable = target("v3");
    edited.split = split(&[("v3", 100.0)]);
    let (world, differences) = check(&edited, &fail_over);
    assert_eq!(world.service().overlay, None);
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert!(differences[0].starts_with("service web: failover to v3 ended"), "{differences:?}");

    let mut gone = declared();
    gone.targets.remove("v3");
    let (world, _) = check(&gone, &fail_over);
    assert_eq!(world.service().overlay, None);
}

#[test]
fn a_restart_never_gives_out_a_generation_again() {
    let config = file([(web(), declared())]);
    for (saved, begins) in [(0, 100), (1, 100), (99, 100), (100, 200), (12_345, 12_400)] {
        let saved = Saved { generation: Generation(saved), ..Saved::default() };
        assert_eq!(State::load(&config, Some(&saved)).0.generation, Generation(begins));
    }
}

#[test]
fn a_service_that_left_the_file_is_forgotten_and_told() {
    let mut world = World::web(FailbackMode::Manual);
    world.apply(&Change::Drain { service: web(), target: target("v3") });
    let (state, differences) = State::load(&file([]), Some(&Saved::of(&world.state)));
    assert!(state.services.is_empty());
    assert_eq!(differences[0].to_string(), "service web is forgotten: the file no longer declares it");
}

#[test]
fn a_reload_keeps_what_is_known_of_what_stays() {
    let mut world = World::web(FailbackMode::Manual);
    world.apply(&Change::Drain { service: web(), target: target("v3") });
    world.see_green(Health::Unhealthy);
    let before = world.service().clone();
    let mut edited = declared();
    edited.retry.attempts = 0;
    edited.targets.insert(target("green"), endpoints(&["10.0.0.2:80", "10.0.0.7:80"]));
    world.apply(&Change::Reload { config: Arc::new(file([(web(), edited.clone())])) });
    let service = world.service();
    assert_eq!(*service.spec, edited);
    assert_eq!(service.overlay.as_ref().map(|overlay| overlay.cause), Some(Cause::Health));
    assert_eq!((&service.overlay, &service.draining), (&before.overlay, &before.draining));
    let green = target("green");
    assert_eq!(service.health_of(&green, &endpoint("10.0.0.2:80")), Health::Unhealthy);
    assert_eq!(service.health_of(&green, &endpoint("10.0.0.7:80")), Health::Unknown);
    assert!(!service.health["green"].contains_key(&endpoint("10.0.0.1:80")), "what is gone is forgotten");
    assert_eq!(service.health["blue"], before.health["blue"]);
}

#[test]
fn a_reload_tells_what_it_did_and_then_that_it_happened() {
    let mut world = World::web(FailbackMode::Manual);
    let mut edited = declared();
    edited.targets.remove("v3");
    edited.targets.insert(target("v4"), endpoints(&["10.0.3.1:80"]));
    edited.stable = target("blue");
    edited.split = split(&[("blue", 100.0)]);
    edited.failover = None;
    let applied = world.apply(&Change::Reload { config: Arc::new(file([(web(), edited)])) });
    let service = web();
    assert_eq!(
        applied.events,
        [
            Event::TargetRemoved { service: service.clone(), target: target("v3") },
            Event::TargetChanged { service: service.clone(), target: target("v4") },
            Event::Switched { service: service.clone(), from: target("green"), to: target("blue") },
            Event::SplitChanged { service, from: split(&[("green", 100.0)]), to: split(&[("blue", 100.0)]) },
            Event::Reloaded { services: 1, differences: vec![] },
        ]
    );
}

#[test]
fn a_reload_adds_and_removes_services_and_leaves_the_others_alone() {
    let other = tidegate_config::ServiceId::parse("other").unwrap();
    let third = tidegate_config::ServiceId::parse("third").unwrap();
    let mut world = World::fresh([(web(), declared()), (other.clone(), declared())]);
    let before = world.state.clone();
    let config = file([(web(), declared()), (third.clone(), declared())]);
    world.apply(&Change::Reload { config: Arc::new(config) });
    assert_eq!(world.state.services.keys().collect::<Vec<_>>(), [&third, &web()]);
    assert!(Arc::ptr_eq(&before.services["web"], world.service()));
    assert_eq!(world.state.generation, before.generation.next());
}

#[test]
fn a_reload_that_changes_the_listeners_is_refused() {
    let world = World::web(FailbackMode::Manual);
    let listener = |config: &tidegate_config::Config| config.listeners.values().next().unwrap().clone();
    let mut added = file([(web(), declared())]);
    added.listeners.insert(ListenerId::parse("second").unwrap(), listener(&added));
    let mut removed = file([(web(), declared())]);
    removed.listeners.clear();
    for (config, expect) in [(added, "listener.second: a listener cannot be added"), (removed, "listener.public: ")] {
        let error = world.try_apply(&Change::Reload { config: Arc::new(config) }).unwrap_err();
        assert!(error.to_string().starts_with(expect), "{error}");
        assert_eq!(error.status(), http::StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[test]
fn endpoints_that_nothing_probes_are_in_use_from_the_start() {
    let mut passive = declared();
    passive.health = HealthPolicy::Passive;
    let mut world = World::fresh([(web(), passive.clone())]);
    let healthy = |world: &World, name: &str, address: &str| {
        assert_eq!(world.service().health_of(&target(name), &endpoint(address)), Health::Healthy);
    };
    healthy(&world, "green", "10.0.0.1:80");
    world.apply(&put("v4", &["10.0.3.1:80"]));
    healthy(&world, "v4", "10.0.3.1:80");
    world.see_green(Health::Unhealthy);
    passive.targets.insert(target("v3"), endpoints(&["10.0.2.9:80"]));
    world.apply(&Change::Reload { config: Arc::new(file([(web(), passive.clone())])) });
    healthy(&world, "v3", "10.0.2.9:80");
    assert_eq!(world.service().health_of(&target("green"), &endpoint("10.0.0.1:80")), Health::Unhealthy);
    let (state, _) = State::load(&file([(web(), passive)]), Some(&Saved::of(&world.state)));
    assert_eq!(state.services["web"].health_of(&target("v4"), &endpoint("10.0.3.1:80")), Health::Healthy);
}
