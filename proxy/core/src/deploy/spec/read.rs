//! A reader of documents that goes on after a problem.
//!
//! Every `read` function returns `None` after it has left a problem. A [`Table`] remembers the keys that it was asked
//! for; what is left over is unknown. Keys may be written with `-` or `_`.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
    time::Duration,
};

use serde::Serialize;
use tidegate_config::{Weight, closest};

use super::value::Value;

/// Longest text that a message repeats.
const MAX_QUOTE: usize = 80;
/// Longest duration: far beyond any use, and far below what overflows when it is added to a moment.
const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);
/// Units of durations in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecProblem {
    /// Where: `steps[1]`; empty: the document as a whole.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// The problems so far.
#[derive(Default)]
pub(super) struct Report(RefCell<Vec<SpecProblem>>);

impl Report {
    pub(super) fn add(&self, path: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(SpecProblem { path: path.into(), message: message.into() });
    }

    pub(super) fn finish(self) -> Vec<SpecProblem> {
        self.0.into_inner()
    }
}

/// A value and where it is.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) report: &'a Report,
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Node<'a> {
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Option<T> {
        self.report.add(self.path.clone(), message);
        None
    }

    fn mistyped<T>(&self, wanted: &str) -> Option<T> {
        self.refuse(format!("expected {wanted}, found {}", self.value.kind()))
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::Text(text) if text.is_empty() => self.refuse("the text is empty"),
            Value::Text(text) if text.contains('\0') => self.refuse("a text cannot hold a NUL"),
            Value::Text(text) => Some(text),
            _ => self.mistyped("a text"),
        }
    }

    /// A text, or a number that stands for one: `cpu = 0.5`.
    pub(super) fn text_or_number(&self) -> Option<String> {
        match self.value {
            Value::Int(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            _ => self.text().map(str::to_owned),
        }
    }

    pub(super) fn parsed<T, E: fmt::Display>(&self, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        parse(self.text()?).map_or_else(|why| self.refuse(why.to_string()), Some)
    }

    pub(super) fn truth(&self) -> Option<bool> {
        match self.value {
            Value::Bool(truth) => Some(*truth),
            _ => self.mistyped("true or false"),
        }
    }

    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        match self.value {
            Value::Int(number) if range.contains(number) => Some(*number),
            Value::Int(number) => self.refuse(format!("{number} is not from {} to {}", range.start(), range.end())),
            _ => self.mistyped("a whole number"),
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self.value {
            // Whole numbers in documents are small; those that are not exact as a float are refused as too large.
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => self.mistyped("a number"),
        }
    }

    pub(super) fn percent(&self) -> Option<Weight> {
        let percent = self.number()?;
        Weight::from_percent(percent).map_or_else(|why| self.refuse(format!("{percent} %: {why}")), Some)
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        let millis = match self.value {
            Value::Text(text) => {
                let digits = text.bytes().take_while(u8::is_ascii_digit).count();
                let (number, unit) = text.split_at_checked(digits).unwrap_or(("", text));
                let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
                match (number.is_empty(), factor) {
                    (false, Some(factor)) => number.parse::<u64>().unwrap_or(u64::MAX).checked_mul(factor),
                    _ => {
                        return self.refuse(format!(
                            "{} is not a duration: write a whole number and one of d, h, m, s, ms",
                            quoted(text)
                        ));
                    }
                }
            }
            Value::Int(number) => {
                return self.refuse(format!("{number} has no unit: write \"{number}s\" or another of d, h, m, s, ms"));
            }
            _ => return self.mistyped("a duration such as \"5m\""),
        };
        match millis.map(Duration::from_millis) {
            Some(duration) if duration <= MAX_DURATION => Some(duration),
            _ => self.refuse("the duration is too long: write at most \"3650d\""),
        }
    }

    /// A duration where a bare number means seconds, as commands that this schema took over say it.
    pub(super) fn duration_or_seconds(&self) -> Option<Duration> {
        match self.value {
            Value::Int(seconds) => {
                let longest = i64::try_from(MAX_DURATION.as_secs()).unwrap_or(i64::MAX);
                let range = 0..=longest;
                self.integer(range).map(|_| Duration::from_secs(seconds.unsigned_abs()))
            }
            _ => self.duration(),
        }
    }

    /// A list; `None` if an entry is wrong.
    pub(super) fn list<T>(&self, read: impl Fn(Node<'a>) -> Option<T>) -> Option<Vec<T>> {
        let Value::List(values) = self.value else { return self.mistyped("a list") };
        let node = |(at, value)| Node { report: self.report, path: format!("{}[{at}]", self.path), value };
        let read: Vec<Option<T>> = values.iter().enumerate().map(node).map(read).collect();
        read.into_iter().collect()
    }

    pub(super) fn texts(&self) -> Option<Vec<String>> {
        self.list(|node| node.text().map(str::to_owned))
    }

    /// A table with free keys whose values are texts.
    pub(super) fn map(&self) -> Option<BTreeMap<String, String>> {
        let Value::Table(entries) = self.value else { return self.mistyped("a table of texts") };
        let entries = entries.iter().filter_map(|(key, value)| {
            let node = Node { report: self.report, path: join(&self.path, key), value };
            Some((key.clone(), node.text_or_number()?))
        });
        Some(entries.collect())
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        let Value::Table(entries) = self.value else { return self.mistyped("a table") };
        Some(Table { report: self.report, path: self.path.clone(), entries, asked: RefCell::default() })
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.value, Value::Text(_))
    }
}

