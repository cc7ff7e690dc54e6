//! What clients see when endpoints and targets fail, and how a service comes back.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_e2e::{Behaviour, Client, Origin, Sent, Tidegate, get, takes_at_most, until};

use crate::splitting::blue_green;

async fn failover(proxy: &Tidegate) -> Value {
    proxy.service("web").await["failover"]["active"].clone()
}

/// GETs on one connection until `end`; how many failed.
async fn gets(proxy: &Tidegate, end: Instant) -> (usize, usize) {
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let (mut total, mut failed) = (0, 0);
    while Instant::now() < end {
        total += 1;
        match client.get("/").await {
            Ok(answer) if answer.status == 200 => {}
            _ => {
                failed += 1;
                client = Client::connect(proxy.public()).await.unwrap();
            }
        }
    }
    (total, failed)
}

fn with_two_endpoints(first: &Origin, second: &Origin) -> String {
    format!(
        r#"
[service.web]
stable = "green"
health = {{ path = "/health", interval = "1s", timeout = "500ms", fall = 2, rise = 2 }}
timeouts = {{ connect = "500ms", response = "1s" }}
[service.web.target.green]
endpoints = ["{}", "{}"]
"#,
        first.address(),
        second.address()
    )
}

#[tokio::test]
async fn refusal_of_a_whole_target_costs_no_get_and_fails_over_without_a_check() {
    let (mut green, blue) = (Origin::start_counting("green").await, Origin::start_counting("blue").await);
    // No check comes in this test's time but the first: only the refused connections can tell.
    let config = blue_green(&green, &blue, "failover = { to = \"blue\" }");
    let proxy = Tidegate::start(&config.replace("interval = \"1s\"", "interval = \"1m\"")).await;
    let end = Instant::now() + Duration::from_secs(3);
    let load = async { tokio::join!(gets(&proxy, end), gets(&proxy, end), gets(&proxy, end)) };
    let fault = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        green.stop().await;
        let died = Instant::now();
        until("the service moved", || async { (failover(&proxy).await["to"] == "blue").then_some(()) }).await;
        died.elapsed()
    };
    let ((a, b, c), took) = tokio::join!(load, fault);
    println!("moved {took:?} after the loss; {} requests", a.0 + b.0 + c.0);
    assert_eq!((a.1, b.1, c.1), (0, 0, 0), "failed of {:?}", (a.0, b.0, c.0));
}

/// From the loss of the target of an idle service to its move, with a check a second.
async fn idle_service_moves() -> Duration {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "failover = { to = \"blue\" }")).await;
    green.stop().await;
    let died = Instant::now();
    until("the service moved", || async { (failover(&proxy).await["to"] == "blue").then_some(()) }).await;
    let took = died.elapsed();
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "blue");
    took
}

#[tokio::test]
async fn an_idle_service_moves_within_interval_and_a_second() {
    // The interval is spread by 10 %; the rest is this test's own slack.
    takes_at_most(Duration::from_millis(2_200), "the move of an idle service", idle_service_moves).await;
}

#[tokio::test]
async fn a_manual_failover_stays_until_it_is_restored() {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy =
        Tidegate::start(&blue_green(&green, &blue, "failover = { to = \"blue\", failback = \"manual\" }")).await;
    green.stop().await;
    until("the service moved", || async { (failover(&proxy).await["to"] == "blue").then_some(()) }).await;
    green.revive().await;
    until("green is healthy again", || async {
        let service = proxy.service("web").await;
        let green = service["targets"].as_array()?.iter().find(|t| t["name"] == "green")?.clone();
        (green["endpoints"][0]["health"] == "healthy").then_some(())
    })
    .await;
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "blue", "a manual failover came back by itself");
    proxy.done("POST", "/api/services/web/restore", None).await;
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "green");
    assert_eq!(proxy.service("web").await["split"], json!({ "green": 100 }), "a failover never rewrites the split");
}

async fn target_after_a_failover_and_kill(failback: &str) -> String {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let policy = format!("failover = {{ to = \"blue\", failback = \"{failback}\" }}");
    let mut proxy = Tidegate::start(&blue_green(&green, &blue, &policy)).await;
    green.stop().await;
    until("the service moved", || async { (failover(&proxy).await["to"] == "blue").then_some(()) }).await;
    if failback == "manual" {
        // A move in an emergency is published before it is saved, and nobody was promised that it is saved already.
        let saved = || async { std::fs::read_to_string(proxy.dir().join("state/state.json")).ok() };
        until("the move is saved", || async { saved().await.filter(|text| text.contains("overlay")) }).await;
    }
    green.revive().await;
    proxy.kill_and_restart().await;
    get(proxy.public(), "/").await.unwrap().text()
}

#[tokio::test]
async fn a_restart_forgets_a_failover_of_mode_restart() {
    assert_eq!(target_after_a_failover_and_kill("restart").await, "green");
}

#[tokio::test]
async fn a_restart_keeps_a_manual_failover() {
    assert_eq!(target_after_a_failover_and_kill("manual").await, "blue");
}

#[tokio::test]
async fn one_refusing_endpoint_of_two_costs_nothing() {
    let (mut first, second) = (Origin::start_counting("first").await, Origin::start_counting("second").await);
    let proxy = Tidegate::start(&with_two_endpoints(&first, &second)).await;
    first.stop().await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    for method in ["GET", "POST", "PATCH"] {
        for _ in 0..30 {
            // Nothing was sent to the endpoint that refuses, so even a POST goes on to the other one.
            let answer = client.send(&Sent::new(method, "/").body("x")).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "second"), "{method}");
        }
    }
}

