//! Sinks with real listeners, commands and files, over failures and restarts.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{Condvar, Mutex},
};

use serde_json::{Value, json};
use tidegate_core::{Event, Generation};

use super::*;

const SOON: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));

pub(super) fn event(id: &str) -> CloudEvent {
    CloudEvent {
        specversion: "1.0".into(),
        id: id.into(),
        source: "/tidegate/test".into(),
        kind: "dev.tidegate.deployment.finished".into(),
        subject: Some("web".into()),
        time: "2026-01-01T00:00:00.000Z".into(),
        datacontenttype: "application/json".into(),
        shkeptncontext: Some("dep-1".into()),
        triggeredid: None,
        data: json!({"text": "ä \"x\"\n"}),
    }
}

fn events(ids: &[&str]) -> Vec<CloudEvent> {
    ids.iter().map(|id| event(id)).collect()
}

/// Something that grows until a test has seen enough of it.
struct Seen<T> {
    all: Mutex<Vec<T>>,
    grew: Condvar,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { all: Mutex::new(Vec::new()), grew: Condvar::new() }
    }
}

impl<T: Clone> Seen<T> {
    fn add(&self, one: T) {
        self.all.lock().unwrap().push(one);
        self.grew.notify_all();
    }

    fn wait_for(&self, count: usize) -> Vec<T> {
        let all = self.all.lock().unwrap();
        let (all, late) = self.grew.wait_timeout_while(all, Duration::from_secs(30), |all| all.len() < count).unwrap();
        assert!(!late.timed_out(), "only {} of {count}", all.len());
        all.clone()
    }
}

/// What a listener got.
#[derive(Debug, Clone)]
struct Post {
    head: String,
    event: Value,
}

/// A server that answers POSTs with these statuses, then with 202.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen<Post>>,
}

impl Server {
    fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen<Post>>::default();
        let (noted, mut statuses) = (Arc::clone(&seen), statuses.iter().copied().collect::<VecDeque<_>>());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if lines.read_line(&mut head).unwrap_or(0) == 0 {
                        break;
                    }
                }
                let head = head.to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                lines.read_exact(&mut body).unwrap();
                let status = statuses.pop_front().unwrap_or(202);
                // Before the answer: who has the answer may look.
                noted.add(Post { head, event: serde_json::from_slice(&body).unwrap() });
                write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            }
        });
        Self { address, seen }
    }

    fn ids(&self, count: usize) -> Vec<String> {
        self.seen.wait_for(count).iter().map(|post| post.event["id"].as_str().unwrap().to_owned()).collect()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    log: Arc<EventLog>,
    lost: Arc<Seen<(String, u64)>>,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), log: Arc::new(EventLog::new(1_000)), lost: Arc::default() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn start(&self, sinks: &str) -> Sinks {
        let text = format!("{sinks}\n[service.web.target.green]\nendpoints = [\"127.0.0.1:1\"]\n");
        let config = tidegate_config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        let seen = Arc::clone(&self.lost);
        let lost: Lost = Arc::new(move |sink: &SinkId, count| seen.add((sink.to_string(), count)));
        Sinks::start_with(&config, self.dir.path(), &self.log, &lost, SOON).unwrap()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        text.lines().map(id).collect()
    }

    /// Waits until a file has so many lines.
    fn wait_for_lines(&self, name: &str, count: usize) -> Vec<String> {
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while fs::read_to_string(self.path(name)).unwrap_or_default().lines().count() < count {
            assert!(std::time::Instant::now() < until, "{:?}", self.lines(name));
            thread::sleep(Duration::from_millis(5));
        }
        self.lines(name)
    }
}

fn url(address: SocketAddr) -> String {
    format!("[[events.sink]]\nname = \"keptn\"\nurl = \"http://{address}/events?a=b\"\n")
}

/// The metrics as they are scraped.
fn metrics(sinks: &Sinks) -> String {
    let families: Vec<_> = sinks.families()().into_iter().filter_map(Family::finish).collect();
    prometheus::TextEncoder::new().encode_to_string(&families).unwrap()
}

#[test]
fn events_are_posted_in_their_order_until_each_is_accepted() {
    let server = Server::start(&[503, 404, 202, 429]);
    let bench = Bench::new();
    let sinks = bench.start(&url(server.address));
    sinks.tell(events(&["1", "2"]));
    sinks.tell(events(&["3"]));
    assert_eq!(server.ids(6), ["1", "1", "1", "2", "2", "3"]);
    let post = server.seen.wait_for(1)[0].clone();
    assert!(post.head.starts_with("post /events?a=b http/1.1\r\n"), "{}", post.head);
    assert!(post.head.contains("content-type: application/cloudevents+json; charset=utf-8\r\n"), "{}", post.head);
    assert_eq!(post.event, serde_json::to_value(event("1")).unwrap());
    drop(sinks);
}

