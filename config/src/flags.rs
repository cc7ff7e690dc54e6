//! Feature flags: which there are, where their values are read, and how a value is written.
//!
//! Invariants: every source that a flag names exists; no password is held, only where it is; a default has the type
//! of its flag.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::{FlagName, SecretSource, ServiceId, SourceId, TargetId, Weight};

/// Feature flags.
#[derive(Debug, Clone, PartialEq)]
pub struct Flags {
    /// Where values are read outside of the process.
    pub sources: BTreeMap<SourceId, SourceSpec>,
    /// The source of flags that name none.
    pub default_source: FlagSource,
    /// The flags that rules may use: of `[flags.flag]` and of `[flags.values]`.
    pub declared: BTreeMap<FlagName, FlagSpec>,
    /// Values in the process, as text.
    pub values: BTreeMap<FlagName, String>,
    /// How often a source is read, whether or not it tells of changes (default 1 s).
    pub poll: Duration,
    /// Whether the process refuses to start while a source cannot be read (default no).
    pub require_store: bool,
    /// How a percentage chooses visitors.
    pub bucketing: Bucketing,
    /// Names the keys that Tidegate itself keeps in a store (default `default`).
    pub namespace: String,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            sources: BTreeMap::new(),
            default_source: FlagSource::Embedded,
            declared: BTreeMap::new(),
            values: BTreeMap::new(),
            poll: Duration::from_secs(1),
            require_store: false,
            bucketing: Bucketing::FlagdV2,
            namespace: "default".into(),
        }
    }
}

/// Where the values of a flag are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlagSource {
    /// In the process: the file, and what operators set.
    #[default]
    Embedded,
    /// In this source.
    Named(SourceId),
}

impl FlagSource {
    /// The source outside of the process.
    pub fn named(&self) -> Option<&SourceId> {
        match self {
            Self::Embedded => None,
            Self::Named(source) => Some(source),
        }
    }
}

impl fmt::Display for FlagSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str(EMBEDDED),
            Self::Named(source) => source.fmt(f),
        }
    }
}

/// The name of the source in the process; no other source can have it.
pub const EMBEDDED: &str = "embedded";

/// A source outside of the process.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceSpec {
    /// A Redis-compatible store.
    Redis(Box<RedisSource>),
    /// A file that holds a flagd document.
    File(PathBuf),
}

/// A Redis-compatible store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisSource {
    /// Where it is.
    pub address: RedisAddress,
    /// The number of its database.
    pub database: u32,
    /// The user; absent: the store's default user.
    pub username: Option<String>,
    /// Where the password is.
    pub password: Option<SecretSource>,
    /// Where the password of the Sentinels is.
    pub sentinel_password: Option<SecretSource>,
    /// TLS, if the address asks for it.
    pub tls: Option<RedisTls>,
    /// A hash whose fields are flags, declared or not.
    pub hash: Option<String>,
    /// A key whose value is a flagd document.
    pub document: Option<String>,
}

/// What TLS to a store needs beside the system's certificate authorities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Certificate authorities to trust instead (PEM).
    pub ca: Option<PathBuf>,
    /// Our own certificate chain and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// At this address.
    Tcp(RedisServer),
    /// At this Unix socket.
    Unix(PathBuf),
    /// Where these Sentinels say that the master of this name is.
    Sentinel {
        /// The Sentinels, at least one.
        sentinels: Vec<RedisServer>,
        /// The name of the master.
        master: String,
    },
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisServer {
    /// A name or a literal address, the latter without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for RedisSource {
    /// As a URL: it names the store, and holds no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        match &self.address {
            RedisAddress::Tcp(server) => write!(f, "{scheme}://{server}/{}", self.database),
            RedisAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            RedisAddress::Sentinel { sentinels, master } => {
                let sentinels: Vec<_> = sentinels.iter().map(RedisServer::to_string).collect();
                write!(f, "{scheme}+sentinel://{}/{master}/{}", sentinels.join(","), self.database)
            }
        }
    }
}

/// A declared flag.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagSpec {
    /// The type of its values.
    pub kind: FlagType,
    /// Its value while no other is known; absent: it has none.
    pub default: Option<FlagValue>,
    /// Its key in the source.
    pub key: String,
    /// Where its values are read.
    pub source: FlagSource,
    /// The header that tells it to endpoints, if any.
    pub header: Option<FlagHeader>,
}

