use proptest::prelude::*;

use super::*;
use crate::{
    host::{HOST_BUFFER, canonical},
    testing::{id, route},
};

/// A service's name, listeners and routes.
type Named = (String, Option<Vec<ListenerId>>, Vec<RouteSpec>);

/// `host/path -> service` routes, separated by `;`. A service with `@listener` is only on that one.
fn parse(text: &str) -> Vec<(RouteHost, String, String)> {
    let parse = |line: &str| {
        let (from, to) = line.split_once("->").unwrap();
        let from = from.trim();
        let (host, path) = from.split_at(from.find('/').unwrap());
        let host = match host.strip_prefix('*') {
            Some("") => RouteHost::Any,
            Some(suffix) => RouteHost::Suffix(suffix.into()),
            None => RouteHost::Exact(host.into()),
        };
        (host, path.to_string(), to.trim().to_string())
    };
    text.split(';').map(parse).collect()
}

fn services(routes: &str) -> Vec<Named> {
    let mut services: Vec<Named> = Vec::new();
    for (host, path, to) in parse(routes) {
        let listeners = to.split_once('@').map(|(_, listener)| vec![id(listener)]);
        match services.iter_mut().find(|(name, ..)| *name == to) {
            Some((_, _, routes)) => routes.push(route(host, &path)),
            None => services.push((to, listeners, vec![route(host, &path)])),
        }
    }
    services
}

fn router(services: &[Named]) -> Router {
    let routed = services.iter().map(|(_, listeners, routes)| Routed { listeners: listeners.as_deref(), routes });
    Router::new(&[id("public"), id("private")], routed)
}

fn find(services: &[Named], router: &Router, listener: u32, url: &str) -> String {
    let (host, path) = url.split_at(url.find('/').unwrap());
    let mut buffer = HOST_BUFFER;
    let host = canonical(host, &mut buffer).unwrap();
    let found = router.find(ListenerIdx(listener), host, &RequestPath::parse(path).unwrap());
    found.map_or("none".into(), |found| services[found.service.get()].0.clone())
}

fn check(routes: &str, cases: &[(&str, &str)]) {
    let services = services(routes);
    let router = router(&services);
    for (url, expected) in cases {
        assert_eq!(find(&services, &router, 0, url), *expected, "{url}");
    }
}

#[test]
fn longest_prefix_on_segment_borders_wins() {
    check(
        "*/ -> root; */a -> a; */a/b/c -> abc; */a/b -> ab",
        &[
            ("x/", "root"),
            ("x/ax", "root"),
            ("x/a", "a"),
            ("x/a/", "a"),
            ("x/a/bc", "a"),
            ("x/a/b", "ab"),
            ("x/a/b/x", "ab"),
            ("x/a/b/c", "abc"),
            ("x/a/b/c/d/e/f", "abc"),
            ("x/b/a", "root"),
        ],
    );
}

#[test]
fn path_without_a_route_is_not_found() {
    check("*/a -> a", &[("x/", "none"), ("x/b", "none"), ("x/ab", "none"), ("x/A", "none")]);
}

#[test]
fn exact_host_comes_before_suffix_and_suffix_before_any() {
    check(
        "*/ -> any; *.example.com/ -> suffix; *.eu.example.com/ -> longer; www.example.com/ -> exact",
        &[
            ("www.example.com/", "exact"),
            ("a.example.com/", "suffix"),
            ("a.b.example.com/", "suffix"),
            ("eu.example.com/", "suffix"),
            ("a.eu.example.com/", "longer"),
            ("example.com/", "any"),
            ("xexample.com/", "any"),
            ("www.example.com.evil.org/", "any"),
        ],
    );
}

#[test]
fn host_without_a_matching_path_leaves_it_to_the_next() {
    check(
        "www.example.com/a -> exact; *.www.example.com/ -> below; *.example.com/b -> suffix; *.com/c -> com; */d -> any",
        &[
            ("www.example.com/a", "exact"),
            ("www.example.com/b", "suffix"),
            ("www.example.com/c", "com"),
            ("www.example.com/d", "any"),
            ("www.example.com/e", "none"),
            ("a.www.example.com/b", "below"),
        ],
    );
}

#[test]
fn spelling_of_the_host_does_not_matter() {
    let mut routes = "*/ -> any; Example.com/ -> exact; ::1/ -> six".to_string();
    // Also not when there are many hosts.
    routes.extend((0..300).map(|n| format!("; host-{n}.org/ -> n{n}")));
    check(
        &routes,
        &[
            ("example.com/", "exact"),
            ("EXAMPLE.COM/", "exact"),
            ("example.com:3090/", "exact"),
            ("example.com./", "exact"),
            ("eXample.com.:80/", "exact"),
            ("[::1]:80/", "six"),
            ("[0::1]/", "six"),
            ("HOST-299.org:1/", "n299"),
        ],
    );
}

