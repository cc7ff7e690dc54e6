//! What a service says about its deployments: how its environments are started, stopped and kept.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tidegate_config::deploy::HOOK_TIMEOUT;

use super::spec::{HookRun, Hooks, KeepOld};

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

/// A command, with what the configuration says about it.
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
    /// What a command is: one that the configuration names, or else a program.
    pub fn command(&self, run: &HookRun) -> NamedHook {
        let program = |argv| NamedHook { argv, timeout: HOOK_TIMEOUT, idempotent: None };
        match run {
            HookRun::Argv(argv) => program(argv.clone()),
            HookRun::Named(name) => self.named.get(name).cloned().unwrap_or_else(|| program(vec![name.clone()])),
        }
    }
}
