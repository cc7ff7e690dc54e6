use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use tidegate_config::{Match, TextMatch};

use super::*;
use crate::{
    Reject,
    stats::Worker,
    testing::{Request, Scene, draw, web},
};

fn beta() -> Match {
    Match { headers: BTreeMap::from([("x-beta".into(), TextMatch::Present)]), ..Match::default() }
}

fn scene() -> Scene {
    Scene::new(&[("green", 1), ("blue", 1), ("red", 1)])
        .split(&[("blue", 1000), ("green", 9000)])
        .rule(beta(), "red")
        .mirror("audit", "red", 10_000)
}

fn check(scene: &Scene, request: &Request, steps: &[&str]) -> Explanation {
    let snapshot = scene.snapshot();
    let explanation = explain(&snapshot, &request.head(), draw(0));
    assert_eq!(explanation.steps, steps);
    explanation
}

#[test]
fn split_is_explained_with_its_number() {
    let found = check(
        &scene(),
        &Request::get("/"),
        &[
            "route 0 of service web matches",
            "rule 0 does not match",
            "the next number of the sequence is 0 of 10000",
            "the split chooses target blue, which has the numbers from 0 to before 1000",
            "mirror audit copies it to target red",
        ],
    );
    let names =
        (found.service.unwrap().to_string(), found.target.unwrap().to_string(), found.endpoint.unwrap().to_string());
    assert_eq!(names, ("web".into(), "blue".into(), "127.0.0.1:2000".into()));
    assert_eq!(
        (found.number, found.mirrors.len(), found.route.unwrap().path.as_str()),
        (Some(Number::Sequence(0)), 1, "/")
    );
}

#[test]
fn diversion_is_explained_step_by_step() {
    let scene = scene().sticky().overlay("red", 10_000).fallback("red").down(&["red", "green"]);
    let found = check(
        &scene,
        &Request::get("/").header("x-user", "ann").header("x-beta", "1"),
        &[
            "route 0 of service web matches",
            "rule 0 matches: target red",
            "target red has no available endpoint",
            "a failover to red is on, but that has no available endpoint",
            "nowhere else to go",
        ],
    );
    assert_eq!(found.plan, Plan::Reject(Reject::NoTarget));
    assert_eq!((found.target, found.number), (None, None));
}

#[test]
fn sticky_decision_is_explained_with_its_bucket() {
    let snapshot = scene().sticky().snapshot();
    let found = explain(&snapshot, &Request::get("/").header("x-user", "ann").head(), draw(0));
    assert_eq!(found.number, Some(Number::Bucket(crate::hash::bucket("web", b"ann"))));
}

#[test]
fn request_that_names_its_service_is_explained() {
    let mut scene = scene();
    scene.state.offers = [crate::state::ListenerOffer { service_paths: true, preview: None }].into();
    let found = check(&scene, &Request::get("/services/web_blue/"), &["the path names target blue of service web"]);
    assert_eq!((found.service.unwrap().as_str(), found.target.unwrap().as_str()), ("web", "blue"));
    assert_eq!((found.route, found.mirrors.len()), (None, 0));
    let steps = explain(&scene.snapshot(), &Request::get("/services/web/").head(), draw(0)).steps;
    assert_eq!(steps[..2], ["the path names service web", "rule 0 does not match"]);
}

#[test]
fn refused_request_is_explained_too() {
    check(&scene(), &Request { host: "a b".into(), ..Request::get("/") }, &["the host \"a b\" is malformed"]);
    check(&scene(), &Request::get("/.."), &["the path \"/..\" cannot be routed safely"]);
    let nowhere = scene().spec(|spec| spec.routes[0].path = "/a".into());
    check(&nowhere, &Request::get("/b"), &["no service has a route for host example.com and path /b"]);
}

#[test]
fn explaining_has_no_effect_and_agrees_with_the_decision() {
    let snapshot = scene().snapshot();
    let sequence = web(&snapshot).stats.sequence.of(Worker(0));
    for n in 0..10_000 {
        let request = Request::get("/");
        let before = sequence.load(Relaxed);
        let explained = explain(&snapshot, &request.head(), draw(n)).plan;
        assert_eq!(sequence.load(Relaxed), before);
        assert_eq!(explained, request.decide(&snapshot, n));
    }
}
