//! Stories of services that lose their stable target, told by reports of health and by time.

use tidegate_config::Split;

use super::*;
use crate::change::{
    Applied, Change,
    fixtures::{World, endpoint, endpoints, spec, target, web},
};

const GREEN_1: &str = "10.0.0.1:80";
const GREEN_2: &str = "10.0.0.2:80";
const BLUE: &str = "10.0.1.1:80";

/// The share that is moved now, in percent, and to where.
fn moved(world: &World) -> Option<(String, f64)> {
    world.service().overlay.as_ref().map(|overlay| (overlay.to.to_string(), overlay.share.percent()))
}

fn all_to_blue() -> Option<(String, f64)> {
    Some(("blue".into(), 100.0))
}

fn blue(world: &mut World, health: Health) -> Applied {
    world.see(&[("blue", BLUE, health)])
}

/// Events that are not about what was seen.
fn moves(applied: &Applied) -> Vec<Event> {
    applied.events.iter().filter(|event| !event.is_seen()).cloned().collect()
}

fn tick(world: &mut World) -> Vec<Event> {
    world.apply(&Change::Tick).events
}

#[test]
fn the_service_moves_when_the_last_endpoint_of_stable_is_out() {
    let mut world = World::web(FailbackMode::Manual);
    assert_eq!(moves(&world.see(&[("green", GREEN_1, Health::Unhealthy)])), []);
    let before = world.state.generation;
    let applied = world.see(&[("green", GREEN_2, Health::Unhealthy)]);
    assert_eq!(
        moves(&applied),
        [Event::FailedOver {
            service: web(),
            from: target("green"),
            to: target("blue"),
            cause: Cause::Health,
            reason: "no endpoint of green is available: 10.0.0.1:80 is unhealthy, 10.0.0.2:80 is unhealthy".into(),
        }]
    );
    assert_eq!(moved(&world), all_to_blue());
    assert_eq!(world.state.generation, before.next(), "the verdict and the move are one generation");
    assert_eq!(world.service().wanted.split, Split::all(target("green")), "a failover never rewrites the split");
}

#[test]
fn only_a_verdict_on_every_endpoint_moves_a_service() {
    let healths = [Health::Unknown, Health::Healthy, Health::Suspect, Health::Unhealthy];
    for first in healths {
        for second in healths {
            for other in healths {
                let mut world = World::fresh([(web(), spec(FailbackMode::Manual))]);
                world.see(&[("blue", BLUE, other), ("green", GREEN_1, first), ("green", GREEN_2, second)]);
                let down = first == Health::Unhealthy && second == Health::Unhealthy;
                let goes = down && matches!(other, Health::Healthy | Health::Suspect);
                assert_eq!(moved(&world).is_some(), goes, "{first:?} {second:?}, blue {other:?}");
            }
        }
    }
}

#[test]
fn a_service_without_a_policy_stays() {
    let mut alone = spec(FailbackMode::Manual);
    alone.failover = None;
    let mut world = World::fresh([(web(), alone)]);
    blue(&mut world, Health::Healthy);
    assert_eq!(moves(&world.see_green(Health::Unhealthy)), []);
}

#[test]
fn the_move_is_made_as_soon_as_there_is_somewhere_to_go() {
    let mut world = World::web(FailbackMode::Manual);
    blue(&mut world, Health::Unhealthy);
    assert_eq!(moves(&world.see_green(Health::Unhealthy)), []);
    assert_eq!(moves(&blue(&mut world, Health::Healthy)).len(), 1);
    assert_eq!(moved(&world), all_to_blue());
}

#[test]
fn a_drained_target_is_nowhere_to_go() {
    let mut world = World::web(FailbackMode::Manual);
    world.apply(&Change::Drain { service: web(), target: target("blue") });
    assert_eq!(moves(&world.see_green(Health::Unhealthy)), []);
    let spec = endpoints(&[BLUE]);
    world.apply(&Change::PutTarget { service: web(), target: target("blue"), spec });
    assert_eq!(tick(&mut world).len(), 1, "and is one again when it takes requests");
}

