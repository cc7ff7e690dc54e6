//! HTTP/2: one connection, a task for each stream. Limits are pingora's safe defaults.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use pingora_core::{
    apps::HttpServerApp,
    protocols::{
        Digest,
        http::{
            ServerSession,
            v2::server::{H2Accept, HttpSession, default_h2_options, handshake},
        },
    },
};
use tidegate_core::Reject;
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    link::{Client, Link, Stage, serving},
    stream::ClientStream,
    worker::House,
};

/// Malformed requests that a connection may send before it is closed, as in pingora's own loop.
const MALFORMED_STREAMS: usize = 32;

/// The time over which the rate of a body is judged: no endpoint's default timeout is longer.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// How long a connection has to take its GOAWAY.
const FAREWELL: Duration = Duration::from_secs(1);

/// Streams that run on a connection.
#[derive(Debug, Default)]
struct Streams {
    running: Cell<usize>,
    ended: Notify,
}

/// A stream that runs until this is dropped.
struct RunningStream(Rc<Streams>);

impl Streams {
    fn begin(self: &Rc<Self>) -> RunningStream {
        self.running.set(self.running.get() + 1);
        RunningStream(Rc::clone(self))
    }

    /// Waits until no stream has run for as long as the connection may be unused, or none has begun at the deadline.
    async fn idle(&self, link: &Link, first: Option<Instant>) {
        while self.running.get() > 0 {
            self.ended.notified().await;
        }
        match first {
            Some(deadline) => sleep_until(deadline).await,
            None => sleep(link.idle()).await,
        }
    }
}

impl Drop for RunningStream {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get().saturating_sub(1));
        self.0.ended.notify_one();
    }
}

/// Serves streams until the connection ends. The first must have begun at `deadline`.
pub(super) async fn serve(stream: ClientStream, client: Client, house: &Rc<House>, deadline: Instant) {
    let options = Some(default_h2_options());
    let Ok(Ok(mut connection)) = timeout_at(deadline, handshake(Box::new(stream), options)).await else { return };
    let digest = Arc::new(Digest::default());
    let streams = Rc::new(Streams::default());
    let link = Arc::clone(&client.link);
    let mut first = Some(deadline);
    let mut malformed = 0;
    let mut stopping = false;
    loop {
        let next = tokio::select! {
            biased;
            () = link.severed() => return,
            () = link.stopped(), if !stopping => {
                stopping = true;
                connection.graceful_shutdown();
                continue;
            }
            next = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => next,
            () = streams.idle(&link, first), if !stopping => {
                connection.graceful_shutdown();
                let _ = timeout(FAREWELL, HttpSession::from_h2_conn(&mut connection, digest)).await;
                return;
            }
        };
        match next {
            Ok(Some(H2Accept::Session(session))) => {
                first = None;
                begin(session, &client, house, &streams);
            }
            Ok(Some(H2Accept::Rejected)) => {
                house.shared.counters.rejected(Reject::Malformed);
                malformed += 1;
                if malformed >= MALFORMED_STREAMS {
                    return;
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// Ready when a body came too slowly. Here nobody sees whether the client or the endpoint is slow, so it is judged over
/// a time after which a stuck endpoint has been given up.
async fn too_slow(link: &Link, min_rate: u64) {
    if min_rate == 0 {
        return std::future::pending().await;
    }
    loop {
        let before = link.received();
        let was = link.stage();
        sleep(RATE_WINDOW).await;
        let came = link.received() - before;
        if was == Stage::Body && link.stage() == Stage::Body && came < min_rate * RATE_WINDOW.as_secs() {
            return;
        }
    }
}

/// Serves one stream in a task of its own.
fn begin(session: HttpSession, client: &Client, house: &Rc<House>, streams: &Rc<Streams>) {
    let connection = Arc::clone(&client.link);
    let link = Arc::new(Link::new(Stage::Answer));
    let client = Arc::new(Client { link: Arc::clone(&link), ..client.clone() });
    let entry = house.roster.enter(&link);
    let running = streams.begin();
    let house = Rc::clone(house);
    spawn_local(async move {
        let session = ServerSession::new_http2(session);
        let serve = async {
            tokio::select! {
                biased;
                _ = serving(client, house.lane.process_new_http(session, &house.stopping)) => {}
                () = link.severed() => {}
                () = too_slow(&link, house.shared.settings.limits.body_min_rate) => {}
            }
        };
        house.guarded(serve).await;
        // The connection is kept as long as the service of its last stream says.
        connection.set_idle(link.idle());
        drop((entry, running));
    });
}