/// A request header that tells endpoints the value of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagHeader {
    /// Its name, lower case.
    pub name: String,
    /// Only to endpoints of these services; empty: of all.
    pub services: Vec<ServiceId>,
    /// Only to endpoints of these targets; empty: of all.
    pub targets: Vec<TargetId>,
}

impl FlagHeader {
    /// The header of a flag that names none: `x-flag-` and the flag.
    pub fn default_name(flag: &FlagName) -> String {
        format!("x-flag-{}", flag.as_str().to_ascii_lowercase().replace(['_', '.'], "-"))
    }

    /// Whether it is sent to a target of a service.
    pub fn goes_to(&self, service: &ServiceId, target: &TargetId) -> bool {
        (self.services.is_empty() || self.services.contains(service))
            && (self.targets.is_empty() || self.targets.contains(target))
    }
}

/// The type of a flag's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlagType {
    /// On or off.
    Boolean,
    /// Any text.
    String,
    /// A number.
    Number,
    /// A JSON object.
    Object,
}

impl FlagType {
    /// Its name in files and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Number => "number",
            Self::Object => "object",
        }
    }
}

impl fmt::Display for FlagType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A value of a flag.
#[derive(Debug, Clone, PartialEq)]
pub enum FlagValue {
    /// On or off.
    Boolean(bool),
    /// A text.
    String(Arc<str>),
    /// A number, as it was written.
    Number(serde_json::Number),
    /// A JSON object.
    Object(Arc<serde_json::Map<String, serde_json::Value>>),
}

impl FlagValue {
    /// Its type.
    pub fn kind(&self) -> FlagType {
        match self {
            Self::Boolean(_) => FlagType::Boolean,
            Self::String(_) => FlagType::String,
            Self::Number(_) => FlagType::Number,
            Self::Object(_) => FlagType::Object,
        }
    }

    /// The value that a JSON value is; `None` for null and lists, which no flag has.
    pub fn from_json(json: serde_json::Value) -> Option<Self> {
        match json {
            serde_json::Value::Bool(on) => Some(Self::Boolean(on)),
            serde_json::Value::String(text) => Some(Self::String(text.into())),
            serde_json::Value::Number(number) => Some(Self::Number(number)),
            serde_json::Value::Object(map) => Some(Self::Object(Arc::new(map))),
            serde_json::Value::Null | serde_json::Value::Array(_) => None,
        }
    }

    /// The value as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Boolean(on) => (*on).into(),
            Self::String(text) => text.as_ref().into(),
            Self::Number(number) => serde_json::Value::Number(number.clone()),
            Self::Object(map) => serde_json::Value::Object(map.as_ref().clone()),
        }
    }
}

impl fmt::Display for FlagValue {
    /// As people and headers write it: `on`, `off`, a text, a number, JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(true) => f.write_str("on"),
            Self::Boolean(false) => f.write_str("off"),
            Self::String(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Object(map) => serde_json::to_string(map).map_err(|_| fmt::Error)?.fmt(f),
        }
    }
}

/// How a percentage chooses visitors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bucketing {
    /// As flagd's `fractional` since 2026: `(murmur3_x86_32(flag ‖ visitor, 0) * weights) >> 32`.
    #[default]
    FlagdV2,
}

/// What the text of a value says before it is known what type its flag has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words<'a> {
    /// `on true 1 yes enabled`, or `off false 0 no disabled`, in any case.
    Boolean(bool),
    /// `25%`: on for this share of visitors.
    Percent(Weight),
    /// `{..}`: JSON.
    Json(&'a str),
    /// Anything else.
    Text(&'a str),
}

impl<'a> Words<'a> {
    /// Reads a text, without the white space around it.
    pub fn read(text: &'a str) -> Self {
        const ON: [&str; 5] = ["on", "true", "1", "yes", "enabled"];
        const OFF: [&str; 5] = ["off", "false", "0", "no", "disabled"];
        let text = text.trim();
        let is = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        if text.starts_with('{') {
            return Self::Json(text);
        }
        if is(ON) || is(OFF) {
            return Self::Boolean(is(ON));
        }
        percent(text).map_or(Self::Text(text), Self::Percent)
    }
}

/// `25%`, `0.5 %`: digits with at most two decimals, and nothing else.
fn percent(text: &str) -> Option<Weight> {
    let digits = text.strip_suffix('%')?.trim_end();
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !plain {
        return None;
    }
    Weight::from_percent(digits.parse().ok()?).ok()
}

/// Longest value of one flag in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// A value as it is written, told apart by the type of its flag.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// One value for everybody.
    Value(FlagValue),
    /// On for this share of visitors.
    Percent(Weight),
    /// A flagd flag object.
    Flagd(serde_json::Map<String, serde_json::Value>),
}

