//! Verdicts: which one, when, and with which numbers.

use super::*;
use crate::analysis::rules::{Alpha, Odds, Rate, RulesError};

const FIVE_SECONDS: Duration = Duration::from_secs(5);

fn metric(name: &str, against: Against) -> Metric {
    Metric { name: name.to_owned(), against }
}

fn errors() -> Rules {
    Rules::new(vec![metric("errors", Against::Baseline)]).unwrap()
}

fn sample(events: u64, of: u64) -> Sample {
    Sample { of, events }
}

fn compared(candidate: Sample, baseline: Sample) -> Counts {
    Counts::Compared(Arms { candidate, baseline })
}

fn tick(metrics: &[Counts]) -> Tick {
    let requests = match metrics.first() {
        Some(Counts::Compared(Arms { candidate, baseline })) => Arms { candidate: candidate.of, baseline: baseline.of },
        Some(Counts::Alone(sample)) => Arms { candidate: sample.of, baseline: 0 },
        Some(Counts::ByShare { .. } | Counts::Unreadable) | None => Arms { candidate: 50, baseline: 50 },
    };
    Tick { length: FIVE_SECONDS, spans_weight_change: false, requests, metrics: metrics.to_vec() }
}

fn good() -> Tick {
    tick(&[compared(sample(0, 50), sample(1, 50))])
}

fn bad() -> Tick {
    tick(&[compared(sample(50, 50), sample(0, 50))])
}

/// The verdict after each tick of a window of 15 s.
#[track_caller]
fn check(rules: Rules, ticks: &[Tick], expected: Verdict, reason: &str) -> Judgement {
    let mut analysis = Analysis::new(rules);
    analysis.open_window(3 * FIVE_SECONDS);
    let mut judgement = analysis.judge();
    for tick in ticks {
        judgement = analysis.feed(tick);
    }
    assert_eq!(judgement.verdict, expected, "{judgement:#?}");
    assert!(judgement.reason.contains(reason), "{}", judgement.reason);
    judgement
}

#[test]
fn passes_only_when_the_time_is_over_and_nothing_bad_was_shown() {
    check(errors(), &[], Verdict::Running, "0ns of 15s");
    check(errors(), &[good(), good()], Verdict::Running, "10s of 15s");
    check(errors(), &[good(), good(), good()], Verdict::Pass, "nothing bad was shown in 15s");
    let late = || Tick { length: FIVE_SECONDS + Duration::from_micros(1250), ..good() };
    check(errors(), &[late(), late()], Verdict::Running, "10s of 15s");
    check(errors(), &[late(), late(), late()], Verdict::Pass, "nothing bad was shown in 15s");
}

#[test]
fn failure_comes_at_once_and_stays() {
    let judgement = check(errors(), &[bad()], Verdict::Fail, "errors: 50 of 50 (100.00 %) against 0 of 50 (0.00 %)");
    assert!(judgement.evidence >= judgement.threshold && judgement.threshold == 100.0);
    check(errors(), &[bad(), good(), good(), good(), good(), good(), good()], Verdict::Fail, "at tick 1;");
}

#[test]
fn numbers_that_led_to_a_verdict_are_in_it() {
    let slow = compared(sample(10, 1_000), sample(40, 9_000));
    let judgement = check(errors(), &[tick(&[slow]), tick(&[slow])], Verdict::Running, "10s of 15s");
    assert_eq!(judgement.requests, Arms { candidate: 2_000, baseline: 18_000 });
    assert_eq!((judgement.elapsed_ms, judgement.needed_ms), (10_000, Some(15_000)));
    assert_eq!((judgement.ticks, judgement.max_odds, judgement.min_requests), (2, 1.5, 100));
    let [metric] = &judgement.metrics[..] else { panic!("one metric") };
    assert_eq!((metric.candidate, metric.baseline), (sample(20, 2_000), Some(sample(80, 18_000))));
    let odds = metric.odds.unwrap();
    assert!((odds - (10.0 / 990.0) / (40.0 / 8_960.0)).abs() < 1e-9, "{odds}");
    assert_eq!(judgement.evidence, metric.evidence);
}

#[test]
fn too_little_traffic_is_neither_success_nor_failure() {
    let idle = tick(&[compared(sample(0, 0), sample(0, 500))]);
    let ticks = [idle.clone(), idle.clone(), idle];
    check(errors(), &ticks, Verdict::InsufficientData, "the candidate had 0 requests of the 100");
    let alone = tick(&[compared(sample(0, 500), sample(0, 33))]);
    let ticks = [alone.clone(), alone.clone(), alone];
    check(errors(), &ticks, Verdict::InsufficientData, "the baseline had 99 requests of the 100");
    check(errors().min_requests(99), &ticks, Verdict::Pass, "nothing bad");
}

#[test]
fn failure_needs_no_minimum_of_requests() {
    let few = tick(&[compared(sample(9, 9), sample(0, 500))]);
    check(errors(), &[few], Verdict::Fail, "9 of 9");
}

