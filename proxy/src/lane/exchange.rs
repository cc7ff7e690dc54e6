//! One attempt at an endpoint: what goes to it, and what comes back from it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{StatusCode, Version, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tidegate_config::Host;
use tidegate_core::{Endpoint, Reject, RequestHead, Subject, Visitor, Who, preview};

use super::{
    arrive::content_length,
    context::{Ctx, Handshake, Route},
    finish,
    headers::{self, Origin, VisitorCookie},
    peer::{self, Use},
    respond,
    shared::Shared,
    watched,
};
use crate::{
    mirror::BodyKind,
    net::link::{Client, Security, Stage},
};

/// How the endpoint of this attempt is reached.
pub(super) fn peer(ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
    let no_route = || Error::explain(ErrorType::InternalError, "the request has no route");
    let route = ctx.route.as_ref().ok_or_else(no_route)?;
    let (Some(service), Some(endpoint)) = (route.service(), route.endpoint()) else { return Err(no_route()) };
    let used = if ctx.upgrade { Use::Tunnel } else { Use::Exchange };
    if let Some(client) = ctx.client.as_ref().filter(|_| ctx.upgrade) {
        ctx.handshake = Some(limit_handshake(client, service.timeouts.response));
    }
    peer::peer(endpoint, &service.timeouts, used, rand::random())
}

/// A connection that is to become a tunnel has no timeout of its own: its handshake gets one here, until it is dropped.
fn limit_handshake(client: &Arc<Client>, patience: Duration) -> Handshake {
    let link = Arc::clone(&client.link);
    Handshake::limit(async move {
        tokio::time::sleep(patience).await;
        link.cut();
    })
}

/// The request's head as the endpoint is to see it; and its copies begin.
pub(super) fn request_head(
    session: &mut Session,
    head: &mut RequestHeader,
    ctx: &mut Ctx,
    shared: &Shared,
) -> Result<()> {
    #[cfg(test)]
    assert!(!head.headers.contains_key("x-test-panic"), "a test wants a panic with a request in flight");
    let (Some(client), Some(route)) = (&ctx.client, &ctx.route) else { return Ok(()) };
    let original = session.req_header();
    let host = original.uri.authority().map(http::uri::Authority::as_str);
    let host = host.or_else(|| original.headers.get(header::HOST).and_then(|host| host.to_str().ok()));
    let address = client.address.ip().to_canonical();
    let origin = Origin {
        client: address,
        security: client.security,
        trusted: headers::is_trusted(address, &shared.settings.trusted_proxies),
        host: host.unwrap_or_default(),
        forwarded: shared.settings.forwarded,
        new_id: rand::random(),
    };
    let is_copy = original.headers.contains_key(headers::SHADOW);
    let id = headers::to_endpoint(head, &origin, ctx.request_id.as_ref())?;
    let headers = &original.headers;
    if let Some(label) = preview::label_of(&route.snapshot, client.listener, origin.host, headers) {
        // An environment under test passes it on, and so calls what is tested with it.
        head.insert_header(preview::BRACKET_HEADER, label.as_str())?;
    }
    if ctx.pinned_by_bearer {
        head.remove_header(&header::AUTHORIZATION);
    }
    if host.is_none()
        && let Some(endpoint) = route.endpoint()
    {
        head.insert_header(header::HOST, host_of(endpoint))?;
    }
    headers::set_target(head, route.forward.strip)?;
    if route.snapshot.flags.sends_headers() {
        tell_flags(original, head, host.unwrap_or_default(), client, route, shared)?;
    }
    if !is_copy && !ctx.upgrade && route.forward.mirrors != 0 {
        let body = body_kind(session);
        ctx.copies.begin(&shared.mirrors, route, head, body, &id);
    }
    ctx.request_id = Some(id);
    Ok(())
}

/// Tells the endpoint the flags that are meant for it, as they are for this request's visitor.
fn tell_flags(
    original: &RequestHeader,
    head: &mut RequestHeader,
    host: &str,
    client: &Client,
    route: &Route,
    shared: &Shared,
) -> Result<()> {
    let (Some(service), Some(target)) = (route.service(), route.target()) else { return Ok(()) };
    let seen = RequestHead {
        listener: client.listener,
        method: &original.method,
        host,
        path: original.uri.path(),
        query: original.uri.query(),
        headers: &original.headers,
        client: Some(client.address.ip().to_canonical()),
        unix_s: shared.routing.now().unix_ms / 1000,
        pin_authorised: false,
    };
    let who = Who::of(service.sticky.as_deref(), &seen, &route.forward.visitor);
    let subject = Subject::Request { head: &seen, visitor: who.as_bytes() };
    headers::tell_flags(head, &route.snapshot.flags, &service.id, &target.id, &subject)
}

