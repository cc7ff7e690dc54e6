//! `[service.NAME]`: everything that the file says about a service.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use super::{
    conflict::{Claim, Claims},
    deploy, health,
    names::Names,
    read::{Node, Table},
    route::route,
    rule::rule,
    scalar::{cookie_name, duration, header_name, method, nonempty_text, percent, secret, size, some_duration, truth},
};
use crate::{
    EndpointAddress, EndpointSpec, FailbackMode, FailoverPolicy, FlagName, HealthPolicy, ListenerId, MirrorId,
    MirrorSpec, Retry, RouteSpec, ServiceSpec, Split, Sticky, TargetId, TargetSpec, Timeouts, Weight,
};

/// Most mirrors of a service: a request notes the ones that copy it in 32 bits.
const MAX_MIRRORS: usize = 32;
/// Longest body that a mirror may copy: what one mirror may hold in flight.
const MAX_MIRROR_BODY: u64 = 16 << 20;

/// What a service may refer to outside of it.
pub(super) struct Around {
    /// The listeners.
    pub(super) listeners: Names,
    /// The flags.
    pub(super) flags: Names,
    /// The commands.
    pub(super) hooks: Names,
}

/// A service. `None` when a part that has no default is wrong or missing.
pub(super) fn service(t: &mut Table<'_>, around: &Around, claims: &mut Claims) -> Option<ServiceSpec> {
    let place = format!("[service.{}.target.NAME]", t.name());
    let names = Names::below(t, "target", "target", place.clone()).lenient_when_empty();
    let advice = format!("a service needs a target: add {place} with endpoints = [\"127.0.0.1:3001\"]");
    let targets = t.require("target", &advice, |node| targets(node, &advice));
    let stable = stable(t, &names);
    let split = t.get_or("split", stable.clone().map(Split::all), |node| split(node, &names).map(Some)).flatten();
    let listeners = t.get_or("listeners", None, |node| listeners(node, &around.listeners).map(Some));
    let (routes, claimed) = routes(t);
    if let Some(listeners) = &listeners {
        claims.add(t.name(), listeners.as_deref(), claimed);
    }
    Some(ServiceSpec {
        listeners: listeners.flatten(),
        routes,
        sticky: t.get("sticky", |node| node.table(sticky)),
        health: t.get("health", health::health).unwrap_or_else(|| HealthPolicy::Active(Table::defaults(health::check))),
        failover: t.get("failover", |node| node.table(|t| failover(t, &names, stable.as_ref(), &around.hooks))?),
        drain: t.get("drain", duration).unwrap_or(Duration::from_secs(30)),
        timeouts: t.section("timeouts", timeouts),
        retry: t.section("retry", retry),
        rules: t
            .get("rule", |node| node.list(|node| node.table(|t| rule(t, &names, &around.flags))?))
            .unwrap_or_default(),
        mirrors: t.get("mirror", |node| mirrors(node, &names, &around.flags)).unwrap_or_default(),
        pin: t.get("pin", secret),
        expose: t.get("expose", truth).unwrap_or(false),
        max_body: t.get("max_body", |node| size(node, u64::MAX >> 1)),
        environment: deploy::environment(t, &around.hooks),
        // Last, so that everything above has been read when one of them is not there.
        targets: targets?,
        stable: stable?,
        split: split?,
    })
}

/// The stable target: the only one, unless the file says which.
fn stable(t: &mut Table<'_>, names: &Names) -> Option<TargetId> {
    if let (false, Some(only)) = (t.has("stable"), names.only()) {
        return t.get_or("stable", TargetId::parse(only).ok(), |_| None).flatten();
    }
    if names.silent() {
        return t.get("stable", |node| names.text(node, TargetId::parse));
    }
    let advice = format!("say which target carries the service ({})", names.listed());
    t.require("stable", &advice, |node| names.text(node, TargetId::parse))
}

fn targets(node: Node<'_>, advice: &str) -> Option<BTreeMap<TargetId, TargetSpec>> {
    if node.is_empty() {
        return node.refuse(advice);
    }
    node.map(|entry| (entry.key(TargetId::parse), entry.node.table(target).flatten()))
}

fn target(t: &mut Table<'_>) -> Option<TargetSpec> {
    let advice = "write endpoints = [\"127.0.0.1:3001\"]";
    let endpoints = t.require("endpoints", advice, |node| {
        let mut seen = HashSet::new();
        node.nonempty(advice, |node| {
            let endpoint = endpoint(node)?;
            if seen.insert(endpoint.address.clone()) {
                Some(endpoint)
            } else {
                node.refuse(format!("{} is in this target already: give it a weight instead", endpoint.address))
            }
        })
    });
    Some(TargetSpec { endpoints: endpoints? })
}

/// An address, or `{ address = "..", weight = 2 }`.
fn endpoint(node: Node<'_>) -> Option<EndpointSpec> {
    let address = |node: Node<'_>| node.parsed(|text| text.parse::<EndpointAddress>().map_err(|why| why.to_string()));
    if !node.is_table() {
        node.text_like("an address such as \"127.0.0.1:3001\", or { address = \"..\", weight = 2 }")?;
        return Some(EndpointSpec { address: address(node)?, weight: 1 });
    }
    node.table(|t| {
        let address = t.require("address", "write one such as \"127.0.0.1:3001\"", address);
        let weight = t.get("weight", |node| node.integer(1..=1000).and_then(|weight| u16::try_from(weight).ok()));
        Some(EndpointSpec { address: address?, weight: weight.unwrap_or(1) })
    })?
}

