//! From the text of a file to a checked [`Config`], or to everything that is wrong with it.
//!
//! The functions below read like the schema: a key, how its value is read, and its default.
//! What belongs to one value is checked where it is read; what lies between two services is checked in `conflict`.

mod conflict;
mod deploy;
mod events;
mod flags;
mod health;
mod names;
mod read;
mod route;
mod rule;
pub(crate) mod scalar;
mod server;
mod service;
pub(crate) mod similar;
mod source;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use toml::de::DeTable;

use self::{
    conflict::Claims,
    flags::Receivers,
    names::Names,
    read::{Path, Report, Table},
    service::Around,
};
use crate::{Config, Listener, ListenerId, Problems, ServiceId, ServiceSpec};

/// Most errors of a file that is not TOML: the first says what is wrong, and the parser finds ever more after it.
const MAX_SYNTAX_ERRORS: usize = 20;

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong with it. When it is not TOML, only that: what the rest of it means cannot be known.
pub fn parse(text: &str) -> Result<Config, Problems> {
    let report = Report::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        report.add(at, String::new(), format!("column {column}: this is not TOML: {}", error.message()));
    }
    // Without errors the report is empty, and the tree is what the file says.
    match report.finish(text) {
        None => checked(text, root.get_ref()),
        Some(problems) => Err(problems),
    }
}

fn checked(text: &str, root: &DeTable<'_>) -> Result<Config, Problems> {
    let report = Report::default();
    let config = Table::read(&report, &Path::Root, 0, root, |t| config(t, text));
    match report.finish(text) {
        None => Ok(config),
        Some(problems) => Err(problems),
    }
}

fn config(t: &mut Table<'_>, text: &str) -> Config {
    let (listeners, listener_names) = listeners(t);
    let receivers = Receivers {
        services: Names::below(t, "service", "service", "[service.NAME]".into()),
        targets: Names::below_each(t, "service", "target", "target", "[service.NAME.target.NAME]".into()),
    };
    let (flags, flag_names) = t.section("flags", |t| {
        (flags::flags(t, &receivers), Names::below_any(t, &["flag", "values"], "flag", "[flags.flag.NAME]".into()))
    });
    let hooks = t.get("hook", deploy::hooks).unwrap_or_default();
    let hook_names = Names::below(t, "hook", "hook", "[hook.NAME]".into());
    let around = Around { listeners: listener_names, flags: flag_names, hooks: hook_names };
    Config {
        server: t.section("server", server::server),
        admin: t.section("admin", |t| server::admin(t, &listeners)),
        services: services(t, &around),
        stages: t.get("stage", |node| deploy::stages(node, text)).unwrap_or_default(),
        watch: t.get("watch", |node| node.table(|t| deploy::watch(t, &around.hooks))?),
        events: t.section("events", |t| events::events(t, &around.hooks)),
        hooks,
        listeners,
        flags,
    }
}

/// The listeners and their names. Without any there is one, `public`.
fn listeners(t: &mut Table<'_>) -> (BTreeMap<ListenerId, Listener>, Names) {
    let (kind, place) = ("listener", String::from("[listener.NAME]"));
    let listeners = t.get("listener", server::listeners).unwrap_or_default();
    if t.names("listener").is_none_or(|names| !names.is_empty()) {
        // The names of the file and not of what was read: a listener that is wrong is not also unknown.
        return (listeners, Names::below(t, "listener", kind, place));
    }
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3090));
    let public = Listener { address, tls: None, h2c: false, service_paths: false, preview: None };
    let listeners: BTreeMap<_, _> = ListenerId::parse("public").map(|name| (name, public)).into_iter().collect();
    let names = Names::given(kind, place, listeners.keys().map(ListenerId::as_str));
    (listeners, names)
}

fn services(t: &mut Table<'_>, around: &Around) -> BTreeMap<ServiceId, ServiceSpec> {
    let advice = "add [service.NAME.target.NAME] with endpoints = [\"127.0.0.1:3001\"]";
    let mut claims = Claims::default();
    let services = t.require("service", advice, |node| {
        if node.is_empty() {
            return node.refuse(format!("there is no service: {advice}"));
        }
        node.map(|entry| {
            let service = entry.node.table(|t| service::service(t, around, &mut claims)).flatten();
            (entry.key(ServiceId::parse), service)
        })
    });
    claims.refuse_conflicts(t.report());
    services.unwrap_or_default()
}
