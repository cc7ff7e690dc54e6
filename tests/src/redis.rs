//! Real Redis-compatible servers, each with its own port and directory, and a wire to them that misbehaves on command.

use std::{
    env, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

use crate::{origin::bind_free, until, wire::Reader};

/// Which server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `redis-server`, of the system.
    Redis,
    /// `valkey-server`, that `.ci/setup test` fetches.
    Valkey,
}

impl Program {
    fn path(self) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        match self {
            Self::Redis => "redis-server".into(),
            Self::Valkey => {
                env::var_os("VALKEY_SERVER").map_or_else(|| root.join("target/valkey/valkey-server"), PathBuf::from)
            }
        }
    }
}

/// A server that runs. It is killed when dropped.
#[derive(Debug)]
pub struct Redis {
    program: Program,
    dir: TempDir,
    address: SocketAddr,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// Starts a server that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::start_with(Program::Redis, &[]).await
    }

    /// Starts a server with further arguments.
    pub async fn start_with(program: Program, arguments: &[&str]) -> Self {
        let (listener, address) = bind_free().await;
        drop(listener);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut this = Self { program, dir: TempDir::new().unwrap(), address, arguments, child: None };
        this.revive().await;
        this
    }

    /// Starts a Sentinel for a master of the name `flags`.
    pub async fn sentinel(program: Program, master: SocketAddr) -> Self {
        let (listener, address) = bind_free().await;
        drop(listener);
        let dir = TempDir::new().unwrap();
        let config = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor flags {} {} 1\nsentinel down-after-milliseconds flags 1000\nsentinel failover-timeout flags 5000\n",
            address.port(),
            dir.path().display(),
            master.ip(),
            master.port()
        );
        std::fs::write(dir.path().join("sentinel.conf"), config).unwrap();
        let arguments = vec![dir.path().join("sentinel.conf").display().to_string(), "--sentinel".into()];
        let mut this = Self { program, dir, address, arguments, child: None };
        this.revive().await;
        this
    }

    fn spawn(&mut self) {
        let mut command = Command::new(self.program.path());
        if !self.arguments.iter().any(|argument| argument == "--sentinel") {
            command.args(["--port", &self.address.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--dir", &self.dir.path().display().to_string()]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}: run `.ci/setup test`", self.program.path()));
        self.child = Some(child);
    }

    /// Starts it again on its port, and waits until it answers.
    pub async fn revive(&mut self) {
        self.revive_at_once();
        self.answers().await;
    }

    /// Starts it again on its port without waiting.
    pub fn revive_at_once(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.spawn();
    }

    /// Waits until it answers, with whatever.
    pub async fn answers(&self) {
        until("the store answers", || async {
            let mut client = Resp::connect(self.address).await.ok()?;
            client.send(&["PING"]).await.ok()
        })
        .await;
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The URL of its database 0.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Sends a command and gives its answer as text; an error's answer begins with `-`.
    pub async fn command(&self, words: &[&str]) -> String {
        self.asked(words).await.unwrap()
    }

    /// [`Redis::command`] to a store that may hang up meanwhile: it does so to everybody when its role changes.
    pub async fn asked(&self, words: &[&str]) -> io::Result<String> {
        Resp::connect(self.address).await?.send(words).await
    }

    /// Sends a command that must succeed.
    pub async fn done(&self, words: &[&str]) -> String {
        let answer = self.command(words).await;
        assert!(!answer.starts_with('-'), "{words:?}: {answer}");
        answer
    }

    /// Ends it at once, without saving.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it in its tracks, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let pid = self.child.as_ref().expect("it runs").id();
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client of one connection.
#[derive(Debug)]
pub struct Resp {
    reader: Reader<TcpStream>,
}

impl Resp {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: Reader::new(stream) })
    }

    /// Sends a command and waits for its answer: a text, a number, the elements of a list one a line, or `-` and an
    /// error.
    pub async fn send(&mut self, words: &[&str]) -> io::Result<String> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend(word.bytes());
            request.extend(b"\r\n");
        }
        self.reader.stream().write_all(&request).await?;
        tokio::time::timeout(Duration::from_secs(30), self.answer())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends many commands as they are and drops their answers.
    pub async fn flood(&mut self, requests: &[u8], answers: usize) -> io::Result<()> {
        self.reader.stream().write_all(requests).await?;
        for _ in 0..answers {
            self.answer().await?;
        }
        Ok(())
    }

    async fn answer(&mut self) -> io::Result<String> {
        let mut lines = Vec::new();
        let mut left = 1_usize;
        while left > 0 {
            left -= 1;
            let line = self.reader.line().await?;
            let (kind, rest) = line.split_at(1);
            match kind {
                "$" if rest != "-1" => {
                    let text = self.reader.exactly(rest.parse().unwrap()).await?;
                    self.reader.exactly(2).await?;
                    lines.push(String::from_utf8_lossy(&text).into_owned());
                }
                "*" => left += rest.parse::<usize>().unwrap_or(0),
                "-" => lines.push(line),
                "$" => lines.push(String::new()),
                _ => lines.push(rest.to_owned()),
            }
        }
        Ok(lines.join("\n"))
    }
}

