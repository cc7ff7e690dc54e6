//! Flags in real stores: how soon traffic follows them, and that it never suffers from the store.

mod crowd;
mod embedded;
mod freshness;
mod openfeature;
mod operate;
mod outage;
mod start;
mod stores;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tidegate_e2e::{Client, Origin, Redis, Tidegate, until};
use tokio::{sync::watch, task::JoinHandle};

/// The flag of every test: on, requests go to blue; off or unknown, to green.
pub(super) const FLAG: &str = "RECENT";

/// Requests of one client come so often: enough to see every gap, few enough for many scenarios at a time.
const PACE: Duration = Duration::from_millis(10);

/// A proxy whose traffic follows a flag, and a client that never stops.
pub(super) struct Stage {
    pub(super) proxy: Tidegate,
    traffic: Traffic,
    _origins: [Origin; 2],
}

/// A service that the flag moves from green to blue, with a source of these lines.
pub(super) fn config(source: &str, origins: &[Origin; 2]) -> String {
    let [green, blue] = origins.each_ref().map(Origin::address);
    format!(
        r#"
[flags.source.main]
{source}

[flags.flag.{FLAG}]
source = "main"

[service.web]
stable = "green"
health = false

[service.web.target.green]
endpoints = ["{green}"]

[service.web.target.blue]
endpoints = ["{blue}"]

[[service.web.rule]]
to = "blue"
when = {{ flag = "{FLAG}" }}
"#
    )
}

impl Stage {
    /// Starts with a source of these lines.
    pub(super) async fn with_source(source: &str) -> Self {
        let origins = [Origin::start_counting("green").await, Origin::start_counting("blue").await];
        let proxy = Tidegate::start(&config(source, &origins)).await;
        let traffic = Traffic::start(proxy.public()).await;
        Self { proxy, traffic, _origins: origins }
    }

    /// Starts with a source at this URL, whose flag is on and which is marked.
    pub(super) async fn lit(url: &str, store: &Redis) -> Self {
        store.done(&["SET", FLAG, "ON"]).await;
        let stage = Self::with_source(&format!("url = \"{url}\"")).await;
        stage.sees("blue").await;
        stage.marked(store).await;
        stage
    }

    /// Waits until the store carries the marker and the proxy has seen it.
    pub(super) async fn marked(&self, store: &Redis) {
        until("the store is marked", || async {
            (store.command(&["EXISTS", "tidegate:{default}:flags-init"]).await == "1").then_some(())
        })
        .await;
        let reads = self.reads().await;
        until("it was read again", || async { (self.reads().await >= reads + 2.0).then_some(()) }).await;
    }

    async fn reads(&self) -> f64 {
        self.proxy.metric("tidegate_flags_reads_total{source=\"main\",result=\"ok\"}").await
    }

    /// Where requests go now.
    pub(super) fn now(&self) -> String {
        self.traffic.seen.borrow().clone()
    }

    /// Waits until requests go there.
    pub(super) async fn sees(&self, target: &str) {
        until(&format!("requests go to {target}"), || async { (self.now() == target).then_some(()) }).await;
    }

    /// Waits until the source is known to be up or down.
    pub(super) async fn source_is_up(&self, up: bool) {
        until(&format!("the source is up: {up}"), || async {
            let metric = self.proxy.metric("tidegate_flags_source_up{source=\"main\"}").await;
            (metric == f64::from(u8::from(up))).then_some(())
        })
        .await;
    }

    /// Requests go on to blue for this time.
    pub(super) async fn stays_blue(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            assert_eq!(self.now(), "blue", "the flag lost its last value");
            tokio::time::sleep(PACE).await;
        }
    }

    /// Ends the traffic: none of it may have failed, and none may have waited for a store.
    pub(super) async fn end(self, name: &str) {
        let Self { proxy, traffic, .. } = self;
        let times = traffic.end().await;
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{name}: {} requests, 0 failed, median {:?}, p99 {:?}", times.len(), at(0.5), at(0.99));
        // Whatever waits for a store waits for some hundred milliseconds, and a busy machine does so now and then only.
        assert!(at(0.9) < Duration::from_millis(100), "{name}: p90 {:?}\n{}", at(0.9), proxy.log());
    }
}

/// A client that sends one request after the other on one connection.
struct Traffic {
    stop: Arc<AtomicBool>,
    seen: watch::Receiver<String>,
    task: JoinHandle<Vec<Duration>>,
}

impl Traffic {
    async fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, seen) = watch::channel(String::new());
        let mut client = Client::connect(address).await.unwrap();
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut times = Vec::new();
            while !stopped.load(SeqCst) {
                let begun = Instant::now();
                let answer = client.get("/").await.expect("no request may fail");
                times.push(begun.elapsed());
                assert_eq!(answer.status, 200, "{}", answer.text());
                sender.send_replace(answer.text());
                tokio::time::sleep(PACE).await;
            }
            times.sort();
            times
        });
        Self { stop, seen, task }
    }

    async fn end(self) -> Vec<Duration> {
        self.stop.store(true, SeqCst);
        self.task.await.unwrap()
    }
}
