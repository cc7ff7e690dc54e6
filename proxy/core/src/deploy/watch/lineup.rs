//! Who is compared with whom: positions that counters and judges share.

use serde::{Deserialize, Serialize};
use tidegate_config::TargetId;

use crate::deploy::step::Arms;

/// The targets that are watched, by position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineup {
    targets: Vec<TargetId>,
    candidates: usize,
    baseline: usize,
}

impl Lineup {
    /// Of the arms of a watch: the candidates in their order, then the baseline if it is not one of them.
    pub fn new(arms: &Arms) -> Self {
        let mut targets: Vec<TargetId> = Vec::new();
        for candidate in &arms.candidates {
            if !targets.contains(candidate) {
                targets.push(candidate.clone());
            }
        }
        let candidates = targets.len();
        let baseline = targets.iter().position(|target| *target == arms.baseline).unwrap_or_else(|| {
            targets.push(arms.baseline.clone());
            candidates
        });
        Self { targets, candidates, baseline }
    }

    /// Every target.
    pub fn targets(&self) -> &[TargetId] {
        &self.targets
    }

    /// The new version, or the variants of a test.
    pub fn candidates(&self) -> &[TargetId] {
        self.targets.get(..self.candidates).unwrap_or_default()
    }

    /// The position of the old version.
    pub fn baseline(&self) -> usize {
        self.baseline
    }

    /// The positions of each candidate that is not the old version itself, and of the old version.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let baseline = self.baseline;
        (0..self.candidates).filter(move |candidate| *candidate != baseline).map(move |candidate| (candidate, baseline))
    }
}
