//! WebSocket: bytes both ways, and a goodbye when the tunnel is cut.

use std::time::Instant;

use tidegate_config::TargetId;
use tokio::net::TcpListener;

use super::*;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A text frame of a server.
const HELLO: &[u8] = b"\x81\x05hello";

/// An endpoint that upgrades, says hello, and sends back what it gets until the tunnel ends.
async fn echo() -> (EndpointAddress, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let (sender, heads) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let _ = sender.send(String::from_utf8(head).unwrap().to_ascii_lowercase());
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.write_all(HELLO).await.unwrap();
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                let _ = sender.send("closed".to_owned());
            });
        }
    });
    (address, heads)
}

async fn upgraded(proxy: &Proxy) -> Wire {
    let mut client = proxy.client().await;
    client.write(UPGRADE).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("upgrade")), (101, vec!["websocket"]), "{}", answer.head);
    assert_eq!(client.bytes(HELLO.len()).await, HELLO);
    client
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_end_is_passed_on() {
    let (address, mut heads) = echo().await;
    let proxy = Proxy::of(&[&address], "");
    let mut client = upgraded(&proxy).await;
    let head = heads.recv().await.unwrap();
    for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: dghlihnhbxbszsbub25jzq=="] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    for text in ["one", "two"] {
        client.write(text).await;
        assert_eq!(client.bytes(3).await, text.as_bytes());
    }
    drop(client);
    assert_eq!(heads.recv().await.unwrap(), "closed");
    proxy.at_rest().await;
}

#[tokio::test]
async fn a_silent_tunnel_outlives_the_timeouts_of_requests() {
    let (address, _heads) = echo().await;
    let proxy = Proxy::of(&[&address], "timeouts = { connect = \"1s\", response = \"100ms\", idle = \"100ms\" }");
    let mut client = upgraded(&proxy).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.write("still").await;
    assert_eq!(client.bytes(5).await, b"still");
}

#[tokio::test]
async fn an_upgrade_that_is_never_answered_ends() {
    let mute = Scripted::start(Script::Hang).await;
    let proxy = Proxy::of(&[&mute.address], "timeouts = { connect = \"1s\", response = \"200ms\", idle = \"1s\" }");
    let mut client = proxy.client().await;
    client.write(UPGRADE).await;
    assert!(client.try_answer().await.is_none());
    proxy.at_rest().await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_an_answer_like_any_other() {
    let blue = named("plain").await;
    let timeouts = "timeouts = { connect = \"1s\", response = \"100ms\", idle = \"60s\" }";
    let proxy = Proxy::of(&[&blue.address], timeouts);
    let mut client = proxy.client().await;
    client.write(UPGRADE).await;
    assert_eq!(client.answer().await.text(), "plain");
    // The limit of the handshake ended with it: the connection lives on.
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "plain");
}

#[tokio::test]
async fn a_drained_tunnel_gets_a_close_frame_when_its_time_is_up() {
    let ((blue, _), (green, _heads)) = (echo().await, echo().await);
    let more = format!(
        "drain = \"200ms\"\nsplit = {{ green = 100 }}\n[service.web.target.green]\nendpoints = [{:?}]",
        green.to_string()
    );
    let proxy = Proxy::of(&[&blue], &more);
    let mut client = upgraded(&proxy).await;
    let service = || ServiceId::parse("web").unwrap();
    proxy.change(&Change::Switch { service: service(), to: TargetId::parse("blue").unwrap() });
    proxy.change(&Change::Drain { service: service(), target: TargetId::parse("green").unwrap() });
    let began = Instant::now();
    assert_eq!(client.rest().await.unwrap(), b"\x88\x02\x03\xe9");
    assert!(began.elapsed() >= Duration::from_millis(150));
    proxy.at_rest().await;
}

#[tokio::test]
async fn a_tunnel_gets_a_close_frame_at_the_end_of_the_process() {
    let (address, _heads) = echo().await;
    let mut proxy = Proxy::run(&file("grace = \"100ms\"", &[&address], ""));
    let mut client = upgraded(&proxy).await;
    proxy.enter(Phase::Stopping);
    assert_eq!(client.rest().await.unwrap(), b"\x88\x02\x03\xe9");
    proxy.ended().await;
}

#[tokio::test]
async fn a_close_frame_never_breaks_another_frame() {
    let (address, _heads) = echo().await;
    let mut proxy = Proxy::run(&file("grace = \"100ms\"", &[&address], ""));
    let mut client = upgraded(&proxy).await;
    // The echo sends this back: the begin of a frame whose rest never comes.
    client.write(b"\x82\x05ab").await;
    assert_eq!(client.bytes(4).await, b"\x82\x05ab");
    proxy.enter(Phase::Stopping);
    assert!(client.rest().await.is_none_or(|rest| rest.is_empty()));
    proxy.ended().await;
}
