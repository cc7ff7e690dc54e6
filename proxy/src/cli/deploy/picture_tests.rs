use serde_json::json;

use super::*;

fn deployment(change: Value) -> Value {
    let mut deployment = json!({
        "id": "dep-1", "status": "in_progress", "state": "running", "progress": 40, "details": "step 3 of 7: analyse",
        "created_at": "2026-11-03T09:15:00.250Z", "updated_at": "2026-11-03T09:20:00.250Z", "completed": false,
        "successful": false, "exit_code": null, "labels": {"commit": "abc"},
        "name": "web-deployment", "project": null, "stage": null, "strategy": "canary",
        "members": [{"service": "web", "from": "green", "to": ["v2"], "version": "2.0", "image": "web:v2",
            "previous": "1.0"}],
        "step": {"number": 3, "of": 7, "name": "analyse"}, "paused": null, "why": null, "troubles": [], "winner": null,
        "traffic": {"web": {"green": 95, "v2": 5}},
        "verdicts": {"web": {"verdict": "running", "winner": null, "reason": "no difference so far", "evidence": 0.5,
            "threshold": 100.0, "samples": 12, "baseline_samples": 240}},
        "warnings": ["the test is short"], "queued": false, "retry_of": null, "finished_at": null, "env": ["KEY1"]
    });
    if let (Value::Object(deployment), Value::Object(change)) = (&mut deployment, change) {
        deployment.extend(change);
    }
    deployment
}

#[test]
fn a_status_answers_what_people_ask() {
    assert_eq!(
        status(&deployment(json!({})), Colours::Off),
        "\
dep-1
  status     in_progress (running)
  progress   40 %
  details    step 3 of 7: analyse
  created    2026-11-03T09:15:00.250Z
  updated    2026-11-03T09:20:00.250Z
  completed  no
  successful no
  labels     commit=abc
"
    );
}

#[test]
fn a_deployment_is_shown_field_by_field() {
    let paused = json!({"state": "paused", "paused": {"reason": "waits for a person", "until": "tomorrow"},
        "why": {"kind": "health", "message": "blue is ill"}, "troubles": ["stop blue: exit code 1"]});
    assert_eq!(
        details(&deployment(paused), Colours::Off),
        "\
dep-1  canary of web
  name       web-deployment
  status     in_progress (paused), 40 %: step 3 of 7: analyse
  service    web: green -> v2, version 2.0, image web:v2, before 1.0
  traffic    web: green=95 v2=5
  analysis   web: running: no difference so far (12 samples beside 240)
  paused     waits for a person, until tomorrow
  why        health: blue is ill
  trouble    stop blue: exit code 1
  created    2026-11-03T09:15:00.250Z
  updated    2026-11-03T09:20:00.250Z
  labels     commit=abc
  variables  KEY1
  warning    the test is short
"
    );
}

#[test]
fn deployments_are_listed_with_their_state() {
    let ended = deployment(json!({"id": "dep-0", "state": "succeeded", "progress": 100, "name": null}));
    assert_eq!(
        list(&json!([deployment(json!({})), ended]), Colours::Off),
        "\
ID     STRATEGY  SERVICE  VERSION  STATE       DONE  UPDATED                   NAME
dep-1  canary    web      2.0      running     40 %  2026-11-03T09:20:00.250Z  web-deployment
dep-0  canary    web      2.0      succeeded  100 %  2026-11-03T09:20:00.250Z
"
    );
    assert_eq!(list(&json!([]), Colours::Off), "no deployments\n");
}

fn a_plan() -> Value {
    json!({"id": "dep-1", "undo": ["restore traffic"], "warnings": ["short"], "steps": [
        {"number": 1, "task": "deploy", "name": "hook", "text": "start", "progress": "done", "undo": ["stop v2"]},
        {"number": 2, "task": "release", "name": "set weight", "text": "web: v2=5", "progress": "now", "undo": []}]})
}

