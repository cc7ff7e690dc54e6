//! What the process is told from outside: to end, to end now, to load its file again; and what it will not start with.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;
use tidegate_e2e::{Behaviour, Client, Origin, Tidegate, get, tidegate::run, until};

/// Far less than the time that running requests are given (30 s), and enough for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

fn service(green: &Origin, blue: &Origin) -> String {
    format!(
        r#"
        [service.web]
        routes = [{{ host = "*", path = "/" }}]
        stable = "green"
        health = {{ path = "/healthz", interval = "1s" }}
        [service.web.target.green]
        endpoints = ["{}"]
        [service.web.target.blue]
        endpoints = ["{}"]
        "#,
        green.address(),
        blue.address()
    )
}

struct Bench {
    green: Origin,
    _blue: Origin,
    proxy: Tidegate,
}

async fn bench() -> Bench {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&service(&green, &blue)).await;
    Bench { green, _blue: blue, proxy }
}

impl Bench {
    async fn until_logged(&self, text: &str) {
        until(text, || async { self.proxy.log().contains(text).then_some(()) }).await;
    }
}

#[tokio::test]
async fn a_running_request_finishes_while_nothing_new_is_taken() {
    let mut bench = bench().await;
    bench.green.set(Behaviour::Slow(Duration::from_secs(2)));
    let public = bench.proxy.public();
    let running = tokio::spawn(async move { get(public, "/").await });
    until("the request runs", || async { (bench.green.count() == 1).then_some(()) }).await;
    bench.proxy.signal(Signal::SIGTERM);
    let unready = || async { Some(bench.proxy.call("GET", "/readyz", None).await).filter(|a| a.status == 503) };
    until("the process is not ready", unready).await;
    until("new clients are refused", || async { Client::connect(public).await.is_err().then_some(()) }).await;
    assert_eq!(running.await.unwrap().unwrap().text(), "green");
    assert_eq!(bench.proxy.ended(AT_ONCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_a_drain() {
    let mut bench = bench().await;
    bench.green.set(Behaviour::Hang);
    let public = bench.proxy.public();
    let running = tokio::spawn(async move { get(public, "/").await });
    until("the request runs", || async { (bench.green.count() == 1).then_some(()) }).await;
    bench.proxy.signal(Signal::SIGTERM);
    bench.until_logged("shutting down").await;
    bench.proxy.signal(Signal::SIGTERM);
    assert_eq!(bench.proxy.ended(AT_ONCE).await.code(), Some(1));
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn a_state_of_a_later_version_is_not_touched() {
    let mut bench = bench().await;
    bench.proxy.done("POST", "/api/services/web/switch", Some(json!({ "to": "blue" }))).await;
    bench.proxy.signal(Signal::SIGTERM);
    bench.proxy.ended(AT_ONCE).await;
    let state = bench.proxy.dir().join("state/state.json");
    let later = fs::read_to_string(&state).unwrap().replacen("\"schema\":1", "\"schema\":99", 1);
    fs::write(&state, &later).unwrap();
    let (code, _, log) = run(bench.proxy.dir(), &["serve"]);
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("schema 99"), "{log}");
    assert_eq!(fs::read_to_string(&state).unwrap(), later);
}

#[tokio::test]
async fn a_file_is_loaded_again_by_signal_by_call_and_when_it_changes() {
    let bench = bench().await;
    let to = |file: String, percent: u32| {
        let split = format!("split = {{ green = {}, blue = {percent} }}\nhealth", 100 - percent);
        file.replacen("health", &split, 1)
    };
    let original = bench.proxy.read_config();
    let blue = |percent: u32| {
        let proxy = &bench.proxy;
        move || async move { (proxy.service("web").await["split"]["blue"] == percent).then_some(()) }
    };
    bench.proxy.write_config(&to(original.clone(), 10));
    bench.proxy.signal(Signal::SIGHUP);
    until("the signal loaded it", blue(10)).await;
    bench.proxy.write_config(&to(original.clone(), 20));
    bench.proxy.done("POST", "/api/reload", None).await;
    until("the call loaded it", blue(20)).await;
    bench.proxy.write_config(&to(original.clone(), 30));
    until("the watch loaded it", blue(30)).await;

    bench.proxy.write_config(&to(original, 30).replace("stable", "stabel"));
    bench.until_logged("configuration rejected").await;
    assert_eq!(bench.proxy.service("web").await["split"]["blue"], 30);
    assert_eq!(bench.proxy.metric("tidegate_config_reloads_total{result=\"rejected\"}").await, 1.0);
}
