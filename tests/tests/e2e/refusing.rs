//! Bad input: each a clear error, and nothing changed.

use std::fs;

use serde_json::json;
use tempfile::TempDir;
use tidegate_e2e::{Client, Origin, Sent, Tidegate, client::once, get, tidegate::run, until};

use crate::splitting::blue_green;

/// What `tidegate check` says of a file: exit code and standard error.
fn check(config: &str) -> (i32, String) {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("tidegate.toml"), config).unwrap();
    let (code, _, stderr) = run(dir.path(), &["check", "-c", "tidegate.toml"]);
    (code, stderr)
}

const GOOD: &str = r#"
[service.web]
stable = "green"
[service.web.target.green]
endpoints = ["127.0.0.1:3001"]
"#;

#[test]
fn a_good_file_passes_and_a_missing_one_is_named() {
    assert_eq!(check(GOOD).0, 0, "{}", check(GOOD).1);
    let dir = TempDir::new().unwrap();
    let (code, _, stderr) = run(dir.path(), &["check", "-c", "nowhere.toml"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("nowhere.toml"), "{stderr}");
}

#[test]
fn every_problem_of_a_file_is_told_at_once_with_its_path() {
    let config = r#"
[server]
thread = 2
[listener.a]
address = "0.0.0.0:3090"
[listener.b]
address = "0.0.0.0:3090"
[service.web]
stable = "grene"
split = { green = 90, blue = 20 }
drain = 30
[service.web.target.green]
endpoints = "127.0.0.1:3001"
[service.web.target.blue]
endpoints = ["127.0.0.1:99999"]
"#;
    let (code, stderr) = check(config);
    assert_eq!(code, 2);
    for path in [
        "server.thread",
        "listener.b",
        "service.web.stable",
        "service.web.split",
        "service.web.drain",
        "service.web.target.green.endpoints",
        "service.web.target.blue.endpoints",
    ] {
        assert!(stderr.contains(path), "{path} is not told:\n{stderr}");
    }
}

#[test]
fn serve_refuses_a_bad_file_with_exit_code_2() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("tidegate.toml"), "[service.web]\nstable = 1\n").unwrap();
    let (code, _, stderr) = run(dir.path(), &["serve", "-c", "tidegate.toml"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("service.web.stable"), "{stderr}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    for taken in [proxy.public(), proxy.admin()] {
        let dir = TempDir::new().unwrap();
        let other = if taken == proxy.public() { "admin" } else { "listener.public" };
        let (listener, admin) = if other == "admin" {
            (taken.to_string(), "127.0.0.1:0".into())
        } else {
            ("127.0.0.1:0".into(), taken.to_string())
        };
        let config = format!("[admin]\nlisten = \"{admin}\"\n[listener.public]\naddress = \"{listener}\"\n{GOOD}");
        fs::write(dir.path().join("tidegate.toml"), config).unwrap();
        let (code, _, stderr) = run(dir.path(), &["serve", "-c", "tidegate.toml"]);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(&taken.to_string()) && stderr.contains("change"), "{stderr}");
    }
    assert_eq!(get(proxy.public(), "/").await.unwrap().status, 200);
}

