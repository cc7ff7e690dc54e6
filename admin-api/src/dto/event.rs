//! Events as the API tells them: numbered and timed, shares in percent.

use serde::{Deserialize, Serialize};
use tidegate_core::{Event, Health, Hold, state::Cause};
use utoipa::ToSchema;

use crate::{
    dto::{
        percent::{Percent, Weights, weights},
        time::rfc3339,
    },
    events::Recorded,
    process::AuditEntry,
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub enum EventKind {
    /// Another target is stable and carries everything.
    #[serde(rename = "traffic.switched")]
    Switched {
        /// The service.
        service: String,
        /// The stable target before.
        from: String,
        /// The stable target now.
        to: String,
    },
    /// The weights changed.
    #[serde(rename = "traffic.changed")]
    SplitChanged {
        /// The service.
        service: String,
        /// The weights before, in percent.
        from: Weights,
        /// The weights now, in percent.
        to: Weights,
    },
    /// A service began to keep its requests waiting, or ended it.
    #[serde(rename = "traffic.hold")]
    HoldChanged {
        /// The service.
        service: String,
        /// Whether they wait now.
        hold: bool,
    },
    /// A failover began.
    #[serde(rename = "traffic.failover")]
    FailedOver {
        /// The service.
        service: String,
        /// The target that was left.
        from: String,
        /// The target that carries the service.
        to: String,
        /// Who moved it.
        cause: CauseView,
        /// Why.
        reason: String,
    },
    /// An automatic failback gives traffic back.
    #[serde(rename = "traffic.failback")]
    FailingBack {
        /// The service.
        service: String,
        /// The share that is still moved, in percent.
        share: Percent,
    },
    /// A failover ended.
    #[serde(rename = "traffic.restored")]
    Restored {
        /// The service.
        service: String,
        /// The target that carries the service again.
        to: String,
        /// Why.
        reason: String,
    },
    /// An endpoint's health changed.
    #[serde(rename = "endpoint.health")]
    HealthChanged {
        /// The service.
        service: String,
        /// Its target.
        target: String,
        /// The endpoint.
        endpoint: String,
        /// What it was.
        from: HealthView,
        /// What it is.
        to: HealthView,
        /// Why.
        reason: String,
    },
    /// A target can be used again, or for the first time since the start.
    #[serde(rename = "target.healthy")]
    TargetHealthy {
        /// The service.
        service: String,
        /// The target.
        target: String,
    },
    /// No endpoint of a target can be used any more.
    #[serde(rename = "target.unhealthy")]
    TargetUnhealthy {
        /// The service.
        service: String,
        /// The target.
        target: String,
        /// Why.
        reason: String,
    },
    /// A target was added or its endpoints changed.
    #[serde(rename = "target.changed")]
    TargetChanged {
        /// The service.
        service: String,
        /// The target.
        target: String,
    },
    /// A target was removed; what runs on it may finish.
    #[serde(rename = "target.removed")]
    TargetRemoved {
        /// The service.
        service: String,
        /// The target.
        target: String,
    },
    /// A target takes no new requests.
    #[serde(rename = "target.drained")]
    TargetDrained {
        /// The service.
        service: String,
        /// The target.
        target: String,
    },
    /// A mirror was set.
    #[serde(rename = "mirror.changed")]
    MirrorChanged {
        /// The service.
        service: String,
        /// The mirror.
        mirror: String,
    },
    /// A mirror was removed.
    #[serde(rename = "mirror.removed")]
    MirrorRemoved {
        /// The service.
        service: String,
        /// The mirror.
        mirror: String,
    },
    /// The value of a flag that counts changed.
    #[serde(rename = "flag.changed")]
    FlagChanged {
        /// The flag.
        flag: String,
        /// The value before, as it was written; null: it had none.
        from: Option<String>,
        /// The value now.
        to: Option<String>,
        /// Where it is read.
        source: String,
        /// Why.
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
        flag: String,
        /// Where it was read.
        source: String,
        /// Why.
        reason: String,
    },
    /// A flag has a value that wins over its source for a while.
    #[serde(rename = "flag.override")]
    FlagOverridden {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
        /// Its end, in milliseconds since the Unix epoch.
        until_unix_ms: u64,
    },
    /// An override of a flag ended.
    #[serde(rename = "flag.override_ended")]
    FlagOverrideEnded {
        /// The flag.
        flag: String,
        /// Why.
        reason: String,
    },
    /// A flag source can be read.
    #[serde(rename = "source.up")]
    SourceUp {
        /// The source.
        source: String,
    },
    /// A flag source cannot be read; flags keep their values.
    #[serde(rename = "source.down")]
    SourceDown {
        /// The source.
        source: String,
        /// Why.
        reason: String,
    },
    /// A flag source was emptied; flags keep their values until it is restored, or accepted as it is.
    #[serde(rename = "source.emptied")]
    SourceEmptied {
        /// The source.
        source: String,
    },
    /// A service must be moved off a target, and a command prepares it first.
    #[serde(rename = "failover.preparing")]
    FailoverPreparing {
        /// Where.
        service: String,
        /// The target that is to be left.
        from: String,
        /// The target that is to carry the service.
        to: String,
        /// Why, for people.
        reason: String,
    },
    /// A service stays on a target that is down, because what had to be done first was not.
    #[serde(rename = "failover.held")]
    FailoverHeld {
        /// Where.
        service: String,
        /// The target that is down.
        from: String,
        /// The target that would carry the service.
        to: String,
        /// Why, for people.
        reason: String,
    },
    /// A failover that was prepared is not necessary any more.
    #[serde(rename = "failover.called_off")]
    FailoverCalledOff {
        /// Where.
        service: String,
        /// Why, for people.
        reason: String,
    },
    /// A command around a failover has ended.
    #[serde(rename = "failover.hook")]
    FailoverHook {
        /// Where.
        service: String,
        /// Which one: `before` or `after`.
        hook: String,
        /// Why it failed; absent: it succeeded.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// An event sink was away for too long: the oldest events for it were dropped.
    #[serde(rename = "sink.lost")]
    SinkLost {
        /// The sink.
        sink: String,
        /// How many since the last time.
        count: u64,
    },
    /// A watched stack cannot be deployed as it is, or the stacks could not be looked at.
    #[serde(rename = "watch.problem")]
    WatchProblem {
        /// The stack; absent: all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stack: Option<String>,
        /// Why, for people.
        reason: String,
    },
    /// Something happened in a deployment; its circumstances are in its own list of events.
    #[serde(rename = "deployment.progress")]
    Deployment {
        /// The deployment.
        deployment: String,
        /// Its services.
        services: Vec<String>,
        /// Its strategy.
        strategy: String,
        /// What happened: `created`, `executed`, `step-started`, `step-finished`, `step-skipped`, `step-failed`,
        /// `hook-finished`, `verdict`, `won`, `paused`, `resumed`, `rollback-started`, `undone`, `undo-failed`,
        /// `version-bad`, `recovered`, `promoted`, `promotion-failed` or `finished`.
        happened: String,
        /// The same for people.
        message: String,
    },
    /// The file was loaded again.
    #[serde(rename = "config.reloaded")]
    Reloaded {
        /// Services that the file now declares.
        services: usize,
        /// Fields whose saved value was kept or overruled.
        differences: Vec<String>,
    },
    /// The file could not be loaded; everything stays as it was.
    #[serde(rename = "config.rejected")]
    ReloadRejected {
        /// Why, one line per problem.
        problems: Vec<String>,
    },
    /// An emergency move could not be saved and holds only until a restart.
    #[serde(rename = "state.unsaved")]
    Unsaved {
        /// Why.
        reason: String,
    },
}

impl EventKind {
    /// The value of `type`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Switched { .. } => "traffic.switched",
            Self::SplitChanged { .. } => "traffic.changed",
            Self::HoldChanged { .. } => "traffic.hold",
            Self::FailedOver { .. } => "traffic.failover",
            Self::FailingBack { .. } => "traffic.failback",
            Self::Restored { .. } => "traffic.restored",
            Self::HealthChanged { .. } => "endpoint.health",
            Self::TargetHealthy { .. } => "target.healthy",
            Self::TargetUnhealthy { .. } => "target.unhealthy",
            Self::TargetChanged { .. } => "target.changed",
            Self::TargetRemoved { .. } => "target.removed",
            Self::TargetDrained { .. } => "target.drained",
            Self::MirrorChanged { .. } => "mirror.changed",
            Self::MirrorRemoved { .. } => "mirror.removed",
            Self::FlagChanged { .. } => "flag.changed",
            Self::MoreFlagsChanged { .. } => "flag.more",
            Self::FlagInvalid { .. } => "flag.invalid",
            Self::FlagOverridden { .. } => "flag.override",
            Self::FlagOverrideEnded { .. } => "flag.override_ended",
            Self::SourceUp { .. } => "source.up",
            Self::SourceDown { .. } => "source.down",
            Self::SourceEmptied { .. } => "source.emptied",
            Self::FailoverPreparing { .. } => "failover.preparing",
            Self::FailoverHeld { .. } => "failover.held",
            Self::FailoverCalledOff { .. } => "failover.called_off",
            Self::FailoverHook { .. } => "failover.hook",
            Self::SinkLost { .. } => "sink.lost",
            Self::WatchProblem { .. } => "watch.problem",
            Self::Deployment { .. } => "deployment.progress",
            Self::Reloaded { .. } => "config.reloaded",
            Self::ReloadRejected { .. } => "config.rejected",
            Self::Unsaved { .. } => "state.unsaved",
        }
    }
}

