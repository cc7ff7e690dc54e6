//! The decision on an imagined request. Sends nothing, counts nothing, changes nothing.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use axum::{Extension, extract::State};
use tidegate_config::Role;
use tidegate_core::{Draw, ListenerIdx, RequestHead, Snapshot, explain::Explanation, stats::Worker};

use super::{App, submit::Of};
use crate::{
    access::Caller,
    dto::explain::{ExplainInput, ExplainReply, ImaginedRequest},
    input::{Input, NoParams, Params},
    openapi::{BodyRefusals, Refusals},
    problem::{Problem, ProblemPart},
};

/// Why a request would go where it would go. Nothing is sent.
#[utoipa::path(
    post, path = "/api/explain", tag = "traffic", request_body = ExplainInput,
    responses(
        (status = 200, body = ExplainReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, BodyRefusals
    )
)]
pub(super) async fn explain(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(NoParams {}): Params<NoParams>,
    Input(input): Input<ExplainInput>,
) -> Result<Of<ExplainReply>, Problem> {
    let request = ImaginedRequest::try_from(input).map_err(Problem::invalid)?;
    let snapshot = app.process.snapshot();
    // Whoever may move traffic may pin a request.
    let unix_s = app.process.now().unix_ms / 1000;
    let explanation = decide(&snapshot, &request, unix_s, caller.role >= Role::Operate)?;
    Ok(Of(snapshot.generation, ExplainReply::new(&snapshot, &explanation)))
}

/// Decides on the listener that is named, or on the first that has a route.
fn decide(
    snapshot: &Snapshot,
    request: &ImaginedRequest,
    unix_s: u64,
    pin_authorised: bool,
) -> Result<Explanation, Problem> {
    let listeners = &snapshot.state.listeners;
    let random = [random(), random()];
    let on = |at: usize| {
        let head = RequestHead {
            listener: ListenerIdx(u32::try_from(at).unwrap_or(u32::MAX)),
            method: &request.method,
            host: &request.host,
            path: &request.path,
            query: request.query.as_deref(),
            headers: &request.headers,
            client: request.client,
            unix_s,
            pin_authorised,
        };
        tidegate_core::explain::explain(snapshot, &head, Draw { worker: Worker(0), random })
    };
    if let Some(name) = &request.listener {
        let at = listeners.iter().position(|listener| listener == name).ok_or_else(|| {
            Problem::invalid(vec![ProblemPart::new("listener", format!("there is no listener {name}"))])
        })?;
        return Ok(on(at));
    }
    let found = (0..listeners.len()).map(on).find(|explanation| explanation.service.is_some());
    Ok(found.unwrap_or_else(|| on(0)))
}

/// Chance enough for an explanation: the standard library seeds every hasher at random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