#[test]
fn an_unreadable_token_file_is_named() {
    let dir = TempDir::new().unwrap();
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\ntokens = [{{ name = \"ci\", role = \"operate\", file = \"/nonexistent/ci-token\" }}]\n[listener.public]\naddress = \"127.0.0.1:0\"\n{GOOD}"
    );
    fs::write(dir.path().join("tidegate.toml"), config).unwrap();
    let (code, _, stderr) = run(dir.path(), &["serve", "-c", "tidegate.toml"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("/nonexistent/ci-token") && stderr.contains("ci"), "{stderr}");
}

#[tokio::test]
async fn bad_calls_are_refused_and_change_nothing() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    let generation = proxy.service("web").await["generation"].clone();
    let call = async |method: &str, path: &str, body: &str, header: Option<(&str, &str)>| {
        let mut request = Sent::new(method, path).body(body);
        if let Some((name, value)) = header {
            request = request.field(name, value);
        }
        once(proxy.admin(), &request).await.unwrap()
    };
    let split = "/api/services/web/split";
    let huge = format!("{{\"green\": 100, \"x\": \"{}\"}}", "y".repeat(2 << 20));
    for (method, path, body, header, status) in [
        ("PUT", split, "{\"green\":90,\"blue\":20}", None, 422),
        ("PUT", split, "{\"green\":90,\"red\":10}", None, 422),
        ("PUT", split, "{\"green\":99.999,\"blue\":0.001}", None, 422),
        ("PUT", split, "{\"green\":", None, 400),
        ("PUT", split, "[1]", None, 422),
        ("PUT", split, huge.as_str(), None, 413),
        ("PUT", split, "{\"green\":100}", Some(("if-match", "\"999999\"")), 412),
        ("PUT", split, "{\"green\":100}", Some(("content-type", "text/csv")), 415),
        ("PUT", "/api/services/nope/split", "{\"green\":100}", None, 404),
        ("POST", "/api/services/web/switch", "{\"to\":\"red\"}", None, 422),
        ("POST", "/api/services/web/switch", "{\"too\":\"blue\"}", None, 422),
        ("DELETE", split, "", None, 405),
        ("GET", "/api/services/web/switch", "", None, 405),
        ("DELETE", "/api/services/web/targets/green", "", None, 409),
        ("GET", "/api/nothing", "", None, 404),
    ] {
        let answer = call(method, path, body, header).await;
        assert_eq!(answer.status, status, "{method} {path} {}: {}", &body[..body.len().min(60)], answer.text());
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{method} {path}");
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
    assert_eq!(proxy.service("web").await["generation"], generation, "a refused call changed something");
}

#[tokio::test]
async fn curl_works_without_a_content_type_and_if_match_guards() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    let curl = Sent::new("POST", "/api/services/web/switch")
        .field("content-type", "application/x-www-form-urlencoded")
        .body("{\"to\":\"blue\"}");
    let answer = once(proxy.admin(), &curl).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let generation = answer.json()["generation"].as_u64().unwrap();
    let guarded = Sent::new("PUT", "/api/services/web/split")
        .field("if-match", format!("\"{generation}\""))
        .body(json!({ "green": 10, "blue": 90 }).to_string());
    assert_eq!(once(proxy.admin(), &guarded).await.unwrap().status, 200);
    assert_eq!(once(proxy.admin(), &guarded).await.unwrap().status, 412, "the generation has moved on");
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    let before = proxy.service("web").await;
    let answer =
        proxy.done("PUT", "/api/services/web/split?dry_run=true", Some(json!({ "green": 50, "blue": 50 }))).await;
    assert!(answer["generation"].as_u64() > before["generation"].as_u64(), "{answer}");
    assert_eq!(proxy.service("web").await["split"], before["split"]);
}

#[tokio::test]
async fn hosts_and_origins_that_are_not_ours_are_refused() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    for (name, value) in [("host", "evil.example"), ("origin", "http://evil.example"), ("origin", "null")] {
        let answer = once(proxy.admin(), &Sent::new("GET", "/api/services").field(name, value)).await.unwrap();
        assert_eq!(answer.status, 403, "{name}: {value}");
    }
}

#[tokio::test]
async fn tokens_guard_every_path_but_health_and_appear_nowhere() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let secrets =
        [("READ_TOKEN", "read-secret-1"), ("OPERATE_TOKEN", "operate-secret-2"), ("ADMIN_TOKEN", "admin-secret-3")];
    let admin = r#"tokens = [
        { name = "viewer", role = "read", env = "READ_TOKEN" },
        { name = "ci", role = "operate", env = "OPERATE_TOKEN" },
        { name = "root", role = "admin", env = "ADMIN_TOKEN" },
    ]"#;
    let proxy = Tidegate::start_with_admin(admin, &blue_green(&green, &blue, ""), &secrets).await;
    let status = async |method: &str, path: &str, token: Option<&str>| {
        let mut request = Sent::new(method, path).body("{\"to\":\"blue\",\"force\":true}");
        if let Some(token) = token {
            request = request.field("authorization", format!("Bearer {token}"));
        }
        let answer = once(proxy.admin(), &request).await.unwrap();
        assert!(secrets.iter().all(|(_, s)| !answer.text().contains(s)), "a secret in {method} {path}");
        answer.status
    };
    let switch = "/api/services/web/switch";
    for path in [
        "/api/services",
        "/api/services/web",
        "/api/events",
        "/api/audit",
        "/api/config",
        "/api/openapi.json",
        "/nowhere",
        "/api/nowhere",
    ] {
        assert_eq!(status("GET", path, None).await, 401, "{path}");
        assert_eq!(status("GET", path, Some("wrong")).await, 401, "{path}");
        assert_eq!(status("GET", path, Some("READ-SECRET-1")).await, 401, "tokens compare by case: {path}");
    }
    assert_eq!(status("GET", "/healthz", None).await, 200);
    assert_eq!(status("GET", "/api/services", Some("read-secret-1")).await, 200);
    assert_eq!(status("POST", switch, Some("read-secret-1")).await, 403);
    assert_eq!(status("POST", switch, None).await, 401);
    assert_eq!(status("POST", switch, Some("operate-secret-2")).await, 200);
    assert_eq!(status("POST", "/api/reload", Some("operate-secret-2")).await, 403);
    assert_eq!(status("GET", "/api/config", Some("admin-secret-3")).await, 200);
    assert_eq!(status("GET", "/api/events", Some("admin-secret-3")).await, 200);
    let log = proxy.log();
    assert!(secrets.iter().all(|(_, secret)| !log.contains(secret)), "a secret in the log");
}

