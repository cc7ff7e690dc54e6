use std::sync::Arc;

use proptest::{collection::btree_map, prelude::*};
use tidegate_config::{Match, RouteHost, TextMatch};

use super::*;
use crate::{
    Attempt, Failure, Health, ListenerIdx, Next, Plan, ServiceState, after_failure,
    decide::Forward,
    state::ListenerOffer,
    testing::{Request, Scene, at, draw, id, named as target_name, route, web},
};

fn offering(scene: Scene) -> Scene {
    let mut scene = scene;
    scene.state.offers = [ListenerOffer { service_paths: true, preview: None }].into();
    scene
}

/// Services with these targets, each on a host of its own, and `web` on every other one.
fn services(services: &[(&str, &[&str])]) -> Snapshot {
    let mut scene = offering(Scene::new(&[("green", 1), ("blue", 1)]));
    for (name, targets) in services {
        let targets: Vec<_> = targets.iter().map(|target| (*target, 1)).collect();
        let other = Scene::new(&targets).spec(|spec| spec.routes = vec![route(RouteHost::Exact("x".into()), "/")]);
        let state: Arc<ServiceState> = Arc::clone(&other.state.services["web"]);
        scene.state.services.insert(id(name), state);
    }
    scene.snapshot()
}

/// Service, target and the path that the service sees.
fn found(snapshot: &Snapshot, path: &str) -> (String, Option<String>, String) {
    let request = Request::get(path);
    let way = find(snapshot, &request.head()).unwrap();
    let service = snapshot.service(way.service).unwrap();
    let target = match way.aim {
        Aim::Service => None,
        Aim::Only(target, reason) => {
            assert_eq!(reason, Reason::Path);
            Some(service.target(target).unwrap().id.to_string())
        }
    };
    (service.id.to_string(), target, path[way.strip..].to_owned())
}

fn check(snapshot: &Snapshot, cases: &[(&str, &str, &str, &str)]) {
    for (path, service, target, rest) in cases {
        let target = (!target.is_empty()).then(|| (*target).to_owned());
        assert_eq!(found(snapshot, path), ((*service).to_owned(), target, (*rest).to_owned()), "{path}");
    }
}

#[test]
fn path_names_a_service_or_one_of_its_targets() {
    check(
        &services(&[("shop", &["v1", "v2"])]),
        &[
            ("/services/shop/", "shop", "", "/"),
            ("/services/shop", "shop", "", ""),
            ("/services/shop/a/b", "shop", "", "/a/b"),
            ("/services/shop_v2/a%2Fb", "shop", "v2", "/a%2Fb"),
            ("/services/shop_v1", "shop", "v1", ""),
            ("/services/%73hop/x", "shop", "", "/x"),
            ("//services//shop_v2//x", "shop", "v2", "/x"),
        ],
    );
}

#[test]
fn names_may_hold_what_parts_them() {
    let snapshot = services(&[
        ("a", &["b", "b_c", "c_"]),
        ("a_b", &["c", "d"]),
        ("a_b_d", &["x"]),
        ("n_a_m_e", &["v_1.0-rc", "v"]),
    ]);
    check(
        &snapshot,
        &[
            // A whole service, though service a has a target b.
            ("/services/a_b/", "a_b", "", "/"),
            ("/services/a_b_d/", "a_b_d", "", "/"),
            // The longest service: not target b_c of service a.
            ("/services/a_b_c/", "a_b", "c", "/"),
            ("/services/a_c_/", "a", "c_", "/"),
            ("/services/n_a_m_e_v_1.0-rc/x", "n_a_m_e", "v_1.0-rc", "/x"),
            ("/services/n_a_m_e_v/x", "n_a_m_e", "v", "/x"),
        ],
    );
}

#[test]
fn unknown_names_are_left_to_the_routes() {
    let long = format!("/services/{}/", "a_".repeat(4000));
    let rest =
        ["/services", "/services/", "/services/nobody/", "/services/shop_v9/", "/services/_v1/", "/services/shop_/"];
    let others =
        ["/servicesx/shop/", "/Services/shop/", "/x/services/shop/", "/services%2Fshop/", "/services/shop%2F/", &long];
    for path in rest.into_iter().chain(others) {
        check(&services(&[("shop", &["v1", "v2"])]), &[(path, "web", "", path)]);
    }
}

