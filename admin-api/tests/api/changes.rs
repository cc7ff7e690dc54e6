//! Changes: what they do, what they answer, under which conditions.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::json;
use tidegate_core::Health;

use crate::harness::Api;

#[tokio::test]
async fn a_switch_moves_everything_and_says_from_where() {
    let api = Api::open();
    let answer = api.call("POST", "/api/services/web/switch", r#"{"to":"blue"}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let reply = answer.json();
    assert_eq!((&reply["previous"], &reply["to"]), (&json!("green"), &json!("blue")));
    assert_eq!(reply["events"][0]["type"], "traffic.switched");
    assert!(reply["elapsed_ms"].is_number());
    assert_eq!(answer.header("etag"), format!("\"{}\"", reply["generation"]));
    let service = api.ok("GET", "/api/services/web", "").await;
    assert_eq!((&service["stable"], &service["split"]), (&json!("blue"), &json!({ "blue": 100 })));
    assert_eq!(service["generation"], reply["generation"]);
    let back = api.ok("POST", "/api/services/web/switch", r#"{"to":"green"}"#).await;
    assert_eq!(back["previous"], "blue");
}

#[tokio::test]
async fn a_switch_probes_every_endpoint_of_its_target_first() {
    let api = Api::open();
    api.ok("POST", "/api/services/web/switch", r#"{"to":"blue"}"#).await;
    assert_eq!(api.fake.probes.load(SeqCst), 1);
    let before = api.fake.generation();
    api.fake.failing.lock().unwrap().insert("127.0.0.1:3003".into(), "connection refused".into());
    let answer = api.call("POST", "/api/services/web/switch", r#"{"to":"green"}"#).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.paths(), ["targets.green.endpoints.127.0.0.1:3003"]);
    assert_eq!(answer.json()["errors"][0]["message"], "connection refused");
    assert_eq!(api.fake.generation(), before, "nothing changed");
    assert_eq!(api.fake.probes.load(SeqCst), 3);
    let forced = api.ok("POST", "/api/services/web/switch", r#"{"to":"green","force":true}"#).await;
    assert_eq!(forced["previous"], "blue");
    assert_eq!(api.fake.probes.load(SeqCst), 3, "a forced switch probes nothing");
}

#[tokio::test]
async fn a_split_sets_percentages_with_up_to_two_decimals() {
    let api = Api::open();
    let reply = api.ok("PUT", "/api/services/web/split", r#"{"green":94.99,"blue":5.01}"#).await;
    assert_eq!(reply["events"][0]["to"], json!({ "blue": 5.01, "green": 94.99 }));
    let service = api.ok("GET", "/api/services/web", "").await;
    assert_eq!(service["split"], json!({ "blue": 5.01, "green": 94.99 }));
    assert_eq!(service["stable"], "green");
    assert_eq!(
        service["differences"],
        json!([{ "path": "split", "file": { "green": 100 }, "now": { "blue": 5.01, "green": 94.99 } }])
    );
}

#[tokio::test]
async fn a_failover_lasts_until_it_is_restored() {
    let api = Api::open();
    let reply = api.ok("POST", "/api/services/web/failover", r#"{"to":"blue"}"#).await;
    assert_eq!(reply["events"][0]["type"], "traffic.failover");
    let active = &api.ok("GET", "/api/services/web", "").await["failover"]["active"];
    assert_eq!((&active["to"], &active["cause"], &active["share"]), (&json!("blue"), &json!("operator"), &json!(100)));
    assert_eq!(active["since"], "2026-11-03T09:15:00.250Z");
    let reply = api.ok("POST", "/api/services/web/restore", "").await;
    assert_eq!(reply["events"][0]["type"], "traffic.restored");
    assert!(api.ok("GET", "/api/services/web", "").await["failover"]["active"].is_null());
}

#[tokio::test]
async fn the_bodies_of_restore_drain_and_reload_may_be_empty_objects() {
    let api = Api::open();
    api.ok("POST", "/api/services/web/failover", r#"{"to":"blue"}"#).await;
    api.ok("POST", "/api/services/web/restore", "{}").await;
    api.ok("POST", "/api/services/web/targets/v3/drain", "{}").await;
    api.ok("POST", "/api/reload", "{}").await;
    for path in ["/api/services/web/restore", "/api/services/web/targets/v3/drain", "/api/reload"] {
        assert_eq!(api.call("POST", path, "[]").await.status, 422, "{path}");
        let answer = api.call("POST", path, r#"{"force":true}"#).await;
        assert_eq!((answer.status, answer.paths()), (422, vec!["force".to_owned()]), "{path}");
    }
}

#[tokio::test]
async fn a_target_is_added_changed_drained_and_removed() {
    let api = Api::open();
    let body =
        r#"{"endpoints":["127.0.0.1:4001",{"address":"https://api.example:443","weight":3},"unix:/run/x.sock"]}"#;
    api.ok("PUT", "/api/services/web/targets/v4", body).await;
    let service = api.ok("GET", "/api/services/web", "").await;
    let v4 = service["targets"].as_array().unwrap().iter().find(|target| target["name"] == "v4").unwrap();
    let endpoints = v4["endpoints"].as_array().unwrap();
    let seen: Vec<_> =
        endpoints.iter().map(|e| (e["address"].as_str().unwrap(), e["weight"].as_u64().unwrap())).collect();
    assert_eq!(seen, [("127.0.0.1:4001", 1), ("https://api.example:443", 3), ("unix:/run/x.sock", 1)]);
    api.ok("POST", "/api/services/web/targets/v4/drain", "").await;
    let service = api.ok("GET", "/api/services/web", "").await;
    let v4 = service["targets"].as_array().unwrap().iter().find(|target| target["name"] == "v4").unwrap();
    assert_eq!((&v4["status"], &v4["running"], &v4["closes_in_ms"]), (&json!("drained"), &json!(0), &json!(30_000)));
    api.ok("DELETE", "/api/services/web/targets/v4", "").await;
    let service = api.ok("GET", "/api/services/web", "").await;
    assert_eq!(service["removed"], json!([{ "name": "v4", "closes_in_ms": 30_000 }]));
    assert_eq!(api.call("DELETE", "/api/services/web/targets/v4", "").await.status, 404);
}

#[tokio::test]
async fn a_target_that_is_stable_is_neither_removed_nor_drained() {
    let api = Api::open();
    assert_eq!(api.call("DELETE", "/api/services/web/targets/green", "").await.status, 409);
    assert_eq!(api.call("POST", "/api/services/web/targets/green/drain", "").await.status, 409);
}

#[tokio::test]
async fn what_still_runs_on_a_drained_target_is_shown() {
    let api = Api::open();
    api.ok("POST", "/api/services/web/targets/v3/drain", "").await;
    let snapshot = tidegate_admin::Process::snapshot(&*api.fake);
    let service = &snapshot.services[0];
    let v3 = service.target(service.target_named("v3").unwrap()).unwrap();
    v3.endpoints[0].stats.in_flight.store(2, SeqCst);
    let shown = api.ok("GET", "/api/services/web", "").await;
    let v3 = shown["targets"].as_array().unwrap().iter().find(|target| target["name"] == "v3").unwrap();
    assert_eq!((&v3["status"], &v3["running"]), (&json!("draining"), &json!(2)));
}

#[tokio::test]
async fn a_mirror_is_set_shown_and_removed() {
    let api = Api::open();
    let body = r#"{"to":"v3","percent":12.5,"methods":["get","*"],"set_headers":{"X-Key":"hidden-value"}}"#;
    api.ok("PUT", "/api/services/web/mirrors/shadow", body).await;
    let mirror = api.ok("GET", "/api/services/web/mirrors/shadow", "").await;
    assert_eq!((&mirror["percent"], &mirror["methods"]), (&json!(12.5), &json!(["GET", "*"])));
    assert_eq!((&mirror["set_headers"], &mirror["max_body"]), (&json!(["x-key"]), &json!(65_536)));
    assert_eq!(mirror["results"]["sent"], 0);
    assert_eq!(mirror["recent_differences"], json!([]));
    api.ok("DELETE", "/api/services/web/mirrors/shadow", "").await;
    for method in ["GET", "DELETE"] {
        assert_eq!(api.call(method, "/api/services/web/mirrors/shadow", "").await.status, 404);
    }
}

#[tokio::test]
async fn a_change_that_changes_nothing_keeps_the_generation() {
    let api = Api::open();
    let before = api.fake.generation();
    let reply = api.ok("PUT", "/api/services/web/split", r#"{"green":100}"#).await;
    assert_eq!((&reply["generation"], &reply["events"]), (&json!(before), &json!([])));
}

#[tokio::test]
async fn a_dry_run_of_any_change_changes_nothing_and_tells_what_would_happen() {
    let api = Api::open();
    let before = api.fake.generation();
    for (method, path, body, event) in [
        ("POST", "/api/services/web/switch", r#"{"to":"blue"}"#, "traffic.switched"),
        ("PUT", "/api/services/web/split", r#"{"blue":100}"#, "traffic.changed"),
        ("POST", "/api/services/web/failover", r#"{"to":"blue"}"#, "traffic.failover"),
        ("PUT", "/api/services/web/targets/v4", r#"{"endpoints":["127.0.0.1:4001"]}"#, "target.changed"),
        ("DELETE", "/api/services/web/mirrors/audit", "", "mirror.removed"),
        ("PUT", "/api/services/web/mirrors/more", r#"{"to":"v3"}"#, "mirror.changed"),
        ("POST", "/api/services/web/targets/v3/drain", "", "target.drained"),
    ] {
        let reply = api.ok(method, &format!("{path}?dry_run=true"), body).await;
        assert_eq!((&reply["events"][0]["type"], &reply["dry_run"]), (&json!(event), &json!(true)), "{path}");
        assert_eq!(reply["generation"], before + 1, "{path}");
        assert_eq!(api.fake.generation(), before, "{path}");
    }
    assert_eq!(api.ok("GET", "/api/events", "").await, json!([]));
}

#[tokio::test]
async fn if_match_lets_only_the_present_generation_through() {
    let api = Api::open();
    let etag = api.call("GET", "/api/services/web", "").await.header("etag").to_owned();
    assert_eq!(etag, "\"1\"");
    let split = |body: &'static str, tag: String| {
        let api = &api;
        async move { api.call_with("PUT", "/api/services/web/split", body, &[("if-match", &tag)]).await }
    };
    assert_eq!(split(r#"{"blue":100}"#, etag.clone()).await.status, 200);
    let stale = split(r#"{"green":100}"#, etag).await;
    assert_eq!(stale.status, 412);
    assert!(stale.body.contains("the generation is 2, not 1"), "{stale:?}");
    assert_eq!(split(r#"{"green":100}"#, "*".into()).await.status, 200);
    let malformed = split(r#"{"green":100}"#, "3".into()).await;
    assert_eq!((malformed.status, malformed.paths()), (400, vec!["If-Match".to_owned()]));
}

#[tokio::test]
async fn every_change_is_conditional() {
    let api = Api::open();
    api.ok("POST", "/api/services/web/failover", r#"{"to":"blue"}"#).await;
    let before = api.fake.generation();
    for (method, path, body) in [
        ("POST", "/api/services/web/switch", r#"{"to":"blue"}"#),
        ("PUT", "/api/services/web/split", r#"{"blue":100}"#),
        ("POST", "/api/services/web/failover", r#"{"to":"v3"}"#),
        ("POST", "/api/services/web/restore", ""),
        ("PUT", "/api/services/web/targets/v4", r#"{"endpoints":["127.0.0.1:4001"]}"#),
        ("DELETE", "/api/services/web/targets/v3", ""),
        ("POST", "/api/services/web/targets/v3/drain", ""),
        ("PUT", "/api/services/web/mirrors/more", r#"{"to":"v3"}"#),
        ("DELETE", "/api/services/web/mirrors/audit", ""),
        ("POST", "/api/reload", ""),
    ] {
        let answer = api.call_with(method, path, body, &[("if-match", "\"77\"")]).await;
        assert_eq!(answer.status, 412, "{method} {path}: {answer:?}");
    }
    assert_eq!(api.fake.generation(), before);
    assert_eq!(api.fake.probes.load(SeqCst), 0, "a stale switch is refused before it probes");
}

#[tokio::test]
async fn a_change_that_cannot_be_saved_is_refused_unless_it_is_an_emergency() {
    let api = Api::open();
    api.fake.store_fails.store(true, SeqCst);
    let refused = api.call("PUT", "/api/services/web/split", r#"{"blue":100}"#).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    let reply = api.ok("POST", "/api/services/web/switch", r#"{"to":"blue"}"#).await;
    assert_eq!(reply["saved"], false);
}

#[tokio::test]
async fn a_reload_takes_the_file_or_says_everything_that_is_wrong_with_it() {
    let api = Api::open();
    *api.fake.file.lock().unwrap() =
        Some(crate::fake::FILE.replace("stable = \"green\"", "stable = \"green\"\nsplit = { green = 80, blue = 20 }"));
    let reply = api.ok("POST", "/api/reload", "").await;
    assert_eq!(reply["events"].as_array().unwrap().last().unwrap()["type"], "config.reloaded");
    assert_eq!(api.ok("GET", "/api/services/web", "").await["split"], json!({ "blue": 20, "green": 80 }));
    let before = api.fake.generation();
    *api.fake.file.lock().unwrap() = Some("[service.web]\nstable = 1\nroutes = 2\n".into());
    let refused = api.call("POST", "/api/reload", "").await;
    assert_eq!(refused.status, 422);
    assert!(refused.paths().len() > 1, "{refused:?}");
    assert_eq!(api.fake.generation(), before);
    *api.fake.file.lock().unwrap() = None;
    assert_eq!(api.call("POST", "/api/reload", "").await.status, 409);
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_newest_first() {
    let api = Api::open();
    api.ok("POST", "/api/services/web/switch", r#"{"to":"blue"}"#).await;
    api.ok("PUT", "/api/services/web/split", r#"{"blue":50,"green":50}"#).await;
    let lines = api.ok("GET", "/api/audit?limit=1", "").await;
    assert_eq!(
        lines,
        json!([{
            "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 1_793_697_300_250_u64, "actor": "anonymous",
            "from": 2, "generation": 3,
            "events": [{
                "type": "traffic.changed", "service": "web", "from": { "blue": 100 }, "to": { "blue": 50, "green": 50 }
            }]
        }])
    );
    assert_eq!(api.ok("GET", "/api/audit", "").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_health_history_tells_the_transitions_of_its_service_newest_first() {
    let api = Api::open();
    api.fake.health("green", "127.0.0.1:3002", Health::Unhealthy, "connection refused");
    api.ok("PUT", "/api/services/web/split", r#"{"blue":100}"#).await;
    api.fake.health("green", "127.0.0.1:3002", Health::Healthy, "2 probes passed");
    let history = api.ok("GET", "/api/services/web/health-history", "").await;
    let seen: Vec<_> =
        history.as_array().unwrap().iter().map(|line| (&line["from"], &line["to"], &line["reason"])).collect();
    assert_eq!(
        seen,
        [
            (&json!("unhealthy"), &json!("healthy"), &json!("2 probes passed")),
            (&json!("healthy"), &json!("unhealthy"), &json!("connection refused"))
        ]
    );
}

#[tokio::test]
async fn an_explanation_names_service_target_endpoint_and_reasons() {
    let api = Api::open();
    let reply =
        api.ok("POST", "/api/explain", r#"{"url":"http://shop.example/cart?x=1","headers":{"X-Beta":"1"}}"#).await;
    assert_eq!((&reply["outcome"], &reply["service"]), (&json!("forward"), &json!("web")));
    assert_eq!((&reply["target"], &reply["endpoint"]), (&json!("blue"), &json!("127.0.0.1:3001")));
    assert_eq!(reply["mirrors"], json!(["audit"]));
    assert!(!reply["reasons"].as_array().unwrap().is_empty());
    let plain = api
        .ok("POST", "/api/explain", r#"{"url":"/","headers":{"host":"x"},"client":"192.0.2.1","listener":"public"}"#)
        .await;
    assert_eq!(plain["target"], "green");
    let rejected = api.ok("POST", "/api/explain", r#"{"url":"http://x/%zz"}"#).await;
    assert_eq!((&rejected["outcome"], &rejected["status"]), (&json!("reject"), &json!(400)));
    let answer =
        api.call("POST", "/api/explain", r#"{"url":"/","listener":"none","method":"a b","headers":{"x y":"1"}}"#).await;
    assert_eq!((answer.status, answer.paths()), (422, vec!["headers.x y".into(), "method".into(), "url".into()]));
    assert_eq!(api.call("POST", "/api/explain", r#"{"url":"http://x/","listener":"none"}"#).await.status, 422);
}

#[tokio::test]
async fn readiness_tells_why_not() {
    let api = Api::open();
    assert_eq!(api.ok("GET", "/readyz", "").await, json!({ "ready": true, "reasons": [] }));
    api.fake.ready.lock().unwrap().ready = false;
    api.fake.ready.lock().unwrap().reasons.push("it goes down".into());
    let answer = api.call("GET", "/readyz", "").await;
    assert_eq!((answer.status, answer.json()), (503, json!({ "ready": false, "reasons": ["it goes down"] })));
    assert_eq!(api.ok("GET", "/healthz", "").await, json!({ "status": "ok" }));
    assert!(api.call("GET", "/metrics", "").await.header("content-type").starts_with("text/plain; version=0.0.4"));
}

#[tokio::test]
async fn a_service_is_held_and_released() {
    let api = Api::open();
    let hold = "/api/services/web/hold";
    let would = api.ok("POST", &format!("{hold}?dry_run=true"), "").await;
    assert_eq!((&would["dry_run"], api.fake.generation()), (&json!(true), 1));
    let held = api.ok("POST", hold, "").await;
    let events = json!([{ "type": "traffic.hold", "service": "web", "hold": true }]);
    assert_eq!(held, json!({ "generation": 2, "dry_run": false, "saved": true, "events": events }));
    assert_eq!(api.ok("GET", "/api/services/web", "").await["hold"], true);
    assert_eq!(api.ok("POST", hold, "").await["events"], json!([]), "it is held already");
    let released = api.ok("POST", "/api/services/web/release", "").await;
    assert_eq!(released["events"][0]["hold"], false);
    assert_eq!(api.ok("GET", "/api/services/web", "").await["hold"], false);
    for path in ["/api/services/none/hold", "/api/services/none/release"] {
        assert_eq!(api.call("POST", path, "").await.status, 404);
    }
    assert_eq!(api.call_with("POST", hold, "", &[("if-match", "\"1\"")]).await.status, 412);
    assert_eq!(api.call("POST", hold, r#"{"for":"1m"}"#).await.paths(), ["for"]);
}