impl From<&Event> for EventKind {
    fn from(event: &Event) -> Self {
        match event {
            Event::Switched { service, from, to } => {
                Self::Switched { service: service.to_string(), from: from.to_string(), to: to.to_string() }
            }
            Event::SplitChanged { service, from, to } => {
                Self::SplitChanged { service: service.to_string(), from: weights(from), to: weights(to) }
            }
            Event::HoldChanged { service, hold } => {
                Self::HoldChanged { service: service.to_string(), hold: *hold == Hold::On }
            }
            Event::FailedOver { service, from, to, cause, reason } => Self::FailedOver {
                service: service.to_string(),
                from: from.to_string(),
                to: to.to_string(),
                cause: (*cause).into(),
                reason: reason.clone(),
            },
            Event::FailingBack { service, share } => {
                Self::FailingBack { service: service.to_string(), share: (*share).into() }
            }
            Event::Restored { service, to, reason } => {
                Self::Restored { service: service.to_string(), to: to.to_string(), reason: reason.clone() }
            }
            Event::HealthChanged { service, target, endpoint, from, to, reason } => Self::HealthChanged {
                service: service.to_string(),
                target: target.to_string(),
                endpoint: endpoint.to_string(),
                from: (*from).into(),
                to: (*to).into(),
                reason: reason.clone(),
            },
            Event::TargetHealthy { service, target } => {
                Self::TargetHealthy { service: service.to_string(), target: target.to_string() }
            }
            Event::TargetUnhealthy { service, target, reason } => Self::TargetUnhealthy {
                service: service.to_string(),
                target: target.to_string(),
                reason: reason.clone(),
            },
            Event::TargetChanged { service, target } => {
                Self::TargetChanged { service: service.to_string(), target: target.to_string() }
            }
            Event::TargetRemoved { service, target } => {
                Self::TargetRemoved { service: service.to_string(), target: target.to_string() }
            }
            Event::TargetDrained { service, target } => {
                Self::TargetDrained { service: service.to_string(), target: target.to_string() }
            }
            Event::MirrorChanged { service, mirror } => {
                Self::MirrorChanged { service: service.to_string(), mirror: mirror.to_string() }
            }
            Event::MirrorRemoved { service, mirror } => {
                Self::MirrorRemoved { service: service.to_string(), mirror: mirror.to_string() }
            }
            Event::FlagChanged { flag, from, to, source, reason } => Self::FlagChanged {
                flag: flag.to_string(),
                from: from.clone(),
                to: to.clone(),
                source: source.clone(),
                reason: reason.clone(),
            },
            Event::MoreFlagsChanged { count } => Self::MoreFlagsChanged { count: *count },
            Event::FlagInvalid { flag, source, reason } => {
                Self::FlagInvalid { flag: flag.to_string(), source: source.clone(), reason: reason.clone() }
            }
            Event::FlagOverridden { flag, value, until_unix_ms } => {
                Self::FlagOverridden { flag: flag.to_string(), value: value.clone(), until_unix_ms: *until_unix_ms }
            }
            Event::FlagOverrideEnded { flag, reason } => {
                Self::FlagOverrideEnded { flag: flag.to_string(), reason: reason.clone() }
            }
            Event::SourceUp { source } => Self::SourceUp { source: source.to_string() },
            Event::SourceDown { source, reason } => {
                Self::SourceDown { source: source.to_string(), reason: reason.clone() }
            }
            Event::SourceEmptied { source } => Self::SourceEmptied { source: source.to_string() },
            Event::FailoverPreparing { service, from, to, reason } => Self::FailoverPreparing {
                service: service.to_string(),
                from: from.to_string(),
                to: to.to_string(),
                reason: reason.clone(),
            },
            Event::FailoverHeld { service, from, to, reason } => Self::FailoverHeld {
                service: service.to_string(),
                from: from.to_string(),
                to: to.to_string(),
                reason: reason.clone(),
            },
            Event::FailoverCalledOff { service, reason } => {
                Self::FailoverCalledOff { service: service.to_string(), reason: reason.clone() }
            }
            Event::FailoverHook { service, hook, failure } => Self::FailoverHook {
                service: service.to_string(),
                hook: hook.name().to_owned(),
                failure: failure.clone(),
            },
            Event::SinkLost { sink, count } => Self::SinkLost { sink: sink.to_string(), count: *count },
            Event::WatchProblem { stack, reason } => {
                Self::WatchProblem { stack: stack.clone(), reason: reason.clone() }
            }
            Event::Deployment { deployment, services, strategy, happened, message } => Self::Deployment {
                deployment: deployment.to_string(),
                services: services.iter().map(ToString::to_string).collect(),
                strategy: strategy.clone(),
                happened: happened.word().to_owned(),
                message: message.clone(),
            },
            Event::Reloaded { services, differences } => {
                Self::Reloaded { services: *services, differences: differences.clone() }
            }
            Event::ReloadRejected { problems } => Self::ReloadRejected { problems: problems.clone() },
            Event::Unsaved { reason } => Self::Unsaved { reason: reason.clone() },
        }
    }
}

