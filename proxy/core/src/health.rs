//! The health of an endpoint: a total state machine over probes and passive signs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is known of an endpoint, as requests see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No verdict yet: not used.
    #[default]
    Unknown,
    /// Used.
    Healthy,
    /// Passive signs speak against it: used when nothing else is there, and probed at once.
    Suspect,
    /// Not used.
    Unhealthy,
}

/// How many verdicts in a row move an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures in a row that take it out, at least 1.
    pub fall: u32,
    /// Successes in a row that bring it back, at least 1.
    pub rise: u32,
}

/// What was seen of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// A probe passed.
    ProbePassed,
    /// A probe failed.
    ProbeFailed,
    /// A request could not connect, or was cut off before its answer.
    ConnectFailed,
    /// Requests were answered with a streak of 5xx.
    ServerErrors,
}

/// An endpoint's machine: its health and the run of verdicts towards the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Machine {
    /// What requests see.
    pub health: Health,
    /// Failures in a row.
    pub failures: u32,
    /// Successes in a row.
    pub successes: u32,
    /// Moment (monotonic) until which successes do not clear a suspicion by 5xx.
    pub suspect_until: Option<Duration>,
}
