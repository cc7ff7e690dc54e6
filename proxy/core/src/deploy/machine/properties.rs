//! Whatever happens, in whatever order: the machine answers, ends, and never loses what is to be taken back.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Command, Deployment, Doing, Effect, HookEnd, HookReport, Input, LoadPhase, Outcome, Process, State, Stepped,
    Verdict, Write, recover, step,
};
use crate::{
    change::{ReleaseCause, fixtures::target},
    deploy::testing::{Rig, Script, id, judged, reread, service, spec_of},
    state::Moment,
};

const SPECS: [&str; 8] = [
    r#"{"strategy":"simple","service":"web","version":"2"}"#,
    r#"{"strategy":"blind","service":"web","version":"2"}"#,
    r#"{"strategy":"recreate","service":"web","version":"2","auto_rollback":false,"pre_hook":"pre"}"#,
    r#"{"strategy":"rolling-update","service":"web","to":"blue","max_unavailable":1,"batch_delay":"1s"}"#,
    r#"{"strategy":"blue-green","keep_old":"10m","member":[{"service":"web","to":"blue"},{"service":"shop","to":"v3"}]}"#,
    r#"{"strategy":"canary","service":"web","to":"blue","steps":[1,50],"analyse":{"on_inconclusive":"extend"},"load":"ask"}"#,
    r#"{"strategy":"ab-testing","service":"web","keep_old":false,"variant":["name=green,percentage=50","name=blue,percentage=50"]}"#,
    r#"{"strategy":"custom","service":"web","to":"v3","step":[{"set":10},{"gate":"gate"},{"pause":"manual"},{"analyse":"1m"},{"hook":"x"},{"set":100}],"analyse":{"on_fail":"pause","on_inconclusive":"promote"}}"#,
];

/// Something that happens, before it is known which act it answers.
#[derive(Debug, Clone)]
enum Chance {
    Answer(Outcome),
    Stale(Outcome),
    Command(Command),
    Judged(Verdict),
    Down,
    Started,
    Superseded,
    Execute,
    Wait(u64),
    Restart,
}

fn an_outcome() -> impl Strategy<Value = Outcome> {
    let hook = |end| Outcome::Hook(HookReport { end, output: String::new() });
    prop_oneof![
        6 => Just(Outcome::Done),
        1 => Just(Outcome::Failed("no".into())),
        1 => Just(Outcome::Lost("gone".into())),
        8 => Just(hook(HookEnd::Exit(0))),
        1 => Just(hook(HookEnd::Exit(1))),
        1 => Just(hook(HookEnd::Exit(75))),
        1 => Just(hook(HookEnd::Signal(9))),
        1 => Just(hook(HookEnd::TimedOut)),
    ]
}

fn a_command() -> impl Strategy<Value = Command> {
    prop::sample::select(vec![
        Command::Promote,
        Command::PromoteFull,
        Command::Pause,
        Command::Resume,
        Command::Skip,
        Command::Cancel,
        Command::Rollback,
        Command::SelectWinner(target("blue")),
        Command::SelectWinner(target("green")),
        Command::SelectWinner(target("nope")),
    ])
}

fn a_chance() -> impl Strategy<Value = Chance> {
    let verdict = prop::sample::select(vec![
        Verdict::Running,
        Verdict::Pass,
        Verdict::Inconclusive,
        Verdict::InsufficientData,
        Verdict::Fail,
    ]);
    prop_oneof![
        30 => an_outcome().prop_map(Chance::Answer),
        2 => an_outcome().prop_map(Chance::Stale),
        3 => a_command().prop_map(Chance::Command),
        3 => verdict.prop_map(Chance::Judged),
        1 => Just(Chance::Down),
        1 => Just(Chance::Started),
        1 => Just(Chance::Superseded),
        1 => Just(Chance::Execute),
        5 => prop::sample::select(vec![0, 1, 10, 400, 100_000]).prop_map(Chance::Wait),
        2 => Just(Chance::Restart),
    ]
}

fn awaited(d: &Deployment) -> u64 {
    match &d.state {
        State::Running { doing: Doing::Act { op, .. }, .. } => *op,
        State::RollingBack { doing, .. } => doing.op,
        State::Running { doing: Doing::Analyse { .. }, .. } => d.load.map_or(u64::MAX, |load| load.op),
        _ => d.retiring.as_ref().and_then(|retiring| retiring.op).unwrap_or(u64::MAX),
    }
}

