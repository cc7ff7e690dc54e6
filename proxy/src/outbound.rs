//! Connections that the proxy opens on its own account (probes, copies), so that they never share a pool, a limit or a
//! fate with those that carry requests.
//!
//! They are hyper's connections on our own sockets: hyper reads an early answer while it still sends, keeps HTTP/1.1 and
//! HTTP/2 behind one shape, and bounds heads and buffers. Dropping a [`Connection`] ends its tasks and closes its
//! socket, so a deadline around the future that holds it leaks nothing. Nothing here has a deadline of its own.

use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::{http1, http2},
    rt::Executor,
};
use hyper_util::rt::TokioIo;
use pingora_core::tls::{
    ClientConfig, RootCertStore, ServerName, TlsConnector, load_platform_certs_incl_env_into_store,
};
use tidegate_config::{EndpointAddress, Host, Scheme};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};

/// Largest head of an answer, and largest read buffer of an HTTP/1.1 connection: what our own clients may send.
const MAX_HEAD: usize = 64 * 1024;

/// Bytes that an endpoint may send ahead of us on one HTTP/2 stream: with endless answers this is what each one holds.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Bytes that an endpoint may send ahead of us on one HTTP/2 connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Why an endpoint could not be reached. The text is short and for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// It has no socket address yet.
    #[error("the name is not resolved")]
    Unresolved,
    /// The socket could not be connected.
    #[error("{}", connect_text(.0))]
    Socket(io::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    /// The certificates to trust could not be read.
    #[error("the system's certificates cannot be read: {0}")]
    Trust(String),
    /// The HTTP handshake failed.
    #[error("HTTP handshake failed: {0}")]
    Handshake(hyper::Error),
}

fn connect_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::NotFound => "connect failed: the socket does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "connect failed: permission denied".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "connect failed: no route".to_owned(),
        _ => format!("connect failed: {error}"),
    }
}

/// Which certificates are trusted.
#[derive(Clone)]
pub(crate) struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The system's certificates (`SSL_CERT_FILE` is honoured), as for the connections that carry requests. Read once.
    pub(crate) fn system() -> Result<&'static Self, ConnectError> {
        static SYSTEM: OnceLock<Result<Trust, String>> = OnceLock::new();
        let read = || {
            let mut roots = RootCertStore::empty();
            load_platform_certs_incl_env_into_store(&mut roots).map_err(|error| error.to_string())?;
            Ok(Trust::new(roots))
        };
        SYSTEM.get_or_init(read).as_ref().map_err(|error| ConnectError::Trust(error.clone()))
    }

    /// These certificates, and either version of HTTP.
    pub(crate) fn new(roots: RootCertStore) -> Self {
        pingora_core::tls::install_default_crypto_provider();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}

/// A socket to an endpoint.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Opens a socket to an endpoint: the first of its addresses that accepts.
pub(crate) async fn open(
    address: &EndpointAddress,
    sockets: &[SocketAddr],
) -> Result<(Box<dyn Socket>, Option<SocketAddr>), ConnectError> {
    if let Host::Unix(path) = &address.host {
        let stream = UnixStream::connect(path).await.map_err(ConnectError::Socket)?;
        return Ok((Box::new(stream), None));
    }
    let literal = match &address.host {
        Host::Ip(literal) => std::slice::from_ref(literal),
        Host::Name(..) | Host::Unix(_) => sockets,
    };
    let mut last = ConnectError::Unresolved;
    for socket in literal {
        match TcpStream::connect(socket).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(ConnectError::Socket)?;
                return Ok((Box::new(stream), Some(*socket)));
            }
            Err(error) => last = ConnectError::Socket(error),
        }
    }
    Err(last)
}

