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
    hosts: Index<HostEntry>,
    /// The host `*`.
    any: Option<HostEntry>,
    /// Dots of the suffix that has the most: no longer suffix of a host is looked up. Zero: there are none.
    suffix_dots: usize,
    routes: Index<RouteEntry>,
}

/// Fills a cache line, as [`RouteEntry`] does: neither lies on two, and only a long text lies elsewhere.
#[derive(Debug)]
#[repr(align(64))]
struct HostEntry {
    text: Text<38>,
    number: u32,
    /// The route of its `/`, which lies above every path: its service, and its position there.
    root: Option<(ServiceIdx, u32)>,
    /// Bit n: it has a route of n segments, at least one; the last bit stands for all deeper ones too.
    depths: u64,
}

#[derive(Debug)]
#[repr(align(64))]
struct RouteEntry {
    /// [`HostEntry::number`].
    host: u32,
    prefix: Text<46>,
    service: ServiceIdx,
    route: u32,
    strip: u16,
}

const _: () = assert!(size_of::<Option<HostEntry>>() == 64 && size_of::<Option<RouteEntry>>() == 64, "one cache line");

/// A text that lies in place when it has at most N bytes.
#[derive(Debug)]
enum Text<const N: usize> {
    Near { length: u8, bytes: [u8; N] },
    Far(Box<str>),
}

/// The bit that stands for this depth and all deeper ones.
const DEEP: u32 = 63;

impl Table {
    fn new<'a>(services: impl Iterator<Item = (Routed<'a>, u32)> + Clone) -> Self {
        let count = services.clone().map(|(service, _)| service.routes.len()).sum();
        let mut table = Self { routes: Index::with_capacity(count), ..Self::default() };
        for (service, at) in services {
            for (route, position) in service.routes.iter().zip(0..) {
                table.add(route, ServiceIdx(at), position);
            }
        }
        table
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
        self.any.as_ref().and_then(|host| self.below(host, hash_of(ANY), path))
    }

    /// The route of a host or suffix by its text.
    fn under(&self, text: &str, path: &str) -> Option<Found> {
        if self.hosts.len() == 0 {
            return None;
        }
        let hash = hash_of(text);
        self.hosts.find(hash, |host| host.text.is(text)).and_then(|host| self.below(host, hash, path))
    }

    /// The deepest route of a host that a path lies below.
    fn below(&self, host: &HostEntry, hash: u64, path: &str) -> Option<Found> {
        let HostEntry { depths, root, number, .. } = *host;
        let mut best = root.map(|(service, route)| Found { service, route, strip: 0 });
        let mut border = Border::first(hash);
        while depths >> border.bit() > 1 || depths >> DEEP == 1 {
            let Some(next) = border.next(path) else { break };
            border = next;
            if depths >> border.bit() & 1 == 1
                && let Some(prefix) = path.get(..border.end)
                && let Some(route) = self.routes.find(border.hash, |route| route.is(number, prefix))
            {
                best = Some(Found { service: route.service, route: route.route, strip: route.strip });
            }
        }
        best
    }

    fn add(&mut self, route: &RouteSpec, service: ServiceIdx, position: u32) {
        let Some((host, hash)) = self.host(&route.host) else { return };
        let prefix = canonical_prefix(&route.path);
        let mut border = Border::first(hash);
        while let Some(next) = border.next(&prefix) {
            border = next;
        }
        let Border { depth, hash, .. } = border;
        if depth == 0 {
            host.root.get_or_insert((service, position));
            return;
        }
        host.depths |= 1 << depth.min(DEEP);
        let host = host.number;
        let strip = if route.strip { u16::try_from(depth).unwrap_or(u16::MAX) } else { 0 };
        let new = || RouteEntry { host, prefix: Text::new(&prefix), service, route: position, strip };
        self.routes.find_or_insert(hash, |route| route.is(host, &prefix), new);
    }

    /// A host, which is new perhaps, and its hash.
    fn host(&mut self, host: &RouteHost) -> Option<(&mut HostEntry, u64)> {
        let text = match host {
            RouteHost::Any => return Some((self.any.get_or_insert_with(|| HostEntry::new(ANY, 0)), hash_of(ANY))),
            RouteHost::Suffix(suffix) => {
                let suffix = suffix.to_ascii_lowercase();
                let dots = suffix.bytes().filter(|byte| *byte == b'.').count();
                self.suffix_dots = self.suffix_dots.max(dots);
                suffix
            }
            RouteHost::Exact(host) => canonical_host(host),
        };
        self.hosts.reserve(|host| mix(0, host.text.as_bytes()));
        let (hash, number) = (hash_of(&text), self.hosts.len() as u32 + 1);
        let host = self.hosts.find_or_insert(hash, |host| host.text.is(&text), || HostEntry::new(&text, number))?;
        Some((host, hash))
    }
}

impl HostEntry {
    fn new(text: &str, number: u32) -> Self {
        Self { text: Text::new(text), number, root: None, depths: 0 }
    }
}

impl RouteEntry {
    fn is(&self, host: u32, prefix: &str) -> bool {
        self.host == host && self.prefix.is(prefix)
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

impl<const N: usize> Text<N> {
    fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(near), Ok(length)) => {
                near.copy_from_slice(text.as_bytes());
                Self::Near { length, bytes }
            }
            _ => Self::Far(text.into()),
        }
    }

    fn is(&self, text: &str) -> bool {
        self.as_bytes() == text.as_bytes()
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Near { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Far(text) => text.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests;
