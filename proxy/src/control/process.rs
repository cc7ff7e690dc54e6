//! The process as the admin API sees it.

use std::{io, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tidegate_admin::{
    Actor, AuditEntry, Deployments, EventLog, FlagWriteError, FlagWrites, Outcome, Probed, Process, Readiness,
    ReloadError, Submission, SubmitError, UpgradeError, Upgraded,
};
use tidegate_config::{HealthPolicy, ServiceId, SourceId, TargetId};
use tidegate_core::{Endpoint, Moment, Service, Snapshot};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{controller::Control, reload::Reloader, stats::ControlStats};
use crate::{
    deploy::orders::Orders, flags::FlagSources, observe::metrics::Metrics, probe, routing::Routing, state::audit::Audit,
};

/// Probes of one switch that run at the same time.
const PROBES_AT_ONCE: usize = 32;
/// Services that are named as reasons; the rest is counted.
const NAMED: usize = 10;

/// What the admin API works with.
pub(crate) struct ProxyProcess {
    /// What is in force.
    pub(crate) routing: Arc<Routing>,
    /// The one writer.
    pub(crate) control: Control,
    /// The events.
    pub(crate) events: Arc<EventLog>,
    /// The audit log.
    pub(crate) audit: Arc<Audit>,
    /// The file.
    pub(crate) reloader: Arc<Reloader>,
    /// What the control side knows of itself.
    pub(crate) stats: Arc<ControlStats>,
    /// The metrics.
    pub(crate) metrics: Metrics,
    /// The flag sources.
    pub(crate) flags: Arc<FlagSources>,
    /// The deployment engine.
    pub(crate) deployments: Orders,
    /// Where upgrades are asked for.
    pub(crate) upgrades: mpsc::Sender<UpgradeCall>,
}

/// An upgrade that is asked for.
pub(crate) struct UpgradeCall {
    /// Who asks.
    pub(crate) actor: Actor,
    /// What became of it.
    pub(crate) reply: oneshot::Sender<Result<Upgraded, UpgradeError>>,
}

#[async_trait]
impl Process for ProxyProcess {
    fn now(&self) -> Moment {
        self.routing.now()
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.routing.load_full()
    }

    async fn submit(&self, submission: Submission) -> Result<Outcome, SubmitError> {
        self.control.submit(submission).await
    }

    async fn probe(&self, service: &ServiceId, target: &TargetId) -> Vec<Probed> {
        let snapshot = self.routing.load_full();
        let Some(service) = snapshot.service_named(service) else { return Vec::new() };
        let Some(target) = service.target_named(target.as_str()).and_then(|idx| service.target(idx)) else {
            return Vec::new();
        };
        let probes: Vec<_> = target.endpoints.iter().map(|endpoint| probe_once(service, endpoint)).collect();
        stream::iter(probes).buffered(PROBES_AT_ONCE).collect().await
    }

    async fn reload(&self, actor: Actor, dry_run: bool) -> Result<Outcome, ReloadError> {
        self.reloader.reload(actor, dry_run).await
    }

    async fn upgrade(&self, actor: Actor) -> Result<Upgraded, UpgradeError> {
        let (reply, answer) = oneshot::channel();
        let busy = |_| UpgradeError("an upgrade is under way already".into());
        self.upgrades.try_send(UpgradeCall { actor, reply }).map_err(busy)?;
        answer.await.unwrap_or_else(|_| Err(UpgradeError("the process is going down".into())))
    }

    async fn write_flags(&self, source: &SourceId, writes: FlagWrites) -> Result<Outcome, FlagWriteError> {
        self.flags.write(source, writes).await
    }

    fn deployments(&self) -> &dyn Deployments {
        &self.deployments
    }

    fn events(&self) -> &EventLog {
        &self.events
    }

    async fn audit(&self, limit: usize) -> io::Result<Vec<AuditEntry>> {
        self.audit.newest(limit).await
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        let stopping = self.stats.is_stopping();
        if stopping {
            reasons.push("the process is going down".into());
        }
        if self.stats.is_unsaved() {
            reasons.push("the state is not saved: a restart would undo the last changes".into());
        }
        if self.stats.are_deployments_unsaved() {
            reasons.push("decisions of deployments cannot be written down: see the log, and free space".into());
        }
        reasons.extend(self.flags.reasons());
        reasons.extend(services_away(&self.routing.load()));
        Readiness { ready: !stopping, reasons }
    }

    fn config(&self) -> serde_json::Value {
        // A table of strings, numbers and tables always has a JSON form.
        serde_json::to_value(tidegate_config::describe(&self.reloader.config())).unwrap_or_default()
    }
}

async fn probe_once(service: &Service, endpoint: &Endpoint) -> Probed {
    let begun = Instant::now();
    let asked = match &service.spec.health {
        HealthPolicy::Active(check) => probe::probe(&endpoint.address, &endpoint.sockets, check).await,
        HealthPolicy::Passive => {
            probe::probe_connect(&endpoint.address, &endpoint.sockets, service.timeouts.connect).await
        }
    };
    Probed {
        endpoint: endpoint.address.clone(),
        failure: asked.err().map(|failure| failure.to_string()),
        took: begun.elapsed(),
    }
}

/// Services that no target is available for. They do not make the process unready: the others need it.
fn services_away(snapshot: &Snapshot) -> Vec<String> {
    let away = |service: &&Arc<Service>| !service.targets.iter().any(|target| target.available);
    let mut reasons: Vec<String> = snapshot
        .services
        .iter()
        .filter(away)
        .take(NAMED)
        .map(|service| format!("service {}: no target is available", service.id))
        .collect();
    let more = snapshot.services.iter().filter(away).count().saturating_sub(NAMED);
    if more > 0 {
        reasons.push(format!("{more} more services: no target is available"));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use tidegate_core::{State, compile};

    use super::*;

    /// Reasons with this many services whose health nobody knows yet, and one that is in use without a check.
    fn reasons(unknown: usize) -> Vec<String> {
        let mut file = String::new();
        for n in 0..=unknown {
            let health = if n == unknown { "false" } else { "{ tcp = true }" };
            write!(
                file,
                r#"
                [service.s{n:02}]
                routes = [{{ host = "s{n}.example", path = "/" }}]
                stable = "green"
                health = {health}
                [service.s{n:02}.target.green]
                endpoints = ["127.0.0.1:3001"]
                "#
            )
            .unwrap();
        }
        let state = Arc::new(State::load(&tidegate_config::parse(&file).unwrap(), None).0);
        services_away(&compile(&state, None, 1))
    }

    #[test]
    fn services_without_an_available_target_are_named_up_to_a_bound() {
        assert!(reasons(0).is_empty());
        assert_eq!(reasons(1), ["service s00: no target is available"]);
        assert_eq!(reasons(NAMED).len(), NAMED);
        let many = reasons(NAMED + 3);
        assert_eq!(many.len(), NAMED + 1);
        assert_eq!(many[NAMED], "3 more services: no target is available");
    }
}
