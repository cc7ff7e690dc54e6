//! Weights of targets. Integers throughout: a split that sums to 10,000 cannot drift.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::TargetId;

/// A share of traffic in basis points: 0 to 10,000, so 1 is 0.01 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// No traffic.
    pub const ZERO: Self = Self(0);
    /// All traffic: 100 %.
    pub const FULL: Self = Self(10_000);

    /// A weight of `points` basis points; `None` above 10,000.
    pub fn from_points(points: u16) -> Option<Self> {
        (points <= Self::FULL.0).then_some(Self(points))
    }

    /// The weight in basis points, 0 to 10,000.
    pub fn points(self) -> u16 {
        self.0
    }

    /// Parses percent with up to two decimals, as files and the API give them.
    ///
    /// A float is taken by its shortest decimal form, so `0.07` is 7 points and not 6.
    pub fn from_percent(percent: f64) -> Result<Self, SplitError> {
        if !percent.is_finite() || percent < 0.0 {
            return Err(SplitError::NotAPercentage);
        }
        if percent > 100.0 {
            return Err(SplitError::TooMuch);
        }
        let points = (percent * 100.0).round();
        if (points - percent * 100.0).abs() > 1e-6 {
            return Err(SplitError::TooFine);
        }
        // Invariant: 0 <= points <= 10,000, checked above, so the cast is exact.
        Ok(Self(points as u16))
    }

    /// The weight in percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl TryFrom<u16> for Weight {
    type Error = SplitError;
    fn try_from(points: u16) -> Result<Self, SplitError> {
        Self::from_points(points).ok_or(SplitError::TooMuch)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

/// The weights of a service's targets; they sum to exactly 100 %.
///
/// Targets that are not named have no weight. A weight of zero is dropped: it means the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<TargetId, Weight>", into = "BTreeMap<TargetId, Weight>")]
pub struct Split(BTreeMap<TargetId, Weight>);

impl Split {
    /// A split from weights that sum to 10,000 basis points.
    pub fn new(weights: impl IntoIterator<Item = (TargetId, Weight)>) -> Result<Self, SplitError> {
        let weights: BTreeMap<_, _> = weights.into_iter().filter(|(_, w)| *w != Weight::ZERO).collect();
        let sum = weights.values().map(|w| u32::from(w.points())).sum::<u32>();
        if sum == u32::from(Weight::FULL.points()) { Ok(Self(weights)) } else { Err(SplitError::Sum(sum)) }
    }

    /// Everything to one target.
    pub fn all(target: TargetId) -> Self {
        Self(BTreeMap::from([(target, Weight::FULL)]))
    }

    /// The weight of a target; zero when it is not named.
    pub fn weight(&self, target: &TargetId) -> Weight {
        self.0.get(target).copied().unwrap_or(Weight::ZERO)
    }

    /// The targets that have a weight, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&TargetId, Weight)> {
        self.0.iter().map(|(target, weight)| (target, *weight))
    }
}

impl TryFrom<BTreeMap<TargetId, Weight>> for Split {
    type Error = SplitError;
    fn try_from(weights: BTreeMap<TargetId, Weight>) -> Result<Self, SplitError> {
        Self::new(weights)
    }
}

impl From<Split> for BTreeMap<TargetId, Weight> {
    fn from(split: Split) -> Self {
        split.0
    }
}

/// Why numbers are not a weight or a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitError {
    /// A weight that is negative or not a number.
    NotAPercentage,
    /// A weight above 100 %.
    TooMuch,
    /// A weight with more than two decimals.
    TooFine,
    /// Weights that sum to this many basis points instead of 10,000.
    Sum(u32),
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPercentage => write!(f, "a weight is a percentage from 0 to 100"),
            Self::TooMuch => write!(f, "a weight must not be more than 100 %"),
            Self::TooFine => write!(f, "a weight has at most two decimals (0.01 % is the finest share)"),
            Self::Sum(points) => write!(f, "weights sum to {} %, not to 100 %", f64::from(*points) / 100.0),
        }
    }
}

impl std::error::Error for SplitError {}
