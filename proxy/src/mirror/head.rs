//! The head of a copy: the request's own, less what belongs to its connection, plus what marks it as a copy.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, uri};
use pingora_http::RequestHeader;
use tidegate_config::{MirrorId, MirrorSpec, Scheme};

use crate::outbound::Payload;

/// Marks a copy with its mirror's name. A request that carries it is never copied again.
const SHADOW_HEADER: HeaderName = HeaderName::from_static("x-tidegate-shadow");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that describe one connection or one framing, and those that must not reach a shadow: `expect` would make
/// the copy wait for a word that nobody passes on.
const NOT_COPIED: [HeaderName; 10] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Whether a request may be copied at all: not a copy itself, and not one that turns into a tunnel.
pub(super) fn may_be_copied(head: &RequestHeader) -> bool {
    head.method != Method::CONNECT
        && !head.headers.contains_key(header::UPGRADE)
        && !head.headers.contains_key(SHADOW_HEADER)
}

/// The head of a copy, in HTTP/1.1 form, with no body yet. `None`: the request's target or host has bytes that cannot be
/// written again as they were, and a copy that differs would be worse than none.
pub(super) fn copy_head(
    head: &RequestHeader,
    mirror: &MirrorId,
    spec: &MirrorSpec,
    request_id: &str,
) -> Option<Request<Payload>> {
    if !head.raw_path_is_utf8() {
        return None;
    }
    let mut copy = Request::new(Payload::default());
    *copy.method_mut() = head.method.clone();
    *copy.uri_mut() = Uri::from(head.uri.path_and_query()?.clone());

    let mut headers = HeaderMap::with_capacity(head.headers.len() + spec.set_headers.len() + 3);
    for (name, value) in &head.headers {
        let removed = || spec.remove_headers.iter().any(|removed| removed == name.as_str());
        if !NOT_COPIED.contains(name) && !removed() {
            headers.append(name, value.clone());
        }
    }
    if !headers.contains_key(header::HOST)
        && let Some(authority) = head.uri.authority()
    {
        headers.insert(header::HOST, HeaderValue::from_str(authority.as_str()).ok()?);
    }
    for (name, value) in &spec.set_headers {
        // What the configuration checked always parses; framing is ours and cannot be set.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
            && !NOT_COPIED.contains(&name)
        {
            headers.insert(name, value);
        }
    }
    headers.insert(REQUEST_ID, HeaderValue::from_str(request_id).ok()?);
    headers.insert(SHADOW_HEADER, HeaderValue::from_str(mirror.as_str()).ok()?);
    *copy.headers_mut() = headers;
    Some(copy)
}

/// Puts a copy into the form that a connection speaks: a `Host` header for HTTP/1.1, an authority for HTTP/2.
/// `false`: its host is none that HTTP/2 can carry.
pub(super) fn fit(copy: &mut Request<Payload>, scheme: Scheme, http2: bool) -> bool {
    let mut target = std::mem::take(copy.uri_mut()).into_parts();
    if let Some(authority) = target.authority.take()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        copy.headers_mut().insert(header::HOST, host);
    }
    target.scheme = None;
    if http2 {
        let host = copy.headers_mut().remove(header::HOST);
        target.authority = host.and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
        target.scheme = Some(if scheme == Scheme::Https { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    }
    match Uri::from_parts(target) {
        Ok(uri) => *copy.uri_mut() = uri,
        Err(_) => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> MirrorSpec {
        super::super::tests::spec()
    }

    fn copied(head: &RequestHeader, spec: &MirrorSpec) -> Request<Payload> {
        copy_head(head, &MirrorId::parse("audit").unwrap(), spec, "r-1").unwrap()
    }

    #[test]
    fn the_copy_keeps_the_request_and_is_marked() {
        let mut head = RequestHeader::build("PUT", b"/a/b?c=%20d&e", None).unwrap();
        head.append_header("Host", "web.example:8080").unwrap();
        head.append_header("X-Twice", "1").unwrap();
        head.append_header("X-Twice", "2").unwrap();
        let copy = copied(&head, &spec());
        assert_eq!((copy.method(), copy.uri()), (&Method::PUT, &Uri::from_static("/a/b?c=%20d&e")));
        assert_eq!(copy.headers()["host"], "web.example:8080");
        assert_eq!(copy.headers().get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            (&copy.headers()["x-tidegate-shadow"], &copy.headers()["x-request-id"]),
            (&HeaderValue::from_static("audit"), &HeaderValue::from_static("r-1"))
        );
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_copied_and_cannot_be_set() {
        let mut head = RequestHeader::build("POST", b"/", None).unwrap();
        let mut spec = spec();
        for name in NOT_COPIED {
            head.append_header(name.as_str().to_owned(), "x").unwrap();
            spec.set_headers.insert(name.as_str().to_owned(), "y".to_owned());
        }
        let copy = copied(&head, &spec);
        assert!(NOT_COPIED.iter().all(|name| !copy.headers().contains_key(name)), "{:?}", copy.headers());
    }

    #[test]
    fn a_mirror_removes_and_sets_headers() {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        head.append_header("Authorization", "secret").unwrap();
        head.append_header("X-Env", "live").unwrap();
        let mut spec = spec();
        spec.remove_headers = vec!["authorization".to_owned()];
        spec.set_headers.insert("x-env".to_owned(), "shadow".to_owned());
        let copy = copied(&head, &spec);
        assert!(!copy.headers().contains_key("authorization"));
        assert_eq!(copy.headers().get_all("x-env").iter().collect::<Vec<_>>(), ["shadow"]);
    }

    #[test]
    fn copies_tunnels_and_upgrades_are_not_copied() {
        let plain = RequestHeader::build("GET", b"/", None).unwrap();
        assert!(may_be_copied(&plain));
        for name in ["X-Tidegate-Shadow", "Upgrade"] {
            let mut head = plain.clone();
            head.append_header(name, "x").unwrap();
            assert!(!may_be_copied(&head), "{name}");
        }
        assert!(!may_be_copied(&RequestHeader::build("CONNECT", b"a:1", None).unwrap()));
    }

    #[test]
    fn a_copy_fits_either_version_of_http_and_back() {
        let mut head = RequestHeader::build("GET", b"/a?b", None).unwrap();
        head.append_header("Host", "web.example:8080").unwrap();
        let mut copy = copied(&head, &spec());
        assert!(fit(&mut copy, Scheme::H2c, true));
        assert_eq!(copy.uri(), &Uri::from_static("http://web.example:8080/a?b"));
        assert!(!copy.headers().contains_key("host"));
        assert!(fit(&mut copy, Scheme::Http, false));
        assert_eq!(
            (copy.uri(), &copy.headers()["host"]),
            (&Uri::from_static("/a?b"), &HeaderValue::from_static("web.example:8080"))
        );
    }

    #[test]
    fn a_target_that_cannot_be_written_again_is_not_copied() {
        let head = RequestHeader::build("GET", b"/\xff", None).unwrap();
        assert!(copy_head(&head, &MirrorId::parse("audit").unwrap(), &spec(), "r-1").is_none());
    }
}
