//! Finds out which endpoints can be used: one small task per endpoint that is probed, and none for the others.
//!
//! The tasks follow the published snapshots: a changed weight or split touches none of them. What live traffic sees wakes
//! an endpoint's task at once. Only changes of health go to the controller.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tidegate_config::{EndpointAddress, HealthPolicy, ServiceId, TargetId};
use tidegate_core::{
    Endpoint, Health, Service, Snapshot,
    health::{Machine, Rules},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

use super::{
    controller::Control,
    prober::{NUDGES, Nudge, Prober, Subject},
};
use crate::routing::{PassiveSign, Routing, Sign};

/// Probes that run at the same time: enough for thousands of endpoints per second, few enough that the start of a large
/// configuration does not use up descriptors.
const CONCURRENT_PROBES: usize = 256;

/// Runs the health checks until the process ends.
pub(crate) async fn run(routing: Arc<Routing>, control: Control, mut signs: mpsc::Receiver<PassiveSign>) {
    let mut published = routing.published();
    let permits = Arc::new(Semaphore::new(CONCURRENT_PROBES));
    let mut checks = Checks { routing, control, permits, services: BTreeMap::new() };
    loop {
        published.mark_unchanged();
        checks.follow(&checks.routing.load_full());
        loop {
            tokio::select! {
                changed = published.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(sign) = signs.recv() => checks.pass_on(sign),
            }
        }
    }
}

struct Checks {
    routing: Arc<Routing>,
    control: Control,
    permits: Arc<Semaphore>,
    services: BTreeMap<ServiceId, Checked>,
}

/// A service as it was when its tasks were last looked at.
struct Checked {
    service: Arc<Service>,
    tasks: HashMap<(TargetId, EndpointAddress), Task>,
}

struct Task {
    nudges: mpsc::Sender<Nudge>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Checks {
    /// Starts and stops tasks so that they are those that the snapshot needs. Services that are the same are skipped.
    fn follow(&mut self, snapshot: &Snapshot) {
        for service in &snapshot.services {
            if self.services.get(&service.id).is_some_and(|checked| Arc::ptr_eq(&checked.service, service)) {
                continue;
            }
            let before = self.services.remove(&service.id);
            self.services.insert(service.id.clone(), self.follow_service(before, service));
        }
        if self.services.len() > snapshot.services.len() {
            self.services.retain(|id, _| snapshot.service_named(id).is_some());
        }
    }

    fn follow_service(&self, before: Option<Checked>, service: &Arc<Service>) -> Checked {
        let (old, mut tasks) = match before {
            Some(Checked { service, tasks }) => (Some(service), tasks),
            None => (None, HashMap::new()),
        };
        let check_changed = old
            .as_ref()
            .is_some_and(|old| !Arc::ptr_eq(&old.spec, &service.spec) && old.spec.health != service.spec.health);
        let mut kept = HashMap::new();
        for (target, endpoint) in endpoints(service) {
            let key = (target.clone(), endpoint.address.clone());
            match tasks.remove(&key).filter(|task| !task.handle.is_finished()) {
                Some(task) => {
                    if check_changed || old.as_ref().is_some_and(|old| sockets_changed(old, target, endpoint)) {
                        // A full queue means that the task is about to look again anyway.
                        let _ = task.nudges.try_send(Nudge::Changed);
                    }
                    kept.insert(key, task);
                }
                None if is_probed(service, endpoint) => {
                    kept.insert(key, self.start(service, target, endpoint));
                }
                None => {}
            }
        }
        // The tasks that are left belong to endpoints that are gone; dropping them ends them.
        Checked { service: Arc::clone(service), tasks: kept }
    }

    fn start(&self, service: &Service, target: &TargetId, endpoint: &Endpoint) -> Task {
        let (nudges, queue) = mpsc::channel(NUDGES);
        let subject =
            Subject { service: service.id.clone(), target: target.clone(), endpoint: endpoint.address.clone() };
        let machine = Machine::new(endpoint.health, &Rules::of(&service.spec.health));
        let prober = Prober::new(
            subject,
            machine,
            Arc::clone(&self.routing),
            self.control.clone(),
            Arc::clone(&self.permits),
            queue,
        );
        Task { nudges, handle: tokio::spawn(prober.run()) }
    }

    /// Passes on what live traffic saw, or that it is worth a look. Where nothing probes the endpoint, a task begins to, until it is well again.
    fn pass_on(&mut self, sign: PassiveSign) {
        let Some(service) = self.services.get(&sign.service).map(|checked| Arc::clone(&checked.service)) else {
            return;
        };
        let Some((target, endpoint)) =
            endpoints(&service).find(|(target, endpoint)| **target == sign.target && endpoint.address == sign.endpoint)
        else {
            return;
        };
        let key = (sign.target, sign.endpoint);
        let running = |checked: &Checked| checked.tasks.get(&key).is_some_and(|task| !task.handle.is_finished());
        if !self.services.get(&sign.service).is_some_and(running) {
            let task = self.start(&service, target, endpoint);
            if let Some(checked) = self.services.get_mut(&sign.service) {
                checked.tasks.insert(key.clone(), task);
            }
        }
        if let Some(task) = self.services.get(&sign.service).and_then(|checked| checked.tasks.get(&key)) {
            let nudge = match sign.sign {
                Sign::Seen(seen) => Nudge::Seen(seen),
                Sign::Started => Nudge::Changed,
            };
            // A full queue already has it looked at.
            let _ = task.nudges.try_send(nudge);
        }
    }
}

fn endpoints(service: &Service) -> impl Iterator<Item = (&TargetId, &Endpoint)> {
    service.targets.iter().flat_map(|target| target.endpoints.iter().map(|endpoint| (&target.id, endpoint)))
}

/// Whether an endpoint has a task without any sign: all that have a check, and those without one that are not well.
fn is_probed(service: &Service, endpoint: &Endpoint) -> bool {
    match service.spec.health {
        HealthPolicy::Active(_) => true,
        HealthPolicy::Passive => endpoint.health != Health::Healthy,
    }
}

fn sockets_changed(old: &Service, target: &TargetId, endpoint: &Endpoint) -> bool {
    endpoints(old)
        .find(|(id, before)| *id == target && before.address == endpoint.address)
        .is_some_and(|(_, before)| before.sockets != endpoint.sockets)
}

#[cfg(test)]
mod tests;
