//! What the proxy does outside of deployments, as event sinks are told of it.

use std::path::Path;

use serde_json::{Value, json};
use tidegate_e2e::{Origin, Tidegate, until};

/// Service `web` with a failover, a flag, and these sinks.
fn config(green: &Origin, blue: &Origin, sinks: &str) -> String {
    // A busy machine may be slow to answer: only what is refused is down.
    format!(
        "[service.web]\nstable = \"green\"\nfailover = {{ to = \"blue\", failback = \"manual\" }}\n\
         health = {{ path = \"/health\", interval = \"500ms\", timeout = \"30s\", fall = 2, rise = 1 }}\n\
         [service.web.target.green]\nendpoints = [\"{}\"]\n[service.web.target.blue]\nendpoints = [\"{}\"]\n\
         [flags.flag.RECENT]\n{sinks}",
        green.address(),
        blue.address()
    )
}

fn url(name: &str, receiver: &Origin, more: &str) -> String {
    format!("[[events.sink]]\nname = \"{name}\"\nurl = \"http://{}/\"\n{more}\n", receiver.address())
}

fn of_file(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_receiver(receiver: &Origin) -> Vec<Value> {
    receiver.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

/// Types without their prefix, each with what it is about.
fn kinds(events: &[Value]) -> Vec<(String, String)> {
    let kind = |event: &Value| {
        let kind = event["type"].as_str().unwrap().strip_prefix("dev.tidegate.").unwrap().to_owned();
        let target = ["target", "to"].iter().find_map(|key| event["data"][key].as_str());
        (kind, target.unwrap_or_default().to_owned())
    };
    events.iter().map(kind).collect()
}

async fn told(dir: &Path, kind: &str, target: &str) {
    let wanted = (kind.to_owned(), target.to_owned());
    until(&format!("{kind} {target} is told"), || async { kinds(&of_file(dir)).contains(&wanted).then_some(()) }).await;
}

#[tokio::test]
async fn sinks_are_told_of_health_traffic_and_flags_each_of_what_it_asks_for() {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let receiver = Origin::start("receiver").await;
    let sinks = format!(
        "[[events.sink]]\nname = \"log\"\nfile = \"events.jsonl\"\n{}",
        url("http", &receiver, "types = [\"traffic.*\", \"flag.changed\"]")
    );
    let proxy = Tidegate::start(&config(&green, &blue, &sinks)).await;
    for target in ["green", "blue"] {
        told(proxy.dir(), "target.healthy", target).await;
    }
    proxy.done("PUT", "/api/services/web/split", Some(json!({ "green": 75, "blue": 25 }))).await;
    proxy.done("PUT", "/api/flags/RECENT", Some(json!({ "value": "on" }))).await;
    told(proxy.dir(), "flag.changed", "on").await;
    green.stop().await;
    told(proxy.dir(), "traffic.failover", "blue").await;
    green.revive().await;
    until("green is well again", || async {
        let all = kinds(&of_file(proxy.dir()));
        (all.iter().filter(|told| **told == ("target.healthy".into(), "green".into())).count() == 2).then_some(())
    })
    .await;
    proxy.done("POST", "/api/services/web/restore", None).await;
    told(proxy.dir(), "traffic.restored", "green").await;
    let told = of_file(proxy.dir());
    let order: Vec<_> = kinds(&told).into_iter().filter(|(kind, _)| kind != "target.healthy").collect();
    let expected = [
        ("traffic.changed", ""),
        ("flag.changed", "on"),
        ("target.unhealthy", "green"),
        ("traffic.failover", "blue"),
        ("traffic.restored", "green"),
    ];
    assert_eq!(order, expected.map(|(kind, target)| (kind.to_owned(), target.to_owned())));
    // Its number leads to the event in the API.
    let failover = told.iter().find(|event| event["type"] == "dev.tidegate.traffic.failover").unwrap();
    let seq: u64 = failover["id"].as_str().unwrap().parse().unwrap();
    let page = proxy.done("GET", &format!("/api/events?limit=1&after={}", seq - 1), None).await;
    assert_eq!((&page[0]["type"], &page[0]["seq"]), (&json!("traffic.failover"), &json!(seq)));
    assert_eq!((&page[0]["reason"], &page[0]["at"]), (&failover["data"]["reason"], &failover["time"]));
    assert_eq!((&failover["subject"], &failover["source"]), (&json!("web"), &json!("/tidegate/tidegate")));

    let asked = |kind: &str| kind.starts_with("dev.tidegate.traffic.") || kind == "dev.tidegate.flag.changed";
    let wanted: Vec<_> = told.into_iter().filter(|event| asked(event["type"].as_str().unwrap())).collect();
    until("the other sink knows as much", || async { (receiver.count() >= wanted.len()).then_some(()) }).await;
    assert_eq!(of_receiver(&receiver), wanted);
}

#[tokio::test]
async fn what_is_in_a_sinks_file_outlives_kill_9_and_a_shutdown_writes_the_last_down() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut receiver = Origin::start("receiver").await;
    let sink = url("http", &receiver, "types = [\"traffic.*\"]");
    receiver.stop().await;
    let mut proxy = Tidegate::start(&config(&green, &blue, &sink)).await;
    let split = async |proxy: &Tidegate, share: u32| {
        let weights = json!({ "green": 100 - share, "blue": share });
        proxy.done("PUT", "/api/services/web/split", Some(weights)).await;
    };
    split(&proxy, 10).await;
    split(&proxy, 20).await;
    until("both wait in the sink's file", || async {
        (proxy.metric("tidegate_sink_waiting{sink=\"http\"}").await == 2.0).then_some(())
    })
    .await;
    proxy.kill_and_restart().await;
    split(&proxy, 30).await;
    // Told to end at once: what was answered is written down before the process is gone.
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    proxy.killed().await;
    proxy.restart().await;
    split(&proxy, 40).await;
    receiver.revive().await;
    until("all four are told", || async { (receiver.count() >= 4).then_some(()) }).await;
    let told = of_receiver(&receiver);
    let shares: Vec<_> = told.iter().map(|event| event["data"]["to"]["blue"].as_f64().unwrap()).collect();
    assert_eq!(shares, [10.0, 20.0, 30.0, 40.0]);
    let ids: std::collections::BTreeSet<_> = told.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 4);
}
