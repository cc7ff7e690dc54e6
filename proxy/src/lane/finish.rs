//! What is counted of a request: its attempts, its answer, and the one outcome at its end.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use http::{StatusCode, Version};
use pingora_proxy::Session;
use tidegate_core::{
    Failure,
    health::Observation,
    stats::{BUCKET_BOUNDS_US, TargetShard},
};

use super::{
    context::{AttemptState, Ctx, Route},
    failure,
    shared::Shared,
    watched,
};
use crate::observe::access_log::{self, Entry};

/// 5xx answers in a row that speak against an endpoint.
const SERVER_ERRORS: u32 = 5;

/// Positions in [`ATTEMPT_RESULTS`](tidegate_core::stats::ATTEMPT_RESULTS).
#[derive(Debug, Clone, Copy)]
enum AttemptResult {
    Ok = 0,
    Connect = 1,
    Timeout = 2,
    Reset = 3,
    BadAnswer = 4,
}

/// The head of an endpoint's final answer has come.
pub(super) fn answered(ctx: &mut Ctx, shared: &Shared, status: StatusCode) {
    ctx.attempt = AttemptState::Answered;
    let Some(endpoint) = ctx.route.as_ref().and_then(Route::endpoint) else { return };
    let streak = &endpoint.stats.server_errors_in_a_row;
    if status.is_server_error() {
        let streak = streak.fetch_add(1, Relaxed).wrapping_add(1);
        if streak % SERVER_ERRORS == 0 {
            failure::send_sign(ctx, shared, Observation::ServerErrors);
        }
    } else if streak.load(Relaxed) != 0 {
        streak.store(0, Relaxed);
    }
}

/// The attempt failed.
pub(super) fn attempt_failed(ctx: &mut Ctx, failure: Failure) {
    ctx.attempt = AttemptState::Failed(failure);
    ctx.in_flight = None;
    count_attempt(
        ctx,
        match failure {
            Failure::Connect | Failure::ConnectTimeout => AttemptResult::Connect,
            Failure::Timeout => AttemptResult::Timeout,
            Failure::Reset => AttemptResult::Reset,
            Failure::BadAnswer => AttemptResult::BadAnswer,
        },
    );
}

fn count_attempt(ctx: &Ctx, result: AttemptResult) {
    with_shard(ctx, |shard| add(shard.attempts.get(result as usize), 1));
}

/// The request is over: its answer is complete, or an error has ended it.
pub(super) fn finished(session: &Session, ctx: &mut Ctx, shared: &Shared) {
    let elapsed = ctx.started.elapsed();
    let answer = session.as_downstream().response_written();
    let status = answer.map(|answer| answer.status).filter(|status| is_final(*status));
    outcome(ctx, status, elapsed);
    if let Some(reject) = ctx.reject {
        shared.counters.rejected(reject);
    }
    if access_log::is_wanted(shared.settings.access_log.sample) {
        log(session, ctx, status, elapsed);
    }
    ctx.finish();
}

/// The request was dropped half-way: it was cut, or something panicked.
pub(super) fn abandoned(ctx: &mut Ctx) {
    outcome(ctx, None, ctx.started.elapsed());
    ctx.finish();
}

fn is_final(status: StatusCode) -> bool {
    !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS
}

fn outcome(ctx: &Ctx, status: Option<StatusCode>, elapsed: Duration) {
    if ctx.attempt == AttemptState::Answered {
        count_attempt(ctx, AttemptResult::Ok);
    }
    let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    with_shard(ctx, |shard| {
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100));
        add(shard.classes.get(class), 1);
        add(shard.durations.get(BUCKET_BOUNDS_US.partition_point(|bound| *bound < elapsed_us)), 1);
        add(Some(&shard.duration_sum_us), elapsed_us);
    });
    if let Some(watched) = &ctx.watched {
        watched::end(watched, ctx, status, elapsed);
    }
    let Some(route) = &ctx.route else { return };
    let first = ctx.tried.first().map_or(route.forward.target, |(target, _)| *target);
    if first != route.forward.chosen
        && let Some(chosen) = route.service().and_then(|service| service.target(route.forward.chosen))
    {
        add(Some(&chosen.stats.shards.of(ctx.worker()).diverted), 1);
    }
}

fn with_shard(ctx: &Ctx, count: impl FnOnce(&TargetShard)) {
    if let Some(target) = ctx.route.as_ref().and_then(Route::target) {
        count(target.stats.shards.of(ctx.worker()));
    }
}

/// Shards have one writer, so plain loads and stores would do; the addition is as cheap on a line of its own.
fn add(counter: Option<&AtomicU64>, by: u64) {
    if let Some(counter) = counter {
        counter.fetch_add(by, Relaxed);
    }
}

fn log(session: &Session, ctx: &Ctx, status: Option<StatusCode>, elapsed: Duration) {
    let head = session.req_header();
    let route = ctx.route.as_ref();
    access_log::write(&Entry {
        client: ctx.client.as_ref().map(|client| client.address.ip().to_canonical()),
        method: &head.method,
        host: head.uri.host().or_else(|| head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok())),
        path: head.uri.path(),
        http: match head.version {
            Version::HTTP_2 => "2",
            Version::HTTP_11 => "1.1",
            _ => "1.0",
        },
        status: status.map(|status| status.as_u16()),
        reject: ctx.reject.map(tidegate_core::Reject::label),
        service: ctx.service().map(|service| service.id.as_str()),
        target: route.and_then(Route::target).map(|target| target.id.as_str()),
        reason: route.map(|route| route.forward.reason.label()),
        endpoint: route.and_then(Route::endpoint).map(|endpoint| &endpoint.address),
        attempts: ctx.tried.len() + usize::from(!matches!(ctx.attempt, AttemptState::None | AttemptState::Failed(_))),
        received: session.as_downstream().body_bytes_read(),
        sent: session.as_downstream().body_bytes_sent(),
        elapsed,
        request_id: ctx.request_id.as_ref().and_then(|id| id.to_str().ok()),
        generation: route.map(|route| route.snapshot.generation.0),
    });
}
