//! A command that makes requests while a version is judged: what it makes possible, and that it never outlives its use.

use std::path::{Path, PathBuf};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_e2e::{Origin, Tidegate, until};

use super::{document, shares, web};

/// A proxy that knows a command `ask`, and the file that tells that where to ask.
struct Stage {
    proxy: Tidegate,
    file: PathBuf,
    _dir: TempDir,
    _origins: [Origin; 2],
}

impl Stage {
    async fn set() -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("address");
        let origins = [Origin::start_counting("blue").await, Origin::start_counting("green").await];
        let ask = env!("CARGO_BIN_EXE_ask");
        let hook = format!("[hook.ask]\nargv = [{ask:?}, {file:?}]\n");
        let proxy = Tidegate::start(&format!("{hook}{}", web(&origins[0], &origins[1]))).await;
        let stage = Self { proxy, file, _dir: dir, _origins: origins };
        stage.point();
        stage
    }

    /// Says where the proxy listens now.
    fn point(&self) {
        std::fs::write(&self.file, self.proxy.public().to_string()).unwrap();
    }

    /// The processes of the command so far.
    fn begun(&self) -> Vec<Pid> {
        let text = std::fs::read_to_string(self.file.with_extension("pids")).unwrap_or_default();
        // The last line may be in the making.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| Pid::from_raw(line.parse().unwrap())).collect()
    }

    async fn has_begun(&self, times: usize) -> Pid {
        until(&format!("the command runs for the {times}. time"), || async { self.begun().get(times - 1).copied() })
            .await
    }
}

/// Whether a process has ended: its parent may still have to take note of it.
fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    kill(pid, None).is_err() || stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

async fn ends(pid: Pid) {
    until(&format!("process {pid} ends"), || async { is_gone(pid).then_some(()) }).await;
}

fn canary(interval: &str) -> Value {
    let analyse = json!({ "min_requests": 20, "alpha": 1e-6, "on_inconclusive": "extend" });
    document(
        "canary",
        json!({ "to": "green", "steps": [20, 50, 100], "interval": interval, "analyse": analyse, "load": "ask" }),
    )
}

#[tokio::test]
async fn a_canary_that_nobody_else_asks_is_promoted_because_its_command_does() {
    let stage = Stage::set().await;
    let proxy = &stage.proxy;
    let id = proxy.deploy(canary("2s")).await;
    let done = proxy.reaches(&id, "succeeded").await;
    assert_eq!(done["verdicts"]["web"]["verdict"], "pass", "{done:#}");
    assert_eq!(shares(proxy, "green").await, [20.0, 50.0, 100.0]);
    assert_eq!(stage.begun().len(), 2, "once for each analysis");
    for pid in stage.begun() {
        ends(pid).await;
    }
    let happened = proxy.happened(&id).await;
    assert!(happened.iter().all(|entry| entry["type"] != "hook_finished"), "it ended as it was told to: {happened:#?}");
}

#[tokio::test]
async fn it_is_begun_anew_after_kill_9_and_nothing_of_it_is_left_behind() {
    let mut stage = Stage::set().await;
    // Nothing but a person ends a window that is so long.
    let id = stage.proxy.deploy(canary("1h")).await;
    let first = stage.has_begun(1).await;
    // A restart can end only what is written down.
    until("the process is written down", || async {
        let journal = std::fs::read_to_string(stage.proxy.dir().join("state/deployments.jsonl")).unwrap();
        journal.contains(&format!("\"group\":{first}")).then_some(())
    })
    .await;
    stage.proxy.kill_and_restart().await;
    let second = stage.has_begun(2).await;
    ends(first).await;
    assert_eq!(stage.proxy.deployment(&id).await["state"], "running");
    // A proxy that ends takes it along.
    stage.proxy.signal(Signal::SIGTERM);
    stage.proxy.killed().await;
    assert!(is_gone(second), "process {second} was left behind");
    stage.proxy.restart().await;
    let told = |entry: &Value| entry["data"]["how"].as_str().is_some_and(|how| how.contains("goes on without it"));
    until("it is told that it does not run again", || async {
        stage.proxy.happened(&id).await.iter().any(told).then_some(())
    })
    .await;
    stage.proxy.order(&id, "rollback").await;
    stage.proxy.reaches(&id, "rolled-back").await;
    assert_eq!(stage.begun().len(), 2);
}

#[tokio::test]
async fn a_pause_ends_it_and_going_on_begins_it_again() {
    let stage = Stage::set().await;
    let proxy = &stage.proxy;
    let id = proxy.deploy(canary("1h")).await;
    let first = stage.has_begun(1).await;
    proxy.order(&id, "pause").await;
    ends(first).await;
    proxy.order(&id, "resume").await;
    let second = stage.has_begun(2).await;
    proxy.order(&id, "rollback").await;
    proxy.reaches(&id, "rolled-back").await;
    ends(second).await;
    assert_eq!(shares(proxy, "green").await, [20.0, 0.0]);
}
