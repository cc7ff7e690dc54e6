//! From readings of the counters to a verdict about the new version of one service.
//!
//! Three questions, each at its own alpha: is the new version worse than the old one, while both have traffic; does it
//! fail more than a limit, when it has all of the traffic; and in a test of variants, which one gets more visitors to
//! the goal. The first two are asked all the time, so that a bad version is found whatever the deployment does just
//! then; a window decides which of them must be answered at its end.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tidegate_config::TargetId;

use super::{
    lineup::Lineup,
    tally::{PairSample, Reading, Unit},
};
use crate::{
    analysis::{
        self, Against, Alpha, Analysis, Arms, Contest, ContestRules, ContestTick, Counts, Entrant, EntrantCount, Gate,
        Histogram, LatencyEvents, Metric, Odds, Quantile, Rate, Rules, Sample, Tick,
    },
    deploy::{
        machine::{Judged, Verdict},
        spec::{self, AnalyseSpec},
        step::AnalyseMode,
    },
};

/// A rate of errors that is always tolerated where nothing can be compared: one in a hundred.
const LEAST_LIMIT: f64 = 0.01;
/// What is tolerated where too little is known of the old version.
const UNKNOWN_LIMIT: f64 = 0.05;
/// Requests of the old version from which its rate of errors is known.
const KNOWN_FROM: u64 = 100;
/// Differences below this are of connections and schedulers, not of versions.
const NOTICEABLE: Duration = Duration::from_millis(5);

/// What the old version did before the watch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Past {
    /// Requests that ended.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

/// What happened since the last tick.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchTick<'a> {
    /// How long it was.
    pub length: Duration,
    /// Whether the traffic of the service was changed in it.
    pub changed: bool,
    /// The weights, in basis points.
    pub weights: &'a BTreeMap<TargetId, u16>,
    /// What was counted since the tally began, in the order of the lineup.
    pub readings: Vec<Reading>,
    /// Visitors in this tick, for each pair.
    pub pairs: Vec<PairSample>,
}

/// See the module. Serialisable as a whole: a restart goes on from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    lineup: Lineup,
    unit: Unit,
    alpha: f64,
    min_requests: u64,
    guards: Vec<Guard>,
    /// Against a limit; only where there is one candidate.
    alone: Option<Analysis>,
    contest: Option<Contest>,
    window: Option<Window>,
    /// Once the new version was found to be worse: why.
    failed: Option<Judged>,
    /// What earlier processes counted.
    before: Vec<Reading>,
    /// What had been counted at the last tick. A restart counts from zero.
    #[serde(skip)]
    last: Vec<Reading>,
    /// Whether a restart interrupted the window.
    #[serde(skip)]
    interrupted: bool,
}

/// A candidate against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Guard {
    candidate: usize,
    baseline: usize,
    analysis: Analysis,
    latency: LatencyEvents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    length: Duration,
    mode: AnalyseMode,
    question: Question,
}

/// What a window must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Question {
    Compared,
    Alone,
    Contest,
}

impl Judge {
    /// A judge who has seen nothing yet.
    pub fn new(lineup: Lineup, unit: Unit, spec: &AnalyseSpec, past: Past) -> Self {
        let pairs: Vec<_> = lineup.pairs().collect();
        let guard = |&(candidate, baseline): &(usize, usize)| {
            let rules = compared(spec, pairs.len())?;
            let latency = match spec.gate {
                spec::Gate::NoHarm => LatencyEvents::noticeable(Quantile::P95, NOTICEABLE),
                // To be shown as good, a candidate must have had the chance to be worse.
                spec::Gate::NonInferior => LatencyEvents::new(Quantile::P95),
            };
            Some(Guard { candidate, baseline, analysis: Analysis::new(rules), latency })
        };
        let alone = (lineup.candidates().len() == 1).then(|| alone(spec, past)).flatten().map(Analysis::new);
        Self {
            guards: pairs.iter().filter_map(guard).collect(),
            before: vec![Reading::default(); lineup.targets().len()],
            last: vec![Reading::default(); lineup.targets().len()],
            lineup,
            unit,
            alpha: spec.alpha,
            min_requests: spec.min_requests,
            alone,
            contest: None,
            window: None,
            failed: None,
            interrupted: false,
        }
    }

