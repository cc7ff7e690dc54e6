//! A new process takes the place of the running one: no connection is refused, no request is lost, no change forgotten.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use serde_json::json;
use tidegate_e2e::{Behaviour, Client, Origin, Sent, Tidegate, get, until};

fn services(green: &Origin, blue: &Origin) -> String {
    format!(
        r#"
        [service.web]
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

async fn gone(pid: u32) {
    // A process that ended and whose parent has not looked yet has no command line.
    let ended = || async {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.is_empty().then_some(())
    };
    until("the process before has ended", ended).await;
}

#[tokio::test]
async fn no_connection_is_refused_and_no_request_lost_over_several_upgrades() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&services(&green, &blue)).await;
    let public = proxy.public();
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let new_connections = async {
        while !stop.load(Relaxed) {
            let answer = get(public, "/").await.expect("a new connection is taken");
            assert_eq!(answer.status, 200, "{}", answer.text());
            asked.fetch_add(1, Relaxed);
        }
    };
    let kept_connections = async {
        while !stop.load(Relaxed) {
            let mut client = Client::connect(public).await.expect("a new connection is taken");
            // The process that ends says so in its last answer.
            loop {
                // An idle connection may be closed while a request is on its way: clients ask again on a new one, as RFC
                // 9112 (9.3.1) has them do.
                let Ok(answer) = client.send(&Sent::new("GET", "/")).await else { break };
                assert_eq!(answer.status, 200);
                asked.fetch_add(1, Relaxed);
                if answer.field("connection").is_some_and(|value| value == "close") || stop.load(Relaxed) {
                    break;
                }
            }
        }
    };
    let upgrades = async {
        let mut before = asked.load(Relaxed);
        for to in ["blue", "green", "blue", "green", "blue"] {
            proxy.done("POST", "/api/services/web/switch", Some(json!({ "to": to, "force": true }))).await;
            let old = proxy.upgrade().await;
            assert_eq!(proxy.service("web").await["stable"], to);
            gone(old).await;
            until("requests go on", || async { (asked.load(Relaxed) > before + 20).then_some(()) }).await;
            before = asked.load(Relaxed);
        }
        stop.store(true, Relaxed);
    };
    tokio::join!(new_connections, kept_connections, upgrades);
    println!("{} requests over 5 upgrades, 0 failed", asked.load(Relaxed));
}

#[tokio::test]
async fn a_running_request_finishes_in_the_process_that_began_it() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&services(&green, &blue)).await;
    green.set(Behaviour::Slow(Duration::from_secs(2)));
    let public = proxy.public();
    let running = tokio::spawn(async move { get(public, "/").await });
    until("the request runs", || async { (green.count() == 1).then_some(()) }).await;
    let old = proxy.upgrade().await;
    green.set(Behaviour::Ok);
    assert_eq!(get(public, "/").await.unwrap().text(), "green");
    assert!(Path::new(&format!("/proc/{old}")).exists(), "it finishes what runs");
    assert_eq!(running.await.unwrap().unwrap().text(), "green");
    gone(old).await;
}

#[tokio::test]
async fn a_sink_is_told_by_the_new_process_while_the_one_before_still_has_requests() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let sink = "[[events.sink]]\nname = \"log\"\nfile = \"events.jsonl\"\n";
    let mut proxy = Tidegate::start(&format!("{sink}{}", services(&green, &blue))).await;
    green.set(Behaviour::Hang);
    let public = proxy.public();
    let running = tokio::spawn(async move { get(public, "/").await });
    until("the request runs", || async { (green.count() == 1).then_some(()) }).await;
    let old = proxy.upgrade().await;
    let id = proxy.deploy(json!({ "strategy": "blue-green", "service": "web", "to": "blue" })).await;
    let told = || std::fs::read_to_string(proxy.dir().join("events.jsonl")).unwrap_or_default().contains(&id);
    until("the sink is told", || async { told().then_some(()) }).await;
    assert!(Path::new(&format!("/proc/{old}")).exists(), "its requests need not be over");
    running.abort();
}

#[tokio::test]
async fn a_new_process_that_does_not_come_up_changes_nothing() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&services(&green, &blue)).await;
    let file = proxy.read_config();
    let switch = json!({ "to": "blue" });
    // Refused by the parser; and refused when it listens, after everything was handed over.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let second = format!("\n[listener.second]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    for wrong in [file.replace("stable", "stabel"), format!("{file}{second}")] {
        proxy.write_config(&wrong);
        let refused = proxy.call("POST", "/api/upgrade", None).await;
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert!(refused.text().contains("this one goes on"), "{}", refused.text());
        assert_eq!(get(proxy.public(), "/").await.unwrap().status, 200);
    }
    proxy.write_config(&file);
    let switched = proxy.done("POST", "/api/services/web/switch", Some(switch)).await;
    assert_eq!(switched["saved"], true);
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "blue");
}
