use std::collections::BTreeMap;

use regex::Regex;

use super::*;
use crate::outbound::scripted::{Received, Script, Scripted, answer, refusing, trust};

/// Long enough for anything on loopback, on a busy machine too.
const ENOUGH: Duration = Duration::from_secs(20);

/// How long a probe of an endpoint that never answers may take.
const SHORT: Duration = Duration::from_millis(150);

fn http(body: Option<&str>) -> Probe {
    Probe::Http {
        method: "GET".to_owned(),
        path: "/health?deep=1".to_owned(),
        host: None,
        headers: BTreeMap::new(),
        expect: Expect { status: vec![200..=399], body: body.map(|pattern| Regex::new(pattern).unwrap()) },
    }
}

async fn ask(address: &EndpointAddress, probe: &Probe, timeout: Duration) -> Result<(), String> {
    probe_trusting(address, &[], probe, timeout, Some(&trust())).await.map_err(|failure| failure.to_string())
}

/// Probes a scripted endpoint, and sees that the probe leaves no connection behind.
async fn check(script: Script, probe: &Probe, timeout: Duration) -> (Result<(), String>, Option<Received>) {
    let mut endpoint = Scripted::start(script).await;
    let verdict = ask(&endpoint.address, probe, timeout).await;
    endpoint.open_connections(0).await;
    (verdict, endpoint.received_now())
}

async fn verdict(script: Script, probe: &Probe, timeout: Duration) -> Result<(), String> {
    check(script, probe, timeout).await.0
}

fn failed(text: &str) -> Result<(), String> {
    Err(text.to_owned())
}