    /// The same judge after a restart: what is counted begins at zero again, and an open window waits to be taken up.
    #[must_use]
    pub fn restarted(mut self) -> Self {
        let nothing = vec![Reading::default(); self.lineup.targets().len()];
        self.before.resize_with(nothing.len(), Reading::default);
        self.interrupted = self.window.is_some();
        Self { last: nothing, ..self }
    }

    /// The judge as a restart is to find it: what was counted so far is of an earlier process then. Of the present tick,
    /// only the numbers are kept: evidence of half a tick is none.
    #[must_use]
    pub fn checkpoint(&self, readings: &[Reading]) -> Self {
        Self { before: self.total(readings), ..self.clone() }
    }

    /// Who is judged.
    pub fn lineup(&self) -> &Lineup {
        &self.lineup
    }

    /// What it counts.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// What was counted, with what earlier processes counted.
    pub fn total(&self, readings: &[Reading]) -> Vec<Reading> {
        let mut total = self.before.clone();
        total.iter_mut().zip(readings).for_each(|(total, reading)| total.add(reading));
        total
    }

    /// From when on requests of each pair are slow now, in microseconds.
    pub fn slow_from_us(&self) -> impl Iterator<Item = Option<u64>> {
        self.guards.iter().map(|guard| guard.latency.slow_from_us())
    }

    /// How much time the open window still needs.
    pub fn left(&self) -> Option<Duration> {
        let window = self.window?;
        let (elapsed_ms, needed_ms) = match window.question {
            Question::Contest => {
                let judgement = self.contest.as_ref()?.judge();
                (judgement.elapsed_ms, judgement.needed_ms)
            }
            Question::Compared | Question::Alone => {
                let judgement = self.analysis(window.question)?.judge();
                (judgement.elapsed_ms, judgement.needed_ms.unwrap_or_default())
            }
        };
        Some(Duration::from_millis(needed_ms.saturating_sub(elapsed_ms)))
    }

    /// The length of the open window.
    pub fn window(&self) -> Option<Duration> {
        self.window.map(|window| window.length)
    }

    /// Opens a window. Whoever opens one after the new version was found to be worse has overruled that: it is judged
    /// anew. A window that a restart interrupted goes on.
    pub fn open_window(&mut self, length: Duration, mode: AnalyseMode, weights: &BTreeMap<TargetId, u16>) {
        let same = self.window.is_some_and(|window| window.length == length && window.mode == mode);
        if std::mem::take(&mut self.interrupted) && same && self.failed.is_none() {
            return;
        }
        if self.failed.take().is_some() {
            self.forget();
        }
        let question = match mode {
            AnalyseMode::Contest => Question::Contest,
            AnalyseMode::Gate | AnalyseMode::Watch if self.has_everything(weights) => Question::Alone,
            AnalyseMode::Gate | AnalyseMode::Watch => Question::Compared,
        };
        match question {
            Question::Contest => self.open_contest(length, weights),
            Question::Compared | Question::Alone => {
                self.analyses().for_each(|analysis| analysis.open_window(length));
            }
        }
        self.last.iter_mut().for_each(|last| last.in_window = 0);
        self.window = Some(Window { length, mode, question });
    }

    fn open_contest(&mut self, length: Duration, weights: &BTreeMap<TargetId, u16>) {
        if let Some(contest) = &mut self.contest {
            return contest.extend(length);
        }
        let entrants = self.entrants(weights);
        // Without it, the window ends at once and says why.
        self.contest = ContestRules::new(entrants, length).ok().map(|rules| {
            let alpha = Alpha::try_from(self.alpha).unwrap_or(Alpha::LENIENT);
            Contest::new(rules.alpha(alpha).min_visitors(self.min_requests))
        });
    }

    fn entrants(&self, weights: &BTreeMap<TargetId, u16>) -> Vec<Entrant> {
        let weight = |target: &TargetId| weights.get(target).copied().unwrap_or_default();
        let entrant = |target: &TargetId| Entrant { target: target.to_string(), weight: weight(target) };
        self.lineup.candidates().iter().map(entrant).collect()
    }