#[test]
fn what_a_sink_will_never_take_does_not_hold_up_the_rest() {
    let server = Server::start(&[400, 413]);
    let bench = Bench::new();
    let sinks = bench.start(&url(server.address));
    sinks.tell(events(&["1", "2", "3"]));
    assert_eq!(server.ids(3), ["1", "2", "3"]);
    drop(sinks);
}

#[test]
fn a_token_is_sent_and_read_anew_each_time() {
    let server = Server::start(&[]);
    let bench = Bench::new();
    let file = bench.path("token");
    fs::write(&file, "first\n").unwrap();
    let sinks = bench.start(&format!("{}token = {{ file = {file:?} }}", url(server.address)));
    sinks.tell(events(&["1"]));
    assert!(server.seen.wait_for(1)[0].head.contains("authorization: bearer first\r\n"));
    fs::write(&file, "second").unwrap();
    sinks.tell(events(&["2"]));
    assert!(server.seen.wait_for(2)[1].head.contains("authorization: bearer second\r\n"));
    drop(sinks);
}

#[test]
fn what_was_not_told_before_a_restart_is_told_after_it_with_the_same_ids() {
    let bench = Bench::new();
    // Nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sinks = bench.start(&url(nobody));
    sinks.tell(events(&["1", "2"]));
    drop(sinks);
    let server = Server::start(&[]);
    let sinks = bench.start(&url(server.address));
    sinks.tell(events(&["3"]));
    assert_eq!(server.ids(3), ["1", "2", "3"]);
    drop(sinks);
}

