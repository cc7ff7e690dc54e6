//! Texts to values, for every type.

use proptest::prelude::*;
use serde_json::json;
use tidegate_config::FlagType::{self, Boolean, Number, Object, String as Text};

use super::*;

/// What the text of a value is to everybody, or that it is refused.
fn check(kind: Option<FlagType>, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let said = match Definition::compile(kind, text) {
            Ok(definition) => said(&definition, &visitor("ann")),
            Err(_) => "refused".into(),
        };
        assert_eq!(said, *expected, "{text:?} for {kind:?}");
    }
}

#[test]
fn booleans_are_words_and_percentages() {
    let cases = [
        ("ON", "on STATIC"),
        (" Enabled\n", "on STATIC"),
        ("0", "off STATIC"),
        ("No", "off STATIC"),
        ("100%", "on SPLIT"),
        ("0%", "off SPLIT"),
        ("maybe", "refused"),
        ("", "refused"),
        ("2", "refused"),
        ("101%", "refused"),
        ("{}", "refused"),
        ("{\"variants\":{\"a\":\"x\"}}", "refused"),
        ("{\"variants\":{\"a\":true},\"defaultVariant\":\"a\"}", "on STATIC"),
    ];
    check(Some(Boolean), &cases);
}

#[test]
fn strings_are_what_is_written() {
    let cases = [
        ("on", "on STATIC"),
        (" blue ", "blue STATIC"),
        ("", " STATIC"),
        ("25%", "25% STATIC"),
        ("{not json", "{not json STATIC"),
        ("{\"a\":1}", "{\"a\":1} STATIC"),
        ("{\"variants\":{\"a\":\"x\"},\"defaultVariant\":\"a\"}", "x STATIC"),
        ("{\"variants\":{\"a\":true}}", "refused"),
    ];
    check(Some(Text), &cases);
}

#[test]
fn numbers_are_json_numbers() {
    let cases = [
        ("1", "1 STATIC"),
        (" -0.5 ", "-0.5 STATIC"),
        ("9007199254740993", "9007199254740993 STATIC"),
        ("on", "refused"),
        ("1e999", "refused"),
        ("0x1", "refused"),
        ("NaN", "refused"),
        ("", "refused"),
        ("{\"variants\":{\"a\":1.5},\"defaultVariant\":\"a\"}", "1.5 STATIC"),
        ("{\"variants\":{\"a\":\"1\"}}", "refused"),
    ];
    check(Some(Number), &cases);
}

#[test]
fn objects_are_json_objects_or_flagd_flags() {
    let cases = [
        ("{}", "{} STATIC"),
        ("{\"a\":[1]}", "{\"a\":[1]} STATIC"),
        ("{\"variants\":{\"a\":{\"x\":1}},\"defaultVariant\":\"a\"}", "{\"x\":1} STATIC"),
        ("{\"variants\":{\"a\":1}}", "refused"),
        ("[1]", "refused"),
        ("on", "refused"),
        ("{", "refused"),
    ];
    check(Some(Object), &cases);
}

#[test]
fn flags_that_are_not_declared_say_their_type_themselves() {
    let cases = [
        ("on", "on STATIC"),
        ("50%", "off SPLIT"),
        ("blue", "refused"),
        ("{\"a\":1}", "refused"),
        ("{\"variants\":{\"a\":\"x\"},\"defaultVariant\":\"a\"}", "x STATIC"),
    ];
    check(None, &cases);
}

