use std::{
    collections::BTreeMap,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant as StdInstant},
};

use tidegate_config::{EndpointAddress, MirrorSpec, Scheme, TargetId, Weight};
use tidegate_core::{State, compile, stats::MIRROR_RESULTS};

use super::*;
use crate::outbound::scripted::{Script, Scripted, answer, refusing, trust};

const LIMIT: usize = 64 * 1024;

/// A mirror to the target `shadow`, with the defaults of a file.
pub(super) fn spec() -> MirrorSpec {
    MirrorSpec {
        to: TargetId::parse("shadow").unwrap(),
        percent: Weight::FULL,
        methods: vec!["*".to_owned()],
        max_body: LIMIT as u64,
        compare: false,
        ignore: Vec::new(),
        remove_headers: Vec::new(),
        set_headers: BTreeMap::new(),
        flag: None,
    }
}

/// A service whose one mirror copies everything.
pub(super) struct Scene {
    mirrors: Mirrors,
    pub(super) snapshot: Snapshot,
}

impl Scene {
    /// Copies go to these endpoints.
    pub(super) fn to(shadows: &[&EndpointAddress]) -> Self {
        Self::with(shadows, "", |_| {})
    }

    /// The same, with further settings of the mirror, and after changing the state.
    pub(super) fn with(shadows: &[&EndpointAddress], mirror: &str, change: impl FnOnce(&mut State)) -> Self {
        let shadows: Vec<String> = shadows.iter().map(|address| format!("{:?}", address.to_string())).collect();
        let file = format!(
            r#"
            [listener.public]
            address = "127.0.0.1:0"
            [service.web]
            stable = "live"
            health = false
            [service.web.target.live]
            endpoints = ["127.0.0.1:1"]
            [service.web.target.shadow]
            endpoints = [{}]
            [service.web.mirror.audit]
            to = "shadow"
            methods = ["*"]
            {mirror}
            "#,
            shadows.join(", ")
        );
        let (mut state, _) = State::load(&tidegate_config::parse(&file).unwrap(), None);
        change(&mut state);
        let snapshot = compile(&Arc::new(state), None, 1);
        Self { mirrors: Mirrors { pool: Pool::new(), trust: Some(trust()) }, snapshot }
    }

    pub(super) fn stats(&self) -> &MirrorStats {
        &self.snapshot.services[0].mirrors[0].stats
    }

    pub(super) fn begin_as(&self, head: &RequestHeader, body: BodyKind) -> Option<Copy> {
        self.mirrors.begin(&self.snapshot, ServiceIdx(0), MirrorIdx(0), head, body, "r-1")
    }

    fn begin(&self, body: BodyKind) -> Option<Copy> {
        self.begin_as(&head("POST", "/a?b=c"), body)
    }

    /// Copies a request with this body, in these chunks.
    fn copy(&self, kind: BodyKind, chunks: &[&[u8]]) {
        let mut copy = self.begin(kind).unwrap();
        for chunk in chunks {
            copy.feed(&Bytes::copy_from_slice(chunk));
        }
        copy.end();
    }

