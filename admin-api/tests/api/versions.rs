//! Main, shadows and bad versions over the API: the engine is the real one, only its shell is not.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};
use tidegate_admin::MetricsAccess;
use tidegate_core::Health;

use crate::harness::{ADMIN, Api, READ};

const FILE: &str = r#"
[service.calc]
stable = "v1"
health = { path = "/" }
target.v1.endpoints = ["127.0.0.1:3001"]
target.v2.endpoints = ["127.0.0.1:3002"]
"#;

const VERSIONS: &str = "/api/services/calc/versions";

/// A service of which nothing runs yet.
fn calc() -> Api {
    let api = Api::on(FILE);
    for (target, endpoint) in [("v1", "127.0.0.1:3001"), ("v2", "127.0.0.1:3002")] {
        api.fake.health_of("calc", target, endpoint, Health::Unhealthy, "connection refused");
    }
    api
}

async fn deploy(api: &Api, body: &str) -> Value {
    let answer = api.call("POST", VERSIONS, body).await;
    assert_eq!(answer.status, 201, "{body}: {answer:?}");
    let reply = answer.json();
    assert_eq!(reply["deployment"]["state"], "succeeded", "{reply}");
    assert_eq!(answer.header("location"), format!("/api/deployments/{}", reply["deployment"]["id"].as_str().unwrap()));
    reply
}

/// Main first, with its shadows: `v1=1.0 v2=2.0`.
fn shown(view: &Value) -> String {
    let mut versions: Vec<&Value> = view["versions"].as_array().unwrap().iter().collect();
    versions.sort_by_key(|version| version["main"] != true);
    let text = |v: &Value| format!("{}={}", v["target"].as_str().unwrap(), v["version"].as_str().unwrap_or("-"));
    versions.into_iter().map(text).collect::<Vec<_>>().join(" ")
}