    fn forget(&mut self) {
        for analysis in self.analyses() {
            *analysis = Analysis::new(analysis.rules().clone());
        }
    }

    fn analyses(&mut self) -> impl Iterator<Item = &mut Analysis> {
        self.guards.iter_mut().map(|guard| &mut guard.analysis).chain(&mut self.alone)
    }

    fn analysis(&self, question: Question) -> Option<&Analysis> {
        let compared = || self.guards.first().map(|guard| &guard.analysis);
        match question {
            Question::Alone => self.alone.as_ref().or_else(compared),
            Question::Compared | Question::Contest => compared(),
        }
    }

    /// Whether the candidate has traffic and the baseline has none, so that nothing can be compared.
    fn has_everything(&self, weights: &BTreeMap<TargetId, u16>) -> bool {
        let weight = |at: usize| self.lineup.targets().get(at).and_then(|target| weights.get(target)).copied();
        self.alone.is_some()
            && self.guards.iter().all(|guard| {
                weight(guard.candidate).is_some_and(|weight| weight > 0)
                    && weight(guard.baseline).is_none_or(|weight| weight == 0)
            })
    }

    /// Whether a tick that ended with these numbers of requests would say anything. Who sees nothing waits a little: a
    /// tick in which one arm had no request would lose the other's events.
    pub fn is_informative(&self, requests: &[u64], weights: &BTreeMap<TargetId, u16>) -> bool {
        let new = |at: usize| {
            let now = requests.get(at).copied().unwrap_or_default();
            self.last.get(at).is_some_and(|last| now > last.by_split.requests)
        };
        let alone = self.has_everything(weights);
        self.guards.iter().all(|guard| new(guard.candidate) && (alone || new(guard.baseline)))
    }

    /// Takes in what happened in a tick, and says what is known now. A verdict other than "running" ends the window.
    pub fn feed(&mut self, tick: WatchTick<'_>) -> Judged {
        let alone = self.has_everything(tick.weights);
        let new: Vec<Reading> = tick.readings.iter().zip(&self.last).map(|(now, last)| now.since(last)).collect();
        let nothing = Reading::default();
        let of = |at: usize| new.get(at).unwrap_or(&nothing);
        let unit = self.unit;
        for (at, guard) in self.guards.iter_mut().enumerate() {
            let pair = tick.pairs.get(at);
            let arms = Arms { candidate: of(guard.candidate), baseline: of(guard.baseline) };
            guard.feed(arms, pair, unit, &tick);
        }
        if let (Some(analysis), Some(guard)) = (&mut self.alone, self.guards.first()) {
            let counted = of(guard.candidate).all();
            let counts = Counts::Alone(Sample { of: counted.requests, events: counted.errors });
            let requests = Arms { candidate: if alone { counted.requests } else { 0 }, baseline: 0 };
            let metrics = vec![if alone { counts } else { Counts::Unreadable }];
            analysis.feed(&Tick { length: tick.length, spans_weight_change: tick.changed, requests, metrics });
        }
        self.feed_contest(&new, &tick);
        self.last = tick.readings;
        let question = if alone { Question::Alone } else { Question::Compared };
        self.conclude(self.window.map_or(question, |window| window.question))
    }

    fn feed_contest(&mut self, new: &[Reading], tick: &WatchTick<'_>) {
        let entrants = self.entrants(tick.weights);
        let is_open = self.window.is_some_and(|window| window.question == Question::Contest);
        let Some(contest) = self.contest.as_mut().filter(|_| is_open) else { return };
        let count = |reading: &Reading| EntrantCount {
            new_visitors: match self.unit {
                Unit::Visitors => reading.new_visitors,
                Unit::Requests => reading.by_split.requests,
            },
            conversions: reading.conversions,
        };
        // Its shares are those of the beginning: with others, visitors fall as it does not expect.
        let changed = tick.changed || contest.rules().entrants() != entrants;
        let counts = new.iter().take(entrants.len()).map(count).collect();
        contest.feed(&ContestTick { length: tick.length, spans_weight_change: changed, counts });
    }

