//! Bad input: each kind has its status, names its place, and changes nothing.

use std::sync::atomic::Ordering::SeqCst;

use crate::harness::Api;

async fn check(method: &str, path: &str, body: &str, status: u16, paths: &[&str]) {
    let api = Api::open();
    let answer = api.call(method, path, body).await;
    assert_eq!(
        (answer.status, answer.paths()),
        (status, paths.iter().map(|p| (*p).to_owned()).collect()),
        "{method} {path} {body}: {answer:?}"
    );
    assert_eq!(api.fake.generation(), 1, "nothing changed");
}

#[tokio::test]
async fn splits_that_are_none_are_invalid_at_the_target() {
    let split = "/api/services/web/split";
    for (body, status, paths) in [
        (r#"{"green":90,"blue":5}"#, 422, &[""][..]),
        (r#"{"green":101}"#, 422, &["green"]),
        (r#"{"green":-1,"blue":101}"#, 422, &["blue", "green"]),
        (r#"{"green":99.999,"blue":0.001}"#, 422, &["blue", "green"]),
        (r#"{"green":"all"}"#, 422, &["green"]),
        (r#"{"green":null}"#, 422, &["green"]),
        (r#"{"bad name":100}"#, 422, &["bad name"]),
        (r#"{"green":50,"green":50}"#, 422, &[""]),
        ("{}", 422, &[""]),
        ("[]", 422, &[""]),
        ("100", 422, &[""]),
        ("null", 422, &[""]),
        ("", 400, &[""]),
        ("{", 400, &[""]),
        ("green=100", 400, &[""]),
        (r#"{"green":100} {}"#, 400, &[""]),
        (r#"{"green":1e999}"#, 400, &["green"]),
        ("\u{feff}{\"green\":100}", 400, &[""]),
    ] {
        check("PUT", split, body, status, paths).await;
    }
}

#[tokio::test]
async fn a_split_over_a_target_that_is_not_there_is_invalid() {
    let api = Api::open();
    let answer = api.call("PUT", "/api/services/web/split", r#"{"purple":100}"#).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.body.contains("purple"));
}

#[tokio::test]
async fn every_problem_of_a_target_is_reported_at_once() {
    let body =
        r#"{"endpoints":["nonsense","127.0.0.1:1",{"address":"127.0.0.1:1"},{"address":"127.0.0.1:2","weight":0}]}"#;
    let paths = ["endpoints[0]", "endpoints[2].address", "endpoints[3].weight"];
    check("PUT", "/api/services/web/targets/v4", body, 422, &paths).await;
    for (body, paths) in [
        (r#"{"endpoints":[]}"#, &["endpoints"][..]),
        (r#"{"endpoints":[["127.0.0.1:1",2]]}"#, &["endpoints[0]"]),
        (r#"{"endpoints":[5]}"#, &["endpoints[0]"]),
        (r#"{"endpoints":["127.0.0.1:1",{"address":"127.0.0.1:2","wieght":2}]}"#, &["endpoints[1].wieght"]),
        (r#"{"endpoints":[{"weight":2}]}"#, &["endpoints[0]"]),
        (r#"{"endpoints":[{"address":"127.0.0.1:2","weight":70000}]}"#, &["endpoints[0].weight"]),
        (r#"{"endpoints":"127.0.0.1:1"}"#, &["endpoints"]),
        (r#"{"endpoint":["127.0.0.1:1"]}"#, &["endpoint"]),
        ("{}", &[""]),
    ] {
        check("PUT", "/api/services/web/targets/v4", body, 422, paths).await;
    }
    let many = (1..=1001).map(|port| format!("\"127.0.0.1:{port}\"")).collect::<Vec<_>>().join(",");
    check("PUT", "/api/services/web/targets/v4", &format!("{{\"endpoints\":[{many}]}}"), 422, &["endpoints"]).await;
}

#[tokio::test]
async fn every_problem_of_a_mirror_is_reported_at_once() {
    let body = r#"{"to":"no such","percent":101,"methods":["CONNECT"],"max_body":99999999999,
        "remove_headers":["a b"],"set_headers":{"x":"line\nbreak"}}"#;
    let paths = ["to", "percent", "max_body", "methods[0]", "remove_headers[0]", "set_headers.x"];
    check("PUT", "/api/services/web/mirrors/m", body, 422, &paths).await;
    check("PUT", "/api/services/web/mirrors/m", r#"{"to":"v3","methods":[]}"#, 422, &["methods"]).await;
    check("PUT", "/api/services/web/mirrors/m", r#"{"to":"purple"}"#, 422, &["to"]).await;
}

#[tokio::test]
async fn switches_and_failovers_to_nowhere_are_invalid() {
    for path in ["/api/services/web/switch", "/api/services/web/failover"] {
        check("POST", path, r#"{"to":"purple"}"#, 422, &["to"]).await;
        check("POST", path, r#"{"to":""}"#, 422, &["to"]).await;
        check("POST", path, r#"{"to":"green","dry_run":true}"#, 422, &["dry_run"]).await;
        check("POST", path, "{}", 422, &[""]).await;
        check("POST", path, r#"["blue"]"#, 422, &[""]).await;
        check("POST", path, "", 400, &[""]).await;
    }
}

#[tokio::test]
async fn a_restore_without_a_failover_is_no_error_or_a_conflict_but_changes_nothing() {
    let api = Api::open();
    let answer = api.call("POST", "/api/services/web/restore", "").await;
    assert!(matches!(answer.status, 200 | 409), "{answer:?}");
    assert_eq!(api.fake.generation(), 1);
}

#[tokio::test]
async fn names_that_do_not_exist_are_not_found() {
    let api = Api::open();
    for (method, path, body) in [
        ("GET", "/api/services/none", ""),
        ("GET", "/api/services/bad%20name", ""),
        ("GET", "/api/services/none/health-history", ""),
        ("POST", "/api/services/none/switch", r#"{"to":"green"}"#),
        ("PUT", "/api/services/none/split", r#"{"green":100}"#),
        ("POST", "/api/services/none/failover", r#"{"to":"green"}"#),
        ("POST", "/api/services/none/restore", ""),
        ("PUT", "/api/services/none/targets/v4", r#"{"endpoints":["127.0.0.1:1"]}"#),
        ("DELETE", "/api/services/web/targets/none", ""),
        ("POST", "/api/services/web/targets/none/drain", ""),
        ("GET", "/api/services/web/mirrors/none", ""),
        ("GET", "/api/services/web/mirrors/bad%20name", ""),
        ("DELETE", "/api/services/web/targets/bad%20name", ""),
        ("DELETE", "/api/services/web/mirrors/none", ""),
        ("GET", "/", ""),
        ("GET", "/api", ""),
        ("GET", "/api/services/", ""),
        ("POST", "/api/unknown", "{}"),
        ("GET", "/api/services/web/targets", ""),
    ] {
        let answer = api.call(method, path, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
    assert_eq!(api.call("GET", "/api/services/%ff", "").await.status, 400);
    assert_eq!(
        api.call("PUT", "/api/services/web/targets/bad%20name", r#"{"endpoints":["127.0.0.1:1"]}"#).await.status,
        422
    );
}

#[tokio::test]
async fn other_methods_are_refused_with_the_ones_that_are_allowed() {
    let api = Api::open();
    for (path, allowed) in [
        ("/api/services", &["GET", "HEAD"][..]),
        ("/api/services/web/switch", &["POST"]),
        ("/api/services/web/split", &["PUT"]),
        ("/api/services/web/targets/green", &["DELETE", "PUT"]),
        ("/api/services/web/mirrors/audit", &["DELETE", "GET", "HEAD", "PUT"]),
        ("/healthz", &["GET", "HEAD"]),
        ("/api/openapi.json", &["GET", "HEAD"]),
        ("/api/explain", &["POST"]),
    ] {
        for method in ["PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = api.call(method, path, "").await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            let mut named: Vec<_> = answer.header("allow").split(',').collect();
            named.sort_unstable();
            assert_eq!(named, allowed, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn unknown_and_malformed_parameters_are_refused() {
    for (method, path, body) in [
        ("GET", "/api/services?x=1", ""),
        ("GET", "/api/services/web?verbose", ""),
        ("PUT", "/api/services/web/split?dryrun=true", r#"{"blue":100}"#),
        ("PUT", "/api/services/web/split?dry_run=yes", r#"{"blue":100}"#),
        ("PUT", "/api/services/web/split?dry_run", r#"{"blue":100}"#),
        ("PUT", "/api/services/web/split?dry_run=false&dry_run=true", r#"{"blue":100}"#),
        ("GET", "/api/events?after=-1", ""),
        ("GET", "/api/events?after=x", ""),
    ] {
        check(method, path, body, 400, &["query"]).await;
    }
    check("GET", "/api/events?after=1000000000000000000", "", 400, &["after"]).await;
    for path in ["/api/events?limit=0", "/api/events?limit=1025", "/api/audit?limit=0", "/api/audit?limit=10001"] {
        check("GET", path, "", 400, &["limit"]).await;
    }
}

#[tokio::test]
async fn curl_needs_no_content_type_and_other_types_than_json_are_refused() {
    let api = Api::open();
    for (content_type, status) in [
        ("application/x-www-form-urlencoded", 200),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/merge-patch+json", 200),
        ("text/plain", 415),
        ("text/plain;application/json", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/xml", 415),
        ("", 415),
    ] {
        let headers = [("content-type", content_type)];
        let answer = api.call_with("PUT", "/api/services/web/split", r#"{"blue":100}"#, &headers).await;
        assert_eq!(answer.status, status, "{content_type}: {answer:?}");
    }
    assert_eq!(api.call("PUT", "/api/services/web/split", r#"{"blue":100}"#).await.status, 200);
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_too_large_and_one_of_a_mebibyte_is_not() {
    let padded = |length: usize| {
        let body = r#"{"blue":100}"#;
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    let api = Api::open();
    assert_eq!(api.call("PUT", "/api/services/web/split", &padded(1024 * 1024)).await.status, 200);
    assert_eq!(api.call("PUT", "/api/services/web/split", &padded(1024 * 1024 + 1)).await.status, 413);
}

#[tokio::test]
async fn deep_json_is_malformed_and_nothing_worse() {
    for deep in ["[".repeat(500_000), "{\"a\":".repeat(200_000), format!("{{\"endpoints\":{}", "[".repeat(500_000))] {
        check("PUT", "/api/services/web/targets/v4", &deep, 400, &[""]).await;
    }
}

#[tokio::test]
async fn what_a_client_sent_is_not_repeated_at_length() {
    let api = Api::open();
    let name = "x".repeat(100_000);
    let answer = api.call("PUT", "/api/services/web/split", &format!("{{\"{name}\":100}}")).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.len() < 2_000, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn a_process_that_goes_down_takes_no_changes() {
    let api = Api::open();
    api.fake.busy.store(true, SeqCst);
    let answer = api.call("PUT", "/api/services/web/split", r#"{"blue":100}"#).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn a_call_that_panics_is_an_error_500_without_its_reason() {
    let api = Api::open();
    api.fake.panics.store(true, SeqCst);
    let answer = api.call("PUT", "/api/services/web/split", r#"{"blue":100}"#).await;
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains("told to panic"));
    api.fake.panics.store(false, SeqCst);
    assert_eq!(api.call("PUT", "/api/services/web/split", r#"{"blue":100}"#).await.status, 200);
}

#[tokio::test]
async fn an_audit_log_that_cannot_be_read_is_unavailable() {
    let api = Api::open();
    api.fake.store_fails.store(true, SeqCst);
    let answer = api.call("GET", "/api/audit", "").await;
    assert_eq!(answer.status, 503);
    assert!(!answer.body.contains("disk"), "internals stay in the log");
}
