use std::sync::atomic::Ordering::Relaxed;

use http::HeaderValue;
use tidegate_config::EndpointAddress;

use super::*;
use crate::{
    mirror::{BodyKind, bounds, tests::Scene, tests::head},
    outbound::scripted::{Script, Scripted, answer as written},
};

const FAST: Duration = Duration::from_millis(10);

/// A mirror that compares, without the paths that `ignore` names (TOML strings).
fn comparing(shadow: &EndpointAddress, ignore: &str) -> Scene {
    Scene::with(&[shadow], &format!("compare = true\nignore = [{ignore}]"), |_| {})
}

fn nowhere() -> EndpointAddress {
    "127.0.0.1:1".parse().unwrap()
}

fn answer(stats: &Arc<MirrorStats>, status: u16, content_type: &'static str, body: &[u8]) -> Answer {
    let mut answer = Answer::nothing(stats);
    answer.head(status, &HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]));
    for chunk in body.chunks(5000) {
        answer.body(&Bytes::copy_from_slice(chunk));
    }
    answer
}

/// What one answer of a pair is: status, content type, body, time.
type Side<'a> = (u16, &'static str, &'a [u8], Duration);

/// Judges a pair; gives the difference that was found, and what was counted of each kind.
fn judge(ignore: &str, primary: Side<'_>, shadow: Side<'_>) -> (Option<Difference>, Vec<u64>) {
    let scene = comparing(&nowhere(), ignore);
    let mirror = &scene.snapshot.services[0].mirrors[0];
    let mut copy = Request::new(Payload::default());
    *copy.uri_mut() = "/a/b?secret=1".parse().unwrap();
    let (_, pair) = pair(mirror, &copy, "r-1");
    let [of_primary, of_shadow] =
        [primary, shadow].map(|(status, content_type, body, _)| answer(&mirror.stats, status, content_type, body));
    pair.unwrap().judge(&of_primary, primary.3, &of_shadow, shadow.3);
    drop((of_primary, of_shadow));
    assert_eq!((mirror.stats.compared.load(Relaxed), mirror.stats.bytes_held.load(Relaxed)), (1, 0));
    let counted = mirror.stats.differences.iter().map(|count| count.load(Relaxed)).collect();
    (mirror.stats.recent.newest_first().pop(), counted)
}

/// What differs between two bodies: nothing, or `body` and where.
fn bodies(ignore: &str, content_type: &'static str, primary: &[u8], shadow: &[u8]) -> Option<Option<String>> {
    let (found, counted) = judge(ignore, (200, content_type, primary, FAST), (200, content_type, shadow, FAST));
    assert_eq!(counted, [0, 0, u64::from(found.is_some())]);
    found.map(|difference| {
        assert_eq!(difference.kinds, ["body"]);
        difference.at
    })
}

fn json(ignore: &str, primary: &str, shadow: &str) -> Option<String> {
    bodies(ignore, "application/json; charset=utf-8", primary.as_bytes(), shadow.as_bytes())
        .map(|at| at.expect("JSON differs somewhere"))
}

#[test]
fn equal_answers_differ_in_nothing() {
    assert_eq!(judge("", (200, "text/html", b"hi", FAST), (200, "text/html", b"hi", FAST)), (None, vec![0, 0, 0]));
}

#[test]
fn a_difference_names_its_kinds_and_both_answers_but_no_query_and_no_body() {
    let slow = Duration::from_millis(500);
    let (found, counted) = judge("", (200, "text/html", b"secret", FAST), (500, "text/html", b"", slow));
    let found = found.unwrap();
    assert_eq!(counted, [1, 1, 1]);
    assert_eq!(found.kinds, ["status", "latency", "body"]);
    assert_eq!((found.path.as_str(), found.method.as_str(), found.request_id.as_str()), ("/a/b", "GET", "r-1"));
    assert_eq!(
        found.primary,
        Answered {
            status: 200,
            latency_us: 10_000,
            body_bytes: 6,
            body_sha256: "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b".to_owned(),
        }
    );
    assert_eq!((found.shadow.status, found.shadow.latency_us, found.shadow.body_bytes), (500, 500_000, 0));
    assert!(found.at_unix_ms > 0);
}

#[test]
fn a_shadow_is_slower_above_twice_the_time_and_50_milliseconds_more() {
    let ms = Duration::from_millis;
    let table = [(10, 60, false), (10, 61, true), (100, 200, false), (100, 201, true), (100, 10, false), (0, 51, true)];
    for (primary, shadow, slower) in table {
        let (_, counted) = judge("", (200, "", b"", ms(primary)), (200, "", b"", ms(shadow)));
        assert_eq!(counted, [0, u64::from(slower), 0], "{primary} ms and {shadow} ms");
    }
}