/// Main and one shadow.
async fn two() -> Api {
    let api = calc();
    deploy(&api, r#"{"version":"1.0","source":"calc:1.0"}"#).await;
    deploy(&api, r#"{"version":"2.0","source":"calc:2.0"}"#).await;
    api
}

#[tokio::test]
async fn versions_on_the_wire() {
    let api = calc();
    deploy(&api, r#"{"version":"1.0","source":"calc:1.0"}"#).await;
    api.fake.health_of("calc", "v1", "127.0.0.1:3001", Health::Healthy, "status 200");
    let bad = r#"{"why":"loses carts","labels":{"commit":"4a5b"}}"#;
    let mut reply = api.ok("PUT", "/api/services/calc/versions/0.9/bad", bad).await;
    let view = json!({
        "service": "calc", "main": "v1",
        "versions": [
            { "main": true, "target": "v1", "version": "1.0", "status": "running", "since": "2026-11-03T09:15:00.250Z" },
            { "main": false, "target": "v2", "version": null, "status": "down", "since": null }
        ],
        "known": [
            { "key": "0.9", "name": "0.9", "image": null, "good_at": null,
              "bad": { "why": "loses carts", "at": "2026-11-03T09:15:00.250Z", "labels": { "commit": "4a5b" } } },
            { "key": "1.0", "name": "1.0", "image": "calc:1.0", "good_at": "2026-11-03T09:15:00.250Z", "bad": null }
        ]
    });
    assert_eq!(api.ok("GET", VERSIONS, "").await, view);
    assert_eq!(api.ok("GET", "/api/versions", "").await, json!([view]));
    let fields = reply.as_object_mut().unwrap();
    assert_eq!(fields.remove("generation"), Some(json!(api.fake.generation())));
    assert_eq!(fields.remove("dry_run"), Some(json!(false)));
    assert_eq!(reply, view);
}

#[tokio::test]
async fn the_versions_of_every_service_are_one_list() {
    let api = two().await;
    let all = api.call("GET", "/api/versions", "").await;
    assert_eq!(all.status, 200, "{all:?}");
    assert_eq!(all.json(), json!([api.call("GET", VERSIONS, "").await.json()]));
}

#[tokio::test]
async fn the_first_version_is_main_and_later_ones_are_its_shadows() {
    let api = calc();
    let first = deploy(&api, r#"{"version":"1.0"}"#).await;
    assert_eq!((shown(&first).as_str(), &first["main"]), ("v1=1.0 v2=-", &json!("v1")));
    let second = deploy(&api, r#"{"version":"2.0","image":"calc:2.0"}"#).await;
    assert_eq!(shown(&second), "v1=1.0 v2=2.0");
    let new = deploy(&api, r#"{"version":"3.0","endpoints":["127.0.0.1:3003"]}"#).await;
    assert_eq!(shown(&new), "v1=1.0 3.0=3.0 v2=2.0", "with endpoints it gets a target of its own");
    let mirrors = api.ok("GET", "/api/services/calc", "").await["mirrors"].clone();
    let copies: Vec<_> = mirrors.as_array().unwrap().iter().map(|m| (m["to"].clone(), m["methods"].clone())).collect();
    assert_eq!(copies, [(json!("3.0"), json!(["*"])), (json!("v2"), json!(["*"]))]);
    let would = api
        .ok("POST", &format!("{VERSIONS}?dry_run=true"), r#"{"version":"4.0","endpoints":["127.0.0.1:3004"]}"#)
        .await;
    assert!(would["dry_run"] == true && would["plan"]["steps"].is_array(), "{would}");
    assert_eq!(shown(&api.ok("GET", VERSIONS, "").await), shown(&new), "nothing was done");
}

#[tokio::test]
async fn a_version_that_is_called_as_a_target_becomes_main_there_when_it_is_the_first() {
    let api = calc();
    let first = deploy(&api, r#"{"version":"v2"}"#).await;
    assert_eq!((shown(&first).as_str(), &first["main"]), ("v2=v2 v1=-", &json!("v2")));
    assert_eq!(shown(&deploy(&api, r#"{"version":"v1"}"#).await), "v2=v2 v1=v1");
}

#[tokio::test]
async fn a_shadow_is_assigned_and_the_old_main_back() {
    let api = two().await;
    let main = "/api/services/calc/main";
    let would = api.ok("PUT", &format!("{main}?dry_run=true"), r#"{"version":"2.0"}"#).await;
    assert_eq!(would["main"], "v1", "nothing was done");
    let assigned = api.ok("PUT", main, r#"{"version":"2.0"}"#).await;
    assert_eq!((&assigned["main"], shown(&assigned).as_str()), (&json!("v2"), "v2=2.0 v1=1.0"));
    let service = api.ok("GET", "/api/services/calc", "").await;
    assert_eq!((&service["split"], &service["mirrors"][0]["to"]), (&json!({ "v2": 100 }), &json!("v1")));
    assert_eq!(api.ok("PUT", main, r#"{"version":"v1"}"#).await["main"], "v1", "by its target");
    for (body, status, paths) in [
        (r#"{"version":"9.9"}"#, 422, &["version"][..]),
        (r#"{"version":"1.0"}"#, 409, &[]),
        (r#"{}"#, 422, &[""]),
        ("", 400, &[""]),
    ] {
        let answer = api.call("PUT", main, body).await;
        assert_eq!(
            (answer.status, answer.paths()),
            (status, paths.iter().map(|p| (*p).to_owned()).collect()),
            "{answer:?}"
        );
    }
    assert_eq!(api.call("PUT", "/api/services/none/main", r#"{"version":"1.0"}"#).await.status, 404);
}

#[tokio::test]
async fn main_is_killed_only_without_shadows_and_the_service_at_once() {
    let api = two().await;
    let refused = api.call("DELETE", &format!("{VERSIONS}/1.0"), "").await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains("v1 is main and has shadows (v2): assign another first, or kill them all"));
    api.ok("DELETE", &format!("{VERSIONS}/2.0?dry_run=true"), "").await;
    assert_eq!(shown(&api.ok("GET", VERSIONS, "").await), "v1=1.0 v2=2.0");
    assert_eq!(shown(&api.ok("DELETE", &format!("{VERSIONS}/2.0"), "").await), "v1=1.0");
    assert_eq!(shown(&api.ok("DELETE", &format!("{VERSIONS}/v1"), "").await), "v1=-", "its target stays");
    assert_eq!(api.call("DELETE", &format!("{VERSIONS}/9.9"), "").await.status, 404);

    let api = two().await;
    assert_eq!(shown(&api.ok("DELETE", "/api/services/calc", "").await), "v1=-");
    assert_eq!(api.call("DELETE", "/api/services/none", "").await.status, 404);
}

#[tokio::test]
async fn a_bad_version_is_refused_until_it_is_unmarked_or_forced() {
    let api = two().await;
    let mark = format!("{VERSIONS}/3.0%2Fx/bad");
    api.ok("PUT", &mark, "").await;
    let known = api.ok("GET", VERSIONS, "").await["known"].clone();
    let why = known.as_array().unwrap().iter().find(|known| known["name"] == "3.0/x").unwrap()["bad"]["why"].clone();
    assert_eq!(why, "anonymous marked it");
    let body = r#"{"version":"3.0/x"}"#;
    let refused = api.call("POST", VERSIONS, body).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    deploy(&api, r#"{"version":"3.0/x","force":"it was the test's fault"}"#).await;
    api.ok("PUT", &mark, "").await;
    api.ok("DELETE", &mark, "").await;
    assert_eq!(api.call("DELETE", &mark, "").await.status, 409, "it is not marked any more");
    deploy(&api, body).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_version_has_its_status_and_path_and_changes_nothing() {
    let api = two().await;
    let before = (api.ok("GET", VERSIONS, "").await, api.fake.generation());
    let long = format!(r#"{{"why":"{}"}}"#, "x".repeat(1025));
    for (method, path, body, status, paths) in [
        ("POST", "", r#"{"image":"calc:3"}"#, 422, &["version"][..]),
        ("POST", "", r#"{"version":"3","service":"web"}"#, 422, &["service"]),
        ("POST", "", r#"{"version":"3","strategy":"canary"}"#, 422, &["strategy"]),
        ("POST", "", r#"{"version":"3","source":"a","image":"b"}"#, 422, &["source"]),
        ("POST", "", r#"{"version":"3","to":"v7"}"#, 422, &["to"]),
        ("POST", "", r#"{"version":"3","to":"v1"}"#, 422, &["to"]),
        ("POST", "", r#"{"version":"3","steps":[1]}"#, 422, &["steps"]),
        ("POST", "", r#"{"version":"3","pre_hook":["rm"]}"#, 403, &["pre_hook"]),
        ("POST", "", "[]", 422, &[""]),
        ("POST", "", "", 400, &[""]),
        ("PUT", "/1.0/bad", r#"{"because":"x"}"#, 422, &["because"]),
        ("PUT", "/1.0/bad", &long, 422, &["why"]),
        ("DELETE", "/1.0/bad", "", 409, &[]),
        ("DELETE", "/none", "", 404, &[]),
        ("DELETE", "/a%00b", "", 404, &[]),
    ] {
        let answer = api.call(method, &format!("{VERSIONS}{path}"), body).await;
        let wanted: Vec<String> = paths.iter().map(|p| (*p).to_owned()).collect();
        assert_eq!((answer.status, answer.paths()), (status, wanted), "{method} {path} {body}: {answer:?}");
    }
    for (method, path, body) in [
        ("GET", "", ""),
        ("POST", "", r#"{"version":"3"}"#),
        ("DELETE", "/1", ""),
        ("PUT", "/1/bad", ""),
        ("DELETE", "/1/bad", ""),
    ] {
        let answer = api.call(method, &format!("/api/services/none/versions{path}"), body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
    let stale = [("if-match", "\"7777\"")];
    assert_eq!(api.call_with("DELETE", &format!("{VERSIONS}/2.0"), "", &stale).await.status, 412);
    api.fake.deployer.journal_fails.store(true, SeqCst);
    assert_eq!(api.call("POST", VERSIONS, r#"{"version":"3","to":"v2"}"#).await.status, 503);
    assert_eq!((api.ok("GET", VERSIONS, "").await, api.fake.generation()), before);
}

#[tokio::test]
async fn nobody_guesses_whether_a_main_that_was_not_probed_yet_is_there() {
    let api = Api::on(FILE);
    api.fake.health_of("calc", "v1", "127.0.0.1:3001", Health::Unknown, "not probed yet");
    let unknown = api.call("POST", VERSIONS, r#"{"version":"1.0"}"#).await;
    assert_eq!(unknown.status, 409, "{unknown:?}");
    assert!(unknown.body.contains("nobody knows yet whether main (v1) runs"));
}

#[tokio::test]
async fn readers_see_versions_and_change_none() {
    let api = Api::with_tokens(MetricsAccess::Open);
    let versions = "/api/services/web/versions";
    assert_eq!(api.call_with("GET", versions, "", &[("x-api-key", READ)]).await.status, 200);
    for (method, path) in [
        ("POST", versions),
        ("DELETE", "/api/services/web/versions/blue"),
        ("DELETE", "/api/services/web"),
        ("PUT", "/api/services/web/main"),
        ("PUT", "/api/services/web/versions/1/bad"),
        ("DELETE", "/api/services/web/versions/1/bad"),
    ] {
        assert_eq!(api.call_with(method, path, "", &[("x-api-key", READ)]).await.status, 403, "{method} {path}");
    }
    assert_eq!(api.call_with("PUT", "/api/services/web/versions/1/bad", "", &[("x-api-key", ADMIN)]).await.status, 200);
}
