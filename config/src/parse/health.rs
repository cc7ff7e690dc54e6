//! `health`: how a service's endpoints are probed.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use toml::de::DeValue;

use super::{
    read::{Node, Table, quoted},
    scalar::{header_name, header_value, method, nonempty_text, path_and_query, regex, some_duration, truth},
};
use crate::{ActiveCheck, Expect, HealthPolicy, Probe};

/// Keys of a check that only an HTTP request has.
const HTTP_KEYS: [&str; 6] = ["method", "path", "host", "headers", "expect", "body"];

/// A table, or `false`.
pub(super) fn health(node: Node<'_>) -> Option<HealthPolicy> {
    match node.value() {
        DeValue::Boolean(false) => Some(HealthPolicy::Passive),
        DeValue::Table(_) => node.table(check).map(HealthPolicy::Active),
        _ => node.refuse("write false, or a table such as { path = \"/healthz\", interval = \"5s\" }"),
    }
}

/// An active check.
pub(super) fn check(t: &mut Table<'_>) -> ActiveCheck {
    let tcp = t.get("tcp", truth).unwrap_or(false);
    let http = http(t);
    if tcp {
        for key in HTTP_KEYS.into_iter().filter(|key| t.has(key)) {
            t.refuse(key, "a tcp check only opens a connection: leave this key or tcp out");
        }
    }
    let streak = |node: Node<'_>| node.integer(1..=1000).and_then(|number| u32::try_from(number).ok());
    ActiveCheck {
        probe: if tcp { Probe::Tcp } else { http },
        interval: t.get("interval", some_duration).unwrap_or(Duration::from_secs(5)),
        timeout: t.get("timeout", some_duration).unwrap_or(Duration::from_secs(2)),
        fall: t.get("fall", streak).unwrap_or(2),
        rise: t.get("rise", streak).unwrap_or(2),
    }
}

fn http(t: &mut Table<'_>) -> Probe {
    Probe::Http {
        method: t.get("method", method).unwrap_or_else(|| "GET".into()),
        path: t.get("path", path_and_query).unwrap_or_else(|| "/".into()),
        host: t.get("host", |node| nonempty_text(node).and_then(|_| header_value(node))),
        headers: t.get("headers", headers).unwrap_or_default(),
        expect: Expect {
            status: t.get("expect", statuses).unwrap_or_else(|| vec![200..=399]),
            body: t.get("body", regex),
        },
    }
}

/// Names of headers, lower case, and their values.
pub(super) fn headers(node: Node<'_>) -> Option<BTreeMap<String, String>> {
    node.map(|entry| (entry.key(header_name), header_value(entry.node)))
}

/// `200`, `"200-399"`, `"200,204"`, or a list of these.
fn statuses(node: Node<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    if node.is_list() {
        let lists = node.nonempty("write a status such as 200", statuses_of_one)?;
        return Some(lists.into_iter().flatten().collect());
    }
    statuses_of_one(node)
}

fn statuses_of_one(node: Node<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    if let DeValue::Integer(_) = node.value() {
        let status = node.integer(100..=599).and_then(|status| u16::try_from(status).ok())?;
        return Some(vec![status..=status]);
    }
    let text = node.text_like("a status such as 200 or \"200-399\"")?;
    let bad = || format!("{} is not a status: write one such as \"200\", \"200-399\" or \"200,204\"", quoted(text));
    let ranges: Option<Vec<_>> = text.split(',').map(|part| range(part.trim())).collect();
    ranges.map_or_else(|| node.refuse(bad()), Some)
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| {
        let three_digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        three_digits.then(|| text.parse::<u16>().ok()).flatten().filter(|status| (100..=599).contains(status))
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (status(low.trim())?, status(high.trim())?);
    (low <= high).then_some(low..=high)
}