    /// Waits until no copy runs and nothing is held, and gives the results that were counted.
    pub(super) async fn ended(&self) -> Vec<(&'static str, u64)> {
        let stats = self.stats();
        let waiting = StdInstant::now();
        while stats.in_flight.load(Relaxed) > 0 || stats.bytes_held.load(Relaxed) > 0 {
            assert!(waiting.elapsed() < Duration::from_secs(60), "still running: {stats:?}");
            // A clock that stands still may go on by as much when nothing else can happen.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.results()
    }

    fn results(&self) -> Vec<(&'static str, u64)> {
        let counted = MIRROR_RESULTS.iter().zip(&self.stats().results);
        counted.map(|(name, count)| (*name, count.load(Relaxed))).filter(|(_, count)| *count > 0).collect()
    }

    fn classes(&self) -> Vec<u64> {
        self.stats().classes.iter().map(|count| count.load(Relaxed)).collect()
    }
}

pub(super) fn head(method: &str, target: &str) -> RequestHeader {
    let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
    head.append_header("Host", "web.example").unwrap();
    head
}

fn ok() -> Script {
    Script::Answer(answer(200, "", "fine"))
}

/// Lets the deadline of all that has begun pass.
async fn pass_deadline() {
    tokio::time::pause();
    // Timers are exact to a millisecond.
    tokio::time::advance(DEADLINE + Duration::from_millis(1)).await;
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn bodies_arrive_byte_for_byte() {
    let mut shadow = Scripted::start(ok()).await;
    let scene = Scene::to(&[&shadow.address]);
    let mut sent = 0;
    for length in [0, 1, 1000, 4095, 4096, 4097, LIMIT - 1, LIMIT] {
        let body = bytes(length);
        for chunk in [1, 4095, 4096, 16_384, LIMIT] {
            for kind in [BodyKind::Length(length as u64), BodyKind::Unknown] {
                if chunk == 1 && length > 4097 {
                    continue;
                }
                scene.copy(kind, &body.chunks(chunk).collect::<Vec<_>>());
                let received = shadow.received().await;
                assert!(received.body == body, "{length} bytes in chunks of {chunk} as {kind:?}");
                assert_eq!(received.header("content-length"), Some(length.to_string()));
                sent += 1;
                assert_eq!(scene.ended().await, [("sent", sent)]);
            }
        }
    }
    assert_eq!(shadow.accepted(), 1);
}

#[tokio::test]
async fn a_request_without_a_body_is_copied_as_it_is() {
    let mut shadow = Scripted::start(Script::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_vec())).await;
    let scene =
        Scene::with(&[&shadow.address], r#"headers = { remove = ["cookie"], set = { x-env = "dark" } }"#, |_| {});
    let mut head = head("HEAD", "/a?b=%20c");
    head.append_header("Cookie", "secret").unwrap();
    head.append_header("Accept", "text/html").unwrap();
    scene.begin_as(&head, BodyKind::Empty).unwrap().end();
    let received = shadow.received().await;
    assert_eq!((received.method.as_str(), received.target.as_str()), ("HEAD", "/a?b=%20c"));
    let mut headers: Vec<_> = received.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            ("accept", "text/html"),
            ("host", "web.example"),
            ("x-env", "dark"),
            ("x-request-id", "r-1"),
            ("x-tidegate-shadow", "audit"),
        ]
    );
    assert_eq!(scene.ended().await, [("sent", 1)]);
}

#[tokio::test]
async fn one_byte_more_than_max_body_is_not_copied() {
    let mut shadow = Scripted::start(ok()).await;
    let scene = Scene::to(&[&shadow.address]);
    assert!(scene.begin(BodyKind::Length(LIMIT as u64 + 1)).is_none());
    assert_eq!(scene.results(), [("dropped_body", 1)]);
    scene.copy(BodyKind::Unknown, &[&bytes(LIMIT), b"x", b"more"]);
    assert_eq!(scene.ended().await, [("dropped_body", 2)]);
    assert_eq!((shadow.accepted(), shadow.received_now().is_none()), (0, true));
}

