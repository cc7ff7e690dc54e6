//! A follower against real stores: what it finds, how soon, and what it makes of stores that misbehave.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tidegate_admin::{FlagPlace, FlagWriteError};
use tidegate_config::{RedisAddress, RedisServer, RedisSource, SecretSource};
use tidegate_core::flags::{Fields, Found, Reading};
use tidegate_e2e::{Fault, Program, Redis, Wire, until, until_within};
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    failure::Failure,
    follow::{Follower, Listener, Taken, Told},
    link::Freshness,
    marker,
    place::Place,
    read::Wanted,
    write::{command, error, run},
};

#[derive(Default)]
struct Heard {
    told: Mutex<Vec<Told>>,
    links: Mutex<Vec<Freshness>>,
    failures: Mutex<Vec<Failure>>,
    reads: AtomicUsize,
    wakeups: AtomicUsize,
}

#[async_trait]
impl Listener for Heard {
    async fn tell(&self, told: Told) -> Taken {
        self.told.lock().unwrap().push(told);
        Taken::Yes
    }
    fn note_read(&self) {
        self.reads.fetch_add(1, Relaxed);
    }
    fn note_link(&self, freshness: Freshness) {
        self.links.lock().unwrap().push(freshness);
    }
    fn note_failure(&self, failure: &Failure) {
        self.failures.lock().unwrap().push(failure.clone());
    }
    fn note_wakeup(&self) {
        self.wakeups.fetch_add(1, Relaxed);
    }
}

/// A follower that runs.
struct Following {
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn at(address: std::net::SocketAddr) -> RedisSource {
    RedisSource {
        address: RedisAddress::Tcp(RedisServer { host: address.ip().to_string(), port: address.port() }),
        database: 0,
        username: None,
        password: None,
        sentinel_password: None,
        tls: None,
        hash: None,
        document: None,
    }
}

fn follow(source: RedisSource, keys: &[&str]) -> Following {
    let heard = Arc::new(Heard::default());
    let wanted = Wanted {
        keys: keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>(),
        hash: source.hash.clone(),
        document: source.document.clone(),
        marker: marker::key("default"),
    };
    let follower = Follower {
        name: "store".into(),
        source,
        wanted,
        poll: Duration::from_secs(1),
        known: Arc::default(),
        wake: Arc::new(Notify::new()),
        told: Arc::default(),
        listener: Arc::clone(&heard) as Arc<dyn Listener>,
    };
    Following { heard, task: tokio::spawn(follower.run()) }
}

impl Following {
    fn last(&self) -> Option<Arc<Reading>> {
        let told = self.heard.told.lock().unwrap();
        told.iter().rev().find_map(|told| match told {
            Told::Read(reading) => Some(Arc::clone(reading)),
            Told::Down { .. } => None,
        })
    }

    fn is_down(&self) -> Option<String> {
        match self.heard.told.lock().unwrap().last() {
            Some(Told::Down { reason }) => Some(reason.clone()),
            _ => None,
        }
    }

    fn key(&self, key: &str) -> Option<Found> {
        self.last()?.keys.get(key).cloned()
    }

    /// Waits until a key holds this.
    async fn sees(&self, key: &str, found: Found) {
        until(&format!("{key} is {found:?}"), || async { (self.key(key)? == found).then_some(()) }).await;
    }

    async fn goes_down(&self) -> String {
        until("the source is down", || async { self.is_down() }).await
    }

