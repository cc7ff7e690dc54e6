//! A mirror can never slow, fail or change the answer of its request.

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_e2e::{Behaviour, Client, Origin, Seen, Sent, Tidegate, origin::refused_address, until};

fn mirrored(green: &Origin, shadow: &str, mirror: &str) -> String {
    format!(
        r#"
[service.web]
stable = "green"
health = {{ path = "/health", interval = "1s", timeout = "500ms", fall = 2, rise = 2 }}
[service.web.target.green]
endpoints = ["{}"]
[service.web.target.shadow]
endpoints = ["{shadow}"]
[service.web.mirror.copy]
to = "shadow"
{mirror}
"#,
        green.address()
    )
}

/// The copies that the shadow saw, once there are `n`.
async fn copies(shadow: &Origin, n: usize) -> Vec<Seen> {
    until(&format!("{n} copies arrived"), || async { (shadow.count() >= n).then(|| shadow.seen()) }).await
}

async fn start(mirror: &str) -> (Tidegate, Origin, Origin) {
    let (green, shadow) = (Origin::start("green").await, Origin::start("shadow").await);
    let proxy = Tidegate::start(&mirrored(&green, &shadow.address().to_string(), mirror)).await;
    (proxy, green, shadow)
}

#[tokio::test]
async fn the_copy_keeps_method_path_query_host_and_request_id_and_names_its_mirror() {
    let (proxy, green, shadow) = start("").await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let request = Sent::new("GET", "/a/b?c=d&e").field("host", "shop.example").field("x-custom", "1");
    assert_eq!(client.send(&request).await.unwrap().text(), "green");
    let copy = copies(&shadow, 1).await.remove(0);
    let primary = green.seen().remove(0);
    assert_eq!((copy.method(), copy.target()), ("GET", "/a/b?c=d&e"));
    assert_eq!(copy.head.field("host"), Some("shop.example"));
    assert_eq!(copy.head.field("x-custom"), Some("1"));
    assert_eq!(copy.head.field("x-tidegate-shadow"), Some("copy"));
    assert!(copy.head.field("x-request-id").is_some());
    assert_eq!(copy.head.field("x-request-id"), primary.head.field("x-request-id"));
    assert_eq!(primary.head.field("x-tidegate-shadow"), None);
}

#[tokio::test]
async fn bodies_arrive_equal_up_to_the_limit_and_longer_ones_are_counted() {
    let (proxy, green, shadow) = start("methods = [\"*\"]").await;
    let body = |n: usize| -> Vec<u8> { (0..n).map(|i| (i % 253) as u8).collect() };
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let mut sent = 0;
    for size in [0, 1, 10_000, 65_536] {
        for chunked in [false, true] {
            let request = Sent::new("POST", &format!("/{size}/{chunked}")).body(body(size));
            let request = if chunked { request.chunked() } else { request };
            assert_eq!(client.send(&request).await.unwrap().status, 200);
            sent += 1;
            let copy = copies(&shadow, sent).await.pop().unwrap();
            assert_eq!(copy.target(), format!("/{size}/{chunked}"));
            assert!(copy.body == body(size), "{size} bytes, chunked {chunked}: {} arrived", copy.body.len());
        }
    }
    for chunked in [false, true] {
        let request = Sent::new("POST", "/long").body(body(65_537));
        let request = if chunked { request.chunked() } else { request };
        assert_eq!(client.send(&request).await.unwrap().status, 200);
    }
    let longest = green.seen().into_iter().filter(|s| s.target() == "/long").all(|s| s.body == body(65_537));
    assert!(longest, "the primary's body changed");
    until("the long ones are counted", || async {
        let dropped = proxy
            .metric("tidegate_mirror_requests_total{service=\"web\",mirror=\"copy\",result=\"dropped_body\"}")
            .await;
        (dropped >= 2.0).then_some(())
    })
    .await;
    assert_eq!(shadow.count(), sent, "a body over the limit was mirrored");
}

#[tokio::test]
async fn writes_are_not_copied_by_default_and_heads_are() {
    let (proxy, _green, shadow) = start("").await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(client.send(&Sent::new(method, "/write").body("x")).await.unwrap().status, 200);
    }
    assert_eq!(client.send(&Sent::new("HEAD", "/head")).await.unwrap().status, 200);
    let copy = copies(&shadow, 1).await.remove(0);
    assert_eq!((copy.method(), copy.target()), ("HEAD", "/head"));
    assert_eq!(shadow.count(), 1);
}

#[tokio::test]
async fn headers_can_be_taken_off_and_set_on_the_copy() {
    let (proxy, green, shadow) =
        start("headers = { remove = [\"authorization\"], set = { x-env = \"shadow\" } }").await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    client.send(&Sent::new("GET", "/").field("authorization", "Basic c2VjcmV0")).await.unwrap();
    let copy = copies(&shadow, 1).await.remove(0);
    assert_eq!((copy.head.field("authorization"), copy.head.field("x-env")), (None, Some("shadow")));
    assert_eq!(green.seen()[0].head.field("authorization"), Some("Basic c2VjcmV0"));
}

