//! Events: the list, and the stream.

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt as _;
use http::Request;
use serde_json::{Value, json};
use tidegate_admin::events::KEPT;
use tidegate_core::Health;
use tower::ServiceExt as _;

use crate::harness::Api;

/// Moves the service to and fro: one event each.
fn flap(api: &Api, times: usize) {
    for n in 0..times {
        let health = if n % 2 == 0 { Health::Suspect } else { Health::Healthy };
        api.fake.health("v3", "127.0.0.1:3004", health, "flapping");
    }
}

fn numbers(lines: &Value) -> Vec<u64> {
    lines.as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap_or(0)).collect()
}

#[tokio::test]
async fn the_list_is_in_order_and_bounded() {
    let api = Api::open();
    flap(&api, 5);
    assert_eq!(numbers(&api.ok("GET", "/api/events", "").await), [1001, 1002, 1003, 1004, 1005]);
    assert_eq!(numbers(&api.ok("GET", "/api/events?limit=2", "").await), [1004, 1005], "the newest");
    assert_eq!(numbers(&api.ok("GET", "/api/events?after=1002&limit=2", "").await), [1003, 1004], "the next");
    assert_eq!(numbers(&api.ok("GET", "/api/events?after=0", "").await), [1001, 1002, 1003, 1004, 1005]);
    assert_eq!(api.ok("GET", "/api/events?after=1005", "").await, json!([]));
}

#[tokio::test]
async fn the_list_begins_with_a_gap_when_events_are_missing() {
    let api = Api::open();
    flap(&api, 2);
    let lines = api.ok("GET", "/api/events?after=7", "").await;
    assert_eq!(lines[0], json!({ "type": "gap", "after": 7, "resumes_after": 1000 }));
    assert_eq!(numbers(&lines), [0, 1001, 1002]);
}

/// A client of the stream.
struct Follower {
    body: BodyDataStream,
    text: String,
}

