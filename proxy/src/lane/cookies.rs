//! Cookies in `Cookie` headers (RFC 6265, 4.2): reading one, and taking one out.

use http::{HeaderMap, HeaderValue, header};

/// The first value of a cookie.
pub(super) fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get_all(header::COOKIE).iter().flat_map(|value| pairs(value.as_bytes())).find_map(|pair| named(pair, name))
}

/// A `Cookie` header without a cookie; `None`: nothing is left of it.
pub(super) fn without(value: &HeaderValue, name: &str) -> Option<HeaderValue> {
    let mut kept = Vec::with_capacity(value.len());
    for pair in pairs(value.as_bytes()).filter(|pair| named(pair, name).is_none()) {
        if !kept.is_empty() {
            kept.extend_from_slice(b"; ");
        }
        kept.extend_from_slice(pair);
    }
    HeaderValue::from_bytes(&kept).ok().filter(|value| !value.is_empty())
}

fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

fn named<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_taken_out_of_its_header_and_the_others_stay() {
        for (value, expected) in [
            ("a=1; t=x; b=2", Some("a=1; b=2")),
            ("t=x", None),
            ("t=x;t=y ;a=1", Some("a=1")),
            ("tt=x; T=x; t", Some("tt=x; T=x; t")),
        ] {
            let left = without(&HeaderValue::from_static(value), "t");
            assert_eq!(left.as_ref().map(HeaderValue::as_bytes), expected.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn the_first_value_counts_over_all_headers() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_static("t=x; t=y"));
        assert_eq!(first(&headers, "t"), Some(&b"x"[..]));
        assert_eq!(first(&headers, "none"), None);
    }
}
