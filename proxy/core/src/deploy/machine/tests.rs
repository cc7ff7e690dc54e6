//! Every strategy, to its end, killed at every border.

use super::*;
use crate::deploy::{
    machine::{HookEnd, Verdict},
    testing::{Rig, Script},
};

/// A deployment of every strategy and shape.
fn strategies() -> Vec<(&'static str, String)> {
    let one = |strategy: &str, more: &str| {
        format!(r#"{{"strategy":"{strategy}","service":"web","to":"blue","version":"2"{more}}}"#)
    };
    let here = |strategy: &str| {
        format!(
            r#"{{"strategy":"{strategy}","service":"web","version":"2","post_hook":"tell","rollback_hook":"clean"}}"#
        )
    };
    vec![
        ("simple", here("simple")),
        ("blind", here("blind")),
        ("recreate", here("recreate")),
        ("recreate elsewhere", one("recreate", r#","pre_hook":"pre","pre_order":"after-stop""#)),
        ("rolling", one("rolling-update", r#","max_surge":1,"max_unavailable":1,"batch_delay":"5s""#)),
        ("rolling in place", one("rolling-update", r#","max_surge":0,"max_unavailable":2"#)),
        ("zero-downtime", one("zero-downtime", r#","batch_size":2"#)),
        ("blue-green", one("blue-green", r#","pre_hook":"pre","test_hook":"smoke","keep_old":false"#)),
        ("blue-green for a while", one("blue-green", r#","keep_old":"10m""#)),
        ("canary", one("canary", r#","steps":[5,20,100],"post_hook":"tell""#)),
        (
            "canary to a new target",
            r#"{"strategy":"canary","service":"web","to":"v9","endpoints":["10.0.9.1:80"],"steps":[5]}"#.into(),
        ),
        (
            "test of variants",
            r#"{"strategy":"ab-testing","service":"web","keep_old":false,
                "variant":["name=green,percentage=50","name=blue,percentage=30","name=v3,percentage=20"]}"#
                .into(),
        ),
        ("shadow", one("shadow", "")),
        (
            "custom",
            one(
                "custom",
                r#","step":[{"set":10},{"analyse":"10m"},{"pause":"5s"},{"gate":"gate"},{"hook":"x"},{"verify":true},
                    {"mirror":{"percent":50}},{"set":100}]"#,
            ),
        ),
        (
            "bracket",
            r#"{"strategy":"blue-green","keep_old":false,"test_hook":"smoke","member":[
                {"service":"web","to":"blue"},{"service":"shop","to":"blue"},{"service":"api","to":"v3"}]}"#
                .into(),
        ),
        (
            "bracket of canaries",
            r#"{"strategy":"canary","steps":[10,100],"member":[
                {"service":"web","to":"blue"},{"service":"shop","to":"v3"}]}"#
                .into(),
        ),
    ]
}

/// Things that go wrong, or do not.
fn scripts() -> Vec<(&'static str, Script)> {
    let fails = |role, target| Script { hooks: [((role, target), HookEnd::Exit(1))].into(), ..Script::default() };
    vec![
        ("all is well", Script::default()),
        ("blue is ill", Script { ill: ["blue"].into(), ..Script::default() }),
        ("green is ill", Script { ill: ["green"].into(), ..Script::default() }),
        ("everything is ill", Script { ill: ["blue", "green", "v3", "v9"].into(), ..Script::default() }),
        ("the new version is worse", Script { verdict: Verdict::Fail, ..Script::default() }),
        ("nobody knows", Script { verdict: Verdict::InsufficientData, ..Script::default() }),
        ("blue does not start", fails("start", "blue")),
        ("blue does not stop", fails("stop", "blue")),
        ("green does not start", fails("start", "green")),
        ("green does not stop", fails("stop", "green")),
        ("the tests fail", fails("functional test", "blue")),
    ]
}

fn is_over(state: &State) -> bool {
    match state {
        State::Succeeded | State::RolledBack { .. } | State::Failed { .. } | State::Cancelled => true,
        State::Pending | State::Running { .. } | State::Paused { .. } | State::RollingBack { .. } => false,
    }
}

fn check_end(rig: &Rig, base: &str, what: &str) {
    let end = rig.journal.as_ref().unwrap();
    assert!(is_over(&end.state), "{what}: {:?}\n{:#?}", end.state, rig.log);
    for (hook, runs) in &rig.runs {
        assert!(*runs <= 2, "{what}: {hook} ran {runs} times: {:#?}", rig.log);
    }
    if let State::RolledBack { .. } = end.state {
        assert_eq!(rig.traffic(), base, "{what}: {:#?}", rig.log);
        assert!(end.undo.is_empty(), "{what}");
    }
    assert!(!rig.traffic().contains("held"), "{what}: requests wait for ever: {:#?}", rig.log);
}

#[test]
fn whenever_the_process_dies_a_deployment_comes_to_a_good_end() {
    let mut deaths = 0;
    let fresh = Rig::new(Script::default());
    for (strategy, json) in strategies() {
        for (script_name, script) in scripts() {
            let fresh = Rig { script, ..fresh.clone() };
            let mut rig = fresh.clone();
            let base = rig.traffic();
            let alive = rig.deploy(1, &json);
            let what = format!("{strategy}, {script_name}");
            check_end(&rig, &base, &what);
            if script_name == "all is well" {
                assert_eq!(alive, State::Succeeded, "{what}: {:#?}", rig.log);
            }
            let allowed: Vec<String> = rig.seen.clone();
            for border in 1..=rig.borders {
                let mut mortal = fresh.clone();
                mortal.kill_at = Some(border);
                let ended = mortal.deploy(1, &json);
                let what = format!("{what}, killed at {border}");
                check_end(&mortal, &base, &what);
                deaths += 1;
                if matches!(alive, State::Succeeded) && matches!(ended, State::Succeeded) {
                    assert_eq!(mortal.traffic(), rig.traffic(), "{what}");
                    assert!(mortal.seen.iter().all(|traffic| allowed.contains(traffic)), "{what}: {:#?}", mortal.log);
                }
                if !matches!(alive, State::Succeeded) {
                    assert!(!matches!(ended, State::Succeeded), "{what}: {:#?}", mortal.log);
                }
            }
        }
    }
    assert!(deaths > 3_000, "only {deaths} deaths");
}

#[test]
fn a_canary_that_is_worse_is_taken_back_and_remembered_as_bad() {
    let mut rig = Rig::new(Script { verdict: Verdict::Fail, ..Script::default() });
    let json = r#"{"strategy":"canary","service":"web","to":"blue","version":"2","steps":[5,20,100]}"#;
    assert!(matches!(rig.deploy(1, json), State::RolledBack { why } if why.kind == WhyKind::Analysis));
    let shares: Vec<_> = rig.log.iter().filter_map(|line| line.strip_prefix("traffic ")).collect();
    assert_eq!(shares.len(), 2, "one share, and back: {shares:?}");
    assert_eq!(rig.traffic_of("web"), "green 100 %");
    assert!(rig.memory["web"].versions["2"].bad.is_some());
}
