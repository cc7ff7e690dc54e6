//! Rules: a match that pins a request to a target. The first match wins.

use std::collections::BTreeMap;

use tidegate_config::{Match, RuleSpec, TextMatch};

use crate::{
    flags::{FlagCheck, FlagTable, Subject},
    path::{RequestPath, canonical_prefix},
    request::RequestHead,
    snapshot::TargetIdx,
    visitor::visit_cookie,
};

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    /// The target.
    pub to: TargetIdx,
    /// All of these must hold; the cheap ones come first.
    conditions: Vec<Condition>,
}

#[derive(Debug)]
enum Condition {
    Flag(FlagCheck),
    Method(Vec<String>),
    Path(String),
    Header(String, TextMatch),
    Cookie(String, TextMatch),
    Query(String, TextMatch),
}

impl Rule {
    /// Compiles a rule that leads to a target.
    pub fn new(spec: &RuleSpec, to: TargetIdx, flags: &FlagTable) -> Self {
        let Match { headers, cookies, query, methods, path, flag } = &spec.when;
        let texts = |texts: &BTreeMap<String, TextMatch>, condition: fn(String, TextMatch) -> Condition| {
            texts.iter().map(|(name, is)| condition(name.clone(), is.clone())).collect::<Vec<_>>()
        };
        let mut conditions = Vec::new();
        conditions.extend(flag.iter().map(|flag| Condition::Flag(FlagCheck::new(flag, flags))));
        conditions.extend((!methods.is_empty()).then(|| Condition::Method(methods.clone())));
        conditions.extend(path.iter().map(|path| Condition::Path(canonical_prefix(path))));
        conditions.extend(texts(headers, Condition::Header));
        conditions.extend(texts(query, Condition::Query));
        conditions.extend(texts(cookies, Condition::Cookie));
        Self { to, conditions }
    }

    /// Whether a request meets it.
    pub fn matches(&self, head: &RequestHead<'_>, path: &RequestPath<'_>, subject: &Subject<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(head, path, subject))
    }

    /// Its condition on a flag.
    pub(crate) fn flag(&self) -> Option<&FlagCheck> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::Flag(check) => Some(check),
            _ => None,
        })
    }
}

impl Condition {
    fn holds(&self, head: &RequestHead<'_>, path: &RequestPath<'_>, subject: &Subject<'_>) -> bool {
        match self {
            Self::Flag(check) => check.holds(subject),
            Self::Method(methods) => methods.iter().any(|method| method == head.method.as_str()),
            Self::Path(prefix) => path.is_below(prefix),
            Self::Header(name, is) => any(|each| head.headers.visit(name, each), |value| text_matches(is, value)),
            Self::Cookie(name, is) => {
                any(|each| visit_cookie(head.headers, name, each), |value| text_matches(is, value))
            }
            Self::Query(name, is) => head.query.is_some_and(|query| query_matches(query, name, is)),
        }
    }
}

/// Whether any of the values that are visited is right.
fn any<'a>(visit: impl FnOnce(&mut dyn FnMut(&'a [u8]) -> bool), right: impl Fn(&[u8]) -> bool) -> bool {
    let mut found = false;
    visit(&mut |value| {
        found = right(value);
        !found
    });
    found
}

fn text_matches(is: &TextMatch, value: &[u8]) -> bool {
    match is {
        TextMatch::Present => true,
        TextMatch::Exact(text) => value == text.as_bytes(),
        TextMatch::Prefix(text) => value.starts_with(text.as_bytes()),
        TextMatch::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
    }
}

/// Whether any parameter of this name has the right value. Names and values are compared as a form would decode them.
fn query_matches(query: &str, name: &str, is: &TextMatch) -> bool {
    query.split('&').any(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        decoded(key).eq(name.bytes())
            && match is {
                TextMatch::Present => true,
                TextMatch::Exact(text) => decoded(value).eq(text.bytes()),
                TextMatch::Prefix(text) => decoded(value).take(text.len()).eq(text.bytes()),
                // Allocates when the value has escapes: a regular expression needs it in one piece.
                TextMatch::Regex(_) if value.contains(['%', '+']) => {
                    text_matches(is, &decoded(value).collect::<Vec<_>>())
                }
                TextMatch::Regex(_) => text_matches(is, value.as_bytes()),
            }
    })
}

/// The bytes of a form-encoded text. A broken escape stands for itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (byte, tail) = rest.split_first()?;
        let digits = match (*byte, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        let (byte, length) = match (*byte, digits) {
            (_, Some((high, low))) => (high << 4 | low, 3),
            (b'+', None) => (b' ', 1),
            (byte, None) => (byte, 1),
        };
        rest = rest.get(length..).unwrap_or_default();
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests;
