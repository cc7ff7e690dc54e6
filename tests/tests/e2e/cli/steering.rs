//! Steering a deployment from the command line: every order in words and in JSON, every refusal, and what is followed.

use std::process::Stdio;

use serde_json::Value;
use tidegate_e2e::{Crowd, Origin, Sent, Tidegate, until};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Ended, command, tidegate};

struct Bench {
    proxy: Tidegate,
    _origins: [Origin; 2],
}

/// A service `web` on green, with a free target blue.
async fn bench() -> Bench {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&format!(
        "[service.web]\nstable = \"green\"\nhealth = {{ path = \"/health\", interval = \"1s\" }}\n\
         target.green.endpoints = [\"{}\"]\ntarget.blue.endpoints = [\"{}\"]\n",
        green.address(),
        blue.address()
    ))
    .await;
    Bench { proxy, _origins: [green, blue] }
}

impl Bench {
    async fn tidegate(&self, line: &str) -> Ended {
        tidegate(self.proxy.dir(), &self.server(), line).await
    }

    fn server(&self) -> String {
        format!("http://{}", self.proxy.admin())
    }

    /// A verb that must succeed; its JSON.
    async fn done(&self, line: &str) -> Value {
        let ended = self.tidegate(&format!("{line} --json")).await;
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
        ended.json()
    }

    /// A verb that must be refused for this reason, in words and in JSON, and that changes nothing.
    async fn refused(&self, line: &str, reason: &str) {
        let before = self.proxy.done("GET", "/api/services", None).await[0]["split"].clone();
        let ended = self.tidegate(line).await;
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{line}: {ended:?}");
        assert!(ended.err.starts_with("error: ") && ended.err.contains(reason), "{line}: {}", ended.err);
        let ended = self.tidegate(&format!("{line} --json")).await;
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{line}: {ended:?}");
        let problem: Value = serde_json::from_str(&ended.err).unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{line}: {problem}");
        assert_eq!(self.proxy.done("GET", "/api/services", None).await[0]["split"], before, "{line}");
    }

    async fn deploy(&self, options: &str) -> String {
        let created = self.done(&format!("deployment create --app-name web {options}")).await;
        created["id"].as_str().unwrap().to_owned()
    }

    async fn share(&self, target: &str) -> f64 {
        self.proxy.service("web").await["split"][target].as_f64().unwrap_or(0.0)
    }
}

#[tokio::test]
async fn a_deployment_is_paused_resumed_skipped_promoted_and_retried() {
    let bench = bench().await;
    let id = bench.deploy("--image web:2 --strategy canary --percentage 5 --steps 20,100 --interval 1h").await;
    bench.proxy.does(&id, "analyse").await;
    assert_eq!(bench.share("blue").await, 5.0);
    let paused = bench.tidegate(&format!("deployment pause {id}")).await;
    assert_eq!(paused.code, 0, "{paused:?}");
    assert!(paused.out.contains("paused by an operator"), "{}", paused.out);
    let status = bench.tidegate(&format!("deployment status {id} --wait")).await;
    assert_eq!(status.code, 3, "{status:?}");
    assert!(status.out.contains("in_progress (paused)"), "{}", status.out);
    assert_eq!(bench.done(&format!("deployment resume {id}")).await["state"], "running");

    let skipped = bench.tidegate(&format!("deployment skip {id} --wait --wait-timeout 1s")).await;
    assert_eq!(skipped.code, 4, "the next share is judged for an hour: {skipped:?}");
    assert!(skipped.err.contains(&format!("tidegate deployment status {id} --wait")), "{}", skipped.err);
    bench.proxy.does(&id, "analyse").await;
    assert_eq!(bench.share("blue").await, 20.0);
    bench.refused(&format!("deployment retry {id}"), "is not over").await;
    bench.refused(&format!("deployment cancel {id}"), "roll it back").await;
    bench.refused(&format!("deployment select-winner {id} --variant blue"), "is not a test of variants").await;
    bench.refused(&format!("deployment convert {id} --visitor anna --goal buy"), "goal \"buy\"").await;
    bench.refused("deployment create --app-name web --strategy canary --to blue", &id).await;
    let promoted = bench.tidegate(&format!("deployment promote {id} --wait")).await;
    assert_eq!((promoted.code, bench.share("blue").await), (0, 100.0), "{promoted:?}");

    let events = bench.tidegate(&format!("deployment events {id}")).await;
    for told in
        ["begins: set weight: web: blue=5 green=95", "waits: paused by an operator", "goes on", "is passed over"]
    {
        assert!(events.out.contains(told), "{told}: {}", events.out);
    }
    let kinds = bench.done(&format!("deployment events {id}")).await;
    assert!(kinds.as_array().unwrap().iter().any(|event| event["type"] == "step_skipped"), "{kinds:#}");
    for verb in ["pause", "resume", "skip", "promote"] {
        bench.refused(&format!("deployment {verb} {id}"), "is over").await;
    }
    let diagnosis = bench.tidegate(&format!("deployment diagnose {id}")).await;
    assert!(diagnosis.out.contains("nothing is known to be wrong"), "{diagnosis:?}");
    let both = bench.done(&format!("deployment diagnose {id} --verbose")).await;
    assert_eq!((&both["diagnosis"]["state"], &both["events"][0]["type"]), (&"succeeded".into(), &"created".into()));
    assert_eq!(bench.done(&format!("deployment plan {id}")).await["steps"][0]["name"], "verify");

    assert_eq!(bench.tidegate(&format!("deployment rollback {id} --wait")).await.code, 0);
    bench.refused(&format!("deployment rollback {id}"), "was rolled back already").await;
    let again = bench.tidegate(&format!("deployment retry {id} --json")).await;
    assert_eq!((again.code, again.json()["retry_of"].as_str()), (0, Some(id.as_str())), "{again:?}");
    let next = again.id();
    let taken_back = bench.tidegate(&format!("deployment rollback {next} --wait --json")).await;
    assert_eq!((taken_back.code, taken_back.json()["state"].as_str()), (0, Some("rolled-back")), "{taken_back:?}");
    assert_eq!(bench.tidegate(&format!("deployment status {next} --wait")).await.code, 1);
    assert_eq!(bench.share("green").await, 100.0);
}

