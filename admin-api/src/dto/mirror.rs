//! Mirrors: what sets one, and what is shown of it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};
use tidegate_config::{FlagName, MirrorSpec, Weight};
use tidegate_core::{
    snapshot::Mirror,
    stats::{Answered, DIFFERENCE_KINDS, Difference, MIRROR_RESULTS},
};
use utoipa::ToSchema;

use crate::{
    dto::{change::target, percent::Percent, time::rfc3339},
    problem::ProblemPart,
};

/// Most entries of each list and map of a mirror.
const MAX_ENTRIES: usize = 100;

/// Longest body that a mirror may copy: a copy is held in memory whole.
const MAX_BODY: u64 = 16 * 1024 * 1024;

/// Body that sets a mirror.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "to": "v3", "percent": 10, "methods": ["GET", "HEAD"], "compare": true }))]
pub struct MirrorInput {
    /// The shadow target.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub to: String,
    /// Share of requests that are copied.
    #[serde(default = "all")]
    #[schema(default = 100)]
    pub percent: Percent,
    /// Methods that are copied; `["*"]`: all.
    #[serde(default = "safe_methods")]
    #[schema(default = json!(["GET", "HEAD"]), min_items = 1, max_items = 100)]
    pub methods: Vec<String>,
    /// Longest body that is copied, in bytes.
    #[serde(default = "default_max_body")]
    #[schema(default = 65536, maximum = 16777216)]
    pub max_body: u64,
    /// Whether answers are compared with the primary's.
    #[serde(default)]
    pub compare: bool,
    /// JSON paths that a comparison leaves out.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub ignore: Vec<String>,
    /// Headers that are taken off the copy.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub remove_headers: Vec<String>,
    /// Headers that are set on the copy. Their values are never shown again.
    #[serde(default)]
    pub set_headers: BTreeMap<String, String>,
    /// It copies only while this flag is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    pub flag: Option<String>,
}

fn all() -> Percent {
    Percent(100.0)
}

fn safe_methods() -> Vec<String> {
    vec!["GET".into(), "HEAD".into()]
}

fn default_max_body() -> u64 {
    64 * 1024
}

/// A mirror and its results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorView {
    /// Its name.
    pub name: String,
    /// The shadow target.
    pub to: String,
    /// Share of requests that are copied, in percent.
    pub percent: Percent,
    /// Methods that are copied; `*`: all.
    pub methods: Vec<String>,
    /// Longest body that is copied, in bytes.
    pub max_body: u64,
    /// Whether answers are compared with the primary's.
    pub compare: bool,
    /// JSON paths that a comparison leaves out.
    pub ignore: Vec<String>,
    /// Headers that are taken off the copy.
    pub remove_headers: Vec<String>,
    /// Names of the headers that are set on the copy; their values may be secret.
    pub set_headers: Vec<String>,
    /// It copies only while this flag is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
    /// Copies that run now.
    pub in_flight: u32,
    /// Copies by how they ended: `sent`, or why not.
    pub results: BTreeMap<String, u64>,
    /// Answers of the shadow by class of their status.
    pub statuses: BTreeMap<String, u64>,
    /// Pairs that were compared.
    pub compared: u64,
    /// Pairs that differed, by what differed.
    pub differences: BTreeMap<String, u64>,
}

/// A mirror with the last pairs that differed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MirrorDetail {
    /// The generation that it is of.
    pub generation: u64,
    /// The mirror.
    #[serde(flatten)]
    pub mirror: MirrorView,
    /// The last pairs that differed, newest first.
    pub recent_differences: Vec<DifferingPair>,
}

/// A pair of answers that differed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DifferingPair {
    /// When it was compared, RFC 3339 in UTC.
    pub at: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The request id that both requests carried.
    pub request_id: String,
    /// The method.
    pub method: String,
    /// The path without its query, cut to 256 bytes.
    pub path: String,
    /// What differed: `status`, `latency`, `body`.
    pub kinds: Vec<String>,
    /// For JSON bodies: where the first difference is, as a JSON pointer.
    pub pointer: Option<String>,
    /// The primary's answer.
    pub primary: AnswerView,
    /// The shadow's answer.
    pub shadow: AnswerView,
}

/// One answer of a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnswerView {
    /// Its status.
    pub status: u16,
    /// Microseconds from the request to the end of the answer.
    pub latency_us: u64,
    /// Length of its body in bytes.
    pub body_bytes: u64,
    /// SHA-256 of the first 64 KiB of its body, in hexadecimal.
    pub body_sha256: String,
}

/// Names of the classes of a status, in the order in which they are counted.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Answers by class; classes that never occurred are left out.
pub(crate) fn by_class(counts: impl IntoIterator<Item = u64>) -> BTreeMap<String, u64> {
    CLASSES.iter().zip(counts).filter(|(_, count)| *count > 0).map(|(name, count)| ((*name).into(), count)).collect()
}

fn counts(names: &[&str], counters: &[AtomicU64]) -> BTreeMap<String, u64> {
    names.iter().zip(counters).map(|(name, counter)| ((*name).into(), counter.load(Relaxed))).collect()
}

