//! Counters of the data plane that belong to no service: connections, and answers that Tidegate gave itself.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use tidegate_config::ListenerId;
use tidegate_core::{ListenerIdx, Reject};

/// Every reason, in the order of the counters.
const REJECTS: [Reject; 13] = [
    Reject::BadHost,
    Reject::BadPath,
    Reject::NoRoute,
    Reject::NoTarget,
    Reject::Unreachable,
    Reject::BadAnswer,
    Reject::TooSlow,
    Reject::BodyTooLarge,
    Reject::HeadTooLarge,
    Reject::ClientTooSlow,
    Reject::Malformed,
    Reject::Overloaded,
    Reject::Internal,
];

/// Why a connection was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The listener or the client has too many.
    Cap,
    /// The kernel could not give it to us: no descriptors or no memory.
    AcceptError,
}

/// Counters of a listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    /// Connections that are open.
    pub(crate) open: AtomicI64,
    /// Of them, those that wait for a request.
    pub(crate) idle: AtomicI64,
    /// Connections that were taken in.
    pub(crate) accepted: AtomicU64,
    /// Connections over a cap.
    pub(crate) over_cap: AtomicU64,
    /// Connections that could not be accepted.
    pub(crate) accept_errors: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Counters {
    listeners: Vec<(ListenerId, Arc<ListenerCounters>)>,
    rejects: [AtomicU64; REJECTS.len()],
    panics: AtomicU64,
}

/// What of a connection is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    listener: Option<Arc<ListenerCounters>>,
    gauge: fn(&ListenerCounters) -> &AtomicI64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            (self.gauge)(listener).fetch_sub(1, Relaxed);
        }
    }
}

impl Counters {
    /// Zeroed counters for listeners in the order of their [`ListenerIdx`].
    pub(crate) fn new(listeners: impl IntoIterator<Item = ListenerId>) -> Self {
        Self {
            listeners: listeners.into_iter().map(|id| (id, Arc::default())).collect(),
            rejects: std::array::from_fn(|_| AtomicU64::new(0)),
            panics: AtomicU64::new(0),
        }
    }

    fn listener(&self, listener: ListenerIdx) -> Option<&Arc<ListenerCounters>> {
        self.listeners.get(listener.get()).map(|(_, counters)| counters)
    }

    fn count(&self, listener: ListenerIdx, gauge: fn(&ListenerCounters) -> &AtomicI64) -> Counted {
        let listener = self.listener(listener).cloned();
        if let Some(listener) = &listener {
            gauge(listener).fetch_add(1, Relaxed);
        }
        Counted { listener, gauge }
    }

    /// A connection was taken in.
    pub(crate) fn opened(&self, listener: ListenerIdx) -> Counted {
        if let Some(listener) = self.listener(listener) {
            listener.accepted.fetch_add(1, Relaxed);
        }
        self.count(listener, |counters| &counters.open)
    }

    /// A connection waits for a request.
    pub(crate) fn idle(&self, listener: ListenerIdx) -> Counted {
        self.count(listener, |counters| &counters.idle)
    }

    /// A connection was not taken in.
    pub(crate) fn refused(&self, listener: ListenerIdx, refusal: Refusal) {
        let Some(listener) = self.listener(listener) else { return };
        match refusal {
            Refusal::Cap => &listener.over_cap,
            Refusal::AcceptError => &listener.accept_errors,
        }
        .fetch_add(1, Relaxed);
    }

    /// A request was answered by Tidegate itself.
    pub(crate) fn rejected(&self, reject: Reject) {
        let counters = REJECTS.iter().zip(&self.rejects);
        if let Some((_, counter)) = counters.into_iter().find(|(reason, _)| **reason == reject) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// A request panicked.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// The listeners and their counters.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (&ListenerId, &ListenerCounters)> {
        self.listeners.iter().map(|(id, counters)| (id, counters.as_ref()))
    }

    /// Answers of Tidegate itself, by reason.
    pub(crate) fn rejects(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REJECTS.iter().zip(&self.rejects).map(|(reject, count)| (reject.label(), count.load(Relaxed)))
    }

    /// Requests that panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reject_has_its_own_counter() {
        let counters = Counters::new([]);
        for (times, reject) in REJECTS.iter().enumerate() {
            (0..=times).for_each(|_| counters.rejected(*reject));
        }
        let counts: Vec<_> = counters.rejects().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=13).collect::<Vec<_>>());
    }
}