    fn conclude(&mut self, question: Question) -> Judged {
        if let Some(failed) = &self.failed {
            return failed.clone();
        }
        let guards = self.guards.iter().map(|guard| &guard.analysis).chain(&self.alone);
        let failed = guards.map(Analysis::judge).find(|judgement| judgement.verdict == analysis::Verdict::Fail);
        let judged = match (failed, question) {
            (Some(judgement), _) => self.of_analysis(judgement),
            (None, Question::Contest) => self.of_contest(),
            (None, Question::Compared | Question::Alone) => match self.analysis(question) {
                Some(analysis) => self.of_analysis(analysis.judge()),
                None => nothing_to_judge("there is nothing to compare the new version with"),
            },
        };
        if judged.verdict == Verdict::Fail {
            self.failed = Some(judged.clone());
        }
        if judged.verdict != Verdict::Running {
            self.window = None;
            self.analyses().for_each(Analysis::close_window);
        }
        judged
    }

    fn of_analysis(&self, judgement: analysis::Judgement) -> Judged {
        let since_start = judgement.metrics.first().map(|errors| {
            let baseline = errors.baseline.map_or(0, |baseline| baseline.of);
            (errors.candidate.of, baseline)
        });
        let in_window = (judgement.requests.candidate, judgement.requests.baseline);
        let reason = match self.unit {
            Unit::Visitors => judgement.reason.replace(" requests of the ", " visitors of the "),
            Unit::Requests => judgement.reason,
        };
        Judged {
            verdict: verdict(judgement.verdict),
            winner: None,
            reason,
            evidence: judgement.evidence,
            threshold: judgement.threshold,
            samples: judgement.needed_ms.map(|_| in_window).or(since_start).unwrap_or_default(),
        }
    }

