//! One worker: a thread with its own runtime, sockets and connections.

use std::{
    convert::Infallible, io, net::SocketAddr, panic::AssertUnwindSafe, rc::Rc, sync::Arc, thread, time::Duration,
};

use futures_util::FutureExt;
use pingora_core::server::ShutdownWatch;
use tidegate_core::{ListenerIdx, Reject, stats::Worker};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use super::{
    bind::Kept,
    caps::{Admitted, Caps, ListenerCap},
    connection::{self, Connection},
    cutter,
    link::{Link, Stage},
    plane::Phase,
    roster::Roster,
    tls::Certificate,
};
use crate::{
    lane::{Lane, Shared},
    observe::counters::Refusal,
};

/// Without descriptors, accepting again at once would only spin.
const REST_AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// After a cut, connections have this long to go.
const AFTER_CUT: Duration = Duration::from_secs(2);

/// A listener as a worker sees it.
#[derive(Clone)]
pub(super) struct Door {
    /// Which one it is.
    pub(super) listener: ListenerIdx,
    /// How many connections it may have.
    pub(super) cap: Arc<ListenerCap>,
    /// Its certificate.
    pub(super) tls: Option<Certificate>,
    /// Whether it takes HTTP/2 in clear text.
    pub(super) h2c: bool,
}

/// What a worker is made of.
pub(super) struct Setup {
    /// Which one it is.
    pub(super) worker: Worker,
    /// Its listeners.
    pub(super) doors: Vec<(Door, std::net::TcpListener)>,
    /// What requests read.
    pub(super) shared: Arc<Shared>,
    /// The connections of all workers.
    pub(super) caps: Arc<Caps>,
    /// What must not outlive the listening sockets.
    pub(super) kept: Kept,
    /// How far the process is.
    pub(super) stop: watch::Receiver<Phase>,
    /// How long requests may go on after a stop.
    pub(super) grace: Duration,
}

/// What every connection of a worker shares.
pub(super) struct House {
    /// Which worker this is.
    pub(super) worker: Worker,
    /// What requests read.
    pub(super) shared: Arc<Shared>,
    /// Where requests go.
    pub(super) lane: Arc<Lane>,
    /// What is open.
    pub(super) roster: Arc<Roster>,
    /// Tells pingora that connections are not to be kept.
    pub(super) stopping: ShutdownWatch,
    caps: Arc<Caps>,
}

/// Starts the worker's thread. It holds `running` for as long as it lives.
pub(super) fn spawn(setup: Setup, running: mpsc::Sender<Infallible>) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("worker-{}", setup.worker.0)).spawn(move || {
        LocalSet::new().block_on(&runtime, serve(setup));
        drop(runtime);
        drop(running);
    })
}

async fn serve(setup: Setup) {
    let Setup { worker, doors, shared, caps, kept, mut stop, grace } = setup;
    let (stop_pingora, stopping) = watch::channel(false);
    let lane = crate::lane::lane(&shared);
    let roster = shared.rosters.open();
    let house = Rc::new(House { worker, shared, lane, roster, stopping, caps });
    spawn_local(cutter::run(Arc::clone(&house.shared), Arc::clone(&house.roster)));
    let mut accepting = Vec::with_capacity(doors.len());
    for (door, socket) in doors {
        match TcpListener::from_std(socket) {
            Ok(socket) => {
                let listening = Listening { door, socket, kept: kept.clone() };
                accepting.push(spawn_local(accept(Rc::clone(&house), listening, stop.clone())));
            }
            Err(error) => tracing::error!(worker = worker.0, %error, "a worker cannot use its listening socket"),
        }
    }
    for accepting in accepting {
        if accepting.await.is_err() {
            tracing::error!(worker = worker.0, "the task that accepts connections panicked");
        }
    }
    let _ = stop_pingora.send(true);
    house.roster.each(Link::stop);
    tokio::select! {
        () = house.roster.emptied() => return,
        () = sleep(grace) => {}
        () = reached(&mut stop, |phase| phase == Phase::Cut) => {}
    }
    house.roster.each(Link::cut);
    let _ = timeout(AFTER_CUT, house.roster.emptied()).await;
}

/// A listening socket of a worker.
struct Listening {
    door: Door,
    socket: TcpListener,
    kept: Kept,
}

/// Waits for a phase. Nobody left to tell us means that the process goes down.
async fn reached(stop: &mut watch::Receiver<Phase>, wanted: fn(Phase) -> bool) {
    if stop.wait_for(|phase| wanted(*phase)).await.is_err() && !wanted(Phase::Stopping) {
        std::future::pending::<()>().await;
    }
}

/// Accepts until the process stops; then takes what the kernel had already accepted, and closes the socket.
async fn accept(house: Rc<House>, listening: Listening, mut stop: watch::Receiver<Phase>) {
    let Listening { door, socket, kept } = listening;
    let mut stopped = std::pin::pin!(reached(&mut stop, |phase| phase != Phase::Serving));
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = socket.accept() => match accepted {
                Ok((tcp, address)) => house.welcome(tcp, address, &door),
                Err(error) => {
                    house.shared.counters.refused(door.listener, Refusal::AcceptError);
                    tracing::debug!(%error, "cannot accept a connection");
                    sleep(REST_AFTER_ACCEPT_ERROR).await;
                }
            },
        }
    }
    drop(kept.take());
    while let Some(Ok((tcp, address))) = socket.accept().now_or_never() {
        house.welcome(tcp, address, &door);
    }
}

impl House {
    /// Takes a connection in, or turns it away.
    fn welcome(self: &Rc<Self>, tcp: TcpStream, address: SocketAddr, door: &Door) {
        let Some(admitted) = self.caps.admit(&door.cap, address.ip()) else {
            self.shared.counters.refused(door.listener, Refusal::Cap);
            if door.tls.is_none() {
                // One try: a client over its cap is not waited for.
                let _ = tcp.try_write(connection::answer(Reject::Overloaded).as_bytes());
            }
            return;
        };
        let link = Arc::new(Link::new(Stage::Head));
        let entry = self.roster.enter(&link);
        if self.shared_is_stopping() {
            link.stop();
        }
        let connection = Connection { house: Rc::clone(self), door: door.clone(), address, link };
        let counted = self.shared.counters.opened(door.listener);
        let house = Rc::clone(self);
        spawn_local(async move {
            house.guarded(connection::serve(connection, tcp)).await;
            drop::<(Admitted, _, _)>((admitted, entry, counted));
        });
    }

    fn shared_is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Runs a connection or stream so that its panic ends nothing else.
    pub(super) async fn guarded(&self, serve: impl Future<Output = ()>) {
        if AssertUnwindSafe(serve).catch_unwind().await.is_err() {
            self.shared.counters.panicked();
            tracing::error!(worker = self.worker.0, "a request panicked; its connection is closed");
        }
    }
}
