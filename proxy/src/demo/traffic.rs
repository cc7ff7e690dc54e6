//! The demo's traffic: about twenty requests a second on one connection, as a patient client would send them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

/// Time between two requests.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest time that one request may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests without an answer, or with one of 500 or above.
    pub(crate) failed: AtomicU64,
}

/// Sends requests to the proxy for as long as the demo runs.
pub(crate) async fn run(proxy: SocketAddr, tally: Arc<Tally>) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    loop {
        ticks.tick().await;
        let answer = timeout(DEADLINE, send(proxy, &mut connection)).await.ok().flatten();
        if answer.is_none_or(|status| status.is_server_error()) {
            tally.failed.fetch_add(1, Relaxed);
        }
    }
}

/// One request; `None` when there was no whole answer.
async fn send(proxy: SocketAddr, kept: &mut Option<SendRequest<Empty<Bytes>>>) -> Option<http::StatusCode> {
    let mut connection = match kept.take().filter(|connection| !connection.is_closed()) {
        Some(connection) => connection,
        None => connect(proxy).await?,
    };
    connection.ready().await.ok()?;
    let request = Request::get("/")
        .header(header::HOST, proxy.to_string())
        .header(header::USER_AGENT, "tidegate-demo")
        .body(Empty::new())
        .ok()?;
    let mut answer = connection.send_request(request).await.ok()?;
    while let Some(frame) = answer.body_mut().frame().await {
        frame.ok()?;
    }
    *kept = Some(connection);
    Some(answer.status())
}

async fn connect(proxy: SocketAddr) -> Option<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(proxy).await.ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::app::{App, Life};

    #[tokio::test]
    async fn a_broken_connection_is_opened_again() {
        let app = App::start("green").await.unwrap();
        let mut connection = None;
        for _ in 0..2 {
            assert_eq!(send(app.address, &mut connection).await, Some(http::StatusCode::OK));
        }
        app.turn(Life::Dead).await;
        assert_eq!(send(app.address, &mut connection).await, None);
        app.turn(Life::Alive).await;
        assert_eq!(send(app.address, &mut connection).await, Some(http::StatusCode::OK), "it connects anew");
        assert_eq!(app.requests(), 3);
    }
}
