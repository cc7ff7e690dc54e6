//! Is the new version worse? Answered from the proxy's own counters, at any moment, with a bounded rate of false alarms.
//!
//! The proxy knows every denominator and assigns every request, so it can count instead of estimating: each tick (5 s)
//! is a small table of requests and events for two arms, and each table multiplies a capital that bets on "worse". If
//! the candidate is not worse, that capital is a non-negative supermartingale that starts at 1, and by Ville's
//! inequality (Ville 1939) it ever reaches `1/alpha` with a probability of at most `alpha`: whoever looks every five
//! seconds and stops when he likes is as safe as who looks once.
//!
//! - [`evidence`]: the capital, its bets, and the three factors by which a tick multiplies it.
//! - [`watch`]: [`Analysis`], the guard and the gate of a deployment: candidate against baseline, or against a limit.
//! - [`contest`]: [`Contest`], an A/B test of two or more targets, with its check of the sample ratio.
//! - [`latency`]: a histogram that is fine enough, and "slower than the baseline was" as an event.
//! - [`visitors`]: counting visitors instead of requests, which a sticky split makes necessary.
//!
//! Sources: Lindon & Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022 (sequential tests on
//! counts); ter Schure, Pérez-Ortiz, Ly & Grünwald, "The Safe Logrank Test", 2020 (each tick conditions on its margins);
//! Hoeffding 1963, theorem 4 (drawing without replacement is less variable than with); Shin, Ramdas & Rinaldo,
//! "E-detectors", 2022 (capital that is invested later finds faults that begin later).
//!
//! Pure: the output depends on what was fed, never on a clock. Everything is finite: no `NaN` and no infinity gets into
//! a journal.

pub mod contest;
pub mod evidence;
mod hypergeometric;
pub mod latency;
#[cfg(test)]
pub(crate) mod random;
pub mod ratio;
pub mod rules;
pub mod verdict;
pub mod visitors;
pub mod watch;

pub use contest::{Contest, ContestJudgement, ContestRules, ContestTick, Entrant, EntrantCount};
pub use evidence::Evidence;
pub use latency::{AtomicHistogram, Histogram, LatencyEvents, Quantile};
pub use ratio::SampleRatio;
pub use rules::{Against, Alpha, Gate, Metric, Odds, Rate, Rules, RulesError};
pub use verdict::{Judgement, MetricJudgement, Verdict};
pub use visitors::{RiskSets, VisitorSet};
pub use watch::{Analysis, Arms, Counts, Sample, Tick};
