//! What comes before a failover that has a command to be run first: the command runs, and only then the service moves.
//!
//! Meanwhile no request goes to the other target, which is not ready for it. The preparation always ends: by the
//! command's end, by its deadline, or because it is not needed any more. A command that fails is as one that is not done
//! in time: the policy says whether the service moves all the same or stays, and is prepared again a little later.

use std::time::Duration;

use tidegate_config::{OnTimeout, ServiceId, TargetId};

use super::{Move, Standing, failed_over, full, standing};
use crate::{
    event::Event,
    state::{Cause, FailoverStage, Hold, Moment, Preparation, PreparationStage, ServiceState},
};

/// Time between a failed run and the next while a service is held; doubled after each.
const FIRST_AGAIN: Duration = Duration::from_secs(5);
/// Longest such time: a service is down meanwhile.
const LAST_AGAIN: Duration = Duration::from_secs(60);

/// Begins the preparation of a failover.
pub(super) fn begin(
    id: &ServiceId,
    service: &ServiceState,
    to: &TargetId,
    cause: Cause,
    reason: String,
    now: Moment,
) -> Move {
    let (from, to) = (service.wanted.stable.clone(), to.clone());
    let stage = PreparationStage::Running { begun: now.mono };
    let preparation = Preparation { from, to, cause, reason, since_unix_ms: now.unix_ms, failures: 0, stage };
    let events = vec![preparing(id, &preparation)];
    Move { overlay: service.overlay.clone(), preparation: Some(preparation), events }
}

/// An operator wants a failover that has to be prepared. What is prepared already for the same target becomes theirs.
pub(crate) fn ask(id: &ServiceId, service: &ServiceState, to: &TargetId, now: Moment) -> Option<Move> {
    let reason = "an operator asked for it".to_owned();
    match &service.preparation {
        Some(known) if known.to == *to && matches!(known.stage, PreparationStage::Running { .. }) => {
            let theirs = Preparation { cause: Cause::Operator, reason, ..known.clone() };
            (known.cause != Cause::Operator).then(|| Move {
                overlay: service.overlay.clone(),
                events: vec![preparing(id, &theirs)],
                preparation: Some(theirs),
            })
        }
        _ => Some(begin(id, service, to, Cause::Operator, reason, now)),
    }
}

/// Says what is to become of a preparation; `None`: it goes on.
pub(super) fn go_on(id: &ServiceId, service: &ServiceState, preparation: &Preparation, now: Moment) -> Option<Move> {
    if let Some(reason) = why_not(service, preparation) {
        return Some(called_off(id, service, reason));
    }
    let hooks = service.spec.failover.as_ref().map(|policy| &policy.hooks);
    let Some(hooks) = hooks.filter(|hooks| hooks.before.is_some()) else {
        // The file was edited: there is nothing to wait for any more.
        return Some(moved(id, preparation, Vec::new(), preparation.reason.clone(), now));
    };
    match preparation.stage {
        PreparationStage::Running { begun } if now.mono.saturating_sub(begun) >= hooks.before_timeout => {
            let why = format!("it was not done within {:?}", hooks.before_timeout);
            Some(failed(id, service, preparation, why, now))
        }
        PreparationStage::Held { again } if again <= now.mono => {
            let stage = PreparationStage::Running { begun: now.mono };
            let next = Preparation { stage, ..preparation.clone() };
            let events = vec![preparing(id, &next)];
            Some(Move { overlay: service.overlay.clone(), preparation: Some(next), events })
        }
        PreparationStage::Running { .. } | PreparationStage::Held { .. } => None,
    }
}

/// A run of the command has ended, if it is the one that is waited for.
pub(crate) fn ended(
    id: &ServiceId,
    service: &ServiceState,
    run: Duration,
    failure: Option<&str>,
    now: Moment,
) -> Option<Move> {
    let preparation = service.preparation.as_ref()?;
    if preparation.stage != (PreparationStage::Running { begun: run }) {
        return None;
    }
    if let Some(reason) = why_not(service, preparation) {
        return Some(called_off(id, service, reason));
    }
    Some(match failure {
        Some(why) => failed(id, service, preparation, why.to_owned(), now),
        None => moved(id, preparation, vec![hook(id, None)], preparation.reason.clone(), now),
    })
}

