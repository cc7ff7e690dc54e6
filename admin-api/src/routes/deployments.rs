//! Deployments: create, begin, watch and steer them.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use tidegate_config::TargetId;
use tidegate_core::deploy::{
    DeploymentId, DeploymentSpec,
    machine::{Command, Deployment},
    spec,
};
use utoipa::IntoParams;

use super::{
    App,
    events::{seen, sse, stream},
    submit::{Of, check_fresh, etag, wants_stream},
};
use crate::{
    access::Caller,
    commands,
    deployments::{Order, Placed},
    document::{self, Document},
    documents::DeploymentDocument,
    dto::{
        DeploymentReply, DeploymentView, DiagnosisView, HistoryLine, MetricsView, PlanView, StatusView,
        change::Nothing,
        deployment::{ConversionInput, ConversionReply, PromoteInput, WinnerInput},
        history::VariantView,
    },
    input::{ChangeParams, Conditions, InDeployment, Input, NoParams, OptionalInput, Params},
    openapi::{BodyRefusals, ChangeRefusals, DeploymentPath, IdempotencyKey, IfMatch, LastEventId, NotFound, Refusals},
    problem::{Kind, Problem, ProblemPart},
    process::Actor,
    serve::Stopping,
};

/// Longest `Idempotency-Key`.
const MAX_KEY: usize = 255;

/// Which deployments.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only those of this service.
    #[param(required = false, value_type = String)]
    service: Option<String>,
}

/// How a deployment is created.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CreateParams {
    /// `true`: only say what would happen, with the plan.
    #[serde(default)]
    pub(super) dry_run: bool,
    /// `true`: begin at once; the same as `"execute": true` in the body.
    #[serde(default)]
    pub(super) execute: bool,
}

/// Which events of a deployment.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// Only what has a greater number within the deployment; absent: everything that is kept.
    #[param(required = false, value_type = u64, maximum = 999999999999999999_i64)]
    after: Option<u64>,
}

/// Of which target.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MetricsParams {
    /// Only this target.
    #[param(required = false, value_type = String)]
    variant: Option<String>,
}

/// Deployments, newest first.
#[utoipa::path(
    get, path = "/api/deployments", tag = "deployments", operation_id = "list_deployments", params(ListParams),
    responses((status = 200, body = Vec<DeploymentView>), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    Params(ListParams { service }): Params<ListParams>,
) -> Json<Vec<DeploymentView>> {
    let engine = app.process.deployments().engine();
    let of = |d: &&Arc<Deployment>| {
        service.as_ref().is_none_or(|name| d.spec.members.iter().any(|member| member.service.as_str() == name))
    };
    let mut found: Vec<_> = engine.iter().filter(of).collect();
    found.sort_by(|a, b| (b.created_unix_ms, &b.id).cmp(&(a.created_unix_ms, &a.id)));
    Json(found.into_iter().map(|d| DeploymentView::from(&**d)).collect())
}

/// Create a deployment from a document in JSON or TOML, as its content-type says. It waits until it is executed.
#[utoipa::path(
    post, path = "/api/deployments", tag = "deployments", operation_id = "create_deployment",
    params(CreateParams, IfMatch, IdempotencyKey), request_body(content = DeploymentDocument, content_type = "application/json"),
    responses(
        (status = 200, body = DeploymentReply, description = "A dry run"),
        (status = 201, body = DeploymentReply, headers(("Location" = String, description = "Where it is"))),
        Refusals, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<CreateParams>,
    headers: HeaderMap,
    Document(mut document): Document,
) -> Result<Response, Problem> {
    let begins = document::take_flag(&mut document, "execute")?;
    let spec = spec::parse(&document).map_err(document::problems)?;
    let params = CreateParams { execute: params.execute || begins, ..params };
    commands::check(&caller, &spec, &app.process.deployments().hook_names())?;
    begin(&app, caller, params, &headers, spec).await
}

