//! An A/B test: which of two or more targets gets more visitors to a goal?
//!
//! Every target bets against every other, in both directions, so K targets make K(K-1) bets. The threshold is
//! `K(K-1)/alpha`: by the union bound, no pair at all is decided falsely more often than `alpha`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    evidence::{Evidence, Factor, Grid, finite_exp},
    ratio::{SampleRatio, SampleRatioJudgement},
    rules::{Alpha, RulesError, millis, tenths},
    verdict::Verdict,
};

/// More targets than this cannot be told apart by the traffic of anybody, and cost K² bets.
pub(super) const MOST_ENTRANTS: usize = 16;

/// Below this, a week has not shown all of its days.
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Conversions of a target below which a result is likely to be a lucky one.
const FEW_CONVERSIONS: u64 = 100;

/// A target that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entrant {
    /// Its target.
    pub target: String,
    /// Its weight in the split. Weights stay as they are during a contest.
    pub weight: u16,
}

/// The rules of a [`Contest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RulesText", into = "RulesText")]
pub struct ContestRules {
    entrants: Vec<Entrant>,
    duration: Duration,
    alpha: Alpha,
    min_visitors: u64,
}

impl ContestRules {
    /// A contest of these targets for so long, at the defaults: alpha 0.05, and 100 visitors of each.
    pub fn new(entrants: Vec<Entrant>, duration: Duration) -> Result<Self, RulesError> {
        if !(2..=MOST_ENTRANTS).contains(&entrants.len()) {
            return Err(RulesError::Entrants(entrants.len()));
        }
        if let Some(without) = entrants.iter().find(|entrant| entrant.weight == 0) {
            return Err(RulesError::NoWeight(without.target.clone()));
        }
        for (index, entrant) in entrants.iter().enumerate() {
            if entrants.iter().take(index).any(|earlier| earlier.target == entrant.target) {
                return Err(RulesError::EntrantTwice(entrant.target.clone()));
            }
        }
        Ok(Self { entrants, duration, alpha: Alpha::LENIENT, min_visitors: super::rules::MIN_REQUESTS })
    }

    /// With this rate of false winners.
    pub fn alpha(self, alpha: Alpha) -> Self {
        Self { alpha, ..self }
    }

    /// With this many visitors per target below which nothing is said.
    pub fn min_visitors(self, min_visitors: u64) -> Self {
        Self { min_visitors, ..self }
    }

    /// Who takes part.
    pub fn entrants(&self) -> &[Entrant] {
        &self.entrants
    }

    fn threshold(&self) -> f64 {
        let targets = self.entrants.len() as f64;
        targets * (targets - 1.0) * self.alpha.threshold()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesText {
    entrants: Vec<Entrant>,
    duration: Duration,
    alpha: Alpha,
    min_visitors: u64,
}

impl TryFrom<RulesText> for ContestRules {
    type Error = RulesError;

    fn try_from(text: RulesText) -> Result<Self, RulesError> {
        let RulesText { entrants, duration, alpha, min_visitors } = text;
        Ok(Self::new(entrants, duration)?.alpha(alpha).min_visitors(min_visitors))
    }
}

impl From<ContestRules> for RulesText {
    fn from(rules: ContestRules) -> Self {
        let ContestRules { entrants, duration, alpha, min_visitors } = rules;
        Self { entrants, duration, alpha, min_visitors }
    }
}

/// What a target got in a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EntrantCount {
    /// Visitors that were new to the service.
    pub new_visitors: u64,
    /// Visitors that reached the goal for the first time. A conversion counts in the tick in which it is reported, for
    /// the target that the visitor belongs to.
    pub conversions: u64,
}

/// What happened in some seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct ContestTick {
    /// How long it was.
    pub length: Duration,
    /// Whether the weights changed in it: then it counts only as time.
    pub spans_weight_change: bool,
    /// Of each target, in the order of the rules.
    pub counts: Vec<EntrantCount>,
}

