//! Any sequence of changes keeps the state whole.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tidegate_config::{
    Config, FailbackMode, FailoverHooks, FailoverPolicy, HealthPolicy, Match, RuleSpec, ServiceSpec, Split, Weight,
};

use super::{
    Change, HealthReport, MAX_MIRRORS, apply,
    fixtures::{endpoint, endpoints, file, mirror, mirror_to, spec, target, web},
};
use crate::{
    health::Health,
    state::{Moment, Saved, State},
};

const TARGETS: [&str; 5] = ["blue", "green", "v3", "v4", "nope"];
const ADDRESSES: [&str; 5] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.1.1:80", "10.0.2.1:80", "app.test:80"];

/// One of several edits of the file.
fn edited(edit: u8) -> ServiceSpec {
    let mut spec = spec(match edit % 3 {
        0 => FailbackMode::Manual,
        1 => FailbackMode::Auto,
        _ => FailbackMode::Restart,
    });
    match edit {
        3 => {
            spec.stable = target("blue");
            spec.split = Split::all(target("blue"));
            spec.failover = Some(FailoverPolicy {
                to: target("green"),
                failback: FailbackMode::Auto,
                hooks: FailoverHooks::default(),
            });
        }
        4 => {
            spec.targets.remove("v3");
            spec.targets.insert(target("v4"), endpoints(&["app.test:80"]));
            spec.split = Split::new([
                (target("v4"), Weight::from_points(1).unwrap()),
                (target("green"), Weight::from_points(9_999).unwrap()),
            ])
            .unwrap();
        }
        5 => {
            spec.rules.push(RuleSpec { when: Match::default(), to: target("v3") });
            spec.mirrors.insert(mirror("a"), mirror_to("v3"));
        }
        6 => {
            spec.health = HealthPolicy::Passive;
            spec.failover = None;
        }
        7 => {
            spec.targets.remove("blue");
            spec.failover = Some(FailoverPolicy {
                to: target("v3"),
                failback: FailbackMode::Restart,
                hooks: FailoverHooks::default(),
            });
        }
        _ => {}
    }
    spec
}

fn config(edit: u8) -> Config {
    // The last edit takes the service out of the file.
    file((edit < 8).then(|| (web(), edited(edit))))
}

fn a_target() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&TARGETS[..])
}

fn a_change() -> impl Strategy<Value = (u64, Change)> {
    let service = web;
    let health = prop::sample::select(vec![Health::Unknown, Health::Healthy, Health::Suspect, Health::Unhealthy]);
    let an_address = prop::sample::select(&ADDRESSES[..]);
    let change = prop_oneof![
        2 => a_target().prop_map(move |to| Change::Switch { service: service(), to: target(to) }),
        2 => (a_target(), a_target(), 0_u16..=10_000).prop_filter_map("one target twice", move |(a, b, points)| {
            let (first, second) = (Weight::from_points(points)?, Weight::from_points(10_000 - points)?);
            let split = Split::new([(target(a), first), (target(b), second)]).ok()?;
            Some(Change::Split { service: service(), split })
        }),
        2 => a_target().prop_map(move |to| Change::Failover { service: service(), to: target(to) }),
        1 => Just(Change::Restore { service: web() }),
        2 => (a_target(), prop::sample::subsequence(&ADDRESSES[..], 0..3)).prop_map(move |(name, addresses)| {
            Change::PutTarget { service: service(), target: target(name), spec: endpoints(&addresses) }
        }),
        2 => a_target().prop_map(move |name| Change::RemoveTarget { service: service(), target: target(name) }),
        2 => a_target().prop_map(move |name| Change::Drain { service: service(), target: target(name) }),
        1 => ("[ab]", a_target()).prop_map(move |(name, to)| {
            Change::PutMirror { service: service(), mirror: mirror(&name), spec: mirror_to(to) }
        }),
        1 => "[ab]".prop_map(move |name| Change::RemoveMirror { service: service(), mirror: mirror(&name) }),
        1 => (0_u8..9).prop_map(|edit| Change::Reload { config: Arc::new(config(edit)) }),
        6 => prop::collection::vec((a_target(), an_address, health), 1..4).prop_map(move |found| {
            let report = |(name, address, health)| HealthReport {
                service: service(),
                target: target(name),
                endpoint: endpoint(address),
                health,
                reason: String::new(),
            };
            Change::Health { reports: found.into_iter().map(report).collect() }
        }),
        1 => (0_u16..3).prop_map(|count| Change::Resolved {
            endpoint: endpoint("app.test:80"),
            sockets: (0..count).map(|n| ([10, 0, 0, 1], 80 + n).into()).collect(),
        }),
        3 => Just(Change::Tick),
    ];
    (prop::sample::select(vec![0_u64, 1, 7, 40]), change)
}

