//! The watch on folders of stacks, with real commands and processes: what changes is deployed, what is ill comes back,
//! and the trouble of one stack leaves the others alone. The scripts that put files in place are those of the examples.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tidegate_e2e::{Crowd, Programs, Sent, Tidegate, get, until, until_within};

/// Starts what was put in place: its version is the last word of its compose file. One that begins with `bad` never listens.
const START: &str = r#"#!/bin/sh
set -eu
cd "$(dirname "$0")"
version=$(tail -n 1 "running/$TIDEGATE_SERVICE/compose.yaml" | sed 's/.* //')
echo "start $TIDEGATE_SERVICE $version" >> calls
echo "$version ${TIDEGATE_LABEL_TEST_OPTION1:-none}" >> labels
case "$version" in bad*) exit 0 ;; esac
file="addresses/$TIDEGATE_SERVICE.$TIDEGATE_TARGET.0"
pid="pids/${file#addresses/}"
"ORIGIN" "$(cat "$file")" "$version" "--pid=$PWD/$pid" </dev/null >/dev/null 2>&1 &
until [ -e "$pid" ]; do sleep 0.01; done
"#;

const STOP: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
pid="pids/$TIDEGATE_SERVICE.$TIDEGATE_TARGET.0"
[ -e "$pid" ] || exit 0
kill -9 "$(cat "$pid")" 2>/dev/null
rm -f "$pid"
"#;

struct Bench {
    programs: Programs,
    repo: TempDir,
}

impl Bench {
    fn new() -> Self {
        let origin = env!("CARGO_BIN_EXE_load-origin");
        let bench = Self { programs: Programs::new(origin), repo: TempDir::new().unwrap() };
        bench.programs.script("start", &START.replace("ORIGIN", origin));
        bench.programs.script("stop", STOP);
        bench
    }

    fn stack(&self, name: &str) -> PathBuf {
        self.repo.path().join("stacks").join(name)
    }

    /// Writes a file of a stack in one step.
    fn write(&self, stack: &str, file: &str, text: &str) {
        let folder = self.stack(stack);
        fs::create_dir_all(&folder).unwrap();
        let next = self.repo.path().join("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, folder.join(file)).unwrap();
    }

    /// A service whose versions are put in place by the scripts of the examples.
    async fn service(&self, name: &str) -> String {
        self.service_in(name, &["main"]).await
    }

    async fn service_in(&self, name: &str, targets: &[&str]) -> String {
        let script = |script: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples/stacks").join(script);
            let (running, good) = (self.programs.path("running"), self.programs.path("good"));
            format!("{script} = [{path:?}, {running:?}, {good:?}]\n")
        };
        let health = r#"health = { path = "/health", interval = "200ms", timeout = "5s", fall = 1, rise = 1 }"#;
        let mut places = String::new();
        for target in targets {
            places.push_str(&self.programs.place(name, target, 1).await);
        }
        let route = format!("routes = [{{ path = \"/{name}\" }}]");
        let commands = format!("{}{}{}", self.programs.commands(), script("install"), script("save"));
        format!("[service.{name}]\nstable = {:?}\n{route}\n{health}\n{commands}{places}", targets[0])
    }

    fn watch(&self, more: &str) -> String {
        format!("[watch]\nstacks = \"{}/*\"\ninterval = \"1s\"\n{more}\n", self.repo.path().join("stacks").display())
    }

    /// What was started, in its order.
    fn started(&self, stack: &str) -> Vec<String> {
        let begin = format!("start {stack} ");
        self.programs.calls().iter().filter_map(|call| Some(call.strip_prefix(&begin)?.to_owned())).collect()
    }
}

/// The version that answers.
async fn answers(proxy: &Tidegate, service: &str, version: &str) {
    until_within(Duration::from_secs(60), &format!("{service} is {version}"), || async {
        let answer = get(proxy.public(), &format!("/{service}")).await.ok()?;
        (answer.status == 200 && answer.text().trim() == version).then_some(())
    })
    .await;
}

async fn deployments(proxy: &Tidegate) -> Vec<Value> {
    proxy.done("GET", "/api/deployments", None).await.as_array().unwrap().clone()
}

