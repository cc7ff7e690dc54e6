//! Each way to write a value means what it says.

use std::time::Duration;

use super::accepted;
use crate::*;

/// A service with one target and this line.
fn service(line: &str) -> ServiceSpec {
    let config = accepted(&format!("[service.s]\n{line}\ntarget.t.endpoints = ['a:1']\n[flags.values]\nnew = 'on'\n"));
    config.services.get("s").unwrap().clone()
}

#[test]
fn durations_count_their_unit() {
    for (text, millis) in [
        ("1500ms", 1500),
        ("5s", 5000),
        ("2m", 120_000),
        ("12h", 43_200_000),
        ("30d", 2_592_000_000),
        ("0s", 0),
        ("007s", 7000),
    ] {
        assert_eq!(service(&format!("drain = '{text}'")).drain, Duration::from_millis(millis), "{text}");
    }
}

#[test]
fn sizes_count_their_unit() {
    for (text, bytes) in [
        ("0", 0),
        ("1234", 1234),
        ("0x10", 16),
        ("'12B'", 12),
        ("'64KiB'", 65_536),
        ("'10 MiB'", 10_485_760),
        ("'1GiB'", 1 << 30),
        ("'1kB'", 1000),
        ("'1MB'", 1_000_000),
        ("'1GB'", 1_000_000_000),
    ] {
        assert_eq!(service(&format!("max_body = {text}")).max_body, Some(bytes), "{text}");
    }
}

#[test]
fn expected_statuses_are_numbers_ranges_or_lists() {
    for (text, ranges) in [
        ("200", vec![200..=200]),
        ("'204'", vec![204..=204]),
        ("'200-399'", vec![200..=399]),
        ("'200, 204'", vec![200..=200, 204..=204]),
        ("[200, '300-302', '404,410-411']", vec![200..=200, 300..=302, 404..=404, 410..=411]),
        ("'100-599'", vec![100..=599]),
    ] {
        let HealthPolicy::Active(check) = service(&format!("health = {{ expect = {text} }}")).health else { panic!() };
        let Probe::Http { expect, .. } = check.probe else { panic!() };
        assert_eq!(expect.status, ranges, "{text}");
    }
}

#[test]
fn health_is_a_request_a_connection_or_nothing() {
    assert!(matches!(service("health = false").health, HealthPolicy::Passive));
    let tcp = service("health = { tcp = true }").health;
    assert!(matches!(tcp, HealthPolicy::Active(ActiveCheck { probe: Probe::Tcp, .. })));
    let http = service("health = { tcp = false }").health;
    assert!(matches!(http, HealthPolicy::Active(ActiveCheck { probe: Probe::Http { .. }, .. })));
}

#[test]
fn hosts_lose_their_case_and_keep_their_kind() {
    for (text, host) in [
        ("*", RouteHost::Any),
        ("*.Example.com", RouteHost::Suffix(".example.com".into())),
        ("Shop.Example.COM", RouteHost::Exact("shop.example.com".into())),
        ("localhost", RouteHost::Exact("localhost".into())),
        ("my_app", RouteHost::Exact("my_app".into())),
        ("10.0.0.1", RouteHost::Exact("10.0.0.1".into())),
        ("[0:0::1]", RouteHost::Exact("[::1]".into())),
    ] {
        let routes = service(&format!("routes = [{{ host = '{text}', path = '/a-b/c.d/~x', strip = true }}]")).routes;
        assert_eq!(routes, [RouteSpec { host, path: "/a-b/c.d/~x".into(), strip: true }], "{text}");
    }
}

#[test]
fn paths_have_one_spelling() {
    for (text, path) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/%7eme/%41", "/~me/A"),
        ("/a%2fb/%c3%a4", "/a%2Fb/%C3%A4"),
        ("/a%25", "/a%25"),
        ("/.../a;b=..", "/.../a;b=.."),
        ("/.well-known", "/.well-known"),
    ] {
        assert_eq!(service(&format!("routes = [{{ path = '{text}' }}]")).routes[0].path, path, "{text}");
        let again = service(&format!("routes = [{{ path = '{path}' }}]"));
        assert_eq!(again.routes[0].path, path, "the canonical form stays as it is");
    }
}

