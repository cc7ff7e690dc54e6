//! A request arrives: what its head must have, what limits hold, and where it goes.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{Method, Version, header};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use tidegate_core::{Plan, Reject, RequestHead, ServiceIdx, Snapshot, decide};
use tokio::time::{Instant, timeout_at};

use super::{
    context::{Active, Ctx, Route},
    pins,
    shared::Shared,
    watched,
};
use crate::net::link::Stage;

/// A stream of HTTP/2 whose client takes nothing of its answer for this long is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// When we answer before a request's body was read, its rest is read for at most this long.
const DRAIN: Duration = Duration::from_secs(1);

/// Sets what holds for the whole request.
pub(super) fn prepare(session: &mut Session, ctx: &mut Ctx) {
    ctx.upgrade = is_websocket(session.req_header());
    let stage = if session.is_body_done() { Stage::Answer } else { body_stage(session.req_header()) };
    if let Some(client) = &ctx.client {
        client.link.begin(stage);
    }
    session.set_write_timeout(Some(WRITE_TIMEOUT));
    session.set_total_drain_timeout(Some(DRAIN));
}

/// Whether the body that is to come has a minimal rate. A call of gRPC may send a message an hour.
fn body_stage(head: &RequestHeader) -> Stage {
    let is_grpc = |kind: &http::HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
    if head.headers.contains_key(header::EXPECT) {
        Stage::Invited
    } else if head.version == Version::HTTP_2 && head.headers.get(header::CONTENT_TYPE).is_some_and(is_grpc) {
        Stage::Answer
    } else {
        Stage::Body
    }
}

/// Whether the client asks for WebSocket: the only upgrade that is passed on, and only from HTTP/1.1.
fn is_websocket(head: &RequestHeader) -> bool {
    let upgrade = head.headers.get(header::UPGRADE);
    head.version == Version::HTTP_11 && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Decides where the request goes, and writes that into its context.
pub(super) async fn route(session: &Session, ctx: &mut Ctx, shared: &Shared) -> Result<(), Reject> {
    let head = session.req_header();
    let fields = head.headers.len();
    if fields > shared.settings.limits.header_fields {
        return Err(Reject::HeadTooLarge);
    }
    let host = host(head)?;
    if !is_understood(head) {
        return Err(Reject::BadPath);
    }
    let route = decided(head, &host, ctx, shared).await?;
    let service = route.service().ok_or(Reject::Internal)?;
    if service.spec.max_body.is_some_and(|most| content_length(head).is_some_and(|length| length > most)) {
        ctx.reject = Some(Reject::BodyTooLarge);
    }
    ctx.active = Some(Active::begin(&service.stats, ctx.worker()));
    ctx.watched = watched::begin(&route, head);
    if let Some(client) = &ctx.client {
        client.link.set_idle(service.timeouts.idle);
    }
    ctx.route = Some(route);
    ctx.reject.map_or(Ok(()), Err)
}

/// The host that a request is for. HTTP/1.1 must name one (RFC 9112, 3.2); older clients could not.
fn host(head: &RequestHeader) -> Result<Cow<'_, str>, Reject> {
    if let Some(authority) = head.uri.authority() {
        return Ok(Cow::Borrowed(authority.as_str()));
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map(Cow::Borrowed).map_err(|_| Reject::BadHost),
        (None, _) if head.version < Version::HTTP_11 => Ok(Cow::Borrowed(UNNAMED_HOST)),
        _ => Err(Reject::BadHost),
    }
}

/// What a request of HTTP/1.0 without a host is for: only `*` matches it, as no public name ends in `.invalid`.
const UNNAMED_HOST: &str = "unnamed.invalid";

/// Whether the target has a form whose path pingora and we read alike (RFC 9112, 3.2): what routing sees, the endpoint
/// gets.
fn is_understood(head: &RequestHeader) -> bool {
    let target = head.raw_path();
    let scheme = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    let absolute = || scheme(b"http://") || scheme(b"https://");
    let whole_server = || target == b"*" && head.method == Method::OPTIONS;
    head.raw_path_is_utf8() && (target.starts_with(b"/") || absolute() || whole_server())
}

/// Decides on the newest snapshot. While no endpoint has a verdict, waits for one, at most `timeouts.connect`.
async fn decided(head: &RequestHeader, host: &str, ctx: &mut Ctx, shared: &Shared) -> Result<Route, Reject> {
    let snapshot = shared.routing.load_full();
    let service = match plan(&snapshot, head, host, ctx, shared)? {
        Decided::Forward(forward) => return Ok(Route { snapshot, forward }),
        Decided::Wait { service, .. } => service,
    };
    let patience = snapshot.service(service).map_or(Duration::ZERO, |service| service.timeouts.connect);
    let deadline = Instant::now() + patience;
    let mut published = shared.routing.published();
    loop {
        // Looked at after the subscription, so no snapshot is missed.
        let snapshot = shared.routing.load_full();
        let instead = match plan(&snapshot, head, host, ctx, shared)? {
            Decided::Forward(forward) => return Ok(Route { snapshot, forward }),
            Decided::Wait { instead, .. } => instead,
        };
        if !matches!(timeout_at(deadline, published.changed()).await, Ok(Ok(()))) {
            return instead.map(|forward| Route { snapshot, forward }).ok_or(Reject::NoTarget);
        }
    }
}

/// A plan that goes on.
enum Decided {
    Forward(tidegate_core::Forward),
    Wait { service: ServiceIdx, instead: Option<tidegate_core::Forward> },
}

fn plan(
    snapshot: &Arc<Snapshot>,
    head: &RequestHeader,
    host: &str,
    ctx: &mut Ctx,
    shared: &Shared,
) -> Result<Decided, Reject> {
    let client = ctx.client.as_deref();
    let headers = &head.headers;
    let head = RequestHead {
        listener: client.map_or(tidegate_core::ListenerIdx(0), |client| client.listener),
        method: &head.method,
        host,
        path: head.uri.path(),
        query: head.uri.query(),
        headers,
        client: client.map(|client| client.address.ip().to_canonical()),
        unix_s: shared.routing.now().unix_ms / 1000,
        pin_authorised: false,
    };
    let pin_authorised = pins::authorised(&shared.pins, snapshot, &head, headers);
    ctx.pinned_by_bearer = pin_authorised && pins::uses_authorization(headers);
    match decide(snapshot, &RequestHead { pin_authorised, ..head }, ctx.draw()) {
        Plan::Forward(forward) => Ok(Decided::Forward(forward)),
        Plan::Wait { service, instead } => Ok(Decided::Wait { service, instead }),
        Plan::Reject(reject) => Err(reject),
    }
}

/// Declares the length of a body, if the head does.
pub(super) fn content_length(head: &RequestHeader) -> Option<u64> {
    head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// Whether a method may be sent twice (RFC 9110, 9.2.2).
pub(super) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
}
