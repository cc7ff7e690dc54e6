//! Flags and their sources: what is shown of them, and what sets them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_config::{FlagType, FlagValue, Flags, SourceSpec, parse_duration};
use tidegate_core::{
    FlagTable, Moment,
    flags::{Flag, FlagReason, Origin, Source, Standing},
};
use utoipa::ToSchema;

use crate::{dto::time::rfc3339, problem::ProblemPart};

/// A flag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "RECENT", "type": "boolean", "value": true, "text": "ON", "variant": "on", "reason": "STATIC",
    "origin": "source", "source": "main", "since": "2026-11-03T09:15:00.250Z", "age_seconds": 0.4, "stale": false,
    "kept": false, "override": null, "invalid": null
}))]
pub struct FlagView {
    /// Its name.
    pub name: String,
    /// The type of its values; null: it is not declared, and has none yet.
    #[serde(rename = "type")]
    pub kind: Option<FlagTypeView>,
    /// Its value, if it is the same for everybody; else null.
    pub value: Option<Value>,
    /// The value that counts, as it was written: `ON`, `25%`, a flagd flag; null: only its default.
    pub text: Option<String>,
    /// The name of its value, if it is the same for everybody.
    pub variant: Option<String>,
    /// Why it has its value, by OpenFeature's words: `STATIC` the same for everybody, `DEFAULT` nothing is set, `SPLIT`
    /// a share of visitors, `TARGETING_MATCH` a rule, `DISABLED`.
    pub reason: String,
    /// Where the value that counts comes from.
    pub origin: OriginView,
    /// Where its values are read: a source's name, or `embedded`.
    pub source: String,
    /// Since when it has this value, RFC 3339 in UTC; null: since the start.
    pub since: Option<String>,
    /// How long ago its source was last read; null: never, or it is in the process.
    pub age_seconds: Option<f64>,
    /// Whether its source cannot be read or was emptied, so that the value may be out of date.
    pub stale: bool,
    /// Whether the value is kept although its source was emptied.
    pub kept: bool,
    /// The override that is on.
    #[serde(rename = "override")]
    pub over: Option<OverrideView>,
    /// Why what its source has now is not used.
    pub invalid: Option<String>,
}

/// The type of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlagTypeView {
    /// On or off.
    Boolean,
    /// A text.
    String,
    /// A number.
    Number,
    /// A JSON object.
    Object,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OriginView {
    /// An override.
    Override,
    /// The flag's source.
    Source,
    /// A value in the process.
    Embedded,
    /// The default.
    Default,
}

/// An override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverrideView {
    /// When it ends, RFC 3339 in UTC.
    pub until: String,
    /// When it ends, in milliseconds since the Unix epoch.
    pub until_unix_ms: u64,
}

/// A flag source outside of the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "main", "address": "redis://127.0.0.1:6379/0", "status": "up", "reason": null, "since": null,
    "age_seconds": 0.4, "stale": false, "emptied": false, "flags": 12, "faults": []
}))]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// Where it is: a URL without secrets, or a path.
    pub address: String,
    /// Whether it can be read.
    pub status: SourceStatus,
    /// Why not.
    pub reason: Option<String>,
    /// Since when not, RFC 3339 in UTC.
    pub since: Option<String>,
    /// How long ago it was last read; null: never.
    pub age_seconds: Option<f64>,
    /// Whether what is known of it may be out of date.
    pub stale: bool,
    /// Whether it was emptied: flags keep their values until it is restored, or accepted as it is.
    pub emptied: bool,
    /// Flags that have a value from it.
    pub flags: usize,
    /// What else it holds that cannot be used; only the first few.
    pub faults: Vec<String>,
}

/// Whether a source can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceStatus {
    /// It has not been read yet.
    Waiting,
    /// It can.
    Up,
    /// It cannot.
    Down,
}

/// Body that sets a flag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "value": "25%" }))]
pub struct FlagInput {
    /// The value: as it is written in a source (`"on"`, `"25%"`), or as JSON of the flag's type, or a flagd flag.
    #[schema(value_type = Value)]
    pub value: Value,
}

/// Body that overrides a flag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "value": "off", "ttl": "10m" }))]
pub struct OverrideInput {
    /// The value, as when a flag is set.
    #[schema(value_type = Value)]
    pub value: Value,
    /// How long it lasts: a whole number and one of d, h, m, s, ms; at most 30 days.
    #[schema(pattern = "^[0-9]{1,9}(d|h|m|s|ms)$")]
    pub ttl: String,
}

