//! Whether a shadow answers as the primary does: status, latency and body of each pair.
//!
//! The request's side only keeps references to chunks ([`PrimaryTap`]); hashing and reading JSON happen on a thread for
//! blocking work, after both answers are complete. A pair whose halves are not both complete at the copy's deadline is
//! not compared, nor are bodies that the mirror's bound on bytes has no room for: a difference that is shown was seen.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tidegate_core::{
    snapshot::Mirror,
    stats::{Answered, DIFFERENCE_KINDS, Difference, MirrorStats},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::gather::Gathered;
use crate::{digest::hex, outbound::Payload};

/// Bytes of each answer that are compared: as much as a request's body may have, and little enough to hold twice.
const COMPARED: u64 = 64 * 1024;

/// A shadow is slower when it takes more than twice the primary's time and this much more than it: below, the difference
/// is the weather.
const SLOWER_BY: Duration = Duration::from_millis(50);

/// Bytes of a path that a difference shows.
const PATH_SHOWN: usize = 256;

/// The positions of [`DIFFERENCE_KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Status,
    Latency,
    Body,
}

/// The two ends of a pair, if the mirror compares: one for the request's side, one for the copy.
pub(super) fn pair(mirror: &Mirror, copy: &Request<Payload>, request_id: &str) -> (Option<PrimaryTap>, Option<Pair>) {
    if !mirror.spec.compare {
        return (None, None);
    }
    let (to, primary) = oneshot::channel();
    let tap = PrimaryTap { answer: Answer::nothing(&mirror.stats), to };
    let path = copy.uri().path();
    let pair = Pair {
        primary,
        stats: Arc::clone(&mirror.stats),
        ignore: mirror.spec.ignore.iter().map(|path| segments(path)).collect(),
        request_id: request_id.to_owned(),
        method: copy.method().to_string(),
        path: path.chars().take(PATH_SHOWN).collect(),
    };
    (Some(tap), Some(pair))
}

/// Where the request's own answer is told to its mirror. Dropping it before [`PrimaryTap::end`] says that the answer
/// was not complete: then nothing is compared.
#[derive(Debug)]
pub(crate) struct PrimaryTap {
    answer: Answer,
    to: oneshot::Sender<(Answer, Duration)>,
}

impl PrimaryTap {
    /// The head of the answer as the endpoint gave it. A later one (another attempt) takes its place.
    pub(crate) fn head(&mut self, status: u16, headers: &HeaderMap) {
        self.answer.head(status, headers);
    }

    /// The next chunk of the answer's body, as the endpoint gave it.
    pub(crate) fn body(&mut self, chunk: &Bytes) {
        if self.to.is_closed() {
            // The copy has ended: a long answer must not hold for nothing what other copies could use.
            self.answer.kept = None;
        }
        self.answer.body(chunk);
    }

    /// The answer is complete; `latency` is the time from the request's head to here.
    pub(crate) fn end(self, latency: Duration) {
        // A copy that has ended already has nothing to compare.
        drop(self.to.send((self.answer, latency)));
    }
}

/// One answer, as far as it is kept.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    json: bool,
    length: u64,
    /// Its first [`COMPARED`] bytes; `None`: the mirror holds too much already.
    kept: Option<Gathered>,
    stats: Arc<MirrorStats>,
}

impl Answer {
    fn nothing(stats: &Arc<MirrorStats>) -> Self {
        Self { status: 0, json: false, length: 0, kept: Some(Gathered::nothing(stats)), stats: Arc::clone(stats) }
    }

    /// Begins, and forgets what was before.
    pub(super) fn head(&mut self, status: u16, headers: &HeaderMap) {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        *self = Self::nothing(&self.stats);
        self.status = status;
        self.json = (essence == "application/json" || essence.ends_with("+json"))
            && !headers.contains_key(header::CONTENT_ENCODING);
    }

    /// Keeps a chunk by reference.
    pub(super) fn body(&mut self, chunk: &Bytes) {
        self.length += chunk.len() as u64;
        let Some(kept) = &mut self.kept else { return };
        let room = usize::try_from(COMPARED - kept.length()).unwrap_or(usize::MAX);
        if room > 0 && kept.push(&chunk.slice(..chunk.len().min(room)), COMPARED).is_err() {
            self.kept = None;
        }
    }

    /// Its JSON, if it is that and was kept whole.
    fn as_json(&self, kept: &[u8]) -> Option<Value> {
        let whole = self.json && self.length == kept.len() as u64;
        if whole { serde_json::from_slice(kept).ok() } else { None }
    }

