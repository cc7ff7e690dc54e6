//! Steering deployments over the API: every order where it fits and where it does not, and the shapes of the answers.

use serde_json::{Value, json};
use tidegate_admin::Measured;
use tidegate_core::deploy::machine::Verdict;

use crate::harness::Api;

const CANARY: &str =
    r#"{"strategy":"canary","service":"web","to":"blue","image":"web:2","percentage":5,"steps":[20,100]}"#;
const TEST: &str = r#"{"strategy":"ab-testing","service":"web","duration":"1h","goal":{"name":"buy"},
    "variant":["name=green,percentage=50","name=blue,image=web:2,percentage=50"]}"#;

async fn begin(api: &Api, body: &str) {
    let answer = api.call("POST", "/api/deployments?execute=true", body).await;
    assert_eq!(answer.status, 201, "{body}: {answer:?}");
}

async fn order(api: &Api, verb: &str, body: &str) -> Value {
    api.ok("POST", &format!("/api/deployments/dep-1/{verb}"), body).await
}

async fn split(api: &Api) -> Value {
    api.ok("GET", "/api/services/web", "").await["split"].clone()
}

/// Orders that do not fit: each is a conflict that says why, and changes nothing.
async fn refused(api: &Api, verbs: &[&str]) {
    let before = (api.ok("GET", "/api/deployments/dep-1", "").await, split(api).await);
    for verb in verbs {
        let body = if *verb == "select-winner" { r#"{"variant":"blue"}"# } else { "" };
        let answer = api.call("POST", &format!("/api/deployments/dep-1/{verb}"), body).await;
        assert_eq!(answer.status, 409, "{verb}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with("deployment dep-1 "), "{verb}: {answer:?}");
    }
    assert_eq!((api.ok("GET", "/api/deployments/dep-1", "").await, split(api).await), before);
}

#[tokio::test]
async fn a_deployment_is_paused_resumed_and_promoted() {
    let api = Api::open();
    begin(&api, CANARY).await;
    let paused = order(&api, "pause", "").await;
    assert_eq!((&paused["state"], &paused["exit_code"]), (&json!("paused"), &json!(3)), "{paused}");
    assert!(paused["paused"]["until"].is_string());
    refused(&api, &["cancel", "execute", "retry", "select-winner"]).await;
    assert_eq!(order(&api, "resume", "").await["state"], "running");
    refused(&api, &["resume"]).await;
    let next = order(&api, "promote", "").await;
    assert_eq!((&next["state"], split(&api).await), (&json!("running"), json!({ "blue": 20, "green": 80 })));
    let done = order(&api, "promote", r#"{"full":true}"#).await;
    assert_eq!((&done["state"], split(&api).await), (&json!("succeeded"), json!({ "blue": 100 })));
}

#[tokio::test]
async fn only_a_step_that_the_deployment_can_do_without_is_skipped() {
    let api = Api::open();
    begin(&api, CANARY).await;
    assert_eq!(order(&api, "skip", "").await["traffic"]["web"], json!({ "blue": 20, "green": 80 }));
    let events = api.ok("GET", "/api/deployments/dep-1/events", "").await;
    let kinds: Vec<_> = events.as_array().unwrap().iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"step_skipped"), "{kinds:?}");
}

#[tokio::test]
async fn a_deployment_that_waits_is_cancelled_and_then_nothing_fits_but_a_retry() {
    let api = Api::open();
    assert_eq!(api.call("POST", "/api/deployments", CANARY).await.status, 201);
    refused(&api, &["promote", "pause", "resume", "skip", "rollback", "retry", "select-winner"]).await;
    assert_eq!(order(&api, "cancel", "").await["state"], "cancelled");
    refused(&api, &["execute", "promote", "pause", "resume", "skip", "cancel", "rollback"]).await;
    let again = order(&api, "retry", "").await;
    assert_eq!((&again["retry_of"], &again["state"]), (&json!("dep-1"), &json!("running")));
    assert_ne!(again["id"], "dep-1");
}

#[tokio::test]
async fn what_succeeded_is_rolled_back_once_and_not_after_the_next_deployment() {
    let api = Api::open();
    *api.fake.deployer.verdict.lock().unwrap() = Some(Verdict::Pass);
    begin(&api, CANARY).await;
    assert_eq!(api.ok("GET", "/api/deployments/dep-1", "").await["state"], "succeeded");
    refused(&api, &["promote", "pause", "resume", "skip", "cancel", "execute", "select-winner"]).await;
    assert_eq!(order(&api, "rollback", "").await["state"], "rolled-back");
    assert_eq!(split(&api).await, json!({ "green": 100 }));
    refused(&api, &["rollback"]).await;

    let api = Api::open();
    *api.fake.deployer.verdict.lock().unwrap() = Some(Verdict::Pass);
    begin(&api, CANARY).await;
    begin(&api, &CANARY.replace("blue", "green")).await;
    refused(&api, &["rollback"]).await;
}

#[tokio::test]
async fn the_winner_of_a_test_is_one_of_its_variants() {
    let api = Api::open();
    begin(&api, TEST).await;
    assert_eq!(split(&api).await, json!({ "blue": 50, "green": 50 }));
    refused(&api, &["promote", "skip"]).await;
    for (body, status, paths) in [
        (r#"{"variant":"v3"}"#, 422, &[""][..]),
        (r#"{"variant":"a b"}"#, 422, &["variant"]),
        (r#"{"winner":"blue"}"#, 422, &["winner"]),
        ("", 400, &[""]),
    ] {
        let answer = api.call("POST", "/api/deployments/dep-1/select-winner", body).await;
        assert_eq!(
            (answer.status, answer.paths()),
            (status, paths.iter().map(|p| (*p).to_owned()).collect()),
            "{answer:?}"
        );
    }
    let won = order(&api, "select-winner", r#"{"variant":"blue"}"#).await;
    assert_eq!((&won["winner"], &won["state"]), (&json!("blue"), &json!("succeeded")), "{won}");
    assert_eq!(split(&api).await, json!({ "blue": 100 }));
    refused(&api, &["select-winner"]).await;
}

#[tokio::test]
async fn late_conversions_are_counted_while_the_goal_is_watched() {
    let api = Api::open();
    begin(&api, TEST).await;
    api.fake.deployer.goals.lock().unwrap().insert("buy".into());
    let counted = order(&api, "conversions", r#"{"visitor":"7f3a","goal":"buy"}"#).await;
    assert_eq!(counted, json!({ "counted": true }));
    assert_eq!(*api.fake.deployer.converted.lock().unwrap(), ["7f3a"]);
    let other = api.call("POST", "/api/deployments/dep-1/conversions", r#"{"visitor":"7f3a","goal":"look"}"#).await;
    assert_eq!(other.status, 409, "{other:?}");
    let unknown = api.call("POST", "/api/deployments/dep-9/conversions", r#"{"visitor":"7f3a","goal":"buy"}"#).await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
}

#[tokio::test]
async fn documents_that_make_no_sense_are_invalid_at_their_place() {
    let api = Api::open();
    let long =
        format!(r#"{{"strategy":"canary","service":"web","steps":[{}]}}"#, "1,".repeat(70).trim_end_matches(','));
    for (body, paths) in [
        (
            r#"{"strategy":"ab","service":"web","variant":["name=blue,percentage=50","name=green,percentage=40"]}"#,
            &["variant"][..],
        ),
        (
            r#"{"strategy":"ab","service":"web","variant":["name=blue,percentage=50","name=red,percentage=50"]}"#,
            &["variant"],
        ),
        (r#"{"strategy":"canary","service":"web","to":"blue","steps":[50,20]}"#, &["steps"]),
        (r#"{"strategy":"canary","service":"web","to":"blue","steps":[50,101]}"#, &["steps[1]"]),
        (r#"{"strategy":"rolling","service":"web","to":"blue","max_surge":0,"max_unavailable":0}"#, &["max_surge"]),
        (
            r#"{"strategy":"canary","member":[{"service":"web","to":"blue"},{"service":"moon"}]}"#,
            &["member[1].service"],
        ),
    ] {
        let answer = api.call("POST", "/api/deployments?dry_run=true", body).await;
        assert_eq!(
            (answer.status, answer.paths()),
            (422, paths.iter().map(|p| (*p).to_owned()).collect()),
            "{body}: {answer:?}"
        );
    }
    assert_eq!(api.call("POST", "/api/deployments", &long).await.status, 422);
    assert_eq!(api.ok("GET", "/api/deployments", "").await, json!([]));
}

#[tokio::test]
async fn a_stale_if_match_and_a_dry_run_change_nothing() {
    let api = Api::open();
    let stale = [("if-match", "\"7\"")];
    for path in ["/api/deployments", "/api/deployments/zero-downtime"] {
        assert_eq!(api.call_with("POST", path, CANARY, &stale).await.status, 412, "{path}");
    }
    assert_eq!(api.call("POST", "/api/deployments", CANARY).await.status, 201);
    let verbs = ["execute", "rollback", "promote", "pause", "resume", "skip", "cancel", "retry"];
    for verb in verbs {
        let answer = api.call_with("POST", &format!("/api/deployments/dep-1/{verb}"), "", &stale).await;
        assert_eq!(answer.status, 412, "{verb}: {answer:?}");
        let malformed =
            api.call_with("POST", &format!("/api/deployments/dep-1/{verb}"), "", &[("if-match", "7")]).await;
        assert_eq!(malformed.status, 400, "{verb}");
    }
    let would = order(&api, "execute?dry_run=true", "").await;
    assert_eq!((&would["dry_run"], &would["state"]), (&json!(true), &json!("running")));
    assert!(!would["plan"]["steps"].as_array().unwrap().is_empty());
    assert_eq!(api.ok("GET", "/api/deployments/dep-1", "").await["state"], "pending");
    let fresh = [("if-match", "\"1\"")];
    assert_eq!(api.call_with("POST", "/api/deployments/dep-1/execute", "", &fresh).await.status, 200);
}

#[tokio::test]
async fn a_second_deployment_waits_for_the_first_or_takes_its_place() {
    let api = Api::open();
    begin(&api, CANARY).await;
    let second = api.call("POST", "/api/deployments?execute=true", CANARY).await;
    assert_eq!(second.status, 409, "{second:?}");
    assert!(second.body.contains("deployment dep-1 of service web is active"), "{second:?}");
    let body = CANARY.replacen('{', r#"{"supersede":true,"#, 1);
    let third = api.call("POST", "/api/deployments?execute=true", &body).await;
    assert_eq!(third.status, 201, "{third:?}");
    assert_eq!(api.ok("GET", "/api/deployments/dep-1", "").await["state"], "rolled-back");
}

#[tokio::test]
async fn a_deployment_on_the_wire() {
    let api = Api::open();
    let body = CANARY.replacen('{', r#"{"name":"spring","project":"foo","labels":{"commit":"4a5b"},"#, 1);
    begin(&api, &body).await;
    let at = "2026-11-03T09:15:00.250Z";
    let status = json!({
        "id": "dep-1", "status": "in_progress", "state": "running", "progress": 42, "details": "step 4 of 7: analyse",
        "created_at": at, "updated_at": at, "completed": false, "successful": false, "exit_code": null,
        "labels": { "commit": "4a5b" }
    });
    assert_eq!(api.ok("GET", "/api/deployments/dep-1/status", "").await, status);
    let mut view = json!({
        "name": "spring", "project": "foo", "stage": null, "strategy": "canary",
        "members": [{
            "service": "web", "from": "green", "to": ["blue"], "version": "web:2", "image": "web:2", "previous": null
        }],
        "step": { "number": 4, "of": 7, "name": "analyse" }, "paused": null, "why": null, "troubles": [],
        "winner": null, "traffic": { "web": { "blue": 5, "green": 95 } }, "verdicts": {}, "warnings": [],
        "queued": false, "retry_of": null, "finished_at": null, "env": []
    });
    view.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    assert_eq!(api.ok("GET", "/api/deployments/dep-1", "").await, view);
    assert_eq!(api.ok("GET", "/api/deployments?service=web", "").await, json!([view]));
    assert_eq!(api.ok("GET", "/api/deployments?service=none", "").await, json!([]));
    let mut reply = order(&api, "pause?dry_run=true", "").await;
    let fields = reply.as_object_mut().unwrap();
    assert_eq!(fields["paused"]["until"], "2026-11-04T09:15:00.250Z", "a day to decide");
    for added in ["generation", "dry_run", "plan"] {
        assert!(fields.remove(added).is_some(), "{added}");
    }
    assert_eq!(fields.keys().collect::<Vec<_>>(), view.as_object().unwrap().keys().collect::<Vec<_>>());
    let events = api.ok("GET", "/api/deployments/dep-1/events?after=2", "").await;
    assert_eq!(
        events[0],
        json!({
            "seq": 3, "at": at, "at_unix_ms": 1_793_697_300_250_u64, "type": "step_started",
            "text": "step 1 begins: start: up for blue of web, version web:2, at most 5m",
            "data": { "at": 0, "task": "deploy", "step": "start" }
        })
    );
    let diagnosis = api.ok("GET", "/api/deployments/dep-1/diagnose", "").await;
    let details = "step 4 of 7: analyse";
    assert_eq!(
        diagnosis,
        json!({ "id": "dep-1", "state": "running", "details": details, "findings": [], "warnings": [] })
    );
}

#[tokio::test]
async fn measurements_on_the_wire() {
    let api = Api::open();
    begin(&api, CANARY).await;
    let counted = |target: &str, requests| Measured {
        service: "web".parse().unwrap(),
        target: target.parse().unwrap(),
        requests,
        errors: requests / 100,
        p50_ms: Some(12.0),
        p95_ms: Some(41.5),
        p99_ms: None,
        visitors: Some(requests / 4),
        conversions: Some(requests / 40),
    };
    *api.fake.deployer.measured.lock().unwrap() = vec![counted("blue", 200), counted("green", 0)];
    let blue = json!({
        "service": "web", "variant": "blue", "requests": 200, "errors": 2, "error_percent": 1.0, "p50_ms": 12.0,
        "p95_ms": 41.5, "p99_ms": null, "visitors": 50, "conversions": 5, "conversion_percent": 10.0
    });
    let metrics = api.ok("GET", "/api/deployments/dep-1/metrics", "").await;
    assert_eq!((&metrics["id"], &metrics["variants"][0]), (&json!("dep-1"), &blue));
    assert_eq!(metrics["variants"][1]["error_percent"], Value::Null, "nothing is no share");
    let only = api.ok("GET", "/api/deployments/dep-1/metrics?variant=blue", "").await;
    assert_eq!(only["variants"], json!([blue]));
}
