//! Deployments from the command line, as people type them: the real binary against a real proxy.

use std::{process::Stdio, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;
use tidegate_e2e::{Behaviour, Fault, Origin, Tidegate, Wire, get, tidegate::run, until};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Ended, command, tidegate};

struct Bench {
    proxy: Tidegate,
    blue: Origin,
    _green: Origin,
}

fn services(green: &Origin, blue: &Origin) -> String {
    format!(
        r#"
        [hook."run-tests.sh"]
        argv = ["true"]
        [hook."notify-team.sh"]
        argv = ["true"]
        [hook."cleanup.sh"]
        argv = ["true"]
        [service.web-app]
        routes = [{{ host = "*", path = "/" }}]
        stable = "green"
        health = {{ path = "/health", interval = "1s" }}
        [service.web-app.target.green]
        endpoints = ["{}"]
        [service.web-app.target.blue]
        endpoints = ["{}"]
        "#,
        green.address(),
        blue.address()
    )
}

/// A service `web-app` on green, with a free target blue.
async fn bench() -> Bench {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&services(&green, &blue)).await;
    Bench { proxy, blue, _green: green }
}

impl Bench {
    /// Runs a verb.
    async fn tidegate(&self, line: &str) -> Ended {
        let server = format!("http://{}", self.proxy.admin());
        tidegate(self.proxy.dir(), &server, line).await
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.proxy.dir().join(name), text).unwrap();
    }

    async fn share(&self, target: &str) -> f64 {
        self.proxy.service("web-app").await["split"][target].as_f64().unwrap_or(0.0)
    }
}

#[tokio::test]
async fn a_deployment_that_succeeds_ends_with_0_and_has_the_traffic() {
    let bench = bench().await;
    bench.write(
        "green.toml",
        "strategy = \"blue-green\"\nservice = \"web-app\"\nimage = \"web:2\"\nwatch = \"1s\"\n\
         analyse = { on_inconclusive = \"promote\", min_requests = 1 }\n",
    );
    let plan = bench.tidegate("deployment create -f green.toml --dry-run").await;
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.out.contains("set weight  web-app: blue=100"), "{}", plan.out);
    assert_eq!(bench.tidegate("deployment list").await.out, "no deployments\n");

    // A switch gets no verdict without requests.
    let public = bench.proxy.public();
    let visits = tokio::spawn(async move {
        loop {
            let _ = get(public, "/").await;
        }
    });
    let ended = bench.tidegate("deployment create -f green.toml --wait --wait-timeout 30s").await;
    visits.abort();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("completed (succeeded)"), "{}", ended.out);
    assert!(ended.err.contains("step 1 of 3: verify") && ended.err.contains("100 %  succeeded"), "{}", ended.err);
    assert_eq!(bench.share("blue").await, 100.0);

    let id = bench.tidegate("deployment list --json").await.json()[0]["id"].as_str().unwrap().to_owned();
    let metrics = bench.tidegate(&format!("metrics get --deployment-id {id} --variant blue --json")).await.json();
    assert_eq!(metrics["id"], id.as_str());
    let taken_back = bench.tidegate(&format!("app rollback-deployment --id {id} --wait")).await;
    assert_eq!(taken_back.code, 0, "what was asked for was done: {taken_back:?}");
    assert_eq!(bench.share("green").await, 100.0);
    let status = bench.tidegate(&format!("app deployment-status --id {id}")).await;
    assert!(status.out.contains("failed (rolled-back)"), "{}", status.out);
    assert_eq!(bench.tidegate(&format!("deployment status {id} --wait")).await.code, 1);
}

#[tokio::test]
async fn a_deployment_that_fails_ends_with_1_or_2_and_says_why() {
    let bench = bench().await;
    bench.blue.set_health(Behaviour::Status(500));
    let line = "deployment create --app-name web-app --strategy blue-green --to blue --verification-timeout 1";
    let back = bench.tidegate(&format!("{line} --wait")).await;
    assert_eq!(back.code, 1, "{back:?}");
    assert!(back.out.contains("rolled back: ") && back.out.contains("tidegate deployment diagnose dep-"), "{back:?}");
    let failed = bench.tidegate(&format!("{line} --auto-rollback false --force \"a try\" --wait --json")).await;
    assert_eq!(failed.code, 2, "{failed:?}");
    assert_eq!(failed.json()["state"], "failed");
    let diagnosis = bench.tidegate(&format!("deployment diagnose --id {} --verbose", failed.id())).await;
    assert!(diagnosis.out.contains("health") && diagnosis.out.contains("status 500"), "{}", diagnosis.out);
    assert!(diagnosis.out.contains("step 1 failed: verify"), "{}", diagnosis.out);
    assert_eq!(bench.share("green").await, 100.0);
}