/// A contest. Serialisable as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contest {
    rules: ContestRules,
    conversions: Vec<u64>,
    pairs: Vec<Pair>,
    sample_ratio: SampleRatio,
    elapsed: Duration,
    ticks_discarded: u64,
}

/// One target against another, by index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair {
    better: usize,
    worse: usize,
    share: f64,
    evidence: Evidence,
    /// Once reached, it stays reached (Ville's inequality is about the supremum).
    ln_largest: f64,
}

/// What is known of a contest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContestJudgement {
    /// [`Verdict::Pass`] if there is a winner, which may be before the time is over, and needs no minimum of visitors:
    /// the evidence is the measure. Never a failure.
    pub verdict: Verdict,
    /// The target that beats all others.
    pub winner: Option<String>,
    /// One sentence with the numbers that decided.
    pub reason: String,
    /// `K(K-1)/alpha`: what the evidence of a pair must reach.
    pub threshold: f64,
    /// Evidence of each pair.
    pub pairs: Vec<PairJudgement>,
    /// Each target, in the order of the rules.
    pub entrants: Vec<EntrantJudgement>,
    /// Whether visitors arrive in the proportion of the weights.
    pub sample_ratio: SampleRatioJudgement,
    /// How long it has run.
    pub elapsed_ms: u64,
    /// How long it is to run.
    pub needed_ms: u64,
    /// Ticks that were left out because the weights changed in them.
    pub ticks_discarded: u64,
    /// What a careful reader would want to be told.
    pub warnings: Vec<String>,
}

/// The evidence that one target gets more conversions than another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairJudgement {
    /// The target.
    pub better: String,
    /// The other.
    pub worse: String,
    /// The largest evidence so far.
    pub evidence: f64,
}

/// What is known of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntrantJudgement {
    /// The target.
    pub target: String,
    /// Its weight.
    pub weight: u16,
    /// Its visitors.
    pub visitors: u64,
    /// Those that reached the goal.
    pub conversions: u64,
}

impl Contest {
    /// A contest that has seen nothing yet.
    pub fn new(rules: ContestRules) -> Self {
        let mut pairs = Vec::new();
        for (better, one) in rules.entrants.iter().enumerate() {
            for (worse, other) in rules.entrants.iter().enumerate().filter(|(worse, _)| *worse != better) {
                let share = f64::from(one.weight) / (f64::from(one.weight) + f64::from(other.weight));
                pairs.push(Pair { better, worse, share, evidence: Evidence::new(Grid::Fine), ln_largest: 0.0 });
            }
        }
        let weights: Vec<u16> = rules.entrants.iter().map(|entrant| entrant.weight).collect();
        Self {
            conversions: vec![0; weights.len()],
            sample_ratio: SampleRatio::new(weights),
            rules,
            pairs,
            elapsed: Duration::ZERO,
            ticks_discarded: 0,
        }
    }

    /// The rules.
    pub fn rules(&self) -> &ContestRules {
        &self.rules
    }

    /// Makes the contest longer.
    pub fn extend(&mut self, by: Duration) {
        self.rules.duration = self.rules.duration.saturating_add(by);
    }

    /// Takes in what happened in a tick, and says what is known now.
    pub fn feed(&mut self, tick: &ContestTick) -> ContestJudgement {
        self.take_in(tick);
        self.judge()
    }

    fn take_in(&mut self, tick: &ContestTick) {
        self.elapsed = self.elapsed.saturating_add(tick.length);
        if tick.spans_weight_change {
            self.ticks_discarded = self.ticks_discarded.saturating_add(1);
        } else {
            self.count(&tick.counts);
        }
    }

    fn count(&mut self, counts: &[EntrantCount]) {
        let new_visitors: Vec<u64> = counts.iter().map(|count| count.new_visitors).collect();
        self.sample_ratio.feed(&new_visitors);
        for (sum, count) in self.conversions.iter_mut().zip(counts) {
            *sum = sum.saturating_add(count.conversions);
        }
        for pair in &mut self.pairs {
            let conversions = |index: usize| counts.get(index).map_or(0, |count| count.conversions);
            let events = conversions(pair.better);
            let events_both = events.saturating_add(conversions(pair.worse));
            pair.evidence.observe(Factor::Share { events, events_both, share: pair.share }, 1.0);
            pair.ln_largest = pair.ln_largest.max(pair.evidence.ln_value());
        }
    }

