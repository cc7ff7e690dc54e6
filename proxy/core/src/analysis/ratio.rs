//! Do visitors arrive in the proportion of the weights? If not, something chooses who takes part (a lost cookie, a
//! redirect, a robot), and a comparison of the arms would say nothing.

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Factor, Grid, finite_exp, ln_mean};

/// `1/alpha` of this check. An alarm makes a whole test invalid, so it must be rarer than what the test looks for.
const THRESHOLD: f64 = 1_000.0;

/// The watch over the proportion of new visitors: each arm against all others, "too many" and "too few", as one average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRatio {
    arms: Vec<Arm>,
    ln_largest: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Arm {
    share: f64,
    visitors: u64,
    too_many: Evidence,
    too_few: Evidence,
}

/// What is known of the proportion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRatioJudgement {
    /// The largest evidence so far that visitors do not arrive in the proportion of the weights.
    pub evidence: f64,
    /// From here on, the test is invalid.
    pub threshold: f64,
}

impl SampleRatioJudgement {
    /// Whether the test is invalid.
    pub fn is_alarm(&self) -> bool {
        self.evidence >= self.threshold
    }
}

impl SampleRatio {
    /// Of arms with these weights.
    pub fn new(weights: impl IntoIterator<Item = u16> + Clone) -> Self {
        let sum: f64 = weights.clone().into_iter().map(f64::from).sum();
        let arm = |weight| Arm {
            share: f64::from(weight) / sum.max(1.0),
            visitors: 0,
            too_many: Evidence::new(Grid::Fine),
            too_few: Evidence::new(Grid::Fine),
        };
        Self { arms: weights.into_iter().map(arm).collect(), ln_largest: 0.0 }
    }

    /// Takes in the new visitors of a tick, in the order of the weights. Each is new to the whole service, so the
    /// weights, and not their own wish, chose their arm.
    pub fn feed(&mut self, new_visitors: &[u64]) {
        let both = new_visitors.iter().fold(0_u64, |sum, visitors| sum.saturating_add(*visitors));
        for (arm, visitors) in self.arms.iter_mut().zip(new_visitors) {
            arm.visitors = arm.visitors.saturating_add(*visitors);
            arm.too_many.observe(Factor::Share { events: *visitors, events_both: both, share: arm.share }, 1.0);
            let others =
                Factor::Share { events: both.saturating_sub(*visitors), events_both: both, share: 1.0 - arm.share };
            arm.too_few.observe(others, 1.0);
        }
        let each: Vec<f64> =
            self.arms.iter().flat_map(|arm| [arm.too_many.ln_value(), arm.too_few.ln_value()]).collect();
        if !each.is_empty() {
            self.ln_largest = self.ln_largest.max(ln_mean(&each));
        }
    }

    /// New visitors of an arm so far.
    pub(super) fn visitors(&self) -> impl Iterator<Item = u64> {
        self.arms.iter().map(|arm| arm.visitors)
    }

    /// What is known now.
    pub fn judge(&self) -> SampleRatioJudgement {
        SampleRatioJudgement { evidence: finite_exp(self.ln_largest), threshold: THRESHOLD }
    }
}
