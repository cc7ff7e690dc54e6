//! What survives: acknowledged changes over kill -9, requests over a shutdown.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::json;
use tidegate_e2e::{Behaviour, Client, Origin, Tidegate, get, tidegate::run, until};

use crate::splitting::blue_green;

#[tokio::test]
async fn an_acknowledged_change_survives_kill_9() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    let mut generation = 0;
    for round in 1..=8 {
        let split = json!({ "green": 100 - round, "blue": round });
        let answer = proxy.done("PUT", "/api/services/web/split", Some(split)).await;
        assert!(answer["generation"].as_u64().unwrap() > generation, "the generation fell over a restart");
        generation = answer["generation"].as_u64().unwrap();
        proxy.kill_and_restart().await;
        let service = proxy.service("web").await;
        assert_eq!(service["split"]["blue"].as_f64(), Some(f64::from(round)), "{service}");
    }
}

#[tokio::test]
async fn kill_9_amid_changes_leaves_the_last_acknowledged_or_the_one_under_way() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    for round in 0..6_u64 {
        let admin = proxy.admin();
        let writer = tokio::spawn(async move {
            let mut client = Client::connect(admin).await.unwrap();
            let mut acknowledged = None;
            for n in 1..=10_000_u64 {
                let share = n % 100;
                let body = json!({ "green": 100 - share, "blue": share }).to_string();
                let request = tidegate_e2e::Sent::new("PUT", "/api/services/web/split").body(body);
                match client.send(&request).await {
                    Ok(answer) if answer.status == 200 => acknowledged = Some(share),
                    _ => break,
                }
            }
            acknowledged
        });
        tokio::time::sleep(Duration::from_millis(50 + 37 * round)).await;
        proxy.kill_and_restart().await;
        let acknowledged = writer.await.unwrap().expect("some change was acknowledged");
        let blue = proxy.service("web").await["split"]["blue"].as_f64().unwrap_or(0.0) as u64;
        let next = (acknowledged + 1) % 100;
        assert!(blue == acknowledged || blue == next, "acknowledged {acknowledged}, found {blue}");
    }
}

#[tokio::test]
async fn a_file_edit_wins_over_the_saved_value_and_every_other_field_keeps_it() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&blue_green(&green, &blue, "split = { green = 90, blue = 10 }")).await;
    proxy.done("PUT", "/api/services/web/split", Some(json!({ "green": 40, "blue": 60 }))).await;
    proxy.kill_and_restart().await;
    assert_eq!(proxy.service("web").await["split"]["blue"], 60.0, "the file was not edited: the saved split stays");
    proxy.write_config(&proxy.read_config().replace("blue = 10", "blue = 20").replace("green = 90", "green = 80"));
    proxy.kill_and_restart().await;
    assert_eq!(proxy.service("web").await["split"]["blue"], 20.0, "the file was edited: it wins");
}

#[tokio::test]
async fn a_damaged_state_file_falls_back_to_the_previous_copy() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    for share in [10, 20] {
        proxy.done("PUT", "/api/services/web/split", Some(json!({ "green": 100 - share, "blue": share }))).await;
    }
    let path = proxy.dir().join("state/state.json");
    let whole = fs::read(&path).unwrap();
    proxy.signal(Signal::SIGKILL);
    proxy.ended(Duration::from_secs(5)).await;
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    proxy.restart().await;
    assert_eq!(proxy.service("web").await["split"]["blue"], 10.0, "the previous copy");
    assert!(proxy.log().contains("state.json"), "the damage is told:\n{}", proxy.log());
}

#[tokio::test]
async fn a_second_process_on_the_same_state_stops_and_says_why() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    let (code, _, stderr) = run(proxy.dir(), &["serve", "-c", "tidegate.toml"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("state"), "{stderr}");
    assert_eq!(get(proxy.admin(), "/healthz").await.unwrap().status, 200);
}

#[tokio::test]
async fn shutdown_is_immediate_when_idle_even_with_open_connections() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    let mut idle = Client::connect(proxy.public()).await.unwrap();
    idle.get("/").await.unwrap();
    let begun = Instant::now();
    proxy.signal(Signal::SIGTERM);
    let status = proxy.ended(Duration::from_secs(3)).await;
    assert_eq!(status.code(), Some(0), "{}", proxy.log());
    println!("down after {:?}", begun.elapsed());
}

/// Whether a client that connected right before a shutdown, and asked after it had begun, was answered.
async fn answered_after_shutdown() -> bool {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    let public = proxy.public();
    get(public, "/").await.unwrap();
    let mut newcomer = Client::connect(public).await.unwrap();
    // The proxy has taken that one in when it has answered a later one.
    get(public, "/").await.unwrap();
    proxy.signal(Signal::SIGTERM);
    until("nobody else gets in", || async { Client::connect(public).await.err() }).await;
    let answer = newcomer.get("/").await;
    assert_eq!(proxy.ended(Duration::from_secs(10)).await.code(), Some(0), "{}", proxy.log());
    answer.is_ok_and(|answer| answer.text() == "green" && answer.field("connection") == Some("close"))
}

#[tokio::test]
async fn a_client_that_has_just_connected_is_answered_after_shutdown() {
    let mut tries = 0;
    // It has a second, which a busy machine may take away from it.
    while !answered_after_shutdown().await {
        tries += 1;
        assert!(tries < 5, "a connection was taken in and closed unused");
    }
}

#[tokio::test]
async fn shutdown_lets_a_running_request_finish() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let mut proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    green.set(Behaviour::Slow(Duration::from_millis(800)));
    let address = proxy.public();
    let running = tokio::spawn(async move { get(address, "/").await });
    until("the request is at the origin", || async { (green.count() > 0).then_some(()) }).await;
    proxy.signal(Signal::SIGTERM);
    let answer = running.await.unwrap().expect("a running request was cut");
    assert_eq!((answer.status, answer.text().as_str()), (200, "green"));
    assert_eq!(proxy.ended(Duration::from_secs(3)).await.code(), Some(0));
}