#[tokio::test]
async fn one_resetting_endpoint_of_two_costs_no_get_and_doubles_no_post() {
    let (first, second) = (Origin::start("first").await, Origin::start("second").await);
    let proxy = Tidegate::start(&with_two_endpoints(&first, &second)).await;
    first.set(Behaviour::Reset);
    first.set_health(Behaviour::Reset);
    let mut posts = 0;
    for n in 0..20 {
        assert_eq!(get(proxy.public(), "/").await.unwrap().status, 200);
        let post = Sent::new("POST", "/").field("x-id", format!("post-{n}")).body("x");
        let answer = tidegate_e2e::client::once(proxy.public(), &post).await.unwrap();
        assert!(matches!(answer.status, 200 | 502), "{}", answer.status);
        posts += usize::from(answer.status == 200);
    }
    let ids = |origin: &Origin| -> Vec<String> {
        let seen = origin.seen().into_iter().filter(|s| s.method() == "POST");
        seen.map(|s| s.head.field("x-id").unwrap().to_owned()).collect()
    };
    let mut all = [ids(&first), ids(&second)].concat();
    let sent = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), sent, "a POST was sent twice");
    assert!(posts >= 15, "the resetting endpoint stayed in use: {posts} of 20 POSTs got through");
}

#[tokio::test]
async fn one_hanging_endpoint_of_two_is_left_and_gets_are_answered() {
    let (first, second) = (Origin::start("first").await, Origin::start("second").await);
    let proxy = Tidegate::start(&with_two_endpoints(&first, &second)).await;
    first.set(Behaviour::Hang);
    first.set_health(Behaviour::Hang);
    let begun = Instant::now();
    let mut slow = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        let one = Instant::now();
        let answer = get(proxy.public(), "/").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "second"));
        slow += usize::from(one.elapsed() > Duration::from_millis(800));
    }
    assert!(slow <= 4, "{slow} requests waited for the endpoint that hangs");
}

#[tokio::test]
async fn an_endpoint_that_answers_500_is_taken_out_by_its_probes() {
    let (first, second) = (Origin::start_counting("first").await, Origin::start_counting("second").await);
    let proxy = Tidegate::start(&with_two_endpoints(&first, &second)).await;
    first.set(Behaviour::Status(500));
    first.set_health(Behaviour::Status(500));
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut good_in_a_row = 0;
    while good_in_a_row < 20 {
        assert!(Instant::now() < deadline, "the failing endpoint stays in use");
        let status = client.get("/").await.unwrap().status;
        good_in_a_row = if status == 200 { good_in_a_row + 1 } else { 0 };
    }
    until("it is known to be unhealthy", || async {
        let service = proxy.service("web").await;
        (service["targets"][0]["endpoints"][0]["health"] == "unhealthy").then_some(())
    })
    .await;
}

/// With every target down, requests are refused at once; the time from the return of one to the first answer.
async fn everything_down_comes_back() -> Duration {
    let (mut green, mut blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "failover = { to = \"blue\" }")).await;
    green.stop().await;
    blue.stop().await;
    let answer =
        until("the proxy knows", || async { get(proxy.public(), "/").await.ok().filter(|a| a.status == 503) }).await;
    assert!(answer.field("retry-after").is_some(), "a 503 says when to come again");
    // A busy machine makes some of them late, but not all.
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(get(proxy.public(), "/").await.unwrap().status, 503);
        quickest = quickest.min(begun.elapsed());
    }
    assert!(quickest < Duration::from_millis(200), "503 took {quickest:?}");
    green.revive().await;
    let back = Instant::now();
    until("traffic flows again", || async { get(proxy.public(), "/").await.ok().filter(|a| a.status == 200) }).await;
    back.elapsed()
}

#[tokio::test]
async fn everything_down_is_503_at_once_and_back_within_two_seconds() {
    takes_at_most(Duration::from_millis(2_200), "the return of a service", everything_down_comes_back).await;
}

#[tokio::test]
async fn an_alternating_endpoint_does_not_flap() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let policy = "failover = { to = \"blue\", failback = \"auto\" }";
    let proxy = Tidegate::start(&blue_green(&green, &blue, policy)).await;
    green.set_health(Behaviour::Alternate);
    let probes = green.probes();
    until("green was probed eight times", || async { (green.probes() >= probes + 8).then_some(()) }).await;
    let events = proxy.done("GET", "/api/events", None).await.to_string();
    assert!(!events.contains("traffic.failover"), "{events}");
}

#[tokio::test]
async fn a_truncated_answer_is_never_ended_cleanly() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    green.set(Behaviour::Truncate);
    assert!(get(proxy.public(), "/").await.is_err(), "a cut body looked complete");
}

#[tokio::test]
async fn slow_is_504_and_nonsense_is_502() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let extra = "timeouts = { connect = \"300ms\", response = \"300ms\" }\nretry = { attempts = 0 }";
    let proxy = Tidegate::start(&blue_green(&green, &blue, extra)).await;
    green.set(Behaviour::Hang);
    assert_eq!(get(proxy.public(), "/").await.unwrap().status, 504);
    green.set(Behaviour::Garbage);
    assert_eq!(get(proxy.public(), "/").await.unwrap().status, 502);
}