    /// What is known now.
    pub fn judge(&self) -> ContestJudgement {
        let name = |index: usize| self.rules.entrants.get(index).map_or("", |entrant| entrant.target.as_str());
        let pair = |pair: &Pair| PairJudgement {
            better: name(pair.better).to_owned(),
            worse: name(pair.worse).to_owned(),
            evidence: finite_exp(pair.ln_largest),
        };
        let counts = self.sample_ratio.visitors().zip(&self.conversions);
        let entrant = |(entrant, (visitors, conversions)): (&Entrant, (u64, &u64))| EntrantJudgement {
            target: entrant.target.clone(),
            weight: entrant.weight,
            visitors,
            conversions: *conversions,
        };
        let entrants: Vec<EntrantJudgement> = self.rules.entrants.iter().zip(counts).map(entrant).collect();
        let sample_ratio = self.sample_ratio.judge();
        let winner = self.winner().filter(|_| !sample_ratio.is_alarm()).map(|index| name(index).to_owned());
        let (verdict, reason) = self.verdict(winner.as_deref(), &entrants, &sample_ratio);
        ContestJudgement {
            verdict,
            winner,
            reason,
            threshold: self.rules.threshold(),
            pairs: self.pairs.iter().map(pair).collect(),
            sample_ratio,
            elapsed_ms: millis(self.elapsed),
            needed_ms: millis(self.rules.duration),
            ticks_discarded: self.ticks_discarded,
            warnings: self.warnings(&entrants),
            entrants,
        }
    }

    fn winner(&self) -> Option<usize> {
        let ln_threshold = self.rules.threshold().ln();
        (0..self.rules.entrants.len()).find(|candidate| {
            self.pairs.iter().filter(|pair| pair.better == *candidate).all(|pair| pair.ln_largest >= ln_threshold)
                // Both directions of a pair can be reached one after the other if the truth changes: then nobody won.
                && !self.pairs.iter().any(|pair| pair.worse == *candidate && pair.ln_largest >= ln_threshold)
        })
    }

    fn verdict(
        &self,
        winner: Option<&str>,
        entrants: &[EntrantJudgement],
        sample_ratio: &SampleRatioJudgement,
    ) -> (Verdict, String) {
        if sample_ratio.is_alarm() {
            let SampleRatioJudgement { evidence, threshold } = sample_ratio;
            let reason = format!(
                "invalid: visitors do not arrive in the proportion of the weights (evidence {evidence:.3e} of {threshold})"
            );
            return (Verdict::Inconclusive, reason);
        }
        let threshold = self.rules.threshold();
        if let Some(winner) = winner {
            return (Verdict::Pass, format!("{winner} beats every other: each evidence reached {threshold}"));
        }
        if self.elapsed < self.rules.duration {
            return (Verdict::Running, format!("ran for {:?} of {:?}", tenths(self.elapsed), self.rules.duration));
        }
        let needed = self.rules.min_visitors;
        if let Some(few) = entrants.iter().find(|entrant| entrant.visitors < needed) {
            let EntrantJudgement { target, visitors, .. } = few;
            let reason = format!("{target} had {visitors} visitors of the {needed} that are needed to say anything");
            return (Verdict::InsufficientData, reason);
        }
        (
            Verdict::Inconclusive,
            format!("nobody beats every other: no target's evidence reached {threshold} in all pairs"),
        )
    }

    fn warnings(&self, entrants: &[EntrantJudgement]) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.elapsed.min(self.rules.duration) < A_WEEK {
            warnings.push("ran for less than a week: visitors of other weekdays may choose differently".to_owned());
        }
        for EntrantJudgement { target, conversions, .. } in entrants {
            if *conversions < FEW_CONVERSIONS {
                warnings.push(format!("{target} has only {conversions} conversions (fewer than {FEW_CONVERSIONS})"));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
