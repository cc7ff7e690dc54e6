//! What happened, as log lines: one line per event, with the same field names everywhere.

use tidegate_admin::{EventLog, Recorded};
use tidegate_config::Split;
use tidegate_core::{Event, Health, Hold, deploy::history::HappenedKind};
use tracing::{error, info, warn};

use crate::routing::Routing;

/// Tells, here and in the log, what changed nothing: it belongs to the generation in force.
pub(crate) fn announce(events: &EventLog, routing: &Routing, actor: &str, event: Event) -> Recorded {
    let (at_unix_ms, generation) = (routing.now().unix_ms, routing.load().generation);
    let recorded = events.push(at_unix_ms, generation, actor, event);
    log(&recorded);
    recorded
}

/// Logs an event.
pub(crate) fn log(recorded: &Recorded) {
    let (generation, actor) = (recorded.generation.0, recorded.actor.as_str());
    match &recorded.event {
        Event::Switched { service, from, to } => {
            info!(%service, generation, actor, %from, %to, "stable target switched");
        }
        Event::SplitChanged { service, from, to } => {
            info!(%service, generation, actor, from = weights(from), to = weights(to), "split changed");
        }
        Event::HoldChanged { service, hold: Hold::On } => info!(%service, generation, actor, "requests wait"),
        Event::HoldChanged { service, hold: Hold::Off } => info!(%service, generation, actor, "requests go on"),
        Event::FailedOver { service, from, to, reason, .. } => {
            warn!(%service, generation, actor, %from, %to, reason, "failover began");
        }
        Event::FailingBack { service, share } => {
            info!(%service, generation, actor, %share, "failover gives traffic back");
        }
        Event::Restored { service, to, reason } => {
            info!(%service, generation, actor, %to, reason, "failover ended");
        }
        Event::HealthChanged { service, target, endpoint, from, to, reason } => match to {
            Health::Suspect | Health::Unhealthy => {
                warn!(%service, %target, %endpoint, generation, ?from, ?to, reason, "endpoint health changed");
            }
            Health::Unknown | Health::Healthy => {
                info!(%service, %target, %endpoint, generation, ?from, ?to, reason, "endpoint health changed");
            }
        },
        Event::TargetHealthy { service, target } => info!(%service, %target, generation, "target can be used"),
        Event::TargetUnhealthy { service, target, reason } => {
            warn!(%service, %target, generation, reason, "target cannot be used");
        }
        Event::TargetChanged { service, target } => info!(%service, %target, generation, actor, "target changed"),
        Event::TargetRemoved { service, target } => info!(%service, %target, generation, actor, "target removed"),
        Event::TargetDrained { service, target } => info!(%service, %target, generation, actor, "target drained"),
        Event::MirrorChanged { service, mirror } => info!(%service, %mirror, generation, actor, "mirror changed"),
        Event::MirrorRemoved { service, mirror } => info!(%service, %mirror, generation, actor, "mirror removed"),
        Event::FlagChanged { flag, from, to, source, reason } => {
            info!(%flag, generation, actor, ?from, ?to, source, reason, "flag changed");
        }
        Event::MoreFlagsChanged { count } => info!(count, generation, actor, "more flags changed"),
        Event::FlagInvalid { flag, source, reason } => {
            warn!(%flag, generation, actor, source, reason, "value of a flag cannot be used: the one before stays");
        }
        Event::FlagOverridden { flag, value, until_unix_ms } => {
            warn!(%flag, generation, actor, value, until_unix_ms, "flag overridden");
        }
        Event::FlagOverrideEnded { flag, reason } => {
            warn!(%flag, generation, actor, reason, "override of a flag ended");
        }
        Event::SourceUp { source } => info!(%source, generation, actor, "flag source can be read"),
        Event::SourceDown { source, reason } => {
            warn!(%source, generation, actor, reason, "flag source cannot be read: flags keep their values");
        }
        Event::SourceEmptied { source } => {
            error!(%source, generation, actor, "flag source was emptied: flags keep their values until it is restored or accepted");
        }
        Event::FailoverPreparing { service, from, to, reason } => {
            warn!(%service, generation, actor, %from, %to, reason, "failover is being prepared");
        }
        Event::FailoverHeld { service, from, to, reason } => {
            error!(%service, generation, actor, %from, %to, reason, "failover held: the service stays where it is");
        }
        Event::FailoverCalledOff { service, reason } => {
            info!(%service, generation, actor, reason, "failover called off");
        }
        Event::FailoverHook { service, hook, failure: None } => {
            info!(%service, generation, actor, hook = hook.name(), "command of a failover succeeded");
        }
        Event::FailoverHook { service, hook, failure: Some(failure) } => {
            error!(%service, generation, actor, hook = hook.name(), failure, "command of a failover failed");
        }
        Event::SinkLost { sink, count } => {
            error!(%sink, count, generation, actor, "event sink was away for too long: its oldest events were dropped");
        }
        Event::WatchProblem { stack, reason } => {
            warn!(stack, generation, actor, reason, "watched stacks have a problem");
        }
        Event::Deployment { deployment, services, strategy, happened, message } => {
            let services = services.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            match happened {
                HappenedKind::StepFailed
                | HappenedKind::RollbackStarted
                | HappenedKind::VersionBad
                | HappenedKind::PromotionFailed
                | HappenedKind::Paused => {
                    warn!(%deployment, services, generation, actor, strategy, happened = happened.word(), message, "deployment");
                }
                HappenedKind::UndoFailed => {
                    error!(%deployment, services, generation, actor, strategy, happened = happened.word(), message, "deployment");
                }
                HappenedKind::Created
                | HappenedKind::Executed
                | HappenedKind::StepStarted
                | HappenedKind::StepFinished
                | HappenedKind::StepSkipped
                | HappenedKind::HookFinished
                | HappenedKind::Verdict
                | HappenedKind::Won
                | HappenedKind::Resumed
                | HappenedKind::Undone
                | HappenedKind::Recovered
                | HappenedKind::Promoted
                | HappenedKind::Finished => {
                    info!(%deployment, services, generation, actor, strategy, happened = happened.word(), message, "deployment");
                }
            }
        }
        Event::Reloaded { services, differences } => {
            info!(services, generation, actor, "configuration loaded");
            for difference in differences {
                warn!(generation, difference, "about the configuration");
            }
        }
        Event::ReloadRejected { problems } => {
            error!(generation, actor, problems = problems.len(), "configuration rejected: everything stays as it was");
            for problem in problems {
                error!(problem, "configuration problem");
            }
        }
        Event::Unsaved { reason } => {
            error!(generation, actor, reason, "the state is not saved: a restart would undo the last changes");
        }
    }
}

fn weights(split: &Split) -> String {
    split.iter().map(|(target, weight)| format!("{target}={}", weight.percent())).collect::<Vec<_>>().join(" ")
}