impl FlagView {
    /// What is shown of a flag.
    pub(crate) fn new(flag: &Flag, table: &FlagTable, flags: &Flags, now: Moment) -> Self {
        let choice = flag.definition.as_ref().and_then(|definition| definition.constant_choice());
        let (variant, reason) = match (&flag.definition, choice) {
            (None, _) => (flag.default.as_ref(), FlagReason::Default),
            (Some(_), Some(picked)) if picked.reason == FlagReason::Disabled => (None, picked.reason),
            (Some(_), Some(picked)) => (flag.variant(&picked), picked.reason),
            (Some(definition), None) => (None, definition.reason()),
        };
        let source = flag.source.named().and_then(|id| table.source(id));
        let kind = flag.kind.or_else(|| {
            let known = flag.definition.as_ref().and_then(|definition| definition.variants().first());
            known.map(|variant| variant.value.kind())
        });
        Self {
            name: flag.name.to_string(),
            kind: kind.map(FlagTypeView::from),
            value: variant.map(|variant| variant.value.to_json()),
            text: flag.text.as_deref().map(str::to_owned),
            variant: variant.and_then(|variant| variant.name.as_deref()).map(str::to_owned),
            reason: reason.as_str().to_owned(),
            origin: flag.origin.into(),
            source: flag.source.to_string(),
            since: (flag.since_unix_ms > 0).then(|| rfc3339(flag.since_unix_ms)),
            age_seconds: source.and_then(|source| age(source, now)),
            stale: source.is_some_and(|source| source.is_stale(now.mono, flags.poll)),
            kept: flag.kept,
            over: flag
                .overridden_until_unix_ms
                .map(|until| OverrideView { until: rfc3339(until), until_unix_ms: until }),
            invalid: flag.fault.as_deref().map(str::to_owned),
        }
    }
}

/// How long ago a source was read, in seconds with three decimals.
pub(crate) fn age(source: &Source, now: Moment) -> Option<f64> {
    source.stats.age(now.mono).map(|age| age.as_millis() as f64 / 1000.0)
}

impl SourceView {
    /// What is shown of a source.
    pub(crate) fn new(source: &Source, state: &tidegate_core::flags::FlagState, now: Moment) -> Self {
        let known = state.sources.get(&source.id);
        let (status, since, reason) = match &source.standing {
            Standing::Waiting => (SourceStatus::Waiting, None, None),
            Standing::Up => (SourceStatus::Up, None, None),
            Standing::Down { since_unix_ms, reason } => {
                (SourceStatus::Down, Some(rfc3339(*since_unix_ms)), Some(reason.clone()))
            }
        };
        let address = state.spec.sources.get(&source.id).map(|spec| match spec {
            SourceSpec::Redis(redis) => redis.to_string(),
            SourceSpec::File(path) => path.display().to_string(),
        });
        Self {
            name: source.id.to_string(),
            address: address.unwrap_or_default(),
            status,
            reason,
            since,
            age_seconds: age(source, now),
            stale: source.is_stale(now.mono, state.spec.poll),
            emptied: source.emptied,
            flags: known.map_or(0, |known| known.slots.values().filter(|slot| slot.good.is_some()).count()),
            faults: known.map(|known| known.faults.clone()).unwrap_or_default(),
        }
    }
}

/// The text of a value that is given as JSON, for a flag of this type.
pub(crate) fn text_of(value: &Value, kind: Option<FlagType>) -> Result<String, ProblemPart> {
    let refuse = |message: String| Err(ProblemPart::new("value", message));
    if let Value::String(text) = value {
        return Ok(text.clone());
    }
    let Some(given) = FlagValue::from_json(value.clone()) else {
        return refuse("a value is a string, true or false, a number or an object".into());
    };
    let is_flagd = value.get("variants").is_some();
    match kind {
        Some(kind) if kind != given.kind() && !is_flagd => {
            refuse(format!("this is a {}, and the flag is a {kind}", given.kind()))
        }
        _ => Ok(given.to_string()),
    }
}

impl OverrideInput {
    /// How long it lasts.
    pub(crate) fn ttl(&self) -> Result<Duration, ProblemPart> {
        parse_duration(&self.ttl).map_err(|why| ProblemPart::new("ttl", why))
    }
}

impl From<FlagType> for FlagTypeView {
    fn from(kind: FlagType) -> Self {
        match kind {
            FlagType::Boolean => Self::Boolean,
            FlagType::String => Self::String,
            FlagType::Number => Self::Number,
            FlagType::Object => Self::Object,
        }
    }
}

impl From<Origin> for OriginView {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Override => Self::Override,
            Origin::Source => Self::Source,
            Origin::Embedded => Self::Embedded,
            Origin::Default => Self::Default,
        }
    }
}
