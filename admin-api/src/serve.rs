//! Serves the router on a TCP address or a Unix socket, with bounds on what a client may hold, and an end.
//!
//! Invariants: at most [`MAX_CONNECTIONS`] connections; a request head has [`HEAD_DEADLINE`], as has the wait for the
//! next request; after `shutdown` no new request is taken but the first of a client that has just connected, streams end,
//! and running calls have [`STOP_DEADLINE`].

use std::{
    fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Extension, Router};
use futures_util::FutureExt as _;
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tidegate_config::server::AdminAddress;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::problem::Kind;

/// Connections at one time. Each costs a descriptor, which the data path must not lack.
pub const MAX_CONNECTIONS: usize = 256;

/// How long a request head may take, and how long an unused connection is kept.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// How long a new connection's first call may take to come after `shutdown`. Its client found the door open a moment ago,
/// and repeats a request by itself only on a connection that has served it before (RFC 9112, 9.3.1).
const WELCOME: Duration = Duration::from_secs(1);

/// How long running calls may go on after `shutdown`: as long as a body may take, and a little more.
pub const STOP_DEADLINE: Duration = Duration::from_secs(12);

/// Largest request head in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Pause after a failed accept: the usual cause, no descriptors left, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Tells streams that the process stops.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Returns when the process stops.
    pub(crate) async fn wait(&mut self) {
        // Its sender going away means the same.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

/// Where the admin API accepts connections.
#[derive(Debug)]
pub enum AdminListener {
    /// A TCP address.
    Tcp(TcpListener),
    /// A Unix socket that only its owner may use.
    Unix(UnixListener, SocketFile),
}

impl AdminListener {
    /// Listens on an address. A Unix socket gets mode 0600 before anyone can see it, and replaces one that nobody
    /// serves any more.
    ///
    /// # Errors
    /// When the address is taken or may not be used.
    pub async fn bind(address: &AdminAddress) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            AdminAddress::Unix(path) => {
                let (listener, file) = bind_unix(path)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// Listens on a socket that another process left, which it had bound to this address.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn inherit(address: &AdminAddress, socket: OwnedFd) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(_) => TcpListener::from_std(socket.into()).map(Self::Tcp),
            AdminAddress::Unix(path) => {
                let listener = UnixListener::from_std(socket.into())?;
                let inode = fs::symlink_metadata(path)?.ino();
                let file = SocketFile { path: path.clone(), inode, left: Arc::default() };
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// What another process needs to go on listening.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn heirloom(&self) -> io::Result<Heirloom> {
        match self {
            Self::Tcp(listener) => Ok(Heirloom { socket: listener.as_fd().try_clone_to_owned()?, left: None }),
            Self::Unix(listener, file) => {
                Ok(Heirloom { socket: listener.as_fd().try_clone_to_owned()?, left: Some(Arc::clone(&file.left)) })
            }
        }
    }

    /// The TCP address that it listens on, with the port that was found for port 0.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }
}

/// A Unix socket in the file system: removed on drop, unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
    /// Whether another process serves it now.
    left: Arc<AtomicBool>,
}

/// A listener of the admin API that can be left to another process.
#[derive(Debug)]
pub struct Heirloom {
    socket: OwnedFd,
    left: Option<Arc<AtomicBool>>,
}

impl Heirloom {
    /// Another descriptor of the socket.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }

    /// Says that another process serves it now: this one leaves its file in place.
    pub fn is_left(self) {
        if let Some(left) = self.left {
            left.store(true, Relaxed);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.left.load(Relaxed) {
            return;
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds in a private directory and moves the socket to its place, so that it is never there with other rights.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let message = format!("{} exists and is not a socket: remove it or choose another path", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            let message = format!("another process serves {}", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        Ok(_) | Err(_) => {}
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let private = path.with_file_name(name);
    fs::DirBuilder::new().mode(0o700).create(&private)?;
    let place = private.join("s");
    let bound = UnixListener::bind(&place).and_then(|listener| {
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600))?;
        let inode = fs::symlink_metadata(&place)?.ino();
        fs::rename(&place, path)?;
        Ok((listener, SocketFile { path: path.to_owned(), inode, left: Arc::default() }))
    });
    if bound.is_err() {
        let _ = fs::remove_file(&place);
    }
    let _ = fs::remove_dir(&private);
    bound
}

/// Serves until `shutdown`, then ends streams and idle connections at once, and the rest within [`STOP_DEADLINE`].
pub async fn serve(listener: AdminListener, router: Router, shutdown: impl Future<Output = ()>) {
    let (stop, stopping) = watch::channel(false);
    let server = Server {
        router: router.layer(Extension(Stopping(stopping.clone()))),
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        stopping,
    };
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener) => match accepted {
                Ok(Accepted::Tcp(stream)) => server.take(stream, &mut connections),
                Ok(Accepted::Unix(stream)) => server.take(stream, &mut connections),
                Err(error) => {
                    tracing::warn!(%error, "admin connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_DEADLINE, all_ended).await.is_err() {
        tracing::warn!("calls of the admin API were cut off at shutdown");
    }
}

enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Accepts one connection. Cancel-safe, as the listeners' accept is.
async fn accept(listener: &AdminListener) -> io::Result<Accepted> {
    match listener {
        AdminListener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            // A missing option only costs latency.
            let _ = stream.set_nodelay(true);
            Ok(Accepted::Tcp(stream))
        }
        AdminListener::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0)),
    }
}

struct Server {
    router: Router,
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Server {
    fn take<S>(&self, stream: S, connections: &mut JoinSet<()>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!(limit = MAX_CONNECTIONS, "admin connection refused: too many");
            refuse(stream);
            return;
        };
        let router = self.router.clone();
        let mut stopping = Stopping(self.stopping.clone());
        let (called, welcome) = (AtomicBool::new(false), Instant::now() + WELCOME);
        connections.spawn(async move {
            let router = TowerToHyperService::new(router);
            let service = service_fn(|request| {
                called.store(true, Relaxed);
                router.call(request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            let stopped = async {
                stopping.wait().await;
                if !called.load(Relaxed) {
                    sleep_until(welcome).await;
                }
            };
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopped => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "admin connection ended");
            }
            drop(place);
        });
    }
}

/// Says why and closes. A fresh connection's buffer takes the few bytes at once, so this waits for nobody.
fn refuse<S>(mut stream: S)
where
    S: AsyncWrite + Send + Unpin + 'static,
{
    let body = serde_json::to_string(&Kind::Unavailable.because("the admin API has too many connections"));
    let body = body.unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(answer.as_bytes()).now_or_never();
}
