//! A configuration in the schema of its file, with every default written out: what the admin API shows.
//!
//! [`parse`](crate::parse()) of the description is the same configuration, with one exception: the values of headers
//! and cookies that look like credentials are replaced by `***`. Other secrets cannot leak, since the configuration
//! holds only the names of their variables and files.

use std::{collections::BTreeMap, path::Path, time::Duration};

use toml::{Table, Value};

use self::{deploy::failover_hooks, flags::described_flags};
use crate::{parse::scalar::DURATION_UNITS, *};

mod deploy;
mod flags;

/// The configuration as a table in the schema of the file.
pub fn describe(config: &Config) -> Table {
    let Config { server, admin, listeners, services, flags, hooks, stages, watch, events } = config;
    table([
        ("server", Some(described_server(server))),
        ("admin", Some(described_admin(admin))),
        ("listener", Some(named(listeners, listener))),
        ("service", Some(named(services, service))),
        ("flags", Some(described_flags(flags))),
        ("hook", (!hooks.is_empty()).then(|| named(hooks, deploy::hook))),
        ("stage", (!stages.is_empty()).then(|| named(stages, deploy::stage))),
        ("watch", watch.as_ref().map(deploy::watch)),
        ("events", Some(deploy::events(events))),
    ])
}

/// A table of the keys that have a value.
fn table<const N: usize>(entries: [(&str, Option<Value>); N]) -> Table {
    entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// The value of a key that is always there.
fn some(value: impl Into<Value>) -> Option<Value> {
    Some(value.into())
}

fn named<K: ToString, V>(map: &BTreeMap<K, V>, value: impl Fn(&V) -> Value) -> Value {
    Value::Table(map.iter().map(|(name, v)| (name.to_string(), value(v))).collect())
}

fn list<T>(items: &[T], value: impl Fn(&T) -> Value) -> Value {
    Value::Array(items.iter().map(value).collect())
}

fn texts(items: &[String]) -> Value {
    list(items, |item| Value::String(item.clone()))
}

fn integer(number: impl TryInto<i64>) -> Value {
    // Invariant: the parse lets no number above i64::MAX through.
    Value::Integer(number.try_into().unwrap_or(i64::MAX))
}

fn path(path: &Path) -> Value {
    Value::String(path.display().to_string())
}

/// In the longest unit that fits without a rest.
fn duration(duration: Duration) -> Value {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = DURATION_UNITS.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    Value::String(fits.map_or_else(|| "0s".into(), |(name, unit)| format!("{}{name}", millis / unit)))
}

fn percent(weight: Weight) -> Value {
    match weight.points() {
        points if points.is_multiple_of(100) => integer(points / 100),
        _ => Value::Float(weight.percent()),
    }
}

fn described_server(server: &Server) -> Value {
    let Server { threads, state_dir, grace, trusted_proxies, limits, access_log, forwarded } = server;
    let network = |network: &Network| Value::String(format!("{}/{}", network.address, network.prefix));
    let Limits { header_bytes, header_fields, header_timeout, body_min_rate, connections, connections_per_client } =
        *limits;
    let limits = table([
        ("header_bytes", some(integer(header_bytes))),
        ("header_fields", some(integer(header_fields))),
        ("header_timeout", some(duration(header_timeout))),
        ("body_min_rate", some(integer(body_min_rate))),
        ("connections", some(integer(connections))),
        ("connections_per_client", some(integer(connections_per_client))),
    ]);
    Value::Table(table([
        ("threads", threads.map(integer)),
        ("state_dir", some(path(state_dir))),
        ("grace", some(duration(*grace))),
        ("trusted_proxies", some(list(trusted_proxies, network))),
        ("limits", some(limits)),
        ("access_log", some(table([("sample", some(access_log.sample))]))),
        ("forwarded", some(*forwarded)),
    ]))
}

fn described_admin(admin: &Admin) -> Value {
    let Admin { listen, tokens, hosts, metrics_auth } = admin;
    let listen = match listen {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    };
    let token = |token: &Token| {
        let role = match token.role {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        };
        let mut described = source(&token.secret);
        described.extend(table([("name", some(token.name.as_str())), ("role", some(role))]));
        Value::Table(described)
    };
    Value::Table(table([
        ("listen", some(listen)),
        ("tokens", (!tokens.is_empty()).then(|| list(tokens, token))),
        ("hosts", some(texts(hosts))),
        ("metrics_auth", some(*metrics_auth)),
    ]))
}

/// Only where the secret is.
fn source(source: &SecretSource) -> Table {
    match source {
        SecretSource::Env(name) => table([("env", some(name.as_str()))]),
        SecretSource::File(file) => table([("file", Some(path(file)))]),
    }
}

fn listener(listener: &Listener) -> Value {
    let Listener { address, tls, h2c, service_paths, preview } = listener;
    let tls = tls.as_ref().map(|Tls { cert, key }| table([("cert", some(path(cert))), ("key", some(path(key)))]));
    Value::Table(table([
        ("address", some(address.to_string())),
        ("tls", tls.map(Value::Table)),
        ("h2c", some(*h2c)),
        ("service_paths", some(*service_paths)),
        ("preview", preview.as_deref().map(Value::from)),
    ]))
}

fn service(service: &ServiceSpec) -> Value {
    let ServiceSpec { listeners, routes, stable, split, sticky, health, failover, drain, .. } = service;
    let ServiceSpec { timeouts, retry, rules, targets, mirrors, pin, expose, max_body, environment, .. } = service;
    let name = |name: &ListenerId| Value::String(name.to_string());
    let weights: Table = split.iter().map(|(target, weight)| (target.to_string(), percent(weight))).collect();
    let timeouts = table([
        ("connect", some(duration(timeouts.connect))),
        ("response", some(duration(timeouts.response))),
        ("idle", some(duration(timeouts.idle))),
    ]);
    let retry = table([("attempts", some(integer(retry.attempts))), ("budget", some(integer(retry.budget)))]);
    let mut described = table([
        ("listeners", listeners.as_ref().map(|names| list(names, name))),
        ("routes", some(list(routes, route))),
        ("stable", some(stable.as_str())),
        ("split", some(weights)),
        ("sticky", sticky.as_ref().map(described_sticky)),
        ("health", some(described_health(health))),
        ("failover", failover.as_ref().map(described_failover)),
        ("drain", some(duration(*drain))),
        ("timeouts", some(timeouts)),
        ("retry", some(retry)),
        ("pin", pin.as_ref().map(|pin| Value::Table(source(pin)))),
        ("expose", some(*expose)),
        ("max_body", max_body.map(integer)),
        ("rule", some(list(rules, rule))),
        ("target", some(named(targets, target))),
        ("mirror", some(named(mirrors, mirror))),
    ]);
    described.extend(deploy::environment(environment));
    Value::Table(described)
}

fn route(route: &RouteSpec) -> Value {
    let RouteSpec { host, path, strip } = route;
    Value::Table(table([("host", some(host.to_string())), ("path", some(path.as_str())), ("strip", some(*strip))]))
}

fn described_sticky(sticky: &Sticky) -> Value {
    let Sticky { cookie, header, max_age } = sticky;
    Value::Table(table([
        ("cookie", some(cookie.as_str())),
        ("header", header.as_deref().map(Value::from)),
        ("max_age", some(duration(*max_age))),
    ]))
}

fn described_failover(failover: &FailoverPolicy) -> Value {
    let failback = match failover.failback {
        FailbackMode::Manual => "manual",
        FailbackMode::Auto => "auto",
        FailbackMode::Restart => "restart",
    };
    let mut described = table([("to", some(failover.to.as_str())), ("failback", some(failback))]);
    described.extend(failover_hooks(&failover.hooks));
    Value::Table(described)
}

fn described_health(health: &HealthPolicy) -> Value {
    let HealthPolicy::Active(ActiveCheck { probe, interval, timeout, fall, rise }) = health else {
        return Value::Boolean(false);
    };
    let mut described = table([
        ("interval", some(duration(*interval))),
        ("timeout", some(duration(*timeout))),
        ("fall", some(integer(*fall))),
        ("rise", some(integer(*rise))),
    ]);
    described.extend(match probe {
        Probe::Tcp => table([("tcp", some(true))]),
        Probe::Http { method, path, host, headers, expect } => {
            let statuses: Vec<_> = expect.status.iter().map(status).collect();
            table([
                ("method", some(method.as_str())),
                ("path", some(path.as_str())),
                ("host", host.as_deref().map(Value::from)),
                ("headers", some(header_values(headers))),
                ("expect", some(statuses.join(","))),
                ("body", expect.body.as_ref().map(|pattern| Value::from(pattern.as_str()))),
            ])
        }
    });
    Value::Table(described)
}

fn status(range: &std::ops::RangeInclusive<u16>) -> String {
    let (low, high) = (range.start(), range.end());
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

fn target(target: &TargetSpec) -> Value {
    let endpoint = |EndpointSpec { address, weight }: &EndpointSpec| {
        Value::Table(table([("address", some(address.to_string())), ("weight", some(integer(*weight)))]))
    };
    Value::Table(table([("endpoints", some(list(&target.endpoints, endpoint)))]))
}

fn rule(rule: &RuleSpec) -> Value {
    let RuleSpec { when, to } = rule;
    let Match { headers, cookies, query, methods, path, flag } = when;
    let flag = flag.as_ref().map(|FlagCondition { name, is }| {
        Value::Table(table([("name", some(name.as_str())), ("is", is.as_deref().map(Value::from))]))
    });
    let when = table([
        ("header", text_matches(headers)),
        ("cookie", text_matches(cookies)),
        ("query", text_matches(query)),
        ("method", (!methods.is_empty()).then(|| texts(methods))),
        ("path", path.as_deref().map(Value::from)),
        ("flag", flag),
    ]);
    Value::Table(table([("when", some(when)), ("to", some(to.as_str()))]))
}

fn text_matches(matches: &BTreeMap<String, TextMatch>) -> Option<Value> {
    let described = matches.iter().map(|(name, text)| (name.clone(), text_match(name, text)));
    (!matches.is_empty()).then(|| Value::Table(described.collect()))
}

fn text_match(name: &str, text: &TextMatch) -> Value {
    match text {
        TextMatch::Present => Value::from("*"),
        TextMatch::Exact(text) => masked(name, text),
        TextMatch::Prefix(prefix) => Value::Table(table([("prefix", Some(masked(name, prefix)))])),
        TextMatch::Regex(pattern) => Value::Table(table([("regex", Some(masked(name, pattern.as_str())))])),
    }
}

fn mirror(mirror: &MirrorSpec) -> Value {
    let MirrorSpec { to, percent: share, methods, max_body, compare, ignore, remove_headers, set_headers, flag } =
        mirror;
    let headers = table([("remove", some(texts(remove_headers))), ("set", some(header_values(set_headers)))]);
    Value::Table(table([
        ("to", some(to.as_str())),
        ("percent", some(percent(*share))),
        ("methods", some(texts(methods))),
        ("max_body", some(integer(*max_body))),
        ("compare", some(*compare)),
        ("ignore", some(texts(ignore))),
        ("headers", some(headers)),
        ("flag", flag.as_ref().map(|flag| Value::from(flag.as_str()))),
    ]))
}

fn header_values(headers: &BTreeMap<String, String>) -> Value {
    Value::Table(headers.iter().map(|(name, value)| (name.clone(), masked(name, value))).collect())
}

/// Parts of names of headers, cookies and parameters whose values are credentials.
const CREDENTIALS: [&str; 10] =
    ["authorization", "cookie", "token", "secret", "password", "passwd", "api-key", "apikey", "session", "signature"];

/// The value, unless its name says that it is a credential.
fn masked(name: &str, value: &str) -> Value {
    Value::from(if is_credential(name) { "***" } else { value })
}

/// Whether a name is one of a credential.
fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    CREDENTIALS.iter().any(|part| name.contains(part))
}
