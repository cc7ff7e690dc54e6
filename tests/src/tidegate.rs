//! The program under test, as a process of its own.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    PATIENCE,
    client::{Answer, Sent, once},
    until,
};

/// The binary: `TIDEGATE_BIN`, or a fresh development build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = env::var_os("TIDEGATE_BIN") {
            return path.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status =
            Command::new(cargo).args(["build", "--quiet", "--package", "tidegate"]).current_dir(root).status().unwrap();
        assert!(status.success(), "cargo build failed");
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        target.join("debug/tidegate")
    })
}

/// A running `tidegate serve`. It is killed when dropped.
#[derive(Debug)]
pub struct Tidegate {
    dir: TempDir,
    child: Child,
    /// The process that took the first one's place.
    successor: Option<u32>,
    log: Arc<Mutex<Vec<String>>>,
    environment: Vec<(String, String)>,
    public: SocketAddr,
    admin: SocketAddr,
    token: Option<String>,
}

/// What precedes the services of a test: own ports, two workers, no shared state.
const PREAMBLE: &str = r#"
[server]
threads = 2
state_dir = "state"

[admin]
listen = "127.0.0.1:0"
"#;

const LISTENER: &str = r#"
[listener.public]
address = "127.0.0.1:0"
"#;

impl Tidegate {
    /// Starts with these services (and whatever else but `[server]`, `[admin]` and `[listener.public]`), and waits until
    /// every endpoint has a verdict.
    pub async fn start(services: &str) -> Self {
        let this = Self::start_exactly(&format!("{PREAMBLE}{LISTENER}{services}"), &[]).await;
        this.settled().await;
        this
    }

    /// Starts with keys added to `[listener.public]`, and waits until every endpoint has a verdict.
    pub async fn start_with_listener(listener: &str, services: &str) -> Self {
        let this = Self::start_exactly(&format!("{PREAMBLE}{LISTENER}{listener}\n{services}"), &[]).await;
        this.settled().await;
        this
    }

    /// Starts with lines added to `[admin]` and variables in the environment.
    pub async fn start_with_admin(admin: &str, services: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_exactly(&format!("{PREAMBLE}{admin}\n{LISTENER}{services}"), environment).await
    }

    /// Starts with this file as it is; its listener `public` and its admin API must be on TCP.
    pub async fn start_exactly(config: &str, environment: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("tidegate.toml"), config).unwrap();
        let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let (child, log) = spawn(dir.path(), &environment);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut this =
            Self { dir, child, successor: None, log, environment, public: nowhere, admin: nowhere, token: None };
        this.wait_ready().await;
        this
    }

    async fn wait_ready(&mut self) {
        let log = Arc::clone(&self.log);
        let child = &mut self.child;
        let (public, admin) = until("tidegate listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                let lines = log.lock().unwrap().join("\n");
                panic!("tidegate ended with {status}:\n{lines}");
            }
            let lines = log.lock().unwrap().clone();
            async move {
                let find = |message: &str, listener: Option<&str>| {
                    lines.iter().find_map(|line| {
                        let fields = serde_json::from_str::<Value>(line).ok()?.get("fields")?.clone();
                        let right = fields["message"] == message && listener.is_none_or(|l| fields["listener"] == l);
                        right.then(|| fields["address"].as_str()?.parse().ok()).flatten()
                    })
                };
                Some((find("listening", Some("public"))?, find("admin listening", None)?))
            }
        })
        .await;
        self.public = public;
        self.admin = admin;
        let up = || async { once(admin, &Sent::new("GET", "/healthz")).await.ok().filter(|a| a.status == 200) };
        until("the admin API answers", up).await;
    }

    /// Waits until every endpoint has a verdict, so that a test does not race the first probes.
    pub async fn settled(&self) {
        until("every endpoint has a verdict", || async {
            let services = self.done("GET", "/api/services", None).await;
            (!services.to_string().contains("\"health\":\"unknown\"")).then_some(())
        })
        .await;
    }

    /// Where clients connect.
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where clients of another listener connect.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let lines = self.log.lock().unwrap();
        let address = |line: &String| {
            let fields = serde_json::from_str::<Value>(line).ok()?.get("fields")?.clone();
            (fields["message"] == "listening" && fields["listener"] == name).then(|| fields["address"].clone())
        };
        lines.iter().find_map(address).and_then(|address| address.as_str()?.parse().ok()).unwrap()
    }

    /// Where the admin API is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its working directory; the file is `tidegate.toml`, the state is in `state/`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.successor.unwrap_or_else(|| self.child.id())
    }

    /// Has another process of the same binary take over; the number of the one before, which may still finish requests.
    pub async fn upgrade(&mut self) -> u32 {
        let before = self.pid();
        let answer = self.done("POST", "/api/upgrade", None).await;
        self.successor = Some(u32::try_from(answer["pid"].as_u64().unwrap()).unwrap());
        before
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Sends this token with every call from now on.
    pub fn use_token(&mut self, token: &str) {
        self.token = Some(token.into());
    }

    /// A call of the admin API.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = Sent::new(method, path);
        if let Some(token) = &self.token {
            request = request.field("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.field("content-type", "application/json").body(body.to_string());
        }
        once(self.admin, &request).await.unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.log()))
    }

    /// A call that must succeed; its JSON.
    pub async fn done(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.call(method, path, body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// A service as the admin API shows it.
    pub async fn service(&self, name: &str) -> Value {
        self.done("GET", &format!("/api/services/{name}"), None).await
    }

    /// The metrics.
    pub async fn metrics(&self) -> String {
        self.call("GET", "/metrics", None).await.text()
    }

    /// The value of one metric, given as in the text format: `name{label="x"}`; 0 when it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Replaces the configuration file in one step.
    pub fn write_config(&self, config: &str) {
        let path = self.dir.path().join("tidegate.toml");
        let next = path.with_extension("next");
        std::fs::write(&next, config).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    /// The configuration file as it is.
    pub fn read_config(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("tidegate.toml")).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Kills it with SIGKILL and starts it again on the same directory.
    pub async fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.restart().await;
    }

    /// Takes note of its end by somebody else's hand.
    pub async fn killed(&mut self) {
        self.ended(PATIENCE).await;
    }

    /// Starts it again after its end, and waits until every endpoint has a verdict.
    pub async fn restart(&mut self) {
        (self.child, self.log) = spawn(self.dir.path(), &self.environment);
        self.wait_ready().await;
        self.settled().await;
    }

    /// Waits for its end, which must come within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < limit, "still running after {limit:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

impl Drop for Tidegate {
    fn drop(&mut self) {
        if let Some(pid) = self.successor {
            let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the proxy's log ---\n{}", self.log());
        }
    }
}

fn spawn(dir: &Path, environment: &[(String, String)]) -> (Child, Arc<Mutex<Vec<String>>>) {
    let mut child = Command::new(binary())
        .args(["serve", "-c", "tidegate.toml", "--log-format", "json"])
        .current_dir(dir)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let stderr = child.stderr.take().unwrap();
    let lines = Arc::clone(&log);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
    (child, log)
}

/// Runs the binary to its end: exit code, standard output, standard error.
pub fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(binary())
        .args(arguments)
        .current_dir(dir)
        .env_remove("TIDEGATE_ADMIN")
        .env_remove("TIDEGATE_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "tidegate {arguments:?} does not end");
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
