//! Commands that do everything a command must not do: each is bounded, told in the deployment's history, and harmless.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_e2e::{Crowd, Origin, Tidegate, until};

use super::{document, web};

/// Output that is kept of a command, in bytes.
const MOST_OUTPUT: usize = 64 * 1024;

/// Scripts, and a proxy that knows them by their names.
struct Yard {
    dir: TempDir,
    proxy: Tidegate,
    _origins: (Origin, Origin),
}

impl Yard {
    async fn new(scripts: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let mut hooks = String::new();
        for (name, text) in scripts {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            // One with a dot is what another one starts.
            if !name.contains('.') {
                hooks.push_str(&format!("[hook.{name}]\nargv = [{path:?}, \"{{slot}}\"]\ntimeout = \"3s\"\n"));
            }
        }
        let origins = (Origin::start("blue").await, Origin::start("green").await);
        let proxy = Tidegate::start(&format!("{hooks}{}", web(&origins.0, &origins.1))).await;
        Self { dir, proxy, _origins: origins }
    }

    /// Deploys with a command between two shares; how the command ended, and the deployment.
    async fn with(&self, hook: &str, more: Value) -> (Value, Value) {
        let mut document = document(
            "custom",
            json!({ "to": "green", "step": [{ "set": 10 }, { "hook": hook }, { "set": 100 }], "mark_bad": false }),
        );
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let id = self.proxy.deploy(document).await;
        let over = self.proxy.becomes(&id, "over", |deployment| deployment["completed"] == true).await;
        let happened = self.proxy.happened(&id).await;
        let report = happened.iter().find(|entry| entry["type"] == "hook_finished").unwrap();
        (report["data"]["report"].clone(), over)
    }

    /// Processes that run something of its directory.
    fn left(&self) -> Vec<PathBuf> {
        let name = self.dir.path().as_os_str().as_encoded_bytes().to_owned();
        let runs = |path: &Path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            line.windows(name.len()).any(|part| part == name)
        };
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        processes.filter(|path| runs(path)).collect()
    }

    async fn nothing_is_left(&self) {
        until("no process is left", || async { self.left().is_empty().then_some(()) }).await;
    }

    async fn goes_back(&self) {
        let service = self.proxy.service("web").await;
        assert_eq!((&service["split"], &service["stable"]), (&json!({ "blue": 100 }), &json!("blue")));
    }
}

#[tokio::test]
async fn a_command_that_hangs_with_all_that_it_started_is_ended_and_taken_back() {
    let hangs = "#!/bin/sh\nsh \"$0.child\" &\nsh \"$0.child\"\n";
    let yard = Yard::new(&[("hangs", hangs), ("hangs.child", "sleep 300 & wait\n")]).await;
    let crowd = Crowd::start(yard.proxy.public(), 2);
    let (report, over) = yard.with("hangs", json!({})).await;
    assert_eq!((&report["end"], &over["state"]), (&json!("timed_out"), &json!("rolled-back")), "{report} {over:#}");
    yard.nothing_is_left().await;
    yard.goes_back().await;
    assert_eq!(crowd.stop().await.failed(), 0);
}

#[tokio::test]
async fn a_command_that_ignores_the_request_to_end_is_forced() {
    let deaf = "#!/bin/sh\ntrap '' TERM HUP INT\nwhile :; do sleep 0.2; done\n";
    let yard = Yard::new(&[("deaf", deaf)]).await;
    let begun = Instant::now();
    let (report, over) = yard.with("deaf", json!({})).await;
    assert_eq!((&report["end"], &over["state"]), (&json!("timed_out"), &json!("rolled-back")), "{report} {over:#}");
    println!("ended after {:?}", begun.elapsed());
    yard.nothing_is_left().await;
    yard.goes_back().await;
}

#[tokio::test]
async fn a_command_that_leaves_something_running_with_its_output_open_holds_nobody_up() {
    let forks = "#!/bin/sh\necho first\nsh \"$0.child\" &\n";
    let yard =
        Yard::new(&[("forks", forks), ("forks.child", "while [ ! -e \"$0.go\" ]; do sleep 0.1; done\necho late\n")])
            .await;
    let (report, over) = yard.with("forks", json!({})).await;
    assert_eq!((&report["end"], &over["state"]), (&json!({ "exit": 0 }), &json!("succeeded")), "{report} {over:#}");
    assert_eq!(report["output"], "first\n");
    // It is what the command was to start: it goes on, and nobody waits for it.
    assert_eq!(yard.left().len(), 1);
    fs::write(yard.dir.path().join("forks.child.go"), "").unwrap();
    yard.nothing_is_left().await;
}