#[tokio::test]
async fn a_good_answer_passes_and_the_request_is_what_was_configured() {
    let Probe::Http { path, expect, .. } = http(None) else { unreachable!() };
    let headers = BTreeMap::from([("x-key".to_owned(), "7".to_owned())]);
    let probe =
        Probe::Http { method: "OPTIONS".to_owned(), path, host: Some("web.example".to_owned()), headers, expect };
    let (verdict, received) = check(Script::Answer(answer(204, "", "")), &probe, ENOUGH).await;
    let received = received.unwrap();
    assert_eq!(verdict, Ok(()));
    assert_eq!((received.method.as_str(), received.target.as_str()), ("OPTIONS", "/health?deep=1"));
    let expected = [("host", "web.example"), ("x-key", "7"), ("user-agent", USER_AGENT), ("connection", "close")];
    for (name, value) in expected {
        assert_eq!(received.header(name).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn the_host_is_the_endpoint_when_none_is_configured() {
    let mut endpoint = Scripted::start(Script::Answer(answer(200, "", ""))).await;
    assert_eq!(ask(&endpoint.address, &http(None), ENOUGH).await, Ok(()));
    assert_eq!(endpoint.received().await.header("host"), Some(endpoint.socket().to_string()));
}

#[tokio::test]
async fn every_probe_opens_its_own_connection() {
    let endpoint = Scripted::start(Script::Answer(answer(200, "", ""))).await;
    for _ in 0..3 {
        assert_eq!(ask(&endpoint.address, &http(None), ENOUGH).await, Ok(()));
    }
    assert_eq!(endpoint.accepted(), 3);
}

#[tokio::test]
async fn any_status_but_the_expected_ones_fails() {
    for status in [199_u16, 200, 399, 400, 418, 500, 503, 599] {
        let mut probe = http(None);
        let Probe::Http { expect, .. } = &mut probe else { unreachable!() };
        expect.status = vec![200..=399, 418..=418];
        let expected = match status {
            200..=399 | 418 => Ok(()),
            // An interim answer is no answer: the final one never comes.
            199 => failed("no answer within 150ms"),
            _ => Err(format!("status {status}, expected 200-399, 418")),
        };
        let timeout = if status == 199 { SHORT } else { ENOUGH };
        let head = format!("HTTP/1.1 {status} x\r\n{}\r\n", if status == 199 { "" } else { "content-length: 0\r\n" });
        assert_eq!(verdict(Script::Answer(head.into_bytes()), &probe, timeout).await, expected, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let mut elsewhere = Scripted::start(Script::Answer(answer(200, "", ""))).await;
    let location = format!("location: http://{}/\r\n", elsewhere.socket());
    assert_eq!(verdict(Script::Answer(answer(302, &location, "")), &http(None), ENOUGH).await, Ok(()));
    let mut probe = http(None);
    let Probe::Http { expect, .. } = &mut probe else { unreachable!() };
    expect.status = vec![200..=299];
    let script = Script::Answer(answer(302, &location, ""));
    assert_eq!(verdict(script, &probe, ENOUGH).await, failed("status 302, expected 200-299"));
    assert!(elsewhere.received_now().is_none());
}

#[tokio::test]
async fn a_body_must_hold_its_pattern_and_is_not_shown() {
    let probe = http(Some("^ok: [0-9]+$"));
    let says = |body: &str| Script::Answer(answer(200, "", body));
    assert_eq!(verdict(says("ok: 12"), &probe, ENOUGH).await, Ok(()));
    let failure = failed("the body does not match \"^ok: [0-9]+$\"");
    assert_eq!(verdict(says("password=hunter2"), &probe, ENOUGH).await, failure);
    assert_eq!(verdict(says(""), &probe, ENOUGH).await, failure);
}

#[tokio::test]
async fn a_pattern_is_looked_for_in_the_first_64_kib_only() {
    let probe = http(Some("needle"));
    let filled = |before: usize| format!("{}needle{}", "x".repeat(before), "x".repeat(100_000));
    let last = filled(BODY_LOOKED_AT - "needle".len());
    assert_eq!(verdict(Script::Answer(answer(200, "", &last)), &probe, ENOUGH).await, Ok(()));
    let cut = filled(BODY_LOOKED_AT - "needle".len() + 1);
    let verdict = verdict(Script::Answer(answer(200, "", &cut)), &probe, ENOUGH).await;
    assert_eq!(verdict, failed("the body does not match \"needle\""));
}

#[tokio::test]
async fn an_endless_body_is_read_to_64_kib_and_no_further() {
    let endless = || Script::Endless(b"HTTP/1.1 200 OK\r\n\r\nneedle".to_vec());
    assert_eq!(verdict(endless(), &http(Some("needle")), ENOUGH).await, Ok(()));
    assert_eq!(verdict(endless(), &http(None), ENOUGH).await, Ok(()));
}

#[tokio::test]
async fn the_deadline_covers_a_hung_endpoint_and_a_dribbling_one() {
    assert_eq!(verdict(Script::Hang, &http(None), SHORT).await, failed("no answer within 150ms"));
    let dribble = |head: &str| Script::Dribble(head.as_bytes().to_vec());
    let head = dribble("HTTP/1.1 200 OK\r\nx-slow: ");
    assert_eq!(verdict(head, &http(None), SHORT).await, failed("no answer within 150ms"));
    let body = dribble("HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n");
    assert_eq!(verdict(body, &http(Some("ok")), SHORT).await, failed("no complete body within 150ms"));
}

#[tokio::test]
async fn the_deadline_covers_a_handshake_that_never_ends() {
    for scheme in [Scheme::Https, Scheme::H2c] {
        let mut mute = Scripted::start_mute(scheme).await;
        let failure = ask(&mute.address, &http(None), SHORT).await.unwrap_err();
        assert!(failure.ends_with("within 150ms"), "{scheme:?}: {failure}");
        mute.open_connections(0).await;
    }
}

#[tokio::test]
async fn broken_answers_fail_with_what_was_broken() {
    let cut = failed("the connection was closed before the answer was complete");
    let probe = http(Some("ok"));
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok".to_vec();
    assert_eq!(verdict(Script::Reset, &probe, ENOUGH).await, cut);
    assert_eq!(verdict(Script::AnswerAndClose(Vec::new()), &probe, ENOUGH).await, cut);
    assert_eq!(verdict(Script::AnswerAndClose(begun.clone()), &probe, ENOUGH).await, cut);
    assert_eq!(verdict(Script::AnswerAndReset(begun), &probe, ENOUGH).await, cut);
    let garbage = Script::AnswerAndClose(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec());
    assert_eq!(verdict(garbage, &probe, ENOUGH).await, failed("the answer is not HTTP"));
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named_so() {
    let refusing = refusing().await;
    for probe in [Probe::Tcp, http(None)] {
        assert_eq!(ask(&refusing, &probe, ENOUGH).await, failed("connect refused"));
        let unresolved: EndpointAddress = "shadow.test:80".parse().unwrap();
        assert_eq!(ask(&unresolved, &probe, ENOUGH).await, failed("the name is not resolved"));
        let missing: EndpointAddress = "unix:/nonexistent/tidegate.sock".parse().unwrap();
        assert_eq!(ask(&missing, &probe, ENOUGH).await, failed("connect failed: the socket does not exist"));
    }
}

#[tokio::test]
async fn a_name_is_reached_at_any_of_its_addresses() {
    let endpoint = Scripted::start(Script::Answer(answer(200, "", ""))).await;
    let Host::Ip(refusing) = refusing().await.host else { unreachable!() };
    let address: EndpointAddress = "shadow.test:80".parse().unwrap();
    let check = ActiveCheck { probe: http(None), interval: ENOUGH, timeout: ENOUGH, fall: 1, rise: 1 };
    assert!(probe(&address, &[refusing, endpoint.socket()], &check).await.is_ok());
}

#[tokio::test]
async fn a_tcp_probe_asks_for_a_connection_and_nothing_else() {
    let (verdict, received) = check(Script::Hang, &Probe::Tcp, ENOUGH).await;
    assert_eq!((verdict, received.is_none()), (Ok(()), true));
    let mut mute = Scripted::start_mute(Scheme::Https).await;
    assert!(probe_connect(&mute.address, &[], ENOUGH).await.is_ok());
    mute.open_connections(0).await;
}

#[tokio::test]
async fn unix_sockets_are_probed() {
    let directory = tempfile::tempdir().unwrap();
    let script = Script::Answer(answer(200, "", "ok"));
    let mut endpoint = Scripted::start_unix(directory.path().join("web.sock"), script).await;
    assert_eq!(ask(&endpoint.address, &Probe::Tcp, ENOUGH).await, Ok(()));
    assert_eq!(ask(&endpoint.address, &http(Some("ok")), ENOUGH).await, Ok(()));
    assert_eq!(endpoint.received().await.header("host").as_deref(), Some("localhost"));
}

#[tokio::test]
async fn https_by_either_alpn_and_h2c_are_probed() {
    for (scheme, alpn) in [(Scheme::Https, "h2"), (Scheme::Https, "http/1.1"), (Scheme::H2c, "")] {
        let mut endpoint = Scripted::start_hyper(scheme, alpn, "ok").await;
        assert_eq!(ask(&endpoint.address, &http(Some("^ok$")), ENOUGH).await, Ok(()), "{scheme:?} {alpn}");
        assert!(endpoint.received().await.target.ends_with("/health?deep=1"));
        endpoint.open_connections(0).await;
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_fails_the_probe() {
    let endpoint = Scripted::start_hyper(Scheme::Https, "h2", "ok").await;
    let nobody = Trust::new(pingora_core::tls::RootCertStore::empty());
    let failure = probe_trusting(&endpoint.address, &[], &http(None), ENOUGH, Some(&nobody)).await.unwrap_err();
    assert!(failure.to_string().starts_with("TLS handshake failed: "), "{failure}");
}
