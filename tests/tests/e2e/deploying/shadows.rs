//! Versions side by side: the first is main, each later one a shadow that gets copies; then they change places.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::{Crowd, Programs, Tidegate, until_within};

use super::{HEALTH, programs};

async fn service(programs: &Programs) -> Tidegate {
    let target = programs.place("sum", "one", 1).await;
    // The second has no place in the configuration: it brings its own.
    programs.place("sum", "two", 1).await;
    Tidegate::start(&format!("[service.sum]\n{HEALTH}\n{}{target}", programs.commands())).await
}

async fn deploy(proxy: &Tidegate, version: &str, more: Value) {
    let mut document = json!({ "version": version, "source": format!("sum:{version}"), "health_successes": 1 });
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = proxy.done("POST", "/api/services/sum/versions", Some(document)).await;
    proxy.reaches(answer["deployment"]["id"].as_str().unwrap(), "succeeded").await;
}

/// Main, and the targets of all versions.
async fn versions(proxy: &Tidegate) -> (Value, Vec<String>) {
    let view = proxy.done("GET", "/api/services/sum/versions", None).await;
    let running = view["versions"].as_array().unwrap().iter().filter(|version| !version["version"].is_null());
    (view["main"].clone(), running.map(|version| version["version"].as_str().unwrap().to_owned()).collect())
}

/// Copies of a mirror that were answered.
async fn copies(proxy: &Tidegate, mirror: &str) -> f64 {
    let metrics = proxy.metrics().await;
    let of = format!("mirror=\"{mirror}\"");
    let lines = metrics.lines().filter(|line| line.starts_with("tidegate_mirror_requests_total") && line.contains(&of));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

async fn gets_copies(proxy: &Tidegate, mirror: &str) {
    let before = copies(proxy, mirror).await;
    until_within(Duration::from_secs(20), "the shadow gets copies", || async {
        (copies(proxy, mirror).await > before + 5.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_first_version_is_main_later_ones_are_shadows_and_assign_swaps_them() {
    let programs = programs();
    let proxy = service(&programs).await;
    deploy(&proxy, "v1", json!({})).await;
    let crowd = Crowd::start(proxy.public(), 3);
    crowd.more(10).await;
    let two = programs.endpoints("sum", "two");
    deploy(&proxy, "v2", json!({ "to": "two", "endpoints": two })).await;
    assert_eq!(versions(&proxy).await, (json!("one"), vec!["v1".into(), "v2".into()]));
    gets_copies(&proxy, "two").await;
    assert_eq!(crowd.so_far().of("v1"), crowd.so_far().total(), "only main's answers are returned");

    // Main has a shadow: it may not go.
    let guarded = proxy.call("DELETE", "/api/services/sum/versions/v1", None).await;
    assert_eq!(guarded.status, 409, "{}", guarded.text());
    assert_eq!(programs.calls(), ["start sum one all v1", "start sum two all v2"]);

    proxy.done("PUT", "/api/services/sum/main", Some(json!({ "version": "v2" }))).await;
    let before = crowd.so_far();
    crowd.more(20).await;
    let after = crowd.so_far().since(&before);
    assert!(after.of("v1") <= 3, "those that were under way: {after:?}");
    gets_copies(&proxy, "one").await;
    // And back, for the old main was kept.
    proxy.done("PUT", "/api/services/sum/main", Some(json!({ "version": "v1" }))).await;
    proxy.done("PUT", "/api/services/sum/main", Some(json!({ "version": "v2" }))).await;

    proxy.done("DELETE", "/api/services/sum/versions/v1", None).await;
    assert_eq!(programs.calls()[2..], ["stop sum one all v1"]);
    assert_eq!(versions(&proxy).await, (json!("two"), vec!["v2".into()]));
    let before = crowd.so_far();
    crowd.more(20).await;
    let outcomes = crowd.stop().await;
    assert_eq!(outcomes.since(&before).of("v2"), outcomes.since(&before).total());
    assert_eq!(outcomes.failed(), 0);
    proxy.done("DELETE", "/api/services/sum", None).await;
    assert_eq!(programs.calls()[3..], ["stop sum two all v2"]);
    assert_eq!(versions(&proxy).await, (json!("two"), Vec::new()), "the answer comes when it is known");
}