impl Written {
    /// Reads the text of a value for a flag of this type; `None`: the flag is not declared, and its value says.
    ///
    /// # Errors
    /// Why it is no such value, and what to write.
    pub fn read(kind: Option<FlagType>, text: &str) -> Result<Self, String> {
        if text.len() > MAX_VALUE {
            return Err(format!("it has {} bytes, and a value may have {MAX_VALUE}", text.len()));
        }
        let words = Words::read(text);
        match (kind, words) {
            (Some(FlagType::String), Words::Json(json)) => {
                Ok(flagd(json).map_or_else(|_| Self::text(json), Self::Flagd))
            }
            (Some(FlagType::String), _) => Ok(Self::text(text.trim())),
            (Some(FlagType::Object), Words::Json(json)) => match object(json)? {
                map if map.contains_key("variants") => Ok(Self::Flagd(map)),
                map => Ok(Self::Value(FlagValue::Object(Arc::new(map)))),
            },
            (_, Words::Json(json)) => flagd(json).map(Self::Flagd),
            (Some(FlagType::Number), _) => match serde_json::from_str(text.trim()) {
                Ok(number) => Ok(Self::Value(FlagValue::Number(number))),
                Err(_) => Err(format!("{} is not a number", shown(text))),
            },
            (Some(FlagType::Boolean) | None, Words::Boolean(on)) => Ok(Self::Value(FlagValue::Boolean(on))),
            (Some(FlagType::Boolean) | None, Words::Percent(share)) => Ok(Self::Percent(share)),
            (Some(FlagType::Boolean), Words::Text(_)) => {
                Err(format!("{} is neither on nor off, nor a percentage such as 25%, nor a flagd flag", shown(text)))
            }
            (None, Words::Text(_)) => Err(format!(
                "{} is a string, and only a flag that is declared with type = \"string\" may have one",
                shown(text)
            )),
            (Some(FlagType::Object), _) => Err(format!("{} is not a JSON object", shown(text))),
        }
    }

    fn text(text: &str) -> Self {
        Self::Value(FlagValue::String(text.into()))
    }
}

/// A flagd flag object.
fn flagd(json: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let map = object(json)?;
    if map.contains_key("variants") {
        Ok(map)
    } else {
        Err("it is JSON, but no flagd flag: \"variants\" is missing".into())
    }
}

fn object(json: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    serde_json::from_str(json).map_err(|error| format!("it begins like JSON, but is not: {error}"))
}

/// A text for a message, cut if it is long.
fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case_and_with_white_space_around() {
        for (words, on) in [("on true 1 yes enabled", true), ("off false 0 no disabled", false)] {
            for word in words.split(' ') {
                for text in [word.to_owned(), word.to_ascii_uppercase(), format!(" \t{word}\n")] {
                    assert_eq!(Words::read(&text), Words::Boolean(on), "{text:?}");
                }
            }
        }
        assert_eq!(Words::read("On"), Words::Boolean(true));
        assert_eq!(Words::read("oN "), Words::Boolean(true));
    }

    #[test]
    fn percentages_have_up_to_two_decimals_and_a_sign() {
        for points in 0..=10_000 {
            let weight = Weight::from_points(points).unwrap();
            for text in [format!("{}%", weight.percent()), format!(" {:.2} % ", weight.percent())] {
                assert_eq!(Words::read(&text), Words::Percent(weight), "{text}");
            }
        }
        for text in
            ["101%", "100.01%", "-1%", "+1%", "1e1%", "%", ".%", "0.001%", "1.2.3%", "25 percent", "NaN%", "inf%"]
        {
            assert_eq!(Words::read(text), Words::Text(text), "{text}");
        }
    }

    #[test]
    fn everything_else_is_text_or_json() {
        assert_eq!(Words::read(" {\"a\":1} "), Words::Json("{\"a\":1}"));
        for text in ["", "2", "onn", "blue", "on off", "[1]", "\"on\"", "ｏｎ"] {
            assert_eq!(Words::read(text), Words::Text(text), "{text}");
        }
    }

    #[test]
    fn default_header_is_the_flag_in_lower_case_with_dashes() {
        let name = |flag| FlagHeader::default_name(&FlagName::parse(flag).unwrap());
        assert_eq!(name("RECENT"), "x-flag-recent");
        assert_eq!(name("New_Check.out-2"), "x-flag-new-check-out-2");
    }
}
