//! A client that does exactly what it is told, one connection at a time.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::wire::{Head, Reader};

/// Longest that a single exchange may take.
const EXCHANGE: Duration = Duration::from_secs(90);

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Sent {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    chunked: bool,
}

impl Sent {
    /// A request without a body.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), fields: Vec::new(), body: None, chunked: false }
    }

    /// With a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// With a body of known length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// With the body in chunks.
    #[must_use]
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            out.extend(b"host: localhost\r\n");
        }
        for (name, value) in &self.fields {
            out.extend(format!("{name}: {value}\r\n").bytes());
        }
        match &self.body {
            None => out.extend(b"\r\n"),
            Some(body) if self.chunked => {
                out.extend(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in body.chunks(10_000) {
                    out.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    out.extend(chunk);
                    out.extend(b"\r\n");
                }
                out.extend(b"0\r\n\r\n");
            }
            Some(body) => {
                out.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
                out.extend(body);
            }
        }
        out
    }
}

/// An answer, complete.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON: {e}: {}", self.text()))
    }

    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    reader: Reader<TcpStream>,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: Reader::new(stream) })
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.stream().write_all(bytes).await
    }

    /// The next head, interim answers (1xx) included.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        self.reader.head().await
    }

    /// What follows, byte by byte.
    pub fn reader(&mut self) -> &mut Reader<TcpStream> {
        &mut self.reader
    }

    /// The answer to a request of this method; interim answers are skipped.
    pub async fn answer(&mut self, method: &str) -> io::Result<Answer> {
        loop {
            let head = self.reader.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status: u16 = head
                .first
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, head.first.clone()))?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let body = if bodiless { Vec::new() } else { self.reader.body(&head, true).await? };
            return Ok(Answer { status, head, body });
        }
    }

    /// One exchange.
    pub async fn send(&mut self, request: &Sent) -> io::Result<Answer> {
        tokio::time::timeout(EXCHANGE, async {
            self.write(&request.bytes()).await?;
            self.answer(&request.method).await
        })
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// A GET.
    pub async fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.send(&Sent::new("GET", target)).await
    }
}

/// One request on a connection of its own.
pub async fn once(address: SocketAddr, request: &Sent) -> io::Result<Answer> {
    Client::connect(address).await?.send(&request.clone().field("connection", "close")).await
}

/// One GET on a connection of its own.
pub async fn get(address: SocketAddr, target: &str) -> io::Result<Answer> {
    once(address, &Sent::new("GET", target)).await
}
