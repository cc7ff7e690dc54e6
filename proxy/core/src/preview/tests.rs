use std::sync::Arc;

use proptest::prelude::*;
use tidegate_config::{Match, TextMatch};

use super::*;
use crate::{
    Attempt, Change, Failure, Health, Hold, ListenerIdx, Next, Plan, Reason, Reject, RequestHead, Saved, State,
    after_failure, apply,
    decide::{Forward, decide},
    testing::{Request, Scene, at, draw, id, route},
};

fn part(targets: &[&str], place: Place) -> UnderTest {
    UnderTest { targets: targets.iter().map(|target| id(target)).collect(), place }
}

/// One preview, in which `web` has these new versions.
fn previews(label: &str, web: Option<UnderTest>) -> Previews {
    let members = web.into_iter().map(|part| (id("web"), part)).collect();
    BTreeMap::from([(Label::new(label).unwrap(), Preview { members })])
}

fn set(scene: Scene, previews: Previews) -> Scene {
    let now = crate::Moment { mono: std::time::Duration::ZERO, unix_ms: 0 };
    Scene { state: apply(&scene.state, &Change::Previews { previews }, now).unwrap().state }
}

/// Listener 0 is public; listener 1 has previews below `preview.localhost`.
fn listening(mut scene: Scene) -> Scene {
    scene.state.listeners = [id("public"), id("preview")].into();
    let preview = ListenerOffer { service_paths: true, preview: Some("preview.localhost".into()) };
    let public = ListenerOffer { service_paths: true, preview: None };
    scene.state.offers = [public, preview].into();
    scene
}

/// Stable green, and blue under test in preview `dep-1`.
fn testing() -> Scene {
    set(listening(Scene::new(&[("green", 2), ("blue", 2)])), previews("dep-1", Some(part(&["blue"], Place::Beside))))
}

fn on(host: &str, path: &str, header: Option<&str>) -> Request {
    let request = Request { host: host.into(), ..Request::get(path) };
    match header {
        Some(label) => request.header("x-tidegate-bracket", label),
        None => request,
    }
}

fn plan(scene: &Scene, listener: u32, request: &Request) -> Plan {
    let snapshot = scene.snapshot();
    decide(&snapshot, &RequestHead { listener: ListenerIdx(listener), ..request.head() }, draw(1))
}

fn preview_of(scene: &Scene) -> Plan {
    plan(scene, 1, &on("web.dep-1.preview.localhost", "/x", None))
}