#[test]
fn a_name_that_no_longer_resolves_is_down() {
    let mut named = spec(FailbackMode::Manual);
    named.targets.insert(target("green"), endpoints(&["app.test:80"]));
    let mut world = World::fresh([(web(), named)]);
    blue(&mut world, Health::Healthy);
    let resolve = |sockets: &[&str]| Change::Resolved {
        endpoint: endpoint("app.test:80"),
        sockets: sockets.iter().map(|socket| socket.parse().unwrap()).collect(),
    };
    assert_eq!(standing(world.service(), &target("green")), Standing::Undecided);
    world.apply(&resolve(&["10.0.0.1:80"]));
    world.see(&[("green", "app.test:80", Health::Healthy)]);
    assert_eq!(standing(world.service(), &target("green")), Standing::Healthy);
    let events = world.apply(&resolve(&[])).events;
    let [Event::TargetUnhealthy { reason: seen, .. }, Event::FailedOver { reason, .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(reason, "no endpoint of green is available: app.test:80 does not resolve");
    assert_eq!(seen, reason);
    assert!(matches!(
        world.apply(&resolve(&["10.0.0.1:80"])).events.as_slice(),
        [Event::TargetHealthy { target: back, .. }] if *back == target("green")
    ));
}

#[test]
fn manual_and_restart_hold_until_restored() {
    for failback in [FailbackMode::Manual, FailbackMode::Restart] {
        let mut world = World::web(failback);
        world.see_green(Health::Unhealthy);
        assert_eq!(moves(&world.see_green(Health::Healthy)), []);
        for _ in 0..120 {
            world.wait(1);
            assert_eq!(tick(&mut world), []);
        }
        assert_eq!(moved(&world), all_to_blue());
        let events = world.apply(&Change::Restore { service: web() }).events;
        let reason = "an operator asked for it".to_owned();
        assert_eq!(events, [Event::Restored { service: web(), to: target("green"), reason }]);
        assert_eq!(tick(&mut world), [], "green is healthy: it stays");
    }
}

#[test]
fn a_service_restored_to_a_target_that_is_still_down_moves_again() {
    let mut world = World::web(FailbackMode::Manual);
    world.see_green(Health::Unhealthy);
    world.apply(&Change::Restore { service: web() });
    assert_eq!(moved(&world), None);
    assert_eq!(tick(&mut world).len(), 1);
    assert_eq!(moved(&world), all_to_blue());
}

#[test]
fn auto_gives_traffic_back_after_thirty_seconds_in_ten_steps() {
    let mut world = World::web(FailbackMode::Auto);
    world.see_green(Health::Unhealthy);
    world.see(&[("green", GREEN_1, Health::Healthy)]);
    for _ in 0..29 {
        world.wait(1);
        assert_eq!(tick(&mut world), []);
    }
    let mut shares = Vec::new();
    for _ in 0..10 {
        world.wait(1);
        assert!(matches!(tick(&mut world).as_slice(), [Event::FailingBack { .. }]));
        shares.extend(moved(&world).map(|(_, share)| share));
        assert_eq!(tick(&mut world), [], "a second tick at the same moment changes nothing");
    }
    assert_eq!(shares, [100.0, 90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0]);
    world.wait(1);
    let reason = "green proved healthy and took its traffic back".to_owned();
    assert_eq!(tick(&mut world), [Event::Restored { service: web(), to: target("green"), reason }]);
    assert_eq!(moved(&world), None);
}

#[test]
fn late_ticks_do_not_skip_the_ramp_but_may_skip_its_steps() {
    let mut world = World::web(FailbackMode::Auto);
    world.see_green(Health::Unhealthy);
    world.see_green(Health::Healthy);
    world.wait(3_600);
    tick(&mut world);
    assert_eq!(moved(&world), all_to_blue());
    world.wait(4);
    tick(&mut world);
    assert_eq!(moved(&world), Some(("blue".into(), 60.0)));
    world.wait(60);
    tick(&mut world);
    assert_eq!(moved(&world), None);
}

#[test]
fn an_illness_while_proving_starts_the_proof_anew() {
    for illness in [Health::Suspect, Health::Unhealthy, Health::Unknown] {
        let mut world = World::web(FailbackMode::Auto);
        world.see_green(Health::Unhealthy);
        world.see_green(Health::Healthy);
        world.wait(29);
        assert_eq!(moves(&world.see_green(illness)), [], "the traffic does not move, so there is nothing to tell");
        world.see_green(Health::Healthy);
        world.wait(29);
        assert_eq!(tick(&mut world), []);
        world.wait(1);
        assert!(matches!(tick(&mut world).as_slice(), [Event::FailingBack { .. }]), "{illness:?}");
    }
}

#[test]
fn an_illness_while_ramping_takes_all_traffic_away_again() {
    let mut world = World::web(FailbackMode::Auto);
    world.see_green(Health::Unhealthy);
    world.see_green(Health::Healthy);
    world.wait(30);
    tick(&mut world);
    world.wait(5);
    tick(&mut world);
    assert_eq!(moved(&world), Some(("blue".into(), 50.0)));
    let events = moves(&world.see_green(Health::Unhealthy));
    assert!(matches!(events.as_slice(), [Event::FailedOver { cause: Cause::Health, .. }]), "{events:?}");
    assert_eq!(moved(&world), all_to_blue());
    world.see_green(Health::Healthy);
    world.wait(29);
    assert_eq!(tick(&mut world), []);
}

#[test]
fn one_of_several_endpoints_falling_ill_does_not_stop_a_failback() {
    let mut world = World::web(FailbackMode::Auto);
    world.see_green(Health::Unhealthy);
    world.see_green(Health::Healthy);
    world.wait(15);
    world.see(&[("green", GREEN_2, Health::Unhealthy)]);
    world.wait(15);
    assert!(matches!(tick(&mut world).as_slice(), [Event::FailingBack { .. }]));
}

#[test]
fn an_endpoint_that_alternates_moves_the_service_once() {
    for failback in [FailbackMode::Manual, FailbackMode::Restart, FailbackMode::Auto] {
        let mut world = World::web(failback);
        let mut told = Vec::new();
        for second in 0..600_u32 {
            world.wait(1);
            let health = if second / 7 % 2 == 0 { Health::Unhealthy } else { Health::Healthy };
            told.extend(moves(&world.see_green(health)));
            told.extend(tick(&mut world));
        }
        assert_eq!(told.len(), 1, "{failback:?}: {told:?}");
        assert_eq!(moved(&world), all_to_blue());
    }
}

#[test]
fn the_service_goes_back_when_its_refuge_dies_and_stable_lives() {
    for failback in [FailbackMode::Manual, FailbackMode::Restart, FailbackMode::Auto] {
        let mut world = World::web(failback);
        world.see_green(Health::Unhealthy);
        world.see_green(Health::Healthy);
        let events = moves(&blue(&mut world, Health::Unhealthy));
        let reason = "no endpoint of blue is available: 10.0.1.1:80 is unhealthy, and green is available".to_owned();
        assert_eq!(events, [Event::Restored { service: web(), to: target("green"), reason }]);
        assert_eq!(moved(&world), None);
    }
}

#[test]
fn with_both_targets_down_the_service_stays_where_it_is_until_one_lives() {
    let mut world = World::web(FailbackMode::Manual);
    world.see_green(Health::Unhealthy);
    assert_eq!(moves(&blue(&mut world, Health::Unhealthy)), []);
    assert_eq!(tick(&mut world), []);
    assert_eq!(moved(&world), all_to_blue());
    assert_eq!(moves(&world.see_green(Health::Healthy)).len(), 1);
    assert_eq!(moved(&world), None);
}

#[test]
fn an_operators_failover_stays_whatever_health_says() {
    let mut world = World::web(FailbackMode::Auto);
    world.apply(&Change::Failover { service: web(), to: target("blue") });
    assert_eq!(moves(&blue(&mut world, Health::Unhealthy)), []);
    assert_eq!(moves(&world.see_green(Health::Unhealthy)), []);
    assert_eq!(moves(&world.see_green(Health::Healthy)), []);
    world.wait(3_600);
    assert_eq!(tick(&mut world), []);
    assert_eq!(moved(&world), all_to_blue());
}

#[test]
fn a_reason_names_at_most_three_endpoints() {
    let mut many = spec(FailbackMode::Manual);
    let addresses: Vec<String> = (1..=5).map(|n| format!("10.0.9.{n}:80")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    many.targets.insert(target("green"), endpoints(&addresses));
    let mut world = World::fresh([(web(), many)]);
    blue(&mut world, Health::Healthy);
    let reports: Vec<_> = addresses.iter().map(|address| ("green", *address, Health::Unhealthy)).collect();
    let events = moves(&world.see(&reports));
    let [Event::FailedOver { reason, .. }] = events.as_slice() else { panic!("{events:?}") };
    assert!(reason.ends_with("10.0.9.3:80 is unhealthy, 2 more"), "{reason}");
}
