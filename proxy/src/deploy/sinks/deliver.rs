//! Tells one event to one sink, once. Whether and when it is tried again is the caller's.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use http::{
    Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use http_body_util::BodyExt as _;
use tidegate_config::{EndpointAddress, Host, SecretSource};
use tidegate_core::deploy::machine::{HookEnd, HookReport};
use tokio::{
    net::lookup_host,
    sync::watch,
    time::{error::Elapsed, timeout},
};

use crate::{
    control::secrets,
    deploy::hook::{Program, execute},
    outbound::{self, Payload},
};

/// Of an answer, so much is read before the connection is given up.
const MAX_ANSWER: usize = 64 * 1024;

/// How a sink is told, as the configuration says it.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// By a POST.
    Url { url: Uri, token: Option<SecretSource> },
    /// By a command that reads it.
    Command(Vec<String>),
    /// By a line of a file.
    File(Box<Path>),
}

/// Why an event was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may be told later.
    Later(String),
    /// The sink will never take this one.
    Refused(String),
}

impl Way {
    /// Tells an event, which is JSON. Ends in time.
    pub(super) async fn tell(&self, json: &str, time: Duration, kill: watch::Receiver<bool>) -> Result<(), Failure> {
        match self {
            Self::Url { url, token } => {
                let late = |_: Elapsed| Failure::Later(format!("it did not answer within {time:?}"));
                timeout(time, post(url, token.as_ref(), json)).await.map_err(late)?
            }
            Self::Command(argv) => command(argv, json, time, kill).await,
            Self::File(path) => {
                append(path, json).map_err(|error| Failure::Later(format!("cannot write {}: {error}", path.display())))
            }
        }
    }
}

async fn post(url: &Uri, token: Option<&SecretSource>, json: &str) -> Result<(), Failure> {
    let later = |why: String| Failure::Later(why);
    let address = address(url).map_err(later)?;
    let sockets = resolve(&address).await.map_err(|error| later(format!("its name is not found: {error}")))?;
    let mut connection = outbound::connect(&address, &sockets, None).await.map_err(|error| later(error.to_string()))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let target = if connection.is_http2() { url.to_string() } else { path.to_owned() };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
        .header(CONTENT_LENGTH, json.len())
        .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    if let (false, Some(host)) = (connection.is_http2(), url.authority()) {
        request = request.header(HOST, host.as_str());
    }
    if let Some(source) = token {
        // Read each time: a token that was exchanged is used without a restart.
        let secret = secrets::read(source).map_err(later)?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
            .map_err(|_| later("its token cannot be sent: it holds other than visible ASCII characters".into()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let body = Payload::from_iter([Bytes::copy_from_slice(json.as_bytes())]);
    let request = request.body(body).map_err(|error| later(format!("no request can be made of it: {error}")))?;
    let answer = connection.send(request).await.map_err(|failed| later(failed.error.to_string()))?;
    let status = answer.status();
    let mut body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER);
    // Whatever it says beside the status means nothing here.
    while let Some(Ok(_)) = body.frame().await {}
    match status {
        _ if status.is_success() => Ok(()),
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Refused(format!("it answered {status}"))),
        _ => Err(Failure::Later(format!("it answered {status}"))),
    }
}

/// Where a URL leads, with the scheme's usual port.
fn address(url: &Uri) -> Result<EndpointAddress, String> {
    let (scheme, usual) = match url.scheme_str() {
        Some("https") => ("https", 443),
        _ => ("http", 80),
    };
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(usual);
    format!("{scheme}://{host}:{port}").parse().map_err(|why| format!("{why}"))
}

async fn resolve(address: &EndpointAddress) -> io::Result<Vec<SocketAddr>> {
    match &address.host {
        Host::Name(name, port) => Ok(lookup_host((&**name, *port)).await?.collect()),
        Host::Ip(_) | Host::Unix(_) => Ok(Vec::new()),
    }
}

async fn command(argv: &[String], json: &str, time: Duration, kill: watch::Receiver<bool>) -> Result<(), Failure> {
    let event: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let told = |name: &str, key: &str| Some((name.to_owned(), event.get(key)?.as_str()?.to_owned()));
    let names = [
        ("TIDEGATE_EVENT", "type"),
        ("TIDEGATE_EVENT_ID", "id"),
        ("TIDEGATE_EVENT_SUBJECT", "subject"),
        ("TIDEGATE_EVENT_TIME", "time"),
    ];
    let env: BTreeMap<_, _> = names.into_iter().filter_map(|(name, key)| told(name, key)).collect();
    let program = Program { argv, env: &env, input: Some(json.as_bytes()), timeout: time };
    let HookReport { end, output } = execute(program, |_| {}, kill).await;
    match end {
        HookEnd::Exit(0) => Ok(()),
        HookEnd::Exit(_) | HookEnd::Signal(_) | HookEnd::TimedOut | HookEnd::Killed | HookEnd::NotStarted(_) => {
            let said = output.trim_end().lines().next_back().unwrap_or_default();
            let colon = if said.is_empty() { "" } else { ": " };
            Err(Failure::Later(format!("{end}{colon}{said}")))
        }
    }
}

/// Adds a line to a file, which is opened anew each time: somebody else may move it away. What a failed write left
/// there is closed first.
fn append(path: &Path, json: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut text = String::with_capacity(json.len() + 2);
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != [b'\n'] {
            text.push('\n');
        }
    }
    text.push_str(json);
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
