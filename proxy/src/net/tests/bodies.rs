//! Bodies in both directions.

use super::*;

#[tokio::test]
async fn a_body_with_a_length_arrives_whole_and_the_connection_stays() {
    let mut blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    for size in [0, 1, 1000, 300_000] {
        let body: Vec<u8> = (0..size).map(|n| n as u8).collect();
        client.write(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")).await;
        client.write(&body).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, vec!["keep-alive"]), "{size}");
        let seen = blue.received().await;
        assert!(seen.body == body, "{size}");
        assert_eq!(seen.header("content-length").unwrap(), size.to_string());
    }
    proxy.at_rest().await;
}

#[tokio::test]
async fn a_chunked_body_arrives_whole() {
    let mut blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for chunk in ["3\r\nabc\r\n", "5;ext=1\r\ndefgh\r\n", "0\r\n\r\n"] {
        client.write(chunk).await;
    }
    assert_eq!(client.answer().await.status, 200);
    let seen = blue.received().await;
    assert_eq!((seen.body.as_slice(), seen.header("content-length")), (&b"abcdefgh"[..], None));
}

#[tokio::test]
async fn a_request_behind_a_body_is_answered_too() {
    let mut blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    client
        .write("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    for target in ["/1", "/2"] {
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(blue.received().await.target, target);
    }
}

#[tokio::test]
async fn the_answer_s_body_arrives_whole_however_it_is_framed() {
    let long = "x".repeat(500_000);
    let chunked =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    for script in [
        Script::Answer(answer(200, "", &long)),
        Script::Answer(chunked.into_bytes()),
        Script::AnswerAndClose(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{long}").into_bytes()),
    ] {
        let blue = Scripted::start(script).await;
        let answer = Proxy::of(&[&blue.address], "").ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.text() == long, "{}", answer.head);
    }
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    for status in [204, 304] {
        let script = format!("HTTP/1.1 {status} Nothing\r\netag: \"a\"\r\n\r\n").into_bytes();
        let blue = Scripted::start(Script::Answer(script)).await;
        let proxy = Proxy::of(&[&blue.address], "");
        let mut client = proxy.client().await;
        for _ in 0..2 {
            client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(client.answer().await.status, status);
        }
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    let blue = Scripted::start(Script::AnswerEarly(answer(401, "", "no"))).await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nbegin").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (401, "no"));
}

#[tokio::test]
async fn a_copy_of_the_body_reaches_the_shadow() {
    let (blue, mut shadow) = (named("blue").await, named("shadow").await);
    let more = format!(
        "[service.web.target.dark]\nendpoints = [{:?}]\n[service.web.mirror.audit]\nto = \"dark\"\nmethods = [\"*\"]",
        shadow.address.to_string()
    );
    let proxy = Proxy::of(&[&blue.address], &more);
    let mut client = proxy.client().await;
    client.write("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.answer().await.text(), "blue");
    let seen = shadow.received().await;
    assert_eq!((seen.method.as_str(), seen.target.as_str(), &seen.body[..]), ("POST", "/a", &b"hello"[..]));
    assert_eq!(seen.header("x-tidegate-shadow").unwrap(), "audit");
    client.write("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").await;
    client.answer().await;
    assert_eq!(shadow.received().await.body, b"hi");
    client.write("GET /b HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.answer().await;
    assert_eq!(shadow.received().await.target, "/b");
    // A copy is not copied again.
    client.write("GET /c HTTP/1.1\r\nHost: a\r\nX-Tidegate-Shadow: audit\r\n\r\n").await;
    client.answer().await;
    client.write("GET /d HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.answer().await;
    assert_eq!(shadow.received().await.target, "/d");
}
