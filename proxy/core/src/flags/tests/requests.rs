//! Flags decide about requests.

use tidegate_config::{FlagCondition, Match, Weight};

use super::*;
use crate::{
    Forward, Plan, Snapshot, State, Who,
    compile::compile,
    testing::{Request, Scene, named},
};

/// A service whose first rule leads to blue while the flag meets a condition; green is stable.
fn scene(value: &str, is: Option<&str>) -> Scene {
    let when = Match { flag: Some(FlagCondition { name: id("f"), is: is.map(Into::into) }), ..Match::default() };
    let mut scene = Scene::new(&[("green", 1), ("blue", 1)]).rule(when, "blue");
    scene.state.flags = arc(FlagState::declared(&flags(&format!("[flags.values]\nf = {value:?}"))));
    scene
}

fn target(snapshot: &Snapshot, request: &Request) -> String {
    match request.decide(snapshot, 0) {
        Plan::Forward(forward) => named(snapshot, forward.target),
        other => panic!("{other:?}"),
    }
}

fn check(scene: &Scene, cases: &[(Request, &str)]) {
    let snapshot = scene.snapshot();
    for (request, expected) in cases {
        assert_eq!(target(&snapshot, request), *expected, "{request:?}");
    }
}

fn get() -> Request {
    Request::get("/shop/1")
}

#[test]
fn a_rule_follows_a_flag() {
    for (value, is, expected) in [
        ("on", None, "blue"),
        ("off", None, "green"),
        ("on", Some("TRUE"), "blue"),
        ("on", Some("off"), "green"),
        ("off", Some("0"), "blue"),
        ("v2", Some("v2"), "blue"),
        ("v2", Some("v1"), "green"),
        ("v2", None, "green"),
        ("{\"a\":1}", Some("{ \"a\": 1 }"), "blue"),
        ("{\"a\":1}", Some("{\"a\":2}"), "green"),
    ] {
        check(&scene(value, is), &[(get(), expected)]);
    }
}

#[test]
fn a_share_follows_the_visitor() {
    let scene = scene("25%", None).sticky();
    let snapshot = scene.snapshot();
    let mut blue = 0;
    for visitor in 0..1_000 {
        let name = format!("visitor-{visitor}");
        let on = crate::hash::bucket("f", name.as_bytes()) < 2_500;
        let expected = if on { "blue" } else { "green" };
        assert_eq!(target(&snapshot, &get().header("x-user", &name)), expected, "{name}");
        blue += u32::from(on);
    }
    assert!((200..300).contains(&blue), "{blue}");
}

#[test]
fn without_stickiness_a_share_follows_the_clients_address() {
    let snapshot = scene("50%", None).snapshot();
    for last in 0..100 {
        let address = format!("192.0.2.{last}");
        let request = get();
        let head = crate::RequestHead { client: address.parse().ok(), ..request.head() };
        let Plan::Forward(Forward { target, .. }) = crate::decide(&snapshot, &head, crate::testing::draw(0)) else {
            panic!("{address}")
        };
        let on = crate::hash::bucket("f", address.as_bytes()) < 5_000;
        assert_eq!(named(&snapshot, target), if on { "blue" } else { "green" }, "{address}");
    }
    // Whoever cannot be told apart has the default.
    check(&scene("99%", None), &[(get(), "green")]);
}

#[test]
fn longest_address_is_somebody() {
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".parse().ok();
    let text = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_eq!(Who::by_address(longest).as_bytes(), Some(text.as_bytes()));
    assert_eq!(Who::by_address(None).as_bytes(), None);
}

