//! Deployments over the API: the engine is the real one, only its shell is not.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};
use tidegate_admin::MetricsAccess;
use tidegate_core::deploy::machine::Verdict;

use crate::harness::{ADMIN, Api, OPERATE};

const CANARY: &str =
    r#"{"strategy":"canary","service":"web","to":"blue","image":"web:2","percentage":5,"steps":[20,100]}"#;

async fn create(api: &Api, query: &str, body: &str) -> Value {
    let answer = api.call("POST", &format!("/api/deployments{query}"), body).await;
    assert_eq!(answer.status, 201, "{body}: {answer:?}");
    let reply = answer.json();
    assert_eq!(answer.header("location"), format!("/api/deployments/{}", reply["id"].as_str().unwrap()));
    reply
}

#[tokio::test]
async fn a_deployment_waits_runs_and_succeeds() {
    let api = Api::open();
    let created = create(&api, "", CANARY).await;
    assert_eq!((&created["status"], &created["id"]), (&json!("pending"), &json!("dep-1")));
    let begun = api.ok("POST", "/api/deployments/dep-1/execute", "").await;
    assert_eq!(begun["state"], "running", "{begun}");
    assert_eq!(begun["traffic"]["web"], json!({ "blue": 5, "green": 95 }));
    assert_eq!(api.ok("GET", "/api/services/web", "").await["split"], json!({ "blue": 5, "green": 95 }));
    for path in ["/api/deployments/dep-1/status", "/api/deployments/status/dep-1"] {
        let status = api.ok("GET", path, "").await;
        assert_eq!((&status["status"], &status["exit_code"]), (&json!("in_progress"), &Value::Null), "{path}");
    }
    *api.fake.deployer.verdict.lock().unwrap() = Some(Verdict::Pass);
    let done = api.ok("POST", "/api/deployments/dep-1/promote", r#"{"full":true}"#).await;
    assert_eq!((&done["status"], &done["progress"]), (&json!("completed"), &json!(100)), "{done}");
    assert_eq!(api.ok("GET", "/api/services/web", "").await["stable"], "blue");
    let kinds: Vec<Value> = api.ok("GET", "/api/deployments/dep-1/events", "").await.as_array().unwrap().clone();
    assert_eq!(kinds.first().unwrap()["type"], "created");
    assert_eq!(kinds.last().unwrap()["text"], "is over: succeeded");
    let back = api.ok("POST", "/api/deployments/rollback/dep-1", "").await;
    assert_eq!(back["state"], "rolled-back");
    assert_eq!(api.ok("GET", "/api/services/web", "").await["stable"], "green");
}

#[tokio::test]
async fn toml_and_json_create_the_same_deployment() {
    let api = Api::open();
    let toml = "strategy = \"canary\"\nservice = \"web\"\nto = \"blue\"\nimage = \"web:2\"\npercentage = 5\nsteps = [20, 100]\n";
    let headers = [("content-type", "application/toml")];
    let from_toml = api.call_with("POST", "/api/deployments?dry_run=true", toml, &headers).await;
    let from_json = api.call("POST", "/api/deployments?dry_run=true", CANARY).await;
    assert_eq!((from_toml.status, from_json.status), (200, 200), "{from_toml:?}");
    assert_eq!(from_toml.json()["plan"]["steps"], from_json.json()["plan"]["steps"]);
    let steps = from_json.json()["plan"]["steps"].as_array().unwrap().clone();
    assert!(steps.iter().any(|step| step["text"] == "web: blue=5 green=95"), "{steps:?}");
    assert_eq!(api.ok("GET", "/api/deployments", "").await, json!([]), "a dry run creates nothing");
    let broken = api.call_with("POST", "/api/deployments", "strategy = ", &headers).await;
    assert_eq!(broken.status, 400, "{broken:?}");
}

#[tokio::test]
async fn a_repeated_request_with_the_same_key_is_the_same_deployment() {
    let api = Api::open();
    let headers = [("idempotency-key", "k1")];
    for _ in 0..2 {
        let answer = api.call_with("POST", "/api/deployments?execute=true", CANARY, &headers).await;
        assert_eq!((answer.status, &answer.json()["id"]), (201, &json!("dep-1")));
    }
    assert_eq!(api.call_with("POST", "/api/deployments", CANARY, &[("idempotency-key", "")]).await.status, 400);
}

#[tokio::test]
async fn what_is_wrong_has_its_status_and_changes_nothing() {
    let api = Api::open();
    create(&api, "?execute=true", CANARY).await;
    let generation = api.fake.generation();
    for (path, body, status, paths) in [
        ("", r#"{"strategy":"teleport","service":"web"}"#, 422, &["strategy"][..]),
        (
            "",
            r#"{"strategy":"canary","service":"web","percentage":120,"steps":[50,20],"colour":1}"#,
            422,
            &["percentage", "steps", "colour"],
        ),
        ("", r#"{"service":"none"}"#, 422, &["service"]),
        ("", r#"{"service":"web","to":"purple","strategy":"canary"}"#, 422, &["to"]),
        ("", r#"{"service":"web","service":"web"}"#, 422, &[""]),
        ("", r#"{"service":"web","execute":1}"#, 422, &["execute"]),
        ("", "{", 400, &[""]),
        ("?execute=true", CANARY, 409, &[]),
        ("/dep-1/cancel", "", 409, &[]),
        ("/dep-1/retry", "", 409, &[]),
        ("/dep-1/select-winner", r#"{"variant":"blue"}"#, 409, &[]),
        ("/dep-1/promote", r#"{"fully":true}"#, 422, &["fully"]),
        ("/dep-1/conversions", r#"{"visitor":"","goal":"x"}"#, 422, &["visitor"]),
        ("/dep-1/conversions", r#"{"visitor":"v","goal":"x"}"#, 409, &[]),
        ("/dep-9/execute", "", 404, &[]),
        ("/nonsense/execute", "", 404, &[]),
    ] {
        let answer = api.call("POST", &format!("/api/deployments{path}"), body).await;
        let mut found = answer.paths();
        let mut wanted: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        found.sort();
        wanted.sort();
        assert_eq!((answer.status, found), (status, wanted), "{path} {body}: {answer:?}");
        assert_eq!(api.fake.generation(), generation, "{path} {body}");
    }
    assert_eq!(api.call("GET", "/api/deployments/dep-1/metrics?variant=purple", "").await.status, 404);
    api.fake.deployer.journal_fails.store(true, SeqCst);
    assert_eq!(api.call("POST", "/api/deployments/dep-1/rollback", "").await.status, 503);
}

#[tokio::test]
async fn commands_come_along_only_with_a_token() {
    let inline = r#"{"strategy":"recreate","service":"web","pre_hook":["rm","-r"],"post_hook":"rm","tests":["smoke"]}"#;
    let named = r#"{"strategy":"recreate","service":"web","pre_hook":"smoke"}"#;
    let open = Api::open();
    let refused = open.call("POST", "/api/deployments", inline).await;
    assert_eq!((refused.status, refused.paths()), (403, vec!["pre_hook".into(), "post_hook".into()]), "{refused:?}");
    assert_eq!(open.call("POST", "/api/deployments", named).await.status, 201);
    let api = Api::with_tokens(MetricsAccess::Open);
    for token in [OPERATE, ADMIN] {
        let answer = api.call_with("POST", "/api/deployments", inline, &[("x-api-key", token)]).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

#[tokio::test]
async fn arguments_of_commands_and_values_of_variables_are_never_shown() {
    let api = Api::open();
    let body = CANARY.replacen('{', r#"{"env":{"KEY":"env-secret"},"#, 1);
    let created = create(&api, "?execute=true", &body).await;
    assert_eq!(created["env"], json!(["KEY"]));
    for path in ["", "/dep-1", "/dep-1/plan", "/dep-1/events", "/dep-1/diagnose", "/dep-1/metrics", "/dep-1/status"] {
        let answer = api.call("GET", &format!("/api/deployments{path}"), "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.contains("secret"), "{path}: {answer:?}");
    }
}
