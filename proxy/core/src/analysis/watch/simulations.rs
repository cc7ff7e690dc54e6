//! How often the watch cries wolf, and how soon it sees one: seeded, so these are facts and not odds.
//!
//! Bounds are the 99.9 % quantiles of what a test at exactly its alpha would do.

use super::*;
use crate::analysis::{
    latency::{Histogram, LatencyEvents, Quantile},
    random::Random,
    rules::{Alpha, Odds},
    visitors::{Arm, RiskSets},
};

/// A tick without latency or length: what the simulations are made of.
fn tick(counts: Counts) -> Tick {
    let requests = match counts {
        Counts::Compared(Arms { candidate, baseline }) => Arms { candidate: candidate.of, baseline: baseline.of },
        Counts::ByShare { .. } | Counts::Alone(_) | Counts::Unreadable => Arms::default(),
    };
    Tick { length: Duration::from_secs(5), spans_weight_change: false, requests, metrics: vec![counts] }
}

/// `requests`, of which the candidate gets a share, and the rates of events of both.
#[derive(Clone, Copy)]
struct Traffic {
    requests: u64,
    share: f64,
    candidate: f64,
    baseline: f64,
}

impl Traffic {
    /// The split walks a low-discrepancy sequence, so the candidate gets its share nearly exactly.
    fn tick(self, random: &mut Random) -> Tick {
        let candidate = (self.requests as f64 * self.share).round() as u64;
        let mut sample = |of, rate| Sample { of, events: random.binomial(of, rate) };
        let (candidate, baseline) =
            (sample(candidate, self.candidate), sample(self.requests - candidate, self.baseline));
        tick(Counts::Compared(Arms { candidate, baseline }))
    }
}

fn rules(max_odds: f64) -> Rules {
    let metric = Metric { name: "errors".to_owned(), against: Against::Baseline };
    Rules::new(vec![metric]).unwrap().max_odds(Odds::try_from(max_odds).unwrap())
}

/// False alarms at alpha 0.05 and 0.01 of so many runs.
#[derive(Debug, Default)]
struct Alarms {
    at_05: usize,
    at_01: usize,
}

fn alarms(runs: u64, ticks: usize, max_odds: f64, mut next: impl FnMut(&mut Random, usize) -> Tick) -> Alarms {
    let mut alarms = Alarms::default();
    for run in 0..runs {
        let (mut random, mut analysis) = (Random::seeded(run), Analysis::new(rules(max_odds)));
        let mut largest = 0.0_f64;
        for index in 0..ticks {
            analysis.take_in(&next(&mut random, index));
            largest = largest.max(analysis.ln_evidence());
        }
        alarms.at_05 += usize::from(largest >= 20_f64.ln());
        alarms.at_01 += usize::from(largest >= 100_f64.ln());
        assert_eq!(analysis.failed.is_some(), largest >= 100_f64.ln());
    }
    alarms
}

#[track_caller]
fn check_alarms(Alarms { at_05, at_01 }: Alarms, most_05: usize, most_01: usize) {
    assert!(at_05 <= most_05 && at_01 <= most_01, "{at_05} (at most {most_05}) and {at_01} (at most {most_01})");
}

#[test]
fn equal_arms_hardly_ever_raise_an_alarm() {
    let traffic = Traffic { requests: 500, share: 0.1, candidate: 0.005, baseline: 0.005 };
    check_alarms(alarms(1_000, 120, 1.0, |random, _| traffic.tick(random)), 72, 21);
}

#[test]
fn equal_arms_with_little_traffic_hardly_ever_raise_an_alarm() {
    let traffic = Traffic { requests: 50, share: 0.1, candidate: 0.005, baseline: 0.005 };
    check_alarms(alarms(1_000, 120, 1.0, |random, _| traffic.tick(random)), 72, 21);
}

#[test]
fn long_watch_of_equal_arms_hardly_ever_raises_an_alarm() {
    let traffic = Traffic { requests: 500, share: 0.5, candidate: 0.005, baseline: 0.005 };
    check_alarms(alarms(200, 1_000, 1.0, |random, _| traffic.tick(random)), 21, 8);
}

