//! Stores that are away, slow or wrong: no request fails or waits, flags keep their last values, and what is set
//! afterwards is followed soon.

use std::time::{Duration, Instant};

use tidegate_e2e::{Fault, Program, Redis, Wire, until};

use super::{FLAG, Stage};

/// How long each fault lasts.
const FAULT: Duration = Duration::from_secs(3);
/// How soon a store that is back must be followed. It takes a second or two, as printed; the rest is for a busy machine.
const RECOVERY: Duration = Duration::from_secs(6);

/// Turns the flag off in a store that is back, and waits for traffic to follow.
async fn recovers(stage: Stage, store: &Redis, healed: Instant, name: &str) {
    until("the store takes the change", || async {
        (store.asked(&["SET", FLAG, "OFF"]).await.ok()? == "OK").then_some(())
    })
    .await;
    stage.sees("green").await;
    let took = healed.elapsed();
    println!("{name}: followed {took:?} after it was healed");
    assert!(took < RECOVERY, "{name}: {took:?}\n{}", stage.proxy.log());
    stage.end(name).await;
}

async fn killed_with_its_data() {
    let mut store = Redis::start_with(Program::Redis, &["--appendonly", "yes", "--appendfsync", "always"]).await;
    let stage = Stage::lit(&store.url(), &store).await;
    store.kill();
    stage.source_is_up(false).await;
    stage.stays_blue(FAULT).await;
    store.revive().await;
    let healed = Instant::now();
    stage.source_is_up(true).await;
    assert_eq!(stage.now(), "blue");
    recovers(stage, &store, healed, "killed, with its data").await;
}

async fn killed_without_its_data() {
    let mut store = Redis::start().await;
    let stage = Stage::lit(&store.url(), &store).await;
    store.kill();
    stage.source_is_up(false).await;
    store.revive().await;
    let healed = Instant::now();
    stage.source_is_up(true).await;
    assert_eq!(stage.proxy.metric("tidegate_flags_source_whole{source=\"main\"}").await, 0.0);
    let ready = stage.proxy.call("GET", "/readyz", None).await;
    assert!(ready.status == 200 && ready.text().contains("emptied"), "{}", ready.text());
    assert_eq!(stage.now(), "blue");
    stage.stays_blue(Duration::from_millis(1500).saturating_sub(healed.elapsed())).await;
    let set = Instant::now();
    recovers(stage, &store, set, "killed, without its data").await;
}

async fn emptied() {
    let store = Redis::start().await;
    let stage = Stage::lit(&store.url(), &store).await;
    store.done(&["FLUSHALL"]).await;
    stage.stays_blue(FAULT).await;
    let healed = Instant::now();
    recovers(stage, &store, healed, "emptied").await;
}

async fn frozen() {
    let store = Redis::start().await;
    let stage = Stage::lit(&store.url(), &store).await;
    store.freeze(true);
    let begun = Instant::now();
    stage.source_is_up(false).await;
    println!("frozen: noticed after {:?}", begun.elapsed());
    stage.stays_blue(FAULT).await;
    store.freeze(false);
    let healed = Instant::now();
    recovers(stage, &store, healed, "frozen").await;
}

async fn on_a_bad_wire(name: &str, fault: Fault) {
    let store = Redis::start().await;
    let wire = Wire::to(store.address()).await;
    let stage = Stage::lit(&wire.url(), &store).await;
    wire.set(fault);
    stage.source_is_up(false).await;
    stage.stays_blue(FAULT).await;
    wire.set(Fault::None);
    let healed = Instant::now();
    recovers(stage, &store, healed, name).await;
}

async fn slow() {
    let store = Redis::start().await;
    let wire = Wire::to(store.address()).await;
    let stage = Stage::lit(&wire.url(), &store).await;
    wire.set(Fault::Delay(Duration::from_millis(400)));
    stage.stays_blue(FAULT).await;
    assert_eq!(stage.proxy.metric("tidegate_flags_source_up{source=\"main\"}").await, 1.0);
    // It is slow, not away: it is followed as it is.
    recovers(stage, &store, Instant::now(), "slow by 400 ms").await;
}