#[test]
fn listener_that_does_not_offer_it_has_only_routes() {
    let scene = Scene::new(&[("green", 1), ("blue", 1)]);
    check(&scene.snapshot(), &[("/services/web_blue/", "web", "", "/services/web_blue/")]);
    let mut scene = offering(scene);
    scene.state.listeners = [id("public"), id("inside")].into();
    scene.state.offers = [ListenerOffer::default(), ListenerOffer { service_paths: true, preview: None }].into();
    let snapshot = scene.snapshot();
    check(&snapshot, &[("/services/web_blue/", "web", "", "/services/web_blue/")]);
    let request = Request::get("/services/web_blue/");
    let inside = RequestHead { listener: ListenerIdx(1), ..request.head() };
    assert_eq!(find(&snapshot, &inside).unwrap().aim, Aim::Only(at(&snapshot, "blue"), Reason::Path));
}

#[test]
fn service_that_a_listener_does_not_carry_is_unknown_there() {
    let scene = offering(Scene::new(&[("green", 1)])).spec(|spec| spec.listeners = Some(vec![id("inside")]));
    let request = Request::get("/services/web/");
    assert_eq!(find(&scene.snapshot(), &request.head()), Err(Reject::NoRoute));
}

#[test]
fn rules_see_the_path_that_the_service_sees() {
    let rule = Match { path: Some("/beta".into()), ..Match::default() };
    let snapshot = offering(Scene::new(&[("green", 1), ("blue", 1)])).rule(rule, "blue").snapshot();
    let target = |path: &str| match Request::get(path).decide(&snapshot, 1) {
        Plan::Forward(forward) => target_name(&snapshot, forward.target),
        other => panic!("{other:?}"),
    };
    assert_eq!(["/beta/x", "/services/web/beta/x", "/services/web/x"].map(target), ["blue", "blue", "green"]);
}

