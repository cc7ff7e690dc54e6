//! The health of a service's endpoints over time: what this process saw, and before that what is remembered.

use serde::{Deserialize, Serialize};
use tidegate_config::ServiceId;
use tidegate_core::{
    Event, Health,
    deploy::{ServiceMemory, engine::Engine, memory::HealthEntry},
};
use utoipa::ToSchema;

use crate::{
    dto::{event::HealthView, time::rfc3339},
    events::Recorded,
};

/// A change of an endpoint's health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "seq": 1793697300250001_u64, "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 1793697300250_u64, "target": "green",
    "endpoint": "127.0.0.1:3002", "version": "1.4.0", "commit": "4a5b6c7", "from": "healthy", "to": "unhealthy",
    "reason": "connection refused"
}))]
pub struct HealthTransition {
    /// The number of its event; null if an earlier process saw it.
    pub seq: Option<u64>,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The target.
    pub target: String,
    /// The endpoint.
    pub endpoint: String,
    /// The version that ran there, if a deployment brought it.
    #[serde(default)]
    pub version: Option<String>,
    /// The commit that its deployment was labelled with.
    #[serde(default)]
    pub commit: Option<String>,
    /// What it was.
    pub from: HealthView,
    /// What it is.
    pub to: HealthView,
    /// Why.
    pub reason: String,
}

impl HealthTransition {
    /// The transition that an event of this service is, if it is one.
    pub(crate) fn of(service: &str, recorded: &Recorded) -> Option<Self> {
        let Event::HealthChanged { service: at, target, endpoint, from, to, reason } = &recorded.event else {
            return None;
        };
        (at.as_str() == service).then(|| Self {
            seq: Some(recorded.seq),
            at: rfc3339(recorded.at_unix_ms),
            at_unix_ms: recorded.at_unix_ms,
            target: target.to_string(),
            endpoint: endpoint.to_string(),
            version: None,
            commit: None,
            from: (*from).into(),
            to: (*to).into(),
            reason: reason.clone(),
        })
    }

    fn remembered(entry: &HealthEntry, from: Health) -> Self {
        Self {
            seq: None,
            at: rfc3339(entry.at_unix_ms),
            at_unix_ms: entry.at_unix_ms,
            target: entry.target.to_string(),
            endpoint: entry.endpoint.to_string(),
            version: entry.version.clone(),
            commit: None,
            from: from.into(),
            to: entry.health.into(),
            reason: entry.reason.clone(),
        }
    }

    fn is(&self, entry: &HealthEntry) -> bool {
        self.target == entry.target.as_str()
            && self.to == entry.health.into()
            && self.endpoint == entry.endpoint.to_string()
    }
}

/// The transitions of a service, newest first: those that this process saw (given oldest first), and before them what
/// is remembered. Each with the version that ran there.
pub(crate) fn history(engine: &Engine, service: &ServiceId, mut seen: Vec<HealthTransition>) -> Vec<HealthTransition> {
    let Some(memory) = engine.memory(service) else {
        seen.reverse();
        return seen;
    };
    let begins = seen.first().map_or(u64::MAX, |first| first.at_unix_ms);
    for transition in &mut seen {
        // The engine hears of it a little later than the event is written.
        let mut entries = memory.health.iter();
        let entry = entries.find(|entry| entry.at_unix_ms >= transition.at_unix_ms && transition.is(entry));
        transition.version = entry.and_then(|entry| entry.version.clone());
    }
    let earlier = memory.health.iter().enumerate().filter(|(_, entry)| entry.at_unix_ms < begins).map(|(at, entry)| {
        let same = |old: &&HealthEntry| old.target == entry.target && old.endpoint == entry.endpoint;
        let before = memory.health.iter().take(at).rev().find(same);
        HealthTransition::remembered(entry, before.map_or(Health::Unknown, |before| before.health))
    });
    let mut all: Vec<_> = earlier.chain(seen).collect();
    for transition in &mut all {
        transition.commit = transition.version.as_deref().and_then(|version| commit(engine, memory, service, version));
    }
    all.reverse();
    all
}

/// The commit that the latest deployment of a version was labelled with.
fn commit(engine: &Engine, memory: &ServiceMemory, service: &ServiceId, version: &str) -> Option<String> {
    let deployments = memory.deployments.iter().rev().filter_map(|id| engine.get(id));
    let mut of_version = deployments.filter(|deployment| {
        let mut members = deployment.plan.members.iter();
        members.any(|member| member.service == *service && member.version.name == version)
    });
    of_version.find_map(|deployment| deployment.spec.metadata.labels.get("commit").cloned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_core::deploy::engine::Record;

    use super::*;

    fn entry(at_unix_ms: u64, health: Health) -> HealthEntry {
        HealthEntry {
            at_unix_ms,
            target: "green".parse().unwrap(),
            endpoint: "127.0.0.1:1".parse().unwrap(),
            version: Some("1".into()),
            health,
            reason: "why".into(),
        }
    }

    #[test]
    fn what_earlier_processes_saw_comes_before_what_this_one_saw() {
        let entries = [(5, Health::Healthy), (6, Health::Unhealthy), (11, Health::Healthy)];
        let health = entries.into_iter().map(|(at, health)| entry(at, health)).collect();
        let memory = Arc::new(ServiceMemory { health, ..ServiceMemory::default() });
        let service: ServiceId = "web".parse().unwrap();
        let engine = Engine::load([Record::Memory { service: service.clone(), memory }]);
        let seen = HealthTransition {
            seq: Some(7),
            ..HealthTransition::remembered(&entry(10, Health::Healthy), Health::Unhealthy)
        };
        let shown = history(&engine, &service, vec![HealthTransition { version: None, ..seen }]);
        let shown: Vec<_> = shown.iter().map(|t| (t.seq, t.at_unix_ms, t.from, t.to, t.version.as_deref())).collect();
        let (unknown, healthy, unhealthy) = (HealthView::Unknown, HealthView::Healthy, HealthView::Unhealthy);
        assert_eq!(
            shown,
            [
                (Some(7), 10, unhealthy, healthy, Some("1")),
                (None, 6, healthy, unhealthy, Some("1")),
                (None, 5, unknown, healthy, Some("1")),
            ]
        );
    }
}
