//! The versions of a service: one is main, the others are shadows; and those that are known to be bad.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use tidegate_config::{ServiceId, TargetId};
use tidegate_core::{
    Generation, ServiceState,
    deploy::{
        ServiceMemory,
        engine::Mark,
        machine::{Deployment, Refusal},
        memory::Note,
        shadow, spec,
        step::Version,
    },
};

use super::{
    App,
    deployments::place,
    services::find,
    submit::{Of, etag},
};
use crate::{
    access::Caller,
    commands,
    deployments::{Order, OrderError, Placed},
    document::{self, Document},
    documents::VersionDocument,
    dto::{
        DeploymentView, PlanView, VersionsReply, VersionsView,
        version::{BadInput, MainInput},
    },
    input::{ChangeParams, Conditions, InService, InVersion, Input, NoParams, OptionalInput, Params},
    openapi::{BodyRefusals, ChangeRefusals, IfMatch, NotFound, Refusals, ServicePath, VersionPath},
    problem::{Problem, ProblemPart},
};

/// Longest reason for a mark, in bytes.
const MAX_WHY: usize = 1024;
/// Most labels of a mark.
const MAX_LABELS: usize = 32;

/// The versions of a service: which is main, which are shadows, and which are known.
#[utoipa::path(
    get, path = "/api/services/{service}/versions", tag = "versions", operation_id = "list_versions",
    params(ServicePath),
    responses(
        (status = 200, body = VersionsView, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    InService(id): InService,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Of<VersionsView>, Problem> {
    let (generation, view) = view(&app, &id)?;
    Ok(Of(generation, view))
}

/// The versions of every service, by its name.
#[utoipa::path(
    get, path = "/api/versions", tag = "versions", operation_id = "list_all_versions",
    responses(
        (status = 200, body = Vec<VersionsView>, headers(("ETag" = String, description = "The generation"))), Refusals
    )
)]
pub(super) async fn list_all(State(app): State<App>, Params(NoParams {}): Params<NoParams>) -> Of<Vec<VersionsView>> {
    let snapshot = app.process.snapshot();
    let engine = app.process.deployments().engine();
    let view = |(id, state): (&ServiceId, &Arc<ServiceState>)| {
        VersionsView::new(id.as_str(), state, &engine.memory(id).cloned().unwrap_or_default())
    };
    Of(snapshot.generation, snapshot.state.services.iter().map(view).collect())
}

