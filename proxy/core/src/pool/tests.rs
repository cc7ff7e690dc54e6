use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    Health::{Healthy, Suspect},
    Snapshot,
    testing::{Scene, at, web},
};

fn target(snapshot: &Snapshot) -> &Target {
    web(snapshot).target(at(snapshot, "green")).unwrap()
}

fn scene(weights: &[u16]) -> Scene {
    Scene::new(&[("green", weights.len() as u16)]).weights("green", weights)
}

/// Random bits whose lower half, scaled to the sum of weights, is every point of the first draw in turn.
fn every_point(total: u32) -> impl Iterator<Item = u64> {
    let point = move |point: u64| (point << 32).div_ceil(u64::from(total));
    (0..u64::from(total)).map(move |first| point(first) | point(first) << 32)
}

#[test]
fn idle_endpoints_are_chosen_exactly_by_weight() {
    let snapshot = scene(&[1, 2, 5, 92]).snapshot();
    let mut counts = BTreeMap::<u32, u32>::new();
    for random in every_point(100) {
        *counts.entry(choose(target(&snapshot), std::iter::empty(), random).unwrap().0).or_default() += 1;
    }
    assert_eq!(counts, [(0, 1), (1, 2), (2, 5), (3, 92)].into());
}

#[test]
fn fewer_requests_per_weight_win_between_two() {
    for (in_flight, weights, expected) in
        [([0, 1], [1, 1], 0), ([1, 0], [1, 1], 1), ([3, 2], [2, 1], 0), ([5, 2], [2, 1], 1), ([9, 1], [1000, 100], 0)]
    {
        let snapshot = scene(&weights).snapshot();
        let target = target(&snapshot);
        target.endpoints.iter().zip(in_flight).for_each(|(endpoint, n)| endpoint.stats.in_flight.store(n, Relaxed));
        for random in every_point(100) {
            assert_eq!(
                choose(target, std::iter::empty(), random),
                Some(EndpointIdx(expected)),
                "{in_flight:?} {weights:?}"
            );
        }
    }
}

#[test]
fn most_loaded_endpoint_is_never_chosen_beside_others() {
    let snapshot = scene(&[1, 1, 1]).snapshot();
    let target = target(&snapshot);
    target.endpoints[1].stats.in_flight.store(100, Relaxed);
    for (first, second) in (0..64_u64).flat_map(|first| (0..64).map(move |second| (first << 26, second << 26))) {
        assert_ne!(choose(target, std::iter::empty(), first | second << 32), Some(EndpointIdx(1)));
    }
}

#[test]
fn healthy_endpoints_come_before_suspect_ones_until_they_were_tried() {
    let snapshot = scene(&[1, 1]).health("green", &[Suspect, Healthy]).snapshot();
    let target = target(&snapshot);
    assert_eq!(choose(target, std::iter::empty(), 0), Some(EndpointIdx(1)));
    assert_eq!(choose(target, [EndpointIdx(1)].into_iter(), 0), Some(EndpointIdx(0)));
    assert_eq!(choose(target, [EndpointIdx(0), EndpointIdx(1)].into_iter(), 0), None);
}

proptest! {
    #[test]
    fn tried_endpoints_are_never_chosen_and_others_always_are(
        weights in proptest::collection::vec(1..=1000_u16, 1..12),
        tried in proptest::collection::btree_set(0..12_u32, 0..7),
        random in any::<u64>(),
    ) {
        let snapshot = scene(&weights).snapshot();
        let found = choose(target(&snapshot), tried.iter().map(|at| EndpointIdx(*at)), random);
        let left = (0..weights.len() as u32).any(|at| !tried.contains(&at));
        prop_assert_eq!(found.is_some(), left);
        prop_assert!(found.is_none_or(|found| !tried.contains(&found.0) && found.get() < weights.len()));
    }

    #[test]
    fn draw_beside_excluded_ones_keeps_the_weights(
        weights in proptest::collection::vec(1..=9_u16, 2..7),
        excluded in proptest::collection::btree_set(0..7_usize, 1..4),
    ) {
        let snapshot = scene(&weights).snapshot();
        let Pool::Many(pool) = &target(&snapshot).pools.healthy else { panic!("two or more") };
        let mut out = Excluded::default();
        excluded.iter().rev().filter(|at| **at < weights.len()).for_each(|at| out.add(*at));
        let left: u32 = (0..weights.len()).filter(|at| !excluded.contains(at)).map(|at| u32::from(weights[at])).sum();
        let mut counts = BTreeMap::<usize, u16>::new();
        for random in every_point(left).take(left as usize) {
            *counts.entry(pool.draw(&out, random as u32).unwrap()).or_default() += 1;
        }
        let expected: BTreeMap<_, _> = weights.iter().copied().enumerate().filter(|(at, _)| !excluded.contains(at)).collect();
        prop_assert_eq!(counts, expected);
    }
}
