//! A reader of TOML values that goes on after a problem: serde's derive stops at the first.
//!
//! Every `read` function takes a [`Node`] and returns `None` after it has left a problem in the [`Report`]. Callers put
//! a default in its place and go on; no configuration leaves this crate while there is a problem, so a default that
//! stands for a wrong value is never used.
//!
//! A [`Table`] remembers the keys that it was asked for. What is left over is unknown: the code that reads a table is
//! the declaration of its keys.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::similar::closest;
use crate::problem::{Problem, Problems};

/// The problems so far.
#[derive(Default)]
pub(super) struct Report {
    found: RefCell<Vec<Found>>,
}

#[derive(PartialEq)]
struct Found {
    /// Offset in the file.
    at: usize,
    path: String,
    message: String,
}

impl Report {
    /// Notes a problem.
    pub(super) fn add(&self, at: usize, path: String, message: impl Into<String>) {
        self.found.borrow_mut().push(Found { at, path, message: message.into() });
    }

    /// All problems in the order of the file, with their lines in `text`.
    pub(super) fn finish(self, text: &str) -> Option<Problems> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|problem| problem.at);
        // The TOML parser repeats itself when it resumes.
        found.dedup();
        let (mut line, mut counted) = (1, 0);
        let problems = found.into_iter().map(|Found { at, path, message }| {
            let passed = text.as_bytes().get(counted..at).unwrap_or_default();
            line += passed.iter().filter(|byte| **byte == b'\n').count();
            counted = counted.max(at);
            Problem { path, line, message }
        });
        Problems::of(problems.collect())
    }
}

/// Where a value is: a chain through the callers, written out only when there is a problem.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Index(list, index) => write!(f, "{list}[{index}]"),
            Path::Key(table, key) => {
                if !matches!(table, Path::Root) {
                    write!(f, "{table}.")?;
                }
                let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                if !key.is_empty() && key.len() <= MAX_QUOTE && key.bytes().all(bare) {
                    f.write_str(key)
                } else {
                    f.write_str(&quoted(key))
                }
            }
        }
    }
}

/// Most characters of the file that a message repeats.
const MAX_QUOTE: usize = 64;

/// A text of the file in quotes, cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTE) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
    }
}