impl Follower {
    async fn start(api: &Api, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(path).header("host", "localhost").header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The fields of the next message: `(id, event, data)`; a comment is `("", "", text)`.
    async fn next(&mut self) -> (String, String, String) {
        while !self.text.contains("\n\n") {
            let bytes = self.body.next().await.expect("the stream goes on").unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        let (message, rest) = self.text.split_once("\n\n").unwrap();
        let field = |name: &str| {
            message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned()
        };
        let found = (field("id"), field("event"), message.strip_prefix(": ").map_or(field("data"), str::to_owned));
        self.text = rest.to_owned();
        found
    }

    async fn next_id(&mut self) -> String {
        self.next().await.0
    }
}

#[tokio::test]
async fn a_follower_gets_what_comes_with_number_type_and_data() {
    let api = Api::open();
    flap(&api, 4);
    let mut follower = Follower::start(&api, "/api/events", &[]).await;
    api.ok("POST", "/api/services/web/switch", r#"{"to":"blue"}"#).await;
    let (id, event, data) = follower.next().await;
    assert_eq!((id.as_str(), event.as_str()), ("1005", "traffic.switched"), "the past is not repeated");
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!((&data["seq"], &data["from"], &data["to"]), (&json!(1005), &json!("green"), &json!("blue")));
    flap(&api, 2);
    assert_eq!((follower.next_id().await, follower.next_id().await), ("1006".into(), "1007".into()));
}

#[tokio::test]
async fn a_follower_continues_after_what_it_saw_last() {
    let api = Api::open();
    flap(&api, 5);
    let mut by_query = Follower::start(&api, "/api/events?after=1003", &[]).await;
    assert_eq!(by_query.next_id().await, "1004");
    let mut by_header = Follower::start(&api, "/api/events?after=1001", &[("last-event-id", "1004")]).await;
    assert_eq!(by_header.next_id().await, "1005", "the header wins: a browser repeats the URL");
    let mut from_zero = Follower::start(&api, "/api/events?after=0", &[]).await;
    assert_eq!(from_zero.next_id().await, "1001");
}

#[tokio::test]
async fn a_follower_that_asks_for_events_that_are_gone_gets_a_gap_first() {
    let api = Api::open();
    flap(&api, KEPT + 3);
    let mut follower = Follower::start(&api, "/api/events", &[("last-event-id", "1001")]).await;
    let (id, event, data) = follower.next().await;
    assert_eq!((id.as_str(), event.as_str()), ("1003", "gap"));
    assert_eq!(data, r#"{"type":"gap","after":1001,"resumes_after":1003}"#);
    for expected in 1004..1004 + KEPT as u64 {
        assert_eq!(follower.next_id().await, expected.to_string());
    }
}

#[tokio::test]
async fn a_follower_that_falls_behind_gets_a_gap_in_the_middle() {
    let api = Api::open();
    let mut follower = Follower::start(&api, "/api/events?after=0", &[]).await;
    flap(&api, 1);
    assert_eq!(follower.next_id().await, "1001");
    flap(&api, KEPT + 10);
    assert_eq!(follower.next().await.1, "gap");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_has_a_heartbeat_every_fifteen_seconds() {
    let api = Api::open();
    let begun = tokio::time::Instant::now();
    let mut follower = Follower::start(&api, "/api/events", &[]).await;
    assert_eq!(follower.next().await, (String::new(), String::new(), "heartbeat".into()));
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test]
async fn last_event_id_must_be_a_number() {
    let api = Api::open();
    for accept in ["text/event-stream", "application/json"] {
        for id in ["x", "", "-1", "+1", "1000000000000000000"] {
            let headers = [("accept", accept), ("last-event-id", id)];
            let answer = api.call_with("GET", "/api/events", "", &headers).await;
            assert_eq!((answer.status, answer.paths()), (400, vec!["Last-Event-ID".to_owned()]), "{accept} {id}");
        }
    }
}

#[tokio::test]
async fn followers_are_bounded_and_give_their_place_back() {
    let api = Api::open();
    let mut followers = Vec::new();
    for _ in 0..128 {
        followers.push(Follower::start(&api, "/api/events", &[]).await);
    }
    let headers = [("accept", "text/event-stream")];
    assert_eq!(api.call_with("GET", "/api/events", "", &headers).await.status, 503);
    assert_eq!(api.call("GET", "/api/events", "").await.status, 200, "the list needs no place");
    followers.pop();
    Follower::start(&api, "/api/events", &[]).await;
}

const CANARY: &str = r#"{"strategy":"canary","service":"web","to":"blue","labels":{"commit":"4a5b"},"image":"web:2"}"#;

#[tokio::test]
async fn the_events_of_a_deployment_are_listed_after_a_number() {
    let api = Api::open();
    assert_eq!(api.call("POST", "/api/deployments?execute=true", CANARY).await.status, 201);
    let all = api.ok("GET", "/api/deployments/dep-1/events", "").await;
    let all = all.as_array().unwrap();
    assert_eq!((&all[0]["seq"], &all[0]["type"], &all[1]["seq"]), (&json!(1), &json!("created"), &json!(2)));
    assert_eq!(api.ok("GET", "/api/deployments/dep-1/events?after=0", "").await, json!(all));
    assert_eq!(api.ok("GET", "/api/deployments/dep-1/events?after=2", "").await, json!(all[2..]));
    assert_eq!(api.ok("GET", "/api/deployments/dep-1/events?after=999", "").await, json!([]));
    let first = [("last-event-id", "1")];
    let answer = api.call_with("GET", "/api/deployments/dep-1/events?after=0", "", &first).await;
    assert_eq!(answer.json(), json!(all[1..]), "the header wins");
    for (query, paths) in [("?after=-1", "query"), ("?after=9999999999999999999", "after"), ("?since=1", "query")] {
        let answer = api.call("GET", &format!("/api/deployments/dep-1/events{query}"), "").await;
        assert_eq!((answer.status, answer.paths()), (400, vec![paths.to_owned()]), "{query}: {answer:?}");
    }
    assert_eq!(api.call("GET", "/api/deployments/dep-9/events", "").await.status, 404);
}

#[tokio::test]
async fn whoever_follows_a_deployment_gets_what_was_and_what_comes() {
    let api = Api::open();
    assert_eq!(api.call("POST", "/api/deployments", CANARY).await.status, 201);
    let mut follower = Follower::start(&api, "/api/deployments/dep-1/events", &[]).await;
    let (id, event, data) = follower.next().await;
    assert_eq!((id.as_str(), event.as_str()), ("1", "created"));
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!((&data["seq"], &data["text"]), (&json!(1), &json!("created")));
    api.ok("POST", "/api/deployments/dep-1/execute", "").await;
    let (id, event, _) = follower.next().await;
    assert_eq!((id.as_str(), event.as_str()), ("2", "executed"));
    let mut late = Follower::start(&api, "/api/deployments/dep-1/events?after=1", &[]).await;
    assert_eq!(late.next_id().await, "2");
    let headers = [("accept", "text/event-stream")];
    assert_eq!(api.call_with("GET", "/api/deployments/dep-9/events", "", &headers).await.status, 404);
}

#[tokio::test]
async fn health_is_remembered_with_version_and_commit_and_beyond_the_events_that_are_kept() {
    let api = Api::open();
    assert_eq!(api.call("POST", "/api/deployments?execute=true", CANARY).await.status, 201);
    *api.fake.deployer.verdict.lock().unwrap() = Some(tidegate_core::deploy::machine::Verdict::Pass);
    api.ok("POST", "/api/deployments/dep-1/promote", r#"{"full":true}"#).await;
    api.fake.health("blue", "127.0.0.1:3001", tidegate_core::Health::Unhealthy, "status 500");
    let history = api.ok("GET", "/api/services/web/health-history", "").await;
    let latest = &history[0];
    let shown = [&latest["version"], &latest["commit"], &latest["from"], &latest["to"], &latest["reason"]];
    assert_eq!(shown, [&json!("web:2"), &json!("4a5b"), &json!("healthy"), &json!("unhealthy"), &json!("status 500")]);
    assert!(latest["seq"].is_u64(), "{latest}");
}
