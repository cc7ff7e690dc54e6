//! Calls of the admin API: one connection and one deadline each.
//!
//! A change is never repeated, because whoever is not sure whether it was made must look first. The exception are calls
//! that carry a key by which the API knows them again.

use std::{fmt, io, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::cli::{
    address::ServerAddress,
    error::{CliError, Problem, TokenGiven},
};

/// Longest time of a whole call. The slowest call is a switch that probes its new target first.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits before a call with a key is sent again: together longer than a restart of the proxy on a busy machine.
const REPEATS: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(600), Duration::from_secs(1)];

/// Longest answer that is read: far above 10,000 services, and still a bound.
const MAX_ANSWER: usize = 256 << 20;

/// A token, kept out of every message.
#[derive(Clone)]
pub(crate) struct ApiToken(String);

impl std::str::FromStr for ApiToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // The text itself must not be in the message: it is a secret.
        match http::HeaderValue::from_str(text) {
            Ok(_) if !text.is_empty() => Ok(Self(text.to_owned())),
            _ => Err("a token is one line of visible characters".into()),
        }
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A client of one admin API.
#[derive(Debug)]
pub(crate) struct Client {
    server: ServerAddress,
    token: Option<ApiToken>,
    deadline: Duration,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// The body.
    pub(crate) body: Option<Body>,
    /// Only if this is still the generation.
    pub(crate) if_match: Option<u64>,
    /// By which the API knows a repeated call: then it may be repeated.
    pub(crate) key: Option<String>,
}

/// What a call carries.
#[derive(Debug)]
pub(crate) enum Body {
    /// A value, as JSON.
    Json(Value),
    /// A document as it is.
    Document {
        /// What it is.
        content_type: &'static str,
        /// Its bytes.
        bytes: Bytes,
    },
}

/// A name as one segment of a path: names of versions may hold anything, such as `registry/web:2`.
pub(crate) fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    // Dots only between others: `..` would be another path.
    let dots = name.bytes().all(|byte| byte == b'.');
    name.bytes()
        .map(|byte| match byte {
            byte if plain(byte) || (byte == b'.' && !dots) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

impl Call {
    /// Reads something.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::of(Method::GET, path, None)
    }

    /// Asks for something.
    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self::of(Method::POST, path, Some(Body::Json(body)))
    }

    /// Puts something.
    pub(crate) fn put(path: impl Into<String>, body: Value) -> Self {
        Self::of(Method::PUT, path, Some(Body::Json(body)))
    }

    /// Removes something.
    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::of(Method::DELETE, path, None)
    }

    fn of(method: Method, path: impl Into<String>, body: Option<Body>) -> Self {
        Self { method, path: path.into(), body, if_match: None, key: None }
    }

    /// Adds a parameter to the query.
    pub(crate) fn ask(&mut self, parameter: &str) {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(parameter);
    }
}

impl Client {
    /// A client of the admin API at this address.
    pub(crate) fn new(server: ServerAddress, token: Option<ApiToken>) -> Self {
        Self { server, token, deadline: DEADLINE }
    }

    /// Makes a call; the answer's body if it succeeded. One with a key is repeated when the connection fails.
    pub(crate) async fn send(&self, call: &Call) -> Result<Bytes, CliError> {
        for pause in REPEATS.iter().filter(|_| call.key.is_some()) {
            match self.send_patiently(call, self.deadline).await {
                Err(CliError::Unreachable { .. } | CliError::Interrupted { .. }) => tokio::time::sleep(*pause).await,
                settled => return settled,
            }
        }
        self.send_patiently(call, self.deadline).await
    }

    /// [`Client::send`] with another deadline.
    pub(crate) async fn send_patiently(&self, call: &Call, deadline: Duration) -> Result<Bytes, CliError> {
        let exchange = async {
            let answer = self.exchange(call, "application/json", None).await?;
            self.body_of(answer).await
        };
        match timeout(deadline, exchange).await.unwrap_or_else(|_| Err(self.too_slow(deadline))) {
            // Whether the proxy got it is not known: whoever asked has to look.
            Err(CliError::Interrupted { server, cause }) if call.method != Method::GET => {
                let cause = format!("{cause}; the change may have been made, see `tidegate status`");
                Err(CliError::Interrupted { server, cause })
            }
            settled => settled,
        }
    }

