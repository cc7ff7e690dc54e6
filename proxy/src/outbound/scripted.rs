//! Endpoints that do what a test tells them, well or badly, and tell the test what they saw.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora_core::tls::RootCertStore;
use tidegate_config::{EndpointAddress, Host, Scheme};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
    sync::{mpsc, watch},
};
use tokio_rustls::rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::Trust;

/// How long a test waits for what must happen: it fails then and does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an endpoint does with each request (HTTP/1.1).
#[derive(Clone)]
pub(crate) enum Script {
    /// Answers with these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Answers with these bytes and closes.
    AnswerAndClose(Vec<u8>),
    /// Answers with these bytes before it reads the body, then reads it.
    AnswerEarly(Vec<u8>),
    /// Never answers.
    Hang,
    /// Begins with these bytes, then sends one byte after another for ever.
    Dribble(Vec<u8>),
    /// Begins with these bytes, then sends as much as it can for ever.
    Endless(Vec<u8>),
    /// Resets the connection when it has read the request.
    Reset,
    /// Begins with these bytes, then resets the connection.
    AnswerAndReset(Vec<u8>),
}

/// An answer in HTTP/1.1.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// A request as an endpoint received it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// All values of a header, joined.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        if values.is_empty() { None } else { Some(values.join(", ")) }
    }
}

/// A running endpoint.
pub(crate) struct Scripted {
    /// Where it is.
    pub(crate) address: EndpointAddress,
    requests: mpsc::UnboundedReceiver<Received>,
    open: watch::Receiver<usize>,
    accepted: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
    _stop: tokio::task::JoinSet<()>,
}

/// What a connection's task reports to.
#[derive(Clone)]
struct Reports {
    requests: mpsc::UnboundedSender<Received>,
    open: Arc<watch::Sender<usize>>,
    accepted: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

struct Opened(Reports);

impl Reports {
    fn opened(&self) -> Opened {
        self.accepted.fetch_add(1, Relaxed);
        self.open.send_modify(|open| *open += 1);
        Opened(self.clone())
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

impl Scripted {
    /// HTTP/1.1 on TCP.
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host::Ip(listener.local_addr().unwrap());
        Self::run(EndpointAddress { scheme: Scheme::Http, host }, move |reports| async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(play(stream, script.clone(), reports.opened(), reset));
            }
        })
    }

    /// HTTP/1.1 on a Unix socket.
    pub(crate) async fn start_unix(path: PathBuf, script: Script) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        Self::run(EndpointAddress { scheme: Scheme::Http, host: Host::Unix(path) }, move |reports| async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(play(stream, script.clone(), reports.opened(), drop));
            }
        })
    }

    /// Accepts and never says a word; with `https` not even in the handshake.
    pub(crate) async fn start_mute(scheme: Scheme) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host::Ip(listener.local_addr().unwrap());
        Self::run(EndpointAddress { scheme, host }, move |reports| async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let opened = reports.opened();
                tokio::spawn(async move {
                    let _opened = opened;
                    let mut sink = [0; 1024];
                    while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
                });
            }
        })
    }

    /// Accepts and never reads, in one task for all connections.
    pub(crate) async fn start_deaf(scheme: Scheme) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host::Ip(listener.local_addr().unwrap());
        Self::run(EndpointAddress { scheme, host }, move |reports| async move {
            let mut kept = Vec::new();
            loop {
                kept.push((listener.accept().await.unwrap(), reports.opened()));
            }
        })
    }

    /// HTTP/2 in clear text, or TLS with this ALPN; answers with 200 and `body`.
    pub(crate) async fn start_hyper(scheme: Scheme, alpn: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Host::Ip(listener.local_addr().unwrap());
        Self::run(EndpointAddress { scheme, host }, move |reports| async move {
            let tls = acceptor(alpn);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, reports) = (tls.clone(), reports.clone());
                tokio::spawn(async move {
                    let opened = reports.opened();
                    if scheme == Scheme::Https {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        serve(stream, alpn == "h2", body, opened).await;
                    } else {
                        serve(stream, true, body, opened).await;
                    }
                });
            }
        })
    }

    fn run<F: Future<Output = ()> + Send + 'static>(
        address: EndpointAddress,
        accept: impl FnOnce(Reports) -> F + Send + 'static,
    ) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let (open_sender, open) = watch::channel(0);
        let (accepted, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut stop = tokio::task::JoinSet::new();
        let reports = Reports {
            requests: sender,
            open: Arc::new(open_sender),
            accepted: Arc::clone(&accepted),
            written: Arc::clone(&written),
        };
        stop.spawn(accept(reports));
        Self { address, requests, open, accepted, written, _stop: stop }
    }

    /// The next request that it receives.
    pub(crate) async fn received(&mut self) -> Received {
        tokio::time::timeout(PATIENCE, self.requests.recv()).await.expect("no request came").unwrap()
    }

    /// A request that it has received already, if there is one.
    pub(crate) fn received_now(&mut self) -> Option<Received> {
        self.requests.try_recv().ok()
    }

    /// Waits until this many connections are open.
    pub(crate) async fn open_connections(&mut self, expected: usize) {
        let waited = tokio::time::timeout(PATIENCE, self.open.wait_for(|open| *open == expected)).await.map(drop);
        assert!(waited.is_ok(), "{} connections are open, not {expected}", *self.open.borrow());
    }

    /// Connections that it has accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }

    /// Bytes of endless answers that it could send so far.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Relaxed)
    }

    /// Its socket address.
    pub(crate) fn socket(&self) -> SocketAddr {
        match self.address.host {
            Host::Ip(socket) => socket,
            Host::Name(..) | Host::Unix(_) => panic!("{} is not on TCP", self.address),
        }
    }
}

