//! The wire, pinned: a field may be added, none may change or go.

use serde_json::{Value, json};
use tidegate_admin::dto::EventKind;
use tidegate_config::{Split, Weight};
use tidegate_core::{
    Event, Health, Hold,
    deploy::history::HappenedKind,
    state::{Cause, FailoverStage},
};

use crate::harness::Api;

fn mirror_results() -> Value {
    json!({
        "sent": 0, "error": 0, "timeout": 0, "dropped_requests": 0, "dropped_bytes": 0, "dropped_body": 0,
        "dropped_slow": 0, "aborted": 0, "unavailable": 0
    })
}

fn endpoint(address: &str, weight: u16) -> Value {
    json!({ "address": address, "weight": weight, "health": "healthy", "in_flight": 0, "requests": 0, "failures": 0 })
}

fn target(name: &str, weight: u16, endpoints: &[Value]) -> Value {
    json!({
        "name": name, "weight": weight, "status": "open", "available": true, "running": 0, "closes_in_ms": null,
        "requests": 0, "diverted": 0, "statuses": {}, "endpoints": endpoints
    })
}

#[tokio::test]
async fn a_service_on_the_wire() {
    let api = Api::open();
    let service = json!({
        "name": "web",
        "generation": 1,
        "stable": "green",
        "split": { "green": 100 },
        "hold": false,
        "targets": [
            target("blue", 0, &[endpoint("127.0.0.1:3001", 1)]),
            target("green", 100, &[endpoint("127.0.0.1:3002", 1), endpoint("127.0.0.1:3003", 2)]),
            target("v3", 0, &[endpoint("127.0.0.1:3004", 1)])
        ],
        "removed": [],
        "failover": { "policy": { "to": "blue", "failback": "manual" }, "active": null, "preparing": null },
        "mirrors": [{
            "name": "audit", "to": "v3", "percent": 100, "methods": ["GET", "HEAD"], "max_body": 65536, "compare": true,
            "ignore": [], "remove_headers": ["cookie"], "set_headers": ["authorization"], "in_flight": 0,
            "results": mirror_results(), "statuses": {}, "compared": 0,
            "differences": { "status": 0, "latency": 0, "body": 0 }
        }],
        "sticky": null,
        "listeners": ["public"],
        "routes": [{ "host": "*", "path": "/", "strip": false }],
        "differences": []
    });
    assert_eq!(api.ok("GET", "/api/services/web", "").await, service);
    assert_eq!(api.ok("GET", "/api/services", "").await, json!([service]));
}

