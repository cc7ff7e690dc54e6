//! Hosts of requests: parsed once to the one form in which routes are compared, without allocating.

use std::{
    io::{Cursor, Write},
    net::Ipv6Addr,
};

/// Longest name of a host (RFC 1035), and so of any host.
pub const MAX_HOST: usize = 253;

/// Why a text is not a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHost;

/// Room for a host that has to be rewritten.
pub type HostBuffer = [u8; MAX_HOST];

/// An empty [`HostBuffer`].
pub const HOST_BUFFER: HostBuffer = [0; MAX_HOST];

/// What a byte means to [`canonical`]; other bytes of names have no bit.
const UPPER: u8 = 1;
const DOT: u8 = 2;
const COLON: u8 = 4;
const BAD: u8 = 8;

// Invariant: the index runs over 0 to 255, and at compile time.
#[expect(clippy::indexing_slicing, reason = "a panic here would be a compile error")]
const CLASSES: [u8; 256] = {
    let mut classes = [BAD; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => 0,
            b'A'..=b'Z' => UPPER,
            b'.' => DOT,
            b':' => COLON,
            _ => BAD,
        };
        byte += 1;
    }
    classes
};

/// The canonical form of a host: lower case, no port, no dot at its end; an IPv6 address in brackets, compressed.
///
/// # Errors
/// [`BadHost`] when it is neither a name nor an address, or its port is no port.
pub fn canonical<'a>(raw: &'a str, buffer: &'a mut HostBuffer) -> Result<&'a str, BadHost> {
    if let Some(rest) = raw.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(BadHost)?;
        check_port(port)?;
        return bracketed(address, buffer);
    }
    let mut seen = 0;
    let mut empty_label = 0;
    let mut end = raw.len();
    let mut before = DOT;
    for (at, byte) in raw.bytes().enumerate() {
        let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(BAD);
        if class & (BAD | COLON) != 0 {
            end = at;
            break;
        }
        seen |= class;
        empty_label |= class & before & DOT;
        before = class;
    }
    let (name, port) = raw.split_at(end);
    check_port(port)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > MAX_HOST || empty_label != 0 {
        return Err(BadHost);
    }
    if seen & UPPER == 0 {
        return Ok(name);
    }
    let lower = buffer.get_mut(..name.len()).ok_or(BadHost)?;
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).map_err(|_| BadHost)
}

/// The canonical form of a host in a file, where an IPv6 address may stand without brackets.
pub fn canonical_host(text: &str) -> String {
    let mut buffer = HOST_BUFFER;
    if text.parse::<Ipv6Addr>().is_ok()
        && let Ok(host) = bracketed(text, &mut buffer)
    {
        return host.into();
    }
    canonical(text, &mut buffer).map_or_else(|_| text.to_ascii_lowercase(), String::from)
}

fn bracketed<'a>(address: &str, buffer: &'a mut HostBuffer) -> Result<&'a str, BadHost> {
    let address = address.parse::<Ipv6Addr>().map_err(|_| BadHost)?;
    let mut cursor = Cursor::new(buffer.as_mut_slice());
    write!(cursor, "[{address}]").map_err(|_| BadHost)?;
    let length = usize::try_from(cursor.position()).map_err(|_| BadHost)?;
    buffer.get(..length).and_then(|text| std::str::from_utf8(text).ok()).ok_or(BadHost)
}

/// Nothing, or a colon and a port; RFC 9110 lets the port be empty.
fn check_port(port: &str) -> Result<(), BadHost> {
    let Some(digits) = port.strip_prefix(':') else {
        return if port.is_empty() { Ok(()) } else { Err(BadHost) };
    };
    let valid =
        digits.is_empty() || (digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok());
    if valid { Ok(()) } else { Err(BadHost) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(&str, Option<&str>)]) {
        for (raw, expected) in cases {
            let mut buffer = HOST_BUFFER;
            assert_eq!(canonical(raw, &mut buffer).ok(), *expected, "{raw:?}");
        }
    }

    #[test]
    fn case_port_and_trailing_dot_do_not_matter() {
        check(&[
            ("example.com", Some("example.com")),
            ("EXAMPLE.Com", Some("example.com")),
            ("example.com:80", Some("example.com")),
            ("example.com.:80", Some("example.com")),
            ("eXample.com.", Some("example.com")),
            ("example.com:", Some("example.com")),
            ("127.0.0.1:65535", Some("127.0.0.1")),
            ("my_host-1", Some("my_host-1")),
            ("[::1]:8080", Some("[::1]")),
            ("[0:0:0:0:0:0:0:1]", Some("[::1]")),
            ("[2001:DB8::A]", Some("[2001:db8::a]")),
        ]);
    }

    #[test]
    fn malformed_hosts_are_refused() {
        let long = "a".repeat(MAX_HOST + 1);
        for raw in [
            "",
            ".",
            ":80",
            "a b",
            "a/b",
            "a\\b",
            "a@b",
            "a\u{0}",
            "a\tb",
            "a%20b",
            "a,b",
            "a?b",
            "a#b",
            "é",
            "a..b",
            ".a",
            "a..",
            "*.a",
            "a:x",
            "a:80:80",
            "a:65536",
            "a:-1",
            "a:+1",
            "a: 1",
            "[::1",
            "[::1]80",
            "[::1]:x",
            "[]",
            "[a]",
            "::1",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            &long,
        ] {
            check(&[(raw, None)]);
        }
        check(&[(&long[1..], Some(&long[1..]))]);
    }

    #[test]
    fn hosts_of_files_take_the_same_form() {
        for (text, expected) in [("::1", "[::1]"), ("[::1]", "[::1]"), ("Example.COM", "example.com")] {
            assert_eq!(canonical_host(text), expected);
        }
    }
}
