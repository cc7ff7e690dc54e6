//! Requests and answers as they should be.

use super::*;

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\n\r\n";

#[tokio::test]
async fn a_request_reaches_its_endpoint_and_the_answer_its_client() {
    let mut blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    let answer = proxy.ask(GET).await;
    assert_eq!((answer.status, answer.text()), (200, "blue"));
    let seen = blue.received().await;
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/a?b=c"));
    assert_eq!(seen.header("host").unwrap(), "shop.example");
    assert_eq!(seen.header("x-forwarded-for").unwrap(), "127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto").unwrap(), "http");
    assert_eq!(seen.header("x-forwarded-host").unwrap(), "shop.example");
    assert_eq!(seen.header("x-request-id").unwrap().len(), 32);
    assert_eq!(seen.header("connection"), None);
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    for _ in 0..50 {
        client.write(GET).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, vec!["keep-alive"]));
    }
    assert_eq!(blue.accepted(), 1, "the endpoint's connection is kept too");
    proxy.at_rest().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let mut blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    let requests: String = (0..5).map(|n| format!("\r\nGET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.write(requests).await;
    for n in 0..5 {
        assert_eq!(client.answer().await.text(), "blue");
        assert_eq!(blue.received().await.target, format!("/{n}"));
    }
}

#[tokio::test]
async fn head_has_no_body_and_keeps_the_connection() {
    let blue = Scripted::start(Script::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec())).await;
    let proxy = Proxy::of(&[&blue.address], "");
    let mut client = proxy.client().await;
    for _ in 0..2 {
        client.write("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.head_only = true;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("content-length")), (200, vec!["5"]));
    }
}

#[tokio::test]
async fn an_informational_answer_comes_before_the_final_one() {
    let mut script = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec();
    script.extend(answer(200, "", "done"));
    let blue = Scripted::start(Script::Answer(script)).await;
    let proxy = Proxy::of(&[&blue.address], "sticky = {}");
    let mut client = proxy.client().await;
    client.write(GET).await;
    let early = client.answer().await;
    assert_eq!((early.status, early.header("set-cookie").len()), (103, 0));
    let last = client.answer().await;
    assert_eq!((last.status, last.text(), last.header("set-cookie").len()), (200, "done", 1));
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let headers = "connection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nupgrade: h2c\r\nx-end: 1\r\n";
    let mut blue = Scripted::start(Script::AnswerAndClose(answer(200, headers, ""))).await;
    let proxy = Proxy::of(&[&blue.address], "");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\nX-End: 1\r\n\r\n";
    let answer = proxy.ask(request).await;
    for name in ["x-hop", "keep-alive", "upgrade"] {
        assert!(answer.header(name).is_empty(), "{name}");
    }
    assert_eq!((answer.header("x-end"), answer.header("connection")), (vec!["1"], vec!["keep-alive"]));
    let seen = blue.received().await;
    for name in ["connection", "x-mine", "keep-alive", "te", "proxy-authorization", "upgrade"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-end").unwrap(), "1");
}

#[tokio::test]
async fn a_sticky_visitor_gets_a_cookie_once() {
    let blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "sticky = { cookie = \"who\", max_age = \"60s\" }");
    let first = proxy.ask(GET).await;
    let [cookie] = first.header("set-cookie")[..] else { panic!("{}", first.head) };
    assert!(cookie.ends_with("; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    let id = cookie.split(';').next().unwrap();
    let again = proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {id}\r\n\r\n")).await;
    assert!(again.header("set-cookie").is_empty());
}

#[tokio::test]
async fn a_visitor_stays_on_its_target() {
    let (blue, green) = (named("blue").await, named("green").await);
    let more = format!(
        "sticky = {{}}\nsplit = {{ blue = 50, green = 50 }}\n[service.web.target.green]\nendpoints = [{:?}]",
        green.address.to_string()
    );
    let proxy = Proxy::of(&[&blue.address], &more);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let first = proxy.ask(GET).await;
        let id = first.header("set-cookie")[0].split(';').next().unwrap().to_owned();
        let again = proxy.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {id}\r\n\r\n")).await;
        assert_eq!(first.text(), again.text());
        seen.insert(first.text().to_owned());
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn a_pin_needs_its_secret_and_the_endpoint_never_sees_it() {
    let (mut blue, mut green) = (named("blue").await, named("green").await);
    let more = format!("expose = true\n[service.web.target.green]\nendpoints = [{:?}]", green.address.to_string());
    let proxy = Proxy::of(&[&blue.address], &more);
    let ask = |headers: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n");
        let proxy = &proxy;
        async move { proxy.ask(&request).await }
    };
    for pinned in [
        "X-Tidegate-Target: green\r\nX-Tidegate-Token: admin-secret",
        "X-Tidegate-Target: green\r\nX-Tidegate-Token: web-secret",
        "X-Tidegate-Target: green\r\nAuthorization: Bearer web-secret",
        "Cookie: tidegate-target=green:web-secret",
    ] {
        let answer = ask(pinned).await;
        assert_eq!((answer.text(), answer.header("x-tidegate-target")), ("green", vec!["green"]), "{pinned}");
        let seen = green.received().await;
        for name in ["x-tidegate-target", "x-tidegate-token", "authorization", "cookie"] {
            assert_eq!(seen.header(name), None, "{pinned}: {name}");
        }
    }
    for ignored in ["X-Tidegate-Target: green\r\nAuthorization: Bearer wrong", "Cookie: tidegate-target=green:wrong"] {
        assert_eq!(ask(ignored).await.text(), "blue", "{ignored}");
        assert_eq!(blue.received().await.header("x-tidegate-target"), None, "{ignored}");
    }
    let stats = &proxy.snapshot().services[0].stats;
    assert_eq!(stats.pins_refused.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test]
async fn answers_name_target_and_generation_only_if_the_service_wants_it() {
    let blue = named("blue").await;
    let quiet = Proxy::of(&[&blue.address], "").ask(GET).await;
    assert!(quiet.header("x-tidegate-target").is_empty() && quiet.header("x-tidegate-generation").is_empty());
    let proxy = Proxy::of(&[&blue.address], "expose = true");
    let generation = proxy.snapshot().generation.to_string();
    let loud = proxy.ask(GET).await;
    assert_eq!(loud.header("x-tidegate-target"), ["blue"]);
    assert_eq!(loud.header("x-tidegate-generation"), [generation]);
}

#[tokio::test]
async fn a_stripped_route_hides_its_prefix() {
    let mut blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "routes = [{ host = \"*\", path = \"/api\", strip = true }]");
    for (asked, seen) in [("/api/users?page=2", "/users?page=2"), ("/api", "/"), ("/api?x", "/?x")] {
        proxy.ask(&format!("GET {asked} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(blue.received().await.target, seen, "{asked}");
    }
}

#[tokio::test]
async fn absolute_form_becomes_origin_form() {
    let mut blue = named("blue").await;
    let proxy = Proxy::of(&[&blue.address], "");
    let answer = proxy.ask("GET http://shop.example/a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(answer.status, 200);
    let seen = blue.received().await;
    assert_eq!((seen.target.as_str(), seen.header("host").unwrap().as_str()), ("/a?b", "shop.example"));
}

#[tokio::test]
async fn a_client_of_http_1_0_is_answered_to_the_end_of_the_connection() {
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec();
    let mut blue = Scripted::start(Script::Answer(chunked)).await;
    let proxy = Proxy::of(&[&blue.address], "");
    let answer = proxy.ask("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!((answer.status, answer.text(), answer.header("connection")), (200, "abc", vec!["close"]));
    assert_eq!(blue.received().await.header("host").unwrap(), blue.socket().to_string());
}

#[tokio::test]
async fn an_endpoint_on_a_unix_socket_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let blue = Scripted::start_unix(directory.path().join("app.sock"), Script::Answer(answer(200, "", "unix"))).await;
    assert_eq!(Proxy::of(&[&blue.address], "").ask(GET).await.text(), "unix");
}