#[tokio::test]
async fn what_only_waits_to_begin_can_be_executed_or_cancelled() {
    let bench = bench().await;
    let id = bench.deploy("--strategy blue-green --pending").await;
    for (verb, next) in
        [("pause", "execute it"), ("skip", "execute it"), ("promote", "execute it"), ("rollback", "cancel it")]
    {
        bench.refused(&format!("deployment {verb} {id}"), next).await;
    }
    assert_eq!(bench.done(&format!("deployment cancel {id}")).await["state"], "cancelled");
    bench.refused(&format!("deployment execute {id}"), "is over: retry it").await;
    let other = "dep-01k9zzzzzzzzzzzzzzzzzzzzzz";
    bench.refused(&format!("deployment get {other}"), &format!("there is no deployment {other}")).await;
    let odd = bench.tidegate("deployment get x/y").await;
    assert_eq!(odd.code, 2, "{odd:?}");
    // Begun at once, it still says what a person should know.
    let begun = bench.tidegate("deployment create --app-name web --strategy blue-green --traffic-router istio").await;
    assert_eq!(begun.code, 0, "{begun:?}");
    assert!(begun.err.contains("warning: traffic_router is only told to commands"), "{begun:?}");
}

#[tokio::test]
async fn the_events_of_a_deployment_are_followed_while_they_happen() {
    let bench = bench().await;
    let id = bench.deploy("--strategy canary --steps 20,100 --interval 1h").await;
    let mut following =
        command(bench.proxy.dir(), &bench.server(), &format!("deployment events {id} --follow --after 1"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    let mut said = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = async |wanted: &str| loop {
        let line = said.next_line().await.unwrap().expect("it goes on");
        assert!(!line.contains(" #1 "), "{line}");
        if line.contains(wanted) {
            return;
        }
    };
    next("begins: analyse").await;
    bench.done(&format!("deployment pause {id}")).await;
    next("waits: paused by an operator").await;
    bench.done(&format!("deployment rollback {id}")).await;
    next("is over: rolled").await;
    following.kill().await.unwrap();
}

#[tokio::test]
async fn conversions_that_a_back_end_reports_are_counted() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&format!(
        "[service.web]\nstable = \"green\"\nsticky = {{ header = \"x-user\" }}\n\
         health = {{ path = \"/health\", interval = \"1s\" }}\n\
         target.green.endpoints = [\"{}\"]\ntarget.blue.endpoints = [\"{}\"]\n",
        green.address(),
        blue.address()
    ))
    .await;
    let bench = Bench { proxy, _origins: [green, blue] };
    let id = bench
        .deploy(
            "--strategy ab-testing --variant name=green,percentage=50 --variant name=blue,percentage=50 --duration 24h \
             --goal name=buy,path=/never",
        )
        .await;
    bench.proxy.does(&id, "analyse").await;
    let anna = Sent::new("GET", "/").field("x-user", "anna");
    let crowd = Crowd::asking(bench.proxy.public(), 1, &anna);
    crowd.more(2).await;
    let unknown = bench.tidegate(&format!("deployment convert {id} --visitor anna --goal sell")).await;
    assert_eq!(unknown.code, 1, "{unknown:?}");
    let counted = bench.tidegate(&format!("deployment convert {id} --visitor anna --goal buy")).await;
    assert_eq!((counted.code, counted.out.as_str()), (0, "counted\n"), "{counted:?}");
    until("it is counted", || async {
        let metrics = bench.done(&format!("metrics get {id}")).await;
        let variants = metrics["variants"].as_array().unwrap();
        (variants.iter().filter_map(|variant| variant["conversions"].as_u64()).sum::<u64>() == 1).then_some(())
    })
    .await;
    let table = bench.tidegate(&format!("metrics get --deployment-id {id}")).await;
    assert!(table.out.starts_with("SERVICE  VARIANT  REQUESTS"), "{table:?}");
    let purple = bench.tidegate(&format!("metrics get {id} --variant purple")).await;
    assert!(purple.code == 1 && purple.err.contains("no variant \"purple\""), "{purple:?}");
    let nobody = bench.tidegate(&format!("deployment select-winner {id} --variant purple")).await;
    assert!(nobody.code == 1 && nobody.err.contains("purple"), "{nobody:?}");
    let won = bench.tidegate(&format!("deployment select-winner --id {id} --variant blue --wait --json")).await;
    assert_eq!((won.code, won.json()["state"].as_str()), (0, Some("succeeded")), "{won:?}");
    assert_eq!(crowd.stop().await.failed(), 0);
}

