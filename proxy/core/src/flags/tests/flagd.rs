//! flagd's published examples: the same visitors get the same variants.
//!
//! Names of flags, contexts and answers are those of the evaluator suite of open-feature/flagd-testbed (Apache-2.0),
//! its examples tagged `fractional-v2`; the flags are written here in our own words.

use serde_json::{Value, json};

use super::{super::flagd::document, *};

/// What a flag of a document says.
fn check(flags: &Value, name: &str, cases: &[(Value, &str)]) {
    let flags = document(&flags.to_string()).unwrap();
    let definition = Definition::compile(None, flags[name].as_ref().unwrap()).unwrap();
    for (context, expected) in cases {
        let arena = Arena::default();
        let given = Given::new(&arena, context.as_object().unwrap());
        let picked = definition.pick(&id(name), &Subject::Given { context: &given, unix_s: 1_700_000_000 });
        let value = picked.variant.map(|at| definition.variants()[at].value.to_string());
        let said = match (picked.error, value) {
            (Some(error), _) => format!("{error:?}"),
            (None, value) => format!("{} {}", value.unwrap_or_default(), picked.reason.as_str()),
        };
        assert_eq!(said, *expected, "{name} {context}");
    }
}

fn strings(names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), Value::from(*name))).collect::<serde_json::Map<_, _>>().into()
}

fn one(name: &str, variants: Value, default: &str, targeting: Value) -> Value {
    json!({ "flags": { name: { "state": "ENABLED", "variants": variants, "defaultVariant": default, "targeting": targeting } } })
}

fn suits(name: &str, seed: Value) -> Value {
    let shares = ["clubs", "diamonds", "hearts", "spades"].map(|suit| json!([suit, 25]));
    let mut args = vec![json!({ "cat": [seed, { "var": "user.name" }] })];
    args.extend(shares);
    let variants = strings(&["clubs", "diamonds", "hearts", "spades", "wild"]);
    one(name, variants, "wild", json!({ "fractional": args }))
}

