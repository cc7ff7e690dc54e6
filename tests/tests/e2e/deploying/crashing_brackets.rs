//! The proxy is killed at some of the lines that it writes while a bracket of three services is queued, tested and
//! released, and started again. Whatever that cuts off: all services have their new versions or none has, on the disk and
//! at the end; what never passed its checks gets no request; and no command runs more than twice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidegate_e2e::{Crowd, Programs, Sent, Tidegate, client::once, origin::refused_address, until, until_within};
use tokio::sync::Semaphore;

use super::{
    crashing::{Killer, Lines, read},
    programs,
};

const SERVICES: [&str; 3] = ["api", "shop", "web"];
/// Kills of each version, spread over the journal: few, since each takes three pairs of processes.
const KILLS: usize = 6;
/// Runs at the same time: they mostly wait.
const AT_ONCE: usize = 4;
/// How long a bracket may take to its end, on a busy machine.
const ENDS: Duration = Duration::from_secs(60);

/// The three services, each with a version on `main` and `next` free, and clients of each of them.
struct Bench {
    programs: Programs,
    proxy: Tidegate,
    crowds: Vec<Crowd>,
    version: &'static str,
}

impl Bench {
    async fn start(version: &'static str) -> Self {
        let programs = programs();
        let test = programs.script(
            "test",
            "#!/bin/sh\necho \"test $TIDEGATE_DEPLOYMENT $TIDEGATE_SERVICE\" >> \"$(dirname \"$0\")/calls\"\n",
        );
        // Fixed, so that clients find it again.
        let (public, admin) = (refused_address().await, refused_address().await);
        let mut config = format!(
            "[server]\nthreads = 1\nstate_dir = \"state\"\n[admin]\nlisten = \"{admin}\"\n[listener.public]\n\
             address = \"{public}\"\n[hook.test]\nargv = [{test:?}]\n"
        );
        for service in SERVICES {
            let targets = [programs.place(service, "main", 1).await, programs.place(service, "next", 1).await];
            config.push_str(&format!(
                "[service.{service}]\nroutes = [{{ path = \"/{service}\" }}]\nstable = \"main\"\n\
                 health = {{ path = \"/health\", interval = \"200ms\", timeout = \"5s\", fall = 1, rise = 1 }}\n{}{}",
                programs.commands(),
                targets.concat()
            ));
            programs.run(service, "main", "v1").await;
        }
        let proxy = Tidegate::start_exactly(&config, &[]).await;
        proxy.settled().await;
        let ask = |service| Crowd::asking(proxy.public(), 1, &Sent::new("GET", &format!("/{service}")));
        let crowds = SERVICES.map(ask).into();
        Self { programs, proxy, crowds, version }
    }

    /// Creates the bracket with its services and releases it, as far as that was not promised already. The proxy may die
    /// before it answers.
    async fn release(&self) {
        let bracket = once(self.proxy.admin(), &Sent::new("GET", "/api/brackets/spring")).await;
        if bracket.is_ok_and(|bracket| bracket.status == 200 && bracket.json()["state"] != "open") {
            return;
        }
        let members = SERVICES.map(|service| json!({ "service": service, "to": "next", "version": self.version }));
        let bracket = json!({
            "name": "spring", "strategy": "blue-green", "watch": "200ms", "health_check_path": "/ready",
            "health_successes": 1, "health_timeout": if self.version == "v2" { "10s" } else { "300ms" },
            "drain_timeout": "5s", "keep_old": false, "tests": ["test"], "members": members,
        });
        for (path, body) in [("/api/brackets", bracket), ("/api/brackets/spring/release", json!({}))] {
            let _ = once(self.proxy.admin(), &Sent::new("POST", path).body(body.to_string())).await;
        }
    }

    /// The deployment of the bracket when it is over.
    async fn over(&self) -> Option<Value> {
        let deployments = once(self.proxy.admin(), &Sent::new("GET", "/api/deployments")).await.ok()?.json();
        deployments.get(0).filter(|deployment| deployment["completed"] == true).cloned()
    }

