//! From a request's head to its service, before a target is chosen. Decisions, explanations and the check of pins ask
//! this one function, so that they never mean different services.
//!
//! A request that names its service comes before the routes, on listeners that offer it: by its host, for a preview
//! (`<service>.<label>.<domain>`), or by its path (`/services/<service>/`).

use tidegate_config::ids::MAX_NAME;

use super::{Reason, Unwatched, Watcher, name};
use crate::{
    host::{self, HOST_BUFFER},
    path::RequestPath,
    preview::{self, Asked, Place},
    reject::Reject,
    request::RequestHead,
    route::Found,
    snapshot::{ListenerIdx, Service, ServiceIdx, Snapshot, TargetIdx},
    state::ListenerOffer,
};

/// What a path that names its service begins with.
const SERVICES: &str = "/services/";

/// Segments of such a path that its service does not see.
const NAMING_SEGMENTS: usize = 2;

/// Where a request leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way<'a> {
    /// The service.
    pub service: ServiceIdx,
    /// Position of the route in the service's specification; `None`: the request names the service.
    pub route: Option<u32>,
    /// The path that rules are matched against. Where the request names the service, what comes after the name.
    pub path: RequestPath<'a>,
    /// Bytes of the path that are taken off before it is forwarded.
    pub strip: usize,
    /// Who chooses the target.
    pub aim: Aim,
}

/// Who chooses a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Pin, rules, failover and split.
    Service,
    /// The request itself: this one, or none.
    Only(TargetIdx, Reason),
}

/// The way of a request.
///
/// # Errors
/// A [`Reject`] when it leads nowhere.
pub fn find<'a>(snapshot: &Snapshot, head: &RequestHead<'a>) -> Result<Way<'a>, Reject> {
    find_watched(snapshot, head, &mut Unwatched)
}

pub(super) fn find_watched<'a>(
    snapshot: &Snapshot,
    head: &RequestHead<'a>,
    watcher: &mut impl Watcher,
) -> Result<Way<'a>, Reject> {
    let mut buffer = HOST_BUFFER;
    let host = host::canonical(head.host, &mut buffer).map_err(|host::BadHost| {
        watcher.note(|| format!("the host {:?} is malformed", head.host));
        Reject::BadHost
    })?;
    let path = RequestPath::parse(head.path).map_err(|crate::path::BadPath| {
        watcher.note(|| format!("the path {:?} cannot be routed safely", head.path));
        Reject::BadPath
    })?;
    let Some(offer) = snapshot.offer(head.listener) else { return by_route(snapshot, head, host, path, watcher) };
    let asked = preview::asked(snapshot, offer, host, head.headers).map_err(|preview::Nothing| {
        watcher.note(|| format!("there is no such preview: host {host}, header {}", preview::BRACKET_HEADER));
        Reject::NoRoute
    })?;
    let named = match asked.and_then(|asked| asked.service) {
        Some(service) => {
            watcher.named(service, || format!("the host {host} names a service in a preview"));
            Some(Way { service, route: None, path: path.clone(), strip: 0, aim: Aim::Service })
        }
        None => named_by_path(snapshot, offer, head, &path, watcher),
    };
    let mut way = match named {
        Some(way) => way,
        None => by_route(snapshot, head, host, path, watcher)?,
    };
    if let Some(asked) = asked {
        way.aim = aim_at(snapshot, asked, &way, watcher)?;
    }
    Ok(way)
}

/// Who chooses the target of a request for a preview: for a service that is under test, its new version or nobody.
fn aim_at(snapshot: &Snapshot, asked: Asked<'_>, way: &Way<'_>, watcher: &mut impl Watcher) -> Result<Aim, Reject> {
    let service = snapshot.service(way.service).ok_or(Reject::NoRoute)?;
    let Some(part) = asked.preview.members.get(&service.id) else {
        watcher.note(|| format!("service {} is not under test in preview {}", service.id, asked.label));
        return Ok(way.aim);
    };
    let found = part.targets.iter().find_map(|target| {
        let at = service.target_named(target.as_str())?;
        let ready = match part.place {
            Place::Beside => true,
            Place::InPlace => service.target(at)?.held,
        };
        ready.then_some(at)
    });
    let Some(target) = found else {
        watcher.note(|| format!("the new version of service {} in preview {} is not there", service.id, asked.label));
        return Err(Reject::NoTarget);
    };
    watcher.note(|| format!("preview {} is of target {}: no other answers", asked.label, name(service, target)));
    Ok(Aim::Only(target, Reason::Preview))
}

fn by_route<'a>(
    snapshot: &Snapshot,
    head: &RequestHead<'a>,
    host: &str,
    path: RequestPath<'a>,
    watcher: &mut impl Watcher,
) -> Result<Way<'a>, Reject> {
    let Some(found) = snapshot.router.find(head.listener, host, &path) else {
        watcher.note(|| format!("no service has a route for host {host} and path {}", path.canonical()));
        return Err(Reject::NoRoute);
    };
    watcher.found(found);
    let Found { service, route, strip } = found;
    let strip = path.strip(strip.into());
    Ok(Way { service, route: Some(route), path, strip, aim: Aim::Service })
}

/// The way of a path such as `/services/web/..` or `/services/web_v2/..`. A name that nobody has leaves the request to
/// the routes.
fn named_by_path<'a>(
    snapshot: &Snapshot,
    offer: &ListenerOffer,
    head: &RequestHead<'a>,
    path: &RequestPath<'_>,
    watcher: &mut impl Watcher,
) -> Option<Way<'a>> {
    if !offer.service_paths {
        return None;
    }
    let segment = path.canonical().strip_prefix(SERVICES)?.split('/').next()?;
    let (at, service, target) = named(snapshot, head.listener, segment)?;
    let strip = path.strip(NAMING_SEGMENTS);
    let rest = RequestPath::parse(head.path.get(strip..)?).ok()?;
    watcher.named(at, || match target {
        None => format!("the path names service {}", service.id),
        Some(target) => format!("the path names target {} of service {}", name(service, target), service.id),
    });
    let aim = target.map_or(Aim::Service, |target| Aim::Only(target, Reason::Path));
    Some(Way { service: at, route: None, path: rest, strip, aim })
}

/// The service, or the service and its target, that a text names. Both names may hold the `_` that parts them: whole
/// names are looked up, those with the longest service first, and nothing is guessed.
fn named<'s>(
    snapshot: &'s Snapshot,
    listener: ListenerIdx,
    text: &str,
) -> Option<(ServiceIdx, &'s Service, Option<TargetIdx>)> {
    if text.len() > 2 * MAX_NAME + 1 {
        return None;
    }
    if let Some((at, service)) = carried(snapshot, listener, text) {
        return Some((at, service, None));
    }
    text.rmatch_indices('_').find_map(|(border, _)| {
        let (at, service) = carried(snapshot, listener, text.get(..border)?)?;
        Some((at, service, Some(service.target_named(text.get(border + 1..)?)?)))
    })
}

/// The service of this name, if the listener carries it.
fn carried<'s>(snapshot: &'s Snapshot, listener: ListenerIdx, name: &str) -> Option<(ServiceIdx, &'s Service)> {
    let at = snapshot.services.binary_search_by(|service| service.id.as_str().cmp(name)).ok()?;
    let service = snapshot.services.get(at)?;
    let id = snapshot.state.listeners.get(listener.get())?;
    let carries = service.spec.listeners.as_ref().is_none_or(|only| only.contains(id));
    carries.then_some((ServiceIdx(u32::try_from(at).ok()?), service))
}

#[cfg(test)]
mod tests;
