//! Brackets: services that are queued and then released together; and the changes of configuration that lead to
//! deployments or into a bracket.

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode};
use tidegate_config::BracketId;
use tidegate_core::deploy::{
    DeploymentSpec,
    bracket::{self, From, Opening, parse_bracket, settle},
    spec::{SpecProblem, parse_members},
    stage::{Bracket, BracketState, trigger as trigger_stage},
};

use super::{
    App,
    deployments::{CreateParams, begin, place},
    submit::{Of, etag},
};
use crate::{
    access::Caller,
    commands,
    deployments::{Order, Placed},
    document::{Document, problems},
    documents::{BracketDocument, MembersDocument},
    dto::{
        BracketReply, BracketView, DeploymentView, PlanView,
        bracket::{AbortInput, TriggerInput, TriggerReply},
        change::Nothing,
    },
    input::{ChangeParams, Conditions, InBracket, Input, NoParams, OptionalInput, Params},
    openapi::{BodyRefusals, BracketPath, ChangeRefusals, IdempotencyKey, IfMatch, NotFound, Refusals},
    problem::{Kind, Problem, ProblemPart},
};

/// Longest reason that is given for an abort, in bytes.
const MAX_WHY: usize = 1024;

/// Brackets, newest first.
#[utoipa::path(
    get, path = "/api/brackets", tag = "brackets", operation_id = "list_brackets",
    responses((status = 200, body = Vec<BracketView>), Refusals)
)]
pub(super) async fn list(State(app): State<App>, Params(NoParams {}): Params<NoParams>) -> Json<Vec<BracketView>> {
    let engine = app.process.deployments().engine();
    let mut found: Vec<_> = engine.brackets().collect();
    found.sort_by(|a, b| (b.created_unix_ms, &b.name).cmp(&(a.created_unix_ms, &a.name)));
    Json(found.into_iter().map(|bracket| BracketView::from(&**bracket)).collect())
}

