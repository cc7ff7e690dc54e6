//! Taking a deployment back, whatever it is doing: the traffic comes first.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_e2e::{Behaviour, Crowd, Origin, Tidegate, until};

use super::{HEALTH, document, shares};

/// Commands that a deployment waits for: one that goes on, and one that says "not yet".
fn config(blue: &Origin, green: &Origin, dir: &std::path::Path) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let script = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("[hook.{name}]\nargv = [{path:?}]\n")
    };
    // `exec`, so that the process is gone as soon as it is asked to go.
    let long = script("long", "#!/bin/sh\nexec sleep 600\n");
    let not_yet = script("not-yet", "#!/bin/sh\nexit 75\n");
    format!(
        "{long}{not_yet}[service.web]\nstable = \"blue\"\n{HEALTH}\n[service.web.target.blue]\nendpoints = [\"{}\"]\n\
         [service.web.target.green]\nendpoints = [\"{}\"]\n",
        blue.address(),
        green.address()
    )
}

async fn rolled_back(proxy: &Tidegate, id: &str, what: &str) -> Value {
    let asked = Instant::now();
    proxy.order(id, "rollback").await;
    until("blue has all traffic", || async { (proxy.service("web").await["split"]["blue"] == 100.0).then_some(()) })
        .await;
    let restored = asked.elapsed();
    let over = proxy.reaches(id, "rolled-back").await;
    println!(
        "ms: {what}: traffic back after {} ms, over after {} ms",
        restored.as_millis(),
        asked.elapsed().as_millis()
    );
    over
}

#[tokio::test]
async fn a_rollback_in_whatever_it_does_brings_the_traffic_back_first() {
    let (blue, green) = (Origin::start("blue").await, Origin::start("green").await);
    let dir = tempfile::TempDir::new().unwrap();
    let proxy = Tidegate::start(&config(&blue, &green, dir.path())).await;
    let crowd = Crowd::start(proxy.public(), 4);
    // What it does, what it shows meanwhile, and the step that it stands at.
    let doings = [
        (json!({ "analyse": "60s" }), "running", "analyse"),
        (json!({ "pause": "60s" }), "running", "pause"),
        (json!({ "pause": "manual" }), "paused", "pause"),
        (json!({ "gate": "not-yet", "deadline": "60s" }), "running", "pause"),
        (json!({ "gate": "long", "deadline": "60s" }), "running", "pause"),
        (json!({ "hook": "long" }), "running", "hook"),
    ];
    for (doing, state, step) in doings {
        let what = doing.to_string();
        let steps = json!([{ "set": 30 }, doing, { "set": 100 }]);
        let id = proxy.deploy(document("custom", json!({ "to": "green", "step": steps }))).await;
        let stands = |deployment: &Value| deployment["state"] == state && deployment["step"]["name"] == step;
        proxy.becomes(&id, &what, stands).await;
        let over = rolled_back(&proxy, &id, &what).await;
        assert_eq!((&over["why"]["kind"], &over["troubles"]), (&json!("operator"), &json!([])), "{what}");
        assert_eq!(over["traffic"]["web"], json!({ "blue": 100 }), "{what}");
    }
    let outcomes = crowd.stop().await;
    assert_eq!(outcomes.failed(), 0);
    assert!(outcomes.of("green") > 0, "{outcomes:?}");
}

#[tokio::test]
async fn a_rollback_while_the_new_version_is_checked_or_the_old_one_drained_leaves_no_traffic_behind() {
    let (blue, green) = (Origin::start("blue").await, Origin::start("green").await);
    let dir = tempfile::TempDir::new().unwrap();
    let proxy = Tidegate::start(&config(&blue, &green, dir.path())).await;
    green.set(Behaviour::Status(503));
    let unready = json!({ "to": "green", "health_check_path": "/ready", "health_timeout": "60s" });
    let id = proxy.deploy(document("canary", unready)).await;
    proxy.does(&id, "verify").await;
    rolled_back(&proxy, &id, "verify").await;
    assert_eq!(shares(&proxy, "green").await, [0.0; 0], "it never got traffic");
    green.set(Behaviour::Ok);

    // A request runs on blue for so long that its drain does not end.
    blue.set(Behaviour::Slow(Duration::from_secs(30)));
    let before = blue.count();
    let public = proxy.public();
    let slow = tokio::spawn(async move { tidegate_e2e::get(public, "/slow").await });
    until("blue has the slow request", || async { (blue.count() > before).then_some(()) }).await;
    blue.set(Behaviour::Ok);
    let crowd = Crowd::start(proxy.public(), 4);
    let drained = json!({ "to": "green", "watch": "0s", "keep_old": false, "drain_timeout": "60s" });
    let id = proxy.deploy(document("blue-green", drained)).await;
    proxy.does(&id, "drain").await;
    rolled_back(&proxy, &id, "drain").await;
    let before = crowd.so_far();
    crowd.more(40).await;
    let outcomes = crowd.stop().await;
    assert_eq!((outcomes.since(&before).of("green"), outcomes.failed()), (0, 0));
    assert!(!slow.is_finished(), "what ran on blue was not cut");
    slow.abort();
}

