//! Who is let in, to what; and what is never told.

use tidegate_admin::MetricsAccess;

use crate::harness::{ADMIN, Answer, Api, DOCUMENT, OPERATE, READ};

/// Every documented operation with a path that can be called, and the least role that it takes by its name here.
fn operations() -> Vec<(String, String)> {
    let mut found = vec![("GET".to_owned(), "/api/openapi.json".to_owned())];
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        let path = path.replace("{service}", "web").replace("{target}", "v3").replace("{mirror}", "audit");
        let path = path.replace("{flag}", "RECENT").replace("{source}", "main").replace("{id}", "dep-1");
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            found.push((method.to_ascii_uppercase(), path.clone()));
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

fn is_probe(path: &str) -> bool {
    path == "/healthz" || path == "/readyz"
}

async fn with_token(api: &Api, method: &str, path: &str, token: &str) -> Answer {
    api.call_with(method, path, "", &[("authorization", &format!("Bearer {token}"))]).await
}

#[tokio::test]
async fn every_path_but_health_needs_a_token_also_unknown_ones() {
    let api = Api::with_tokens(MetricsAccess::Token);
    let mut calls = operations();
    calls.push(("GET".into(), "/".into()));
    calls.push(("GET".into(), "/api/unknown".into()));
    calls.push(("POST".into(), "/api/services/none/switch".into()));
    calls.push(("PATCH".into(), "/api/services".into()));
    calls.push(("GET".into(), "/healthz/".into()));
    calls.push(("GET".into(), "//healthz".into()));
    for (method, path) in calls {
        let missing = api.call(&method, &path, "").await;
        let wrong = with_token(&api, &method, &path, "secret-of-nobody").await;
        if is_probe(&path) {
            assert_eq!((missing.status, wrong.status), (200, 200), "{path}");
            continue;
        }
        assert_eq!((missing.status, wrong.status), (401, 401), "{method} {path}");
        assert!(missing.header("www-authenticate").starts_with("Bearer "), "{missing:?}");
        assert!(wrong.header("www-authenticate").contains("invalid_token"), "{wrong:?}");
        assert!(!wrong.body.contains("nobody"), "the token is not repeated: {wrong:?}");
    }
    assert_eq!(api.fake.generation(), 1);
}

#[tokio::test]
async fn metrics_are_open_unless_they_are_closed() {
    assert_eq!(Api::with_tokens(MetricsAccess::Open).call("GET", "/metrics", "").await.status, 200);
    let closed = Api::with_tokens(MetricsAccess::Token);
    assert_eq!(closed.call("GET", "/metrics", "").await.status, 401);
    assert_eq!(with_token(&closed, "GET", "/metrics", READ).await.status, 200);
}

/// The whole policy, written down a second time.
fn least_role(method: &str, path: &str) -> &'static str {
    match (method, path) {
        ("GET", "/healthz" | "/readyz" | "/metrics") => "none",
        (_, "/api/audit" | "/api/config" | "/api/reload" | "/api/upgrade") => "admin",
        ("GET", _) | ("POST", "/api/explain") => "read",
        ("POST", path) if path.starts_with("/ofrep/") => "read",
        _ => "operate",
    }
}

#[tokio::test]
async fn every_call_takes_its_role_and_the_ones_above() {
    for (method, path) in operations() {
        let least = least_role(&method, &path);
        for (role, token) in [("read", READ), ("operate", OPERATE), ("admin", ADMIN)] {
            let api = Api::with_tokens(MetricsAccess::Open);
            let answer = with_token(&api, &method, &path, token).await;
            let rank = |role: &str| ["none", "read", "operate", "admin"].iter().position(|r| *r == role).unwrap();
            if rank(role) >= rank(least) {
                assert!(!matches!(answer.status, 401 | 403), "{role} {method} {path}: {answer:?}");
            } else {
                assert_eq!(answer.status, 403, "{role} {method} {path}: {answer:?}");
                assert!(answer.body.contains(least), "the role that is needed is named: {answer:?}");
                assert_eq!(api.fake.generation(), 1, "nothing changed");
            }
        }
    }
}

#[tokio::test]
async fn the_name_of_the_token_is_the_actor() {
    let api = Api::with_tokens(MetricsAccess::Open);
    let headers = [("x-api-key", OPERATE)];
    let answer = api.call_with("PUT", "/api/services/web/split", r#"{"blue":100}"#, &headers).await;
    assert_eq!(answer.status, 200);
    assert_eq!(with_token(&api, "GET", "/api/events", READ).await.json()[0]["actor"], "operator");
    assert_eq!(with_token(&api, "GET", "/api/audit", ADMIN).await.json()[0]["actor"], "operator");
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_on_every_path_even_with_a_token() {
    let api = Api::with_tokens(MetricsAccess::Open);
    let token = format!("Bearer {ADMIN}");
    let mut calls = operations();
    calls.push(("GET".into(), "/api/unknown".into()));
    for (method, path) in calls {
        for headers in [
            [("host", "evil.example"), ("authorization", token.as_str())],
            [("origin", "http://evil.example"), ("authorization", token.as_str())],
            [("origin", "null"), ("authorization", token.as_str())],
            [("origin", "http://localhost:8080"), ("authorization", token.as_str())],
        ] {
            let answer = api.call_with(&method, &path, "", &headers).await;
            assert_eq!(answer.status, 403, "{method} {path} {headers:?}: {answer:?}");
        }
    }
    assert_eq!(api.fake.generation(), 1);
    let own = [("origin", "http://localhost:3091"), ("authorization", token.as_str())];
    assert_eq!(api.call_with("GET", "/api/services", "", &own).await.status, 200);
    let named = [("host", "admin.example"), ("authorization", token.as_str())];
    assert_eq!(api.call_with("GET", "/api/services", "", &named).await.status, 200);
}

#[tokio::test]
async fn a_preflight_is_answered_without_any_permission() {
    let api = Api::open();
    let headers = [("origin", "http://evil.example"), ("access-control-request-method", "POST")];
    assert_eq!(api.call_with("OPTIONS", "/api/services/web/switch", "", &headers).await.status, 403);
}

#[tokio::test]
async fn a_role_that_is_too_low_cannot_tell_what_exists() {
    let api = Api::with_tokens(MetricsAccess::Open);
    for path in ["/api/services/web/switch", "/api/services/none/switch"] {
        assert_eq!(with_token(&api, "POST", path, READ).await.status, 403);
    }
}

#[tokio::test]
async fn secrets_are_in_no_answer() {
    let api = Api::with_tokens(MetricsAccess::Open);
    let body = r#"{"to":"v3","set_headers":{"x-key":"mirror-secret"}}"#;
    let headers = [("x-api-key", ADMIN)];
    let mut answers = vec![api.call_with("PUT", "/api/services/web/mirrors/audit", body, &headers).await];
    for (method, path) in operations() {
        for input in ["", "{}", body] {
            answers.push(api.call_with(&method, &path, input, &headers).await);
        }
    }
    for answer in answers {
        let text = format!("{} {:?}", answer.body, answer.headers);
        for secret in ["mirror-secret", READ, OPERATE, ADMIN] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}
