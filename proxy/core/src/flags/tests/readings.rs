//! What becomes of flags when their sources are read: precedence, faults, and outages.

use std::collections::BTreeMap;

use super::*;
use crate::{
    change::fixtures::{World, file},
    event::Event,
    state::{Saved, State},
    {Change, Moment},
};

const FILE: &str = "
[flags]
source = { store = { url = 'redis://127.0.0.1:6379/0', hash = 'flags', document = 'flagd' } }
[flags.flag.RECENT]
[flags.flag.color]
type = 'string'
default = 'blue'
[flags.flag.page]
type = 'number'
key = 'page-size'
[flags.flag.local]
source = 'embedded'
[flags.values]
page = '10'
";

fn world(text: &str) -> World {
    let mut config = file([]);
    config.flags = flags(text);
    let (state, _) = State::load(&config, None);
    World { state, now: Moment { mono: std::time::Duration::from_secs(5), unix_ms: 1_700_000_000_000 } }
}

fn report(world: &mut World, report: SourceReport) -> Vec<Event> {
    world.apply(&Change::Readings { source: id("store"), report }).events
}

fn read(world: &mut World, reading: Reading) -> Vec<Event> {
    report(world, SourceReport::Read(arc(reading)))
}

fn is(world: &World, name: &str, value: &str, origin: Origin) {
    assert_eq!(worth(&table(&world.state.flags), name), (value.to_owned(), origin), "{name}");
}

fn fault(world: &World, name: &str) -> Option<String> {
    table(&world.state.flags).get(&id(name)).unwrap().fault.as_deref().map(str::to_owned)
}

fn change_of(events: &[Event]) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let line = |event: &Event| match event {
        Event::FlagChanged { flag, from, to, .. } => format!("{flag} {}->{}", text(from), text(to)),
        Event::FlagInvalid { flag, .. } => format!("{flag} invalid"),
        Event::FlagOverridden { flag, .. } => format!("{flag} overridden"),
        Event::FlagOverrideEnded { flag, .. } => format!("{flag} override ended"),
        Event::SourceUp { source } => format!("{source} up"),
        Event::SourceDown { source, .. } => format!("{source} down"),
        Event::SourceEmptied { source } => format!("{source} emptied"),
        Event::MoreFlagsChanged { count } => format!("{count} more"),
        other => format!("{other:?}"),
    };
    events.iter().map(line).collect()
}

#[test]
fn a_flag_that_nobody_set_has_its_default() {
    let world = world(FILE);
    is(&world, "RECENT", "off", Origin::Default);
    is(&world, "color", "blue", Origin::Default);
    is(&world, "local", "off", Origin::Default);
    is(&world, "page", "10", Origin::Embedded);
}

#[test]
fn the_source_wins_over_the_value_in_the_process_and_that_over_the_default() {
    let mut world = world(FILE);
    let events = read(&mut world, keys(&[("RECENT", "ON"), ("page-size", "25")]));
    assert_eq!(change_of(&events), ["store up", "RECENT off->ON", "page 10->25"]);
    is(&world, "RECENT", "on", Origin::Source);
    is(&world, "page", "25", Origin::Source);
    let events = read(&mut world, keys(&[]));
    assert_eq!(change_of(&events), ["RECENT ON->off", "page 25->10"]);
    is(&world, "page", "10", Origin::Embedded);
}

#[test]
fn reading_the_same_again_changes_nothing() {
    let mut world = world(FILE);
    read(&mut world, keys(&[("RECENT", "on"), ("color", "red")]));
    let before = world.state.clone();
    assert_eq!(read(&mut world, keys(&[("RECENT", "on"), ("color", "red")])), []);
    assert_eq!(world.state.generation, before.generation);
    assert!(Arc::ptr_eq(&world.state.flags, &before.flags));
}

#[test]
fn a_value_that_cannot_be_used_keeps_the_one_before() {
    let mut world = world(FILE);
    read(&mut world, keys(&[("RECENT", "on"), ("page-size", "5")]));
    let events = read(&mut world, keys(&[("RECENT", "maybe"), ("page-size", "many")]));
    assert_eq!(change_of(&events), ["RECENT invalid", "page invalid"]);
    is(&world, "RECENT", "on", Origin::Source);
    is(&world, "page", "5", Origin::Source);
    assert!(fault(&world, "RECENT").unwrap().contains("maybe"));
    // Told once, not with every reading.
    assert_eq!(
        read(
            &mut world,
            Reading {
                keys: keys(&[("RECENT", "maybe"), ("page-size", "many"), ("color", "x")]).keys,
                marked: true,
                ..Reading::default()
            }
        )
        .len(),
        1
    );
    let events = read(&mut world, keys(&[("RECENT", "off"), ("page-size", "5")]));
    assert_eq!(change_of(&events), ["RECENT on->off", "color x->blue"]);
    assert_eq!(fault(&world, "RECENT"), None);
}

