//! Flags over the API, and evaluation by OFREP.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};
use tidegate_core::{Change, flags::SourceReport};

use crate::{
    fake::FILE,
    harness::{Answer, Api},
};

const FLAGS: &str = r#"
[flags]
source = { main = { url = "redis://127.0.0.1:6379/0", password = { env = "REDIS_PASSWORD" } } }
[flags.flag.RECENT]
[flags.flag.color]
type = "string"
default = "blue"
[flags.flag.page]
type = "number"
key = "page-size"
default = 10
[flags.flag.layout]
type = "object"
default = { columns = 2 }
[flags.flag.empty]
type = "string"
[flags.flag.local]
source = "embedded"
[flags.flag.ramp]
source = "embedded"
[flags.flag.plan]
type = "string"
source = "embedded"
[flags.values]
ramp = "50%"
plan = '''{"variants":{"gold":"g","other":"o"},"defaultVariant":"other",
  "targeting":{"if":[{"==":[{"var":"plan"},"gold"]},"gold",null]}}'''
"#;

fn api() -> Api {
    let api = Api::on(&format!("{FILE}\n{FLAGS}"));
    api.fake.read_flags(&"main".parse().unwrap(), "flags");
    api
}

async fn evaluate(api: &Api, flag: &str, body: &str) -> Answer {
    api.call("POST", &format!("/ofrep/v1/evaluate/flags/{flag}"), body).await
}

