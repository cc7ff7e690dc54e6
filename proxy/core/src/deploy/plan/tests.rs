use super::compile;
use crate::{
    change::fixtures::target,
    deploy::{
        memory::{HealthEntry, Note, ServiceMemory},
        plan::Around,
        step::{HookStep, Step, Version},
        testing::{Rig, Script, environment, id, service, sketch, sketch_undo, spec_of, world},
    },
    health::Health,
};

fn check(json: &str, steps: &[&str]) {
    let plan = Rig::new(Script::default()).compile(&id(1), &spec_of(json)).unwrap();
    assert_eq!(sketch(&plan), steps, "{json}");
}

#[test]
fn simple_stops_the_old_version_first_and_lets_requests_wait() {
    check(
        r#"{"strategy":"simple","service":"web","version":"2"}"#,
        &[
            "traffic web: green 100 % (held)",
            "drain web/green*3",
            "stop web/green green",
            "install web/green 2",
            "start web/green 2",
            "traffic web: green 100 %",
        ],
    );
}

#[test]
fn another_router_is_accepted_with_a_warning() {
    let json = r#"{"strategy":"blind","service":"web","traffic_router":"service-mesh"}"#;
    let plan = Rig::new(Script::default()).compile(&id(1), &spec_of(json)).unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.starts_with("traffic_router")), "{:?}", plan.warnings);
}

#[test]
fn blind_checks_nothing() {
    check(
        r#"{"strategy":"blind","service":"web","version":"2"}"#,
        &["stop web/green green", "install web/green 2", "start web/green 2", "traffic web: green 100 %"],
    );
}

#[test]
fn recreate_saves_what_was_healthy_and_checks_what_is_new() {
    let rest = [
        "traffic web: green 100 % (held)",
        "drain web/green*3",
        "stop web/green green",
        "install web/green 2",
        "start web/green 2",
        "verify web/green*3",
        "traffic web: green 100 %",
        "post hook web/green 2",
    ];
    let json = r#"{"strategy":"recreate","service":"web","version":"2","pre_hook":"pre","post_hook":"post"}"#;
    check(json, &[&["pre hook web/green 2", "save web/green green"][..], &rest].concat());
    // Of an old version that is ill no copy is made, and the pre hook may come after the stop.
    let json = r#"{"strategy":"recreate","service":"web","version":"2","pre_hook":"pre","post_hook":"post",
        "pre_order":"after-stop"}"#;
    let mut rig = Rig::new(Script::default());
    rig.world.see(&[("green", "10.0.0.1:80", crate::health::Health::Unhealthy)]);
    let plan = rig.compile(&id(1), &spec_of(json)).unwrap();
    let (before, after) = rest.split_at(3);
    assert_eq!(sketch(&plan), [before, &["pre hook web/green 2"], after].concat());
}

#[test]
fn what_recreate_stopped_is_installed_started_and_checked_again() {
    let json = r#"{"strategy":"recreate","service":"web","version":"2"}"#;
    let plan = Rig::new(Script::default()).compile(&id(1), &spec_of(json)).unwrap();
    let undo: Vec<_> = plan.steps.iter().flat_map(|step| step.undo.clone()).collect();
    // Read from the end.
    assert_eq!(
        sketch_undo(&undo),
        [
            "traffic web: green 100 %",
            "verify web/green*3",
            "start web/green green",
            "install web/green green",
            "stop web/green 2",
            "traffic web: green 100 % (held)",
        ]
    );
}

#[test]
fn rolling_update_goes_in_batches() {
    check(
        r#"{"strategy":"rolling-update","service":"web","to":"blue","max_surge":1,"max_unavailable":1,
            "batch_delay":"5s"}"#,
        &[
            "place web: green 100 % [blue: 1]",
            "install web/blue#0 blue",
            "start web/blue#0 blue",
            "verify web/blue*1",
            "traffic web: blue 50 % green 50 % [blue: 1] [green: 1]",
            "drain web/green*2",
            "stop web/green#0 green",
            "stop web/green#1 green",
            "pause Time(5s)",
            "place web: blue 50 % green 50 % [blue: 3] [green: 1]",
            "install web/blue#1 blue",
            "start web/blue#1 blue",
            "install web/blue#2 blue",
            "start web/blue#2 blue",
            "verify web/blue*2",
            "traffic web: blue 100 % [blue: 3] [green: 3]",
            "drain web/green*1",
            "stop web/green#2 green",
        ],
    );
}

