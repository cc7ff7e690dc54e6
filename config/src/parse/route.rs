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

/// A path prefix.
pub(super) fn path(node: Node<'_>) -> Option<String> {
    node.parsed(path_prefix)
}

fn path_prefix(text: &str) -> Result<String, String> {
    let bad = |why: &str| Err(format!("{} is not a path prefix: {why}", quoted(text)));
    if !text.starts_with('/') {
        return bad("begin it with '/'");
    }
    if text == "/" {
        return Ok(text.into());
    }
    if text.ends_with('/') {
        return bad("leave the trailing '/' out, it matches everything below it anyway");
    }
    if text.contains(['?', '#']) {
        return bad("leave query and fragment out");
    }
    if text.bytes().any(|b| !b.is_ascii_graphic()) {
        return bad("write other than plain characters as %XX");
    }
    for segment in text.split('/').skip(1) {
        // A client may write a dot as %2e, and it means the same.
        match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
            "" => return bad("it has an empty segment ('//')"),
            "." | ".." => return bad("no request ever has '.' or '..' as a segment"),
            _ => {}
        }
        let mut rest = segment;
        while let Some((_, after)) = rest.split_once('%') {
            if !after.get(..2).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
                return bad("a '%' is followed by two hexadecimal digits");
            }
            rest = after;
        }
    }
    Ok(text.into())
}