#[test]
fn flagd_flags_are_checked_when_they_are_read() {
    let why = |flag: serde_json::Value| Definition::compile(None, &flag.to_string()).unwrap_err();
    let on = json!({ "on": true });
    assert_eq!(why(json!({ "variants": {} })), "it has 0 variants, and may have 1 to 1000");
    assert_eq!(why(json!({ "variants": 1 })), "its variants are not an object");
    assert_eq!(
        why(json!({ "variants": { "a": null } })),
        "variant \"a\" is neither a boolean, a string, a number nor an object"
    );
    assert_eq!(why(json!({ "variants": { "a": 1, "b": "x" } })), "variant \"b\" is a string, and the flag is a number");
    assert_eq!(
        why(json!({ "variants": on, "defaultVariant": "off" })),
        "its defaultVariant \"off\" is not one of its variants"
    );
    assert_eq!(why(json!({ "variants": on, "defaultVariant": 1 })), "its defaultVariant is not a string");
    assert_eq!(why(json!({ "variants": on, "state": "OFF" })), "its state is neither \"ENABLED\" nor \"DISABLED\"");
    assert_eq!(why(json!({ "variants": on, "state": null })), "its state is neither \"ENABLED\" nor \"DISABLED\"");
    assert_eq!(why(json!({ "variants": on, "targeting": "on" })), "its targeting is not an object");
    assert_eq!(
        why(json!({ "variants": on, "targeting": { "if": [{ "no_such": [1] }, "on"] } })),
        "its targeting uses \"no_such\", which is no operator"
    );
}

#[test]
fn values_that_are_too_large_are_refused() {
    let most = tidegate_config::flags::MAX_VALUE;
    assert!(Definition::compile(Some(Text), &"x".repeat(most)).is_ok());
    assert_eq!(
        Definition::compile(Some(Text), &"x".repeat(most + 1)).unwrap_err(),
        format!("it has {} bytes, and a value may have {most}", most + 1)
    );
    let mut deep = json!("on");
    for _ in 0..40 {
        deep = json!({ "!": [deep] });
    }
    let flag = json!({ "variants": { "on": true }, "targeting": deep }).to_string();
    assert_eq!(Definition::compile(None, &flag).unwrap_err(), "its targeting is nested deeper than 32");
    let nested = format!("{{\"variants\":{}", "[".repeat(10_000));
    assert!(Definition::compile(None, &nested).is_err());
}

#[test]
fn a_share_needs_somebody() {
    let percent = Definition::compile(None, "50%").unwrap();
    assert_eq!(said(&percent, &json!({})), "TargetingKeyMissing");
    assert_eq!(said(&percent, &visitor("")), "TargetingKeyMissing");
}

proptest! {
    #[test]
    fn raising_a_share_only_adds_visitors(low in 0_u16..=10_000, more in 0_u16..=10_000, key in "[ -~]{1,40}") {
        let high = (low + more).min(10_000);
        let text = |points: u16| format!("{}.{:02}%", points / 100, points % 100);
        let on = |points| {
            let definition = Definition::compile(None, &text(points)).unwrap();
            said(&definition, &visitor(&key)).starts_with("on")
        };
        prop_assert!(!on(low) || on(high), "{key} lost the flag from {} to {}", text(low), text(high));
        prop_assert!(on(10_000) && !on(0));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}", json in "[\\[\\]{}\":,a-z0-9$. ]{0,80}") {
        for kind in [None, Some(Boolean), Some(Text), Some(Number), Some(Object)] {
            for text in [text.clone(), format!("{{{json}"), format!("{{\"variants\":{{\"a\":true}},\"targeting\":{{{json}}}}}")] {
                if let Ok(definition) = Definition::compile(kind, &text) {
                    said(&definition, &visitor("ann"));
                }
            }
        }
    }

    #[test]
    fn any_rule_of_known_operators_ends(ops in prop::collection::vec((0_usize..12, any::<i8>()), 1..30)) {
        const NAMES: [&str; 12] =
            ["and", "or", "!", "if", "fractional", "starts_with", "ends_with", "sem_ver", "var", "in", "cat", "=="];
        let mut rule = json!({ "var": "targetingKey" });
        for (op, n) in ops {
            rule = json!({ NAMES[op]: [rule, n, [n, "x"]] });
        }
        let flag = json!({ "variants": { "x": "x" }, "targeting": rule }).to_string();
        if let Ok(definition) = Definition::compile(None, &flag) {
            said(&definition, &visitor("ann"));
        }
    }
}
