//! What an analysis is asked to hold a deployment to. Parsed: a value of these types can be tested against.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Rules that cannot be tested against.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RulesError {
    /// Alpha is not a usable rate.
    #[error("alpha {0} is not between 1e-9 and 0.5: it is the accepted rate of false alarms, as in 0.01")]
    Alpha(f64),
    /// Odds that are not odds to be tolerated.
    #[error("odds {0} are not between 1 and 100: 1 tolerates no difference, 1.5 tolerates half as much again")]
    Odds(f64),
    /// A limit that nothing or everything reaches.
    #[error("rate {0} is not between 0 and 1, both excluded, as in 0.01 for 1 %")]
    Rate(f64),
    /// A quantile that no request or every request is above.
    #[error("quantile {0} is not between 1 and 999 thousandths, as in 950 for p95")]
    Quantile(u16),
    /// Nothing to test.
    #[error("an analysis needs a metric")]
    NoMetric,
    /// Two metrics of one name.
    #[error("metric `{0}` is named twice")]
    MetricTwice(String),
    /// A contest of one, or of a crowd.
    #[error("a contest needs 2 to {most} targets, not {0}", most = super::contest::MOST_ENTRANTS)]
    Entrants(usize),
    /// A target against itself.
    #[error("target `{0}` takes part twice")]
    EntrantTwice(String),
    /// A target that nobody gets.
    #[error("target `{0}` has no weight, so it cannot take part in a contest")]
    NoWeight(String),
}

/// The accepted probability of a false alarm over the whole analysis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Alpha(f64);

impl Alpha {
    /// One false alarm in a hundred deployments that are as good as their baseline.
    pub const DEFAULT: Self = Self(0.01);
    /// For findings that only a person acts on: non-inferiority and contests.
    pub const LENIENT: Self = Self(0.05);

    /// `1/alpha`: what the evidence must reach.
    pub fn threshold(self) -> f64 {
        1.0 / self.0
    }
}

/// An odds ratio that is still tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Odds(f64);

impl Odds {
    /// So that drifts which are certain but tiny pass.
    pub const DEFAULT: Self = Self(1.5);
    /// What a gate of non-inferiority proves by default: less than twice the odds.
    pub const TWICE: Self = Self(2.0);

    /// The ratio, at least 1.
    pub fn ratio(self) -> f64 {
        self.0
    }
}

/// A rate of events that is still tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rate(f64);

impl Rate {
    /// Between 0 and 1.
    pub fn rate(self) -> f64 {
        self.0
    }
}

/// Each of these is a number within bounds, and comes from one.
macro_rules! bounded {
    ($type:ident, $error:ident, $value:ident => $possible:expr) => {
        impl TryFrom<f64> for $type {
            type Error = RulesError;

            fn try_from($value: f64) -> Result<Self, RulesError> {
                if $possible { Ok(Self($value)) } else { Err(RulesError::$error($value)) }
            }
        }

        impl From<$type> for f64 {
            fn from(value: $type) -> Self {
                value.0
            }
        }
    };
}

bounded!(Alpha, Alpha, alpha => (1e-9..=0.5).contains(&alpha));
bounded!(Odds, Odds, odds => (1.0..=100.0).contains(&odds));
bounded!(Rate, Rate, rate => rate > 0.0 && rate < 1.0);

/// Something that is counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name, as in reports: `errors`, `slower than p95`.
    pub name: String,
    /// What it is compared with.
    pub against: Against,
}

/// What a metric is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// The same metric on the baseline, in the same ticks. An outage that both share cancels.
    Baseline,
    /// A fixed rate: there is no baseline, because the candidate has all of the traffic.
    Limit(Rate),
}