async fn loading() {
    let mut store = Redis::start_with(
        Program::Redis,
        &[
            "--enable-debug-command",
            "yes",
            "--key-load-delay",
            "150",
            "--loading-process-events-interval-bytes",
            "1024",
        ],
    )
    .await;
    store.done(&["DEBUG", "POPULATE", "20000"]).await;
    let stage = Stage::lit(&store.url(), &store).await;
    store.done(&["SAVE"]).await;
    store.kill();
    store.revive().await;
    assert!(store.command(&["GET", FLAG]).await.starts_with("-LOADING"));
    stage.source_is_up(false).await;
    until("it has loaded", || async {
        assert_eq!(stage.now(), "blue");
        (!store.command(&["GET", FLAG]).await.starts_with("-LOADING")).then_some(())
    })
    .await;
    let healed = Instant::now();
    stage.source_is_up(true).await;
    assert_eq!(stage.now(), "blue");
    recovers(stage, &store, healed, "loading").await;
}

async fn demoted() {
    let (store, other) = (Redis::start().await, Redis::start().await);
    other.done(&["SET", FLAG, "OFF"]).await;
    let stage = Stage::lit(&store.url(), &store).await;
    store.done(&["REPLICAOF", "127.0.0.1", &other.address().port().to_string()]).await;
    stage.source_is_up(false).await;
    stage.stays_blue(FAULT).await;
    store.done(&["REPLICAOF", "NO", "ONE"]).await;
    let healed = Instant::now();
    recovers(stage, &store, healed, "demoted").await;
}

/// A master, its replica, and a Sentinel that knows both.
async fn watched(program: Program) -> (Redis, Redis, Redis, Stage) {
    let master = Redis::start_with(program, &[]).await;
    let port = master.address().port().to_string();
    let replica = Redis::start_with(program, &["--replicaof", "127.0.0.1", &port]).await;
    let sentinel = Redis::sentinel(program, master.address()).await;
    until("the sentinel knows the replica", || async {
        let known = sentinel.command(&["SENTINEL", "REPLICAS", "flags"]).await;
        known.contains("master-link-status\nok").then_some(())
    })
    .await;
    let stage = Stage::lit(&format!("redis+sentinel://{}/flags/0", sentinel.address()), &master).await;
    (master, replica, sentinel, stage)
}

async fn promoted(replica: &Redis) {
    until("the replica is promoted", || async {
        replica.asked(&["ROLE"]).await.ok()?.starts_with("master").then_some(())
    })
    .await;
}

async fn failed_over_by_hand(program: Program) {
    let (_master, replica, sentinel, stage) = watched(program).await;
    let begun = Instant::now();
    until("the sentinel begins", || async {
        (sentinel.command(&["SENTINEL", "FAILOVER", "flags"]).await == "OK").then_some(())
    })
    .await;
    promoted(&replica).await;
    recovers(stage, &replica, begun, "failed over by hand").await;
}

async fn failed_over_by_a_crash() {
    let (mut master, replica, _sentinel, stage) = watched(Program::Redis).await;
    master.kill();
    stage.source_is_up(false).await;
    promoted(&replica).await;
    let begun = Instant::now();
    recovers(stage, &replica, begun, "failed over by a crash").await;
}

async fn of_the_wrong_type() {
    let store = Redis::start().await;
    let stage = Stage::lit(&store.url(), &store).await;
    store.done(&["LPUSH", "list", "1"]).await;
    store.done(&["RENAME", "list", FLAG]).await;
    stage.stays_blue(FAULT).await;
    assert_eq!(stage.proxy.metric("tidegate_flags_invalid").await, 1.0);
    assert!(stage.proxy.metric("tidegate_flags_invalid_total").await >= 1.0);
    store.done(&["DEL", "list"]).await;
    recovers(stage, &store, Instant::now(), "of the wrong type").await;
}