/// Names for a message: `a, b, c`, cut if there are many.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MAX_NAMES: usize = 12;
    let mut names = names.into_iter();
    let shown: Vec<_> = names.by_ref().take(MAX_NAMES).collect();
    let more = if names.next().is_some() { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// A value of the file.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    report: &'a Report,
    path: &'a Path<'a>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Node<'a> {
    /// What it is.
    pub(super) fn value(self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// Its offset in the file.
    pub(super) fn at(self) -> usize {
        self.value.span().start
    }

    /// Where it is.
    pub(super) fn path(self) -> String {
        self.path.to_string()
    }

    /// Notes what is wrong with it.
    pub(super) fn refuse<T>(self, message: impl Into<String>) -> Option<T> {
        self.report.add(self.at(), self.path.to_string(), message);
        None
    }

    /// Notes that it should be something else.
    pub(super) fn mistyped<T>(self, wanted: &str) -> Option<T> {
        self.refuse(format!("expected {wanted}, not {}", kind(self.value())))
    }

    /// Any text.
    pub(super) fn text(self) -> Option<&'a str> {
        self.text_like("a string")
    }

    /// A text; `wanted` says which, for one who wrote something else.
    pub(super) fn text_like(self, wanted: &str) -> Option<&'a str> {
        match self.value() {
            DeValue::String(text) => Some(text),
            _ => self.mistyped(wanted),
        }
    }

    /// A text that `parse` accepts.
    pub(super) fn parsed<T, E: Into<String>>(self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        parse(self.text()?).map_or_else(|why| self.refuse(why), Some)
    }

    /// One of these words.
    pub(super) fn one_of<T: Copy>(self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.or_else(|| {
            let words = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
            self.refuse(format!("{} is none of {words}", quoted(text)))
        })
    }

    /// A whole number in a range.
    pub(super) fn integer(self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.value() else { return self.mistyped("a whole number") };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => {
                let (low, high) = range.into_inner();
                self.refuse(format!("{number} is not between {low} and {high}"))
            }
        }
    }

    /// A number, whole or not.
    pub(super) fn number(self) -> Option<f64> {
        let digits = match self.value() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => return self.mistyped("a decimal number"),
        };
        digits.parse().map_or_else(|_| self.mistyped("a decimal number"), Some)
    }

    /// The items of a list that could be read.
    pub(super) fn list<T>(self, mut read: impl FnMut(Node<'_>) -> Option<T>) -> Option<Vec<T>> {
        let DeValue::Array(items) = self.value() else { return self.mistyped("a list") };
        let node = |(n, value)| read(Node { path: &Path::Index(self.path, n), value, report: self.report });
        Some(items.iter().enumerate().filter_map(node).collect())
    }

    /// The items of a list that must not be empty; `why` says what an item would be.
    pub(super) fn nonempty<T>(self, why: &str, read: impl FnMut(Node<'_>) -> Option<T>) -> Option<Vec<T>> {
        match self.value() {
            DeValue::Array(items) if items.is_empty() => self.refuse(format!("the list is empty: {why}")),
            _ => self.list(read),
        }
    }

    /// Whether it is a table.
    pub(super) fn is_table(self) -> bool {
        matches!(self.value(), DeValue::Table(_))
    }

    /// How many entries or items it has.
    pub(super) fn count(self) -> usize {
        match self.value() {
            DeValue::Table(table) => table.len(),
            DeValue::Array(items) => items.len(),
            _ => 0,
        }
    }

    /// Whether it is an empty table.
    pub(super) fn is_empty(self) -> bool {
        self.is_table() && self.count() == 0
    }

    /// Whether it is a list.
    pub(super) fn is_list(self) -> bool {
        matches!(self.value(), DeValue::Array(_))
    }

    /// A table whose keys are names, so far as its entries could be read.
    pub(super) fn map<K: Ord, V>(
        self,
        mut read: impl FnMut(Entry<'_>) -> (Option<K>, Option<V>),
    ) -> Option<BTreeMap<K, V>> {
        let DeValue::Table(table) = self.value() else { return self.mistyped("a table") };
        let mut map = BTreeMap::new();
        for (key, value) in table {
            let path = Path::Key(self.path, key.get_ref());
            let node = Node { path: &path, value, report: self.report };
            let entry = Entry { name: key.get_ref(), named_at: key.span().start, node };
            if let (Some(key), Some(value)) = read(entry)
                && map.insert(key, value).is_some()
            {
                entry.refuse::<()>("this is there twice: upper and lower case are the same here");
            }
        }
        Some(map)
    }

    /// A table with known keys.
    pub(super) fn table<T>(self, read: impl FnOnce(&mut Table<'_>) -> T) -> Option<T> {
        match self.value() {
            DeValue::Table(table) => Some(Table::read(self.report, self.path, self.at(), table, read)),
            _ => self.mistyped("a table"),
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with decimals",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// An entry of a table whose keys are names.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// The key.
    pub(super) name: &'a str,
    /// What it names.
    pub(super) node: Node<'a>,
    named_at: usize,
}

impl Entry<'_> {
    /// Notes what is wrong with the key.
    pub(super) fn refuse<T>(self, message: impl Into<String>) -> Option<T> {
        self.node.report.add(self.named_at, self.node.path.to_string(), message);
        None
    }

    /// The key, if `parse` accepts it.
    pub(super) fn key<T, E: fmt::Display>(self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        parse(self.name).map_or_else(|why| self.refuse(why.to_string()), Some)
    }
}

/// A table with known keys: those that it is asked for.
pub(super) struct Table<'a> {
    report: &'a Report,
    path: &'a Path<'a>,
    at: usize,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// Reads a table, then notes every key that `read` did not ask for.
    pub(super) fn read<T>(
        report: &Report,
        path: &Path<'_>,
        at: usize,
        entries: &DeTable<'_>,
        read: impl FnOnce(&mut Table<'_>) -> T,
    ) -> T {
        let mut table = Table { report, path, at, entries, known: Vec::new() };
        let value = read(&mut table);
        table.refuse_the_rest();
        value
    }

    fn refuse_the_rest(&self) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let advice = match closest(name, self.known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            let path = Path::Key(self.path, name).to_string();
            self.report.add(key.span().start, path, format!("unknown key: {advice}"));
        }
    }

    /// The value of a key, if it is there and can be read.
    pub(super) fn get<T>(&mut self, key: &'static str, read: impl FnOnce(Node<'_>) -> Option<T>) -> Option<T> {
        self.known.push(key);
        let value = self.entries.get(key)?;
        read(Node { report: self.report, path: &Path::Key(self.path, key), value })
    }

    /// The value of a key, or this default if it is not there; `None` only if it is wrong.
    pub(super) fn get_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Node<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.has(key) { self.get(key, read) } else { self.get(key, |_| None).or(Some(default)) }
    }

    /// The value of a key that must be there; `advice` says what to write.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        advice: &str,
        read: impl FnOnce(Node<'_>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.refuse(key, format!("missing: {advice}"));
        }
        self.get(key, read)
    }

    /// A table below this one. One that is not there is read as if it were empty: `read` knows the defaults.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl Fn(&mut Table<'_>) -> T) -> T {
        let given = self.get(key, |node| node.table(&read));
        given.unwrap_or_else(|| {
            if self.has(key) {
                // It is no table, and has its problem already.
                return Table::defaults(read);
            }
            Table::read(self.report, &Path::Key(self.path, key), self.at, &DeTable::new(), read)
        })
    }

    /// What a table is read as when it says nothing.
    pub(super) fn defaults<T>(read: impl FnOnce(&mut Table<'_>) -> T) -> T {
        Table::read(&Report::default(), &Path::Root, 0, &DeTable::new(), read)
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether it has no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys of a table below this one: none if it is not there, `None` if it is not a table.
    pub(super) fn names(&self, key: &str) -> Option<BTreeSet<String>> {
        match self.entries.get(key).map(Spanned::get_ref) {
            None => Some(BTreeSet::new()),
            Some(DeValue::Table(table)) => Some(table.keys().map(|name| name.get_ref().to_string()).collect()),
            Some(_) => None,
        }
    }

    /// The keys of the table `inner` in each table below the one of this key; `None` if something there is not a table.
    pub(super) fn names_in_each(&self, key: &str, inner: &str) -> Option<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        let Some(outer) = self.entries.get(key).map(Spanned::get_ref) else { return Some(names) };
        for entry in outer.as_table()?.values() {
            if let Some(inner) = entry.get_ref().as_table()?.get(inner) {
                names.extend(inner.get_ref().as_table()?.keys().map(|name| name.get_ref().to_string()));
            }
        }
        Some(names)
    }

    /// The key of this table itself.
    pub(super) fn name(&self) -> &'a str {
        match self.path {
            Path::Key(_, key) => key,
            Path::Root | Path::Index(..) => "",
        }
    }

    /// Its offset in the file.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Where a key is.
    pub(super) fn path(&self, key: &str) -> String {
        Path::Key(self.path, key).to_string()
    }

    /// Where problems go.
    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    /// Notes what is wrong with a key, which need not be there.
    pub(super) fn refuse(&self, key: &str, message: impl Into<String>) {
        let at = self.entries.get(key).map_or(self.at, |value| value.span().start);
        self.report.add(at, Path::Key(self.path, key).to_string(), message);
    }

    /// Notes what is wrong with the table as a whole.
    pub(super) fn refuse_all(&self, message: impl Into<String>) {
        self.report.add(self.at, self.path.to_string(), message);
    }
}
