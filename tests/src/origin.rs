//! Origins that misbehave on command.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::wire::{Head, Reader};

/// What an origin does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers 200 with its name, and with `X-Origin`.
    Ok,
    /// Answers this status.
    Status(u16),
    /// Answers 200 with this body.
    Body(Vec<u8>),
    /// Answers 200 after this time.
    Slow(Duration),
    /// Reads the request and never answers.
    Hang,
    /// Resets the connection once the request was read.
    Reset,
    /// Announces 1,000 bytes, sends 10 and closes.
    Truncate,
    /// Answers with something that is not HTTP.
    Garbage,
    /// Sends a body without end, as fast as it is taken.
    Endless,
    /// Answers 200 with what it received as the body.
    Echo,
    /// Sends these bytes as they are and closes.
    Raw(Vec<u8>),
    /// Answers 200 and 500 in turn.
    Alternate,
    /// Answers 500 to each n-th request, and 200 to the others.
    FailEvery(usize),
}

/// A request that an origin saw.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
}

impl Seen {
    /// Its method.
    pub fn method(&self) -> &str {
        self.head.first.split(' ').next().unwrap_or_default()
    }

    /// Its request target.
    pub fn target(&self) -> &str {
        self.head.first.split(' ').nth(1).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Inside {
    name: String,
    behaviour: Mutex<Behaviour>,
    health: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
    count: AtomicUsize,
    probes: AtomicUsize,
    connections: AtomicUsize,
    recording: bool,
}

/// A scripted HTTP server. Requests for `/health` follow [`Origin::set_health`], all others [`Origin::set`].
#[derive(Debug)]
pub struct Origin {
    inside: Arc<Inside>,
    address: SocketAddr,
    running: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

/// Ports below the ephemeral range, so that a stopped origin's port is still there when it comes back.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(process::id() % 97).unwrap_or(0) * 113;
    20_000 + (spread + NEXT.fetch_add(1, Relaxed)) % 12_000
}

pub(crate) async fn bind_free() -> (TcpListener, SocketAddr) {
    for _ in 0..1_000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, next_port()));
        if let Ok(listener) = TcpListener::bind(address).await {
            return (listener, address);
        }
    }
    panic!("no free port between 20000 and 32000");
}

/// An address on which nothing listens.
pub async fn refused_address() -> SocketAddr {
    bind_free().await.1
}

impl Origin {
    /// Starts an origin that answers with `name`.
    pub async fn start(name: &str) -> Self {
        Self::with(name, true).await
    }

    /// Starts an origin that counts requests without keeping them: for load.
    pub async fn start_counting(name: &str) -> Self {
        Self::with(name, false).await
    }

    async fn with(name: &str, recording: bool) -> Self {
        let (listener, address) = bind_free().await;
        let inside = Arc::new(Inside {
            name: name.into(),
            behaviour: Mutex::new(Behaviour::Ok),
            health: Mutex::new(Behaviour::Ok),
            seen: Mutex::default(),
            count: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            recording,
        });
        let mut origin = Self { inside, address, running: None };
        origin.run(listener);
        origin
    }

    fn run(&mut self, listener: TcpListener) {
        let (stop, stopped) = watch::channel(false);
        let inside = Arc::clone(&self.inside);
        let task = tokio::spawn(accept(listener, inside, stopped));
        self.running = Some((stop, task));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does from the next request on.
    pub fn set(&self, behaviour: Behaviour) {
        *self.inside.behaviour.lock().unwrap() = behaviour;
    }

    /// Changes what it does with probes (`/health`).
    pub fn set_health(&self, behaviour: Behaviour) {
        *self.inside.health.lock().unwrap() = behaviour;
    }

    /// Closes its port and all its connections: it refuses from now on.
    pub async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            stop.send_replace(true);
            task.await.unwrap();
        }
    }

    /// Comes back on the same port.
    pub async fn revive(&mut self) {
        assert!(self.running.is_none(), "the origin runs");
        let listener = crate::until("the port is free again", || async { TcpListener::bind(self.address).await.ok() });
        let listener = listener.await;
        self.run(listener);
    }

    /// The requests that it saw, probes left out.
    pub fn seen(&self) -> Vec<Seen> {
        assert!(self.inside.recording, "this origin only counts");
        self.inside.seen.lock().unwrap().clone()
    }

    /// How many requests it saw, probes left out.
    pub fn count(&self) -> usize {
        self.inside.count.load(Relaxed)
    }

    /// How many probes it saw.
    pub fn probes(&self) -> usize {
        self.inside.probes.load(Relaxed)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.inside.connections.load(Relaxed)
    }
}

