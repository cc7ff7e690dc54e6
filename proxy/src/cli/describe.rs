//! What happened, in one line for people.

use tidegate_admin::dto::{EventKind, Weights, event::HealthView};

use crate::cli::output::{Ink, printable};

/// An event in words.
pub(crate) fn describe(event: &EventKind) -> (Ink, String) {
    use EventKind as E;
    let (ink, text) = match event {
        E::Switched { service, from, to } => (Ink::Strong, format!("{service}: switched from {from} to {to}")),
        E::SplitChanged { service, from, to } => {
            (Ink::Strong, format!("{service}: split {} (was {})", weights(to), weights(from)))
        }
        E::HoldChanged { service, hold: true } => (Ink::Warn, format!("{service}: requests wait")),
        E::HoldChanged { service, hold: false } => (Ink::Good, format!("{service}: requests go on")),
        E::FailedOver { service, from, to, cause: _, reason } => {
            (Ink::Bad, format!("{service}: failed over from {from} to {to}: {reason}"))
        }
        E::FailingBack { service, share } => (Ink::Warn, format!("{service}: failing back, {} % still moved", share.0)),
        E::Restored { service, to, reason } => (Ink::Good, format!("{service}: restored to {to}: {reason}")),
        E::HealthChanged { service, target, endpoint, from, to, reason } => {
            let (from, to, ink) = (health(*from).0, health(*to).0, health(*to).1);
            (ink, format!("{service}: {target} {endpoint} is {to} (was {from}): {reason}"))
        }
        E::TargetHealthy { service, target } => (Ink::Good, format!("{service}: target {target} is healthy")),
        E::TargetUnhealthy { service, target, reason } => {
            (Ink::Bad, format!("{service}: target {target} is unhealthy: {reason}"))
        }
        E::TargetChanged { service, target } => (Ink::Plain, format!("{service}: target {target} set")),
        E::TargetRemoved { service, target } => (Ink::Plain, format!("{service}: target {target} removed")),
        E::TargetDrained { service, target } => (Ink::Plain, format!("{service}: target {target} drains")),
        E::MirrorChanged { service, mirror } => (Ink::Plain, format!("{service}: mirror {mirror} set")),
        E::MirrorRemoved { service, mirror } => (Ink::Plain, format!("{service}: mirror {mirror} removed")),
        E::FlagChanged { flag, from, to, source, reason } => {
            let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "no value".to_owned());
            (Ink::Strong, format!("flag {flag} is {} (was {}) in {source}: {reason}", or_none(to), or_none(from)))
        }
        E::MoreFlagsChanged { count } => (Ink::Strong, format!("{count} more flags changed")),
        E::FlagInvalid { flag, source, reason } => {
            (Ink::Bad, format!("flag {flag} keeps its value, because what {source} has cannot be used: {reason}"))
        }
        E::FlagOverridden { flag, value, until_unix_ms: _ } => {
            (Ink::Warn, format!("flag {flag} is overridden: {value}"))
        }
        E::FlagOverrideEnded { flag, reason } => {
            (Ink::Warn, format!("flag {flag} is not overridden any more: {reason}"))
        }
        E::SourceUp { source } => (Ink::Good, format!("flag source {source} can be read")),
        E::SourceDown { source, reason } => {
            (Ink::Bad, format!("flag source {source} cannot be read, flags keep their values: {reason}"))
        }
        E::SourceEmptied { source } => (
            Ink::Bad,
            format!("flag source {source} was emptied, flags keep their values until it is restored or accepted"),
        ),
        E::FailoverPreparing { service, from, to, reason } => {
            (Ink::Warn, format!("{service}: failover from {from} to {to} is being prepared: {reason}"))
        }
        E::FailoverHeld { service, from, to, reason } => {
            (Ink::Bad, format!("{service}: stays on {from} and does not move to {to}: {reason}"))
        }
        E::FailoverCalledOff { service, reason } => (Ink::Good, format!("{service}: failover called off: {reason}")),
        E::FailoverHook { service, hook, failure: None } => {
            (Ink::Good, format!("{service}: the command {hook} the failover succeeded"))
        }
        E::FailoverHook { service, hook, failure: Some(failure) } => {
            (Ink::Bad, format!("{service}: the command {hook} the failover failed: {failure}"))
        }
        E::SinkLost { sink, count } => {
            (Ink::Bad, format!("event sink {sink} was away for too long: {count} events for it were dropped"))
        }
        E::WatchProblem { stack: Some(stack), reason } => {
            (Ink::Bad, format!("stack {stack} is not deployed: {reason}"))
        }
        E::WatchProblem { stack: None, reason } => (Ink::Bad, format!("the stacks are not watched: {reason}")),
        E::Deployment { deployment, services, happened, message, strategy: _ } => {
            let ink = match happened.as_str() {
                "step-failed" | "undo-failed" | "rollback-started" | "version-bad" | "promotion-failed" => Ink::Bad,
                "paused" | "step-skipped" | "recovered" => Ink::Warn,
                "won" | "promoted" => Ink::Good,
                "finished" if message == "succeeded" => Ink::Good,
                "finished" => Ink::Bad,
                "step-started" | "step-finished" | "undone" | "hook-finished" => Ink::Plain,
                _ => Ink::Strong,
            };
            (ink, format!("{}: deployment {deployment}: {message}", services.join(" ")))
        }
        E::Reloaded { services, differences } => {
            (Ink::Plain, with_list(format!("configuration loaded, {services} services"), differences))
        }
        E::ReloadRejected { problems } => {
            (Ink::Bad, with_list("configuration refused, nothing changed".to_owned(), problems))
        }
        E::Unsaved { reason } => {
            (Ink::Bad, format!("the state could not be saved and holds until a restart: {reason}"))
        }
    };
    (ink, printable(&text))
}

fn with_list(text: String, list: &[String]) -> String {
    if list.is_empty() { text } else { format!("{text}; {}", list.join("; ")) }
}

fn weights(weights: &Weights) -> String {
    weights.iter().map(|(target, percent)| format!("{target}={}", percent.0)).collect::<Vec<_>>().join(" ")
}

/// A health in a word and a colour.
pub(super) fn health(health: HealthView) -> (&'static str, Ink) {
    match health {
        HealthView::Unknown => ("unknown", Ink::Dim),
        HealthView::Healthy => ("healthy", Ink::Good),
        HealthView::Suspect => ("suspect", Ink::Warn),
        HealthView::Unhealthy => ("unhealthy", Ink::Bad),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(event: serde_json::Value, ink: Ink, text: &str) {
        let event = serde_json::from_value(event).unwrap();
        assert_eq!(describe(&event), (ink, text.to_owned()));
    }

    #[test]
    fn events_are_told_in_words() {
        check(
            json!({"type": "traffic.switched", "service": "web", "from": "green", "to": "blue"}),
            Ink::Strong,
            "web: switched from green to blue",
        );
        check(
            json!({"type": "traffic.changed", "service": "web", "from": {"green": 100}, "to": {"green": 99.5, "blue": 0.5}}),
            Ink::Strong,
            "web: split blue=0.5 green=99.5 (was green=100)",
        );
        check(
            json!({"type": "endpoint.health", "service": "web", "target": "green", "endpoint": "127.0.0.1:1",
                "from": "healthy", "to": "unhealthy", "reason": "connection refused"}),
            Ink::Bad,
            "web: green 127.0.0.1:1 is unhealthy (was healthy): connection refused",
        );
        check(
            json!({"type": "config.rejected", "problems": ["a: b", "c: d"]}),
            Ink::Bad,
            "configuration refused, nothing changed; a: b; c: d",
        );
    }
}
