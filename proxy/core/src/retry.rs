//! What comes after a failed attempt: another endpoint of the target, then stable, then the failover's target, or an error.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    decide::{Draw, Forward, Reason},
    pool::choose,
    reject::Reject,
    snapshot::{EndpointIdx, Service, Snapshot, TargetIdx},
};

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The connection was refused or could not be made.
    Connect,
    /// The connection was not made in time.
    ConnectTimeout,
    /// The endpoint broke off before the head of its answer was complete.
    Reset,
    /// The head of the answer did not come in time.
    Timeout,
    /// The answer was not HTTP.
    BadAnswer,
}

/// What is known of the attempts so far.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Where it was tried, in order; the last one is the one that failed.
    pub tried: &'a [(TargetIdx, EndpointIdx)],
    /// Whether bytes of the request may have reached the endpoint.
    pub sent: bool,
    /// Whether the method is idempotent: GET, HEAD, OPTIONS, PUT, DELETE, TRACE (RFC 9110, 9.2.2).
    pub idempotent: bool,
    /// Whether what was sent of the body can be sent again.
    pub body_kept: bool,
    /// Whether anything of an answer reached the client.
    pub answered: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Try this one. `budgeted`: the caller counts it in `retrying` until the request ends.
    Retry {
        /// Where.
        forward: Forward,
        /// Whether the retry budget pays for it.
        budgeted: bool,
    },
    /// Answer with this.
    GiveUp(Reject),
}

/// Retries of sent requests that may always run, however few requests there are: a share of nothing would be none.
pub const LEAST_BUDGET: u32 = 3;

/// Decides after a failed attempt.
///
/// First another endpoint of the target, then stable, then the target of the failover policy; after those, what was
/// not tried of any of them. Never an endpoint twice.
///
/// An attempt that could not connect is repeated whatever the method, and is not charged to the budget: no endpoint
/// has processed anything, so repeating it multiplies no load. Counts what the budget refuses, and nothing else.
pub fn after_failure(
    snapshot: &Snapshot,
    forward: &Forward,
    failure: Failure,
    attempt: Attempt<'_>,
    draw: Draw,
) -> Next {
    let give_up = Next::GiveUp(reject(failure));
    let Some(service) = snapshot.service(forward.service) else { return give_up };
    let retries = attempt.tried.len().saturating_sub(1);
    if attempt.answered || retries >= service.retry.attempts as usize {
        return give_up;
    }
    let budgeted = was_sent(failure, attempt);
    if budgeted && !(attempt.idempotent && attempt.body_kept) {
        return give_up;
    }
    let Some((target, endpoint)) = elsewhere(service, forward, attempt.tried, draw) else { return give_up };
    if budgeted && !budget_allows(service) {
        service.stats.retries_refused.fetch_add(1, Relaxed);
        return give_up;
    }
    let reason = if target == forward.chosen || target == service.stable { forward.reason } else { Reason::Failover };
    Next::Retry { forward: Forward { target, endpoint, reason, ..forward.clone() }, budgeted }
}

fn was_sent(failure: Failure, attempt: Attempt<'_>) -> bool {
    match failure {
        Failure::Connect | Failure::ConnectTimeout => false,
        Failure::Reset | Failure::Timeout | Failure::BadAnswer => attempt.sent,
    }
}

fn budget_allows(service: &Service) -> bool {
    let percent = u64::from(service.retry.budget);
    if percent == 0 {
        return false;
    }
    let share = u64::from(service.stats.active_now()) * percent / 100;
    u64::from(service.stats.retrying.load(Relaxed)) < share.max(u64::from(LEAST_BUDGET))
}

/// An endpoint that was not tried.
fn elsewhere(
    service: &Service,
    forward: &Forward,
    tried: &[(TargetIdx, EndpointIdx)],
    draw: Draw,
) -> Option<(TargetIdx, EndpointIdx)> {
    let first = tried.first().map_or(forward.target, |(target, _)| *target);
    let others = [Some(service.stable), service.fallback, service.overlay.map(|(to, _)| to)];
    let [stable, fallback, overlay] = if forward.reason.binds() { [None; 3] } else { others };
    let resorts = [Some(first), stable, fallback, overlay];
    let untouched = |target: TargetIdx| !tried.iter().any(|(other, _)| *other == target);
    // One more attempt on the target; after that, targets that nothing is known against come first.
    let first_retry = tried.len() <= 1;
    let preferred = resorts.into_iter().flatten().filter(|target| first_retry || untouched(*target));
    preferred.chain(resorts.into_iter().flatten()).find_map(|at| {
        let target = service.target(at)?;
        let reachable = target.available || (at == first && forward.reason.reaches(target));
        let [random, _] = draw.random;
        let of_target = tried.iter().filter(|(target, _)| *target == at).map(|(_, endpoint)| *endpoint);
        Some((at, if reachable { choose(target, of_target, random) } else { None }?))
    })
}

fn reject(failure: Failure) -> Reject {
    match failure {
        Failure::Connect | Failure::ConnectTimeout => Reject::Unreachable,
        Failure::Reset | Failure::BadAnswer => Reject::BadAnswer,
        Failure::Timeout => Reject::TooSlow,
    }
}

#[cfg(test)]
mod tests;