#[test]
fn a_plan_says_where_it_stands_and_how_it_is_taken_back() {
    assert_eq!(
        plan(&a_plan(), Colours::Off),
        "\
#  STEP        WHAT       TAKEN BACK BY
1  hook        start      stop v2        done
2  set weight  web: v2=5                 now
warning: short
a rollback would now: restore traffic
"
    );
}

#[test]
fn an_order_is_answered_with_what_can_be_done_next() {
    let pending = |more: Value| {
        let mut reply = deployment(json!({"generation": 7, "dry_run": false, "state": "pending",
            "details": "waits to be executed"}));
        if let (Value::Object(reply), Value::Object(more)) = (&mut reply, more) {
            reply.extend(more);
        }
        reply
    };
    assert_eq!(
        reply(&pending(json!({})), Colours::Off),
        "\
dep-1  canary of web: waits to be executed
  warning: the test is short
  tidegate deployment execute dep-1 --wait
"
    );
    let dry = reply(&pending(json!({"dry_run": true, "plan": a_plan()})), Colours::Off);
    assert!(dry.starts_with("canary of web (dry run: nothing was changed)\n#  STEP "), "{dry}");
    assert!(!dry.contains("now"), "what was only asked for stands nowhere: {dry}");
    let dry = reply(&pending(json!({"dry_run": true})), Colours::Off);
    assert_eq!(dry.lines().next(), Some("dep-1  canary of web: waits to be executed (dry run: nothing was changed)"));
}

#[test]
fn a_diagnosis_says_what_was_seen_and_what_to_look_at() {
    let answer = json!({"id": "dep-1", "state": "failed", "details": "failed: exit code 1", "warnings": ["short"],
        "findings": [{"class": "start", "seen": ["start of v2: exit code 1\nno such\u{1b}[2J image"],
            "advice": ["run the command by hand"]}]});
    assert_eq!(
        diagnosis(&answer, Colours::Off),
        "\
dep-1: failed: exit code 1
warning: short
start
  start of v2: exit code 1
  no such\u{fffd}[2J image
  - run the command by hand
"
    );
    let answer = json!({"id": "dep-1", "state": "succeeded", "details": "succeeded", "warnings": [], "findings": []});
    assert_eq!(diagnosis(&answer, Colours::Off), "dep-1: succeeded\nnothing is known to be wrong\n");
}

#[test]
fn events_are_a_line_each() {
    let line = json!({"seq": 3, "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 0, "type": "step_started",
        "text": "step 2 begins: set weight", "data": {}});
    let shown = "2026-11-03T09:15:00.250Z #3  step 2 begins: set weight\n";
    assert_eq!((events(&json!([line]), Colours::Off).as_str(), event(&line, Colours::Off).as_str()), (shown, shown));
    assert_eq!(event(&json!({"tide": 1}), Colours::Off), "{\"tide\":1}\n");
}

#[test]
fn counts_line_up_and_what_is_not_known_is_a_dash() {
    let variant = |name: &str, conversions: Option<u64>| {
        json!({"service": "web", "variant": name, "requests": 1200, "errors": 6, "error_percent": 0.5, "p50_ms": 12.04,
            "p95_ms": 41.0, "p99_ms": null, "visitors": 310, "conversions": conversions,
            "conversion_percent": conversions.map(|n| n as f64)})
    };
    let answer = json!({"id": "dep-1", "variants": [variant("original", Some(31)), variant("v2", None)]});
    assert_eq!(
        metrics(&answer, Colours::Off),
        "\
SERVICE  VARIANT   REQUESTS  ERRORS  ERRORS %  P50 ms  P95 ms  P99 ms  VISITORS  CONVERSIONS  CONV %
web      original      1200       6      0.50    12.0    41.0       -       310           31   31.00
web      v2            1200       6      0.50    12.0    41.0       -       310            -       -
"
    );
}

#[test]
fn answers_of_a_newer_server_are_shown_as_they_are() {
    for picture in [status, details, list, plan, reply, events, diagnosis, metrics] {
        assert_eq!(picture(&json!({"tide": 1}), Colours::Off), "{\n  \"tide\": 1\n}\n");
    }
}
