//! Services: what they are, and moving their traffic.

use std::time::Instant;

use axum::{Extension, extract::State};
use tidegate_config::{ServiceId, Split, TargetId, closest};
use tidegate_core::{Change, Event, Hold, Service, ServiceState, Snapshot};

use super::{
    App,
    deployments::place,
    submit::{Of, change, check_fresh, reply, submit},
};
use crate::{
    access::Caller,
    deployments::{Order, Placed},
    dto::{
        ChangeReply, FailoverInput, HealthTransition, ServiceView, SplitInput, SwitchInput, SwitchReply,
        change::{Nothing, target},
        health,
    },
    events::KEPT,
    input::{ChangeParams, Conditions, InService, Input, NoParams, OptionalInput, Params},
    openapi::{BodyRefusals, ChangeRefusals, IfMatch, NotFound, Refusals, ServicePath},
    problem::{Kind, Problem, ProblemPart},
    process::Probed,
};

/// Every service.
#[utoipa::path(
    get, path = "/api/services", tag = "traffic",
    responses((status = 200, body = Vec<ServiceView>, headers(("ETag" = String, description = "The generation"))), Refusals)
)]
pub(super) async fn list(State(app): State<App>, Params(NoParams {}): Params<NoParams>) -> Of<Vec<ServiceView>> {
    let snapshot = app.process.snapshot();
    let now = app.process.now();
    let views = snapshot
        .services
        .iter()
        .filter_map(|service| {
            Some(ServiceView::new(&snapshot, service, snapshot.state.services.get(&service.id)?, now))
        })
        .collect();
    Of(snapshot.generation, views)
}

