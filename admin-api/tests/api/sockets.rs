//! Through real sockets: what hyper and the kernel add to the calls.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use tidegate_admin::{Access, AdminListener, MetricsAccess, router, serve, serve::MAX_CONNECTIONS};
use tidegate_config::server::AdminAddress;
use tidegate_core::Health;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::{fake::Fake, harness::in_force};

struct Running {
    fake: Arc<Fake>,
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn start() -> Running {
    let fake = Fake::start();
    let address = AdminAddress::Tcp("127.0.0.1:0".parse().unwrap());
    let listener = AdminListener::bind(&address).await.unwrap();
    let address = listener.local_address().unwrap();
    let access = Access::new(Vec::new(), &AdminAddress::Tcp(address), Vec::new(), MetricsAccess::Open);
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(serve(listener, router(fake.clone(), in_force(access)), async {
        let _ = stopped.await;
    }));
    Running { fake, address, stop, ended }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

/// Reads until the text holds `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(end) {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "closed before {end:?}: {text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    text
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn curl_can_switch() {
    let running = start().await;
    let body = r#"{"to":"blue"}"#;
    let mut stream = running
        .send(&format!(
            "POST /api/services/web/switch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await;
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains(r#""previous":"green""#), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_that_is_too_large_gets_its_answer() {
    let running = start().await;
    let mut stream = running
        .send("PUT /api/services/web/split HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        .await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..40 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_too_much_is_told_at_once() {
    let running = start().await;
    let mut stream = running
        .send("PUT /api/services/web/split HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let running = start().await;
    let mut stream = running
        .send("PUT /api/services/web/split HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{")
        .await;
    // The answer to a second connection shows that the first one is being waited for.
    let mut other = running.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(read_to_end(&mut other).await.contains("ok"));
    tokio::time::pause();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(running.fake.generation(), 1);
}

#[tokio::test]
async fn a_head_that_does_not_come_is_given_up() {
    let running = start().await;
    let mut stream = running.send("GET /healthz HTTP/1.1\r\nHost: local").await;
    let mut other = running.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(read_to_end(&mut other).await.contains("ok"));
    tokio::time::pause();
    let answer = read_to_end(&mut stream).await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn requests_without_a_host_are_refused() {
    let running = start().await;
    for (request, status) in [
        ("GET /healthz HTTP/1.0\r\n\r\n", "403"),
        ("GET /api/services HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET /api/services HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n", "400"),
        ("GET http://evil.example/api/services HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "403"),
    ] {
        let answer = read_to_end(&mut running.send(request).await).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_follower_continues_and_shutdown_ends_its_stream() {
    let running = start().await;
    running.fake.health("v3", "127.0.0.1:3004", Health::Suspect, "one");
    running.fake.health("v3", "127.0.0.1:3004", Health::Healthy, "two");
    let mut stream = running
        .send("GET /api/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: 1001\r\n\r\n")
        .await;
    let text = read_until(&mut stream, "\"two\"").await;
    assert!(text.contains("id: 1002\n") && !text.contains("id: 1001\n"), "{text}");
    running.fake.health("v3", "127.0.0.1:3004", Health::Suspect, "three");
    read_until(&mut stream, "\"three\"").await;
    running.stop.send(()).unwrap();
    let rest = read_to_end(&mut stream).await;
    assert!(rest.ends_with("0\r\n\r\n"), "the stream is ended, not cut: {rest:?}");
    running.ended.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_idle_connections() {
    let running = start().await;
    let mut stream = running.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    read_until(&mut stream, "}").await;
    let begun = std::time::Instant::now();
    running.stop.send(()).unwrap();
    running.ended.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_that_has_just_connected_is_answered_after_shutdown() {
    let running = start().await;
    let mut stream = running.connect().await;
    // Its connection is taken before the one that is answered.
    read_until(&mut running.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await, "}").await;
    running.stop.send(()).unwrap();
    while TcpStream::connect(running.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    running.ended.await.unwrap();
}

#[tokio::test]
async fn connections_are_bounded_and_the_one_too_many_is_told() {
    let running = start().await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = running.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        read_until(&mut stream, "}").await;
        held.push(stream);
    }
    let answer = read_to_end(&mut running.connect().await).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    assert!(body.contains("too many connections"), "{answer}");
}

#[tokio::test]
async fn a_unix_socket_is_its_owners_alone_and_replaces_only_a_dead_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let address = AdminAddress::Unix(path.clone());
    // What a killed process leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = AdminListener::bind(&address).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left there");
    let taken = AdminListener::bind(&address).await.unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse, "{taken}");
    let access = Access::new(Vec::new(), &address, Vec::new(), MetricsAccess::Open);
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(serve(listener, router(Fake::start(), in_force(access)), async {
        let _ = stopped.await;
    }));
    for (host, status) in [("localhost", "200"), ("evil.example", "403")] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let request = format!("GET /api/services HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
    }
    stop.send(()).unwrap();
    ended.await.unwrap();
    assert!(!path.exists(), "the socket is removed");
}

#[tokio::test]
async fn a_file_in_the_socket_s_place_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    std::fs::write(&path, "precious").unwrap();
    let error = AdminListener::bind(&AdminAddress::Unix(path.clone())).await.unwrap_err();
    assert!(error.to_string().contains("is not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