    fn shown(&self, latency: Duration) -> Answered {
        let kept = self.kept.as_ref().map(Gathered::bytes).unwrap_or_default();
        let body_sha256 = hex(Sha256::digest(&kept));
        Answered { status: self.status, latency_us: micros(latency), body_bytes: self.length, body_sha256 }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The copy's end of a pair.
pub(super) struct Pair {
    primary: oneshot::Receiver<(Answer, Duration)>,
    stats: Arc<MirrorStats>,
    ignore: Vec<Vec<String>>,
    request_id: String,
    method: String,
    path: String,
}

impl Pair {
    /// What is to keep the shadow's answer.
    pub(super) fn answer(&self) -> Answer {
        Answer::nothing(&self.stats)
    }

    /// Compares the shadow's answer with the primary's, when that is complete before the deadline.
    pub(super) async fn compare(mut self, shadow: Answer, took: Duration, deadline: Instant) {
        let Ok(Ok((primary, latency))) = timeout_at(deadline, &mut self.primary).await else { return };
        let judged = tokio::task::spawn_blocking(move || self.judge(&primary, latency, &shadow, took)).await;
        if let Err(error) = judged {
            tracing::error!(%error, "a comparison broke off");
        }
    }

    fn judge(&self, primary: &Answer, primary_took: Duration, shadow: &Answer, shadow_took: Duration) {
        let mut kinds = Vec::new();
        if primary.status != shadow.status {
            kinds.push(Kind::Status);
        }
        if shadow_took > primary_took * 2 && shadow_took > primary_took + SLOWER_BY {
            kinds.push(Kind::Latency);
        }
        let bodies = self.judge_bodies(primary, shadow);
        if bodies != Bodies::Same {
            kinds.push(Kind::Body);
        }
        self.stats.compared.fetch_add(1, Relaxed);
        for kind in &kinds {
            if let Some(counter) = self.stats.differences.get(*kind as usize) {
                counter.fetch_add(1, Relaxed);
            }
        }
        if kinds.is_empty() {
            return;
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.stats.recent.push(Difference {
            at_unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            request_id: self.request_id.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            kinds: kinds.iter().filter_map(|kind| DIFFERENCE_KINDS.get(*kind as usize).copied()).collect(),
            at: if let Bodies::DifferAt(at) = bodies { Some(at) } else { None },
            primary: primary.shown(primary_took),
            shadow: shadow.shown(shadow_took),
        });
    }

    fn judge_bodies(&self, primary: &Answer, shadow: &Answer) -> Bodies {
        let (Some(of_primary), Some(of_shadow)) = (&primary.kept, &shadow.kept) else { return Bodies::Same };
        let (of_primary, of_shadow) = (of_primary.bytes(), of_shadow.bytes());
        if primary.length == shadow.length && of_primary == of_shadow {
            return Bodies::Same;
        }
        let (Some(of_primary), Some(of_shadow)) = (primary.as_json(&of_primary), shadow.as_json(&of_shadow)) else {
            return Bodies::Differ;
        };
        let ignored: Vec<&[String]> = self.ignore.iter().map(Vec::as_slice).collect();
        let mut at = String::new();
        if differ(&of_primary, &of_shadow, &ignored, &mut at) { Bodies::DifferAt(at) } else { Bodies::Same }
    }
}

/// How two bodies compare.
#[derive(Debug, PartialEq, Eq)]
enum Bodies {
    Same,
    Differ,
    /// JSON that first differs at this pointer.
    DifferAt(String),
}

/// The segments of a JSON path: `$.items[*].id`, `items.*.id` and `/items/*/id` mean the same.
fn segments(path: &str) -> Vec<String> {
    if let Some(pointer) = path.strip_prefix('/') {
        return pointer.split('/').map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect();
    }
    let path = path.strip_prefix('$').unwrap_or(path);
    let quoted = |c: char| matches!(c, '\'' | '"');
    path.split(['.', '[', ']'])
        .map(|segment| segment.trim_matches(quoted))
        .filter(|segment| !segment.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether two values differ outside of the ignored paths; `at` then points to where they first do.
fn differ(primary: &Value, shadow: &Value, ignored: &[&[String]], at: &mut String) -> bool {
    match (primary, shadow) {
        (Value::Object(primary), Value::Object(shadow)) => {
            let only_there = shadow.keys().filter(|key| !primary.contains_key(*key));
            primary
                .keys()
                .chain(only_there)
                .any(|key| member_differs(primary.get(key), shadow.get(key), key, ignored, at))
        }
        (Value::Array(primary), Value::Array(shadow)) => (0..primary.len().max(shadow.len()))
            .any(|index| member_differs(primary.get(index), shadow.get(index), &index.to_string(), ignored, at)),
        (primary, shadow) => primary != shadow,
    }
}

fn member_differs(
    primary: Option<&Value>,
    shadow: Option<&Value>,
    key: &str,
    ignored: &[&[String]],
    at: &mut String,
) -> bool {
    let below: Vec<&[String]> = ignored
        .iter()
        .filter_map(|path| path.split_first())
        .filter(|(first, _)| *first == key || *first == "*")
        .map(|(_, rest)| rest)
        .collect();
    if below.iter().any(|rest| rest.is_empty()) {
        return false;
    }
    let before = at.len();
    at.push('/');
    at.push_str(&key.replace('~', "~0").replace('/', "~1"));
    let differs = match (primary, shadow) {
        (Some(primary), Some(shadow)) => differ(primary, shadow, &below, at),
        _ => true,
    };
    if !differs {
        at.truncate(before);
    }
    differs
}

#[cfg(test)]
mod tests;
