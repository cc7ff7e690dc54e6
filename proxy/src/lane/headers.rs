//! Header hygiene in both directions: what is said about the client is ours to say, and what belongs to one connection
//! stays on it.
//!
//! A name counts with underscores read as dashes: many applications cannot tell the two apart.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header, uri::PathAndQuery};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use tidegate_config::{Network, ServiceId, TargetId};
use tidegate_core::{
    FlagTable, Subject, Visitor, VisitorText,
    decide::{PIN_COOKIE, PIN_HEADER},
    preview::BRACKET_HEADER,
};

use super::{cookies, pins::TOKEN_HEADER};
use crate::net::link::Security;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What was taken off the path, so that an application can write links that lead back through us.
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GENERATION: HeaderName = HeaderName::from_static("x-tidegate-generation");

/// Names the mirror on a copy: a copy is not copied again.
pub(super) const SHADOW: HeaderName = HeaderName::from_static("x-tidegate-shadow");

/// What the endpoint is told about the client, and who says so.
pub(super) struct Origin<'a> {
    /// The peer of the connection.
    pub(super) client: IpAddr,
    /// How it came.
    pub(super) security: Security,
    /// Whether the peer is one of ours, whose own headers are believed.
    pub(super) trusted: bool,
    /// The host that the client named.
    pub(super) host: &'a str,
    /// Whether `Forwarded` is sent.
    pub(super) forwarded: bool,
    /// The id to give to a request that has none.
    pub(super) new_id: u128,
}

/// Whether an address is in one of these networks.
pub(super) fn is_trusted(client: IpAddr, networks: &[Network]) -> bool {
    let client = client.to_canonical();
    networks.iter().any(|network| match (client, network.address.to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(net)) => {
            same_prefix(client.to_bits().into(), net.to_bits().into(), 32, network)
        }
        (IpAddr::V6(client), IpAddr::V6(net)) => same_prefix(client.to_bits(), net.to_bits(), 128, network),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    })
}

fn same_prefix(a: u128, b: u128, bits: u32, network: &Network) -> bool {
    let rest = bits.saturating_sub(network.prefix.into());
    (a ^ b).checked_shr(rest).unwrap_or(0) == 0
}

/// Prepares a request's headers for its endpoint. Returns the id of the request: that of an earlier attempt, that of a
/// trusted peer, or a new one.
pub(super) fn to_endpoint(
    head: &mut RequestHeader,
    origin: &Origin<'_>,
    earlier_id: Option<&HeaderValue>,
) -> Result<HeaderValue> {
    remove(head, |name| is_withheld(name, origin.trusted));
    remove_pin_cookie(head)?;
    let client = HeaderValue::try_from(origin.client.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
    let chain = appended(&head.headers, &FORWARDED_FOR, &client);
    head.insert_header(FORWARDED_FOR, chain)?;
    let proto = match origin.security {
        Security::Clear => "http",
        Security::Tls => "https",
    };
    if !head.headers.contains_key(FORWARDED_PROTO) {
        head.insert_header(FORWARDED_PROTO, HeaderValue::from_static(proto))?;
    }
    if !head.headers.contains_key(FORWARDED_HOST) && !origin.host.is_empty() {
        head.insert_header(FORWARDED_HOST, origin.host)?;
    }
    if origin.forwarded {
        let element = forwarded_element(origin, proto);
        if let Ok(element) = HeaderValue::try_from(element) {
            let chain = appended(&head.headers, &header::FORWARDED, &element);
            head.insert_header(header::FORWARDED, chain)?;
        }
    }
    let id = match earlier_id.or_else(|| head.headers.get(REQUEST_ID).filter(|id| !id.is_empty())) {
        Some(id) => id.clone(),
        None => {
            let text = VisitorText::new(origin.new_id);
            HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static("none"))
        }
    };
    head.insert_header(REQUEST_ID, id.clone())?;
    Ok(id)
}

/// Tells the endpoint the flags that are sent to its target. A client's own copies never pass, whoever it is and
/// whether or not the flag goes to this target.
pub(super) fn tell_flags(
    head: &mut RequestHeader,
    flags: &FlagTable,
    service: &ServiceId,
    target: &TargetId,
    subject: &Subject<'_>,
) -> Result<()> {
    remove(head, |name| flags.owns_header(name));
    flags.headers(service, target, subject).try_for_each(|(name, value)| head.insert_header(name, value))
}

/// Whether a client's header is not passed on: a claim about the client, or a word to us.
fn is_withheld(name: &str, trusted: bool) -> bool {
    let is = |wanted: &str| name.len() == wanted.len() && begins(name, wanted);
    let claim = begins(name, "x-forwarded-") || is("forwarded") || is("x-real-ip") || is("x-request-id");
    let word = begins(name, "x-tidegate-");
    // Even a trusted proxy sends no aliases, and secrets are for us alone.
    let never = name.contains('_') || name == PIN_HEADER || name == TOKEN_HEADER || name == BRACKET_HEADER;
    (claim || word) && (never || !trusted)
}

