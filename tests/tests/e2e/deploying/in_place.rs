//! Strategies that stop the old version before they start the new one: what clients see meanwhile, and how a bad version
//! is remembered.

use serde_json::{Value, json};
use tidegate_e2e::{Crowd, Outcomes, Programs, Tidegate, until};

use super::{HEALTH, document, kinds, programs};

/// A service of one target, in which v1 was deployed.
async fn deployed(programs: &Programs, health: &str) -> Tidegate {
    let target = programs.place("web", "main", 1).await;
    let proxy = Tidegate::start(&format!("[service.web]\n{health}\n{}{target}", programs.commands())).await;
    let id = proxy.deploy(document("recreate", json!({ "version": "v1" }))).await;
    proxy.reaches(&id, "succeeded").await;
    // Nobody knows what runs there before the first deployment; a stop of nothing does no harm.
    assert_eq!(programs.calls(), ["stop web main all main", "start web main all v1"]);
    proxy
}

/// Whether nothing was answered but success, and "come back later" by the proxy itself.
fn only_held(outcomes: &Outcomes) -> bool {
    outcomes.count(|origin, status| status == 200 || (origin.is_empty() && status == 503)) == outcomes.total()
}

#[tokio::test]
async fn simple_holds_requests_in_its_downtime_and_fails_none_otherwise() {
    let programs = programs();
    programs.slow(40);
    let proxy = deployed(&programs, HEALTH).await;
    let crowd = Crowd::start(proxy.public(), 6);
    crowd.more(20).await;
    let id = proxy.deploy(document("simple", json!({ "version": "v2" }))).await;
    proxy.reaches(&id, "succeeded").await;
    let done = crowd.so_far();
    // Nobody checked whether it is healthy: the proxy's own check may still have to find out.
    until("v2 answers", || async { (crowd.so_far().of("v2") > 20).then_some(()) }).await;
    let outcomes = crowd.stop().await;
    assert!(only_held(&outcomes), "{outcomes:?}");
    assert_eq!(outcomes.since(&done).of("v1"), 0);
    assert_eq!(programs.calls()[2..], ["stop web main all v1", "start web main all v2"]);
}

#[tokio::test]
async fn a_bad_version_is_marked_the_good_one_comes_back_once_and_the_bad_one_is_refused() {
    let programs = programs();
    let proxy = deployed(&programs, HEALTH).await;
    let crowd = Crowd::start(proxy.public(), 4);
    let bad = |more: Value| {
        let mut document = document("recreate", json!({ "version": "bad-2", "health_timeout": "1500ms" }));
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    let once = ["stop web main all v1", "start web main all bad-2", "stop web main all bad-2", "start web main all v1"];
    let id = proxy.deploy(bad(json!({}))).await;
    let over = proxy.reaches(&id, "rolled-back").await;
    assert_eq!(over["why"]["kind"], "health", "{over:#}");
    assert!(kinds(&proxy.happened(&id).await).contains(&"version_bad"));
    assert_eq!(programs.calls()[2..], once, "the good version is started once");

    let refused = proxy.call("POST", "/api/deployments?execute=true", Some(bad(json!({})))).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("bad-2") && refused.text().contains("force"), "{}", refused.text());
    let unreasoned = proxy.call("POST", "/api/deployments", Some(bad(json!({ "force": true })))).await;
    assert_eq!(unreasoned.status, 422, "{}", unreasoned.text());
    assert_eq!(programs.calls().len(), 2 + once.len(), "a refusal starts nothing");

    let id = proxy.deploy(bad(json!({ "force": "the cause was the network" }))).await;
    proxy.reaches(&id, "rolled-back").await;
    assert_eq!(programs.calls()[6..], once);

    let bad_mark = "/api/services/web/versions/bad-2/bad";
    proxy.done("DELETE", bad_mark, None).await;
    assert_eq!(proxy.call("DELETE", bad_mark, None).await.status, 409, "it is not marked any more");
    let id = proxy.deploy(bad(json!({}))).await;
    proxy.reaches(&id, "rolled-back").await;
    assert_eq!(programs.calls()[10..], once);
    let outcomes = crowd.stop().await;
    assert!(only_held(&outcomes), "{outcomes:?}");
}

#[tokio::test]
async fn a_good_version_that_does_not_come_back_is_stopped_and_nothing_is_tried_again() {
    let programs = programs();
    let proxy = deployed(&programs, HEALTH).await;
    let start = std::fs::read_to_string(programs.path("start")).unwrap();
    programs.script("start", &start.replace("bad*)", "bad*|v1)"));
    let document = document("recreate", json!({ "version": "bad-2", "health_timeout": "1500ms" }));
    let id = proxy.deploy(document).await;
    let over = proxy.reaches(&id, "failed").await;
    assert_eq!(over["troubles"].as_array().map(Vec::len), Some(1), "{over:#}");
    let expected = [
        "stop web main all v1",
        "start web main all bad-2",
        "stop web main all bad-2",
        "start web main all v1",
        "stop web main all v1",
    ];
    assert_eq!(programs.calls()[2..], expected);
}

#[tokio::test]
async fn what_was_started_is_used_as_soon_as_it_is_well_however_seldom_it_is_probed() {
    let programs = programs();
    // The only probe of its own finds nothing there, before anything was deployed.
    let proxy = deployed(&programs, "health = { path = \"/health\", interval = \"1h\", fall = 1, rise = 1 }").await;
    let crowd = Crowd::start(proxy.public(), 3);
    until("v1 answers", || async { (crowd.so_far().of("v1") > 20).then_some(()) }).await;
    let id = proxy.deploy(document("simple", json!({ "version": "v2" }))).await;
    proxy.reaches(&id, "succeeded").await;
    until("v2 answers", || async { (crowd.so_far().of("v2") > 20).then_some(()) }).await;
    let outcomes = crowd.stop().await;
    assert!(only_held(&outcomes), "{outcomes:?}");
}