#[test]
fn outage_that_both_share_while_the_weight_grows_raises_no_alarm() {
    let next = |random: &mut Random, index: usize| {
        let share = [0.05, 0.25, 0.5][index / 40];
        let rate = if (30..50).contains(&index) { 0.3 } else { 0.005 };
        Traffic { requests: 500, share, candidate: rate, baseline: rate }.tick(random)
    };
    check_alarms(alarms(500, 120, 1.0, next), 42, 13);
}

#[test]
fn odds_that_are_just_tolerated_hardly_ever_raise_an_alarm() {
    let (baseline, odds) = (0.02, 1.5 * 0.02 / 0.98);
    let traffic = Traffic { requests: 500, share: 0.25, candidate: odds / (1.0 + odds), baseline };
    check_alarms(alarms(500, 120, 1.5, |random, _| traffic.tick(random)), 42, 13);
}

/// Times of `requests` around a median, by the candidate's share.
fn latencies(random: &mut Random, requests: u64, share: f64, baseline_us: f64, slower: f64) -> [Histogram; 2] {
    let (mut candidate, mut baseline) = (Histogram::default(), Histogram::default());
    let on_candidate = (requests as f64 * share).round() as u64;
    (0..on_candidate).for_each(|_| candidate.count(random.latency(baseline_us * slower)));
    (on_candidate..requests).for_each(|_| baseline.count(random.latency(baseline_us)));
    [candidate, baseline]
}

#[test]
fn equal_latency_under_drifting_load_hardly_ever_raises_an_alarm() {
    let mut events = LatencyEvents::new(Quantile::P95);
    let next = |random: &mut Random, index: usize| {
        if index == 0 {
            events = LatencyEvents::new(Quantile::P95);
        }
        let median = 20_000.0 * (1.0 + 0.8 * (index as f64 / 9.0).sin());
        let [candidate, baseline] = latencies(random, 300, 0.25, median, 1.0);
        tick(events.end_tick(&candidate, &baseline))
    };
    check_alarms(alarms(60, 120, 1.0, next), 9, 4);
}

/// 500 visitors, of whom 8 have an account that always fails, send 200 requests a tick, while the weight grows from 20 %
/// to 40 %.
fn sticky(runs: u64, mut counts: impl FnMut(&[(u32, Arm, bool)], usize) -> Counts) -> Alarms {
    let mut visitors: Vec<u32> = Vec::new();
    alarms(runs, 60, 1.0, |random, index| {
        if index == 0 {
            visitors = (0..500).map(|_| random.bits() as u32).collect();
        }
        let share = if index < 30 { 0.2 } else { 0.4 };
        let mut request = || {
            let visitor = (random.bits() % 500) as usize;
            let failed = visitor < 8 || random.chance(0.001);
            let hash = visitors[visitor];
            let arm = if f64::from(hash) < share * 2_f64.powi(32) { Arm::Candidate } else { Arm::Baseline };
            (hash, arm, failed)
        };
        let requests: Vec<(u32, Arm, bool)> = (0..200).map(|_| request()).collect();
        tick(counts(&requests, index))
    })
}

#[test]
fn sticky_visitors_with_broken_accounts_raise_no_alarm_counted_per_visitor() {
    let mut sets = RiskSets::default();
    let per_visitor = sticky(100, |requests, index| {
        if index == 0 {
            sets = RiskSets::default();
        }
        requests.iter().for_each(|(visitor, arm, failed)| sets.note(*visitor, *arm, *failed));
        Counts::Compared(sets.end_tick())
    });
    check_alarms(per_visitor, 13, 6);
}

#[test]
fn the_same_visitors_counted_per_request_would_raise_alarms() {
    let per_request = sticky(100, |requests, _| {
        let mut arms = Arms::<Sample>::default();
        for (_, arm, failed) in requests {
            let sample = match arm {
                Arm::Candidate => &mut arms.candidate,
                Arm::Baseline => &mut arms.baseline,
            };
            sample.add(Sample { of: 1, events: u64::from(*failed) });
        }
        Counts::Compared(arms)
    });
    assert!(per_request.at_01 > 20, "{per_request:?}: then visitors need not be counted");
}