#[test]
fn a_first_value_that_cannot_be_used_leaves_what_counts_below_it() {
    let mut world = world(FILE);
    read(&mut world, keys(&[("RECENT", "?"), ("page-size", "?")]));
    is(&world, "RECENT", "off", Origin::Default);
    is(&world, "page", "10", Origin::Embedded);
}

#[test]
fn what_cannot_be_fetched_keeps_the_value_before() {
    let mut world = world(FILE);
    read(&mut world, keys(&[("RECENT", "on")]));
    let mut reading = keys(&[]);
    reading.keys.insert("RECENT".into(), Found::Unreadable("it is a list".into()));
    assert_eq!(change_of(&read(&mut world, reading)), ["RECENT invalid"]);
    is(&world, "RECENT", "on", Origin::Source);
    assert_eq!(fault(&world, "RECENT").as_deref(), Some("it is a list"));
}

#[test]
fn bytes_that_are_no_text_or_too_many_are_unreadable() {
    assert_eq!(Found::of_bytes(b"on", 2), Found::Text("on".into()));
    assert_eq!(Found::of_bytes(b"on!", 2), Found::Unreadable("it has 3 bytes, and may have 2".into()));
    assert_eq!(Found::of_bytes(b"\xff", 2), Found::Unreadable("it is not UTF-8 text".into()));
}

#[test]
fn a_source_that_cannot_be_read_changes_no_value() {
    let mut world = world(FILE);
    read(&mut world, keys(&[("RECENT", "on")]));
    let down = |why: &str| SourceReport::Down { reason: why.into() };
    assert_eq!(change_of(&report(&mut world, down("connection refused"))), ["store down"]);
    is(&world, "RECENT", "on", Origin::Source);
    assert_eq!(report(&mut world, down("timed out")), []);
    let source = &world.state.flags.sources["store"];
    let since = 1_700_000_000_000;
    assert_eq!(source.standing, Standing::Down { since_unix_ms: since, reason: "timed out".into() });
    assert_eq!(change_of(&read(&mut world, keys(&[("RECENT", "on")]))), ["store up"]);
}

#[test]
fn a_deleted_key_is_the_default_but_an_emptied_source_is_an_outage() {
    let mut world = world(FILE);
    read(&mut world, keys(&[("RECENT", "on"), ("color", "red")]));
    // Everything is gone, the marker too.
    let events = read(&mut world, Reading::default());
    assert_eq!(change_of(&events), ["source emptied".replace("source", "store")]);
    is(&world, "RECENT", "on", Origin::Source);
    assert!(table(&world.state.flags).get(&id("RECENT")).unwrap().kept);
    // What is there counts, what is not is kept.
    let unmarked = |pairs| Reading { marked: false, ..keys(pairs) };
    assert_eq!(change_of(&read(&mut world, unmarked(&[("color", "green")]))), ["color red->green"]);
    is(&world, "RECENT", "on", Origin::Source);
    // Accepted as it is: the marker is back.
    assert_eq!(change_of(&read(&mut world, keys(&[("color", "green")]))), ["RECENT on->off"]);
    is(&world, "RECENT", "off", Origin::Default);
}

#[test]
fn a_source_whose_marker_was_never_seen_is_not_emptied_by_its_absence() {
    let mut world = world(FILE);
    let unmarked = |pairs| Reading { marked: false, ..keys(pairs) };
    read(&mut world, unmarked(&[("RECENT", "on")]));
    assert_eq!(change_of(&read(&mut world, unmarked(&[]))), ["RECENT on->off"]);
}