/// What a wire does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It carries bytes.
    None,
    /// What the server says comes so much later.
    Delay(Duration),
    /// Nothing gets through, and nothing is closed.
    Hang,
    /// Every connection is reset, old and new.
    Reset,
    /// What the server says is replaced by this.
    Garbage(Vec<u8>),
    /// Only the first half of each answer gets through.
    Half,
}

/// A wire to a server.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    task: JoinHandle<()>,
    carried: Arc<Mutex<u64>>,
}

impl Wire {
    /// A wire to this address.
    pub async fn to(server: SocketAddr) -> Self {
        let (listener, address) = bind_free().await;
        let fault = watch::Sender::new(Fault::None);
        let carried = Arc::new(Mutex::new(0));
        let task = tokio::spawn(accept(listener, server, fault.clone(), Arc::clone(&carried)));
        Self { address, fault, task, carried }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the server's database 0, by this wire.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Changes what it does, for open connections too.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Bytes that the server has said so far.
    pub fn carried(&self) -> u64 {
        *self.carried.lock().unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, fault: watch::Sender<Fault>, carried: Arc<Mutex<u64>>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, server, fault.subscribe(), Arc::clone(&carried)));
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut fault: watch::Receiver<Fault>, carried: Arc<Mutex<u64>>) {
    client.set_zero_linger().unwrap();
    if *fault.borrow_and_update() == Fault::Reset {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut requests = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    let mut bytes = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            changed = fault.changed() => if changed.is_err() || *fault.borrow_and_update() == Fault::Reset { break },
            _ = &mut requests => break,
            read = from_server.read(&mut bytes) => match read {
                Ok(n) if n > 0 => {
                    *carried.lock().unwrap() += n as u64;
                    let now = fault.borrow().clone();
                    if !answer(&bytes[..n], now, &mut to_client).await { break }
                }
                _ => break,
            },
        }
    }
    requests.abort();
}

async fn answer(bytes: &[u8], fault: Fault, to_client: &mut OwnedWriteHalf) -> bool {
    match fault {
        Fault::None => to_client.write_all(bytes).await.is_ok(),
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            to_client.write_all(bytes).await.is_ok()
        }
        Fault::Hang => true,
        Fault::Reset => false,
        Fault::Garbage(garbage) => to_client.write_all(&garbage).await.is_ok(),
        Fault::Half => to_client.write_all(&bytes[..bytes.len() / 2]).await.is_ok(),
    }
}

/// A certificate authority and a certificate for 127.0.0.1 and localhost, as files: `ca.pem`, `cert.pem`, `key.pem`.
pub fn certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 30 -subj /CN=ca"));
    openssl(&format!("req -new {key} -keyout key.pem -out request.pem -subj /CN=store"));
    openssl("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 30 -extfile names");
}
