//! The proxy is killed at every line that it writes about a deployment, for every strategy, and started again.
//!
//! A thread watches the journal and kills at the k-th line. Whatever that cuts off: the traffic on the disk is one that
//! the plan has, no version gets a request before it was checked, no command runs more than twice, and the deployment
//! comes to its end.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tidegate_e2e::{Crowd, Programs, Sent, Tidegate, client::once, origin::refused_address, until, until_within};
use tokio::sync::Semaphore;

use super::{document, programs};

/// Runs at the same time: they mostly wait.
const AT_ONCE: usize = 6;
/// Time between two looks at the journal: short against the time of any write.
const LOOK: Duration = Duration::from_millis(1);
/// How long a deployment may take to its end, on a busy machine.
const ENDS: Duration = Duration::from_secs(60);
/// Longest plan, in lines of the journal: a run of which nothing more is left to kill ends the row before.
const MOST_LINES: usize = 60;

/// A strategy, shortened.
#[derive(Clone)]
struct Row {
    strategy: &'static str,
    rest: Value,
    /// Endpoints of each target.
    replicas: usize,
    /// Whether it checks a version before it gives it requests.
    checks: bool,
}

fn rows() -> Vec<Row> {
    let row = |strategy, rest| Row { strategy, rest, replicas: 1, checks: true };
    let twice = |row: Row| Row { replicas: 2, ..row };
    let blindly = |row: Row| Row { checks: false, ..row };
    let analyse = json!({ "min_requests": 1, "on_inconclusive": "extend", "alpha": 1e-6 });
    let variants = json!([{ "name": "main", "percentage": 50 }, { "name": "next", "percentage": 50 }]);
    let steps = json!([{ "set": 20 }, { "pause": "50ms" }, { "hook": "smoke" }, { "set": 100 }]);
    vec![
        blindly(row("simple", json!({ "to": "main" }))),
        blindly(row("blind", json!({ "to": "main" }))),
        row("recreate", json!({ "to": "main", "pre_hook": "smoke", "post_hook": "smoke" })),
        twice(row("rolling-update", json!({ "to": "next" }))),
        twice(row("zero-downtime", json!({ "to": "next", "batch_size": 2 }))),
        row("blue-green", json!({ "to": "next", "watch": "200ms", "keep_old": false })),
        row("canary", json!({ "to": "next", "steps": [50, 100], "interval": "300ms", "analyse": analyse })),
        row("ab-testing", json!({ "variant": variants, "duration": "300ms" })),
        row("shadow", json!({ "to": "next" })),
        row("custom", json!({ "to": "next", "step": steps })),
    ]
}

/// A run of a row: which version is deployed, and at which line the proxy is killed.
#[derive(Clone)]
struct Run {
    row: Row,
    version: &'static str,
    kill_at: usize,
}

/// What a run came to.
struct Ended {
    killed: bool,
    state: String,
}

impl Run {
    fn name(&self) -> String {
        format!("{} of {}, killed at line {}", self.row.strategy, self.version, self.kill_at)
    }

    fn document(&self) -> Value {
        let mut document = document(self.row.strategy, self.row.rest.clone());
        let fields = document.as_object_mut().unwrap();
        if self.row.strategy == "ab-testing" {
            fields["variant"][1]["image"] = self.version.into();
        } else {
            fields.insert("version".into(), self.version.into());
        }
        fields.insert("health_check_path".into(), "/ready".into());
        let timeout = match (self.version, self.row.strategy) {
            ("v2", _) => "10s",
            // The old version has to come back in this time, too.
            (_, "recreate") => "2s",
            _ => "300ms",
        };
        fields.insert("health_timeout".into(), timeout.into());
        document
    }

