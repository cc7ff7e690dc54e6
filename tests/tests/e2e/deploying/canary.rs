//! A canary that is good, one that is bad, and one that nobody asks anything.

use serde_json::{Value, json};
use tidegate_e2e::{Behaviour, Crowd, Origin, Tidegate};

use super::{document, shares, web};

/// A canary of three shares whose windows are `interval` long.
fn canary(interval: &str, analyse: Value) -> Value {
    document("canary", json!({ "to": "green", "steps": [20, 50, 100], "interval": interval, "analyse": analyse }))
}

async fn origins() -> (Origin, Origin) {
    (Origin::start_counting("blue").await, Origin::start_counting("green").await)
}

#[tokio::test]
async fn a_good_canary_gets_all_traffic_step_by_step_and_no_request_fails() {
    let (blue, green) = origins().await;
    let proxy = Tidegate::start(&web(&blue, &green)).await;
    let crowd = Crowd::start(proxy.public(), 6);
    let analyse = json!({ "min_requests": 20, "alpha": 1e-6, "on_inconclusive": "extend" });
    let id = proxy.deploy(canary("1s", analyse)).await;
    let done = proxy.reaches(&id, "succeeded").await;
    assert_eq!((done["progress"].as_u64(), &done["verdicts"]["web"]["verdict"]), (Some(100), &json!("pass")));
    assert_eq!(shares(&proxy, "green").await, [20.0, 50.0, 100.0]);
    let before = crowd.so_far();
    crowd.more(50).await;
    let outcomes = crowd.stop().await;
    assert_eq!(outcomes.since(&before).of("blue"), 0, "after the end");
    assert_eq!((outcomes.failed(), outcomes.of("blue") + outcomes.of("green")), (0, outcomes.total()));
}

#[tokio::test]
async fn a_canary_that_fails_5_percent_is_taken_back_and_clients_see_no_more_than_its_share_of_errors() {
    let (blue, green) = origins().await;
    green.set(Behaviour::FailEvery(20));
    let proxy = Tidegate::start(&web(&blue, &green)).await;
    let crowd = Crowd::start(proxy.public(), 6);
    // Nothing but evidence ends a window that is so long.
    let id = proxy.deploy(canary("60s", json!({ "min_requests": 20 }))).await;
    let over = proxy.reaches(&id, "rolled-back").await;
    assert_eq!(over["why"]["kind"], "analysis", "{over:#}");
    assert_eq!(shares(&proxy, "green").await, [20.0, 0.0], "it was never given more than its first share");
    let before = crowd.so_far();
    crowd.more(200).await;
    let outcomes = crowd.stop().await;
    let canary = outcomes.of("green");
    assert_eq!(outcomes.since(&before).of("green"), 0, "after the rollback");
    assert_eq!(outcomes.failed(), outcomes.count(|origin, status| origin == "green" && status == 500));
    assert!(outcomes.failed() <= canary / 20 + 1, "{} of {canary} failed", outcomes.failed());
    assert!(canary * 4 <= outcomes.total(), "{canary} of {} came to a share of 20 %", outcomes.total());
}

#[tokio::test]
async fn a_canary_without_traffic_waits_for_a_person_whatever_it_was_told() {
    for on_inconclusive in ["pause", "promote"] {
        let (blue, green) = origins().await;
        let proxy = Tidegate::start(&web(&blue, &green)).await;
        let id = proxy.deploy(canary("500ms", json!({ "on_inconclusive": on_inconclusive }))).await;
        let paused = proxy.reaches(&id, "paused").await;
        assert_eq!(paused["verdicts"]["web"]["verdict"], "insufficient-data", "{paused:#}");
        assert!(paused["paused"]["reason"].as_str().unwrap().starts_with("inconclusive"), "{paused:#}");
        assert_eq!((&paused["exit_code"], &paused["status"]), (&json!(3), &json!("in_progress")));
        // Whoever promotes it is asked again at the next share.
        proxy.order(&id, "promote").await;
        let again = |deployment: &Value| deployment["state"] == "paused" && deployment["step"] != paused["step"];
        proxy.becomes(&id, "paused at its second share", again).await;
        assert_eq!(shares(&proxy, "green").await, [20.0, 50.0]);
        proxy.order(&id, "rollback").await;
        proxy.reaches(&id, "rolled-back").await;
        assert_eq!(shares(&proxy, "green").await, [20.0, 50.0, 0.0]);
    }
}
