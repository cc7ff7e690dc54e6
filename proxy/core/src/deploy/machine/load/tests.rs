//! The command that makes requests: when it begins and ends, and that nothing depends on how.

use crate::deploy::{
    history::Happened,
    machine::{HookEnd, State, Verdict},
    step::HookRole,
    testing::{Rig, Script},
};

fn canary(more: &str) -> String {
    format!(
        r#"{{"strategy":"canary","service":"web","to":"blue","version":"2","steps":[20,60,100],"load":"ask"{more}}}"#
    )
}

/// What was done from the first change of traffic on.
fn done(rig: &Rig) -> Vec<&str> {
    rig.log.iter().map(String::as_str).skip_while(|line| !line.starts_with("traffic")).collect()
}

fn count(rig: &Rig, line: &str) -> usize {
    rig.log.iter().filter(|logged| *logged == line).count()
}

/// How commands of this kind ended.
fn ends(rig: &Rig) -> Vec<HookEnd> {
    let history = &rig.journal.as_ref().unwrap().history;
    let end = |what: &Happened| match what {
        Happened::HookFinished { role: HookRole::Load, report, .. } => Some(report.end.clone()),
        _ => None,
    };
    history.iter().filter_map(|entry| end(&entry.what)).collect()
}

#[test]
fn it_runs_as_long_as_each_analysis_and_traffic_does_not_wait_for_its_end() {
    let mut rig = Rig::new(Script::default());
    assert_eq!(rig.deploy(1, &canary("")), State::Succeeded);
    let done: Vec<_> = done(&rig).into_iter().map(|line| line.split(',').nth(2).map_or(line, str::trim)).collect();
    assert_eq!(
        done,
        [
            "web: blue 20 % green 80 %",
            "load web/blue",
            "web: blue 60 % green 40 %",
            "load ends",
            "group 7 ends",
            "load web/blue",
            "web: blue 100 %",
            "load ends",
        ]
    );
    assert_eq!(rig.journal.as_ref().unwrap().load, None);
    assert_eq!(ends(&rig), [], "that it ended when it was told to is no news");
}

#[test]
fn its_failure_is_told_and_is_no_verdict() {
    let mut rig = Rig::new(Script { hooks: [(("load", "blue"), HookEnd::Exit(1))].into(), ..Script::default() });
    assert_eq!(rig.deploy(1, &canary("")), State::Succeeded);
    assert_eq!(ends(&rig), [HookEnd::Exit(1), HookEnd::Exit(1)]);
    assert_eq!(count(&rig, "load ends"), 0);
}

#[test]
fn it_ends_with_a_pause_and_with_a_rollback() {
    for verdict in [Verdict::InsufficientData, Verdict::Fail] {
        let mut rig = Rig::new(Script { verdict, ..Script::default() });
        assert!(matches!(rig.deploy(1, &canary("")), State::RolledBack { .. }));
        assert_eq!((count(&rig, "load web/blue"), count(&rig, "load ends")), (1, 1), "{:#?}", rig.log);
    }
}

#[test]
fn it_goes_on_while_an_analysis_is_extended() {
    let mut rig = Rig::new(Script { verdict: Verdict::InsufficientData, ..Script::default() });
    rig.deploy(1, &canary(r#","analyse":{"on_inconclusive":"extend"}"#));
    assert_eq!((count(&rig, "load web/blue"), count(&rig, "load ends")), (1, 1), "{:#?}", rig.log);
}

#[test]
fn after_a_restart_the_old_one_is_ended_and_it_begins_once_more() {
    let json = canary("").replace("[20,60,100]", "[20,100]");
    let mut rig = Rig::new(Script::default());
    rig.deploy(1, &json);
    let mut again = 0;
    for border in 1..=rig.borders {
        let mut mortal = Rig::new(Script::default());
        mortal.kill_at = Some(border);
        assert_eq!(mortal.deploy(1, &json), State::Succeeded);
        assert_eq!(mortal.journal.as_ref().unwrap().load, None, "killed at {border}: {:#?}", mortal.log);
        assert!(count(&mortal, "load web/blue") <= 2, "killed at {border}: {:#?}", mortal.log);
        again += count(&mortal, "group 7 ends");
    }
    assert!(again > 0, "it was never cut off");
}