#[tokio::test]
async fn a_success_can_be_taken_back_until_the_next_deployment_begins() {
    let (blue, green) = (Origin::start("blue").await, Origin::start("green").await);
    let dir = tempfile::TempDir::new().unwrap();
    let proxy = Tidegate::start(&config(&blue, &green, dir.path())).await;
    let crowd = Crowd::start(proxy.public(), 4);
    let to = |to: &str| document("blue-green", json!({ "to": to, "watch": "0s" }));
    let first = proxy.deploy(to("green")).await;
    proxy.reaches(&first, "succeeded").await;
    let over = rolled_back(&proxy, &first, "after success").await;
    assert_eq!(over["successful"], false, "{over:#}");
    let again = proxy.call("POST", &format!("/api/deployments/{first}/rollback"), None).await;
    assert_eq!(again.status, 409, "{}", again.text());

    let second = proxy.deploy(to("green")).await;
    proxy.reaches(&second, "succeeded").await;
    let third = proxy.deploy(to("blue")).await;
    proxy.reaches(&third, "succeeded").await;
    let late = proxy.call("POST", &format!("/api/deployments/{second}/rollback"), None).await;
    assert_eq!(late.status, 409, "{}", late.text());
    assert!(late.text().contains("another deployment"), "{}", late.text());
    assert_eq!(proxy.service("web").await["stable"], "blue");
    assert_eq!(crowd.stop().await.failed(), 0);
}

#[tokio::test]
async fn a_deployment_goes_on_over_an_upgrade_of_the_proxy_and_no_request_fails() {
    let (blue, green) = (Origin::start_counting("blue").await, Origin::start_counting("green").await);
    let dir = tempfile::TempDir::new().unwrap();
    let mut proxy = Tidegate::start(&config(&blue, &green, dir.path())).await;
    let crowd = Crowd::start(proxy.public(), 4);
    let analyse = json!({ "min_requests": 20, "alpha": 1e-6, "on_inconclusive": "extend" });
    let canary = json!({ "to": "green", "steps": [20, 60, 100], "interval": "1s", "analyse": analyse });
    let id = proxy.deploy(document("canary", canary)).await;
    proxy.does(&id, "analyse").await;
    crowd.more(20).await;
    proxy.upgrade().await;
    let over = proxy.reaches(&id, "succeeded").await;
    assert_eq!(over["traffic"]["web"], json!({ "green": 100 }), "{over:#}");
    assert!(proxy.happened(&id).await.iter().any(|entry| entry["type"] == "recovered"));
    let before = crowd.so_far();
    crowd.more(30).await;
    let outcomes = crowd.stop().await;
    // An idle connection may be closed by the process that ends while a request is on its way.
    let failed = outcomes.count(|_, status| status != 200 && status != 0);
    assert_eq!((failed, outcomes.since(&before).of("blue")), (0, 0));
}

#[tokio::test]
async fn a_newer_deployment_that_supersedes_begins_when_the_older_one_is_taken_back() {
    let (blue, green) = (Origin::start("blue").await, Origin::start("green").await);
    let dir = tempfile::TempDir::new().unwrap();
    let proxy = Tidegate::start(&config(&blue, &green, dir.path())).await;
    let crowd = Crowd::start(proxy.public(), 3);
    let canary = |more: Value| {
        let mut document = document("canary", json!({ "to": "green", "steps": [20], "interval": "60s" }));
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    let first = proxy.deploy(canary(json!({ "version": "2" }))).await;
    proxy.does(&first, "analyse").await;
    let second = proxy.deploy(canary(json!({ "version": "3", "supersede": true }))).await;
    proxy.reaches(&first, "rolled-back").await;
    proxy.does(&second, "analyse").await;
    assert_eq!(shares(&proxy, "green").await, [20.0, 0.0, 20.0]);

    // And a person steers it: it pauses, goes on, passes over a step, and is promoted to its end.
    proxy.order(&second, "pause").await;
    proxy.reaches(&second, "paused").await;
    proxy.order(&second, "resume").await;
    proxy.does(&second, "analyse").await;
    proxy.done("POST", &format!("/api/deployments/{second}/promote"), Some(json!({ "full": true }))).await;
    proxy.reaches(&second, "succeeded").await;
    assert_eq!(proxy.service("web").await["stable"], "green");
    assert_eq!(crowd.stop().await.failed(), 0);
}
