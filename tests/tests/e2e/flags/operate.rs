//! What operators do to flags in a store by the admin API, also while the store is away.

use serde_json::json;
use tidegate_e2e::{Redis, get};

use super::{FLAG, Stage};

const MARKER: &str = "tidegate:{default}:flags-init";

async fn target(stage: &Stage) -> String {
    get(stage.proxy.public(), "/").await.unwrap().text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_that_is_set_by_the_api_is_in_the_store_and_followed_by_the_next_request() {
    let store = Redis::start().await;
    let stage = Stage::lit(&store.url(), &store).await;
    let path = format!("/api/flags/{FLAG}");
    for n in 0..20 {
        let (value, to) = [("off", "green"), ("on", "blue")][n % 2];
        let done = stage.proxy.done("PUT", &path, Some(json!({ "value": value }))).await;
        assert_eq!(target(&stage).await, to, "{done}");
        assert_eq!(store.done(&["GET", FLAG]).await, value);
    }
    stage.proxy.done("DELETE", &path, None).await;
    assert_eq!((target(&stage).await.as_str(), store.done(&["EXISTS", FLAG]).await.as_str()), ("green", "0"));
    let audit = stage.proxy.done("GET", "/api/audit", None).await;
    assert_eq!(audit[0]["actor"], "anonymous", "{audit}");
    stage.end("set by the API").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_override_wins_while_the_store_is_away_and_a_write_says_that_it_is() {
    let mut store = Redis::start().await;
    let stage = Stage::lit(&store.url(), &store).await;
    let path = format!("/api/flags/{FLAG}");
    store.kill();
    stage.source_is_up(false).await;
    let refused = stage.proxy.call("PUT", &path, Some(json!({ "value": "off" }))).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(target(&stage).await, "blue");
    let shown = stage.proxy.done("GET", &path, None).await;
    assert!(shown["stale"] == true && shown["text"] == "ON", "{shown}");
    let over = json!({ "value": "off", "ttl": "1h" });
    stage.proxy.done("PUT", &format!("{path}/override"), Some(over)).await;
    assert_eq!(target(&stage).await, "green");
    stage.proxy.done("DELETE", &format!("{path}/override"), None).await;
    assert_eq!(target(&stage).await, "blue");
    stage.end("overridden").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_store_is_filled_again_or_taken_as_it_is() {
    let store = Redis::start().await;
    let stage = Stage::lit(&store.url(), &store).await;
    let marker = store.done(&["GET", MARKER]).await;
    let emptied = async || {
        store.done(&["FLUSHALL"]).await;
        tidegate_e2e::until("it is seen", || async {
            let sources = stage.proxy.done("GET", "/api/flag-sources", None).await;
            (sources[0]["emptied"] == true).then_some(())
        })
        .await;
        assert_eq!(target(&stage).await, "blue");
    };
    emptied().await;
    stage.proxy.done("POST", "/api/flag-sources/main/restore", Some(json!({}))).await;
    assert_eq!(store.done(&["GET", FLAG]).await, "ON");
    assert_eq!(store.done(&["GET", MARKER]).await, marker, "others that know the store know it again");
    assert_eq!(target(&stage).await, "blue");
    emptied().await;
    stage.proxy.done("POST", "/api/flag-sources/main/accept", Some(json!({}))).await;
    assert_eq!((target(&stage).await.as_str(), store.done(&["EXISTS", FLAG]).await.as_str()), ("green", "0"));
    stage.end("emptied on purpose").await;
}
