//! `[flags]`: sources, declared flags, and values in the process.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::{
    names::Names,
    read::{Node, Table, quoted},
    scalar::{duration, header_name, json, truth},
    source::{source_name, sources},
};
use crate::{
    Bucketing, FlagHeader, FlagName, FlagSource, FlagSpec, FlagType, FlagValue, Flags, ServiceId, SourceId, SourceSpec,
    TargetId, Words, Written, flags::EMBEDDED,
};

/// Longest key in a source.
const MAX_KEY: usize = 1024;

/// What a header of a flag may be limited to.
pub(super) struct Receivers {
    /// The services.
    pub(super) services: Names,
    /// The targets of all services.
    pub(super) targets: Names,
}

/// `[flags]`.
pub(super) fn flags(t: &mut Table<'_>, receivers: &Receivers) -> Flags {
    let default = Flags::default();
    let given = t.get("source", sources);
    let named = source_names(t, given.as_ref());
    let default_source = default_source(t, &named);
    let flags = t.get("flag", |node| {
        let mut taken = Vec::new();
        node.map(|entry| {
            let name = entry.key(FlagName::parse);
            let spec = entry.node.table(|t| {
                let spec = flag(t, name.as_ref()?, &named, default_source.as_ref(), receivers)?;
                refuse_second_header(t, name.as_ref()?, &spec, &mut taken);
                Some(spec)
            });
            (name, spec.flatten())
        })
    });
    let mut declared: BTreeMap<FlagName, FlagSpec> = flags.unwrap_or_default();
    let wrong = t.names("flag");
    let values = t.get("values", |node| {
        node.map(|entry| {
            let name = entry.key(FlagName::parse);
            let kind = name.as_ref().and_then(|name| declared.get(name)).map(|spec| spec.kind);
            // A flag whose declaration is wrong has its problem already.
            let judged = kind.is_some() || !wrong.as_ref().is_none_or(|names| names.contains(entry.name));
            (name, value(entry.node, kind, judged))
        })
    });
    let values = values.unwrap_or_default();
    for (name, text) in &values {
        declared.entry(name.clone()).or_insert_with(|| undeclared(name, text));
    }
    Flags {
        sources: given.unwrap_or_default(),
        default_source: default_source.unwrap_or_default(),
        declared,
        values,
        poll: t.get("poll", poll).unwrap_or(default.poll),
        require_store: t.get("require_store", truth).unwrap_or(default.require_store),
        bucketing: t
            .get("bucketing", |node| node.one_of(&[("flagd-v2", Bucketing::FlagdV2)]))
            .unwrap_or(default.bucketing),
        namespace: t.get("namespace", namespace).unwrap_or(default.namespace),
    }
}

/// The names by which flags may call a source; also `embedded`.
fn source_names(t: &Table<'_>, given: Option<&Sources>) -> Names {
    // Of a table also the names whose source is wrong: those have their problem already.
    let below = t.names("source").unwrap_or_default();
    let names =
        below.iter().map(String::as_str).chain(given.into_iter().flat_map(|given| given.keys().map(SourceId::as_str)));
    let names = Names::given("source", "[flags.source.NAME]".into(), names.chain([EMBEDDED]));
    if given.is_some() || !t.has("source") { names } else { names.lenient() }
}

/// Where flags are read that name no source: `None` if that is wrong.
fn default_source(t: &mut Table<'_>, named: &Names) -> Option<FlagSource> {
    let outside: Vec<_> = named.iter().filter(|name| *name != EMBEDDED).map(str::to_owned).collect();
    let only = match outside.as_slice() {
        [] => Some(FlagSource::Embedded),
        [only] => SourceId::parse(only).ok().map(FlagSource::Named),
        _ => None,
    };
    if only.is_none() && !t.has("default_source") && !named.silent() {
        t.refuse("default_source", format!("missing: flags that name no source need one: {}", named.listed()));
    }
    t.get_or("default_source", only, |node| source_name(node, named).map(Some)).flatten()
}

fn poll(node: Node<'_>) -> Option<std::time::Duration> {
    let poll = duration(node)?;
    if (100..=3_600_000).contains(&poll.as_millis()) {
        Some(poll)
    } else {
        node.refuse("a source is read every \"100ms\" to \"1h\"")
    }
}

fn namespace(node: Node<'_>) -> Option<String> {
    node.parsed(|text| crate::ids::check(text).map(|()| text.to_owned()).map_err(|why| why.to_string()))
}

fn flag(
    t: &mut Table<'_>,
    name: &FlagName,
    sources: &Names,
    default_source: Option<&FlagSource>,
    receivers: &Receivers,
) -> Option<FlagSpec> {
    let kinds = [FlagType::Boolean, FlagType::String, FlagType::Number, FlagType::Object];
    let kind = t.get_or("type", FlagType::Boolean, |node| node.one_of(&kinds.map(|kind| (kind.as_str(), kind))));
    // Only a boolean has a value that needs no saying.
    let none = (kind == Some(FlagType::Boolean)).then_some(FlagValue::Boolean(false));
    let default = t.get_or("default", none, |node| default_value(node, kind?).map(Some));
    let key = t.get_or("key", name.as_str().to_owned(), key);
    let source = t.get_or("source", default_source.cloned(), |node| source_name(node, sources).map(Some)).flatten();
    let header = header(t, name, receivers);
    Some(FlagSpec { kind: kind?, default: default?, key: key?, source: source?, header })
}