#[test]
fn what_is_remembered_counts_until_the_source_is_read() {
    let mut before = world(FILE);
    read(&mut before, keys(&[("RECENT", "25%"), ("color", "red")]));
    let memory = before.state.flags.sources["store"].memory();
    let text = serde_json::to_string(&memory).unwrap();
    assert_eq!(text, r#"{"values":{"RECENT":"25%","color":"red"},"marked":true}"#);
    let memory: Memory = serde_json::from_str(&text).unwrap();

    let mut world = world(FILE);
    let events = report(&mut world, SourceReport::Remembered(arc(memory.clone())));
    assert_eq!(change_of(&events), ["RECENT off->25%", "color blue->red"]);
    assert_eq!(world.state.flags.sources["store"].standing, Standing::Waiting);
    // The store is empty after its restart: an outage still.
    assert_eq!(change_of(&read(&mut world, Reading::default())), ["store up", "store emptied"]);
    is(&world, "color", "red", Origin::Source);
    // Memory never undoes what was read.
    read(&mut world, keys(&[("color", "green")]));
    assert_eq!(report(&mut world, SourceReport::Remembered(arc(memory))), []);
    is(&world, "color", "green", Origin::Source);
}

#[test]
fn own_key_wins_over_the_hash_and_that_over_the_document() {
    let document = r#"{"flags":{
        "RECENT": {"variants":{"on":true},"defaultVariant":"on"},
        "paper": {"variants":{"a":"A4"},"defaultVariant":"a"},
        "shared": {"variants":{"on":true},"defaultVariant":"on"}
    }}"#;
    let reading = |keys: &[(&str, &str)], fields: &[(&str, &str)]| Reading {
        fields: Fields::Found(
            fields.iter().map(|(name, text)| ((*name).into(), Found::Text((*text).into()))).collect(),
        ),
        document: Found::Text(document.into()),
        ..super::keys(keys)
    };
    let mut world = world(FILE);
    read(&mut world, reading(&[("RECENT", "off")], &[("RECENT", "50%"), ("shared", "off"), ("beta", "on")]));
    is(&world, "RECENT", "off", Origin::Source);
    is(&world, "shared", "off", Origin::Source);
    is(&world, "beta", "on", Origin::Source);
    is(&world, "paper", "A4", Origin::Source);
    read(&mut world, reading(&[], &[("RECENT", "off")]));
    is(&world, "RECENT", "off", Origin::Source);
    is(&world, "shared", "on", Origin::Source);
    assert!(table(&world.state.flags).get(&id("beta")).is_none());
    read(&mut world, reading(&[], &[]));
    is(&world, "RECENT", "on", Origin::Source);
}

#[test]
fn a_document_or_hash_that_cannot_be_read_keeps_the_flags_that_came_from_it() {
    let mut world = world(FILE);
    let good = Reading {
        fields: Fields::Found([("beta".to_owned(), Found::Text("on".into()))].into()),
        document: Found::Text(r#"{"flags":{"paper":{"variants":{"a":"A4"},"defaultVariant":"a"}}}"#.into()),
        ..keys(&[])
    };
    read(&mut world, good);
    for (document, fields) in [
        (Found::Text("{".into()), Fields::Unreadable("it is a string".into())),
        (Found::Unreadable("it has 9 GB".into()), Fields::Unreadable("it is a list".into())),
    ] {
        read(&mut world, Reading { document, fields, ..keys(&[]) });
        is(&world, "paper", "A4", Origin::Source);
        is(&world, "beta", "on", Origin::Source);
        assert_eq!(world.state.flags.sources["store"].faults.len(), 2);
    }
    read(&mut world, keys(&[]));
    assert!(table(&world.state.flags).get(&id("paper")).is_none());
}

#[test]
fn one_wrong_flag_of_a_document_does_not_spoil_the_others() {
    let mut world = world(FILE);
    let document = r#"{"flags":{"good":{"variants":{"a":1},"defaultVariant":"a"},
        "bad":{"variants":{}},"a b":{"variants":{"a":1}},"RECENT":{"variants":{"a":"text"}}}}"#;
    let events = read(&mut world, Reading { document: Found::Text(document.into()), ..keys(&[]) });
    assert_eq!(
        change_of(&events),
        [
            "store up",
            "RECENT invalid",
            "bad invalid",
            "good -->{\"variants\":{\"a\":1},\"defaultVariant\":\"a\"}"
                .replace(
                    "variants\":{\"a\":1},\"defaultVariant\":\"a\"",
                    "defaultVariant\":\"a\",\"variants\":{\"a\":1}"
                )
                .as_str()
        ]
    );
    is(&world, "good", "1", Origin::Source);
    assert_eq!(world.state.flags.sources["store"].faults.len(), 1);
}

#[test]
fn a_flag_is_read_only_where_it_is_declared() {
    let mut world = world(FILE);
    let fields = Fields::Found([("local".to_owned(), Found::Text("on".into()))].into());
    read(&mut world, Reading { fields, ..keys(&[("local", "on")]) });
    is(&world, "local", "off", Origin::Default);
}

#[test]
fn flags_and_faults_of_a_source_are_bounded() {
    let mut world = world(FILE);
    let fields: BTreeMap<_, _> =
        (0..reading::MAX_FLAGS + 50).map(|n| (format!("flag-{n:05}"), Found::Text("on".into()))).collect();
    let events = read(&mut world, Reading { fields: Fields::Found(fields), ..keys(&[]) });
    let source = &world.state.flags.sources["store"];
    assert_eq!((source.slots.len(), source.faults.len()), (reading::MAX_FLAGS - 3, 20));
    assert_eq!(table(&world.state.flags).iter().len(), reading::MAX_FLAGS + 1);
    assert!(events.len() < 110, "{}", events.len());
    assert!(matches!(events.last(), Some(Event::MoreFlagsChanged { .. })));
}

