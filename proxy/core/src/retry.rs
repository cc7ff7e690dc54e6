//! What comes after a failed attempt: another endpoint of the target, then stable, then the failover's target, or an error.

use crate::{
    decide::{Draw, Forward},
    reject::Reject,
    snapshot::{EndpointIdx, Snapshot, TargetIdx},
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

/// Decides after a failed attempt.
pub fn after_failure(
    snapshot: &Snapshot,
    forward: &Forward,
    failure: Failure,
    attempt: Attempt<'_>,
    draw: Draw,
) -> Next {
    let _ = (snapshot, forward, failure, attempt, draw);
    Next::GiveUp(Reject::Unreachable)
}
