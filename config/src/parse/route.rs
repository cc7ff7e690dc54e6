//! Hosts and paths of routes, in the one form that requests are compared with.

use std::net::Ipv6Addr;

use super::{
    read::{Node, Table, quoted},
    scalar::truth,
};
use crate::{RouteHost, RouteSpec};

/// A route. `None` when it is wrong: a default in its place could seem to be another service's.
pub(super) fn route(t: &mut Table<'_>) -> Option<RouteSpec> {
    let host = t.get_or("host", RouteHost::Any, host);
    let path = t.get_or("path", String::from("/"), path);
    let strip = t.get("strip", truth).unwrap_or(false);
    Some(RouteSpec { host: host?, path: path?, strip })
}

/// `*`, `*.suffix` or a host.
fn host(node: Node<'_>) -> Option<RouteHost> {
    node.parsed(|text| match text {
        "*" => Ok(RouteHost::Any),
        _ => match text.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') => {
                let name = suffix.trim_start_matches('.');
                host_name(name).map(|name| RouteHost::Suffix(format!(".{name}")))
            }
            Some(_) => Err(format!("{} has its '*' in the wrong place: write *.example.com or *", quoted(text))),
            None => host_name(text).map(RouteHost::Exact),
        },
    })
}

/// A host's name or address, lower case, without port or trailing dot.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let bad = |why: &str| Err(format!("{} is not a host: {why}", quoted(text)));
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(format!("[{address}]")),
            Err(_) => bad("there is no IPv6 address between the brackets"),
        };
    }
    if !text.is_ascii() {
        return bad("write its ASCII form (xn--...)");
    }
    if text.contains("://") || text.contains('/') {
        return bad("write only the name, without scheme and path");
    }
    if text.contains(':') {
        return bad("leave the port out, and write an IPv6 address in brackets");
    }
    if text.ends_with('.') {
        return bad("leave the trailing dot out");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() > 253 || !text.split('.').all(label) {
        return bad("write labels of letters, digits and '-' with a dot between them");
    }
    Ok(text.to_ascii_lowercase())
}

/// A path prefix, in its one form: two spellings of a path are the same path, and match the same requests.
pub(super) fn path(node: Node<'_>) -> Option<String> {
    node.parsed(|text| path_prefix(text).map_err(|why| format!("{} is not a path prefix: {why}", quoted(text))))
}

fn path_prefix(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("begin it with '/'");
    }
    if text == "/" {
        return Ok(text.into());
    }
    if text.ends_with('/') {
        return Err("leave the trailing '/' out, it matches everything below it anyway");
    }
    if text.contains(['?', '#']) {
        return Err("leave query and fragment out");
    }
    if text.contains('\\') || text.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err("write other than plain characters as %XX");
    }
    if text.contains("//") {
        return Err("it has an empty segment ('//')");
    }
    let (canonical, plain) = unescape(text).ok_or("a '%' is followed by two hexadecimal digits, not by 00")?;
    // A request that an origin might resolve to another path is refused, so a route for it would never match.
    let mut segments = plain.split(['/', '\\']).map(|segment| segment.split(';').next().unwrap_or_default());
    if segments.any(|segment| matches!(segment, "." | "..")) {
        return Err("no request ever has '.' or '..' as a segment");
    }
    Ok(canonical)
}

/// The text with escapes only where they are needed (RFC 3986, 2.3), in upper case, and the text without any.
fn unescape(text: &str) -> Option<(String, String)> {
    let (first, rest) = text.split_once('%').unwrap_or((text, ""));
    let (mut canonical, mut plain) = (String::from(first), String::from(first));
    if first.len() == text.len() {
        return Some((canonical, plain));
    }
    for part in rest.split('%') {
        let (digits, tail) = part.split_at_checked(2)?;
        let digits = digits.bytes().all(|b| b.is_ascii_hexdigit()).then_some(digits)?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(|byte| *byte != 0)?;
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if unreserved {
            canonical.push(char::from(byte));
        } else {
            canonical.push('%');
            canonical.push_str(&digits.to_ascii_uppercase());
        }
        plain.push(char::from(byte));
        canonical.push_str(tail);
        plain.push_str(tail);
    }
    Some((canonical, plain))
}
