//! What a client may use, and what becomes of one who wants more.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn limited(limits: &str, service: &str) -> (Proxy, Scripted) {
    let blue = named("blue").await;
    let server = format!("[server.limits]\n{limits}");
    (Proxy::run(&file(&server, &[&blue.address], service)), blue)
}

#[tokio::test]
async fn a_head_has_one_deadline_however_it_trickles_in() {
    let (proxy, _blue) = limited("header_timeout = \"300ms\"", "").await;
    let mut client = proxy.client().await;
    let began = Instant::now();
    client.write("GET / HTTP/1.1\r\n").await;
    let mut written = 0;
    let answer = loop {
        tokio::select! {
            answer = client.answer() => break answer,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        written += 1;
        client.write("a").await;
        assert!(began.elapsed() < PATIENCE, "still open after {written} bytes");
    };
    assert_eq!((answer.status, answer.header("connection")), (408, vec!["close"]));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(client.rest().await.is_none_or(|rest| rest.is_empty()));
}

#[tokio::test]
async fn the_deadline_of_a_later_head_begins_with_its_first_byte() {
    let (proxy, _blue) = limited("header_timeout = \"300ms\"", "").await;
    let mut client = proxy.client().await;
    client.write(GET).await;
    client.answer().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.write("GET /").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.write(" HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.write("GET / HTTP/1.1\r\n").await;
    assert_eq!(client.answer().await.status, 408);
}

#[tokio::test]
async fn a_client_that_never_begins_is_closed_without_a_word() {
    let (proxy, _blue) = limited("header_timeout = \"100ms\"", "").await;
    assert_eq!(proxy.client().await.rest().await, Some(Vec::new()));
}

#[tokio::test]
async fn an_unused_connection_is_closed_after_the_service_s_idle_time() {
    let (proxy, _blue) = limited("", "timeouts = { connect = \"2s\", response = \"60s\", idle = \"150ms\" }").await;
    let mut client = proxy.client().await;
    client.write(GET).await;
    client.answer().await;
    let began = Instant::now();
    assert_eq!(client.rest().await, Some(Vec::new()));
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (proxy, mut blue) = limited("header_bytes = \"4KiB\"\nheader_fields = 10", "").await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(5000));
    assert_eq!(proxy.ask(&long).await.status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(10));
    assert_eq!(proxy.ask(&many).await.status, 431);
    let full = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(9));
    assert_eq!(proxy.ask(&full).await.status, 200);
    blue.received().await;
    assert!(blue.received_now().is_none());
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let (proxy, mut blue) = limited("", "max_body = \"10B\"").await;
    let declared = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nelevenbytes";
    let answer = proxy.ask(declared).await;
    assert_eq!((answer.status, answer.header("connection")), (413, vec!["close"]));
    assert!(blue.received_now().is_none(), "what is known to be too long is not forwarded");
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsixsix\r\n6\r\nsixsix\r\n0\r\n\r\n";
    assert_eq!(proxy.ask(chunked).await.status, 413);
    let right = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nten bytes!";
    assert_eq!(proxy.ask(right).await.status, 200);
    proxy.at_rest().await;
}

#[tokio::test]
async fn a_request_behind_a_refused_body_is_not_taken_for_one() {
    let (proxy, mut blue) = limited("", "max_body = \"10B\"").await;
    let mut client = proxy.client().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len())).await;
    assert_eq!(client.answer().await.status, 413);
    assert!(client.rest().await.is_none_or(|rest| rest.is_empty()));
    assert!(blue.received_now().is_none());
}

#[tokio::test]
async fn a_listener_over_its_cap_refuses_and_takes_clients_again_later() {
    let (proxy, _blue) = limited("connections = 2", "").await;
    let mut first = proxy.client().await;
    let mut second = proxy.client().await;
    for client in [&mut first, &mut second] {
        client.write(GET).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let mut third = proxy.client().await;
    let answer = third.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (503, vec!["close"]));
    drop(first);
    let open = || proxy.shared.counters.listeners().next().unwrap().1.open.load(Relaxed);
    eventually(|| open() == 1).await;
    assert_eq!(proxy.ask(GET).await.status, 200);
    assert_eq!(proxy.shared.counters.listeners().next().unwrap().1.over_cap.load(Relaxed), 1);
}

#[tokio::test]
async fn a_client_over_its_cap_leaves_room_for_others() {
    let (proxy, _blue) = limited("connections_per_client = 1", "").await;
    let mut first = proxy.client().await;
    first.write(GET).await;
    first.answer().await;
    assert_eq!(proxy.client().await.answer().await.status, 503);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Wire::of(socket.connect(proxy.address).await.unwrap());
    other.write(GET).await;
    assert_eq!(other.answer().await.status, 200);
}

#[test]
fn a_taken_port_is_an_error_that_names_the_listener() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = file("", &[&"127.0.0.1:1".parse().unwrap()], "").replace("127.0.0.1:0", &address.to_string());
    let config = tidegate_config::parse(&text).unwrap();
    let (state, _) = State::load(&config, None);
    let routing = Arc::new(Routing::new(compile(&Arc::new(state), None, 1)));
    let shared = Arc::new(Shared::new(&config, routing, mpsc::channel(1).0, PinKeys::default(), Mirrors::new()));
    let error = start(&config, &shared, &watch::channel(Phase::Serving).1, Sockets::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("listener public: cannot listen on {address}: the port is taken")), "{error}");
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_continue_is_told_by_the_endpoint() {
    let script = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    let blue = Scripted::start(Script::AnswerEarly(script)).await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 100);
}