/// Create a zero-downtime deployment and begin it.
#[utoipa::path(
    post, path = "/api/deployments/zero-downtime", tag = "deployments", operation_id = "zero_downtime",
    params(ChangeParams, IfMatch, IdempotencyKey), request_body(content = DeploymentDocument, content_type = "application/json"),
    responses(
        (status = 200, body = DeploymentReply, description = "A dry run"),
        (status = 201, body = DeploymentReply, headers(("Location" = String, description = "Where it is"))),
        Refusals, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn zero_downtime(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(ChangeParams { dry_run }): Params<ChangeParams>,
    headers: HeaderMap,
    Document(mut document): Document,
) -> Result<Response, Problem> {
    document::set_strategy(&mut document, "zero-downtime");
    let spec = spec::parse(&document).map_err(document::problems)?;
    commands::check(&caller, &spec, &app.process.deployments().hook_names())?;
    begin(&app, caller, CreateParams { dry_run, execute: true }, &headers, spec).await
}

/// Creates a deployment whose commands the caller may bring along, and answers with where it is.
pub(super) async fn begin(
    app: &App,
    caller: Caller,
    CreateParams { dry_run, execute }: CreateParams,
    headers: &HeaderMap,
    spec: DeploymentSpec,
) -> Result<Response, Problem> {
    let conditions = Conditions::of(headers, dry_run)?;
    let key = idempotency_key(headers)?;
    let order = Order::Create { spec: Box::new(spec), execute, key };
    let Of(generation, reply) = placed(app, caller, &conditions, order).await?;
    let status = if dry_run { StatusCode::OK } else { StatusCode::CREATED };
    let place = [("location", format!("/api/deployments/{}", reply.deployment.status.id))];
    Ok((status, etag(generation), place, Json(reply)).into_response())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let malformed = || {
        let message = format!("write one key of 1 to {MAX_KEY} visible characters");
        Problem::malformed(vec![ProblemPart::new("Idempotency-Key", message)])
    };
    match (values.next().map(|value| value.to_str().map(str::trim)), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(key)), None) if !key.is_empty() && key.len() <= MAX_KEY => Ok(Some(key.to_owned())),
        (Some(_), _) => Err(malformed()),
    }
}

/// Places an order, and answers with the deployment that it is about.
pub(super) async fn placed(
    app: &App,
    caller: Caller,
    conditions: &Conditions,
    order: Order,
) -> Result<Of<DeploymentReply>, Problem> {
    let Placed { deployment, .. } = place(app, caller, conditions, order).await?;
    let deployment =
        deployment.ok_or_else(|| Kind::Internal.because("the engine did not say what became of the deployment"))?;
    let generation = app.process.snapshot().generation;
    let reply = DeploymentReply {
        generation: generation.0,
        dry_run: conditions.dry_run,
        plan: conditions.dry_run.then(|| PlanView::from(&*deployment)),
        deployment: DeploymentView::from(&*deployment),
    };
    Ok(Of(generation, reply))
}

/// Places an order.
pub(super) async fn place(app: &App, caller: Caller, conditions: &Conditions, order: Order) -> Result<Placed, Problem> {
    check_fresh(&app.process.snapshot(), conditions)?;
    Ok(app.process.deployments().place(order, conditions.dry_run, Actor(caller.name)).await?)
}

fn find(app: &App, id: &DeploymentId) -> Result<Arc<Deployment>, Problem> {
    let engine = app.process.deployments().engine();
    engine.get(id).cloned().ok_or_else(|| Kind::NotFound.because(format!("there is no deployment {id}")))
}

/// A deployment.
#[utoipa::path(
    get, path = "/api/deployments/{id}", tag = "deployments", operation_id = "show_deployment", params(DeploymentPath),
    responses((status = 200, body = DeploymentView), Refusals, NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    InDeployment(id): InDeployment,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<DeploymentView>, Problem> {
    Ok(Json((&*find(&app, &id)?).into()))
}

macro_rules! status_at {
    ($name:ident, $path:literal, $operation:literal) => {
        /// How far a deployment is.
        #[utoipa::path(
                            get, path = $path, tag = "deployments", operation_id = $operation, params(DeploymentPath),
                            responses((status = 200, body = StatusView), Refusals, NotFound)
                        )]
        pub(super) async fn $name(
            State(app): State<App>,
            InDeployment(id): InDeployment,
            Params(NoParams {}): Params<NoParams>,
        ) -> Result<Json<StatusView>, Problem> {
            Ok(Json((&*find(&app, &id)?).into()))
        }
    };
}

status_at!(status, "/api/deployments/{id}/status", "deployment_status");
status_at!(status_first, "/api/deployments/status/{id}", "deployment_status_first");

