//! What a connection, the request on it and those who end it know of each other.
//!
//! One for each HTTP/1 connection, HTTP/2 connection and HTTP/2 stream. The stage says what may be read from the
//! client now; an order says that the connection must close, at once or when its request is done.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Context,
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tidegate_core::{
    EndpointIdx, ListenerIdx, ServiceIdx, Snapshot, TargetIdx, deploy::step::Endpoints, stats::Worker,
};
use tokio::sync::Notify;

/// How long an unused connection is kept before its first request has named a service.
const FIRST_IDLE: Duration = Duration::from_secs(60);

/// How long a tunnel has to say goodbye after it was cut.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is read from the client now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// A request's head.
    Head,
    /// A request's body that comes once the client is told to continue: nobody knows when.
    Invited,
    /// A request's body: it has a minimal rate.
    Body,
    /// Nothing: the request is complete, and what comes now belongs to the next one.
    Answer,
    /// An upgraded connection.
    Tunnel,
    /// HTTP/2 frames.
    Http2,
}

/// A request that runs.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    /// The snapshot that it reads.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Its service.
    pub(crate) service: ServiceIdx,
    /// Where it is sent.
    pub(crate) target: TargetIdx,
    /// The endpoint of it.
    pub(crate) endpoint: EndpointIdx,
}

impl Running {
    /// Whether it runs on one of these endpoints.
    pub(crate) fn is_on(&self, endpoints: &Endpoints) -> bool {
        let Some(service) = self.snapshot.service(self.service) else { return false };
        let Some(target) = service.target(self.target) else { return false };
        let Some(endpoint) = target.endpoints.get(self.endpoint.get()) else { return false };
        let named = endpoints.get(&service.id).and_then(|targets| targets.get(&target.id));
        named.is_some_and(|named| named.contains(&endpoint.address))
    }
}

const STOP: u8 = 1;
const CUT: u8 = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    stage: AtomicU8,
    orders: AtomicU8,
    too_slow: AtomicBool,
    begun: AtomicBool,
    idle_ms: AtomicU64,
    received: AtomicU64,
    ordered: Notify,
    tunnel: AtomicWaker,
    running: Mutex<Option<Running>>,
}

impl Link {
    /// A link at this stage.
    pub(crate) fn new(stage: Stage) -> Self {
        Self {
            stage: AtomicU8::new(stage as u8),
            orders: AtomicU8::new(0),
            too_slow: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            idle_ms: AtomicU64::new(FIRST_IDLE.as_millis() as u64),
            received: AtomicU64::new(0),
            ordered: Notify::new(),
            tunnel: AtomicWaker::new(),
            running: Mutex::new(None),
        }
    }

    /// What is read now.
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            stage if stage == Stage::Head as u8 => Stage::Head,
            stage if stage == Stage::Invited as u8 => Stage::Invited,
            stage if stage == Stage::Body as u8 => Stage::Body,
            stage if stage == Stage::Answer as u8 => Stage::Answer,
            stage if stage == Stage::Tunnel as u8 => Stage::Tunnel,
            _ => Stage::Http2,
        }
    }

    /// Goes on to a stage. An HTTP/2 connection stays one: its streams have links of their own.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// A new head is awaited.
    pub(crate) fn await_head(&self) {
        self.begun.store(false, Ordering::Relaxed);
        self.enter(Stage::Head);
    }

    /// The lane has taken the request over.
    pub(crate) fn begin(&self, stage: Stage) {
        self.begun.store(true, Ordering::Relaxed);
        self.enter(stage);
    }

    /// Whether the lane has taken the request over; if not, its head could not be understood.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// The client was slower than it may be.
    pub(crate) fn mark_too_slow(&self) {
        self.too_slow.store(true, Ordering::Relaxed);
    }

    /// Whether the client was slower than it may be.
    pub(crate) fn was_too_slow(&self) -> bool {
        self.too_slow.load(Ordering::Relaxed)
    }

    /// Bytes of a body have come.
    pub(crate) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of bodies that have come.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How long the connection may wait for its next request.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms.load(Ordering::Relaxed))
    }

    /// Sets how long the connection may wait for its next request.
    pub(crate) fn set_idle(&self, idle: Duration) {
        self.idle_ms.store(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The request that runs.
    pub(crate) fn running(&self) -> Option<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or clears the request that runs.
    pub(crate) fn set_running(&self, running: Option<Running>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    /// Orders the connection to close when its request is done.
    pub(crate) fn stop(&self) {
        self.order(STOP);
    }

    /// Orders the connection to close now.
    pub(crate) fn cut(&self) {
        self.order(STOP | CUT);
        self.tunnel.wake();
    }

    fn order(&self, order: u8) {
        self.orders.fetch_or(order, Ordering::Release);
        self.ordered.notify_waiters();
    }

    /// Whether the connection must close when its request is done.
    pub(crate) fn is_stopped(&self) -> bool {
        self.orders.load(Ordering::Acquire) & STOP != 0
    }

    /// Whether the connection must close now.
    pub(crate) fn is_cut(&self) -> bool {
        self.orders.load(Ordering::Acquire) & CUT != 0
    }

    async fn until(&self, given: fn(&Self) -> bool) {
        loop {
            let mut ordered = std::pin::pin!(self.ordered.notified());
            // Registered before the look, so an order in between is not missed.
            ordered.as_mut().enable();
            if given(self) {
                return;
            }
            ordered.await;
        }
    }

    /// Waits for the order to close when the request is done.
    pub(crate) async fn stopped(&self) {
        self.until(Self::is_stopped).await;
    }

    /// Waits until what runs here must be dropped. A tunnel first has time to say goodbye.
    pub(crate) async fn severed(&self) {
        self.until(Self::is_cut).await;
        if self.stage() == Stage::Tunnel {
            tokio::time::sleep(FAREWELL).await;
        }
    }

    /// The task that reads a tunnel is to be woken when it is cut.
    pub(super) fn wake_on_cut(&self, cx: &Context<'_>) {
        self.tunnel.register(cx.waker());
    }

    /// The tunnel can go on: what its reader waited for has happened.
    pub(super) fn wake_tunnel(&self) {
        self.tunnel.wake();
    }
}

/// Whether the client's bytes are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    /// Clear text.
    Clear,
    /// TLS.
    Tls,
}

/// Who sent a request, and where it came in.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The listener.
    pub(crate) listener: ListenerIdx,
    /// The worker that it runs on.
    pub(crate) worker: Worker,
    /// The peer's address.
    pub(crate) address: SocketAddr,
    /// Whether it came by TLS.
    pub(crate) security: Security,
    /// Its link.
    pub(crate) link: Arc<Link>,
}

tokio::task_local! {
    /// The client whose request this task serves. pingora makes a request's context without arguments, so this is how
    /// it learns of the connection, for HTTP/1 and HTTP/2 alike.
    static CLIENT: Arc<Client>;
}

/// Runs a future that serves a client's requests.
pub(super) async fn serving<F: Future>(client: Arc<Client>, serve: F) -> F::Output {
    CLIENT.scope(client, serve).await
}

/// The client that this task serves.
pub(crate) fn current_client() -> Option<Arc<Client>> {
    CLIENT.try_with(Arc::clone).ok()
}