/// Deploy a version: the first of a service becomes main, each later one a shadow, to which requests are copied. The
/// body is a deployment of strategy `shadow` without its service; `version` is needed, `source` is another word for
/// `image`. A new target is made where `endpoints` are given.
#[utoipa::path(
    post, path = "/api/services/{service}/versions", tag = "versions", operation_id = "deploy_version",
    params(ServicePath, ChangeParams, IfMatch),
    request_body(content = VersionDocument, content_type = "application/json"),
    responses(
        (status = 200, body = VersionsReply, description = "A dry run"),
        (status = 201, body = VersionsReply, headers(("Location" = String, description = "The deployment that does it"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn deploy(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InService(id): InService,
    conditions: Conditions,
    Document(mut document): Document,
) -> Result<Response, Problem> {
    let snapshot = app.process.snapshot();
    let (_, state) = find(&snapshot, &id)?;
    let deployments = app.process.deployments();
    document::set_text(&mut document, "service", id.as_str())?;
    document::set_text(&mut document, "strategy", "shadow")?;
    document::rename(&mut document, "source", "image")?;
    let mut spec = spec::parse(&document).map_err(document::problems)?;
    commands::check(&caller, &spec, &deployments.hook_names())?;
    if spec.members.iter().any(|member| member.version.is_none()) {
        return Err(Problem::invalid(vec![ProblemPart::new("version", "missing: say what the version is called")]));
    }
    shadow::enter(&mut spec, state, &memory(&app, &id)).map_err(refused)?;
    let dry_run = conditions.dry_run;
    let order = Order::Create { spec: Box::new(spec), execute: true, key: None };
    let Placed { deployment, .. } = place(&app, caller, &conditions, order).await?;
    let Of(generation, reply) = reply(&app, &id, dry_run, deployment)?;
    let Some(made) = reply.deployment.as_ref().filter(|_| !dry_run) else {
        return Ok((etag(generation), Json(reply)).into_response());
    };
    let place = [("location", format!("/api/deployments/{}", made.status.id))];
    Ok((StatusCode::CREATED, etag(generation), place, Json(reply)).into_response())
}

/// Stop a version and remove its target. Main is refused while it has shadows; alone it is stopped, and its target
/// stays. The answer comes when the stop command has ended.
#[utoipa::path(
    delete, path = "/api/services/{service}/versions/{version}", tag = "versions", operation_id = "kill_version",
    params(VersionPath, ChangeParams, IfMatch),
    responses(
        (status = 200, body = VersionsReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, ChangeRefusals
    )
)]
pub(super) async fn kill(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InVersion(id, version): InVersion,
    conditions: Conditions,
) -> Result<Of<VersionsReply>, Problem> {
    let target = running(&app, &id, &version)?.map_err(refused)?;
    stop(&app, caller, id, Some(target), &conditions).await
}

/// Stop all versions of a service, main last. The service stays, with its main target.
#[utoipa::path(
    delete, path = "/api/services/{service}", tag = "versions", operation_id = "kill_service",
    params(ServicePath, ChangeParams, IfMatch),
    responses(
        (status = 200, body = VersionsReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, ChangeRefusals
    )
)]
pub(super) async fn kill_all(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InService(id): InService,
    conditions: Conditions,
) -> Result<Of<VersionsReply>, Problem> {
    find(&app.process.snapshot(), &id)?;
    stop(&app, caller, id, None, &conditions).await
}

async fn stop(
    app: &App,
    caller: Caller,
    id: ServiceId,
    target: Option<TargetId>,
    conditions: &Conditions,
) -> Result<Of<VersionsReply>, Problem> {
    place(app, caller, conditions, Order::Kill { service: id.clone(), target }).await?;
    reply(app, &id, conditions.dry_run, None)
}

/// Make a shadow main, and main a shadow, in one step.
#[utoipa::path(
    put, path = "/api/services/{service}/main", tag = "versions", operation_id = "assign_main",
    params(ServicePath, ChangeParams, IfMatch), request_body = MainInput,
    responses(
        (status = 200, body = VersionsReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn assign(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InService(id): InService,
    conditions: Conditions,
    Input(MainInput { version }): Input<MainInput>,
) -> Result<Of<VersionsReply>, Problem> {
    let to = running(&app, &id, &version)?.map_err(|refusal| match refusal {
        Refusal::Unknown(_) => {
            let message = format!("service {id} has no version or target {version:?}: deploy it first");
            Problem::invalid(vec![ProblemPart::new("version", message)])
        }
        Refusal::Conflict(_) | Refusal::Invalid(_) => refused(refusal),
    })?;
    place(&app, caller, &conditions, Order::Assign { service: id.clone(), to }).await?;
    reply(&app, &id, conditions.dry_run, None)
}

/// Mark a version as bad: it is not deployed again unless somebody forces it.
#[utoipa::path(
    put, path = "/api/services/{service}/versions/{version}/bad", tag = "versions", operation_id = "mark_bad",
    params(VersionPath, ChangeParams, IfMatch), request_body = Option<BadInput>,
    responses(
        (status = 200, body = VersionsReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn mark(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InVersion(id, name): InVersion,
    conditions: Conditions,
    OptionalInput(BadInput { why, labels }): OptionalInput<BadInput>,
) -> Result<Of<VersionsReply>, Problem> {
    find(&app.process.snapshot(), &id)?;
    let why = why.unwrap_or_else(|| format!("{} marked it", caller.name));
    let mut wrong = Vec::new();
    if why.is_empty() || why.len() > MAX_WHY {
        wrong.push(ProblemPart::new("why", format!("write 1 to {MAX_WHY} bytes")));
    }
    if labels.len() > MAX_LABELS || labels.iter().any(|(key, value)| key.len() > MAX_WHY || value.len() > MAX_WHY) {
        let message = format!("write at most {MAX_LABELS} labels of at most {MAX_WHY} bytes");
        wrong.push(ProblemPart::new("labels", message));
    }
    if !wrong.is_empty() {
        return Err(Problem::invalid(wrong));
    }
    let known = memory(&app, &id).version(&name).cloned();
    // A version may be bad before it was ever here.
    let version = known.unwrap_or(Version { name, image: None, fingerprint: None });
    let order = Order::Mark(id.clone(), Mark::Bad(Note::Bad { version, why, labels }));
    place(&app, caller, &conditions, order).await?;
    reply(&app, &id, conditions.dry_run, None)
}

/// Take the mark of a bad version away.
#[utoipa::path(
    delete, path = "/api/services/{service}/versions/{version}/bad", tag = "versions", operation_id = "unmark_bad",
    params(VersionPath, ChangeParams, IfMatch),
    responses(
        (status = 200, body = VersionsReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, ChangeRefusals
    )
)]
pub(super) async fn unmark(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InVersion(id, name): InVersion,
    conditions: Conditions,
) -> Result<Of<VersionsReply>, Problem> {
    find(&app.process.snapshot(), &id)?;
    let key = memory(&app, &id).bad_key(&name).map_or(name, str::to_owned);
    place(&app, caller, &conditions, Order::Mark(id.clone(), Mark::Unbad(key))).await?;
    reply(&app, &id, conditions.dry_run, None)
}

fn memory(app: &App, id: &ServiceId) -> Arc<ServiceMemory> {
    app.process.deployments().engine().memory(id).cloned().unwrap_or_default()
}

/// The target in which a version runs. The service must exist.
fn running(app: &App, id: &ServiceId, version: &str) -> Result<Result<TargetId, Refusal>, Problem> {
    let snapshot = app.process.snapshot();
    let (_, state) = find(&snapshot, id)?;
    Ok(shadow::find(state, &memory(app, id), version))
}

fn refused(refusal: Refusal) -> Problem {
    OrderError::Engine(refusal.into()).into()
}

fn view(app: &App, id: &ServiceId) -> Result<(Generation, VersionsView), Problem> {
    let snapshot = app.process.snapshot();
    let (_, state) = find(&snapshot, id)?;
    Ok((snapshot.generation, VersionsView::new(id.as_str(), state, &memory(app, id))))
}

fn reply(
    app: &App,
    id: &ServiceId,
    dry_run: bool,
    deployment: Option<Arc<Deployment>>,
) -> Result<Of<VersionsReply>, Problem> {
    let (generation, versions) = view(app, id)?;
    let plan = deployment.as_ref().filter(|_| dry_run).map(|deployment| PlanView::from(&**deployment));
    let deployment = deployment.map(|deployment| DeploymentView::from(&*deployment));
    Ok(Of(generation, VersionsReply { generation: generation.0, dry_run, versions, deployment, plan }))
}
