//! What the control side counts and knows of itself, for metrics and readiness.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tidegate_config::ServiceId;
use tidegate_core::{Generation, state::Cause};

/// Counters and alarms of the control side.
#[derive(Debug, Default)]
pub(crate) struct ControlStats {
    /// Files that were loaded.
    pub(crate) reloads_accepted: AtomicU64,
    /// Files that were not loaded, because they have problems or could not be saved.
    pub(crate) reloads_rejected: AtomicU64,
    /// Snapshots that were published.
    pub(crate) published: AtomicU64,
    failovers: Mutex<BTreeMap<(ServiceId, &'static str), u64>>,
    unsaved: AtomicBool,
    stopping: AtomicBool,
}

impl ControlStats {
    /// Counts a failover.
    pub(crate) fn failed_over(&self, service: &ServiceId, cause: Cause) {
        let reason = match cause {
            Cause::Health => "health",
            Cause::Operator => "operator",
        };
        let mut failovers = self.failovers.lock().unwrap_or_else(PoisonError::into_inner);
        *failovers.entry((service.clone(), reason)).or_default() += 1;
    }

    /// Failovers by service and reason.
    pub(crate) fn failovers(&self) -> BTreeMap<(ServiceId, &'static str), u64> {
        self.failovers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is counted here, in the Prometheus text format. Names need no escaping: they are letters, digits and `-_.`.
    pub(crate) fn text(&self, generation: Generation) -> String {
        let mut text = String::from("# TYPE tidegate_failovers_total counter\n");
        for ((service, reason), count) in self.failovers() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "tidegate_failovers_total{{service=\"{service}\",reason=\"{reason}\"}} {count}");
        }
        let (accepted, rejected) = (self.reloads_accepted.load(Relaxed), self.reloads_rejected.load(Relaxed));
        let _ = write!(
            text,
            "# TYPE tidegate_config_reloads_total counter\n\
             tidegate_config_reloads_total{{result=\"accepted\"}} {accepted}\n\
             tidegate_config_reloads_total{{result=\"rejected\"}} {rejected}\n\
             # TYPE tidegate_config_generation gauge\n\
             tidegate_config_generation {generation}\n"
        );
        text
    }

    /// Says whether what is in force would not outlive a restart.
    pub(crate) fn set_unsaved(&self, unsaved: bool) {
        self.unsaved.store(unsaved, Relaxed);
    }

    /// Whether what is in force would not outlive a restart.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved.load(Relaxed)
    }

    /// Says that the process is going down.
    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Whether the process is going down.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_was_counted() {
        let stats = ControlStats::default();
        stats.failed_over(&"web".parse().unwrap(), Cause::Health);
        stats.failed_over(&"web".parse().unwrap(), Cause::Health);
        stats.reloads_rejected.fetch_add(1, Relaxed);
        let text = stats.text(Generation(7));
        for line in [
            "tidegate_failovers_total{service=\"web\",reason=\"health\"} 2",
            "tidegate_config_reloads_total{result=\"accepted\"} 0",
            "tidegate_config_reloads_total{result=\"rejected\"} 1",
            "tidegate_config_generation 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