async fn over(proxy: &Tidegate, count: usize) -> Vec<Value> {
    until_within(Duration::from_secs(60), &format!("{count} deployments are over"), || async {
        let all = deployments(proxy).await;
        (all.len() >= count && all.iter().all(|deployment| deployment["completed"] == true)).then_some(all)
    })
    .await
}

async fn looks(proxy: &Tidegate) -> f64 {
    proxy.metric("tidegate_watch_looks_total{result=\"done\"}").await
}

/// Waits until the folders were looked at twice more: the first of them may have begun before.
async fn looked(proxy: &Tidegate) {
    let before = looks(proxy).await;
    until("the watch looked twice", || async { (looks(proxy).await >= before + 1.9).then_some(()) }).await;
}

async fn problems(proxy: &Tidegate) -> Vec<Value> {
    let events = proxy.done("GET", "/api/events?limit=1000", None).await;
    events.as_array().unwrap().iter().filter(|event| event["type"] == "watch.problem").cloned().collect()
}

#[tokio::test]
async fn a_changed_stack_is_deployed_an_ill_one_comes_back_and_is_not_tried_again() {
    let bench = Bench::new();
    bench.write("web", "compose.yaml", "one");
    bench.write("web", "deploy.yaml", "methode: simple\nhealth_timeout: 2s\n");
    let commit = bench.programs.script("commit", "#!/bin/sh\necho abc123\n");
    let file = format!("{}{}", bench.watch(&format!("commit = [{commit:?}]")), bench.service("web").await);
    let mut proxy = Tidegate::start(&file).await;
    answers(&proxy, "web", "one").await;
    bench.write("web", "compose.yaml", "two");
    answers(&proxy, "web", "two").await;
    over(&proxy, 2).await;
    let good = bench.programs.path("good/web/compose.yaml");
    assert_eq!(fs::read_to_string(&good).unwrap(), "one", "what was healthy is kept");

    bench.write("web", "compose.yaml", "bad");
    let all = over(&proxy, 3).await;
    let states: Vec<_> = all.iter().map(|deployment| deployment["state"].as_str().unwrap()).collect();
    assert_eq!(states.iter().filter(|state| **state == "rolled-back").count(), 1, "{states:?}");
    answers(&proxy, "web", "two").await;
    assert_eq!(bench.started("web"), ["one", "two", "bad", "two"]);
    looked(&proxy).await;
    assert_eq!(deployments(&proxy).await.len(), 3, "a version is deployed once");

    proxy.kill_and_restart().await;
    looked(&proxy).await;
    assert_eq!(deployments(&proxy).await.len(), 3, "a restart deploys nothing again");
    let labelled = all.iter().any(|deployment| deployment.to_string().contains("abc123"));
    let id = all[0]["id"].as_str().unwrap();
    assert!(labelled || proxy.deployment(id).await.to_string().contains("abc123"), "{all:#?}");

    bench.write("web", "compose.yaml", "three");
    answers(&proxy, "web", "three").await;
    over(&proxy, 4).await;
    bench.write("web", "compose.yaml", "bad");
    until("the bad version is refused", || async { problems(&proxy).await.pop() }).await;
    let problem = problems(&proxy).await.pop().unwrap();
    assert!(problem["reason"].as_str().unwrap().contains("marked as bad"), "{problem}");
    looked(&proxy).await;
    assert_eq!(problems(&proxy).await.len(), 1, "it is told once");
    assert_eq!(deployments(&proxy).await.len(), 4);
    answers(&proxy, "web", "three").await;
}

/// A compose file that says itself how it is deployed. Its version is the last word.
fn compose(block: &str, version: &str) -> String {
    let block: String = block.lines().map(|line| format!("# {line}\n")).collect();
    format!(
        "# Deploy Start #\n{block}# Deploy End #\nservices:\n  web:\n    image: web\n    labels:\n      version: {version}"
    )
}

