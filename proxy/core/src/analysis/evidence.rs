//! The capital that bets on "worse", and the factors by which a tick multiplies it.
//!
//! Invariant: under every odds that the null allows, the expectation of a factor is at most 1, whatever was seen before.
//! Sums, averages and later investments of such capitals keep that property, so [`Evidence::ln_value`] may be compared
//! with `ln(1/alpha)` at any time (Ville's inequality).

use serde::{Deserialize, Serialize};

use super::hypergeometric::{MOST_REQUESTS, ln_ways};

/// Bets of one capital.
const BETS: usize = 8;

/// Which alternatives a capital bets on: odds, as multiples of the odds that the null still allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grid {
    /// From "somewhat worse" to "nearly every request fails".
    Regression,
    /// Small differences too: conversions and sample ratios, where 5 % more is a finding.
    Fine,
}

impl Grid {
    fn multiples(self) -> [f64; BETS] {
        match self {
            Self::Regression => [1.2, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0],
            Self::Fine => [1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 4.0, 10.0],
        }
    }
}

/// Part of the capital that is invested at the start; the rest waits for faults that begin later.
const INVESTED_AT_START: f64 = 0.9;

/// Ticks after which half of what waits is invested. The waiting part is `HALF / (HALF + ticks)` of the rest: it falls so
/// slowly that a fault of tomorrow still finds capital, at the price of a logarithm.
const HALF_INVESTED_TICKS: f64 = 100.0;

/// A capital that began as 1, in logarithms: one number per bet.
///
/// Without later investments, a night without difference would shrink the capital to almost nothing, and a fault in the
/// morning would have to win that back first. The sum over starting times is a convex combination of e-processes that
/// is fixed beforehand, so it is one itself (Shin, Ramdas & Rinaldo 2022).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    grid: Grid,
    ln_capitals: [f64; BETS],
    /// Ticks that had events.
    ticks: u64,
}

impl Evidence {
    /// The capital before the first tick: 1.
    pub fn new(grid: Grid) -> Self {
        Self { grid, ln_capitals: [(INVESTED_AT_START / BETS as f64).ln(); BETS], ticks: 0 }
    }

    /// Multiplies every bet by the factor of a tick. `null` is the largest odds that the null allows.
    pub fn observe(&mut self, factor: Factor, null: f64) {
        let Some(factor) = factor.of_an_informative_tick() else { return };
        self.invest();
        let ln_factor = factor.ln_at(null);
        for (ln_capital, multiple) in self.ln_capitals.iter_mut().zip(self.grid.multiples()) {
            *ln_capital += ln_factor(null * multiple);
        }
    }

    /// Moves what is due from the waiting part to the bets.
    fn invest(&mut self) {
        let waited = waiting(self.ticks);
        self.ticks = self.ticks.saturating_add(1);
        let ln_invested = ((waited - waiting(self.ticks)) / BETS as f64).ln();
        self.ln_capitals = self.ln_capitals.map(|ln_capital| ln_sum([ln_capital, ln_invested]));
    }

    /// The logarithm of the whole capital: the evidence, `ln E`.
    pub fn ln_value(&self) -> f64 {
        ln_sum(self.ln_capitals.into_iter().chain([waiting(self.ticks).ln()]))
    }
}

/// What waits to be invested after so many ticks.
fn waiting(ticks: u64) -> f64 {
    (1.0 - INVESTED_AT_START) * HALF_INVESTED_TICKS / (HALF_INVESTED_TICKS + ticks as f64)
}

/// `ln Σ exp(ln)`, without overflow: the largest is taken out first. Minus infinity of nothing.
pub(super) fn ln_sum(lns: impl IntoIterator<Item = f64> + Clone) -> f64 {
    let largest = lns.clone().into_iter().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    largest + lns.into_iter().map(|ln| (ln - largest).exp()).sum::<f64>().ln()
}

/// `ln` of the mean of values that are given as logarithms. The average of e-processes is an e-process, however they
/// depend on each other: so several metrics make one test without a correction.
pub(super) fn ln_mean(lns: &[f64]) -> f64 {
    ln_sum(lns.iter().copied()) - (lns.len() as f64).ln()
}

/// The same with weights, each before its value.
pub(super) fn ln_weighted_mean(weighted: &[(f64, f64)]) -> f64 {
    let sum: f64 = weighted.iter().map(|(weight, _)| weight).sum();
    ln_sum(weighted.iter().map(|(weight, ln)| weight.ln() + ln)) - sum.ln()
}

/// A value for people and journals: finite also where the evidence is beyond `f64`.
pub(super) fn finite_exp(ln: f64) -> f64 {
    ln.exp().min(f64::MAX)
}