fn key(node: Node<'_>) -> Option<String> {
    match node.text()? {
        "" => node.refuse("the key is empty"),
        text if text.len() > MAX_KEY => node.refuse(format!("a key may have {MAX_KEY} bytes")),
        text => Some(text.into()),
    }
}

fn default_value(node: Node<'_>, kind: FlagType) -> Option<FlagValue> {
    if let (FlagType::Boolean, DeValue::String(text)) = (kind, node.value()) {
        return match Words::read(text) {
            Words::Boolean(on) => Some(FlagValue::Boolean(on)),
            _ => node.refuse(format!("{} is neither on nor off", quoted(text))),
        };
    }
    match json(node.value()).and_then(FlagValue::from_json) {
        Some(value) if value.kind() == kind => Some(value),
        _ => node.mistyped(match kind {
            FlagType::Boolean => "true or false",
            FlagType::String => "a string",
            FlagType::Number => "a number",
            FlagType::Object => "a table",
        }),
    }
}

fn header(t: &mut Table<'_>, flag: &FlagName, receivers: &Receivers) -> Option<FlagHeader> {
    let name = t.get("header", |node| match node.value() {
        DeValue::Boolean(sent) => Some(sent.then(|| FlagHeader::default_name(flag))),
        DeValue::String(_) => node.parsed(own_header).map(Some),
        _ => node.mistyped("true, false or the name of a header"),
    });
    let services = t.get("services", |node| {
        node.nonempty("name a service, or leave the key out for all", |node| {
            receivers.services.text(node, ServiceId::parse)
        })
    });
    let targets = t.get("targets", |node| {
        node.nonempty("name a target, or leave the key out for all", |node| {
            receivers.targets.text(node, TargetId::parse)
        })
    });
    let name = name.flatten();
    if name.is_none() {
        for key in ["services", "targets"] {
            if t.has(key) && !t.has("header") {
                t.refuse(key, "this limits the header of the flag, and it has none: write header = true");
            }
        }
    }
    Some(FlagHeader { name: name?, services: services.unwrap_or_default(), targets: targets.unwrap_or_default() })
}

/// The name of a header that is nobody else's.
fn own_header(text: &str) -> Result<String, String> {
    const OTHERS: [&str; 5] = ["x-forwarded-", "x-tidegate-", "x-request-id", "x-real-ip", "x-http-method"];
    let name = header_name(text)?;
    if !name.starts_with("x-") || name.contains('_') || OTHERS.iter().any(|other| name.starts_with(other)) {
        return Err(format!("{} cannot carry a flag: write one such as \"X-Flag-Recent\"", quoted(text)));
    }
    Ok(name)
}

/// No endpoint gets the same header from two flags.
fn refuse_second_header(t: &Table<'_>, name: &FlagName, spec: &FlagSpec, taken: &mut Vec<(FlagName, FlagHeader)>) {
    let Some(header) = &spec.header else { return };
    fn share<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        a.is_empty() || b.is_empty() || a.iter().any(|one| b.contains(one))
    }
    let clash = taken.iter().find(|(_, other)| {
        other.name == header.name && share(&other.services, &header.services) && share(&other.targets, &header.targets)
    });
    if let Some((other, _)) = clash {
        t.refuse("header", format!("flag {other} is sent as {} already: use another name, or targets", header.name));
    }
    taken.push((name.clone(), header.clone()));
}

/// The text of a value. Its type is judged here; whether a flagd flag can be compiled is known when it is loaded.
fn value(node: Node<'_>, kind: Option<FlagType>, judged: bool) -> Option<String> {
    let text = node.text_like("a string such as \"on\"")?;
    match Written::read(Some(kind.unwrap_or_else(|| kind_of(text))), text) {
        Err(why) if judged => node.refuse(why),
        _ => Some(text.to_owned()),
    }
}

/// A flag that is known only by its value in the process.
fn undeclared(name: &FlagName, text: &str) -> FlagSpec {
    let kind = kind_of(text);
    FlagSpec {
        kind,
        default: (kind == FlagType::Boolean).then_some(FlagValue::Boolean(false)),
        key: name.as_str().into(),
        source: FlagSource::Embedded,
        header: None,
    }
}

/// The type of a flag whose only sign of it is a value.
fn kind_of(text: &str) -> FlagType {
    match Words::read(text) {
        Words::Boolean(_) | Words::Percent(_) => FlagType::Boolean,
        Words::Text(_) => FlagType::String,
        Words::Json(_) => match Written::read(Some(FlagType::Object), text) {
            Ok(Written::Flagd(flag)) => variant_type(&flag).unwrap_or(FlagType::Boolean),
            Ok(Written::Value(_) | Written::Percent(_)) => FlagType::Object,
            // It is refused as whatever else it is taken for.
            Err(_) => FlagType::Object,
        },
    }
}

fn variant_type(flag: &serde_json::Map<String, serde_json::Value>) -> Option<FlagType> {
    let value = flag.get("variants")?.as_object()?.values().next()?;
    FlagValue::from_json(value.clone()).map(|value| value.kind())
}

/// Sources by name, whether the file names one or several.
pub(super) type Sources = BTreeMap<SourceId, SourceSpec>;
