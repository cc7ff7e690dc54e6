//! Sets and risk sets.

use super::*;

#[test]
fn visitor_is_new_once() {
    let set = VisitorSet::default();
    assert!(set.is_empty() && !set.contains(5));
    assert!(set.insert(5));
    assert!(!set.insert(5) && set.contains(5) && !set.contains(6));
    assert!(set.insert(u32::MAX) && set.contains(u32::MAX));
    assert_eq!(set.len(), 2);
    set.clear();
    assert!(set.is_empty() && !set.contains(5));
}

#[test]
fn every_bit_is_one_visitor() {
    let set = VisitorSet::default();
    assert!((0..BITS).all(|bits| set.insert(bits)));
    assert!((0..BITS).all(|bits| !set.insert(bits | BITS)), "only the low bits count");
    assert_eq!(set.len(), BITS);
}

#[test]
fn set_is_crowded_above_a_tenth() {
    let set = VisitorSet::default();
    (0..BITS / 10).for_each(|bits| assert!(set.insert(bits)));
    assert!(!set.is_crowded());
    set.insert(BITS - 1);
    assert!(set.is_crowded());
}

#[test]
fn one_answer_for_each_visitor_however_many_threads_ask() {
    let set = VisitorSet::default();
    let new = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20_000).filter(|bits| set.insert(*bits)).for_each(|_| _ = new.fetch_add(1, Relaxed)));
        }
    });
    assert_eq!((new.load(Relaxed), set.len()), (20_000, 20_000));
}

fn sample(events: u64, of: u64) -> Sample {
    Sample { of, events }
}

#[test]
fn visitor_counts_once_in_a_tick_and_once_for_the_event() {
    let sets = RiskSets::default();
    (0..5).for_each(|_| sets.note(1, Arm::Candidate, false));
    (0..5).for_each(|_| sets.note(2, Arm::Baseline, true));
    assert_eq!(sets.end_tick(), Arms { candidate: sample(0, 1), baseline: sample(1, 1) });
    sets.note(1, Arm::Candidate, false);
    sets.note(1, Arm::Candidate, true);
    sets.note(2, Arm::Baseline, true);
    assert_eq!(sets.end_tick(), Arms { candidate: sample(1, 1), baseline: sample(0, 0) });
}

#[test]
fn visitor_to_whom_it_happened_is_not_at_risk_on_the_other_arm_either() {
    let sets = RiskSets::default();
    sets.note(1, Arm::Baseline, true);
    sets.end_tick();
    sets.note(1, Arm::Candidate, true);
    assert_eq!(sets.end_tick(), Arms::default());
}

#[test]
fn set_survives_a_journal() {
    for visitors in [vec![], vec![0], vec![(1 << 20) - 1], vec![0, 1, 2, 8, 9, 700, 80_000, (1 << 20) - 1]] {
        let (set, again) = (VisitorSet::default(), VisitorSet::default());
        visitors.iter().for_each(|visitor| assert!(set.insert(*visitor)));
        again.add_text(&set.to_text());
        assert_eq!((again.len(), again.to_text()), (set.len(), set.to_text()));
        assert!(visitors.iter().all(|visitor| again.contains(*visitor)));
    }
    let (some, again) = (VisitorSet::default(), VisitorSet::default());
    for n in 0..10_000_u32 {
        some.insert(n.wrapping_mul(0x9e37_79b9));
    }
    assert!(some.to_text().len() < 40_000, "four digits each");
    again.add_text(&some.to_text());
    assert_eq!(again.len(), some.len());
}

#[test]
fn text_that_is_no_set_adds_nothing_impossible() {
    for (text, visitors) in [("x", 0), ("0x0", 1), ("ffffffffffffffff", 0), ("fffffff7", 0), ("8", 0)] {
        let set = VisitorSet::default();
        set.add_text(text);
        assert_eq!(set.len(), visitors, "{text}");
    }
}