/// Who began a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CauseView {
    /// The health checks.
    Health,
    /// An operator.
    Operator,
}

/// What is known of an endpoint: `unknown` has no verdict yet and is not used, `suspect` is used when nothing else is
/// there and is probed at once, `unhealthy` is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthView {
    /// No verdict yet: not used.
    Unknown,
    /// Used.
    Healthy,
    /// Used when nothing else is there, and probed at once.
    Suspect,
    /// Not used.
    Unhealthy,
}

/// An event in its order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "seq": 1793697300250001_u64, "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 1793697300250_u64, "generation": 8,
    "actor": "ci", "type": "traffic.switched", "service": "web", "from": "green", "to": "blue"
}))]
pub struct Numbered {
    /// Its number: `after` and `Last-Event-ID` take it. Numbers grow, also over a restart.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The generation that it brought about, or happened in.
    pub generation: u64,
    /// Who caused it: a token's name, `anonymous`, or a part of the process such as `health`.
    pub actor: String,
    /// What happened.
    #[serde(flatten)]
    pub event: EventKind,
}

/// A line of the event list: an event, or the mark that events before the next line are no longer kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum EventLine {
    /// Events are missing here: read the state again.
    Gap(Gap),
    /// An event.
    Event(Box<Numbered>),
}

/// Marks that events between two numbers are not kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "type": "gap", "after": 5, "resumes_after": 1793697300250000_u64 }))]
pub struct Gap {
    /// Always `gap`.
    #[serde(rename = "type")]
    pub kind: GapType,
    /// The number that was asked for.
    pub after: u64,
    /// The number after which events are kept.
    pub resumes_after: u64,
}

