//! A version that goes through two stages, and two event sinks that are told about it: also when the proxy is killed
//! again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};
use tidegate_e2e::{Crowd, Origin, Sent, Tidegate, until};

use super::HEALTH;

/// Service `web` in two stages, both with a stable blue and a green, and two sinks.
fn config(origins: &[&Origin; 4], receiver: &Origin) -> String {
    let [blue_one, green_one, blue_two, green_two] = origins.map(Origin::address);
    let common = "health_successes = 1\nhealth_timeout = \"10s\"\n";
    let service = |stage: &str, blue, green| {
        format!(
            "[service.\"{stage}.web\"]\nroutes = [{{ host = \"{stage}.test\", path = \"/\" }}]\nstable = \"blue\"\n\
             {HEALTH}\n[service.\"{stage}.web\".target.blue]\nendpoints = [\"{blue}\"]\n\
             [service.\"{stage}.web\".target.green]\nendpoints = [\"{green}\"]\n"
        )
    };
    format!(
        "[events]\nprefix = \"sh.keptn.event\"\n[[events.sink]]\nname = \"log\"\nfile = \"events.jsonl\"\n\
         [[events.sink]]\nname = \"http\"\nurl = \"http://{}/events\"\n\
         [stage.hardening]\nnext = \"production\"\nauto_promote = true\nstrategy = \"blue-green\"\nwatch = \"300ms\"\n\
         {common}[stage.production]\nstrategy = \"canary\"\nsteps = [50, 100]\ninterval = \"300ms\"\n\
         analyse = {{ min_requests = 5, on_inconclusive = \"extend\", alpha = 1e-6 }}\n{common}{}{}",
        receiver.address(),
        service("hardening", blue_one, green_one),
        service("production", blue_two, green_two),
    )
}

async fn origins() -> [Origin; 4] {
    [
        Origin::start_counting("blue").await,
        Origin::start_counting("green").await,
        Origin::start_counting("blue").await,
        Origin::start_counting("green").await,
    ]
}

async fn trigger(proxy: &Tidegate) -> String {
    let change = json!({ "project": "shop", "service": "web", "artifact": "web:2" });
    let answer = proxy.done("POST", "/api/trigger/configuration-change", Some(change)).await;
    answer["id"].as_str().unwrap().to_owned()
}

/// Whether a deployment tells it, and not another part of the proxy.
fn is_a_deployments(event: &Value) -> bool {
    event["shkeptncontext"].is_string()
}

/// The events of deployments, by their ids; an event that came twice is the same each time.
fn by_id(events: impl Iterator<Item = Value>) -> BTreeMap<String, Value> {
    let mut known = BTreeMap::new();
    for event in events.filter(is_a_deployments) {
        let id = event["id"].as_str().unwrap().to_owned();
        if let Some(before) = known.insert(id.clone(), event.clone()) {
            assert_eq!(before, event, "{id} came twice, and is not the same");
        }
    }
    known
}

fn of_file(dir: &Path) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap_or_default();
    by_id(text.lines().map(|line| serde_json::from_str(line).unwrap()))
}

fn of_receiver(receiver: &Origin) -> BTreeMap<String, Value> {
    by_id(posted(receiver).into_iter())
}

