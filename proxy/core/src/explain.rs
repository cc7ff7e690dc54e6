//! Why a request goes where it goes: the decision itself, watched. Sends nothing, counts nothing, moves no sequence.

use std::sync::atomic::AtomicU32;

use tidegate_config::{EndpointAddress, MirrorId, RouteSpec, ServiceId, TargetId};

use crate::{
    decide::{Draw, Number, Plan, Watcher, decide_watched},
    request::RequestHead,
    route::Found,
    sequence,
    snapshot::{Service, ServiceIdx, Snapshot},
};

/// A decision, and every reason for it.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The service, if a route was found.
    pub service: Option<ServiceId>,
    /// The route; `None` also when the request names its service.
    pub route: Option<RouteSpec>,
    /// Every reason, in the order in which it counted.
    pub steps: Vec<String>,
    /// The number that decided a split or the share of a failover, if one did.
    pub number: Option<Number>,
    /// The target that it is sent to.
    pub target: Option<TargetId>,
    /// The endpoint.
    pub endpoint: Option<EndpointAddress>,
    /// The mirrors that copy it.
    pub mirrors: Vec<MirrorId>,
    /// The decision.
    pub plan: Plan,
}

/// Decides on a request without any effect, and says why.
pub fn explain(snapshot: &Snapshot, head: &RequestHead<'_>, draw: Draw) -> Explanation {
    let mut notes = Notes { snapshot, steps: Vec::new(), service: None, route: None, number: None };
    let plan = decide_watched(snapshot, head, draw, &mut notes);
    let Notes { steps, service, route, number, .. } = notes;
    let service = service.and_then(|service| snapshot.service(service));
    let forward = match &plan {
        Plan::Forward(forward) => Some(forward),
        Plan::Wait { .. } | Plan::Reject(_) => None,
    };
    let target = forward.zip(service).and_then(|(forward, service)| service.target(forward.target));
    let endpoint = forward.zip(target).and_then(|(forward, target)| target.endpoints.get(forward.endpoint.get()));
    let bits = forward.map_or(0, |forward| forward.mirrors);
    let mirrors = service.into_iter().flat_map(|service| &service.mirrors).zip(0..);
    Explanation {
        service: service.map(|service| service.id.clone()),
        route: route.zip(service).and_then(|(route, service)| service.spec.routes.get(route as usize).cloned()),
        steps,
        number,
        target: target.map(|target| target.id.clone()),
        endpoint: endpoint.map(|endpoint| endpoint.address.clone()),
        mirrors: mirrors
            .filter(|(_, at)| bits.checked_shr(*at).unwrap_or(0) & 1 == 1)
            .map(|(mirror, _)| mirror.id.clone())
            .collect(),
        plan,
    }
}

struct Notes<'a> {
    snapshot: &'a Snapshot,
    steps: Vec<String>,
    service: Option<ServiceIdx>,
    route: Option<u32>,
    number: Option<Number>,
}

impl Watcher for Notes<'_> {
    fn note(&mut self, reason: impl FnOnce() -> String) {
        self.steps.push(reason());
    }

    fn number(&mut self, number: Number) {
        self.steps.push(match number {
            Number::Bucket(bucket) => format!("the visitor is in bucket {bucket} of 10000"),
            Number::Sequence(number) => format!("the next number of the sequence is {number} of 10000"),
        });
        self.number = Some(number);
    }

    fn found(&mut self, found: Found) {
        let name =
            |service: &std::sync::Arc<Service>| format!("route {} of service {} matches", found.route, service.id);
        self.steps.extend(self.snapshot.service(found.service).map(name));
        (self.service, self.route) = (Some(found.service), Some(found.route));
    }

    fn named(&mut self, service: ServiceIdx, how: impl FnOnce() -> String) {
        self.steps.push(how());
        self.service = Some(service);
    }

    fn next(&mut self, sequence: &AtomicU32) -> u16 {
        sequence::peek(sequence)
    }
}

#[cfg(test)]
mod tests;