async fn accept(listener: TcpListener, inside: Arc<Inside>, stopped: watch::Receiver<bool>) {
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (inside, mut stop) = (Arc::clone(&inside), stopped.clone());
                tokio::spawn(async move {
                    inside.connections.fetch_add(1, Relaxed);
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => {}
                        _ = serve(stream, &inside) => {}
                    }
                    inside.connections.fetch_sub(1, Relaxed);
                });
            }
        }
    }
}

async fn serve(stream: TcpStream, inside: &Inside) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = Reader::new(stream);
    while let Some(head) = reader.head().await? {
        if head.lists("expect", "100-continue") {
            reader.stream().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = reader.body(&head, false).await?;
        let seen = Seen { head, body };
        let behaviour = if seen.target().starts_with("/health") {
            inside.probes.fetch_add(1, Relaxed);
            inside.health.lock().unwrap().clone()
        } else {
            inside.count.fetch_add(1, Relaxed);
            if inside.recording {
                inside.seen.lock().unwrap().push(seen.clone());
            }
            inside.behaviour.lock().unwrap().clone()
        };
        if !behave(&mut reader, inside, &seen, behaviour).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers; `false`: the connection ends.
async fn behave(
    reader: &mut Reader<TcpStream>,
    inside: &Inside,
    seen: &Seen,
    behaviour: Behaviour,
) -> std::io::Result<bool> {
    let name = inside.name.as_bytes();
    let head_only = seen.method() == "HEAD";
    let stream = reader.stream();
    match behaviour {
        Behaviour::Ok => answer(stream, inside, 200, name, head_only).await?,
        Behaviour::Status(status) => answer(stream, inside, status, name, head_only).await?,
        Behaviour::Body(body) => answer(stream, inside, 200, &body, head_only).await?,
        Behaviour::Echo => answer(stream, inside, 200, &seen.body, head_only).await?,
        Behaviour::Alternate => {
            let turn = inside.count.load(Relaxed) + inside.probes.load(Relaxed);
            answer(stream, inside, if turn.is_multiple_of(2) { 200 } else { 500 }, name, head_only).await?;
        }
        Behaviour::FailEvery(nth) => {
            let status = if inside.count.load(Relaxed).is_multiple_of(nth) { 500 } else { 200 };
            answer(stream, inside, status, name, head_only).await?;
        }
        Behaviour::Slow(wait) => {
            tokio::time::sleep(wait).await;
            answer(stream, inside, 200, name, head_only).await?;
        }
        Behaviour::Hang => std::future::pending::<()>().await,
        Behaviour::Reset => {
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Behaviour::Truncate => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789").await?;
            return Ok(false);
        }
        Behaviour::Garbage => {
            stream.write_all(b"this is not HTTP\r\n\r\n").await?;
            return Ok(false);
        }
        Behaviour::Raw(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(false);
        }
        Behaviour::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        }
    }
    Ok(true)
}

async fn answer(
    stream: &mut TcpStream,
    inside: &Inside,
    status: u16,
    body: &[u8],
    head_only: bool,
) -> std::io::Result<()> {
    let bodiless = matches!(status, 204 | 304);
    let length = if bodiless { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let mut out = format!("HTTP/1.1 {status} Status\r\n{length}x-origin: {}\r\n\r\n", inside.name).into_bytes();
    if !head_only && !bodiless {
        out.extend(body);
    }
    stream.write_all(&out).await
}
