//! Every pair of a machine and an observation, and the stories that the rules are made for.

use Health::{Healthy, Suspect, Unhealthy, Unknown};
use Observation::{ConnectFailed, ProbeFailed, ProbePassed, ServerErrors};

use super::*;

const NOW: Duration = Duration::from_secs(1_000);
const HEALTHS: [Health; 4] = [Unknown, Healthy, Suspect, Unhealthy];
const OBSERVATIONS: [Observation; 4] = [ProbePassed, ProbeFailed, ConnectFailed, ServerErrors];

fn active() -> Rules {
    let thresholds = Thresholds { fall: 2, rise: 2 };
    Rules { probing: Probing::Active, thresholds, interval: Duration::from_secs(5) }
}

fn passive() -> Rules {
    Rules::of(&HealthPolicy::Passive)
}

/// Calls `each` with every combination of a machine (counters up to 5), an observation and the rules.
fn for_every_pair(mut each: impl FnMut(Machine, Observation, Rules, Elsewhere)) {
    let untils = [None, Some(NOW), Some(NOW + Duration::from_millis(1)), Some(NOW + ERRORS_HOLD * 2)];
    for health in HEALTHS {
        for counters in 0..36 {
            for suspect_until in untils {
                let machine = Machine { health, failures: counters / 6, successes: counters % 6, suspect_until };
                for rules in 0..18 {
                    let probing = if rules < 9 { Probing::Active } else { Probing::Passive };
                    let thresholds = Thresholds { fall: rules % 3 + 1, rise: rules / 3 % 3 + 1 };
                    let rules = Rules { probing, thresholds, interval: Duration::from_secs(5) };
                    for elsewhere in [Elsewhere::Available, Elsewhere::Nothing] {
                        for seen in OBSERVATIONS {
                            each(machine, seen, rules, elsewhere);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_step_keeps_to_the_rules() {
    let mut pairs = 0;
    for_every_pair(|before, seen, rules, elsewhere| {
        pairs += 1;
        let after = before.step(seen, &rules, elsewhere, NOW);
        let context = format!("{before:?} + {seen:?} by {rules:?}, {elsewhere:?} -> {after:?}");
        let failed = matches!(seen, ProbeFailed | ConnectFailed);
        let passive_sign = matches!(seen, ConnectFailed | ServerErrors);
        let moved = before.health != after.health;
        if moved && after.health == Healthy {
            assert_eq!(seen, ProbePassed, "only a probe speaks for an endpoint: {context}");
            assert_eq!(after, Machine { health: Healthy, ..Machine::default() }, "{context}");
        }
        if moved && after.health == Unhealthy {
            assert!(failed, "only a failure takes out: {context}");
            assert!(before.failures + 1 >= rules.thresholds.fall, "not before it is due: {context}");
            assert!(!(passive_sign && elsewhere == Elsewhere::Nothing), "never the last one by a sign: {context}");
        }
        assert!(!(moved && after.health == Unknown), "what was known is not forgotten: {context}");
        if before.health == Suspect && after.health == Healthy {
            assert!(before.suspect_until.is_none_or(|until| until <= NOW), "not before its time: {context}");
        }
        if before.health == Unhealthy && seen != ProbePassed {
            assert_eq!(after.health, Unhealthy, "{context}");
        }
        if before.health == Unhealthy && seen == ProbePassed {
            let due = before.successes + 1 >= rules.thresholds.rise || elsewhere == Elsewhere::Nothing;
            assert_eq!(after.health == Healthy, due, "{context}");
        }
        if passive_sign && matches!(before.health, Unknown | Unhealthy) {
            assert_eq!(after, before, "a late sign says nothing: {context}");
        }
        if passive_sign && matches!(before.health, Healthy | Suspect) {
            assert!(matches!(after.health, Suspect | Unhealthy), "{context}");
        }
        if seen == ProbePassed && matches!(before.health, Unknown | Healthy) {
            assert_eq!(after.health, Healthy, "{context}");
        }
        if seen == ProbePassed {
            assert!(after.failures == 0 || before.health == Unhealthy, "a pass ends a run of failures: {context}");
        }
        if seen == ProbeFailed && after.health != before.health {
            assert_eq!(after.health, Unhealthy, "{context}");
        }
    });
    assert_eq!(pairs, 4 * 36 * 4 * 18 * 2 * 4);
}

#[test]
fn enough_probes_decide_from_wherever_it_stands() {
    for_every_pair(|start, _, rules, elsewhere| {
        let later = NOW + ERRORS_HOLD * 3;
        let passed = (0..3).fold(start, |machine, _| machine.step(ProbePassed, &rules, elsewhere, later));
        assert_eq!(passed.health, Healthy, "{start:?} {rules:?}");
        let failed = (0..3).fold(start, |machine, _| machine.step(ProbeFailed, &rules, elsewhere, later));
        let last_one = rules.probing == Probing::Passive && elsewhere == Elsewhere::Nothing;
        assert_eq!(failed.health == Unhealthy, !last_one || start.health == Unhealthy, "{start:?} {rules:?}");
    });
}

/// Runs a story: each observation and the health after it.
fn check(rules: &Rules, elsewhere: Elsewhere, start: Health, story: &[(Observation, Health)]) -> Machine {
    let mut machine = Machine::new(start, rules);
    for (step, (seen, expect)) in story.iter().enumerate() {
        machine = machine.step(*seen, rules, elsewhere, NOW);
        assert_eq!(machine.health, *expect, "step {step}: {seen:?}");
    }
    machine
}

#[test]
fn a_new_endpoint_is_used_after_one_pass_and_given_up_after_fall_failures() {
    check(&active(), Elsewhere::Available, Unknown, &[(ProbePassed, Healthy)]);
    check(&active(), Elsewhere::Available, Unknown, &[(ProbeFailed, Unknown), (ProbeFailed, Unhealthy)]);
    check(&active(), Elsewhere::Available, Unknown, &[(ProbeFailed, Unknown), (ProbePassed, Healthy)]);
}

#[test]
fn verdicts_must_come_in_a_row() {
    let falls = [(ProbeFailed, Healthy), (ProbePassed, Healthy), (ProbeFailed, Healthy), (ProbeFailed, Unhealthy)];
    check(&active(), Elsewhere::Available, Healthy, &falls);
    let rises = [(ProbePassed, Unhealthy), (ProbeFailed, Unhealthy), (ProbePassed, Unhealthy), (ProbePassed, Healthy)];
    check(&active(), Elsewhere::Available, Unhealthy, &rises);
}

#[test]
fn one_pass_brings_back_the_only_endpoint() {
    check(&active(), Elsewhere::Nothing, Unhealthy, &[(ProbePassed, Healthy)]);
}

#[test]
fn a_refused_connection_and_a_failed_probe_take_out() {
    check(&active(), Elsewhere::Available, Healthy, &[(ConnectFailed, Suspect), (ProbeFailed, Unhealthy)]);
}

#[test]
fn with_probes_a_burst_of_refused_connections_counts_once() {
    let burst = [(ConnectFailed, Suspect); 40];
    let machine = check(&active(), Elsewhere::Available, Healthy, &burst);
    assert_eq!(machine.failures, 1);
}

#[test]
fn a_suspicion_by_connection_clears_at_the_next_pass_after_a_moment() {
    let rules = active();
    let machine = check(&rules, Elsewhere::Available, Healthy, &[(ConnectFailed, Suspect), (ProbePassed, Suspect)]);
    let later = NOW + SUSPECT_PROBE;
    assert_eq!(machine.step(ProbePassed, &rules, Elsewhere::Available, later).health, Healthy);
}

#[test]
fn a_suspicion_by_errors_lasts_ten_seconds_whatever_the_probes_say() {
    let rules = active();
    let machine = check(&rules, Elsewhere::Available, Healthy, &[(ServerErrors, Suspect), (ProbePassed, Suspect)]);
    let almost = NOW + ERRORS_HOLD - Duration::from_millis(1);
    assert_eq!(machine.step(ProbePassed, &rules, Elsewhere::Available, almost).health, Suspect);
    assert_eq!(machine.step(ProbePassed, &rules, Elsewhere::Available, NOW + ERRORS_HOLD).health, Healthy);
    let renewed = machine.step(ServerErrors, &rules, Elsewhere::Available, almost);
    assert_eq!(renewed.step(ProbePassed, &rules, Elsewhere::Available, NOW + ERRORS_HOLD).health, Suspect);
    let refused = machine.step(ConnectFailed, &rules, Elsewhere::Available, NOW);
    assert_eq!(refused.suspect_until, machine.suspect_until, "a shorter suspicion does not shorten a longer one");
}

#[test]
fn without_probes_an_endpoint_is_in_use_and_five_refusals_take_it_out() {
    let story = [
        (ConnectFailed, Suspect),
        (ConnectFailed, Suspect),
        (ConnectFailed, Suspect),
        (ConnectFailed, Suspect),
        (ConnectFailed, Unhealthy),
        (ProbePassed, Healthy),
    ];
    check(&passive(), Elsewhere::Available, Unknown, &story);
}

#[test]
fn without_probes_a_connection_that_opens_ends_the_streak() {
    let mut story = vec![(ConnectFailed, Suspect); 4];
    story.push((ProbePassed, Suspect));
    story.extend([(ConnectFailed, Suspect); 4]);
    check(&passive(), Elsewhere::Available, Healthy, &story);
}

#[test]
fn without_probes_the_last_endpoint_is_never_taken_out() {
    let story = [(ConnectFailed, Suspect), (ProbeFailed, Suspect)].repeat(20);
    let machine = check(&passive(), Elsewhere::Nothing, Healthy, &story);
    let failover = machine.step(ProbeFailed, &passive(), Elsewhere::Available, NOW);
    assert_eq!(failover.health, Unhealthy, "but it is as soon as there is another");
}

#[test]
fn a_machine_goes_on_from_what_is_known() {
    for health in HEALTHS {
        assert_eq!(Machine::new(health, &active()).health, health);
        let expect = if health == Unknown { Healthy } else { health };
        assert_eq!(Machine::new(health, &passive()).health, expect);
    }
}

/// The wait before the next probe, without spread.
fn wait(rules: &Rules, elsewhere: Elsewhere, machine: Machine) -> Option<u64> {
    machine.next_probe_in(rules, elsewhere, 0).map(|wait| u64::try_from(wait.as_millis()).unwrap())
}

#[test]
fn the_next_probe_comes_sooner_the_nearer_a_verdict_is() {
    let at = |health, failures, successes| Machine { health, failures, successes, suspect_until: None };
    for (machine, millis) in [
        (at(Unknown, 0, 0), 0),
        (at(Unknown, 1, 0), 1_000),
        (at(Healthy, 0, 0), 5_000),
        (at(Healthy, 1, 0), 1_000),
        (at(Suspect, 0, 0), 1_000),
        (at(Suspect, 1, 0), 250),
        (at(Unhealthy, 0, 0), 5_000),
        (at(Unhealthy, 0, 1), 1_000),
    ] {
        assert_eq!(wait(&active(), Elsewhere::Available, machine), Some(millis), "{machine:?}");
    }
    assert_eq!(wait(&active(), Elsewhere::Nothing, at(Unhealthy, 0, 0)), Some(1_000));
    let quick = Rules { interval: Duration::from_millis(100), ..active() };
    assert_eq!(wait(&quick, Elsewhere::Available, at(Healthy, 1, 0)), Some(100));
    assert_eq!(wait(&quick, Elsewhere::Available, at(Suspect, 1, 0)), Some(100));
}

#[test]
fn without_probes_only_what_is_spoken_against_is_probed() {
    let at = |health| Machine { health, ..Machine::default() };
    assert_eq!(wait(&passive(), Elsewhere::Available, at(Healthy)), None);
    assert_eq!(wait(&passive(), Elsewhere::Available, at(Suspect)), Some(1_000));
    assert_eq!(wait(&passive(), Elsewhere::Available, at(Unhealthy)), Some(1_000));
}

#[test]
fn the_spread_shortens_by_up_to_a_tenth_and_never_lengthens() {
    let healthy = Machine { health: Healthy, ..Machine::default() };
    let wait = |draw| healthy.next_probe_in(&active(), Elsewhere::Available, draw).unwrap();
    assert_eq!(wait(0), Duration::from_millis(5_000));
    assert_eq!(wait(u32::MAX), Duration::from_millis(4_500));
    let half = wait(u32::MAX / 2);
    assert!(half > Duration::from_millis(4_749) && half < Duration::from_millis(4_751), "{half:?}");
}

#[test]
fn becoming_suspect_asks_for_a_probe_at_once_and_staying_so_does_not() {
    for_every_pair(|before, seen, rules, elsewhere| {
        let after = before.step(seen, &rules, elsewhere, NOW);
        let became = before.health == Healthy && after.health == Suspect;
        assert_eq!(Machine::asks_for_probe(before, after), became);
    });
}
