//! What the control side counts and knows of itself, for metrics and readiness.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use tidegate_config::ServiceId;
use tidegate_core::state::{Cause, FailoverStage};

use crate::observe::families::Family;

/// Counters and alarms of the control side.
#[derive(Debug, Default)]
pub(crate) struct ControlStats {
    /// Files that were loaded.
    pub(crate) reloads_accepted: AtomicU64,
    /// Files that were not loaded, because they have problems or could not be saved.
    pub(crate) reloads_rejected: AtomicU64,
    /// Snapshots that were published.
    pub(crate) published: AtomicU64,
    /// Values of flags that could not be used.
    pub(crate) flags_invalid: AtomicU64,
    failovers: Mutex<BTreeMap<(ServiceId, &'static str), u64>>,
    failover_hooks: Mutex<BTreeMap<(ServiceId, FailoverStage, &'static str), u64>>,
    unsaved: AtomicBool,
    deployments_unsaved: AtomicBool,
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

    /// Counts a command around a failover that has ended.
    pub(crate) fn failover_hook(&self, service: &ServiceId, stage: FailoverStage, succeeded: bool) {
        let result = if succeeded { "succeeded" } else { "failed" };
        let mut hooks = self.failover_hooks.lock().unwrap_or_else(PoisonError::into_inner);
        *hooks.entry((service.clone(), stage, result)).or_default() += 1;
    }

    /// What is counted here, for a scrape.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut failovers = Family::counter("failovers_total", "Failovers that began, by who began them.");
        for ((service, reason), count) in &*self.failovers.lock().unwrap_or_else(PoisonError::into_inner) {
            failovers.add_count(&[("service", service.as_str()), ("reason", reason)], *count);
        }
        let mut hooks =
            Family::counter("failover_hooks_total", "Commands around failovers that ended, by what came of it.");
        for ((service, stage, result), count) in &*self.failover_hooks.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = [("service", service.as_str()), ("hook", stage.name()), ("result", *result)];
            hooks.add_count(&labels, *count);
        }
        let mut reloads = Family::counter("config_reloads_total", "Configuration files that were loaded, or were not.");
        reloads.add_count(&[("result", "accepted")], self.reloads_accepted.load(Relaxed));
        reloads.add_count(&[("result", "rejected")], self.reloads_rejected.load(Relaxed));
        let mut published = Family::counter("snapshots_published_total", "Snapshots that were put in force.");
        published.add_count(&[], self.published.load(Relaxed));
        let mut unsaved = Family::gauge("state_unsaved", "1 while a restart would undo the last changes.");
        unsaved.add_count(&[], u64::from(self.is_unsaved()));
        let mut invalid = Family::counter("flags_invalid_total", "Values of flags that could not be used.");
        invalid.add_count(&[], self.flags_invalid.load(Relaxed));
        let mut deployments =
            Family::gauge("deployments_unsaved", "1 while decisions of deployments cannot be written down.");
        deployments.add_count(&[], u64::from(self.are_deployments_unsaved()));
        vec![deployments, failovers, hooks, reloads, published, unsaved, invalid]
    }

    /// Says whether what is in force would not outlive a restart.
    pub(crate) fn set_unsaved(&self, unsaved: bool) {
        self.unsaved.store(unsaved, Relaxed);
    }

    /// Whether what is in force would not outlive a restart.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.unsaved.load(Relaxed)
    }

    /// Says whether the journal of deployments lacks something.
    pub(crate) fn set_deployments_unsaved(&self, unsaved: bool) {
        self.deployments_unsaved.store(unsaved, Relaxed);
    }

    /// Whether the journal of deployments lacks something.
    pub(crate) fn are_deployments_unsaved(&self) -> bool {
        self.deployments_unsaved.load(Relaxed)
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
