//! Stories of services that have a command to be run before they move.

use tidegate_config::{FailbackMode, FailoverHooks, HookUse};

use super::*;
use crate::{
    change::{
        Applied, Change,
        fixtures::{World, file, spec, target, web},
    },
    compile,
    health::Health,
};

const BLUE: &str = "10.0.1.1:80";

fn hooks(on_timeout: OnTimeout) -> FailoverHooks {
    let before = Some(HookUse::Argv(vec!["copy".into()]));
    FailoverHooks { before, on_timeout, before_timeout: Duration::from_secs(20), ..FailoverHooks::default() }
}

/// Service `web`, every endpoint healthy, with a command before its failover.
fn world(on_timeout: OnTimeout) -> World {
    let mut world = World::web(FailbackMode::Manual);
    let mut with = spec(FailbackMode::Manual);
    with.failover.as_mut().unwrap().hooks = hooks(on_timeout);
    world.apply(&Change::Reload { config: file([(web(), with)]).into() });
    world
}

/// What happened, endpoints left out.
fn told(applied: &Applied) -> Vec<String> {
    let told = applied.events.iter().filter_map(|event| match event {
        Event::FailoverPreparing { .. } => Some("preparing".to_owned()),
        Event::FailoverHeld { reason, .. } => Some(format!("held: {reason}")),
        Event::FailoverCalledOff { reason, .. } => Some(format!("called off: {reason}")),
        Event::FailoverHook { failure: None, .. } => Some("hook".to_owned()),
        Event::FailoverHook { failure: Some(why), .. } => Some(format!("hook failed: {why}")),
        Event::FailedOver { to, cause, .. } => Some(format!("moved to {to} by {cause:?}")),
        Event::Restored { .. } => Some("restored".to_owned()),
        seen if seen.is_seen() => None,
        other => Some(format!("{other:?}")),
    });
    told.collect()
}

fn run(world: &World) -> Duration {
    match world.service().preparation.as_ref().map(|preparation| preparation.stage) {
        Some(PreparationStage::Running { begun }) => begun,
        other => panic!("no command runs: {other:?}"),
    }
}

fn end(world: &mut World, run: Duration, failure: Option<&str>) -> Vec<String> {
    told(&world.apply(&Change::Prepared { service: web(), run, failure: failure.map(str::to_owned) }))
}

fn tick(world: &mut World) -> Vec<String> {
    told(&world.apply(&Change::Tick))
}

fn fail_over(world: &mut World, to: &str) -> Vec<String> {
    told(&world.apply(&Change::Failover { service: web(), to: target(to) }))
}

fn moved(world: &World) -> Option<&str> {
    world.service().overlay.as_ref().map(|overlay| overlay.to.as_str())
}

#[test]
fn a_service_moves_when_its_command_has_succeeded_and_not_before() {
    let mut world = world(OnTimeout::Switch);
    assert_eq!(told(&world.see_green(Health::Unhealthy)), ["preparing"]);
    assert_eq!(tick(&mut world), [""; 0], "it waits");
    assert_eq!(moved(&world), None);
    let run = run(&world);
    world.wait(19);
    assert_eq!(end(&mut world, run, None), ["hook", "moved to blue by Health"]);
    assert_eq!((moved(&world), &world.service().preparation), (Some("blue"), &None));
    assert_eq!(end(&mut world, run, None), [""; 0], "the same word twice says nothing new");
}

#[test]
fn no_request_goes_to_a_target_that_is_not_prepared() {
    let mut world = world(OnTimeout::Hold);
    world.see_green(Health::Unhealthy);
    let fallback = |world: &World| compile(&world.state.clone().into(), None, 1).services[0].fallback;
    assert_eq!(fallback(&world), None);
    let mut without = World::web(FailbackMode::Manual);
    without.see_green(Health::Unhealthy);
    assert!(fallback(&without).is_some(), "without a command it is the last resort");
}

#[test]
fn a_command_that_is_late_or_fails_is_passed_over_where_being_there_matters_more() {
    let mut late = world(OnTimeout::Switch);
    late.see_green(Health::Unhealthy);
    late.wait(19);
    assert_eq!(tick(&mut late), [""; 0]);
    late.wait(1);
    assert_eq!(tick(&mut late), ["hook failed: it was not done within 20s", "moved to blue by Health"]);

    let mut failing = world(OnTimeout::Switch);
    failing.see_green(Health::Unhealthy);
    let run = run(&failing);
    assert_eq!(end(&mut failing, run, Some("exit code 1")), ["hook failed: exit code 1", "moved to blue by Health"]);
}

#[test]
fn a_service_that_holds_is_prepared_again_after_growing_pauses() {
    let mut world = world(OnTimeout::Hold);
    world.see_green(Health::Unhealthy);
    for wait in [5, 10, 20, 40, 60, 60] {
        let failed = run(&world);
        let held = format!("held: the command before it failed: exit code 1; it is tried again in {wait}s");
        assert_eq!(end(&mut world, failed, Some("exit code 1")), ["hook failed: exit code 1".to_owned(), held]);
        assert_eq!(moved(&world), None, "it stays");
        world.wait(wait - 1);
        assert_eq!(tick(&mut world), [""; 0]);
        world.wait(1);
        assert_eq!(tick(&mut world), ["preparing"]);
        assert_eq!(end(&mut world, failed, None), [""; 0], "the word of an earlier run does not count");
    }
    let last = run(&world);
    assert_eq!(end(&mut world, last, None), ["hook", "moved to blue by Health"]);
}

