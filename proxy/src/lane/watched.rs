//! What a request counts for a deployment that watches its service. Where nobody watches, nothing.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};
use tidegate_core::deploy::watch::{Begun, Ended, Tally};

use super::context::{AttemptState, Ctx, Route};

/// By this header an endpoint says that the visitor has reached a goal. Clients never see it.
const GOAL: HeaderName = HeaderName::from_static("x-tidegate-goal");

/// A request that counts.
#[derive(Debug)]
pub(super) struct Watched {
    tally: Arc<Tally>,
    begun: Begun,
    goal_named: bool,
}

/// Begins to count a request that was decided on, if somebody watches.
pub(super) fn begin(route: &Route, head: &RequestHeader) -> Option<Watched> {
    let service = route.service()?;
    let tally = service.stats.watch.tally()?;
    let begun = tally.begin(service, &route.forward, &head.method, head.uri.path(), &head.headers)?;
    Some(Watched { tally, begun, goal_named: false })
}

/// Takes the goal out of an answer. Always: an endpoint that names one does not know whether anybody watches.
pub(super) fn take_goal(head: &mut ResponseHeader, watched: Option<&mut Watched>) {
    if let Some(name) = head.headers.get(GOAL)
        && let Some(watched) = watched
    {
        watched.goal_named |= watched.tally.has_goal(name.as_bytes());
    }
    head.remove_header(&GOAL);
}

/// Counts a request that has ended.
pub(super) fn end(watched: &Watched, ctx: &Ctx, status: Option<StatusCode>, elapsed: Duration) {
    let Some(route) = &ctx.route else { return };
    let answered_itself = route.forward.target == route.forward.chosen;
    // It was refused here, before any endpoint saw it.
    if ctx.attempt == AttemptState::None && answered_itself {
        return;
    }
    let broken =
        matches!(ctx.attempt, AttemptState::Failed(_)) || status.is_some_and(|status| status.is_server_error());
    let tunnel = status == Some(StatusCode::SWITCHING_PROTOCOLS);
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let ended = Ended {
        status: status.map(|status| status.as_u16()),
        failed: !answered_itself || broken,
        elapsed_us: (answered_itself && !tunnel).then_some(elapsed_us),
        goal_named: watched.goal_named,
    };
    watched.tally.end(watched.begun, ended, ctx.worker());
}
