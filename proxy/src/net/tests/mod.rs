//! The data plane through real sockets: a configuration, scripted endpoints, and clients that write bytes.

mod bodies;
mod exchange;
mod failures;
mod http2;
mod limits;
mod metrics;
mod stopping;
mod tunnels;
mod watching;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tidegate_config::{EndpointAddress, ListenerId, Secret, ServiceId};
use tidegate_core::{Change, Event, Snapshot, State, apply, compile};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Certificates, DataPlane, Phase, Sockets, start, workers};
use crate::{
    lane::{PinKeys, Shared},
    mirror::Mirrors,
    outbound::scripted::{Script, Scripted, answer},
    routing::{PASSIVE_QUEUE, PassiveSign, Routing},
};

/// Far more than anything here takes: a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running data plane.
pub(super) struct Proxy {
    pub(super) shared: Arc<Shared>,
    pub(super) address: SocketAddr,
    pub(super) signs: mpsc::Receiver<PassiveSign>,
    stop: watch::Sender<Phase>,
    plane: Option<DataPlane>,
}

impl Proxy {
    /// Runs a whole configuration file.
    pub(super) fn run(file: &str) -> Self {
        let config = tidegate_config::parse(file).unwrap_or_else(|problems| panic!("{problems}"));
        let (state, _) = State::load(&config, None);
        let snapshot = compile(&Arc::new(state), None, workers(&config));
        let routing = Arc::new(Routing::new(snapshot));
        let (signs, received) = mpsc::channel(PASSIVE_QUEUE);
        let (admin, own) = (Secret::new("admin-secret".to_owned()), Secret::new("web-secret".to_owned()));
        let pins = PinKeys::new([&admin], [(ServiceId::parse("web").unwrap(), &own)]);
        let shared = Arc::new(Shared::new(&config, routing, signs, pins, Mirrors::new()));
        let (stop, stopped) = watch::channel(Phase::Serving);
        let plane = start(&config, &shared, &stopped, Sockets::default()).unwrap();
        let address = plane.addresses()[&ListenerId::parse("public").unwrap()];
        Self { shared, address, signs: received, stop, plane: Some(plane) }
    }

    /// One service `web` with the stable target `blue` on these endpoints; `more` are further lines of the service.
    pub(super) fn of(endpoints: &[&EndpointAddress], more: &str) -> Self {
        Self::run(&file("", endpoints, more))
    }

    /// Makes a change, as the controller would.
    pub(super) fn change(&self, change: &Change) -> Vec<Event> {
        let before = self.shared.routing.load_full();
        let applied = apply(&before.state, change, self.shared.routing.now()).unwrap();
        let after = compile(&Arc::new(applied.state), Some(&before), 1);
        self.shared.routing.publish(Arc::new(after));
        applied.events
    }

    /// The snapshot in force.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.routing.load_full()
    }

    /// The certificates of its listeners.
    pub(super) fn certificates(&self) -> &Certificates {
        self.plane.as_ref().unwrap().certificates()
    }

    /// A new client.
    pub(super) async fn client(&self) -> Wire {
        Wire::connect(self.address).await
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, request: &str) -> Answer {
        let mut client = self.client().await;
        client.write(request).await;
        client.answer().await
    }

    /// Goes on to a phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.stop.send_replace(phase);
    }

    /// Waits for the end.
    pub(super) async fn ended(&mut self) {
        let plane = self.plane.take().unwrap();
        timeout(PATIENCE, plane.join()).await.unwrap();
    }

    /// Waits until no request counts as running any more.
    pub(super) async fn at_rest(&self) {
        let endpoints_rest = |snapshot: &Snapshot| {
            snapshot.services.iter().all(|service| {
                service.stats.active_now() == 0
                    && service
                        .targets
                        .iter()
                        .flat_map(|target| &target.endpoints)
                        .all(|endpoint| endpoint.stats.in_flight.load(std::sync::atomic::Ordering::Relaxed) == 0)
            })
        };
        eventually(|| endpoints_rest(&self.snapshot())).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.enter(Phase::Cut);
    }
}

/// Waits until something is so.
pub(super) async fn eventually(mut so: impl FnMut() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
}

/// A configuration file with one service.
pub(super) fn file(server: &str, endpoints: &[&EndpointAddress], more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("{:?}", address.to_string())).collect();
    format!(
        r#"
        [server]
        threads = 1
        {server}
        [listener.public]
        address = "127.0.0.1:0"
        [service.web]
        stable = "blue"
        health = false
        {more}
        [service.web.target.blue]
        endpoints = [{}]
        "#,
        endpoints.join(", ")
    )
}

/// That file, with more said of its listener.
pub(super) fn with_listener(text: &str, setting: &str) -> String {
    text.replace("address = \"127.0.0.1:0\"", &format!("address = \"127.0.0.1:0\"\n{setting}"))
}

/// An endpoint that answers everything with its name.
pub(super) async fn named(name: &str) -> Scripted {
    Scripted::start(Script::Answer(answer(200, "", name))).await
}

/// A client that writes bytes.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    read: Vec<u8>,
    /// Whether the next answer is to HEAD, and so has no body.
    pub(super) head_only: bool,
}

/// An answer as a client sees it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// All values of a header.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// The body as text.
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Wire {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).await.unwrap())
    }

    pub(super) fn of(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new(), head_only: false }
    }

    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the server closes; `None`: it reset the connection.
    pub(super) async fn rest(&mut self) -> Option<Vec<u8>> {
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut self.read)).await.unwrap();
        read.ok().map(|_| std::mem::take(&mut self.read))
    }

    /// The next bytes.
    pub(super) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more().await > 0, "closed after {:?}", self.read);
        }
        self.read.drain(..count).collect()
    }

    async fn more(&mut self) -> usize {
        timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.unwrap().unwrap_or(0)
    }

    /// The next answer, whole.
    pub(super) async fn answer(&mut self) -> Answer {
        self.try_answer().await.unwrap_or_else(|| panic!("cut off after {:?}", String::from_utf8_lossy(&self.read)))
    }

    /// The next answer; `None`: it was cut off.
    pub(super) async fn try_answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            if self.more().await == 0 {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).take(end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if status < 200 || matches!(status, 204 | 304) || std::mem::take(&mut self.head_only) {
            return Some(answer);
        }
        answer.body = if answer.header("transfer-encoding") == ["chunked"] {
            self.chunks().await?
        } else if let Some(length) = answer.header("content-length").first() {
            let length = length.parse().unwrap();
            while self.read.len() < length {
                if self.more().await == 0 {
                    return None;
                }
            }
            self.read.drain(..length).collect()
        } else {
            self.rest().await?
        };
        Some(answer)
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let length = usize::from_str_radix(&line, 16).unwrap();
            while self.read.len() < length + 2 {
                if self.more().await == 0 {
                    return None;
                }
            }
            body.extend(self.read.drain(..length));
            assert_eq!(self.read.drain(..2).collect::<Vec<_>>(), b"\r\n");
            if length == 0 {
                return Some(body);
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|bytes| bytes == b"\r\n") {
                return Some(String::from_utf8(self.read.drain(..at + 2).take(at).collect()).unwrap());
            }
            if self.more().await == 0 {
                return None;
            }
        }
    }
}
