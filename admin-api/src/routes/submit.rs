//! What all changes have in common: conditions in, generation and events out.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;
use tidegate_core::{Change, Generation, Snapshot};

use super::App;
use crate::{
    access::Caller,
    dto::{ChangeReply, EventKind},
    input::Conditions,
    problem::Problem,
    process::{Actor, Outcome, Submission, SubmitError},
};

/// An answer with the generation that it is of.
pub(super) struct Of<T>(pub(super) Generation, pub(super) T);

impl<T: Serialize> IntoResponse for Of<T> {
    fn into_response(self) -> Response {
        (etag(self.0), Json(self.1)).into_response()
    }
}

/// The generation as an `ETag`.
pub(super) fn etag(generation: Generation) -> [(HeaderName, HeaderValue); 1] {
    // Digits in quotes are always a header value.
    let value = HeaderValue::from_str(&format!("\"{generation}\"")).unwrap_or(HeaderValue::from_static("\"\""));
    [(header::ETAG, value)]
}

/// Refuses a stale change before anything expensive is done for it. The one writer checks again.
pub(super) fn check_fresh(snapshot: &Snapshot, conditions: &Conditions) -> Result<(), Problem> {
    match conditions.expected {
        Some(expected) if expected != snapshot.generation => {
            Err(SubmitError::Stale { current: snapshot.generation, expected }.into())
        }
        _ => Ok(()),
    }
}

/// Asks for a change.
pub(super) async fn submit(
    app: &App,
    caller: Caller,
    conditions: &Conditions,
    change: Change,
) -> Result<Outcome, Problem> {
    let submission =
        Submission { change, expected: conditions.expected, dry_run: conditions.dry_run, actor: Actor(caller.name) };
    Ok(app.process.submit(submission).await?)
}

/// Asks for a change and answers with what became of it.
pub(super) async fn change(
    app: &App,
    caller: Caller,
    conditions: &Conditions,
    change: Change,
) -> Result<Of<ChangeReply>, Problem> {
    let outcome = submit(app, caller, conditions, change).await?;
    Ok(Of(outcome.generation, reply(&outcome, conditions)))
}

/// What is said of a change that was made.
pub(super) fn reply(outcome: &Outcome, conditions: &Conditions) -> ChangeReply {
    ChangeReply {
        generation: outcome.generation.0,
        dry_run: conditions.dry_run,
        saved: outcome.saved,
        events: outcome.events.iter().map(EventKind::from).collect(),
    }
}

/// Whether the client would rather have a stream of events.
pub(super) fn wants_stream(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|accept| {
        accept.split(',').any(|part| {
            part.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
        })
    })
}
