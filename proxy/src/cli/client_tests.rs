use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
};

use super::*;

/// Reads one request to the end of its body.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            return text;
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str, seen: &Mutex<String>) {
    let request = read_request(&mut stream).await;
    *seen.lock().unwrap() = request;
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// A server that gives one answer, and what it was asked.
pub(crate) async fn fake(text: impl Into<String>) -> (ServerAddress, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = ServerAddress::Tcp { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let seen = Arc::new(Mutex::new(String::new()));
    let (writer, text) = (Arc::clone(&seen), text.into());
    tokio::spawn(async move { answer(listener.accept().await.unwrap().0, &text, &writer).await });
    (server, seen)
}

/// An answer with this body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_call_carries_its_body_its_token_and_its_generation() {
    let (server, seen) = fake(ok("{\"generation\":8}")).await;
    let client = Client::new(server.clone(), Some("secret".parse().unwrap()));
    let call = Call { if_match: Some(7), ..Call::post("/api/services/web/switch", json!({"to": "blue"})) };
    assert_eq!(client.send(&call).await.unwrap(), "{\"generation\":8}");

    let seen = seen.lock().unwrap();
    assert!(seen.starts_with("POST /api/services/web/switch HTTP/1.1\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\n{\"to\":\"blue\"}"), "{seen}");
    for line in ["authorization: Bearer secret", "if-match: \"7\"", "content-type: application/json"] {
        assert!(seen.contains(&format!("\r\n{line}\r\n")), "{line} in {seen}");
    }
    assert!(seen.contains(&format!("\r\nhost: {}\r\n", server.authority())), "{seen}");
}

/// A server that closes this many connections without an answer, and then answers; the heads that it was sent.
async fn reluctant(closes: usize) -> (ServerAddress, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = ServerAddress::Tcp { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            writer.lock().unwrap().push(request);
            if writer.lock().unwrap().len() > closes {
                stream.write_all(ok("{}").as_bytes()).await.unwrap();
            }
        }
    });
    (server, seen)
}

#[tokio::test]
async fn a_call_with_a_key_is_repeated_with_the_same_key() {
    let (server, seen) = reluctant(2).await;
    let call = Call { key: Some("k1".into()), ..Call::post("/api/deployments", json!({})) };
    assert_eq!(Client::new(server, None).send(&call).await.unwrap(), "{}");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|request| request.contains("\r\nidempotency-key: k1\r\n")), "{seen:?}");
}

#[tokio::test]
async fn a_call_without_a_key_is_not_repeated() {
    let (server, seen) = reluctant(1).await;
    let error = Client::new(server, None).send(&Call::post("/api/reload", json!({}))).await.unwrap_err();
    assert!(matches!(error, CliError::Interrupted { .. }), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_document_is_sent_as_it_is() {
    let (server, seen) = fake(ok("{}")).await;
    let text = "# a comment\nstrategy = \"canary\"\n";
    let body = Body::Document { content_type: "application/toml", bytes: Bytes::from(text) };
    let call = Call { body: Some(body), ..Call::post("/api/deployments", json!({})) };
    Client::new(server, None).send(&call).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.contains("\r\ncontent-type: application/toml\r\n") && seen.ends_with(text), "{seen}");
}

#[tokio::test]
async fn a_call_without_token_sends_no_authorization() {
    let (server, seen) = fake(ok("{}")).await;
    Client::new(server, None).send(&Call::get("/api/services")).await.unwrap();
    assert!(!seen.lock().unwrap().contains("authorization"));
}

#[tokio::test]
async fn a_unix_socket_is_called_as_localhost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let seen = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&seen);
    tokio::spawn(async move { answer(listener.accept().await.unwrap().0, &ok("[]"), &writer).await });

    let client = Client::new(ServerAddress::Unix(path), None);
    assert_eq!(client.send(&Call::get("/api/services")).await.unwrap(), "[]");
    assert!(seen.lock().unwrap().contains("\r\nhost: localhost\r\n"));
}

#[tokio::test]
async fn a_refusal_is_told_with_the_problem() {
    let body = r#"{"title":"stale","status":412,"detail":"the generation is 9, not 7: read it again"}"#;
    let (server, _) = fake(format!(
        "HTTP/1.1 412 Precondition Failed\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let error = Client::new(server, None).send(&Call::get("/")).await.unwrap_err();
    assert_eq!(error.code(), 1);
    assert_eq!(error.to_string(), "the generation is 9, not 7: read it again");
}

#[tokio::test]
async fn a_closed_port_asks_whether_the_proxy_runs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = ServerAddress::Tcp { host: "127.0.0.1".into(), port };
    let error = Client::new(server, None).send(&Call::get("/")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot reach the admin API at http://127.0.0.1:{port}: connection refused. Is `tidegate serve` or \
             `tidegate demo` running? Use --server or TIDEGATE_ADMIN for another address"
        )
    );
}

#[tokio::test]
async fn a_missing_socket_asks_whether_the_proxy_runs() {
    let server = ServerAddress::Unix("/nowhere/admin.sock".into());
    let error = Client::new(server, None).send(&Call::get("/")).await.unwrap_err().to_string();
    assert!(error.contains("unix:/nowhere/admin.sock: there is no such socket. Is `tidegate serve`"), "{error}");
}

#[tokio::test]
async fn other_servers_are_recognised() {
    for text in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found",
        "HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (server, _) = fake(text).await;
        let error = Client::new(server, None).send(&Call::get("/")).await.unwrap_err();
        assert!(matches!(error, CliError::Foreign { .. }), "{text:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_ten_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = ServerAddress::Tcp { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
    let begun = tokio::time::Instant::now();
    let error = Client::new(server, None).send(&Call::post("/", json!({}))).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), DEADLINE.as_secs());
    assert!(error.to_string().contains("gave no answer within 10 s; the change may have been made"), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_an_answer() {
    let (server, _) = fake("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}").await;
    let error = Client::new(server, None).send(&Call::get("/")).await.unwrap_err();
    assert!(matches!(error, CliError::Interrupted { .. }), "{error}");
}

#[tokio::test]
async fn a_follower_asks_for_a_stream_after_the_last_event() {
    let (server, seen) = fake("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n").await;
    let client = Client::new(server, None);
    let mut body = client.follow("/api/events", Some(41)).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    let seen = seen.lock().unwrap();
    assert!(seen.contains("last-event-id: 41\r\n") && seen.contains("accept: text/event-stream\r\n"), "{seen}");
}

#[test]
fn a_name_is_one_segment_of_a_path() {
    for (name, encoded) in
        [("2.0.0-rc_1", "2.0.0-rc_1"), ("reg/web:2", "reg%2Fweb%3A2"), ("..", "%2E%2E"), ("ä?", "%C3%A4%3F")]
    {
        assert_eq!(segment(name), encoded);
    }
}

#[test]
fn an_answer_that_is_not_json_is_not_of_an_admin_api() {
    let client = Client::new("http://127.0.0.1:1".parse().unwrap(), None);
    assert!(matches!(client.decode::<Value>(b"<html>"), Err(CliError::Foreign { .. })));
}
