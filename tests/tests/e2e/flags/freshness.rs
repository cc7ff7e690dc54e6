//! From `SET` to the first request that follows it.

use std::time::{Duration, Instant};

use tidegate_e2e::{Client, Program, Redis, redis::Resp};

use super::{FLAG, Stage};

/// Times from a change to the first request that follows it, sorted.
pub(super) async fn changes(stage: &Stage, store: &Redis, count: usize) -> Vec<Duration> {
    let mut operator = Resp::connect(store.address()).await.unwrap();
    let mut client = Client::connect(stage.proxy.public()).await.unwrap();
    let mut times = Vec::new();
    for n in 0..count {
        let (value, target) = [("OFF", "green"), ("ON", "blue")][n % 2];
        let begun = Instant::now();
        operator.send(&["SET", FLAG, value]).await.unwrap();
        while client.get("/").await.unwrap().text() != target {
            assert!(begun.elapsed() < Duration::from_secs(5), "change {n} is not followed");
        }
        times.push(begun.elapsed());
    }
    times.sort();
    times
}

pub(super) fn print(what: &str, times: &[Duration]) {
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: {} changes followed after p50 {:?}, p99 {:?}, most {:?}", times.len(), at(50), at(99), at(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_follows_a_change_at_once_where_the_store_tells_of_it() {
    for program in [Program::Redis, Program::Valkey] {
        let store = Redis::start_with(program, &[]).await;
        let stage = Stage::lit(&store.url(), &store).await;
        let times = changes(&stage, &store, 200).await;
        print(&format!("{program:?}, tracking"), &times);
        // Polls alone would follow after half a second in the median; how fast it is exactly is printed, since other
        // tests keep this machine busy.
        assert!(times[100] < Duration::from_millis(250), "median {:?}", times[100]);
        stage.end(&format!("{program:?}, tracking")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_follows_a_change_within_a_poll_where_the_store_cannot_tell_of_it() {
    let store = Redis::start().await;
    store.done(&["ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-client|tracking"]).await;
    store.done(&["SET", FLAG, "ON"]).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "secret").unwrap();
    // Two changes in each poll would hide the first: many proxies see as many changes in less time.
    let source = format!(
        "url = \"{}\"\nusername = \"plain\"\npassword = {{ file = \"{}\" }}",
        store.url(),
        secret.path().display()
    );
    let stage = Stage::with_source(&source).await;
    stage.sees("blue").await;
    assert_eq!(stage.proxy.metric("tidegate_flags_source_tracking{source=\"main\"}").await, 0.0);
    let times = changes(&stage, &store, 20).await;
    print("polling", &times);
    assert!(times[times.len() / 2] <= Duration::from_millis(1500), "median {:?}", times[times.len() / 2]);
    stage.end("polling").await;
}
