//! The invariant of every factor by enumeration, and its behaviour at the edges of what can be counted.

use proptest::prelude::*;

use super::*;

const MOST: u64 = 25;

fn choose(n: u64, k: u64) -> f64 {
    (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
}

/// The chances of every number of events on an arm of `n1` beside one of `n0`, given `m` events on both: by definition,
/// not by the code under test.
fn chances(n1: u64, n0: u64, m: u64, odds: f64) -> Vec<(u64, f64)> {
    let ways = |k: u64| (k, choose(n1, k) * choose(n0, m - k) * odds.powi(k as i32));
    let ways: Vec<(u64, f64)> = (m.saturating_sub(n0)..=n1.min(m)).map(ways).collect();
    let all: f64 = ways.iter().map(|(_, ways)| ways).sum();
    ways.into_iter().map(|(k, ways)| (k, ways / all)).collect()
}

/// The largest expectation of a factor over every table, every bet and these true odds (as parts of the null).
fn largest_expectation(nulls: &[f64], truths: &[f64], factor: impl Fn(u64, u64, u64, u64) -> Factor) -> f64 {
    let mut largest = 0.0_f64;
    for (n1, n0) in (1..=MOST).flat_map(|n1| (1..=MOST).map(move |n0| (n1, n0))) {
        for m in 1..=n1 + n0 {
            for null in nulls {
                let truths: Vec<Vec<(u64, f64)>> = truths.iter().map(|part| chances(n1, n0, m, null * part)).collect();
                // ln f is linear in the events on the arm: two values give all.
                let first = truths[0][0].0;
                let at = factor(first, m, n1, n1 + n0).ln_at(*null);
                for multiple in Grid::Regression.multiples() {
                    let odds = null * multiple;
                    let (start, step) = (at(odds), multiple.ln());
                    let value = |x: u64| (start + (x - first) as f64 * step).exp();
                    for truth in &truths {
                        largest = largest.max(truth.iter().map(|(x, chance)| chance * value(*x)).sum());
                    }
                }
            }
        }
    }
    largest
}

fn closed(events: u64, events_both: u64, requests: u64, requests_both: u64) -> Factor {
    Factor::Closed { events, events_both, requests, requests_both }
}

fn exact(events: u64, events_both: u64, requests: u64, requests_both: u64) -> Factor {
    Factor::Exact { events, events_both, requests, requests_both }
}

/// Up to the null itself; beyond it a test may and should win.
const TRUTHS: [f64; 4] = [1.0, 0.9, 0.5, 0.01];

#[test]
fn closed_form_expects_at_most_one_in_every_small_table() {
    let largest = largest_expectation(&[1.0, 1.5, 2.0, 3.0], &TRUTHS, closed);
    assert!(largest <= 1.0 + 1e-9, "{largest}");
}

#[test]
fn exact_form_expects_one_at_the_null_and_less_below_it_in_every_small_table() {
    let largest = largest_expectation(&[1.0 / 3.0, 0.5, 1.0 / 1.5], &TRUTHS, exact);
    assert!((largest - 1.0).abs() <= 1e-9, "{largest}");
}

#[test]
fn closed_form_would_be_wrong_where_the_exact_one_is_used() {
    let largest = largest_expectation(&[0.5], &[1.0], closed);
    assert!(largest > 2.0, "{largest}: then the exact form would not be needed");
}

#[test]
fn binomial_forms_expect_one_at_the_null_and_less_below_it() {
    for (share, null) in [(0.05, 1.0), (0.5, 1.5), (0.9, 0.5), (0.001, 1.0)] {
        for both in 1..=40_u64 {
            for part in TRUTHS {
                let odds = share / (1.0 - share) * null * part;
                let chance = odds / (1.0 + odds);
                let probability =
                    |x: u64| choose(both, x) * chance.powi(x as i32) * (1.0 - chance).powi((both - x) as i32);
                for multiple in Grid::Regression.multiples().into_iter().chain(Grid::Fine.multiples()) {
                    let expectation = |factor: &dyn Fn(u64) -> Factor| -> f64 {
                        (0..=both).map(|x| probability(x) * factor(x).ln(null, null * multiple).exp()).sum()
                    };
                    let by_share = expectation(&|events| Factor::Share { events, events_both: both, share });
                    let by_limit = expectation(&|events| Factor::Limit { events, requests: both, limit: share });
                    for got in [by_share, by_limit] {
                        assert!(got <= 1.0 + 1e-9, "{share} {null} {both} {part} {multiple}: {got}");
                        assert!(part < 1.0 || got >= 1.0 - 1e-9, "{share} {null} {both} {multiple}: {got}");
                    }
                }
            }
        }
    }
}

#[test]
fn limit_form_is_the_likelihood_ratio_of_two_rates() {
    let (limit, odds, events, requests) = (0.02_f64, 3.0, 7, 130);
    let rate = odds * limit / (1.0 - limit + odds * limit);
    let plain = events as f64 * (rate / limit).ln() + (requests - events) as f64 * ((1.0 - rate) / (1.0 - limit)).ln();
    let got = Factor::Limit { events, requests, limit }.ln(1.0, odds);
    assert!((got - plain).abs() < 1e-12, "{got} {plain}");
}

#[test]
fn tick_that_says_nothing_or_cannot_be_changes_nothing() {
    let factors = [
        closed(0, 0, 10, 100),
        closed(0, 5, 0, 100),
        closed(5, 5, 100, 100),
        closed(0, 0, 0, 0),
        closed(6, 5, 10, 100),
        closed(5, 5, 0, 100),
        closed(11, 20, 10, 100),
        closed(1, 95, 10, 100),
        closed(1, 5, 110, 100),
        exact(0, 0, 10, 100),
        exact(1, 5, MOST_REQUESTS, MOST_REQUESTS + 9),
        Factor::Share { events: 0, events_both: 5, share: 0.0 },
        Factor::Share { events: 5, events_both: 5, share: 1.0 },
        Factor::Share { events: 5, events_both: 5, share: f64::NAN },
        Factor::Share { events: 0, events_both: 0, share: 0.5 },
        Factor::Limit { events: 0, requests: 0, limit: 0.1 },
        Factor::Limit { events: 5, requests: 4, limit: 0.1 },
        Factor::Limit { events: 5, requests: 9, limit: 1.0 },
    ];
    for factor in factors {
        let mut evidence = Evidence::new(Grid::Regression);
        evidence.observe(factor, 1.0);
        assert_eq!(evidence, Evidence::new(Grid::Regression), "{factor:?}");
    }
}

#[test]
fn capital_begins_as_one() {
    for grid in [Grid::Regression, Grid::Fine] {
        assert!(Evidence::new(grid).ln_value().abs() < 1e-12);
    }
}

#[test]
fn investing_creates_and_loses_nothing() {
    let mut evidence = Evidence::new(Grid::Regression);
    for _ in 0..1_000 {
        evidence.invest();
        assert!(evidence.ln_value().abs() < 1e-9);
    }
    assert!(evidence.ln_capitals.iter().all(|ln| *ln > (0.99 / BETS as f64).ln()));
}

#[test]
fn fault_that_begins_after_a_quiet_day_is_found_within_a_minute() {
    let mut evidence = Evidence::new(Grid::Regression);
    // 500 requests a tick, half of them on the candidate, 0.8 % errors on both; then 5 % on the candidate.
    for _ in 0..17_280 {
        evidence.observe(closed(2, 4, 250, 500), 1.5);
    }
    let found = (1..).find(|_| {
        evidence.observe(closed(12, 14, 250, 500), 1.5);
        evidence.ln_value() >= 100_f64.ln()
    });
    assert!(found.unwrap() <= 12, "{found:?}");
}

#[test]
fn ln_sum_neither_overflows_nor_invents() {
    assert_eq!(ln_sum([]), f64::NEG_INFINITY);
    assert_eq!(ln_sum([f64::NEG_INFINITY, 3.0]), 3.0);
    assert!((ln_sum([1e9, 1e9]) - (1e9 + 2_f64.ln())).abs() < 1e-6);
    assert!((ln_mean(&[-1e9, 0.0]) + 2_f64.ln()).abs() < 1e-12);
    assert_eq!(finite_exp(1e9), f64::MAX);
}

/// Numbers of every size up to a billion.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..20_u64, 0..10_000_u64, 0..=1_000_000_000_u64, Just(1_000_000_000)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn evidence_is_finite_whatever_is_counted(
        ticks in proptest::collection::vec((count(), count(), count(), count(), 0.0..=1.0_f64), 1..4),
        null in prop_oneof![Just(1.0), Just(0.01), Just(100.0), 0.01..100.0_f64],
    ) {
        let mut evidence = [Evidence::new(Grid::Regression), Evidence::new(Grid::Fine)];
        for (a, b, c, d, share) in ticks {
            let (events, requests) = (a.min(b), a.max(b));
            let (events_both, requests_both) = (events + c.min(d), requests + c.max(d));
            for evidence in &mut evidence {
                evidence.observe(exact(events, events_both, requests, requests_both), null);
                evidence.observe(closed(events, events_both, requests, requests_both), null);
                evidence.observe(Factor::Share { events, events_both, share }, null);
                evidence.observe(Factor::Limit { events, requests, limit: share }, null);
                prop_assert!(evidence.ln_value().is_finite());
                prop_assert!(finite_exp(evidence.ln_value()).is_finite());
                prop_assert!(evidence.ln_capitals.iter().all(|ln| !ln.is_nan() && *ln < f64::INFINITY));
            }
        }
    }

    #[test]
    fn swapping_the_arms_and_inverting_the_odds_is_the_same_bet(
        n1 in 1..500_u64, n0 in 1..500_u64, x in 0..500_u64, y in 0..500_u64,
        null in 0.1..10.0_f64, multiple in 1.01..30.0_f64, share in 0.001..0.999_f64,
    ) {
        let (x, y) = (x.min(n1), y.min(n0));
        let close = |one: f64, other: f64| (one - other).abs() < 1e-9 * one.abs().max(1.0);
        let one = exact(x, x + y, n1, n1 + n0).ln(null, null * multiple);
        let other = exact(y, x + y, n0, n1 + n0).ln(1.0 / null, 1.0 / (null * multiple));
        prop_assert!(close(one, other), "exact {one} {other}");
        let one = Factor::Share { events: x, events_both: x + y, share }.ln(null, null * multiple);
        let swapped = Factor::Share { events: y, events_both: x + y, share: 1.0 - share };
        let other = swapped.ln(1.0 / null, 1.0 / (null * multiple));
        prop_assert!(close(one, other), "share {one} {other}");
    }

    #[test]
    fn splitting_a_tick_at_an_equal_share_changes_nothing(
        n1 in 1..1_000_u64, n0 in 1..1_000_u64, parts in 2..6_u64, x in 0..50_u64, y in 0..50_u64,
        null in 1.0..10.0_f64, multiple in 1.01..30.0_f64,
    ) {
        let (x, y) = (x.min(n1), y.min(n0));
        let whole = closed(x * parts, (x + y) * parts, n1 * parts, (n1 + n0) * parts).ln(null, null * multiple);
        let part = closed(x, x + y, n1, n1 + n0).ln(null, null * multiple);
        prop_assert!((whole - parts as f64 * part).abs() < 1e-9 * whole.abs().max(1.0));
    }

    #[test]
    fn closed_form_never_bets_more_than_the_exact_one_expects(
        n1 in 1..300_u64, n0 in 1..300_u64, m in 1..300_u64, null in 1.0..5.0_f64, multiple in 1.2..30.0_f64,
    ) {
        // The binomial normaliser is the larger one (Hoeffding), so the factor is the smaller one, in larger tables too.
        let m = m.min(n1 + n0);
        let x = m.saturating_sub(n0);
        let odds = null * multiple;
        let closed = closed(x, m, n1, n1 + n0).ln(null, odds);
        let exact = exact(x, m, n1, n1 + n0).ln(null, odds);
        prop_assert!(closed <= exact + 1e-9, "{closed} {exact}");
    }
}
