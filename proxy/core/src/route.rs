//! From listener, host and path to a service.
//!
//! Exact host, then the longest `*.suffix`, then `*`; under a host, the longest path prefix on segment borders. A host
//! without a matching path leaves the request to the next. One look-up takes as many probes as the deepest route of the
//! host has segments, however many routes there are.

use std::{collections::HashMap, sync::Arc};

use tidegate_config::{ListenerId, RouteHost, RouteSpec};

use crate::{
    host::canonical_host,
    index::{Index, mix},
    path::{RequestPath, canonical_prefix},
    snapshot::{ListenerIdx, ServiceIdx},
};

/// From listener, host and path to a service.
#[derive(Debug, Default)]
pub struct Router {
    /// By position of the listener; listeners that carry the same services share their table.
    tables: Vec<Arc<Table>>,
}

/// A route that matches a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The service.
    pub service: ServiceIdx,
    /// Position of the route in the service's specification.
    pub route: u32,
    /// Segments of the path that are taken off before it is forwarded.
    pub strip: u16,
}

/// What a service says about where it is found.
#[derive(Debug, Clone, Copy)]
pub struct Routed<'a> {
    /// Listeners that carry it; `None`: all of them.
    pub listeners: Option<&'a [ListenerId]>,
    /// Its routes.
    pub routes: &'a [RouteSpec],
}

impl Router {
    /// A router for these listeners and services, both in the order of their positions.
    ///
    /// Where two services claim the same host and path on one listener, the first of them has it.
    pub fn new<'a>(listeners: &[ListenerId], services: impl Iterator<Item = Routed<'a>> + Clone) -> Self {
        let mut shared: HashMap<Vec<u32>, Arc<Table>> = HashMap::new();
        let tables = listeners.iter().map(|listener| {
            let carried = |service: &Routed<'_>| service.listeners.is_none_or(|only| only.contains(listener));
            let services = services.clone().zip(0..);
            let restricted = services.clone().filter(|(service, _)| service.listeners.is_some() && carried(service));
            let table = shared
                .entry(restricted.map(|(_, at)| at).collect())
                .or_insert_with(|| Arc::new(Table::new(services.filter(|(service, _)| carried(service)))));
            Arc::clone(table)
        });
        Self { tables: tables.collect() }
    }

    /// The route of a request. The host is in canonical form.
    pub fn find(&self, listener: ListenerIdx, host: &str, path: &RequestPath<'_>) -> Option<Found> {
        self.tables.get(listener.get())?.find(host, path.canonical())
    }
}

/// All routes of a listener.
#[derive(Debug, Default)]
struct Table {
    /// Texts of all hosts and prefixes.
    texts: Box<str>,
    hosts: Vec<HostEntry>,
    hosts_by_text: Index,
    /// The host `*`.
    any: Option<u32>,
    /// Dots of the suffix that has the most: no longer suffix of a host is looked up. Zero: there are none.
    suffix_dots: usize,
    routes: Vec<RouteEntry>,
    routes_by_prefix: Index,
}

#[derive(Debug, Clone, Copy)]
struct HostEntry {
    text: Text,
    /// The route of its `/`, which lies above every path.
    root: Option<Found>,
    /// Bit n: it has a route of n segments, at least one; the last bit stands for all deeper ones too.
    depths: u64,
}

#[derive(Debug, Clone, Copy)]
struct RouteEntry {
    prefix: Text,
    host: u32,
    route: u32,
    strip: u16,
}

/// A part of [`Table::texts`].
#[derive(Debug, Clone, Copy)]
struct Text {
    start: u32,
    length: u32,
}

/// The bit that stands for this depth and all deeper ones.
const DEEP: u32 = 63;

impl Table {
    fn new<'a>(services: impl Iterator<Item = (Routed<'a>, u32)> + Clone) -> Self {
        let count = services.clone().map(|(service, _)| service.routes.len()).sum();
        let mut builder = Builder {
            texts: String::new(),
            table: Self {
                hosts_by_text: Index::with_capacity(count),
                routes_by_prefix: Index::with_capacity(count),
                routes: Vec::with_capacity(count),
                ..Self::default()
            },
        };
        for (service, at) in services {
            for (route, position) in service.routes.iter().zip(0..) {
                builder.add(route, ServiceIdx(at), position);
            }
        }
        let Builder { texts, mut table } = builder;
        // Far fewer hosts than routes, perhaps: a small index stays in the caches.
        let mut hosts = Index::with_capacity(table.hosts.len());
        for (host, at) in table.hosts.iter().zip(0..).filter(|(_, at)| table.any != Some(*at)) {
            hosts.insert(hash_of(host.text.of(&texts).unwrap_or_default()), at, at);
        }
        table.hosts_by_text = hosts;
        Self { texts: texts.into(), ..table }
    }

    fn find(&self, host: &str, path: &str) -> Option<Found> {
        if let Some(found) = self.under(host, path) {
            return Some(found);
        }
        if self.suffix_dots > 0 {
            let mut dots = host.bytes().filter(|byte| *byte == b'.').count();
            for (at, _) in host.match_indices('.') {
                if dots <= self.suffix_dots
                    && let Some(suffix) = host.get(at..)
                    && let Some(found) = self.under(suffix, path)
                {
                    return Some(found);
                }
                dots -= 1;
            }
        }
        self.any.and_then(|at| self.below(at, hash_of(ANY), path))
    }

    /// The route of a host or suffix by its text.
    fn under(&self, text: &str, path: &str) -> Option<Found> {
        if self.hosts_by_text.is_empty() {
            return None;
        }
        let hash = hash_of(text);
        self.host(&self.texts, hash, text).and_then(|at| self.below(at, hash, path))
    }

    fn host(&self, texts: &str, hash: u64, text: &str) -> Option<u32> {
        let is = |at: u32| self.hosts.get(at as usize).is_some_and(|host| host.text.of(texts) == Some(text));
        self.hosts_by_text.find(hash, is).map(|(at, _)| at)
    }

    /// The deepest route of a host that a path lies below.
    fn below(&self, host: u32, hash: u64, path: &str) -> Option<Found> {
        let HostEntry { depths, root, .. } = *self.hosts.get(host as usize)?;
        let mut best = root;
        let mut border = Border::first(hash);
        while depths >> border.bit() > 1 || depths >> DEEP == 1 {
            let Some(next) = border.next(path) else { break };
            border = next;
            if depths >> border.bit() & 1 == 1
                && let Some(prefix) = path.get(..border.end)
                && let Some(found) = self.route(&self.texts, border.hash, host, prefix)
            {
                best = Some(found);
            }
        }
        best
    }

    fn route(&self, texts: &str, hash: u64, host: u32, prefix: &str) -> Option<Found> {
        let is = |at: u32| {
            self.routes
                .get(at as usize)
                .is_some_and(|route| route.host == host && route.prefix.of(texts) == Some(prefix))
        };
        let (at, service) = self.routes_by_prefix.find(hash, is)?;
        let RouteEntry { route, strip, .. } = *self.routes.get(at as usize)?;
        Some(Found { service: ServiceIdx(service), route, strip })
    }
}

