//! What the admin API needs of the deployment engine that runs in the process.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use serde::Serialize;
use tidegate_config::{ServiceId, TargetId};
use tidegate_core::{
    Hold,
    deploy::{
        DeploymentId, DeploymentSpec,
        engine::{Engine, EngineError, Mark},
        machine::{Command, Deployment},
        spec::MemberSpec,
        stage::{Bracket, Stages},
    },
};

use crate::process::{Actor, Outcome, SubmitError};

/// Something that is wanted of the deployment engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Create a deployment.
    Create {
        /// What is asked for.
        spec: Box<DeploymentSpec>,
        /// Whether it begins at once.
        execute: bool,
        /// A key by which a repeated request is known (`Idempotency-Key`): the same key gives the same deployment.
        key: Option<String>,
    },
    /// Begin a deployment.
    Execute(DeploymentId),
    /// Do something with a deployment.
    Command(DeploymentId, Command),
    /// Create and begin a deployment like one that is over.
    Retry(DeploymentId),
    /// Mark a version as bad, or take the mark away.
    Mark(ServiceId, Mark),
    /// Open a bracket.
    OpenBracket {
        /// Its name.
        name: String,
        /// How its services are released; a template, or with the first members.
        spec: Box<DeploymentSpec>,
    },
    /// Queue services in a bracket.
    AddToBracket {
        /// Its name.
        name: String,
        /// The services and their new versions.
        members: Vec<MemberSpec>,
    },
    /// Release a bracket.
    ReleaseBracket {
        /// Its name.
        name: String,
    },
    /// Give a bracket up.
    AbortBracket {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// Make a shadow main, and main a shadow.
    Assign {
        /// Where.
        service: ServiceId,
        /// The shadow.
        to: TargetId,
    },
    /// Let the requests of a service wait, or go on.
    Hold {
        /// Where.
        service: ServiceId,
        /// Whether they wait.
        hold: Hold,
    },
    /// Stop versions by the service's stop command, and remove their targets. Main is refused while it has shadows.
    Kill {
        /// Where.
        service: ServiceId,
        /// The version; `None`: all of them, main last.
        target: Option<TargetId>,
    },
}

/// What became of an order.
#[derive(Debug, Clone, Default)]
pub struct Placed {
    /// The deployment that it was about, as it is now (in a dry run: as it would be, with its plan).
    pub deployment: Option<Arc<Deployment>>,
    /// The bracket that it was about.
    pub bracket: Option<Arc<Bracket>>,
    /// The change of traffic that it was.
    pub change: Option<Outcome>,
}

/// Why an order was not carried out. Nothing has changed then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OrderError {
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The change of traffic was refused.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// It could not be written down.
    #[error("the deployment could not be saved, so nothing was done: {0}")]
    Store(String),
    /// The engine cannot take orders now.
    #[error("the deployment engine cannot take orders now: {0}")]
    Busy(&'static str),
}

/// What was counted of one target of a deployment since it has had traffic.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The service.
    pub service: ServiceId,
    /// The target.
    pub target: TargetId,
    /// Requests that ended.
    pub requests: u64,
    /// Those of them that failed: 5xx, no connection, no answer in time.
    pub errors: u64,
    /// Median of the time to the end of the answer, in milliseconds; none without requests.
    pub p50_ms: Option<f64>,
    /// The 95th percentile.
    pub p95_ms: Option<f64>,
    /// The 99th percentile.
    pub p99_ms: Option<f64>,
    /// Visitors, where the split is sticky.
    pub visitors: Option<u64>,
    /// Visitors (without stickiness: requests) that reached the goal, in a test of variants.
    pub conversions: Option<u64>,
}

/// The deployment engine behind the API. Implemented by the proxy, and by a fake in this crate's tests.
#[async_trait]
pub trait Deployments: Send + Sync + 'static {
    /// All deployments, brackets and what is remembered of services, as they are now.
    fn engine(&self) -> Arc<Engine>;
    /// The stages of the configuration.
    fn stages(&self) -> Arc<Stages>;
    /// The names of the commands that the configuration has: all that a document may name that comes from afar.
    fn hook_names(&self) -> BTreeSet<String>;
    /// Carries an order out, or in a dry run only says what would become of it.
    async fn place(&self, order: Order, dry_run: bool, actor: Actor) -> Result<Placed, OrderError>;
    /// What was counted for a deployment, by service and target; empty when it is not known or nothing was watched.
    fn measured(&self, id: &DeploymentId) -> Vec<Measured>;
    /// Counts a conversion that a back end reports. `false`: the deployment does not watch for this goal now.
    fn convert(&self, id: &DeploymentId, visitor: &str, goal: &str) -> bool;
}