fn forward(plan: Plan) -> Forward {
    match plan {
        Plan::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

/// Everything that could lead elsewhere: a split, a rule, a failover that is on, its policy, a mirror.
fn busy() -> Scene {
    let any = Match { headers: [("host".into(), TextMatch::Present)].into(), ..Match::default() };
    offering(Scene::new(&[("green", 2), ("blue", 2), ("red", 2)]))
        .split(&[("blue", 5000), ("green", 5000)])
        .rule(any, "green")
        .overlay("red", 10_000)
        .fallback("red")
        .mirror("audit", "red", 10_000)
}

#[test]
fn named_target_answers_alone_and_nobody_gets_a_copy() {
    let snapshot = busy().snapshot();
    for target in ["green", "blue", "red"] {
        for n in 0..20 {
            let request = Request::get(&format!("/services/web_{target}/x")).header("host", "h").pin("red");
            let forward = forward(request.decide(&snapshot, n));
            assert_eq!((forward.chosen, forward.target), (at(&snapshot, target), at(&snapshot, target)));
            assert_eq!((forward.reason, forward.mirrors), (Reason::Path, 0));
        }
    }
}

#[test]
fn named_target_that_is_down_is_not_replaced() {
    let request = Request::get("/services/web_blue/x");
    let plan = |scene: Scene| request.decide(&scene.snapshot(), 1);
    assert_eq!(plan(busy().down(&["blue"])), Plan::Reject(Reject::NoTarget));
    assert_eq!(plan(busy().drained("blue")), Plan::Reject(Reject::NoTarget));
    // Another target that nothing is known of yet is not waited for, its own first verdict is.
    let pending = busy().health("green", &[Health::Unknown; 2]).down(&["blue"]);
    assert_eq!(plan(pending), Plan::Reject(Reject::NoTarget));
    let pending = busy().health("blue", &[Health::Unknown; 2]);
    assert!(matches!(plan(pending), Plan::Wait { instead: None, .. }));
}

#[test]
fn failed_attempt_at_a_named_target_is_repeated_only_there() {
    let snapshot = busy().snapshot();
    let first = forward(Request::get("/services/web_blue/x").decide(&snapshot, 1));
    let mut tried = vec![(first.target, first.endpoint)];
    let mut next = || {
        let attempt = Attempt { tried: &tried, sent: false, idempotent: true, body_kept: true, answered: false };
        let next = after_failure(&snapshot, &first, Failure::Connect, attempt, draw(1));
        if let Next::Retry { forward, .. } = &next {
            tried.push((forward.target, forward.endpoint));
        }
        next
    };
    let Next::Retry { forward, .. } = next() else { panic!("no retry") };
    assert_eq!((forward.target, forward.reason), (first.target, Reason::Path));
    assert_ne!(forward.endpoint, first.endpoint);
    assert_eq!(next(), Next::GiveUp(Reject::Unreachable));
    assert!(web(&snapshot).retry.attempts >= 2, "there was no attempt left to be wrong");
}

fn names() -> impl Strategy<Value = String> {
    "[ab][ab_]{0,4}"
}

proptest! {
    /// The oracle builds every text that names something.
    #[test]
    fn a_path_names_exactly_what_is_registered(
        registered in btree_map(names(), btree_map(names(), Just(()), 1..4), 1..6),
        text in "[ab][ab_]{0,7}",
    ) {
        let targets: Vec<Vec<&str>> = registered.values().map(|of| of.keys().map(String::as_str).collect()).collect();
        let all: Vec<_> = registered.keys().map(String::as_str).zip(targets.iter().map(Vec::as_slice)).collect();
        let snapshot = services(&all);
        let pairs = registered.iter().flat_map(|(s, of)| of.keys().map(move |t| (s.clone(), t.clone())));
        let longest = pairs.filter(|(s, t)| format!("{s}_{t}") == text).max_by_key(|(s, _)| s.len());
        let expected = match (registered.contains_key(&text), longest) {
            (true, _) => (text.clone(), None, "/p".to_owned()),
            (false, Some((service, target))) => (service, Some(target), "/p".to_owned()),
            (false, None) => ("web".into(), None, format!("/services/{text}/p")),
        };
        prop_assert_eq!(found(&snapshot, &format!("/services/{text}/p")), expected);
    }

    /// Whatever a client asks for: by the service's name it goes where it would have gone by its own route.
    #[test]
    fn by_its_name_a_service_decides_as_by_its_route(
        path in "/([a-c/.~]|%2[0-9A-F]|%6[1-3]){0,12}",
        beta in any::<bool>(),
        pin in proptest::option::of(Just("red")),
        post in any::<bool>(),
        visitor in "u[0-9]{1,3}",
        random in any::<u32>(),
    ) {
        let rule = Match { path: Some("/a".into()), ..Match::default() };
        let beta_rule = Match { headers: [("x-beta".into(), TextMatch::Present)].into(), ..Match::default() };
        let scene = offering(Scene::new(&[("green", 2), ("blue", 1), ("red", 1)]))
            .split(&[("blue", 4000), ("green", 6000)])
            .sticky()
            .rule(rule, "red")
            .rule(beta_rule, "blue")
            .mirror("a", "red", 5000)
            .mirror("b", "blue", 10_000);
        let snapshot = scene.snapshot();
        let plan = |path: &str| {
            let mut request = Request::get(path).header("x-user", &visitor);
            if beta { request = request.header("x-beta", "1"); }
            if post { request = request.method(http::Method::POST); }
            if let Some(target) = pin { request = request.pin(target); }
            request.decide(&snapshot, random.into())
        };
        let own = plan(&path);
        let prefixed = format!("/services/web{path}");
        let by_name = plan(&prefixed);
        match (own, by_name) {
            (Plan::Forward(own), Plan::Forward(by_name)) => {
                // What remains begins with one slash, whatever it began with; the rest is as it came.
                let rest = format!("/{}", path.trim_start_matches('/'));
                prop_assert_eq!(&prefixed[by_name.strip..], rest);
                prop_assert_eq!(Forward { strip: 0, ..by_name }, own);
            }
            (own, by_name) => prop_assert_eq!(own, by_name),
        }
    }
}