/// A table that is being read.
pub(super) struct Table<'a> {
    report: &'a Report,
    path: String,
    entries: &'a BTreeMap<String, Value>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Table<'a> {
    /// The value of a key, or of another name of it.
    pub(super) fn node(&self, names: &[&str]) -> Option<Node<'a>> {
        let mut found: Option<(&str, Node<'a>)> = None;
        for name in names {
            for spelling in [(*name).to_owned(), name.replace('_', "-")] {
                self.asked.borrow_mut().insert(spelling.clone());
                let Some((key, value)) = self.entries.get_key_value(&spelling) else { continue };
                match &found {
                    Some((other, _)) if *other != key.as_str() => {
                        self.refuse(key, format!("the same as {other}: keep one of the two"));
                    }
                    Some(_) => {}
                    None if *value == Value::Null => {}
                    None => {
                        let node = Node { report: self.report, path: join(&self.path, key), value };
                        found = Some((key, node));
                    }
                }
            }
        }
        found.map(|(_, node)| node)
    }

    pub(super) fn get<T>(&self, names: &[&str], read: impl FnOnce(Node<'a>) -> Option<T>) -> Option<T> {
        read(self.node(names)?)
    }

    pub(super) fn refuse(&self, key: &str, message: impl Into<String>) {
        self.report.add(join(&self.path, key), message);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.get(key).or_else(|| self.entries.get(&key.replace('_', "-"))).is_some_and(|v| *v != Value::Null)
    }

    /// Refuses what nobody asked for. `why` says more about keys that exist elsewhere.
    pub(super) fn finish(&self, why: impl Fn(&str) -> Option<String>) {
        let asked = self.asked.borrow();
        for key in self.entries.keys().filter(|key| !asked.contains(*key)) {
            let message = why(&key.replace('-', "_")).unwrap_or_else(|| {
                let known: Vec<&str> = asked.iter().map(String::as_str).filter(|key| !key.contains('-')).collect();
                match closest(&key.replace('-', "_"), known.iter().copied()) {
                    Some(meant) => format!("unknown key: did you mean {meant}?"),
                    None => format!("unknown key: use one of {}", known.join(", ")),
                }
            });
            self.report.add(join(&self.path, key), message);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A text for a message.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().count() <= MAX_QUOTE {
        return format!("{text:?}");
    }
    format!("{:?}...", text.chars().take(MAX_QUOTE).collect::<String>())
}
