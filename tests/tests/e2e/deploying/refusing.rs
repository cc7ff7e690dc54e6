//! Documents and orders that are refused, with the status that the documentation names, and nothing changed.

use serde_json::{Value, json};
use tidegate_e2e::{Origin, Tidegate};

use super::{document, web};

async fn proxy() -> (Tidegate, Origin, Origin) {
    let (blue, green) = (Origin::start("blue").await, Origin::start("green").await);
    (Tidegate::start(&web(&blue, &green)).await, blue, green)
}

/// Everything that a refusal must leave as it is.
async fn everything(proxy: &Tidegate) -> (Value, Value) {
    let service = proxy.service("web").await;
    let wanted = json!({ "split": service["split"], "stable": service["stable"], "generation": service["generation"] });
    (wanted, proxy.done("GET", "/api/deployments", None).await)
}

#[tokio::test]
async fn a_bad_document_is_refused_with_the_path_of_what_is_wrong() {
    let (proxy, _blue, _green) = proxy().await;
    let before = everything(&proxy).await;
    let variants = |first: f64, second: f64| json!([{ "name": "blue", "percentage": first }, { "name": "green", "percentage": second }]);
    let cases = [
        (document("fast", json!({})), "strategy", "there is no strategy"),
        (document("ab-testing", json!({ "variant": variants(50.0, 40.0) })), "variant", "90 %"),
        (document("ab-testing", json!({ "variant": variants(70.0, 40.0) })), "variant", "110 %"),
        (document("canary", json!({ "to": "green", "steps": [50, 20, 100] })), "steps", "must rise"),
        (document("canary", json!({ "to": "green", "steps": [20, 120] })), "steps", "120"),
        (document("canary", json!({ "to": "purple" })), "to", "no target purple"),
        (document("canary", json!({ "to": "green", "colour": "red" })), "colour", ""),
        (document("canary", json!({ "to": "green", "duration": "1h" })), "duration", "no use for it"),
        (document("rolling-update", json!({ "to": "green", "max_surge": 0, "max_unavailable": 0 })), "max_surge", "0"),
        (document("rolling-update", json!({ "to": "green", "replicas": 9 })), "replicas", "fewer"),
        (document("blue-green", json!({ "service": "shop" })), "service", "shop"),
        (document("recreate", json!({ "health_timeout": 0 })), "health_timeout", "no time"),
        (document("custom", json!({ "to": "green" })), "step", "missing"),
    ];
    for (document, path, part) in cases {
        let answer = proxy.call("POST", "/api/deployments?execute=true", Some(document.clone())).await;
        assert_eq!(answer.status, 422, "{document}: {}", answer.text());
        let problem = answer.json();
        let right = |error: &Value| {
            error["path"].as_str().unwrap().starts_with(path) && error["message"].as_str().unwrap().contains(part)
        };
        assert!(problem["errors"].as_array().unwrap().iter().any(right), "{document}: {problem:#}");
    }
    let torn = proxy.call("POST", "/api/deployments", Some(json!("canary"))).await;
    assert_eq!(torn.status, 422, "{}", torn.text());
    assert_eq!(everything(&proxy).await, before);
}

#[tokio::test]
async fn an_order_that_does_not_fit_the_state_is_refused_and_changes_nothing() {
    let (proxy, _blue, _green) = proxy().await;
    let long = document("canary", json!({ "to": "green", "steps": [20], "interval": "60s" }));
    let id = proxy.deploy(long.clone()).await;
    proxy.does(&id, "analyse").await;
    let call = |verb: &'static str, id: String, body: Option<Value>| {
        let proxy = &proxy;
        async move { proxy.call("POST", &format!("/api/deployments/{id}/{verb}"), body).await }
    };

    // While one runs.
    let before = everything(&proxy).await;
    let second = proxy.call("POST", "/api/deployments?execute=true", Some(long.clone())).await;
    assert_eq!(second.status, 409, "{}", second.text());
    assert!(second.text().contains(&id), "it says who is in the way: {}", second.text());
    let by_hand = proxy.call("PUT", "/api/services/web/split", Some(json!({ "green": 100 }))).await;
    assert_eq!(by_hand.status, 409, "{}", by_hand.text());
    let winner = call("select-winner", id.clone(), Some(json!({ "variant": "green" }))).await;
    assert_eq!(winner.status, 409, "{}", winner.text());
    for verb in ["execute", "cancel", "resume", "retry"] {
        let answer = call(verb, id.clone(), None).await;
        assert_eq!(answer.status, 409, "{verb}: {}", answer.text());
    }
    assert_eq!(call("rollback", "dep-1".into(), None).await.status, 404);
    assert_eq!(everything(&proxy).await, before);

    // When it is over.
    proxy.order(&id, "rollback").await;
    proxy.reaches(&id, "rolled-back").await;
    let before = everything(&proxy).await;
    for verb in ["rollback", "execute", "cancel", "promote", "pause", "resume", "skip"] {
        let answer = call(verb, id.clone(), None).await;
        assert_eq!(answer.status, 409, "{verb}: {}", answer.text());
    }
    assert_eq!(everything(&proxy).await, before);

    // Before it begins.
    let pending = proxy.done("POST", "/api/deployments", Some(long)).await["id"].as_str().unwrap().to_owned();
    let before = everything(&proxy).await;
    for verb in ["rollback", "promote", "pause", "skip", "retry"] {
        let answer = call(verb, pending.clone(), None).await;
        assert_eq!(answer.status, 409, "{verb}: {}", answer.text());
    }
    assert_eq!(everything(&proxy).await, before);
}
