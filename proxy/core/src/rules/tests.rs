use http::Method;
use regex::Regex;

use super::*;
use tidegate_config::FlagCondition;

use crate::{
    flags::FlagState,
    testing::{Request, flag_values, id},
};

fn text(is: &str) -> TextMatch {
    match (is, is.strip_suffix('*'), is.strip_prefix('~')) {
        ("*", ..) => TextMatch::Present,
        (_, _, Some(regex)) => TextMatch::Regex(Regex::new(regex).unwrap()),
        (_, Some(prefix), None) => TextMatch::Prefix(prefix.into()),
        (_, None, None) => TextMatch::Exact(is.into()),
    }
}

fn texts(name: &str, is: &str) -> BTreeMap<String, TextMatch> {
    BTreeMap::from([(name.to_string(), text(is))])
}

fn header(is: &str) -> Match {
    Match { headers: texts("x-beta", is), ..Match::default() }
}

fn query(is: &str) -> Match {
    Match { query: texts("q", is), ..Match::default() }
}

fn matches(when: &Match, flags: &[(&str, &str)], request: &Request) -> bool {
    let flags = FlagTable::new(&FlagState::declared(&flag_values(flags)), None);
    let rule = Rule::new(&RuleSpec { when: when.clone(), to: id("blue") }, TargetIdx(0), &flags);
    let head = request.head();
    let subject = Subject::Request { head: &head, visitor: None };
    rule.matches(&head, &RequestPath::parse(&request.path).unwrap(), &subject)
}

fn check(when: &Match, cases: &[(Request, bool)]) {
    for (request, expected) in cases {
        assert_eq!(matches(when, &[], request), *expected, "{when:?} on {request:?}");
    }
}

fn get() -> Request {
    Request::get("/")
}

#[test]
fn rule_without_conditions_matches_everything() {
    check(&Match::default(), &[(get(), true), (get().method(Method::POST), true)]);
}

#[test]
fn header_matches_by_any_of_its_values() {
    let one = get().header("x-beta", "1");
    let second = get().header("x-beta", "0").header("X-Beta", "1");
    let empty = get().header("x-beta", "");
    check(&header("1"), &[(one.clone(), true), (second.clone(), true), (empty.clone(), false), (get(), false)]);
    check(&header("*"), &[(one.clone(), true), (second, true), (empty, true), (get(), false)]);
    check(
        &header("1*"),
        &[(one.clone(), true), (get().header("x-beta", "12"), true), (get().header("x-beta", "21"), false)],
    );
    check(&header("~^[0-9]$"), &[(one, true), (get().header("x-beta", "12"), false)]);
}

#[test]
fn header_value_that_is_no_text_matches_only_as_present() {
    let mut request = get();
    request.headers.insert("x-beta", http::HeaderValue::from_bytes(b"\xff").unwrap());
    check(&header("*"), &[(request.clone(), true)]);
    check(&header("~."), &[(request, false)]);
}

#[test]
fn cookie_matches_by_any_of_its_values() {
    let when = Match { cookies: texts("beta", "1"), ..Match::default() };
    check(
        &when,
        &[
            (get().header("cookie", "a=b; beta=1"), true),
            (get().header("cookie", "a=b").header("cookie", "beta=1"), true),
            (get().header("cookie", "beta=0; beta=1"), true),
            (get().header("cookie", "beta=10"), false),
            (get().header("cookie", "alphabeta=1"), false),
            (get(), false),
        ],
    );
}

#[test]
fn query_is_compared_as_a_form_decodes_it() {
    check(
        &query("a b"),
        &[
            (get().query("q=a+b"), true),
            (get().query("q=a%20b"), true),
            (get().query("x=1&%71=a%20b"), true),
            (get().query("q=c&q=a b"), true),
            (get().query("q=a%2520b"), false),
            (get().query("qq=a b"), false),
            (get(), false),
        ],
    );
    check(&query("50%"), &[(get().query("q=50%"), true), (get().query("q=50%25"), true)]);
    check(&query("a b*"), &[(get().query("q=a+bc"), true), (get().query("q=a+"), false)]);
    check(&query("~^a b$"), &[(get().query("q=a+b"), true), (get().query("q=a%2bb"), false)]);
    check(&query("*"), &[(get().query("q"), true), (get().query("q="), true), (get().query("p=q"), false)]);
}

#[test]
fn any_of_the_methods_is_enough() {
    let when = Match { methods: vec!["PUT".into(), "POST".into()], ..Match::default() };
    check(&when, &[(get(), false), (get().method(Method::POST), true), (get().method(Method::PUT), true)]);
}

#[test]
fn path_prefix_ends_at_a_segment() {
    let when = Match { path: Some("/admin/".into()), ..Match::default() };
    for (path, expected) in
        [("/admin", true), ("/admin/x", true), ("//%61dmin", true), ("/administrator", false), ("/", false)]
    {
        check(&when, &[(Request::get(path), expected)]);
    }
}

#[test]
fn all_conditions_must_hold() {
    let when = Match { headers: texts("x-beta", "1"), query: texts("q", "1"), ..Match::default() };
    for (beta, q) in [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")] {
        let request = get().header("x-beta", beta).query(&format!("q={q}"));
        check(&when, &[(request, (beta, q) == ("1", "1"))]);
    }
}

#[test]
fn flag_is_on_by_its_words_or_has_its_value() {
    let flag = |is: Option<&str>| {
        let flag = FlagCondition { name: id("new-checkout"), is: is.map(String::from) };
        Match { flag: Some(flag), ..Match::default() }
    };
    for (value, on) in [
        ("on", true),
        ("TRUE", true),
        ("1", true),
        ("yes", true),
        ("enabled", true),
        ("off", false),
        ("", false),
        ("2", false),
    ] {
        assert_eq!(matches(&flag(None), &[("new-checkout", value)], &get()), on, "{value}");
    }
    assert!(matches(&flag(Some("b")), &[("new-checkout", "b")], &get()));
    assert!(!matches(&flag(Some("b")), &[("new-checkout", "a")], &get()));
    assert!(!matches(&flag(Some("b")), &[("other", "b")], &get()));
    assert!(!matches(&flag(None), &[], &get()));
}
