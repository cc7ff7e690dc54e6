//! Commands around a failover: what waits for them, what does not, and how they end.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{sys::signal::kill, unistd::Pid};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_e2e::{Origin, Tidegate, get, until};

use crate::splitting::blue_green;

/// A script of a test, which lives in a directory of its own and can be steered by files there.
struct Script {
    dir: TempDir,
}

impl Script {
    /// Runs these lines in its directory.
    fn new(lines: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("run"), format!("cd '{}'\n{lines}\n", dir.path().display())).unwrap();
        Self { dir }
    }

    fn argv(&self) -> String {
        format!("[\"/bin/sh\", \"{}\", \"{{slot}}\"]", self.dir.path().join("run").display())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.file(name)).ok()
    }

    async fn has(&self, name: &str) -> String {
        until(&format!("the script writes {name}"), || async { self.read(name).filter(|text| text.ends_with('\n')) })
            .await
    }
}

/// Waits until told to go on, and says that it waits. Its one child is the only other process of its group.
const WAITS: &str = "echo $$ >> runs\nwhile [ ! -e go ]; do sleep 0.05; done\necho done > done";

fn policy(hooks: &str) -> String {
    format!("failover = {{ to = \"blue\", {hooks} }}")
}

async fn failover(proxy: &Tidegate) -> Value {
    proxy.service("web").await["failover"].clone()
}

async fn moved(proxy: &Tidegate) {
    until("the service moved", || async { (failover(proxy).await["active"]["to"] == "blue").then_some(()) }).await;
}

/// The events of failovers, in their order.
async fn told(proxy: &Tidegate) -> Vec<Value> {
    let events = proxy.done("GET", "/api/events?limit=1000", None).await;
    let events = events.as_array().unwrap().iter();
    let about = |event: &&Value| {
        let kind = event["type"].as_str().unwrap();
        kind.starts_with("failover.") || kind == "traffic.failover" || kind == "traffic.restored"
    };
    events.filter(about).cloned().collect()
}

async fn kinds(proxy: &Tidegate) -> Vec<String> {
    told(proxy).await.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// The event of a command that has ended.
async fn hook_told(proxy: &Tidegate) -> Value {
    until("the end of the command is told", || async {
        told(proxy).await.into_iter().find(|event| event["type"] == "failover.hook")
    })
    .await
}

/// A service that is about to move: green is lost, and the command before the failover waits.
struct Preparing {
    proxy: Tidegate,
    before: Script,
    pid: String,
    _origins: [Origin; 2],
}

impl Preparing {
    async fn start() -> Self {
        let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
        let before = Script::new(WAITS);
        let hooks = format!("before = {}, before_timeout = \"60s\"", before.argv());
        let proxy = Tidegate::start(&blue_green(&green, &blue, &policy(&hooks))).await;
        green.stop().await;
        let pid = before.has("runs").await;
        Self { proxy, before, pid, _origins: [green, blue] }
    }

    async fn is_written_down(&self) {
        let file = self.proxy.dir().join("state/failover.json");
        let written = || std::fs::read_to_string(&file).ok().filter(|text| text.contains("\"web\""));
        until("its process is written down", || async { written() }).await;
    }

    /// After the first command's proxy has gone: the command runs again, alone, and the service moves after it.
    async fn runs_again(&self) {
        until("it is run again", || async { (count(&self.before.file("runs")) == 2).then_some(()) }).await;
        assert!(is_gone(&self.pid), "two of them run at once");
        std::fs::write(self.before.file("go"), "").unwrap();
        moved(&self.proxy).await;
    }
}

fn is_gone(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.trim().parse().unwrap());
    // A zombie answers to this, but ours are waited for.
    kill(pid, None).is_err()
}

