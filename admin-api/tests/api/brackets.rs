//! Brackets and triggers over the API: the engine is the real one, only its shell is not.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use serde_json::{Value, json};
use tidegate_admin::MetricsAccess;
use tidegate_core::deploy::{
    machine::Verdict,
    spec,
    stage::{Stages, parse_stage},
};

use crate::harness::{ADMIN, Api, READ};

/// Services in two stages.
const STAGED: &str = r#"
[service."dev.web"]
routes = [{ path = "/dev/web" }]
stable = "green"
target.green.endpoints = ["127.0.0.1:3001"]
target.blue.endpoints = ["127.0.0.1:3002"]
[service."dev.api"]
routes = [{ path = "/dev/api" }]
stable = "green"
target.green.endpoints = ["127.0.0.1:3003"]
target.blue.endpoints = ["127.0.0.1:3004"]
[service."live.web"]
routes = [{ path = "/web" }]
stable = "green"
target.green.endpoints = ["127.0.0.1:3005"]
target.blue.endpoints = ["127.0.0.1:3006"]
"#;

fn staged() -> Api {
    let api = Api::on(STAGED);
    let stage = |name: &str, json: &str| {
        let document: spec::Value = serde_json::from_str(json).unwrap();
        (name.to_owned(), parse_stage(name, &document).unwrap())
    };
    let dev = stage("dev", r#"{"strategy":"deploy_blue_green","next":"live"}"#);
    let live = stage("live", r#"{"strategy":"canary","pre_hook":["secret-command"]}"#);
    *api.fake.deployer.stages.lock().unwrap() = Arc::new(Stages::from([dev, live]));
    api
}

async fn open(api: &Api, body: &str) -> Value {
    let answer = api.call("POST", "/api/brackets", body).await;
    assert_eq!(answer.status, 201, "{body}: {answer:?}");
    let reply = answer.json();
    assert_eq!(answer.header("location"), format!("/api/brackets/{}", reply["name"].as_str().unwrap()));
    reply
}

#[tokio::test]
async fn a_bracket_on_the_wire() {
    let api = Api::open();
    let body = r#"{"name":"spring","strategy":"blue-green","service":"web","to":"blue","image":"web:2"}"#;
    let bracket = json!({
        "name": "spring", "state": "open", "strategy": "blue-green", "deployment": null, "why": null,
        "members": [{ "service": "web", "to": "blue", "version": null, "image": "web:2" }],
        "created_at": "2026-11-03T09:15:00.250Z"
    });
    let mut reply = bracket.clone();
    reply.as_object_mut().unwrap().extend([("generation".into(), json!(1)), ("dry_run".into(), json!(false))]);
    assert_eq!(open(&api, body).await, reply);
    assert_eq!(api.ok("GET", "/api/brackets/spring", "").await, bracket);
    assert_eq!(api.ok("GET", "/api/brackets", "").await, json!([bracket]));
}

#[tokio::test]
async fn services_are_queued_and_released_together() {
    let api = staged();
    assert_eq!(open(&api, r#"{"name":"spring","stage":"dev"}"#).await["members"], json!([]));
    let members = "/api/brackets/spring/members";
    let one = api.ok("POST", members, r#"{"service":"web","image":"web:1"}"#).await;
    assert_eq!(one["members"][0]["service"], "dev.web", "as it is called in the stage");
    let both =
        api.ok("POST", members, r#"{"members":[{"service":"web","image":"web:2"},{"service":"dev.api"}]}"#).await;
    assert_eq!((&both["members"][0]["image"], &both["members"][1]["service"]), (&json!("web:2"), &json!("dev.api")));

    let would = api.ok("POST", "/api/brackets/spring/release?dry_run=true", "").await;
    assert_eq!((&would["state"], &would["dry_run"]), (&json!("releasing"), &json!(true)), "{would}");
    assert!(!would["plan"]["steps"].as_array().unwrap().is_empty(), "{would}");
    assert_eq!(api.ok("GET", "/api/brackets/spring", "").await["state"], "open", "nothing was done");

    let releasing = api.ok("POST", "/api/brackets/spring/release", "").await;
    assert_eq!((&releasing["state"], &releasing["release"]["state"]), (&json!("releasing"), &json!("running")));
    assert!(releasing.get("plan").is_none());
    let id = releasing["deployment"].as_str().unwrap();
    for service in ["dev.web", "dev.api"] {
        assert_eq!(api.ok("GET", &format!("/api/services/{service}"), "").await["split"], json!({ "blue": 100 }));
    }
    api.ok("POST", &format!("/api/deployments/{id}/promote"), r#"{"full":true}"#).await;
    assert_eq!(api.ok("GET", "/api/brackets/spring", "").await["state"], "released");
    for path in [members, "/api/brackets/spring/release", "/api/brackets/spring/abort"] {
        let answer = api.call("POST", path, if path == members { r#"{"service":"web"}"# } else { "" }).await;
        assert_eq!(answer.status, 409, "{path}: {answer:?}");
    }
    open(&api, r#"{"name":"spring","stage":"dev"}"#).await;
}

#[tokio::test]
async fn a_bracket_that_is_given_up_releases_nothing_or_takes_it_back() {
    let api = Api::open();
    open(&api, r#"{"name":"a","strategy":"canary"}"#).await;
    let aborted = api.ok("POST", "/api/brackets/a/abort", r#"{"why":"the couple was too slow"}"#).await;
    assert_eq!((&aborted["state"], &aborted["why"]), (&json!("aborted"), &json!("the couple was too slow")));

    open(&api, r#"{"name":"b","strategy":"canary","service":"web","to":"blue"}"#).await;
    api.ok("POST", "/api/brackets/b/release", "").await;
    assert_eq!(api.ok("GET", "/api/services/web", "").await["split"]["blue"], 10);
    let aborted = api.ok("POST", "/api/brackets/b/abort", "").await;
    assert_eq!(aborted["name"], "b");
    assert_eq!(api.ok("GET", "/api/services/web", "").await["split"], json!({ "green": 100 }));
    assert_eq!(api.ok("GET", "/api/brackets/b", "").await["state"], "aborted");
}

#[tokio::test]
async fn what_is_wrong_with_a_bracket_has_its_status_and_path_and_changes_nothing() {
    let api = staged();
    open(&api, r#"{"name":"spring","strategy":"canary"}"#).await;
    let before = api.ok("GET", "/api/brackets", "").await;
    let test = r#"{"name":"b","strategy":"ab","service":"dev.web","variant":["name=blue,percentage=50","name=green,percentage=50"]}"#;
    for (path, body, status, paths) in [
        ("", r#"{"strategy":"canary"}"#, 422, &["name"][..]),
        ("", r#"{"name":"a/b","strategy":"teleport"}"#, 422, &["name", "strategy"]),
        ("", r#"{"name":"b","stage":"moon"}"#, 422, &["stage"]),
        ("", r#"{"name":"b","service":"moon"}"#, 422, &["service"]),
        (
            "",
            r#"{"name":"b","member":[{"service":"dev.web","to":"red"},{"service":"moon"}]}"#,
            422,
            &["member[0].to", "member[1].service"],
        ),
        ("", test, 422, &["strategy"]),
        ("", r#"{"name":"b","strategy":"canary","pre_hook":["rm"]}"#, 403, &["pre_hook"]),
        ("", r#"{"name":"b","name":"b"}"#, 422, &[""]),
        ("", "[]", 422, &[""]),
        ("", "", 400, &[""]),
        ("", r#"{"name":"spring"}"#, 409, &[]),
        ("/spring/members", r#"{"service":"moon"}"#, 422, &["service"]),
        ("/spring/members", r#"{"service":"dev.web","to":"red"}"#, 422, &["to"]),
        ("/spring/members", r#"{"service":"dev.web","strategy":"canary"}"#, 422, &["strategy"]),
        ("/spring/members", "{}", 422, &["service"]),
        ("/spring/release", "", 409, &[]),
        ("/spring/release", r#"{"now":true}"#, 422, &["now"]),
        ("/spring/abort", r#"{"why":""}"#, 422, &["why"]),
        ("/none/members", r#"{"service":"dev.web"}"#, 404, &[]),
        ("/none/release", "", 404, &[]),
        ("/none/abort", "", 404, &[]),
        ("/a%20b/abort", "", 404, &[]),
    ] {
        let answer = api.call("POST", &format!("/api/brackets{path}"), body).await;
        assert_eq!(
            (answer.status, answer.paths()),
            (status, paths.iter().map(|p| (*p).to_owned()).collect()),
            "{path} {body}: {answer:?}"
        );
    }
    assert_eq!(api.call("GET", "/api/brackets/none", "").await.status, 404);
    let stale = [("if-match", "\"7\"")];
    for (path, body) in
        [("", r#"{"name":"c"}"#), ("/spring/members", r#"{"service":"dev.web"}"#), ("/spring/abort", "")]
    {
        assert_eq!(api.call_with("POST", &format!("/api/brackets{path}"), body, &stale).await.status, 412, "{path}");
    }
    api.fake.deployer.journal_fails.store(true, SeqCst);
    assert_eq!(api.call("POST", "/api/brackets", r#"{"name":"c"}"#).await.status, 503);
    assert_eq!(api.ok("GET", "/api/brackets", "").await, before);
}

#[tokio::test]
async fn an_artifact_is_brought_to_a_stage_as_the_stage_says() {
    let api = staged();
    let body = r#"{"project":"foo","service":"web","artifact":"host:5000/web:1.2.3"}"#;
    let answer = api.call("POST", "/api/trigger/configuration-change", body).await;
    let reply = answer.json();
    assert_eq!((answer.status, answer.header("location")), (201, "/api/deployments/dep-1"), "{answer:?}");
    assert_eq!(
        (&reply["strategy"], &reply["stage"], &reply["project"]),
        (&json!("blue-green"), &json!("dev"), &json!("foo"))
    );
    let member = json!({
        "service": "dev.web", "from": "green", "to": ["blue"], "version": "1.2.3", "image": "host:5000/web:1.2.3",
        "previous": null
    });
    assert_eq!((&reply["members"], &reply["state"]), (&json!([member]), &json!("running")));
    open(&api, r#"{"name":"b","stage":"live","service":"web"}"#).await;
    let again = api.call("POST", "/api/trigger/configuration-change", body).await;
    assert_eq!(again.status, 409, "a deployment of the service is active: {again:?}");
    let staged_command = r#"{"stage":"live","services":["web:1"]}"#;
    let refused = api.call("POST", "/api/trigger/configuration-change?dry_run=true", staged_command).await;
    assert_eq!(refused.status, 200, "the commands of a stage are the configuration's: {refused:?}");
}

#[tokio::test]
async fn several_artifacts_are_one_deployment_or_wait_in_a_bracket() {
    let api = staged();
    *api.fake.deployer.verdict.lock().unwrap() = Some(Verdict::Pass);
    let trigger = "/api/trigger/configuration-change";
    let couple = r#"{"type":"new-artifact","project":"foo","stage":"dev",
        "services":["web:2",{"service":"api","artifact":"backend:0.22.3.rc"}]}"#;
    let answer = api.call_with("POST", trigger, couple, &[("idempotency-key", "k")]).await;
    assert_eq!(answer.json()["members"].as_array().unwrap().len(), 2, "{answer:?}");
    let repeated = api.call_with("POST", trigger, couple, &[("idempotency-key", "k")]).await;
    assert_eq!(repeated.json()["id"], answer.json()["id"], "the same request, the same deployment");
    api.ok("POST", "/api/deployments/dep-1/promote", r#"{"full":true}"#).await;

    for (service, status) in [("web:3", 201), ("api:3", 200)] {
        let body = json!({ "stage": "dev", "bracket": "spring", "services": [service] });
        let answer = api.call("POST", trigger, &body.to_string()).await;
        assert_eq!((answer.status, &answer.json()["state"]), (status, &json!("open")), "{answer:?}");
    }
    let waiting = api.ok("GET", "/api/brackets/spring", "").await;
    let versions: Vec<_> = waiting["members"].as_array().unwrap().iter().map(|m| m["version"].clone()).collect();
    assert_eq!((waiting["strategy"].as_str(), versions), (Some("blue-green"), vec![json!("3"), json!("3")]));
    let other = r#"{"stage":"live","bracket":"spring","services":["web:3"]}"#;
    assert_eq!(api.call("POST", trigger, other).await.status, 409, "a bracket is of one stage");
}

#[tokio::test]
async fn what_is_wrong_with_a_trigger_has_its_path() {
    let api = staged();
    for (body, status, paths) in [
        ("{}", 422, &["service"][..]),
        (r#"{"service":"web"}"#, 422, &["artifact"]),
        (r#"{"artifact":"web:1"}"#, 422, &["service"]),
        (r#"{"service":"web","artifact":""}"#, 422, &["artifact"]),
        (r#"{"services":["moon:1"]}"#, 422, &["services[0]"]),
        (r#"{"service":"moon","artifact":"moon:1","services":["web:1","sun:1"]}"#, 422, &["service", "services[1]"]),
        (r#"{"services":["web:1","web:2"]}"#, 422, &["services[1]"]),
        (r#"{"services":[{"service":"web","artifact":"web:1","tag":1}]}"#, 422, &["services[0]"]),
        (r#"{"stage":"moon","services":["web:1"]}"#, 422, &["stage"]),
        (r#"{"project":"","services":["web:1"]}"#, 422, &["project"]),
        (r#"{"bracket":"a b","services":["web:1"]}"#, 422, &["bracket"]),
        ("[]", 422, &[""]),
        ("{", 400, &[""]),
    ] {
        let answer = api.call("POST", "/api/trigger/configuration-change", body).await;
        assert_eq!(
            (answer.status, answer.paths()),
            (status, paths.iter().map(|p| (*p).to_owned()).collect()),
            "{body}: {answer:?}"
        );
    }
    let none = Api::open().call("POST", "/api/trigger/configuration-change", r#"{"services":["web:1"]}"#).await;
    assert_eq!((none.status, none.paths()), (422, vec!["stage".to_owned()]), "{none:?}");
    assert_eq!(api.ok("GET", "/api/deployments", "").await, json!([]));
}

#[tokio::test]
async fn readers_open_no_brackets_and_commands_come_along_with_a_token() {
    let api = Api::with_tokens(MetricsAccess::Open);
    let body = r#"{"name":"b","strategy":"canary","pre_hook":["check","--all"]}"#;
    assert_eq!(api.call_with("POST", "/api/brackets", body, &[("x-api-key", READ)]).await.status, 403);
    assert_eq!(api.call_with("POST", "/api/brackets", body, &[("x-api-key", ADMIN)]).await.status, 201);
    let shown = api.call_with("GET", "/api/brackets/b", "", &[("x-api-key", READ)]).await;
    assert!(shown.status == 200 && !shown.body.contains("--all"), "{shown:?}");
}
