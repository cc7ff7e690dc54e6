//! What a service says about its deployments: how its environments are started, stopped and kept.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::spec::{HookRun, Hooks, KeepOld};

/// How long a command may run when nobody says otherwise: image pulls are slow, and every wait must end.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(300);

/// What a service says about its deployments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its commands; those of a deployment take their place.
    pub hooks: Hooks,
    /// Commands that can be named.
    pub named: BTreeMap<String, NamedHook>,
    /// What becomes of old versions.
    pub keep_old: KeepOld,
    /// Whether versions that failed are remembered as bad and refused.
    pub mark_bad: bool,
}

impl Default for Environment {
    fn default() -> Self {
        Self { hooks: Hooks::default(), named: BTreeMap::new(), keep_old: KeepOld::UntilNext, mark_bad: true }
    }
}

/// A command that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedHook {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// How long it may run.
    pub timeout: Duration,
    /// Whether it may run again after it was cut off; `None`: as what it is used for says.
    pub idempotent: Option<bool>,
}

impl Environment {
    /// The program and arguments of a command.
    pub fn argv(&self, run: &HookRun) -> Vec<String> {
        match run {
            HookRun::Argv(argv) => argv.clone(),
            HookRun::Named(name) => self.named.get(name).map_or_else(|| vec![name.clone()], |hook| hook.argv.clone()),
        }
    }

    pub(super) fn named(&self, run: &HookRun) -> Option<&NamedHook> {
        match run {
            HookRun::Named(name) => self.named.get(name),
            HookRun::Argv(_) => None,
        }
    }
}
