//! One probe of one endpoint, so that health and a switch ask the same question in the same way.
//!
//! One deadline covers everything: connect, TLS, the head and a body that dribbles. Each probe opens its own connection,
//! follows no redirect, and closes its socket however it ends. What the endpoint answers never gets into a failure's
//! text: an endpoint must not be able to write into logs and admin answers.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, time::Duration};

use http::{HeaderName, HeaderValue, Method, Request, Uri, header, uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tidegate_config::{ActiveCheck, EndpointAddress, Expect, Host, Probe, Scheme};

use crate::outbound::{self, ConnectError, Connection, Payload, Trust};

/// Bytes of a body that its pattern is looked for in: enough for any health page, little enough to hold for each probe.
const BODY_LOOKED_AT: usize = 64 * 1024;

/// Who asks.
const USER_AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"), " (health)");

/// Why a probe failed. The text is short and for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeFailure {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The deadline passed.
    #[error("{waited_for} within {timeout:?}")]
    Timeout {
        /// What was missing at that time.
        waited_for: Stage,
        /// The deadline.
        timeout: Duration,
    },
    /// The connection ended before the answer did, or the answer was not HTTP.
    #[error("{0}")]
    Answer(BadAnswer),
    /// The status is none of the expected ones.
    #[error("status {status}, expected {}", ranges(.expected))]
    Status {
        /// What came.
        status: u16,
        /// What may come.
        expected: Vec<RangeInclusive<u16>>,
    },
    /// The body does not hold the expected pattern.
    #[error("the body does not match {pattern:?}")]
    Body {
        /// The pattern.
        pattern: String,
    },
    /// The check cannot be sent.
    #[error("the check's {0} is not valid in a request")]
    Check(&'static str),
}

/// How far a probe has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It connects.
    Connecting,
    /// It waits for the head of the answer.
    Waiting,
    /// It reads the body of the answer.
    Reading,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "no connection",
            Self::Waiting => "no answer",
            Self::Reading => "no complete body",
        })
    }
}

/// How an answer was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    /// The connection was closed or reset first.
    Cut,
    /// It was not HTTP.
    NotHttp,
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "the connection was closed before the answer was complete",
            Self::NotHttp => "the answer is not HTTP",
        })
    }
}

impl From<hyper::Error> for ProbeFailure {
    fn from(error: hyper::Error) -> Self {
        Self::Answer(if error.is_parse() { BadAnswer::NotHttp } else { BadAnswer::Cut })
    }
}

/// "200-399, 401".
fn ranges(expected: &[RangeInclusive<u16>]) -> String {
    let one = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    expected.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Probes an endpoint once. `sockets` are the resolved addresses of an endpoint that is given by name.
pub(crate) async fn probe(
    address: &EndpointAddress,
    sockets: &[SocketAddr],
    check: &ActiveCheck,
) -> Result<(), ProbeFailure> {
    probe_trusting(address, sockets, &check.probe, check.timeout, None).await
}

/// Opens a connection to an endpoint once and closes it: what is asked of a service without an active health check.
pub(crate) async fn probe_connect(
    address: &EndpointAddress,
    sockets: &[SocketAddr],
    timeout: Duration,
) -> Result<(), ProbeFailure> {
    probe_trusting(address, sockets, &Probe::Tcp, timeout, None).await
}

/// [`probe`], with certificates of one's own to trust.
async fn probe_trusting(
    address: &EndpointAddress,
    sockets: &[SocketAddr],
    probe: &Probe,
    timeout: Duration,
    trust: Option<&Trust>,
) -> Result<(), ProbeFailure> {
    let mut stage = Stage::Connecting;
    let asked = async {
        match probe {
            Probe::Tcp => outbound::open(address, sockets).await.map(drop).map_err(ProbeFailure::from),
            Probe::Http { method, path, host, headers, expect } => {
                let request = Asked { method, path, host: host.as_deref(), headers };
                let connection = outbound::connect(address, sockets, trust).await?;
                exchange(connection, address, request, expect, &mut stage).await
            }
        }
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(verdict) => verdict,
        Err(_) => Err(ProbeFailure::Timeout { waited_for: stage, timeout }),
    }
}

/// What an HTTP check asks for, as it is configured.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    host: Option<&'a str>,
    headers: &'a std::collections::BTreeMap<String, String>,
}

async fn exchange(
    mut connection: Connection,
    address: &EndpointAddress,
    asked: Asked<'_>,
    expect: &Expect,
    stage: &mut Stage,
) -> Result<(), ProbeFailure> {
    let request = asked.request(address, connection.is_http2())?;
    *stage = Stage::Waiting;
    let answer = connection.send(request).await.map_err(|failed| failed.error)?;
    let status = answer.status().as_u16();
    if !expect.status.iter().any(|range| range.contains(&status)) {
        return Err(ProbeFailure::Status { status, expected: expect.status.clone() });
    }
    // Without a pattern the head says it all: an endless body is no reason to call an endpoint dead.
    let Some(pattern) = &expect.body else { return Ok(()) };
    *stage = Stage::Reading;
    let body = first_bytes(answer.into_body()).await?;
    if pattern.is_match(&String::from_utf8_lossy(&body)) {
        return Ok(());
    }
    Err(ProbeFailure::Body { pattern: pattern.as_str().to_owned() })
}

/// The first [`BODY_LOOKED_AT`] bytes of a body, or all of a shorter one.
async fn first_bytes(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut kept = Vec::new();
    while kept.len() < BODY_LOOKED_AT {
        let Some(frame) = body.frame().await.transpose()? else { break };
        if let Some(data) = frame.data_ref() {
            let wanted = data.len().min(BODY_LOOKED_AT - kept.len());
            kept.extend_from_slice(data.get(..wanted).unwrap_or_default());
        }
    }
    Ok(kept)
}

impl Asked<'_> {
    fn request(&self, address: &EndpointAddress, http2: bool) -> Result<Request<Payload>, ProbeFailure> {
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| ProbeFailure::Check("method"))?;
        let path: uri::PathAndQuery = self.path.parse().map_err(|_| ProbeFailure::Check("path"))?;
        let host = self.host.map_or_else(|| default_host(address), str::to_owned);
        let mut target = uri::Parts::default();
        target.path_and_query = Some(path);
        if http2 {
            target.scheme = Some(match address.scheme {
                Scheme::Https => uri::Scheme::HTTPS,
                Scheme::Http | Scheme::H2c => uri::Scheme::HTTP,
            });
            target.authority = Some(host.parse().map_err(|_| ProbeFailure::Check("host"))?);
        }
        let uri = Uri::from_parts(target).map_err(|_| ProbeFailure::Check("path"))?;
        let mut request = Request::new(Payload::default());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if !http2 {
            let value = HeaderValue::try_from(host).map_err(|_| ProbeFailure::Check("host"))?;
            headers.insert(header::HOST, value);
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        for (name, value) in self.headers {
            let name = HeaderName::try_from(name).map_err(|_| ProbeFailure::Check("headers"))?;
            let value = HeaderValue::try_from(value).map_err(|_| ProbeFailure::Check("headers"))?;
            headers.insert(name, value);
        }
        Ok(request)
    }
}

/// The host of a check that names none: the endpoint's own.
fn default_host(address: &EndpointAddress) -> String {
    match &address.host {
        Host::Ip(socket) => socket.to_string(),
        Host::Name(name, port) => format!("{name}:{port}"),
        Host::Unix(_) => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests;
