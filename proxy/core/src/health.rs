//! The health of an endpoint: a total state machine over probes and passive signs.
//!
//! Pure: what was seen, and when, are arguments; so is chance. Passive signs only ever speak against an endpoint; only
//! a probe speaks for it, because traffic that is sent elsewhere has nothing good to say.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_config::HealthPolicy;

/// Time between probes while a verdict is near (a first failure, a first success), unless the interval is shorter.
pub const NEAR_VERDICT: Duration = Duration::from_secs(1);

/// Time between probes of an endpoint that could not be reached: with `fall = 2`, requests know within a second. A
/// suspicion also lasts this long at least, so that an endpoint that refuses requests and passes probes costs four
/// snapshots a second and not one for each request.
pub const SUSPECT_PROBE: Duration = Duration::from_millis(250);

/// How long a streak of 5xx makes an endpoint the last choice even if it passes its probes: a probe of `/` says little
/// about the requests that failed, and without a hold the next streak would come at once. Short, since it only loses
/// its turn and is not taken out.
pub const ERRORS_HOLD: Duration = Duration::from_secs(10);

/// Without probes, failures in a row that take an endpoint out, so that a failover can act: as many as make a streak of
/// 5xx. Connections that fail are counted one by one here, since nothing else is there to judge by.
pub const PASSIVE_FALL: u32 = 5;

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

/// Who speaks about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    /// Probes all the time, beside passive signs.
    Active,
    /// Passive signs; a TCP connection is probed only while they speak against it.
    Passive,
}

/// The rules that a service's endpoints are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Who speaks.
    pub probing: Probing,
    /// How many verdicts in a row count.
    pub thresholds: Thresholds,
    /// Time between probes when nothing is going on.
    pub interval: Duration,
}

impl Rules {
    /// The rules of a service.
    pub fn of(policy: &HealthPolicy) -> Self {
        match policy {
            HealthPolicy::Active(check) => Self {
                probing: Probing::Active,
                thresholds: Thresholds { fall: check.fall, rise: check.rise },
                interval: check.interval,
            },
            // A connection that opens is all that can be asked without knowing the service: once is enough.
            HealthPolicy::Passive => Self {
                probing: Probing::Passive,
                thresholds: Thresholds { fall: PASSIVE_FALL, rise: 1 },
                interval: NEAR_VERDICT,
            },
        }
    }
}

/// Whether the service has an available endpoint beside the one in question, in any of its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// It has.
    Available,
    /// It has not: one success is enough to come back, and passive signs take nothing out.
    Nothing,
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
    /// Moment (monotonic) until which successes do not clear a suspicion; only while [`Health::Suspect`].
    pub suspect_until: Option<Duration>,
}

impl Machine {
    /// A machine for an endpoint of which this is known. Where nothing probes, an unknown endpoint is in use at once.
    pub fn new(known: Health, rules: &Rules) -> Self {
        let health = match (known, rules.probing) {
            (Health::Unknown, Probing::Passive) => Health::Healthy,
            (Health::Unknown, Probing::Active) => Health::Unknown,
            (Health::Healthy | Health::Suspect | Health::Unhealthy, _) => known,
        };
        Self { health, ..Self::default() }
    }