/// A bracket.
#[utoipa::path(
    get, path = "/api/brackets/{bracket}", tag = "brackets", operation_id = "show_bracket", params(BracketPath),
    responses((status = 200, body = BracketView), Refusals, NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    InBracket(name): InBracket,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<BracketView>, Problem> {
    Ok(Json((&*find(&app, &name)?).into()))
}

/// Open a bracket: its `name`, and how its services are released, as `strategy` with its keys or as `stage`. Services may
/// be in it from the beginning, as in a deployment.
#[utoipa::path(
    post, path = "/api/brackets", tag = "brackets", operation_id = "open_bracket", params(ChangeParams, IfMatch),
    request_body(content = BracketDocument, content_type = "application/json"),
    responses(
        (status = 200, body = BracketReply, description = "A dry run"),
        (status = 201, body = BracketReply, headers(("Location" = String, description = "Where it is"))),
        Refusals, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn open(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    conditions: Conditions,
    Document(document): Document,
) -> Result<Response, Problem> {
    let deployments = app.process.deployments();
    let Opening { name, mut spec, from } = parse_bracket(&document, &deployments.stages()).map_err(problems)?;
    if from == From::Document {
        commands::check(&caller, &spec, &deployments.hook_names())?;
    }
    settled(&app, &mut spec, |at, key| bracket::place(&document, at, key))?;
    let order = Order::OpenBracket { name: name.to_string(), spec: Box::new(spec) };
    Ok(created(placed(&app, caller, &conditions, order).await?))
}

/// Queue services: `service` with `to`, `version`, `image` and `endpoints`, or several of these as `members`. A service
/// that waits already gets the newer version.
#[utoipa::path(
    post, path = "/api/brackets/{bracket}/members", tag = "brackets", operation_id = "add_to_bracket",
    params(BracketPath, ChangeParams, IfMatch), request_body(content = MembersDocument, content_type = "application/json"),
    responses(
        (status = 200, body = BracketReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn add(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InBracket(name): InBracket,
    conditions: Conditions,
    Document(document): Document,
) -> Result<Of<BracketReply>, Problem> {
    let known = find(&app, &name)?;
    let members = parse_members(&document).map_err(problems)?;
    let mut spec = DeploymentSpec { members, ..known.spec.clone() };
    settled(&app, &mut spec, |at, key| bracket::place(&document, at, key))?;
    let order = Order::AddToBracket { name: name.to_string(), members: spec.members };
    placed(&app, caller, &conditions, order).await
}

/// Release a bracket: all of its services get their new versions together, or none does.
#[utoipa::path(
    post, path = "/api/brackets/{bracket}/release", tag = "brackets", operation_id = "release_bracket",
    params(BracketPath, ChangeParams, IfMatch), request_body = Option<Nothing>,
    responses(
        (status = 200, body = BracketReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn release(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InBracket(name): InBracket,
    conditions: Conditions,
    OptionalInput(Nothing {}): OptionalInput<Nothing>,
) -> Result<Of<BracketReply>, Problem> {
    find(&app, &name)?;
    placed(&app, caller, &conditions, Order::ReleaseBracket { name: name.to_string() }).await
}

/// Give a bracket up. If it is being released, everything is taken back.
#[utoipa::path(
    post, path = "/api/brackets/{bracket}/abort", tag = "brackets", operation_id = "abort_bracket",
    params(BracketPath, ChangeParams, IfMatch), request_body = Option<AbortInput>,
    responses(
        (status = 200, body = BracketReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn abort(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InBracket(name): InBracket,
    conditions: Conditions,
    OptionalInput(AbortInput { why }): OptionalInput<AbortInput>,
) -> Result<Of<BracketReply>, Problem> {
    find(&app, &name)?;
    let why = why.unwrap_or_else(|| format!("{} gave it up", caller.name));
    if why.is_empty() || why.len() > MAX_WHY {
        return Err(Problem::invalid(vec![ProblemPart::new("why", format!("write 1 to {MAX_WHY} bytes"))]));
    }
    placed(&app, caller, &conditions, Order::AbortBracket { name: name.to_string(), why }).await
}

/// Bring artifacts to a stage, as the stage says: at once by a deployment, or with `bracket` into a bracket that is
/// released later and is opened if need be.
#[utoipa::path(
    post, path = "/api/trigger/configuration-change", tag = "brackets", operation_id = "trigger_configuration_change",
    params(ChangeParams, IfMatch, IdempotencyKey), request_body = TriggerInput,
    responses(
        (status = 200, body = TriggerReply, description = "A dry run, or services were queued in a bracket that is open"),
        (status = 201, body = TriggerReply, headers(("Location" = String, description = "Where it is"))),
        Refusals, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn trigger(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(ChangeParams { dry_run }): Params<ChangeParams>,
    headers: HeaderMap,
    Input(input): Input<TriggerInput>,
) -> Result<Response, Problem> {
    let artifacts = input.artifacts().map_err(Problem::invalid)?;
    let (project, stage) = (input.project.as_deref(), input.stage.as_deref());
    let stages = app.process.deployments().stages();
    let single = input.service.is_some();
    let path = |at: usize, key: &str| match (at.checked_sub(usize::from(single)), key) {
        (None, key) => key.to_owned(),
        (Some(at), _) => format!("services[{at}]"),
    };
    let mut spec = trigger_stage(&stages, project, stage, &artifacts).map_err(problems)?;
    settled(&app, &mut spec, path)?;
    let Some(name) = input.bracket else {
        return begin(&app, caller, CreateParams { dry_run, execute: true }, &headers, spec).await;
    };
    let name =
        BracketId::parse(&name).map_err(|why| Problem::invalid(vec![ProblemPart::new("bracket", why.to_string())]))?;
    let conditions = Conditions::of(&headers, dry_run)?;
    queue(&app, caller, &conditions, name, spec).await
}

/// Queues what a trigger brought, and opens the bracket if it is not open yet.
async fn queue(
    app: &App,
    caller: Caller,
    conditions: &Conditions,
    name: BracketId,
    spec: DeploymentSpec,
) -> Result<Response, Problem> {
    let engine = app.process.deployments().engine();
    let open = engine.bracket(name.as_str()).filter(|bracket| bracket.state == BracketState::Open);
    match open {
        Some(open) if open.spec.stage != spec.stage => {
            let stage = open.spec.stage.as_deref().unwrap_or("none");
            Err(Kind::Conflict.because(format!("bracket {name} is of another stage ({stage}): take another bracket")))
        }
        Some(_) => {
            let order = Order::AddToBracket { name: name.to_string(), members: spec.members };
            Ok(placed(app, caller, conditions, order).await?.into_response())
        }
        None => {
            let order = Order::OpenBracket { name: name.to_string(), spec: Box::new(spec) };
            Ok(created(placed(app, caller, conditions, order).await?))
        }
    }
}

fn find(app: &App, name: &BracketId) -> Result<std::sync::Arc<Bracket>, Problem> {
    let engine = app.process.deployments().engine();
    engine.bracket(name.as_str()).cloned().ok_or_else(|| Kind::NotFound.because(format!("there is no bracket {name}")))
}

/// Gives the services of a document their full names; each of them, and each target, must exist.
fn settled(app: &App, spec: &mut DeploymentSpec, place: impl Fn(usize, &str) -> String) -> Result<(), Problem> {
    let snapshot = app.process.snapshot();
    let stage = spec.stage.clone();
    let found: Vec<SpecProblem> = settle(&mut spec.members, stage.as_deref(), &snapshot.state.services, place);
    if found.is_empty() { Ok(()) } else { Err(problems(found)) }
}

fn created(Of(generation, reply): Of<BracketReply>) -> Response {
    let status = if reply.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    let place = [("location", format!("/api/brackets/{}", reply.bracket.name))];
    (status, etag(generation), place, Json(reply)).into_response()
}

/// Places an order, and answers with the bracket that it is about.
async fn placed(app: &App, caller: Caller, conditions: &Conditions, order: Order) -> Result<Of<BracketReply>, Problem> {
    let Placed { deployment, bracket, .. } = place(app, caller, conditions, order).await?;
    let bracket = bracket.ok_or_else(|| Kind::Internal.because("the engine did not say what became of the bracket"))?;
    let generation = app.process.snapshot().generation;
    let reply = BracketReply {
        generation: generation.0,
        dry_run: conditions.dry_run,
        bracket: BracketView::from(&*bracket),
        plan: deployment.as_ref().filter(|_| conditions.dry_run).map(|deployment| PlanView::from(&**deployment)),
        release: deployment.as_ref().map(|deployment| DeploymentView::from(&**deployment)),
    };
    Ok(Of(generation, reply))
}
