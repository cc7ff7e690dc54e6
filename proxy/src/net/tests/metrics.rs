//! What a scrape shows of requests that were made.

use super::*;
use crate::observe::{families::Family, metrics::Metrics};

#[tokio::test]
async fn a_scrape_shows_what_was_counted() {
    let blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "routes = [{ host = \"*\", path = \"/here\" }]");
    let mut client = proxy.client().await;
    for path in ["/here", "/here/too", "/elsewhere"] {
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        client.answer().await;
    }
    let source = || {
        let mut family = Family::counter("config_reloads_total", "Reloads.");
        family.add_count(&[("result", "accepted")], 3);
        vec![family]
    };
    let metrics = Metrics::new(Arc::clone(&proxy.shared), vec![Box::new(source)]);
    let endpoint =
        format!("tidegate_endpoint_healthy{{endpoint=\"{}\",service=\"web\",target=\"blue\"}} 1", blue.address);
    let wanted = [
        "tidegate_requests_total{code_class=\"2xx\",lane=\"pingora\",service=\"web\",target=\"blue\"} 2",
        "tidegate_request_duration_seconds_count{service=\"web\",target=\"blue\"} 2",
        "tidegate_request_duration_seconds_bucket{service=\"web\",target=\"blue\",le=\"60\"} 2",
        "tidegate_upstream_attempts_total{result=\"ok\",service=\"web\",target=\"blue\"} 2",
        "tidegate_in_flight{service=\"web\",target=\"blue\"} 0",
        "tidegate_split_weight{service=\"web\",target=\"blue\"} 1",
        "tidegate_rejects_total{reason=\"no_route\"} 1",
        "tidegate_connections{listener=\"public\",state=\"idle\"} 1",
        "tidegate_connections_accepted_total{listener=\"public\"} 1",
        "tidegate_config_generation 1",
        "tidegate_config_reloads_total{result=\"accepted\"} 3",
        &endpoint,
    ];
    eventually(|| metrics.render().contains("state=\"idle\"} 1")).await;
    let text = metrics.render();
    for line in wanted {
        let sorted = |line: &str| {
            let mut bytes: Vec<_> = line.split([',', '{', '}']).map(str::to_owned).collect();
            bytes.sort_unstable();
            bytes
        };
        assert!(text.lines().any(|shown| sorted(shown) == sorted(line)), "{line} is not in\n{text}");
    }
}