#[test]
fn zero_downtime_starts_before_it_stops() {
    check(
        r#"{"strategy":"zero-downtime","service":"web","to":"blue","batch_size":2}"#,
        &[
            "place web: green 100 % [blue: 2]",
            "install web/blue#0 blue",
            "start web/blue#0 blue",
            "install web/blue#1 blue",
            "start web/blue#1 blue",
            "verify web/blue*2",
            "traffic web: blue 66.66 % green 33.34 % [blue: 2] [green: 1]",
            "drain web/green*2",
            "stop web/green#0 green",
            "stop web/green#1 green",
            "place web: blue 66.66 % green 33.34 % [blue: 3] [green: 1]",
            "install web/blue#2 blue",
            "start web/blue#2 blue",
            "verify web/blue*1",
            "traffic web: blue 100 % [blue: 3] [green: 3]",
            "drain web/green*1",
            "stop web/green#2 green",
        ],
    );
}

#[test]
fn blue_green_tests_before_it_switches_and_watches_after() {
    check(
        r#"{"strategy":"blue-green","service":"web","to":"blue","keep_old":false,"test_hook":"smoke"}"#,
        &[
            "install web/blue blue",
            "start web/blue blue",
            "verify web/blue*3",
            "functional test web/blue blue",
            "traffic web: blue 100 %",
            "analyse Watch 30s",
            "drain web/green*3",
            "stop web/green green",
        ],
    );
}

#[test]
fn canary_is_judged_after_every_share_but_the_last() {
    check(
        r#"{"strategy":"canary","service":"web","to":"v9","endpoints":["10.0.9.1:80"],"percentage":5,"steps":[20,100]}"#,
        &[
            "place web: green 100 % [v9: 1]",
            "install web/v9 v9",
            "start web/v9 v9",
            "verify web/v9*1",
            "traffic web: green 95 % v9 5 % [v9: 1]",
            "analyse Gate 300s",
            "traffic web: green 80 % v9 20 % [v9: 1]",
            "analyse Gate 300s",
            "traffic web: v9 100 % [v9: 1]",
        ],
    );
}

#[test]
fn a_test_of_variants_goes_on_with_its_winner() {
    check(
        r#"{"strategy":"ab-testing","service":"web","keep_old":false,
            "variant":["name=green,percentage=50","name=blue,percentage=50"]}"#,
        &[
            "install web/blue blue",
            "start web/blue blue",
            "verify web/green*3",
            "verify web/blue*3",
            "traffic web: blue 50 % green 50 %",
            "analyse Contest 86400s",
            "winner blue -> traffic web: blue 100 %; drain web/green*3; stop web/green green \
             | green -> traffic web: green 100 %; drain web/blue*3; stop web/blue blue",
        ],
    );
}

#[test]
fn shadow_only_copies() {
    check(
        r#"{"strategy":"shadow","service":"web","to":"v3"}"#,
        &["install web/v3 v3", "start web/v3 v3", "verify web/v3*1", "traffic web: green 100 % copy to v3"],
    );
}

#[test]
fn custom_does_what_is_written_on_a_version_that_was_checked() {
    check(
        r#"{"strategy":"custom","service":"web","to":"v3","step":[{"set":10},{"analyse":"10m"},
            {"pause":"manual","deadline":"24h"},{"hook":"smoke"},{"set":100}]}"#,
        &[
            "install web/v3 v3",
            "start web/v3 v3",
            "verify web/v3*1",
            "traffic web: green 90 % v3 10 %",
            "analyse Gate 600s",
            "pause Manual(86400s)",
            "hook web/v3 v3",
            "traffic web: v3 100 %",
        ],
    );
}

#[test]
fn a_bracket_tests_once_and_is_released_in_one_step() {
    check(
        r#"{"strategy":"blue-green","keep_old":false,"test_hook":"smoke","member":[
            {"service":"web","to":"blue"},{"service":"shop","to":"v3"}]}"#,
        &[
            "install web/blue blue",
            "start web/blue blue",
            "install shop/v3 v3",
            "start shop/v3 v3",
            "verify shop/v3*1 web/blue*3",
            "functional test web/blue blue",
            "traffic shop: v3 100 %, web: blue 100 %",
            "analyse Watch 30s",
            "drain shop/green*3 web/green*3",
            "stop web/green green",
            "stop shop/green green",
        ],
    );
}