fn check_whole(state: &State) -> Result<(), TestCaseError> {
    for service in state.services.values() {
        let wanted = &service.wanted;
        let has = |name| wanted.targets.contains_key::<tidegate_config::TargetId>(name);
        prop_assert!(has(&wanted.stable), "stable exists");
        prop_assert!(wanted.split.iter().all(|(name, _)| has(name)), "the split names what exists");
        let sum: u32 = wanted.split.iter().map(|(_, weight)| u32::from(weight.points())).sum();
        prop_assert_eq!(sum, 10_000);
        prop_assert!(wanted.targets.values().all(|spec| !spec.endpoints.is_empty()), "targets have endpoints");
        prop_assert!(wanted.mirrors.values().all(|spec| has(&spec.to)), "mirrors copy to what exists");
        prop_assert!(wanted.mirrors.len() <= MAX_MIRRORS);
        prop_assert!(wanted.drained.iter().all(|name| has(name) && *name != wanted.stable), "what is drained exists");
        prop_assert!(service.spec.rules.iter().all(|rule| has(&rule.to)), "rules point at what exists");
        prop_assert!(service.spec.failover.iter().all(|policy| has(&policy.to)), "the failover goes to what exists");
        if let Some(overlay) = &service.overlay {
            prop_assert_eq!(&overlay.from, &wanted.stable);
            prop_assert!(has(&overlay.to) && overlay.to != overlay.from);
            prop_assert!(overlay.share > Weight::ZERO, "a failover that moves nothing has ended");
        }
        for (name, known) in &service.health {
            let spec = &wanted.targets[name];
            prop_assert!(known.keys().all(|address| spec.endpoints.iter().any(|e| e.address == *address)));
        }
        for name in service.draining.keys() {
            prop_assert!(!has(name) || wanted.drained.contains(name), "only what takes no requests is cut");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence_of_changes_keeps_the_state_whole(changes in prop::collection::vec(a_change(), 1..60)) {
        let mut file = Arc::new(config(0));
        let (mut state, _) = State::load(&file, None);
        let mut now = Moment { mono: Duration::from_secs(100), unix_ms: 0 };
        for (seconds, change) in changes {
            now.mono += Duration::from_secs(seconds);
            let before = state.clone();
            let Ok(applied) = apply(&state, &change, now) else { continue };
            state = applied.state;
            if let Change::Reload { config } = &change {
                file = Arc::clone(config);
            }
            check_whole(&state)?;

            let changed = state != before;
            prop_assert_eq!(state.generation.0, before.generation.0 + u64::from(changed), "{:?}", change);
            prop_assert!(changed || applied.events.is_empty(), "{:?}", change);
            for (id, service) in &state.services {
                let old = before.services.get(id).filter(|old| ***old == **service);
                prop_assert!(old.is_none_or(|old| Arc::ptr_eq(old, service)), "the same service stays the same");
            }
            // The very same change at the very same moment finds nothing left to do, or is refused.
            if let Ok(again) = apply(&state, &change, now) {
                let settled = matches!(change, Change::Tick | Change::Health { .. }) || again.state == state;
                prop_assert!(settled, "{:?}", change);
            }
            // A restart with the same file loses nothing of what was wanted.
            let (restarted, _) = State::load(&file, Some(&Saved::of(&state)));
            prop_assert!(restarted.generation > state.generation);
            check_whole(&restarted)?;
            for (id, service) in &state.services {
                prop_assert_eq!(&restarted.services[id].wanted, &service.wanted);
            }
        }
    }
}