fn posted(receiver: &Origin) -> Vec<Value> {
    receiver.seen().iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

/// The kinds that a delivery must have told, without their prefix.
fn kinds(events: &BTreeMap<String, Value>, deployment: &str) -> BTreeSet<String> {
    let of = events.values().filter(|event| event["shkeptncontext"] == deployment);
    of.map(|event| event["type"].as_str().unwrap().trim_start_matches("sh.keptn.event.").to_owned()).collect()
}

/// Each task of both stages, from its order to its end.
fn assert_complete(events: &BTreeMap<String, Value>, first: &str, second: &str) {
    let tasks = |names: &[&str]| -> BTreeSet<String> {
        let of = |name: &&str| ["triggered", "started", "finished"].map(|end| format!("{name}.{end}"));
        names.iter().flat_map(of).collect()
    };
    let lacks = |deployment: &str, names: &[&str]| {
        let lacking: Vec<_> = tasks(names).difference(&kinds(events, deployment)).cloned().collect();
        assert!(lacking.is_empty(), "{deployment} lacks {lacking:?}");
    };
    lacks(first, &["configuration-change", "deploy_blue_green", "release", "evaluation", "promote"]);
    lacks(second, &["configuration-change", "deploy_canary", "release", "evaluation"]);
    for event in events.values() {
        if let Some(asked) = event["triggeredid"].as_str() {
            assert!(events.contains_key(asked), "{} was asked for by {asked}, which was never told", event["id"]);
        }
    }
}

#[tokio::test]
async fn a_version_goes_through_two_stages_by_itself_and_both_sinks_get_the_whole_tree() {
    let (origins, receiver) = (origins().await, Origin::start("receiver").await);
    let proxy = Tidegate::start(&config(&origins.each_ref(), &receiver)).await;
    let request = Sent::new("GET", "/").field("host", "production.test");
    let crowd = Crowd::asking(proxy.public(), 4, &request);
    let first = trigger(&proxy).await;
    proxy.reaches(&first, "succeeded").await;
    let second = until("the next stage has its deployment", || async {
        let promoted = proxy.happened(&first).await.into_iter().find(|entry| entry["type"] == "promoted")?;
        Some(promoted["data"]["deployment"].as_str().unwrap().to_owned())
    })
    .await;
    let over = proxy.reaches(&second, "succeeded").await;
    assert_eq!((&over["stage"], &over["members"][0]["image"]), (&json!("production"), &json!("web:2")));
    assert_eq!(proxy.service("production.web").await["stable"], "green");
    until("both sinks know of the end", || async {
        let ended = |events: &BTreeMap<String, Value>| kinds(events, &second).contains("configuration-change.finished");
        (ended(&of_file(proxy.dir())) && ended(&of_receiver(&receiver))).then_some(())
    })
    .await;
    let (file, http) = (of_file(proxy.dir()), of_receiver(&receiver));
    assert_complete(&file, &first, &second);
    assert_eq!(file, http);
    assert_eq!(crowd.stop().await.failed(), 0);
}

#[tokio::test]
async fn a_proxy_that_is_killed_again_and_again_tells_every_event_at_least_once_and_as_the_same() {
    let (origins, receiver) = (origins().await, Origin::start("receiver").await);
    let mut proxy = Tidegate::start(&config(&origins.each_ref(), &receiver)).await;
    let first = trigger(&proxy).await;
    let second = format!("{first}n");
    // Nobody asks anything, so the second one waits for a person when its windows have been extended: until then,
    // something happens all the time.
    let waits = async |proxy: &Tidegate| {
        let answer = proxy.call("GET", &format!("/api/deployments/{second}"), None).await;
        answer.status == 200 && answer.json()["state"] == "paused"
    };
    let mut known = 0;
    while !waits(&proxy).await {
        known = until("something more is told, or it waits", || async {
            let told = of_file(proxy.dir()).len();
            (told >= known + 4 || waits(&proxy).await).then_some(told)
        })
        .await;
        proxy.kill_and_restart().await;
    }
    while proxy.deployment(&second).await["state"] == "paused" {
        proxy.order(&second, "promote").await;
        until("it goes on", || async {
            let deployment = proxy.deployment(&second).await;
            (deployment["state"] != "running").then_some(())
        })
        .await;
    }
    assert_eq!(proxy.deployment(&second).await["state"], "succeeded");
    until("both sinks know the same, to the end", || async {
        let (file, http) = (of_file(proxy.dir()), of_receiver(&receiver));
        (kinds(&file, &second).contains("configuration-change.finished") && file == http).then_some(())
    })
    .await;
    assert_complete(&of_file(proxy.dir()), &first, &second);
    // What is over is told once: a restart is no news.
    let told = || posted(&receiver).iter().filter(|event| is_a_deployments(event)).count();
    let before = told();
    for _ in 0..3 {
        proxy.kill_and_restart().await;
    }
    let sinks = ["log", "http"].map(|sink| format!("tidegate_sink_waiting{{sink=\"{sink}\"}}"));
    for waiting in sinks {
        until("a sink has nothing more to tell", || async { (proxy.metric(&waiting).await == 0.0).then_some(()) })
            .await;
    }
    assert_eq!(told(), before);
}