#[test]
fn a_target_that_recovers_calls_it_off_while_the_command_runs_and_while_it_is_held() {
    let mut world = world(OnTimeout::Hold);
    world.see_green(Health::Unhealthy);
    let before = run(&world);
    assert_eq!(told(&world.see_green(Health::Healthy)), ["called off: green is not down any more"]);
    assert_eq!(end(&mut world, before, None), [""; 0], "what it did is not needed any more");
    assert_eq!(moved(&world), None);
    world.wait(1);
    world.see_green(Health::Unhealthy);
    let second = run(&world);
    assert_ne!(before, second);
    end(&mut world, second, Some("exit code 1"));
    assert_eq!(told(&world.see_green(Health::Healthy)), ["called off: green is not down any more"]);
    world.wait(100);
    assert_eq!(tick(&mut world), [""; 0]);
}

#[test]
fn a_failover_to_nowhere_is_called_off_and_begins_again_when_there_is_somewhere() {
    let mut world = world(OnTimeout::Switch);
    world.see_green(Health::Unhealthy);
    let down = world.see(&[("blue", BLUE, Health::Unhealthy)]);
    assert_eq!(told(&down), ["called off: blue cannot be used either"]);
    assert_eq!(told(&world.see(&[("blue", BLUE, Health::Healthy)])), ["preparing"]);
}

#[test]
fn an_operators_failover_is_prepared_too_and_a_healthy_target_does_not_end_it() {
    let mut world = world(OnTimeout::Hold);
    assert_eq!(fail_over(&mut world, "blue"), ["preparing"]);
    assert_eq!(fail_over(&mut world, "blue"), [""; 0], "it is on its way");
    assert_eq!(told(&world.see_green(Health::Suspect)), [""; 0]);
    let first = run(&world);
    assert_eq!(
        end(&mut world, first, Some("exit code 1")),
        ["hook failed: exit code 1", "held: the command before it failed: exit code 1; ask again when it can succeed"]
    );
    assert_eq!(world.service().preparation, None, "an operator asks again if they want to");
    world.wait(1);
    fail_over(&mut world, "blue");
    let second = run(&world);
    assert_eq!(end(&mut world, second, None), ["hook", "moved to blue by Operator"]);
    assert_eq!(fail_over(&mut world, "blue"), [""; 0]);
}

#[test]
fn an_operator_takes_over_what_health_has_begun() {
    let mut world = world(OnTimeout::Hold);
    world.see_green(Health::Unhealthy);
    let begun = run(&world);
    assert_eq!(fail_over(&mut world, "blue"), ["preparing"]);
    assert_eq!(run(&world), begun, "the command goes on");
    assert_eq!(told(&world.see_green(Health::Healthy)), [""; 0], "it is the operator's now");
    assert_eq!(end(&mut world, begun, None), ["hook", "moved to blue by Operator"]);
}

#[test]
fn operators_end_a_preparation_by_restoring_switching_and_removing() {
    let mut restored = world(OnTimeout::Hold);
    fail_over(&mut restored, "blue");
    assert_eq!(told(&restored.apply(&Change::Restore { service: web() })), ["called off: an operator asked for it"]);
    assert!(restored.try_apply(&Change::Restore { service: web() }).is_err(), "there is nothing left to end");

    let mut switched = world(OnTimeout::Hold);
    fail_over(&mut switched, "blue");
    let events = told(&switched.apply(&Change::Switch { service: web(), to: target("blue") }));
    assert_eq!(events[0], "called off: an operator switched to blue", "{events:?}");

    let mut removed = world(OnTimeout::Hold);
    fail_over(&mut removed, "v3");
    removed.apply(&Change::RemoveTarget { service: web(), target: target("v3") });
    assert_eq!(tick(&mut removed), ["called off: target v3 takes no requests"]);
}

#[test]
fn the_next_failover_of_an_operator_leaves_the_one_that_is_on_until_it_is_prepared() {
    let mut world = world(OnTimeout::Hold);
    world.see_green(Health::Unhealthy);
    let first = run(&world);
    end(&mut world, first, None);
    world.wait(1);
    assert_eq!(fail_over(&mut world, "v3"), ["preparing"]);
    assert_eq!(moved(&world), Some("blue"));
    let second = run(&world);
    assert_eq!(end(&mut world, second, None), ["hook", "moved to v3 by Operator"]);
    assert_eq!(moved(&world), Some("v3"));
}

#[test]
fn a_file_without_the_command_lets_the_service_move() {
    let mut world = world(OnTimeout::Hold);
    world.see_green(Health::Unhealthy);
    world.apply(&Change::Reload { config: file([(web(), spec(FailbackMode::Manual))]).into() });
    assert_eq!(tick(&mut world), ["moved to blue by Health"]);
}

#[test]
fn a_preparation_is_not_saved_and_costs_no_save() {
    let mut world = world(OnTimeout::Hold);
    let before = world.state.clone();
    world.see_green(Health::Unhealthy);
    assert!(world.service().preparation.is_some());
    assert!(!Change::persists(&before, &world.state));
}
