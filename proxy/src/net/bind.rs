//! Listening sockets: one per address and worker, and a clear error when an address cannot be had.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tidegate_config::ListenerId;

use super::tls::TlsError;

/// Connections that the kernel holds for a worker that has not accepted them yet.
const BACKLOG: i32 = 4096;

/// Unacknowledged data, or a window that stays closed, ends a connection after this time: the peer is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Probes of idle connections find peers that went without a word (laptops, dropped NAT entries).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Why the data plane does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The address cannot be had.
    #[error("listener {listener}: cannot listen on {address}: {}", explain(.source, *.address))]
    Address {
        /// The listener.
        listener: ListenerId,
        /// Its address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificates that endpoints are judged by cannot be read.
    #[error("{0}; check SSL_CERT_FILE and SSL_CERT_DIR")]
    Trust(String),
    /// A worker could not be started.
    #[error("cannot start a worker thread: {0}")]
    Thread(#[source] io::Error),
}

fn explain(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the port is taken; stop what listens on port {} or change the listener's address", address.port())
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission for port {}; ports below 1024 need the right CAP_NET_BIND_SERVICE", address.port())
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address".to_owned(),
        _ => error.to_string(),
    }
}

/// Listening sockets, by listener and the address that was configured for it.
#[derive(Debug, Default)]
pub(crate) struct Sockets(pub(crate) BTreeMap<ListenerId, (SocketAddr, Vec<TcpListener>)>);

impl Sockets {
    /// The sockets of a listener, if it still has this address.
    pub(super) fn take(&mut self, listener: &ListenerId, address: SocketAddr) -> Vec<TcpListener> {
        match self.0.remove(listener) {
            Some((configured, sockets)) if configured == address => sockets,
            _ => Vec::new(),
        }
    }

    /// Other descriptors of the same sockets.
    pub(crate) fn copy(&self) -> io::Result<Self> {
        let mut copy = Self::default();
        self.0.iter().try_for_each(|(listener, (configured, sockets))| copy.keep(listener, *configured, sockets))?;
        Ok(copy)
    }

    /// Keeps other descriptors of these sockets.
    pub(super) fn keep(
        &mut self,
        listener: &ListenerId,
        configured: SocketAddr,
        sockets: &[TcpListener],
    ) -> io::Result<()> {
        let sockets = sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        self.0.insert(listener.clone(), (configured, sockets));
        Ok(())
    }
}

/// Further descriptors of the listening sockets, kept to be left to another process. They are let go when the process
/// stops: a socket closes with its last descriptor.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Sockets>>);

impl Kept {
    /// Keeps these.
    pub(super) fn put(&self, sockets: Sockets) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sockets;
    }

    /// Takes them away.
    pub(super) fn take(&self) -> Sockets {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Listens on an address, with at least `least` sockets: those that are there already, all of which must be served,
/// and new ones. With port 0, all of them listen on the port that the first one was given.
pub(super) fn listen(
    address: SocketAddr,
    least: usize,
    there: Vec<TcpListener>,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let (bound, mut all) = match there.first() {
        Some(first) => (first.local_addr()?, there),
        None => {
            let first = socket(address)?;
            // Bound without SO_REUSEPORT: otherwise a second process of the same user would silently take half of the
            // clients.
            first.bind(&address.into())?;
            let bound = first
                .local_addr()?
                .as_socket()
                .ok_or_else(|| io::Error::other("the socket has no internet address"))?;
            first.set_reuse_port(true)?;
            (bound, vec![first.into()])
        }
    };
    while all.len() < least {
        let next = socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        all.push(next.into());
    }
    for socket in &all {
        // Those that listen already are not changed by it.
        SockRef::from(socket).listen(BACKLOG)?;
    }
    Ok((bound, all))
}

/// A socket whose options the accepted connections inherit.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES),
    )?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn port_zero_gives_every_socket_the_same_port() {
        let (bound, sockets) = listen(loopback(0), 3, Vec::new()).unwrap();
        assert_ne!(bound.port(), 0);
        assert_eq!(sockets.len(), 3);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == bound));
    }

    #[test]
    fn sockets_that_are_there_are_used_and_new_ones_join_them() {
        let (bound, sockets) = listen(loopback(0), 2, Vec::new()).unwrap();
        let id = ListenerId::parse("public").unwrap();
        let mut kept = Sockets::default();
        kept.keep(&id, loopback(0), &sockets).unwrap();
        drop(sockets);
        assert!(kept.take(&ListenerId::parse("other").unwrap(), loopback(0)).is_empty());
        let (again, more) = listen(loopback(0), 3, kept.take(&id, loopback(0))).unwrap();
        assert_eq!((again, more.len()), (bound, 3));
        kept.keep(&id, loopback(0), &more).unwrap();
        let fewer = listen(loopback(0), 1, kept.take(&id, loopback(0))).unwrap().1;
        assert_eq!(fewer.len(), 3, "a socket that nobody serves would leave its clients waiting");
        kept.keep(&id, loopback(0), &fewer).unwrap();
        assert!(kept.take(&id, loopback(1)).is_empty(), "another address is bound anew");
    }

    #[test]
    fn a_port_that_another_tidegate_has_is_refused() {
        let (bound, _sockets) = listen(loopback(0), 2, Vec::new()).unwrap();
        assert_eq!(listen(bound, 2, Vec::new()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_error_of_a_taken_port_names_listener_and_address_and_says_what_to_do() {
        let error = BindError::Address {
            listener: ListenerId::parse("public").unwrap(),
            address: loopback(3090),
            source: io::ErrorKind::AddrInUse.into(),
        };
        assert_eq!(
            error.to_string(),
            "listener public: cannot listen on 127.0.0.1:3090: the port is taken; stop what listens on port 3090 or change the listener's address"
        );
    }
}
