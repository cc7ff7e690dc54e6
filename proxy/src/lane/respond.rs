//! Answers of our own: one short line, or problem+json for those who ask for JSON. Never anything about the inside.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tidegate_core::Reject;

/// When to come back, in seconds: a failed-over or restarted service is back by then, more often than not.
const RETRY_AFTER: &str = "1";

/// Answers with a rejection. A body that was not read closes the connection, so none of it is taken for a request.
pub(super) async fn reject(session: &mut Session, reject: Reject) -> Result<()> {
    let (head, body) = answer(reject, &session.req_header().headers)?;
    session.write_response_header(Box::new(head), false).await?;
    session.write_response_body(Some(body), true).await
}

fn answer(reject: Reject, request: &HeaderMap) -> Result<(ResponseHeader, Bytes)> {
    let status = reject.status();
    let (kind, body) = if accepts_json(request) {
        let title = status.canonical_reason().unwrap_or_default();
        let (code, detail) = (status.as_u16(), reject.text());
        // Nothing in it needs escaping: titles and texts are ours.
        let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{detail}"}}"#);
        ("application/problem+json", Bytes::from(body))
    } else {
        ("text/plain; charset=utf-8", Bytes::from(format!("{}\n", reject.text())))
    };
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(kind))?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    if matches!(reject, Reject::NoTarget | Reject::Overloaded) {
        head.insert_header(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER))?;
    }
    Ok((head, body))
}

/// Whether a request names JSON among what it accepts. `*/*` is what everybody sends, and does not name it.
fn accepts_json(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|range| range.split(';').next().unwrap_or_default().trim()).any(
        |range| {
            range.eq_ignore_ascii_case("application/json") || range.eq_ignore_ascii_case("application/problem+json")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reject: Reject, accept: Option<&'static str>, kind: &str, text: &str) {
        let mut request = HeaderMap::new();
        request.extend(accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))));
        let (head, body) = answer(reject, &request).unwrap();
        assert_eq!(head.headers[header::CONTENT_TYPE], kind);
        assert_eq!(body, text.as_bytes());
        assert_eq!(head.headers[header::CONTENT_LENGTH], text.len().to_string());
    }

    #[test]
    fn json_is_answered_only_to_those_who_ask_for_it() {
        let text = "no service is configured for this host and path\n";
        let json = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no service is configured for this host and path"}"#;
        check(Reject::NoRoute, None, "text/plain; charset=utf-8", text);
        check(Reject::NoRoute, Some("text/html, */*"), "text/plain; charset=utf-8", text);
        check(Reject::NoRoute, Some("text/html, application/json;q=0.5"), "application/problem+json", json);
        check(Reject::NoRoute, Some("application/problem+json"), "application/problem+json", json);
    }

    #[test]
    fn an_unavailable_service_says_when_to_come_back() {
        let retry_after = |reject| {
            let (head, _) = answer(reject, &HeaderMap::new()).unwrap();
            (head.status.as_u16(), head.headers.contains_key(header::RETRY_AFTER))
        };
        assert_eq!(retry_after(Reject::NoTarget), (503, true));
        assert_eq!(retry_after(Reject::Unreachable), (502, false));
    }
}