    async fn environment(&self, programs: &Programs) -> Tidegate {
        let replicas = self.row.replicas;
        let targets = [programs.place("web", "main", replicas).await, programs.place("web", "next", replicas).await];
        programs.run("web", "main", "v1").await;
        let smoke = programs.script("smoke", "#!/bin/sh\necho \"$TIDEGATE_ROLE\" >> \"$(dirname \"$0\")/calls\"\n");
        // Fixed, so that clients find it again.
        let (public, admin) = (refused_address().await, refused_address().await);
        let config = format!(
            "[server]\nthreads = 1\nstate_dir = \"state\"\n[admin]\nlisten = \"{admin}\"\n[listener.public]\n\
             address = \"{public}\"\n[hook.smoke]\nargv = [{smoke:?}]\n[service.web]\nstable = \"main\"\n\
             health = {{ path = \"/health\", interval = \"200ms\", timeout = \"5s\", fall = 1, rise = 1 }}\n{}{}",
            programs.commands(),
            targets.concat()
        );
        let proxy = Tidegate::start_exactly(&config, &[]).await;
        proxy.settled().await;
        proxy
    }

    async fn go(&self) -> Ended {
        let programs = programs();
        let mut proxy = self.environment(&programs).await;
        let crowd = Crowd::start(proxy.public(), 2);
        let mut killer = Killer::start(&proxy, self.kill_at);
        // The proxy may well die before it answers.
        let order = Sent::new("POST", "/api/deployments?execute=true").body(self.document().to_string());
        let _ = once(proxy.admin(), &order).await;
        let killed = self.until_killed_or_over(&proxy, &mut killer).await;
        if killed {
            proxy.killed().await;
            self.check_disk(&proxy);
            proxy.restart().await;
            // What was killed before it wrote the order down has not promised anything.
            if proxy.done("GET", "/api/deployments", None).await == json!([]) {
                proxy.deploy(self.document()).await;
            }
        }
        let what = format!("{}: it comes to its end", self.name());
        let over = until_within(ENDS, &what, || self.look(&proxy)).await;
        self.check_end(&over, &programs, crowd).await;
        Ended { killed, state: over["state"].as_str().unwrap().to_owned() }
    }

    /// Whether it was killed; else the deployment is over.
    async fn until_killed_or_over(&self, proxy: &Tidegate, killer: &mut Killer) -> bool {
        let what = format!("{}: it is killed or over", self.name());
        until_within(ENDS, &what, || async {
            if killer.has_killed() {
                return Some(());
            }
            self.look(proxy).await.map(|_| ())
        })
        .await;
        killer.stop();
        killer.has_killed()
    }

    /// The deployment when it is over. Where it asks for a decision, it gets one.
    async fn look(&self, proxy: &Tidegate) -> Option<Value> {
        let call = async |method: &str, path: &str, body: Value| {
            // The proxy may die at any moment.
            once(proxy.admin(), &Sent::new(method, path).body(body.to_string())).await.ok()
        };
        let deployment = call("GET", "/api/deployments", json!({})).await?.json().get(0)?.clone();
        if deployment["state"] == "paused" {
            assert!(matches!(self.row.strategy, "ab-testing" | "canary"), "{}: {deployment:#}", self.name());
            let (verb, body) = match self.row.strategy {
                "ab-testing" => ("select-winner", json!({ "variant": "next" })),
                _ => ("promote", json!({})),
            };
            let id = deployment["id"].as_str().unwrap();
            call("POST", &format!("/api/deployments/{id}/{verb}"), body).await;
        }
        (deployment["completed"] == true).then_some(deployment)
    }

    /// What a restart finds is the traffic before the last change that was written down, or after it.
    fn check_disk(&self, proxy: &Tidegate) {
        let state: Value = read(proxy, "state.json").remove(0);
        let found = &state["body"]["saved"]["services"]["web"]["wanted"]["split"];
        let base = json!({ "main": 10_000 });
        let found = if found.is_null() { &base } else { found };
        let mut asked = vec![base.clone()];
        for line in read(proxy, "deployments.jsonl") {
            for record in line["body"]["records"].as_array().into_iter().flatten() {
                let split = &record["deployment"]["traffic"]["web"]["split"];
                if !split.is_null() && asked.last() != Some(split) {
                    asked.push(split.clone());
                }
            }
        }
        let last = &asked[asked.len().saturating_sub(2)..];
        assert!(last.contains(found), "{}: {found} is none of {last:?}", self.name());
    }