impl From<&Mirror> for MirrorView {
    fn from(mirror: &Mirror) -> Self {
        let (spec, stats) = (&mirror.spec, &mirror.stats);
        Self {
            name: mirror.id.to_string(),
            to: spec.to.to_string(),
            percent: spec.percent.into(),
            methods: spec.methods.clone(),
            max_body: spec.max_body,
            compare: spec.compare,
            ignore: spec.ignore.clone(),
            remove_headers: spec.remove_headers.clone(),
            set_headers: spec.set_headers.keys().cloned().collect(),
            flag: spec.flag.as_ref().map(ToString::to_string),
            in_flight: stats.in_flight.load(Relaxed),
            results: counts(&MIRROR_RESULTS, &stats.results),
            statuses: by_class(stats.classes.iter().map(|count| count.load(Relaxed))),
            compared: stats.compared.load(Relaxed),
            differences: counts(&DIFFERENCE_KINDS, &stats.differences),
        }
    }
}

impl From<Difference> for DifferingPair {
    fn from(pair: Difference) -> Self {
        Self {
            at: rfc3339(pair.at_unix_ms),
            at_unix_ms: pair.at_unix_ms,
            request_id: pair.request_id,
            method: pair.method,
            path: pair.path,
            kinds: pair.kinds.into_iter().map(str::to_owned).collect(),
            pointer: pair.at,
            primary: pair.primary.into(),
            shadow: pair.shadow.into(),
        }
    }
}

impl From<Answered> for AnswerView {
    fn from(Answered { status, latency_us, body_bytes, body_sha256 }: Answered) -> Self {
        Self { status, latency_us, body_bytes, body_sha256 }
    }
}

impl TryFrom<MirrorInput> for MirrorSpec {
    type Error = Vec<ProblemPart>;

    fn try_from(input: MirrorInput) -> Result<Self, Self::Error> {
        let mut errors = too_many(&input);
        let to = target("to", &input.to).map_err(|part| errors.push(part)).ok();
        let percent = Weight::from_percent(input.percent.0)
            .map_err(|error| errors.push(ProblemPart::new("percent", error.to_string())))
            .ok();
        if input.max_body > MAX_BODY {
            errors.push(ProblemPart::new("max_body", format!("a mirror copies at most {MAX_BODY} bytes")));
        }
        let methods = methods(&input.methods, &mut errors);
        let mut remove_headers = Vec::new();
        for (at, name) in input.remove_headers.iter().enumerate() {
            remove_headers.extend(header_name(format!("remove_headers[{at}]"), name, &mut errors));
        }
        let mut set_headers = BTreeMap::new();
        for (name, value) in input.set_headers {
            let path = format!("set_headers.{name}");
            if http::HeaderValue::from_str(&value).is_err() {
                errors.push(ProblemPart::new(path.as_str(), "a header's value is one line of visible characters"));
            }
            if let Some(name) = header_name(path, &name, &mut errors) {
                set_headers.insert(name, value);
            }
        }
        let flag = input.flag.as_deref().map(FlagName::parse).transpose();
        let flag = flag.unwrap_or_else(|error| {
            errors.push(ProblemPart::new("flag", error.to_string()));
            None
        });
        let max_body = input.max_body;
        match (to, percent) {
            (Some(to), Some(percent)) if errors.is_empty() => Ok(Self {
                to,
                percent,
                methods,
                max_body,
                compare: input.compare,
                ignore: input.ignore,
                remove_headers,
                set_headers,
                flag,
            }),
            _ => Err(errors),
        }
    }
}

fn too_many(input: &MirrorInput) -> Vec<ProblemPart> {
    [
        ("methods", input.methods.len()),
        ("ignore", input.ignore.len()),
        ("remove_headers", input.remove_headers.len()),
        ("set_headers", input.set_headers.len()),
    ]
    .into_iter()
    .filter(|(_, length)| *length > MAX_ENTRIES)
    .map(|(path, _)| ProblemPart::new(path, format!("at most {MAX_ENTRIES} entries")))
    .collect()
}

fn methods(names: &[String], errors: &mut Vec<ProblemPart>) -> Vec<String> {
    if names.is_empty() {
        errors.push(ProblemPart::new("methods", "name at least one method, or \"*\" for all"));
    }
    let mut methods = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let upper = name.to_ascii_uppercase();
        if name != "*" && (upper == "CONNECT" || http::Method::from_bytes(upper.as_bytes()).is_err()) {
            errors.push(ProblemPart::new(format!("methods[{at}]"), "this is not a method that can be copied"));
        } else if !methods.contains(&upper) {
            methods.push(upper);
        }
    }
    methods
}

fn header_name(path: String, name: &str, errors: &mut Vec<ProblemPart>) -> Option<String> {
    let parsed = http::HeaderName::from_bytes(name.as_bytes());
    if parsed.is_err() {
        errors.push(ProblemPart::new(path, "this is not a header's name"));
    }
    parsed.ok().map(|name| name.as_str().to_owned())
}
