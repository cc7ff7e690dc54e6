//! The examples are loaded as they are: a reader may copy them.

use super::accepted;
use crate::*;

/// Each file of `examples/`.
pub(crate) const EXAMPLES: [(&str, &str); 6] = [
    ("ab-test.toml", include_str!("../../examples/ab-test.toml")),
    ("blue-green.toml", include_str!("../../examples/blue-green.toml")),
    ("canary.toml", include_str!("../../examples/canary.toml")),
    ("many-services.toml", include_str!("../../examples/many-services.toml")),
    ("shadow.toml", include_str!("../../examples/shadow.toml")),
    ("tidegate.toml", include_str!("../../examples/tidegate.toml")),
];

pub(crate) fn example(name: &str) -> &'static str {
    EXAMPLES.iter().find(|(file, _)| *file == name).unwrap().1
}

#[test]
fn every_example_is_accepted() {
    for (_, text) in EXAMPLES {
        accepted(text);
    }
}

#[test]
fn no_example_is_left_out_of_these_tests() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, EXAMPLES.map(|(file, _)| file));
}

#[test]
fn blue_green_does_what_the_workshop_asks_for() {
    let config = accepted(example("blue-green.toml"));
    let listener = config.listeners.values().next().unwrap();
    assert_eq!(listener.address.to_string(), "0.0.0.0:3090");
    let web = config.services.values().next().unwrap();
    assert_eq!(web.stable.as_str(), "green");
    let failover = web.failover.as_ref().unwrap();
    assert_eq!((failover.to.as_str(), failover.failback), ("blue", FailbackMode::Restart));
    let HealthPolicy::Active(check) = &web.health else { panic!("{:?}", web.health) };
    assert_eq!((check.interval.as_secs(), check.fall), (5, 1));
    let Probe::Http { expect, .. } = &check.probe else { panic!("{:?}", check.probe) };
    assert_eq!(expect.status, [200..=200]);
}

#[test]
fn many_services_tell_hosts_and_paths_apart() {
    let config = accepted(example("many-services.toml"));
    let routes = |name: &str| config.services.get(name).unwrap().routes.clone();
    assert_eq!(routes("site"), [RouteSpec { host: RouteHost::Any, path: "/".into(), strip: false }]);
    assert_eq!(routes("api")[0], RouteSpec { host: RouteHost::Any, path: "/api".into(), strip: true });
    assert_eq!(routes("tenants")[0].host, RouteHost::Suffix(".customers.example.com".into()));
    assert_eq!(config.services.len(), 5);
}