/// The `type` of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GapType {
    /// Events are missing here.
    Gap,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 1793697300250_u64, "actor": "ci", "from": 7, "generation": 8,
    "events": [{ "type": "traffic.switched", "service": "web", "from": "green", "to": "blue" }]
}))]
pub struct AuditLine {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Who: a token's name, `anonymous`, or a part of the process such as `health`.
    pub actor: String,
    /// From which generation.
    pub from: u64,
    /// To which.
    pub generation: u64,
    /// What.
    pub events: Vec<EventKind>,
}

impl From<Cause> for CauseView {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Health => Self::Health,
            Cause::Operator => Self::Operator,
        }
    }
}

impl From<Health> for HealthView {
    fn from(health: Health) -> Self {
        match health {
            Health::Unknown => Self::Unknown,
            Health::Healthy => Self::Healthy,
            Health::Suspect => Self::Suspect,
            Health::Unhealthy => Self::Unhealthy,
        }
    }
}

impl From<&Recorded> for Numbered {
    fn from(recorded: &Recorded) -> Self {
        Self {
            seq: recorded.seq,
            at: rfc3339(recorded.at_unix_ms),
            at_unix_ms: recorded.at_unix_ms,
            generation: recorded.generation.0,
            actor: recorded.actor.clone(),
            event: (&recorded.event).into(),
        }
    }
}

impl From<&AuditEntry> for AuditLine {
    fn from(entry: &AuditEntry) -> Self {
        Self {
            at: rfc3339(entry.at_unix_ms),
            at_unix_ms: entry.at_unix_ms,
            actor: entry.actor.clone(),
            from: entry.from.0,
            generation: entry.generation.0,
            events: entry.events.iter().map(EventKind::from).collect(),
        }
    }
}