#[test]
fn an_override_wins_until_its_time_is_over() {
    let mut world = world(FILE);
    read(&mut world, keys(&[("RECENT", "on")]));
    let ttl = std::time::Duration::from_secs(60);
    let over = Change::OverrideFlag { flag: id("RECENT"), value: "off".into(), ttl };
    assert_eq!(change_of(&world.apply(&over).events), ["RECENT overridden", "RECENT on->off"]);
    is(&world, "RECENT", "off", Origin::Override);
    read(&mut world, keys(&[("RECENT", "25%")]));
    is(&world, "RECENT", "off", Origin::Override);
    world.wait(59);
    assert_eq!(world.apply(&Change::Tick).events, []);
    world.wait(1);
    assert_eq!(change_of(&world.apply(&Change::Tick).events), ["RECENT override ended", "RECENT off->25%"]);
    is(&world, "RECENT", "off", Origin::Source);
}

#[test]
fn an_override_can_be_ended_and_survives_a_restart() {
    let mut world = world(FILE);
    let ttl = std::time::Duration::from_secs(600);
    world.apply(&Change::OverrideFlag { flag: id("color"), value: "red".into(), ttl });
    world.apply(&Change::SetFlag { flag: id("local"), value: "on".into() });
    let saved: Saved = serde_json::from_str(&serde_json::to_string(&Saved::of(&world.state)).unwrap()).unwrap();
    let mut config = file([]);
    config.flags = flags(FILE);
    let (state, differences) = State::load(&config, Some(&saved));
    assert_eq!(
        differences.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["flag local is on (saved), the file says nothing"]
    );
    world.state = state;
    is(&world, "color", "red", Origin::Override);
    is(&world, "local", "on", Origin::Embedded);
    let ended = world.apply(&Change::ClearOverride { flag: id("color") }).events;
    assert_eq!(change_of(&ended), ["color override ended", "color red->blue"]);
    assert_eq!(world.apply(&Change::ClearOverride { flag: id("color") }).events, []);
}

#[test]
fn overrides_that_make_no_sense_are_refused() {
    let world = world(FILE);
    let over = |flag: &str, value: &str, seconds: u64| Change::OverrideFlag {
        flag: id(flag),
        value: value.into(),
        ttl: std::time::Duration::from_secs(seconds),
    };
    let why = |change: Change| world.try_apply(&change).unwrap_err().to_string();
    assert_eq!(why(over("nothing", "on", 1)), "there is no flag nothing");
    assert!(why(over("RECENT", "maybe", 1)).starts_with("value: \"maybe\" is neither on nor off"));
    assert!(why(over("RECENT", "on", 0)).starts_with("ttl: "));
    assert!(why(over("RECENT", "on", 31 * 86_400)).starts_with("ttl: "));
}

#[test]
fn values_in_the_process_are_set_and_removed() {
    let mut world = world(FILE);
    let set = |flag: &str, value: &str| Change::SetFlag { flag: id(flag), value: value.into() };
    assert_eq!(change_of(&world.apply(&set("local", "on")).events), ["local off->on"]);
    assert_eq!(world.apply(&set("local", "on")).events, []);
    assert_eq!(change_of(&world.apply(&Change::UnsetFlag { flag: id("local") }).events), ["local on->off"]);
    let why = |change: Change| world.try_apply(&change).unwrap_err().to_string();
    assert_eq!(why(set("RECENT", "on")), "the values of flag RECENT are in source store");
    assert_eq!(why(set("nothing", "on")), "there is no flag nothing");
    assert!(why(set("local", "maybe")).starts_with("value: "));
}

#[test]
fn a_reload_judges_what_is_known_by_the_new_types() {
    let mut world = world(FILE);
    read(&mut world, keys(&[("RECENT", "on"), ("color", "yes")]));
    let mut config = file([]);
    config.flags = flags(&FILE.replace("type = 'string'\ndefault = 'blue'", "type = 'boolean'"));
    world.apply(&Change::Reload { config: arc(config) });
    is(&world, "RECENT", "on", Origin::Source);
    is(&world, "color", "on", Origin::Source);
    assert_eq!(world.state.flags.sources["store"].standing, Standing::Up);
    // Another store under the same name is another store.
    let mut config = file([]);
    config.flags = flags(&FILE.replace("6379/0", "6379/1"));
    world.apply(&Change::Reload { config: arc(config) });
    is(&world, "RECENT", "off", Origin::Default);
    assert_eq!(world.state.flags.sources["store"].standing, Standing::Waiting);
}