    /// Reads an answer of this API as a value.
    pub(crate) fn decode<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T, CliError> {
        serde_json::from_slice(body).map_err(|error| self.foreign(format!("its answer is not as expected: {error}")))
    }

    /// Opens the stream of events after `last_seen`. Only its beginning has a deadline.
    pub(crate) async fn follow(&self, path: &str, last_seen: Option<u64>) -> Result<Incoming, CliError> {
        let begin = async {
            let answer = self.exchange(&Call::get(path), "text/event-stream", last_seen).await?;
            let streams = answer
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
            if streams { Ok(answer.into_body()) } else { Err(self.foreign("it does not stream events".into())) }
        };
        timeout(self.deadline, begin).await.unwrap_or_else(|_| Err(self.too_slow(self.deadline)))
    }

    /// Sends the request and reads the head of the answer; anything but a success is an error.
    async fn exchange(&self, call: &Call, accept: &str, last: Option<u64>) -> Result<Response<Incoming>, CliError> {
        let request = self.request(call, accept, last)?;
        let mut connection = self.connect().await?;
        let answer = connection.send_request(request).await.map_err(|error| self.broken(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = self.body_of(answer).await?;
        Err(self.refusal(status, &body))
    }

    fn request(&self, call: &Call, accept: &str, last: Option<u64>) -> Result<Request<Full<Bytes>>, CliError> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(header::HOST, self.server.authority())
            .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, accept);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.0));
        }
        if let Some(generation) = call.if_match {
            request = request.header(header::IF_MATCH, format!("\"{generation}\""));
        }
        if let Some(seq) = last {
            request = request.header("last-event-id", seq);
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        let (content_type, body) = match &call.body {
            None => (None, Bytes::new()),
            Some(Body::Json(value)) => (Some("application/json"), Bytes::from(value.to_string())),
            Some(Body::Document { content_type, bytes }) => (Some(*content_type), bytes.clone()),
        };
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        request.body(Full::new(body)).map_err(|error| CliError::Usage(format!("this cannot be sent: {error}")))
    }

    /// Opens a connection; it is driven by a task of its own and ends with the answer.
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, CliError> {
        match &self.server {
            ServerAddress::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| self.unreachable(&e))?;
                self.handshake(stream).await
            }
            ServerAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|e| self.unreachable(&e))?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, CliError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Its errors come back to the request as well.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn body_of(&self, answer: Response<Incoming>) -> Result<Bytes, CliError> {
        match Limited::new(answer.into_body(), MAX_ANSWER).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.interrupted(format!("broke off its answer: {error}"))),
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> CliError {
        let token = if self.token.is_some() { TokenGiven::Yes } else { TokenGiven::No };
        match Problem::parse(status, body, token) {
            Some(problem) => CliError::Refused(Box::new(problem)),
            None => self.foreign(format!("it answered {status}")),
        }
    }

    fn unreachable(&self, error: &io::Error) -> CliError {
        let cause = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        CliError::Unreachable { server: self.server.clone(), cause }
    }

    fn broken(&self, error: &hyper::Error) -> CliError {
        if error.is_parse() {
            return self.foreign("it does not speak HTTP/1.1".into());
        }
        self.interrupted(format!("closed the connection without an answer: {error}"))
    }

    fn too_slow(&self, deadline: Duration) -> CliError {
        self.interrupted(format!("gave no answer within {} s", deadline.as_secs()))
    }

    /// The connection broke.
    pub(crate) fn interrupted(&self, cause: impl Into<String>) -> CliError {
        CliError::Interrupted { server: self.server.clone(), cause: cause.into() }
    }

    fn foreign(&self, what: String) -> CliError {
        CliError::Foreign { server: self.server.clone(), what }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
pub(crate) mod tests;
