//! The way of a request, phase by phase, in the order in which pingora calls them.
//!
//! Every attempt runs through [`upstream_peer`](Tidegate::upstream_peer) to the answer; `Ok(true)` of
//! [`request_filter`](Tidegate::request_filter) means that the request has been answered here.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::{modules::http::HttpModules, server::configuration::ServerConf, upstreams::peer::HttpPeer};
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};

use super::{
    arrive,
    context::Ctx,
    exchange,
    failure::{self, Sent},
    finish, respond,
    shared::Shared,
};
use crate::net::link::current_client;

/// Connections to endpoints that a worker keeps, over all endpoints.
const KEPT_CONNECTIONS: usize = 1024;

/// Attempts that pingora allows. The core decides; this only bounds what a mistake could do.
const MOST_ATTEMPTS: usize = 16;

/// Where a worker's requests go.
pub(crate) type Lane = HttpProxy<Tidegate>;

/// The lane of one worker, with its own connections to endpoints.
pub(crate) fn lane(shared: &Arc<Shared>) -> Arc<Lane> {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: KEPT_CONNECTIONS,
        max_retries: MOST_ATTEMPTS,
        ..ServerConf::default()
    };
    Arc::new(http_proxy(&Arc::new(conf), Tidegate { shared: Arc::clone(shared) }))
}

/// What pingora calls.
#[derive(Debug)]
pub(crate) struct Tidegate {
    shared: Arc<Shared>,
}

#[async_trait]
impl ProxyHttp for Tidegate {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(current_client())
    }

    /// Answers pass as they are.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    // --- the request arrives ---

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        arrive::prepare(session, ctx);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let Err(reject) = arrive::route(session, ctx, &self.shared).await else { return Ok(false) };
        ctx.reject = Some(reject);
        respond::reject(session, reject).await?;
        Ok(true)
    }

    // --- an attempt ---

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        ctx.begin_attempt();
        exchange::peer(ctx)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        exchange::request_head(session, head, ctx, &self.shared)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if session.was_upgraded() { Ok(()) } else { exchange::request_body(body.as_ref(), end, ctx) }
    }

    async fn upstream_response_filter(&self, _: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        exchange::answer_head(head, ctx, &self.shared)
    }

    async fn response_filter(&self, session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()>
    where
        Ctx: Send + Sync,
    {
        exchange::answer_to_client(session, head, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        if let Some(chunk) = body {
            ctx.copies.answer_body(chunk);
        }
        Ok(None)
    }

    // --- an attempt fails ---

    fn fail_to_connect(&self, session: &mut Session, _: &HttpPeer, ctx: &mut Ctx, mut e: Box<Error>) -> Box<Error> {
        failure::handle(session, ctx, &self.shared, &mut e, Sent::Nothing);
        e
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Ctx,
        _reused: bool,
    ) -> Box<Error> {
        failure::handle(session, ctx, &self.shared, &mut e, Sent::Perhaps);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        ctx.reject = failure::final_reject(ctx, e);
        let error_code = match ctx.reject {
            Some(reject) => exchange::apologise(session, reject).await,
            None => 0,
        };
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    // --- the request is over ---

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Ctx) {
        if let Some(e) = e {
            tracing::debug!(error = %e.etype().as_str(), source = %e.esource().as_str(), "a request failed");
        } else {
            ctx.copies.answer_end(ctx.started.elapsed());
        }
        finish::finished(session, ctx, &self.shared);
    }

    /// pingora's lines for errors hold paths and hosts of clients; ours do not.
    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Ctx, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}