#[tokio::test]
async fn answers_to_changes_on_the_wire() {
    let api = Api::open();
    let mut reply = api.ok("POST", "/api/services/web/switch", r#"{"to":"blue"}"#).await;
    reply.as_object_mut().unwrap().remove("elapsed_ms").unwrap();
    assert_eq!(
        reply,
        json!({
            "previous": "green", "to": "blue", "generation": 2, "dry_run": false, "saved": true,
            "events": [{ "type": "traffic.switched", "service": "web", "from": "green", "to": "blue" }]
        })
    );
    let reply = api.ok("PUT", "/api/services/web/split?dry_run=true", r#"{"green":0.01,"blue":99.99}"#).await;
    assert_eq!(
        reply,
        json!({
            "generation": 3, "dry_run": true, "saved": true,
            "events": [{
                "type": "traffic.changed", "service": "web", "from": { "blue": 100 },
                "to": { "blue": 99.99, "green": 0.01 }
            }]
        })
    );
}

#[tokio::test]
async fn events_transitions_and_problems_on_the_wire() {
    let api = Api::open();
    api.fake.health("green", "127.0.0.1:3003", Health::Unhealthy, "timeout");
    let event = json!({
        "seq": 1001, "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 1_793_697_300_250_u64, "generation": 2,
        "actor": "health", "type": "endpoint.health", "service": "web", "target": "green", "endpoint": "127.0.0.1:3003",
        "from": "healthy", "to": "unhealthy", "reason": "timeout"
    });
    assert_eq!(api.ok("GET", "/api/events", "").await, json!([event]));
    assert_eq!(
        api.ok("GET", "/api/services/web/health-history", "").await,
        json!([{
            "seq": 1001, "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 1_793_697_300_250_u64, "target": "green",
            "endpoint": "127.0.0.1:3003", "version": null, "commit": null, "from": "healthy", "to": "unhealthy",
            "reason": "timeout"
        }])
    );
    assert_eq!(
        api.call("PUT", "/api/services/web/split", r#"{"green":101}"#).await.json(),
        json!({
            "type": "urn:tidegate:problem:invalid",
            "title": "The input is well-formed but invalid",
            "status": 422,
            "detail": "green: a weight must not be more than 100 %",
            "errors": [{ "path": "green", "message": "a weight must not be more than 100 %" }]
        })
    );
}

#[test]
fn every_event_on_the_wire() {
    let service = || "web".parse().unwrap();
    let target = |name: &str| name.parse().unwrap();
    let split = |green, blue| {
        let weight = |points| Weight::from_points(points).unwrap();
        Split::new([(target("green"), weight(green)), (target("blue"), weight(blue))]).unwrap()
    };
    let reason = || "why".to_owned();
    let events = [
        Event::Switched { service: service(), from: target("green"), to: target("blue") },
        Event::SplitChanged { service: service(), from: split(10_000, 0), to: split(9_501, 499) },
        Event::HoldChanged { service: service(), hold: Hold::On },
        Event::FailedOver {
            service: service(),
            from: target("green"),
            to: target("blue"),
            cause: Cause::Health,
            reason: reason(),
        },
        Event::FailingBack { service: service(), share: Weight::from_points(2_500).unwrap() },
        Event::Restored { service: service(), to: target("green"), reason: reason() },
        Event::HealthChanged {
            service: service(),
            target: target("green"),
            endpoint: "h2c://[::1]:1".parse().unwrap(),
            from: Health::Unknown,
            to: Health::Suspect,
            reason: reason(),
        },
        Event::TargetHealthy { service: service(), target: target("green") },
        Event::TargetUnhealthy { service: service(), target: target("green"), reason: reason() },
        Event::TargetChanged { service: service(), target: target("v3") },
        Event::TargetRemoved { service: service(), target: target("v3") },
        Event::TargetDrained { service: service(), target: target("v3") },
        Event::MirrorChanged { service: service(), mirror: "audit".parse().unwrap() },
        Event::MirrorRemoved { service: service(), mirror: "audit".parse().unwrap() },
        Event::FailoverPreparing { service: service(), from: target("green"), to: target("blue"), reason: reason() },
        Event::FailoverHeld { service: service(), from: target("green"), to: target("blue"), reason: reason() },
        Event::FailoverCalledOff { service: service(), reason: reason() },
        Event::FailoverHook { service: service(), hook: FailoverStage::Before, failure: Some(reason()) },
        Event::FailoverHook { service: service(), hook: FailoverStage::After, failure: None },
        Event::SinkLost { sink: "keptn".parse().unwrap(), count: 3 },
        Event::WatchProblem { stack: Some("web".into()), reason: reason() },
        Event::WatchProblem { stack: None, reason: reason() },
        Event::Deployment {
            deployment: "dep-1".to_owned().try_into().unwrap(),
            services: vec![service()],
            strategy: "canary".into(),
            happened: HappenedKind::StepStarted,
            message: reason(),
        },
        Event::Reloaded { services: 3, differences: vec![reason()] },
        Event::ReloadRejected { problems: vec![reason()] },
        Event::Unsaved { reason: reason() },
    ];
    let wire: Vec<EventKind> = events.iter().map(EventKind::from).collect();
    let text = serde_json::to_value(&wire).unwrap();
    assert_eq!(
        text,
        json!([
            { "type": "traffic.switched", "service": "web", "from": "green", "to": "blue" },
            { "type": "traffic.changed", "service": "web", "from": { "green": 100 }, "to": { "blue": 4.99, "green": 95.01 } },
            { "type": "traffic.hold", "service": "web", "hold": true },
            { "type": "traffic.failover", "service": "web", "from": "green", "to": "blue", "cause": "health", "reason": "why" },
            { "type": "traffic.failback", "service": "web", "share": 25 },
            { "type": "traffic.restored", "service": "web", "to": "green", "reason": "why" },
            { "type": "endpoint.health", "service": "web", "target": "green", "endpoint": "h2c://[::1]:1",
              "from": "unknown", "to": "suspect", "reason": "why" },
            { "type": "target.healthy", "service": "web", "target": "green" },
            { "type": "target.unhealthy", "service": "web", "target": "green", "reason": "why" },
            { "type": "target.changed", "service": "web", "target": "v3" },
            { "type": "target.removed", "service": "web", "target": "v3" },
            { "type": "target.drained", "service": "web", "target": "v3" },
            { "type": "mirror.changed", "service": "web", "mirror": "audit" },
            { "type": "mirror.removed", "service": "web", "mirror": "audit" },
            { "type": "failover.preparing", "service": "web", "from": "green", "to": "blue", "reason": "why" },
            { "type": "failover.held", "service": "web", "from": "green", "to": "blue", "reason": "why" },
            { "type": "failover.called_off", "service": "web", "reason": "why" },
            { "type": "failover.hook", "service": "web", "hook": "before", "failure": "why" },
            { "type": "failover.hook", "service": "web", "hook": "after" },
            { "type": "sink.lost", "sink": "keptn", "count": 3 },
            { "type": "watch.problem", "stack": "web", "reason": "why" },
            { "type": "watch.problem", "reason": "why" },
            { "type": "deployment.progress", "deployment": "dep-1", "services": ["web"], "strategy": "canary",
              "happened": "step-started", "message": "why" },
            { "type": "config.reloaded", "services": 3, "differences": ["why"] },
            { "type": "config.rejected", "problems": ["why"] },
            { "type": "state.unsaved", "reason": "why" }
        ])
    );
    let back: Vec<EventKind> = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(back, wire);
    for (event, json) in wire.iter().zip(text.as_array().unwrap()) {
        assert_eq!(json["type"], event.word());
    }
}
