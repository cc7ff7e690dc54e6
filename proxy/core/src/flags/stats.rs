//! Counters of flag sources. They are keyed by the source's name and survive every recompile.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counters of one source, written by whoever reads it.
#[derive(Debug, Default)]
pub struct SourceStats {
    /// Monotonic milliseconds, plus one, at which it was last read whole; 0: never.
    read_at_ms: AtomicU64,
    /// Whole reads.
    pub reads: AtomicU64,
    /// Reads and connections that failed.
    pub failures: AtomicU64,
    /// Connections that were made.
    pub connects: AtomicU64,
    /// Times that the source itself told of a change.
    pub wakeups: AtomicU64,
}

impl SourceStats {
    /// Notes that it was read whole at this moment (monotonic).
    pub fn note_read(&self, mono: Duration) {
        self.reads.fetch_add(1, Relaxed);
        let ms = u64::try_from(mono.as_millis()).unwrap_or(u64::MAX);
        self.read_at_ms.fetch_max(ms.saturating_add(1), Relaxed);
    }

    /// How long ago it was last read whole; `None`: never.
    pub fn age(&self, mono: Duration) -> Option<Duration> {
        let at = self.read_at_ms.load(Relaxed).checked_sub(1)?;
        Some(mono.saturating_sub(Duration::from_millis(at)))
    }
}
