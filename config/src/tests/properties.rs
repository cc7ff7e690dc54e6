//! Whatever the text, the parse ends with a configuration or with problems.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    accepted,
    examples::EXAMPLES,
    round_trip::{EVERYTHING, described},
};
use crate::*;

/// Parses a text of any kind; what is accepted must survive its description, what is refused must say where.
fn check(text: &str) {
    match parse(text) {
        Ok(config) => {
            hangs_together(&config);
            described(&config);
        }
        Err(problems) => {
            let lines = text.lines().count().max(1) + 1;
            assert!(problems.iter().next().is_some());
            for problem in &problems {
                assert!((1..=lines).contains(&problem.line), "{problem} of {lines} lines");
                assert!(!problem.message.is_empty() && !problem.to_string().contains('\n'), "{problem:?}");
            }
            assert_eq!(problems.to_string().lines().count(), problems.iter().count());
        }
    }
}

/// What the rest of the program relies on without looking.
fn hangs_together(config: &Config) {
    assert!(!config.listeners.is_empty() && !config.services.is_empty());
    for (name, service) in &config.services {
        let target = |target: &TargetId| assert!(service.targets.contains_key(target), "{name}: {target}");
        target(&service.stable);
        service.split.iter().for_each(|(to, _)| target(to));
        service.rules.iter().for_each(|rule| target(&rule.to));
        service.mirrors.values().for_each(|mirror| target(&mirror.to));
        service.failover.iter().for_each(|failover| target(&failover.to));
        assert!(service.failover.iter().all(|failover| failover.to != service.stable));
        assert!(!service.routes.is_empty() && service.mirrors.len() <= 32);
        assert!(service.targets.values().all(|target| !target.endpoints.is_empty()));
        assert!(service.listeners.iter().flatten().all(|listener| config.listeners.contains_key(listener)));
        for flag in service.rules.iter().filter_map(|rule| rule.when.flag.as_ref()) {
            assert!(config.flags.declared.contains_key(&flag.name), "{name}: {}", flag.name);
        }
        if let HealthPolicy::Active(check) = &service.health {
            assert!(check.fall > 0 && check.rise > 0 && !check.interval.is_zero() && !check.timeout.is_zero());
        }
    }
}

/// Files that are right: the examples, and one with every key.
fn right() -> impl Strategy<Value = &'static str> {
    let files: Vec<_> = EXAMPLES.iter().map(|(_, text)| *text).chain([EVERYTHING]).collect();
    prop::sample::select(files)
}

/// What a slip of the hand, or of a script, may put into a file.
const PIECES: [&str; 24] = [
    "",
    "\n",
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "0",
    "-1",
    "\"\"",
    "true",
    "[]",
    "{}",
    "é",
    "\u{0}",
    "\r",
    "1e400",
    "99999999999999999999",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn a_file_with_a_piece_replaced_is_parsed_or_refused(
        text in right(),
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        piece in prop::sample::select(PIECES.to_vec()),
    ) {
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let end = (at + length).min(chars.len());
        let mutated: String = chars[..at].iter().copied().chain(piece.chars()).chain(chars[end..].iter().copied()).collect();
        check(&mutated);
    }

    #[test]
    fn a_file_with_values_exchanged_is_parsed_or_refused(
        text in right(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let assignments: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].contains(" = ")).collect();
        for (to, from) in places {
            let (to, from) = (assignments[to.index(assignments.len())], assignments[from.index(assignments.len())]);
            let value = lines[from].split_once(" = ").unwrap().1.to_owned();
            let key = lines[to].split_once(" = ").unwrap().0.to_owned();
            lines[to] = format!("{key} = {value}");
        }
        check(&lines.join("\n"));
    }

    #[test]
    fn every_whole_number_of_a_unit_is_a_duration(number in 0..10_000_u64, unit in 0..5_usize) {
        let (unit, millis) = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)][unit];
        let text = format!("[service.s]\ndrain = \"{number}{unit}\"\ntarget.t.endpoints = ['a:1']");
        let longest = Duration::from_secs(3650 * 86_400);
        let expected = Duration::from_millis(number * millis);
        match parse(&text) {
            Ok(config) => {
                prop_assert!(expected <= longest);
                prop_assert_eq!(config.services.get("s").unwrap().drain, expected);
                described(&config);
            }
            Err(_) => prop_assert!(expected > longest),
        }
    }
}

#[test]
fn every_weight_is_read_and_described_exactly() {
    for points in 0..=10_000_u16 {
        let (percent, rest) = (f64::from(points) / 100.0, f64::from(10_000 - points) / 100.0);
        let targets = "target.a.endpoints = ['a:1']\ntarget.b.endpoints = ['b:1']";
        let config =
            accepted(&format!("[service.s]\nstable = 'a'\nsplit = {{ a = {percent}, b = {rest} }}\n{targets}"));
        let weight = |config: &Config| config.services.get("s").unwrap().split.weight(&TargetId::parse("a").unwrap());
        assert_eq!(weight(&config).points(), points);
        let again = accepted(&toml::to_string(&describe(&config)).unwrap());
        assert_eq!(weight(&again).points(), points);
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for open in ["[", "{ a = "] {
        check(&format!("a = {}", open.repeat(100_000)));
    }
    check(&format!("[{}]", vec!["a"; 100_000].join(".")));
}

#[test]
fn ten_thousand_services_with_a_hundred_thousand_routes_are_read() {
    let mut text = String::new();
    for service in 0..10_000 {
        text += &format!("[service.s{service}]\nroutes = [");
        for route in 0..10 {
            text += &format!("{{ host = \"h{service}.example.com\", path = \"/p{route}\" }}, ");
        }
        text += &format!("]\ntarget.t.endpoints = [\"10.0.0.1:{}\"]\n", service + 1);
    }
    let config = accepted(&text);
    assert_eq!(config.services.len(), 10_000);
    assert_eq!(config.services.values().map(|service| service.routes.len()).sum::<usize>(), 100_000);
}

#[test]
fn a_file_full_of_mistakes_is_read_in_linear_time() {
    // Each of these is looked up among all names, and has a message of its own.
    let mut text = String::from("[service.s]\ntarget.t.endpoints = ['a:1']\n");
    for rule in 0..20_000 {
        text += &format!("[[service.s.rule]]\nto = 'x{rule}'\nwhen = {{ methd = 'GET' }}\n");
    }
    assert_eq!(parse(&text).unwrap_err().iter().count(), 40_000);
}
