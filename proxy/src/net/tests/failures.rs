//! Endpoints that fail, and requests that cannot be served.

use std::sync::atomic::Ordering::Relaxed;

use tidegate_core::health::Observation;

use super::*;
use crate::{outbound::scripted::refusing, routing::Sign};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
const PUT: &str = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

#[tokio::test]
async fn a_refused_connection_costs_no_client_an_error_whatever_the_method() {
    let blue = named("blue").await;
    let gone = refusing().await;
    let mut proxy = Proxy::of(&[&gone, &blue.address], "");
    for request in [GET, POST].repeat(10) {
        let answer = proxy.ask(request).await;
        assert_eq!((answer.status, answer.text()), (200, "blue"));
    }
    proxy.at_rest().await;
    let sign = proxy.signs.recv().await.unwrap();
    assert_eq!((sign.endpoint, sign.sign), (gone, Sign::Seen(Observation::ConnectFailed)));
}

#[tokio::test]
async fn a_reset_is_tried_elsewhere_only_when_that_is_safe() {
    let mut bad = Scripted::start(Script::Reset).await;
    let mut blue = named("blue").await;
    let more = "retry = { attempts = 2, budget = 100 }";
    for (request, safe) in [(GET, true), (PUT, true), (POST, false)] {
        let proxy = Proxy::of(&[&bad.address, &blue.address], more);
        let (mut asked, mut failed, mut tried) = (0, 0, Vec::new());
        // Which endpoint comes first is chance: until the bad one has had its share.
        while tried.len() < 4 {
            failed += usize::from(proxy.ask(request).await.status != 200);
            asked += 1;
            tried.extend(drain(&mut bad));
        }
        let served = drain(&mut blue);
        assert_eq!((failed == 0, failed + served.len()), (safe, asked), "{request}");
        if !safe {
            assert_eq!(tried.len(), failed, "nothing that was sent once may be sent again");
        } else if request == PUT {
            assert!(served.iter().all(|seen| seen.body == b"body"), "a retry carries the whole body");
        }
        proxy.at_rest().await;
    }
}

fn drain(endpoint: &mut Scripted) -> Vec<crate::outbound::scripted::Received> {
    std::iter::from_fn(|| endpoint.received_now()).collect()
}

