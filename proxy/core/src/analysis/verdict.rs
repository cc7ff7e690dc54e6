//! What an analysis says, with every number that led to it. Made to be written to a journal and shown to people.

use serde::{Deserialize, Serialize};

use super::watch::{Arms, Sample};

/// What an analysis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The candidate is worse than is tolerated. Once said, it stays said.
    Fail,
    /// The time is over, there was enough traffic, nothing bad was shown, and the gate is satisfied. Of a contest: one
    /// target beats all others.
    Pass,
    /// The time is over, and neither was shown.
    Inconclusive,
    /// The time is over, and an arm had too little traffic to say anything. Neither a success nor a failure.
    InsufficientData,
    /// The time is not over.
    Running,
}

/// A verdict about a candidate, and its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence with the numbers that decided.
    pub reason: String,
    /// The evidence that the candidate is worse, over all metrics: 1 at the start, and a failure from the threshold on.
    pub evidence: f64,
    /// `1/alpha`.
    pub threshold: f64,
    /// The tolerated odds ratio.
    pub max_odds: f64,
    /// Requests (or visitors) of each arm in this window.
    pub requests: Arms<u64>,
    /// What each arm needs in this window.
    pub min_requests: u64,
    /// How long this window has been watched.
    pub elapsed_ms: u64,
    /// How long it is to be watched; none: no window is open.
    pub needed_ms: Option<u64>,
    /// Ticks that counted, since the start.
    pub ticks: u64,
    /// Ticks that were left out because the weights changed in them, since the start.
    pub ticks_discarded: u64,
    /// Each metric.
    pub metrics: Vec<MetricJudgement>,
}

/// What is known of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricJudgement {
    /// Its name.
    pub name: String,
    /// The evidence that the candidate is worse.
    pub evidence: f64,
    /// The evidence that it is not inferior, where the gate asks, and what that must reach.
    pub not_inferior: Option<Reached>,
    /// The candidate's requests and events since the start.
    pub candidate: Sample,
    /// The baseline's, if it is compared with one.
    pub baseline: Option<Sample>,
    /// About how many times the odds of the baseline or limit the candidate has (Mantel & Haenszel 1959: ticks are
    /// strata, so a shared outage does not distort it). None if there is too little to say.
    pub odds: Option<f64>,
    /// Ticks in which it could not be read, since the start. They are evidence of nothing.
    pub ticks_unreadable: u64,
}

/// Evidence, and what it must reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// The largest evidence so far.
    pub evidence: f64,
    /// `1/alpha`.
    pub threshold: f64,
}

impl Reached {
    pub(super) fn is_enough(self) -> bool {
        self.evidence >= self.threshold
    }
}

impl MetricJudgement {
    /// `62 of 1250 (4.96 %) against 90 of 11250 (0.80 %), about 6.4 times the odds`.
    pub(super) fn sentence(&self) -> String {
        let against = match &self.baseline {
            Some(baseline) => format!("against {}", of(*baseline)),
            None => "against its limit".to_owned(),
        };
        let odds = self.odds.map_or(String::new(), |odds| format!(", about {odds:.1} times the odds"));
        format!("{} {against}{odds}", of(self.candidate))
    }
}

fn of(Sample { of, events }: Sample) -> String {
    match of {
        0 => "none".to_owned(),
        of => format!("{events} of {of} ({:.2} %)", 100.0 * events as f64 / of as f64),
    }
}