fn split(node: Node<'_>, names: &Names) -> Option<Split> {
    let mut wrong = false;
    let weights = node.map(|entry| {
        let unknown = names.unknown(entry.name).map(|message| entry.refuse::<()>(message)).is_some();
        let weight = percent(entry.node);
        wrong |= unknown || weight.is_none();
        (TargetId::parse(entry.name).ok(), weight)
    })?;
    if wrong {
        return None;
    }
    Split::new(weights).map_or_else(|why| node.refuse(format!("{why}: name every target that has a weight")), Some)
}

fn listeners(node: Node<'_>, names: &Names) -> Option<Vec<ListenerId>> {
    let mut seen = HashSet::new();
    node.nonempty("name a listener, or leave the key out for all", |node| {
        let listener = names.text(node, ListenerId::parse)?;
        if seen.insert(listener.clone()) {
            Some(listener)
        } else {
            node.refuse(format!("{listener} is in the list already"))
        }
    })
}

/// The routes, and where they are written. Without any, a service has every request.
fn routes(t: &mut Table<'_>) -> (Vec<RouteSpec>, Vec<Claim>) {
    let mut claims = Vec::new();
    let routes = t.get("routes", |node| {
        node.nonempty("write a route, or leave the key out for every request", |node| {
            let route = node.table(route)??;
            claims.push(Claim::at(node, &route));
            Some(route)
        })
    });
    if t.has("routes") {
        return (routes.unwrap_or_default(), claims);
    }
    let everything = Table::defaults(route);
    claims.extend(everything.iter().map(|everything| Claim::by_default(t, everything)));
    (everything.into_iter().collect(), claims)
}

fn sticky(t: &mut Table<'_>) -> Sticky {
    let second = |node: Node<'_>| match duration(node)? {
        age if age < Duration::from_secs(1) => {
            node.refuse("a cookie lives for a second at least: write \"1s\" or more")
        }
        age => Some(age),
    };
    Sticky {
        cookie: t.get("cookie", |node| node.parsed(cookie_name)).unwrap_or_else(|| "tidegate".into()),
        header: t.get("header", |node| node.parsed(header_name)),
        max_age: t.get("max_age", second).unwrap_or(Duration::from_secs(30 * 86_400)),
    }
}

fn failover(t: &mut Table<'_>, names: &Names, stable: Option<&TargetId>, hooks: &Names) -> Option<FailoverPolicy> {
    let to = t.require("to", "say which target takes over", |node| {
        let to = names.text(node, TargetId::parse)?;
        if Some(&to) == stable {
            return node.refuse(format!("{to} is the stable target itself: name another one"));
        }
        Some(to)
    });
    let failback = t.get("failback", |node| {
        let modes =
            [("manual", FailbackMode::Manual), ("auto", FailbackMode::Auto), ("restart", FailbackMode::Restart)];
        node.one_of(&modes)
    });
    let hooks = deploy::failover_hooks(t, hooks);
    Some(FailoverPolicy { to: to?, failback: failback.unwrap_or(FailbackMode::Manual), hooks })
}

fn timeouts(t: &mut Table<'_>) -> Timeouts {
    Timeouts {
        connect: t.get("connect", some_duration).unwrap_or(Duration::from_secs(2)),
        response: t.get("response", some_duration).unwrap_or(Duration::from_secs(60)),
        idle: t.get("idle", some_duration).unwrap_or(Duration::from_secs(60)),
    }
}

fn retry(t: &mut Table<'_>) -> Retry {
    let up_to = |most| move |node: Node<'_>| node.integer(0..=most).and_then(|number| u32::try_from(number).ok());
    Retry { attempts: t.get("attempts", up_to(5)).unwrap_or(2), budget: t.get("budget", up_to(100)).unwrap_or(20) }
}

fn mirrors(node: Node<'_>, names: &Names, flags: &Names) -> Option<BTreeMap<MirrorId, MirrorSpec>> {
    let mirrors =
        node.map(|entry| (entry.key(MirrorId::parse), entry.node.table(|t| mirror(t, names, flags)).flatten()))?;
    let count = node.count();
    if count > MAX_MIRRORS {
        return node.refuse(format!("{count} mirrors are more than {MAX_MIRRORS}: remove some"));
    }
    Some(mirrors)
}

fn mirror(t: &mut Table<'_>, names: &Names, flags: &Names) -> Option<MirrorSpec> {
    let to = t.require("to", "say which target gets the copies", |node| names.text(node, TargetId::parse));
    let (remove_headers, set_headers) = t.section("headers", |t| {
        let remove = t.get("remove", |node| node.list(|node| node.parsed(header_name)));
        (remove.unwrap_or_default(), t.get("set", health::headers).unwrap_or_default())
    });
    Some(MirrorSpec {
        percent: t.get("percent", percent).unwrap_or(Weight::FULL),
        methods: t.get("methods", mirror_methods).unwrap_or_else(|| vec!["GET".into(), "HEAD".into()]),
        max_body: t.get("max_body", |node| size(node, MAX_MIRROR_BODY)).unwrap_or(64 << 10),
        compare: t.get("compare", truth).unwrap_or(false),
        ignore: t.get("ignore", |node| node.list(nonempty_text)).unwrap_or_default(),
        remove_headers,
        set_headers,
        flag: t.get("flag", |node| flags.text(node, FlagName::parse)),
        to: to?,
    })
}

/// Methods, or `["*"]` for all.
fn mirror_methods(node: Node<'_>) -> Option<Vec<String>> {
    let methods = node.nonempty("name a method, or write [\"*\"] for all", |node| match node.value() {
        toml::de::DeValue::String(text) if text == "*" => Some("*".into()),
        _ => method(node),
    })?;
    if methods.len() > 1 && methods.iter().any(|method| method == "*") {
        return node.refuse("\"*\" is every method already: leave the others out");
    }
    Some(methods)
}