#[test]
fn no_traffic_of_a_bracket_changes_before_every_member_was_checked() {
    for strategy in ["blue-green", "canary", "zero-downtime"] {
        let json = format!(
            r#"{{"strategy":"{strategy}","member":[{{"service":"web","to":"blue"}},{{"service":"shop","to":"v3"}},
                {{"service":"api","to":"blue"}}]}}"#
        );
        let json = json.replace(r#"{"service":"shop","to":"v3"}"#, r#"{"service":"shop","to":"blue"}"#);
        let plan = Rig::new(Script::default()).compile(&id(1), &spec_of(&json)).unwrap();
        let first = plan.steps.iter().position(|step| {
            matches!(&step.step, Step::Traffic { kind: super::super::step::TrafficKind::SetWeight, .. })
        });
        let Step::Traffic { services, .. } = &plan.steps[first.unwrap()].step else { panic!() };
        assert_eq!(services.len(), 3, "{strategy}");
        let verified = plan.steps[..first.unwrap()].iter().filter_map(|step| match &step.step {
            Step::Verify(verify) => Some(verify.endpoints.len()),
            _ => None,
        });
        assert_eq!(verified.sum::<usize>(), 3, "{strategy}");
    }
}

#[test]
fn what_was_kept_is_stopped_before_its_place_is_taken() {
    let mut rig = Rig::new(Script::default());
    let old = Version { name: "old".into(), image: None, fingerprint: None };
    let memory = rig.memory.entry(service("web")).or_default();
    memory.note(Note::Started(target("blue"), old.clone()), 1);
    memory.note(Note::Kept(target("v3"), old), 1);
    let plan = rig.compile(&id(1), &spec_of(r#"{"strategy":"blue-green","service":"web","to":"blue"}"#)).unwrap();
    assert_eq!(sketch(&plan)[..3], ["stop web/blue old", "stop web/v3 old", "install web/blue blue"]);
}

#[test]
fn the_first_version_of_a_service_skips_every_caution() {
    check(
        r#"{"strategy":"canary","service":"web","to":"green","version":"1"}"#,
        &["install web/green 1", "start web/green 1", "verify web/green*3", "traffic web: green 100 %"],
    );
}

#[test]
fn where_nothing_ever_answered_the_first_version_needs_no_caution_in_whatever_target() {
    let entry = |health| HealthEntry {
        at_unix_ms: 1,
        target: target("green"),
        endpoint: crate::change::fixtures::endpoint("10.0.0.1:80"),
        version: None,
        health,
        reason: "probe".into(),
    };
    for strategy in ["canary", "blue-green"] {
        let json = format!(r#"{{"strategy":"{strategy}","service":"web","to":"v3","version":"1"}}"#);
        let begins = |main: Health, seen: Option<Health>| {
            let mut rig = Rig::new(Script::default());
            let mut web = crate::ServiceState::clone(&rig.world.state.services["web"]);
            web.health.get_mut("green").unwrap().values_mut().for_each(|health| *health = main);
            rig.world.state.services.insert(service("web"), web.into());
            rig.memory.entry(service("web")).or_default().health.extend(seen.map(entry));
            let plan = rig.compile(&id(1), &spec_of(&json)).unwrap();
            assert_eq!(sketch(&plan)[..2], ["install web/v3 1", "start web/v3 1"], "{json}");
            sketch(&plan)[3..].to_vec()
        };
        let careless = ["traffic web: v3 100 %"];
        assert_eq!(begins(Health::Unhealthy, None), careless, "{strategy}");
        assert_eq!(begins(Health::Unhealthy, Some(Health::Unhealthy)), careless, "{strategy}");
        for (main, seen) in
            [(Health::Unhealthy, Some(Health::Healthy)), (Health::Healthy, None), (Health::Unknown, None)]
        {
            assert_ne!(begins(main, seen), careless, "{strategy}: main is {main:?}, and was {seen:?}");
        }
    }
}

#[test]
fn the_target_is_found_by_itself_where_only_one_can_be_meant() {
    let to = |json: &str| {
        let plan = Rig::new(Script::default()).compile(&id(1), &spec_of(json));
        plan.map(|plan| plan.members[0].to[0].to_string()).map_err(|problems| problems[0].to_string())
    };
    assert_eq!(to(r#"{"strategy":"canary","service":"web","image":"web:v3"}"#), Ok("v3".into()));
    assert_eq!(to(r#"{"strategy":"recreate","service":"web","image":"web:v3"}"#), Ok("green".into()));
    let several = to(r#"{"strategy":"canary","service":"web","image":"web:9"}"#).unwrap_err();
    assert_eq!(several, "to: say which target gets the new version: green is stable of blue, green, v3");
    let mut rig = Rig::new(Script::default());
    let mut web = crate::ServiceState::clone(&rig.world.state.services["web"]);
    web.wanted.targets.retain(|target, _| target.as_str() == "green");
    rig.world.state.services.insert(service("web"), web.into());
    let alone = rig.compile(&id(1), &spec_of(r#"{"strategy":"canary","service":"web"}"#)).unwrap_err();
    let message = "to: green is the only target, and stable: name a new one here, with its endpoints";
    assert_eq!(alone[0].to_string(), message);
}

#[test]
fn what_does_not_fit_the_services_is_refused_with_its_path() {
    for (json, problems) in [
        (
            r#"{"strategy":"canary","service":"web","to":"v9"}"#,
            &["to: service web has no target v9: give endpoints, or use blue, green, v3"][..],
        ),
        (
            r#"{"strategy":"canary","member":[{"service":"hardening.nope"},{"service":"web","to":"v9"}]}"#,
            &[
                "member[0].service: there is no service hardening.nope: declare it in [service.\"hardening.nope\"]",
                "member[1].to: service web has no target v9: give endpoints, or use blue, green, v3",
            ],
        ),
        (
            r#"{"strategy":"ab-testing","service":"web","variant":["name=a,percentage=50","name=green,percentage=50"]}"#,
            &["variant: service web has no target a"],
        ),
        (
            r#"{"strategy":"rolling-update","service":"web","to":"blue","replicas":9}"#,
            &["replicas: target blue has 3 endpoints, which is fewer than 9 replicas"],
        ),
        (
            r#"{"strategy":"rolling-update","service":"web","to":"blue","endpoints":["10.0.0.2:80"]}"#,
            &[
                "endpoints: 10.0.0.2:80 belongs to green too: with the same endpoints in the same order use max_surge = 0, else give others",
            ],
        ),
    ] {
        let found = Rig::new(Script::default()).compile(&id(1), &spec_of(json)).unwrap_err();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), problems.len(), "{found:?}");
        for (found, begins) in found.iter().zip(problems) {
            assert!(
                found.starts_with(&begins.replace("10.0.0.2:80 belongs", "http://10.0.0.2:80 belongs"))
                    || found.starts_with(begins),
                "{found}"
            );
        }
    }
}

#[test]
fn a_target_that_carries_a_failover_is_no_place_for_a_new_version() {
    let mut rig = Rig::new(Script::default());
    rig.world.apply(&crate::Change::Failover { service: service("web"), to: crate::change::fixtures::target("blue") });
    let problems = rig.compile(&id(1), &spec_of(r#"{"strategy":"canary","service":"web","to":"blue"}"#)).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("to: blue carries the service in a failover"), "{problems:?}");
}

#[test]
fn the_stable_target_is_no_place_beside_itself() {
    let mut rig = Rig::new(Script::default());
    let old = Version { name: "1".into(), image: None, fingerprint: None };
    rig.memory.entry(service("web")).or_default().note(Note::Started(target("green"), old), 1);
    let found = rig.compile(&id(1), &spec_of(r#"{"strategy":"canary","service":"web","to":"green"}"#)).unwrap_err();
    assert_eq!(found[0].to_string(), "to: green is the stable target already: strategy canary needs another");
}

#[test]
fn a_deployments_commands_take_the_place_of_the_services() {
    let world = world();
    let environment = environment();
    let memory = ServiceMemory::default();
    let around = world
        .state
        .services
        .iter()
        .map(|(id, service)| (id.clone(), Around { service, environment: &environment, memory: &memory }));
    let json = r#"{"strategy":"blue-green","service":"web","to":"blue","start":["mine"],"pre_hook":"gate"}"#;
    let plan = compile(&id(1), &spec_of(json), &around.collect()).unwrap();
    let hooks: Vec<&HookStep> = plan
        .steps
        .iter()
        .filter_map(|plan| match &plan.step {
            Step::Hook(hook) => Some(hook),
            _ => None,
        })
        .collect();
    assert_eq!(hooks[0].argv, ["ask"], "a name means what the configuration says");
    assert_eq!((hooks[0].timeout.as_secs(), hooks[0].idempotent), (5, true));
    assert_eq!(hooks[2].argv, ["mine"]);
    assert!(plan.steps.iter().all(|step| !matches!(&step.step, Step::Hook(hook) if hook.argv[0] == "up")));
}