fn count(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[tokio::test]
async fn a_service_moves_after_its_command_and_another_one_runs_then() {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let before = Script::new(&format!("env | grep ^TIDEGATE_ | sort > env\necho \"$1\" > slot\n{WAITS}"));
    let after = Script::new("env | grep ^TIDEGATE_ | sort > env\necho ran > ran");
    let hooks = format!("before = {}, after = {}", before.argv(), after.argv());
    let proxy = Tidegate::start(&blue_green(&green, &blue, &policy(&hooks))).await;
    green.stop().await;
    before.has("runs").await;
    // The command waits for this test: an answer says that no request waits for the command.
    let answer = get(proxy.public(), "/").await.unwrap();
    assert_eq!(answer.status, 503, "blue is not ready yet: {}", answer.text());
    assert_eq!(blue.count(), 0);
    let waiting = failover(&proxy).await;
    assert_eq!(waiting["active"], Value::Null);
    assert_eq!(waiting["preparing"]["to"], "blue");
    assert!(after.read("ran").is_none(), "the other command comes afterwards");
    std::fs::write(before.file("go"), "").unwrap();
    moved(&proxy).await;
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "blue");
    after.has("ran").await;
    until("its end is told", || async { (kinds(&proxy).await.len() == 4).then_some(()) }).await;
    assert_eq!(kinds(&proxy).await, ["failover.preparing", "failover.hook", "traffic.failover", "failover.hook"]);
    let env = before.read("env").unwrap();
    for line in [
        "TIDEGATE_CAUSE=health",
        "TIDEGATE_FROM=green",
        "TIDEGATE_PREVIOUS=green",
        "TIDEGATE_ROLE=failover-before",
        "TIDEGATE_SERVICE=web",
        "TIDEGATE_SLOT=blue",
        "TIDEGATE_TO=blue",
        "TIDEGATE_VERSION=blue",
    ] {
        assert!(env.lines().any(|known| known == line), "{line} is missing in\n{env}");
    }
    assert_eq!(before.read("slot").unwrap(), "blue\n");
    assert!(after.read("env").unwrap().contains("TIDEGATE_ROLE=failover-after"));
    let succeeded =
        |hook| format!("tidegate_failover_hooks_total{{service=\"web\",hook=\"{hook}\",result=\"succeeded\"}}");
    for hook in ["before", "after"] {
        assert!((proxy.metric(&succeeded(hook)).await - 1.0).abs() < 0.1, "{}", proxy.metrics().await);
    }
}

#[tokio::test]
async fn a_command_that_hangs_delays_the_move_by_its_deadline_and_is_ended() {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let before = Script::new(&format!("trap '' TERM\n{WAITS}"));
    let hooks = format!("before = {}, before_timeout = \"1s\"", before.argv());
    let proxy = Tidegate::start(&blue_green(&green, &blue, &policy(&hooks))).await;
    green.stop().await;
    let pid = before.has("runs").await;
    let begun = Instant::now();
    moved(&proxy).await;
    // A command that ignores being asked to end gets ten seconds more; the service does not wait for that.
    assert!(begun.elapsed() < Duration::from_secs(8), "moved after {:?}", begun.elapsed());
    // How the command ended is told when it has, which is after the move.
    let failed = hook_told(&proxy).await;
    assert!(failed["failure"].as_str().unwrap().contains("not done within 1s"), "{failed}");
    let log = proxy.log();
    assert!(log.contains("command of a failover failed"), "{log}");
    until("the command was ended", || async { is_gone(&pid).then_some(()) }).await;
    assert!(before.read("done").is_none());
}

#[tokio::test]
async fn a_service_that_holds_stays_until_its_command_succeeds() {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let before = Script::new("echo $$ >> runs\necho no space left >&2\n[ -e go ]");
    let hooks = format!("before = {}, on_timeout = \"hold\"", before.argv());
    let proxy = Tidegate::start(&blue_green(&green, &blue, &policy(&hooks))).await;
    green.stop().await;
    until("it is held", || async { (failover(&proxy).await["preparing"]["held"] == true).then_some(()) }).await;
    assert_eq!(get(proxy.public(), "/").await.unwrap().status, 503);
    let told = told(&proxy).await;
    let held = told.iter().find(|event| event["type"] == "failover.held").unwrap();
    assert!(held["reason"].as_str().unwrap().contains("exit code 1: no space left"), "{held}");
    std::fs::write(before.file("go"), "").unwrap();
    moved(&proxy).await;
    assert_eq!(count(&before.file("runs")), 2, "it was tried again once");
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "blue");
}

