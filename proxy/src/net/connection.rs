//! The life of one connection: TLS if the listener has it, then HTTP/2 or HTTP/1.1.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use tidegate_core::Reject;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use super::{
    http1, http2,
    link::{Client, Link, Security, Stage},
    stream::{ClientStream, Transport},
    worker::{Door, House},
};

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a new connection's first request may take to come although the process stops. Its client found the door open
/// a moment ago, and repeats a request by itself only on a connection that has served it before (RFC 9112, 9.3.1).
const WELCOME: Duration = Duration::from_secs(1);

/// A client that has not sent a request yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer {
    /// When the first request's head must be complete.
    pub(super) deadline: Instant,
    /// From when on it is sent away if the process stops.
    welcome: Instant,
}

impl Newcomer {
    fn new(header_timeout: Duration) -> Self {
        let now = Instant::now();
        Self { deadline: now + header_timeout, welcome: now + WELCOME }
    }

    /// Waits until the process stops, and the client has had its time.
    pub(super) async fn sent_away(self, link: &Link) {
        link.stopped().await;
        sleep_until(self.welcome).await;
    }
}

/// A connection that was taken in.
pub(super) struct Connection {
    /// Its worker.
    pub(super) house: Rc<House>,
    /// Its listener.
    pub(super) door: Door,
    /// Its client.
    pub(super) address: SocketAddr,
    /// Its link.
    pub(super) link: Arc<Link>,
}

/// Serves a connection to its end.
pub(super) async fn serve(connection: Connection, tcp: TcpStream) {
    let newcomer = Newcomer::new(connection.house.shared.settings.limits.header_timeout);
    let security = if connection.door.tls.is_some() { Security::Tls } else { Security::Clear };
    let Some((transport, http2)) = handshake(&connection, tcp, newcomer).await else { return };
    let Connection { house, door, address, link } = connection;
    let mut stream = ClientStream::new(transport, Arc::clone(&link), house.shared.settings.limits.body_min_rate);
    let http2 = http2 || (door.h2c && security == Security::Clear && sends_preface(&mut stream, newcomer, &link).await);
    let client = Client { listener: door.listener, worker: house.worker, address, security, link };
    if http2 {
        client.link.enter(Stage::Http2);
        http2::serve(stream, client, &house, newcomer.deadline).await;
    } else {
        http1::serve(Box::new(stream), Arc::new(client), &house, newcomer).await;
    }
}

/// TLS, if the listener has it; and whether HTTP/2 was negotiated. A client that fails in it is nobody's request.
async fn handshake(connection: &Connection, tcp: TcpStream, newcomer: Newcomer) -> Option<(Transport, bool)> {
    let Some(certificate) = &connection.door.tls else { return Some((Transport::Plain(tcp), false)) };
    let acceptor = TlsAcceptor::from(certificate.load_full());
    let tls = tokio::select! {
        accepted = timeout_at(newcomer.deadline, acceptor.accept(tcp)) => accepted.ok()?.ok()?,
        () = newcomer.sent_away(&connection.link) => return None,
    };
    let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    Some((Transport::Tls(Box::new(tls)), http2))
}

/// Whether the client speaks HTTP/2 with prior knowledge. Decides at the first byte that differs.
async fn sends_preface(stream: &mut ClientStream, newcomer: Newcomer, link: &Link) -> bool {
    loop {
        let ahead = stream.ahead();
        if ahead.len() >= HTTP2_PREFACE.len() {
            return ahead.starts_with(HTTP2_PREFACE);
        }
        if !HTTP2_PREFACE.starts_with(ahead) {
            return false;
        }
        let read = tokio::select! {
            biased;
            read = timeout_at(newcomer.deadline, stream.read_ahead()) => read,
            () = newcomer.sent_away(link) => return false,
        };
        // What is wrong will be found again, and answered, where a head is read.
        if !matches!(read, Ok(Ok(1..))) {
            return false;
        }
    }
}

/// An answer of our own to a client that no lane has seen.
pub(super) fn answer(reject: Reject) -> String {
    let status = reject.status();
    let text = reject.text();
    let retry = if reject == Reject::Overloaded { "Retry-After: 1\r\n" } else { "" };
    format!(
        "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{retry}Connection: close\r\n\r\n{text}\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        text.len() + 1,
    )
}