/// The steps of a deployment, and what would be done now to take it back.
#[utoipa::path(
    get, path = "/api/deployments/{id}/plan", tag = "deployments", operation_id = "deployment_plan",
    params(DeploymentPath), responses((status = 200, body = PlanView), Refusals, NotFound)
)]
pub(super) async fn plan(
    State(app): State<App>,
    InDeployment(id): InDeployment,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<PlanView>, Problem> {
    Ok(Json((&*find(&app, &id)?).into()))
}

/// What is wrong with a deployment, and what to look at.
#[utoipa::path(
    get, path = "/api/deployments/{id}/diagnose", tag = "deployments", operation_id = "diagnose_deployment",
    params(DeploymentPath), responses((status = 200, body = DiagnosisView), Refusals, NotFound)
)]
pub(super) async fn diagnose(
    State(app): State<App>,
    InDeployment(id): InDeployment,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<DiagnosisView>, Problem> {
    Ok(Json((&*find(&app, &id)?).into()))
}

/// What happened in a deployment, oldest first, as far as it is kept. With `Accept: text/event-stream` a stream that
/// goes on, and that continues after `Last-Event-ID`.
#[utoipa::path(
    get, path = "/api/deployments/{id}/events", tag = "deployments", operation_id = "deployment_events",
    params(DeploymentPath, HistoryParams, LastEventId),
    responses(
        (status = 200, body = Vec<HistoryLine>),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many followers"),
        Refusals, NotFound
    )
)]
pub(super) async fn events(
    State(app): State<App>,
    stopping: Option<Extension<Stopping>>,
    InDeployment(id): InDeployment,
    Params(HistoryParams { after }): Params<HistoryParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut after = seen(&headers, after)?.unwrap_or(0);
    let deployment = find(&app, &id)?;
    if !wants_stream(&headers) {
        return Ok(Json(lines(&deployment, after)).into_response());
    }
    let process = Arc::clone(&app.process);
    stream(&app, stopping.map(|Extension(stopping)| stopping), move || {
        let engine = process.deployments().engine();
        let lines = lines(engine.get(&id)?, after);
        after = lines.last().map_or(after, |last| last.seq);
        Some(lines.iter().map(|line| sse(line.seq, &line.kind, line)).collect())
    })
}

fn lines(deployment: &Deployment, after: u64) -> Vec<HistoryLine> {
    let line = |entry| HistoryLine::new(deployment, entry);
    deployment.history.iter().map(line).filter(|line| line.seq > after).collect()
}

/// What was counted of each target since the new version has had traffic.
#[utoipa::path(
    get, path = "/api/deployments/{id}/metrics", tag = "deployments", operation_id = "deployment_metrics",
    params(DeploymentPath, MetricsParams), responses((status = 200, body = MetricsView), Refusals, NotFound)
)]
pub(super) async fn metrics(
    State(app): State<App>,
    InDeployment(id): InDeployment,
    Params(MetricsParams { variant }): Params<MetricsParams>,
) -> Result<Json<MetricsView>, Problem> {
    let deployment = find(&app, &id)?;
    if let Some(name) = &variant {
        let members = &deployment.plan.members;
        let mut known = members.iter().flat_map(|member| member.to.iter().chain([&member.from])).map(TargetId::as_str);
        if !known.any(|target| target == name) {
            return Err(Kind::NotFound.because(format!("deployment {id} has no variant {name:?}")));
        }
    }
    let measured = app.process.deployments().measured(&id);
    let of = measured.iter().filter(|counted| variant.as_deref().is_none_or(|name| counted.target.as_str() == name));
    Ok(Json(MetricsView { id: id.to_string(), variants: of.map(VariantView::from).collect() }))
}

macro_rules! command_at {
    ($name:ident, $path:literal, $operation:literal, $summary:literal, $order:expr) => {
        #[doc = $summary]
        #[utoipa::path(
            post, path = $path, tag = "deployments", operation_id = $operation,
            params(DeploymentPath, ChangeParams, IfMatch), request_body = Option<Nothing>,
            responses(
                (status = 200, body = DeploymentReply, headers(("ETag" = String, description = "The generation"))),
                Refusals, NotFound, BodyRefusals, ChangeRefusals
            )
        )]
        pub(super) async fn $name(
            State(app): State<App>,
            Extension(caller): Extension<Caller>,
            InDeployment(id): InDeployment,
            conditions: Conditions,
            OptionalInput(Nothing {}): OptionalInput<Nothing>,
        ) -> Result<Of<DeploymentReply>, Problem> {
            find(&app, &id)?;
            let order: fn(DeploymentId) -> Order = $order;
            placed(&app, caller, &conditions, order(id)).await
        }
    };
}

