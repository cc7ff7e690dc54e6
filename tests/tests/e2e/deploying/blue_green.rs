//! Blue-green with real processes: a new version that dies while it is watched, and what is kept of the old one.

use std::time::Instant;

use serde_json::json;
use tidegate_e2e::{Crowd, Tidegate, until};

use super::{HEALTH, document, programs, shares};

#[tokio::test]
async fn a_green_that_dies_while_it_is_watched_gives_the_traffic_back_to_blue() {
    let programs = programs();
    let targets = [programs.place("web", "blue", 1).await, programs.place("web", "green", 1).await].concat();
    programs.run("web", "blue", "v1").await;
    let service = format!("[service.web]\nstable = \"blue\"\n{HEALTH}\n{}{targets}", programs.commands());
    let proxy = Tidegate::start(&service).await;
    let crowd = Crowd::start(proxy.public(), 6);
    let id = proxy.deploy(document("blue-green", json!({ "version": "v2", "watch": "60s" }))).await;
    proxy.does(&id, "analyse").await;
    crowd.more(50).await;
    let before = crowd.so_far();
    programs.kill("web", "green");
    let killed = Instant::now();
    let over = proxy.reaches(&id, "rolled-back").await;
    println!("rolled back {:?} after the kill", killed.elapsed());
    assert_eq!(over["why"]["kind"], "health", "{over:#}");
    assert_eq!(shares(&proxy, "green").await, [100.0, 0.0]);
    let back = crowd.so_far();
    crowd.more(100).await;
    let outcomes = crowd.stop().await;
    let (outage, after) = (back.since(&before), outcomes.since(&back));
    println!("{} of {} failed in the outage", outage.failed(), outage.total());
    assert_eq!(before.failed(), 0, "before the kill");
    assert_eq!((after.failed(), after.of("v1")), (0, after.total()), "after the rollback");
    assert_eq!(programs.calls(), ["start web green all v2", "stop web green all v2"], "blue was never touched");
}

#[tokio::test]
async fn the_old_version_runs_on_until_the_next_deployment_needs_its_place() {
    let programs = programs();
    let targets = [programs.place("web", "blue", 1).await, programs.place("web", "green", 1).await].concat();
    programs.run("web", "blue", "v1").await;
    let service = format!("[service.web]\nstable = \"blue\"\n{HEALTH}\n{}{targets}", programs.commands());
    let proxy = Tidegate::start(&service).await;
    let crowd = Crowd::start(proxy.public(), 4);
    let document = |version: &str| document("blue-green", json!({ "version": version, "watch": "300ms" }));
    let first = proxy.deploy(document("v2")).await;
    proxy.reaches(&first, "succeeded").await;
    assert_eq!(programs.calls(), ["start web green all v2"], "v1 is kept");
    let second = proxy.deploy(document("v3")).await;
    proxy.reaches(&second, "succeeded").await;
    assert_eq!(programs.calls()[1..], ["stop web blue all blue", "start web blue all v3"]);
    // The one before is warm: going back to it is a change of traffic, and the end of the new one.
    proxy.order(&second, "rollback").await;
    proxy.reaches(&second, "rolled-back").await;
    assert_eq!(programs.calls()[3..], ["stop web blue all v3"]);
    let before = crowd.so_far();
    crowd.more(50).await;
    let outcomes = crowd.stop().await;
    assert_eq!(outcomes.failed(), 0);
    assert_eq!(outcomes.since(&before).of("v2"), outcomes.since(&before).total());
}

#[tokio::test]
async fn an_old_version_that_is_kept_for_a_while_is_stopped_then_and_comes_back_for_a_rollback() {
    let programs = programs();
    let targets = [programs.place("web", "blue", 1).await, programs.place("web", "green", 1).await].concat();
    programs.run("web", "blue", "v1").await;
    let service = format!("[service.web]\nstable = \"blue\"\n{HEALTH}\n{}{targets}", programs.commands());
    let mut proxy = Tidegate::start(&service).await;
    let kept = document("blue-green", json!({ "version": "v2", "watch": "0s", "keep_old": "3s" }));
    let id = proxy.deploy(kept).await;
    proxy.reaches(&id, "succeeded").await;
    assert_eq!(programs.calls(), ["start web green all v2"], "v1 is still there");
    // Its time goes on over a restart.
    proxy.kill_and_restart().await;
    until("the time is over", || async { (programs.calls().len() == 2).then_some(()) }).await;
    assert_eq!(programs.calls()[1], "stop web blue all blue");
    let crowd = Crowd::start(proxy.public(), 3);
    crowd.more(20).await;
    until("it is known that blue was stopped", || async {
        let stopped = |entry: &serde_json::Value| entry["type"] == "hook_finished" && entry["data"]["role"] == "stop";
        proxy.happened(&id).await.iter().any(stopped).then_some(())
    })
    .await;
    proxy.order(&id, "rollback").await;
    proxy.reaches(&id, "rolled-back").await;
    assert_eq!(programs.calls()[2..], ["start web blue all blue", "stop web green all v2"]);
    let before = crowd.so_far();
    crowd.more(20).await;
    let outcomes = crowd.stop().await;
    assert_eq!((outcomes.failed(), outcomes.since(&before).of("v2")), (0, 0));
}
