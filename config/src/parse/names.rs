//! Names that one part of the file declares and another uses.

use std::collections::BTreeSet;

use super::{
    read::{Node, Table, listed, quoted},
    similar::closest,
};
use crate::IdError;

/// Everything of one kind that is declared.
pub(super) struct Names {
    /// What they are, for messages: `target`.
    kind: &'static str,
    /// Where to declare one, for messages: `[service.web.target.NAME]`.
    place: String,
    /// Also names whose declaration is wrong, for those have a problem of their own. `None`: there is a problem with
    /// all of them, and each use would only repeat it.
    declared: Option<BTreeSet<String>>,
}

impl Names {
    /// The keys of a table below `t`; none if it is not there.
    pub(super) fn below(t: &Table<'_>, key: &str, kind: &'static str, place: String) -> Self {
        Self { kind, place, declared: t.names(key) }
    }

    /// The keys of several tables below `t`.
    pub(super) fn below_any(t: &Table<'_>, keys: &[&str], kind: &'static str, place: String) -> Self {
        let names: Option<Vec<_>> = keys.iter().map(|key| t.names(key)).collect();
        Self { kind, place, declared: names.map(|names| names.into_iter().flatten().collect()) }
    }

    /// The keys of a table in each table below one of `t`.
    pub(super) fn below_each(t: &Table<'_>, key: &str, inner: &str, kind: &'static str, place: String) -> Self {
        Self { kind, place, declared: t.names_in_each(key, inner) }
    }

    /// These names.
    pub(super) fn given<'a>(kind: &'static str, place: String, names: impl Iterator<Item = &'a str>) -> Self {
        Self { kind, place, declared: Some(names.map(str::to_owned).collect()) }
    }

    /// Takes it for granted that whatever is used is declared, if nothing is: there is a problem about that already.
    pub(super) fn lenient_when_empty(mut self) -> Self {
        self.declared = self.declared.filter(|names| !names.is_empty());
        self
    }

    /// Takes it for granted that whatever is used is declared.
    pub(super) fn lenient(self) -> Self {
        Self { declared: None, ..self }
    }

    /// The names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.declared.iter().flatten().map(String::as_str)
    }

    /// The only name there is.
    pub(super) fn only(&self) -> Option<&str> {
        match self.declared.as_ref()?.iter().collect::<Vec<_>>().as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// Whether every use is taken for right, because there is a problem about all of the names already.
    pub(super) fn silent(&self) -> bool {
        self.declared.is_none()
    }

    /// The names, for a message.
    pub(super) fn listed(&self) -> String {
        listed(self.declared.iter().flatten().map(String::as_str))
    }

    /// A text that must be one of the names.
    pub(super) fn text<T>(&self, node: Node<'_>, parse: fn(&str) -> Result<T, IdError>) -> Option<T> {
        let name = node.text()?;
        match self.unknown(name) {
            Some(message) => node.refuse(message),
            None => parse(name).ok(),
        }
    }

    /// Why a name may not be used here, if so.
    pub(super) fn unknown(&self, name: &str) -> Option<String> {
        let declared = self.declared.as_ref()?;
        if declared.contains(name) {
            return None;
        }
        let advice = match closest(name, declared.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant}?"),
            None if declared.is_empty() => format!("declare it in {}", self.place),
            None => format!("declare it in {} or use one of {}", self.place, self.listed()),
        };
        Some(format!("there is no {} {}: {advice}", self.kind, quoted(name)))
    }
}