    fn of_contest(&self) -> Judged {
        let Some(contest) = &self.contest else {
            return nothing_to_judge("no test of variants runs: each needs a weight");
        };
        let judgement = contest.judge();
        let leader = judgement.pairs.iter().max_by(|a, b| a.evidence.total_cmp(&b.evidence));
        let visitors = |target: &str| {
            let mut entrants = judgement.entrants.iter();
            entrants.find(|entrant| entrant.target == target).map_or(0, |entrant| entrant.visitors)
        };
        Judged {
            verdict: verdict(judgement.verdict),
            winner: judgement.winner.as_deref().and_then(|winner| TargetId::parse(winner).ok()),
            evidence: leader.map_or(1.0, |pair| pair.evidence),
            samples: leader.map_or((0, 0), |pair| (visitors(&pair.better), visitors(&pair.worse))),
            threshold: judgement.threshold,
            reason: std::iter::once(judgement.reason.as_str())
                .chain(judgement.warnings.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join("; "),
        }
    }
}

impl Guard {
    fn feed(&mut self, arms: Arms<&Reading>, pair: Option<&PairSample>, unit: Unit, tick: &WatchTick<'_>) {
        let durations = |reading: &Reading| reading.by_split.durations.clone();
        let (candidate, baseline): (Histogram, Histogram) = (durations(arms.candidate), durations(arms.baseline));
        let slow = match (self.latency.end_tick(&candidate, &baseline), unit) {
            // Nobody is slow before it is known what that is. It is no evidence, and no reason to doubt the errors.
            (Counts::Unreadable, _) => Counts::Compared(Arms::default()),
            (counts, Unit::Requests) => counts,
            (_, Unit::Visitors) => Counts::Compared(pair.map(|pair| pair.slow).unwrap_or_default()),
        };
        let sample = |reading: &Reading| Sample { of: reading.by_split.requests, events: reading.by_split.errors };
        let (errors, requests) = match unit {
            Unit::Requests => (
                Arms { candidate: sample(arms.candidate), baseline: sample(arms.baseline) },
                Arms { candidate: arms.candidate.by_split.requests, baseline: arms.baseline.by_split.requests },
            ),
            Unit::Visitors => (
                pair.map(|pair| pair.errors).unwrap_or_default(),
                Arms { candidate: arms.candidate.in_window, baseline: arms.baseline.in_window },
            ),
        };
        let metrics = vec![Counts::Compared(errors), slow];
        self.analysis.feed(&Tick { length: tick.length, spans_weight_change: tick.changed, requests, metrics });
    }
}

/// The rules of one of several comparisons with the old version.
fn compared(spec: &AnalyseSpec, comparisons: usize) -> Option<Rules> {
    let metric = |name: &str| Metric { name: name.to_owned(), against: Against::Baseline };
    let rules = Rules::new(vec![metric("errors"), metric("slower than p95")]).ok()?;
    // Errors are what most new versions fail by.
    Some(ruled(rules.weights([0.9, 0.1]), spec, comparisons))
}

/// The rules for a new version that has everything.
fn alone(spec: &AnalyseSpec, past: Past) -> Option<Rules> {
    let metric = Metric { name: "errors".to_owned(), against: Against::Limit(limit(spec.max_odds, past)?) };
    Some(ruled(Rules::new(vec![metric]).ok()?, spec, 1))
}

fn ruled(rules: Rules, spec: &AnalyseSpec, comparisons: usize) -> Rules {
    // By the union bound, several guards together raise false alarms no more often than one. Those of a test of variants
    // end it by themselves, so they do not share its leniency.
    let alpha = if comparisons > 1 { spec.alpha.min(f64::from(Alpha::DEFAULT)) } else { spec.alpha };
    let alpha = Alpha::try_from(alpha / comparisons.max(1) as f64).unwrap_or(Alpha::DEFAULT);
    let gate = match spec.gate {
        spec::Gate::NoHarm => Gate::NoFailure,
        spec::Gate::NonInferior => Gate::NonInferior { within: Odds::TWICE, alpha: Alpha::LENIENT },
    };
    let odds = Odds::try_from(spec.max_odds).unwrap_or(Odds::DEFAULT);
    rules.alpha(alpha).max_odds(odds).min_requests(spec.min_requests).gate(gate)
}

/// The rate of errors that is tolerated of a new version that has everything: the old one's, at the tolerated odds.
fn limit(max_odds: f64, past: Past) -> Option<Rate> {
    let rate = if past.requests < KNOWN_FROM {
        UNKNOWN_LIMIT
    } else {
        // One error more than it had: a rate of zero is never known.
        let errors = past.errors.min(past.requests) as f64 + 1.0;
        let odds = max_odds * errors / (past.requests as f64 + 1.0 - past.errors.min(past.requests) as f64);
        (odds / (1.0 + odds)).max(LEAST_LIMIT)
    };
    Rate::try_from(rate).ok()
}

fn nothing_to_judge(why: &str) -> Judged {
    Judged {
        verdict: Verdict::InsufficientData,
        winner: None,
        reason: why.to_owned(),
        evidence: 1.0,
        threshold: 1.0,
        samples: (0, 0),
    }
}

fn verdict(verdict: analysis::Verdict) -> Verdict {
    match verdict {
        analysis::Verdict::Fail => Verdict::Fail,
        analysis::Verdict::Pass => Verdict::Pass,
        analysis::Verdict::Inconclusive => Verdict::Inconclusive,
        analysis::Verdict::InsufficientData => Verdict::InsufficientData,
        analysis::Verdict::Running => Verdict::Running,
    }
}

#[cfg(test)]
mod simulations;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_what_the_old_version_did_at_the_tolerated_odds() {
        let limit = |requests, errors| limit(1.5, Past { requests, errors }).unwrap().rate();
        assert!((limit(10_000, 199) - 0.0296).abs() < 0.001);
        // Odds, so that nothing is beyond every limit.
        assert!((limit(1_000, 500) - 0.6).abs() < 0.001);
        assert!(limit(1_000, 1_000) < 1.0);
        // Too good, or too little known.
        assert_eq!(limit(1_000_000, 0), LEAST_LIMIT);
        assert_eq!(limit(99, 99), UNKNOWN_LIMIT);
    }
}