command_at!(
    execute,
    "/api/deployments/{id}/execute",
    "execute_deployment",
    "Begin a deployment, or queue it behind the one that it supersedes.",
    Order::Execute
);
command_at!(
    rollback,
    "/api/deployments/{id}/rollback",
    "roll_back_deployment",
    "Take everything back, traffic first; also after success, until the next deployment of the service.",
    |id| Order::Command(id, Command::Rollback)
);
command_at!(
    rollback_first,
    "/api/deployments/rollback/{id}",
    "roll_back_deployment_first",
    "Take everything back; another path for the same.",
    |id| Order::Command(id, Command::Rollback)
);
command_at!(
    pause,
    "/api/deployments/{id}/pause",
    "pause_deployment",
    "Begin no further step until it is resumed.",
    |id| Order::Command(id, Command::Pause)
);
command_at!(
    resume,
    "/api/deployments/{id}/resume",
    "resume_deployment",
    "Go on after a pause; a wait that was interrupted begins anew.",
    |id| Order::Command(id, Command::Resume)
);
command_at!(
    skip,
    "/api/deployments/{id}/skip",
    "skip_step",
    "Pass over the present step, if the deployment is safe without it.",
    |id| Order::Command(id, Command::Skip)
);
command_at!(
    cancel,
    "/api/deployments/{id}/cancel",
    "cancel_deployment",
    "Never begin a deployment that waits.",
    |id| Order::Command(id, Command::Cancel)
);
command_at!(
    retry,
    "/api/deployments/{id}/retry",
    "retry_deployment",
    "Create and begin a deployment like one that is over.",
    Order::Retry
);

/// End a wait: go on with the next step; with `full`, pass over every wait that is left.
#[utoipa::path(
    post, path = "/api/deployments/{id}/promote", tag = "deployments", operation_id = "promote_deployment",
    params(DeploymentPath, ChangeParams, IfMatch), request_body = Option<PromoteInput>,
    responses(
        (status = 200, body = DeploymentReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn promote(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InDeployment(id): InDeployment,
    conditions: Conditions,
    OptionalInput(PromoteInput { full }): OptionalInput<PromoteInput>,
) -> Result<Of<DeploymentReply>, Problem> {
    find(&app, &id)?;
    let command = if full { Command::PromoteFull } else { Command::Promote };
    placed(&app, caller, &conditions, Order::Command(id, command)).await
}

/// Choose the variant that wins a test.
#[utoipa::path(
    post, path = "/api/deployments/{id}/select-winner", tag = "deployments", operation_id = "select_winner",
    params(DeploymentPath, ChangeParams, IfMatch), request_body = WinnerInput,
    responses(
        (status = 200, body = DeploymentReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn select_winner(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InDeployment(id): InDeployment,
    conditions: Conditions,
    Input(WinnerInput { variant }): Input<WinnerInput>,
) -> Result<Of<DeploymentReply>, Problem> {
    find(&app, &id)?;
    let target = TargetId::parse(&variant)
        .map_err(|why| Problem::invalid(vec![ProblemPart::new("variant", why.to_string())]))?;
    placed(&app, caller, &conditions, Order::Command(id, Command::SelectWinner(target))).await
}

/// Count a conversion that a back end reports late.
#[utoipa::path(
    post, path = "/api/deployments/{id}/conversions", tag = "deployments", operation_id = "report_conversion",
    params(DeploymentPath), request_body = ConversionInput,
    responses(
        (status = 200, body = ConversionReply),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "It does not watch for this goal now"),
        Refusals, NotFound, BodyRefusals
    )
)]
pub(super) async fn conversions(
    State(app): State<App>,
    InDeployment(id): InDeployment,
    Params(NoParams {}): Params<NoParams>,
    Input(ConversionInput { visitor, goal }): Input<ConversionInput>,
) -> Result<Json<ConversionReply>, Problem> {
    find(&app, &id)?;
    let wrong = [("visitor", &visitor), ("goal", &goal)]
        .into_iter()
        .filter(|(_, text)| !(1..=256).contains(&text.len()))
        .map(|(path, _)| ProblemPart::new(path, "write 1 to 256 bytes"))
        .collect::<Vec<_>>();
    if !wrong.is_empty() {
        return Err(Problem::invalid(wrong));
    }
    if app.process.deployments().convert(&id, &visitor, &goal) {
        return Ok(Json(ConversionReply { counted: true }));
    }
    Err(Kind::Conflict.because(format!("deployment {id} does not watch for goal {goal:?} now")))
}
