//! Waits until nothing runs on endpoints that get no more requests.

use std::{sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use tidegate_core::{Snapshot, deploy::step::Drain, stats::EndpointStats};
use tokio::time::{Instant, sleep};

use crate::routing::Routing;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a row that must find nothing: a request that read the snapshot before may just be on its way.
const QUIET: u32 = 2;

/// Waits until nothing runs on the endpoints, or their time is over.
pub(super) async fn run(drain: &Drain, routing: &Routing, before: Option<Arc<Snapshot>>) {
    let snapshot = routing.load_full();
    let counters = counters(drain, &snapshot, before.as_deref());
    let deadline = Instant::now() + drain.timeout;
    let mut quiet = 0;
    while quiet < QUIET && Instant::now() < deadline {
        sleep(LOOK).await;
        let busy = counters.iter().any(|counter| counter.in_flight.load(Relaxed) > 0);
        quiet = if busy { 0 } else { quiet + 1 };
    }
}

/// The counters of the endpoints, also of those that have just been taken out of their target.
fn counters(drain: &Drain, now: &Snapshot, before: Option<&Snapshot>) -> Vec<Arc<EndpointStats>> {
    let mut counters = Vec::new();
    for snapshot in before.into_iter().chain([now]) {
        for (service, targets) in &drain.endpoints {
            let Some(service) = snapshot.service_named(service) else { continue };
            for (target, wanted) in targets {
                let Some(target) = service.target_named(target.as_str()).and_then(|idx| service.target(idx)) else {
                    continue;
                };
                let drained = target.endpoints.iter().filter(|endpoint| wanted.contains(&endpoint.address));
                counters.extend(drained.map(|endpoint| Arc::clone(&endpoint.stats)));
            }
        }
    }
    counters
}
