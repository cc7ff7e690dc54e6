//! The watch over one candidate: guard from its first request to its last, and gate at the end of each window.
//!
//! The evidence runs on from window to window: ticks are strata, so changed weights between them do no harm, and the
//! rate of false alarms holds for the whole deployment, however many windows it has. Time and traffic are counted anew
//! in each window.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    evidence::{Evidence, Factor, Grid, finite_exp, ln_weighted_mean},
    rules::{Against, Gate, Metric, Rules, millis, tenths},
    verdict::{Judgement, MetricJudgement, Reached, Verdict},
};

/// Something for each of the two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arms<T> {
    /// The target that is to prove itself.
    pub candidate: T,
    /// The one that it is compared with: the stable target, or a fresh copy of it.
    pub baseline: T,
}

/// Events, and what they are out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Requests that ended in the tick, or visitors at risk; for counts by a known share, the events of both arms.
    pub of: u64,
    /// Those of them that are events.
    pub events: u64,
}

impl Sample {
    fn add(&mut self, other: Self) {
        self.of = self.of.saturating_add(other.of);
        self.events = self.events.saturating_add(other.events);
    }
}

/// What a metric counted in a tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Counts {
    /// Both arms, by the requests that ended in this tick, or by the visitors that were at risk in it. The share is the
    /// realised one, so both numbers must be read together.
    Compared(Arms<Sample>),
    /// Events of each arm, where each event falls on the candidate with a known chance: visitors by the weights
    /// within the pair, mirrored requests where exactly one copy failed by ½.
    ByShare {
        /// The chance, 0 to 1.
        share: f64,
        /// Events.
        events: Arms<u64>,
    },
    /// The candidate alone, for a metric against a limit.
    Alone(Sample),
    /// It could not be read. That is evidence of nothing.
    Unreadable,
}

/// What happened in some seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// How long it was. Downtime of the proxy is in no tick, so it does not count as watched.
    pub length: Duration,
    /// Whether weights changed in it. Slow answers still carry the old share then, so the tick counts only as time.
    pub spans_weight_change: bool,
    /// Requests that ended, or new visitors; the baseline's are ignored where nothing is compared with one.
    pub requests: Arms<u64>,
    /// Counts of each metric, in the order of the rules. Missing ones are unreadable.
    pub metrics: Vec<Counts>,
}

/// The watch over one candidate. Serialisable as a whole: a restart goes on from the last checkpoint, and the gap does
/// no harm (a tick that is left out is a factor of 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    rules: Rules,
    metrics: Vec<Watched>,
    ticks: u64,
    ticks_discarded: u64,
    window: Option<Window>,
    failed: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Watched {
    worse: Evidence,
    not_inferior: Option<NotInferior>,
    candidate: Sample,
    baseline: Sample,
    odds: MantelHaenszel,
    ticks_unreadable: u64,
    /// Ticks of this window in which it could be read.
    read_in_window: u64,
}