/// The event of a preparation that ends without a move.
pub(crate) fn call_off(id: &ServiceId, service: &mut ServiceState, reason: String) -> Option<Event> {
    service.preparation.take().map(|_| Event::FailoverCalledOff { service: id.clone(), reason })
}

fn called_off(id: &ServiceId, service: &ServiceState, reason: String) -> Move {
    let event = Event::FailoverCalledOff { service: id.clone(), reason };
    Move { overlay: service.overlay.clone(), preparation: None, events: vec![event] }
}

/// Why a preparation is not needed any more, or leads nowhere.
fn why_not(service: &ServiceState, preparation: &Preparation) -> Option<String> {
    let Preparation { from, to, cause, .. } = preparation;
    let wanted = &service.wanted;
    if *from != wanted.stable {
        return Some(format!("{} is the stable target now", wanted.stable));
    }
    if !wanted.targets.contains_key(to) || wanted.drained.contains(to) {
        return Some(format!("target {to} takes no requests"));
    }
    if service.is_sealed(to) {
        return Some(format!("target {to} is under test by a deployment"));
    }
    match cause {
        Cause::Operator => None,
        Cause::Health => why_not_by_health(service, from, to),
    }
}

fn why_not_by_health(service: &ServiceState, from: &TargetId, to: &TargetId) -> Option<String> {
    if service.spec.failover.as_ref().is_none_or(|policy| policy.to != *to) {
        return Some(format!("the file was edited: the service does not fail over to {to} any more"));
    }
    if service.wanted.hold == Hold::On {
        return Some("a deployment has stopped the service on purpose".into());
    }
    if standing(service, from) != Standing::Down {
        return Some(format!("{from} is not down any more"));
    }
    (!standing(service, to).is_usable()).then(|| format!("{to} cannot be used either"))
}

fn failed(id: &ServiceId, service: &ServiceState, preparation: &Preparation, why: String, now: Moment) -> Move {
    let mut events = vec![hook(id, Some(why.clone()))];
    let hooks = service.spec.failover.as_ref().map(|policy| &policy.hooks);
    if hooks.is_none_or(|hooks| hooks.on_timeout == OnTimeout::Switch) {
        let reason = format!("{}; the command before it failed ({why}), and it moves all the same", preparation.reason);
        return moved(id, preparation, events, reason, now);
    }
    let Preparation { from, to, cause, failures, .. } = preparation.clone();
    let wait = FIRST_AGAIN.saturating_mul(1 << failures.min(8)).min(LAST_AGAIN);
    let (reason, next) = match cause {
        Cause::Operator => (format!("the command before it failed: {why}; ask again when it can succeed"), None),
        Cause::Health => {
            let stage = PreparationStage::Held { again: now.mono.saturating_add(wait) };
            let held = Preparation { failures: failures.saturating_add(1), stage, ..preparation.clone() };
            (format!("the command before it failed: {why}; it is tried again in {wait:?}"), Some(held))
        }
    };
    events.push(Event::FailoverHeld { service: id.clone(), from, to, reason });
    Move { overlay: service.overlay.clone(), preparation: next, events }
}

fn moved(id: &ServiceId, preparation: &Preparation, mut events: Vec<Event>, reason: String, now: Moment) -> Move {
    let overlay = full(&preparation.from, &preparation.to, preparation.cause, now);
    events.push(failed_over(id, &overlay, reason));
    Move::to(Some(overlay), events)
}

fn preparing(id: &ServiceId, preparation: &Preparation) -> Event {
    let Preparation { from, to, reason, .. } = preparation.clone();
    Event::FailoverPreparing { service: id.clone(), from, to, reason }
}

fn hook(id: &ServiceId, failure: Option<String>) -> Event {
    Event::FailoverHook { service: id.clone(), hook: FailoverStage::Before, failure }
}

#[cfg(test)]
mod tests;