#[tokio::test]
async fn of_output_without_end_the_last_part_is_kept_and_everything_else_goes_on() {
    let chatty = "#!/bin/sh\nexec yes \"$0 says it again and again\"\n";
    let mut yard = Yard::new(&[("chatty", chatty)]).await;
    let crowd = Crowd::start(yard.proxy.public(), 2);
    let (report, over) = yard.with("chatty", json!({})).await;
    assert_eq!((&report["end"], &over["state"]), (&json!("timed_out"), &json!("rolled-back")), "{over:#}");
    let output = report["output"].as_str().unwrap();
    assert!((MOST_OUTPUT / 2..=MOST_OUTPUT).contains(&output.len()), "{} bytes", output.len());
    yard.nothing_is_left().await;
    assert_eq!(crowd.stop().await.failed(), 0);
    let resident = yard.proxy.resident();
    assert!(resident < 300 << 20, "{resident} bytes");
    // It is in the journal, and a restart reads it.
    yard.proxy.kill_and_restart().await;
    let again = yard.proxy.happened(over["id"].as_str().unwrap()).await;
    let known = again.iter().find(|entry| entry["type"] == "hook_finished").unwrap();
    assert_eq!(known["data"]["report"], report);
    yard.goes_back().await;
}

#[tokio::test]
async fn what_looks_like_shell_in_a_value_stays_a_value() {
    let says = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\n\
                printf '%s\\n' \"$TIDEGATE_VERSION\" \"$TIDEGATE_IMAGE\" \"$EXTRA\" \"$TIDEGATE_LABEL_COMMIT\" \"$1\" $#\n";
    let yard = Yard::new(&[("says", says)]).await;
    let (version, image) = ("$(touch pwned-1)`touch pwned-2`", "app:2; touch pwned-3 & rm -rf ../* | sh #");
    let (extra, commit) = ("\"'\n$IFS\\ && touch pwned-4", "${PATH%%:*} > pwned-5 *");
    let more = json!({ "version": version, "image": image, "env": { "EXTRA": extra }, "labels": { "commit": commit } });
    let (report, over) = yard.with("says", more).await;
    assert_eq!((&report["end"], &over["state"]), (&json!({ "exit": 0 }), &json!("succeeded")), "{report} {over:#}");
    assert_eq!(report["output"], format!("{version}\n{image}\n{extra}\n{commit}\ngreen\n1\n"));
    for dir in [yard.dir.path(), yard.proxy.dir()] {
        let names: Vec<_> = fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().contains("pwned")), "{names:?}");
    }
    yard.nothing_is_left().await;
}

#[tokio::test]
async fn a_command_that_is_not_there_or_fails_says_so_in_the_history() {
    let yard = Yard::new(&[("fails", "#!/bin/sh\necho the reason\nexit 3\n"), ("gone", "")]).await;
    fs::remove_file(yard.dir.path().join("gone")).unwrap();
    let (report, over) = yard.with("fails", json!({})).await;
    assert_eq!(report, json!({ "end": { "exit": 3 }, "output": "the reason\n" }));
    assert_eq!((&over["state"], &over["why"]["kind"]), (&json!("rolled-back"), &json!("hook")), "{over:#}");
    let (report, over) = yard.with("gone", json!({})).await;
    assert!(report["end"]["not_started"].as_str().unwrap().contains("was not found"), "{report}");
    assert_eq!(over["state"], "rolled-back");
    yard.goes_back().await;
}

#[tokio::test]
async fn a_command_that_outlives_the_proxy_is_ended_by_the_next_one_before_anything_else_is_run() {
    // It hangs the first time, and says when a second one runs beside it.
    let slow = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nif [ -e first ]; then\n\
                grep -q ') [^ZX] ' \"/proc/$(cat first)/stat\" 2>/dev/null && echo beside\n\
                echo again; exit 0\nfi\necho $$ > first.next; mv first.next first\nsh \"$0.child\"\n";
    let mut yard = Yard::new(&[("slow", slow), ("slow.child", "sleep 300\n")]).await;
    let config = yard.proxy.read_config().replace("]\ntimeout = \"3s\"", "]\ntimeout = \"60s\"\nidempotent = true");
    yard.proxy.write_config(&config);
    yard.proxy.kill_and_restart().await;
    let steps = json!([{ "set": 10 }, { "hook": "slow" }, { "set": 100 }]);
    let id = yard.proxy.deploy(document("custom", json!({ "to": "green", "step": steps }))).await;
    let first = yard.dir.path().join("first");
    let journal = yard.proxy.dir().join("state/deployments.jsonl");
    until("the command runs, and its process is written down", || async {
        let process = format!("\"group\":{},", fs::read_to_string(&first).ok()?.trim());
        (yard.left().len() >= 2 && fs::read_to_string(&journal).unwrap().contains(&process)).then_some(())
    })
    .await;
    yard.proxy.kill_and_restart().await;
    yard.proxy.reaches(&id, "succeeded").await;
    let happened = yard.proxy.happened(&id).await;
    let reports: Vec<_> = happened.iter().filter(|entry| entry["type"] == "hook_finished").collect();
    assert_eq!(reports.len(), 1, "{reports:#?}");
    assert_eq!(reports[0]["data"]["report"], json!({ "end": { "exit": 0 }, "output": "again\n" }));
    assert!(happened.iter().any(|entry| entry["type"] == "recovered"));
    yard.nothing_is_left().await;
}
