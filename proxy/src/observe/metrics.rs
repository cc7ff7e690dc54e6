//! Metrics in the Prometheus text format, read at each scrape from the counters and the snapshot in force.
//!
//! Nothing is registered and nothing is kept: a service that is gone has no series. Labels are names of services,
//! targets, endpoints, mirrors and listeners, and reasons of ours; never what a client sends. Series that were never
//! counted are left out, so ten thousand quiet services cost a scrape little.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prometheus::TextEncoder;
use tidegate_core::{
    Health, Service, Snapshot, Target,
    snapshot::Mirror,
    stats::{ATTEMPT_RESULTS, DIFFERENCE_KINDS, MIRROR_RESULTS, TargetShard},
};

use super::{counters::Counters, families::Family};
use crate::lane::Shared;

/// Classes of statuses, in the order of the counters.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The lane that served a request. There is one.
const LANE: &str = "pingora";

/// Further families, from a part of the process that counts for itself.
pub(crate) type Source = Box<dyn Fn() -> Vec<Family> + Send + Sync>;

/// All metrics of the process.
pub(crate) struct Metrics {
    shared: Arc<Shared>,
    sources: Vec<Source>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics of the data plane, and of these other parts.
    pub(crate) fn new(shared: Arc<Shared>, sources: Vec<Source>) -> Self {
        Self { shared, sources }
    }

    /// The text of a scrape.
    pub(crate) fn render(&self) -> String {
        let snapshot = self.shared.routing.load_full();
        let mut families = process(&snapshot, &self.shared.counters);
        families.extend(requests(&snapshot));
        families.extend(routing(&snapshot));
        families.extend(mirrors(&snapshot));
        families.extend(self.sources.iter().flat_map(|source| source()));
        let families: Vec<_> = families.into_iter().filter_map(Family::finish).collect();
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written");
            String::new()
        })
    }
}

fn process(snapshot: &Snapshot, counters: &Counters) -> Vec<Family> {
    let mut generation = Family::gauge("config_generation", "Number of the snapshot in force.");
    generation.add_count(&[], snapshot.generation.0);
    let mut connections = Family::gauge("connections", "Open connections of clients.");
    let mut accepted = Family::counter("connections_accepted_total", "Connections of clients that were taken in.");
    let mut refused = Family::counter("connections_refused_total", "Connections of clients that were turned away.");
    for (listener, counts) in counters.listeners() {
        let listener = listener.as_str();
        let (open, idle) = (counts.open.load(Relaxed).max(0), counts.idle.load(Relaxed).max(0));
        connections.add(&[("listener", listener), ("state", "active")], (open - idle).max(0) as f64);
        connections.add(&[("listener", listener), ("state", "idle")], idle as f64);
        accepted.add_count(&[("listener", listener)], counts.accepted.load(Relaxed));
        refused.add_count(&[("listener", listener), ("reason", "cap")], counts.over_cap.load(Relaxed));
        refused.add_count(&[("listener", listener), ("reason", "accept_error")], counts.accept_errors.load(Relaxed));
    }
    let mut rejects = Family::counter("rejects_total", "Requests that Tidegate answered itself.");
    counters.rejects().for_each(|(reason, count)| rejects.add_count(&[("reason", reason)], count));
    let mut panics = Family::counter("panics_total", "Requests that panicked.");
    panics.add_count(&[], counters.panics());
    vec![generation, connections, accepted, refused, rejects, panics]
}

fn requests(snapshot: &Snapshot) -> Vec<Family> {
    let mut total = Family::counter("requests_total", "Requests by class of the status that the client got.");
    let mut durations = Family::durations("request_duration_seconds", "From a request's head to its answer's end.");
    let mut attempts = Family::counter("upstream_attempts_total", "Attempts at endpoints by how they ended.");
    let mut diverted = Family::counter("diverted_total", "Requests whose target had no available endpoint.");
    for (service, target) in targets(snapshot) {
        let place = [("service", service.id.as_str()), ("target", target.id.as_str())];
        for (class, count) in CLASSES.iter().zip(sum(target, |shard| &shard.classes)).filter(|(_, count)| *count > 0) {
            let [service, target] = place;
            total.add_count(&[service, target, ("code_class", class), ("lane", LANE)], count);
        }
        let counts = sum(target, |shard| &shard.durations);
        if counts.iter().any(|count| *count > 0) {
            let sum_us = target.stats.shards.iter().map(|shard| shard.duration_sum_us.load(Relaxed)).sum();
            durations.add_durations(&place, &counts, sum_us);
        }
        let ended = ATTEMPT_RESULTS.iter().zip(sum(target, |shard| &shard.attempts));
        for (result, count) in ended.filter(|(_, count)| *count > 0) {
            let [service, target] = place;
            attempts.add_count(&[service, target, ("result", result)], count);
        }
        let count = target.stats.shards.iter().map(|shard| shard.diverted.load(Relaxed)).sum();
        if count > 0 {
            diverted.add_count(&place, count);
        }
    }
    vec![total, durations, attempts, diverted]
}