    async fn check_end(&self, over: &Value, programs: &Programs, crowd: Crowd) {
        let name = self.name();
        let state = over["state"].as_str().unwrap();
        let good = self.version == "v2" || !self.row.checks;
        let expected: &[&str] = if good { &["succeeded", "rolled-back"] } else { &["rolled-back"] };
        assert!(expected.contains(&state), "{name}: {over:#}");
        // What nobody deployed has the name of its target where it is started again.
        let old: &[&str] = &["v1", "main"];
        let new = state == "succeeded" && self.row.strategy != "shadow";
        let serving = if new { std::slice::from_ref(&self.version) } else { old };
        let what = format!("{name}: {serving:?} answers");
        let all = until(&what, || async {
            let before = crowd.so_far();
            crowd.more(10).await;
            let new = crowd.so_far().since(&before);
            (new.count(|origin, _| serving.contains(&origin)) == new.total()).then_some(())
        });
        all.await;
        let outcomes = crowd.stop().await;
        if !good {
            assert_eq!(outcomes.of(self.version), 0, "{name}: a version that never passed its check got requests");
        }
        let mut runs = BTreeMap::<String, u32>::new();
        for call in programs.calls() {
            *runs.entry(call).or_default() += 1;
        }
        assert!(runs.values().all(|runs| *runs <= 2), "{name}: {runs:#?}");
    }
}

/// Kills the proxy when its journal has so many new lines.
pub(super) struct Killer {
    killed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Killer {
    pub(super) fn start(proxy: &Tidegate, lines: usize) -> Self {
        let (killed, stop) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (pid, path) =
            (Pid::from_raw(i32::try_from(proxy.pid()).unwrap()), proxy.dir().join("state/deployments.jsonl"));
        let mut journal = Lines::open(path);
        let (has_killed, stopped) = (Arc::clone(&killed), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut seen = 0;
            while !stopped.load(Relaxed) {
                seen += journal.more();
                if seen >= lines {
                    kill(pid, Signal::SIGKILL).unwrap();
                    return has_killed.store(true, Relaxed);
                }
                thread::sleep(LOOK);
            }
        });
        Self { killed, stop, thread: Some(thread) }
    }

    pub(super) fn has_killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// Kills no more.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The whole lines of a file in the state directory.
pub(super) fn read(proxy: &Tidegate, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(proxy.dir().join("state").join(file)).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Counts lines that are added to a file.
pub(super) struct Lines(File);

impl Lines {
    pub(super) fn open(path: PathBuf) -> Self {
        let mut lines = Self(File::open(path).unwrap());
        lines.more();
        lines
    }

    pub(super) fn more(&mut self) -> usize {
        let mut new = Vec::new();
        self.0.read_to_end(&mut new).unwrap();
        new.iter().filter(|byte| **byte == b'\n').count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_line_of_any_strategy_is_survived() {
    let begun = Instant::now();
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = Vec::new();
    for row in rows() {
        // What checks nothing makes no difference between the two.
        let versions = if row.checks { &["v2", "unready-2"][..] } else { &["v2"] };
        for &version in versions {
            let (gate, row) = (Arc::clone(&gate), row.clone());
            tasks.push(tokio::spawn(async move {
                let mut ends = BTreeMap::<String, usize>::new();
                for kill_at in 1..MOST_LINES {
                    let permit = gate.acquire().await.unwrap();
                    let run = Run { row: row.clone(), version, kill_at };
                    let ended = run.go().await;
                    drop(permit);
                    *ends.entry(ended.state).or_default() += 1;
                    if !ended.killed {
                        println!("{} of {version}: {} lines, {ends:?}", row.strategy, kill_at - 1);
                        return;
                    }
                }
                panic!("{} never ends", row.strategy);
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    println!("all of it took {:?}", begun.elapsed());
}
