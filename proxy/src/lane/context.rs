//! What is known of one request while it runs.
//!
//! Everything that a request counts up while it runs is counted down when this is dropped, however the request ends.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use http::HeaderValue;
use tidegate_core::{
    Draw, Endpoint, EndpointIdx, Forward, Reject, Service, Snapshot, Target, TargetIdx,
    retry::Failure,
    stats::{EndpointStats, ServiceStats, Worker},
};

use super::{copies::Copies, finish, watched::Watched};
use crate::net::link::{Client, Running};

/// Where a request goes, and the snapshot that says so.
#[derive(Debug)]
pub(super) struct Route {
    /// The only snapshot of this request.
    pub(super) snapshot: Arc<Snapshot>,
    /// The plan, or the last retry of it.
    pub(super) forward: Forward,
}

impl Route {
    /// The service.
    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        self.snapshot.service(self.forward.service)
    }

    /// The target that it is sent to.
    pub(super) fn target(&self) -> Option<&Target> {
        self.service()?.target(self.forward.target)
    }

    /// The endpoint that it is sent to.
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.target()?.endpoints.get(self.forward.endpoint.get())
    }
}

/// A request that counts as active of its service.
#[derive(Debug)]
pub(super) struct Active {
    stats: Arc<ServiceStats>,
    worker: Worker,
    retrying: bool,
}

impl Active {
    /// Counts it.
    pub(super) fn begin(stats: &Arc<ServiceStats>, worker: Worker) -> Self {
        stats.active.of(worker).fetch_add(1, Relaxed);
        Self { stats: Arc::clone(stats), worker, retrying: false }
    }

    /// Counts it as a retry that the budget pays for; once, however many it needs.
    pub(super) fn retry(&mut self) {
        if !self.retrying {
            self.retrying = true;
            self.stats.retrying.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.stats.active.of(self.worker).fetch_sub(1, Relaxed);
        if self.retrying {
            self.stats.retrying.fetch_sub(1, Relaxed);
        }
    }
}

/// A request that runs on an endpoint.
#[derive(Debug)]
pub(super) struct InFlight(Arc<EndpointStats>);

impl InFlight {
    /// Counts it.
    pub(super) fn begin(stats: &Arc<EndpointStats>) -> Self {
        stats.in_flight.fetch_add(1, Relaxed);
        stats.requests.fetch_add(1, Relaxed);
        Self(Arc::clone(stats))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A limit on the time in which a tunnel must be agreed on; over when this is dropped.
#[derive(Debug)]
pub(super) struct Handshake(tokio::task::JoinHandle<()>);

impl Handshake {
    /// Runs `at_end` unless this is dropped before.
    pub(super) fn limit(at_end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(at_end))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How far the current attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptState {
    /// None was begun.
    None,
    /// It waits for its answer.
    Waiting,
    /// The head of its final answer is there.
    Answered,
    /// It failed, and is counted.
    Failed(Failure),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ctx {
    /// Who asks; absent only when pingora is driven without a connection.
    pub(super) client: Option<Arc<Client>>,
    /// When the head was complete.
    pub(super) started: Instant,
    /// Where it goes.
    pub(super) route: Option<Route>,
    /// Attempts that failed.
    pub(super) tried: Vec<(TargetIdx, EndpointIdx)>,
    /// The current attempt.
    pub(super) attempt: AttemptState,
    /// Why we answer ourselves.
    pub(super) reject: Option<Reject>,
    /// Whether the client asks for an upgrade to WebSocket.
    pub(super) upgrade: bool,
    /// Whether the request carries a secret of a pin in `Authorization`.
    pub(super) pinned_by_bearer: bool,
    /// Its id.
    pub(super) request_id: Option<HeaderValue>,
    /// Bytes of its body in this attempt.
    pub(super) received: u64,
    /// Its copies.
    pub(super) copies: Copies,
    /// What it counts for a deployment, if one watches.
    pub(super) watched: Option<Watched>,
    /// While a tunnel is not agreed on: its limit.
    pub(super) handshake: Option<Handshake>,
    /// What it counts while it runs.
    pub(super) active: Option<Active>,
    /// What it counts while it runs on an endpoint.
    pub(super) in_flight: Option<InFlight>,
    finished: bool,
}

impl Ctx {
    /// The context of a request whose head was just read.
    pub(super) fn new(client: Option<Arc<Client>>) -> Self {
        Self {
            client,
            started: Instant::now(),
            route: None,
            tried: Vec::new(),
            attempt: AttemptState::None,
            reject: None,
            upgrade: false,
            pinned_by_bearer: false,
            request_id: None,
            received: 0,
            copies: Copies::default(),
            watched: None,
            handshake: None,
            active: None,
            in_flight: None,
            finished: false,
        }
    }

    /// The worker that it runs on.
    pub(super) fn worker(&self) -> Worker {
        self.client.as_ref().map_or(Worker(0), |client| client.worker)
    }

    /// Chance for one decision.
    pub(super) fn draw(&self) -> Draw {
        Draw { worker: self.worker(), random: rand::random() }
    }

    /// The service, once it is known.
    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        self.route.as_ref()?.service()
    }

    /// Begins an attempt where the route points.
    pub(super) fn begin_attempt(&mut self) {
        let Some(route) = &self.route else { return };
        self.in_flight = route.endpoint().map(|endpoint| InFlight::begin(&endpoint.stats));
        self.attempt = AttemptState::Waiting;
        self.received = 0;
        if let Some(client) = &self.client {
            client.link.set_running(Some(Running {
                snapshot: Arc::clone(&route.snapshot),
                service: route.forward.service,
                target: route.forward.target,
                endpoint: route.forward.endpoint,
            }));
        }
    }

    /// It is over and counted.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.in_flight = None;
        self.active = None;
        self.handshake = None;
        if let Some(client) = &self.client {
            client.link.set_running(None);
        }
    }
}

impl Drop for Ctx {
    /// A request that was dropped half-way (cut, or its connection panicked) is counted like any other.
    fn drop(&mut self) {
        if !self.finished {
            finish::abandoned(self);
        }
    }
}