/// The largest evidence that was reached counts: Ville's inequality is about the supremum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NotInferior {
    evidence: Evidence,
    ln_largest: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct MantelHaenszel {
    candidate_worse: f64,
    baseline_worse: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    needed: Duration,
    elapsed: Duration,
    requests: Arms<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Failed {
    tick: u64,
    ln_evidence: f64,
    metric: usize,
}

impl Analysis {
    /// A watch that has seen nothing yet. It guards at once; a window makes it a gate.
    pub fn new(rules: Rules) -> Self {
        let watched = |_| Watched {
            worse: Evidence::new(Grid::Regression),
            not_inferior: match rules.gate {
                Gate::NoFailure => None,
                Gate::NonInferior { .. } => {
                    Some(NotInferior { evidence: Evidence::new(Grid::Regression), ln_largest: 0.0 })
                }
            },
            candidate: Sample::default(),
            baseline: Sample::default(),
            odds: MantelHaenszel::default(),
            ticks_unreadable: 0,
            read_in_window: 0,
        };
        let metrics = rules.metrics.iter().map(watched).collect();
        Self { rules, metrics, ticks: 0, ticks_discarded: 0, window: None, failed: None }
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Begins a window: time and traffic count from here. The evidence goes on.
    pub fn open_window(&mut self, needed: Duration) {
        self.window = Some(Window { needed, ..Window::default() });
        self.metrics.iter_mut().for_each(|metric| metric.read_in_window = 0);
    }

    /// Ends the window, so that only the guard is left.
    pub fn close_window(&mut self) {
        self.window = None;
    }

    /// Makes the open window longer.
    pub fn extend(&mut self, by: Duration) {
        if let Some(window) = &mut self.window {
            window.needed = window.needed.saturating_add(by);
        }
    }

    /// Takes in what happened in a tick, and says what is known now.
    pub fn feed(&mut self, tick: &Tick) -> Judgement {
        self.take_in(tick);
        self.judge()
    }

    fn take_in(&mut self, tick: &Tick) {
        if let Some(window) = &mut self.window {
            window.elapsed = window.elapsed.saturating_add(tick.length);
        }
        if tick.spans_weight_change {
            self.ticks_discarded = self.ticks_discarded.saturating_add(1);
        } else {
            self.count(tick);
        }
    }

    fn count(&mut self, tick: &Tick) {
        self.ticks = self.ticks.saturating_add(1);
        if let Some(Window { requests, .. }) = &mut self.window {
            requests.candidate = requests.candidate.saturating_add(tick.requests.candidate);
            requests.baseline = requests.baseline.saturating_add(tick.requests.baseline);
        }
        let counts = tick.metrics.iter().copied().chain(std::iter::repeat(Counts::Unreadable));
        for ((watched, metric), counts) in self.metrics.iter_mut().zip(&self.rules.metrics).zip(counts) {
            watched.count(metric, counts, &self.rules);
        }
        let ln_evidence = self.ln_evidence();
        if self.failed.is_none() && ln_evidence >= self.rules.alpha.threshold().ln() {
            let worst = |(index, watched): (usize, &Watched)| (index, watched.worse.ln_value());
            let worst = self.metrics.iter().enumerate().map(worst).max_by(|(_, a), (_, b)| a.total_cmp(b));
            self.failed = worst.map(|(metric, _)| Failed { tick: self.ticks, ln_evidence, metric });
        }
    }

    fn ln_evidence(&self) -> f64 {
        let weights = self.rules.weights.iter().copied().chain(std::iter::repeat(1.0));
        let each: Vec<(f64, f64)> =
            self.metrics.iter().zip(weights).map(|(watched, weight)| (weight, watched.worse.ln_value())).collect();
        ln_weighted_mean(&each)
    }

    /// What is known now.
    pub fn judge(&self) -> Judgement {
        let metrics: Vec<MetricJudgement> =
            self.metrics.iter().zip(&self.rules.metrics).map(|(watched, metric)| self.of(watched, metric)).collect();
        let (verdict, reason) = self.verdict(&metrics);
        let window = self.window.clone().unwrap_or_default();
        Judgement {
            verdict,
            reason,
            evidence: finite_exp(self.ln_evidence()),
            threshold: self.rules.alpha.threshold(),
            max_odds: self.rules.max_odds.ratio(),
            requests: window.requests,
            min_requests: self.rules.min_requests,
            elapsed_ms: millis(window.elapsed),
            needed_ms: self.window.as_ref().map(|window| millis(window.needed)),
            ticks: self.ticks,
            ticks_discarded: self.ticks_discarded,
            metrics,
        }
    }

    fn of(&self, watched: &Watched, metric: &Metric) -> MetricJudgement {
        let not_inferior = match (&watched.not_inferior, self.rules.gate) {
            (Some(shown), Gate::NonInferior { alpha, .. }) => {
                Some(Reached { evidence: finite_exp(shown.ln_largest), threshold: alpha.threshold() })
            }
            (None, _) | (_, Gate::NoFailure) => None,
        };
        MetricJudgement {
            name: metric.name.clone(),
            evidence: finite_exp(watched.worse.ln_value()),
            not_inferior,
            candidate: watched.candidate,
            baseline: (metric.against == Against::Baseline).then_some(watched.baseline),
            odds: watched.odds.ratio(),
            ticks_unreadable: watched.ticks_unreadable,
        }
    }

    fn verdict(&self, metrics: &[MetricJudgement]) -> (Verdict, String) {
        let threshold = self.rules.alpha.threshold();
        if let Some(Failed { tick, ln_evidence, metric }) = &self.failed {
            let evidence = finite_exp(*ln_evidence);
            let worst = metrics
                .get(*metric)
                .map(|metric| format!("; {}: {}", metric.name, metric.sentence()))
                .unwrap_or_default();
            let odds = self.rules.max_odds.ratio();
            let reason = format!(
                "worse than {odds} times the odds: evidence {evidence:.3e} reached {threshold} (1/alpha) at tick {tick}{worst}"
            );
            return (Verdict::Fail, reason);
        }
        let Some(window) = &self.window else {
            return (Verdict::Running, "on guard: no window is open".to_owned());
        };
        if window.elapsed < window.needed {
            let reason = format!("watched for {:?} of {:?}", tenths(window.elapsed), window.needed);
            return (Verdict::Running, reason);
        }
        self.verdict_at_the_end(window, metrics)
    }

    fn verdict_at_the_end(&self, window: &Window, metrics: &[MetricJudgement]) -> (Verdict, String) {
        let (requests, needed) = (window.requests, self.rules.min_requests);
        let few = |arm: &str, had: u64| {
            let reason = format!("the {arm} had {had} requests of the {needed} that are needed to say anything");
            (Verdict::InsufficientData, reason)
        };
        if requests.candidate < needed {
            return few("candidate", requests.candidate);
        }
        if self.rules.has_baseline() && requests.baseline < needed {
            return few("baseline", requests.baseline);
        }
        let unread = self.metrics.iter().zip(metrics).find(|(watched, _)| watched.read_in_window == 0);
        if let Some((_, metric)) = unread {
            return (Verdict::Inconclusive, format!("{} could not be read in this window", metric.name));
        }
        let not_shown = metrics.iter().find_map(|metric| {
            let reached = metric.not_inferior.filter(|reached| !reached.is_enough())?;
            let Reached { evidence, threshold } = reached;
            let sentence = metric.sentence();
            let name = &metric.name;
            Some(format!("{name} is not shown to be as good: evidence {evidence:.3} of {threshold}; {sentence}"))
        });
        if let Some(reason) = not_shown {
            return (Verdict::Inconclusive, reason);
        }
        let (evidence, threshold) = (finite_exp(self.ln_evidence()), self.rules.alpha.threshold());
        let elapsed = tenths(window.elapsed);
        let reason = format!("nothing bad was shown in {elapsed:?}: evidence {evidence:.3} of {threshold}");
        (Verdict::Pass, reason)
    }
}

impl Watched {
    fn count(&mut self, metric: &Metric, counts: Counts, rules: &Rules) {
        // A limit is already what is tolerated; against a baseline, the tolerance is an odds ratio.
        let (worse, better, null, within) = match (metric.against, counts) {
            (Against::Baseline, Counts::Compared(Arms { candidate, baseline })) => {
                self.candidate.add(candidate);
                self.baseline.add(baseline);
                self.odds.compare(candidate, baseline);
                let (worse, better) = factors_of_arms(candidate, baseline);
                (worse, better, rules.max_odds.ratio(), None)
            }
            (Against::Baseline, Counts::ByShare { share, events: Arms { candidate, baseline } }) => {
                let events_both = candidate.saturating_add(baseline);
                self.candidate.add(Sample { of: events_both, events: candidate });
                self.baseline.add(Sample { of: events_both, events: baseline });
                self.odds.add(candidate as f64 * (1.0 - share), baseline as f64 * share);
                let worse = Factor::Share { events: candidate, events_both, share };
                let better = Factor::Share { events: baseline, events_both, share: 1.0 - share };
                (worse, better, rules.max_odds.ratio(), None)
            }
            (Against::Limit(limit), Counts::Alone(Sample { of, events })) => {
                let limit = limit.rate();
                self.candidate.add(Sample { of, events });
                let good = of.saturating_sub(events);
                self.odds.add(events as f64 * (1.0 - limit), good as f64 * limit);
                let worse = Factor::Limit { events, requests: of, limit };
                let better = Factor::Limit { events: good, requests: of, limit: 1.0 - limit };
                (worse, better, 1.0, Some(1.0))
            }
            (Against::Baseline, Counts::Alone(_) | Counts::Unreadable)
            | (Against::Limit(_), Counts::Compared(_) | Counts::ByShare { .. } | Counts::Unreadable) => {
                self.ticks_unreadable = self.ticks_unreadable.saturating_add(1);
                return;
            }
        };
        self.read_in_window = self.read_in_window.saturating_add(1);
        self.worse.observe(worse, null);
        if let (Some(shown), Gate::NonInferior { within: odds, .. }) = (&mut self.not_inferior, rules.gate) {
            shown.evidence.observe(better, 1.0 / within.unwrap_or(odds.ratio()));
            shown.ln_largest = shown.ln_largest.max(shown.evidence.ln_value());
        }
    }
}

/// "The candidate is worse" in closed form, and "the baseline is worse", whose null is below 1, exactly.
fn factors_of_arms(candidate: Sample, baseline: Sample) -> (Factor, Factor) {
    let events_both = candidate.events.saturating_add(baseline.events);
    let requests_both = candidate.of.saturating_add(baseline.of);
    let worse = Factor::Closed { events: candidate.events, events_both, requests: candidate.of, requests_both };
    let better = Factor::Exact { events: baseline.events, events_both, requests: baseline.of, requests_both };
    (worse, better)
}

impl MantelHaenszel {
    fn compare(&mut self, candidate: Sample, baseline: Sample) {
        let both = candidate.of as f64 + baseline.of as f64;
        if both > 0.0 {
            let good = |sample: Sample| sample.of.saturating_sub(sample.events) as f64;
            let worse = candidate.events as f64 * good(baseline) / both;
            self.add(worse, baseline.events as f64 * good(candidate) / both);
        }
    }

    fn add(&mut self, candidate_worse: f64, baseline_worse: f64) {
        self.candidate_worse += candidate_worse;
        self.baseline_worse += baseline_worse;
    }

    fn ratio(self) -> Option<f64> {
        let ratio = self.candidate_worse / self.baseline_worse;
        ratio.is_finite().then_some(ratio)
    }
}

#[cfg(test)]
mod simulations;
#[cfg(test)]
mod tests;
