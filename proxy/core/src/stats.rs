//! Counters of requests. They are keyed by identity, never by weight, and survive every recompile.
//!
//! Sharded by worker where every request writes, so that workers do not fight for a cache line.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use serde::Serialize;

use crate::{deploy::watch::WatchSlot, sequence::Sequence};

/// Which worker thread a request runs on; also the shard that it counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker(pub usize);

/// Upper bounds of the latency histogram, in microseconds; the last bucket is everything above.
/// About 1-2.5-5 per decade from 0.5 ms to 60 s, as Envoy and Prometheus clients use.
pub const BUCKET_BOUNDS_US: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000,
];

/// Counters on their own cache lines, one per worker.
///
/// A clone counts on the same lines: who holds one reaches them without a detour.
#[derive(Debug)]
pub struct Sharded<T>(Arc<[Line<T>]>);

impl<T> Clone for Sharded<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T: Default> Sharded<T> {
    /// One shard for each of `workers` (at least one).
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Line::default()).collect())
    }

    /// The shard of a worker; workers beyond the number of shards share.
    pub fn of(&self, worker: Worker) -> &T {
        if let Some(line) = self.0.get(worker.0) {
            // Nearly always: a division would cost as much as the counting.
            return &line.0;
        }
        // Invariant: there is at least one shard.
        #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length, which is at least one")]
        &self.0[worker.0 % self.0.len()].0
    }

    /// Every shard, to sum up.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }
}

/// Counters of a service.
#[derive(Debug)]
pub struct ServiceStats {
    /// Per worker: where its low-discrepancy sequence is.
    pub sequence: Sequence,
    /// Requests that run now.
    pub active: Sharded<AtomicU32>,
    /// Retries of sent requests that run now.
    pub retrying: AtomicU32,
    /// Retries that the budget refused.
    pub retries_refused: AtomicU64,
    /// Visitors that were given a cookie.
    pub new_visitors: AtomicU64,
    /// Pins that were not authorised.
    pub pins_refused: AtomicU64,
    /// Where requests count for a deployment that watches the service.
    pub watch: WatchSlot,
}

impl ServiceStats {
    /// Zeroed counters for this many workers, and a sequence at its beginning.
    pub fn new(workers: usize, sequence: Sequence) -> Self {
        Self {
            sequence,
            active: Sharded::new(workers),
            retrying: AtomicU32::new(0),
            retries_refused: AtomicU64::new(0),
            new_visitors: AtomicU64::new(0),
            pins_refused: AtomicU64::new(0),
            watch: WatchSlot::default(),
        }
    }

    /// Requests that run now, over all workers.
    pub fn active_now(&self) -> u32 {
        // A worker may end what another began: single shards wrap, their sum does not.
        self.active.iter().fold(0_u32, |sum, shard| sum.wrapping_add(shard.load(Relaxed)))
    }
}

/// One worker's counters of a target.
#[derive(Debug, Default)]
pub struct TargetShard {
    /// Requests by class of their status: none, 1xx to 5xx.
    pub classes: [AtomicU64; 6],
    /// Histogram of the time from the request's head to the end of its answer.
    pub durations: [AtomicU64; BUCKET_BOUNDS_US.len() + 1],
    /// Sum of those times in microseconds.
    pub duration_sum_us: AtomicU64,
    /// Requests that chose this target and were sent elsewhere because it had no available endpoint.
    pub diverted: AtomicU64,
    /// Attempts by how they ended, in the order of [`ATTEMPT_RESULTS`].
    pub attempts: [AtomicU64; ATTEMPT_RESULTS.len()],
}

/// How an attempt at an endpoint ended: the values of the label `result`.
pub const ATTEMPT_RESULTS: [&str; 5] = ["ok", "connect", "timeout", "reset", "bad_answer"];

/// Counters of a target.
#[derive(Debug)]
pub struct TargetStats {
    /// Per worker.
    pub shards: Sharded<TargetShard>,
}

impl TargetStats {
    /// Zeroed counters for this many workers.
    pub fn new(workers: usize) -> Self {
        Self { shards: Sharded::new(workers) }
    }
}