/// Connects to an endpoint and makes the handshakes. `trust`: `None` for the system's certificates.
pub(crate) async fn connect(
    address: &EndpointAddress,
    sockets: &[SocketAddr],
    trust: Option<&Trust>,
) -> Result<Connection, ConnectError> {
    let (socket, peer) = open(address, sockets).await?;
    let tasks = Tasks::default();
    let sender = match address.scheme {
        Scheme::Http => http1(socket, &tasks).await?,
        Scheme::H2c => http2(socket, &tasks).await?,
        Scheme::Https => {
            let trust = match trust {
                Some(trust) => trust,
                None => Trust::system()?,
            };
            let connector = TlsConnector::from(Arc::clone(&trust.0));
            let stream = connector.connect(server_name(address), socket).await.map_err(ConnectError::Tls)?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http2(stream, &tasks).await?
            } else {
                http1(stream, &tasks).await?
            }
        }
    };
    Ok(Connection { sender, peer, tasks: Arc::new(AbortOnDrop(tasks)) })
}

/// The name that an endpoint's certificate must hold.
fn server_name(address: &EndpointAddress) -> ServerName<'static> {
    let localhost = || ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    match &address.host {
        Host::Ip(socket) => ServerName::IpAddress(socket.ip().into()),
        // What parsed as an endpoint's name but is no DNS name (an underscore) can have no certificate of its own.
        Host::Name(name, _) => ServerName::try_from(name.to_string()).unwrap_or_else(|_| localhost()),
        Host::Unix(_) => ServerName::try_from("localhost").unwrap_or_else(|_| localhost()),
    }
}

async fn http1(socket: impl Socket + 'static, tasks: &Tasks) -> Result<Sender, ConnectError> {
    let (sender, driver) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(ConnectError::Handshake)?;
    tasks.execute(async move { drop(driver.await) });
    Ok(Sender::Http1(sender))
}

async fn http2(socket: impl Socket + 'static, tasks: &Tasks) -> Result<Sender, ConnectError> {
    let (sender, driver) = http2::Builder::new(tasks.clone())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(ConnectError::Handshake)?;
    tasks.execute(async move { drop(driver.await) });
    Ok(Sender::Http2(sender))
}

/// A connection to an endpoint.
pub(crate) struct Connection {
    sender: Sender,
    peer: Option<SocketAddr>,
    tasks: Arc<AbortOnDrop>,
}

enum Sender {
    Http1(http1::SendRequest<Payload>),
    Http2(http2::SendRequest<Payload>),
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).field("shared", &self.is_http2()).finish()
    }
}

/// Why a request got no answer.
pub(crate) struct SendError {
    /// What happened.
    pub(crate) error: hyper::Error,
    /// The request, if nothing of it was sent: it may go out again on another connection.
    pub(crate) unsent: Option<Request<Payload>>,
}

impl Connection {
    /// The address that it leads to; `None` for a Unix socket.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether it carries many requests at once, and wants an absolute URI instead of a `Host` header.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether a request could be sent on it right now.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Waits until it can take a request; `false`: never again.
    pub(crate) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// A second handle of an HTTP/2 connection; it closes with the last one.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => {
                Some(Self { sender: Sender::Http2(sender.clone()), peer: self.peer, tasks: Arc::clone(&self.tasks) })
            }
        }
    }

    /// Sends a request and waits for the head of its answer. Redirects are answers like any other.
    pub(crate) async fn send(&mut self, request: Request<Payload>) -> Result<Response<Incoming>, SendError> {
        let sent = match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut failed| SendError { unsent: failed.take_message(), error: failed.into_error() })
    }
}

/// A body that is complete in memory, in the parts that it came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Payload {
    parts: VecDeque<Bytes>,
    left: u64,
}

impl FromIterator<Bytes> for Payload {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        let parts: VecDeque<Bytes> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let left = parts.iter().map(|part| part.len() as u64).sum();
        Self { parts, left }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        let part = self.parts.pop_front();
        self.left -= part.as_ref().map_or(0, |part| part.len() as u64);
        Poll::Ready(part.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The tasks of one connection: hyper starts one that reads and writes, and with HTTP/2 one for each request.
#[derive(Debug, Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        running.spawn(async move { drop(task.await) });
    }
}

/// Ends the tasks of a connection. Without it a peer that stops reading would keep hyper's goodbye waiting for ever.
#[derive(Debug)]
struct AbortOnDrop(Tasks);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[cfg(test)]
pub(crate) mod scripted;
