//! The steps that every strategy is made of, and how each is taken back. Plain data: a plan is written down as it is.
//!
//! A step carries whole values, and its own undo: the undo is on the stack before the act begins, so it must do no
//! harm when the act never took place.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tidegate_config::{EndpointAddress, ServiceId, TargetId};

use super::{
    plan::Retire,
    spec::{AnalyseSpec, Goal, TestKind},
};
use crate::change::Release;

/// Traffic of several services, set together.
pub type Releases = BTreeMap<ServiceId, Release>;

/// A version of a service: what "good" and "bad" are said about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// Its image or artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A digest of its files: its identity where there is one, for the same files are the same version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl Version {
    /// What it is remembered under.
    pub fn key(&self) -> &str {
        self.fingerprint.as_deref().unwrap_or(&self.name)
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// The part of a delivery that it belongs to, for events.
    pub task: Task,
    /// What is done.
    pub step: Step,
    /// How it is taken back; the last is done first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<UndoStep>,
}

/// The part of a delivery that a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Bringing the new version up.
    Deploy,
    /// Testing what it does.
    FunctionalTests,
    /// Testing how fast it is.
    PerformanceTests,
    /// Judging it.
    Evaluation,
    /// Giving it traffic.
    Release,
    /// Handing it to the next stage.
    Promote,
    /// Taking it back.
    Rollback,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Sets the traffic of all members in one change.
    Traffic {
        /// What it is about.
        kind: TrafficKind,
        /// What each service's traffic is to be.
        services: Releases,
    },
    /// Waits.
    Pause(Pause),
    /// Waits until endpoints are healthy.
    Verify(Verify),
    /// Judges the new version.
    Analyse(Analyse),
    /// Runs a command.
    Hook(HookStep),
    /// Waits for what runs on endpoints that get no more requests, and cuts it at the end.
    Drain(Drain),
    /// Goes on with the steps of the variant that won.
    Crown {
        /// The steps for each variant.
        variants: BTreeMap<TargetId, Tail>,
    },
}

/// What is done when a variant has won.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tail {
    /// The steps.
    pub steps: Vec<PlanStep>,
    /// What is stopped some time after the success.
    pub retire: Option<Retire>,
}

/// What a change of traffic is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficKind {
    /// Targets get endpoints, but no requests.
    Place,
    /// Requests wait.
    Hold,
    /// Weights change.
    SetWeight,
    /// Requests are copied.
    Mirror,
}

/// A wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// For some time.
    Time(Duration),
    /// For a person, and not longer than this.
    Manual(Duration),
    /// For a command that says yes, and not longer than this.
    Gate(Box<HookStep>, Duration),
}

/// Endpoints that are to be healthy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verify {
    /// The endpoints.
    pub endpoints: Endpoints,
    /// The path to ask for; `None`: as the service's check.
    pub path: Option<String>,
    /// The port to ask; `None`: the endpoint's.
    pub port: Option<u16>,
    /// Successes in a row, of each endpoint, since the step began.
    pub successes: u32,
    /// How long it may take.
    pub timeout: Duration,
}

/// Endpoints of targets of services.
pub type Endpoints = BTreeMap<ServiceId, BTreeMap<TargetId, Vec<EndpointAddress>>>;

/// A judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analyse {
    /// How long the new version is watched.
    pub length: Duration,
    /// What an end without a verdict means.
    pub mode: AnalyseMode,
    /// A command that makes requests as long as it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Box<HookStep>>,
}

/// What an analysis decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnalyseMode {
    /// Whether the new version gets more traffic: only evidence lets it pass.
    Gate,
    /// Whether it keeps what it has: only evidence takes it away.
    Watch,
    /// Which variant is best.
    Contest,
}

/// What is watched from the first request of a new version until the deployment ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchSpec {
    /// Who is compared, per service.
    pub arms: BTreeMap<ServiceId, Arms>,
    /// How.
    pub rules: AnalyseSpec,
    /// What a visitor is to do, in a test of variants.
    pub goal: Option<Goal>,
}

/// Who is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arms {
    /// The new version, or the variants.
    pub candidates: Vec<TargetId>,
    /// The old version.
    pub baseline: TargetId,
}