    async fn is_whole(&self) {
        until("the source is marked", || async { self.last()?.marked.then_some(()) }).await;
    }
}

fn text(text: &str) -> Found {
    Found::Text(text.into())
}

#[tokio::test]
async fn a_change_is_seen_within_milliseconds_and_an_absent_key_is_absent() {
    let store = Redis::start().await;
    let following = follow(at(store.address()), &["RECENT", "OTHER"]);
    following.sees("RECENT", Found::Absent).await;
    assert_eq!(*following.heard.links.lock().unwrap(), [Freshness::Tracking]);
    for (value, found) in [("ON", text("ON")), ("", text("")), ("OFF", text("OFF"))] {
        let begun = Instant::now();
        store.done(&["SET", "RECENT", value]).await;
        following.sees("RECENT", found).await;
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
    store.done(&["DEL", "RECENT"]).await;
    following.sees("RECENT", Found::Absent).await;
    assert!(following.last().unwrap().marked);
    assert!(following.heard.wakeups.load(Relaxed) >= 3);
    assert!(following.heard.failures.lock().unwrap().is_empty());
}

#[tokio::test]
async fn one_bad_value_spoils_no_other_and_a_huge_one_is_not_fetched() {
    let store = Redis::start().await;
    let wire = Wire::to(store.address()).await;
    store.done(&["LPUSH", "LIST", "1"]).await;
    store.done(&["SETRANGE", "HUGE", "10485760", "x"]).await;
    store.done(&["SET", "BYTES", "plain"]).await;
    store.done(&["SETRANGE", "EDGE", "65535", "x"]).await;
    store.done(&["SETRANGE", "OVER", "65536", "x"]).await;
    let following = follow(at(wire.address()), &["LIST", "HUGE", "BYTES", "EDGE", "OVER"]);
    following.sees("BYTES", text("plain")).await;
    assert_eq!(following.key("LIST"), Some(Found::Unreadable("it is not a string".into())));
    assert!(matches!(following.key("HUGE"), Some(Found::Unreadable(problem)) if problem.contains("65536")));
    assert!(matches!(following.key("EDGE"), Some(Found::Text(value)) if value.len() == 65536));
    assert!(matches!(following.key("OVER"), Some(Found::Unreadable(_))));
    let reads = following.heard.reads.load(Relaxed) as u64;
    assert!(wire.carried() < (reads + 2) * 300_000, "{} bytes in {reads} reads", wire.carried());
}

#[tokio::test]
async fn a_hash_is_read_field_by_field_when_one_of_them_is_huge() {
    let store = Redis::start().await;
    let wire = Wire::to(store.address()).await;
    store.done(&["HSET", "flags", "a", "on", "b", "25%"]).await;
    let following = follow(RedisSource { hash: Some("flags".into()), ..at(wire.address()) }, &[]);
    let fields = |following: &Following| match following.last()?.fields.clone() {
        Fields::Found(fields) => Some(fields),
        Fields::Unreadable(_) => None,
    };
    let has = async |name: &str, found: Found| {
        until(&format!("{name} is {found:?}"), || async { (fields(&following)?.get(name)? == &found).then_some(()) })
            .await;
    };
    has("b", text("25%")).await;
    let huge = "x".repeat(10 * 1024 * 1024);
    store.done(&["HSET", "flags", "huge", &huge, "b", "50%"]).await;
    has("b", text("50%")).await;
    has("huge", Found::too_long(10 * 1024 * 1024, 65536)).await;
    // One read may have asked for the size just before the field grew.
    let (before, reads) = (wire.carried(), following.heard.reads.load(Relaxed));
    until("three more reads", || async { (following.heard.reads.load(Relaxed) >= reads + 3).then_some(()) }).await;
    assert!(wire.carried() - before < 100_000, "{}", wire.carried() - before);
    store.done(&["HDEL", "flags", "huge", "a"]).await;
    until("the fields are gone", || async { (fields(&following)?.len() == 1).then_some(()) }).await;
    store.done(&["DEL", "flags"]).await;
    store.done(&["SET", "flags", "x"]).await;
    until("it is no hash", || async { matches!(following.last()?.fields, Fields::Unreadable(_)).then_some(()) }).await;
}

#[tokio::test]
async fn without_tracking_a_change_is_seen_by_polling() {
    let store = Redis::start().await;
    store.done(&["ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-client|tracking"]).await;
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let source = RedisSource {
        username: Some("plain".into()),
        password: Some(SecretSource::File(password)),
        ..at(store.address())
    };
    let following = follow(source, &["RECENT"]);
    following.sees("RECENT", Found::Absent).await;
    assert_eq!(*following.heard.links.lock().unwrap(), [Freshness::PollOnly]);
    store.done(&["SET", "RECENT", "ON"]).await;
    until_within(Duration::from_millis(1500), "the change is seen", || async {
        (following.key("RECENT")? == text("ON")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_with_the_least_rights_reads_and_marks_and_a_forbidden_key_spoils_no_other() {
    for program in [Program::Redis, Program::Valkey] {
        let store = Redis::start_with(program, &[]).await;
        let rights = "~tidegate:* %R~RECENT +@connection +@transaction +@read -@dangerous +set";
        let words: Vec<&str> =
            ["ACL", "SETUSER", "flags", "on", "nopass"].into_iter().chain(rights.split(' ')).collect();
        store.done(&words).await;
        store.done(&["SET", "RECENT", "ON"]).await;
        store.done(&["SET", "SECRET", "ON"]).await;
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, "any").unwrap();
        let source = || RedisSource {
            username: Some("flags".into()),
            password: Some(SecretSource::File(password.clone())),
            ..at(store.address())
        };
        let following = follow(source(), &["RECENT"]);
        following.sees("RECENT", text("ON")).await;
        following.is_whole().await;
        assert_eq!(*following.heard.links.lock().unwrap(), [Freshness::Tracking]);
        let following = follow(source(), &["RECENT", "SECRET"]);
        following.sees("RECENT", text("ON")).await;
        assert_eq!(following.key("SECRET"), Some(Found::Unreadable("the store's user may not read it".into())));
    }
}

#[tokio::test]
async fn an_emptied_store_is_not_whole_until_its_marker_is_back() {
    let mut store = Redis::start().await;
    store.done(&["SET", "RECENT", "ON"]).await;
    let following = follow(at(store.address()), &["RECENT"]);
    following.is_whole().await;
    let marker = store.done(&["GET", "tidegate:{default}:flags-init"]).await;
    assert_eq!(marker.len(), 32);
    store.done(&["FLUSHALL"]).await;
    let emptied = || async { (!following.last()?.marked).then_some(()) };
    until("it is not whole", emptied).await;
    assert_eq!(store.done(&["EXISTS", "tidegate:{default}:flags-init"]).await, "0", "the marker is not made again");
    store.done(&["SET", "tidegate:{default}:flags-init", &marker]).await;
    following.is_whole().await;
    store.done(&["SET", "RECENT", "ON"]).await;
    following.sees("RECENT", text("ON")).await;
    // Somebody new meets an emptied store and marks it anew: for those that knew it, it stays emptied.
    store.kill();
    store.revive().await;
    let newcomer = follow(at(store.address()), &["RECENT"]);
    newcomer.is_whole().await;
    until("it is not whole", emptied).await;
    store.done(&["SET", "RECENT", "OFF"]).await;
    following.is_whole().await;
}

#[tokio::test]
async fn ten_thousand_keys_beside_a_million_others_cost_what_they_cost_alone() {
    let store = Redis::start_with(Program::Redis, &["--enable-debug-command", "yes"]).await;
    let names: Vec<String> = (0..10_000).map(|n| format!("flag-{n:05}")).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    store.done(&["SET", "flag-00007", "ON"]).await;
    let following = follow(at(store.address()), &keys);
    following.sees("flag-00007", text("ON")).await;
    let begun = Instant::now();
    store.done(&["SET", "flag-09999", "ON"]).await;
    following.sees("flag-09999", text("ON")).await;
    println!("one change among 10,000 keys: seen after {:?}", begun.elapsed());
    // What the store has done so far, as it counts itself: transactions, their microseconds, and reads in them.
    let spent = async || {
        let stats = store.done(&["INFO", "commandstats"]).await;
        let of = |command: &str, field: &str| -> f64 {
            let line = stats.lines().find_map(|line| line.strip_prefix(command)).unwrap();
            line.split([',', ':']).find_map(|part| part.strip_prefix(field)?.parse().ok()).unwrap()
        };
        let reads = of("cmdstat_getrange", "calls=") + of("cmdstat_exists", "calls=");
        (of("cmdstat_exec", "calls="), of("cmdstat_exec", "usec="), reads)
    };
    let cost = async || {
        let before = spent().await;
        let reads = following.heard.reads.load(Relaxed);
        until("five more reads", || async { (following.heard.reads.load(Relaxed) >= reads + 5).then_some(()) }).await;
        let after = spent().await;
        let chunks = after.0 - before.0;
        ((after.2 - before.2) / chunks, (after.1 - before.1) / chunks)
    };
    let alone = cost().await;
    store.done(&["DEBUG", "POPULATE", "1000000", "other"]).await;
    let beside = cost().await;
    println!(
        "a thousand keys: {} reads in {:.0} us alone, {} in {:.0} us beside",
        alone.0, alone.1, beside.0, beside.1
    );
    assert_eq!((alone.0, beside.0), (2002.0, 2002.0));
}

#[tokio::test]
async fn every_kind_of_loss_is_noticed_and_recovered_from() {
    let mut store = Redis::start().await;
    let wire = Wire::to(store.address()).await;
    store.done(&["SET", "RECENT", "ON"]).await;
    let following = follow(at(wire.address()), &["RECENT"]);
    following.sees("RECENT", text("ON")).await;
    following.is_whole().await;
    let recovered = async |what: &str| {
        let begun = Instant::now();
        until_within(Duration::from_secs(2), &format!("recovery from {what}"), || async {
            following.is_down().is_none().then_some(())
        })
        .await;
        println!("{what}: back after {:?}", begun.elapsed());
        assert_eq!(following.key("RECENT"), Some(text("ON")));
    };
    let faults = [
        Fault::Hang,
        Fault::Reset,
        Fault::Half,
        Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        Fault::Garbage(b"+OK\r\n".repeat(100)),
        Fault::Garbage(b"*99999999999\r\n".to_vec()),
        Fault::Garbage(b"%-1\r\n$-5\r\n".to_vec()),
        Fault::Garbage(b"$9223372036854775807\r\nxx".to_vec()),
        Fault::Garbage(b"*1\r\n".repeat(1000)),
        Fault::Garbage(b"-LOADING Redis is loading the dataset in memory\r\n".repeat(10)),
        Fault::Garbage(b"-MASTERDOWN Link with MASTER is down\r\n".repeat(10)),
    ];
    for fault in faults {
        let begun = Instant::now();
        let name = format!("{fault:?}").chars().take(60).collect::<String>();
        wire.set(fault);
        let reason = following.goes_down().await;
        println!("{name}: noticed after {:?}: {reason}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_millis(1900));
        wire.set(Fault::None);
        recovered(&name).await;
    }
    store.freeze(true);
    let begun = Instant::now();
    let reason = following.goes_down().await;
    println!("frozen: noticed after {:?}: {reason}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(1900));
    store.freeze(false);
    recovered("frozen").await;
    let master = Redis::start().await;
    let port = master.address().port().to_string();
    store.done(&["REPLICAOF", "127.0.0.1", &port]).await;
    println!("demoted: {}", following.goes_down().await);
    store.done(&["REPLICAOF", "NO", "ONE"]).await;
    store.done(&["SET", "RECENT", "ON"]).await;
    recovered("demoted").await;
    store.kill();
    println!("killed: {}", following.goes_down().await);
    store.revive().await;
    until("it is back, without its content", || async {
        let reading = following.last()?;
        (following.is_down().is_none() && !reading.marked && following.key("RECENT")? == Found::Absent).then_some(())
    })
    .await;
}

#[tokio::test]
async fn writes_arrive_all_together_or_say_why_not() {
    let (store, replica) = (Redis::start().await, Redis::start().await);
    let source = RedisSource { hash: Some("flags".into()), ..at(store.address()) };
    let write = async |source: &RedisSource, writes: &[(FlagPlace, Option<&str>)]| {
        let commands: Vec<_> = writes.iter().map(|(place, value)| command(source, place, *value).unwrap()).collect();
        let mut link = Place::new(source).open(None).await.unwrap();
        run(&mut link, commands).await
    };
    let (key, field) = (FlagPlace::Key("A".into()), FlagPlace::Field("b".into()));
    write(&source, &[(key.clone(), Some("on")), (field.clone(), Some("25%"))]).await.unwrap();
    assert_eq!(store.done(&["GET", "A"]).await, "on");
    assert_eq!(store.done(&["HGET", "flags", "b"]).await, "25%");
    write(&source, &[(key.clone(), None), (field, None)]).await.unwrap();
    assert_eq!(store.done(&["EXISTS", "A", "flags"]).await, "0");
    replica.done(&["REPLICAOF", "127.0.0.1", &store.address().port().to_string()]).await;
    let refused = write(&at(replica.address()), &[(key.clone(), Some("on"))]).await;
    assert_eq!(refused, Err(Failure::ReadOnly));
    assert!(matches!(error(&Failure::ReadOnly), FlagWriteError::Unreachable(_)));
    store.done(&["ACL", "SETUSER", "default", "-set"]).await;
    let refused = write(&source, &[(key.clone(), Some("on"))]).await;
    assert!(matches!(error(&refused.unwrap_err()), FlagWriteError::Refused(_)));
    let nowhere = command(&at(store.address()), &FlagPlace::Field("b".into()), Some("on"));
    assert!(matches!(nowhere, Err(FlagWriteError::ReadOnly(_))));
}
