//! The examples are loaded as they are: a reader may copy them.

use std::collections::BTreeSet;

use super::accepted;
use crate::*;

/// Each file of `examples/`.
pub(crate) const EXAMPLES: [(&str, &str); 10] = [
    ("ab-test.toml", include_str!("../../examples/ab-test.toml")),
    ("blue-green.toml", include_str!("../../examples/blue-green.toml")),
    ("canary.toml", include_str!("../../examples/canary.toml")),
    ("compose.toml", include_str!("../../examples/compose.toml")),
    ("databases.toml", include_str!("../../examples/databases.toml")),
    ("many-services.toml", include_str!("../../examples/many-services.toml")),
    ("processes.toml", include_str!("../../examples/processes.toml")),
    ("shadow.toml", include_str!("../../examples/shadow.toml")),
    ("stacks.toml", include_str!("../../examples/stacks.toml")),
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
    // The folders hold the scripts that the examples run; the end-to-end tests run them, too.
    files.retain(|name| name.ends_with(".toml"));
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

/// The reference with everything in it that is commented out: keys and tables, not prose.
fn with_comments_taken_off(text: &str) -> String {
    let commented = regex::Regex::new(r"(?m)^# (\[+[a-z._-]+\]+$|[a-z_]+ = )").unwrap();
    commented.replace_all(text, "$1").into_owned()
}

#[test]
fn the_reference_states_the_defaults() {
    let names = r#"
[service.web]
stable = "green"
[service.web.target]
green.endpoints = ["127.0.0.1:3001"]
blue.endpoints = ["https://blue.internal:8443", "h2c://127.0.0.1:50051", "unix:/run/blue.sock"]
"#;
    assert_eq!(describe(&accepted(example("tidegate.toml"))), describe(&accepted(names)));
}

#[test]
fn the_reference_has_every_key() {
    let text = with_comments_taken_off(example("tidegate.toml"));
    accepted(&text);
    let mut root: toml::Value = toml::from_str(&text).unwrap();
    let mut present = BTreeSet::new();
    keys(&root, "", &mut present);
    // An unknown key in a table makes the parse name the keys that it knows there.
    add_unknown_keys(&mut root);
    let problems = parse(&toml::to_string(&root).unwrap()).unwrap_err();
    let mut known = BTreeSet::new();
    for problem in problems {
        if let Some(keys) = problem.message.strip_prefix("unknown key: the keys here are ") {
            known.extend(keys.split(", ").map(|key| kind(&problem.path.replace("xyzzy", key))));
        }
    }
    // A choice is shown once, and its other side in a comment.
    for choice in [
        "service.*.pin.file",
        "flags.source.*.file",
        "password.file",
        "token.file",
        "when.header.*.regex",
        "when.cookie.*",
        "when.query.*.prefix",
    ] {
        known.retain(|key| !key.contains(choice));
    }
    assert!(known.len() > 80, "{known:?}");
    assert_eq!(known.difference(&present).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// A path without the names that a user gives.
fn kind(path: &str) -> String {
    let names = r"\b(listener|service|target|mirror|header|cookie|query|values|flags\.flag|flags\.source|hook|stage)\.[A-Za-z_-]+";
    let path = regex::Regex::new(names).unwrap().replace_all(path, "$1.*");
    regex::Regex::new(r"\[\d+\]").unwrap().replace_all(&path, "[]").into_owned()
}

fn keys(value: &toml::Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                found.insert(kind(&path));
                keys(value, &path, found);
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

fn add_unknown_keys(value: &mut toml::Value) {
    match value {
        toml::Value::Table(table) => {
            table.iter_mut().for_each(|(_, value)| add_unknown_keys(value));
            table.insert("xyzzy".into(), 1.into());
        }
        toml::Value::Array(items) => items.iter_mut().for_each(add_unknown_keys),
        _ => {}
    }
}
