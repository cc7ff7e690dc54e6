//! "Slower than the baseline was" as an event that can be counted, and the histogram that this needs.
//!
//! The threshold is the baseline's own quantile in *earlier* ticks: it is known before the requests that it judges, so
//! counting them against it is as valid as counting errors, also while the load drifts.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    rules::RulesError,
    watch::{Arms, Counts, Sample},
};

/// Buckets per power of two: a bound is at most 12.5 % above the one before.
///
/// The metrics' histogram has bounds 2 to 2.5 times apart: a target that is 1.3 times as slow mostly stays within the
/// same buckets of it, so the difference could not be seen.
const PER_OCTAVE: u64 = 8;

/// Bits of [`PER_OCTAVE`].
const PRECISION: u32 = PER_OCTAVE.trailing_zeros();

/// Times from 2^26 microseconds (67 s) on share the last bucket.
const OCTAVES: u32 = 26;

/// Buckets of a histogram: exact below [`PER_OCTAVE`] microseconds, then [`PER_OCTAVE`] to each power of two, and the
/// last one.
pub const BUCKETS: usize = ((OCTAVES - PRECISION + 1) as u64 * PER_OCTAVE + 1) as usize;

/// The bucket of a time.
pub fn bucket_of(micros: u64) -> usize {
    if micros < PER_OCTAVE {
        return micros as usize;
    }
    let octave = micros.ilog2() - PRECISION;
    let within = (micros >> octave) - PER_OCTAVE;
    let bucket = u64::from(octave + 1) * PER_OCTAVE + within;
    (bucket as usize).min(BUCKETS - 1)
}

/// The first time that is above a bucket, in microseconds; none above the last one.
pub fn end_of(bucket: usize) -> Option<u64> {
    let next = bucket as u64 + 1;
    match next {
        next if next >= BUCKETS as u64 => None,
        next if next < PER_OCTAVE => Some(next),
        next => Some((PER_OCTAVE + next % PER_OCTAVE) << (next / PER_OCTAVE - 1)),
    }
}

/// A histogram that requests write to.
#[derive(Debug)]
pub struct AtomicHistogram([AtomicU64; BUCKETS]);

impl Default for AtomicHistogram {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl AtomicHistogram {
    /// Counts a time.
    pub fn count(&self, micros: u64) {
        if let Some(bucket) = self.0.get(bucket_of(micros)) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// What was counted so far.
    pub fn read(&self) -> Histogram {
        Histogram(self.0.iter().map(|bucket| bucket.load(Relaxed)).collect())
    }
}

/// How many requests took how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram(Box<[u64]>);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS].into())
    }
}

impl Histogram {
    /// Counts a time.
    pub fn count(&mut self, micros: u64) {
        if let Some(bucket) = self.0.get_mut(bucket_of(micros)) {
            *bucket = bucket.saturating_add(1);
        }
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: &Self) {
        for (bucket, other) in self.0.iter_mut().zip(&other.0) {
            *bucket = bucket.saturating_add(*other);
        }
    }

    /// What was counted since an earlier reading. A bucket that fell (the proxy was restarted) counts as zero.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().zip(&earlier.0).map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// How many are in higher buckets than this one.
    pub fn above(&self, bucket: usize) -> u64 {
        self.0.iter().skip(bucket.saturating_add(1)).fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// The bucket that a quantile falls into; none of an empty histogram.
    pub fn bucket_at(&self, quantile: Quantile) -> Option<usize> {
        let rank = u128::from(self.total()) * u128::from(quantile.0);
        let mut below = 0_u128;
        self.0.iter().position(|count| {
            below += u128::from(*count) * 1_000;
            below > 0 && below >= rank
        })
    }
}

/// A quantile in thousandths: 950 is p95.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Quantile(u16);

impl Quantile {
    /// The median.
    pub const P50: Self = Self(500);
    /// p95.
    pub const P95: Self = Self(950);
    /// p99.
    pub const P99: Self = Self(990);
}

impl TryFrom<u16> for Quantile {
    type Error = RulesError;

    fn try_from(thousandths: u16) -> Result<Self, RulesError> {
        let possible = (1..=999).contains(&thousandths);
        if possible { Ok(Self(thousandths)) } else { Err(RulesError::Quantile(thousandths)) }
    }
}

impl From<Quantile> for u16 {
    fn from(quantile: Quantile) -> Self {
        quantile.0
    }
}

/// Requests of the baseline that a threshold is made of. With fewer, ticks are added up: a p99 of 20 requests is their
/// maximum, and hardly anything is slower than that.
const REQUESTS_PER_THRESHOLD: u64 = 200;

/// Makes counts of one latency metric out of histograms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyEvents {
    quantile: Quantile,
    /// No request is slow below this, in microseconds.
    at_least_us: u64,
    /// Requests in higher buckets than this are slow.
    threshold: Option<usize>,
    /// The baseline's requests that the next threshold will be made of.
    gathered: Histogram,
}

impl LatencyEvents {
    /// Of requests slower than this quantile of the baseline.
    pub fn new(quantile: Quantile) -> Self {
        Self::noticeable(quantile, Duration::ZERO)
    }

    /// Of requests slower than this quantile of the baseline, and than a time below which nobody would notice. Where the
    /// baseline takes less than a millisecond, what differs is how often connections are new, not what a version does.
    pub fn noticeable(quantile: Quantile, at_least: Duration) -> Self {
        let at_least_us = u64::try_from(at_least.as_micros()).unwrap_or(u64::MAX);
        Self { quantile, at_least_us, threshold: None, gathered: Histogram::default() }
    }

    /// From how many microseconds on a request is slow now; none before the first threshold.
    pub fn slow_from_us(&self) -> Option<u64> {
        self.threshold.and_then(end_of)
    }

    /// Counts the requests of a tick against the threshold of earlier ones, and then lets the baseline's make the next
    /// threshold. Unreadable before the first threshold. To be called for every tick, also for one that spans a change.
    pub fn end_tick(&mut self, candidate: &Histogram, baseline: &Histogram) -> Counts {
        let counts = match self.threshold {
            Some(threshold) => {
                let sample =
                    |histogram: &Histogram| Sample { of: histogram.total(), events: histogram.above(threshold) };
                Counts::Compared(Arms { candidate: sample(candidate), baseline: sample(baseline) })
            }
            None => Counts::Unreadable,
        };
        self.gathered.add(baseline);
        if self.gathered.total() >= REQUESTS_PER_THRESHOLD {
            let quantile = std::mem::take(&mut self.gathered).bucket_at(self.quantile);
            let unnoticed = (0..bucket_of(self.at_least_us)).next_back();
            self.threshold = quantile.max(unnoticed);
        }
        counts
    }
}

#[cfg(test)]
mod tests;
