//! A demo application: says its name, counts its requests, and can be killed and revived.
//!
//! Dead means dead: its listener is closed and its connections are cut, so that the next connection is refused.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Time between two attempts to take the port again, should another program have it meanwhile.
const REBIND_PAUSE: Duration = Duration::from_millis(200);

/// Whether an application runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It answers.
    Alive,
    /// Connections to it are refused.
    Dead,
}

/// An application.
#[derive(Debug)]
pub(crate) struct App {
    /// What it calls itself: `green`.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    requests: AtomicU64,
    wanted: watch::Sender<Life>,
    actual: watch::Sender<Life>,
}

impl App {
    /// Starts an application on a port that the system chooses.
    pub(crate) async fn start(name: &'static str) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let app = Arc::new(Self {
            name,
            address: listener.local_addr()?,
            requests: AtomicU64::new(0),
            wanted: watch::Sender::new(Life::Alive),
            actual: watch::Sender::new(Life::Alive),
        });
        tokio::spawn(Arc::clone(&app).live(listener));
        Ok(app)
    }

    /// Requests that it has answered, health checks left out.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Whether it runs.
    pub(crate) fn life(&self) -> Life {
        *self.actual.borrow()
    }

    /// Kills or revives it, and returns when that is done.
    pub(crate) async fn turn(&self, life: Life) {
        self.wanted.send_replace(life);
        // The sender is ours, so waiting cannot fail.
        let _ = self.actual.subscribe().wait_for(|actual| *actual == life).await;
    }

    async fn live(self: Arc<Self>, mut listener: TcpListener) {
        let mut wanted = self.wanted.subscribe();
        loop {
            self.accept_until_killed(listener, &mut wanted).await;
            self.actual.send_replace(Life::Dead);
            if wanted.wait_for(|life| *life == Life::Alive).await.is_err() {
                return;
            }
            listener = self.rebind().await;
            self.actual.send_replace(Life::Alive);
        }
    }

    /// Ends with the listener closed and every connection cut.
    async fn accept_until_killed(self: &Arc<Self>, listener: TcpListener, wanted: &mut watch::Receiver<Life>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                _ = wanted.wait_for(|life| *life == Life::Dead) => break,
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    connections.spawn(Arc::clone(self).serve(stream));
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        connections.shutdown().await;
    }

    async fn rebind(&self) -> TcpListener {
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(REBIND_PAUSE).await,
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let answer = service_fn(move |request| {
            let app = Arc::clone(&self);
            async move { Ok::<_, Infallible>(app.answer(request).await) }
        });
        // A client that goes away in the middle is no concern of a demo.
        let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let health = request.uri().path() == "/health";
        let (method, html) = (request.method().clone(), wants_html(&request));
        // Read to its end, so that the connection can be used again.
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        if !health {
            self.requests.fetch_add(1, Relaxed);
        }
        let (kind, text) = match (health, html && method == Method::GET) {
            (true, _) => ("text/plain; charset=utf-8", "ok\n".to_owned()),
            (false, true) => ("text/html; charset=utf-8", page(self.name)),
            (false, false) => ("text/plain; charset=utf-8", format!("hello from {}\n", self.name)),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert("x-version", HeaderValue::from_static(self.name));
        response
    }
}

fn wants_html(request: &Request<Incoming>) -> bool {
    request.headers().get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"))
}

/// A page in the application's colour that loads itself anew each second, so that a switch can be watched.
fn page(name: &str) -> String {
    let colour = match name {
        "green" => "#2e8b57",
        "blue" => "#2b6cb0",
        _ => "#555555",
    };
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=1><title>{name}</title>\
         <body style='margin:0;height:100vh;display:grid;place-items:center;background:{colour};color:#fff;\
         font:600 8vw system-ui'>hello from {name}\n"
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(app: &App, path: &str, headers: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(app.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn an_application_says_its_name_and_counts() {
        let app = App::start("green").await.unwrap();
        let answer = ask(&app, "/any", "").await.unwrap();
        assert!(answer.contains("x-version: green\r\n") && answer.ends_with("hello from green\n"), "{answer}");
        assert!(ask(&app, "/", "accept: text/html,*/*\r\n").await.unwrap().contains("<title>green</title>"));
        assert_eq!(app.requests(), 2);
        assert!(ask(&app, "/health", "").await.unwrap().ends_with("ok\n"));
        assert_eq!(app.requests(), 2, "health checks are not counted");
    }

    #[tokio::test]
    async fn a_killed_application_refuses_connections_until_it_is_revived() {
        let app = App::start("blue").await.unwrap();
        let mut open = TcpStream::connect(app.address).await.unwrap();
        open.write_all(b"GET / HTTP/1.1\r\nhost: demo\r\n\r\n").await.unwrap();
        assert_ne!(open.read(&mut [0; 1024]).await.unwrap(), 0);

        app.turn(Life::Dead).await;
        assert_eq!(ask(&app, "/", "").await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let cut = open.read(&mut [0; 1024]).await;
        assert!(!matches!(cut, Ok(1..)), "an open connection is cut: {cut:?}");
        assert_eq!(app.life(), Life::Dead);

        app.turn(Life::Alive).await;
        assert!(ask(&app, "/", "").await.unwrap().ends_with("hello from blue\n"));
    }
}
