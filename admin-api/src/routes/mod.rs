//! The calls, in groups by what they are about; and the roles that they need.

mod brackets;
mod deployments;
mod events;
mod explain;
mod flags;
mod mirrors;
mod ofrep;
mod process;
mod services;
mod submit;
mod targets;
mod versions;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::{Router, middleware, response::Json};
use http::Method;
use tidegate_config::Role;
use tokio::sync::Semaphore;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    access::Access,
    guard,
    openapi::Document,
    problem::{Kind, Problem},
    process::Process,
};

/// Followers of events at one time: fewer than connections, so that they never keep an operator out.
const MAX_FOLLOWERS: usize = 128;

/// What the calls share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) process: Arc<dyn Process>,
    pub(crate) followers: Arc<Semaphore>,
}

/// The admin API over this process.
///
/// Every request is checked by the `access` in force before it is routed, also one for an unknown path.
pub fn router(process: Arc<dyn Process>, access: Arc<ArcSwap<Access>>) -> Router {
    let (router, mut document) = calls().split_for_parts();
    let app = App { process, followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)) };
    let with_tokens = Json(serde_json::to_value(&document).unwrap_or_default());
    document.security = None;
    let open = Json(serde_json::to_value(&document).unwrap_or_default());
    let asked = Arc::clone(&access);
    let document = move || {
        let document = if asked.load().needs_tokens() { with_tokens.clone() } else { open.clone() };
        std::future::ready(document)
    };
    let about = Router::new()
        .route("/api/openapi.json", axum::routing::get(document))
        .route_layer(middleware::from_fn_with_state(Role::Read, guard::require));
    router
        .merge(about)
        .fallback(unknown_path)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn_with_state(access, guard::guard))
        .with_state(app)
}

/// Every call with the role that it needs.
fn calls() -> OpenApiRouter<App> {
    let open = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(process::healthz))
        .routes(routes!(process::readyz))
        .routes(routes!(process::metrics));
    let read = OpenApiRouter::new()
        .routes(routes!(services::list))
        .routes(routes!(services::show))
        .routes(routes!(services::health_history))
        .routes(routes!(mirrors::show))
        .routes(routes!(explain::explain))
        .routes(routes!(events::events))
        .routes(routes!(flags::list))
        .routes(routes!(flags::show))
        .routes(routes!(flags::sources))
        .routes(routes!(deployments::show))
        .routes(routes!(deployments::status))
        .routes(routes!(deployments::status_first))
        .routes(routes!(deployments::plan))
        .routes(routes!(deployments::diagnose))
        .routes(routes!(deployments::events))
        .routes(routes!(deployments::metrics))
        .routes(routes!(deployments::list))
        .routes(routes!(versions::list))
        .routes(routes!(versions::list_all))
        .routes(routes!(brackets::list))
        .routes(routes!(brackets::show))
        .routes(routes!(ofrep::one))
        .routes(routes!(ofrep::all));
    let operate = OpenApiRouter::new()
        .routes(routes!(services::switch))
        .routes(routes!(services::split))
        .routes(routes!(services::failover))
        .routes(routes!(services::restore))
        .routes(routes!(services::hold))
        .routes(routes!(services::release))
        .routes(routes!(targets::put, targets::remove))
        .routes(routes!(targets::drain))
        .routes(routes!(mirrors::put, mirrors::remove))
        .routes(routes!(deployments::create))
        .routes(routes!(deployments::zero_downtime))
        .routes(routes!(deployments::execute))
        .routes(routes!(deployments::rollback))
        .routes(routes!(deployments::rollback_first))
        .routes(routes!(deployments::promote))
        .routes(routes!(deployments::pause))
        .routes(routes!(deployments::resume))
        .routes(routes!(deployments::skip))
        .routes(routes!(deployments::retry))
        .routes(routes!(deployments::cancel))
        .routes(routes!(deployments::select_winner))
        .routes(routes!(deployments::conversions))
        .routes(routes!(versions::deploy))
        .routes(routes!(versions::kill))
        .routes(routes!(versions::kill_all))
        .routes(routes!(versions::assign))
        .routes(routes!(versions::mark, versions::unmark))
        .routes(routes!(brackets::open))
        .routes(routes!(brackets::add))
        .routes(routes!(brackets::release))
        .routes(routes!(brackets::abort))
        .routes(routes!(brackets::trigger))
        .routes(routes!(flags::set, flags::unset))
        .routes(routes!(flags::put_override, flags::clear_override))
        .routes(routes!(flags::accept))
        .routes(routes!(flags::restore));
    let admin = OpenApiRouter::new()
        .routes(routes!(process::audit))
        .routes(routes!(process::config))
        .routes(routes!(process::reload))
        .routes(routes!(process::upgrade));
    open.merge(needing(Role::Read, read)).merge(needing(Role::Operate, operate)).merge(needing(Role::Admin, admin))
}

fn needing(role: Role, calls: OpenApiRouter<App>) -> OpenApiRouter<App> {
    calls.route_layer(middleware::from_fn_with_state(role, guard::require))
}

async fn unknown_path() -> Problem {
    Kind::NotFound.because("there is no such path: /api/openapi.json lists them all")
}

/// The router adds the `Allow` header.
async fn other_method(method: Method) -> Problem {
    Kind::Method.because(format!("this path does not take {method}: see the Allow header"))
}