#[test]
fn json_is_compared_by_value() {
    assert_eq!(json("", r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1, 2], "a": 1 }"#), None);
    assert_eq!(json("", r#"{"a":1,"b":[1,2]}"#, r#"{"a":1,"b":[1,3]}"#).as_deref(), Some("/b/1"));
    assert_eq!(json("", r#"{"a":1}"#, r#"{"a":1,"b":null}"#).as_deref(), Some("/b"));
    assert_eq!(json("", r#"{"a":[1]}"#, r#"{"a":[1,2]}"#).as_deref(), Some("/a/1"));
    assert_eq!(json("", r#"{"x/y~z":1}"#, r#"{"x/y~z":2}"#).as_deref(), Some("/x~1y~0z"));
    assert_eq!(json("", "1", "2").as_deref(), Some(""));
}

#[test]
fn ignored_paths_may_be_written_in_three_ways() {
    let at = |time: u32, price: u32| format!(r#"{{"items":[{{"id":{time},"price":{price}}}],"at":{time}}}"#);
    for ignore in [
        r#""$.items[*].id", "$.at""#,
        r#""items.*.id", "at""#,
        r#""/items/*/id", "/at""#,
        r#""$['items'][0].id", "at""#,
    ] {
        assert_eq!(json(ignore, &at(1, 5), &at(2, 5)), None, "{ignore}");
        assert_eq!(json(ignore, &at(1, 5), &at(2, 6)).as_deref(), Some("/items/0/price"), "{ignore}");
    }
    assert_eq!(json(r#""at""#, &at(1, 5), &at(2, 5)).as_deref(), Some("/items/0/id"));
    // An ignored path may also be missing on one side.
    assert_eq!(json(r#""b""#, r#"{"a":1}"#, r#"{"a":1,"b":2}"#), None);
}

#[test]
fn what_is_no_json_is_compared_byte_by_byte() {
    let (spaced, dense) = (br#"{"a": 1}"#, br#"{"a":1}"#);
    assert_eq!(bodies("", "text/plain", spaced, dense), Some(None));
    assert_eq!(bodies("", "application/json", spaced, dense), None);
    assert_eq!(bodies("", "application/problem+json", spaced, dense), None);
    assert_eq!(bodies("", "application/json", b"{broken", b"{broken "), Some(None));
}

#[test]
fn of_long_bodies_the_first_64_kib_and_the_length_are_compared() {
    let long = vec![b'x'; COMPARED as usize + 10];
    let other_end = [&long[..COMPARED as usize], &[b'y'; 10]].concat();
    let other_begin = [b"y", &long[1..]].concat();
    assert_eq!(bodies("", "text/plain", &long, &other_end), None);
    assert_eq!(bodies("", "text/plain", &long, &other_begin), Some(None));
    assert_eq!(bodies("", "text/plain", &long, &long[1..]), Some(None));
}

#[test]
fn a_body_that_the_bound_on_bytes_has_no_room_for_is_not_compared() {
    let scene = comparing(&nowhere(), "");
    let mirror = &scene.snapshot.services[0].mirrors[0];
    let mut all = bounds::Held::nothing(&mirror.stats);
    assert!(all.grow(bounds::MAX_BYTES - 3));
    let (_, pair) = pair(mirror, &Request::new(Payload::default()), "r-1");
    let primary = answer(&mirror.stats, 200, "text/plain", b"one");
    let shadow = answer(&mirror.stats, 200, "text/plain", b"another");
    assert!(shadow.kept.is_none());
    pair.unwrap().judge(&primary, FAST, &shadow, FAST);
    assert_eq!(mirror.stats.differences.each_ref().map(|count| count.load(Relaxed)), [0, 0, 0]);
}

#[tokio::test]
async fn a_pair_is_compared_whichever_answer_is_complete_first() {
    let mut shadow = Scripted::start(Script::Answer(written(200, "content-type: text/plain\r\n", "blue"))).await;
    let scene = comparing(&shadow.address, "");
    for (count, shadow_first) in [(1, true), (2, false)] {
        let mut copy = scene.begin_as(&head("GET", "/"), BodyKind::Empty).unwrap();
        let mut tap = copy.take_tap().unwrap();
        let mut tell = || {
            // Another attempt's answer takes the place of the first.
            tap.head(502, &HeaderMap::new());
            tap.body(&Bytes::from_static(b"bad gateway"));
            tap.head(200, &HeaderMap::new());
            tap.body(&Bytes::from_static(b"green"));
        };
        if shadow_first {
            copy.end();
            shadow.received().await;
            tell();
            tap.end(FAST);
        } else {
            tell();
            tap.end(FAST);
            copy.end();
        }
        assert_eq!(scene.ended().await, [("sent", count)]);
        let stats = scene.stats();
        assert_eq!((stats.compared.load(Relaxed), stats.differences[2].load(Relaxed)), (count, count));
        assert_eq!(stats.differences[0].load(Relaxed), 0);
    }
}

#[tokio::test]
async fn a_primary_answer_that_is_not_complete_is_not_compared() {
    let shadow = Scripted::start(Script::Answer(written(200, "", ""))).await;
    let scene = comparing(&shadow.address, "");
    let mut copy = scene.begin_as(&head("GET", "/"), BodyKind::Empty).unwrap();
    let mut tap = copy.take_tap().unwrap();
    copy.end();
    tap.head(200, &HeaderMap::new());
    tap.body(&Bytes::from_static(b"half"));
    drop(tap);
    assert_eq!(scene.ended().await, [("sent", 1)]);
    assert_eq!(scene.stats().compared.load(Relaxed), 0);
}

#[tokio::test]
async fn a_primary_answer_without_end_holds_nothing_after_its_copy() {
    let shadow = Scripted::start(Script::Reset).await;
    let scene = comparing(&shadow.address, "");
    let mut copy = scene.begin_as(&head("GET", "/"), BodyKind::Empty).unwrap();
    let mut tap = copy.take_tap().unwrap();
    copy.end();
    assert_eq!(scene.ended().await, [("error", 1)]);
    tap.head(200, &HeaderMap::new());
    tap.body(&Bytes::from_static(b"stream"));
    assert_eq!(scene.stats().bytes_held.load(Relaxed), 0);
    tap.end(FAST);
}

#[test]
fn a_mirror_that_does_not_compare_has_no_tap() {
    let scene = Scene::to(&[&nowhere()]);
    let (tap, pair) = pair(&scene.snapshot.services[0].mirrors[0], &Request::new(Payload::default()), "r-1");
    assert!(tap.is_none() && pair.is_none());
}