/// What stands for the host `*` in a hash: no host has this text.
const ANY: &str = "*";

/// The hash of a host. Those of its paths go on from it, so that a route can be fetched together with its host.
fn hash_of(host: &str) -> u64 {
    mix(0, host.as_bytes())
}

/// A border between segments of a canonical path.
#[derive(Debug, Clone, Copy)]
struct Border {
    /// Segments before it.
    depth: u32,
    /// Where it is.
    end: usize,
    /// Of the host and the path before it.
    hash: u64,
}

impl Border {
    fn first(hash: u64) -> Self {
        Self { depth: 0, end: 0, hash }
    }

    fn next(self, path: &str) -> Option<Self> {
        let rest = path.as_bytes().get(self.end + 1..)?;
        let segment = rest.split(|byte| *byte == b'/').next().filter(|segment| !segment.is_empty())?;
        let end = self.end + 1 + segment.len();
        Some(Self { depth: self.depth + 1, end, hash: mix(self.hash, segment) })
    }

    /// The bit of [`HostEntry::depths`] that stands for this depth.
    fn bit(self) -> u32 {
        self.depth.min(DEEP)
    }
}

impl Text {
    fn of(self, texts: &str) -> Option<&str> {
        let start = self.start as usize;
        texts.get(start..start + self.length as usize)
    }
}

struct Builder {
    texts: String,
    table: Table,
}

impl Builder {
    fn add(&mut self, route: &RouteSpec, service: ServiceIdx, position: u32) {
        let (host, hash) = self.host(&route.host);
        let prefix = canonical_prefix(&route.path);
        let mut border = Border::first(hash);
        while let Some(next) = border.next(&prefix) {
            border = next;
        }
        let Border { depth, hash, .. } = border;
        let strip = if route.strip { u16::try_from(depth).unwrap_or(u16::MAX) } else { 0 };
        let found = Found { service, route: position, strip };
        if depth == 0 {
            if let Some(host) = self.table.hosts.get_mut(host as usize) {
                host.root.get_or_insert(found);
            }
            return;
        }
        if self.table.route(&self.texts, hash, host, &prefix).is_some() {
            return;
        }
        let prefix = self.text(&prefix);
        self.table.routes_by_prefix.insert(hash, self.table.routes.len() as u32, service.0);
        self.table.routes.push(RouteEntry { prefix, host, route: position, strip });
        if let Some(host) = self.table.hosts.get_mut(host as usize) {
            host.depths |= 1 << depth.min(DEEP);
        }
    }

    fn host(&mut self, host: &RouteHost) -> (u32, u64) {
        let text = match host {
            RouteHost::Any => ANY.into(),
            RouteHost::Suffix(suffix) => {
                let suffix = suffix.to_ascii_lowercase();
                let dots = suffix.bytes().filter(|byte| *byte == b'.').count();
                self.table.suffix_dots = self.table.suffix_dots.max(dots);
                suffix
            }
            RouteHost::Exact(host) => canonical_host(host),
        };
        let hash = hash_of(&text);
        if let Some(at) = self.table.host(&self.texts, hash, &text) {
            return (at, hash);
        }
        let next = self.table.hosts.len() as u32;
        self.table.hosts_by_text.insert(hash, next, next);
        let entry = HostEntry { text: self.text(&text), root: None, depths: 0 };
        self.table.hosts.push(entry);
        if matches!(host, RouteHost::Any) {
            self.table.any = Some(next);
        }
        (next, hash)
    }

    fn text(&mut self, text: &str) -> Text {
        let start = self.texts.len() as u32;
        self.texts.push_str(text);
        Text { start, length: text.len() as u32 }
    }
}

#[cfg(test)]
mod tests;
