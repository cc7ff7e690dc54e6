//! One endpoint's health: probes it, and runs its machine over what the probes and live traffic saw.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tidegate_config::{EndpointAddress, HealthPolicy, Host, ServiceId, TargetId};
use tidegate_core::{
    Endpoint, Health, Service,
    change::HealthReport,
    health::{Elsewhere, Machine, NEAR_VERDICT, Observation, Rules},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout_at},
};

use super::controller::Control;
use crate::{probe, routing::Routing};

/// Nudges that may wait: one of each kind, and some; more say nothing new.
pub(super) const NUDGES: usize = 8;

/// Shortest time between two probes of an endpoint, whatever an interval of the file says.
const SHORTEST: Duration = Duration::from_millis(20);

/// What wakes a prober.
#[derive(Debug, Clone, Copy)]
pub(super) enum Nudge {
    /// Live traffic saw this.
    Seen(Observation),
    /// The check or the endpoint's addresses changed, or what runs there did.
    Changed,
}

/// Which endpoint is probed.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// Where.
    pub(super) service: ServiceId,
    /// Its target.
    pub(super) target: TargetId,
    /// The endpoint.
    pub(super) endpoint: EndpointAddress,
}

/// What the snapshot says about the endpoint now.
struct Current {
    service: Arc<Service>,
    rules: Rules,
    sockets: Vec<SocketAddr>,
    elsewhere: Elsewhere,
    /// A name that has not been looked up yet: there is nothing to be said about it.
    unresolved: bool,
}

/// The task of one endpoint.
pub(super) struct Prober {
    subject: Subject,
    machine: Machine,
    routing: Arc<Routing>,
    control: Control,
    permits: Arc<Semaphore>,
    nudges: mpsc::Receiver<Nudge>,
}

impl Prober {
    /// A prober that knows what is known of its endpoint.
    pub(super) fn new(
        subject: Subject,
        machine: Machine,
        routing: Arc<Routing>,
        control: Control,
        permits: Arc<Semaphore>,
        nudges: mpsc::Receiver<Nudge>,
    ) -> Self {
        Self { subject, machine, routing, control, permits, nudges }
    }

    /// Probes, the first time at once, until the endpoint is gone, or is well and has no check.
    pub(super) async fn run(mut self) {
        let mut next = Instant::now();
        while self.wait(next).await.is_some() {
            let Some(current) = self.current() else { return };
            let pause = if current.unresolved {
                Some(NEAR_VERDICT)
            } else {
                self.probe(&current).await;
                self.machine.next_probe_in(&current.rules, current.elsewhere, rand::random())
            };
            let Some(pause) = pause else { return };
            next = Instant::now() + pause.max(SHORTEST);
        }
    }

    /// Waits for the time of the next probe, or until something asks for it at once. `None`: nobody needs it any more.
    async fn wait(&mut self, next: Instant) -> Option<()> {
        loop {
            match timeout_at(next, self.nudges.recv()).await {
                Err(_) | Ok(Some(Nudge::Changed)) => return Some(()),
                Ok(None) => return None,
                Ok(Some(Nudge::Seen(seen))) => {
                    let (before, current) = (self.machine, self.current()?);
                    let reason = match seen {
                        Observation::ConnectFailed => "requests could not reach it",
                        Observation::ServerErrors => "it answered requests in a row with 5xx",
                        Observation::ProbePassed | Observation::ProbeFailed => "another probe",
                    };
                    self.observe(seen, &current, reason).await;
                    if Machine::asks_for_probe(before, self.machine) {
                        return Some(());
                    }
                }
            }
        }
    }

    fn current(&self) -> Option<Current> {
        let snapshot = self.routing.load_full();
        let service = snapshot.service_named(&self.subject.service)?;
        let target = service.target(service.target_named(self.subject.target.as_str())?)?;
        let endpoint = target.endpoints.iter().find(|endpoint| endpoint.address == self.subject.endpoint)?;
        let looked_up = || {
            let state = snapshot.state.services.get(&self.subject.service);
            state.is_some_and(|state| state.resolved.contains_key(&self.subject.endpoint))
        };
        Some(Current {
            service: Arc::clone(service),
            rules: Rules::of(&service.spec.health),
            sockets: endpoint.sockets.clone(),
            elsewhere: elsewhere(service, endpoint),
            unresolved: matches!(endpoint.address.host, Host::Name(..)) && endpoint.sockets.is_empty() && !looked_up(),
        })
    }

    async fn probe(&mut self, current: &Current) {
        let address = &self.subject.endpoint;
        let asked = {
            // Invariant: the semaphore is never closed, so this only waits.
            let _permit = self.permits.acquire().await;
            match &current.service.spec.health {
                HealthPolicy::Active(check) => probe::probe(address, &current.sockets, check).await,
                HealthPolicy::Passive => {
                    probe::probe_connect(address, &current.sockets, current.service.timeouts.connect).await
                }
            }
        };
        match asked {
            Ok(()) => self.observe(Observation::ProbePassed, current, "the probe passed").await,
            Err(failure) => self.observe(Observation::ProbeFailed, current, &failure.to_string()).await,
        }
    }

    async fn observe(&mut self, seen: Observation, current: &Current, reason: &str) {
        let before = self.machine.health;
        self.machine = self.machine.step(seen, &current.rules, current.elsewhere, self.routing.now().mono);
        if self.machine.health != before {
            let Subject { service, target, endpoint } = self.subject.clone();
            let health = self.machine.health;
            self.control.report(HealthReport { service, target, endpoint, health, reason: reason.to_owned() }).await;
        }
    }
}

/// Whether the service could send requests anywhere else.
fn elsewhere(service: &Service, this: &Endpoint) -> Elsewhere {
    let usable = |endpoint: &Endpoint| {
        let reachable = !endpoint.sockets.is_empty() || matches!(endpoint.address.host, Host::Unix(_));
        reachable && matches!(endpoint.health, Health::Healthy | Health::Suspect)
    };
    let mut others = service
        .targets
        .iter()
        .filter(|target| target.open)
        .flat_map(|target| &target.endpoints)
        .filter(|endpoint| !std::ptr::eq(*endpoint, this));
    if others.any(usable) { Elsewhere::Available } else { Elsewhere::Nothing }
}
