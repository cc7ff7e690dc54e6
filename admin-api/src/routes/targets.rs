//! Targets: add, change, drain and remove them.

use axum::{Extension, extract::State};
use tidegate_config::TargetSpec;
use tidegate_core::Change;

use super::{
    App,
    services::find,
    submit::{Of, change},
};
use crate::{
    access::Caller,
    dto::{ChangeReply, TargetInput, change::Nothing},
    input::{ChangeParams, Conditions, InTarget, Input, OptionalInput},
    openapi::{BodyRefusals, ChangeRefusals, IfMatch, NotFound, Refusals, TargetPath},
    problem::Problem,
};

/// Add a target, or replace its endpoints. What is known of endpoints that stay is kept.
#[utoipa::path(
    put, path = "/api/services/{service}/targets/{target}", tag = "targets", operation_id = "put_target",
    params(TargetPath, ChangeParams, IfMatch),
    request_body = TargetInput,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn put(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InTarget(service, target): InTarget,
    conditions: Conditions,
    Input(input): Input<TargetInput>,
) -> Result<Of<ChangeReply>, Problem> {
    find(&app.process.snapshot(), &service)?;
    let spec = TargetSpec::try_from(input).map_err(Problem::invalid)?;
    change(&app, caller, &conditions, Change::PutTarget { service, target, spec }).await
}

/// Remove a target that carries nothing. What still runs on it may finish.
#[utoipa::path(
    delete, path = "/api/services/{service}/targets/{target}", tag = "targets", operation_id = "remove_target",
    params(TargetPath, ChangeParams, IfMatch),
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, ChangeRefusals
    )
)]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InTarget(service, target): InTarget,
    conditions: Conditions,
) -> Result<Of<ChangeReply>, Problem> {
    find(&app.process.snapshot(), &service)?;
    change(&app, caller, &conditions, Change::RemoveTarget { service, target }).await
}

/// Stop new requests to a target that is not stable. What runs on it may finish, up to the service's `drain`.
#[utoipa::path(
    post, path = "/api/services/{service}/targets/{target}/drain", tag = "targets",
    params(TargetPath, ChangeParams, IfMatch),
    request_body = Option<Nothing>,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn drain(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InTarget(service, target): InTarget,
    conditions: Conditions,
    OptionalInput(Nothing {}): OptionalInput<Nothing>,
) -> Result<Of<ChangeReply>, Problem> {
    find(&app.process.snapshot(), &service)?;
    change(&app, caller, &conditions, Change::Drain { service, target }).await
}
