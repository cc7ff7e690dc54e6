//! What a decision needs to know of a request: a view, so that every lane and every test decides by the same function.

use std::net::IpAddr;

use http::{HeaderMap, Method};

use crate::snapshot::ListenerIdx;

/// Looks headers up by their lower-case name.
pub trait Headers {
    /// The first value of a header.
    fn first(&self, name: &str) -> Option<&[u8]>;
    /// Calls `each` for every value of a header until it returns `false`.
    fn visit<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8]) -> bool);
}

impl Headers for HeaderMap {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(http::HeaderValue::as_bytes)
    }

    fn visit<'a>(&'a self, name: &str, each: &mut dyn FnMut(&'a [u8]) -> bool) {
        for value in self.get_all(name) {
            if !each(value.as_bytes()) {
                return;
            }
        }
    }
}

/// The head of a request.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// The listener that it came in by.
    pub listener: ListenerIdx,
    /// Its method.
    pub method: &'a Method,
    /// Its host as the client wrote it: any case, perhaps with a port.
    pub host: &'a str,
    /// Its path as the client wrote it, without the query.
    pub path: &'a str,
    /// Its query, without the `?`.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// When it came, in seconds since the Unix epoch: rules of flags may ask.
    pub unix_s: u64,
    /// Whether the caller has checked that the pin which the request carries is authorised.
    pub pin_authorised: bool,
}
