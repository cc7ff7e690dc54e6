//! Tells what happens in deployments: the event log, the process's log, the audit log, and the event sinks.

use std::sync::Arc;

use tidegate_admin::{Actor, AuditEntry, EventLog};
use tidegate_core::{
    Event,
    deploy::{cloudevent::events_of, history::Entry, machine::Deployment},
};

use super::sinks::Sinks;
use crate::{control::report, routing::Routing, state::audit::Audit};

/// Tells what happens in deployments.
pub(crate) struct Teller {
    /// Where everybody can read it.
    pub(crate) events: Arc<EventLog>,
    /// Where decisions are recorded.
    pub(crate) audit: Arc<Audit>,
    /// Which generation it happens in.
    pub(crate) routing: Arc<Routing>,
    /// Who else is told.
    pub(crate) sinks: Arc<Sinks>,
}

impl Teller {
    /// Tells new entries of a deployment's history.
    pub(super) fn tell(&self, deployment: &Deployment, entries: &[Entry], actor: &Actor) {
        let generation = self.routing.load().generation;
        let services: Vec<_> = deployment.spec.members.iter().map(|member| member.service.clone()).collect();
        if !self.sinks.is_empty() {
            let outside = entries.iter().flat_map(|entry| events_of(deployment, entry, self.sinks.naming()));
            self.sinks.tell(outside.collect());
        }
        let mut decisions = Vec::new();
        for entry in entries {
            let event = Event::Deployment {
                deployment: deployment.id.clone(),
                services: services.clone(),
                strategy: deployment.spec.strategy.name().to_owned(),
                happened: entry.what.kind(),
                message: entry.what.to_string(),
            };
            if entry.what.kind().is_decision() {
                decisions.push(event.clone());
            }
            report::log(&self.events.push(entry.at_unix_ms, generation, &actor.0, event));
        }
        if let (false, Some(last)) = (decisions.is_empty(), entries.last()) {
            let (at_unix_ms, actor) = (last.at_unix_ms, actor.0.clone());
            self.audit.append(AuditEntry { at_unix_ms, actor, from: generation, generation, events: decisions });
        }
    }

    /// Tells the sinks what the end of an earlier process kept from them.
    pub(super) fn recall<'a>(&self, deployments: impl Iterator<Item = &'a Deployment>) {
        if !self.sinks.is_empty() {
            let naming = self.sinks.naming();
            let events = deployments.flat_map(|d| d.history.iter().flat_map(|entry| events_of(d, entry, naming)));
            self.sinks.recall(events.collect());
        }
    }

    /// Raises the alarm: what deployments decided is not saved.
    pub(super) fn unsaved(&self, reason: String, actor: &Actor) {
        report::announce(&self.events, &self.routing, &actor.0, Event::Unsaved { reason });
    }
}