fn forward(plan: Plan) -> Forward {
    match plan {
        Plan::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

/// Where it goes: a target, or the status of a refusal.
fn goes(scene: &Scene, plan: Plan) -> String {
    match plan {
        Plan::Forward(forward) => crate::testing::named(&scene.snapshot(), forward.target),
        Plan::Wait { .. } => "waits".into(),
        Plan::Reject(reject) => reject.status().as_str().into(),
    }
}

#[test]
fn a_label_is_part_of_a_host_in_lower_case() {
    let label = Label::new("dep-01ABC_x").unwrap();
    assert_eq!(label.as_str(), "dep-01abc_x");
    let host = |service: &str| label.host(&id(service), "preview.localhost");
    assert_eq!(host("dev.Web_1"), Some("dev.web_1.dep-01abc_x.preview.localhost".into()));
    assert_eq!((host("a..b"), host("a.")), (None, None));
    assert_eq!(label.host(&id("web"), &"a.".repeat(120)), None);
    let long = "a".repeat(MAX_LABEL + 1);
    for name in ["", "a.b", "a b", "é", &long] {
        assert!(Label::new(name).is_err(), "{name}");
    }
    assert!(Label::new(&long[1..]).is_ok());
}

#[test]
fn preview_reaches_the_new_version_and_nobody_else_does() {
    let scene = testing();
    for (host, header) in [
        ("web.dep-1.preview.localhost", None),
        ("WEB.DEP-1.Preview.LocalHost:8080", None),
        ("web.dep-1.preview.localhost", Some("dep-9")),
        ("example.com", Some("dep-1")),
        ("example.com", Some("DEP-1")),
    ] {
        let found = forward(plan(&scene, 1, &on(host, "/a%2Fb", header)));
        assert_eq!((found.target, found.reason), (at(&scene.snapshot(), "blue"), Reason::Preview), "{host}");
        assert_eq!((found.strip, found.mirrors), (0, 0));
    }
    // Elsewhere hosts and headers mean nothing of the kind.
    for request in [on("web.dep-1.preview.localhost", "/", None), on("example.com", "/", Some("dep-1"))] {
        assert_eq!(goes(&scene, plan(&scene, 0, &request)), "green");
    }
    assert_eq!(goes(&scene, plan(&scene, 1, &on("example.com", "/", None))), "green");
}

#[test]
fn preview_that_does_not_exist_leads_nowhere() {
    let scene = testing();
    for (host, header) in [
        ("web.dep-2.preview.localhost", None),
        ("nobody.dep-1.preview.localhost", None),
        ("dep-1.preview.localhost", None),
        ("example.com", Some("dep-2")),
        ("example.com", Some("")),
    ] {
        assert_eq!(plan(&scene, 1, &on(host, "/", header)), Plan::Reject(Reject::NoRoute), "{host} {header:?}");
    }
    // Not below the domain.
    assert_eq!(goes(&scene, plan(&scene, 1, &on("preview.localhost", "/", None))), "green");
    assert_eq!(goes(&scene, plan(&scene, 1, &on("webxpreview.localhost", "/", None))), "green");
}

#[test]
fn preview_is_the_new_version_or_503() {
    let scene = testing();
    assert_eq!(goes(&scene, preview_of(&scene.clone().down(&["blue"]))), "503");
    assert_eq!(goes(&scene, preview_of(&scene.clone().drained("blue"))), "503");
    let unknown = scene.clone().health("blue", &[Health::Unknown; 2]);
    assert!(matches!(preview_of(&unknown), Plan::Wait { instead: None, .. }));
    let gone = scene.clone().web(|web| drop(web.wanted.targets.remove("blue")));
    assert_eq!(goes(&scene, preview_of(&gone)), "503");
    // A service whose requests wait is tested meanwhile.
    assert_eq!(goes(&scene, preview_of(&scene.clone().web(|web| web.wanted.hold = Hold::On))), "blue");
    // Pins and paths do not lead out of a preview.
    let pinned = on("web.dep-1.preview.localhost", "/", None).pin("green");
    assert_eq!(goes(&scene, plan(&scene, 1, &pinned)), "blue");
    assert_eq!(goes(&scene, plan(&scene, 1, &on("x", "/services/web_green/", Some("dep-1")))), "blue");
}

#[test]
fn failed_attempt_at_a_preview_is_repeated_only_there() {
    let snapshot = testing().fallback("green").snapshot();
    let request = on("web.dep-1.preview.localhost", "/", None);
    let first = forward(decide(&snapshot, &RequestHead { listener: ListenerIdx(1), ..request.head() }, draw(1)));
    let mut tried = vec![(first.target, first.endpoint)];
    for _ in 0..2 {
        let attempt = Attempt { tried: &tried, sent: false, idempotent: true, body_kept: true, answered: false };
        match after_failure(&snapshot, &first, Failure::Connect, attempt, draw(1)) {
            Next::Retry { forward, .. } => {
                assert_eq!((forward.target, forward.reason), (first.target, Reason::Preview));
                tried.push((forward.target, forward.endpoint));
            }
            Next::GiveUp(reject) => assert_eq!(reject, Reject::Unreachable),
        }
    }
    assert_eq!(tried.len(), 2);
}

#[test]
fn service_that_is_not_under_test_is_reached_as_usual() {
    let mut scene = set(testing(), previews("spring", None));
    let other = Scene::new(&[("v1", 1), ("v2", 1)]).spec(|spec| {
        spec.routes = vec![route(tidegate_config::RouteHost::Any, "/other")];
        spec.listeners = Some(vec![id("public")]);
    });
    scene.state.services.insert(id("Other"), Arc::clone(&other.state.services["web"]));
    // Whatever its routes and listeners are, and in any case of its name.
    let found = forward(plan(&scene, 1, &on("other.spring.preview.localhost", "/other/x", None)));
    let snapshot = scene.snapshot();
    let service = snapshot.service(found.service).unwrap();
    assert_eq!((service.id.as_str(), found.reason, found.strip), ("Other", Reason::Split, 0));
    assert_eq!(service.target(found.target).unwrap().id.as_str(), "v1");
    // When everything was released, every service is.
    assert_eq!(goes(&scene, plan(&scene, 1, &on("web.spring.preview.localhost", "/", None))), "green");
}

#[test]
fn version_in_place_of_another_is_previewed_only_while_the_service_is_held() {
    let part = part(&["green"], Place::InPlace);
    let scene = set(listening(Scene::new(&[("green", 1)])), previews("dep-1", Some(part)));
    assert_eq!(goes(&scene, preview_of(&scene)), "503");
    assert_eq!(goes(&scene, preview_of(&scene.clone().web(|web| web.wanted.hold = Hold::On))), "green");
    assert_eq!(goes(&scene, plan(&scene, 0, &Request::get("/"))), "green", "it is not sealed");
}

#[test]
fn release_opens_what_was_sealed_and_its_end_seals_it_again() {
    let scene = testing().split(&[("blue", 100), ("green", 9_900)]);
    let path = Request::get("/services/web_blue/");
    assert_eq!(goes(&scene, plan(&scene, 0, &path)), "blue");
    assert_eq!(goes(&scene, plan(&scene, 0, &Request::get("/"))), "blue", "number 0 is the canary's");
    let back = scene.split(&[("green", 10_000)]);
    assert_eq!(goes(&back, plan(&back, 0, &path)), "503");
    let over = set(back, Previews::new());
    assert_eq!(goes(&over, plan(&over, 0, &path)), "blue");
}

#[test]
fn shadow_is_reached_by_its_path_before_its_release() {
    let scene = testing().mirror("copy", "blue", 10_000);
    assert_eq!(goes(&scene, plan(&scene, 0, &Request::get("/services/web_blue/"))), "blue");
    assert_eq!(goes(&scene, plan(&scene.clone().down(&["green"]), 0, &Request::get("/"))), "503");
}

#[test]
fn seals_are_there_again_after_a_restart() {
    let scene = testing().fallback("blue");
    let saved = serde_json::to_string(&Saved::of(&scene.state)).unwrap();
    let saved: Saved = serde_json::from_str(&saved).unwrap();
    let spec = Arc::clone(&scene.state.services["web"].spec);
    let config = crate::change::fixtures::file([(id("web"), (*spec).clone())]);
    let (state, _) = State::load(&config, Some(&saved));
    assert_eq!(state.previews, scene.state.previews);
    assert!(state.services["web"].is_sealed(&id("blue")));
    assert!(!state.services["web"].is_sealed(&id("green")));
}

#[test]
fn what_is_under_test_is_said_as_a_whole() {
    let now = crate::Moment { mono: std::time::Duration::ZERO, unix_ms: 0 };
    let state = testing().state;
    let again = apply(&state, &Change::Previews { previews: Previews::clone(&state.previews) }, now).unwrap();
    assert_eq!((again.state.generation, again.events.len()), (state.generation, 0));
    let other = apply(&state, &Change::Previews { previews: previews("dep-2", None) }, now).unwrap().state;
    assert_eq!(other.generation, state.generation.next());
    assert!(other.services["web"].under_test.is_empty());
    assert!(Change::persists(&state, &other));
}

proptest! {
    /// Whatever a service's split, rules, failovers and health are: who does not ask for the preview, or knows a pin,
    /// never gets to what is under test, and no retry does.
    #[test]
    fn ordinary_requests_never_reach_what_is_sealed(
        rule in any::<bool>(),
        fallback in any::<bool>(),
        overlay in proptest::option::of(1..=10_000_u16),
        health in proptest::collection::vec(0..4_usize, 6),
        red in 0..=10_000_u16,
        sticky in any::<bool>(),
        held in any::<bool>(),
        path in prop_oneof!["/x", "/services/web/", "/services/web_blue/", "/services/web_green/"],
        random in any::<u32>(),
    ) {
        let all = [Health::Healthy, Health::Suspect, Health::Unknown, Health::Unhealthy];
        let health: Vec<_> = health.into_iter().map(|at| all[at]).collect();
        let any = Match { headers: [("x-beta".into(), TextMatch::Present)].into(), ..Match::default() };
        let mut scene = listening(Scene::new(&[("green", 2), ("blue", 2), ("red", 2)]))
            .split(&[("red", red), ("green", 10_000 - red)])
            .health("green", &health[..2])
            .health("blue", &health[2..4])
            .health("red", &health[4..]);
        if rule { scene = scene.rule(any, "blue"); }
        if fallback { scene = scene.fallback("blue"); }
        if let Some(points) = overlay { scene = scene.overlay("blue", points); }
        if sticky { scene = scene.sticky(); }
        if held { scene = scene.web(|web| web.wanted.hold = Hold::On); }
        let scene = set(scene, previews("dep-1", Some(part(&["blue"], Place::Beside))));
        let snapshot = scene.snapshot();
        let blue = at(&snapshot, "blue");
        let request = Request::get(&path).header("x-beta", "1");
        let mut next = match request.decide(&snapshot, random.into()) {
            Plan::Forward(forward) => Some(forward),
            Plan::Wait { instead, .. } => instead,
            Plan::Reject(_) => None,
        };
        let mut tried = Vec::new();
        while let Some(forward) = next {
            prop_assert_ne!(forward.target, blue);
            tried.push((forward.target, forward.endpoint));
            let attempt = Attempt { tried: &tried, sent: false, idempotent: true, body_kept: true, answered: false };
            next = match after_failure(&snapshot, &forward, Failure::Connect, attempt, draw(random.into())) {
                Next::Retry { forward, .. } => Some(forward),
                Next::GiveUp(_) => None,
            };
        }
    }
}
