//! What a deployment is, what can happen to it, and what it asks for.

use std::{collections::BTreeMap, fmt, time::Duration};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_config::{ServiceId, TargetId};

use super::call::HookCall;
use crate::{
    change::ReleaseCause,
    deploy::{
        history::{Entry, History},
        ids::DeploymentId,
        memory::Note,
        plan::Plan,
        spec::DeploymentSpec,
        step::{AnalyseMode, Drain, HookStep, Releases, UndoStep, Verify, WatchSpec},
    },
    state::Moment,
};

/// A deployment, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its name.
    pub id: DeploymentId,
    /// What was asked for.
    pub spec: DeploymentSpec,
    /// Its steps.
    pub plan: Plan,
    /// Where it is.
    pub state: State,
    /// What is to be taken back, the last first. Never grows while it is taken back.
    pub undo: Vec<UndoStep>,
    /// The traffic that it asked for last.
    pub traffic: Releases,
    /// What was noted on the way.
    pub standing: Standing,
    /// Whether it begins by itself when nobody else holds its services any more.
    pub queued: bool,
    /// The variant that won.
    pub winner: Option<TargetId>,
    /// The number of the last act.
    pub last_op: u64,
    /// Old versions that are still to be stopped after the success.
    pub retiring: Option<Retiring>,
    /// The command that makes requests for the analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// What happened.
    pub history: History,
    /// What the analysis of each service said last.
    pub latest: BTreeMap<ServiceId, Judged>,
    /// When it was created.
    pub created_unix_ms: u64,
    /// When it last changed.
    pub updated_unix_ms: u64,
    /// When it ended.
    pub finished_unix_ms: Option<u64>,
    /// The deployment that it repeats.
    pub retry_of: Option<DeploymentId>,
}

/// What was noted on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Whether the new version was given traffic.
    pub released: bool,
    /// Whether an old version was stopped, so that traffic cannot simply go back.
    pub base_stopped: bool,
    /// Whether the analysis watches.
    pub watching: bool,
    /// Whether the remaining waits are passed over.
    pub full: bool,
    /// Whether it is to pause before the next step.
    pub pausing: bool,
    /// Whether a person went on although the new version was judged worse.
    pub overruled: bool,
    /// How often the present analysis was extended.
    pub extensions: u32,
}

/// Where a deployment is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// It waits to be executed.
    Pending,
    /// It does a step.
    Running {
        /// The step.
        at: usize,
        /// How far it is.
        doing: Doing,
    },
    /// It waits for a decision; what was done stays.
    Paused {
        /// The step.
        at: usize,
        /// What it waits for.
        reason: PauseReason,
        /// Until when.
        until: Deadline,
    },
    /// It takes everything back.
    RollingBack {
        /// Why.
        why: Why,
        /// What is being taken back: the top of the stack.
        doing: Undoing,
        /// What could not be taken back.
        troubles: Vec<String>,
    },
    /// Everything was taken back.
    RolledBack {
        /// Why.
        why: Why,
    },
    /// It failed: nothing was taken back, or not all of it.
    Failed {
        /// Why.
        why: Why,
        /// What could not be taken back; empty: nothing was tried.
        troubles: Vec<String>,
    },
    /// It is done.
    Succeeded,
    /// It was never executed.
    Cancelled,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "doing", rename_all = "snake_case")]
pub enum Doing {
    /// An act was asked for, and its outcome is awaited.
    Act {
        /// The act.
        op: u64,
        /// How often it was begun.
        runs: u32,
        /// Until when the outcome must be there.
        until: Deadline,
        /// The process of a command.
        process: Option<Process>,
    },
    /// A command said "not yet" and is run again.
    Again {
        /// How often it was begun.
        runs: u32,
        /// When.
        next: Deadline,
        /// Until when it must say yes.
        last: Deadline,
    },
    /// Time passes.
    Wait {
        /// Until when.
        until: Deadline,
    },
    /// The analysis watches.
    Analyse {
        /// The act.
        op: u64,
        /// Until when it must have said something.
        until: Deadline,
        /// What it said, per service.
        verdicts: BTreeMap<ServiceId, Verdict>,
    },
}

impl Doing {
    /// When something must happen.
    pub fn until(&self) -> Deadline {
        match self {
            Self::Act { until, .. } | Self::Wait { until } | Self::Analyse { until, .. } => *until,
            Self::Again { next, .. } => *next,
        }
    }
}

