//! The process itself: health, metrics, audit log, configuration.

use axum::{Extension, Json, extract::State};
use http::{HeaderName, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::{
    App,
    submit::{Of, check_fresh, reply},
};
use crate::{
    access::Caller,
    dto::{AuditLine, ChangeReply, Live, Ready, UpgradeReply, change::Nothing},
    input::{ChangeParams, Conditions, NoParams, OptionalInput, Params},
    openapi::{BodyRefusals, ChangeRefusals, ConflictRefusal, IfMatch, OpenRefusals, Refusals},
    problem::{Kind, Problem, ProblemPart},
    process::Actor,
};

/// Most lines of the audit log in one answer.
const MAX_AUDIT: usize = 10_000;

/// Whether the process is alive. Needs no token.
#[utoipa::path(
    get, path = "/healthz", tag = "process", security(()),
    responses((status = 200, body = Live), OpenRefusals)
)]
pub(super) async fn healthz() -> Json<Live> {
    Json(Live { status: "ok".into() })
}

/// Whether the process is ready for traffic, and why not. Needs no token.
#[utoipa::path(
    get, path = "/readyz", tag = "process", security(()),
    responses((status = 200, body = Ready), (status = 503, body = Ready, description = "Not ready, for these reasons"), OpenRefusals)
)]
pub(super) async fn readyz(State(app): State<App>) -> (StatusCode, Json<Ready>) {
    let ready = Ready::from(app.process.readiness());
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ready))
}

/// Metrics in the Prometheus text format. Needs a token only if `metrics_auth` is set.
#[utoipa::path(
    get, path = "/metrics", tag = "process", security((), ("bearer" = []), ("key" = [])),
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"), Refusals)
)]
pub(super) async fn metrics(State(app): State<App>) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.process.metrics())
}

/// How much of the audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParams {
    /// Most lines.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 10000, default = 100)]
    limit: usize,
}

fn hundred() -> usize {
    100
}

/// The newest lines of the audit log, newest first.
#[utoipa::path(
    get, path = "/api/audit", tag = "events", params(AuditParams),
    responses((status = 200, body = Vec<AuditLine>), (status = 503, body = Problem, content_type = "application/problem+json", description = "The audit log cannot be read"), Refusals)
)]
pub(super) async fn audit(
    State(app): State<App>,
    Params(AuditParams { limit }): Params<AuditParams>,
) -> Result<Json<Vec<AuditLine>>, Problem> {
    if !(1..=MAX_AUDIT).contains(&limit) {
        return Err(Problem::malformed(vec![ProblemPart::new("limit", format!("a limit is 1 to {MAX_AUDIT}"))]));
    }
    let lines = app.process.audit(limit).await.map_err(|error| {
        tracing::warn!(%error, "audit log cannot be read");
        Kind::Store.because("the audit log cannot be read; the log of the process says more")
    })?;
    Ok(Json(lines.iter().map(AuditLine::from).collect()))
}

/// The configuration in force, without secrets.
#[utoipa::path(
    get, path = "/api/config", tag = "process",
    responses((status = 200, body = Object, headers(("ETag" = String, description = "The generation"))), Refusals)
)]
pub(super) async fn config(State(app): State<App>, Params(NoParams {}): Params<NoParams>) -> Of<Value> {
    Of(app.process.snapshot().generation, app.process.config())
}

/// Load the configuration file again. A file with problems changes nothing.
#[utoipa::path(
    post, path = "/api/reload", tag = "process",
    params(ChangeParams, IfMatch
    ),
    request_body = Option<Nothing>,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn reload(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    OptionalInput(Nothing {}): OptionalInput<Nothing>,
) -> Result<Of<ChangeReply>, Problem> {
    check_fresh(&app.process.snapshot(), &conditions)?;
    let outcome = app.process.reload(Actor(caller.name), conditions.dry_run).await?;
    Ok(Of(outcome.generation, reply(&outcome, &conditions)))
}

/// Start the binary anew, hand it the listening sockets, and end when what runs is finished. No connection is refused.
/// If the new process does not come up, this one goes on.
#[utoipa::path(
    post, path = "/api/upgrade", tag = "process",
    request_body = Option<Nothing>,
    responses((status = 200, body = UpgradeReply), Refusals, BodyRefusals, ConflictRefusal)
)]
pub(super) async fn upgrade(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(NoParams {}): Params<NoParams>,
    OptionalInput(Nothing {}): OptionalInput<Nothing>,
) -> Result<Json<UpgradeReply>, Problem> {
    let upgraded = app.process.upgrade(Actor(caller.name)).await?;
    Ok(Json(UpgradeReply { pid: upgraded.pid, took_ms: u64::try_from(upgraded.took.as_millis()).unwrap_or(u64::MAX) }))
}
