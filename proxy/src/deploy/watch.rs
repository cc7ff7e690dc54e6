//! Watches the targets of a deployment by the proxy's own counters, and tells the engine what it finds.
//!
//! The watch begins with the first request of a new version and lasts as long as the deployment: a guard that may speak
//! at any time, and in a window a gate that speaks at its end. Here are only the clock and the wires; what is counted
//! and what it means is [`tidegate_core::deploy::watch`].

mod service;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidegate_admin::Measured;
use tidegate_config::ServiceId;
use tidegate_core::deploy::{
    DeploymentId,
    machine::{Input, Judged},
    step::{AnalyseMode, WatchSpec},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use self::service::{Kept, WatchedService};
use crate::routing::Routing;

/// Longest time between two ticks while a window is open: what the evidence was tuned with.
const LONGEST_TICK: Duration = Duration::from_secs(5);
/// Shortest: below this, ticks hold too few requests to be worth their reading.
const SHORTEST_TICK: Duration = Duration::from_millis(100);
/// Ticks of a window that is too short for the longest ones.
const TICKS_OF_A_WINDOW: u32 = 20;
/// Time between two ticks of the guard while no window is open.
const GUARD_TICK: Duration = Duration::from_secs(1);

/// Where findings go.
pub(crate) type Tell = Arc<dyn Fn(Input) + Send + Sync>;

/// What is kept of a watch over a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Checkpoint(BTreeMap<ServiceId, Kept>);

/// A watch that runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    id: DeploymentId,
    routing: Arc<Routing>,
    tell: Tell,
    services: Mutex<BTreeMap<ServiceId, WatchedService>>,
    /// A window was opened, so the next tick is due sooner.
    opened: Notify,
}

impl Watch {
    /// Begins to watch: requests that are decided on from now on count. Must be called within a runtime.
    pub(crate) fn start(id: DeploymentId, spec: WatchSpec, routing: Arc<Routing>, tell: Tell) -> Self {
        Self::restore(id, spec, Checkpoint(BTreeMap::new()), routing, tell)
    }

    /// Goes on with what an earlier process had found. Must be called within a runtime.
    pub(crate) fn restore(
        id: DeploymentId,
        spec: WatchSpec,
        checkpoint: Checkpoint,
        routing: Arc<Routing>,
        tell: Tell,
    ) -> Self {
        let (snapshot, now) = (routing.load_full(), Instant::now());
        let Checkpoint(mut kept) = checkpoint;
        let services = spec.arms.iter().map(|(service, arms)| {
            let kept = kept.remove(service);
            (service.clone(), WatchedService::new(service, arms, &spec, kept, &snapshot, now))
        });
        let services = Mutex::new(services.collect());
        let shared = Arc::new(Shared { id, routing, tell, services, opened: Notify::new() });
        let task = tokio::spawn(run(Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Opens a window: at its end, a verdict is told for each service, once. What is found just then is told from here:
    /// `tell` must not wait for whoever calls this.
    pub(crate) fn window(&self, op: u64, length: Duration, mode: AnalyseMode) {
        tracing::debug!(deployment = %self.shared.id, op, ?length, ?mode, "the analysis opens a window");
        let now = Instant::now();
        self.shared.each(|service| service.open_window(now, length, mode));
        self.shared.opened.notify_one();
    }

    /// What was counted, by service and target.
    pub(crate) fn measured(&self) -> Vec<Measured> {
        self.shared.services().iter().flat_map(|(id, service)| service.measured(id)).collect()
    }

    /// Counts a conversion that a back end reports; `false`: this goal is not watched for.
    pub(crate) fn convert(&self, visitor: &str, goal: &str) -> bool {
        // A visitor may be known to several services; each counts it for itself.
        self.shared.services().values().filter(|service| service.convert(visitor, goal)).count() > 0
    }

    /// What a restart needs to go on.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let services = self.shared.services();
        Checkpoint(services.iter().map(|(id, service)| (id.clone(), service.kept())).collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
        // It may be at work just now: what is gone it does not begin to count in again.
        let mut services = std::mem::take(&mut *self.shared.services());
        services.values_mut().for_each(WatchedService::detach);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Shared {
    fn services(&self) -> MutexGuard<'_, BTreeMap<ServiceId, WatchedService>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with each service, and tells what came of it.
    fn each(&self, mut act: impl FnMut(&mut WatchedService) -> Option<Judged>) {
        let snapshot = self.routing.load_full();
        let mut findings = Vec::new();
        for (id, service) in self.services().iter_mut() {
            service.look(id, &snapshot);
            if let Some(judged) = act(service) {
                findings.push(Input::Judged { service: id.clone(), judged });
            }
        }
        // Not under the lock: whoever is told may ask back.
        findings.into_iter().for_each(|finding| (self.tell)(finding));
    }

    /// Only looks whether traffic was changed, so that no change falls between two ticks unseen.
    fn look(&self) {
        let snapshot = self.routing.load_full();
        self.services().iter_mut().for_each(|(id, service)| service.look(id, &snapshot));
    }

    fn next_tick(&self) -> Instant {
        let next = self.services().values().map(WatchedService::next_tick).min();
        next.unwrap_or_else(|| Instant::now() + LONGEST_TICK)
    }
}

/// Ticks until it is aborted.
async fn run(shared: Arc<Shared>) {
    let mut published = shared.routing.published();
    loop {
        let next = shared.next_tick();
        tokio::select! {
            () = sleep_until(next) => {
                let now = Instant::now();
                shared.each(|service| service.tick(now));
            }
            () = shared.opened.notified() => {}
            changed = published.changed() => match changed {
                Ok(()) => shared.look(),
                // Nothing is published any more: the process ends.
                Err(_) => return,
            },
        }
    }
}