/// A service.
#[utoipa::path(
    get, path = "/api/services/{service}", tag = "traffic",
    params(ServicePath),
    responses((status = 200, body = ServiceView, headers(("ETag" = String, description = "The generation"))), Refusals, NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    InService(id): InService,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Of<ServiceView>, Problem> {
    let snapshot = app.process.snapshot();
    let (service, state) = find(&snapshot, &id)?;
    Ok(Of(snapshot.generation, ServiceView::new(&snapshot, service, state, app.process.now())))
}

/// Make a target stable with all traffic (blue/green). Its endpoints are probed first, once each.
#[utoipa::path(
    post, path = "/api/services/{service}/switch", tag = "traffic",
    params(ServicePath, ChangeParams, IfMatch),
    request_body = SwitchInput,
    responses(
        (status = 200, body = SwitchReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn switch(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InService(id): InService,
    conditions: Conditions,
    Input(input): Input<SwitchInput>,
) -> Result<Of<SwitchReply>, Problem> {
    let begun = Instant::now();
    let snapshot = app.process.snapshot();
    let (_, state) = find(&snapshot, &id)?;
    check_fresh(&snapshot, &conditions)?;
    let to = parse_target(&input.to)?;
    if !state.wanted.targets.contains_key(&to) {
        let known: Vec<&str> = state.wanted.targets.keys().map(TargetId::as_str).collect();
        let message = format!("service {id} has no target {to}; it has {}", known.join(", "));
        return Err(Problem::invalid(vec![ProblemPart::new("to", message)]));
    }
    if !input.force {
        let probed = app.process.probe(&id, &to).await;
        check_probes(&to, &probed)?;
    }
    let stable_before = state.wanted.stable.to_string();
    let outcome = submit(&app, caller, &conditions, Change::Switch { service: id, to: to.clone() }).await?;
    // The event is of the very change; the snapshot may be older than that.
    let left = outcome.events.iter().find_map(|event| match event {
        Event::Switched { from, .. } => Some(from.to_string()),
        _ => None,
    });
    let elapsed_us = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
    let answer = SwitchReply {
        previous: left.unwrap_or(stable_before),
        to: to.to_string(),
        elapsed_ms: f64::from(elapsed_us) / 1000.0,
        change: reply(&outcome, &conditions),
    };
    Ok(Of(outcome.generation, answer))
}

/// Set the weights in percent, with up to two decimals. They must sum to 100; the stable target stays.
#[utoipa::path(
    put, path = "/api/services/{service}/split", tag = "traffic",
    params(ServicePath, ChangeParams, IfMatch),
    request_body = SplitInput,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn split(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InService(service): InService,
    conditions: Conditions,
    Input(input): Input<SplitInput>,
) -> Result<Of<ChangeReply>, Problem> {
    find(&app.process.snapshot(), &service)?;
    let split = Split::try_from(input).map_err(Problem::invalid)?;
    change(&app, caller, &conditions, Change::Split { service, split }).await
}

/// Move the service to another target until it is restored. The split stays as it is, under the failover.
///
/// Where the service has a command before its failover, this call only begins it: the service moves when the command has
/// ended, as `failover.preparing` of the service and the events say. `switch` moves without any command.
#[utoipa::path(
    post, path = "/api/services/{service}/failover", tag = "traffic",
    params(ServicePath, ChangeParams, IfMatch),
    request_body = FailoverInput,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn failover(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InService(service): InService,
    conditions: Conditions,
    Input(input): Input<FailoverInput>,
) -> Result<Of<ChangeReply>, Problem> {
    find(&app.process.snapshot(), &service)?;
    let to = parse_target(&input.to)?;
    change(&app, caller, &conditions, Change::Failover { service, to }).await
}

/// End a failover.
#[utoipa::path(
    post, path = "/api/services/{service}/restore", tag = "traffic",
    params(ServicePath, ChangeParams, IfMatch),
    request_body = Option<Nothing>,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn restore(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InService(service): InService,
    conditions: Conditions,
    OptionalInput(Nothing {}): OptionalInput<Nothing>,
) -> Result<Of<ChangeReply>, Problem> {
    find(&app.process.snapshot(), &service)?;
    change(&app, caller, &conditions, Change::Restore { service }).await
}

macro_rules! hold_at {
    ($name:ident, $path:literal, $operation:literal, $summary:literal, $hold:expr) => {
        #[doc = $summary]
        #[utoipa::path(
                    post, path = $path, tag = "traffic", operation_id = $operation,
                    params(ServicePath, ChangeParams, IfMatch), request_body = Option<Nothing>,
                    responses(
                        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
                        Refusals, NotFound, BodyRefusals, ChangeRefusals
                    )
                )]
        pub(super) async fn $name(
            State(app): State<App>,
            Extension(caller): Extension<Caller>,
            InService(service): InService,
            conditions: Conditions,
            OptionalInput(Nothing {}): OptionalInput<Nothing>,
        ) -> Result<Of<ChangeReply>, Problem> {
            find(&app.process.snapshot(), &service)?;
            let Placed { change, .. } = place(&app, caller, &conditions, Order::Hold { service, hold: $hold }).await?;
            let outcome = change.ok_or_else(|| Kind::Internal.because("the engine did not say what changed"))?;
            Ok(Of(outcome.generation, reply(&outcome, &conditions)))
        }
    };
}

hold_at!(
    hold,
    "/api/services/{service}/hold",
    "hold_service",
    "Let requests wait instead of sending them, each as long as it may wait for a connection, and then answer 503.",
    Hold::On
);
hold_at!(release, "/api/services/{service}/release", "release_service", "End a hold: requests go on.", Hold::Off);

/// Changes of the health of the service's endpoints, newest first. Those of earlier processes have no number.
#[utoipa::path(
    get, path = "/api/services/{service}/health-history", tag = "events",
    params(ServicePath),
    responses((status = 200, body = Vec<HealthTransition>, headers(("ETag" = String, description = "The generation"))), Refusals, NotFound)
)]
pub(super) async fn health_history(
    State(app): State<App>,
    InService(id): InService,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Of<Vec<HealthTransition>>, Problem> {
    let snapshot = app.process.snapshot();
    find(&snapshot, &id)?;
    let events = app.process.events().last(KEPT);
    let seen = events.iter().filter_map(|event| HealthTransition::of(id.as_str(), event)).collect();
    let engine = app.process.deployments().engine();
    Ok(Of(snapshot.generation, health::history(&engine, &id, seen)))
}

/// The service of this name, as requests read it and as it is wanted.
pub(super) fn find<'a>(snapshot: &'a Snapshot, id: &ServiceId) -> Result<(&'a Service, &'a ServiceState), Problem> {
    match (snapshot.service_named(id), snapshot.state.services.get(id)) {
        (Some(service), Some(state)) => Ok((service, state)),
        _ => {
            let known = snapshot.state.services.keys().map(ServiceId::as_str);
            let advice = match closest(id.as_str(), known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "/api/services lists them".to_owned(),
            };
            Err(Kind::NotFound.because(format!("there is no service {id}: {advice}")))
        }
    }
}

fn parse_target(name: &str) -> Result<TargetId, Problem> {
    target("to", name).map_err(|part| Problem::invalid(vec![part]))
}

/// Refuses a target with any endpoint that did not pass, and names each.
fn check_probes(to: &TargetId, probed: &[Probed]) -> Result<(), Problem> {
    let failed: Vec<ProblemPart> = probed
        .iter()
        .filter_map(|probe| {
            let failure = probe.failure.as_deref()?;
            Some(ProblemPart::new(format!("targets.{to}.endpoints.{}", probe.endpoint), failure))
        })
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "{} of {} endpoints of {to} did not pass a probe, so nothing was changed: repair them, or send \"force\": true",
        failed.len(),
        probed.len()
    );
    Err(Problem { errors: failed, ..Kind::ProbeFailed.because(detail) })
}