async fn of_ten_megabytes_then_nonsense() {
    let store = Redis::start().await;
    let wire = Wire::to(store.address()).await;
    let stage = Stage::lit(&wire.url(), &store).await;
    let before = wire.carried();
    store.done(&["SET", FLAG, &"x".repeat(10 << 20)]).await;
    stage.stays_blue(FAULT).await;
    let carried = wire.carried() - before;
    assert!(carried < 1 << 20, "{carried} bytes of a value that cannot be used");
    for nonsense in ["perhaps", "{\"state\":", "101%", ""] {
        store.done(&["SET", FLAG, nonsense]).await;
        stage.stays_blue(Duration::from_millis(300)).await;
    }
    recovers(stage, &store, Instant::now(), "of ten megabytes, then nonsense").await;
}

async fn with_another_password() {
    let store = Redis::start_with(Program::Redis, &["--requirepass", "first"]).await;
    let operator = async |password: &str, words: &[&str]| {
        let mut client = tidegate_e2e::redis::Resp::connect(store.address()).await.unwrap();
        client.send(&["AUTH", password]).await.unwrap();
        client.send(words).await.unwrap()
    };
    operator("first", &["SET", FLAG, "ON"]).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "first\n").unwrap();
    let source = format!("url = \"{}\"\npassword = {{ file = \"{}\" }}", store.url(), secret.path().display());
    let stage = Stage::with_source(&source).await;
    stage.sees("blue").await;
    operator("first", &["CONFIG", "SET", "requirepass", "second"]).await;
    operator("second", &["CLIENT", "KILL", "TYPE", "normal"]).await;
    stage.source_is_up(false).await;
    stage.stays_blue(FAULT).await;
    let ready = stage.proxy.call("GET", "/readyz", None).await.text();
    assert!(ready.contains("refuses the user or the password"), "{ready}");
    assert!(!stage.proxy.log().contains("first") && !stage.proxy.log().contains("second"));
    operator("second", &["SET", FLAG, "OFF"]).await;
    std::fs::write(secret.path(), "second\n").unwrap();
    let healed = Instant::now();
    stage.sees("green").await;
    println!("with another password: followed {:?} after it was healed", healed.elapsed());
    assert!(healed.elapsed() < RECOVERY);
    stage.end("with another password").await;
}

async fn with_another_authority() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tidegate_e2e::redis::certificates(dir.path());
    tidegate_e2e::redis::certificates(other.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let tls_port = tidegate_e2e::origin::refused_address().await.port().to_string();
    let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
    let arguments = [
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ];
    let store = Redis::start_with(Program::Redis, &arguments).await;
    store.done(&["SET", FLAG, "ON"]).await;
    let stage = Stage::with_source(&format!("url = \"rediss://localhost:{tls_port}/0\"\nca = \"{ca}\"")).await;
    stage.sees("blue").await;
    stage.marked(&store).await;
    let right = std::fs::read(&ca).unwrap();
    std::fs::copy(other.path().join("ca.pem"), &ca).unwrap();
    store.done(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    stage.source_is_up(false).await;
    stage.stays_blue(FAULT).await;
    assert!(stage.proxy.call("GET", "/readyz", None).await.text().contains("no TLS"));
    std::fs::write(&ca, right).unwrap();
    let healed = Instant::now();
    recovers(stage, &store, healed, "with another authority").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_outlive_stores_that_die_or_hang() {
    tokio::join!(
        killed_with_its_data(),
        killed_without_its_data(),
        emptied(),
        frozen(),
        slow(),
        loading(),
        demoted(),
        failed_over_by_a_crash(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_hand_is_followed_before_the_old_master_knows() {
    failed_over_by_hand(Program::Redis).await;
    failed_over_by_hand(Program::Valkey).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_outlive_stores_that_say_nonsense() {
    tokio::join!(
        on_a_bad_wire("resetting", Fault::Reset),
        on_a_bad_wire("silent", Fault::Hang),
        on_a_bad_wire("cutting answers in half", Fault::Half),
        on_a_bad_wire("answering in HTTP", Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        on_a_bad_wire("answering without end", Fault::Garbage(b"*99999999\r\n".to_vec())),
        of_the_wrong_type(),
        of_ten_megabytes_then_nonsense(),
        with_another_password(),
        with_another_authority(),
    );
}