#[tokio::test]
async fn a_deployment_that_waits_for_somebody_ends_with_3_and_goes_on_by_order() {
    let bench = bench().await;
    let document = json!({"strategy": "custom", "service": "web-app",
        "step": [{"set": 10}, {"pause": "manual"}, {"set": 50}, {"pause": "manual"}, {"set": 100}]});
    bench.write("steps.json", &document.to_string());
    let paused = bench.tidegate("deployment create -f steps.json --wait").await;
    assert_eq!(paused.code, 3, "{paused:?}");
    assert_eq!(bench.share("blue").await, 10.0);
    assert!(paused.out.contains("tidegate deployment promote dep-"), "{}", paused.out);
    let id =
        bench.tidegate("deployment list --service web-app --json").await.json()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(bench.tidegate(&format!("deployment promote {id} --wait")).await.code, 3);
    assert_eq!(bench.share("blue").await, 50.0);
    assert_eq!(bench.tidegate(&format!("deployment promote {id} --full --wait")).await.code, 0);
    assert_eq!(bench.share("blue").await, 100.0);
    let events = bench.tidegate(&format!("deployment events {id}")).await;
    assert!(events.out.contains("waits: ") && events.out.contains("is over: succeeded"), "{}", events.out);
}

#[tokio::test]
async fn whoever_waits_survives_a_restart_of_the_proxy() {
    // The restarted proxy must be where the one before was.
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let admin = tidegate_e2e::origin::refused_address().await;
    let config = format!(
        "[server]\nstate_dir = \"state\"\n[admin]\nlisten = \"{admin}\"\n[listener.public]\naddress = \
         \"127.0.0.1:0\"\n{}",
        services(&green, &blue)
    );
    let proxy = Tidegate::start_exactly(&config, &[]).await;
    proxy.settled().await;
    let mut bench = Bench { proxy, blue, _green: green };
    let line = "deployment create --app-name web-app --strategy blue-green --watch 3s --wait";
    let mut waiting = command(bench.proxy.dir(), &format!("http://{admin}"), line)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines();
    until("it is watched", || async { (bench.share("blue").await == 100.0).then_some(()) }).await;
    bench.proxy.signal(Signal::SIGKILL);
    bench.proxy.ended(Duration::from_secs(5)).await;
    while !said.next_line().await.unwrap().expect("it waits on").ends_with("looking again") {}
    bench.proxy.restart().await;
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting.wait()).await.expect("it is over");
    assert_eq!(ended.unwrap().code(), Some(0));
    assert_eq!(bench.share("blue").await, 100.0);
}

#[tokio::test]
async fn a_deployment_whose_answer_is_lost_is_created_once() {
    let bench = bench().await;
    let wire = Wire::to(bench.proxy.admin()).await;
    wire.set(Fault::Half);
    let (dir, server) = (bench.proxy.dir().to_owned(), format!("http://{}", wire.address()));
    let line = "deployment create --app-name web-app --strategy blue-green --json";
    let creating = tokio::spawn(async move { tidegate(&dir, &server, line).await });
    let list = || async { bench.proxy.done("GET", "/api/deployments", None).await.as_array().unwrap().clone() };
    until("it is created, and the answer lost", || async { (list().await.len() == 1).then_some(()) }).await;
    wire.set(Fault::Reset);
    wire.set(Fault::None);
    let created = creating.await.unwrap();
    assert_eq!(created.code, 0, "{created:?}");
    let list = list().await;
    assert_eq!((list.len(), list[0]["id"].as_str()), (1, Some(created.id().as_str())));
}

#[tokio::test]
async fn without_a_proxy_that_is_said() {
    let nowhere = tidegate_e2e::origin::refused_address().await;
    let dir = std::env::temp_dir();
    for line in ["deployment list", "deployment create --app-name web --wait", "deployment status dep-1 --wait"] {
        let ended = tidegate(&dir, &format!("http://{nowhere}"), line).await;
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{line}");
        assert!(ended.err.starts_with("error: cannot reach the admin API at http://127.0.0.1:"), "{}", ended.err);
    }
}

