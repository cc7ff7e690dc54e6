//! Mirrors: set and remove them, and see what they found.

use axum::{Extension, extract::State};
use tidegate_config::MirrorSpec;
use tidegate_core::Change;

use super::{
    App,
    services::find,
    submit::{Of, change},
};
use crate::{
    access::Caller,
    dto::{
        ChangeReply,
        mirror::{DifferingPair, MirrorDetail, MirrorInput},
    },
    input::{ChangeParams, Conditions, InMirror, Input, NoParams, Params},
    openapi::{BodyRefusals, ChangeRefusals, IfMatch, MirrorPath, NotFound, Refusals},
    problem::{Kind, Problem},
};

/// A mirror, its results, and the last pairs of answers that differed.
#[utoipa::path(
    get, path = "/api/services/{service}/mirrors/{mirror}", tag = "mirrors", operation_id = "show_mirror",
    params(MirrorPath),
    responses((status = 200, body = MirrorDetail, headers(("ETag" = String, description = "The generation"))), Refusals, NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    InMirror(service, name): InMirror,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Of<MirrorDetail>, Problem> {
    let snapshot = app.process.snapshot();
    let (found, _) = find(&snapshot, &service)?;
    let mirror = found
        .mirrors
        .iter()
        .find(|mirror| mirror.id == name)
        .ok_or_else(|| Kind::NotFound.because(format!("service {service} has no mirror {name}")))?;
    let recent = mirror.stats.recent.newest_first();
    let detail = MirrorDetail {
        generation: snapshot.generation.0,
        mirror: mirror.into(),
        recent_differences: recent.into_iter().map(DifferingPair::from).collect(),
    };
    Ok(Of(snapshot.generation, detail))
}

/// Add or replace a mirror.
#[utoipa::path(
    put, path = "/api/services/{service}/mirrors/{mirror}", tag = "mirrors", operation_id = "put_mirror",
    params(MirrorPath, ChangeParams, IfMatch),
    request_body = MirrorInput,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn put(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InMirror(service, mirror): InMirror,
    conditions: Conditions,
    Input(input): Input<MirrorInput>,
) -> Result<Of<ChangeReply>, Problem> {
    find(&app.process.snapshot(), &service)?;
    let spec = MirrorSpec::try_from(input).map_err(Problem::invalid)?;
    change(&app, caller, &conditions, Change::PutMirror { service, mirror, spec }).await
}

/// Remove a mirror.
#[utoipa::path(
    delete, path = "/api/services/{service}/mirrors/{mirror}", tag = "mirrors", operation_id = "remove_mirror",
    params(MirrorPath, ChangeParams, IfMatch),
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, ChangeRefusals
    )
)]
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InMirror(service, mirror): InMirror,
    conditions: Conditions,
) -> Result<Of<ChangeReply>, Problem> {
    find(&app.process.snapshot(), &service)?;
    change(&app, caller, &conditions, Change::RemoveMirror { service, mirror }).await
}
