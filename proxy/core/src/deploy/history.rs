//! What happened in a deployment, numbered, so that whoever is told twice knows it.

use std::{collections::VecDeque, fmt};

use serde::{Deserialize, Serialize};
use tidegate_config::{ServiceId, TargetId};

use super::{
    ids::DeploymentId,
    machine::{HookReport, Judged, PauseReason, Verdict, Why},
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

/// What kind of thing happened, without its circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the kind of the variant of `Happened` with its name")]
pub enum HappenedKind {
    Created,
    Executed,
    StepStarted,
    StepFinished,
    StepSkipped,
    StepFailed,
    HookFinished,
    Verdict,
    Won,
    Paused,
    Resumed,
    RollbackStarted,
    Undone,
    UndoFailed,
    VersionBad,
    Recovered,
    Promoted,
    PromotionFailed,
    Finished,
}

impl HappenedKind {
    /// The word for it on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Executed => "executed",
            Self::StepStarted => "step-started",
            Self::StepFinished => "step-finished",
            Self::StepSkipped => "step-skipped",
            Self::StepFailed => "step-failed",
            Self::HookFinished => "hook-finished",
            Self::Verdict => "verdict",
            Self::Won => "won",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::RollbackStarted => "rollback-started",
            Self::Undone => "undone",
            Self::UndoFailed => "undo-failed",
            Self::VersionBad => "version-bad",
            Self::Recovered => "recovered",
            Self::Promoted => "promoted",
            Self::PromotionFailed => "promotion-failed",
            Self::Finished => "finished",
        }
    }

    /// Whether something was decided, and not only done as it was decided before.
    pub fn is_decision(self) -> bool {
        match self {
            Self::StepStarted | Self::StepFinished | Self::HookFinished | Self::Verdict | Self::Undone => false,
            Self::Created
            | Self::Executed
            | Self::StepSkipped
            | Self::StepFailed
            | Self::Won
            | Self::Paused
            | Self::Resumed
            | Self::RollbackStarted
            | Self::UndoFailed
            | Self::VersionBad
            | Self::Recovered
            | Self::Promoted
            | Self::PromotionFailed
            | Self::Finished => true,
        }
    }
}

impl Happened {
    /// What kind of thing happened.
    pub fn kind(&self) -> HappenedKind {
        match self {
            Self::Created => HappenedKind::Created,
            Self::Executed => HappenedKind::Executed,
            Self::StepStarted { .. } => HappenedKind::StepStarted,
            Self::StepFinished { .. } => HappenedKind::StepFinished,
            Self::StepSkipped { .. } => HappenedKind::StepSkipped,
            Self::StepFailed { .. } => HappenedKind::StepFailed,
            Self::HookFinished { .. } => HappenedKind::HookFinished,
            Self::Verdict { .. } => HappenedKind::Verdict,
            Self::Won { .. } => HappenedKind::Won,
            Self::Paused { .. } => HappenedKind::Paused,
            Self::Resumed => HappenedKind::Resumed,
            Self::RollbackStarted { .. } => HappenedKind::RollbackStarted,
            Self::Undone { .. } => HappenedKind::Undone,
            Self::UndoFailed { .. } => HappenedKind::UndoFailed,
            Self::VersionBad { .. } => HappenedKind::VersionBad,
            Self::Recovered { .. } => HappenedKind::Recovered,
            Self::Promoted { .. } => HappenedKind::Promoted,
            Self::PromotionFailed { .. } => HappenedKind::PromotionFailed,
            Self::Finished { .. } => HappenedKind::Finished,
        }
    }
}

/// In one line for people; never what a command printed, which may be secret.
impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |at: &usize| at + 1;
        match self {
            Self::Created => write!(f, "created"),
            Self::Executed => write!(f, "begun"),
            Self::StepStarted { at, step, .. } => write!(f, "step {} ({step}) begins", number(at)),
            Self::StepFinished { at, step, .. } => write!(f, "step {} ({step}) is done", number(at)),
            Self::StepSkipped { at, step } => write!(f, "step {} ({step}) is passed over", number(at)),
            Self::StepFailed { at, step, why, .. } => {
                write!(f, "step {} ({step}) failed: {}", number(at), why.message)
            }
            Self::HookFinished { role, service, target, program, report } => {
                write!(f, "{} {program} of {target} of service {service} ended: {}", role.name(), report.end)
            }
            Self::Verdict { service, judged } => {
                let word = match judged.verdict {
                    Verdict::Running => "running",
                    Verdict::Fail => "fail",
                    Verdict::Pass => "pass",
                    Verdict::Inconclusive => "inconclusive",
                    Verdict::InsufficientData => "insufficient data",
                };
                write!(f, "analysis of service {service}: {word}: {}", judged.reason)
            }
            Self::Won { target } => write!(f, "{target} is the winner"),
            Self::Paused { reason } => write!(f, "paused: {reason}"),
            Self::Resumed => write!(f, "goes on"),
            Self::RollbackStarted { why } => write!(f, "is rolled back: {}", why.message),
            Self::Undone { step } => write!(f, "taken back: {step}"),
            Self::UndoFailed { step, reason } => write!(f, "could not be taken back: {step}: {reason}"),
            Self::VersionBad { service, version, why } => {
                write!(f, "version {version} of service {service} is marked as bad: {why}")
            }
            Self::Recovered { how } => write!(f, "after a restart: {how}"),
            Self::Promoted { stage, deployment } => write!(f, "promoted to stage {stage} by deployment {deployment}"),
            Self::PromotionFailed { stage, reason } => write!(f, "not promoted to stage {stage}: {reason}"),
            Self::Finished { outcome, why: Some(why) } => write!(f, "{outcome}: {}", why.message),
            Self::Finished { outcome, why: None } => write!(f, "{outcome}"),
        }
    }
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
