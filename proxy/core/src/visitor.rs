//! Who a sticky decision is about.

use std::{fmt, net::IpAddr};

use tidegate_config::Sticky;

use crate::{
    decide::Visitor,
    request::{Headers, RequestHead},
};

/// Longest visitor id that is taken from our cookie. Ours have 32 characters; people may set their own.
pub const MAX_VISITOR: usize = 128;

/// The text of a new visitor's id: 32 hexadecimal digits. What the cookie holds, and what the hash is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisitorText([u8; 32]);

impl VisitorText {
    /// The text of an id.
    pub fn new(id: u128) -> Self {
        let mut shift = 128;
        Self([(); 32].map(|()| {
            shift -= 4;
            match (id >> shift) as u8 & 0xf {
                digit @ 0..=9 => b'0' + digit,
                digit => b'a' + digit - 10,
            }
        }))
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for VisitorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::str::from_utf8(&self.0).map_err(|_| fmt::Error)?.fmt(f)
    }
}

/// Who flags are about: the visitor, else the client's address, so that everybody falls into some share.
#[derive(Debug, Clone, Copy)]
pub enum Who<'a> {
    /// A visitor who brought an id.
    Known(&'a [u8]),
    /// A new visitor.
    New(VisitorText),
    /// A client whom only its address tells.
    Address(AddressText),
    /// Nobody.
    Unknown,
}

/// The text of an address, up to the longest.
#[derive(Debug, Clone, Copy)]
pub struct AddressText {
    bytes: [u8; 45],
    length: usize,
}

impl<'a> Who<'a> {
    /// Who a request was decided for, when the decision is this.
    pub fn of(sticky: Option<&Sticky>, head: &RequestHead<'a>, visitor: &Visitor) -> Self {
        match (visitor, sticky) {
            (Visitor::New(id), _) => Self::New(VisitorText::new(*id)),
            (Visitor::Known, Some(sticky)) => known(sticky, head.headers).map_or(Self::Unknown, Self::Known),
            (Visitor::Known | Visitor::None, _) => Self::by_address(head.client),
        }
    }

    /// A client whom only its address tells.
    pub(crate) fn by_address(address: Option<IpAddr>) -> Self {
        let Some(address) = address else { return Self::Unknown };
        let mut text = AddressText { bytes: [0; 45], length: 0 };
        match fmt::write(&mut text, format_args!("{address}")) {
            Ok(()) => Self::Address(text),
            Err(fmt::Error) => Self::Unknown,
        }
    }

    /// The id.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Known(id) => Some(id),
            Self::New(text) => Some(text.as_bytes()),
            Self::Address(text) => text.bytes.get(..text.length),
            Self::Unknown => None,
        }
    }
}

impl fmt::Write for AddressText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.length.saturating_add(part.len());
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// The id that a request brings: the value of the configured header, else of our cookie if that could be an id.
pub(crate) fn known<'a>(sticky: &Sticky, headers: &'a dyn Headers) -> Option<&'a [u8]> {
    let from_header = sticky.header.as_deref().and_then(|name| headers.first(name)).filter(|value| !value.is_empty());
    from_header.or_else(|| {
        let mut found = None;
        visit_cookie(headers, &sticky.cookie, &mut |value| {
            let id = (1..=MAX_VISITOR).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
            found = id.then_some(value);
            found.is_none()
        });
        found
    })
}

/// Calls `each` for every value of a cookie, in every `Cookie` header, until it returns `false`.
pub(crate) fn visit_cookie<'a>(headers: &'a dyn Headers, name: &str, each: &mut dyn FnMut(&'a [u8]) -> bool) {
    headers.visit("cookie", &mut |header| {
        for pair in header.split(|byte| *byte == b';') {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let Some(value) = value
                && !each(value)
            {
                return false;
            }
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use std::time::Duration;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
            (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn check(pairs: &[(&str, &str)], expected: Option<&str>) {
        let sticky = Sticky { cookie: "tidegate".into(), header: Some("x-user".into()), max_age: Duration::ZERO };
        let headers = headers(pairs);
        assert_eq!(known(&sticky, &headers), expected.map(str::as_bytes), "{pairs:?}");
    }

    #[test]
    fn header_comes_before_cookie() {
        check(&[("x-user", "ann"), ("cookie", "tidegate=bob")], Some("ann"));
        check(&[("x-user", ""), ("cookie", "tidegate=bob")], Some("bob"));
        check(&[("cookie", "tidegate=bob")], Some("bob"));
        check(&[], None);
    }

    #[test]
    fn cookie_is_found_wherever_it_stands() {
        check(&[("cookie", "a=1; tidegate=bob; c=2")], Some("bob"));
        check(&[("cookie", "a=1;tidegate=bob")], Some("bob"));
        check(&[("cookie", "a=1"), ("cookie", "b=2; tidegate=bob")], Some("bob"));
        check(&[("cookie", "tidegate=a=b")], Some("a=b"));
        check(&[("cookie", "xtidegate=bob; tidegatex=bob; tidegate; Tidegate=bob")], None);
    }

    #[test]
    fn cookie_that_cannot_be_an_id_is_not_one() {
        check(&[("cookie", "tidegate=")], None);
        check(&[("cookie", "tidegate=a b")], None);
        check(&[("cookie", &format!("tidegate={}", "x".repeat(MAX_VISITOR + 1)))], None);
        check(&[("cookie", "tidegate=; tidegate=bob")], Some("bob"));
        let longest = "x".repeat(MAX_VISITOR);
        check(&[("cookie", &format!("tidegate={longest}"))], Some(&longest));
    }

    #[test]
    fn text_of_an_id_is_32_hexadecimal_digits() {
        for id in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210] {
            assert_eq!(VisitorText::new(id).to_string(), format!("{id:032x}"));
        }
    }
}