#[test]
fn tick_that_spans_a_change_of_weights_counts_only_as_time() {
    let spanning = Tick { spans_weight_change: true, ..bad() };
    let ticks = [spanning.clone(), spanning.clone(), spanning];
    let judgement = check(errors(), &ticks, Verdict::InsufficientData, "0 requests");
    assert_eq!((judgement.ticks, judgement.ticks_discarded, judgement.elapsed_ms), (0, 3, 15_000));
    assert!((judgement.evidence - 1.0).abs() < 1e-9, "{}", judgement.evidence);
}

#[test]
fn metric_that_cannot_be_read_neither_fails_nor_passes() {
    let unreadable = Tick { metrics: vec![Counts::Unreadable], ..good() };
    let missing = Tick { metrics: Vec::new(), ..good() };
    let mismatched = Tick { metrics: vec![Counts::Alone(sample(50, 50))], ..good() };
    let ticks = [unreadable, missing, mismatched];
    let judgement = check(errors(), &ticks, Verdict::Inconclusive, "errors could not be read");
    assert_eq!(judgement.metrics[0].ticks_unreadable, 3);
}

#[test]
fn each_window_counts_its_own_time_and_traffic_but_the_evidence_goes_on() {
    let mut analysis = Analysis::new(errors());
    let slightly = tick(&[compared(sample(8, 50), sample(2, 50))]);
    assert_eq!(analysis.feed(&slightly).verdict, Verdict::Running);
    analysis.open_window(FIVE_SECONDS);
    assert_eq!(analysis.judge().requests, Arms::default());
    let first = analysis.judge().evidence;
    assert!(first > 1.0);
    assert_eq!(analysis.feed(&slightly).verdict, Verdict::InsufficientData);
    analysis.extend(FIVE_SECONDS);
    assert_eq!(analysis.judge().verdict, Verdict::Running);
    analysis.close_window();
    let judgement = analysis.feed(&good());
    assert_eq!((judgement.verdict, judgement.needed_ms), (Verdict::Running, None));
    let judgement = analysis.feed(&bad());
    assert_eq!(judgement.verdict, Verdict::Fail, "the guard is on without a window too");
}

#[test]
fn metrics_are_one_test_by_the_mean_of_their_evidence() {
    let two = Rules::new(vec![metric("errors", Against::Baseline), metric("p95", Against::Baseline)]).unwrap();
    let (quiet, loud) = (compared(sample(1, 50), sample(1, 50)), compared(sample(12, 50), sample(3, 50)));
    let mut analysis = Analysis::new(two);
    let judgement = analysis.feed(&tick(&[quiet, loud]));
    let each: Vec<f64> = judgement.metrics.iter().map(|metric| metric.evidence).collect();
    assert!((judgement.evidence - (each[0] + each[1]) / 2.0).abs() < 1e-9 * judgement.evidence);
    let failed = loop {
        let judgement = analysis.feed(&tick(&[quiet, loud]));
        if judgement.verdict == Verdict::Fail {
            break judgement;
        }
    };
    assert!(failed.reason.contains("; p95: "), "{}", failed.reason);
}

#[test]
fn gate_of_non_inferiority_needs_every_metric_to_show_it() {
    let gate = Gate::NonInferior { within: Odds::TWICE, alpha: Alpha::LENIENT };
    let two =
        Rules::new(vec![metric("errors", Against::Baseline), metric("slow", Against::Baseline)]).unwrap().gate(gate);
    let (plenty, nothing) = (compared(sample(20, 500), sample(20, 500)), compared(sample(0, 500), sample(0, 500)));
    let shown = vec![tick(&[plenty, plenty]); 6];
    let judgement = check(two.clone(), &shown, Verdict::Pass, "nothing bad");
    assert!(judgement.metrics.iter().all(|metric| metric.not_inferior.is_some_and(Reached::is_enough)));
    let half_shown = vec![tick(&[plenty, nothing]); 6];
    check(two, &half_shown, Verdict::Inconclusive, "slow is not shown to be as good: evidence 1.000 of 20");
}

#[test]
fn what_was_shown_stays_shown() {
    let gate = Gate::NonInferior { within: Odds::TWICE, alpha: Alpha::LENIENT };
    let mut analysis = Analysis::new(errors().gate(gate));
    let shown = |judgement: &Judgement| judgement.metrics[0].not_inferior.unwrap().evidence;
    let equal = tick(&[compared(sample(20, 500), sample(20, 500))]);
    let largest = (0..6).map(|_| shown(&analysis.feed(&equal))).fold(0.0, f64::max);
    let unlucky = tick(&[compared(sample(12, 500), sample(8, 500))]);
    assert_eq!(shown(&analysis.feed(&unlucky)), largest);
}

