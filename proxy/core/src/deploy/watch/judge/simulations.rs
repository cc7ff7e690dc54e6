//! How often a judge with all of its metrics cries wolf, and how soon it sees one: seeded, so these are facts.

use super::*;
use crate::{analysis::random::Random, deploy::watch::tally::Counted, testing::id};

/// Requests of a tick of 5 s, and how each arm answers them.
#[derive(Clone, Copy)]
struct Traffic {
    requests: u64,
    share: f64,
    errors: [f64; 2],
    median_us: [f64; 2],
}

const EQUAL: Traffic = Traffic { requests: 100, share: 0.1, errors: [0.01; 2], median_us: [20_000.0; 2] };

fn spec() -> AnalyseSpec {
    AnalyseSpec {
        min_requests: 100,
        max_odds: 1.5,
        alpha: 0.01,
        gate: spec::Gate::NoHarm,
        on_fail: spec::OnFail::Rollback,
        on_inconclusive: spec::OnInconclusive::Pause,
    }
}

/// One deployment: its judge, and what was counted.
struct Run {
    judge: Judge,
    random: Random,
    readings: Vec<Reading>,
}

impl Run {
    fn new(seed: u64, spec: &AnalyseSpec) -> Self {
        let arms = crate::deploy::step::Arms { candidates: vec![id("green")], baseline: id("blue") };
        let judge = Judge::new(Lineup::new(&arms), Unit::Requests, spec, Past { requests: 10_000, errors: 100 });
        Self { judge, random: Random::seeded(seed), readings: vec![Reading::default(); 2] }
    }

    fn tick(&mut self, traffic: Traffic, changed: bool) -> Judged {
        let candidate = (traffic.requests as f64 * traffic.share).round() as u64;
        for (arm, requests) in [candidate, traffic.requests - candidate].into_iter().enumerate() {
            let mut counted = Counted { requests, ..Counted::default() };
            counted.errors = self.random.binomial(requests, traffic.errors[arm]);
            (0..requests).for_each(|_| counted.durations.count(self.random.latency(traffic.median_us[arm])));
            self.readings[arm].by_split.add(&counted);
        }
        let green = (traffic.share * 10_000.0) as u16;
        let weights = BTreeMap::from([(id("green"), green), (id("blue"), 10_000 - green)]);
        self.judge.feed(WatchTick {
            length: Duration::from_secs(5),
            changed,
            weights: &weights,
            readings: self.readings.clone(),
            pairs: Vec::new(),
        })
    }

    /// Ticks until it fails.
    fn fails_within(&mut self, most: usize, traffic: Traffic) -> Option<usize> {
        (1..=most).find(|_| self.tick(traffic, false).verdict == Verdict::Fail)
    }
}

/// Runs of so many that fail at any tick. A run is some ticks of each traffic, and a change between them.
fn failures(runs: u64, spec: &AnalyseSpec, ticks: usize, traffic: &[Traffic]) -> usize {
    let fails = |seed: &u64| {
        let mut run = Run::new(*seed, spec);
        traffic.iter().any(|traffic| {
            run.tick(*traffic, true);
            run.fails_within(ticks, *traffic).is_some()
        })
    };
    (0..runs).filter(fails).count()
}

fn median_ticks_to_failure(traffic: Traffic) -> usize {
    let mut each: Vec<usize> =
        (0..201).map(|seed| Run::new(1_000 + seed, &spec()).fails_within(60, traffic).unwrap_or(61)).collect();
    each.sort_unstable();
    each[100]
}

// Bounds are the 99.9 % quantiles of what a test at exactly its alpha would do.

#[test]
fn as_good_a_version_is_hardly_ever_said_to_be_worse() {
    let strict = AnalyseSpec { max_odds: 1.0, alpha: 0.05, ..spec() };
    let ramp = [0.05, 0.25, 0.5].map(|share| Traffic { share, ..EQUAL });
    let alarms = failures(200, &strict, 20, &ramp);
    assert!(alarms <= 21, "{alarms}");
    let alarms = failures(200, &spec(), 20, &ramp);
    assert!(alarms <= 8, "{alarms}");
}

#[test]
fn version_that_is_as_good_as_its_limit_hardly_ever_fails_it() {
    // The old version had 1 % and one more error; 1.5 times those odds are the limit.
    let limit = limit(1.5, Past { requests: 10_000, errors: 100 }).unwrap().rate();
    let everything = Traffic { share: 1.0, errors: [limit; 2], ..EQUAL };
    let alarms = failures(300, &AnalyseSpec { alpha: 0.05, ..spec() }, 60, &[everything]);
    assert!(alarms <= 28, "{alarms}");
    let worse = Traffic { errors: [0.05; 2], ..everything };
    assert!(median_ticks_to_failure(worse) <= 5);
}

#[test]
fn several_metrics_do_not_hide_what_one_of_them_shows() {
    let some = Traffic { requests: 250, errors: [0.05, 0.01], ..EQUAL };
    let ticks = median_ticks_to_failure(some);
    assert!(ticks <= 12, "{ticks}");
    let broken = Traffic { requests: 250, share: 0.05, errors: [0.5, 0.001], ..EQUAL };
    assert!(median_ticks_to_failure(broken) <= 1);
    let slower = Traffic { requests: 500, median_us: [26_000.0, 20_000.0], ..EQUAL };
    // 1.3 times as slow is 2.4 times the odds, of which 1.5 are tolerated.
    let ticks = median_ticks_to_failure(slower);
    assert!(ticks <= 30, "{ticks}");
}
