//! A failed attempt: what it was, what it says about the endpoint, and what comes next.
//!
//! pingora asks after each failure whether to try again. It must always get an answer, and the answer is the core's.

use std::sync::atomic::Ordering::Relaxed;

use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_proxy::Session;
use tidegate_core::{Attempt, Failure, Next, Reject, after_failure, health::Observation};

use super::{
    arrive::is_idempotent,
    context::{AttemptState, Ctx},
    finish,
    shared::Shared,
};
use crate::routing::{PassiveSign, Sign};

/// Whether bytes of the request may have reached the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// There was no connection.
    Nothing,
    /// There was one.
    Perhaps,
}

/// What becomes of the request after an error; sets pingora's retry mark, which must never be left undecided.
pub(super) fn handle(session: &Session, ctx: &mut Ctx, shared: &Shared, error: &mut Error, sent: Sent) {
    let again = match failure_of(error, sent) {
        Some(failure) => plan_again(session, ctx, shared, failure, sent),
        None => false,
    };
    error.set_retry(again);
}

/// What failed at the endpoint; `None`: the client or we ourselves.
fn failure_of(error: &Error, sent: Sent) -> Option<Failure> {
    if sent == Sent::Perhaps && *error.esource() != ErrorSource::Upstream {
        return None;
    }
    Some(match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Failure::ConnectTimeout,
        _ if sent == Sent::Nothing => Failure::Connect,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H2Downgrade => Failure::BadAnswer,
        _ => Failure::Reset,
    })
}

fn plan_again(session: &Session, ctx: &mut Ctx, shared: &Shared, failure: Failure, sent: Sent) -> bool {
    finish::attempt_failed(ctx, failure);
    sign(ctx, shared, failure);
    let draw = ctx.draw();
    let Some(route) = &mut ctx.route else { return false };
    ctx.tried.push((route.forward.target, route.forward.endpoint));
    let attempt = Attempt {
        tried: &ctx.tried,
        sent: sent == Sent::Perhaps,
        idempotent: is_idempotent(&session.req_header().method),
        body_kept: !session.as_downstream().retry_buffer_truncated(),
        answered: session.as_downstream().response_written().is_some(),
    };
    match after_failure(&route.snapshot, &route.forward, failure, attempt, draw) {
        Next::Retry { forward, budgeted } => {
            route.forward = forward;
            if let Some(active) = ctx.active.as_mut().filter(|_| budgeted) {
                active.retry();
            }
            true
        }
        Next::GiveUp(reject) => {
            ctx.reject = Some(reject);
            false
        }
    }
}

/// Tells the health checks. A slow answer is no sign that the endpoint is gone.
fn sign(ctx: &Ctx, shared: &Shared, failure: Failure) {
    let Some(route) = &ctx.route else { return };
    if let Some(endpoint) = route.endpoint() {
        endpoint.stats.failures.fetch_add(1, Relaxed);
    }
    match failure {
        Failure::Connect | Failure::ConnectTimeout | Failure::Reset => {
            send_sign(ctx, shared, Observation::ConnectFailed);
        }
        Failure::Timeout | Failure::BadAnswer => {}
    }
}

/// Tells the health checks what was seen of the endpoint. A full queue already holds enough of the same.
pub(super) fn send_sign(ctx: &Ctx, shared: &Shared, seen: Observation) {
    let Some(route) = &ctx.route else { return };
    let (Some(service), Some(target), Some(endpoint)) = (route.service(), route.target(), route.endpoint()) else {
        return;
    };
    let sign = PassiveSign {
        service: service.id.clone(),
        target: target.id.clone(),
        endpoint: endpoint.address.clone(),
        sign: Sign::Seen(seen),
    };
    drop(shared.signs.try_send(sign));
}

/// How a request that has failed for good is answered; `None`: nobody is there to be told.
pub(super) fn final_reject(ctx: &Ctx, error: &Error) -> Option<Reject> {
    if let Some(reject) = ctx.reject {
        return Some(reject);
    }
    let too_slow = ctx.client.as_ref().is_some_and(|client| client.link.was_too_slow());
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Reject::ClientTooSlow),
        (ErrorSource::Downstream, _) if too_slow => Some(Reject::ClientTooSlow),
        (
            ErrorSource::Downstream,
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::WriteTimedout | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, ErrorType::H2Error) => None,
        (ErrorSource::Downstream, _) => Some(Reject::Malformed),
        (ErrorSource::Upstream, _) if ctx.attempt == AttemptState::None => Some(Reject::Unreachable),
        (ErrorSource::Upstream, _) => Some(Reject::BadAnswer),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Reject::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(etype: ErrorType) -> Box<Error> {
        Error::new(etype).into_up()
    }

    #[test]
    fn every_kind_of_error_of_an_endpoint_is_a_failure() {
        for (etype, sent, expected) in [
            (ErrorType::ConnectRefused, Sent::Nothing, Failure::Connect),
            (ErrorType::TLSHandshakeFailure, Sent::Nothing, Failure::Connect),
            (ErrorType::ConnectTimedout, Sent::Nothing, Failure::ConnectTimeout),
            (ErrorType::ConnectionClosed, Sent::Perhaps, Failure::Reset),
            (ErrorType::ReadError, Sent::Perhaps, Failure::Reset),
            (ErrorType::WriteError, Sent::Perhaps, Failure::Reset),
            (ErrorType::ReadTimedout, Sent::Perhaps, Failure::Timeout),
            (ErrorType::InvalidHTTPHeader, Sent::Perhaps, Failure::BadAnswer),
        ] {
            assert_eq!(failure_of(&upstream(etype.clone()), sent), Some(expected), "{etype:?}");
        }
    }

    #[test]
    fn an_error_of_the_client_is_no_failure_of_the_endpoint() {
        assert_eq!(failure_of(&Error::new(ErrorType::ReadError).into_down(), Sent::Perhaps), None);
        assert_eq!(failure_of(&Error::new(ErrorType::InternalError).into_in(), Sent::Perhaps), None);
    }

    #[test]
    fn a_client_that_has_gone_is_told_nothing() {
        let ctx = Ctx::new(None);
        assert_eq!(final_reject(&ctx, &Error::new(ErrorType::ConnectionClosed).into_down()), None);
        assert_eq!(final_reject(&ctx, &Error::new(ErrorType::ReadTimedout).into_down()), Some(Reject::ClientTooSlow));
        assert_eq!(final_reject(&ctx, &Error::new(ErrorType::InvalidHTTPHeader).into_down()), Some(Reject::Malformed));
        assert_eq!(final_reject(&ctx, &Error::new(ErrorType::InternalError).into_in()), Some(Reject::Internal));
    }
}