#[tokio::test]
async fn a_command_that_asks_for_it_is_run_again_within_its_deadline() {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let before = Script::new("echo $$ >> runs\n[ \"$(wc -l < runs)\" -ge 3 ] || exit 75");
    let service = blue_green(&green, &blue, &policy("before = \"prepare\", on_timeout = \"hold\""));
    let proxy = Tidegate::start(&format!("{service}[hook.prepare]\nargv = {}\n", before.argv())).await;
    green.stop().await;
    moved(&proxy).await;
    assert_eq!(count(&before.file("runs")), 3);
    assert!(!kinds(&proxy).await.contains(&"failover.held".to_owned()), "\"not yet\" is no failure");
}

#[tokio::test]
async fn a_target_that_recovers_meanwhile_ends_the_command_and_keeps_the_service() {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let before = Script::new(WAITS);
    let after = Script::new("echo ran > ran");
    let hooks = format!("before = {}, after = {}", before.argv(), after.argv());
    let proxy = Tidegate::start(&blue_green(&green, &blue, &policy(&hooks))).await;
    green.stop().await;
    let pid = before.has("runs").await;
    green.revive().await;
    until("it is called off", || async {
        kinds(&proxy).await.contains(&"failover.called_off".to_owned()).then_some(())
    })
    .await;
    until("the command was ended", || async { is_gone(&pid).then_some(()) }).await;
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "green");
    assert_eq!(failover(&proxy).await["preparing"], Value::Null);
    assert_eq!(failover(&proxy).await["active"], Value::Null);
    assert!(before.read("done").is_none() && after.read("ran").is_none());
    // The next loss is prepared anew.
    std::fs::write(before.file("go"), "").unwrap();
    green.stop().await;
    moved(&proxy).await;
    after.has("ran").await;
}

#[tokio::test]
async fn an_operators_failover_runs_the_commands_and_a_switch_does_not() {
    let (green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let (before, after) = (Script::new(WAITS), Script::new("env > env\necho ran > ran"));
    let hooks = format!("before = {}, after = {}", before.argv(), after.argv());
    let proxy = Tidegate::start(&blue_green(&green, &blue, &policy(&hooks))).await;
    let answer = proxy.done("POST", "/api/services/web/failover", Some(json!({ "to": "blue" }))).await;
    assert_eq!(answer["events"][0]["type"], "failover.preparing", "{answer}");
    before.has("runs").await;
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "green", "green carries it as long as it can");
    std::fs::write(before.file("go"), "").unwrap();
    moved(&proxy).await;
    after.has("ran").await;
    assert!(after.read("env").unwrap().contains("TIDEGATE_CAUSE=operator"));
    proxy.done("POST", "/api/services/web/restore", None).await;
    proxy.done("POST", "/api/services/web/switch", Some(json!({ "to": "blue" }))).await;
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "blue");
    assert_eq!(count(&before.file("runs")), 1);
}

#[tokio::test]
async fn a_failing_command_afterwards_is_only_told() {
    let (mut green, blue) = (Origin::start("green").await, Origin::start("blue").await);
    let proxy = Tidegate::start(&blue_green(&green, &blue, &policy("after = [\"/nowhere/at-all\"]"))).await;
    green.stop().await;
    let begun = Instant::now();
    until("clients are answered", || async {
        get(proxy.public(), "/").await.ok().filter(|answer| answer.text() == "blue")
    })
    .await;
    println!("answered {:?} after the loss", begun.elapsed());
    moved(&proxy).await;
    let failed = hook_told(&proxy).await;
    assert!(failed["failure"].as_str().unwrap().contains("/nowhere/at-all"), "{failed}");
    assert_eq!(failover(&proxy).await["active"]["to"], "blue", "the service stays where it is");
}

#[tokio::test]
async fn a_command_that_a_killed_proxy_left_is_ended_before_it_is_run_again() {
    let mut preparing = Preparing::start().await;
    preparing.is_written_down().await;
    preparing.proxy.kill_and_restart().await;
    preparing.runs_again().await;
}

#[tokio::test]
async fn a_process_that_takes_over_prepares_the_failover_anew() {
    let mut preparing = Preparing::start().await;
    preparing.is_written_down().await;
    preparing.proxy.upgrade().await;
    preparing.runs_again().await;
}

#[tokio::test]
async fn a_proxy_that_is_stopped_leaves_no_command_before_a_failover() {
    let mut preparing = Preparing::start().await;
    preparing.proxy.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(preparing.proxy.ended(Duration::from_secs(10)).await.success());
    assert!(is_gone(&preparing.pid));
}
