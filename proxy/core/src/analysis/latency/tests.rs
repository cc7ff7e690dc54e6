//! Buckets, quantiles and thresholds.

use proptest::prelude::*;

use super::*;
use crate::stats::BUCKET_BOUNDS_US;

#[test]
fn buckets_follow_each_other_without_a_gap() {
    for bucket in 0..BUCKETS - 1 {
        let end = end_of(bucket).unwrap();
        assert_eq!((bucket_of(end - 1), bucket_of(end)), (bucket, bucket + 1), "{end}");
    }
    assert_eq!(bucket_of(0), 0);
    assert_eq!((bucket_of(1 << 26), bucket_of(u64::MAX), end_of(BUCKETS - 1)), (BUCKETS - 1, BUCKETS - 1, None));
}

#[test]
fn third_as_slow_again_is_another_bucket_here_but_mostly_not_among_the_metrics_bounds() {
    let coarse = |micros: u64| BUCKET_BOUNDS_US.partition_point(|bound| *bound <= micros);
    let times: Vec<u64> = (0..100).map(|step| (1_000.0 * 1.1_f64.powi(step)) as u64).collect();
    assert!(times.iter().all(|time| bucket_of(*time) < bucket_of(time * 13 / 10)));
    let alike = times.iter().filter(|time| coarse(**time) == coarse(**time * 13 / 10)).count();
    assert!(alike > 60, "{alike} of 100: then one histogram would do");
}

#[test]
fn quantile_is_the_first_bucket_that_reaches_its_rank() {
    let mut histogram = Histogram::default();
    assert_eq!(histogram.bucket_at(Quantile::P50), None);
    (1..=100).for_each(|millis| histogram.count(millis * 1_000));
    for (quantile, millis) in [(Quantile::P50, 50), (Quantile::P95, 95), (Quantile::P99, 99)] {
        assert_eq!(histogram.bucket_at(quantile), Some(bucket_of(millis * 1_000)), "{quantile:?}");
    }
    let above = |millis: u64| histogram.above(bucket_of(millis * 1_000));
    assert_eq!((above(100), above(1_000)), (0, 0));
    assert!(above(50) <= 50 && above(50) >= 40);
}

#[test]
fn windows_are_differences_of_readings() {
    let counted = AtomicHistogram::default();
    counted.count(1_000);
    let earlier = counted.read();
    counted.count(1_000);
    counted.count(90_000_000);
    let window = counted.read().since(&earlier);
    assert_eq!((window.total(), window.above(bucket_of(1_000))), (2, 1));
    assert_eq!(earlier.since(&counted.read()).total(), 0, "a counter that fell counts as zero");
    let mut sum = window.clone();
    sum.add(&earlier);
    assert_eq!(sum, counted.read());
}

fn requests(count: u64, micros: u64) -> Histogram {
    let mut histogram = Histogram::default();
    (0..count).for_each(|_| histogram.count(micros));
    histogram
}

#[test]
fn threshold_comes_from_earlier_ticks_only() {
    let mut events = LatencyEvents::new(Quantile::P50);
    let (fast, slow) = (requests(300, 10_000), requests(300, 100_000));
    assert_eq!(events.end_tick(&slow, &fast), Counts::Unreadable);
    let threshold = events.slow_from_us().unwrap();
    assert!((10_001..=11_250).contains(&threshold), "{threshold}");
    let all = Sample { of: 300, events: 300 };
    assert_eq!(events.end_tick(&slow, &slow), Counts::Compared(Arms { candidate: all, baseline: all }));
    let none = Sample { of: 300, events: 0 };
    assert_eq!(events.end_tick(&slow, &slow), Counts::Compared(Arms { candidate: none, baseline: none }));
}

#[test]
fn threshold_waits_for_enough_requests_of_the_baseline() {
    let mut events = LatencyEvents::new(Quantile::P99);
    let few = requests(REQUESTS_PER_THRESHOLD - 1, 10_000);
    assert_eq!(events.end_tick(&few, &few), Counts::Unreadable);
    assert_eq!(events.slow_from_us(), None);
    let one = requests(1, 10_000);
    assert_eq!(events.end_tick(&one, &one), Counts::Unreadable);
    assert!(events.slow_from_us().is_some());
}

#[test]
fn quantile_outside_of_its_bounds_is_refused() {
    assert_eq!(Quantile::try_from(0), Err(RulesError::Quantile(0)));
    assert_eq!(Quantile::try_from(1_000), Err(RulesError::Quantile(1_000)));
    assert_eq!(serde_json::from_str::<Quantile>("950").unwrap(), Quantile::P95);
}

#[test]
fn events_survive_a_journal() {
    let mut events = LatencyEvents::new(Quantile::P95);
    events.end_tick(&requests(250, 5_000), &requests(250, 5_000));
    events.end_tick(&requests(50, 5_000), &requests(50, 5_000));
    let text = serde_json::to_string(&events).unwrap();
    assert_eq!(serde_json::from_str::<LatencyEvents>(&text).unwrap(), events);
}

proptest! {
    #[test]
    fn bucket_holds_its_times_to_an_eighth(micros in 8..(1_u64 << 26)) {
        let bucket = bucket_of(micros);
        let (begin, end) = (end_of(bucket - 1).unwrap(), end_of(bucket).unwrap());
        prop_assert!((begin..end).contains(&micros));
        prop_assert!((end - begin) * PER_OCTAVE <= begin);
    }
}

#[test]
fn nothing_is_slow_below_what_anybody_notices() {
    for (baseline_us, slow_from_us) in [(300, 5_120), (4_000, 5_120), (20_000, 20_480)] {
        let mut events = LatencyEvents::noticeable(Quantile::P95, Duration::from_millis(5));
        events.end_tick(&requests(0, 0), &requests(1_000, baseline_us));
        let from = events.slow_from_us().unwrap();
        assert!(from <= slow_from_us && from * 9 >= slow_from_us * 8, "{from} for {baseline_us}");
        assert!(from >= 4_600 && from > baseline_us, "{from} for {baseline_us}");
    }
}