fn types(reply: &Value) -> Vec<&str> {
    reply["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_flag_on_the_wire() {
    let api = api();
    let flag = json!({
        "name": "RECENT", "type": "boolean", "value": false, "text": null, "variant": null, "reason": "DEFAULT",
        "origin": "default", "source": "main", "since": null, "age_seconds": 0.0, "stale": false, "kept": false,
        "override": null, "invalid": null
    });
    assert_eq!(api.ok("GET", "/api/flags/RECENT", "").await, flag);
    let all = api.ok("GET", "/api/flags", "").await;
    let names: Vec<_> = all.as_array().unwrap().iter().map(|flag| flag["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["RECENT", "color", "empty", "layout", "local", "page", "plan", "ramp"]);
    assert_eq!(all[0], flag);
    let ramp = api.ok("GET", "/api/flags/ramp", "").await;
    assert_eq!((&ramp["value"], &ramp["text"], &ramp["reason"]), (&Value::Null, &json!("50%"), &json!("SPLIT")));
    assert_eq!((&ramp["source"], &ramp["age_seconds"]), (&json!("embedded"), &Value::Null));
    assert_eq!(api.ok("GET", "/api/flags/plan", "").await["reason"], "TARGETING_MATCH");
    for unknown in ["nothing", "a%20b", "..", "%2e%2e"] {
        assert_eq!(api.call("GET", &format!("/api/flags/{unknown}"), "").await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn a_source_on_the_wire_shows_no_secret() {
    let api = api();
    let source = json!([{
        "name": "main", "address": "redis://127.0.0.1:6379/0", "status": "up", "reason": null, "since": null,
        "age_seconds": 0.0, "stale": false, "emptied": false, "flags": 0, "faults": []
    }]);
    assert_eq!(api.ok("GET", "/api/flag-sources", "").await, source);
    let report = SourceReport::Down { reason: "connection refused".into() };
    api.fake.make("flags", Change::Readings { source: "main".parse().unwrap(), report });
    let down = api.ok("GET", "/api/flag-sources", "").await;
    assert_eq!((&down[0]["status"], &down[0]["reason"]), (&json!("down"), &json!("connection refused")));
    assert_eq!((&down[0]["stale"], &down[0]["since"]), (&json!(true), &json!("2026-11-03T09:15:00.250Z")));
    assert_eq!(api.ok("GET", "/api/flags/RECENT", "").await["stale"], true);
    assert_eq!(api.ok("GET", "/api/flags/ramp", "").await["stale"], false);
}

#[tokio::test]
async fn setting_a_flag_writes_to_its_source() {
    let api = api();
    let reply = api.ok("PUT", "/api/flags/RECENT", r#"{"value":"ON"}"#).await;
    assert_eq!(types(&reply), ["flag.changed"]);
    assert_eq!(
        reply["events"][0],
        json!({
            "type": "flag.changed", "flag": "RECENT", "from": "off", "to": "ON", "source": "main",
            "reason": "the source has another value"
        })
    );
    api.ok("PUT", "/api/flags/page", r#"{"value":25}"#).await;
    api.ok("PUT", "/api/flags/layout", r#"{"value":{"columns":3}}"#).await;
    let store = api.fake.flag_store.lock().unwrap().clone();
    let expected = [("RECENT", "ON"), ("layout", "{\"columns\":3}"), ("page-size", "25")];
    assert_eq!(store, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(api.ok("GET", "/api/flags/RECENT", "").await["origin"], "source");
    // Who did it is in the audit log.
    assert_eq!(api.ok("GET", "/api/audit?limit=1", "").await[0]["actor"], "anonymous");
    assert_eq!(types(&api.ok("DELETE", "/api/flags/RECENT", "").await), ["flag.changed"]);
    assert_eq!(api.ok("GET", "/api/flags/RECENT", "").await["value"], false);
}

#[tokio::test]
async fn setting_a_flag_of_the_process_needs_no_source() {
    let api = api();
    api.fake.flag_store_fails.store(true, SeqCst);
    assert_eq!(types(&api.ok("PUT", "/api/flags/local", r#"{"value":true}"#).await), ["flag.changed"]);
    let local = api.ok("GET", "/api/flags/local", "").await;
    assert_eq!((&local["value"], &local["origin"]), (&json!(true), &json!("embedded")));
    assert_eq!(types(&api.ok("PUT", "/api/flags/local?dry_run=true", r#"{"value":"off"}"#).await), ["flag.changed"]);
    assert_eq!(api.ok("GET", "/api/flags/local", "").await["value"], true);
    assert_eq!(types(&api.ok("DELETE", "/api/flags/local", "").await), ["flag.changed"]);
    assert_eq!(api.ok("GET", "/api/flags/local", "").await["origin"], "default");
}

#[tokio::test]
async fn values_that_cannot_be_used_are_refused_before_they_are_written() {
    let api = api();
    for (flag, value) in [
        ("RECENT", json!("maybe")),
        ("RECENT", json!(1)),
        ("RECENT", json!({ "a": 1 })),
        ("RECENT", json!({ "variants": { "a": "x" } })),
        ("color", json!(true)),
        ("page", json!("many")),
        ("page", json!(null)),
        ("page", json!([1])),
        ("layout", json!("text")),
        ("local", json!("maybe")),
    ] {
        for path in [format!("/api/flags/{flag}"), format!("/api/flags/{flag}/override")] {
            let mut body = json!({ "value": value });
            if path.ends_with("override") {
                body["ttl"] = json!("1m");
            }
            let answer = api.call("PUT", &path, &body.to_string()).await;
            assert_eq!((answer.status, answer.paths()), (422, vec!["value".to_owned()]), "{path} {value}: {answer:?}");
        }
    }
    assert!(api.fake.flag_store.lock().unwrap().is_empty());
    let answer = api.call("PUT", "/api/flags/RECENT", r#"{"value":"on","extra":1}"#).await;
    assert_eq!(answer.status, 422);
}

#[tokio::test]
async fn a_source_that_cannot_be_reached_is_503_and_an_override_works_without_it() {
    let api = api();
    api.fake.flag_store_fails.store(true, SeqCst);
    assert_eq!(api.call("PUT", "/api/flags/RECENT", r#"{"value":"on"}"#).await.status, 503);
    let reply = api.ok("PUT", "/api/flags/RECENT/override", r#"{"value":"on","ttl":"10m"}"#).await;
    assert_eq!(types(&reply), ["flag.override", "flag.changed"]);
    let flag = api.ok("GET", "/api/flags/RECENT", "").await;
    let over = json!({ "until": "2026-11-03T09:25:00.250Z", "until_unix_ms": 1_793_697_900_250_u64 });
    assert_eq!((&flag["value"], &flag["origin"], &flag["override"]), (&json!(true), &json!("override"), &over));
    let evaluated = evaluate(&api, "RECENT", "{}").await.json();
    assert_eq!((&evaluated["value"], &evaluated["metadata"]["override"]), (&json!(true), &json!(true)));
    assert_eq!(
        types(&api.ok("DELETE", "/api/flags/RECENT/override", "").await),
        ["flag.override_ended", "flag.changed"]
    );
    assert_eq!(types(&api.ok("DELETE", "/api/flags/RECENT/override", "").await), Vec::<&str>::new());
    for (body, path) in [
        (r#"{"value":"on","ttl":"10"}"#, "ttl"),
        (r#"{"value":"on","ttl":"0s"}"#, "ttl"),
        (r#"{"value":"on","ttl":"31d"}"#, "ttl"),
    ] {
        let answer = api.call("PUT", "/api/flags/RECENT/override", body).await;
        assert_eq!((answer.status, answer.paths()), (422, vec![path.to_owned()]), "{body}");
    }
    for method in ["PUT", "DELETE"] {
        let answer = api.call(method, "/api/flags/nothing/override", r#"{"value":"on","ttl":"1m"}"#).await;
        assert_eq!(answer.status, 404, "{method}");
    }
}

#[tokio::test]
async fn a_change_of_a_flag_is_conditional() {
    let api = api();
    let generation = api.fake.generation();
    let stale = [("if-match", "\"1\"")];
    for (path, body) in [
        ("/api/flags/RECENT", r#"{"value":"on"}"#),
        ("/api/flags/local", r#"{"value":"on"}"#),
        ("/api/flags/RECENT/override", r#"{"value":"on","ttl":"1m"}"#),
    ] {
        assert_eq!(api.call_with("PUT", path, body, &stale).await.status, 412, "{path}");
    }
    assert_eq!(api.fake.generation(), generation);
    let reply = api.ok("PUT", "/api/flags/RECENT?dry_run=true", r#"{"value":"on"}"#).await;
    assert_eq!((&reply["dry_run"], &reply["generation"]), (&json!(true), &json!(generation)));
    assert_eq!((&reply["events"][0]["flag"], &reply["events"][0]["to"]), (&json!("RECENT"), &json!("on")));
    assert!(api.fake.flag_store.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_source_that_was_emptied_is_restored_or_accepted() {
    for (verb, value) in [("restore", true), ("accept", false)] {
        let api = api();
        api.ok("PUT", "/api/flags/RECENT", r#"{"value":"on"}"#).await;
        let path = format!("/api/flag-sources/main/{verb}");
        assert_eq!(api.call("POST", &path, "").await.status, 409, "{verb} before");
        api.fake.flag_store.lock().unwrap().clear();
        api.fake.flags_marked.store(false, SeqCst);
        api.fake.read_flags(&"main".parse().unwrap(), "flags");
        let flag = api.ok("GET", "/api/flags/RECENT", "").await;
        assert_eq!((&flag["value"], &flag["kept"], &flag["stale"]), (&json!(true), &json!(true), &json!(true)));
        assert_eq!(api.ok("GET", "/api/flag-sources", "").await[0]["emptied"], true);
        api.ok("POST", &path, "").await;
        let flag = api.ok("GET", "/api/flags/RECENT", "").await;
        assert_eq!(
            (&flag["value"], &flag["kept"], &flag["stale"]),
            (&json!(value), &json!(false), &json!(false)),
            "{verb}"
        );
        assert_eq!(api.fake.flag_store.lock().unwrap().contains_key("RECENT"), value, "{verb}");
    }
    assert_eq!(api().call("POST", "/api/flag-sources/other/accept", "").await.status, 404);
}

#[tokio::test]
async fn one_evaluation_on_the_wire() {
    let api = api();
    api.ok("PUT", "/api/flags/RECENT", r#"{"value":"on"}"#).await;
    let metadata = json!({ "source": "main", "stale": false, "age_seconds": 0.0 });
    let body = json!({ "key": "RECENT", "value": true, "reason": "STATIC", "variant": "on", "metadata": metadata });
    for context in ["", "{}", r#"{"context":{}}"#, r#"{"context":{"targetingKey":"a"},"other":1}"#] {
        let answer = evaluate(&api, "RECENT", context).await;
        assert_eq!((answer.status, answer.json()), (200, body.clone()), "{context}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    for (flag, value) in [("color", json!("blue")), ("page", json!(10)), ("layout", json!({ "columns": 2 }))] {
        let answer = evaluate(&api, flag, "{}").await.json();
        let expected = (&value, &json!("DEFAULT"), &json!("default"));
        assert_eq!((&answer["value"], &answer["reason"], &answer["variant"]), expected, "{flag}");
    }
    // Without any value the application's own default counts.
    let empty = evaluate(&api, "empty", "{}").await.json();
    assert_eq!((empty.get("value"), &empty["reason"], &empty["variant"]), (None, &json!("DEFAULT"), &json!("")));
    let gold = evaluate(&api, "plan", r#"{"context":{"plan":"gold"}}"#).await.json();
    assert_eq!(
        (&gold["value"], &gold["reason"], &gold["variant"]),
        (&json!("g"), &json!("TARGETING_MATCH"), &json!("gold"))
    );
    let other = evaluate(&api, "plan", r#"{"context":{"plan":"lead"}}"#).await.json();
    assert_eq!((&other["value"], &other["reason"]), (&json!("o"), &json!("DEFAULT")));
    assert_eq!(other["metadata"], json!({ "source": "embedded", "stale": false }));
    let share = evaluate(&api, "ramp", r#"{"context":{"targetingKey":"ann"}}"#).await.json();
    assert_eq!((share["value"].is_boolean(), &share["reason"]), (true, &json!("SPLIT")));
}

#[tokio::test]
async fn errors_of_an_evaluation_have_the_protocols_shape() {
    let api = api();
    let deep = format!("{{\"context\":{}", "{\"a\":".repeat(500));
    for (flag, body, status, code) in [
        ("nothing", "{}", 404, "FLAG_NOT_FOUND"),
        ("a%20b", "{}", 404, "FLAG_NOT_FOUND"),
        ("RECENT", "{", 400, "PARSE_ERROR"),
        ("RECENT", "[]", 400, "PARSE_ERROR"),
        ("RECENT", deep.as_str(), 400, "PARSE_ERROR"),
        ("RECENT", r#"{"context":[]}"#, 400, "INVALID_CONTEXT"),
        ("RECENT", r#"{"context":null}"#, 400, "INVALID_CONTEXT"),
        ("RECENT", r#"{"context":{"targetingKey":7}}"#, 400, "INVALID_CONTEXT"),
        ("ramp", "{}", 400, "TARGETING_KEY_MISSING"),
        ("ramp", r#"{"context":{"targetingKey":""}}"#, 400, "TARGETING_KEY_MISSING"),
    ] {
        let answer = evaluate(&api, flag, body).await;
        let shown = (answer.status, answer.json()["errorCode"].as_str().unwrap_or_default().to_owned());
        assert_eq!(shown, (status, code.to_owned()), "{flag} {body}: {answer:?}");
        assert_eq!(answer.json()["key"], flag.replace("%20", " "));
    }
    let answer = evaluate(&api, "nothing", "{}").await.json();
    assert_eq!(
        answer,
        json!({ "key": "nothing", "errorCode": "FLAG_NOT_FOUND", "errorDetails": "there is no flag \"nothing\"" })
    );
    let large = format!("{{\"context\":{{\"a\":\"{}\"}}}}", "x".repeat(1024 * 1024));
    let answer = evaluate(&api, "RECENT", &large).await;
    assert_eq!((answer.status, &answer.json()["errorCode"]), (413, &json!("GENERAL")));
    let answer = api.call_with("POST", "/ofrep/v1/evaluate/flags", "{}", &[("content-type", "text/plain")]).await;
    assert_eq!((answer.status, &answer.json()["errorCode"], answer.json().get("key")), (415, &json!("GENERAL"), None));
}

#[tokio::test]
async fn a_flag_that_is_switched_off_has_no_value() {
    let api = api();
    let off = r#"{"value":{"state":"DISABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}}"#;
    api.ok("PUT", "/api/flags/local", off).await;
    let answer = evaluate(&api, "local", "{}").await;
    assert_eq!(answer.status, 200);
    assert_eq!((answer.json().get("value"), &answer.json()["reason"]), (None, &json!("DISABLED")));
    let shown = api.ok("GET", "/api/flags/local", "").await;
    assert_eq!((&shown["value"], &shown["reason"]), (&Value::Null, &json!("DISABLED")));
}

#[tokio::test]
async fn a_rule_that_cannot_be_followed_is_a_parse_error() {
    let api = api();
    let flag = r#"{"value":{"variants":{"a":"x"},"defaultVariant":"a","targeting":{"if":[true,"nobody"]}}}"#;
    api.ok("PUT", "/api/flags/plan", flag).await;
    let answer = evaluate(&api, "plan", "{}").await;
    assert_eq!((answer.status, &answer.json()["errorCode"]), (400, &json!("PARSE_ERROR")));
}

#[tokio::test]
async fn the_bulk_evaluation_has_every_flag_and_a_tag() {
    let api = api();
    let bulk = async |body: &str, tag: &str| {
        api.call_with("POST", "/ofrep/v1/evaluate/flags", body, &[("if-none-match", tag)]).await
    };
    let ann = r#"{"context":{"targetingKey":"ann"}}"#;
    let first = bulk(ann, "").await;
    assert_eq!(first.status, 200);
    let json = first.json();
    let keys: Vec<_> = json["flags"].as_array().unwrap().iter().map(|flag| flag["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["RECENT", "color", "empty", "layout", "local", "page", "plan", "ramp"]);
    assert_eq!(json["metadata"], json!({ "stale": false }));
    let metadata = json!({ "source": "main", "stale": false, "age_seconds": 0.0 });
    assert_eq!(
        json["flags"][1],
        json!({ "key": "color", "value": "blue", "reason": "DEFAULT", "variant": "default", "metadata": metadata })
    );
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("W/\"") && tag.len() == 36, "{tag}");
    for known in [tag.as_str(), "*", &format!("\"other\", {tag}"), tag.trim_start_matches("W/")] {
        let again = bulk(ann, known).await;
        assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", tag.as_str()), "{known}");
    }
    // Another context is another answer, also when every value is the same.
    let other = bulk(r#"{"context":{"targetingKey":"ann","plan":"lead"}}"#, &tag).await;
    assert_eq!(other.status, 200);
    assert_ne!(other.header("etag"), tag);
    api.ok("PUT", "/api/flags/local", r#"{"value":true}"#).await;
    let changed = bulk(ann, &tag).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), tag);
    // A change that is none of the flags' is none here.
    let tag = changed.header("etag").to_owned();
    api.ok("POST", "/api/services/web/switch", r#"{"to":"blue"}"#).await;
    assert_eq!(bulk(ann, &tag).await.status, 304);
    // One flag that cannot be evaluated does not spoil the others.
    let nobody = bulk("", "").await.json();
    assert_eq!(nobody["flags"][7]["errorCode"], "TARGETING_KEY_MISSING");
    assert_eq!(nobody["flags"][7]["key"], "ramp");
    assert_eq!(nobody["flags"][0]["reason"], "DEFAULT");
    assert_eq!(bulk(r#"{"context":1}"#, "").await.json()["errorCode"], "INVALID_CONTEXT");
}

#[tokio::test]
async fn a_mirror_names_a_flag_that_there_is() {
    let api = api();
    let put = async |flag: &str| {
        api.call("PUT", "/api/services/web/mirrors/m", &json!({ "to": "v3", "flag": flag }).to_string()).await
    };
    assert_eq!(put("RECENT").await.status, 200);
    assert_eq!(api.ok("GET", "/api/services/web/mirrors/m", "").await["flag"], "RECENT");
    let unknown = put("nothing").await;
    assert_eq!((unknown.status, unknown.paths()), (422, vec!["flag".to_owned()]));
    assert_eq!(put("a b").await.status, 422);
}
