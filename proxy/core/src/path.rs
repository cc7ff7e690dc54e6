//! Paths of requests: what routing sees and what an origin could see must be the same.
//!
//! A path that an origin might resolve to another one (dot segments in any spelling, backslashes, broken escapes) is
//! refused. The path itself is forwarded as it came; its canonical form is only for matching.

use std::borrow::Cow;

/// Why a path is not routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPath;

/// A path that is safe to route.
///
/// Canonical: begins with `/`, no `//`, unreserved characters (RFC 3986, 2.3) not escaped, escapes in upper case.
/// An escaped slash stays escaped: it is part of its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPath<'a> {
    raw: &'a str,
    canonical: Cow<'a, str>,
}

impl<'a> RequestPath<'a> {
    /// Parses the path of a request, without its query.
    ///
    /// # Errors
    /// [`BadPath`] when an origin might see another path than routing does.
    pub fn parse(raw: &'a str) -> Result<Self, BadPath> {
        if raw.is_empty() || raw == "*" {
            // The absolute form of an origin's root, and `OPTIONS *`: both are about the whole origin.
            return Ok(Self { raw, canonical: Cow::Borrowed("/") });
        }
        if !raw.starts_with('/') {
            return Err(BadPath);
        }
        match glance(raw.as_bytes()) {
            Glance::Plain => return Ok(Self { raw, canonical: Cow::Borrowed(raw) }),
            Glance::Look => (),
            Glance::Bad => return Err(BadPath),
        }
        check_escapes(raw.as_bytes())?;
        if raw.split('/').any(hides_dots) {
            return Err(BadPath);
        }
        Ok(Self { raw, canonical: canonical(raw) })
    }

    /// The form that routes and rules are matched against.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Whether the path is `prefix` or lies below it. A prefix is canonical, without a slash at its end.
    pub fn is_below(&self, prefix: &str) -> bool {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        self.canonical.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// How many bytes of the path as it came belong to its first `segments` segments.
    ///
    /// What remains after them is empty or begins with exactly one slash: `//host` is a path here, but a host to others.
    pub fn strip(&self, segments: usize) -> usize {
        if segments == 0 {
            return 0;
        }
        let bytes = self.raw.as_bytes();
        let mut found = 0;
        let mut inside = false;
        let mut end = bytes.len();
        for (at, byte) in bytes.iter().enumerate() {
            match (*byte == b'/', inside) {
                (false, false) => inside = true,
                (true, true) => {
                    inside = false;
                    found += 1;
                    if found == segments {
                        end = at;
                        break;
                    }
                }
                (true, false) | (false, true) => (),
            }
        }
        let slashes = bytes.iter().skip(end).take_while(|byte| **byte == b'/').count();
        end + slashes.saturating_sub(1)
    }
}

/// The canonical form of a prefix in a file. What can never match stays as it is.
pub fn canonical_prefix(prefix: &str) -> String {
    let canonical = canonical(prefix);
    canonical.strip_suffix('/').unwrap_or(&canonical).into()
}

enum Glance {
    /// Canonical already: nearly every path.
    Plain,
    /// Needs a closer look.
    Look,
    /// Has a byte that no path may have.
    Bad,
}

/// What a byte means to [`glance`]; plain bytes have no bit.
const BAD: u8 = 1;
const ESCAPE: u8 = 2;
/// Must not follow a slash: another slash, or a dot.
const AFTER_SLASH: u8 = 4;
const SLASH: u8 = 8;

// Invariant: the index runs over 0 to 255, and at compile time.
#[expect(clippy::indexing_slicing, reason = "a panic here would be a compile error")]
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            0..=b' ' | 0x7f | b'\\' | b'#' | b'?' => BAD,
            b'%' => ESCAPE,
            b'/' => SLASH | AFTER_SLASH,
            b'.' => AFTER_SLASH,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// One pass without a branch for any byte.
fn glance(bytes: &[u8]) -> Glance {
    let mut seen = 0;
    let mut pairs = 0;
    let mut before = 0;
    for byte in bytes {
        let class = CLASSES.get(usize::from(*byte)).copied().unwrap_or(BAD);
        seen |= class;
        // The bit of a slash, moved to where the next byte says that it must not follow one.
        pairs |= (before >> 1) & class & AFTER_SLASH;
        before = class;
    }
    match (seen & BAD, seen & ESCAPE | pairs) {
        (0, 0) => Glance::Plain,
        (0, _) => Glance::Look,
        (_, _) => Glance::Bad,
    }
}

/// Every `%` begins an escape, and none of them is of NUL.
fn check_escapes(mut rest: &[u8]) -> Result<(), BadPath> {
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let escape = rest.get(at..).unwrap_or_default();
        if unescape(escape).ok_or(BadPath)? == 0 {
            return Err(BadPath);
        }
        rest = escape.get(3..).unwrap_or_default();
    }
    Ok(())
}

/// The byte of an escape that a text begins with.
fn unescape(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether an origin could read `.` or `..` in this segment: escaped, before parameters (`..;x`), or beside an escaped
/// slash, which some origins take for a border.
fn hides_dots(segment: &str) -> bool {
    let mut dots = 0_usize;
    let mut others = false;
    let mut rest = segment.as_bytes();
    let hidden = |dots: usize, others: bool| !others && (dots == 1 || dots == 2);
    let mut parameters = false;
    while let Some((byte, tail)) = rest.split_first() {
        let (byte, tail) = match unescape(rest) {
            Some(byte) => (byte, rest.get(3..).unwrap_or_default()),
            None => (*byte, tail),
        };
        rest = tail;
        match byte {
            b'/' | b'\\' => {
                if hidden(dots, others) {
                    return true;
                }
                (dots, others, parameters) = (0, false, false);
            }
            b';' => parameters = true,
            _ if parameters => (),
            b'.' => dots += 1,
            _ => others = true,
        }
    }
    hidden(dots, others)
}

/// Merges slashes, and writes every escape in its one form. Allocates only when something changes.
fn canonical(raw: &str) -> Cow<'_, str> {
    if is_canonical(raw.as_bytes()) {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(char) = rest.chars().next() {
        let mut length = char.len_utf8();
        match unescape(rest.as_bytes()) {
            Some(byte) if is_unreserved(byte) => {
                text.push(char::from(byte));
                length = 3;
            }
            Some(_) => {
                text.extend(rest.chars().take(3).map(|digit| digit.to_ascii_uppercase()));
                length = 3;
            }
            None if char == '/' && text.ends_with('/') => (),
            None => text.push(char),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Cow::Owned(text)
}

fn is_canonical(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        match (*byte, tail) {
            (b'/', [b'/', ..]) => return false,
            (b'%', [high, low, ..]) => {
                let other = unescape(rest).is_some_and(is_unreserved);
                if other || high.is_ascii_lowercase() || low.is_ascii_lowercase() {
                    return false;
                }
            }
            _ => (),
        }
        rest = tail;
    }
    true
}

#[cfg(test)]
mod tests;
