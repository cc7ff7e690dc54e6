//! Who wins, who does not, and how often somebody wins by luck.

use super::*;
use crate::analysis::random::Random;

fn rules(weights: &[u16]) -> ContestRules {
    let entrant = |(index, weight): (usize, &u16)| Entrant { target: format!("v{}", index + 1), weight: *weight };
    ContestRules::new(weights.iter().enumerate().map(entrant).collect(), Duration::from_secs(100)).unwrap()
}

fn tick(counts: &[(u64, u64)]) -> ContestTick {
    let count = |(new_visitors, conversions): &(u64, u64)| EntrantCount {
        new_visitors: *new_visitors,
        conversions: *conversions,
    };
    let counts = counts.iter().map(count).collect();
    ContestTick { length: Duration::from_secs(5), spans_weight_change: false, counts }
}

/// Visitors arrive by the weights, and each converts in the same tick or not.
fn draw(random: &mut Random, visitors: u64, weights: &[u16], rates: &[f64]) -> ContestTick {
    let (mut left, mut weight_left) = (visitors, weights.iter().map(|weight| f64::from(*weight)).sum::<f64>());
    let mut counts = Vec::new();
    for (weight, rate) in weights.iter().zip(rates) {
        let arrived = random.binomial(left, f64::from(*weight) / weight_left);
        counts.push((arrived, random.binomial(arrived, *rate)));
        left -= arrived;
        weight_left -= f64::from(*weight);
    }
    tick(&counts)
}

#[track_caller]
fn check(weights: &[u16], ticks: &[ContestTick], expected: Verdict, winner: Option<&str>) -> ContestJudgement {
    let mut contest = Contest::new(rules(weights));
    ticks.iter().for_each(|tick| contest.take_in(tick));
    let judgement = contest.judge();
    assert_eq!((judgement.verdict, judgement.winner.as_deref()), (expected, winner), "{judgement:#?}");
    judgement
}

#[test]
fn winner_beats_all_others() {
    let clear = tick(&[(100, 5), (100, 30), (100, 5)]);
    let judgement = check(&[1, 1, 1], &[clear.clone(), clear], Verdict::Pass, Some("v2"));
    assert_eq!(judgement.threshold, 3.0 * 2.0 / 0.05);
    assert_eq!(judgement.pairs.len(), 6);
    let entrant = EntrantJudgement { target: "v2".to_owned(), weight: 1, visitors: 200, conversions: 60 };
    assert_eq!(judgement.entrants[1], entrant);
}

#[test]
fn target_that_beats_some_but_not_all_has_not_won() {
    let both = tick(&[(100, 5), (100, 30), (100, 30)]);
    check(&[1, 1, 1], &vec![both.clone(); 19], Verdict::Running, None);
    check(&[1, 1, 1], &vec![both; 20], Verdict::Inconclusive, None);
}

#[test]
fn conversions_are_measured_by_the_weights() {
    let fair = tick(&[(900, 90), (100, 10)]);
    check(&[9_000, 1_000], &vec![fair; 20], Verdict::Inconclusive, None);
    let better = tick(&[(900, 45), (100, 25)]);
    check(&[9_000, 1_000], &vec![better; 4], Verdict::Pass, Some("v2"));
}

#[test]
fn too_few_visitors_decide_nothing() {
    check(&[1, 1], &vec![tick(&[(3, 0), (3, 0)]); 20], Verdict::InsufficientData, None);
}

#[test]
fn wrong_proportion_of_visitors_makes_the_test_invalid() {
    let skewed = tick(&[(150, 5), (100, 30)]);
    let judgement = check(&[1, 1], &vec![skewed; 10], Verdict::Inconclusive, None);
    assert!(judgement.sample_ratio.is_alarm() && judgement.reason.starts_with("invalid"), "{}", judgement.reason);
}

#[test]
fn small_skew_of_many_visitors_is_found() {
    let mut random = Random::seeded(7);
    let mut contest = Contest::new(rules(&[1, 1]));
    let found = (1..1_000).find(|_| {
        contest.take_in(&draw(&mut random, 200, &[52, 48], &[0.0, 0.0]));
        contest.judge().sample_ratio.is_alarm()
    });
    assert!(found.is_some_and(|ticks| ticks < 150), "{found:?}");
}