/// What is being taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undoing {
    /// The act.
    pub op: u64,
    /// How often it was begun.
    pub runs: u32,
    /// Until when the outcome must be there.
    pub until: Deadline,
    /// The process of a command.
    pub process: Option<Process>,
}

/// Old versions that are still to be stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retiring {
    /// When, or until when the present one must be done.
    pub until: Deadline,
    /// How.
    pub hooks: Vec<HookStep>,
    /// The act, once it has begun.
    pub op: Option<u64>,
}

/// A command that makes requests as long as an analysis lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The act.
    pub op: u64,
    /// The step that it is for.
    pub at: usize,
    /// How often it was begun.
    pub runs: u32,
    /// Its process.
    pub process: Option<Process>,
    /// How far it is.
    pub phase: LoadPhase,
}

/// How far a command is that makes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadPhase {
    /// It makes them.
    Running,
    /// It was told to end.
    Ending,
}

/// A process that a command runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its group.
    pub group: u32,
    /// When it began, as the system says it, so that another process of the same number is not mistaken for it.
    pub started: u64,
}

/// A moment to come, on both clocks: the monotonic one counts while the process runs, the other over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// Monotonic; means nothing to another process.
    #[serde(skip)]
    pub mono: Duration,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// How long it was when it began, so that a clock that jumps back cannot make it longer.
    pub length_ms: u64,
}

impl Deadline {
    /// Some time from now.
    pub fn after(now: Moment, length: Duration) -> Self {
        let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Self { mono: now.mono.saturating_add(length), unix_ms: now.unix_ms.saturating_add(length_ms), length_ms }
    }

    /// Whether it is over.
    pub fn is_over(self, now: Moment) -> bool {
        self.mono <= now.mono
    }

    /// The same moment for another process.
    #[must_use]
    pub fn rebased(self, now: Moment) -> Self {
        let left = self.unix_ms.saturating_sub(now.unix_ms).min(self.length_ms);
        Self { mono: now.mono.saturating_add(Duration::from_millis(left)), ..self }
    }
}

/// What a deployment waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum PauseReason {
    /// An operator asked for it.
    Manual,
    /// The plan says so.
    Step,
    /// The analysis could not tell.
    Inconclusive {
        /// Why.
        why: String,
    },
    /// The analysis found the new version worse.
    Failing {
        /// Why.
        why: String,
    },
    /// The test of variants has no winner.
    Winner {
        /// Why.
        why: String,
    },
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manual => write!(f, "paused by an operator"),
            Self::Step => write!(f, "paused by the plan"),
            Self::Inconclusive { why } => write!(f, "inconclusive: {why}"),
            Self::Failing { why } => write!(f, "the new version is worse: {why}"),
            Self::Winner { why } => write!(f, "no winner: {why}"),
        }
    }
}

/// Why a deployment did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The class of cause.
    pub kind: WhyKind,
    /// In words.
    pub message: String,
}

impl Why {
    /// A cause.
    pub fn new(kind: WhyKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Classes of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyKind {
    /// The new version could not be started.
    Start,
    /// It did not become or stay healthy.
    Health,
    /// It was judged worse.
    Analysis,
    /// Nobody could tell, and that was to end it.
    Inconclusive,
    /// It failed a test.
    Test,
    /// Another command failed.
    Hook,
    /// The traffic could not be changed.
    Traffic,
    /// Nobody decided in time.
    Deadline,
    /// A person wanted it.
    Operator,
}

impl WhyKind {
    /// Whether it speaks against the version itself.
    pub fn blames_version(self) -> bool {
        match self {
            Self::Start | Self::Health | Self::Analysis | Self::Test => true,
            Self::Inconclusive | Self::Hook | Self::Traffic | Self::Deadline | Self::Operator => false,
        }
    }
}

/// What an analysis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The time is not over.
    Running,
    /// The new version is worse.
    Fail,
    /// The time is over, there was enough traffic, and nothing speaks against it. In a test of variants: one is best.
    Pass,
    /// The time is over, and neither was shown.
    Inconclusive,
    /// The time is over, and there was too little traffic to say anything.
    InsufficientData,
}

/// What an analysis says, with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What it says.
    pub verdict: Verdict,
    /// Of a test of variants: the best.
    pub winner: Option<TargetId>,
    /// Why, with the numbers that decided.
    pub reason: String,
    /// The evidence.
    pub evidence: f64,
    /// What it must reach.
    pub threshold: f64,
    /// Requests or visitors that it rests on: of the new version, and of what it is compared with.
    pub samples: (u64, u64),
}

