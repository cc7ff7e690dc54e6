//! What else is in a store costs a poll nothing: it asks for the keys that are flags, and for no others.

use std::{collections::BTreeMap, time::Duration};

use tidegate_e2e::{Redis, redis::Program, until};

use super::{
    FLAG, Stage,
    freshness::{changes, print},
};

/// Polls that are looked at.
const POLLS: f64 = 3.0;

#[tokio::test]
async fn a_million_other_keys_cost_a_poll_nothing() {
    let store = Redis::start_with(Program::Redis, &["--enable-debug-command", "yes", "--save", ""]).await;
    let stage = Stage::lit(&store.url(), &store).await;
    let alone = commands(&stage, &store).await;
    store.done(&["DEBUG", "POPULATE", "1000000"]).await;
    let crowded = commands(&stage, &store).await;
    println!("microseconds in the store by command, alone: {alone:?}, with 1,000,000 other keys: {crowded:?}");
    // The same commands on the same keys, none of which looks at more than one key.
    assert_eq!(alone.keys().collect::<Vec<_>>(), crowded.keys().collect::<Vec<_>>());
    for command in crowded.keys() {
        assert!(!["keys", "scan", "sort", "dump"].contains(&command.as_str()), "{command}");
    }
    store.done(&["SET", FLAG, "OFF"]).await;
    stage.sees("green").await;
    let times = changes(&stage, &store, 10).await;
    print("with 1,000,000 other keys", &times);
    stage.end("a million other keys").await;
}

/// What some polls asked the store for, and the microseconds that it took there.
async fn commands(stage: &Stage, store: &Redis) -> BTreeMap<String, u64> {
    store.done(&["CONFIG", "RESETSTAT"]).await;
    let before = stage.reads().await;
    until("some polls", || async { (stage.reads().await >= before + POLLS).then_some(()) }).await;
    let text = store.command(&["INFO", "commandstats"]).await;
    let line = |line: &str| {
        let (name, numbers) = line.trim().strip_prefix("cmdstat_")?.split_once(':')?;
        let micros = numbers.split(',').find_map(|part| part.strip_prefix("usec=")?.parse().ok())?;
        // What this test itself asks, and what a connection that was made anew begins with: the store answers nobody
        // while it makes a million keys.
        let other = ["config", "info", "hello", "client", "auth", "select"].iter().any(|other| name.starts_with(other));
        (!other).then(|| (name.to_owned(), micros))
    };
    let found: BTreeMap<_, _> = text.lines().filter_map(line).collect();
    assert!(found.contains_key("exec"), "{text}");
    let spent: u64 = found.values().sum();
    assert!(Duration::from_micros(spent) < Duration::from_millis(100), "{found:?}");
    found
}
