//! Who answers: exact counts without stickiness, faithful visitors with it.

use std::collections::HashMap;

use serde_json::json;
use tidegate_e2e::{Client, Origin, Sent, Tidegate};

/// A service `web` with stable `green` and `blue`, and whatever `extra` adds to it.
pub(crate) fn blue_green(green: &Origin, blue: &Origin, extra: &str) -> String {
    format!(
        r#"
[service.web]
stable = "green"
health = {{ path = "/health", interval = "1s", timeout = "500ms", fall = 2, rise = 2 }}
{extra}
[service.web.target.green]
endpoints = ["{}"]
[service.web.target.blue]
endpoints = ["{}"]
"#,
        green.address(),
        blue.address()
    )
}

async fn count(client: &mut Client, requests: usize) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for _ in 0..requests {
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.status, 200);
        *counts.entry(answer.text()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_90_10_split_is_exact_over_10_000_requests_of_one_connection() {
    let (green, blue) = (Origin::start_counting("green").await, Origin::start_counting("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "split = { green = 90, blue = 10 }")).await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let counts = count(&mut client, 10_000).await;
    assert_eq!(counts, HashMap::from([("green".into(), 9_000), ("blue".into(), 1_000)]));
}

#[tokio::test]
async fn one_percent_is_100_of_10_000_and_never_two_in_a_row() {
    let (green, blue) = (Origin::start_counting("green").await, Origin::start_counting("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "split = { green = 99, blue = 1 }")).await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let (mut blues, mut before) = (0, false);
    for _ in 0..10_000 {
        let now = client.get("/").await.unwrap().text() == "blue";
        assert!(!(now && before), "blue came twice in a row");
        blues += usize::from(now);
        before = now;
    }
    assert_eq!(blues, 100);
}

#[tokio::test]
async fn the_finest_share_is_one_in_10_000() {
    let (green, blue) = (Origin::start_counting("green").await, Origin::start_counting("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "split = { green = 99.99, blue = 0.01 }")).await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    assert_eq!(count(&mut client, 10_000).await["blue"], 1);
}

#[tokio::test]
async fn growing_a_sticky_canary_only_moves_visitors_into_it() {
    let (green, blue) = (Origin::start_counting("green").await, Origin::start_counting("blue").await);
    let extra = "split = { green = 95, blue = 5 }\nsticky = { header = \"x-user\" }";
    let proxy = Tidegate::start(&blue_green(&green, &blue, extra)).await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let visitors: Vec<Sent> = (0..2_000).map(|n| Sent::new("GET", "/").field("x-user", format!("user-{n}"))).collect();
    let mut before = vec![false; visitors.len()];
    for share in [5, 25, 50] {
        proxy.done("PUT", "/api/services/web/split", Some(json!({ "green": 100 - share, "blue": share }))).await;
        let mut moved = 0;
        for (visitor, was_blue) in visitors.iter().zip(&mut before) {
            let is_blue = client.send(visitor).await.unwrap().text() == "blue";
            assert!(is_blue || !*was_blue, "a visitor left the canary at {share} %");
            assert_eq!(client.send(visitor).await.unwrap().text() == "blue", is_blue, "a visitor changed sides");
            *was_blue = is_blue;
            moved += usize::from(is_blue);
        }
        // Five standard deviations of a binomial count: the hash is fixed, so this never flickers.
        let expected = 2_000.0 * f64::from(share) / 100.0;
        let deviation = (expected * (1.0 - f64::from(share) / 100.0)).sqrt();
        assert!((moved as f64 - expected).abs() < 5.0 * deviation, "{moved} of 2000 at {share} %");
    }
}

#[tokio::test]
async fn a_visitor_without_a_key_gets_a_cookie_and_stays() {
    let (green, blue) = (Origin::start_counting("green").await, Origin::start_counting("blue").await);
    let extra = "split = { green = 50, blue = 50 }\nsticky = { cookie = \"tidegate\" }";
    let proxy = Tidegate::start(&blue_green(&green, &blue, extra)).await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let mut seen = HashMap::new();
    for _ in 0..40 {
        let first = client.get("/").await.unwrap();
        let cookie = first.field("set-cookie").expect("a cookie for a new visitor").to_owned();
        assert!(cookie.contains("HttpOnly") && cookie.contains("Max-Age="), "{cookie}");
        let pair = cookie.split(';').next().unwrap().to_owned();
        assert!(!pair.contains("green") && !pair.contains("blue"), "the cookie names a target: {pair}");
        for _ in 0..5 {
            let again = client.send(&Sent::new("GET", "/").field("cookie", &pair)).await.unwrap();
            assert_eq!(again.text(), first.text());
            assert_eq!(again.field("set-cookie"), None, "a known visitor needs no cookie");
        }
        *seen.entry(first.text()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "40 visitors at 50 % all went one way: {seen:?}");
}

#[tokio::test]
async fn rules_pin_before_the_split() {
    let (green, blue) = (Origin::start_counting("green").await, Origin::start_counting("blue").await);
    let services = format!(
        "{}\n[[service.web.rule]]\nwhen = {{ header = {{ x-beta = \"1\" }} }}\nto = \"blue\"\n",
        blue_green(&green, &blue, "")
    );
    let proxy = Tidegate::start(&services).await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().text(), "green");
    assert_eq!(client.send(&Sent::new("GET", "/").field("X-Beta", "1")).await.unwrap().text(), "blue");
    assert_eq!(client.send(&Sent::new("GET", "/").field("X-Beta", "2")).await.unwrap().text(), "green");
}
