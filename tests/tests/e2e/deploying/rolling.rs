//! Replacing endpoints batch by batch, with processes that are killed as soon as they may be: not one request fails.

use serde_json::{Value, json};
use tidegate_e2e::{Crowd, Tidegate};

use super::{HEALTH, document, programs, shares};

/// Endpoints of each version.
const REPLICAS: usize = 3;

/// Deploys v2 on endpoints of its own; the calls of commands.
async fn replaces(strategy: &str, rest: Value) -> Vec<String> {
    let programs = programs();
    // Slow enough for requests to be under way when their endpoint is to be stopped.
    programs.slow(60);
    let targets = [programs.place("web", "blue", REPLICAS).await, programs.place("web", "green", REPLICAS).await];
    programs.run("web", "blue", "v1").await;
    let service = format!("[service.web]\nstable = \"blue\"\n{HEALTH}\n{}{}", programs.commands(), targets.concat());
    let proxy = Tidegate::start(&service).await;
    let crowd = Crowd::start(proxy.public(), 8);
    let mut document = document(strategy, json!({ "version": "v2", "to": "green" }));
    document.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let id = proxy.deploy(document).await;
    proxy.reaches(&id, "succeeded").await;
    let before = crowd.so_far();
    crowd.more(50).await;
    let outcomes = crowd.stop().await;
    assert_eq!(outcomes.failed(), 0, "{:#?}", proxy.happened(&id).await);
    assert_eq!(outcomes.since(&before).of("v2"), outcomes.since(&before).total());
    let shares = shares(&proxy, "green").await;
    assert!(shares.is_sorted() && shares.last() == Some(&100.0), "{shares:?}");
    programs.calls()
}

fn start(replica: usize) -> String {
    format!("start web green {replica} v2")
}

fn stop(replica: usize) -> String {
    format!("stop web blue {replica} blue")
}

#[tokio::test]
async fn a_rolling_update_replaces_one_endpoint_at_a_time_and_no_request_fails() {
    let calls = replaces("rolling-update", json!({ "max_surge": 1, "batch_delay": "200ms" })).await;
    assert_eq!(calls, [start(0), stop(0), start(1), stop(1), start(2), stop(2)]);
}

#[tokio::test]
async fn a_zero_downtime_deployment_replaces_a_batch_at_a_time_and_no_request_fails() {
    let calls = replaces("zero-downtime", json!({ "batch_size": 2, "batch_delay": "200ms" })).await;
    assert_eq!(calls, [start(0), start(1), stop(0), stop(1), start(2), stop(2)]);
}