/// Something that happens to a deployment.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// It is to begin, by this plan.
    Execute(Box<Plan>),
    /// A person wants something.
    Command(Command),
    /// An act was done, or not.
    Done {
        /// The act.
        op: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// A command's process runs.
    HookStarted {
        /// The act.
        op: u64,
        /// The process.
        process: Process,
    },
    /// The analysis says something.
    Judged {
        /// The service.
        service: ServiceId,
        /// What it says.
        judged: Judged,
    },
    /// No endpoint of a target is healthy any more.
    TargetDown {
        /// The service.
        service: ServiceId,
        /// The target.
        target: TargetId,
        /// Why.
        reason: String,
    },
    /// Another deployment of one of its services begins.
    Superseded,
    /// The next stage got its versions, or did not.
    Promoted {
        /// The stage.
        stage: String,
        /// The deployment there, or why there is none.
        outcome: Result<DeploymentId, String>,
    },
    /// Time passed.
    Tick,
}

/// What a person wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Go on with the next step.
    Promote,
    /// Pass over every wait that is left.
    PromoteFull,
    /// Begin no further step.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Pass over the present step.
    Skip,
    /// Never begin.
    Cancel,
    /// Take everything back.
    Rollback,
    /// Choose a variant.
    SelectWinner(TargetId),
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The traffic is as it was asked for; endpoints are healthy; nothing runs on them any more.
    Done,
    /// It could not be done.
    Failed(String),
    /// A command ended.
    Hook(HookReport),
    /// Nothing is known of it.
    Lost(String),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReport {
    /// How.
    pub end: HookEnd,
    /// The end of what it printed.
    pub output: String,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookEnd {
    /// It exited with this code.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was ended, because it ran too long.
    TimedOut,
    /// It was ended, because it was not needed any more.
    Killed,
    /// It could not be started.
    NotStarted(String),
}

impl fmt::Display for HookEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => write!(f, "it ran too long"),
            Self::Killed => write!(f, "it was ended"),
            Self::NotStarted(why) => write!(f, "it could not be started: {why}"),
        }
    }
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Set the traffic; answer [`Outcome::Done`] or [`Outcome::Failed`].
    Release {
        /// The act.
        op: u64,
        /// The traffic.
        services: Releases,
        /// Whether it goes forward or back.
        cause: ReleaseCause,
    },
    /// Probe endpoints until all are healthy; answer [`Outcome::Done`] or [`Outcome::Failed`].
    Verify {
        /// The act.
        op: u64,
        /// What.
        verify: Verify,
    },
    /// Run a command; answer [`Input::HookStarted`], then [`Outcome::Hook`].
    Hook {
        /// The act.
        op: u64,
        /// What.
        call: Box<HookCall>,
        /// A process of an earlier run that may still be there, and is ended first.
        kill: Option<Process>,
    },
    /// End the command of an act, if it runs. Nobody waits for an answer.
    KillHook {
        /// The act.
        op: u64,
        /// Its process, if it was begun by another process than this.
        process: Option<Process>,
    },
    /// Wait until nothing runs on endpoints, cut it at the end; answer [`Outcome::Done`].
    Drain {
        /// The act.
        op: u64,
        /// What.
        drain: Drain,
    },
    /// Watch the new version; answer [`Input::Judged`] as often as there is something to say.
    Watch(WatchSpec),
    /// Say after this time what the watch found; the guard goes on.
    Window {
        /// The act.
        op: u64,
        /// The time.
        length: Duration,
        /// What is decided.
        mode: AnalyseMode,
    },
    /// End the watch.
    StopWatch,
    /// Tell what happened, to event sinks, logs and the API.
    Tell(Vec<Entry>),
}

/// Whether the deployment must be written down before its effects are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Write {
    /// Nothing changed that must outlive the process.
    No,
    /// It is written if possible; the effects are done in any case, because they lead away from trouble.
    BestEffort,
    /// If it cannot be written, nothing is done and the deployment stays as it was.
    Required,
}

/// What an input makes of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// The deployment from now on.
    pub deployment: Deployment,
    /// Whether it is written down, before anything else.
    pub write: Write,
    /// What is remembered of the services; written together with the deployment.
    pub notes: Vec<(ServiceId, Note)>,
    /// What is done then, in this order.
    pub effects: Vec<Effect>,
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not fit the state.
    #[error("{0}")]
    Conflict(String),
    /// It is wrong in itself.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing: its kind and its name.
    #[error("there is no {0}")]
    Unknown(String),
}

impl Refusal {
    /// The status that stands for it over HTTP.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
        }
    }
}