/// What passing asks for, besides time and traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// That nothing bad was shown.
    NoFailure,
    /// That every metric was shown to be within these odds of its baseline or limit, at this alpha.
    ///
    /// Each metric must show it, and each at the whole alpha: together they cannot be shown falsely more often than
    /// the one that is truly inferior (intersection-union test, Berger 1982). An average would not do here.
    NonInferior {
        /// Odds to exclude.
        within: Odds,
        /// Accepted rate of passing falsely.
        alpha: Alpha,
    },
}

/// The rules of an [`Analysis`](super::Analysis).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RulesText", into = "RulesText")]
pub struct Rules {
    pub(super) metrics: Vec<Metric>,
    /// What each metric's evidence counts; metrics without a weight count 1.
    pub(super) weights: Vec<f64>,
    pub(super) alpha: Alpha,
    pub(super) max_odds: Odds,
    pub(super) min_requests: u64,
    pub(super) gate: Gate,
}

/// Requests per arm without which nothing is said to have passed.
pub const MIN_REQUESTS: u64 = 100;

impl Rules {
    /// Rules about these metrics, at the defaults.
    pub fn new(metrics: Vec<Metric>) -> Result<Self, RulesError> {
        if metrics.is_empty() {
            return Err(RulesError::NoMetric);
        }
        for (index, metric) in metrics.iter().enumerate() {
            if metrics.iter().take(index).any(|earlier| earlier.name == metric.name) {
                return Err(RulesError::MetricTwice(metric.name.clone()));
            }
        }
        let (alpha, max_odds) = (Alpha::DEFAULT, Odds::DEFAULT);
        Ok(Self { metrics, weights: Vec::new(), alpha, max_odds, min_requests: MIN_REQUESTS, gate: Gate::NoFailure })
    }

    /// With evidence that is averaged by these weights, in the order of the metrics: what is seldom needed then costs
    /// the others less. Fixed beforehand, any positive weights are as valid as equal ones.
    pub fn weights(self, weights: impl IntoIterator<Item = f64>) -> Self {
        let possible = |weight: &f64| *weight > 0.0 && weight.is_finite();
        Self {
            weights: weights.into_iter().map(|weight| Some(weight).filter(possible).unwrap_or(1.0)).collect(),
            ..self
        }
    }

    /// With this rate of false alarms.
    pub fn alpha(self, alpha: Alpha) -> Self {
        Self { alpha, ..self }
    }

    /// With this tolerance.
    pub fn max_odds(self, max_odds: Odds) -> Self {
        Self { max_odds, ..self }
    }

    /// With this many requests per arm and window before it may pass.
    pub fn min_requests(self, min_requests: u64) -> Self {
        Self { min_requests, ..self }
    }

    /// With this gate.
    pub fn gate(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// The metrics, in the order that ticks count them.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    pub(super) fn has_baseline(&self) -> bool {
        self.metrics.iter().any(|metric| metric.against == Against::Baseline)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesText {
    metrics: Vec<Metric>,
    #[serde(default)]
    weights: Vec<f64>,
    alpha: Alpha,
    max_odds: Odds,
    min_requests: u64,
    gate: Gate,
}

impl TryFrom<RulesText> for Rules {
    type Error = RulesError;

    fn try_from(text: RulesText) -> Result<Self, RulesError> {
        let RulesText { metrics, weights, alpha, max_odds, min_requests, gate } = text;
        Ok(Self::new(metrics)?.weights(weights).alpha(alpha).max_odds(max_odds).min_requests(min_requests).gate(gate))
    }
}

impl From<Rules> for RulesText {
    fn from(rules: Rules) -> Self {
        let Rules { metrics, weights, alpha, max_odds, min_requests, gate } = rules;
        Self { metrics, weights, alpha, max_odds, min_requests, gate }
    }
}

/// Milliseconds of a duration, for the wire.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time for people, in whole tenths of a second: a tick comes a little late, and nobody asks how late in nanoseconds.
pub(super) fn tenths(duration: Duration) -> Duration {
    Duration::from_millis(millis(duration) / 100 * 100)
}