#[tokio::test]
async fn a_raised_max_body_is_copied() {
    let mut shadow = Scripted::start(ok()).await;
    let scene = Scene::with(&[&shadow.address], r#"max_body = "1MiB""#, |_| {});
    let body = bytes(1 << 20);
    scene.copy(BodyKind::Unknown, &body.chunks(30_000).collect::<Vec<_>>());
    assert!(shadow.received().await.body == body);
    assert_eq!(scene.ended().await, [("sent", 1)]);
}

#[tokio::test]
async fn a_request_that_ends_before_its_body_is_seen_by_no_shadow() {
    let shadow = Scripted::start(ok()).await;
    let scene = Scene::to(&[&shadow.address]);
    let mut copy = scene.begin(BodyKind::Unknown).unwrap();
    copy.feed(&Bytes::from_static(b"begun"));
    drop(copy);
    assert_eq!(scene.ended().await, [("aborted", 1)]);
    // Said to be complete, but shorter than its head says.
    scene.copy(BodyKind::Length(6), &[b"begun"]);
    assert_eq!(scene.ended().await, [("aborted", 2)]);
    assert_eq!(shadow.accepted(), 0);
}

#[tokio::test]
async fn a_body_that_comes_again_for_another_attempt_is_copied_once() {
    let mut shadow = Scripted::start(ok()).await;
    let scene = Scene::to(&[&shadow.address]);
    let mut copy = scene.begin(BodyKind::Unknown).unwrap();
    copy.feed(&Bytes::from_static(b"abc"));
    copy.restart();
    copy.feed(&Bytes::from_static(b"abc"));
    copy.feed(&Bytes::from_static(b"def"));
    copy.end();
    assert_eq!(shadow.received().await.body, b"abcdef");
    assert_eq!(scene.ended().await, [("sent", 1)]);
}

#[tokio::test]
async fn copies_and_upgrades_are_left_alone_and_not_counted() {
    let scene = Scene::to(&[&refusing().await]);
    for name in ["X-Tidegate-Shadow", "Upgrade"] {
        let mut head = head("GET", "/");
        head.append_header(name, "x").unwrap();
        assert!(scene.begin_as(&head, BodyKind::Empty).is_none());
    }
    assert_eq!(scene.ended().await, []);
}

#[tokio::test]
async fn a_hung_shadow_holds_64_copies_for_5_seconds_and_no_more() {
    let mut shadow = Scripted::start(Script::Hang).await;
    let scene = Scene::to(&[&shadow.address]);
    for _ in 0..bounds::MAX_COPIES {
        scene.copy(BodyKind::Unknown, &[b"body"]);
    }
    for _ in 0..6 {
        assert!(scene.begin(BodyKind::Empty).is_none());
    }
    for _ in 0..bounds::MAX_COPIES {
        shadow.received().await;
    }
    assert_eq!((scene.stats().in_flight.load(Relaxed), scene.stats().bytes_held.load(Relaxed)), (64, 256));
    pass_deadline().await;
    assert_eq!(scene.ended().await, [("timeout", 64), ("dropped_requests", 6)]);
    assert_eq!(scene.classes(), [64, 0, 0, 0, 0, 0]);
    shadow.open_connections(0).await;
}

#[tokio::test]
async fn sixteen_mebibytes_are_held_and_no_more() {
    let mut shadow = Scripted::start(ok()).await;
    let scene = Scene::with(&[&shadow.address], r#"max_body = "16MiB""#, |_| {});
    let mut large = scene.begin(BodyKind::Unknown).unwrap();
    for _ in 0..256 {
        large.feed(&Bytes::from(vec![0; LIMIT]));
    }
    assert_eq!(scene.stats().bytes_held.load(Relaxed), bounds::MAX_BYTES);
    scene.copy(BodyKind::Unknown, &[b"x"]);
    assert_eq!(scene.results(), [("dropped_bytes", 1)]);
    large.end();
    assert_eq!(shadow.received().await.body.len(), 16 << 20);
    assert_eq!(scene.ended().await, [("sent", 1), ("dropped_bytes", 1)]);
}

#[tokio::test]
async fn a_client_that_stands_still_holds_nothing_after_the_deadline() {
    let shadow = Scripted::start(ok()).await;
    let scene = Scene::to(&[&shadow.address]);
    let mut copy = scene.begin(BodyKind::Unknown).unwrap();
    copy.feed(&Bytes::from_static(b"begun"));
    pass_deadline().await;
    assert_eq!(scene.ended().await, [("dropped_slow", 1)]);
    copy.feed(&Bytes::from_static(b"late"));
    copy.end();
    assert_eq!(scene.ended().await, [("dropped_slow", 1)]);
    assert_eq!(shadow.accepted(), 0);
}

#[tokio::test]
async fn shadows_that_fail_are_counted_as_errors() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec();
    let scripts = [
        (Script::Reset, 0),
        (Script::AnswerAndClose(Vec::new()), 0),
        (Script::AnswerAndClose(b"gibberish\r\n\r\n".to_vec()), 0),
        (Script::AnswerAndClose(cut.clone()), 2),
        (Script::AnswerAndReset(cut), 2),
    ];
    for (script, class) in scripts {
        let mut shadow = Scripted::start(script).await;
        let scene = Scene::to(&[&shadow.address]);
        scene.copy(BodyKind::Unknown, &[b"body"]);
        assert_eq!(scene.ended().await, [("error", 1)]);
        assert_eq!(scene.classes()[class], 1);
        assert_eq!(scene.stats().durations.iter().map(|count| count.load(Relaxed)).sum::<u64>(), 0);
        shadow.open_connections(0).await;
    }
    let scene = Scene::to(&[&refusing().await]);
    scene.copy(BodyKind::Unknown, &[b"body"]);
    assert_eq!(scene.ended().await, [("error", 1)]);
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_left_alone_for_a_while() {
    let scene = Scene::to(&[&refusing().await]);
    scene.copy(BodyKind::Empty, &[]);
    assert_eq!(scene.ended().await, [("error", 1)]);
    assert!(scene.begin(BodyKind::Empty).is_none(), "it rests");
    assert_eq!(scene.ended().await, [("error", 1), ("unavailable", 1)]);
    tokio::time::pause();
    tokio::time::advance(pool::REST).await;
    scene.copy(BodyKind::Empty, &[]);
    assert_eq!(scene.ended().await, [("error", 2), ("unavailable", 1)]);
}

#[tokio::test]
async fn the_other_endpoints_of_a_shadow_get_what_one_refuses() {
    let there = Scripted::start(Script::Answer(answer(200, "", ""))).await;
    let scene = Scene::to(&[&refusing().await, &there.address]);
    let mut tried = 0;
    while scene.ended().await.iter().all(|(result, _)| *result != "error") {
        assert!(tried < 10, "one of two endpoints is tried soon");
        scene.copy(BodyKind::Empty, &[]);
        tried += 1;
    }
    let sent = |endings: &[(&str, u64)]| endings.iter().find(|(result, _)| *result == "sent").map_or(0, |(_, n)| *n);
    let before = sent(&scene.ended().await);
    for _ in 0..6 {
        scene.copy(BodyKind::Empty, &[]);
    }
    assert_eq!(sent(&scene.ended().await), before + 6);
}

#[tokio::test]
async fn answers_are_counted_by_class_and_time() {
    for status in [204, 302, 404, 503] {
        let shadow = Scripted::start(Script::Answer(answer(status, "", ""))).await;
        let scene = Scene::to(&[&shadow.address]);
        scene.copy(BodyKind::Empty, &[]);
        assert_eq!(scene.ended().await, [("sent", 1)]);
        assert_eq!(scene.classes()[usize::from(status / 100)], 1);
        assert_eq!(scene.stats().durations.iter().map(|count| count.load(Relaxed)).sum::<u64>(), 1);
        assert!(scene.stats().duration_sum_us.load(Relaxed) > 0);
    }
}

#[tokio::test]
async fn endless_answers_are_read_slowly_and_cut_at_the_deadline() {
    let endless = [
        Script::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        Script::Dribble(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        Script::Dribble(b"HTTP/1.1 200 OK\r\nx-slow: ".to_vec()),
    ];
    for script in endless {
        let mut shadow = Scripted::start(script).await;
        let scene = Scene::to(&[&shadow.address]);
        scene.copy(BodyKind::Unknown, &[b"body"]);
        shadow.received().await;
        // From here on the clock jumps whenever nothing else can happen: an answer that is read without a pause would
        // never let it.
        tokio::time::pause();
        assert_eq!(scene.ended().await, [("timeout", 1)]);
        shadow.open_connections(0).await;
        assert!(shadow.written() < 64 << 20, "{} bytes were read", shadow.written());
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_at_the_deadline() {
    let mut shadow = Scripted::start_mute(Scheme::Https).await;
    let scene = Scene::to(&[&shadow.address]);
    scene.copy(BodyKind::Empty, &[]);
    shadow.open_connections(1).await;
    pass_deadline().await;
    assert_eq!(scene.ended().await, [("timeout", 1)]);
    shadow.open_connections(0).await;
}

#[tokio::test]
async fn no_task_outlives_its_copy_though_the_shadow_never_reads() {
    let metrics = tokio::runtime::Handle::current().metrics();
    for scheme in [Scheme::Http, Scheme::H2c] {
        let mut shadow = Scripted::start_deaf(scheme).await;
        let before = metrics.num_alive_tasks();
        let scene = Scene::with(&[&shadow.address], r#"max_body = "16MiB""#, |_| {});
        scene.copy(BodyKind::Unknown, &[&vec![0; 16 << 20]]);
        shadow.open_connections(1).await;
        pass_deadline().await;
        assert_eq!(scene.ended().await, [("timeout", 1)]);
        drop(scene);
        let waiting = StdInstant::now();
        while metrics.num_alive_tasks() > before {
            assert!(waiting.elapsed() < Duration::from_secs(10), "{scheme:?}: tasks are still alive");
            tokio::task::yield_now().await;
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn an_early_answer_does_not_cut_the_body() {
    let mut shadow = Scripted::start(Script::AnswerEarly(answer(200, "", "early"))).await;
    let scene = Scene::with(&[&shadow.address], r#"max_body = "8MiB""#, |_| {});
    for sent in 1..=2 {
        let body = bytes(4 << 20);
        scene.copy(BodyKind::Unknown, &[&body]);
        assert!(shadow.received().await.body == body);
        assert_eq!(scene.ended().await, [("sent", sent)]);
    }
}

#[tokio::test]
async fn connections_are_used_again_until_they_close() {
    let mut keeping = Scripted::start(ok()).await;
    let scene = Scene::to(&[&keeping.address]);
    for sent in 1..=5 {
        scene.copy(BodyKind::Unknown, &[b"body"]);
        assert_eq!(scene.ended().await, [("sent", sent)]);
    }
    assert_eq!((keeping.accepted(), scene.mirrors.pool.idle()), (1, 1));
    keeping.open_connections(1).await;

    let mut closing = Scripted::start(Script::AnswerAndClose(answer(200, "", "fine"))).await;
    let scene = Scene::to(&[&closing.address]);
    for sent in 1..=5 {
        scene.copy(BodyKind::Unknown, &[b"body"]);
        assert_eq!(scene.ended().await, [("sent", sent)]);
        closing.open_connections(0).await;
    }
    assert_eq!(closing.accepted(), 5);
}

#[tokio::test]
async fn idle_connections_are_bounded_and_closed_by_time() {
    let mut shadow = Scripted::start(ok()).await;
    let scene = Scene::to(&[&shadow.address]);
    for _ in 0..bounds::MAX_COPIES {
        scene.copy(BodyKind::Empty, &[]);
    }
    assert_eq!(scene.ended().await, [("sent", 64)]);
    shadow.open_connections(32).await;
    assert_eq!(scene.mirrors.pool.idle(), 32);
    tokio::time::pause();
    // Nothing else can happen: the clock jumps to the reaper's turns.
    shadow.open_connections(0).await;
    assert_eq!(scene.mirrors.pool.idle(), 0);
}

#[tokio::test]
async fn http2_shadows_get_all_copies_on_one_connection() {
    for (scheme, alpn) in [(Scheme::H2c, ""), (Scheme::Https, "h2")] {
        let mut shadow = Scripted::start_hyper(scheme, alpn, "fine").await;
        let scene = Scene::to(&[&shadow.address]);
        let body = bytes(LIMIT);
        for round in [1, 32] {
            for _ in 0..round {
                scene.copy(BodyKind::Length(LIMIT as u64), &[&body]);
            }
            for _ in 0..round {
                let received = shadow.received().await;
                assert!(received.body == body);
                assert!(received.target.ends_with("://web.example/a?b=c"), "{}", received.target);
            }
            scene.ended().await;
        }
        assert_eq!(scene.results(), [("sent", 33)]);
        assert_eq!(shadow.accepted(), 1);
    }
}

#[tokio::test]
async fn shadows_on_https_and_unix_sockets_are_reached() {
    let directory = tempfile::tempdir().unwrap();
    let shadows = [
        Scripted::start_hyper(Scheme::Https, "http/1.1", "fine").await,
        Scripted::start_unix(directory.path().join("shadow.sock"), ok()).await,
    ];
    for mut shadow in shadows {
        let scene = Scene::to(&[&shadow.address]);
        for sent in 1..=2 {
            scene.copy(BodyKind::Unknown, &[b"body"]);
            assert_eq!(shadow.received().await.body, b"body");
            assert_eq!(scene.ended().await, [("sent", sent)]);
        }
        assert_eq!(shadow.accepted(), 1);
    }
}

/// How often each of three endpoints is next in nine turns, given their health.
fn turns(health: [Health; 3]) -> [usize; 3] {
    let shadows: Vec<EndpointAddress> = (1..4).map(|port| format!("127.0.0.1:{port}").parse().unwrap()).collect();
    let scene = Scene::with(&shadows.iter().collect::<Vec<_>>(), "", |state| {
        let web = Arc::make_mut(state.services.get_mut("web").unwrap());
        let known = shadows.iter().cloned().zip(health).collect();
        web.health.insert(TargetId::parse("shadow").unwrap(), known);
    });
    let shadow = scene.snapshot.services[0].target(scene.snapshot.services[0].mirrors[0].to).unwrap();
    let mut turns = [0; 3];
    for _ in 0..9 {
        if let Some(next) = next_endpoint(shadow, scene.stats(), |_| false) {
            turns[next.get()] += 1;
        }
    }
    turns
}

#[test]
fn healthy_endpoints_take_turns_and_suspect_ones_only_when_alone() {
    use Health::{Healthy, Suspect, Unhealthy};
    assert_eq!(turns([Healthy, Healthy, Healthy]), [3, 3, 3]);
    assert_eq!(turns([Healthy, Unhealthy, Suspect]), [9, 0, 0]);
    assert_eq!(turns([Unhealthy, Suspect, Suspect]).iter().sum::<usize>(), 9);
    assert_eq!(turns([Unhealthy, Suspect, Suspect])[0], 0);
    assert_eq!(turns([Unhealthy, Unhealthy, Unhealthy]), [0, 0, 0]);
}

#[tokio::test]
async fn a_shadow_without_an_endpoint_is_counted() {
    let scene = Scene::to(&[&"shadow.test:80".parse().unwrap()]);
    assert!(scene.begin(BodyKind::Empty).is_none());
    assert_eq!(scene.ended().await, [("unavailable", 1)]);
}