/// Whether a header's name (lower case) begins with `prefix`, an underscore being a dash.
fn begins(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

fn remove(head: &mut RequestHeader, withheld: impl Fn(&str) -> bool) {
    // Most requests have none, and then nothing is allocated.
    let names: Vec<HeaderName> = head.headers.keys().filter(|name| withheld(name.as_str())).cloned().collect();
    for name in names {
        head.remove_header(&name);
    }
}

fn remove_pin_cookie(head: &mut RequestHeader) -> Result<()> {
    if cookies::first(&head.headers, PIN_COOKIE).is_none() {
        return Ok(());
    }
    let left: Vec<_> =
        head.headers.get_all(header::COOKIE).iter().filter_map(|value| cookies::without(value, PIN_COOKIE)).collect();
    head.remove_header(&header::COOKIE);
    left.into_iter().try_for_each(|value| head.append_header(header::COOKIE, value).map(drop))
}

/// A list's values as they are, and one more at its end.
fn appended(headers: &HeaderMap, name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    if !headers.contains_key(name) {
        return value.clone();
    }
    let mut list = Vec::new();
    for part in headers.get_all(name).iter().chain([value]) {
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(part.as_bytes());
    }
    HeaderValue::from_bytes(&list).unwrap_or_else(|_| value.clone())
}

/// One hop in the syntax of RFC 7239.
fn forwarded_element(origin: &Origin<'_>, proto: &str) -> String {
    let client = match origin.client {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    // A host that has been routed holds no quotes.
    format!("for={client};host=\"{}\";proto={proto}", origin.host)
}

/// Makes the request's target what the endpoint is to see: origin form, without a stripped prefix, of which a header
/// tells. A proxy before us that is believed may have stripped one itself: its header stays, before ours.
pub(super) fn set_target(head: &mut RequestHeader, strip: usize) -> Result<()> {
    let prefix = head.uri.path().get(..strip).unwrap_or_default().trim_end_matches('/');
    if let Some(value) = HeaderValue::from_bytes(prefix.as_bytes()).ok().filter(|prefix| !prefix.is_empty()) {
        head.append_header(FORWARDED_PREFIX, value)?;
    }
    cut_target(head, strip);
    Ok(())
}

fn cut_target(head: &mut RequestHeader, strip: usize) {
    // `OPTIONS *` is about the whole server, and has no other form.
    if head.raw_path() == b"*" || (strip == 0 && head.raw_path().starts_with(b"/")) {
        return;
    }
    let path = head.uri.path();
    let left = path.get(strip..).unwrap_or(path);
    let left = if left.is_empty() { "/" } else { left };
    let target = match head.uri.query() {
        Some(query) => format!("{left}?{query}"),
        None => left.to_owned(),
    };
    let Ok(target) = PathAndQuery::try_from(target) else { return };
    let mut parts = http::uri::Parts::default();
    if head.version == Version::HTTP_2 {
        parts.scheme = head.uri.scheme().cloned();
        parts.authority = head.uri.authority().cloned();
    }
    parts.path_and_query = Some(target);
    if let Ok(uri) = Uri::from_parts(parts) {
        head.set_uri(uri);
    }
}

/// What a visitor's cookie says.
pub(super) struct VisitorCookie<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// How long it lives, in seconds.
    pub(super) max_age_s: u64,
    /// How the client came.
    pub(super) security: Security,
}

/// The `Set-Cookie` that gives a new visitor its id.
pub(super) fn set_cookie(visitor: &Visitor, cookie: &VisitorCookie<'_>) -> Option<HeaderValue> {
    let Visitor::New(id) = visitor else { return None };
    let secure = match cookie.security {
        Security::Clear => "",
        Security::Tls => "; Secure",
    };
    let text = format!(
        "{}={}; Max-Age={}; Path=/; HttpOnly; SameSite=Lax{secure}",
        cookie.name,
        VisitorText::new(*id),
        cookie.max_age_s
    );
    HeaderValue::try_from(text).ok()
}

/// Prepares the head of an answer for a client that speaks this version. pingora adds `Connection` of its own.
pub(super) fn to_client(head: &mut ResponseHeader, client: Version, tunnel: bool) -> Result<()> {
    if tunnel {
        return Ok(());
    }
    for name in nominated(&head.headers) {
        head.remove_header(&name);
    }
    for name in ["connection", "keep-alive", "proxy-connection", "te", "upgrade"] {
        head.remove_header(name);
    }
    if client < Version::HTTP_2 {
        // Trailers are not passed on to HTTP/1 clients.
        head.remove_header(&header::TRAILER);
        head.set_version(Version::HTTP_11);
    }
    if client < Version::HTTP_11 {
        // Such a client knows no chunks: its answer ends with the connection.
        head.remove_header(&header::TRANSFER_ENCODING);
    }
    Ok(())
}

/// Names the target and the generation on an answer.
pub(super) fn expose(head: &mut ResponseHeader, target: &str, generation: u64) -> Result<()> {
    head.insert_header(PIN_HEADER, target)?;
    head.insert_header(GENERATION, generation)
}

/// Headers that `Connection` says belong to the connection. What frames the message is not for an endpoint to hide.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING)
        .collect()
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
