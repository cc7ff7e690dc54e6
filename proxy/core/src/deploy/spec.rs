//! What a deployment is asked to do: every strategy as typed values. Whatever holds one has been parsed.

mod parse;
mod read;
#[cfg(test)]
mod tests;
mod value;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use parse::{parse, parse_members, parse_open, parse_template};
pub use read::SpecProblem;
use serde::{Deserialize, Serialize};
use tidegate_config::{EndpointSpec, HookUse, ServiceId, TargetId, Weight};
pub use value::Value;

/// A deployment as it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// A name for people.
    pub name: Option<String>,
    /// The project, for people and events.
    pub project: Option<String>,
    /// The stage that its services are in.
    pub stage: Option<String>,
    /// The services, at least one and none twice; several are released together.
    pub members: Vec<MemberSpec>,
    /// How.
    pub strategy: Strategy,
    /// Commands that were given with the deployment; they take the place of the service's.
    pub hooks: Hooks,
    /// When the pre hook runs, if the strategy stops the old version.
    pub pre_order: PreOrder,
    /// How a new version shows that it is healthy.
    pub health: HealthSpec,
    /// How long running requests of an old version may go on; `None`: as the service says.
    pub drain: Option<Duration>,
    /// What becomes of the old version; `None`: as the service says.
    pub keep_old: Option<KeepOld>,
    /// Whether a version that failed is remembered as bad; `None`: as the service says.
    pub mark_bad: Option<bool>,
    /// Whether a failure takes everything back by itself (default yes, but for blind).
    pub auto_rollback: bool,
    /// Why a version that is marked bad is deployed nevertheless.
    pub force: Option<String>,
    /// What happens while another deployment of the service is active.
    pub when_busy: WhenBusy,
    /// How the new version is judged.
    pub analyse: AnalyseSpec,
    /// Longest wait for a person (default 24 h); after it, the deployment fails.
    pub patience: Duration,
    /// Files whose contents are the version's identity, as patterns.
    pub fingerprint: Vec<String>,
    /// What is handed to hooks and shown, but means nothing to the engine.
    pub metadata: Metadata,
}

/// One service of a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberSpec {
    /// The service.
    pub service: ServiceId,
    /// The target that gets the new version; `None`: the one that is free.
    pub to: Option<TargetId>,
    /// What the version is called; `None`: its image, or its target.
    pub version: Option<String>,
    /// The image or artifact, for the hooks.
    pub image: Option<String>,
    /// Endpoints of the new version; empty: those that the target has.
    pub endpoints: Vec<EndpointSpec>,
    /// The digest of the version's files. No document says it: whoever can read the files computes it.
    pub digest: Option<String>,
}

/// How a deployment goes about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Strategy {
    /// Stop the old version, start the new one, route: with downtime, unchecked.
    Simple,
    /// The same without waiting for what runs; a failure is not taken back.
    Blind,
    /// Stop the old version, start and check the new one, and go back if it is ill.
    Recreate,
    /// Replace endpoints in batches.
    RollingUpdate(Rolling),
    /// The same, never with fewer endpoints than before.
    ZeroDowntime(Rolling),
    /// Start the new version beside the old one, check it, and switch.
    BlueGreen {
        /// How long the new version is watched after the switch.
        watch: Duration,
    },
    /// Give the new version more and more of the traffic.
    Canary {
        /// The shares; they rise, and the last is 100 %.
        steps: Vec<Weight>,
        /// Time of each share.
        interval: Duration,
    },
    /// Several versions side by side, and then the best of them.
    AbTesting {
        /// The versions, at least two.
        variants: Vec<Variant>,
        /// Time of the test.
        duration: Duration,
        /// What a visitor is to do.
        goal: Option<Goal>,
    },
    /// Copy requests to the new version; its answers are thrown away.
    Shadow(MirrorPolicy),
    /// Steps as written.
    Custom {
        /// The steps.
        steps: Vec<CustomStep>,
    },
}

impl Strategy {
    /// The names of all strategies.
    pub const NAMES: [&str; 10] = [
        "simple",
        "blind",
        "recreate",
        "rolling-update",
        "zero-downtime",
        "blue-green",
        "canary",
        "ab-testing",
        "shadow",
        "custom",
    ];

    /// Its name, as files and the API say it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Blind => "blind",
            Self::Recreate => "recreate",
            Self::RollingUpdate(_) => "rolling-update",
            Self::ZeroDowntime(_) => "zero-downtime",
            Self::BlueGreen { .. } => "blue-green",
            Self::Canary { .. } => "canary",
            Self::AbTesting { .. } => "ab-testing",
            Self::Shadow(_) => "shadow",
            Self::Custom { .. } => "custom",
        }
    }

    /// Whether the new version is checked before it gets traffic.
    pub fn verifies(&self) -> bool {
        !matches!(self, Self::Simple | Self::Blind)
    }

    /// Whether it can replace a version where it runs.
    pub fn works_in_place(&self) -> bool {
        matches!(self, Self::Simple | Self::Blind | Self::Recreate)
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How endpoints are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// Endpoints that the new version has; `None`: all that are given.
    pub replicas: Option<u32>,
    /// Endpoints of both versions beyond `replicas`, at most.
    pub max_surge: u32,
    /// Endpoints below `replicas` that are ready, at most.
    pub max_unavailable: u32,
    /// Time between two batches.
    pub batch_delay: Duration,
}