fn routing(snapshot: &Snapshot) -> Vec<Family> {
    let mut in_flight = Family::gauge("in_flight", "Requests that run on a target.");
    let mut weight = Family::gauge("split_weight", "Share of a target in its service's split, 0 to 1.");
    let mut healthy = Family::gauge("endpoint_healthy", "Whether an endpoint is in use: 1 or 0.");
    for (service, target) in targets(snapshot) {
        let place = [("service", service.id.as_str()), ("target", target.id.as_str())];
        let running: u32 = target.endpoints.iter().map(|endpoint| endpoint.stats.in_flight.load(Relaxed)).sum();
        in_flight.add(&place, running.into());
        let split = snapshot.state.services.get(&service.id).map(|state| &state.wanted.split);
        weight.add(&place, split.map_or(0.0, |split| f64::from(split.weight(&target.id).points()) / 10_000.0));
        for endpoint in &target.endpoints {
            let [service, target] = place;
            let address = endpoint.address.to_string();
            let up = matches!(endpoint.health, Health::Healthy | Health::Suspect);
            healthy.add(&[service, target, ("endpoint", &address)], f64::from(u8::from(up)));
        }
    }
    let mut overlay = Family::gauge("failover_active", "Whether a failover moves the service: 1 or 0.");
    let mut retries = Family::counter("retries_refused_total", "Retries that the retry budget refused.");
    let mut pins = Family::counter("pins_refused_total", "Pins of requests that were not authorised.");
    let mut visitors = Family::counter("new_visitors_total", "Visitors that were given a cookie.");
    for service in &snapshot.services {
        let place = [("service", service.id.as_str())];
        overlay.add(&place, f64::from(u8::from(service.overlay.is_some())));
        retries.add_count(&place, service.stats.retries_refused.load(Relaxed));
        pins.add_count(&place, service.stats.pins_refused.load(Relaxed));
        visitors.add_count(&place, service.stats.new_visitors.load(Relaxed));
    }
    vec![in_flight, weight, healthy, overlay, retries, pins, visitors]
}

fn mirrors(snapshot: &Snapshot) -> Vec<Family> {
    let mut results = Family::counter("mirror_requests_total", "Copies by how they ended.");
    let mut differences = Family::counter("mirror_differences_total", "Compared answers that differed.");
    let mut compared = Family::counter("mirror_compared_total", "Answers that were compared.");
    let mut durations = Family::durations("mirror_duration_seconds", "How long shadows took for copies.");
    let mut in_flight = Family::gauge("mirror_in_flight", "Copies that run.");
    let mut held = Family::gauge("mirror_held_bytes", "Bytes of bodies that are held for copies.");
    for (service, mirror) in all_mirrors(snapshot) {
        let place = [("service", service.id.as_str()), ("mirror", mirror.id.as_str())];
        let [of, name] = place;
        let stats = &mirror.stats;
        for (result, count) in MIRROR_RESULTS.iter().zip(&stats.results) {
            results.add_count(&[of, name, ("result", result)], count.load(Relaxed));
        }
        for (kind, count) in DIFFERENCE_KINDS.iter().zip(&stats.differences) {
            differences.add_count(&[of, name, ("kind", kind)], count.load(Relaxed));
        }
        compared.add_count(&place, stats.compared.load(Relaxed));
        let counts: Vec<_> = stats.durations.iter().map(|count| count.load(Relaxed)).collect();
        durations.add_durations(&place, &counts, stats.duration_sum_us.load(Relaxed));
        in_flight.add(&place, stats.in_flight.load(Relaxed).into());
        held.add_count(&place, stats.bytes_held.load(Relaxed));
    }
    vec![results, differences, compared, durations, in_flight, held]
}

fn targets(snapshot: &Snapshot) -> impl Iterator<Item = (&Service, &Target)> {
    snapshot.services.iter().flat_map(|service| service.targets.iter().map(|target| (service.as_ref(), target)))
}

fn all_mirrors(snapshot: &Snapshot) -> impl Iterator<Item = (&Service, &Mirror)> {
    snapshot.services.iter().flat_map(|service| service.mirrors.iter().map(|mirror| (service.as_ref(), mirror)))
}

/// Counters of a target, summed over the workers.
fn sum<const N: usize>(target: &Target, of: fn(&TargetShard) -> &[AtomicU64; N]) -> [u64; N] {
    let mut sums = [0; N];
    for shard in target.stats.shards.iter() {
        for (sum, count) in sums.iter_mut().zip(of(shard)) {
            *sum += count.load(Relaxed);
        }
    }
    sums
}