#[test]
fn limit_is_held_without_a_baseline() {
    let limit = Against::Limit(Rate::try_from(0.01).unwrap());
    let rules = Rules::new(vec![metric("errors", limit)]).unwrap();
    let within = tick(&[Counts::Alone(sample(2, 500))]);
    let judgement =
        check(rules.clone(), &[within.clone(), within.clone(), within.clone()], Verdict::Pass, "nothing bad");
    assert_eq!(judgement.metrics[0].baseline, None);
    let above = tick(&[Counts::Alone(sample(25, 500))]);
    check(rules.clone(), &[above.clone(), above], Verdict::Fail, "against its limit, about 5.2 times the odds");
    let strict = rules.gate(Gate::NonInferior { within: Odds::TWICE, alpha: Alpha::LENIENT });
    let at_limit = tick(&[Counts::Alone(sample(5, 500))]);
    check(strict.clone(), &vec![at_limit; 20], Verdict::Inconclusive, "errors is not shown");
    check(strict, &vec![within; 20], Verdict::Pass, "nothing bad");
}

#[test]
fn mirrored_requests_are_compared_by_which_copy_failed() {
    let only = |candidate, baseline| Counts::ByShare { share: 0.5, events: Arms { candidate, baseline } };
    check(errors(), &vec![tick(&[only(3, 3)]); 3], Verdict::Pass, "nothing bad");
    let judgement = check(errors(), &[tick(&[only(20, 1)])], Verdict::Fail, "about 20.0 times the odds");
    assert_eq!(judgement.metrics[0].odds, Some(20.0));
}

#[test]
fn shared_outage_does_not_distort_the_odds() {
    // Pooled, the candidate would look better: it had little traffic during the outage.
    let mut analysis = Analysis::new(errors());
    analysis.feed(&tick(&[compared(sample(15, 50), sample(135, 450))]));
    let judgement = analysis.feed(&tick(&[compared(sample(3, 300), sample(2, 200))]));
    assert!((judgement.metrics[0].odds.unwrap() - 1.0).abs() < 1e-9);
}

#[test]
fn analysis_and_judgement_survive_a_journal() {
    let gate = Gate::NonInferior { within: Odds::TWICE, alpha: Alpha::LENIENT };
    let limit = Against::Limit(Rate::try_from(0.01).unwrap());
    let rules = Rules::new(vec![metric("errors", Against::Baseline), metric("rate", limit)]).unwrap().gate(gate);
    let mut analysis = Analysis::new(rules);
    analysis.open_window(3 * FIVE_SECONDS);
    let enormous = compared(sample(1_000_000_000, 1_000_000_000), sample(0, 1_000_000_000));
    let alone = Counts::Alone(sample(1_000_000_000, 1_000_000_000));
    for tick in [good(), tick(&[enormous, alone]), tick(&[enormous, alone])] {
        let judgement = analysis.feed(&tick);
        let text = serde_json::to_string(&judgement).unwrap();
        assert_eq!(rounded(serde_json::from_str(&text).unwrap()), rounded(judgement), "{text}");
        let text = serde_json::to_string(&analysis).unwrap();
        let mut restored: Analysis = serde_json::from_str(&text).unwrap();
        assert_eq!(rounded(restored.feed(&good())), rounded(analysis.clone().feed(&good())), "{text}");
    }
    assert_eq!(analysis.judge().evidence, f64::MAX);
}

/// JSON may lose the last bit of a number.
fn rounded(mut judgement: Judgement) -> Judgement {
    let round = |number: &mut f64| *number = format!("{number:.10e}").parse().unwrap();
    round(&mut judgement.evidence);
    for metric in &mut judgement.metrics {
        round(&mut metric.evidence);
        metric.odds.iter_mut().for_each(round);
        metric.not_inferior.iter_mut().for_each(|reached| round(&mut reached.evidence));
    }
    judgement
}

#[test]
fn rules_that_cannot_be_tested_are_refused() {
    assert_eq!(Rules::new(Vec::new()), Err(RulesError::NoMetric));
    let twice = vec![metric("errors", Against::Baseline), metric("errors", Against::Baseline)];
    assert_eq!(Rules::new(twice), Err(RulesError::MetricTwice("errors".to_owned())));
    for alpha in [0.0, -0.01, 0.51, 1.0, f64::INFINITY] {
        assert_eq!(Alpha::try_from(alpha), Err(RulesError::Alpha(alpha)));
    }
    for odds in [0.0, 0.99, 101.0] {
        assert_eq!(Odds::try_from(odds), Err(RulesError::Odds(odds)));
    }
    for rate in [0.0, 1.0, -1.0, 2.0] {
        assert_eq!(Rate::try_from(rate), Err(RulesError::Rate(rate)));
    }
    let nan = f64::NAN;
    assert!(Alpha::try_from(nan).is_err() && Odds::try_from(nan).is_err() && Rate::try_from(nan).is_err());
    let good = serde_json::to_string(&errors()).unwrap();
    assert_eq!(serde_json::from_str::<Rules>(&good).unwrap(), errors());
    for (from, to) in [("0.01", "0"), ("1.5", "0.5"), ("}]", "},{\"name\":\"errors\",\"against\":\"baseline\"}]")] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good);
        assert!(serde_json::from_str::<Rules>(&text).is_err(), "{text}");
    }
}
