//! What copies may hold: requests and bytes per mirror, each with its counter, given back however a copy ends.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tidegate_core::stats::{BUCKET_BOUNDS_US, MirrorStats};

/// Copies of one mirror that may run at once. With the deadline of 5 s a hung shadow so costs 64 sockets and no more,
/// and a healthy one that answers in 20 ms is sent 3,200 copies a second.
pub(super) const MAX_COPIES: u32 = 64;

/// Bytes of bodies that one mirror may hold at once: [`MAX_COPIES`] of the default 64 KiB four times over, so that
/// uploads which are still being gathered do not crowd out copies that are ready to go.
pub(super) const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// How a copy ended. The order is that of [`tidegate_core::stats::MIRROR_RESULTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The shadow's answer was read to its end.
    Sent,
    /// The shadow refused, broke off, or did not speak HTTP; or the request cannot be written again as it was.
    Error,
    /// The shadow's answer was not complete at the deadline.
    Timeout,
    /// [`MAX_COPIES`] ran already.
    DroppedRequests,
    /// [`MAX_BYTES`] were held already.
    DroppedBytes,
    /// The body is longer than the mirror's `max_body`.
    DroppedBody,
    /// The client had not sent its whole body at the deadline.
    DroppedSlow,
    /// The request ended before its body was complete.
    Aborted,
    /// The shadow has no endpoint that can be used: unhealthy, not resolved, or just not reached.
    Unavailable,
}

/// Counts the end of a copy.
pub(super) fn count(stats: &MirrorStats, ending: Ending) {
    if let Some(counter) = stats.results.get(ending as usize) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Counts an answer's class; 0: there was none.
pub(super) fn count_class(stats: &MirrorStats, status: u16) {
    if let Some(counter) = stats.classes.get(usize::from(status / 100)) {
        counter.fetch_add(1, Relaxed);
    }
}

/// Counts how long the shadow took for a complete answer.
pub(super) fn count_duration(stats: &MirrorStats, took: std::time::Duration) {
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if let Some(bucket) = stats.durations.get(BUCKET_BOUNDS_US.partition_point(|bound| *bound < took_us)) {
        bucket.fetch_add(1, Relaxed);
    }
    stats.duration_sum_us.fetch_add(took_us, Relaxed);
}

/// The right to run one copy.
#[derive(Debug)]
pub(super) struct Slot(Arc<MirrorStats>);

impl Slot {
    /// Takes one, if one is left.
    pub(super) fn take(stats: &Arc<MirrorStats>) -> Option<Self> {
        let taken =
            stats.in_flight.fetch_update(Relaxed, Relaxed, |running| (running < MAX_COPIES).then_some(running + 1));
        taken.ok().map(|_| Self(Arc::clone(stats)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Bytes that are held for one copy.
#[derive(Debug)]
pub(super) struct Held {
    stats: Arc<MirrorStats>,
    bytes: u64,
}

impl Held {
    /// Nothing yet.
    pub(super) fn nothing(stats: &Arc<MirrorStats>) -> Self {
        Self { stats: Arc::clone(stats), bytes: 0 }
    }

    /// Holds more, if the mirror's bound allows.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= MAX_BYTES);
        let grown = self.stats.bytes_held.fetch_update(Relaxed, Relaxed, more).is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stats.bytes_held.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::stats::MIRROR_RESULTS;

    use super::*;

    #[test]
    fn endings_are_counted_under_their_published_names() {
        let named = [
            (Ending::Sent, "sent"),
            (Ending::Error, "error"),
            (Ending::Timeout, "timeout"),
            (Ending::DroppedRequests, "dropped_requests"),
            (Ending::DroppedBytes, "dropped_bytes"),
            (Ending::DroppedBody, "dropped_body"),
            (Ending::DroppedSlow, "dropped_slow"),
            (Ending::Aborted, "aborted"),
            (Ending::Unavailable, "unavailable"),
        ];
        assert_eq!(named.len(), MIRROR_RESULTS.len());
        for (ending, name) in named {
            assert_eq!(MIRROR_RESULTS[ending as usize], name);
        }
    }

    #[test]
    fn slots_and_bytes_come_back_when_they_are_dropped() {
        let stats = Arc::new(MirrorStats::default());
        let mut slots: Vec<_> = (0..MAX_COPIES).map(|_| Slot::take(&stats).unwrap()).collect();
        assert!(Slot::take(&stats).is_none());
        slots.pop();
        assert!(Slot::take(&stats).is_some());

        let mut first = Held::nothing(&stats);
        assert!(first.grow(MAX_BYTES));
        let mut second = Held::nothing(&stats);
        assert!(!second.grow(1));
        drop(first);
        assert!(second.grow(1));
        drop((slots, second));
        assert_eq!((stats.in_flight.load(Relaxed), stats.bytes_held.load(Relaxed)), (0, 0));
    }

    #[test]
    fn a_duration_on_a_bound_belongs_to_its_bucket() {
        let stats = MirrorStats::default();
        for us in [500, 501, 60_000_000, 60_000_001] {
            count_duration(&stats, std::time::Duration::from_micros(us));
        }
        let filled: Vec<usize> =
            (0..stats.durations.len()).filter(|at| stats.durations[*at].load(Relaxed) > 0).collect();
        assert_eq!(filled, [0, 1, 15, 16]);
    }
}