/// The host of a request whose client named none.
fn host_of(endpoint: &Endpoint) -> String {
    match &endpoint.address.host {
        Host::Ip(address) => address.to_string(),
        Host::Name(name, port) => format!("{name}:{port}"),
        Host::Unix(_) => "localhost".to_owned(),
    }
}

fn body_kind(session: &mut Session) -> BodyKind {
    if session.is_body_empty() {
        return BodyKind::Empty;
    }
    content_length(session.req_header()).map_or(BodyKind::Unknown, BodyKind::Length)
}

/// The next part of the request's body. A retry brings it from its beginning again.
pub(super) fn request_body(body: Option<&Bytes>, end: bool, ctx: &mut Ctx) -> Result<()> {
    if let Some(chunk) = body {
        ctx.received = ctx.received.saturating_add(chunk.len() as u64);
        if let Some(client) = &ctx.client {
            client.link.add_received(chunk.len() as u64);
            if client.link.stage() == Stage::Invited {
                client.link.enter(Stage::Body);
            }
        }
        let limit = ctx.service().and_then(|service| service.spec.max_body);
        if limit.is_some_and(|limit| ctx.received > limit) {
            ctx.reject = Some(Reject::BodyTooLarge);
            return Err(Error::explain(ErrorType::HTTPStatus(413), "the body is too large").into_in());
        }
        ctx.copies.feed(chunk);
    }
    if end {
        ctx.copies.end();
        if let Some(client) = &ctx.client {
            client.link.enter(Stage::Answer);
        }
    }
    Ok(())
}

/// The head of an endpoint's answer. A change of protocol that nobody asked for is no answer.
pub(super) fn answer_head(head: &mut ResponseHeader, ctx: &mut Ctx, shared: &Shared) -> Result<()> {
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    if switches && !ctx.upgrade {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "an unasked 101").into_up());
    }
    watched::take_goal(head, ctx.watched.as_mut());
    if switches || !head.status.is_informational() {
        finish::answered(ctx, shared, head.status);
        ctx.copies.answer_head(head.status.as_u16(), &head.headers);
    }
    Ok(())
}

/// The head of the answer as the client is to see it.
pub(super) fn answer_to_client(session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let tunnel = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let (version, security) = (session.req_header().version, ctx.client.as_ref().map(|client| client.security));
    headers::to_client(head, version, tunnel)?;
    if ctx.client.as_ref().is_some_and(|client| client.link.is_stopped()) {
        session.set_keepalive(None);
    }
    if tunnel {
        session.set_read_timeout(None);
        if let Some(client) = &ctx.client {
            client.link.enter(Stage::Tunnel);
        }
    } else if head.status.is_informational() {
        return Ok(());
    }
    ctx.handshake = None;
    if let Some(client) = ctx.client.as_ref().filter(|_| version == Version::HTTP_2) {
        // Once its answer has begun, a stream may go on for as long as both sides like.
        client.link.enter(Stage::Answer);
    }
    let Some(route) = &ctx.route else { return Ok(()) };
    let Some(service) = route.service() else { return Ok(()) };
    if let Some(sticky) = service.sticky.as_ref().filter(|_| matches!(route.forward.visitor, Visitor::New(_))) {
        let cookie = VisitorCookie {
            name: &sticky.cookie,
            max_age_s: sticky.max_age.as_secs(),
            security: security.unwrap_or(Security::Clear),
        };
        if let Some(value) = headers::set_cookie(&route.forward.visitor, &cookie) {
            head.append_header(header::SET_COOKIE, value)?;
            service.stats.new_visitors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    if let Some(target) = route.target().filter(|_| service.spec.expose) {
        headers::expose(head, target.id.as_str(), route.snapshot.generation.0)?;
    }
    Ok(())
}

/// Answers a request that has failed for good, unless an answer has begun. Returns the status that the client sees.
pub(super) async fn apologise(session: &mut Session, reject: Reject) -> u16 {
    let begun = session
        .as_downstream()
        .response_written()
        .is_some_and(|answer| !answer.status.is_informational() || answer.status == StatusCode::SWITCHING_PROTOCOLS);
    if begun {
        return 0;
    }
    session.set_keepalive(None);
    if respond::reject(session, reject).await.is_err() {
        return 0;
    }
    if !session.is_http2() {
        // Reads a little of what the client still sends, or it would be reset before it has read why.
        session.as_downstream_mut().shutdown().await;
    }
    reject.status().as_u16()
}