#[tokio::test]
async fn a_copy_is_never_copied_again() {
    let (proxy, _green, shadow) = start("").await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    client.send(&Sent::new("GET", "/loop").field("x-tidegate-shadow", "copy")).await.unwrap();
    client.get("/once").await.unwrap();
    let seen = copies(&shadow, 1).await;
    assert_eq!(seen.iter().map(Seen::target).collect::<Vec<_>>(), ["/once"]);
}

#[derive(Debug, Clone, Copy)]
struct Latency {
    p50: Duration,
    p99: Duration,
}

async fn latency(proxy: &Tidegate, requests: usize) -> Latency {
    let mut client = Client::connect(proxy.public()).await.unwrap();
    let mut took = Vec::with_capacity(requests);
    for _ in 0..requests {
        let begun = Instant::now();
        let answer = client.get("/").await.expect("a mirror failed its request");
        assert_eq!((answer.status, answer.text().as_str()), (200, "green"));
        took.push(begun.elapsed());
    }
    took.sort();
    Latency { p50: took[requests / 2], p99: took[requests * 99 / 100] }
}

/// Primaries under a shadow that misbehaves: none fails, memory stays flat, and what was dropped is counted.
async fn misbehaving(behaviour: Option<Behaviour>) -> (Latency, String) {
    let (green, shadow) = (Origin::start_counting("green").await, Origin::start_counting("shadow").await);
    let address = if behaviour.is_some() { shadow.address() } else { refused_address().await };
    let services = mirrored(&green, &address.to_string(), "")
        .replace("[service.web]\n", "[service.web]\nretry = { attempts = 0 }\n");
    let proxy = Tidegate::start(&services).await;
    if let Some(behaviour) = behaviour {
        shadow.set(behaviour);
    }
    latency(&proxy, 500).await;
    let before = proxy.resident();
    let latency = latency(&proxy, 3_000).await;
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 32 << 20, "memory grew by {} KiB", grown / 1024);
    let metrics = proxy.metrics().await;
    let counted: Vec<_> = metrics.lines().filter(|l| l.starts_with("tidegate_mirror_requests_total")).collect();
    println!("p50 {:?}, p99 {:?}", latency.p50, latency.p99);
    (latency, counted.join("\n"))
}

fn count_of(metrics: &str, result: &str) -> f64 {
    let line = metrics.lines().find(|l| l.contains(&format!("result=\"{result}\"")));
    line.map_or(0.0, |l| l.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_slow_shadow_costs_nothing() {
    let (_, metrics) = misbehaving(Some(Behaviour::Slow(Duration::from_millis(300)))).await;
    assert!(count_of(&metrics, "dropped_requests") > 0.0, "64 copies at once were never reached:\n{metrics}");
}

#[tokio::test]
async fn a_hung_shadow_costs_nothing() {
    let (_, metrics) = misbehaving(Some(Behaviour::Hang)).await;
    assert!(count_of(&metrics, "dropped_requests") > 0.0, "{metrics}");
}

#[tokio::test]
async fn a_refusing_shadow_costs_nothing() {
    let (_, metrics) = misbehaving(None).await;
    assert!(count_of(&metrics, "unavailable") + count_of(&metrics, "error") > 3_000.0, "{metrics}");
}

#[tokio::test]
async fn a_resetting_shadow_costs_nothing() {
    let (_, metrics) = misbehaving(Some(Behaviour::Reset)).await;
    assert!(count_of(&metrics, "error") > 0.0, "{metrics}");
}

#[tokio::test]
async fn an_endless_shadow_costs_nothing() {
    let (_, metrics) = misbehaving(Some(Behaviour::Endless)).await;
    assert!(count_of(&metrics, "dropped_requests") > 0.0, "{metrics}");
}

#[tokio::test]
async fn mirrors_are_set_and_removed_by_the_admin_api() {
    let (proxy, _green, shadow) = start("").await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    proxy.done("DELETE", "/api/services/web/mirrors/copy", None).await;
    client.get("/unseen").await.unwrap();
    proxy.done("PUT", "/api/services/web/mirrors/second", Some(json!({ "to": "shadow", "percent": 100 }))).await;
    client.get("/seen").await.unwrap();
    let seen = copies(&shadow, 1).await;
    assert_eq!(seen.iter().map(Seen::target).collect::<Vec<_>>(), ["/seen"]);
    assert_eq!(seen[0].head.field("x-tidegate-shadow"), Some("second"));
}

#[tokio::test]
async fn a_share_of_ten_percent_is_ten_percent() {
    let (proxy, _green, shadow) = start("percent = 10").await;
    let mut client = Client::connect(proxy.public()).await.unwrap();
    for _ in 0..1_000 {
        client.get("/").await.unwrap();
    }
    let n = until("copies came to rest", || async { Some(shadow.count()) }).await;
    assert!((60..=140).contains(&copies(&shadow, n.max(60)).await.len()), "{}", shadow.count());
}