#[tokio::test]
async fn every_problem_is_told_at_once_by_its_option() {
    let bench = bench().await;
    let line = "deployment create --app-name web-app --strategy canary --percentage 120 --steps 50,20 \
                --interval \"5 minutes\" --max-surge 1";
    let refused = bench.tidegate(line).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    for option in ["--percentage: 120 %", "--interval: \"5 minutes\"", "--steps: shares must rise", "--max-surge: "] {
        assert!(refused.err.contains(option), "{option}: {}", refused.err);
    }
    let (code, _, err) = run(bench.proxy.dir(), &["deployment", "create", "-f", "x.toml", "--image", "a"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--image"), "{err}");
}

#[tokio::test]
async fn the_commands_of_hivemind_work_as_they_are_written() {
    let bench = bench().await;
    let base = "deployment create --name web-deployment --app-name web-app --image nginx:latest";
    for options in [
        "--replicas 3 --strategy blue-green",
        "--replicas 3 --strategy blue-green --verification-timeout 60",
        "--pre-hook \"run-tests.sh\"",
        "--post-hook \"notify-team.sh\"",
        "--rollback-hook \"cleanup.sh\"",
        "--health-check-path /health --health-check-port 8080",
        "--strategy canary --traffic-router service-mesh",
        "--cpu 0.5 --memory 512M",
        "--env \"KEY1=value1\" --env \"KEY2=value2\"",
        "--volume data-volume:/data",
        "--strategy blue-green --cloud-provider aws",
        "--strategy canary --metrics-endpoint /metrics",
        "--replicas 5 --strategy canary --percentage 20 --steps 20,50,100 --interval 300",
    ] {
        let created = bench.tidegate(&format!("{base} {options} --pending --json")).await;
        assert_eq!(created.code, 0, "{options}: {created:?}");
        assert_eq!(
            (created.json()["name"].as_str(), created.json()["state"].as_str()),
            (Some("web-deployment"), Some("pending"))
        );
    }
    let begun = bench.tidegate(&format!("{base} --replicas 3 --strategy blue-green --json")).await;
    assert_eq!(begun.code, 0, "{begun:?}");
    assert_ne!(begun.json()["state"], "pending");
    let id = begun.id();
    let again = bench.tidegate(&format!("deployment execute --id {id}")).await;
    assert_eq!(again.code, 0, "it runs already");
    assert!(again.out.contains("in_progress"), "{}", again.out);
    assert_eq!(bench.tidegate(&format!("deployment rollback --id {id} --wait")).await.code, 0);
    assert_eq!(bench.tidegate(&format!("deployment execute --id {id}")).await.code, 1, "it is over");
    let pipeline = "cicd configure-deployment --pipeline my-pipeline --strategy blue-green --verification-timeout 60";
    assert_eq!(bench.tidegate(pipeline).await.code, 0);
    let of_pipeline =
        bench.tidegate("deployment create --pipeline my-pipeline --app-name web-app --pending --json").await;
    assert_eq!(of_pipeline.json()["strategy"], "blue-green");
    for line in [
        "app deploy --image nginx:latest --name web-app --strategy simple",
        "app deploy --image nginx:latest --name web-app --strategy rolling-update --max-unavailable 1 --max-surge 1",
        "app deploy --image nginx:latest --name web-app --strategy blue-green --verification-timeout 60",
        "app deploy --image nginx:latest --name web-app --strategy canary --percentage 20 --steps 20,50,100 --interval 300",
    ] {
        let begun = bench.tidegate(&format!("{line} --json")).await;
        assert_eq!(begun.code, 0, "{line}: {begun:?}");
        assert_ne!(begun.json()["state"], "pending", "{line}");
        let id = begun.id();
        assert_eq!(bench.tidegate(&format!("app deployment-status --id {id}")).await.code, 0);
        let back = bench.tidegate(&format!("app rollback-deployment --id {id} --wait")).await;
        assert_eq!(back.code, 0, "{line}: {back:?}");
    }
}

#[tokio::test]
async fn a_test_of_variants_is_run_from_the_command_line() {
    let (original, feature) = (Origin::start("original").await, Origin::start("new-feature").await);
    let proxy = Tidegate::start(&format!(
        r#"
        [service.web-app]
        routes = [{{ host = "*", path = "/" }}]
        stable = "original"
        health = {{ path = "/health", interval = "1s" }}
        [service.web-app.target.original]
        endpoints = ["{}"]
        [service.web-app.target.new-feature]
        endpoints = ["{}"]
        "#,
        original.address(),
        feature.address()
    ))
    .await;
    let bench = Bench { proxy, blue: feature, _green: original };
    let created = bench
        .tidegate(
            "deployment create --name feature-test --app-name web-app --strategy ab-testing --variant \
             \"name=original,image=web:v1,percentage=50\" --variant \"name=new-feature,image=web:v2,percentage=50\" \
             --duration 86400 --json",
        )
        .await;
    assert_eq!(created.code, 0, "{created:?}");
    let id = created.id();
    assert_eq!(bench.tidegate(&format!("deployment execute --id {id}")).await.code, 0);
    let shared = || async { (bench.share("new-feature").await == 50.0).then_some(()) };
    until("both variants have traffic", shared).await;
    let counted = || async {
        get(bench.proxy.public(), "/").await.unwrap();
        let metrics = bench.tidegate(&format!("metrics get --deployment-id {id} --variant new-feature --json")).await;
        assert_eq!(metrics.code, 0, "{metrics:?}");
        (metrics.json()["variants"][0]["requests"].as_u64()? > 0).then_some(())
    };
    until("requests are counted", counted).await;
    let won = bench.tidegate(&format!("deployment select-winner --id {id} --variant new-feature --wait")).await;
    assert_eq!(won.code, 0, "{won:?}");
    assert_eq!(bench.share("new-feature").await, 100.0);
}
