//! The OpenAPI document: whole, and true of the running server.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::DOCUMENT;

#[test]
fn the_document_is_openapi_3_1_and_names_every_call() {
    assert!(DOCUMENT["openapi"].as_str().unwrap().starts_with("3.1"));
    let calls: BTreeSet<String> = DOCUMENT["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    let service = "/api/services/{service}";
    let expected = [
        "get /healthz".to_owned(),
        "get /readyz".to_owned(),
        "get /metrics".to_owned(),
        "get /api/services".to_owned(),
        format!("get {service}"),
        format!("post {service}/switch"),
        format!("put {service}/split"),
        format!("post {service}/failover"),
        format!("post {service}/restore"),
        format!("post {service}/hold"),
        format!("post {service}/release"),
        format!("put {service}/targets/{{target}}"),
        format!("delete {service}/targets/{{target}}"),
        format!("post {service}/targets/{{target}}/drain"),
        format!("put {service}/mirrors/{{mirror}}"),
        format!("get {service}/mirrors/{{mirror}}"),
        format!("delete {service}/mirrors/{{mirror}}"),
        format!("get {service}/health-history"),
        "post /api/explain".to_owned(),
        "get /api/events".to_owned(),
        "get /api/audit".to_owned(),
        "get /api/config".to_owned(),
        "post /api/reload".to_owned(),
        "post /api/upgrade".to_owned(),
        "get /api/flags".to_owned(),
        "get /api/flags/{flag}".to_owned(),
        "put /api/flags/{flag}".to_owned(),
        "delete /api/flags/{flag}".to_owned(),
        "put /api/flags/{flag}/override".to_owned(),
        "delete /api/flags/{flag}/override".to_owned(),
        "get /api/flag-sources".to_owned(),
        "post /api/flag-sources/{source}/accept".to_owned(),
        "post /api/flag-sources/{source}/restore".to_owned(),
        "get /api/deployments".to_owned(),
        "post /api/deployments".to_owned(),
        "post /api/deployments/zero-downtime".to_owned(),
        "get /api/deployments/status/{id}".to_owned(),
        "post /api/deployments/rollback/{id}".to_owned(),
        "get /api/deployments/{id}".to_owned(),
        "get /api/deployments/{id}/status".to_owned(),
        "get /api/deployments/{id}/plan".to_owned(),
        "get /api/deployments/{id}/diagnose".to_owned(),
        "get /api/deployments/{id}/events".to_owned(),
        "get /api/deployments/{id}/metrics".to_owned(),
        "post /api/deployments/{id}/execute".to_owned(),
        "post /api/deployments/{id}/rollback".to_owned(),
        "post /api/deployments/{id}/promote".to_owned(),
        "post /api/deployments/{id}/pause".to_owned(),
        "post /api/deployments/{id}/resume".to_owned(),
        "post /api/deployments/{id}/skip".to_owned(),
        "post /api/deployments/{id}/retry".to_owned(),
        "post /api/deployments/{id}/cancel".to_owned(),
        "post /api/deployments/{id}/select-winner".to_owned(),
        "post /api/deployments/{id}/conversions".to_owned(),
        format!("delete {service}"),
        "get /api/versions".to_owned(),
        format!("get {service}/versions"),
        format!("post {service}/versions"),
        format!("delete {service}/versions/{{version}}"),
        format!("put {service}/versions/{{version}}/bad"),
        format!("delete {service}/versions/{{version}}/bad"),
        format!("put {service}/main"),
        "get /api/brackets".to_owned(),
        "post /api/brackets".to_owned(),
        "get /api/brackets/{bracket}".to_owned(),
        "post /api/brackets/{bracket}/members".to_owned(),
        "post /api/brackets/{bracket}/release".to_owned(),
        "post /api/brackets/{bracket}/abort".to_owned(),
        "post /api/trigger/configuration-change".to_owned(),
        "post /ofrep/v1/evaluate/flags".to_owned(),
        "post /ofrep/v1/evaluate/flags/{flag}".to_owned(),
    ];
    assert_eq!(calls, expected.into());
}

/// Every `$ref` of the document leads somewhere.
#[test]
fn the_document_has_no_dangling_reference() {
    fn check(value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    assert!(DOCUMENT.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                }
                map.values().for_each(check);
            }
            Value::Array(list) => list.iter().for_each(check),
            _ => {}
        }
    }
    check(&DOCUMENT);
}

#[test]
fn operations_have_names_of_their_own() {
    let mut seen = BTreeSet::new();
    for item in DOCUMENT["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(seen.insert(id.to_owned()), "{id} twice");
        }
    }
}
