use std::collections::BTreeMap;

use http::Method;
use tidegate_config::{Match, TextMatch};

use super::*;
use crate::{
    Health::{Healthy, Suspect, Unhealthy, Unknown},
    testing::{Request, Scene, at, draw, named, web},
};

fn forward(plan: Plan) -> Forward {
    match plan {
        Plan::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

/// Where a plain request goes, which target it counts for, and why.
fn check(scene: &Scene, request: &Request, expected: (&str, &str, Reason)) {
    let snapshot = scene.snapshot();
    let forward = forward(request.decide(&snapshot, 1));
    let (chosen, target, reason) = expected;
    let found = (named(&snapshot, forward.chosen), named(&snapshot, forward.target), forward.reason);
    assert_eq!(found, (chosen.into(), target.into(), reason));
}

/// How many of `requests` consecutive requests each target answers.
fn counts(snapshot: &Snapshot, requests: u32) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for random in 0..requests {
        let forward = forward(Request::get("/").decide(snapshot, random.into()));
        *counts.entry(named(snapshot, forward.target)).or_default() += 1;
    }
    counts
}

fn beta() -> Match {
    Match { headers: BTreeMap::from([("x-beta".into(), TextMatch::Exact("1".into()))]), ..Match::default() }
}

const TWO: [(&str, u16); 2] = [("green", 1), ("blue", 1)];

#[test]
fn split_of_non_sticky_requests_is_exact() {
    for canary in [1, 2, 100, 250, 1000, 3333, 5000, 9999] {
        let snapshot = Scene::new(&TWO).split(&[("blue", canary), ("green", 10_000 - canary)]).snapshot();
        for _ in 0..2 {
            let expected = [("blue", canary), ("green", 10_000 - canary)];
            let expected = expected.map(|(target, count)| (target.to_string(), u32::from(count)));
            assert_eq!(counts(&snapshot, 10_000), BTreeMap::from(expected), "{canary}");
        }
    }
}

#[test]
fn target_without_weight_is_never_chosen_by_the_split() {
    for target in ["green", "blue"] {
        let snapshot = Scene::new(&TWO).stable(target).snapshot();
        assert_eq!(counts(&snapshot, 10_000), BTreeMap::from([(target.to_string(), 10_000)]));
    }
}

#[test]
fn pin_comes_before_rule_and_rule_before_split() {
    let scene = Scene::new(&[("green", 1), ("blue", 1), ("red", 1)]).rule(beta(), "blue");
    check(&scene, &Request::get("/"), ("green", "green", Reason::Split));
    check(&scene, &Request::get("/").header("x-beta", "1"), ("blue", "blue", Reason::Rule(0)));
    check(&scene, &Request::get("/").header("x-beta", "1").pin("red"), ("red", "red", Reason::Pin));
}

#[test]
fn pin_needs_authority_and_a_known_target() {
    let scene = Scene::new(&TWO);
    let unauthorised = Request { pin_authorised: false, ..Request::get("/").pin("blue") };
    check(&scene, &unauthorised, ("green", "green", Reason::Split));
    check(&scene, &Request::get("/").pin("red"), ("green", "green", Reason::Split));
    let cookie =
        Request { pin_authorised: true, ..Request::get("/").header("cookie", "a=b; tidegate-target=blue:secret") };
    check(&scene, &cookie, ("blue", "blue", Reason::Pin));
}

#[test]
fn pin_reaches_a_drained_target_and_nothing_else_does() {
    let scene = Scene::new(&TWO).rule(beta(), "blue").split(&[("blue", 10_000)]).drained("blue");
    check(&scene, &Request::get("/").pin("blue"), ("blue", "blue", Reason::Pin));
    check(&scene, &Request::get("/").header("x-beta", "1"), ("blue", "green", Reason::Rule(0)));
    check(&scene, &Request::get("/"), ("blue", "green", Reason::Split));
    check(&scene.clone().down(&["blue"]), &Request::get("/").pin("blue"), ("blue", "green", Reason::Pin));
}

#[test]
fn dead_target_is_counted_while_stable_answers() {
    let scene = Scene::new(&TWO).split(&[("blue", 10_000)]).down(&["blue"]);
    check(&scene, &Request::get("/"), ("blue", "green", Reason::Split));
    check(&scene.rule(beta(), "blue"), &Request::get("/").header("x-beta", "1"), ("blue", "green", Reason::Rule(0)));
}

#[test]
fn dead_canary_does_not_change_how_often_it_is_chosen() {
    let snapshot = Scene::new(&TWO).split(&[("blue", 1000), ("green", 9000)]).down(&["blue"]).snapshot();
    let blue = at(&snapshot, "blue");
    let chosen = (0..10_000).filter(|n| forward(Request::get("/").decide(&snapshot, *n)).chosen == blue);
    assert_eq!(chosen.count(), 1000);
    assert_eq!(counts(&snapshot, 10_000), BTreeMap::from([("green".into(), 10_000)]));
}

#[test]
fn failover_target_is_the_last_resort() {
    let scene = Scene::new(&[("green", 1), ("blue", 1), ("red", 1)]).fallback("red").rule(beta(), "blue");
    check(&scene.clone().down(&["green"]), &Request::get("/"), ("green", "red", Reason::Failover));
    let request = Request::get("/").header("x-beta", "1");
    check(&scene.clone().down(&["blue"]), &request, ("blue", "green", Reason::Rule(0)));
    check(&scene.clone().down(&["blue", "green"]), &request, ("blue", "red", Reason::Failover));
    let snapshot = scene.down(&["green", "blue", "red"]).snapshot();
    assert_eq!(request.decide(&snapshot, 1), Plan::Reject(Reject::NoTarget));
}

#[test]
fn target_that_is_neither_stable_nor_failover_is_no_resort() {
    let snapshot = Scene::new(&TWO).down(&["green"]).snapshot();
    assert_eq!(Request::get("/").decide(&snapshot, 1), Plan::Reject(Reject::NoTarget));
}

#[test]
fn overlay_moves_the_split_but_neither_rules_nor_pins() {
    let scene = Scene::new(&[("green", 1), ("blue", 1), ("red", 1)]).overlay("red", 10_000).rule(beta(), "blue");
    check(&scene, &Request::get("/"), ("red", "red", Reason::Failover));
    check(&scene, &Request::get("/").header("x-beta", "1"), ("blue", "blue", Reason::Rule(0)));
    check(&scene, &Request::get("/").pin("green"), ("green", "green", Reason::Pin));
    let dead = scene.down(&["blue"]);
    check(&dead, &Request::get("/").header("x-beta", "1"), ("blue", "red", Reason::Failover));
}

#[test]
fn overlay_to_a_dead_target_moves_nothing() {
    let scene = Scene::new(&TWO).overlay("blue", 10_000).down(&["blue"]);
    check(&scene, &Request::get("/"), ("green", "green", Reason::Split));
}

#[test]
fn overlay_share_is_exact_for_every_percent() {
    for percent in 0..=100_u16 {
        let snapshot = Scene::new(&TWO).overlay("blue", percent * 100).snapshot();
        let moved = counts(&snapshot, 10_000).get("blue").copied().unwrap_or(0);
        assert_eq!(moved, u32::from(percent) * 100);
    }
}

#[test]
fn overlay_target_helps_out_when_stable_is_dead_in_the_ramp() {
    let snapshot = Scene::new(&TWO).overlay("blue", 100).down(&["green"]).snapshot();
    assert_eq!(counts(&snapshot, 1000), BTreeMap::from([("blue".into(), 1000)]));
}

#[test]
fn request_waits_only_while_a_verdict_may_help() {
    let wait = Plan::Wait { service: ServiceIdx(0), instead: None };
    let reject = Plan::Reject(Reject::NoTarget);
    let cases = [
        (Scene::new(&TWO).health("green", &[Unknown]).health("blue", &[Unknown]), &wait),
        (Scene::new(&[("green", 2)]).health("green", &[Unknown, Unhealthy]), &wait),
        (Scene::new(&TWO).health("green", &[Unhealthy]).health("blue", &[Unknown]), &reject),
        (Scene::new(&TWO).health("green", &[Unhealthy]).health("blue", &[Unknown]).fallback("blue"), &wait),
        (Scene::new(&TWO).down(&["green", "blue"]).fallback("blue"), &reject),
        (Scene::new(&[("green", 0)]), &reject),
    ];
    for (scene, expected) in cases {
        assert_eq!(Request::get("/").decide(&scene.snapshot(), 1), *expected, "{scene:?}");
    }
}

#[test]
fn a_service_does_not_leave_a_stable_target_that_was_not_judged_yet_unless_it_waits_in_vain() {
    let scene = Scene::new(&TWO).health("green", &[Unknown]).fallback("blue");
    let Plan::Wait { instead: Some(forward), .. } = Request::get("/").decide(&scene.snapshot(), 1) else {
        panic!("it does not wait")
    };
    let snapshot = scene.snapshot();
    let service = snapshot.service(forward.service).unwrap();
    assert_eq!(service.target(forward.target).unwrap().id.as_str(), "blue");
    assert_eq!(forward.reason, Reason::Failover);
    // One of two endpoints failed, the other has no verdict: the target may still be there.
    let scene = Scene::new(&[("green", 2), ("blue", 1)]).health("green", &[Unhealthy, Unknown]).fallback("blue");
    assert!(matches!(Request::get("/").decide(&scene.snapshot(), 1), Plan::Wait { instead: Some(_), .. }));
}

#[test]
fn suspect_endpoints_are_chosen_when_nothing_else_is_there() {
    let endpoints = |health: &[crate::Health]| {
        let snapshot = Scene::new(&[("green", 3)]).health("green", health).snapshot();
        let found = (0..200).map(|n| forward(Request::get("/").decide(&snapshot, n)).endpoint.0);
        found.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(endpoints(&[Suspect, Healthy, Suspect]), [1].into());
    assert_eq!(endpoints(&[Suspect, Unhealthy, Suspect]), [0, 2].into());
    assert_eq!(endpoints(&[Healthy, Healthy, Unknown]), [0, 1].into());
}

#[test]
fn malformed_requests_are_refused_before_any_route() {
    let snapshot = Scene::new(&TWO).snapshot();
    let with_host = |host: &str| Request { host: host.into(), ..Request::get("/") }.decide(&snapshot, 1);
    assert_eq!(with_host("a b"), Plan::Reject(Reject::BadHost));
    assert_eq!(Request::get("/a/../b").decide(&snapshot, 1), Plan::Reject(Reject::BadPath));
    let request = Request::get("/");
    let head = RequestHead { listener: crate::ListenerIdx(1), ..request.head() };
    assert_eq!(decide(&snapshot, &head, draw(1)), Plan::Reject(Reject::NoRoute));
}

#[test]
fn stripped_route_says_how_many_bytes() {
    let scene = Scene::new(&TWO).spec(|spec| {
        spec.routes[0].path = "/api/v1".into();
        spec.routes[0].strip = true;
    });
    let snapshot = scene.snapshot();
    for (path, rest) in [("/api/v1", ""), ("/api/v1/", "/"), ("/api/v1/x", "/x"), ("//api/%761//x", "/x")] {
        assert_eq!(&path[forward(Request::get(path).decide(&snapshot, 1)).strip..], rest, "{path}");
    }
}

#[test]
fn visitor_keeps_the_target_and_a_new_one_keeps_the_first() {
    let snapshot = Scene::new(&TWO).split(&[("blue", 5000), ("green", 5000)]).sticky().snapshot();
    let mut targets = BTreeMap::<String, u32>::new();
    for n in 0..1000 {
        let first = forward(Request::get("/").decide(&snapshot, n));
        let Visitor::New(visitor) = first.visitor else { panic!("{first:?}") };
        let cookie = format!("tidegate={}", VisitorText::new(visitor));
        for random in 0..3 {
            let next = forward(Request::get("/").header("cookie", &cookie).decide(&snapshot, random));
            assert_eq!((next.target, &next.visitor), (first.target, &Visitor::Known));
        }
        *targets.entry(named(&snapshot, first.target)).or_default() += 1;
    }
    // 500 ± 4.4 standard deviations.
    assert!((430..=570).contains(&targets["blue"]), "{targets:?}");
}

#[test]
fn growing_a_sticky_canary_only_moves_visitors_into_it() {
    const VISITORS: u64 = 100_000;
    let at_share =
        |points: u16| Scene::new(&TWO).split(&[("blue", points), ("green", 10_000 - points)]).sticky().snapshot();
    let shares = [500, 2500, 5000];
    let snapshots = shares.map(at_share);
    let mut inside = [0_u32; 3];
    let mut request = Request::get("/");
    for visitor in 0..VISITORS {
        let id = VisitorText::new(u128::from(draw(visitor).random[0])).to_string();
        request.headers.insert("x-user", id.parse().unwrap());
        let canary =
            snapshots.each_ref().map(|snapshot| forward(request.decide(snapshot, 0)).target == at(snapshot, "blue"));
        assert!(canary.is_sorted(), "{visitor}: {canary:?}");
        inside.iter_mut().zip(canary).for_each(|(count, inside)| *count += u32::from(inside));
    }
    for (count, points) in inside.into_iter().zip(shares) {
        let share = f64::from(points) / 10_000.0;
        let expected = VISITORS as f64 * share;
        // Five standard deviations of the binomial distribution: one run in 1.7 million would miss it, and this one is fixed.
        let bound = 5.0 * (expected * (1.0 - share)).sqrt();
        assert!((f64::from(count) - expected).abs() <= bound, "{count} of {expected}");
    }
}

#[test]
fn split_does_not_move_the_sequence_when_it_needs_no_number() {
    let snapshot = Scene::new(&TWO).snapshot();
    counts(&snapshot, 10);
    assert_eq!(web(&snapshot).stats.sequence.of(Worker(0)).load(std::sync::atomic::Ordering::Relaxed), 0);
}

fn mirrored(scene: &Scene, request: &Request, requests: u64) -> usize {
    let snapshot = scene.snapshot();
    (0..requests).filter(|random| forward(request.decide(&snapshot, *random)).mirrors == 1).count()
}

#[test]
fn mirror_copies_its_share_of_its_methods() {
    let scene = |points| Scene::new(&TWO).mirror("audit", "blue", points);
    assert_eq!(mirrored(&scene(10_000), &Request::get("/"), 1000), 1000);
    assert_eq!(mirrored(&scene(0), &Request::get("/"), 1000), 0);
    assert_eq!(mirrored(&scene(10_000), &Request::get("/").method(Method::POST), 1000), 0);
    let writes = scene(10_000).web(|web| {
        web.wanted.mirrors.get_mut("audit").unwrap().methods = vec!["*".into()];
    });
    assert_eq!(mirrored(&writes, &Request::get("/").method(Method::POST), 1000), 1000);
    // 2,500 ± 5 standard deviations.
    let sampled = mirrored(&scene(2500), &Request::get("/"), 10_000);
    assert!((2284..=2716).contains(&sampled), "{sampled}");
}

#[test]
fn shadow_that_answers_gets_no_copy() {
    let scene = Scene::new(&TWO).mirror("audit", "blue", 10_000);
    assert_eq!(mirrored(&scene, &Request::get("/").pin("blue"), 10), 0);
}

#[test]
fn sticky_mirror_copies_a_visitor_always_or_never() {
    let scene = Scene::new(&TWO).mirror("audit", "blue", 5000).sticky();
    let copies: Vec<_> =
        (0..200).map(|n| mirrored(&scene, &Request::get("/").header("x-user", &format!("u{n}")), 20)).collect();
    assert!(copies.iter().all(|count| [0, 20].contains(count)), "{copies:?}");
    assert!(copies.contains(&0) && copies.contains(&20));
}

#[test]
fn mirrors_are_sampled_independently_of_each_other() {
    let scene = Scene::new(&TWO).mirror("a", "blue", 5000).mirror("b", "blue", 5000);
    let snapshot = scene.snapshot();
    let mut seen = [0_u32; 4];
    (0..4000).for_each(|n| seen[forward(Request::get("/").decide(&snapshot, n)).mirrors as usize] += 1);
    // Each of the four outcomes 1,000 ± 5 standard deviations.
    assert!(seen.iter().all(|count| (863..=1137).contains(count)), "{seen:?}");
}

#[test]
fn salt_decides_who_is_in_the_canary() {
    let scene = Scene::new(&TWO).split(&[("blue", 5000), ("green", 5000)]).sticky();
    let (one, other) = (scene.snapshot(), scene.web(|web| web.wanted.salt = "release-2".into()).snapshot());
    let moved = (0..200).filter(|n| {
        let request = Request::get("/").header("x-user", &format!("u{n}"));
        forward(request.decide(&one, 0)).target != forward(request.decide(&other, 0)).target
    });
    assert!((60..=140).contains(&moved.count()));
    assert_eq!(&*web(&one).salt, "web");
}
