//! A deployment in the words of those who watch it: a status, a progress, an exit code.

use serde::Serialize;

use super::{
    history::Happened,
    machine::{Deployment, State},
};

/// The status that clients of Hivemind know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits to be executed.
    Pending,
    /// It is being carried out, waits for a decision, or is being taken back.
    InProgress,
    /// It succeeded.
    Completed,
    /// It did not.
    Failed,
}

/// A deployment at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Glance {
    /// The status that clients of Hivemind know.
    pub status: Status,
    /// The state in our own words.
    pub state: &'static str,
    /// How much of it is done, in percent; 100 only after success.
    pub progress: u8,
    /// What it does or did last.
    pub details: String,
    /// When it was created.
    pub created_unix_ms: u64,
    /// When it last changed.
    pub updated_unix_ms: u64,
    /// Whether it is over.
    pub completed: bool,
    /// Whether it succeeded.
    pub successful: bool,
}

/// A deployment at a glance.
pub fn glance(d: &Deployment) -> Glance {
    let status = status(&d.state);
    Glance {
        status,
        state: state_name(&d.state),
        progress: progress(d),
        details: details(d),
        created_unix_ms: d.created_unix_ms,
        updated_unix_ms: d.updated_unix_ms,
        completed: matches!(status, Status::Completed | Status::Failed),
        successful: status == Status::Completed,
    }
}

/// The status that clients of Hivemind know.
pub fn status(state: &State) -> Status {
    match state {
        State::Pending => Status::Pending,
        State::Running { .. } | State::Paused { .. } | State::RollingBack { .. } => Status::InProgress,
        State::Succeeded => Status::Completed,
        State::RolledBack { .. } | State::Failed { .. } | State::Cancelled => Status::Failed,
    }
}

/// The state in our own words.
pub fn state_name(state: &State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Running { .. } => "running",
        State::Paused { .. } => "paused",
        State::RollingBack { .. } => "rolling-back",
        State::RolledBack { .. } => "rolled-back",
        State::Failed { .. } => "failed",
        State::Succeeded => "succeeded",
        State::Cancelled => "cancelled",
    }
}

/// What a program that waits for a deployment exits with; `None`: it waits on.
pub fn exit_code(state: &State) -> Option<u8> {
    match state {
        State::Succeeded => Some(0),
        State::RolledBack { .. } => Some(1),
        State::Failed { .. } | State::Cancelled => Some(2),
        State::Paused { .. } => Some(3),
        State::Pending | State::Running { .. } | State::RollingBack { .. } => None,
    }
}

/// How much of it is done, in percent: 100 only after success.
pub fn progress(d: &Deployment) -> u8 {
    let at = match &d.state {
        State::Succeeded => return 100,
        State::Pending | State::Cancelled => return 0,
        State::Running { at, .. } | State::Paused { at, .. } => *at,
        // As far as it had come.
        State::RollingBack { .. } | State::RolledBack { .. } | State::Failed { .. } => {
            let started = d.history.iter().filter_map(|entry| match entry.what {
                Happened::StepStarted { at, .. } => Some(at),
                _ => None,
            });
            started.max().unwrap_or(0)
        }
    };
    let total = d.plan.steps.len().max(1);
    u8::try_from(100 * at.min(total) / total).unwrap_or(99).min(99)
}

fn details(d: &Deployment) -> String {
    let step = |at: usize| d.plan.steps.get(at).map_or("the end", |plan| plan.step.name());
    let of = |at: usize| format!("step {} of {}: {}", at + 1, d.plan.steps.len(), step(at));
    match &d.state {
        State::Pending if d.queued => "waits for the deployment that it supersedes".into(),
        State::Pending => "waits to be executed".into(),
        State::Running { at, .. } if d.standing.pausing => format!("{}; pauses after it", of(*at)),
        State::Running { at, .. } => of(*at),
        State::Paused { at, reason, .. } => format!("{}; {reason}", of(*at)),
        State::RollingBack { why, .. } => {
            let undo = d.undo.last().map_or("the end", |undo| undo.name());
            format!("rolling back ({undo}): {}", why.message)
        }
        State::RolledBack { why } => format!("rolled back: {}", why.message),
        State::Failed { why, troubles } if troubles.is_empty() => format!("failed: {}", why.message),
        State::Failed { why, troubles } => {
            format!("failed: {}; could not be taken back: {}", why.message, troubles.join("; "))
        }
        State::Succeeded => "succeeded".into(),
        State::Cancelled => "cancelled".into(),
    }
}
