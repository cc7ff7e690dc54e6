//! What happened in a deployment, numbered, so that whoever is told twice knows it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_config::{ServiceId, TargetId};

use super::{
    ids::DeploymentId,
    machine::{HookReport, Judged, PauseReason, Why},
    step::{HookRole, Task},
};

/// Entries that a deployment keeps: the longest plan with every step told several times.
const MAX_ENTRIES: usize = 2_000;

/// An entry of a deployment's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number within the deployment.
    pub seq: u64,
    /// When.
    pub at_unix_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happened,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "happened", rename_all = "snake_case")]
pub enum Happened {
    /// It was created.
    Created,
    /// It was started.
    Executed,
    /// A step begins.
    StepStarted {
        /// Its position in the plan.
        at: usize,
        /// Its part of the delivery.
        task: Task,
        /// What it does.
        step: String,
    },
    /// A step is done.
    StepFinished {
        /// Its position in the plan.
        at: usize,
        /// Its part of the delivery.
        task: Task,
        /// What it did.
        step: String,
    },
    /// A step was passed without being done.
    StepSkipped {
        /// Its position in the plan.
        at: usize,
        /// What it would have done.
        step: String,
    },
    /// A step failed.
    StepFailed {
        /// Its position in the plan.
        at: usize,
        /// Its part of the delivery.
        task: Task,
        /// What it did.
        step: String,
        /// Why.
        why: Why,
    },
    /// A command ended.
    HookFinished {
        /// What for.
        role: HookRole,
        /// Its service.
        service: ServiceId,
        /// Its target.
        target: TargetId,
        /// The program.
        program: String,
        /// How it ended.
        report: HookReport,
    },
    /// An analysis said something.
    Verdict {
        /// The service.
        service: ServiceId,
        /// What it said.
        judged: Judged,
    },
    /// A winner was chosen.
    Won {
        /// The target.
        target: TargetId,
    },
    /// It waits.
    Paused {
        /// For what.
        reason: PauseReason,
    },
    /// It goes on.
    Resumed,
    /// Everything is being taken back.
    RollbackStarted {
        /// Why.
        why: Why,
    },
    /// Something was taken back.
    Undone {
        /// What was done for it.
        step: String,
    },
    /// Something could not be taken back.
    UndoFailed {
        /// What was tried.
        step: String,
        /// Why not.
        reason: String,
    },
    /// A version is remembered as bad.
    VersionBad {
        /// The service.
        service: ServiceId,
        /// The version.
        version: String,
        /// Why.
        why: String,
    },
    /// The process was restarted in the middle of it.
    Recovered {
        /// What is done about it.
        how: String,
    },
    /// The next stage got the same versions.
    Promoted {
        /// The stage.
        stage: String,
        /// The deployment there.
        deployment: DeploymentId,
    },
    /// The next stage did not get them.
    PromotionFailed {
        /// The stage.
        stage: String,
        /// Why.
        reason: String,
    },
    /// It is over.
    Finished {
        /// How: succeeded, rolled-back, failed, cancelled.
        outcome: String,
        /// Why, if it did not succeed.
        why: Option<Why>,
    },
}

/// The latest entries.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    entries: VecDeque<Entry>,
    next: u64,
    /// Where the latest group begins: after a restart it is told again, for nobody knows whether it was.
    fresh_from: u64,
}

impl History {
    /// The entries, the latest last.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn add(&mut self, what: Happened, at_unix_ms: u64) {
        self.entries.push_back(Entry { seq: self.next, at_unix_ms, what });
        self.next += 1;
        while self.entries.len() > MAX_ENTRIES {
            self.entries.pop_front();
        }
    }

    /// Begins a group of entries that are told together.
    pub(super) fn begin(&mut self) {
        self.fresh_from = self.next;
    }

    /// The entries of the latest group.
    pub(super) fn fresh(&self) -> Vec<Entry> {
        self.entries.iter().filter(|entry| entry.seq >= self.fresh_from).cloned().collect()
    }
}
