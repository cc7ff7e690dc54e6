//! What every request passes before it is routed: the admin names, then the token; and the roles that routes need.

use std::{panic::AssertUnwindSafe, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, header};
use tidegate_config::Role;

use crate::{
    access::{Access, Caller, ForeignRequest, Unauthenticated},
    problem::{Kind, Problem},
};

const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// Lets a request in, or answers it. Also unknown paths are behind it: without a token nothing can be learnt.
pub(crate) async fn guard(State(access): State<Arc<ArcSwap<Access>>>, mut request: Request, next: Next) -> Response {
    let mut response = match admit(&access.load_full(), &mut request) {
        // One request that panics must not take the connection of others' answers with it.
        Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("a call of the admin API panicked");
            Kind::Internal.because("the call failed inside the proxy; its log says more").into_response()
        }),
        Err(refused) => *refused,
    };
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    response
}

fn admit(access: &Access, request: &mut Request) -> Result<(), Box<Response>> {
    access.check_names(request.version(), request.uri(), request.headers()).map_err(|foreign| {
        tracing::debug!(reason = ?foreign, "admin request refused");
        Box::new(refuse_foreign(foreign).into_response())
    })?;
    if is_open(access, request.uri().path()) {
        return Ok(());
    }
    let caller = access.caller(request.headers()).map_err(|reason| {
        tracing::debug!(?reason, "admin request refused");
        Box::new(challenge(reason))
    })?;
    request.extensions_mut().insert(caller);
    Ok(())
}

fn is_open(access: &Access, path: &str) -> bool {
    match path {
        "/healthz" | "/readyz" => true,
        "/metrics" => access.metrics_are_open(),
        _ => false,
    }
}

fn refuse_foreign(foreign: ForeignRequest) -> Problem {
    match foreign {
        ForeignRequest::MalformedHost => Kind::Malformed.because("send exactly one well-formed Host header"),
        ForeignRequest::NoHost => Kind::Foreign.because("send a Host header"),
        ForeignRequest::Host => {
            Kind::Foreign.because("the Host is not a name of this API: use localhost, or add the name to admin.hosts")
        }
        ForeignRequest::Origin => Kind::Foreign.because("requests from pages of other origins are refused"),
    }
}

fn challenge(reason: Unauthenticated) -> Response {
    let (detail, challenge) = match reason {
        Unauthenticated::Missing => {
            ("send a token: Authorization: Bearer TOKEN, or X-API-Key: TOKEN", r#"Bearer realm="tidegate""#)
        }
        Unauthenticated::Wrong => {
            ("this is not a token of this API", r#"Bearer realm="tidegate", error="invalid_token""#)
        }
    };
    let mut response = Kind::Unauthenticated.because(detail).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

/// Lets callers of at least the role of this route through.
pub(crate) async fn require(State(needed): State<Role>, request: Request, next: Next) -> Response {
    match request.extensions().get::<Caller>() {
        Some(caller) if caller.role >= needed => next.run(request).await,
        Some(caller) => {
            let (has, needs) = (role_name(caller.role), role_name(needed));
            Kind::Forbidden
                .because(format!("this needs the role {needs}; the token has the role {has}"))
                .into_response()
        }
        // Open paths have no caller, and are not behind this.
        None => challenge(Unauthenticated::Missing),
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Read => "read",
        Role::Operate => "operate",
        Role::Admin => "admin",
    }
}
