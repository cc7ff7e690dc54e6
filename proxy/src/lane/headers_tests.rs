use super::*;

fn request(method: &str, target: &str, pairs: &[(&'static str, &'static str)]) -> RequestHeader {
    let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    for (name, value) in pairs {
        head.append_header(*name, *value).unwrap();
    }
    head
}

fn origin(trusted: bool) -> Origin<'static> {
    Origin {
        client: [10, 0, 0, 9].into(),
        security: Security::Tls,
        trusted,
        host: "shop.example:8443",
        forwarded: false,
        new_id: 0xA,
    }
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn a_stranger_s_claims_are_replaced() {
    let mut head = request(
        "GET",
        "/",
        &[
            ("host", "shop.example:8443"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-request-id", "forged"),
            ("x-tidegate-target", "v2"),
            ("x-tidegate-shadow", "m"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded_proto", "gopher"),
            ("x_request_id", "forged"),
            ("x_tidegate_token", "s"),
            ("traceparent", "00-1-2-01"),
            ("x-forward", "mine"),
        ],
    );
    let id = to_endpoint(&mut head, &origin(false), None).unwrap();
    let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = [
        "host",
        "traceparent",
        "x-forward",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    ];
    assert_eq!(names, expected);
    assert_eq!(values(&head.headers, "x-forwarded-for"), ["10.0.0.9"]);
    assert_eq!(values(&head.headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&head.headers, "x-forwarded-host"), ["shop.example:8443"]);
    assert_eq!(id, "0000000000000000000000000000000a");
    assert_eq!(values(&head.headers, "x-request-id"), [id.to_str().unwrap()]);
}

#[test]
fn a_trusted_peer_s_claims_are_kept_and_its_address_appended() {
    let mut head = request(
        "GET",
        "/",
        &[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "outside.example"),
            ("x-request-id", "abc"),
            ("x_forwarded_for", "9.9.9.9"),
            ("x-tidegate-token", "secret"),
            ("forwarded", "for=1.2.3.4"),
        ],
    );
    let id = to_endpoint(&mut head, &Origin { forwarded: true, ..origin(true) }, None).unwrap();
    assert_eq!(values(&head.headers, "x-forwarded-for"), ["1.2.3.4, 5.6.7.8, 10.0.0.9"]);
    assert_eq!(values(&head.headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&head.headers, "x-forwarded-host"), ["outside.example"]);
    assert_eq!(id, "abc");
    let forwarded = values(&head.headers, "forwarded");
    assert_eq!(forwarded, ["for=1.2.3.4, for=10.0.0.9;host=\"shop.example:8443\";proto=https"]);
    assert!(!head.headers.contains_key("x_forwarded_for"));
    assert!(!head.headers.contains_key("x-tidegate-token"));
}

#[test]
fn a_retry_keeps_the_id_of_its_request() {
    let mut head = request("GET", "/", &[("x-request-id", "forged")]);
    let earlier = HeaderValue::from_static("earlier");
    assert_eq!(to_endpoint(&mut head, &origin(false), Some(&earlier)).unwrap(), "earlier");
    assert_eq!(values(&head.headers, "x-request-id"), ["earlier"]);
}

#[test]
fn the_secret_of_a_pin_cookie_stays_here() {
    let mut head = request("GET", "/", &[("cookie", "a=1; tidegate-target=v2:s"), ("cookie", "tidegate-target=v2:s")]);
    to_endpoint(&mut head, &origin(true), None).unwrap();
    assert_eq!(values(&head.headers, "cookie"), ["a=1"]);
}

#[test]
fn networks_are_matched_by_prefix() {
    let network = |text: &str, prefix| Network { address: text.parse().unwrap(), prefix };
    for (client, text, prefix, expected) in [
        ("10.1.2.3", "10.0.0.0", 8, true),
        ("11.1.2.3", "10.0.0.0", 8, false),
        ("10.0.0.1", "10.0.0.1", 32, true),
        ("10.0.0.2", "10.0.0.1", 32, false),
        ("1.2.3.4", "0.0.0.0", 0, true),
        ("::ffff:10.1.2.3", "10.0.0.0", 8, true),
        ("2001:db8::1", "2001:db8::", 32, true),
        ("2001:db9::1", "2001:db8::", 32, false),
        ("2001:db8::1", "::", 0, true),
        ("10.0.0.1", "::", 0, false),
    ] {
        assert_eq!(
            is_trusted(client.parse().unwrap(), &[network(text, prefix)]),
            expected,
            "{client} in {text}/{prefix}"
        );
    }
}

fn check_target(target: &str, strip: usize, expected: &str) {
    let mut head = request("GET", target, &[]);
    set_target(&mut head, strip).unwrap();
    assert_eq!(std::str::from_utf8(head.raw_path()).unwrap(), expected, "{target} without {strip}");
}

#[test]
fn an_endpoint_sees_origin_form_without_the_stripped_prefix() {
    check_target("/a/b?c=%2F", 0, "/a/b?c=%2F");
    check_target("/api/users?page=2", 4, "/users?page=2");
    check_target("/api", 4, "/");
    check_target("/api?x", 4, "/?x");
    check_target("http://shop.example/a?b", 0, "/a?b");
    check_target("http://shop.example/api/a?b", 4, "/a?b");
}

#[test]
fn an_endpoint_is_told_what_was_taken_off_its_path() {
    let told = |strip: usize, earlier: &[(&'static str, &'static str)]| {
        let mut head = request("GET", "/services/web//x", earlier);
        set_target(&mut head, strip).unwrap();
        head.headers.get_all("x-forwarded-prefix").iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(0, &[]), Vec::<String>::new());
    assert_eq!(told(13, &[]), ["/services/web"]);
    assert_eq!(told(14, &[]), ["/services/web"], "a slash too many is none of it");
    assert_eq!(told(13, &[("x-forwarded-prefix", "/outer")]), ["/outer", "/services/web"]);
}

#[test]
fn headers_of_the_endpoint_s_connection_do_not_reach_the_client() {
    let mut head = ResponseHeader::build(200, None).unwrap();
    for (name, value) in [
        ("connection", "close, X-Hop, Content-Length"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("trailer", "x-sum"),
        ("content-length", "3"),
        ("x-end", "1"),
    ] {
        head.append_header(name, value).unwrap();
    }
    to_client(&mut head, Version::HTTP_11, false).unwrap();
    let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x-end"]);
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let mut head = ResponseHeader::build(200, None).unwrap();
    head.append_header("transfer-encoding", "chunked").unwrap();
    to_client(&mut head, Version::HTTP_11, false).unwrap();
    assert!(head.headers.contains_key("transfer-encoding"));
    to_client(&mut head, Version::HTTP_10, false).unwrap();
    assert!(!head.headers.contains_key("transfer-encoding"));
}

#[test]
fn only_a_new_visitor_gets_a_cookie() {
    let cookie = |security| VisitorCookie { name: "tidegate", max_age_s: 60, security };
    assert_eq!(set_cookie(&Visitor::None, &cookie(Security::Clear)), None);
    assert_eq!(set_cookie(&Visitor::Known, &cookie(Security::Clear)), None);
    let text = "tidegate=0000000000000000000000000000000f; Max-Age=60; Path=/; HttpOnly; SameSite=Lax";
    assert_eq!(set_cookie(&Visitor::New(15), &cookie(Security::Clear)).unwrap(), text);
    assert_eq!(set_cookie(&Visitor::New(15), &cookie(Security::Tls)).unwrap(), &format!("{text}; Secure"));
}

#[test]
fn only_the_proxy_tells_flags() {
    let text = "service.web.target.blue.endpoints = [\"127.0.0.1:1\"]
        [flags.flag.RECENT]
        header = true
        [flags.flag.other]
        header = true
        targets = [\"blue\"]
        [flags.values]
        RECENT = \"on\"";
    let config = tidegate_config::parse(text).unwrap();
    let flags = FlagTable::new(&tidegate_core::flags::FlagState::declared(&config.flags), None);
    let forged = [("x-flag-recent", "a"), ("x_flag_recent", "b"), ("X-Flag-Other", "c"), ("x-flag-nobody", "d")];
    let mut head = request("GET", "/", &forged);
    let seen = tidegate_core::RequestHead {
        listener: tidegate_core::ListenerIdx(0),
        method: &http::Method::GET,
        host: "",
        path: "/",
        query: None,
        headers: &HeaderMap::new(),
        client: None,
        unix_s: 0,
        pin_authorised: false,
    };
    let subject = Subject::Request { head: &seen, visitor: None };
    let green = TargetId::parse("green").unwrap();
    tell_flags(&mut head, &flags, &ServiceId::parse("web").unwrap(), &green, &subject).unwrap();
    assert_eq!(values(&head.headers, "x-flag-recent"), ["on"]);
    for gone in ["x_flag_recent", "x-flag-other"] {
        assert_eq!(values(&head.headers, gone), Vec::<&str>::new(), "{gone}");
    }
    assert_eq!(values(&head.headers, "x-flag-nobody"), ["d"]);
}
