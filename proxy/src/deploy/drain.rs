//! Waits until nothing runs on endpoints that get no more requests, and ends at last what does not end by itself.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tidegate_core::{Snapshot, deploy::step::Drain, stats::EndpointStats};
use tokio::time::{Instant, sleep};

use crate::{net::Rosters, routing::Routing};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a row that must find nothing: a request that read the snapshot before may just be on its way.
const QUIET: u32 = 2;
/// How long what was cut may take to be gone: a tunnel says goodbye first.
const FAREWELL: Duration = Duration::from_secs(3);

/// Waits until nothing runs on the endpoints. After the time of the drain what still runs there is cut.
pub(super) async fn run(drain: &Drain, routing: &Routing, before: Option<Arc<Snapshot>>, rosters: &Rosters) {
    let counters = counters(drain, &routing.load_full(), before.as_deref());
    let deadline = Instant::now() + drain.timeout;
    let mut quiet = 0;
    while quiet < QUIET && Instant::now() < deadline + FAREWELL {
        sleep(LOOK).await;
        let busy = counters.iter().any(|counter| counter.in_flight.load(Relaxed) > 0);
        quiet = if busy { 0 } else { quiet + 1 };
        if busy && Instant::now() >= deadline {
            rosters.cut(&drain.endpoints);
        }
    }
}

/// The counters of the endpoints, also of those that have just been taken out of their target.
fn counters(drain: &Drain, now: &Snapshot, before: Option<&Snapshot>) -> Vec<Arc<EndpointStats>> {
    let mut counters = Vec::new();
    for snapshot in before.into_iter().chain([now]) {
        for (service, targets) in &drain.endpoints {
            let Some(service) = snapshot.service_named(service) else { continue };
            for (target, wanted) in targets {
                let target = service.target_named(target.as_str()).and_then(|idx| service.target(idx));
                let endpoints = target.iter().flat_map(|target| &target.endpoints);
                let drained = endpoints.filter(|endpoint| wanted.contains(&endpoint.address));
                counters.extend(drained.map(|endpoint| Arc::clone(&endpoint.stats)));
            }
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use tidegate_core::{State, compile, deploy::step::Endpoints};
    use tokio::time::timeout;

    use super::*;

    fn routing() -> Routing {
        let file = r#"
            [service.web]
            routes = [{ host = "*", path = "/" }]
            stable = "green"
            [service.web.target.green]
            endpoints = ["127.0.0.1:3001"]
            [service.web.target.blue]
            endpoints = ["127.0.0.1:3002", "127.0.0.1:3003"]
        "#;
        let state = Arc::new(State::load(&tidegate_config::parse(file).unwrap(), None).0);
        Routing::new(compile(&state, None, 1))
    }

    fn blue(timeout: Duration) -> Drain {
        let endpoints = vec!["127.0.0.1:3002".parse().unwrap()];
        let targets = [("blue".parse().unwrap(), endpoints)].into();
        Drain { endpoints: Endpoints::from([("web".parse().unwrap(), targets)]), timeout }
    }

    fn stats(routing: &Routing, address: &str) -> Arc<EndpointStats> {
        let snapshot = routing.load_full();
        let all = snapshot.services[0].targets.iter().flat_map(|target| &target.endpoints);
        let of = all.filter(|endpoint| endpoint.address == address.parse().unwrap());
        of.map(|endpoint| Arc::clone(&endpoint.stats)).next().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_what_runs_on_its_endpoints_and_for_nothing_else() {
        let routing = routing();
        let (drained, other) = (stats(&routing, "127.0.0.1:3002"), stats(&routing, "127.0.0.1:3003"));
        drained.in_flight.store(1, Relaxed);
        other.in_flight.store(1, Relaxed);
        let (drain, rosters) = (blue(Duration::from_secs(60)), Rosters::default());
        let mut ends = std::pin::pin!(run(&drain, &routing, None, &rosters));
        assert!(timeout(Duration::from_secs(50), &mut ends).await.is_err());
        drained.in_flight.store(0, Relaxed);
        assert!(timeout(Duration::from_secs(1), ends).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_also_when_something_does_not_even_end_when_it_is_cut() {
        let routing = routing();
        stats(&routing, "127.0.0.1:3002").in_flight.store(1, Relaxed);
        let (drain, rosters) = (blue(Duration::from_secs(5)), Rosters::default());
        let begun = Instant::now();
        run(&drain, &routing, None, &rosters).await;
        assert!((8..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_is_gone_is_waited_for_as_it_was_before() {
        let (now, before) = (routing(), routing());
        stats(&before, "127.0.0.1:3002").in_flight.store(1, Relaxed);
        let (drain, rosters) = (blue(Duration::from_secs(60)), Rosters::default());
        let ends = run(&drain, &now, Some(before.load_full()), &rosters);
        assert!(timeout(Duration::from_secs(50), ends).await.is_err());
    }
}