#[tokio::test]
async fn the_stable_target_is_the_last_resort() {
    let green = named("green").await;
    let (gone, gone_too) = (refusing().await, refusing().await);
    let more = format!(
        "split = {{ red = 100 }}\n[service.web.target.red]\nendpoints = [{:?}, {:?}]",
        gone.to_string(),
        gone_too.to_string()
    );
    let proxy = Proxy::of(&[&green.address], &more);
    let answer = proxy.ask(POST).await;
    assert_eq!((answer.status, answer.text()), (200, "green"));
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_a_bad_gateway() {
    let proxy = Proxy::of(&[&refusing().await], "");
    let answer = proxy.ask(GET).await;
    assert_eq!((answer.status, answer.text()), (502, "the service could not be reached\n"));
    assert_eq!(answer.header("connection"), ["close"]);
    proxy.at_rest().await;
}

#[tokio::test]
async fn a_slow_endpoint_is_a_gateway_timeout() {
    let blue = Scripted::start(Script::Hang).await;
    let more =
        "timeouts = { connect = \"2s\", response = \"200ms\", idle = \"60s\" }\nretry = { attempts = 0, budget = 0 }";
    let proxy = Proxy::of(&[&blue.address], more);
    for request in [GET, POST] {
        assert_eq!(proxy.ask(request).await.status, 504);
    }
    proxy.at_rest().await;
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_bad_gateway() {
    for nonsense in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na"] {
        let blue = Scripted::start(Script::AnswerAndClose(nonsense.into())).await;
        assert_eq!(Proxy::of(&[&blue.address], "").ask(POST).await.status, 502, "{nonsense}");
    }
}

#[tokio::test]
async fn an_unasked_change_of_protocol_is_a_bad_gateway() {
    let script = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".to_vec();
    let blue = Scripted::start(Script::Answer(script)).await;
    assert_eq!(Proxy::of(&[&blue.address], "").ask(POST).await.status, 502);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_ended_cleanly() {
    let length = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegin".to_vec();
    let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n".to_vec();
    for script in
        [Script::AnswerAndClose(length.clone()), Script::AnswerAndReset(length), Script::AnswerAndClose(chunks)]
    {
        let blue = Scripted::start(script).await;
        let proxy = Proxy::of(&[&blue.address], "");
        let mut client = proxy.client().await;
        client.write(GET).await;
        assert!(client.try_answer().await.is_none());
        proxy.at_rest().await;
    }
}

#[tokio::test]
async fn answers_of_5xx_in_a_row_speak_against_an_endpoint() {
    let blue = Scripted::start(Script::Answer(answer(500, "", ""))).await;
    let mut proxy = Proxy::of(&[&blue.address], "");
    for _ in 0..4 {
        assert_eq!(proxy.ask(GET).await.status, 500);
    }
    assert!(proxy.signs.try_recv().is_err());
    proxy.ask(GET).await;
    assert_eq!(proxy.signs.recv().await.unwrap().sign, Sign::Seen(Observation::ServerErrors));
}

#[tokio::test]
async fn a_request_for_nobody_is_refused_in_words_or_json() {
    let blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "routes = [{ host = \"shop.example\", path = \"/a\" }]");
    let ask = async |head: &str| {
        let answer = proxy.ask(&format!("{head}\r\n\r\n")).await;
        (answer.status, answer.header("content-type").concat())
    };
    let text = || "text/plain; charset=utf-8".to_owned();
    assert_eq!(ask("GET /b HTTP/1.1\r\nHost: shop.example").await, (404, text()));
    assert_eq!(ask("GET /a HTTP/1.1\r\nHost: other.example").await, (404, text()));
    assert_eq!(ask("GET /a HTTP/1.1\r\nHost: shop.example:8080").await.0, 200);
    let json = ask("GET /b HTTP/1.1\r\nHost: shop.example\r\nAccept: application/json").await;
    assert_eq!(json, (404, "application/problem+json".to_owned()));
}

#[tokio::test]
async fn a_request_whose_target_cannot_be_trusted_is_refused() {
    let mut blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    for head in [
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET / HTTP/1.1\r\nHost:",
        "GET / HTTP/1.1\r\nHost: a b",
        "GET / HTTP/1.1\r\nHost: a/b",
        "GET / HTTP/1.1\r\nHost: a:x",
        "GET /../etc HTTP/1.1\r\nHost: a",
        "GET /%2e%2e/etc HTTP/1.1\r\nHost: a",
        "GET a HTTP/1.1\r\nHost: a",
        "GET ?a HTTP/1.1\r\nHost: a",
        "GET http://a/ HTTP/1.1\r\nHost: b",
        "GET / HTTP/1.1\r\nHost : a",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: b",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip",
        "\u{1}\u{2}\u{3}",
    ] {
        assert_eq!(proxy.ask(&format!("{head}\r\n\r\n")).await.status, 400, "{head}");
    }
    assert!(blue.received_now().is_none(), "none of these may reach an endpoint");
    assert_eq!(proxy.ask("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await.status, 405);
}

#[tokio::test]
async fn a_request_waits_for_the_first_verdict() {
    let blue = named("blue").await;
    let health = "timeouts = { connect = \"10s\", response = \"60s\", idle = \"60s\" }";
    let file = file("", &[&blue.address], health).replace("health = false", "");
    let proxy = Proxy::run(&file);
    let mut client = proxy.client().await;
    client.write(GET).await;
    let active = || proxy.shared.counters.listeners().next().unwrap().1.idle.load(Relaxed) == 0;
    eventually(active).await;
    proxy.change(&Change::Health {
        reports: vec![tidegate_core::change::HealthReport {
            service: ServiceId::parse("web").unwrap(),
            target: tidegate_config::TargetId::parse("blue").unwrap(),
            endpoint: blue.address.clone(),
            health: tidegate_core::Health::Healthy,
            reason: "probe passed".to_owned(),
        }],
    });
    assert_eq!(client.answer().await.text(), "blue");
}

#[tokio::test]
async fn a_service_without_a_verdict_in_time_is_unavailable() {
    let blue = named("blue").await;
    let health = "timeouts = { connect = \"100ms\", response = \"60s\", idle = \"60s\" }";
    let proxy = Proxy::run(&file("", &[&blue.address], health).replace("health = false", ""));
    let answer = proxy.ask(GET).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, vec!["1"]));
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let mut blue = Scripted::start(Script::Hang).await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    client.write(GET).await;
    blue.received().await;
    assert_eq!(proxy.snapshot().services[0].stats.active_now(), 1);
    drop(client);
    proxy.at_rest().await;
    blue.open_connections(0).await;
}

#[tokio::test]
async fn a_panic_ends_its_own_request_and_no_other() {
    let blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut steady = proxy.client().await;
    steady.write(GET).await;
    steady.answer().await;
    let mut unlucky = proxy.client().await;
    unlucky.write("GET / HTTP/1.1\r\nHost: a\r\nX-Test-Panic: 1\r\n\r\n").await;
    assert!(unlucky.try_answer().await.is_none());
    steady.write(GET).await;
    assert_eq!(steady.answer().await.status, 200);
    assert_eq!(proxy.shared.counters.panics(), 1);
    proxy.at_rest().await;
}
