//! What happened: one value for the event log, the audit log and the metrics.

use serde::{Deserialize, Serialize};
use tidegate_config::{EndpointAddress, MirrorId, ServiceId, Split, TargetId, Weight};

use crate::{
    health::Health,
    state::{Cause, Hold},
};

/// Something that happened. Its `type` on the wire is `<thing>.<verb>`, as rollout tools name CloudEvents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// Another target is stable and carries everything.
    #[serde(rename = "traffic.switched")]
    Switched {
        /// Where.
        service: ServiceId,
        /// The stable target before.
        from: TargetId,
        /// The stable target now.
        to: TargetId,
    },
    /// The weights changed.
    #[serde(rename = "traffic.changed")]
    SplitChanged {
        /// Where.
        service: ServiceId,
        /// The split before.
        from: Split,
        /// The split now.
        to: Split,
    },
    /// A service began to keep its requests waiting, or ended it.
    #[serde(rename = "traffic.hold")]
    HoldChanged {
        /// Where.
        service: ServiceId,
        /// Whether they wait now.
        hold: Hold,
    },
    /// A failover began.
    #[serde(rename = "traffic.failover")]
    FailedOver {
        /// Where.
        service: ServiceId,
        /// The target that was left.
        from: TargetId,
        /// The target that carries the service.
        to: TargetId,
        /// Who moved it.
        cause: Cause,
        /// Why, for people.
        reason: String,
    },
    /// An automatic failback gives traffic back; `share` of it is still moved.
    #[serde(rename = "traffic.failback")]
    FailingBack {
        /// Where.
        service: ServiceId,
        /// The share that is still moved.
        share: Weight,
    },
    /// A failover ended.
    #[serde(rename = "traffic.restored")]
    Restored {
        /// Where.
        service: ServiceId,
        /// The target that carries the service again.
        to: TargetId,
        /// Why, for people.
        reason: String,
    },
    /// An endpoint's health changed.
    #[serde(rename = "endpoint.health")]
    HealthChanged {
        /// Where.
        service: ServiceId,
        /// Its target.
        target: TargetId,
        /// The endpoint.
        endpoint: EndpointAddress,
        /// What it was.
        from: Health,
        /// What it is.
        to: Health,
        /// Why, for people.
        reason: String,
    },
    /// A target was added or its endpoints changed.
    #[serde(rename = "target.changed")]
    TargetChanged {
        /// Where.
        service: ServiceId,
        /// The target.
        target: TargetId,
    },
    /// A target was removed; what runs on it may finish.
    #[serde(rename = "target.removed")]
    TargetRemoved {
        /// Where.
        service: ServiceId,
        /// The target.
        target: TargetId,
    },
    /// A target takes no new requests.
    #[serde(rename = "target.drained")]
    TargetDrained {
        /// Where.
        service: ServiceId,
        /// The target.
        target: TargetId,
    },
    /// A mirror was set.
    #[serde(rename = "mirror.changed")]
    MirrorChanged {
        /// Where.
        service: ServiceId,
        /// The mirror.
        mirror: MirrorId,
    },
    /// A mirror was removed.
    #[serde(rename = "mirror.removed")]
    MirrorRemoved {
        /// Where.
        service: ServiceId,
        /// The mirror.
        mirror: MirrorId,
    },
    /// The file was loaded again.
    #[serde(rename = "config.reloaded")]
    Reloaded {
        /// Services that the file now declares.
        services: usize,
        /// Fields whose saved value was kept or overruled, for people.
        differences: Vec<String>,
    },
    /// The file could not be loaded; everything stays as it was.
    #[serde(rename = "config.rejected")]
    ReloadRejected {
        /// Why, one line per problem.
        problems: Vec<String>,
    },
    /// An emergency move could not be persisted and holds only until a restart.
    #[serde(rename = "state.unsaved")]
    Unsaved {
        /// Why.
        reason: String,
    },
}
