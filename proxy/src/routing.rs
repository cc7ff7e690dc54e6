//! The one pointer to the snapshot that requests read. Only the controller publishes.

use std::{sync::Arc, time::Instant};

use arc_swap::{ArcSwap, Guard};
use tidegate_core::{Generation, Moment, Snapshot};
use tokio::sync::{mpsc, watch};

/// The snapshot in force, and a way to wait for the next.
#[derive(Debug)]
pub(crate) struct Routing {
    current: ArcSwap<Snapshot>,
    published: watch::Sender<Generation>,
    started: Instant,
}

impl Routing {
    /// Begins with this snapshot.
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        let published = watch::Sender::new(snapshot.generation);
        Self { current: ArcSwap::from_pointee(snapshot), published, started: Instant::now() }
    }

    /// The snapshot in force: the only load of a request.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The snapshot in force, to keep.
    pub(crate) fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes a snapshot the one in force.
    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        self.current.store(snapshot);
        self.published.send_replace(generation);
    }

    /// Changes with every snapshot that is published.
    pub(crate) fn published(&self) -> watch::Receiver<Generation> {
        self.published.subscribe()
    }

    /// The moment now, on the clock that every rule of this process follows.
    pub(crate) fn now(&self) -> Moment {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Moment { mono: self.started.elapsed(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// A sign that an endpoint is to be looked at. Sent with `try_send`: it never delays a request.
#[derive(Debug, Clone)]
pub(crate) struct PassiveSign {
    /// Where.
    pub(crate) service: tidegate_config::ServiceId,
    /// Its target.
    pub(crate) target: tidegate_config::TargetId,
    /// The endpoint.
    pub(crate) endpoint: tidegate_config::EndpointAddress,
    /// Why.
    pub(crate) sign: Sign,
}

/// Why an endpoint is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Live traffic saw that something is wrong: `ConnectFailed` or `ServerErrors`.
    Seen(tidegate_core::health::Observation),
    /// A deployment has started something there, or has found it well.
    Started,
}

/// Signs that may wait for the health checks; more are dropped, since each says the same.
pub(crate) const PASSIVE_QUEUE: usize = 1024;

/// Where requests leave their signs.
pub(crate) type PassiveSigns = mpsc::Sender<PassiveSign>;
