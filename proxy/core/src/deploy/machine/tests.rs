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
        ("canary with load", one("canary", r#","steps":[5],"load":"ask""#)),
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
    assert_eq!(end.load, None, "{what}: {:#?}", rig.log);
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

/// A deployment in each of its states, by name.
fn in_each_state() -> Vec<(&'static str, Deployment)> {
    let mut found: Vec<(&'static str, Deployment)> = Vec::new();
    let mut keep = |name: &'static str, d: &Deployment| found.push((name, d.clone()));
    let json = r#"{"strategy":"custom","service":"web","to":"blue","step":[{"set":10},{"pause":"1h"},{"set":100}]}"#;
    let rig = Rig::new(Script::default());
    let spec = crate::deploy::testing::spec_of(json);
    let id = crate::deploy::testing::id(1);
    let plan = rig.compile(&id, &spec).unwrap();
    let now = rig.world.now;
    let pending = Deployment::create(id, spec, plan.clone(), now).deployment;
    keep("pending", &pending);
    let next = |d: &Deployment, input| step(d, input, now).unwrap().deployment;
    keep("cancelled", &next(&pending, Input::Command(Command::Cancel)));
    let mut d = next(&pending, Input::Execute(Box::new(plan)));
    keep("acting", &d);
    let answer = |d: &Deployment| {
        let (op, hook) = match &d.state {
            State::Running { at, doing: Doing::Act { op, .. } } => (*op, d.plan.steps[*at].step.command().is_some()),
            State::RollingBack { doing, .. } => {
                (doing.op, matches!(d.undo.last(), Some(crate::deploy::step::UndoStep::Hook(_))))
            }
            _ => panic!("{:?}", d.state),
        };
        let report = HookReport { end: HookEnd::Exit(0), output: String::new() };
        let outcome = if hook { Outcome::Hook(report) } else { Outcome::Done };
        step(d, Input::Done { op, outcome }, now).unwrap().deployment
    };
    while !matches!(d.state, State::Running { doing: Doing::Wait { .. }, .. }) {
        d = answer(&d);
    }
    keep("waiting", &d);
    keep("paused", &next(&d, Input::Command(Command::Pause)));
    let mut back = next(&d, Input::Command(Command::Rollback));
    keep("rolling back", &back);
    while matches!(back.state, State::RollingBack { .. }) {
        back = answer(&back);
    }
    keep("rolled back", &back);
    d = next(&d, Input::Command(Command::Promote));
    while d.is_active() {
        d = answer(&d);
    }
    keep("succeeded", &d);
    keep("superseded", &next(&d, Input::Superseded));
    found
}

#[test]
fn each_command_has_its_states() {
    let commands = [
        ("promote", Command::Promote),
        ("promote full", Command::PromoteFull),
        ("pause", Command::Pause),
        ("resume", Command::Resume),
        ("skip", Command::Skip),
        ("cancel", Command::Cancel),
        ("rollback", Command::Rollback),
    ];
    let accepted = |name: &str| match name {
        "pending" => &["cancel"][..],
        "acting" => &["promote full", "pause", "rollback"],
        "waiting" => &["promote", "promote full", "pause", "skip", "rollback"],
        "paused" => &["promote", "promote full", "pause", "resume", "skip", "rollback"],
        "rolling back" => &["rollback"],
        "succeeded" => &["rollback"],
        "cancelled" | "rolled back" | "superseded" => &[],
        other => panic!("{other}"),
    };
    let states = in_each_state();
    assert_eq!(states.len(), 9);
    for (state, d) in states {
        for (name, command) in &commands {
            let now = crate::state::Moment { mono: std::time::Duration::from_secs(1_000), unix_ms: 1_700_000_000_000 };
            let answer = step(&d, Input::Command(command.clone()), now);
            assert_eq!(answer.is_ok(), accepted(state).contains(name), "{name} while {state}: {answer:?}");
            if let Err(refused) = answer {
                assert_eq!(refused.status(), http::StatusCode::CONFLICT, "{name} while {state}");
            }
        }
    }
}

#[test]
fn a_rollback_by_hand_sends_traffic_back_before_it_ends_the_command_that_runs() {
    let json = r#"{"strategy":"custom","service":"web","to":"blue","step":[{"set":10},{"hook":["slow"]},{"set":100}]}"#;
    let mut rig = Rig::new(Script { hooks: [(("hook", "blue"), HookEnd::Exit(75))].into(), ..Script::default() });
    // A command that always says "not yet": the deployment is in the middle of it for a while.
    let spec = crate::deploy::testing::spec_of(json);
    let plan = rig.compile(&crate::deploy::testing::id(1), &spec).unwrap();
    let at = plan.steps.iter().position(|plan| plan.step.name() == "hook").unwrap();
    rig.deploy(1, json);
    let mut d = rig.journal.clone().unwrap();
    let now = rig.world.now;
    let until = Deadline::after(now, std::time::Duration::from_secs(5));
    let process = Some(Process { group: 7, started: 9 });
    d.state = State::Running { at, doing: Doing::Act { op: 99, runs: 1, until, process } };
    d.undo = plan.steps[..at].iter().flat_map(|plan| plan.undo.clone()).collect();
    d.standing = Standing { released: true, watching: true, ..Standing::default() };
    let back = step(&d, Input::Command(Command::Rollback), now).unwrap();
    let kinds: Vec<_> = back
        .effects
        .iter()
        .map(|effect| match effect {
            Effect::Release { services, cause: crate::change::ReleaseCause::Undo, .. } => {
                assert_eq!(*services, d.plan.base);
                "traffic"
            }
            Effect::KillHook { op: 99, process: Some(_) } => "kill",
            Effect::StopWatch => "watch ends",
            Effect::Tell(_) => "tell",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["traffic", "kill", "watch ends", "tell"]);
    assert_eq!(back.write, Write::BestEffort);
}

#[test]
fn without_data_nothing_is_promoted_whatever_was_asked_for() {
    for wish in ["pause", "promote", "extend", "rollback"] {
        let json = format!(
            r#"{{"strategy":"canary","service":"web","to":"blue","steps":[5,100],
                "analyse":{{"on_inconclusive":"{wish}"}}}}"#
        );
        let mut rig = Rig::new(Script { verdict: Verdict::InsufficientData, ..Script::default() });
        let end = rig.deploy(1, &json);
        assert!(matches!(end, State::RolledBack { .. }), "{wish}: {end:?}");
        assert!(rig.seen.iter().all(|traffic| !traffic.contains("web: blue 100 %")), "{wish}: {:?}", rig.seen);
        let known = rig.memory["web"].versions.get("blue");
        assert!(known.is_none_or(|known| known.bad.is_none()), "{wish}");
    }
}

#[test]
fn a_test_without_a_winner_waits_for_a_person() {
    let json = r#"{"strategy":"ab-testing","service":"web",
        "variant":["name=green,percentage=50","name=blue,percentage=50"]}"#;
    let choose = vec![
        Command::Promote,
        Command::PromoteFull,
        Command::SelectWinner(crate::change::fixtures::target("v3")),
        Command::SelectWinner(crate::change::fixtures::target("blue")),
    ];
    let script = Script { verdict: Verdict::Inconclusive, winner: None, commands: choose, ..Script::default() };
    let mut rig = Rig::new(script);
    assert_eq!(rig.deploy(1, json), State::Succeeded);
    assert_eq!(rig.traffic_of("web"), "blue 100 %");
    let refused: Vec<_> = rig.log.iter().filter(|line| line.starts_with("refused")).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(rig.memory["web"].running["green"].kept);
}

#[test]
fn redeploying_what_was_good_is_tried_once_and_then_it_is_stopped() {
    let mut rig = Rig::new(Script { ill: ["green"].into(), ..Script::default() });
    let end = rig.deploy(1, r#"{"strategy":"recreate","service":"web","version":"2"}"#);
    assert!(matches!(&end, State::Failed { troubles, .. } if troubles.len() == 1), "{end:?}");
    let hooks: Vec<_> = rig.log.iter().filter(|line| line.contains("undo: ")).map(String::as_str).collect();
    assert_eq!(
        hooks,
        ["undo: stop web/green", "undo: install web/green", "undo: start web/green", "undo: stop web/green"]
    );
}

#[test]
fn a_failing_undo_command_does_not_hold_up_the_rest() {
    let mut rig = Rig::new(Script {
        verdict: Verdict::Fail,
        hooks: [(("stop", "blue"), HookEnd::Exit(1))].into(),
        ..Script::default()
    });
    let end = rig.deploy(1, r#"{"strategy":"canary","service":"web","to":"blue","rollback_hook":"clean"}"#);
    assert!(matches!(&end, State::Failed { troubles, .. } if troubles == &["stop: exit code 1"]), "{end:?}");
    assert_eq!(rig.traffic_of("web"), "green 100 %");
    assert!(rig.log.last().unwrap().contains("rollback hook"), "{:?}", rig.log);
}

#[test]
fn without_automatic_rollback_it_fails_where_it_is_and_a_person_takes_it_back() {
    let json = r#"{"strategy":"canary","service":"web","to":"blue","auto_rollback":false}"#;
    let mut rig = Rig::new(Script { verdict: Verdict::Fail, ..Script::default() });
    assert!(matches!(rig.deploy(1, json), State::Failed { .. }));
    assert_eq!(rig.traffic_of("web"), "blue 10 % green 90 %");
    assert!(rig.give(Input::Command(Command::Rollback)).is_ok() && rig.run().is_ok());
    assert!(matches!(rig.journal.as_ref().unwrap().state, State::RolledBack { .. }));
    assert_eq!(rig.traffic_of("web"), "green 100 %");
}

#[test]
fn a_post_hook_that_fails_is_told_and_changes_nothing() {
    let json = r#"{"strategy":"recreate","service":"web","version":"2","post_hook":"tell"}"#;
    let mut rig = Rig::new(Script { hooks: [(("post hook", "green"), HookEnd::Exit(3))].into(), ..Script::default() });
    assert_eq!(rig.deploy(1, json), State::Succeeded);
    assert!(rig.memory["web"].versions["2"].good_unix_ms.is_some());
}

#[test]
fn a_post_hook_that_a_restart_cut_off_is_told_and_changes_nothing() {
    let json = r#"{"strategy":"recreate","service":"web","version":"2","post_hook":"tell"}"#;
    let mut rig = Rig::new(Script { hooks: [(("post hook", "green"), HookEnd::Exit(3))].into(), ..Script::default() });
    rig.deploy(1, json);
    for kill_at in 1..=rig.borders {
        let mut rig = Rig { kill_at: Some(kill_at), ..Rig::new(Script::default()) };
        assert_eq!(rig.deploy(1, json), State::Succeeded, "killed at {kill_at}: {:#?}", rig.log);
        assert!(rig.runs.values().all(|runs| *runs <= 2), "{:?}", rig.runs);
    }
}

#[test]
fn a_pre_hook_that_fails_harms_nobody_and_blames_no_version() {
    let json = r#"{"strategy":"recreate","service":"web","version":"2","pre_hook":"migrate"}"#;
    let mut rig = Rig::new(Script { hooks: [(("pre hook", "green"), HookEnd::Exit(1))].into(), ..Script::default() });
    assert!(matches!(rig.deploy(1, json), State::RolledBack { why } if why.kind == WhyKind::Hook));
    assert_eq!(rig.log, ["pre hook web/green"]);
    assert!(rig.memory.is_empty() || rig.memory["web"].versions.is_empty());
}

#[test]
fn commands_get_their_values_by_environment_and_places_in_their_arguments() {
    let json = r#"{"strategy":"zero-downtime","service":"web","to":"blue","image":"web:2; rm -rf $HOME",
        "env":{"A":"$(x)"},"cpu":0.5}"#;
    let rig = Rig::new(Script::default());
    let (id, spec) = (crate::deploy::testing::id(1), crate::deploy::testing::spec_of(json));
    let plan = rig.compile(&id, &spec).unwrap();
    let created = Deployment::create(id, spec, plan.clone(), rig.world.now).deployment;
    let mut d = step(&created, Input::Execute(Box::new(plan)), rig.world.now).unwrap();
    d = step(&d.deployment, Input::Done { op: 1, outcome: Outcome::Done }, rig.world.now).unwrap();
    let Some(Effect::Hook { call, .. }) = d.effects.first() else { panic!("{:?}", d.effects) };
    assert_eq!(call.hook.argv, ["install", "blue", "0"]);
    let env: Vec<_> = call.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        env,
        [
            "A=$(x)",
            "TIDEGATE_DEPLOYMENT=dep-1",
            "TIDEGATE_IMAGE=web:2; rm -rf $HOME",
            "TIDEGATE_LABEL_CPU=0.5",
            "TIDEGATE_REPLICA=0",
            "TIDEGATE_ROLE=install",
            "TIDEGATE_SERVICE=web",
            "TIDEGATE_SLOT=blue",
            "TIDEGATE_TARGET=blue",
            "TIDEGATE_VERSION=web:2; rm -rf $HOME",
        ]
    );
}

#[test]
fn waits_keep_their_end_over_a_restart_and_a_clock_that_jumps_back_makes_none_longer() {
    let now = |mono: u64, unix: u64| crate::state::Moment {
        mono: std::time::Duration::from_secs(mono),
        unix_ms: unix * 1000,
    };
    let deadline = Deadline::after(now(100, 5_000), std::time::Duration::from_secs(60));
    let left = |now: crate::state::Moment| deadline.rebased(now).mono.saturating_sub(now.mono).as_secs();
    assert_eq!(left(now(1, 5_010)), 50);
    assert_eq!(left(now(1, 6_000)), 0);
    assert_eq!(left(now(1, 1_000)), 60);
}