#[tokio::test]
async fn a_token_that_is_renewed_in_its_file_counts_without_a_restart() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first-secret").unwrap();
    let admin = format!("tokens = [{{ name = \"root\", role = \"admin\", file = {file:?} }}]");
    let proxy = Tidegate::start_with_admin(&admin, &blue_green(&green, &blue, ""), &[]).await;
    let status = async |secret: &str| {
        let request = Sent::new("GET", "/api/services").field("authorization", format!("Bearer {secret}"));
        once(proxy.admin(), &request).await.unwrap().status
    };
    assert_eq!((status("first-secret").await, status("second-secret").await), (200, 401));
    std::fs::write(&file, "second-secret").unwrap();
    until("the new token counts", || async { (status("second-secret").await == 200).then_some(()) }).await;
    assert_eq!(status("first-secret").await, 401);
    std::fs::write(&file, "").unwrap();
    until("the empty file is refused", || async { proxy.log().contains("is empty").then_some(()) }).await;
    assert_eq!(status("second-secret").await, 200);
}

#[tokio::test]
async fn a_bad_reload_changes_nothing_and_a_good_one_applies() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    let good = proxy.read_config();
    proxy.write_config(&good.replace("[service.web]", "[service.web]\nno_such_key = 1"));
    let answer = proxy.call("POST", "/api/reload", None).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("service.web.no_such_key"), "{}", answer.text());
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "green");
    proxy.write_config(&good.replace("stable = \"green\"", "stable = \"blue\""));
    proxy.signal(nix::sys::signal::Signal::SIGHUP);
    until("the new file is in force", || async {
        (get(proxy.public(), "/").await.unwrap().text() == "blue").then_some(())
    })
    .await;
    proxy.write_config(&good);
    until("the file watch saw it", || async {
        (get(proxy.public(), "/").await.unwrap().text() == "green").then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_without_a_host_or_with_a_bad_one_are_400() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, "")).await;
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a:99999999\r\n\r\n",
        "GET /a/../b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a/%2e%2E/b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut client = Client::connect(proxy.public()).await.unwrap();
        client.write(head.as_bytes()).await.unwrap();
        assert_eq!(client.answer("GET").await.unwrap().status, 400, "{head:?}");
    }
    assert_eq!(green.count(), 0, "a bad request reached the origin");
}