#[test]
fn fractional_gives_flagds_buckets() {
    let user = |name: &str| json!({ "user": { "name": name } });
    let with = |cases: &[(&str, &'static str)]| -> Vec<(Value, &'static str)> {
        cases.iter().map(|(name, said)| (user(name), *said)).collect()
    };
    check(
        &suits("fractional-flag", json!({ "var": "$flagd.flagKey" })),
        "fractional-flag",
        &with(&[
            ("jack", "hearts TARGETING_MATCH"),
            ("queen", "spades TARGETING_MATCH"),
            ("ten", "clubs TARGETING_MATCH"),
            ("nine", "diamonds TARGETING_MATCH"),
            ("3", "clubs TARGETING_MATCH"),
        ]),
    );
    check(
        &suits("fractional-flag-A-shared-seed", json!("shared-seed")),
        "fractional-flag-A-shared-seed",
        &with(&[
            ("seven", "hearts TARGETING_MATCH"),
            ("eight", "diamonds TARGETING_MATCH"),
            ("nine", "clubs TARGETING_MATCH"),
            ("two", "spades TARGETING_MATCH"),
        ]),
    );
}

#[test]
fn fractional_without_a_key_takes_flag_and_targeting_key() {
    let flag = one(
        "fractional-flag-shorthand",
        strings(&["heads", "tails", "draw"]),
        "draw",
        json!({ "fractional": [["heads"], ["tails", 1]] }),
    );
    check(
        &flag,
        "fractional-flag-shorthand",
        &[
            (visitor("jon@company.com"), "heads TARGETING_MATCH"),
            (visitor("jane@company.com"), "tails TARGETING_MATCH"),
            (json!({}), "draw DEFAULT"),
            (visitor(""), "draw DEFAULT"),
            (json!({ "targetingKey": 7 }), "draw DEFAULT"),
        ],
    );
}

#[test]
fn fractional_is_right_at_the_edges_of_the_hash() {
    let halves = json!({ "fractional": [{ "var": "targetingKey" }, ["lower", 50], ["upper", 50]] });
    let flag = one("fractional-hash-edge-flag", strings(&["lower", "upper"]), "lower", halves);
    let cases = [("ejOoVL", "lower"), ("bY9fO-", "lower"), ("SI7p-", "lower"), ("6LvT0", "upper"), ("ceQdGm", "upper")];
    for (key, value) in cases {
        check(&flag, "fractional-hash-edge-flag", &[(visitor(key), &format!("{value} TARGETING_MATCH"))]);
    }
}

#[test]
fn fractional_takes_expressions_for_variants_and_weights() {
    let tiers = |key: &str, tier: &str| json!({ "targetingKey": key, "tier": tier });
    let premium = json!({ "==": [{ "var": "tier" }, "premium"] });
    let nested = json!({ "fractional": [
        { "var": "targetingKey" }, [{ "if": [premium, "premium", "standard"] }, 50], ["standard", 50]
    ] });
    check(
        &one("nested-if", strings(&["premium", "standard", "fallback"]), "fallback", nested),
        "nested-if",
        &[
            (tiers("jon@company.com", "premium"), "premium TARGETING_MATCH"),
            (tiers("jon@company.com", "basic"), "standard TARGETING_MATCH"),
            (tiers("user1", "premium"), "standard TARGETING_MATCH"),
            (tiers("user1", "basic"), "standard TARGETING_MATCH"),
        ],
    );
    let weights = json!({ "fractional": [
        { "var": "targetingKey" }, ["red", { "if": [premium, 100, 0] }], ["blue", 10]
    ] });
    check(
        &one("nested-weight", strings(&["red", "blue", "fallback"]), "fallback", weights),
        "nested-weight",
        &[
            (tiers("jon@company.com", "premium"), "red TARGETING_MATCH"),
            (tiers("jon@company.com", "basic"), "blue TARGETING_MATCH"),
            (tiers("user1", "premium"), "red TARGETING_MATCH"),
            (tiers("user1", "basic"), "blue TARGETING_MATCH"),
        ],
    );
    let colors = |key: &str, color: &str| json!({ "targetingKey": key, "color": color });
    let by_color = json!({ "fractional": [{ "var": "targetingKey" }, [{ "var": "color" }, 50], ["blue", 50]] });
    check(
        &one("nested-var", strings(&["red", "green", "blue", "fallback"]), "fallback", by_color),
        "nested-var",
        &[
            (colors("jon@company.com", "red"), "red TARGETING_MATCH"),
            (colors("jon@company.com", "green"), "green TARGETING_MATCH"),
            (colors("user1", "red"), "blue TARGETING_MATCH"),
            // A caller's own default then counts.
            (colors("jon@company.com", "yellow"), "UnknownVariant"),
            (colors("jon@company.com", ""), "UnknownVariant"),
        ],
    );
}

#[test]
fn fractional_may_be_a_condition() {
    let rule = |no: u32, yes: u32| json!({ "if": [{ "fractional": [[false, no], [true, yes]] }, "big", "small"] });
    let variants = json!({ "big": "hundreds", "small": "ones", "fallback": "zero" });
    let cases = [((0, 100), "hundreds TARGETING_MATCH"), ((100, 0), "ones TARGETING_MATCH")];
    for ((no, yes), said) in cases {
        let flag = one("as-condition", variants.clone(), "fallback", rule(no, yes));
        check(&flag, "as-condition", &[(visitor("some-targeting-key"), said)]);
    }
}

#[test]
fn malformed_fractional_is_the_default() {
    let cases = [
        (json!([{ "var": "missing" }, ["one", 50], ["two", 50]]), json!({}), "fallback DEFAULT"),
        (json!([["one", 0], ["two", 0]]), visitor("any-user"), "fallback DEFAULT"),
        (json!([["one", -50], ["two", 100]]), visitor("any-user"), "two TARGETING_MATCH"),
        (json!([["one", 1]]), visitor("any-user"), "one TARGETING_MATCH"),
        (json!(["key"]), visitor("any-user"), "fallback DEFAULT"),
        (json!([]), visitor("any-user"), "fallback DEFAULT"),
        (json!([[]]), visitor("any-user"), "fallback DEFAULT"),
        (json!(["key", "one"]), visitor("any-user"), "fallback DEFAULT"),
        (json!([["one", "50"], ["two", 50]]), visitor("any-user"), "fallback DEFAULT"),
        (json!([["one", 2_147_483_647], ["two", 1]]), visitor("any-user"), "fallback DEFAULT"),
        (json!([["one", i64::MAX], ["two", i64::MAX]]), visitor("any-user"), "fallback DEFAULT"),
    ];
    for (args, context, said) in cases {
        let flag = one("f", strings(&["one", "two", "fallback"]), "fallback", json!({ "fractional": args }));
        check(&flag, "f", &[(context, said)]);
    }
}

#[test]
fn versions_compare_as_flagd_does() {
    let version = |version: &str| json!({ "version": version });
    let is = |op: &str, other: &str| json!({ "sem_ver": [{ "var": "version" }, op, other] });
    let order = json!({ "if": [
        is("=", "2.0.0"), "equal", { "if": [is(">", "2.0.0"), "greater", { "if": [is("<", "2.0.0"), "lesser", "none"] }] }
    ] });
    check(
        &one("order", strings(&["equal", "greater", "lesser", "none"]), "none", order),
        "order",
        &[
            (version("2.0.0"), "equal TARGETING_MATCH"),
            (version("2.1.0"), "greater TARGETING_MATCH"),
            (version("1.9.0"), "lesser TARGETING_MATCH"),
            (version("2.0.0-alpha"), "lesser TARGETING_MATCH"),
            (version("2.0.0.0"), "none TARGETING_MATCH"),
        ],
    );
    let range = json!({ "if": [is("~", "3.0.0"), "minor", { "if": [is("^", "3.0.0"), "major", "none"] }] });
    check(
        &one("range", strings(&["minor", "major", "none"]), "none", range),
        "range",
        &[
            (version("3.0.1"), "minor TARGETING_MATCH"),
            (version("3.1.0"), "major TARGETING_MATCH"),
            (version("4.0.0"), "none TARGETING_MATCH"),
        ],
    );
    let edges = [
        ("=", "v1.0.0", "1.0.0", "yes"),
        ("=", "v1.0.0", "v1.0.0", "yes"),
        ("=", "v1.0.0", "2.0.0", "no"),
        ("^", "1", "1.5.0", "yes"),
        ("^", "1", "2.0.0", "no"),
        ("=", "1.0.0+build", "1.0.0+other", "yes"),
    ];
    for (op, other, given, said) in edges {
        let rule = json!({ "if": [is(op, other), "yes", "no"] });
        let flag = one("edge", strings(&["yes", "no"]), "no", rule);
        check(&flag, "edge", &[(version(given), &format!("{said} TARGETING_MATCH"))]);
    }
    for (op, given) in [("=", "not-a-version"), ("===", "1.0.0")] {
        let flag = one("wrong", strings(&["match", "fallback"]), "fallback", is(op, "1.0.0"));
        check(&flag, "wrong", &[(version(given), "fallback DEFAULT")]);
    }
}

#[test]
fn texts_compare_as_flagd_does() {
    let affix = |op: &str, affix: &str| json!({ op: [{ "var": "id" }, affix] });
    let rule = json!({ "if": [
        affix("starts_with", "abc"), "prefix", { "if": [affix("ends_with", "xyz"), "postfix", "none"] }
    ] });
    let flag = one("starts-ends-flag", strings(&["prefix", "postfix", "none"]), "none", rule);
    for (id, said) in [("abcdef", "prefix"), ("uvwxyz", "postfix"), ("abcxyz", "prefix"), ("lmnopq", "none")] {
        check(&flag, "starts-ends-flag", &[(json!({ "id": id }), &format!("{said} TARGETING_MATCH"))]);
    }
    for op in ["starts_with", "ends_with"] {
        for rule in [json!({ op: [{ "var": "num" }, "abc"] }), json!({ op: ["abc"] }), json!({ op: ["a", "b", "c"] })] {
            let flag = one("wrong", strings(&["true", "false", "fallback"]), "fallback", rule);
            check(&flag, "wrong", &[(json!({ "num": 123 }), "fallback DEFAULT")]);
        }
    }
}

#[test]
fn targeting_key_and_time_are_there() {
    let hit = "5c3d8535-f81a-4478-a6d3-afaa4d51199e";
    let rule = json!({ "if": [{ "==": [{ "var": "targetingKey" }, hit] }, "hit", null] });
    let flag = one("targeting-key-flag", strings(&["miss", "hit"]), "miss", rule);
    let other = "f20bd32d-703b-48b6-bc8e-79d53c85134a";
    check(&flag, "targeting-key-flag", &[(visitor(hit), "hit TARGETING_MATCH"), (visitor(other), "miss DEFAULT")]);
    let rule = json!({ "if": [{ ">=": [{ "var": "$flagd.timestamp" }, 1_700_000_000] }, "new", "old"] });
    let flag = one("timed", strings(&["new", "old"]), "old", rule);
    // A caller cannot say what time it is.
    let lie = json!({ "$flagd": { "timestamp": 0, "flagKey": "x" } });
    check(&flag, "timed", &[(json!({}), "new TARGETING_MATCH"), (lie, "new TARGETING_MATCH")]);
}

#[test]
fn shared_parts_are_written_out() {
    let flags = json!({
        "$evaluators": {
            "is_ballmer": { "==": ["ballmer@macrosoft.com", { "var": ["email"] }] },
            "is_not": { "!": [{ "$ref": "is_ballmer" }] }
        },
        "flags": {
            "plain": { "variants": strings(&["hi", "bye"]), "targeting": { "if": [{ "$ref": "is_ballmer" }, "hi", "bye"] } },
            "twice": { "variants": strings(&["hi", "bye"]), "targeting": { "if": [{ "$ref": "is_not" }, "hi", "bye"] } }
        }
    });
    let email = |email: &str| json!({ "email": email });
    check(
        &flags,
        "plain",
        &[(email("ballmer@macrosoft.com"), "hi TARGETING_MATCH"), (email("user@example.com"), "bye TARGETING_MATCH")],
    );
    check(&flags, "twice", &[(email("ballmer@macrosoft.com"), "bye TARGETING_MATCH")]);
}

#[test]
fn shared_parts_that_are_not_there_or_never_end_are_refused() {
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    let flag = |targeting: Value| json!({ "variants": { "a": true }, "targeting": targeting });
    let flags = json!({
        "$evaluators": {
            "self": { "!": [{ "$ref": "self" }] },
            "two": { "and": [{ "$ref": "one" }, { "$ref": "one" }, { "$ref": "one" }, { "$ref": "one" }] },
            "one": { "and": [{ "$ref": "zero" }, { "$ref": "zero" }, { "$ref": "zero" }, { "$ref": "zero" }] },
            "zero": { "and": vec![true; 1000] }
        },
        "flags": {
            "missing": flag(json!({ "$ref": "nonexistent_evaluator" })),
            "endless": flag(json!({ "$ref": "self" })),
            "bomb": flag(json!({ "$ref": "two" })),
            "deep": flag(json!({ "!": deep }))
        }
    });
    let flags = document(&flags.to_string()).unwrap();
    let why = |name: &str| flags[name].as_ref().unwrap_err().clone();
    assert_eq!(why("missing"), "there is no \"nonexistent_evaluator\" in $evaluators");
    assert_eq!(why("endless"), "its targeting is nested deeper than 32");
    assert_eq!(why("bomb"), "its targeting has more than 10000 parts");
    assert_eq!(why("deep"), "its targeting is nested deeper than 32");
}

#[test]
fn a_flag_without_a_default_variant_has_no_value() {
    let variants = json!({ "small": 10, "big": 1000 });
    for default in [json!({ "variants": variants }), json!({ "variants": variants, "defaultVariant": null })] {
        check(&json!({ "flags": { "f": default } }), "f", &[(json!({}), " DEFAULT")]);
    }
    let rule = json!({ "if": [{ "==": ["jobs@orange.com", { "var": ["email"] }] }, "big"] });
    let flag = json!({ "flags": { "f": { "variants": variants, "targeting": rule } } });
    check(
        &flag,
        "f",
        &[
            (json!({ "email": "jobs@orange.com" }), "1000 TARGETING_MATCH"),
            (json!({ "email": "wozniak@orange.com" }), " DEFAULT"),
        ],
    );
}

#[test]
fn every_type_has_its_values() {
    let flags = json!({ "flags": {
        "boolean-flag": { "variants": { "on": true, "off": false }, "defaultVariant": "on" },
        "string-flag": { "variants": { "greeting": "hi", "parting": "bye" }, "defaultVariant": "greeting" },
        "integer-flag": { "variants": { "one": 1, "ten": 10 }, "defaultVariant": "ten" },
        "float-flag": { "variants": { "tenth": 0.1, "half": 0.5 }, "defaultVariant": "half", "targeting": {} },
        "object-flag": { "variants": { "empty": {}, "full": { "showImages": true } }, "defaultVariant": "full" },
        "disabled": { "state": "DISABLED", "variants": { "on": true }, "defaultVariant": "on" }
    } });
    for (name, said) in [
        ("boolean-flag", "on STATIC"),
        ("string-flag", "hi STATIC"),
        ("integer-flag", "10 STATIC"),
        ("float-flag", "0.5 STATIC"),
        ("object-flag", "{\"showImages\":true} STATIC"),
        ("disabled", " DISABLED"),
    ] {
        check(&flags, name, &[(json!({}), said)]);
    }
}

#[test]
fn percent_is_flagds_fractional_with_on_first() {
    for share in [1, 5, 10, 25, 50, 99] {
        let fractional = json!({ "fractional": [["on", share], ["off", 100 - share]] });
        let flag = json!({ "variants": { "on": true, "off": false }, "targeting": fractional }).to_string();
        let flagd = Definition::compile(None, &flag).unwrap();
        let percent = Definition::compile(None, &format!("{share}%")).unwrap();
        let mut on = 0;
        for visitor in 0..1_000 {
            let context = super::visitor(&format!("visitor-{visitor}"));
            let (ours, theirs) = (said(&percent, &context), said(&flagd, &context));
            assert_eq!(ours.split(' ').next(), theirs.split(' ').next(), "{share} % of {context}");
            on += u32::from(ours.starts_with("on"));
        }
        assert!(on > 0 && on < 1_000, "{share} %: {on}");
    }
}