#[test]
fn a_dead_sink_holds_up_neither_the_others_nor_who_tells() {
    let bench = Bench::new();
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let log = bench.path("log.jsonl");
    let sinks =
        bench.start(&format!("{}timeout = \"1h\"\n[[events.sink]]\nname = \"log\"\nfile = {log:?}\n", url(address)));
    for n in 0..200 {
        sinks.tell(events(&[&n.to_string()]));
    }
    let lines = bench.wait_for_lines("log.jsonl", 200);
    assert_eq!(lines, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
    drop(sinks);
}

#[test]
fn the_oldest_are_dropped_and_counted_when_a_sink_is_away_for_too_long() {
    let bench = Bench::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sinks = bench.start(&format!("{}backlog = 2", url(nobody)));
    sinks.tell(events(&["1", "2", "3", "4", "5"]));
    assert_eq!(bench.lost.wait_for(1), [("keptn".to_owned(), 3)]);
    let text = metrics(&sinks);
    assert!(text.contains("tidegate_sink_events_total{sink=\"keptn\",result=\"dropped\"} 3\n"), "{text}");
    drop(sinks);
    let server = Server::start(&[]);
    let sinks = bench.start(&url(server.address));
    assert_eq!(server.ids(2), ["4", "5"]);
    drop(sinks);
}

#[test]
fn a_command_gets_each_event_on_its_input_until_it_succeeds() {
    let bench = Bench::new();
    let (out, mark) = (bench.path("out"), bench.path("mark"));
    // It fails the first time. The lines come last: when they are seen, it may be ended.
    let script = format!(
        "test -e {mark} || {{ touch {mark}; echo no; exit 1; }}; printf %s \"$TIDEGATE_EVENT\" > {mark}; cat >> {out}; echo >> {out}"
    );
    let sinks =
        bench.start(&format!("[[events.sink]]\nname = \"mail\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\n"));
    sinks.tell(events(&["1", "2"]));
    assert_eq!(bench.wait_for_lines("out", 2), ["1", "2"]);
    drop(sinks);
    assert_eq!(fs::read_to_string(mark).unwrap(), "dev.tidegate.deployment.finished");
}

#[test]
fn a_line_that_somebody_tore_takes_no_event_with_it() {
    let bench = Bench::new();
    let log = bench.path("log.jsonl");
    fs::write(&log, "{\"id\":\"torn\"}").unwrap();
    let sinks = bench.start(&format!("[[events.sink]]\nname = \"log\"\nfile = {log:?}\n"));
    sinks.tell(events(&["1"]));
    assert_eq!(bench.wait_for_lines("log.jsonl", 2), ["torn", "1"]);
    drop(sinks);
}

#[test]
fn a_sink_gets_the_types_that_it_asks_for() {
    let of = |kind: &str| CloudEvent { kind: kind.into(), ..event("1") };
    let types = |types: &[&str]| types.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>();
    for (wanted, kind, expected) in [
        (types(&[]), "dev.tidegate.hook.finished", true),
        (types(&["deployment.finished"]), "dev.tidegate.deployment.finished", true),
        (types(&["deployment.finished"]), "dev.tidegate.deployment.finished.x", false),
        (types(&["deployment.finished"]), "sh.keptn.event.deployment.finished", false),
        (types(&["hook.*", "version.bad"]), "dev.tidegate.version.bad", true),
        (types(&["hook.*"]), "dev.tidegate.hook.finished", true),
        (types(&["hook.*"]), "dev.tidegate.hooks", false),
        (types(&["*"]), "dev.tidegate.hooks", true),
    ] {
        assert_eq!(wants(&wanted, "dev.tidegate", &of(kind)), expected, "{wanted:?} and {kind}");
    }
}

#[test]
fn two_processes_never_tell_a_sink_at_the_same_time() {
    let bench = Bench::new();
    let (out, go) = (bench.path("out"), bench.path("go"));
    // It waits for a file, and so holds the first process up.
    let script = format!("while ! test -e {go}; do sleep 0.01; done; cat >> {out}; echo >> {out}");
    let sink = format!("[[events.sink]]\nname = \"one\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\n");
    let first = bench.start(&sink);
    first.tell(events(&["1"]));
    let log = format!("[[events.sink]]\nname = \"one\"\nfile = {out:?}\n");
    while !fs::read_to_string(bench.path("events/one.jsonl")).unwrap_or_default().contains("\"id\":\"1\"") {
        thread::sleep(Duration::from_millis(5));
    }
    let second = bench.start(&log);
    second.tell(events(&["2"]));
    drop(first);
    // What the first began was ended with it, and was not told: the second tells it again.
    assert_eq!(bench.wait_for_lines("out", 2), ["1", "2"]);
    drop(second);
}

/// Something that is no deployment's.
fn flag_changed(log: &EventLog, to: &str) {
    let event = Event::FlagChanged {
        flag: "RECENT".parse().unwrap(),
        from: None,
        to: Some(to.into()),
        source: "memory".into(),
        reason: "it was set".into(),
    };
    log.push(1_800_000_000_000, Generation(1), "ci", event);
}

#[test]
fn what_else_the_proxy_does_is_told_and_waits_over_a_restart_with_the_same_id() {
    let bench = Bench::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    flag_changed(&bench.log, "before the sinks");
    let sinks = bench.start(&url(nobody));
    sinks.tell(events(&["dep"]));
    flag_changed(&bench.log, "last");
    // The end of a process takes nothing along that happened before it.
    drop(sinks);
    let bench = Bench { log: Arc::new(EventLog::new(2_000)), ..bench };
    let server = Server::start(&[]);
    let sinks = bench.start(&url(server.address));
    flag_changed(&bench.log, "after");
    assert_eq!(server.ids(4), ["dep", "1001", "1002", "2001"]);
    let post = server.seen.wait_for(2)[1].clone();
    assert_eq!(post.event["type"], "dev.tidegate.flag.changed");
    assert_eq!((&post.event["subject"], &post.event["data"]["to"]), (&json!("RECENT"), &json!("before the sinks")));
    drop(sinks);
}

#[test]
fn a_storm_neither_grows_without_end_nor_pushes_out_what_deployments_told() {
    let bench = Bench::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sinks = bench.start(&format!("{}backlog = 3", url(nobody)));
    sinks.tell(events(&["1", "2", "3"]));
    let storm = tidegate_admin::events::KEPT + 500;
    for n in 0..storm {
        flag_changed(&bench.log, &n.to_string());
    }
    let shown = sinks.families();
    drop(sinks);
    // What is not told was counted: dropped from its file, or missed in the log.
    let families: Vec<_> = shown().into_iter().filter_map(Family::finish).collect();
    let text = prometheus::TextEncoder::new().encode_to_string(&families).unwrap();
    let count = |result: &str| -> usize {
        let name = format!("tidegate_sink_events_total{{sink=\"keptn\",result=\"{result}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    };
    assert_eq!(count("dropped") + count("missed"), storm - 3, "{text}");
    let server = Server::start(&[]);
    let sinks = bench.start(&url(server.address));
    let newest = |back: usize| (1_000 + storm - back).to_string();
    assert_eq!(server.ids(6)[..6], ["1".into(), "2".into(), "3".into(), newest(2), newest(1), newest(0)]);
    drop(sinks);
}
