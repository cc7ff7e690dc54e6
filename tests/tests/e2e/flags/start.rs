//! The start: with its sources, without them, and with a memory that is damaged.

use serde_json::json;
use tidegate_e2e::{Redis, Tidegate, get, until};

use super::{FLAG, Stage, config};

async fn remembered(stage: &Stage) {
    let path = stage.proxy.dir().join("state/flags.json");
    until("the flag is remembered", || async {
        std::fs::read_to_string(&path).ok().filter(|text| text.contains("\"RECENT\":\"ON\""))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_its_store_begins_where_the_last_run_ended() {
    let mut store = Redis::start().await;
    let mut stage = Stage::lit(&store.url(), &store).await;
    remembered(&stage).await;
    store.kill();
    stage.traffic.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    stage.proxy.kill_and_restart().await;
    assert_eq!(get(stage.proxy.public(), "/").await.unwrap().text(), "blue");
    assert!(stage.proxy.call("GET", "/readyz", None).await.text().contains("never read since the start"));
    // A store that comes back empty is known to be: its marker is remembered too.
    store.revive().await;
    stage.source_is_up(true).await;
    assert_eq!(get(stage.proxy.public(), "/").await.unwrap().text(), "blue");
    assert_eq!(stage.proxy.metric("tidegate_flags_source_whole{source=\"main\"}").await, 0.0);
    // Damaged at any place, it is said loudly and counts for nothing.
    store.kill();
    let path = stage.proxy.dir().join("state/flags.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"RECENT\":\"ON\"", "\"RECENT\":\"no\"");
    std::fs::write(&path, text).unwrap();
    stage.proxy.kill_and_restart().await;
    assert_eq!(get(stage.proxy.public(), "/").await.unwrap().text(), "green");
    assert!(stage.proxy.log().contains("the remembered flags cannot be used"), "{}", stage.proxy.log());
    assert!(path.with_extension("json.damaged").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_request_follows_a_store_that_is_there() {
    let store = Redis::start().await;
    store.done(&["SET", FLAG, "ON"]).await;
    let mut stage = Stage::with_source(&format!("url = \"{}\"", store.url())).await;
    stage.traffic.stop.store(true, std::sync::atomic::Ordering::SeqCst);
    for (value, target) in [("OFF", "green"), ("ON", "blue")] {
        store.done(&["SET", FLAG, value]).await;
        stage.proxy.kill_and_restart().await;
        assert_eq!(get(stage.proxy.public(), "/").await.unwrap().text(), target);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_follows_another_store_and_leaves_others_alone() {
    let (first, second) = (Redis::start().await, Redis::start().await);
    first.done(&["SET", FLAG, "ON"]).await;
    second.done(&["SET", FLAG, "OFF"]).await;
    let stage = Stage::with_source(&format!("url = \"{}\"", first.url())).await;
    stage.sees("blue").await;
    let connects = async |proxy: &Tidegate| proxy.metric("tidegate_flags_connects_total{source=\"main\"}").await;
    let before = connects(&stage.proxy).await;
    let file = stage.proxy.read_config();
    stage.proxy.write_config(&file.replace("stable = \"green\"", "stable = \"green\"\ndrain = \"7s\""));
    stage.proxy.done("POST", "/api/reload", Some(json!({}))).await;
    stage.proxy.write_config(&file.replace(&first.url(), &second.url()));
    assert_eq!(connects(&stage.proxy).await, before, "nothing changed for the source");
    stage.proxy.done("POST", "/api/reload", Some(json!({}))).await;
    stage.sees("green").await;
    stage.end("reloaded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_requires_its_store_does_not_start_without_it() {
    let mut store = Redis::start().await;
    store.kill();
    let origins = [tidegate_e2e::Origin::start("green").await, tidegate_e2e::Origin::start("blue").await];
    let dir = tempfile::tempdir().unwrap();
    let services = config(&format!("url = \"{}\"", store.url()), &origins);
    let file = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[listener.public]\naddress = \"127.0.0.1:0\"\n[flags]\nrequire_store = true\n{services}"
    );
    std::fs::write(dir.path().join("tidegate.toml"), file).unwrap();
    let path = dir.path().to_owned();
    let run = move || tidegate_e2e::tidegate::run(&path, &["serve", "-c", "tidegate.toml"]);
    let (code, _, text) = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(code, 1);
    assert!(text.contains("require_store") && text.contains("main"), "{text}");
}
