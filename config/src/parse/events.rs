//! `[events]`: who is told of what deployments do.

use std::{collections::HashSet, time::Duration};

use http::Uri;

use super::{
    deploy::hook_use,
    names::Names,
    read::{Node, Table, quoted},
    scalar::{file, secret, some_duration},
};
use crate::{Events, SinkId, SinkSpec, SinkTarget, ids};

/// Events that wait for a sink, at most: they are kept on the disk.
const MAX_BACKLOG: u64 = 1_000_000;

/// `[events]`.
pub(super) fn events(t: &mut Table<'_>, hooks: &Names) -> Events {
    let default = Events::default();
    let name =
        |node: Node<'_>| node.parsed(|text| ids::check(text).map(|()| text.into()).map_err(|why| why.to_string()));
    let mut taken = HashSet::new();
    let sinks = t.get("sink", |node| {
        node.list(|node| {
            let sink = node.table(|t| sink(t, hooks))??;
            if taken.insert(sink.name.clone()) {
                return Some(sink);
            }
            node.refuse(format!(
                "there is a sink named {} already: each remembers under its name what it was told",
                sink.name
            ))
        })
    });
    Events {
        prefix: t.get("prefix", name).unwrap_or(default.prefix),
        node: t.get("node", name).unwrap_or(default.node),
        sinks: sinks.unwrap_or_default(),
    }
}

fn sink(t: &mut Table<'_>, hooks: &Names) -> Option<SinkSpec> {
    let name = t.require("name", "what it was told already is remembered under it", |node| {
        node.parsed(|text| SinkId::parse(text).map_err(|why| why.to_string()))
    });
    let target = target(t, hooks);
    let backlog = t.get("backlog", |node| node.integer(1..=MAX_BACKLOG).and_then(|number| u32::try_from(number).ok()));
    Some(SinkSpec {
        types: t
            .get("types", |node| node.nonempty("name a type, or leave the key out for all", kind))
            .unwrap_or_default(),
        backlog: backlog.unwrap_or(10_000),
        timeout: t.get("timeout", some_duration).unwrap_or(Duration::from_secs(10)),
        name: name?,
        to: target?,
    })
}

fn target(t: &mut Table<'_>, hooks: &Names) -> Option<SinkTarget> {
    let address = t.get("url", url);
    let token = t.get("token", secret);
    let command = t.get("command", |node| hook_use(node, hooks));
    let path = t.get("file", file);
    let given: Vec<_> = ["url", "command", "file"].into_iter().filter(|key| t.has(key)).collect();
    match given.as_slice() {
        [] => t.refuse_all("missing: write url = \"http://..\", command = [..] or file = \"PATH\""),
        [_] => {}
        [first, second, ..] => t.refuse(second, format!("there is a {first} already: keep one, or write two sinks")),
    }
    if t.has("token") && !t.has("url") {
        t.refuse("token", "only a url gets a token: leave it out");
    }
    let by_url = address.map(|url| SinkTarget::Url { url, token });
    by_url.or(command.map(SinkTarget::Command)).or(path.map(SinkTarget::File))
}

/// An address to POST to. One that holds a password must not be shown in a message.
fn url(node: Node<'_>) -> Option<String> {
    let text = node.text_like("an address such as \"http://127.0.0.1:8080/events\"")?;
    let uri = text.parse::<Uri>().ok();
    let parts = uri.as_ref().map(|uri| (uri.scheme_str(), uri.authority()));
    let Some((Some("http" | "https"), Some(authority))) = parts else {
        return node.refuse("this is not an address: write one such as \"http://127.0.0.1:8080/events\"");
    };
    if authority.as_str().contains('@') {
        return node.refuse("an address holds no password: write token = { env = \"NAME\" } instead");
    }
    if authority.host().is_empty() {
        return node.refuse("the address names no host");
    }
    Some(text.to_owned())
}

/// A type of events without the prefix: `deployment.finished`, or `version.*`.
fn kind(node: Node<'_>) -> Option<String> {
    node.parsed(|text| {
        let plain = text.strip_suffix('*').unwrap_or(text);
        let accepted = plain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if accepted && !text.is_empty() {
            Ok(text.to_owned())
        } else {
            Err(format!("{} is not a type: write one such as \"deployment.finished\" or \"version.*\"", quoted(text)))
        }
    })
}
