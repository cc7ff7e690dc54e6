//! The OpenAPI document: whole, and true of the running server.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;
use tidegate_admin::{Access, AccessToken, AdminListener, MetricsAccess, router, serve};
use tidegate_config::{Role, Secret, server::AdminAddress};

use crate::{fake::Fake, harness::DOCUMENT};

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

/// Runs schemathesis against a running server, where it is installed (`SCHEMATHESIS` may name it).
///
/// Left out is only the check that what fits the schema is accepted: no schema says that weights sum to 100, or that a
/// target exists.
#[expect(clippy::print_stdout, reason = "whoever runs the tests must see that one was skipped")]
async fn schemathesis_finds_nothing(tokens: Vec<AccessToken>, arguments: &'static [&'static str]) {
    let tool = std::env::var("SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".into());
    if Command::new(&tool).arg("--version").output().is_err() {
        println!("skipped: {tool} is not installed (pip install schemathesis)");
        return;
    }
    let address = AdminAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = AdminListener::bind(&address).await.unwrap();
    let url = format!("http://{}/api/openapi.json", listener.local_address().unwrap());
    let access = Access::new(tokens, &address, Vec::new(), MetricsAccess::Token);
    tokio::spawn(serve(listener, router(Fake::start(), access), std::future::pending()));
    let directory = tempfile::tempdir().unwrap();
    let run = move || {
        Command::new(&tool)
            .current_dir(&directory)
            .args(["run", &url, "--seed", "1", "--max-examples", "30", "--no-color"])
            .args(["--exclude-checks", "positive_data_acceptance"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn schemathesis_finds_nothing_without_tokens() {
    schemathesis_finds_nothing(Vec::new(), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn schemathesis_finds_nothing_with_tokens() {
    let token = AccessToken::new("chief", Role::Admin, &Secret::new("secret-of-admin".into()));
    schemathesis_finds_nothing(vec![token], &["-H", "Authorization: Bearer secret-of-admin"]).await;
}
