use tidegate_config::Match;

use super::*;
use crate::{
    Plan, Snapshot,
    deploy::step::Arms,
    testing::{Request, Scene, id, web},
};

const DONE: Ended = Ended { status: Some(200), failed: false, elapsed_us: Some(1_000), goal_named: false };
const FAILED: Ended = Ended { status: Some(500), failed: true, ..DONE };

fn scene() -> Scene {
    Scene::new(&[("blue", 1), ("green", 1), ("red", 1)]).split(&[("green", 5_000), ("blue", 5_000)])
}

fn tally(snapshot: &Snapshot) -> Tally {
    let lineup = Lineup::new(&Arms { candidates: vec![id("green")], baseline: id("blue") });
    let goal = crate::deploy::spec::Goal {
        name: "buy".to_owned(),
        method: None,
        path: Some("/checkout".to_owned()),
        status: None,
    };
    Tally::new(lineup, Some(GoalMatch::new(&goal)), Some(web(snapshot)))
}

/// Decides, begins and ends requests; what was counted of green and blue.
fn count(tally: &Tally, snapshot: &Snapshot, request: &Request, times: u64, ended: Ended) -> [Reading; 2] {
    for random in 0..times {
        let Plan::Forward(forward) = request.decide(snapshot, random) else { panic!("it is forwarded") };
        let head = request.head();
        if let Some(begun) = tally.begin(web(snapshot), &forward, head.method, head.path, head.headers) {
            tally.end(begun, ended, Worker(random as usize));
        }
    }
    tally.read().try_into().unwrap()
}

#[test]
fn request_counts_for_the_target_that_was_chosen_even_if_another_answers() {
    let snapshot = scene().down(&["green"]).snapshot();
    let tally = tally(&snapshot);
    let [green, blue] = count(&tally, &snapshot, &Request::get("/"), 10_000, Ended { elapsed_us: None, ..FAILED });
    assert_eq!((green.by_split.requests, green.by_split.errors), (5_000, 5_000));
    assert_eq!(blue.by_split.requests, 5_000, "it is not given the requests of green");
    assert_eq!(green.by_split.durations.total(), 0, "how long blue took says nothing of green");
}

#[test]
fn requests_that_a_rule_sent_are_told_apart_and_pins_count_nowhere() {
    let beta = Match { path: Some("/beta".to_owned()), ..Match::default() };
    let snapshot = scene().rule(beta, "green").snapshot();
    let tally = tally(&snapshot);
    let [green, blue] = count(&tally, &snapshot, &Request::get("/beta"), 3, FAILED);
    assert_eq!((green.by_split.requests, green.by_rule.requests, green.by_rule.errors), (0, 3, 3));
    assert_eq!(green.all().requests, 3);
    assert_eq!(blue, Reading::default());
    let pinned = count(&tally, &snapshot, &Request::get("/").pin("green"), 3, FAILED);
    assert_eq!(pinned, [green, blue]);
}

#[test]
fn visitor_counts_once_however_often_it_fails() {
    let snapshot = scene().sticky().snapshot();
    let tally = tally(&snapshot);
    assert_eq!(tally.unit(), Unit::Visitors);
    let ann = Request::get("/").header("x-user", "ann");
    let readings = count(&tally, &snapshot, &ann, 20, FAILED);
    let sum = |of: fn(&Reading) -> u64| readings.iter().map(of).sum::<u64>();
    assert_eq!((sum(|reading| reading.visitors), sum(|reading| reading.new_visitors)), (1, 1));
    assert_eq!(sum(|reading| reading.by_split.requests), 20);
    let [pair] = tally.end_tick()[..] else { panic!("one pair") };
    let events = pair.errors.candidate.events + pair.errors.baseline.events;
    assert_eq!(events, 1);
    // In the next tick it is not at risk any more.
    count(&tally, &snapshot, &ann, 20, FAILED);
    let [pair] = tally.end_tick()[..] else { panic!("one pair") };
    assert_eq!((pair.errors.candidate.of, pair.errors.baseline.of), (0, 0));
}

#[test]
fn slow_is_counted_only_once_it_is_known_what_slow_is() {
    let snapshot = scene().sticky().snapshot();
    let tally = tally(&snapshot);
    let slow = |snapshot| {
        count(&tally, snapshot, &Request::get("/"), 40, DONE);
        let [pair] = tally.end_tick()[..] else { panic!("one pair") };
        (pair.slow.candidate.of + pair.slow.baseline.of, pair.slow.candidate.events + pair.slow.baseline.events)
    };
    assert_eq!(slow(&snapshot), (0, 0));
    tally.set_slow(0, Some(1_001));
    assert_eq!(slow(&snapshot), (40, 0));
    tally.set_slow(0, Some(1_000));
    assert_eq!(slow(&snapshot).1, 40);
}

#[test]
fn goal_is_reached_by_the_request_or_by_the_answer_and_once_per_visitor() {
    let checkout = Match { path: Some("/checkout".to_owned()), ..Match::default() };
    let snapshot = scene().sticky().rule(checkout, "red").snapshot();
    let tally = tally(&snapshot);
    let conversions = |readings: [Reading; 2]| readings.map(|reading| reading.conversions).iter().sum::<u64>();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| Request::get("/checkout").header("x-user", name));
    // Nobody has seen the variants yet.
    assert_eq!(conversions(count(&tally, &snapshot, &ann, 1, DONE)), 0);
    let home = |name| Request::get("/").header("x-user", name);
    for name in ["ann", "bob", "eve"] {
        count(&tally, &snapshot, &home(name), 1, DONE);
    }
    // The checkout itself goes elsewhere by a rule.
    assert_eq!(conversions(count(&tally, &snapshot, &ann, 3, DONE)), 1);
    assert_eq!(conversions(count(&tally, &snapshot, &bob, 3, FAILED)), 1, "a failed checkout is none");
    assert_eq!(conversions(count(&tally, &snapshot, &home("eve"), 3, Ended { goal_named: true, ..DONE })), 2);
    assert_eq!(conversions(count(&tally, &snapshot, &eve, 3, DONE)), 2);
}

#[test]
fn slot_is_given_back_only_by_who_has_it() {
    let snapshot = scene().snapshot();
    let (first, second) = (Arc::new(tally(&snapshot)), Arc::new(tally(&snapshot)));
    let slot = &web(&snapshot).stats.watch;
    assert!(slot.tally().is_none());
    slot.begin(&first);
    slot.begin(&second);
    slot.end(&first);
    assert!(slot.counts_in(&second) && slot.tally().is_some());
    slot.end(&second);
    assert!(slot.tally().is_none());
}
