//! What the file says about deployments: commands, environments, stages, the watch on stack folders, event sinks.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use crate::{HookId, SecretSource, SinkId};

/// How long a command may run when nobody says otherwise: image pulls are slow, and every wait must end.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(300);

/// A command: in place, or one that the file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookUse {
    /// `[hook.NAME]`, which is declared.
    Named(HookId),
    /// The program and its arguments, at least the program.
    Argv(Vec<String>),
}

impl HookUse {
    /// The program and its arguments, and how long it may run. No program: the file that declared it is not in force any
    /// more.
    pub fn program<'a>(&'a self, hooks: &'a BTreeMap<HookId, HookSpec>) -> (&'a [String], Duration) {
        match self {
            Self::Argv(argv) => (argv, HOOK_TIMEOUT),
            Self::Named(name) => hooks.get(name).map_or((&[], HOOK_TIMEOUT), |hook| (&hook.argv, hook.timeout)),
        }
    }
}

/// A command that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSpec {
    /// The program and its arguments, at least the program.
    pub argv: Vec<String>,
    /// How long it may run (default 5 min).
    pub timeout: Duration,
    /// Whether it may run again after it was cut off; `None`: what starts, stops, copies and tests may.
    pub idempotent: Option<bool>,
}

/// How the environments of a service are started, stopped and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// Starts a version's environment.
    pub start: Option<HookUse>,
    /// Stops a version's environment.
    pub stop: Option<HookUse>,
    /// Keeps a copy of a version that is known to be good.
    pub save: Option<HookUse>,
    /// Puts a version's files in place before it is started.
    pub install: Option<HookUse>,
    /// Runs before anything else.
    pub pre_hook: Option<HookUse>,
    /// Runs after success.
    pub post_hook: Option<HookUse>,
    /// Runs after everything was taken back.
    pub rollback_hook: Option<HookUse>,
    /// What becomes of the old version (default: it runs until the next deployment).
    pub keep_old: KeepOld,
    /// Whether a version that failed is remembered and refused (default yes).
    pub mark_bad: bool,
}

impl Default for EnvironmentSpec {
    fn default() -> Self {
        Self {
            start: None,
            stop: None,
            save: None,
            install: None,
            pre_hook: None,
            post_hook: None,
            rollback_hook: None,
            keep_old: KeepOld::UntilNext,
            mark_bad: true,
        }
    }
}

/// What becomes of an old version after a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepOld {
    /// It runs until the next deployment needs its place.
    UntilNext,
    /// It is stopped after this time.
    For(Duration),
    /// It is stopped at once.
    No,
}

/// Commands around a failover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverHooks {
    /// Runs before the service moves, when health decides that it must.
    pub before: Option<HookUse>,
    /// Runs after it has moved.
    pub after: Option<HookUse>,
    /// How long the service waits for `before` (default 20 s).
    pub before_timeout: Duration,
    /// What happens when `before` fails or is not done in time (default: the service moves).
    pub on_timeout: OnTimeout,
}

impl Default for FailoverHooks {
    fn default() -> Self {
        let before_timeout = Duration::from_secs(20);
        Self { before: None, after: None, before_timeout, on_timeout: OnTimeout::Switch }
    }
}

/// What happens to a failover whose first command fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    /// The service moves all the same: being there matters more than what the command does.
    Switch,
    /// It stays where it is: what the command does matters more than being there.
    Hold,
}

/// A stage: `next`, `auto_promote` and the keys of a deployment, as they are written. Whoever knows deployments reads it.
#[derive(Clone, PartialEq)]
pub struct StageSpec {
    /// The table.
    pub document: serde_json::Value,
    /// Lines of the file, by path within the table.
    pub(crate) lines: BTreeMap<String, usize>,
}

impl StageSpec {
    /// The line of a path within the table, or of the nearest thing around it.
    pub fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            if path.is_empty() {
                return 1;
            }
            path = path.get(..path.rfind(['.', '[']).unwrap_or(0)).unwrap_or_default();
        }
    }
}

impl fmt::Debug for StageSpec {
    /// Without the lines, which say nothing about what it means.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.document.fmt(f)
    }
}

/// The watch on stack folders: each folder is a stack, deployed as the service of the same name when its files change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Time between two looks (default 60 s).
    pub interval: Duration,
    /// Brings the folders up to date before each look.
    pub fetch: Option<HookUse>,
    /// Prints what the folders' present state is called, a commit for example: a label of the deployments.
    pub commit: Option<HookUse>,
    /// Patterns of the folders, at least one: `/srv/repo/stacks/*`.
    pub stacks: Vec<String>,
    /// Whether stacks that say nothing are deployed (default yes).
    pub deploy: bool,
    /// How stacks that say nothing are deployed (default simple).
    pub method: StackMethod,
}

/// How a stack is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackMethod {
    /// The old one is stopped and the new one started, without any check.
    Blind,
    /// The old one is stopped, the new one started and checked; the old one comes back if the new one is not healthy.
    Simple,
    /// The new one is started beside the old one, and gets its traffic step by step.
    Canary,
    /// The new one is started beside the old one, and gets all traffic at once when it is healthy.
    BlueGreen,
}

impl StackMethod {
    /// What each is called; the first name of several is the usual one.
    pub const WORDS: [(&'static str, Self); 5] = [
        ("blind", Self::Blind),
        ("simple", Self::Simple),
        ("recreate", Self::Simple),
        ("canary", Self::Canary),
        ("blue-green", Self::BlueGreen),
    ];

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blind => "blind",
            Self::Simple => "simple",
            Self::Canary => "canary",
            Self::BlueGreen => "blue-green",
        }
    }
}

/// Where events of deployments go, and how they are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// What the type of each event begins with (default `dev.tidegate`).
    pub prefix: String,
    /// The name of this proxy (default `tidegate`).
    pub node: String,
    /// Who is told.
    pub sinks: Vec<SinkSpec>,
}

impl Default for Events {
    fn default() -> Self {
        Self { prefix: "dev.tidegate".into(), node: "tidegate".into(), sinks: Vec::new() }
    }
}

/// Somebody who is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSpec {
    /// Its name: what it was told already is remembered under it.
    pub name: SinkId,
    /// How it is told.
    pub to: SinkTarget,
    /// Types that it is told of, without the prefix; `*` at the end stands for anything. Empty: all.
    pub types: Vec<String>,
    /// Events that wait for it at most; older ones are dropped (default 10,000).
    pub backlog: u32,
    /// How long it may take to accept one (default 10 s).
    pub timeout: Duration,
}

/// How a sink is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkTarget {
    /// By a POST of each event.
    Url {
        /// The address, `http://` or `https://`.
        url: String,
        /// A token that is sent with it.
        token: Option<SecretSource>,
    },
    /// By a command that gets each event on its standard input.
    Command(HookUse),
    /// By a line of a file.
    File(PathBuf),
}
