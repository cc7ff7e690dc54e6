use super::*;
use crate::{
    Health::{Suspect, Unhealthy},
    Plan,
    stats::Worker,
    testing::{Request, Scene, at, draw, named, web},
};

const UNSENT: Attempt<'_> = Attempt { tried: &[], sent: false, idempotent: false, body_kept: false, answered: false };
const SENT: Attempt<'_> = Attempt { tried: &[], sent: true, idempotent: true, body_kept: true, answered: false };
const FAILURES: [Failure; 5] =
    [Failure::Connect, Failure::ConnectTimeout, Failure::Reset, Failure::Timeout, Failure::BadAnswer];

fn forward(snapshot: &Snapshot, request: &Request) -> Forward {
    match request.decide(snapshot, 0) {
        Plan::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

/// The targets that a request is sent to while every attempt fails, and the answer at last.
fn attempts(scene: &Scene, request: &Request, failure: Failure, attempt: Attempt<'_>) -> (String, Reject) {
    let snapshot = scene.snapshot();
    let mut current = forward(&snapshot, request);
    let mut tried = Vec::new();
    loop {
        let place = (current.target, current.endpoint);
        assert!(!tried.contains(&place), "{place:?} twice");
        tried.push(place);
        assert!(tried.len() <= 6);
        match after_failure(&snapshot, &current, failure, Attempt { tried: &tried, ..attempt }, draw(1)) {
            Next::Retry { forward, .. } => current = forward,
            Next::GiveUp(reject) => {
                let names: Vec<_> = tried.iter().map(|(target, _)| named(&snapshot, *target)).collect();
                return (names.join(" "), reject);
            }
        }
    }
}

fn check(scene: &Scene, expected: &str) {
    let (found, _) = attempts(scene, &Request::get("/"), Failure::Connect, UNSENT);
    assert_eq!(found, expected, "{scene:?}");
}

fn canary(endpoints: u16) -> Scene {
    Scene::new(&[("green", 3), ("blue", endpoints), ("red", 2)]).split(&[("blue", 10_000)])
}

fn with_attempts(scene: Scene, attempts: u32) -> Scene {
    scene.spec(|spec| spec.retry.attempts = attempts)
}

#[test]
fn another_endpoint_comes_first_then_stable_then_the_failover_target() {
    check(&canary(2), "blue blue green");
    check(&canary(3), "blue blue green");
    check(&canary(1), "blue green green");
    check(&canary(1).fallback("red"), "blue green red");
    check(&canary(3).stable("green").fallback("red"), "green green red");
    check(&canary(3).stable("green"), "green green green");
    check(&with_attempts(canary(3).fallback("red"), 5), "blue blue green red blue green");
}

#[test]
fn attempts_are_bounded_and_may_be_switched_off() {
    for (attempts, expected) in [(0, "blue"), (1, "blue blue"), (2, "blue blue green"), (3, "blue blue green blue")] {
        check(&with_attempts(canary(3), attempts), expected);
    }
}

#[test]
fn nothing_is_retried_where_nothing_else_is() {
    check(&Scene::new(&[("green", 1), ("blue", 3)]), "green");
    check(&canary(1).down(&["green"]), "blue");
    check(&canary(2).down(&["green"]).health("blue", &[Suspect, Unhealthy]), "blue");
}

#[test]
fn overlay_target_is_left_for_stable() {
    check(&Scene::new(&[("green", 1), ("blue", 1)]).overlay("blue", 10_000), "blue green");
    check(&Scene::new(&[("green", 1), ("blue", 1)]).overlay("blue", 0), "green blue");
}

#[test]
fn pinned_request_may_try_its_drained_target_again() {
    let scene = canary(2).drained("blue");
    let (found, _) = attempts(&scene, &Request::get("/").pin("blue"), Failure::Connect, UNSENT);
    assert_eq!(found, "blue blue green");
    check(&scene, "green green green");
}

#[test]
fn reason_is_kept_unless_the_failover_target_answers() {
    let snapshot = canary(1).fallback("red").snapshot();
    let first = forward(&snapshot, &Request::get("/"));
    let mut tried = vec![(first.target, first.endpoint)];
    for (target, reason) in [("green", Reason::Split), ("red", Reason::Failover)] {
        let attempt = Attempt { tried: &tried, ..UNSENT };
        let Next::Retry { forward, .. } = after_failure(&snapshot, &first, Failure::Connect, attempt, draw(1)) else {
            panic!("no retry")
        };
        assert_eq!((forward.target, forward.chosen, forward.reason), (at(&snapshot, target), first.chosen, reason));
        tried.push((forward.target, forward.endpoint));
    }
}

#[test]
fn sent_request_is_repeated_only_when_that_is_safe() {
    let snapshot = canary(2).snapshot();
    let first = forward(&snapshot, &Request::get("/"));
    let tried = [(first.target, first.endpoint)];
    for failure in FAILURES {
        for bits in 0..16_u8 {
            let [sent, idempotent, body_kept, answered] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
            let attempt = Attempt { tried: &tried, sent, idempotent, body_kept, answered };
            let processed = sent && !matches!(failure, Failure::Connect | Failure::ConnectTimeout);
            let expected = !answered && (!processed || (idempotent && body_kept));
            match after_failure(&snapshot, &first, failure, attempt, draw(1)) {
                Next::Retry { budgeted, .. } => {
                    assert_eq!((expected, budgeted), (true, processed), "{failure:?} {attempt:?}")
                }
                Next::GiveUp(_) => assert!(!expected, "{failure:?} {attempt:?}"),
            }
        }
    }
}

#[test]
fn answer_says_what_failed_last() {
    let expected = [Reject::Unreachable, Reject::Unreachable, Reject::BadAnswer, Reject::TooSlow, Reject::BadAnswer];
    for (failure, expected) in FAILURES.into_iter().zip(expected) {
        let (_, reject) = attempts(&canary(2), &Request::get("/"), failure, SENT);
        assert_eq!(reject, expected, "{failure:?}");
    }
}

#[test]
fn budget_is_a_share_of_the_active_requests_but_at_least_three() {
    for (percent, active, allowed) in
        [(20, 0, 3), (20, 15, 3), (20, 19, 3), (20, 20, 4), (20, 1000, 200), (100, 7, 7), (0, 1000, 0)]
    {
        let snapshot = canary(2).spec(|spec| spec.retry.budget = percent).snapshot();
        let stats = &web(&snapshot).stats;
        stats.active.of(Worker(0)).store(active, Relaxed);
        let first = forward(&snapshot, &Request::get("/"));
        let tried = [(first.target, first.endpoint)];
        for running in 0..=allowed + 1 {
            stats.retrying.store(running, Relaxed);
            stats.retries_refused.store(0, Relaxed);
            let next = after_failure(&snapshot, &first, Failure::Reset, Attempt { tried: &tried, ..SENT }, draw(1));
            assert_eq!(
                matches!(next, Next::Retry { .. }),
                running < allowed,
                "{percent} % of {active}, {running} running"
            );
            assert_eq!(stats.retries_refused.load(Relaxed), u64::from(running >= allowed));
            let unsent =
                after_failure(&snapshot, &first, Failure::Connect, Attempt { tried: &tried, ..UNSENT }, draw(1));
            assert!(matches!(unsent, Next::Retry { budgeted: false, .. }));
        }
    }
}