    /// The machine after an observation at `now` (monotonic).
    #[must_use]
    pub fn step(self, seen: Observation, rules: &Rules, elsewhere: Elsewhere, now: Duration) -> Self {
        match (self.health, seen) {
            // One pass is enough at the start: waiting for more would only delay the first request.
            (Health::Unknown | Health::Healthy, Observation::ProbePassed) => Self::healthy(),
            (Health::Suspect, Observation::ProbePassed) => {
                if self.suspect_until.is_some_and(|until| now < until) {
                    Self { failures: 0, ..self }
                } else {
                    Self::healthy()
                }
            }
            (Health::Unhealthy, Observation::ProbePassed) => self.succeed(rules, elsewhere),
            (Health::Unknown | Health::Healthy | Health::Suspect, Observation::ProbeFailed) => {
                self.fail(rules, elsewhere)
            }
            (Health::Unhealthy, Observation::ProbeFailed) => Self { successes: 0, ..self },
            (Health::Healthy, Observation::ConnectFailed) => {
                self.suspect(now.saturating_add(SUSPECT_PROBE)).fail_by_sign(rules, elsewhere)
            }
            (Health::Suspect, Observation::ConnectFailed) => {
                let suspect = self.suspect(now.saturating_add(SUSPECT_PROBE));
                // Many requests meet the same broken moment; where probes follow at once, those decide.
                if rules.probing == Probing::Active && self.failures > 0 {
                    return suspect;
                }
                suspect.fail_by_sign(rules, elsewhere)
            }
            (Health::Healthy | Health::Suspect, Observation::ServerErrors) => {
                self.suspect(now.saturating_add(ERRORS_HOLD))
            }
            // Signs about an endpoint that takes no requests are late.
            (Health::Unknown | Health::Unhealthy, Observation::ConnectFailed | Observation::ServerErrors) => self,
        }
    }

    /// Time until the next probe; `None`: until a passive sign asks for one. `draw` spreads the probes of many
    /// endpoints.
    ///
    /// The spread only shortens, by up to a tenth: a loss is to be known within the interval and one second.
    pub fn next_probe_in(self, rules: &Rules, elsewhere: Elsewhere, draw: u32) -> Option<Duration> {
        let near = rules.interval.min(NEAR_VERDICT);
        let wait = match self.health {
            Health::Unknown if self.failures == 0 => return Some(Duration::ZERO),
            Health::Unknown => near,
            Health::Healthy if self.failures > 0 => near,
            Health::Healthy => match rules.probing {
                Probing::Active => rules.interval,
                Probing::Passive => return None,
            },
            Health::Suspect if self.failures > 0 => rules.interval.min(SUSPECT_PROBE),
            Health::Suspect => near,
            Health::Unhealthy if self.successes > 0 || elsewhere == Elsewhere::Nothing => near,
            Health::Unhealthy => rules.interval,
        };
        let spread = (wait / 10).mul_f64(f64::from(draw) / f64::from(u32::MAX));
        Some(wait.saturating_sub(spread))
    }

    /// Whether this step asks for a probe at once, without waiting for the next.
    pub fn asks_for_probe(before: Self, after: Self) -> bool {
        before.health != Health::Suspect && after.health == Health::Suspect
    }

    fn healthy() -> Self {
        Self { health: Health::Healthy, ..Self::default() }
    }

    fn suspect(self, until: Duration) -> Self {
        Self { health: Health::Suspect, successes: 0, suspect_until: self.suspect_until.max(Some(until)), ..self }
    }

    fn fail_by_sign(self, rules: &Rules, elsewhere: Elsewhere) -> Self {
        match elsewhere {
            Elsewhere::Available => self.fail(rules, elsewhere),
            Elsewhere::Nothing => Self { failures: self.failures.saturating_add(1), ..self },
        }
    }

    fn fail(self, rules: &Rules, elsewhere: Elsewhere) -> Self {
        let failures = self.failures.saturating_add(1);
        let last_one = rules.probing == Probing::Passive && elsewhere == Elsewhere::Nothing;
        if failures >= rules.thresholds.fall && !last_one {
            return Self { health: Health::Unhealthy, ..Self::default() };
        }
        Self { failures, successes: 0, ..self }
    }

    fn succeed(self, rules: &Rules, elsewhere: Elsewhere) -> Self {
        let successes = self.successes.saturating_add(1);
        if successes >= rules.thresholds.rise || elsewhere == Elsewhere::Nothing {
            return Self::healthy();
        }
        Self { successes, failures: 0, ..self }
    }
}

#[cfg(test)]
mod tests;