/// Counters of an endpoint.
#[derive(Debug, Default)]
pub struct EndpointStats {
    /// Requests that run on it now; what "least requests of two choices" compares.
    pub in_flight: AtomicU32,
    /// 5xx answers in a row.
    pub server_errors_in_a_row: AtomicU32,
    /// Requests that it was given.
    pub requests: AtomicU64,
    /// Connect errors, timeouts and resets.
    pub failures: AtomicU64,
}

/// How a copy ended: the values of the label `result` of `mirror_requests_total`.
pub const MIRROR_RESULTS: [&str; 9] = [
    "sent",
    "error",
    "timeout",
    "dropped_requests",
    "dropped_bytes",
    "dropped_body",
    "dropped_slow",
    "aborted",
    "unavailable",
];

/// Counters of a mirror.
#[derive(Debug, Default)]
pub struct MirrorStats {
    /// Copies by how they ended, in the order of [`MIRROR_RESULTS`].
    pub results: [AtomicU64; MIRROR_RESULTS.len()],
    /// Copies by class of the shadow's status: none, 1xx to 5xx.
    pub classes: [AtomicU64; 6],
    /// Histogram of the shadow's times.
    pub durations: [AtomicU64; BUCKET_BOUNDS_US.len() + 1],
    /// Sum of those times in microseconds.
    pub duration_sum_us: AtomicU64,
    /// Copies that run now.
    pub in_flight: AtomicU32,
    /// Bytes of bodies that are held for copies now.
    pub bytes_held: AtomicU64,
    /// Pairs that were compared.
    pub compared: AtomicU64,
    /// Pairs whose status, latency or body differed.
    pub differences: [AtomicU64; DIFFERENCE_KINDS.len()],
    /// Where the round over the shadow's endpoints is.
    pub turn: AtomicU32,
    /// The last pairs that differed.
    pub recent: RecentDifferences,
}

/// What may differ between the two answers of a compared pair.
pub const DIFFERENCE_KINDS: [&str; 3] = ["status", "latency", "body"];

/// Differing pairs that a mirror keeps to be shown.
pub const DIFFERENCES_KEPT: usize = 100;

/// The last [`DIFFERENCES_KEPT`] pairs that differed. Locked by copies that ended and by the admin API, never by a request.
#[derive(Debug, Default)]
pub struct RecentDifferences(Mutex<VecDeque<Difference>>);

impl RecentDifferences {
    /// Keeps one more, and forgets the oldest if need be.
    pub fn push(&self, difference: Difference) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == DIFFERENCES_KEPT {
            kept.pop_front();
        }
        kept.push_back(difference);
    }

    /// The kept ones, newest first.
    pub fn newest_first(&self) -> Vec<Difference> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

/// A pair of answers that differed. It holds no header, no query and no body: those may be secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// When the pair was compared, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The request id that both requests carried.
    pub request_id: String,
    /// The method.
    pub method: String,
    /// The path without its query, cut to 256 bytes.
    pub path: String,
    /// What differed, of [`DIFFERENCE_KINDS`].
    pub kinds: Vec<&'static str>,
    /// For JSON bodies: where the first difference is, as a JSON pointer.
    pub at: Option<String>,
    /// The primary's answer.
    pub primary: Answered,
    /// The shadow's answer.
    pub shadow: Answered,
}

/// One answer of a pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Microseconds from the request to the end of the answer.
    pub latency_us: u64,
    /// Length of its body in bytes.
    pub body_bytes: u64,
    /// SHA-256 of the first 64 KiB of its body, in hexadecimal.
    pub body_sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(at_unix_ms: u64) -> Difference {
        let answered = Answered { status: 200, latency_us: 1, body_bytes: 0, body_sha256: String::new() };
        Difference {
            at_unix_ms,
            request_id: String::new(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            kinds: vec!["status"],
            at: None,
            primary: answered.clone(),
            shadow: answered,
        }
    }

    #[test]
    fn only_the_last_differences_are_kept_newest_first() {
        let recent = RecentDifferences::default();
        for at in 0..=DIFFERENCES_KEPT as u64 {
            recent.push(difference(at));
        }
        let kept: Vec<u64> = recent.newest_first().iter().map(|difference| difference.at_unix_ms).collect();
        assert_eq!(kept, (1..=DIFFERENCES_KEPT as u64).rev().collect::<Vec<_>>());
    }
}