fn check(before: &Deployment, after: &Stepped) -> Result<(), TestCaseError> {
    let d = &after.deployment;
    let over = matches!(d.state, State::Succeeded | State::RolledBack { .. } | State::Failed { .. } | State::Cancelled);
    let analyses = matches!(d.state, State::Running { doing: Doing::Analyse { .. }, .. });
    let loads = d.load.is_some_and(|load| load.phase == LoadPhase::Running);
    prop_assert!(analyses || !loads, "requests are made for nothing: {:?}", d.state);
    if d.is_active() {
        prop_assert!(d.wakes_at().is_some(), "every wait has a deadline: {:?}", d.state);
    }
    if over || matches!(d.state, State::Pending) {
        prop_assert_eq!(d.wakes_at().is_some(), d.retiring.is_some());
    }
    if let State::RolledBack { .. } = &d.state {
        prop_assert!(d.undo.is_empty());
        for (service, base) in &d.plan.base {
            let now = &d.traffic[service];
            prop_assert_eq!((&now.split, &now.stable, now.hold), (&base.split, &base.stable, base.hold));
        }
    }
    if let (State::RollingBack { .. }, State::RollingBack { .. }) = (&before.state, &d.state) {
        prop_assert!(d.undo.len() <= before.undo.len(), "what takes back is never taken back");
    }
    let begins_back =
        !matches!(before.state, State::RollingBack { .. }) && matches!(d.state, State::RollingBack { .. });
    if begins_back {
        prop_assert_eq!(after.write, Write::BestEffort, "a rollback does not wait for the disk");
        if !d.standing.base_stopped && d.standing.released {
            let first = after.effects.first();
            let is_base = matches!(first, Some(Effect::Release { services, cause: ReleaseCause::Undo, .. })
                if *services == d.plan.base);
            prop_assert!(is_base, "traffic comes first: {:?}", first);
        }
    }
    // To watch on after a restart does nothing to anybody.
    let acts = after.effects.iter().filter(|effect| !matches!(effect, Effect::Tell(_) | Effect::Watch(_)));
    if acts.count() > 0 {
        prop_assert!(after.write != Write::No, "nothing is done that was not written down: {:?}", after.effects);
    }
    prop_assert!(d.state == before.state || after.write != Write::No, "no move is forgotten");
    Ok(())
}

/// A tick before its time, and an answer to nothing, change nothing.
fn assert_no_further_step(d: &Deployment, now: Moment) -> Result<(), TestCaseError> {
    let mut still = d.clone();
    still.history.begin();
    if d.wakes_at().is_none_or(|at| at > now.mono) {
        let idle = step(d, Input::Tick, now).unwrap();
        prop_assert_eq!((&idle.deployment, idle.write, idle.effects.len()), (&still, Write::No, 0));
    }
    let stale = step(d, Input::Done { op: d.last_op + 1, outcome: Outcome::Done }, now).unwrap();
    prop_assert_eq!((&stale.deployment, stale.write, stale.effects.len()), (&still, Write::No, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_sequence_of_inputs_is_answered_and_ends(
        at in 0..SPECS.len(),
        chances in prop::collection::vec(a_chance(), 0..60),
    ) {
        let spec = spec_of(SPECS[at]);
        let rig = Rig::new(Script::default());
        let plan = rig.compile(&id(1), &spec).unwrap();
        let mut now = rig.world.now;
        let created = Deployment::create(id(1), spec, plan.clone(), now);
        let mut d = step(&created.deployment, Input::Execute(Box::new(plan.clone())), now).unwrap().deployment;
        for chance in chances {
            let input = match chance {
                Chance::Answer(outcome) => Input::Done { op: awaited(&d), outcome },
                Chance::Stale(outcome) => Input::Done { op: awaited(&d).wrapping_sub(1), outcome },
                Chance::Command(command) => Input::Command(command),
                Chance::Judged(verdict) => Input::Judged { service: service("web"), judged: judged(verdict, Some("blue")) },
                Chance::Down => Input::TargetDown {
                    service: service("web"), target: target("blue"), reason: "it fell".into(),
                },
                Chance::Started => Input::HookStarted { op: awaited(&d), process: Process { group: 1, started: 2 } },
                Chance::Superseded => Input::Superseded,
                Chance::Execute => Input::Execute(Box::new(plan.clone())),
                Chance::Wait(seconds) => {
                    now.mono += Duration::from_secs(seconds);
                    now.unix_ms += seconds * 1000;
                    Input::Tick
                }
                Chance::Restart => {
                    let read = reread(&d);
                    prop_assert_eq!(&read, &reread(&read), "what is written is what is read");
                    let stepped = recover(&read, now);
                    check(&d, &stepped)?;
                    d = stepped.deployment;
                    continue;
                }
            };
            if let Ok(stepped) = step(&d, input, now) {
                check(&d, &stepped)?;
                d = stepped.deployment;
            }
            assert_no_further_step(&d, now)?;
        }
        // Nobody answers any more: time alone brings it to an end.
        let mut ticks = 0;
        while let Some(at) = d.wakes_at() {
            let left = at.saturating_sub(now.mono);
            now.mono += left;
            now.unix_ms += left.as_millis() as u64;
            let stepped = step(&d, Input::Tick, now).unwrap();
            check(&d, &stepped)?;
            d = stepped.deployment;
            ticks += 1;
            prop_assert!(ticks < 200, "it does not end: {:?}", d.state);
        }
        prop_assert!(!d.is_active());
    }
}
