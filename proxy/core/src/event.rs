//! What happened: one value for the event log, the audit log and the metrics.

use serde::{Deserialize, Serialize};
use tidegate_config::{EndpointAddress, FlagName, MirrorId, ServiceId, SinkId, SourceId, Split, TargetId, Weight};

use crate::{
    deploy::{DeploymentId, history::HappenedKind},
    health::Health,
    state::{Cause, FailoverStage, Hold},
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
    /// A target can be used again, or for the first time since the start.
    #[serde(rename = "target.healthy")]
    TargetHealthy {
        /// Where.
        service: ServiceId,
        /// The target.
        target: TargetId,
    },
    /// No endpoint of a target can be used any more.
    #[serde(rename = "target.unhealthy")]
    TargetUnhealthy {
        /// Where.
        service: ServiceId,
        /// The target.
        target: TargetId,
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
    /// The value of a flag that counts changed.
    #[serde(rename = "flag.changed")]
    FlagChanged {
        /// The flag.
        flag: FlagName,
        /// The value before, as it was written; absent: it had none.
        from: Option<String>,
        /// The value now.
        to: Option<String>,
        /// Where it is read.
        source: String,
        /// Why, for people.
        reason: String,
    },
    /// More flags changed at once than are told one by one.
    #[serde(rename = "flag.more")]
    MoreFlagsChanged {
        /// How many more.
        count: usize,
    },
    /// The value of a flag in its source cannot be used; the one before it stays.
    #[serde(rename = "flag.invalid")]
    FlagInvalid {
        /// The flag.
        flag: FlagName,
        /// Where it was read.
        source: String,
        /// Why.
        reason: String,
    },
    /// A flag has a value that wins over its source for a while.
    #[serde(rename = "flag.override")]
    FlagOverridden {
        /// The flag.
        flag: FlagName,
        /// The value.
        value: String,
        /// Its end, in milliseconds since the Unix epoch.
        until_unix_ms: u64,
    },
    /// An override of a flag ended.
    #[serde(rename = "flag.override_ended")]
    FlagOverrideEnded {
        /// The flag.
        flag: FlagName,
        /// Why, for people.
        reason: String,
    },
    /// A flag source can be read.
    #[serde(rename = "source.up")]
    SourceUp {
        /// The source.
        source: SourceId,
    },
    /// A flag source cannot be read; flags keep their values.
    #[serde(rename = "source.down")]
    SourceDown {
        /// The source.
        source: SourceId,
        /// Why.
        reason: String,
    },
    /// A flag source was emptied; flags keep their values until it is restored, or accepted as it is.
    #[serde(rename = "source.emptied")]
    SourceEmptied {
        /// The source.
        source: SourceId,
    },
    /// A service must be moved off a target, and a command prepares it first.
    #[serde(rename = "failover.preparing")]
    FailoverPreparing {
        /// Where.
        service: ServiceId,
        /// The target that is to be left.
        from: TargetId,
        /// The target that is to carry the service.
        to: TargetId,
        /// Why, for people.
        reason: String,
    },
    /// A service stays on a target that is down, because what had to be done first was not.
    #[serde(rename = "failover.held")]
    FailoverHeld {
        /// Where.
        service: ServiceId,
        /// The target that is down.
        from: TargetId,
        /// The target that would carry the service.
        to: TargetId,
        /// Why, for people.
        reason: String,
    },
    /// A failover that was prepared is not necessary any more.
    #[serde(rename = "failover.called_off")]
    FailoverCalledOff {
        /// Where.
        service: ServiceId,
        /// Why, for people.
        reason: String,
    },
    /// A command around a failover has ended.
    #[serde(rename = "failover.hook")]
    FailoverHook {
        /// Where.
        service: ServiceId,
        /// Which one.
        hook: FailoverStage,
        /// Why it failed; absent: it succeeded.
        failure: Option<String>,
    },
    /// An event sink was away for too long: the oldest events for it were dropped.
    #[serde(rename = "sink.lost")]
    SinkLost {
        /// The sink.
        sink: SinkId,
        /// How many since the last time.
        count: u64,
    },
    /// A watched stack cannot be deployed as it is, or the stacks could not be looked at.
    #[serde(rename = "watch.problem")]
    WatchProblem {
        /// The stack; absent: all of them.
        #[serde(default)]
        stack: Option<String>,
        /// Why, for people.
        reason: String,
    },
    /// Something happened in a deployment; its circumstances are in its own history.
    #[serde(rename = "deployment.progress")]
    Deployment {
        /// The deployment.
        deployment: DeploymentId,
        /// Its services.
        services: Vec<ServiceId>,
        /// Its strategy.
        strategy: String,
        /// What happened.
        happened: HappenedKind,
        /// The same for people.
        message: String,
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

impl Event {
    /// Whether it was only seen: endpoints and targets do it by themselves, and nobody decided it.
    pub fn is_seen(&self) -> bool {
        matches!(self, Self::HealthChanged { .. } | Self::TargetHealthy { .. } | Self::TargetUnhealthy { .. })
    }
}