/// One version of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Its target.
    pub name: TargetId,
    /// Its image, for the hooks.
    pub image: Option<String>,
    /// Its share.
    pub percentage: Weight,
}

/// What a visitor is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// Its name, which answers may carry in a header.
    pub name: String,
    /// The method of the request that reaches it, upper case; `None`: any.
    pub method: Option<String>,
    /// The path of the request that reaches it; `None`: only headers and reports count.
    pub path: Option<String>,
    /// The status codes that mean success: `2xx`, `201`.
    pub status: Option<String>,
}

/// What is copied to a shadow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorPolicy {
    /// The share of requests.
    pub percent: Weight,
    /// The methods, upper case; `*`: all.
    pub methods: Vec<String>,
}

/// A step that was written by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CustomStep {
    /// Give the new version a share.
    Set(Weight),
    /// Judge the new version for this long.
    Analyse(Duration),
    /// Wait.
    Pause(PauseFor),
    /// Run a command.
    Hook(HookRun),
    /// Copy a share of the requests to the new version.
    Mirror(MirrorPolicy),
    /// Check the new version's health again.
    Verify,
}

/// What a pause waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseFor {
    /// Time.
    Time(Duration),
    /// A person, until the deadline.
    Manual {
        /// The longest wait; `None`: the deployment's patience.
        deadline: Option<Duration>,
    },
    /// A command that says yes, until the deadline.
    Gate {
        /// The command; temporary failures are asked again.
        hook: HookRun,
        /// The longest wait; `None`: the deployment's patience.
        deadline: Option<Duration>,
    },
}

/// A command: never a line for a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookRun {
    /// One that the configuration names, or a program without arguments.
    Named(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

impl From<&HookUse> for HookRun {
    fn from(command: &HookUse) -> Self {
        match command {
            HookUse::Named(name) => Self::Named(name.to_string()),
            HookUse::Argv(argv) => Self::Argv(argv.clone()),
        }
    }
}

impl fmt::Display for HookRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Argv(argv) => f.write_str(&argv.join(" ")),
        }
    }
}

/// Commands around a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hooks {
    /// Starts a version's environment.
    pub start: Option<HookRun>,
    /// Stops a version's environment.
    pub stop: Option<HookRun>,
    /// Keeps a copy of a version that is known to be good.
    pub save: Option<HookRun>,
    /// Puts a version's files in place before it is started.
    pub install: Option<HookRun>,
    /// Runs before anything else.
    pub pre: Option<HookRun>,
    /// Runs after success; the new version stays whatever comes of it.
    pub post: Option<HookRun>,
    /// Runs after everything was taken back.
    pub rollback: Option<HookRun>,
    /// Makes requests while a version is judged.
    pub load: Option<HookRun>,
    /// Test the new version before it gets traffic; with their kind.
    pub tests: Vec<TestHook>,
}

/// A command that tests the new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestHook {
    /// What it tests.
    pub kind: TestKind,
    /// The command.
    pub run: HookRun,
}

/// What a test is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestKind {
    /// Whether it does what it should.
    Functional,
    /// Whether it is fast enough.
    Performance,
}

/// When the pre hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreOrder {
    /// Before anything is stopped, so that its failure harms nobody.
    #[default]
    First,
    /// After the old version was stopped.
    AfterStop,
}

/// How a new version shows that it is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// The path to ask for; `None`: as the service's check.
    pub path: Option<String>,
    /// The port to ask; `None`: the endpoint's.
    pub port: Option<u16>,
    /// How long it may take until it is healthy.
    pub timeout: Duration,
    /// Successes in a row that are needed of each endpoint.
    pub successes: u32,
}

/// What becomes of the old version after a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepOld {
    /// It runs until the next deployment needs its place.
    #[default]
    UntilNext,
    /// It is stopped after this time.
    For(Duration),
    /// It is stopped at once.
    No,
}

/// What happens while another deployment of a service is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenBusy {
    /// The new one is refused.
    #[default]
    Refuse,
    /// The active one is rolled back first.
    Supersede,
}

/// How a new version is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalyseSpec {
    /// Requests that each side must have had for a verdict.
    pub min_requests: u64,
    /// Odds ratio of failure that is tolerated, at least 1.
    pub max_odds: f64,
    /// Probability of a false alarm.
    pub alpha: f64,
    /// What has to be shown.
    pub gate: Gate,
    /// What happens when it is worse.
    pub on_fail: OnFail,
    /// What happens when nobody can tell.
    pub on_inconclusive: OnInconclusive,
}

/// What has to be shown of a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Nothing speaks against it.
    #[default]
    NoHarm,
    /// It is shown not to be worse.
    NonInferior,
}

/// What a failed analysis does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    /// Everything is taken back.
    #[default]
    Rollback,
    /// A person decides.
    Pause,
}

/// What an analysis without a verdict does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInconclusive {
    /// A person decides.
    #[default]
    Pause,
    /// It goes on, for a bounded number of times, and then pauses.
    Extend,
    /// The deployment goes on, if data sufficed; without data it pauses.
    Promote,
    /// Everything is taken back.
    Rollback,
}

/// What is handed to hooks and shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// Labels: `commit`, `cpu`, `memory`, `cloud_provider`, `metrics_endpoint`, `replicas`,
    /// `traffic_router`.
    pub labels: BTreeMap<String, String>,
    /// Environment variables of the new version.
    pub env: BTreeMap<String, String>,
    /// Volumes of the new version.
    pub volumes: Vec<String>,
}
