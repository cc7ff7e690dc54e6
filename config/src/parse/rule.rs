//! Rules: which requests go to which target whatever the split says.

use std::collections::BTreeMap;

use super::{
    names::Names,
    read::{Node, Table},
    route,
    scalar::{cookie_name, header_name, method, regex},
};
use crate::{FlagCondition, FlagName, Match, RuleSpec, TargetId, TextMatch};

/// One `[[service.NAME.rule]]`.
pub(super) fn rule(t: &mut Table<'_>, targets: &Names, flags: &Names) -> Option<RuleSpec> {
    let when = t.require("when", "say which requests, such as when = { header = { x-beta = \"1\" } }", |node| {
        node.table(|t| conditions(t, flags))
    });
    let to = t.require("to", "say which target", |node| targets.text(node, TargetId::parse));
    Some(RuleSpec { when: when?, to: to? })
}

fn conditions(t: &mut Table<'_>, flags: &Names) -> Match {
    let when = Match {
        headers: t.get("header", |node| texts(node, header_name)).unwrap_or_default(),
        cookies: t.get("cookie", |node| texts(node, cookie_name)).unwrap_or_default(),
        query: t.get("query", |node| texts(node, query_name)).unwrap_or_default(),
        methods: t.get("method", methods).unwrap_or_default(),
        path: t.get("path", route::path),
        flag: t.get("flag", |node| flag(node, flags)),
    };
    if t.is_empty() {
        t.refuse_all("this holds for every request: give a condition (header, cookie, query, method, path, flag)");
    }
    when
}

/// Names and what their values must be.
fn texts(node: Node<'_>, name: fn(&str) -> Result<String, String>) -> Option<BTreeMap<String, TextMatch>> {
    let texts = node.map(|entry| (entry.key(name), text_match(entry.node)))?;
    if node.is_empty() { node.refuse("the table is empty: name what must be there") } else { Some(texts) }
}

fn query_name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a query parameter has a name".into()) } else { Ok(text.into()) }
}

/// `"value"`, `"*"`, `{ prefix = ".." }` or `{ regex = ".." }`.
fn text_match(node: Node<'_>) -> Option<TextMatch> {
    if !node.is_table() {
        let wanted = "a string, { prefix = \"..\" } or { regex = \"..\" }";
        return match node.text_like(wanted)? {
            "*" => Some(TextMatch::Present),
            text => Some(TextMatch::Exact(text.into())),
        };
    }
    node.table(|t| {
        let prefix = t.get("prefix", |node| node.text().map(str::to_owned));
        let pattern = t.get("regex", regex);
        match (t.has("prefix"), t.has("regex")) {
            (true, true) => t.refuse("regex", "there is a prefix already: keep one of the two"),
            (false, false) => t.refuse_all("missing: write prefix = \"..\" or regex = \"..\""),
            _ => {}
        }
        prefix.map(TextMatch::Prefix).or(pattern.map(TextMatch::Regex))
    })?
}

/// One method or several.
fn methods(node: Node<'_>) -> Option<Vec<String>> {
    if node.is_list() {
        node.nonempty("name a method, or leave the key out for all", method)
    } else {
        method(node).map(|one| vec![one])
    }
}

/// `"NAME"` or `{ name = "NAME", is = "value" }`.
fn flag(node: Node<'_>, flags: &Names) -> Option<FlagCondition> {
    if !node.is_table() {
        let name = flags.text(node, FlagName::parse)?;
        return Some(FlagCondition { name, is: None });
    }
    node.table(|t| {
        let name = t.require("name", "say which flag", |node| flags.text(node, FlagName::parse));
        let is = t.get("is", |node| node.text().map(str::to_owned));
        Some(FlagCondition { name: name?, is })
    })?
}