#[test]
fn spelling_of_the_path_does_not_matter() {
    check(
        "*/ -> root; */admin/a~b -> admin",
        &[("x//admin///a~b", "admin"), ("x/%61dmin/a%7eb/x", "admin"), ("x/admin%2Fa~b", "root"), ("x/admin", "root")],
    );
    check("*/a%2fb/%7Ec/ -> odd", &[("x/a%2Fb/~c", "odd"), ("x/a/b/~c", "none")]);
}

#[test]
fn service_is_found_only_on_its_listeners() {
    let services = services("*/ -> all; */a -> a@public; */b -> b@private");
    let router = router(&services);
    for (listener, url, expected) in [
        (0, "x/a", "a@public"),
        (1, "x/a", "all"),
        (0, "x/b", "all"),
        (1, "x/b", "b@private"),
        (1, "x/", "all"),
        (2, "x/", "none"),
    ] {
        assert_eq!(find(&services, &router, listener, url), expected, "{url} on {listener}");
    }
}

#[test]
fn listeners_with_the_same_services_share_one_table() {
    let shared = router(&services("*/ -> all"));
    assert!(Arc::ptr_eq(&shared.tables[0], &shared.tables[1]));
    let apart = router(&services("*/ -> all; */a -> a@public"));
    assert!(!Arc::ptr_eq(&apart.tables[0], &apart.tables[1]));
}

#[test]
fn first_of_two_equal_routes_has_it() {
    check("*/a -> first; */a/ -> second", &[("x/a", "first")]);
}

#[test]
fn routes_deeper_than_the_depth_bits_are_found() {
    let deep = |segments: usize| "/s".repeat(segments);
    let routes = format!("*{} -> a; *{} -> b; *{} -> c", deep(62), deep(63), deep(90));
    let cases = [(61, "none"), (62, "a"), (63, "b"), (64, "b"), (89, "b"), (90, "c"), (200, "c")];
    for (segments, expected) in cases {
        check(&routes, &[(&format!("x{}", deep(segments)), expected)]);
    }
}

#[test]
fn router_without_routes_finds_nothing() {
    let empty = Router::new(&[id("public")], std::iter::empty());
    assert_eq!(empty.find(ListenerIdx(0), "x", &RequestPath::parse("/").unwrap()), None);
    assert_eq!(Router::default().find(ListenerIdx(0), "x", &RequestPath::parse("/").unwrap()), None);
}

/// The rules of routing, written down without any thought of speed.
fn reference(routes: &[(RouteHost, String)], host: &str, path: &str) -> Option<usize> {
    let below = |prefix: &str| {
        let segments = |text: &str| text.split('/').filter(|s| !s.is_empty()).map(String::from).collect::<Vec<_>>();
        segments(path).starts_with(&segments(prefix)).then(|| segments(prefix).len())
    };
    let rank = |route: &RouteHost| match route {
        RouteHost::Any => Some(0),
        RouteHost::Suffix(suffix) => {
            (host.ends_with(suffix.as_str()) && host.len() > suffix.len()).then_some(suffix.len())
        }
        RouteHost::Exact(exact) => (exact == host).then_some(1000),
    };
    let ranked = routes
        .iter()
        .enumerate()
        .filter_map(|(at, (host, path))| Some((rank(host)?, below(path)?, std::cmp::Reverse(at))));
    ranked.max().map(|(_, _, at)| at.0)
}

fn any_host() -> impl Strategy<Value = RouteHost> {
    prop_oneof![
        Just(RouteHost::Any),
        "[ab](\\.[ab]){0,2}".prop_map(RouteHost::Exact),
        "(\\.[ab]){1,3}".prop_map(RouteHost::Suffix),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn router_agrees_with_the_reference(
        routes in proptest::collection::vec((any_host(), "(/[ab]{1,2}){0,4}"), 0..24),
        requests in proptest::collection::vec(("[ab](\\.[ab]){0,4}", "(//?[ab]{1,2}){0,6}/?"), 16),
    ) {
        let specs: Vec<_> = routes.iter().map(|(host, path)| [route(host.clone(), if path.is_empty() { "/" } else { path })]).collect();
        let router = Router::new(&[id("public")], specs.iter().map(|routes| Routed { listeners: None, routes }));
        for (host, path) in requests {
            let found = router.find(ListenerIdx(0), &host, &RequestPath::parse(&path).unwrap());
            prop_assert_eq!(found.map(|found| found.service.get()), reference(&routes, &host, &path), "{}{}", host, path);
        }
    }
}
