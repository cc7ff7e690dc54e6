//! Environments of real processes, and the commands of a user that start and stop them.
//!
//! An environment is one `load-origin` for each endpoint, whose answers carry its version. `start` and `stop` are shell
//! scripts that know nothing but their `TIDEGATE_*` variables and a directory; each call is a line of the file `calls`.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{origin::refused_address, until};

/// Starts every endpoint of a target, or the one that it is told. A version whose name begins with `bad` never listens,
/// and one whose name begins with `unready` answers everything but `/ready`.
const START: &str = r#"#!/bin/sh
set -eu
cd "$(dirname "$0")"
echo "start $TIDEGATE_SERVICE $TIDEGATE_TARGET ${TIDEGATE_REPLICA:-all} $TIDEGATE_VERSION" >> calls
case "$TIDEGATE_VERSION" in bad*) exit 0 ;; esac
case "$TIDEGATE_VERSION" in unready*) ready=--unready ;; *) ready=--ready ;; esac
for file in "addresses/$TIDEGATE_SERVICE.$TIDEGATE_TARGET."${TIDEGATE_REPLICA:-*}; do
    pid="pids/${file#addresses/}"
    if [ -e "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then continue; fi
    rm -f "$pid"
    "$ORIGIN" "$(cat "$file")" "$TIDEGATE_VERSION" "--slow=$(cat slow)" "$ready" "--pid=$PWD/$pid" </dev/null >/dev/null 2>&1 &
    until [ -e "$pid" ]; do sleep 0.01; done
done
"#;

const STOP: &str = r#"#!/bin/sh
set -eu
cd "$(dirname "$0")"
echo "stop $TIDEGATE_SERVICE $TIDEGATE_TARGET ${TIDEGATE_REPLICA:-all} $TIDEGATE_VERSION" >> calls
for pid in "pids/$TIDEGATE_SERVICE.$TIDEGATE_TARGET."${TIDEGATE_REPLICA:-*}; do
    [ -e "$pid" ] || continue
    kill -9 "$(cat "$pid")" 2>/dev/null || true
    rm -f "$pid"
done
"#;

/// See the module. What still runs is killed when it is dropped.
#[derive(Debug)]
pub struct Programs {
    dir: TempDir,
    origin: PathBuf,
    /// What was started by hand.
    children: Mutex<Vec<Child>>,
}

impl Programs {
    /// A place for programs; `origin` is the path of `load-origin`.
    pub fn new(origin: &str) -> Self {
        let this = Self { dir: TempDir::new().unwrap(), origin: origin.into(), children: Mutex::default() };
        for dir in ["addresses", "pids"] {
            fs::create_dir(this.path(dir)).unwrap();
        }
        fs::write(this.path("slow"), "0").unwrap();
        for (name, text) in [("start", START), ("stop", STOP)] {
            this.script(name, &text.replace("$ORIGIN", origin));
        }
        this
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes an executable file.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Gives a target so many endpoints, on which nothing runs yet. Its part of the configuration.
    pub async fn place(&self, service: &str, target: &str, endpoints: usize) -> String {
        let mut list = String::new();
        for replica in 0..endpoints {
            let address = refused_address().await;
            self.put(service, target, replica, address);
            write!(list, "\"{address}\", ").unwrap();
        }
        format!("[service.{service}.target.{target}]\nendpoints = [{list}]\n")
    }

    fn put(&self, service: &str, target: &str, replica: usize, address: SocketAddr) {
        fs::write(self.path(&format!("addresses/{service}.{target}.{replica}")), address.to_string()).unwrap();
    }

    /// The endpoints of a target.
    pub fn endpoints(&self, service: &str, target: &str) -> Vec<String> {
        let read = |replica: usize| fs::read_to_string(self.path(&format!("addresses/{service}.{target}.{replica}")));
        (0..).map_while(|replica| read(replica).ok()).collect()
    }

    /// How long programs that are started from now on take for an answer.
    pub fn slow(&self, ms: u64) {
        fs::write(self.path("slow"), ms.to_string()).unwrap();
    }

    /// Starts a version on all endpoints of a target by hand, and waits until it listens.
    pub async fn run(&self, service: &str, target: &str, version: &str) {
        for (replica, address) in self.endpoints(service, target).into_iter().enumerate() {
            let pid = self.pid_file(service, target, replica);
            let slow = fs::read_to_string(self.path("slow")).unwrap();
            let child = Command::new(&self.origin)
                .args([&address, version, &format!("--slow={slow}"), &format!("--pid={}", pid.display())])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            self.children.lock().unwrap().push(child);
            until("the program listens", || async { pid.exists().then_some(()) }).await;
        }
    }

    fn pid_file(&self, service: &str, target: &str, replica: usize) -> PathBuf {
        self.path(&format!("pids/{service}.{target}.{replica}"))
    }

    /// Kills what runs in a target, as an accident would.
    pub fn kill(&self, service: &str, target: &str) {
        for replica in 0..self.endpoints(service, target).len() {
            kill_of(&self.pid_file(service, target, replica));
        }
    }

    /// The lines that commands wrote, each `start|stop SERVICE TARGET REPLICA|all VERSION`.
    pub fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The commands of a service, for its part of the configuration.
    pub fn commands(&self) -> String {
        format!("start = [{:?}]\nstop = [{:?}]\n", self.path("start"), self.path("stop"))
    }
}

fn kill_of(pid_file: &Path) {
    if let Ok(pid) = fs::read_to_string(pid_file).unwrap_or_default().parse() {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("pids")).into_iter().flatten().flatten() {
            kill_of(&entry.path());
        }
        for mut child in self.children.lock().unwrap().drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
