//! Blue/green: a switch loses no request and is complete when it is acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tidegate_e2e::{Client, Origin, Tidegate};

use crate::splitting::blue_green;

/// Names of the targets by the parity of a switch.
const SIDES: [&str; 2] = ["green", "blue"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_switches_under_load_fail_nothing_and_leave_nothing_stale() {
    let (green, blue) = (Origin::start_counting("green").await, Origin::start_counting("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    // Twice the number of acknowledged switches, plus one while one is under way: even numbers are certain.
    let progress = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..32)
        .map(|_| {
            let (progress, done, address) = (Arc::clone(&progress), Arc::clone(&done), proxy.public());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await.unwrap();
                let (mut requests, mut stale) = (0_usize, 0_usize);
                while !done.load(SeqCst) {
                    let before = progress.load(SeqCst);
                    let answer = client.get("/").await.expect("no request may fail");
                    assert_eq!(answer.status, 200);
                    let after = progress.load(SeqCst);
                    if before == after && before % 2 == 0 {
                        stale += usize::from(answer.text() != SIDES[before / 2 % 2]);
                    }
                    requests += 1;
                }
                (requests, stale)
            })
        })
        .collect();
    let mut took = Vec::new();
    for n in 1..=1_000 {
        progress.fetch_add(1, SeqCst);
        let begun = Instant::now();
        let answer = proxy.done("POST", "/api/services/web/switch", Some(json!({ "to": SIDES[n % 2] }))).await;
        took.push(begun.elapsed());
        progress.fetch_add(1, SeqCst);
        assert_eq!(answer["previous"], SIDES[(n + 1) % 2]);
    }
    done.store(true, SeqCst);
    let (mut requests, mut stale) = (0, 0);
    for client in clients {
        let (r, s) = client.await.unwrap();
        (requests, stale) = (requests + r, stale + s);
    }
    took.sort();
    println!(
        "{requests} requests over 1000 switches: 0 failed, {stale} stale; a switch took {:?} in the median",
        took[500]
    );
    assert_eq!(stale, 0);
    assert!(requests > 1_000, "the clients did not get through: {requests}");
}

#[tokio::test]
async fn a_switch_to_a_dead_target_is_refused_unless_forced() {
    let (green, mut blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    blue.stop().await;
    let before = proxy.service("web").await["generation"].clone();
    let refused = proxy.call("POST", "/api/services/web/switch", Some(json!({ "to": "blue" }))).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains(&blue.address().to_string()), "{}", refused.text());
    assert_eq!(proxy.service("web").await["stable"], "green");
    let forced = proxy.done("POST", "/api/services/web/switch", Some(json!({ "to": "blue", "force": true }))).await;
    assert_eq!(forced["previous"], "green");
    assert!(forced["generation"].as_u64() > before.as_u64());
}

#[tokio::test]
async fn a_request_in_flight_finishes_on_the_target_where_it_began() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    green.set(tidegate_e2e::Behaviour::Slow(Duration::from_millis(700)));
    let address = proxy.public();
    let running = tokio::spawn(async move { tidegate_e2e::get(address, "/").await.unwrap().text() });
    tidegate_e2e::until("the request is at green", || async { (green.count() > 0).then_some(()) }).await;
    proxy.done("POST", "/api/services/web/switch", Some(json!({ "to": "blue" }))).await;
    assert_eq!(tidegate_e2e::get(proxy.public(), "/").await.unwrap().text(), "blue");
    assert_eq!(running.await.unwrap(), "green");
}