    /// A restart finds all services on one side.
    fn check_disk(&self, what: &str) {
        let state = read(&self.proxy, "state.json").remove(0);
        let wanted = |service: &str, key: &str| state["body"]["saved"]["services"][service]["wanted"][key].clone();
        let side = |service: &str| match wanted(service, "stable") {
            Value::Null => (json!("main"), json!({ "main": 10_000 })),
            stable => (stable, wanted(service, "split")),
        };
        let sides = SERVICES.map(side);
        assert!(sides.iter().all(|other| *other == sides[0]), "{what}: a mixture: {sides:?}");
    }

    async fn check_end(self, what: &str, over: &Value) {
        let released = over["state"] == "succeeded";
        let expected: &[&str] = if self.version == "v2" { &["succeeded", "rolled-back"] } else { &["rolled-back"] };
        assert!(expected.iter().any(|state| over["state"] == *state), "{what}: {over:#}");
        let bracket = self.proxy.done("GET", "/api/brackets/spring", None).await;
        assert_eq!(bracket["state"], if released { "released" } else { "aborted" }, "{what}: {bracket:#}");
        for service in SERVICES {
            let stable = self.proxy.service(service).await["stable"].clone();
            assert_eq!(stable, if released { "next" } else { "main" }, "{what}: {service}");
        }
        for (service, crowd) in SERVICES.into_iter().zip(self.crowds) {
            // What nobody deployed has the name of its target where it is started again.
            let serving = if released { [self.version, self.version] } else { ["v1", "main"] };
            until(&format!("{what}: {serving:?} of {service} answers"), || async {
                let before = crowd.so_far();
                crowd.more(5).await;
                let new = crowd.so_far().since(&before);
                (new.count(|origin, _| serving.contains(&origin)) == new.total()).then_some(())
            })
            .await;
            let outcomes = crowd.stop().await;
            if self.version != "v2" {
                assert_eq!(outcomes.of(self.version), 0, "{what}: {service} got requests before it passed its check");
            }
        }
        let mut runs = BTreeMap::<String, u32>::new();
        for call in self.programs.calls() {
            *runs.entry(call).or_default() += 1;
        }
        assert!(runs.values().all(|runs| *runs <= 2), "{what}: {runs:#?}");
    }
}

/// A run that nothing disturbs: the lines that it writes.
async fn undisturbed(version: &'static str) -> usize {
    let bench = Bench::start(version).await;
    let mut journal = Lines::open(bench.proxy.dir().join("state/deployments.jsonl"));
    bench.release().await;
    let over = until_within(ENDS, "the bracket is over", || bench.over()).await;
    assert_eq!(over["state"], if version == "v2" { "succeeded" } else { "rolled-back" }, "{over:#}");
    let lines = journal.more();
    bench.check_end(version, &over).await;
    lines
}

/// A run that is killed at a line; how it ended.
async fn killed(version: &'static str, line: usize) -> String {
    let what = format!("a bracket of {version}, killed at line {line}");
    let mut bench = Bench::start(version).await;
    let mut killer = Killer::start(&bench.proxy, line);
    bench.release().await;
    until_within(ENDS, &format!("{what}: it is killed or over"), || async {
        (killer.has_killed() || bench.over().await.is_some()).then_some(())
    })
    .await;
    killer.stop();
    if killer.has_killed() {
        bench.proxy.killed().await;
        bench.check_disk(&what);
        bench.proxy.restart().await;
        // What was killed before it wrote the order down has not promised anything; what it has done is refused.
        bench.release().await;
    }
    let over = until_within(ENDS, &format!("{what}: it comes to its end"), || bench.over()).await;
    bench.check_end(&what, &over).await;
    over["state"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_a_bracket_is_released_leaves_all_of_its_services_on_one_side() {
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    for version in ["v2", "unready-2"] {
        let lines = undisturbed(version).await;
        let mut tasks = Vec::new();
        for kill in 0..KILLS {
            let line = 1 + kill * (lines - 1) / (KILLS - 1);
            let gate = Arc::clone(&gate);
            tasks.push(tokio::spawn(async move {
                let _permit = gate.acquire().await.unwrap();
                (line, killed(version, line).await)
            }));
        }
        let mut ends = Vec::new();
        for task in tasks {
            ends.push(task.await.unwrap());
        }
        println!("{version}: {lines} lines, killed at {ends:?}");
    }
}
