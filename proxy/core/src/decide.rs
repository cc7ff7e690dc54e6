//! The decision: which endpoint of which target of which service answers this request.
//!
//! Order: service by host and path, then pin, rules, split; target first, availability second; then one endpoint.

use crate::{
    reject::Reject,
    request::RequestHead,
    snapshot::{EndpointIdx, ServiceIdx, Snapshot, TargetIdx},
    stats::Worker,
};

/// Chance, given from outside.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// The worker, whose low-discrepancy sequence a non-sticky split follows.
    pub worker: Worker,
    /// Random bits: for an endpoint, a new visitor's id, the sampling of a mirror.
    pub random: [u64; 2],
}

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Forward it.
    Forward(Forward),
    /// No endpoint of this service has a verdict yet: wait for the next snapshot, at most `timeouts.connect`, then
    /// decide again; still this plan means [`Reject::NoTarget`].
    Wait(ServiceIdx),
    /// Answer it here.
    Reject(Reject),
}

/// Where a request goes. Indices are of the snapshot that it was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The service.
    pub service: ServiceIdx,
    /// The target that was chosen by pin, rule or split.
    pub chosen: TargetIdx,
    /// The target that it is sent to: another than `chosen` when that has no available endpoint.
    pub target: TargetIdx,
    /// The endpoint.
    pub endpoint: EndpointIdx,
    /// Why this target.
    pub reason: Reason,
    /// Who it was decided for, if the service is sticky.
    pub visitor: Visitor,
    /// Mirrors that copy it: bit n for mirror n (services have at most 32).
    pub mirrors: u32,
    /// Bytes of the path that are taken off before it is forwarded (routes with `strip`).
    pub strip: usize,
}

/// Why a target was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An authorised pin.
    Pin,
    /// The rule at this position.
    Rule(u32),
    /// The split.
    Split,
    /// A failover.
    Failover,
}

/// Who a sticky decision is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visitor {
    /// The service is not sticky.
    None,
    /// The request brought its key.
    Known,
    /// A new visitor, who is to be given this id by cookie (128 random bits).
    New(u128),
}

/// Decides on a request.
pub fn decide(snapshot: &Snapshot, head: &RequestHead<'_>, draw: Draw) -> Plan {
    let _ = (snapshot, head, draw);
    Plan::Reject(Reject::NoRoute)
}
