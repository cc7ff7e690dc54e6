//! What the admin API needs of the process that it runs in.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tidegate_config::{EndpointAddress, ServiceId, SourceId, TargetId};
use tidegate_core::{Change, ChangeError, Event, Generation, Moment, Snapshot};

use crate::{deployments::Deployments, events::EventLog};

/// Who asks for a change: a token's name, `anonymous` without tokens, or a part of the process (`health`, `file`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(pub String);

/// A change that is asked for.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The change.
    pub change: Change,
    /// Only if this is still the generation (`If-Match`).
    pub expected: Option<Generation>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Who asks.
    pub actor: Actor,
}

/// What became of a change.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The generation that it brought about (in a dry run: would bring about), or the current one if nothing changed.
    pub generation: Generation,
    /// What happened (or would).
    pub events: Vec<Event>,
    /// Whether it will outlive a restart; `false` only for emergency moves when the state store fails.
    pub saved: bool,
}

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// It does not fit the state.
    #[error(transparent)]
    Refused(#[from] ChangeError),
    /// `If-Match` named another generation than the current one.
    #[error("the generation is {current}, not {expected}: read the state again and retry")]
    Stale {
        /// The generation now.
        current: Generation,
        /// The one that was asked for.
        expected: Generation,
    },
    /// It could not be persisted, so it was not made.
    #[error("the change could not be saved, so it was not made: {0}")]
    Store(String),
    /// The queue of changes is full, or the process is going down.
    #[error("the process cannot take changes now: {0}")]
    Busy(&'static str),
}

/// Why the file was not loaded.
#[derive(Debug, Clone)]
pub enum ReloadError {
    /// It has these problems; everything stays as it was. `(path, message)`.
    Invalid(Vec<(String, String)>),
    /// It is right, but could not be made.
    Submit(SubmitError),
    /// There is no file (the demo).
    NoFile,
}

/// What a probe of one endpoint found.
#[derive(Debug, Clone, Serialize)]
pub struct Probed {
    /// The endpoint.
    pub endpoint: EndpointAddress,
    /// `None`: it passed; else why not.
    pub failure: Option<String>,
    /// How long it took.
    #[serde(skip)]
    pub took: Duration,
}

/// A line of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Who.
    pub actor: String,
    /// From which generation.
    pub from: Generation,
    /// To which.
    pub generation: Generation,
    /// What.
    pub events: Vec<Event>,
}

/// Whether the process is ready for traffic.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// Whether it is.
    pub ready: bool,
    /// Why not, or what is odd.
    pub reasons: Vec<String>,
}

/// What is to be written into a flag source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagWrites {
    /// Who asks.
    pub actor: Actor,
    /// Places and their values; `None`: remove what is there.
    pub values: Vec<(FlagPlace, Option<String>)>,
    /// Also set the marker by which it is seen that the source was emptied: from then on, what is not there is not
    /// meant to be.
    pub mark: bool,
}

/// Where in a source a flag is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagPlace {
    /// At this key.
    Key(String),
    /// In this field of the configured hash.
    Field(String),
}

/// Why a flag source was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlagWriteError {
    /// Nothing is ever written there.
    #[error("{0}")]
    ReadOnly(String),
    /// It cannot be reached. Whether the write arrived may be unknown.
    #[error("the flag source cannot be reached: {0}")]
    Unreachable(String),
    /// It says no.
    #[error("the flag source refuses the write: {0}")]
    Refused(String),
    /// It has the values, but what was read again could not be made the state.
    #[error("the flag source was written, but not read again: {0}")]
    Submit(#[from] SubmitError),
}

/// The process that took the place of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    /// Its number.
    pub pid: u32,
    /// How long it took until it served.
    pub took: Duration,
}

/// Why no process took the place of this one, which goes on as before.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct UpgradeError(pub String);

/// The process behind the API. Implemented by the proxy, and by a fake in this crate's tests.
#[async_trait]
pub trait Process: Send + Sync + 'static {
    /// The moment now, on the clock that the state's deadlines follow.
    fn now(&self) -> Moment;
    /// The snapshot that requests read now.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Asks the one writer for a change.
    async fn submit(&self, submission: Submission) -> Result<Outcome, SubmitError>;
    /// Probes every endpoint of a target once, with its service's health check (TCP connect without one).
    async fn probe(&self, service: &ServiceId, target: &TargetId) -> Vec<Probed>;
    /// Loads the configuration file again.
    async fn reload(&self, actor: Actor, dry_run: bool) -> Result<Outcome, ReloadError>;
    /// Starts the binary anew and hands it the listening sockets; this process ends when it has finished what runs.
    async fn upgrade(&self, actor: Actor) -> Result<Upgraded, UpgradeError>;
    /// Writes into a flag source outside of the process, reads it again, and submits what it read as a change by the
    /// one who asks; what becomes of that change is the answer.
    async fn write_flags(&self, source: &SourceId, writes: FlagWrites) -> Result<Outcome, FlagWriteError>;
    /// The deployment engine.
    fn deployments(&self) -> &dyn Deployments;
    /// The events.
    fn events(&self) -> &EventLog;
    /// The newest lines of the audit log, newest first.
    async fn audit(&self, limit: usize) -> std::io::Result<Vec<AuditEntry>>;
    /// Metrics in the Prometheus text format.
    fn metrics(&self) -> String;
    /// Whether the process is ready.
    fn readiness(&self) -> Readiness;
    /// The configuration in force, without secrets.
    fn config(&self) -> serde_json::Value;
}