#[test]
fn the_text_of_a_rule_is_exact_present_a_prefix_or_a_pattern() {
    let header = |text: &str| {
        let rules = service(&format!("rule = [{{ when = {{ header = {{ X-A = {text} }} }}, to = 't' }}]")).rules;
        rules[0].when.headers.get("x-a").unwrap().clone()
    };
    assert!(matches!(header("'*'"), TextMatch::Present));
    assert!(matches!(header("'1'"), TextMatch::Exact(text) if text == "1"));
    assert!(matches!(header("''"), TextMatch::Exact(text) if text.is_empty()));
    assert!(matches!(header("{ prefix = 'a' }"), TextMatch::Prefix(text) if text == "a"));
    assert!(matches!(header("{ regex = '^a' }"), TextMatch::Regex(pattern) if pattern.as_str() == "^a"));
}

#[test]
fn the_conditions_of_a_rule_keep_what_was_written() {
    let when = |text: &str| service(&format!("rule = [{{ when = {{ {text} }}, to = 't' }}]")).rules[0].when.clone();
    assert_eq!(when("method = 'post'").methods, ["POST"]);
    assert_eq!(when("method = ['GET', 'put']").methods, ["GET", "PUT"]);
    assert_eq!(when("path = '/x'").path.as_deref(), Some("/x"));
    let name = FlagName::parse("new").unwrap();
    assert_eq!(when("flag = 'new'").flag, Some(FlagCondition { name: name.clone(), is: None }));
    assert_eq!(when("flag = { name = 'new', is = 'b' }").flag, Some(FlagCondition { name, is: Some("b".into()) }));
    assert!(when("cookie = { Beta = '*' }").cookies.contains_key("Beta"), "cookies have case");
    assert!(when("query = { Q = '*' }").query.contains_key("Q"), "parameters have case");
}

#[test]
fn rules_keep_the_order_of_the_file() {
    let rules: String = (0..50).map(|n| format!("{{ when = {{ path = '/{n}' }}, to = 't' }}, ")).collect();
    let paths: Vec<_> =
        service(&format!("rule = [{rules}]")).rules.into_iter().map(|rule| rule.when.path.unwrap()).collect();
    assert_eq!(paths, (0..50).map(|n| format!("/{n}")).collect::<Vec<_>>());
}

#[test]
fn networks_are_addresses_with_a_prefix() {
    let text = "[server]\ntrusted_proxies = ['10.0.0.0/8', '10.1.2.3', '::/0', 'fd00::/8', '::1']\n[service.s.target.t]\nendpoints = ['a:1']";
    let shown: Vec<_> = accepted(text)
        .server
        .trusted_proxies
        .iter()
        .map(|network| format!("{}/{}", network.address, network.prefix))
        .collect();
    assert_eq!(shown, ["10.0.0.0/8", "10.1.2.3/32", "::/0", "fd00::/8", "::1/128"]);
}

#[test]
fn a_split_may_leave_stable_without_traffic() {
    let text =
        "[service.s]\nstable = 'a'\nsplit = { b = 100 }\ntarget.a.endpoints = ['a:1']\ntarget.b.endpoints = ['b:1']";
    let config = accepted(text);
    let service = config.services.get("s").unwrap();
    assert_eq!(service.stable.as_str(), "a");
    assert_eq!(service.split, Split::all(TargetId::parse("b").unwrap()));
}

#[test]
fn a_file_from_an_editor_of_another_system_means_the_same() {
    let text = "\u{feff}[service.s]\r\ndrain = '5s'\r\ntarget.t.endpoints = ['a:1']\r\n";
    assert_eq!(accepted(text).services.get("s").unwrap().drain, Duration::from_secs(5));
    assert_eq!(super::refused(&text.replace("5s", "5")).split_once(": ").unwrap().0, "line 2");
}

#[test]
fn a_stage_keeps_what_is_written_and_where() {
    let text = "[stage.dev]\nnext = \"prod\"\n[stage.dev.analyse]\nalpha = 0.01\n[[stage.dev.variant]]\nname = \"a\"\n\n[[stage.dev.variant]]\nname = \"b\"\n[service.s]\ntarget.t.endpoints = ['a:1']\n";
    let stages = accepted(text).stages;
    let stage = stages.get("dev").unwrap();
    assert_eq!(
        stage.document,
        serde_json::json!({"next": "prod", "analyse": {"alpha": 0.01}, "variant": [{"name": "a"}, {"name": "b"}]})
    );
    for (path, line) in [
        ("", 1),
        ("next", 2),
        ("analyse", 3),
        ("analyse.alpha", 4),
        ("analyse.beta", 3),
        ("variant[1].name", 9),
        ("variant[1].percentage", 8),
        ("variant[7].name", 5),
        ("steps[0].set", 1),
    ] {
        assert_eq!(stage.line(path), line, "{path}");
    }
}