#[test]
fn targeting_sees_what_a_request_is() {
    let rule = |condition: &str| {
        let flag = format!(
            "{{\"variants\":{{\"on\":true,\"off\":false}},\"targeting\":{{\"if\":[{condition},\"on\",\"off\"]}}}}"
        );
        scene(&flag, None).sticky()
    };
    let post = get().method(http::Method::POST);
    check(&rule(r#"{"==":[{"var":"method"},"POST"]}"#), &[(post, "blue"), (get(), "green")]);
    check(&rule(r#"{"starts_with":[{"var":"path"},"/shop/"]}"#), &[(get(), "blue"), (Request::get("/x"), "green")]);
    check(&rule(r#"{"==":[{"var":"host"},"example.com"]}"#), &[(get(), "blue")]);
    check(
        &rule(r#"{"==":[{"var":"headers.X-Plan"},"gold"]}"#),
        &[(get().header("x-plan", "gold"), "blue"), (get().header("x-plan", "lead"), "green"), (get(), "green")],
    );
    check(
        &rule(r#"{"in":["gold",{"val":["headers","x-plan"]}]}"#),
        &[(get().header("x-plan", "gold,silver"), "blue"), (get().header("x-plan", "lead"), "green")],
    );
    check(
        &rule(r#"{"==":[{"var":"targetingKey"},"ann"]}"#),
        &[(get().header("x-user", "ann"), "blue"), (get().header("x-user", "bob"), "green")],
    );
    check(&rule(r#"{"<":[{"var":"$flagd.timestamp"},1700000001]}"#), &[(get(), "blue")]);
    check(&rule(r#"{"==":[{"var":"$flagd.flagKey"},"f"]}"#), &[(get(), "blue")]);
}

#[test]
fn a_header_that_is_no_text_is_not_there() {
    let flag = r#"{"variants":{"on":true,"off":false},"targeting":{"if":[{"var":"headers.x-a"},"on","off"]}}"#;
    let mut request = get();
    request.headers.insert("x-a", http::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    check(&scene(flag, None), &[(request, "green"), (get().header("x-a", "1"), "blue")]);
}

#[test]
fn a_rule_that_fails_or_is_switched_off_means_the_default() {
    let unknown = r#"{"variants":{"on":true},"defaultVariant":"on","targeting":{"if":[true,"nobody"]}}"#;
    let disabled = r#"{"state":"DISABLED","variants":{"on":true},"defaultVariant":"on"}"#;
    for flag in [unknown, disabled] {
        check(&scene(flag, None), &[(get(), "green")]);
    }
}

#[test]
fn a_mirror_copies_only_while_its_flag_is_on() {
    for (value, expected) in [("on", 1), ("off", 0), ("100%", 1), ("0%", 0)] {
        let mut scene = scene(value, Some("never")).sticky().mirror("audit", "blue", Weight::FULL.points());
        scene = scene.web(|web| web.wanted.mirrors.values_mut().for_each(|mirror| mirror.flag = Some(id("f"))));
        let Plan::Forward(forward) = get().decide(&scene.snapshot(), 0) else { panic!("{value}") };
        assert_eq!(forward.mirrors, expected, "{value}");
    }
}

#[test]
fn a_change_of_a_flag_reaches_the_rules_of_the_next_snapshot() {
    let off = scene("off", None);
    let before = off.snapshot();
    assert_eq!(target(&before, &get()), "green");
    let after = compile(&arc(scene("on", None).state), Some(&before), 1);
    assert_eq!(target(&after, &get()), "blue");
    // Flags that stay the same are shared.
    let again =
        compile(&arc(State { generation: before.generation.next(), ..(*after.state).clone() }), Some(&after), 1);
    assert!(Arc::ptr_eq(&again.flags, &after.flags));
}

#[test]
fn flags_are_sent_to_the_endpoints_that_are_meant() {
    let text = "
[flags.flag.RECENT]
header = true
[flags.flag.blue-only]
type = 'string'
default = 'x'
header = 'X-Color'
targets = ['blue']
[flags.flag.green-only]
type = 'string'
default = 'y'
header = 'X-Color'
targets = ['green']
[flags.flag.size]
type = 'number'
default = 7
header = true
services = ['web']
[flags.flag.none]
type = 'string'
header = true
[flags.flag.bad]
type = 'string'
default = \"two\\nlines\"
header = true
[flags.flag.secret]
";
    let text = format!("{text}\n[flags.values]\nRECENT = 'on'\n");
    let table = FlagTable::new(&FlagState::declared(&flags(&text)), None);
    let request = get();
    let head = request.head();
    let subject = Subject::Request { head: &head, visitor: None };
    let sent = |service: &str, target: &str| -> Vec<String> {
        let (service, target) = (id(service), id(target));
        table
            .headers(&service, &target, &subject)
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    };
    assert_eq!(sent("web", "blue"), ["x-flag-recent: on", "x-color: x", "x-flag-size: 7"]);
    assert_eq!(sent("api", "green"), ["x-flag-recent: on", "x-color: y"]);
    for (name, owned) in [
        ("x-flag-recent", true),
        ("X-Flag-Recent", true),
        ("x_flag_recent", true),
        ("X_FLAG-recent", true),
        ("x-color", true),
        ("x-flag-none", true),
        ("x-flag-secret", false),
        ("x-flag-recent2", false),
        ("xx-flag-recent", false),
        ("x", false),
    ] {
        assert_eq!(table.owns_header(name), owned, "{name}");
    }
}
