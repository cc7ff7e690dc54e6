//! HTTP/2, in clear text and by TLS.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_config::{Scheme, TargetId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, pem::PemObject},
    },
};

use super::*;

const CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/outbound/cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/outbound/key.pem");
const RENEWED_CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/tests/renewed-cert.pem");
const RENEWED_KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/tests/renewed-key.pem");

fn h2c(endpoints: &[&EndpointAddress], more: &str) -> Proxy {
    Proxy::run(&with_listener(&file("grace = \"30s\"", endpoints, more), "h2c = true"))
}

fn tls(endpoints: &[&EndpointAddress], more: &str) -> Proxy {
    Proxy::run(&with_listener(&file("", endpoints, more), &format!("tls = {{ cert = {CERT:?}, key = {KEY:?} }}")))
}

type Sender = http2::SendRequest<Full<Bytes>>;

async fn http2_over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn connect(proxy: &Proxy) -> Sender {
    http2_over(TcpStream::connect(proxy.address).await.unwrap()).await
}

async fn connect_tls(proxy: &Proxy, alpn: &[&str]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for trusted in [CERT, RENEWED_CERT] {
        roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(proxy.address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

fn request(method: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(format!("http://shop.example{path}"));
    request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
}

async fn ask(sender: &mut Sender, request: Request<Full<Bytes>>) -> (u16, String) {
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    let status = answer.status().as_u16();
    let body = timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn many_streams_share_a_connection_in_clear_text() {
    let mut blue = named("blue").await;
    let proxy = h2c(&[&blue.address], "");
    let sender = connect(&proxy).await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mut sender = sender.clone();
        asked.spawn(async move { ask(&mut sender, request("POST", &format!("/{n}"), "body")).await });
    }
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap(), (200, "blue".to_owned()));
    }
    let seen = blue.received().await;
    assert_eq!((&seen.body[..], seen.header("host").unwrap().as_str()), (&b"body"[..], "shop.example"));
    assert_eq!(seen.header("x-forwarded-host").unwrap(), "shop.example");
    proxy.at_rest().await;
}

#[tokio::test]
async fn http_1_is_served_beside_http_2() {
    let blue = named("blue").await;
    let proxy = h2c(&[&blue.address], "");
    // Shorter than the preface of HTTP/2.
    assert_eq!(proxy.ask("GET / HTTP/1.0\r\n\r\n").await.status, 200);
    assert_eq!(proxy.ask("PRI / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn the_preface_is_refused_where_http_2_is_off() {
    let blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    assert_eq!(proxy.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn a_preface_that_never_ends_is_cut() {
    let blue = named("blue").await;
    let proxy = Proxy::run(&with_listener(
        &file("[server.limits]\nheader_timeout = \"200ms\"", &[&blue.address], ""),
        "h2c = true",
    ));
    for begin in ["PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = proxy.client().await;
        client.write(begin).await;
        let rest = client.rest().await;
        assert!(rest.is_none_or(|rest| !rest.starts_with(b"HTTP/1.1 200")), "{begin}");
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_stream_and_leaves_the_others() {
    let blue = named("blue").await;
    let proxy = h2c(&[&blue.address], "routes = [{ host = \"*\", path = \"/a\" }]\nmax_body = \"3B\"");
    let mut sender = connect(&proxy).await;
    assert_eq!(ask(&mut sender, request("GET", "/b", "")).await.0, 404);
    assert_eq!(ask(&mut sender, request("POST", "/a", "long body")).await.0, 413);
    assert_eq!(ask(&mut sender, request("GET", "/a", "")).await.0, 200);
}

#[tokio::test]
async fn a_renewed_certificate_is_what_the_next_handshake_gets() {
    let blue = named("blue").await;
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let put =
        |from: [&str; 2]| [&cert, &key].into_iter().zip(from).for_each(|(to, from)| drop(std::fs::copy(from, to)));
    put([CERT, KEY]);
    let text = with_listener(&file("", &[&blue.address], ""), &format!("tls = {{ cert = {cert:?}, key = {key:?} }}"));
    let proxy = Proxy::run(&text);
    let shown = async || {
        let io = connect_tls(&proxy, &["http/1.1"]).await;
        let certificate = io.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        (io, certificate)
    };
    let is = |path: &str| CertificateDer::from_pem_file(path).unwrap();
    let (old, first) = shown().await;
    assert_eq!(first, is(CERT));

    let (certificates, listeners) = (proxy.certificates(), tidegate_config::parse(&text).unwrap().listeners);
    put([RENEWED_CERT, KEY]);
    let problems = certificates.read_again(&listeners).unwrap_err();
    assert!(problems[0].to_string().contains("cannot be used with"), "{problems:?}");
    assert_eq!(shown().await.1, is(CERT), "half of a renewal changes nothing");

    put([RENEWED_CERT, RENEWED_KEY]);
    certificates.renew(certificates.read_again(&listeners).unwrap());
    assert_eq!(shown().await.1, is(RENEWED_CERT));
    let (mut sender, connection) = http1::handshake(TokioIo::new(old)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().uri("/").header("host", "a").body(Full::new(Bytes::new())).unwrap();
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.status().as_u16(), 200, "a connection of before goes on");
}

#[tokio::test]
async fn alpn_chooses_the_version() {
    let mut blue = named("blue").await;
    let proxy = tls(&[&blue.address], "sticky = {}");
    let io = connect_tls(&proxy, &["h2", "http/1.1"]).await;
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = http2_over(io).await;
    assert_eq!(ask(&mut sender, request("GET", "/two", "")).await, (200, "blue".to_owned()));
    assert_eq!(blue.received().await.header("x-forwarded-proto").unwrap(), "https");

    let io = connect_tls(&proxy, &["http/1.1"]).await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = Request::builder().uri("/one").header("host", "a").body(Full::new(Bytes::new())).unwrap();
        let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.ends_with("; Secure"), "{cookie}");
        answer.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn endpoints_speak_http_2_in_clear_text() {
    let mut blue = Scripted::start_hyper(Scheme::H2c, "h2", "two").await;
    let proxy = h2c(&[&blue.address], "");
    assert_eq!(proxy.ask("GET /one HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "two");
    assert_eq!(proxy.ask("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").await.text(), "two");
    let mut sender = connect(&proxy).await;
    assert_eq!(ask(&mut sender, request("POST", "/two", "more")).await, (200, "two".to_owned()));
    assert_eq!(blue.received().await.target, "http://a/one");
    assert_eq!(blue.received().await.body, b"body");
    let seen = blue.received().await;
    assert_eq!((seen.target.as_str(), &seen.body[..]), ("http://shop.example/two", &b"more"[..]));
}

#[tokio::test]
async fn a_stop_lets_streams_finish_and_says_goodbye() {
    let slow = Scripted::start(Script::Hang).await;
    let mut proxy = Proxy::run(&with_listener(&file("grace = \"200ms\"", &[&slow.address], ""), "h2c = true"));
    let mut sender = connect(&proxy).await;
    let mut other = sender.clone();
    let running = tokio::spawn(async move { other.send_request(request("GET", "/", "")).await });
    eventually(|| proxy.snapshot().services[0].stats.active_now() == 1).await;
    proxy.enter(Phase::Stopping);
    assert!(timeout(PATIENCE, running).await.unwrap().unwrap().is_err(), "cut at the end of the grace");
    proxy.ended().await;
    assert!(timeout(PATIENCE, sender.ready()).await.unwrap().is_err());
}

#[tokio::test]
async fn an_idle_connection_gets_its_goaway_at_once() {
    let blue = named("blue").await;
    let mut proxy = h2c(&[&blue.address], "");
    let mut sender = connect(&proxy).await;
    ask(&mut sender, request("GET", "/", "")).await;
    proxy.enter(Phase::Stopping);
    proxy.ended().await;
    assert!(timeout(PATIENCE, sender.ready()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_drained_target_loses_its_streams_and_no_others() {
    let (mut hung, green) = (Scripted::start(Script::Hang).await, named("green").await);
    let more = format!(
        "drain = \"100ms\"\nsplit = {{ hung = 100 }}\n[service.web.target.hung]\nendpoints = [{:?}]",
        hung.address.to_string()
    );
    let proxy = h2c(&[&green.address], &more);
    let mut sender = connect(&proxy).await;
    let mut other = sender.clone();
    let running = tokio::spawn(async move { other.send_request(request("GET", "/", "")).await });
    hung.received().await;
    let service = || ServiceId::parse("web").unwrap();
    proxy.change(&Change::Switch { service: service(), to: TargetId::parse("blue").unwrap() });
    proxy.change(&Change::Drain { service: service(), target: TargetId::parse("hung").unwrap() });
    assert!(timeout(PATIENCE, running).await.unwrap().unwrap().is_err());
    assert_eq!(ask(&mut sender, request("GET", "/", "")).await, (200, "green".to_owned()));
    proxy.at_rest().await;
}
