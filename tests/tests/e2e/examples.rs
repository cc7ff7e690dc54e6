//! The examples of the repository do what they say: their files are loaded and their scripts are run, with the paths and
//! ports of a test.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_e2e::{Origin, Tidegate, get, origin::refused_address, until};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples").canonicalize().unwrap()
}

/// An example with the paths of a test; every text that is replaced must be there.
fn example(name: &str, replace: &[(&str, String)]) -> String {
    let mut text = fs::read_to_string(examples().join(name)).unwrap();
    for (from, to) in replace {
        assert!(text.contains(from), "{name} does not say {from}");
        text = text.replace(from, to);
    }
    text
}

fn scripts(name: &str) -> String {
    examples().join(name).display().to_string()
}

/// Slots with plain processes. What still runs is killed when it is dropped.
struct Slots(TempDir);

impl Slots {
    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A version whose program is this line of a shell.
    fn version(&self, name: &str, line: &str) {
        let run = self.path(&format!("versions/{name}/run"));
        fs::create_dir_all(run.parent().unwrap()).unwrap();
        fs::write(&run, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The process that the scripts have started in a slot.
    fn pid(&self, slot: &str) -> Option<Pid> {
        let pid = fs::read_to_string(self.path(&format!("slots/{slot}/pid"))).ok()?;
        Some(Pid::from_raw(pid.trim().parse().unwrap()))
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for pid in ["blue", "green"].into_iter().filter_map(|slot| self.pid(slot)) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Whether a process does anything any more.
fn runs(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[tokio::test]
async fn plain_processes_start_and_stop_with_blue_green_deployments() {
    let slots = Slots(TempDir::new().unwrap());
    let mut replace =
        vec![("/etc/tidegate/processes", scripts("processes")), ("\"/srv/web\"", format!("{:?}", slots.0.path()))];
    for (slot, address) in [("blue", "127.0.0.1:3001"), ("green", "127.0.0.1:3002")] {
        let free = refused_address().await;
        fs::create_dir_all(slots.path(&format!("slots/{slot}"))).unwrap();
        fs::write(slots.path(&format!("slots/{slot}/port")), free.port().to_string()).unwrap();
        replace.push((address, free.to_string()));
    }
    let serve = |version: &str| format!("exec {} \"127.0.0.1:$PORT\" {version}", env!("CARGO_BIN_EXE_load-origin"));
    slots.version("v1", &serve("v1"));
    slots.version("v2", &serve("v2"));
    slots.version("v3", "exit 1");
    let proxy = Tidegate::start(&example("processes.toml", &replace)).await;
    let deploy = |version: &str, more: Value| {
        let mut document = json!({
            "strategy": "blue-green", "service": "web", "version": version, "watch": "1s", "health_timeout": "4s",
        });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        proxy.deploy(document)
    };
    let answer = || async { get(proxy.public(), "/").await.unwrap().text().trim().to_owned() };

    let first = deploy("v1", json!({ "to": "blue" })).await;
    proxy.reaches(&first, "succeeded").await;
    assert_eq!(answer().await, "v1");
    let blue = slots.pid("blue").unwrap();
    assert!(runs(blue) && slots.pid("green").is_none());

    let second = deploy("v2", json!({})).await;
    proxy.reaches(&second, "succeeded").await;
    assert_eq!(answer().await, "v2");
    let green = slots.pid("green").unwrap();
    until("the old version is stopped", || async { (!runs(blue)).then_some(()) }).await;
    assert!(runs(green));

    let third = deploy("v3", json!({})).await;
    proxy.reaches(&third, "rolled-back").await;
    assert_eq!(answer().await, "v2");
    assert!(runs(green), "the version that serves was not touched");
    assert!(slots.pid("blue").is_none(), "what never served was cleared away");
}

/// The services of the example of databases, their origins and their databases.
struct Data {
    home: TempDir,
    proxy: Tidegate,
    greens: Vec<Origin>,
    _blues: Vec<Origin>,
}

const SERVICES: [&str; 3] = ["copied", "appended", "followed"];

impl Data {
    async fn start() -> Self {
        let home = TempDir::new().unwrap();
        let mut replace =
            vec![("/etc/tidegate/databases", scripts("databases")), ("interval = \"5s\"", "interval = \"1s\"".into())];
        let (mut greens, mut blues) = (Vec::new(), Vec::new());
        let ports = ["127.0.0.1:3001", "127.0.0.1:3003", "127.0.0.1:3005"].into_iter().zip([
            "127.0.0.1:3002",
            "127.0.0.1:3004",
            "127.0.0.1:3006",
        ]);
        for (service, (green, blue)) in SERVICES.into_iter().zip(ports) {
            greens.push(Origin::start("green").await);
            blues.push(Origin::start("blue").await);
            replace.push((green, greens.last().unwrap().address().to_string()));
            replace.push((blue, blues.last().unwrap().address().to_string()));
            for target in ["green", "blue"] {
                fs::create_dir_all(home.path().join(service).join(target)).unwrap();
            }
        }
        replace.push(("\"/srv/", format!("\"{}/", home.path().display())));
        let proxy = Tidegate::start(&example("databases.toml", &replace)).await;
        let this = Self { home, proxy, greens, _blues: blues };
        let schema = "CREATE TABLE visits (id INTEGER PRIMARY KEY, who TEXT); \
                      CREATE TABLE pictures (id INTEGER PRIMARY KEY, name TEXT);";
        for (service, target) in SERVICES.into_iter().flat_map(|service| [(service, "green"), (service, "blue")]) {
            this.sql(service, target, schema);
        }
        this
    }

    fn database(&self, service: &str, target: &str) -> PathBuf {
        self.home.path().join(service).join(target).join("data.db")
    }

    /// Runs SQL; what it prints, rows separated by blanks.
    fn sql(&self, service: &str, target: &str, sql: &str) -> String {
        let mut command = Command::new("sqlite3");
        command.args(["-bail", "-cmd", ".timeout 5000"]).arg(self.database(service, target)).arg(sql);
        let output = command.output().expect("there is no sqlite3: run .ci/setup test");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Takes the green target of a service away.
    async fn lose_green(&mut self, service: &str) {
        let at = SERVICES.iter().position(|known| *known == service).unwrap();
        self.greens[at].stop().await;
    }

    async fn moved(&self, service: &str) {
        until("the service moved", || async {
            let shown = self.proxy.service(service).await;
            (shown["failover"]["active"]["to"] == "blue").then_some(())
        })
        .await;
        assert_eq!(get(self.proxy.public(), &format!("/{service}")).await.unwrap().text(), "blue");
    }

    /// Waits until a command around the failover has succeeded.
    async fn hook(&self, service: &str, hook: &str) {
        until("the command has succeeded", || async {
            let events = self.proxy.done("GET", "/api/events?limit=1000", None).await;
            let about = |event: &&Value| {
                event["type"] == "failover.hook" && event["service"] == service && event["hook"] == hook
            };
            let told = events.as_array().unwrap().iter().find(about).cloned()?;
            assert!(told["failure"].is_null(), "{told}");
            Some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_database_is_copied_before_its_service_moves_and_a_damaged_one_holds_it() {
    let mut data = Data::start().await;
    data.sql(
        "copied",
        "green",
        "INSERT INTO visits VALUES (1, 'ann'), (2, 'bob'); INSERT INTO pictures VALUES (1, 'cat');",
    );
    data.sql("copied", "blue", "INSERT INTO visits VALUES (7, 'old');");
    let whole = fs::read(data.database("copied", "green")).unwrap();
    fs::write(data.database("copied", "green"), b"this is no database, however long one looks at it").unwrap();
    data.lose_green("copied").await;
    until("the service is held", || async {
        let shown = data.proxy.service("copied").await;
        (shown["failover"]["preparing"]["held"] == true).then_some(())
    })
    .await;
    assert_eq!(get(data.proxy.public(), "/copied").await.unwrap().status, 503);
    assert_eq!(data.sql("copied", "blue", "SELECT * FROM visits"), "7|old", "nothing damaged was copied");
    fs::write(data.database("copied", "green"), whole).unwrap();
    data.moved("copied").await;
    assert_eq!(data.sql("copied", "blue", "SELECT * FROM visits"), "1|ann 2|bob");
    assert_eq!(data.sql("copied", "blue", "SELECT * FROM pictures"), "1|cat");
}

#[tokio::test]
async fn missing_rows_are_appended_after_a_service_has_moved() {
    let mut data = Data::start().await;
    data.sql(
        "appended",
        "green",
        "INSERT INTO visits VALUES (1, 'ann'), (2, 'bob'); INSERT INTO pictures VALUES (1, 'cat');",
    );
    data.sql("appended", "blue", "INSERT INTO visits VALUES (2, 'bea'), (9, 'ida');");
    data.lose_green("appended").await;
    data.moved("appended").await;
    data.hook("appended", "after").await;
    assert_eq!(data.sql("appended", "blue", "SELECT * FROM visits ORDER BY id"), "1|ann 2|bea 9|ida");
    assert_eq!(data.sql("appended", "blue", "SELECT * FROM pictures"), "1|cat");
}

/// A program that runs until it is dropped, with what it has started.
struct Loop(Child);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(-i32::try_from(self.0.id()).unwrap()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_database_that_is_followed_lacks_nothing_when_its_service_moves() {
    use std::os::unix::process::CommandExt as _;
    let mut data = Data::start().await;
    data.sql("followed", "green", "INSERT INTO visits VALUES (1, 'ann'), (2, 'bob');");
    let mut follow = Command::new(examples().join("databases/follow"));
    follow.arg(data.home.path().join("followed")).args(["visits", "pictures"]);
    follow.envs([("TIDEGATE_FROM", "green"), ("TIDEGATE_TO", "blue")]).process_group(0);
    let follow = Loop(follow.stdin(Stdio::null()).spawn().unwrap());
    let has = |rows: &'static str| {
        let data = &data;
        until("blue has the rows", move || async move {
            (data.sql("followed", "blue", "SELECT * FROM visits ORDER BY id") == rows).then_some(())
        })
    };
    has("1|ann 2|bob").await;
    data.sql("followed", "green", "UPDATE visits SET who = 'bea' WHERE id = 2; DELETE FROM visits WHERE id = 1;");
    has("2|bea").await;
    drop(follow);
    data.sql("followed", "green", "INSERT INTO visits VALUES (3, 'cid'); INSERT INTO pictures VALUES (1, 'cat');");
    data.lose_green("followed").await;
    data.moved("followed").await;
    assert_eq!(data.sql("followed", "blue", "SELECT * FROM visits ORDER BY id"), "2|bea 3|cid", "the last rows, too");
    assert_eq!(data.sql("followed", "blue", "SELECT * FROM pictures"), "1|cat");
    data.hook("followed", "before").await;
}