#[test]
fn tick_that_spans_a_change_of_weights_counts_only_as_time() {
    let spanning = ContestTick { spans_weight_change: true, ..tick(&[(100, 0), (100, 90)]) };
    let judgement = check(&[1, 1], &vec![spanning; 20], Verdict::InsufficientData, None);
    assert_eq!((judgement.ticks_discarded, judgement.elapsed_ms), (20, 100_000));
}

#[test]
fn short_or_small_contest_is_warned_about() {
    let judgement = check(&[1, 1], &[tick(&[(1_000, 120), (1_000, 99)])], Verdict::Running, None);
    assert_eq!(judgement.warnings.len(), 2, "{:?}", judgement.warnings);
    assert!(judgement.warnings[1].contains("v2 has only 99 conversions"));
}

#[test]
fn contest_that_cannot_be_held_is_refused() {
    let entrant = |target: &str, weight| Entrant { target: target.to_owned(), weight };
    let refused = |entrants| ContestRules::new(entrants, Duration::ZERO).unwrap_err();
    assert_eq!(refused(vec![entrant("a", 1)]), RulesError::Entrants(1));
    assert_eq!(refused((0..17).map(|i| entrant(&i.to_string(), 1)).collect()), RulesError::Entrants(17));
    assert_eq!(refused(vec![entrant("a", 1), entrant("b", 0)]), RulesError::NoWeight("b".to_owned()));
    assert_eq!(refused(vec![entrant("a", 1), entrant("a", 2)]), RulesError::EntrantTwice("a".to_owned()));
}

#[test]
fn contest_survives_a_journal() {
    let mut contest = Contest::new(rules(&[1, 1, 2]));
    contest.take_in(&tick(&[(100, 10), (110, 1_000_000_000), (190, 15)]));
    let text = serde_json::to_string(&contest).unwrap();
    let restored = serde_json::from_str::<Contest>(&text).unwrap();
    assert_eq!(rounded(restored.judge()), rounded(contest.judge()));
    let text = serde_json::to_string(&contest.judge()).unwrap();
    assert_eq!(rounded(serde_json::from_str(&text).unwrap()), rounded(contest.judge()));
}

/// JSON may lose the last bit of a number.
fn rounded(mut judgement: ContestJudgement) -> ContestJudgement {
    let round = |number: &mut f64| *number = format!("{number:.10e}").parse().unwrap();
    judgement.pairs.iter_mut().for_each(|pair| round(&mut pair.evidence));
    round(&mut judgement.sample_ratio.evidence);
    judgement
}

/// Runs that end with a winner, and runs that end invalid.
fn winners(runs: u64, ticks: usize, weights: &[u16], rates: &[f64]) -> (usize, usize) {
    let (mut won, mut invalid) = (0, 0);
    for run in 0..runs {
        let (mut random, mut contest) = (Random::seeded(run), Contest::new(rules(weights)));
        let mut at_any_time = false;
        for _ in 0..ticks {
            contest.take_in(&draw(&mut random, 100, weights, rates));
            at_any_time |= contest.winner().is_some();
        }
        won += usize::from(at_any_time);
        invalid += usize::from(contest.judge().sample_ratio.is_alarm());
    }
    (won, invalid)
}

#[test]
fn equal_targets_hardly_ever_have_a_winner_or_an_alarm() {
    // 99.9 % quantiles at 5 %, and at 0.1 % of invalid tests.
    let (won, invalid) = winners(400, 120, &[5_000, 5_000], &[0.05, 0.05]);
    assert!(won <= 35 && invalid <= 4, "{won} {invalid}");
    let (won, invalid) = winners(200, 60, &[6_000, 3_000, 1_000], &[0.05, 0.05, 0.05]);
    assert!(won <= 21 && invalid <= 3, "{won} {invalid}");
}

fn visitors_until_won(rates: [f64; 2], most: u64) -> u64 {
    let until_won = |run: u64| {
        let (mut random, mut contest) = (Random::seeded(500 + run), Contest::new(rules(&[1, 1])));
        let ticks = (1..=most / 100).find(|_| {
            contest.take_in(&draw(&mut random, 100, &[1, 1], &rates));
            contest.winner() == Some(1)
        });
        100 * ticks.unwrap_or(most)
    };
    let mut each: Vec<u64> = (0..101).map(until_won).collect();
    each.sort_unstable();
    each[50]
}

#[test]
fn better_target_wins_no_later_than_promised() {
    assert!(visitors_until_won([0.05, 0.075], 20_000) <= 3_600);
    assert!(visitors_until_won([0.05, 0.06], 60_000) <= 22_300);
}
