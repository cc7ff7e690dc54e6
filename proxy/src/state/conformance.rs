//! What every [`StateStore`] must do, and samples to do it with.

use std::collections::{BTreeMap, VecDeque};

use tidegate_admin::AuditEntry;
use tidegate_config::{EndpointSpec, FlagName, ServiceId, Split, TargetId, TargetSpec, Weight};
use tidegate_core::{
    Event, Generation, Hold, Overlay, Previews, Saved, Wanted,
    flags::SavedFlags,
    state::{Cause, Phase, SavedService},
};

use super::{Loaded, RECENT, StateStore, Stored};

/// A state with three services and five changes, that differs for each generation.
pub(super) fn stored(generation: u64) -> Stored {
    stored_with(generation, 3, 5)
}

/// A state with this many services and changes.
pub(super) fn stored_with(generation: u64, services: usize, changes: usize) -> Stored {
    let saved = Saved {
        generation: Generation(generation),
        services: (0..services)
            .map(|n| (ServiceId::parse(&format!("service-{n}")).unwrap(), service(generation)))
            .collect(),
        flags: SavedFlags {
            values: [(FlagName::parse("RECENT").unwrap(), format!("{}%", generation % 100))].into(),
            ..SavedFlags::default()
        },
        previews: Previews::new(),
    };
    let recent = (0..changes as u64).map(change).collect::<VecDeque<_>>();
    Stored { saved, recent }
}

/// The change that led to a generation.
pub(super) fn change(generation: u64) -> AuditEntry {
    AuditEntry {
        at_unix_ms: 1_700_000_000_000 + generation,
        actor: "ci \"quoted\" ü".into(),
        from: Generation(generation.saturating_sub(1)),
        generation: Generation(generation),
        events: vec![Event::ReloadRejected { problems: vec!["a line\nand another".into()] }],
    }
}

fn service(generation: u64) -> SavedService {
    let (blue, green) = (TargetId::parse("blue").unwrap(), TargetId::parse("green").unwrap());
    let points = (generation % 10_000) as u16;
    let split = Split::new([
        (blue.clone(), Weight::from_points(points).unwrap()),
        (green.clone(), Weight::from_points(10_000 - points).unwrap()),
    ])
    .unwrap();
    let endpoint =
        |text: &str| TargetSpec { endpoints: vec![EndpointSpec { address: text.parse().unwrap(), weight: 1 }] };
    let wanted = Wanted {
        stable: green.clone(),
        split,
        targets: BTreeMap::from([
            (blue.clone(), endpoint("127.0.0.1:3001")),
            (green.clone(), endpoint("https://green.example:443")),
        ]),
        mirrors: BTreeMap::new(),
        drained: [blue.clone()].into(),
        salt: "salt".into(),
        hold: Hold::On,
    };
    let overlay = Overlay {
        from: green.clone(),
        to: blue,
        share: Weight::FULL,
        cause: Cause::Operator,
        since_unix_ms: generation,
        phase: Phase::Holding,
    };
    let file = Wanted { split: Split::all(green), ..wanted.clone() };
    SavedService { file, wanted, overlay: Some(overlay) }
}

/// The contract of a store that is empty at first.
pub(super) fn check(store: &mut dyn StateStore) {
    assert!(matches!(store.load().unwrap(), Loaded::Nothing));
    for generation in 1..=60 {
        store.save(&stored(generation).saved, Some(&change(generation))).unwrap();
        let Loaded::Current(back) = store.load().unwrap() else { panic!("what was saved last is not current") };
        assert_eq!(back.saved, stored(generation).saved);
        assert_eq!(back.recent.back().unwrap().generation, Generation(generation));
    }
    // A save without a change keeps the changes so far.
    store.save(&stored(61).saved, None).unwrap();
    let loaded = store.load().unwrap();
    let back = loaded.stored().unwrap();
    assert_eq!(back.saved.generation, Generation(61));
    assert_eq!(back.recent.len(), RECENT);
    assert_eq!(back.recent.iter().map(|entry| entry.generation.0).collect::<Vec<_>>(), (11..=60).collect::<Vec<_>>());
}