/// An address where nobody listens.
pub(crate) async fn refusing() -> EndpointAddress {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    EndpointAddress { scheme: Scheme::Http, host: Host::Ip(listener.local_addr().unwrap()) }
}

/// Trust in the certificate of [`Scripted::start_hyper`].
pub(crate) fn trust() -> Trust {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).unwrap();
    Trust::new(roots)
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(include_bytes!("cert.pem")).unwrap()
}

fn acceptor(alpn: &str) -> tokio_rustls::TlsAcceptor {
    pingora_core::tls::install_default_crypto_provider();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("key.pem")).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate()], key).unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    Arc::new(config).into()
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    body: &'static str,
    opened: Opened,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let requests = opened.0.requests.clone();
        async move {
            let (head, incoming) = request.into_parts();
            let mut headers: Vec<(String, String)> = Vec::new();
            for (name, value) in &head.headers {
                headers.push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
            }
            let received = incoming.collect().await?.to_bytes().to_vec();
            let target = head.uri.to_string();
            let _ = requests.send(Received { method: head.method.to_string(), target, headers, body: received });
            Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from_static(body.as_bytes()))))
        }
    });
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

async fn play<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: Script, opened: Opened, reset: fn(S)) {
    let reports = opened.0.clone();
    let report = |received: &Received| drop(reports.requests.send(received.clone()));
    loop {
        if let Script::AnswerEarly(bytes) = &script {
            let Some((received, length)) = read_head(&mut stream).await else { return };
            if stream.write_all(bytes).await.is_err() {
                return;
            }
            let Some(received) = read_body(&mut stream, received, length).await else { return };
            report(&received);
            continue;
        }
        let Some((received, length)) = read_head(&mut stream).await else { return };
        let Some(received) = read_body(&mut stream, received, length).await else { return };
        report(&received);
        let kept = match &script {
            Script::Answer(bytes) | Script::AnswerEarly(bytes) => stream.write_all(bytes).await.is_ok(),
            Script::AnswerAndClose(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                false
            }
            Script::Hang => {
                let mut sink = [0; 1024];
                while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
                false
            }
            Script::Dribble(bytes) => forever(&mut stream, &reports, bytes, b"x", Duration::from_millis(5)).await,
            Script::Endless(bytes) => forever(&mut stream, &reports, bytes, &[b'x'; 65_536], Duration::ZERO).await,
            Script::Reset => return reset(stream),
            Script::AnswerAndReset(bytes) => {
                let _ = stream.write_all(bytes).await;
                return reset(stream);
            }
        };
        if !kept {
            return;
        }
    }
}

/// Writes until nobody reads any more.
async fn forever(
    stream: &mut (impl AsyncWrite + Unpin),
    reports: &Reports,
    begin: &[u8],
    then: &[u8],
    pause: Duration,
) -> bool {
    let mut next = begin;
    while stream.write_all(next).await.is_ok() {
        reports.written.fetch_add(next.len(), Relaxed);
        next = then;
        if pause > Duration::ZERO {
            tokio::time::sleep(pause).await;
        }
    }
    false
}

/// Reads a head byte by byte: it takes nothing that belongs to the next one.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<(Received, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let received = Received { method, target, headers, body: Vec::new() };
    let length = received.header("content-length").map_or(0, |length| length.parse().unwrap());
    Some((received, length))
}

async fn read_body(stream: &mut (impl AsyncRead + Unpin), received: Received, length: usize) -> Option<Received> {
    let mut body = vec![0; length];
    match received.header("transfer-encoding") {
        Some(_) => body = read_chunks(stream).await?,
        None => drop(stream.read_exact(&mut body).await.ok()?),
    }
    Some(Received { body, ..received })
}

/// Reads a chunked body without extensions and trailers, again byte by byte.
async fn read_chunks(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.ok()?);
        }
        let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        body.extend_from_slice(&chunk[..length]);
        if length == 0 {
            return Some(body);
        }
    }
}
