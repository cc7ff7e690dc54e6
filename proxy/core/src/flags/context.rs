//! Who and what a flag is evaluated for.
//!
//! A targeting rule sees a request as `targetingKey` (the visitor), `method`, `host`, `path` and `headers`, of the
//! latter only those that it names: what a rule asks for is found once, when it is compiled.

use std::fmt;

use datalogic_rs::{DataValue, Logic, bumpalo::Bump, datavalue::NumberValue};
use serde_json::{Map, Value};
use tidegate_config::FlagName;

use super::{definition::Said, flagd::ENGINE};
use crate::request::RequestHead;

/// The name by which a context holds the visitor.
pub const TARGETING_KEY: &str = "targetingKey";

/// The name under which a rule finds the flag and the time.
pub(super) const FLAGD: &str = "$flagd";

/// Who and what a flag is evaluated for.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A request.
    Request {
        /// Its head.
        head: &'a RequestHead<'a>,
        /// The visitor whom sticky decisions are about.
        visitor: Option<&'a [u8]>,
    },
    /// What a caller of the evaluation API gives.
    Given {
        /// Its context.
        context: &'a Given<'a>,
        /// Seconds since the Unix epoch.
        unix_s: u64,
    },
}

impl<'a> Subject<'a> {
    /// The key by which shares of visitors are decided.
    pub fn targeting_key(&self) -> Option<&'a [u8]> {
        let key = match self {
            Self::Request { visitor, .. } => *visitor,
            Self::Given { context, .. } => context.targeting_key.map(str::as_bytes),
        };
        key.filter(|key| !key.is_empty())
    }
}

/// The memory in which a given context is laid out.
#[derive(Default)]
pub struct Arena(Bump);

/// A context that a caller gives.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pairs: &'a [(&'a str, DataValue<'a>)],
    targeting_key: Option<&'a str>,
}

impl<'a> Given<'a> {
    /// Lays a context out.
    pub fn new(arena: &'a Arena, context: &Map<String, Value>) -> Self {
        let pairs = context.iter().filter(|(name, _)| *name != FLAGD);
        let pairs = pairs.map(|(name, value)| (&*arena.0.alloc_str(name), laid_out(&arena.0, value)));
        let pairs: Vec<_> = pairs.collect();
        let targeting_key = pairs.iter().find_map(|(name, value)| match value {
            DataValue::String(text) if *name == TARGETING_KEY => Some(*text),
            _ => None,
        });
        Self { pairs: arena.0.alloc_slice_copy(&pairs), targeting_key }
    }
}

fn laid_out<'a>(arena: &'a Bump, value: &Value) -> DataValue<'a> {
    match value {
        Value::Null => DataValue::Null,
        Value::Bool(truth) => DataValue::Bool(*truth),
        Value::Number(number) => DataValue::Number(match number.as_i64() {
            Some(whole) => NumberValue::from_i64(whole),
            None => NumberValue::from_f64(number.as_f64().unwrap_or_default()),
        }),
        Value::String(text) => DataValue::String(arena.alloc_str(text)),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| laid_out(arena, item)).collect();
            DataValue::Array(arena.alloc_slice_copy(&items))
        }
        Value::Object(map) => {
            let pairs = map.iter().map(|(name, value)| (&*arena.alloc_str(name), laid_out(arena, value)));
            let pairs: Vec<_> = pairs.collect();
            DataValue::Object(arena.alloc_slice_copy(&pairs))
        }
    }
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.pairs.iter().map(|(name, _)| (name, ".."))).finish()
    }
}

/// What a rule asks of a request.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Headers as the rule writes them, and in lower case.
    headers: Vec<(Box<str>, Box<str>)>,
}

impl Wants {
    /// Finds what a rule may ask for: every text in it that could be the path of a header. Too many do no harm.
    pub(super) fn of(rule: &Value) -> Self {
        let mut wants = Self::default();
        wants.collect(rule);
        wants.headers.sort();
        wants.headers.dedup();
        wants
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.headers.extend(text.strip_prefix("headers.").map(header)),
            Value::Array(items) => {
                if let [Value::String(first), Value::String(name), ..] = items.as_slice()
                    && first == "headers"
                {
                    self.headers.push(header(name));
                }
                items.iter().for_each(|item| self.collect(item));
            }
            Value::Object(map) => map.values().for_each(|value| self.collect(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn header(name: &str) -> (Box<str>, Box<str>) {
    (name.into(), name.to_ascii_lowercase().into())
}

/// Runs a rule and hands over what it says.
pub(super) fn run<T>(
    logic: &Logic,
    wants: &Wants,
    flag: &FlagName,
    subject: &Subject<'_>,
    then: impl FnOnce(Said<'_>) -> T,
) -> T {
    let arena = Bump::new();
    let pairs = match subject {
        Subject::Request { head, visitor } => of_request(&arena, head, *visitor, wants, flag),
        Subject::Given { context, unix_s } => {
            let flagd = flagd_of(&arena, flag, *unix_s);
            let pairs = arena.alloc_slice_fill_copy(context.pairs.len() + 1, (FLAGD, flagd));
            pairs.iter_mut().skip(1).zip(context.pairs).for_each(|(place, pair)| *place = *pair);
            pairs
        }
    };
    let data: &DataValue<'_> = arena.alloc(DataValue::Object(pairs));
    then(match ENGINE.evaluate(logic, data, &arena) {
        Ok(DataValue::Null) => Said::Nothing,
        Ok(DataValue::String(name)) => Said::Variant(name),
        Ok(DataValue::Bool(true)) => Said::Variant("true"),
        Ok(DataValue::Bool(false)) => Said::Variant("false"),
        Ok(DataValue::Number(number)) => Said::Variant(arena.alloc_str(&number.to_string())),
        Ok(_) => Said::Variant(""),
        Err(_) => Said::Failure,
    })
}

fn flagd_of<'a>(arena: &'a Bump, flag: &'a FlagName, unix_s: u64) -> DataValue<'a> {
    let seconds = i64::try_from(unix_s).unwrap_or(i64::MAX);
    DataValue::Object(arena.alloc([
        ("flagKey", DataValue::String(flag.as_str())),
        ("timestamp", DataValue::Number(NumberValue::from_i64(seconds))),
    ]))
}

fn of_request<'a>(
    arena: &'a Bump,
    head: &'a RequestHead<'_>,
    visitor: Option<&'a [u8]>,
    wants: &'a Wants,
    flag: &'a FlagName,
) -> &'a [(&'a str, DataValue<'a>)] {
    let text = |bytes: Option<&'a [u8]>| match bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
        Some(text) => DataValue::String(text),
        None => DataValue::Null,
    };
    let wanted = wants.headers.iter().map(|(written, name)| (&**written, text(head.headers.first(name))));
    let headers = DataValue::Object(arena.alloc_slice_fill_iter(wanted));
    arena.alloc([
        (TARGETING_KEY, text(visitor)),
        ("method", DataValue::String(head.method.as_str())),
        ("host", DataValue::String(head.host)),
        ("path", DataValue::String(head.path)),
        ("headers", headers),
        (FLAGD, flagd_of(arena, flag, head.unix_s)),
    ])
}
