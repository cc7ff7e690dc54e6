//! The access log: one event per sampled request, with the target `access`. Off unless the file asks for it.
//!
//! Never holds a header but the host, never a query: secrets live there.

use std::{net::IpAddr, time::Duration};

use http::Method;
use tidegate_config::EndpointAddress;

/// What is logged of a request.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// The peer.
    pub(crate) client: Option<IpAddr>,
    /// Its method.
    pub(crate) method: &'a Method,
    /// The host that it names.
    pub(crate) host: Option<&'a str>,
    /// Its path, without the query.
    pub(crate) path: &'a str,
    /// Version of HTTP.
    pub(crate) http: &'static str,
    /// Status of the answer, if there was one.
    pub(crate) status: Option<u16>,
    /// Why Tidegate answered itself.
    pub(crate) reject: Option<&'static str>,
    /// The service.
    pub(crate) service: Option<&'a str>,
    /// The target.
    pub(crate) target: Option<&'a str>,
    /// Why that target.
    pub(crate) reason: Option<&'static str>,
    /// The endpoint.
    pub(crate) endpoint: Option<&'a EndpointAddress>,
    /// Attempts that were made.
    pub(crate) attempts: usize,
    /// Bytes of the request's body.
    pub(crate) received: usize,
    /// Bytes of the answer's body.
    pub(crate) sent: usize,
    /// From the head of the request to the end of the answer.
    pub(crate) elapsed: Duration,
    /// The request's id.
    pub(crate) request_id: Option<&'a str>,
    /// The generation that it was decided on.
    pub(crate) generation: Option<u64>,
}

/// Whether this request is in the sample.
pub(crate) fn is_wanted(sample: f64) -> bool {
    sample > 0.0 && (sample >= 1.0 || rand::random::<f64>() < sample)
}

/// Logs a request.
pub(crate) fn write(entry: &Entry<'_>) {
    tracing::info!(
        target: "access",
        client = entry.client.map(tracing::field::display),
        method = entry.method.as_str(),
        host = entry.host,
        path = entry.path,
        http = entry.http,
        status = entry.status,
        reject = entry.reject,
        service = entry.service,
        target = entry.target,
        reason = entry.reason,
        endpoint = entry.endpoint.map(tracing::field::display),
        attempts = entry.attempts,
        received_bytes = entry.received,
        sent_bytes = entry.sent,
        duration_us = u64::try_from(entry.elapsed.as_micros()).unwrap_or(u64::MAX),
        request_id = entry.request_id,
        generation = entry.generation,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_nothing_is_nothing_and_of_everything_everything() {
        assert!((0..1000).all(|_| !is_wanted(0.0)));
        assert!((0..1000).all(|_| is_wanted(1.0)));
    }
}