#[tokio::test]
async fn a_stack_that_says_canary_gets_its_traffic_share_by_share_and_no_request_fails() {
    let bench = Bench::new();
    let canary = "methode: canary\nsteps: [50, 100]\ninterval: 300ms\nhealth_timeout: 2s\nkeep_old: false\n\
                  analyse: { min_requests: 1, on_inconclusive: promote, alpha: 0.000001 }\n";
    bench.write("web", "compose.yaml", "one");
    bench.write("web", "deploy.yaml", canary);
    let file = format!("{}{}", bench.watch(""), bench.service_in("web", &["main", "next"]).await);
    let proxy = Tidegate::start(&file).await;
    answers(&proxy, "web", "one").await;
    over(&proxy, 1).await;
    let crowd = Crowd::asking(proxy.public(), 2, &Sent::new("GET", "/web"));
    crowd.more(5).await;
    let target = proxy.service("web").await["stable"].as_str().unwrap().to_owned();
    let next = if target == "main" { "next" } else { "main" };
    bench.write("web", "compose.yaml", "two");
    let all = over(&proxy, 2).await;
    assert_eq!(
        all.iter().map(|deployment| deployment["state"].as_str().unwrap()).collect::<Vec<_>>(),
        ["succeeded"; 2]
    );
    assert!(all.iter().any(|deployment| deployment["strategy"] == "canary"), "{all:#?}");
    let events = proxy.done("GET", "/api/events?limit=1000", None).await;
    let shares: Vec<_> = events.as_array().unwrap().iter().filter_map(|event| event["to"][next].as_f64()).collect();
    assert_eq!(shares, [50.0, 100.0]);
    answers(&proxy, "web", "two").await;

    bench.write("web", "compose.yaml", "bad");
    let all = over(&proxy, 3).await;
    let back = all.iter().find(|deployment| deployment["state"] == "rolled-back").unwrap();
    assert_eq!(back["why"]["kind"], "health", "{back:#}");
    let outcomes = crowd.stop().await;
    assert_eq!(outcomes.failed(), 0);
    assert!(outcomes.of("one") > 0 && outcomes.of("two") > 0);
    answers(&proxy, "web", "two").await;
}

#[tokio::test]
async fn a_block_in_the_compose_file_makes_it_blue_green_and_a_death_while_it_is_watched_takes_it_back() {
    let bench = Bench::new();
    let block = |watch: &str| {
        format!("deploy: true\nmethode: blue-green\nwatch: {watch}\nhealth_timeout: 10s\ntest:\n  option1: hello")
    };
    bench.write("web", "compose.yaml", &compose(&block("200ms"), "one"));
    let file = format!("{}{}", bench.watch(""), bench.service_in("web", &["main", "next"]).await);
    let mut proxy = Tidegate::start(&file).await;
    answers(&proxy, "web", "one").await;
    over(&proxy, 1).await;
    let crowd = Crowd::asking(proxy.public(), 2, &Sent::new("GET", "/web"));
    bench.write("web", "compose.yaml", &compose(&block("200ms"), "two"));
    let all = over(&proxy, 2).await;
    assert!(all.iter().any(|deployment| deployment["strategy"] == "blue-green"), "{all:#?}");
    answers(&proxy, "web", "two").await;
    assert_eq!(crowd.stop().await.failed(), 0);

    bench.write("web", "compose.yaml", &compose(&block("10m"), "three"));
    answers(&proxy, "web", "three").await;
    let newest = deployments(&proxy).await.iter().map(|d| d["id"].as_str().unwrap().to_owned()).max().unwrap();
    proxy.does(&newest, "analyse").await;
    // The proxy's own death in between changes nothing of it.
    proxy.kill_and_restart().await;
    proxy.does(&newest, "analyse").await;
    let stable = proxy.service("web").await["stable"].as_str().unwrap().to_owned();
    bench.programs.kill("web", &stable);
    proxy.reaches(&newest, "rolled-back").await;
    answers(&proxy, "web", "two").await;
    looked(&proxy).await;
    assert_eq!(deployments(&proxy).await.len(), 3, "it waits until the files change");
    let labels = fs::read_to_string(bench.programs.path("labels")).unwrap();
    assert_eq!(labels.lines().collect::<Vec<_>>(), ["one hello", "two hello", "three hello"]);
}

