//! Where the rest of the process meets the deployment engine: it reads the engine here, and leaves messages for it.
//!
//! Never waits: the controller reports health here and asks here whether a change by hand must be refused.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use tidegate_admin::{Actor, Order, OrderError, Placed};
use tidegate_config::{EndpointAddress, ServiceId, TargetId};
use tidegate_core::{
    Change, ChangeError,
    change::HealthReport,
    deploy::{DeploymentId, engine::Engine, machine::Input},
};
use tokio::sync::{mpsc, oneshot};

use crate::control::rest::{self, Pause, Paused};

/// Messages that may wait. An order beyond is refused; an outcome of an act waits where it came about.
const QUEUE: usize = 1024;

/// A message for the engine.
#[derive(Debug)]
pub(crate) enum Message {
    /// Somebody wants something.
    Order {
        /// What.
        order: Box<Order>,
        /// Only say what would become of it.
        dry_run: bool,
        /// Who.
        actor: Actor,
        /// Where the answer goes.
        reply: Reply,
    },
    /// Something happened to a deployment.
    Input(DeploymentId, Input),
    /// Reports of health wait.
    Health,
    /// The version in a target was stopped by hand.
    Stopped(ServiceId, TargetId),
    /// Nobody stops versions of a service by hand any more: whoever asked is answered, after all of it is known.
    Killed {
        /// The service.
        service: ServiceId,
        /// What came of it.
        answer: Box<Result<Placed, OrderError>>,
        /// Where the answer goes.
        reply: Reply,
    },
    /// Another process may take over: nothing is decided until it is known whether it did.
    Pause(Pause),
    /// The process ends.
    Stop(oneshot::Sender<()>),
}

/// Where the answer to an order goes.
pub(crate) type Reply = oneshot::Sender<Result<Placed, OrderError>>;

/// An endpoint of a target of a service.
type Place = (ServiceId, TargetId, EndpointAddress);

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    engine: ArcSwap<Engine>,
    messages: mpsc::Sender<Message>,
    /// The latest report of each endpoint that was not looked at yet: no more than there are endpoints.
    reports: Mutex<BTreeMap<Place, HealthReport>>,
}

impl Desk {
    /// A desk with an engine as a journal left it, and the end at which its messages come out.
    pub(crate) fn new(engine: Engine) -> (Arc<Self>, mpsc::Receiver<Message>) {
        let (messages, queue) = mpsc::channel(QUEUE);
        (Arc::new(Self { engine: ArcSwap::from_pointee(engine), messages, reports: Mutex::default() }), queue)
    }

    /// The engine as it is now.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        self.engine.load_full()
    }

    /// Shows another engine from now on.
    pub(super) fn show(&self, engine: &Arc<Engine>) {
        self.engine.store(Arc::clone(engine));
    }

    /// The end at which messages go in.
    pub(super) fn messages(&self) -> &mpsc::Sender<Message> {
        &self.messages
    }

    /// Why a change must be refused: an active deployment decides about the traffic of its services.
    ///
    /// # Errors
    /// The reason.
    pub(crate) fn must_be_free(&self, change: &Change) -> Result<(), ChangeError> {
        let service = match change {
            Change::Switch { service, .. }
            | Change::Split { service, .. }
            | Change::PutTarget { service, .. }
            | Change::RemoveTarget { service, .. }
            | Change::Drain { service, .. }
            | Change::PutMirror { service, .. }
            | Change::RemoveMirror { service, .. } => service,
            Change::Failover { .. }
            | Change::Restore { .. }
            | Change::Release { .. }
            | Change::Previews { .. }
            | Change::Reload { .. }
            | Change::Health { .. }
            | Change::Prepared { .. }
            | Change::Resolved { .. }
            | Change::Readings { .. }
            | Change::SetFlag { .. }
            | Change::UnsetFlag { .. }
            | Change::OverrideFlag { .. }
            | Change::ClearOverride { .. }
            | Change::Tick => return Ok(()),
        };
        match self.engine.load().active(service) {
            None => Ok(()),
            Some(active) => Err(ChangeError::Conflict(format!(
                "deployment {id} is active and decides about the traffic of service {service}: wait until it is over, \
                 or end it with `tidegate deployment rollback {id}`",
                id = active.id
            ))),
        }
    }

    /// Takes reports of health, after the state knows of them.
    pub(crate) fn report(&self, reports: &[HealthReport]) {
        let mut waiting = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        for report in reports {
            let place = (report.service.clone(), report.target.clone(), report.endpoint.clone());
            waiting.insert(place, report.clone());
        }
        drop(waiting);
        // When it is full the engine is at work, and looks at the reports after each message.
        let _ = self.messages.try_send(Message::Health);
    }

    /// The reports that wait.
    pub(super) fn take_reports(&self) -> Vec<HealthReport> {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }

    /// Lets the engine rest. What comes meanwhile waits. `None`: it has ended.
    pub(crate) async fn pause(&self) -> Option<Paused> {
        rest::pause(&self.messages, Message::Pause).await
    }

    /// Ends the engine's thread.
    pub(crate) async fn stop(&self) {
        rest::stop(&self.messages, Message::Stop).await;
    }
}
