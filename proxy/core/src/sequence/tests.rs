use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn numbers() -> Vec<u16> {
    (0..PERIOD).map(number_at).collect()
}

fn weight(points: u16) -> Weight {
    Weight::from_points(points).unwrap()
}

fn table(weights: &[u16], stable: u32) -> SplitTable {
    SplitTable::new(weights.iter().zip(0..).map(|(points, at)| (TargetIdx(at), weight(*points))), TargetIdx(stable))
}

#[test]
fn every_number_comes_once_a_period() {
    let mut numbers = numbers();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..NUMBERS));
}

#[test]
fn any_hundred_consecutive_requests_are_within_two_of_every_weight() {
    // How many of the first hundred numbers are below x, less x / 100, in hundredths. The count in a range from a to b
    // is off by the difference of two of these, also for ranges over the end, since the last is zero. And any other
    // hundred requests are the first hundred moved around the circle. So one difference bounds them all.
    let mut first: Vec<_> = numbers().into_iter().take(100).map(i32::from).collect();
    first.sort_unstable();
    let off = |x: i32| first.partition_point(|number| *number < x) as i32 * 100 - x;
    assert_eq!(off(10_000), 0);
    let (least, most) = (0..10_000).fold((0, 0), |(least, most), x| (off(x).min(least), off(x).max(most)));
    assert!(most - least <= 200, "off by {} hundredths", most - least);
}

#[test]
fn any_hundred_consecutive_draws_are_within_two_of_the_weight_when_counted() {
    let numbers = numbers();
    for points in (0..=10_000).step_by(25) {
        let inside = |position: usize| i32::from(numbers[position % numbers.len()] < points);
        let mut count: i32 = (0..100).map(inside).sum();
        for start in 0..numbers.len() {
            assert!((count * 100 - i32::from(points)).abs() <= 200, "{count} of 100 from {start} with {points}");
            count += inside(start + 100) - inside(start);
        }
    }
}

#[test]
fn one_percent_never_comes_twice_in_a_row() {
    let numbers = numbers();
    for (at, number) in numbers.iter().enumerate() {
        let next = numbers[(at + 1) % numbers.len()];
        let apart = number.abs_diff(next);
        assert!(apart.min(NUMBERS - apart) >= 100, "{number} and {next}");
    }
}

#[test]
fn counter_stays_in_its_period_and_never_wraps() {
    let counter = AtomicU32::new(0);
    let expected = numbers();
    for round in 0..3 {
        for number in &expected {
            assert_eq!((peek(&counter), advance(&counter)), (*number, *number), "round {round}");
            assert!(counter.load(Relaxed) < PERIOD);
        }
    }
}

#[test]
fn counter_that_threads_share_is_still_exact() {
    let counter = AtomicU32::new(0);
    let seen: Vec<AtomicU32> = (0..NUMBERS).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..PERIOD * 2 {
                    seen[usize::from(advance(&counter))].fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert!(seen.iter().all(|count| count.load(Relaxed) == 8));
    assert_eq!(counter.load(Relaxed), 0);
}

#[test]
fn no_two_sequences_or_workers_share_a_counter() {
    let mut sequences = Sequences::new(2);
    let all: Vec<_> = (0..3 * BLOCK).map(|_| sequences.begin()).collect();
    let counters = || all.iter().flat_map(|sequence| [0, 1].map(|worker| sequence.of(Worker(worker))));
    for (counter, count) in counters().zip(1..) {
        counter.fetch_add(count, Relaxed);
    }
    assert!(counters().zip(1..).all(|(counter, count)| counter.load(Relaxed) == count));
    // A clone, and a worker beyond the shards, count on what is there.
    all[1].clone().of(Worker(2)).fetch_add(1, Relaxed);
    assert_eq!(all[1].of(Worker(0)).load(Relaxed), 4);
}

#[test]
fn every_weight_of_two_targets_has_exactly_its_numbers() {
    for points in 0..=NUMBERS {
        let table = table(&[points, NUMBERS - points], 1);
        let newcomer = (0..NUMBERS).filter(|number| table.pick(*number) == Some(TargetIdx(0)));
        assert!(newcomer.eq(0..points), "{points}");
    }
}

#[test]
fn stable_target_is_last_and_the_others_stand_by_name() {
    for (stable, expected) in [(0, [1, 2, 0]), (1, [0, 2, 1]), (2, [0, 1, 2])] {
        let table = table(&[5000, 3000, 2000], stable);
        let mut order: Vec<_> = (0..NUMBERS).filter_map(|number| table.pick(number)).map(|target| target.0).collect();
        order.dedup();
        assert_eq!(order, expected);
    }
}

#[test]
fn one_target_with_everything_needs_no_number() {
    assert_eq!(table(&[0, 10_000], 0).only(), Some(TargetIdx(1)));
    assert_eq!(table(&[1, 9_999], 0).only(), None);
    assert_eq!(SplitTable::default().only(), None);
    assert_eq!(SplitTable::default().pick(0), None);
}

proptest! {
    #[test]
    fn numbers_of_any_split_are_its_weights(cuts in proptest::collection::vec(0..=10_000_u16, 0..5), stable in 0..6_u32) {
        let mut cuts = cuts;
        cuts.extend([0, 10_000]);
        cuts.sort_unstable();
        let weights: Vec<_> = cuts.windows(2).map(|cut| cut[1] - cut[0]).collect();
        let table = table(&weights, stable);
        let mut counts = BTreeMap::<u32, u16>::new();
        for number in 0..NUMBERS {
            *counts.entry(table.pick(number).unwrap().0).or_default() += 1;
        }
        for (at, points) in weights.iter().enumerate() {
            prop_assert_eq!(counts.get(&(at as u32)).copied().unwrap_or(0), *points);
            let (begin, end) = table.range_of(TargetIdx(at as u32)).unwrap_or((0, 0));
            prop_assert_eq!(end - begin, *points);
        }
    }
}