/// The median number of ticks until something is shown, over 501 runs that each end after `most`.
fn median(most: usize, mut is_shown: impl FnMut(&mut Random, &mut Analysis) -> bool, rules: &Rules) -> usize {
    let mut ticks = |run: u64| {
        let (mut random, mut analysis) = (Random::seeded(1_000 + run), Analysis::new(rules.clone()));
        (1..=most).find(|_| is_shown(&mut random, &mut analysis)).unwrap_or(most + 1)
    };
    let mut each: Vec<usize> = (0..501).map(&mut ticks).collect();
    each.sort_unstable();
    each[250]
}

fn ticks_to_failure(traffic: Traffic, max_odds: f64) -> usize {
    let is_shown = |random: &mut Random, analysis: &mut Analysis| {
        analysis.take_in(&traffic.tick(random));
        analysis.failed.is_some()
    };
    median(200, is_shown, &rules(max_odds))
}

#[test]
fn regressions_are_found_no_later_than_promised() {
    let some = Traffic { requests: 250, share: 0.1, candidate: 0.05, baseline: 0.01 };
    assert!(ticks_to_failure(some, 1.0) <= 7);
    assert!(ticks_to_failure(some, 1.5) <= 12);
    let broken = Traffic { requests: 250, share: 0.05, candidate: 0.5, baseline: 0.001 };
    assert!(ticks_to_failure(broken, 1.0) <= 1);
    let twice = Traffic { requests: 500, share: 0.25, candidate: 0.01, baseline: 0.005 };
    assert!(ticks_to_failure(twice, 1.0) <= 34);
}

#[test]
fn slower_candidate_is_found_no_later_than_promised() {
    for (ticks, share) in [(5, 0.25), (13, 0.1)] {
        let mut events = LatencyEvents::new(Quantile::P95);
        let is_shown = |random: &mut Random, analysis: &mut Analysis| {
            if analysis.ticks == 0 {
                events = LatencyEvents::new(Quantile::P95);
            }
            let [candidate, baseline] = latencies(random, 500, share, 20_000.0, 1.3);
            analysis.take_in(&tick(events.end_tick(&candidate, &baseline)));
            analysis.failed.is_some()
        };
        let found = median(100, is_shown, &rules(1.0));
        assert!(found <= ticks, "{found} at {share}");
    }
}

fn non_inferior_rules() -> Rules {
    rules(1.5).gate(Gate::NonInferior { within: Odds::TWICE, alpha: Alpha::LENIENT })
}

fn shown_not_inferior(analysis: &Analysis) -> bool {
    analysis.metrics[0].not_inferior.as_ref().is_some_and(|shown| shown.ln_largest >= 20_f64.ln())
}

fn ticks_to_non_inferiority(traffic: Traffic) -> usize {
    let is_shown = |random: &mut Random, analysis: &mut Analysis| {
        analysis.take_in(&traffic.tick(random));
        shown_not_inferior(analysis)
    };
    median(200, is_shown, &non_inferior_rules())
}

#[test]
fn equal_candidate_is_shown_not_inferior_no_later_than_promised() {
    let half = Traffic { requests: 500, share: 0.5, candidate: 0.005, baseline: 0.005 };
    assert!(ticks_to_non_inferiority(half) <= 26);
    let tenth = Traffic { requests: 500, share: 0.1, candidate: 0.007, baseline: 0.007 };
    assert!(ticks_to_non_inferiority(tenth) <= 42);
}

#[test]
fn candidate_at_the_limit_hardly_ever_passes_as_not_inferior() {
    // The rate at which the closed form would always pass it.
    let (baseline, odds) = (0.3, 2.0 * 0.3 / 0.7);
    let traffic = Traffic { requests: 200, share: 0.5, candidate: odds / (1.0 + odds), baseline };
    let mut passed = 0;
    for run in 0..100 {
        let (mut random, mut analysis) = (Random::seeded(run), Analysis::new(non_inferior_rules()));
        (0..60).for_each(|_| analysis.take_in(&traffic.tick(&mut random)));
        passed += usize::from(shown_not_inferior(&analysis));
    }
    assert!(passed <= 13, "{passed}");
}