#[tokio::test]
async fn the_trouble_of_one_stack_leaves_the_others_alone() {
    let bench = Bench::new();
    bench.write("api", "compose.yaml", "one");
    bench.write("api", "deploy.yaml", "methode: fast\n");
    bench.write("nobody", "compose.yaml", "one");
    bench.write("off", "compose.yaml", "# Deploy Start #\n# deploy: false\n# Deploy End #\n");
    bench.write("web", "compose.yaml", "one");
    let services = format!("{}{}", bench.service("api").await, bench.service("web").await);
    let proxy = Tidegate::start(&format!("{}{services}", bench.watch(""))).await;
    answers(&proxy, "web", "one").await;
    until("both are told of", || async { (problems(&proxy).await.len() == 2).then_some(()) }).await;
    let told = problems(&proxy).await;
    let reason = |stack: &str| told.iter().find(|event| event["stack"] == stack).unwrap()["reason"].to_string();
    assert!(reason("api").contains("there is no fast"), "{told:?}");
    assert!(reason("nobody").contains("[service.nobody]"), "{told:?}");
    assert!((proxy.metric("tidegate_watch_problem{stack=\"api\"}").await - 1.0).abs() < 0.1);
    assert!((proxy.metric("tidegate_watch_stacks").await - 4.0).abs() < 0.1);

    bench.write("api", "deploy.yaml", "method: blind\n");
    answers(&proxy, "api", "one").await;
    looked(&proxy).await;
    assert!(proxy.metric("tidegate_watch_problem{stack=\"api\"}").await < 0.1);
    assert_eq!(problems(&proxy).await.len(), 2);

    let file = proxy.read_config();
    fs::write(proxy.dir().join("check.toml"), file).unwrap();
    let (code, _, problems) = tidegate_e2e::tidegate::run(proxy.dir(), &["check", "-c", "check.toml"]);
    assert_eq!(code, 2, "{problems}");
    assert!(problems.contains("stacks/nobody: there is no [service.nobody]"), "{problems}");
}

#[tokio::test]
async fn nothing_is_deployed_while_the_fetch_command_fails_and_a_rollback_stays() {
    let bench = Bench::new();
    bench.write("web", "compose.yaml", "one");
    let fetch = bench.programs.script("fetch", "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho no network\n[ -e online ]\n");
    let hook = format!("[hook.fetch]\nargv = [{fetch:?}]\n");
    let file = format!("{}{}{hook}", bench.watch("fetch = \"fetch\""), bench.service("web").await);
    let proxy = Tidegate::start(&file).await;
    let failed = until("it is told", || async { problems(&proxy).await.pop() }).await;
    assert!(failed["stack"].is_null() && failed["reason"].as_str().unwrap().contains("no network"), "{failed}");
    assert_eq!(deployments(&proxy).await.len(), 0);
    fs::write(bench.programs.path("online"), "").unwrap();
    answers(&proxy, "web", "one").await;
    bench.write("web", "compose.yaml", "two");
    answers(&proxy, "web", "two").await;
    let all = over(&proxy, 2).await;
    let newest = all.iter().map(|deployment| deployment["id"].as_str().unwrap()).max().unwrap();
    proxy.order(newest, "rollback").await;
    answers(&proxy, "web", "one").await;
    looked(&proxy).await;
    looked(&proxy).await;
    assert_eq!(deployments(&proxy).await.len(), 2, "the watch does not work against an operator");
    assert_eq!(get(proxy.public(), "/web").await.unwrap().text().trim(), "one");
}

#[tokio::test]
async fn a_watch_that_is_busy_ends_with_the_process_and_leaves_it_to_the_next_one() {
    let bench = Bench::new();
    bench.write("web", "compose.yaml", "one");
    let hangs = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho $$ >> fetches\n[ -e online ] || exec sleep 600\n";
    let fetch = bench.programs.script("fetch", hangs);
    let file = format!("{}{}", bench.watch(&format!("fetch = [{fetch:?}]")), bench.service("web").await);
    let mut proxy = Tidegate::start(&file).await;
    let fetches = || fs::read_to_string(bench.programs.path("fetches")).unwrap_or_default().lines().count();
    until("it fetches", || async { (fetches() == 1).then_some(()) }).await;
    proxy.upgrade().await;
    until("the next process fetches", || async { (fetches() == 2).then_some(()) }).await;
    fs::write(bench.programs.path("online"), "").unwrap();
    proxy.signal(Signal::SIGTERM);
    let gone = || async { get(proxy.admin(), "/healthz").await.is_err().then_some(()) };
    until_within(Duration::from_secs(10), "the process has ended", gone).await;
    for pid in fs::read_to_string(bench.programs.path("fetches")).unwrap().lines() {
        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
        assert!(nix::sys::signal::kill(pid, None).is_err(), "a fetch command was left running");
    }
}