#[tokio::test]
async fn a_service_whose_requests_wait_says_so_until_they_go_on() {
    let bench = bench().await;
    assert_eq!(bench.done("hold web").await["events"][0]["hold"], true);
    let crowd = Crowd::start(bench.proxy.public(), 1);
    let status = bench.tidegate("status web").await;
    assert!(status.out.contains("web: requests wait; `tidegate release web` lets them go on\n"), "{status:?}");
    assert_eq!(bench.tidegate("hold web").await.out.lines().next(), Some("nothing to change"));
    assert_eq!(bench.done("release web").await["events"][0]["hold"], false);
    crowd.more(3).await;
    assert_eq!(crowd.stop().await.failed(), 0, "they waited and were answered");
    assert!(!bench.tidegate("status web").await.out.contains("requests wait"));
    let wrong = bench.tidegate("hold wbe").await;
    assert!(wrong.code == 1 && wrong.err.contains("there is no service wbe"), "{wrong:?}");
}

#[tokio::test]
async fn a_document_with_a_mistake_is_named_with_what_was_meant() {
    let bench = bench().await;
    let wrong = [
        ("a.json", "{\"strategy\": ", "a.json: the body is not JSON"),
        ("b.toml", "strategy = \"canary", "b.toml: the body is not TOML in line 1"),
        (
            "c.toml",
            "strategy = \"canary\"\nservice = \"web\"\nstepps = [1]\n",
            "stepps: unknown key: did you mean steps?",
        ),
        (
            "d.toml",
            "strategy = \"canary\"\nservice = \"web\"\nto = \"purple\"\n",
            "d.toml: to: service web has no target",
        ),
    ];
    for (file, text, problem) in wrong {
        std::fs::write(bench.proxy.dir().join(file), text).unwrap();
        let ended = bench.tidegate(&format!("deployment create -f {file}")).await;
        assert!(ended.code == 1 && ended.err.contains(problem), "{file}: {ended:?}");
    }
    let missing = bench.tidegate("deployment create -f nowhere.toml").await;
    assert!(missing.code == 1 && missing.err.contains("cannot read nowhere.toml"), "{missing:?}");
    let purple = bench.tidegate("switch web purple").await;
    assert!(purple.code == 1 && purple.err.contains("no target purple; it has blue, green"), "{purple:?}");
    let near = bench.tidegate("status wbe").await;
    assert!(near.code == 1 && near.err.contains("there is no service wbe: did you mean web?"), "{near:?}");
    assert_eq!(bench.tidegate("deployment list").await.out, "no deployments\n");
}