/// What a tick says: events on the arm that is suspected, and what would be expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Factor {
    /// `events` of `events_both` fell on the suspected arm, which served `requests` of `requests_both`. For nulls of at
    /// least 1, in closed form.
    ///
    /// Given the margins of the tick, events on the arm follow Fisher's non-central hypergeometric distribution; the
    /// binomial one that the closed form uses dominates it in convex order (Hoeffding 1963, theorem 4), so its factor
    /// has an expectation of at most 1. With a null **below** 1 that is false: use [`Factor::Exact`].
    Closed {
        /// Events on the suspected arm.
        events: u64,
        /// Events on both arms.
        events_both: u64,
        /// Requests on the suspected arm.
        requests: u64,
        /// Requests on both arms.
        requests_both: u64,
    },
    /// The same by the likelihood ratio of the non-central hypergeometric distribution: its expectation is exactly 1 at
    /// the null, for every null. Costs a sum over the tables with these margins.
    Exact {
        /// Events on the suspected arm.
        events: u64,
        /// Events on both arms.
        events_both: u64,
        /// Requests on the suspected arm.
        requests: u64,
        /// Requests on both arms.
        requests_both: u64,
    },
    /// Each event fell on the suspected arm with a known chance: a visitor by the split's weights, or one of the two
    /// copies of a mirrored request. Binomial, so exact for every null.
    Share {
        /// Events on the suspected arm.
        events: u64,
        /// Events on both arms.
        events_both: u64,
        /// The chance, 0 to 1.
        share: f64,
    },
    /// `events` of `requests`, where the null allows a rate whose odds are `null` times those of `limit`. For a target
    /// that has nothing to be compared with. Valid if each request fails with at most that chance given the past.
    Limit {
        /// Events.
        events: u64,
        /// Requests.
        requests: u64,
        /// The rate, between 0 and 1.
        limit: f64,
    },
}

impl Factor {
    /// None if the tick says nothing, or counts what cannot be (more events than requests, or on an arm without any):
    /// such a tick is left out, and leaving out is safe as long as it is not chosen by where possible events fell.
    fn of_an_informative_tick(self) -> Option<Self> {
        let informative = match self {
            Self::Closed { events, events_both, requests, requests_both }
            | Self::Exact { events, events_both, requests, requests_both } => {
                let possible = events <= requests
                    && events <= events_both
                    && requests <= requests_both
                    && events_both - events <= requests_both - requests;
                possible && events_both > 0 && 0 < requests && requests < requests_both
            }
            Self::Share { events, events_both, share } => {
                events <= events_both && events_both > 0 && 0.0 < share && share < 1.0
            }
            Self::Limit { events, requests, limit } => events <= requests && requests > 0 && 0.0 < limit && limit < 1.0,
        };
        // Too large for the exact sum is known from the margins alone, so leaving such ticks out is safe.
        let affordable = !matches!(self, Self::Exact { requests_both, .. } if requests_both > MOST_REQUESTS);
        (informative && affordable).then_some(self)
    }

    /// `ln` of the factor of the bet on some odds, against the null.
    fn ln_at(self, null: f64) -> impl Fn(f64) -> f64 {
        let ln_ways_null = match self {
            Self::Exact { events_both, requests, requests_both, .. } => {
                ln_ways(requests, requests_both - requests, events_both, null)
            }
            Self::Closed { .. } | Self::Share { .. } | Self::Limit { .. } => 0.0,
        };
        move |odds| match self {
            Self::Closed { events, events_both, requests, requests_both } => {
                ln_of_share(events, events_both, requests as f64 / requests_both as f64, null, odds)
            }
            Self::Share { events, events_both, share } => ln_of_share(events, events_both, share, null, odds),
            Self::Exact { events, events_both, requests, requests_both } => {
                let ln_ways_odds = ln_ways(requests, requests_both - requests, events_both, odds);
                events as f64 * (odds / null).ln() + ln_ways_null - ln_ways_odds
            }
            // The same with the limit as the share: an "event" is a request, and it "falls" on failure.
            Self::Limit { events, requests, limit } => ln_of_share(events, requests, limit, null, odds),
        }
    }

    /// `ln` of the factor of one bet; 0 (a factor of 1) if the tick says nothing.
    #[cfg(test)]
    pub(super) fn ln(self, null: f64, odds: f64) -> f64 {
        self.of_an_informative_tick().map_or(0.0, |factor| factor.ln_at(null)(odds))
    }
}

/// `x ln(r/M) - m ln((1-ρ+ρr)/(1-ρ+ρM))`.
fn ln_of_share(events: u64, events_both: u64, share: f64, null: f64, odds: f64) -> f64 {
    let expected = (share * (odds - null) / (1.0 - share + share * null)).ln_1p();
    events as f64 * (odds / null).ln() - events_both as f64 * expected
}

#[cfg(test)]
mod tests;