/// A command, with what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStep {
    /// What for.
    pub role: HookRole,
    /// The program and its arguments; `{slot}` and `{replica}` are still in them.
    pub argv: Vec<String>,
    /// The service.
    pub service: ServiceId,
    /// The target that it works on, which is also the slot.
    pub target: TargetId,
    /// The version that it works on.
    pub version: Version,
    /// The version that is or was there instead.
    pub previous: Option<Version>,
    /// Which of several endpoints it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u32>,
    /// How long it may run.
    pub timeout: Duration,
    /// Whether it may run again after it was cut off.
    pub idempotent: bool,
    /// What its failure means.
    pub on_failure: OnHookFailure,
}

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookRole {
    /// Starts a version.
    Start,
    /// Stops a version.
    Stop,
    /// Keeps a copy of a good version.
    Save,
    /// Puts a version's files in place.
    Install,
    /// Runs first.
    Pre,
    /// Runs last.
    Post,
    /// Runs after everything was taken back.
    Rollback,
    /// Tests the new version.
    Test(TestKind),
    /// Says whether a pause may end.
    Gate,
    /// Makes requests while a version is judged.
    Load,
    /// A step that was written by hand.
    Custom,
}

/// What a command's failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHookFailure {
    /// The deployment has failed.
    Fail,
    /// It is told, and nothing else.
    Report,
}

/// A drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// What is drained.
    pub endpoints: Endpoints,
    /// After this it is cut.
    pub timeout: Duration,
}

/// How a step is taken back. None of these is ever taken back itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoStep {
    /// Sets the traffic as it was before.
    Traffic(Releases),
    /// Removes targets that the deployment added, when nothing runs there any more.
    Unplace(Releases),
    /// Runs a command.
    Hook(HookStep),
    /// Waits until what was started again is healthy. If it is not, the commands run (it is stopped), once and for all.
    Verify(Verify, Vec<HookStep>),
}

impl UndoStep {
    /// What it is, for events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Traffic(_) => "restore traffic",
            Self::Unplace(_) => "remove targets",
            Self::Hook(hook) => hook.role.name(),
            Self::Verify(..) => "verify",
        }
    }
}

impl HookRole {
    /// What it is, for events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Save => "save",
            Self::Install => "install",
            Self::Pre => "pre hook",
            Self::Post => "post hook",
            Self::Rollback => "rollback hook",
            Self::Test(TestKind::Functional) => "functional test",
            Self::Test(TestKind::Performance) => "performance test",
            Self::Gate => "gate",
            Self::Load => "load",
            Self::Custom => "hook",
        }
    }
}

impl Step {
    /// What it is, for events.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Traffic { kind: TrafficKind::Place, .. } => "place",
            Self::Traffic { kind: TrafficKind::Hold, .. } => "hold",
            Self::Traffic { kind: TrafficKind::SetWeight, .. } => "set weight",
            Self::Traffic { kind: TrafficKind::Mirror, .. } => "mirror",
            Self::Pause(_) => "pause",
            Self::Verify(_) => "verify",
            Self::Analyse(_) => "analyse",
            Self::Hook(hook) => hook.role.name(),
            Self::Drain(_) => "drain",
            Self::Crown { .. } => "choose the winner",
        }
    }

    /// The command that it runs, if it runs one.
    pub fn command(&self) -> Option<&HookStep> {
        match self {
            Self::Hook(hook) => Some(hook),
            Self::Pause(Pause::Gate(hook, _)) => Some(hook),
            Self::Pause(Pause::Time(_) | Pause::Manual(_))
            | Self::Traffic { .. }
            | Self::Verify(_)
            | Self::Analyse(_)
            | Self::Drain(_)
            | Self::Crown { .. } => None,
        }
    }

    /// Whether it stops an old version, so that traffic cannot simply go back.
    pub fn stops(&self, target: &TargetId, service: &ServiceId) -> bool {
        matches!(self, Self::Hook(hook)
            if hook.role == HookRole::Stop && hook.target == *target && hook.service == *service)
    }
}
